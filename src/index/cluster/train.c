/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The centres of a cluster index: Lloyd's iterations over a sample in the reduced space.
 *
 * With thousands of centres the time goes into finding the nearest one. Points and centres are
 * rounded to 8 bits with one scale, and compared 8 by 32 at a time (hnsw/tile.c). The scale is
 * taken from the sample; rows of it that it would cut or flatten are counted, and where there are
 * many, distances are computed on floats.
 *
 * A function of data, seed and count, whatever the number of threads: rows are assigned in parallel
 * into slots of their own, sums are taken in row order.
 */
#include <stdlib.h>

#include "index/cluster/cluster.h"
#include "index/hnsw/tile.h"

#define CHUNK        256u
#define ITERATIONS   8u
#define PER_CENTRE   64u
#define SAMPLE_BYTES ((size_t)384 << 20)
#define GAIN_MIN     0.998
#define SCALED       2048u /* rows of the sample that the scale is taken from */
#define LARGEST      3.0f  /* times the median of their largest components becomes 127 */
#define FLAT         8.0f  /* a row whose components are all under that, in steps of the scale, */
#define UNFIT_SHARE  20u   /* or that is cut: one in so many at most */
#define EXACT        16u   /* so few centres are compared as floats */

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

rk_code
rk__cluster_centres_init(rk__cluster_centres *centres, const rk__cluster_space *space, uint32_t n,
                         rk_err *err)
{
    size_t tiles = up(n, RK__TILE_ROWS);

    *centres = (rk__cluster_centres){.n = n, .width = up(space->reduced, 64)};
    centres->z = rk_alloc_aligned(64, (size_t)n * space->record * sizeof(float));
    centres->bits = rk_alloc_aligned(64, (size_t)n * space->padded * sizeof(float));
    centres->packs = rk_alloc_aligned(64, tiles * centres->width);
    centres->norms = rk_alloc_aligned(64, tiles * sizeof(*centres->norms));
    if (!centres->z || !centres->bits || !centres->packs || !centres->norms) {
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
    rk_free(centres->packs);
    rk_free(centres->norms);
    *centres = (rk__cluster_centres){0};
}

/* ---- nearest ---- */

/* Rounded to 8 bits and biased by 128; |n| is a multiple of 64. */
static void
narrow(const float *z, size_t n, float inverse, uint8_t *out)
{
    for (size_t i = 0; i < n; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            float v = z[i + j] * inverse;
            v = v > 127.0f ? 127.0f : v;
            v = v < -127.0f ? -127.0f : v;
            out[i + j] = (uint8_t)(int32_t)(v + 128.5f);
        }
    }
}

static uint32_t
nearest_exact(const rk__cluster_space *space, const rk__cluster_centres *centres, const float *z)
{
    rk__dist4_fn l2x4 = rk__kernels_get()->dense[RK__F32].l2x4;
    uint32_t best = 0;
    float least = INFINITY;

    for (uint32_t i = 0; i < centres->n; i += 4) {
        const void *rows[4];
        float d[4];
        uint32_t m = RK_MIN(centres->n - i, 4u);
        for (uint32_t j = 0; j < 4; j++) {
            rows[j] = centres->z + (size_t)(i + RK_MIN(j, m - 1)) * space->record;
        }
        l2x4(z, rows, space->reduced, d);
        for (uint32_t j = 0; j < m; j++) {
            if (d[j] < least) {
                least = d[j];
                best = i + j;
            }
        }
    }
    return best;
}

static void
nearest_coded(const rk__cluster_centres *centres, const float *const z[], uint32_t m,
              uint8_t *scratch, uint32_t nearest[])
{
    rk__tile_fn tile = rk__tile_get();
    const uint8_t *queries[RK__TILE_QUERIES];
    int32_t bounds[RK__TILE_QUERIES];
    rk__tile_result result;

    for (uint32_t q = 0; q < RK__TILE_QUERIES; q++) {
        uint8_t *to = scratch + q * centres->width;
        queries[q] = q < m ? to : queries[m - 1];
        bounds[q] = q < m ? INT32_MAX : INT32_MIN;
        if (q < m) {
            narrow(z[q], centres->width, centres->inverse, to);
            nearest[q] = 0;
        }
    }
    for (uint32_t from = 0; from < centres->n; from += RK__TILE_ROWS) {
        tile(queries, bounds, centres->packs + (size_t)from * centres->width, centres->norms + from,
             centres->width, &result);
        for (uint32_t q = 0; q < m; q++) {
            for (uint32_t mask = result.below[q]; mask; mask &= mask - 1) {
                uint32_t i = (uint32_t)__builtin_ctz(mask);
                if (result.keys[q][i] < bounds[q]) {
                    bounds[q] = result.keys[q][i];
                    nearest[q] = from + i;
                }
            }
        }
    }
}

void
rk__cluster_nearest(const rk__cluster_space *space, const rk__cluster_centres *centres,
                    const float *const z[], uint32_t m, uint8_t *scratch, uint32_t nearest[],
                    float distance[])
{
    rk__dist_fn l2 = rk__kernels_get()->dense[RK__F32].l2;
    bool coded = centres->inverse > 0 && centres->n > EXACT;

    if (coded) {
        nearest_coded(centres, z, m, scratch, nearest);
    }
    for (uint32_t q = 0; q < m; q++) {
        if (!coded) {
            nearest[q] = nearest_exact(space, centres, z[q]);
        }
        distance[q] = l2(z[q], centres->z + (size_t)nearest[q] * space->record, space->reduced);
    }
}

/* ---- k-means ---- */

