/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/2 session of a client connection. Loop thread.
 *
 * Request messages are sent from the caller's memory (NGHTTP2_DATA_FLAG_NO_COPY above 4 KiB); what
 * the socket does not take at once is copied by the connection, so a cancelled call can leave at
 * any time. Replies are gathered into the caller's arena, in one piece, sized by the message
 * prefix.
 *
 * A stream the server did not process (GOAWAY, REFUSED_STREAM) is sent again once, on the next
 * connection.
 */
#include <stdio.h>

#include "rpc/client_private.h"

#define COPY_MAX      ((size_t)4096)
#define STREAM_WINDOW (16 << 20)
#define CONN_WINDOW   (64 << 20)
#define PING_WAIT_MIN INT64_C(2000000000)

/* ---- streams ---- */

static rk__cstream *
stream_new(rk__cconn *conn, rk__ccall *call)
{
    rk__cstream *stream = rk_alloc_zero(1, sizeof(*stream));

    if (stream) {
        stream->call = call;
        stream->conn = conn;
        stream->next = conn->streams;
        if (stream->next) {
            stream->next->prev = stream;
        }
        conn->streams = stream;
    }
    return stream;
}

static void
stream_free(rk__cstream *stream)
{
    *(stream->prev ? &stream->prev->next : &stream->conn->streams) = stream->next;
    if (stream->next) {
        stream->next->prev = stream->prev;
    }
    rk_free(stream);
}

/* Ends the stream's call with |code|; its sentence is written already. */
static void
stream_finish(rk__cstream *stream, rk_code code)
{
    rk__ccall *call = stream->call;

    stream->call = NULL;
    if (call) {
        call->stream = NULL;
        rk__ccall_finish(call, code);
    }
}

void
rk__cconn_cancel(rk__cstream *stream)
{
    rk__cconn *conn = stream->conn;

    stream->call = NULL;
    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
    rk__conn_dirty(&conn->base);
}

/* A failure we found ourselves: tells the server and the caller. */
static void
stream_fail(rk__cstream *stream, rk_code code)
{
    stream_finish(stream, code);
    rk__cconn_cancel(stream);
}

/* The whole answer is in: what the call returns. */
static rk_code
judge(rk__ccall *call, const char *address)
{
    bool complete = rk__grpc_prefix_done(&call->prefix) &&
                    call->reply_len == rk__grpc_prefix_size(&call->prefix);
    rk_code code;

    if (call->status < 0 && call->http_status != 200) {
        code = call->http_status == 401   ? RK_EUNAUTHENTICATED
               : call->http_status == 403 ? RK_EPERMISSION
               : call->http_status == 404 ? RK_EUNIMPLEMENTED
                                          : RK_EUNAVAILABLE;
        return rk_fail(call->err, code, "%s answered HTTP status %d", address, call->http_status);
    }
    if (call->status < 0) {
        return rk_fail(call->err, RK_EUNAVAILABLE, "%s ended the call without a status", address);
    }
    if (call->status == 0) {
        return complete ? RK_OK
                        : rk_fail(call->err, RK_EINTERNAL, "%s answered success without a message",
                                  address);
    }
    code = call->code ? rk_code_from_number(call->code) : rk__grpc_status_to_code(call->status);
    rk_fail(call->err, code, "%s", call->text);
    if (call->err) {
        call->err->input = call->code ? call->input : call->err->input;
    }
    return code;
}

/* Queues the stream's call again, once; false when it was retried before or the client is closing.
 */
static bool
stream_retry(rk__cstream *stream)
{
    rk__ccall *call = stream->call;
    rk_rpc_client *client = stream->conn->client;

    if (call->retried || client->closing) {
        return false;
    }
    call->retried = true;
    call->stream = NULL;
    stream->call = NULL;
    rk__ccall_queue(call, true);
    rk__client_pump(client);
    return true;
}

