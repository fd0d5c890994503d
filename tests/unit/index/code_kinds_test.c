/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds that search codes (IVF_SQ8, IVF_PQ, SCANN, HNSW_SQ, HNSW_PQ, HNSW_PRQ): recall floors
 * against brute force for every kind, type, metric and codec; exact scores; k rows whenever k pass
 * under filters; refinement; range search; rows that are not finite; images, damaged ones too;
 * cancel, budget, failing allocations; a result that does not depend on threads.
 */
#include "index_testing.h"

enum { ROWS = 4000, K = 10, QUERIES = 20 };

typedef struct code_case {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    const char *build; /* beside nlist=40; "key=value;..." */
    const char *search;
    double recall_min; /* nprobe 10 */
} code_case;

#define HNSW "M=12;efConstruction=100"

static const code_case cases[] = {
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_L2, 33, "", "", 0.95},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_IP, 40, "", "", 0.9},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_COSINE, 40, "", "", 0.95},
    {"IVF_SQ8", RK_VEC_F16, RK_METRIC_L2, 32, "sq_type=SQ6", "", 0.95},
    {"IVF_SQ8", RK_VEC_BF16, RK_METRIC_COSINE, 20, "sq_type=sq4", "", 0.85},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_L2, 40, "sq_type=SQ4;refine=true;refine_type=SQ8",
     "refine_k=4", 0.95},
    {"IVF_PQ", RK_VEC_F32, RK_METRIC_L2, 32, "m=16", "", 0.9},
    {"IVF_PQ", RK_VEC_F32, RK_METRIC_IP, 32, "m=16", "", 0.85},
    {"IVF_PQ", RK_VEC_F32, RK_METRIC_COSINE, 32, "m=16;nbits=4", "", 0.7},
    {"IVF_PQ", RK_VEC_F16, RK_METRIC_COSINE, 32, "m=8;refine=True;refine_type=fp16", "refine_k=4",
     0.9},
    {"IVF_PQ", RK_VEC_BF16, RK_METRIC_L2, 30, "m=15;nbits=10;refine=true;refine_type=FLAT",
     "refine_k=2.5", 0.9},
    {"IVF_PQ", RK_VEC_F32, RK_METRIC_IP, 32, "m=8;nbits=6;refine=true;refine_type=BF16",
     "refine_k=6", 0.85},
    {"SCANN", RK_VEC_F32, RK_METRIC_L2, 32, "", "reorder_k=50", 0.95},
    {"SCANN", RK_VEC_F32, RK_METRIC_IP, 32, "", "reorder_k=50", 0.9},
    {"SCANN", RK_VEC_F32, RK_METRIC_COSINE, 33, "sub_dim=3", "reorder_k=100", 0.9},
    {"SCANN", RK_VEC_F16, RK_METRIC_L2, 34, "with_raw_data=false", "reorder_k=50", 0.8},
    {"SCANN", RK_VEC_BF16, RK_METRIC_COSINE, 32, "sub_dim=1", "", 0.9},
    {"HNSW_SQ", RK_VEC_F32, RK_METRIC_L2, 33, "M=24;efConstruction=100", "ef=100", 0.98},
    {"HNSW_SQ", RK_VEC_F32, RK_METRIC_IP, 40, HNSW ";sq_type=sq6", "ef=100", 0.9},
    {"HNSW_SQ", RK_VEC_F16, RK_METRIC_COSINE, 40, HNSW ";sq_type=SQ4U", "ef=100", 0.8},
    {"HNSW_SQ", RK_VEC_BF16, RK_METRIC_L2, 40, HNSW ";sq_type=FP16", "ef=100", 0.98},
    {"HNSW_SQ", RK_VEC_I8, RK_METRIC_COSINE, 48, HNSW ";sq_type=BF16", "ef=100", 0.95},
    {"HNSW_SQ", RK_VEC_I8, RK_METRIC_L2, 48, HNSW, "ef=100", 0.95},
    {"HNSW_SQ", RK_VEC_F32, RK_METRIC_COSINE, 40, HNSW ";sq_type=SQ4U;refine=true;refine_type=SQ8",
     "ef=100;refine_k=4", 0.95},
    {"HNSW_PQ", RK_VEC_F32, RK_METRIC_L2, 32, HNSW ";m=16", "ef=100", 0.9},
    {"HNSW_PQ", RK_VEC_F32, RK_METRIC_IP, 32, HNSW ";m=8;refine=true;refine_type=FLAT",
     "ef=100;refine_k=6", 0.85},
    {"HNSW_PQ", RK_VEC_F16, RK_METRIC_COSINE, 32, HNSW ";m=16;nbits=4;refine=true;refine_type=SQ6",
     "ef=100;refine_k=8", 0.9},
    {"HNSW_PQ", RK_VEC_I8, RK_METRIC_IP, 32, HNSW ";m=16", "ef=100", 0.85},
    {"HNSW_PRQ", RK_VEC_F32, RK_METRIC_L2, 32, HNSW ";m=4;nrq=4", "ef=100", 0.9},
    {"HNSW_PRQ", RK_VEC_BF16, RK_METRIC_COSINE, 32, HNSW ";m=2;nrq=4;refine=true;refine_type=SQ4U",
     "ef=100;refine_k=4", 0.8},
    {"HNSW_PRQ", RK_VEC_I8, RK_METRIC_IP, 32, HNSW ";m=8;nrq=2;refine=true;refine_type=BF16",
     "ef=100;refine_k=4", 0.85},
};

