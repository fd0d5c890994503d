/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What effort gives which recall: measured at the end of a build on rows of the index as queries,
 * themselves left out of their answers, against a search that leaves nothing out. The table is kept
 * in the image, so a search that states the recall it wants finds its effort there.
 *
 * For each epsilon one search with the largest beta is traced: which list gave which answer, what
 * beta reaches that list, and what it cost to get there. That tells recall and cost for every
 * smaller beta too. A level of the table is the cheapest pair that reaches its recall.
 *
 * Also measured: how far a record's distance is from the true one, which says how many of the best
 * are scored on their vectors.
 *
 * Costs are counted, not timed: the table is a function of the data and the seed.
 */
#include "index/cluster/cluster.h"

#define QUERIES     192u
#define K           10u
#define SLACK_SHARE 3.0f  /* of the root mean square error */
#define SLACK_START 0.05f /* of the squared radius, until it is measured */
#define MARGIN      0.2f  /* of what is missing to 1: rows are easier queries than new vectors */
#define BETAS       30u
#define BETAS_L2    24u /* for L2; by IP long rows may lie farther out */
#define EPSILONS    5u

static const float betas[BETAS] = {0.05f, 0.08f, 0.12f, 0.16f, 0.20f, 0.24f, 0.28f, 0.32f,
                                   0.36f, 0.40f, 0.45f, 0.50f, 0.56f, 0.63f, 0.70f, 0.80f,
                                   0.90f, 1.0f,  1.15f, 1.3f,  1.5f,  1.75f, 2.0f,  2.3f,
                                   3.0f,  4.0f,  6.0f,  9.0f,  14.0f, 22.0f};
static const float epsilons[EPSILONS] = {0.5f, 0.8f, 1.2f, 1.7f, 2.3f};
static const float recalls[RK__CLUSTER_LEVELS] = {0.80f, 0.90f, 0.93f, 0.95f,
                                                  0.97f, 0.98f, 0.99f, 1.0f};

#define BETA_MOST    2.5f
#define BETA_ALL     1e9f /* by IP, where no other reaches a recall */
#define EPSILON_MOST 3.0f

rk__cluster_effort
rk__cluster_effort_of(const rk__cluster *cluster, float recall)
{
    const rk__cluster_level *levels = cluster->info.levels;
    uint32_t i = 0;

    while (i + 1 < RK__CLUSTER_LEVELS && !(levels[i].recall >= recall)) {
        i++;
    }
    const rk__cluster_level *to = &levels[i];
    const rk__cluster_level *from = &levels[i > 0 ? i - 1 : 0];
    float share = to->recall > from->recall && recall > from->recall && i + 1 < RK__CLUSTER_LEVELS
                      ? (recall - from->recall) / (to->recall - from->recall)
                      : 1;
    share = RK_MIN(share, 1.0f);
    return (rk__cluster_effort){
        .beta = from->beta + share * (to->beta - from->beta),
        .epsilon = from->epsilon + share * (to->epsilon - from->epsilon),
        .first = to->first,
        .probes = cluster->info.nlist,
        .reach = rk__cluster_reach_of(cluster, recall),
        .recall = recall,
    };
}

/* What one query gave with one epsilon: per beta, answers, cost, lists. */
typedef struct measured {
    float found[BETAS];
    float cost[BETAS];
    float lists[BETAS];
} measured;

typedef struct tune_job {
    const rk_index *index;
    const rk__cluster *cluster;
    const rk_build_options *options;
    size_t queries;
    uint32_t betas;     /* that are measured */
    measured *measured; /* per query and epsilon */
    uint32_t *wanted;   /* per query: answers there are */
    float *error;       /* per query: mean squared error of the records of what was wanted */
    _Atomic(bool) failed;
} tune_job;

/* The K nearest rows to |row| but itself; false: it failed. */
static bool
nearest_rows(const tune_job *job, uint32_t row, const rk__cluster_effort *effort, rk_arena *arena,
             rk__near out[K], uint32_t *n)
{
    const rk_index *index = job->index;
    rk__query query = {.data = rk__space_row(&index->space, row), .len = index->space.row_bytes};
    rk_search_options options = {.k = K + 1, .filter_count = index->space.rows, .arena = arena};
    rk__near items[K + 1];
    rk__heap heap = {.items = items, .cap = K + 1};

    if (index->space.inv_norms) {
        query.inv_norm = index->space.inv_norms[row];
    }
    if (rk__cluster_run(index, job->cluster, &query, &options, effort, &heap, NULL) != RK_OK) {
        return false;
    }
    rk__heap_sort(&heap);
    *n = 0;
    for (uint32_t i = 0; i < heap.n && *n < K; i++) {
        if (items[i].row != row) {
            out[(*n)++] = items[i];
        }
    }
    return true;
}

