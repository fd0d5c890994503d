/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ground of a graph on codes, by clusters instead of by insertion.
 *
 * Steps, each over the caller's threads:
 *   1. centres: a few rounds of k-means on a sample of the codes, about one centre for 256 nodes;
 *   2. every node finds its nearest centres and joins the first;
 *   3. every node is compared with the members of its nearest clusters, 8 by 32 at a time
 *      (hnsw_tile.c), and keeps the nearest ones; of these a diverse set becomes its links;
 *   4. links are turned round: each node chooses again among its links and the nodes that chose it.
 * What this leaves unreached from the entry is repaired as after insertion (hnsw_build.c).
 *
 * Distances are those of the codes, by L2; so IP graphs are built this way only when all vectors
 * are about equally long. Compared with insertion a row costs a tenth: all memory is read in order,
 * and a distance takes a nanosecond or two.
 */
#include "index/hnsw.h"
#include "index/hnsw_nearest.h"
#include "index/hnsw_tile.h"

#define CLUSTER_ROWS 256u
#define CLUSTERS_MAX 16384u
#define SAMPLE_ROWS  32u /* per centre */
#define ROUNDS       4u
#define CHUNK        256u
#define PACK         RK__TILE_ROWS
#define REVERSE      32u
#define FIRST        2u /* clusters that a node is compared with before all others */
#define PROBE_MIN    12u
#define PROBE_MAX    96u
#define KEEP_MAX     1024u
#define FEW          4u /* of so many parts of the width one is always filled */
#define TURNED       (UINT32_C(1) << 31)
#define RANKS        4u /* links turned round at a time, so that the nearest come first */

typedef struct cluster_job {
    const rk_index *index;
    rk__hnsw *graph;
    const rk_build_options *options;
    const uint32_t *nodes; /* rows */
    uint32_t n;
    uint32_t k;     /* clusters */
    uint32_t probe; /* clusters a node is compared with */
    uint32_t keep;  /* nearest nodes it chooses its links among */
    size_t dim;     /* bytes of a code */
    rk__tile_fn tile;

    int8_t *centres;      /* k codes */
    int8_t *centre_packs; /* k rounded up to 32 */
    int32_t *centre_norms;
    const uint32_t *sample; /* rows to assign, and what to fill: */
    uint32_t n_sample;
    uint32_t n_near;
    uint32_t *near; /* n_near per sample row, nearest first */

    uint32_t *members;    /* rows by cluster */
    uint32_t *order;      /* the same as places in |nodes| */
    uint32_t *start;      /* k + 1 */
    uint32_t *pack_start; /* of each cluster, in packs; k + 1 */
    int8_t *packs;
    int32_t *norms;
    uint32_t *pack_rows; /* row of each place of a pack */

    uint32_t *reverse;         /* REVERSE per row */
    _Atomic(uint32_t) *turned; /* per row: how many */
    uint32_t rank;

    _Atomic(bool) out_of_memory;
    _Atomic(bool) cancelled;
} cluster_job;

/* ---- the nearest centres ---- */

static bool
stopped(cluster_job *job)
{
    if (rk__cancelled(job->options)) {
        atomic_store(&job->cancelled, true);
    }
    return atomic_load(&job->cancelled) || atomic_load(&job->out_of_memory);
}

static const int8_t *
code_of(const cluster_job *job, uint32_t row)
{
    return job->graph->codes.data + (size_t)row * job->graph->codes.stride;
}

/* Compares up to 8 biased queries with packs [from, to), whose places are numbered through
 * |numbers| (NULL: by place). */
