/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop, connection and output batch: the part of rpc that moves bytes and knows no protocol.
 * The server and the client build on it.
 *
 * One thread runs one rk__loop and owns everything that hangs from it. Other threads reach it only
 * through its mailbox: a lock-free stack of mails, each of which runs on the loop. A mailbox
 * outlives its loop while somebody holds a reference; mail posted to a closed mailbox runs at once
 * on the posting thread with |closed| true.
 *
 * Output is batched: whoever has something to send marks the connection dirty, and once per loop
 * turn each dirty connection fills one rk__out (small pieces copied into the loop's scratch, large
 * ones by reference) that goes out in one writev. Connections are destroyed only there, never from
 * inside a protocol callback.
 */
#ifndef RK_RPC_LOOP_PRIVATE_H
#define RK_RPC_LOOP_PRIVATE_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/un.h>
#include <uv.h>

#include "rpc/rpc.h"

typedef struct rk__loop rk__loop;
typedef struct rk__conn rk__conn;
typedef struct rk__mail rk__mail;
typedef struct rk__tls rk__tls;

/* ---- mailbox ---- */

struct rk__mail {
    rk__mail *next;
    void (*run)(rk__mail *mail, bool closed); /* loop thread; any thread when |closed| */
};

/* Shared, reference counted. Lock-free: posting is one compare-exchange, reading one exchange. */
typedef struct rk__mailbox {
    _Atomic(rk__mail *)
        head; /* newest first; a sentinel once closed. push: release, take: acquire */
    _Atomic uint32_t senders; /* threads inside post or wake: the async handle stays until 0 */
    _Atomic uint32_t refs;    /* drop: acq_rel */
    uv_async_t *async;        /* of the loop; not touched once closed */
} rk__mailbox;

rk__mailbox *rk__mailbox_ref(rk__mailbox *mailbox);
void rk__mailbox_unref(rk__mailbox *mailbox);
void rk__mailbox_post(rk__mailbox *mailbox, rk__mail *mail); /* any thread */
void rk__mailbox_wake(rk__mailbox *mailbox);                 /* any thread: one turn of the loop */
/* True on the thread that runs the loop of |mailbox|. */
bool rk__mailbox_is_mine(const rk__mailbox *mailbox);

/* ---- output batch ---- */

/* Something that bytes are borrowed from while they are being written. Loop thread. */
typedef struct rk__hold {
    uint32_t refs;
    void (*release)(struct rk__hold *hold); /* called at 0 */
} rk__hold;

static inline void
rk__hold_ref(rk__hold *hold)
{
    hold->refs++;
}

static inline void
rk__hold_unref(rk__hold *hold)
{
    if (--hold->refs == 0) {
        hold->release(hold);
    }
}

#define RK__OUT_IOV     128u
#define RK__OUT_SCRATCH 65536u

typedef struct rk__out {
    uv_buf_t iov[RK__OUT_IOV];
    rk__hold *owner[RK__OUT_IOV]; /* holds a reference; NULL: in scratch, or to be copied when the
                                     write is cut */
    unsigned n;
    size_t bytes;
    uint8_t *scratch; /* RK__OUT_SCRATCH bytes */
    size_t scratch_len;
} rk__out;

/* Copies up to |len| bytes; returns how many fitted. */
size_t rk__out_copy(rk__out *out, const void *data, size_t len);
/* Refers to |len| bytes kept alive by |owner| (NULL: copied if the socket does not take them now).
 * False when full. */
bool rk__out_ref(rk__out *out, const void *data, size_t len, rk__hold *owner);
/* Whether |pieces| more entries and |bytes| of scratch fit. */
static inline bool
rk__out_has_room(const rk__out *out, unsigned pieces, size_t bytes)
{
    return out->n + pieces <= RK__OUT_IOV && out->scratch_len + bytes <= RK__OUT_SCRATCH;
}

/* ---- connection ---- */

typedef struct rk__conn_ops {
    /* Bytes arrived (after TLS). False: nothing more will be read; flush what there is and close.
     */
    bool (*input)(rk__conn *conn, const uint8_t *data, size_t len);
    /* Appends what there is to send. True when there is more than fitted. */
    bool (*fill)(rk__conn *conn, rk__out *out);
    /* After a batch went out whole: true when the protocol is finished and the connection can go.
     */
    bool (*finished)(rk__conn *conn);
    void (*sweep)(rk__conn *conn, int64_t now_ns); /* every loop->sweep_ms */
    void (*closed)(rk__conn *conn);  /* drops protocol state; the struct goes after it */
    void (*freed)(rk__conn *conn);   /* frees the struct itself */
    void (*secured)(rk__conn *conn); /* TLS handshake is done */
} rk__conn_ops;

typedef struct rk__write rk__write;

