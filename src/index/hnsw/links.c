/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links of the ground, steps 3 and 4 of hnsw/cluster.c: each fresh node is compared with the
 * members of its nearest clusters and chooses a diverse set of the nearest; then links are turned
 * round, and nodes choose again among their links and the nodes that chose them. A node that was in
 * the graph before keeps what it has while there is room, and takes of the fresh ones that offer
 * themselves those that are nearer to it than to what it chose before.
 */
#include "index/hnsw/cluster.h"

#define OFFERS 32u  /* nearest nodes that a fresh one offers itself to */
#define SLICE  512u /* nodes that are compared with clusters together */
#define FIRST  2u   /* clusters that a node is compared with before all others */
#define FEW    4u   /* of so many parts of the width one is always filled */
#define TURNED (UINT32_C(1) << 31)
#define RANKS  4u /* links turned round at a time, so that the nearest come first */

/* ---- choosing links ---- */

typedef struct chooser {
    const rk__ground_job *job;
    rk__tile_dots_fn dots;
    rk__cand *cands; /* TURNED on the number */
    rk__cand *kept;
    const int8_t **codes; /* of the candidates */
    int32_t *norms;
    uint64_t *open; /* those that nothing chosen has shut out yet: distance above place */
    uint32_t *rows;
    float *keys;
    bool *chosen; /* per candidate */
} chooser;

static void
code_keys(const chooser *c, uint32_t row, const uint32_t *rows, uint32_t n, float *keys)
{
    const rk__ground_job *job = c->job;
    const int8_t *query = rk__ground_code(job, row);

    for (uint32_t i = 0; i < n; i += RK__TILE_DOTS) {
        const int8_t *codes[RK__TILE_DOTS];
        int32_t dots[RK__TILE_DOTS];
        uint32_t m = RK_MIN(n - i, RK__TILE_DOTS);
        for (uint32_t j = 0; j < RK__TILE_DOTS; j++) {
            codes[j] = rk__ground_code(job, rows[i + RK_MIN(j, m - 1)]);
        }
        c->dots(query, codes, job->dim, dots);
        for (uint32_t j = 0; j < m; j++) {
            keys[i + j] =
                (float)(job->code_norms[row] + job->code_norms[rows[i + j]] - 2 * dots[j]);
        }
    }
}

/* Takes the candidate |first|, which was chosen, out of the |n| open ones, and those that are
 * nearer to it than to the node. Returns how many are left; |*nearest| is the nearest of them.
 * Without branches that depend on distances: half of these would be missed. */
static uint32_t
shut_out(const chooser *c, uint32_t first, uint32_t n, uint64_t *nearest)
{
    const int8_t *query = c->codes[first];
    int32_t norm = c->norms[first];
    uint64_t least = UINT64_MAX;
    uint32_t left = 0;

    for (uint32_t i = 0; i < n; i += RK__TILE_DOTS) {
        const int8_t *codes[RK__TILE_DOTS];
        int32_t dots[RK__TILE_DOTS];
        uint32_t m = RK_MIN(n - i, RK__TILE_DOTS);
        for (uint32_t j = 0; j < RK__TILE_DOTS; j++) {
            codes[j] = c->codes[(uint32_t)c->open[i + RK_MIN(j, m - 1)]];
        }
        c->dots(query, codes, c->job->dim, dots);
        for (uint32_t j = 0; j < m; j++) { /* left is at most i + j: what is read is still there */
            uint64_t item = c->open[i + j];
            uint32_t place = (uint32_t)item;
            int32_t apart = norm + c->norms[place] - 2 * dots[j];
            bool stays = (apart >= (int32_t)(item >> 32)) & (place != first);
            c->open[left] = item;
            left += stays;
            item |= (uint64_t)stays - 1;
            least = item < least ? item : least;
        }
    }
    *nearest = least;
    return left;
}

/* Appends the nearest of the candidates that were not chosen while there are few, then those that
 * have TURNED, in their order. */