static void
compare_packs(const cluster_job *job, const uint8_t *const queries[RK__TILE_QUERIES], uint32_t m,
              rk__nearest *const best[RK__TILE_QUERIES], const int8_t *packs, const int32_t *norms,
              const uint32_t *numbers, size_t from, size_t to)
{
    rk__tile_result result;
    int32_t bounds[RK__TILE_QUERIES];

    for (size_t p = from; p < to; p++) {
        for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
            bounds[q] = q < m ? best[q]->bound : INT32_MIN;
        }
        job->tile(queries, bounds, packs + p * PACK * job->dim, norms + p * PACK, job->dim,
                  &result);
        for (uint32_t q = 0; q < m; q++) {
            for (uint32_t mask = result.below[q]; mask; mask &= mask - 1) {
                uint32_t i = (uint32_t)__builtin_ctz(mask);
                uint32_t place = (uint32_t)(p * PACK) + i;
                rk__nearest_push(best[q], result.keys[q][i], numbers ? numbers[place] : place);
            }
        }
    }
}

static void
assign_chunk(void *arg, size_t chunk)
{
    cluster_job *job = arg;
    uint32_t from = (uint32_t)chunk * CHUNK;
    uint32_t to = RK_MIN(from + CHUNK, job->n_sample);
    uint8_t *biased = rk_alloc_aligned(64, RK__TILE_QUERIES * job->dim);
    uint64_t *items =
        rk_alloc((size_t)RK__TILE_QUERIES * RK__NEAREST_SPARE * job->n_near * sizeof(*items));
    const uint8_t *queries[RK__TILE_QUERIES];
    rk__nearest best[RK__TILE_QUERIES];
    rk__nearest *bests[RK__TILE_QUERIES];

    if (!biased || !items) {
        atomic_store(&job->out_of_memory, true);
    }
    for (uint32_t i = from; i < to && !stopped(job); i += RK__TILE_QUERIES) {
        uint32_t m = RK_MIN(to - i, RK__TILE_QUERIES);
        for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
            queries[q] = biased + q * job->dim;
            (void)rk__tile_query(code_of(job, job->sample[i + RK_MIN(q, m - 1)]), job->dim,
                                 biased + q * job->dim);
            best[q] = (rk__nearest){.items = items + (size_t)q * RK__NEAREST_SPARE * job->n_near,
                                    .keep = job->n_near,
                                    .bound = INT32_MAX};
            bests[q] = &best[q];
        }
        compare_packs(job, queries, m, bests, job->centre_packs, job->centre_norms, NULL, 0,
                      (job->k + PACK - 1) / PACK);
        for (uint32_t q = 0; q < m; q++) {
            rk__nearest_sort(&best[q]);
            for (uint32_t j = 0; j < job->n_near; j++) {
                job->near[(size_t)(i + q) * job->n_near + j] =
                    (uint32_t)best[q].items[RK_MIN(j, best[q].n - 1)];
            }
        }
    }
    rk_free(biased);
    rk_free(items);
}

static void
pack_centres(cluster_job *job)
{
    for (uint32_t c = 0; c < job->k; c += PACK) {
        const int8_t *rows[PACK];
        uint32_t m = RK_MIN(job->k - c, PACK);
        for (uint32_t i = 0; i < m; i++) {
            rows[i] = job->centres + (size_t)(c + i) * job->dim;
        }
        rk__tile_pack(rows, m, job->dim, job->centre_packs + (size_t)c * job->dim,
                      job->centre_norms + c);
    }
}

static void
assign(cluster_job *job, const uint32_t *rows, uint32_t n, uint32_t n_near, uint32_t *near)
{
    job->sample = rows;
    job->n_sample = n;
    job->n_near = n_near;
    job->near = near;
    rk__parallel_run(job->options->parallel, (n + CHUNK - 1) / CHUNK, assign_chunk, job);
}

static rk_code
state_of(const cluster_job *job, rk_err *err)
{
    if (atomic_load(&job->cancelled)) {
        return rk_fail(err, RK_ECANCELLED, "HNSW build cancelled");
    }
    if (atomic_load(&job->out_of_memory)) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the clusters of %u nodes",
                       job->n);
    }
    return RK_OK;
}

/* ---- 1. centres ---- */

