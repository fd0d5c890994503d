/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Insert and upsert.
 *
 * An upsert is the deletion of its keys and the insertion of its rows in one append, at one
 * timestamp: a deletion hides only smaller timestamps, so the new rows stay. In a collection with
 * generated keys the old rows go by the keys sent and the new rows get new keys, unless the
 * collection lets clients choose them.
 *
 * A partial update first reads the rows by key, strongly, and lays the columns sent over them; keys
 * without a row are inserted and then need every required column.
 */
#include <stdlib.h>

#include "access/access_private.h"
#include "base/json.h"

static bool
allows_keys(const rk__entry *entry)
{
    rk_str text = rk__kv_get(&entry->info->properties, "allow_insert_auto_id");
    bool allowed = false;

    return text.data && rk_str_to_bool(text, &allowed) && allowed;
}

static rk_code
check_schema_timestamp(rk__req *req, const rk__entry *entry, uint64_t timestamp)
{
    if (timestamp != 0 && timestamp != entry->info->updated_ts) {
        return rk_fail(req->ctx.err, RK_ESCHEMA_MISMATCH,
                       "collection schema mismatch[collection=%.*s]", RK_STR_ARG(entry->name));
    }
    return RK_OK;
}

static rk_code
put_result(rk__req *req, const pb_schema_IDs *ids, size_t rows, uint64_t timestamp,
           pb_milvus_MutationResult *out)
{
    pb_schema_IDs *copy = RK_ARENA_NEW(req->ctx.arena, pb_schema_IDs);

    out->succ_index.data = RK_ARENA_ARRAY(req->ctx.arena, uint32_t, rows + 1);
    if (!out->succ_index.data || !copy) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < rows; i++) {
        out->succ_index.data[i] = (uint32_t)i;
    }
    *copy = *ids;
    out->succ_index.n = rows;
    out->IDs = copy;
    out->acknowledged = true;
    out->insert_cnt = (int64_t)rows;
    out->timestamp = timestamp;
    return RK_OK;
}

static rk_code
insert_once(rk__req *req, const rk__entry *entry, const pb_milvus_InsertRequest *in,
            pb_milvus_MutationResult *out)
{
    rk__columns rows = {0};
    int64_t partition = 0;
    uint64_t timestamp = 0;

    RK_RET(rk__write_partition(req, entry, in->partition_name, &partition));
    RK_RET(check_schema_timestamp(req, entry, in->schema_timestamp));
    RK_RET(rk__columns_make(&rows, req, entry, &in->fields_data, in->num_rows, allows_keys(entry)));
    RK_RET(rk__append(req, entry, &rows, NULL, partition, &timestamp));
    rk__meter_rows(entry, RK__ROWS_INSERTED, rows.rows);
    return put_result(req, rows.ids, rows.rows, timestamp, out);
}

rk_code
rk__api_insert(rk__req *req, const pb_milvus_InsertRequest *in, pb_milvus_MutationResult *out)
{
    if (in->has_namespace && in->namespace.len > 0) {
        return rk__fail_unbuilt(req->ctx.err, "namespaces are");
    }
    for (int attempt = 0;; attempt++) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        rk_code code = insert_once(req, entry, in, out);
        if (attempt > 0 || !rk__collection_stale(req, entry, code)) {
            return code;
        }
    }
}

/* ---- upsert ---- */

static int
compare_pks(const void *a, const void *b)
{
    return rk_pk_cmp(*(const rk_pk *)a, *(const rk_pk *)b);
}

static rk_code
check_unique(const pb_schema_IDs *ids, rk_arena *arena, rk_err *err)
{
    size_t n = rk_ids_len(ids);
    rk_pk *keys = RK_ARENA_ARRAY(arena, rk_pk, n + 1);

    if (!keys) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        keys[i] = rk_ids_at(ids, i);
    }
    qsort(keys, n, sizeof(*keys), compare_pks);
    for (size_t i = 1; i < n; i++) {
        if (rk_pk_cmp(keys[i - 1], keys[i]) == 0) {
            return rk_fail_tail(err, RK_EINVAL,
                                "duplicate primary keys are not allowed in the same batch");
        }
    }
    return RK_OK;
}

