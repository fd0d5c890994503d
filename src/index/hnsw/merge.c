/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A graph taken over from another index: rows that were deleted are taken out of it, new ones are
 * put in. What it costs goes with the rows that come and go, not with those that stay.
 *
 * Steps:
 *   1. rows set aside and chained as in a build; codes by the mean and scale of the old graph,
 *      which must still do for the rows;
 *   2. nodes of the old graph get their new numbers. A chain of equal rows stays one node while one
 *      of them is left. Levels are kept, new rows get theirs by chance, none above the highest kept
 *      one, so that the first node of all has its links;
 *   3. lists of links are copied by the new numbers. One that lost a node may get some of the
 *      nearest neighbours of that node in its place (FreshDiskANN: Singh et al. 2021, section 5.3),
 *      by the rule of the build: nearer to the node than to all it keeps; behind a hole, where all
 *      neighbours were deleted, the nearest on its other side. What was kept before stays. A node
 * that lost nearly all counts as new;
 *   4. new nodes are inserted into the upper levels, and where the build inserts, into the ground;
 *      else their ground links are found by clusters, and the nodes that they chose choose again
 *      (hnsw/cluster.c);
 *   5. the end is that of a build: all nodes reachable, blocks.
 *
 * The old graph is only read, and may be a mapped image. Numbers in it are compared with its counts
 * where they are used; the caller checked its checksums.
 *
 * On one thread the result is a function of the old graph, data, parameters and seed.
 */
#include "index/hnsw/build.h"
#include "index/hnsw/nearest.h"

#define CHUNK      1024u
#define HEIRS      16u
#define QUEUE      1024u /* lost nodes that are looked behind for one list, at most */
#define QUEUE_BITS 16384u
#define BACK       16u  /* nodes that took one in place of a lost one: so many are linked back */
#define ROWS_MIN   256u /* of less, a build is cheap */
#define FEW        4u   /* a node with fewer than one part in so many of its places is new */
#define LEFT       (UINT32_C(1) << 31) /* a link that stays, in an item */
#define MERGE_SEED UINT64_C(0x6d65726765)

typedef struct merge_job {
    rk__hnsw_builder b;
    const rk_index *base;
    const rk__hnsw *old;
    const uint32_t *rows; /* per row of the base: its row here */
    uint32_t *node_of;    /* per row of the base that is a node: the node here */
    uint32_t *upper_of;   /* per upper node of the base: the upper node here */
    uint32_t *place;      /* per row here: its place in the order of nodes */
    uint8_t *fresh;       /* per row: no node of the base */
    uint32_t *heirs_of;   /* BACK per row: who took it in place of a lost node */
    _Atomic(uint32_t) *n_heirs_of;
    uint32_t *todo;
    uint64_t reserved_bytes;
    _Atomic(bool) out_of_memory;
    _Atomic(bool) cancelled;
} merge_job;

static rk_code
state_of(const merge_job *job, rk_err *err)
{
    if (atomic_load(&job->cancelled)) {
        return rk_fail(err, RK_ECANCELLED, "HNSW merge cancelled");
    }
    if (atomic_load(&job->out_of_memory)) {
        return rk_fail(err, RK_ENOMEM, "HNSW merge: no memory for the lists of a node");
    }
    return RK_OK;
}

/* ---- the old graph ---- */

static uint32_t
old_width(const rk__hnsw *old, uint32_t level)
{
    return level == 0 && old->blocks.data ? old->blocks.width : old->levels[level].cap;
}

/* The |i|th link of a list, RK__NO_ROW behind its end. */
static uint32_t
old_link(const rk__hnsw *old, uint32_t level, uint32_t node, uint32_t i)
{
    const rk__hnsw_level *list = &old->levels[level];
    size_t at = (size_t)node * list->stride + i;

    if (level == 0 && old->blocks.data) { /* groups of 32 neighbours */
        at += (i / RK__BITS_ROWS) * (old->blocks.group / sizeof(uint32_t) - RK__BITS_ROWS);
    }
    uint32_t next = rk__link_get(&list->links[at]);
    return next < list->nodes ? next : RK__NO_ROW;
}

/* ---- numbers ---- */

