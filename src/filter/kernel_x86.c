/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops of filter/kernel.h for AVX2 and AVX-512, whose comparisons give bits or bytes of ones
 * directly. AVX2 compares integers for greater only, so its ranges gather what lies outside.
 */
#include "filter/kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2   __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,popcnt")))

/* ---- AVX2 ---- */

/* |MASK(a, b)|: the bits of 64 rows beginning at |p|; OUT(x) is a vector of ones where x is outside
 * |lo| to |hi|. */
#define OUTSIDE(x, gt) _mm256_or_si256(gt(lo, x), gt(x, hi))
#define LOAD256(p, i)  _mm256_loadu_si256((const __m256i *)(const void *)((p) + (size_t)(i)*32))
#define BITS_I8(x)     ((uint32_t)_mm256_movemask_epi8(x))
#define BITS_I32(x)    ((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(x)))
#define BITS_I64(x)    ((uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(x)))
#define RANGE256(name, type, set, gt, bits, per_vector)                                            \
    AVX2 static void name(const void *x, size_t words, const rk__range *r, uint64_t *out)          \
    {                                                                                              \
        const char *p = x;                                                                         \
        __m256i lo = set((type)r->i_lo);                                                           \
        __m256i hi = set((type)r->i_hi);                                                           \
        for (size_t w = 0; w < words; w++, p += 64 * sizeof(type)) {                               \
            uint64_t word = 0;                                                                     \
            for (unsigned i = 0; i < 64 / (per_vector); i++) {                                     \
                __m256i v = LOAD256(p, i);                                                         \
                word |= (uint64_t)bits(OUTSIDE(v, gt)) << (i * (per_vector));                      \
            }                                                                                      \
            out[w] = ~word;                                                                        \
        }                                                                                          \
    }

RANGE256(avx2_range_i8, int8_t, _mm256_set1_epi8, _mm256_cmpgt_epi8, BITS_I8, 32)
RANGE256(avx2_range_i32, int32_t, _mm256_set1_epi32, _mm256_cmpgt_epi32, BITS_I32, 8)
RANGE256(avx2_range_i64, int64_t, _mm256_set1_epi64x, _mm256_cmpgt_epi64, BITS_I64, 4)

AVX2 static void
avx2_range_i16(const void *x, size_t words, const rk__range *r, uint64_t *out)
{
    const char *p = x;
    __m256i lo = _mm256_set1_epi16((int16_t)r->i_lo);
    __m256i hi = _mm256_set1_epi16((int16_t)r->i_hi);

    for (size_t w = 0; w < words; w++, p += 128) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 2; i++) {
            __m256i a = LOAD256(p, 2 * i);
            __m256i b = LOAD256(p, 2 * i + 1);
            a = OUTSIDE(a, _mm256_cmpgt_epi16);
            b = OUTSIDE(b, _mm256_cmpgt_epi16);
            a = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xD8);
            word |= (uint64_t)BITS_I8(a) << (i * 32);
        }
        out[w] = ~word;
    }
}

#define RANGE256_REAL(name, type, vector, set, load, cmp, both, bits, per_vector)                  \
    AVX2 static void name(const void *x, size_t words, const rk__range *r, uint64_t *out)          \
    {                                                                                              \
        const char *p = x;                                                                         \
        vector lo = set((type)r->f_lo);                                                            \
        vector hi = set((type)r->f_hi);                                                            \
        for (size_t w = 0; w < words; w++, p += 64 * sizeof(type)) {                               \
            uint64_t word = 0;                                                                     \
            for (unsigned i = 0; i < 64 / (per_vector); i++) {                                     \
                vector v = load((const void *)(p + (size_t)i * (per_vector) * sizeof(type)));      \
                v = both(cmp(v, lo, _CMP_GE_OQ), cmp(v, hi, _CMP_LE_OQ));                          \
                word |= (uint64_t)(uint32_t)bits(v) << (i * (per_vector));                         \
            }                                                                                      \
            out[w] = word;                                                                         \
        }                                                                                          \
    }

RANGE256_REAL(avx2_range_f32, float, __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_cmp_ps,
              _mm256_and_ps, _mm256_movemask_ps, 8)
RANGE256_REAL(avx2_range_f64, double, __m256d, _mm256_set1_pd, _mm256_loadu_pd, _mm256_cmp_pd,
              _mm256_and_pd, _mm256_movemask_pd, 4)

/* Lengths are far below 2^63, so signed comparisons do. */
AVX2 static void
avx2_lengths(const uint64_t *offsets, size_t words, uint64_t lo_len, uint64_t hi_len, uint64_t *out)
{
    const char *p = (const char *)offsets;
    __m256i lo = _mm256_set1_epi64x((int64_t)RK_MIN(lo_len, (uint64_t)INT64_MAX));
    __m256i hi = _mm256_set1_epi64x((int64_t)RK_MIN(hi_len, (uint64_t)INT64_MAX));

    for (size_t w = 0; w < words; w++, p += 512) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 16; i++) {
            __m256i v = _mm256_sub_epi64(LOAD256(p + 8, i), LOAD256(p, i));
            word |= (uint64_t)BITS_I64(OUTSIDE(v, _mm256_cmpgt_epi64)) << (i * 4);
        }
        out[w] = ~word;
    }
}

AVX2 static inline uint64_t
avx2_equal(const char *p, char c, char fold)
{
    __m256i want = _mm256_set1_epi8(c);
    __m256i bit = _mm256_set1_epi8(fold);
    __m256i a = _mm256_cmpeq_epi8(_mm256_or_si256(LOAD256(p, 0), bit), want);
    __m256i b = _mm256_cmpeq_epi8(_mm256_or_si256(LOAD256(p, 1), bit), want);

    return BITS_I8(a) | (uint64_t)BITS_I8(b) << 32;
}

