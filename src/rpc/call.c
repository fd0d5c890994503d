/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call: its facts, its body, its answer, and its way back to the loop.
 *
 * Calls are made by the loop and reused by it. A handler reads facts on whatever thread it likes
 * (they do not change once it has the call) and answers once; the answer rides the call's own mail
 * back to the loop, or is applied at once when the handler answered on the loop thread. When the
 * stream is gone by then the answer is dropped; when the loop itself is gone the answering thread
 * frees the call.
 *
 * Text (names, values, the sentence of a failure) lives in the call: 1.5 KiB inside, further blocks
 * on the heap.
 */
#include <stdio.h>

#include "rpc/server_private.h"

/* ---- life ---- */

static void
free_text(rk_call *call)
{
    void *block = call->text_more;

    while (block) {
        void *next;
        memcpy(&next, block, sizeof(next));
        rk_free(block);
        block = next;
    }
    call->text_more = NULL;
    if (call->headers != call->headers_own) {
        rk_free(call->headers);
    }
}

static void
call_destroy(rk_call *call)
{
    rk_free(call->body);
    rk_free(call);
}

/* hold.release: nobody refers to the call any more. Loop thread, or the answerer of a loop that is
 * gone. */
static void
call_release(rk__hold *hold)
{
    rk_call *call = RK_CONTAINER(hold, rk_call, hold);
    rk__sloop *loop = call->loop;
    rk__core *core = call->core;
    rk__mailbox *mailbox = call->mailbox;

    rk__call_free_body(call);
    rk_buf_deinit(&call->answer.bytes);
    free_text(call);
    if (call->dispatched) {
        atomic_fetch_sub_explicit(&core->calls, 1, memory_order_relaxed);
    }
    if (rk__mailbox_is_mine(mailbox) && loop->free_calls_len < RK__CALLS_KEEP) {
        call->next = loop->free_calls;
        loop->free_calls = call;
        loop->free_calls_len++;
    } else {
        call_destroy(call);
    }
    rk__mailbox_unref(mailbox);
    rk__core_unref(core);
}

rk_call *
rk__call_new(rk__sconn *conn, int32_t stream_id)
{
    rk__sloop *loop = RK_CONTAINER(conn->base.loop, rk__sloop, base);
    rk_call *call = loop->free_calls;
    uint8_t *body = NULL;
    size_t body_cap = 0;

    if (call) {
        loop->free_calls = call->next;
        loop->free_calls_len--;
        body = call->body;
        body_cap = call->body_cap;
    } else {
        call = rk_alloc(sizeof(*call));
        if (!call) {
            return NULL;
        }
    }
    memset(call, 0, offsetof(rk_call, headers_own));
    call->body = body;
    call->body_cap = body_cap;
    call->hold = (rk__hold){1, call_release};
    call->core = rk__core_ref(conn->core);
    call->mailbox = rk__mailbox_ref(loop->base.mailbox);
    call->loop = loop;
    call->conn = conn;
    call->stream_id = stream_id;
    call->deadline_ns = INT64_MAX;
    call->content_length = -1;
    call->headers = call->headers_own;
    call->headers_cap = RK__CALL_HEADERS;
    call->next = conn->calls;
    if (conn->calls) {
        conn->calls->prev = call;
    }
    conn->calls = call;
    conn->calls_len++;
    call->peer = rk__call_text(call, rk_str_from(conn->base.peer));
    return call;
}

void
rk__call_detach(rk_call *call)
{
    rk__sconn *conn = call->conn;

    if (!conn) {
        return;
    }
    if (call->waiting) { /* the next in the queue may fit now */
        rk__call_unwait(call);
        rk__mailbox_wake(call->mailbox);
    }
    *(call->prev ? &call->prev->next : &conn->calls) = call->next;
    if (call->next) {
        call->next->prev = call->prev;
    }
    conn->calls_len--;
    call->conn = NULL;
    call->prev = call->next = NULL;
    call->receiving = false;
    atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
    rk__hold_unref(&call->hold);
}

/* ---- text and headers ---- */

char *
rk__call_text_room(rk_call *call, size_t len)
{
    char *block;

    if (len <= RK__CALL_TEXT - call->text_used) {
        char *at = call->text + call->text_used;
        call->text_used += len;
        return at;
    }
    block = rk_alloc(sizeof(void *) + len);
    if (!block) {
        return NULL;
    }
    memcpy(block, &call->text_more, sizeof(void *));
    call->text_more = block;
    return block + sizeof(void *);
}