/* Centres become the mean of the sample rows nearest to them; empty ones stay. */
static void
move_centres(cluster_job *job, const uint32_t *rows, const uint32_t *near, uint32_t n,
             int32_t *sums, uint32_t *counts)
{
    memset(sums, 0, (size_t)job->k * job->dim * sizeof(*sums));
    memset(counts, 0, (size_t)job->k * sizeof(*counts));
    for (uint32_t i = 0; i < n; i++) {
        const int8_t *code = code_of(job, rows[i]);
        int32_t *sum = sums + (size_t)near[i] * job->dim;
        counts[near[i]]++;
        for (size_t d = 0; d < job->dim; d++) {
            sum[d] += code[d];
        }
    }
    for (uint32_t c = 0; c < job->k; c++) {
        for (size_t d = 0; counts[c] > 0 && d < job->dim; d++) {
            job->centres[(size_t)c * job->dim + d] =
                (int8_t)lrintf((float)sums[(size_t)c * job->dim + d] / (float)counts[c]);
        }
    }
}

static rk_code
train_centres(cluster_job *job, rk_err *err)
{
    size_t padded = ((size_t)job->k + PACK - 1) / PACK * PACK;
    uint32_t n = (uint32_t)RK_MIN((uint64_t)job->k * SAMPLE_ROWS, (uint64_t)job->n);
    uint32_t *rows = rk_alloc((size_t)n * sizeof(*rows));
    uint32_t *near = rk_alloc((size_t)n * sizeof(*near));
    int32_t *sums = rk_alloc((size_t)job->k * job->dim * sizeof(*sums));
    uint32_t *counts = rk_alloc((size_t)job->k * sizeof(*counts));
    uint64_t state = job->options->seed ^ 0x636c7573746572u;
    rk_code code = RK_OK;

    job->centres = rk_alloc((size_t)job->k * job->dim);
    job->centre_packs = rk_alloc_aligned(64, padded * job->dim);
    job->centre_norms = rk_alloc_aligned(64, padded * sizeof(*job->centre_norms));
    if (!rows || !near || !sums || !counts || !job->centres || !job->centre_packs ||
        !job->centre_norms) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory for %u centres", job->k);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) { /* one of each stretch of nodes */
        uint64_t from = (uint64_t)i * job->n / n;
        uint64_t to = (uint64_t)(i + 1) * job->n / n;
        rows[i] = job->nodes[from + rk__random(&state) % (to - from)];
    }
    for (uint32_t c = 0; c < job->k; c++) {
        memcpy(job->centres + (size_t)c * job->dim, code_of(job, rows[(uint64_t)c * n / job->k]),
               job->dim);
    }
    for (uint32_t round = 0; round < ROUNDS && job->k > 1; round++) {
        pack_centres(job);
        assign(job, rows, n, 1, near);
        code = state_of(job, err);
        if (code != RK_OK) {
            goto out;
        }
        move_centres(job, rows, near, n, sums, counts);
    }
    pack_centres(job);
out:
    rk_free(rows);
    rk_free(near);
    rk_free(sums);
    rk_free(counts);
    return code;
}

/* ---- 2. members ---- */

static void
pack_cluster(void *arg, size_t c)
{
    cluster_job *job = arg;
    size_t pack = job->pack_start[c];

    for (uint32_t i = job->start[c]; i < job->start[c + 1]; i += PACK, pack++) {
        const int8_t *rows[PACK];
        uint32_t m = RK_MIN(job->start[c + 1] - i, PACK);
        for (uint32_t j = 0; j < m; j++) {
            rows[j] = code_of(job, job->members[i + j]);
            job->pack_rows[pack * PACK + j] = job->members[i + j];
        }
        rk__tile_pack(rows, m, job->dim, job->packs + pack * PACK * job->dim,
                      job->norms + pack * PACK);
    }
}

