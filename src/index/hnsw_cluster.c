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
 * When nodes join a graph that is there (hnsw_merge.c) all are members, but only the new ones are
 * compared with clusters, and only the nodes that these chose choose again.
 * What this leaves unreached from the entry is repaired as after insertion (hnsw_build.c).
 *
 * Distances are those of the codes, by L2; so IP graphs are built this way only when all vectors
 * are about equally long. Compared with insertion a row costs a tenth: all memory is read in order,
 * and a distance takes a nanosecond or two.
 */
#include "index/hnsw_build.h"
#include "index/hnsw_nearest.h"
#include "index/hnsw_tile.h"

#define CLUSTER_ROWS 256u
#define CLUSTERS_MAX 16384u
#define SAMPLE_ROWS  32u /* per centre */
#define ROUNDS       4u
#define CHUNK        256u
#define PACK         RK__TILE_ROWS
#define REVERSE      32u
#define OFFERS       32u /* nearest nodes that a fresh one offers itself to */
#define FIRST        2u  /* clusters that a node is compared with before all others */
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
    const uint8_t *fresh; /* per row: is to be linked; NULL: all */
    uint32_t n_fresh;
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
    uint32_t *nearest; /* n_near per sample row, nearest first */

    uint32_t *near;       /* |probe| per fresh node, nearest first */
    uint32_t *members;    /* rows by cluster */
    uint32_t *order;      /* the same as places in |nodes| */
    uint32_t *asked;      /* places of fresh members; NULL: all */
    uint32_t *near_of;    /* per place in |nodes|, of fresh ones: which of |near|; NULL: the same */
    uint32_t *start;      /* k + 1 */
    uint32_t *pack_start; /* of each cluster, in packs; k + 1 */
    int8_t *packs;
    int32_t *norms;
    uint32_t *pack_rows; /* row of each place of a pack */

    uint32_t *reverse;         /* REVERSE per row: who chose it */
    _Atomic(uint32_t) *turned; /* per row: how many */
    uint32_t *offered;         /* REVERSE per row: fresh nodes that have it among their nearest */
    _Atomic(uint32_t) *offers; /* per row: how many */
    bool join_fresh;
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
                job->nearest[(size_t)(i + q) * job->n_near + j] =
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
    job->nearest = near;
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

/* The nearest centres of fresh nodes, |probe| of each. */
static rk_code
find_near(cluster_job *job, rk_err *err)
{
    uint32_t *rows = NULL;
    rk_code code = RK_OK;

    job->near = rk_alloc((size_t)job->n_fresh * job->probe * sizeof(*job->near));
    if (job->fresh) {
        rows = rk_alloc(((size_t)job->n_fresh + 1) * sizeof(*rows));
        job->asked = rk_alloc(((size_t)job->n_fresh + 1) * sizeof(*job->asked));
        job->near_of = rk_alloc((size_t)job->n * sizeof(*job->near_of));
    }
    if (!job->near || (job->fresh && (!rows || !job->asked || !job->near_of))) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the clusters of %u nodes",
                       job->n_fresh);
        goto out;
    }
    for (uint32_t i = 0, n = 0; rows && i < job->n; i++) {
        if (job->fresh[job->nodes[i]]) {
            job->near_of[i] = n;
            rows[n++] = job->nodes[i];
        }
    }
    assign(job, rows ? rows : job->nodes, job->n_fresh, job->probe, job->near);
    code = state_of(job, err);
out:
    rk_free(rows);
    return code;
}

static const uint32_t *
near_of(const cluster_job *job, uint32_t node)
{
    return job->near + (size_t)(job->near_of ? job->near_of[node] : node) * job->probe;
}

