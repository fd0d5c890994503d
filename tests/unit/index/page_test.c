/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deep into the answers, every kind and metric: pages as an iterator asks for them (range searches
 * behind a bound, without a radius) come in order, bring no row twice, every row that is left or
 * nearly so, also under a filter; each page is full while rows are left behind it. Large k, and
 * more lists asked for than rows fill.
 */
#include "index_testing.h"

enum { ROWS = 3000, DIM = 24, PAGE = 250 };

typedef struct page_case {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    const char *key, *value; /* of the build, or NULL */
    double brought;          /* share of the rows that pages must bring */
    double recall;           /* of the 200 nearest */
} page_case;

static const page_case cases[] = {
    {"FLAT", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, 1, 1},
    {"HNSW", RK_VEC_F32, RK_METRIC_L2, "M", "16", 0.99, 0.95},
    {"HNSW", RK_VEC_F32, RK_METRIC_COSINE, "M", "16", 0.99, 0.95},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "16", 0.99, 0.95},
    {"HNSW_SQ", RK_VEC_I8, RK_METRIC_L2, "M", "16", 0.95, 0.95},
    {"HNSW_PQ", RK_VEC_F32, RK_METRIC_IP, "m", "6", 0.95, 0.7},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_L2, "nlist", "64", 0.95, 0.5},
    {"IVF_FLAT", RK_VEC_F16, RK_METRIC_IP, "nlist", "65536", 0.9, 0.3},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_COSINE, "nlist", "64", 0.95, 0.5},
    {"IVF_PQ", RK_VEC_BF16, RK_METRIC_L2, "m", "12", 0.9, 0.4},
    {"SCANN", RK_VEC_F32, RK_METRIC_IP, "nlist", "64", 0.9, 0.5},
    {"IVF_RABITQ", RK_VEC_F32, RK_METRIC_L2, "nlist", "64", 0.9, 0.4},
    {"IVF_RABITQ", RK_VEC_F32, RK_METRIC_IP, "nlist", "64", 0.9, 0.3},
    {"IVF_RABITQ", RK_VEC_F32, RK_METRIC_COSINE, "nlist", "65536", 0.9, 0.3},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, 0.9, 0.9},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_IP, NULL, NULL, 0.9, 0.9},
    {"AUTOINDEX", RK_VEC_F16, RK_METRIC_COSINE, NULL, NULL, 0.9, 0.9},
    {"DISKANN", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, 0.85, 0.85},
    {"AISAQ", RK_VEC_F32, RK_METRIC_IP, NULL, NULL, 0.85, 0.85},
};

/* All pages of one query; returns how many rows came. */
static size_t
read_pages(const rk_index *index, const page_case *c, const uint8_t *query, const rk_bitset *filter)
{
    bool larger = rk_metric_larger_is_nearer(c->metric);
    size_t bytes = rk_vector_bytes(c->type, DIM);
    size_t passing = filter ? rk_bitset_count(filter) : ROWS;
    rk_arena *arena = rk_arena_new(0);
    float bound = larger ? INFINITY : -INFINITY;
    bool seen[ROWS] = {false};
    size_t brought = 0;
    uint32_t n = 0;

    do {
        rk_search_options options = {.k = PAGE,
                                     .filter = filter,
                                     .filter_count = passing,
                                     .range = true,
                                     .radius = larger ? -INFINITY : INFINITY,
                                     .has_range_filter = true,
                                     .range_filter = bound,
                                     .arena = arena};
        rk_hit hits[PAGE];
        assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(larger ? hits[i].score <= bound : hits[i].score >= bound);
            assert_true(i == 0 || (larger ? hits[i].score <= hits[i - 1].score
                                          : hits[i].score >= hits[i - 1].score));
            assert_false(seen[hits[i].row]);
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            seen[hits[i].row] = true;
        }
        brought += n;
        bound = n > 0 ? nextafterf(hits[n - 1].score, larger ? -INFINITY : INFINITY) : bound;
        rk_arena_reset(arena);
    } while (n == PAGE); /* a page that is not full is the last */
    rk_arena_free(arena);
    return brought;
}

static double
recall_of(const rk_index *index, const rk_vectors *v, const page_case *c, const uint8_t *query)
{
    enum { K = 200 };
    rk_arena *arena = rk_arena_new(0);
    rk_search_options options = {.k = K, .filter_count = ROWS, .arena = arena};
    size_t bytes = rk_vector_bytes(c->type, DIM);
    rk__near *near = rk_alloc(ROWS * sizeof(*near));
    rk_hit hits[K];
    uint32_t n = 0;
    size_t found = 0;

    assert_non_null(near);
    assert_int_equal(testing_truth(v, c->metric, query, bytes, NULL, near), ROWS);
    assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
    assert_int_equal(n, K);
    for (uint32_t i = 0; i < n; i++) {
        float key = rk_metric_larger_is_nearer(c->metric) ? -hits[i].score : hits[i].score;
        found += key <= near[K - 1].key + 1e-4f * fabsf(near[K - 1].key);
    }
    rk_free(near);
    rk_arena_free(arena);
    return (double)found / K;
}

static void
test_pages(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        enum { QUERIES = 4 };
        const page_case *c = &cases[i];
        void *data = testing_dense(c->type, DIM, ROWS, 12, 7);
        uint8_t *queries = testing_dense(c->type, DIM, QUERIES, 12, 8);
        rk_vectors v = {c->type, DIM, ROWS, data, NULL};
        rk_param param = {rk_str_from(c->key), rk_str_from(c->value)};
        rk_build_options options = {
            .metric = c->metric, .params = {&param, c->key ? 1 : 0}, .seed = 3};
        double recall = 0;
        double all = 0;
        double some = 0;
        rk_index *index = NULL;
        rk_bitset filter;
        rk_err err = {0};

        testing_filter(&filter, ROWS, 0.6, 9);
        if (rk_index_build(&index, rk_str_from(c->kind), &v, &options, &err) != RK_OK) {
            fail_msg("%s: %s", c->kind, err.text);
        }
        for (size_t q = 0; q < QUERIES; q++) {
            const uint8_t *query = queries + q * rk_vector_bytes(c->type, DIM);
            all += (double)read_pages(index, c, query, NULL) / ROWS / QUERIES;
            some += (double)read_pages(index, c, query, &filter) /
                    (double)rk_bitset_count(&filter) / QUERIES;
            recall += recall_of(index, &v, c, query) / QUERIES;
        }
        if (all < c->brought || some < c->brought || recall < c->recall) {
            fail_msg("case %zu, %s %s: pages brought %.3f, %.3f under a filter, floor %.2f; recall "
                     "@200 %.3f, floor %.2f",
                     i, c->kind, rk_metric_name(c->metric), all, some, c->brought, recall,
                     c->recall);
        }
        rk_bitset_deinit(&filter);
        rk_index_free(index);
        rk_free(data);
        rk_free(queries);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
    };

    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    return 0;
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
