/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiles of distances between 8-bit codes, see hnsw/tile.h. The key of query q and row r is
 * |r|^2 - 2 <q, r>; with q biased by 128 the product is <q, r> + 128 sum(r), so a row's norm is
 * kept as |r|^2 + 256 sum(r) and the key is norm - 2 * product.
 */
#include "index/hnsw/tile.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define NEVER INT32_MAX

int32_t
rk__tile_query(const int8_t *code, size_t n, uint8_t *out)
{
    int32_t norm = 0;

    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(code[i] + 128);
        norm += code[i] * code[i];
    }
    return norm;
}

void
rk__tile_pack(const int8_t *const *rows, size_t n_rows, size_t n, int8_t *pack,
              int32_t norms[RK__TILE_ROWS])
{
    for (size_t r = 0; r < RK__TILE_ROWS; r++) {
        int32_t norm = 0;
        if (r >= n_rows) {
            for (size_t i = 0; i < n; i += 4) {
                memset(pack + i * RK__TILE_ROWS + r * 4, 0, 4);
            }
            norms[r] = NEVER;
            continue;
        }
        for (size_t i = 0; i < n; i += 4) {
            const int8_t *from = rows[r] + i;
            memcpy(pack + i * RK__TILE_ROWS + r * 4, from, 4);
            for (size_t j = 0; j < 4; j++) {
                norm += from[j] * (from[j] + 256);
            }
        }
        norms[r] = norm;
    }
}

static void
tile_scalar(const uint8_t *const queries[RK__TILE_QUERIES], const int32_t bounds[RK__TILE_QUERIES],
            const int8_t *pack, const int32_t norms[RK__TILE_ROWS], size_t n, rk__tile_result *out)
{
    for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
        int32_t sums[RK__TILE_ROWS] = {0};
        uint32_t mask = 0;
        for (size_t i = 0; i < n; i += 4) {
            const uint8_t *four = queries[q] + i;
            const int8_t *rows = pack + i * RK__TILE_ROWS;
            for (size_t r = 0; r < RK__TILE_ROWS; r++) {
                sums[r] += four[0] * rows[r * 4] + four[1] * rows[r * 4 + 1] +
                           four[2] * rows[r * 4 + 2] + four[3] * rows[r * 4 + 3];
            }
        }
        for (size_t r = 0; r < RK__TILE_ROWS; r++) {
            int32_t key = (int32_t)((uint32_t)norms[r] - 2u * (uint32_t)sums[r]);
            out->keys[q][r] = key;
            mask |= (uint32_t)(key < bounds[q]) << r;
        }
        out->below[q] = mask;
    }
}

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* Four queries against 32 rows: eight accumulators, so that the latency of the products is hidden
 * and nothing is spilled. */
static inline TARGET void
tile_four(const uint8_t *const queries[4], const int32_t bounds[4], const int8_t *pack,
          const int32_t norms[RK__TILE_ROWS], size_t n, int32_t keys[][RK__TILE_ROWS],
          uint32_t *below)
{
    __m512i a[4];
    __m512i b[4];

    for (size_t q = 0; q < 4; q++) {
        a[q] = _mm512_setzero_si512();
        b[q] = _mm512_setzero_si512();
    }
    for (size_t i = 0; i < n; i += 4) {
        __m512i x = _mm512_loadu_si512((const void *)(pack + i * RK__TILE_ROWS));
        __m512i y = _mm512_loadu_si512((const void *)(pack + i * RK__TILE_ROWS + 64));
#pragma GCC unroll 4
        for (size_t q = 0; q < 4; q++) {
            int32_t four;
            memcpy(&four, queries[q] + i, sizeof(four));
            __m512i v = _mm512_set1_epi32(four);
            a[q] = _mm512_dpbusd_epi32(a[q], v, x);
            b[q] = _mm512_dpbusd_epi32(b[q], v, y);
        }
    }
    __m512i low = _mm512_loadu_si512((const void *)norms);
    __m512i high = _mm512_loadu_si512((const void *)(norms + 16));
    for (size_t q = 0; q < 4; q++) {
        __m512i bound = _mm512_set1_epi32(bounds[q]);
        __m512i x = _mm512_sub_epi32(low, _mm512_slli_epi32(a[q], 1));
        __m512i y = _mm512_sub_epi32(high, _mm512_slli_epi32(b[q], 1));
        _mm512_storeu_si512((void *)keys[q], x);
        _mm512_storeu_si512((void *)(keys[q] + 16), y);
        below[q] = (uint32_t)_mm512_cmplt_epi32_mask(x, bound) |
                   (uint32_t)_mm512_cmplt_epi32_mask(y, bound) << 16;
    }
}

