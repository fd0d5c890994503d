/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codes of rows that are still arriving: what makes a growing segment cheap to search before it has
 * an index.
 *
 * A growing segment keeps its vectors in chunks of one size, a power of two. Beside a chunk stands
 * one code set, filled from the front as rows arrive, never changed behind that: per row a one-bit
 * code (kernel/bits.h), a 4-bit record and the errors of both, relative to a centre near the mean
 * of the chunk. 16 % of the bytes of f32 vectors at 768 dimensions, 21 % at 128.
 *
 * A search estimates all rows from their bits, those that may be among the k best from their
 * records, and scores those that still may be on the vectors. An error is known per row, so what is
 * left out is left out by a bound that holds nearly always: recall is above 0.99, and data whose
 * codes say little cost more rather than recall. Scores are those of exact search, to the bit.
 *
 * Threads: one writer fills a set while any number of readers search the rows that were published
 * to them; whoever owns the sets publishes a row count (release) after rk_growing_codes_add() and
 * readers take it (acquire).
 */
#ifndef RK_INDEX_GROWING_H
#define RK_INDEX_GROWING_H

#include "index/index.h"

#define RK_GROWING_STEP 64u /* rows are coded by so many */

typedef struct rk_growing_codes rk_growing_codes;

/* Whether rows of this kind can have codes: float vectors of 32 dimensions or more under L2, IP or
 * COSINE. */
bool rk_growing_codable(rk_vector_type type, rk_metric metric, uint32_t dim);

/* What a set for a chunk of |rows| takes, for the budget. */
uint64_t rk_growing_codes_bytes(uint32_t dim, size_t rows);
/*
 * A set for a chunk of |rows|, a power of two and multiple of RK_GROWING_STEP, of a codable kind.
 * |before| is that of the chunk in front, which must outlive this one; NULL for the first. The
 * first |ready| rows at |vectors| say where the centre is; at least one. NULL: memory is out.
 */
rk_growing_codes *rk_growing_codes_new(const rk_vectors *vectors, rk_metric metric, size_t rows,
                                       const rk_growing_codes *before) RK_MUST_CHECK;
void rk_growing_codes_free(rk_growing_codes *codes);
/* Codes rows [from, to) of the chunk whose vectors begin at |vectors|, both multiples of
 * RK_GROWING_STEP; those before |from| were coded before. RK_ENOMEM: nothing was coded. */
RK_MUST_CHECK rk_code rk_growing_codes_add(rk_growing_codes *codes, const void *vectors,
                                           size_t from, size_t to);

/* A chunk with its codes, and how many of its rows are coded and to be searched. */
typedef struct rk_growing_chunk {
    const rk_growing_codes *codes;
    const void *vectors; /* all the chunk's rows */
    size_t rows;
} rk_growing_chunk;

/*
 * The nearest coded rows of |chunks|, merged into |hits| as rk_flat_search() does. chunks[i] is the
 * i-th of the segment, its first row numbered i times the rows of a chunk; all are of one kind.
 * Rows that are scored exactly belong into |hits| before, since they spare work here.
 */
RK_MUST_CHECK rk_code rk_growing_search(const rk_growing_chunk *chunks, size_t n_chunks,
                                        const void *query, size_t query_len,
                                        const rk_search_options *options, rk_hit *hits, uint32_t *n,
                                        rk_err *err);

#endif
