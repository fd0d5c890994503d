/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making code sets, see growing/growing.h and growing/growing_private.h.
 *
 * A row costs one rotation, the sums for its bits, and two passes for its record: some microseconds
 * at 768 dimensions. The writer is whoever found rows without codes; it holds nothing but its turn.
 *
 * The centre is the mean of the rows at hand when the first of a chunk are coded. Are they few, the
 * centre of the chunk before serves as well.
 */
#include "index/growing/growing_private.h"

#define SEED        UINT64_C(0x6772306e)
#define CENTRE_ROWS 256u /* a mean is taken of so many */
#define LEVELS      15
#define ACROSS_MIN  0.3f /* of the components: the least error that is assumed of bits */

typedef float quad __attribute__((vector_size(16)));
typedef int32_t quad_ints __attribute__((vector_size(16)));

bool
rk_growing_codable(rk_vector_type type, rk_metric metric, uint32_t dim)
{
    return (type == RK_VEC_F32 || type == RK_VEC_F16 || type == RK_VEC_BF16) &&
           (metric == RK_METRIC_L2 || metric == RK_METRIC_IP || metric == RK_METRIC_COSINE) &&
           dim >= 32 && dim <= 32768;
}

/* ---- memory ---- */

typedef struct parts {
    size_t origin, centre, most, factors, blocks, records, end;
} parts;

static size_t
block_bytes(uint32_t padded)
{
    return rk__bits_block_bytes(padded) + 3 * RK__BITS_ROWS * sizeof(float);
}

static size_t
put(size_t *at, size_t size_bytes)
{
    size_t here = *at;

    *at += (size_bytes + 63) / 64 * 64;
    return here;
}

static parts
parts_of(uint32_t padded, size_t rows)
{
    parts p;

    p.end = 0;
    (void)put(&p.end, sizeof(rk_growing_codes));
    p.origin = put(&p.end, padded * sizeof(float));
    p.centre = put(&p.end, padded * sizeof(float));
    p.most = put(&p.end, rows / RK__BITS_ROWS * sizeof(float));
    p.factors = put(&p.end, rows * sizeof(rk__growing_factors));
    p.blocks = put(&p.end, rows / RK__BITS_ROWS * block_bytes(padded));
    p.records = put(&p.end, rows * (padded / 2));
    return p;
}

uint64_t
rk_growing_codes_bytes(uint32_t dim, size_t rows)
{
    return parts_of(rk__rotation_of(dim, SEED).padded, rows).end;
}

void
rk_growing_codes_free(rk_growing_codes *codes)
{
    rk_free(codes);
}

/* ---- points ---- */

/* out = a - b; all have a multiple of 64 components. */
static void
subtract(const float *restrict a, const float *restrict b, size_t n, float *restrict out)
{
    for (size_t i = 0; i < n; i += 16) {
        for (size_t j = i; j < i + 16; j++) {
            out[j] = a[j] - b[j];
        }
    }
}

/* A row of a float type as f32, times |by|. */
static void
widen(rk_vector_type type, uint32_t dim, const void *row, float by, float *out)
{
    if (type == RK_VEC_F32) {
        memcpy(out, row, dim * sizeof(*out));
    } else {
        rk__row_to_f32(type, dim, row, out);
    }
    for (size_t i = 0; by != 1.0f && i < dim; i++) {
        out[i] *= by;
    }
}

bool
rk__growing_point(const rk_growing_codes *codes, const rk__space *space, const void *vector,
                  float inv_norm, float *wide, float *out)
{
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;

    widen(codes->type, codes->dim, vector, space->metric == RK_METRIC_COSINE ? inv_norm : 1.0f,
          wide);
    if (!isfinite(ip(wide, wide, codes->dim) * 16)) {
        return false;
    }
    rk__rotate(&codes->rotation, wide, out);
    if (codes->metric != RK_METRIC_IP) {
        memcpy(wide, out, codes->rotation.padded * sizeof(*wide));
        subtract(wide, codes->origin, codes->rotation.padded, out);
    }
    return true;
}

/* The mean of a sample of the rows into |centre|, rotated; false: none is finite. */
static bool
mean_of(const rk_growing_codes *codes, const rk__space *space, float *wide, float *centre)
{
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;
    size_t n = RK_MIN(space->rows, (size_t)CENTRE_ROWS);
    size_t used = 0;
    float *sum = wide + codes->rotation.padded;

    memset(sum, 0, codes->dim * sizeof(*sum));
    for (size_t i = 0; i < n; i++) {
        const void *row = rk__space_row(space, i * space->rows / n);
        float inv = space->metric == RK_METRIC_COSINE ? rk__inv_norm(space, row) : 1.0f;
        widen(codes->type, codes->dim, row, inv, wide);
        float square = ip(wide, wide, codes->dim);
        if (!(square < 1e30f)) {
            continue;
        }
        used++;
        for (size_t d = 0; d < codes->dim; d++) {
            sum[d] += wide[d];
        }
    }
    for (size_t d = 0; used > 0 && d < codes->dim; d++) {
        sum[d] /= (float)used;
    }
    rk__rotate(&codes->rotation, sum, centre);
    return used > 0;
}

