/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building inverted lists of codes.
 *
 * Steps: centres from an even sample of the finite rows (kmeans.c); every row to its nearest
 * centre; tables of the codec from the same sample relative to its centres; the codes list by list;
 * the codes of refine_type. Each step runs over the caller's threads and its result does not depend
 * on them. Memory is asked for before each step; what only a step needs is given back after it.
 */
#include <stdatomic.h>

#include "index/ivf/codes.h"
#include "index/kmeans.h"

#define CHUNK        1024u
#define SAMPLE_BYTES ((size_t)256 << 20)
#define ITERATIONS   12u
#define PAIRS_ROWS   64u

typedef struct ivfc_build {
    rk_index *index;
    rk__ivfc *ivf;
    const rk_build_options *options;
    rk__kmeans kmeans;
    float *sample; /* dim floats a row */
    size_t sample_n;
    size_t sample_want;
    uint32_t *list; /* per row; nlist: none */
    _Atomic(bool) out_of_memory;
} ivfc_build;

static float
norm_of(const rk__space *space, size_t row)
{
    return space->inv_norms ? space->inv_norms[row] : 1.0f;
}

static rk_code
check_run(const ivfc_build *b, const char *what, rk_err *err)
{
    if (b->out_of_memory) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory for a row");
    }
    return rk__cancelled(b->options)
               ? rk_fail(err, RK_ECANCELLED, "IVF build cancelled while %s", what)
               : RK_OK;
}

/* ---- shape ---- */

static void
choose_codec(ivfc_build *b, rk__codec_id *id, uint32_t *m, uint32_t *nbits)
{
    rk__kind_id kind = b->index->kind;
    rk_params params = b->options->params;
    uint32_t dim = b->index->space.dim;

    *m = 1;
    *nbits = 4;
    if (kind == RK__KIND_IVF_SQ8) {
        *id = rk__codec_named(rk__build_word(kind, params, "sq_type"));
        return;
    }
    *id = RK__CODEC_PQ;
    if (kind == RK__KIND_SCANN) {
        *m = dim / (uint32_t)RK_MIN(rk__build_int(kind, params, "sub_dim"), (int64_t)dim);
    } else {
        *m = (uint32_t)RK_MIN(rk__build_int(kind, params, "m"), (int64_t)dim);
        *nbits = (uint32_t)rk__build_int(kind, params, "nbits");
    }
}

static rk_code
check_pieces(uint32_t dim, uint32_t m, rk_err *err)
{
    return m > 0 && dim % m == 0
               ? RK_OK
               : rk_fail(err, RK_EINVAL,
                         "The dimension of a vector (dim) should be a multiple of the number of "
                         "subquantizers (m). Dimension: %u, m: %u",
                         dim, m);
}

/* ---- centres ---- */

static rk_code
take_sample(ivfc_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    size_t row_bytes = space->dim * sizeof(float);
    size_t want = (size_t)b->ivf->nlist * (b->ivf->nlist > 256 ? 64 : 256);

    want = RK_MAX(want, (size_t)16384);
    want = RK_MIN(RK_MIN(want, SAMPLE_BYTES / row_bytes + 1), space->rows);
    want = RK_MAX(want, (size_t)b->ivf->nlist);
    RK_RET(rk__index_reserve(b->index, want * row_bytes, "IVF training sample", err));
    b->sample_want = want;
    b->sample = rk_alloc_aligned(64, (want * row_bytes + 63) / 64 * 64 + 64);
    if (!b->sample) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory for a sample of %zu rows", want);
    }
    for (size_t i = 0; i < want; i++) { /* evenly spread over the rows */
        size_t row = (size_t)((double)i * (double)space->rows / (double)want);
        b->sample_n += rk__coded_source(space, rk__space_row(space, row), norm_of(space, row),
                                        b->sample + b->sample_n * space->dim);
    }
    return RK_OK;
}

