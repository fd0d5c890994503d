/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of a query with codes.
 *
 * Scalar numbers: the query times the steps, as integers, against the numbers themselves by the
 * integer kernels. Eight and six bits meet a query of 16 bits, six of them unpacked four rows at a
 * time into a buffer that stays in the first cache; four bits meet one of 8 bits, whose error is
 * far below theirs, and are read as they lie. Halves and floats: the kernels of those types.
 * Pieces: a table of the products of the query's pieces with all centres, then one look-up per
 * number; 4-bit numbers in blocks of 32 rows go through scan32 with the tables as bytes.
 */
#include "index/code/codec.h"

#define BLOCK_GROUPS_MAX 8192u /* of scan32 */

static bool
is_sq(const rk__codec *codec)
{
    return codec->id >= RK__CODEC_SQ4 && codec->id <= RK__CODEC_SQ8;
}

static bool
is_pieces(const rk__codec *codec)
{
    return codec->id == RK__CODEC_PQ || codec->id == RK__CODEC_PRQ;
}

static size_t
round64(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* ---- query ---- */

size_t
rk__codec_query_bytes(const rk__codec *codec)
{
    if (is_sq(codec)) {
        return round64(codec->n * sizeof(int16_t)) + 4 * round64(codec->n);
    }
    if (is_pieces(codec)) {
        return (size_t)codec->m * codec->nrq * codec->kpad * sizeof(float);
    }
    return round64(codec->code_bytes);
}

static bool
is_nibbles(const rk__codec *codec)
{
    return codec->id == RK__CODEC_SQ4 || codec->id == RK__CODEC_SQ4U;
}

static bool
init_sq(rk__codec_query *out, const float *query, void *memory)
{
    const rk__codec *codec = out->codec;
    const float *low = codec->tables;
    const float *step = codec->tables + codec->dim;
    float offset = codec->id == RK__CODEC_SQ8 ? 128.0f : 0.0f;
    double fits = RK_MIN(2147483647.0 / (128.0 * (double)codec->n), 16000.0);
    float limit = is_nibbles(codec) ? 127.0f : (float)fits;
    float largest = 0;
    double bias = 0;

    out->q16 = memory;
    out->q8 = memory;
    out->unpacked = (int8_t *)memory + round64(codec->n * sizeof(int16_t));
    memset(memory, 0, codec->n * sizeof(int16_t));
    for (size_t i = 0; i < codec->dim; i++) {
        float v = fabsf(query[i] * step[i]);
        largest = v > largest ? v : largest;
        bias += (double)query[i] * ((double)low[i] + (double)offset * (double)step[i]);
    }
    out->bias = (float)bias;
    out->unit = largest / limit;
    float inverse = largest > 0 ? limit / largest : 0;
    if (!isfinite(out->bias) || !isfinite(out->unit) || !isfinite(inverse)) {
        return false;
    }
    for (size_t i = 0; i < codec->dim; i++) {
        float v = query[i] * step[i] * inverse;
        long number = lrintf(v > limit ? limit : v < -limit ? -limit : v);
        if (is_nibbles(codec)) {
            out->q8[i] = (int8_t)number;
        } else {
            out->q16[i] = (int16_t)number;
        }
    }
    return true;
}

static void
init_pieces(rk__codec_query *out, const float *query, void *memory)
{
    const rk__codec *codec = out->codec;
    size_t table = (size_t)codec->dsub * codec->kpad;

    out->lut = memory;
    for (uint32_t p = 0; p < codec->m; p++) {
        for (uint32_t r = 0; r < codec->nrq; r++) {
            size_t s = (size_t)p * codec->nrq + r;
            out->math->dots(query + (size_t)p * codec->dsub, codec->tables + s * table, codec->dsub,
                            codec->kpad, out->lut + s * codec->kpad);
        }
    }
}

bool
rk__codec_query_init(rk__codec_query *out, const rk__codec *codec, const float *query, void *memory)
{
    uint8_t *bytes = memory;

    *out = (rk__codec_query){.codec = codec, .math = rk__codec_math_get()};
    for (size_t i = 0; i < codec->dim; i++) {
        if (!isfinite(query[i])) {
            return false;
        }
    }
    if (is_sq(codec)) {
        return init_sq(out, query, memory);
    }
    if (is_pieces(codec)) {
        init_pieces(out, query, memory);
        return true;
    }
    rk__codec_encode(codec, query, bytes, NULL);
    out->plain = bytes;
    return true;
}

/* ---- products ---- */

static inline const uint8_t *
code_at(const rk__codec *codec, const uint8_t *codes, const uint32_t *at, size_t i)
{
    return codes + (at ? (size_t)at[i] : i) * codec->code_bytes;
}

static void
prefetch_codes(const rk__codec *codec, const uint8_t *codes, const uint32_t *at, size_t from,
               size_t n)
{
    size_t lines = RK_MIN(codec->code_bytes, (size_t)512);

    for (size_t i = from; at && i < n && i < from + 4; i++) {
        rk__fetch(code_at(codec, codes, at, i), lines);
    }
}

/* Four codes, the last one again for those past |m|. */
static void
take_four(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at, size_t i,
          size_t m, const uint8_t *four[4])
{
    const rk__codec *codec = query->codec;
    size_t stride = round64(codec->n);

    for (size_t j = 0; j < 4; j++) {
        const uint8_t *code = code_at(codec, codes, at, i + RK_MIN(j, m - 1));
        four[j] = code;
        if (codec->id == RK__CODEC_SQ6) {
            query->math->unpack6(code, codec->n, query->unpacked + j * stride);
            four[j] = (const uint8_t *)query->unpacked + j * stride;
        }
    }
}

static void
dots_sq(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at, size_t n,
        float *out)
{
    const rk__codec *codec = query->codec;
    const rk__kernels *kernels = rk__kernels_get();
    bool nibbles = is_nibbles(codec);

    for (size_t i = 0; i < n; i += 4) {
        const uint8_t *four[4];
        int32_t product[4];
        size_t m = RK_MIN(n - i, (size_t)4);
        prefetch_codes(codec, codes, at, i + 4, n);
        take_four(query, codes, at, i, m, four);
        if (nibbles) {
            kernels->nibble_ipx4(query->q8, four, codec->n, product);
        } else {
            const int8_t *rows[4] = {(const int8_t *)four[0], (const int8_t *)four[1],
                                     (const int8_t *)four[2], (const int8_t *)four[3]};
            kernels->code_ipx4(query->q16, rows, codec->n, product);
        }
        for (size_t j = 0; j < m; j++) {
            out[i + j] = query->bias + query->unit * (float)product[j];
        }
    }
}

static void
dots_plain(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at, size_t n,
           float *out)
{
    const rk__codec *codec = query->codec;
    rk__dense_slot slot = codec->id == RK__CODEC_FP16   ? RK__F16
                          : codec->id == RK__CODEC_BF16 ? RK__BF16
                                                        : RK__F32;
    rk__dist4_fn ip = rk__kernels_get()->dense[slot].ipx4;

    for (size_t i = 0; i < n; i += 4) {
        const void *four[4];
        float product[4];
        size_t m = RK_MIN(n - i, (size_t)4);
        prefetch_codes(codec, codes, at, i + 4, n);
        for (size_t j = 0; j < 4; j++) {
            four[j] = code_at(codec, codes, at, i + RK_MIN(j, m - 1));
        }
        ip(query->plain, four, codec->dim, product);
        memcpy(out + i, product, m * sizeof(*product));
    }
}

static float
sum4(const rk__codec *codec, const float *lut, const uint8_t *code)
{
    size_t pieces = (size_t)codec->m * codec->nrq;
    float a = 0;
    float b = 0;

    for (size_t s = 0; s + 2 <= pieces; s += 2) { /* kpad is 16 */
        a += lut[s * 16 + (code[s / 2] & 15)];
        b += lut[(s + 1) * 16 + (code[s / 2] >> 4)];
    }
    return pieces % 2 ? a + b + lut[(pieces - 1) * 16 + (code[pieces / 2] & 15)] : a + b;
}

static float
sum8(const rk__codec *codec, const float *lut, const uint8_t *code)
{
    size_t pieces = (size_t)codec->m * codec->nrq;
    size_t kpad = codec->kpad;
    uint32_t mask = codec->kpad - 1;
    float sum[4] = {0};
    size_t s = 0;

    for (; s + 4 <= pieces; s += 4) {
        sum[0] += lut[s * kpad + (code[s] & mask)];
        sum[1] += lut[(s + 1) * kpad + (code[s + 1] & mask)];
        sum[2] += lut[(s + 2) * kpad + (code[s + 2] & mask)];
        sum[3] += lut[(s + 3) * kpad + (code[s + 3] & mask)];
    }
    for (; s < pieces; s++) {
        sum[0] += lut[s * kpad + (code[s] & mask)];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static float
sum16(const rk__codec *codec, const float *lut, const uint8_t *code)
{
    size_t pieces = (size_t)codec->m * codec->nrq;
    uint32_t mask = codec->kpad - 1;
    float sum = 0;

    for (size_t s = 0; s < pieces; s++) {
        sum += lut[s * codec->kpad + (rk_get_u16le(code + s * 2) & mask)];
    }
    return sum;
}

static void
dots_pieces(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at, size_t n,
            float *out)
{
    const rk__codec *codec = query->codec;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = code_at(codec, codes, at, i);
        if (i % 4 == 0) {
            prefetch_codes(codec, codes, at, i + 4, n);
        }
        out[i] = codec->width == 4   ? sum4(codec, query->lut, code)
                 : codec->width == 8 ? sum8(codec, query->lut, code)
                                     : sum16(codec, query->lut, code);
    }
}

void
rk__codec_dots(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at, size_t n,
               float *out)
{
    if (is_sq(query->codec)) {
        dots_sq(query, codes, at, n, out);
    } else if (is_pieces(query->codec)) {
        dots_pieces(query, codes, at, n, out);
    } else {
        dots_plain(query, codes, at, n, out);
    }
}

/* ---- blocks ---- */

bool
rk__codec_has_blocks(const rk__codec *codec)
{
    return is_pieces(codec) && codec->width == 4 && rk__codec_groups(codec) <= BLOCK_GROUPS_MAX;
}

size_t
rk__codec_groups(const rk__codec *codec)
{
    return ((size_t)codec->m * codec->nrq + 15) / 16 * 16;
}

void
rk__codec_place(const rk__codec *codec, const uint8_t *code, uint32_t slot, uint8_t *block)
{
    size_t pieces = (size_t)codec->m * codec->nrq;

    for (size_t s = 0; s < pieces; s++) {
        uint32_t number = ((uint32_t)code[s / 2] >> (s % 2 * 4)) & 15u;
        block[s * 16 + slot % 16] |= (uint8_t)(number << (slot / 16 * 4));
    }
}

void
rk__codec_block_lut(const rk__codec_query *query, uint8_t *lut, float *unit, float *bias)
{
    const rk__codec *codec = query->codec;
    size_t pieces = (size_t)codec->m * codec->nrq;
    float span = 0;
    double base = 0;

    for (size_t s = 0; s < pieces; s++) {
        const float *from = query->lut + s * 16;
        float low = from[0];
        float high = from[0];
        for (size_t j = 1; j < codec->ksub; j++) {
            low = RK_MIN(low, from[j]);
            high = RK_MAX(high, from[j]);
        }
        span = RK_MAX(span, high - low);
        base += (double)low;
    }
    *unit = span / 255.0f;
    *bias = (float)base;
    float inverse = span > 0 ? 255.0f / span : 0;
    memset(lut, 0, rk__codec_groups(codec) * 16);
    for (size_t s = 0; s < pieces && isfinite(inverse); s++) {
        const float *from = query->lut + s * 16;
        float low = from[0];
        for (size_t j = 1; j < codec->ksub; j++) {
            low = RK_MIN(low, from[j]);
        }
        for (size_t j = 0; j < codec->ksub; j++) {
            float v = (from[j] - low) * inverse;
            lut[s * 16 + j] = (uint8_t)lrintf(v > 0 ? (v < 255 ? v : 255) : 0);
        }
    }
}