typedef struct param_list {
    rk_param data[8];
    size_t n;
} param_list;

static void
add_pairs(param_list *out, const char *text)
{
    while (*text) {
        const char *end = strchr(text, ';');
        size_t len = end ? (size_t)(end - text) : strlen(text);
        const char *equals = memchr(text, '=', len);
        assert_non_null(equals);
        assert_true(out->n < RK_COUNT(out->data));
        out->data[out->n++] = (rk_param){{text, (size_t)(equals - text)},
                                         {equals + 1, len - (size_t)(equals - text) - 1}};
        text += len + (end ? 1 : 0);
    }
}

static rk_code
try_build(const code_case *c, const rk_vectors *v, rk_build_options options, rk_index **out,
          rk_err *err)
{
    param_list params = {.n = 0};

    add_pairs(&params, "nlist=40");
    add_pairs(&params, c->build);
    options.metric = c->metric;
    options.params = (rk_params){params.data, params.n};
    options.seed = 9;
    return rk_index_build(out, rk_str_from(c->kind), v, &options, err);
}

static rk_index *
build(const code_case *c, const rk_vectors *v)
{
    rk_index *index = NULL;
    rk_err err = {0};

    if (try_build(c, v, (rk_build_options){0}, &index, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

static rk_index *
reopen(const rk_index *index, const rk_vectors *v, char **image)
{
    rk_index *opened = NULL;
    rk_buf buf = {0};
    rk_err err = {0};

    assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
    *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(*image);
    memcpy(*image, buf.data, buf.len);
    if (rk_index_open(&opened, (rk_str){*image, buf.len}, v, NULL, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    rk_buf_deinit(&buf);
    return opened;
}

/* Recall@K over the queries; checks order, filter, count and that scores are those of the vectors.
 */
static double
search_all(const code_case *c, const rk_index *index, const rk_vectors *v, const uint8_t *queries,
           const rk_bitset *filter, const char *nprobe)
{
    param_list params = {.n = 0};
    rk_arena *arena = rk_arena_new(0);
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    size_t passing = filter ? rk_bitset_count(filter) : v->rows;
    bool larger = rk_metric_larger_is_nearer(c->metric);
    uint32_t found = 0;
    uint32_t wanted = 0;

    add_pairs(&params, nprobe);
    add_pairs(&params, c->search);
    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .params = {params.data, params.n},
                                     .filter = filter,
                                     .filter_count = passing,
                                     .arena = arena};
        const uint8_t *query = queries + q * bytes;
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(
            rk_flat_search(v, 0, c->metric, query, bytes, &options, flat, &n_flat, NULL), RK_OK);
        assert_int_equal(n, RK_MIN(passing, (size_t)K));
        for (uint32_t i = 0; i < n; i++) {
            rk_hit exact[1];
            uint32_t one = 0;
            rk_vectors row = {v->type, v->dim, 1, (const uint8_t *)v->data + hits[i].row * bytes,
                              NULL};
            rk_search_options any = {.k = 1, .filter_count = 1, .arena = arena};
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            assert_int_equal(
                rk_flat_search(&row, 0, c->metric, query, bytes, &any, exact, &one, NULL), RK_OK);
            assert_int_equal(one, 1);
            assert_true(exact[0].score == hits[i].score);
            for (uint32_t j = 0; j < i; j++) {
                assert_true(hits[j].row != hits[i].row);
            }
            assert_true(i == 0 || (larger ? hits[i].score <= hits[i - 1].score
                                          : hits[i].score >= hits[i - 1].score));
            found +=
                larger ? hits[i].score >= flat[n - 1].score : hits[i].score <= flat[n - 1].score;
        }
        wanted += n;
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return wanted > 0 ? (double)found / wanted : 1;
}

static void
test_recall_filters_image(void **state)
{
    static const double densities[] = {1.0, 0.5, 0.3, 0.003, 0.0};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const code_case *c = &cases[i];
        void *data = testing_dense(c->type, c->dim, ROWS, 8, 31);
        uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, 8, 32);
        rk_vectors v = {c->type, c->dim, ROWS, data, NULL};
        rk_index *index = build(c, &v);
        char *image = NULL;
        rk_index *opened = reopen(index, &v, &image);
        rk_index_info info;

        rk_index_get_info(index, &info);
        assert_string_equal(info.kind, c->kind);
        for (size_t d = 0; d < RK_COUNT(densities); d++) {
            rk_bitset filter;
            testing_filter(&filter, ROWS, densities[d], 60 + d);
            double recall = search_all(c, index, &v, queries, &filter, "nprobe=10");
            double again = search_all(c, opened, &v, queries, &filter, "nprobe=10");
            if (recall < c->recall_min || recall != again) {
                fail_msg("case %zu %s type %d %s %s density %g: recall %.3f, opened %.3f, floor "
                         "%.3f",
                         i, c->kind, (int)c->type, rk_metric_name(c->metric), c->build,
                         densities[d], recall, again, c->recall_min);
            }
            (void)search_all(c, index, &v, queries, &filter, "nprobe=1");
            rk_bitset_deinit(&filter);
        }
        rk_index_free(opened);
        rk_index_free(index);
        rk_free(image);
        rk_free(data);
        rk_free(queries);
    }
}

/* More candidates never find less; with all of them the answer is exact. */
static void
test_refine_k(void **state)
{
    static const code_case widths[] = {
        {"IVF_PQ", RK_VEC_F32, RK_METRIC_L2, 32, "m=4;refine=true;refine_type=FP32", "refine_k=1",
         0},
        {"IVF_PQ", RK_VEC_F32, RK_METRIC_L2, 32, "m=4;refine=true;refine_type=FP32", "refine_k=8",
         0},
        {"IVF_PQ", RK_VEC_F32, RK_METRIC_L2, 32, "m=4;refine=true;refine_type=FP32", "refine_k=400",
         0},
    };
    void *data = testing_dense(RK_VEC_F32, 32, ROWS, 8, 31);
    uint8_t *queries = testing_dense(RK_VEC_F32, 32, QUERIES, 8, 32);
    rk_vectors v = {RK_VEC_F32, 32, ROWS, data, NULL};
    rk_index *index = build(&widths[0], &v);
    double before = 0;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(widths); i++) {
        double recall = search_all(&widths[i], index, &v, queries, NULL, "nprobe=40");
        assert_true(recall >= before);
        before = recall;
    }
    assert_true(before == 1);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

static void
test_few_rows(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 1100};
    void *data = testing_dense(RK_VEC_F32, 48, 1100, 4, 34); /* room for every dimension */
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        code_case c = cases[i];
        c.type = RK_VEC_F32;
        for (size_t j = 0; j < RK_COUNT(sizes); j++) {
            rk_vectors v = {RK_VEC_F32, c.dim, sizes[j], data, NULL};
            rk_index *index = build(&c, &v);
            char *image = NULL;
            rk_index *opened = reopen(index, &v, &image);
            rk_search_options options = {.k = 10, .arena = arena};
            rk_hit hits[10];
            uint32_t n = 0;
            assert_int_equal(
                rk_index_search(opened, data, (size_t)c.dim * 4, &options, hits, &n, NULL), RK_OK);
            assert_int_equal(n, RK_MIN(sizes[j], (size_t)10));
            rk_index_free(opened);
            rk_index_free(index);
            rk_free(image);
        }
    }
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_rows_not_finite(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const code_case *c = &cases[i];
        if (c->type != RK_VEC_F32) {
            continue;
        }
        float *data = testing_dense(RK_VEC_F32, c->dim, ROWS, 8, 31);
        uint8_t *queries = testing_dense(RK_VEC_F32, c->dim, QUERIES, 8, 32);
        rk_vectors v = {RK_VEC_F32, c->dim, ROWS, data, NULL};
        rk_arena *arena = rk_arena_new(0);
        for (size_t r = 0; r < ROWS; r += 7) {
            data[r * c->dim + r % c->dim] = r % 2 ? NAN : r % 4 ? INFINITY : -INFINITY;
        }
        memset(data + c->dim, 0, c->dim * sizeof(float)); /* and a zero row */
        rk_index *index = build(c, &v);
        for (size_t q = 0; q < QUERIES; q++) {
            rk_search_options options = {.k = K, .arena = arena};
            rk_hit hits[K];
            rk_hit flat[K];
            uint32_t n = 0;
            uint32_t n_flat = 0;
            const void *query = queries + q * c->dim * 4;
            assert_int_equal(rk_index_search(index, query, c->dim * 4, &options, hits, &n, NULL),
                             RK_OK);
            assert_int_equal(
                rk_flat_search(&v, 0, c->metric, query, c->dim * 4, &options, flat, &n_flat, NULL),
                RK_OK);
            assert_int_equal(n, n_flat);
            assert_true(hits[0].score == hits[0].score);
            if (isinf(flat[0].score)) { /* nothing is nearer than an infinite product */
                assert_memory_equal(&hits[0], &flat[0], sizeof(flat[0]));
            }
        }
        ((float *)(void *)queries)[1] = NAN;
        rk_search_options options = {.k = K, .arena = arena};
        rk_hit hits[K];
        uint32_t n = 0;
        assert_int_equal(rk_index_search(index, queries, c->dim * 4, &options, hits, &n, NULL),
                         RK_OK);
        assert_int_equal(n, 0);
        rk_index_free(index);
        rk_arena_free(arena);
        rk_free(data);
        rk_free(queries);
    }
}

