/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The budget of request bytes, and the buckets that tell use from abuse.
 *
 * A message reserves its whole declared length before a buffer is made for it. When it does not fit
 * the call waits: its stream's window is not refilled, so at most the first window of it arrives. A
 * message that was granted may always finish, and an empty budget grants any message, so waiting
 * always ends: whoever holds bytes is either receiving (and then bound by the minimal rate) or
 * being answered.
 *
 * A release wakes the loops only when somebody waits. Waiter count and |used| are seq_cst: a waiter
 * first announces itself, then tries once more; a releaser first subtracts, then looks for waiters.
 * One of the two sees the other.
 */
#include "rpc/server_private.h"

bool
rk__budget_try(rk__budget *budget, uint64_t bytes)
{
    uint64_t used = atomic_load(&budget->used);

    do {
        if (used != 0 && (bytes > budget->max || used > budget->max - bytes)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&budget->used, &used, used + bytes));
    return true;
}

void
rk__budget_force(rk__budget *budget, uint64_t bytes)
{
    atomic_fetch_add(&budget->used, bytes);
}

bool
rk__budget_release(rk__budget *budget, uint64_t bytes)
{
    atomic_fetch_sub(&budget->used, bytes);
    return atomic_load(&budget->waiters) > 0;
}

void
rk__core_release(rk__core *core, uint64_t bytes)
{
    if (bytes > 0 && rk__budget_release(&core->budget, bytes)) {
        for (unsigned i = 0; i < core->mailboxes_len; i++) {
            rk__mailbox_wake(core->mailboxes[i]);
        }
    }
}

void
rk__bucket_init(rk__bucket *bucket, double burst, double per_s, int64_t now_ns)
{
    bucket->tokens = bucket->burst = burst;
    bucket->per_s = per_s;
    bucket->at_ns = now_ns;
}

bool
rk__bucket_take(rk__bucket *bucket, int64_t now_ns)
{
    if (bucket->tokens < 1.0) { /* the clock is looked at only when it matters */
        double tokens = bucket->tokens + (double)(now_ns - bucket->at_ns) * 1e-9 * bucket->per_s;
        bucket->tokens = RK_MIN(tokens, bucket->burst);
        bucket->at_ns = now_ns;
    }
    if (bucket->tokens < 1.0) {
        return false;
    }
    bucket->tokens -= 1.0;
    return true;
}

/* ---- waiting calls ---- */

bool
rk__call_claim(rk_call *call, uint64_t bytes)
{
    rk__core *core = call->core;
    rk__sloop *loop = call->loop;

    /* Who comes late does not overtake those who wait. */
    if (!loop->wait_first && rk__budget_try(&core->budget, bytes)) {
        call->reserved += bytes;
        return true;
    }
    atomic_fetch_add(&core->budget.waiters, 1);
    if (!loop->wait_first && rk__budget_try(&core->budget, bytes)) {
        atomic_fetch_sub(&core->budget.waiters, 1);
        call->reserved += bytes;
        return true;
    }
    call->waiting = true;
    call->wait_next = NULL;
    call->wait_prev = loop->wait_last;
    *(loop->wait_last ? &loop->wait_last->wait_next : &loop->wait_first) = call;
    loop->wait_last = call;
    return false;
}

void
rk__call_claim_force(rk_call *call, uint64_t bytes)
{
    rk__budget_force(&call->core->budget, bytes);
    call->reserved += bytes;
}

void
rk__call_unwait(rk_call *call)
{
    rk__sloop *loop = call->loop;

    if (!call->waiting) {
        return;
    }
    call->waiting = false;
    *(call->wait_prev ? &call->wait_prev->wait_next : &loop->wait_first) = call->wait_next;
    *(call->wait_next ? &call->wait_next->wait_prev : &loop->wait_last) = call->wait_prev;
    atomic_fetch_sub(&call->core->budget.waiters, 1);
    atomic_fetch_sub_explicit(&call->core->budget.parked, call->parked, memory_order_relaxed);
    call->parked = 0;
}

/* What a waiting call asks for: a gRPC message its length, an HTTP body its Content-Length. */
static uint64_t
wanted(const rk_call *call)
{
    return call->grpc ? rk__grpc_prefix_size(&call->prefix) : (uint64_t)call->content_length;
}

void
rk__sloop_retry(rk__loop *base)
{
    rk__sloop *loop = RK_CONTAINER(base, rk__sloop, base);
    rk_call *call;

    while ((call = loop->wait_first) && rk__budget_try(&loop->core->budget, wanted(call))) {
        call->reserved += wanted(call);
        rk__call_unwait(call);
        rk__sconn_granted(call->conn, call);
    }
}