static int
on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    RK_UNUSED(user);
    if (frame->hd.type == NGHTTP2_HEADERS) {
        rk__cstream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (stream) {
            stream->on_wire = true;
        }
    }
    return 0;
}

/* A request that was queued inside the session when the server's GOAWAY came. */
static int
on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    rk__cconn *conn = user;
    rk__cstream *stream = conn->streams;

    RK_UNUSED(session);
    while (stream && stream->id != frame->hd.stream_id) {
        stream = stream->next;
    }
    if (frame->hd.type != NGHTTP2_HEADERS || !stream) {
        return 0;
    }
    stream->unsent = true;
    if (stream->call && !stream_retry(stream)) {
        rk_fail(stream->call->err, RK_EUNAVAILABLE, "cannot call %s: %s", conn->client->address,
                nghttp2_strerror(error));
        stream_finish(stream, RK_EUNAVAILABLE);
    }
    return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user)
{
    rk__cconn *conn = user;
    rk__cstream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    rk__ccall *call = stream ? stream->call : NULL;

    if (!stream) {
        return 0;
    }
    if (call && call->status < 0 && (error_code == NGHTTP2_REFUSED_STREAM || !stream->on_wire) &&
        stream_retry(stream)) {
        /* it never reached a handler */
    } else if (call && call->status < 0 && error_code != NGHTTP2_NO_ERROR) {
        rk_fail(call->err, RK_EUNAVAILABLE, "%s reset the call: %s", conn->client->address,
                nghttp2_http2_strerror(error_code));
        stream_finish(stream, RK_EUNAVAILABLE);
    } else if (call) {
        stream_finish(stream, judge(call, conn->client->address));
    }
    stream_free(stream);
    return 0;
}

void
rk__cconn_drop_streams(rk__cconn *conn)
{
    if (conn->session) {
        nghttp2_session_del(conn->session);
        conn->session = NULL;
    }
    while (conn->streams) {
        rk__cstream *stream = conn->streams;
        if (stream->call) {
            rk_fail(stream->call->err, RK_EUNAVAILABLE, "the connection to %s was lost: %s",
                    conn->client->address, conn->why[0] ? conn->why : "closed by the peer");
            stream_finish(stream, RK_EUNAVAILABLE);
        }
        stream_free(stream);
    }
}

/* ---- receiving ---- */

static void
take_header(rk__ccall *call, rk_str name, rk_str value)
{
    int64_t number = 0;

    if (rk_str_is(name, ":status")) {
        call->http_status = rk_str_to_i64(value, &number) ? (int32_t)number : 0;
    } else if (rk_str_is(name, "grpc-status")) {
        call->status =
            rk_str_to_i64(value, &number) && number >= 0 && number <= 16 ? (int32_t)number : 2;
    } else if (rk_str_is(name, "grpc-message")) {
        char decoded[3 * RK_ERR_TEXT_MAX];
        size_t len;
        value.len = RK_MIN(value.len, sizeof(decoded));
        len = RK_MIN(rk__grpc_text_decode(decoded, value), sizeof(call->text) - 1);
        memcpy(call->text, decoded, len);
        call->text[len] = '\0';
    } else if (rk_str_is(name, "rk-code")) {
        call->code = rk_str_to_i64(value, &number) && number > 0 && number <= INT32_MAX
                         ? (int32_t)number
                         : 0;
    } else if (rk_str_is(name, "rk-input")) {
        call->input = true;
    } else if (rk_str_is(name, "grpc-encoding")) {
        call->gzip = rk_str_is(value, "gzip") || rk_str_is(value, "deflate");
    }
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
          size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    rk__cstream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    RK_UNUSED(flags);
    RK_UNUSED(user);
    if (stream && stream->call) {
        take_header(stream->call, (rk_str){(const char *)name, name_len},
                    (rk_str){(const char *)value, value_len});
    }
    return 0;
}

