/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512 kernels (F, BW, DQ, VL, VNNI, VPOPCNTDQ). Two accumulators per row hide the latency of
 * the multiply-add; the tail is loaded under a mask, so no byte past the row is touched. The
 * four-row forms do, row by row, exactly the steps of the one-row forms. Half-precision components
 * are widened on load. AVX512_BF16 is left out: it takes denormals for zero, so that scores would
 * differ from those of other CPUs by more than order of summation, and rows of bfloat16 are read no
 * faster for it.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "index/index_private.h"

#define TARGET                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq,avx2,"    \
                          "fma,f16c,bmi2,popcnt")))

#define TAIL_MASK16(left) ((__mmask16)((1u << (left)) - 1u))

static inline TARGET __m512
load_f32(const void *p, size_t i)
{
    return _mm512_loadu_ps((const uint8_t *)p + i * 4);
}

static inline TARGET __m512
tail_f32(const void *p, size_t i, __mmask16 mask)
{
    return _mm512_maskz_loadu_ps(mask, (const uint8_t *)p + i * 4);
}

static inline TARGET __m512
load_f16(const void *p, size_t i)
{
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i_u *)(const void *)((const uint8_t *)p + i * 2)));
}

static inline TARGET __m512
tail_f16(const void *p, size_t i, __mmask16 mask)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint8_t *)p + i * 2));
}

static inline TARGET __m512
load_bf16(const void *p, size_t i)
{
    __m256i h = _mm256_loadu_si256((const __m256i_u *)(const void *)((const uint8_t *)p + i * 2));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline TARGET __m512
tail_bf16(const void *p, size_t i, __mmask16 mask)
{
    __m256i h = _mm256_maskz_loadu_epi16(mask, (const uint8_t *)p + i * 2);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline TARGET __m512
step_l2(__m512 q, __m512 r, __m512 acc)
{
    __m512 d = _mm512_sub_ps(q, r);
    return _mm512_fmadd_ps(d, d, acc);
}

static inline TARGET __m512
step_ip(__m512 q, __m512 r, __m512 acc)
{
    return _mm512_fmadd_ps(q, r, acc);
}

static inline TARGET float
reduce(__m512 a, __m512 b)
{
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

#define DEFINE_FLOAT(metric, type)                                                                 \
    static TARGET float metric##_##type##_avx512(const void *a, const void *b, size_t n)           \
    {                                                                                              \
        __m512 x = _mm512_setzero_ps();                                                            \
        __m512 y = _mm512_setzero_ps();                                                            \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            y = step_##metric(load_##type(a, i + 16), load_##type(b, i + 16), y);                  \
        }                                                                                          \
        if (i + 16 <= n) {                                                                         \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            i += 16;                                                                               \
        }                                                                                          \
        if (i < n) {                                                                               \
            __mmask16 m = TAIL_MASK16(n - i);                                                      \
            y = step_##metric(tail_##type(a, i, m), tail_##type(b, i, m), y);                      \
        }                                                                                          \
        return reduce(x, y);                                                                       \
    }                                                                                              \
    static TARGET void metric##x4_##type##_avx512(const void *query, const void *const rows[4],    \
                                                  size_t n, float out[4])                          \
    {                                                                                              \
        const void *r0 = rows[0];                                                                  \
        const void *r1 = rows[1];                                                                  \
        const void *r2 = rows[2];                                                                  \
        const void *r3 = rows[3];                                                                  \
        __m512 x0 = _mm512_setzero_ps(), x1 = x0, x2 = x0, x3 = x0;                                \
        __m512 y0 = x0, y1 = x0, y2 = x0, y3 = x0;                                                 \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            __m512 q = load_##type(query, i);                                                      \
            __m512 p = load_##type(query, i + 16);                                                 \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            y0 = step_##metric(p, load_##type(r0, i + 16), y0);                                    \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            y1 = step_##metric(p, load_##type(r1, i + 16), y1);                                    \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            y2 = step_##metric(p, load_##type(r2, i + 16), y2);                                    \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            y3 = step_##metric(p, load_##type(r3, i + 16), y3);                                    \
        }                                                                                          \
        if (i + 16 <= n) {                                                                         \
            __m512 q = load_##type(query, i);                                                      \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            i += 16;                                                                               \
        }                                                                                          \
        if (i < n) {                                                                               \
            __mmask16 m = TAIL_MASK16(n - i);                                                      \
            __m512 q = tail_##type(query, i, m);                                                   \
            y0 = step_##metric(q, tail_##type(r0, i, m), y0);                                      \
            y1 = step_##metric(q, tail_##type(r1, i, m), y1);                                      \
            y2 = step_##metric(q, tail_##type(r2, i, m), y2);                                      \
            y3 = step_##metric(q, tail_##type(r3, i, m), y3);                                      \
        }                                                                                          \
        out[0] = reduce(x0, y0);                                                                   \
        out[1] = reduce(x1, y1);                                                                   \
        out[2] = reduce(x2, y2);                                                                   \
        out[3] = reduce(x3, y3);                                                                   \
    }

