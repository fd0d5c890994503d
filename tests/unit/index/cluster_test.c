/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters of one-bit codes: recall floors for every type and metric, filters of any share, exact
 * scores, k results whenever k pass, range search, rows that are not finite, equal rows, images and
 * damaged images, declared recall, cancel, failing allocations, and a result that does not depend
 * on threads.
 */
#include "index/cluster/cluster.h"

#include "index_testing.h"

enum { ROWS = 6000, K = 10, QUERIES = 25 };

typedef struct cluster_case {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    uint32_t latent; /* 0: noise in every direction */
    double recall_min;
} cluster_case;

static const cluster_case cases[] = {
    {RK_VEC_F32, RK_METRIC_L2, 160, 12, 0.93},      {RK_VEC_F32, RK_METRIC_IP, 160, 12, 0.90},
    {RK_VEC_F32, RK_METRIC_COSINE, 96, 10, 0.93},   {RK_VEC_F32, RK_METRIC_L2, 7, 4, 0.93},
    {RK_VEC_F32, RK_METRIC_COSINE, 65, 0, 0.85},    {RK_VEC_F16, RK_METRIC_L2, 129, 12, 0.93},
    {RK_VEC_BF16, RK_METRIC_COSINE, 200, 12, 0.93}, {RK_VEC_BF16, RK_METRIC_IP, 48, 8, 0.90},
    {RK_VEC_F32, RK_METRIC_L2, 2100, 8, 0.93},
};

static rk_index *
build(rk_metric metric, const rk_vectors *v, const char *refine, const rk_parallel *parallel)
{
    rk_param params[3] = {{RK_STR("nlist"), RK_STR("60")},
                          {RK_STR("refine"), rk_str_from(refine)},
                          {RK_STR("refine_type"), RK_STR("SQ8")}};
    rk_build_options options = {
        .metric = metric, .params = {params, 3}, .seed = 9, .parallel = parallel};
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, RK_STR("IVF_RABITQ"), v, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

/* Mean recall; asserts what holds for every answer. */
static double
search_all(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
           const rk_bitset *filter, const char *nprobe)
{
    rk_param params[2] = {{RK_STR("nprobe"), rk_str_from(nprobe)},
                          {RK_STR("refine_k"), RK_STR("4")}};
    rk_arena *arena = rk_arena_new(0);
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    size_t passing = filter ? rk_bitset_count(filter) : v->rows;
    uint32_t found = 0;
    uint32_t wanted = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .params = {params, 2},
                                     .filter = filter,
                                     .filter_count = passing,
                                     .arena = arena};
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        const uint8_t *query = queries + q * bytes;
        assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(rk_flat_search(v, 0, metric, query, bytes, &options, flat, &n_flat, NULL),
                         RK_OK);
        assert_int_equal(n, RK_MIN(passing, (size_t)K));
        for (uint32_t i = 0; i < n; i++) {
            rk_hit exact[1];
            uint32_t one = 0;
            rk_vectors row = {v->type, v->dim, 1, (const uint8_t *)v->data + hits[i].row * bytes,
                              NULL};
            rk_search_options plain = {.k = 1, .arena = arena};
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            assert_int_equal(
                rk_flat_search(&row, 0, metric, query, bytes, &plain, exact, &one, NULL), RK_OK);
            assert_true(exact[0].score == hits[i].score);
            assert_true(i == 0 ||
                        (rk_metric_larger_is_nearer(metric) ? hits[i].score <= hits[i - 1].score
                                                            : hits[i].score >= hits[i - 1].score));
            found += rk_metric_larger_is_nearer(metric) ? hits[i].score >= flat[n - 1].score
                                                        : hits[i].score <= flat[n - 1].score;
        }
        wanted += n;
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return wanted > 0 ? (double)found / wanted : 1;
}

static char *
image_of(const rk_index *index, size_t *len)
{
    rk_buf buf = {0};
    rk_err err = {0};

    assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    *len = buf.len;
    rk_buf_deinit(&buf);
    return image;
}

