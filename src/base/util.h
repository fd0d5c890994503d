/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums, hashes, half-precision numbers, and named fault points for crash tests.
 */
#ifndef RK_BASE_UTIL_H
#define RK_BASE_UTIL_H

#include "base/slice.h"

/* CRC32C (Castagnoli), hardware when the CPU has it. Start with |crc| 0; feed parts in order. */
uint32_t rk_crc32c(uint32_t crc, const void *data, size_t len);

/* xxHash64 (XXH3, seed 0): hash tables and shard choice of text keys. Stable across versions: it is
 * on disk. */
uint64_t rk_hash64(const void *data, size_t len);
/* A bijective mix of an integer key (splitmix64 finaliser). Stable across versions. */
static inline uint64_t
rk_hash_u64(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

float rk_f16_to_f32(uint16_t h);
uint16_t rk_f32_to_f16(float f); /* round to nearest even */
static inline float
rk_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}
uint16_t rk_f32_to_bf16(float f); /* round to nearest even, NaN stays NaN */

/*
 * Named fault points: RK_FAULT("wal.append.before_sync") marks a place where a crash test may kill
 * the process or make the call fail. Set by the environment variable REDKITE_FAULT, a
 * comma-separated list of name:nth:action with action `kill` (SIGKILL to ourselves), `error`
 * (RK_EIO) or `full` (RK_EDISK_FULL). An action of `error` or `full` applies to the |nth| pass
 * only; `error+` and `full+` to it and all later ones. Costs one relaxed load when unset. Returns
 * RK_OK unless the point fires with an error.
 */
extern bool rk_fault_armed; /* set once in main() */
rk_code rk_fault_hit(const char *name);
#define RK_FAULT(name) (RK_UNLIKELY(rk_fault_armed) ? rk_fault_hit(name) : RK_OK)
/* Reads REDKITE_FAULT and also the file named by REDKITE_FAULT_FILE, re-read whenever it changes.
 * Start-up only. */
void rk_fault_init(void);

#endif
