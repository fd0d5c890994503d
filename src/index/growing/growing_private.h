/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A code set of growing/growing.h as its writer and its readers see it.
 *
 * With P the rotation, every row x is coded as r = P(x) - origin - centre: |origin| is one point
 * for all sets of a segment (the mean of its first rows; zero under IP), so that a query has one
 * set of tables, and |centre| is the set's own. COSINE codes the normalised row.
 *
 *   block   padded * 4 bytes of codes, then 32 f32 each: add, mul, error
 *   record  padded / 2 bytes: the components of r on 16 levels, laid out for nibble_ip
 * (kernel/kernel.h)
 *
 * Estimates live in one space: L2 the squared distance; COSINE that of the normalised vectors,
 * twice the key plus two; IP the key itself. With u = P(y) - origin of a query y:
 *
 *   by bits    extra + add + mul * S,             off by about error * |u - centre|
 *   by record  extra + factors.add + factors.mul * <record, u>,  factors.error * |u - centre|
 *   extra      |u - centre|^2, or -<centre, u> under IP
 *
 * A row that is not finite, or too large to be told apart, has add -infinity: always scored.
 */
#ifndef RK_INDEX_GROWING_PRIVATE_H
#define RK_INDEX_GROWING_PRIVATE_H

#include "index/growing/growing.h"
#include "index/kernel/bits.h"

typedef struct rk__growing_factors {
    float add;
    float mul;
    float error;
    float zero;
} rk__growing_factors;

struct rk_growing_codes {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    unsigned shift; /* rows of the chunk = 1 << shift */
    rk__rotation rotation;
    size_t block_bytes;
    const float *origin;          /* padded; the first set's own */
    float *centre;                /* padded */
    float *most;                  /* per block: the largest error */
    rk__growing_factors *factors; /* per row */
    uint8_t *blocks;
    uint8_t *records;
};

/* A vector as it is coded, less the centre: |out| has padded components, and so has the scratch
 * |wide|. False: not finite. */
bool rk__growing_point(const rk_growing_codes *codes, const rk__space *space, const void *vector,
                       float inv_norm, float *wide, float *out);

static inline const uint8_t *
rk__growing_record(const rk_growing_codes *codes, size_t row)
{
    return codes->records + row * (codes->rotation.padded / 2);
}

#endif
