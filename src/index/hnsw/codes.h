/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A graph walked on the codes of a codec: HNSW_SQ, HNSW_PQ and HNSW_PRQ, private to this folder.
 *
 * The graph is built as for HNSW and only its ground level is kept, as plain lists of row numbers,
 * with a few rows to start from; a walk begins at the nearest of these. What it reads per
 * neighbour is the code and two factors (code/coded.h), so memory is links plus codes. The best
 * candidates are scored again by the codes of refine_type, if any, and the last ones by the
 * vectors.
 *
 * As in HNSW, rows with equal bytes are one node with the others chained to it, and rows with NaN
 * or infinity are not linked; every search scores these by their vectors.
 *
 * Threads: immutable once built; a search keeps all its state in the request's arena.
 */
#ifndef RK_INDEX_HNSW_CODES_H
#define RK_INDEX_HNSW_CODES_H

#include "index/code/coded.h"
#include "index/params.h"

#define RK__HNSWC_HEAD_BYTES  64u
#define RK__HNSWC_ENTRIES_MAX 64u

typedef struct rk__hnswc {
    uint32_t stride;    /* links of a row; a list ends at the first number that is no row */
    uint32_t n_entries; /* at most RK__HNSWC_ENTRIES_MAX; 0: nothing is linked */
    uint32_t n_outside;
    bool refined; /* built with refine: refine_k counts, |refine| may be the vectors themselves */

    const uint32_t *links; /* rows * stride */
    const uint32_t *entries;
    const uint32_t *outside; /* rows that are not finite */
    const uint32_t *chain;   /* next row with equal bytes, above its own number; NULL: none */
    rk__coded coded;
    rk__coded refine;

    uint8_t head[RK__HNSWC_HEAD_BYTES];
    void *owned[4]; /* links, entries, outside, chain */
} rk__hnswc;

rk_code rk__hnswc_build(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__hnswc_search(const rk_index *index, const rk__query *query,
                         const rk_search_options *options, rk__heap *heap, rk_err *err);

#endif
