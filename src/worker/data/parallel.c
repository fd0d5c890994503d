/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run is a counter that its threads draw numbers from until none is left. Helpers come from a
 * pool of their own with raised niceness, so that a build yields to searches; the caller draws too,
 * so a run ends even when no helper ever gets a CPU.
 */
#include "worker/data/parallel.h"

#define HELPER_NICE 10

struct rk__dn_parallel {
    rk_parallel face;
    rk_pool *pool;
    _Atomic(bool) taken; /* by a run */
};

typedef struct run {
    void (*fn)(void *arg, size_t i);
    void *arg;
    size_t n;
    _Atomic(size_t) next;
    _Atomic(unsigned) helpers; /* still drawing */
    rk_mutex lock;             /* for the wait of the caller */
    rk_cond done;
} run;

static void
draw(run *r)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
        if (i >= r->n) {
            return;
        }
        r->fn(r->arg, i);
    }
}

static void
help(void *arg)
{
    run *r = arg;

    draw(r);
    rk_mutex_lock(&r->lock); /* the caller frees the run as soon as it sees the last helper gone */
    atomic_fetch_sub(&r->helpers, 1);
    rk_cond_signal(&r->done);
    rk_mutex_unlock(&r->lock);
}

static void
run_all(void *self, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
    rk__dn_parallel *p = self;
    run r = {.fn = fn, .arg = arg, .n = n};
    bool free_before = false;

    if (n <= 1 || p->face.width <= 1 ||
        !atomic_compare_exchange_strong(&p->taken, &free_before, true)) {
        for (size_t i = 0; i < n; i++) {
            fn(arg, i);
        }
        return;
    }
    rk_mutex_init(&r.lock, "data.parallel", 56);
    rk_cond_init(&r.done);
    for (unsigned i = 1; i < p->face.width; i++) {
        atomic_fetch_add(&r.helpers, 1);
        if (rk_pool_submit(p->pool, help, &r) != RK_OK) {
            atomic_fetch_sub(&r.helpers, 1);
        }
    }
    draw(&r);
    rk_mutex_lock(&r.lock);
    while (atomic_load(&r.helpers) > 0) {
        rk_cond_wait(&r.done, &r.lock);
    }
    rk_mutex_unlock(&r.lock);
    rk_cond_deinit(&r.done);
    rk_mutex_deinit(&r.lock);
    atomic_store(&p->taken, false);
}

rk_code
rk__dn_parallel_new(rk__dn_parallel **out, unsigned width)
{
    rk__dn_parallel *p = rk_alloc_zero(1, sizeof(*p));
    const rk_pool_options options = {.name = "rk-build",
                                     .threads = width > 1 ? width - 1 : 1,
                                     .queue_len_max = 64,
                                     .nice = HELPER_NICE};
    rk_code code;

    *out = NULL;
    if (!p) {
        return RK_ENOMEM;
    }
    p->face = (rk_parallel){.run = run_all, .width = width ? width : 1, .self = p};
    code = rk_pool_new(&p->pool, &options);
    if (code != RK_OK) {
        rk_free(p);
        return code;
    }
    *out = p;
    return RK_OK;
}

const rk_parallel *
rk__dn_parallel_get(rk__dn_parallel *p)
{
    return &p->face;
}

void
rk__dn_parallel_free(rk__dn_parallel *p)
{
    if (p) {
        rk_pool_stop(p->pool);
        rk_pool_free(p->pool);
        rk_free(p);
    }
}