static TARGET void
tile_vnni(const uint8_t *const queries[RK__TILE_QUERIES], const int32_t bounds[RK__TILE_QUERIES],
          const int8_t *pack, const int32_t norms[RK__TILE_ROWS], size_t n, rk__tile_result *out)
{
    tile_four(queries, bounds, pack, norms, n, out->keys, out->below);
    if (bounds[4] == INT32_MIN && bounds[5] == INT32_MIN && bounds[6] == INT32_MIN &&
        bounds[7] == INT32_MIN) { /* half a tile is wanted */
        memset(out->below + 4, 0, 4 * sizeof(out->below[0]));
        return;
    }
    tile_four(queries + 4, bounds + 4, pack, norms, n, out->keys + 4, out->below + 4);
}

static TARGET void
widen_avx512(const int8_t *code, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i_u *)(const void *)(code + i));
        _mm512_storeu_ps(out + i, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v)));
    }
}

/* Sums of two, and of two again, side by side. */
static inline TARGET __m512i
pair_32(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

static inline TARGET __m512i
pair_64(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

static inline TARGET __m512i
pair_128(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xdd));
}

/* Rows are biased, since one operand has no sign; the surplus is the same for all of them. */
static TARGET void
dots_vnni(const int8_t *query, const int8_t *const rows[RK__TILE_DOTS], size_t n,
          int32_t dots[RK__TILE_DOTS])
{
    const __m512i half = _mm512_set1_epi8(-128);
    __m512i surplus = _mm512_setzero_si512();
    __m512i s[RK__TILE_DOTS];

    for (size_t r = 0; r < RK__TILE_DOTS; r++) {
        s[r] = _mm512_setzero_si512();
    }
    for (size_t i = 0; i < n; i += 64) {
        __m512i q = _mm512_loadu_si512((const void *)(query + i));
        surplus = _mm512_dpbusd_epi32(surplus, half, q);
#pragma GCC unroll 16
        for (size_t r = 0; r < RK__TILE_DOTS; r++) {
            __m512i x = _mm512_loadu_si512((const void *)(rows[r] + i));
            s[r] = _mm512_dpbusd_epi32(s[r], _mm512_xor_si512(x, half), q);
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < 4; r++) {
        s[r] = pair_64(pair_32(s[4 * r], s[4 * r + 1]), pair_32(s[4 * r + 2], s[4 * r + 3]));
    }
    __m512i sums = pair_128(pair_128(s[0], s[1]), pair_128(s[2], s[3]));
    sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(_mm512_reduce_add_epi32(surplus)));
    _mm512_storeu_si512((void *)dots, sums);
}

/* Differences as bytes without sign: of two codes they are at most 255. */
static TARGET void
sums_vnni(const int8_t *row, const int8_t *centre, size_t n, uint8_t *signs, int32_t sums[4])
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    const __m512i half = _mm512_set1_epi8(-128);
    __m512i square = zero, abs = zero, signed_centre = zero, product = zero, own = zero;

    for (size_t i = 0; i < n; i += 64) {
        __m512i x = _mm512_loadu_si512((const void *)(row + i));
        __m512i c = _mm512_loadu_si512((const void *)(centre + i));
        __mmask64 up = _mm512_cmpge_epi8_mask(x, c);
        __m512i diff = _mm512_sub_epi8(_mm512_max_epi8(x, c), _mm512_min_epi8(x, c));
        __m512i low = _mm512_unpacklo_epi8(diff, zero);
        __m512i high = _mm512_unpackhi_epi8(diff, zero);
        memcpy(signs + i / 8, &up, sizeof(up));
        square = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(square, low, low), high, high);
        abs = _mm512_dpbusd_epi32(abs, diff, ones);
        signed_centre = _mm512_dpbusd_epi32(
            signed_centre, ones, _mm512_mask_sub_epi8(c, ~up, zero, c)); /* |c| is at most 127 */
        product = _mm512_dpbusd_epi32(product, _mm512_xor_si512(x, half), c);
        own = _mm512_dpbusd_epi32(own, _mm512_xor_si512(c, half), c);
    }
    sums[0] = _mm512_reduce_add_epi32(square);
    sums[1] = _mm512_reduce_add_epi32(abs);
    sums[2] = _mm512_reduce_add_epi32(signed_centre);
    sums[3] = _mm512_reduce_add_epi32(_mm512_sub_epi32(product, own));
}

