/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-bit codes: the rotation keeps norms and inner products and is the same for every instruction
 * set; the scan equals the scalar one; estimates of L2 and IP are unbiased and as exact as
 * 1 / sqrt(padded) says, also for data whose components are far from random before the rotation.
 */
#include "index/kernel/bits.h"

#include "index_testing.h"

static const char *const tables[] = {"scalar", "avx2", "avx512", "neon", "neondot"};

static void *
aligned(size_t size_bytes)
{
    void *p = rk_alloc_aligned(64, (size_bytes + 63) / 64 * 64);
    assert_non_null(p);
    return p;
}

static double
dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void
test_rotation(void **state)
{
    static const uint32_t dims[] = {2,   3,   63,  64,  65,  100,  128,  192,   200,
                                    384, 768, 784, 960, 961, 1536, 4097, 30000, 32768};
    testing_rng rng = {4};

    RK_UNUSED(state);
    for (size_t d = 0; d < RK_COUNT(dims); d++) {
        rk__rotation rotation = rk__rotation_of(dims[d], d);
        assert_int_equal(rotation.padded % 64, 0);
        assert_true(rotation.padded >= dims[d] && rotation.padded < dims[d] + 64);
        float *a = aligned(rotation.padded * 4);
        float *b = aligned(rotation.padded * 4);
        float *ra = aligned(rotation.padded * 4);
        float *rb = aligned(rotation.padded * 4);
        for (size_t i = 0; i < dims[d]; i++) {
            a[i] = testing_gauss(&rng);
            b[i] = testing_gauss(&rng) + 0.5f;
        }
        rk__rotate(&rotation, a, ra);
        rk__rotate(&rotation, b, rb);
        double scale = sqrt(dot(a, a, dims[d]) * dot(b, b, dims[d]));
        assert_true(fabs(dot(ra, ra, rotation.padded) / dot(a, a, dims[d]) - 1) < 1e-5);
        assert_true(fabs(dot(ra, rb, rotation.padded) - dot(a, b, dims[d])) < 1e-5 * scale);
        rk__rotate(&rotation, a, rb);
        assert_memory_equal(ra, rb, rotation.padded * 4);
        rk__rotation other = rk__rotation_of(dims[d], d + 100);
        rk__rotate(&other, a, rb);
        assert_memory_not_equal(ra, rb, rotation.padded * 4);
        rk_free(a);
        rk_free(b);
        rk_free(ra);
        rk_free(rb);
    }
}

static void
test_rotation_is_one(void **state)
{
    testing_rng rng = {5};

    RK_UNUSED(state);
    for (size_t n = 64; n <= 2048; n += 64) {
        float *want = aligned(n * 4);
        float *got = aligned(n * 4);
        float *in = aligned(n * 4);
        for (size_t i = 0; i < n; i++) {
            in[i] = testing_gauss(&rng);
        }
        memcpy(want, in, n * 4);
        rk__kernels_scalar.rotate(want, n, n);
        for (size_t t = 0; t < RK_COUNT(tables); t++) {
            const rk__kernels *k = rk__kernels_find(tables[t]);
            if (k) {
                memcpy(got, in, n * 4);
                k->rotate(got, n, n);
                assert_memory_equal(got, want, n * 4);
            }
        }
        rk_free(want);
        rk_free(got);
        rk_free(in);
    }
}

/* A single component, the worst case, is spread over all of them about evenly. */
static void
test_rotation_spreads(void **state)
{
    static const uint32_t dims[] = {64, 128, 192, 384, 768, 832, 960, 1984};

    RK_UNUSED(state);
    for (size_t d = 0; d < RK_COUNT(dims); d++) {
        uint32_t n = dims[d];
        float *in = aligned(n * 4);
        float *out = aligned(n * 4);
        double fourth = 0;
        for (uint64_t seed = 0; seed < 64; seed++) {
            rk__rotation rotation = rk__rotation_of(n, seed);
            memset(in, 0, n * 4);
            in[seed * 31 % n] = 1;
            rk__rotate(&rotation, in, out);
            for (size_t i = 0; i < n; i++) {
                double square = (double)out[i] * (double)out[i] * n;
                if (!(square < 60)) {
                    fail_msg("dim %u seed %d: component %zu has %.1f times its share", n, (int)seed,
                             i, square);
                }
                fourth += square * square / n / 64;
            }
        }
        assert_true(fourth < 4.0); /* 3 for a normal distribution */
        rk_free(in);
        rk_free(out);
    }
}

