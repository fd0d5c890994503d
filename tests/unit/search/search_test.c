/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads against brute force over a list of what was written: search and query over two sealed and
 * two growing segments, at the newest and at earlier timestamps, with and without predicates and
 * indexes.
 */
#include "search/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "search_world.h"

/* ---- search ---- */

typedef struct expected_hit {
    float score;
    st_row row;
} expected_hit;

static bool larger_first;

static int
compare_hits(const void *a, const void *b)
{
    const expected_hit *x = a;
    const expected_hit *y = b;

    if (x->score < y->score || x->score > y->score) {
        return (x->score < y->score) == larger_first ? 1 : -1;
    }
    return (x->row.key > y->row.key) - (x->row.key < y->row.key);
}

static size_t
brute_force(world *w, uint64_t read_ts, const predicate *p, bool optional, rk_metric metric,
            const float *query, expected_hit *out)
{
    size_t n = 0;

    for (size_t i = 0; i < w->model.n; i++) {
        const st_written *row = &w->model.rows[i];
        float v[ST_DIM];
        if (!st_model_sees(row, read_ts) || !p->pass(row->row) ||
            (optional && st_vector_null(row->row))) {
            continue;
        }
        st_vector(row->row, optional, v);
        out[n++] = (expected_hit){rk_distance(RK_VEC_F32, metric, ST_DIM, query, v), row->row};
    }
    larger_first = rk_metric_larger_is_nearer(metric);
    qsort(out, n, sizeof(*out), compare_hits);
    return n;
}

static int64_t
key_number(rk_pk pk)
{
    long long key;
    char text[32];

    if (!pk.is_text) {
        return pk.number;
    }
    snprintf(text, sizeof(text), "%.*s", RK_STR_ARG(pk.text));
    assert_int_equal(sscanf(text, "key-%lld", &key), 1);
    return (int64_t)key;
}

static void
assert_hits(const pb_rk_SearchResponse *got, size_t first, size_t count,
            const expected_hit *expected, size_t expected_n)
{
    assert_int_equal(count, expected_n);
    for (size_t i = 0; i < count; i++) {
        float score = pb_f32_at(got->scores, first + i);
        assert_true(fabsf(score - expected[i].score) <= 1e-4f * (1.0f + fabsf(score)));
        int64_t key = key_number(rk_ids_at(got->ids, first + i));
        bool near =
            key ==
            expected[i]
                .row.key; /* sums in another order may swap hits that differ in the last bit */
        for (size_t k = i > 3 ? i - 3 : 0; !near && k < RK_MIN(expected_n, i + 4); k++) {
            near =
                key == expected[k].row.key && fabsf(expected[k].score - expected[i].score) < 1e-5f;
        }
        assert_true(near || i + 1 == count);
    }
}