/* The first of the equal rows of each row here. */
static uint32_t *
find_heads(const merge_job *job)
{
    size_t rows = job->b.index->space.rows;
    uint32_t *heads = rk_alloc(RK_MAX(rows, (size_t)1) * sizeof(*heads));

    for (size_t r = 0; heads && r < rows; r++) {
        heads[r] = rk_bitset_get(&job->b.skip, r) ? RK__NO_ROW : (uint32_t)r;
    }
    for (size_t r = 0; heads && r < rows; r++) {
        uint32_t next = rk__chain_next(job->b.graph, rows, (uint32_t)r);
        if (next != RK__NO_ROW && heads[r] != RK__NO_ROW) {
            heads[next] = heads[r];
        }
    }
    return heads;
}

/* Gives the nodes of the base their numbers here and clears |fresh| of them. */
static rk_code
number_nodes(merge_job *job, rk_err *err)
{
    size_t n = job->base->space.rows;
    size_t rows = job->b.index->space.rows;
    uint32_t *heads = find_heads(job);
    rk_bitset chained = {0};
    rk_code code = rk_bitset_init(&chained, n);

    if (!heads || code != RK_OK) {
        code = rk_fail(err, RK_ENOMEM, "HNSW merge: no memory for the numbers of %zu rows", n);
        goto out;
    }
    memset(job->fresh, 1, rows);
    for (uint32_t r = 0; r < n; r++) {
        uint32_t next = rk__chain_next(job->old, n, r);
        uint32_t to = RK__NO_ROW;
        job->node_of[r] = RK__NO_ROW;
        if (next != RK__NO_ROW) {
            rk_bitset_set(&chained, next);
        }
        for (uint32_t row = r; !rk_bitset_get(&chained, r) && to == RK__NO_ROW && row != RK__NO_ROW;
             row = rk__chain_next(job->old, n, row)) {
            to = job->rows[row];
            if (to != RK__NO_ROW && to >= rows) {
                RK_ERR(rk_fail(err, RK_EINTERNAL, "merge: row %u is said to be row %u of %zu", row,
                               to, rows));
            }
        }
        to = to == RK__NO_ROW ? to : heads[to];
        if (to != RK__NO_ROW && job->fresh[to]) {
            job->node_of[r] = to;
            job->fresh[to] = 0;
        }
    }
out:
    rk_free(heads);
    rk_bitset_deinit(&chained);
    return code;
}

/* The level of the |node|th upper node. */
static uint8_t
level_of(const rk__hnsw *old, uint32_t node)
{
    uint32_t level = old->n_levels;

    while (level > 1 && node >= old->levels[level].nodes) {
        level--;
    }
    return (uint8_t)level;
}

/* The node here of an upper node of the base. */
static uint32_t
upper_row(const merge_job *job, uint32_t node)
{
    uint32_t row = job->old->levels[1].node_rows[node];

    return row < job->base->space.rows ? job->node_of[row] : RK__NO_ROW;
}

