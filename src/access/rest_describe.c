/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: the description of a collection. Beside the schema it holds indexes and load state, asked
 * for by calls of their own; when one of those fails the description is still given and what went
 * wrong stands in `message`.
 */
#include "access/rest.h"

static void
write_pairs(rk__rest *r, const pb_common_KeyValuePair_list *pairs)
{
    rk_json_array(&r->w);
    for (size_t i = 0; i < pairs->n; i++) {
        rk_json_object(&r->w);
        rk__rest_text_out(r, "key", pairs->data[i]->key);
        if (pairs->data[i]->value.len > 0) {
            rk__rest_text_out(r, "value", pairs->data[i]->value);
        }
        rk_json_object_end(&r->w);
    }
    rk_json_array_end(&r->w);
}

static void
write_default(rk__rest *r, const pb_schema_ValueField *v)
{
    rk__rest_key(r, "defaultValue");
    rk_json_object(&r->w);
    rk__rest_key(r, "Data");
    rk_json_object(&r->w);
    switch (v->data_case) {
    case PB_SCHEMA_ValueField_bool_data:
        rk__rest_key(r, "BoolData");
        rk_json_bool(&r->w, v->bool_data);
        break;
    case PB_SCHEMA_ValueField_int_data:
        rk__rest_key(r, "IntData");
        rk_json_i64(&r->w, v->int_data);
        break;
    case PB_SCHEMA_ValueField_long_data:
        rk__rest_key(r, "LongData");
        rk_json_i64(&r->w, v->long_data);
        break;
    case PB_SCHEMA_ValueField_float_data:
        rk__rest_key(r, "FloatData");
        rk_json_f32(&r->w, v->float_data);
        break;
    case PB_SCHEMA_ValueField_double_data:
        rk__rest_key(r, "DoubleData");
        rk_json_f64(&r->w, v->double_data);
        break;
    case PB_SCHEMA_ValueField_string_data:
        rk__rest_text_out(r, "StringData", v->string_data);
        break;
    default:
        break;
    }
    rk_json_object_end(&r->w);
    rk_json_object_end(&r->w);
}

static void
write_flag(rk__rest *r, const char *key, bool value)
{
    rk__rest_key(r, key);
    rk_json_bool(&r->w, value);
}

static void
write_field(rk__rest *r, const pb_schema_FieldSchema *f)
{
    rk_json_object(&r->w);
    rk__rest_text_out(r, "name", f->name);
    rk__rest_key(r, "id");
    rk_json_i64(&r->w, f->fieldID);
    rk__rest_text_out(r, "type", rk__rest_type_name(f->data_type));
    write_flag(r, "primaryKey", f->is_primary_key);
    write_flag(r, "partitionKey", f->is_partition_key);
    write_flag(r, "clusteringKey", f->is_clustering_key);
    write_flag(r, "autoId", f->autoID);
    rk__rest_text_out(r, "description", f->description);
    write_flag(r, "nullable", f->nullable);
    if (f->type_params.n > 0) {
        rk__rest_key(r, "params");
        write_pairs(r, &f->type_params);
    }
    if (f->data_type == RK_ARRAY) {
        rk__rest_text_out(r, "elementType", rk__rest_type_name(f->element_type));
    }
    if (f->default_value && f->default_value->data_case != 0) {
        write_default(r, f->default_value);
    }
    rk_json_object_end(&r->w);
}