static void
assert_same_answers(const rk_index *a, const rk_index *b, const uint8_t *queries, size_t bytes)
{
    rk_arena *arena = rk_arena_new(0);

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K, .arena = arena};
        rk_hit x[K];
        rk_hit y[K];
        uint32_t nx = 0;
        uint32_t ny = 0;
        assert_int_equal(rk_index_search(a, queries + q * bytes, bytes, &options, x, &nx, NULL),
                         RK_OK);
        assert_int_equal(rk_index_search(b, queries + q * bytes, bytes, &options, y, &ny, NULL),
                         RK_OK);
        assert_int_equal(nx, K);
        assert_int_equal(ny, K);
        assert_memory_equal(x, y, sizeof(x));
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

static void
test_recall_filters_image(void **state)
{
    static const double densities[] = {0.5, 0.05, 0.01, 0.003, 0.0};
    static const char *const refine[] = {"true", "false"};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases) * 2; i++) {
        const cluster_case *c = &cases[i / 2];
        size_t rows = c->dim > 1000 ? 1500 : ROWS;
        void *data = testing_dense(c->type, c->dim, rows, c->latent, 31);
        uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, c->latent, 32);
        size_t bytes = rk_vector_bytes(c->type, c->dim);
        rk_vectors v = {c->type, c->dim, rows, data, NULL};
        rk_index *index = build(c->metric, &v, refine[i % 2], NULL);
        rk_index *opened = NULL;
        rk_err err = {0};
        size_t len = 0;

        double recall = search_all(index, &v, c->metric, queries, NULL, "60");
        if (recall < c->recall_min) {
            fail_msg("type %d %s dim %u refine %s: recall %.3f under %.3f", (int)c->type,
                     rk_metric_name(c->metric), c->dim, refine[i % 2], recall, c->recall_min);
        }
        (void)search_all(index, &v, c->metric, queries, NULL, "1");
        for (size_t d = 0; d < RK_COUNT(densities); d++) {
            rk_bitset filter;
            testing_filter(&filter, rows, densities[d], 60 + d);
            recall = search_all(index, &v, c->metric, queries, &filter, "60");
            if (recall < c->recall_min) {
                fail_msg("type %d %s dim %u density %g: recall %.3f under %.3f", (int)c->type,
                         rk_metric_name(c->metric), c->dim, densities[d], recall, c->recall_min);
            }
            (void)search_all(index, &v, c->metric, queries, &filter, "1");
            rk_bitset_deinit(&filter);
        }
        char *image = image_of(index, &len);
        if (rk_index_open(&opened, (rk_str){image, len}, &v, NULL, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(rk_index_verify(opened, NULL, &err), RK_OK);
        assert_same_answers(index, opened, queries, bytes);
        rk_index_free(opened);
        rk_index_free(index);
        rk_free(image);
        rk_free(data);
        rk_free(queries);
    }
}

/* A filter whose passing rows are all far from the query, and the reverse. */
static void
test_clustered_filters(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 96, ROWS, 10, 41);
    uint8_t *queries = testing_dense(RK_VEC_F32, 96, QUERIES, 10, 42);
    rk_vectors v = {RK_VEC_F32, 96, ROWS, data, NULL};
    rk_index *index = build(RK_METRIC_L2, &v, "true", NULL);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));

    RK_UNUSED(state);
    assert_non_null(truth);
    for (int far = 0; far < 2; far++) {
        rk_bitset filter;
        (void)testing_truth(&v, RK_METRIC_L2, queries, 96 * 4, NULL, truth);
        assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
        for (size_t i = 0; i < ROWS / 3; i++) {
            rk_bitset_set(&filter, truth[far ? ROWS - 1 - i : i].row);
        }
        assert_true(search_all(index, &v, RK_METRIC_L2, queries, &filter, "60") >= 0.93);
        (void)search_all(index, &v, RK_METRIC_L2, queries, &filter, "2");
        rk_bitset_deinit(&filter);
    }
    rk_free(truth);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

