/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way a search under a filter takes through a graph in blocks, and how far.
 *
 * How many rows pass in all says little about the rows around a query. So a walk begins as if there
 * were no filter, and counts what passes of the nearest nodes. For the same recall it then goes on
 * to 1 / sqrt(share) of the width, by the share that it met: at once done where the filter agrees
 * with the query, five times as wide where one row in twenty passes at random. Where that costs
 * more than the clusters beside the graph or a scan, these answer.
 *
 * Where two of five rows pass or more, the filter is first left to the end: a walk without it, as
 * much wider as there are masked nodes, costs less than one that tests every neighbour.
 *
 * Where far fewer pass than everywhere, the rows that pass lie apart from the query: beyond the
 * edge of a neighbourhood that is masked. The lists of the clusters nearest to the query name
 * seeds, one passing row each, and a walk through passing nodes alone goes from these to the edge
 * that is nearest. Whether it found the place or one of many is told from where the hits came: what
 * several seeds led to is believed, since one more would have led there too; if each hit is the
 * find of one seed, there are more places than seeds, and the clusters are asked.
 */
#include "index/hnsw/filter.h"

#include "index/cluster/seed.h"

#define PRIOR 8.0 /* rows by which the share of all counts around a query */
/* A neighbour of a popped node, beside one that was popped: the same ones are seen again and again.
 */
#define SEEN_WEIGHT    0.125
#define SEEN_WEIGHT_IP 0.0  /* neighbours of what is near for IP are often long rather than near */
#define APART_EXPECTED 5.0  /* passing ones; nothing is concluded from fewer */
#define APART_SHARE    0.35 /* of those expected */
#define STEP           4u /* the width grows by this at most before the share is looked at again */
#define SEEDS          24u
#define SEEDS_WIDTH    4u /* of a walk from seeds, in those of one without a filter */
#define SEEDS_AGREE    7u /* led to what is believed */
/* Passing rows for each popped node: where there are fewer, all seeds meet. */
#define SEEDS_ROOM   64u
#define PLAIN_MORE   1.3  /* results of it, in those wanted */
#define PLAIN_SHARE  0.7  /* of those expected pass: not apart */
#define UNEVEN_SHARE 0.85 /* the same among rows of different length by IP, of a walk, too */
#define NEAR_PRIOR   16.0 /* rows by which the share of all counts in a list */
#define NEAR_WALK    0.8  /* of the cost of the clusters: a walk may cost so much by that share */
#define DOUBTFUL     10u  /* one part in so many of the nearest may be doubtful */

_Static_assert(SEEDS < RK__ORIGINS, "origin 0 is what was seen");

double
rk__hnsw_scan_ns(const rk_index *index, const rk_search_options *options)
{
    const rk__hnsw *graph = index->impl;

    return (double)index->space.rows / 64 * 0.3 +
           (double)options->filter_count * (30 + 0.35 * (double)graph->codes.n);
}

/* Of the rows around the query as far as the walk went, and of how many that is known. */
static double
share_met(const rk__filter_walk *w, double share, double *known)
{
    const rk__pool *popped = &w->s->popped;
    double weight = w->space->metric == RK_METRIC_IP ? SEEN_WEIGHT_IP : SEEN_WEIGHT;
    double passing = 0;

    for (uint32_t i = 0; i < popped->n; i++) {
        passing += (popped->items[i].node & RK__HNSW_EXPANDED) != 0;
    }
    *known = popped->n + w->seen * weight;
    return (passing + w->met * weight + PRIOR * share) / (*known + PRIOR);
}

/* Whether what was found came from several seeds. */
static bool
is_agreed(const rk__filter_walk *w)
{
    const rk__pool *results = &w->s->results;
    uint32_t hits = RK_MIN(results->n, DOUBTFUL);
    uint32_t led[RK__ORIGINS + 1] = {0};
    uint32_t doubtful = 0;

    for (uint32_t i = 0; i < w->origins; i++) {
        uint32_t origin = i;
        while (w->parent[origin] != origin) {
            origin = w->parent[origin];
        }
        led[origin]++;
    }
    led[RK__ORIGINS] = SEEDS_AGREE; /* nothing is known against it */
    for (uint32_t i = 0; i < hits; i++) {
        doubtful += led[rk__filter_walk_origin(w, results->items[i].node)] < SEEDS_AGREE;
    }
    return doubtful <= hits / DOUBTFUL;
}

