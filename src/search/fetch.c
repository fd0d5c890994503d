/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output fields of chosen rows: columns are located chunk by chunk, each asked for once, and
 * gathered into messages.
 */
#include "search/search_private.h"

/* Chunks of one segment for the field being fetched. */
typedef struct chunks {
    const rk_segment *seg;
    rk_column **columns; /* by chunk; NULL: not asked for yet */
    size_t n;
    size_t rows;
    size_t position; /* of the field */
} chunks;

static rk_code
chunks_init(chunks *c, const rk_segment *seg, const rk_field *field, rk_arena *arena, rk_err *err)
{
    rk_segment_stats stats;

    rk_segment_get_stats(seg, &stats);
    *c = (chunks){.seg = seg, .n = stats.chunks, .rows = stats.rows};
    RK_RET(rk__field_position(seg, field, &c->position, err));
    c->columns = RK_ARENA_ARRAY(arena, rk_column *, stats.chunks + 1);
    return c->columns ? RK_OK : rk__no_memory(err);
}

static rk_code
locate(const rk_column **column, uint32_t *at, chunks *c, uint32_t row, rk_arena *arena,
       rk_err *err)
{
    size_t first;
    size_t chunk = rk_segment_chunk_of(c->seg, row, &first);

    if (row >= c->rows) {
        rk_segment_stats stats;
        rk_segment_get_stats(c->seg, &stats);
        return rk_fail(err, RK_EINTERNAL, "segment %lld has %zu rows, row %u was asked for",
                       (long long)stats.ids.id, c->rows, (unsigned)row);
    }
    if (!c->columns[chunk]) {
        c->columns[chunk] = RK_ARENA_NEW(arena, rk_column);
        if (!c->columns[chunk]) {
            return rk__no_memory(err);
        }
        RK_RET(rk_segment_column(c->seg, chunk, c->position, c->rows, c->columns[chunk], err));
    }
    *column = c->columns[chunk];
    *at = (uint32_t)(row - first);
    return RK_OK;
}

/* Numbers the segments of |rows|: of[i] is the place of row i's segment in |segs|. */
static rk_code
number_segments(const rk__row_at *rows, size_t n, uint32_t *of, const rk_segment ***segs,
                size_t *segs_len, rk_arena *arena)
{
    size_t cap = 16;
    const rk_segment **list = RK_ARENA_ARRAY(arena, const rk_segment *, cap);
    size_t len = 0;

    for (size_t i = 0; list && i < n; i++) {
        size_t k = i > 0 && rows[i].seg == rows[i - 1].seg ? of[i - 1] : 0;
        while (k < len && list[k] != rows[i].seg) {
            k++;
        }
        if (k == len && len == cap) {
            const rk_segment **bigger = RK_ARENA_ARRAY(arena, const rk_segment *, cap * 2);
            if (!bigger) {
                return RK_ENOMEM;
            }
            memcpy(bigger, list, len * sizeof(*list));
            list = bigger;
            cap *= 2;
        }
        if (k == len) {
            list[len++] = rows[i].seg;
        }
        of[i] = (uint32_t)k;
    }
    *segs = list;
    *segs_len = len;
    return list ? RK_OK : RK_ENOMEM;
}

static size_t
row_size(const rk_column *c, size_t row)
{
    size_t fixed = rk_field_row_bytes(c->field);
    return fixed > 0 ? fixed : rk_column_bytes(c, row).len;
}