static void
give_levels(merge_job *job)
{
    rk__hnsw_builder *b = &job->b;
    size_t rows = b->index->space.rows;
    uint64_t state = b->options->seed ^ MERGE_SEED;
    uint8_t highest = 0;

    memset(b->levels, 0, rows);
    for (uint32_t i = 0; i < job->old->n_upper; i++) {
        uint32_t row = upper_row(job, i);
        if (row != RK__NO_ROW) {
            b->levels[row] = level_of(job->old, i);
            highest = RK_MAX(highest, b->levels[row]);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        if (job->fresh[r]) {
            uint8_t level = rk__hnsw_draw_level(b->graph, &state);
            b->levels[r] = RK_MIN(level, highest);
        }
    }
    rk__hnsw_order(b, job->fresh);
}

static rk_code
number_uppers(merge_job *job, rk_err *err)
{
    rk__hnsw_builder *b = &job->b;

    job->place = rk_alloc(RK_MAX(b->index->space.rows, (size_t)1) * sizeof(*job->place));
    job->upper_of = rk_alloc(((size_t)job->old->n_upper + 1) * sizeof(*job->upper_of));
    if (!job->place || !job->upper_of) {
        return rk_fail(err, RK_ENOMEM, "HNSW merge: no memory for the numbers of %u nodes",
                       b->n_nodes);
    }
    for (uint32_t i = 0; i < b->n_nodes; i++) {
        job->place[b->order[i]] = i;
    }
    for (uint32_t i = 0; i < job->old->n_upper; i++) {
        uint32_t row = upper_row(job, i);
        job->upper_of[i] = row == RK__NO_ROW ? row : job->place[row];
    }
    return RK_OK;
}

/* ---- lists ---- */

typedef struct repairer {
    const merge_job *job;
    rk__walker walker; /* without codes */
    rk__dist4_fn codes4;
    bool negate;
    uint64_t *items; /* key above number */
    uint32_t *nodes;
    uint32_t nodes_cap;
    uint32_t *rows;
    float *keys;
    uint32_t *kept;        /* rows */
    uint32_t queue[QUEUE]; /* lost nodes of the base, in whose place heirs are looked for */
    uint32_t queued;
    uint64_t seen[QUEUE_BITS / 64]; /* by number modulo QUEUE_BITS */
} repairer;

static bool
repairer_init(repairer *r, const merge_job *job)
{
    const rk__hnsw *graph = job->b.graph;
    size_t width = RK_MAX((size_t)old_width(job->old, 0), (size_t)graph->M);
    size_t n = width * (1 + HEIRS) + 4;

    *r = (repairer){.job = job, .negate = job->b.index->space.metric == RK_METRIC_IP};
    rk__walker_init(&r->walker, graph, &job->b.index->space);
    r->codes4 =
        r->negate ? rk__kernels_get()->dense[RK__I8].ipx4 : rk__kernels_get()->dense[RK__I8].l2x4;
    r->items = rk_alloc(n * (sizeof(uint64_t) + 3 * sizeof(uint32_t) + sizeof(float)));
    if (!r->items) {
        return false;
    }
    r->nodes_cap = (uint32_t)n;
    r->nodes = (uint32_t *)(void *)(r->items + n);
    r->rows = r->nodes + n;
    r->kept = r->rows + n;
    r->keys = (float *)(void *)(r->kept + n);
    return true;
}

static void
pair_keys(repairer *r, uint32_t row, const uint32_t *rows, uint32_t n, float *keys)
{
    const rk__hnsw_codes *codes = &r->job->b.graph->codes;

    if (!codes->data) {
        rk__walker_row(&r->walker, row, NULL);
        rk__walker_keys(&r->walker, rows, n, keys);
        return;
    }
    for (uint32_t i = 0; i < n; i += 4) {
        const void *four[4];
        float dist[4];
        uint32_t m = RK_MIN(n - i, 4u);
        for (uint32_t j = 0; j < 4; j++) {
            four[j] = codes->data + (size_t)rows[i + RK_MIN(j, m - 1)] * codes->stride;
        }
        r->codes4(codes->data + (size_t)row * codes->stride, four, codes->n, dist);
        for (uint32_t j = 0; j < m; j++) {
            keys[i + j] = r->negate ? -dist[j] : dist[j];
        }
    }
}

/* Floats in the order of unsigned numbers. */
static uint64_t
item_of(float key, uint32_t number)
{
    uint32_t bits;

    memcpy(&bits, &key, sizeof(bits));
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | number;
}

static inline uint32_t
row_of(const rk__hnsw_level *level, uint32_t node)
{
    return level->node_rows ? level->node_rows[node] : node;
}

/* Whether |row|, at |key| from the node, is nearer to it than to each of the |n| kept. */
static bool
is_diverse(repairer *r, uint32_t row, float key, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 4) {
        float keys[4];
        uint32_t m = RK_MIN(n - i, 4u);
        pair_keys(r, row, r->kept + i, m, keys);
        for (uint32_t j = 0; j < m; j++) {
            if (keys[j] < key) {
                return false;
            }
        }
    }
    return true;
}

/* The nearest neighbours of the lost |node| that are still there, to |r->nodes| from |n| on; lost
 * ones behind it, where half of its neighbours are lost or more: to the queue. Returns the new n.
 */
static uint32_t
gather_heirs(repairer *r, uint32_t level, uint32_t node, const uint32_t *numbers, uint32_t self,
             uint32_t n)
{
    const rk__hnsw *old = r->job->old;
    uint32_t width = old_width(old, level);
    uint32_t most = RK_MIN(n + HEIRS, r->nodes_cap);
    uint32_t there = 0;
    uint32_t links = 0;

    for (; links < width; links++) {
        uint32_t heir = old_link(old, level, node, links);
        if (heir == RK__NO_ROW) {
            break;
        }
        if (numbers[heir] != RK__NO_ROW && numbers[heir] != self) {
            there++;
            if (n < most) {
                r->nodes[n++] = numbers[heir];
            }
        }
    }
    for (uint32_t i = 0; there * 2 <= links && i < links && r->queued < QUEUE; i++) {
        uint32_t next = old_link(old, level, node, i);
        uint32_t bit = next % QUEUE_BITS;
        if (numbers[next] == RK__NO_ROW && !(r->seen[bit / 64] >> bit % 64 & 1)) {
            r->seen[bit / 64] |= UINT64_C(1) << bit % 64;
            r->queue[r->queued++] = next;
        }
    }
    return n;
}

