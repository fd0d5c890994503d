/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HNSW (Malkov & Yashunin 2016), private to this folder: the graph, what a walk needs, and the
 * scratch memory of one search.
 *
 * Where we differ from the paper:
 *  - Walks, in search and in build, run on 8-bit codes of the vectors (hnsw_code.c) when those keep
 * distances well enough, which is measured at build; the best candidates are scored again on the
 * vectors themselves. A hop reads a quarter of the bytes.
 *  - Nodes are inserted by falling level, so the nodes of level L are a prefix of one list and
 * their links one plain array.
 *  - Rows with equal bytes are one node: the first is linked, the others hang on a chain. Rows with
 * NaN or infinity are not linked.
 *  - Candidates are one sorted array instead of two heaps (as NSG and its successors do).
 *  - After the build every node is made reachable from the entry (repair in hnsw_build.c).
 *
 * A list of links has a fixed width and ends at the first number that is no node; so a row number
 * from an image is compared with the node count in the same test that finds the end.
 */
#ifndef RK_INDEX_HNSW_H
#define RK_INDEX_HNSW_H

#include <stdatomic.h>

#include "index/index_private.h"

#define RK__HNSW_LEVELS_MAX 16u /* levels above the ground */
#define RK__HNSW_EXPANDED   (UINT32_C(1) << 31)
#define RK__HNSW_SLOTS      32u

typedef _Atomic(uint32_t) rk__link; /* relaxed: a reader may see a list half old, half new; every
                                       number in it is a node */

/* One level of the graph. On the ground a node is a row; above, nodes count through |node_rows|. */
typedef struct rk__hnsw_level {
    rk__link *links; /* nodes * stride */
    uint32_t stride;
    uint32_t cap; /* links used of |stride| */
    uint32_t nodes;
    const uint32_t *node_rows; /* NULL: a node is a row */
} rk__hnsw_level;

/* The 8-bit codes: code = round((x - mean) / scale), x divided by its norm for COSINE. mean is zero
 * for IP. */
typedef struct rk__hnsw_codes {
    const int8_t *data; /* rows * stride, 64-byte aligned; NULL: walk on the vectors */
    size_t stride;      /* multiple of 64 */
    size_t n;           /* components padded to a multiple of 32 */
    const float *mean;  /* dim */
    float scale;
    bool complete; /* every row has a code: none is NaN or infinite */
} rk__hnsw_codes;

typedef struct rk__hnsw_scratch rk__hnsw_scratch;

typedef struct rk__hnsw {
    uint32_t M;
    uint32_t ef_construction;
    uint32_t n_levels; /* above the ground */
    uint32_t n_upper;  /* nodes of level 1 */
    uint32_t entry; /* row to start from when there are no levels above; RK__NO_ROW: empty graph */
    rk__hnsw_level levels[RK__HNSW_LEVELS_MAX + 1]; /* [0] is the ground */
    rk__hnsw_codes codes;
    const uint32_t *chain; /* next row with equal bytes, above its own number; NULL: no such rows */
    void
        *owned[6]; /* ground links, upper links, upper rows, codes, mean, chain; NULL when mapped */
    uint32_t
        image_head[6 + RK__HNSW_LEVELS_MAX]; /* header section of the image, see hnsw_image.c */
    _Atomic(rk__hnsw_scratch *) slots[RK__HNSW_SLOTS]; /* idle scratch memory */
} rk__hnsw;

/* A candidate of a walk; the top bit of |node| says that its links were followed. */
typedef struct rk__cand {
    float key;
    uint32_t node;
} rk__cand;

/* Candidates sorted by key, at most |cap|. */
typedef struct rk__pool {
    rk__cand *items;
    uint32_t n;
    uint32_t cap;
} rk__pool;

struct rk__hnsw_scratch {
    uint64_t *visited; /* a bit per row, all clear between walks */
    size_t rows;
    uint32_t
        *touched; /* rows whose bit is set, up to touched_cap; past that the whole set is cleared */
    size_t n_touched;
    rk__pool pool;    /* the walk */
    rk__pool results; /* passing nodes of a filtered walk */
    uint32_t items_cap;
    rk__pool spare;  /* build: sorted neighbours while a list is pruned */
    uint32_t *nodes; /* one list of links */
    uint32_t *rows_of;
    float *keys;
    int16_t *query; /* walk on codes */
    int16_t *other; /* build: a second row as query */
    float *f32;     /* one row as f32 */
};

