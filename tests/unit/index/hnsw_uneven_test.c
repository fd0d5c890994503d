/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs, and lists, under filters that have to do with the query or the length of rows: IP among
 * rows of different length, as raw embeddings have, filters that mask the longest, clusters that
 * the query is not in; L2 and rows of one length as controls. Recall on average and of the worst
 * queries; what holds for every answer; ranges, pages and many rows; images.
 */
#include "index_testing.h"

enum { ROWS = 5000, QUERIES = 30, K = 10, CENTRES = 12, DIM_MAX = 32 };

typedef enum shape_kind { ALL, SHORTEST, LONGEST, MIDDLE, RANDOM, CLUSTERS, SHAPES } shape_kind;

static const char *const shape_names[SHAPES] = {"all",    "shortest", "longest",
                                                "middle", "random",   "clusters"};

typedef struct bed {
    rk_vectors v;
    rk_metric metric;
    float *data;
    float *queries;
    float *lengths;
    float *sorted; /* lengths, rising */
    uint8_t *of;   /* centre of a row */
    float *keys;   /* per query: of all rows */
} bed;

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Rows around a few directions, |noise| of them, with lengths e^(sigma * gauss). */
static void
fill_rows(float *out, size_t rows, uint32_t dim, float noise, float sigma, uint64_t seed,
          float *lengths, uint8_t *of)
{
    testing_rng shape_rng = {99};
    testing_rng rng = {seed};
    float centres[CENTRES][DIM_MAX];

    for (size_t c = 0; c < CENTRES; c++) {
        for (size_t i = 0; i < DIM_MAX; i++) {
            centres[c][i] = testing_gauss(&shape_rng);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        size_t c = testing_u64(&rng) % CENTRES;
        float square = 0;
        float *row = out + r * dim;
        for (uint32_t i = 0; i < dim; i++) {
            row[i] = (1 - noise) * centres[c][i] + noise * testing_gauss(&rng);
            square += row[i] * row[i];
        }
        float length = expf(sigma * testing_gauss(&rng));
        for (uint32_t i = 0; i < dim; i++) {
            row[i] *= length / sqrtf(square);
        }
        if (lengths) {
            lengths[r] = length;
            of[r] = (uint8_t)c;
        }
    }
}

static void
bed_init(bed *b, rk_metric metric, uint32_t dim, float noise, float sigma)
{
    rk_kernels_init();
    b->metric = metric;
    b->data = rk_alloc((size_t)ROWS * dim * sizeof(float) + 64);
    b->queries = rk_alloc((size_t)QUERIES * dim * sizeof(float) + 64);
    b->lengths = rk_alloc(ROWS * sizeof(float));
    b->sorted = rk_alloc(ROWS * sizeof(float));
    b->of = rk_alloc(ROWS);
    b->keys = rk_alloc((size_t)QUERIES * ROWS * sizeof(float));
    assert_true(b->data && b->queries && b->lengths && b->sorted && b->of && b->keys);
    fill_rows(b->data, ROWS, dim, noise, sigma, 5, b->lengths, b->of);
    fill_rows(b->queries, QUERIES, dim, noise, sigma, 6, NULL, NULL);
    memcpy(b->sorted, b->lengths, ROWS * sizeof(float));
    qsort(b->sorted, ROWS, sizeof(float), compare_floats);
    b->v = (rk_vectors){RK_VEC_F32, dim, ROWS, b->data, NULL};
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t r = 0; r < ROWS; r++) {
            const float *query = b->queries + q * dim;
            const float *row = b->data + r * dim;
            float dot = 0;
            float square = 0;
            for (uint32_t i = 0; i < dim; i++) {
                dot += query[i] * row[i];
                square += (query[i] - row[i]) * (query[i] - row[i]);
            }
            b->keys[q * ROWS + r] = metric == RK_METRIC_IP ? -dot : square;
        }
    }
}

static void
bed_deinit(bed *b)
{
    rk_free(b->data);
    rk_free(b->queries);
    rk_free(b->lengths);
    rk_free(b->sorted);
    rk_free(b->of);
    rk_free(b->keys);
}

