/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of an HTTP/2 server connection share: http2.c receives, http2_send.c sends.
 */
#ifndef RK_RPC_HTTP2_PRIVATE_H
#define RK_RPC_HTTP2_PRIVATE_H

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "base/log.h"
#include "rpc/server_private.h"

/* Owned by one connection; loop thread. */
struct rk__h2 {
    nghttp2_session *session;
    rk_call *last_call;      /* of the frame being received: saves a map look-up per header */
    rk__out *out;            /* the batch being filled, inside fill() only */
    rk__bucket resets_in;    /* RST_STREAM of calls in flight */
    rk__bucket resets_out;   /* RST_STREAM we send */
    rk__bucket control;      /* PING, SETTINGS, PRIORITY, empty DATA */
    size_t held_bytes;       /* connection window held back for waiting calls */
    int64_t head_since_ns;   /* a header block began and is not complete; 0: none */
    uint64_t data_bytes;     /* of replies, handed to the output so far */
    uint64_t progress_bytes; /* of these, when they last moved */
    int64_t progress_ns;
    bool greeted;    /* the client's SETTINGS came */
    bool terminated; /* our last GOAWAY is queued */
    bool leaving;    /* draining: GOAWAY sent, calls in flight may finish */
    bool peer_left;  /* its GOAWAY came */
};

void rk__h2_set_send_callbacks(nghttp2_session_callbacks *callbacks);
/* Takes what |call| has unsent off the connection's output count. */
void rk__h2_forget_output(rk__sconn *conn, rk_call *call);

#endif
