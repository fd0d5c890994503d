/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job thread: passes over all collections until nothing changes, then sleeps. It wakes for a
 * change in the catalogue, polls while tasks run, and looks again when a pause it promised itself
 * (a retry, the quiet before a merge) is over. An idle server never wakes.
 */
#include "coordinator/coordinator_private.h"

static int64_t *
list_ids(rk_coordinator *co, size_t *n)
{
    int64_t *ids;

    rk_mutex_lock(&co->lock);
    ids = rk_alloc((co->collections_len + 1) * sizeof(*ids));
    *n = 0;
    for (size_t i = 0; ids && i < co->collections_len; i++) {
        ids[(*n)++] = co->collections[i]->id;
    }
    rk_mutex_unlock(&co->lock);
    return ids;
}

static bool
is_stopping(rk_coordinator *co)
{
    bool stopping;

    rk_mutex_lock(&co->lock);
    stopping = co->stopping;
    rk_mutex_unlock(&co->lock);
    return stopping;
}

int64_t
rk__co_pass(rk_coordinator *co)
{
    size_t n = 0;
    int64_t *ids = list_ids(co, &n);
    int64_t wait_ns = INT64_MAX;

    co->pass_failed = ids == NULL;
    rk__co_collect_tasks(co);
    rk__co_forget_reported(co);
    for (size_t i = 0; i < n && !is_stopping(co); i++) {
        rk__co_commit_pending(co, ids[i]);
        rk__co_sync_load(co, ids[i]);
        rk__co_plan_tasks(co, ids[i], &wait_ns);
        rk__co_collect_garbage(co, ids[i]);
    }
    rk_free(ids);
    rk_mutex_lock(&co->lock);
    for (size_t i = 0; i < co->collections_len; i++) {
        const rk__co_collection *c = co->collections[i];
        if (c->load_error[0] != '\0') {
            wait_ns = RK_MIN(wait_ns, RK_MAX(c->retry_at_ns - rk__co_now_ns(co), INT64_C(1000000)));
        }
    }
    rk_mutex_unlock(&co->lock);
    if (co->pass_failed) {
        wait_ns = RK_MIN(wait_ns, RK__CO_RETRY_MS * INT64_C(1000000));
    }
    return wait_ns;
}

/* Sleeps until there is work, |next_pass_ns| has come, or running tasks should be looked at. Caller
 * holds lock. */
static void
sleep_locked(rk_coordinator *co, int64_t next_pass_ns)
{
    int64_t until = next_pass_ns;

    if (co->tasks_len > 0) {
        until = RK_MIN(until, rk__co_now_ns(co) + RK__CO_TASK_POLL_MS * INT64_C(1000000));
    }
    if (co->work || co->stopping) {
        return;
    }
    if (until == INT64_MAX) {
        rk_cond_wait(&co->wake, &co->lock);
    } else {
        (void)rk_cond_wait_until(&co->wake, &co->lock, until);
    }
}

static void
job_main(void *arg)
{
    rk_coordinator *co = arg;
    int64_t next_pass_ns = 0;

    rk__co_sweep_orphans(co);
    rk_mutex_lock(&co->lock);
    while (!co->stopping) {
        bool whole = co->work || rk__co_now_ns(co) >= next_pass_ns;
        co->work = false;
        rk_mutex_unlock(&co->lock);
        if (whole) {
            int64_t wait_ns = rk__co_pass(co);
            next_pass_ns = wait_ns == INT64_MAX ? INT64_MAX : rk__co_now_ns(co) + wait_ns;
        } else {
            rk__co_collect_tasks(co); /* a task that ended makes work */
        }
        rk_mutex_lock(&co->lock);
        sleep_locked(co, next_pass_ns);
    }
    rk_mutex_unlock(&co->lock);
}

rk_code
rk__co_jobs_start(rk_coordinator *co, rk_err *err)
{
    rk_code code = rk_thread_start(&co->job_thread, "rk-jobs", job_main, co);

    if (code != RK_OK) {
        return rk_fail(err, code, "coordinator: the job thread could not be started");
    }
    co->job_started = true;
    return RK_OK;
}

void
rk__co_jobs_stop(rk_coordinator *co)
{
    rk_mutex_lock(&co->lock);
    co->stopping = true;
    rk_cond_broadcast(&co->wake);
    rk_cond_broadcast(&co->changed);
    rk_mutex_unlock(&co->lock);
    if (co->job_started) {
        rk_thread_join(co->job_thread);
        co->job_started = false;
    }
}