static rk_index *
build(const bed *b, const char *kind)
{
    rk_param params[] = {{RK_STR("M"), RK_STR("16")},
                         {RK_STR("efConstruction"), RK_STR("80")},
                         {RK_STR("m"), RK_STR("8")},
                         {RK_STR("refine"), RK_STR("true")},
                         {RK_STR("refine_type"), RK_STR("FLAT")}};
    bool coded = strcmp(kind, "HNSW_PQ") == 0 || strcmp(kind, "HNSW_PRQ") == 0;
    rk_build_options options = {.metric = b->metric,
                                .params = {params, coded ? 5 : 2},
                                .seed = 3}; /* one thread: the same graph */
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, rk_str_from(kind), &b->v, &options, &err) != RK_OK) {
        fail_msg("%s: %s", kind, err.text);
    }
    return index;
}

static size_t
fill_filter(const bed *b, rk_bitset *filter, shape_kind shape, double share)
{
    testing_rng rng = {8};
    float low = b->sorted[(size_t)(share * (ROWS - 1))];
    float high = b->sorted[(size_t)((1 - share) * (ROWS - 1))];
    float from = b->sorted[(size_t)((0.5 - share / 2) * (ROWS - 1))];
    float to = b->sorted[(size_t)((0.5 + share / 2) * (ROWS - 1))];

    rk_bitset_fill(filter, false);
    for (size_t r = 0; r < ROWS; r++) {
        float length = b->lengths[r];
        double centre = b->of[r] + testing_uniform(&rng);
        bool passes = shape == ALL || (shape == SHORTEST && length <= low) ||
                      (shape == LONGEST && length >= high) ||
                      (shape == MIDDLE && length >= from && length <= to) ||
                      (shape == RANDOM && testing_uniform(&rng) < share) ||
                      (shape == CLUSTERS && centre < share * CENTRES);
        if (passes) {
            rk_bitset_set(filter, r);
        }
    }
    return rk_bitset_count(filter);
}

/* The key of the |k|-th nearest of the passing rows, k of them at least, up to K. */
static float
kth_key(const bed *b, size_t q, const rk_bitset *filter, uint32_t k)
{
    const float *keys = b->keys + q * ROWS;
    float best[K];
    uint32_t n = 0;

    for (size_t r = 0; r < ROWS; r++) {
        if (!rk_bitset_get(filter, r) || (n == k && keys[r] >= best[n - 1])) {
            continue;
        }
        uint32_t at = n < k ? n++ : k - 1;
        for (; at > 0 && best[at - 1] > keys[r]; at--) {
            best[at] = best[at - 1];
        }
        best[at] = keys[r];
    }
    return best[k - 1];
}

static float
key_of(const bed *b, rk_hit hit)
{
    return b->metric == RK_METRIC_IP ? -hit.score : hit.score;
}

/* Passing rows alone, each once, best first. */
static void
check_hits(const bed *b, const rk_bitset *filter, const rk_hit *hits, uint32_t n)
{
    static bool seen[ROWS];

    memset(seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(hits[i].row < ROWS && rk_bitset_get(filter, hits[i].row));
        assert_false(seen[hits[i].row]);
        seen[hits[i].row] = true;
        assert_true(i == 0 || key_of(b, hits[i - 1]) < key_of(b, hits[i]) ||
                    (hits[i - 1].score == hits[i].score && hits[i - 1].row < hits[i].row));
    }
}

/* Hits as near as |worst|; equal ones and what arithmetic rounds count. */
static uint32_t
count_right(const bed *b, const rk_hit *hits, uint32_t n, float worst)
{
    uint32_t right = 0;

    for (uint32_t i = 0; i < n; i++) {
        right += key_of(b, hits[i]) <= worst + 1e-5f * (1 + fabsf(worst));
    }
    return right;
}

typedef struct recall {
    double mean;
    uint32_t bad; /* queries under one half */
} recall;

static recall
search_all(const bed *b, const rk_index *index, const rk_bitset *filter, size_t count, bool masked,
           bool ordered)
{
    rk_arena *arena = rk_arena_new(0);
    rk_index_filter *in_order = NULL;
    size_t row_bytes = b->v.dim * sizeof(float);
    recall out = {0, 0};

    if (ordered) {
        assert_int_equal(rk_index_filter_new(&in_order, index, filter, count, NULL, NULL), RK_OK);
    }
    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .filter = masked ? filter : NULL,
                                     .filter_count = masked ? count : 0,
                                     .ordered = in_order,
                                     .arena = arena};
        rk_hit hits[K];
        uint32_t n = 0;
        assert_int_equal(
            rk_index_search(index, b->queries + q * b->v.dim, row_bytes, &options, hits, &n, NULL),
            RK_OK);
        assert_int_equal(n, RK_MIN(count, (size_t)K));
        check_hits(b, filter, hits, n);
        uint32_t right = count_right(b, hits, n, kth_key(b, q, filter, n));
        out.mean += (double)right / n / QUERIES;
        out.bad += right * 2 < n;
        rk_arena_reset(arena);
    }
    rk_index_filter_free(in_order);
    rk_arena_free(arena);
    return out;
}