static void
test_range(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const code_case *c = &cases[i];
        uint8_t *data = testing_dense(c->type, c->dim, ROWS, 6, 35);
        size_t bytes = rk_vector_bytes(c->type, c->dim);
        rk_vectors v = {c->type, c->dim, ROWS, data, NULL};
        rk_index *index = build(c, &v);
        rk_arena *arena = rk_arena_new(0);
        rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
        bool larger = rk_metric_larger_is_nearer(c->metric);
        rk_hit hits[300];
        size_t found = 0;

        for (size_t q = 0; q < 10; q++) {
            uint32_t n = 0;
            (void)testing_truth(&v, c->metric, data + q * 100 * bytes, bytes, NULL, truth);
            param_list params = {.n = 0};
            add_pairs(&params, "nprobe=10");
            add_pairs(&params, c->search);
            rk_search_options options = {.k = q % 2 ? 300 : 60,
                                         .params = {params.data, params.n},
                                         .arena = arena,
                                         .range = true,
                                         .radius = larger ? -truth[160].key : truth[160].key,
                                         .has_range_filter = true,
                                         .range_filter = larger ? -truth[100].key : truth[100].key};
            assert_int_equal(
                rk_index_search(index, data + q * 100 * bytes, bytes, &options, hits, &n, NULL),
                RK_OK);
            for (uint32_t j = 0; j < n; j++) {
                assert_true(
                    larger
                        ? hits[j].score > options.radius && hits[j].score <= options.range_filter
                        : hits[j].score < options.radius && hits[j].score >= options.range_filter);
            }
            assert_true(n <= 62);
            found += n;
        }
        if (found < 10 * 60 * 75 / 100) {
            fail_msg("%s %s %s: range found %zu of 600", c->kind, c->build,
                     rk_metric_name(c->metric), found);
        }
        rk_index_free(index);
        rk_arena_free(arena);
        rk_free(truth);
        rk_free(data);
    }
}

