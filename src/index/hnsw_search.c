/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching the graph: choice of the way, the walk, and exact scores for what it found.
 *
 * Three ways. Few rows pass the filter (or there are few rows): the passing rows are scored one by
 * one, exactly. Otherwise the graph is walked with ef candidates; under a filter masked nodes are
 * walked through but not collected, and ef grows by the share of rows that pass, so that about ef
 * passing nodes are seen. If fewer than k came out although k pass, the passing rows are scored
 * after all. The costs of the two ways are compared in rows touched: see exact_is_cheaper().
 *
 * A range search repeats the walk with a larger ef until the farthest candidate lies beyond the
 * radius or k rows qualify, and scans when the walk would touch a good part of the rows. Scores are
 * always those of the vectors, never of codes.
 */
#include "index/hnsw.h"

#define RANGE_EF       512u
#define NODES_PER_CAND 12u /* rows scored in a walk per candidate kept, about */
#define WALK_COST      3u /* a row reached by a link costs as much as this many in a scan (vectors) */

static uint32_t
search_ef(const rk_search_options *options, uint32_t k)
{
    int64_t ef = rk__param_int(options->params, "ef", options->range ? RANGE_EF : RK_MAX(k, 16u), 1,
                               INT32_MAX);

    return (uint32_t)RK_MAX(ef, (int64_t)k);
}

/* A walk keeps ef candidates for every passing one, a scan touches the passing rows. */
static bool
exact_is_cheaper(size_t rows, size_t passing, uint64_t ef)
{
    uint64_t walk = ef * rows / RK_MAX(passing, (size_t)1) * NODES_PER_CAND * WALK_COST;

    return passing <= walk;
}

static void
scan(const rk_index *index, const rk__query *query, const rk_search_options *options,
     rk__heap *heap)
{
    rk__range range = rk__range_of(index->space.metric, options);

    heap->n = 0;
    rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &range, heap);
}

/* Scores the first |n| candidates exactly, with the rows chained to them; returns the largest key
 * seen. */
static float
score_candidates(const rk_index *index, const rk__query *query, const rk_search_options *options,
                 const rk__pool *found, uint32_t n, rk__hnsw_scratch *s, rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    const rk__space *space = &index->space;
    rk__range range = rk__range_of(space->metric, options);
    uint32_t width = RK_MIN(s->spare.cap, 32u);
    float farthest = -INFINITY;

    for (uint32_t i = 0; i < n; i += width) {
        uint32_t m = RK_MIN(n - i, width);
        for (uint32_t j = 0; j < m; j++) {
            s->rows_of[j] = found->items[i + j].node;
        }
        rk__keys(space, query, s->rows_of, m, s->keys);
        for (uint32_t j = 0; j < m; j++) {
            uint32_t taken = 0;
            farthest = RK_MAX(farthest, s->keys[j]);
            if (rk__heap_rejects(heap, s->keys[j]) ||
                (range.on && !rk__in_range(&range, s->keys[j]))) {
                continue;
            }
            for (uint32_t row = s->rows_of[j]; row != RK__NO_ROW && taken < heap->cap;
                 row = rk__chain_next(graph, space->rows, row)) {
                if (!options->filter || rk_bitset_get(options->filter, row)) {
                    rk__heap_push(heap, s->keys[j], row);
                    taken++;
                }
            }
        }
    }
    return farthest;
}

/* How many of the walk's candidates are scored exactly: codes misplace a row by a few ranks only.
 */
static uint32_t
candidates_to_score(const rk__hnsw *graph, uint32_t k, uint32_t n)
{
    uint64_t want = graph->codes.data ? (uint64_t)k + k / 2 + 6 : (uint64_t)k;

    return (uint32_t)RK_MIN(want, (uint64_t)n);
}

static void
walk(const rk__hnsw *graph, const rk__walker *walker, const rk_bitset *filter, uint32_t pool_cap,
     uint32_t results_cap, rk__hnsw_scratch *s)
{
    uint32_t entry = graph->entry;

    if (graph->n_upper > 0) {
        uint32_t node = 0;
        for (uint32_t l = graph->n_levels; l > 0; l--) {
            node = rk__hnsw_descend(walker, &graph->levels[l], node, s);
        }
        entry = graph->levels[1].node_rows[node];
    }
    s->pool.cap = pool_cap;
    s->results.cap = results_cap;
    rk__hnsw_walk(graph, walker, &graph->levels[0], &entry, 1, filter, s);
}

/* False: the graph cannot answer, scan. */
static bool
search_near(const rk_index *index, const rk__query *query, const rk_search_options *options,
            const rk__walker *walker, uint32_t pool_cap, uint32_t ef, rk__hnsw_scratch *s,
            rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    const rk__pool *found = options->filter ? &s->results : &s->pool;

    walk(graph, walker, options->filter, pool_cap, ef, s);
    (void)score_candidates(index, query, options, found,
                           candidates_to_score(graph, heap->cap, found->n), s, heap);
    return heap->n == heap->cap;
}

static bool
search_range(const rk_index *index, const rk__query *query, const rk_search_options *options,
             const rk__walker *walker, uint32_t pool_cap, rk__hnsw_scratch *s, rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    const rk__pool *found = options->filter ? &s->results : &s->pool;
    rk__range range = rk__range_of(index->space.metric, options);

    range.has_lower = false;
    heap->n = 0;
    walk(graph, walker, options->filter, pool_cap, pool_cap, s);
    float farthest = score_candidates(index, query, options, found, found->n, s, heap);
    return found->n > 0 && (heap->n == heap->cap || !rk__in_range(&range, farthest));
}

rk_code
rk__hnsw_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
                rk__heap *heap, rk_err *err)
{
    rk__hnsw *graph = index->impl; /* only its scratch slots change */
    size_t rows = index->space.rows;
    size_t passing = options->filter_count;
    uint64_t ef = search_ef(options, heap->cap);
    bool done = false;

    while (!done && !exact_is_cheaper(rows, passing, ef)) {
        uint32_t pool_cap = (uint32_t)RK_MIN(ef * rows / passing, (uint64_t)rows);
        rk__hnsw_scratch *s = rk__hnsw_scratch_take(graph, &index->space, pool_cap);
        rk__walker walker;

        if (!s) {
            return rk_fail(err, RK_ENOMEM, "HNSW search: no memory for %u candidates", pool_cap);
        }
        rk__walker_init(&walker, graph, &index->space);
        bool walkable = rk__walker_query(&walker, query, s);
        if (walkable && options->range) {
            done = search_range(index, query, options, &walker, pool_cap, s, heap);
            ef *= 4;
        } else if (walkable) {
            done = search_near(index, query, options, &walker, pool_cap, (uint32_t)ef, s, heap);
            ef = UINT32_MAX; /* no second try */
        } else {
            ef = UINT32_MAX;
        }
        rk__hnsw_scratch_give(graph, s);
    }
    if (!done) {
        scan(index, query, options, heap);
    }
    return RK_OK;
}