static rk_code
find_members(cluster_job *job, rk_err *err)
{
    size_t n = job->n;
    size_t n_packs = 0;

    job->near = rk_alloc(n * job->probe * sizeof(*job->near));
    job->members = rk_alloc(n * sizeof(*job->members));
    job->order = rk_alloc(n * sizeof(*job->order));
    job->start = rk_alloc_zero((size_t)job->k + 2, sizeof(*job->start));
    job->pack_start = rk_alloc_zero((size_t)job->k + 1, sizeof(*job->pack_start));
    if (!job->near || !job->members || !job->order || !job->start || !job->pack_start) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the clusters of %u nodes",
                       job->n);
    }
    assign(job, job->nodes, job->n, job->probe, job->near);
    RK_RET(state_of(job, err));
    for (size_t i = 0; i < n; i++) {
        job->start[job->near[i * job->probe] + 2]++;
    }
    for (uint32_t c = 0; c < job->k; c++) {
        job->pack_start[c] = (uint32_t)n_packs;
        n_packs += (job->start[c + 2] + PACK - 1) / PACK;
        job->start[c + 2] += job->start[c + 1];
    }
    job->pack_start[job->k] = (uint32_t)n_packs;
    for (size_t i = 0; i < n; i++) {
        uint32_t at = job->start[job->near[i * job->probe] + 1]++;
        job->members[at] = job->nodes[i];
        job->order[at] = (uint32_t)i;
    }
    job->packs = rk__alloc_huge(n_packs * PACK * job->dim);
    job->norms = rk_alloc_aligned(64, n_packs * PACK * sizeof(*job->norms));
    job->pack_rows = rk_alloc_zero(n_packs * PACK, sizeof(*job->pack_rows));
    if (!job->packs || !job->norms || !job->pack_rows) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory to pack the codes of %u nodes",
                       job->n);
    }
    rk__parallel_run(job->options->parallel, job->k, pack_cluster, job);
    return RK_OK;
}

/* ---- choosing links ---- */

typedef struct chooser {
    const cluster_job *job;
    rk__dist4_fn l2x4;
    rk__cand *cands; /* sorted, nearest first; |kind| beside them */
    rk__cand *rest;
    uint32_t *rows;
    float *keys;
} chooser;

static void
code_keys(const chooser *c, uint32_t row, const uint32_t *rows, uint32_t n, float *keys)
{
    for (uint32_t i = 0; i < n; i += 4) {
        const void *four[4];
        float dist[4];
        uint32_t m = RK_MIN(n - i, 4u);
        for (uint32_t j = 0; j < 4; j++) {
            four[j] = code_of(c->job, rows[i + RK_MIN(j, m - 1)]);
        }
        c->l2x4(code_of(c->job, row), four, c->job->dim, dist);
        memcpy(keys + i, dist, m * sizeof(*keys));
    }
}

/*
 * Leaves a diverse set of the candidates in front: one that is nearer to the node than to every one
 * chosen before. Those of the others that |turned| has (a bit on the node number) fill up what is
 * left of |width|: who chose this node is to be reached from it. The nearest of the rest are taken
 * only where there would be few links: more of them cost more hops than they save, measured.
 * Returns how many there are.
 */
static uint32_t
choose(chooser *c, uint32_t n, uint32_t width)
{
    uint32_t kept = 0;
    uint32_t rest = 0;

    for (uint32_t i = 0; i < n && kept < width; i++) {
        rk__cand cand = {c->cands[i].key, c->cands[i].node & ~TURNED};
        bool good = true;
        for (uint32_t j = 0; good && j < kept; j += 4) {
            float keys[4];
            uint32_t m = RK_MIN(kept - j, 4u);
            code_keys(c, cand.node, c->rows + j, m, keys);
            for (uint32_t x = 0; x < m; x++) {
                good = good && !(keys[x] < cand.key);
            }
        }
        if (good) {
            c->rows[kept] = cand.node;
            c->cands[kept++] = cand;
        } else {
            c->rest[rest++] = c->cands[i];
        }
    }
    for (uint32_t i = 0; i < rest && kept < width; i++) {
        if ((c->rest[i].node & TURNED) || kept < width / FEW) {
            c->cands[kept++] = (rk__cand){c->rest[i].key, c->rest[i].node & ~TURNED};
        }
    }
    return kept;
}

