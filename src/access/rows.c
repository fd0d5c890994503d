/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows on their way in: columns checked and completed, split by shard, sent as one append.
 *
 * Nothing is sent before every column of every row has passed. With one shard, the usual case,
 * columns go on as they came, without a copy: the message struct is copied to carry the field's id,
 * the values stay where the request put them.
 *
 * Completed here: generated keys, `{}` for a dynamic field that was left out, defaults and nulls
 * for columns left out, and defaults in place of nulls in columns that were sent.
 */
#include "access/access_private.h"
#include "base/json.h"

/* ---- primary keys ---- */

static pb_schema_IDs *
int_ids(int64_t *values, size_t n, rk_arena *arena)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(arena, pb_schema_IDs);
    pb_schema_LongArray *array = RK_ARENA_NEW(arena, pb_schema_LongArray);

    if (!ids || !array) {
        return NULL;
    }
    array->data = (pb_i64s){values, n};
    ids->id_field_case = PB_SCHEMA_IDs_int_id;
    ids->int_id = array;
    return ids;
}

static pb_schema_IDs *
text_ids(rk_str *values, size_t n, rk_arena *arena)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(arena, pb_schema_IDs);
    pb_schema_StringArray *array = RK_ARENA_NEW(arena, pb_schema_StringArray);

    if (!ids || !array) {
        return NULL;
    }
    array->data = (pb_strs){values, n};
    ids->id_field_case = PB_SCHEMA_IDs_str_id;
    ids->str_id = array;
    return ids;
}

rk_code
rk__ids_of(const pb_schema_FieldData *data, const rk_field *primary, pb_schema_IDs **out,
           rk_arena *arena, rk_err *err)
{
    const pb_schema_ScalarField *s =
        data->field_case == PB_SCHEMA_FieldData_scalars ? data->scalars : NULL;

    *out = NULL;
    if (s && primary->type == RK_INT64 && s->data_case == PB_SCHEMA_ScalarField_long_data &&
        s->long_data) {
        *out = int_ids(s->long_data->data.data, s->long_data->data.n, arena);
    } else if (s && primary->type == RK_VARCHAR &&
               s->data_case == PB_SCHEMA_ScalarField_string_data && s->string_data) {
        *out = text_ids(s->string_data->data.data, s->string_data->data.n, arena);
    } else {
        return rk_fail_tail(err, RK_EINVAL,
                            "the primary key column %.*s has values of another type",
                            RK_STR_ARG(primary->name));
    }
    return *out ? RK_OK : rk__fail_memory(err);
}

pb_schema_IDs *
rk__ids_pick(const pb_schema_IDs *ids, const uint32_t *picks, size_t n, rk_arena *arena)
{
    if (ids->id_field_case == PB_SCHEMA_IDs_int_id) {
        int64_t *values = RK_ARENA_ARRAY(arena, int64_t, n + 1);
        for (size_t i = 0; values && i < n; i++) {
            values[i] = ids->int_id->data.data[picks[i]];
        }
        return values ? int_ids(values, n, arena) : NULL;
    }
    rk_str *texts = RK_ARENA_ARRAY(arena, rk_str, n + 1);
    for (size_t i = 0; texts && i < n; i++) {
        texts[i] = ids->str_id->data.data[picks[i]];
    }
    return texts ? text_ids(texts, n, arena) : NULL;
}

rk_code
rk__generate_keys(rk__req *req, const rk_field *primary, size_t rows, pb_schema_FieldData **out)
{
    rk_arena *arena = req->ctx.arena;
    pb_rk_AllocRequest request = {.count = (uint32_t)rows};
    pb_rk_AllocResponse *range = NULL;
    pb_schema_FieldData *data = RK_ARENA_NEW(arena, pb_schema_FieldData);
    pb_schema_ScalarField *scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    int64_t *numbers = RK_ARENA_ARRAY(arena, int64_t, rows + 1);
    pb_schema_IDs *ids;

    *out = NULL;
    RK_RET(pb_rk_Coordinator_AllocId(req->access->coordinator, &request, &range, &req->ctx));
    if (!data || !scalars || !numbers) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < rows; i++) {
        numbers[i] = (int64_t)(range->first + i);
    }
    if (primary->type == RK_INT64) {
        ids = int_ids(numbers, rows, arena);
    } else {
        rk_str *texts = RK_ARENA_ARRAY(arena, rk_str, rows + 1);
        for (size_t i = 0; texts && i < rows; i++) {
            texts[i] = rk_arena_printf(arena, "%" PRId64, numbers[i]);
            if (!texts[i].data) {
                texts = NULL;
            }
        }
        ids = texts ? text_ids(texts, rows, arena) : NULL;
    }
    if (!ids) {
        return rk__fail_memory(req->ctx.err);
    }
    if (primary->type == RK_INT64) {
        scalars->data_case = PB_SCHEMA_ScalarField_long_data;
        scalars->long_data = ids->int_id;
    } else {
        scalars->data_case = PB_SCHEMA_ScalarField_string_data;
        scalars->string_data = ids->str_id;
    }
    data->field_case = PB_SCHEMA_FieldData_scalars;
    data->scalars = scalars;
    *out = data;
    return RK_OK;
}

