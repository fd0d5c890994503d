/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector indexes of sealed segments: built from the mapped column into an object, mapped again to
 * serve, swapped in and out while searches run. Kinds made for disk (DISKANN, AISAQ) are not mapped
 * but read page by page, and neither are the vectors they were built from, which such an index
 * holds itself.
 *
 * An index borrows the column's vectors, so whoever holds one holds the segment too. The slot of a
 * field is guarded by a short lock, under which it is read and referenced, or exchanged; a search
 * that has its reference finishes on the index it began with.
 */
#include "base/log.h"
#include "segment/segment_private.h"

static rk_code
field_position(const rk_segment *seg, int64_t field_id, size_t *position, rk_err *err)
{
    const rk_field *field = rk_schema_by_id(seg->schema, field_id);

    if (!seg->sealed || !field || !rk_type_is_vector(field->type)) {
        return rk_fail(err, RK_EFIELD_NOT_FOUND,
                       "segment %lld has no vector field %lld to index: field not found",
                       (long long)seg->ids.id, (long long)field_id);
    }
    *position = (size_t)(field - seg->schema->fields);
    return RK_OK;
}

static rk_code
get_vectors(const rk_segment *seg, size_t position, rk_vectors *out, rk_err *err)
{
    const rk_field *field = &seg->schema->fields[position];
    rk_column column;

    RK_RET(rk__sealed_column_get(seg, position, &column, err));
    *out = (rk_vectors){.type = (rk_vector_type)field->type,
                        .dim = field->dim,
                        .rows = column.rows,
                        .data = column.data,
                        .offsets = column.offsets};
    return RK_OK;
}

/* ---- build ---- */

typedef struct object_sink {
    rk_object_writer *writer;
    uint64_t size_bytes;
} object_sink;

static rk_code
write_object(void *user, const void *data, size_t len, rk_err *err)
{
    object_sink *sink = user;

    sink->size_bytes += len;
    return rk_object_write(sink->writer, data, len, err);
}

static rk_code
save_index(const rk_index *index, const char *object, const rk_segment_env *env,
           uint64_t *size_bytes, rk_err *err)
{
    object_sink sink = {NULL, 0};
    rk_code code;

    RK_RET(rk_object_writer_open(&sink.writer, env->objects, object, err));
    code = rk_index_save(index, write_object, &sink, err);
    if (code != RK_OK) {
        rk_object_abort(sink.writer);
        return code;
    }
    *size_bytes = sink.size_bytes;
    return rk_object_commit(sink.writer, err);
}

typedef struct part_list {
    rk_merge_part *parts;
    rk_segment_index **held;
    uint32_t **maps;
    size_t n;
    uint64_t reserved_bytes;
} part_list;

static void
parts_free(part_list *list, rk_mem *mem)
{
    for (size_t i = 0; i < list->n; i++) {
        rk_segment_index_unref(list->held[i]);
        rk_free(list->maps[i]);
    }
    rk_free(list->parts);
    rk_free(list->held);
    rk_free(list->maps);
    rk_mem_release(mem, list->reserved_bytes);
}

/* Adds what |input| has of the field. */
static rk_code
add_part(part_list *list, const rk_segment *seg, size_t position, const rk_segment *input,
         rk_mem *mem, rk_err *err)
{
    int64_t field_id = seg->schema->fields[position].id;
    const rk_index *index = NULL;
    rk_segment_index *held = rk_segment_index_ref(input, field_id, &index);
    uint32_t *map = NULL;
    size_t own = 0;
    rk_code code = RK_OK;

    if (!held || !rk_index_is_part(index)) {
        rk_segment_index_unref(held);
        return RK_OK;
    }
    uint64_t bytes = (uint64_t)input->sealed->rows * sizeof(*map);
    RK_ERR(field_position(input, field_id, &own, err));
    RK_ERR(rk_mem_reserve(mem, bytes, "rows of a merged segment", err));
    list->reserved_bytes += bytes;
    map = rk_alloc(RK_MAX(bytes, (uint64_t)1));
    if (!map) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory for the rows of segment %lld",
                       (long long)input->ids.id));
    }
    RK_ERR(rk__row_map(input, own, seg, position, map, err));
    list->parts[list->n] = (rk_merge_part){index, map};
    list->maps[list->n] = map;
    list->held[list->n++] = held;
    held = NULL;
    map = NULL;
out:
    rk_free(map);
    rk_segment_index_unref(held);
    return code;
}

