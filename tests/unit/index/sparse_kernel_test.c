/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of the sparse index against the scalar ones, every table that this CPU can run: full
 * and empty masks, sums that saturate, streams that end early, prints, rows and queries of odd
 * sizes. Apart from sparse_test.c, so that scripts/test-arm64 needs few sources to build it.
 */
#include "index/sparse/sparse.h"
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

/* Fine bounds over an odd number of patches, one to three streams at a time, the last of which
 * lacks maxima. */
static void
check_fine(const rk__sparse_kernels *other)
{
    enum { PATCHES = 7 };
    static const uint64_t masks[PATCHES] = {
        UINT64_MAX, 0, 1, 0x8000000000000001, 0x123456789abcdef0, 0xff00ff00ff00ff00, 0x0f};
    static const uint64_t turned[PATCHES] = {0x0f, 3, 0, UINT64_MAX, 1, 0, 0x10};
    static const uint32_t factors[] = {0, 1, 255, 256, 20000, 65535};
    const rk__sparse_kernels *kernels[2] = {&rk__sparse_kernels_scalar, other};
    static uint8_t maxima[PATCHES * 64 + RK__SPARSE_PAD];
    testing_rng rng = {77};
    uint64_t n = 0;

    for (size_t i = 0; i < PATCHES; i++) {
        n += (uint64_t)__builtin_popcountll(masks[i]);
    }
    for (size_t i = 0; i < sizeof(maxima); i++) {
        maxima[i] = (uint8_t)testing_u64(&rng);
    }
    static uint16_t sums[2][PATCHES * 64];
    for (size_t some = 1; some <= RK__SPARSE_STREAMS; some++) {
        for (size_t i = 0; i < RK_COUNT(factors); i++) {
            uint64_t any[2][PATCHES] = {{0}};
            rk__sparse_stream streams[RK__SPARSE_STREAMS] = {
                {masks, maxima + i, n, factors[i]},
                {turned, maxima + 2 * i, n, factors[RK_COUNT(factors) - 1 - i]},
                {masks, maxima + 1, 20 * i, 300}};
            memset(sums, 0, sizeof(sums));
            for (size_t side = 0; side < 2; side++) {
                kernels[side]->fine(streams, some, PATCHES, sums[side], any[side]);
                if (kernels[side]->settle) {
                    kernels[side]->settle(sums[side], PATCHES);
                }
            }
            assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
            assert_memory_equal(any[0], any[1], sizeof(any[0]));
            assert_int_equal(any[0][0], UINT64_MAX);
            assert_int_equal(any[0][1], some > 1 ? 3 : 0);
            assert_int_equal(sums[0][64 + 2], 0);
            assert_int_equal(some > 1 || sums[0][2 * 64] == (maxima[i + 64] * factors[i] >> 8), 1);
        }
    }
}

/* Sums of prints: never under what the terms give, the same for all kernels; terms in more than one
 * page, prints of odd sizes, not a byte read past them. */
static void
check_print(const rk__sparse_kernels *kernels)
{
    static const size_t term_counts[] = {0, 1, 43, 300};
    rk_arena *arena = rk_arena_new(0);
    testing_rng rng = {79};

    for (size_t z = 0; z < RK_COUNT(term_counts); z++) {
        rk__sparse_found terms[300];
        rk__sparse_tables tables;
        for (size_t i = 0; i < term_counts[z]; i++) {
            terms[i] = (rk__sparse_found){.term = i * 701 % 65536,
                                          .bound = 255 * (0.01 + testing_uniform(&rng))};
        }
        assert_int_equal(rk__sparse_tables_init(&tables, terms, term_counts[z], arena, NULL),
                         RK_OK);
        assert_true(tables.n_pages >= (term_counts[z] + 255) / 256 && tables.n_pages > 0);
        for (size_t n = 0; n < 300; n += n < 70 ? 1 : 31) {
            uint8_t *print = rk_alloc(n * RK__SPARSE_PRINT + 1);
            double due = 0;
            assert_non_null(print);
            for (size_t i = 0; i < n; i++) {
                bool has = term_counts[z] > 0 && testing_u64(&rng) % 3 == 0;
                size_t at = testing_u64(&rng) % RK_MAX(term_counts[z], (size_t)1);
                uint8_t weight = (uint8_t)(1 + testing_u64(&rng) % 255);
                rk__sparse_print_put(
                    print, n, i,
                    has ? (uint32_t)terms[at].term : (uint32_t)testing_u64(&rng) % 65536, weight);
                due += has ? terms[at].bound / 255 * tables.unit * weight : 0;
            }
            uint32_t sum = kernels->print(tables.pages, tables.n_pages, print, n);
            assert_true((double)sum >= due * (1 - 1e-9));
            assert_int_equal(
                sum, rk__sparse_kernels_scalar.print(tables.pages, tables.n_pages, print, n));
            assert_true(term_counts[z] > 0 || sum == 0);
            rk_free(print);
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

/* Rows that pass; numbers past the last row do not, and are not looked up. */
static void
check_pass(const rk__sparse_kernels *kernels)
{
    enum { N = 1000 };
    testing_rng rng = {80};
    rk_bitset set;

    assert_int_equal(rk_bitset_init(&set, N), RK_OK);
    for (size_t i = 0; i < N; i++) {
        if (testing_u64(&rng) % 3 == 0) {
            rk_bitset_set(&set, i);
        }
    }
    for (size_t i = 0; i < 200; i++) {
        uint32_t rows[RK__SPARSE_QUARTER];
        uint32_t expected = 0;
        for (unsigned j = 0; j < RK__SPARSE_QUARTER; j++) {
            rows[j] = testing_u64(&rng) % 7 == 0 ? RK__NO_ROW - j % 2
                                                 : (uint32_t)(testing_u64(&rng) % (N + 20));
            expected |= (uint32_t)(rows[j] < N && rk_bitset_get(&set, rows[j])) << j;
        }
        assert_int_equal(kernels->pass(rows, set.words, N), expected);
    }
    rk_bitset_deinit(&set);
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
            check_print(kernels);
            check_pass(kernels);
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
