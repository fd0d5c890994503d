/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting: addresses, TLS, back-off, and the end of a client. Loop thread.
 *
 *   nothing --call--> connecting --SETTINGS--> ready --GOAWAY--> (a new one connects; the old one
 * finishes) ^                  | failed                | lost |                  v v
 *      +---- timer -- backing off <---- calls in flight fail, waiting ones stay
 *
 * A call that finds no connection waits for the next attempt and fails with it: the back-off (50 ms
 * doubling to 2 s) paces callers that retry without making them wait for ever. Every address a name
 * resolves to is tried before an attempt counts as failed.
 */
#include <netdb.h>
#include <stdio.h>

#include "base/log.h"
#include "rpc/client_private.h"

#define BACKOFF_MS_MIN 50u
#define BACKOFF_MS_MAX 2000u

static void connect_next(rk_rpc_client *client);

/* ---- failure ---- */

/* Fails every waiting call: "<what> <address>: <why>". */
static void
fail_waiting(rk_rpc_client *client, const char *what, const char *why)
{
    while (client->waiting_first) {
        rk__ccall *call = client->waiting_first;
        rk__ccall_unqueue(call);
        rk_fail(call->err, RK_EUNAVAILABLE, "%s %s: %s", what, client->address, why);
        rk__ccall_finish(call, RK_EUNAVAILABLE);
    }
}

static void
on_backoff_over(uv_timer_t *timer)
{
    rk_rpc_client *client = timer->data;

    client->backing_off = false;
    rk__client_pump(client);
}

/* The attempt failed on its last address. */
static void
attempt_failed(rk_rpc_client *client, const char *why)
{
    unsigned shift = RK_MIN(client->failures, 6u);
    uint64_t delay_ms = RK_MIN(BACKOFF_MS_MIN << shift, BACKOFF_MS_MAX);
    uint8_t jitter = 0;

    if (client->failures++ == 0) {
        RK_LOG_W("rpc", "could not connect address=%s error=\"%s\"", client->address, why);
    }
    rk_random_real()->bytes(rk_random_real()->self, &jitter, 1);
    delay_ms +=
        delay_ms * jitter / 1024; /* up to a quarter more, so that peers do not march in step */
    fail_waiting(client, "cannot connect to", why);
    client->backing_off = true;
    uv_timer_start(&client->timer, on_backoff_over, delay_ms, 0);
}

/* A connection that never became ready is gone: on to the next address. */
static void
connect_failed(rk_rpc_client *client, const char *why)
{
    if (client->closing) {
        return;
    }
    uv_timer_stop(&client->timer);
    if (client->addrs_at < client->addrs_len) {
        connect_next(client);
    } else {
        attempt_failed(client, why);
    }
}

/* ---- connection ---- */

static void
cconn_closed(rk__conn *base)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    rk_rpc_client *client = conn->client;
    bool was_current = client->current == conn;

    if (was_current) {
        client->current = NULL;
    }
    if (!conn->why[0] && base->tls && rk__tls_error(base->tls)[0]) {
        snprintf(conn->why, sizeof(conn->why), "%s", rk__tls_error(base->tls));
    }
    rk__cconn_drop_streams(conn);
    if (was_current && !conn->greeted) {
        connect_failed(client, conn->why[0] ? conn->why : "the peer closed the connection");
    } else if (was_current) {
        rk__client_pump(client);
    }
}

static void
cconn_freed(rk__conn *base)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    rk_rpc_client *client = conn->client;

    *(conn->prev ? &conn->prev->next : &client->conns) = conn->next;
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    rk_free(conn);
    rk__client_closed_check(client);
}

static void
cconn_secured(rk__conn *base)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);

    if (!rk_str_is(rk__tls_alpn(base->tls), "h2")) {
        snprintf(conn->why, sizeof(conn->why), "the peer does not offer HTTP/2 over TLS");
        rk__conn_doom(base);
    } else if (!rk__cconn_begin(conn)) {
        rk__conn_doom(base);
    }
}

