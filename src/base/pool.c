/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker pools: a bounded first-in first-out queue, a heap of delayed tasks, and threads started on
 * demand.
 *
 * One mutex guards everything. Idle workers sleep on one condition; at most one of them, the
 * timekeeper, sleeps only until the earliest delayed task is due, and hands that duty on when it
 * goes to work. A due task is taken before queued ones. Queued and delayed tasks count against the
 * same bound. Tasks run without the lock. A new thread is started when a task arrives, no worker is
 * idle and the limit allows; if it cannot be started and others exist, the task waits for them.
 *
 * The scheduler's seam: a manual pool has no threads; its owner runs the tasks one by one on a
 * clock of its choice, so a test decides what happens in which order.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/thread.h"

#define POOL_THREADS_MAX 1024u

typedef struct task {
    void (*fn)(void *);
    void *arg;
} task;

typedef struct delayed {
    int64_t due_ns; /* monotonic */
    uint64_t seq;   /* ties: first submitted first */
    task what;
} delayed;

struct rk_pool {
    char name[16];
    unsigned threads_max;
    uint32_t queue_len_max;
    int nice;
    bool manual;           /* no threads: rk_pool_step() runs the tasks */
    const rk_clock *clock; /* when delayed tasks are due */

    rk_mutex lock; /* guards all below */
    rk_cond work;
    rk_thread *threads;
    unsigned threads_started;
    unsigned idle;
    bool stopping;
    bool timekeeper; /* a worker sleeps until heap[0].due_ns */
    bool joined;

    task *ring; /* ring_cap entries, a power of two */
    uint32_t ring_cap;
    uint32_t ring_head;
    uint32_t ring_len;

    delayed *heap; /* smallest (due_ns, seq) first */
    uint32_t heap_cap;
    uint32_t heap_len;
    uint64_t seq;

    _Atomic uint32_t waiting; /* ring_len + heap_len; relaxed: read for metrics without the lock */
};

static int64_t
now_ns(const rk_pool *pool)
{
    return pool->clock->monotonic_ns(pool->clock->self);
}

static void
publish_len_locked(rk_pool *pool)
{
    atomic_store_explicit(&pool->waiting, pool->ring_len + pool->heap_len, memory_order_relaxed);
}

/* ---- queue and heap; the caller holds the lock ---- */

static bool
ring_grow_locked(rk_pool *pool)
{
    uint32_t cap = pool->ring_cap ? pool->ring_cap * 2 : 64;
    task *ring = rk_alloc(cap * sizeof(*ring));

    if (!ring) {
        return false;
    }
    for (uint32_t i = 0; i < pool->ring_len; i++) {
        ring[i] = pool->ring[(pool->ring_head + i) & (pool->ring_cap - 1)];
    }
    rk_free(pool->ring);
    pool->ring = ring;
    pool->ring_cap = cap;
    pool->ring_head = 0;
    return true;
}

static bool
due_before(const delayed *a, const delayed *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static bool
heap_push_locked(rk_pool *pool, delayed item)
{
    if (pool->heap_len == pool->heap_cap) {
        uint32_t cap = pool->heap_cap ? pool->heap_cap * 2 : 16;
        delayed *heap = rk_realloc(pool->heap, cap * sizeof(*heap));
        if (!heap) {
            return false;
        }
        pool->heap = heap;
        pool->heap_cap = cap;
    }
    uint32_t at = pool->heap_len++;
    while (at > 0 && due_before(&item, &pool->heap[(at - 1) / 2])) {
        pool->heap[at] = pool->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    pool->heap[at] = item;
    return true;
}

static task
heap_pop_locked(rk_pool *pool)
{
    task out = pool->heap[0].what;
    delayed last = pool->heap[--pool->heap_len];
    uint32_t at = 0;

    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= pool->heap_len) {
            break;
        }
        if (child + 1 < pool->heap_len && due_before(&pool->heap[child + 1], &pool->heap[child])) {
            child++;
        }
        if (!due_before(&pool->heap[child], &last)) {
            break;
        }
        pool->heap[at] = pool->heap[child];
        at = child;
    }
    pool->heap[at] = last;
    return out;
}

