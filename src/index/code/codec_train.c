/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learning the tables of a codec from a sample.
 *
 * Ranges of scalar numbers: least and largest value of each component (SQ4U: one range of all), and
 * for few bits that range shrunk to what loses least over the sample, since a handful of outliers
 * would otherwise take most of the levels. Centres of pieces: Lloyd's iterations from random rows,
 * an empty cluster restarts beside the fullest; each piece is trained on its own, its rounds (PRQ)
 * one after the other on what the rounds before left over. The seed of a piece follows from its
 * number, so threads do not matter.
 */
#include <stdatomic.h>

#include "index/code/codec.h"

#define SAMPLE_BYTES ((size_t)256 << 20)
#define RANGE_ROWS   2048u

size_t
rk__codec_sample_rows(const rk__codec *codec)
{
    size_t want = 16384;

    if (codec->id == RK__CODEC_PQ || codec->id == RK__CODEC_PRQ) {
        want = (size_t)codec->ksub * (codec->ksub <= 256 ? 64 : 16);
        want = RK_MAX(want, (size_t)4096);
    } else if (codec->tables_n == 0) {
        want = 0;
    }
    return RK_MIN(want, SAMPLE_BYTES / (codec->dim * sizeof(float)) + 1);
}

/* ---- ranges ---- */

/* What coding |n| values from low on in |levels| steps loses, squared. */
static double
range_loss(const float *rows, size_t n, size_t stride, float low, float high, float levels)
{
    float step = (high - low) / levels;
    double loss = 0;

    for (size_t i = 0; i < n; i++) {
        float v = (rows[i * stride] - low) / step;
        v = v > 0 ? (v < levels ? v : levels) : 0;
        float e = rows[i * stride] - (low + step * rintf(v));
        loss += (double)e * (double)e;
    }
    return loss;
}

/* Shrinks a range about its middle while that loses less. */
static void
fit_range(const float *rows, size_t n, size_t stride, float levels, float *low, float *high)
{
    float middle = (*low + *high) / 2;
    float reach = (*high - *low) / 2;
    float best = reach;
    double least = HUGE_VAL;

    for (int i = 0; i < 12 && reach > 0; i++) {
        float r = reach * (1.0f - 0.06f * (float)i);
        double loss = range_loss(rows, n, stride, middle - r, middle + r, levels);
        if (loss < least) {
            least = loss;
            best = r;
        }
    }
    *low = middle - best;
    *high = middle + best;
}

static void
train_ranges(rk__codec *codec, const float *rows, size_t n)
{
    float levels = codec->id == RK__CODEC_SQ8 ? 255 : codec->id == RK__CODEC_SQ6 ? 63 : 15;
    bool uniform = codec->id == RK__CODEC_SQ4U;
    float *low = codec->owned;
    float *step = codec->owned + codec->dim;
    size_t dim = codec->dim;
    size_t few = RK_MIN(n, (size_t)RANGE_ROWS);

    for (size_t d = 0; d < dim; d++) {
        float least = n > 0 ? rows[d] : 0;
        float most = least;
        for (size_t i = 1; i < n; i++) {
            least = RK_MIN(least, rows[i * dim + d]);
            most = RK_MAX(most, rows[i * dim + d]);
        }
        low[d] = least;
        step[d] = most; /* the largest value; becomes a step below */
    }
    if (uniform) {
        float least = low[0];
        float most = step[0];
        for (size_t d = 1; d < dim; d++) {
            least = RK_MIN(least, low[d]);
            most = RK_MAX(most, step[d]);
        }
        fit_range(rows, few * dim, 1, levels, &least, &most);
        for (size_t d = 0; d < dim; d++) {
            low[d] = least;
            step[d] = most;
        }
    }
    for (size_t d = 0; d < dim; d++) {
        if (!uniform && levels < 255) {
            fit_range(rows + d, few, dim, levels, &low[d], &step[d]);
        }
        step[d] = (step[d] - low[d]) / levels;
        if (!isfinite(step[d])) {
            step[d] = 0;
        }
    }
}

/* ---- centres ---- */

typedef struct train_job {
    rk__codec *codec;
    const float *rows;
    size_t n;
    const rk_build_options *options;
    _Atomic(bool) out_of_memory;
} train_job;

/* The memory of one piece's training. */
typedef struct piece {
    float *rows;     /* n * dsub: what is left to code */
    float *sums;     /* ksub * dsub */
    uint32_t *count; /* ksub */
    uint32_t *of;    /* centre of each row */
    float *scratch;
} piece;

static void
set_half(const rk__codec *codec, const float *table, float *half)
{
    for (uint32_t j = 0; j < codec->kpad; j++) {
        float sum = 0;
        for (uint32_t d = 0; d < codec->dsub; d++) {
            float v = table[(size_t)d * codec->kpad + j];
            sum += v * v;
        }
        half[j] = j < codec->ksub ? sum / 2 : INFINITY;
    }
}

static void
first_centres(const rk__codec *codec, const piece *p, size_t n, uint64_t seed, float *table)
{
    uint64_t state = seed;

    for (uint32_t j = 0; j < codec->ksub; j++) { /* one random row out of each stretch */
        size_t from = (size_t)((double)n * j / codec->ksub);
        size_t to = RK_MAX((size_t)((double)n * (j + 1) / codec->ksub), from + 1);
        size_t row = from + (size_t)(rk__random(&state) % (to - from));
        row = RK_MIN(row, n - 1);
        for (uint32_t d = 0; d < codec->dsub; d++) {
            table[(size_t)d * codec->kpad + j] = p->rows[row * codec->dsub + d];
        }
    }
}

