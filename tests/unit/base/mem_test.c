/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator's hook, the accountant's tree, the arena's growth, limits and deferred calls. */
#include "base/mem.h"

#include "base/thread.h"
#include "unit_test.h"

static void
allocator(void **state)
{
    RK_UNUSED(state);
    void *p = rk_alloc(0);
    assert_non_null(p);
    rk_free(p);
    p = rk_alloc_aligned(64, 100);
    assert_int_equal((uintptr_t)p % 64, 0);
    rk_free(p);
    assert_null(rk_alloc_zero(SIZE_MAX / 2, 16));
    char *copy = rk_strdup(RK_STR("abc"));
    assert_string_equal(copy, "abc");
    rk_free(copy);
    rk_alloc_fail_after(1);
    p = rk_alloc(1);
    assert_non_null(p);
    assert_null(rk_alloc(1));
    assert_null(rk_alloc_zero(1, 1));
    rk_alloc_fail_after(-1);
    rk_free(p);
}

static void
accountant(void **state)
{
    rk_mem *root = rk_mem_new(NULL, "process", 1000);
    rk_mem *child = rk_mem_new(root, "load", 600);
    rk_mem *free_child = rk_mem_new(root, "build", 0);
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_mem_reserve(child, 500, "segment 7", &err), RK_OK);
    assert_int_equal(rk_mem_used(root), 500);
    assert_int_equal(rk_mem_reserve(child, 101, "segment 8", &err), RK_ENOMEM);
    assert_string_equal(err.text, "segment 8: needs 101 bytes, used 500 of limit 600 of the load "
                                  "memory budget");
    /* refused at the root: the child's charge is taken back */
    assert_int_equal(rk_mem_reserve(free_child, 501, "index", &err), RK_ENOMEM);
    assert_int_equal(rk_mem_used(free_child), 0);
    assert_int_equal(rk_mem_used(root), 500);
    assert_int_equal(rk_mem_reserve(free_child, UINT64_MAX, "overflow", &err), RK_ENOMEM);
    assert_int_equal(rk_mem_limit(free_child), 1000);
    assert_int_equal(rk_mem_limit(child), 600);
    rk_mem_release(child, 500);
    assert_int_equal(rk_mem_reserve(NULL, UINT64_MAX, "nobody counts", &err), RK_OK);
    rk_mem_release(NULL, 5);
    rk_mem_free(child);
    rk_mem_free(free_child);
    rk_mem_free(root);
    assert_true(rk_mem_system_limit() > UINT64_C(64) << 20);
}

static void
reserve_and_release(void *raw)
{
    rk_mem *mem = raw;

    for (int i = 0; i < 20000; i++) {
        if (rk_mem_reserve(mem, 3, "race", NULL) == RK_OK) {
            assert_true(rk_mem_used(mem) <= 10);
            rk_mem_release(mem, 3);
        }
    }
}

static void
accountant_is_never_above_its_limit(void **state)
{
    rk_mem *root = rk_mem_new(NULL, "root", 10);
    rk_thread threads[4];

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(threads); i++) {
        assert_int_equal(rk_thread_start(&threads[i], "race", reserve_and_release, root), RK_OK);
    }
    for (size_t i = 0; i < RK_COUNT(threads); i++) {
        rk_thread_join(threads[i]);
    }
    assert_int_equal(rk_mem_used(root), 0);
    rk_mem_free(root);
}

static char order[8];

static void
note(void *arg)
{
    strncat(order, arg, sizeof(order) - strlen(order) - 1);
}

static void
arena_allocates(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    char a[] = "a";
    char b[] = "b";

    RK_UNUSED(state);
    for (size_t i = 0; i < 5000; i++) {
        uint8_t *p = rk_arena_alloc(arena, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, (int)i, i);
    }
    uint64_t *zeros = RK_ARENA_ARRAY(arena, uint64_t, 100000);
    assert_int_equal(zeros[99999], 0);
    assert_null(rk_arena_zero(arena, SIZE_MAX, 2));
    assert_null(rk_arena_alloc(arena, SIZE_MAX));
    assert_true(rk_str_is(rk_arena_printf(arena, "%s-%d", "x", 9), "x-9"));
    rk_str copy = rk_arena_str(arena, RK_STR("copied"));
    assert_string_equal(copy.data, "copied");
    assert_true(rk_arena_defer(arena, note, a));
    assert_true(rk_arena_defer(arena, note, b));
    rk_arena_reset(arena);
    assert_string_equal(order, "ba");
    assert_int_equal(rk_arena_used(arena), 0);
    assert_true(rk_arena_defer(arena, note, a));
    rk_arena_free(arena);
    assert_string_equal(order, "baa");
    rk_arena_free(NULL);
}

static void
arena_refuses(void **state)
{
    rk_arena *arena = rk_arena_new(10000);

    RK_UNUSED(state);
    assert_null(rk_arena_alloc(arena, 10001));
    assert_non_null(rk_arena_alloc(arena, 5000));
    assert_null(rk_arena_alloc(arena, 5001));
    assert_non_null(rk_arena_alloc(arena, 1000));
    rk_alloc_fail_after(0);
    assert_null(rk_arena_alloc(arena, 3900)); /* fits the limit, memory is out */
    rk_alloc_fail_after(-1);
    assert_non_null(rk_arena_alloc(arena, 3900));
    rk_arena_free(arena);
    rk_alloc_fail_after(1);
    assert_null(rk_arena_new(0));
    rk_alloc_fail_after(-1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocator),
        cmocka_unit_test(accountant),
        cmocka_unit_test(accountant_is_never_above_its_limit),
        cmocka_unit_test(arena_allocates),
        cmocka_unit_test(arena_refuses),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
