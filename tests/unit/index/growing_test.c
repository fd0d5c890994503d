/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code sets of rows that are still arriving against exact search: recall floors for every type,
 * metric and shape of data; the same scores to the bit; filters, ranges, large k; rows and queries
 * that are no ordinary numbers; memory that runs out.
 */
#include "index/growing/growing.h"

#include "index_testing.h"

#define CHUNK   1024u
#define CHUNKS  6u
#define ROWS    (CHUNK * (CHUNKS - 1) + 320)
#define QUERIES 40u

typedef struct growing_case {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    uint32_t latent;
    float shift; /* of all components: data far from zero */
    float recall;
} growing_case;

static const growing_case cases[] = {
    {RK_VEC_F32, RK_METRIC_L2, 96, 0, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_IP, 96, 0, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_COSINE, 96, 0, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_L2, 200, 12, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_IP, 200, 12, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_COSINE, 200, 12, 0, 0.99f},
    {RK_VEC_F16, RK_METRIC_L2, 64, 8, 0, 0.99f},
    {RK_VEC_F16, RK_METRIC_IP, 130, 20, 0, 0.99f},
    {RK_VEC_F16, RK_METRIC_COSINE, 64, 8, 0, 0.99f},
    {RK_VEC_BF16, RK_METRIC_L2, 100, 8, 0, 0.99f},
    {RK_VEC_BF16, RK_METRIC_IP, 64, 0, 0, 0.99f},
    {RK_VEC_BF16, RK_METRIC_COSINE, 300, 30, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_L2, 32, 0, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_L2, 32, 4, 0, 0.99f},
    {RK_VEC_F32, RK_METRIC_L2, 96, 12, 40, 0.99f},
    {RK_VEC_F32, RK_METRIC_IP, 96, 12, 3, 0.99f},
    {RK_VEC_F32, RK_METRIC_COSINE, 96, 12, 3, 0.99f},
};

/* A growing segment of its own: rows in one array, chunk by chunk. */
typedef struct field {
    rk_vectors all;
    rk_metric metric;
    size_t row_bytes;
    rk_growing_codes *codes[CHUNKS];
    rk_growing_chunk chunks[CHUNKS];
    size_t coded; /* the rest is searched exactly */
    rk_arena *arena;
} field;

static void
code_chunk(field *f, size_t chunk, size_t to)
{
    const uint8_t *at = (const uint8_t *)f->all.data + chunk * CHUNK * f->row_bytes;
    size_t had = f->chunks[chunk].rows;
    rk_vectors ready = {f->all.type, f->all.dim, RK_MIN(f->all.rows - chunk * CHUNK, (size_t)CHUNK),
                        at, NULL};

    if (!f->codes[chunk]) {
        f->codes[chunk] =
            rk_growing_codes_new(&ready, f->metric, CHUNK, chunk > 0 ? f->codes[chunk - 1] : NULL);
        assert_non_null(f->codes[chunk]);
    }
    assert_int_equal(rk_growing_codes_add(f->codes[chunk], at, had, to), RK_OK);
    f->chunks[chunk] = (rk_growing_chunk){f->codes[chunk], at, to};
    f->coded = chunk * CHUNK + to;
}

/* Codes all that can be, in steps of different sizes. */
static void
field_init(field *f, rk_vector_type type, rk_metric metric, uint32_t dim, void *data, size_t rows)
{
    *f = (field){.all = {type, dim, rows, data, NULL}, .metric = metric};
    f->row_bytes = rk_vector_bytes(type, dim);
    f->arena = rk_arena_new(0);
    assert_true(rk_growing_codable(type, metric, dim));
    for (size_t row = 0; row < rows; row += CHUNK) {
        size_t whole = RK_MIN(rows - row, (size_t)CHUNK) / RK_GROWING_STEP * RK_GROWING_STEP;
        if (whole > 256) {
            code_chunk(f, row / CHUNK, 64);
            code_chunk(f, row / CHUNK, 256);
        }
        if (whole > 0) {
            code_chunk(f, row / CHUNK, whole);
        }
    }
}

