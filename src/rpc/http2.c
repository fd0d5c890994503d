/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 connections of the server: nghttp2 callbacks in, calls out, and what keeps a hostile peer
 * cheap.
 *
 * Flow control is by hand. Bytes of a stream whose message was granted its buffer are consumed at
 * once, and a message larger than the first window gets a window of its own size (16 MiB at most),
 * so a large insert never waits for round trips. Bytes of a stream that waits for the budget are
 * not consumed; on the connection's window they are held back only while no granted message of this
 * connection is incomplete, because that one must be able to finish.
 *
 * Limits: see the buckets below. Resets by the client count only while the call was in flight
 * (cancelling after the answer is normal); resets we send have a bucket of their own. PINGs are
 * answered, thousands a second are not.
 *
 * Sending: http2_send.c. Loop thread throughout.
 */
#include "rpc/http2_private.h"

/* ---- requests ---- */

static rk_call *
stream_call(rk__h2 *h2, int32_t stream_id)
{
    if (h2->last_call && h2->last_call->stream_id == stream_id) {
        return h2->last_call;
    }
    return nghttp2_session_get_stream_user_data(h2->session, stream_id);
}

/* Ends the connection, telling why. */
static void
abuse(rk__sconn *conn, const char *why)
{
    rk__h2 *h2 = conn->h2;

    if (!h2->terminated) {
        h2->terminated = true;
        atomic_fetch_add_explicit(&conn->core->refused_total, 1, memory_order_relaxed);
        nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
        RK_LOG_W("rpc", "closed an abusive connection peer=%s reason=\"%s\"", conn->base.peer, why);
    }
}

static int64_t
now_of(const rk__sconn *conn)
{
    return rk__loop_now(conn->base.loop);
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rk__sconn *conn = user;
    rk__h2 *h2 = conn->h2;
    rk_call *call;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    call = rk__call_new(conn, frame->hd.stream_id);
    if (!call) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    h2->last_call = call;
    if (h2->head_since_ns == 0) {
        h2->head_since_ns = now_of(conn);
    }
    return 0;
}

static bool
take_pseudo(rk_call *call, rk_str name, rk_str value)
{
    switch (name.data[1]) {
    case 'm':
        if (rk_str_is(value, "POST")) {
            call->method = RK_STR("POST");
            return true;
        }
        call->method = rk__call_text(call, value);
        call->is_head = rk_str_is(value, "HEAD");
        return call->method.data != NULL;
    case 'p':
        return rk__call_set_target(call, value);
    case 'a':
        return rk__call_add_header(call, RK_STR("host"), value);
    default:
        return true; /* :scheme */
    }
}