/* The secondary calls: their failures go to |message|, not to the code. */
static void
write_indexes(rk__rest *r, rk_str db, rk_str collection, rk_buf *message)
{
    pb_milvus_DescribeIndexRequest request = {.db_name = db, .collection_name = collection};
    pb_milvus_DescribeIndexResponse reply = {0};

    rk__rest_key(r, "indexes");
    rk_json_array(&r->w);
    if (rk__api_describe_index(&r->req, &request, &reply) != RK_OK) {
        rk_buf_str(message, rk_str_from(r->req.ctx.err->text));
        rk_err_clear(r->req.ctx.err);
    }
    for (size_t i = 0; i < reply.index_descriptions.n; i++) {
        const pb_milvus_IndexDescription *d = reply.index_descriptions.data[i];
        rk_str metric = rk__kv_get(&d->params, "metric_type");
        rk_json_object(&r->w);
        rk__rest_text_out(r, "indexName", d->index_name);
        rk__rest_text_out(r, "fieldName", d->field_name);
        rk__rest_text_out(r, "metricType", metric.len > 0 ? metric : RK_STR("COSINE"));
        rk_json_object_end(&r->w);
    }
    rk_json_array_end(&r->w);
}

static void
write_load(rk__rest *r, rk_str db, rk_str collection, rk_buf *message)
{
    pb_milvus_GetLoadStateRequest request = {.db_name = db, .collection_name = collection};
    pb_milvus_GetLoadStateResponse reply = {0};

    if (rk__api_load_state(&r->req, &request, &reply) != RK_OK) {
        rk_buf_str(message, rk_str_from(r->req.ctx.err->text));
        rk_err_clear(r->req.ctx.err);
    }
    rk__rest_text_out(r, "load", rk_str_from(rk__rest_load_state(reply.state)));
}

static rk_str
level_name(int32_t level)
{
    static const char *const names[] = {"Strong", "Session", "Bounded", "Eventually", "Customized"};
    return rk_str_from(level >= 0 && (size_t)level < RK_COUNT(names) ? names[level] : "Bounded");
}

static void
write_description(rk__rest *r, const pb_milvus_DescribeCollectionResponse *d, rk_str db,
                  rk_str name, rk_buf *message)
{
    bool auto_id = false;

    for (size_t i = 0; i < d->schema->fields.n; i++) {
        auto_id |= d->schema->fields.data[i]->autoID;
    }
    rk_json_object(&r->w);
    rk__rest_text_out(r, "collectionName", d->collection_name);
    rk__rest_key(r, "collectionID");
    rk_json_i64(&r->w, d->collectionID);
    rk__rest_text_out(r, "description", d->schema->description);
    write_flag(r, "autoId", auto_id);
    rk__rest_key(r, "fields");
    rk_json_array(&r->w);
    for (size_t i = 0; i < d->schema->fields.n; i++) {
        write_field(r, d->schema->fields.data[i]);
    }
    rk_json_array_end(&r->w);
    rk__rest_key(r, "functions");
    rk_json_raw(&r->w, RK_STR("[]"));
    rk__rest_key(r, "structFields");
    rk_json_raw(&r->w, RK_STR("[]"));
    rk__rest_key(r, "aliases");
    rk_json_raw(&r->w, RK_STR("[]"));
    write_indexes(r, db, name, message);
    write_load(r, db, name, message);
    rk__rest_key(r, "shardsNum");
    rk_json_i64(&r->w, d->shards_num);
    rk__rest_key(r, "partitionsNum");
    rk_json_i64(&r->w, d->num_partitions);
    rk__rest_text_out(r, "consistencyLevel", level_name(d->consistency_level));
    write_flag(r, "enableDynamicField", d->schema->enable_dynamic_field);
    rk__rest_key(r, "properties");
    write_pairs(r, &d->properties);
    rk_json_object_end(&r->w);
}

rk_code
rk__rest_collections_describe(rk__rest *r)
{
    pb_milvus_DescribeCollectionRequest request = {0};
    pb_milvus_DescribeCollectionResponse reply = {0};
    rk_buf message = {0};

    r->request = "CollectionNameReq";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(rk__api_describe_collection(&r->req, &request, &reply));
    rk__rest_data(r);
    write_description(r, &reply, request.db_name, request.collection_name, &message);
    rk__rest_text_out(r, "message", rk_buf_view(&message));
    rk__rest_end(r);
    rk_buf_deinit(&message);
    return RK_OK;
}