struct rk__conn {
    rk__loop *loop;
    const rk__conn_ops *ops;
    rk__conn *prev, *next; /* of the loop */
    rk__conn *dirty_next;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    rk__tls *tls;       /* owned; NULL: plain */
    rk__write *writing; /* the one write the socket did not take whole, or NULL */
    rk_buf *sink;       /* tests and fuzzing: output goes here and there is no socket */
    int64_t wrote_ns;   /* when the socket last took bytes while some were waiting */
    uint64_t bytes_in, bytes_out;
    bool dirty;
    bool linked;
    bool reading;
    bool doomed;    /* destroyed in the next flush */
    bool draining;  /* close once all is written */
    bool destroyed; /* uv_close was called */
    char peer[64];  /* "127.0.0.1:5555", "unix" */
};

void rk__conn_init(rk__conn *conn, rk__loop *loop, const rk__conn_ops *ops);
/* Links an initialised connection (socket open, or a sink) to the loop. */
void rk__conn_link(rk__conn *conn);
void rk__conn_read_start(rk__conn *conn);
void rk__conn_read_stop(rk__conn *conn);
void rk__conn_dirty(rk__conn *conn); /* flush it at the end of this turn */
void rk__conn_doom(rk__conn *conn);  /* destroy it at the end of this turn, output or not */
void rk__conn_drain(rk__conn *conn); /* close when the output is written */
/* Bytes from the wire, before TLS: what the read callback calls; tests and fuzzers call it
 * themselves. */
void rk__conn_feed(rk__conn *conn, const uint8_t *data, size_t len);
/* Client side, once |conn->tls| is set: sends the first handshake message. */
void rk__conn_start_tls(rk__conn *conn);
void rk__conn_set_peer(rk__conn *conn);

/* ---- loop ---- */

#define RK__READ_BUFFER 65536u

struct rk__loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t sweep;
    rk__mailbox *mailbox;
    const rk_clock *clock;
    rk__conn *conns;
    uint32_t conns_len;
    rk__conn *dirty;
    rk__out out;
    uint8_t *read_buffer;  /* RK__READ_BUFFER bytes, one read at a time */
    uint8_t *plain_buffer; /* decrypted bytes, RK__READ_BUFFER, made on first use */
    uint64_t sweep_ms;
    bool sweeping;
    bool stop;                       /* the thread leaves when the last handle is closed */
    void (*on_wake)(rk__loop *loop); /* after the mails, or NULL */
    rk_thread thread;
};

RK_MUST_CHECK rk_code rk__loop_init(rk__loop *loop, const rk_clock *clock, uint64_t sweep_ms,
                                    rk_err *err);
RK_MUST_CHECK rk_code rk__loop_start(rk__loop *loop, const char *name);
/* Loop thread: the thread leaves after this turn; connections are closed first. */
void rk__loop_stop(rk__loop *loop);
void rk__loop_join(rk__loop *loop);
/* Tests: the calling thread plays the loop's, until it passes NULL. */
void rk__loop_adopt(rk__loop *loop);
/* After join, or without start: closes handles and the mailbox. */
void rk__loop_deinit(rk__loop *loop);
void rk__loop_arm_sweep(rk__loop *loop); /* there is a connection: time limits are looked at */
void rk__loop_flush(rk__loop *loop);     /* what the end of a turn does; tests call it */

static inline int64_t
rk__loop_now(const rk__loop *loop)
{
    return loop->clock->monotonic_ns(loop->clock->self);
}

/* ---- TLS over memory ---- */

typedef struct rk__tls_context rk__tls_context;

/* Server: certificate and key, client certificates required when |ca| is set. */
RK_MUST_CHECK rk_code rk__tls_server_context(rk__tls_context **out, const rk_tls_options *options,
                                             rk_err *err);
RK_MUST_CHECK rk_code rk__tls_client_context(rk__tls_context **out, const char *ca_path,
                                             const char *cert_path, const char *key_path,
                                             rk_err *err);
void rk__tls_context_free(rk__tls_context *context);

/* |host| NULL: server side. */
RK_MUST_CHECK rk_code rk__tls_new(rk__tls **out, rk__tls_context *context, const char *host);
void rk__tls_free(rk__tls *tls);
bool rk__tls_ready(const rk__tls *tls);
rk_str rk__tls_alpn(const rk__tls *tls);
/* Adds ciphertext. False when memory is out. */
bool rk__tls_add(rk__tls *tls, const uint8_t *data, size_t len);
/* Drives the handshake, or reads plain bytes: > 0 bytes, 0 nothing for now, -1 closed or broken. */
int rk__tls_read(rk__tls *tls, uint8_t *out, size_t cap);
bool rk__tls_write(rk__tls *tls, const void *data, size_t len); /* whole */
/* Ciphertext waiting; taken by rk__tls_sent(). */
rk_str rk__tls_pending(const rk__tls *tls);
void rk__tls_sent(rk__tls *tls, size_t len);
const char *rk__tls_error(const rk__tls *tls); /* why the handshake failed */

/* ---- addresses ---- */

typedef struct rk__addr {
    bool is_unix;
    char host[256]; /* or the path of the socket */
    uint16_t port;
} rk__addr;

/* "host:port", "[v6]:port", "unix:/path". RK_EINVAL. */
RK_MUST_CHECK rk_code rk__addr_parse(rk__addr *out, const char *text, rk_err *err);

#endif
