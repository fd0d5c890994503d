/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching the graph: choice of the way, the walk, and exact scores for what it found.
 *
 * Three ways. The graph is walked with ef candidates, over blocks with a quarter more, which makes
 * up for their estimates. Under a filter hnsw/filter.c walks as far as the rows around the query
 * ask for, or finds that the clusters beside the graph or a scan are the way. A graph without
 * blocks is walked through masked nodes with ef / sqrt(share) candidates, share being that of the
 * rows that pass: enough to hold recall, measured. When few rows pass, their codes are scanned and
 * the best scored exactly. When very few pass, or there are no codes, or the walk found fewer than
 * k although k pass, the vectors of the passing rows are scanned: exact. The costs of walk and scan
 * are compared in rows touched. Where hardly any of the nearest nodes pass, though many rows do,
 * the walk went where the filter lets nothing through: a wider walk follows, in the end a scan.
 *
 * A range search repeats the walk with a larger ef until the farthest candidate lies beyond the
 * radius or k rows qualify, and scans the vectors when the walk would touch a good part of the
 * rows. Scores are always those of the vectors, never of codes.
 */
#include "index/cluster/cluster.h"
#include "index/hnsw/filter.h"

#define EF_DEFAULT 96u /* real text embeddings need about this much for a recall of 0.95 */
#define RANGE_EF   512u
#define WALK_COST  16u /* a candidate of the walk costs as much as this many rows in a scan */
#define ESTIMATE_COST                                                                              \
    4u                   /* a walk on estimates pops one part in so many more for the same recall  \
                          */
#define K_USUAL    10u   /* the k that this holds for; beyond, it grows by */
#define K_COST     0.35  /* this per e-fold of k */
#define EXACT_ROWS 1024u /* up to this many passing rows are scored without codes */
#define SPARE_PLACES                                                                               \
    6u /* a node may be among the candidates of a block walk more than once: so many more than k   \
        */
#define APART_EXPECTED 8.0  /* passing nodes of a walk; nothing is concluded from fewer */
#define APART_SHARE    0.4  /* of those expected */
#define UNEVEN_SHARE   0.85 /* the same among rows of different length by IP */
#define NEAR_TRIES     3u /* a block walk that found fewer than k is repeated, four times as wide */
#define SCAN_COST      4.0 /* of what a scan of codes takes that lie in the caches: they may not */
#define PROBE          0.25 /* of the cost of the clusters: a walk may cost so much to look how it goes */
#define RANGE_TRIES    8u
#define WHOLE_EPSILON  3.0f

uint32_t
rk__hnsw_ef(const rk__hnsw *graph, const rk_search_options *options, uint32_t k)
{
    int64_t ef = rk__param_int(options->params, "ef", 0, 0, INT32_MAX);
    double recall = rk__param_float(options->params, "target_recall",
                                    graph->automatic ? RK__RECALL_AUTO : -1, 0, 1);

    if (ef > 0) {
        return (uint32_t)RK_MAX(ef, (int64_t)k);
    }
    if (recall >= 0 && graph->curve.n > 0) {
        ef = rk__hnsw_ef_for(&graph->curve, k, (float)recall);
        return options->range ? RK_MAX((uint32_t)ef, RANGE_EF) : (uint32_t)ef;
    }
    ef = options->range ? RANGE_EF : RK_MAX(k <= INT32_MAX / 2 ? 2 * k : k, EF_DEFAULT);
    return (uint32_t)RK_MAX(ef, (int64_t)k);
}

/* One ef is to give one recall, whether distances are estimated or not. The farther out the k-th
 * is, the more rows lie about as far, and the more of the nearest are not popped in time. */
static uint64_t
pops_of(const rk__hnsw *graph, uint64_t ef, uint32_t k)
{
    double pops = (double)(ef + ef / ESTIMATE_COST);

    if (!rk__hnsw_by_blocks(graph)) {
        return ef;
    }
    if (k > K_USUAL) {
        pops *= 1 + K_COST * log((double)k / K_USUAL);
    }
    return RK_MAX((uint64_t)pops, (uint64_t)k + SPARE_PLACES);
}

/* Candidates a walk must keep so that about as good an answer comes out among the passing rows. */
static uint64_t
walk_width(const rk_index *index, size_t passing, uint64_t ef)
{
    size_t rows = index->space.rows;
    double share = (double)passing / (double)rows;
    double width = (double)ef * rk__hnsw_wider(index->space.metric == RK_METRIC_IP, share);

    return width < (double)rows ? (uint64_t)width : rows;
}

