/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of the tests of this folder: see search_world.h.
 */
#include "search_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

/* ---- making ---- */

void
upsert(world *w, rk_segment *into, size_t segs, rk_rng *rng)
{
    enum { MOST = 30 };
    rk_arena *arena = rk_arena_new(0);
    st_row rows[MOST];
    int64_t keys[MOST];
    uint64_t times[MOST];
    size_t n = 0, hits;
    bool only_delete = rk_rng_below(rng, 5) == 0;
    rk_err err = {0};

    w->last_ts += 10;
    for (size_t i = 0; i < MOST; i++) {
        int64_t key = (int64_t)rk_rng_below(rng, KEYS);
        bool known = false;
        for (size_t k = 0; k < n; k++) {
            known = known || keys[k] == key;
        }
        if (!known) {
            keys[n] = key;
            times[n] = w->last_ts;
            rows[n++] = (st_row){key, (uint32_t)w->last_ts};
        }
    }
    for (size_t s = 0; s < segs; s++) {
        if (w->segs[s]) {
            assert_int_equal(rk_segment_delete(w->segs[s], st_ids(w->schema, keys, n, arena), times,
                                               n, &hits, &err),
                             RK_OK);
        }
    }
    st_model_delete(&w->model, keys, n, w->last_ts);
    if (!only_delete) {
        assert_int_equal(rk_segment_append(into, st_rows(w->schema, rows, n, arena), ST_FIELDS,
                                           (uint32_t)n, w->last_ts, &err),
                         RK_OK);
        st_model_insert(&w->model, rows, n, w->last_ts);
    }
    rk_arena_free(arena);
}

void
world_new(world *w, bool text_keys)
{
    rk_err err = {0};
    rk_rng rng;
    bool damaged;

    memset(w, 0, sizeof(*w));
    st_store_open(&w->store);
    w->schema = st_schema(text_keys);
    w->arena = rk_arena_new(0);
    rk_rng_init(&rng, 11);
    for (size_t s = 0; s < SEGS; s++) {
        rk_segment_ids ids = {(int64_t)s + 1, 1, s % 2 ? 7 : 8}; /* partitions 8, 7, 8, 7 */
        rk_segment *growing;
        assert_int_equal(rk_segment_new_growing(&growing, &ids, w->schema, w->store.mem, &err),
                         RK_OK);
        w->segs[s] = growing;
        for (int i = 0; i < 60; i++) {
            upsert(w, growing, s + 1, &rng);
        }
        if (s < 2) { /* flushed with nothing folded in, so that earlier snapshots stay readable */
            assert_int_equal(rk_segment_write(&w->infos[s], &ids, &growing, 1, 0, &w->store.env,
                                              NULL, w->arena, &err),
                             RK_OK);
            assert_int_equal(rk_segment_open(&w->segs[s], &w->infos[s], w->schema, &w->store.env,
                                             &damaged, &err),
                             RK_OK);
            for (size_t i = 0; i < w->model.n;
                 i++) { /* its deletes once more, as from a delta file */
                const st_written *row = &w->model.rows[i];
                size_t hits;
                if (row->deleted_ts != UINT64_MAX) {
                    assert_int_equal(
                        rk_segment_delete(w->segs[s], st_ids(w->schema, &row->row.key, 1, w->arena),
                                          &row->deleted_ts, 1, &hits, &err),
                        RK_OK);
                }
            }
            rk_segment_unref(growing);
        }
    }
}

void
world_free(world *w)
{
    for (size_t s = 0; s < SEGS; s++) {
        rk_segment_unref(w->segs[s]);
    }
    free(w->model.rows);
    rk_schema_unref(w->schema);
    rk_arena_free(w->arena);
    rk_filter_cache_free(w->cache);
    st_store_close(&w->store);
}

/* ---- predicates, in both languages ---- */

static bool
pass_all(st_row row)
{
    RK_UNUSED(row);
    return true;
}

static bool
pass_number(st_row row)
{
    int32_t number;
    return st_number(row, &number) && number < 300;
}

static bool
pass_flag(st_row row)
{
    return st_flag(row);
}

static bool
pass_keys(st_row row)
{
    return row.key == 5 || row.key == 77 || row.key == 301 || row.key == 302;
}

static bool
pass_keys_and_number(st_row row)
{
    int32_t number;
    return row.key >= 100 && row.key <= 103 && st_number(row, &number) && number >= 100;
}

static bool
pass_none(st_row row)
{
    RK_UNUSED(row);
    return false;
}

const predicate predicates[PREDICATES] = {
    {"", pass_all, false},
    {"number < 300", pass_number, false},
    {"flag == true", pass_flag, false},
    {"id in [5, 77, 301, 302, 100000]", pass_keys, true},
    {"id in [100, 101, 102, 103] and number >= 100", pass_keys_and_number, true},
    {"1 == 2", pass_none, false},
    {"number < 0", pass_none, false},
    {"id == 100001", pass_none, true},
};

pb_rk_SearchRequest
request_for(world *w, const predicate *p, bool optional, rk_metric metric, uint32_t topk,
            const float *queries, size_t nq)
{
    pb_rk_SearchRequest request = {.field_id = 100 + (optional ? ST_OPTIONAL_VECTOR : ST_VECTOR),
                                   .metric = (int32_t)metric,
                                   .topk = topk};

    request.predicate = RK_ARENA_NEW(w->arena, pb_rk_Predicate);
    request.predicate->expr = rk_str_from(p->expr);
    request.scope = RK_ARENA_NEW(w->arena, pb_rk_ReadScope);
    request.queries.n = nq;
    request.queries.data = RK_ARENA_ARRAY(w->arena, rk_str, nq + 1);
    for (size_t q = 0; q < nq; q++) {
        request.queries.data[q] = (rk_str){(const char *)(queries + q * ST_DIM), ST_DIM * 4};
    }
    return request;
}
