/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of segments: damage of any byte is found and named, failures leave nothing behind, deltas
 * and indexes come back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "segment/column_file.h"
#include "segment/segment_private.h"
#include "segment_testing.h"

typedef struct fixture {
    st_store store;
    rk_schema *schema;
    rk_segment *growing;
    rk_arena *arena;
    st_row rows[700];
} fixture;

static int
set_up(void **state)
{
    fixture *fx = calloc(1, sizeof(*fx));
    rk_err err = {0};

    assert_non_null(fx);
    st_store_open(&fx->store);
    fx->schema = st_schema(true);
    fx->arena = rk_arena_new(0);
    for (size_t i = 0; i < RK_COUNT(fx->rows); i++) {
        fx->rows[i] = (st_row){(int64_t)((i * 37) % RK_COUNT(fx->rows)), 1};
    }
    assert_int_equal(rk_segment_new_growing(&fx->growing, &(rk_segment_ids){1, 1, 2}, fx->schema,
                                            fx->store.mem, &err),
                     RK_OK);
    assert_int_equal(rk_segment_append(fx->growing,
                                       st_rows(fx->schema, fx->rows, RK_COUNT(fx->rows), fx->arena),
                                       ST_FIELDS, RK_COUNT(fx->rows), 50, &err),
                     RK_OK);
    *state = fx;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *fx = *state;

    rk_segment_unref(fx->growing);
    rk_schema_unref(fx->schema);
    rk_arena_free(fx->arena);
    st_store_close(&fx->store);
    free(fx);
    return 0;
}

static pb_rk_SegmentInfo
write_one(fixture *fx, int64_t id)
{
    pb_rk_SegmentInfo info;
    rk_err err = {0};
    rk_code code = rk_segment_write(&info, &(rk_segment_ids){id, 1, 2}, &fx->growing, 1, 60,
                                    &fx->store.env, NULL, fx->arena, &err);

    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    return info;
}

static void
test_write_and_open(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_segment *seg;
    uint64_t size = 0;
    bool damaged;
    rk_err err = {0};

    assert_int_equal(info.rows, 700);
    assert_int_equal(info.min_ts, 50);
    assert_int_equal(info.max_ts, 50);
    assert_int_equal(info.fold_ts, 60);
    assert_int_equal(info.state, PB_RK_SegmentState_SEGMENT_FLUSHED);
    assert_int_equal(info.columns.n, ST_FIELDS + 1);
    assert_true(rk_str_is(info.columns.data[0]->object, "c1/s7/f1"));
    for (size_t i = 0; i < info.columns.n; i++) {
        size += info.columns.data[i]->size_bytes;
    }
    assert_int_equal(info.size_bytes, size);
    assert_int_equal(st_store_count(&fx->store), ST_FIELDS + 1);
    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    for (size_t row = 0; row < 700; row++) {
        st_assert_row(seg, row, (st_row){(int64_t)row, 1}, fx->arena);
    }
    rk_segment_unref(seg);
    /* a name is used once: a second writer of the same segment is refused and removes nothing */
    assert_int_equal(rk_segment_write(&info, &(rk_segment_ids){7, 1, 2}, &fx->growing, 1, 60,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_EEXISTS);
    assert_int_equal(st_store_count(&fx->store), ST_FIELDS + 1);
}

static void
test_nothing_to_write(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info;
    int64_t keys[700];
    uint64_t times[700];
    size_t hits;
    rk_err err = {0};

    for (size_t i = 0; i < 700; i++) {
        keys[i] = (int64_t)i;
        times[i] = 55;
    }
    assert_int_equal(rk_segment_delete(fx->growing, st_ids(fx->schema, keys, 700, fx->arena), times,
                                       700, &hits, &err),
                     RK_OK);
    assert_int_equal(hits, 700);
    assert_int_equal(rk_segment_write(&info, &(rk_segment_ids){8, 1, 2}, &fx->growing, 1, 60,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_OK);
    assert_int_equal(info.rows, 0);
    assert_int_equal(st_store_count(&fx->store), 0);
}

static char *
path_of(fixture *fx, rk_str object)
{
    /* the store keeps an object in a file of its name somewhere below its folder */
    static char path[300];
    char command[300];

    snprintf(command, sizeof(command), "find '%s' -path '*%.*s' -type f", fx->store.path,
             RK_STR_ARG(object));
    FILE *out = popen(command, "r");
    assert_non_null(out);
    assert_non_null(fgets(path, sizeof(path), out));
    pclose(out);
    path[strcspn(path, "\n")] = 0;
    return path;
}

static void
flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    int c;

    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    c = fgetc(f);
    assert_true(c != EOF);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 0x10, f), c ^ 0x10);
    fclose(f);
}

