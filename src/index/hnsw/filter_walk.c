/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk over blocks under a filter.
 *
 * It goes where the walk of hnsw/block.c goes, through masked nodes too, and collects what passes:
 * the popped nodes by their own codes, and of the neighbours of all popped nodes those with the
 * best estimates, which are scored by their codes in the end. So a passing row is found without a
 * visit, one hop before the walk would come to it. The filter is tested for the 32 neighbours of a
 * block at once.
 *
 * The fewer pass, the wider it goes. So its candidates are not one sorted array, where each costs
 * as much as there are others, but a short sorted one in front of an unsorted one, which is thinned
 * out when it is full.
 *
 * Rows with equal bytes are one node, which passes when one of them does; so the bit of a node says
 * no for certain only where nothing is chained to it.
 */
#include "index/hnsw/filter.h"
#include "index/hnsw/hop.h"

#define NONE  UINT32_MAX
#define LEAST 24u  /* candidates kept at least */
#define LOOSE 16u  /* so many more, before the farthest are let go */
#define AHEAD 3u   /* blocks asked for in advance */
#define LOW   3.0f /* buckets begin so many ranges of the first keys below the least of them */

/* ---- candidates ---- */

static inline uint32_t
bucket_of(const rk__frontier *f, float key)
{
    float at = (key - f->low) * f->scale;

    at = at > 0 ? at : 0; /* no number: 0 */
    return at < (float)(RK__BUCKETS - 1) ? (uint32_t)at : RK__BUCKETS - 1;
}

static inline void
put(rk__frontier *f, uint32_t bucket, uint32_t place)
{
    f->items[place].next = f->first[bucket];
    f->first[bucket] = place;
    f->any[bucket / 64] |= UINT64_C(1) << bucket % 64;
}

static inline uint32_t
take(rk__frontier *f, uint32_t bucket)
{
    uint32_t place = f->first[bucket];

    f->first[bucket] = f->items[place].next;
    if (f->first[bucket] == NONE) {
        f->any[bucket / 64] &= ~(UINT64_C(1) << bucket % 64);
    }
    f->n--;
    return place;
}

/* The first bucket from |from| on that holds any, or NONE. */
static inline uint32_t
next_bucket(const rk__frontier *f, uint32_t from)
{
    uint32_t w = from / 64;
    uint64_t bits = w < RK__BUCKETS / 64 ? f->any[w] & ~UINT64_C(0) << from % 64 : 0;

    while (bits == 0) {
        if (++w >= RK__BUCKETS / 64) {
            return NONE;
        }
        bits = f->any[w];
    }
    return w * 64 + (uint32_t)__builtin_ctzll(bits);
}

static uint32_t
last_bucket(const rk__frontier *f)
{
    uint32_t w = RK__BUCKETS / 64 - 1;

    while (w > 0 && f->any[w] == 0) {
        w--;
    }
    return f->any[w] == 0 ? 0 : w * 64 + 63 - (uint32_t)__builtin_clzll(f->any[w]);
}

/* Candidates from this key on are of no use. */
static inline float
bound_of(const rk__frontier *f)
{
    return f->top == RK__BUCKETS - 1 ? INFINITY : f->low + (float)(f->top + 1) / f->scale;
}

/* Lets one of the farthest go. */
static void
let_go(rk__frontier *f)
{
    uint32_t last = last_bucket(f);
    uint32_t place = take(f, last);

    f->items[place].next = f->spare;
    f->spare = place;
    f->top = last;
}

/* Buckets begin at |low|, |scale| for each unit of the key. */
static void
arrange(rk__frontier *f, float low, float high)
{
    uint32_t all = NONE;

    for (uint32_t b = next_bucket(f, 0); b != NONE; b = next_bucket(f, b)) {
        uint32_t n = f->n;
        uint32_t place = take(f, b);
        f->n = n;
        f->items[place].next = all;
        all = place;
    }
    float range = high - low;
    f->low = isfinite(low) ? low : 0;
    f->scale = range > 0 && isfinite(range) ? (float)(RK__BUCKETS - 1) / range : 1;
    f->top = RK__BUCKETS - 1;
    while (all != NONE) {
        uint32_t next = f->items[all].next;
        put(f, bucket_of(f, f->items[all].key), all);
        all = next;
    }
}

