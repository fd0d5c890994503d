/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: collections, databases, partitions, aliases.
 *
 * collections/create has two forms. Without schema.fields it is the quick form: a key, a vector,
 * dynamic fields on, an AUTOINDEX and a load. With them it is the full form: dynamic fields off
 * unless asked for, and index and load only when indexParams are given. The steps are the same RPCs
 * that an SDK sends; the first failure is returned and nothing is rolled back.
 */
#include "access/rest.h"

/* ---- create: fields ---- */

static rk_code
add_pairs(rk__rest *r, rk_json_value object, pb_common_KeyValuePair_list *out)
{
    rk_json_iter iter;
    rk_json_value key, value;

    rk_json_iter_init(&iter, object);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        rk_str name, text;
        if (value.type == RK_JSON_NULL) {
            continue;
        }
        RK_RET(rk_json_get_str(key, &name, r->req.ctx.arena));
        RK_RET(rk__rest_text(r, value, &text));
        if (rk__kv_add(r->req.ctx.arena, out, name, text) != RK_OK) {
            return rk__fail_memory(r->req.ctx.err);
        }
    }
    return RK_OK;
}

static rk_code
fail_default(rk__rest *r, rk_json_value value)
{
    return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                        "convert defaultValue fail, err:%.*s does not fit the data type",
                        (int)RK_MIN(value.raw.len, (size_t)64), value.raw.data);
}

static rk_code
default_value(rk__rest *r, rk_json_value value, pb_schema_FieldSchema *field)
{
    pb_schema_ValueField *v = RK_ARENA_NEW(r->req.ctx.arena, pb_schema_ValueField);
    int64_t number = 0;

    if (value.type == RK_JSON_NONE) {
        return RK_OK;
    }
    if (!v) {
        return rk__fail_memory(r->req.ctx.err);
    }
    field->default_value = v;
    switch (field->data_type) {
    case RK_BOOL:
        v->data_case = PB_SCHEMA_ValueField_bool_data;
        return rk_json_get_bool(value, &v->bool_data) ? RK_OK : fail_default(r, value);
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        v->data_case = PB_SCHEMA_ValueField_int_data;
        if (!rk_json_get_i64(value, &number) || number < INT32_MIN || number > INT32_MAX) {
            return fail_default(r, value);
        }
        v->int_data = (int32_t)number;
        return RK_OK;
    case RK_INT64:
        v->data_case = PB_SCHEMA_ValueField_long_data;
        return rk_json_get_i64(value, &v->long_data) ? RK_OK : fail_default(r, value);
    case RK_FLOAT:
        v->data_case = PB_SCHEMA_ValueField_float_data;
        return rk_json_get_f32(value, &v->float_data) ? RK_OK : fail_default(r, value);
    case RK_DOUBLE:
        v->data_case = PB_SCHEMA_ValueField_double_data;
        return rk_json_get_f64(value, &v->double_data) ? RK_OK : fail_default(r, value);
    case RK_VARCHAR:
        v->data_case = PB_SCHEMA_ValueField_string_data;
        if (value.type != RK_JSON_STRING) {
            return fail_default(r, value);
        }
        return rk_json_get_str(value, &v->string_data, r->req.ctx.arena);
    default:
        return rk_fail_tail(
            r->req.ctx.err, RK_EINVAL,
            "convert defaultValue fail, err:type not support default_value, type:%.*s",
            RK_STR_ARG(rk__rest_type_name(field->data_type)));
    }
}

static rk_code
data_type(rk__rest *r, rk_json_value object, const char *key, const char *what, int32_t *out)
{
    rk_str name = {NULL, 0};

    RK_RET(rk__rest_str(r, object, key, &name));
    if (!rk__rest_type(name, out)) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "invalid parameter, %s %.*s is invalid(case sensitive).", what,
                            RK_STR_ARG(name));
    }
    return RK_OK;
}