static bool
take_header(rk_call *call, rk_str name, rk_str value)
{
    rk__header *added;

    if (name.len > 1 && name.data[0] == ':') {
        return take_pseudo(call, name, value);
    }
    if (!rk__call_add_header(call, name, value)) {
        return false;
    }
    added = &call->headers[call->headers_len - 1];
    if (rk_str_is(name, "content-type")) {
        call->content_type = added->value;
    } else if (rk_str_is(name, "grpc-encoding")) {
        call->encoding = added->value;
    } else if (rk_str_is(name, "grpc-timeout")) {
        int64_t timeout;
        if (rk__grpc_timeout_parse(value, &timeout)) {
            int64_t now = rk__loop_now(call->conn->base.loop);
            call->deadline_ns = timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
        }
    } else if (rk_str_is(name, "content-length")) {
        uint64_t length;
        if (rk_str_to_u64(value, &length) && length <= INT64_MAX) {
            call->content_length = (int64_t)length;
        }
    }
    return true;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
          size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    rk__sconn *conn = user;
    rk_call *call = stream_call(conn->h2, frame->hd.stream_id);

    RK_UNUSED(session);
    RK_UNUSED(flags);
    if (!call) {
        return 0;
    }
    call->header_bytes += name_len + value_len + 32;
    if (call->header_bytes > conn->core->options.header_bytes_max) {
        call->refused_header = true;
        return 0;
    }
    if (call->head_done) { /* trailers of a request carry nothing for us */
        return 0;
    }
    if (!take_header(call, (rk_str){(const char *)name, name_len},
                     (rk_str){(const char *)value, value_len})) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

static bool
is_known_encoding(rk_str encoding)
{
    return encoding.len == 0 || rk_str_is(encoding, "identity") || rk_str_is(encoding, "gzip") ||
           rk_str_is(encoding, "deflate");
}

/* An HTTP body of known length gets its whole buffer; one of unknown length grows as it comes. */
static void
begin_http_body(rk__sconn *conn, rk_call *call)
{
    if (call->content_length > 0 &&
        (uint64_t)call->content_length > conn->core->options.message_size_max) {
        rk__call_fail_early(call, 0, 413, "the body is larger than this server accepts");
    } else if (call->content_length > 0 && rk__call_claim(call, (uint64_t)call->content_length)) {
        rk__h2_granted(conn, call);
    }
}

static void
on_request_head(rk__sconn *conn, rk_call *call, bool ended)
{
    conn->h2->head_since_ns = 0;
    call->head_done = true;
    call->remote_ended = ended;
    call->grpc = rk__grpc_is_content_type(call->content_type);
    call->mark_ns = now_of(conn);
    call->mark_in = conn->base.bytes_in;
    call->receiving = true;
    if (call->refused_header) {
        rk__call_fail_early(call, 8, 431, "the request headers are too large");
    } else if (call->grpc && !rk_str_is(call->method, "POST")) {
        call->grpc = false;
        rk__call_fail_early(call, 0, 405, "gRPC calls are POST requests");
    } else if (call->grpc && !is_known_encoding(call->encoding)) {
        rk__call_fail_early(call, 12, 0,
                            "grpc-encoding: only identity, gzip and deflate are known");
    } else if (!call->grpc && !ended) {
        begin_http_body(conn, call);
    }
}

/* The request is complete. */
static void
on_request_end(rk_call *call)
{
    call->remote_ended = true;
    if (call->dropping || call->dispatched) {
        return;
    }
    if (!call->grpc) {
        if (!call->waiting) {
            rk__call_dispatch(call);
        }
        return;
    }
    if (!rk__grpc_prefix_done(&call->prefix)) {
        rk__call_fail_early(call, call->prefix.len ? 13 : 12, 0,
                            "a unary call carries exactly one message, none came");
    } else if (call->waiting) {
        return; /* goes on when granted */
    } else if (call->body_len < rk__grpc_prefix_size(&call->prefix)) {
        rk__call_fail_early(call, 13, 0, "the request ended inside its message");
    } else if (rk__grpc_prefix_flag(&call->prefix) == 1) {
        rk__call_inflate(call);
    } else {
        rk__call_dispatch(call);
    }
}

/* ---- bodies and windows ---- */

/* Gives back connection window that waiting streams held, since a granted message needs it. */
static void
release_held(rk__sconn *conn)
{
    rk__h2 *h2 = conn->h2;

    if (h2->held_bytes == 0) {
        return;
    }
    for (rk_call *call = conn->calls; call; call = call->next) {
        call->held_conn = 0;
    }
    nghttp2_session_consume_connection(h2->session, h2->held_bytes);
    h2->held_bytes = 0;
    rk__conn_dirty(&conn->base);
}

static bool
is_incomplete(const rk_call *call)
{
    return call->receiving && !call->waiting &&
           (call->grpc ? rk__grpc_prefix_done(&call->prefix) : call->content_length > 0);
}

static bool
any_incomplete(const rk__sconn *conn)
{
    for (const rk_call *call = conn->calls; call; call = call->next) {
        if (is_incomplete(call)) {
            return true;
        }
    }
    return false;
}

/* Room for |size| bytes was granted: buffer, and a window that lets it come without pauses. */
static bool
open_window(rk__sconn *conn, rk_call *call, size_t size)
{
    if (!rk__call_body_reserve(call, size)) {
        rk__call_fail_early(call, 8, 507, "no memory for the request message");
        return false;
    }
    if (size > RK__STREAM_WINDOW) {
        nghttp2_session_set_local_window_size(
            conn->h2->session, NGHTTP2_FLAG_NONE, call->stream_id,
            (int32_t)RK_MIN(size + 4096, (size_t)RK__STREAM_WINDOW_MAX));
        rk__conn_dirty(&conn->base);
    }
    release_held(conn);
    return true;
}

void
rk__h2_granted(rk__sconn *conn, rk_call *call)
{
    size_t size = call->grpc ? rk__grpc_prefix_size(&call->prefix) : (size_t)call->content_length;
    size_t have = call->body_len;

    call->mark_ns = now_of(conn);
    call->mark_in = conn->base.bytes_in;
    call->mark_bytes = have;
    if (!open_window(conn, call, size)) {
        return;
    }
    if (have > 0) { /* held back while it waited */
        nghttp2_session_consume_stream(conn->h2->session, call->stream_id, have);
    }
    if (call->remote_ended && !call->dispatched) {
        on_request_end(call);
    }
    rk__conn_dirty(&conn->base);
}

/* The prefix is complete: checks it and asks for the buffer. False when the call failed. */
static bool
begin_message(rk__sconn *conn, rk_call *call)
{
    uint32_t size = rk__grpc_prefix_size(&call->prefix);
    uint8_t flag = rk__grpc_prefix_flag(&call->prefix);
    char text[128];

    if (size > conn->core->options.message_size_max) {
        snprintf(text, sizeof(text), "grpc: received message larger than max (%u vs. %zu)", size,
                 conn->core->options.message_size_max);
        rk__call_fail_early(call, 8, 0, text);
        return false;
    }
    if (flag > 1 ||
        (flag == 1 && (call->encoding.len == 0 || rk_str_is(call->encoding, "identity")))) {
        rk__call_fail_early(call, 13, 0,
                            "the message is flagged compressed without a grpc-encoding");
        return false;
    }
    if (!rk__call_claim(call, size)) {
        return true;
    }
    return open_window(conn, call, size);
}

/* Parks bytes of a waiting call; it is refused when the process holds too many of those. */
static void
park(rk__sconn *conn, rk_call *call, size_t len)
{
    rk__budget *budget = &conn->core->budget;
    uint64_t limit = RK_MAX(budget->max / 4, (uint64_t)16 << 20);
    uint64_t parked = atomic_fetch_add_explicit(&budget->parked, len, memory_order_relaxed) + len;

    call->parked += len;
    if (parked > limit) {
        rk__call_fail_early(call, 14, 503, "too many request bytes in flight, please retry later");
    }
}

static void
feed_grpc(rk__sconn *conn, rk_call *call, const uint8_t *data, size_t len)
{
    size_t take;

    if (!rk__grpc_prefix_done(&call->prefix)) {
        take = rk__grpc_prefix_feed(&call->prefix, data, len);
        data += take;
        len -= take;
        if (!rk__grpc_prefix_done(&call->prefix) || !begin_message(conn, call)) {
            return;
        }
    }
    take = RK_MIN(len, rk__grpc_prefix_size(&call->prefix) - call->body_len);
    if (take < len) {
        rk__call_fail_early(call, 12, 0, "a unary call carries exactly one message, more came");
    } else if (!rk__call_body_append(call, data, take)) {
        rk__call_fail_early(call, 8, 0, "no memory for the request message");
    } else if (call->waiting) {
        park(conn, call, take);
    }
}

static void
feed_http(rk__sconn *conn, rk_call *call, const uint8_t *data, size_t len)
{
    if (call->content_length < 0) { /* unknown length: charged as it comes */
        rk__call_claim_force(call, len);
    }
    if (len > conn->core->options.message_size_max - call->body_len) {
        rk__call_fail_early(call, 0, 413, "the body is larger than this server accepts");
    } else if (!rk__call_body_append(call, data, len)) {
        rk__call_fail_early(call, 0, 507, "no memory for the body");
    } else if (call->waiting) {
        park(conn, call, len);
    }
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
        void *user)
{
    rk__sconn *conn = user;
    rk__h2 *h2 = conn->h2;
    rk_call *call = stream_call(h2, stream_id);
    size_t before;

    RK_UNUSED(flags);
    if (!call || call->dropping || call->dispatched) {
        nghttp2_session_consume(session, stream_id, len);
        return 0;
    }
    before = call->body_len;
    if (call->grpc) {
        feed_grpc(conn, call, data, len);
    } else {
        feed_http(conn, call, data, len);
    }
    if (!call->waiting) {
        nghttp2_session_consume(session, stream_id, len);
        return 0;
    }
    /* Bytes of the prefix are consumed; the message waits. */
    nghttp2_session_consume_stream(session, stream_id, len - (call->body_len - before));
    if (any_incomplete(conn)) {
        nghttp2_session_consume_connection(session, len);
    } else {
        call->held_conn += len;
        h2->held_bytes += len;
    }
    return 0;
}

/* ---- frames ---- */

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rk__sconn *conn = user;
    rk__h2 *h2 = conn->h2;
    bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    rk_call *call;

    RK_UNUSED(session);
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        call = stream_call(h2, frame->hd.stream_id);
        if (call && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            on_request_head(conn, call, ended);
        }
        if (call && ended) {
            on_request_end(call);
        }
        break;
    case NGHTTP2_DATA:
        call = stream_call(h2, frame->hd.stream_id);
        if (frame->hd.length == 0 && !ended && !rk__bucket_take(&h2->control, now_of(conn))) {
            abuse(conn, "flood of empty DATA frames");
        }
        if (call && ended) {
            on_request_end(call);
        }
        break;
    case NGHTTP2_RST_STREAM:
        call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (call && !call->applied && !rk__bucket_take(&h2->resets_in, now_of(conn))) {
            abuse(conn, "flood of RST_STREAM frames");
        }
        break;
    case NGHTTP2_SETTINGS:
        conn->phase_deadline_ns = 0; /* the preface is complete */
        h2->greeted = true;
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !rk__bucket_take(&h2->control, now_of(conn))) {
            abuse(conn, "flood of SETTINGS frames");
        }
        break;
    case NGHTTP2_PING:
    case NGHTTP2_PRIORITY:
        if (!rk__bucket_take(&h2->control, now_of(conn))) {
            abuse(conn, "flood of PING or PRIORITY frames");
        }
        break;
    case NGHTTP2_GOAWAY:
        h2->peer_left = true;
        break;
    default:
        break;
    }
    return 0;
}

