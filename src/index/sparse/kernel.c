/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of the sparse index: adding packed 8-bit weights, times a 16-bit factor, to the 16-bit
 * sums at the places a mask names; and finding which pairs of a row a query can have. Here the
 * reference and the choice; AVX-512 is in sparse/kernel_avx512.c, AVX2 and NEON in
 * sparse/kernel_simd.c, the loops of all in sparse/kernel.h. All give the same sums.
 */
#include "index/sparse/kernel.h"

static inline void
add_64(uint16_t *sums, const uint8_t *weights, uint64_t mask, uint32_t factor)
{
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        uint32_t sum = sums[i] + (*weights++ * factor >> 8);
        sums[i] = (uint16_t)(sum > 65535 ? 65535 : sum);
    }
}

static inline uint64_t
sum_bytes(const uint8_t *bytes, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    return sum;
}

RK__SPARSE_KERNELS(scalar, , sum_bytes, add_64)

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

/* Without a branch per pair: most are not the query's. */
size_t
rk__sparse_meet(const rk__sparse_query *query, const uint8_t *pairs, size_t n, uint16_t *met)
{
    size_t n_met = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t key = rk_get_u32le(pairs + i * sizeof(rk__pair));
        met[n_met] = (uint16_t)i;
        n_met += query->seen[(key & query->seen_last) / 64] >> key % 64 & 1;
    }
    return n_met;
}

uint32_t
rk__sparse_print_sum(const uint8_t *pages, size_t n_pages, const uint8_t *print, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        size_t run = RK_MIN(n - i / 64 * 64, (size_t)64);
        const uint8_t *at = print + i / 64 * 192 + i % 64;
        unsigned low = at[0];
        unsigned high = at[run];
        for (size_t p = 0; p < n_pages; p++) {
            const uint8_t *first = pages + p * RK__SPARSE_PAGE + (low & 0x7f);
            const uint8_t *second = pages + p * RK__SPARSE_PAGE + 256 + (high & 0x7f);
            unsigned a = first[128] & (0u - (first[0] == high));
            unsigned b = second[128] & (0u - (second[0] == low));
            sum += RK_MAX(a, b) * at[2 * run];
        }
    }
    return sum;
}

uint32_t
rk__sparse_pass(const uint32_t *rows, const uint64_t *words, size_t n_rows)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < RK__SPARSE_QUARTER; i++) {
        bool known = rows[i] < n_rows;
        size_t row = known ? rows[i] : 0;
        mask |= (uint32_t)(known & (words[row / 64] >> row % 64 & 1)) << i;
    }
    return mask;
}

const rk__sparse_kernels rk__sparse_kernels_scalar = {
    "scalar",     scalar_find, scalar_add, scalar_add_node, scalar_reach,         scalar_largest,
    scalar_bound, scalar_fine, NULL,       rk__sparse_meet, rk__sparse_print_sum, rk__sparse_pass};

#if defined(__x86_64__)
static bool
has_avx512(void)
{
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

const rk__sparse_kernels *
rk__sparse_kernels_find(const char *name)
{
    if (strcmp(name, "scalar") == 0) {
        return &rk__sparse_kernels_scalar;
    }
#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0 && rk__kernels_find("avx512") && has_avx512()) {
        return &rk__sparse_kernels_avx512;
    }
    if (strcmp(name, "avx2") == 0 && rk__kernels_find("avx2")) {
        return &rk__sparse_kernels_avx2;
    }
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0 || strcmp(name, "neondot") == 0) {
        return &rk__sparse_kernels_neon;
    }
#endif
    return NULL;
}

/* Asked for by every search: what rk_kernels_init() found is not asked of the CPU again. */
const rk__sparse_kernels *
rk__sparse_kernels_get(void)
{
    const char *name = rk_kernels_name();

#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0) {
        return has_avx512() ? &rk__sparse_kernels_avx512 : &rk__sparse_kernels_avx2;
    }
    if (strcmp(name, "avx2") == 0) {
        return &rk__sparse_kernels_avx2;
    }
#elif defined(__aarch64__)
    if (strncmp(name, "neon", 4) == 0) {
        return &rk__sparse_kernels_neon;
    }
#endif
    RK_UNUSED(name);
    return &rk__sparse_kernels_scalar;
}
