/* SPDX-License-Identifier: Apache-2.0 */
/* Bitsets of every length around word borders, against a plain array of bools. */
#include "base/bitset.h"

#include "base/seam.h"
#include "unit_test.h"

#define BITS_MAX 300

static void
check(const rk_bitset *set, const bool *truth)
{
    size_t count = 0;
    size_t next = set->nbits;

    for (size_t i = set->nbits; i-- > 0;) {
        assert_int_equal(rk_bitset_get(set, i), truth[i]);
        count += truth[i];
        if (truth[i]) {
            next = i;
        }
        assert_int_equal(rk_bitset_next(set, i), next);
    }
    assert_int_equal(rk_bitset_count(set), count);
    assert_int_equal(rk_bitset_next(set, set->nbits), set->nbits);
    if (set->nbits % 64) {
        assert_int_equal(set->words[set->nbits / 64] >> (set->nbits % 64), 0);
    }
}

static void
operations(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    rk_rng rng;

    RK_UNUSED(state);
    rk_rng_init(&rng, 7);
    for (size_t nbits = 0; nbits <= BITS_MAX; nbits++) {
        bool ta[BITS_MAX] = {false};
        bool tb[BITS_MAX] = {false};
        rk_bitset a;
        rk_bitset b;
        assert_int_equal(rk_bitset_init(&a, nbits), RK_OK);
        assert_int_equal(rk_bitset_init_arena(&b, nbits, arena), RK_OK);
        assert_int_equal((uintptr_t)a.words % 64, 0);
        assert_int_equal((uintptr_t)b.words % 64, 0);
        check(&a, ta);
        for (size_t i = 0; i < nbits; i++) {
            if ((ta[i] = rk_rng_below(&rng, 3) == 0)) {
                rk_bitset_set(&a, i);
            }
            if ((tb[i] = rk_rng_below(&rng, 3) == 0)) {
                rk_bitset_set(&b, i);
            }
        }
        check(&a, ta);
        rk_bitset_and(&a, &b);
        for (size_t i = 0; i < nbits; i++) {
            ta[i] = ta[i] && tb[i];
        }
        check(&a, ta);
        rk_bitset_not(&a);
        for (size_t i = 0; i < nbits; i++) {
            ta[i] = !ta[i];
        }
        check(&a, ta);
        rk_bitset_andnot(&a, &b);
        for (size_t i = 0; i < nbits; i++) {
            ta[i] = ta[i] && !tb[i];
        }
        check(&a, ta);
        rk_bitset_or(&a, &b);
        for (size_t i = 0; i < nbits; i++) {
            ta[i] = ta[i] || tb[i];
        }
        check(&a, ta);
        rk_bitset_fill(&a, true);
        assert_int_equal(rk_bitset_count(&a), nbits);
        if (nbits > 0) {
            rk_bitset_clear(&a, nbits - 1);
            assert_int_equal(rk_bitset_count(&a), nbits - 1);
        }
        rk_bitset_deinit(&a);
    }
    rk_arena_free(arena);
}

static void
refuses_impossible_sizes(void **state)
{
    rk_bitset set;

    RK_UNUSED(state);
    assert_int_equal(rk_bitset_init(&set, SIZE_MAX), RK_ENOMEM);
    assert_null(set.words);
    rk_bitset_deinit(&set);
    rk_alloc_fail_after(0);
    assert_int_equal(rk_bitset_init(&set, 10), RK_ENOMEM);
    rk_alloc_fail_after(-1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations),
        cmocka_unit_test(refuses_impossible_sizes),
    };
    return cmocka_run_group_tests_name("bitset", tests, NULL, NULL);
}
