/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching growing segments by codes: against exact search of the same segment, under deletes,
 * filters, ranges and at earlier times; beside a writer and other searchers; when the memory for
 * codes is refused.
 */
#include <math.h>

#include "base/util.h"
#include "search/search.h"
#include "segment_testing.h"

#define DIM     64u
#define HALF    48u
#define QUERIES 20u
#define TOPK    10u

enum { ID, NUMBER, VECTOR, HALVES, FIELDS };

typedef struct world {
    rk_schema *schema;
    rk_mem *mem;
    rk_segment *seg;
    rk_arena *arena;
    uint64_t ts;
    size_t rows;
} world;

static float
component(size_t row, size_t i)
{
    size_t cluster = rk_hash_u64(row + 1) % 12;
    uint64_t noise = rk_hash_u64(row * 1009 + i + 7);
    float near = (float)(rk_hash_u64(cluster * 131 + i % 16) >> 40) * 0x1p-24f;
    float sum = 0;

    for (int k = 0; k < 4; k++) {
        sum += (float)(noise >> (16 * k) & 0xffff) * 0x1p-16f - 0.5f;
    }
    return near - 0.5f + 0.4f * sum;
}

static rk_schema *
schema_new(void)
{
    static const st_field fields[FIELDS] = {
        {"id", RK_INT64, RK_NONE, false, NULL, NULL},
        {"number", RK_INT64, RK_NONE, false, NULL, NULL},
        {"vector", RK_FLOAT_VECTOR, RK_NONE, false, "dim", "64"},
        {"halves", RK_FLOAT16_VECTOR, RK_NONE, true, "dim", "48"},
    };

    return st_schema_of(fields, FIELDS);
}

static void
world_new(world *w, uint64_t limit_bytes)
{
    rk_segment_ids ids = {1, 1, 1};
    rk_err err = {0};

    *w = (world){.schema = schema_new(), .mem = rk_mem_new(NULL, "test", limit_bytes)};
    w->arena = rk_arena_new(0);
    assert_int_equal(rk_segment_new_growing(&w->seg, &ids, w->schema, NULL, &err), RK_OK);
    rk_segment_allow_codes(w->seg, w->mem);
}

static void
world_free(world *w)
{
    rk_segment_unref(w->seg);
    assert_int_equal(rk_mem_used(w->mem), 0);
    rk_mem_free(w->mem);
    rk_schema_unref(w->schema);
    rk_arena_free(w->arena);
}

static pb_schema_FieldData *
longs(const char *name, size_t from, size_t n, size_t modulo, rk_arena *arena)
{
    pb_schema_FieldData *d = RK_ARENA_NEW(arena, pb_schema_FieldData);

    d->type = RK_INT64;
    d->field_name = rk_str_from(name);
    d->field_case = PB_SCHEMA_FieldData_scalars;
    d->scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    d->scalars->data_case = PB_SCHEMA_ScalarField_long_data;
    d->scalars->long_data = RK_ARENA_NEW(arena, pb_schema_LongArray);
    d->scalars->long_data->data = (pb_i64s){RK_ARENA_ARRAY(arena, int64_t, n), n};
    for (size_t i = 0; i < n; i++) {
        d->scalars->long_data->data.data[i] = (int64_t)((from + i) % modulo);
    }
    return d;
}

static bool
half_is_null(size_t row)
{
    return row % 9 == 4;
}