static bool
scan_is_cheaper(size_t passing, uint64_t width)
{
    return passing <= width * WALK_COST;
}

static void
scan(const rk_index *index, const rk__query *query, const rk_search_options *options,
     rk__heap *heap)
{
    rk__range range = rk__range_of(index->space.metric, options);

    heap->n = 0;
    rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &range, heap);
}

uint32_t
rk__hnsw_score(const rk_index *index, const rk__query *query, const rk_search_options *options,
               const rk__pool *found, uint32_t from, uint32_t to, rk__hnsw_scratch *s,
               rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    const rk__space *space = &index->space;
    rk__range range = rk__range_of(space->metric, options);
    uint32_t width = RK_MIN(s->spare.cap, 32u);
    rk__range radius = range;
    uint32_t beyond = 0;

    radius.has_lower = false;
    for (uint32_t i = from; i < to; i += width) {
        uint32_t m = RK_MIN(to - i, width);
        for (uint32_t j = 0; j < m; j++) {
            s->rows_of[j] = found->items[i + j].node;
        }
        rk__keys(space, query, s->rows_of, m, s->keys);
        for (uint32_t j = 0; j < m; j++) {
            uint32_t taken = 0;
            beyond += range.on && !rk__in_range(&radius, s->keys[j]);
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
    return beyond;
}

/* How many of the walk's candidates are scored exactly: codes misplace a row by a few ranks only.
 */
uint32_t
rk__hnsw_to_score(const rk__hnsw *graph, uint32_t k, uint32_t n)
{
    uint64_t want = graph->codes.data ? (uint64_t)k + k / 2 + 6 : (uint64_t)k;

    return (uint32_t)RK_MIN(want, (uint64_t)n);
}

uint32_t
rk__hnsw_ground_entry(const rk__hnsw *graph, const rk__walker *walker, rk__hnsw_scratch *s)
{
    uint32_t node = 0;

    if (graph->n_upper == 0) {
        return graph->entry;
    }
    for (uint32_t l = graph->n_levels; l > 0; l--) {
        node = rk__hnsw_descend(walker, &graph->levels[l], node, s);
    }
    return graph->levels[1].node_rows[node];
}

static void
walk(const rk__hnsw *graph, const rk__walker *walker, const rk_bitset *filter, uint32_t pool_cap,
     uint32_t results_cap, uint32_t passing_cap, rk__hnsw_scratch *s)
{
    uint32_t entry = rk__hnsw_ground_entry(graph, walker, s);

    bool blocks = rk__hnsw_by_blocks(graph);

    s->pool.cap = pool_cap;
    s->results.cap = results_cap;
    if (blocks && filter) {
        s->passing.cap = passing_cap;
        rk__filter_walk w = {.graph = graph, .space = walker->space, .filter = filter, .s = s};
        rk__filter_walk_start(&w, entry);
        rk__filter_walk_on(&w, pool_cap);
        rk__filter_walk_end(&w);
        return;
    }
    if (blocks) {
        rk__hnsw_walk_blocks(graph, walker->space, entry, pool_cap, s);
        return;
    }
    rk__hnsw_walk(graph, walker, &graph->levels[0], &entry, 1, filter, s);
}

/* False: the graph cannot answer, scan. */
static bool
search_near(const rk_index *index, const rk__query *query, const rk_search_options *options,
            const rk__walker *walker, uint32_t pool_cap, uint32_t ef, rk__hnsw_scratch *s,
            rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    bool blocks = rk__hnsw_by_blocks(graph);
    const rk__pool *found = options->filter || blocks ? &s->results : &s->pool;

    walk(graph, walker, options->filter, pool_cap,
         blocks ? rk__hnsw_to_score(graph, heap->cap, ef) : ef, ef, s);
    (void)rk__hnsw_score(index, query, options, found, 0,
                         rk__hnsw_to_score(graph, heap->cap, found->n), s, heap);
    return heap->n == heap->cap;
}

/* Whether most of what a walk found lies behind the k that |heap| took from it: the walk went on
 * for long enough behind them, so that few of the nearer were missed. */
static bool
went_past(const rk_index *index, const rk__query *query, const rk__pool *found,
          const rk__heap *heap)
{
    uint32_t rows[32];
    float keys[32];
    uint32_t past = 0;

    if (heap->n < heap->cap || found->n < RK_COUNT(rows)) {
        return false;
    }
    for (uint32_t i = 0; i < RK_COUNT(rows); i++) {
        rows[i] = found->items[(uint64_t)i * found->n / RK_COUNT(rows)].node;
    }
    rk__keys(&index->space, query, rows, RK_COUNT(rows), keys);
    for (uint32_t i = 0; i < RK_COUNT(rows); i++) {
        past += keys[i] > heap->items[0].key;
    }
    return past >= RK_COUNT(rows) / 2;
}

static bool
search_range(const rk_index *index, const rk__query *query, const rk_search_options *options,
             const rk__walker *walker, uint32_t pool_cap, rk__hnsw_scratch *s, rk__heap *heap)
{
    const rk__hnsw *graph = index->impl;
    bool blocks = rk__hnsw_by_blocks(graph);
    const rk__pool *found = options->filter || blocks ? &s->results : &s->pool;

    heap->n = 0;
    walk(graph, walker, options->filter, pool_cap, pool_cap, pool_cap, s);
    uint32_t beyond = rk__hnsw_score(index, query, options, found, 0, found->n, s, heap);
    /* Nodes popped on the way lie beyond as well, so blocks ask for more of them. */
    return found->n > 0 &&
           (went_past(index, query, found, heap) || beyond > (blocks ? found->n / 3 : 0u));
}

/* Scans the codes of the passing rows and scores the best exactly. */
static rk_code
scan_codes(const rk_index *index, const rk__query *query, const rk_search_options *options,
           const rk__walker *walker, rk__hnsw_scratch *s, rk__heap *heap, rk_err *err)
{
    const rk__hnsw *graph = index->impl;
    size_t rows = index->space.rows;
    rk__heap best = {.cap = rk__hnsw_to_score(graph, heap->cap, UINT32_MAX)};
    rk__range range = rk__range_of(index->space.metric, options);
    uint32_t width = RK_MIN(s->spare.cap, 32u);
    uint32_t n = 0;

    best.items = rk_arena_alloc(options->arena, (size_t)best.cap * sizeof(*best.items));
    if (!best.items) {
        return rk_fail(err, RK_ENOMEM, "HNSW search: no memory for %u candidates", best.cap);
    }
    for (size_t row = options->filter ? rk_bitset_next(options->filter, 0) : 0;
         row < rows || n > 0;) {
        if (row < rows) {
            const char *code = (const char *)graph->codes.data + row * graph->codes.stride;
            __builtin_prefetch(code);
            __builtin_prefetch(code + 64);
            s->rows_of[n++] = (uint32_t)row;
            row = options->filter ? rk_bitset_next(options->filter, row + 1) : row + 1;
        }
        if (n == width || row >= rows) {
            rk__walker_keys(walker, s->rows_of, n, s->keys);
            for (uint32_t i = 0; i < n; i++) {
                rk__heap_push(&best, s->keys[i], s->rows_of[i]);
            }
            n = 0;
        }
    }
    for (uint32_t i = 0; i < best.n; i += width) {
        n = RK_MIN(best.n - i, width);
        for (uint32_t j = 0; j < n; j++) {
            s->rows_of[j] = best.items[i + j].row;
        }
        rk__scan_rows(&index->space, query, s->rows_of, n, &range, heap);
    }
    return RK_OK;
}

/* Whether fewer of the nearest nodes that a walk found pass than would if the filter had nothing to
 * do with the query: the nearest that pass lie farther out than the walk went. |ef| without a
 * filter. */
static bool
lies_apart(const rk_index *index, const rk_search_options *options, const rk__hnsw_scratch *s,
           uint32_t k, uint32_t ef)
{
    const rk__hnsw *graph = index->impl;
    bool blocks = rk__hnsw_by_blocks(graph);
    const rk__pool *nearest = blocks ? &s->popped : &s->pool;
    double share = (double)options->filter_count / (double)index->space.rows;
    double expected = share * nearest->n;
    uint32_t passing = 0;
    uint32_t past = 0;

    if (!options->filter || (blocks && expected < APART_EXPECTED) ||
        (!blocks && s->pool.n < s->pool.cap)) {
        return false;
    }
    for (uint32_t i = 0; i < nearest->n; i++) {
        passing += rk__hnsw_passes(graph, index->space.rows, options->filter,
                                   nearest->items[i].node & ~RK__HNSW_EXPANDED);
    }
    if (blocks) {
        return passing < (graph->uneven ? UNEVEN_SHARE : APART_SHARE) * expected;
    }
    float kth = s->results.items[RK_MIN(k, s->results.n) - 1].key;
    for (uint32_t i = s->pool.n; i > 0 && s->pool.items[i - 1].key > kth; i--) {
        past++;
    }
    return !rk__hnsw_is_believed(graph->uneven, s->pool.n, passing, past, share, k, ef);
}

/* One try; |*done| false: the vectors have to be scanned. */
static rk_code
search_once(const rk_index *index, const rk__query *query, const rk_search_options *options,
            uint32_t ef, uint32_t width, rk__heap *heap, bool *done, rk_err *err)
{
    rk__hnsw *graph = index->impl; /* only its scratch slots change */
    bool by_scan = scan_is_cheaper(options->filter_count, width);
    rk__hnsw_scratch *s =
        rk__hnsw_scratch_take(graph, &index->space, by_scan ? 1 : RK_MAX(width, ef));
    rk__walker walker;
    rk_code code = RK_OK;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "HNSW search: no memory for %u candidates", width);
    }
    rk__walker_init(&walker, graph, &index->space);
    *done = false;
    heap->n = 0;
    if (!rk__walker_query(&walker, query, s)) {
        ; /* a query that is not finite: scan the vectors */
    } else if (by_scan) {
        code = scan_codes(index, query, options, &walker, s, heap, err);
        *done = heap->n == heap->cap;
    } else if (options->range) {
        *done = search_range(index, query, options, &walker, width, s, heap) &&
                !(graph->uneven && lies_apart(index, options, s, RK_MAX(heap->n, 1u), ef));
    } else {
        *done = search_near(index, query, options, &walker, width, ef, s, heap) &&
                !lies_apart(index, options, s, heap->cap, ef);
    }
    rk__hnsw_scratch_give(graph, s);
    return code;
}

