/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a sealed segment from the live rows of others: flush of one growing segment, compaction of
 * several sealed ones.
 *
 * First the rows: those not deleted up to fold_ts, sorted by key, equal keys by timestamp. Then one
 * object per field, streamed row by row in that order through a page buffer, so that memory is 16
 * bytes a row whatever the size of the columns. The objects appear one by one; on error or cancel
 * those written so far are removed, and the catalogue never hears of them.
 */
#include "base/util.h"
#include "segment/segment_private.h"

#define POLL_ROWS 4096u

/* A live row. |key| orders numbers; for text it is the first eight bytes, big end first. */
typedef struct source_row {
    uint64_t key;
    uint32_t input;
    uint32_t row;
} source_row;

typedef struct write_job {
    rk_segment *const *inputs;
    size_t inputs_len;
    rk_schema *schema;
    const rk_segment_ids *ids;
    const rk_segment_env *env;
    const _Atomic(bool) *cancel;
    source_row *rows;
    size_t rows_len;
    uint64_t reserved_bytes;
    rk_column **chunks; /* per input: the chunks of the field being written */
} write_job;

static rk_code
check_cancel(const write_job *job, rk_err *err)
{
    if (job->cancel && atomic_load_explicit(job->cancel, memory_order_relaxed)) {
        return rk_fail(err, RK_ECANCELLED, "writing segment %lld was cancelled",
                       (long long)job->ids->id);
    }
    return RK_OK;
}

/* ---- rows ---- */

static bool
row_before(const write_job *job, const source_row *a, const source_row *b)
{
    if (a->key != b->key) {
        return a->key < b->key;
    }
    const rk_segment *sa = job->inputs[a->input];
    const rk_segment *sb = job->inputs[b->input];
    int order = rk_schema_primary(job->schema)->type == RK_VARCHAR
                    ? rk_pk_cmp(rk_segment_pk(sa, a->row), rk_segment_pk(sb, b->row))
                    : 0;
    if (order != 0) {
        return order < 0;
    }
    return rk_segment_row_ts(sa, a->row) < rk_segment_row_ts(sb, b->row);
}

/* Merge sort of runs that are in order already: stable, and linear for one sealed input. */
static void
sort_rows(const write_job *job, source_row *rows, source_row *spare, size_t n)
{
    for (bool merged = true; merged;) {
        size_t out = 0;
        merged = false;
        for (size_t a = 0; a < n;) {
            size_t b = a + 1;
            while (b < n && !row_before(job, &rows[b], &rows[b - 1])) {
                b++;
            }
            size_t end = b;
            while (end < n && (end == b || !row_before(job, &rows[end], &rows[end - 1]))) {
                end++;
            }
            size_t i = a, k = b;
            while (i < b || k < end) {
                bool right = i == b || (k < end && row_before(job, &rows[k], &rows[i]));
                spare[out++] = right ? rows[k++] : rows[i++];
            }
            merged = merged || (end > b && (a > 0 || end < n));
            a = end;
        }
        memcpy(rows, spare, n * sizeof(*rows));
    }
}

static rk_code
collect_input(write_job *job, size_t input, const rk_bitset *live, rk_err *err)
{
    const rk_segment *seg = job->inputs[input];

    for (size_t row = rk_bitset_next(live, 0); row < live->nbits;
         row = rk_bitset_next(live, row + 1)) {
        job->rows[job->rows_len++] =
            (source_row){rk_pk_order_key(rk_segment_pk(seg, row)), (uint32_t)input, (uint32_t)row};
        if (job->rows_len % POLL_ROWS == 0) {
            RK_RET(check_cancel(job, err));
        }
    }
    return RK_OK;
}