static rk_code
one_field(rk__rest *r, rk_json_value object, bool auto_id, pb_schema_FieldSchema **out)
{
    pb_schema_FieldSchema *f = RK_ARENA_NEW(r->req.ctx.arena, pb_schema_FieldSchema);
    rk_json_value params;

    *out = f;
    if (!f) {
        return rk__fail_memory(r->req.ctx.err);
    }
    if (object.type != RK_JSON_OBJECT) {
        return rk_fail(
            r->req.ctx.err, RK_EREST_BODY,
            "can only accept json format request, error: schema.fields must hold objects");
    }
    RK_RET(rk__rest_str(r, object, "fieldName", &f->name));
    RK_RET(data_type(r, object, "dataType", "data type", &f->data_type));
    if (f->data_type == RK_ARRAY) {
        RK_RET(data_type(r, object, "elementDataType", "element data type", &f->element_type));
    }
    RK_RET(rk__rest_bool(r, object, "isPrimary", &f->is_primary_key));
    RK_RET(rk__rest_bool(r, object, "isPartitionKey", &f->is_partition_key));
    RK_RET(rk__rest_bool(r, object, "isClusteringKey", &f->is_clustering_key));
    RK_RET(rk__rest_bool(r, object, "nullable", &f->nullable));
    RK_RET(rk__rest_object(r, object, "elementTypeParams", &params));
    RK_RET(add_pairs(r, params, &f->type_params));
    RK_RET(default_value(r, rk__rest_find(object, "defaultValue"), f));
    f->autoID = f->is_primary_key && auto_id;
    return RK_OK;
}

static rk_code
full_schema(rk__rest *r, rk_json_value schema, rk_json_value fields,
            pb_schema_CollectionSchema *out)
{
    rk_json_iter iter;
    rk_json_value value, functions, structs;
    bool auto_id = false;

    RK_RET(rk__rest_bool(r, schema, "autoID", &auto_id));
    RK_RET(rk__rest_bool(r, schema, "enableDynamicField", &out->enable_dynamic_field));
    RK_RET(rk__rest_array(r, schema, "functions", &functions));
    RK_RET(rk__rest_array(r, schema, "structFields", &structs));
    if (rk_json_len(functions) > 0) {
        return rk__fail_unbuilt(r->req.ctx.err, "functions are");
    }
    if (rk_json_len(structs) > 0) {
        return rk__fail_unbuilt(r->req.ctx.err, "struct array fields are");
    }
    out->fields.data =
        RK_ARENA_ARRAY(r->req.ctx.arena, pb_schema_FieldSchema *, rk_json_len(fields));
    if (!out->fields.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, fields);
    while (rk_json_iter_next(&iter, NULL, &value)) {
        RK_RET(one_field(r, value, auto_id, &out->fields.data[out->fields.n]));
        out->fields.n++;
    }
    return RK_OK;
}

/* ---- create: the quick form ---- */

typedef struct quick {
    rk_str vector_name;
    rk_str metric;
} quick;

static rk_code
quick_vector(rk__rest *r, pb_schema_FieldSchema *vector, quick *q)
{
    rk_str type = RK_STR("FloatVector");
    int64_t dim = 0;
    bool sparse;

    q->vector_name = RK_STR("vector");
    RK_RET(rk__rest_str(r, r->body, "vectorFieldType", &type));
    RK_RET(rk__rest_str(r, r->body, "vectorFieldName", &q->vector_name));
    RK_RET(rk__rest_str(r, r->body, "metricType", &q->metric));
    RK_RET(rk__rest_i64(r, r->body, "dimension", &dim));
    if (!rk__rest_type(type, &vector->data_type) || vector->data_type < RK_BINARY_VECTOR ||
        vector->data_type > RK_SPARSE_VECTOR) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "vectorFieldType can only be [FloatVector, BinaryVector, "
                            "Float16Vector, BFloat16Vector, "
                            "SparseFloatVector], default: FloatVector");
    }
    sparse = vector->data_type == RK_SPARSE_VECTOR;
    if (q->metric.len == 0) {
        q->metric = sparse                                  ? RK_STR("IP")
                    : vector->data_type == RK_BINARY_VECTOR ? RK_STR("HAMMING")
                                                            : RK_STR("COSINE");
    }
    if (sparse && dim != 0) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "dimension should not be specified for SparseFloatVector quick create");
    }
    if (!sparse && dim == 0) {
        return rk_fail_tail(
            r->req.ctx.err, RK_EINVAL,
            "dimension is required for quickly create collection(default metric type: %.*s)",
            RK_STR_ARG(q->metric));
    }
    vector->name = q->vector_name;
    if (!sparse) {
        rk_str text = rk_arena_printf(r->req.ctx.arena, "%" PRId64, dim);
        if (!text.data ||
            rk__kv_add(r->req.ctx.arena, &vector->type_params, RK_STR("dim"), text) != RK_OK) {
            return rk__fail_memory(r->req.ctx.err);
        }
    }
    return RK_OK;
}