DEFINE_FLOAT(l2, f32)
DEFINE_FLOAT(ip, f32)
DEFINE_FLOAT(l2, f16)
DEFINE_FLOAT(ip, f16)
DEFINE_FLOAT(l2, bf16)
DEFINE_FLOAT(ip, bf16)

/* 32 bytes widened to 16 bits, so that a difference fits and VPDPWSSD sums pairs of products in 32
 * bits. */
static inline TARGET __m512i
load_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i_u *)(const void *)p));
}

static inline TARGET __m512i
tail_i8(const int8_t *p, size_t left)
{
    __mmask32 m = (__mmask32)((UINT64_C(1) << left) - 1);
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(m, p));
}

static inline TARGET __m512i
istep_l2(__m512i q, __m512i r, __m512i acc)
{
    __m512i d = _mm512_sub_epi16(q, r);
    return _mm512_dpwssd_epi32(acc, d, d);
}

static inline TARGET __m512i
istep_ip(__m512i q, __m512i r, __m512i acc)
{
    return _mm512_dpwssd_epi32(acc, q, r);
}

#define DEFINE_I8(metric)                                                                          \
    static TARGET float metric##_i8_avx512(const void *a, const void *b, size_t n)                 \
    {                                                                                              \
        const int8_t *x = a;                                                                       \
        const int8_t *y = b;                                                                       \
        __m512i acc = _mm512_setzero_si512();                                                      \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            acc = istep_##metric(load_i8(x + i), load_i8(y + i), acc);                             \
        }                                                                                          \
        if (i < n) {                                                                               \
            acc = istep_##metric(tail_i8(x + i, n - i), tail_i8(y + i, n - i), acc);               \
        }                                                                                          \
        return (float)_mm512_reduce_add_epi32(acc);                                                \
    }                                                                                              \
    static TARGET void metric##x4_i8_avx512(const void *query, const void *const rows[4],          \
                                            size_t n, float out[4])                                \
    {                                                                                              \
        const int8_t *q = query;                                                                   \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        __m512i x0 = _mm512_setzero_si512(), x1 = x0, x2 = x0, x3 = x0;                            \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            __m512i v = load_i8(q + i);                                                            \
            x0 = istep_##metric(v, load_i8(r0 + i), x0);                                           \
            x1 = istep_##metric(v, load_i8(r1 + i), x1);                                           \
            x2 = istep_##metric(v, load_i8(r2 + i), x2);                                           \
            x3 = istep_##metric(v, load_i8(r3 + i), x3);                                           \
        }                                                                                          \
        if (i < n) {                                                                               \
            __m512i v = tail_i8(q + i, n - i);                                                     \
            x0 = istep_##metric(v, tail_i8(r0 + i, n - i), x0);                                    \
            x1 = istep_##metric(v, tail_i8(r1 + i, n - i), x1);                                    \
            x2 = istep_##metric(v, tail_i8(r2 + i, n - i), x2);                                    \
            x3 = istep_##metric(v, tail_i8(r3 + i, n - i), x3);                                    \
        }                                                                                          \
        out[0] = (float)_mm512_reduce_add_epi32(x0);                                               \
        out[1] = (float)_mm512_reduce_add_epi32(x1);                                               \
        out[2] = (float)_mm512_reduce_add_epi32(x2);                                               \
        out[3] = (float)_mm512_reduce_add_epi32(x3);                                               \
    }

DEFINE_I8(l2)