static uint32_t
fill_up(chooser *c, uint32_t n, uint32_t kept, uint32_t width)
{
    while (kept < width / FEW) {
        uint32_t best = n;
        for (uint32_t i = 0; i < n; i++) {
            if (!c->chosen[i] && (best == n || c->cands[i].key < c->cands[best].key)) {
                best = i;
            }
        }
        if (best == n) {
            break;
        }
        c->chosen[best] = true;
        c->kept[kept++] = c->cands[best];
    }
    for (uint32_t i = 0; i < n && kept < width; i++) {
        if (!c->chosen[i] && (c->cands[i].node & TURNED)) {
            c->kept[kept++] = c->cands[i];
        }
    }
    return kept;
}

/*
 * Leaves a diverse set of the candidates in front, nearest first: one that is nearer to the node
 * than to every one chosen before. Those of the others that TURNED has (a bit on the node number)
 * fill up what is left of |width|: who chose this node is to be reached from it. The nearest of the
 * rest are taken only where there would be few links: more of them cost more hops than they save,
 * measured. Returns how many there are.
 */
static uint32_t
choose(chooser *c, uint32_t n, uint32_t width)
{
    uint32_t kept = 0;
    uint64_t nearest = UINT64_MAX;
    uint32_t left = n;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = c->cands[i].node & ~TURNED;
        uint64_t item = (uint64_t)c->cands[i].key << 32 | i;
        c->codes[i] = rk__ground_code(c->job, node);
        rk__fetch_early(c->codes[i], c->job->dim);
        c->norms[i] = c->job->code_norms[node];
        c->open[i] = item;
        c->chosen[i] = false;
        nearest = item < nearest ? item : nearest;
    }
    while (left > 0 && kept < width) {
        uint32_t first = (uint32_t)nearest;
        c->chosen[first] = true;
        c->kept[kept++] = c->cands[first];
        left = kept < width ? shut_out(c, first, left, &nearest) : 0;
    }
    kept = fill_up(c, n, kept, width);
    for (uint32_t i = 0; i < kept; i++) {
        c->cands[i] = (rk__cand){c->kept[i].key, c->kept[i].node & ~TURNED};
    }
    return kept;
}

static bool
chooser_init(chooser *c, const rk__ground_job *job, uint32_t cands)
{
    c->job = job;
    c->dots = rk__tile_dots_get();
    c->cands =
        rk_alloc((size_t)cands * (2 * sizeof(*c->cands) + sizeof(*c->codes) + sizeof(*c->norms) +
                                  sizeof(*c->open) + sizeof(*c->rows) + sizeof(*c->keys) + 1));
    if (!c->cands) {
        return false;
    }
    c->kept = c->cands + cands;
    c->codes = (const int8_t **)(void *)(c->kept + cands);
    c->open = (uint64_t *)(void *)(c->codes + cands);
    c->norms = (int32_t *)(void *)(c->open + cands);
    c->rows = (uint32_t *)(c->norms + cands);
    c->keys = (float *)(void *)(c->rows + cands);
    c->chosen = (bool *)(void *)(c->keys + cands);
    return true;
}

static void
write_links(const rk__ground_job *job, uint32_t row, const rk__cand *cands, uint32_t n)
{
    const rk__hnsw_level *ground = &job->graph->levels[0];
    rk__link *links = ground->links + (size_t)row * ground->stride;

    for (uint32_t i = 0; i < ground->cap; i++) {
        rk__link_set(&links[i], i < n ? cands[i].node : RK__NO_ROW);
    }
}

/* ---- 3. links from the nearest clusters ---- */

typedef struct slice {
    uint8_t *biased; /* SLICE queries */
    uint64_t *items;
    rk__nearest *best;
    uint32_t *begin; /* per cluster: its queries within |ask|; k + 1 */
    uint32_t *ask;   /* SLICE * probe: queries by cluster */
    chooser chooser;
} slice;