/* The prefix is complete: room for the message in the caller's arena. */
static bool
begin_reply(rk__cstream *stream)
{
    rk__ccall *call = stream->call;
    rk_rpc_client *client = stream->conn->client;
    uint32_t size = rk__grpc_prefix_size(&call->prefix);

    if (size > client->options.message_size_max) {
        rk_fail(call->err, RK_ETOO_LARGE, "%s answered with %u bytes, more than the %zu accepted",
                client->address, size, client->options.message_size_max);
        stream_fail(stream, RK_ETOO_LARGE);
        return false;
    }
    call->reply = rk_arena_alloc(call->arena, RK_MAX((size_t)size, (size_t)1));
    if (!call->reply) {
        rk_fail(call->err, RK_ENOMEM, "no memory for a reply of %u bytes from %s", size,
                client->address);
        stream_fail(stream, RK_ENOMEM);
        return false;
    }
    return true;
}

static bool
inflate_reply(rk__cstream *stream)
{
    rk__ccall *call = stream->call;
    rk_rpc_client *client = stream->conn->client;
    size_t limit = rk__inflate_limit(call->reply_len, client->options.message_size_max);
    uint8_t *out = NULL;
    size_t len = 0;
    uint8_t *copy = NULL;

    if (call->gzip &&
        rk__inflate(&out, &len, call->reply, call->reply_len, limit) == RK__INFLATE_OK) {
        copy = rk_arena_alloc(call->arena, RK_MAX(len, (size_t)1));
    }
    if (copy) {
        memcpy(copy, out, len);
        call->reply = copy;
        call->reply_len = len;
        rk__grpc_prefix_put(call->prefix.bytes, len); /* as if it had come plain */
    }
    rk_free(out);
    if (!copy) {
        rk_fail(call->err, RK_EINTERNAL,
                "%s answered with a compressed message that cannot be read", client->address);
        stream_fail(stream, RK_EINTERNAL);
    }
    return copy != NULL;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
        void *user)
{
    rk__cstream *stream = nghttp2_session_get_stream_user_data(session, stream_id);
    rk__ccall *call = stream ? stream->call : NULL;
    size_t take;

    RK_UNUSED(flags);
    RK_UNUSED(user);
    if (!call) {
        return 0;
    }
    if (!rk__grpc_prefix_done(&call->prefix)) {
        take = rk__grpc_prefix_feed(&call->prefix, data, len);
        data += take;
        len -= take;
        if (!rk__grpc_prefix_done(&call->prefix) || !begin_reply(stream)) {
            return 0;
        }
    }
    take = rk__grpc_prefix_size(&call->prefix) - call->reply_len;
    if (len > take) {
        rk_fail(call->err, RK_EINTERNAL, "%s answered with more than one message",
                stream->conn->client->address);
        stream_fail(stream, RK_EINTERNAL);
        return 0;
    }
    if (len > 0) {
        memcpy(call->reply + call->reply_len, data, len);
        call->reply_len += len;
    }
    if (len == take && rk__grpc_prefix_flag(&call->prefix) != 0) {
        inflate_reply(stream);
    }
    return 0;
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rk__cconn *conn = user;

    RK_UNUSED(session);
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !conn->greeted) {
            rk__client_ready(conn);
        }
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            conn->pinged_ns = 0;
        }
        break;
    case NGHTTP2_GOAWAY:
        conn->calm = frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM;
        snprintf(conn->why, sizeof(conn->why), "the peer said GOAWAY (%s)",
                 nghttp2_http2_strerror(frame->goaway.error_code));
        rk__client_leave(conn); /* nghttp2 now closes what was not processed as refused */
        break;
    default:
        break;
    }
    return 0;
}

