/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed segments: one mapped file per field, rows sorted by primary key, so that a key is found by
 * binary search.
 *
 * Opening reads headers and footers, and checks the key and timestamp columns whole, since those
 * are read by functions that cannot fail. Every other column is checked when it is first asked for;
 * two threads may both do it, which is harmless. One that is found damaged or missing, at opening
 * or then, is refused from there on (damage.c); the rest of the segment serves. A field that was
 * added to the collection after the segment was written has no file: its rows are the default
 * value, or null.
 */
#include "segment/segment_private.h"

static rk_code
wrong_file(const char *name, const char *what, rk_err *err)
{
    return rk_fail(err, RK_ECORRUPT,
                   "object %s is not the file it should be: %s: data integrity check failed", name,
                   what);
}

static rk_code
open_file(rk__file *f, const char *name, int64_t field_id, const pb_rk_SegmentInfo *info,
          const rk_segment_env *env, rk_err *err)
{
    RK_RET(rk__file_open(f, name, env->objects, err));
    if (f->head.kind != RK__FILE_COLUMN || f->head.field_id != field_id ||
        f->head.owner_id != info->id) {
        return wrong_file(name, "field or segment differ from the catalogue", err);
    }
    if (f->head.rows != (uint64_t)info->rows) {
        return wrong_file(name, "its number of rows differs from the segment's", err);
    }
    return RK_OK;
}

static rk_code
make_missing(rk__sealed_column *c, const rk_field *field, size_t rows, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    pb_schema_FieldData *data = NULL;
    rk_code code = RK_OK;

    RK_ERR(arena ? RK_OK : RK_ENOMEM);
    RK_ERR(rk_field_data_fill(&data, field, rows, arena));
    RK_ERR(rk_column_builder_new(&c->made, field));
    RK_ERR(rk_column_builder_add(c->made, data, 0, rows));
    c->column = rk_column_builder_view(c->made);
    atomic_store_explicit(&c->checked, true, memory_order_release);
out:
    rk_arena_free(arena);
    if (code == RK_EINVAL) {
        return rk_fail(
            err, RK_ECORRUPT,
            "the segment has no file for field %.*s, which has no default and is not nullable",
            RK_STR_ARG(field->name));
    }
    return code == RK_OK ? RK_OK
                         : rk_fail(err, code, "no memory for the rows of field %.*s",
                                   RK_STR_ARG(field->name));
}

static const pb_rk_FieldFile *
find_file(const pb_rk_SegmentInfo *info, int64_t field_id)
{
    for (size_t i = 0; i < info->columns.n; i++) {
        if (info->columns.data[i]->field_id == field_id) {
            return info->columns.data[i];
        }
    }
    return NULL;
}

static rk_code
open_column(rk__sealed_column *c, const rk_field *field, const pb_rk_SegmentInfo *info,
            const rk_segment_env *env, rk_arena *scratch, rk_err *err)
{
    const pb_rk_FieldFile *file = find_file(info, field->id);

    if (!file) {
        return make_missing(c, field, (size_t)info->rows, err);
    }
    rk_str name = rk_arena_str(scratch, file->object);
    if (!name.data) {
        return rk_fail(err, RK_ENOMEM, "no memory to open a segment");
    }
    RK_RET(open_file(&c->file, name.data, field->id, info, env, err));
    if (c->file.head.type != field->type || c->file.head.element != field->element ||
        c->file.head.dim != field->dim) {
        return wrong_file(name.data, "its type differs from the field's", err);
    }
    c->column = rk__file_column(&c->file, field);
    return RK_OK;
}

static rk_code
open_times(rk__sealed *s, const pb_rk_SegmentInfo *info, const rk_segment_env *env,
           rk_arena *scratch, rk_err *err)
{
    const pb_rk_FieldFile *file = find_file(info, RK_FIELD_TIMESTAMP);
    rk_str name = {NULL, 0};

    if (!file) {
        return rk_fail(err, RK_ECORRUPT, "segment %lld has no timestamp file", (long long)info->id);
    }
    name = rk_arena_str(scratch, file->object);
    if (!name.data) {
        return rk_fail(err, RK_ENOMEM, "no memory to open a segment");
    }
    RK_RET(open_file(&s->times_file, name.data, RK_FIELD_TIMESTAMP, info, env, err));
    if (s->times_file.head.type != RK_INT64) {
        return wrong_file(name.data, "timestamps are not Int64", err);
    }
    RK_RET(rk__file_check(&s->times_file, err));
    s->times = (const void *)s->times_file.sections[RK__DATA].data;
    return RK_OK;
}

/* A column that is damaged or not there stays closed; without its keys a segment is nothing. */
static rk_code
open_one(rk_segment *seg, size_t f, const pb_rk_SegmentInfo *info, const rk_segment_env *env,
         rk_arena *scratch, rk_err *err)
{
    const rk_field *field = &seg->schema->fields[f];
    rk_err found = {0};
    rk_code code = open_column(&seg->sealed->columns[f], field, info, env, scratch, &found);

    if ((code == RK_ECORRUPT || code == RK_EKEY_NOT_FOUND) && find_file(info, field->id)) {
        code = rk__damage_note(seg, f, &found, err);
        return f == seg->schema->primary ? code : RK_OK;
    }
    return code == RK_OK ? RK_OK : rk_fail(err, code, "%s", found.text);
}

