/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes of the codecs, vectors to codes and back. Layouts of a code, the same on every machine:
 *
 *   SQ8         one signed byte per component, zero past dim, n a multiple of 32
 *   SQ4, SQ4U   n / 64 groups of 32 bytes: component i in the low, i + 32 in the high half
 *   SQ6         n / 64 groups of 48 bytes: low four bits as SQ4, then the two high ones, see
 *               code/codec_math.h
 *   FP16 ...    little-endian components
 *   PQ, PRQ     m * nrq numbers of 4 bits (even ones low), 8 bits or 16 bits little-endian
 */
#include "index/code/codec.h"

#include <strings.h>

static const char *const names[RK__CODECS] = {
    [RK__CODEC_NONE] = "",     [RK__CODEC_SQ4] = "SQ4",   [RK__CODEC_SQ4U] = "SQ4U",
    [RK__CODEC_SQ6] = "SQ6",   [RK__CODEC_SQ8] = "SQ8",   [RK__CODEC_FP16] = "FP16",
    [RK__CODEC_BF16] = "BF16", [RK__CODEC_FP32] = "FP32", [RK__CODEC_PQ] = "PQ",
    [RK__CODEC_PRQ] = "PRQ",
};

rk__codec_id
rk__codec_named(const char *name)
{
    for (size_t i = 1; name && i < RK__CODECS; i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return (rk__codec_id)i;
        }
    }
    return name && strcasecmp(name, "FLAT") == 0 ? RK__CODEC_FP32 : RK__CODEC_NONE;
}

static void
shape_pq(rk__codec *codec, size_t rows)
{
    uint32_t nbits = RK_MIN(codec->nbits, RK__CODEC_NBITS_MAX);

    while (nbits > 1 && ((size_t)1 << nbits) > rows) {
        nbits--;
    }
    codec->nbits = nbits;
    codec->ksub = 1u << nbits;
    codec->kpad = RK_MAX(codec->ksub, 16u);
    codec->width = nbits <= 4 ? 4 : nbits <= 8 ? 8 : 16;
    codec->dsub = codec->dim / codec->m;
    codec->code_bytes = ((size_t)codec->m * codec->nrq * codec->width + 7) / 8;
    codec->tables_n = (size_t)codec->m * codec->nrq * codec->dsub * codec->kpad;
}

void
rk__codec_init(rk__codec *codec, rk__codec_id id, uint32_t dim, uint32_t m, uint32_t nbits,
               uint32_t nrq, size_t rows)
{
    *codec = (rk__codec){.id = id, .dim = dim, .m = 1, .nrq = 1, .n = dim};
    switch (id) {
    case RK__CODEC_SQ4:
    case RK__CODEC_SQ4U:
    case RK__CODEC_SQ6:
        codec->n = ((size_t)dim + 63) / 64 * 64;
        codec->code_bytes = codec->n / 64 * (id == RK__CODEC_SQ6 ? 48 : 32);
        codec->tables_n = (size_t)dim * 2;
        break;
    case RK__CODEC_SQ8:
        codec->n = ((size_t)dim + 31) / 32 * 32;
        codec->code_bytes = codec->n;
        codec->tables_n = (size_t)dim * 2;
        break;
    case RK__CODEC_FP16:
    case RK__CODEC_BF16:
        codec->code_bytes = (size_t)dim * 2;
        break;
    case RK__CODEC_FP32:
        codec->code_bytes = (size_t)dim * 4;
        break;
    case RK__CODEC_PQ:
    case RK__CODEC_PRQ:
        RK_ASSERT(m > 0 && dim % m == 0);
        codec->m = m;
        codec->nbits = nbits;
        codec->nrq = id == RK__CODEC_PRQ ? nrq : 1;
        shape_pq(codec, rows);
        break;
    case RK__CODEC_NONE:
    case RK__CODECS:
        break;
    }
}

void
rk__codec_deinit(rk__codec *codec)
{
    rk_free(codec->owned);
    rk_free(codec->half);
    codec->owned = NULL;
    codec->half = NULL;
    codec->tables = NULL;
}

rk_code
rk__codec_open(rk__codec *codec, const void *tables, uint64_t bytes, rk_err *err)
{
    if (bytes != codec->tables_n * sizeof(float)) {
        return rk_fail(err, RK_ECORRUPT, "codec %s: tables of %llu bytes, its shape needs %zu",
                       names[codec->id], (unsigned long long)bytes,
                       codec->tables_n * sizeof(float));
    }
    codec->tables = tables;
    return RK_OK;
}

