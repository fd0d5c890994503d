/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The graph: recall floors per type and metric, walking on codes and on vectors; filters of every
 * density never return a masked row and return k whenever k pass; equal rows, far clusters and rows
 * that are not finite; range search; images; cancel and budget.
 */
#include "index/hnsw/hnsw.h"

#include "index/cluster/cluster.h"
#include "index/hnsw/nearest.h"
#include "index/hnsw/tile.h"
#include "index_testing.h"

enum { ROWS = 6000, K = 10, QUERIES = 30 };

typedef struct hnsw_case {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    double recall_min;
} hnsw_case;

static const hnsw_case cases[] = {
    {RK_VEC_F32, RK_METRIC_L2, 48, 0.97},          {RK_VEC_F32, RK_METRIC_IP, 48, 0.95},
    {RK_VEC_F32, RK_METRIC_COSINE, 33, 0.97},      {RK_VEC_F16, RK_METRIC_L2, 40, 0.97},
    {RK_VEC_F16, RK_METRIC_COSINE, 32, 0.97},      {RK_VEC_BF16, RK_METRIC_IP, 40, 0.95},
    {RK_VEC_I8, RK_METRIC_L2, 50, 0.97},           {RK_VEC_I8, RK_METRIC_COSINE, 64, 0.97},
    {RK_VEC_I8, RK_METRIC_IP, 64, 0.95},           {RK_VEC_BINARY, RK_METRIC_HAMMING, 256, 0.75},
    {RK_VEC_BINARY, RK_METRIC_JACCARD, 256, 0.75},
};
static const double densities[] = {1.0, 0.6, 0.2, 0.05, 0.004, 0.0};

static rk_param hnsw_params[2];

static rk_params
params_of(const char *m, const char *ef_construction)
{
    hnsw_params[0] = (rk_param){RK_STR("M"), rk_str_from(m)};
    hnsw_params[1] = (rk_param){RK_STR("efConstruction"), rk_str_from(ef_construction)};
    return (rk_params){hnsw_params, 2};
}

static rk_index *
build(const rk_vectors *v, rk_metric metric, const rk_parallel *parallel)
{
    rk_build_options options = {
        .metric = metric, .params = params_of("12", "100"), .parallel = parallel, .seed = 3};
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, RK_STR("HNSW"), v, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

static double
recall_of(const rk_hit *hits, uint32_t n, const rk__near *truth, uint32_t k)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < k; j++) {
            found += hits[i].row == truth[j].row;
        }
    }
    return k > 0 ? (double)found / k : 1;
}

/* Recall over all queries under one filter; checks what must hold for each answer. */
static double
search_all(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
           const rk_bitset *filter, const char *ef_text)
{
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(v->rows * sizeof(*truth));
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    rk_param ef = {RK_STR("ef"), rk_str_from(ef_text)};
    size_t passing = filter ? rk_bitset_count(filter) : v->rows;
    double recall = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {
            .k = K, .params = {&ef, 1}, .filter = filter, .filter_count = passing, .arena = arena};
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        const uint8_t *query = queries + q * bytes;
        size_t n_truth = testing_truth(v, metric, query, bytes, filter, truth);

        assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, RK_MIN((size_t)K, n_truth));
        assert_int_equal(rk_flat_search(v, 0, metric, query, bytes, &options, flat, &n_flat, NULL),
                         RK_OK);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            for (uint32_t j = 0; j < i; j++) {
                assert_int_not_equal(hits[i].row, hits[j].row);
            }
            for (uint32_t j = 0; j < n_flat; j++) { /* one pair, one score */
                assert_true(hits[i].row != flat[j].row || hits[i].score == flat[j].score);
            }
        }
        recall += recall_of(hits, n, truth, (uint32_t)RK_MIN((size_t)K, n_truth));
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    rk_free(truth);
    return recall / QUERIES;
}

