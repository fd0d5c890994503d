/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of the sparse index for AVX2 and NEON. Packed weights are spread over their places eight
 * at a time: a shuffle whose pattern a table of 256 gives for each byte of the mask. What is small
 * next to that is left to the reference: which pairs of a row the query has is found pair by pair.
 */
#include "index/sparse/kernel.h"

#if defined(__x86_64__) || defined(__aarch64__)

/* Place i of the eight takes the byte whose number is that of set bits below i; 0x80: none. */
#define AT(m, i)                                                                                   \
    ((uint64_t)((m) >> (i)&1 ? __builtin_popcount((m) & ((1 << (i)) - 1)) : 0x80) << 8 * (i))
#define ONE(m)                                                                                     \
    (AT(m, 0) | AT(m, 1) | AT(m, 2) | AT(m, 3) | AT(m, 4) | AT(m, 5) | AT(m, 6) | AT(m, 7))
#define FOUR(m)    ONE(m), ONE((m) + 1), ONE((m) + 2), ONE((m) + 3)
#define SIXTEEN(m) FOUR(m), FOUR((m) + 4), FOUR((m) + 8), FOUR((m) + 12)
#define MANY(m)    SIXTEEN(m), SIXTEEN((m) + 16), SIXTEEN((m) + 32), SIXTEEN((m) + 48)

static const uint64_t places[256] = {MANY(0), MANY(64), MANY(128), MANY(192)};
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))

/* 16 places of a mask; |*weights| moves on. */
AVX2 static inline __m256i
avx2_spread(const uint8_t **weights, uint32_t mask, __m256i times)
{
    __m128i a = _mm_loadl_epi64((const void *)*weights);
    *weights += __builtin_popcount(mask & 0xff);
    __m128i b = _mm_loadl_epi64((const void *)*weights);
    *weights += __builtin_popcount(mask >> 8 & 0xff);

    a = _mm_shuffle_epi8(a, _mm_loadl_epi64((const void *)&places[mask & 0xff]));
    b = _mm_shuffle_epi8(b, _mm_loadl_epi64((const void *)&places[mask >> 8 & 0xff]));
    __m256i words = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(a, b));
    return _mm256_mulhi_epu16(_mm256_slli_epi16(words, 8), times);
}

AVX2 static inline void
avx2_add_16(uint16_t *sums, __m256i part)
{
    __m256i *to = (__m256i *)(void *)sums;

    _mm256_storeu_si256(to, _mm256_adds_epu16(_mm256_loadu_si256(to), part));
}

AVX2 static inline void
avx2_add_64(uint16_t *sums, const uint8_t *weights, uint64_t mask, uint32_t factor)
{
    __m256i times = _mm256_set1_epi16((short)factor);

    for (unsigned i = 0; i < 64; i += 16) {
        avx2_add_16(sums + i, avx2_spread(&weights, (uint32_t)(mask >> i) & 0xffff, times));
    }
}

AVX2 static inline uint64_t
avx2_sum(const uint8_t *bytes, uint64_t n)
{
    uint64_t sum = 0;

    for (; n >= 8; n -= 8, bytes += 8) {
        __m128i eight = _mm_loadl_epi64((const void *)bytes);
        sum += (uint64_t)_mm_cvtsi128_si64(_mm_sad_epu8(eight, _mm_setzero_si128()));
    }
    if (n > 0) { /* the padding may be read */
        __m128i rest =
            _mm_cvtsi64_si128((long long)_bzhi_u64(rk_get_u64le(bytes), (unsigned)n * 8));
        sum += (uint64_t)_mm_cvtsi128_si64(_mm_sad_epu8(rest, _mm_setzero_si128()));
    }
    return sum;
}

RK__SPARSE_KERNELS(avx2, AVX2, avx2_sum, avx2_add_64)