static void
run_backwards(void *self, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
    RK_UNUSED(self);
    for (size_t i = n; i > 0; i--) {
        fn(arg, i - 1);
    }
}

static void
test_threads(void **state)
{
    rk_parallel parallel = {run_backwards, 4, NULL};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i += 5) {
        const code_case *c = &cases[i];
        if (strncmp(c->kind, "HNSW", 4) == 0) {
            continue; /* a graph built by several threads depends on their timing */
        }
        void *data = testing_dense(c->type, c->dim, 1500, 8, 31);
        rk_vectors v = {c->type, c->dim, 1500, data, NULL};
        rk_index *a = build(c, &v);
        rk_index *b = NULL;
        rk_buf one = {0};
        rk_buf many = {0};
        rk_err err = {0};
        _Atomic(uint64_t) done = 0;
        rk_build_options options = {.parallel = &parallel, .rows_done = &done};

        assert_int_equal(try_build(c, &v, options, &b, &err), RK_OK);
        assert_int_equal(done, 1500);
        assert_int_equal(rk_index_save(a, testing_append, &one, &err), RK_OK);
        assert_int_equal(rk_index_save(b, testing_append, &many, &err), RK_OK);
        assert_int_equal(one.len, many.len);
        assert_memory_equal(one.data, many.data, one.len);
        rk_index_free(a);
        rk_index_free(b);
        rk_buf_deinit(&one);
        rk_buf_deinit(&many);
        rk_free(data);
    }
}

