/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NEON kernels, for every 64-bit ARM. Four accumulators of four lanes per row; components left over
 * go into the first, and what does not fill a register is copied into a zeroed one, so that no byte
 * past the row is touched. The four-row forms do, row by row, the steps of the one-row forms. Half
 * precision is widened on load, bfloat16 by a shift.
 *
 * Two tables: "neon" is plain ARMv8.0; "neondot" has the 8-bit dot products of ARMv8.2 (sdot,
 * udot), and kernel/kernel.c offers it where the system says that the CPU has them.
 */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "index/index_private.h"

static inline float32x4_t
load_f32(const void *p, size_t i)
{
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p + i * 4));
}

static inline float32x4_t
load_f16(const void *p, size_t i)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)p + i * 2)));
}

static inline float32x4_t
load_bf16(const void *p, size_t i)
{
    uint16x4_t h = vreinterpret_u16_u8(vld1_u8((const uint8_t *)p + i * 2));
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(h), 16));
}

#define DEFINE_TAIL(type, bytes)                                                                   \
    static inline float32x4_t tail_##type(const void *p, size_t i, size_t left)                    \
    {                                                                                              \
        uint8_t copy[16] = {0};                                                                    \
        memcpy(copy, (const uint8_t *)p + i * (bytes), left * (bytes));                            \
        return load_##type(copy, 0);                                                               \
    }

DEFINE_TAIL(f32, 4)
DEFINE_TAIL(f16, 2)
DEFINE_TAIL(bf16, 2)

static inline float32x4_t
step_l2(float32x4_t q, float32x4_t r, float32x4_t acc)
{
    float32x4_t d = vsubq_f32(q, r);
    return vfmaq_f32(acc, d, d);
}

static inline float32x4_t
step_ip(float32x4_t q, float32x4_t r, float32x4_t acc)
{
    return vfmaq_f32(acc, q, r);
}

static inline float
reduce(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d)
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
}

/* Sixteen components of row |r| against those of the query in q0..q3. */
#define STEP_ROW(metric, type, r, x, y, z, w)                                                      \
    do {                                                                                           \
        (x) = step_##metric(q0, load_##type(r, i), x);                                             \
        (y) = step_##metric(q1, load_##type(r, i + 4), y);                                         \
        (z) = step_##metric(q2, load_##type(r, i + 8), z);                                         \
        (w) = step_##metric(q3, load_##type(r, i + 12), w);                                        \
    } while (0)

#define DEFINE_FLOAT(metric, type)                                                                 \
    static float metric##_##type##_neon(const void *a, const void *b, size_t n)                    \
    {                                                                                              \
        float32x4_t x = vdupq_n_f32(0), y = x, z = x, w = x;                                       \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            float32x4_t q0 = load_##type(a, i), q1 = load_##type(a, i + 4);                        \
            float32x4_t q2 = load_##type(a, i + 8), q3 = load_##type(a, i + 12);                   \
            STEP_ROW(metric, type, b, x, y, z, w);                                                 \
        }                                                                                          \
        for (; i + 4 <= n; i += 4) {                                                               \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
        }                                                                                          \
        if (i < n) {                                                                               \
            y = step_##metric(tail_##type(a, i, n - i), tail_##type(b, i, n - i), y);              \
        }                                                                                          \
        return reduce(x, y, z, w);                                                                 \
    }                                                                                              \
    static void metric##x4_##type##_neon(const void *query, const void *const rows[4], size_t n,   \
                                         float out[4])                                             \
    {                                                                                              \
        const void *r0 = rows[0];                                                                  \
        const void *r1 = rows[1];                                                                  \
        const void *r2 = rows[2];                                                                  \
        const void *r3 = rows[3];                                                                  \
        float32x4_t x0 = vdupq_n_f32(0), x1 = x0, x2 = x0, x3 = x0;                                \
        float32x4_t y0 = x0, y1 = x0, y2 = x0, y3 = x0;                                            \
        float32x4_t z0 = x0, z1 = x0, z2 = x0, z3 = x0;                                            \
        float32x4_t w0 = x0, w1 = x0, w2 = x0, w3 = x0;                                            \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            float32x4_t q0 = load_##type(query, i), q1 = load_##type(query, i + 4);                \
            float32x4_t q2 = load_##type(query, i + 8), q3 = load_##type(query, i + 12);           \
            STEP_ROW(metric, type, r0, x0, y0, z0, w0);                                            \
            STEP_ROW(metric, type, r1, x1, y1, z1, w1);                                            \
            STEP_ROW(metric, type, r2, x2, y2, z2, w2);                                            \
            STEP_ROW(metric, type, r3, x3, y3, z3, w3);                                            \
        }                                                                                          \
        for (; i + 4 <= n; i += 4) {                                                               \
            float32x4_t q = load_##type(query, i);                                                 \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
        }                                                                                          \
        if (i < n) {                                                                               \
            float32x4_t q = tail_##type(query, i, n - i);                                          \
            y0 = step_##metric(q, tail_##type(r0, i, n - i), y0);                                  \
            y1 = step_##metric(q, tail_##type(r1, i, n - i), y1);                                  \
            y2 = step_##metric(q, tail_##type(r2, i, n - i), y2);                                  \
            y3 = step_##metric(q, tail_##type(r3, i, n - i), y3);                                  \
        }                                                                                          \
        out[0] = reduce(x0, y0, z0, w0);                                                           \
        out[1] = reduce(x1, y1, z1, w1);                                                           \
        out[2] = reduce(x2, y2, z2, w2);                                                           \
        out[3] = reduce(x3, y3, z3, w3);                                                           \
    }

