/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the graph.
 *
 * Steps: set aside rows that cannot be compared (NaN, infinity) and chain rows with equal bytes;
 * make codes; draw levels; insert nodes, upper ones first, in chunks over the caller's threads;
 * make every node reachable from the entry; lay the ground out in blocks (hnsw/block.c). Where
 * there are codes, only upper nodes are inserted, and the ground is linked by clusters
 * (hnsw/cluster.c); except for IP among vectors of unequal length.
 *
 * An insertion walks down to the node's level, finds the ef_construction nearest at each level,
 * keeps a diverse set of them (algorithm 4 of the paper) and links back. Readers take no lock:
 * links are relaxed atomic words and hold only nodes. Writers of a list hold its stripe, a spin
 * lock, for the time of one prune; no other lock is taken under it. On one thread the result is a
 * function of data, parameters and seed; on several it also depends on timing.
 *
 * Repair: a breadth-first pass over the ground finds nodes that no path reaches (far clusters,
 * lists filled by closer nodes); each is linked from the nearest reached node that has room, else
 * from the nearest one in place of its last link, then the pass goes on.
 */
#include "index/hnsw/build.h"

#include <sched.h>
#include <stdlib.h>

#define CHUNK         64u
#define STRIPES       65536u
#define UPPER_EF      64u
#define REPAIR_EF     64u
#define REPAIR_ROUNDS 3u
#define NORM_SPREAD   1.1 /* squared lengths that differ by less are taken for equal */

/* ---- preparation ---- */

static bool
row_is_finite(const rk__space *space, const uint8_t *row)
{
    uint32_t bad = 0;

    switch (space->type) {
    case RK_VEC_F32:
        for (size_t i = 0; i < space->dim; i++) {
            bad |= (rk_get_u32le(row + i * 4) & 0x7f800000u) == 0x7f800000u;
        }
        break;
    case RK_VEC_F16:
        for (size_t i = 0; i < space->dim; i++) {
            bad |= (rk_get_u16le(row + i * 2) & 0x7c00u) == 0x7c00u;
        }
        break;
    case RK_VEC_BF16:
        for (size_t i = 0; i < space->dim; i++) {
            bad |= (rk_get_u16le(row + i * 2) & 0x7f80u) == 0x7f80u;
        }
        break;
    case RK_VEC_BINARY:
    case RK_VEC_SPARSE:
    case RK_VEC_I8:
        break;
    }
    return !bad;
}

void
rk__hnsw_skip(rk__hnsw_builder *b)
{
    const rk__space *space = &b->index->space;

    for (size_t r = 0; r < space->rows; r++) {
        if (!row_is_finite(space, rk__space_row(space, r))) {
            rk_bitset_set(&b->skip, r);
        }
    }
}

typedef struct row_hash {
    uint64_t hash;
    uint32_t row;
} row_hash;

static int
compare_hashes(const void *a, const void *b)
{
    const row_hash *x = a;
    const row_hash *y = b;

    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Chains equal rows to the first of them. Within a run of equal hashes each row is compared with
 * the first only: a row that merely collides stays a node of its own. */
rk_code
rk__hnsw_chain(rk__hnsw_builder *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    row_hash *hashes = rk_alloc(RK_MAX(space->rows, (size_t)1) * sizeof(*hashes));
    uint32_t *chain = NULL;
    uint32_t tail = 0;
    rk_code code = RK_OK;

    if (!hashes) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory to compare %zu rows", space->rows);
    }
    for (size_t r = 0; r < space->rows; r++) {
        const uint8_t *row = rk__space_row(space, r);
        if (r % 4096 == 0 && rk__cancelled(b->options)) {
            code = rk_fail(err, RK_ECANCELLED, "HNSW build cancelled while rows were compared");
            goto out;
        }
        hashes[r] = (row_hash){rk_hash64(row, space->row_bytes), (uint32_t)r};
    }
    qsort(hashes, space->rows, sizeof(*hashes), compare_hashes);
    for (size_t i = 0, first = 0; i < space->rows; i++) {
        if (hashes[i].hash != hashes[first].hash) {
            first = i;
        }
        if (i == first) {
            tail = hashes[i].row;
            continue;
        }
        if (rk_bitset_get(&b->skip, hashes[first].row) ||
            memcmp(rk__space_row(space, hashes[i].row), rk__space_row(space, hashes[first].row),
                   space->row_bytes) != 0) {
            continue;
        }
        if (!chain) {
            RK_ERR(rk__index_reserve(b->index, space->rows * sizeof(*chain),
                                     "HNSW chains of equal rows", err));
            chain = rk__alloc_huge(space->rows * sizeof(*chain));
            if (!chain) {
                code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory for chains of %zu rows",
                               space->rows);
                goto out;
            }
            memset(chain, 0xff, space->rows * sizeof(*chain));
            b->graph->owned[5] = chain;
            b->graph->chain = chain;
        }
        chain[tail] = hashes[i].row;
        tail = hashes[i].row;
        rk_bitset_set(&b->skip, hashes[i].row);
    }