/* ---- columns ---- */

/* A JSON column of empty objects. */
static rk_code
empty_objects(size_t rows, pb_schema_FieldData **out, rk_arena *arena)
{
    pb_schema_FieldData *data = RK_ARENA_NEW(arena, pb_schema_FieldData);
    pb_schema_ScalarField *scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    pb_schema_JSONArray *json = RK_ARENA_NEW(arena, pb_schema_JSONArray);
    rk_str *values = RK_ARENA_ARRAY(arena, rk_str, rows + 1);

    if (!data || !scalars || !json || !values) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < rows; i++) {
        values[i] = RK_STR("{}");
    }
    json->data = (pb_strs){values, rows};
    scalars->data_case = PB_SCHEMA_ScalarField_json_data;
    scalars->json_data = json;
    data->field_case = PB_SCHEMA_FieldData_scalars;
    data->scalars = scalars;
    *out = data;
    return RK_OK;
}

/* Objects of the dynamic field may name neither a field of the schema nor the dynamic field itself.
 */
static rk_code
check_dynamic_keys(const pb_schema_FieldData *data, const rk_schema *schema, rk_arena *arena,
                   rk_err *err)
{
    const pb_strs *rows = &data->scalars->json_data->data;

    for (size_t i = 0; i < rows->n; i++) {
        rk_json_iter iter;
        rk_json_value key, value;
        rk_json_iter_init(&iter, rk_json_root(rows->data[i]));
        while (rk_json_iter_next(&iter, &key, &value)) {
            rk_str name;
            RK_RET(rk_json_get_str(key, &name, arena));
            if (rk_str_is(name, RK_DYNAMIC_NAME)) {
                return rk_fail_tail(err, RK_EINVAL, "cannot set json key to: %s", RK_DYNAMIC_NAME);
            }
            if (rk_schema_find(schema, name)) {
                return rk_fail_tail(err, RK_EINVAL,
                                    "dynamic field name cannot include the static field name: %.*s",
                                    RK_STR_ARG(name));
            }
        }
    }
    return RK_OK;
}

/* Nulls of a column whose field has a default become the default. */
static rk_code
fill_nulls(pb_schema_FieldData **data, const rk_field *field, size_t rows, rk_arena *arena,
           rk_err *err)
{
    pb_schema_FieldData *parts[2] = {*data, NULL};
    rk_part_row *picks;
    bool nulls = false;

    for (size_t i = 0; i < (*data)->valid_data.n; i++) {
        nulls |= !(*data)->valid_data.data[i];
    }
    if (!field->default_value || !nulls) {
        return RK_OK;
    }
    picks = RK_ARENA_ARRAY(arena, rk_part_row, rows);
    if (!picks) {
        return rk__fail_memory(err);
    }
    RK_RET(rk_field_data_fill(&parts[1], field, 1, arena));
    for (size_t i = 0; i < rows; i++) {
        bool valid = i >= (*data)->valid_data.n || (*data)->valid_data.data[i];
        picks[i] = valid ? (rk_part_row){0, (uint32_t)i} : (rk_part_row){1, 0};
    }
    return rk_field_data_merge(data, field, parts, picks, rows, arena);
}

static rk_code
find_field(const rk_schema *schema, const pb_schema_FieldData *sent, size_t *at, rk_err *err)
{
    if (sent->is_dynamic || rk_str_is(sent->field_name, RK_DYNAMIC_NAME)) {
        if (schema->dynamic < 0) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "without dynamic schema enabled, the field name cannot be set to %s",
                RK_DYNAMIC_NAME);
        }
        *at = (size_t)schema->dynamic;
        return RK_OK;
    }
    const rk_field *field = rk_schema_find(schema, sent->field_name);
    if (!field) {
        *at = SIZE_MAX;
        return RK_OK;
    }
    *at = (size_t)(field - schema->fields);
    return RK_OK;
}

