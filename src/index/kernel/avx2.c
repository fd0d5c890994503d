/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX2 kernels (AVX2, FMA, F16C). Two accumulators of eight lanes per row; a tail shorter than a
 * register is copied into a zeroed one, so no byte past the row is touched. The four-row forms do,
 * row by row, the steps of the one-row forms.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "index/index_private.h"

#define TARGET __attribute__((target("avx2,fma,f16c,popcnt")))

static inline TARGET __m256
load_f32(const void *p, size_t i)
{
    return _mm256_loadu_ps((const float *)(const void *)((const uint8_t *)p + i * 4));
}

static inline TARGET __m256
load_f16(const void *p, size_t i)
{
    return _mm256_cvtph_ps(
        _mm_loadu_si128((const __m128i_u *)(const void *)((const uint8_t *)p + i * 2)));
}

static inline TARGET __m256
load_bf16(const void *p, size_t i)
{
    __m128i h = _mm_loadu_si128((const __m128i_u *)(const void *)((const uint8_t *)p + i * 2));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

#define DEFINE_TAIL(type, bytes)                                                                   \
    static inline TARGET __m256 tail_##type(const void *p, size_t i, size_t left)                  \
    {                                                                                              \
        uint8_t copy[32] = {0};                                                                    \
        memcpy(copy, (const uint8_t *)p + i * (bytes), left * (bytes));                            \
        return load_##type(copy, 0);                                                               \
    }

DEFINE_TAIL(f32, 4)
DEFINE_TAIL(f16, 2)
DEFINE_TAIL(bf16, 2)

static inline TARGET __m256
step_l2(__m256 q, __m256 r, __m256 acc)
{
    __m256 d = _mm256_sub_ps(q, r);
    return _mm256_fmadd_ps(d, d, acc);
}

static inline TARGET __m256
step_ip(__m256 q, __m256 r, __m256 acc)
{
    return _mm256_fmadd_ps(q, r, acc);
}

static inline TARGET float
reduce(__m256 a, __m256 b)
{
    __m256 s = _mm256_add_ps(a, b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    h = _mm_add_ss(h, _mm_shuffle_ps(h, h, 1));
    return _mm_cvtss_f32(h);
}

#define DEFINE_FLOAT(metric, type)                                                                 \
    static TARGET float metric##_##type##_avx2(const void *a, const void *b, size_t n)             \
    {                                                                                              \
        __m256 x = _mm256_setzero_ps();                                                            \
        __m256 y = _mm256_setzero_ps();                                                            \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            y = step_##metric(load_##type(a, i + 8), load_##type(b, i + 8), y);                    \
        }                                                                                          \
        if (i + 8 <= n) {                                                                          \
            x = step_##metric(load_##type(a, i), load_##type(b, i), x);                            \
            i += 8;                                                                                \
        }                                                                                          \
        if (i < n) {                                                                               \
            y = step_##metric(tail_##type(a, i, n - i), tail_##type(b, i, n - i), y);              \
        }                                                                                          \
        return reduce(x, y);                                                                       \
    }                                                                                              \
    static TARGET void metric##x4_##type##_avx2(const void *query, const void *const rows[4],      \
                                                size_t n, float out[4])                            \
    {                                                                                              \
        const void *r0 = rows[0];                                                                  \
        const void *r1 = rows[1];                                                                  \
        const void *r2 = rows[2];                                                                  \
        const void *r3 = rows[3];                                                                  \
        __m256 x0 = _mm256_setzero_ps(), x1 = x0, x2 = x0, x3 = x0;                                \
        __m256 y0 = x0, y1 = x0, y2 = x0, y3 = x0;                                                 \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            __m256 q = load_##type(query, i);                                                      \
            __m256 p = load_##type(query, i + 8);                                                  \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            y0 = step_##metric(p, load_##type(r0, i + 8), y0);                                     \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            y1 = step_##metric(p, load_##type(r1, i + 8), y1);                                     \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            y2 = step_##metric(p, load_##type(r2, i + 8), y2);                                     \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            y3 = step_##metric(p, load_##type(r3, i + 8), y3);                                     \
        }                                                                                          \
        if (i + 8 <= n) {                                                                          \
            __m256 q = load_##type(query, i);                                                      \
            x0 = step_##metric(q, load_##type(r0, i), x0);                                         \
            x1 = step_##metric(q, load_##type(r1, i), x1);                                         \
            x2 = step_##metric(q, load_##type(r2, i), x2);                                         \
            x3 = step_##metric(q, load_##type(r3, i), x3);                                         \
            i += 8;                                                                                \
        }                                                                                          \
        if (i < n) {                                                                               \
            __m256 q = tail_##type(query, i, n - i);                                               \
            y0 = step_##metric(q, tail_##type(r0, i, n - i), y0);                                  \
            y1 = step_##metric(q, tail_##type(r1, i, n - i), y1);                                  \
            y2 = step_##metric(q, tail_##type(r2, i, n - i), y2);                                  \
            y3 = step_##metric(q, tail_##type(r3, i, n - i), y3);                                  \
        }                                                                                          \
        out[0] = reduce(x0, y0);                                                                   \
        out[1] = reduce(x1, y1);                                                                   \
        out[2] = reduce(x2, y2);                                                                   \
        out[3] = reduce(x3, y3);                                                                   \
    }