/* Filters that are put into the order of the lists: rows of one region, near and far, of which most
 * lists have none, and rows anywhere. */
static void
test_mapped_filters(void **state)
{
    enum { MANY = 20000, DIM = 32 };
    static const size_t passing[] = {1000, 2000, 3000};
    static const char *const refine[] = {"true", "false"};
    void *data = testing_dense(RK_VEC_F32, DIM, MANY, 10, 43);
    uint8_t *queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 10, 44);
    rk_vectors v = {RK_VEC_F32, DIM, MANY, data, NULL};
    rk__near *truth = rk_alloc(MANY * sizeof(*truth));

    RK_UNUSED(state);
    assert_non_null(truth);
    (void)testing_truth(&v, RK_METRIC_L2, queries, DIM * 4, NULL, truth);
    for (size_t r = 0; r < RK_COUNT(refine); r++) {
        rk_index *index = build(RK_METRIC_L2, &v, refine[r], NULL);
        for (size_t p = 0; p < 3 * RK_COUNT(passing); p++) {
            rk_bitset filter;
            size_t n = passing[p / 3];
            if (p % 3 == 2) {
                testing_filter(&filter, MANY, (double)n / MANY, p);
            } else {
                assert_int_equal(rk_bitset_init(&filter, MANY), RK_OK);
                for (size_t i = 0; i < n; i++) {
                    rk_bitset_set(&filter, truth[p % 3 ? MANY - 1 - i : i].row);
                }
            }
            double recall = search_all(index, &v, RK_METRIC_L2, queries, &filter, "60");
            if (recall < 0.93) {
                fail_msg("filter %zu refine %s: recall %.3f", p, refine[r], recall);
            }
            (void)search_all(index, &v, RK_METRIC_L2, queries, &filter, "20");
            (void)search_all(index, &v, RK_METRIC_L2, queries, &filter, "2");
            rk_bitset_deinit(&filter);
        }
        rk_index_free(index);
    }
    rk_free(truth);
    rk_free(data);
    rk_free(queries);
}

/* ---- filters of every shape and share ---- */

enum { MANY = 20000, MANY_DIM = 64, CELLS = 40 };

typedef enum shape { RANDOM, CLUSTERED, NEAR, FAR, SHAPES } shape;

typedef struct shapes_bed {
    rk_metric metric;
    rk_vectors v;
    void *data;
    uint8_t *queries;
    rk__near *truth[QUERIES]; /* all rows, nearest first */
    uint8_t cell[MANY];       /* the nearest of some rows, so that neighbourhoods pass whole */
} shapes_bed;

static void
shapes_init(shapes_bed *b, rk_metric metric)
{
    size_t bytes = MANY_DIM * sizeof(float);
    void *data = testing_dense(RK_VEC_F32, MANY_DIM, MANY, 14, 91);

    *b =
        (shapes_bed){.metric = metric, .data = data, .v = {RK_VEC_F32, MANY_DIM, MANY, data, NULL}};
    b->queries = testing_dense(RK_VEC_F32, MANY_DIM, QUERIES, 14, 92);
    for (size_t q = 0; q < QUERIES; q++) {
        b->truth[q] = rk_alloc(MANY * sizeof(rk__near));
        assert_non_null(b->truth[q]);
        (void)testing_truth(&b->v, metric, b->queries + q * bytes, bytes, NULL, b->truth[q]);
    }
    for (size_t r = 0; r < MANY; r++) {
        const float *row = (const float *)data + r * MANY_DIM;
        float best = INFINITY;
        for (size_t c = 0; c < CELLS; c++) {
            float d = rk_distance(RK_VEC_F32, RK_METRIC_L2, MANY_DIM, row,
                                  (const float *)data + c * 401 * MANY_DIM);
            b->cell[r] = d < best ? (uint8_t)c : b->cell[r];
            best = RK_MIN(best, d);
        }
    }
}

