/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments against a plain list of what was done: visibility at any time, look-ups, values, for
 * growing segments, what is flushed from them, and what is compacted from those; one writer beside
 * readers; refusals of memory.
 */
#include <stdlib.h>

#include "base/util.h"
#include "segment_testing.h"

/* Compares what |seg| shows at |read_ts| with the model, whose rows are those of the segment in any
 * order. */
static void
assert_snapshot(const rk_segment *seg, const st_model *m, uint64_t read_ts)
{
    rk_arena *arena = rk_arena_new(0);
    rk_bitset visible;
    size_t rows, seen = 0, expected = 0;
    bool all;
    rk_err err = {0};

    assert_int_equal(rk_segment_visible(seg, read_ts, &visible, &rows, &all, arena, &err), RK_OK);
    for (size_t row = 0; row < rows; row++) {
        bool sees = all || rk_bitset_get(&visible, row);
        seen += sees;
        if (!sees) {
            continue;
        }
        rk_pk pk = rk_segment_pk(seg, row);
        bool found = false;
        for (size_t i = 0; i < m->n && !found;
             i++) { /* the same key and timestamp may be there twice: same version, same values */
            found = m->rows[i].ts == rk_segment_row_ts(seg, row) &&
                    st_model_sees(&m->rows[i], read_ts) &&
                    rk_pk_cmp(st_pk(rk_segment_schema(seg), m->rows[i].row.key, arena), pk) == 0;
            if (found && row % 7 == 0) {
                st_assert_row(seg, row, m->rows[i].row, arena);
            }
        }
        assert_true(found);
    }
    for (size_t i = 0; i < m->n; i++) {
        expected += st_model_sees(&m->rows[i], read_ts);
    }
    assert_int_equal(seen, expected);
    rk_arena_free(arena);
}

static void
assert_found(const rk_segment *seg, const st_model *m, int64_t key)
{
    rk_arena *arena = rk_arena_new(0);
    uint32_t found[512];
    rk_segment_stats stats;
    size_t expected = 0;

    rk_segment_get_stats(seg, &stats);
    for (size_t i = 0; i < m->n; i++) {
        expected += m->rows[i].row.key == key;
    }
    rk_pk pk = st_pk(rk_segment_schema(seg), key, arena);
    size_t n = rk_segment_find(seg, pk, stats.rows, found, RK_COUNT(found));
    assert_int_equal(n, expected);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rk_pk_cmp(rk_segment_pk(seg, found[i]), pk), 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(found[i], found[k]);
        }
    }
    assert_int_equal(rk_segment_find(seg, pk, 0, found, RK_COUNT(found)), 0);
    rk_arena_free(arena);
}

