/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutexes with ranks, condition variables on the monotonic clock, reader-writer locks, threads, CPU
 * count.
 *
 * In debug builds each thread keeps the list of locks it holds. Taking one whose rank is not above
 * all of them aborts with both names: that finds a possible deadlock on the first run that takes
 * the two locks in the wrong order, not on the unlucky one. Locks may be released in any order.
 * Waiting on a condition takes its mutex off the list and puts it back without a check.
 */
#include "base/thread.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/base_private.h"
#include "base/mem.h"

#ifdef RK_DEBUG

#define HELD_MAX 32

static _Thread_local const rk_mutex *held[HELD_MAX];
static _Thread_local int held_count;

static void
rank_check(const rk_mutex *m)
{
    for (int i = 0; i < held_count; i++) {
        if (held[i]->rank >= m->rank) {
            fprintf(stderr, "lock order broken: taking %s (rank %d) while holding %s (rank %d)\n",
                    m->name, m->rank, held[i]->name, held[i]->rank);
            abort();
        }
    }
}

static void
note_taken(rk_mutex *m)
{
    RK_ASSERT(held_count < HELD_MAX);
    held[held_count++] = m;
    atomic_store_explicit(&m->owner, (uintptr_t)pthread_self(), memory_order_relaxed);
}

static void
note_released(rk_mutex *m)
{
    int i = held_count - 1;

    while (i >= 0 && held[i] != m) {
        i--;
    }
    if (i < 0) {
        fprintf(stderr, "lock %s released by a thread that does not hold it\n", m->name);
        abort();
    }
    for (; i + 1 < held_count; i++) {
        held[i] = held[i + 1];
    }
    held_count--;
    atomic_store_explicit(&m->owner, 0, memory_order_relaxed);
}

#else

static void
rank_check(const rk_mutex *m)
{
    RK_UNUSED(m);
}

static void
note_taken(rk_mutex *m)
{
    RK_UNUSED(m);
}

static void
note_released(rk_mutex *m)
{
    RK_UNUSED(m);
}

#endif

void
rk_mutex_init(rk_mutex *m, const char *name, int rank)
{
    int error = pthread_mutex_init(&m->native, NULL);

    RK_ASSERT(error == 0);
    m->rank = rank;
    m->name = name;
    atomic_init(&m->owner, 0);
}

void
rk_mutex_deinit(rk_mutex *m)
{
    pthread_mutex_destroy(&m->native);
}

void
rk_mutex_lock(rk_mutex *m)
{
    rank_check(m);
    int error = pthread_mutex_lock(&m->native);
    RK_ASSERT(error == 0);
    note_taken(m);
}

void
rk_mutex_unlock(rk_mutex *m)
{
    note_released(m);
    int error = pthread_mutex_unlock(&m->native);
    RK_ASSERT(error == 0);
}

void
rk_mutex_assert_held(const rk_mutex *m)
{
#ifdef RK_DEBUG
    RK_ASSERT(atomic_load_explicit(&m->owner, memory_order_relaxed) == (uintptr_t)pthread_self());
#else
    RK_UNUSED(m);
#endif
}

void
rk_cond_init(rk_cond *c)
{
    pthread_condattr_t attr;
    int error = pthread_condattr_init(&attr);

    RK_ASSERT(error == 0);
    error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    RK_ASSERT(error == 0);
    error = pthread_cond_init(&c->native, &attr);
    RK_ASSERT(error == 0);
    pthread_condattr_destroy(&attr);
}

void
rk_cond_deinit(rk_cond *c)
{
    pthread_cond_destroy(&c->native);
}

void
rk_cond_wait(rk_cond *c, rk_mutex *m)
{
    note_released(m);
    int error = pthread_cond_wait(&c->native, &m->native);
    RK_ASSERT(error == 0);
    note_taken(m);
}

bool
rk_cond_wait_until(rk_cond *c, rk_mutex *m, int64_t deadline_ns)
{
    struct timespec when = {0};

    if (deadline_ns > 0) {
        when.tv_sec = (time_t)(deadline_ns / 1000000000);
        when.tv_nsec = (long)(deadline_ns % 1000000000);
    }
    note_released(m);
    int error = pthread_cond_timedwait(&c->native, &m->native, &when);
    RK_ASSERT(error == 0 || error == ETIMEDOUT);
    note_taken(m);
    return error == 0;
}

void
rk_cond_signal(rk_cond *c)
{
    pthread_cond_signal(&c->native);
}

void
rk_cond_broadcast(rk_cond *c)
{
    pthread_cond_broadcast(&c->native);
}

void
rk_rwlock_init(rk_rwlock *l)
{
    int error = pthread_rwlock_init(&l->native, NULL);
    RK_ASSERT(error == 0);
}

void
rk_rwlock_deinit(rk_rwlock *l)
{
    pthread_rwlock_destroy(&l->native);
}

void
rk_rwlock_read(rk_rwlock *l)
{
    int error = pthread_rwlock_rdlock(&l->native);
    RK_ASSERT(error == 0);
}

void
rk_rwlock_write(rk_rwlock *l)
{
    int error = pthread_rwlock_wrlock(&l->native);
    RK_ASSERT(error == 0);
}

void
rk_rwlock_unlock(rk_rwlock *l)
{
    int error = pthread_rwlock_unlock(&l->native);
    RK_ASSERT(error == 0);
}

/* ---- threads ---- */

typedef struct thread_start {
    void (*fn)(void *);
    void *arg;
    char name[16];
} thread_start;

static void *
thread_main(void *raw)
{
    thread_start start = *(thread_start *)raw;

    rk_free(raw);
    pthread_setname_np(pthread_self(), start.name);
    start.fn(start.arg);
    return NULL;
}

rk_code
rk_thread_start(rk_thread *out, const char *name, void (*fn)(void *), void *arg)
{
    sigset_t all;
    sigset_t before;
    thread_start *start = rk_alloc(sizeof(*start));

    if (!start) {
        return RK_ENOMEM;
    }
    start->fn = fn;
    start->arg = arg;
    snprintf(start->name, sizeof(start->name), "%.15s", name);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(out, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        rk_free(start);
        return RK_ENOMEM; /* EAGAIN: the limit on threads or their memory */
    }
    return RK_OK;
}

void
rk_thread_join(rk_thread t)
{
    int error = pthread_join(t, NULL);
    RK_ASSERT(error == 0);
}

unsigned
rk_cpu_count(void)
{
    cpu_set_t set;
    unsigned count = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = (unsigned)CPU_COUNT(&set);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
        count = online > 0 ? (unsigned)online : 1;
    }
    double quota = rk__cgroup_cpu_limit("");
    if (quota > 0 && ceil(quota) < (double)count) {
        count = (unsigned)ceil(quota);
    }
    return count > 0 ? count : 1;
}