DEFINE_FLOAT(l2, f32)
DEFINE_FLOAT(ip, f32)
DEFINE_FLOAT(l2, f16)
DEFINE_FLOAT(ip, f16)
DEFINE_FLOAT(l2, bf16)
DEFINE_FLOAT(ip, bf16)

static inline TARGET __m256i
load_i8(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i_u *)(const void *)p));
}

static inline TARGET __m256i
tail_i8(const int8_t *p, size_t left)
{
    int8_t copy[16] = {0};
    memcpy(copy, p, left);
    return load_i8(copy);
}

static inline TARGET __m256i
istep_l2(__m256i q, __m256i r, __m256i acc)
{
    __m256i d = _mm256_sub_epi16(q, r);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(d, d));
}

static inline TARGET __m256i
istep_ip(__m256i q, __m256i r, __m256i acc)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(q, r));
}

static inline TARGET int32_t
ireduce(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return _mm_cvtsi128_si32(h);
}

#define DEFINE_INT(metric)                                                                         \
    static TARGET float metric##_i8_avx2(const void *a, const void *b, size_t n)                   \
    {                                                                                              \
        const int8_t *x = a;                                                                       \
        const int8_t *y = b;                                                                       \
        __m256i acc = _mm256_setzero_si256();                                                      \
        size_t i = 0;                                                                              \
        for (; i + 16 <= n; i += 16) {                                                             \
            acc = istep_##metric(load_i8(x + i), load_i8(y + i), acc);                             \
        }                                                                                          \
        if (i < n) {                                                                               \
            acc = istep_##metric(tail_i8(x + i, n - i), tail_i8(y + i, n - i), acc);               \
        }                                                                                          \
        return (float)ireduce(acc);                                                                \
    }                                                                                              \
    static TARGET void metric##x4_i8_avx2(const void *query, const void *const rows[4], size_t n,  \
                                          float out[4])                                            \
    {                                                                                              \
        for (size_t r = 0; r < 4; r++) {                                                           \
            out[r] = metric##_i8_avx2(query, rows[r], n);                                          \
        }                                                                                          \
    }                                                                                              \
    static TARGET void code_##metric##x4_avx2(const int16_t *query, const int8_t *const rows[4],   \
                                              size_t n, int32_t out[4])                            \
    {                                                                                              \
        const int8_t *r0 = rows[0];                                                                \
        const int8_t *r1 = rows[1];                                                                \
        const int8_t *r2 = rows[2];                                                                \
        const int8_t *r3 = rows[3];                                                                \
        __m256i x0 = _mm256_setzero_si256(), x1 = x0, x2 = x0, x3 = x0;                            \
        for (size_t i = 0; i < n; i += 16) {                                                       \
            __m256i v = _mm256_loadu_si256((const __m256i_u *)(const void *)(query + i));          \
            x0 = istep_##metric(v, load_i8(r0 + i), x0);                                           \
            x1 = istep_##metric(v, load_i8(r1 + i), x1);                                           \
            x2 = istep_##metric(v, load_i8(r2 + i), x2);                                           \
            x3 = istep_##metric(v, load_i8(r3 + i), x3);                                           \
        }                                                                                          \
        out[0] = ireduce(x0);                                                                      \
        out[1] = ireduce(x1);                                                                      \
        out[2] = ireduce(x2);                                                                      \
        out[3] = ireduce(x3);                                                                      \
    }

