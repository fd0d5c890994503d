/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain loops, and the choice between them and those of kernel_x86.c. A loop writes 64 bytes of
 * 0 or 1, which compilers turn into vector code, and rk__pack() folds them into a word with eight
 * multiplies.
 */
#include "filter/kernel.h"

#include <stdatomic.h>
#include <stdlib.h>

#define RANGE(name, type, member)                                                                  \
    static void name(const void *x, size_t words, const rk__range *r, uint64_t *out)               \
    {                                                                                              \
        type lo = (type)r->member##_lo;                                                            \
        type hi = (type)r->member##_hi;                                                            \
        for (size_t w = 0; w < words; w++) {                                                       \
            uint8_t bytes[64];                                                                     \
            type values[64];                                                                       \
            memcpy(values, (const char *)x + w * sizeof(values), sizeof(values));                  \
            for (unsigned i = 0; i < 64; i++) {                                                    \
                bytes[i] = (uint8_t)((values[i] >= lo) & (values[i] <= hi));                       \
            }                                                                                      \
            out[w] = rk__pack(bytes);                                                              \
        }                                                                                          \
    }

RANGE(range_i8, int8_t, i)
RANGE(range_i16, int16_t, i)
RANGE(range_i32, int32_t, i)
RANGE(range_i64, int64_t, i)
RANGE(range_f32, float, f)
RANGE(range_f64, double, f)

static void
lengths(const uint64_t *offsets, size_t words, uint64_t lo, uint64_t hi, uint64_t *out)
{
    for (size_t w = 0; w < words; w++) {
        const uint64_t *at = offsets + w * 64;
        uint8_t bytes[64];
        for (unsigned i = 0; i < 64; i++) {
            bytes[i] = (uint8_t)(at[i + 1] - at[i] - lo <= hi - lo);
        }
        out[w] = rk__pack(bytes);
    }
}

static void
trios(const char *p, size_t words, const char *want, size_t last, uint64_t *out)
{
    size_t middle = last / 2;
    char a = want[0];
    char b = want[middle];
    char c = want[last];

    for (size_t w = 0; w < words; w++, p += 64) {
        uint8_t bytes[64];
        for (unsigned i = 0; i < 64; i++) {
            bytes[i] = (uint8_t)((p[i] == a) & (p[i + middle] == b) & (p[i + last] == c));
        }
        out[w] = rk__pack(bytes);
    }
}

static inline uint64_t
equal(const char *p, char c, char fold)
{
    uint8_t bytes[64];
    for (unsigned i = 0; i < 64; i++) {
        bytes[i] = (uint8_t)((p[i] | fold) == c);
    }
    return rk__pack(bytes);
}

#define TARGET
#define JSON_KEY           json_key
#define JSON_END           json_end
#define EQUAL(p, c)        equal(p, c, 0)
#define EQUAL_FOLDED(p, c) equal(p, c, 0x20)
#include "filter/kernel_json.h"

const rk__filter_kernels rk__filter_kernels_scalar = {
    "scalar", {range_i8, range_i16, range_i32, range_i64, range_f32, range_f64},
    lengths,  trios,
    json_key, json_end,
};

/* ---- choice ---- */

static _Atomic(const rk__filter_kernels *) in_use; /* relaxed: whoever comes first makes the same */

const rk__filter_kernels *
rk__filter_kernels_find(const char *name)
{
    if (strcmp(name, "scalar") == 0) {
        return &rk__filter_kernels_scalar;
    }
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                __builtin_cpu_supports("popcnt");
    if (strcmp(name, "avx2") == 0 && avx2) {
        return &rk__filter_kernels_avx2;
    }
    if (strcmp(name, "avx512") == 0 && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        return &rk__filter_kernels_avx512;
    }
#endif
    return NULL;
}

static const rk__filter_kernels *
choose(void)
{
    static const char *const best_first[] = {"avx512", "avx2", "scalar"};
    const char *mask = getenv("REDKITE_CPU");
    const rk__filter_kernels *found = mask ? rk__filter_kernels_find(mask) : NULL;

    for (size_t i = 0; !found && i < RK_COUNT(best_first); i++) {
        found = rk__filter_kernels_find(best_first[i]);
    }
    return found;
}

const rk__filter_kernels *
rk__filter_kernels_get(void)
{
    const rk__filter_kernels *kernels = atomic_load_explicit(&in_use, memory_order_relaxed);

    if (RK_UNLIKELY(!kernels)) {
        kernels = choose();
        atomic_store_explicit(&in_use, kernels, memory_order_relaxed);
    }
    return kernels;
}

void
rk__filter_kernels_use(const rk__filter_kernels *kernels)
{
    atomic_store_explicit(&in_use, kernels, memory_order_relaxed);
}
