/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codecs: error bounds of each, products equal to decode-then-multiply for row numbers and runs,
 * blocks of 32 equal to rows, the same tables from any number of threads, tables from an image,
 * factors that estimate distances, cancel and failing allocations. On every kernel table.
 */
#include "index/code/codec.h"

#include "index_testing.h"

enum { ROWS = 1200, OTHERS = 64 };

typedef struct codec_case {
    rk__codec_id id;
    uint32_t dim;
    uint32_t m;
    uint32_t nbits;
    uint32_t nrq;
    double loss_max; /* of the rows' variance */
} codec_case;

static const codec_case cases[] = {
    {RK__CODEC_SQ8, 33, 1, 0, 1, 1e-4},    {RK__CODEC_SQ8, 128, 1, 0, 1, 1e-4},
    {RK__CODEC_SQ6, 64, 1, 0, 1, 2e-3},    {RK__CODEC_SQ6, 100, 1, 0, 1, 2e-3},
    {RK__CODEC_SQ4, 64, 1, 0, 1, 0.02},    {RK__CODEC_SQ4, 7, 1, 0, 1, 0.02},
    {RK__CODEC_SQ4U, 96, 1, 0, 1, 0.04},   {RK__CODEC_FP16, 33, 1, 0, 1, 1e-6},
    {RK__CODEC_BF16, 40, 1, 0, 1, 1e-4},   {RK__CODEC_FP32, 17, 1, 0, 1, 0},
    {RK__CODEC_PQ, 64, 16, 8, 1, 0.06},    {RK__CODEC_PQ, 66, 11, 8, 1, 0.2},
    {RK__CODEC_PQ, 64, 32, 4, 1, 0.15},    {RK__CODEC_PQ, 63, 21, 4, 1, 0.25},
    {RK__CODEC_PQ, 64, 16, 6, 1, 0.15},    {RK__CODEC_PQ, 32, 8, 24, 1, 0.06},
    {RK__CODEC_PQ, 32, 32, 1, 1, 0.5},     {RK__CODEC_PRQ, 64, 2, 8, 4, 0.35},
    {RK__CODEC_PRQ, 64, 16, 4, 2, 0.15},   {RK__CODEC_PQ, 64, 64, 8, 1, 2e-3},
    {RK__CODEC_PQ, 2000, 1000, 4, 1, 0.1},
};

typedef struct coded {
    rk__codec codec;
    float *rows;
    uint8_t *codes;
    size_t n;
} coded;

static size_t
rows_of(const codec_case *c)
{
    return c->dim > 1000 ? 100 : ROWS;
}