/* Takes the next task that may run now. */
static bool
take_locked(rk_pool *pool, task *out)
{
    if (pool->heap_len > 0 && !pool->stopping && pool->heap[0].due_ns <= now_ns(pool)) {
        *out = heap_pop_locked(pool);
    } else if (pool->ring_len > 0) {
        *out = pool->ring[pool->ring_head];
        pool->ring_head = (pool->ring_head + 1) & (pool->ring_cap - 1);
        pool->ring_len--;
    } else {
        return false;
    }
    publish_len_locked(pool);
    return true;
}

/* ---- workers ---- */

/* Sleeps until there may be something to do. */
static void
idle_locked(rk_pool *pool)
{
    pool->idle++;
    if (pool->heap_len > 0 && !pool->timekeeper) {
        pool->timekeeper = true;
        rk_cond_wait_until(&pool->work, &pool->lock, pool->heap[0].due_ns);
        pool->timekeeper = false;
    } else {
        rk_cond_wait(&pool->work, &pool->lock);
    }
    pool->idle--;
}

/* The duty of watching the heap passes on when this worker goes to work. */
static void
hand_on_timekeeping_locked(rk_pool *pool)
{
    if (pool->heap_len > 0 && !pool->timekeeper && pool->idle > 0) {
        rk_cond_signal(&pool->work);
    }
}

static void
worker_main(void *raw)
{
    rk_pool *pool = raw;
    task next;

    if (pool->nice != 0) {
        setpriority(PRIO_PROCESS, (id_t)gettid(), pool->nice);
    }
    rk_mutex_lock(&pool->lock);
    for (;;) {
        if (take_locked(pool, &next)) {
            hand_on_timekeeping_locked(pool);
            rk_mutex_unlock(&pool->lock);
            next.fn(next.arg);
            rk_mutex_lock(&pool->lock);
        } else if (pool->stopping) {
            break;
        } else {
            idle_locked(pool);
        }
    }
    rk_mutex_unlock(&pool->lock);
}

/*
 * Makes sure that somebody will look at what was just queued. Every queued task needs an idle
 * worker of its own (one that was woken and has not run yet counts as idle), and delayed tasks one
 * to watch the clock: a task must not wait behind another while a thread could still be started.
 * False when there is no thread.
 */
static bool
wake_locked(rk_pool *pool)
{
    unsigned wanted = pool->ring_len + (pool->heap_len > 0 ? 1u : 0u);

    if (pool->manual) {
        return true;
    }
    if (pool->idle > 0) {
        rk_cond_signal(&pool->work);
    }
    if (pool->idle < wanted && pool->threads_started < pool->threads_max) {
        rk_thread *slot = &pool->threads[pool->threads_started];
        if (rk_thread_start(slot, pool->name, worker_main, pool) == RK_OK) {
            pool->threads_started++;
        }
    }
    return pool->threads_started > 0;
}

/* ---- interface ---- */

rk_code
rk_pool_new(rk_pool **out, const rk_pool_options *options)
{
    rk_pool *pool = rk_alloc_zero(1, sizeof(*pool));

    *out = NULL;
    if (!pool) {
        return RK_ENOMEM;
    }
    pool->threads_max = RK_MIN(RK_MAX(options->threads, 1u), POOL_THREADS_MAX);
    pool->queue_len_max = RK_MIN(RK_MAX(options->queue_len_max, 1u), UINT32_C(1) << 24);
    pool->nice = options->nice;
    pool->manual = options->manual;
    pool->clock = options->manual && options->clock ? options->clock : rk_clock_real();
    pool->threads = rk_alloc_zero(pool->threads_max, sizeof(*pool->threads));
    if (!pool->threads) {
        rk_free(pool);
        return RK_ENOMEM;
    }
    snprintf(pool->name, sizeof(pool->name), "%.15s", options->name ? options->name : "pool");
    rk_mutex_init(&pool->lock, "pool", RK_RANK_POOL);
    rk_cond_init(&pool->work);
    *out = pool;
    return RK_OK;
}