static void
test_recall_and_filters(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const hnsw_case *c = &cases[i];
        void *data = testing_dense(c->type, c->dim, ROWS, 10, 11);
        uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, 10, 12);
        rk_vectors v = {c->type, c->dim, ROWS, data, NULL};
        rk_index *index = build(&v, c->metric, NULL);
        const rk__hnsw *graph = index->impl;

        assert_true((graph->codes.data != NULL) ==
                    (c->type != RK_VEC_I8 && c->type != RK_VEC_BINARY));
        for (size_t d = 0; d < RK_COUNT(densities); d++) {
            rk_bitset filter;
            testing_filter(&filter, ROWS, densities[d], 40 + d);
            double recall = search_all(index, &v, c->metric, queries, &filter, "64");
            if (recall < c->recall_min) {
                fail_msg("type %d %s density %g: recall %.3f under %.3f", (int)c->type,
                         rk_metric_name(c->metric), densities[d], recall, c->recall_min);
            }
            recall = search_all(index, &v, c->metric, queries, &filter,
                                "24"); /* small enough to walk under the filter */
            if (recall < c->recall_min - 0.08) {
                fail_msg("type %d %s density %g ef 24: recall %.3f", (int)c->type,
                         rk_metric_name(c->metric), densities[d], recall);
            }
            rk_bitset_deinit(&filter);
        }

        /* The image gives the same answers. */
        rk_buf buf = {0};
        rk_index *opened = NULL;
        rk_err err = {0};
        rk_arena *arena = rk_arena_new(0);
        assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
        char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
        assert_non_null(image);
        memcpy(image, buf.data, buf.len);
        if (rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(rk_index_verify(opened, NULL, &err), RK_OK);
        size_t bytes = rk_vector_bytes(c->type, c->dim);
        for (size_t q = 0; q < QUERIES; q++) {
            rk_search_options options = {.k = K, .arena = arena};
            rk_hit a[K];
            rk_hit b[K];
            uint32_t na = 0;
            uint32_t nb = 0;
            assert_int_equal(
                rk_index_search(index, queries + q * bytes, bytes, &options, a, &na, &err), RK_OK);
            assert_int_equal(
                rk_index_search(opened, queries + q * bytes, bytes, &options, b, &nb, &err), RK_OK);
            assert_int_equal(na, nb);
            assert_memory_equal(a, b, na * sizeof(*a));
        }
        rk_index_free(opened);
        image[buf.len / 2] ^= 1;
        assert_int_equal(rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err),
                         RK_ECORRUPT);
        rk_arena_free(arena);
        rk_buf_deinit(&buf);
        rk_free(image);
        rk_index_free(index);
        rk_free(data);
        rk_free(queries);
    }
}

/* One huge component stretches the scale of the codes, so the walk must fall back to the vectors.
 */