static void
slice_free(slice *s)
{
    rk_free(s->biased);
    rk_free(s->items);
    rk_free(s->best);
    rk_free(s->begin);
    rk_free(s->ask);
    rk_free(s->chooser.cands);
}

/* Of one, but for its few candidates. */
static uint64_t
slice_bytes(const rk__ground_job *job)
{
    return SLICE *
               ((uint64_t)job->lead + (uint64_t)RK__NEAREST_SPARE * job->keep * sizeof(uint64_t) +
                sizeof(rk__nearest) + (uint64_t)job->probe * sizeof(uint32_t)) +
           ((uint64_t)job->k + 2) * sizeof(uint32_t);
}

static bool
slice_init(slice *s, const rk__ground_job *job)
{
    *s = (slice){.biased = rk_alloc_aligned(64, SLICE * job->lead),
                 .items =
                     rk_alloc((size_t)SLICE * RK__NEAREST_SPARE * job->keep * sizeof(*s->items)),
                 .best = rk_alloc(SLICE * sizeof(*s->best)),
                 .begin = rk_alloc_zero((size_t)job->k + 2, sizeof(*s->begin)),
                 .ask = rk_alloc((size_t)SLICE * job->probe * sizeof(*s->ask))};
    return s->biased && s->items && s->best && s->begin && s->ask &&
           chooser_init(&s->chooser, job, job->keep + job->graph->M);
}

/* Sorts the queries of a slice by the clusters that are their |from|th to |to|th nearest. */
static void
sort_by_cluster(const rk__ground_job *job, uint32_t first, uint32_t m, uint32_t from, uint32_t to,
                slice *s)
{
    memset(s->begin, 0, ((size_t)job->k + 2) * sizeof(*s->begin));
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = rk__ground_near(job, job->order[rk__ground_asked(job, first + i)]);
        for (uint32_t j = from; j < to; j++) {
            s->begin[near[j] + 2]++;
        }
    }
    for (uint32_t c = 0; c < job->k; c++) {
        s->begin[c + 2] += s->begin[c + 1];
    }
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = rk__ground_near(job, job->order[rk__ground_asked(job, first + i)]);
        for (uint32_t j = from; j < to; j++) {
            s->ask[s->begin[near[j] + 1]++] = i;
        }
    }
}

/* Compares the queries of a slice with the members of those clusters. */
static void
compare_clusters(rk__ground_job *job, slice *s)
{
    for (uint32_t c = 0; c < job->k && !rk__ground_stopped(job); c++) {
        for (uint32_t i = s->begin[c]; i < s->begin[c + 1]; i += RK__TILE_QUERIES) {
            const uint8_t *queries[RK__TILE_QUERIES];
            rk__nearest *best[RK__TILE_QUERIES];
            uint32_t n = RK_MIN(s->begin[c + 1] - i, RK__TILE_QUERIES);
            for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
                uint32_t which = s->ask[i + RK_MIN(q, n - 1)];
                queries[q] = s->biased + (size_t)which * job->lead;
                best[q] = &s->best[which];
            }
            rk__ground_compare(job, queries, n, best, job->packs, job->norms, job->lead,
                               job->pack_rows, job->pack_start[c], job->pack_start[c + 1]);
        }
    }
}

/* A node of level 1 also chooses among its neighbours there, which lie farther off. */
static uint32_t
add_upper(const rk__ground_job *job, uint32_t node, uint32_t row, chooser *c, uint32_t n)
{
    const rk__hnsw_level *level = &job->graph->levels[1];
    const rk__link *links = level->links + (size_t)node * level->stride;
    float last = n > 0 ? c->cands[n - 1].key : -1;
    rk__pool pool = {.items = c->cands, .n = n, .cap = n + level->cap};

    for (uint32_t i = 0; i < level->cap; i++) {
        uint32_t next = rk__link_get(&links[i]);
        float key = 0;
        uint32_t at;
        if (next >= level->nodes) {
            break;
        }
        code_keys(c, row, &level->node_rows[next], 1, &key);
        if (key > last) { /* nearer ones are there already */
            (void)rk__pool_insert(&pool, key, level->node_rows[next], &at);
        }
    }
    return pool.n;
}