static rk_code
quick_key(rk__rest *r, rk_json_value params, pb_schema_FieldSchema *key)
{
    rk_str type = RK_STR("Int64");
    rk_str length = RK_STR("<nil>");
    rk_json_value max = rk__rest_find(params, "max_length");

    key->name = RK_STR("id");
    key->is_primary_key = true;
    RK_RET(rk__rest_str(r, r->body, "idType", &type));
    RK_RET(rk__rest_str(r, r->body, "primaryFieldName", &key->name));
    RK_RET(rk__rest_bool(r, r->body, "autoID", &key->autoID));
    if (rk_str_is(type, "Int64") || rk_str_is(type, "int64")) {
        key->data_type = RK_INT64;
        return RK_OK;
    }
    if (!rk_str_is(type, "VarChar") && !rk_str_is(type, "Varchar")) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "idType can only be [Int64, VarChar], default: Int64");
    }
    key->data_type = RK_VARCHAR;
    if (max.type != RK_JSON_NONE) {
        RK_RET(rk__rest_text(r, max, &length));
    }
    return rk__kv_add(r->req.ctx.arena, &key->type_params, RK_STR("max_length"), length) == RK_OK
               ? RK_OK
               : rk__fail_memory(r->req.ctx.err);
}

static rk_code
quick_schema(rk__rest *r, rk_json_value params, pb_schema_CollectionSchema *out, quick *q)
{
    rk_json_value dynamic = rk__rest_find(params, "enableDynamicField");
    pb_schema_FieldSchema *key = RK_ARENA_NEW(r->req.ctx.arena, pb_schema_FieldSchema);
    pb_schema_FieldSchema *vector = RK_ARENA_NEW(r->req.ctx.arena, pb_schema_FieldSchema);
    rk_str text = RK_STR("true");

    out->fields.data = RK_ARENA_ARRAY(r->req.ctx.arena, pb_schema_FieldSchema *, 2);
    if (!key || !vector || !out->fields.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    RK_RET(quick_key(r, params, key));
    RK_RET(quick_vector(r, vector, q));
    if (dynamic.type != RK_JSON_NONE) {
        RK_RET(rk__rest_text(r, dynamic, &text));
    }
    if (!rk_str_to_bool(text, &out->enable_dynamic_field)) {
        return rk_fail(r->req.ctx.err, RK_EUNEXPECTED,
                       "parse enableDynamicField fail, err:%.*s is no boolean", RK_STR_ARG(text));
    }
    out->fields.data[0] = key;
    out->fields.data[1] = vector;
    out->fields.n = 2;
    return RK_OK;
}

/* ---- create: the steps ---- */

static rk_code
put_properties(rk__rest *r, rk_json_value params, pb_milvus_CreateCollectionRequest *request)
{
    static const char *const names[][2] = {{"ttlSeconds", "collection.ttl.seconds"},
                                           {"ttlField", "ttl_field"},
                                           {"partitionKeyIsolation", "partitionkey.isolation"},
                                           {"mmap.enabled", "mmap.enabled"}};
    rk_json_value properties;
    rk_json_value ttl;

    for (size_t i = 0; i < RK_COUNT(names); i++) {
        rk_json_value value = rk__rest_find(params, names[i][0]);
        rk_str text;
        if (value.type == RK_JSON_NONE) {
            continue;
        }
        RK_RET(rk__rest_text(r, value, &text));
        if (rk__kv_add(r->req.ctx.arena, &request->properties, rk_str_from(names[i][1]), text) !=
            RK_OK) {
            return rk__fail_memory(r->req.ctx.err);
        }
    }
    RK_RET(rk__rest_object(r, r->body, "properties", &properties));
    ttl = rk__rest_find_exact(properties, "collection.ttl.seconds");
    if (ttl.type == RK_JSON_NONE) {
        ttl = rk__rest_find_exact(properties, "ttl.seconds");
    }
    if (ttl.type != RK_JSON_NONE) {
        rk_str text;
        if (rk__kv_get(&request->properties, "collection.ttl.seconds").data) {
            return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                                "collection TTL is specified multiple times");
        }
        RK_RET(rk__rest_text(r, ttl, &text));
        if (rk__kv_add(r->req.ctx.arena, &request->properties, RK_STR("collection.ttl.seconds"),
                       text) != RK_OK) {
            return rk__fail_memory(r->req.ctx.err);
        }
    }
    return RK_OK;
}

