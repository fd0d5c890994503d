/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching a graph walked on codes.
 *
 * The walk follows the links of the nearest candidate not yet followed, until none is left among
 * the ef nearest; keys are those of the codes. About one and a half times k candidates, refine_k
 * times k when the index was built with refine, go on to the codes of refine_type and the vectors.
 * Under a filter masked rows are walked through but not collected, and the walk keeps ef divided by
 * the square root of the share that passes (a little more for IP); when their number makes it
 * cheaper, the codes of the passing rows are scanned instead, and very few are scored by their
 * vectors. A walk that ends where the nearest rows that pass begin is not believed: the filter
 * masks the rows around the query. A wider one follows, in the end a scan of the codes. Fewer than
 * k rows found although k pass: the vectors of all passing rows are scanned.
 *
 * A range search repeats the walk with a larger ef until the farthest candidate lies beyond the
 * radius or k rows qualify.
 *
 * Rows met are remembered in a hash table in the request's arena, so that a search costs what it
 * touches and threads share nothing.
 */
#include "index/hnsw/codes.h"
#include "index/hnsw/hnsw.h"

#define EF_DEFAULT 96u
#define RANGE_EF   512u
#define WALK_COST  24u   /* a candidate of the walk costs as much as this many rows in a scan */
#define SCAN_MORE  64u   /* candidates of a scan under a filter: short rows have coarse codes */
#define NEAR_TRIES 3u    /* a walk under a filter that is not believed is repeated, wider */
#define EXACT_ROWS 1024u /* up to this many passing rows are scored without codes */
#define FOLLOWED   (UINT32_C(1) << 31)

/* Candidates sorted by key. */
typedef struct pool {
    rk__near *items;
    uint32_t n;
    uint32_t cap;
} pool;

typedef struct seen {
    uint32_t *slots; /* row + 1; 0: free */
    uint32_t n;
    uint32_t mask;
} seen;

typedef struct hnswc_search {
    const rk_index *index;
    const rk__hnswc *graph;
    const rk_search_options *options;
    const rk__query *query;
    rk__coded_query prepared;
    rk__range range;
    pool near;    /* the walk */
    pool results; /* of a filtered walk: candidates that pass */
    seen met;
    uint32_t *rows; /* one list of links */
    float *keys;
    bool out_of_memory;
} hnswc_search;

/* ---- pools ---- */

static bool
pool_init(pool *p, uint32_t cap, rk_arena *arena)
{
    *p = (pool){.cap = cap};
    p->items = rk_arena_alloc(arena, ((size_t)cap + 1) * sizeof(*p->items));
    return p->items != NULL;
}

/* The place taken, or UINT32_MAX. */
static uint32_t
pool_insert(pool *p, float key, uint32_t row)
{
    uint32_t low = 0;
    uint32_t high = p->n;

    if (p->n == p->cap) {
        if (p->cap == 0 || !(key < p->items[p->n - 1].key)) {
            return UINT32_MAX;
        }
        p->n--;
        high--;
    }
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (p->items[mid].key <= key) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    memmove(p->items + low + 1, p->items + low, (p->n - low) * sizeof(*p->items));
    p->items[low] = (rk__near){key, row};
    p->n++;
    return low;
}

static bool
seen_init(seen *s, uint32_t slots, rk_arena *arena)
{
    s->slots = rk_arena_zero(arena, slots, sizeof(*s->slots));
    s->n = 0;
    s->mask = slots - 1;
    return s->slots != NULL;
}

static bool
seen_put(seen *s, uint32_t row)
{
    uint32_t at = (uint32_t)(row * UINT32_C(2654435761)) >> 7;

    for (;; at++) {
        uint32_t *slot = &s->slots[at & s->mask];
        if (*slot == row + 1) {
            return false;
        }
        if (*slot == 0) {
            *slot = row + 1;
            s->n++;
            return true;
        }
    }
}

/* Room for |more| rows with half the places free. */
static bool
seen_grow(seen *s, uint32_t more, rk_arena *arena)
{
    seen old = *s;

    if (s->n + more <= s->mask / 2) {
        return true;
    }
    if (!seen_init(s, (old.mask + 1) * 4, arena)) {
        return false;
    }
    for (uint32_t i = 0; i <= old.mask; i++) {
        if (old.slots[i] != 0) {
            (void)seen_put(s, old.slots[i] - 1);
        }
    }
    return true;
}