/* What scores nodes in a walk: codes or the rows themselves. */
typedef struct rk__walker {
    const rk__space *space;
    const rk__hnsw_codes *codes; /* NULL: rows */
    rk__code4_fn code4;
    bool negate;
    const int16_t *code_query;
    rk__query row_query;
} rk__walker;

/* ---- hnsw_walk.c ---- */

rk__hnsw_scratch *rk__hnsw_scratch_take(rk__hnsw *graph, const rk__space *space, uint32_t cands);
void rk__hnsw_scratch_give(rk__hnsw *graph, rk__hnsw_scratch *scratch);
void rk__hnsw_scratch_free_all(rk__hnsw *graph);

void rk__walker_init(rk__walker *walker, const rk__hnsw *graph, const rk__space *space);
/* Row |row| is the query; |buffer| holds its code widened. */
void rk__walker_row(rk__walker *walker, uint32_t row, int16_t *buffer);
/* A search query is the query; false when it has a component that is not finite. */
bool rk__walker_query(rk__walker *walker, const rk__query *query, rk__hnsw_scratch *scratch);
void rk__walker_keys(const rk__walker *walker, const uint32_t *rows, size_t n, float *keys);

/* The nearest node to the query at |level|, starting from |node|. */
uint32_t rk__hnsw_descend(const rk__walker *walker, const rk__hnsw_level *level, uint32_t node,
                          rk__hnsw_scratch *scratch);
/* Fills scratch->pool (its cap is ef) with the nearest nodes, starting from the |n| entries. With
 * |filter| also scratch->results with the nearest nodes that pass themselves or have a chained row
 * that does. */
void rk__hnsw_walk(const rk__hnsw *graph, const rk__walker *walker, const rk__hnsw_level *level,
                   const uint32_t *entries, size_t n, const rk_bitset *filter,
                   rk__hnsw_scratch *scratch);

static inline bool
rk__pool_insert(rk__pool *pool, float key, uint32_t node, uint32_t *at)
{
    uint32_t low = 0;
    uint32_t high = pool->n;

    if (pool->n == pool->cap) {
        if (!(key < pool->items[pool->n - 1].key)) {
            return false;
        }
        pool->n--;
        high--;
    }
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (pool->items[mid].key <= key) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    memmove(pool->items + low + 1, pool->items + low, (pool->n - low) * sizeof(*pool->items));
    pool->items[low] = (rk__cand){key, node};
    pool->n++;
    *at = low;
    return true;
}

static inline uint32_t
rk__link_get(const rk__link *link)
{
    return atomic_load_explicit(link, memory_order_relaxed);
}

static inline void
rk__link_set(rk__link *link, uint32_t node)
{
    atomic_store_explicit(link, node, memory_order_relaxed);
}

static inline uint32_t
rk__chain_next(const rk__hnsw *graph, size_t rows, uint32_t row)
{
    uint32_t next = graph->chain ? graph->chain[row] : RK__NO_ROW;

    return next > row && next < rows ? next : RK__NO_ROW;
}

/* ---- hnsw_code.c ---- */

/* Decides whether codes are good enough and makes them; rows with a set bit in |skip|
 * (not finite) get zeros.
 * Leaves codes.data NULL otherwise. */
RK_MUST_CHECK rk_code rk__hnsw_encode(rk_index *index, rk__hnsw *graph,
                                      const rk_build_options *options, const rk_bitset *skip,
                                      rk_err *err);
bool rk__hnsw_encode_query(const rk__hnsw_codes *codes, const rk__space *space,
                           const rk__query *query, float *f32, int16_t *out);

/* ---- hnsw_build.c, hnsw_search.c, hnsw_image.c ---- */

rk_code rk__hnsw_build(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__hnsw_search(const rk_index *index, const rk__query *query,
                        const rk_search_options *options, rk__heap *heap, rk_err *err);
void rk__hnsw_seal(rk__hnsw *graph); /* fills image_head once the graph is done */
void rk__hnsw_sections(const rk_index *index, rk__sections *out);
rk_code rk__hnsw_open(rk_index *index, const rk__sections *sections, rk_err *err);
void rk__hnsw_free(rk_index *index);

#endif