static rk_code
put_consistency(rk__rest *r, rk_json_value params, pb_milvus_CreateCollectionRequest *request)
{
    int32_t inner = 0;
    bool given = false;
    bool inner_given = false;

    request->consistency_level = PB_COMMON_ConsistencyLevel_Bounded;
    RK_RET(rk__rest_consistency(r, r->body, &request->consistency_level, &given));
    RK_RET(rk__rest_consistency(r, params, &inner, &inner_given));
    if (given && inner_given && inner != request->consistency_level) {
        return rk_fail_tail(
            r->req.ctx.err, RK_EINVAL,
            "consistencyLevel and params.consistencyLevel are both given and differ");
    }
    if (inner_given) {
        request->consistency_level = inner;
    }
    return RK_OK;
}

static rk_code
load(rk__rest *r, rk_str db, rk_str collection)
{
    pb_milvus_LoadCollectionRequest request = {.db_name = db, .collection_name = collection};
    pb_common_Status ignored = {0};

    return rk__api_load_collection(&r->req, &request, &ignored);
}

static rk_code
create_quick_index(rk__rest *r, const pb_milvus_CreateCollectionRequest *created, const quick *q)
{
    pb_milvus_CreateIndexRequest request = {.db_name = created->db_name,
                                            .collection_name = created->collection_name,
                                            .field_name = q->vector_name,
                                            .index_name = q->vector_name};
    pb_common_Status ignored = {0};

    if (rk__kv_add(r->req.ctx.arena, &request.extra_params, RK_STR("metric_type"), q->metric) !=
        RK_OK) {
        return rk__fail_memory(r->req.ctx.err);
    }
    return rk__api_create_index(&r->req, &request, &ignored);
}

rk_code
rk__rest_collections_create(rk__rest *r)
{
    pb_milvus_CreateCollectionRequest request = {0};
    pb_schema_CollectionSchema schema = {0};
    pb_common_Status ignored = {0};
    rk_json_value params, outer, fields, indexes;
    quick q = {0};
    int64_t shards = 1;
    bool is_quick;

    r->request = "CollectionReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__rest_object(r, r->body, "params", &params));
    RK_RET(rk__rest_object(r, r->body, "schema", &outer));
    RK_RET(rk__rest_array(r, outer, "fields", &fields));
    RK_RET(rk__rest_array(r, r->body, "indexParams", &indexes));
    is_quick = rk_json_len(fields) == 0;
    RK_RET(rk__rest_str(r, r->body, "description", &schema.description));
    if (is_quick) {
        RK_RET(quick_schema(r, params, &schema, &q));
    } else {
        RK_RET(full_schema(r, outer, fields, &schema));
    }
    RK_RET(rk__rest_i64(r, params, "shardsNum", &shards));
    if (shards < 0 || shards > INT32_MAX) {
        shards = INT32_MAX; /* refused with the right text below */
    }
    request.shards_num = (int32_t)shards;
    RK_RET(put_consistency(r, params, &request));
    RK_RET(put_properties(r, params, &request));
    schema.name = request.collection_name;
    if (pb_encode_arena(&pb_schema_CollectionSchema_desc, &schema, &request.schema,
                        r->req.ctx.arena) != RK_OK) {
        return rk__fail_memory(r->req.ctx.err);
    }
    RK_RET(rk__api_create_collection(&r->req, &request, &ignored));
    if (is_quick) {
        RK_RET(create_quick_index(r, &request, &q));
        RK_RET(load(r, request.db_name, request.collection_name));
    } else if (rk_json_len(indexes) > 0) {
        RK_RET(rk__rest_create_indexes(r, request.db_name, request.collection_name, indexes));
        RK_RET(load(r, request.db_name, request.collection_name));
    }
    return rk__rest_void(r);
}