/* ---- walk ---- */

static uint32_t
chain_next(const hnswc_search *s, uint32_t row)
{
    uint32_t next = s->graph->chain ? s->graph->chain[row] : RK__NO_ROW;

    return next > row && next < s->index->space.rows ? next : RK__NO_ROW;
}

static bool
passes(const hnswc_search *s, uint32_t row)
{
    for (; row != RK__NO_ROW; row = chain_next(s, row)) {
        if (rk_bitset_get(s->options->filter, row)) {
            return true;
        }
    }
    return false;
}

/* Scores |n| rows met for the first time; returns the lowest place taken, or UINT32_MAX. */
static uint32_t
take(hnswc_search *s, uint32_t n)
{
    uint32_t lowest = UINT32_MAX;

    rk__coded_keys(&s->prepared, s->rows, n, s->keys);
    for (uint32_t i = 0; i < n; i++) {
        float key = s->keys[i];
        if (!(key < INFINITY)) {
            continue;
        }
        if (s->options->filter &&
            (s->results.n < s->results.cap || key < s->results.items[s->results.n - 1].key) &&
            passes(s, s->rows[i])) {
            (void)pool_insert(&s->results, key, s->rows[i]);
        }
        uint32_t at = pool_insert(&s->near, key, s->rows[i]);
        lowest = RK_MIN(lowest, at);
    }
    return lowest;
}

static uint32_t
gather(hnswc_search *s, const uint32_t *links, uint32_t n_links)
{
    size_t rows = s->index->space.rows;
    uint32_t n = 0;

    for (uint32_t i = 0; i < n_links && links[i] < rows; i++) {
        if (seen_put(&s->met, links[i])) {
            s->rows[n++] = links[i];
        }
    }
    return n;
}

static bool
walk(hnswc_search *s, uint32_t width, uint32_t ef)
{
    const rk__hnswc *graph = s->graph;
    rk_arena *arena = s->options->arena;
    uint32_t most = RK_MAX(graph->stride, RK__HNSWC_ENTRIES_MAX);
    uint32_t slots = 1024;
    uint32_t at = 0;

    while (slots < (uint64_t)width * 16 && slots < (UINT32_C(1) << 30)) {
        slots *= 2;
    }
    s->rows = rk_arena_alloc(arena, most * sizeof(*s->rows));
    s->keys = rk_arena_alloc(arena, most * sizeof(*s->keys));
    if (!s->rows || !s->keys || !pool_init(&s->near, width, arena) ||
        !pool_init(&s->results, s->options->filter ? ef : 0, arena) ||
        !seen_init(&s->met, slots, arena)) {
        return false;
    }
    (void)take(s, gather(s, graph->entries, graph->n_entries));
    while (at < s->near.n) {
        rk__near *cand = &s->near.items[at];
        if (cand->row & FOLLOWED) {
            at++;
            continue;
        }
        const uint32_t *links = graph->links + (size_t)cand->row * graph->stride;
        cand->row |= FOLLOWED;
        if (!seen_grow(&s->met, graph->stride, arena)) {
            return false;
        }
        uint32_t lowest = take(s, gather(s, links, graph->stride));
        at = lowest <= at ? lowest : at + 1;
        if (at < s->near.n) {
            __builtin_prefetch(graph->links +
                               (size_t)(s->near.items[at].row & ~FOLLOWED) * graph->stride);
        }
    }
    for (uint32_t i = 0; i < s->near.n; i++) {
        s->near.items[i].row &= ~FOLLOWED;
    }
    return true;
}

/* ---- exact scores ---- */

static void
scan_all(const hnswc_search *s, rk__heap *heap)
{
    heap->n = 0;
    rk__scan(&s->index->space, s->query, 0, s->index->space.rows, 0, s->options->filter, &s->range,
             heap);
}

static void
score_outside(const hnswc_search *s, rk__heap *heap)
{
    for (uint32_t i = 0; i < s->graph->n_outside; i++) {
        uint32_t row = s->graph->outside[i];
        if (row < s->index->space.rows &&
            (!s->options->filter || rk_bitset_get(s->options->filter, row))) {
            rk__scan_rows(&s->index->space, s->query, &row, 1, &s->range, heap);
        }
    }
}

