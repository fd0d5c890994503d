/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: indexes. indexParams are created one by one, stopping at the first error. Listing names of
 * a collection without an index is an empty list; describing an index that is missing is an error.
 */
#include "access/rest.h"

static rk_code
add(rk__rest *r, pb_common_KeyValuePair_list *list, const char *key, rk_str value)
{
    if (value.len == 0) {
        return RK_OK;
    }
    return rk__kv_add(r->req.ctx.arena, list, rk_str_from(key), value) == RK_OK
               ? RK_OK
               : rk__fail_memory(r->req.ctx.err);
}

/* One element of indexParams as a CreateIndex. */
static rk_code
create_one(rk__rest *r, rk_str db, rk_str collection, rk_json_value object)
{
    pb_milvus_CreateIndexRequest request = {.db_name = db, .collection_name = collection};
    pb_common_Status ignored = {0};
    rk_str type = {NULL, 0}, metric = {NULL, 0};
    rk_json_value params, inner;
    rk_buf rest = {0};
    rk_json_writer w = {.out = &rest};
    rk_json_iter iter;
    rk_json_value key, value;
    rk_code code = RK_OK;

    if (object.type != RK_JSON_OBJECT) {
        return rk_fail(r->req.ctx.err, RK_EREST_BODY,
                       "can only accept json format request, error: indexParams must hold objects");
    }
    RK_RET(rk__rest_str(r, object, "fieldName", &request.field_name));
    RK_RET(rk__rest_str(r, object, "indexName", &request.index_name));
    RK_RET(rk__rest_str(r, object, "metricType", &metric));
    RK_RET(rk__rest_str(r, object, "indexType", &type));
    RK_RET(rk__rest_object(r, object, "params", &params));
    inner = rk__rest_find_exact(params, "index_type");
    if (type.len == 0 && inner.type == RK_JSON_STRING) {
        RK_RET(rk_json_get_str(inner, &type, r->req.ctx.arena));
    }
    RK_RET(add(r, &request.extra_params, "index_type", type));
    RK_RET(add(r, &request.extra_params, "metric_type", metric));
    rk_json_object(&w); /* params without the key that was taken out of it */
    rk_json_iter_init(&iter, params);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        rk_str name;
        RK_ERR(rk_json_get_str(key, &name, r->req.ctx.arena));
        if (!rk_str_is(name, "index_type") && !(metric.len > 0 && rk_str_is(name, "metric_type"))) {
            rk_json_key(&w, name);
            rk_json_raw(&w, value.raw);
        }
    }
    rk_json_object_end(&w);
    if (rest.len > 2) { /* more than {} */
        rk_str text = rk_arena_str(r->req.ctx.arena, rk_buf_view(&rest));
        if (rest.failed || !text.data) {
            code = rk__fail_memory(r->req.ctx.err);
            goto out;
        }
        RK_ERR(add(r, &request.extra_params, "params", text));
    }
    code = rk__api_create_index(&r->req, &request, &ignored);
out:
    rk_buf_deinit(&rest);
    return code;
}

rk_code
rk__rest_create_indexes(rk__rest *r, rk_str db, rk_str collection, rk_json_value list)
{
    const rk__entry *entry = NULL;
    rk_json_iter iter;
    rk_json_value object;

    RK_RET(rk__collection(&r->req, db, collection, &entry));
    rk_json_iter_init(&iter, list);
    while (rk_json_iter_next(&iter, NULL, &object)) {
        rk_str field = {NULL, 0};
        RK_RET(rk__rest_str(r, object, "fieldName", &field));
        if (!rk_schema_find(entry->schema, field)) {
            return rk_fail(r->req.ctx.err, RK_EREST_MISSING,
                           "missing required parameters, error: `%.*s` hasn't defined in schema",
                           RK_STR_ARG(field));
        }
        RK_RET(create_one(r, db, collection, object));
    }
    return RK_OK;
}

rk_code
rk__rest_indexes_create(rk__rest *r)
{
    rk_str db = {NULL, 0}, name = {NULL, 0};
    rk_json_value list, object;
    rk_json_iter iter;

    r->request = "IndexParamReq";
    RK_RET(rk__rest_collection(r, &db, &name));
    RK_RET(rk__rest_array(r, r->body, "indexParams", &list));
    rk__rest_need(r, "indexParams", list.type == RK_JSON_ARRAY);
    RK_RET(rk__rest_complete(r));
    rk_json_iter_init(&iter, list);
    while (rk_json_iter_next(&iter, NULL, &object)) {
        RK_RET(create_one(r, db, name, object));
    }
    return rk__rest_void(r);
}