static rk_code
fetch_field(pb_schema_FieldData **out, const rk_field *field, const rk__row_at *rows,
            const uint32_t *of, size_t n, const rk_segment *const *segs, size_t segs_len,
            uint64_t max_bytes, uint64_t *bytes, rk_arena *arena, rk_err *err)
{
    chunks *c = RK_ARENA_ARRAY(arena, chunks, segs_len + 1);
    const rk_column **columns = RK_ARENA_ARRAY(arena, const rk_column *, n + 1);
    uint32_t *at = RK_ARENA_ARRAY(arena, uint32_t, n + 1);

    if (!c || !columns || !at) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < segs_len; i++) {
        RK_RET(chunks_init(&c[i], segs[i], field, arena, err));
    }
    for (size_t i = 0; i < n; i++) {
        RK_RET(locate(&columns[i], &at[i], &c[of[i]], rows[i].row, arena, err));
        *bytes += row_size(columns[i], at[i]);
        if (max_bytes > 0 && *bytes > max_bytes) {
            return rk_fail_tail(err, RK_ETOO_LARGE,
                                "query results exceed the maxOutputSize Limit %llu",
                                (unsigned long long)max_bytes);
        }
    }
    rk_code code = rk_field_data_gather(out, field, columns, at, n, arena);
    return code == RK_OK ? RK_OK : rk__no_memory(err);
}

rk_code
rk__fetch_fields(pb_schema_FieldData_list *out, const rk_field *const *fields, size_t fields_len,
                 const rk__row_at *rows, size_t n, uint64_t max_bytes, rk_arena *arena, rk_err *err)
{
    uint32_t *of = RK_ARENA_ARRAY(arena, uint32_t, n + 1);
    const rk_segment **segs;
    size_t segs_len;
    uint64_t bytes = 0;

    *out =
        (pb_schema_FieldData_list){RK_ARENA_ARRAY(arena, pb_schema_FieldData *, fields_len + 1), 0};
    if (!of || !out->data || number_segments(rows, n, of, &segs, &segs_len, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    for (size_t f = 0; f < fields_len; f++) {
        RK_RET(fetch_field(&out->data[f], fields[f], rows, of, n, segs, segs_len, max_bytes, &bytes,
                           arena, err));
        out->n++;
    }
    return RK_OK;
}

rk_code
rk_fetch_run(const pb_rk_FetchRequest *request, rk_schema *schema, rk_segment *const *segs,
             size_t segs_len, pb_rk_FetchResponse *out, rk_arena *arena, rk_err *err)
{
    size_t n = request->rows.n;
    rk__row_at *rows = RK_ARENA_ARRAY(arena, rk__row_at, n + 1);
    const rk_field **fields =
        RK_ARENA_ARRAY(arena, const rk_field *, request->output_field_ids.n + 1);
    int64_t *ids = RK_ARENA_ARRAY(arena, int64_t, segs_len + 1);

    if (!rows || !fields || !ids) {
        return rk__no_memory(err);
    }
    if (request->segment_ids.n != n) {
        return rk_fail(err, RK_EINTERNAL, "a fetch names %zu segments for %zu rows",
                       request->segment_ids.n, n);
    }
    for (size_t i = 0; i < segs_len; i++) {
        rk_segment_stats stats;
        rk_segment_get_stats(segs[i], &stats);
        ids[i] = stats.ids.id;
    }
    for (size_t f = 0; f < request->output_field_ids.n; f++) {
        fields[f] = rk_schema_by_id(schema, request->output_field_ids.data[f]);
        if (!fields[f]) {
            return rk_fail(err, RK_EFIELD_NOT_FOUND, "field not found[fieldID=%lld]",
                           (long long)request->output_field_ids.data[f]);
        }
    }
    for (size_t i = 0, k = 0; i < n; i++) {
        size_t tried = 0;
        while (tried < segs_len &&
               ids[k] !=
                   request->segment_ids.data[i]) { /* rows of one segment often follow each other */
            k = k + 1 < segs_len ? k + 1 : 0;
            tried++;
        }
        if (tried == segs_len) {
            return rk_fail(err, RK_ESEGMENT_NOT_LOADED, "segment not loaded[segment=%lld]",
                           (long long)request->segment_ids.data[i]);
        }
        rows[i] = (rk__row_at){segs[k], request->rows.data[i]};
    }
    return rk__fetch_fields(&out->fields, fields, request->output_field_ids.n, rows, n, 0, arena,
                            err);
}