#define TARGET_AVX2 __attribute__((target("avx2")))

/* The products of eight rows and a query's four components: bytes are widened, since their sums of
 * two do not fit 16 bits. */
static inline TARGET_AVX2 __m256i
four_avx2(__m256i even, __m256i odd, int32_t four)
{
    __m256i a = _mm256_set1_epi32(four & 0x00ff00ff);
    __m256i b = _mm256_set1_epi32((int32_t)((uint32_t)four >> 8 & 0x00ff00ffu));

    return _mm256_add_epi32(_mm256_madd_epi16(even, a), _mm256_madd_epi16(odd, b));
}

/* Two queries against 32 rows: eight accumulators of the sixteen registers. */
static inline TARGET_AVX2 void
tile_two(const uint8_t *const queries[2], const int32_t bounds[2], const int8_t *pack,
         const int32_t norms[RK__TILE_ROWS], size_t n, int32_t keys[][RK__TILE_ROWS],
         uint32_t *below)
{
    __m256i a[4];
    __m256i b[4];

    for (size_t r = 0; r < 4; r++) {
        a[r] = _mm256_setzero_si256();
        b[r] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < n; i += 4) {
        const int8_t *rows = pack + i * RK__TILE_ROWS;
        int32_t x;
        int32_t y;
        memcpy(&x, queries[0] + i, sizeof(x));
        memcpy(&y, queries[1] + i, sizeof(y));
#pragma GCC unroll 4
        for (size_t r = 0; r < 4; r++) {
            __m256i v = _mm256_loadu_si256((const void *)(rows + r * 32));
            __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
            __m256i odd = _mm256_srai_epi16(v, 8);
            a[r] = _mm256_add_epi32(a[r], four_avx2(even, odd, x));
            b[r] = _mm256_add_epi32(b[r], four_avx2(even, odd, y));
        }
    }
    below[0] = 0;
    below[1] = 0;
    for (size_t r = 0; r < 4; r++) {
        __m256i norm = _mm256_loadu_si256((const void *)(norms + r * 8));
        __m256i x = _mm256_sub_epi32(norm, _mm256_slli_epi32(a[r], 1));
        __m256i y = _mm256_sub_epi32(norm, _mm256_slli_epi32(b[r], 1));
        __m256i under_x = _mm256_cmpgt_epi32(_mm256_set1_epi32(bounds[0]), x);
        __m256i under_y = _mm256_cmpgt_epi32(_mm256_set1_epi32(bounds[1]), y);
        _mm256_storeu_si256((void *)(keys[0] + r * 8), x);
        _mm256_storeu_si256((void *)(keys[1] + r * 8), y);
        below[0] |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(under_x)) << r * 8;
        below[1] |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(under_y)) << r * 8;
    }
}

static TARGET_AVX2 void
tile_avx2(const uint8_t *const queries[RK__TILE_QUERIES], const int32_t bounds[RK__TILE_QUERIES],
          const int8_t *pack, const int32_t norms[RK__TILE_ROWS], size_t n, rk__tile_result *out)
{
    for (size_t q = 0; q < RK__TILE_QUERIES; q += 2) {
        tile_two(queries + q, bounds + q, pack, norms, n, out->keys + q, out->below + q);
    }
}

static TARGET_AVX2 void
widen_avx2(const int8_t *code, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i v = _mm_loadl_epi64((const void *)(code + i));
        _mm256_storeu_ps(out + i, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)));
    }
}

#elif defined(__aarch64__)

/* One query against 32 rows. Its bias is taken off, so that products of signed bytes fit 16 bits;
 * what the norms hold for it is made up for by |bias|, 256 times the sum of each row. */