rk_str
rk__call_text(rk_call *call, rk_str s)
{
    char *at = rk__call_text_room(call, s.len);

    if (!at) {
        return (rk_str){NULL, 0};
    }
    if (s.len > 0) {
        memcpy(at, s.data, s.len);
    }
    return (rk_str){at, s.len};
}

bool
rk__call_add_header(rk_call *call, rk_str name, rk_str value)
{
    rk__header *slot;

    if (call->headers_len == call->headers_cap) {
        unsigned cap = call->headers_cap * 2;
        rk__header *more = rk_alloc(cap * sizeof(*more));
        if (!more) {
            return false;
        }
        memcpy(more, call->headers, call->headers_len * sizeof(*more));
        if (call->headers != call->headers_own) {
            rk_free(call->headers);
        }
        call->headers = more;
        call->headers_cap = cap;
    }
    slot = &call->headers[call->headers_len];
    slot->name = rk__call_text(call, name);
    slot->value = rk__call_text(call, value);
    if (!slot->name.data || !slot->value.data) {
        return false;
    }
    call->headers_len++;
    return true;
}

bool
rk__call_set_target(rk_call *call, rk_str target)
{
    rk_str copy = rk__call_text(call, target);
    const char *mark;

    if (!copy.data) {
        return false;
    }
    mark = memchr(copy.data, '?', copy.len);
    call->path = (rk_str){copy.data, mark ? (size_t)(mark - copy.data) : copy.len};
    if (mark) {
        call->query = (rk_str){mark + 1, copy.len - call->path.len - 1};
    }
    return true;
}

/* ---- body ---- */

void
rk__call_free_body(rk_call *call)
{
    uint64_t reserved = call->reserved;

    call->reserved = 0;
    call->body_len = 0;
    if (call->body_cap > RK__CALL_BODY_KEEP) {
        rk_free(call->body);
        call->body = NULL;
        call->body_cap = 0;
    }
    rk__core_release(call->core, reserved);
}

bool
rk__call_body_reserve(rk_call *call, size_t cap)
{
    uint8_t *body;

    if (cap <= call->body_cap) {
        return true;
    }
    cap = RK_MAX(cap, (size_t)512);
    if (call->body_len >
        0) { /* malloc's alignment is 16 bytes on the machines we run on, realloc's too */
        body = rk_realloc(call->body, cap);
    } else {
        body = rk_alloc(cap);
        if (body) {
            rk_free(call->body);
        }
    }
    if (!body) {
        return false;
    }
    _Static_assert(_Alignof(max_align_t) >= 16, "bodies start 16-byte aligned");
    call->body = body;
    call->body_cap = cap;
    return true;
}

bool
rk__call_body_append(rk_call *call, const uint8_t *data, size_t len)
{
    size_t end;

    if (!rk_add_ok(&end, call->body_len, len)) {
        return false;
    }
    if (end > call->body_cap && !rk__call_body_reserve(call, RK_MAX(end, call->body_cap * 2))) {
        return false;
    }
    if (len > 0) {
        memcpy(call->body + call->body_len, data, len);
        call->body_len = end;
    }
    return true;
}

bool
rk__call_too_slow(rk_call *call, int64_t now_ns, uint32_t receiving)
{
    rk__core *core = call->core;
    int64_t elapsed = now_ns - call->mark_ns;
    uint64_t rate = core->options.body_rate_min;
    uint64_t came = call->conn->base.bytes_in - call->mark_in;
    double wanted;

    if (!call->receiving || call->waiting || elapsed < core->header_ns) {
        return false;
    }
    wanted = (double)rate * (double)elapsed * 1e-9;
    /* A body that waits behind its neighbours on a busy connection is not slow; the connection is.
     */
    if ((double)(call->body_len - call->mark_bytes) < wanted && (double)came < wanted * receiving) {
        return true;
    }
    /* When others wait for the bytes it holds, a large message must get here within five minutes.
     */
    if (atomic_load_explicit(&core->budget.waiters, memory_order_relaxed) > 0 &&
        (double)(call->body_len - call->mark_bytes) <
            (double)(call->reserved / 300) * (double)elapsed * 1e-9) {
        return true;
    }
    call->mark_ns = now_ns;
    call->mark_bytes = call->body_len;
    call->mark_in = call->conn->base.bytes_in;
    return false;
}

