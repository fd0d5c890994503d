/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All rows of an index coded by one codec, found by row number: what a graph walks on when it is
 * not the vectors, and what refine_type asks for. Private to this folder.
 *
 * L2 rows are coded relative to their mean, COSINE rows are divided by their norm and then as L2,
 * IP rows are coded as they are. Keys are estimates on the codes, smaller is nearer: squared
 * distances (COSINE: of the normalised vectors, 2 - 2 cos) or negated products. Rows with NaN or
 * infinity have the key +infinity.
 *
 * Three image sections, at |id| and the two numbers after it: shape (u32 codec, m, nbits, nrq, 48
 * zero bytes, dim floats of the mean padded to 64 bytes, tables of the codec), codes, and factors
 * (two floats a row: add, mul; see code/codec.h).
 *
 * Threads: immutable once built or opened; a query is one thread's.
 */
#ifndef RK_INDEX_CODED_H
#define RK_INDEX_CODED_H

#include "index/code/codec.h"

typedef struct rk__coded_shape {
    rk__codec_id id;
    uint32_t m;
    uint32_t nbits;
    uint32_t nrq;
} rk__coded_shape;

typedef struct rk__coded {
    rk__codec codec; /* id RK__CODEC_NONE: there are no codes */
    const float *mean;
    const uint8_t *codes;
    const float *factors;
    const void *shape; /* the first section */
    size_t shape_bytes;
    void *owned[3]; /* shape, codes, factors; NULL when mapped */
} rk__coded;

/* The vector of a row that is coded, before any mean is taken off. False when it is not finite. */
bool rk__coded_source(const rk__space *space, const void *row, float inv_norm, float *out);

/* Norms must be there (rk__index_norms). Charged to the index. RK_ENOMEM, RK_ECANCELLED; what was
 * made so far is freed by rk__coded_free(). */
RK_MUST_CHECK rk_code rk__coded_build(rk__coded *coded, rk_index *index,
                                      const rk__coded_shape *shape, const rk_build_options *options,
                                      rk_err *err);
void rk__coded_free(rk__coded *coded);
/* Nothing when there are no codes. */
void rk__coded_sections(const rk__coded *coded, size_t rows, uint32_t id, rk__sections *out);
RK_MUST_CHECK rk_code rk__coded_open(rk__coded *coded, const rk__space *space,
                                     const rk__sections *sections, uint32_t id, rk_err *err);

typedef struct rk__coded_query {
    const rk__coded *coded;
    rk__codec_query query;
    float extra;
} rk__coded_query;

size_t rk__coded_query_bytes(const rk__coded *coded);
/* |memory| is 64-byte aligned. False when the query is not finite. */
bool rk__coded_query_init(rk__coded_query *out, const rk__coded *coded, const rk__space *space,
                          const rk__query *query, void *memory);
/* The row itself is the query. */
bool rk__coded_query_row(rk__coded_query *out, const rk__coded *coded, const rk__space *space,
                         uint32_t row, void *memory);
/* Keys of rows given by number. */
void rk__coded_keys(const rk__coded_query *query, const uint32_t *rows, size_t n, float *keys);

/*
 * The refinement of a search: of |n| candidates sorted or not, the best |keep| by codes of
 * refine_type, into the front of |items|; all |n| stay when there are no codes or n <= keep.
 */
RK_MUST_CHECK rk_code rk__coded_refine(const rk__coded *coded, const rk__space *space,
                                       const rk__query *query, rk__near *items, uint32_t *n,
                                       uint32_t keep, rk_arena *arena, rk_err *err);

#endif
