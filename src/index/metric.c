/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics, row sizes, and scoring of dense rows: the one place that turns a kernel's number into a
 * score. Growing, exact and graph search all come through here, so that one pair of rows has one
 * score.
 */
#include <strings.h>

#include "index/index_private.h"

static const char *const metric_names[] = {
    [RK_METRIC_NONE] = "",
    [RK_METRIC_L2] = "L2",
    [RK_METRIC_IP] = "IP",
    [RK_METRIC_COSINE] = "COSINE",
    [RK_METRIC_HAMMING] = "HAMMING",
    [RK_METRIC_JACCARD] = "JACCARD",
    [RK_METRIC_SUBSTRUCTURE] = "SUBSTRUCTURE",
    [RK_METRIC_SUPERSTRUCTURE] = "SUPERSTRUCTURE",
    [RK_METRIC_MHJACCARD] = "MHJACCARD",
};

const char *
rk_metric_name(rk_metric metric)
{
    return (size_t)metric < RK_COUNT(metric_names) ? metric_names[metric] : "";
}

bool
rk_metric_parse(rk_str name, rk_metric *out)
{
    for (size_t i = 1; i < RK_COUNT(metric_names); i++) {
        if (name.len == strlen(metric_names[i]) &&
            strncasecmp(name.data, metric_names[i], name.len) == 0) {
            *out = (rk_metric)i;
            return true;
        }
    }
    *out = RK_METRIC_NONE;
    return false;
}

size_t
rk_vector_bytes(rk_vector_type type, uint32_t dim)
{
    switch (type) {
    case RK_VEC_BINARY:
        return dim / 8;
    case RK_VEC_F32:
        return (size_t)dim * 4;
    case RK_VEC_F16:
    case RK_VEC_BF16:
        return (size_t)dim * 2;
    case RK_VEC_I8:
        return dim;
    case RK_VEC_SPARSE:
        break;
    }
    return 0;
}

/* 0 when every bit of |small| is set in |large|, NaN, which wins no place, otherwise. */
static float
subset(const uint8_t *small, const uint8_t *large, size_t n)
{
    uint32_t outside = 0;

    for (size_t i = 0; i < n && !outside; i++) {
        outside = (uint32_t)small[i] & ~(uint32_t)large[i];
    }
    return outside ? NAN : 0;
}

static float
substructure(const void *query, const void *row, size_t n)
{
    return subset(query, row, n);
}

static float
superstructure(const void *query, const void *row, size_t n)
{
    return subset(row, query, n);
}

static rk__dist_fn
bit_distance(rk_metric metric)
{
    return metric == RK_METRIC_JACCARD          ? rk__kernels_get()->jaccard
           : metric == RK_METRIC_SUBSTRUCTURE   ? substructure
           : metric == RK_METRIC_SUPERSTRUCTURE ? superstructure
                                                : rk__kernels_get()->hamming;
}

void
rk__space_init(rk__space *space, const rk_vectors *vectors, rk_metric metric)
{
    const rk__kernels *kernels = rk__kernels_get();
    const rk__dense_kernels *dense = &kernels->dense[rk__dense_slot_of(vectors->type)];

    *space = (rk__space){
        .type = vectors->type,
        .metric = metric,
        .dim = vectors->dim,
        .row_bytes = rk_vector_bytes(vectors->type, vectors->dim),
        .rows = vectors->rows,
        .data = vectors->data,
        .dist_n = vectors->dim,
    };
    if (vectors->type == RK_VEC_BINARY) {
        space->dist = bit_distance(metric);
        space->dist_n = space->row_bytes;
    } else {
        space->dist = metric == RK_METRIC_L2 ? dense->l2 : dense->ip;
        space->dist4 = metric == RK_METRIC_L2 ? dense->l2x4 : dense->ipx4;
        space->self_ip = dense->ip;
    }
}

float
rk__inv_norm(const rk__space *space, const void *row)
{
    float square = space->self_ip(row, row, space->dist_n);

    return square > 0 ? 1.0f / sqrtf(square) : 0.0f;
}