/* Columns sent, by position in the schema. */
static rk_code
sort_columns(pb_schema_FieldData **data, const rk_schema *schema,
             const pb_schema_FieldData_list *sent, rk_arena *arena, rk_err *err)
{
    for (size_t i = 0; i < sent->n; i++) {
        size_t at = SIZE_MAX;
        RK_RET(find_field(schema, sent->data[i], &at, err));
        if (at == SIZE_MAX) {
            return rk_fail(err, RK_EINVAL,
                           "more fieldData has pass in: invalid "
                           "parameter[expected=%zu][actual=%zu]: field %.*s is not "
                           "in the schema",
                           schema->fields_len, sent->n, RK_STR_ARG(sent->data[i]->field_name));
        }
        if (data[at]) {
            return rk_fail_tail(err, RK_EINVAL, "duplicated field %.*s found",
                                RK_STR_ARG(sent->data[i]->field_name));
        }
        data[at] = RK_ARENA_NEW(arena, pb_schema_FieldData);
        if (!data[at]) {
            return rk__fail_memory(err);
        }
        *data[at] = *sent->data[i];
    }
    return RK_OK;
}

static rk_code
complete(pb_schema_FieldData **data, rk__req *req, const rk_field *field, size_t rows)
{
    rk_err *err = req->ctx.err;

    if (field->primary && field->auto_id) {
        return rk__generate_keys(req, field, rows, data);
    }
    if (field->dynamic) {
        return empty_objects(rows, data, req->ctx.arena) == RK_OK ? RK_OK : rk__fail_memory(err);
    }
    if (field->nullable || field->default_value) {
        return rk_field_data_fill(data, field, rows, req->ctx.arena);
    }
    return rk_fail_tail(err, RK_EINVAL, "fieldSchema(%.*s) has no corresponding fieldData pass in",
                        RK_STR_ARG(field->name));
}

rk_code
rk__columns_make(rk__columns *out, rk__req *req, const rk__entry *entry,
                 const pb_schema_FieldData_list *sent, uint32_t rows, bool keep_keys)
{
    const rk_schema *schema = entry->schema;
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;

    out->rows = rows;
    out->data = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, schema->fields_len);
    if (!out->data) {
        return rk__fail_memory(err);
    }
    if (rows == 0) {
        return rk__fail_expected(err, "invalid num_rows", "0", "num_rows should be greater than 0");
    }
    RK_RET(sort_columns(out->data, schema, sent, arena, err));
    for (size_t i = 0; i < schema->fields_len; i++) {
        const rk_field *field = &schema->fields[i];
        pb_schema_FieldData **data = &out->data[i];
        if (*data && field->primary && field->auto_id && !keep_keys) {
            return rk_fail_tail(err, RK_EINVAL,
                                "can not assign primary field data when auto id enabled and "
                                "allow_insert_auto_id is "
                                "false %.*s",
                                RK_STR_ARG(field->name));
        }
        if (*data) {
            RK_RET(rk_field_data_check(*data, field, rows, err));
            RK_RET(fill_nulls(data, field, rows, arena, err));
            if (field->dynamic) {
                RK_RET(check_dynamic_keys(*data, schema, arena, err));
            }
        } else if (!(field->primary &&
                     field->auto_id)) { /* generated last: nothing is used up by a bad request */
            RK_RET(complete(data, req, field, rows));
        }
    }
    const rk_field *primary = rk_schema_primary(schema);
    if (!out->data[schema->primary]) {
        RK_RET(complete(&out->data[schema->primary], req, primary, rows));
    }
    for (size_t i = 0; i < schema->fields_len; i++) {
        const rk_field *field = &schema->fields[i];
        out->data[i]->type = (int32_t)field->type;
        out->data[i]->field_id = field->id;
        out->data[i]->field_name = field->name;
        out->data[i]->is_dynamic = field->dynamic;
    }
    return rk__ids_of(out->data[schema->primary], primary, &out->ids, arena, err);
}

/* ---- shards and the append ---- */

typedef struct split {
    uint32_t **picks; /* per shard */
    size_t *counts;
    size_t shards;
} split;

