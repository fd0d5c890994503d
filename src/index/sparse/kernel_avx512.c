/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of the sparse index for AVX-512 with VBMI, VBMI2 and VNNI, where the packed weights are
 * spread over their places by one instruction, so a run costs the same whether it has one weight
 * or 64.
 */
#include "index/sparse/kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX512                                                                                     \
    __attribute__((target(                                                                         \
        "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512vnni,bmi,bmi2,popcnt")))

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
        RK__SPARSE_ASK(records + at);
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

AVX512 static inline void
avx512_add_64(uint16_t *sums, const uint8_t *weights, uint64_t mask, uint32_t factor)
{
    __m512i part[2];

    spread(weights, mask, _mm512_set1_epi16((short)factor), part);
    _mm512_storeu_si512(sums, _mm512_adds_epu16(_mm512_loadu_si512(sums), part[0]));
    _mm512_storeu_si512(sums + 32, _mm512_adds_epu16(_mm512_loadu_si512(sums + 32), part[1]));
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

/* Adds 64 places of a mask, times factor / 256. Of each lane of 16 bytes the first eight go to the
 * first 32 sums, the others to the second: settle() puts that right when all is added. */
AVX512 static inline void
avx512_add_unsettled(uint16_t *sums, const uint8_t *weights, uint64_t mask, uint32_t factor)
{
    const __m512i times = _mm512_set1_epi16((short)factor);
    const __m512i none = _mm512_setzero_si512();
    __m512i bytes = _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(weights));
    __m512i low = _mm512_mulhi_epu16(_mm512_unpacklo_epi8(none, bytes), times);
    __m512i high = _mm512_mulhi_epu16(_mm512_unpackhi_epi8(none, bytes), times);

    _mm512_storeu_si512(sums, _mm512_adds_epu16(_mm512_loadu_si512(sums), low));
    _mm512_storeu_si512(sums + 32, _mm512_adds_epu16(_mm512_loadu_si512(sums + 32), high));
}

RK__SPARSE_LOOPS(avx512, AVX512, avx512_add_64, avx512_add_unsettled)

/* Streams side by side: the sums are read and written once for all of them. */
AVX512 static inline __attribute__((always_inline)) void
add_streams(const rk__sparse_stream *streams, size_t n, size_t n_patches, uint16_t *sums,
            uint64_t *any)
{
    const __m512i none = _mm512_setzero_si512();
    const uint64_t *masks[RK__SPARSE_STREAMS];
    const uint8_t *at[RK__SPARSE_STREAMS];
    const uint8_t *end[RK__SPARSE_STREAMS];
    __m512i times[RK__SPARSE_STREAMS];

    for (size_t i = 0; i < n; i++) {
        masks[i] = streams[i].masks;
        at[i] = streams[i].maxima;
        end[i] = at[i] + streams[i].n_maxima;
        times[i] = _mm512_set1_epi16((short)streams[i].factor);
    }
    for (size_t g = 0; g < n_patches; g++) {
        uint16_t *to = sums + g * RK__SPARSE_PATCH;
        __m512i low = _mm512_loadu_si512(to);
        __m512i high = _mm512_loadu_si512(to + 32);
        uint64_t all = any[g];
#pragma GCC unroll 3
        for (size_t i = 0; i < n; i++) {
            uint64_t mask = masks[i][g];
            __m512i bytes = _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(at[i]));
            __m512i a = _mm512_mulhi_epu16(_mm512_unpacklo_epi8(none, bytes), times[i]);
            __m512i b = _mm512_mulhi_epu16(_mm512_unpackhi_epi8(none, bytes), times[i]);
            low = _mm512_adds_epu16(low, a);
            high = _mm512_adds_epu16(high, b);
            all |= mask;
            at[i] = RK_MIN(at[i] + __builtin_popcountll(mask), end[i]);
        }
        _mm512_storeu_si512(to, low);
        _mm512_storeu_si512(to + 32, high);
        any[g] = all;
    }
}

AVX512 static void
avx512_fine(const rk__sparse_stream *streams, size_t n, size_t n_patches, uint16_t *sums,
            uint64_t *any)
{
    if (n == 3) {
        add_streams(streams, 3, n_patches, sums, any);
    } else if (n == 2) {
        add_streams(streams, 2, n_patches, sums, any);
    } else {
        add_streams(streams, 1, n_patches, sums, any);
    }
}

AVX512 static void
avx512_settle(uint16_t *sums, size_t n)
{
    const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);

    for (size_t g = 0; g < n; g++, sums += RK__SPARSE_PATCH) {
        __m512i a = _mm512_loadu_si512(sums);
        __m512i b = _mm512_loadu_si512(sums + 32);
        _mm512_storeu_si512(sums, _mm512_permutex2var_epi64(a, first, b));
        _mm512_storeu_si512(sums + 32, _mm512_permutex2var_epi64(a, second, b));
    }
}