DEFINE_FLOAT(l2, f32)
DEFINE_FLOAT(ip, f32)
DEFINE_FLOAT(l2, f16)
DEFINE_FLOAT(ip, f16)
DEFINE_FLOAT(l2, bf16)
DEFINE_FLOAT(ip, bf16)

/* ---- 8-bit integers ---- */

static inline int32x4_t
istep_l2_neon(int8x16_t q, int8x16_t r, int32x4_t acc)
{
    int16x8_t low = vsubl_s8(vget_low_s8(q), vget_low_s8(r));
    int16x8_t high = vsubl_high_s8(q, r);
    acc = vmlal_s16(acc, vget_low_s16(low), vget_low_s16(low));
    acc = vmlal_high_s16(acc, low, low);
    acc = vmlal_s16(acc, vget_low_s16(high), vget_low_s16(high));
    return vmlal_high_s16(acc, high, high);
}

static inline int32x4_t
istep_ip_neon(int8x16_t q, int8x16_t r, int32x4_t acc)
{
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(q), vget_low_s8(r)));
    return vpadalq_s16(acc, vmull_high_s8(q, r));
}

#if defined(__clang__)
#define TARGET_DOT __attribute__((target("dotprod")))
#else
#define TARGET_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
/* In assembly because a compiler set to ARMv8.0 hides the names of these two instructions. */
static inline TARGET_DOT int32x4_t
istep_l2_neondot(int8x16_t q, int8x16_t r, int32x4_t acc)
{
    int8x16_t d = vabdq_s8(q, r); /* up to 255: unsigned */
    __asm__("udot %0.4s, %1.16b, %1.16b" : "+w"(acc) : "w"(d));
    return acc;
}

static inline TARGET_DOT int32x4_t
istep_ip_neondot(int8x16_t q, int8x16_t r, int32x4_t acc)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(q), "w"(r));
    return acc;
}

static inline int8x16_t
tail_i8(const int8_t *p, size_t left)
{
    int8_t copy[16] = {0};
    memcpy(copy, p, left);
    return vld1q_s8(copy);
}