AVX2 static uint64_t
avx2_reach(const uint16_t sums[64], uint16_t limit)
{
    const __m256i *at = (const __m256i *)(const void *)sums;
    __m256i least = _mm256_set1_epi16((short)limit);
    uint64_t mask = 0;

    for (unsigned i = 0; i < 2; i++) {
        __m256i a = _mm256_loadu_si256(at + 2 * i);
        __m256i b = _mm256_loadu_si256(at + 2 * i + 1);
        a = _mm256_cmpeq_epi16(_mm256_max_epu16(a, least), a);
        b = _mm256_cmpeq_epi16(_mm256_max_epu16(b, least), b);
        a = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
        mask |= (uint64_t)(uint32_t)_mm256_movemask_epi8(a) << 32 * i;
    }
    return mask;
}

AVX2 static uint16_t
avx2_largest(const uint16_t sums[64])
{
    const __m256i *at = (const __m256i *)(const void *)sums;
    __m256i a = _mm256_max_epu16(_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1));
    __m256i b = _mm256_max_epu16(_mm256_loadu_si256(at + 2), _mm256_loadu_si256(at + 3));

    a = _mm256_max_epu16(a, b);
    __m128i last = _mm_max_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    last = _mm_minpos_epu16(_mm_xor_si128(last, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_extract_epi16(last, 0);
}

const rk__sparse_kernels rk__sparse_kernels_avx2 = {
    "avx2",     avx2_find, avx2_add, avx2_add_node,   avx2_reach,           avx2_largest,
    avx2_bound, avx2_fine, NULL,     rk__sparse_meet, rk__sparse_print_sum, rk__sparse_pass};

#elif defined(__aarch64__)
#include <arm_neon.h>

/* Eight places of a byte of a mask, times the factor; |*weights| moves on. */
static inline uint16x8_t
neon_spread(const uint8_t **weights, uint32_t mask, uint16x4_t times)
{
    uint8x8_t bytes = vtbl1_u8(vld1_u8(*weights), vcreate_u8(places[mask]));
    uint16x8_t words = vshll_n_u8(bytes, 8);
    uint32x4_t low = vmull_u16(vget_low_u16(words), times);
    uint32x4_t high = vmull_u16(vget_high_u16(words), times);

    *weights += __builtin_popcount(mask);
    return vshrn_high_n_u32(vshrn_n_u32(low, 16), high, 16);
}

static inline void
neon_add_64(uint16_t *sums, const uint8_t *weights, uint64_t mask, uint32_t factor)
{
    uint16x4_t times = vdup_n_u16((uint16_t)factor);

    for (unsigned i = 0; i < 64; i += 8) {
        uint16x8_t part = neon_spread(&weights, (uint32_t)(mask >> i) & 0xff, times);
        vst1q_u16(sums + i, vqaddq_u16(vld1q_u16(sums + i), part));
    }
}

static inline uint64_t
neon_sum(const uint8_t *bytes, uint64_t n)
{
    uint64_t sum = 0;

    for (; n >= 8; n -= 8, bytes += 8) {
        sum += vaddlv_u8(vld1_u8(bytes));
    }
    for (uint64_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    return sum;
}

RK__SPARSE_KERNELS(neon, , neon_sum, neon_add_64)

static uint64_t
neon_reach(const uint16_t sums[64], uint16_t limit)
{
    const uint8x8_t bits = vcreate_u8(UINT64_C(0x8040201008040201));
    uint16x8_t least = vdupq_n_u16(limit);
    uint64_t mask = 0;

    for (unsigned i = 0; i < 64; i += 8) {
        uint8x8_t there = vmovn_u16(vcgeq_u16(vld1q_u16(sums + i), least));
        mask |= (uint64_t)vaddv_u8(vand_u8(there, bits)) << i;
    }
    return mask;
}

static uint16_t
neon_largest(const uint16_t sums[64])
{
    uint16x8_t largest = vld1q_u16(sums);

    for (unsigned i = 8; i < 64; i += 8) {
        largest = vmaxq_u16(largest, vld1q_u16(sums + i));
    }
    return vmaxvq_u16(largest);
}

const rk__sparse_kernels rk__sparse_kernels_neon = {
    "neon",     neon_find, neon_add, neon_add_node,   neon_reach,           neon_largest,
    neon_bound, neon_fine, NULL,     rk__sparse_meet, rk__sparse_print_sum, rk__sparse_pass};
#endif