/* The neighbours of |node| here, and of those it lost the nearest of theirs: nodes, with LEFT on
 * those it has; returns how many. Where a whole neighbourhood was deleted the search for heirs goes
 * on through it, so that its two sides find each other. */
static uint32_t
gather(repairer *r, uint32_t level, uint32_t node, const uint32_t *numbers, uint32_t self,
       uint32_t *n_left)
{
    const rk__hnsw *old = r->job->old;
    uint32_t width = old_width(old, level);
    uint32_t n = 0;
    bool lost = false;

    for (uint32_t i = 0; i < width; i++) {
        uint32_t next = old_link(old, level, node, i);
        if (next == RK__NO_ROW) {
            break;
        }
        lost = lost || numbers[next] == RK__NO_ROW;
        if (numbers[next] != RK__NO_ROW) {
            r->nodes[n++] = numbers[next];
        }
    }
    *n_left = n;
    if (!lost) {
        return n;
    }
    r->queued = 0;
    memset(r->seen, 0, sizeof(r->seen));
    for (uint32_t i = 0; i < width; i++) {
        uint32_t next = old_link(old, level, node, i);
        if (next == RK__NO_ROW) {
            break;
        }
        if (numbers[next] == RK__NO_ROW) {
            n = gather_heirs(r, level, next, numbers, self, n);
        }
    }
    for (uint32_t i = 0; i < r->queued && n < r->nodes_cap; i++) {
        n = gather_heirs(r, level, r->queue[i], numbers, self, n);
    }
    return n;
}

/* Sorts what was gathered by distance, each node once; returns how many. */
static uint32_t
sort_gathered(repairer *r, const rk__hnsw_level *level, uint32_t row, uint32_t n, uint32_t n_left)
{
    uint32_t unique = 0;

    for (uint32_t i = 0; i < n; i++) { /* those that stay come before the same one as an heir */
        r->items[i] = (uint64_t)r->nodes[i] << 1 | (i >= n_left);
    }
    rk__sort_items(r->items, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = (uint32_t)(r->items[i] >> 1);
        if (unique > 0 && (r->nodes[unique - 1] & ~LEFT) == node) {
            continue;
        }
        r->rows[unique] = row_of(level, node);
        r->nodes[unique++] = node | (r->items[i] & 1 ? 0 : LEFT);
    }
    pair_keys(r, row, r->rows, unique, r->keys);
    for (uint32_t i = 0; i < unique; i++) {
        r->items[i] = item_of(r->keys[i], i);
    }
    rk__sort_items(r->items, unique);
    return unique;
}

static void
link_back_later(const merge_job *job, uint32_t row, uint32_t from)
{
    uint32_t at = atomic_fetch_add_explicit(&job->n_heirs_of[row], 1, memory_order_relaxed);

    if (at < BACK) {
        job->heirs_of[(size_t)row * BACK + at] = from;
    }
}

/* Writes the list of |self|, a node here that was |node|. Returns how many links it has. */
static uint32_t
take_list(repairer *r, uint32_t level_number, uint32_t node, uint32_t self, const uint32_t *numbers)
{
    const rk__hnsw_level *level = &r->job->b.graph->levels[level_number];
    rk__link *links = level->links + (size_t)self * level->stride;
    uint32_t row = row_of(level, self);
    uint32_t n_left = 0;
    uint32_t n = gather(r, level_number, node, numbers, self, &n_left);
    uint32_t kept = 0;

    if (n == n_left) {
        for (uint32_t i = 0; i < RK_MIN(n, level->cap); i++) {
            rk__link_set(&links[i], r->nodes[i]);
        }
        return n;
    }
    uint32_t room = level->cap - RK_MIN(n_left, level->cap);
    n = sort_gathered(r, level, row, n, n_left);
    for (uint32_t i = 0; i < n && kept < level->cap; i++) {
        uint32_t at = (uint32_t)r->items[i];
        bool stays = (r->nodes[at] & LEFT) != 0;
        if (!stays && (room == 0 || !is_diverse(r, r->rows[at], r->keys[at], kept))) {
            continue;
        }
        if (!stays) {
            room--;
            if (level_number == 0) {
                link_back_later(r->job, r->rows[at], row);
            }
        }
        rk__link_set(&links[kept], r->nodes[at] & ~LEFT);
        r->kept[kept++] = r->rows[at];
    }
    return kept;
}