static rk_code
find_members(cluster_job *job, rk_err *err)
{
    size_t n = job->n;
    size_t n_packs = 0;
    uint32_t *home = rk_alloc(n * sizeof(*home));
    rk_code code = RK_OK;

    job->members = rk_alloc(n * sizeof(*job->members));
    job->order = rk_alloc(n * sizeof(*job->order));
    job->start = rk_alloc_zero((size_t)job->k + 2, sizeof(*job->start));
    job->pack_start = rk_alloc_zero((size_t)job->k + 1, sizeof(*job->pack_start));
    if (!home || !job->members || !job->order || !job->start || !job->pack_start) {
        RK_ERR(
            rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the clusters of %u nodes", job->n));
    }
    if (job->fresh) {
        assign(job, job->nodes, job->n, 1, home);
        RK_ERR(state_of(job, err));
    }
    RK_ERR(find_near(job, err));
    for (uint32_t i = 0; i < n; i++) {
        home[i] = job->fresh ? home[i] : *near_of(job, i);
        job->start[home[i] + 2]++;
    }
    for (uint32_t c = 0; c < job->k; c++) {
        job->pack_start[c] = (uint32_t)n_packs;
        n_packs += (job->start[c + 2] + PACK - 1) / PACK;
        job->start[c + 2] += job->start[c + 1];
    }
    job->pack_start[job->k] = (uint32_t)n_packs;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = job->start[home[i] + 1]++;
        job->members[at] = job->nodes[i];
        job->order[at] = i;
    }
    for (uint32_t at = 0, asked = 0; job->asked && at < n; at++) {
        if (job->fresh[job->members[at]]) {
            job->asked[asked++] = at;
        }
    }
    job->packs = rk__alloc_huge(n_packs * PACK * job->dim);
    job->norms = rk_alloc_aligned(64, n_packs * PACK * sizeof(*job->norms));
    job->pack_rows = rk_alloc_zero(n_packs * PACK, sizeof(*job->pack_rows));
    if (!job->packs || !job->norms || !job->pack_rows) {
        RK_ERR(
            rk_fail(err, RK_ENOMEM, "HNSW build: no memory to pack the codes of %u nodes", job->n));
    }
    rk__parallel_run(job->options->parallel, job->k, pack_cluster, job);
out:
    rk_free(home);
    return code;
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

/* The place of the |i|th fresh node among the members. */
static uint32_t
asked_at(const cluster_job *job, uint32_t i)
{
    return job->asked ? job->asked[i] : i;
}

/* Sorts the queries of a slice by the clusters that are their |from|th to |to|th nearest. */
static void
sort_by_cluster(const cluster_job *job, uint32_t first, uint32_t m, uint32_t from, uint32_t to,
                slice *s)
{
    memset(s->begin, 0, ((size_t)job->k + 2) * sizeof(*s->begin));
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = near_of(job, job->order[asked_at(job, first + i)]);
        for (uint32_t j = from; j < to; j++) {
            s->begin[near[j] + 2]++;
        }
    }
    for (uint32_t c = 0; c < job->k; c++) {
        s->begin[c + 2] += s->begin[c + 1];
    }
    for (uint32_t i = 0; i < m; i++) {
        const uint32_t *near = near_of(job, job->order[asked_at(job, first + i)]);
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

/* Puts |row| into one of the lists of REVERSE places while there is room. */
static void
put_reverse(uint32_t *lists, _Atomic(uint32_t) *counts, uint32_t to, uint32_t row)
{
    uint32_t at = atomic_fetch_add_explicit(&counts[to], 1, memory_order_relaxed);

    if (at < REVERSE) {
        lists[(size_t)to * REVERSE + at] = row;
    }
}

/* Offers a fresh node to the nearest of those that have their links: they might choose it. */
static void
offer(cluster_job *job, uint32_t row, const rk__cand *cands, uint32_t n)
{
    for (uint32_t i = 0; i < RK_MIN(n, OFFERS); i++) {
        if (!job->fresh[cands[i].node]) {
            put_reverse(job->offered, job->offers, cands[i].node, row);
        }
    }
}

static void
link_slice(cluster_job *job, uint32_t from, uint32_t m, slice *s)
{
    uint32_t width = job->graph->levels[0].cap;

    for (uint32_t i = 0; i < m; i++) {
        chooser *c = &s->chooser;
        rk__nearest *best = &s->best[i];
        uint32_t at = asked_at(job, from + i);
        uint32_t row = job->members[at];
        uint32_t n = 0;
        rk__nearest_sort(best);
        for (uint32_t j = 0; j < best->n; j++) {
            uint32_t node = (uint32_t)best->items[j];
            if (node != row) {
                c->cands[n++] =
                    (rk__cand){(float)(rk__item_key(best->items[j]) + s->norms[i]), node};
            }
        }
        if (job->order[at] < job->graph->n_upper) {
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
    cluster_job *job = arg;
    uint32_t from = (uint32_t)chunk * CHUNK;
    uint32_t m = RK_MIN(job->n_fresh - from, CHUNK);
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
        s.norms[i] = rk__tile_query(code_of(job, job->members[asked_at(job, from + i)]), job->dim,
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

    for (size_t i = chunk * CHUNK; i < RK_MIN((chunk + 1) * CHUNK, (size_t)job->n_fresh); i++) {
        uint32_t row = job->members[asked_at(job, (uint32_t)i)];
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
    return counts ? RK_MIN(atomic_load_explicit(&counts[row], memory_order_relaxed), REVERSE) : 0;
}

/*
 * Node |row| chooses again among its links, the nodes that chose it, and those that offer
 * themselves. What a node that was there before has stays as long as there is room: it may be a
 * link that another one needs. Fresh nodes that it chooses are told.
 */
static void
join_node(cluster_job *job, uint32_t row, chooser *c)
{
    const rk__hnsw_level *ground = &job->graph->levels[0];
    const rk__link *links = ground->links + (size_t)row * ground->stride;
    bool before = job->fresh && !job->fresh[row];
    uint32_t own = 0;

    for (; own < ground->cap && rk__link_get(&links[own]) < ground->nodes; own++) {
        c->rows[own] = rk__link_get(&links[own]);
    }
    uint32_t turned =
        add_unknown(c, own, job->reverse + (size_t)row * REVERSE, count_of(job->turned, row));
    uint32_t n = turned;
    if (before) {
        n = add_unknown(c, turned, job->offered + (size_t)row * REVERSE,
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
    cluster_job *job = arg;
    chooser c = {0};
    uint32_t from = (uint32_t)chunk * CHUNK;
    uint32_t to = RK_MIN(from + CHUNK, job->n);
    uint32_t done = 0;

    if (stopped(job)) {
        return;
    }
    if (!chooser_init(&c, job, job->graph->levels[0].cap + 2 * REVERSE)) {
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
        atomic_fetch_add(job->options->rows_done, done / 2);
    }
}

static rk_code
join_reverse(cluster_job *job, rk_err *err)
{
    size_t chunks = ((size_t)job->n + CHUNK - 1) / CHUNK;

    for (job->rank = 0; job->rank < job->graph->levels[0].cap; job->rank += RANKS) {
        rk__parallel_run(job->options->parallel, ((size_t)job->n_fresh + CHUNK - 1) / CHUNK,
                         turn_chunk, job);
    }
    if (job->fresh) {
        rk__parallel_run(job->options->parallel, chunks, join_chunk, job);
    }
    job->join_fresh = true;
    rk__parallel_run(job->options->parallel, chunks, join_chunk, job);
    return state_of(job, err);
}

static rk_code
make_reverse(cluster_job *job, rk_err *err)
{
    size_t rows = job->index->space.rows;

    job->reverse = rk__alloc_huge(rows * REVERSE * sizeof(*job->reverse));
    job->turned = rk_alloc_zero(rows, sizeof(*job->turned));
    if (job->fresh) {
        job->offered = rk__alloc_huge(rows * REVERSE * sizeof(*job->offered));
        job->offers = rk_alloc_zero(rows, sizeof(*job->offers));
    }
    if (!job->reverse || !job->turned || (job->fresh && (!job->offered || !job->offers))) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory to turn round the links of %u nodes",
                       job->n);
    }
    return RK_OK;
}

/* ---- the whole ---- */

static uint32_t
probes(const rk__hnsw *graph)
{
    return RK_MIN(RK_MAX(graph->ef_construction / 4, PROBE_MIN), PROBE_MAX);
}

uint64_t
rk__hnsw_cluster_bytes(const rk__hnsw *graph, size_t rows)
{
    return (uint64_t)rows *
           (graph->codes.n * 5 / 4 + (probes(graph) + 8 + 2 * REVERSE) * sizeof(uint32_t) + 16);
}

rk_code
rk__hnsw_cluster_ground(rk_index *index, const rk_build_options *options, const uint32_t *nodes,
                        uint32_t n, const uint8_t *fresh, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    cluster_job job = {.index = index,
                       .graph = graph,
                       .options = options,
                       .nodes = nodes,
                       .n = n,
                       .fresh = fresh,
                       .n_fresh = n,
                       .dim = graph->codes.n,
                       .tile = rk__tile_get()};
    rk_code code = RK_OK;

    if (fresh) {
        job.n_fresh = 0;
        for (uint32_t i = 0; i < n; i++) {
            job.n_fresh += fresh[nodes[i]] != 0;
        }
    }
    if (n < 2 || job.n_fresh == 0) {
        return RK_OK;
    }
    job.k = RK_MIN(RK_MAX(n / CLUSTER_ROWS, 1u), CLUSTERS_MAX);
    job.probe = RK_MIN(probes(graph), job.k);
    job.keep = RK_MIN(RK_MAX(graph->ef_construction, graph->levels[0].cap * 4), KEEP_MAX) + 1;
    code = train_centres(&job, err);
    if (code == RK_OK) {
        code = find_members(&job, err);
    }
    if (code == RK_OK) {
        code = make_reverse(&job, err);
    }
    if (code == RK_OK) {
        rk__parallel_run(options->parallel, ((size_t)job.n_fresh + CHUNK - 1) / CHUNK, slice_chunk,
                         &job);
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
    rk_free(job.asked);
    rk_free(job.near_of);
    rk_free(job.start);
    rk_free(job.pack_start);
    rk_free(job.packs);
    rk_free(job.norms);
    rk_free(job.pack_rows);
    rk_free(job.reverse);
    rk_free((void *)(uintptr_t)job.turned);
    rk_free(job.offered);
    rk_free((void *)(uintptr_t)job.offers);
    return code;
}
