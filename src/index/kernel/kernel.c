/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choice of the kernel table. The CPU's flags decide, and the environment variable REDKITE_CPU
 * (scalar, avx2, avx512, neon, neondot) can lower the choice, never raise it. The avx512 table
 * needs F, BW, DQ, VL, VNNI and VPOPCNTDQ together (Ice Lake, Zen 4 and later): a CPU that has only
 * some of them runs the avx2 table, which is as fast there.
 */
#include "index/kernel/kernel.h"

#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const rk__kernels *kernels_in_use =
    &rk__kernels_scalar; /* written once, by rk_kernels_init() */

#if defined(__x86_64__)
static bool
cpu_has_avx2(void)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));

    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool
cpu_has_avx512(void)
{
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

const rk__kernels *
rk__kernels_find(const char *name)
{
    if (strcmp(name, "scalar") == 0) {
        return &rk__kernels_scalar;
    }
#if defined(__x86_64__)
    if (strcmp(name, "avx2") == 0 && cpu_has_avx2()) {
        return &rk__kernels_avx2;
    }
    if (strcmp(name, "avx512") == 0 && cpu_has_avx512()) {
        return &rk__kernels_avx512;
    }
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0) {
        return &rk__kernels_neon;
    }
    if (strcmp(name, "neondot") == 0 && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)) {
        return &rk__kernels_neondot;
    }
#endif
    return NULL;
}

void
rk_kernels_init(void)
{
    static const char *const best_first[] = {"avx512", "avx2", "neondot", "neon", "scalar"};
    const char *mask = getenv("REDKITE_CPU");
    const rk__kernels *found = mask ? rk__kernels_find(mask) : NULL;

    for (size_t i = 0; !found && i < RK_COUNT(best_first); i++) {
        found = rk__kernels_find(best_first[i]);
    }
    kernels_in_use = found;
}

const rk__kernels *
rk__kernels_get(void)
{
    return kernels_in_use;
}

const char *
rk_kernels_name(void)
{
    return kernels_in_use->name;
}