static void
test_outlier_switches_codes_off(void **state)
{
    float *data = testing_dense(RK_VEC_F32, 32, ROWS, 10, 13);
    uint8_t *queries = testing_dense(RK_VEC_F32, 32, QUERIES, 10, 14);
    rk_vectors v = {RK_VEC_F32, 32, ROWS, data, NULL};

    RK_UNUSED(state);
    data[17 * 32 + 5] = 1e6f;
    rk_index *index = build(&v, RK_METRIC_L2, NULL);
    const rk__hnsw *graph = index->impl;
    assert_null(graph->codes.data);
    assert_true(search_all(index, &v, RK_METRIC_L2, queries, NULL, "64") >= 0.97);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

static void
test_equal_rows_and_far_clusters(void **state)
{
    enum { N = 12000, DIM = 16 };
    float *data = rk_alloc(N * DIM * sizeof(float));
    rk_vectors v = {RK_VEC_F32, DIM, N, data, NULL};
    rk_arena *arena = rk_arena_new(0);
    testing_rng rng = {4};
    rk_err err = {0};

    RK_UNUSED(state);
    assert_non_null(data);
    for (size_t r = 0; r < N;
         r++) { /* 10,000 equal rows, then 200 tight clusters of 10 far from each other */
        for (size_t i = 0; i < DIM; i++) {
            size_t cluster = (r - 10000) / 10;
            data[r * DIM + i] = r < 10000 ? 1.0f
                                          : (float)(rk_hash_u64(cluster * 16 + i + 1) % 20000) +
                                                0.01f * testing_gauss(&rng);
        }
    }
    rk_index *index = build(&v, RK_METRIC_L2, NULL);
    rk_search_options options = {.k = 100, .arena = arena};
    rk_hit hits[100];
    uint32_t n = 0;
    float query[DIM];
    for (size_t i = 0; i < DIM; i++) {
        query[i] = 1.0f;
    }
    assert_int_equal(rk_index_search(index, query, sizeof(query), &options, hits, &n, &err), RK_OK);
    assert_int_equal(n, 100);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(hits[i].row, i); /* all equal: ties by row */
    }
    options.k = 10;
    uint32_t lost = 0;
    for (size_t c = 0; c < 200; c++) {
        assert_int_equal(rk_index_search(index, data + (10000 + c * 10) * DIM, sizeof(query),
                                         &options, hits, &n, &err),
                         RK_OK);
        assert_int_equal(n, 10);
        for (uint32_t i = 0; i < n; i++) {
            lost += (hits[i].row - 10000) / 10 != c;
        }
        rk_arena_reset(arena);
    }
    if (lost > 20) {
        fail_msg("%u of 2000 neighbours in far clusters were lost", lost);
    }
    /* Masked chain: only the last of the equal rows passes. */
    rk_bitset filter;
    testing_filter(&filter, N, 0.3, 5);
    for (size_t r = 0; r < 9999; r++) {
        rk_bitset_clear(&filter, r);
    }
    rk_bitset_set(&filter, 9999);
    options.filter = &filter;
    options.filter_count = rk_bitset_count(&filter);
    options.k = 1;
    assert_int_equal(rk_index_search(index, query, sizeof(query), &options, hits, &n, &err), RK_OK);
    assert_int_equal(hits[0].row, 9999);
    rk_bitset_deinit(&filter);
    rk_index_free(index);
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_not_finite(void **state)
{
    float *data = testing_dense(RK_VEC_F32, 8, 2000, 4, 15);
    rk_vectors v = {RK_VEC_F32, 8, 2000, data, NULL};
    rk_arena *arena = rk_arena_new(0);
    rk_search_options options = {.k = 2000, .arena = arena};
    rk_hit *hits = rk_alloc(2000 * sizeof(*hits));
    uint32_t n = 0;

    RK_UNUSED(state);
    for (size_t r = 0; r < 2000; r += 10) {
        data[r * 8 + r % 8] = r % 20 ? NAN : INFINITY;
    }
    rk_index *index = build(&v, RK_METRIC_L2, NULL);
    assert_int_equal(rk_index_search(index, data + 8, 32, &options, hits, &n, NULL), RK_OK);
    assert_int_equal(n, 1900); /* infinity is a distance, NaN is none */
    assert_int_equal(hits[0].row, 1);
    assert_int_equal(rk_index_search(index, data, 32, &options, hits, &n, NULL),
                     RK_OK); /* a query with infinity */
    rk_index_free(index);
    rk_arena_free(arena);
    rk_free(hits);
    rk_free(data);
}

static void
test_range(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 24, ROWS, 8, 16);
    uint8_t *queries = testing_dense(RK_VEC_F32, 24, QUERIES, 8, 17);
    rk_vectors v = {RK_VEC_F32, 24, ROWS, data, NULL};
    rk_index *index = build(&v, RK_METRIC_L2, NULL);
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
    rk_hit hits[200];
    uint32_t n = 0;
    size_t found = 0;
    size_t wanted = 0;

    RK_UNUSED(state);
    for (size_t q = 0; q < QUERIES; q++) {
        (void)testing_truth(&v, RK_METRIC_L2, queries + q * 96, 96, NULL, truth);
        size_t from = q * 3;
        size_t to = from + 5 + q;
        rk_param ef = {RK_STR("ef"), RK_STR("30")}; /* small enough to walk, and to have to grow */
        rk_search_options options = {.k = 50,
                                     .params = {&ef, 1},
                                     .arena = arena,
                                     .range = true,
                                     .radius = truth[to].key,
                                     .has_range_filter = true,
                                     .range_filter = truth[from].key};
        assert_int_equal(rk_index_search(index, queries + q * 96, 96, &options, hits, &n, NULL),
                         RK_OK);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(hits[i].score < options.radius && hits[i].score >= options.range_filter);
        }
        found += n;
        wanted += RK_MIN(to - from, (size_t)50);
        rk_arena_reset(arena);
    }
    if ((double)found < 0.97 * (double)wanted) {
        fail_msg("range search found %zu of %zu", found, wanted);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_free(truth);
    rk_free(data);
    rk_free(queries);
}

static void
test_cancel_and_budget(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 24, 2000, 8, 18);
    rk_vectors v = {RK_VEC_F32, 24, 2000, data, NULL};
    _Atomic(bool) cancel = true;
    rk_mem *mem = rk_mem_new(NULL, "test", 100000);
    rk_index *index = NULL;
    rk_err err = {0};
    rk_build_options options = {.metric = RK_METRIC_L2, .cancel = &cancel};

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err), RK_ECANCELLED);
    assert_null(index);
    options.cancel = NULL;
    options.mem = mem;
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err), RK_ENOMEM);
    assert_null(index);
    assert_true(rk_mem_used(mem) == 0);
    rk_mem_free(mem);
    mem = rk_mem_new(NULL, "test", 100000000);
    options.mem = mem;
    _Atomic(uint64_t) done = 0;
    options.rows_done = &done;
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err), RK_OK);
    assert_true(done == 2000);
    rk_index_info info;
    rk_index_get_info(index, &info);
    assert_string_equal(info.kind, "HNSW");
    assert_true(info.memory_bytes >= rk_mem_used(mem) && rk_mem_used(mem) > 2000 * 64);
    rk_index_free(index);
    assert_true(rk_mem_used(mem) == 0);
    rk_mem_free(mem);
    rk_free(data);
}