static void
check_search(world *w, uint64_t read_ts, const predicate *p, bool optional, rk_metric metric,
             uint32_t topk)
{
    enum { NQ = 3 };
    expected_hit *expected = malloc((w->model.n + 1) * sizeof(*expected));
    float queries[NQ * ST_DIM];
    pb_rk_SearchResponse out, halves[2], merged;
    rk_search_plan *plan;
    size_t first = 0;
    rk_err err = {0};
    rk_rng rng;

    assert_non_null(expected);
    rk_arena *whole = w->arena;
    w->arena = rk_arena_new(0); /* of this request */
    rk_rng_init(&rng, read_ts + topk);
    for (size_t i = 0; i < RK_COUNT(queries); i++) {
        queries[i] = rk_rng_float(&rng) * 2 - 1;
    }
    pb_rk_SearchRequest request = request_for(w, p, optional, metric, topk, queries, NQ);
    rk_code code = rk_search_plan_new(&plan, &request, w->schema, w->arena, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    rk_search_plan_use(plan, w->cache);
    code = rk_search_run(plan, w->segs, SEGS, read_ts, &out, w->arena, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    assert_int_equal(out.counts.n, NQ);
    assert_int_equal(out.rows.n, out.scores.n);
    /* the same in two parts, merged, two hits dropped at the front */
    assert_int_equal(rk_search_run(plan, w->segs, 2, read_ts, &halves[0], w->arena, &err), RK_OK);
    assert_int_equal(rk_search_run(plan, w->segs + 2, 2, read_ts, &halves[1], w->arena, &err),
                     RK_OK);
    pb_rk_SearchResponse *parts[] = {&halves[0], &halves[1]};
    assert_int_equal(rk_search_merge(plan, parts, 2, 2, &merged, w->arena, &err), RK_OK);
    size_t merged_first = 0;
    for (size_t q = 0; q < NQ; q++) {
        size_t n =
            RK_MIN(brute_force(w, read_ts, p, optional, metric, queries + q * ST_DIM, expected),
                   (size_t)topk);
        assert_hits(&out, first, out.counts.data[q], expected, n);
        assert_hits(&merged, merged_first, merged.counts.data[q], expected + RK_MIN(n, 2u),
                    n - RK_MIN(n, 2u));
        for (size_t i = 0; i < out.counts.data[q]; i++) { /* where it says the row is, it is */
            const rk_segment *seg = w->segs[out.segment_ids.data[first + i] - 1];
            assert_int_equal(rk_pk_cmp(rk_segment_pk(seg, out.rows.data[first + i]),
                                       rk_ids_at(out.ids, first + i)),
                             0);
        }
        first += out.counts.data[q];
        merged_first += merged.counts.data[q];
    }
    rk_arena_free(w->arena);
    w->arena = whole;
    free(expected);
}

static void
check_all_searches(world *w, bool text_keys)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};

    for (size_t p = 0; p < RK_COUNT(predicates); p++) {
        if (predicates[p].numbers_only && text_keys) {
            continue;
        }
        for (size_t m = 0; m < RK_COUNT(metrics); m++) {
            check_search(w, w->last_ts, &predicates[p], false, metrics[m], 10);
            check_search(w, w->last_ts, &predicates[p], true, metrics[m], 7);
            check_search(w, w->last_ts / 2, &predicates[p], false, metrics[m], 20);
            check_search(w, 15, &predicates[p], true, metrics[m], 1);
        }
        check_search(w, w->last_ts, &predicates[p], false, RK_METRIC_L2, 5000);
    }
}

static void
test_search(void **state)
{
    RK_UNUSED(state);
    for (int text = 0; text < 2; text++) {
        world w;
        world_new(&w, text);
        check_all_searches(&w, text);
        world_free(&w);
    }
}

/* FLAT indexes change nothing; an index of another metric is not used. */
static void
test_search_with_index(void **state)
{
    static const int64_t fields[] = {100 + ST_VECTOR, 100 + ST_OPTIONAL_VECTOR};
    rk_param pairs[] = {{RK_STR("index_type"), RK_STR("FLAT")},
                        {RK_STR("metric_type"), RK_STR("L2")}};
    world w;
    rk_err err = {0};

    RK_UNUSED(state);
    world_new(&w, false);
    for (size_t s = 0; s < 2; s++) {
        for (size_t f = 0; f < 2; f++) {
            pb_rk_IndexFile file = {.field_id = fields[f],
                                    .object = rk_arena_printf(w.arena, "c1/s%zu/i%zu", s + 1, f)};
            rk_code code = rk_segment_build_index(w.segs[s], fields[f], (rk_params){pairs, 2},
                                                  file.object.data, &w.store.env, NULL, NULL,
                                                  &file.size_bytes, &err);
            assert_string_equal(err.text, "");
            assert_int_equal(code, RK_OK);
            assert_int_equal(rk_segment_set_index(w.segs[s], &file, &w.store.env, &err), RK_OK);
        }
    }
    check_all_searches(&w, false);
    world_free(&w);
}

/* Kept filters change nothing, not even while rows are deleted and added; with so little room that
 * they push each other out, either. */
