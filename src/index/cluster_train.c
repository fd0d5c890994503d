/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The centres of a cluster index: Lloyd's iterations over a sample in the reduced space.
 *
 * With thousands of centres the time goes into finding the nearest one. They are coded like rows,
 * relative to zero: one pass over their bits names the CHECKED most promising, whose f32 distances
 * decide. That misses the nearest now and then, by little, and costs a tenth.
 *
 * A function of data, seed and count, whatever the number of threads: rows are assigned in parallel
 * into slots of their own, sums are taken in row order.
 */
#include "index/cluster.h"

#define CHECKED      16u
#define CHUNK        256u
#define ITERATIONS   8u
#define PER_CENTRE   64u
#define SAMPLE_BYTES ((size_t)384 << 20)
#define GAIN_MIN     0.998

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

rk_code
rk__cluster_centres_init(rk__cluster_centres *centres, const rk__cluster_space *space, uint32_t n,
                         rk_err *err)
{
    size_t block = rk__cluster_codes_bytes(space) + 64 * sizeof(float);

    *centres = (rk__cluster_centres){.n = n};
    centres->z = rk_alloc_aligned(64, (size_t)n * space->record * sizeof(float));
    centres->bits = rk_alloc_aligned(64, (size_t)n * space->padded * sizeof(float));
    centres->blocks = rk_alloc_aligned(64, up(n, RK__BITS_ROWS) / RK__BITS_ROWS * block);
    if (!centres->z || !centres->bits || !centres->blocks) {
        rk__cluster_centres_deinit(centres);
        return rk_fail(err, RK_ENOMEM, "cluster build: no memory for %u centres", n);
    }
    memset(centres->z, 0, (size_t)n * space->record * sizeof(float));
    return RK_OK;
}

void
rk__cluster_centres_deinit(rk__cluster_centres *centres)
{
    rk_free(centres->z);
    rk_free(centres->bits);
    rk_free(centres->blocks);
    *centres = (rk__cluster_centres){0};
}

/* ---- nearest ---- */

typedef struct promising {
    float est[CHECKED];
    uint32_t centre[CHECKED];
    uint32_t n;
} promising;

static void
keep(promising *p, float est, uint32_t centre)
{
    uint32_t at = p->n < CHECKED ? p->n++ : CHECKED - 1;

    while (at > 0 && p->est[at - 1] > est) {
        p->est[at] = p->est[at - 1];
        p->centre[at] = p->centre[at - 1];
        at--;
    }
    p->est[at] = est;
    p->centre[at] = centre;
}

static uint32_t
nearest_of(const rk__cluster_space *space, const rk__cluster_centres *centres, const float *z,
           const uint32_t *list, uint32_t n, float *distance)
{
    rk__dist4_fn l2x4 = rk__kernels_get()->dense[RK__F32].l2x4;
    uint32_t best = 0;
    float least = INFINITY;

    for (uint32_t i = 0; i < n; i += 4) {
        uint32_t which[4];
        const void *rows[4];
        float d[4];
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t at = RK_MIN(i + j, n - 1);
            which[j] = list ? list[at] : at;
            rows[j] = centres->z + (size_t)which[j] * space->record;
        }
        l2x4(z, rows, space->reduced, d);
        for (uint32_t j = 0; j < 4; j++) {
            if (d[j] < least || (d[j] <= least && which[j] < best)) {
                least = d[j];
                best = which[j];
            }
        }
    }
    *distance = least;
    return best;
}

uint32_t
rk__cluster_nearest(const rk__cluster_space *space, const rk__cluster_centres *centres,
                    const rk__cluster_point *point, const rk__cluster_query *query, float *distance)
{
    rk__scan32_fn scan = rk__kernels_get()->scan32_low;
    size_t groups = rk__bits_groups(space->padded);
    size_t codes = rk__cluster_codes_bytes(space);
    promising p = {.n = 0};

    if (centres->n <= 2 * CHECKED) {
        return nearest_of(space, centres, point->z, NULL, centres->n, distance);
    }
    for (uint32_t from = 0; from < centres->n; from += RK__BITS_ROWS) {
        const uint8_t *block =
            centres->blocks + (size_t)(from / RK__BITS_ROWS) * (codes + 64 * sizeof(float));
        const float *add = (const float *)(const void *)(block + codes);
        float est[RK__BITS_ROWS];
        float below = p.n < CHECKED ? INFINITY : p.est[CHECKED - 1];
        uint32_t mask = scan(query->bits.lut, block, groups, add, add + RK__BITS_ROWS,
                             query->bits.unit, query->bits.bias, 0, below, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            if (p.n < CHECKED || est[i] < p.est[CHECKED - 1]) {
                keep(&p, est[i], from + i);
            }
        }
    }
    if (p.n == 0) { /* nothing finite: does not happen for points that were projected */
        return nearest_of(space, centres, point->z, NULL, centres->n, distance);
    }
    return nearest_of(space, centres, point->z, p.centre, p.n, distance);
}