rk_growing_codes *
rk_growing_codes_new(const rk_vectors *vectors, rk_metric metric, size_t rows,
                     const rk_growing_codes *before)
{
    rk__rotation rotation = rk__rotation_of(vectors->dim, SEED);
    uint32_t padded = rotation.padded;
    parts p = parts_of(padded, rows);
    uint8_t *memory = rk_alloc_aligned(64, p.end);
    float *scratch = rk_alloc_aligned(64, 2 * padded * sizeof(*scratch));
    rk_growing_codes *codes = (rk_growing_codes *)(void *)memory;
    rk__space space;

    RK_ASSERT(vectors->rows > 0 && rows % RK_GROWING_STEP == 0 && (rows & (rows - 1)) == 0);
    if (!memory || !scratch) {
        rk_free(memory);
        rk_free(scratch);
        return NULL;
    }
    *codes = (rk_growing_codes){
        .type = vectors->type,
        .metric = metric,
        .dim = vectors->dim,
        .shift = (unsigned)__builtin_ctzll(rows),
        .rotation = rotation,
        .block_bytes = block_bytes(padded),
        .origin = before ? before->origin : (float *)(void *)(memory + p.origin),
        .centre = (float *)(void *)(memory + p.centre),
        .most = (float *)(void *)(memory + p.most),
        .factors = (rk__growing_factors *)(void *)(memory + p.factors),
        .blocks = memory + p.blocks,
        .records = memory + p.records,
    };
    memset(memory + p.origin, 0, padded * sizeof(float));
    rk__space_init(&space, vectors, metric);
    if (before && vectors->rows < CENTRE_ROWS) {
        memcpy(codes->centre, before->centre, padded * sizeof(float));
    } else if (!mean_of(codes, &space, scratch, codes->centre)) {
        memset(codes->centre, 0, padded * sizeof(float));
    } else if (!before && metric != RK_METRIC_IP) {
        memcpy(memory + p.origin, codes->centre, padded * sizeof(float));
        memset(codes->centre, 0, padded * sizeof(float));
    } else {
        for (size_t i = 0; i < padded; i++) {
            codes->centre[i] -= codes->origin[i];
        }
    }
    rk_free(scratch);
    return codes;
}

/* ---- coding ---- */

/* What a row is coded from and the scratch for it. */
typedef struct coder {
    rk_growing_codes *codes;
    const rk__kernels *kernels;
    float *wide; /* padded, as all that follow */
    float *point;
    float *rest;  /* point - centre */
    float *level; /* rest, rounded to its levels */
    uint8_t *level_of;
    uint8_t *signs;
} coder;

static float
largest(const float *x, size_t n)
{
    quad most[4] = {{0}, {0}, {0}, {0}};
    float out = 0;

    for (size_t i = 0; i < n; i += 16) {
        for (size_t j = 0; j < 4; j++) {
            quad_ints a, b, more;
            memcpy(&a, x + i + 4 * j, sizeof(a));
            a &= INT32_MAX; /* the sign; what is left is in the order of the numbers */
            memcpy(&b, &most[j], sizeof(b));
            more = a > b;
            a = (a & more) | (b & ~more);
            memcpy(&most[j], &a, sizeof(a));
        }
    }
    for (size_t j = 0; j < 16; j++) {
        out = most[j / 4][j % 4] > out ? most[j / 4][j % 4] : out;
    }
    return out;
}

/* x = step * (level - 7.5), about, with level 0..15; |x| is at most 7.5 steps. */
static void
to_levels(const float *x, size_t n, float step, float *rounded, uint8_t *levels)
{
    float inverse = step > 0 ? 1 / step : 0;

    if (!isfinite(inverse)) {
        inverse = 0;
    }
    for (size_t i = 0; i < n; i += 4) {
        quad v;
        memcpy(&v, x + i, sizeof(v));
        quad_ints at = __builtin_convertvector(v * inverse + 8.0f, quad_ints);
        quad back = (__builtin_convertvector(at, quad) - 7.5f) * step;
        memcpy(rounded + i, &back, sizeof(back));
        for (size_t j = 0; j < 4; j++) {
            levels[i + j] = (uint8_t)at[j] & LEVELS;
        }
    }
}