static rk_code
train_centres(ivfc_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    const rk__kernels *kernels = rk__kernels_get();

    b->ivf->nlist = (uint32_t)RK_MAX(RK_MIN((size_t)b->ivf->nlist, b->sample_n), (size_t)1);
    b->kmeans = (rk__kmeans){
        .rows = b->sample,
        .n = b->sample_n,
        .dim = space->dim,
        .dist = kernels->dense[RK__F32].l2,
        .dist4 = kernels->dense[RK__F32].l2x4,
        .k = b->ivf->nlist,
        .iterations_max = ITERATIONS,
        .options = b->options,
    };
    if (b->sample_n == 0) {
        return RK_OK; /* one list, centre zero */
    }
    return rk__kmeans_run(&b->kmeans, b->ivf->owned[RK__IVFC_CENTRES], err);
}

static void
assign_chunk(void *arg, size_t chunk)
{
    ivfc_build *b = arg;
    const rk__space *space = &b->index->space;
    size_t to = RK_MIN((chunk + 1) * CHUNK, space->rows);
    float *row = rk_alloc((size_t)space->dim * sizeof(float) + 64);

    if (!row) {
        b->out_of_memory = true;
        return;
    }
    for (size_t r = chunk * CHUNK; r < to && !rk__cancelled(b->options); r++) {
        float distance = 0;
        b->list[r] = rk__coded_source(space, rk__space_row(space, r), norm_of(space, r), row)
                         ? rk__kmeans_nearest(&b->kmeans, b->ivf->centres, row, &distance)
                         : b->ivf->nlist;
    }
    rk_free(row);
}

/* Rows in order of their list; those in none at the end. */
static rk_code
group_rows(ivfc_build *b, rk_err *err)
{
    size_t rows = b->index->space.rows;
    uint32_t nlist = b->ivf->nlist;
    uint64_t *offsets = b->ivf->owned[RK__IVFC_OFFSETS];
    uint32_t *out = b->ivf->owned[RK__IVFC_ROWS];
    uint64_t *next = rk_alloc(((size_t)nlist + 2) * sizeof(*next));

    if (!next) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory to group %zu rows", rows);
    }
    memset(next, 0, ((size_t)nlist + 2) * sizeof(*next));
    for (size_t r = 0; r < rows; r++) {
        next[b->list[r] + 1]++;
    }
    for (uint32_t l = 0; l <= nlist; l++) {
        next[l + 1] += next[l];
    }
    memcpy(offsets, next, ((size_t)nlist + 1) * sizeof(*offsets));
    for (size_t r = 0; r < rows; r++) {
        out[next[b->list[r]]++] = (uint32_t)r;
    }
    rk_free(next);
    return RK_OK;
}

static rk_code
assign_rows(ivfc_build *b, rk_err *err)
{
    size_t rows = b->index->space.rows;
    uint64_t bytes = RK_MAX(rows, (size_t)1) * sizeof(*b->list);
    rk_code code = RK_OK;

    RK_RET(rk__index_reserve(b->index, bytes, "IVF lists of rows", err));
    b->list = rk_alloc_zero(1, bytes);
    if (!b->list) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "IVF build: no memory to group %zu rows", rows));
    }
    rk__parallel_run(b->options->parallel, (rows + CHUNK - 1) / CHUNK, assign_chunk, b);
    RK_ERR(check_run(b, "rows were grouped", err));
    RK_ERR(group_rows(b, err));
out:
    rk_free(b->list);
    b->list = NULL;
    rk__index_release(b->index, bytes);
    return code;
}

/* ---- codes ---- */