/* Where buckets begin is seen from the first candidates. */
static void
begin(rk__frontier *f)
{
    float least = INFINITY;
    float most = -INFINITY;

    for (uint32_t b = next_bucket(f, 0); b != NONE; b = next_bucket(f, b + 1)) {
        for (uint32_t i = f->first[b]; i != NONE; i = f->items[i].next) {
            least = RK_MIN(least, f->items[i].key);
            most = RK_MAX(most, f->items[i].key);
        }
    }
    arrange(f, least - LOW * (most - least), most);
}

static inline void
push(rk__frontier *f, float key, uint32_t node, uint32_t origin)
{
    uint32_t bucket = bucket_of(f, key);
    uint32_t place = f->spare;

    if (bucket > f->top) {
        return;
    }
    if (place != NONE) {
        f->spare = f->items[place].next;
    } else if (f->used < f->cap) {
        place = f->used++;
    } else { /* instead of the farthest */
        uint32_t last = last_bucket(f);
        if (bucket >= last) {
            return;
        }
        place = take(f, last);
    }
    f->items[place] = (rk__waiting){.key = key, .node = node, .origin = origin};
    put(f, bucket, place);
    f->n++;
    if (f->n > f->keep + LOOSE) {
        let_go(f);
    }
}

/* ---- the walk ---- */

static inline uint32_t
count_bits(uint32_t x)
{
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return x * 0x01010101u >> 24;
}

#define FEW 10 /* rows are tested one by one: nothing else of the filter is read */

/* Those of |mask| that are rows and were not popped. */
static inline uint32_t
new_ones(const rk__filter_walk *w, const uint32_t links[RK__BITS_ROWS], uint32_t mask)
{
    uint32_t rows = (uint32_t)w->space->rows;
    uint32_t bits = 0;

    for (; mask; mask &= mask - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(mask);
        uint32_t row = links[i] < rows ? links[i] : 0;
        bits |= (uint32_t)(links[i] < rows && !rk__hop_visited(w->s, row)) << i;
    }
    return bits;
}

/* Those of |mask|, all rows, that pass. */
static inline uint32_t
passing_ones(rk__filter_walk *w, const uint32_t links[RK__BITS_ROWS], uint32_t mask)
{
    uint32_t rows = (uint32_t)w->space->rows;
    uint32_t bits = 0;

    if (count_bits(mask) > FEW) {
        bits = mask & w->test(w->filter->words, rows, links);
    } else {
        for (uint32_t left = mask; left; left &= left - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(left);
            bits |= (uint32_t)rk_bitset_get(w->filter, links[i]) << i;
        }
    }
    for (uint32_t left = w->graph->chain ? mask & ~bits : 0; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(left);
        bits |= (uint32_t)rk__hnsw_passes(w->graph, rows, w->filter, links[i]) << i;
    }
    w->seen += count_bits(mask);
    w->met += count_bits(bits);
    return bits;
}

static inline uint32_t
rows_of(const rk__filter_walk *w, const uint32_t links[RK__BITS_ROWS], uint32_t mask)
{
    uint32_t rows = (uint32_t)w->space->rows;
    uint32_t bits = 0;

    for (; mask; mask &= mask - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(mask);
        bits |= (uint32_t)(links[i] < rows) << i;
    }
    return bits;
}

static inline uint32_t
root_of(const rk__filter_walk *w, uint32_t origin)
{
    while (w->parent[origin] != origin) {
        origin = w->parent[origin];
    }
    return origin;
}

static inline void
know(rk__filter_walk *w, uint32_t node, uint32_t origin)
{
    w->s->known[node % RK__KNOWN] = node;
    w->s->known_origin[node % RK__KNOWN] = (uint8_t)origin;
}

uint32_t
rk__filter_walk_origin(const rk__filter_walk *w, uint32_t node)
{
    uint32_t slot = node % RK__KNOWN;

    return w->s->known[slot] == node ? root_of(w, w->s->known_origin[slot]) : RK__ORIGINS;
}

/* Origins that lead to the same nodes are one. */
static inline void
join_origins(rk__filter_walk *w, const uint32_t links[RK__BITS_ROWS], uint32_t mask)
{
    for (; mask; mask &= mask - 1) {
        uint32_t node = links[__builtin_ctz(mask)];
        uint32_t a = rk__filter_walk_origin(w, node);
        if (a == RK__ORIGINS) {
            know(w, node, w->origin);
        } else {
            uint32_t b = root_of(w, w->origin);
            w->parent[RK_MAX(a, b)] = (uint8_t)RK_MIN(a, b);
        }
    }
}