static void
field_deinit(field *f)
{
    for (size_t i = 0; i < CHUNKS; i++) {
        rk_growing_codes_free(f->codes[i]);
    }
    rk_arena_free(f->arena);
}

static uint32_t
search(field *f, const void *query, rk_search_options *o, rk_hit *hits)
{
    uint32_t n = 0;
    rk_err err = {0};
    rk_vectors rest = {f->all.type, f->all.dim, f->all.rows - f->coded,
                       (const uint8_t *)f->all.data + f->coded * f->row_bytes, NULL};

    rk_arena_reset(f->arena);
    o->arena = f->arena;
    if (!o->filter) {
        o->filter_count = f->all.rows;
    }
    assert_int_equal(
        rk_flat_search(&rest, f->coded, f->metric, query, f->row_bytes, o, hits, &n, &err), RK_OK);
    size_t chunks = (f->coded + CHUNK - 1) / CHUNK;
    assert_int_equal(rk_growing_search(f->chunks, chunks, query, f->row_bytes, o, hits, &n, &err),
                     RK_OK);
    return n;
}

static uint32_t
exact(field *f, const void *query, rk_search_options *o, rk_hit *hits)
{
    uint32_t n = 0;
    rk_err err = {0};

    rk_arena_reset(f->arena);
    o->arena = f->arena;
    assert_int_equal(rk_flat_search(&f->all, 0, f->metric, query, f->row_bytes, o, hits, &n, &err),
                     RK_OK);
    return n;
}

/* What is found is in order, scored as exact search scores it, and passes; returns how many of the
 * exact hits it has, rows as near as the last of them counting. */
static uint32_t
judge(field *f, const void *query, const rk_search_options *o, const rk_hit *found, uint32_t n,
      const rk_hit *truth, uint32_t n_truth)
{
    bool larger = rk_metric_larger_is_nearer(f->metric);
    uint32_t good = 0;

    if (!o->range) {
        assert_int_equal(n, n_truth);
    }
    assert_true(n <= n_truth);
    for (uint32_t i = 0; i < n; i++) {
        rk_vectors one = {f->all.type, f->all.dim, 1,
                          (const uint8_t *)f->all.data + found[i].row * f->row_bytes, NULL};
        rk_search_options plain = {.k = 1, .filter_count = 1, .arena = f->arena};
        rk_hit hit;
        uint32_t got = 0;
        rk_err err = {0};
        assert_true(found[i].row < f->all.rows);
        assert_true(!o->filter || rk_bitset_get(o->filter, found[i].row));
        assert_int_equal(
            rk_flat_search(&one, 0, f->metric, query, f->row_bytes, &plain, &hit, &got, &err),
            RK_OK);
        assert_int_equal(got, 1);
        assert_memory_equal(&hit.score, &found[i].score, sizeof(float));
        if (i > 0) {
            float a = larger ? -found[i - 1].score : found[i - 1].score;
            float b = larger ? -found[i].score : found[i].score;
            assert_true(a < b || (a == b && found[i - 1].row < found[i].row));
        }
        good += n_truth > 0 && (larger ? found[i].score >= truth[n_truth - 1].score
                                       : found[i].score <= truth[n_truth - 1].score);
    }
    return good;
}

/* Recall over some queries with the options of |o|. */
static float
recall_of(field *f, const uint8_t *queries, const rk_search_options *o)
{
    rk_hit *found = rk_alloc(o->k * sizeof(*found));
    rk_hit *truth = rk_alloc(o->k * sizeof(*truth));
    size_t good = 0, all = 0;

    assert_non_null(found);
    assert_non_null(truth);
    for (uint32_t q = 0; q < QUERIES; q++) {
        rk_search_options mine = *o;
        const uint8_t *query = queries + q * f->row_bytes;
        uint32_t n_truth = exact(f, query, &mine, truth);
        uint32_t n = search(f, query, &mine, found);
        good += judge(f, query, &mine, found, n, truth, n_truth);
        all += n_truth;
    }
    rk_free(found);
    rk_free(truth);
    return all > 0 ? (float)good / (float)all : 1.0f;
}