/* What of the inputs can be used; an input that cannot be is not missed. */
static void
gather_parts(part_list *list, const rk_segment *seg, size_t position, rk_segment *const *inputs,
             size_t inputs_len, rk_mem *mem)
{
    list->parts = rk_alloc_zero(inputs_len + 1, sizeof(*list->parts));
    list->held = rk_alloc_zero(inputs_len + 1, sizeof(rk_segment_index *));
    list->maps = rk_alloc_zero(inputs_len + 1, sizeof(uint32_t *));
    for (size_t i = 0; list->parts && list->held && list->maps && i < inputs_len; i++) {
        rk_err err = {0};
        if (add_part(list, seg, position, inputs[i], mem, &err) != RK_OK) {
            RK_LOG_D("segment", "event=part_left_aside segment=%lld error=\"%s\"",
                     (long long)inputs[i]->ids.id, err.text);
        }
    }
}

rk_code
rk_segment_build_index(const rk_segment *seg, int64_t field_id, rk_params params,
                       const char *object, const rk_segment_env *env, const _Atomic(bool) *cancel,
                       _Atomic(uint64_t) *rows_done, uint64_t *size_bytes, rk_err *err)
{
    return rk_segment_merge_index(seg, NULL, 0, field_id, params, object, env, cancel, rows_done,
                                  size_bytes, err);
}

rk_code
rk_segment_merge_index(const rk_segment *seg, rk_segment *const *inputs, size_t inputs_len,
                       int64_t field_id, rk_params params, const char *object,
                       const rk_segment_env *env, const _Atomic(bool) *cancel,
                       _Atomic(uint64_t) *rows_done, uint64_t *size_bytes, rk_err *err)
{
    rk_build_options options = {.params = params,
                                .parallel = env->parallel,
                                .mem = env->mem,
                                .cancel = cancel,
                                .rows_done = rows_done,
                                .seed = (uint64_t)seg->ids.id};
    rk_str metric = rk_params_get(params, "metric_type");
    rk_str type = rk_params_get(params, "index_type");
    rk_index *index = NULL;
    rk_vectors vectors;
    size_t position;
    rk_code code = RK_OK;

    *size_bytes = 0;
    RK_RET(field_position(seg, field_id, &position, err));
    if (!rk_metric_parse(metric, &options.metric)) {
        return rk_fail_tail(err, RK_EINVAL, "metric type %.*s not found or not supported",
                            RK_STR_ARG(metric));
    }
    RK_RET(get_vectors(seg, position, &vectors, err));
    if (inputs_len > 0 && rk_index_merges(type, vectors.type, options.metric, vectors.rows)) {
        part_list list = {.n = 0};
        gather_parts(&list, seg, position, inputs, inputs_len, env->mem);
        if (list.n > 0) {
            code = rk_index_merge(&index, type, &vectors, list.parts, list.n, &options, err);
        }
        if (code == RK_ENOMEM) { /* a build needs less */
            rk_err_clear(err);
            code = RK_OK;
            if (rows_done) {
                atomic_store(rows_done, 0);
            }
        }
        parts_free(&list, env->mem);
        RK_ERR(code);
    }
    if (!index) {
        RK_ERR(rk_index_build(&index, type, &vectors, &options, err));
    } else {
        RK_LOG_I("segment", "event=index_merged segment=%lld rows=%zu", (long long)seg->ids.id,
                 vectors.rows);
    }
    RK_ERR(save_index(index, object, env, size_bytes, err));
out:
    rk_index_free(index);
    return code;
}

/* ---- serve ---- */

void
rk_segment_index_unref(rk_segment_index *held)
{
    if (held && atomic_fetch_sub_explicit(&held->refs, 1, memory_order_acq_rel) == 1) {
        rk_index_free(held->index);
        if (held->image.data) {
            rk_object_unmap(held->objects, &held->image);
        }
        rk_pages_close(held->pages);
        rk_free(held->object);
        rk_free(held);
    }
}

uint64_t
rk_segment_index_uid(const rk_segment_index *held)
{
    return held->uid;
}

/* Whether the object holds an index that is read page by page. What cannot be read is found out,
 * and said, by what opens it. */
static bool
is_paged(rk_object_store *objects, const char *name)
{
    char head[64];

    return rk_object_read(objects, name, 0, head, sizeof(head), NULL) == RK_OK &&
           rk_index_is_paged((rk_str){head, sizeof(head)});
}

static rk_code
open_paged(rk_segment_index *held, const rk_segment *seg, size_t position, const char *name,
           const rk_segment_env *env, rk_err *err)
{
    const rk_field *field = &seg->schema->fields[position];
    rk_vectors shape = {
        .type = (rk_vector_type)field->type, .dim = field->dim, .rows = seg->sealed->rows};

    RK_RET(rk_object_open_pages(env->objects, name, &held->pages, err));
    return rk_index_open_pages(&held->index, held->pages, &shape, env->mem, err);
}