out:
    rk_free(hashes);
    return code;
}

uint8_t
rk__hnsw_draw_level(const rk__hnsw *graph, uint64_t *state)
{
    double u = ((double)(rk__random(state) >> 11) + 1) * 0x1p-53;
    double level = -log(u) / log((double)graph->M);

    return (uint8_t)(level < RK__HNSW_LEVELS_MAX ? level : RK__HNSW_LEVELS_MAX);
}

static void
draw_levels(rk__hnsw_builder *b)
{
    uint64_t state = b->options->seed;

    for (size_t r = 0; r < b->index->space.rows; r++) {
        b->levels[r] = rk__hnsw_draw_level(b->graph, &state);
    }
}

static void
list_nodes(rk__hnsw_builder *b, const uint8_t *fresh, bool wanted,
           uint32_t at[RK__HNSW_LEVELS_MAX + 2])
{
    for (size_t r = 0; r < b->index->space.rows; r++) {
        if (!rk_bitset_get(&b->skip, r) && (fresh && fresh[r]) == wanted) {
            b->order[at[b->levels[r]]++] = (uint32_t)r;
            b->n_nodes++;
        }
    }
}

void
rk__hnsw_order(rk__hnsw_builder *b, const uint8_t *fresh)
{
    rk__hnsw *graph = b->graph;
    uint32_t count[RK__HNSW_LEVELS_MAX + 2] = {0};
    uint32_t at[RK__HNSW_LEVELS_MAX + 2] = {0};

    for (size_t r = 0; r < b->index->space.rows; r++) {
        if (!rk_bitset_get(&b->skip, r)) {
            count[b->levels[r]]++;
        }
    }
    for (size_t l = RK__HNSW_LEVELS_MAX; l > 0; l--) {
        at[l - 1] = at[l] + count[l];
    }
    for (uint32_t l = 1; l <= RK__HNSW_LEVELS_MAX;
         l++) { /* nodes of level l: all of level l and above */
        graph->levels[l].nodes = at[l] + count[l];
        if (graph->levels[l].nodes > 0) {
            graph->n_levels = l;
        }
    }
    graph->n_upper = graph->levels[1].nodes;
    list_nodes(b, fresh, false, at);
    if (fresh) {
        list_nodes(b, fresh, true, at);
    }
}

rk_code
rk__hnsw_builder_links(rk__hnsw_builder *b, rk_err *err)
{
    rk__hnsw *graph = b->graph;
    size_t rows = b->index->space.rows;
    uint32_t cap0 = graph->codes.data ? rk__hnsw_width(graph->M) : graph->M * 2;
    uint32_t stride0 = (cap0 + 15) / 16 * 16;
    uint64_t upper = 0;

    for (uint32_t l = 1; l <= graph->n_levels; l++) {
        upper += (uint64_t)graph->levels[l].nodes * graph->M;
    }
    uint64_t ground_bytes = (uint64_t)rows * stride0 * sizeof(uint32_t);
    uint64_t upper_bytes = upper * sizeof(uint32_t);
    uint64_t rows_bytes = (uint64_t)graph->n_upper * sizeof(uint32_t);
    RK_RET(rk__index_reserve(b->index, ground_bytes + upper_bytes + rows_bytes, "HNSW links", err));
    graph->owned[0] = rk__alloc_huge(ground_bytes);
    graph->owned[1] = rk__alloc_huge(RK_MAX(upper_bytes, (uint64_t)64));
    graph->owned[2] = rk__alloc_huge(RK_MAX(rows_bytes, (uint64_t)64));
    if (!graph->owned[0] || !graph->owned[1] || !graph->owned[2]) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for links of %zu rows", rows);
    }
    memset(graph->owned[0], 0xff, ground_bytes);
    memset(graph->owned[1], 0xff, upper_bytes);
    if (graph->n_upper > 0) {
        memcpy(graph->owned[2], b->order, rows_bytes);
    }
    graph->levels[0] = (rk__hnsw_level){
        .links = graph->owned[0], .stride = stride0, .cap = cap0, .nodes = (uint32_t)rows};
    rk__link *links = graph->owned[1];
    for (uint32_t l = 1; l <= graph->n_levels; l++) {
        graph->levels[l].links = links;
        graph->levels[l].stride = graph->M;
        graph->levels[l].cap = graph->M;
        graph->levels[l].node_rows = graph->owned[2];
        links += (size_t)graph->levels[l].nodes * graph->M;
    }
    graph->entry = b->n_nodes > 0 ? b->order[0] : RK__NO_ROW;
    return RK_OK;
}