AVX2 static void
avx2_trios(const char *p, size_t words, const char *want, size_t last, uint64_t *out)
{
    size_t middle = last / 2;

    for (size_t w = 0; w < words; w++, p += 64) {
        out[w] = avx2_equal(p, want[0], 0) & avx2_equal(p + middle, want[middle], 0) &
                 avx2_equal(p + last, want[last], 0);
    }
}

#define TARGET             AVX2
#define JSON_KEY           avx2_json_key
#define JSON_END           avx2_json_end
#define EQUAL(p, c)        avx2_equal(p, c, 0)
#define EQUAL_FOLDED(p, c) avx2_equal(p, c, 0x20)
#include "filter/kernel_json.h"
#undef TARGET
#undef JSON_KEY
#undef JSON_END
#undef EQUAL
#undef EQUAL_FOLDED

const rk__filter_kernels rk__filter_kernels_avx2 = {
    "avx2",
    {avx2_range_i8, avx2_range_i16, avx2_range_i32, avx2_range_i64, avx2_range_f32, avx2_range_f64},
    avx2_lengths,
    avx2_trios,
    avx2_json_key,
    avx2_json_end,
};

/* ---- AVX-512 ---- */

#define RANGE512(name, type, member, vector, set, load, ge, le, per_vector)                        \
    AVX512 static void name(const void *x, size_t words, const rk__range *r, uint64_t *out)        \
    {                                                                                              \
        const char *p = x;                                                                         \
        vector lo = set((type)r->member##_lo);                                                     \
        vector hi = set((type)r->member##_hi);                                                     \
        for (size_t w = 0; w < words; w++, p += 64 * sizeof(type)) {                               \
            uint64_t word = 0;                                                                     \
            for (unsigned i = 0; i < 64 / (per_vector); i++) {                                     \
                vector v = load((const void *)(p + (size_t)i * (per_vector) * sizeof(type)));      \
                word |= (uint64_t)(ge(v, lo) & le(v, hi)) << (i * (per_vector));                   \
            }                                                                                      \
            out[w] = word;                                                                         \
        }                                                                                          \
    }
#define GE_PS(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)
#define LE_PS(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)
#define GE_PD(a, b) _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ)
#define LE_PD(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ)

RANGE512(avx512_range_i8, int8_t, i, __m512i, _mm512_set1_epi8, _mm512_loadu_si512,
         _mm512_cmpge_epi8_mask, _mm512_cmple_epi8_mask, 64)
RANGE512(avx512_range_i16, int16_t, i, __m512i, _mm512_set1_epi16, _mm512_loadu_si512,
         _mm512_cmpge_epi16_mask, _mm512_cmple_epi16_mask, 32)
RANGE512(avx512_range_i32, int32_t, i, __m512i, _mm512_set1_epi32, _mm512_loadu_si512,
         _mm512_cmpge_epi32_mask, _mm512_cmple_epi32_mask, 16)
RANGE512(avx512_range_i64, int64_t, i, __m512i, _mm512_set1_epi64, _mm512_loadu_si512,
         _mm512_cmpge_epi64_mask, _mm512_cmple_epi64_mask, 8)
RANGE512(avx512_range_f32, float, f, __m512, _mm512_set1_ps, _mm512_loadu_ps, GE_PS, LE_PS, 16)
RANGE512(avx512_range_f64, double, f, __m512d, _mm512_set1_pd, _mm512_loadu_pd, GE_PD, LE_PD, 8)

AVX512 static void
avx512_lengths(const uint64_t *offsets, size_t words, uint64_t lo_len, uint64_t hi_len,
               uint64_t *out)
{
    __m512i lo = _mm512_set1_epi64((int64_t)lo_len);
    __m512i span = _mm512_set1_epi64((int64_t)(hi_len - lo_len));

    for (size_t w = 0; w < words; w++, offsets += 64) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 8; i++) {
            const uint64_t *at = offsets + (size_t)i * 8;
            __m512i v = _mm512_sub_epi64(_mm512_loadu_si512(at + 1), _mm512_loadu_si512(at));
            v = _mm512_sub_epi64(v, lo);
            word |= (uint64_t)_mm512_cmple_epu64_mask(v, span) << (i * 8);
        }
        out[w] = word;
    }
}

AVX512 static inline uint64_t
avx512_equal(const char *p, char c)
{
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(c));
}

AVX512 static inline uint64_t
avx512_equal_folded(const char *p, char c)
{
    __m512i v = _mm512_or_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(0x20));
    return _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8(c));
}

AVX512 static void
avx512_trios(const char *p, size_t words, const char *want, size_t last, uint64_t *out)
{
    size_t middle = last / 2;

    for (size_t w = 0; w < words; w++, p += 64) {
        out[w] = avx512_equal(p, want[0]) & avx512_equal(p + middle, want[middle]) &
                 avx512_equal(p + last, want[last]);
    }
}

#define TARGET             AVX512
#define JSON_KEY           avx512_json_key
#define JSON_END           avx512_json_end
#define EQUAL(p, c)        avx512_equal(p, c)
#define EQUAL_FOLDED(p, c) avx512_equal_folded(p, c)
#include "filter/kernel_json.h"

const rk__filter_kernels rk__filter_kernels_avx512 = {
    "avx512",
    {avx512_range_i8, avx512_range_i16, avx512_range_i32, avx512_range_i64, avx512_range_f32,
     avx512_range_f64},
    avx512_lengths,
    avx512_trios,
    avx512_json_key,
    avx512_json_end,
};
#else
typedef int rk__filter_no_x86; /* a file must hold something */
#endif