/* Puts each row to its nearest centre; returns the loss up to a constant of the rows. */
static double
assign(const rk__codec *codec, piece *p, size_t n, const float *table, const float *half)
{
    const rk__codec_math *math = rk__codec_math_get();
    double loss = 0;

    for (size_t i = 0; i < n; i++) {
        p->of[i] = math->nearest(p->rows + i * codec->dsub, table, half, codec->dsub, codec->kpad,
                                 p->scratch);
        loss += (double)p->scratch[p->of[i]];
    }
    return loss;
}

static void
move_centres(const rk__codec *codec, piece *p, size_t n, float *table)
{
    uint32_t dsub = codec->dsub;

    memset(p->sums, 0, (size_t)codec->ksub * dsub * sizeof(*p->sums));
    memset(p->count, 0, codec->ksub * sizeof(*p->count));
    for (size_t i = 0; i < n; i++) {
        float *sum = p->sums + (size_t)p->of[i] * dsub;
        p->count[p->of[i]]++;
        for (uint32_t d = 0; d < dsub; d++) {
            sum[d] += p->rows[i * dsub + d];
        }
    }
    for (uint32_t j = 0; j < codec->ksub; j++) {
        for (uint32_t d = 0; d < dsub && p->count[j] > 0; d++) {
            table[(size_t)d * codec->kpad + j] = p->sums[(size_t)j * dsub + d] / (float)p->count[j];
        }
    }
    for (uint32_t j = 0; j < codec->ksub; j++) {
        uint32_t fullest = 0;
        if (p->count[j] > 0) {
            continue;
        }
        for (uint32_t k = 1; k < codec->ksub; k++) {
            fullest = p->count[k] > p->count[fullest] ? k : fullest;
        }
        if (p->count[fullest] < 2) {
            continue;
        }
        for (uint32_t d = 0; d < dsub; d++) {
            float v = table[(size_t)d * codec->kpad + fullest];
            table[(size_t)d * codec->kpad + j] =
                v + (d % 2 ? 1.0f : -1.0f) * (fabsf(v) / 512 + 1e-20f);
        }
        p->count[j] = p->count[fullest] / 2;
        p->count[fullest] -= p->count[j];
    }
}

static void
train_round(const train_job *job, piece *p, size_t s, bool last)
{
    rk__codec *codec = job->codec;
    float *table = codec->owned + s * codec->dsub * codec->kpad;
    float *half = codec->half + s * codec->kpad;
    unsigned iterations = codec->ksub <= 256 ? 12 : 5;
    double before = HUGE_VAL;

    first_centres(codec, p, job->n, job->options->seed ^ rk_hash_u64(s + 1), table);
    for (unsigned i = 0; i < iterations && !rk__cancelled(job->options); i++) {
        set_half(codec, table, half);
        double loss = assign(codec, p, job->n, table, half);
        if (i > 3 && before - loss < 1e-3 * fabs(loss)) {
            break;
        }
        before = loss;
        move_centres(codec, p, job->n, table);
    }
    set_half(codec, table, half);
    if (last) {
        return;
    }
    (void)assign(codec, p, job->n, table, half);
    for (size_t i = 0; i < job->n; i++) {
        for (uint32_t d = 0; d < codec->dsub; d++) {
            p->rows[i * codec->dsub + d] -= table[(size_t)d * codec->kpad + p->of[i]];
        }
    }
}

static void
train_piece(void *arg, size_t number)
{
    train_job *job = arg;
    rk__codec *codec = job->codec;
    piece p = {
        .rows = rk_alloc(job->n * codec->dsub * sizeof(float)),
        .sums = rk_alloc((size_t)codec->ksub * codec->dsub * sizeof(float)),
        .count = rk_alloc(codec->ksub * sizeof(uint32_t)),
        .of = rk_alloc(job->n * sizeof(uint32_t)),
        .scratch = rk_alloc(codec->kpad * sizeof(float)),
    };

    if (p.rows && p.sums && p.count && p.of && p.scratch) {
        for (size_t i = 0; i < job->n; i++) {
            memcpy(p.rows + i * codec->dsub, job->rows + i * codec->dim + number * codec->dsub,
                   codec->dsub * sizeof(float));
        }
        for (uint32_t r = 0; r < codec->nrq; r++) {
            train_round(job, &p, number * codec->nrq + r, r + 1 == codec->nrq);
        }
    } else {
        job->out_of_memory = true;
    }
    rk_free(p.rows);
    rk_free(p.sums);
    rk_free(p.count);
    rk_free(p.of);
    rk_free(p.scratch);
}

rk_code
rk__codec_train(rk__codec *codec, const float *rows, size_t n, const rk_build_options *options,
                rk_err *err)
{
    train_job job = {.codec = codec, .rows = rows, .n = n, .options = options};
    bool pieces = codec->id == RK__CODEC_PQ || codec->id == RK__CODEC_PRQ;

    if (codec->tables_n == 0) {
        return RK_OK;
    }
    codec->owned = rk_alloc_zero(codec->tables_n, sizeof(float));
    codec->half =
        pieces ? rk_alloc_zero((size_t)codec->m * codec->nrq * codec->kpad, sizeof(float)) : NULL;
    if (!codec->owned || (pieces && !codec->half)) {
        return rk_fail(err, RK_ENOMEM, "codec: no memory for tables of %zu numbers",
                       codec->tables_n);
    }
    codec->tables = codec->owned;
    if (!pieces) {
        train_ranges(codec, rows, n);
        return RK_OK;
    }
    if (n > 0) {
        rk__parallel_run(options->parallel, codec->m, train_piece, &job);
    }
    if (job.out_of_memory) {
        return rk_fail(err, RK_ENOMEM, "codec: no memory to train on %zu rows", n);
    }
    return rk__cancelled(options)
               ? rk_fail(err, RK_ECANCELLED, "codec: cancelled while centres were trained")
               : RK_OK;
}
