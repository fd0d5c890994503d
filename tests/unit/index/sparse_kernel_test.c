/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of the sparse index against the scalar ones, every table that this CPU can run: full
 * and empty masks, sums that saturate, streams that end early, rows and queries of odd sizes. Apart
 * from sparse_test.c, so that scripts/test-arm64 needs few sources to build it.
 */
#include "index/sparse.h"
#include "index_testing.h"

/* Kernels against the scalar ones: full and empty runs, sums that saturate. */
static void
check_sums(const rk__sparse_kernels *other)
{
    static const uint64_t masks[] = {
        0, 1, UINT64_C(1) << 63, UINT64_MAX, 0x00ff00ff00ff00ff, 0x123456789abcdef0};
    static const uint32_t factors[] = {0, 1, 255, 256, 20000, 65535};
    const rk__sparse_kernels *kernels[2] = {&rk__sparse_kernels_scalar, other};
    uint8_t records[sizeof(masks) / 8 * 72 + RK__SPARSE_PAD];
    testing_rng rng = {76};
    size_t len = 0;
    rk__sparse_run runs[RK_COUNT(masks)];

    for (size_t i = 0; i < RK_COUNT(masks); i++) {
        runs[i] = (rk__sparse_run){records + len, factors[i]};
        rk_put_u64le(records + len, masks[i]);
        len += 8;
        for (int j = 0; j < __builtin_popcountll(masks[i]); j++) {
            records[len++] = (uint8_t)(1 + testing_u64(&rng) % 255);
        }
    }
    memset(records + len, 0xee, sizeof(records) - len);
    uint16_t sums[2][64];
    uint64_t any[2];
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < 64; i++) {
            sums[side][i] = (uint16_t)(i * 1000);
        }
        any[side] = kernels[side]->add(runs, RK_COUNT(masks), sums[side]);
    }
    assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
    assert_int_equal(any[0], any[1]);
    assert_int_equal(kernels[0]->largest(sums[0]), kernels[1]->largest(sums[0]));
    for (unsigned limit = 0; limit < 65536; limit += 117) {
        assert_int_equal(kernels[0]->reach(sums[0], (uint16_t)limit),
                         kernels[1]->reach(sums[0], (uint16_t)limit));
    }

    /* A node over blocks 3, 17, 40 and 63, its entries, and its bounds. */
    uint8_t entries[8 + RK__SPARSE_PAD] = {9, 200, 255, 1, 64, 32, 31, 1};
    rk__sparse_member member = {.mask = 1u << 3 | 1u << 17 | UINT64_C(1) << 40 | UINT64_C(1) << 63,
                                .entries = entries,
                                .factor = 777};
    for (unsigned block = 0; block < 64; block++) {
        rk__sparse_run found[2][2];
        uint32_t bound[2] = {0};
        size_t n[2];
        for (size_t side = 0; side < 2; side++) {
            n[side] =
                kernels[side]->find(&member, 1, block, records, 200, found[side], &bound[side]);
        }
        assert_int_equal(n[0], n[1]);
        assert_int_equal(bound[0], bound[1]);
        assert_true(n[0] == 0 || found[0][0].record == found[1][0].record);
    }
    rk__sparse_node nodes[2] = {{member.mask, 0, 0, 1}, {member.mask, 0, 1, 0}};
    uint16_t bounds[2][128] = {{0}};
    uint64_t blocks[2][2] = {{0}};
    for (size_t side = 0; side < 2; side++) { /* the second node points outside: left out */
        kernels[side]->bound(nodes, 2, entries, 4, 2, 60000, bounds[side], blocks[side]);
        if (kernels[side]->settle) {
            kernels[side]->settle(bounds[side], 2);
        }
    }
    assert_memory_equal(bounds[0], bounds[1], sizeof(bounds[0]));
    assert_memory_equal(blocks[0], blocks[1], sizeof(blocks[0]));
    assert_int_equal(bounds[0][64 + 17], 200 * 60000 / 256);
    assert_int_equal(blocks[0][0], 0);

    static uint16_t group[2][64 * 64];
    uint64_t some[2][64] = {{0}};
    member.mask = 0x3f; /* as many blocks as there are records */
    for (size_t side = 0; side < 2; side++) {
        kernels[side]->add_node(&member, records, len, group[side], some[side]);
    }
    assert_memory_equal(group[0], group[1], sizeof(group[0]));
    assert_memory_equal(some[0], some[1], sizeof(some[0]));
    assert_int_equal(some[0][3], UINT64_MAX);
}