static bool
stopped(merge_job *job)
{
    if (rk__cancelled(job->b.options)) {
        atomic_store(&job->cancelled, true);
    }
    return atomic_load(&job->cancelled) || atomic_load(&job->out_of_memory);
}

static void
ground_chunk(void *arg, size_t chunk)
{
    merge_job *job = arg;
    uint32_t to = (uint32_t)RK_MIN((chunk + 1) * CHUNK, job->base->space.rows);
    uint32_t few = job->b.graph->levels[0].cap / FEW;
    repairer r;

    if (stopped(job)) {
        return;
    }
    if (!repairer_init(&r, job)) {
        atomic_store(&job->out_of_memory, true);
        return;
    }
    for (uint32_t node = (uint32_t)(chunk * CHUNK); node < to; node++) {
        uint32_t self = job->node_of[node];
        if (self == RK__NO_ROW) {
            continue;
        }
        if (take_list(&r, 0, node, self, job->node_of) < few) {
            job->fresh[self] = 2;
        }
    }
    rk_free(r.items);
}

/* Who took a node in place of a lost one is linked from there, while there is room. */
static void
back_chunk(void *arg, size_t chunk)
{
    merge_job *job = arg;
    const rk__hnsw_level *ground = &job->b.graph->levels[0];
    size_t to = RK_MIN((chunk + 1) * CHUNK, job->b.index->space.rows);

    for (size_t row = chunk * CHUNK; row < to && !stopped(job); row++) {
        rk__link *links = ground->links + row * ground->stride;
        uint32_t n_heirs = atomic_load_explicit(&job->n_heirs_of[row], memory_order_relaxed);
        uint32_t n = 0;
        while (n_heirs > 0 && n < ground->cap && rk__link_get(&links[n]) < ground->nodes) {
            n++;
        }
        for (uint32_t i = 0; i < RK_MIN(n_heirs, BACK) && n < ground->cap; i++) {
            uint32_t from = job->heirs_of[row * BACK + i];
            bool known = false;
            for (uint32_t j = 0; j < n; j++) {
                known |= rk__link_get(&links[j]) == from;
            }
            if (!known) {
                rk__link_set(&links[n++], from);
            }
        }
    }
}

static void
upper_chunk(void *arg, size_t chunk)
{
    merge_job *job = arg;
    uint32_t to = (uint32_t)RK_MIN((chunk + 1) * CHUNK, (size_t)job->old->n_upper);
    repairer r;

    if (stopped(job)) {
        return;
    }
    if (!repairer_init(&r, job)) {
        atomic_store(&job->out_of_memory, true);
        return;
    }
    for (uint32_t node = (uint32_t)(chunk * CHUNK); node < to; node++) {
        for (uint32_t l = 1; job->upper_of[node] != RK__NO_ROW && l <= level_of(job->old, node);
             l++) {
            (void)take_list(&r, l, node, job->upper_of[node], job->upper_of);
        }
    }
    rk_free(r.items);
}

static rk_code
take_lists(merge_job *job, rk_err *err)
{
    const rk_parallel *parallel = job->b.options->parallel;

    rk__parallel_run(parallel, (job->base->space.rows + CHUNK - 1) / CHUNK, ground_chunk, job);
    rk__parallel_run(parallel, (job->b.index->space.rows + CHUNK - 1) / CHUNK, back_chunk, job);
    rk__parallel_run(parallel, ((size_t)job->old->n_upper + CHUNK - 1) / CHUNK, upper_chunk, job);
    return state_of(job, err);
}

/* ---- new nodes ---- */

