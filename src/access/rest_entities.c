/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: insert, upsert, delete, get, query.
 *
 * Get is a query for keys that travel as a template value, so no key needs quoting. A query without
 * a limit gets 100 rows, unless it counts.
 */
#include <strings.h>

#include "access/rest.h"

/* ---- insert, upsert ---- */

static rk_code
write_mutation(rk__rest *r, const char *count_key, const char *ids_key, int64_t count,
               const pb_schema_IDs *ids)
{
    rk_json_object(&r->w);
    rk__rest_key(r, "code");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "cost");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "data");
    rk_json_object(&r->w);
    rk__rest_key(r, count_key);
    rk_json_i64(&r->w, count);
    rk__rest_key(r, ids_key);
    rk__rest_ids(r, ids, 0, ids ? rk_ids_len(ids) : 0);
    rk_json_object_end(&r->w);
    rk_json_object_end(&r->w);
    return RK_OK;
}

rk_code
rk__rest_entities_insert(rk__rest *r)
{
    pb_milvus_InsertRequest request = {0};
    pb_milvus_MutationResult reply = {0};
    const rk__entry *entry = NULL;
    rk_json_value data = rk__rest_find_exact(r->body, "data");

    r->request = "CollectionDataReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_str(r, r->body, "partitionName", &request.partition_name));
    rk__rest_need(r, "data", data.type != RK_JSON_NONE);
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__collection_described(&r->req, request.db_name, request.collection_name, &entry));
    RK_RET(rk__rest_rows(r, entry->schema, data, false, &request.fields_data, &request.num_rows));
    RK_RET(rk__api_insert(&r->req, &request, &reply));
    return write_mutation(r, "insertCount", "insertIds", reply.insert_cnt, reply.IDs);
}

static rk_code
field_ops(rk__rest *r, pb_milvus_UpsertRequest *request)
{
    rk_json_value list, object;
    rk_json_iter iter;

    RK_RET(rk__rest_array(r, r->body, "fieldOps", &list));
    rk_json_iter_init(&iter, list);
    while (list.type == RK_JSON_ARRAY && rk_json_iter_next(&iter, NULL, &object)) {
        rk_str op = {NULL, 0};
        RK_RET(rk__rest_str(r, object, "op", &op));
        if (op.len == 7 && strncasecmp(op.data, "REPLACE", 7) == 0) {
            continue;
        }
        if (op.len == 12 && strncasecmp(op.data, "ARRAY_", 6) == 0) {
            return rk__fail_unbuilt(r->req.ctx.err,
                                    "array operations of a partial update (fieldOps) are");
        }
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL, "unsupported partial update op: %.*s",
                            RK_STR_ARG(op));
    }
    RK_UNUSED(request);
    return RK_OK;
}

rk_code
rk__rest_entities_upsert(rk__rest *r)
{
    pb_milvus_UpsertRequest request = {0};
    pb_milvus_MutationResult reply = {0};
    const rk__entry *entry = NULL;
    rk_json_value data = rk__rest_find_exact(r->body, "data");

    r->request = "CollectionDataReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_str(r, r->body, "partitionName", &request.partition_name));
    RK_RET(rk__rest_bool(r, r->body, "partialUpdate", &request.partial_update));
    rk__rest_need(r, "data", data.type != RK_JSON_NONE);
    RK_RET(rk__rest_complete(r));
    RK_RET(field_ops(r, &request));
    RK_RET(rk__collection_described(&r->req, request.db_name, request.collection_name, &entry));
    RK_RET(rk__rest_rows(r, entry->schema, data, request.partial_update, &request.fields_data,
                         &request.num_rows));
    RK_RET(rk__api_upsert(&r->req, &request, &reply));
    return write_mutation(r, "upsertCount", "upsertIds", reply.upsert_cnt, reply.IDs);
}

/* ---- delete ---- */

rk_code
rk__rest_entities_delete(rk__rest *r)
{
    pb_milvus_DeleteRequest request = {0};
    pb_milvus_MutationResult reply = {0};
    const rk__entry *entry = NULL;
    rk_json_value params, key, value;
    rk_json_iter iter;

    r->request = "CollectionFilterReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_str(r, r->body, "partitionName", &request.partition_name));
    RK_RET(rk__rest_need_str(r, "filter", &request.expr));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__rest_object(r, r->body, "exprParams", &params));
    request.expr_template_values.data =
        RK_ARENA_ARRAY(r->req.ctx.arena, pb_milvus_DeleteRequest_expr_template_values_entry *,
                       rk_json_len(params) + 1);
    if (!request.expr_template_values.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, params);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        pb_milvus_DeleteRequest_expr_template_values_entry *e =
            RK_ARENA_NEW(r->req.ctx.arena, pb_milvus_DeleteRequest_expr_template_values_entry);
        if (!e) {
            return rk__fail_memory(r->req.ctx.err);
        }
        RK_RET(rk_json_get_str(key, &e->key, r->req.ctx.arena));
        RK_RET(rk__rest_template(r, e->key, value, &e->value));
        request.expr_template_values.data[request.expr_template_values.n++] = e;
    }
    RK_RET(rk__collection_described(&r->req, request.db_name, request.collection_name, &entry));
    RK_RET(rk__api_delete(&r->req, &request, &reply));
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk__rest_key(r, "deleteCount");
    rk_json_i64(&r->w, reply.delete_cnt);
    rk_json_object_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

