/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 connections of the server.
 *
 * One request at a time: while it is being answered, further bytes wait in |pending| (64 KiB, then
 * the socket is not read), which bounds pipelining. Replies are written straight from the call that
 * owns them.
 *
 * After an error the reply is sent with `Connection: close` and the connection lingers for a
 * moment, reading and dropping what the client still sends: closing at once would make its TCP
 * stack throw our reply away.
 */
#include <stdio.h>
#include <time.h>

#include "rpc/server_private.h"

#define PENDING_MAX ((size_t)64 << 10)
#define LINGER_NS   INT64_C(2000000000)

struct rk__h1 {
    rk__h1_parser parser;
    rk_call *call;      /* being received or answered; the stream's reference */
    rk_buf pending;     /* bytes behind the request in flight */
    size_t pending_at;  /* consumed part of |pending| */
    bool continue_owed; /* 100 Continue is to be sent */
    bool head_sent;     /* of the answer */
    bool last;          /* no request after this one */
    bool eof;
    bool lingering;
    int64_t linger_until_ns; /* 0: not lingering */
};

bool
rk__h1_begin(rk__sconn *conn)
{
    conn->h1 = rk_alloc_zero(1, sizeof(*conn->h1));
    if (conn->h1) {
        rk__h1_parser_init(&conn->h1->parser, conn->core->options.header_bytes_max,
                           conn->core->options.message_size_max);
    }
    return conn->h1 != NULL;
}

void
rk__h1_free(rk__sconn *conn)
{
    if (conn->h1) {
        rk__h1_parser_deinit(&conn->h1->parser);
        rk_buf_deinit(&conn->h1->pending);
        rk_free(conn->h1);
        conn->h1 = NULL;
    }
}

/* ---- receiving ---- */

static bool
begin_call(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;
    rk__h1_parser *parser = &h1->parser;
    rk_call *call = rk__call_new(conn, 0);

    if (!call) {
        return false;
    }
    h1->call = call;
    h1->head_sent = false;
    call->method = rk__call_text(call, parser->method);
    call->is_head = rk_str_is(parser->method, "HEAD");
    call->http10 = parser->minor == 0;
    call->keep_alive = parser->keep_alive;
    for (unsigned i = 0; i < parser->fields_len; i++) {
        if (!rk__call_add_header(call, rk__h1_name(parser, i), rk__h1_value(parser, i))) {
            return false;
        }
    }
    return rk__call_set_target(call, parser->target);
}

/* A complaint about what was received: answered, then the connection ends. */
static void
refuse(rk__sconn *conn, int status, const char *reason)
{
    rk__h1 *h1 = conn->h1;

    conn->phase_deadline_ns = 0;
    h1->last = true;
    h1->lingering = true;
    if (!h1->call) {
        h1->call = rk__call_new(conn, 0);
        h1->head_sent = false;
    }
    if (!h1->call) {
        rk__conn_doom(&conn->base);
        return;
    }
    h1->call->keep_alive = false;
    atomic_fetch_add_explicit(&conn->core->refused_total, 1, memory_order_relaxed);
    rk__call_fail_early(h1->call, 0, status, reason);
}

static void
on_head(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;
    rk__h1_parser *parser = &h1->parser;
    rk_call *call;

    conn->phase_deadline_ns = 0;
    if (!begin_call(conn)) {
        rk__conn_doom(&conn->base);
        return;
    }
    call = h1->call;
    h1->last |= !call->keep_alive;
    call->receiving = true;
    call->mark_ns = rk__loop_now(conn->base.loop);
    call->mark_in = conn->base.bytes_in;
    if (!parser->has_body) {
        return;
    }
    h1->continue_owed = parser->expect_continue;
    call->content_length = (int64_t)parser->content_length;
    if (!parser->chunked) {
        if (!rk__call_claim(call, parser->content_length)) {
            rk__conn_read_stop(&conn->base); /* nothing else is on this connection */
            return;
        }
        if (!rk__call_body_reserve(call, (size_t)parser->content_length)) {
            refuse(conn, 507, "no memory for the body");
            return;
        }
    }
    if (h1->continue_owed) {
        rk__conn_dirty(&conn->base);
    }
}

