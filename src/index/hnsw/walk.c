/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking the graph: the inner loop of search and build, and the scratch memory it runs in.
 *
 * The walk follows the links of the nearest candidate not yet followed until none is left among the
 * ef nearest. Links of a node are gathered first (marking them visited and asking for their codes),
 * then scored four at a time while the next four are on their way from memory. Visited rows are one
 * bit each; the rows touched are remembered, so that clearing costs what the walk cost.
 *
 * Scratch memory belongs to the graph: idle pieces lie in slots, taken and given back by an atomic
 * exchange (acquire and release, so that their contents travel along), so a search allocates
 * nothing after the first ones.
 */
#include "index/hnsw/hnsw.h"

#define LINES_AHEAD                                                                                \
    16u /* cache lines of a row asked for in advance; the hardware follows a longer row by itself  \
         */

/* ---- scratch ---- */

static void
scratch_free(rk__hnsw_scratch *s)
{
    if (!s) {
        return;
    }
    rk_free(s->visited);
    rk_free(s->touched);
    rk_free(s->pool.items);
    rk_free(s->results.items);
    rk_free(s->passing.items);
    rk_free(s->popped.items);
    rk_free(s->waiting);
    rk_free(s->known);
    rk_free(s->known_origin);
    rk_free(s->spare.items);
    rk_free(s->nodes);
    rk_free(s->rows_of);
    rk_free(s->keys);
    rk_free(s->query);
    rk_free(s->other);
    rk_free(s->f32);
    rk_free(s->rotated);
    rk_free(s->scaled);
    rk_free(s->lut);
    rk_free(s->code);
    rk_free(s);
}

static rk__hnsw_scratch *
scratch_new(const rk__hnsw *graph, const rk__space *space)
{
    rk__hnsw_scratch *s = rk_alloc_zero(1, sizeof(*s));
    size_t width = (size_t)graph->levels[0].stride + 8;
    size_t code_n = (size_t)(space->dim + 63) / 64 * 64;

    if (!s) {
        return NULL;
    }
    s->rows = space->rows;
    s->visited = rk_alloc_zero((space->rows + 63) / 64 + 1, sizeof(*s->visited));
    s->touched = rk_alloc(RK__TOUCHED_MAX * sizeof(*s->touched));
    s->nodes = rk_alloc(width * sizeof(*s->nodes));
    s->rows_of = rk_alloc(width * sizeof(*s->rows_of));
    s->keys = rk_alloc(width * sizeof(*s->keys));
    s->spare.items = rk_alloc(width * sizeof(*s->spare.items));
    s->query = rk_alloc_aligned(64, code_n * sizeof(*s->query));
    s->other = rk_alloc_aligned(64, code_n * sizeof(*s->other));
    s->f32 = rk_alloc((size_t)space->dim * sizeof(*s->f32) + 64);
    s->rotated = rk_alloc_aligned(64, code_n * sizeof(*s->rotated));
    s->scaled = rk_alloc_aligned(64, code_n * sizeof(*s->scaled));
    s->lut = rk_alloc_aligned(64, rk__bits_groups((uint32_t)code_n) * 16);
    s->code = rk_alloc_aligned(64, code_n);
    s->known = rk_alloc(RK__KNOWN * sizeof(*s->known));
    s->known_origin = rk_alloc(RK__KNOWN);
    if (!s->visited || !s->touched || !s->nodes || !s->rows_of || !s->keys || !s->spare.items ||
        !s->query || !s->other || !s->f32 || !s->rotated || !s->scaled || !s->lut || !s->code ||
        !s->known || !s->known_origin) {
        scratch_free(s);
        return NULL;
    }
    s->spare.cap = (uint32_t)width;
    return s;
}

