/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RPC: gRPC and HTTP on one port, and a gRPC client. libuv moves bytes, nghttp2 frames them, the
 * gRPC layer is ours.
 *
 * The first bytes of a connection decide what it is: `PRI * HTTP/2.0` is HTTP/2 with prior
 * knowledge, 0x16 a TLS record (ALPN then picks h2 or http/1.1), a method word is HTTP/1.1. Over
 * HTTP/2 a request whose content-type starts with application/grpc is gRPC, anything else is HTTP.
 *
 * Threads: each event loop thread owns its connections and does framing only. Handlers are called
 * on a loop thread and must not block: they hand the call to a pool. A call may be answered from
 * any thread, exactly once; answering after the client went away is a no-op. Each call has one
 * reference, dropped by the answer.
 */
#ifndef RK_RPC_RPC_H
#define RK_RPC_RPC_H

#include "base/mem.h"
#include "base/seam.h"
#include "base/thread.h"
#include "pb/pb.h"

/* ---- server ---- */

typedef struct rk_rpc_server rk_rpc_server;
typedef struct rk_call rk_call; /* one gRPC or HTTP request in flight */

typedef struct rk_tls_options {
    const char *cert_pem_path; /* server certificate chain; NULL: no TLS */
    const char *key_pem_path;
    const char *ca_pem_path; /* set: client certificates are required and checked (mTLS) */
} rk_tls_options;

/* All limits have the defaults of rk_rpc_server_options_init(). */
typedef struct rk_rpc_server_options {
    const char *listen; /* "127.0.0.1:19530", "[::1]:0", "unix:/path" */
    unsigned loops;     /* event loop threads, default 1 */
    rk_tls_options tls;
    size_t message_size_max; /* received gRPC message or HTTP body, default 256 MiB, checked on the
                                length prefix */
    uint64_t inflight_bytes_max; /* request bytes buffered in the whole process, default 1 GiB; past
                                    it flow control holds clients back */
    uint32_t connections_max;    /* default 10000 */
    uint32_t streams_max;        /* per connection, default 1000 */
    uint32_t header_bytes_max;   /* default 16 KiB */
    int64_t preface_timeout_ms;  /* default 5000 */
    int64_t header_timeout_ms;   /* default 10000 */
    int64_t tls_timeout_ms;      /* default 10000 */
    uint32_t body_rate_min;      /* bytes/s a body must arrive with, default 1024 */
    uint64_t output_bytes_max;   /* unsent reply bytes per connection before its streams are reset,
                                    default 512 MiB */
    uint64_t output_bytes_total_max; /* the same for all connections together, default 1 GiB: past
                                        it those with unread replies get no more */
    void (*on_grpc)(void *user, rk_call *call); /* loop thread */
    void (*on_http)(void *user, rk_call *call); /* loop thread; NULL: 404 */
    void *user;
    const rk_env *env;
} rk_rpc_server_options;

void rk_rpc_server_options_init(rk_rpc_server_options *options);
/* Binds, listens and starts the loops. RK_EIO when the address is taken, RK_EINVAL when it cannot
 * be parsed. */
RK_MUST_CHECK rk_code rk_rpc_server_start(rk_rpc_server **out, const rk_rpc_server_options *options,
                                          rk_err *err);
/* The bound address: "127.0.0.1:40123" or "unix:/path". Owned by the server. */
const char *rk_rpc_server_address(const rk_rpc_server *server);
/* Stops accepting, sends GOAWAY, waits up to |drain_ms| for calls in flight, then closes all.
 * Blocks. */
void rk_rpc_server_stop(rk_rpc_server *server, int64_t drain_ms);
void rk_rpc_server_free(rk_rpc_server *server); /* after stop */

typedef struct rk_rpc_stats {
    uint64_t connections, connections_total, calls, calls_total, inflight_bytes, refused_total;
    uint64_t output_bytes; /* replies of HTTP/2 connections not sent yet */
} rk_rpc_stats;
void rk_rpc_server_stats(const rk_rpc_server *server, rk_rpc_stats *out);

/* Facts of a call: valid until it is answered. */
rk_str rk_call_path(const rk_call *call);   /* without the query string */
rk_str rk_call_query(const rk_call *call);  /* after '?', still percent-coded */
rk_str rk_call_method(const rk_call *call); /* "POST" */
rk_str rk_call_header(const rk_call *call,
                      const char *lowercase_name); /* gRPC metadata too; {NULL,0} when absent */
rk_str
rk_call_body(const rk_call *call); /* gRPC: the one message, decompressed; 16-byte aligned start */
rk_str rk_call_peer(const rk_call *call); /* "127.0.0.1:5555" */
int64_t
rk_call_deadline_ns(const rk_call *call); /* monotonic, from grpc-timeout; INT64_MAX without one */
bool rk_call_cancelled(const rk_call *call); /* client went away or deadline passed */

/* Answers. The buffer is taken over (and emptied); gRPC framing is added here. */
void rk_call_reply(rk_call *call, rk_buf *message); /* gRPC, status 0 */
void rk_call_fail(rk_call *call, int32_t grpc_status,
                  rk_str text); /* gRPC, trailers only; text percent-coded here */
/* As rk_call_fail(), with extra trailers `rk-code: N` so that a far service gets its rk_code back.
 */
void rk_call_fail_err(rk_call *call, const rk_err *err);
/* gRPC: a message and then a failing status, for methods whose response says more than the error.
 */
void rk_call_reply_err(rk_call *call, rk_buf *message, const rk_err *err);
/* Adds a header to the answer that rk_call_http() will give; at most 12, further ones are dropped.
 */
void rk_call_http_header(rk_call *call, const char *lowercase_name, const char *value);
void rk_call_http(rk_call *call, int status, const char *content_type, rk_buf *body);

/* ---- client ---- */

/* A gRPC client of one address: one connection, reconnecting with back-off, many calls in flight.
 * Any thread. */
typedef struct rk_rpc_client rk_rpc_client;

typedef struct rk_rpc_client_options {
    const char *address; /* "127.0.0.1:19530" or "unix:/path" */
    bool tls;
    const char *ca_pem_path;   /* NULL: system roots */
    const char *cert_pem_path; /* client certificate for mTLS */
    const char *key_pem_path;
    size_t message_size_max;    /* default 256 MiB */
    int64_t keepalive_ms;       /* ping when idle, default 10000 */
    int64_t connect_timeout_ms; /* default 5000 */
    const rk_env *env;
} rk_rpc_client_options;

void rk_rpc_client_options_init(rk_rpc_client_options *options);
RK_MUST_CHECK rk_code rk_rpc_client_new(rk_rpc_client **out, const rk_rpc_client_options *options,
                                        rk_err *err);
void rk_rpc_client_free(rk_rpc_client *client); /* fails what is in flight with RK_EUNAVAILABLE */

/*
 * One unary call; blocks until the reply, the deadline (monotonic ns) or a broken connection.
 * |*reply| points into |arena|. Headers are pairs name, value ending in NULL; may be NULL. A status
 * other than 0 comes back as the rk_code of the `rk-code` trailer, or of the nearest code for the
 * gRPC status, with grpc-message as text; a message sent before it is still in |*reply|.
 */
RK_MUST_CHECK rk_code rk_rpc_client_call(rk_rpc_client *client, const char *path, rk_str message,
                                         const char *const *headers, int64_t deadline_ns,
                                         rk_str *reply, rk_arena *arena, rk_err *err);

#endif
