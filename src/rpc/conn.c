/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection as a pipe of bytes: reading, TLS in between, and the batched output.
 *
 * Writing: fill() gathers a batch in the loop's rk__out and one uv_try_write hands it to the
 * kernel. What the socket does not take becomes an rk__write: scratch bytes are copied, borrowed
 * bytes keep their owner's reference, and until it is done the protocol is not asked for more. That
 * is the whole of back-pressure.
 *
 * With a |sink| the connection has no socket: output is appended there and everything is taken at
 * once.
 */
#include <stdio.h>

#include "rpc/loop_private.h"

struct rk__write {
    uv_write_t req; /* req.data is the connection */
    unsigned n;
    unsigned owners_len;
    uv_buf_t *bufs;
    rk__hold **owners;
    uint8_t *bytes;
};

/* Most rounds of fill and write for one connection in one turn, so that a fast reader of a large
 * reply does not hold the loop: 64 x 1 MiB. */
#define FLUSH_ROUNDS 64

/* ---- the batch ---- */

size_t
rk__out_copy(rk__out *out, const void *data, size_t len)
{
    size_t room = RK__OUT_SCRATCH - out->scratch_len;
    uint8_t *to = out->scratch + out->scratch_len;

    len = RK_MIN(len, room);
    if (len == 0) {
        return 0;
    }
    if (out->n > 0 && !out->owner[out->n - 1] &&
        (uint8_t *)out->iov[out->n - 1].base + out->iov[out->n - 1].len == to) {
        out->iov[out->n - 1].len += len;
    } else if (out->n < RK__OUT_IOV) {
        out->iov[out->n].base = (char *)to;
        out->iov[out->n].len = len;
        out->owner[out->n] = NULL;
        out->n++;
    } else {
        return 0;
    }
    memcpy(to, data, len);
    out->scratch_len += len;
    out->bytes += len;
    return len;
}

bool
rk__out_ref(rk__out *out, const void *data, size_t len, rk__hold *owner)
{
    if (len == 0) {
        return true;
    }
    if (out->n >= RK__OUT_IOV) {
        return false;
    }
    out->iov[out->n].base = (char *)(uintptr_t)data;
    out->iov[out->n].len = len;
    out->owner[out->n] = owner;
    if (owner) {
        rk__hold_ref(owner);
    }
    out->n++;
    out->bytes += len;
    return true;
}

static void
out_release(rk__out *out)
{
    for (unsigned i = 0; i < out->n; i++) {
        if (out->owner[i]) {
            rk__hold_unref(out->owner[i]);
        }
    }
    out->n = 0;
    out->bytes = 0;
    out->scratch_len = 0;
}

/* ---- set-up ---- */

void
rk__conn_init(rk__conn *conn, rk__loop *loop, const rk__conn_ops *ops)
{
    memset(conn, 0, sizeof(*conn));
    conn->loop = loop;
    conn->ops = ops;
}

void
rk__conn_link(rk__conn *conn)
{
    rk__loop *loop = conn->loop;

    conn->io.handle.data = conn;
    conn->prev = NULL;
    conn->next = loop->conns;
    if (loop->conns) {
        loop->conns->prev = conn;
    }
    loop->conns = conn;
    loop->conns_len++;
    conn->linked = true;
    rk__loop_arm_sweep(loop);
}

static void
format_ip(char *out, size_t cap, const struct sockaddr_storage *address)
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        uv_ip6_name(in6, host, sizeof(host));
        snprintf(out, cap, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)address;
        uv_ip4_name(in4, host, sizeof(host));
        snprintf(out, cap, "%s:%u", host, ntohs(in4->sin_port));
    } else {
        snprintf(out, cap, "unknown");
    }
}

void
rk__conn_set_peer(rk__conn *conn)
{
    struct sockaddr_storage address;
    int len = sizeof(address);

    if (conn->io.handle.type != UV_TCP) {
        snprintf(conn->peer, sizeof(conn->peer), "unix");
    } else if (uv_tcp_getpeername(&conn->io.tcp, (struct sockaddr *)&address, &len) == 0) {
        format_ip(conn->peer, sizeof(conn->peer), &address);
    } else {
        snprintf(conn->peer, sizeof(conn->peer), "unknown");
    }
}

/* ---- marks ---- */

void
rk__conn_dirty(rk__conn *conn)
{
    if (!conn->dirty && !conn->destroyed) { /* a cancelled write still reports after the end */
        conn->dirty = true;
        conn->dirty_next = conn->loop->dirty;
        conn->loop->dirty = conn;
    }
}

void
rk__conn_doom(rk__conn *conn)
{
    conn->doomed = true;
    rk__conn_dirty(conn);
}

void
rk__conn_drain(rk__conn *conn)
{
    conn->draining = true;
    rk__conn_dirty(conn);
}

