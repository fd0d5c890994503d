/* SPDX-License-Identifier: Apache-2.0 */
/* Lock ranks, conditions, and pools: bounds, order, delays, stop, many threads. */
#include "base/thread.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "unit_test.h"

static int64_t
now_ns(void)
{
    return rk_clock_real()->monotonic_ns(NULL);
}

#ifdef RK_DEBUG
/* True when |fn| aborts in a process of its own. */
static bool
aborts(void (*fn)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) {
            _exit(2);
        }
        fn();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void
wrong_order(void)
{
    rk_mutex low;
    rk_mutex high;

    rk_mutex_init(&low, "low", 10);
    rk_mutex_init(&high, "high", 20);
    rk_mutex_lock(&high);
    rk_mutex_lock(&low);
}

static void
same_rank(void)
{
    rk_mutex a;
    rk_mutex b;

    rk_mutex_init(&a, "a", 10);
    rk_mutex_init(&b, "b", 10);
    rk_mutex_lock(&a);
    rk_mutex_lock(&b);
}

static void
not_held(void)
{
    rk_mutex a;

    rk_mutex_init(&a, "a", 10);
    rk_mutex_assert_held(&a);
}
#endif

static void
ranks(void **state)
{
    rk_mutex low;
    rk_mutex high;

    RK_UNUSED(state);
    rk_mutex_init(&low, "low", 10);
    rk_mutex_init(&high, "high", 20);
    rk_mutex_lock(&low);
    rk_mutex_lock(&high);
    rk_mutex_assert_held(&low);
    rk_mutex_unlock(&low); /* any order of release */
    rk_mutex_unlock(&high);
    rk_mutex_lock(&low);
    rk_mutex_unlock(&low);
    rk_mutex_deinit(&low);
    rk_mutex_deinit(&high);
#ifdef RK_DEBUG
    assert_true(aborts(wrong_order));
    assert_true(aborts(same_rank));
    assert_true(aborts(not_held));
#endif
}

static void
condition_times_out(void **state)
{
    rk_mutex m;
    rk_cond c;

    RK_UNUSED(state);
    rk_mutex_init(&m, "m", 10);
    rk_cond_init(&c);
    rk_mutex_lock(&m);
    int64_t start = now_ns();
    while (rk_cond_wait_until(&c, &m, start + 5000000)) {
    }
    assert_true(now_ns() - start >= 5000000);
    assert_false(rk_cond_wait_until(&c, &m, -1));
    rk_mutex_assert_held(&m);
    rk_mutex_unlock(&m);
    rk_cond_deinit(&c);
    rk_mutex_deinit(&m);
}

typedef struct counter {
    rk_mutex lock;
    rk_cond changed;
    int value;
    bool gate;
    char order[16];
} counter;

static void
counter_init(counter *c)
{
    *c = (counter){.gate = false};
    rk_mutex_init(&c->lock, "counter", 10);
    rk_cond_init(&c->changed);
}

static void
count(void *raw)
{
    counter *c = raw;

    rk_mutex_lock(&c->lock);
    c->value++;
    rk_cond_broadcast(&c->changed);
    rk_mutex_unlock(&c->lock);
}

static void
count_behind_gate(void *raw)
{
    counter *c = raw;

    rk_mutex_lock(&c->lock);
    c->value++;
    rk_cond_broadcast(&c->changed);
    while (!c->gate) {
        rk_cond_wait(&c->changed, &c->lock);
    }
    rk_mutex_unlock(&c->lock);
}

static void
wait_for(counter *c, int value)
{
    rk_mutex_lock(&c->lock);
    while (c->value < value) {
        assert_true(rk_cond_wait_until(&c->changed, &c->lock, now_ns() + 60000000000));
    }
    rk_mutex_unlock(&c->lock);
}

static void
open_gate(counter *c)
{
    rk_mutex_lock(&c->lock);
    c->gate = true;
    rk_cond_broadcast(&c->changed);
    rk_mutex_unlock(&c->lock);
}