/* ---- the others ---- */

static void
write_names(rk__rest *r, const pb_strs *names)
{
    rk__rest_data(r);
    rk_json_array(&r->w);
    for (size_t i = 0; i < names->n; i++) {
        rk_json_str(&r->w, names->data[i]);
    }
    rk_json_array_end(&r->w);
    rk__rest_end(r);
}

static void
write_has(rk__rest *r, bool has)
{
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk__rest_key(r, "has");
    rk_json_bool(&r->w, has);
    rk_json_object_end(&r->w);
    rk__rest_end(r);
}

rk_code
rk__rest_collections_list(rk__rest *r)
{
    pb_milvus_ShowCollectionsRequest request = {0};
    pb_milvus_ShowCollectionsResponse reply = {0};

    RK_RET(rk__rest_str(r, r->body, "dbName", &request.db_name));
    RK_RET(rk__api_show_collections(&r->req, &request, &reply));
    write_names(r, &reply.collection_names);
    return RK_OK;
}

rk_code
rk__rest_collections_has(rk__rest *r)
{
    pb_milvus_HasCollectionRequest request = {0};
    pb_milvus_BoolResponse reply = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_has_collection(&r->req, &request, &reply));
    write_has(r, reply.value);
    return RK_OK;
}

rk_code
rk__rest_collections_drop(rk__rest *r)
{
    pb_milvus_DropCollectionRequest request = {0};
    pb_common_Status ignored = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_drop_collection(&r->req, &request, &ignored));
    return rk__rest_void(r);
}

rk_code
rk__rest_collections_load(rk__rest *r)
{
    rk_str db = {NULL, 0}, name = {NULL, 0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &db, &name));
    RK_RET(rk__rest_complete(r));
    RK_RET(load(r, db, name));
    return rk__rest_void(r);
}

rk_code
rk__rest_collections_release(rk__rest *r)
{
    pb_milvus_ReleaseCollectionRequest request = {0};
    pb_common_Status ignored = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_release_collection(&r->req, &request, &ignored));
    return rk__rest_void(r);
}

rk_code
rk__rest_collections_load_state(rk__rest *r)
{
    pb_milvus_GetLoadStateRequest request = {0};
    pb_milvus_GetLoadStateResponse reply = {0};
    pb_milvus_GetLoadingProgressRequest ask = {0};
    pb_milvus_GetLoadingProgressResponse progress = {0};
    const rk__entry *entry = NULL;

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_strs(r, r->body, "partitionNames", &request.partition_names));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__collection(&r->req, request.db_name, request.collection_name,
                          &entry)); /* missing is an error here */
    RK_RET(rk__api_load_state(&r->req, &request, &reply));
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk__rest_text_out(r, "loadState", rk_str_from(rk__rest_load_state(reply.state)));
    if (reply.state >= PB_COMMON_LoadState_LoadStateLoading) {
        rk_str message = {NULL, 0};
        ask.db_name = request.db_name;
        ask.collection_name = request.collection_name;
        ask.partition_names = request.partition_names;
        if (rk__api_loading_progress(&r->req, &ask, &progress) != RK_OK) {
            progress.progress = -1;
            message = rk_arena_str(r->req.ctx.arena, rk_str_from(r->req.ctx.err->text));
            rk_err_clear(r->req.ctx.err);
        }
        rk__rest_key(r, "loadProgress");
        rk_json_i64(&r->w, progress.progress);
        rk_json_object_end(&r->w);
        rk__rest_text_out(r, "message", message);
    } else {
        rk_json_object_end(&r->w);
    }
    rk__rest_end(r);
    return RK_OK;
}