/* RK_OK when one more task may be queued. */
static rk_code
admit_locked(const rk_pool *pool)
{
    if (pool->stopping) {
        return RK_EUNAVAILABLE;
    }
    return pool->ring_len + pool->heap_len >= pool->queue_len_max ? RK_EBUSY : RK_OK;
}

rk_code
rk_pool_submit(rk_pool *pool, void (*fn)(void *), void *arg)
{
    rk_code code = RK_OK;

    rk_mutex_lock(&pool->lock);
    RK_ERR(admit_locked(pool));
    if (pool->ring_len == pool->ring_cap && !ring_grow_locked(pool)) {
        code = RK_ENOMEM;
        goto out;
    }
    pool->ring[(pool->ring_head + pool->ring_len) & (pool->ring_cap - 1)] = (task){fn, arg};
    pool->ring_len++;
    if (!wake_locked(pool)) {
        pool->ring_len--;
        code = RK_ENOMEM;
    }
    publish_len_locked(pool);
out:
    rk_mutex_unlock(&pool->lock);
    return code;
}

rk_code
rk_pool_submit_after(rk_pool *pool, int64_t delay_ms, void (*fn)(void *), void *arg)
{
    rk_code code = RK_OK;
    int64_t delay_ns;
    int64_t due_ns;
    bool earliest;

    if (__builtin_mul_overflow(RK_MAX(delay_ms, 0), INT64_C(1000000), &delay_ns) ||
        __builtin_add_overflow(now_ns(pool), delay_ns, &due_ns)) {
        due_ns = INT64_MAX; /* some 292 years: never */
    }
    rk_mutex_lock(&pool->lock);
    RK_ERR(admit_locked(pool));
    if (!heap_push_locked(pool, (delayed){due_ns, pool->seq, {fn, arg}})) {
        code = RK_ENOMEM;
        goto out;
    }
    earliest = pool->heap[0].seq == pool->seq;
    pool->seq++;
    if (!wake_locked(pool)) {
        pool->heap_len = 0; /* without a thread it was the only task */
        code = RK_ENOMEM;
    } else if (earliest) {
        rk_cond_broadcast(&pool->work); /* the timekeeper must sleep shorter */
    }
    publish_len_locked(pool);
out:
    rk_mutex_unlock(&pool->lock);
    return code;
}

bool
rk_pool_step(rk_pool *pool)
{
    task next;
    bool found;

    RK_ASSERT(pool->manual);
    rk_mutex_lock(&pool->lock);
    found = take_locked(pool, &next);
    rk_mutex_unlock(&pool->lock);
    if (found) {
        next.fn(next.arg);
    }
    return found;
}

int64_t
rk_pool_next_due_ns(rk_pool *pool)
{
    int64_t due_ns = INT64_MAX;

    rk_mutex_lock(&pool->lock);
    if (pool->ring_len > 0) {
        due_ns = now_ns(pool);
    } else if (pool->heap_len > 0) {
        due_ns = pool->heap[0].due_ns;
    }
    rk_mutex_unlock(&pool->lock);
    return due_ns;
}

uint32_t
rk_pool_queue_len(const rk_pool *pool)
{
    return atomic_load_explicit(&pool->waiting, memory_order_relaxed);
}

void
rk_pool_stop(rk_pool *pool)
{
    if (!pool) {
        return;
    }
    rk_mutex_lock(&pool->lock);
    bool join = !pool->joined;
    pool->joined = true;
    pool->stopping = true;
    pool->heap_len = 0;
    publish_len_locked(pool);
    rk_cond_broadcast(&pool->work);
    unsigned started = pool->threads_started; /* no thread is started any more */
    rk_mutex_unlock(&pool->lock);
    for (unsigned i = 0; join && i < started; i++) {
        rk_thread_join(pool->threads[i]);
    }
    while (join && pool->manual && rk_pool_step(pool)) {
    }
}

void
rk_pool_free(rk_pool *pool)
{
    if (!pool) {
        return;
    }
    RK_ASSERT(pool->joined);
    rk_cond_deinit(&pool->work);
    rk_mutex_deinit(&pool->lock);
    rk_free(pool->ring);
    rk_free(pool->heap);
    rk_free(pool->threads);
    rk_free(pool);
}