static void
test_search_with_kept_filters(void **state)
{
    static const uint64_t limits[] = {1 << 20, 1000, 100};

    RK_UNUSED(state);
    for (size_t l = 0; l < RK_COUNT(limits); l++) {
        rk_filter_cache_stats stats;
        rk_err err = {0};
        rk_rng rng;
        world w;
        world_new(&w, false);
        rk_rng_init(&rng, l);
        assert_int_equal(rk_filter_cache_new(&w.cache, limits[l], w.store.mem, &err), RK_OK);
        for (int round = 0; round < 4; round++) {
            check_all_searches(&w, false);
            for (int i = 0; round % 2 == 1 && i < 3; i++) {
                upsert(&w, w.segs[3], SEGS, &rng);
            }
        }
        rk_filter_cache_get_stats(w.cache, &stats);
        assert_true(stats.bytes <= limits[l]);
        assert_true(l == 2 ? stats.entries == 0 : stats.entries > 0 && stats.hits > 0);
        assert_true(l == 1 ? stats.evicted > 0 : stats.evicted == 0);
        uint64_t before = stats.entries;
        rk_filter_cache_drop(w.cache, 1);
        rk_filter_cache_get_stats(w.cache, &stats);
        assert_true(l != 0 || (stats.entries > 0 && stats.entries < before));
        rk_filter_cache_drop(w.cache, 2);
        rk_filter_cache_get_stats(w.cache, &stats);
        assert_int_equal(stats.entries, 0);
        assert_int_equal(stats.bytes, 0);
        world_free(&w);
    }
}

static void
test_range(void **state)
{
    world w;
    float query[ST_DIM] = {0.3f, -0.2f, 0.1f, 0.5f, 0, 0};
    expected_hit *expected;
    pb_rk_SearchResponse out;
    rk_search_plan *plan;
    rk_err err = {0};

    RK_UNUSED(state);
    world_new(&w, false);
    expected = malloc((w.model.n + 1) * sizeof(*expected));
    if (!expected) {
        fail_msg("no memory");
        return;
    }
    for (int ip = 0; ip < 2; ip++) {
        rk_metric metric = ip ? RK_METRIC_IP : RK_METRIC_L2;
        pb_rk_SearchRequest request =
            request_for(&w, &predicates[0], false, metric, 1000, query, 1);
        size_t n = brute_force(&w, w.last_ts, &predicates[0], false, metric, query, expected),
               kept = 0;
        request.range = true;
        request.radius = expected[n / 2].score;
        request.has_range_filter = true;
        request.range_filter = expected[n / 4].score;
        for (size_t i = 0; i < n; i++) {
            float s = expected[i].score;
            if (ip ? s > request.radius && s <= request.range_filter
                   : s < request.radius && s >= request.range_filter) {
                expected[kept++] = expected[i];
            }
        }
        assert_int_equal(rk_search_plan_new(&plan, &request, w.schema, w.arena, &err), RK_OK);
        assert_int_equal(rk_search_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err), RK_OK);
        assert_true(out.counts.data[0] + 1 >= kept && out.counts.data[0] <= kept + 1 &&
                    kept > 10); /* scores at the bounds may round */
        request.range_filter = ip ? request.radius - 1 : request.radius + 1;
        assert_int_equal(rk_search_plan_new(&plan, &request, w.schema, w.arena, &err), RK_ESEGCORE);
        assert_non_null(strstr(err.text, ip ? "metric type (IP), range_filter("
                                            : "metric type (L2), range_filter("));
        assert_non_null(
            strstr(err.text, ip ? "must be greater than radius(" : "must be less than radius("));
        request.range = false;
        assert_int_equal(rk_search_plan_new(&plan, &request, w.schema, w.arena, &err), RK_EINVAL);
        assert_non_null(strstr(err.text, "range_filter requires radius to be set"));
    }
    free(expected);
    world_free(&w);
}