static void
test_cancel_budget_allocations(void **state)
{
    static const size_t picks[] = {5, 8, 9, 12, 23, 29};
    _Atomic(bool) cancel = true;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(picks); i++) {
        code_case c = cases[picks[i]];
        void *data = testing_dense(c.type, c.dim, 300, 4, 33);
        rk_vectors v = {c.type, c.dim, 300, data, NULL};
        rk_build_options options = {.cancel = &cancel};
        rk_mem *mem = rk_mem_new(NULL, "test", 40000);
        rk_index *index = NULL;
        rk_err err = {0};
        int64_t at = 0;

        assert_int_equal(try_build(&c, &v, options, &index, &err), RK_ECANCELLED);
        options = (rk_build_options){.mem = mem};
        assert_int_equal(try_build(&c, &v, options, &index, &err), RK_ENOMEM);
        assert_int_equal(rk_mem_used(mem), 0);
        rk_mem_free(mem);
        options = (rk_build_options){0};
        for (;; at++) {
            rk_alloc_fail_after(at);
            rk_code code = try_build(&c, &v, options, &index, &err);
            rk_alloc_fail_after(-1);
            if (code == RK_OK) {
                rk_index_free(index);
                break;
            }
            assert_int_equal(code, RK_ENOMEM);
            assert_null(index);
            assert_true(at < 3000);
        }
        assert_true(at > 5);
        rk_free(data);
    }
}

