/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8-bit codes for walking: code = round(P(x - mean) / scale), P a random rotation that spreads a
 * vector evenly over its components, with one scale for all rows, so that distances between codes
 * are exact integers and need no per-row correction. COSINE codes the normalised vector and walks
 * by L2, IP keeps the mean at zero.
 *
 * Whether that is good enough is measured: with error scale/sqrt(12) per component on both sides, a
 * distance d is seen with a relative error of about sqrt(8) * (scale / sqrt(12)) / d; it must stay
 * under ERROR_MAX at the typical distance between a sampled row and its nearest one in the sample.
 * Data with outliers that stretch the scale fails this and walks on its vectors: slower, as right.
 * i8 and binary rows are walked as they are.
 */
#include <stdlib.h>

#include "index/hnsw/hnsw.h"

#define ERROR_MAX     0.04
#define CUT_SHARE     100u   /* another graph's scale will do when it cuts one row in so many, */
#define CUT_MAX       190.0f /* none of them by more than half */
#define SAMPLE        512u
#define CHUNK         4096u
#define ROTATION_SEED UINT64_C(0x5265644b697465) /* part of the image format */

typedef struct encode_job {
    const rk_index *index;
    const rk_bitset *skip;
    float *mean;
    rk__rotation rotation;
    float scale;
    int8_t *out;
    size_t stride;
    float *chunk_max; /* per chunk: the largest component, in units of the code where it is known */
    _Atomic(size_t) cut; /* rows that the scale cuts */
    const rk_build_options *options;
} encode_job;

/* The vector that is coded, before the mean is taken off and before the rotation. */
static void
source_row(const rk__space *space, size_t row, float *out)
{
    rk__row_to_f32(space->type, space->dim, rk__space_row(space, row), out);
    if (space->metric == RK_METRIC_COSINE) {
        for (size_t i = 0; i < space->dim; i++) {
            out[i] *= space->inv_norms[row];
        }
    }
}

static bool
sample_mean(const rk_index *index, const rk_bitset *skip, float *mean)
{
    const rk__space *space = &index->space;
    size_t step = RK_MAX(space->rows / 10000, (size_t)1);
    float *row = rk_alloc(space->dim * sizeof(float));
    double *sum = rk_alloc_zero(space->dim, sizeof(double));
    size_t n = 0;

    if (row && sum) {
        for (size_t r = 0; r < space->rows; r += step) {
            if (!rk_bitset_get(skip, r)) {
                source_row(space, r, row);
                n++;
                for (size_t i = 0; i < space->dim; i++) {
                    sum[i] += (double)row[i];
                }
            }
        }
        for (size_t i = 0; i < space->dim; i++) {
            mean[i] = n > 0 ? (float)(sum[i] / (double)n) : 0;
        }
    }
    bool ok = row && sum;
    rk_free(row);
    rk_free(sum);
    return ok;
}

/* The rotated row; |buffer| has dim components. */
static void
rotated_row(const encode_job *job, size_t row, float *buffer, float *out)
{
    const rk__space *space = &job->index->space;

    source_row(space, row, buffer);
    for (size_t i = 0; i < space->dim; i++) {
        buffer[i] -= job->mean[i];
    }
    rk__rotate(&job->rotation, buffer, out);
}

static void
max_chunk(void *arg, size_t chunk)
{
    encode_job *job = arg;
    const rk__space *space = &job->index->space;
    size_t padded = job->rotation.padded;
    float *row = rk_alloc_aligned(64, 2 * padded * sizeof(float));
    float max = row ? 0 : NAN; /* NaN: out of memory */
    bool go = row && !rk__cancelled(job->options);

    for (size_t r = chunk * CHUNK; go && r < RK_MIN((chunk + 1) * CHUNK, space->rows); r++) {
        if (!rk_bitset_get(job->skip, r)) {
            rotated_row(job, r, row + padded, row);
            for (size_t i = 0; i < padded; i++) {
                float v = fabsf(row[i]);
                max = v > max ? v : max;
            }
        }
    }
    job->chunk_max[chunk] = max;
    rk_free(row);
}