/* Puts |row| into one of the lists of RK__GROUND_REVERSE places while there is room. */
static void
put_reverse(uint32_t *lists, _Atomic(uint32_t) *counts, uint32_t to, uint32_t row)
{
    uint32_t at = atomic_fetch_add_explicit(&counts[to], 1, memory_order_relaxed);

    if (at < RK__GROUND_REVERSE) {
        lists[(size_t)to * RK__GROUND_REVERSE + at] = row;
    }
}

/* Offers a fresh node to the nearest of those that have their links: they might choose it. */
static void
offer(rk__ground_job *job, uint32_t row, const rk__cand *cands, uint32_t n)
{
    for (uint32_t i = 0; i < RK_MIN(n, OFFERS); i++) {
        if (!job->fresh[cands[i].node]) {
            put_reverse(job->offered, job->offers, cands[i].node, row);
        }
    }
}

/* Nearest first, through |items|; keys are integers under 2^31. */
static void
sort_cands(rk__cand *cands, uint32_t n, uint64_t *items)
{
    for (uint32_t i = 0; i < n; i++) {
        items[i] = (uint64_t)cands[i].key << 32 | cands[i].node;
    }
    rk__sort_items(items, n);
    for (uint32_t i = 0; i < n; i++) {
        cands[i] = (rk__cand){(float)(items[i] >> 32), (uint32_t)items[i]};
    }
}

static void
link_slice(rk__ground_job *job, uint32_t from, uint32_t m, slice *s)
{
    uint32_t width = job->graph->levels[0].cap;

    for (uint32_t i = 0; i < m; i++) {
        chooser *c = &s->chooser;
        rk__nearest *best = &s->best[i];
        uint32_t at = rk__ground_asked(job, from + i);
        uint32_t row = job->members[at];
        bool upper = job->order[at] < job->graph->n_upper;
        uint32_t n = 0;
        rk__nearest_cut(best);
        for (uint32_t j = 0; j < best->n; j++) {
            uint32_t node = (uint32_t)best->items[j];
            c->rows[n] = node;
            n += node != row;
        }
        code_keys(c, row, c->rows, n, c->keys);
        for (uint32_t j = 0; j < n; j++) {
            c->cands[j] = (rk__cand){c->keys[j], c->rows[j]};
        }
        if (upper || job->fresh) {
            sort_cands(c->cands, n, best->items);
        }
        if (upper) {
            n = add_upper(job, job->order[at], row, c, n);
        }
        if (job->fresh) {
            offer(job, row, c->cands, n);
        }
        n = choose(c, n, width);
        write_links(job, row, c->cands, n);
    }
}

static void
slice_chunk(void *arg, size_t chunk)
{
    rk__ground_job *job = arg;
    uint32_t from = (uint32_t)chunk * SLICE;
    uint32_t m = RK_MIN(job->n_fresh - from, SLICE);
    slice s = {0};

    if (rk__ground_stopped(job)) {
        return;
    }
    if (!slice_init(&s, job)) {
        atomic_store(&job->out_of_memory, true);
        slice_free(&s);
        return;
    }
    for (uint32_t i = 0; i < m; i++) {
        (void)rk__tile_query(rk__ground_code(job, job->members[rk__ground_asked(job, from + i)]),
                             job->lead, s.biased + (size_t)i * job->lead);
        s.best[i] = (rk__nearest){.items = s.items + (size_t)i * RK__NEAREST_SPARE * job->keep,
                                  .keep = job->keep,
                                  .bound = INT32_MAX};
    }
    /* The nearest clusters first: they leave few of the others' members under the bound. */
    sort_by_cluster(job, from, m, 0, RK_MIN(FIRST, job->probe), &s);
    compare_clusters(job, &s);
    for (uint32_t i = 0; i < m; i++) {
        rk__nearest_cut(&s.best[i]);
    }
    sort_by_cluster(job, from, m, RK_MIN(FIRST, job->probe), job->probe, &s);
    compare_clusters(job, &s);
    link_slice(job, from, m, &s);
    slice_free(&s);
    if (job->options->rows_done) {
        atomic_fetch_add(job->options->rows_done, (m / 2) >> job->options->rows_done_shift);
    }
}

