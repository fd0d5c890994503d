/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See code/codec_math.h. Each loop is an inlined body over 64-byte vectors, which the compiler
 * splits into what the target has; the wrappers below name the targets.
 */
#include "index/code/codec_math.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint8_t v16u __attribute__((vector_size(16)));

#define LOAD(type, from)                                                                           \
    __extension__({                                                                                \
        type loaded_;                                                                              \
        memcpy(&loaded_, (from), sizeof(loaded_));                                                 \
        loaded_;                                                                                   \
    })

INLINE void
dots_body(const float *v, const float *table, uint32_t dim, uint32_t n, float *out)
{
    uint32_t j = 0;

    for (; j + 64 <= n; j += 64) {
        v16f a = {0};
        v16f b = {0};
        v16f c = {0};
        v16f e = {0};
        for (uint32_t d = 0; d < dim; d++) {
            const float *at = table + (size_t)d * n + j;
            a += v[d] * LOAD(v16f, at);
            b += v[d] * LOAD(v16f, at + 16);
            c += v[d] * LOAD(v16f, at + 32);
            e += v[d] * LOAD(v16f, at + 48);
        }
        memcpy(out + j, &a, sizeof(a));
        memcpy(out + j + 16, &b, sizeof(b));
        memcpy(out + j + 32, &c, sizeof(c));
        memcpy(out + j + 48, &e, sizeof(e));
    }
    for (; j < n; j += 16) {
        v16f a = {0};
        for (uint32_t d = 0; d < dim; d++) {
            a += v[d] * LOAD(v16f, table + (size_t)d * n + j);
        }
        memcpy(out + j, &a, sizeof(a));
    }
}

INLINE uint32_t
nearest_body(const float *v, const float *table, const float *half, uint32_t dim, uint32_t n,
             float *scratch)
{
    v16f low = {0};
    float best = INFINITY;

    dots_body(v, table, dim, n, scratch);
    for (size_t i = 0; i < 16; i++) {
        low[i] = INFINITY;
    }
    for (uint32_t j = 0; j < n; j += 16) {
        v16f s = LOAD(v16f, half + j) - LOAD(v16f, scratch + j);
        v16i less = s < low;
        low = (v16f)((less & (v16i)s) | (~less & (v16i)low));
        memcpy(scratch + j, &s, sizeof(s));
    }
    for (size_t i = 0; i < 16; i++) {
        best = low[i] < best ? low[i] : best;
    }
    for (uint32_t j = 0; j < n; j++) {
        if (scratch[j] <= best) {
            return j;
        }
    }
    return 0;
}

INLINE void
unpack6_body(const uint8_t *packed, size_t n, int8_t *out)
{
    for (size_t i = 0; i < n; i += 64) {
        const uint8_t *at = packed + i / 64 * 48;
        v16u first = LOAD(v16u, at);
        v16u second = LOAD(v16u, at + 16);
        v16u two = LOAD(v16u, at + 32);
        v16u a = (first & 15) | ((two & 3) << 4);
        v16u b = (second & 15) | ((two & 12) << 2);
        v16u c = (first >> 4) | (two & 48);
        v16u d = (second >> 4) | ((two & 192) >> 2);
        memcpy(out + i, &a, sizeof(a));
        memcpy(out + i + 16, &b, sizeof(b));
        memcpy(out + i + 32, &c, sizeof(c));
        memcpy(out + i + 48, &d, sizeof(d));
    }
}

#define DEFINE(name, target)                                                                       \
    target static void dots_##name(const float *v, const float *table, uint32_t dim, uint32_t n,   \
                                   float *out)                                                     \
    {                                                                                              \
        dots_body(v, table, dim, n, out);                                                          \
    }                                                                                              \
    target static uint32_t nearest_##name(const float *v, const float *table, const float *half,   \
                                          uint32_t dim, uint32_t n, float *scratch)                \
    {                                                                                              \
        return nearest_body(v, table, half, dim, n, scratch);                                      \
    }                                                                                              \
    target static void unpack6_##name(const uint8_t *packed, size_t n, int8_t *out)                \
    {                                                                                              \
        unpack6_body(packed, n, out);                                                              \
    }                                                                                              \
    static const rk__codec_math math_##name = {dots_##name, nearest_##name, unpack6_##name};

DEFINE(plain, )
#if defined(__x86_64__)
DEFINE(avx2, __attribute__((target("avx2,fma"))))
DEFINE(avx512, __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

const rk__codec_math *
rk__codec_math_get(void)
{
#if defined(__x86_64__)
    const char *name = rk_kernels_name();
    if (strcmp(name, "avx512") == 0) {
        return &math_avx512;
    }
    if (strcmp(name, "avx2") == 0) {
        return &math_avx2;
    }
#endif
    return &math_plain;
}
