/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of the sparse index: adding packed 8-bit weights, times a 16-bit factor, to 64 sums of 16
 * bits. With AVX-512 VBMI2 the packed weights are spread over their places by one instruction, so a
 * run costs the same whether it has one weight or 64; elsewhere its bits are walked. Both give the
 * same sums.
 */
#include "index/sparse.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX512                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2,bmi,bmi2,popcnt")))
#endif

static inline __attribute__((always_inline)) void
add_run(const uint8_t *weights, uint64_t mask, uint32_t factor, uint16_t *sums)
{
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        uint32_t sum = sums[i] + (*weights++ * factor >> 8);
        sums[i] = (uint16_t)(sum > 65535 ? 65535 : sum);
    }
}

/* The sum of the first |n| of at most 64 bytes. */
static inline uint64_t
sum_bytes(const uint8_t *bytes, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    return sum;
}

static size_t
scalar_find(const rk__sparse_member *members, size_t n, unsigned block, const uint8_t *records,
            uint64_t record_bytes, rk__sparse_run *runs, uint32_t *bound)
{
    size_t found = 0;

    *bound = 0;
    for (size_t i = 0; i < n; i++) {
        const rk__sparse_member *m = &members[i];
        if (!(m->mask >> block & 1)) {
            continue;
        }
        uint64_t nth = (uint64_t)__builtin_popcountll(m->mask & ((UINT64_C(1) << block) - 1));
        uint64_t count = (uint64_t)__builtin_popcountll(m->mask);
        uint64_t at = m->base + 8 * nth + sum_bytes(m->entries + count, nth);
        if (at <= record_bytes) {
            runs[found++] = (rk__sparse_run){records + at, m->factor};
            *bound += m->entries[nth] * m->factor >> 8;
            __builtin_prefetch(records + at);
        }
    }
    return found;
}

static uint64_t
scalar_add(const rk__sparse_run *runs, size_t n, uint16_t sums[64])
{
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t mask = rk_get_u64le(runs[i].record);
        add_run(runs[i].record + sizeof(mask), mask, runs[i].factor, sums);
        any |= mask;
    }
    return any;
}

static void
scalar_add_node(const rk__sparse_member *member, const uint8_t *records, uint64_t record_bytes,
                uint16_t *sums, uint64_t *any)
{
    uint64_t at = member->base;

    for (uint64_t blocks = member->mask; blocks && at <= record_bytes; blocks &= blocks - 1) {
        unsigned block = (unsigned)__builtin_ctzll(blocks);
        uint64_t mask = rk_get_u64le(records + at);
        add_run(records + at + sizeof(mask), mask, member->factor, sums + (size_t)block * 64);
        any[block] |= mask;
        at += sizeof(mask) + (uint64_t)__builtin_popcountll(mask);
    }
}

static uint64_t
scalar_reach(const uint16_t sums[64], uint16_t limit)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < 64; i++) {
        mask |= (uint64_t)(sums[i] >= limit) << i;
    }
    return mask;
}

static uint16_t
scalar_largest(const uint16_t sums[64])
{
    uint16_t largest = 0;

    for (unsigned i = 0; i < 64; i++) {
        largest = RK_MAX(largest, sums[i]);
    }
    return largest;
}

static void
scalar_bound(const rk__sparse_node *nodes, size_t n, const uint8_t *entries, uint64_t n_entries,
             size_t n_groups, uint32_t factor, uint16_t *sums, uint64_t *any)
{
    for (size_t i = 0; i < n; i++) {
        const rk__sparse_node *node = &nodes[i];
        uint64_t count = (uint64_t)__builtin_popcountll(node->mask);
        if (node->entry + count <= n_entries && node->group < n_groups) {
            add_run(entries + 2 * (uint64_t)node->entry, node->mask, factor,
                    sums + (size_t)node->group * 64);
            any[node->group] |= node->mask;
        }
    }
}

const rk__sparse_kernels rk__sparse_kernels_scalar = {scalar_find,  scalar_add,     scalar_add_node,
                                                      scalar_reach, scalar_largest, scalar_bound};

#if defined(__x86_64__)

/* 64 places of a run, times factor / 256: two vectors of 32. */
AVX512 static inline void
spread(const uint8_t *weights, uint64_t mask, __m512i factor, __m512i out[2])
{
    __m512i bytes = _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(weights));
    __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes));
    __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1));

    out[0] = _mm512_mulhi_epu16(_mm512_slli_epi16(low, 8), factor);
    out[1] = _mm512_mulhi_epu16(_mm512_slli_epi16(high, 8), factor);
}