rk__hnsw_scratch *
rk__hnsw_scratch_take(rk__hnsw *graph, const rk__space *space, uint32_t cands)
{
    rk__hnsw_scratch *s = NULL;

    for (size_t i = 0; !s && i < RK__HNSW_SLOTS; i++) {
        if (atomic_load_explicit(&graph->slots[i], memory_order_relaxed)) {
            s = atomic_exchange_explicit(&graph->slots[i], NULL, memory_order_acquire);
        }
    }
    if (!s) {
        s = scratch_new(graph, space);
    }
    if (s && s->items_cap < cands) {
        rk__cand *pool = rk_realloc(s->pool.items, ((size_t)cands + 1) * sizeof(*pool));
        s->pool.items = pool ? pool : s->pool.items;
        rk__cand *results = rk_realloc(s->results.items, ((size_t)cands + 1) * sizeof(*results));
        s->results.items = results ? results : s->results.items;
        rk__cand *passing = rk_realloc(s->passing.items, ((size_t)cands + 1) * sizeof(*passing));
        s->passing.items = passing ? passing : s->passing.items;
        rk__cand *popped = rk_realloc(s->popped.items, ((size_t)cands + 1) * sizeof(*popped));
        s->popped.items = popped ? popped : s->popped.items;
        rk__waiting *waiting =
            rk_realloc(s->waiting, ((size_t)cands + RK__WAITING_MORE) * sizeof(*waiting));
        s->waiting = waiting ? waiting : s->waiting;
        if (!pool || !results || !passing || !popped || !waiting) {
            scratch_free(s);
            return NULL;
        }
        s->items_cap = cands;
    }
    return s;
}