typedef struct train_job {
    const rk_index *index;
    const rk__cluster_space *space;
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

static float
largest_of(const float *z, size_t n)
{
    float most = 0;

    for (size_t i = 0; i < n; i++) {
        float a = fabsf(z[i]);
        most = a > most ? a : most;
    }
    return most;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return x < y ? -1 : x > y;
}

/* The scale of 8-bit centres, from rows of the sample. */
static void
choose_scale(const train_job *job)
{
    float *largest = job->distance;
    size_t rows = RK_MIN(job->n, (size_t)SCALED);
    size_t n = 0;
    size_t unfit = 0;

    for (size_t i = 0; i < rows; i++) {
        size_t r = i * job->n / rows;
        if (!job->bad[r]) {
            largest[n++] = largest_of(job->sample + r * job->space->record, job->space->reduced);
        }
    }
    if (n == 0) {
        return;
    }
    qsort(largest, n, sizeof(*largest), compare_floats);
    float inverse = 127.0f / (LARGEST * largest[n / 2]);
    for (size_t i = 0; i < n; i++) {
        float steps = largest[i] * inverse;
        unfit += !(steps >= FLAT && steps <= 127.5f);
    }
    job->centres->inverse = isfinite(inverse) && unfit <= n / UNFIT_SHARE ? inverse : 0;
}

static void
code_centres(const train_job *job)
{
    rk__cluster_centres *centres = job->centres;
    uint8_t *biased = (uint8_t *)(void *)job->distance; /* long enough, see the allocation */

    if (!(centres->inverse > 0)) {
        return;
    }
    for (uint32_t c = 0; c < centres->n; c += RK__TILE_ROWS) {
        const int8_t *rows[RK__TILE_ROWS];
        uint32_t m = RK_MIN(centres->n - c, RK__TILE_ROWS);
        for (uint32_t i = 0; i < m; i++) {
            uint8_t *code = biased + i * centres->width;
            narrow(centres->z + (size_t)(c + i) * job->space->record, centres->width,
                   centres->inverse, code);
            for (size_t d = 0; d < centres->width; d++) {
                code[d] ^= 128;
            }
            rows[i] = (const int8_t *)code;
        }
        rk__tile_pack(rows, m, centres->width, centres->packs + (size_t)c * centres->width,
                      centres->norms + c);
    }
}

/* Rows [from, to) into the sample. */
static void
take_rows(train_job *job, size_t from, size_t to, rk__cluster_point *point)
{
    const rk__cluster_space *space = job->space;
    const rk__space *rows = &job->index->space;

    for (size_t i = from; i < to; i++) {
        size_t r = (size_t)((double)i * (double)rows->rows / (double)job->n);
        rk__cluster_vector(rows, rk__space_row(rows, r),
                           rows->inv_norms ? rows->inv_norms[r] : 1.0f, point->v);
        job->bad[i] = !rk__cluster_project(space, false, point);
        memcpy(job->sample + i * space->record, point->z, space->record * sizeof(float));
    }
}

static void
assign_rows(train_job *job, size_t from, size_t to, uint8_t *scratch)
{
    for (size_t i = from; i < to;) {
        const float *z[RK__CLUSTER_TILE];
        size_t which[RK__CLUSTER_TILE];
        uint32_t nearest[RK__CLUSTER_TILE];
        float distance[RK__CLUSTER_TILE];
        uint32_t m = 0;
        for (; i < to && m < RK__CLUSTER_TILE; i++) {
            if (!job->bad[i]) {
                which[m] = i;
                z[m++] = job->sample + i * job->space->record;
            }
        }
        if (m > 0) {
            rk__cluster_nearest(job->space, job->centres, z, m, scratch, nearest, distance);
        }
        for (uint32_t q = 0; q < m; q++) {
            job->nearest[which[q]] = nearest[q];
            job->distance[which[q]] = distance[q];
        }
    }
}

/* Fills the sample, or assigns it. */
static void
train_chunk(void *arg, size_t chunk)
{
    train_job *job = arg;
    size_t to = RK_MIN((chunk + 1) * CHUNK, job->n);
    size_t point_bytes = rk__cluster_point_bytes(job->space);
    uint8_t *memory = NULL;

    if (rk__cancelled(job->options)) {
        return;
    }
    memory = rk_alloc_aligned(64, RK_MAX(point_bytes, RK__CLUSTER_TILE * job->centres->width));
    if (!memory) {
        job->out_of_memory = true;
        return;
    }
    if (job->sampled) {
        assign_rows(job, chunk * CHUNK, to, memory);
    } else {
        rk__cluster_point point;
        rk__cluster_point_init(job->space, &point, memory);
        take_rows(job, chunk * CHUNK, to, &point);
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
        choose_scale(job);
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
    for (uint32_t c = 0; c < job->centres->n; c++) {
        rk__cluster_rotate_head(job->space, job->centres->z + (size_t)c * job->space->record,
                                job->centres->bits + (size_t)c * job->space->padded);
    }
    return job->out_of_memory ? rk_fail(err, RK_ENOMEM, "cluster build: no memory for a row")
                              : RK_OK;
}

rk_code
rk__cluster_train(rk_index *index, const rk__cluster_space *space, const rk_build_options *options,
                  rk__cluster_centres *centres, rk_err *err)
{
    train_job job = {.index = index, .space = space, .options = options, .centres = centres};
    size_t width = space->record * sizeof(float);
    size_t slots = 0;
    uint64_t bytes = 0;
    uint32_t *counts = NULL;
    rk_code code = RK_OK;

    job.n = RK_MIN((size_t)centres->n * PER_CENTRE, SAMPLE_BYTES / width);
    job.n = RK_MIN(RK_MAX(job.n, (size_t)centres->n), index->space.rows);
    slots =
        job.n + RK__TILE_ROWS * centres->width / sizeof(float); /* code_centres() borrows them */
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