static bool
chooser_init(chooser *c, const cluster_job *job, uint32_t cands)
{
    c->job = job;
    c->l2x4 = rk__kernels_get()->dense[RK__I8].l2x4;
    c->cands = rk_alloc((size_t)cands * (2 * sizeof(rk__cand) + sizeof(uint32_t) + sizeof(float)));
    if (!c->cands) {
        return false;
    }
    c->rest = c->cands + cands;
    c->rows = (uint32_t *)(void *)(c->rest + cands);
    c->keys = (float *)(void *)(c->rows + cands);
    return true;
}

static void
write_links(const cluster_job *job, uint32_t row, const rk__cand *cands, uint32_t n)
{
    const rk__hnsw_level *ground = &job->graph->levels[0];
    rk__link *links = ground->links + (size_t)row * ground->stride;

    for (uint32_t i = 0; i < ground->cap; i++) {
        rk__link_set(&links[i], i < n ? cands[i].node : RK__NO_ROW);
    }
}

/* ---- 3. links from the nearest clusters ---- */

typedef struct slice {
    uint8_t *biased; /* CHUNK queries */
    int32_t *norms;  /* theirs */
    uint64_t *items;
    rk__nearest *best;
    uint32_t *begin; /* per cluster: its queries within |ask|; k + 1 */
    uint32_t *ask;   /* CHUNK * probe: queries by cluster */
    chooser chooser;
} slice;

static void
slice_free(slice *s)
{
    rk_free(s->biased);
    rk_free(s->norms);
    rk_free(s->items);
    rk_free(s->best);
    rk_free(s->begin);
    rk_free(s->ask);
    rk_free(s->chooser.cands);
}

static bool
slice_init(slice *s, const cluster_job *job)
{
    *s = (slice){.biased = rk_alloc_aligned(64, CHUNK * job->dim),
                 .norms = rk_alloc(CHUNK * sizeof(*s->norms)),
                 .items =
                     rk_alloc((size_t)CHUNK * RK__NEAREST_SPARE * job->keep * sizeof(*s->items)),
                 .best = rk_alloc(CHUNK * sizeof(*s->best)),
                 .begin = rk_alloc_zero((size_t)job->k + 2, sizeof(*s->begin)),
                 .ask = rk_alloc((size_t)CHUNK * job->probe * sizeof(*s->ask))};
    return s->biased && s->norms && s->items && s->best && s->begin && s->ask &&
           chooser_init(&s->chooser, job, job->keep + job->graph->M);
}

/* Sorts the queries of a slice by the clusters that are their |from|th to |to|th nearest. */
static void
sort_by_cluster(const cluster_job *job, uint32_t first, uint32_t m, uint32_t from, uint32_t to,
                slice *s)
{
    memset(s->begin, 0, ((size_t)job->k + 2) * sizeof(*s->begin));
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = job->near + (size_t)job->order[first + i] * job->probe;
        for (uint32_t j = from; j < to; j++) {
            s->begin[near[j] + 2]++;
        }
    }
    for (uint32_t c = 0; c < job->k; c++) {
        s->begin[c + 2] += s->begin[c + 1];
    }
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = job->near + (size_t)job->order[first + i] * job->probe;
        for (uint32_t j = from; j < to; j++) {
            s->ask[s->begin[near[j] + 1]++] = i;
        }
    }
}

/* Compares the queries of a slice with the members of those clusters. */
static void
compare_clusters(cluster_job *job, slice *s)
{
    for (uint32_t c = 0; c < job->k && !stopped(job); c++) {
        for (uint32_t i = s->begin[c]; i < s->begin[c + 1]; i += RK__TILE_QUERIES) {
            const uint8_t *queries[RK__TILE_QUERIES];
            rk__nearest *best[RK__TILE_QUERIES];
            uint32_t n = RK_MIN(s->begin[c + 1] - i, RK__TILE_QUERIES);
            for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
                uint32_t which = s->ask[i + RK_MIN(q, n - 1)];
                queries[q] = s->biased + (size_t)which * job->dim;
                best[q] = &s->best[which];
            }
            compare_packs(job, queries, n, best, job->packs, job->norms, job->pack_rows,
                          job->pack_start[c], job->pack_start[c + 1]);
        }
    }
}