/* Candidates of the first try. One ef is to give one recall, whether distances are estimated or
 * not. */
static uint64_t
first_ef(const rk__hnsw *graph, const rk_search_options *options, uint32_t k)
{
    return pops_of(graph, rk__hnsw_ef(graph, options, k), k);
}

bool
rk__hnsw_plan_walk(const rk_index *index, const rk_search_options *options, uint32_t k,
                   rk__hnsw_plan *plan)
{
    const rk__hnsw *graph = index->impl;
    size_t rows = index->space.rows;
    uint64_t ef = first_ef(graph, options, k);
    float recall = 0;

    if (!rk__hnsw_by_blocks(graph) || options->range || options->filter ||
        rk__hnsw_by_lists(index, options, k, &recall)) {
        return false;
    }
    plan->width = (uint32_t)RK_MIN(ef, (uint64_t)rows);
    plan->results = rk__hnsw_to_score(graph, k, plan->width);
    return true;
}

static rk_code
search_lists(const rk_index *index, const rk__query *query, const rk_search_options *options,
             float recall, float most_around, rk__heap *heap, rk_err *err)
{
    const rk__hnsw *graph = index->impl;
    rk__cluster_effort effort = rk__cluster_effort_of(graph->lists, recall);

    effort.most_around = most_around;
    for (uint32_t i = 0; i < RK__CLUSTER_SHARES && index->space.metric == RK_METRIC_IP; i++) {
        /* where lists lie from each other says little about where hits apart from the query are */
        effort.reach.reach[i].apart = INFINITY;
    }
    heap->n = 0;
    return rk__cluster_run(index, graph->lists, query, options, &effort, heap, err);
}