static void
check_scan(rk__scan32_fn scan, size_t groups, uint64_t seed, bool extreme, uint8_t entry_max)
{
    testing_rng rng = {seed};
    uint8_t *lut = (uint8_t *)aligned(groups * 16 + 64) + 1; /* odd addresses */
    uint8_t *block = (uint8_t *)aligned(groups * 16 + 64) + 3;
    float add[32];
    float mul[32];
    float got[32];
    float want[32];

    for (size_t i = 0; i < groups * 16; i++) {
        lut[i] = extreme ? entry_max : (uint8_t)testing_u64(&rng) & entry_max;
        block[i] = (uint8_t)testing_u64(&rng);
    }
    for (size_t i = 0; i < 32; i++) {
        add[i] = testing_gauss(&rng);
        mul[i] = testing_gauss(&rng) * 1e-3f;
    }
    add[3] = NAN;
    mul[17] = NAN;
    mul[18] = INFINITY;
    add[31] = -INFINITY;
    /* with unit 1 and bias 0 the sums themselves are seen */
    float ones[32];
    float zeros[32] = {0};
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 1;
    }
    uint32_t all = scan(lut, block, groups, zeros, ones, 1, 0, 0, INFINITY, got);
    rk__kernels_scalar.scan32(lut, block, groups, zeros, ones, 1, 0, 0, INFINITY, want);
    assert_memory_equal(got, want, sizeof(got));
    assert_true(all == UINT32_MAX);

    float unit = 0.25f / (float)groups;
    uint32_t mask = scan(lut, block, groups, add, mul, unit, -31.0f, 0.5f, 0.25f, got);
    rk__kernels_scalar.scan32(lut, block, groups, add, mul, unit, -31.0f, 0.5f, 0.25f, want);
    for (size_t i = 0; i < 32; i++) {
        assert_true((got[i] != got[i]) == (want[i] != want[i]));
        if (isfinite(want[i])) {
            assert_true(fabsf(got[i] - want[i]) <= 1e-5f * (fabsf(add[i]) + 1));
        }
        assert_true((bool)(mask >> i & 1) == (got[i] < 0.25f));
    }
    assert_true(scan(lut, block, groups, add, mul, unit, 0, 0, NAN, got) == 0);
    rk_free(lut - 1);
    rk_free(block - 3);
}

static void
test_scan(void **state)
{
    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        for (size_t groups = 16; k && groups <= 8192; groups += groups < 600 ? 16 : 1216) {
            check_scan(k->scan32, groups, groups, false, 255);
            check_scan(k->scan32, groups, groups, true, 255);
            check_scan(k->scan32_low, groups, groups, false, 63);
            check_scan(k->scan32_low, groups, groups, true, 63);
        }
        if (k) {
            check_scan(k->scan32, 8192, 1, true, 255);
            check_scan(k->scan32_low, 8192, 1, true, 63);
        }
    }
}

static void
test_query_tables(void **state)
{
    testing_rng rng = {8};

    RK_UNUSED(state);
    for (size_t n = 64; n <= 1024; n += 64) {
        float *query = aligned(n * 4);
        uint8_t *got = aligned(n * 4);
        uint8_t *want = aligned(n * 4);
        for (size_t i = 0; i < n; i++) {
            query[i] = testing_gauss(&rng);
        }
        float span = rk__kernels_scalar.bits_span(query, n);
        uint32_t want_total = rk__kernels_scalar.bits_tables(query, n / 4, 31.5f / span, want);
        for (size_t t = 0; t < RK_COUNT(tables); t++) {
            const rk__kernels *k = rk__kernels_find(tables[t]);
            if (!k) {
                continue;
            }
            assert_true(fabsf(k->bits_span(query, n) / span - 1) < 1e-6f);
            uint32_t total = k->bits_tables(query, n / 4, 31.5f / span, got);
            uint32_t sum = 0;
            for (size_t i = 0; i < n * 4; i++) {
                sum += got[i];
                assert_true(abs(got[i] - want[i]) <= 1);
                assert_true(got[i] <= 63);
            }
            assert_int_equal(total, sum);
            assert_true(labs((long)total - (long)want_total) <= (long)n);
            float saved = query[n / 2 + 5];
            query[n / 2 + 5] = NAN;
            assert_true(isnan(k->bits_span(query, n)));
            query[n / 2 + 5] = saved;
        }
        rk_free(query);
        rk_free(got);
        rk_free(want);
    }
}

