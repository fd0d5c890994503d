/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiles of distances between 8-bit codes, see hnsw_tile.h. The key of query q and row r is
 * |r|^2 - 2 <q, r>; with q biased by 128 the product is <q, r> + 128 sum(r), so a row's norm is
 * kept as |r|^2 + 256 sum(r) and the key is norm - 2 * product.
 */
#include "index/hnsw_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>
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

#endif

rk__tile_fn
rk__tile_get(void)
{
#if defined(__x86_64__)
    if (strcmp(rk__kernels_get()->name, "avx512") == 0) {
        return tile_vnni;
    }
#endif
    return tile_scalar;
}

void
rk__tile_widen(const int8_t *code, size_t n, float *out)
{
#if defined(__x86_64__)
    if (strcmp(rk__kernels_get()->name, "avx512") == 0) {
        widen_avx512(code, n, out);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)code[i];
    }
}
