/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the server: the shared core, a loop's share of it, a connection, and a call.
 *
 * Ownership: rk__core is reference counted, since calls in the hands of other threads outlive the
 * server. A connection belongs to its loop. A call is counted by rk__hold: one reference for its
 * stream, one for whoever has to answer it, one per piece of its reply in flight; all are dropped
 * on the loop thread (or by the answerer, once the loop is gone).
 */
#ifndef RK_RPC_SERVER_PRIVATE_H
#define RK_RPC_SERVER_PRIVATE_H

#include "rpc/grpc.h"
#include "rpc/http1_parse.h"
#include "rpc/loop_private.h"

#define RK__LOOPS_MAX 64u
#define RK__STREAM_WINDOW                                                                          \
    (1 << 20) /* first window of a stream: what may arrive before its length is known */
#define RK__STREAM_WINDOW_MAX (16 << 20) /* window of a stream that declared a large message */
#define RK__CONN_WINDOW       (32 << 20)
#define RK__CALL_TEXT         1536u  /* bytes of headers kept inside a call */
#define RK__CALL_HEADERS      24u    /* headers kept inside a call */
#define RK__CALL_BODY_KEEP    16384u /* a body buffer up to this is reused by the next call */
#define RK__CALLS_KEEP        512u

typedef struct rk__core rk__core;
typedef struct rk__sloop rk__sloop;
typedef struct rk__sconn rk__sconn;

/* ---- budget ---- */

/* Request bytes of the process. A reservation succeeds when it fits or when nothing else is
 * reserved. Any thread. */
typedef struct rk__budget {
    uint64_t max;
    _Atomic uint64_t used;    /* relaxed: a count, publishes nothing */
    _Atomic uint64_t parked;  /* bytes of streams that wait for a reservation */
    _Atomic uint32_t waiters; /* calls waiting; seq_cst with |used|, so that no release is missed */
} rk__budget;

bool rk__budget_try(rk__budget *budget, uint64_t bytes);
void rk__budget_force(rk__budget *budget, uint64_t bytes);
/* True when somebody may be waiting for these bytes. */
bool rk__budget_release(rk__budget *budget, uint64_t bytes);

/* ---- core ---- */

struct rk__core {
    _Atomic uint32_t refs; /* drop: acq_rel */
    rk_rpc_server_options options;
    const rk_clock *clock;
    rk__budget budget;
    rk__tls_context *tls;
    rk__mailbox *mailboxes[RK__LOOPS_MAX]; /* set before the loops start */
    unsigned mailboxes_len;
    int64_t preface_ns, header_ns, tls_ns, stall_ns;
    _Atomic uint64_t output_bytes; /* unsent answers of all HTTP/2 connections; relaxed: a count */
    _Atomic uint64_t connections, connections_total, calls, calls_total,
        refused_total; /* relaxed */
};

rk__core *rk__core_ref(rk__core *core);
void rk__core_unref(rk__core *core);
void rk__core_release(rk__core *core, uint64_t bytes); /* budget, and wakes the loops that wait */

/* One event loop of the server. */
struct rk__sloop {
    rk__loop base; /* first */
    rk__core *core;
    struct rk_call *free_calls;
    unsigned free_calls_len;
    struct rk_call *wait_first, *wait_last; /* calls waiting for the budget, oldest first */
    uv_handle_t *listener;                  /* owned; NULL when this loop does not listen */
    bool draining;                          /* no new calls; connections leave when idle */
    int64_t date_s;                         /* second of |date| */
    char date[40];                          /* "Date: ...\r\n" */
};

/* ---- call ---- */

typedef enum rk__answer_kind {
    RK__ANSWER_NONE,
    RK__ANSWER_REPLY,
    RK__ANSWER_FAIL,
    RK__ANSWER_HTTP
} rk__answer_kind;

typedef struct rk__header {
    rk_str name;
    rk_str value;
} rk__header;

