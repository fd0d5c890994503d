/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact search equals brute force: every type x metric x filter density, whole and in chunks, with
 * range bounds, ties, NaN rows and k above the row count.
 */
#include "index_testing.h"

typedef struct flat_case {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
} flat_case;

static const flat_case cases[] = {
    {RK_VEC_F32, RK_METRIC_L2, 33},         {RK_VEC_F32, RK_METRIC_IP, 128},
    {RK_VEC_F32, RK_METRIC_COSINE, 17},     {RK_VEC_F16, RK_METRIC_L2, 24},
    {RK_VEC_F16, RK_METRIC_IP, 65},         {RK_VEC_F16, RK_METRIC_COSINE, 2},
    {RK_VEC_BF16, RK_METRIC_L2, 31},        {RK_VEC_BF16, RK_METRIC_IP, 16},
    {RK_VEC_BF16, RK_METRIC_COSINE, 40},    {RK_VEC_I8, RK_METRIC_L2, 50},
    {RK_VEC_I8, RK_METRIC_IP, 64},          {RK_VEC_I8, RK_METRIC_COSINE, 7},
    {RK_VEC_BINARY, RK_METRIC_HAMMING, 64}, {RK_VEC_BINARY, RK_METRIC_JACCARD, 200},
    {RK_VEC_SPARSE, RK_METRIC_IP, 0},
};
static const double densities[] = {1.0, 0.5, 0.03, 0.002, 0.0};

/* Same rows where scores are apart, and scores within rounding of the reference everywhere. */
static void
assert_matches(const rk_hit *hits, uint32_t n, const rk__near *truth, size_t n_truth, uint32_t k,
               rk_metric metric, const char *what)
{
    bool larger = rk_metric_larger_is_nearer(metric);
    float scale = 1;

    if (n != RK_MIN((size_t)k, n_truth)) {
        fail_msg("%s: %u hits, expected %zu", what, n, RK_MIN((size_t)k, n_truth));
    }
    for (uint32_t i = 0; i < n; i++) {
        scale = RK_MAX(scale, fabsf(truth[i].key));
    }
    for (uint32_t i = 0; i < n; i++) {
        float key = larger ? -hits[i].score : hits[i].score;
        if (fabsf(key - truth[i].key) > 2e-5f * scale) {
            fail_msg("%s: hit %u has score %g, expected %g", what, i, (double)hits[i].score,
                     (double)truth[i].key);
        }
        bool alone = (i == 0 || truth[i].key - truth[i - 1].key > 4e-5f * scale) &&
                     (i + 1 >= n_truth || truth[i + 1].key - truth[i].key > 4e-5f * scale);
        if (alone && hits[i].row != truth[i].row) {
            fail_msg("%s: hit %u is row %u, expected %u", what, i, hits[i].row, truth[i].row);
        }
        if (i > 0) {
            float last = larger ? -hits[i - 1].score : hits[i - 1].score;
            assert_true(last < key || (last == key && hits[i - 1].row < hits[i].row));
        }
    }
}

static void
run_case(const flat_case *c)
{
    enum { ROWS = 3000, K = 20 };
    uint64_t *offsets = NULL;
    uint64_t *query_offsets = NULL;
    bool sparse = c->type == RK_VEC_SPARSE;
    void *data = sparse ? testing_sparse(ROWS, 500, 30, 1, &offsets)
                        : testing_dense(c->type, c->dim, ROWS, 8, 1);
    void *queries = sparse ? testing_sparse(4, 500, 12, 2, &query_offsets)
                           : testing_dense(c->type, c->dim, 4, 8, 2);
    rk_vectors v = {c->type, c->dim, ROWS, data, offsets};
    rk_build_options build = {.metric = c->metric};
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
    rk_index *index = NULL;
    rk_err err = {0};
    const char *kind = sparse                     ? "SPARSE_INVERTED_INDEX"
                       : c->type == RK_VEC_BINARY ? "BIN_FLAT"
                                                  : "FLAT";

    assert_int_equal(rk_index_build(&index, rk_str_from(kind), &v, &build, &err), RK_OK);
    for (size_t d = 0; d < RK_COUNT(densities); d++) {
        rk_bitset filter;
        testing_filter(&filter, ROWS, densities[d], 5 + d);
        for (size_t q = 0; q < 4; q++) {
            size_t query_len =
                sparse ? query_offsets[q + 1] - query_offsets[q] : rk_vector_bytes(c->type, c->dim);
            const uint8_t *query =
                (const uint8_t *)queries + (sparse ? query_offsets[q] : q * query_len);
            rk_search_options options = {.k = K,
                                         .filter = &filter,
                                         .filter_count = rk_bitset_count(&filter),
                                         .arena = arena};
            rk_hit hits[K];
            rk_hit chunked[K];
            uint32_t n = 0;
            uint32_t n_chunked = 0;
            size_t n_truth = testing_truth(&v, c->metric, query, query_len, &filter, truth);
            char what[128];

            snprintf(what, sizeof(what), "type %d %s density %g query %zu", (int)c->type,
                     rk_metric_name(c->metric), densities[d], q);
            assert_int_equal(rk_index_search(index, query, query_len, &options, hits, &n, &err),
                             RK_OK);
            assert_matches(hits, n, truth, n_truth, K, c->metric, what);
            for (size_t base = 0; base < ROWS; base += 1100) {
                size_t rows = RK_MIN((size_t)1100, ROWS - base);
                size_t at = sparse ? 0 : base * rk_vector_bytes(c->type, c->dim);
                rk_vectors chunk = {c->type, c->dim, rows, (uint8_t *)data + at,
                                    sparse ? offsets + base : NULL};
                assert_int_equal(rk_flat_search(&chunk, base, c->metric, query, query_len, &options,
                                                chunked, &n_chunked, &err),
                                 RK_OK);
            }
            assert_int_equal(n, n_chunked);
            assert_memory_equal(hits, chunked, n * sizeof(*hits)); /* the same bits */

            /* Range: between the 5th and the 15th. */
            if (n_truth > 20) {
                bool larger = rk_metric_larger_is_nearer(c->metric);
                options.range = true;
                options.has_range_filter = true;
                options.radius = hits[14].score;
                options.range_filter = hits[4].score;
                assert_int_equal(
                    rk_index_search(index, query, query_len, &options, chunked, &n_chunked, &err),
                    RK_OK);
                for (uint32_t i = 0; i < n_chunked; i++) {
                    float s = chunked[i].score;
                    assert_true(larger ? s > options.radius && s <= options.range_filter
                                       : s < options.radius && s >= options.range_filter);
                }
                if (hits[4].score != hits[3].score && hits[14].score != hits[13].score) {
                    assert_int_equal(n_chunked, 10);
                    assert_memory_equal(chunked, hits + 4, 10 * sizeof(*hits));
                }
            }
            rk_arena_reset(arena);
        }
        rk_bitset_deinit(&filter);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_free(truth);
    rk_free(data);
    rk_free(queries);
    rk_free(offsets);
    rk_free(query_offsets);
}

static void
test_equals_brute_force(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        run_case(&cases[i]);
    }
}