static rk_code
collect_rows(write_job *job, uint64_t fold_ts, rk_err *err)
{
    rk_bitset *live = rk_alloc_zero(job->inputs_len, sizeof(*live));
    source_row *spare = NULL;
    size_t total = 0;
    uint64_t bytes;
    rk_code code = RK_OK;

    if (!live) {
        return rk_fail(err, RK_ENOMEM, "no memory to write segment %lld", (long long)job->ids->id);
    }
    for (size_t i = 0; i < job->inputs_len; i++) {
        RK_ERR(rk__segment_live(job->inputs[i], fold_ts, &live[i], err));
        total += rk_bitset_count(&live[i]);
    }
    if (total > RK__ROWS_MAX) {
        RK_ERR(rk_fail(err, RK_ETOO_LARGE,
                       "segment %lld would have %zu rows, at most 4294967294 fit",
                       (long long)job->ids->id, total));
    }
    bytes = (uint64_t)total * 2 * sizeof(source_row);
    RK_ERR(rk_mem_reserve(job->env->mem, bytes, "order of rows of a new segment", err));
    job->reserved_bytes = bytes;
    job->rows = rk_alloc((total + 1) * sizeof(*job->rows));
    spare = rk_alloc((total + 1) * sizeof(*spare));
    if (!job->rows || !spare) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to sort %zu rows of segment %lld", total,
                       (long long)job->ids->id));
    }
    for (size_t i = 0; i < job->inputs_len; i++) {
        RK_ERR(collect_input(job, i, &live[i], err));
    }
    sort_rows(job, job->rows, spare, job->rows_len);
out:
    for (size_t i = 0; i < job->inputs_len; i++) {
        rk_bitset_deinit(&live[i]);
    }
    rk_free(live);
    rk_free(spare);
    return code;
}

/* ---- columns ---- */

static rk_code
load_chunks(write_job *job, const rk_field *field, rk_err *err)
{
    for (size_t i = 0; i < job->inputs_len; i++) {
        const rk_segment *seg = job->inputs[i];
        const rk_field *own = rk_schema_by_id(seg->schema, field->id);
        rk_segment_stats stats;

        rk_segment_get_stats(seg, &stats);
        if (!own || own->type != field->type) {
            return rk_fail(err, RK_EINTERNAL, "segment %lld has no field %.*s to write",
                           (long long)seg->ids.id, RK_STR_ARG(field->name));
        }
        rk_free(job->chunks[i]);
        job->chunks[i] = rk_alloc_zero(stats.chunks + 1, sizeof(rk_column));
        if (!job->chunks[i]) {
            return rk_fail(err, RK_ENOMEM, "no memory to write segment %lld",
                           (long long)job->ids->id);
        }
        for (size_t c = 0; c < stats.chunks; c++) {
            RK_RET(rk_segment_column(seg, c, (size_t)(own - seg->schema->fields), stats.rows,
                                     &job->chunks[i][c], err));
        }
    }
    return RK_OK;
}

static const rk_column *
locate(const write_job *job, const source_row *from, size_t *row)
{
    size_t first;
    size_t chunk = rk_segment_chunk_of(job->inputs[from->input], from->row, &first);

    *row = from->row - first;
    return &job->chunks[from->input][chunk];
}

static rk_code
write_data(write_job *job, const rk_field *field, rk__file_writer *w, bool *nulls, rk_err *err)
{
    size_t width = rk_field_row_bytes(field);

    RK_RET(rk__file_section(w, RK__DATA, err));
    for (size_t i = 0; i < job->rows_len; i++) {
        size_t row;
        const rk_column *c = locate(job, &job->rows[i], &row);
        if (i % POLL_ROWS == 0) {
            RK_RET(check_cancel(job, err));
        }
        *nulls = *nulls || rk_column_is_null(c, row);
        if (width > 0) {
            RK_RET(rk__file_put(w, (const uint8_t *)c->data + row * width, width, err));
        } else {
            rk_str value = rk_column_bytes(c, row);
            RK_RET(rk__file_put(w, value.data, value.len, err));
        }
    }
    return RK_OK;
}