static void *
make(rk_vector_type type, uint32_t dim, size_t rows, uint32_t latent, float shift, uint64_t seed)
{
    uint8_t *data = testing_dense(type, dim, rows, latent, seed);

    for (size_t i = 0; shift > 0 && i < rows * dim; i++) {
        ((float *)(void *)data)[i] += shift;
    }
    return data;
}

static void
test_recall(void **state)
{
    static const uint32_t ks[] = {1, 10, 100};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const growing_case *c = &cases[i];
        uint8_t *data = make(c->type, c->dim, ROWS + QUERIES, c->latent, c->shift, 5 + i);
        field f;
        field_init(&f, c->type, c->metric, c->dim, data, ROWS);
        for (size_t k = 0; k < RK_COUNT(ks); k++) {
            rk_search_options o = {.k = ks[k]};
            float recall = recall_of(&f, data + ROWS * f.row_bytes, &o);
            if (recall < (ks[k] == 1 ? 0.97f : c->recall)) { /* one of 40 may be missed */
                fail_msg("case %zu, k %u: recall %.4f", i, ks[k], (double)recall);
            }
        }
        field_deinit(&f);
        rk_free(data);
    }
}

/* A large sample at k = 1, where one miss is all of a query. */
static void
test_recall_nearest(void **state)
{
    const uint32_t dim = 48;
    enum { MANY = 1500 };
    uint8_t *data = make(RK_VEC_F32, dim, ROWS + MANY, 0, 0, 91);
    rk_hit found, truth;
    uint32_t good = 0;
    field f;

    RK_UNUSED(state);
    field_init(&f, RK_VEC_F32, RK_METRIC_L2, dim, data, ROWS);
    for (size_t q = 0; q < MANY; q++) {
        rk_search_options o = {.k = 1};
        const uint8_t *query = data + (ROWS + q) * f.row_bytes;
        assert_int_equal(exact(&f, query, &o, &truth), 1);
        assert_int_equal(search(&f, query, &o, &found), 1);
        good += found.row == truth.row;
    }
    if (good < MANY * 99 / 100) {
        fail_msg("nearest found for %u of %u", good, (unsigned)MANY);
    }
    field_deinit(&f);
    rk_free(data);
}

static void
test_filters(void **state)
{
    static const double densities[] = {0.9, 0.3, 0.05, 0.01, 0.002, 0.0};
    const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    uint8_t *data = make(RK_VEC_F32, 96, ROWS + QUERIES, 12, 0, 3);

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        field f;
        field_init(&f, RK_VEC_F32, metrics[m], 96, data, ROWS);
        for (size_t d = 0; d <= RK_COUNT(densities); d++) {
            rk_bitset set;
            bool run = d == RK_COUNT(densities); /* rows that lie together */
            testing_filter(&set, ROWS, run ? 0 : densities[d], 17 + d);
            for (size_t row = 1500; run && row < 2900; row++) {
                rk_bitset_set(&set, row);
            }
            rk_search_options o = {.k = 10, .filter = &set, .filter_count = rk_bitset_count(&set)};
            o.k = (uint32_t)RK_MIN((size_t)o.k, RK_MAX(o.filter_count, (size_t)1));
            float recall = recall_of(&f, data + ROWS * f.row_bytes, &o);
            if (recall < 0.99f) {
                fail_msg("metric %zu, filter %zu: recall %.4f", m, d, (double)recall);
            }
            rk_bitset_deinit(&set);
        }
        field_deinit(&f);
    }
    rk_free(data);
}