static void
pool_runs_all_in_parallel(void **state)
{
    counter c;
    rk_pool *pool;
    rk_pool_options options = {.name = "test", .threads = 4, .queue_len_max = 4, .nice = 1};

    RK_UNUSED(state);
    counter_init(&c);
    assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
    /* four tasks that all wait for the gate: needs four threads */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rk_pool_submit(pool, count_behind_gate, &c), RK_OK);
    }
    wait_for(&c, 4);
    /* now the queue fills: four wait, the fifth is refused */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rk_pool_submit(pool, count, &c), RK_OK);
    }
    assert_int_equal(rk_pool_queue_len(pool), 4);
    assert_int_equal(rk_pool_submit(pool, count, &c), RK_EBUSY);
    assert_int_equal(rk_pool_submit_after(pool, 1, count, &c), RK_EBUSY);
    open_gate(&c);
    wait_for(&c, 8);
    rk_pool_stop(pool);
    assert_int_equal(rk_pool_submit(pool, count, &c), RK_EUNAVAILABLE);
    rk_pool_stop(pool);
    rk_pool_free(pool);
    rk_cond_deinit(&c.changed);
    rk_mutex_deinit(&c.lock);
}

typedef struct timed {
    counter *c;
    char name;
} timed;

static void
note_order(void *raw)
{
    timed *t = raw;

    rk_mutex_lock(&t->c->lock);
    t->c->order[t->c->value] = t->name;
    rk_mutex_unlock(&t->c->lock);
    count(t->c);
}

static void
pool_runs_delayed_tasks_in_time_order(void **state)
{
    counter c;
    rk_pool *pool;
    rk_pool_options options = {.name = "test", .threads = 1, .queue_len_max = 100, .nice = 0};
    timed a = {&c, 'a'};
    timed b = {&c, 'b'};
    timed d = {&c, 'd'};

    RK_UNUSED(state);
    counter_init(&c);
    for (bool held_up = true; held_up;) { /* a busy machine may stop us between the calls: again */
        memset(c.order, 0, sizeof(c.order));
        c.value = 0;
        assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
        int64_t start = now_ns();
        assert_int_equal(rk_pool_submit_after(pool, 600, note_order, &d), RK_OK);
        assert_int_equal(rk_pool_submit_after(pool, 200, note_order, &a), RK_OK);
        assert_int_equal(rk_pool_submit_after(pool, 400, note_order, &b), RK_OK);
        held_up = now_ns() - start > 100000000;
        assert_int_equal(rk_pool_submit_after(pool, INT64_MAX, count, &c),
                         RK_OK); /* dropped by stop */
        wait_for(&c, 3);
        assert_true(held_up || strcmp(c.order, "abd") == 0);
        assert_true(now_ns() - start >= 600000000);
        assert_true(held_up || now_ns() - start < 20000000000);
        rk_pool_stop(pool);
        assert_int_equal(c.value, 3);
        rk_pool_free(pool);
    }
    rk_cond_deinit(&c.changed);
    rk_mutex_deinit(&c.lock);
}

static void
delayed_task_is_not_held_up_by_busy_threads(void **state)
{
    counter c;
    rk_pool *pool;
    rk_pool_options options = {.name = "test", .threads = 3, .queue_len_max = 100, .nice = 0};

    RK_UNUSED(state);
    counter_init(&c);
    assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
    assert_int_equal(rk_pool_submit_after(pool, 20, count, &c), RK_OK);
    assert_int_equal(rk_pool_submit(pool, count_behind_gate, &c), RK_OK);
    assert_int_equal(rk_pool_submit(pool, count_behind_gate, &c), RK_OK);
    wait_for(&c, 3);
    open_gate(&c);
    rk_pool_stop(pool);
    rk_pool_free(pool);
    rk_cond_deinit(&c.changed);
    rk_mutex_deinit(&c.lock);
}

typedef struct storm {
    rk_pool *pool;
    counter *c;
    int accepted;
} storm;

static void
submit_many(void *raw)
{
    storm *s = raw;

    for (int i = 0; i < 5000; i++) {
        rk_code code = i % 10 == 0 ? rk_pool_submit_after(s->pool, 1, count, s->c)
                                   : rk_pool_submit(s->pool, count, s->c);
        if (code == RK_OK) {
            s->accepted++;
        } else {
            assert_int_equal(code, RK_EBUSY);
            sched_yield();
        }
    }
}