static const uint16_t numbers[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                     11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

/* The indexes of 16 pairs, hashed to ten bits; of pairs past |n| zeros are read. */
AVX512 static inline __m256i
few_of_16(const uint8_t *pairs, size_t n)
{
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __mmask16 live = (__mmask16)_bzhi_u32(0xffff, (unsigned)RK_MIN(n, (size_t)16));
    __m512i a = _mm512_maskz_loadu_epi64((__mmask8)live, pairs);
    __m512i b = _mm512_maskz_loadu_epi64((__mmask8)(live >> 8), pairs + 64);
    __m512i index = _mm512_permutex2var_epi32(a, even, b);

    index = _mm512_mullo_epi32(index, _mm512_set1_epi32((int)0x9e3779b1u));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(index, 22));
}

AVX512 static size_t
avx512_meet(const rk__sparse_query *query, const uint8_t *pairs, size_t n, uint16_t *met)
{
    if (query->n > RK__SPARSE_FEW) {
        return rk__sparse_meet(query, pairs, n, met);
    }
    const __m512i low = _mm512_load_si512(query->few);
    const __m512i high = _mm512_load_si512(query->few + 32);
    const __m512i lanes = _mm512_loadu_si512(numbers);
    size_t n_met = 0;
    size_t n_sure = 0;

    for (size_t i = 0; i < n; i += 32) {
        size_t left = n - i;
        __m256i first = few_of_16(pairs + i * sizeof(rk__pair), left);
        __m256i second = left > 16 ? few_of_16(pairs + (i + 16) * sizeof(rk__pair), left - 16)
                                   : _mm256_setzero_si256();
        __m512i few = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
        __m512i word = _mm512_permutex2var_epi16(low, _mm512_srli_epi16(few, 4), high);
        __m512i bit = _mm512_and_si512(few, _mm512_set1_epi16(15));
        uint32_t mask = _mm512_test_epi16_mask(_mm512_srlv_epi16(word, bit), _mm512_set1_epi16(1));
        mask &= (uint32_t)_bzhi_u64(UINT32_MAX, (unsigned)RK_MIN(left, (size_t)32));
        __m512i at = _mm512_add_epi16(lanes, _mm512_set1_epi16((short)i));
        _mm512_storeu_si512(met + n_met, _mm512_maskz_compress_epi16(mask, at));
        n_met += (size_t)__builtin_popcount(mask);
    }
    for (size_t i = 0; i < n_met; i++) { /* of ten bits one in 24 is met by chance */
        uint32_t key = rk_get_u32le(pairs + met[i] * sizeof(rk__pair));
        met[n_sure] = met[i];
        n_sure += query->seen[(key & query->seen_last) / 64] >> key % 64 & 1;
    }
    return n_sure;
}

AVX512 static uint32_t
avx512_print(const uint8_t *pages, size_t n_pages, const uint8_t *print, size_t n)
{
    uint32_t sum = 0;

    for (size_t p = 0; p < n_pages; p++, pages += RK__SPARSE_PAGE) {
        __m512i table[8];
        __m512i total = _mm512_setzero_si512();
        const uint8_t *at = print;
        for (unsigned i = 0; i < 8; i++) {
            table[i] = _mm512_load_si512(pages + (size_t)i * 64);
        }
        for (size_t left = n; left > 0;) {
            size_t run = RK_MIN(left, (size_t)64);
            __mmask64 live = _bzhi_u64(UINT64_MAX, (unsigned)run);
            __m512i low = _mm512_maskz_loadu_epi8(live, at);
            __m512i high = _mm512_maskz_loadu_epi8(live, at + run);
            __m512i weights = _mm512_maskz_loadu_epi8(live, at + 2 * run);
            __m512i sign_a = _mm512_permutex2var_epi8(table[0], low, table[1]);
            __m512i sign_b = _mm512_permutex2var_epi8(table[4], high, table[5]);
            __m512i a = _mm512_maskz_permutex2var_epi8(_mm512_cmpeq_epi8_mask(sign_a, high),
                                                       table[2], low, table[3]);
            __m512i b = _mm512_maskz_permutex2var_epi8(_mm512_cmpeq_epi8_mask(sign_b, low),
                                                       table[6], high, table[7]);
            total = _mm512_dpbusd_epi32(total, weights, _mm512_max_epu8(a, b));
            at += 3 * run;
            left -= run;
        }
        sum += (uint32_t)_mm512_reduce_add_epi32(total);
    }
    return sum;
}

AVX512 static uint32_t
avx512_pass(const uint32_t *rows, const uint64_t *words, size_t n_rows)
{
    __m512i row = _mm512_loadu_si512(rows);
    __mmask16 known = _mm512_cmplt_epu32_mask(row, _mm512_set1_epi32((int)n_rows));
    __m512i word = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), known,
                                               _mm512_srli_epi32(row, 5), words, 4);
    __m512i bit =
        _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(row, _mm512_set1_epi32(31)));

    return _mm512_mask_test_epi32_mask(known, word, bit);
}

const rk__sparse_kernels rk__sparse_kernels_avx512 = {
    "avx512",     avx512_find, avx512_add,    avx512_add_node, avx512_reach, avx512_largest,
    avx512_bound, avx512_fine, avx512_settle, avx512_meet,     avx512_print, avx512_pass};
#endif