static void
shapes_deinit(shapes_bed *b)
{
    for (size_t q = 0; q < QUERIES; q++) {
        rk_free(b->truth[q]);
    }
    rk_free(b->queries);
    rk_free(b->data);
}

static void
shapes_filter(const shapes_bed *b, shape of, size_t q, size_t passing, rk_bitset *filter)
{
    testing_rng rng = {5};

    rk_bitset_fill(filter, false);
    for (size_t n = 0; of == RANDOM && n < passing;) {
        size_t row = testing_u64(&rng) % MANY;
        n += !rk_bitset_get(filter, row);
        rk_bitset_set(filter, row);
    }
    for (size_t c = 0, n = 0; of == CLUSTERED && c < CELLS; c++) {
        for (size_t r = 0; r < MANY && n < passing; r++) {
            if (b->cell[r] == c) {
                rk_bitset_set(filter, r);
                n++;
            }
        }
    }
    for (size_t i = 0; of >= NEAR && i < passing; i++) {
        rk_bitset_set(filter, b->truth[q][of == NEAR ? i : MANY - 1 - i].row);
    }
}

static double
shapes_recall(const shapes_bed *b, const rk_index *index, rk_params params, shape of,
              size_t passing, bool in_order)
{
    size_t bytes = MANY_DIM * sizeof(float);
    rk_index_filter *ordered = NULL;
    float sign = rk_metric_larger_is_nearer(b->metric) ? -1.0f : 1.0f;
    rk_arena *arena = rk_arena_new(0);
    rk_bitset filter;
    uint32_t found = 0;
    uint32_t wanted = 0;

    assert_int_equal(rk_bitset_init(&filter, MANY), RK_OK);
    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {
            .k = K, .params = params, .filter = &filter, .filter_count = passing, .arena = arena};
        rk_hit hits[K];
        rk__near last = {0};
        uint32_t n = 0;
        uint32_t seen = 0;
        if (q == 0 || of >= NEAR) {
            shapes_filter(b, of, q, passing, &filter);
            assert_int_equal(rk_bitset_count(&filter), passing);
            rk_index_filter_free(ordered);
            ordered = NULL;
            if (in_order) {
                assert_int_equal(rk_index_filter_new(&ordered, index, &filter, passing, NULL, NULL),
                                 RK_OK);
                assert_true((ordered != NULL) == (passing < MANY));
            }
        }
        options.ordered = ordered;
        assert_int_equal(
            rk_index_search(index, b->queries + q * bytes, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, RK_MIN(passing, (size_t)K));
        for (size_t i = 0; i < MANY && seen < n; i++) {
            if (rk_bitset_get(&filter, b->truth[q][i].row)) {
                last = b->truth[q][i];
                seen++;
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            assert_true(rk_bitset_get(&filter, hits[i].row));
            found += sign * hits[i].score <= last.key + 1e-4f * fabsf(last.key);
        }
        wanted += n;
        rk_arena_reset(arena);
    }
    rk_index_filter_free(ordered);
    rk_bitset_deinit(&filter);
    rk_arena_free(arena);
    return wanted > 0 ? (double)found / wanted : 1;
}

static void
test_filter_shapes(void **state)
{
    static const char *const shapes[] = {"random", "clustered", "near", "far"};
    static const double shares[] = {0.0002, 0.001, 0.003, 0.01, 0.02, 0.05,
                                    0.1,    0.3,   0.5,   0.9,  0.99, 1};
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_COSINE, RK_METRIC_IP};
    static const char *const kinds[] = {"AUTOINDEX", "IVF_RABITQ"};

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics) * RK_COUNT(kinds); m++) {
        rk_metric metric = metrics[m / RK_COUNT(kinds)];
        const char *kind = kinds[m % RK_COUNT(kinds)];
        bool listed = m % RK_COUNT(kinds) == 1;
        rk_param nlist = {RK_STR("nlist"), RK_STR("256")};
        rk_param nprobe = {RK_STR("nprobe"), RK_STR("24")};
        rk_build_options options = {
            .metric = metric, .params = {&nlist, listed ? 1 : 0}, .seed = 9};
        rk_params params = {&nprobe, listed ? 1 : 0};
        rk_index *index = NULL;
        rk_err err = {0};
        static shapes_bed b;
        shapes_init(&b, metric);
        if (rk_index_build(&index, rk_str_from(kind), &b.v, &options, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        for (size_t s = 0; s < RK_COUNT(shares) * SHAPES * 2; s++) {
            bool in_order = s % 2 == 1;
            shape of = (shape)(s / 2 % SHAPES);
            double share = shares[s / 2 / SHAPES];
            size_t passing = (size_t)(share * MANY + 0.5);
            double recall = shapes_recall(&b, index, params, of, passing, in_order);
            if (recall < (share < 0.002 ? 1 : 0.95)) { /* few are scored one by one */
                fail_msg("%s %s %s %g%s: recall %.3f", kind, rk_metric_name(metric), shapes[of],
                         share, in_order ? " in order" : "", recall);
            }
        }
        rk_index_free(index);
        shapes_deinit(&b);
    }
}

/* Rows within a radius that pass: nearly all of them, no other. */
static void
test_range_filters(void **state)
{
    static const char *const kinds[] = {"AUTOINDEX", "IVF_RABITQ"};
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_COSINE};
    enum { WITHIN = 600, MOST = 1000 };
    size_t bytes = MANY_DIM * sizeof(float);
    rk_arena *arena = rk_arena_new(0);
    static rk_hit hits[MOST];
    static shapes_bed b;

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics) * RK_COUNT(kinds); m++) {
        bool listed = m % 2 == 1;
        rk_param nlist = {RK_STR("nlist"), RK_STR("256")};
        rk_param nprobe = {RK_STR("nprobe"), RK_STR("24")};
        rk_build_options build_options = {
            .metric = metrics[m / 2], .params = {&nlist, listed ? 1 : 0}, .seed = 9};
        float sign = rk_metric_larger_is_nearer(metrics[m / 2]) ? -1.0f : 1.0f;
        rk_index *index = NULL;
        rk_bitset filter;
        shapes_init(&b, metrics[m / 2]);
        assert_int_equal(
            rk_index_build(&index, rk_str_from(kinds[m % 2]), &b.v, &build_options, NULL), RK_OK);
        assert_int_equal(rk_bitset_init(&filter, MANY), RK_OK);
        for (size_t of = 0; of < SHAPES; of++) {
            size_t found = 0;
            size_t wanted = 0;
            for (size_t q = 0; q < QUERIES; q++) {
                float radius = b.truth[q][WITHIN].key;
                uint32_t n = 0;
                shapes_filter(&b, (shape)of, q, MANY / 5, &filter);
                rk_search_options options = {.k = MOST,
                                             .params = {&nprobe, listed ? 1 : 0},
                                             .filter = &filter,
                                             .filter_count = MANY / 5,
                                             .range = true,
                                             .radius = sign * radius,
                                             .arena = arena};
                assert_int_equal(
                    rk_index_search(index, b.queries + q * bytes, bytes, &options, hits, &n, NULL),
                    RK_OK);
                for (size_t i = 0; i < WITHIN; i++) {
                    wanted += rk_bitset_get(&filter, b.truth[q][i].row);
                }
                for (uint32_t i = 0; i < n; i++) {
                    assert_true(rk_bitset_get(&filter, hits[i].row));
                    assert_true(sign * hits[i].score < radius);
                }
                found += n;
                rk_arena_reset(arena);
            }
            assert_true(found <= wanted + 2); /* the reference rounds in another order */
            if ((double)found < 0.95 * (double)wanted) {
                fail_msg("%s %s shape %zu: %zu of %zu rows", kinds[m % 2],
                         rk_metric_name(metrics[m / 2]), of, found, wanted);
            }
        }
        rk_bitset_deinit(&filter);
        rk_index_free(index);
        shapes_deinit(&b);
    }
    rk_arena_free(arena);
}