/* ---- k-means ---- */

typedef struct train_job {
    const rk_index *index;
    const rk__cluster_space *space;  /* of the data */
    const rk__cluster_space *coding; /* the same under L2: centres are compared by distance */
    const rk_build_options *options;
    rk__cluster_centres *centres;
    float *sample; /* n rows of record */
    size_t n;
    bool *bad;         /* per row of the sample: not finite */
    uint32_t *nearest; /* per row */
    float *distance;
    bool sampled;
    _Atomic(bool) out_of_memory;
} train_job;

static void
code_centres(const train_job *job)
{
    const rk__cluster_space *space = job->coding;
    rk__cluster_centres *centres = job->centres;
    size_t block_bytes = rk__cluster_codes_bytes(space) + 64 * sizeof(float);
    float *zeros = job->distance; /* long enough, see the allocation */
    uint8_t *signs = (uint8_t *)(void *)job->nearest;

    memset(zeros, 0, RK_MAX(space->padded, space->record) * sizeof(float));
    for (uint32_t c = 0; c < centres->n; c++) {
        uint8_t *block = centres->blocks + (size_t)(c / RK__BITS_ROWS) * block_bytes;
        rk__cluster_point point = {.z = centres->z + (size_t)c * space->record,
                                   .bits = centres->bits + (size_t)c * space->padded};
        if (c % RK__BITS_ROWS == 0) {
            rk__cluster_block_clear(space, block);
        }
        rk__cluster_rotate_head(space, point.z, point.bits);
        (void)rk__cluster_encode(space, &point, zeros, zeros, c % RK__BITS_ROWS, block, NULL,
                                 signs);
    }
}

/* Fills the sample, or assigns it. */
static void
train_chunk(void *arg, size_t chunk)
{
    train_job *job = arg;
    const rk__cluster_space *space = job->space;
    const rk__space *rows = &job->index->space;
    size_t to = RK_MIN((chunk + 1) * CHUNK, job->n);
    size_t point_bytes = rk__cluster_point_bytes(space);
    uint8_t *memory = NULL;
    rk__cluster_point point;
    rk__cluster_query query;

    if (rk__cancelled(job->options)) {
        return;
    }
    memory = rk_alloc_aligned(64, point_bytes + rk__cluster_query_bytes(space));
    if (!memory) {
        job->out_of_memory = true;
        return;
    }
    rk__cluster_point_init(space, &point, memory);
    for (size_t i = chunk * CHUNK; i < to; i++) {
        float *z = job->sample + i * space->record;
        if (!job->sampled) {
            size_t r = (size_t)((double)i * (double)rows->rows / (double)job->n);
            rk__cluster_vector(rows, rk__space_row(rows, r),
                               rows->inv_norms ? rows->inv_norms[r] : 1.0f, point.v);
            job->bad[i] = !rk__cluster_project(space, false, &point);
            memcpy(z, point.z, space->record * sizeof(float));
        } else if (!job->bad[i]) {
            rk__cluster_point at = {.z = z, .bits = point.bits};
            rk__cluster_rotate_head(space, z, at.bits);
            rk__cluster_query_init(space, &at, memory + point_bytes, &query);
            job->nearest[i] =
                rk__cluster_nearest(job->coding, job->centres, &at, &query, &job->distance[i]);
        }
    }
    rk_free(memory);
}