static int
on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    rk__sconn *conn = user;
    rk__h2 *h2 = conn->h2;

    if (frame->hd.type == NGHTTP2_RST_STREAM && !rk__bucket_take(&h2->resets_out, now_of(conn))) {
        abuse(conn, "made us reset too many streams");
    }
    /* Answered before the request ended: tell the client to stop sending. */
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        rk_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (call && !call->remote_ended) {
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                      NGHTTP2_NO_ERROR);
        }
    }
    return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user)
{
    rk__sconn *conn = user;
    rk__h2 *h2 = conn->h2;
    rk_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    RK_UNUSED(error_code);
    if (!call) {
        return 0;
    }
    if (h2->last_call == call) {
        h2->last_call = NULL;
    }
    if (call->held_conn > 0) {
        h2->held_bytes -= call->held_conn;
        nghttp2_session_consume_connection(session, call->held_conn);
        call->held_conn = 0;
    }
    if (!call->head_done) {
        h2->head_since_ns = 0;
    }
    rk__h2_forget_output(conn, call);
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    rk__call_detach(call);
    return 0;
}

/* ---- session ---- */

static nghttp2_session_callbacks *
make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks = NULL;

    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    rk__h2_set_send_callbacks(callbacks);
    return callbacks;
}

static nghttp2_option *
make_options(void)
{
    nghttp2_option *option = NULL;

    if (nghttp2_option_new(&option) != 0) {
        return NULL;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_continuations(option, 8);
    nghttp2_option_set_max_settings(option, 32);
    nghttp2_option_set_max_outbound_ack(option, 1000);
    /* Ours counts only resets of calls in flight; the library's would also hit clients that cancel
     * after the answer. */
    nghttp2_option_set_stream_reset_rate_limit(option, 1000000, 100000);
    return option;
}

bool
rk__h2_begin(rk__sconn *conn)
{
    const rk_rpc_server_options *options = &conn->core->options;
    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *option = make_options();
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, RK__STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options->header_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int64_t now = now_of(conn);
    rk__h2 *h2 = rk_alloc_zero(1, sizeof(*h2));
    bool ok = h2 && callbacks && option;

    conn->h2 = h2;
    if (ok) {
        rk__bucket_init(&h2->resets_in, 1000, 200, now);
        rk__bucket_init(&h2->resets_out, 1000, 100, now);
        rk__bucket_init(&h2->control, 1000, 100, now);
        h2->progress_ns = now;
        ok = nghttp2_session_server_new2(&h2->session, callbacks, conn, option) == 0 &&
             nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                     RK_COUNT(settings)) == 0 &&
             nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                   RK__CONN_WINDOW) == 0;
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    rk__conn_dirty(&conn->base);
    return ok;
}