static void
test_declared_recall(void **state)
{
    static const char *const wanted[] = {"0.8", "0.95", "1"};
    void *data = testing_dense(RK_VEC_F32, 128, ROWS, 20, 51);
    uint8_t *queries = testing_dense(RK_VEC_F32, 128, QUERIES, 20, 52);
    rk_vectors v = {RK_VEC_F32, 128, ROWS, data, NULL};
    rk_index *index = build(RK_METRIC_L2, &v, "true", NULL);
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));

    RK_UNUSED(state);
    assert_non_null(truth);
    for (size_t w = 0; w < RK_COUNT(wanted); w++) {
        uint32_t found = 0;
        rk_param param = {RK_STR("target_recall"), rk_str_from(wanted[w])};
        double want = 0;
        assert_true(rk_str_to_f64(rk_str_from(wanted[w]), &want));
        for (size_t q = 0; q < QUERIES; q++) {
            rk_search_options options = {.k = K, .params = {&param, 1}, .arena = arena};
            rk_hit hits[K];
            uint32_t n = 0;
            const uint8_t *query = queries + q * 512;
            (void)testing_truth(&v, RK_METRIC_L2, query, 512, NULL, truth);
            assert_int_equal(rk_index_search(index, query, 512, &options, hits, &n, NULL), RK_OK);
            assert_int_equal(n, K);
            for (uint32_t i = 0; i < n; i++) {
                found += hits[i].score <= truth[K - 1].key * 1.00001f;
            }
            rk_arena_reset(arena);
        }
        assert_true((double)found / (QUERIES * K) >= want - 0.08);
    }
    rk_free(truth);
    rk_arena_free(arena);
    rk_index_free(index);
    rk_free(data);
    rk_free(queries);
}

