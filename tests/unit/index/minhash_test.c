/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MINHASH_LSH against a brute force written here: a row is a hit when it shares a band, its score 1
 * or the share of equal hashes; widths, bands, filters, images, rows without an index in chunks,
 * cancel, failing allocations, shapes that do not fit.
 */
#include "index/minhash.h"

#include "index_testing.h"

enum { ROWS = 3000, QUERIES = 10, K = 20 };

/* Families of rows: a row takes each hash from its family's with probability 0.8. */
static uint8_t *
make_rows(size_t rows, uint32_t hashes, uint32_t width, uint64_t seed)
{
    testing_rng rng = {seed};
    size_t row_bytes = (size_t)hashes * width;
    uint8_t *data = rk_alloc(rows * row_bytes + 64);

    assert_non_null(data);
    for (size_t r = 0; r < rows; r++) {
        uint64_t family = testing_u64(&rng) % 40;
        for (uint32_t h = 0; h < hashes; h++) {
            bool own = testing_uniform(&rng) < 0.2;
            uint64_t value = own ? testing_u64(&rng) : rk_hash_u64(family * 1000 + h + 1);
            for (uint32_t b = 0; b < width; b++) {
                data[r * row_bytes + h * width + b] = (uint8_t)(value >> b % 8 * 8);
            }
        }
    }
    return data;
}

static size_t
truth(const uint8_t *data, size_t rows, uint32_t hashes, uint32_t width, uint32_t bands,
      const uint8_t *query, bool share, const rk_bitset *filter, rk__near *out)
{
    size_t row_bytes = (size_t)hashes * width;
    uint32_t per_band = hashes / bands;
    size_t n = 0;

    for (size_t r = 0; r < rows; r++) {
        const uint8_t *row = data + r * row_bytes;
        uint32_t equal = 0;
        uint32_t run = 0;
        bool meets = false;
        for (uint32_t h = 0; h < hashes; h++) {
            bool same = true;
            for (uint32_t b = 0; b < width; b++) {
                same = same && row[h * width + b] == query[h * width + b];
            }
            run = h % per_band == 0 ? 0 : run;
            run += same;
            meets = meets || (run == per_band && h < bands * per_band);
            equal += same;
        }
        if (meets && (!filter || rk_bitset_get(filter, r))) {
            float score = share ? (float)equal / (float)hashes : 1.0f;
            out[n++] = (rk__near){-score, (uint32_t)r};
        }
    }
    qsort(out, n, sizeof(*out), testing_compare);
    return n;
}

typedef struct shape_case {
    uint32_t hashes;
    uint32_t width; /* bytes */
    uint32_t bands;
} shape_case;

static void
check_hits(const rk__near *want, size_t n_want, const rk_hit *hits, uint32_t n, const char *what)
{
    assert_int_equal(n, RK_MIN(n_want, (size_t)K));
    for (uint32_t i = 0; i < n; i++) {
        if (hits[i].row != want[i].row || hits[i].score != -want[i].key) {
            fail_msg("%s: hit %u is row %u score %g, want row %u score %g", what, i, hits[i].row,
                     (double)hits[i].score, want[i].row, (double)-want[i].key);
        }
    }
}