static void
encode_chunk(void *arg, size_t chunk)
{
    encode_job *job = arg;
    const rk__space *space = &job->index->space;
    float inverse = job->scale > 0 ? 1.0f / job->scale : 0;
    size_t padded = job->rotation.padded;
    float *row = rk_alloc_aligned(64, 2 * padded * sizeof(float));
    float max = 0;
    size_t cut = 0;

    if (!row || rk__cancelled(job->options)) {
        job->chunk_max[chunk] = row ? 0 : NAN;
        rk_free(row);
        return;
    }
    for (size_t r = chunk * CHUNK; r < RK_MIN((chunk + 1) * CHUNK, space->rows); r++) {
        int8_t *code = job->out + r * job->stride;
        memset(code, 0, job->stride);
        if (rk_bitset_get(job->skip, r)) {
            continue;
        }
        float largest = 0;
        rotated_row(job, r, row + padded, row);
        for (size_t i = 0; i < padded; i++) {
            float v = row[i] * inverse;
            largest = fabsf(v) > largest ? fabsf(v) : largest;
            v = v > 127 ? 127 : v < -127 ? -127 : v;
            code[i] = (int8_t)lrintf(v);
        }
        max = RK_MAX(max, largest);
        cut += largest > 127.5f;
    }
    job->chunk_max[chunk] = max;
    atomic_fetch_add(&job->cut, cut);
    rk_free(row);
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return x < y ? -1 : x > y;
}

/* The median distance from a sampled row to the nearest other one in the sample; 0 when there is
 * none, negative when out of memory. */
static float
typical_distance(const rk_index *index, const rk_bitset *skip)
{
    const rk__space *space = &index->space;
    float *rows = rk_alloc((size_t)SAMPLE * space->dim * sizeof(float));
    float nearest[SAMPLE / 4];
    size_t n = 0;
    size_t found = 0;
    uint64_t state = 12345;

    if (!rows) {
        return -1;
    }
    for (size_t tries = 0; tries < SAMPLE * 2 && n < SAMPLE; tries++) {
        size_t r = (size_t)(rk__random(&state) % space->rows);
        if (!rk_bitset_get(skip, r)) {
            source_row(space, r, rows + n++ * space->dim);
        }
    }
    rk__dist_fn l2 = rk__kernels_get()->dense[RK__F32].l2;
    for (size_t i = 0; i < n && i < RK_COUNT(nearest); i++) {
        float best = INFINITY;
        for (size_t j = 0; j < n; j++) {
            float d =
                i == j ? INFINITY : l2(rows + i * space->dim, rows + j * space->dim, space->dim);
            best = d > 0 && d < best ? d : best;
        }
        if (isfinite(best)) {
            nearest[found++] = sqrtf(best);
        }
    }
    rk_free(rows);
    if (found == 0) {
        return 0;
    }
    qsort(nearest, found, sizeof(*nearest), compare_floats);
    return nearest[found / 2];
}

/* The largest of all chunks; NaN: no memory. */
static float
largest_of(const encode_job *job, size_t chunks)
{
    float max = 0;

    for (size_t i = 0; i < chunks; i++) {
        if (job->chunk_max[i] != job->chunk_max[i]) {
            return NAN;
        }
        max = RK_MAX(max, job->chunk_max[i]);
    }
    return max;
}

static rk_code
largest_or_fail(const encode_job *job, size_t chunks, float *largest, rk_err *err)
{
    *largest = largest_of(job, chunks);
    if (rk__cancelled(job->options)) {
        return rk_fail(err, RK_ECANCELLED, "HNSW build cancelled while rows were coded");
    }
    return *largest == *largest ? RK_OK
                                : rk_fail(err, RK_ENOMEM, "HNSW codes: no memory for a row");
}

/* Whether codes of this scale keep distances well enough. */
static rk_code
judge_scale(const encode_job *job, bool *good, rk_err *err)
{
    float distance = typical_distance(job->index, job->skip);

    if (distance < 0) {
        return rk_fail(err, RK_ENOMEM, "HNSW codes: no memory for a sample of %u rows", SAMPLE);
    }
    *good = job->scale > 0 && isfinite(job->scale) && isfinite(1 / job->scale) &&
            (double)job->scale * 0.8165 < ERROR_MAX * (double)distance;
    return RK_OK;
}

static rk_code
encode_all(encode_job *job, size_t chunks, float *largest, rk_err *err)
{
    size_t rows = job->index->space.rows;

    job->out = rk__alloc_huge(rows * job->stride);
    if (!job->out) {
        return rk_fail(err, RK_ENOMEM, "HNSW codes: no memory for %zu rows of %zu bytes", rows,
                       job->stride);
    }
    rk__parallel_run(job->options->parallel, chunks, encode_chunk, job);
    return largest_or_fail(job, chunks, largest, err);
}