bool
rk__cconn_input(rk__conn *base, const uint8_t *data, size_t len)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    ssize_t n;

    if (len == 0 || !conn->session) {
        return false;
    }
    n = nghttp2_session_mem_recv(conn->session, data, len);
    if (n < 0) {
        snprintf(conn->why, sizeof(conn->why), "not HTTP/2: %s", nghttp2_strerror((int)n));
        return false;
    }
    rk__conn_dirty(base);
    if (conn->leaving) {
        rk__client_pump(conn->client);
    }
    return true;
}

/* ---- sending ---- */

static ssize_t
read_data(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
          nghttp2_data_source *source, void *user)
{
    rk__cstream *stream = source->ptr;
    rk__ccall *call = stream->call;
    size_t total, take;

    RK_UNUSED(session);
    RK_UNUSED(stream_id);
    RK_UNUSED(user);
    if (!call) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    total = call->message.len + RK__GRPC_PREFIX;
    take = RK_MIN(len, total - stream->sent);
    if (stream->sent + take == total) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    if (total > COPY_MAX) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        return (ssize_t)take;
    }
    for (size_t done = 0; done < take;) {
        uint8_t prefix[RK__GRPC_PREFIX];
        size_t part;
        if (stream->sent < RK__GRPC_PREFIX) {
            part = RK_MIN(take - done, RK__GRPC_PREFIX - stream->sent);
            rk__grpc_prefix_put(prefix, call->message.len);
            memcpy(buf + done, prefix + stream->sent, part);
        } else {
            part = take - done;
            memcpy(buf + done, call->message.data + stream->sent - RK__GRPC_PREFIX, part);
        }
        stream->sent += part;
        done += part;
    }
    return (ssize_t)take;
}

static int
send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd, size_t length,
          nghttp2_data_source *source, void *user)
{
    rk__cconn *conn = user;
    rk__out *out = conn->out;
    rk__cstream *stream = source->ptr;
    rk__ccall *call = stream->call;

    RK_UNUSED(session);
    RK_UNUSED(frame);
    if (!call) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (!rk__out_has_room(out, 2, 9 + RK__GRPC_PREFIX)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    rk__out_copy(out, framehd, 9);
    if (stream->sent < RK__GRPC_PREFIX) {
        uint8_t prefix[RK__GRPC_PREFIX];
        size_t part = RK_MIN(length, RK__GRPC_PREFIX - stream->sent);
        rk__grpc_prefix_put(prefix, call->message.len);
        rk__out_copy(out, prefix + stream->sent, part);
        stream->sent += part;
        length -= part;
    }
    if (length > 0) {
        rk__out_ref(out, call->message.data + stream->sent - RK__GRPC_PREFIX, length, NULL);
        stream->sent += length;
    }
    return 0;
}

static ssize_t
send_bytes(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *user)
{
    rk__cconn *conn = user;
    size_t took = rk__out_copy(conn->out, data, len);

    RK_UNUSED(session);
    RK_UNUSED(flags);
    return took > 0 ? (ssize_t)took : (ssize_t)NGHTTP2_ERR_WOULDBLOCK;
}

bool
rk__cconn_fill(rk__conn *base, rk__out *out)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    size_t before = out->bytes;
    int rc;

    if (!conn->session) {
        return false;
    }
    conn->out = out;
    rc = nghttp2_session_send(conn->session);
    conn->out = NULL;
    if (rc != 0) {
        rk__conn_doom(base);
        return false;
    }
    return out->bytes > before && !rk__out_has_room(out, 2, 64 + RK__GRPC_PREFIX);
}

bool
rk__cconn_finished(rk__conn *base)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    bool busy = false;

    if (!conn->session || nghttp2_session_want_write(conn->session)) {
        return false;
    }
    for (const rk__cstream *s = conn->streams; conn->leaving && s && !busy; s = s->next) {
        busy = !s->unsent;
    }
    return (conn->leaving && !busy) || !nghttp2_session_want_read(conn->session);
}

static nghttp2_nv
nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), 0};
}

