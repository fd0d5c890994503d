/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scalar kernels: the reference the others are tested against, and what CPUs without AVX2 or NEON
 * run. Written to be read: floating sums are kept in double, so a result is the exact one rounded
 * to float for all practical sizes.
 */
#include "index/index_private.h"
#include "index/kernel/kernel.h"

static float
load_f32(const void *p, size_t i)
{
    float v;
    memcpy(&v, (const uint8_t *)p + i * sizeof(v), sizeof(v));
    return v;
}

static float
load_f16(const void *p, size_t i)
{
    return rk_f16_to_f32(rk_get_u16le((const uint8_t *)p + i * 2));
}

static float
load_bf16(const void *p, size_t i)
{
    return rk_bf16_to_f32(rk_get_u16le((const uint8_t *)p + i * 2));
}

#define DEFINE_FLOAT(type)                                                                         \
    static float l2_##type##_scalar(const void *a, const void *b, size_t n)                        \
    {                                                                                              \
        double sum = 0;                                                                            \
        for (size_t i = 0; i < n; i++) {                                                           \
            double d = (double)load_##type(a, i) - (double)load_##type(b, i);                      \
            sum += d * d;                                                                          \
        }                                                                                          \
        return (float)sum;                                                                         \
    }                                                                                              \
    static float ip_##type##_scalar(const void *a, const void *b, size_t n)                        \
    {                                                                                              \
        double sum = 0;                                                                            \
        for (size_t i = 0; i < n; i++) {                                                           \
            sum += (double)load_##type(a, i) * (double)load_##type(b, i);                          \
        }                                                                                          \
        return (float)sum;                                                                         \
    }

DEFINE_FLOAT(f32)
DEFINE_FLOAT(f16)
DEFINE_FLOAT(bf16)

static float
l2_i8_scalar(const void *a, const void *b, size_t n)
{
    const int8_t *x = a;
    const int8_t *y = b;
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t d = (int32_t)x[i] - (int32_t)y[i];
        sum += d * d;
    }
    return (float)sum;
}

static float
ip_i8_scalar(const void *a, const void *b, size_t n)
{
    const int8_t *x = a;
    const int8_t *y = b;
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (int32_t)x[i] * (int32_t)y[i];
    }
    return (float)sum;
}

#define DEFINE_X4(metric, type)                                                                    \
    static void metric##x4_##type##_scalar(const void *q, const void *const rows[4], size_t n,     \
                                           float out[4])                                           \
    {                                                                                              \
        for (size_t r = 0; r < 4; r++) {                                                           \
            out[r] = metric##_##type##_scalar(q, rows[r], n);                                      \
        }                                                                                          \
    }

DEFINE_X4(l2, f32)
DEFINE_X4(ip, f32)
DEFINE_X4(l2, f16)
DEFINE_X4(ip, f16)
DEFINE_X4(l2, bf16)
DEFINE_X4(ip, bf16)
DEFINE_X4(l2, i8)
DEFINE_X4(ip, i8)

static float
hamming_scalar(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    int bits = 0;

    for (size_t i = 0; i < n; i++) {
        bits += __builtin_popcount((unsigned)(x[i] ^ y[i]));
    }
    return (float)bits;
}

static float
jaccard_scalar(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    int both = 0;
    int any = 0;

    for (size_t i = 0; i < n; i++) {
        both += __builtin_popcount((unsigned)(x[i] & y[i]));
        any += __builtin_popcount((unsigned)(x[i] | y[i]));
    }
    return any == 0 ? 1.0f : (float)(any - both) / (float)any;
}

static void
code_l2x4_scalar(const int16_t *query, const int8_t *const rows[4], size_t n, int32_t out[4])
{
    for (size_t r = 0; r < 4; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            int32_t d = (int32_t)query[i] - (int32_t)rows[r][i];
            sum += d * d;
        }
        out[r] = sum;
    }
}

static void
code_ipx4_scalar(const int16_t *query, const int8_t *const rows[4], size_t n, int32_t out[4])
{
    for (size_t r = 0; r < 4; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (int32_t)query[i] * (int32_t)rows[r][i];
        }
        out[r] = sum;
    }
}

static int32_t
code8_ip_scalar(const int8_t *query, const int8_t *row, size_t n)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (int32_t)query[i] * (int32_t)row[i];
    }
    return sum;
}

static void
code8_ipx4_scalar(const int8_t *query, const int8_t *const rows[4], size_t n, int32_t out[4])
{
    for (size_t r = 0; r < 4; r++) {
        out[r] = code8_ip_scalar(query, rows[r], n);
    }
}

static int32_t
nibble_ip_scalar(const int8_t *query, const uint8_t *row, size_t n)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n / 2; i++) {
        size_t low = i / 32 * 64 + i % 32;
        sum += (int32_t)query[low] * (row[i] & 15) + (int32_t)query[low + 32] * (row[i] >> 4);
    }
    return sum;
}