void
rk__keys(const rk__space *space, const rk__query *query, const uint32_t *rows, size_t n,
         float *keys)
{
    size_t i = 0;

    if (space->dist4) {
        const size_t lines = RK_MIN(space->row_bytes, (size_t)512);
        for (; i + 4 <= n; i += 4) {
            const void *const four[4] = {
                rk__space_row(space, rows[i]), rk__space_row(space, rows[i + 1]),
                rk__space_row(space, rows[i + 2]), rk__space_row(space, rows[i + 3])};
            float dist[4];
            for (size_t next = i + 4; next < n && next < i + 8; next++) {
                const char *at = rk__space_row(space, rows[next]);
                for (size_t b = 0; b < lines; b += 64) {
                    __builtin_prefetch(at + b);
                }
            }
            space->dist4(query->data, four, space->dist_n, dist);
            for (size_t j = 0; j < 4; j++) {
                keys[i + j] = rk__key_of(space, query, dist[j], rows[i + j]);
            }
        }
    }
    for (; i < n; i++) {
        keys[i] = rk__key(space, query, rows[i]);
    }
}

void
rk__row_to_f32(rk_vector_type type, uint32_t dim, const void *row, float *out)
{
    const uint8_t *p = row;

    for (size_t i = 0; i < dim; i++) {
        switch (type) {
        case RK_VEC_F32:
            memcpy(&out[i], p + i * 4, 4);
            break;
        case RK_VEC_F16:
            out[i] = rk_f16_to_f32(rk_get_u16le(p + i * 2));
            break;
        case RK_VEC_BF16:
            out[i] = rk_bf16_to_f32(rk_get_u16le(p + i * 2));
            break;
        case RK_VEC_I8:
            out[i] = (float)(int8_t)p[i];
            break;
        case RK_VEC_BINARY:
        case RK_VEC_SPARSE:
            out[i] = 0;
            break;
        }
    }
}

float
rk_distance(rk_vector_type type, rk_metric metric, uint32_t dim, const void *a, const void *b)
{
    const rk__dense_kernels *k = &rk__kernels_scalar.dense[rk__dense_slot_of(type)];
    size_t bytes = rk_vector_bytes(type, dim);

    switch (metric) {
    case RK_METRIC_L2:
        return k->l2(a, b, dim);
    case RK_METRIC_IP:
        return k->ip(a, b, dim);
    case RK_METRIC_COSINE: {
        float aa = k->ip(a, a, dim);
        float bb = k->ip(b, b, dim);
        return rk__cosine(k->ip(a, b, dim), bb > 0 ? 1.0f / sqrtf(bb) : 0.0f,
                          aa > 0 ? 1.0f / sqrtf(aa) : 0.0f);
    }
    case RK_METRIC_HAMMING:
        return rk__kernels_scalar.hamming(a, b, bytes);
    case RK_METRIC_JACCARD:
        return rk__kernels_scalar.jaccard(a, b, bytes);
    case RK_METRIC_SUBSTRUCTURE:
        return substructure(a, b, bytes);
    case RK_METRIC_SUPERSTRUCTURE:
        return superstructure(a, b, bytes);
    case RK_METRIC_MHJACCARD: /* needs the width of a hash, see minhash.c */
    case RK_METRIC_NONE:
        break;
    }
    return NAN;
}

rk__range
rk__range_of(rk_metric metric, const rk_search_options *options)
{
    return (rk__range){
        .on = options->range,
        .has_lower = options->has_range_filter,
        .larger = rk_metric_larger_is_nearer(metric),
        .radius = options->radius,
        .filter = options->range_filter,
    };
}

void
rk__heap_to_hits(rk__heap *heap, rk_metric metric, rk_hit *hits, uint32_t *n)
{
    bool larger = rk_metric_larger_is_nearer(metric);

    rk__heap_sort(heap);
    for (uint32_t i = 0; i < heap->n; i++) {
        hits[i] = (rk_hit){.score = larger ? -heap->items[i].key : heap->items[i].key,
                           .row = heap->items[i].row};
    }
    *n = heap->n;
}
