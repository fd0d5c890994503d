/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reduced space of a cluster index, see cluster/cluster.h.
 *
 * Vectors of real data hold most of their energy in few directions, so bits are spent on those: the
 * axes are an orthonormal basis of the leading principal subspace, found by orthogonal iteration on
 * the covariance of a sample and sorted by energy. They are kept as 8-bit numbers with a scale
 * each; rows and queries pass through the same numbers, so their rounding is a fixed, tiny
 * distortion of the space. Short vectors, very long ones and data without such directions keep z =
 * v.
 *
 * Sizes follow the energy: z keeps REDUCED_SHARE of it where that fits, the head HEAD_SHARE.
 */
#include <stdlib.h>

#include "index/cluster/cluster.h"

#define SAMPLE_MAX    8192u
#define SAMPLE_BYTES  ((size_t)64 << 20)
#define DIM_MIN       48u   /* shorter vectors are coded as they are */
#define DIM_MAX       2048u /* longer ones too: their covariance is too large */
#define REDUCED_MAX   504u
#define REDUCED_SHARE 0.985
#define HEAD_SHARE    0.90
#define HOPELESS      0.80 /* less than this in REDUCED_MAX components: no axes */
#define ITERATIONS    7u
#define BITS_MIN      128u

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

size_t
rk__cluster_point_bytes(const rk__cluster_space *space)
{
    return up(space->n * sizeof(float), 64) + up(space->n * sizeof(int16_t), 64) +
           up(space->record * sizeof(float), 64) + up(space->padded * sizeof(float), 64);
}

void
rk__cluster_point_init(const rk__cluster_space *space, rk__cluster_point *point, void *memory)
{
    uint8_t *at = memory;

    point->v = (float *)(void *)at;
    at += up(space->n * sizeof(float), 64);
    point->wide = (int16_t *)(void *)at;
    at += up(space->n * sizeof(int16_t), 64);
    point->z = (float *)(void *)at;
    at += up(space->record * sizeof(float), 64);
    point->bits = (float *)(void *)at;
    point->tail = 0;
    memset(point->v, 0, space->n * sizeof(float));
    memset(point->z, 0, space->record * sizeof(float));
}

void
rk__cluster_vector(const rk__space *space, const void *row, float inv_norm, float *out)
{
    if (space->type == RK_VEC_F32) {
        memcpy(out, row, (size_t)space->dim * sizeof(float));
    } else {
        rk__row_to_f32(space->type, space->dim, row, out);
    }
    if (space->metric == RK_METRIC_COSINE) {
        for (size_t i = 0; i < space->dim; i++) {
            out[i] *= inv_norm;
        }
    }
}

/* The largest absolute component; |n| is a multiple of 8. */
static float
largest_of(const float *v, size_t n)
{
    float lanes[8] = {0};
    float most = 0;

    for (size_t i = 0; i < n; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            float a = fabsf(v[i + j]);
            lanes[j] = a > lanes[j] ? a : lanes[j];
        }
    }
    for (size_t j = 0; j < 8; j++) {
        most = lanes[j] > most ? lanes[j] : most;
    }
    return most;
}

/* Rounded to 16 bits; values within +-16000. */
static void
to_wide(const float *v, size_t n, float inverse, int16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (int16_t)((int32_t)(v[i] * inverse + 16384.5f) - 16384);
    }
}

/* The largest 16-bit number with which a product with 8-bit rows of |n| still fits 31 bits. */
static float
wide_limit(size_t n)
{
    double limit = 2147483647.0 / (128.0 * (double)n);

    return (float)RK_MIN(limit, 16000.0);
}

bool
rk__cluster_project(const rk__cluster_space *space, bool query, rk__cluster_point *point)
{
    const rk__kernels *kernels = rk__kernels_get();
    rk__dist_fn ip = kernels->dense[RK__F32].ip;
    float energy = 0;

    if (!(space->ip && query)) {
        for (size_t i = 0; i < space->dim; i++) {
            point->v[i] -= space->mean[i];
        }
    }
    energy = ip(point->v, point->v, space->dim);
    if (!isfinite(energy * 4)) {
        return false;
    }
    point->tail = 0;
    if (!space->axes) {
        memcpy(point->z, point->v, space->dim * sizeof(float));
        return true;
    }
    float most = largest_of(point->v, space->n);
    float limit = query ? 127.0f : wide_limit(space->n);
    float inverse = most > 0 ? limit / most : 0;
    float unit = most / limit;
    if (!isfinite(inverse)) { /* nothing but denormals */
        inverse = 0;
    }
    int8_t *narrow = (int8_t *)(void *)point->wide;
    if (query) { /* one vector may be rounded more than all, and twice as fast */
        for (size_t i = 0; i < space->n; i++) {
            narrow[i] = (int8_t)((int32_t)(point->v[i] * inverse + 128.5f) - 128);
        }
    } else {
        to_wide(point->v, space->n, inverse, point->wide);
    }
    for (size_t i = 0; i < space->reduced; i += 4) { /* reduced is a multiple of 4 with axes */
        const int8_t *at = space->axes + i * space->n;
        const int8_t *const four[4] = {at, at + space->n, at + 2 * (size_t)space->n,
                                       at + 3 * (size_t)space->n};
        int32_t dots[4];
        if (query) {
            kernels->code8_ipx4(narrow, four, space->n, dots);
        } else {
            kernels->code_ipx4(point->wide, four, space->n, dots);
        }
        for (size_t j = 0; j < 4; j++) {
            point->z[i + j] = (float)dots[j] * (space->scales[i + j] * unit);
        }
    }
    if (!space->ip) {
        point->tail = RK_MAX(energy - ip(point->z, point->z, space->reduced), 0.0f);
    }
    return true;
}