static const rk__conn_ops cconn_ops = {
    .input = rk__cconn_input,
    .fill = rk__cconn_fill,
    .finished = rk__cconn_finished,
    .sweep = rk__cconn_sweep,
    .closed = cconn_closed,
    .freed = cconn_freed,
    .secured = cconn_secured,
};

static void
on_connected(uv_connect_t *req, int status)
{
    rk__cconn *conn = RK_CONTAINER(req, rk__cconn, connect);
    rk_rpc_client *client = conn->client;

    if (conn->base.doomed || conn->base.destroyed) {
        return;
    }
    if (status != 0) {
        snprintf(conn->why, sizeof(conn->why), "%s", uv_strerror(status));
        rk__conn_doom(&conn->base);
        return;
    }
    if (!client->addr.is_unix) {
        uv_tcp_nodelay(&conn->base.io.tcp, 1);
    }
    rk__conn_read_start(&conn->base);
    if (client->tls) {
        const char *host = client->addr.is_unix ? "localhost" : client->addr.host;
        if (rk__tls_new(&conn->base.tls, client->tls, host) != RK_OK) {
            rk__conn_doom(&conn->base);
            return;
        }
        rk__conn_start_tls(&conn->base);
    } else if (!rk__cconn_begin(conn)) {
        rk__conn_doom(&conn->base);
    }
}

static void
on_connect_timeout(uv_timer_t *timer)
{
    rk_rpc_client *client = timer->data;
    rk__cconn *conn = client->current;

    if (conn && !conn->greeted) {
        snprintf(conn->why, sizeof(conn->why), "no answer within %lld ms",
                 (long long)client->options.connect_timeout_ms);
        rk__conn_doom(&conn->base);
    } else if (client->resolving) {
        uv_cancel((uv_req_t *)&client->resolve);
    }
}

static rk__cconn *
cconn_new(rk_rpc_client *client)
{
    rk__cconn *conn = rk_alloc_zero(1, sizeof(*conn));

    if (conn) {
        rk__conn_init(&conn->base, client->loop, &cconn_ops);
        snprintf(conn->base.peer, sizeof(conn->base.peer), "%.60s", client->address);
        conn->client = client;
        conn->next = client->conns;
        if (conn->next) {
            conn->next->prev = conn;
        }
        client->conns = conn;
        client->current = conn;
    }
    return conn;
}

/* Connects to the next address of the list, or to the socket file. */
static void
connect_next(rk_rpc_client *client)
{
    rk__cconn *conn = cconn_new(client);
    int rc = 0;

    if (!conn) {
        attempt_failed(client, "no memory for a connection");
        return;
    }
    uv_timer_start(&client->timer, on_connect_timeout, (uint64_t)client->options.connect_timeout_ms,
                   0);
    if (client->addr.is_unix) {
        rc = uv_pipe_init(&client->loop->uv, &conn->base.io.pipe, 0);
        RK_ASSERT(rc == 0);
        rk__conn_link(&conn->base);
        client->addrs_at = client->addrs_len = 0;
        uv_pipe_connect(&conn->connect, &conn->base.io.pipe, client->addr.host, on_connected);
        return;
    }
    rc = uv_tcp_init(&client->loop->uv, &conn->base.io.tcp);
    RK_ASSERT(rc == 0);
    rk__conn_link(&conn->base);
    rc = uv_tcp_connect(&conn->connect, &conn->base.io.tcp,
                        (const struct sockaddr *)&client->addrs[client->addrs_at++], on_connected);
    if (rc != 0) {
        snprintf(conn->why, sizeof(conn->why), "%s", uv_strerror(rc));
        rk__conn_doom(&conn->base);
    }
}

/* ---- names ---- */