/* The key column of the request, checked, and the keys in it. */
static rk_code
take_keys(rk__req *req, const rk__entry *entry, const pb_milvus_UpsertRequest *in, size_t *at,
          pb_schema_IDs **ids)
{
    const rk_field *primary = rk_schema_primary(entry->schema);

    *at = SIZE_MAX;
    for (size_t i = 0; i < in->fields_data.n; i++) {
        if (rk_str_eq(in->fields_data.data[i]->field_name, primary->name)) {
            *at = i;
        }
    }
    if (*at == SIZE_MAX) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "must assign pk when upsert, primary field: %.*s",
                            RK_STR_ARG(primary->name));
    }
    if (in->num_rows == 0) {
        return rk__fail_expected(req->ctx.err, "invalid num_rows", "0",
                                 "num_rows should be greater than 0");
    }
    RK_RET(rk_field_data_check(in->fields_data.data[*at], primary, in->num_rows, req->ctx.err));
    RK_RET(rk__ids_of(in->fields_data.data[*at], primary, ids, req->ctx.arena, req->ctx.err));
    return check_unique(*ids, req->ctx.arena, req->ctx.err);
}

/* ---- partial update ---- */

typedef struct stored_row {
    rk_pk key;
    uint32_t row;
} stored_row;

static int
compare_rows(const void *a, const void *b)
{
    return rk_pk_cmp(((const stored_row *)a)->key, ((const stored_row *)b)->key);
}

/* Stored rows of the keys: |rows[i]| is the row of key i in |reply|, UINT32_MAX when there is none.
 */
static rk_code
read_stored(rk__req *req, const rk__entry *entry, pb_schema_IDs *ids, pb_rk_QueryResponse **reply,
            uint32_t *rows)
{
    rk_arena *arena = req->ctx.arena;
    size_t n = rk_ids_len(ids);
    pb_rk_ReadScope scope = {0};
    pb_rk_QueryRequest request = {.scope = &scope, .keys = ids};
    int64_t *fields = RK_ARENA_ARRAY(arena, int64_t, entry->schema->fields_len);
    rk_code code;

    if (!fields) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < entry->schema->fields_len; i++) {
        fields[i] = entry->schema->fields[i].id;
    }
    request.output_field_ids = (pb_i64s){fields, entry->schema->fields_len};
    request.output_bytes_max = UINT64_C(1) << 30;
    RK_RET(rk__read_scope(req, entry,
                          &(rk__consistency){.level = PB_COMMON_ConsistencyLevel_Strong}, &scope));
    code = pb_rk_StreamingNode_Query(req->access->streaming, &request, reply, &req->ctx);
    if (code != RK_OK) {
        return rk__read_refused(req, entry, code, "failed to query");
    }
    size_t found = (*reply)->keys ? rk_ids_len((*reply)->keys) : 0;
    stored_row *sorted = RK_ARENA_ARRAY(arena, stored_row, found + 1);
    if (!sorted) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < found; i++) {
        sorted[i] = (stored_row){rk_ids_at((*reply)->keys, i), (uint32_t)i};
    }
    qsort(sorted, found, sizeof(*sorted), compare_rows);
    for (size_t i = 0; i < n; i++) {
        stored_row want = {rk_ids_at(ids, i), 0};
        const stored_row *hit =
            (const stored_row *)bsearch(&want, sorted, found, sizeof(want), compare_rows);
        rows[i] = hit ? hit->row : UINT32_MAX;
    }
    return RK_OK;
}

static pb_schema_FieldData *
column_of(const pb_schema_FieldData_list *list, const rk_field *field, bool by_name)
{
    for (size_t i = 0; i < list->n; i++) {
        if (by_name ? (rk_str_eq(list->data[i]->field_name, field->name) ||
                       (field->dynamic && list->data[i]->is_dynamic))
                    : list->data[i]->field_id == field->id) {
            return list->data[i];
        }
    }
    return NULL;
}