static rk_code
train_codec(ivfc_build *b, rk__codec_id id, uint32_t m, uint32_t nbits, rk_err *err)
{
    const rk__space *space = &b->index->space;
    rk__codec *codec = &b->ivf->codec;
    size_t n = 0;

    rk__codec_init(codec, id, space->dim, m, nbits, 1, b->sample_n);
    n = RK_MIN(b->sample_n, rk__codec_sample_rows(codec));
    for (size_t i = 0; i < n; i++) { /* evenly out of the larger sample, relative to its centre */
        size_t from = (size_t)((double)i * (double)b->sample_n / (double)n);
        const float *row = b->sample + from * space->dim;
        float *to = b->sample + i * space->dim;
        float distance = 0;
        const float *centre =
            b->ivf->centres +
            (size_t)rk__kmeans_nearest(&b->kmeans, b->ivf->centres, row, &distance) * space->dim;
        for (size_t d = 0; d < space->dim; d++) {
            to[d] = row[d] - centre[d];
        }
    }
    rk__codec_init(codec, id, space->dim, m, nbits, 1, n);
    RK_RET(rk__index_reserve(b->index, codec->tables_n * sizeof(float), "IVF codec", err));
    return rk__codec_train(codec, b->sample, n, b->options, err);
}

static rk_code
reserve_codes(ivfc_build *b, rk_err *err)
{
    rk__ivfc *ivf = b->ivf;
    size_t slot_bytes = ((size_t)ivf->nlist + 1) * sizeof(uint64_t);
    size_t factors = 0;

    ivf->blocks = rk__codec_has_blocks(&ivf->codec);
    ivf->slots = ivf->offsets;
    if (ivf->blocks) {
        RK_RET(rk__index_reserve(b->index, slot_bytes, "IVF lists", err));
        ivf->owned[RK__IVFC_SLOTS] = rk_alloc(slot_bytes);
        if (!ivf->owned[RK__IVFC_SLOTS]) {
            return rk_fail(err, RK_ENOMEM, "IVF build: no memory for %u lists", ivf->nlist);
        }
        rk__ivfc_fill_slots(ivf->offsets, ivf->nlist, ivf->owned[RK__IVFC_SLOTS]);
        ivf->slots = ivf->owned[RK__IVFC_SLOTS];
    }
    factors = (size_t)rk__ivfc_n_slots(ivf) * 2 * sizeof(float);
    RK_RET(rk__index_reserve(b->index, rk__ivfc_code_bytes(ivf) + factors, "IVF codes", err));
    ivf->owned[RK__IVFC_CODES] = rk__alloc_huge(RK_MAX(rk__ivfc_code_bytes(ivf), (size_t)64));
    ivf->owned[RK__IVFC_FACTORS] = rk__alloc_huge(RK_MAX(factors, (size_t)64));
    if (!ivf->owned[RK__IVFC_CODES] || !ivf->owned[RK__IVFC_FACTORS]) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory for codes of %zu bytes",
                       rk__ivfc_code_bytes(ivf));
    }
    memset(ivf->owned[RK__IVFC_CODES], 0, rk__ivfc_code_bytes(ivf));
    ivf->codes = ivf->owned[RK__IVFC_CODES];
    ivf->add = ivf->owned[RK__IVFC_FACTORS];
    ivf->mul = ivf->add + rk__ivfc_n_slots(ivf);
    return RK_OK;
}

/* Codes row |row| into |slot|; |buffer|: two vectors, the codec's scratch, one code. */
static void
encode_row(const ivfc_build *b, const float *centre, uint32_t row, uint64_t slot, float *buffer)
{
    const rk__space *space = &b->index->space;
    const rk__codec *codec = &b->ivf->codec;
    float *decoded = buffer + space->dim;
    float *scratch = decoded + space->dim;
    uint8_t *codes = b->ivf->owned[RK__IVFC_CODES];
    float *add = b->ivf->owned[RK__IVFC_FACTORS];
    uint8_t *code = b->ivf->blocks ? (uint8_t *)(scratch + rk__codec_scratch_floats(codec))
                                   : codes + slot * codec->code_bytes;

    (void)rk__coded_source(space, rk__space_row(space, row), norm_of(space, row), buffer);
    for (size_t i = 0; i < space->dim; i++) {
        buffer[i] -= centre[i];
    }
    rk__codec_encode(codec, buffer, code, scratch);
    rk__codec_decode(codec, code, decoded);
    rk__codec_factors(rk__ivfc_metric(space), buffer, decoded, centre, space->dim, &add[slot],
                      &add[rk__ivfc_n_slots(b->ivf) + slot]);
    if (b->ivf->blocks) {
        rk__codec_place(codec, code, (uint32_t)(slot % 32),
                        codes + slot / 32 * rk__codec_block_bytes(codec));
    }
}

