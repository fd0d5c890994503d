/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel table this CPU can run against the scalar one: dimensions 0 to 130 and large ones,
 * unaligned rows, NaN, infinity and denormals; the four-row forms and swapped operands must give
 * the same bits as the one-row form.
 *
 * Bound: (n / 16 + 12) * 2^-24 * sum |term|, see kernel/kernel.h; integer kernels must be exact.
 */
#include "index_testing.h"

#define DIM_LARGE 4099

typedef struct fixture {
    uint8_t *memory;
    uint8_t *rows[5];
} fixture;

static const rk_vector_type types[] = {RK_VEC_F32, RK_VEC_F16, RK_VEC_BF16, RK_VEC_I8};
static const char *const tables[] = {"scalar", "avx2", "avx512", "neon", "neondot"};

static void
fixture_init(fixture *f, rk_vector_type type, size_t dim, uint64_t seed)
{
    testing_rng rng = {seed};
    size_t stride = dim * 4 + 64;

    f->memory = rk_alloc(stride * 5 + 64);
    assert_non_null(f->memory);
    for (size_t r = 0; r < 5; r++) {
        f->rows[r] = f->memory + r * stride + 1 + r; /* odd addresses */
        for (size_t i = 0; i < dim; i++) {
            float v = type == RK_VEC_I8 ? (float)((double)testing_u64(&rng) / 0x1p64 * 6.4 - 3.2)
                                        : testing_gauss(&rng);
            testing_put(type, f->rows[r], i, v);
        }
    }
}

static double
term_sum(rk_vector_type type, size_t dim, const void *a, const void *b, bool l2)
{
    float *x = rk_alloc((dim + 1) * sizeof(float));
    float *y = rk_alloc((dim + 1) * sizeof(float));
    double sum = 0;

    assert_non_null(x);
    assert_non_null(y);
    rk__row_to_f32(type, (uint32_t)dim, a, x);
    rk__row_to_f32(type, (uint32_t)dim, b, y);
    for (size_t i = 0; i < dim; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += l2 ? d * d : fabs((double)x[i] * (double)y[i]);
    }
    rk_free(x);
    rk_free(y);
    return sum;
}

static void
check_dim(const rk__kernels *k, rk_vector_type type, size_t dim)
{
    const rk__dense_kernels *got = &k->dense[rk__dense_slot_of(type)];
    const rk__dense_kernels *want = &rk__kernels_scalar.dense[rk__dense_slot_of(type)];
    fixture f;

    fixture_init(&f, type, dim, dim + 1);
    for (int l2 = 0; l2 < 2; l2++) {
        rk__dist_fn one = l2 ? got->l2 : got->ip;
        rk__dist_fn reference = l2 ? want->l2 : want->ip;
        const void *const four[4] = {f.rows[1], f.rows[2], f.rows[3], f.rows[4]};
        float out[4];

        (l2 ? got->l2x4 : got->ipx4)(f.rows[0], four, dim, out);
        for (size_t r = 0; r < 4; r++) {
            float single = one(f.rows[0], four[r], dim);
            float swapped = one(four[r], f.rows[0], dim);
            double exact = (double)reference(f.rows[0], four[r], dim);
            double bound = type == RK_VEC_I8 ? 0
                                             : ((double)dim / 16 + 12) * 0x1p-24 *
                                                       term_sum(type, dim, f.rows[0], four[r], l2) +
                                                   1e-30;
            if (!(fabs((double)single - exact) <= bound)) {
                fail_msg("%s %s type %d dim %zu: %.9g, expected %.9g within %g", k->name,
                         l2 ? "l2" : "ip", (int)type, dim, (double)single, exact, bound);
            }
            assert_memory_equal(&single, &out[r], sizeof(single));
            assert_memory_equal(&single, &swapped, sizeof(single));
        }
    }
    rk_free(f.memory);
}

static void
test_dense_against_scalar(void **state)
{
    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        for (size_t i = 0; k && i < RK_COUNT(types); i++) {
            for (size_t dim = 0; dim <= 130; dim++) {
                check_dim(k, types[i], dim);
            }
            check_dim(k, types[i], 768);
            check_dim(k, types[i], 1536);
            check_dim(k, types[i], DIM_LARGE);
        }
    }
}