/* Scores candidates, and with |chained| the rows with the same bytes; returns the largest key. */
static float
score(const hnswc_search *s, const rk__near *items, uint32_t n, bool chained, rk__heap *heap)
{
    const rk__space *space = &s->index->space;
    float farthest = -INFINITY;
    uint32_t rows[32];
    float keys[32];

    for (uint32_t i = 0; i < n; i += 32) {
        uint32_t m = RK_MIN(n - i, 32u);
        for (uint32_t j = 0; j < m; j++) {
            rows[j] = items[i + j].row;
        }
        rk__keys(space, s->query, rows, m, keys);
        for (uint32_t j = 0; j < m; j++) {
            uint32_t taken = 0;
            farthest = RK_MAX(farthest, keys[j]);
            if (rk__heap_rejects(heap, keys[j]) ||
                (s->range.on && !rk__in_range(&s->range, keys[j]))) {
                continue;
            }
            for (uint32_t row = rows[j]; row != RK__NO_ROW && taken < heap->cap;
                 row = chained ? chain_next(s, row) : RK__NO_ROW) {
                if (!s->options->filter || rk_bitset_get(s->options->filter, row)) {
                    rk__heap_push(heap, keys[j], row);
                    taken++;
                }
            }
        }
    }
    return farthest;
}

/* ---- width of a search ---- */

static uint32_t
base_width(uint32_t k, size_t rows)
{
    return (uint32_t)RK_MIN((uint64_t)k + k / 2 + 6, (uint64_t)rows);
}

/* Candidates that go on to refine and vectors. */
static uint32_t
refine_width(const hnswc_search *s, uint32_t k)
{
    double want = base_width(k, s->index->space.rows);

    if (s->graph->refined) {
        want = RK_MAX(want,
                      (double)k * rk__search_float(s->index->kind, s->options->params, "refine_k"));
    }
    return (uint32_t)RK_MIN(want, (double)s->index->space.rows);
}

static uint64_t
search_ef(const hnswc_search *s, uint32_t k)
{
    uint32_t fallback =
        s->range.on ? RANGE_EF : RK_MAX(k <= UINT32_MAX / 2 ? 2 * k : k, EF_DEFAULT);
    int64_t ef = rk__param_int(s->options->params, "ef", fallback, 1, INT32_MAX);

    return (uint64_t)RK_MAX(ef, (int64_t)refine_width(s, k));
}

static uint32_t
walk_width(const hnswc_search *s, uint64_t ef)
{
    double share = (double)s->options->filter_count / (double)s->index->space.rows;
    double width = (double)ef * rk__hnsw_wider(s->index->space.metric == RK_METRIC_IP, share);

    return (uint32_t)RK_MIN(width, (double)s->index->space.rows);
}

/* ---- the ways ---- */

/* The candidates into the answer, cut down by the codes of refine_type first. */
static rk_code
finish(hnswc_search *s, rk__near *items, uint32_t n, bool chained, rk__heap *heap, rk_err *err)
{
    RK_RET(rk__coded_refine(&s->graph->refine, &s->index->space, s->query, items, &n,
                            base_width(heap->cap, s->index->space.rows), s->options->arena, err));
    (void)score(s, items, n, chained, heap);
    score_outside(s, heap);
    return RK_OK;
}

static rk_code
scan_codes(hnswc_search *s, rk__heap *heap, rk_err *err)
{
    size_t rows = s->index->space.rows;
    rk__heap best = {.cap = refine_width(s, heap->cap) + (s->options->filter ? SCAN_MORE : 0)};
    uint32_t block[64];
    float keys[64];
    uint32_t n = 0;

    best.items = rk_arena_alloc(s->options->arena, best.cap * sizeof(*best.items));
    if (!best.items) {
        return rk_fail(err, RK_ENOMEM, "graph search: no memory for %u candidates", best.cap);
    }
    for (size_t row = s->options->filter ? rk_bitset_next(s->options->filter, 0) : 0;
         row < rows || n > 0;) {
        if (row < rows) {
            block[n++] = (uint32_t)row;
            row = s->options->filter ? rk_bitset_next(s->options->filter, row + 1) : row + 1;
        }
        if (n == RK_COUNT(block) || row >= rows) {
            rk__coded_keys(&s->prepared, block, n, keys);
            for (uint32_t i = 0; i < n; i++) {
                if (keys[i] < INFINITY) {
                    rk__heap_push(&best, keys[i], block[i]);
                }
            }
            n = 0;
        }
    }
    return finish(s, best.items, best.n, false, heap, err);
}

