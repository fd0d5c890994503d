/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two codes of a row in a cluster index, see cluster/cluster.h: one-bit codes in blocks of 32,
 * and 8-bit records.
 *
 * block:  padded * 4 bytes of codes (kernel/bits.h), 32 f32 add, 32 f32 mul. An empty place has add
 *         infinite, so that it is never below anything.
 * record: |reduced| signed bytes of z - centre, zeros, and in the last eight bytes f32 add, mul:
 *
 *   L2:  distance is about  key of the list + add + mul * unit * <record, query>
 *   IP:  the same with add 0
 *
 * The rounded difference is what the sums in |add| are made of, so its error meets only the
 * distance of the query to the centre, not the whole query.
 */
#include "index/cluster/cluster.h"

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

void
rk__cluster_block_clear(const rk__cluster_space *space, uint8_t *block)
{
    size_t codes = rk__cluster_codes_bytes(space);
    float *add = (float *)(void *)(block + codes);

    memset(block, 0, codes + 64 * sizeof(float));
    for (size_t i = 0; i < RK__BITS_ROWS; i++) {
        add[i] = INFINITY;
    }
}

static void
make_record(const rk__cluster_space *space, const float *z, const float *centre, float tail,
            int8_t *record)
{
    float most = 0;
    float square = tail;
    float cross = 0;
    float factors[2];

    memset(record, 0, space->record);
    for (size_t i = 0; i < space->reduced; i++) {
        float r = fabsf(z[i] - centre[i]);
        most = r > most ? r : most;
    }
    float scale = most / 127;
    float inverse = scale > 0 ? 1 / scale : 0;
    if (!isfinite(inverse)) {
        inverse = 0;
    }
    for (size_t i = 0; i < space->reduced; i++) {
        float r = z[i] - centre[i];
        int32_t code = (int32_t)(r * inverse + 128.5f) - 128;
        record[i] = (int8_t)code;
        square += r * r;
        cross += scale * (float)code * centre[i];
    }
    factors[0] = space->ip ? 0 : square + 2 * cross;
    factors[1] = space->ip ? -scale : -2 * scale;
    memcpy(record + space->record - sizeof(factors), factors, sizeof(factors));
}

float
rk__cluster_encode(const rk__cluster_space *space, const rk__cluster_point *point,
                   const float *centre_z, const float *centre_bits, uint32_t slot, uint8_t *block,
                   int8_t *record, uint8_t *signs)
{
    rk__dist_fn l2 = rk__kernels_get()->dense[RK__F32].l2;
    size_t codes = rk__cluster_codes_bytes(space);
    float *add = (float *)(void *)(block + codes) + slot;
    float *mul = add + RK__BITS_ROWS;
    float square = l2(point->bits, centre_bits, space->padded);
    float rest = space->ip ? 0
                           : point->tail + l2(point->z + space->head, centre_z + space->head,
                                              space->reduced - space->head);

    rk__bits_encode(space->ip ? RK_METRIC_IP : RK_METRIC_L2, point->bits, centre_bits,
                    space->padded, signs, add, mul);
    *add += rest;
    rk__bits_place(signs, space->padded, slot, block);
    if (record) {
        make_record(space, point->z, centre_z, point->tail, record);
    }
    /* The signs' part that is perpendicular to the row, met by a query in any direction; and the
     * product of what both have outside the head, of which nothing is kept. */
    float f = space->ip ? -*mul : -*mul / 2;
    float across = (float)space->padded - (f > 0 ? square / (f * f) : 0);
    float variance = f * f * RK_MAX(across, 0.0f) / (float)(space->padded - 1);
    if (rest > 0) {
        variance += rest * rest / (square + rest) / (float)RK_MAX(space->dim - space->head, 32u);
    }
    return (space->ip ? 1.0f : 2.0f) * sqrtf(variance);
}

/* ---- queries ---- */

size_t
rk__cluster_query_bytes(const rk__cluster_space *space)
{
    return rk__bits_groups(space->padded) * 16 + up(space->record, 64);
}

void
rk__cluster_query_init(const rk__cluster_space *space, const rk__cluster_point *point, void *memory,
                       rk__cluster_query *query)
{
    float most = 0;

    query->bits.lut = memory;
    query->narrow = (int8_t *)memory + rk__bits_groups(space->padded) * 16;
    rk__bits_query_init(&query->bits, point->bits, space->padded);
    for (size_t i = 0; i < space->reduced; i++) {
        float a = fabsf(point->z[i]);
        most = a > most ? a : most;
    }
    float inverse = most > 0 ? 127.0f / most : 0;
    query->unit = most / 127.0f;
    if (!isfinite(inverse)) {
        inverse = 0;
    }
    for (size_t i = 0; i < space->reduced; i++) {
        query->narrow[i] = (int8_t)((int32_t)(point->z[i] * inverse + 128.5f) - 128);
    }
}

void
rk__cluster_score(const rk__cluster_space *space, const rk__cluster_query *query,
                  const uint8_t *records, const uint32_t *at, size_t n, float *out)
{
    rk__code8x4_fn score = rk__kernels_get()->code8_ipx4;

    for (size_t i = 0; i < n; i += 4) {
        const int8_t *four[4];
        int32_t dots[4];
        for (size_t j = 0; j < 4; j++) {
            size_t which = at[i + j < n ? i + j : n - 1];
            four[j] = (const int8_t *)records + which * space->record;
        }
        score(query->narrow, four, space->reduced, dots);
        for (size_t j = 0; j < 4 && i + j < n; j++) {
            float factors[2];
            memcpy(factors, four[j] + space->record - sizeof(factors), sizeof(factors));
            out[i + j] = factors[0] + factors[1] * (query->unit * (float)dots[j]);
        }
    }
}