/* The mean squared error of the records of |near|, seen from |row|; 0 without records. */
static float
record_error(const tune_job *job, uint32_t row, const rk__near *near, uint32_t n, rk_arena *arena)
{
    const rk_index *index = job->index;
    const rk__cluster *c = job->cluster;
    const rk__cluster_space *space = &c->space;
    size_t bytes = rk__cluster_point_bytes(space);
    uint8_t *memory = rk_arena_alloc(arena, bytes + rk__cluster_query_bytes(space) + 64);
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;
    rk__cluster_point point;
    rk__cluster_query coded;
    float sum = 0;
    float shift = 0;
    float base = 0;

    if (!memory || !c->records || n == 0) {
        return 0;
    }
    memory += (64 - (uintptr_t)memory % 64) % 64;
    rk__cluster_point_init(space, &point, memory);
    rk__cluster_vector(&index->space, rk__space_row(&index->space, row),
                       index->space.inv_norms ? index->space.inv_norms[row] : 1, point.v);
    float norm = sqrtf(ip(point.v, point.v, space->dim));
    shift = space->ip ? ip(point.v, space->mean, space->dim) : 0;
    if (!rk__cluster_project(space, true, &point)) {
        return 0;
    }
    rk__cluster_rotate_head(space, point.z, point.bits);
    rk__cluster_query_init(space, &point, memory + bytes, &coded);
    base = space->ip ? 0 : point.tail + ip(point.z, point.z, space->reduced);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = c->place[near[i].row];
        uint32_t list = c->list_of[near[i].row];
        float score[2];
        if (at >= c->rows - c->info.loose) {
            continue;
        }
        rk__cluster_score(space, &coded, c->centre_records, &list, 1, &score[0]);
        rk__cluster_score(space, &coded, c->records, &at, 1, &score[1]);
        float key = near[i].key;
        float exact = index->space.metric == RK_METRIC_COSINE ? 2 + 2 * key : key + shift;
        float e = base + score[0] + score[1] - exact;
        e = space->ip && norm > 0 ? e / norm : e;
        sum += isfinite(e) ? e * e : 0;
    }
    return sum / (float)n;
}

/* What the trace and the answers of one search say for every beta. */
static void
read_trace(const tune_job *job, const rk__cluster_trace *trace, const rk__near *got, uint32_t n,
           float worst, measured *out)
{
    const rk__cluster *c = job->cluster;
    uint32_t at = 0;

    for (uint32_t b = 0; b < job->betas; b++) {
        while (at < trace->n && trace->beta[at] <= betas[b]) {
            at++;
        }
        out->cost[b] = at > 0 ? trace->cost[at - 1] : 0;
        out->lists[b] = (float)at;
        for (uint32_t i = 0; i < n; i++) {
            float reached = trace->reached[c->list_of[got[i].row]];
            out->found[b] += got[i].key <= worst && reached <= betas[b];
        }
    }
}

static bool
trace_efforts(tune_job *job, size_t q, uint32_t row, rk_arena *arena, float worst)
{
    const rk__cluster *c = job->cluster;
    uint32_t nlist = c->info.nlist;
    rk__near got[K];
    uint32_t n = 0;

    for (uint32_t e = 0; e < EPSILONS; e++) {
        rk_arena_reset(arena);
        float *memory = rk_arena_alloc(arena, 3 * (size_t)nlist * sizeof(float));
        if (!memory) {
            return false;
        }
        rk__cluster_trace trace = {
            .beta = memory, .cost = memory + nlist, .reached = memory + 2 * (size_t)nlist};
        rk__cluster_effort effort = {.beta = betas[job->betas - 1],
                                     .epsilon = epsilons[e],
                                     .first = nlist,
                                     .probes = nlist,
                                     .trace = &trace};
        for (uint32_t l = 0; l < nlist; l++) {
            trace.reached[l] = INFINITY;
        }
        if (!nearest_rows(job, row, &effort, arena, got, &n)) {
            return false;
        }
        read_trace(job, &trace, got, n, worst, &job->measured[q * EPSILONS + e]);
    }
    return true;
}

static void
tune_query(void *arg, size_t q)
{
    tune_job *job = arg;
    const rk__cluster *cluster = job->cluster;
    uint32_t row = (uint32_t)((double)q * (double)cluster->rows / (double)job->queries);
    rk__cluster_effort all = {.beta = INFINITY,
                              .epsilon = EPSILON_MOST,
                              .first = cluster->info.nlist,
                              .probes = cluster->info.nlist};
    rk_arena *arena = NULL;
    rk__near wanted[K];
    uint32_t n = 0;

    if (cluster->place[row] >= cluster->rows - cluster->info.loose || rk__cancelled(job->options)) {
        return;
    }
    arena = rk_arena_new(0);
    if (!arena) {
        job->failed = true;
        return;
    }
    if (!nearest_rows(job, row, &all, arena, wanted, &n)) {
        job->failed = true;
    } else if (n > 0) {
        job->error[q] = record_error(job, row, wanted, n, arena);
        job->wanted[q] = n;
        if (!trace_efforts(job, q, row, arena, wanted[n - 1].key)) {
            job->failed = true;
        }
    }
    rk_arena_free(arena);
}