/* |type| of the result: int32_t for the products of codes, float for distances. */
#define DEFINE_INT(metric, set, target, name, type)                                                \
    static target type name##_##set(const int8_t *x, const int8_t *y, size_t n)                    \
    {                                                                                              \
        int32x4_t s = vdupq_n_s32(0), t = s;                                                       \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            s = istep_##metric##_##set(vld1q_s8(x + i), vld1q_s8(y + i), s);                       \
            t = istep_##metric##_##set(vld1q_s8(x + i + 16), vld1q_s8(y + i + 16), t);             \
        }                                                                                          \
        if (i + 16 <= n) {                                                                         \
            s = istep_##metric##_##set(vld1q_s8(x + i), vld1q_s8(y + i), s);                       \
            i += 16;                                                                               \
        }                                                                                          \
        if (i < n) {                                                                               \
            t = istep_##metric##_##set(tail_i8(x + i, n - i), tail_i8(y + i, n - i), t);           \
        }                                                                                          \
        return (type)vaddvq_s32(vaddq_s32(s, t));                                                  \
    }                                                                                              \
    static target void name##x4_##set(const int8_t *query, const int8_t *const rows[4], size_t n,  \
                                      type out[4])                                                 \
    {                                                                                              \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;                                  \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            int8x16_t q = vld1q_s8(query + i);                                                     \
            s0 = istep_##metric##_##set(q, vld1q_s8(r0 + i), s0);                                  \
            s1 = istep_##metric##_##set(q, vld1q_s8(r1 + i), s1);                                  \
            s2 = istep_##metric##_##set(q, vld1q_s8(r2 + i), s2);                                  \
            s3 = istep_##metric##_##set(q, vld1q_s8(r3 + i), s3);                                  \
        }                                                                                          \
        if (i < n) {                                                                               \
            int8x16_t q = tail_i8(query + i, n - i);                                               \
            s0 = istep_##metric##_##set(q, tail_i8(r0 + i, n - i), s0);                            \
            s1 = istep_##metric##_##set(q, tail_i8(r1 + i, n - i), s1);                            \
            s2 = istep_##metric##_##set(q, tail_i8(r2 + i, n - i), s2);                            \
            s3 = istep_##metric##_##set(q, tail_i8(r3 + i, n - i), s3);                            \
        }                                                                                          \
        out[0] = (type)vaddvq_s32(s0);                                                             \
        out[1] = (type)vaddvq_s32(s1);                                                             \
        out[2] = (type)vaddvq_s32(s2);                                                             \
        out[3] = (type)vaddvq_s32(s3);                                                             \
    }

/* The forms of a table over untyped rows. */
#define DEFINE_I8(metric, set)                                                                     \
    static float metric##_i8_##set(const void *a, const void *b, size_t n)                         \
    {                                                                                              \
        return metric##_bytes_##set(a, b, n);                                                      \
    }                                                                                              \
    static void metric##x4_i8_##set(const void *query, const void *const rows[4], size_t n,        \
                                    float out[4])                                                  \
    {                                                                                              \
        const int8_t *const typed[4] = {rows[0], rows[1], rows[2], rows[3]};                       \
        metric##_bytesx4_##set(query, typed, n, out);                                              \
    }

#define DEFINE_NIBBLE(set, target)                                                                 \
    static target int32_t nibble_ip_##set(const int8_t *query, const uint8_t *row, size_t n)       \
    {                                                                                              \
        int32x4_t s = vdupq_n_s32(0), t = s;                                                       \
        for (size_t i = 0; i < n; i += i % 64 == 16 ? 48 : 16) {                                   \
            uint8x16_t codes = vld1q_u8(row + i / 64 * 32 + i % 64);                               \
            int8x16_t low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));                  \
            int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(codes, 4));                            \
            s = istep_ip_##set(vld1q_s8(query + i), low, s);                                       \
            t = istep_ip_##set(vld1q_s8(query + i + 32), high, t);                                 \
        }                                                                                          \
        return vaddvq_s32(vaddq_s32(s, t));                                                        \
    }                                                                                              \
    static target void nibble_ipx4_##set(const int8_t *query, const uint8_t *const rows[4],        \
                                         size_t n, int32_t out[4])                                 \
    {                                                                                              \
        for (size_t r = 0; r < 4; r++) {                                                           \
            out[r] = nibble_ip_##set(query, rows[r], n);                                           \
        }                                                                                          \
    }

#define DEFINE_SET(set, target)                                                                    \
    DEFINE_INT(l2, set, target, l2_bytes, float)                                                   \
    DEFINE_INT(ip, set, target, ip_bytes, float)                                                   \
    DEFINE_INT(ip, set, target, code8_ip, int32_t)                                                 \
    DEFINE_I8(l2, set)                                                                             \
    DEFINE_I8(ip, set)                                                                             \
    DEFINE_NIBBLE(set, target)

DEFINE_SET(neon, )
DEFINE_SET(neondot, TARGET_DOT)

/* ---- 8-bit codes under a 16-bit query ---- */

static inline int32x4_t
cstep_l2(int16x8_t q, int16x8_t r, int32x4_t acc)
{
    int16x8_t d = vsubq_s16(q, r);
    return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(d), vget_low_s16(d)), d, d);
}