typedef struct rk__answer {
    rk__answer_kind kind;
    int32_t status; /* gRPC or HTTP */
    int32_t code;   /* rk-code trailer, 0: none */
    bool input;     /* rk-input trailer */
    rk_buf bytes;   /* owned: message or body */
    rk_str text;    /* percent-coded grpc-message, in the call's text */
    rk_str content_type;
    rk__header extra[12]; /* rk_call_http_header() */
    unsigned extra_len;
    char status_text[12];
    char length_text[24];
    char code_text[12];
    size_t sent; /* of prefix and bytes */
} rk__answer;

struct rk_call {
    rk__mail mail; /* the way back to the loop */
    rk__hold hold;
    rk__core *core;       /* reference */
    rk__mailbox *mailbox; /* reference */
    rk__sloop *loop;      /* loop thread only */
    rk__sconn *conn;      /* loop thread only; NULL once the stream is gone */
    rk_call *prev, *next; /* of the connection; |next| also of the free list */
    rk_call *wait_prev, *wait_next;
    int32_t stream_id;

    /* what it is */
    bool grpc;
    bool is_head;    /* HEAD: no body in the answer */
    bool keep_alive; /* HTTP/1.1: the connection goes on */
    bool http10;
    rk_str method, path, query, encoding, content_type, peer;
    int64_t deadline_ns;
    int64_t content_length; /* -1: not given */

    /* where it is */
    bool dispatched; /* handed to the handler */
    bool receiving;  /* its body is awaited */
    bool waiting;    /* for the budget */
    bool dropping;   /* failed early: what still comes is thrown away */
    bool head_done;
    bool refused_header; /* header list too large */
    bool applied;        /* the answer reached the connection */
    bool remote_ended;
    _Atomic bool answered;  /* exchange: an answer is given once */
    _Atomic bool cancelled; /* relaxed: a hint */

    /* body */
    rk__grpc_prefix prefix;
    uint8_t *body;
    size_t body_len, body_cap;
    uint64_t reserved; /* of the budget */
    uint64_t parked;   /* bytes counted as parked */
    size_t held_conn;  /* bytes whose connection window is held back */
    int64_t mark_ns;   /* start of the current body rate window */
    size_t mark_bytes;
    uint64_t mark_in; /* the connection's bytes_in then */
    uint64_t unsent;  /* of the answer, counted in the connection's output_bytes */

    /* text */
    rk__header *headers; /* |headers_own| or heap */
    unsigned headers_len, headers_cap;
    size_t header_bytes; /* as HTTP/2 counts: name + value + 32 */
    size_t text_used;
    void *text_more; /* chain of heap blocks, first word is the next */
    rk__answer answer;
    rk__header headers_own[RK__CALL_HEADERS];
    char text[RK__CALL_TEXT];
};

rk_call *rk__call_new(rk__sconn *conn,
                      int32_t stream_id); /* linked to the connection; hold.refs 1; NULL: memory */
rk_str rk__call_text(rk_call *call,
                     rk_str s); /* copy that lives as long as the call; .data NULL: memory */
char *rk__call_text_room(rk_call *call, size_t len);
/* Adds a header to the list; false when memory is out. */
bool rk__call_add_header(rk_call *call, rk_str name, rk_str value);
bool rk__call_set_target(rk_call *call, rk_str target); /* splits path and query; false: memory */
void rk__call_dispatch(rk_call *call);                  /* to the handler */
void rk__call_detach(rk_call *call);                    /* its stream is gone */
void rk__call_free_body(rk_call *call);
/* An answer of our own to a call that was not dispatched. */
void rk__call_fail_early(rk_call *call, int32_t grpc_status, int http_status, const char *text);

/* Room for |cap| bytes of body. */
bool rk__call_body_reserve(rk_call *call, size_t cap);
bool rk__call_body_append(rk_call *call, const uint8_t *data, size_t len);
/* Asks the budget for |bytes| more; false: the call was queued and rk__sloop_retry() goes on with
 * it. */