static void
on_body(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;
    rk_str body = h1->parser.body;

    h1->continue_owed = false; /* the client did not wait for it */
    if (h1->parser.chunked) {  /* length unknown: charged as it comes */
        rk__call_claim_force(h1->call, body.len);
    }
    if (!rk__call_body_append(h1->call, (const uint8_t *)body.data, body.len)) {
        refuse(conn, 507, "no memory for the body");
    }
}

static bool
is_busy(const rk__h1 *h1)
{
    return h1->lingering ||
           (h1->call && (h1->call->dispatched || h1->call->dropping || h1->call->waiting));
}

/* Parses until the bytes end or a request has to be answered first. Returns how many bytes were
 * taken. */
static size_t
parse(rk__sconn *conn, const uint8_t *data, size_t len)
{
    rk__h1 *h1 = conn->h1;
    const uint8_t *at = data;
    const uint8_t *end = data + len;
    bool more = true;

    while (more && !is_busy(h1) && !conn->base.doomed) {
        switch (rk__h1_parse(&h1->parser, &at, end)) {
        case RK__H1_HEAD:
            on_head(conn);
            break;
        case RK__H1_BODY:
            on_body(conn);
            break;
        case RK__H1_DONE:
            rk__call_dispatch(h1->call);
            break;
        case RK__H1_ERROR:
            refuse(conn, h1->parser.status, h1->parser.reason);
            break;
        case RK__H1_MORE:
        default:
            more = false;
            break;
        }
    }
    if (rk__h1_parser_in_head(&h1->parser) && conn->phase_deadline_ns == 0 && !is_busy(h1)) {
        conn->phase_deadline_ns = rk__loop_now(conn->base.loop) + conn->core->header_ns;
    }
    return (size_t)(at - data);
}

/* Parses what was held back while the last request was answered. */
static void
parse_pending(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;

    if (h1->pending.len > h1->pending_at) {
        h1->pending_at +=
            parse(conn, h1->pending.data + h1->pending_at, h1->pending.len - h1->pending_at);
    }
    if (h1->pending_at == h1->pending.len) {
        rk_buf_deinit(&h1->pending);
        memset(&h1->pending, 0, sizeof(h1->pending));
        h1->pending_at = 0;
    }
    if (!h1->eof && h1->pending.len - h1->pending_at <= PENDING_MAX &&
        !(h1->call && h1->call->waiting)) {
        rk__conn_read_start(&conn->base);
    }
    if (h1->eof && !is_busy(h1)) {
        rk__conn_drain(&conn->base);
    }
}

bool
rk__h1_input(rk__sconn *conn, const uint8_t *data, size_t len)
{
    rk__h1 *h1 = conn->h1;
    size_t taken = 0;

    if (len == 0) { /* the client will send no more; it may still want its answer */
        h1->eof = true;
        h1->last = true;
        return is_busy(h1) && !h1->lingering;
    }
    if (h1->lingering) {
        return true;
    }
    if (h1->pending.len == 0) {
        taken = parse(conn, data, len);
    }
    if (taken < len && !h1->lingering) {
        rk_buf_append(&h1->pending, data + taken, len - taken);
        if (h1->pending.failed) {
            return false;
        }
        if (h1->pending.len - h1->pending_at > PENDING_MAX) {
            rk__conn_read_stop(&conn->base);
        }
    }
    return true;
}

void
rk__h1_granted(rk__sconn *conn, rk_call *call)
{
    call->mark_ns = rk__loop_now(conn->base.loop);
    call->mark_in = conn->base.bytes_in;
    if (!rk__call_body_reserve(call, (size_t)call->content_length)) {
        refuse(conn, 507, "no memory for the body");
        return;
    }
    if (conn->h1->continue_owed) {
        rk__conn_dirty(&conn->base);
    }
    parse_pending(conn);
}

/* ---- answering ---- */

static const char *
reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < RK_COUNT(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Status";
}

