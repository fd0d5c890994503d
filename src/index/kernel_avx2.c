/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX2 kernels (AVX2, FMA, F16C). Two accumulators of eight lanes per row; a tail shorter than a
 * register is copied into a zeroed one, so no byte past the row is touched. The four-row forms do,
 * row by row, the steps of the one-row forms.
 */
#if defined(__x86_64__)

#include "index/kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c,popcnt")))

static inline TARGET __m256
load_f32(const void *p, size_t i)
{
    return _mm256_loadu_ps((const float *)(const void *)((const uint8_t *)p + i * 4));
}

static inline TARGET __m256
load_f16(const void *p, size_t i)
{
    return _mm256_cvtph_ps(
        _mm_loadu_si128((const __m128i_u *)(const void *)((const uint8_t *)p + i * 2)));
}

static inline TARGET __m256
load_bf16(const void *p, size_t i)
{
    __m128i h = _mm_loadu_si128((const __m128i_u *)(const void *)((const uint8_t *)p + i * 2));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

#define DEFINE_TAIL(type, bytes)                                                                   \
    static inline TARGET __m256 tail_##type(const void *p, size_t i, size_t left)                  \
    {                                                                                              \
        uint8_t copy[32] = {0};                                                                    \
        memcpy(copy, (const uint8_t *)p + i * (bytes), left * (bytes));                            \
        return load_##type(copy, 0);                                                               \
    }

DEFINE_TAIL(f32, 4)
DEFINE_TAIL(f16, 2)
DEFINE_TAIL(bf16, 2)

static inline TARGET __m256
step_l2(__m256 q, __m256 r, __m256 acc)
{
    __m256 d = _mm256_sub_ps(q, r);
    return _mm256_fmadd_ps(d, d, acc);
}

static inline TARGET __m256
step_ip(__m256 q, __m256 r, __m256 acc)
{
    return _mm256_fmadd_ps(q, r, acc);
}

static inline TARGET float
reduce(__m256 a, __m256 b)
{
    __m256 s = _mm256_add_ps(a, b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    h = _mm_add_ss(h, _mm_shuffle_ps(h, h, 1));
    return _mm_cvtss_f32(h);
}

#define DEFINE_FLOAT(metric, type)                                                                 \
    static TARGET float metric##_##type##_avx2(const void *a, const void *b, size_t n)             \
    {                                                                                              \
        __m256 x = _mm256_setzero_ps();                                                            \
        __m256 y = _mm256_setzero_ps();                                                            \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            y = step_##metric(load_##type(a, i + 8), load_##type(b, i + 8), y);                    \
        }                                                                                          \
        if (i + 8 <= n) {                                                                          \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            i += 8;                                                                                \
        }                                                                                          \
        if (i < n) {                                                                               \
            y = step_##metric(tail_##type(a, i, n - i), tail_##type(b, i, n - i), y);              \
        }                                                                                          \
        return reduce(x, y);                                                                       \
    }                                                                                              \
    static TARGET void metric##x4_##type##_avx2(const void *query, const void *const rows[4],      \
                                                size_t n, float out[4])                            \
    {                                                                                              \
        const void *r0 = rows[0];                                                                  \
        const void *r1 = rows[1];                                                                  \
        const void *r2 = rows[2];                                                                  \
        const void *r3 = rows[3];                                                                  \
        __m256 x0 = _mm256_setzero_ps(), x1 = x0, x2 = x0, x3 = x0;                                \
        __m256 y0 = x0, y1 = x0, y2 = x0, y3 = x0;                                                 \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            __m256 q = load_##type(query, i);                                                      \
            __m256 p = load_##type(query, i + 8);                                                  \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            y0 = step_##metric(p, load_##type(r0, i + 8), y0);                                     \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            y1 = step_##metric(p, load_##type(r1, i + 8), y1);                                     \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            y2 = step_##metric(p, load_##type(r2, i + 8), y2);                                     \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            y3 = step_##metric(p, load_##type(r3, i + 8), y3);                                     \
        }                                                                                          \
        if (i + 8 <= n) {                                                                          \
            __m256 q = load_##type(query, i);                                                      \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            i += 8;                                                                                \
        }                                                                                          \
        if (i < n) {                                                                               \
            __m256 q = tail_##type(query, i, n - i);                                               \
            y0 = step_##metric(q, tail_##type(r0, i, n - i), y0);                                  \
            y1 = step_##metric(q, tail_##type(r1, i, n - i), y1);                                  \
            y2 = step_##metric(q, tail_##type(r2, i, n - i), y2);                                  \
            y3 = step_##metric(q, tail_##type(r3, i, n - i), y3);                                  \
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

static inline TARGET __m256i
load_i8(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i_u *)(const void *)p));
}