void
rk__h2_free(rk__sconn *conn)
{
    rk__h2 *h2 = conn->h2;

    if (h2) {
        nghttp2_session_del(h2->session); /* closes no streams: the connection detaches its calls */
        atomic_fetch_sub_explicit(&conn->core->output_bytes, conn->output_bytes,
                                  memory_order_relaxed);
        conn->output_bytes = 0;
        rk_free(h2);
        conn->h2 = NULL;
    }
}

bool
rk__h2_input(rk__sconn *conn, const uint8_t *data, size_t len)
{
    rk__h2 *h2 = conn->h2;
    ssize_t n;

    if (len == 0) { /* nobody is there to read an answer */
        return false;
    }
    n = nghttp2_session_mem_recv(h2->session, data, len);
    h2->last_call = NULL;
    rk__conn_dirty(&conn->base);
    if (n < 0) {
        if (n == NGHTTP2_ERR_FLOODED) {
            abuse(conn, "flood of frames that must be acknowledged");
        } else if (n == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
            return false;
        }
        nghttp2_session_terminate_session(h2->session, NGHTTP2_PROTOCOL_ERROR);
        h2->terminated = true;
    }
    return n >= 0;
}

bool
rk__h2_finished(rk__sconn *conn)
{
    rk__h2 *h2 = conn->h2;

    if (!nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session)) {
        return true;
    }
    return (h2->leaving || h2->terminated) && conn->calls_len == 0 &&
           !nghttp2_session_want_write(h2->session);
}