/* ---- reading ---- */

/* Plain bytes to the protocol. Length 0 is the end of the stream. */
static void
input_plain(rk__conn *conn, const uint8_t *data, size_t len)
{
    if (!conn->doomed && !conn->draining && !conn->ops->input(conn, data, len)) {
        rk__conn_read_stop(conn);
        rk__conn_drain(conn);
    }
}

static void
input_tls(rk__conn *conn, const uint8_t *data, size_t len)
{
    rk__loop *loop = conn->loop;
    bool was_ready = rk__tls_ready(conn->tls);

    if (!loop->plain_buffer) {
        loop->plain_buffer = rk_alloc(RK__READ_BUFFER);
    }
    if (!loop->plain_buffer || !rk__tls_add(conn->tls, data, len)) {
        rk__conn_doom(conn);
        return;
    }
    for (;;) {
        int n = rk__tls_read(conn->tls, loop->plain_buffer, RK__READ_BUFFER);
        if (!was_ready && rk__tls_ready(conn->tls)) {
            was_ready = true;
            if (conn->ops->secured) {
                conn->ops->secured(conn);
            }
        }
        if (n < 0) { /* the alert we may owe is still sent */
            input_plain(conn, NULL, 0);
            rk__conn_read_stop(conn);
            rk__conn_drain(conn);
            break;
        }
        if (n == 0 || conn->doomed) {
            break;
        }
        input_plain(conn, loop->plain_buffer, (size_t)n);
    }
    rk__conn_dirty(conn); /* handshake bytes, session tickets */
}

void
rk__conn_start_tls(rk__conn *conn)
{
    static const uint8_t nothing[1];

    input_tls(conn, nothing, 0);
}

void
rk__conn_feed(rk__conn *conn, const uint8_t *data, size_t len)
{
    if (conn->doomed || conn->draining) {
        return;
    }
    conn->bytes_in += len;
    if (conn->tls && len > 0) {
        input_tls(conn, data, len);
    } else {
        input_plain(conn, data, len);
    }
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    rk__conn *conn = handle->data;

    RK_UNUSED(suggested);
    *buf = uv_buf_init((char *)conn->loop->read_buffer, RK__READ_BUFFER);
}

static void
on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    rk__conn *conn = stream->data;

    if (nread > 0) {
        rk__conn_feed(conn, (const uint8_t *)buf->base, (size_t)nread);
    } else if (nread == UV_EOF) {
        rk__conn_read_stop(conn);
        rk__conn_feed(conn, NULL, 0);
    } else if (nread < 0) {
        rk__conn_doom(conn);
    }
}

void
rk__conn_read_start(rk__conn *conn)
{
    if (!conn->reading && !conn->sink && !conn->doomed && !conn->destroyed) {
        conn->reading = uv_read_start(&conn->io.stream, on_alloc, on_read) == 0;
        if (!conn->reading) {
            rk__conn_doom(conn);
        }
    }
}

void
rk__conn_read_stop(rk__conn *conn)
{
    if (conn->reading) {
        conn->reading = false;
        uv_read_stop(&conn->io.stream);
    }
}

/* ---- writing ---- */

static void
write_free(rk__write *write)
{
    for (unsigned i = 0; i < write->owners_len; i++) {
        rk__hold_unref(write->owners[i]);
    }
    rk_free(write);
}

static void
on_written(uv_write_t *req, int status)
{
    rk__write *write = RK_CONTAINER(req, rk__write, req);
    rk__conn *conn = req->data;

    conn->writing = NULL;
    write_free(write);
    if (status < 0) {
        rk__conn_doom(conn);
    } else {
        conn->wrote_ns = rk__loop_now(conn->loop);
        rk__conn_dirty(conn);
    }
}

/* Takes over what is left of |out| after |sent| bytes. False: memory is out or the socket is
 * broken. */
static bool
write_rest(rk__conn *conn, rk__out *out, size_t sent)
{
    unsigned first = 0;
    size_t copied = 0;
    size_t size;
    rk__write *write;
    uint8_t *to;

    while (first < out->n && sent >= out->iov[first].len) {
        sent -= out->iov[first].len;
        first++;
    }
    out->iov[first].base += sent;
    out->iov[first].len -= sent;
    for (unsigned i = first; i < out->n; i++) {
        copied += out->owner[i] ? 0 : out->iov[i].len;
    }
    size = sizeof(*write) + (sizeof(uv_buf_t) + sizeof(rk__hold *)) * (out->n - first) + copied;
    write = rk_alloc(size);
    if (!write) {
        return false;
    }
    write->n = out->n - first;
    write->owners_len = 0;
    write->bufs = (uv_buf_t *)(void *)(write + 1);
    write->owners = (rk__hold **)(void *)(write->bufs + write->n);
    write->bytes = to = (uint8_t *)(write->owners + write->n);
    for (unsigned i = first; i < out->n; i++) {
        write->bufs[i - first] = out->iov[i];
        if (out->owner[i]) {
            rk__hold_ref(out->owner[i]);
            write->owners[write->owners_len++] = out->owner[i];
        } else {
            memcpy(to, out->iov[i].base, out->iov[i].len);
            write->bufs[i - first].base = (char *)to;
            to += out->iov[i].len;
        }
    }
    write->req.data = conn;
    if (uv_write(&write->req, &conn->io.stream, write->bufs, write->n, on_written) != 0) {
        write_free(write);
        return false;
    }
    conn->writing = write;
    conn->wrote_ns = rk__loop_now(conn->loop);
    return true;
}