/* The members of |fresh| over those of |old|. */
static rk_code
merge_object(rk_str old, rk_str fresh, rk_str *out, rk_arena *arena, rk_err *err)
{
    rk_buf buf = {0};
    rk_json_writer w = {.out = &buf};
    rk_json_iter iter;
    rk_json_value key, value, other;
    rk_code code = RK_OK;

    rk_json_object(&w);
    rk_json_iter_init(&iter, rk_json_root(old));
    while (rk_json_iter_next(&iter, &key, &value)) {
        rk_str name;
        RK_ERR(rk_json_get_str(key, &name, arena));
        if (!rk_json_find_key(rk_json_root(fresh), name, &other)) {
            rk_json_key(&w, name);
            rk_json_raw(&w, value.raw);
        }
    }
    rk_json_iter_init(&iter, rk_json_root(fresh));
    while (rk_json_iter_next(&iter, &key, &value)) {
        rk_str name;
        RK_ERR(rk_json_get_str(key, &name, arena));
        rk_json_key(&w, name);
        rk_json_raw(&w, value.raw);
    }
    rk_json_object_end(&w);
    *out = buf.failed ? (rk_str){NULL, 0} : rk_arena_str(arena, rk_buf_view(&buf));
    code = out->data ? RK_OK : rk__fail_memory(err);
out:
    rk_buf_deinit(&buf);
    return code;
}

static rk_code
merge_dynamic(rk__req *req, const pb_schema_FieldData *stored, const uint32_t *rows, size_t n,
              pb_schema_FieldData *column)
{
    if (!stored || stored->field_case != PB_SCHEMA_FieldData_scalars ||
        stored->scalars->data_case != PB_SCHEMA_ScalarField_json_data) {
        return RK_OK;
    }
    const pb_strs *old = &stored->scalars->json_data->data;
    pb_schema_ScalarField *scalars = RK_ARENA_NEW(req->ctx.arena, pb_schema_ScalarField);
    pb_schema_JSONArray *json = RK_ARENA_NEW(req->ctx.arena, pb_schema_JSONArray);
    rk_str *values = RK_ARENA_ARRAY(req->ctx.arena, rk_str, n + 1);
    if (!scalars || !json || !values) {
        return rk__fail_memory(req->ctx.err);
    }
    const pb_strs *fresh = &column->scalars->json_data->data;
    for (size_t i = 0; i < n; i++) {
        values[i] = i < fresh->n ? fresh->data[i] : RK_STR("{}");
        if (rows[i] != UINT32_MAX && rows[i] < old->n) {
            RK_RET(merge_object(old->data[rows[i]], values[i], &values[i], req->ctx.arena,
                                req->ctx.err));
        }
    }
    json->data = (pb_strs){values, n};
    scalars->data_case = PB_SCHEMA_ScalarField_json_data;
    scalars->json_data = json;
    column->scalars = scalars;
    return RK_OK;
}

/* The column of |field|, absent from the request: stored values, and default or null for keys
 * without a row. */
static rk_code
stored_column(rk__req *req, const rk_field *field, const pb_schema_FieldData_list *stored,
              const uint32_t *rows, size_t n, pb_schema_FieldData **out)
{
    rk_arena *arena = req->ctx.arena;
    pb_schema_FieldData *parts[2] = {column_of(stored, field, false), NULL};
    rk_part_row *picks = RK_ARENA_ARRAY(arena, rk_part_row, n);
    bool missing = false;

    *out = NULL;
    if (!picks) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < n; i++) {
        missing |= rows[i] == UINT32_MAX;
        picks[i] = rows[i] == UINT32_MAX ? (rk_part_row){1, 0} : (rk_part_row){0, rows[i]};
    }
    if (missing && !field->nullable && !field->default_value && !field->dynamic) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "fieldSchema(%.*s) has no corresponding fieldData pass in",
                            RK_STR_ARG(field->name));
    }
    if (missing && (field->nullable || field->default_value)) {
        RK_RET(rk_field_data_fill(&parts[1], field, 1, arena));
    }
    if (!parts[0] || (missing && !parts[1])) {
        return RK_OK; /* no row is stored, or a required $meta: completed like an insert */
    }
    RK_RET(rk_field_data_merge(out, field, parts, picks, n, arena));
    (*out)->field_name = field->name;
    (*out)->is_dynamic = field->dynamic;
    return RK_OK;
}