/* ---- 4. links turned round ---- */

static void
turn_chunk(void *arg, size_t chunk)
{
    rk__ground_job *job = arg;
    const rk__hnsw_level *ground = &job->graph->levels[0];

    for (size_t i = chunk * RK__GROUND_CHUNK;
         i < RK_MIN((chunk + 1) * RK__GROUND_CHUNK, (size_t)job->n_fresh); i++) {
        uint32_t row = job->members[rk__ground_asked(job, (uint32_t)i)];
        const rk__link *links = ground->links + (size_t)row * ground->stride;
        for (uint32_t j = job->rank; j < job->rank + RANKS; j++) {
            uint32_t to = j < ground->cap ? rk__link_get(&links[j]) : RK__NO_ROW;
            if (to >= ground->nodes) {
                break;
            }
            put_reverse(job->reverse, job->turned, to, row);
        }
    }
}

static bool
has_link(const rk__hnsw_level *ground, uint32_t row, uint32_t other)
{
    const rk__link *links = ground->links + (size_t)row * ground->stride;

    for (uint32_t i = 0; i < ground->cap; i++) {
        uint32_t next = rk__link_get(&links[i]);
        if (next == other || next >= ground->nodes) {
            return next == other;
        }
    }
    return false;
}

/* Appends those of |others| that are not among the first |n| candidates; returns how many there
 * are then. */
static uint32_t
add_unknown(chooser *c, uint32_t n, const uint32_t *others, uint32_t n_others)
{
    uint32_t known = n;

    for (uint32_t j = 0; j < n_others; j++) {
        bool is_known = false;
        for (uint32_t x = 0; x < known; x++) {
            is_known |= c->rows[x] == others[j];
        }
        if (!is_known) {
            c->rows[n++] = others[j];
        }
    }
    return n;
}

static uint32_t
count_of(const _Atomic(uint32_t) *counts, uint32_t row)
{
    return counts ? RK_MIN(atomic_load_explicit(&counts[row], memory_order_relaxed),
                           RK__GROUND_REVERSE)
                  : 0;
}

/*
 * Node |row| chooses again among its links, the nodes that chose it, and those that offer
 * themselves. What a node that was there before has stays as long as there is room: it may be a
 * link that another one needs. Fresh nodes that it chooses are told.
 */
static void
join_node(rk__ground_job *job, uint32_t row, chooser *c)
{
    const rk__hnsw_level *ground = &job->graph->levels[0];
    const rk__link *links = ground->links + (size_t)row * ground->stride;
    bool before = job->fresh && !job->fresh[row];
    uint32_t own = 0;

    for (; own < ground->cap && rk__link_get(&links[own]) < ground->nodes; own++) {
        c->rows[own] = rk__link_get(&links[own]);
    }
    uint32_t turned = add_unknown(c, own, job->reverse + (size_t)row * RK__GROUND_REVERSE,
                                  count_of(job->turned, row));
    uint32_t n = turned;
    if (before) {
        n = add_unknown(c, turned, job->offered + (size_t)row * RK__GROUND_REVERSE,
                        count_of(job->offers, row));
    }
    code_keys(c, row, c->rows, n, c->keys);
    rk__pool pool = {.items = c->cands, .cap = n};
    for (uint32_t j = 0; j < n; j++) {
        bool fills = before ? j < turned : j >= own;
        uint32_t at;
        (void)rk__pool_insert(&pool, c->keys[j], c->rows[j] | (fills ? TURNED : 0), &at);
    }
    n = choose(c, n, ground->cap);
    write_links(job, row, c->cands, n);
    for (uint32_t j = 0; before && j < n; j++) {
        uint32_t to = c->cands[j].node;
        if (job->fresh[to] && !has_link(ground, to, row)) {
            put_reverse(job->reverse, job->turned, to, row);
        }
    }
}