/* ---- 8-bit and 4-bit inner products: VPDPBUSD takes one operand unsigned ---- */

/* Four rows of partial sums to four sums. */
static inline TARGET __m128i
reduce4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab =
        _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xee));
    __m512i cd =
        _mm512_add_epi32(_mm512_shuffle_i64x2(c, d, 0x44), _mm512_shuffle_i64x2(c, d, 0xee));
    __m512i v =
        _mm512_add_epi32(_mm512_shuffle_i64x2(ab, cd, 0x88), _mm512_shuffle_i64x2(ab, cd, 0xdd));
    v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0x4e));
    v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0xb1));
    return _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, v));
}

static inline TARGET __m512i
load_64(const int8_t *p, __mmask64 mask)
{
    return _mm512_maskz_loadu_epi8(mask, p);
}

/* Adds query * (row + 128); the surplus, 128 * query, is summed apart. */
static inline TARGET __m512i
code8_step(__m512i acc, __m512i query, __m512i row)
{
    return _mm512_dpbusd_epi32(acc, _mm512_xor_si512(row, _mm512_set1_epi8(-128)), query);
}

static inline TARGET __mmask64
tail_mask64(size_t left)
{
    return (UINT64_C(1) << left) - 1;
}

static TARGET int32_t
code8_ip_avx512(const int8_t *query, const int8_t *row, size_t n)
{
    const __m512i half = _mm512_set1_epi8(-128);
    __m512i acc = _mm512_setzero_si512(), surplus = acc;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        __m512i q = _mm512_loadu_si512(query + i);
        acc = code8_step(acc, q, _mm512_loadu_si512(row + i));
        surplus = _mm512_dpbusd_epi32(surplus, half, q);
    }
    if (i < n) {
        __mmask64 m = tail_mask64(n - i);
        __m512i q = load_64(query + i, m);
        acc = code8_step(acc, q, load_64(row + i, m));
        surplus = _mm512_dpbusd_epi32(surplus, half, q);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(acc, surplus));
}

static TARGET void
code8_ipx4_avx512(const int8_t *query, const int8_t *const rows[4], size_t n, int32_t out[4])
{
    const __m512i half = _mm512_set1_epi8(-128);
    const int8_t *r0 = rows[0];
    const int8_t *r1 = rows[1];
    const int8_t *r2 = rows[2];
    const int8_t *r3 = rows[3];
    __m512i x0 = _mm512_setzero_si512(), x1 = x0, x2 = x0, x3 = x0, surplus = x0;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        __m512i q = _mm512_loadu_si512(query + i);
        x0 = code8_step(x0, q, _mm512_loadu_si512(r0 + i));
        x1 = code8_step(x1, q, _mm512_loadu_si512(r1 + i));
        x2 = code8_step(x2, q, _mm512_loadu_si512(r2 + i));
        x3 = code8_step(x3, q, _mm512_loadu_si512(r3 + i));
        surplus = _mm512_dpbusd_epi32(surplus, half, q);
    }
    if (i < n) {
        __mmask64 m = tail_mask64(n - i);
        __m512i q = load_64(query + i, m);
        x0 = code8_step(x0, q, load_64(r0 + i, m));
        x1 = code8_step(x1, q, load_64(r1 + i, m));
        x2 = code8_step(x2, q, load_64(r2 + i, m));
        x3 = code8_step(x3, q, load_64(r3 + i, m));
        surplus = _mm512_dpbusd_epi32(surplus, half, q);
    }
    __m128i sums = reduce4(_mm512_sub_epi32(x0, surplus), _mm512_sub_epi32(x1, surplus),
                           _mm512_sub_epi32(x2, surplus), _mm512_sub_epi32(x3, surplus));
    _mm_storeu_si128((__m128i_u *)(void *)out, sums);
}

/* One load of 4-bit codes: 64 bytes with the mask full, else 32. */
static inline TARGET __m512i
nibble_step(__m512i acc, __m512i low, __m512i high, const uint8_t *row, __mmask8 mask)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i codes = _mm512_maskz_loadu_epi64(mask, row);

    acc = _mm512_dpbusd_epi32(acc, _mm512_and_si512(codes, nibble), low);
    return _mm512_dpbusd_epi32(acc, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble), high);
}

