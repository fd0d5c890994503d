/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inverted index over several windows of rows equals the scan of raw rows, bit for bit:
 * filters, ranges, dropped query values, queries with terms nobody has, images, cancel, failing
 * allocations; every algorithm; equal scores; filters over rows that are alike.
 */
#include "index/sparse/sparse.h"

#include <stdlib.h>

#include "index_testing.h"

enum { ROWS = 30000, QUERIES = 12, K = 15, K_MOST = 600 };

static void
assert_same_as_scan(const rk_index *index, const rk_vectors *v, const uint8_t *query, size_t len,
                    const rk_search_options *options)
{
    rk_hit hits[K_MOST];
    rk_hit flat[K_MOST];
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
    assert_int_equal(rk_index_save(built, testing_append, &buf, &err), RK_OK);
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

static void
append_pair(rk_buf *buf, uint32_t index, float value)
{
    uint32_t bits = 0;

    memcpy(&bits, &value, sizeof(bits));
    rk_buf_u32le(buf, index);
    rk_buf_u32le(buf, bits);
}

static rk_index *
build_blocks(const rk_vectors *v)
{
    rk_param algorithm = {RK_STR("inverted_index_algo"), RK_STR("BLOCK_MAX_WAND")};
    rk_build_options build = {.metric = RK_METRIC_IP, .params = {&algorithm, 1}};
    rk_index *index = NULL;

    assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_WAND"), v, &build, NULL), RK_OK);
    return index;
}

/* Weak terms are left out of the bounds from the start. Here they decide: fewer rows than k, or
 * more, have a strong one, and those of the others that have any have weak ones of very different
 * size. */
static void
test_weak_terms_come_in(void **state)
{
    static const uint32_t strong_rows[] = {0, 3, K - 1, K, 40};
    static const float weights[] = {0.001f, 0.5f, 1.0f, 1e-30f, 1e30f};
    enum { N = 5000, WEAK = 30 };
    rk_arena *arena = rk_arena_new(0);
    rk_bitset filter;

    RK_UNUSED(state);
    assert_int_equal(rk_bitset_init(&filter, N), RK_OK);
    for (size_t i = 0; i < N; i++) {
        if (i % 4 != 0) {
            rk_bitset_set(&filter, i);
        }
    }
    for (size_t c = 0; c < RK_COUNT(strong_rows) * RK_COUNT(weights); c++) {
        uint32_t strong = strong_rows[c / RK_COUNT(weights)];
        float weight = weights[c % RK_COUNT(weights)];
        uint64_t *offsets = rk_alloc_zero(N + 1, sizeof(*offsets));
        rk_buf buf = {0};
        rk_buf query = {0};
        testing_rng rng = {79 + c};
        assert_non_null(offsets);
        for (size_t r = 0; r < N; r++) {
            if (strong > 0 && r % (N / strong) == 1) {
                append_pair(&buf, 1, weight * (float)(1 + r % 3));
            }
            for (uint32_t t = 0; t < WEAK; t++) {
                if (testing_uniform(&rng) < 0.1) {
                    append_pair(&buf, 10 + t,
                                weight * (0.0001f + (float)testing_uniform(&rng) * 0.001f));
                }
            }
            offsets[r + 1] = buf.len;
        }
        append_pair(&query, 1, 1.0f);
        for (uint32_t t = 0; t < WEAK; t++) {
            append_pair(&query, 10 + t, t % 2 ? 1.0f : 0.01f);
        }
        rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
        rk_index *index = build_blocks(&v);
        for (uint32_t k = 1; k <= K; k += K - 1) {
            rk_search_options options = {.k = k, .arena = arena};
            assert_same_as_scan(index, &v, query.data, query.len, &options);
            options.filter = &filter;
            options.filter_count = rk_bitset_count(&filter);
            assert_same_as_scan(index, &v, query.data, query.len, &options);
            rk_arena_reset(arena);
        }
        rk_index_free(index);
        rk_buf_deinit(&buf);
        rk_buf_deinit(&query);
        rk_free(offsets);
    }
    rk_bitset_deinit(&filter);
    rk_arena_free(arena);
}

/* The same where so many rows of the first blocks are alike that they are scored before it shows.
 */
static void
test_weak_terms_come_in_late(void **state)
{
    enum { N = 39000 };
    uint64_t *offsets = rk_alloc_zero(N + 1, sizeof(*offsets));
    rk_arena *arena = rk_arena_new(0);
    rk_buf buf = {0};
    rk_buf query = {0};
    testing_rng rng = {82};

    RK_UNUSED(state);
    assert_non_null(offsets);
    for (size_t r = 0; r < N; r++) {
        append_pair(&buf, 3, 12.0f);
        for (uint32_t t = 10; t < 17; t++) {
            if (testing_u64(&rng) % 50 == 0) {
                append_pair(&buf, t, 1.0f);
            }
        }
        if (r == 5) {
            append_pair(&buf, 20, 988.0f);
        }
        offsets[r + 1] = buf.len;
    }
    append_pair(&query, 3, 1.0f);
    for (uint32_t t = 10; t < 17; t++) {
        append_pair(&query, t, 1.0f);
    }
    append_pair(&query, 20, 1.0f);
    rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
    rk_index *index = build_blocks(&v);
    for (uint32_t k = 1; k <= K_MOST; k += k < 10 ? 9 : 590) {
        rk_search_options options = {.k = k, .arena = arena};
        assert_same_as_scan(index, &v, query.data, query.len, &options);
        rk_arena_reset(arena);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_buf_deinit(&query);
    rk_free(offsets);
}

/* Indexes that all hash to one place of the table of a query: they are found all the same. */
static void
test_crowded_query(void **state)
{
    enum { TERMS = 60, N = 2000, TABLE = 512 };
    uint64_t *offsets = rk_alloc_zero(N + 1, sizeof(*offsets));
    rk_arena *arena = rk_arena_new(0);
    rk_buf buf = {0};
    rk_buf query = {0};
    uint32_t indexes[TERMS];
    size_t n = 0;
    testing_rng rng = {80};
    rk__sparse_query made;

    RK_UNUSED(state);
    assert_non_null(offsets);
    for (uint32_t i = 1; n < TERMS; i++) {
        if (((i * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (TABLE - 1)) == 5) {
            append_pair(&query, i, 0.5f + (float)n);
            indexes[n++] = i;
        }
    }
    for (size_t r = 0; r < N; r++) {
        for (size_t t = 0; t < TERMS; t++) {
            if (testing_u64(&rng) % 8 == 0) {
                append_pair(&buf, indexes[t], (float)testing_uniform(&rng));
                append_pair(&buf, indexes[t] + 1, 1.0f);
            }
        }
        offsets[r + 1] = buf.len;
    }
    rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
    rk_index *index = build_blocks(&v);
    for (size_t terms = 1; terms <= TERMS; terms += terms < 12 ? 1 : 24) {
        rk_search_options options = {.k = K, .arena = arena};
        assert_int_equal(rk__sparse_query_init(&made, (const rk__pair *)(const void *)query.data,
                                               terms, arena, NULL),
                         RK_OK);
        assert_true(terms < TERMS || made.cap == TABLE);
        assert_true(terms < TERMS || made.reach >= TERMS - 1);
        assert_same_as_scan(index, &v, query.data, terms * sizeof(rk__pair), &options);
        rk_arena_reset(arena);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_buf_deinit(&query);
    rk_free(offsets);
}

/* Of few rows every algorithm but those of blocks is the plain body: smaller, the same hits. */
static void
test_few_rows(void **state)
{
    static const char *const names[] = {"DAAT_MAXSCORE", "SINDI", "BLOCK_MAX_MAXSCORE"};
    static const size_t sizes[] = {1, 20, 700, 1535, 1536};

    RK_UNUSED(state);
    for (size_t z = 0; z < RK_COUNT(sizes); z++) {
        uint64_t *offsets = NULL;
        void *data = testing_sparse(sizes[z], 3000, 40, 81 + z, &offsets);
        rk_vectors v = {RK_VEC_SPARSE, 0, sizes[z], data, offsets};
        rk_arena *arena = rk_arena_new(0);
        rk_bitset filter;
        uint64_t memory[RK_COUNT(names)];
        assert_int_equal(rk_bitset_init(&filter, sizes[z]), RK_OK);
        for (size_t i = 0; i < sizes[z]; i += z + 2) {
            rk_bitset_set(&filter, i);
        }
        for (size_t a = 0; a < RK_COUNT(names); a++) {
            rk_param algorithm = {RK_STR("inverted_index_algo"), rk_str_from(names[a])};
            rk_build_options build = {.metric = RK_METRIC_IP, .params = {&algorithm, 1}};
            rk_index *index = NULL;
            rk_index_info info;
            assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_WAND"), &v, &build, NULL),
                             RK_OK);
            rk_index_get_info(index, &info);
            memory[a] = info.memory_bytes;
            for (size_t q = 0; q < sizes[z]; q += 1 + sizes[z] / 20) {
                rk_search_options options = {.k = K, .arena = arena};
                const uint8_t *query = (const uint8_t *)data + offsets[q];
                assert_same_as_scan(index, &v, query, offsets[q + 1] - offsets[q], &options);
                options.filter = &filter;
                options.filter_count = rk_bitset_count(&filter);
                assert_same_as_scan(index, &v, query, offsets[q + 1] - offsets[q], &options);
                rk_arena_reset(arena);
            }
            rk_index_free(index);
        }
        assert_int_equal(memory[0], memory[1]);
        assert_true(sizes[z] < 1536 ? memory[0] < memory[2] : memory[0] == memory[2]);
        rk_bitset_deinit(&filter);
        rk_arena_free(arena);
        rk_free(data);
        rk_free(offsets);
    }
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

/* A row of very many values, so many that there are more terms than keys of prints. */
static void
append_long_row(rk_buf *buf, testing_rng *rng)
{
    enum { VALUES = 70000 };

    for (uint32_t i = 0; i < VALUES; i++) {
        float w = (float)(0.01 + testing_uniform(rng) * 0.4);
        uint32_t bits = 0;
        memcpy(&bits, &w, 4);
        rk_buf_u32le(buf, i * 3 + 1);
        rk_buf_u32le(buf, bits);
    }
}

static int
compare_pairs(const void *a, const void *b)
{
    const rk__pair *x = a;
    const rk__pair *y = b;

    return x->index < y->index ? -1 : x->index > y->index;
}

/* A query of the terms of |n| rows: more than a page of tables holds. */
static size_t
join_rows(const rk_vectors *v, size_t first, size_t n, rk__pair *out)
{
    size_t n_pairs = 0;
    size_t kept = 0;

    for (size_t r = first; r < first + n; r++) {
        size_t len = v->offsets[r + 1] - v->offsets[r];
        memcpy(out + n_pairs, (const uint8_t *)v->data + v->offsets[r], len);
        n_pairs += len / sizeof(rk__pair);
    }
    qsort(out, n_pairs, sizeof(*out), compare_pairs);
    for (size_t i = 0; i < n_pairs; i++) {
        if (kept == 0 || out[kept - 1].index != out[i].index) {
            out[kept++] = out[i];
        }
    }
    return kept * sizeof(*out);
}

/* Rows alike in clusters, as real ones are, so that bounds rule most out:
 * filters of every share, random and of whole clusters, k small and large, queries short and long,
 * and one row of very many values. */
static void
test_filters(void **state)
{
    enum { N = 40000, CLUSTER = 40, LONG_ROW = 123, JOINED = 20 };
    static const double shares[] = {0.5, 0.24, 0.1, 0.05, 0.02, 0.01};
    uint64_t *offsets = rk_alloc((N + 1) * sizeof(*offsets));
    rk_buf buf = {0};
    testing_rng rng = {79};
    rk_arena *arena = rk_arena_new(0);
    rk_index *index = NULL;

    RK_UNUSED(state);
    assert_non_null(offsets);
    for (size_t r = 0; r < N; r++) {
        uint32_t last = 0;
        offsets[r] = buf.len;
        if (r == LONG_ROW) {
            append_long_row(&buf, &rng);
            continue;
        }
        for (uint32_t i = 0; i < 24; i++) {
            testing_rng word = {r / CLUSTER * 100 + i + 1};
            bool own = testing_uniform(&rng) < 0.6;
            uint64_t x = own ? testing_u64(&word) : testing_u64(&rng);
            last += 1 + (uint32_t)(x % (i % 5 == 0 ? 20 : 400)); /* some are common */
            float w = (float)(0.1 + testing_uniform(own ? &word : &rng) * 2 +
                              testing_uniform(&rng) * 0.3);
            uint32_t bits = 0;
            memcpy(&bits, &w, 4);
            rk_buf_u32le(&buf, last);
            rk_buf_u32le(&buf, bits);
        }
    }
    offsets[N] = buf.len;
    rk_vectors v = {RK_VEC_SPARSE, 0, N, buf.data, offsets};
    rk_build_options build = {.metric = RK_METRIC_IP};
    assert_int_equal(rk_index_build(&index, RK_STR("SPARSE_INVERTED_INDEX"), &v, &build, NULL),
                     RK_OK);
    for (size_t s = 0; s < RK_COUNT(shares); s++) {
        for (int clustered = 0; clustered < 2; clustered++) {
            rk_bitset filter;
            assert_int_equal(rk_bitset_init(&filter, N), RK_OK);
            for (size_t r = 0; r < N; r++) {
                testing_rng cluster = {r / CLUSTER + 7};
                if (testing_uniform(clustered ? &cluster : &rng) < shares[s]) {
                    rk_bitset_set(&filter, r);
                }
            }
            for (size_t q = 0; q < 6; q++) {
                size_t row = (q * 7919 + s * 131) % N;
                rk_search_options options = {.k = q % 3 == 0 ? 1 : K,
                                             .filter = &filter,
                                             .filter_count = rk_bitset_count(&filter),
                                             .arena = arena};
                options.range = q == 5;
                options.radius = 3;
                assert_same_as_scan(index, &v, buf.data + offsets[row],
                                    offsets[row + 1] - offsets[row], &options);
                rk__pair joined[JOINED * 24];
                size_t len = join_rows(&v, 200 + row % (N - 200 - JOINED), JOINED, joined);
                assert_same_as_scan(index, &v, (const uint8_t *)joined, len, &options);
                rk_arena_reset(arena);
            }
            rk_bitset_deinit(&filter);
        }
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_free(offsets);
}

static void
test_cancel_and_allocations(void **state)
{
    uint64_t *offsets = NULL;
    void *data = testing_sparse(500, 300, 20, 74, &offsets);
    rk_vectors v = {RK_VEC_SPARSE, 0, 500, data, offsets};
    _Atomic(bool) cancel = true;
    rk_err err = {0};

    RK_UNUSED(state);
    for (size_t plain = 0; plain < 2; plain++) {
        rk_param algorithm = {RK_STR("inverted_index_algo"),
                              plain ? RK_STR("DAAT_WAND") : RK_STR("BLOCK_MAX_WAND")};
        rk_build_options options = {
            .metric = RK_METRIC_IP, .params = {&algorithm, 1}, .cancel = &cancel};
        rk_index *index = NULL;
        int64_t at = 0;
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
    }
    rk_free(data);
    rk_free(offsets);
}

/* Few indexes, as far apart as they may be. */
static void
test_indexes_far_apart(void **state)
{
    static const uint32_t last[] = {1, 1u << 31, UINT32_MAX - 1};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(last); i++) {
        rk__pair rows[] = {{0, 1.0f}, {last[i], 2.0f}, {0, 3.0f}, {last[i], 1.0f}};
        uint64_t offsets[] = {0, 2 * sizeof(*rows), 3 * sizeof(*rows), 4 * sizeof(*rows)};
        rk_vectors v = {RK_VEC_SPARSE, 0, 3, rows, offsets};
        rk_arena *arena = rk_arena_new(0);
        rk_search_options options = {.k = 3, .filter_count = 3, .arena = arena};
        rk_index *index = build_blocks(&v);
        assert_same_as_scan(index, &v, (const uint8_t *)rows, 2 * sizeof(*rows), &options);
        assert_same_as_scan(index, &v, (const uint8_t *)&rows[1], sizeof(*rows), &options);
        rk_index_free(index);
        rk_arena_free(arena);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_scan),        cmocka_unit_test(test_weak_terms_are_retired),
        cmocka_unit_test(test_weak_terms_come_in), cmocka_unit_test(test_weak_terms_come_in_late),
        cmocka_unit_test(test_crowded_query),      cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_algorithms),         cmocka_unit_test(test_filters),
        cmocka_unit_test(test_indexes_far_apart),  cmocka_unit_test(test_cancel_and_allocations),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
