/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inverted file: recall floors, exactness when all lists are probed, k results whenever k pass,
 * range search, images, cancel, failing allocations, and a result that does not depend on threads.
 */
#include "index_testing.h"

enum { ROWS = 5000, K = 10, QUERIES = 20 };

typedef struct ivf_case {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    double recall_min; /* nlist 50, nprobe 8 */
} ivf_case;

static const ivf_case cases[] = {
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_L2, 33, 0.9},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_IP, 40, 0.85},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_COSINE, 40, 0.9},
    {"IVF_FLAT", RK_VEC_F16, RK_METRIC_L2, 32, 0.9},
    {"IVF_FLAT", RK_VEC_BF16, RK_METRIC_COSINE, 20, 0.9},
    {"BIN_IVF_FLAT", RK_VEC_BINARY, RK_METRIC_HAMMING, 128, 0.8},
    {"BIN_IVF_FLAT", RK_VEC_BINARY, RK_METRIC_JACCARD, 136, 0.8},
};

static rk_index *
build(const ivf_case *c, const rk_vectors *v)
{
    rk_param nlist = {RK_STR("nlist"), RK_STR("50")};
    rk_build_options options = {.metric = c->metric, .params = {&nlist, 1}, .seed = 9};
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, rk_str_from(c->kind), v, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

static double
search_all(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
           const rk_bitset *filter, const char *nprobe)
{
    rk_param param = {RK_STR("nprobe"), rk_str_from(nprobe)};
    rk_arena *arena = rk_arena_new(0);
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    size_t passing = rk_bitset_count(filter);
    uint32_t found = 0;
    uint32_t wanted = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .params = {&param, 1},
                                     .filter = filter,
                                     .filter_count = passing,
                                     .arena = arena};
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        assert_int_equal(
            rk_index_search(index, queries + q * bytes, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(
            rk_flat_search(v, 0, metric, queries + q * bytes, bytes, &options, flat, &n_flat, NULL),
            RK_OK);
        assert_int_equal(n, RK_MIN(passing, (size_t)K));
        for (uint32_t i = 0; i < n; i++) {
            assert_true(rk_bitset_get(filter, hits[i].row));
            found += hits[i].score == flat[i].score ||
                     (rk_metric_larger_is_nearer(metric) ? hits[i].score >= flat[n - 1].score
                                                         : hits[i].score <= flat[n - 1].score);
        }
        wanted += n;
        if (strcmp(nprobe, "50") == 0) {
            assert_memory_equal(hits, flat, n * sizeof(*hits));
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return wanted > 0 ? (double)found / wanted : 1;
}

static void
test_recall_filters_image(void **state)
{
    static const double densities[] = {1.0, 0.5, 0.05, 0.003, 0.0};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const ivf_case *c = &cases[i];
        void *data = testing_dense(c->type, c->dim, ROWS, 8, 31);
        uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, 8, 32);
        rk_vectors v = {c->type, c->dim, ROWS, data, NULL};
        rk_index *index = build(c, &v);
        rk_index *opened = NULL;
        rk_buf buf = {0};
        rk_err err = {0};

        for (size_t d = 0; d < RK_COUNT(densities); d++) {
            rk_bitset filter;
            testing_filter(&filter, ROWS, densities[d], 60 + d);
            double recall = search_all(index, &v, c->metric, queries, &filter, "8");
            if (recall < c->recall_min) {
                fail_msg("%s type %d %s density %g: recall %.3f under %.3f", c->kind, (int)c->type,
                         rk_metric_name(c->metric), densities[d], recall, c->recall_min);
            }
            (void)search_all(index, &v, c->metric, queries, &filter, "1");
            (void)search_all(index, &v, c->metric, queries, &filter, "50");
            rk_bitset_deinit(&filter);
        }
        assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
        char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
        assert_non_null(image);
        memcpy(image, buf.data, buf.len);
        if (rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        rk_arena *arena = rk_arena_new(0);
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
            assert_int_equal(na, K);
            assert_int_equal(nb, K);
            assert_memory_equal(a, b, sizeof(a));
        }
        rk_arena_free(arena);
        rk_index_free(opened);
        rk_index_free(index);
        rk_buf_deinit(&buf);
        rk_free(image);
        rk_free(data);
        rk_free(queries);
    }
}

static void
test_cancel_and_allocations(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 8, 600, 4, 33);
    rk_vectors v = {RK_VEC_F32, 8, 600, data, NULL};
    _Atomic(bool) cancel = true;
    rk_build_options options = {.metric = RK_METRIC_COSINE, .cancel = &cancel};
    rk_index *index = NULL;
    rk_err err = {0};
    int64_t at = 0;

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("IVF_FLAT"), &v, &options, &err), RK_ECANCELLED);
    options.cancel = NULL;
    for (;; at++) {
        rk_alloc_fail_after(at);
        rk_code code = rk_index_build(&index, RK_STR("IVF_FLAT"), &v, &options, &err);
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

static void
test_fewer_rows_than_lists(void **state)
{
    static const size_t sizes[] = {0, 1, 7};
    void *data = testing_dense(RK_VEC_F32, 8, 7, 4, 34);
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        rk_vectors v = {RK_VEC_F32, 8, sizes[i], data, NULL};
        rk_index *index = build(&cases[0], &v);
        rk_search_options options = {.k = 10, .arena = arena};
        rk_hit hits[10];
        uint32_t n = 0;
        assert_int_equal(rk_index_search(index, data, 32, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, sizes[i]);
        rk_index_free(index);
    }
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_range(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 16, ROWS, 6, 35);
    rk_vectors v = {RK_VEC_F32, 16, ROWS, data, NULL};
    rk_index *index = build(&cases[0], &v);
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
    rk_hit hits[100];
    uint32_t n = 0;

    RK_UNUSED(state);
    (void)testing_truth(&v, RK_METRIC_L2, data, 64, NULL, truth);
    rk_param nprobe = {RK_STR("nprobe"), RK_STR("2")};
    rk_search_options options = {.k = 100,
                                 .params = {&nprobe, 1},
                                 .arena = arena,
                                 .range = true,
                                 .radius = truth[60].key,
                                 .has_range_filter = true,
                                 .range_filter = truth[10].key};
    assert_int_equal(rk_index_search(index, data, 64, &options, hits, &n, NULL), RK_OK);
    assert_true(n >= 40 && n <= 50);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(hits[i].score < options.radius && hits[i].score >= options.range_filter);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    rk_free(truth);
    rk_free(data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_filters_image),
        cmocka_unit_test(test_cancel_and_allocations),
        cmocka_unit_test(test_fewer_rows_than_lists),
        cmocka_unit_test(test_range),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