/* ---- linking ---- */

static inline uint32_t
row_of(const rk__hnsw_level *level, uint32_t node)
{
    return level->node_rows ? level->node_rows[node] : node;
}

/*
 * Algorithm 4: walks |cands| (sorted, nearest first, keys relative to the node being linked) and
 * keeps one when it is nearer to that node than to every one kept so far. Leaves the kept ones in
 * front, at most |cap|; returns how many.
 */
static uint32_t
select_diverse(rk__walker *walker, const rk__hnsw_level *level, rk__cand *cands, uint32_t n,
               uint32_t cap, rk__hnsw_scratch *s)
{
    uint32_t kept = 0;

    if (n <= 1) {
        return n;
    }
    for (uint32_t i = 0; i < n && kept < cap; i++) {
        bool good = true;
        if (kept > 0) {
            rk__walker_row(walker, row_of(level, cands[i].node), s->other);
        }
        for (uint32_t j = 0; good && j < kept; j += 4) {
            uint32_t rows[4];
            float keys[4];
            uint32_t m = RK_MIN(kept - j, 4u);
            for (uint32_t x = 0; x < m; x++) {
                rows[x] = row_of(level, cands[j + x].node);
            }
            rk__walker_keys(walker, rows, m, keys);
            for (uint32_t x = 0; x < m; x++) {
                good = good && !(keys[x] < cands[i].key);
            }
        }
        if (good) {
            cands[kept++] = cands[i];
        }
    }
    return kept;
}

static _Atomic(uint8_t) *
stripe_lock(rk__hnsw_builder *b, uint32_t row)
{
    _Atomic(uint8_t) *stripe = &b->stripes[rk_hash_u64(row) % STRIPES];

    for (unsigned spins = 0; atomic_exchange_explicit(stripe, 1, memory_order_acquire) != 0;
         spins++) {
        if (spins > 64) {
            sched_yield();
        }
    }
    return stripe;
}

static void
stripe_unlock(_Atomic(uint8_t) *stripe)
{
    atomic_store_explicit(stripe, 0, memory_order_release);
}

static void
write_links(rk__link *links, const rk__cand *cands, uint32_t n, uint32_t cap)
{
    for (uint32_t i = 0; i < n; i++) {
        rk__link_set(&links[i], cands[i].node);
    }
    for (uint32_t i = n; i < cap; i++) {
        rk__link_set(&links[i], RK__NO_ROW);
    }
}

/* Adds |node| to the links of |to|, pruning when they are full. */
static void
link_back(rk__hnsw_builder *b, rk__walker *walker, const rk__hnsw_level *level, uint32_t to,
          uint32_t node, float key, rk__hnsw_scratch *s)
{
    rk__link *links = level->links + (size_t)to * level->stride;
    _Atomic(uint8_t) *stripe = stripe_lock(b, row_of(level, to));
    uint32_t n = 0;
    bool known = false;

    for (; n < level->cap; n++) {
        uint32_t next = rk__link_get(&links[n]);
        if (next >= level->nodes) {
            break;
        }
        known = known || next == node;
        s->nodes[n] = next;
        s->rows_of[n] = row_of(level, next);
    }
    if (!known && n < level->cap) {
        rk__link_set(&links[n], node);
    } else if (!known) {
        uint32_t at = 0;
        rk__walker_row(walker, row_of(level, to), s->other);
        rk__walker_keys(walker, s->rows_of, n, s->keys);
        s->spare.n = 0;
        (void)rk__pool_insert(&s->spare, key, node, &at);
        for (uint32_t i = 0; i < n; i++) {
            (void)rk__pool_insert(&s->spare, s->keys[i], s->nodes[i], &at);
        }
        uint32_t kept = select_diverse(walker, level, s->spare.items, s->spare.n, level->cap, s);
        write_links(links, s->spare.items, kept, level->cap);
    }
    stripe_unlock(stripe);
}