/* Tables of zeros, tiny, infinite and NaN queries do not trap; what is not finite matches nothing.
 */
static void
test_hostile_queries(void **state)
{
    static const float values[] = {0.0f, 1e-44f, 1e-30f, 1e30f, 1e38f, INFINITY, NAN};
    float *query = aligned(128 * 4);
    uint8_t *lut = aligned(128 * 4);
    uint8_t *block = aligned(rk__bits_block_bytes(128));
    float zeros[32] = {0};
    float ones[32];
    float est[32];

    RK_UNUSED(state);
    memset(block, 0x5a, rk__bits_block_bytes(128));
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 1;
    }
    for (size_t v = 0; v < RK_COUNT(values); v++) {
        rk__bits_query tables_of = {.lut = lut};
        memset(query, 0, 128 * 4);
        query[77] = values[v];
        rk__bits_query_init(&tables_of, query, 128);
        uint32_t mask = rk__kernels_get()->scan32(lut, block, 32, zeros, ones, tables_of.unit,
                                                  tables_of.bias, 0, INFINITY, est);
        if (values[v] < 1e34f) {
            assert_true(mask == UINT32_MAX);
            assert_true(fabsf(fabsf(est[0]) - values[v]) <= values[v] * 0.02f + 1e-37f);
        } else {
            assert_true(mask == 0);
        }
    }
    rk_free(query);
    rk_free(lut);
    rk_free(block);
}

/* One set of rows, centres and queries; |spiky| rows have all their weight in few components. */
static void
check_estimates(rk_metric metric, uint32_t dim, bool spiky)
{
    enum { ROWS = 32 * 8, QUERIES = 24 };
    testing_rng rng = {dim + spiky};
    rk__rotation rotation = rk__rotation_of(dim, 99);
    uint32_t padded = rotation.padded;
    size_t block_bytes = rk__bits_block_bytes(padded);
    float *rows = aligned((size_t)ROWS * dim * 4);
    float *rotated = aligned(padded * 4);
    float *centre = aligned(dim * 4);
    float *rotated_centre = aligned(padded * 4);
    float *query = aligned(dim * 4);
    uint8_t *blocks = aligned(ROWS / 32 * block_bytes);
    uint8_t *signs = aligned(padded / 8);
    uint8_t *lut = aligned(padded * 4);
    float add[ROWS];
    float mul[ROWS];
    double bias = 0;
    double square = 0;

    memset(blocks, 0xa5, ROWS / 32 * block_bytes); /* places are overwritten, not merged */
    for (size_t i = 0; i < dim; i++) {
        centre[i] = testing_gauss(&rng) * 0.5f;
    }
    rk__rotate(&rotation, centre, rotated_centre);
    for (size_t r = 0; r < ROWS; r++) {
        float *row = rows + r * dim;
        for (size_t i = 0; i < dim; i++) {
            row[i] = centre[i] + (spiky && i % 16 ? 0 : testing_gauss(&rng));
        }
        rk__rotate(&rotation, row, rotated);
        rk__bits_encode(metric, rotated, rotated_centre, padded, signs, &add[r], &mul[r]);
        rk__bits_place(signs, padded, r % 32, blocks + r / 32 * block_bytes);
    }
    for (size_t q = 0; q < QUERIES; q++) {
        rk__bits_query tables_of = {.lut = lut};
        for (size_t i = 0; i < dim; i++) {
            query[i] = centre[i] + (spiky && i % 16 ? 0 : testing_gauss(&rng));
        }
        rk__rotate(&rotation, query, rotated);
        rk__bits_query_init(&tables_of, rotated, padded);
        double extra = -dot(centre, query, dim);
        double to_query = 0;
        for (size_t i = 0; i < dim; i++) {
            double d = (double)query[i] - (double)centre[i];
            to_query += d * d;
        }
        if (metric == RK_METRIC_L2) {
            extra = to_query;
        }
        for (size_t b = 0; b < ROWS / 32; b++) {
            float est[32];
            rk__kernels_get()->scan32_low(lut, blocks + b * block_bytes, rk__bits_groups(padded),
                                          add + b * 32, mul + b * 32, tables_of.unit,
                                          tables_of.bias, (float)extra, INFINITY, est);
            for (size_t j = 0; j < 32; j++) {
                const float *row = rows + (b * 32 + j) * dim;
                double exact = 0;
                double norm = 0;
                for (size_t i = 0; i < dim; i++) {
                    double d = (double)row[i] - (double)query[i];
                    double r = (double)row[i] - (double)centre[i];
                    exact += metric == RK_METRIC_L2 ? d * d : -(double)row[i] * (double)query[i];
                    norm += r * r;
                }
                /* the error of an inner product, in parts of |x - c| |y - c| */
                double error = ((double)est[j] - exact) / sqrt(norm * to_query);
                error /= metric == RK_METRIC_L2 ? 2 : 1;
                bias += error / (ROWS * QUERIES);
                square += error * error / (ROWS * QUERIES);
            }
        }
    }
    /* sqrt(pi / 2 - 1) = 0.755 of 1 / sqrt(padded) in theory; and rounding of the tables */
    if (sqrt(square * padded) > 0.85 || fabs(bias) * sqrt((double)padded) > 0.08) {
        fail_msg("%s, dim %u%s: error %.3f, bias %.4f of 1 / sqrt(padded)", rk_metric_name(metric),
                 dim, spiky ? ", spiky" : "", sqrt(square * padded), bias * sqrt((double)padded));
    }
    rk_free(rows);
    rk_free(rotated);
    rk_free(centre);
    rk_free(rotated_centre);
    rk_free(query);
    rk_free(blocks);
    rk_free(signs);
    rk_free(lut);
}

