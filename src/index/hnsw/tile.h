/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distances of many 8-bit codes to many others: 8 queries against 32 rows at a time, as a matrix
 * product. 32 rows are packed by components: group g of four components is 128 bytes, four
 * consecutive ones for each row. Queries are biased to unsigned (code + 128), so that one
 * instruction multiplies and adds four pairs; the bias is taken out again through the row's norm.
 *
 * All sums are exact in 32 bits for up to 32,768 components.
 *
 * Pure functions over the caller's memory; any thread.
 */
#ifndef RK_INDEX_HNSW_TILE_H
#define RK_INDEX_HNSW_TILE_H

#include "index/index_private.h"

#define RK__TILE_ROWS    32u
#define RK__TILE_QUERIES 8u

typedef struct rk__tile_result {
    int32_t keys[RK__TILE_QUERIES][RK__TILE_ROWS]; /* squared distance - squared norm of the query;
                                                      undefined where the bound is INT32_MIN */
    uint32_t below[RK__TILE_QUERIES];              /* rows whose key is under the query's bound */
} rk__tile_result;

/* |n| is a multiple of 64. bounds are keys. */
typedef void (*rk__tile_fn)(const uint8_t *const queries[RK__TILE_QUERIES],
                            const int32_t bounds[RK__TILE_QUERIES], const int8_t *pack,
                            const int32_t norms[RK__TILE_ROWS], size_t n, rk__tile_result *out);

/* The fastest this CPU runs, under the same mask as the kernels. */
rk__tile_fn rk__tile_get(void);
/* That of a kernel table, which this CPU must be able to run. For tests. */
rk__tile_fn rk__tile_of(const char *kernels);

/* Packs up to 32 rows; missing ones get a norm so large that they are never below a bound. */
void rk__tile_pack(const int8_t *const *rows, size_t n_rows, size_t n, int8_t *pack,
                   int32_t norms[RK__TILE_ROWS]);
/* Biases a query and returns its squared norm. */
int32_t rk__tile_query(const int8_t *code, size_t n, uint8_t *out);

/* Inner products of one code with 16 others, all of their components in -127..127; |n| is a
 * multiple of 64. */
#define RK__TILE_DOTS 16u
typedef void (*rk__tile_dots_fn)(const int8_t *query, const int8_t *const rows[RK__TILE_DOTS],
                                 size_t n, int32_t dots[RK__TILE_DOTS]);
rk__tile_dots_fn rk__tile_dots_get(void);
rk__tile_dots_fn rk__tile_dots_of(const char *kernels);

/* What rk__bits_encode() needs of a code and that of its centre (rk__bits_sums_fn in
 * kernel/kernel.h), in integers; |n| is a multiple of 64. */
typedef void (*rk__tile_sums_fn)(const int8_t *row, const int8_t *centre, size_t n, uint8_t *signs,
                                 int32_t sums[4]);
/* NULL: on this CPU the kernel for floats is as fast. */
rk__tile_sums_fn rk__tile_sums_get(void);
rk__tile_sums_fn rk__tile_sums_of(const char *kernels);

/* |n| components as floats; n is a multiple of 64, |out| 64-byte aligned. */
void rk__tile_widen(const int8_t *code, size_t n, float *out);

#endif