/* ---- query and get ---- */

static size_t
rows_of(const pb_schema_FieldData_list *columns)
{
    for (size_t i = 0; i < columns->n; i++) {
        const pb_schema_FieldData *c = columns->data[i];
        if (c->field_case == PB_SCHEMA_FieldData_scalars && c->scalars) {
            if (c->scalars->data_case == PB_SCHEMA_ScalarField_long_data) {
                return c->scalars->long_data->data.n;
            }
            if (c->scalars->data_case == PB_SCHEMA_ScalarField_string_data) {
                return c->scalars->string_data->data.n;
            }
        }
    }
    return 0;
}

static rk_code
write_rows(rk__rest *r, const pb_milvus_QueryResults *reply)
{
    size_t rows = rows_of(&reply->fields_data); /* the primary key is always among them */

    rk_json_object(&r->w);
    rk__rest_key(r, "code");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "cost");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "data");
    rk_json_array(&r->w);
    for (size_t row = 0; row < rows; row++) {
        rk_json_object(&r->w);
        RK_RET(rk__rest_row(r, &reply->fields_data, row));
        rk_json_object_end(&r->w);
    }
    rk_json_array_end(&r->w);
    rk_json_object_end(&r->w);
    return RK_OK;
}

static rk_code
add_template(rk__rest *r, pb_milvus_QueryRequest *request, rk_str name,
             pb_schema_TemplateValue *value)
{
    pb_milvus_QueryRequest_expr_template_values_entry *e =
        RK_ARENA_NEW(r->req.ctx.arena, pb_milvus_QueryRequest_expr_template_values_entry);

    if (!e) {
        return rk__fail_memory(r->req.ctx.err);
    }
    e->key = name;
    e->value = value;
    request->expr_template_values.data[request->expr_template_values.n++] = e;
    return RK_OK;
}

static rk_code
add_number(rk__rest *r, pb_common_KeyValuePair_list *list, const char *key, int64_t value)
{
    rk_str text = rk_arena_printf(r->req.ctx.arena, "%" PRId64, value);

    return text.data && rk__kv_add(r->req.ctx.arena, list, rk_str_from(key), text) == RK_OK
               ? RK_OK
               : rk__fail_memory(r->req.ctx.err);
}

/* Names, outputs (all by default) and consistency: what get and query share. */
static rk_code
query_basics(rk__rest *r, pb_milvus_QueryRequest *request)
{
    bool given = false;
    static const char *const everything = "*";

    RK_RET(rk__rest_collection(r, &request->db_name, &request->collection_name));
    RK_RET(rk__rest_strs(r, r->body, "outputFields", &request->output_fields));
    RK_RET(rk__rest_strs(r, r->body, "partitionNames", &request->partition_names));
    RK_RET(rk__rest_consistency(r, r->body, &request->consistency_level, &given));
    request->use_default_consistency = !given;
    if (request->output_fields.n == 0) {
        request->output_fields.data = RK_ARENA_ARRAY(r->req.ctx.arena, rk_str, 1);
        if (!request->output_fields.data) {
            return rk__fail_memory(r->req.ctx.err);
        }
        request->output_fields.data[0] = rk_str_from(everything);
        request->output_fields.n = 1;
    }
    return RK_OK;
}

rk_code
rk__rest_entities_query(rk__rest *r)
{
    pb_milvus_QueryRequest request = {0};
    pb_milvus_QueryResults reply = {0};
    pb_strs unbuilt = {NULL, 0};
    rk_json_value params, key, value;
    rk_json_iter iter;
    int64_t limit = 100;
    int64_t offset = 0;

    r->request = "QueryReqV2";
    RK_RET(query_basics(r, &request));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__rest_str(r, r->body, "filter", &request.expr));
    RK_RET(rk__rest_i64(r, r->body, "limit", &limit));
    RK_RET(rk__rest_i64(r, r->body, "offset", &offset));
    RK_RET(rk__rest_strs(r, r->body, "orderByFields", &unbuilt));
    if (unbuilt.n > 0) {
        return rk__fail_unbuilt(r->req.ctx.err, "ordering of query results (orderByFields) is");
    }
    RK_RET(rk__rest_strs(r, r->body, "groupByFields", &unbuilt));
    if (unbuilt.n > 0) {
        return rk__fail_unbuilt(r->req.ctx.err, "grouping (groupByFields) is");
    }
    RK_RET(rk__rest_object(r, r->body, "exprParams", &params));
    request.expr_template_values.data =
        RK_ARENA_ARRAY(r->req.ctx.arena, pb_milvus_QueryRequest_expr_template_values_entry *,
                       rk_json_len(params) + 1);
    if (!request.expr_template_values.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, params);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        pb_schema_TemplateValue *t = NULL;
        rk_str name;
        RK_RET(rk_json_get_str(key, &name, r->req.ctx.arena));
        RK_RET(rk__rest_template(r, name, value, &t));
        RK_RET(add_template(r, &request, name, t));
    }
    rk_str only = request.output_fields.n == 1 ? rk_str_trim(request.output_fields.data[0])
                                               : (rk_str){NULL, 0};
    bool count = only.len == 8 && strncasecmp(only.data, "count(*)", 8) == 0;
    if (!count || rk__rest_find(r->body, "limit").type != RK_JSON_NONE) {
        RK_RET(add_number(r, &request.query_params, "limit", limit));
        RK_RET(add_number(r, &request.query_params, "offset", offset));
    }
    RK_RET(rk__api_query(&r->req, &request, &reply));
    return write_rows(r, &reply);
}