/* Links |node| at |level| to a diverse set of the candidates of the last walk, both ways. */
static void
link_node(rk__hnsw_builder *b, rk__walker *walker, const rk__hnsw_level *level, uint32_t node,
          rk__hnsw_scratch *s)
{
    rk__link *links = level->links + (size_t)node * level->stride;
    rk__cand *cands = s->pool.items;
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->pool.n;
         i++) { /* concurrent insertions may have linked to us already */
        if (cands[i].node != node) {
            cands[n++] = cands[i];
        }
    }
    uint32_t kept = select_diverse(walker, level, cands, n,
                                   level->node_rows ? level->cap : level->cap * 3 / 4, s);
    _Atomic(uint8_t) *stripe = stripe_lock(b, row_of(level, node));
    uint32_t at = 0;
    uint32_t early[64];
    uint32_t n_early = 0;
    for (; at < level->cap && rk__link_get(&links[at]) < level->nodes; at++) {
        if (n_early < RK_COUNT(early)) {
            early[n_early++] = rk__link_get(&links[at]);
        }
    }
    write_links(links, cands, kept, level->cap);
    for (uint32_t i = 0; i < n_early && kept + i < level->cap;
         i++) { /* links made by others meanwhile stay */
        rk__link_set(&links[kept + i], early[i]);
    }
    stripe_unlock(stripe);
    for (uint32_t i = 0; i < kept; i++) {
        link_back(b, walker, level, cands[i].node, node, cands[i].key, s);
    }
}

/* Candidates of a node above a ground that clusters link. A search takes one way down there: what
 * more of them bring is lost in what it does on the ground. */
static uint32_t
upper_ef(const rk__hnsw *graph)
{
    return RK_MIN(RK_MAX(UPPER_EF, graph->M * 3), graph->ef_construction);
}

static void
insert_node(rk__hnsw_builder *b, uint32_t at, rk__hnsw_scratch *s)
{
    rk__hnsw *graph = b->graph;
    uint32_t row = b->order[at];
    uint32_t level = b->levels[row];
    rk__walker query;  /* the new node against the graph */
    rk__walker worker; /* any two nodes, while pruning */
    uint32_t entries[1];
    uint32_t from = 0;

    rk__walker_init(&query, graph, &b->index->space);
    rk__walker_init(&worker, graph, &b->index->space);
    rk__walker_row(&query, row, s->query);
    for (uint32_t l = graph->n_levels; l > level; l--) {
        from = rk__hnsw_descend(&query, &graph->levels[l], from, s);
    }
    for (uint32_t l = RK_MIN(level, graph->n_levels) + 1; l-- > (b->by_cluster ? 1u : 0u);) {
        const rk__hnsw_level *here = &graph->levels[l];
        uint32_t node = l > 0 ? at : row;
        entries[0] = l > 0 ? from : graph->n_upper > 0 ? b->order[from] : graph->entry;
        s->pool.cap = b->by_cluster ? upper_ef(graph) : graph->ef_construction;
        rk__hnsw_walk(graph, &query, here, entries, 1, NULL, s);
        if (s->pool.n > 0 && l > 0 && s->pool.items[0].node != node) {
            from = s->pool.items[0].node;
        }
        link_node(b, &worker, here, node, s);
    }
}

static void
insert_chunk(void *arg, size_t chunk)
{
    rk__hnsw_builder *b = arg;
    size_t from = chunk * CHUNK;
    size_t to = RK_MIN(from + CHUNK, (size_t)b->n_todo);

    if (rk__cancelled(b->options)) {
        atomic_store(&b->cancelled, true);
    }
    if (atomic_load(&b->cancelled) || atomic_load(&b->out_of_memory)) {
        return;
    }
    rk__hnsw_scratch *s =
        rk__hnsw_scratch_take(b->graph, &b->index->space, b->graph->ef_construction);
    if (!s) {
        atomic_store(&b->out_of_memory, true);
        return;
    }
    for (size_t i = from; i < to; i++) {
        insert_node(b, b->todo ? b->todo[i] : (uint32_t)i + 1, s); /* the first node is in place */
    }
    rk__hnsw_scratch_give(b->graph, s);
    if (b->options->rows_done && !b->by_cluster) {
        atomic_fetch_add(b->options->rows_done, (to - from) >> b->options->rows_done_shift);
    }
}