/* Without branches: who has a block cannot be foreseen. */
AVX512 static size_t
avx512_find(const rk__sparse_member *members, size_t n, unsigned block, const uint8_t *records,
            uint64_t record_bytes, rk__sparse_run *runs, uint32_t *bound)
{
    uint64_t below = (UINT64_C(1) << block) - 1;
    size_t found = 0;
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        const rk__sparse_member *m = &members[i];
        uint64_t nth = (uint64_t)__builtin_popcountll(m->mask & below);
        uint64_t count = (uint64_t)__builtin_popcountll(m->mask);
        uint64_t first = _bzhi_u64(UINT64_MAX, (unsigned)nth); /* nth < 64 */
        __m512i counts = _mm512_maskz_loadu_epi8(first, m->entries + count);
        __m512i eights = _mm512_sad_epu8(counts, _mm512_setzero_si512());
        uint64_t at = m->base + 8 * nth + (uint64_t)_mm512_reduce_add_epi64(eights);
        uint32_t has = (uint32_t)(m->mask >> block & 1) & (uint32_t)(at <= record_bytes);
        at = has ? at : 0;
        runs[found] = (rk__sparse_run){records + at, m->factor};
        __builtin_prefetch(records + at);
        sum += (m->entries[nth] * m->factor >> 8) & (0u - has);
        found += has;
    }
    *bound = sum;
    return found;
}

AVX512 static uint64_t
avx512_add(const rk__sparse_run *runs, size_t n, uint16_t sums[64])
{
    __m512i low = _mm512_loadu_si512(sums);
    __m512i high = _mm512_loadu_si512(sums + 32);
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t mask = rk_get_u64le(runs[i].record);
        __m512i part[2];
        spread(runs[i].record + sizeof(mask), mask, _mm512_set1_epi16((short)runs[i].factor), part);
        low = _mm512_adds_epu16(low, part[0]);
        high = _mm512_adds_epu16(high, part[1]);
        any |= mask;
    }
    _mm512_storeu_si512(sums, low);
    _mm512_storeu_si512(sums + 32, high);
    return any;
}

AVX512 static void
avx512_add_node(const rk__sparse_member *member, const uint8_t *records, uint64_t record_bytes,
                uint16_t *sums, uint64_t *any)
{
    __m512i factor = _mm512_set1_epi16((short)member->factor);
    uint64_t at = member->base;

    for (uint64_t blocks = member->mask; blocks && at <= record_bytes; blocks &= blocks - 1) {
        unsigned block = (unsigned)__builtin_ctzll(blocks);
        uint16_t *to = sums + (size_t)block * 64;
        uint64_t mask = rk_get_u64le(records + at);
        __m512i part[2];
        spread(records + at + sizeof(mask), mask, factor, part);
        _mm512_storeu_si512(to, _mm512_adds_epu16(_mm512_loadu_si512(to), part[0]));
        _mm512_storeu_si512(to + 32, _mm512_adds_epu16(_mm512_loadu_si512(to + 32), part[1]));
        any[block] |= mask;
        at += sizeof(mask) + (uint64_t)__builtin_popcountll(mask);
    }
}

AVX512 static uint64_t
avx512_reach(const uint16_t sums[64], uint16_t limit)
{
    __m512i at = _mm512_set1_epi16((short)limit);
    uint64_t low = _mm512_cmpge_epu16_mask(_mm512_loadu_si512(sums), at);
    uint64_t high = _mm512_cmpge_epu16_mask(_mm512_loadu_si512(sums + 32), at);

    return low | high << 32;
}

AVX512 static uint16_t
avx512_largest(const uint16_t sums[64])
{
    __m512i both = _mm512_max_epu16(_mm512_loadu_si512(sums), _mm512_loadu_si512(sums + 32));
    __m256i half =
        _mm256_max_epu16(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
    __m128i last = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));

    /* the smallest of the complements is the complement of the largest */
    last = _mm_minpos_epu16(_mm_xor_si128(last, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_extract_epi16(last, 0);
}

AVX512 static void
avx512_bound(const rk__sparse_node *nodes, size_t n, const uint8_t *entries, uint64_t n_entries,
             size_t n_groups, uint32_t factor, uint16_t *sums, uint64_t *any)
{
    __m512i times = _mm512_set1_epi16((short)factor);

    for (size_t i = 0; i < n; i++) {
        const rk__sparse_node *node = &nodes[i];
        uint64_t count = (uint64_t)__builtin_popcountll(node->mask);
        if (node->entry + count <= n_entries && node->group < n_groups) {
            uint16_t *at = sums + (size_t)node->group * 64;
            __m512i part[2];
            spread(entries + 2 * (uint64_t)node->entry, node->mask, times, part);
            _mm512_storeu_si512(at, _mm512_adds_epu16(_mm512_loadu_si512(at), part[0]));
            _mm512_storeu_si512(at + 32, _mm512_adds_epu16(_mm512_loadu_si512(at + 32), part[1]));
            any[node->group] |= node->mask;
        }
    }
}

static const rk__sparse_kernels avx512_kernels = {avx512_find,  avx512_add,     avx512_add_node,
                                                  avx512_reach, avx512_largest, avx512_bound};
#endif

const rk__sparse_kernels *
rk__sparse_kernels_get(void)
{
#if defined(__x86_64__)
    if (strcmp(rk_kernels_name(), "avx512") == 0 && __builtin_cpu_supports("avx512vbmi2")) {
        return &avx512_kernels;
    }
#endif
    return &rk__sparse_kernels_scalar;
}