/* Rows w->rows.. with keys as their numbers; 1,000 and more of them in some chunks. */
static void
append(world *w, size_t n)
{
    rk_arena *arena = rk_arena_new(0);
    pb_schema_FieldData *fields[FIELDS];
    float *dense = RK_ARENA_ARRAY(arena, float, n *DIM);
    uint16_t *half = RK_ARENA_ARRAY(arena, uint16_t, n * HALF);
    bool *valid = RK_ARENA_ARRAY(arena, bool, n);
    size_t halves = 0;
    rk_err err = {0};

    fields[ID] = longs("id", w->rows, n, SIZE_MAX, arena);
    fields[NUMBER] = longs("number", w->rows, n, 100, arena);
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < DIM; d++) {
            dense[i * DIM + d] = component(w->rows + i, d);
        }
        valid[i] = !half_is_null(w->rows + i);
        for (size_t d = 0; valid[i] && d < HALF; d++) {
            half[halves * HALF + d] = rk_f32_to_f16(component(w->rows + i, d));
        }
        halves += valid[i];
    }
    for (size_t f = VECTOR; f <= HALVES; f++) {
        pb_schema_VectorField *v = RK_ARENA_NEW(arena, pb_schema_VectorField);
        fields[f] = RK_ARENA_NEW(arena, pb_schema_FieldData);
        fields[f]->field_case = PB_SCHEMA_FieldData_vectors;
        fields[f]->vectors = v;
        if (f == VECTOR) {
            fields[f]->type = RK_FLOAT_VECTOR;
            fields[f]->field_name = RK_STR("vector");
            v->dim = DIM;
            v->data_case = PB_SCHEMA_VectorField_float_vector;
            v->float_vector = RK_ARENA_NEW(arena, pb_schema_FloatArray);
            v->float_vector->data = (pb_fixed){(const uint8_t *)dense, n * DIM};
        } else {
            fields[f]->type = RK_FLOAT16_VECTOR;
            fields[f]->field_name = RK_STR("halves");
            v->dim = HALF;
            v->data_case = PB_SCHEMA_VectorField_float16_vector;
            v->float16_vector = (rk_str){(const char *)half, halves * HALF * 2};
            fields[f]->valid_data.data = valid;
            fields[f]->valid_data.n = n;
        }
    }
    w->ts += 10;
    rk_code code = rk_segment_append(w->seg, fields, FIELDS, (uint32_t)n, w->ts, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    w->rows += n;
    rk_arena_free(arena);
}

typedef struct ask {
    int field;
    rk_metric metric;
    uint32_t topk;
    const char *expr;
    uint64_t read_ts;
    bool range;
    float radius, from;
} ask;