static void
test_estimates(void **state)
{
    static const uint32_t dims[] = {64, 100, 128, 384, 768, 784, 960, 1536};

    RK_UNUSED(state);
    for (size_t d = 0; d < RK_COUNT(dims); d++) {
        for (int spiky = 0; spiky < 2; spiky++) {
            check_estimates(RK_METRIC_L2, dims[d], spiky);
            check_estimates(RK_METRIC_IP, dims[d], spiky);
        }
    }
}

static void
test_encode(void **state)
{
    testing_rng rng = {12};

    RK_UNUSED(state);
    for (size_t n = 64; n <= 1024; n += 64) {
        float *row = aligned(n * 4);
        float *centre = aligned(n * 4);
        uint8_t got[128];
        uint8_t want[128];
        float got_sums[4];
        float want_sums[4];
        for (size_t i = 0; i < n; i++) {
            row[i] = testing_gauss(&rng);
            centre[i] = i % 5 ? testing_gauss(&rng) : row[i]; /* a difference of 0 counts as up */
        }
        rk__kernels_scalar.bits_sums(row, centre, n, want, want_sums);
        for (size_t t = 0; t < RK_COUNT(tables); t++) {
            const rk__kernels *k = rk__kernels_find(tables[t]);
            if (k) {
                k->bits_sums(row, centre, n, got, got_sums);
                assert_memory_equal(got, want, n / 8);
                for (size_t i = 0; i < 4; i++) {
                    assert_true(fabsf(got_sums[i] - want_sums[i]) <= 1e-4f * (float)n);
                }
            }
        }
        float add;
        float mul;
        rk__bits_encode(RK_METRIC_L2, centre, centre, (uint32_t)n, got, &add, &mul);
        assert_true(add == 0 && mul == 0);
        rk_free(row);
        rk_free(centre);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation),         cmocka_unit_test(test_rotation_is_one),
        cmocka_unit_test(test_rotation_spreads), cmocka_unit_test(test_scan),
        cmocka_unit_test(test_query_tables),     cmocka_unit_test(test_hostile_queries),
        cmocka_unit_test(test_estimates),        cmocka_unit_test(test_encode),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