static void
check_shape(const shape_case *c)
{
    uint8_t *data = make_rows(ROWS, c->hashes, c->width, 5);
    uint8_t *queries = make_rows(QUERIES, c->hashes, c->width, 6);
    size_t row_bytes = (size_t)c->hashes * c->width;
    rk_vectors v = {RK_VEC_BINARY, (uint32_t)row_bytes * 8, ROWS, data, NULL};
    char width[16];
    char bands[16];
    rk_arena *arena = rk_arena_new(0);
    rk__near *want = rk_alloc(ROWS * sizeof(*want));
    rk_index *built = NULL;
    rk_index *opened = NULL;
    rk_buf buf = {0};
    rk_err err = {0};
    rk_bitset filter;

    (void)snprintf(width, sizeof(width), "%u", c->width * 8);
    (void)snprintf(bands, sizeof(bands), "%u", c->bands);
    rk_param params[3] = {{RK_STR("mh_element_bit_width"), rk_str_from(width)},
                          {RK_STR("mh_lsh_band"), rk_str_from(bands)},
                          {RK_STR("mh_search_with_jaccard"), RK_STR("true")}};
    rk_build_options build = {.metric = RK_METRIC_MHJACCARD, .params = {params, 2}};
    testing_filter(&filter, ROWS, 0.3, 7);
    assert_non_null(want);
    assert_int_equal(rk_index_build(&built, RK_STR("MINHASH_LSH"), &v, &build, &err), RK_OK);
    assert_int_equal(rk_index_save(built, testing_append, &buf, &err), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    assert_int_equal(rk_index_open(&opened, (rk_str){image, buf.len}, &v, NULL, &err), RK_OK);
    size_t found = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        const uint8_t *query = queries + q * row_bytes;
        for (unsigned mode = 0; mode < 4; mode++) {
            rk_search_options options = {.k = K,
                                         .params = {params, mode & 1 ? 3 : 2},
                                         .filter = mode & 2 ? &filter : NULL,
                                         .filter_count = rk_bitset_count(&filter),
                                         .arena = arena};
            rk_hit hits[K];
            uint32_t n = 0;
            size_t n_want = truth(data, ROWS, c->hashes, c->width, c->bands, query, mode & 1,
                                  options.filter, want);
            found += n_want;
            assert_int_equal(rk_index_search(built, query, row_bytes, &options, hits, &n, &err),
                             RK_OK);
            check_hits(want, n_want, hits, n, "built");
            assert_int_equal(rk_index_search(opened, query, row_bytes, &options, hits, &n, &err),
                             RK_OK);
            check_hits(want, n_want, hits, n, "opened");
            n = 0;
            for (size_t base = 0; base < ROWS;
                 base += 1000) { /* rows without an index, in chunks */
                rk_vectors chunk = {v.type, v.dim, 1000, data + base * row_bytes, NULL};
                assert_int_equal(rk_flat_search(&chunk, base, RK_METRIC_MHJACCARD, query, row_bytes,
                                                &options, hits, &n, &err),
                                 RK_OK);
            }
            check_hits(want, n_want, hits, n, "scan");
            rk_arena_reset(arena);
        }
    }
    assert_true(c->bands == 1 || found > 0);
    rk_bitset_deinit(&filter);
    rk_index_free(built);
    rk_index_free(opened);
    rk_arena_free(arena);
    rk_buf_deinit(&buf);
    rk_free(image);
    rk_free(want);
    rk_free(data);
    rk_free(queries);
}

static void
test_equals_brute_force(void **state)
{
    static const shape_case cases[] = {{16, 1, 4}, {16, 4, 16}, {12, 2, 5}, {8, 8, 2},
                                       {10, 3, 3}, {4, 32, 2},  {16, 4, 1}, {1, 1, 1}};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check_shape(&cases[i]);
    }
}

static void
test_shapes_that_do_not_fit(void **state)
{
    static const struct {
        const char *width;
        const char *bands;
    } cases[] = {{"12", "1"}, {"264", "1"}, {"0", "1"}, {"8", "17"}, {"8", "0"}, {"256", "1"}};
    uint8_t data[16] = {0};
    rk_vectors v = {RK_VEC_BINARY, 128, 1, data, NULL};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_param params[2] = {{RK_STR("mh_element_bit_width"), rk_str_from(cases[i].width)},
                              {RK_STR("mh_lsh_band"), rk_str_from(cases[i].bands)}};
        rk_build_options options = {.metric = RK_METRIC_MHJACCARD, .params = {params, 2}};
        rk_index *index = NULL;
        rk_err err = {0};
        assert_int_equal(rk_index_build(&index, RK_STR("MINHASH_LSH"), &v, &options, &err),
                         RK_EINVAL);
        assert_null(index);
    }
}

static void
test_cancel_and_allocations(void **state)
{
    uint8_t *data = make_rows(500, 8, 2, 8);
    rk_vectors v = {RK_VEC_BINARY, 128, 500, data, NULL};
    _Atomic(bool) cancel = true;
    rk_build_options options = {.metric = RK_METRIC_MHJACCARD, .cancel = &cancel};
    rk_index *index = NULL;
    rk_err err = {0};
    int64_t at = 0;

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("MINHASH_LSH"), &v, &options, &err),
                     RK_ECANCELLED);
    options.cancel = NULL;
    for (;; at++) {
        rk_alloc_fail_after(at);
        rk_code code = rk_index_build(&index, RK_STR("MINHASH_LSH"), &v, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            rk_index_free(index);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_true(at < 100);
    }
    assert_true(at >= 4);
    rk_free(data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_brute_force),
        cmocka_unit_test(test_shapes_that_do_not_fit),
        cmocka_unit_test(test_cancel_and_allocations),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