static void
test_partitions_and_sparse(void **state)
{
    world w;
    float query[ST_DIM] = {0.3f, -0.2f, 0.1f, 0.5f, 0, 0};
    pb_rk_SearchResponse out;
    rk_search_plan *plan;
    int64_t partition = 7;
    rk_err err = {0};

    RK_UNUSED(state);
    world_new(&w, false);
    pb_rk_SearchRequest request =
        request_for(&w, &predicates[0], false, RK_METRIC_L2, 500, query, 1);
    request.scope->partition_ids = (pb_i64s){&partition, 1};
    assert_int_equal(rk_search_plan_new(&plan, &request, w.schema, w.arena, &err), RK_OK);
    assert_int_equal(rk_search_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err), RK_OK);
    assert_true(out.segment_ids.n > 50);
    for (size_t i = 0; i < out.segment_ids.n; i++) {
        assert_true(out.segment_ids.data[i] == 2 || out.segment_ids.data[i] == 4);
    }
    /* sparse: only rows that share an index with the query, best first */
    rk_str longest = {NULL, 0};
    for (size_t i = 0; i < w.model.n && longest.len < 24; i++) {
        if (st_model_sees(&w.model.rows[i], w.last_ts)) {
            longest = st_sparse(w.model.rows[i].row, w.arena);
        }
    }
    pb_rk_SearchRequest sparse = request_for(&w, &predicates[0], false, RK_METRIC_IP, 50, query, 1);
    sparse.field_id = 100 + ST_SPARSE;
    sparse.queries.data[0] = longest;
    assert_int_equal(rk_search_plan_new(&plan, &sparse, w.schema, w.arena, &err), RK_OK);
    assert_int_equal(rk_search_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err), RK_OK);
    assert_true(out.counts.data[0] > 3);
    for (size_t i = 0; i < out.scores.n; i++) {
        assert_true(pb_f32_at(out.scores, i) > 0);
        assert_true(i == 0 || pb_f32_at(out.scores, i) <= pb_f32_at(out.scores, i - 1));
    }
    sparse.queries.data[0].len = 7;
    assert_int_equal(rk_search_plan_new(&plan, &sparse, w.schema, w.arena, &err), RK_EINVAL);
    assert_non_null(strstr(err.text, "invalid data length in sparse float vector: 7"));
    world_free(&w);
}

static void
test_plan_errors(void **state)
{
    world w;
    float query[ST_DIM] = {0};
    rk_search_plan *plan;
    pb_rk_SearchRequest request;

    RK_UNUSED(state);
    world_new(&w, false);
    for (int i = 0; i < 7; i++) {
        static const struct {
            rk_code code;
            const char *text;
        } expected[] = {
            {RK_ESEGCORE, "vector dimension mismatch, expected vector size(byte) 24, actual 20."},
            {RK_EFIELD_NOT_FOUND, "field not found[fieldID=999]"},
            {RK_EINVAL, "is not of vector data type"},
            {RK_EINVAL, "metric type HAMMING is not supported"},
            {RK_EINVAL, "topk [0] is invalid"},
            {RK_ESEGCORE, "vector type must be the same, field vector - type FloatVector, search "
                          "ph type Int8Vector"},
            {RK_EINVAL, "cannot parse expression"},
        };
        rk_err err = {0};
        request = request_for(&w, &predicates[0], false, RK_METRIC_L2, 10, query, 1);
        switch (i) {
        case 0:
            request.queries.data[0].len = 20;
            break;
        case 1:
            request.field_id = 999;
            break;
        case 2:
            request.field_id = 100 + ST_TEXT;
            break;
        case 3:
            request.metric = RK_METRIC_HAMMING;
            break;
        case 4:
            request.topk = 0;
            break;
        case 5:
            request.query_type = PB_COMMON_PlaceholderType_Int8Vector;
            break;
        default:
            request.predicate->expr = RK_STR("number <");
            break;
        }
        rk_code code = rk_search_plan_new(&plan, &request, w.schema, w.arena, &err);
        if (i == 6) { /* the code of a bad expression is the filter's affair */
            assert_int_not_equal(code, RK_OK);
        } else {
            assert_int_equal(code, expected[i].code);
        }
        if (!strstr(err.text, expected[i].text)) {
            fail_msg("case %d: got \"%s\", expected \"%s\"", i, err.text, expected[i].text);
        }
    }
    world_free(&w);
}

