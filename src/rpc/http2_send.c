/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of an HTTP/2 server connection: answers become HEADERS, DATA and trailers, and
 * frames become one batch per loop turn.
 *
 * A reply up to 4 KiB is copied into nghttp2's frame; a larger one is sent from its own buffer
 * (NGHTTP2_DATA_FLAG_NO_COPY): the batch refers to it and holds a reference to the call.
 *
 * Header names and values are static text or live in the call, so nghttp2 copies none of them. Text
 * that differs per call is marked not to be indexed, which keeps the peer's compression table for
 * what repeats.
 */
#include "rpc/http2_private.h"

#define STATUS_FIELDS_MAX 5u
#define COPY_MAX          ((size_t)4096)

#define NV_STATIC(literal_name, literal_value)                                                     \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(literal_name), (uint8_t *)(uintptr_t)(literal_value),               \
            sizeof(literal_name) - 1, sizeof(literal_value) - 1,                                   \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

static nghttp2_nv
nv(rk_str name, rk_str value, uint8_t flags)
{
    return (nghttp2_nv){
        (uint8_t *)(uintptr_t)name.data, (uint8_t *)(uintptr_t)value.data, name.len, value.len,
        (uint8_t)(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)};
}

/* ---- DATA ---- */

static size_t
total_bytes(const rk_call *call)
{
    return call->answer.bytes.len + (call->grpc ? RK__GRPC_PREFIX : 0);
}

/* grpc-status and what belongs to it. Returns how many fields. */
static size_t
put_status(nghttp2_nv *fields, rk_call *call)
{
    rk__answer *answer = &call->answer;
    size_t n = 0;

    snprintf(answer->status_text, sizeof(answer->status_text), "%d", answer->status);
    fields[n++] = nv(RK_STR("grpc-status"), rk_str_from(answer->status_text), 0);
    if (answer->text.len > 0) {
        fields[n++] = nv(RK_STR("grpc-message"), answer->text, NGHTTP2_NV_FLAG_NO_INDEX);
    }
    if (answer->code != 0) {
        snprintf(answer->code_text, sizeof(answer->code_text), "%d", answer->code);
        fields[n++] = nv(RK_STR("rk-code"), rk_str_from(answer->code_text), 0);
        if (answer->input) {
            fields[n++] = nv(RK_STR("rk-input"), RK_STR("1"), 0);
        }
    }
    if (answer->status == 12 && call->encoding.len > 0) {
        fields[n++] = nv(RK_STR("grpc-accept-encoding"), RK_STR("identity,deflate,gzip"), 0);
    }
    return n;
}

static int
submit_trailers(nghttp2_session *session, int32_t stream_id, rk_call *call)
{
    static const nghttp2_nv good[] = {NV_STATIC("grpc-status", "0")};
    nghttp2_nv fields[STATUS_FIELDS_MAX];

    if (call->answer.status == 0) {
        return nghttp2_submit_trailer(session, stream_id, good, RK_COUNT(good));
    }
    return nghttp2_submit_trailer(session, stream_id, fields, put_status(fields, call));
}

/* |len| bytes of the answer are unsent no more. */
static void
take_unsent(rk__sconn *conn, rk_call *call, uint64_t len)
{
    call->unsent -= len;
    conn->output_bytes -= len;
    atomic_fetch_sub_explicit(&conn->core->output_bytes, len, memory_order_relaxed);
}

/* |len| bytes of the answer left for the output. */
static void
data_passed(rk__sconn *conn, rk_call *call, size_t len)
{
    take_unsent(conn, call, len);
    conn->h2->data_bytes += len;
}

static ssize_t
read_data(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
          nghttp2_data_source *source, void *user)
{
    rk_call *call = source->ptr;
    rk__answer *answer = &call->answer;
    size_t total = total_bytes(call);
    size_t take = RK_MIN(len, total - answer->sent);

    if (answer->sent + take == total) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->grpc) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (submit_trailers(session, stream_id, call) != 0) {
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            }
        }
    }
    if (total > COPY_MAX) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        return (ssize_t)take;
    }
    if (call->grpc && answer->sent < RK__GRPC_PREFIX) { /* the first frame of a small reply */
        uint8_t prefix[RK__GRPC_PREFIX];
        size_t part = RK_MIN(take, RK__GRPC_PREFIX - answer->sent);
        rk__grpc_prefix_put(prefix, answer->bytes.len);
        memcpy(buf, prefix + answer->sent, part);
        if (take > part) {
            memcpy(buf + part, answer->bytes.data, take - part);
        }
    } else if (take > 0) {
        memcpy(buf, answer->bytes.data + answer->sent - (call->grpc ? RK__GRPC_PREFIX : 0), take);
    }
    answer->sent += take;
    data_passed(user, call, take);
    return (ssize_t)take;
}

/* A DATA frame of a large reply: frame header into scratch, payload by reference. */
static int
send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd, size_t length,
          nghttp2_data_source *source, void *user)
{
    rk__sconn *conn = user;
    rk__out *out = conn->h2->out;
    rk_call *call = source->ptr;
    rk__answer *answer = &call->answer;
    size_t skip = call->grpc ? RK__GRPC_PREFIX : 0;
    size_t left = length;

    RK_UNUSED(session);
    RK_UNUSED(frame);
    if (!rk__out_has_room(out, 2, 9 + RK__GRPC_PREFIX)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    rk__out_copy(out, framehd, 9);
    if (answer->sent < skip) {
        uint8_t prefix[RK__GRPC_PREFIX];
        size_t part = RK_MIN(left, skip - answer->sent);
        rk__grpc_prefix_put(prefix, answer->bytes.len);
        rk__out_copy(out, prefix + answer->sent, part);
        answer->sent += part;
        left -= part;
    }
    if (left > 0) {
        rk__out_ref(out, answer->bytes.data + answer->sent - skip, left, &call->hold);
        answer->sent += left;
    }
    data_passed(conn, call, length);
    return 0; /* no padding: none is selected */
}

static ssize_t
send_bytes(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *user)
{
    rk__sconn *conn = user;
    size_t took = rk__out_copy(conn->h2->out, data, len);

    RK_UNUSED(session);
    RK_UNUSED(flags);
    return took > 0 ? (ssize_t)took : (ssize_t)NGHTTP2_ERR_WOULDBLOCK;
}

void
rk__h2_set_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_callback(callbacks, send_bytes);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
}