/* Many rows with the same bytes: the first k of them, in order. */
static void
test_equal_rows(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i += 3) {
        const code_case *c = &cases[i];
        size_t bytes = rk_vector_bytes(c->type, c->dim);
        uint8_t *data = testing_dense(c->type, c->dim, ROWS, 8, 31);
        rk_vectors v = {c->type, c->dim, ROWS, data, NULL};
        rk_arena *arena = rk_arena_new(0);
        rk_search_options options = {.k = K, .arena = arena};
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        for (size_t r = 100; r < 3000; r++) {
            memcpy(data + r * bytes, data + 50 * bytes, bytes);
        }
        rk_index *index = build(c, &v);
        assert_int_equal(rk_index_search(index, data + 50 * bytes, bytes, &options, hits, &n, NULL),
                         RK_OK);
        assert_int_equal(rk_flat_search(&v, 0, c->metric, data + 50 * bytes, bytes, &options, flat,
                                        &n_flat, NULL),
                         RK_OK);
        assert_int_equal(n, K);
        for (uint32_t j = 0; j < n && c->metric != RK_METRIC_IP; j++) {
            assert_true(hits[j].score == flat[j].score);
        }
        rk_index_free(index);
        rk_arena_free(arena);
        rk_free(data);
    }
}

/* An image with any byte changed behind its checksums opens or is refused, and never crashes. */
static void
test_forged_images(void **state)
{
    static const size_t picks[] = {5, 8, 10, 12, 17, 23, 26, 29};
    testing_rng rng = {4};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(picks); i++) {
        const code_case *c = &cases[picks[i]];
        void *data = testing_dense(c->type, c->dim, 1200, 4, 33);
        rk_vectors v = {c->type, c->dim, 1200, data, NULL};
        rk_index *index = build(c, &v);
        rk__sections sections = {.n = 0};
        rk_arena *arena = rk_arena_new(0);

        index->verbs->sections(index, &sections);
        for (size_t round = 0; round < 200; round++) {
            rk__sections forged = sections;
            rk_index *opened = NULL;
            size_t which = (size_t)(testing_u64(&rng) % sections.n);
            rk__section *s = &forged.items[which];
            uint8_t *copy = rk_alloc_aligned(64, (s->len + 63) / 64 * 64 + 64);
            memcpy(copy, s->data, s->len);
            for (size_t j = 0; j < 4 && s->len > 0; j++) {
                size_t at = (size_t)(testing_u64(&rng) % RK_MIN(s->len, (uint64_t)256));
                copy[round % 2 ? at : (size_t)(testing_u64(&rng) % s->len)] =
                    (uint8_t)testing_u64(&rng);
            }
            s->data = copy;
            assert_int_equal(rk__index_new(&opened, index->kind, c->metric, &v, NULL, NULL), RK_OK);
            if (opened->verbs->open(opened, &forged, NULL) == RK_OK) {
                rk_search_options options = {.k = 50, .arena = arena};
                rk_hit hits[50];
                uint32_t n = 0;
                assert_int_equal(rk_index_search(opened, data, rk_vector_bytes(c->type, c->dim),
                                                 &options, hits, &n, NULL),
                                 RK_OK);
                for (uint32_t j = 0; j < n; j++) {
                    assert_true(hits[j].row < 1200);
                }
            }
            rk_index_free(opened);
            rk_arena_reset(arena);
            rk_free(copy);
        }
        rk_arena_free(arena);
        rk_index_free(index);
        rk_free(data);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_filters_image),
        cmocka_unit_test(test_refine_k),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_rows_not_finite),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_cancel_budget_allocations),
        cmocka_unit_test(test_equal_rows),
        cmocka_unit_test(test_forged_images),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