void
rk__cluster_rotate_head(const rk__cluster_space *space, const float *z, float *bits)
{
    rk__rotation rotation = {.dim = space->head, .padded = space->padded, .seed = space->seed};

    rk__rotate(&rotation, z, bits);
}

/* ---- training ---- */

typedef struct train_job {
    const rk_build_options *options;
    rk__dist_fn ip;
    rk__dist4_fn ip4;
    const float *columns; /* dim rows of n: the sample, transposed */
    size_t dim;
    size_t n;
    float *covariance; /* dim * dim */
    const float *in;   /* basis */
    float *out;
    size_t wanted;
} train_job;

static void
covariance_row(void *arg, size_t i)
{
    train_job *job = arg;
    const float *row = job->columns + i * job->n;
    size_t j = i;

    if (rk__cancelled(job->options)) {
        return;
    }
    for (; j + 4 <= job->dim; j += 4) {
        const float *at = job->columns + j * job->n;
        const void *const four[4] = {at, at + job->n, at + 2 * job->n, at + 3 * job->n};
        job->ip4(row, four, job->n, job->covariance + i * job->dim + j);
    }
    for (; j < job->dim; j++) {
        job->covariance[i * job->dim + j] = job->ip(row, job->columns + j * job->n, job->n);
    }
}

/* out[i] = covariance * in[i] */
static void
multiply_row(void *arg, size_t i)
{
    train_job *job = arg;
    const float *row = job->in + i * job->dim;
    size_t j = 0;

    if (rk__cancelled(job->options)) {
        return;
    }
    for (; j + 4 <= job->dim; j += 4) {
        const float *at = job->covariance + j * job->dim;
        const void *const four[4] = {at, at + job->dim, at + 2 * job->dim, at + 3 * job->dim};
        job->ip4(row, four, job->dim, job->out + i * job->dim + j);
    }
    for (; j < job->dim; j++) {
        job->out[i * job->dim + j] = job->ip(row, job->covariance + j * job->dim, job->dim);
    }
}

static void
normalise(const train_job *job, float *row, uint64_t *state)
{
    float norm = sqrtf(job->ip(row, row, job->dim));

    if (!(norm > 1e-20f)) { /* the data spans less: any direction does */
        for (size_t i = 0; i < job->dim; i++) {
            row[i] = (float)(int32_t)(uint32_t)rk__random(state) * 0x1p-31f;
        }
        norm = sqrtf(job->ip(row, row, job->dim));
    }
    for (size_t i = 0; i < job->dim; i++) {
        row[i] /= norm;
    }
}

/* Gram-Schmidt, each row against those before it, again until little is lost by it. A row that lies
 * in their span to the last bit is replaced by a random one. */
static void
orthonormalise(const train_job *job, float *basis, uint64_t *state)
{
    for (size_t i = 0; i < job->wanted; i++) {
        float *row = basis + i * job->dim;
        for (unsigned pass = 0; pass < 6; pass++) {
            normalise(job, row, state);
            for (size_t j = 0; j < i; j++) {
                const float *other = basis + j * job->dim;
                float share = job->ip(row, other, job->dim);
                for (size_t c = 0; c < job->dim; c++) {
                    row[c] -= share * other[c];
                }
            }
            float left = job->ip(row, row, job->dim);
            if (left > 0.5f) {
                break;
            }
            if (pass == 2) {
                memset(row, 0, job->dim * sizeof(*row));
            }
        }
        normalise(job, row, state);
    }
}

typedef struct axis {
    float energy;
    uint32_t number;
} axis;

static int
by_energy(const void *a, const void *b)
{
    const axis *x = a;
    const axis *y = b;

    return x->energy > y->energy ? -1 : x->energy < y->energy ? 1 : (x->number > y->number) * 2 - 1;
}