/* A node of level 1 also chooses among its neighbours there, which lie farther off. */
static uint32_t
add_upper(const cluster_job *job, uint32_t node, uint32_t row, chooser *c, uint32_t n)
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

static void
link_slice(const cluster_job *job, uint32_t from, uint32_t m, slice *s)
{
    uint32_t width = job->graph->levels[0].cap;

    for (uint32_t i = 0; i < m; i++) {
        chooser *c = &s->chooser;
        rk__nearest *best = &s->best[i];
        uint32_t row = job->members[from + i];
        uint32_t n = 0;
        rk__nearest_sort(best);
        for (uint32_t j = 0; j < best->n; j++) {
            uint32_t node = (uint32_t)best->items[j];
            if (node != row) {
                c->cands[n++] =
                    (rk__cand){(float)(rk__item_key(best->items[j]) + s->norms[i]), node};
            }
        }
        if (job->order[from + i] < job->graph->n_upper) {
            n = add_upper(job, job->order[from + i], row, c, n);
        }
        n = choose(c, n, width);
        write_links(job, row, c->cands, n);
    }
}

static void
slice_chunk(void *arg, size_t chunk)
{
    cluster_job *job = arg;
    uint32_t from = (uint32_t)chunk * CHUNK;
    uint32_t m = RK_MIN(job->n - from, CHUNK);
    slice s = {0};

    if (stopped(job)) {
        return;
    }
    if (!slice_init(&s, job)) {
        atomic_store(&job->out_of_memory, true);
        slice_free(&s);
        return;
    }
    for (uint32_t i = 0; i < m; i++) {
        s.norms[i] = rk__tile_query(code_of(job, job->members[from + i]), job->dim,
                                    s.biased + (size_t)i * job->dim);
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
        atomic_fetch_add(job->options->rows_done, m / 2);
    }
}

/* ---- 4. links turned round ---- */

static void
turn_chunk(void *arg, size_t chunk)
{
    cluster_job *job = arg;
    const rk__hnsw_level *ground = &job->graph->levels[0];

    for (size_t i = chunk * CHUNK; i < RK_MIN((chunk + 1) * CHUNK, (size_t)job->n); i++) {
        uint32_t row = job->members[i];
        const rk__link *links = ground->links + (size_t)row * ground->stride;
        for (uint32_t j = job->rank; j < job->rank + RANKS; j++) {
            uint32_t to = j < ground->cap ? rk__link_get(&links[j]) : RK__NO_ROW;
            if (to >= ground->nodes) {
                break;
            }
            uint32_t at = atomic_fetch_add_explicit(&job->turned[to], 1, memory_order_relaxed);
            if (at < REVERSE) {
                job->reverse[(size_t)to * REVERSE + at] = row;
            }
        }
    }
}