/* Every list that a row passes in. */
static rk_code
search_whole(const rk_index *index, const rk__query *query, const rk_search_options *options,
             rk__heap *heap, rk_err *err)
{
    const rk__cluster *lists = ((const rk__hnsw *)index->impl)->lists;
    rk__cluster_effort effort = {.beta = INFINITY,
                                 .epsilon = WHOLE_EPSILON,
                                 .first = lists->info.nlist,
                                 .probes = lists->info.nlist,
                                 .recall = 1};

    for (uint32_t i = 0; i < RK__CLUSTER_SHARES; i++) {
        effort.reach.reach[i] = (rk__cluster_out){INFINITY, INFINITY};
    }
    heap->n = 0;
    return rk__cluster_run(index, lists, query, options, &effort, heap, err);
}

rk_code
rk__hnsw_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
                rk__heap *heap, rk_err *err)
{
    const rk__hnsw *graph = index->impl;
    size_t rows = index->space.rows;
    size_t passing = options->filter_count;
    uint64_t ef = first_ef(graph, options, heap->cap);
    bool codes = graph->codes.data && graph->codes.complete;
    unsigned tries_max = rk__hnsw_by_blocks(graph) || options->filter ? NEAR_TRIES : 1;
    bool done = false;
    float recall = -1;
    double whole_ns = (double)INFINITY;

    if (options->filter && graph->uneven) {
        /* The rows that win most searches may all be masked, and few links lead to the others. */
        double share = (double)passing / (double)rows;
        double walk_ns = rk__hnsw_walk_cost(index, (double)ef) * rk__hnsw_wider(true, share);
        whole_ns = rk__hnsw_whole_ns(index, options);
        if (whole_ns <= walk_ns) {
            return search_whole(index, query, options, heap, err);
        }
    }
    if (options->filter && rk__hnsw_by_blocks(graph) && !options->range) {
        double lists_ns = rk__hnsw_by_lists_ns(index, options, heap->cap, &recall);
        double scan_ns = rk__hnsw_scan_ns(index, options);
        double most_ns = RK_MIN(RK_MIN(lists_ns, whole_ns), scan_ns);
        double probe_ns =
            rk__hnsw_walk_ns(index->space.dim, rk__hnsw_ef(graph, options, heap->cap));
        double share = (double)passing / (double)rows;
        /* how a walk goes is known on entry, and not the same everywhere */
        bool known =
            options->ordered && probe_ns < most_ns && options->ordered->lists.n_dense > passing / 8;
        if (options->ordered && options->ordered->lists.few_around && !isfinite(whole_ns) &&
            lists_ns <= SCAN_COST * scan_ns) {
            /* to most queries lists are nearer at hand than the entry of a walk */
            RK_RET(search_lists(index, query, options, recall, (float)RK__PLAIN_FROM, heap, err));
            if (rk__heap_full(heap)) {
                return RK_OK;
            }
        }
        if (probe_ns < PROBE * most_ns || probe_ns / sqrt(share) < 0.6 * most_ns || known) {
            RK_RET(rk__hnsw_search_filtered(index, query, options,
                                            (uint32_t)RK_MIN(ef, (uint64_t)rows), most_ns, heap,
                                            &done, err));
        }
        if (!done && isfinite(whole_ns)) {
            return search_whole(index, query, options, heap, err);
        }
        if (!done && lists_ns <= SCAN_COST * scan_ns) {
            return search_lists(index, query, options, recall, 0, heap, err);
        }
        if (!done && graph->lists && recall >= 0 && !isfinite(lists_ns)) {
            /* the lists did not reach it when they were measured, but a walk gave up: all of them
             */
            return search_lists(index, query, options, 1, 0, heap, err);
        }
    } else if (!isfinite(whole_ns) && rk__hnsw_by_lists(index, options, heap->cap, &recall)) {
        return search_lists(index, query, options, recall, 0, heap, err);
    }
    tries_max = options->range ? RANGE_TRIES : tries_max;
    for (unsigned tries = 0; !done && tries < tries_max; tries++, ef *= 4) {
        uint64_t width = walk_width(index, passing, ef);
        if (scan_is_cheaper(passing, width) &&
            (options->range || !codes || passing <= EXACT_ROWS)) {
            break;
        }
        RK_RET(search_once(index, query, options, (uint32_t)RK_MIN(ef, (uint64_t)rows),
                           (uint32_t)width, heap, &done, err));
        if (!done && isfinite(whole_ns)) {
            return search_whole(index, query, options, heap, err);
        }
        if (options->filter && graph->uneven) {
            break; /* a wider walk does not find more */
        }
    }
    if (!done) {
        scan(index, query, options, heap);
    }
    return RK_OK;
}

rk_code
rk__hnsw_search_apart(const rk_index *index, const rk__query *query,
                      const rk_search_options *options, uint32_t ef, uint32_t apart, rk__heap *heap,
                      rk_err *err)
{
    rk__hnsw *graph = index->impl; /* only its scratch slots change */
    uint64_t pops = RK_MIN(pops_of(graph, ef, heap->cap), (uint64_t)index->space.rows);
    rk__hnsw_scratch *s = rk__hnsw_scratch_take(graph, &index->space, (uint32_t)pops);
    rk__walker walker;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "HNSW search: no memory for %u candidates", (uint32_t)pops);
    }
    rk__walker_init(&walker, graph, &index->space);
    heap->n = 0;
    if (rk__walker_query(&walker, query, s)) {
        (void)rk__visit(s, apart); /* a node that was visited is neither scored nor passed */
        (void)search_near(index, query, options, &walker, (uint32_t)pops, (uint32_t)pops, s, heap);
    }
    rk__hnsw_scratch_give(graph, s);
    return RK_OK;
}