/* Walks on from seeds. */
static bool
walk_from_seeds(rk__filter_walk *w, const rk_index *index, const rk__query *query,
                const rk_search_options *options, uint32_t pops)
{
    rk__cluster_seeds seeds;
    uint32_t n = 0;

    if (!rk__cluster_seeds_start(&seeds, index, w->graph->lists, query, options)) {
        return false;
    }
    rk__filter_walk_inside(w);
    for (; n < SEEDS; n++) {
        uint32_t row = rk__cluster_seeds_next(&seeds);
        if (row == RK__NO_ROW) {
            break;
        }
        rk__filter_walk_seed(w, row);
    }
    rk__filter_walk_on(w, pops * SEEDS_WIDTH);
    return n == SEEDS;
}

/* False: it would cost more than |widest| pops, or what passes lies apart and cannot be found. */
static bool
walk(rk__filter_walk *w, const rk_index *index, const rk__query *query,
     const rk_search_options *options, uint32_t pops, uint32_t widest)
{
    const rk__hnsw *graph = index->impl;
    double share = (double)options->filter_count / (double)index->space.rows;
    uint32_t width = pops;
    double known = 0;

    for (;;) {
        rk__filter_walk_on(w, width);
        double met = share_met(w, share, &known);
        if (graph->uneven && known * share > APART_EXPECTED && met < UNEVEN_SHARE * share) {
            rk__filter_walk_end(w); /* long rows are masked, few links lead to others */
            return false;
        }
        if (graph->lists && met < APART_SHARE * share && known * share > APART_EXPECTED) {
            w->s->passing.cap = RK_MIN(2 * pops, w->s->items_cap);
            bool found = options->filter_count / SEEDS_WIDTH / pops >= SEEDS_ROOM &&
                         walk_from_seeds(w, index, query, options, pops);
            rk__filter_walk_end(w);
            return found && is_agreed(w);
        }
        double wide = pops * rk__hnsw_wider(graph->uneven, met);
        if (wide > widest) {
            rk__filter_walk_end(w);
            return false;
        }
        if (wide < width + width / 8 + 1) {
            rk__filter_walk_end(w);
            return true;
        }
        width = RK_MIN((uint32_t)wide, STEP * width);
        w->s->passing.cap = RK_MIN(2 * pops, w->s->items_cap);
    }
}

/* Of the rows around node |row| of the ground: of its list, where a filter in order knows that. */
static double
share_near(const rk_index *index, const rk_search_options *options, uint32_t row)
{
    const rk__cluster *lists = ((const rk__hnsw *)index->impl)->lists;
    double share = (double)options->filter_count / (double)index->space.rows;

    if (!options->ordered || !lists || row >= lists->rows ||
        lists->list_of[row] >= lists->info.nlist) {
        return share;
    }
    uint32_t l = lists->list_of[row];
    const uint32_t *first = options->ordered->lists.first + l;
    double rows = lists->first_row[l + 1] - lists->first_row[l];
    double passing = first[1] - first[0];
    return (passing + NEAR_PRIOR * share) / (rows + NEAR_PRIOR);
}

/* Whether so few of |found| pass that the filter has to do with the query; |near| of the rows
 * around it should. */
static bool
masks_the_nearest(const rk_index *index, const rk_search_options *options, double near,
                  double passing, double found)
{
    const rk__hnsw *graph = index->impl;
    double share = (double)options->filter_count / (double)index->space.rows;

    return passing < PLAIN_SHARE * near * found ||
           (graph->uneven && passing < UNEVEN_SHARE * share * found);
}

/* Where most rows pass, everywhere: a walk without the filter, as much wider as there are masked
 * nodes to pop, and what passes of its results. |share| passes around the query; false: it is not
 * so. */