static inline TARGET __m256i
tail_i8(const int8_t *p, size_t left)
{
    int8_t copy[16] = {0};
    memcpy(copy, p, left);
    return load_i8(copy);
}

static inline TARGET __m256i
istep_l2(__m256i q, __m256i r, __m256i acc)
{
    __m256i d = _mm256_sub_epi16(q, r);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(d, d));
}

static inline TARGET __m256i
istep_ip(__m256i q, __m256i r, __m256i acc)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(q, r));
}

static inline TARGET int32_t
ireduce(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return _mm_cvtsi128_si32(h);
}

#define DEFINE_INT(metric)                                                                         \
    static TARGET float metric##_i8_avx2(const void *a, const void *b, size_t n)                   \
    {                                                                                              \
        const int8_t *x = a;                                                                       \
        const int8_t *y = b;                                                                       \
        __m256i acc = _mm256_setzero_si256();                                                      \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            acc = istep_##metric(load_i8(x + i), load_i8(y + i), acc);                             \
        }                                                                                          \
        if (i < n) {                                                                               \
            acc = istep_##metric(tail_i8(x + i, n - i), tail_i8(y + i, n - i), acc);               \
        }                                                                                          \
        return (float)ireduce(acc);                                                                \
    }                                                                                              \
    static TARGET void metric##x4_i8_avx2(const void *query, const void *const rows[4], size_t n,  \
                                          float out[4])                                            \
    {                                                                                              \
        for (size_t r = 0; r < 4; r++) {                                                           \
            out[r] = metric##_i8_avx2(query, rows[r], n);                                          \
        }                                                                                          \
    }                                                                                              \
    static TARGET void code_##metric##x4_avx2(const int16_t *query, const int8_t *const rows[4],   \
                                              size_t n, int32_t out[4])                            \
    {                                                                                              \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        __m256i x0 = _mm256_setzero_si256(), x1 = x0, x2 = x0, x3 = x0;                            \
        for (size_t i = 0; i < n; i += 16) {                                                       \
            __m256i v = _mm256_loadu_si256((const __m256i_u *)(const void *)(query + i));          \
            x0 = istep_##metric(v, load_i8(r0 + i), x0);                                           \
            x1 = istep_##metric(v, load_i8(r1 + i), x1);                                           \
            x2 = istep_##metric(v, load_i8(r2 + i), x2);                                           \
            x3 = istep_##metric(v, load_i8(r3 + i), x3);                                           \
        }                                                                                          \
        out[0] = ireduce(x0);                                                                      \
        out[1] = ireduce(x1);                                                                      \
        out[2] = ireduce(x2);                                                                      \
        out[3] = ireduce(x3);                                                                      \
    }

DEFINE_INT(l2)
DEFINE_INT(ip)

static inline uint64_t
load_word(const uint8_t *p, size_t left)
{
    uint64_t v = 0;
    memcpy(&v, p, left < 8 ? left : 8);
    return v;
}

static TARGET float
hamming_avx2(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    long long bits = 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        bits += __builtin_popcountll(rk_get_u64le(x + i) ^ rk_get_u64le(y + i));
    }
    if (i < n) {
        bits += __builtin_popcountll(load_word(x + i, n - i) ^ load_word(y + i, n - i));
    }
    return (float)bits;
}

static TARGET float
jaccard_avx2(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    long long both = 0;
    long long any = 0;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t p = n - i >= 8 ? rk_get_u64le(x + i) : load_word(x + i, n - i);
        uint64_t q = n - i >= 8 ? rk_get_u64le(y + i) : load_word(y + i, n - i);
        both += __builtin_popcountll(p & q);
        any += __builtin_popcountll(p | q);
    }
    return any == 0 ? 1.0f : (float)(any - both) / (float)any;
}

const rk__kernels rk__kernels_avx2 = {
    .name = "avx2",
    .dense = {[RK__F32] = {l2_f32_avx2, ip_f32_avx2, l2x4_f32_avx2, ipx4_f32_avx2},
              [RK__F16] = {l2_f16_avx2, ip_f16_avx2, l2x4_f16_avx2, ipx4_f16_avx2},
              [RK__BF16] = {l2_bf16_avx2, ip_bf16_avx2, l2x4_bf16_avx2, ipx4_bf16_avx2},
              [RK__I8] = {l2_i8_avx2, ip_i8_avx2, l2x4_i8_avx2, ipx4_i8_avx2}},
    .hamming = hamming_avx2,
    .jaccard = jaccard_avx2,
    .code_l2x4 = code_l2x4_avx2,
    .code_ipx4 = code_ipx4_avx2,
};

#else
typedef int rk__kernel_avx2_not_built;
#endif