DEFINE_INT(l2)
DEFINE_INT(ip)

/* ---- 8-bit and 4-bit inner products ---- */

static inline TARGET __m256i
load_32(const void *p)
{
    return _mm256_loadu_si256((const __m256i_u *)p);
}

/* VPMADDUBSW takes one operand unsigned: the code gives its sign to the query. 128 * 127 * 2 fits
 * 16 bits. */
static inline TARGET __m256i
code8_step(__m256i acc, __m256i query, __m256i row)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(query, row));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static TARGET int32_t
code8_ip_avx2(const int8_t *query, const int8_t *row, size_t n)
{
    __m256i acc = _mm256_setzero_si256();
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        acc = code8_step(acc, load_32(query + i), load_32(row + i));
    }
    if (i < n) {
        int8_t tail[2][32] = {{0}, {0}};
        memcpy(tail[0], query + i, n - i);
        memcpy(tail[1], row + i, n - i);
        acc = code8_step(acc, load_32(tail[0]), load_32(tail[1]));
    }
    return ireduce(acc);
}

static TARGET void
code8_ipx4_avx2(const int8_t *query, const int8_t *const rows[4], size_t n, int32_t out[4])
{
    size_t whole = n / 32 * 32;
    __m256i x[4];

    for (size_t r = 0; r < 4; r++) {
        x[r] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < whole; i += 32) {
        __m256i q = load_32(query + i);
        for (size_t r = 0; r < 4; r++) {
            x[r] = code8_step(x[r], q, load_32(rows[r] + i));
        }
    }
    for (size_t r = 0; r < 4; r++) {
        out[r] = ireduce(x[r]);
        if (whole < n) {
            out[r] += code8_ip_avx2(query + whole, rows[r] + whole, n - whole);
        }
    }
}

/* 32 bytes of 4-bit codes: both products stay within 15 * 127 * 4. */
static inline TARGET __m256i
nibble_step(__m256i acc, __m256i low, __m256i high, __m256i codes)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), low);
    __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble), high);
    a = _mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1));
    return _mm256_add_epi32(acc, a);
}

static TARGET int32_t
nibble_ip_avx2(const int8_t *query, const uint8_t *row, size_t n)
{
    __m256i acc = _mm256_setzero_si256();

    for (size_t i = 0; i < n; i += 64) {
        acc = nibble_step(acc, load_32(query + i), load_32(query + i + 32), load_32(row + i / 2));
    }
    return ireduce(acc);
}

static TARGET void
nibble_ipx4_avx2(const int8_t *query, const uint8_t *const rows[4], size_t n, int32_t out[4])
{
    __m256i x[4];

    for (size_t r = 0; r < 4; r++) {
        x[r] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < n; i += 64) {
        __m256i low = load_32(query + i);
        __m256i high = load_32(query + i + 32);
        for (size_t r = 0; r < 4; r++) {
            x[r] = nibble_step(x[r], low, high, load_32(rows[r] + i / 2));
        }
    }
    for (size_t r = 0; r < 4; r++) {
        out[r] = ireduce(x[r]);
    }
}

static inline uint64_t
load_word(const uint8_t *p, size_t left)
{
    uint64_t v = 0;
    memcpy(&v, p, left < 8 ? left : 8);
    return v;
}

static TARGET float
hamming_avx2(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    long long bits = 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        bits += __builtin_popcountll(rk_get_u64le(x + i) ^ rk_get_u64le(y + i));
    }
    if (i < n) {
        bits += __builtin_popcountll(load_word(x + i, n - i) ^ load_word(y + i, n - i));
    }
    return (float)bits;
}