/* Means of the assigned rows; a centre without rows starts again at a random one. */
static double
move_centres(train_job *job, uint32_t *counts, uint64_t *state)
{
    size_t width = job->space->record;
    float *z = job->centres->z;
    double total = 0;

    memset(counts, 0, job->centres->n * sizeof(*counts));
    memset(z, 0, job->centres->n * width * sizeof(float));
    for (size_t i = 0; i < job->n; i++) {
        if (job->bad[i]) {
            continue;
        }
        float *to = z + job->nearest[i] * width;
        const float *from = job->sample + i * width;
        for (size_t d = 0; d < width; d++) {
            to[d] += from[d];
        }
        counts[job->nearest[i]]++;
        total += (double)job->distance[i];
    }
    for (uint32_t c = 0; c < job->centres->n; c++) {
        float *to = z + c * width;
        if (counts[c] == 0) {
            size_t i = (size_t)(rk__random(state) % job->n);
            memcpy(to, job->sample + i * width, width * sizeof(float));
            for (size_t d = 0; job->bad[i] && d < width; d++) {
                to[d] = 0;
            }
            continue;
        }
        for (size_t d = 0; d < width; d++) {
            to[d] /= (float)counts[c];
        }
    }
    return total;
}

/* The first centres: distinct rows of the sample, by a partial shuffle. */
static void
first_centres(train_job *job, uint32_t *shuffle, uint64_t *state)
{
    size_t width = job->space->record;

    for (size_t i = 0; i < job->n; i++) {
        shuffle[i] = (uint32_t)i;
    }
    for (uint32_t c = 0; c < job->centres->n; c++) {
        size_t other = c + (size_t)(rk__random(state) % (job->n - c));
        uint32_t row = shuffle[other];
        shuffle[other] = shuffle[c];
        shuffle[c] = row;
        if (!job->bad[row]) {
            memcpy(job->centres->z + c * width, job->sample + row * width, width * sizeof(float));
        }
    }
}

static rk_code
iterate(train_job *job, uint32_t *counts, rk_err *err)
{
    size_t chunks = (job->n + CHUNK - 1) / CHUNK;
    uint64_t state = job->options->seed + 7;
    double last = HUGE_VAL;

    rk__parallel_run(job->options->parallel, chunks, train_chunk, job);
    if (!job->out_of_memory && !rk__cancelled(job->options)) {
        job->sampled = true;
        first_centres(job, job->nearest, &state);
        code_centres(job);
    }
    for (unsigned i = 0; i < ITERATIONS && !job->out_of_memory; i++) {
        rk__parallel_run(job->options->parallel, chunks, train_chunk, job);
        if (rk__cancelled(job->options) || job->out_of_memory) {
            break;
        }
        double total = move_centres(job, counts, &state);
        code_centres(job);
        if (!(total < last * GAIN_MIN)) {
            break;
        }
        last = total;
    }
    if (rk__cancelled(job->options)) {
        return rk_fail(err, RK_ECANCELLED, "cluster build cancelled while centres were trained");
    }
    return job->out_of_memory ? rk_fail(err, RK_ENOMEM, "cluster build: no memory for a row")
                              : RK_OK;
}

rk_code
rk__cluster_train(rk_index *index, const rk__cluster_space *space, const rk_build_options *options,
                  rk__cluster_centres *centres, rk_err *err)
{
    rk__cluster_space coding = *space;
    train_job job = {
        .index = index, .space = space, .coding = &coding, .options = options, .centres = centres};
    size_t width = space->record * sizeof(float);
    size_t slots = 0;
    uint64_t bytes = 0;
    uint32_t *counts = NULL;
    rk_code code = RK_OK;

    coding.ip = false;
    job.n = RK_MIN((size_t)centres->n * PER_CENTRE, SAMPLE_BYTES / width);
    job.n = RK_MIN(RK_MAX(job.n, (size_t)centres->n), index->space.rows);
    slots = job.n + RK_MAX(space->padded, space->record); /* code_centres() borrows them */
    bytes = job.n * (uint64_t)(width + 1) + slots * 8 + centres->n * sizeof(*counts);
    RK_RET(rk__index_reserve(index, bytes, "cluster training sample", err));
    job.sample = rk__alloc_huge(job.n * width);
    job.bad = rk_alloc_zero(job.n, sizeof(*job.bad));
    job.nearest = rk_alloc_zero(slots, sizeof(*job.nearest));
    job.distance = rk_alloc_zero(slots, sizeof(*job.distance));
    counts = rk_alloc_zero(centres->n, sizeof(*counts));
    if (!job.sample || !job.bad || !job.nearest || !job.distance || !counts) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory for a sample of %zu rows", job.n);
    } else {
        code = iterate(&job, counts, err);
    }
    rk_free(job.sample);
    rk_free(job.bad);
    rk_free(job.nearest);
    rk_free(job.distance);
    rk_free(counts);
    rk__index_release(index, bytes);
    return code;
}