/* Bits of the estimates below |bound|. */
static inline uint32_t
nearer(const float est[RK__BITS_ROWS], float bound)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < RK__BITS_ROWS; i++) {
        bits |= (uint32_t)(est[i] < bound) << i;
    }
    return bits;
}

/* Estimates the neighbours of a popped node. */
static void
scan_block(rk__filter_walk *w, const uint8_t *block, float key)
{
    const rk__hnsw *graph = w->graph;
    const rk__block_query *q = &w->query;
    rk__frontier *f = &w->frontier;
    rk__hnsw_scratch *s = w->s;
    const uint8_t *group = block + graph->codes.n;
    uint32_t at = 0;
    float est[RK__BITS_ROWS];

    for (uint32_t g = 0; g < graph->blocks.width;
         g += RK__BITS_ROWS, group += graph->blocks.group) {
        const float *factors = (const float *)(const void *)group;
        const uint32_t *links = (const uint32_t *)(const void *)(group + RK__BLOCK_LINKS);
        float bound = bound_of(f);
        float worst = rk__hop_worst(&s->passing);
        uint32_t mask = q->scan32(
            q->bits.lut, group + RK__BLOCK_BITS, rk__bits_groups((uint32_t)graph->codes.n), factors,
            factors + RK__BITS_ROWS, q->bits.unit, q->bits.bias, key, RK_MAX(bound, worst), est);
        uint32_t new = 0;
        uint32_t may = 0;
        if (w->inside) {
            may = passing_ones(w, links, rows_of(w, links, mask));
            join_origins(w, links, may);
            may = new_ones(w, links, may);
            new = may;
        } else {
            new = new_ones(w, links, mask);
            may = worst < bound && count_bits(new) > FEW ? new &nearer(est, worst) : new;
            may = passing_ones(w, links, may);
        }
        for (; may; may &= may - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(may);
            if (est[i] < rk__hop_worst(&s->passing)) {
                (void)rk__hop_vouch(&s->passing, s->vouched_passing, est[i], links[i], &at);
            }
        }
        mask = bound < worst && count_bits(new) > FEW ? new &nearer(est, bound) : new;
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            uint32_t node = links[i];
            rk__cand *before = &s->vouched[node % RK__VOUCHED];
            if (!(before->node == node && !(est[i] < before->key))) {
                *before = (rk__cand){est[i], node};
                push(f, est[i], node, w->origin);
            }
        }
    }
}

/* No candidates, none popped. */
static void
clear(rk__filter_walk *w)
{
    rk__hnsw_scratch *s = w->s;
    rk__frontier *f = &w->frontier;

    f->items = s->waiting;
    f->cap = s->items_cap + RK__WAITING_MORE;
    f->used = 0;
    f->spare = NONE;
    f->n = 0;
    f->keep = UINT32_MAX - LOOSE;
    f->top = RK__BUCKETS - 1;
    f->low = 0;
    f->scale = 0;
    memset(f->any, 0, sizeof(f->any));
    memset(f->first, 0xff, sizeof(f->first));
    s->popped.n = 0;
    memset(s->vouched, 0xff, sizeof(s->vouched));
}

void
rk__filter_walk_start(rk__filter_walk *w, uint32_t entry)
{
    rk__hnsw_scratch *s = w->s;
    rk__frontier *f = &w->frontier;

    w->query = rk__block_query_of(w->graph, w->space, s);
    w->test = rk__kernels_get()->test32;
    w->inside = false;
    w->seen = 0;
    w->met = 0;
    clear(w);
    s->passing.n = 0;
    s->results.n = 0;
    memset(s->vouched_passing, 0xff, sizeof(s->vouched_passing));
    if (entry < w->space->rows) {
        push(f, 0, entry, 0);
    }
}

