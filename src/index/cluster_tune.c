/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What effort gives which recall: measured at the end of a build on rows of the index as queries,
 * themselves left out of their answers, against a search that leaves nothing out. The table is kept
 * in the image, so a search that states the recall it wants finds its effort there.
 *
 * Efforts are taken from one path, on which probing and refining grow together in the proportion
 * that measurements on text and image data found best. The recall of a sample is noisy, so the
 * table is made to rise and a search aims a little above what is asked.
 *
 * Also measured: how far a record's distance is from the true one, which says how many of the best
 * are scored on their vectors.
 */
#include <stdlib.h>

#include "index/cluster.h"

#define QUERIES     128u
#define K           10u
#define SLACK_SHARE 3.0f  /* of the root mean square error */
#define SLACK_START 0.05f /* of the squared radius, until it is measured */

/* The path. */
static const rk__cluster_level path[RK__CLUSTER_LEVELS] = {
    {0, 0.05f, 0.8f, 0}, {0, 0.12f, 1.0f, 0}, {0, 0.20f, 1.2f, 0}, {0, 0.28f, 1.4f, 0},
    {0, 0.36f, 1.6f, 0}, {0, 0.48f, 2.0f, 0}, {0, 0.65f, 2.4f, 0}, {0, 1.00f, 3.0f, 0},
};

rk__cluster_effort
rk__cluster_effort_of(const rk__cluster *cluster, float recall)
{
    const rk__cluster_level *levels = cluster->info.levels;
    uint32_t i = 0;

    while (i + 1 < RK__CLUSTER_LEVELS && !(levels[i].recall >= recall)) {
        i++;
    }
    rk__cluster_effort effort = {levels[i].beta, levels[i].epsilon, cluster->info.nlist};
    if (i > 0 && levels[i].recall > recall && levels[i].recall > levels[i - 1].recall) {
        float share = (recall - levels[i - 1].recall) / (levels[i].recall - levels[i - 1].recall);
        effort.beta = levels[i - 1].beta + share * (levels[i].beta - levels[i - 1].beta);
        effort.epsilon =
            levels[i - 1].epsilon + share * (levels[i].epsilon - levels[i - 1].epsilon);
    }
    return effort;
}

typedef struct tune_job {
    const rk_index *index;
    const rk_build_options *options;
    size_t queries;
    uint32_t *found; /* per query: wanted, then found at each level */
    float *error;    /* per query: mean squared error of the records of what was wanted */
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
    if (rk__cluster_run(index, &query, &options, effort, &heap, NULL) != RK_OK) {
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
    const rk__cluster *c = index->impl;
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

static void
tune_query(void *arg, size_t q)
{
    tune_job *job = arg;
    const rk__cluster *cluster = job->index->impl;
    uint32_t row = (uint32_t)((double)q * (double)cluster->rows / (double)job->queries);
    rk__cluster_effort all = {INFINITY, 4.0f, cluster->info.nlist};
    rk_arena *arena = NULL;
    rk__near wanted[K];
    rk__near got[K];
    uint32_t n = 0;
    uint32_t m = 0;

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
        rk_arena_free(arena);
        return;
    }
    job->error[q] = record_error(job, row, wanted, n, arena);
    job->found[q * (RK__CLUSTER_LEVELS + 1)] = n;
    for (size_t l = 0; l < RK__CLUSTER_LEVELS; l++) {
        rk__cluster_effort effort = {path[l].beta, path[l].epsilon, cluster->info.nlist};
        rk_arena_reset(arena);
        if (!nearest_rows(job, row, &effort, arena, got, &m)) {
            job->failed = true;
            break;
        }
        for (uint32_t i = 0; i < m && n > 0; i++) {
            job->found[q * (RK__CLUSTER_LEVELS + 1) + l + 1] += got[i].key <= wanted[n - 1].key;
        }
    }
    rk_arena_free(arena);
}

static void
fill_table(rk__cluster *cluster, const tune_job *job)
{
    uint64_t sums[RK__CLUSTER_LEVELS + 1] = {0};
    double error = 0;
    size_t seen = 0;
    float last = 0;

    for (size_t q = 0; q < job->queries; q++) {
        for (size_t l = 0; l <= RK__CLUSTER_LEVELS; l++) {
            sums[l] += job->found[q * (RK__CLUSTER_LEVELS + 1) + l];
        }
        error += (double)job->error[q];
        seen += job->found[q * (RK__CLUSTER_LEVELS + 1)] > 0;
    }
    for (size_t l = 0; l < RK__CLUSTER_LEVELS; l++) {
        float recall = sums[0] > 0 ? (float)sums[l + 1] / (float)sums[0] : 1;
        last = RK_MAX(last, RK_MIN(recall, 1.0f));
        cluster->info.levels[l].recall = last;
    }
    cluster->info.levels[RK__CLUSTER_LEVELS - 1].recall = 1;
    cluster->info.slack = seen > 0 ? SLACK_SHARE * (float)sqrt(error / (double)seen) : 0;
    if (!isfinite(cluster->info.slack)) {
        cluster->info.slack = 0;
    }
}

rk_code
rk__cluster_tune(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__cluster *cluster = index->impl;
    tune_job job = {.index = index, .options = options};
    rk_code code = RK_OK;

    memcpy(cluster->info.levels, path, sizeof(path));
    cluster->info.slack =
        SLACK_START * cluster->info.radius * (cluster->space.ip ? 1.0f : cluster->info.radius);
    if (index->space.rows < 4 * K) {
        return RK_OK;
    }
    job.queries = RK_MIN((size_t)QUERIES, index->space.rows / 4);
    job.found = rk_alloc_zero(job.queries * (RK__CLUSTER_LEVELS + 1), sizeof(*job.found));
    job.error = rk_alloc_zero(job.queries, sizeof(*job.error));
    if (!job.found || !job.error) {
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
out:
    rk_free(job.found);
    rk_free(job.error);
    return code;
}