/* The query's components for the low or the high nibbles of two runs of 32 bytes. */
static inline TARGET __m512i
nibble_query(const int8_t *query, bool two)
{
    __m256i first = _mm256_loadu_si256((const __m256i_u *)(const void *)query);
    __m512i both = _mm512_zextsi256_si512(first);

    return two ? _mm512_inserti64x4(
                     both, _mm256_loadu_si256((const __m256i_u *)(const void *)(query + 64)), 1)
               : both;
}

static TARGET int32_t
nibble_ip_avx512(const int8_t *query, const uint8_t *row, size_t n)
{
    __m512i acc = _mm512_setzero_si512();
    size_t i = 0;

    for (; i + 128 <= n; i += 128) {
        acc = nibble_step(acc, nibble_query(query + i, true), nibble_query(query + i + 32, true),
                          row + i / 2, 0xff);
    }
    if (i < n) {
        acc = nibble_step(acc, nibble_query(query + i, false), nibble_query(query + i + 32, false),
                          row + i / 2, 0x0f);
    }
    return _mm512_reduce_add_epi32(acc);
}

static TARGET void
nibble_ipx4_avx512(const int8_t *query, const uint8_t *const rows[4], size_t n, int32_t out[4])
{
    const uint8_t *r0 = rows[0];
    const uint8_t *r1 = rows[1];
    const uint8_t *r2 = rows[2];
    const uint8_t *r3 = rows[3];
    __m512i x0 = _mm512_setzero_si512(), x1 = x0, x2 = x0, x3 = x0;

    for (size_t i = 0; i < n; i += 128) {
        bool two = i + 128 <= n;
        __mmask8 mask = two ? 0xff : 0x0f;
        __m512i low = nibble_query(query + i, two);
        __m512i high = nibble_query(query + i + 32, two);
        x0 = nibble_step(x0, low, high, r0 + i / 2, mask);
        x1 = nibble_step(x1, low, high, r1 + i / 2, mask);
        x2 = nibble_step(x2, low, high, r2 + i / 2, mask);
        x3 = nibble_step(x3, low, high, r3 + i / 2, mask);
    }
    _mm_storeu_si128((__m128i_u *)(void *)out, reduce4(x0, x1, x2, x3));
}

static TARGET float
ip_i8_avx512(const void *a, const void *b, size_t n)
{
    return (float)code8_ip_avx512(a, b, n);
}

static TARGET void
ipx4_i8_avx512(const void *query, const void *const rows[4], size_t n, float out[4])
{
    const int8_t *const typed[4] = {rows[0], rows[1], rows[2], rows[3]};
    int32_t sums[4];

    code8_ipx4_avx512(query, typed, n, sums);
    for (size_t r = 0; r < 4; r++) {
        out[r] = (float)sums[r];
    }
}

/* ---- 8-bit codes under a 16-bit query ---- */

#define DEFINE_CODE(metric)                                                                        \
    static TARGET void code_##metric##x4_avx512(const int16_t *query, const int8_t *const rows[4], \
                                                size_t n, int32_t out[4])                          \
    {                                                                                              \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        __m512i x0 = _mm512_setzero_si512(), x1 = x0, x2 = x0, x3 = x0;                            \
        for (size_t i = 0; i < n; i += 32) {                                                       \
            __m512i v = _mm512_loadu_si512((const void *)(query + i));                             \
            x0 = istep_##metric(v, load_i8(r0 + i), x0);                                           \
            x1 = istep_##metric(v, load_i8(r1 + i), x1);                                           \
            x2 = istep_##metric(v, load_i8(r2 + i), x2);                                           \
            x3 = istep_##metric(v, load_i8(r3 + i), x3);                                           \
        }                                                                                          \
        _mm_storeu_si128((__m128i_u *)(void *)out, reduce4(x0, x1, x2, x3));                       \
    }

DEFINE_CODE(l2)
DEFINE_CODE(ip)

static inline TARGET __m512i
load_bits(const uint8_t *p, size_t left)
{
    __mmask64 m = left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
    return _mm512_maskz_loadu_epi8(m, p);
}

