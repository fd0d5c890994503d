/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C (polynomial 0x1EDC6F41, reflected 0x82F63B78), the checksum of every page and record we
 * write.
 *
 * Three forms: the SSE4.2 instruction, the ARMv8 instruction, and eight lookup tables of 256
 * entries for the rest ("slicing by eight"). The choice is made once. Part results chain:
 * crc(crc(0, a), b) = crc(0, ab).
 */
#include <pthread.h>

#include "base/base_private.h"
#include "base/util.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifdef __clang__
#define ARM_CRC      "crc"
#define ARM_CRC_WORD __builtin_arm_crc32cd
#define ARM_CRC_BYTE __builtin_arm_crc32cb
#else
#define ARM_CRC      "+crc"
#define ARM_CRC_WORD __builtin_aarch64_crc32cx
#define ARM_CRC_BYTE __builtin_aarch64_crc32cb
#endif
#endif

static uint32_t tables[8][256];
static rk__crc32c_fn chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t
crc_table(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;

    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word = rk_get_u64le(p) ^ crc;
        crc = tables[7][word & 0xFF] ^ tables[6][(word >> 8) & 0xFF] ^
              tables[5][(word >> 16) & 0xFF] ^ tables[4][(word >> 24) & 0xFF] ^
              tables[3][(word >> 32) & 0xFF] ^ tables[2][(word >> 40) & 0xFF] ^
              tables[1][(word >> 48) & 0xFF] ^ tables[0][word >> 56];
    }
    for (; len > 0; p++, len--) {
        crc = tables[0][(crc ^ *p) & 0xFF] ^ (crc >> 8);
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc_hardware(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t state = (uint32_t)~crc;

    for (; len >= 8; p += 8, len -= 8) {
        state = _mm_crc32_u64(state, rk_get_u64le(p));
    }
    uint32_t tail = (uint32_t)state;
    for (; len > 0; p++, len--) {
        tail = _mm_crc32_u8(tail, *p);
    }
    return ~tail;
}

static bool
has_hardware(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
__attribute__((target(ARM_CRC))) static uint32_t
crc_hardware(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t state = ~crc;

    for (; len >= 8; p += 8, len -= 8) {
        state = ARM_CRC_WORD(state, rk_get_u64le(p));
    }
    for (; len > 0; p++, len--) {
        state = ARM_CRC_BYTE(state, *p);
    }
    return ~state;
}

static bool
has_hardware(void)
{
    return (getauxval(AT_HWCAP) & (1u << 7)) != 0; /* HWCAP_CRC32 */
}
#else
static uint32_t
crc_hardware(uint32_t crc, const void *data, size_t len)
{
    return crc_table(crc, data, len);
}

static bool
has_hardware(void)
{
    return false;
}
#endif

static void
choose(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) ? 0x82F63B78u : 0u);
        }
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            tables[k][i] = tables[0][tables[k - 1][i] & 0xFF] ^ (tables[k - 1][i] >> 8);
        }
    }
    chosen = has_hardware() ? crc_hardware : crc_table;
}

rk__crc32c_fn
rk__crc32c_table(void)
{
    pthread_once(&once, choose);
    return crc_table;
}

rk__crc32c_fn
rk__crc32c_hardware(void)
{
    return has_hardware() ? crc_hardware : NULL;
}

uint32_t
rk_crc32c(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&once, choose);
    return chosen(crc, data, len);
}
