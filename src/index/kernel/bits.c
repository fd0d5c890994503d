/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-bit codes, see kernel/bits.h. With r = P(x - c), the estimate of <r, u> from the signs of r
 * alone is
 *
 *   <r, u>  is about  f * sum of sign_i * u_i,  f = |r|^2 / sum |r_i|
 *
 * which is exact for u = r and unbiased over the random P. For u = P(y - c) the sum splits into the
 * query's S and a constant of the row, which goes into |add|.
 *
 * Table entries take 6 bits: the error of rounding is then well under a tenth of the error of the
 * signs themselves. The bias is chosen so that rounding does not shift the mean over all codes.
 */
#include "index/kernel/bits.h"

#define ENTRY_MAX 63.0f

rk__rotation
rk__rotation_of(uint32_t dim, uint64_t seed)
{
    return (rk__rotation){
        .dim = dim,
        .padded = RK_MAX((dim + 63) / 64 * 64, 64u),
        .seed = seed,
    };
}

void
rk__rotate(const rk__rotation *rotation, const float *in, float *out)
{
    memcpy(out, in, rotation->dim * sizeof(*out));
    memset(out + rotation->dim, 0, (rotation->padded - rotation->dim) * sizeof(*out));
    rk__kernels_get()->rotate(out, rotation->padded, rotation->seed);
}

void
rk__bits_encode(rk_metric metric, const float *row, const float *centre, uint32_t padded,
                uint8_t *signs, float *add, float *mul)
{
    float sums[4];

    rk__kernels_get()->bits_sums(row, centre, padded, signs, sums);
    rk__bits_factors(metric, sums, add, mul);
}

void
rk__bits_factors(rk_metric metric, const float sums[4], float *add, float *mul)
{
    float f = sums[1] > 0 ? sums[0] / sums[1] : 0.0f;
    if (metric == RK_METRIC_IP) {
        *add = f * sums[2] - sums[3];
        *mul = -f;
    } else {
        *add = sums[0] + 2 * f * sums[2];
        *mul = -2 * f;
    }
}

void
rk__bits_place(const uint8_t *signs, uint32_t padded, uint32_t slot, uint8_t *block)
{
    unsigned shift = slot < 16 ? 0 : 4;
    unsigned keep = slot < 16 ? 0xf0 : 0x0f;
    uint8_t *at = block + slot % 16;

    for (size_t byte = 0; byte < padded / 8; byte++) {
        unsigned bits = signs[byte];
        at[byte * 32] = (uint8_t)((at[byte * 32] & keep) | (bits & 15) << shift);
        at[byte * 32 + 16] = (uint8_t)((at[byte * 32 + 16] & keep) | (bits >> 4) << shift);
    }
}

void
rk__bits_query_init(rk__bits_query *out, const float *query, uint32_t padded)
{
    const rk__kernels *kernels = rk__kernels_get();
    size_t groups = rk__bits_groups(padded);
    float span = kernels->bits_span(query, padded);
    float scale = ENTRY_MAX / 2 / span;
    bool large = !isfinite(span * (float)groups * 64);

    if (large || !isfinite(scale)) { /* out of range or not finite; zeros or tiny values */
        memset(out->lut, 0, groups * 16);
        out->unit = 0;
        out->bias = large ? NAN : 0.0f;
        return;
    }
    uint32_t total = kernels->bits_tables(query, groups, scale, out->lut);
    out->unit = 1 / scale;
    out->bias = -out->unit * ((float)total / 16);
}