static rk_code
write_offsets(write_job *job, rk__file_writer *w, rk_err *err)
{
    uint8_t bytes[8] = {0};
    uint64_t at = 0;

    RK_RET(rk__file_section(w, RK__OFFSETS, err));
    RK_RET(rk__file_put(w, bytes, sizeof(bytes), err));
    for (size_t i = 0; i < job->rows_len; i++) {
        size_t row;
        const rk_column *c = locate(job, &job->rows[i], &row);
        at += rk_column_bytes(c, row).len;
        rk_put_u64le(bytes, at);
        RK_RET(rk__file_put(w, bytes, sizeof(bytes), err));
    }
    return RK_OK;
}

static rk_code
write_validity(write_job *job, rk__file_writer *w, rk_err *err)
{
    uint64_t word = 0;
    uint8_t bytes[8];

    RK_RET(rk__file_section(w, RK__VALID, err));
    for (size_t i = 0; i < job->rows_len; i++) {
        size_t row;
        const rk_column *c = locate(job, &job->rows[i], &row);
        word |= (uint64_t)!rk_column_is_null(c, row) << (i & 63);
        if ((i & 63) == 63 || i + 1 == job->rows_len) {
            rk_put_u64le(bytes, word);
            RK_RET(rk__file_put(w, bytes, sizeof(bytes), err));
            word = 0;
        }
    }
    return RK_OK;
}

static rk_code
write_field(write_job *job, const rk_field *field, const char *name, uint64_t *size_bytes,
            rk_err *err)
{
    rk__file_head head = {.kind = RK__FILE_COLUMN,
                          .type = field->type,
                          .element = field->element,
                          .dim = field->dim,
                          .rows = job->rows_len,
                          .field_id = field->id,
                          .owner_id = job->ids->id};
    rk__file_writer w = {.section = -1};
    bool nulls = false;
    rk_code code = RK_OK;

    RK_RET(load_chunks(job, field, err));
    RK_ERR(rk__file_begin(&w, &head, name, job->env->objects, err));
    RK_ERR(write_data(job, field, &w, &nulls, err));
    if (rk_field_row_bytes(field) == 0) {
        RK_ERR(write_offsets(job, &w, err));
    }
    if (nulls) {
        RK_ERR(write_validity(job, &w, err));
    }
    RK_ERR(rk__file_end(&w, size_bytes, err));
out:
    rk__file_abort(&w);
    return code;
}

static rk_code
write_times(write_job *job, const char *name, uint64_t *size_bytes, pb_rk_SegmentInfo *info,
            rk_err *err)
{
    rk__file_head head = {.kind = RK__FILE_COLUMN,
                          .type = RK_INT64,
                          .rows = job->rows_len,
                          .field_id = RK_FIELD_TIMESTAMP,
                          .owner_id = job->ids->id};
    rk__file_writer w = {.section = -1};
    uint8_t bytes[8];
    rk_code code = RK_OK;

    info->min_ts = UINT64_MAX;
    info->max_ts = 0;
    RK_ERR(rk__file_begin(&w, &head, name, job->env->objects, err));
    RK_ERR(rk__file_section(&w, RK__DATA, err));
    for (size_t i = 0; i < job->rows_len; i++) {
        uint64_t ts = rk_segment_row_ts(job->inputs[job->rows[i].input], job->rows[i].row);
        info->min_ts = RK_MIN(info->min_ts, ts);
        info->max_ts = RK_MAX(info->max_ts, ts);
        rk_put_u64le(bytes, ts);
        RK_ERR(rk__file_put(&w, bytes, sizeof(bytes), err));
    }
    RK_ERR(rk__file_end(&w, size_bytes, err));
out:
    rk__file_abort(&w);
    return code;
}

/* ---- the segment ---- */

/* |field| NULL: the timestamps. Once its object is there it is entered in |info|, so that it is
 * removed when a later one fails. */