/* Opens the segment and reads every column; the first error. */
static rk_code
use_all(fixture *fx, const pb_rk_SegmentInfo *info, rk_err *err)
{
    rk_segment *seg;
    bool damaged;
    rk_column c;
    rk_code code;

    RK_RET(rk_segment_open(&seg, info, fx->schema, &fx->store.env, &damaged, err));
    code = RK_OK;
    for (size_t f = 0; f < ST_FIELDS && code == RK_OK; f++) {
        code = rk_segment_column(seg, 0, f, 700, &c, err);
    }
    rk_segment_unref(seg);
    return code;
}

static void
test_damage(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_err err = {0};

    assert_int_equal(use_all(fx, &info, &err), RK_OK);
    for (size_t i = 0; i < info.columns.n; i++) {
        long size = (long)info.columns.data[i]->size_bytes;
        const char *path = path_of(fx, info.columns.data[i]->object);
        /* header, data, padding or offsets, footer, tail; every byte of the smallest file */
        for (long at = 0; at < size; at += i == 0 ? 1 : RK_MAX(size / 40, 1)) {
            rk_err_clear(&err);
            flip(path, at);
            rk_code code = use_all(fx, &info, &err);
            flip(path, at);
            if (code != RK_ECORRUPT || !strstr(err.text, "offset") ||
                !memmem(err.text, strlen(err.text), info.columns.data[i]->object.data,
                        info.columns.data[i]->object.len)) {
                fail_msg("file %zu offset %ld: code %d, \"%s\"", i, at, code, err.text);
            }
        }
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        fclose(f);
    }
    assert_int_equal(use_all(fx, &info, &err), RK_OK);
    info.columns.data[3]->object = info.columns.data[4]->object; /* the file of another field */
    assert_int_equal(use_all(fx, &info, &err), RK_ECORRUPT);
    info.columns.data[3]->object = RK_STR("c1/s7/nothing");
    assert_int_equal(use_all(fx, &info, &err), RK_ECORRUPT);
    assert_non_null(strstr(err.text, "c1/s7/nothing"));
    info.columns.data[0]->object = RK_STR("c1/s7/nothing"); /* timestamps: it is not there at all */
    assert_int_equal(use_all(fx, &info, &err), RK_EKEY_NOT_FOUND);
}

/* A damaged column is refused with a sentence that says whose it is and what helps; the others of
 * the segment serve. |at| < 0: the object is removed. */