/* |like| NULL: mean and scale are those of the rows. */
static rk_code
encode(encode_job *job, const rk__hnsw_codes *like, bool *good, rk_err *err)
{
    const rk__space *space = &job->index->space;
    size_t chunks = (space->rows + CHUNK - 1) / CHUNK;
    float largest = 0;

    *good = false;
    job->mean = rk_alloc_zero(space->dim, sizeof(float));
    job->chunk_max = rk_alloc_zero(chunks, sizeof(float));
    if (!job->mean || !job->chunk_max ||
        (!like && space->metric != RK_METRIC_IP &&
         !sample_mean(job->index, job->skip, job->mean))) {
        return rk_fail(err, RK_ENOMEM, "HNSW codes: no memory for a mean of %u components",
                       space->dim);
    }
    if (like) {
        memcpy(job->mean, like->mean, space->dim * sizeof(float));
        job->scale = like->scale;
    } else {
        rk__parallel_run(job->options->parallel, chunks, max_chunk, job);
        RK_RET(largest_or_fail(job, chunks, &largest, err));
        job->scale = largest / 127;
    }
    RK_RET(judge_scale(job, good, err));
    if (*good) {
        RK_RET(encode_all(job, chunks, &largest, err));
        *good = !like || (largest <= CUT_MAX && atomic_load(&job->cut) <= space->rows / CUT_SHARE);
    }
    return RK_OK;
}

static rk_code
encode_rows(rk_index *index, rk__hnsw *graph, const rk__hnsw_codes *like,
            const rk_build_options *options, const rk_bitset *skip, rk_err *err)
{
    const rk__space *space = &index->space;
    encode_job job = {.index = index, .skip = skip, .options = options};
    bool good = false;
    uint64_t bytes;
    rk_code code;

    if (space->type == RK_VEC_BINARY || space->type == RK_VEC_I8 || space->rows == 0) {
        return RK_OK;
    }
    job.rotation = rk__rotation_of(space->dim, ROTATION_SEED);
    job.stride = job.rotation.padded;
    bytes = space->rows * job.stride + space->dim * sizeof(float);
    RK_RET(rk__index_reserve(index, bytes, "HNSW codes", err));
    code = encode(&job, like, &good, err);
    if (code == RK_OK && good) {
        graph->owned[3] = job.out;
        graph->owned[4] = job.mean;
        graph->codes = (rk__hnsw_codes){.data = job.out,
                                        .stride = job.stride,
                                        .n = job.stride,
                                        .rotation = job.rotation,
                                        .mean = job.mean,
                                        .scale = job.scale,
                                        .complete = rk_bitset_count(skip) == 0};
        job.out = NULL;
        job.mean = NULL;
    } else {
        rk__index_release(index, bytes);
    }
    rk_free(job.out);
    rk_free(job.mean);
    rk_free(job.chunk_max);
    return code;
}

rk_code
rk__hnsw_encode(rk_index *index, rk__hnsw *graph, const rk_build_options *options,
                const rk_bitset *skip, rk_err *err)
{
    return encode_rows(index, graph, NULL, options, skip, err);
}

rk_code
rk__hnsw_encode_like(rk_index *index, rk__hnsw *graph, const rk__hnsw_codes *like,
                     const rk_build_options *options, const rk_bitset *skip, rk_err *err)
{
    return encode_rows(index, graph, like, options, skip, err);
}

/* The largest query component with which a distance to any code still fits 31 bits. */
static float
query_limit(size_t n, bool ip)
{
    double limit = ip ? 2147483647.0 / (128.0 * (double)n) : sqrt(2147483647.0 / (double)n) - 128.0;

    return (float)RK_MIN(limit, 16000.0);
}

rk__rotation
rk__hnsw_rotation(uint32_t dim)
{
    return rk__rotation_of(dim, ROTATION_SEED);
}

bool
rk__hnsw_encode_query(const rk__hnsw_codes *codes, const rk__space *space, const rk__query *query,
                      rk__hnsw_scratch *s)
{
    bool ip = space->metric == RK_METRIC_IP;
    float limit = query_limit(codes->n, ip);
    float inverse = 1.0f / codes->scale;
    float largest = 0;

    rk__row_to_f32(space->type, space->dim, query->data, s->f32);
    for (size_t i = 0; i < space->dim; i++) {
        s->f32[i] = space->metric == RK_METRIC_COSINE ? s->f32[i] * query->inv_norm - codes->mean[i]
                                                      : s->f32[i] - codes->mean[i];
        if (!isfinite(s->f32[i])) {
            return false;
        }
    }
    rk__rotate(&codes->rotation, s->f32, s->rotated);
    for (size_t i = 0; i < codes->n; i++) {
        largest = RK_MAX(largest, fabsf(s->rotated[i]));
    }
    if (!isfinite(largest) || !isfinite(largest * inverse)) {
        return false;
    }
    s->largest = largest * inverse;
    if (ip) { /* only the order matters: the query has a scale of its own, finer than that of the
                 rows */
        inverse = largest > 0 ? RK_MIN(limit, 2047.0f) / largest : 0;
        if (!isfinite(inverse)) {
            return false;
        }
    }
    for (size_t i = 0; i < codes->n; i++) {
        float v = s->rotated[i] * inverse;
        v = v > limit ? limit : v < -limit ? -limit : v;
        s->query[i] = (int16_t)lrintf(v);
    }
    return true;
}