static coded
make(const codec_case *c, const rk_build_options *options)
{
    coded out = {.n = rows_of(c)};
    rk_err err = {0};

    out.rows = testing_dense(RK_VEC_F32, c->dim, out.n, 12, 5);
    rk__codec_init(&out.codec, c->id, c->dim, c->m, c->nbits, c->nrq, out.n);
    if (rk__codec_train(&out.codec, out.rows, out.n, options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    out.codes = rk_alloc_aligned(64, (out.n * out.codec.code_bytes + 63) / 64 * 64);
    float *scratch = rk_alloc(rk__codec_scratch_floats(&out.codec) * sizeof(float));
    assert_non_null(out.codes);
    assert_non_null(scratch);
    for (size_t i = 0; i < out.n; i++) {
        rk__codec_encode(&out.codec, out.rows + i * c->dim, out.codes + i * out.codec.code_bytes,
                         scratch);
    }
    rk_free(scratch);
    return out;
}

static void
drop(coded *c)
{
    rk__codec_deinit(&c->codec);
    rk_free(c->rows);
    rk_free(c->codes);
}

static void
check_loss(const codec_case *c, const coded *d)
{
    float *decoded = rk_alloc(c->dim * sizeof(float));
    double loss = 0;
    double spread = 0;

    for (size_t i = 0; i < d->n; i++) {
        rk__codec_decode(&d->codec, d->codes + i * d->codec.code_bytes, decoded);
        for (size_t j = 0; j < c->dim; j++) {
            double v = (double)d->rows[i * c->dim + j];
            loss += (v - (double)decoded[j]) * (v - (double)decoded[j]);
            spread += v * v;
        }
    }
    if (!(loss <= c->loss_max * spread)) {
        fail_msg("codec %d dim %u m %u nbits %u: loses %g, at most %g", (int)c->id, c->dim, c->m,
                 c->nbits, loss / spread, c->loss_max);
    }
    rk_free(decoded);
}

/* |dots| against decoded rows, relative to the lengths of both. */
static void
check_dots(const coded *d, const float *query, const uint32_t *at, size_t n, const float *dots,
           double tolerance)
{
    float *decoded = rk_alloc(d->codec.dim * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        double dot = 0;
        double a = 0;
        double b = 0;
        rk__codec_decode(&d->codec, d->codes + (at ? at[i] : i) * d->codec.code_bytes, decoded);
        for (size_t j = 0; j < d->codec.dim; j++) {
            dot += (double)query[j] * (double)decoded[j];
            a += (double)query[j] * (double)query[j];
            b += (double)decoded[j] * (double)decoded[j];
        }
        if (!(fabs(dot - (double)dots[i]) <= tolerance * sqrt(a * b))) {
            fail_msg("codec %d dim %u m %u nbits %u code %zu: %g, decoded %g", (int)d->codec.id,
                     d->codec.dim, d->codec.m, d->codec.nbits, i, (double)dots[i], dot);
        }
    }
    rk_free(decoded);
}

static double
tolerance_of(rk__codec_id id)
{
    return id == RK__CODEC_BF16   ? 4e-3
           : id == RK__CODEC_FP16 ? 6e-4
           : id <= RK__CODEC_SQ4U ? 6e-3 /* an 8-bit query */
           : id <= RK__CODEC_SQ8  ? 2e-4
                                  : 1e-5;
}

/* Blocks hold the same codes; their tables are rounded to a 255th of the widest one. */
static void
check_blocks(const coded *d, const rk__codec_query *query, const float *dots)
{
    size_t groups = rk__codec_groups(&d->codec);
    uint8_t *lut = rk_alloc_aligned(64, groups * 16);
    uint8_t *block = rk_alloc_aligned(64, groups * 16);
    float zeros[32] = {0};
    float ones[32];
    float est[32];
    float unit = 0;
    float bias = 0;

    assert_true(rk__codec_block_bytes(&d->codec) == groups * 16);
    memset(block, 0, groups * 16);
    for (uint32_t i = 0; i < 32; i++) {
        ones[i] = 1;
        rk__codec_place(&d->codec, d->codes + i * d->codec.code_bytes, i, block);
    }
    rk__codec_block_lut(query, lut, &unit, &bias);
    uint32_t mask =
        rk__kernels_get()->scan32(lut, block, groups, zeros, ones, unit, bias, 0, INFINITY, est);
    assert_int_equal(mask, UINT32_MAX);
    for (size_t i = 0; i < 32; i++) {
        double bound = 0.5 * (double)unit * d->codec.m * d->codec.nrq + 1e-4;
        if (!(fabs((double)est[i] - (double)dots[i]) <= bound)) {
            fail_msg("block row %zu: %g, row %g, bound %g", i, (double)est[i], (double)dots[i],
                     bound);
        }
    }
    rk_free(lut);
    rk_free(block);
}

static void
test_each(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const codec_case *c = &cases[i];
        rk_build_options options = {.seed = 3};
        coded d = make(c, &options);
        float *queries = testing_dense(RK_VEC_F32, c->dim, 3, 12, 6);
        void *memory = rk_alloc_aligned(64, (rk__codec_query_bytes(&d.codec) + 63) / 64 * 64);
        uint32_t at[OTHERS + 1];
        float dots[OTHERS + 1];
        testing_rng rng = {9};

        check_loss(c, &d);
        for (size_t q = 0; q < 3; q++) {
            rk__codec_query query;
            assert_true(rk__codec_query_init(&query, &d.codec, queries + q * c->dim, memory));
            for (size_t j = 0; j < RK_COUNT(at); j++) {
                at[j] = (uint32_t)(testing_u64(&rng) % d.n);
            }
            for (size_t n = 1; n <= RK_COUNT(at); n = n < 6 ? n + 1 : n * 2 - 1) {
                rk__codec_dots(&query, d.codes, at, n, dots);
                check_dots(&d, queries + q * c->dim, at, n, dots, tolerance_of(c->id));
            }
            rk__codec_dots(&query, d.codes, NULL, OTHERS, dots);
            check_dots(&d, queries + q * c->dim, NULL, OTHERS, dots, tolerance_of(c->id));
            if (rk__codec_has_blocks(&d.codec)) {
                check_blocks(&d, &query, dots);
            }
        }
        queries[c->dim / 2] = NAN;
        rk__codec_query query;
        assert_false(rk__codec_query_init(&query, &d.codec, queries, memory));
        rk_free(memory);
        rk_free(queries);
        drop(&d);
    }
}

static void
test_shapes(void **state)
{
    rk__codec c;

    RK_UNUSED(state);
    rk__codec_init(&c, RK__CODEC_PQ, 64, 8, 24, 1, 1000000);
    assert_int_equal(c.nbits, RK__CODEC_NBITS_MAX);
    assert_int_equal(c.width, 16);
    assert_int_equal(c.code_bytes, 16);
    rk__codec_init(&c, RK__CODEC_PQ, 64, 8, 8, 1, 100);
    assert_int_equal(c.nbits, 6); /* 64 centres from 100 rows */
    assert_int_equal(c.width, 8);
    rk__codec_init(&c, RK__CODEC_PQ, 64, 9 - 1, 8, 1, 0);
    assert_int_equal(c.nbits, 1);
    rk__codec_init(&c, RK__CODEC_SQ6, 65, 1, 0, 1, 9);
    assert_int_equal(c.code_bytes, 96);
    rk__codec_init(&c, RK__CODEC_PQ, 32768, 16384, 4, 1, 9);
    assert_false(rk__codec_has_blocks(&c)); /* more pieces than scan32 takes */
    assert_int_equal(rk__codec_named("sq4u"), RK__CODEC_SQ4U);
    assert_int_equal(rk__codec_named("Flat"), RK__CODEC_FP32);
    assert_int_equal(rk__codec_named("PQ9"), RK__CODEC_NONE);
    assert_int_equal(rk__codec_named(NULL), RK__CODEC_NONE);
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
test_threads_and_image(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_parallel parallel = {run_backwards, 4, NULL};
        rk_build_options one = {.seed = 3};
        rk_build_options many = {.seed = 3, .parallel = &parallel};
        coded a = make(&cases[i], &one);
        coded b = make(&cases[i], &many);
        rk__codec mapped = a.codec;
        rk_err err = {0};

        assert_memory_equal(a.codec.tables, b.codec.tables, a.codec.tables_n * sizeof(float));
        assert_memory_equal(a.codes, b.codes, a.n * a.codec.code_bytes);
        assert_int_equal(rk__codec_open(&mapped, a.codec.tables, a.codec.tables_n * 4 + 4, &err),
                         RK_ECORRUPT);
        assert_int_equal(rk__codec_open(&mapped, a.codec.tables, a.codec.tables_n * 4, &err),
                         RK_OK);
        drop(&a);
        drop(&b);
    }
}

/* Codes of any bytes stay within their tables. */
static void
test_any_bytes(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_build_options options = {.seed = 3};
        coded d = make(&cases[i], &options);
        void *memory = rk_alloc_aligned(64, (rk__codec_query_bytes(&d.codec) + 63) / 64 * 64);
        rk__codec_query query;
        float dots[OTHERS];

        memset(d.codes, 0xff, d.n * d.codec.code_bytes);
        assert_true(rk__codec_query_init(&query, &d.codec, d.rows, memory));
        rk__codec_dots(&query, d.codes, NULL, OTHERS, dots);
        rk_free(memory);
        drop(&d);
    }
}

