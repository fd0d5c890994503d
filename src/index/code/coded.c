/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See code/coded.h. A build takes an even sample of the finite rows, learns mean and tables from
 * it, and codes all rows in chunks over the caller's threads; the result does not depend on them.
 */
#include "index/code/coded.h"

#include <stdatomic.h>

#define CHUNK      1024u
#define HEAD_BYTES 64u

bool
rk__coded_source(const rk__space *space, const void *row, float inv_norm, float *out)
{
    bool finite = true;

    rk__row_to_f32(space->type, space->dim, row, out);
    for (size_t i = 0; i < space->dim; i++) {
        finite = finite && isfinite(out[i]);
        if (space->metric == RK_METRIC_COSINE) {
            out[i] *= inv_norm;
        }
    }
    return finite;
}

static bool
source_row(const rk__space *space, size_t row, float *out)
{
    float norm = space->inv_norms ? space->inv_norms[row] : 1.0f;

    return rk__coded_source(space, rk__space_row(space, row), norm, out);
}

static rk_metric
code_metric(const rk__space *space)
{
    return space->metric == RK_METRIC_IP ? RK_METRIC_IP : RK_METRIC_L2;
}

static size_t
mean_bytes(uint32_t dim)
{
    return ((size_t)dim * sizeof(float) + 63) / 64 * 64;
}

/* ---- build ---- */

/* Up to |want| finite rows, evenly spread; returns how many. */
static size_t
take_sample(const rk__space *space, size_t want, float *out)
{
    size_t n = 0;

    for (size_t i = 0; i < want; i++) {
        size_t row = (size_t)((double)i * (double)space->rows / (double)want);
        n += source_row(space, row, out + n * space->dim);
    }
    return n;
}

static void
take_mean(const float *sample, size_t n, uint32_t dim, float *mean)
{
    for (size_t d = 0; d < dim && n > 0; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)sample[i * dim + d];
        }
        mean[d] = (float)(sum / (double)n);
    }
}

static rk_code
train(rk__coded *coded, rk_index *index, const rk__coded_shape *shape,
      const rk_build_options *options, float *mean, rk_err *err)
{
    const rk__space *space = &index->space;
    size_t want = 0;
    size_t n = 0;
    float *sample = NULL;
    rk_code code = RK_OK;

    rk__codec_init(&coded->codec, shape->id, space->dim, shape->m, shape->nbits, shape->nrq,
                   space->rows);
    want = RK_MIN(RK_MAX(rk__codec_sample_rows(&coded->codec), (size_t)4096), space->rows);
    RK_RET(rk__index_reserve(index, want * space->dim * sizeof(float), "codec sample", err));
    sample = rk_alloc((want * space->dim + 16) * sizeof(float));
    if (!sample) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "codec: no memory for a sample of %zu rows", want));
    }
    n = take_sample(space, want, sample);
    if (code_metric(space) == RK_METRIC_L2) {
        take_mean(sample, n, space->dim, mean);
    }
    for (size_t i = 0; i < n * space->dim; i++) {
        sample[i] -= mean[i % space->dim];
    }
    rk__codec_init(&coded->codec, shape->id, space->dim, shape->m, shape->nbits, shape->nrq, n);
    RK_ERR(rk__codec_train(&coded->codec, sample, n, options, err));
out:
    rk_free(sample);
    rk__index_release(index, want * space->dim * sizeof(float));
    return code;
}

/* Head, mean and tables become one section, and the codec reads its tables there. */
static rk_code
make_shape(rk__coded *coded, rk_index *index, const float *mean, rk_err *err)
{
    const rk__codec *codec = &coded->codec;
    size_t tables = codec->tables_n * sizeof(float);
    size_t bytes = HEAD_BYTES + mean_bytes(codec->dim) + tables;
    uint8_t *shape = NULL;

    RK_RET(rk__index_reserve(index, bytes, "codec tables", err));
    shape = rk__alloc_huge(bytes);
    if (!shape) {
        return rk_fail(err, RK_ENOMEM, "codec: no memory for tables of %zu bytes", bytes);
    }
    memset(shape, 0, HEAD_BYTES + mean_bytes(codec->dim));
    rk_put_u32le(shape, (uint32_t)codec->id);
    rk_put_u32le(shape + 4, codec->m);
    rk_put_u32le(shape + 8, codec->nbits);
    rk_put_u32le(shape + 12, codec->nrq);
    memcpy(shape + HEAD_BYTES, mean, codec->dim * sizeof(float));
    if (tables > 0) {
        memcpy(shape + HEAD_BYTES + mean_bytes(codec->dim), codec->tables, tables);
    }
    coded->owned[0] = shape;
    coded->shape = shape;
    coded->shape_bytes = bytes;
    coded->mean = (const float *)(const void *)(shape + HEAD_BYTES);
    coded->codec.tables = coded->mean + mean_bytes(codec->dim) / sizeof(float);
    rk_free(coded->codec.owned);
    coded->codec.owned = NULL;
    return RK_OK;
}