typedef struct uneven_case {
    const char *kind;
    rk_metric metric;
    uint32_t dim;
    float noise; /* 1: no clusters */
    float sigma;
} uneven_case;

static const uneven_case cases[] = {
    {"HNSW", RK_METRIC_IP, 16, 0.4f, 0.3f},     {"HNSW", RK_METRIC_IP, 16, 0.4f, 0.9f},
    {"HNSW", RK_METRIC_IP, 32, 1.0f, 0.5f},     {"HNSW", RK_METRIC_L2, 16, 0.4f, 0},
    {"HNSW_SQ", RK_METRIC_IP, 24, 0.4f, 0.3f},  {"HNSW_SQ", RK_METRIC_L2, 24, 0.4f, 0},
    {"HNSW_PRQ", RK_METRIC_IP, 16, 0.4f, 0.3f}, {"AUTOINDEX", RK_METRIC_IP, 32, 0.4f, 1.2f},
};

static void
check_filters(const bed *b, const uneven_case *at, const rk_index *index, rk_bitset *filter)
{
    static const double shares[] = {0.02, 0.25, 0.6, 0.95};
    bool coded = strcmp(at->kind, "HNSW") != 0; /* which take no filter in order */

    for (shape_kind shape = ALL; shape < SHAPES; shape++) {
        for (size_t s = 0; s < (shape == ALL ? 1 : RK_COUNT(shares)); s++) {
            size_t count = fill_filter(b, filter, shape, shares[s]);
            for (unsigned way = 0; way < (shape == ALL || coded ? 1 : 2); way++) {
                recall got = search_all(b, index, filter, count, shape != ALL, way > 0);
                if (got.mean < 0.95 || got.bad > 0) {
                    fail_msg("%s %s dim %u sigma %g: %s %g%s: recall %.3f, %u queries under one "
                             "half",
                             at->kind, rk_metric_name(at->metric), at->dim, (double)at->sigma,
                             shape_names[shape], shares[s], way > 0 ? " in order" : "", got.mean,
                             got.bad);
                }
            }
        }
    }
}

/* Passing rows within [from, below) of the keys. */
static uint32_t
count_between(const bed *b, size_t q, const rk_bitset *filter, float from, float below)
{
    const float *keys = b->keys + q * ROWS;
    uint32_t n = 0;

    for (size_t r = 0; r < ROWS; r++) {
        n += rk_bitset_get(filter, r) && keys[r] >= from && keys[r] < below;
    }
    return n;
}

/* What lies within a radius, what of it lies beyond another, pages, and many rows. */
static void
check_ranges(const bed *b, const char *kind, const rk_index *index, const rk_bitset *filter,
             size_t count, const rk_index_filter *in_order)
{
    static rk_hit hits[ROWS];
    rk_arena *arena = rk_arena_new(0);
    size_t row_bytes = b->v.dim * sizeof(float);
    float sign = b->metric == RK_METRIC_IP ? -1 : 1;
    uint32_t found[3] = {0, 0, 0};
    uint32_t wanted[3] = {0, 0, 0};

    for (size_t q = 0; q < QUERIES; q += 4) {
        const float *query = b->queries + q * b->v.dim;
        float near = kth_key(b, q, filter, K / 2);
        float far = kth_key(b, q, filter, K);
        rk_search_options options = {.k = 400,
                                     .filter = filter,
                                     .filter_count = count,
                                     .ordered = in_order,
                                     .range = true,
                                     .radius = sign * far,
                                     .arena = arena};
        uint32_t n = 0;
        assert_int_equal(rk_index_search(index, query, row_bytes, &options, hits, &n, NULL), RK_OK);
        check_hits(b, filter, hits, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(key_of(b, hits[i]) < far);
        }
        found[0] += n;
        wanted[0] += count_between(b, q, filter, -INFINITY, far);
        options.has_range_filter = true; /* a page: all beyond what came before */
        options.range_filter = sign * near;
        options.radius = sign * INFINITY;
        options.k = (uint32_t)RK_MIN(count / 2, (size_t)40);
        assert_int_equal(rk_index_search(index, query, row_bytes, &options, hits, &n, NULL), RK_OK);
        check_hits(b, filter, hits, n);
        assert_int_equal(n, options.k);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(key_of(b, hits[i]) >= near);
        }
        found[1] += count_right(b, hits, RK_MIN(n, (uint32_t)K / 2), far);
        wanted[1] += K / 2;
        options = (rk_search_options){.k = 3000,
                                      .filter = filter,
                                      .filter_count = count,
                                      .ordered = in_order,
                                      .arena = arena};
        assert_int_equal(rk_index_search(index, query, row_bytes, &options, hits, &n, NULL), RK_OK);
        check_hits(b, filter, hits, n);
        assert_int_equal(n, RK_MIN(count, (size_t)options.k));
        found[2] += count_right(b, hits, RK_MIN(n, (uint32_t)K), far);
        wanted[2] += RK_MIN(n, (uint32_t)K);
        rk_arena_reset(arena);
    }
    for (size_t i = 0; i < 3; i++) {
        if (found[i] < (i == 0 ? 0.9 : 0.95) * wanted[i]) {
            fail_msg("%s %s: %zu rows pass: %s: %u of %u", kind, rk_metric_name(b->metric), count,
                     (const char *[]){"range", "page", "many"}[i], found[i], wanted[i]);
        }
    }
    rk_arena_free(arena);
}