static void
one_column_damaged(fixture *fx, const pb_rk_SegmentInfo *info, size_t field, long at)
{
    const pb_rk_FieldFile *file = info->columns.data[field + 1]; /* behind the timestamps */
    rk_segment *seg;
    rk_column c;
    bool damaged;
    rk_err err = {0};
    char path[300];
    char expected[400];

    (void)snprintf(path, sizeof(path), "%s", path_of(fx, file->object));
    assert_int_equal(file->field_id, fx->schema->fields[field].id);
    if (at >= 0) {
        flip(path, at);
    } else {
        char away[310];
        (void)snprintf(away, sizeof(away), "%s.away", path);
        assert_int_equal(rename(path, away), 0);
    }
    assert_int_equal(rk_segment_open(&seg, info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    for (size_t f = 0; f < ST_FIELDS; f++) {
        rk_code code = rk_segment_column(seg, 0, f, 700, &c, &err);
        assert_int_equal(code, f == field ? RK_ECORRUPT : RK_OK);
    }
    assert_true(rk_segment_has_damaged_column(seg));
    (void)snprintf(expected, sizeof(expected),
                   "collection %.*s (1), segment 7, field %.*s: object %.*s",
                   RK_STR_ARG(fx->schema->name), RK_STR_ARG(fx->schema->fields[field].name),
                   RK_STR_ARG(file->object));
    if (strncmp(err.text, expected, at >= 0 ? strlen(expected) : strlen(expected) - 30) != 0 ||
        !strstr(err.text, "restore the file from a backup") ||
        !strstr(err.text, "drop the collection and insert its rows again: data integrity check")) {
        fail_msg("\"%s\", expected \"%s\"", err.text, expected);
    }
    if (at >= 0) {
        char text[RK_ERR_TEXT_MAX];
        memcpy(text, err.text, sizeof(text));
        flip(path, at); /* as long as the segment is open it is remembered, and not read again */
        assert_int_equal(rk_segment_column(seg, 0, field, 700, &c, &err), RK_ECORRUPT);
        assert_string_equal(text, err.text);
    } else {
        char away[310];
        (void)snprintf(away, sizeof(away), "%s.away", path);
        assert_int_equal(rename(away, path), 0);
    }
    rk_segment_unref(seg);
    assert_int_equal(use_all(fx, info, &err), RK_OK);
}

static void
test_one_column_damaged(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);

    for (size_t f = 1; f < ST_FIELDS; f++) {
        long size = (long)info.columns.data[f + 1]->size_bytes;
        one_column_damaged(fx, &info, f, 100);      /* a page of the data */
        one_column_damaged(fx, &info, f, 3);        /* the header: found at open */
        one_column_damaged(fx, &info, f, size - 3); /* the tail */
        one_column_damaged(fx, &info, f, -1);
    }
}

/* An index over a damaged column stays in the catalogue: it is not damaged itself. One that scores
 * on the column is left out, one that holds the vectors serves, and is kept even if it has a bad
 * page. */
static void
index_over_damage(fixture *fx, const char *kind, bool serves)
{
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_param pairs[] = {{RK_STR("index_type"), rk_str_from(kind)},
                        {RK_STR("metric_type"), RK_STR("L2")}};
    pb_rk_IndexFile file = {
        .index_id = 1, .field_id = 100 + ST_VECTOR, .object = RK_STR("c1/s7/i1")};
    pb_rk_IndexFile *listed[] = {&file};
    const rk_index *index;
    rk_segment *seg;
    rk_segment_index *held;
    rk_column c;
    pb_strs objects;
    bool damaged;
    rk_err err = {0};

    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_int_equal(rk_segment_build_index(seg, file.field_id, (rk_params){pairs, 2}, "c1/s7/i1",
                                            &fx->store.env, NULL, NULL, &file.size_bytes, &err),
                     RK_OK);
    rk_segment_unref(seg);
    info.indexes.data = listed;
    info.indexes.n = 1;
    flip(path_of(fx, info.columns.data[ST_VECTOR + 1]->object), 200);
    for (int round = 0; round < 2; round++) { /* the second: the index file has a bad byte, too */
        assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                         RK_OK);
        assert_false(damaged);
        held = rk_segment_index_ref(seg, file.field_id, &index);
        assert_int_equal(held != NULL, serves && round == 0);
        if (held) {
            rk_hit hit;
            uint32_t n = 0;
            rk_search_options options = {.k = 1, .arena = fx->arena};
            float query[ST_DIM];
            st_vector((st_row){5, 1}, false, query);
            assert_int_equal(rk_index_search(index, query, sizeof(query), &options, &hit, &n, &err),
                             RK_OK);
            assert_int_equal(hit.row, 5);
            rk_segment_mark_damaged(seg, held);
            assert_int_equal(rk_segment_drop_damaged(seg, &objects, fx->arena), RK_OK);
            assert_int_equal(objects.n, 0);
            assert_true(rk_segment_has_index(seg, file.field_id));
        }
        rk_segment_index_unref(held);
        assert_int_equal(rk_segment_column(seg, 0, ST_VECTOR, 700, &c, &err), RK_ECORRUPT);
        assert_int_equal(rk_segment_build_index(seg, file.field_id, (rk_params){pairs, 2},
                                                "c1/s7/i2", &fx->store.env, NULL, NULL,
                                                &file.size_bytes, &err),
                         RK_ECORRUPT);
        assert_non_null(strstr(err.text, "restore the file"));
        rk_err_clear(&err);
        rk_segment_unref(seg);
        if (round == 0) {
            flip(path_of(fx, file.object), 3);
        }
    }
}

static void
test_index_over_damage_mapped(void **state)
{
    index_over_damage(*state, "HNSW", false);
}