static rk_code
open_mapped(rk_segment_index *held, const rk_segment *seg, size_t position, const char *name,
            const rk_segment_env *env, rk_err *err)
{
    rk_vectors vectors;

    RK_RET(get_vectors(seg, position, &vectors, err));
    RK_RET(rk_object_map(env->objects, name, &held->image, err));
    return rk_index_open(&held->index, (rk_str){(const char *)held->image.data, held->image.len},
                         &vectors, env->mem, err);
}

rk_code
rk__sealed_index_open(rk_segment *seg, const pb_rk_IndexFile *file, const rk_segment_env *env,
                      rk_segment_index **out, rk_err *err)
{
    static _Atomic(uint64_t) opened; /* relaxed: only that each gets another number */
    rk_segment_index *held = rk_alloc_zero(1, sizeof(*held));
    char *name = rk_strdup(file->object);
    size_t position = 0;
    rk_index_info info;
    rk_code code = RK_OK;

    *out = NULL;
    if (!held || !name) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to open an index of segment %lld",
                       (long long)seg->ids.id));
    }
    atomic_init(&held->refs, 1);
    held->objects = env->objects;
    held->uid = atomic_fetch_add_explicit(&opened, 1, memory_order_relaxed) + 1;
    RK_ERR(field_position(seg, file->field_id, &position, err));
    code = is_paged(env->objects, name) ? open_paged(held, seg, position, name, env, err)
                                        : open_mapped(held, seg, position, name, env, err);
    if (code != RK_OK) {
        RK_ERR(err ? rk_err_wrap(err, "object %s", name) : code);
    }
    rk_index_get_info(held->index, &info);
    if (info.rows != seg->sealed->rows) {
        RK_ERR(rk_fail(
            err, RK_ECORRUPT,
            "object %s is an index of %zu rows, segment %lld has %zu: data integrity check failed",
            name, info.rows, (long long)seg->ids.id, seg->sealed->rows));
    }
    atomic_init(&held->verified, info.verified);
    atomic_init(&held->damaged, false);
    held->object = name;
    name = NULL;
    *out = held;
    held = NULL;
out:
    rk_free(name);
    if (held) {
        rk_segment_index_unref(held);
    }
    return code;
}

static rk_segment_index *
exchange(rk_segment *seg, size_t position, rk_segment_index *index)
{
    rk__sealed *s = seg->sealed;

    rk_mutex_lock(&s->index_lock);
    rk_segment_index *old = s->indexes[position];
    s->indexes[position] = index;
    rk_mutex_unlock(&s->index_lock);
    return old;
}

rk_code
rk_segment_set_index(rk_segment *seg, const pb_rk_IndexFile *file, const rk_segment_env *env,
                     rk_err *err)
{
    rk_segment_index *index;
    size_t position;

    rk_column column;
    rk_code code;

    RK_RET(field_position(seg, file->field_id, &position, err));
    code = rk__sealed_index_open(seg, file, env, &index, err);
    if (code == RK_ECORRUPT && rk__sealed_column_get(seg, position, &column, NULL) == RK_ECORRUPT) {
        RK_LOG_E("segment", "event=index_left_out segment=%lld object=%.*s error=\"%s\"",
                 (long long)seg->ids.id, RK_STR_ARG(file->object), err ? err->text : "");
        rk_err_clear(err);
        return RK_OK;
    }
    RK_RET(code);
    rk_segment_index_unref(exchange(seg, position, index));
    return RK_OK;
}

void
rk_segment_drop_index(rk_segment *seg, int64_t field_id)
{
    size_t position;

    if (field_position(seg, field_id, &position, NULL) == RK_OK) {
        rk_segment_index_unref(exchange(seg, position, NULL));
    }
}

rk_segment_index *
rk_segment_index_ref(const rk_segment *seg, int64_t field_id, const rk_index **out)
{
    rk__sealed *s = seg->sealed;
    rk_segment_index *held = NULL;
    size_t position;

    *out = NULL;
    if (!s || field_position(seg, field_id, &position, NULL) != RK_OK) {
        return NULL;
    }
    rk_mutex_lock(&s->index_lock);
    held = s->indexes[position];
    if (held) {
        atomic_fetch_add_explicit(
            &held->refs, 1,
            memory_order_relaxed); /* the slot's own reference keeps it alive here */
        *out = held->index;
    }
    rk_mutex_unlock(&s->index_lock);
    return held;
}

bool
rk_segment_has_index(const rk_segment *seg, int64_t field_id)
{
    const rk_index *index;
    rk_segment_index *held = rk_segment_index_ref(seg, field_id, &index);

    rk_segment_index_unref(held);
    return held != NULL;
}