static void
test_ranges(void **state)
{
    const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    uint8_t *data = make(RK_VEC_F32, 64, ROWS + QUERIES, 12, 0, 8);

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        static const uint32_t bounds[][2] = {{0, 30}, {20, 120}, {150, 400}, {0, 1}};
        rk_hit ranked[500];
        size_t good = 0, all = 0;
        field f;
        field_init(&f, RK_VEC_F32, metrics[m], 64, data, ROWS);
        for (uint32_t q = 0; q < QUERIES; q++) {
            const uint8_t *query = data + (ROWS + q) * f.row_bytes;
            rk_search_options plain = {.k = RK_COUNT(ranked)};
            assert_int_equal(exact(&f, query, &plain, ranked), RK_COUNT(ranked));
            for (size_t b = 0; b < 2 * RK_COUNT(bounds); b++) {
                const uint32_t *bound = bounds[b / 2];
                rk_hit found[300], truth[300];
                rk_search_options o = {.k = b % 2 ? 10 : 300,
                                       .range = true,
                                       .radius = ranked[bound[1]].score,
                                       .has_range_filter = bound[0] > 0,
                                       .range_filter = ranked[bound[0]].score};
                uint32_t n_truth = exact(&f, query, &o, truth);
                uint32_t n = search(&f, query, &o, found);
                good += judge(&f, query, &o, found, n, truth, n_truth);
                all += n_truth;
                for (uint32_t i = 0; i < n; i++) {
                    float score = found[i].score;
                    assert_true(metrics[m] == RK_METRIC_L2 ? score < o.radius : score > o.radius);
                }
            }
        }
        if ((double)good < 0.99 * (double)all) {
            fail_msg("metric %zu: %zu of %zu in range", m, good, all);
        }
        field_deinit(&f);
    }
    rk_free(data);
}

/* Where codes would leave little out, and where all is wanted, nothing is missed. */
static void
test_large_k(void **state)
{
    uint8_t *data = make(RK_VEC_F32, 64, ROWS + QUERIES, 12, 0, 21);
    rk_param all = {RK_STR("target_recall"), RK_STR("1.0")};
    field f;

    RK_UNUSED(state);
    field_init(&f, RK_VEC_F32, RK_METRIC_L2, 64, data, ROWS);
    const uint8_t *queries = data + ROWS * f.row_bytes;
    assert_true(recall_of(&f, queries, &(rk_search_options){.k = 1000}) == 1.0f);
    assert_true(recall_of(&f, queries, &(rk_search_options){.k = ROWS}) == 1.0f);
    assert_true(recall_of(&f, queries, &(rk_search_options){.k = 300}) >= 0.99f);
    assert_true(recall_of(&f, queries, &(rk_search_options){.k = 10, .params = {&all, 1}}) == 1.0f);
    field_deinit(&f);
    rk_free(data);
}

/* Rows that are equal, zero, tiny, huge or no numbers; queries like them. */
static void
test_hostile(void **state)
{
    static const float odd[] = {0, 1e-30f, 1e-18f, 1e15f, 1e19f, 1e30f, INFINITY, NAN};
    const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    const uint32_t dim = 40;

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        for (size_t o = 0; o <= RK_COUNT(odd); o++) {
            float *data = make(RK_VEC_F32, dim, ROWS + QUERIES, 8, 0, 4);
            bool same = o == RK_COUNT(odd); /* every row is the first */
            field f;
            for (size_t r = 0; r < ROWS; r++) {
                for (uint32_t i = 0; same ? i < dim : r % 50 == 7 && i < dim; i++) {
                    data[r * dim + i] = same ? data[i] : i % 3 ? odd[o] : -odd[o];
                }
            }
            field_init(&f, RK_VEC_F32, metrics[m], dim, data, ROWS);
            const uint8_t *queries = (const uint8_t *)(data + (size_t)ROWS * dim);
            rk_search_options options = {.k = 10};
            float recall = recall_of(&f, queries, &options);
            if (recall < 0.98f) {
                fail_msg("metric %zu, odd %zu: recall %.4f", m, o, (double)recall);
            }
            for (uint32_t i = 0; !same && i < QUERIES * dim; i++) { /* the queries too */
                data[(size_t)ROWS * dim + i] *= odd[o];
            }
            recall = recall_of(&f, queries, &options);
            if (recall < 0.98f) {
                fail_msg("metric %zu, odd query %zu: recall %.4f", m, o, (double)recall);
            }
            field_deinit(&f);
            rk_free(data);
        }
    }
}

