/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiles of distances, of every kernel table that this CPU can run: the exact squared distances on
 * every width, with packs that are full and not, over the whole range of codes.
 */
#include "index/hnsw/tile.h"

#include "index_testing.h"

enum { DIM = 192 };

static void
check(rk__tile_fn tile, size_t dim, size_t n_rows, bool extremes)
{
    static int8_t codes[RK__TILE_ROWS + RK__TILE_QUERIES][DIM];
    _Alignas(64) static int8_t pack[RK__TILE_ROWS * DIM];
    _Alignas(64) static uint8_t biased[RK__TILE_QUERIES][DIM];
    _Alignas(64) int32_t norms[RK__TILE_ROWS];
    const int8_t *rows[RK__TILE_ROWS];
    const uint8_t *queries[RK__TILE_QUERIES];
    int32_t bounds[RK__TILE_QUERIES];
    int32_t squares[RK__TILE_QUERIES];
    rk__tile_result out;
    testing_rng rng = {dim + n_rows};

    for (size_t i = 0; i < RK_COUNT(codes); i++) {
        for (size_t d = 0; d < DIM; d++) {
            uint64_t x = testing_u64(&rng);
            codes[i][d] = extremes ? (x & 1 ? 127 : -128) : (int8_t)(uint8_t)x;
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        rows[r] = codes[r];
    }
    rk__tile_pack(rows, n_rows, dim, pack, norms);
    for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
        queries[q] = biased[q];
        squares[q] = rk__tile_query(codes[RK__TILE_ROWS + q], dim, biased[q]);
        bounds[q] = q % 2 ? INT32_MAX : (int32_t)(testing_u64(&rng) % 500000) - 100000;
    }
    tile(queries, bounds, pack, norms, dim, &out);
    for (size_t q = 0; q < RK__TILE_QUERIES; q++) {
        for (size_t r = 0; r < RK__TILE_ROWS; r++) {
            int32_t want = -squares[q];
            for (size_t d = 0; d < dim; d++) {
                int32_t diff = codes[r][d] - codes[RK__TILE_ROWS + q][d];
                want += diff * diff;
            }
            assert_true(r >= n_rows || out.keys[q][r] == want);
            assert_int_equal((out.below[q] >> r) & 1u, r < n_rows && want < bounds[q]);
        }
    }
}

static void
test_tiles(void **state)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        if (!rk__kernels_find(names[i])) {
            continue;
        }
        for (size_t dim = 64; dim <= DIM; dim += 64) {
            for (size_t n_rows = 1; n_rows <= RK__TILE_ROWS; n_rows++) {
                check(rk__tile_of(names[i]), dim, n_rows, n_rows % 2 == 0);
            }
        }
    }
}

static void
test_sums(void **state)
{
    static const char *const names[] = {"avx2", "avx512", "neon"};
    testing_rng rng = {7};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        rk__tile_sums_fn sums_of = rk__kernels_find(names[i]) ? rk__tile_sums_of(names[i]) : NULL;
        for (size_t run = 0; sums_of && run < 60; run++) {
            size_t dim = 64 + run % 3 * 64;
            int8_t codes[2][DIM];
            uint8_t signs[DIM / 8];
            int32_t sums[4];
            int32_t want[4] = {0};
            for (size_t d = 0; d < dim; d++) {
                for (size_t j = 0; j < 2; j++) {
                    uint64_t x = testing_u64(&rng);
                    codes[j][d] = (int8_t)(run % 2 ? (x & 1 ? 127 : -127) : (int)(x % 255) - 127);
                }
            }
            sums_of(codes[0], codes[1], dim, signs, sums);
            for (size_t d = 0; d < dim; d++) {
                int32_t c = codes[1][d];
                int32_t r = codes[0][d] - c;
                assert_int_equal((unsigned)signs[d / 8] >> d % 8 & 1u, r >= 0);
                want[0] += r * r;
                want[1] += r < 0 ? -r : r;
                want[2] += r < 0 ? -c : c;
                want[3] += r * c;
            }
            for (size_t j = 0; j < 4; j++) {
                assert_int_equal(sums[j], want[j]);
            }
        }
    }
}

static void
test_dots(void **state)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};
    testing_rng rng = {9};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        for (size_t run = 0; rk__kernels_find(names[i]) && run < 40; run++) {
            size_t dim = 64 + run % 3 * 64;
            int8_t codes[RK__TILE_DOTS + 1][DIM];
            const int8_t *rows[RK__TILE_DOTS];
            int32_t dots[RK__TILE_DOTS];
            for (size_t r = 0; r < RK_COUNT(codes); r++) {
                for (size_t d = 0; d < dim; d++) {
                    uint64_t x = testing_u64(&rng);
                    codes[r][d] = (int8_t)(run % 2 ? (x & 1 ? 127 : -127) : (int)(x % 255) - 127);
                }
            }
            for (size_t r = 0; r < RK__TILE_DOTS; r++) {
                rows[r] = codes[r];
            }
            rk__tile_dots_of(names[i])(codes[RK__TILE_DOTS], rows, dim, dots);
            for (size_t r = 0; r < RK__TILE_DOTS; r++) {
                int32_t want = 0;
                for (size_t d = 0; d < dim; d++) {
                    want += codes[RK__TILE_DOTS][d] * codes[r][d];
                }
                assert_int_equal(dots[r], want);
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_dots),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