rk_code
rk__hnsw_insert(rk__hnsw_builder *b, rk_err *err)
{
    rk__parallel_run(b->options->parallel, ((size_t)b->n_todo + CHUNK - 1) / CHUNK, insert_chunk,
                     b);
    if (atomic_load(&b->cancelled)) {
        return rk_fail(err, RK_ECANCELLED, "HNSW build cancelled");
    }
    if (atomic_load(&b->out_of_memory)) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the scratch space of a thread");
    }
    return RK_OK;
}

/* ---- repair ---- */

typedef struct reach {
    rk_bitset seen;
    uint32_t *queue; /* a node is queued once */
    size_t head;
    size_t tail;
} reach;

static void
reach_from(reach *r, const rk__hnsw_level *ground, uint32_t node)
{
    if (!rk_bitset_get(&r->seen, node)) {
        rk_bitset_set(&r->seen, node);
        r->queue[r->tail++] = node;
    }
    while (r->head < r->tail) {
        const rk__link *links = ground->links + (size_t)r->queue[r->head++] * ground->stride;
        for (uint32_t i = 0; i < ground->cap; i++) {
            uint32_t next = rk__link_get(&links[i]);
            if (next >= ground->nodes) {
                break;
            }
            if (!rk_bitset_get(&r->seen, next)) {
                rk_bitset_set(&r->seen, next);
                r->queue[r->tail++] = next;
            }
        }
    }
}

/* Links |row| from the nearest reached node with room, or in place of the last link of the nearest.
 */
static void
attach(rk__hnsw_builder *b, uint32_t row, rk__hnsw_scratch *s)
{
    rk__hnsw *graph = b->graph;
    const rk__hnsw_level *ground = &graph->levels[0];
    rk__walker walker;
    uint32_t from = graph->entry;

    rk__walker_init(&walker, graph, &b->index->space);
    rk__walker_row(&walker, row, s->query);
    s->pool.cap = RK_MIN(REPAIR_EF, s->items_cap);
    rk__hnsw_walk(graph, &walker, ground, &from, 1, NULL, s);
    for (uint32_t i = 0; i < s->pool.n; i++) {
        rk__link *links = ground->links + (size_t)s->pool.items[i].node * ground->stride;
        for (uint32_t j = 0; j < ground->cap; j++) {
            if (rk__link_get(&links[j]) >= ground->nodes) {
                rk__link_set(&links[j], row);
                return;
            }
        }
    }
    if (s->pool.n > 0) {
        rk__link_set(
            &ground->links[(size_t)s->pool.items[0].node * ground->stride + ground->cap - 1], row);
    }
}

static rk_code
make_reachable(rk__hnsw_builder *b, rk_err *err)
{
    rk__hnsw *graph = b->graph;
    reach r = {.queue = rk_alloc(RK_MAX(b->n_nodes, 1u) * sizeof(uint32_t))};
    rk__hnsw_scratch *s = rk__hnsw_scratch_take(graph, &b->index->space, REPAIR_EF);
    rk_code code = rk_bitset_init(&r.seen, b->index->space.rows);

    if (code != RK_OK || !r.queue || !s) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory to check %u nodes", b->n_nodes);
        goto out;
    }
    for (unsigned round = 0; round < REPAIR_ROUNDS && b->n_nodes > 0; round++) {
        bool all = true;
        rk_bitset_fill(&r.seen, false);
        r.head = 0;
        r.tail = 0;
        reach_from(&r, &graph->levels[0], graph->entry);
        for (uint32_t i = 0; i < b->n_nodes; i++) {
            if (!rk_bitset_get(&r.seen, b->order[i])) {
                all = false;
                attach(b, b->order[i], s);
                reach_from(&r, &graph->levels[0], b->order[i]);
            }
        }
        if (all) {
            break;
        }
    }
out:
    rk__hnsw_scratch_give(graph, s);
    rk_bitset_deinit(&r.seen);
    rk_free(r.queue);
    return code;
}

/* ---- the whole ---- */

static uint64_t
temporary_bytes(size_t rows)
{
    return (uint64_t)rows * (sizeof(uint32_t) * 2 + sizeof(row_hash) + 1) + rows / 4 + STRIPES;
}

