/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a call to a pool thread and back: arenas, the byte budget of requests in flight, and the
 * Status message.
 *
 * A loop thread may not block, so it only takes an arena, charges the body to the budget and queues
 * a job; all else happens on the pool. A full queue or budget is answered at once with a code that
 * SDKs retry (8, rate limit), never by waiting.
 *
 * The Status is written by hand rather than through a struct: every reply message carries it under
 * field 1 (one of them under 3), so that one function serves all, and an empty one is written on
 * success too, because some clients read the member without asking whether it is there.
 *
 * Lock: access->arenas_lock, held for a few instructions; nothing is called under it.
 */
#include "access/access_private.h"

rk_arena *
rk__arena_take(rk_access *access)
{
    rk_arena *arena = NULL;

    rk_mutex_lock(&access->arenas_lock);
    if (access->arenas_len > 0) {
        arena = access->arenas[--access->arenas_len];
    }
    rk_mutex_unlock(&access->arenas_lock);
    return arena ? arena : rk_arena_new(0);
}

void
rk__arena_give(rk_access *access, rk_arena *arena)
{
    if (!arena) {
        return;
    }
    rk_arena_reset(arena); /* runs what the request deferred: outside the lock */
    rk_mutex_lock(&access->arenas_lock);
    if (access->arenas_len < RK__ARENAS_KEPT) {
        access->arenas[access->arenas_len++] = arena;
        arena = NULL;
    }
    rk_mutex_unlock(&access->arenas_lock);
    rk_arena_free(arena);
}

static void
job_run(void *arg)
{
    rk__job *job = (rk__job *)arg;
    job->run(job);
}

rk_code
rk__job_start(rk_access *access, rk_call *call, rk_pool *pool, uint32_t method,
              void (*run)(rk__job *job), rk_err *err)
{
    uint64_t size_bytes = rk_call_body(call).len;
    rk_arena *arena = NULL;
    rk__job *job = NULL;
    rk_code code = RK_OK;

    RK_RET(rk_mem_reserve(access->mem, size_bytes, "request", err));
    arena = rk__arena_take(access);
    job = arena ? (rk__job *)rk_arena_alloc(arena, sizeof(*job)) : NULL;
    if (!job) {
        code = rk_fail_tail(err, RK_ENOMEM, "no memory for the request");
        goto out;
    }
    *job = (rk__job){.access = access,
                     .call = call,
                     .arena = arena,
                     .reserved_bytes = size_bytes,
                     .started_ns = access->env->clock->monotonic_ns(access->env->clock->self),
                     .method = method,
                     .run = run};
    code = rk_pool_submit(pool, job_run, job);
    if (code == RK_EBUSY) {
        code = rk_fail_tail(err, RK_ERATE_LIMIT, "too many concurrent requests, queue is full");
    } else if (code != RK_OK) {
        code = rk_fail_tail(err, code, "the server is stopping");
    }
out:
    if (code != RK_OK) {
        rk_mem_release(access->mem, size_bytes);
        rk__arena_give(access, arena);
        rk__meter_refused(access);
    }
    return code;
}

void
rk__job_end(rk__job *job)
{
    rk_access *access = job->access;

    rk_mem_release(access->mem, job->reserved_bytes);
    rk__arena_give(access, job->arena); /* frees |job| */
}

/* ---- Status ---- */

static void
put_varint(rk_buf *out, uint64_t value)
{
    while (value >= 0x80) {
        rk_buf_byte(out, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    rk_buf_byte(out, (uint8_t)value);
}

static void
put_text(rk_buf *out, uint32_t field, rk_str text)
{
    put_varint(out, ((uint64_t)field << 3) | 2);
    put_varint(out, text.len);
    rk_buf_str(out, text);
}

void
rk__status_write(rk_buf *out, rk_code code, const rk_err *err)
{
    const rk_code_info *info = rk_code_get_info(code);
    int32_t number = info->number;
    bool input = err->input || (info->flags & RK_F_INPUT);
    rk_str text = rk_str_from(err->text);

    if (code == RK_OK) {
        return;
    }
    if (number > 65535 || number <= 0) {
        number = 65535; /* codes that live between roles only */
    }
    if (text.len == 0) {
        text = rk_str_from(info->text);
    }
    put_varint(out, 1u << 3);
    put_varint(out, (uint64_t)(info->legacy > 0 ? info->legacy : 1));
    put_text(out, 2, text);
    put_varint(out, 3u << 3);
    put_varint(out, (uint64_t)number);
    if ((info->flags & RK_F_RETRIABLE) && !input) {
        put_varint(out, 4u << 3);
        put_varint(out, 1);
    }
    put_text(out, 5, text);
    if (input) {
        static const char entry[] = "\x0a\x0eis_input_error\x12\x04true";
        put_text(out, 6, (rk_str){entry, sizeof(entry) - 1});
    }
}

void
rk__grpc_reply_error(rk_call *call, uint32_t status_field, rk_code code, const rk_err *err)
{
    rk_buf status = {0};
    rk_buf message = {0};

    rk__status_write(&status, code, err);
    if (status_field == 0) {
        message = status;
        status = (rk_buf){0};
    } else {
        put_text(&message, status_field, rk_buf_view(&status));
    }
    if (message.failed || status.failed) {
        rk_call_fail(call, 14, RK_STR("out of memory while an error was reported"));
    } else {
        rk_call_reply(call, &message);
    }
    rk_buf_deinit(&status);
    rk_buf_deinit(&message);
}

/* ---- sentences used in many places ---- */

rk_code
rk__fail_memory(rk_err *err)
{
    return rk_fail_tail(err, RK_ENOMEM, "no memory to answer the request");
}

rk_code
rk__fail_unbuilt(rk_err *err, const char *what)
{
    return rk_fail_tail(err, RK_EUNIMPLEMENTED, "%s not built in yet", what);
}
