/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed request messages. Small ones are inflated on the loop thread; a larger one would hold
 * up the connections beside it, so it is inflated by libuv's worker threads while the call waits.
 *
 * Inflated bytes are charged to the budget when they are there; until then rk__inflate_limit()
 * bounds them.
 */
#include "rpc/server_private.h"

#define INLINE_MAX ((size_t)32 << 10)

typedef struct job {
    uv_work_t req;
    rk_call *call; /* reference */
    uint8_t *out;
    size_t out_len;
    rk__inflate_result result;
} job;

static void
job_run(job *work)
{
    const rk_call *call = work->call;
    size_t limit = rk__inflate_limit(call->body_len, call->core->options.message_size_max);

    work->result = rk__inflate(&work->out, &work->out_len, call->body, call->body_len, limit);
}

/* Loop thread: takes the result over. */
static void
job_finish(job *work)
{
    rk_call *call = work->call;

    if (!call->conn) {
        rk_free(work->out);
        return;
    }
    switch (work->result) {
    case RK__INFLATE_OK:
        rk_free(call->body);
        call->body = work->out;
        call->body_cap = call->body_len = work->out_len;
        rk__call_claim_force(call, work->out_len);
        rk__call_dispatch(call);
        break;
    case RK__INFLATE_TOO_LARGE:
        rk__call_fail_early(call, 8, 413, "the message inflates to more than this server accepts");
        break;
    case RK__INFLATE_NO_MEMORY:
        rk__call_fail_early(call, 8, 507, "no memory to inflate the message");
        break;
    case RK__INFLATE_MALFORMED:
    default:
        rk__call_fail_early(call, 13, 400, "the compressed message is malformed");
        break;
    }
}

static void
on_work(uv_work_t *req)
{
    job_run(req->data);
}

static void
after_work(uv_work_t *req, int status)
{
    job *work = req->data;
    rk_call *call = work->call;

    RK_UNUSED(status);
    job_finish(work);
    rk__hold_unref(&call->hold);
    rk_free(work);
}

void
rk__call_inflate(rk_call *call)
{
    job *work;

    call->receiving = false;
    if (call->body_len <= INLINE_MAX) {
        job now = {.call = call};
        job_run(&now);
        job_finish(&now);
        return;
    }
    work = rk_alloc_zero(1, sizeof(*work));
    if (!work) {
        rk__call_fail_early(call, 8, 507, "no memory to inflate the message");
        return;
    }
    work->call = call;
    work->req.data = work;
    rk__hold_ref(&call->hold);
    if (uv_queue_work(&call->loop->base.uv, &work->req, on_work, after_work) != 0) {
        rk_free(work);
        rk__call_fail_early(call, 13, 500, "the message could not be inflated");
        rk__hold_unref(&call->hold);
    }
}