static void
pack(const uint8_t *restrict levels, size_t n, uint8_t *restrict record)
{
    for (size_t i = 0; i < n; i += 64) {
        for (size_t j = 0; j < 32; j++) {
            record[i / 2 + j] = (uint8_t)(levels[i + j] | levels[i + j + 32] << 4);
        }
    }
}

/* The record of c->rest; returns its factors. */
static rk__growing_factors
make_record(const coder *c, float square, float cross, float more, uint8_t *record)
{
    const rk_growing_codes *codes = c->codes;
    const rk__dense_kernels *dense = &c->kernels->dense[RK__F32];
    uint32_t padded = codes->rotation.padded;
    float step = 2 * largest(c->rest, padded) / LEVELS;
    bool ip = codes->metric == RK_METRIC_IP;

    to_levels(c->rest, padded, step, c->level, c->level_of);
    pack(c->level_of, padded, record);
    float error = dense->l2(c->rest, c->level, padded);
    float with = dense->ip(c->level, codes->centre, padded);
    /* an error meets a query in any direction; the query's own rounding is a part of |r| */
    error = sqrtf(RK_MAX(error, square / 144));
    return (rk__growing_factors){
        .add = ip ? with - cross : square + 2 * with + more,
        .mul = ip ? -step : -2 * step,
        .error = (ip ? 1.0f : 2.0f) * error,
    };
}

static void
code_row(const coder *c, const rk__space *space, size_t row)
{
    rk_growing_codes *codes = c->codes;
    uint32_t padded = codes->rotation.padded;
    uint32_t slot = row % RK__BITS_ROWS;
    uint8_t *block = codes->blocks + row / RK__BITS_ROWS * codes->block_bytes;
    float *add = (float *)(void *)(block + rk__bits_block_bytes(padded)) + slot;
    float *mul = add + RK__BITS_ROWS;
    float *error = mul + RK__BITS_ROWS;
    uint8_t *record = codes->records + row * (padded / 2);
    const void *vector = rk__space_row(space, row);
    bool cosine = codes->metric == RK_METRIC_COSINE;
    bool ip = codes->metric == RK_METRIC_IP;
    float inv = cosine ? rk__inv_norm(space, vector) : 1.0f;
    float more = cosine && !(inv > 0) ? 1.0f : 0.0f; /* a zero row's similarity is 0 */
    float sums[4] = {NAN, 0, 0, 0};                  /* as rk__bits_sums_fn says */

    if (rk__growing_point(codes, space, vector, inv, c->wide, c->point)) {
        subtract(c->point, codes->centre, padded, c->rest);
        c->kernels->bits_sums(c->point, codes->centre, padded, c->signs, sums);
    }
    if (!isfinite(sums[0] * 16)) {
        *add = -INFINITY;
        *mul = 0;
        *error = 0;
        memset(c->signs, 0, padded / 8);
        memset(record, 0, padded / 2);
        codes->factors[row] = (rk__growing_factors){.add = -INFINITY};
    } else {
        float f = sums[1] > 0 ? sums[0] / sums[1] : 0.0f;
        float across = f > 0 ? (float)padded - sums[0] / (f * f) : 0;
        across = RK_MAX(across, ACROSS_MIN * (float)padded);
        *add = ip ? f * sums[2] - sums[3] : sums[0] + 2 * f * sums[2] + more;
        *mul = ip ? -f : -2 * f;
        *error = -*mul * sqrtf(across / (float)(padded - 1));
        codes->factors[row] = make_record(c, sums[0], sums[3], more, record);
    }
    rk__bits_place(c->signs, padded, slot, block);
    float *most = &codes->most[row / RK__BITS_ROWS];
    *most = slot == 0 ? *error : RK_MAX(*most, *error);
}

rk_code
rk_growing_codes_add(rk_growing_codes *codes, const void *vectors, size_t from, size_t to)
{
    uint32_t padded = codes->rotation.padded;
    float *scratch = rk_alloc_aligned(64, (size_t)padded * (4 * sizeof(float) + 2) + 64);
    rk_vectors all = {codes->type, codes->dim, to, vectors, NULL};
    rk__space space;

    RK_ASSERT(from % RK_GROWING_STEP == 0 && to % RK_GROWING_STEP == 0 && to >> codes->shift <= 1);
    if (!scratch) {
        return RK_ENOMEM;
    }
    coder c = {.codes = codes,
               .kernels = rk__kernels_get(),
               .wide = scratch,
               .point = scratch + padded,
               .rest = scratch + 2 * (size_t)padded,
               .level = scratch + 3 * (size_t)padded,
               .level_of = (uint8_t *)(scratch + 4 * (size_t)padded)};
    c.signs = c.level_of + padded;
    rk__space_init(&space, &all, codes->metric);
    for (size_t row = from; row < to; row++) {
        code_row(&c, &space, row);
    }
    rk_free(scratch);
    return RK_OK;
}