static TARGET float
jaccard_avx2(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    long long both = 0;
    long long any = 0;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t p = n - i >= 8 ? rk_get_u64le(x + i) : load_word(x + i, n - i);
        uint64_t q = n - i >= 8 ? rk_get_u64le(y + i) : load_word(y + i, n - i);
        both += __builtin_popcountll(p & q);
        any += __builtin_popcountll(p | q);
    }
    return any == 0 ? 1.0f : (float)(any - both) / (float)any;
}

/* ---- one-bit codes ---- */

/* Sums of 16-bit lanes of 128 bits each: |low| and |high| add even rows to 256 times odd ones, the
 * others hold the odd ones alone. */
typedef struct scan_sums {
    __m256i low; /* rows 0..15 */
    __m256i low_odd;
    __m256i high; /* rows 16..31 */
    __m256i high_odd;
} scan_sums;

/* Adds the sums, none over 65,535, to |rows|. */
static inline TARGET void
scan_finish(const scan_sums *sums, __m256i rows[4])
{
    __m256i all = _mm256_add_epi16(_mm256_permute2x128_si256(sums->low, sums->high, 0x20),
                                   _mm256_permute2x128_si256(sums->low, sums->high, 0x31));
    __m256i odd = _mm256_add_epi16(_mm256_permute2x128_si256(sums->low_odd, sums->high_odd, 0x20),
                                   _mm256_permute2x128_si256(sums->low_odd, sums->high_odd, 0x31));
    __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
    __m256i first = _mm256_unpacklo_epi16(even, odd);  /* rows 0..7, 16..23 */
    __m256i second = _mm256_unpackhi_epi16(even, odd); /* rows 8..15, 24..31 */
    const __m128i parts[4] = {_mm256_castsi256_si128(first), _mm256_castsi256_si128(second),
                              _mm256_extracti128_si256(first, 1),
                              _mm256_extracti128_si256(second, 1)};

    for (size_t i = 0; i < 4; i++) {
        rows[i] = _mm256_add_epi32(rows[i], _mm256_cvtepu16_epi32(parts[i]));
    }
}

/* The entries of two groups: |a| for rows 0..15 and |b| for rows 16..31. */
static inline TARGET void
scan_look_up(const uint8_t *lut, const uint8_t *block, __m256i *a, __m256i *b)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i table = load_32(lut);
    __m256i codes = load_32(block);

    *a = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble));
    *b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
}

static inline TARGET void
scan_add(scan_sums *sums, __m256i a, __m256i b)
{
    sums->low = _mm256_add_epi16(sums->low, a);
    sums->high = _mm256_add_epi16(sums->high, b);
    sums->low_odd = _mm256_add_epi16(sums->low_odd, _mm256_srli_epi16(a, 8));
    sums->high_odd = _mm256_add_epi16(sums->high_odd, _mm256_srli_epi16(b, 8));
}

static inline TARGET uint32_t
scan_estimate(const __m256i rows[4], const float add[32], const float mul[32], float unit,
              float bias, float extra, float below, float est[32])
{
    uint32_t mask = 0;

    for (size_t i = 0; i < 4; i++) {
        __m256 s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(rows[i]), _mm256_set1_ps(unit),
                                   _mm256_set1_ps(bias));
        s = _mm256_fmadd_ps(s, _mm256_loadu_ps(mul + i * 8), _mm256_loadu_ps(add + i * 8));
        s = _mm256_add_ps(s, _mm256_set1_ps(extra));
        _mm256_storeu_ps(est + i * 8, s);
        s = _mm256_cmp_ps(s, _mm256_set1_ps(below), _CMP_LT_OQ);
        mask |= (uint32_t)_mm256_movemask_ps(s) << (i * 8);
    }
    return mask;
}