typedef struct encode_job {
    const rk__space *space;
    const rk__coded *coded;
    uint8_t *codes;
    float *factors;
    const rk_build_options *options;
    _Atomic(bool) out_of_memory;
} encode_job;

static void
encode_chunk(void *arg, size_t chunk)
{
    encode_job *job = arg;
    const rk__codec *codec = &job->coded->codec;
    size_t dim = codec->dim;
    size_t to = RK_MIN((chunk + 1) * CHUNK, job->space->rows);
    float *row = rk_alloc((dim * 2 + rk__codec_scratch_floats(codec)) * sizeof(float));

    if (!row) {
        job->out_of_memory = true;
        return;
    }
    for (size_t r = chunk * CHUNK; r < to && !rk__cancelled(job->options); r++) {
        uint8_t *code = job->codes + r * codec->code_bytes;
        float *factors = job->factors + r * 2;
        if (!source_row(job->space, r, row)) {
            memset(code, 0, codec->code_bytes);
            factors[0] = INFINITY;
            factors[1] = 0;
            continue;
        }
        for (size_t i = 0; i < dim; i++) {
            row[i] -= job->coded->mean[i];
        }
        rk__codec_encode(codec, row, code, row + 2 * dim);
        rk__codec_decode(codec, code, row + dim);
        rk__codec_factors(code_metric(job->space), row, row + dim, NULL, codec->dim, &factors[0],
                          &factors[1]);
    }
    rk_free(row);
}

rk_code
rk__coded_build(rk__coded *coded, rk_index *index, const rk__coded_shape *shape,
                const rk_build_options *options, rk_err *err)
{
    const rk__space *space = &index->space;
    encode_job job = {.space = space, .coded = coded, .options = options};
    float *mean = rk_alloc_zero(space->dim, sizeof(float));
    size_t codes = 0;
    rk_code code = RK_OK;

    *coded = (rk__coded){0};
    if (!mean) {
        return rk_fail(err, RK_ENOMEM, "codec: no memory for a mean of %u components", space->dim);
    }
    RK_ERR(train(coded, index, shape, options, mean, err));
    RK_ERR(make_shape(coded, index, mean, err));
    codes = RK_MAX(space->rows * coded->codec.code_bytes, (size_t)64);
    RK_ERR(rk__index_reserve(index, codes + space->rows * 2 * sizeof(float), "codes", err));
    coded->owned[1] = rk__alloc_huge(codes);
    coded->owned[2] = rk__alloc_huge(RK_MAX(space->rows * 2 * sizeof(float), (size_t)64));
    if (!coded->owned[1] || !coded->owned[2]) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "codec: no memory for codes of %zu bytes", codes));
    }
    coded->codes = job.codes = coded->owned[1];
    coded->factors = job.factors = coded->owned[2];
    rk__parallel_run(options->parallel, (space->rows + CHUNK - 1) / CHUNK, encode_chunk, &job);
    if (job.out_of_memory) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "codec: no memory for a row"));
    }
    if (rk__cancelled(options)) {
        RK_ERR(rk_fail(err, RK_ECANCELLED, "codec: cancelled while rows were coded"));
    }
out:
    rk_free(mean);
    rk_free(coded->codec.half); /* only needed to code */
    coded->codec.half = NULL;
    return code;
}

void
rk__coded_free(rk__coded *coded)
{
    rk__codec_deinit(&coded->codec);
    for (size_t i = 0; i < RK_COUNT(coded->owned); i++) {
        rk_free(coded->owned[i]);
        coded->owned[i] = NULL;
    }
    coded->codec.id = RK__CODEC_NONE;
}

/* ---- image ---- */

void
rk__coded_sections(const rk__coded *coded, size_t rows, uint32_t id, rk__sections *out)
{
    if (coded->codec.id == RK__CODEC_NONE) {
        return;
    }
    rk__sections_add(out, id, coded->shape, coded->shape_bytes);
    rk__sections_add(out, id + 1, coded->codes, rows * coded->codec.code_bytes);
    rk__sections_add(out, id + 2, coded->factors, rows * 2 * sizeof(float));
}