/* "Date: ..." of this second. */
static const char *
date_line(rk__sloop *loop)
{
    const rk_clock *clock = loop->core->options.env->clock;
    int64_t now_s = clock->wall_ms(clock->self) / 1000;

    if (now_s != loop->date_s || !loop->date[0]) {
        time_t t = (time_t)now_s;
        struct tm tm;
        loop->date_s = now_s;
        if (!gmtime_r(&t, &tm) || strftime(loop->date, sizeof(loop->date),
                                           "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm) == 0) {
            loop->date[0] = '\0';
        }
    }
    return loop->date;
}

static bool
status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* A header value of ours must not break the line it stands on. */
static void
append_field(rk_buf *head, rk_str name, rk_str value)
{
    if (name.len == 0 || memchr(value.data, '\r', value.len) ||
        memchr(value.data, '\n', value.len)) {
        return;
    }
    rk_buf_str(head, name);
    rk_buf_str(head, RK_STR(": "));
    rk_buf_str(head, value);
    rk_buf_str(head, RK_STR("\r\n"));
}

static void
compose_head(rk_buf *head, rk__sconn *conn, const rk_call *call)
{
    const rk__answer *answer = &call->answer;
    rk__sloop *loop = RK_CONTAINER(conn->base.loop, rk__sloop, base);

    rk_buf_printf(head, "HTTP/1.1 %d %s\r\n", answer->status, reason_of(answer->status));
    rk_buf_str(head, rk_str_from(date_line(loop)));
    if (answer->content_type.len > 0) {
        append_field(head, RK_STR("Content-Type"), answer->content_type);
    }
    for (unsigned i = 0; i < answer->extra_len; i++) {
        append_field(head, answer->extra[i].name, answer->extra[i].value);
    }
    if (status_has_body(answer->status)) {
        rk_buf_printf(head, "Content-Length: %zu\r\n", answer->bytes.len);
    }
    if (conn->h1->last) {
        rk_buf_str(head, RK_STR("Connection: close\r\n"));
    } else if (call->http10) {
        rk_buf_str(head, RK_STR("Connection: keep-alive\r\n"));
    }
    rk_buf_str(head, RK_STR("\r\n"));
}

void
rk__h1_answer(rk__sconn *conn, rk_call *call)
{
    call->applied = true;
    rk__conn_dirty(&conn->base);
}

/* The answer was handed to the output: the connection is free for the next request. */
static void
call_done(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;
    rk_call *call = h1->call;

    h1->call = NULL;
    h1->continue_owed = false;
    rk__call_detach(call);
    if (h1->lingering) {
        h1->linger_until_ns = rk__loop_now(conn->base.loop) + LINGER_NS;
        rk__conn_read_start(&conn->base);
    } else if (!h1->last) {
        parse_pending(conn);
    }
}

bool
rk__h1_fill(rk__sconn *conn, rk__out *out)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    rk__h1 *h1 = conn->h1;

    if (h1->continue_owed && h1->call && !h1->call->waiting && !h1->call->applied) {
        if (!rk__out_has_room(out, 1, sizeof(go_on))) {
            return true;
        }
        rk__out_copy(out, go_on, sizeof(go_on) - 1);
        h1->continue_owed = false;
    }
    while (h1->call && h1->call->applied && !conn->base.doomed) {
        rk_call *call = h1->call;
        rk__answer *answer = &call->answer;
        rk_buf head = {0};
        compose_head(&head, conn, call);
        if (head.failed || head.len > RK__OUT_SCRATCH) {
            rk_buf_deinit(&head);
            rk__conn_doom(&conn->base);
            return false;
        }
        if (!rk__out_has_room(out, 2, head.len)) {
            rk_buf_deinit(&head);
            return true;
        }
        rk__out_copy(out, head.data, head.len);
        rk_buf_deinit(&head);
        if (!call->is_head && status_has_body(answer->status)) {
            rk__out_ref(out, answer->bytes.data, answer->bytes.len, &call->hold);
        }
        call_done(conn);
    }
    return false;
}

bool
rk__h1_finished(rk__sconn *conn)
{
    rk__h1 *h1 = conn->h1;

    return h1->last && !h1->call && !h1->lingering;
}

void
rk__h1_sweep(rk__sconn *conn, int64_t now_ns)
{
    rk__h1 *h1 = conn->h1;

    if (h1->linger_until_ns != 0 && now_ns >= h1->linger_until_ns) {
        rk__conn_doom(&conn->base);
    } else if (conn->phase_deadline_ns != 0 && now_ns >= conn->phase_deadline_ns) {
        refuse(conn, 408, "the request head took too long");
    } else if (h1->call && rk__call_too_slow(h1->call, now_ns, 1)) {
        refuse(conn, 408, "the request body arrived too slowly");
    }
}

void
rk__h1_leave(rk__sconn *conn)
{
    conn->h1->last = true;
    rk__conn_dirty(&conn->base); /* an idle one is finished */
}