/* Rows inserted twice under one key: one hit, the newest. */
static void
test_duplicate_keys(void **state)
{
    st_store s;
    rk_schema *schema = st_schema(false);
    rk_arena *arena = rk_arena_new(0);
    rk_segment *segs[2];
    rk_err err = {0};
    world w = {.schema = schema, .arena = arena};
    float query[ST_DIM];
    rk_search_plan *plan;
    rk_query_plan *query_plan;
    pb_rk_SearchResponse out;
    pb_rk_QueryResponse rows;

    RK_UNUSED(state);
    st_store_open(&s);
    for (size_t g = 0; g < 2; g++) {
        assert_int_equal(rk_segment_new_growing(&segs[g], &(rk_segment_ids){(int64_t)g + 1, 1, 1},
                                                schema, s.mem, &err),
                         RK_OK);
        for (uint32_t v = 1; v <= 3; v++) {
            st_row row[2] = {{5, (uint32_t)(g * 3 + v)}, {6 + (int64_t)g, v}};
            assert_int_equal(rk_segment_append(segs[g], st_rows(schema, row, 2, arena), ST_FIELDS,
                                               2, (g * 3 + v) * 10, &err),
                             RK_OK);
        }
    }
    st_vector((st_row){5, 2}, false, query); /* the nearest of key 5 is an older row */
    pb_rk_SearchRequest request =
        request_for(&w, &predicates[0], false, RK_METRIC_L2, 10, query, 1);
    assert_int_equal(rk_search_plan_new(&plan, &request, schema, arena, &err), RK_OK);
    assert_int_equal(rk_search_run(plan, segs, 2, 1000, &out, arena, &err), RK_OK);
    assert_int_equal(out.counts.data[0], 3);
    for (size_t i = 0; i < 3; i++) {
        if (rk_ids_at(out.ids, i).number == 5) {
            assert_int_equal(out.segment_ids.data[i], 2);
            assert_int_equal(rk_segment_row_ts(segs[1], out.rows.data[i]), 60);
        }
    }
    pb_rk_QueryRequest all = {.limit = 10};
    assert_int_equal(rk_query_plan_new(&query_plan, &all, schema, arena, &err), RK_OK);
    assert_int_equal(rk_query_run(query_plan, segs, 2, 1000, &rows, arena, &err), RK_OK);
    assert_int_equal(rows.rows, 3);
    assert_int_equal(rows.timestamps.data[0], 60);
    all.limit = 1; /* the window holds keys, not rows */
    all.offset = 1;
    pb_rk_QueryResponse merged;
    pb_rk_QueryResponse *parts[] = {&rows};
    assert_int_equal(rk_query_plan_new(&query_plan, &all, schema, arena, &err), RK_OK);
    assert_int_equal(rk_query_run(query_plan, segs, 1, 1000, &rows, arena, &err), RK_OK);
    assert_int_equal(rows.rows, 2);
    assert_int_equal(rk_query_merge(query_plan, parts, 1, &merged, arena, &err), RK_OK);
    assert_int_equal(merged.rows, 1);
    assert_int_equal(rk_ids_at(merged.keys, 0).number, 6);
    for (size_t g = 0; g < 2; g++) {
        rk_segment_unref(segs[g]);
    }
    rk_arena_free(arena);
    rk_schema_unref(schema);
    st_store_close(&s);
}

/* ---- query ---- */

static size_t
expected_rows(world *w, uint64_t read_ts, const predicate *p, st_row *out)
{
    size_t n = 0;

    for (int64_t key = 0; key < KEYS; key++) {
        for (size_t i = 0; i < w->model.n; i++) {
            if (w->model.rows[i].row.key == key && st_model_sees(&w->model.rows[i], read_ts) &&
                p->pass(w->model.rows[i].row)) {
                out[n++] = w->model.rows[i].row;
            }
        }
    }
    return n;
}

