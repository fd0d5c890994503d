/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What building a graph (hnsw/build.c, hnsw/cluster.c) and taking one over (hnsw/merge.c) share:
 * the state of a build, its steps, and the rules by which links are chosen.
 *
 * A build: rk__hnsw_builder_init(), rows set aside and chained, codes, levels and order,
 * rk__hnsw_builder_links(), rk__hnsw_insert() for the nodes that are linked by insertion,
 * rk__hnsw_cluster_ground() for the ground where there are codes, rk__hnsw_builder_finish().
 *
 * Threads: a builder belongs to one thread, which spreads steps over those of its options.
 */
#ifndef RK_INDEX_HNSW_BUILD_H
#define RK_INDEX_HNSW_BUILD_H

#include "index/hnsw/hnsw.h"

typedef struct rk__hnsw_builder {
    rk_index *index;
    rk__hnsw *graph;
    const rk_build_options *options;
    rk_bitset skip;  /* rows without a node of their own: not finite, or chained */
    uint8_t *levels; /* per row */
    uint32_t *order; /* rows by falling level: places in it are the numbers of upper nodes */
    uint32_t n_nodes;
    const uint32_t *todo; /* places of the nodes that rk__hnsw_insert() links; NULL: all */
    uint32_t n_todo;
    bool by_cluster; /* the ground is linked by clusters, insertion leaves it alone */
    _Atomic(uint8_t) *stripes;
    _Atomic(bool) out_of_memory;
    _Atomic(bool) cancelled;
    uint64_t temporary_bytes; /* reserved while the build runs */
} rk__hnsw_builder;

/* ---- hnsw/build.c ---- */

/* Makes the graph of |index| with its parameters, and the builder's memory. */
RK_MUST_CHECK rk_code rk__hnsw_builder_init(rk__hnsw_builder *b, rk_index *index,
                                            const rk_build_options *options, rk_err *err);
void rk__hnsw_builder_deinit(rk__hnsw_builder *b);
/* Sets rows aside that are not finite. */
void rk__hnsw_skip(rk__hnsw_builder *b);
/* Chains rows with equal bytes to the first of them, and sets them aside. */
RK_MUST_CHECK rk_code rk__hnsw_chain(rk__hnsw_builder *b, rk_err *err);
/* A level by chance. */
uint8_t rk__hnsw_draw_level(const rk__hnsw *graph, uint64_t *state);
/* Counts levels and lists nodes by falling level; of one level those that are not |fresh| first
 * (NULL: none is), then by row. */
void rk__hnsw_order(rk__hnsw_builder *b, const uint8_t *fresh);
/* Lists of links, all empty. */
RK_MUST_CHECK rk_code rk__hnsw_builder_links(rk__hnsw_builder *b, rk_err *err);
/* Whether clusters can link the ground. */
bool rk__hnsw_links_by_cluster(const rk__hnsw_builder *b);
/* Links the nodes to do at all their levels, the ground only without by_cluster. The first node of
 * all is in place. */
RK_MUST_CHECK rk_code rk__hnsw_insert(rk__hnsw_builder *b, rk_err *err);
/* What is left when the ground is linked: every node reachable, blocks, header. */
RK_MUST_CHECK rk_code rk__hnsw_builder_finish(rk__hnsw_builder *b, rk_err *err);

/* ---- hnsw/cluster.c ---- */

/*
 * Links the ground of |n| nodes by clusters; needs codes. |fresh| (per row; NULL: all are) says
 * which nodes are to be linked; the others have their links and only choose again when a fresh one
 * chose them.
 */
RK_MUST_CHECK rk_code rk__hnsw_cluster_ground(rk_index *index, const rk_build_options *options,
                                              const uint32_t *nodes, uint32_t n,
                                              const uint8_t *fresh, rk_err *err);
/* Bytes it takes while it runs. */
uint64_t rk__hnsw_cluster_bytes(const rk__hnsw *graph, size_t rows);

#endif