static void
test_hostile_rows(void **state)
{
    float *data = testing_dense(RK_VEC_F32, 64, 3000, 8, 61);
    rk_vectors v = {RK_VEC_F32, 64, 3000, data, NULL};
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t r = 0; r < 3000; r++) {
        if (r % 100 == 7) {
            data[r * 64 + r % 64] = NAN;
        } else if (r % 100 == 8) {
            data[r * 64 + r % 64] = r % 200 == 8 ? INFINITY : -INFINITY;
        } else if (r % 100 == 9) {
            memset(data + r * 64, 0, 256);
        } else if (r % 100 == 10) {
            data[r * 64] = 3e37f;
        } else if (r % 3 == 0) {
            memcpy(data + r * 64, data, 256); /* a third of the rows are one vector */
        }
    }
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        rk_index *index = build(metrics[m], &v, "true", NULL);
        for (size_t q = 0; q < 40; q++) {
            rk_param nprobe = {RK_STR("nprobe"), RK_STR("60")};
            rk_search_options options = {.k = 100, .params = {&nprobe, 1}, .arena = arena};
            rk_hit hits[100];
            rk_hit flat[100];
            uint32_t n = 0;
            uint32_t n_flat = 0;
            float query[64];
            memcpy(query, data + (q % 20) * 64, sizeof(query));
            if (q % 20 == 7) {
                query[3] = q < 20 ? NAN : -1e30f;
            }
            assert_int_equal(rk_index_search(index, query, 256, &options, hits, &n, NULL), RK_OK);
            assert_int_equal(
                rk_flat_search(&v, 0, metrics[m], query, 256, &options, flat, &n_flat, NULL),
                RK_OK);
            assert_int_equal(n, n_flat);
            for (uint32_t i = 0; i < n; i++) {
                assert_true(hits[i].score == hits[i].score);
            }
            if (q == 0 && metrics[m] != RK_METRIC_IP) { /* the repeated vector finds its copies */
                assert_true(hits[99].score == flat[99].score);
            }
            rk_arena_reset(arena);
        }
        rk_index_free(index);
    }
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_fewer_rows_than_lists(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 33, 70};
    void *data = testing_dense(RK_VEC_F32, 8, 70, 4, 34);
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        rk_vectors v = {RK_VEC_F32, 8, sizes[i], data, NULL};
        rk_index *index = build(RK_METRIC_L2, &v, "true", NULL);
        rk_index *opened = NULL;
        size_t len = 0;
        char *image = image_of(index, &len);
        assert_int_equal(rk_index_open(&opened, (rk_str){image, len}, &v, NULL, NULL), RK_OK);
        for (uint32_t k = 1; k <= 100; k += 33) {
            rk_search_options options = {.k = k, .arena = arena};
            rk_hit hits[100];
            uint32_t n = 0;
            assert_int_equal(rk_index_search(opened, data, 32, &options, hits, &n, NULL), RK_OK);
            assert_int_equal(n, RK_MIN((size_t)k, sizes[i]));
            assert_true(n == 0 || hits[0].row == 0);
        }
        rk_index_free(opened);
        rk_index_free(index);
        rk_free(image);
    }
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_range(void **state)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    void *data = testing_dense(RK_VEC_F32, 64, ROWS, 6, 35);
    rk_vectors v = {RK_VEC_F32, 64, ROWS, data, NULL};
    rk_arena *arena = rk_arena_new(0);
    rk__near *truth = rk_alloc(ROWS * sizeof(*truth));
    rk_hit hits[100];
    uint32_t n = 0;

    RK_UNUSED(state);
    assert_non_null(truth);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        rk_index *index = build(metrics[m], &v, "true", NULL);
        float sign = rk_metric_larger_is_nearer(metrics[m]) ? -1.0f : 1.0f;
        (void)testing_truth(&v, metrics[m], data, 256, NULL, truth);
        rk_param nprobe = {RK_STR("nprobe"), RK_STR("60")};
        rk_search_options options = {.k = 100,
                                     .params = {&nprobe, 1},
                                     .arena = arena,
                                     .range = true,
                                     .radius = sign * truth[60].key,
                                     .has_range_filter = true,
                                     .range_filter = sign * truth[10].key};
        assert_int_equal(rk_index_search(index, data, 256, &options, hits, &n, NULL), RK_OK);
        assert_true(n >= 40 && n <= 52);
        for (uint32_t i = 0; i < n; i++) {
            float key = sign * hits[i].score;
            assert_true(key < truth[60].key && key >= truth[10].key);
        }
        options.k = 5;
        assert_int_equal(rk_index_search(index, data, 256, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(n, 5);
        rk_index_free(index);
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    rk_free(truth);
    rk_free(data);
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
test_order_of_work(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 80, 4000, 8, 71);
    rk_vectors v = {RK_VEC_F32, 80, 4000, data, NULL};
    rk_parallel parallel = {.run = run_backwards, .width = 2};
    rk_index *one = build(RK_METRIC_COSINE, &v, "true", NULL);
    rk_index *two = build(RK_METRIC_COSINE, &v, "true", &parallel);
    size_t len[2];
    char *image[2] = {image_of(one, &len[0]), image_of(two, &len[1])};

    RK_UNUSED(state);
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(image[0], image[1], len[0]);
    rk_free(image[0]);
    rk_free(image[1]);
    rk_index_free(one);
    rk_index_free(two);
    rk_free(data);
}

/* Images whose sections say what they should not: an error or some answer, never a crash. */
static void
test_damaged_images(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 64, 1000, 8, 81);
    rk_vectors v = {RK_VEC_F32, 64, 1000, data, NULL};
    rk_index *index = build(RK_METRIC_L2, &v, "true", NULL);
    rk_arena *arena = rk_arena_new(0);
    testing_rng rng = {5};
    size_t len = 0;
    char *image = image_of(index, &len);
    char *copy = rk_alloc_aligned(64, (len + 63) / 64 * 64);
    size_t opened_some = 0;
    size_t codes[1] = {0};

    RK_UNUSED(state);
    assert_non_null(copy);
    for (size_t round = 0; round < 400; round++) {
        rk_index *opened = NULL;
        uint8_t *bytes = (uint8_t *)copy;
        memcpy(copy, image, len);
        uint32_t sections = rk_get_u32le(bytes + 28);
        size_t which = testing_u64(&rng) % sections;
        uint8_t *entry = bytes + 64 + which * 32;
        size_t at = (size_t)rk_get_u64le(entry + 8);
        size_t n = (size_t)rk_get_u64le(entry + 16);
        for (size_t i = 0; i < 8 && n > 0; i++) {
            bytes[at + testing_u64(&rng) % n] = (uint8_t)testing_u64(&rng);
        }
        rk_put_u32le(entry + 4, rk_crc32c(0, bytes + at, n)); /* a forger knows checksums */
        rk_put_u32le(bytes + 48, 0);
        rk_put_u32le(bytes + 48, rk_crc32c(0, bytes, 64 + sections * 32));
        if (rk_index_open(&opened, (rk_str){copy, len}, &v, NULL, NULL) == RK_OK) {
            rk_bitset filter;
            rk_search_options options = {.k = 20, .arena = arena};
            rk_hit hits[20];
            uint32_t m = 0;
            opened_some++;
            codes[0] += rk_index_search(opened, data, 256, &options, hits, &m, NULL) == RK_OK;
            testing_filter(&filter, 1000, 0.3, round);
            options.filter = &filter;
            options.filter_count = rk_bitset_count(&filter);
            codes[0] += rk_index_search(opened, data, 256, &options, hits, &m, NULL) == RK_OK;
            for (uint32_t i = 0; i < m; i++) {
                assert_true(rk_bitset_get(&filter, hits[i].row));
            }
            rk_bitset_deinit(&filter);
            rk_index_free(opened);
        }
        rk_arena_reset(arena);
    }
    assert_true(opened_some > 100 && codes[0] > 100);
    rk_arena_free(arena);
    rk_index_free(index);
    rk_free(image);
    rk_free(copy);
    rk_free(data);
}