static rk_code
split_by_shard(split *out, const pb_schema_IDs *ids, size_t shards, rk_arena *arena)
{
    size_t n = rk_ids_len(ids);
    uint32_t *shard_of = RK_ARENA_ARRAY(arena, uint32_t, n + 1);

    out->shards = shards;
    out->picks = RK_ARENA_ARRAY(arena, uint32_t *, shards);
    out->counts = RK_ARENA_ARRAY(arena, size_t, shards);
    if (!shard_of || !out->picks || !out->counts) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        shard_of[i] = rk_pk_shard(rk_ids_at(ids, i), (uint32_t)shards);
        out->counts[shard_of[i]]++;
    }
    for (size_t s = 0; s < shards; s++) {
        out->picks[s] = RK_ARENA_ARRAY(arena, uint32_t, out->counts[s] + 1);
        if (!out->picks[s]) {
            return RK_ENOMEM;
        }
        out->counts[s] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t s = shard_of[i];
        out->picks[s][out->counts[s]++] = (uint32_t)i;
    }
    return RK_OK;
}

static rk_code
put_inserts(rk__req *req, const rk__entry *entry, const rk__columns *rows, int64_t partition_id,
            pb_rk_AppendRequest *append)
{
    rk_arena *arena = req->ctx.arena;
    size_t shards = entry->info->channels.n;
    size_t fields = entry->schema->fields_len;
    split parts = {0};

    append->inserts.data = RK_ARENA_ARRAY(arena, pb_rk_RowBatch *, shards);
    if (!append->inserts.data ||
        (shards > 1 && split_by_shard(&parts, rows->ids, shards, arena) != RK_OK)) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t s = 0; s < shards; s++) {
        size_t n = shards == 1 ? rows->rows : parts.counts[s];
        pb_rk_RowBatch *batch = RK_ARENA_NEW(arena, pb_rk_RowBatch);
        if (n == 0) {
            continue;
        }
        if (!batch) {
            return rk__fail_memory(req->ctx.err);
        }
        batch->channel = entry->info->channels.data[s];
        batch->partition_id = partition_id;
        batch->rows = (uint32_t)n;
        batch->fields = (pb_schema_FieldData_list){rows->data, fields};
        if (shards > 1) {
            batch->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, fields);
            for (size_t f = 0; batch->fields.data && f < fields; f++) {
                RK_RET(rk_field_data_pick(&batch->fields.data[f], rows->data[f],
                                          &entry->schema->fields[f], parts.picks[s], n, arena));
                batch->fields.data[f]->type = rows->data[f]->type;
                batch->fields.data[f]->field_id = rows->data[f]->field_id;
                batch->fields.data[f]->field_name = rows->data[f]->field_name;
                batch->fields.data[f]->is_dynamic = rows->data[f]->is_dynamic;
            }
            if (!batch->fields.data) {
                return rk__fail_memory(req->ctx.err);
            }
        }
        append->inserts.data[append->inserts.n++] = batch;
    }
    return RK_OK;
}

static rk_code
put_deletes(rk__req *req, const rk__entry *entry, const pb_schema_IDs *keys,
            pb_rk_AppendRequest *append)
{
    rk_arena *arena = req->ctx.arena;
    size_t shards = entry->info->channels.n;
    split parts = {0};

    append->deletes.data = RK_ARENA_ARRAY(arena, pb_rk_DeleteBatch *, shards);
    if (!append->deletes.data || split_by_shard(&parts, keys, shards, arena) != RK_OK) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t s = 0; s < shards; s++) {
        pb_rk_DeleteBatch *batch = RK_ARENA_NEW(arena, pb_rk_DeleteBatch);
        if (parts.counts[s] == 0) {
            continue;
        }
        if (!batch || !(batch->keys = rk__ids_pick(keys, parts.picks[s], parts.counts[s], arena))) {
            return rk__fail_memory(req->ctx.err);
        }
        batch->channel = entry->info->channels.data[s];
        append->deletes.data[append->deletes.n++] = batch;
    }
    return RK_OK;
}

rk_code
rk__append(rk__req *req, const rk__entry *entry, const rk__columns *inserts,
           const pb_schema_IDs *deletes, int64_t partition_id, uint64_t *timestamp)
{
    pb_rk_AppendRequest append = {.collection_id = entry->info->id,
                                  .schema_version = entry->info->schema_version};
    pb_rk_AppendResponse *reply = NULL;

    if (entry->info->channels.n == 0) {
        return rk_fail_tail(req->ctx.err, RK_EINTERNAL, "collection %.*s has no channel",
                            RK_STR_ARG(entry->name));
    }
    if (inserts) {
        RK_RET(put_inserts(req, entry, inserts, partition_id, &append));
    }
    if (deletes) {
        RK_RET(put_deletes(req, entry, deletes, &append));
    }
    RK_RET(pb_rk_StreamingNode_Append(req->access->streaming, &append, &reply, &req->ctx));
    *timestamp = reply->timestamp;
    return RK_OK;
}
