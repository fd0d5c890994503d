/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server connections: which protocol they speak, and their life from accept to close.
 *
 * The first byte 0x16 is a TLS record: where TLS is configured it is the only thing accepted, and
 * ALPN decides what is inside. "PRI" begins the HTTP/2 preface (no method does); anything else is
 * HTTP/1.1, whose parser judges it. Up to three bytes are kept until that is known, so a peer may
 * send them one by one.
 *
 * Time limits: until the protocol is known, and for HTTP/2 until its SETTINGS came, the preface
 * limit; while TLS shakes hands its own. A connection past that may be idle for ever.
 */
#include "base/log.h"
#include "rpc/server_private.h"

#define TLS_RECORD_HANDSHAKE 0x16

static bool
begin_h2(rk__sconn *conn)
{
    conn->kind = RK__SCONN_H2;
    return rk__h2_begin(conn);
}

static bool
begin_h1(rk__sconn *conn)
{
    conn->kind = RK__SCONN_H1;
    conn->phase_deadline_ns = 0; /* the parser sets its own from the first byte on */
    return rk__h1_begin(conn);
}

static bool
input_known(rk__sconn *conn, const uint8_t *data, size_t len)
{
    return conn->kind == RK__SCONN_H2 ? rk__h2_input(conn, data, len)
                                      : rk__h1_input(conn, data, len);
}

/* The wire's first bytes on a port with TLS. */
static bool
begin_tls(rk__sconn *conn, const uint8_t *data, size_t len)
{
    if (data[0] != TLS_RECORD_HANDSHAKE) {
        RK_LOG_D("rpc", "refused a plain connection, TLS is required peer=%s", conn->base.peer);
        return false;
    }
    if (rk__tls_new(&conn->base.tls, conn->core->tls, NULL) != RK_OK) {
        return false;
    }
    conn->tls_wanted = false;
    conn->phase_deadline_ns = rk__loop_now(conn->base.loop) + conn->core->tls_ns;
    rk__conn_feed(&conn->base, data, len);
    return true;
}

/* Looks at bytes until they tell the protocol. */
static bool
detect(rk__sconn *conn, const uint8_t *data, size_t len)
{
    static const uint8_t preface[3] = {'P', 'R', 'I'};
    size_t used = 0;
    bool same = true;

    while (same && used < len && conn->first_len < sizeof(preface)) {
        same = data[used] == preface[conn->first_len];
        conn->first[conn->first_len++] = data[used++];
    }
    if (same && conn->first_len < sizeof(preface)) {
        return true; /* nothing decided yet */
    }
    if (conn->first[0] == TLS_RECORD_HANDSHAKE) {
        RK_LOG_D("rpc", "refused a TLS connection, no certificate is configured peer=%s",
                 conn->base.peer);
        return false;
    }
    if (!(same ? begin_h2(conn) : begin_h1(conn))) {
        rk__conn_doom(&conn->base);
        return true;
    }
    if (!input_known(conn, conn->first, conn->first_len)) {
        return false;
    }
    return used == len || conn->base.doomed || input_known(conn, data + used, len - used);
}

static bool
sconn_input(rk__conn *base, const uint8_t *data, size_t len)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    if (conn->kind != RK__SCONN_NEW) {
        return input_known(conn, data, len);
    }
    if (len == 0) {
        return false;
    }
    return conn->tls_wanted ? begin_tls(conn, data, len) : detect(conn, data, len);
}

static void
sconn_secured(rk__conn *base)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);
    rk_str alpn = rk__tls_alpn(base->tls);
    bool ok = true;

    conn->phase_deadline_ns = rk__loop_now(base->loop) + conn->core->preface_ns;
    if (rk_str_is(alpn, "h2")) {
        ok = begin_h2(conn);
    } else if (rk_str_is(alpn, "http/1.1")) {
        ok = begin_h1(conn);
    }
    if (!ok) {
        rk__conn_doom(base);
    }
}

static bool
sconn_fill(rk__conn *base, rk__out *out)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    switch (conn->kind) {
    case RK__SCONN_H1:
        return rk__h1_fill(conn, out);
    case RK__SCONN_H2:
        return rk__h2_fill(conn, out);
    case RK__SCONN_NEW:
    default:
        return false;
    }
}

static bool
sconn_finished(rk__conn *base)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    switch (conn->kind) {
    case RK__SCONN_H1:
        return rk__h1_finished(conn);
    case RK__SCONN_H2:
        return rk__h2_finished(conn);
    case RK__SCONN_NEW:
    default:
        return false;
    }
}

static void
sconn_sweep(rk__conn *base, int64_t now_ns)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    if (base->writing && now_ns - base->wrote_ns >= conn->core->stall_ns) {
        RK_LOG_W("rpc", "closed a connection that does not read its replies peer=%s", base->peer);
        rk__conn_doom(base);
        return;
    }
    switch (conn->kind) {
    case RK__SCONN_H1:
        rk__h1_sweep(conn, now_ns);
        break;
    case RK__SCONN_H2:
        rk__h2_sweep(conn, now_ns);
        break;
    case RK__SCONN_NEW:
    default:
        if (conn->phase_deadline_ns != 0 && now_ns >= conn->phase_deadline_ns) {
            rk__conn_doom(base);
        }
        break;
    }
}

static void
sconn_closed(rk__conn *base)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    rk__h1_free(conn);
    rk__h2_free(conn);
    while (conn->calls) {
        rk__call_detach(conn->calls);
    }
}

static void
sconn_freed(rk__conn *base)
{
    rk__sconn *conn = RK_CONTAINER(base, rk__sconn, base);

    atomic_fetch_sub_explicit(&conn->core->connections, 1, memory_order_relaxed);
    rk__core_unref(conn->core);
    rk_free(conn);
}

static const rk__conn_ops sconn_ops = {
    .input = sconn_input,
    .fill = sconn_fill,
    .finished = sconn_finished,
    .sweep = sconn_sweep,
    .closed = sconn_closed,
    .freed = sconn_freed,
    .secured = sconn_secured,
};

rk__sconn *
rk__sconn_new(rk__sloop *loop)
{
    rk__sconn *conn = rk_alloc_zero(1, sizeof(*conn));

    if (conn) {
        rk__conn_init(&conn->base, &loop->base, &sconn_ops);
        conn->core = rk__core_ref(loop->core);
        conn->tls_wanted = loop->core->tls != NULL;
        atomic_fetch_add_explicit(&conn->core->connections, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&conn->core->connections_total, 1, memory_order_relaxed);
    }
    return conn;
}

void
rk__sconn_begin(rk__sconn *conn)
{
    conn->phase_deadline_ns = rk__loop_now(conn->base.loop) + conn->core->preface_ns;
    rk__conn_link(&conn->base);
    rk__conn_read_start(&conn->base);
}

void
rk__sconn_leave(rk__sconn *conn)
{
    switch (conn->kind) {
    case RK__SCONN_H1:
        rk__h1_leave(conn);
        break;
    case RK__SCONN_H2:
        rk__h2_leave(conn);
        break;
    case RK__SCONN_NEW:
    default:
        rk__conn_doom(&conn->base);
        break;
    }
}

void
rk__sconn_answer(rk__sconn *conn, rk_call *call)
{
    if (conn->kind == RK__SCONN_H2) {
        rk__h2_answer(conn, call);
    } else {
        rk__h1_answer(conn, call);
    }
}

void
rk__sconn_granted(rk__sconn *conn, rk_call *call)
{
    if (conn->kind == RK__SCONN_H2) {
        rk__h2_granted(conn, call);
    } else {
        rk__h1_granted(conn, call);
    }
}