static rk_code
open_columns(rk_segment *seg, const pb_rk_SegmentInfo *info, const rk_segment_env *env,
             rk_arena *scratch, rk_err *err)
{
    rk__sealed *s = seg->sealed;
    rk_column unused;

    /* first: of a segment that was dropped meanwhile it is this file that went first */
    rk_code code = open_times(s, info, env, scratch, err);
    if (code == RK_ECORRUPT) {
        return rk__damage_say(seg, "timestamps", err);
    }
    RK_RET(code);
    RK_RET(open_one(seg, seg->schema->primary, info, env, scratch, err));
    for (size_t f = 0; f < seg->schema->fields_len; f++) {
        if (f != seg->schema->primary) {
            RK_RET(open_one(seg, f, info, env, scratch, err));
        }
    }
    RK_RET(rk__sealed_column_get(seg, seg->schema->primary, &unused, err));
    for (size_t i = 1; i < s->rows;
         i++) { /* look-ups rest on the order; a file in disorder must not lose deletes */
        if (rk_pk_cmp(rk__column_pk(&unused, i - 1), rk__column_pk(&unused, i)) > 0) {
            RK_UNUSED(wrong_file(s->columns[seg->schema->primary].file.name,
                                 "keys are not in order", err));
            return rk__damage_say(seg, "keys", err);
        }
    }
    return RK_OK;
}

static rk_code
open_indexes(rk_segment *seg, const pb_rk_SegmentInfo *info, const rk_segment_env *env,
             bool *damaged, rk_err *err)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        rk_code code = rk_segment_set_index(seg, info->indexes.data[i], env, err);
        if (code == RK_ECORRUPT || code == RK_EKEY_NOT_FOUND || code == RK_EFIELD_NOT_FOUND) {
            *damaged = true; /* derived data: the segment serves without, and it is built again */
            rk_err_clear(err);
        } else if (code != RK_OK) {
            return code;
        }
    }
    return RK_OK;
}

rk_code
rk_segment_open(rk_segment **out, const pb_rk_SegmentInfo *info, rk_schema *schema,
                const rk_segment_env *env, bool *index_damaged, rk_err *err)
{
    rk_segment_ids ids = {info->id, info->collection_id, info->partition_id};
    rk_segment *seg = rk__segment_new(&ids, schema, env->mem);
    rk__sealed *s = seg ? rk_alloc_zero(1, sizeof(*s)) : NULL;
    rk_arena *scratch = rk_arena_new(0);
    rk_code code = RK_OK;

    *out = NULL;
    *index_damaged = false;
    if (!s || !scratch) {
        rk_free(s);
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to open segment %lld", (long long)info->id));
    }
    seg->sealed = s;
    rk_mutex_init(&s->index_lock, "segment.index", RK_RANK_SEGMENT + 2);
    s->columns = rk_alloc_zero(schema->fields_len, sizeof(*s->columns));
    s->indexes = rk_alloc_zero(schema->fields_len, sizeof(rk_segment_index *));
    if (!s->columns || !s->indexes) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to open segment %lld", (long long)info->id));
    }
    if (info->rows < 0 || (uint64_t)info->rows > RK__ROWS_MAX) {
        RK_ERR(rk_fail(err, RK_EINVAL, "segment %lld has %lld rows, should be 0 ~ 4294967294",
                       (long long)info->id, (long long)info->rows));
    }
    s->rows = (size_t)info->rows;
    s->size_bytes = info->size_bytes;
    s->min_ts = info->min_ts;
    s->max_ts = info->max_ts;
    s->fold_ts = info->fold_ts;
    s->objects = env->objects;
    RK_ERR(open_columns(seg, info, env, scratch, err));
    RK_ERR(open_indexes(seg, info, env, index_damaged, err));
    *out = seg;
    seg = NULL;
out:
    rk_segment_unref(seg);
    rk_arena_free(scratch);
    return code;
}

void
rk__sealed_free(rk__sealed *s, rk_schema *schema)
{
    if (!s) {
        return;
    }
    for (size_t f = 0; s->indexes && f < schema->fields_len; f++) {
        rk_segment_index_unref(s->indexes[f]);
    }
    for (size_t f = 0; s->columns && f < schema->fields_len; f++) {
        rk__file_close(&s->columns[f].file, s->objects);
        rk_free(atomic_load_explicit(&s->columns[f].damaged, memory_order_relaxed));
        rk_column_builder_free(s->columns[f].made);
    }
    rk__file_close(&s->times_file, s->objects);
    rk_free(s->columns);
    rk_free(s->indexes);
    rk_mutex_deinit(&s->index_lock);
    rk_free(s);
}

rk_code
rk__sealed_column_get(const rk_segment *seg, size_t field, rk_column *out, rk_err *err)
{
    rk__sealed_column *c = &seg->sealed->columns[field];

    if (!atomic_load_explicit(&c->checked, memory_order_acquire)) {
        const char *damaged = atomic_load_explicit(&c->damaged, memory_order_acquire);
        rk_err found = {0};
        if (damaged) {
            return rk_fail(err, RK_ECORRUPT, "%s", damaged);
        }
        if (rk__file_check(&c->file, &found) != RK_OK) {
            return rk__damage_note(seg, field, &found, err);
        }
        atomic_store_explicit(&c->checked, true, memory_order_release);
    }
    *out = c->column;
    return RK_OK;
}

/* First row whose key is not below |pk|. */
static size_t
lower_bound(const rk_column *keys, rk_pk pk)
{
    size_t lo = 0, hi = keys->rows;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (rk_pk_cmp(rk__column_pk(keys, mid), pk) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

size_t
rk__sealed_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max)
{
    const rk_column *keys = &seg->sealed->columns[seg->schema->primary].column;
    size_t n = 0;

    for (size_t row = lower_bound(keys, pk);
         row < RK_MIN(keys->rows, rows) && rk_pk_cmp(rk__column_pk(keys, row), pk) == 0; row++) {
        if (n < max) {
            out[n] = (uint32_t)row;
        }
        n++;
    }
    return n;
}