/* ---- dispatch ---- */

void
rk__call_dispatch(rk_call *call)
{
    rk__core *core = call->core;

    call->receiving = false;
    call->dispatched = true;
    atomic_fetch_add_explicit(&core->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&core->calls_total, 1, memory_order_relaxed);
    rk__hold_ref(&call->hold); /* the handler's, dropped when its answer was applied */
    if (call->grpc && core->options.on_grpc) {
        core->options.on_grpc(core->options.user, call);
    } else if (call->grpc) {
        rk_call_fail(call, 12, RK_STR("no service is offered here"));
    } else if (core->options.on_http) {
        core->options.on_http(core->options.user, call);
    } else {
        rk_buf body = {0};
        rk_buf_str(&body, RK_STR("404 not found\n"));
        rk_call_http(call, 404, "text/plain", &body);
    }
}

/* ---- facts ---- */

rk_str
rk_call_path(const rk_call *call)
{
    return call->path;
}

rk_str
rk_call_query(const rk_call *call)
{
    return call->query;
}

rk_str
rk_call_method(const rk_call *call)
{
    return call->method;
}

rk_str
rk_call_header(const rk_call *call, const char *lowercase_name)
{
    rk_str name = rk_str_from(lowercase_name);

    for (unsigned i = 0; i < call->headers_len; i++) {
        if (rk_str_eq(call->headers[i].name, name)) {
            return call->headers[i].value;
        }
    }
    return (rk_str){NULL, 0};
}

rk_str
rk_call_body(const rk_call *call)
{
    return (rk_str){(const char *)call->body, call->body_len};
}

rk_str
rk_call_peer(const rk_call *call)
{
    return call->peer;
}

int64_t
rk_call_deadline_ns(const rk_call *call)
{
    return call->deadline_ns;
}

bool
rk_call_cancelled(const rk_call *call)
{
    const rk_clock *clock = call->core->clock;

    return atomic_load_explicit(&call->cancelled, memory_order_relaxed) ||
           (call->deadline_ns != INT64_MAX &&
            clock->monotonic_ns(clock->self) >= call->deadline_ns);
}

/* ---- answers ---- */

/* On the loop: hands the answer to the connection and drops the handler's reference. */
static void
call_apply(rk__mail *mail, bool closed)
{
    rk_call *call = RK_CONTAINER(mail, rk_call, mail);

    rk__call_free_body(call);
    if (!closed && call->conn) {
        rk__sconn_answer(call->conn, call);
    }
    rk__hold_unref(&call->hold);
}

/* True for the first answer; the call is the caller's to fill. */
static bool
answer_begin(rk_call *call, rk__answer_kind kind)
{
    bool again = atomic_exchange_explicit(&call->answered, true, memory_order_relaxed);

    RK_DCHECK(!again);
    call->answer.kind = again ? call->answer.kind : kind;
    return !again;
}

static void
answer_end(rk_call *call)
{
    if (rk__mailbox_is_mine(call->mailbox)) {
        call_apply(&call->mail, false);
    } else {
        call->mail.run = call_apply;
        rk__mailbox_post(call->mailbox, &call->mail);
    }
}

static void
take_bytes(rk_call *call, rk_buf *bytes)
{
    if (bytes) {
        call->answer.bytes = *bytes;
        memset(bytes, 0, sizeof(*bytes));
    }
}

static void
set_text(rk_call *call, rk_str text)
{
    char *room;

    text.len = RK_MIN(text.len, (size_t)RK_ERR_TEXT_MAX);
    room = rk__call_text_room(call, text.len * 3);
    if (room) {
        call->answer.text = (rk_str){room, rk__grpc_text_encode(room, text)};
    }
}

static void
fail_http(rk_call *call, int status, rk_str text)
{
    call->answer.kind = RK__ANSWER_HTTP;
    call->answer.status = status;
    call->answer.content_type = RK_STR("text/plain; charset=utf-8");
    rk_buf_str(&call->answer.bytes, text);
    rk_buf_byte(&call->answer.bytes, '\n');
}