static rk_segment *
write_and_open(st_store *s, rk_schema *schema, int64_t id, rk_segment *const *inputs, size_t n,
               uint64_t fold_ts)
{
    rk_arena *arena = rk_arena_new(0);
    pb_rk_SegmentInfo info;
    rk_segment *seg;
    bool damaged;
    rk_err err = {0};
    rk_code code = rk_segment_write(&info, &(rk_segment_ids){id, 1, 2}, inputs, n, fold_ts, &s->env,
                                    NULL, arena, &err);

    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    code = rk_segment_open(&seg, &info, schema, &s->env, &damaged, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    assert_false(damaged);
    rk_arena_free(arena);
    return seg;
}

/* The model of what is left when deletes up to |fold_ts| are folded in. */
static st_model
folded(const st_model *m, uint64_t fold_ts)
{
    st_model out = {NULL, 0, 0};

    for (size_t i = 0; i < m->n; i++) {
        if (m->rows[i].deleted_ts > fold_ts) {
            st_model_insert(&out, &m->rows[i].row, 1, m->rows[i].ts);
            out.rows[out.n - 1].deleted_ts =
                UINT64_MAX; /* later deletes are applied to the new segment again */
        }
    }
    return out;
}

static void
check_random(bool text_keys, uint64_t seed)
{
    rk_schema *schema = st_schema(text_keys);
    rk_segment *growing[2], *sealed[2], *compacted;
    st_model models[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    st_model flushed[2], both = {NULL, 0, 0};
    st_store s;
    rk_rng rng;
    rk_err err = {0};
    uint64_t last = 0;

    st_store_open(&s);
    rk_rng_init(&rng, seed);
    for (size_t g = 0; g < 2; g++) {
        assert_int_equal(rk_segment_new_growing(&growing[g], &(rk_segment_ids){(int64_t)g, 1, 2},
                                                schema, s.mem, &err),
                         RK_OK);
        last = st_random_ops(growing[g], &models[g], 120, 300, last + 10, &rng);
        for (int i = 0; i < 12; i++) {
            assert_snapshot(growing[g], &models[g], rk_rng_below(&rng, last + 30));
        }
        assert_snapshot(growing[g], &models[g], UINT64_MAX - 1);
        for (int64_t key = -10; key < 300; key += 17) {
            assert_found(growing[g], &models[g], key);
        }
        sealed[g] = write_and_open(&s, schema, 10 + (int64_t)g, &growing[g], 1, last);
        flushed[g] = folded(&models[g], last);
        assert_snapshot(sealed[g], &flushed[g], last);
        assert_snapshot(sealed[g], &flushed[g], last / 2);
        for (int64_t key = -10; key < 300; key += 17) {
            assert_found(sealed[g], &flushed[g], key);
        }
    }
    /* deletes after the flush, seen at their time, folded by compaction */
    rk_arena *arena = rk_arena_new(0);
    int64_t keys[50];
    uint64_t times[50];
    size_t hits;
    for (size_t i = 0; i < 50; i++) {
        keys[i] = (int64_t)rk_rng_below(&rng, 300);
        times[i] = last + 10 + i;
    }
    for (size_t g = 0; g < 2; g++) {
        for (int again = 0; again < 2; again++) {
            assert_int_equal(rk_segment_delete(sealed[g], st_ids(schema, keys, 50, arena), times,
                                               50, &hits, &err),
                             RK_OK);
            assert_int_equal(hits > 0, again == 0); /* repeats do nothing */
        }
        for (size_t i = 0; i < 50; i++) {
            st_model_delete(&flushed[g], &keys[i], 1, times[i]);
        }
        assert_snapshot(sealed[g], &flushed[g], last);
        assert_snapshot(sealed[g], &flushed[g], last + 30);
        assert_snapshot(sealed[g], &flushed[g], last + 100);
    }
    compacted = write_and_open(&s, schema, 20, sealed, 2, last + 30);
    for (size_t g = 0; g < 2; g++) {
        st_model part = folded(&flushed[g], last + 30);
        for (size_t i = 0; i < part.n; i++) {
            st_model_insert(&both, &part.rows[i].row, 1, part.rows[i].ts);
        }
        free(part.rows);
    }
    assert_snapshot(compacted, &both, last + 30);
    rk_segment_stats stats;
    rk_segment_get_stats(compacted, &stats);
    assert_int_equal(stats.fold_ts, last + 30);
    assert_int_equal(stats.rows, both.n);
    for (size_t i = 1; i < stats.rows; i++) {
        int order = rk_pk_cmp(rk_segment_pk(compacted, i - 1), rk_segment_pk(compacted, i));
        assert_true(order < 0 || (order == 0 && rk_segment_row_ts(compacted, i - 1) <=
                                                    rk_segment_row_ts(compacted, i)));
    }
    for (size_t g = 0; g < 2; g++) {
        rk_segment_unref(growing[g]);
        rk_segment_unref(sealed[g]);
        free(models[g].rows);
        free(flushed[g].rows);
    }
    rk_segment_unref(compacted);
    free(both.rows);
    rk_arena_free(arena);
    rk_schema_unref(schema);
    st_store_close(&s);
}

static void
test_random_numbers(void **state)
{
    RK_UNUSED(state);
    check_random(false, 1);
    check_random(false, 2);
}

static void
test_random_texts(void **state)
{
    RK_UNUSED(state);
    check_random(true, 3);
}

/* An upsert deletes and inserts at one timestamp: the new row stays. */
static void
test_upsert_at_one_timestamp(void **state)
{
    rk_schema *schema = st_schema(false);
    rk_arena *arena = rk_arena_new(0);
    st_row row = {5, 1};
    int64_t key = 5;
    uint64_t ts = 20;
    rk_segment *seg;
    size_t hits;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_segment_new_growing(&seg, &(rk_segment_ids){1, 1, 1}, schema, NULL, &err),
                     RK_OK);
    assert_int_equal(
        rk_segment_append(seg, st_rows(schema, &row, 1, arena), ST_FIELDS, 1, 10, &err), RK_OK);
    row.version = 2;
    for (int order = 0; order < 2; order++) { /* whichever of the two is applied first */
        if (order == 0) {
            assert_int_equal(
                rk_segment_append(seg, st_rows(schema, &row, 1, arena), ST_FIELDS, 1, 20, &err),
                RK_OK);
        }
        assert_int_equal(
            rk_segment_delete(seg, st_ids(schema, &key, 1, arena), &ts, 1, &hits, &err), RK_OK);
        assert_int_equal(hits, order == 0);
    }
    rk_bitset visible;
    size_t rows;
    bool all;
    assert_int_equal(rk_segment_visible(seg, 20, &visible, &rows, &all, arena, &err), RK_OK);
    assert_false(all);
    assert_false(rk_bitset_get(&visible, 0));
    assert_true(rk_bitset_get(&visible, 1));
    assert_int_equal(rk_segment_visible(seg, 19, &visible, &rows, &all, arena, &err), RK_OK);
    assert_true(all);
    assert_int_equal(rows, 1);
    rk_segment_unref(seg);
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

/* Refused memory, by the budget and by the allocator, changes nothing; the same append passes
 * later. */
static void
test_memory_refused(void **state)
{
    rk_schema *schema = st_schema(true);
    rk_arena *arena = rk_arena_new(0);
    static st_row rows[1500];
    rk_err err = {0};
    st_model m = {NULL, 0, 0};
    uint64_t used = 0;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(rows); i++) {
        rows[i] = (st_row){(int64_t)i, 1};
    }
    pb_schema_FieldData **first = st_rows(schema, rows, 10, arena);
    pb_schema_FieldData **second = st_rows(schema, rows + 10, 1400, arena);
    st_model_insert(&m, rows, 10, 10);
    for (int64_t fail = 0; fail < 200; fail++) {
        rk_mem *mem = rk_mem_new(NULL, "test", fail == 0 ? 2000000 : 0);
        rk_segment *seg;
        assert_int_equal(
            rk_segment_new_growing(&seg, &(rk_segment_ids){1, 1, 1}, schema, mem, &err), RK_OK);
        assert_int_equal(rk_segment_append(seg, first, ST_FIELDS, 10, 10, &err), RK_OK);
        used = rk_mem_used(mem);
        if (fail == 0) { /* just what is there, and not enough for more */
            rk_segment_unref(seg);
            rk_mem_free(mem);
            mem = rk_mem_new(NULL, "test", used + 1000);
            assert_int_equal(
                rk_segment_new_growing(&seg, &(rk_segment_ids){1, 1, 1}, schema, mem, &err), RK_OK);
            assert_int_equal(rk_segment_append(seg, first, ST_FIELDS, 10, 10, &err), RK_OK);
        } else {
            rk_alloc_fail_after(fail - 1);
        }
        rk_code code = rk_segment_append(seg, second, ST_FIELDS, 1400, 20, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            rk_segment_unref(seg);
            rk_mem_free(mem);
            assert_true(fail > 10);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_snapshot(seg, &m, 100);
        assert_found(seg, &m, 3);
        assert_found(seg, &m, 300);
        if (fail == 0) {
            assert_int_equal(rk_mem_used(mem), used);
        } else {
            assert_int_equal(rk_segment_append(seg, second, ST_FIELDS, 1400, 20, &err), RK_OK);
            rk_segment_stats stats;
            rk_segment_get_stats(seg, &stats);
            assert_int_equal(stats.rows, 1410);
            assert_int_equal(stats.bytes, rk_mem_used(mem));
            st_assert_row(seg, 1409, rows[1409], arena);
        }
        rk_segment_unref(seg);
        assert_int_equal(rk_mem_used(mem), 0);
        rk_mem_free(mem);
    }
    free(m.rows);
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

/* ---- one writer, many readers ---- */

typedef struct race {
    rk_segment *seg;
    rk_schema *schema;
    _Atomic(bool) stop;
    _Atomic(uint64_t) applied;
    _Atomic(size_t) reads;
} race;

/* Version of a row is its timestamp, so each visible row can be judged alone. */
static void
read_loop(void *arg)
{
    race *r = arg;
    rk_rng rng;

    rk_rng_init(&rng, (uint64_t)(uintptr_t)&rng);
    while (!atomic_load(&r->stop)) {
        rk_arena *arena = rk_arena_new(0);
        uint64_t ts = atomic_load(&r->applied);
        rk_bitset visible;
        size_t rows;
        bool all;
        rk_err err = {0};
        assert_int_equal(rk_segment_visible(r->seg, ts, &visible, &rows, &all, arena, &err), RK_OK);
        assert_int_equal(rows, ts / 10 * 3);
        for (size_t k = 0; k < 20 && rows > 0; k++) {
            size_t row = (size_t)rk_rng_below(&rng, rows);
            uint64_t row_ts = rk_segment_row_ts(r->seg, row);
            int64_t key = (int64_t)(row % 1000);
            uint32_t found[8];
            assert_int_equal(row_ts, (row / 3 + 1) * 10);
            st_assert_row(r->seg, row, (st_row){key, (uint32_t)row_ts}, arena);
            assert_true(rk_segment_find(r->seg, st_pk(r->schema, key, arena), rows, found, 8) ==
                        (rows - 1 - (size_t)key) / 1000 + 1);
            /* of each key only the newest row is left */
            assert_int_equal(all || rk_bitset_get(&visible, row), row + 1000 >= rows);
        }
        atomic_fetch_add(&r->reads, 1);
        rk_arena_free(arena);
    }
}

static void
test_writer_and_readers(void **state)
{
    enum { BATCHES = 1500, READERS = 3 };
    rk_schema *schema = st_schema(true);
    race r = {.schema = schema};
    rk_thread threads[READERS];
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_segment_new_growing(&r.seg, &(rk_segment_ids){1, 1, 1}, schema, NULL, &err),
                     RK_OK);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(rk_thread_start(&threads[i], "reader", read_loop, &r), RK_OK);
    }
    for (uint64_t b = 1; b <= BATCHES || atomic_load(&r.reads) < 20; b++) {
        rk_arena *arena = rk_arena_new(0);
        st_row rows[3];
        int64_t keys[3];
        uint64_t times[3];
        size_t hits;
        for (size_t i = 0; i < 3; i++) {
            keys[i] = (int64_t)(((b - 1) * 3 + i) % 1000);
            rows[i] = (st_row){keys[i], (uint32_t)(b * 10)};
            times[i] = b * 10;
        }
        assert_int_equal(
            rk_segment_delete(r.seg, st_ids(schema, keys, 3, arena), times, 3, &hits, &err), RK_OK);
        assert_int_equal(
            rk_segment_append(r.seg, st_rows(schema, rows, 3, arena), ST_FIELDS, 3, b * 10, &err),
            RK_OK);
        atomic_store(&r.applied, b * 10);
        rk_arena_free(arena);
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < READERS; i++) {
        rk_thread_join(threads[i]);
    }
    rk_segment_unref(r.seg);
    rk_schema_unref(schema);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upsert_at_one_timestamp),
        cmocka_unit_test(test_random_numbers),
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_memory_refused),
        cmocka_unit_test(test_writer_and_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