static bool
search_plainly(const rk_index *index, const rk__query *query, const rk_search_options *options,
               uint32_t entry, double share, uint32_t pops, rk__hnsw_scratch *s, rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    uint32_t want = rk__hnsw_to_score(graph, heap->cap, UINT32_MAX);
    uint32_t wide = RK_MIN(
        (uint32_t)(pops * pow(share, graph->uneven ? -1.0 : -RK__PLAIN_WIDER)) + 1, s->items_cap);
    rk__pool *results = &s->results;
    uint32_t passing = 0;

    s->pool.cap = wide;
    results->cap = RK_MIN((uint32_t)(PLAIN_MORE * want / share), s->items_cap);
    rk__hnsw_walk_blocks(graph, &index->space, entry, wide, s);
    uint32_t found = results->n;
    for (uint32_t i = 0; i < found; i++) {
        if (rk__hnsw_passes(graph, index->space.rows, options->filter, results->items[i].node)) {
            results->items[passing++] = results->items[i];
        }
    }
    results->n = RK_MIN(passing, want);
    if (passing < heap->cap || masks_the_nearest(index, options, share, passing, found)) {
        return false;
    }
    (void)rk__hnsw_score(index, query, options, results, 0, results->n, s, heap);
    return rk__heap_full(heap);
}

rk_code
rk__hnsw_search_filtered(const rk_index *index, const rk__query *query,
                         const rk_search_options *options, uint32_t pops, double most_ns,
                         rk__heap *heap, bool *done, rk_err *err)
{
    rk__hnsw *graph = index->impl; /* only its scratch slots change */
    double share = (double)options->filter_count / (double)index->space.rows;
    double pop_ns = rk__hnsw_walk_ns(index->space.dim, 1) - rk__hnsw_walk_ns(index->space.dim, 0);
    double most =
        RK_MIN(pops + most_ns / pop_ns, STEP * (double)pops * rk__hnsw_wider(graph->uneven, share));
    uint32_t widest = (uint32_t)RK_MIN(most, 1e9);
    rk__hnsw_scratch *s =
        rk__hnsw_scratch_take(graph, &index->space, RK_MAX(widest, SEEDS_WIDTH * pops));
    rk__filter_walk w = {.graph = graph, .space = &index->space, .filter = options->filter, .s = s};
    rk__walker walker;

    *done = false;
    if (!s) {
        return rk_fail(err, RK_ENOMEM, "HNSW search: no memory for %u candidates", widest);
    }
    rk__walker_init(&walker, graph, &index->space);
    heap->n = 0;
    if (rk__walker_query(&walker, query, s)) {
        uint32_t entry = rk__hnsw_ground_entry(graph, &walker, s);
        double near = share_near(index, options, entry);
        bool plain = near >= RK__PLAIN_FROM;
        if (plain && search_plainly(index, query, options, entry, near, pops, s, heap)) {
            *done = true;
            rk__hnsw_scratch_give(graph, s);
            return RK_OK;
        }
        heap->n = 0;
        bool dear = options->ordered && pops * pop_ns / sqrt(near) > NEAR_WALK * most_ns;
        /* what passes lies apart, or a walk costs more: for the clusters */
        if (graph->lists && (plain || share >= RK__PLAIN_FROM || dear)) {
            rk__hnsw_scratch_give(graph, s);
            return RK_OK;
        }
        uint32_t want = rk__hnsw_to_score(graph, heap->cap, UINT32_MAX);
        s->passing.cap = RK_MIN(pops, s->items_cap);
        s->results.cap = RK_MIN(want, s->items_cap);
        rk__filter_walk_start(&w, entry);
        if (walk(&w, index, query, options, pops, widest) &&
            s->results.n >= RK_MIN(want, (uint32_t)options->filter_count)) {
            (void)rk__hnsw_score(index, query, options, &s->results, 0, s->results.n, s, heap);
            *done = rk__heap_full(heap);
        }
    }
    rk__hnsw_scratch_give(graph, s);
    return RK_OK;
}
