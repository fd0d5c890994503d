/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-bit codes of vectors and the random rotation before them: RaBitQ (Gao & Long, SIGMOD 2024,
 * section 3), laid out in blocks of 32 rows so that one pass of table look-ups scores all of them
 * (FastScan: André, Kermarrec, Le Scouarnec, VLDB 2015; the signs of four components are one
 * group).
 *
 * A row x is coded relative to a centre c. Let r = P(x - c), P the rotation, padded to |padded|
 * components. The code is the signs of r; the two factors |add| and |mul| hold what is known of r
 * beside them, so that for a query y with S = sum of sign_i * (P y)_i
 *
 *   L2:  |x - y|^2   is about  add + mul * S + |y - c|^2
 *   IP: -<x, y>      is about  add + mul * S - <c, y>
 *
 * unbiased, with an error that falls with sqrt(padded). S does not depend on the centre: one query
 * table serves all centres. COSINE uses L2 on normalised vectors.
 *
 * A block is groups * 16 bytes, groups = padded / 4: byte j of group g holds the group's four sign
 * bits of row j in its low nibble and of row j + 16 in its high nibble (bit i: component 4 g + i is
 * not negative). The layout is the same for every instruction set, in memory and on disk.
 *
 * Pure functions over the caller's memory; any thread.
 */
#ifndef RK_INDEX_BITS_H
#define RK_INDEX_BITS_H

#include "index/index_private.h"

#define RK__BITS_ROWS 32u /* rows of a block */

/* An orthogonal transform: rounds of random signs and Walsh-Hadamard transforms over overlapping
 * powers of two, as deterministic as its seed. Only dim and seed are saved. */
typedef struct rk__rotation {
    uint32_t dim;
    uint32_t padded; /* dim rounded up to a multiple of 64, at least 64 */
    uint64_t seed;
} rk__rotation;

rk__rotation rk__rotation_of(uint32_t dim, uint64_t seed);
/* |in| has dim components, |out| padded, 64-byte aligned; they do not overlap. */
void rk__rotate(const rk__rotation *rotation, const float *in, float *out);

static inline size_t
rk__bits_groups(uint32_t padded)
{
    return padded / 4;
}

static inline size_t
rk__bits_block_bytes(uint32_t padded)
{
    return (size_t)padded / 4 * 16;
}

/* Codes one row: |row| and |centre| are rotated. Writes padded / 8 bytes of sign bits (component 0
 * in bit 0 of byte 0) and the factors. Metric L2 or IP. */
void rk__bits_encode(rk_metric metric, const float *row, const float *centre, uint32_t padded,
                     uint8_t *signs, float *add, float *mul);
/* The factors from |r|^2, sum |r|, sum sign * c and <r, c> of a row, r being row - centre. */
void rk__bits_factors(rk_metric metric, const float sums[4], float *add, float *mul);
/* Puts a row's signs into place |slot| (0..31) of a block, whose other places stay. */
void rk__bits_place(const uint8_t *signs, uint32_t padded, uint32_t slot, uint8_t *block);

/* A query's tables: S of a row = unit * (sum of its table entries) + bias. */
typedef struct rk__bits_query {
    uint8_t *lut; /* groups * 16 bytes, 64-byte aligned, the caller's memory */
    float unit;
    float bias;
} rk__bits_query;

/* |query| is rotated; |lut| in |out| is set by the caller. A query that is not finite, or whose
 * components are so large that a sum of them could not be held (1e34), matches nothing: its
 * estimates are NaN. */
void rk__bits_query_init(rk__bits_query *out, const float *query, uint32_t padded);

/*
 * The kernel, in every table: rk__kernels.scan32_low for tables of rk__bits_query_init(), whose
 * entries are at most 63; rk__kernels.scan32, a fifth slower, for any other. For each of the 32
 * rows of |block|,
 *
 *   est[i] = add[i] + mul[i] * (unit * sum_i + bias) + extra
 *
 * with sum_i the exact integer sum of |groups| table entries; returns the mask of rows with
 * est[i] < below (NaN never). est may be up to one rounding apart between instruction sets.
 */

#endif