static rk_code
link_fresh(merge_job *job, rk_err *err)
{
    rk__hnsw_builder *b = &job->b;
    rk__hnsw *graph = b->graph;
    uint32_t kept = 0;
    uint32_t end;

    b->by_cluster = rk__hnsw_links_by_cluster(b);
    end = b->by_cluster ? graph->n_upper : b->n_nodes;
    job->todo = rk_alloc(((size_t)end + 1) * sizeof(*job->todo));
    if (!job->todo) {
        return rk_fail(err, RK_ENOMEM, "HNSW merge: no memory for %u new nodes", end);
    }
    for (uint32_t i = 0; i < b->n_nodes; i++) {
        bool fresh = job->fresh[b->order[i]] == 1;
        kept += !fresh;
        if (fresh && i < end) {
            job->todo[b->n_todo++] = i;
        }
    }
    b->todo = job->todo;
    if (b->options->rows_done) {
        atomic_store(b->options->rows_done, kept);
    }
    RK_RET(rk__hnsw_insert(b, err));
    if (b->by_cluster) {
        uint64_t bytes = rk__hnsw_cluster_bytes(graph, b->index->space.rows);
        RK_RET(rk__index_reserve(b->index, bytes, "HNSW clusters", err));
        rk_code code =
            rk__hnsw_cluster_ground(b->index, b->options, b->order, b->n_nodes, job->fresh, err);
        rk__index_release(b->index, bytes);
        RK_RET(code);
    }
    return RK_OK;
}

/* ---- the whole ---- */

/* The codes of the base's kind; |*good| false: they would not do. */
static rk_code
take_codes(merge_job *job, bool *good, rk_err *err)
{
    rk__hnsw_builder *b = &job->b;

    if (job->old->codes.data) {
        RK_RET(
            rk__hnsw_encode_like(b->index, b->graph, &job->old->codes, b->options, &b->skip, err));
        *good = b->graph->codes.data != NULL;
        return RK_OK;
    }
    RK_RET(rk__hnsw_encode(b->index, b->graph, b->options, &b->skip, err));
    *good = !b->graph->codes.data;
    return RK_OK;
}

static rk_code
merge_graph(merge_job *job, bool *merged, rk_err *err)
{
    rk__hnsw_builder *b = &job->b;
    size_t rows = b->index->space.rows;
    size_t n = job->base->space.rows;
    uint64_t bytes = (uint64_t)n * sizeof(uint32_t) * 2 + n / 8 +
                     (uint64_t)rows * (sizeof(uint32_t) * (4 + BACK) + 1);
    bool good = false;

    RK_RET(rk__index_reserve(b->index, bytes, "HNSW merge", err));
    job->reserved_bytes = bytes;
    job->node_of = rk_alloc(n * sizeof(*job->node_of));
    job->fresh = rk_alloc(RK_MAX(rows, (size_t)1));
    job->heirs_of = rk__alloc_huge(RK_MAX(rows, (size_t)1) * BACK * sizeof(*job->heirs_of));
    job->n_heirs_of = rk_alloc_zero(RK_MAX(rows, (size_t)1), sizeof(*job->n_heirs_of));
    if (!job->node_of || !job->fresh || !job->heirs_of || !job->n_heirs_of) {
        return rk_fail(err, RK_ENOMEM, "HNSW merge: no memory for the numbers of %zu rows", n);
    }
    RK_RET(rk__index_norms(b->index, err));
    rk__hnsw_skip(b);
    RK_RET(take_codes(job, &good, err));
    if (!good) {
        return RK_OK;
    }
    RK_RET(rk__hnsw_chain(b, err));
    RK_RET(number_nodes(job, err));
    give_levels(job);
    if (b->n_nodes == 0 || job->fresh[b->order[0]]) {
        return RK_OK; /* nothing is left of it */
    }
    RK_RET(number_uppers(job, err));
    RK_RET(rk__hnsw_builder_links(b, err));
    RK_RET(take_lists(job, err));
    RK_RET(link_fresh(job, err));
    *merged = true;
    return rk__hnsw_builder_finish(b, err);
}

rk_code
rk__hnsw_merge(rk_index *index, const rk_merge_part *base, const rk_build_options *options,
               bool *merged, rk_err *err)
{
    merge_job job = {.base = base->index, .old = base->index->impl, .rows = base->rows};
    rk_code code = rk__hnsw_builder_init(&job.b, index, options, err);

    *merged = false;
    if (code == RK_OK && job.old->M == job.b.graph->M &&
        job.old->ef_construction == job.b.graph->ef_construction && index->space.rows >= ROWS_MIN) {
        code = merge_graph(&job, merged, err);
    }
    rk_free(job.node_of);
    rk_free(job.upper_of);
    rk_free(job.place);
    rk_free(job.fresh);
    rk_free(job.todo);
    rk_free(job.heirs_of);
    rk_free((void *)(uintptr_t)job.n_heirs_of);
    rk__index_release(index, job.reserved_bytes);
    rk__hnsw_builder_deinit(&job.b);
    return code;
}
