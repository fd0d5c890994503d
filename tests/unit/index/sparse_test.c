/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inverted index over several windows of rows equals the scan of raw rows, bit for bit:
 * filters, ranges, dropped query values, queries with terms nobody has, images, cancel, failing
 * allocations; every algorithm; equal scores; kernels against the scalar ones.
 */
#include "index/sparse.h"

#include "index_testing.h"

enum { ROWS = 30000, QUERIES = 12, K = 15 };

static rk_code
append(void *user, const void *data, size_t len, rk_err *err)
{
    RK_UNUSED(err);
    rk_buf_append(user, data, len);
    return RK_OK;
}

static void
assert_same_as_scan(const rk_index *index, const rk_vectors *v, const uint8_t *query, size_t len,
                    const rk_search_options *options)
{
    rk_hit hits[K];
    rk_hit flat[K];
    uint32_t n = 0;
    uint32_t n_flat = 0;

    assert_int_equal(rk_index_search(index, query, len, options, hits, &n, NULL), RK_OK);
    assert_int_equal(rk_flat_search(v, 0, RK_METRIC_IP, query, len, options, flat, &n_flat, NULL),
                     RK_OK);
    assert_int_equal(n, n_flat);
    for (uint32_t i = 0; i < n; i++) {
        if (hits[i].row != flat[i].row || hits[i].score != flat[i].score) {
            fail_msg("hit %u: row %u score %.9g, the scan has row %u score %.9g", i, hits[i].row,
                     (double)hits[i].score, flat[i].row, (double)flat[i].score);
        }
    }
}

static void
test_equals_scan(void **state)
{
    static const double densities[] = {1.0, 0.4, 0.05, 0.01, 0.0005};
    uint64_t *offsets = NULL;
    uint64_t *query_offsets = NULL;
    void *data = testing_sparse(ROWS, 3000, 60, 71, &offsets);
    uint8_t *queries = testing_sparse(QUERIES, 3000, 25, 72, &query_offsets);
    rk_vectors v = {RK_VEC_SPARSE, 0, ROWS, data, offsets};
    rk_build_options build = {.metric = RK_METRIC_IP};
    rk_arena *arena = rk_arena_new(0);
    rk_index *built = NULL;
    rk_index *opened = NULL;
    rk_buf buf = {0};
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&built, RK_STR("SPARSE_WAND"), &v, &build, &err), RK_OK);
    assert_int_equal(rk_index_save(built, append, &buf, &err), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    assert_int_equal(rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err), RK_OK);
    for (size_t d = 0; d < RK_COUNT(densities); d++) {
        rk_bitset filter;
        testing_filter(&filter, ROWS, densities[d], 80 + d);
        for (size_t q = 0; q < QUERIES; q++) {
            static const char *const drops[] = {"0", "0.3", "0.9"};
            const uint8_t *query = queries + query_offsets[q];
            size_t len = query_offsets[q + 1] - query_offsets[q];
            for (size_t i = 0; i < RK_COUNT(drops); i++) {
                rk_param drop = {RK_STR("drop_ratio_search"), rk_str_from(drops[i])};
                rk_search_options options = {.k = K,
                                             .params = {&drop, 1},
                                             .filter = &filter,
                                             .filter_count = rk_bitset_count(&filter),
                                             .arena = arena};
                assert_same_as_scan(built, &v, query, len, &options);
                assert_same_as_scan(opened, &v, query, len, &options);
                options.k = 1;
                assert_same_as_scan(built, &v, query, len, &options);
                options.k = K;
                options.range = true;
                options.radius = 4;
                options.has_range_filter = true;
                options.range_filter = 9;
                assert_same_as_scan(built, &v, query, len, &options);
                rk_arena_reset(arena);
            }
        }
        rk_bitset_deinit(&filter);
    }
    /* Terms nobody has, and no terms at all: no hits. */
    uint8_t lonely[8];
    rk_search_options options = {.k = K, .arena = arena};
    float one = 1;
    rk_put_u32le(lonely, 4000000000u);
    memcpy(lonely + 4, &one, 4);
    assert_same_as_scan(built, &v, lonely, 8, &options);
    assert_same_as_scan(built, &v, lonely, 0, &options);
    rk_index_free(built);
    rk_index_free(opened);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_free(image);
    rk_free(data);
    rk_free(queries);
    rk_free(offsets);
    rk_free(query_offsets);
}

/* One strong term and many weak ones, so that weak terms are retired early and rows found by the
 * strong one are scored whole. */
