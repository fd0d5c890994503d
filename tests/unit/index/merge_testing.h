/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of merging: rows picked from a universe of vectors, where the rows of one set
 * are in another, graphs built and merged, and the recall of one.
 */
#ifndef RK_TESTS_MERGE_TESTING_H
#define RK_TESTS_MERGE_TESTING_H

#include "index/hnsw/hnsw.h"
#include "index_testing.h"

enum { K = 10, QUERIES = 60, UNIVERSE = 8000 };

/* Rows of a universe of vectors, as a matrix of their own. */
typedef struct rows {
    uint32_t *ids;
    size_t n;
    uint8_t *data;
    rk_vectors v;
} rows;

static inline void
rows_fill(rows *r, const rk_vectors *universe)
{
    size_t bytes = rk_vector_bytes(universe->type, universe->dim);

    rk_free(r->data);
    r->data = rk_alloc(r->n * bytes + 64);
    assert_non_null(r->data);
    for (size_t i = 0; i < r->n; i++) {
        memcpy(r->data + i * bytes, (const uint8_t *)universe->data + r->ids[i] * bytes, bytes);
    }
    r->v = (rk_vectors){universe->type, universe->dim, r->n, r->data, NULL};
}

static inline rows
rows_new(const rk_vectors *universe, const uint32_t *ids, size_t n)
{
    rows r = {.ids = rk_alloc((n + 1) * sizeof(uint32_t)), .n = n};

    assert_non_null(r.ids);
    memcpy(r.ids, ids, n * sizeof(uint32_t));
    rows_fill(&r, universe);
    return r;
}

static inline void
rows_free(rows *r)
{
    rk_free(r->ids);
    rk_free(r->data);
}

static inline uint32_t *
shuffled(size_t n, uint64_t seed)
{
    uint32_t *ids = rk_alloc((n + 1) * sizeof(*ids));

    assert_non_null(ids);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)i;
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = rk__random(&seed) % i;
        uint32_t t = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = t;
    }
    return ids;
}

/* Where the rows of |from| are in |to|. */
static inline uint32_t *
map_of(const rows *from, const rows *to)
{
    uint32_t *map = rk_alloc((from->n + 1) * sizeof(*map));
    uint32_t *where = rk_alloc(UNIVERSE * sizeof(*where));

    assert_non_null(map);
    assert_non_null(where);
    memset(where, 0xff, UNIVERSE * sizeof(*where));
    for (size_t i = 0; i < to->n; i++) {
        where[to->ids[i]] = (uint32_t)i;
    }
    for (size_t i = 0; i < from->n; i++) {
        map[i] = where[from->ids[i]];
    }
    rk_free(where);
    return map;
}

static rk_param hnsw_params[2] = {{RK_STR("M"), RK_STR("12")},
                                  {RK_STR("efConstruction"), RK_STR("100")}};

static inline rk_build_options
options_of(rk_metric metric, const rk_parallel *parallel)
{
    return (rk_build_options){
        .metric = metric, .params = {hnsw_params, 2}, .parallel = parallel, .seed = 3};
}

static inline rk_index *
build(const rk_vectors *v, rk_metric metric)
{
    rk_build_options options = options_of(metric, NULL);
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, RK_STR("HNSW"), v, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

static inline rk_index *
merge_with(const rk_vectors *v, const rk_merge_part *parts, size_t n, const rk_build_options *o)
{
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_merge(&index, RK_STR("HNSW"), v, parts, n, o, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

/* The share of the k nearest that are found, ties counted; checks what must hold of each answer. */
static inline double
recall_of(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
          const char *ef_text)
{
    rk_arena *arena = rk_arena_new(0);
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    rk_param ef = {RK_STR("ef"), rk_str_from(ef_text)};
    size_t found = 0;
    size_t wanted = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K, .params = {&ef, 1}, .arena = arena};
        const uint8_t *query = queries + q * bytes;
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;

        assert_int_equal(rk_index_search(index, query, bytes, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(rk_flat_search(v, 0, metric, query, bytes, &options, flat, &n_flat, NULL),
                         RK_OK);
        assert_int_equal(n, n_flat);
        for (uint32_t i = 0; i < n; i++) {
            float worst = flat[n_flat - 1].score;
            found += rk_metric_larger_is_nearer(metric) ? hits[i].score >= worst
                                                        : hits[i].score <= worst;
            for (uint32_t j = 0; j < i; j++) {
                assert_int_not_equal(hits[i].row, hits[j].row);
            }
            for (uint32_t j = 0; j < n_flat; j++) { /* one pair, one score */
                assert_true(hits[i].row != flat[j].row || hits[i].score == flat[j].score);
            }
        }
        wanted += n_flat;
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return (double)found / (double)RK_MAX(wanted, (size_t)1);
}

#endif
