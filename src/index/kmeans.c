/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k-means, see kmeans.h. Rows are assigned in parallel chunks, each row into its own slot; sums are
 * then taken on one thread in row order, so the result does not depend on the number of threads.
 */
#include "index/kmeans.h"

#define CHUNK 256u

typedef struct assign_job {
    const rk__kmeans *job;
    const void *centres;
    uint32_t *nearest; /* per row */
    float *distance;   /* per row */
} assign_job;

static size_t
row_bytes(const rk__kmeans *job)
{
    return job->bits ? job->dim : (size_t)job->dim * sizeof(float);
}

uint32_t
rk__kmeans_nearest(const rk__kmeans *job, const void *centres, const void *row, float *distance)
{
    const uint8_t *at = centres;
    size_t stride = row_bytes(job);
    uint32_t best = 0;
    uint32_t c = 0;
    float least = INFINITY;

    for (; job->dist4 && c + 4 <= job->k; c += 4, at += 4 * stride) {
        const void *const four[4] = {at, at + stride, at + 2 * stride, at + 3 * stride};
        float d[4];
        job->dist4(row, four, job->dim, d);
        for (uint32_t j = 0; j < 4; j++) {
            if (d[j] < least) {
                least = d[j];
                best = c + j;
            }
        }
    }
    for (; c < job->k; c++, at += stride) {
        float d = job->dist(row, at, job->dim);
        if (d < least) {
            least = d;
            best = c;
        }
    }
    *distance = least;
    return best;
}

static void
assign_chunk(void *arg, size_t chunk)
{
    assign_job *a = arg;
    size_t end = RK_MIN((chunk + 1) * CHUNK, a->job->n);

    if (rk__cancelled(a->job->options)) {
        return;
    }
    for (size_t r = chunk * CHUNK; r < end; r++) {
        a->nearest[r] = rk__kmeans_nearest(a->job, a->centres,
                                           (const uint8_t *)a->job->rows + r * row_bytes(a->job),
                                           &a->distance[r]);
    }
}

static void
mean_centre(const rk__kmeans *job, const uint32_t *members, size_t n, double *sum, float *out)
{
    memset(sum, 0, job->dim * sizeof(*sum));
    for (size_t i = 0; i < n; i++) {
        const float *row = (const float *)job->rows + (size_t)members[i] * job->dim;
        for (size_t d = 0; d < job->dim; d++) {
            sum[d] += (double)row[d];
        }
    }
    for (size_t d = 0; d < job->dim; d++) {
        out[d] = (float)(sum[d] / (double)n);
    }
}

static void
majority_centre(const rk__kmeans *job, const uint32_t *members, size_t n, uint32_t *count,
                uint8_t *out)
{
    memset(count, 0, (size_t)job->dim * 8 * sizeof(*count));
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = (const uint8_t *)job->rows + (size_t)members[i] * job->dim;
        for (size_t bit = 0; bit < (size_t)job->dim * 8; bit++) {
            count[bit] += ((unsigned)row[bit / 8] >> (bit % 8)) & 1u;
        }
    }
    memset(out, 0, job->dim);
    for (size_t bit = 0; bit < (size_t)job->dim * 8; bit++) {
        if ((size_t)count[bit] * 2 > n) {
            out[bit / 8] = (uint8_t)(out[bit / 8] | (1u << (bit % 8)));
        }
    }
}

/* Members sorted by cluster: |starts| has k + 1 entries. */
static void
group_members(const rk__kmeans *job, const uint32_t *nearest, uint32_t *starts, uint32_t *members)
{
    memset(starts, 0, ((size_t)job->k + 1) * sizeof(*starts));
    for (size_t r = 0; r < job->n; r++) {
        starts[nearest[r] + 1]++;
    }
    for (uint32_t c = 0; c < job->k; c++) {
        starts[c + 1] += starts[c];
    }
    for (size_t r = job->n; r > 0;
         r--) { /* from the back, so that starts[c + 1] ends as the start of c */
        members[--starts[nearest[r - 1] + 1]] = (uint32_t)(r - 1);
    }
    /* starts[c + 1] is now the start of cluster c: shift down. */
    memmove(starts, starts + 1, job->k * sizeof(*starts));
    starts[job->k] = (uint32_t)job->n;
}

static void
move_centres(const rk__kmeans *job, const uint32_t *starts, const uint32_t *members, void *work,
             uint64_t *state, uint8_t *centres)
{
    size_t bytes = row_bytes(job);

    for (uint32_t c = 0; c < job->k; c++) {
        size_t n = starts[c + 1] - starts[c];
        uint8_t *out = centres + c * bytes;
        if (n == 0) {
            memcpy(out, (const uint8_t *)job->rows + (size_t)(rk__random(state) % job->n) * bytes,
                   bytes);
        } else if (job->bits) {
            majority_centre(job, members + starts[c], n, work, out);
        } else {
            mean_centre(job, members + starts[c], n, work, (float *)(void *)out);
        }
    }
}

/* The first centres: k distinct sampled rows, by a partial shuffle. */
static void
random_centres(const rk__kmeans *job, uint32_t *shuffle, uint64_t *state, uint8_t *centres)
{
    size_t bytes = row_bytes(job);

    for (size_t r = 0; r < job->n; r++) {
        shuffle[r] = (uint32_t)r;
    }
    for (uint32_t c = 0; c < job->k; c++) {
        size_t other = c + (size_t)(rk__random(state) % (job->n - c));
        uint32_t row = shuffle[other];
        shuffle[other] = shuffle[c];
        shuffle[c] = row;
        memcpy(centres + c * bytes, (const uint8_t *)job->rows + (size_t)row * bytes, bytes);
    }
}

rk_code
rk__kmeans_run(const rk__kmeans *job, void *centres, rk_err *err)
{
    assign_job assign = {.job = job, .centres = centres};
    uint32_t *starts = rk_alloc(((size_t)job->k + 1) * sizeof(*starts));
    uint32_t *members = rk_alloc((job->n + 1) * sizeof(*members));
    void *work = rk_alloc((size_t)job->dim * (job->bits ? 8 * sizeof(uint32_t) : sizeof(double)));
    uint64_t state = job->options->seed + 1;
    double last = HUGE_VAL;
    rk_code code = RK_OK;

    RK_ASSERT(job->k > 0 && job->n >= job->k);
    assign.nearest = rk_alloc_zero(job->n, sizeof(*assign.nearest));
    assign.distance = rk_alloc_zero(job->n, sizeof(*assign.distance));
    if (!starts || !members || !work || !assign.nearest || !assign.distance) {
        code = rk_fail(err, RK_ENOMEM, "k-means: no memory for %zu rows and %u centres", job->n,
                       job->k);
        goto out;
    }
    random_centres(job, members, &state, centres);
    for (uint32_t i = 0; i < job->iterations_max; i++) {
        double sum = 0;
        rk__parallel_run(job->options->parallel, (job->n + CHUNK - 1) / CHUNK, assign_chunk,
                         &assign);
        if (rk__cancelled(job->options)) {
            code = rk_fail(err, RK_ECANCELLED, "k-means cancelled in iteration %u", i);
            goto out;
        }
        for (size_t r = 0; r < job->n; r++) {
            sum += isfinite(assign.distance[r]) ? (double)assign.distance[r] : 0;
        }
        group_members(job, assign.nearest, starts, members);
        move_centres(job, starts, members, work, &state, centres);
        if (!(sum < last * 0.998)) {
            break;
        }
        last = sum;
    }
out:
    rk_free(starts);
    rk_free(members);
    rk_free(work);
    rk_free(assign.nearest);
    rk_free(assign.distance);
    return code;
}