static rk_code
write_object(write_job *job, const rk_field *field, pb_rk_SegmentInfo *info, rk_arena *arena,
             rk_err *err)
{
    pb_rk_FieldFile *file = RK_ARENA_NEW(arena, pb_rk_FieldFile);
    int64_t id = field ? field->id : RK_FIELD_TIMESTAMP;
    rk_str name = rk_arena_printf(arena, "c%lld/s%lld/f%lld", (long long)job->ids->collection_id,
                                  (long long)job->ids->id, (long long)id);

    if (!file || !name.data) {
        return rk_fail(err, RK_ENOMEM, "no memory to write segment %lld", (long long)job->ids->id);
    }
    RK_RET(check_cancel(job, err));
    rk_code fault = RK_FAULT("segment.write.before_column");
    if (fault != RK_OK) {
        return rk_fail(err, fault, "fault before writing object %s", name.data);
    }
    RK_RET(field ? write_field(job, field, name.data, &file->size_bytes, err)
                 : write_times(job, name.data, &file->size_bytes, info, err));
    file->field_id = id;
    file->object = name;
    info->columns.data[info->columns.n++] = file;
    info->size_bytes += file->size_bytes;
    fault = RK_FAULT("segment.write.after_column");
    return fault == RK_OK ? RK_OK : rk_fail(err, fault, "fault after writing object %s", name.data);
}

static rk_code
write_objects(write_job *job, pb_rk_SegmentInfo *info, rk_arena *arena, rk_err *err)
{
    rk_code code = RK_OK;

    info->columns.data = RK_ARENA_ARRAY(arena, pb_rk_FieldFile *, job->schema->fields_len + 1);
    job->chunks = rk_alloc_zero(job->inputs_len, sizeof(rk_column *));
    if (!info->columns.data || !job->chunks) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory to write segment %lld", (long long)job->ids->id));
    }
    RK_ERR(write_object(job, NULL, info, arena, err));
    for (size_t f = 0; f < job->schema->fields_len; f++) {
        RK_ERR(write_object(job, &job->schema->fields[f], info, arena, err));
    }
    RK_ERR(check_cancel(job, err));
out:
    for (size_t i = 0; job->chunks && i < job->inputs_len; i++) {
        rk_free(job->chunks[i]);
    }
    rk_free(job->chunks);
    for (size_t i = 0; code != RK_OK && i < info->columns.n; i++) {
        rk_code left =
            rk_object_delete(job->env->objects, info->columns.data[i]->object.data, NULL);
        RK_UNUSED(left); /* the first error is told; garbage collection finds what stays */
    }
    return code;
}

rk_code
rk_segment_write(pb_rk_SegmentInfo *info, const rk_segment_ids *out_ids, rk_segment *const *inputs,
                 size_t inputs_len, uint64_t fold_ts, const rk_segment_env *env,
                 const _Atomic(bool) *cancel, rk_arena *arena, rk_err *err)
{
    write_job job = {
        .inputs = inputs, .inputs_len = inputs_len, .ids = out_ids, .env = env, .cancel = cancel};
    rk_code code = RK_OK;

    *info = (pb_rk_SegmentInfo){.id = out_ids->id,
                                .collection_id = out_ids->collection_id,
                                .partition_id = out_ids->partition_id,
                                .state = PB_RK_SegmentState_SEGMENT_FLUSHED,
                                .fold_ts = fold_ts};
    if (inputs_len == 0) {
        return RK_OK;
    }
    job.schema = inputs[0]->schema;
    for (size_t i = 1; i < inputs_len; i++) {
        if (inputs[i]->schema->version > job.schema->version) {
            job.schema = inputs[i]->schema;
        }
    }
    info->schema_version = job.schema->version;
    RK_ERR(collect_rows(&job, fold_ts, err));
    info->rows = (int64_t)job.rows_len;
    if (job.rows_len > 0) {
        RK_ERR(write_objects(&job, info, arena, err));
    }
out:
    rk_free(job.rows);
    rk_mem_release(env->mem, job.reserved_bytes);
    if (code != RK_OK) {
        *info = (pb_rk_SegmentInfo){.id = out_ids->id};
    }
    return code;
}