static inline int32x4_t
cstep_ip(int16x8_t q, int16x8_t r, int32x4_t acc)
{
    return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(q), vget_low_s16(r)), q, r);
}

#define DEFINE_CODE(metric)                                                                        \
    static void code_##metric##x4_neon(const int16_t *query, const int8_t *const rows[4],          \
                                       size_t n, int32_t out[4])                                   \
    {                                                                                              \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;                                  \
        for (size_t i = 0; i < n; i += 8) {                                                        \
            int16x8_t q = vld1q_s16(query + i);                                                    \
            s0 = cstep_##metric(q, vmovl_s8(vld1_s8(r0 + i)), s0);                                 \
            s1 = cstep_##metric(q, vmovl_s8(vld1_s8(r1 + i)), s1);                                 \
            s2 = cstep_##metric(q, vmovl_s8(vld1_s8(r2 + i)), s2);                                 \
            s3 = cstep_##metric(q, vmovl_s8(vld1_s8(r3 + i)), s3);                                 \
        }                                                                                          \
        out[0] = vaddvq_s32(s0);                                                                   \
        out[1] = vaddvq_s32(s1);                                                                   \
        out[2] = vaddvq_s32(s2);                                                                   \
        out[3] = vaddvq_s32(s3);                                                                   \
    }

DEFINE_CODE(l2)
DEFINE_CODE(ip)

/* ---- bits ---- */

static inline uint8x16_t
load_bits(const uint8_t *p, size_t left)
{
    uint8_t copy[16] = {0};

    if (left >= 16) {
        return vld1q_u8(p);
    }
    memcpy(copy, p, left);
    return vld1q_u8(copy);
}

static inline uint32x4_t
count(uint32x4_t acc, uint8x16_t bits)
{
    return vpadalq_u16(acc, vpaddlq_u8(vcntq_u8(bits)));
}

static float
hamming_neon(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    uint32x4_t acc = vdupq_n_u32(0);

    for (size_t i = 0; i < n; i += 16) {
        acc = count(acc, veorq_u8(load_bits(x + i, n - i), load_bits(y + i, n - i)));
    }
    return (float)vaddvq_u32(acc);
}

static float
jaccard_neon(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    uint32x4_t both = vdupq_n_u32(0);
    uint32x4_t any = both;

    for (size_t i = 0; i < n; i += 16) {
        uint8x16_t p = load_bits(x + i, n - i);
        uint8x16_t q = load_bits(y + i, n - i);
        both = count(both, vandq_u8(p, q));
        any = count(any, vorrq_u8(p, q));
    }
    uint32_t n_both = vaddvq_u32(both);
    uint32_t n_any = vaddvq_u32(any);
    return n_any == 0 ? 1.0f : (float)(n_any - n_both) / (float)n_any;
}

/* ---- one-bit codes ---- */

/* Adds 32 sums of 16 bits to |rows|. */
static inline void
scan_finish(const uint16x8_t sums[4], uint32x4_t rows[8])
{
    for (size_t i = 0; i < 4; i++) {
        rows[2 * i] = vaddw_u16(rows[2 * i], vget_low_u16(sums[i]));
        rows[2 * i + 1] = vaddw_high_u16(rows[2 * i + 1], sums[i]);
    }
}

/* The entries of a group: |a| for rows 0..15 and |b| for rows 16..31. */
static inline void
scan_look_up(const uint8_t *lut, const uint8_t *block, uint8x16_t *a, uint8x16_t *b)
{
    uint8x16_t table = vld1q_u8(lut);
    uint8x16_t codes = vld1q_u8(block);

    *a = vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(15)));
    *b = vqtbl1q_u8(table, vshrq_n_u8(codes, 4));
}

static inline void
scan_add(uint16x8_t sums[4], uint8x16_t a, uint8x16_t b)
{
    sums[0] = vaddw_u8(sums[0], vget_low_u8(a));
    sums[1] = vaddw_high_u8(sums[1], a);
    sums[2] = vaddw_u8(sums[2], vget_low_u8(b));
    sums[3] = vaddw_high_u8(sums[3], b);
}