/* Leading components that hold |share| of |total|. */
static size_t
components_for(const axis *axes, size_t n, double total, double share, double *held)
{
    double sum = 0;
    size_t i = 0;

    while (i < n && sum < share * total) {
        sum += (double)axes[i++].energy;
    }
    *held = total > 0 ? sum / total : 1;
    return i;
}

/* Sizes without axes. */
static void
keep_all(rk__cluster_space *space)
{
    space->reduced = space->dim;
    space->head = space->dim;
    space->padded = (uint32_t)RK_MAX(up(space->dim, 64), (size_t)BITS_MIN);
    space->record = (uint32_t)up((size_t)space->reduced + 8, 64);
    space->axes = NULL;
    space->scales = NULL;
}

/* Sizes by energy; false: axes do not pay. */
static bool
choose_sizes(rk__cluster_space *space, const axis *axes, size_t n, double total)
{
    double held = 0;
    size_t reduced = components_for(axes, n, total, REDUCED_SHARE, &held);
    size_t head = 0;

    if (held < HOPELESS) {
        return false;
    }
    reduced = RK_MIN(up(reduced + 8, 64) - 8, n);
    head = RK_MIN(up(components_for(axes, n, total, HEAD_SHARE, &held), 64), reduced);
    if (head + 64 > space->dim) {
        return false; /* nothing is saved */
    }
    space->reduced = (uint32_t)reduced;
    space->head = (uint32_t)head;
    space->padded = (uint32_t)RK_MAX(up(head, 64), (size_t)BITS_MIN);
    space->record = (uint32_t)up(reduced + 8, 64);
    return true;
}

static bool
sample_columns(const rk_index *index, train_job *job, float *mean, float *columns, float *row)
{
    const rk__space *space = &index->space;
    double *sum = rk_alloc_zero(space->dim, sizeof(*sum));
    size_t taken = 0;

    if (!sum) {
        return false;
    }
    for (size_t i = 0; i < job->n; i++) {
        size_t r = (size_t)((double)i * (double)space->rows / (double)job->n);
        rk__cluster_vector(space, rk__space_row(space, r),
                           space->inv_norms ? space->inv_norms[r] : 1.0f, row);
        bool good = isfinite(job->ip(row, row, space->dim));
        for (size_t d = 0; d < space->dim; d++) {
            float x = good ? row[d] : NAN;
            columns[d * job->n + i] = x;
            sum[d] += good ? (double)x : 0;
        }
        taken += good;
    }
    for (size_t d = 0; d < space->dim; d++) {
        float *at = columns + d * job->n;
        mean[d] = taken > 0 ? (float)(sum[d] / (double)taken) : 0;
        for (size_t i = 0; i < job->n; i++) {
            at[i] = at[i] == at[i] ? at[i] - mean[d] : 0;
        }
    }
    rk_free(sum);
    return true;
}

static void
quantise_axes(const float *basis, const axis *axes, const rk__cluster_space *space, int8_t *out,
              float *scales)
{
    memset(out, 0, (size_t)space->reduced * space->n);
    for (size_t i = 0; i < space->reduced; i++) {
        const float *row = basis + (size_t)axes[i].number * space->dim;
        float most = 0;
        for (size_t d = 0; d < space->dim; d++) {
            most = RK_MAX(most, fabsf(row[d]));
        }
        scales[i] = most / 127;
        for (size_t d = 0; d < space->dim; d++) {
            out[i * space->n + d] = (int8_t)lrintf(row[d] / scales[i]);
        }
    }
}