/* Every allocation of build, save, open and search fails once; each time the answer is RK_ENOMEM
 * and nothing leaks. */
static void
test_failing_allocations(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 8, 300, 4, 19);
    rk_vectors v = {RK_VEC_F32, 8, 300, data, NULL};
    rk_build_options options = {.metric = RK_METRIC_COSINE};
    rk_err err = {0};
    int64_t at = 0;

    RK_UNUSED(state);
    for (;; at++) {
        rk_index *index = NULL;
        rk_alloc_fail_after(at);
        rk_code code = rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            rk_index_free(index);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_null(index);
        assert_true(at < 1000);
    }
    assert_true(at > 5);
    rk_free(data);
}

typedef struct search_thread {
    const rk_index *index;
    const rk_vectors *v;
    const uint8_t *queries;
    double recall;
} search_thread;

static void *
search_main(void *arg)
{
    search_thread *t = arg;
    t->recall = search_all(t->index, t->v, RK_METRIC_L2, t->queries, NULL, "64");
    return NULL;
}

static void
test_parallel_build_and_search(void **state)
{
    rk_parallel parallel = {.run = testing_pool_run, .width = 4};
    void *data = testing_dense(RK_VEC_F32, 32, 3000, 10, 20);
    uint8_t *queries = testing_dense(RK_VEC_F32, 32, QUERIES, 10, 21);
    rk_vectors v = {RK_VEC_F32, 32, 3000, data, NULL};
    rk_index *index = build(&v, RK_METRIC_L2, &parallel);
    search_thread jobs[3];
    pthread_t threads[3];

    RK_UNUSED(state);
    for (size_t i = 0; i < 3; i++) {
        jobs[i] = (search_thread){index, &v, queries, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, search_main, &jobs[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].recall >= 0.97);
    }
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

static void
test_one_thread_is_deterministic(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 16, 2000, 8, 22);
    rk_vectors v = {RK_VEC_F32, 16, 2000, data, NULL};
    rk_buf images[2] = {{0}, {0}};

    RK_UNUSED(state);
    for (size_t i = 0; i < 2; i++) {
        rk_index *index = build(&v, RK_METRIC_COSINE, NULL);
        assert_int_equal(rk_index_save(index, testing_append, &images[i], NULL), RK_OK);
        rk_index_free(index);
    }
    assert_int_equal(images[0].len, images[1].len);
    assert_memory_equal(images[0].data, images[1].data, images[0].len);
    rk_buf_deinit(&images[0]);
    rk_buf_deinit(&images[1]);
    rk_free(data);
}

static void
test_tiny(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 3};
    const float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        rk_vectors v = {RK_VEC_F32, 2, sizes[i], data, NULL};
        rk_index *index = build(&v, RK_METRIC_COSINE, NULL);
        rk_search_options options = {.k = 5, .arena = arena};
        rk_hit hits[5];
        uint32_t n = 9;
        assert_int_equal(rk_index_search(index, data, 8, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, sizes[i]);
        rk_index_free(index);
    }
    rk_arena_free(arena);
}

/* Tiles give the exact squared distances, on every width and with packs that are not full. */
static void
test_tile(void **state)
{
    enum { DIM = 192 };
    static const size_t dims[] = {64, 128, DIM};
    int8_t codes[RK__TILE_ROWS + RK__TILE_QUERIES][DIM];
    int8_t *pack = rk_alloc_aligned(64, RK__TILE_ROWS * DIM);
    uint8_t *biased = rk_alloc_aligned(64, RK__TILE_QUERIES * DIM);
    _Alignas(64) int32_t norms[RK__TILE_ROWS];
    const int8_t *rows[RK__TILE_ROWS];
    const uint8_t *queries[RK__TILE_QUERIES];
    int32_t bounds[RK__TILE_QUERIES];
    int32_t squares[RK__TILE_QUERIES];
    uint64_t rng = 5;

    RK_UNUSED(state);
    assert_non_null(pack);
    assert_non_null(biased);
    for (size_t i = 0; i < RK_COUNT(codes); i++) {
        for (size_t d = 0; d < DIM; d++) { /* the ends of the range among them */
            uint64_t x = rk__random(&rng);
            codes[i][d] = x % 8 == 0 ? (x & 16 ? 127 : -127) : (int8_t)(x >> 32);
        }
    }
    for (size_t w = 0; w < RK_COUNT(dims); w++) {
        for (size_t n_rows = 1; n_rows <= RK__TILE_ROWS; n_rows += 31) {
            rk__tile_result out;
            for (size_t r = 0; r < n_rows; r++) {
                rows[r] = codes[r];
            }
            rk__tile_pack(rows, n_rows, dims[w], pack, norms);
            for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
                queries[q] = biased + q * DIM;
                squares[q] = rk__tile_query(codes[RK__TILE_ROWS + q], dims[w], biased + q * DIM);
                bounds[q] = q % 2 ? INT32_MAX : (int32_t)(rk__random(&rng) % 500000);
            }
            rk__tile_get()(queries, bounds, pack, norms, dims[w], &out);
            for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
                for (size_t r = 0; r < RK__TILE_ROWS; r++) {
                    int32_t want = 0;
                    for (size_t d = 0; d < dims[w]; d++) {
                        int32_t diff = codes[r][d] - codes[RK__TILE_ROWS + q][d];
                        want += diff * diff;
                    }
                    bool below = r < n_rows && want - squares[q] < bounds[q];
                    assert_true(r >= n_rows || out.keys[q][r] + squares[q] == want);
                    assert_int_equal((out.below[q] >> r) & 1u, below);
                }
            }
        }
    }
    rk_free(pack);
    rk_free(biased);
}