void
rk__hnsw_scratch_give(rk__hnsw *graph, rk__hnsw_scratch *scratch)
{
    for (size_t i = 0; scratch && i < RK__HNSW_SLOTS; i++) {
        rk__hnsw_scratch *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&graph->slots[i], &empty, scratch,
                                                    memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
    scratch_free(scratch);
}

void
rk__hnsw_scratch_free_all(rk__hnsw *graph)
{
    for (size_t i = 0; i < RK__HNSW_SLOTS; i++) {
        scratch_free(atomic_exchange(&graph->slots[i], NULL));
    }
}

/* ---- scoring ---- */

void
rk__walker_init(rk__walker *walker, const rk__hnsw *graph, const rk__space *space)
{
    const rk__kernels *kernels = rk__kernels_get();

    *walker = (rk__walker){.space = space};
    if (graph->codes.data) {
        walker->codes = &graph->codes;
        walker->negate = space->metric == RK_METRIC_IP;
        walker->code4 = walker->negate ? kernels->code_ipx4 : kernels->code_l2x4;
    }
}

void
rk__walker_row(rk__walker *walker, uint32_t row, int16_t *buffer)
{
    if (walker->codes) {
        const int8_t *code = walker->codes->data + (size_t)row * walker->codes->stride;
        for (size_t i = 0; i < walker->codes->n; i++) {
            buffer[i] = code[i];
        }
        walker->code_query = buffer;
    } else {
        walker->row_query =
            (rk__query){.data = rk__space_row(walker->space, row), .len = walker->space->row_bytes};
        if (walker->space->metric == RK_METRIC_COSINE) {
            walker->row_query.inv_norm = walker->space->inv_norms[row];
        }
    }
}

bool
rk__walker_query(rk__walker *walker, const rk__query *query, rk__hnsw_scratch *scratch)
{
    if (walker->codes) {
        walker->code_query = scratch->query;
        return rk__hnsw_encode_query(walker->codes, walker->space, query, scratch);
    }
    walker->row_query = *query;
    if (walker->space->type == RK_VEC_BINARY || walker->space->type == RK_VEC_I8) {
        return true;
    }
    return isfinite(walker->space->self_ip(query->data, query->data, walker->space->dist_n));
}

void
rk__walker_keys(const rk__walker *walker, const uint32_t *rows, size_t n, float *keys)
{
    const rk__hnsw_codes *codes = walker->codes;

    if (!codes) {
        rk__keys(walker->space, &walker->row_query, rows, n, keys);
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        const int8_t *four[4];
        int32_t dist[4];
        size_t m = RK_MIN(n - i, (size_t)4);
        for (size_t j = 0; j < 4; j++) {
            four[j] = codes->data + (size_t)rows[i + RK_MIN(j, m - 1)] * codes->stride;
        }
        for (size_t j = i + 4; j < n && j < i + 8; j++) {
            rk__fetch(codes->data + (size_t)rows[j] * codes->stride,
                      RK_MIN(codes->n, (size_t)LINES_AHEAD * 64));
        }
        walker->code4(walker->code_query, four, codes->n, dist);
        for (size_t j = 0; j < m; j++) {
            keys[i + j] = walker->negate ? -(float)dist[j] : (float)dist[j];
        }
    }
}

static inline const char *
row_to_prefetch(const rk__walker *walker, uint32_t row)
{
    return walker->codes ? (const char *)walker->codes->data + (size_t)row * walker->codes->stride
                         : (const char *)rk__space_row(walker->space, row);
}

/* ---- walking ---- */

/* The links of |node| at a level above the ground, |lines| of each code asked for. */
static inline uint32_t
neighbours(const rk__walker *walker, const rk__hnsw_level *level, uint32_t node, size_t lines,
           rk__hnsw_scratch *scratch)
{
    const rk__link *links = level->links + (size_t)node * level->stride;
    uint32_t n = 0;

    for (uint32_t i = 0; i < level->cap; i++) {
        uint32_t next = rk__link_get(&links[i]);
        if (next >= level->nodes) {
            break;
        }
        uint32_t row = level->node_rows ? level->node_rows[next] : next;
        if (row < walker->space->rows) {
            const char *at = row_to_prefetch(walker, row);
            for (size_t line = 0; line < lines; line++) {
                __builtin_prefetch(at + line * 64);
            }
            scratch->nodes[n] = next;
            scratch->rows_of[n++] = row;
        }
    }
    return n;
}

static inline void
nearest(const rk__walker *walker, uint32_t n, rk__hnsw_scratch *scratch, uint32_t *node,
        float *best)
{
    rk__walker_keys(walker, scratch->rows_of, n, scratch->keys);
    for (uint32_t i = 0; i < n; i++) {
        if (scratch->keys[i] < *best) {
            *best = scratch->keys[i];
            *node = scratch->nodes[i];
        }
    }
}

uint32_t
rk__hnsw_descend(const rk__walker *walker, const rk__hnsw_level *level, uint32_t node,
                 rk__hnsw_scratch *scratch)
{
    float best = 0;
    uint32_t row = level->node_rows ? level->node_rows[node] : node;
    uint32_t last = RK__NO_ROW;

    if (row >= walker->space->rows) {
        return node;
    }
    rk__walker_keys(walker, &row, 1, &best);
    while (node != last) {
        uint32_t n = neighbours(walker, level, node, 1, scratch);
        last = node;
        nearest(walker, n, scratch, &node, &best);
    }
    return node;
}

static inline size_t
lines_of(const rk__walker *walker)
{
    size_t bytes = walker->codes ? walker->codes->n : walker->space->row_bytes;

    return RK_MIN((bytes + 63) / 64, (size_t)LINES_AHEAD);
}

bool
rk__descent_start(const rk__hnsw *graph, const rk__walker *walker, rk__hnsw_scratch *scratch,
                  rk__descent *d)
{
    const rk__hnsw_level *top = &graph->levels[graph->n_levels];

    *d = (rk__descent){.level = graph->n_upper > 0 ? graph->n_levels : 0};
    if (d->level == 0 || top->node_rows[0] >= walker->space->rows) {
        return false;
    }
    rk__walker_keys(walker, &top->node_rows[0], 1, &d->best);
    d->n = neighbours(walker, top, 0, lines_of(walker), scratch);
    return true;
}

bool
rk__descent_step(const rk__hnsw *graph, const rk__walker *walker, rk__hnsw_scratch *scratch,
                 rk__descent *d)
{
    uint32_t last = d->node;

    nearest(walker, d->n, scratch, &d->node, &d->best);
    if (d->node == last) {
        d->level--;
        if (d->level == 0) {
            return false;
        }
    }
    d->n = neighbours(walker, &graph->levels[d->level], d->node, lines_of(walker), scratch);
    return true;
}

/* The links of |node| not visited before, as nodes and rows; returns how many. */
static uint32_t
gather(const rk__walker *walker, const rk__hnsw_level *level, uint32_t node, rk__hnsw_scratch *s)
{
    const rk__link *links = level->links + (size_t)node * level->stride;
    size_t rows = walker->space->rows;
    size_t lines = RK_MIN((walker->codes ? walker->codes->n : walker->space->row_bytes) / 64 + 1,
                          (size_t)LINES_AHEAD);
    uint32_t n = 0;

    for (uint32_t i = 0; i < level->cap; i++) {
        uint32_t next = rk__link_get(&links[i]);
        if (next >= level->nodes) {
            break;
        }
        if (!rk__visit(s, next)) {
            continue;
        }
        uint32_t row = level->node_rows ? level->node_rows[next] : next;
        if (RK_UNLIKELY(row >= rows)) {
            continue;
        }
        const char *at = row_to_prefetch(walker, row);
        for (size_t line = 0; line < (n < 8 ? lines : RK_MIN(lines, (size_t)2)); line++) {
            __builtin_prefetch(at + line * 64);
        }
        s->nodes[n] = next;
        s->rows_of[n++] = row;
    }
    return n;
}

/* Puts the scored nodes among the candidates; returns the lowest place taken, or UINT32_MAX. */
static uint32_t
take_scored(const rk__hnsw *graph, const rk__walker *walker, const rk_bitset *filter,
            rk__hnsw_scratch *s, uint32_t n)
{
    uint32_t lowest = UINT32_MAX;
    uint32_t at = 0;

    for (uint32_t i = 0; i < n; i++) {
        float key = s->keys[i];
        if (filter &&
            (s->results.n < s->results.cap || key < s->results.items[s->results.n - 1].key) &&
            rk__hnsw_passes(graph, walker->space->rows, filter, s->rows_of[i])) {
            (void)rk__pool_insert(&s->results, key, s->nodes[i], &at);
        }
        if (key == key && rk__pool_insert(&s->pool, key, s->nodes[i], &at)) {
            lowest = RK_MIN(lowest, at);
        }
    }
    return lowest;
}

void
rk__hnsw_walk(const rk__hnsw *graph, const rk__walker *walker, const rk__hnsw_level *level,
              const uint32_t *entries, size_t n_entries, const rk_bitset *filter,
              rk__hnsw_scratch *s)
{
    uint32_t at = 0;

    s->pool.n = 0;
    s->results.n = 0;
    for (size_t i = 0; i < n_entries; i++) {
        uint32_t row = entries[i] < level->nodes && level->node_rows ? level->node_rows[entries[i]]
                                                                     : entries[i];
        if (entries[i] < level->nodes && row < walker->space->rows && rk__visit(s, entries[i])) {
            s->nodes[0] = entries[i];
            s->rows_of[0] = row;
            rk__walker_keys(walker, s->rows_of, 1, s->keys);
            (void)take_scored(graph, walker, filter, s, 1);
        }
    }
    while (at < s->pool.n) {
        rk__cand *cand = &s->pool.items[at];
        if (cand->node & RK__HNSW_EXPANDED) {
            at++;
            continue;
        }
        uint32_t node = cand->node;
        cand->node |= RK__HNSW_EXPANDED;
        uint32_t n = gather(walker, level, node, s);
        rk__walker_keys(walker, s->rows_of, n, s->keys);
        uint32_t lowest = take_scored(graph, walker, filter, s, n);
        at = lowest <= at ? lowest : at + 1;
        if (at < s->pool.n) {
            const rk__link *next =
                level->links +
                (size_t)(s->pool.items[at].node & ~RK__HNSW_EXPANDED) * level->stride;
            __builtin_prefetch((const void *)(uintptr_t)next);
            __builtin_prefetch((const void *)(uintptr_t)(next + 16));
        }
    }
    for (uint32_t i = 0; i < s->pool.n; i++) {
        s->pool.items[i].node &= ~RK__HNSW_EXPANDED;
    }
    rk__clear_visited(s);
}