bool rk__call_claim(rk_call *call, uint64_t bytes);
void rk__call_claim_force(rk_call *call, uint64_t bytes);
void rk__call_unwait(rk_call *call);
void rk__sloop_retry(rk__loop *loop); /* after a wake-up: grants what fits now, oldest first */

/* Inflates a complete compressed message, here or off the loop, then dispatches. */
void rk__call_inflate(rk_call *call);

/* ---- connection ---- */

/* Tokens that refill with time. */
typedef struct rk__bucket {
    double tokens, burst, per_s;
    int64_t at_ns;
} rk__bucket;

void rk__bucket_init(rk__bucket *bucket, double burst, double per_s, int64_t now_ns);
bool rk__bucket_take(rk__bucket *bucket, int64_t now_ns);

typedef struct rk__h1 rk__h1;
typedef struct rk__h2 rk__h2;

typedef enum rk__sconn_kind { RK__SCONN_NEW, RK__SCONN_H1, RK__SCONN_H2 } rk__sconn_kind;

struct rk__sconn {
    rk__conn base;  /* first */
    rk__core *core; /* reference */
    rk__sconn_kind kind;
    bool tls_wanted;  /* TLS only; the record layer not seen yet */
    uint8_t first[4]; /* bytes seen before the protocol is known */
    unsigned first_len;
    int64_t phase_deadline_ns; /* of TLS handshake, preface or request head; 0: none */
    rk_call *calls;
    uint32_t calls_len;
    uint64_t output_bytes; /* answered, not yet written out by the protocol */
    rk__h1 *h1;
    rk__h2 *h2;
};

/* A connection of |loop|; the caller opens conn->base.io or sets a sink, then calls
 * rk__sconn_begin(). */
rk__sconn *rk__sconn_new(rk__sloop *loop);
void rk__sconn_begin(rk__sconn *conn);
void
rk__sconn_leave(rk__sconn *conn); /* server stops: finish what is in flight, take nothing new */

/* Applies the answer of a call: protocol dispatch. Loop thread. */
void rk__sconn_answer(rk__sconn *conn, rk_call *call);
/* The budget granted a waiting call. */
void rk__sconn_granted(rk__sconn *conn, rk_call *call);
/* Whether the body of |call| came too slowly; |receiving| bodies share its connection. */
bool rk__call_too_slow(rk_call *call, int64_t now_ns, uint32_t receiving);

/* HTTP/1.1 */
bool rk__h1_begin(rk__sconn *conn);
bool rk__h1_input(rk__sconn *conn, const uint8_t *data, size_t len);
bool rk__h1_fill(rk__sconn *conn, rk__out *out);
bool rk__h1_finished(rk__sconn *conn);
void rk__h1_sweep(rk__sconn *conn, int64_t now_ns);
void rk__h1_answer(rk__sconn *conn, rk_call *call);
void rk__h1_granted(rk__sconn *conn, rk_call *call);
void rk__h1_leave(rk__sconn *conn);
void rk__h1_free(rk__sconn *conn);

/* HTTP/2 */
bool rk__h2_begin(rk__sconn *conn);
bool rk__h2_input(rk__sconn *conn, const uint8_t *data, size_t len);
bool rk__h2_fill(rk__sconn *conn, rk__out *out);
bool rk__h2_finished(rk__sconn *conn);
void rk__h2_sweep(rk__sconn *conn, int64_t now_ns);
void rk__h2_answer(rk__sconn *conn, rk_call *call);
void rk__h2_granted(rk__sconn *conn, rk_call *call);
void rk__h2_leave(rk__sconn *conn);
void rk__h2_free(rk__sconn *conn);

/* Server loops, also used by tests without threads. */
RK_MUST_CHECK rk_code rk__core_new(rk__core **out, const rk_rpc_server_options *options,
                                   rk_err *err);
RK_MUST_CHECK rk_code rk__sloop_init(rk__sloop *loop, rk__core *core, rk_err *err);
void rk__sloop_deinit(rk__sloop *loop);

#endif
