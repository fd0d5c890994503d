/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the client: the process-wide loop, a client, its connections, and a call.
 *
 * client.c       the blocking calls, options, life of a client (any thread)
 * client_loop.c  the one loop thread all clients of the process share
 * client_link.c  connecting: addresses, TLS, back-off (loop thread)
 * client_h2.c    the HTTP/2 session of a connection (loop thread)
 *
 * A call lives on its caller's stack: the caller blocks until the loop says |done| (and has seen
 * every mail the caller posted), so the loop may use the caller's message, arena and rk_err without
 * copies.
 */
#ifndef RK_RPC_CLIENT_PRIVATE_H
#define RK_RPC_CLIENT_PRIVATE_H

#include <nghttp2/nghttp2.h>

#include "rpc/grpc.h"
#include "rpc/loop_private.h"

#define RK__CLIENT_ADDRS_MAX   8u
#define RK__CLIENT_RANK_CALL   900 /* leaf locks: nothing is taken under them */
#define RK__CLIENT_RANK_CLOSE  901
#define RK__CLIENT_HEADERS_MAX 24u

typedef struct rk__cconn rk__cconn;
typedef struct rk__ccall rk__ccall;
typedef struct rk__cstream rk__cstream;

/* ---- one call ---- */

struct rk__ccall {
    rk__mail start, cancel;
    rk_rpc_client *client;
    rk__ccall *prev, *next; /* of client->waiting */

    /* from the caller */
    const char *path;
    rk_str message;
    const char *const *headers;
    int64_t deadline_ns;
    rk_arena *arena;
    rk_err *err;

    /* loop thread */
    rk__cstream *stream; /* NULL: waiting, or done */
    bool queued;         /* in client->waiting */
    bool retried;
    rk__grpc_prefix prefix;
    uint8_t *reply; /* in the arena, of the prefix's size */
    size_t reply_len;
    int32_t status; /* grpc-status, -1: none came */
    int32_t code;   /* rk-code, 0: none */
    bool input;
    bool gzip;
    int32_t http_status;
    char text[RK_ERR_TEXT_MAX]; /* decoded grpc-message */
    rk_code failure;            /* found by ourselves while receiving; |err| is filled */

    /* guarded by |lock| */
    rk_mutex lock;
    rk_cond changed;
    bool done;
    bool cancel_seen;
    rk_code result;
};

/* ---- one stream; outlives its call when that was cancelled ---- */

struct rk__cstream {
    rk__ccall *call; /* NULL: cancelled or finished */
    rk__cconn *conn;
    rk__cstream *prev, *next; /* of the connection */
    int32_t id;
    size_t sent;  /* of prefix and message */
    bool on_wire; /* its HEADERS were sent */
    bool unsent;  /* they never will be; on_stream_close may not come */
};

/* ---- one connection ---- */

struct rk__cconn {
    rk__conn base; /* first */
    rk_rpc_client *client;
    rk__cconn *prev, *next; /* of the client */
    uv_connect_t connect;
    nghttp2_session *session; /* NULL until connected (and secured) */
    rk__out *out;             /* inside fill() */
    rk__cstream *streams;
    bool greeted; /* the server's SETTINGS came */
    bool leaving; /* GOAWAY: no new streams */
    bool calm;    /* the GOAWAY said ENHANCE_YOUR_CALM */
    uint64_t seen_bytes;
    int64_t seen_ns;   /* when bytes last came */
    int64_t pinged_ns; /* 0: no ping in flight */
    char why[160];     /* of the end */
};

/* ---- the client ---- */

struct rk_rpc_client {
    rk_rpc_client_options options;
    char *address; /* owned copy */
    rk__addr addr;
    rk__tls_context *tls;
    rk__loop *loop;

    /* loop thread */
    rk__cconn *conns;   /* all, also those that leave */
    rk__cconn *current; /* ready or connecting */
    rk__ccall *waiting_first, *waiting_last;
    struct sockaddr_storage addrs[RK__CLIENT_ADDRS_MAX];
    unsigned addrs_len, addrs_at;
    uv_getaddrinfo_t resolve;
    bool resolving;
    uv_timer_t timer; /* connect timeout or back-off */
    bool timer_open;
    bool backing_off;
    unsigned failures; /* connects in a row that failed */
    int64_t keepalive_ns;
    bool closing;

    /* guarded by |lock| */
    rk_mutex lock;
    rk_cond changed;
    bool opened;
    bool closed;
};

/* client_loop.c. The lock inside is held while the thread starts and ends. */
RK_MUST_CHECK rk_code rk__client_loop_get(rk__loop **out, rk_err *err);
void rk__client_loop_put(void);

/* client.c */
/* Ends the call; |call| is gone when this returns. The sentence is in call->err already. */
void rk__ccall_finish(rk__ccall *call, rk_code result);
void rk__ccall_queue(rk__ccall *call, bool first);
void rk__ccall_unqueue(rk__ccall *call);

/* client_link.c */
void rk__client_pump(rk_rpc_client *client); /* sends what waits, or connects first */
void rk__client_ready(rk__cconn *conn);      /* SETTINGS came */
void rk__client_leave(rk__cconn *conn);      /* no new streams on it */
void rk__client_close(rk_rpc_client *client);
void rk__client_closed_check(rk_rpc_client *client);

/* client_h2.c */
bool rk__cconn_begin(rk__cconn *conn); /* makes the session */
/* Opens a stream. False: the call was finished with an error. */
bool rk__cconn_submit(rk__cconn *conn, rk__ccall *call);
void rk__cconn_cancel(rk__cstream *stream);
bool rk__cconn_input(rk__conn *base, const uint8_t *data, size_t len);
bool rk__cconn_fill(rk__conn *base, rk__out *out);
bool rk__cconn_finished(rk__conn *base);
void rk__cconn_sweep(rk__conn *base, int64_t now_ns);
void rk__cconn_drop_streams(rk__cconn *conn); /* the connection is gone */

#endif