static void
test_special_values(void **state)
{
    static const float specials[] = {NAN,     INFINITY, -INFINITY, 1e-42f,
                                     -1e-42f, 0.0f,     -0.0f,     65504.0f};

    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        for (size_t i = 0; k && i < 3; i++) {
            for (size_t s = 0; s < RK_COUNT(specials); s++) {
                for (size_t at = 0; at < 70; at += 3) {
                    const rk__dense_kernels *got = &k->dense[rk__dense_slot_of(types[i])];
                    const rk__dense_kernels *want =
                        &rk__kernels_scalar.dense[rk__dense_slot_of(types[i])];
                    fixture f;
                    fixture_init(&f, types[i], 70, at + 1);
                    testing_put(types[i], f.rows[1], at, specials[s]);
                    float l2 = got->l2(f.rows[0], f.rows[1], 70);
                    float l2_want = want->l2(f.rows[0], f.rows[1], 70);
                    float ip = got->ip(f.rows[0], f.rows[1], 70);
                    float ip_want = want->ip(f.rows[0], f.rows[1], 70);
                    assert_true((l2 != l2) == (l2_want != l2_want));
                    assert_true((ip != ip) == (ip_want != ip_want));
                    assert_true(isinf(l2) == isinf(l2_want));
                    assert_true(isinf(ip) == isinf(ip_want));
                    if (isfinite(l2_want)) {
                        assert_true(fabsf(l2 - l2_want) <= 1e-4f * fabsf(l2_want));
                    }
                    rk_free(f.memory);
                }
            }
        }
    }
}

/* The extremes of 8 bits at the largest dimension still fit 32 bits. */
static void
test_i8_extremes(void **state)
{
    enum { DIM = 32768 };
    int8_t *a = rk_alloc(DIM);
    int8_t *b = rk_alloc(DIM);

    RK_UNUSED(state);
    assert_non_null(a);
    assert_non_null(b);
    memset(a, 127, DIM);
    memset(b, -128, DIM);
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        if (k) {
            assert_true(k->dense[RK__I8].l2(a, b, DIM) == 65025.0f * DIM);
            assert_true(k->dense[RK__I8].ip(a, b, DIM) == -16256.0f * DIM);
        }
    }
    rk_free(a);
    rk_free(b);
}

static void
test_bits(void **state)
{
    testing_rng rng = {9};
    uint8_t a[600];
    uint8_t b[600];

    RK_UNUSED(state);
    for (size_t i = 0; i < sizeof(a); i++) {
        a[i] = (uint8_t)testing_u64(&rng);
        b[i] = (uint8_t)testing_u64(&rng);
    }
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        for (size_t n = 0; k && n <= 512; n++) {
            size_t shift = n % 7;
            assert_true(k->hamming(a + shift, b + 1, n) ==
                        rk__kernels_scalar.hamming(a + shift, b + 1, n));
            assert_true(k->jaccard(a + shift, b + 1, n) ==
                        rk__kernels_scalar.jaccard(a + shift, b + 1, n));
        }
        if (k) {
            uint8_t zero[64] = {0};
            assert_true(k->jaccard(zero, zero, 64) == 1.0f);
            assert_true(k->jaccard(a, a, 600) == 0.0f);
        }
    }
}

static void
test_codes(void **state)
{
    testing_rng rng = {10};
    enum { DIM = 1536 };
    int16_t query[DIM];
    int8_t rows[4][DIM];

    RK_UNUSED(state);
    for (size_t i = 0; i < DIM; i++) {
        query[i] = (int16_t)((int)(testing_u64(&rng) % 2000) - 1000);
        for (size_t r = 0; r < 4; r++) {
            rows[r][i] = (int8_t)((int)(testing_u64(&rng) % 255) - 127);
        }
    }
    const int8_t *const four[4] = {rows[0], rows[1], rows[2], rows[3]};
    for (size_t t = 0; t < RK_COUNT(tables); t++) {
        const rk__kernels *k = rk__kernels_find(tables[t]);
        for (size_t n = 0; k && n <= DIM; n += 32) {
            int32_t got[4];
            int32_t want[4];
            k->code_l2x4(query, four, n, got);
            rk__kernels_scalar.code_l2x4(query, four, n, want);
            assert_memory_equal(got, want, sizeof(got));
            k->code_ipx4(query, four, n, got);
            rk__kernels_scalar.code_ipx4(query, four, n, want);
            assert_memory_equal(got, want, sizeof(got));
        }
    }
}