static const char *
state_name(int32_t state)
{
    switch (state) {
    case PB_COMMON_IndexState_Unissued:
        return "Unissued";
    case PB_COMMON_IndexState_InProgress:
        return "InProgress";
    case PB_COMMON_IndexState_Finished:
        return "Finished";
    case PB_COMMON_IndexState_Failed:
        return "Failed";
    case PB_COMMON_IndexState_Retry:
        return "Retry";
    default:
        return "IndexStateNone";
    }
}

static void
number_out(rk__rest *r, const char *key, int64_t value)
{
    rk__rest_key(r, key);
    rk_json_i64(&r->w, value);
}

static void
write_index(rk__rest *r, const pb_milvus_IndexDescription *d)
{
    rk_json_object(&r->w);
    rk__rest_text_out(r, "indexName", d->index_name);
    rk__rest_text_out(r, "fieldName", d->field_name);
    rk__rest_text_out(r, "indexType", rk__kv_get(&d->params, "index_type"));
    rk__rest_text_out(r, "metricType", rk__kv_get(&d->params, "metric_type"));
    number_out(r, "totalRows", d->total_rows);
    number_out(r, "indexedRows", d->indexed_rows);
    number_out(r, "pendingRows", d->pending_index_rows);
    rk__rest_text_out(r, "indexState", rk_str_from(state_name(d->state)));
    rk__rest_text_out(r, "failReason", d->index_state_fail_reason);
    rk__rest_text_out(r, "mmap.enabled", rk__kv_get(&d->params, "mmap.enabled"));
    rk__rest_text_out(r, "indexoffsetcache.enabled",
                      rk__kv_get(&d->params, "indexoffsetcache.enabled"));
    rk__rest_text_out(r, "warmup", rk__kv_get(&d->params, "warmup"));
    number_out(r, "minIndexVersion", d->min_index_version);
    number_out(r, "maxIndexVersion", d->max_index_version);
    rk__rest_key(r, "indexParams");
    rk_json_array(&r->w);
    for (size_t i = 0; i < d->params.n; i++) {
        rk_json_object(&r->w);
        rk__rest_text_out(r, "key", d->params.data[i]->key);
        rk__rest_text_out(r, "value", d->params.data[i]->value);
        rk_json_object_end(&r->w);
    }
    rk_json_array_end(&r->w);
    rk_json_object_end(&r->w);
}

rk_code
rk__rest_indexes_describe(rk__rest *r)
{
    pb_milvus_DescribeIndexRequest request = {0};
    pb_milvus_DescribeIndexResponse reply = {0};

    r->request = "IndexReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_need_str(r, "indexName", &request.index_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_describe_index(&r->req, &request, &reply));
    rk__rest_data(r);
    rk_json_array(&r->w);
    for (size_t i = 0; i < reply.index_descriptions.n; i++) {
        write_index(r, reply.index_descriptions.data[i]);
    }
    rk_json_array_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

rk_code
rk__rest_indexes_list(rk__rest *r)
{
    pb_milvus_DescribeIndexRequest request = {0};
    pb_milvus_DescribeIndexResponse reply = {0};
    rk_code code;

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    code = rk__api_describe_index(&r->req, &request, &reply);
    if (code == RK_EINDEX_NOT_FOUND) {
        rk_err_clear(r->req.ctx.err);
        code = RK_OK;
    }
    RK_RET(code);
    rk__rest_data(r);
    rk_json_array(&r->w);
    for (size_t i = 0; i < reply.index_descriptions.n; i++) {
        rk_json_str(&r->w, reply.index_descriptions.data[i]->index_name);
    }
    rk_json_array_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

rk_code
rk__rest_indexes_drop(rk__rest *r)
{
    pb_milvus_DropIndexRequest request = {0};
    pb_common_Status ignored = {0};

    r->request = "IndexReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_need_str(r, "indexName", &request.index_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_drop_index(&r->req, &request, &ignored));
    return rk__rest_void(r);
}