void
rk__filter_walk_inside(rk__filter_walk *w)
{
    const rk__pool *passing = &w->s->passing;

    w->inside = true;
    w->origins = 1;
    for (uint32_t i = 0; i < RK__ORIGINS; i++) {
        w->parent[i] = (uint8_t)i;
    }
    memset(w->s->known, 0xff, RK__KNOWN * sizeof(*w->s->known));
    clear(w);
    for (uint32_t i = 0; i < passing->n; i++) {
        know(w, passing->items[i].node, 0);
        push(&w->frontier, passing->items[i].key, passing->items[i].node, 0);
    }
}

void
rk__filter_walk_seed(rk__filter_walk *w, uint32_t row)
{
    const uint8_t *block = w->graph->blocks.data + (size_t)row * w->graph->blocks.stride;
    const rk__hnsw_level *ground = &w->graph->levels[0];
    uint32_t at = 0;

    if (w->origins == RK__ORIGINS ||
        rk__link_get(&ground->links[(size_t)row * ground->stride]) >= w->space->rows) {
        return; /* not linked: chained to a row with equal bytes */
    }
    float key = rk__hop_key(&w->query, block, w->graph->codes.n);
    (void)rk__hop_vouch(&w->s->passing, w->s->vouched_passing, key, row, &at);
    know(w, row, w->origins);
    push(&w->frontier, key, row, w->origins++);
}

/* Among the popped ones, by estimate. */
static inline void
note_popped(rk__pool *popped, rk__cand c)
{
    uint32_t i = popped->n;

    if (popped->n == popped->cap) {
        if (!(c.key < popped->items[i - 1].key)) {
            return;
        }
        i--;
    } else {
        popped->n++;
    }
    for (; i > 0 && popped->items[i - 1].key > c.key; i--) {
        popped->items[i] = popped->items[i - 1];
    }
    popped->items[i] = c;
}

/* Asks for the blocks of the next candidates, from bucket |b| on. */
static inline void
fetch_next(rk__filter_walk *w, uint32_t b)
{
    rk__frontier *f = &w->frontier;
    uint32_t left = AHEAD;

    for (b = next_bucket(f, b); b != NONE; b = next_bucket(f, b + 1)) {
        for (uint32_t i = f->first[b]; i != NONE; i = f->items[i].next) {
            if (!(f->items[i].node & RK__HNSW_EXPANDED)) {
                rk__hop_fetch(&w->graph->blocks, f->items[i].node, true);
                f->items[i].node |= RK__HNSW_EXPANDED;
            }
            if (--left == 0) {
                return;
            }
        }
    }
}

void
rk__filter_walk_on(rk__filter_walk *w, uint32_t target)
{
    const rk__hnsw *graph = w->graph;
    rk__hnsw_scratch *s = w->s;
    rk__frontier *f = &w->frontier;
    rk__pool *popped = &s->popped;

    popped->cap = RK_MIN(target, s->items_cap);
    f->keep = RK_MAX(target, LEAST);
    f->top = RK__BUCKETS - 1;
    if (w->inside && f->scale == 0) {
        begin(f);
    }
    for (;;) {
        uint32_t b = next_bucket(f, 0);
        if (b == NONE) {
            return;
        }
        rk__waiting *c = &f->items[f->first[b]];
        if (popped->n == popped->cap && c->key >= popped->items[popped->n - 1].key) {
            return;
        }
        uint32_t node = c->node & ~RK__HNSW_EXPANDED;
        rk__cand cand = {c->key, node};
        bool fetched = c->node != node;
        w->origin = c->origin;
        f->items[take(f, b)].next = f->spare;
        f->spare = (uint32_t)(c - f->items);
        if (!rk__visit(s, node)) {
            continue;
        }
        if (!fetched) {
            rk__hop_fetch(&graph->blocks, node, false);
        }
        fetch_next(w, b);
        const uint8_t *block = graph->blocks.data + (size_t)node * graph->blocks.stride;
        float key = rk__hop_key(&w->query, block, graph->codes.n);
        if (rk__hnsw_passes(graph, w->space->rows, w->filter, node)) {
            uint32_t at = 0;
            (void)rk__pool_insert(&s->results, key, node, &at);
            cand.node |= RK__HNSW_EXPANDED;
        }
        note_popped(popped, cand);
        scan_block(w, block, key);
        if (f->scale == 0) {
            begin(f);
        }
    }
}

void
rk__filter_walk_end(rk__filter_walk *w)
{
    rk__hop_score_rest(w->graph, &w->query, &w->s->passing, w->s);
    rk__clear_visited(w->s);
}