static void
test_odd_data(void **state)
{
    static const rk__codec_id ids[] = {RK__CODEC_SQ4, RK__CODEC_SQ4U, RK__CODEC_SQ6,
                                       RK__CODEC_SQ8, RK__CODEC_FP16, RK__CODEC_PQ};
    static float rows[64 * 32];
    static float scratch[4096];
    float decoded[32];
    uint8_t code[256];

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(ids); i++) {
        for (int what = 0; what < 3; what++) { /* constant, tiny, huge */
            rk_build_options options = {.seed = 1};
            rk__codec c;
            for (size_t j = 0; j < RK_COUNT(rows); j++) {
                rows[j] = what == 0   ? 7.5f
                          : what == 1 ? 1e-42f * (float)(j % 13)
                                      : 3e38f * ((float)(j % 3) - 1);
            }
            rk__codec_init(&c, ids[i], 32, 8, 8, 1, 64);
            assert_true(c.code_bytes <= sizeof(code));
            assert_int_equal(rk__codec_train(&c, rows, 64, &options, NULL), RK_OK);
            rk__codec_encode(&c, rows, code, scratch);
            rk__codec_decode(&c, code, decoded);
            for (size_t j = 0; j < 32 && what == 0; j++) {
                assert_true(decoded[j] == 7.5f);
            }
            rk__codec_deinit(&c);
        }
    }
}