/* Clusters compare codes by L2, which is the order of IP only among vectors of equal length. */
bool
rk__hnsw_links_by_cluster(const rk__hnsw_builder *b)
{
    const rk__hnsw_codes *codes = &b->graph->codes;
    double least = (double)INFINITY;
    double most = 0;

    if (!codes->data) {
        return false;
    }
    if (b->index->space.metric != RK_METRIC_IP) {
        return true;
    }
    for (uint32_t i = 0; i < b->n_nodes; i++) {
        const int8_t *code = codes->data + (size_t)b->order[i] * codes->stride;
        int32_t norm = 0;
        for (size_t d = 0; d < codes->n; d++) {
            norm += code[d] * code[d];
        }
        least = RK_MIN(least, (double)norm);
        most = RK_MAX(most, (double)norm);
    }
    return most < least * NORM_SPREAD;
}

rk_code
rk__hnsw_builder_init(rk__hnsw_builder *b, rk_index *index, const rk_build_options *options,
                      rk_err *err)
{
    rk__hnsw *graph = rk_alloc_zero(1, sizeof(*graph));
    size_t rows = index->space.rows;

    *b = (rk__hnsw_builder){.index = index, .graph = graph, .options = options};
    if (!graph) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for its header");
    }
    index->impl = graph;
    graph->M = (uint32_t)rk__param_int(options->params, "M", index->automatic ? 18 : 30, 2, 2048);
    graph->ef_construction = (uint32_t)rk__param_int(options->params, "efConstruction",
                                                     index->automatic ? 240 : 360, 1, 100000);
    graph->ef_construction = RK_MAX(graph->ef_construction, graph->M);
    RK_RET(rk__index_reserve(index, temporary_bytes(rows), "HNSW build", err));
    b->temporary_bytes = temporary_bytes(rows);
    b->levels = rk_alloc_zero(RK_MAX(rows, (size_t)1), 1);
    b->order = rk_alloc_zero(RK_MAX(rows, (size_t)1), sizeof(*b->order));
    b->stripes = rk_alloc_zero(STRIPES, 1);
    if (!b->levels || !b->order || !b->stripes || rk_bitset_init(&b->skip, rows) != RK_OK) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for %zu rows", rows);
    }
    return RK_OK;
}

void
rk__hnsw_builder_deinit(rk__hnsw_builder *b)
{
    if (b->graph) {
        rk__hnsw_scratch_free_all(b->graph);
    }
    rk__index_release(b->index, b->temporary_bytes);
    rk_bitset_deinit(&b->skip);
    rk_free(b->levels);
    rk_free(b->order);
    rk_free((void *)(uintptr_t)b->stripes);
}

rk_code
rk__hnsw_builder_finish(rk__hnsw_builder *b, rk_err *err)
{
    RK_RET(make_reachable(b, err));
    RK_RET(rk__hnsw_make_blocks(b->index, b->options, err));
    rk__hnsw_seal(b->graph);
    if (b->options->rows_done && b->options->rows_done_shift == 0) {
        atomic_store(b->options->rows_done, b->index->space.rows);
    }
    return RK_OK;
}

static rk_code
build_graph(rk__hnsw_builder *b, rk_err *err)
{
    uint32_t n_inserted;

    RK_RET(rk__index_norms(b->index, err));
    rk__hnsw_skip(b);
    RK_RET(rk__hnsw_encode(b->index, b->graph, b->options, &b->skip, err));
    RK_RET(rk__hnsw_chain(b, err));
    draw_levels(b);
    rk__hnsw_order(b, NULL);
    RK_RET(rk__hnsw_builder_links(b, err));
    b->by_cluster = rk__hnsw_links_by_cluster(b);
    n_inserted = b->by_cluster ? b->graph->n_upper : b->n_nodes;
    b->n_todo = n_inserted > 0 ? n_inserted - 1 : 0;
    RK_RET(rk__hnsw_insert(b, err));
    if (b->by_cluster) {
        uint64_t bytes = rk__hnsw_cluster_bytes(b->graph, b->index->space.rows);
        RK_RET(rk__index_reserve(b->index, bytes, "HNSW clusters", err));
        rk_code code =
            rk__hnsw_cluster_ground(b->index, b->options, b->order, b->n_nodes, NULL, err);
        rk__index_release(b->index, bytes);
        RK_RET(code);
    }
    return rk__hnsw_builder_finish(b, err);
}

rk_code
rk__hnsw_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnsw_builder b;
    rk_code code = rk__hnsw_builder_init(&b, index, options, err);

    if (code == RK_OK) {
        code = build_graph(&b, err);
    }
    rk__hnsw_builder_deinit(&b);
    return code;
}