static void
on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    rk_rpc_client *client = RK_CONTAINER(req, rk_rpc_client, resolve);

    client->resolving = false;
    uv_timer_stop(&client->timer);
    if (client->closing) {
        uv_freeaddrinfo(list);
        rk__client_closed_check(client);
        return;
    }
    client->addrs_at = client->addrs_len = 0;
    for (struct addrinfo *at = list; at && client->addrs_len < RK__CLIENT_ADDRS_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen <= sizeof(client->addrs[0])) {
            memcpy(&client->addrs[client->addrs_len++], at->ai_addr, at->ai_addrlen);
        }
    }
    uv_freeaddrinfo(list);
    if (status != 0 || client->addrs_len == 0) {
        attempt_failed(client, status ? uv_strerror(status) : "the name has no address");
    } else {
        connect_next(client);
    }
}

/* Starts an attempt: from numbers at once, from a name after asking for it. */
static void
connect_first(rk_rpc_client *client)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
    char port[8];
    int rc;

    client->addrs_at = 0;
    client->addrs_len = 1;
    if (client->addr.is_unix ||
        uv_ip4_addr(client->addr.host, client->addr.port,
                    (struct sockaddr_in *)(void *)&client->addrs[0]) == 0 ||
        uv_ip6_addr(client->addr.host, client->addr.port,
                    (struct sockaddr_in6 *)(void *)&client->addrs[0]) == 0) {
        connect_next(client);
        return;
    }
    snprintf(port, sizeof(port), "%u", client->addr.port);
    rc = uv_getaddrinfo(&client->loop->uv, &client->resolve, on_resolved, client->addr.host, port,
                        &hints);
    if (rc != 0) {
        attempt_failed(client, uv_strerror(rc));
        return;
    }
    client->resolving = true;
    uv_timer_start(&client->timer, on_connect_timeout, (uint64_t)client->options.connect_timeout_ms,
                   0);
}

/* ---- what waits ---- */

void
rk__client_pump(rk_rpc_client *client)
{
    rk__cconn *conn = client->current;

    if (client->closing || !client->waiting_first) {
        return;
    }
    if (conn && conn->greeted && !conn->base.doomed) {
        while (client->waiting_first) {
            rk__ccall *call = client->waiting_first;
            rk__ccall_unqueue(call);
            rk__cconn_submit(conn, call);
        }
        rk__conn_dirty(&conn->base);
    } else if (!conn && !client->resolving && !client->backing_off) {
        connect_first(client);
    }
}

void
rk__client_ready(rk__cconn *conn)
{
    rk_rpc_client *client = conn->client;

    conn->greeted = true;
    if (client->current == conn) {
        if (client->failures > 0) {
            RK_LOG_I("rpc", "connected again address=%s", client->address);
        }
        client->failures = 0;
        uv_timer_stop(&client->timer);
        rk__client_pump(client);
    }
}

void
rk__client_leave(rk__cconn *conn)
{
    rk_rpc_client *client = conn->client;

    conn->leaving = true;
    if (conn->calm) { /* it took our pings for too many */
        client->keepalive_ns = RK_MIN(client->keepalive_ns * 2, INT64_C(600000000000));
    }
    if (client->current == conn) {
        client->current = NULL;
        if (!conn->greeted) {
            uv_timer_stop(&client->timer);
        }
    }
}

/* ---- the end ---- */

void
rk__client_closed_check(rk_rpc_client *client)
{
    if (!client->closing || client->conns || client->timer_open || client->resolving) {
        return;
    }
    rk_mutex_lock(&client->lock);
    client->closed = true;
    rk_cond_signal(&client->changed);
    rk_mutex_unlock(&client->lock);
}

static void
on_timer_closed(uv_handle_t *handle)
{
    rk_rpc_client *client = handle->data;

    client->timer_open = false;
    rk__client_closed_check(client);
}

void
rk__client_close(rk_rpc_client *client)
{
    client->closing = true;
    fail_waiting(client, "no call to", "the client was closed");
    for (rk__cconn *conn = client->conns; conn; conn = conn->next) {
        snprintf(conn->why, sizeof(conn->why), "the client was closed");
        rk__conn_doom(&conn->base);
    }
    if (client->resolving) {
        uv_cancel((uv_req_t *)&client->resolve);
    }
    uv_timer_stop(&client->timer);
    uv_close((uv_handle_t *)&client->timer, on_timer_closed);
}