bool
rk__h2_fill(rk__sconn *conn, rk__out *out)
{
    rk__h2 *h2 = conn->h2;
    size_t before = out->bytes;
    int rc;

    h2->out = out;
    rc = nghttp2_session_send(h2->session);
    h2->out = NULL;
    if (rc != 0) {
        rk__conn_doom(&conn->base);
        return false;
    }
    /* Whatever is sendable was sent unless the batch filled up. */
    return out->bytes > before && !rk__out_has_room(out, 2, 64 + RK__GRPC_PREFIX);
}

/* ---- answers ---- */

void
rk__h2_forget_output(rk__sconn *conn, rk_call *call)
{
    take_unsent(conn, call, call->unsent);
}

static int
submit_reply(rk__h2 *h2, rk_call *call)
{
    static const nghttp2_nv head[] = {NV_STATIC(":status", "200"),
                                      NV_STATIC("content-type", "application/grpc")};
    nghttp2_data_provider data = {{.ptr = call}, read_data};

    return nghttp2_submit_response(h2->session, call->stream_id, head, RK_COUNT(head), &data);
}

static int
submit_fail(rk__h2 *h2, rk_call *call)
{
    nghttp2_nv head[2 + STATUS_FIELDS_MAX] = {NV_STATIC(":status", "200"),
                                              NV_STATIC("content-type", "application/grpc")};
    size_t n = 2 + put_status(head + 2, call);

    return nghttp2_submit_response(h2->session, call->stream_id, head, n, NULL);
}

static int
submit_http(rk__h2 *h2, rk_call *call)
{
    rk__answer *answer = &call->answer;
    nghttp2_nv head[3 + RK_COUNT(answer->extra)];
    nghttp2_data_provider data = {{.ptr = call}, read_data};
    bool has_body =
        !call->is_head && answer->bytes.len > 0 && answer->status != 204 && answer->status != 304;
    size_t n = 0;

    snprintf(answer->status_text, sizeof(answer->status_text), "%d", answer->status);
    head[n++] = nv(RK_STR(":status"), rk_str_from(answer->status_text), 0);
    if (answer->content_type.len > 0) {
        head[n++] = nv(RK_STR("content-type"), answer->content_type, 0);
    }
    if (answer->status != 204 && answer->status != 304) {
        snprintf(answer->length_text, sizeof(answer->length_text), "%zu", answer->bytes.len);
        head[n++] = nv(RK_STR("content-length"), rk_str_from(answer->length_text),
                       NGHTTP2_NV_FLAG_NO_INDEX);
    }
    for (unsigned i = 0; i < answer->extra_len; i++) {
        head[n++] = nv(answer->extra[i].name, answer->extra[i].value, 0);
    }
    return nghttp2_submit_response(h2->session, call->stream_id, head, n, has_body ? &data : NULL);
}

/* Bytes that will pass read_data or send_data. */
static uint64_t
data_bytes(const rk_call *call)
{
    const rk__answer *answer = &call->answer;

    switch (answer->kind) {
    case RK__ANSWER_REPLY:
        return total_bytes(call);
    case RK__ANSWER_HTTP:
        return call->is_head || answer->status == 204 || answer->status == 304 ? 0
                                                                               : total_bytes(call);
    case RK__ANSWER_NONE:
    case RK__ANSWER_FAIL:
    default:
        return 0;
    }
}

/* Whether |bytes| more may wait to be read. A connection that has nothing unread gets its answer
 * even when others fill the process's share, up to twice of it. */
static bool
may_wait(const rk__sconn *conn, uint64_t bytes)
{
    const rk_rpc_server_options *options = &conn->core->options;
    uint64_t all = atomic_load_explicit(&conn->core->output_bytes, memory_order_relaxed) + bytes;

    return conn->output_bytes + bytes <= options->output_bytes_max &&
           all <= options->output_bytes_total_max * (conn->output_bytes == 0 ? 2 : 1);
}

void
rk__h2_answer(rk__sconn *conn, rk_call *call)
{
    rk__h2 *h2 = conn->h2;
    uint64_t bytes = data_bytes(call);
    int rc;

    rk__conn_dirty(&conn->base);
    if (!may_wait(conn, bytes)) {
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_ENHANCE_YOUR_CALM);
        RK_LOG_W("rpc", "dropped a reply, the client reads too slowly peer=%s unsent_bytes=%llu",
                 conn->base.peer, (unsigned long long)conn->output_bytes);
        return;
    }
    call->applied = true;
    call->unsent = bytes;
    conn->output_bytes += bytes;
    atomic_fetch_add_explicit(&conn->core->output_bytes, bytes, memory_order_relaxed);
    switch (call->answer.kind) {
    case RK__ANSWER_REPLY:
        rc = submit_reply(h2, call);
        break;
    case RK__ANSWER_HTTP:
        rc = submit_http(h2, call);
        break;
    case RK__ANSWER_NONE:
    case RK__ANSWER_FAIL:
    default:
        rc = submit_fail(h2, call);
        break;
    }
    if (rc != 0) { /* the stream is closing already, or memory is out */
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    }
}