/* 8-bit and 4-bit products: any length, the extremes, the four-row forms. */
static void
test_small_codes(void **state)
{
    enum { DIM = 1536 };
    testing_rng rng = {11};
    int8_t query[DIM + 8];
    uint8_t rows[4][DIM + 8];

    RK_UNUSED(state);
    for (int extreme = 0; extreme < 2; extreme++) {
        for (size_t i = 0; i < DIM + 8; i++) {
            query[i] = extreme ? (i / 100 % 2 ? 127 : -127)
                               : (int8_t)((int)(testing_u64(&rng) % 255) - 127);
            for (size_t r = 0; r < 4; r++) {
                rows[r][i] = extreme ? (r % 2 ? 0x80 : 0xff) : (uint8_t)testing_u64(&rng);
            }
        }
        for (size_t n = 0; n <= DIM; n += n < 300 ? 1 : 37) {
            size_t even = n / 64 * 64;
            const int8_t *q = query + n % 5;
            const uint8_t *const four[4] = {rows[0] + n % 3, rows[1] + 1, rows[2] + n % 7, rows[3]};
            const int8_t *const bytes[4] = {(const int8_t *)four[0], (const int8_t *)four[1],
                                            (const int8_t *)four[2], (const int8_t *)four[3]};
            for (size_t t = 0; t < RK_COUNT(tables); t++) {
                const rk__kernels *k = rk__kernels_find(tables[t]);
                int32_t got[4];
                int32_t got_nibbles[4];
                if (!k) {
                    continue;
                }
                k->code8_ipx4(q, bytes, n, got);
                k->nibble_ipx4(q, four, even, got_nibbles);
                for (size_t r = 0; r < 4; r++) {
                    int32_t want = rk__kernels_scalar.code8_ip(q, bytes[r], n);
                    assert_int_equal(got[r], want);
                    assert_int_equal(k->code8_ip(q, bytes[r], n), want);
                    want = rk__kernels_scalar.nibble_ip(q, four[r], even);
                    assert_int_equal(got_nibbles[r], want);
                    assert_int_equal(k->nibble_ip(q, four[r], even), want);
                }
            }
        }
    }
}

/* The place of every component of a 4-bit row, as kernel/kernel.h says it. */
static void
test_nibble_layout(void **state)
{
    int8_t query[256];
    uint8_t row[128];

    RK_UNUSED(state);
    for (size_t i = 0; i < 256; i++) {
        memset(query, 0, sizeof(query));
        memset(row, 0, sizeof(row));
        query[i] = -3;
        row[i / 64 * 32 + i % 32] = i % 64 < 32 ? 0x07 : 0x70;
        assert_int_equal(rk__kernels_scalar.nibble_ip(query, row, 256), -21);
    }
}

static void
test_select(void **state)
{
    enum { WORDS = 9 };
    testing_rng rng = {13};
    uint64_t words[WORDS];
    uint32_t got[WORDS * 64 + 16];

    RK_UNUSED(state);
    for (int density = 0; density < 8; density++) {
        for (size_t i = 0; i < WORDS; i++) {
            words[i] = density == 7 ? UINT64_MAX : 0;
            for (int j = 0; j < density * density && density < 7; j++) {
                words[i] |= UINT64_C(1) << (testing_u64(&rng) & 63);
            }
        }
        for (size_t t = 0; t < RK_COUNT(tables); t++) {
            const rk__kernels *k = rk__kernels_find(tables[t]);
            for (size_t n = 0; k && n <= WORDS; n++) {
                uint32_t base = UINT32_MAX - 100; /* wraps */
                size_t found = k->select(words, n, base, got);
                size_t at = 0;
                for (uint32_t bit = 0; bit < n * 64; bit++) {
                    if (words[bit / 64] >> bit % 64 & 1) {
                        assert_true(at < found && got[at] == base + bit);
                        at++;
                    }
                }
                assert_int_equal(at, found);
            }
        }
    }
}

/* Numbers at and past the end, which only a damaged image has, are no bits. */
static void
test_bits_by_number(void **state)
{
    enum { WORDS = 5, LEFT = 17 };
    testing_rng rng = {14};

    RK_UNUSED(state);
    for (int round = 0; round < 200; round++) {
        uint64_t *words = rk_alloc(WORDS * sizeof(*words)); /* of its own: reads past it are seen */
        uint32_t n = WORDS * 64 - (round % 3 == 0 ? LEFT : 0);
        uint32_t at[32];
        uint32_t want = 0;
        assert_non_null(words);
        for (size_t i = 0; i < WORDS; i++) {
            words[i] = testing_u64(&rng);
        }
        for (uint32_t i = 0; i < 32; i++) {
            uint64_t any = testing_u64(&rng);
            at[i] = any % 9 == 0 ? (uint32_t)(any >> 32) : (uint32_t)((any >> 32) % (WORDS * 64));
            if (at[i] < n && words[at[i] / 64] >> at[i] % 64 & 1) {
                want |= UINT32_C(1) << i;
            }
        }
        for (size_t t = 0; t < RK_COUNT(tables); t++) {
            const rk__kernels *k = rk__kernels_find(tables[t]);
            if (k) {
                assert_int_equal(k->test32(words, n, at), want);
            }
        }
        rk_free(words);
    }
}

static void
test_mask(void **state)
{
    RK_UNUSED(state);
    setenv("REDKITE_CPU", "scalar", 1);
    rk_kernels_init();
    assert_string_equal(rk_kernels_name(), "scalar");
    setenv("REDKITE_CPU", "no such cpu", 1);
    rk_kernels_init();
    unsetenv("REDKITE_CPU");
    const char *masked = rk_kernels_name();
    rk_kernels_init();
    assert_string_equal(rk_kernels_name(), masked);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense_against_scalar),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_i8_extremes),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_small_codes),
        cmocka_unit_test(test_nibble_layout),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_bits_by_number),
        cmocka_unit_test(test_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