rk_code
rk__codec_read(rk__codec *codec, const uint8_t *head, uint32_t dim, rk_err *err)
{
    uint32_t id = rk_get_u32le(head);
    uint32_t m = rk_get_u32le(head + 4);
    uint32_t nbits = rk_get_u32le(head + 8);
    uint32_t nrq = rk_get_u32le(head + 12);
    bool pieces = id == RK__CODEC_PQ || id == RK__CODEC_PRQ;

    if (id == RK__CODEC_NONE || id >= RK__CODECS ||
        (pieces && (m == 0 || m > dim || dim % m != 0 || nbits == 0 ||
                    nbits > RK__CODEC_NBITS_MAX || nrq == 0 || nrq > 16))) {
        return rk_fail(err, RK_ECORRUPT, "codec image: codec %u with m %u, nbits %u, nrq %u", id, m,
                       nbits, nrq);
    }
    rk__codec_init(codec, (rk__codec_id)id, dim, m, nbits, nrq, SIZE_MAX);
    return RK_OK;
}

/* ---- scalar numbers ---- */

static int
sq_levels(const rk__codec *codec)
{
    return codec->id == RK__CODEC_SQ8 ? 255 : codec->id == RK__CODEC_SQ6 ? 63 : 15;
}

static void
encode_sq(const rk__codec *codec, const float *row, uint8_t *code)
{
    const float *low = codec->tables;
    const float *step = codec->tables + codec->dim;
    float levels = (float)sq_levels(codec);

    memset(code, 0, codec->code_bytes);
    for (size_t i = 0; i < codec->dim; i++) {
        float v = step[i] > 0 ? (row[i] - low[i]) / step[i] : 0;
        v = v > 0 ? (v < levels ? v : levels) : 0;
        unsigned c = (unsigned)lrintf(v);
        size_t group = i / 64;
        size_t in = i % 64;
        if (codec->id == RK__CODEC_SQ8) {
            code[i] = (uint8_t)c;
        } else if (codec->id == RK__CODEC_SQ6) {
            code[group * 48 + in % 32] |= (uint8_t)((c & 15) << (in / 32 * 4));
            code[group * 48 + 32 + in % 16] |= (uint8_t)(c >> 4 << (in / 16 * 2));
        } else {
            code[group * 32 + in % 32] |= (uint8_t)(c << (in / 32 * 4));
        }
    }
    /* a byte counts from -128 on, so that it is what the kernels multiply */
    for (size_t i = 0; codec->id == RK__CODEC_SQ8 && i < codec->dim; i++) {
        code[i] ^= 0x80;
    }
}

static unsigned
sq_number(const rk__codec *codec, const uint8_t *code, size_t i)
{
    size_t group = i / 64;
    size_t in = i % 64;

    if (codec->id == RK__CODEC_SQ8) {
        return code[i] ^ 0x80u;
    }
    if (codec->id == RK__CODEC_SQ6) {
        return (unsigned)(code[group * 48 + in % 32] >> (in / 32 * 4) & 15) |
               (unsigned)(code[group * 48 + 32 + in % 16] >> (in / 16 * 2) & 3) << 4;
    }
    return code[group * 32 + in % 32] >> (in / 32 * 4) & 15;
}

/* ---- pieces ---- */

static void
put_number(const rk__codec *codec, uint8_t *code, size_t s, uint32_t number)
{
    if (codec->width == 4) {
        code[s / 2] |= (uint8_t)(number << (s % 2 * 4));
    } else if (codec->width == 8) {
        code[s] = (uint8_t)number;
    } else {
        rk_put_u16le(code + s * 2, (uint16_t)number);
    }
}

static uint32_t
get_number(const rk__codec *codec, const uint8_t *code, size_t s)
{
    uint32_t number = codec->width == 4   ? ((uint32_t)code[s / 2] >> (s % 2 * 4)) & 15u
                      : codec->width == 8 ? code[s]
                                          : rk_get_u16le(code + s * 2);

    return number & (codec->kpad - 1); /* a damaged image stays within the table */
}