static TARGET float
hamming_avx512(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    __m512i acc = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 64) {
        __m512i d = _mm512_xor_si512(load_bits(x + i, n - i), load_bits(y + i, n - i));
        acc = _mm512_add_epi64(acc, _mm512_popcnt_epi64(d));
    }
    return (float)_mm512_reduce_add_epi64(acc);
}

static TARGET float
jaccard_avx512(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    __m512i both = _mm512_setzero_si512();
    __m512i any = both;

    for (size_t i = 0; i < n; i += 64) {
        __m512i p = load_bits(x + i, n - i);
        __m512i q = load_bits(y + i, n - i);
        both = _mm512_add_epi64(both, _mm512_popcnt_epi64(_mm512_and_si512(p, q)));
        any = _mm512_add_epi64(any, _mm512_popcnt_epi64(_mm512_or_si512(p, q)));
    }
    long long n_both = _mm512_reduce_add_epi64(both);
    long long n_any = _mm512_reduce_add_epi64(any);
    return n_any == 0 ? 1.0f : (float)(n_any - n_both) / (float)n_any;
}

/* ---- one-bit codes ---- */

/* Sums of 16-bit lanes of 128 bits each: |all| adds even rows to 256 times odd ones, |odd| the odd
 * ones alone. */
typedef struct scan_sums {
    __m512i low; /* rows 0..15 */
    __m512i low_odd;
    __m512i high; /* rows 16..31 */
    __m512i high_odd;
} scan_sums;

/* Adds the sums, none over 65,535, to |rows|. */
static inline TARGET void
scan_finish(const scan_sums *sums, __m512i rows[2])
{
    /* four lanes to one: rows 0..15 in the lower half, rows 16..31 in the upper half */
    __m512i all = _mm512_add_epi16(_mm512_shuffle_i64x2(sums->low, sums->high, 0x44),
                                   _mm512_shuffle_i64x2(sums->low, sums->high, 0xee));
    __m512i odd = _mm512_add_epi16(_mm512_shuffle_i64x2(sums->low_odd, sums->high_odd, 0x44),
                                   _mm512_shuffle_i64x2(sums->low_odd, sums->high_odd, 0xee));
    all = _mm512_add_epi16(all, _mm512_shuffle_i64x2(all, all, 0xb1));
    odd = _mm512_add_epi16(odd, _mm512_shuffle_i64x2(odd, odd, 0xb1));
    __m512i even = _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8));
    __m512i first = _mm512_unpacklo_epi16(even, odd); /* rows 0..7, -, 16..23, - */
    __m512i second = _mm512_unpackhi_epi16(even, odd);
    __m512i merged = _mm512_mask_blend_epi64(0xcc, first, second);
    rows[0] = _mm512_add_epi32(rows[0], _mm512_cvtepu16_epi32(_mm512_castsi512_si256(merged)));
    rows[1] =
        _mm512_add_epi32(rows[1], _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(merged, 1)));
}

/* The entries of four groups: |a| for rows 0..15 and |b| for rows 16..31. */
static inline TARGET void
scan_look_up(const uint8_t *lut, const uint8_t *block, __m512i *a, __m512i *b)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i table = _mm512_loadu_si512(lut);
    __m512i codes = _mm512_loadu_si512(block);

    *a = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, nibble));
    *b = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble));
}

static inline TARGET void
scan_add(scan_sums *sums, __m512i a, __m512i b)
{
    sums->low = _mm512_add_epi16(sums->low, a);
    sums->high = _mm512_add_epi16(sums->high, b);
    sums->low_odd = _mm512_add_epi16(sums->low_odd, _mm512_srli_epi16(a, 8));
    sums->high_odd = _mm512_add_epi16(sums->high_odd, _mm512_srli_epi16(b, 8));
}

static inline TARGET uint32_t
scan_estimate(const __m512i rows[2], const float add[32], const float mul[32], float unit,
              float bias, float extra, float below, float est[32])
{
    uint32_t mask = 0;

    for (size_t i = 0; i < 2; i++) {
        __m512 s = _mm512_fmadd_ps(_mm512_cvtepi32_ps(rows[i]), _mm512_set1_ps(unit),
                                   _mm512_set1_ps(bias));
        s = _mm512_fmadd_ps(s, _mm512_loadu_ps(mul + i * 16), _mm512_loadu_ps(add + i * 16));
        s = _mm512_add_ps(s, _mm512_set1_ps(extra));
        _mm512_storeu_ps(est + i * 16, s);
        mask |= (uint32_t)_mm512_cmp_ps_mask(s, _mm512_set1_ps(below), _CMP_LT_OQ) << (i * 16);
    }
    return mask;
}

