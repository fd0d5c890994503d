/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512 kernels (F, BW, DQ, VL, VNNI, VPOPCNTDQ). Two accumulators per row hide the latency of
 * the multiply-add; the tail is loaded under a mask, so no byte past the row is touched. The
 * four-row forms do, row by row, exactly the steps of the one-row forms. Half-precision components
 * are widened on load.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "index/index_private.h"

#define TARGET                                                                                     \
    __attribute__((target(                                                                         \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma,f16c,bmi2")))

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

#define DEFINE_INT(metric)                                                                         \
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
    }                                                                                              \
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
        out[0] = _mm512_reduce_add_epi32(x0);                                                      \
        out[1] = _mm512_reduce_add_epi32(x1);                                                      \
        out[2] = _mm512_reduce_add_epi32(x2);                                                      \
        out[3] = _mm512_reduce_add_epi32(x3);                                                      \
    }

DEFINE_INT(l2)
DEFINE_INT(ip)

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

/* Adds the 32 sums of |steps| times four groups to |rows|; at most 64 steps, so that no sum leaves
 * 16 bits. Even rows are summed together with 256 times the odd ones, which are subtracted again at
 * the end. */
static inline TARGET void
scan_run(const uint8_t *lut, const uint8_t *block, size_t steps, __m512i rows[2])
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_setzero_si512(), low_odd = low, high = low, high_odd = low;

    for (size_t i = 0; i < steps; i++) {
        __m512i table = _mm512_loadu_si512(lut + i * 64);
        __m512i codes = _mm512_loadu_si512(block + i * 64);
        __m512i a = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, nibble));
        __m512i b =
            _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble));
        low = _mm512_add_epi16(low, a);
        high = _mm512_add_epi16(high, b);
        low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16(a, 8));
        high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16(b, 8));
    }
    /* four lanes to one: rows 0..15 in the lower half, rows 16..31 in the upper half */
    __m512i all = _mm512_add_epi16(_mm512_shuffle_i64x2(low, high, 0x44),
                                   _mm512_shuffle_i64x2(low, high, 0xee));
    __m512i odd = _mm512_add_epi16(_mm512_shuffle_i64x2(low_odd, high_odd, 0x44),
                                   _mm512_shuffle_i64x2(low_odd, high_odd, 0xee));
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

static TARGET uint32_t
scan32_avx512(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
              const float mul[32], float unit, float bias, float extra, float below, float est[32])
{
    __m512i rows[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    uint32_t mask = 0;

    for (size_t g = 0; g < groups; g += 256) {
        scan_run(lut + g * 16, block + g * 16, RK_MIN(groups - g, (size_t)256) / 4, rows);
    }
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

#define RK__ROTATE_NAME   rotate_avx512
#define RK__ROTATE_TARGET TARGET
#define RK__ROTATE_LANES  16
#include "index/kernel_rotate.h"

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
    .scan32 = scan32_avx512,
    .bits_sums = bits_sums_avx512,
    .bits_tables = bits_tables_avx512,
    .bits_span = bits_span_avx512,
    .rotate = rotate_avx512,
};

#else
typedef int rk__kernel_avx512_not_built;
#endif