static void
check_query(world *w, uint64_t read_ts, const predicate *p, int64_t limit, int64_t offset)
{
    st_row *expected = malloc(KEYS * sizeof(*expected));
    size_t n = expected_rows(w, read_ts, p, expected);
    int64_t fields[] = {100 + ST_NUMBER, 100 + ST_ID, 100 + ST_VECTOR, 100 + ST_OPTIONAL_VECTOR};
    pb_rk_Predicate condition = {.expr = rk_str_from(p->expr)};
    pb_rk_QueryRequest request = {.predicate = &condition,
                                  .limit = limit,
                                  .offset = offset,
                                  .output_field_ids = {fields, RK_COUNT(fields)}};
    pb_rk_QueryResponse halves[2], out;
    pb_rk_QueryResponse *parts[] = {&halves[0], &halves[1]};
    rk_query_plan *plan;
    rk_err err = {0};

    rk_code code = rk_query_plan_new(&plan, &request, w->schema, w->arena, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    rk_query_plan_use(plan, w->cache);
    for (size_t h = 0; h < 2; h++) {
        code = rk_query_run(plan, w->segs + h * 2, 2, read_ts, &halves[h], w->arena, &err);
        assert_string_equal(err.text, "");
        assert_int_equal(code, RK_OK);
        assert_true(limit == 0 || halves[h].rows <= limit + offset);
    }
    assert_int_equal(rk_query_merge(plan, parts, 2, &out, w->arena, &err), RK_OK);
    size_t from = RK_MIN(n, (size_t)offset);
    size_t rows = limit > 0 ? RK_MIN(n - from, (size_t)limit) : n - from;
    assert_int_equal(out.rows, rows);
    assert_int_equal(out.fields.n, 4);
    assert_int_equal(out.fields.data[0]->field_id, 100 + ST_ID);
    size_t optional = 0;
    for (size_t i = 0; i < rows; i++) {
        st_row row = expected[from + i];
        int32_t number = 0;
        float v[ST_DIM];
        assert_int_equal(key_number(rk_ids_at(out.keys, i)), row.key);
        assert_int_equal(out.timestamps.data[i], row.version);
        assert_int_equal(out.fields.data[1]->valid_data.data[i], st_number(row, &number));
        if (out.fields.data[1]->valid_data.data[i]) {
            assert_int_equal(out.fields.data[1]->scalars->int_data->data.data[i], number);
        }
        st_vector(row, false, v);
        assert_memory_equal(out.fields.data[2]->vectors->float_vector->data.bytes + i * sizeof(v),
                            v, sizeof(v));
        if (!st_vector_null(row)) { /* vectors of valid rows only */
            st_vector(row, true, v);
            assert_memory_equal(out.fields.data[3]->vectors->float_vector->data.bytes +
                                    optional++ * sizeof(v),
                                v, sizeof(v));
        }
    }
    request.count_only = true;
    assert_int_equal(rk_query_plan_new(&plan, &request, w->schema, w->arena, &err), RK_OK);
    assert_int_equal(rk_query_run(plan, w->segs, SEGS, read_ts, &out, w->arena, &err), RK_OK);
    assert_int_equal(out.count, n);
    free(expected);
}

static void
test_query(void **state)
{
    RK_UNUSED(state);
    for (int text = 0; text < 2; text++) {
        world w;
        world_new(&w, text);
        rk_err err = {0};
        assert_int_equal(rk_filter_cache_new(&w.cache, 1 << 20, w.store.mem, &err), RK_OK);
        for (size_t p = 0; p < RK_COUNT(predicates); p++) {
            if (predicates[p].numbers_only && text) {
                continue;
            }
            check_query(&w, w.last_ts, &predicates[p], 0, 0);
            check_query(&w, w.last_ts, &predicates[p], 10, 0);
            check_query(&w, w.last_ts, &predicates[p], 17, 33);
            check_query(&w, w.last_ts / 2, &predicates[p], 25, 3);
            check_query(&w, 25, &predicates[p], 10, 5);
            check_query(&w, w.last_ts, &predicates[p], 10, 100000);
        }
        world_free(&w);
    }
}

static void
test_query_keys_and_fetch(void **state)
{
    world w;
    int64_t keys[] = {700, 3, 3, 5000};
    int64_t fields[] = {100 + ST_TEXT, 100 + ST_JSON};
    pb_rk_QueryRequest request = {.output_field_ids = {fields, 2}};
    pb_rk_QueryResponse out;
    rk_query_plan *plan;
    static st_row expected[KEYS];
    rk_err err = {0};

    RK_UNUSED(state);
    world_new(&w, true);
    size_t n = expected_rows(&w, w.last_ts, &predicates[0], expected), known = 0;
    for (size_t i = 0; i < n; i++) {
        known += expected[i].key == 700 || expected[i].key == 3;
    }
    request.keys = st_ids(w.schema, keys, 4, w.arena);
    assert_int_equal(rk_query_plan_new(&plan, &request, w.schema, w.arena, &err), RK_OK);
    assert_int_equal(rk_query_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err), RK_OK);
    assert_int_equal(out.rows, known);
    request.output_bytes_max = 3;
    assert_int_equal(rk_query_plan_new(&plan, &request, w.schema, w.arena, &err), RK_OK);
    assert_int_equal(rk_query_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err),
                     RK_ETOO_LARGE);

    int64_t segments[] = {3, 1, 1, 4};
    uint32_t rows[] = {0, 5, 2, 1};
    pb_rk_FetchRequest fetch = {
        .segment_ids = {segments, 4}, .rows = {rows, 4}, .output_field_ids = {fields, 2}};
    pb_rk_FetchResponse fetched;
    assert_int_equal(rk_fetch_run(&fetch, w.schema, w.segs, SEGS, &fetched, w.arena, &err), RK_OK);
    assert_int_equal(fetched.fields.n, 2);
    for (size_t i = 0; i < 4; i++) {
        rk_column c;
        size_t first, chunk = rk_segment_chunk_of(w.segs[segments[i] - 1], rows[i], &first);
        assert_int_equal(rk_segment_column(w.segs[segments[i] - 1], chunk, ST_TEXT, 100, &c, &err),
                         RK_OK);
        assert_true(rk_str_eq(fetched.fields.data[0]->scalars->string_data->data.data[i],
                              rk_column_bytes(&c, rows[i] - first)));
    }
    segments[2] = 99;
    assert_int_equal(rk_fetch_run(&fetch, w.schema, w.segs, SEGS, &fetched, w.arena, &err),
                     RK_ESEGMENT_NOT_LOADED);
    segments[2] = 1;
    rows[2] = 1000000;
    assert_int_equal(rk_fetch_run(&fetch, w.schema, w.segs, SEGS, &fetched, w.arena, &err),
                     RK_EINTERNAL);
    world_free(&w);
}