static void
test_weak_terms_are_retired(void **state)
{
    enum { N = 40000 };
    uint64_t *offsets = rk_alloc((N + 1) * sizeof(*offsets));
    rk_buf buf = {0};
    rk_buf query = {0};
    testing_rng rng = {73};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    assert_non_null(offsets);
    offsets[0] = 0;
    for (size_t r = 0; r < N; r++) {
        for (uint32_t t = 0; t < 20; t++) {
            if (testing_uniform(&rng) < (t == 0 ? 0.01 : 0.3)) {
                float w = (float)testing_uniform(&rng) * (t == 0 ? 100.0f : 1.0f);
                uint32_t bits = 0;
                memcpy(&bits, &w, 4);
                rk_buf_u32le(&buf, t);
                rk_buf_u32le(&buf, bits);
            }
        }
        offsets[r + 1] = buf.len;
    }
    for (uint32_t t = 0; t < 20; t++) {
        rk_buf_u32le(&query, t);
        rk_buf_u32le(&query, 0x3f800000u + t * 1000);
    }
    rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
    rk_build_options build = {.metric = RK_METRIC_IP};
    rk_index *index = NULL;
    assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_INVERTED_INDEX"), &v, &build, NULL),
                     RK_OK);
    rk_search_options options = {.k = K, .arena = arena};
    assert_same_as_scan(index, &v, query.data, query.len, &options);
    rk_index_free(index);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_buf_deinit(&query);
    rk_free(offsets);
}

/* Every algorithm of the API is exact; one row of many values, empty rows, rows of zeros. */
static void
test_algorithms(void **state)
{
    static const char *const names[] = {"TAAT_NAIVE",         "DAAT_WAND",      "DAAT_MAXSCORE",
                                        "BLOCK_MAX_MAXSCORE", "BLOCK_MAX_WAND", "SINDI"};
    enum { N = 9000 };
    uint64_t *offsets = rk_alloc((N + 1) * sizeof(*offsets));
    rk_buf buf = {0};
    rk_buf query = {0};
    testing_rng rng = {75};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    assert_non_null(offsets);
    for (size_t r = 0; r < N; r++) {
        offsets[r] = buf.len;
        for (uint32_t t = 0; t < 2000; t++) {
            double often = r == 77 ? 1 : r % 50 == 0 ? 0 : t < 10 ? 0.2 : 0.005;
            if (testing_uniform(&rng) < often) {
                /* few different values: many rows have equal scores */
                float w = r % 7 == 0 ? 0 : 0.25f * (float)(1 + testing_u64(&rng) % 3);
                uint32_t bits = 0;
                memcpy(&bits, &w, 4);
                rk_buf_u32le(&buf, t * 90000); /* far apart */
                rk_buf_u32le(&buf, bits);
            }
        }
    }
    offsets[N] = buf.len;
    for (uint32_t t = 0; t < 2000; t += t < 20 ? 1 : 97) {
        rk_buf_u32le(&query, t * 90000);
        rk_buf_u32le(&query, 0x3f000000u);
    }
    rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        rk_param algorithm = {RK_STR("inverted_index_algo"), rk_str_from(names[i])};
        rk_build_options build = {.metric = RK_METRIC_IP, .params = {&algorithm, 1}};
        rk_index *index = NULL;
        assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_INVERTED_INDEX"), &v, &build, NULL),
                         RK_OK);
        for (size_t len = 8; len <= query.len; len += 8) {
            rk_search_options options = {.k = 1 + (uint32_t)(len / 8 % K), .arena = arena};
            assert_same_as_scan(index, &v, query.data, len, &options);
            rk_arena_reset(arena);
        }
        rk_index_free(index);
    }
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_buf_deinit(&query);
    rk_free(offsets);
}

/* The chosen kernels against the scalar ones: full and empty runs, sums that saturate. */
static void
test_kernels(void **state)
{
    static const uint64_t masks[] = {
        0, 1, UINT64_C(1) << 63, UINT64_MAX, 0x00ff00ff00ff00ff, 0x123456789abcdef0};
    static const uint32_t factors[] = {0, 1, 255, 256, 20000, 65535};
    const rk__sparse_kernels *kernels[2] = {&rk__sparse_kernels_scalar, rk__sparse_kernels_get()};
    uint8_t records[sizeof(masks) / 8 * 72 + RK__SPARSE_PAD];
    testing_rng rng = {76};
    size_t len = 0;
    rk__sparse_run runs[RK_COUNT(masks)];

    RK_UNUSED(state);
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

static void
test_cancel_and_allocations(void **state)
{
    uint64_t *offsets = NULL;
    void *data = testing_sparse(500, 300, 20, 74, &offsets);
    rk_vectors v = {RK_VEC_SPARSE, 0, 500, data, offsets};
    _Atomic(bool) cancel = true;
    rk_build_options options = {.metric = RK_METRIC_IP, .cancel = &cancel};
    rk_index *index = NULL;
    rk_err err = {0};
    int64_t at = 0;

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_WAND"), &v, &options, &err),
                     RK_ECANCELLED);
    options.cancel = NULL;
    for (;; at++) {
        rk_alloc_fail_after(at);
        rk_code code = rk_index_build(&index, RK_STR("SPARSE_WAND"), &v, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            rk_index_free(index);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_true(at < 1000);
    }
    assert_true(at > 5);
    rk_free(data);
    rk_free(offsets);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_scan),
        cmocka_unit_test(test_weak_terms_are_retired),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_cancel_and_allocations),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