static void
nibble_ipx4_scalar(const int8_t *query, const uint8_t *const rows[4], size_t n, int32_t out[4])
{
    for (size_t r = 0; r < 4; r++) {
        out[r] = nibble_ip_scalar(query, rows[r], n);
    }
}

static uint32_t
scan32_scalar(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
              const float mul[32], float unit, float bias, float extra, float below, float est[32])
{
    uint32_t sums[32] = {0};
    uint32_t mask = 0;

    for (size_t g = 0; g < groups; g++) {
        for (size_t j = 0; j < 16; j++) {
            sums[j] += lut[g * 16 + (block[g * 16 + j] & 15)];
            sums[j + 16] += lut[g * 16 + (block[g * 16 + j] >> 4)];
        }
    }
    for (size_t i = 0; i < 32; i++) {
        est[i] = (mul[i] * (unit * (float)sums[i] + bias) + add[i]) + extra;
        mask |= (uint32_t)(est[i] < below) << i;
    }
    return mask;
}

static void
bits_sums_scalar(const float *row, const float *centre, size_t n, uint8_t *signs, float sums[4])
{
    double sum[4] = {0};

    memset(signs, 0, n / 8);
    for (size_t i = 0; i < n; i++) {
        float r = row[i] - centre[i];
        bool up = r >= 0;
        signs[i / 8] = (uint8_t)(signs[i / 8] | (unsigned)up << (i % 8));
        sum[0] += (double)r * (double)r;
        sum[1] += fabs((double)r);
        sum[2] += up ? (double)centre[i] : -(double)centre[i];
        sum[3] += (double)r * (double)centre[i];
    }
    for (size_t i = 0; i < 4; i++) {
        sums[i] = (float)sum[i];
    }
}

static uint32_t
bits_tables_scalar(const float *query, size_t groups, float scale, uint8_t *lut)
{
    uint32_t total = 0;

    for (size_t g = 0; g < groups; g++) {
        for (size_t m = 0; m < 16; m++) {
            float v = 31.5f;
            for (size_t i = 0; i < 4; i++) {
                float term = query[g * 4 + i] * scale;
                v += m >> i & 1 ? term : -term;
            }
            lut[g * 16 + m] = (uint8_t)lrintf(v);
            total += lut[g * 16 + m];
        }
    }
    return total;
}

static float
bits_span_scalar(const float *query, size_t n)
{
    float span = 0;

    for (size_t i = 0; i < n; i += 4) {
        float sum =
            (fabsf(query[i]) + fabsf(query[i + 1])) + (fabsf(query[i + 2]) + fabsf(query[i + 3]));
        if (!isfinite(sum)) {
            return NAN;
        }
        span = RK_MAX(span, sum);
    }
    return span;
}

static size_t
select_scalar(const uint64_t *words, size_t n, uint32_t base, uint32_t *out)
{
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        for (uint64_t bits = words[i]; bits; bits &= bits - 1) {
            out[found++] = base + (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return found;
}

static uint32_t
test32_scalar(const uint64_t *words, uint32_t n, const uint32_t at[32])
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < 32; i++) {
        uint32_t in = at[i] < n ? at[i] : 0;
        bits |= (uint32_t)(words[in / 64] >> in % 64 & (at[i] < n)) << i;
    }
    return bits;
}

#define RK__ROTATE_NAME rotate_scalar
#define RK__ROTATE_TARGET
#define RK__ROTATE_LANES 4
#include "index/kernel/rotate.h"

const rk__kernels rk__kernels_scalar = {
    .name = "scalar",
    .dense = {[RK__F32] = {l2_f32_scalar, ip_f32_scalar, l2x4_f32_scalar, ipx4_f32_scalar},
              [RK__F16] = {l2_f16_scalar, ip_f16_scalar, l2x4_f16_scalar, ipx4_f16_scalar},
              [RK__BF16] = {l2_bf16_scalar, ip_bf16_scalar, l2x4_bf16_scalar, ipx4_bf16_scalar},
              [RK__I8] = {l2_i8_scalar, ip_i8_scalar, l2x4_i8_scalar, ipx4_i8_scalar}},
    .hamming = hamming_scalar,
    .jaccard = jaccard_scalar,
    .code_l2x4 = code_l2x4_scalar,
    .code_ipx4 = code_ipx4_scalar,
    .code8_ip = code8_ip_scalar,
    .code8_ipx4 = code8_ipx4_scalar,
    .nibble_ip = nibble_ip_scalar,
    .nibble_ipx4 = nibble_ipx4_scalar,
    .scan32 = scan32_scalar,
    .scan32_low = scan32_scalar,
    .bits_sums = bits_sums_scalar,
    .bits_tables = bits_tables_scalar,
    .bits_span = bits_span_scalar,
    .rotate = rotate_scalar,
    .select = select_scalar,
    .test32 = test32_scalar,
};