static inline void
tile_one(const uint8_t *query, int32_t bound, const int8_t *pack,
         const int32_t norms[RK__TILE_ROWS], const int32x4_t bias[8], size_t n, int32_t *keys,
         uint32_t *below)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    int32x4_t sums[8];

    for (size_t r = 0; r < 8; r++) {
        sums[r] = vdupq_n_s32(0);
    }
    for (size_t i = 0; i < n; i += 4) {
        uint32_t four;
        memcpy(&four, query + i, sizeof(four));
        int8x16_t v = vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
#pragma GCC unroll 8
        for (size_t r = 0; r < 8; r++) {
            int8x16_t x = vld1q_s8(pack + i * RK__TILE_ROWS + r * 16);
            int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(v)));
            int32x4_t high = vpaddlq_s16(vmull_high_s8(x, v));
            sums[r] = vaddq_s32(sums[r], vpaddq_s32(low, high));
        }
    }
    *below = 0;
    for (size_t r = 0; r < 8; r++) {
        int32x4_t norm = vsubq_s32(vld1q_s32(norms + r * 4), bias[r]);
        int32x4_t key = vsubq_s32(norm, vshlq_n_s32(sums[r], 1));
        vst1q_s32(keys + r * 4, key);
        *below |= vaddvq_u32(vandq_u32(vcltq_s32(key, vdupq_n_s32(bound)), bits)) << r * 4;
    }
}

static void
tile_neon(const uint8_t *const queries[RK__TILE_QUERIES], const int32_t bounds[RK__TILE_QUERIES],
          const int8_t *pack, const int32_t norms[RK__TILE_ROWS], size_t n, rk__tile_result *out)
{
    int32x4_t bias[8];

    for (size_t r = 0; r < 8; r++) {
        bias[r] = vdupq_n_s32(0);
        for (size_t i = 0; i < n; i += 4) {
            int8x16_t x = vld1q_s8(pack + i * RK__TILE_ROWS + r * 16);
            bias[r] = vaddq_s32(bias[r], vpaddlq_s16(vpaddlq_s8(x)));
        }
        bias[r] = vshlq_n_s32(bias[r], 8);
    }
    for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
        tile_one(queries[q], bounds[q], pack, norms, bias, n, out->keys[q], &out->below[q]);
    }
}

#endif

rk__tile_fn
rk__tile_of(const char *kernels)
{
#if defined(__x86_64__)
    if (strcmp(kernels, "avx512") == 0) {
        return tile_vnni;
    }
    if (strcmp(kernels, "avx2") == 0) {
        return tile_avx2;
    }
#elif defined(__aarch64__)
    if (strncmp(kernels, "neon", 4) == 0) {
        return tile_neon;
    }
#endif
    RK_UNUSED(kernels);
    return tile_scalar;
}

rk__tile_fn
rk__tile_get(void)
{
    return rk__tile_of(rk__kernels_get()->name);
}

static void
dots_by_four(const int8_t *query, const int8_t *const rows[RK__TILE_DOTS], size_t n,
             int32_t dots[RK__TILE_DOTS])
{
    rk__code8x4_fn ipx4 = rk__kernels_get()->code8_ipx4;

    for (size_t r = 0; r < RK__TILE_DOTS; r += 4) {
        ipx4(query, rows + r, n, dots + r);
    }
}

rk__tile_dots_fn
rk__tile_dots_of(const char *kernels)
{
#if defined(__x86_64__)
    if (strcmp(kernels, "avx512") == 0) {
        return dots_vnni;
    }
#endif
    RK_UNUSED(kernels);
    return dots_by_four;
}

rk__tile_dots_fn
rk__tile_dots_get(void)
{
    return rk__tile_dots_of(rk__kernels_get()->name);
}

rk__tile_sums_fn
rk__tile_sums_of(const char *kernels)
{
#if defined(__x86_64__)
    if (strcmp(kernels, "avx512") == 0) {
        return sums_vnni;
    }
#endif
    RK_UNUSED(kernels);
    return NULL;
}

rk__tile_sums_fn
rk__tile_sums_get(void)
{
    return rk__tile_sums_of(rk__kernels_get()->name);
}

void
rk__tile_widen(const int8_t *code, size_t n, float *out)
{
#if defined(__x86_64__)
    if (strcmp(rk__kernels_get()->name, "avx512") == 0) {
        widen_avx512(code, n, out);
        return;
    }
    if (strcmp(rk__kernels_get()->name, "avx2") == 0) {
        widen_avx2(code, n, out);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)code[i];
    }
}