/* What is kept are the smallest of what was pushed, in order. */
static void
test_nearest(void **state)
{
    enum { N = 3000, KEEP = 37 };
    int32_t keys[N];
    uint64_t items[RK__NEAREST_SPARE * KEEP];
    uint64_t rng = 6;

    RK_UNUSED(state);
    for (uint32_t spread = 1; spread < 100000; spread *= 7) {
        rk__nearest best = {.items = items, .keep = KEEP, .bound = INT32_MAX};
        for (uint32_t i = 0; i < N; i++) {
            keys[i] = (int32_t)(rk__random(&rng) % spread) - (int32_t)spread / 2;
            rk__nearest_push(&best, keys[i], i);
        }
        rk__nearest_sort(&best);
        assert_int_equal(best.n, KEEP);
        for (uint32_t i = 0; i < KEEP; i++) {
            uint32_t smaller = 0;
            int32_t key = rk__item_key(best.items[i]);
            assert_true(i == 0 || best.items[i - 1] < best.items[i]);
            assert_int_equal(keys[(uint32_t)best.items[i]], key);
            for (uint32_t j = 0; j < N; j++) {
                smaller += keys[j] < key;
            }
            assert_true(smaller <= i);
        }
    }
}

/* More links than one block of one-bit codes holds, and IP among vectors of equal length. */
static void
test_wide_blocks_and_equal_lengths(void **state)
{
    float *data = testing_dense(RK_VEC_F32, 70, ROWS, 10, 23);
    float *queries = testing_dense(RK_VEC_F32, 70, QUERIES, 10, 24);
    rk_vectors v = {RK_VEC_F32, 70, ROWS, data, NULL};
    rk_build_options options = {.metric = RK_METRIC_IP, .params = params_of("40", "200")};
    rk_index *index = NULL;

    RK_UNUSED(state);
    for (size_t r = 0; r < ROWS; r++) {
        float norm = 0;
        for (size_t i = 0; i < 70; i++) {
            norm += data[r * 70 + i] * data[r * 70 + i];
        }
        for (size_t i = 0; i < 70; i++) {
            data[r * 70 + i] /= sqrtf(norm);
        }
    }
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, NULL), RK_OK);
    const rk__hnsw *graph = index->impl;
    assert_non_null(graph->blocks.data);
    assert_int_equal(graph->blocks.width, 64);
    assert_true(search_all(index, &v, RK_METRIC_IP, (const uint8_t *)queries, NULL, "64") >= 0.97);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

/* The share of the k nearest, as near as the k-th, that a search with |key|=|value| finds. */
static double
recall_with(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
            const rk_bitset *filter, const char *key, const char *value)
{
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(v->rows * sizeof(*truth));
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    rk_param param = {rk_str_from(key), rk_str_from(value)};
    uint32_t good = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .params = {&param, *key ? 1u : 0u},
                                     .filter = filter,
                                     .filter_count = filter ? rk_bitset_count(filter) : v->rows,
                                     .arena = arena};
        rk_hit hits[K];
        uint32_t n = 0;
        size_t n_truth = testing_truth(v, metric, queries + q * bytes, bytes, filter, truth);
        assert_true(n_truth >= K);
        assert_int_equal(
            rk_index_search(index, queries + q * bytes, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, K);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            float score = rk_metric_larger_is_nearer(metric) ? -hits[i].score : hits[i].score;
            good += score <= truth[K - 1].key + 1e-4f * fabsf(truth[K - 1].key);
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    rk_free(truth);
    return (double)good / (QUERIES * K);
}

/* A declared recall is kept, by walk (int8, no clusters) and by what is cheaper; an ef that is
 * named wins; the curve rises and is read the same way forth and back. */