void
rk__h2_sweep(rk__sconn *conn, int64_t now_ns)
{
    rk__h2 *h2 = conn->h2;
    rk__core *core = conn->core;
    uint32_t receiving = 0;
    rk_call *next;

    if (conn->phase_deadline_ns != 0 && now_ns >= conn->phase_deadline_ns) {
        rk__conn_doom(&conn->base); /* the preface never came whole */
        return;
    }
    if (h2->head_since_ns != 0 && now_ns - h2->head_since_ns >= core->header_ns) {
        abuse(conn, "a header block took too long");
        rk__conn_doom(&conn->base);
        return;
    }
    for (const rk_call *call = conn->calls; call; call = call->next) {
        receiving += call->receiving ? 1 : 0;
    }
    for (rk_call *call = conn->calls; call; call = next) {
        next = call->next;
        if (rk__call_too_slow(call, now_ns, receiving)) {
            rk__call_fail_early(call, 14, 408, "the request body arrived too slowly");
        }
    }
    if (conn->output_bytes > 0 && h2->progress_bytes == h2->data_bytes) {
        if (now_ns - h2->progress_ns >= core->stall_ns) {
            abuse(conn, "replies were not read");
            rk__conn_doom(&conn->base);
        }
    } else {
        h2->progress_bytes = h2->data_bytes;
        h2->progress_ns = now_ns;
    }
}

void
rk__h2_leave(rk__sconn *conn)
{
    rk__h2 *h2 = conn->h2;

    if (!h2->leaving) {
        h2->leaving = true;
        nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h2->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    rk__conn_dirty(&conn->base);
}