/* Memory that runs out anywhere is a plain error, and nothing is lost. */
static void
test_out_of_memory(void **state)
{
    world w;
    float query[ST_DIM] = {0.3f, -0.2f, 0.1f, 0.5f, 0, 0};
    int64_t fields[] = {100 + ST_TEXT, 100 + ST_TAGS, 100 + ST_SPARSE, 100 + ST_NUMBER};
    int failures = 0;

    RK_UNUSED(state);
    world_new(&w, true);
    assert_int_equal(rk_filter_cache_new(&w.cache, 1 << 20, w.store.mem, NULL), RK_OK);
    for (int64_t fail = 0; fail < 2000; fail++) {
        rk_arena *arena = rk_arena_new(0);
        pb_rk_SearchRequest search =
            request_for(&w, &predicates[1], true, RK_METRIC_COSINE, 10, query, 1);
        pb_rk_QueryRequest rows = {.predicate = search.predicate, .output_field_ids = {fields, 4}};
        pb_rk_SearchResponse hits, merged;
        pb_rk_SearchResponse *parts[] = {&hits};
        pb_rk_QueryResponse out, all;
        pb_rk_QueryResponse *query_parts[] = {&out};
        rk_search_plan *plan;
        rk_query_plan *query_plan;
        rk_err err = {0};
        rk_code code = RK_OK;

        rk_alloc_fail_after(fail);
        RK_ERR(rk_search_plan_new(&plan, &search, w.schema, arena, &err));
        rk_search_plan_use(plan, w.cache);
        RK_ERR(rk_search_run(plan, w.segs, SEGS, w.last_ts, &hits, arena, &err));
        RK_ERR(rk_search_merge(plan, parts, 1, 0, &merged, arena, &err));
        RK_ERR(rk_query_plan_new(&query_plan, &rows, w.schema, arena, &err));
        rk_query_plan_use(query_plan, w.cache);
        RK_ERR(rk_query_run(query_plan, w.segs, SEGS, w.last_ts, &out, arena, &err));
        RK_ERR(rk_query_merge(query_plan, query_parts, 1, &all, arena, &err));
    out:
        rk_alloc_fail_after(-1);
        rk_arena_free(arena);
        if (code == RK_OK) {
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        failures++;
    }
    assert_true(failures > 10);
    world_free(&w);
}

/* ---- half-precision fields ---- */

static void
test_half_queries(void **state)
{
    static const struct {
        rk_type type;
        float value;
        int32_t query_type;
        const char *text; /* NULL: fine */
    } cases[] = {
        {RK_FLOAT16_VECTOR, 0.5f, RK_FLOAT_VECTOR, NULL},
        {RK_BFLOAT16_VECTOR, 0.5f, RK_FLOAT_VECTOR, NULL},
        {RK_FLOAT16_VECTOR, 70000.0f, RK_FLOAT_VECTOR, "exceeds float16 range [-65504, 65504]"},
        {RK_FLOAT16_VECTOR, 1e-6f, RK_FLOAT_VECTOR, "underflows float16 precision"},
        {RK_BFLOAT16_VECTOR, INFINITY, RK_FLOAT_VECTOR, "value '+Inf' is not a number or infinity"},
        {RK_BFLOAT16_VECTOR, 0.5f, RK_FLOAT16_VECTOR,
         "vector type must be the same: field type BFloat16Vector, search type Float16Vector"},
    };
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        pb_common_KeyValuePair dim = {RK_STR("dim"), RK_STR("2")};
        pb_common_KeyValuePair *dims[] = {&dim};
        pb_schema_FieldSchema id = {
            .fieldID = 100, .name = RK_STR("id"), .data_type = RK_INT64, .is_primary_key = true};
        pb_schema_FieldSchema v = {.fieldID = 101,
                                   .name = RK_STR("v"),
                                   .data_type = (int32_t)cases[i].type,
                                   .type_params = {dims, 1}};
        pb_schema_FieldSchema *fields[] = {&id, &v};
        pb_schema_CollectionSchema pb = {.name = RK_STR("halves"), .fields = {fields, 2}};
        float query[2] = {cases[i].value, 1};
        rk_str queries[] = {{(const char *)query, sizeof(query)}};
        pb_rk_SearchRequest request = {.field_id = 101,
                                       .metric = RK_METRIC_L2,
                                       .topk = 1,
                                       .queries = {queries, 1},
                                       .query_type = cases[i].query_type};
        rk_schema *schema;
        rk_segment *seg;
        rk_search_plan *plan;
        pb_rk_SearchResponse out;
        rk_err err = {0};

        assert_int_equal(rk_schema_new(&schema, &pb, 1, &err), RK_OK);
        rk_code code = rk_search_plan_new(&plan, &request, schema, arena, &err);
        if (cases[i].text) {
            assert_int_equal(code, RK_EINVAL);
            assert_non_null(strstr(err.text, cases[i].text));
            rk_schema_unref(schema);
            continue;
        }
        assert_int_equal(code, RK_OK);
        uint16_t values[4] = {0};
        for (size_t k = 0; k < 4; k++) {
            values[k] = cases[i].type == RK_FLOAT16_VECTOR
                            ? rk_f32_to_f16(k < 2 ? 9 : query[k - 2])
                            : rk_f32_to_bf16(k < 2 ? 9 : query[k - 2]);
        }
        int64_t keys[] = {1, 2};
        pb_schema_LongArray longs = {{keys, 2}};
        pb_schema_ScalarField scalars = {.data_case = PB_SCHEMA_ScalarField_long_data,
                                         .long_data = &longs};
        pb_schema_VectorField vectors = {.dim = 2};
        vectors.data_case = cases[i].type == RK_FLOAT16_VECTOR
                                ? PB_SCHEMA_VectorField_float16_vector
                                : PB_SCHEMA_VectorField_bfloat16_vector;
        vectors.float16_vector = (rk_str){(const char *)values, sizeof(values)};
        pb_schema_FieldData id_data = {
            .field_id = 100, .field_case = PB_SCHEMA_FieldData_scalars, .scalars = &scalars};
        pb_schema_FieldData v_data = {
            .field_id = 101, .field_case = PB_SCHEMA_FieldData_vectors, .vectors = &vectors};
        pb_schema_FieldData *rows[] = {&id_data, &v_data};
        assert_int_equal(
            rk_segment_new_growing(&seg, &(rk_segment_ids){1, 1, 1}, schema, NULL, &err), RK_OK);
        assert_int_equal(rk_segment_append(seg, rows, 2, 2, 10, &err), RK_OK);
        assert_int_equal(rk_search_run(plan, &seg, 1, 10, &out, arena, &err), RK_OK);
        assert_int_equal(out.counts.data[0], 1);
        assert_int_equal(rk_ids_at(out.ids, 0).number, 2);
        assert_true(pb_f32_at(out.scores, 0) == 0.0f);
        rk_segment_unref(seg);
        rk_schema_unref(schema);
    }
    rk_arena_free(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_search_with_index),
        cmocka_unit_test(test_search_with_kept_filters),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_plan_errors),
        cmocka_unit_test(test_partitions_and_sparse),
        cmocka_unit_test(test_duplicate_keys),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_query_keys_and_fetch),
        cmocka_unit_test(test_half_queries),
        cmocka_unit_test(test_out_of_memory),
    };
    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