static TARGET uint32_t
scan32_avx2(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
            const float mul[32], float unit, float bias, float extra, float below, float est[32])
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i rows[4] = {zero, zero, zero, zero};

    for (size_t at = 0; at < groups * 16; at += 256 * 16) {
        size_t end = RK_MIN(groups * 16, at + 256 * 16);
        scan_sums sums = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 32) {
            __m256i a;
            __m256i b;
            scan_look_up(lut + i, block + i, &a, &b);
            scan_add(&sums, a, b);
        }
        scan_finish(&sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

/* Four entries of at most 63 are added in 8 bits. */
static TARGET uint32_t
scan32_low_avx2(const uint8_t *lut, const uint8_t *block, size_t groups, const float add[32],
                const float mul[32], float unit, float bias, float extra, float below,
                float est[32])
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i rows[4] = {zero, zero, zero, zero};

    for (size_t at = 0; at < groups * 16; at += 1024 * 16) {
        size_t end = RK_MIN(groups * 16, at + 1024 * 16);
        scan_sums sums = {zero, zero, zero, zero};
        for (size_t i = at; i < end; i += 128) {
            __m256i a[4];
            __m256i b[4];
            scan_look_up(lut + i, block + i, &a[0], &b[0]);
            scan_look_up(lut + i + 32, block + i + 32, &a[1], &b[1]);
            scan_look_up(lut + i + 64, block + i + 64, &a[2], &b[2]);
            scan_look_up(lut + i + 96, block + i + 96, &a[3], &b[3]);
            scan_add(&sums,
                     _mm256_add_epi8(_mm256_add_epi8(a[0], a[1]), _mm256_add_epi8(a[2], a[3])),
                     _mm256_add_epi8(_mm256_add_epi8(b[0], b[1]), _mm256_add_epi8(b[2], b[3])));
        }
        scan_finish(&sums, rows);
    }
    return scan_estimate(rows, add, mul, unit, bias, extra, below, est);
}

static TARGET void
bits_sums_avx2(const float *row, const float *centre, size_t n, uint8_t *signs, float sums[4])
{
    const __m256 flip = _mm256_set1_ps(-0.0f);
    __m256 square = _mm256_setzero_ps(), abs = square, signed_centre = square, product = square;

    for (size_t i = 0; i < n; i += 8) {
        __m256 c = _mm256_loadu_ps(centre + i);
        __m256 r = _mm256_sub_ps(_mm256_loadu_ps(row + i), c);
        __m256 down = _mm256_cmp_ps(r, _mm256_setzero_ps(), _CMP_NGE_UQ);
        signs[i / 8] = (uint8_t) ~(unsigned)_mm256_movemask_ps(down);
        square = _mm256_fmadd_ps(r, r, square);
        abs = _mm256_add_ps(abs, _mm256_andnot_ps(flip, r));
        product = _mm256_fmadd_ps(r, c, product);
        signed_centre = _mm256_add_ps(signed_centre, _mm256_xor_ps(c, _mm256_and_ps(down, flip)));
    }
    sums[0] = reduce(square, _mm256_setzero_ps());
    sums[1] = reduce(abs, _mm256_setzero_ps());
    sums[2] = reduce(signed_centre, _mm256_setzero_ps());
    sums[3] = reduce(product, _mm256_setzero_ps());
}

static TARGET uint32_t
bits_tables_avx2(const float *query, size_t groups, float scale, uint8_t *lut)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256 minus = _mm256_set1_ps(-scale);
    const __m256 s0 = _mm256_blend_ps(minus, s, 0xaa);
    const __m256 s1 = _mm256_blend_ps(minus, s, 0xcc);
    const __m256 s2 = _mm256_blend_ps(minus, s, 0xf0);
    __m256i total = _mm256_setzero_si256();

    for (size_t g = 0; g < groups; g++) {
        const float *q = query + g * 4;
        __m256 v = _mm256_fmadd_ps(_mm256_set1_ps(q[0]), s0, _mm256_set1_ps(31.5f));
        v = _mm256_fmadd_ps(_mm256_set1_ps(q[1]), s1, v);
        v = _mm256_fmadd_ps(_mm256_set1_ps(q[2]), s2, v);
        __m256i a = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_set1_ps(q[3]), minus, v));
        __m256i b = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_set1_ps(q[3]), s, v));
        total = _mm256_add_epi32(total, _mm256_add_epi32(a, b));
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
        __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i_u *)(void *)(lut + g * 16), bytes);
    }
    return (uint32_t)ireduce(total);
}