static void
join_chunk(void *arg, size_t chunk)
{
    cluster_job *job = arg;
    const rk__hnsw_level *ground = &job->graph->levels[0];
    chooser c = {0};
    uint32_t from = (uint32_t)chunk * CHUNK;
    uint32_t to = RK_MIN(from + CHUNK, job->n);

    if (stopped(job)) {
        return;
    }
    if (!chooser_init(&c, job, ground->cap + REVERSE)) {
        atomic_store(&job->out_of_memory, true);
        return;
    }
    for (uint32_t i = from; i < to; i++) {
        uint32_t row = job->members[i];
        const rk__link *links = ground->links + (size_t)row * ground->stride;
        uint32_t turned =
            RK_MIN(atomic_load_explicit(&job->turned[row], memory_order_relaxed), REVERSE);
        uint32_t n = 0;
        for (; n < ground->cap && rk__link_get(&links[n]) < ground->nodes; n++) {
            c.rows[n] = rk__link_get(&links[n]);
        }
        uint32_t own = n;
        for (uint32_t j = 0; j < turned; j++) {
            uint32_t other = job->reverse[(size_t)row * REVERSE + j];
            bool known = false;
            for (uint32_t x = 0; x < own; x++) {
                known |= c.rows[x] == other;
            }
            if (!known) {
                c.rows[n++] = other;
            }
        }
        code_keys(&c, row, c.rows, n, c.keys);
        rk__pool pool = {.items = c.cands, .cap = n};
        for (uint32_t j = 0; j < n; j++) {
            uint32_t at;
            (void)rk__pool_insert(&pool, c.keys[j], c.rows[j] | (j >= own ? TURNED : 0), &at);
        }
        n = choose(&c, n, ground->cap);
        write_links(job, row, c.cands, n);
    }
    rk_free(c.cands);
    if (job->options->rows_done) {
        atomic_fetch_add(job->options->rows_done, (to - from) / 2);
    }
}

static rk_code
join_reverse(cluster_job *job, rk_err *err)
{
    size_t rows = job->index->space.rows;
    size_t chunks = ((size_t)job->n + CHUNK - 1) / CHUNK;

    job->reverse = rk__alloc_huge(rows * REVERSE * sizeof(*job->reverse));
    job->turned = rk_alloc_zero(rows, sizeof(*job->turned));
    if (!job->reverse || !job->turned) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory to turn round the links of %u nodes",
                       job->n);
    }
    for (job->rank = 0; job->rank < job->graph->levels[0].cap; job->rank += RANKS) {
        rk__parallel_run(job->options->parallel, chunks, turn_chunk, job);
    }
    rk__parallel_run(job->options->parallel, chunks, join_chunk, job);
    return state_of(job, err);
}

/* ---- the whole ---- */

uint64_t
rk__hnsw_cluster_bytes(const rk__hnsw *graph, size_t rows)
{
    return (uint64_t)rows * (graph->codes.n * 5 / 4 + (16 + 4 + REVERSE) * sizeof(uint32_t) + 16);
}

rk_code
rk__hnsw_cluster_ground(rk_index *index, const rk_build_options *options, const uint32_t *nodes,
                        uint32_t n, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    uint32_t ef = graph->ef_construction;
    cluster_job job = {.index = index,
                       .graph = graph,
                       .options = options,
                       .nodes = nodes,
                       .n = n,
                       .dim = graph->codes.n,
                       .tile = rk__tile_get()};
    rk_code code = RK_OK;

    if (n < 2) {
        return RK_OK;
    }
    job.k = RK_MIN(RK_MAX(n / CLUSTER_ROWS, 1u), CLUSTERS_MAX);
    job.probe = RK_MIN(RK_MIN(RK_MAX(ef / 4, PROBE_MIN), PROBE_MAX), job.k);
    job.keep = RK_MIN(RK_MAX(ef, graph->levels[0].cap * 4), KEEP_MAX) + 1;
    code = train_centres(&job, err);
    if (code == RK_OK) {
        code = find_members(&job, err);
    }
    if (code == RK_OK) {
        rk__parallel_run(options->parallel, ((size_t)n + CHUNK - 1) / CHUNK, slice_chunk, &job);
        code = state_of(&job, err);
    }
    if (code == RK_OK) {
        code = join_reverse(&job, err);
    }
    rk_free(job.centres);
    rk_free(job.centre_packs);
    rk_free(job.centre_norms);
    rk_free(job.near);
    rk_free(job.members);
    rk_free(job.order);
    rk_free(job.start);
    rk_free(job.pack_start);
    rk_free(job.packs);
    rk_free(job.norms);
    rk_free(job.pack_rows);
    rk_free(job.reverse);
    rk_free((void *)(uintptr_t)job.turned);
    return code;
}