static void
fill_table(rk__cluster *cluster, const tune_job *job)
{
    float most = cluster->space.ip ? BETA_ALL : BETA_MOST;
    measured sums[EPSILONS] = {0};
    double error = 0;
    float wanted = 0;
    float seen = 0;

    for (size_t q = 0; q < job->queries; q++) {
        for (uint32_t e = 0; e < EPSILONS; e++) {
            const measured *m = &job->measured[q * EPSILONS + e];
            for (uint32_t b = 0; b < job->betas; b++) {
                sums[e].found[b] += m->found[b];
                sums[e].cost[b] += m->cost[b];
                sums[e].lists[b] += m->lists[b];
            }
        }
        wanted += (float)job->wanted[q];
        seen += job->wanted[q] > 0;
        error += (double)job->error[q];
    }
    for (uint32_t l = 0; l + 1 < RK__CLUSTER_LEVELS; l++) {
        rk__cluster_level *level = &cluster->info.levels[l];
        float cheapest = INFINITY;
        for (uint32_t e = 0; e < EPSILONS; e++) {
            for (uint32_t b = 0; b < job->betas; b++) {
                if (sums[e].found[b] >= (recalls[l] + (1 - recalls[l]) * MARGIN) * wanted &&
                    sums[e].cost[b] < cheapest) {
                    cheapest = sums[e].cost[b];
                    cluster->level_ns[l] = cheapest / RK_MAX(seen, 1.0f);
                    level->beta = betas[b];
                    level->epsilon = epsilons[e];
                    level->first = (uint32_t)(1.25f * sums[e].lists[b] / RK_MAX(seen, 1.0f)) + 8;
                    level->first = RK_MIN(level->first, cluster->info.nlist);
                }
            }
        }
    }
    cluster->info.enough = most;
    for (uint32_t b = job->betas; b > 0; b--) {
        float least = RK__CLUSTER_ENOUGH + (1 - RK__CLUSTER_ENOUGH) * MARGIN;
        if (sums[EPSILONS - 1].found[b - 1] >= least * wanted) {
            cluster->info.enough = betas[b - 1];
        }
    }
    cluster->info.slack = seen > 0 ? SLACK_SHARE * (float)sqrt(error / (double)seen) : 0;
    if (!isfinite(cluster->info.slack)) {
        cluster->info.slack = 0;
    }
}

rk_code
rk__cluster_tune(const rk_index *index, rk__cluster *cluster, const rk_build_options *options,
                 rk_err *err)
{
    float most = cluster->space.ip ? BETA_ALL : BETA_MOST;
    tune_job job = {.index = index,
                    .cluster = cluster,
                    .options = options,
                    .betas = cluster->space.ip ? BETAS : BETAS_L2};
    rk_code code = RK_OK;

    for (uint32_t l = 0; l < RK__CLUSTER_LEVELS; l++) {
        cluster->info.levels[l] = (rk__cluster_level){.recall = recalls[l],
                                                      .beta = most,
                                                      .epsilon = EPSILON_MOST,
                                                      .first = cluster->info.nlist};
    }
    cluster->info.slack =
        SLACK_START * cluster->info.radius * (cluster->space.ip ? 1.0f : cluster->info.radius);
    rk__cluster_reach_none(cluster);
    if (index->space.rows < 64) {
        return RK_OK;
    }
    job.queries = RK_MIN((size_t)QUERIES, RK_MAX(index->space.rows / 64, (size_t)16));
    job.measured = rk_alloc_zero(job.queries * EPSILONS, sizeof(*job.measured));
    job.wanted = rk_alloc_zero(job.queries, sizeof(*job.wanted));
    job.error = rk_alloc_zero(job.queries, sizeof(*job.error));
    if (!job.measured || !job.wanted || !job.error) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory to measure recall");
        goto out;
    }
    rk__parallel_run(options->parallel, job.queries, tune_query, &job);
    if (rk__cancelled(options)) {
        code = rk_fail(err, RK_ECANCELLED, "cluster build cancelled while recall was measured");
        goto out;
    }
    if (job.failed) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory to measure recall");
        goto out;
    }
    fill_table(cluster, &job);
    code = rk__cluster_reach_tune(index, cluster, options, err);
out:
    rk_free(job.measured);
    rk_free(job.wanted);
    rk_free(job.error);
    return code;
}