rk_code
rk__coded_open(rk__coded *coded, const rk__space *space, const rk__sections *sections, uint32_t id,
               rk_err *err)
{
    const void *at = NULL;
    uint64_t bytes = 0;
    size_t before = HEAD_BYTES + mean_bytes(space->dim);

    *coded = (rk__coded){0};
    RK_RET(rk__sections_get(sections, id, SIZE_MAX, &at, &bytes, err));
    if (bytes < before) {
        return rk_fail(err, RK_ECORRUPT, "codec image: shape of %llu bytes",
                       (unsigned long long)bytes);
    }
    RK_RET(rk__codec_read(&coded->codec, at, space->dim, err));
    coded->shape = at;
    coded->shape_bytes = bytes;
    coded->mean = (const float *)(const void *)((const uint8_t *)at + HEAD_BYTES);
    RK_RET(rk__codec_open(&coded->codec, (const uint8_t *)at + before, bytes - before, err));
    RK_RET(
        rk__sections_get(sections, id + 1, space->rows * coded->codec.code_bytes, &at, NULL, err));
    coded->codes = at;
    RK_RET(rk__sections_get(sections, id + 2, space->rows * 2 * sizeof(float), &at, NULL, err));
    coded->factors = at;
    return RK_OK;
}

/* ---- search ---- */

size_t
rk__coded_query_bytes(const rk__coded *coded)
{
    return (rk__codec_query_bytes(&coded->codec) + 63) / 64 * 64 + mean_bytes(coded->codec.dim);
}

static bool
init_query(rk__coded_query *out, const rk__coded *coded, const rk__space *space, const void *row,
           float inv_norm, void *memory)
{
    float *vector = memory;
    uint8_t *rest = (uint8_t *)memory + mean_bytes(space->dim);
    float square = 0;

    *out = (rk__coded_query){.coded = coded};
    if (!rk__coded_source(space, row, inv_norm, vector)) {
        return false;
    }
    for (size_t i = 0; i < space->dim; i++) {
        vector[i] -= coded->mean[i];
        square += vector[i] * vector[i];
    }
    out->extra = code_metric(space) == RK_METRIC_L2 ? square : 0;
    return rk__codec_query_init(&out->query, &coded->codec, vector, rest);
}

bool
rk__coded_query_init(rk__coded_query *out, const rk__coded *coded, const rk__space *space,
                     const rk__query *query, void *memory)
{
    return init_query(out, coded, space, query->data, query->inv_norm, memory);
}

bool
rk__coded_query_row(rk__coded_query *out, const rk__coded *coded, const rk__space *space,
                    uint32_t row, void *memory)
{
    return init_query(out, coded, space, rk__space_row(space, row),
                      space->inv_norms ? space->inv_norms[row] : 1.0f, memory);
}

void
rk__coded_keys(const rk__coded_query *query, const uint32_t *rows, size_t n, float *keys)
{
    const float *factors = query->coded->factors;
    size_t bytes = query->coded->codec.code_bytes;
    size_t lines = RK_MIN(bytes, (size_t)256);

    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = query->coded->codes + rows[i] * bytes;
        __builtin_prefetch(factors + (size_t)rows[i] * 2);
        for (size_t b = 0; b < (i < 8 ? lines : 1); b += 64) {
            __builtin_prefetch(code + b);
        }
    }
    rk__codec_dots(&query->query, query->coded->codes, rows, n, keys);
    for (size_t i = 0; i < n; i++) {
        const float *of = factors + (size_t)rows[i] * 2;
        keys[i] = of[0] + of[1] * keys[i] + query->extra;
    }
}

rk_code
rk__coded_refine(const rk__coded *coded, const rk__space *space, const rk__query *query,
                 rk__near *items, uint32_t *n, uint32_t keep, rk_arena *arena, rk_err *err)
{
    rk__coded_query prepared;
    rk__heap best = {.items = items, .cap = keep};
    uint32_t rows[64];
    float keys[64];
    void *memory = NULL;

    if (coded->codec.id == RK__CODEC_NONE || *n <= keep || keep == 0) {
        return RK_OK;
    }
    memory = rk_arena_alloc(arena, rk__coded_query_bytes(coded) + 64);
    if (!memory) {
        return rk_fail(err, RK_ENOMEM, "refine: no memory for a query");
    }
    memory = (void *)(((uintptr_t)memory + 63) / 64 * 64);
    if (!rk__coded_query_init(&prepared, coded, space, query, memory)) {
        return RK_OK;
    }
    for (uint32_t i = 0; i < *n; i += 64) { /* places behind the one being read are free */
        uint32_t m = RK_MIN(*n - i, 64u);
        for (uint32_t j = 0; j < m; j++) {
            rows[j] = items[i + j].row;
        }
        rk__coded_keys(&prepared, rows, m, keys);
        for (uint32_t j = 0; j < m; j++) {
            rk__heap_push(&best, keys[j], rows[j]);
        }
    }
    *n = best.n;
    return RK_OK;
}