static void
test_declared_recall(void **state)
{
    static const rk_vector_type types[] = {RK_VEC_F32, RK_VEC_I8, RK_VEC_F16};
    static const char *const wanted[] = {"0.8", "0.95", "0.99"};

    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(types); t++) {
        void *data = testing_dense(types[t], 64, ROWS, 24, 31);
        uint8_t *queries = testing_dense(types[t], 64, QUERIES, 24, 32);
        rk_vectors v = {types[t], 64, ROWS, data, NULL};
        rk_index *index = build(&v, RK_METRIC_L2, NULL);
        const rk__hnsw *graph = index->impl;
        rk_param both[2] = {{RK_STR("target_recall"), RK_STR("1")}, {RK_STR("ef"), RK_STR("17")}};
        rk_search_options options = {.k = K, .params = {both, 2}, .filter_count = ROWS};

        assert_true((graph->lists != NULL) == (types[t] != RK_VEC_I8));
        assert_true(graph->curve.n > 4 && rk__hnsw_curve_is_sound(&graph->curve));
        assert_int_equal(rk__hnsw_ef(graph, &options, K), 17);
        for (size_t w = 0; w < RK_COUNT(wanted); w++) {
            double want = 0;
            assert_true(rk_str_to_f64(rk_str_from(wanted[w]), &want));
            double got =
                recall_with(index, &v, RK_METRIC_L2, queries, NULL, "target_recall", wanted[w]);
            if (got < want - 0.04) {
                fail_msg("type %d: recall %.3f, %s was declared", (int)types[t], got, wanted[w]);
            }
            for (uint32_t k = 1; k <= 1000; k *= 10) {
                uint32_t ef = rk__hnsw_ef_for(&graph->curve, k, (float)want);
                assert_true(ef >= k);
                assert_true(ef == k ||
                            rk__hnsw_recall_of(&graph->curve, k, ef) >= (float)want - 0.01f);
            }
        }
        rk_index_free(index);
        rk_free(data);
        rk_free(queries);
    }
}

/* Filters of every density and shape by the clusters, from an image too. */
static void
test_filters_by_clusters(void **state)
{
    static const double shares[] = {0.9, 0.5, 0.25};
    void *data = testing_dense(RK_VEC_F32, 96, ROWS, 30, 33);
    uint8_t *queries = testing_dense(RK_VEC_F32, 96, QUERIES, 30, 34);
    rk_vectors v = {RK_VEC_F32, 96, ROWS, data, NULL};
    rk_index *index = build(&v, RK_METRIC_COSINE, NULL);
    uint32_t by_lists = 0;

    RK_UNUSED(state);
    for (size_t s = 0; s < RK_COUNT(shares); s++) {
        rk_bitset filter;
        float recall = 0;
        testing_filter(&filter, ROWS, shares[s], 60 + s);
        rk_search_options options = {
            .k = K, .filter = &filter, .filter_count = rk_bitset_count(&filter)};
        by_lists += rk__hnsw_by_lists(index, &options, K, &recall);
        assert_true(recall_with(index, &v, RK_METRIC_COSINE, queries, &filter, "ef", "96") >= 0.93);
        rk_bitset_deinit(&filter);
    }
    assert_true(by_lists > 0);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

/* A filter that masks what is nearest to the query, a tenth of the rows: a walk meets nobody who
 * passes where it looks. With clusters, which then answer, and without. */
static void
test_filters_apart_from_the_query(void **state)
{
    static const rk_vector_type types[] = {RK_VEC_F32, RK_VEC_I8};
    enum { MASKED = ROWS / 10, ASKED = 10 };

    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(types); t++) {
        void *data = testing_dense(types[t], 64, ROWS, 24, 37);
        uint8_t *queries = testing_dense(types[t], 64, QUERIES, 24, 38);
        size_t bytes = rk_vector_bytes(types[t], 64);
        rk_vectors v = {types[t], 64, ROWS, data, NULL};
        rk_index *index = build(&v, RK_METRIC_L2, NULL);
        rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
        rk_arena *arena = rk_arena_new(0);
        rk_param ef = {RK_STR("ef"), RK_STR("64")};
        uint32_t good = 0;

        for (size_t q = 0; q < ASKED; q++) {
            const uint8_t *query = queries + q * bytes;
            rk_hit hits[K];
            rk_bitset filter;
            uint32_t n = 0;
            assert_int_equal(testing_truth(&v, RK_METRIC_L2, query, bytes, NULL, truth), ROWS);
            assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
            for (size_t i = MASKED; i < ROWS; i++) {
                rk_bitset_set(&filter, truth[i].row);
            }
            rk_search_options options = {.k = K,
                                         .params = {&ef, 1},
                                         .filter = &filter,
                                         .filter_count = ROWS - MASKED,
                                         .arena = arena};
            assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
            assert_int_equal(n, K);
            for (uint32_t i = 0; i < n; i++) {
                assert_true(rk_bitset_get(&filter, hits[i].row));
                good += hits[i].score <= truth[MASKED + K - 1].key;
            }
            rk_bitset_deinit(&filter);
            rk_arena_reset(arena);
        }
        if (good < 0.9 * ASKED * K) {
            fail_msg("type %d: %u of %d found", (int)types[t], good, ASKED * K);
        }
        rk_arena_free(arena);
        rk_free(truth);
        rk_index_free(index);
        rk_free(data);
        rk_free(queries);
    }
}