/* Replaces the plain batch by its ciphertext, which stays inside the TLS object until it was sent.
 */
static bool
encrypt(rk__conn *conn, rk__out *out)
{
    bool ok = true;
    rk_str cipher;

    for (unsigned i = 0; ok && i < out->n; i++) {
        ok = rk__tls_write(conn->tls, out->iov[i].base, out->iov[i].len);
    }
    out_release(out);
    cipher = rk__tls_pending(conn->tls);
    return ok && rk__out_ref(out, cipher.data, cipher.len, NULL);
}

/* Sends one batch. False: stop for this turn. */
static bool
send_batch(rk__conn *conn, rk__out *out)
{
    size_t bytes = out->bytes;
    size_t sent;
    bool ok = true;

    if (conn->sink) {
        for (unsigned i = 0; i < out->n; i++) {
            rk_buf_append(conn->sink, out->iov[i].base, out->iov[i].len);
        }
        sent = bytes;
    } else {
        int n = uv_try_write(&conn->io.stream, out->iov, out->n);
        if (n < 0 && n != UV_EAGAIN) {
            rk__conn_doom(conn);
            return false;
        }
        sent = n > 0 ? (size_t)n : 0;
        if (sent < bytes && !write_rest(conn, out, sent)) {
            rk__conn_doom(conn);
            ok = false;
        }
    }
    conn->bytes_out += bytes;
    if (conn->tls) {
        rk__tls_sent(conn->tls, bytes);
    }
    return ok && sent == bytes;
}

static void
conn_flush(rk__conn *conn)
{
    rk__out *out = &conn->loop->out;
    bool more = true;

    for (int round = 0; !conn->writing && !conn->doomed && more; round++) {
        bool whole = true;
        if (round == FLUSH_ROUNDS) { /* the others first; the wake-up keeps poll from sleeping */
            rk__conn_dirty(conn);
            uv_async_send(&conn->loop->async);
            return;
        }
        more = (!conn->tls || rk__tls_ready(conn->tls)) && conn->ops->fill(conn, out);
        if (conn->tls && !encrypt(conn, out)) {
            rk__conn_doom(conn);
        } else if (out->bytes > 0) {
            whole = send_batch(conn, out);
        }
        out_release(out);
        if (!whole) {
            return;
        }
    }
    if (!conn->writing && !more && (conn->draining || conn->ops->finished(conn))) {
        rk__conn_doom(conn);
    }
}

/* ---- the end ---- */

static void
on_closed(uv_handle_t *handle)
{
    rk__conn *conn = handle->data;

    conn->ops->freed(conn);
}

static void
conn_destroy(rk__conn *conn)
{
    rk__loop *loop = conn->loop;

    if (conn->destroyed) {
        return;
    }
    conn->destroyed = true;
    rk__conn_read_stop(conn);
    conn->ops->closed(conn);
    if (conn->linked) {
        *(conn->prev ? &conn->prev->next : &loop->conns) = conn->next;
        if (conn->next) {
            conn->next->prev = conn->prev;
        }
        loop->conns_len--;
    }
    rk__tls_free(conn->tls);
    conn->tls = NULL;
    if (conn->sink) {
        conn->ops->freed(conn);
    } else {
        uv_close(&conn->io.handle, on_closed);
    }
}

void
rk__loop_flush(rk__loop *loop)
{
    rk__conn *list = loop->dirty;

    /* What becomes dirty meanwhile waits for the next flush: prepare follows check before the loop
     * sleeps. */
    while (list) {
        loop->dirty = NULL;
        while (list) {
            rk__conn *conn = list;
            list = conn->dirty_next;
            conn->dirty = false;
            if (!conn->doomed) {
                conn_flush(conn);
            }
            if (conn->doomed && !conn->dirty) {
                conn_destroy(conn);
            }
        }
        list = NULL;
        for (rk__conn *conn = loop->dirty; conn; conn = conn->dirty_next) {
            if (conn->doomed) { /* doomed by this flush: no need to wait for a turn */
                list = loop->dirty;
                break;
            }
        }
    }
}