static void
test_ties_nan_and_zero(void **state)
{
    const float rows[6][2] = {{1, 0}, {NAN, 1}, {1, 0}, {0, 0}, {1, 0}, {-1, 0}};
    const float query[2] = {1, 0};
    rk_vectors v = {RK_VEC_F32, 2, 6, rows, NULL};
    rk_arena *arena = rk_arena_new(0);
    rk_search_options options = {.k = 10, .arena = arena};
    rk_hit hits[10];
    uint32_t n = 0;
    rk_err err = {0};
    const rk_hit expected[] = {{1, 0}, {1, 2}, {1, 4}, {0, 3}, {-1, 5}};

    RK_UNUSED(state);
    assert_int_equal(
        rk_flat_search(&v, 0, RK_METRIC_COSINE, query, sizeof(query), &options, hits, &n, &err),
        RK_OK);
    assert_int_equal(n, 5);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(hits[i].row, expected[i].row);
        assert_true(hits[i].score == expected[i].score);
    }
    options.k = 2;
    n = 0;
    assert_int_equal(
        rk_flat_search(&v, 0, RK_METRIC_L2, query, sizeof(query), &options, hits, &n, &err), RK_OK);
    assert_int_equal(n, 2);
    assert_int_equal(hits[0].row, 0);
    assert_int_equal(hits[1].row, 2);
    assert_int_equal(rk_flat_search(&v, 0, RK_METRIC_L2, query, 4, &options, hits, &n, &err),
                     RK_EINVAL);
    rk_arena_free(arena);
}

/* Where rows and filter begin and end, around the words of the filter. */
static void
test_filter_edges(void **state)
{
    enum { ROWS = 300 };
    float data[ROWS][2];
    rk_hit hits[ROWS];
    rk_bitset filter;

    RK_UNUSED(state);
    for (uint32_t i = 0; i < ROWS; i++) {
        data[i][0] = (float)i;
        data[i][1] = 1;
    }
    for (size_t base = 0; base < 200; base += base % 64 < 62 ? 31 : 1) {
        for (size_t nbits = 0; nbits <= 520; nbits += 13) {
            testing_filter(&filter, nbits, nbits % 2 ? 0.1 : 0.7, base + nbits);
            for (size_t rows = 0; rows <= ROWS; rows += 37) {
                rk_vectors v = {RK_VEC_F32, 2, rows, data, NULL};
                const float query[2] = {0, 1};
                rk_arena *arena = rk_arena_new(0);
                rk_search_options options = {.k = ROWS, .filter = &filter, .arena = arena};
                rk_err err = {0};
                uint32_t n = 0;
                uint32_t want = 0;
                assert_int_equal(rk_flat_search(&v, base, RK_METRIC_L2, query, sizeof(query),
                                                &options, hits, &n, &err),
                                 RK_OK);
                for (size_t r = base; r < base + rows && r < nbits; r++) {
                    if (rk_bitset_get(&filter, r)) {
                        assert_true(want < n && hits[want].row == r);
                        want++;
                    }
                }
                assert_int_equal(n, want);
                rk_arena_free(arena);
            }
            rk_bitset_deinit(&filter);
        }
    }
}

static void
test_sparse_query_errors(void **state)
{
    static const struct {
        uint32_t pairs[4];
        size_t len;
        const char *text;
    } bad[] = {
        {{1, 0x3f800000, 1, 0x3f800000}, 16, "strict ascending"},
        {{2, 0x7fc00000}, 8, "NaN or Inf"},
        {{2, 0xbf800000}, 8, "negative value"},
        {{UINT32_MAX, 0x3f800000}, 8, "uint32 max"},
        {{2, 0x3f800000}, 7, "Invalid size for sparse row data"},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(bad); i++) {
        rk_err err = {0};
        assert_int_equal(rk__sparse_check(bad[i].pairs, bad[i].len, &err), RK_EINVAL);
        assert_non_null(strstr(err.text, bad[i].text));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_brute_force),
        cmocka_unit_test(test_ties_nan_and_zero),
        cmocka_unit_test(test_filter_edges),
        cmocka_unit_test(test_sparse_query_errors),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