bool
rk__cconn_submit(rk__cconn *conn, rk__ccall *call)
{
    nghttp2_nv head[8 + RK__CLIENT_HEADERS_MAX];
    rk__cstream *stream = stream_new(conn, call);
    nghttp2_data_provider data = {{.ptr = stream}, read_data};
    char timeout[16];
    size_t n = 0;

    if (!stream) {
        rk__ccall_finish(call, rk_fail(call->err, RK_ENOMEM, "no memory for a call to %s",
                                       conn->client->address));
        return false;
    }
    head[n++] = nv(":method", "POST");
    head[n++] = nv(":scheme", conn->client->tls ? "https" : "http");
    head[n++] = nv(":path", call->path);
    head[n++] = nv(":authority", conn->client->addr.is_unix ? "localhost" : conn->client->address);
    head[n++] = nv("content-type", "application/grpc");
    head[n++] = nv("te", "trailers");
    head[n++] = nv("grpc-accept-encoding", "identity,deflate,gzip");
    if (call->deadline_ns != INT64_MAX) {
        rk__grpc_timeout_format(timeout, call->deadline_ns - rk__loop_now(conn->base.loop));
        head[n++] = nv("grpc-timeout", timeout);
        head[n - 1].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    }
    for (size_t i = 0;
         call->headers && call->headers[i] && call->headers[i + 1] && n < RK_COUNT(head); i += 2) {
        head[n++] = nv(call->headers[i], call->headers[i + 1]);
    }
    stream->id = nghttp2_submit_request(conn->session, NULL, head, n, &data, stream);
    if (stream->id < 0) { /* stream ids are used up, or memory is: a new connection may do */
        int32_t rc = stream->id;
        stream_free(stream);
        rk__ccall_finish(call, rk_fail(call->err, RK_EUNAVAILABLE, "cannot call %s: %s",
                                       conn->client->address, nghttp2_strerror(rc)));
        if (rc == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) {
            rk__client_leave(conn);
        }
        return false;
    }
    call->stream = stream;
    return true;
}

/* ---- session ---- */

static nghttp2_session_callbacks *
make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks = NULL;

    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    nghttp2_session_callbacks_set_send_callback(callbacks, send_bytes);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    return callbacks;
}

bool
rk__cconn_begin(rk__cconn *conn)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
    };
    nghttp2_session_callbacks *callbacks = make_callbacks();
    bool ok = callbacks && nghttp2_session_client_new(&conn->session, callbacks, conn) == 0;

    nghttp2_session_callbacks_del(callbacks);
    if (!ok) {
        conn->session = NULL;
        snprintf(conn->why, sizeof(conn->why), "no memory for a session");
        return false;
    }
    conn->seen_ns = rk__loop_now(conn->base.loop);
    ok = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, RK_COUNT(settings)) ==
             0 &&
         nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) ==
             0;
    rk__conn_dirty(&conn->base);
    return ok;
}

void
rk__cconn_sweep(rk__conn *base, int64_t now_ns)
{
    rk__cconn *conn = RK_CONTAINER(base, rk__cconn, base);
    int64_t keepalive_ns = conn->client->keepalive_ns;

    if (!conn->session || keepalive_ns <= 0) {
        return;
    }
    if (base->bytes_in != conn->seen_bytes) { /* anything received proves the peer alive */
        conn->seen_bytes = base->bytes_in;
        conn->seen_ns = now_ns;
        conn->pinged_ns = 0;
    } else if (conn->pinged_ns != 0) {
        if (now_ns - conn->pinged_ns >= RK_MAX(keepalive_ns, PING_WAIT_MIN)) {
            snprintf(conn->why, sizeof(conn->why), "no answer to a keepalive ping");
            rk__conn_doom(base);
        }
    } else if (now_ns - conn->seen_ns >= keepalive_ns) {
        conn->pinged_ns = now_ns;
        nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
        rk__conn_dirty(base);
    }
}