static rk_code
no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM, "graph search: no memory for its candidates");
}

/* Whether the |k| nearest that pass can be believed after a walk. */
static bool
is_found(const hnswc_search *s, uint32_t k, uint64_t ef)
{
    double share = (double)s->options->filter_count / (double)s->index->space.rows;
    uint32_t passing = 0;
    uint32_t past = 0;

    if (!s->options->filter || s->near.n < s->near.cap) { /* it met all nodes */
        return true;
    }
    if (s->results.n < k) {
        return false;
    }
    for (uint32_t i = 0; i < s->near.n; i++) {
        passing += passes(s, s->near.items[i].row);
        past += s->near.items[i].key > s->results.items[k - 1].key;
    }
    return rk__hnsw_is_believed(s->index->space.metric == RK_METRIC_IP, s->near.n, passing, past,
                                share, k, (double)ef);
}

static rk_code
search_near(hnswc_search *s, rk__heap *heap, rk_err *err)
{
    uint64_t rows = s->index->space.rows;
    uint64_t ef = RK_MIN(search_ef(s, heap->cap), rows);
    const pool *found = s->options->filter ? &s->results : &s->near;

    /* for IP links lead to long rows; where these are masked, a wider walk does not find more */
    unsigned tries_max = s->index->space.metric == RK_METRIC_IP ? 1 : NEAR_TRIES;

    for (unsigned tries = 0; tries < tries_max; tries++, ef = RK_MIN(ef * 4, rows)) {
        uint32_t width = walk_width(s, ef);
        if (s->options->filter_count <= (uint64_t)width * WALK_COST) {
            break;
        }
        if (!walk(s, width, (uint32_t)ef)) {
            return no_memory(err);
        }
        if (is_found(s, heap->cap, ef)) {
            uint32_t n = RK_MIN(found->n, refine_width(s, heap->cap));
            return finish(s, found->items, n, true, heap, err);
        }
    }
    return scan_codes(s, heap, err);
}

/* |*done| false: the vectors have to be scanned. */
static rk_code
search_range(hnswc_search *s, rk__heap *heap, bool *done, rk_err *err)
{
    uint64_t ef = search_ef(s, heap->cap);
    const pool *found = s->options->filter ? &s->results : &s->near;
    rk__range outer = s->range;

    outer.has_lower = false;
    *done = false;
    for (unsigned tries = 0; tries < 8; tries++, ef *= 4) {
        uint32_t width = walk_width(s, RK_MIN(ef, (uint64_t)s->index->space.rows));
        if (s->options->filter_count <= (uint64_t)width * WALK_COST) {
            return RK_OK;
        }
        if (!walk(s, width, width)) {
            return no_memory(err);
        }
        heap->n = 0;
        float farthest = score(s, found->items, found->n, true, heap);
        if (found->n > 0 && (heap->n == heap->cap || !rk__in_range(&outer, farthest))) {
            score_outside(s, heap);
            *done = true;
            return RK_OK;
        }
    }
    return RK_OK;
}

rk_code
rk__hnswc_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
                 rk__heap *heap, rk_err *err)
{
    hnswc_search s = {.index = index, .graph = index->impl, .options = options, .query = query};
    bool done = false;
    void *memory = NULL;

    s.range = rk__range_of(index->space.metric, options);
    if (options->filter_count <= EXACT_ROWS) {
        scan_all(&s, heap);
        return RK_OK;
    }
    memory = rk_arena_alloc(options->arena, rk__coded_query_bytes(&s.graph->coded) + 64);
    if (!memory) {
        return no_memory(err);
    }
    memory = (void *)(((uintptr_t)memory + 63) / 64 * 64);
    if (rk__coded_query_init(&s.prepared, &s.graph->coded, &index->space, query, memory)) {
        if (s.range.on) {
            RK_RET(search_range(&s, heap, &done, err));
        } else {
            RK_RET(search_near(&s, heap, err));
            done = heap->n == heap->cap;
        }
    }
    if (!done) {
        scan_all(&s, heap);
    }
    return RK_OK;
}