static rk_code
find_axes(rk__cluster *cluster, train_job *job, float *basis[2], axis *axes, rk_err *err)
{
    rk__cluster_space *space = &cluster->space;
    uint64_t state = space->seed + 99;
    double total = 0;

    rk__parallel_run(job->options->parallel, job->dim, covariance_row, job);
    for (size_t i = 0; i < job->dim; i++) {
        total += (double)job->covariance[i * job->dim + i];
        for (size_t j = 0; j < i; j++) {
            job->covariance[i * job->dim + j] = job->covariance[j * job->dim + i];
        }
    }
    if (!(total > 0) || !isfinite(total)) {
        keep_all(space);
        return RK_OK;
    }
    for (size_t i = 0; i < job->wanted * job->dim; i++) {
        basis[0][i] = (float)(int32_t)(uint32_t)rk__random(&state) * 0x1p-31f;
    }
    orthonormalise(job, basis[0], &state);
    for (unsigned i = 0; i < ITERATIONS; i++) {
        job->in = basis[0];
        job->out = basis[1];
        rk__parallel_run(job->options->parallel, job->wanted, multiply_row, job);
        if (rk__cancelled(job->options)) {
            return rk_fail(err, RK_ECANCELLED, "cluster build cancelled while axes were found");
        }
        orthonormalise(job, basis[1], &state);
        float *swap = basis[0];
        basis[0] = basis[1];
        basis[1] = swap;
    }
    job->in = basis[0];
    job->out = basis[1];
    rk__parallel_run(job->options->parallel, job->wanted, multiply_row, job);
    for (size_t i = 0; i < job->wanted; i++) {
        axes[i].number = (uint32_t)i;
        axes[i].energy = job->ip(basis[0] + i * job->dim, basis[1] + i * job->dim, job->dim);
        axes[i].energy = isfinite(axes[i].energy) ? axes[i].energy : 0;
    }
    qsort(axes, job->wanted, sizeof(*axes), by_energy);
    if (!choose_sizes(space, axes, job->wanted, total)) {
        keep_all(space);
        return RK_OK;
    }
    cluster->owned[RK__CLUSTER_AXES_DATA] =
        rk_alloc_aligned(64, up((size_t)space->reduced * space->n, 64));
    cluster->owned[RK__CLUSTER_SCALES] =
        rk_alloc_aligned(64, up(space->reduced * sizeof(float), 64));
    if (!cluster->owned[RK__CLUSTER_AXES_DATA] || !cluster->owned[RK__CLUSTER_SCALES]) {
        return rk_fail(err, RK_ENOMEM, "cluster build: no memory for %u axes", space->reduced);
    }
    quantise_axes(basis[0], axes, space, cluster->owned[RK__CLUSTER_AXES_DATA],
                  cluster->owned[RK__CLUSTER_SCALES]);
    space->axes = cluster->owned[RK__CLUSTER_AXES_DATA];
    space->scales = cluster->owned[RK__CLUSTER_SCALES];
    return RK_OK;
}

rk_code
rk__cluster_space_train(rk_index *index, rk__cluster *cluster, const rk_build_options *options,
                        rk_err *err)
{
    rk__cluster_space *space = &cluster->space;
    size_t dim = index->space.dim;
    bool with_axes = dim >= DIM_MIN && dim <= DIM_MAX && index->space.rows >= 256;
    size_t most = RK_MIN(SAMPLE_BYTES / (dim * sizeof(float)), (size_t)SAMPLE_MAX);
    train_job job = {.options = options,
                     .ip = rk__kernels_get()->dense[RK__F32].ip,
                     .ip4 = rk__kernels_get()->dense[RK__F32].ipx4,
                     .dim = dim,
                     .n = RK_MIN(RK_MAX(most, (size_t)16), index->space.rows),
                     .wanted = RK_MIN(dim / 4 * 4, (size_t)REDUCED_MAX)};
    size_t covariance_len = with_axes ? dim * dim : 1;
    size_t basis_len = with_axes ? job.wanted * dim : 1;
    uint64_t bytes = (job.n * dim + covariance_len + 2 * basis_len) * sizeof(float);
    float *mean = NULL;
    float *columns = NULL;
    float *row = NULL;
    float *basis[2] = {NULL, NULL};
    axis *axes = NULL;
    rk_code code = RK_OK;

    *space = (rk__cluster_space){.dim = (uint32_t)dim,
                                 .n = (uint32_t)up(dim, 32),
                                 .ip = index->space.metric == RK_METRIC_IP,
                                 .seed = options->seed + 1};
    keep_all(space);
    RK_RET(rk__index_reserve(index, bytes, "cluster axes", err));
    mean = rk_alloc_aligned(64, up(dim * sizeof(float), 64));
    cluster->owned[RK__CLUSTER_MEAN] = mean;
    columns = rk_alloc_aligned(64, up(RK_MAX(job.n, (size_t)1) * dim * sizeof(float), 64));
    row = rk_alloc_aligned(64, up(dim * sizeof(float), 64));
    job.covariance = rk_alloc_aligned(64, up(covariance_len * sizeof(float), 64));
    basis[0] = rk_alloc_aligned(64, up(basis_len * sizeof(float), 64));
    basis[1] = rk_alloc_aligned(64, up(basis_len * sizeof(float), 64));
    axes = rk_alloc_zero(job.wanted + 1, sizeof(*axes));
    if (!mean || !columns || !row || !job.covariance || !basis[0] || !basis[1] || !axes ||
        !sample_columns(index, &job, mean, columns, row)) {
        code =
            rk_fail(err, RK_ENOMEM, "cluster build: no memory for the axes of %zu dimensions", dim);
        goto out;
    }
    memset(mean + dim, 0, up(dim * sizeof(float), 64) - dim * sizeof(float));
    space->mean = mean;
    job.columns = columns;
    if (with_axes) {
        code = find_axes(cluster, &job, basis, axes, err);
    }
out:
    rk__index_release(index, bytes);
    rk_free(columns);
    rk_free(row);
    rk_free(job.covariance);
    rk_free(basis[0]);
    rk_free(basis[1]);
    rk_free(axes);
    return code;
}