static void
test_index_over_damage_paged(void **state)
{
    index_over_damage(*state, "DISKANN", true);
}

/* A compaction meets it, writes nothing and leaves every file where it is. */
static void
test_damaged_input(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);
    pb_rk_SegmentInfo merged;
    rk_segment *seg;
    size_t objects = st_store_count(&fx->store);
    bool damaged;
    rk_err err = {0};

    flip(path_of(fx, info.columns.data[ST_TEXT + 1]->object), 100);
    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_false(rk_segment_has_damaged_column(seg));
    assert_int_equal(rk_segment_write(&merged, &(rk_segment_ids){8, 1, 2}, &seg, 1, 60,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_ECORRUPT);
    assert_true(rk_segment_has_damaged_column(seg));
    assert_non_null(strstr(err.text, "segment 7"));
    assert_int_equal(st_store_count(&fx->store), objects);
    rk_segment_unref(seg);
}

/* A field added later has no file: nulls when nullable, else the segment is not usable. */
static void
test_missing_column(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_segment *seg;
    rk_column c;
    bool damaged;
    rk_err err = {0};

    for (size_t drop = 0; drop < 2; drop++) {
        pb_rk_SegmentInfo cut = info;
        pb_rk_FieldFile *left[ST_FIELDS + 1];
        int64_t gone = drop == 0 ? 100 + ST_NUMBER : 100 + ST_TEXT;
        cut.columns.data = left;
        cut.columns.n = 0;
        for (size_t i = 0; i < info.columns.n; i++) {
            if (info.columns.data[i]->field_id != gone) {
                left[cut.columns.n++] = info.columns.data[i];
            }
        }
        rk_code code = rk_segment_open(&seg, &cut, fx->schema, &fx->store.env, &damaged, &err);
        assert_int_equal(code, drop == 0 ? RK_OK : RK_ECORRUPT);
        if (code == RK_OK) {
            assert_int_equal(rk_segment_column(seg, 0, ST_NUMBER, 700, &c, &err), RK_OK);
            assert_int_equal(c.rows, 700);
            assert_true(rk_column_is_null(&c, 699));
            rk_segment_unref(seg);
        }
    }
}

/* Every failure on the way removes what was written. */
static void
test_failed_write(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info;
    _Atomic(bool) cancel = true;
    rk_err err = {0};

    assert_int_equal(rk_segment_write(&info, &(rk_segment_ids){9, 1, 2}, &fx->growing, 1, 60,
                                      &fx->store.env, &cancel, fx->arena, &err),
                     RK_ECANCELLED);
    assert_int_equal(st_store_count(&fx->store), 0);
    for (int64_t fail = 0;; fail++) {
        rk_arena *arena = rk_arena_new(0);
        rk_alloc_fail_after(fail);
        rk_code code = rk_segment_write(&info, &(rk_segment_ids){9, 1, 2}, &fx->growing, 1, 60,
                                        &fx->store.env, NULL, arena, &err);
        rk_alloc_fail_after(-1);
        rk_arena_free(arena);
        if (code == RK_OK) {
            assert_int_equal(st_store_count(&fx->store), ST_FIELDS + 1);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_int_equal(st_store_count(&fx->store), 0);
    }
}

static void
test_fault_points(void **state)
{
    fixture *fx = *state;
    static const char *const rules[] = {
        "segment.write.before_column:1:error", "segment.write.before_column:5:full",
        "segment.write.after_column:1:error", "segment.write.after_column:10:error"};
    rk_err err = {0};

    for (size_t i = 0; i < RK_COUNT(rules); i++) {
        pb_rk_SegmentInfo info;
        setenv("REDKITE_FAULT", rules[i], 1);
        rk_fault_init();
        rk_code code = rk_segment_write(&info, &(rk_segment_ids){9, 1, 2}, &fx->growing, 1, 60,
                                        &fx->store.env, NULL, fx->arena, &err);
        assert_int_equal(code, strstr(rules[i], "full") ? RK_EDISK_FULL : RK_EIO);
        assert_int_equal(st_store_count(&fx->store), 0);
    }
    unsetenv("REDKITE_FAULT");
    rk_fault_init();
}

static void
test_deltas(void **state)
{
    fixture *fx = *state;
    enum { N = 40000 };
    int64_t *numbers = RK_ARENA_ARRAY(fx->arena, int64_t, N);
    uint64_t *times = RK_ARENA_ARRAY(fx->arena, uint64_t, N);
    rk_schema *schema = st_schema(false);
    rk_err err = {0};

    for (size_t i = 0; i < N; i++) {
        numbers[i] = (int64_t)(i * 7) - 1000;
        times[i] = 1000 + i / 3;
    }
    for (int text = 0; text < 2; text++) {
        const char *name = text ? "c1/d/text" : "c1/d/numbers";
        pb_schema_IDs *keys = st_ids(text ? fx->schema : schema, numbers, N, fx->arena);
        pb_rk_DeltaFile file;
        pb_schema_IDs *back;
        uint64_t *back_times;
        size_t n;
        assert_int_equal(
            rk_delta_write(&file, name, keys, times, N, fx->store.objects, fx->arena, &err), RK_OK);
        assert_int_equal(file.rows, N);
        assert_int_equal(file.min_ts, 1000);
        assert_int_equal(file.max_ts, times[N - 1]);
        assert_int_equal(
            rk_delta_read(name, &back, &back_times, &n, fx->store.objects, fx->arena, &err), RK_OK);
        assert_int_equal(n, N);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(rk_pk_cmp(rk_ids_at(back, i), rk_ids_at(keys, i)), 0);
            assert_int_equal(back_times[i], times[i]);
        }
        const char *path = path_of(fx, rk_str_from(name));
        for (long at = 0; at < (long)file.size_bytes; at += 10007) {
            flip(path, at);
            assert_int_equal(
                rk_delta_read(name, &back, &back_times, &n, fx->store.objects, fx->arena, &err),
                RK_ECORRUPT);
            flip(path, at);
        }
    }
    rk_schema_unref(schema);
}