static void
join_chunk(void *arg, size_t chunk)
{
    rk__ground_job *job = arg;
    chooser c = {0};
    uint32_t from = (uint32_t)chunk * RK__GROUND_CHUNK;
    uint32_t to = RK_MIN(from + RK__GROUND_CHUNK, job->n);
    uint32_t done = 0;

    if (rk__ground_stopped(job)) {
        return;
    }
    if (!chooser_init(&c, job, job->graph->levels[0].cap + 2 * RK__GROUND_REVERSE)) {
        atomic_store(&job->out_of_memory, true);
        return;
    }
    for (uint32_t i = from; i < to; i++) {
        uint32_t row = job->members[i];
        bool fresh = !job->fresh || job->fresh[row];
        if (fresh == job->join_fresh &&
            (fresh || count_of(job->turned, row) + count_of(job->offers, row) > 0)) {
            join_node(job, row, &c);
            done += fresh;
        }
    }
    rk_free(c.cands);
    if (job->options->rows_done) {
        atomic_fetch_add(job->options->rows_done, (done / 2) >> job->options->rows_done_shift);
    }
}

static rk_code
join_reverse(rk__ground_job *job, rk_err *err)
{
    size_t chunks = ((size_t)job->n + RK__GROUND_CHUNK - 1) / RK__GROUND_CHUNK;

    for (job->rank = 0; job->rank < job->graph->levels[0].cap; job->rank += RANKS) {
        rk__parallel_run(job->options->parallel,
                         ((size_t)job->n_fresh + RK__GROUND_CHUNK - 1) / RK__GROUND_CHUNK,
                         turn_chunk, job);
    }
    if (job->fresh) {
        rk__parallel_run(job->options->parallel, chunks, join_chunk, job);
    }
    job->join_fresh = true;
    rk__parallel_run(job->options->parallel, chunks, join_chunk, job);
    return rk__ground_state(job, err);
}

static rk_code
make_reverse(rk__ground_job *job, rk_err *err)
{
    size_t rows = job->index->space.rows;

    job->reverse = rk__alloc_huge(rows * RK__GROUND_REVERSE * sizeof(*job->reverse));
    job->turned = rk_alloc_zero(rows, sizeof(*job->turned));
    if (job->fresh) {
        job->offered = rk__alloc_huge(rows * RK__GROUND_REVERSE * sizeof(*job->offered));
        job->offers = rk_alloc_zero(rows, sizeof(*job->offers));
    }
    if (!job->reverse || !job->turned || (job->fresh && (!job->offered || !job->offers))) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory to turn round the links of %u nodes",
                       job->n);
    }
    return RK_OK;
}

rk_code
rk__ground_link(rk__ground_job *job, rk_err *err)
{
    size_t slices = ((size_t)job->n_fresh + SLICE - 1) / SLICE;
    size_t threads = job->options->parallel ? job->options->parallel->width : 1;
    uint64_t bytes = slice_bytes(job) * RK_MIN(slices, threads);

    RK_RET(make_reverse(job, err));
    RK_RET(rk_mem_reserve(job->index->mem, bytes, "HNSW build: candidates of links", err));
    rk__parallel_run(job->options->parallel, slices, slice_chunk, job);
    rk_mem_release(job->index->mem, bytes);
    RK_RET(rk__ground_state(job, err));
    return join_reverse(job, err);
}