rk_code
rk__rest_collections_stats(rk__rest *r)
{
    pb_milvus_GetCollectionStatisticsRequest request = {0};
    pb_milvus_GetCollectionStatisticsResponse reply = {0};
    int64_t rows = 0;

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_collection_statistics(&r->req, &request, &reply));
    if (!rk_str_to_i64(rk__kv_get(&reply.stats, "row_count"), &rows)) {
        rows = 0;
    }
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk__rest_key(r, "rowCount");
    rk_json_i64(&r->w, rows);
    rk_json_object_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

/* Answers when everything is in files, or when the time is over. */
rk_code
rk__rest_collections_flush(rk__rest *r)
{
    const rk_clock *clock = r->req.access->env->clock;
    rk_str db = {NULL, 0}, name = {NULL, 0};
    pb_milvus_FlushRequest request = {.collection_names = {&name, 1}};
    pb_milvus_FlushResponse reply = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &db, &name));
    RK_RET(rk__rest_complete(r));
    request.db_name = db;
    RK_RET(rk__api_flush(&r->req, &request, &reply));
    for (;;) {
        pb_milvus_GetFlushStateRequest ask = {.db_name = db,
                                              .collection_name = name,
                                              .segmentIDs = reply.coll_segIDs.data[0]->value->data,
                                              .flush_ts = reply.coll_flush_ts.data[0]->value};
        pb_milvus_GetFlushStateResponse state = {0};
        RK_RET(rk__api_flush_state(&r->req, &ask, &state));
        if (state.flushed) {
            return rk__rest_void(r);
        }
        if (clock->monotonic_ns(clock->self) >= r->req.ctx.deadline_ns) {
            return rk_fail(r->req.ctx.err, RK_EDEADLINE,
                           "the flush was not finished in time; it goes on");
        }
        clock->sleep_ns(clock->self, INT64_C(20) * 1000000);
    }
}

rk_code
rk__rest_databases_list(rk__rest *r)
{
    pb_milvus_ListDatabasesRequest request = {0};
    pb_milvus_ListDatabasesResponse reply = {0};

    RK_RET(rk__api_list_databases(&r->req, &request, &reply));
    write_names(r, &reply.db_names);
    return RK_OK;
}

rk_code
rk__rest_databases_describe(rk__rest *r)
{
    pb_milvus_DescribeDatabaseRequest request = {0};
    pb_milvus_DescribeDatabaseResponse reply = {0};

    r->request = "DatabaseReqRequiredName";
    RK_RET(rk__rest_need_str(r, "dbName", &request.db_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_describe_database(&r->req, &request, &reply));
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk__rest_text_out(r, "dbName", reply.db_name);
    rk__rest_key(r, "dbID");
    rk_json_i64(&r->w, reply.dbID);
    rk__rest_key(r, "properties");
    rk_json_raw(&r->w, RK_STR("[]"));
    rk_json_object_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

rk_code
rk__rest_partitions_list(rk__rest *r)
{
    pb_milvus_ShowPartitionsRequest request = {0};
    pb_milvus_ShowPartitionsResponse reply = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_show_partitions(&r->req, &request, &reply));
    write_names(r, &reply.partition_names);
    return RK_OK;
}

rk_code
rk__rest_partitions_has(rk__rest *r)
{
    pb_milvus_HasPartitionRequest request = {0};
    pb_milvus_BoolResponse reply = {0};

    r->request = "PartitionReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_need_str(r, "partitionName", &request.partition_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_has_partition(&r->req, &request, &reply));
    write_has(r, reply.value);
    return RK_OK;
}

/* There are no aliases yet: a true answer. */
rk_code
rk__rest_aliases_list(rk__rest *r)
{
    rk_str db = {NULL, 0};
    pb_strs none = {NULL, 0};

    RK_RET(rk__rest_str(r, r->body, "dbName", &db));
    RK_RET(rk__use_db(&r->req, db));
    write_names(r, &none);
    return RK_OK;
}