static rk_code
fail_key(rk__rest *r, rk_json_value value)
{
    return rk_fail(
        r->req.ctx.err, RK_EREST_KEY,
        "please check the primary key and its' type can only in [int, string], error: %.*s",
        (int)RK_MIN(value.raw.len, (size_t)64), value.raw.data);
}

/* The keys of a get as one template array of the key's type. */
static rk_code
keys_of(rk__rest *r, const rk_field *primary, rk_json_value id, pb_schema_TemplateValue **out,
        size_t *count)
{
    rk_arena *arena = r->req.ctx.arena;
    bool many = id.type == RK_JSON_ARRAY;
    size_t n = many ? rk_json_len(id) : 1;
    pb_schema_TemplateValue *t = RK_ARENA_NEW(arena, pb_schema_TemplateValue);
    pb_schema_TemplateArrayValue *list = RK_ARENA_NEW(arena, pb_schema_TemplateArrayValue);
    pb_schema_LongArray *longs = RK_ARENA_NEW(arena, pb_schema_LongArray);
    pb_schema_StringArray *texts = RK_ARENA_NEW(arena, pb_schema_StringArray);
    rk_json_iter iter;
    rk_json_value value = id;

    if (!t || !list || !longs || !texts ||
        !(longs->data.data = RK_ARENA_ARRAY(arena, int64_t, n + 1)) ||
        !(texts->data.data = RK_ARENA_ARRAY(arena, rk_str, n + 1))) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, id);
    for (size_t i = 0; i < n; i++) {
        rk_str text = {NULL, 0};
        if (many && !rk_json_iter_next(&iter, NULL, &value)) {
            break;
        }
        if (value.type != RK_JSON_STRING && value.type != RK_JSON_INT) {
            return fail_key(r, value);
        }
        RK_RET(rk__rest_text(r, value, &text));
        texts->data.data[i] = text;
        if (primary->type == RK_INT64 && !rk_str_to_i64(text, &longs->data.data[i])) {
            return fail_key(r, value);
        }
    }
    longs->data.n = texts->data.n = *count = n;
    if (primary->type == RK_INT64) {
        list->data_case = PB_SCHEMA_TemplateArrayValue_long_data;
        list->long_data = longs;
    } else {
        list->data_case = PB_SCHEMA_TemplateArrayValue_string_data;
        list->string_data = texts;
    }
    t->val_case = PB_SCHEMA_TemplateValue_array_val;
    t->array_val = list;
    *out = t;
    return RK_OK;
}

rk_code
rk__rest_entities_get(rk__rest *r)
{
    pb_milvus_QueryRequest request = {0};
    pb_milvus_QueryResults reply = {0};
    pb_schema_TemplateValue *keys = NULL;
    const rk__entry *entry = NULL;
    rk_json_value id = rk__rest_find_exact(r->body, "id");
    size_t n = 0;

    r->request = "CollectionIDReq";
    RK_RET(query_basics(r, &request));
    rk__rest_need(r, "id", id.type != RK_JSON_NONE);
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__collection_described(&r->req, request.db_name, request.collection_name, &entry));
    RK_RET(keys_of(r, rk_schema_primary(entry->schema), id, &keys, &n));
    if (n == 0) {
        return write_rows(r, &reply);
    }
    request.expr = rk_arena_printf(r->req.ctx.arena, "%.*s in {ids}",
                                   RK_STR_ARG(rk_schema_primary(entry->schema)->name));
    request.expr_template_values.data =
        RK_ARENA_ARRAY(r->req.ctx.arena, pb_milvus_QueryRequest_expr_template_values_entry *, 1);
    if (!request.expr.data || !request.expr_template_values.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    RK_RET(add_template(r, &request, RK_STR("ids"), keys));
    RK_RET(rk__api_query(&r->req, &request, &reply));
    return write_rows(r, &reply);
}