static void
encode_list(void *arg, size_t list)
{
    ivfc_build *b = arg;
    const rk__ivfc *ivf = b->ivf;
    size_t dim = b->index->space.dim;
    uint64_t n = ivf->offsets[list + 1] - ivf->offsets[list];
    float *add = ivf->owned[RK__IVFC_FACTORS];
    float *buffer = rk_alloc((2 * dim + rk__codec_scratch_floats(&ivf->codec)) * sizeof(float) +
                             ivf->codec.code_bytes);

    if (!buffer) {
        b->out_of_memory = true;
        return;
    }
    for (uint64_t i = 0; i < n && !rk__cancelled(b->options); i++) {
        encode_row(b, ivf->centres + list * dim, ivf->rows[ivf->offsets[list] + i],
                   ivf->slots[list] + i, buffer);
    }
    for (uint64_t slot = ivf->slots[list] + n; slot < ivf->slots[list + 1]; slot++) {
        add[slot] = INFINITY;
        add[rk__ivfc_n_slots(ivf) + slot] = 0;
    }
    if (b->options->rows_done) {
        *b->options->rows_done += n;
    }
    rk_free(buffer);
}

/* How far estimates are off, over rows and their neighbours in the list. */
static rk_code
measure_error(ivfc_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    rk__ivfc *ivf = b->ivf;
    size_t step = RK_MAX((size_t)ivf->offsets[ivf->nlist] / PAIRS_ROWS, (size_t)1);
    void *memory = rk_alloc_aligned(64, (rk__ivfc_query_bytes(ivf) + 63) / 64 * 64);
    float *other = rk_alloc(space->dim * sizeof(float));
    double sum = 0;
    size_t n = 0;
    uint32_t list = 0;

    for (uint64_t at = 0; memory && other && at < ivf->offsets[ivf->nlist]; at += step) {
        rk__ivfc_query query;
        float est[32];
        float extra = 0;
        while (at >= ivf->offsets[list + 1]) {
            list++;
        }
        size_t m = (size_t)RK_MIN(ivf->offsets[list + 1] - ivf->offsets[list], (uint64_t)32);
        if (!rk__ivfc_query_init(&query, ivf, space, rk__space_row(space, ivf->rows[at]),
                                 norm_of(space, ivf->rows[at]), memory)) {
            continue;
        }
        rk__ivfc_centre_keys(ivf, space, query.vector, list, 1, &extra);
        (void)rk__ivfc_estimate(ivf, &query, ivf->slots[list], m, extra, INFINITY, est);
        for (size_t i = 0; i < m; i++) {
            uint32_t row = ivf->rows[ivf->offsets[list] + i];
            (void)rk__coded_source(space, rk__space_row(space, row), norm_of(space, row), other);
            float exact =
                rk_distance(RK_VEC_F32, rk__ivfc_metric(space), space->dim, query.vector, other);
            double e = (double)est[i] - (double)(space->metric == RK_METRIC_IP ? -exact : exact);
            sum += e * e;
            n++;
        }
    }
    bool ok = memory && other;
    rk_free(memory);
    rk_free(other);
    ivf->error = n > 0 ? (float)sqrt(sum / (double)n) : 0;
    ivf->error = isfinite(ivf->error) ? ivf->error : 0;
    return ok ? RK_OK : rk_fail(err, RK_ENOMEM, "IVF build: no memory for a query");
}

/* ---- refine ---- */