static void
check_all_ranges(const bed *b, const uneven_case *at, const rk_index *index, rk_bitset *filter)
{
    static const double shares[] = {0.1, 0.6, 0.95};

    for (size_t s = 0; s <= RK_COUNT(shares) * 2; s++) {
        shape_kind shape = s == 0 ? ALL : s % 2 == 0 ? SHORTEST : CLUSTERS;
        size_t count = fill_filter(b, filter, shape, s > 0 ? shares[(s - 1) / 2] : 1);
        rk_index_filter *in_order = NULL;
        check_ranges(b, at->kind, index, filter, count, NULL);
        assert_int_equal(rk_index_filter_new(&in_order, index, filter, count, NULL, NULL), RK_OK);
        if (in_order) {
            check_ranges(b, at->kind, index, filter, count, in_order);
        }
        rk_index_filter_free(in_order);
    }
}

/* An opened image goes the ways of the index that was built. */
static void
check_image(const bed *b, const rk_index *index, rk_bitset *filter)
{
    rk_buf buf = {0};
    rk_index *opened = NULL;
    rk_arena *arena = rk_arena_new(0);
    size_t row_bytes = b->v.dim * sizeof(float);
    size_t count = fill_filter(b, filter, SHORTEST, 0.9);

    assert_int_equal(rk_index_save(index, testing_append, &buf, NULL), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    assert_int_equal(rk_index_open(&opened, (rk_str){image, buf.len}, &b->v, NULL, NULL), RK_OK);
    for (size_t q = 0; q < QUERIES; q++) {
        const float *query = b->queries + q * b->v.dim;
        bool masked = q % 2 == 0;
        rk_search_options options = {.k = K,
                                     .filter = masked ? filter : NULL,
                                     .filter_count = masked ? count : 0,
                                     .arena = arena};
        rk_hit hits[2][K] = {0};
        uint32_t n[2] = {0, 0};
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(rk_index_search(i == 0 ? index : opened, query, row_bytes, &options,
                                             hits[i], &n[i], NULL),
                             RK_OK);
            assert_int_equal(n[i], K);
            rk_arena_reset(arena);
        }
        assert_memory_equal(hits[0], hits[1], sizeof(hits[0]));
    }
    rk_index_free(opened);
    rk_free(image);
    rk_buf_deinit(&buf);
    rk_arena_free(arena);
}

static void
test_uneven(void **state)
{
    rk_bitset filter;

    RK_UNUSED(state);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    for (size_t c = 0; c < RK_COUNT(cases); c++) {
        const uneven_case *at = &cases[c];
        bed b;
        bed_init(&b, at->metric, at->dim, at->noise, at->sigma);
        rk_index *index = build(&b, at->kind);
        check_filters(&b, at, index, &filter);
        check_all_ranges(&b, at, index, &filter);
        check_image(&b, index, &filter);
        rk_index_free(index);
        bed_deinit(&b);
    }
    rk_bitset_deinit(&filter);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uneven),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