/* Clusters that become a graph and its clusters: kind, default effort, image, filter, memory. */
static void
test_automatic_graph(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 64, ROWS, 12, 35);
    uint8_t *queries = testing_dense(RK_VEC_F32, 64, QUERIES, 12, 36);
    rk_vectors v = {RK_VEC_F32, 64, ROWS, data, NULL};
    rk_mem *mem = rk_mem_new(NULL, "test", 0);
    rk_build_options options = {.metric = RK_METRIC_COSINE, .mem = mem, .seed = 3};
    rk_index *index = NULL;
    rk_index *opened = NULL;
    rk_index_info info;
    rk_buf buf = {0};
    rk_err err = {0};
    rk_bitset filter;
    _Atomic(uint64_t) done = 0;

    RK_UNUSED(state);
    options.rows_done = &done;
    assert_int_equal(rk_index_build(&index, RK_STR("AUTOINDEX"), &v, &options, &err), RK_OK);
    assert_true(done == ROWS && !rk__auto_may_have_graph(index));
    rk_index_get_info(index, &info);
    assert_string_equal(info.kind, "IVF_RABITQ"); /* so few rows */
    uint64_t used = rk_mem_used(mem);
    for (int64_t at = 0; at < 64; at += 3) { /* without memory all stays as it was */
        rk_alloc_fail_after(at);
        assert_int_equal(rk__auto_take_graph(index, &options, &err), RK_ENOMEM);
        rk_alloc_fail_after(-1);
        assert_true(rk_mem_used(mem) == used);
        at += at / 2;
    }
    assert_true(recall_with(index, &v, RK_METRIC_COSINE, queries, NULL, "", "") >= 0.93);
    rk_index_get_info(index, &info);
    assert_string_equal(info.kind, "IVF_RABITQ");
    done = ROWS / 2; /* as the clusters count where a graph may follow */
    assert_int_equal(rk__auto_take_graph(index, &options, &err), RK_OK);
    assert_true(done > ROWS / 2 + ROWS / 4 && done <= ROWS);
    rk_index_get_info(index, &info);
    assert_string_equal(info.kind, "HNSW");
    assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    assert_int_equal(rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err), RK_OK);
    assert_true(((const rk__hnsw *)opened->impl)->automatic);
    assert_non_null(((const rk__hnsw *)opened->impl)->lists);
    testing_filter(&filter, ROWS, 0.4, 61);
    for (size_t i = 0; i < 2; i++) {
        const rk_index *it = i == 0 ? index : opened;
        assert_true(recall_with(it, &v, RK_METRIC_COSINE, queries, NULL, "", "") >= 0.93);
        assert_true(recall_with(it, &v, RK_METRIC_COSINE, queries, &filter, "", "") >= 0.93);
    }
    rk_bitset_deinit(&filter);
    rk_index_free(opened);
    rk_index_free(index);
    assert_true(rk_mem_used(mem) == 0);
    rk_mem_free(mem);
    rk_free(image);
    rk_buf_deinit(&buf);
    rk_free(data);
    rk_free(queries);
}

/* Filters of four shapes by walks: at random; the nearest to the query; those nearer to some row
 * than to others; the farthest, which no walk can find and the clusters have to. */