void
rk_call_reply(rk_call *call, rk_buf *message)
{
    if (!answer_begin(call, RK__ANSWER_REPLY)) {
        return;
    }
    take_bytes(call, message);
    if (call->answer.bytes.failed) { /* the writer ran out of memory on the way */
        rk_buf_deinit(&call->answer.bytes);
        memset(&call->answer.bytes, 0, sizeof(call->answer.bytes));
        call->answer.kind = RK__ANSWER_FAIL;
        call->answer.status = 8;
        set_text(call, RK_STR("no memory for the reply"));
    } else if (!call->grpc) {
        call->answer.kind = RK__ANSWER_HTTP;
        call->answer.status = 200;
        call->answer.content_type = RK_STR("application/octet-stream");
    }
    answer_end(call);
}

void
rk_call_fail(rk_call *call, int32_t grpc_status, rk_str text)
{
    if (!answer_begin(call, RK__ANSWER_FAIL)) {
        return;
    }
    call->answer.status = grpc_status;
    if (call->grpc) {
        set_text(call, text);
    } else {
        fail_http(call, 500, text);
    }
    answer_end(call);
}

void
rk_call_fail_err(rk_call *call, const rk_err *err)
{
    const rk_code_info *info = rk_code_get_info(err->code);
    rk_str text = rk_str_from(err->text[0] ? err->text : info->text);

    if (!answer_begin(call, RK__ANSWER_FAIL)) {
        return;
    }
    call->answer.status = err->code == RK_OK ? 2 : info->grpc;
    call->answer.code = -(int32_t)err->code;
    call->answer.input = err->input;
    if (call->grpc) {
        set_text(call, text);
    } else {
        fail_http(call, info->http, text);
    }
    answer_end(call);
}

void
rk_call_reply_err(rk_call *call, rk_buf *message, const rk_err *err)
{
    const rk_code_info *info = rk_code_get_info(err->code);

    if (!call->grpc || message->failed || message->len == 0) {
        rk_buf_deinit(message);
        memset(message, 0, sizeof(*message));
        rk_call_fail_err(call, err);
    } else if (answer_begin(call, RK__ANSWER_REPLY)) {
        take_bytes(call, message);
        call->answer.status = err->code == RK_OK ? 2 : info->grpc;
        call->answer.code = -(int32_t)err->code;
        call->answer.input = err->input;
        set_text(call, rk_str_from(err->text[0] ? err->text : info->text));
        answer_end(call);
    }
}

void
rk_call_http_header(rk_call *call, const char *lowercase_name, const char *value)
{
    rk__answer *answer = &call->answer;
    rk__header *slot = &answer->extra[answer->extra_len];

    if (answer->extra_len < RK_COUNT(answer->extra)) {
        slot->name = rk__call_text(call, rk_str_from(lowercase_name));
        slot->value = rk__call_text(call, rk_str_from(value));
        answer->extra_len += slot->name.data && slot->value.data ? 1 : 0;
    }
}

void
rk_call_http(rk_call *call, int status, const char *content_type, rk_buf *body)
{
    if (!answer_begin(call, RK__ANSWER_HTTP)) {
        return;
    }
    take_bytes(call, body);
    call->answer.status = status;
    if (content_type) {
        call->answer.content_type = rk__call_text(call, rk_str_from(content_type));
    }
    if (call->answer.bytes.failed) {
        rk_buf_deinit(&call->answer.bytes);
        memset(&call->answer.bytes, 0, sizeof(call->answer.bytes));
        fail_http(call, 507, RK_STR("no memory for the reply"));
    }
    answer_end(call);
}

void
rk__call_fail_early(rk_call *call, int32_t grpc_status, int http_status, const char *text)
{
    if (call->dispatched || call->dropping) {
        return;
    }
    call->dropping = true;
    call->receiving = false;
    rk__call_unwait(call);
    rk__call_free_body(call);
    atomic_store_explicit(&call->answered, true, memory_order_relaxed);
    if (call->grpc) {
        call->answer.kind = RK__ANSWER_FAIL;
        call->answer.status = grpc_status;
        set_text(call, rk_str_from(text));
    } else {
        fail_http(call, http_status, rk_str_from(text));
    }
    rk__sconn_answer(call->conn, call);
}