static void
pool_loses_nothing_under_load(void **state)
{
    counter c;
    rk_pool *pool;
    rk_pool_options options = {.name = "test", .threads = 4, .queue_len_max = 300, .nice = 0};
    storm storms[3];
    rk_thread threads[3];
    int accepted = 0;

    RK_UNUSED(state);
    counter_init(&c);
    assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
    for (int i = 0; i < 3; i++) {
        storms[i] = (storm){pool, &c, 0};
        assert_int_equal(rk_thread_start(&threads[i], "storm", submit_many, &storms[i]), RK_OK);
    }
    for (int i = 0; i < 3; i++) {
        rk_thread_join(threads[i]);
        accepted += storms[i].accepted;
    }
    wait_for(&c, accepted);
    rk_pool_stop(pool);
    assert_int_equal(c.value, accepted);
    rk_pool_free(pool);
    rk_cond_deinit(&c.changed);
    rk_mutex_deinit(&c.lock);
}

static void
pool_without_memory(void **state)
{
    rk_pool *pool;
    rk_pool_options options = {.name = "test", .threads = 1, .queue_len_max = 10, .nice = 0};
    counter c;

    RK_UNUSED(state);
    counter_init(&c);
    for (int64_t i = 0; i < 2; i++) {
        rk_alloc_fail_after(i);
        assert_int_equal(rk_pool_new(&pool, &options), RK_ENOMEM);
        rk_alloc_fail_after(-1);
        assert_null(pool);
    }
    assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
    for (int64_t i = 0; i < 2; i++) { /* the ring, then the thread */
        rk_alloc_fail_after(i);
        assert_int_equal(rk_pool_submit(pool, count, &c), RK_ENOMEM);
        rk_alloc_fail_after(-1);
        assert_int_equal(rk_pool_queue_len(pool), 0);
    }
    assert_int_equal(rk_pool_submit(pool, count, &c), RK_OK);
    rk_pool_stop(pool);
    assert_int_equal(c.value, 1);
    rk_pool_free(pool);
    assert_true(rk_cpu_count() >= 1);
    rk_cond_deinit(&c.changed);
    rk_mutex_deinit(&c.lock);
}

/* ---- manual pools: the scheduler's seam ---- */

static int64_t virtual_ns;

static int64_t
virtual_monotonic(void *self)
{
    (void)self;
    return virtual_ns;
}

static char trace[16];

static void
note(void *letter)
{
    size_t len = strlen(trace);

    trace[len] = *(const char *)letter;
    trace[len + 1] = '\0';
}

static void
manual_pool_runs_on_virtual_time(void **state)
{
    static char letters[] = "abcd";
    const rk_clock clock = {.monotonic_ns = virtual_monotonic};
    const rk_pool_options options = {
        .name = "manual", .threads = 1, .queue_len_max = 4, .manual = true, .clock = &clock};
    rk_pool *pool = NULL;

    (void)state;
    virtual_ns = 1000;
    trace[0] = '\0';
    assert_int_equal(rk_pool_new(&pool, &options), RK_OK);
    assert_int_equal(rk_pool_submit_after(pool, 20, note, &letters[0]), RK_OK);
    assert_int_equal(rk_pool_submit_after(pool, 10, note, &letters[1]), RK_OK);
    assert_int_equal(rk_pool_next_due_ns(pool), 1000 + 10 * 1000000);
    assert_false(rk_pool_step(pool)); /* time stands still */
    assert_int_equal(rk_pool_submit(pool, note, &letters[2]), RK_OK);
    assert_int_equal(rk_pool_submit(pool, note, &letters[3]), RK_OK);
    assert_int_equal(rk_pool_submit(pool, note, &letters[3]), RK_EBUSY);
    assert_true(rk_pool_step(pool));
    assert_string_equal(trace, "c");
    virtual_ns += 20 * 1000000;
    assert_true(rk_pool_step(pool)); /* what is due goes before what is queued */
    assert_true(rk_pool_step(pool));
    assert_string_equal(trace, "cba");
    rk_pool_stop(pool); /* runs the queued one here */
    assert_string_equal(trace, "cbad");
    rk_pool_free(pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks),
        cmocka_unit_test(condition_times_out),
        cmocka_unit_test(pool_runs_all_in_parallel),
        cmocka_unit_test(pool_runs_delayed_tasks_in_time_order),
        cmocka_unit_test(delayed_task_is_not_held_up_by_busy_threads),
        cmocka_unit_test(pool_loses_nothing_under_load),
        cmocka_unit_test(manual_pool_runs_on_virtual_time),
        cmocka_unit_test(pool_without_memory),
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