static void
test_cancel_and_allocations(void **state)
{
    void *data = testing_dense(RK_VEC_F32, 64, 700, 4, 33);
    rk_vectors v = {RK_VEC_F32, 64, 700, data, NULL};
    _Atomic(bool) cancel = true;
    rk_mem *mem = rk_mem_new(NULL, "test", 64 << 10);
    rk_build_options options = {.metric = RK_METRIC_COSINE, .cancel = &cancel};
    rk_index *index = NULL;
    rk_err err = {0};
    int64_t at = 0;

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("IVF_RABITQ"), &v, &options, &err),
                     RK_ECANCELLED);
    options.cancel = NULL;
    options.mem = mem;
    assert_int_equal(rk_index_build(&index, RK_STR("IVF_RABITQ"), &v, &options, &err), RK_ENOMEM);
    assert_int_equal(rk_mem_used(mem), 0);
    options.mem = NULL;
    for (;; at++) {
        rk_alloc_fail_after(at);
        rk_code code = rk_index_build(&index, RK_STR("IVF_RABITQ"), &v, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            rk_index_free(index);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_null(index);
        assert_true(at < 3000);
    }
    assert_true(at > 20);
    rk_mem_free(mem);
    rk_free(data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_filters_image),
        cmocka_unit_test(test_clustered_filters),
        cmocka_unit_test(test_mapped_filters),
        cmocka_unit_test(test_filter_shapes),
        cmocka_unit_test(test_range_filters),
        cmocka_unit_test(test_declared_recall),
        cmocka_unit_test(test_hostile_rows),
        cmocka_unit_test(test_fewer_rows_than_lists),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_order_of_work),
        cmocka_unit_test(test_damaged_images),
        cmocka_unit_test(test_cancel_and_allocations),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