static uint32_t
scan_estimate(const uint32x4_t rows[8], const float add[32], const float mul[32], float unit,
              float bias, float extra, float below, float est[32])
{
    static const uint32_t lane_bits[4] = {1, 2, 4, 8};
    const uint32x4_t bits = vld1q_u32(lane_bits);
    uint32_t mask = 0;

    for (size_t i = 0; i < 8; i++) {
        float32x4_t s = vfmaq_n_f32(vdupq_n_f32(bias), vcvtq_f32_u32(rows[i]), unit);
        s = vfmaq_f32(vld1q_f32(add + i * 4), s, vld1q_f32(mul + i * 4));
        s = vaddq_f32(s, vdupq_n_f32(extra));
        vst1q_f32(est + i * 4, s);
        mask |= vaddvq_u32(vandq_u32(vcltq_f32(s, vdupq_n_f32(below)), bits)) << (i * 4);
    }
    return mask;
}

static uint32_t
scan32_neon(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
            const float mul[32], float unit, float bias, float extra, float below, float est[32])
{
    const uint16x8_t zero = vdupq_n_u16(0);
    const uint32x4_t none = vdupq_n_u32(0);
    uint32x4_t rows[8] = {none, none, none, none, none, none, none, none};

    for (size_t at = 0; at < groups * 16; at += 256 * 16) {
        size_t end = RK_MIN(groups * 16, at + 256 * 16);
        uint16x8_t sums[4] = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 16) {
            uint8x16_t a;
            uint8x16_t b;
            scan_look_up(lut + i, block + i, &a, &b);
            scan_add(sums, a, b);
        }
        scan_finish(sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

/* Four entries of at most 63 are added in 8 bits. */
static uint32_t
scan32_low_neon(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
                const float mul[32], float unit, float bias, float extra, float below,
                float est[32])
{
    const uint16x8_t zero = vdupq_n_u16(0);
    const uint32x4_t none = vdupq_n_u32(0);
    uint32x4_t rows[8] = {none, none, none, none, none, none, none, none};

    for (size_t at = 0; at < groups * 16; at += 1024 * 16) {
        size_t end = RK_MIN(groups * 16, at + 1024 * 16);
        uint16x8_t sums[4] = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 64) {
            uint8x16_t a[4];
            uint8x16_t b[4];
            scan_look_up(lut + i, block + i, &a[0], &b[0]);
            scan_look_up(lut + i + 16, block + i + 16, &a[1], &b[1]);
            scan_look_up(lut + i + 32, block + i + 32, &a[2], &b[2]);
            scan_look_up(lut + i + 48, block + i + 48, &a[3], &b[3]);
            scan_add(sums, vaddq_u8(vaddq_u8(a[0], a[1]), vaddq_u8(a[2], a[3])),
                     vaddq_u8(vaddq_u8(b[0], b[1]), vaddq_u8(b[2], b[3])));
        }
        scan_finish(sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

static void
bits_sums_neon(const float *row, const float *centre, size_t n, uint8_t *signs, float sums[4])
{
    static const uint32_t lane_bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint32x4_t bits[2] = {vld1q_u32(lane_bits), vld1q_u32(lane_bits + 4)};
    float32x4_t square = vdupq_n_f32(0), abs = square, signed_centre = square, product = square;

    for (size_t i = 0; i < n; i += 8) {
        uint32x4_t set = vdupq_n_u32(0);
        for (size_t j = 0; j < 2; j++) {
            float32x4_t c = vld1q_f32(centre + i + j * 4);
            float32x4_t r = vsubq_f32(vld1q_f32(row + i + j * 4), c);
            uint32x4_t up = vcgeq_f32(r, vdupq_n_f32(0));
            set = vorrq_u32(set, vandq_u32(up, bits[j]));
            square = vfmaq_f32(square, r, r);
            abs = vaddq_f32(abs, vabsq_f32(r));
            product = vfmaq_f32(product, r, c);
            signed_centre = vaddq_f32(signed_centre, vbslq_f32(up, c, vnegq_f32(c)));
        }
        signs[i / 8] = (uint8_t)vaddvq_u32(set);
    }
    sums[0] = vaddvq_f32(square);
    sums[1] = vaddvq_f32(abs);
    sums[2] = vaddvq_f32(signed_centre);
    sums[3] = vaddvq_f32(product);
}

static uint32_t
bits_tables_neon(const float *query, size_t groups, float scale, uint8_t *lut)
{
    const float signs0[4] = {-scale, scale, -scale, scale};
    const float signs1[4] = {-scale, -scale, scale, scale};
    const float32x4_t s0 = vld1q_f32(signs0);
    const float32x4_t s1 = vld1q_f32(signs1);
    uint32x4_t total = vdupq_n_u32(0);

    for (size_t g = 0; g < groups; g++) {
        const float *q = query + g * 4;
        float third = q[2] * scale;
        float fourth = q[3] * scale;
        float32x4_t v = vfmaq_n_f32(vfmaq_n_f32(vdupq_n_f32(31.5f), s0, q[0]), s1, q[1]);
        uint32x4_t e0 = vcvtnq_u32_f32(vaddq_f32(v, vdupq_n_f32(-third - fourth)));
        uint32x4_t e1 = vcvtnq_u32_f32(vaddq_f32(v, vdupq_n_f32(third - fourth)));
        uint32x4_t e2 = vcvtnq_u32_f32(vaddq_f32(v, vdupq_n_f32(fourth - third)));
        uint32x4_t e3 = vcvtnq_u32_f32(vaddq_f32(v, vdupq_n_f32(third + fourth)));
        total = vaddq_u32(total, vaddq_u32(vaddq_u32(e0, e1), vaddq_u32(e2, e3)));
        uint16x8_t low = vcombine_u16(vmovn_u32(e0), vmovn_u32(e1));
        uint16x8_t high = vcombine_u16(vmovn_u32(e2), vmovn_u32(e3));
        vst1q_u8(lut + g * 16, vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
    }
    return vaddvq_u32(total);
}

static float
bits_span_neon(const float *query, size_t n)
{
    float32x4_t span = vdupq_n_f32(0);

    for (size_t i = 0; i < n; i += 16) {
        float32x4_t a =
            vpaddq_f32(vabsq_f32(vld1q_f32(query + i)), vabsq_f32(vld1q_f32(query + i + 4)));
        float32x4_t b =
            vpaddq_f32(vabsq_f32(vld1q_f32(query + i + 8)), vabsq_f32(vld1q_f32(query + i + 12)));
        span = vmaxq_f32(span, vpaddq_f32(a, b)); /* passes NaN on */
    }
    float best = vmaxvq_f32(span);
    return isfinite(best) ? best : NAN;
}

static size_t
select_neon(const uint64_t *words, size_t n, uint32_t base, uint32_t *out)
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
test32_neon(const uint64_t *words, uint32_t n, const uint32_t at[32])
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < 32; i++) {
        uint32_t in = at[i] < n ? at[i] : 0;
        bits |= (uint32_t)(words[in / 64] >> in % 64 & (at[i] < n)) << i;
    }
    return bits;
}

#define RK__ROTATE_NAME rotate_neon
#define RK__ROTATE_TARGET
#define RK__ROTATE_LANES 4
#include "index/kernel/rotate.h"

#define TABLE(set)                                                                                 \
    {                                                                                              \
        .name = #set,                                                                              \
        .dense = {[RK__F32] = {l2_f32_neon, ip_f32_neon, l2x4_f32_neon, ipx4_f32_neon},            \
                  [RK__F16] = {l2_f16_neon, ip_f16_neon, l2x4_f16_neon, ipx4_f16_neon},            \
                  [RK__BF16] = {l2_bf16_neon, ip_bf16_neon, l2x4_bf16_neon, ipx4_bf16_neon},       \
                  [RK__I8] = {l2_i8_##set, ip_i8_##set, l2x4_i8_##set, ipx4_i8_##set}},            \
        .hamming = hamming_neon, .jaccard = jaccard_neon, .code_l2x4 = code_l2x4_neon,             \
        .code_ipx4 = code_ipx4_neon, .code8_ip = code8_ip_##set, .code8_ipx4 = code8_ipx4_##set,   \
        .nibble_ip = nibble_ip_##set, .nibble_ipx4 = nibble_ipx4_##set, .scan32 = scan32_neon,     \
        .scan32_low = scan32_low_neon, .bits_sums = bits_sums_neon,                                \
        .bits_tables = bits_tables_neon, .bits_span = bits_span_neon, .rotate = rotate_neon,       \
        .select = select_neon, .test32 = test32_neon,                                              \
    }

const rk__kernels rk__kernels_neon = TABLE(neon);
const rk__kernels rk__kernels_neondot = TABLE(neondot);

#else
typedef int rk__kernel_neon_not_built;
#endif