static void
test_memory(void **state)
{
    uint8_t *data = make(RK_VEC_F32, 64, CHUNK, 0, 0, 2);
    rk_vectors v = {RK_VEC_F32, 64, CHUNK, data, NULL};

    RK_UNUSED(state);
    for (int64_t after = 0; after < 2; after++) {
        rk_alloc_fail_after(after);
        rk_growing_codes *none = rk_growing_codes_new(&v, RK_METRIC_L2, CHUNK, NULL);
        rk_alloc_fail_after(-1);
        assert_null(none);
    }
    rk_growing_codes *codes = rk_growing_codes_new(&v, RK_METRIC_L2, CHUNK, NULL);
    assert_non_null(codes);
    rk_alloc_fail_after(0);
    rk_code code = rk_growing_codes_add(codes, data, 0, CHUNK);
    rk_alloc_fail_after(-1);
    assert_int_equal(code, RK_ENOMEM);
    assert_int_equal(rk_growing_codes_add(codes, data, 0, CHUNK), RK_OK);
    rk_growing_codes_free(codes);
    /* as the header says */
    assert_true(rk_growing_codes_bytes(768, CHUNK) < CHUNK * 768 * 4 * 17 / 100);
    assert_true(rk_growing_codes_bytes(128, CHUNK) < CHUNK * 128 * 4 * 22 / 100);

    rk_growing_chunk chunk = {NULL, data, CHUNK};
    rk_search_options o = {.k = 10, .filter_count = CHUNK, .arena = rk_arena_new(1000)};
    rk_hit hits[10];
    uint32_t n = 0;
    rk_err err = {0};
    codes = rk_growing_codes_new(&v, RK_METRIC_L2, CHUNK, NULL);
    assert_non_null(codes);
    assert_int_equal(rk_growing_codes_add(codes, data, 0, CHUNK), RK_OK);
    chunk.codes = codes;
    assert_int_equal(rk_growing_search(&chunk, 1, data, 256, &o, hits, &n, &err), RK_ENOMEM);
    assert_int_equal(n, 0);
    assert_int_equal(rk_growing_search(&chunk, 1, data, 255, &o, hits, &n, &err), RK_EINVAL);
    rk_arena_free(o.arena);
    rk_growing_codes_free(codes);
    rk_free(data);
}

static void
test_codable(void **state)
{
    RK_UNUSED(state);
    assert_true(rk_growing_codable(RK_VEC_F32, RK_METRIC_L2, 32));
    assert_false(rk_growing_codable(RK_VEC_F32, RK_METRIC_L2, 31));
    assert_false(rk_growing_codable(RK_VEC_F32, RK_METRIC_L2, 32769));
    assert_false(rk_growing_codable(RK_VEC_F32, RK_METRIC_HAMMING, 64));
    assert_false(rk_growing_codable(RK_VEC_I8, RK_METRIC_L2, 64));
    assert_false(rk_growing_codable(RK_VEC_BINARY, RK_METRIC_HAMMING, 64));
    assert_false(rk_growing_codable(RK_VEC_SPARSE, RK_METRIC_IP, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall),  cmocka_unit_test(test_recall_nearest),
        cmocka_unit_test(test_filters), cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_large_k), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_codable),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