static void
test_filters_by_walks(void **state)
{
    enum { SHAPES = 4, ASKED = 20 };
    static const double shares[] = {0.5, 0.1, 0.9};
    void *data = testing_dense(RK_VEC_F32, 64, ROWS, 8, 41);
    uint8_t *queries = testing_dense(RK_VEC_F32, 64, QUERIES, 8, 42);
    size_t bytes = rk_vector_bytes(RK_VEC_F32, 64);
    rk_vectors v = {RK_VEC_F32, 64, ROWS, data, NULL};
    rk_index *index = build(&v, RK_METRIC_L2, NULL);
    rk__hnsw *graph = index->impl;
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
    rk_arena *arena = rk_arena_new(0);
    rk_param ef = {RK_STR("ef"), RK_STR("48")};

    RK_UNUSED(state);
    assert_non_null(truth);
    assert_non_null(arena);
    for (size_t i = 0; i < RK_COUNT(graph->curve.lists_ns); i++) {
        graph->curve.lists_ns[i] = 1e7f; /* so that a walk is always worth a try */
    }
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        for (size_t s = 0; s < RK_COUNT(shares); s++) {
            uint32_t pass = (uint32_t)(shares[s] * ROWS);
            uint32_t good = 0;
            for (size_t q = 0; q < ASKED; q++) {
                const uint8_t *query = queries + q * bytes;
                const uint8_t *around = shape == 2 ? (const uint8_t *)data + q * 7 * bytes : query;
                rk_hit hits[K];
                rk_bitset filter;
                uint32_t n = 0;
                assert_int_equal(testing_truth(&v, RK_METRIC_L2, around, bytes, NULL, truth), ROWS);
                assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
                for (uint32_t i = 0; shape > 0 && i < pass; i++) {
                    rk_bitset_set(&filter, truth[shape == 3 ? ROWS - 1 - i : i].row);
                }
                if (shape == 0) {
                    rk_bitset_deinit(&filter);
                    testing_filter(&filter, ROWS, shares[s], 70 + s);
                }
                rk_search_options options = {.k = K,
                                             .params = {&ef, 1},
                                             .filter = &filter,
                                             .filter_count = rk_bitset_count(&filter),
                                             .arena = arena};
                assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL),
                                 RK_OK);
                assert_int_equal(n, K);
                assert_true(testing_truth(&v, RK_METRIC_L2, query, bytes, &filter, truth) >= K);
                for (uint32_t i = 0; i < n; i++) {
                    assert_true(rk_bitset_get(&filter, hits[i].row));
                    good += hits[i].score <= truth[K - 1].key;
                }
                rk_bitset_deinit(&filter);
                rk_arena_reset(arena);
            }
            if (good < (shape == 3 ? 0.8 : 0.93) * ASKED * K) { /* the clusters' own */
                fail_msg("shape %u, share %.1f: %u of %d found", shape, shares[s], good, ASKED * K);
            }
        }
    }
    rk_arena_free(arena);
    rk_free(truth);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

/* Clusters are left out where the budget holds the graph alone. */
static void
test_budget_without_clusters(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 32, ROWS, 10, 37);
    rk_vectors v = {RK_VEC_F32, 32, ROWS, data, NULL};
    rk_mem *mem = rk_mem_new(NULL, "test", 30000000);
    rk_build_options options = {
        .metric = RK_METRIC_L2, .params = params_of("12", "100"), .mem = mem, .seed = 3};
    rk_index *index = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err), RK_OK);
    assert_null(((const rk__hnsw *)index->impl)->lists);
    assert_true(((const rk__hnsw *)index->impl)->curve.n > 0);
    rk_index_free(index);
    assert_true(rk_mem_used(mem) == 0);
    rk_mem_free(mem);
    rk_free(data);
}

/* Every allocation of what follows a graph fails once. */
static void
test_failing_allocations_beside(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 16, 4200, 6, 38);
    rk_vectors v = {RK_VEC_F32, 16, 4200, data, NULL};
    rk_build_options options = {.metric = RK_METRIC_COSINE, .params = params_of("4", "20")};
    rk_index *index = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("HNSW"), &v, &options, &err), RK_OK);
    rk__hnsw *graph = index->impl;
    for (int64_t at = 0;; at++) {
        rk__cluster_delete(graph->lists);
        graph->lists = NULL;
        rk_alloc_fail_after(at);
        rk_code code = rk__hnsw_finish(index, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        at += at / 8;
        assert_true(at < 100000);
    }
    assert_non_null(graph->lists);
    rk_index_free(index);
    rk_free(data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_and_filters),
        cmocka_unit_test(test_outlier_switches_codes_off),
        cmocka_unit_test(test_equal_rows_and_far_clusters),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_cancel_and_budget),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_parallel_build_and_search),
        cmocka_unit_test(test_one_thread_is_deterministic),
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_tile),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_wide_blocks_and_equal_lengths),
        cmocka_unit_test(test_declared_recall),
        cmocka_unit_test(test_filters_by_clusters),
        cmocka_unit_test(test_filters_apart_from_the_query),
        cmocka_unit_test(test_filters_by_walks),
        cmocka_unit_test(test_automatic_graph),
        cmocka_unit_test(test_budget_without_clusters),
        cmocka_unit_test(test_failing_allocations_beside),
    };

    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    cmocka_set_test_filter("*parallel*");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
