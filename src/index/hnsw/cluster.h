/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linking the ground of a graph by clusters: what hnsw/cluster.c (centres, members, the whole) and
 * hnsw/links.c (links) share.
 *
 * Threads: a job belongs to one thread, which spreads its steps over those of the options; a step
 * writes what belongs to its own nodes, or counts atomically.
 */
#ifndef RK_INDEX_HNSW_CLUSTER_H
#define RK_INDEX_HNSW_CLUSTER_H

#include "index/hnsw/build.h"
#include "index/hnsw/nearest.h"
#include "index/hnsw/tile.h"

#define RK__GROUND_CHUNK   256u
#define RK__GROUND_PACK    RK__TILE_ROWS
#define RK__GROUND_REVERSE 32u /* nodes that chose one: so many are remembered */

typedef struct rk__ground_job {
    const rk_index *index;
    rk__hnsw *graph;
    const rk_build_options *options;
    const uint32_t *nodes; /* rows */
    uint32_t n;
    const uint8_t *fresh; /* per row: is to be linked; NULL: all */
    uint32_t n_fresh;
    uint32_t k;     /* clusters */
    uint32_t probe; /* clusters a node is compared with */
    uint32_t keep;  /* nearest nodes it chooses its links among */
    size_t dim;     /* bytes of a code, */
    size_t lead;    /* and the leading ones that nodes are compared with members by */
    rk__tile_fn tile;

    int8_t *centres;      /* k codes */
    int8_t *centre_packs; /* k rounded up to 32 */
    int32_t *centre_norms;
    const uint32_t *sample; /* rows to assign, and what to fill: */
    uint32_t n_sample;
    uint32_t n_near;
    uint32_t *nearest; /* n_near per sample row, nearest first */

    int32_t *code_norms; /* per row: squared length of its code */

    uint32_t *near;       /* |probe| per fresh node, nearest first */
    uint32_t *members;    /* rows by cluster */
    uint32_t *order;      /* the same as places in |nodes| */
    uint32_t *asked;      /* places of fresh members; NULL: all */
    uint32_t *near_of;    /* per place in |nodes|, of fresh ones: which of |near|; NULL: the same */
    uint32_t *start;      /* k + 1 */
    uint32_t *pack_start; /* of each cluster, in packs; k + 1 */
    int8_t *packs;
    int32_t *norms;
    uint32_t *pack_rows; /* row of each place of a pack */

    uint32_t *reverse;         /* RK__GROUND_REVERSE per row: who chose it */
    _Atomic(uint32_t) *turned; /* per row: how many */
    uint32_t
        *offered; /* RK__GROUND_REVERSE per row: fresh nodes that have it among their nearest */
    _Atomic(uint32_t) *offers; /* per row: how many */
    bool join_fresh;
    uint32_t rank;

    _Atomic(bool) out_of_memory;
    _Atomic(bool) cancelled;
} rk__ground_job;

static inline bool
rk__ground_stopped(rk__ground_job *job)
{
    if (rk__cancelled(job->options)) {
        atomic_store(&job->cancelled, true);
    }
    return atomic_load(&job->cancelled) || atomic_load(&job->out_of_memory);
}

static inline const int8_t *
rk__ground_code(const rk__ground_job *job, uint32_t row)
{
    return job->graph->codes.data + (size_t)row * job->graph->codes.stride;
}

static inline const uint32_t *
rk__ground_near(const rk__ground_job *job, uint32_t node)
{
    return job->near + (size_t)(job->near_of ? job->near_of[node] : node) * job->probe;
}

/* The place of the |i|th fresh node among the members. */
static inline uint32_t
rk__ground_asked(const rk__ground_job *job, uint32_t i)
{
    return job->asked ? job->asked[i] : i;
}

RK_MUST_CHECK rk_code rk__ground_state(const rk__ground_job *job, rk_err *err);
/* Compares up to 8 biased queries with packs [from, to) of |dim| bytes a row, whose places are
 * numbered through |numbers| (NULL: by place). */
void rk__ground_compare(const rk__ground_job *job, const uint8_t *const queries[RK__TILE_QUERIES],
                        uint32_t m, rk__nearest *const best[RK__TILE_QUERIES], const int8_t *packs,
                        const int32_t *norms, size_t dim, const uint32_t *numbers, size_t from,
                        size_t to);

/* ---- hnsw/links.c ---- */

/* Links fresh nodes to the nearest members of their clusters, both ways. */
RK_MUST_CHECK rk_code rk__ground_link(rk__ground_job *job, rk_err *err);

#endif