static TARGET float
bits_span_avx2(const float *query, size_t n)
{
    const __m256 flip = _mm256_set1_ps(-0.0f);
    const __m256 infinite = _mm256_set1_ps(INFINITY);
    __m256 span = _mm256_setzero_ps();
    __m256 bad = span;

    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_andnot_ps(flip, _mm256_loadu_ps(query + i));
        v = _mm256_add_ps(v, _mm256_permute_ps(v, 0xb1));
        v = _mm256_add_ps(v, _mm256_permute_ps(v, 0x4e));
        bad = _mm256_or_ps(bad, _mm256_cmp_ps(v, infinite, _CMP_NLT_UQ));
        span = _mm256_max_ps(span, v);
    }
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(span), _mm256_extractf128_ps(span, 1));
    return _mm256_movemask_ps(bad) ? NAN : _mm_cvtss_f32(half);
}

static TARGET size_t
select_avx2(const uint64_t *words, size_t n, uint32_t base, uint32_t *out)
{
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        for (uint64_t bits = words[i]; bits; bits &= bits - 1) {
            out[found++] = base + (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return found;
}

static TARGET uint32_t
test32_avx2(const uint64_t *words, uint32_t n, const uint32_t at[32])
{
    const __m256i low = _mm256_set1_epi32(31);
    const __m256i end = _mm256_set1_epi32((int)n);
    uint32_t bits = 0;

    for (uint32_t i = 0; i < 32; i += 8) {
        __m256i row = _mm256_loadu_si256((const __m256i *)(const void *)(at + i));
        __m256i past = _mm256_cmpeq_epi32(_mm256_max_epu32(row, end), row);
        __m256i word = _mm256_mask_i32gather_epi32(
            _mm256_setzero_si256(), (const int *)(const void *)words, _mm256_srli_epi32(row, 5),
            _mm256_xor_si256(past, _mm256_set1_epi32(-1)), 4);
        /* the bit becomes the sign */
        word = _mm256_sllv_epi32(word, _mm256_andnot_si256(row, low));
        bits |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(word)) << i;
    }
    return bits;
}

#define RK__ROTATE_NAME   rotate_avx2
#define RK__ROTATE_TARGET TARGET
#define RK__ROTATE_LANES  8
#include "index/kernel/rotate.h"

const rk__kernels rk__kernels_avx2 = {
    .name = "avx2",
    .dense = {[RK__F32] = {l2_f32_avx2, ip_f32_avx2, l2x4_f32_avx2, ipx4_f32_avx2},
              [RK__F16] = {l2_f16_avx2, ip_f16_avx2, l2x4_f16_avx2, ipx4_f16_avx2},
              [RK__BF16] = {l2_bf16_avx2, ip_bf16_avx2, l2x4_bf16_avx2, ipx4_bf16_avx2},
              [RK__I8] = {l2_i8_avx2, ip_i8_avx2, l2x4_i8_avx2, ipx4_i8_avx2}},
    .hamming = hamming_avx2,
    .jaccard = jaccard_avx2,
    .code_l2x4 = code_l2x4_avx2,
    .code_ipx4 = code_ipx4_avx2,
    .code8_ip = code8_ip_avx2,
    .code8_ipx4 = code8_ipx4_avx2,
    .nibble_ip = nibble_ip_avx2,
    .nibble_ipx4 = nibble_ipx4_avx2,
    .scan32 = scan32_avx2,
    .scan32_low = scan32_low_avx2,
    .bits_sums = bits_sums_avx2,
    .bits_tables = bits_tables_avx2,
    .bits_span = bits_span_avx2,
    .rotate = rotate_avx2,
    .select = select_avx2,
    .test32 = test32_avx2,
};

#else
typedef int rk__kernel_avx2_not_built;
#endif