static void
index_of_kind(fixture *fx, const char *kind)
{
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_param pairs[] = {{RK_STR("index_type"), rk_str_from(kind)},
                        {RK_STR("metric_type"), RK_STR("L2")}};
    rk_params params = {pairs, RK_COUNT(pairs)};
    pb_rk_IndexFile file = {
        .index_id = 1, .field_id = 100 + ST_VECTOR, .object = RK_STR("c1/s7/i1")};
    _Atomic(uint64_t) done = 0;
    const rk_index *index;
    rk_segment *seg;
    bool damaged;
    rk_err err = {0};

    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    rk_code code = rk_segment_build_index(seg, file.field_id, params, "c1/s7/i1", &fx->store.env,
                                          NULL, &done, &file.size_bytes, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    assert_false(rk_segment_has_index(seg, file.field_id));
    assert_int_equal(rk_segment_set_index(seg, &file, &fx->store.env, &err), RK_OK);
    assert_true(rk_segment_has_index(seg, file.field_id));
    rk_segment_index *held = rk_segment_index_ref(seg, file.field_id, &index);
    rk_segment_drop_index(seg, file.field_id); /* a search that holds it goes on */
    assert_false(rk_segment_has_index(seg, file.field_id));
    rk_hit hit;
    uint32_t n = 0;
    rk_column c;
    rk_search_options options = {.k = 1, .arena = fx->arena};
    assert_int_equal(rk_segment_column(seg, 0, ST_VECTOR, 700, &c, &err), RK_OK);
    code = rk_index_search(index, (const float *)c.data + 5 * ST_DIM, ST_DIM * 4, &options, &hit,
                           &n, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    assert_int_equal(n, 1);
    assert_int_equal(hit.row, 5);
    rk_segment_index_unref(held);
    rk_segment_unref(seg);

    /* a listed index is opened with the segment; a damaged or missing one is reported and left out
     */
    pb_rk_IndexFile *listed[] = {&file};
    info.indexes.data = listed;
    info.indexes.n = 1;
    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_false(damaged);
    assert_true(rk_segment_has_index(seg, file.field_id));
    rk_segment_unref(seg);
    const char *path = path_of(fx, file.object);
    flip(path, 3);
    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_true(damaged);
    assert_false(rk_segment_has_index(seg, file.field_id));
    rk_segment_unref(seg);
    file.object = RK_STR("c1/s7/nothing");
    assert_int_equal(rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_true(damaged);
    rk_segment_unref(seg);
}

static void
test_index_mapped(void **state)
{
    index_of_kind(*state, "HNSW");
}

/* Opened through a page reader, without the vectors of the column. */
static void
test_index_paged(void **state)
{
    index_of_kind(*state, "DISKANN");
}

static void
test_index_paged_codes(void **state)
{
    index_of_kind(*state, "AISAQ");
}

/* ---- readers beside index swaps ---- */

typedef struct swap_race {
    rk_segment *seg;
    _Atomic(bool) stop;
    _Atomic(size_t) with_index;
} swap_race;

static void
swap_reader(void *arg)
{
    swap_race *r = arg;

    while (!atomic_load(&r->stop)) {
        rk_arena *arena = rk_arena_new(0);
        const rk_index *index;
        rk_column c;
        rk_hit hit;
        uint32_t n = 0;
        rk_search_options options = {.k = 1, .arena = arena};
        rk_err err = {0};
        rk_segment_index *held = rk_segment_index_ref(r->seg, 100 + ST_VECTOR, &index);
        assert_int_equal(rk_segment_column(r->seg, 0, ST_VECTOR, 700, &c, &err), RK_OK);
        if (held) {
            const float *query = (const float *)c.data + 9 * ST_DIM;
            assert_int_equal(rk_index_search(index, query, ST_DIM * 4, &options, &hit, &n, &err),
                             RK_OK);
            assert_int_equal(hit.row, 9);
            atomic_fetch_add(&r->with_index, 1);
        }
        rk_segment_index_unref(held);
        rk_arena_free(arena);
    }
}

static void
test_index_swaps(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = write_one(fx, 7);
    rk_param pairs[] = {{RK_STR("index_type"), RK_STR("FLAT")},
                        {RK_STR("metric_type"), RK_STR("L2")}};
    pb_rk_IndexFile file = {
        .index_id = 1, .field_id = 100 + ST_VECTOR, .object = RK_STR("c1/s7/i1")};
    swap_race r = {.seg = NULL};
    rk_thread threads[2];
    bool damaged;
    rk_err err = {0};

    assert_int_equal(rk_segment_open(&r.seg, &info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rk_thread_start(&threads[i], "reader", swap_reader, &r), RK_OK);
    }
    assert_int_equal(rk_segment_build_index(r.seg, file.field_id, (rk_params){pairs, 2}, "c1/s7/i1",
                                            &fx->store.env, NULL, NULL, &file.size_bytes, &err),
                     RK_OK);
    for (int i = 0; i < 100 || atomic_load(&r.with_index) < 20; i++) {
        assert_int_equal(rk_segment_set_index(r.seg, &file, &fx->store.env, &err), RK_OK);
        if (i % 3 == 0) {
            rk_segment_drop_index(r.seg, file.field_id);
        }
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < 2; i++) {
        rk_thread_join(threads[i]);
    }
    rk_segment_unref(r.seg);
}

/* ---- an index out of those of the inputs ---- */

static void
read_object(fixture *fx, const char *name, uint64_t size, rk_str *out)
{
    char *bytes = rk_arena_alloc(fx->arena, size);
    rk_err err = {0};

    assert_non_null(bytes);
    assert_int_equal(rk_object_read(fx->store.objects, name, 0, bytes, size, &err), RK_OK);
    *out = (rk_str){bytes, size};
}

static rk_segment *
open_one(fixture *fx, const pb_rk_SegmentInfo *info)
{
    rk_segment *seg = NULL;
    bool damaged;
    rk_err err = {0};

    assert_int_equal(rk_segment_open(&seg, info, fx->schema, &fx->store.env, &damaged, &err),
                     RK_OK);
    assert_false(damaged);
    return seg;
}

/* Every row is found where it is, by the index at |object|. */
static void
check_merged_index(fixture *fx, rk_segment *seg, const char *object, uint64_t size_bytes)
{
    pb_rk_IndexFile file = {.index_id = 1,
                            .field_id = 100 + ST_VECTOR,
                            .object = rk_str_from(object),
                            .size_bytes = size_bytes};
    const rk_index *index;
    rk_segment_stats stats;
    rk_column c;
    rk_err err = {0};

    assert_int_equal(rk_segment_set_index(seg, &file, &fx->store.env, &err), RK_OK);
    rk_segment_index *held = rk_segment_index_ref(seg, file.field_id, &index);
    rk_segment_get_stats(seg, &stats);
    assert_int_equal(rk_segment_column(seg, 0, ST_VECTOR, stats.rows, &c, &err), RK_OK);
    for (size_t row = 0; row < stats.rows; row++) {
        rk_search_options options = {.k = 1, .arena = fx->arena};
        rk_hit hit;
        uint32_t n = 0;
        assert_int_equal(rk_index_search(index, (const float *)c.data + row * ST_DIM, ST_DIM * 4,
                                         &options, &hit, &n, &err),
                         RK_OK);
        assert_int_equal(n, 1);
        assert_true(hit.score == 0);
    }
    rk_segment_index_unref(held);
    rk_segment_drop_index(seg, file.field_id);
}

static void
test_index_is_merged(void **state)
{
    fixture *fx = *state;
    rk_param pairs[] = {{RK_STR("index_type"), RK_STR("HNSW")},
                        {RK_STR("metric_type"), RK_STR("L2")}};
    rk_params params = {pairs, RK_COUNT(pairs)};
    pb_rk_IndexFile file = {
        .index_id = 1, .field_id = 100 + ST_VECTOR, .object = RK_STR("c1/s7/i1")};
    pb_rk_SegmentInfo infos[3] = {write_one(fx, 7)};
    rk_segment *inputs[2];
    rk_segment *growing = NULL;
    st_row more[200];
    int64_t keys[50];
    uint64_t times[50];
    uint64_t size_bytes[3] = {0};
    rk_str images[3];
    size_t hits = 0;
    rk_err err = {0};

    inputs[0] = open_one(fx, &infos[0]);
    assert_int_equal(rk_segment_build_index(inputs[0], file.field_id, params, "c1/s7/i1",
                                            &fx->store.env, NULL, NULL, &file.size_bytes, &err),
                     RK_OK);
    assert_int_equal(rk_segment_set_index(inputs[0], &file, &fx->store.env, &err), RK_OK);
    for (size_t i = 0; i < RK_COUNT(more); i++) { /* every fourth is a newer row of a key */
        more[i] = (st_row){i % 4 ? (int64_t)(700 + i) : (int64_t)i, 2};
    }
    assert_int_equal(rk_segment_new_growing(&growing, &(rk_segment_ids){2, 1, 2}, fx->schema,
                                            fx->store.mem, &err),
                     RK_OK);
    assert_int_equal(rk_segment_append(growing,
                                       st_rows(fx->schema, more, RK_COUNT(more), fx->arena),
                                       ST_FIELDS, RK_COUNT(more), 80, &err),
                     RK_OK);
    assert_int_equal(rk_segment_write(&infos[1], &(rk_segment_ids){8, 1, 2}, &growing, 1, 90,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_OK);
    inputs[1] = open_one(fx, &infos[1]);
    for (size_t i = 0; i < RK_COUNT(keys); i++) {
        keys[i] = (int64_t)(i * 4);
        times[i] = 80;
    }
    assert_int_equal(rk_segment_delete(inputs[0],
                                       st_ids(fx->schema, keys, RK_COUNT(keys), fx->arena), times,
                                       RK_COUNT(keys), &hits, &err),
                     RK_OK);
    assert_int_equal(hits, RK_COUNT(keys));
    assert_int_equal(rk_segment_write(&infos[2], &(rk_segment_ids){9, 1, 2}, inputs, 2, 100,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_OK);
    assert_int_equal(infos[2].rows, 700 + 200 - 50);
    rk_segment *seg = open_one(fx, &infos[2]);

    uint32_t map[700];
    assert_int_equal(rk__row_map(inputs[0], ST_VECTOR, seg, ST_VECTOR, map, &err), RK_OK);
    for (size_t row = 0; row < 700; row++) {
        bool gone = row < 200 && row % 4 == 0;
        assert_true((map[row] == RK_NO_ROW) == gone);
        if (!gone) {
            assert_int_equal(rk_pk_cmp(rk_segment_pk(seg, map[row]), rk_segment_pk(inputs[0], row)),
                             0);
            assert_int_equal(rk_segment_row_ts(seg, map[row]), 50);
        }
    }

    rk_segment *reversed[2] = {inputs[1], inputs[0]};
    static const char *const objects[] = {"c1/s9/i1", "c1/s9/i2", "c1/s9/i3"};
    for (size_t i = 0; i < 3; i++) { /* in any order of the inputs; and afresh */
        assert_int_equal(rk_segment_merge_index(seg, i == 1 ? reversed : inputs, i == 2 ? 0 : 2,
                                                file.field_id, params, objects[i], &fx->store.env,
                                                NULL, NULL, &size_bytes[i], &err),
                         RK_OK);
        check_merged_index(fx, seg, objects[i], size_bytes[i]);
        read_object(fx, objects[i], size_bytes[i], &images[i]);
    }
    assert_true(rk_str_eq(images[0], images[1]));
    assert_false(rk_str_eq(images[0], images[2]));
    rk_segment_unref(seg);
    rk_segment_unref(inputs[0]);
    rk_segment_unref(inputs[1]);
    rk_segment_unref(growing);
}

/* ---- files of released versions ---- */

static void
put_golden(fixture *fx, const char *file, const char *object)
{
    char path[500];
    static char bytes[65536];
    rk_err err = {0};

    snprintf(path, sizeof(path), "%s/segment/v1/%s", RK_TESTDATA, file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    assert_int_equal(rk_object_put(fx->store.objects, object, (rk_str){bytes, len}, &err), RK_OK);
}

/* Files that version 1 wrote are read, and are what is written today. */
static void
test_golden(void **state)
{
    fixture *fx = *state;
    pb_rk_SegmentInfo info = {
        .id = 7, .collection_id = 1, .rows = 40, .min_ts = 50, .max_ts = 50, .fold_ts = 60};
    pb_rk_FieldFile *files[ST_FIELDS + 1];
    rk_segment *seg;
    bool damaged;
    rk_err err = {0};

    info.columns.data = files;
    for (int i = 0; i <= ST_FIELDS; i++) {
        rk_str file = rk_arena_printf(fx->arena, "f%d", i == 0 ? 1 : 99 + i);
        rk_str object = rk_arena_printf(fx->arena, "golden/%s", file.data);
        put_golden(fx, file.data, object.data);
        files[i] = RK_ARENA_NEW(fx->arena, pb_rk_FieldFile);
        *files[i] = (pb_rk_FieldFile){.field_id = i == 0 ? 1 : 99 + i, .object = object};
        info.columns.n++;
    }
    rk_code code = rk_segment_open(&seg, &info, fx->schema, &fx->store.env, &damaged, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    for (size_t row = 0; row < 40; row++) {
        st_assert_row(seg, row, (st_row){(int64_t)row, 1}, fx->arena);
        assert_int_equal(rk_segment_row_ts(seg, row), 50);
    }
    pb_rk_SegmentInfo today;
    assert_int_equal(rk_segment_write(&today, &(rk_segment_ids){7, 1, 2}, &seg, 1, 60,
                                      &fx->store.env, NULL, fx->arena, &err),
                     RK_OK);
    for (size_t i = 0; i < today.columns.n; i++) {
        rk_object_view a, b;
        assert_int_equal(
            rk_object_map(fx->store.objects, today.columns.data[i]->object.data, &a, &err), RK_OK);
        assert_int_equal(rk_object_map(fx->store.objects, files[i]->object.data, &b, &err), RK_OK);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.data, b.data, a.len);
        rk_object_unmap(fx->store.objects, &a);
        rk_object_unmap(fx->store.objects, &b);
    }
    rk_segment_unref(seg);
    for (int text = 0; text < 2; text++) {
        static const int64_t numbers[] = {1, 2, 3, 4, 9};
        pb_schema_IDs *keys;
        uint64_t *ts;
        size_t n;
        const char *object = text ? "golden/d1" : "golden/d2";
        put_golden(fx, object + 7, object);
        assert_int_equal(rk_delta_read(object, &keys, &ts, &n, fx->store.objects, fx->arena, &err),
                         RK_OK);
        assert_int_equal(n, 5);
        for (size_t i = 0; i < n; i++) {
            rk_pk expected = {.number = numbers[i]};
            expected = text ? st_pk(fx->schema, numbers[i], fx->arena) : expected;
            assert_int_equal(rk_pk_cmp(rk_ids_at(keys, i), expected), 0);
            assert_int_equal(ts[i], 70 + i);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_column_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_over_damage_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_over_damage_paged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_input, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_column, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fault_points, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deltas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_paged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_paged_codes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_swaps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_is_merged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_golden, set_up, tear_down),
    };
    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