static void
encode_pieces(const rk__codec *codec, const float *row, uint8_t *code, float *scratch)
{
    const rk__codec_math *math = rk__codec_math_get();
    size_t table = (size_t)codec->dsub * codec->kpad;
    float *rest = scratch + codec->kpad;

    memset(code, 0, codec->code_bytes);
    for (uint32_t p = 0; p < codec->m; p++) {
        memcpy(rest, row + (size_t)p * codec->dsub, codec->dsub * sizeof(*rest));
        for (uint32_t r = 0; r < codec->nrq; r++) {
            size_t s = (size_t)p * codec->nrq + r;
            const float *centres = codec->tables + s * table;
            uint32_t j = math->nearest(rest, centres, codec->half + s * codec->kpad, codec->dsub,
                                       codec->kpad, scratch);
            put_number(codec, code, s, j);
            for (uint32_t d = 0; r + 1 < codec->nrq && d < codec->dsub; d++) {
                rest[d] -= centres[(size_t)d * codec->kpad + j];
            }
        }
    }
}

static void
decode_pieces(const rk__codec *codec, const uint8_t *code, float *out)
{
    size_t table = (size_t)codec->dsub * codec->kpad;

    memset(out, 0, codec->dim * sizeof(*out));
    for (uint32_t p = 0; p < codec->m; p++) {
        for (uint32_t r = 0; r < codec->nrq; r++) {
            size_t s = (size_t)p * codec->nrq + r;
            const float *centre = codec->tables + s * table + get_number(codec, code, s);
            for (uint32_t d = 0; d < codec->dsub; d++) {
                out[(size_t)p * codec->dsub + d] += centre[(size_t)d * codec->kpad];
            }
        }
    }
}

/* ---- rows ---- */

size_t
rk__codec_scratch_floats(const rk__codec *codec)
{
    return (size_t)codec->kpad + codec->dsub + 16;
}

/* The largest finite number of the type, not infinity, for what lies beyond it. */
static uint16_t
to_half(float v)
{
    return rk_f32_to_f16(v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v);
}

void
rk__codec_encode(const rk__codec *codec, const float *row, uint8_t *code, float *scratch)
{
    switch (codec->id) {
    case RK__CODEC_SQ4:
    case RK__CODEC_SQ4U:
    case RK__CODEC_SQ6:
    case RK__CODEC_SQ8:
        encode_sq(codec, row, code);
        break;
    case RK__CODEC_FP16:
        for (size_t i = 0; i < codec->dim; i++) {
            rk_put_u16le(code + i * 2, to_half(row[i]));
        }
        break;
    case RK__CODEC_BF16:
        for (size_t i = 0; i < codec->dim; i++) {
            rk_put_u16le(code + i * 2, rk_f32_to_bf16(row[i]));
        }
        break;
    case RK__CODEC_FP32:
        memcpy(code, row, codec->code_bytes);
        break;
    case RK__CODEC_PQ:
    case RK__CODEC_PRQ:
        encode_pieces(codec, row, code, scratch);
        break;
    case RK__CODEC_NONE:
    case RK__CODECS:
        break;
    }
}

void
rk__codec_decode(const rk__codec *codec, const uint8_t *code, float *out)
{
    switch (codec->id) {
    case RK__CODEC_SQ4:
    case RK__CODEC_SQ4U:
    case RK__CODEC_SQ6:
    case RK__CODEC_SQ8:
        for (size_t i = 0; i < codec->dim; i++) {
            out[i] =
                codec->tables[i] + codec->tables[codec->dim + i] * (float)sq_number(codec, code, i);
        }
        break;
    case RK__CODEC_FP16:
        rk__row_to_f32(RK_VEC_F16, codec->dim, code, out);
        break;
    case RK__CODEC_BF16:
        rk__row_to_f32(RK_VEC_BF16, codec->dim, code, out);
        break;
    case RK__CODEC_FP32:
        rk__row_to_f32(RK_VEC_F32, codec->dim, code, out);
        break;
    case RK__CODEC_PQ:
    case RK__CODEC_PRQ:
        decode_pieces(codec, code, out);
        break;
    case RK__CODEC_NONE:
    case RK__CODECS:
        break;
    }
}

void
rk__codec_factors(rk_metric metric, const float *row, const float *decoded, const float *centre,
                  uint32_t dim, float *add, float *mul)
{
    double square = 0;
    double along = 0; /* <row, decoded> */
    double shared = 0;
    double stretch = 1;

    for (size_t i = 0; i < dim; i++) {
        double c = centre ? (double)centre[i] : 0;
        square += (double)row[i] * (double)row[i];
        along += (double)row[i] * (double)decoded[i];
        shared += c * (double)decoded[i];
    }
    if (along > 0.25 * square) { /* else the code says little, and stretching it adds noise */
        stretch = square / along;
    }
    if (metric == RK_METRIC_L2) {
        *add = (float)(square + 2 * stretch * shared);
        *mul = (float)(-2 * stretch);
    } else {
        *add = 0;
        *mul = (float)-stretch;
    }
}
