/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delete files: (primary key, timestamp) pairs of one channel, in the order given, in the envelope
 * of column files with a fourth section for timestamps. Read whole and checked whole: they are
 * small and every pair counts.
 */
#include "segment/column_file.h"
#include "segment/segment.h"

static rk_code
write_keys(rk__file_writer *w, const pb_schema_IDs *keys, size_t n, bool text, rk_err *err)
{
    uint64_t at = 0;
    uint8_t bytes[8] = {0};

    RK_RET(rk__file_section(w, RK__DATA, err));
    for (size_t i = 0; i < n; i++) {
        rk_pk pk = rk_ids_at(keys, i);
        rk_put_u64le(bytes, (uint64_t)pk.number);
        RK_RET(text ? rk__file_put(w, pk.text.data, pk.text.len, err)
                    : rk__file_put(w, bytes, sizeof(bytes), err));
    }
    if (!text) {
        return RK_OK;
    }
    RK_RET(rk__file_section(w, RK__OFFSETS, err));
    for (size_t i = 0; i <= n; i++) {
        rk_put_u64le(bytes, at);
        RK_RET(rk__file_put(w, bytes, sizeof(bytes), err));
        at += i < n ? rk_ids_at(keys, i).text.len : 0;
    }
    return RK_OK;
}

rk_code
rk_delta_write(pb_rk_DeltaFile *out, const char *object, const pb_schema_IDs *keys,
               const uint64_t *ts, size_t n, rk_object_store *objects, rk_arena *arena, rk_err *err)
{
    bool text = n > 0 && rk_ids_at(keys, 0).is_text;
    rk__file_head head = {.kind = RK__FILE_DELTAS, .type = text ? RK_VARCHAR : RK_INT64, .rows = n};
    rk__file_writer w = {.section = -1};
    uint8_t bytes[8];
    rk_code code = RK_OK;

    if (rk_ids_len(keys) < n) {
        return rk_fail_tail(err, RK_EINVAL, "%zu deletes come with %zu keys", n, rk_ids_len(keys));
    }
    *out =
        (pb_rk_DeltaFile){.rows = (int64_t)n, .object = rk_arena_str(arena, rk_str_from(object))};
    if (!out->object.data) {
        return rk_fail(err, RK_ENOMEM, "no memory to write object %s", object);
    }
    for (size_t i = 0; i < n; i++) {
        out->min_ts = i == 0 ? ts[i] : RK_MIN(out->min_ts, ts[i]);
        out->max_ts = RK_MAX(out->max_ts, ts[i]);
    }
    RK_ERR(rk__file_begin(&w, &head, object, objects, err));
    RK_ERR(write_keys(&w, keys, n, text, err));
    RK_ERR(rk__file_section(&w, RK__TIMES, err));
    for (size_t i = 0; i < n; i++) {
        rk_put_u64le(bytes, ts[i]);
        RK_ERR(rk__file_put(&w, bytes, sizeof(bytes), err));
    }
    RK_ERR(rk__file_end(&w, &out->size_bytes, err));
out:
    rk__file_abort(&w);
    return code;
}

static rk_code
copy_keys(const rk__file *f, pb_schema_IDs *ids, rk_arena *arena)
{
    size_t n = (size_t)f->head.rows;

    if (f->head.type == RK_INT64) {
        ids->id_field_case = PB_SCHEMA_IDs_int_id;
        ids->int_id = RK_ARENA_NEW(arena, pb_schema_LongArray);
        int64_t *numbers = rk_arena_alloc(arena, n * sizeof(*numbers) + 1);
        if (!ids->int_id || !numbers) {
            return RK_ENOMEM;
        }
        memcpy(numbers, f->sections[RK__DATA].data, n * sizeof(*numbers));
        ids->int_id->data = (pb_i64s){numbers, n};
        return RK_OK;
    }
    const uint64_t *offsets = (const void *)f->sections[RK__OFFSETS].data;
    rk_str all = rk_arena_str(arena, f->sections[RK__DATA]);
    rk_str *texts = rk_arena_alloc(arena, n * sizeof(*texts) + 1);
    ids->id_field_case = PB_SCHEMA_IDs_str_id;
    ids->str_id = RK_ARENA_NEW(arena, pb_schema_StringArray);
    if (!ids->str_id || !texts || !all.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        texts[i] = (rk_str){all.data + offsets[i], (size_t)(offsets[i + 1] - offsets[i])};
    }
    ids->str_id->data = (pb_strs){texts, n};
    return RK_OK;
}

rk_code
rk_delta_read(const char *object, pb_schema_IDs **keys, uint64_t **ts, size_t *n,
              rk_object_store *objects, rk_arena *arena, rk_err *err)
{
    rk__file f = {.name = NULL};
    size_t bytes;
    rk_code code = RK_OK;

    *n = 0;
    *keys = RK_ARENA_NEW(arena, pb_schema_IDs);
    RK_ERR(rk__file_open(&f, object, objects, err));
    if (f.head.kind != RK__FILE_DELTAS || (f.head.type != RK_INT64 && f.head.type != RK_VARCHAR)) {
        RK_ERR(rk_fail(err, RK_ECORRUPT,
                       "object %s is not a delete file: data integrity check failed", object));
    }
    RK_ERR(rk__file_check(&f, err));
    bytes = (size_t)f.head.rows * sizeof(uint64_t);
    *ts = rk_arena_alloc(arena, bytes + 1);
    if (!*keys || !*ts || copy_keys(&f, *keys, arena) != RK_OK) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to read object %s", object));
    }
    memcpy(*ts, f.sections[RK__TIMES].data, bytes);
    *n = (size_t)f.head.rows;
out:
    rk__file_close(&f, objects);
    return code;
}
