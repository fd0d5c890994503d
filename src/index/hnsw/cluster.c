/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ground of a graph on codes, by clusters instead of by insertion.
 *
 * Steps, each over the caller's threads:
 *   1. centres: a few rounds of k-means on a sample of the codes; and on a sample of the nodes, in
 *      how many clusters the nodes near to one are;
 *   2. every node finds its nearest centres and joins the first;
 *   3. every node is compared with the members of its nearest clusters, 8 by 32 at a time
 *      (hnsw/tile.c), and keeps the nearest ones; of these a diverse set becomes its links. Long
 *      codes are compared by their first bytes, and the kept ones again by all;
 *   4. links are turned round: each node chooses again among its links and the nodes that chose it.
 * When nodes join a graph that is there (hnsw/merge.c) all are members, but only the new ones are
 * compared with clusters, and only the nodes that these chose choose again.
 * What this leaves unreached from the entry is repaired as after insertion (hnsw/build.c).
 *
 * Distances are those of the codes, by L2; so IP graphs are built this way only when all vectors
 * are about equally long. Compared with insertion a row costs a tenth: all memory is read in order,
 * and a distance takes a nanosecond or two.
 */
#include "index/hnsw/cluster.h"

#define CLUSTERS     1.2 /* times the root of the nodes, */
#define CLUSTER_ROWS 96u /* of so many nodes or more */
#define CLUSTERS_MAX 16384u
#define SAMPLE_ROWS  32u /* per centre */
#define ROUNDS       4u
#define PROBE_MIN    8u
#define PROBE_MAX    128u
#define PROBE_ROWS   72u  /* times efConstruction: nodes that one is compared with at most, about */
#define COVERED      0.97 /* of the near nodes that are to be among those, where that suffices */
#define ASKED        128u /* nodes whose near ones are looked up to measure that, */
#define ASKED_GROUP  64u
#define ASKED_AMONG  65536u /* among so many, */
#define ASKED_FOUND  32u    /* and so many of each are looked at */
#define KEEP_MAX     1024u
#define NORM_CHUNK   8192u
#define LEAD         ((size_t)256) /* bytes of a code that tell which nodes are near */

/* ---- lengths of codes ---- */

static void
norm_chunk(void *arg, size_t chunk)
{
    rk__ground_job *job = arg;
    rk__code8_fn ip = rk__kernels_get()->code8_ip;
    size_t to = RK_MIN((chunk + 1) * NORM_CHUNK, job->index->space.rows);

    for (size_t row = chunk * NORM_CHUNK; row < to; row++) {
        const int8_t *code = rk__ground_code(job, (uint32_t)row);
        job->code_norms[row] = ip(code, code, job->dim);
    }
}

static rk_code
measure_codes(rk__ground_job *job, rk_err *err)
{
    size_t rows = job->index->space.rows;

    job->code_norms = rk_alloc(rows * sizeof(*job->code_norms));
    if (!job->code_norms) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the lengths of %zu codes", rows);
    }
    rk__parallel_run(job->options->parallel, (rows + NORM_CHUNK - 1) / NORM_CHUNK, norm_chunk, job);
    return RK_OK;
}

/* ---- the nearest centres ---- */

void
rk__ground_compare(const rk__ground_job *job, const uint8_t *const queries[RK__TILE_QUERIES],
                   uint32_t m, rk__nearest *const best[RK__TILE_QUERIES], const int8_t *packs,
                   const int32_t *norms, size_t dim, const uint32_t *numbers, size_t from,
                   size_t to)
{
    rk__tile_result result;
    int32_t bounds[RK__TILE_QUERIES];

    for (size_t p = from; p < to; p++) {
        for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
            bounds[q] = q < m ? best[q]->bound : INT32_MIN;
        }
        job->tile(queries, bounds, packs + p * RK__GROUND_PACK * dim, norms + p * RK__GROUND_PACK,
                  dim, &result);
        for (uint32_t q = 0; q < m; q++) {
            for (uint32_t mask = result.below[q]; mask; mask &= mask - 1) {
                uint32_t i = (uint32_t)__builtin_ctz(mask);
                uint32_t place = (uint32_t)(p * RK__GROUND_PACK) + i;
                rk__nearest_push(best[q], result.keys[q][i], numbers ? numbers[place] : place);
            }
        }
    }
}

