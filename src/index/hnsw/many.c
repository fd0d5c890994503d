/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several queries at once over a graph in blocks.
 *
 * A hop of a walk waits for a block that lies anywhere in memory, and what it pops next depends on
 * what it found: one walk alone leaves the memory idle while it computes, and computes nothing
 * while it waits. So a thread holds a few walks, each in a lane, and takes them forward in turn; a
 * step ends by asking for what the lane's next step reads, which comes while the other lanes
 * compute. A lane descends the upper levels, walks the ground, scores what it found on the vectors,
 * and takes the next query.
 *
 * Every step is that of the search of one query, in the same order within a lane, so the answers
 * are the same. What is not a walk over blocks (a scan, a range, a query that is not finite, fewer
 * than k found) is left to rk__hnsw_search().
 */
#include "index/hnsw/hnsw.h"

#define LANES       4u /* measured: as good as more, and their scratch stays in the cache */
#define SCORE_WIDTH 4u /* vectors asked for at once */
#define SCORE_LINES 24u

typedef enum stage { DESCENDS, WALKS, SCORES } stage;

typedef struct lane {
    stage stage;
    size_t query;
    rk__hnsw_scratch *s;
    rk__walker walker;
    rk__descent descent;
    rk__block_walk walk;
    uint32_t scored; /* of the found */
    uint32_t to_score;
} lane;

typedef struct batch {
    const rk_index *index;
    const rk__hnsw *graph;
    const rk__query *queries;
    size_t n;
    size_t next; /* query to start */
    const rk_search_options *options;
    rk__hnsw_plan plan;
    rk__heap *heaps;
    bool again[RK__MANY]; /* left to rk__hnsw_search() */
} batch;

static void
start_walk(const batch *b, lane *l)
{
    const rk__hnsw *graph = b->graph;
    uint32_t entry =
        graph->n_upper > 0 ? graph->levels[1].node_rows[l->descent.node] : graph->entry;

    l->s->pool.cap = b->plan.width;
    l->s->results.cap = b->plan.results;
    l->walk.pops = b->plan.width;
    rk__block_walk_start(graph, &b->index->space, entry, l->s, &l->walk);
    l->stage = WALKS;
}

/* The next query into the lane; false: there is none. */
static bool
start_query(batch *b, lane *l)
{
    while (b->next < b->n && !rk_stop_asked(b->options->stop)) {
        l->query = b->next++;
        b->heaps[l->query].n = 0;
        if (!rk__walker_query(&l->walker, &b->queries[l->query], l->s)) {
            b->again[l->query] = true;
            continue;
        }
        l->stage = DESCENDS;
        if (!rk__descent_start(b->graph, &l->walker, l->s, &l->descent)) {
            start_walk(b, l);
        }
        return true;
    }
    return false;
}

static void
fetch_found(const batch *b, const lane *l)
{
    const rk__space *space = &b->index->space;
    size_t bytes = RK_MIN(space->row_bytes, (size_t)SCORE_LINES * 64);

    for (uint32_t i = l->scored; i < RK_MIN(l->scored + SCORE_WIDTH, l->to_score); i++) {
        rk__fetch_early(rk__space_row(space, l->s->results.items[i].node), bytes);
    }
}

/* False: the lane's query is done. */
static bool
step(const batch *b, lane *l)
{
    switch (l->stage) {
    case DESCENDS:
        if (!rk__descent_step(b->graph, &l->walker, l->s, &l->descent)) {
            start_walk(b, l);
        }
        return true;
    case WALKS:
        if (!rk__block_walk_step(b->graph, &b->index->space, l->s, &l->walk)) {
            l->stage = SCORES;
            l->scored = 0;
            l->to_score = rk__hnsw_to_score(b->graph, b->heaps[l->query].cap, l->s->results.n);
            fetch_found(b, l);
        }
        return true;
    case SCORES:
        break;
    }
    uint32_t from = l->scored;
    uint32_t to = RK_MIN(from + SCORE_WIDTH, l->to_score);
    l->scored = to;
    fetch_found(b, l);
    (void)rk__hnsw_score(b->index, &b->queries[l->query], b->options, &l->s->results, from, to,
                         l->s, &b->heaps[l->query]);
    return to < l->to_score;
}

static void
run_lanes(batch *b, lane *lanes, size_t n)
{
    size_t active = 0;

    while (active < n && start_query(b, &lanes[active])) {
        active++;
    }
    while (active > 0) {
        for (size_t i = 0; i < active; i++) {
            lane *l = &lanes[i];
            if (step(b, l)) {
                continue;
            }
            b->again[l->query] = !rk__heap_full(&b->heaps[l->query]);
            if (!start_query(b, l)) {
                active--;
                if (i < active) { /* the last one takes its place, and its turn */
                    rk__hnsw_scratch *s = l->s;
                    *l = lanes[active];
                    lanes[active].s = s;
                    i--;
                }
            }
        }
    }
}

rk_code
rk__hnsw_search_many(const rk_index *index, const rk__query *queries, size_t n,
                     const rk_search_options *options, rk__heap *heaps, rk_err *err)
{
    rk__hnsw *graph = index->impl; /* only its scratch slots change */
    batch b = {.index = index,
               .graph = graph,
               .queries = queries,
               .n = n,
               .options = options,
               .heaps = heaps};
    lane lanes[LANES];
    size_t taken = 0;

    if (rk__hnsw_plan_walk(index, options, options->k, &b.plan)) {
        for (; taken < RK_MIN(n, (size_t)LANES); taken++) {
            lane *l = &lanes[taken];
            l->s = rk__hnsw_scratch_take(graph, &index->space, b.plan.width);
            if (!l->s) {
                break; /* fewer lanes do as well, none is an answer of rk__hnsw_search() */
            }
            rk__walker_init(&l->walker, graph, &index->space);
        }
        run_lanes(&b, lanes, taken);
        for (size_t i = 0; i < taken; i++) {
            rk__hnsw_scratch_give(graph, lanes[i].s);
        }
    }
    RK_RET(rk__go_on(options, err)); /* some may not have begun */
    for (size_t i = 0; i < n; i++) {
        if (taken == 0 || b.again[i]) {
            RK_RET(rk__go_on(options, err));
            RK_RET(rk__hnsw_search(index, &queries[i], options, &heaps[i], err));
        }
    }
    return RK_OK;
}