static TARGET uint32_t
scan32_avx512(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
              const float mul[32], float unit, float bias, float extra, float below, float est[32])
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i rows[2] = {zero, zero};

    for (size_t at = 0; at < groups * 16; at += 256 * 16) {
        size_t end = RK_MIN(groups * 16, at + 256 * 16);
        scan_sums sums = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 64) {
            __m512i a;
            __m512i b;
            scan_look_up(lut + i, block + i, &a, &b);
            scan_add(&sums, a, b);
        }
        scan_finish(&sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

/* Four entries of at most 63 are added in 8 bits. */
static TARGET uint32_t
scan32_low_avx512(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
                  const float mul[32], float unit, float bias, float extra, float below,
                  float est[32])
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i rows[2] = {zero, zero};

    for (size_t at = 0; at < groups * 16; at += 1024 * 16) {
        size_t end = RK_MIN(groups * 16, at + 1024 * 16);
        scan_sums sums = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 256) {
            __m512i a[4];
            __m512i b[4];
            scan_look_up(lut + i, block + i, &a[0], &b[0]);
            scan_look_up(lut + i + 64, block + i + 64, &a[1], &b[1]);
            scan_look_up(lut + i + 128, block + i + 128, &a[2], &b[2]);
            scan_look_up(lut + i + 192, block + i + 192, &a[3], &b[3]);
            scan_add(&sums,
                     _mm512_add_epi8(_mm512_add_epi8(a[0], a[1]), _mm512_add_epi8(a[2], a[3])),
                     _mm512_add_epi8(_mm512_add_epi8(b[0], b[1]), _mm512_add_epi8(b[2], b[3])));
        }
        scan_finish(&sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

static TARGET void
bits_sums_avx512(const float *row, const float *centre, size_t n, uint8_t *signs, float sums[4])
{
    const __m512 flip = _mm512_set1_ps(-0.0f);
    __m512 square = _mm512_setzero_ps(), abs = square, signed_centre = square, product = square;

    for (size_t i = 0; i < n; i += 16) {
        __m512 c = _mm512_loadu_ps(centre + i);
        __m512 r = _mm512_sub_ps(_mm512_loadu_ps(row + i), c);
        __mmask16 up = _mm512_cmp_ps_mask(r, _mm512_setzero_ps(), _CMP_GE_OQ);
        rk_put_u16le(signs + i / 8, up);
        square = _mm512_fmadd_ps(r, r, square);
        abs = _mm512_add_ps(abs, _mm512_abs_ps(r));
        product = _mm512_fmadd_ps(r, c, product);
        signed_centre =
            _mm512_add_ps(signed_centre, _mm512_mask_xor_ps(c, (__mmask16)~up, c, flip));
    }
    sums[0] = _mm512_reduce_add_ps(square);
    sums[1] = _mm512_reduce_add_ps(abs);
    sums[2] = _mm512_reduce_add_ps(signed_centre);
    sums[3] = _mm512_reduce_add_ps(product);
}

static TARGET uint32_t
bits_tables_avx512(const float *query, size_t groups, float scale, uint8_t *lut)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512 minus = _mm512_set1_ps(-scale);
    const __m512 s0 = _mm512_mask_blend_ps(0xaaaa, minus, s);
    const __m512 s1 = _mm512_mask_blend_ps(0xcccc, minus, s);
    const __m512 s2 = _mm512_mask_blend_ps(0xf0f0, minus, s);
    const __m512 s3 = _mm512_mask_blend_ps(0xff00, minus, s);
    __m512i total = _mm512_setzero_si512();

    for (size_t g = 0; g < groups; g++) {
        const float *q = query + g * 4;
        __m512 v = _mm512_fmadd_ps(_mm512_set1_ps(q[0]), s0, _mm512_set1_ps(31.5f));
        __m512 w = _mm512_mul_ps(_mm512_set1_ps(q[2]), s2);
        v = _mm512_fmadd_ps(_mm512_set1_ps(q[1]), s1, v);
        w = _mm512_fmadd_ps(_mm512_set1_ps(q[3]), s3, w);
        __m512i entries = _mm512_cvtps_epi32(_mm512_add_ps(v, w));
        total = _mm512_add_epi32(total, entries);
        _mm_storeu_si128((__m128i_u *)(void *)(lut + g * 16), _mm512_cvtepi32_epi8(entries));
    }
    return (uint32_t)_mm512_reduce_add_epi32(total);
}

static TARGET float
bits_span_avx512(const float *query, size_t n)
{
    const __m512 infinite = _mm512_set1_ps(INFINITY);
    __m512 span = _mm512_setzero_ps();
    unsigned bad = 0;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_abs_ps(_mm512_loadu_ps(query + i));
        v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
        v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
        bad |= _mm512_cmp_ps_mask(v, infinite, _CMP_NLT_UQ);
        span = _mm512_max_ps(span, v);
    }
    return bad ? NAN : _mm512_reduce_max_ps(span);
}