static void
assign_chunk(void *arg, size_t chunk)
{
    rk__ground_job *job = arg;
    uint32_t from = (uint32_t)chunk * RK__GROUND_CHUNK;
    uint32_t to = RK_MIN(from + RK__GROUND_CHUNK, job->n_sample);
    uint8_t *biased = rk_alloc_aligned(64, RK__TILE_QUERIES * job->dim);
    uint64_t *items =
        rk_alloc((size_t)RK__TILE_QUERIES * RK__NEAREST_SPARE * job->n_near * sizeof(*items));
    const uint8_t *queries[RK__TILE_QUERIES];
    rk__nearest best[RK__TILE_QUERIES];
    rk__nearest *bests[RK__TILE_QUERIES];

    if (!biased || !items) {
        atomic_store(&job->out_of_memory, true);
    }
    for (uint32_t i = from; i < to && !rk__ground_stopped(job); i += RK__TILE_QUERIES) {
        uint32_t m = RK_MIN(to - i, RK__TILE_QUERIES);
        for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
            queries[q] = biased + q * job->dim;
            (void)rk__tile_query(rk__ground_code(job, job->sample[i + RK_MIN(q, m - 1)]), job->dim,
                                 biased + q * job->dim);
            best[q] = (rk__nearest){.items = items + (size_t)q * RK__NEAREST_SPARE * job->n_near,
                                    .keep = job->n_near,
                                    .bound = INT32_MAX};
            bests[q] = &best[q];
        }
        rk__ground_compare(job, queries, m, bests, job->centre_packs, job->centre_norms, job->dim,
                           NULL, 0, (job->k + RK__GROUND_PACK - 1) / RK__GROUND_PACK);
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
pack_centres(rk__ground_job *job)
{
    for (uint32_t c = 0; c < job->k; c += RK__GROUND_PACK) {
        const int8_t *rows[RK__GROUND_PACK];
        uint32_t m = RK_MIN(job->k - c, RK__GROUND_PACK);
        for (uint32_t i = 0; i < m; i++) {
            rows[i] = job->centres + (size_t)(c + i) * job->dim;
        }
        rk__tile_pack(rows, m, job->dim, job->centre_packs + (size_t)c * job->dim,
                      job->centre_norms + c);
    }
}

static void
assign(rk__ground_job *job, const uint32_t *rows, uint32_t n, uint32_t n_near, uint32_t *near)
{
    job->sample = rows;
    job->n_sample = n;
    job->n_near = n_near;
    job->nearest = near;
    rk__parallel_run(job->options->parallel, (n + RK__GROUND_CHUNK - 1) / RK__GROUND_CHUNK,
                     assign_chunk, job);
}

rk_code
rk__ground_state(const rk__ground_job *job, rk_err *err)
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
move_centres(rk__ground_job *job, const uint32_t *rows, const uint32_t *near, uint32_t n,
             int32_t *sums, uint32_t *counts)
{
    memset(sums, 0, (size_t)job->k * job->dim * sizeof(*sums));
    memset(counts, 0, (size_t)job->k * sizeof(*counts));
    for (uint32_t i = 0; i < n; i++) {
        const int8_t *code = rk__ground_code(job, rows[i]);
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
train_centres(rk__ground_job *job, rk_err *err)
{
    size_t padded = ((size_t)job->k + RK__GROUND_PACK - 1) / RK__GROUND_PACK * RK__GROUND_PACK;
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
        memcpy(job->centres + (size_t)c * job->dim,
               rk__ground_code(job, rows[(uint64_t)c * n / job->k]), job->dim);
    }
    for (uint32_t round = 0; round < ROUNDS && job->k > 1; round++) {
        pack_centres(job);
        assign(job, rows, n, 1, near);
        code = rk__ground_state(job, err);
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

/* ---- how many clusters ---- */

typedef struct probe_job {
    rk__ground_job *ground;
    uint32_t asked[ASKED];
    uint32_t n_asked;
    uint32_t n_among; /* of the nodes, at equal steps */
    uint32_t keep;
    uint32_t n_found; /* of each asked one */
    uint32_t *found;  /* rows */
} probe_job;

/* The nearest to a group of nodes, exactly. */
static void
probe_group(void *arg, size_t group)
{
    probe_job *job = arg;
    rk__ground_job *ground = job->ground;
    size_t dim = ground->dim;
    uint32_t from = (uint32_t)group * ASKED_GROUP;
    uint32_t m = RK_MIN(job->n_asked - from, ASKED_GROUP);
    uint8_t *biased = rk_alloc_aligned(64, ASKED_GROUP * dim);
    int8_t *pack = rk_alloc_aligned(64, RK__GROUND_PACK * dim);
    uint64_t *items =
        rk_alloc((size_t)ASKED_GROUP * RK__NEAREST_SPARE * job->keep * sizeof(*items));
    rk__nearest best[ASKED_GROUP];

    if (!biased || !pack || !items) {
        atomic_store(&ground->out_of_memory, true);
        goto out;
    }
    for (uint32_t q = 0; q < ASKED_GROUP; q++) {
        uint32_t row = job->asked[from + RK_MIN(q, m - 1)];
        (void)rk__tile_query(rk__ground_code(ground, row), dim, biased + q * dim);
        best[q] = (rk__nearest){.items = items + (size_t)q * RK__NEAREST_SPARE * job->keep,
                                .keep = job->keep,
                                .bound = INT32_MAX};
    }
    for (uint32_t i = 0; i < job->n_among && !rk__ground_stopped(ground); i += RK__GROUND_PACK) {
        const int8_t *rows[RK__GROUND_PACK];
        int32_t norms[RK__GROUND_PACK];
        uint32_t numbers[RK__GROUND_PACK];
        uint32_t n = RK_MIN(job->n_among - i, RK__GROUND_PACK);
        for (uint32_t j = 0; j < n; j++) {
            numbers[j] = ground->nodes[(uint64_t)(i + j) * ground->n / job->n_among];
            rows[j] = rk__ground_code(ground, numbers[j]);
        }
        rk__tile_pack(rows, n, dim, pack, norms);
        for (uint32_t q = 0; q < m; q += RK__TILE_QUERIES) {
            const uint8_t *queries[RK__TILE_QUERIES];
            rk__nearest *bests[RK__TILE_QUERIES];
            for (uint32_t j = 0; j < RK__TILE_QUERIES; j++) {
                queries[j] = biased + (q + j) * dim;
                bests[j] = &best[q + j];
            }
            rk__ground_compare(ground, queries, RK_MIN(m - q, RK__TILE_QUERIES), bests, pack, norms,
                               dim, numbers, 0, 1);
        }
    }
    for (uint32_t q = 0; q < m; q++) {
        rk__nearest_sort(&best[q]);
        for (uint32_t j = 0; j < job->n_found; j++) {
            job->found[(size_t)(from + q) * job->n_found + j] =
                (uint32_t)best[q].items[(uint64_t)j * best[q].n / job->n_found];
        }
    }
out:
    rk_free(biased);
    rk_free(pack);
    rk_free(items);
}

/* The least number of clusters, at most what it is, in which COVERED of the near nodes are. */
static void
read_probe(rk__ground_job *ground, const probe_job *job, const uint32_t *near, const uint32_t *home)
{
    uint32_t at[PROBE_MAX] = {0};
    uint32_t total = 0;
    uint32_t sum = 0;
    uint32_t probe = 0;

    for (uint32_t i = 0; i < job->n_asked * job->n_found; i++) {
        const uint32_t *mine = near + (size_t)(i / job->n_found) * ground->probe;
        uint32_t place = 0;
        if (job->found[i] == job->asked[i / job->n_found]) {
            continue;
        }
        while (place < ground->probe && mine[place] != home[i]) {
            place++;
        }
        total++;
        if (place < ground->probe) {
            at[place]++;
        }
    }
    while (probe < ground->probe && sum < COVERED * total) {
        sum += at[probe++];
    }
    ground->probe = RK_MIN(RK_MAX(probe, PROBE_MIN), ground->probe);
}

/*
 * How many clusters a node is compared with: data whose near nodes lie in few clusters needs fewer
 * than the most there may be. Measured on some nodes, whose near ones among a sample are found
 * exactly.
 */
static rk_code
choose_probe(rk__ground_job *ground, rk_err *err)
{
    probe_job job = {.ground = ground, .n_asked = RK_MIN(ground->n_fresh, ASKED)};
    uint32_t *near = NULL;
    uint32_t *home = NULL;
    rk_code code = RK_OK;

    if (ground->probe <= PROBE_MIN) {
        return RK_OK;
    }
    job.n_among = RK_MIN(ground->n, ASKED_AMONG);
    job.keep = (uint32_t)((uint64_t)ground->keep / 2 * job.n_among / ground->n) + 2;
    job.n_found = RK_MIN(job.keep, ASKED_FOUND);
    job.found = rk_alloc((size_t)ASKED * job.n_found * sizeof(*job.found));
    home = rk_alloc((size_t)ASKED * job.n_found * sizeof(*home));
    near = rk_alloc((size_t)ASKED * ground->probe * sizeof(*near));
    if (!job.found || !home || !near) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory to measure %u clusters", ground->k);
        goto out;
    }
    for (uint32_t i = 0, fresh = 0, n = 0; i < ground->n && n < job.n_asked; i++) {
        bool wanted = !ground->fresh || ground->fresh[ground->nodes[i]];
        if (wanted && fresh++ == (uint64_t)n * ground->n_fresh / job.n_asked) {
            job.asked[n++] = ground->nodes[i];
        }
    }
    rk__parallel_run(ground->options->parallel, (job.n_asked + ASKED_GROUP - 1) / ASKED_GROUP,
                     probe_group, &job);
    RK_ERR(rk__ground_state(ground, err));
    assign(ground, job.asked, job.n_asked, ground->probe, near);
    assign(ground, job.found, job.n_asked * job.n_found, 1, home);
    RK_ERR(rk__ground_state(ground, err));
    read_probe(ground, &job, near, home);
out:
    rk_free(job.found);
    rk_free(home);
    rk_free(near);
    return code;
}

/* ---- 2. members ---- */

static void
pack_cluster(void *arg, size_t c)
{
    rk__ground_job *job = arg;
    size_t pack = job->pack_start[c];

    for (uint32_t i = job->start[c]; i < job->start[c + 1]; i += RK__GROUND_PACK, pack++) {
        const int8_t *rows[RK__GROUND_PACK];
        uint32_t m = RK_MIN(job->start[c + 1] - i, RK__GROUND_PACK);
        for (uint32_t j = 0; j < m; j++) {
            rows[j] = rk__ground_code(job, job->members[i + j]);
            job->pack_rows[pack * RK__GROUND_PACK + j] = job->members[i + j];
        }
        rk__tile_pack(rows, m, job->lead, job->packs + pack * RK__GROUND_PACK * job->lead,
                      job->norms + pack * RK__GROUND_PACK);
    }
}

/* The nearest centres of fresh nodes, |probe| of each. */
static rk_code
find_near(rk__ground_job *job, rk_err *err)
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
    code = rk__ground_state(job, err);
out:
    rk_free(rows);
    return code;
}

static rk_code
find_members(rk__ground_job *job, rk_err *err)
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
        RK_ERR(rk__ground_state(job, err));
    }
    RK_ERR(find_near(job, err));
    for (uint32_t i = 0; i < n; i++) {
        home[i] = job->fresh ? home[i] : *rk__ground_near(job, i);
        job->start[home[i] + 2]++;
    }
    for (uint32_t c = 0; c < job->k; c++) {
        job->pack_start[c] = (uint32_t)n_packs;
        n_packs += (job->start[c + 2] + RK__GROUND_PACK - 1) / RK__GROUND_PACK;
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
    job->packs = rk__alloc_huge(n_packs * RK__GROUND_PACK * job->lead);
    job->norms = rk_alloc_aligned(64, n_packs * RK__GROUND_PACK * sizeof(*job->norms));
    job->pack_rows = rk_alloc_zero(n_packs * RK__GROUND_PACK, sizeof(*job->pack_rows));
    if (!job->packs || !job->norms || !job->pack_rows) {
        RK_ERR(
            rk_fail(err, RK_ENOMEM, "HNSW build: no memory to pack the codes of %u nodes", job->n));
    }
    rk__parallel_run(job->options->parallel, job->k, pack_cluster, job);
out:
    rk_free(home);
    return code;
}

/* ---- the whole ---- */

static uint32_t
clusters_of(uint32_t n)
{
    double k = CLUSTERS * sqrt((double)n);

    return RK_MAX((uint32_t)RK_MIN(k, (double)RK_MIN(n / CLUSTER_ROWS, CLUSTERS_MAX)), 1u);
}

/*
 * Codes are rotated at random, so that what they share of a distance is spread evenly over their
 * bytes: from some on it is estimated well enough to tell which nodes are near ones. Those are
 * compared again.
 */
static size_t
lead_of(size_t dim)
{
    return dim < LEAD + LEAD / 4 ? dim : LEAD;
}

/* Clusters that a node is compared with at most. */
static uint32_t
probes(const rk__hnsw *graph, uint32_t n)
{
    uint32_t k = clusters_of(n);
    uint64_t probe = (uint64_t)graph->ef_construction * PROBE_ROWS * k / RK_MAX(n, 1u);

    return RK_MIN((uint32_t)RK_MIN(RK_MAX(probe, PROBE_MIN), PROBE_MAX), k);
}

uint64_t
rk__hnsw_cluster_bytes(const rk__hnsw *graph, size_t rows)
{
    uint64_t centres = (uint64_t)clusters_of((uint32_t)rows) * graph->codes.n * 6;

    return centres +
           (uint64_t)rows *
               (lead_of(graph->codes.n) * 5 / 4 +
                (probes(graph, (uint32_t)rows) + 8 + 2 * RK__GROUND_REVERSE) * sizeof(uint32_t) +
                20);
}

rk_code
rk__hnsw_cluster_ground(rk_index *index, const rk_build_options *options, const uint32_t *nodes,
                        uint32_t n, const uint8_t *fresh, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    rk__ground_job job = {.index = index,
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
    job.lead = lead_of(job.dim);
    job.k = clusters_of(n);
    job.probe = probes(graph, n);
    job.keep = RK_MIN(RK_MAX(graph->ef_construction, graph->levels[0].cap * 4), KEEP_MAX) + 1;
    code = measure_codes(&job, err);
    if (code == RK_OK) {
        code = train_centres(&job, err);
    }
    if (code == RK_OK) {
        code = choose_probe(&job, err);
    }
    if (code == RK_OK) {
        code = find_members(&job, err);
    }
    if (code == RK_OK) {
        code = rk__ground_link(&job, err);
    }
    rk_free(job.code_norms);
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