/* Fine bounds over an odd number of patches, the last of which lacks its
 * maxima. */
static void
check_fine(const rk__sparse_kernels *other)
{
    enum { PATCHES = 7 };
    static const uint64_t masks[PATCHES] = {
        UINT64_MAX, 0, 1, 0x8000000000000001, 0x123456789abcdef0, 0xff00ff00ff00ff00, 0x0f};
    static const uint32_t factors[] = {0, 1, 255, 256, 20000, 65535};
    const rk__sparse_kernels *kernels[2] = {&rk__sparse_kernels_scalar, other};
    static uint8_t maxima[PATCHES * 64 + RK__SPARSE_PAD];
    testing_rng rng = {77};
    uint64_t n = 0;

    for (size_t i = 0; i < PATCHES - 1; i++) {
        n += (uint64_t)__builtin_popcountll(masks[i]);
    }
    for (size_t i = 0; i < sizeof(maxima); i++) {
        maxima[i] = (uint8_t)testing_u64(&rng);
    }
    static uint16_t sums[2][PATCHES * 64];
    uint64_t any[2][PATCHES] = {{0}};
    memset(sums, 0, sizeof(sums));
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < RK_COUNT(factors); i++) {
            kernels[side]->fine(masks, PATCHES, maxima + i, n + i, factors[i], sums[side],
                                any[side]);
        }
        if (kernels[side]->settle) {
            kernels[side]->settle(sums[side], PATCHES);
        }
    }
    assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
    assert_memory_equal(any[0], any[1], sizeof(any[0]));
    assert_int_equal(any[0][0], UINT64_MAX);
    assert_int_equal(any[0][PATCHES - 1], 0x0f); /* with five more maxima it is there */
    assert_int_equal(sums[0][64], 0);
}

/* Which pairs a query has: all that it has, in order; others at most by chance.
 */
static void
check_meet(const rk__sparse_kernels *kernels)
{
    static const size_t query_sizes[] = {0, 1, 43, RK__SPARSE_FEW, RK__SPARSE_FEW + 1, 1000};
    rk_arena *arena = rk_arena_new(0);
    testing_rng rng = {78};

    for (size_t z = 0; z < RK_COUNT(query_sizes); z++) {
        rk__pair query_pairs[1000];
        rk__sparse_query query;
        for (size_t i = 0; i < query_sizes[z]; i++) {
            query_pairs[i] = (rk__pair){(uint32_t)(i * 65537 + z), 1.0f};
        }
        assert_int_equal(rk__sparse_query_init(&query, query_pairs, query_sizes[z], arena, NULL),
                         RK_OK);
        for (size_t n = 0; n <= 256; n += n < 70 ? 1 : 31) {
            /* exactly as long as the row: a read past its end is found by the
             * sanitizer */
            rk__pair *row = rk_alloc((n + 1) * sizeof(*row));
            uint16_t met[256 + RK__SPARSE_MET];
            size_t found = 0;
            assert_non_null(row);
            for (size_t i = 0; i < n; i++) {
                bool has = query_sizes[z] > 0 && testing_u64(&rng) % 3 == 0;
                row[i].index = has ? query_pairs[testing_u64(&rng) % query_sizes[z]].index
                                   : 0x80000000u + (uint32_t)testing_u64(&rng) % 1000000;
                row[i].value = has ? 1.0f : 0.0f;
            }
            size_t n_met = kernels->meet(&query, (const uint8_t *)row, n, met);
            assert_true(n_met <= n);
            for (size_t i = 0; i < n; i++) {
                if (found < n_met && met[found] == i) {
                    found++;
                } else {
                    assert_true(row[i].value == 0.0f);
                }
            }
            assert_int_equal(found, n_met);
            rk_free(row);
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

/* Every table that this CPU can run. */
static void
test_kernels(void **state)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        const rk__sparse_kernels *kernels = rk__sparse_kernels_find(names[i]);
        if (kernels) {
            assert_string_equal(kernels->name, names[i]);
            check_sums(kernels);
            check_fine(kernels);
            check_meet(kernels);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
