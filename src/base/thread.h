/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads, locks with a rank, and the scheduler seam (worker pools and timers).
 *
 * Every lock has a rank from docs/locking.md; debug builds abort when a thread takes a lock whose
 * rank is not above those it holds. No lock is held across I/O, an RPC or a callback unless its
 * comment says so.
 */
#ifndef RK_BASE_THREAD_H
#define RK_BASE_THREAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/seam.h"

/*
 * The ranks, one band of ten per layer; docs/locking.md names every lock. A thread may only take a
 * lock whose rank is above those of all the locks it holds. Within a band a module orders its own
 * (+1, +2, ...).
 */
enum {
    RK_RANK_LOOP = 10,
    RK_RANK_RPC = 20,
    RK_RANK_ACCESS = 30,
    RK_RANK_COORDINATOR = 40,
    RK_RANK_WORKER = 50,
    RK_RANK_SEGMENT = 60,
    RK_RANK_STORAGE = 70,
    RK_RANK_MEM = 80,
    RK_RANK_POOL = 85, /* so that a task can be queued while any other lock is held */
    RK_RANK_LOG = 90
};

typedef struct rk_mutex {
    pthread_mutex_t native;
    int rank;
    const char *name;
    _Atomic(uintptr_t) owner; /* debug builds: thread that holds it */
} rk_mutex;

typedef struct rk_cond {
    pthread_cond_t native; /* on CLOCK_MONOTONIC */
} rk_cond;

void rk_mutex_init(rk_mutex *m, const char *name, int rank);
void rk_mutex_deinit(rk_mutex *m);
void rk_mutex_lock(rk_mutex *m);
void rk_mutex_unlock(rk_mutex *m);
void rk_mutex_assert_held(const rk_mutex *m); /* debug builds only */

void rk_cond_init(rk_cond *c);
void rk_cond_deinit(rk_cond *c);
void rk_cond_wait(rk_cond *c, rk_mutex *m);
/* False when |deadline_ns| (monotonic) passed first. */
bool rk_cond_wait_until(rk_cond *c, rk_mutex *m, int64_t deadline_ns);
void rk_cond_signal(rk_cond *c);
void rk_cond_broadcast(rk_cond *c);

/* Readers-writer lock without rank checks for short read-mostly tables. */
typedef struct rk_rwlock {
    pthread_rwlock_t native;
} rk_rwlock;
void rk_rwlock_init(rk_rwlock *l);
void rk_rwlock_deinit(rk_rwlock *l);
void rk_rwlock_read(rk_rwlock *l);
void rk_rwlock_write(rk_rwlock *l);
void rk_rwlock_unlock(rk_rwlock *l);

typedef pthread_t rk_thread;
/* Starts a named thread (name cut to 15 bytes) with all signals blocked. */
RK_MUST_CHECK rk_code rk_thread_start(rk_thread *out, const char *name, void (*fn)(void *),
                                      void *arg);
void rk_thread_join(rk_thread t);

unsigned rk_cpu_count(void); /* CPUs this process may run on, cgroup quota included, at least 1 */

/* ---- scheduler seam ---- */

typedef struct rk_pool rk_pool;

typedef struct rk_pool_options {
    const char *name;       /* thread names */
    unsigned threads;       /* started on demand, at least 1 */
    uint32_t queue_len_max; /* a task past this is refused with RK_EBUSY */
    int nice;               /* 0 normal, > 0 lower priority */
    bool manual;            /* for tests: no threads, the owner calls rk_pool_step() */
    const rk_clock *clock;  /* of a manual pool: when delayed tasks are due; NULL: the real one */
} rk_pool_options;

RK_MUST_CHECK rk_code rk_pool_new(rk_pool **out, const rk_pool_options *options);
/* Queues fn(arg). RK_EBUSY when the queue is full, RK_EUNAVAILABLE after rk_pool_stop(). Any
 * thread. */
RK_MUST_CHECK rk_code rk_pool_submit(rk_pool *pool, void (*fn)(void *), void *arg);
/* fn(arg) after |delay_ms| on a pool thread, under the same bound. */
RK_MUST_CHECK rk_code rk_pool_submit_after(rk_pool *pool, int64_t delay_ms, void (*fn)(void *),
                                           void *arg);
uint32_t rk_pool_queue_len(const rk_pool *pool);
/* Manual pools. Runs one task that is due on the caller's thread; false when there is none. */
bool rk_pool_step(rk_pool *pool);
/* When the next task is due, by the pool's clock: now or earlier when one is queued; INT64_MAX:
 * none. */
int64_t rk_pool_next_due_ns(rk_pool *pool);
void rk_pool_stop(rk_pool *pool); /* runs what is queued, drops delayed tasks, joins the threads */
void rk_pool_free(rk_pool *pool); /* after stop */

#endif