/* Mean relative error of estimated distances from rows to rows near them. */
static void
test_factors(void **state)
{
    static const codec_case c = {RK__CODEC_PQ, 64, 16, 8, 1, 1};
    rk_build_options options = {.seed = 3};
    coded d = make(&c, &options);
    void *memory = rk_alloc_aligned(64, (rk__codec_query_bytes(&d.codec) + 63) / 64 * 64);
    float centre[64] = {0};
    float decoded[64];

    RK_UNUSED(state);
    for (size_t m = 0; m < 2; m++) {
        rk_metric metric = m == 0 ? RK_METRIC_L2 : RK_METRIC_IP;
        double error = 0;
        double whole = 0;
        for (size_t q = 0; q < 50; q++) {
            const float *query = d.rows + q * 64;
            rk__codec_query prepared;
            float dots[50];
            assert_true(rk__codec_query_init(&prepared, &d.codec, query, memory));
            rk__codec_dots(&prepared, d.codes, NULL, 50, dots);
            for (size_t i = 0; i < 50; i++) {
                float add = 0;
                float mul = 0;
                rk__codec_decode(&d.codec, d.codes + i * d.codec.code_bytes, decoded);
                rk__codec_factors(metric, d.rows + i * 64, decoded, centre, 64, &add, &mul);
                float extra = m == 0 ? rk_distance(RK_VEC_F32, RK_METRIC_IP, 64, query, query) : 0;
                double est = (double)(add + mul * dots[i] + extra);
                double exact = (double)rk_distance(RK_VEC_F32, metric, 64, query, d.rows + i * 64);
                exact = m == 0 ? exact : -exact;
                error += fabs(est - exact);
                whole += fabs(exact);
                if (i == q) { /* the row itself */
                    assert_true(fabs(est - exact) <= 1e-4 * (double)extra + 1e-4 * fabs(exact));
                }
            }
        }
        assert_true(error < 0.1 * whole);
    }
    rk_free(memory);
    drop(&d);
}

static void
test_cancel_and_memory(void **state)
{
    static const codec_case c = {RK__CODEC_PRQ, 64, 4, 8, 2, 1};
    _Atomic(bool) cancel = true;
    rk_build_options options = {.seed = 3, .cancel = &cancel};
    float *rows = testing_dense(RK_VEC_F32, 64, ROWS, 12, 5);
    rk__codec codec;

    RK_UNUSED(state);
    rk__codec_init(&codec, c.id, c.dim, c.m, c.nbits, c.nrq, ROWS);
    assert_int_equal(rk__codec_train(&codec, rows, ROWS, &options, NULL), RK_ECANCELLED);
    rk__codec_deinit(&codec);
    for (int64_t fail = 0; fail < 12; fail++) {
        rk__codec_init(&codec, c.id, c.dim, c.m, c.nbits, c.nrq, ROWS);
        rk_alloc_fail_after(fail);
        rk_code code = rk__codec_train(&codec, rows, ROWS, &options, NULL);
        rk_alloc_fail_after(-1);
        assert_true(code == RK_ENOMEM);
        rk__codec_deinit(&codec);
    }
    rk_free(rows);
}

int
main(void)
{
    const struct CMUnitTest each[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_factors),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_threads_and_image),
        cmocka_unit_test(test_odd_data),
        cmocka_unit_test(test_cancel_and_memory),
    };
    static const char *const tables[] = {"scalar", "avx2", "avx512", "neon"};
    int failed = 0;

    for (size_t i = 0; i < RK_COUNT(tables); i++) {
        if (rk__kernels_find(tables[i])) {
            setenv("REDKITE_CPU", tables[i], 1);
            rk_kernels_init();
            failed += cmocka_run_group_tests(each, NULL, NULL);
        }
    }
    return failed + cmocka_run_group_tests(once, NULL, NULL);
}