static TARGET size_t
select_avx512(const uint64_t *words, size_t n, uint32_t base, uint32_t *out)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t found = 0;

    for (size_t i = 0; i < n; i++, base += 64) {
        uint64_t bits = words[i];
        if (__builtin_popcountll(bits) < 10) { /* one by one is faster */
            for (; bits; bits &= bits - 1) {
                out[found++] = base + (uint32_t)__builtin_ctzll(bits);
            }
        }
        for (uint32_t j = 0; bits; j += 16, bits >>= 16) {
            __mmask16 m = (__mmask16)(bits & 0xffff);
            __m512i rows = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(base + j)));
            /* stored whole: the compressing store is microcode on some CPUs */
            _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(m, rows));
            found += (size_t)__builtin_popcount(m);
        }
    }
    return found;
}

static TARGET uint32_t
test32_avx512(const uint64_t *words, uint32_t n, const uint32_t at[32])
{
    const __m512i low = _mm512_set1_epi32(31);
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i end = _mm512_set1_epi32((int)n);
    uint32_t bits = 0;

    for (uint32_t i = 0; i < 32; i += 16) {
        __m512i row = _mm512_loadu_si512(at + i);
        __m512i word =
            _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), _mm512_cmplt_epu32_mask(row, end),
                                        _mm512_srli_epi32(row, 5), words, 4);
        __m512i bit = _mm512_sllv_epi32(one, _mm512_and_si512(row, low));
        bits |= (uint32_t)_mm512_test_epi32_mask(word, bit) << i;
    }
    return bits;
}

#define RK__ROTATE_NAME   rotate_avx512
#define RK__ROTATE_TARGET TARGET
#define RK__ROTATE_LANES  16
#include "index/kernel/rotate.h"

const rk__kernels rk__kernels_avx512 = {
    .name = "avx512",
    .dense = {[RK__F32] = {l2_f32_avx512, ip_f32_avx512, l2x4_f32_avx512, ipx4_f32_avx512},
              [RK__F16] = {l2_f16_avx512, ip_f16_avx512, l2x4_f16_avx512, ipx4_f16_avx512},
              [RK__BF16] = {l2_bf16_avx512, ip_bf16_avx512, l2x4_bf16_avx512, ipx4_bf16_avx512},
              [RK__I8] = {l2_i8_avx512, ip_i8_avx512, l2x4_i8_avx512, ipx4_i8_avx512}},
    .hamming = hamming_avx512,
    .jaccard = jaccard_avx512,
    .code_l2x4 = code_l2x4_avx512,
    .code_ipx4 = code_ipx4_avx512,
    .code8_ip = code8_ip_avx512,
    .code8_ipx4 = code8_ipx4_avx512,
    .nibble_ip = nibble_ip_avx512,
    .nibble_ipx4 = nibble_ipx4_avx512,
    .scan32 = scan32_avx512,
    .scan32_low = scan32_low_avx512,
    .bits_sums = bits_sums_avx512,
    .bits_tables = bits_tables_avx512,
    .bits_span = bits_span_avx512,
    .rotate = rotate_avx512,
    .select = select_avx512,
    .test32 = test32_avx512,
};

#else
typedef int rk__kernel_avx512_not_built;
#endif
