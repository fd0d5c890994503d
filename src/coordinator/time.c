/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hybrid timestamps: milliseconds << 18 | counter. Rising, and never given twice, also across
 * restarts and when the wall clock jumps back.
 *
 * Timestamps are given only below a bound that is in the meta store; it is moved BOUND_AHEAD_MS
 * ahead when reached. A start begins at the old bound, whatever was really used. Ids come from the
 * same source: they are unique for the same reason.
 */
#include "coordinator/coordinator_private.h"

#define LOGICAL_BITS   18
#define LOGICAL_MAX    ((UINT64_C(1) << LOGICAL_BITS) - 1)
#define BOUND_AHEAD_MS 500
#define BOUND_KEY      RK_STR("time/bound")

int64_t
rk__co_now_ns(const rk_coordinator *co)
{
    const rk_clock *clock = co->options.env->clock;

    return clock->monotonic_ns(clock->self);
}

rk_code
rk__co_time_init(rk_coordinator *co, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_meta_kv kv;
    bool found = false;
    rk_code code = RK_OK;

    if (!arena) {
        return rk__co_no_memory(err);
    }
    RK_ERR(rk_meta_get(co->options.meta, BOUND_KEY, &kv, &found, arena, err));
    if (found && (!rk_str_to_i64(kv.value, &co->bound_ms) || co->bound_ms < 0)) {
        code = rk_fail(err, RK_ECORRUPT, "meta store: time/bound holds no number: \"%.*s\"",
                       RK_STR_ARG(kv.value));
        goto out;
    }
    co->physical_ms = co->bound_ms; /* everything below may have been given out */
out:
    rk_arena_free(arena);
    return code;
}

/* Makes sure that timestamps of |physical_ms| may be given. Caller holds time. */
static rk_code
extend_bound(rk_coordinator *co, int64_t physical_ms, rk_err *err)
{
    char text[32];
    int64_t bound = physical_ms + BOUND_AHEAD_MS;
    int len;

    if (physical_ms < co->bound_ms) {
        return RK_OK;
    }
    len = snprintf(text, sizeof(text), "%lld", (long long)bound);
    RK_RET(rk_meta_put(co->options.meta, BOUND_KEY, (rk_str){text, (size_t)len}, err));
    co->bound_ms = bound;
    return RK_OK;
}

rk_code
rk__co_time_alloc(rk_coordinator *co, uint32_t count, uint64_t *first, rk_err *err)
{
    const rk_clock *clock = co->options.env->clock;
    int64_t now = clock->wall_ms(clock->self);
    int64_t physical;
    uint64_t logical;
    uint64_t last;
    rk_code code;

    if (count == 0) {
        return rk_fail(err, RK_EINVAL, "a range of 0 timestamps was asked for");
    }
    rk_mutex_lock(&co->time);
    physical = RK_MAX(now, co->physical_ms);
    logical = physical == co->physical_ms ? co->logical : 0;
    *first = ((uint64_t)physical << LOGICAL_BITS) + logical;
    last = *first + count - 1; /* carries into the milliseconds by itself */
    code = extend_bound(co, (int64_t)(last >> LOGICAL_BITS), err);
    if (code == RK_OK) {
        co->physical_ms = (int64_t)((last + 1) >> LOGICAL_BITS);
        co->logical = (last + 1) & LOGICAL_MAX;
    }
    rk_mutex_unlock(&co->time);
    return code;
}

rk_code
rk__co_alloc(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_AllocRequest *req = request;
    pb_rk_AllocResponse *out = response;

    return rk__co_time_alloc(self, req->count, &out->first, ctx->err);
}