/* The whole rows that a partial update stands for. */
static rk_code
overlay(rk__req *req, const rk__entry *entry, const pb_milvus_UpsertRequest *in, pb_schema_IDs *ids,
        pb_schema_FieldData_list *whole)
{
    rk_arena *arena = req->ctx.arena;
    size_t n = in->num_rows;
    uint32_t *rows = RK_ARENA_ARRAY(arena, uint32_t, n + 1);
    pb_rk_QueryResponse *stored = NULL;

    for (size_t i = 0; i < in->field_ops.n; i++) {
        if (in->field_ops.data[i]->op != PB_SCHEMA_FieldPartialUpdateOp_OpType_REPLACE) {
            return rk__fail_unbuilt(req->ctx.err,
                                    "array operations of a partial update (field_ops) are");
        }
    }
    whole->n = 0;
    whole->data =
        RK_ARENA_ARRAY(arena, pb_schema_FieldData *, in->fields_data.n + entry->schema->fields_len);
    if (!rows || !whole->data) {
        return rk__fail_memory(req->ctx.err);
    }
    RK_RET(read_stored(req, entry, ids, &stored, rows));
    for (size_t i = 0; i < in->fields_data.n; i++) {
        whole->data[whole->n++] = in->fields_data.data[i];
    }
    for (size_t i = 0; i < entry->schema->fields_len; i++) {
        const rk_field *field = &entry->schema->fields[i];
        pb_schema_FieldData *sent = column_of(&in->fields_data, field, true);
        pb_schema_FieldData *column = NULL;
        if (!sent) {
            RK_RET(stored_column(req, field, &stored->fields, rows, n, &column));
            if (column) {
                whole->data[whole->n++] = column;
            }
        } else if (field->dynamic) {
            RK_RET(rk_field_data_check(sent, field, n, req->ctx.err));
            RK_RET(merge_dynamic(req, column_of(&stored->fields, field, false), rows, n, sent));
        }
    }
    return RK_OK;
}

static rk_code
upsert_once(rk__req *req, const rk__entry *entry, const pb_milvus_UpsertRequest *in,
            pb_milvus_MutationResult *out)
{
    const rk_field *primary = rk_schema_primary(entry->schema);
    bool fresh_keys = primary->auto_id && !allows_keys(entry);
    pb_schema_FieldData_list columns = in->fields_data;
    pb_schema_IDs *old = NULL;
    rk__columns rows = {0};
    int64_t partition = 0;
    uint64_t timestamp = 0;
    size_t key_at = 0;

    RK_RET(rk__write_partition(req, entry, in->partition_name, &partition));
    RK_RET(check_schema_timestamp(req, entry, in->schema_timestamp));
    RK_RET(take_keys(req, entry, in, &key_at, &old));
    if (in->partial_update || in->field_ops.n > 0) {
        RK_RET(overlay(req, entry, in, old, &columns));
    }
    if (fresh_keys) { /* without the key column: keys are generated */
        pb_schema_FieldData **rest =
            RK_ARENA_ARRAY(req->ctx.arena, pb_schema_FieldData *, columns.n);
        size_t n = 0;
        if (!rest) {
            return rk__fail_memory(req->ctx.err);
        }
        for (size_t i = 0; i < columns.n; i++) {
            if (i != key_at) {
                rest[n++] = columns.data[i];
            }
        }
        columns = (pb_schema_FieldData_list){rest, n};
    }
    RK_RET(rk__columns_make(&rows, req, entry, &columns, in->num_rows, !fresh_keys));
    RK_RET(rk__append(req, entry, &rows, old, partition, &timestamp));
    rk__meter_rows(entry, RK__ROWS_UPSERTED, rows.rows);
    RK_RET(put_result(req, rows.ids, rows.rows, timestamp, out));
    out->upsert_cnt = (int64_t)rows.rows;
    out->delete_cnt = (int64_t)rows.rows;
    return RK_OK;
}

rk_code
rk__api_upsert(rk__req *req, const pb_milvus_UpsertRequest *in, pb_milvus_MutationResult *out)
{
    if (in->has_namespace && in->namespace.len > 0) {
        return rk__fail_unbuilt(req->ctx.err, "namespaces are");
    }
    for (int attempt = 0;; attempt++) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        rk_code code = upsert_once(req, entry, in, out);
        if (attempt > 0 || !rk__collection_stale(req, entry, code)) {
            return code;
        }
    }
}