static rk_code
build_refine(ivfc_build *b, rk_err *err)
{
    rk__kind_id kind = b->index->kind;
    rk_params params = b->options->params;
    rk__coded_shape shape = {.m = 1, .nrq = 1};

    if (kind == RK__KIND_SCANN) {
        b->ivf->refined = rk__build_bool(kind, params, "with_raw_data");
        return RK_OK;
    }
    b->ivf->refined = rk__build_bool(kind, params, "refine");
    shape.id = rk__codec_named(rk__build_word(kind, params, "refine_type"));
    if (!b->ivf->refined || shape.id == RK__CODEC_NONE || shape.id == RK__CODEC_FP32) {
        return RK_OK; /* none, or the vectors themselves */
    }
    return rk__coded_build(&b->ivf->refine, b->index, &shape, b->options, err);
}

static void
seal(rk__ivfc *ivf)
{
    uint32_t word = 0;

    memcpy(&word, &ivf->error, sizeof(word));
    rk_put_u32le(ivf->head, (uint32_t)ivf->codec.id);
    rk_put_u32le(ivf->head + 4, ivf->codec.m);
    rk_put_u32le(ivf->head + 8, ivf->codec.nbits);
    rk_put_u32le(ivf->head + 12, ivf->codec.nrq);
    rk_put_u32le(ivf->head + 16, ivf->nlist);
    rk_put_u32le(ivf->head + 20,
                 (ivf->refined ? 1u : 0) | (ivf->refine.codec.id != RK__CODEC_NONE ? 2u : 0));
    rk_put_u32le(ivf->head + 24, word);
}

static rk_code
reserve_lists(ivfc_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    size_t sizes[3] = {(size_t)b->ivf->nlist * space->dim * sizeof(float),
                       ((size_t)b->ivf->nlist + 1) * sizeof(uint64_t),
                       space->rows * sizeof(uint32_t)};

    RK_RET(rk__index_reserve(b->index, sizes[0] + sizes[1] + sizes[2], "IVF lists", err));
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        b->ivf->owned[i] = rk__alloc_huge(RK_MAX(sizes[i], (size_t)64));
        if (!b->ivf->owned[i]) {
            return rk_fail(err, RK_ENOMEM, "IVF build: no memory for %zu bytes", sizes[i]);
        }
        memset(b->ivf->owned[i], 0, sizes[i]);
    }
    b->ivf->centres = b->ivf->owned[RK__IVFC_CENTRES];
    b->ivf->offsets = b->ivf->owned[RK__IVFC_OFFSETS];
    b->ivf->rows = b->ivf->owned[RK__IVFC_ROWS];
    return RK_OK;
}

rk_code
rk__ivfc_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__ivfc *ivf = rk_alloc_zero(1, sizeof(*ivf));
    ivfc_build b = {.index = index, .ivf = ivf, .options = options};
    int64_t nlist = rk__build_int(index->kind, options->params, "nlist");
    rk__codec_id id = RK__CODEC_NONE;
    uint32_t m = 1;
    uint32_t nbits = 4;
    rk_code code = RK_OK;

    if (!ivf) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory for its header");
    }
    index->impl = ivf;
    choose_codec(&b, &id, &m, &nbits);
    RK_RET(check_pieces(index->space.dim, m, err));
    ivf->nlist = rk__list_count((uint64_t)nlist, index->space.rows);
    RK_RET(rk__index_norms(index, err));
    RK_RET(reserve_lists(&b, err));
    RK_ERR(take_sample(&b, err));
    RK_ERR(train_centres(&b, err));
    RK_ERR(assign_rows(&b, err));
    RK_ERR(train_codec(&b, id, m, nbits, err));
    RK_ERR(reserve_codes(&b, err));
    rk__parallel_run(options->parallel, ivf->nlist, encode_list, &b);
    RK_ERR(check_run(&b, "rows were coded", err));
    RK_ERR(measure_error(&b, err));
    RK_ERR(build_refine(&b, err));
    seal(ivf);
out:
    rk_free(ivf->codec.half); /* only needed to code */
    ivf->codec.half = NULL;
    rk_free(b.sample);
    rk__index_release(index, b.sample_want * index->space.dim * sizeof(float));
    return code;
}
