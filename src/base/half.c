/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Half-precision (IEEE binary16) and bfloat16 conversions, one number at a time, and the text hash.
 *
 * Written with integers so that they give the same bits on every CPU and compiler; the vector
 * kernels have their own fast forms and are tested against these. Rounding is to nearest, ties to
 * even.
 */
#include <xxhash.h>

#include "base/util.h"

static float
float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t
bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

float
rk_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1Fu;
    uint32_t fraction = h & 0x3FFu;

    if (exponent == 0x1F) {
        return float_of(sign | 0x7F800000u | (fraction << 13));
    }
    if (exponent != 0) {
        return float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
    }
    /* zero or subnormal: fraction * 2^-24, exact in a float */
    float magnitude = (float)fraction * 0x1p-24f;
    return float_of(sign | bits_of(magnitude));
}

uint16_t
rk_f32_to_f16(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;

    if (magnitude > 0x7F800000u) {
        return (uint16_t)(sign | 0x7E00u | ((magnitude >> 13) & 0x1FFu)); /* quiet NaN */
    }
    if (magnitude >= 0x47800000u) { /* 65536 and above, infinity */
        return (uint16_t)(sign | 0x7C00u);
    }
    if (magnitude >= 0x38800000u) { /* normal in half precision */
        uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
        return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13)); /* may round up to infinity */
    }
    if (magnitude < 0x33000000u) { /* below half of the smallest subnormal */
        return (uint16_t)sign;
    }
    uint32_t exponent = magnitude >> 23;
    uint32_t fraction = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t shift = 126u - exponent; /* 14..24: fraction * 2^(exponent-150) in units of 2^-24 */
    uint32_t whole = fraction >> shift;
    uint32_t rest = fraction & ((1u << shift) - 1u);
    uint32_t half = 1u << (shift - 1u);
    if (rest > half || (rest == half && (whole & 1u))) {
        whole++;
    }
    return (uint16_t)(sign | whole);
}

uint16_t
rk_f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);

    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

uint64_t
rk_hash64(const void *data, size_t len)
{
    return XXH3_64bits(len ? data : "", len);
}