static void
run(const world *w, const ask *a, bool approximate, pb_rk_SearchResponse *out, rk_arena *arena)
{
    pb_rk_Predicate predicate = {.expr = rk_str_from(a->expr ? a->expr : "")};
    pb_rk_ReadScope scope = {0};
    rk_search_plan *plan;
    rk_err err = {0};
    pb_rk_SearchRequest request = {.field_id = 100 + a->field,
                                   .metric = (int32_t)a->metric,
                                   .topk = a->topk,
                                   .approximate = approximate,
                                   .predicate = &predicate,
                                   .scope = &scope,
                                   .range = a->range,
                                   .radius = a->radius,
                                   .has_range_filter = a->from > 0,
                                   .range_filter = a->from};

    request.queries.n = QUERIES;
    request.queries.data = RK_ARENA_ARRAY(arena, rk_str, QUERIES);
    for (size_t q = 0; q < QUERIES; q++) {
        float *wide = RK_ARENA_ARRAY(arena, float, DIM);
        uint16_t *half = RK_ARENA_ARRAY(arena, uint16_t, HALF);
        for (size_t d = 0; d < DIM; d++) {
            wide[d] = component(1000000 + q, d);
            if (d < HALF) {
                half[d] = rk_f32_to_f16(wide[d]);
            }
        }
        request.queries.data[q] = a->field == VECTOR
                                      ? (rk_str){(const char *)wide, DIM * sizeof(*wide)}
                                      : (rk_str){(const char *)half, HALF * sizeof(*half)};
    }
    request.query_type = a->field == VECTOR ? RK_FLOAT_VECTOR : RK_FLOAT16_VECTOR;
    rk_code code = rk_search_plan_new(&plan, &request, w->schema, arena, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    code = rk_search_run(plan, &w->seg, 1, a->read_ts, out, arena, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
}

/* How many of the exact hits an approximate search finds; it may not find others, unless they are
 * no nearer than what it missed, and scores agree to the bit. */
static double
recall(const world *w, const ask *a)
{
    rk_arena *arena = rk_arena_new(0);
    pb_rk_SearchResponse got, want;
    size_t at_got = 0, at_want = 0, good = 0, all = 0;

    run(w, a, true, &got, arena);
    run(w, a, false, &want, arena);
    for (size_t q = 0; q < QUERIES; q++) {
        size_t n = got.counts.data[q], m = want.counts.data[q];
        if (!a->range) {
            assert_int_equal(n, m);
        }
        for (size_t i = 0; i < n; i++) {
            int64_t id = got.ids->int_id->data.data[at_got + i];
            for (size_t j = 0; j < m; j++) {
                if (want.ids->int_id->data.data[at_want + j] == id) {
                    float x = pb_f32_at(got.scores, at_got + i);
                    float y = pb_f32_at(want.scores, at_want + j);
                    assert_memory_equal(&x, &y, sizeof(x));
                    good++;
                }
            }
        }
        all += m;
        at_got += n;
        at_want += m;
    }
    rk_arena_free(arena);
    assert_true(all > 0);
    return (double)good / (double)all;
}

/* Rows of a field that have codes. */
static size_t
coded(const world *w, int field, rk_metric metric)
{
    size_t sum = 0, rows, first;
    size_t chunks = rk_segment_chunk_of(w->seg, w->rows - 1, &first) + 1;

    for (size_t c = 0; c < chunks; c++) {
        const rk_growing_codes *codes = rk_segment_codes(w->seg, c, (size_t)field, metric, &rows);
        assert_true(codes ? rows > 0 && sum == c * RK_GROWING_STEP * 16 : rows == 0);
        sum += rows;
    }
    return sum;
}

static void
code_all(const world *w, int field, rk_metric metric)
{
    size_t before = coded(w, field, metric);

    for (size_t whole = w->rows / RK_GROWING_STEP * RK_GROWING_STEP; before < whole;) {
        rk_segment_code(w->seg, (size_t)field, metric, w->rows);
        size_t now = coded(w, field, metric);
        assert_true(now > before);
        before = now;
    }
}

/* Searches code rows as they go, a part at a time, and all they can in the end. */
static void
test_coded_by_searches(void **state)
{
    ask a = {.field = VECTOR, .metric = RK_METRIC_L2, .topk = TOPK};
    size_t last = 0;
    world w;

    RK_UNUSED(state);
    world_new(&w, 0);
    append(&w, 700);
    a.read_ts = w.ts;
    assert_true(recall(&w, &a) == 1.0); /* too few to be coded */
    assert_int_equal(coded(&w, VECTOR, RK_METRIC_L2), 0);
    append(&w, 12000);
    a.read_ts = w.ts;
    for (int i = 0; i < 40; i++) {
        assert_true(recall(&w, &a) >= 0.99);
        size_t now = coded(&w, VECTOR, RK_METRIC_L2);
        assert_true(now >= last);
        if (i == 0) {
            assert_true(now > 0 && now < w.rows);
        }
        last = now;
    }
    assert_int_equal(last, w.rows / RK_GROWING_STEP * RK_GROWING_STEP);
    assert_true(rk_mem_used(w.mem) > 0);
    append(&w, 77); /* a chunk in several steps */
    a.read_ts = w.ts;
    assert_true(recall(&w, &a) >= 0.99);
    assert_true(coded(&w, VECTOR, RK_METRIC_L2) > last);
    world_free(&w);
}

static void
test_conditions(void **state)
{
    const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    uint64_t early;

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        world w;
        rk_err err = {0};
        world_new(&w, 0);
        append(&w, 3500);
        early = w.ts;
        append(&w, 2100);
        code_all(&w, VECTOR, metrics[m]);
        code_all(&w, HALVES, metrics[m]);
        for (int64_t key = 0; key < 5000; key += 3) { /* a third of the rows are gone */
            uint64_t ts = w.ts + 5;
            size_t hits;
            rk_arena_reset(w.arena);
            assert_int_equal(
                rk_segment_delete(w.seg, st_ids(w.schema, &key, 1, w.arena), &ts, 1, &hits, &err),
                RK_OK);
        }
        w.ts += 10;
        const ask asks[] = {
            {.field = VECTOR, .topk = TOPK, .read_ts = w.ts},
            {.field = VECTOR, .topk = 1, .read_ts = w.ts},
            {.field = VECTOR, .topk = 150, .read_ts = w.ts},
            {.field = VECTOR, .topk = 3000, .read_ts = w.ts},
            {.field = VECTOR, .topk = TOPK, .read_ts = early},
            {.field = VECTOR, .topk = TOPK, .read_ts = w.ts, .expr = "number < 20"},
            {.field = VECTOR, .topk = TOPK, .read_ts = early, .expr = "number == 31"},
            {.field = VECTOR, .topk = TOPK, .read_ts = w.ts, .expr = "id > 2000 && id < 3300"},
            {.field = HALVES, .topk = TOPK, .read_ts = w.ts},
            {.field = HALVES, .topk = TOPK, .read_ts = early, .expr = "number > 60"},
        };
        for (size_t i = 0; i < RK_COUNT(asks); i++) {
            ask a = asks[i];
            a.metric = metrics[m];
            double r = recall(&w, &a);
            if (r < 0.985) {
                fail_msg("metric %zu, ask %zu: recall %.4f", m, i, r);
            }
        }
        if (metrics[m] == RK_METRIC_L2) {
            ask a = {.field = VECTOR,
                     .metric = RK_METRIC_L2,
                     .topk = 200,
                     .read_ts = w.ts,
                     .range = true,
                     .radius = 7,
                     .from = 5.5f};
            assert_true(recall(&w, &a) >= 0.99);
        }
        world_free(&w);
    }
}

/* Exact where that is asked for, where codes are of another metric, where memory is refused. */
static void
test_exact(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    pb_rk_SearchResponse out;
    ask a = {.field = VECTOR, .metric = RK_METRIC_L2, .topk = TOPK};
    world w;

    RK_UNUSED(state);
    world_new(&w, 0);
    append(&w, 3000);
    a.read_ts = w.ts;
    run(&w, &a, false, &out, arena);
    assert_int_equal(coded(&w, VECTOR, RK_METRIC_L2), 0);
    code_all(&w, VECTOR, RK_METRIC_L2);
    a.metric = RK_METRIC_COSINE;
    assert_true(recall(&w, &a) == 1.0);
    assert_int_equal(coded(&w, VECTOR, RK_METRIC_COSINE), 0);
    world_free(&w);

    world_new(&w, 200000); /* enough for two chunks, less an eighth */
    append(&w, 6000);
    a.metric = RK_METRIC_L2;
    a.read_ts = w.ts;
    for (int i = 0; i < 10; i++) {
        assert_true(recall(&w, &a) >= 0.99);
    }
    assert_int_equal(coded(&w, VECTOR, RK_METRIC_L2), 2048);
    assert_true(rk_mem_used(w.mem) <= 200000 / 8 * 7);
    world_free(&w);

    world_new(&w, 1000);
    append(&w, 3000);
    a.read_ts = w.ts;
    assert_true(recall(&w, &a) == 1.0);
    assert_int_equal(coded(&w, VECTOR, RK_METRIC_L2), 0);
    world_free(&w);

    world_new(&w, 0);
    append(&w, 3000);
    a.read_ts = w.ts;
    for (int64_t after = 0; after < 4; after++) {
        rk_alloc_fail_after(after);
        rk_segment_code(w.seg, VECTOR, RK_METRIC_L2, w.rows);
        rk_alloc_fail_after(-1);
        assert_true(recall(&w, &a) >= 0.99);
    }
    code_all(&w, VECTOR, RK_METRIC_L2);
    world_free(&w);
    rk_arena_free(arena);
}

/* ---- beside a writer ---- */

typedef struct beside {
    world *w;
    _Atomic(uint64_t) ts;
    _Atomic(bool) done;
    _Atomic(size_t) searches;
} beside;

static void
searcher(void *arg)
{
    beside *b = arg;
    rk_arena *arena = rk_arena_new(0);

    while (!atomic_load(&b->done)) {
        pb_rk_SearchResponse out;
        ask a = {.field = VECTOR, .metric = RK_METRIC_COSINE, .topk = TOPK};
        a.read_ts = atomic_load(&b->ts);
        run(b->w, &a, true, &out, arena);
        for (size_t i = 0; i < out.rows.n; i++) { /* no row that was not there */
            assert_true(rk_segment_row_ts(b->w->seg, out.rows.data[i]) <= a.read_ts);
        }
        atomic_fetch_add(&b->searches, 1);
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

static void
test_threads(void **state)
{
    enum { SEARCHERS = 3 };
    rk_thread threads[SEARCHERS];
    world w;
    beside b = {.w = &w};

    RK_UNUSED(state);
    world_new(&w, 0);
    append(&w, 1500);
    atomic_store(&b.ts, w.ts);
    for (size_t i = 0; i < SEARCHERS; i++) {
        assert_int_equal(rk_thread_start(&threads[i], "searcher", searcher, &b), RK_OK);
    }
    for (size_t i = 0; i < 60; i++) {
        size_t seen = atomic_load(&b.searches);
        append(&w, 30 + i * 3);
        atomic_store(&b.ts, w.ts);
        for (int k = 0; k < 2000 && atomic_load(&b.searches) < seen + 2; k++) {
            rk_env_real()->clock->sleep_ns(rk_env_real()->clock->self, 100000);
        }
    }
    atomic_store(&b.done, true);
    for (size_t i = 0; i < SEARCHERS; i++) {
        rk_thread_join(threads[i]);
    }
    assert_true(coded(&w, VECTOR, RK_METRIC_COSINE) > 4096);
    ask a = {.field = VECTOR, .metric = RK_METRIC_COSINE, .topk = TOPK, .read_ts = w.ts};
    assert_true(recall(&w, &a) >= 0.99);
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coded_by_searches),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_threads),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
