/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inner loops of the codecs (code/codec.h): products of a short vector with a table of centres, the
 * nearest of them, sums of table entries, and packed codes to bytes.
 *
 * Written once with vector types of the compiler and compiled per instruction set; the choice
 * follows rk_kernels_init(). Results may differ in the last bits between instruction sets, packed
 * codes never do. Plain functions over the caller's memory; any thread.
 *
 * A table of |n| centres of |dim| components is stored by component: table[d * n + j] is component
 * d of centre j. |n| is a multiple of 16.
 */
#ifndef RK_INDEX_CODEC_MATH_H
#define RK_INDEX_CODEC_MATH_H

#include "index/index.h"

typedef struct rk__codec_math {
    /* out[j] = sum over d of v[d] * table[d * n + j] */
    void (*dots)(const float *v, const float *table, uint32_t dim, uint32_t n, float *out);
    /* The centre with the least half[j] - <v, centre j>, the first of equals; 0 when all are NaN.
     * |scratch| has room for |n|. */
    uint32_t (*nearest)(const float *v, const float *table, const float *half, uint32_t dim,
                        uint32_t n, float *scratch);
    /* |n| is a multiple of 64: for each 64, 32 bytes with the low four bits, component i in the low
     * and i + 32 in the high half, and 16 bytes with the two high bits of components i, i + 16,
     * i + 32, i + 48. */
    void (*unpack6)(const uint8_t *packed, size_t n, int8_t *out);
} rk__codec_math;

const rk__codec_math *rk__codec_math_get(void);

#endif
