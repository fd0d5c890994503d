/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching a graph in blocks under a filter, private to hnsw/search.c, hnsw/filter.c (which way,
 * how far) and hnsw/filter_walk.c (the walk). A walk can be taken further once it has ended,
 * without doing again what it did. All memory is the scratch of the search.
 */
#ifndef RK_INDEX_HNSW_FILTER_H
#define RK_INDEX_HNSW_FILTER_H

#include "index/hnsw/hnsw.h"

#define RK__PLAIN_FROM  0.4 /* of all rows pass: a walk without the filter first, wider by this */
#define RK__PLAIN_WIDER 0.8 /* power of 1 / share: recall as of an unfiltered search, measured */

#define RK__BUCKETS 512u

/* Candidates by key, in buckets of equal width; in a bucket in any order. */
typedef struct rk__frontier {
    rk__waiting *items;
    uint32_t cap;
    uint32_t used;  /* places of |items| that ever were */
    uint32_t spare; /* list of places that are free again */
    uint32_t n;
    uint32_t keep; /* so many are enough: farther ones are let go */
    uint32_t top;  /* last bucket that takes any */
    float low;     /* least key of bucket 0, and */
    float scale;   /* buckets per unit of the key; 0: not known yet */
    uint64_t any[RK__BUCKETS / 64];
    uint32_t first[RK__BUCKETS]; /* lists of places */
} rk__frontier;

typedef struct rk__filter_walk {
    const rk__hnsw *graph;
    const rk__space *space;
    const rk_bitset *filter;
    rk__hnsw_scratch *s;
    rk__block_query query;
    rk__test32_fn test;
    rk__frontier frontier;
    uint32_t seen;   /* near neighbours of popped nodes, and */
    uint32_t met;    /* those of them that pass */
    bool inside;     /* through nodes that pass alone */
    uint32_t origin; /* of the node that is popped */
    uint32_t origins;
    uint8_t parent[RK__ORIGINS]; /* of an origin; itself, unless it is one with another */
} rk__filter_walk;

/* graph, space, filter and s are set; s holds the query and has the cap of |passing| set, which may
 * be raised later. */
void rk__filter_walk_start(rk__filter_walk *w, uint32_t entry);
/* Goes on until the nearest |target| are popped. */
void rk__filter_walk_on(rk__filter_walk *w, uint32_t target);
/* From here on through nodes that pass alone, from those that were seen (origin 0), and from seeds,
 * each an origin of its own. */
void rk__filter_walk_inside(rk__filter_walk *w);
void rk__filter_walk_seed(rk__filter_walk *w, uint32_t row);
/* The origin that led to |node|, one for all that met; RK__ORIGINS: not known. */
uint32_t rk__filter_walk_origin(const rk__filter_walk *w, uint32_t node);
/* Scores by their codes the passing nodes that were seen but not popped; s->results are then the
 * nearest. */
void rk__filter_walk_end(rk__filter_walk *w);

/* Nanoseconds, about, of a scan of the codes of all rows that pass. */
double rk__hnsw_scan_ns(const rk_index *index, const rk_search_options *options);
/* By a walk, |pops| wide where everything passes, unless it would cost more than |most_ns|. |*done|
 * false: no answer was found that can be believed. */
rk_code rk__hnsw_search_filtered(const rk_index *index, const rk__query *query,
                                 const rk_search_options *options, uint32_t pops, double most_ns,
                                 rk__heap *heap, bool *done, rk_err *err);

#endif
