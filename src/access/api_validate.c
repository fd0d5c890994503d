/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of CreateCollection: everything a schema may not be is said here, before the
 * coordinator sees it.
 *
 * Order follows the public server, so that of several mistakes the same one is reported: name,
 * shards, counts, then field names and types one by one, then the rules between fields, then
 * properties. What the protocol knows and this build does not hold (functions, struct arrays,
 * partition keys, namespaces, nullable vectors, expiry) is refused by name: a collection that was
 * created does what its schema says.
 *
 * Pool thread; pure but for the arena.
 */
#include <stdio.h>

#include "access/access_private.h"

#define DIM_MIN 2

static bool
is_vector_number(int32_t type)
{
    return type >= RK_BINARY_VECTOR && type <= RK_INT8_VECTOR;
}

static const char *
data_type_name(int32_t type)
{
    switch (type) {
    case PB_SCHEMA_DataType_None:
        return "None";
    case PB_SCHEMA_DataType_String:
        return "String";
    case PB_SCHEMA_DataType_Geometry:
        return "Geometry";
    case PB_SCHEMA_DataType_Text:
        return "Text";
    case PB_SCHEMA_DataType_Timestamptz:
        return "Timestamptz";
    case PB_SCHEMA_DataType_ArrayOfVector:
        return "ArrayOfVector";
    case PB_SCHEMA_DataType_ArrayOfStruct:
        return "ArrayOfStruct";
    case PB_SCHEMA_DataType_Struct:
        return "Struct";
    default:
        return rk_type_name((rk_type)type);
    }
}

static bool
is_known_scalar(int32_t type)
{
    switch (type) {
    case RK_BOOL:
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
    case RK_INT64:
    case RK_FLOAT:
    case RK_DOUBLE:
    case RK_VARCHAR:
        return true;
    default:
        return false;
    }
}

/* ---- one field ---- */

static rk_code
check_type(const pb_schema_FieldSchema *f, rk_err *err)
{
    if (f->data_type == PB_SCHEMA_DataType_String) {
        return rk_fail_tail(err, RK_EINVAL,
                            "string data type not supported yet, please use VarChar type instead");
    }
    if (f->data_type == PB_SCHEMA_DataType_None) {
        return rk_fail_tail(err, RK_EINVAL, "data type None is not valid");
    }
    if (f->data_type == PB_SCHEMA_DataType_ArrayOfVector) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "array of vector can only be in the struct array field, field name: %.*s",
            RK_STR_ARG(f->name));
    }
    if (is_known_scalar(f->data_type) || f->data_type == RK_JSON ||
        is_vector_number(f->data_type)) {
        return RK_OK;
    }
    if (f->data_type != RK_ARRAY) {
        return rk_fail_tail(err, RK_EUNIMPLEMENTED,
                            "data type %s of field %.*s is not built in yet",
                            data_type_name(f->data_type), RK_STR_ARG(f->name));
    }
    if (f->element_type == PB_SCHEMA_DataType_None) {
        return rk_fail_tail(err, RK_EINVAL, "element data type None is not valid");
    }
    if (f->element_type == PB_SCHEMA_DataType_String) {
        return rk_fail_tail(err, RK_EINVAL,
                            "string data type not supported yet, please use VarChar type instead");
    }
    if (!is_known_scalar(f->element_type)) {
        return rk_fail_tail(err, RK_EINVAL, "element type %s is not supported",
                            data_type_name(f->element_type));
    }
    return RK_OK;
}

static rk_code
check_dim(const rk__limits *limits, const pb_schema_FieldSchema *f, rk_err *err)
{
    rk_str text = rk__kv_get(&f->type_params, "dim");
    bool binary = f->data_type == RK_BINARY_VECTOR;
    int64_t max = limits->dimension;
    int64_t dim = 0;

    if (f->data_type == RK_SPARSE_VECTOR) {
        return text.data
                   ? rk_fail_tail(
                         err, RK_EINVAL,
                         "dim should not be specified for sparse vector field %.*s(%" PRId64 ")",
                         RK_STR_ARG(f->name), f->fieldID)
                   : RK_OK;
    }
    if (!text.data) {
        return rk_fail_tail(err, RK_EINVAL,
                            "dimension is not defined in field type params of field %.*s, check "
                            "type param `dim` for vector field",
                            RK_STR_ARG(f->name));
    }
    if (!rk_str_to_i64(text, &dim) || dim < DIM_MIN) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid dimension: %.*s. should be in range %d ~ %" PRId64,
                            RK_STR_ARG(text), DIM_MIN, max);
    }
    if (binary && dim % 8 != 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid dimension: %" PRId64
                            " of field %.*s. binary vector dimension should be multiple of 8. ",
                            dim, RK_STR_ARG(f->name));
    }
    max = binary ? max * 8 : max;
    if (dim > max) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid dimension: %" PRId64
                            " of field %.*s. %s vector dimension should be in range "
                            "%d ~ %" PRId64,
                            dim, RK_STR_ARG(f->name), binary ? "binary" : "float", DIM_MIN, max);
    }
    return RK_OK;
}

static rk_code
check_max_length(const rk__limits *limits, const pb_schema_FieldSchema *f, rk_str collection,
                 rk_err *err)
{
    rk_str text = rk__kv_get(&f->type_params, "max_length");
    int64_t length = 0;

    if (!text.data) {
        return rk_fail_tail(
            err, RK_EMISSING,
            "type param(max_length) should be specified for the field(%.*s) of collection %.*s",
            RK_STR_ARG(f->name), RK_STR_ARG(collection));
    }
    if (!rk_str_to_i64(text, &length) || length < 1 || length > limits->varchar_length) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "the maximum length specified for the field(%.*s) should be in (0, %" PRId64
            "], but got %.*s instead",
            RK_STR_ARG(f->name), limits->varchar_length, RK_STR_ARG(text));
    }
    return RK_OK;
}

static rk_code
check_max_capacity(const rk__limits *limits, const pb_schema_FieldSchema *f, rk_str collection,
                   rk_err *err)
{
    rk_str text = rk__kv_get(&f->type_params, "max_capacity");
    int64_t capacity = 0;

    if (!text.data) {
        return rk_fail_tail(
            err, RK_EMISSING,
            "type param(max_capacity) should be specified for array field %.*s of collection %.*s",
            RK_STR_ARG(f->name), RK_STR_ARG(collection));
    }
    if (!rk_str_to_i64(text, &capacity)) {
        return rk_fail_tail(err, RK_EINVAL,
                            "the value for max_capacity of field %.*s must be an integer",
                            RK_STR_ARG(f->name));
    }
    if (capacity < 1 || capacity > limits->array_capacity) {
        return rk_fail_tail(err, RK_EINVAL,
                            "the maximum capacity specified for a Array should be in (0, %" PRId64
                            "]",
                            limits->array_capacity);
    }
    return RK_OK;
}

/* The member of ValueField that a default of |type| travels in. */
static uint32_t
default_case(int32_t type)
{
    switch (type) {
    case RK_BOOL:
        return PB_SCHEMA_ValueField_bool_data;
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        return PB_SCHEMA_ValueField_int_data;
    case RK_INT64:
        return PB_SCHEMA_ValueField_long_data;
    case RK_FLOAT:
        return PB_SCHEMA_ValueField_float_data;
    case RK_DOUBLE:
        return PB_SCHEMA_ValueField_double_data;
    case RK_VARCHAR:
        return PB_SCHEMA_ValueField_string_data;
    default:
        return 0;
    }
}

static const char *
default_name(uint32_t kind)
{
    switch (kind) {
    case PB_SCHEMA_ValueField_bool_data:
        return "Bool";
    case PB_SCHEMA_ValueField_int_data:
        return "Int";
    case PB_SCHEMA_ValueField_long_data:
        return "Int64";
    case PB_SCHEMA_ValueField_float_data:
        return "Float";
    case PB_SCHEMA_ValueField_double_data:
        return "Double";
    case PB_SCHEMA_ValueField_string_data:
        return "VarChar";
    default:
        return "None";
    }
}

static rk_code
check_default(const pb_schema_FieldSchema *f, rk_err *err)
{
    const pb_schema_ValueField *value = f->default_value;
    uint32_t want = default_case(f->data_type);
    int64_t length = 0;

    if (!value || value->data_case == 0) {
        return RK_OK;
    }
    if (want == 0) {
        return rk_fail_tail(err, RK_EINVAL, "type not support default_value, type:%s, name:%.*s",
                            data_type_name(f->data_type), RK_STR_ARG(f->name));
    }
    if (value->data_case != want) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "type (%s) of field (%.*s) is not equal to the type(DataType_%s) of default_value",
            data_type_name(f->data_type), RK_STR_ARG(f->name), default_name(value->data_case));
    }
    if (f->data_type == RK_INT8 && (value->int_data < INT8_MIN || value->int_data > INT8_MAX)) {
        return rk_fail_tail(err, RK_EINVAL,
                            "[%d] out of range [-128, 127] for the default_value of field (%.*s)",
                            value->int_data, RK_STR_ARG(f->name));
    }
    if (f->data_type == RK_INT16 && (value->int_data < INT16_MIN || value->int_data > INT16_MAX)) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "[%d] out of range [-32768, 32767] for the default_value of field (%.*s)",
            value->int_data, RK_STR_ARG(f->name));
    }
    if (f->data_type == RK_VARCHAR &&
        rk_str_to_i64(rk__kv_get(&f->type_params, "max_length"), &length) &&
        value->string_data.len > (size_t)length) {
        return rk__fail_expected(err, "valid length string", "string length exceeds max length",
                                 "the length (%zu) of string exceeds max length (%" PRId64 ")",
                                 value->string_data.len, length);
    }
    return RK_OK;
}

static rk_code
check_field(const rk__limits *limits, const pb_schema_FieldSchema *f, rk_str collection,
            rk_err *err)
{
    RK_RET(rk__check_field_name(limits, f->name, err));
    RK_RET(check_type(f, err));
    if (f->is_dynamic) {
        return rk_fail_tail(err, RK_EINVAL, "cannot explicitly set a field as a dynamic field");
    }
    if (f->is_function_output) {
        return rk__fail_unbuilt(err, "functions and their output fields are");
    }
    if (is_vector_number(f->data_type)) {
        RK_RET(check_dim(limits, f, err));
        if (f->nullable) {
            return rk_fail_tail(err, RK_EINVAL, "vector type not support null, field name = %.*s",
                                RK_STR_ARG(f->name));
        }
    }
    if (f->data_type == RK_VARCHAR || (f->data_type == RK_ARRAY && f->element_type == RK_VARCHAR)) {
        RK_RET(check_max_length(limits, f, collection, err));
    }
    if (f->data_type == RK_ARRAY) {
        RK_RET(check_max_capacity(limits, f, collection, err));
    }
    return check_default(f, err);
}

/* ---- rules between fields ---- */

static rk_code
check_primary(const pb_schema_CollectionSchema *schema, rk_err *err)
{
    const pb_schema_FieldSchema *primary = NULL;
    const pb_schema_FieldSchema *automatic = NULL;

    for (size_t i = 0; i < schema->fields.n; i++) {
        const pb_schema_FieldSchema *f = schema->fields.data[i];
        if (f->is_primary_key) {
            if (primary) {
                return rk_fail_tail(err, RK_EINVAL,
                                    "there are more than one primary key, field name = %.*s, %.*s",
                                    RK_STR_ARG(primary->name), RK_STR_ARG(f->name));
            }
            primary = f;
        }
    }
    if (!primary) {
        return rk_fail_tail(err, RK_EMISSING, "primary key is not specified");
    }
    if (primary->data_type != RK_INT64 && primary->data_type != RK_VARCHAR) {
        return rk_fail_tail(err, RK_EINVAL,
                            "the data type of primary key should be Int64 or VarChar");
    }
    if (primary->nullable) {
        return rk_fail_tail(err, RK_EINVAL, "primary field not support null");
    }
    if (primary->default_value && primary->default_value->data_case != 0) {
        return rk_fail_tail(err, RK_EINVAL, "primary field not support default_value");
    }
    for (size_t i = 0; i < schema->fields.n; i++) {
        const pb_schema_FieldSchema *f = schema->fields.data[i];
        if (!f->autoID) {
            continue;
        }
        if (automatic) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "only one field can speficy AutoID with true, field name = %.*s, %.*s",
                RK_STR_ARG(automatic->name), RK_STR_ARG(f->name));
        }
        automatic = f;
        if (f != primary) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "only primary field can speficy AutoID with true, field name = %.*s",
                RK_STR_ARG(f->name));
        }
    }
    return RK_OK;
}

static rk_code
check_special_keys(const pb_milvus_CreateCollectionRequest *in,
                   const pb_schema_CollectionSchema *schema, rk_err *err)
{
    const pb_schema_FieldSchema *clustering = NULL;
    const pb_schema_FieldSchema *partition = NULL;

    for (size_t i = 0; i < schema->fields.n; i++) {
        const pb_schema_FieldSchema *f = schema->fields.data[i];
        if (f->is_partition_key) {
            if (partition) {
                return rk_fail_tail(
                    err, RK_EINVAL,
                    "there are more than one partition key, field name = %.*s, %.*s",
                    RK_STR_ARG(partition->name), RK_STR_ARG(f->name));
            }
            partition = f;
            if (f->is_primary_key) {
                return rk_fail_tail(err, RK_EINVAL,
                                    "the partition key field must not be primary field");
            }
            if (f->nullable) {
                return rk_fail_tail(err, RK_EINVAL, "partition key field not support nullable");
            }
            if (f->data_type != RK_INT64 && f->data_type != RK_VARCHAR) {
                return rk_fail_tail(err, RK_EINVAL,
                                    "the data type of partition key should be Int64 or VarChar");
            }
        }
        if (f->is_clustering_key) {
            if (clustering) {
                return rk_fail_tail(
                    err, RK_EILLEGAL_SCHEMA,
                    "there are more than one clustering key, field name = %.*s, %.*s",
                    RK_STR_ARG(clustering->name), RK_STR_ARG(f->name));
            }
            clustering = f;
            if (is_vector_number(f->data_type)) {
                return rk_fail_tail(err, RK_ECLUSTERING_KEY, "field %.*s", RK_STR_ARG(f->name));
            }
            if (!is_known_scalar(f->data_type) || f->data_type == RK_BOOL) {
                return rk_fail_tail(err, RK_EILLEGAL_SCHEMA,
                                    "clustering key field %.*s has unsupported data type %s",
                                    RK_STR_ARG(f->name), data_type_name(f->data_type));
            }
        }
    }
    if (in->num_partitions > 0 && !partition) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "num_partitions should only be specified with partition key field enabled");
    }
    return partition ? rk__fail_unbuilt(err, "partition keys are") : RK_OK;
}

static rk_code
check_fields(const rk__limits *limits, const pb_schema_CollectionSchema *schema, rk_str collection,
             rk_err *err)
{
    size_t vectors = 0;

    if (schema->fields.n > (size_t)limits->fields) {
        return rk_fail_tail(err, RK_EINVAL, "maximum field's number should be limited to %" PRId64,
                            limits->fields);
    }
    for (size_t i = 0; i < schema->fields.n; i++) {
        vectors += is_vector_number(schema->fields.data[i]->data_type) ? 1 : 0;
    }
    if (vectors > (size_t)limits->vector_fields) {
        return rk_fail_tail(err, RK_EINVAL,
                            "maximum vector field's number should be limited to %" PRId64,
                            limits->vector_fields);
    }
    for (size_t i = 0; i < schema->fields.n; i++) {
        RK_RET(check_field(limits, schema->fields.data[i], collection, err));
        for (size_t j = 0; j < i; j++) { /* at most 256 fields */
            if (rk_str_eq(schema->fields.data[i]->name, schema->fields.data[j]->name)) {
                return rk_fail_tail(err, RK_EINVAL, "duplicated field name %.*s found",
                                    RK_STR_ARG(schema->fields.data[i]->name));
            }
        }
    }
    RK_RET(check_primary(schema, err));
    if (vectors == 0) {
        return rk_fail_tail(err, RK_EINVAL, "schema does not contain vector field");
    }
    return RK_OK;
}

static rk_code
check_unbuilt(const pb_schema_CollectionSchema *schema, rk_err *err)
{
    if (schema->functions.n > 0) {
        return rk__fail_unbuilt(err, "functions are");
    }
    if (schema->struct_array_fields.n > 0) {
        return rk__fail_unbuilt(err, "struct array fields are");
    }
    if (schema->enable_namespace) {
        return rk__fail_unbuilt(err, "namespaces are");
    }
    if (schema->external_source.len > 0 || schema->external_spec.len > 0) {
        return rk__fail_unbuilt(err, "external collections are");
    }
    return RK_OK;
}

/* ---- properties ---- */

#define TTL_MAX INT64_C(3155760000)

static rk_code
check_property(rk_str key, rk_str value, rk_err *err)
{
    bool flag = false;

    if (rk_str_is(key, "collection.ttl.seconds")) {
        int64_t ttl = 0;
        if (!rk_str_to_i64(value, &ttl)) {
            return rk_fail_tail(err, RK_EINVAL, "collection TTL is not a number: %.*s",
                                RK_STR_ARG(value));
        }
        if (ttl < -1 || ttl > TTL_MAX) {
            return rk_fail_tail(err, RK_EINVAL,
                                "collection TTL is out of range, expect [-1, %" PRId64
                                "], got %" PRId64,
                                TTL_MAX, ttl);
        }
        return ttl > 0 ? rk__fail_unbuilt(err, "expiry of rows (collection.ttl.seconds) is")
                       : RK_OK;
    }
    if (rk_str_is(key, "ttl_field")) {
        return rk__fail_unbuilt(err, "expiry of rows (ttl_field) is");
    }
    if (rk_str_is(key, "query_mode") && !rk_str_is(value, "large_topk")) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid query_mode value \"%.*s\", valid values: [large_topk]",
                            RK_STR_ARG(value));
    }
    if (rk_str_is(key, "partitionkey.isolation") && rk_str_to_bool(value, &flag) && flag) {
        return rk_fail_tail(
            err, RK_EILLEGAL_SCHEMA,
            "partition key isolation mode is enabled but no partition key field is set");
    }
    if (rk_str_is(key, "cipher.enabled") && rk_str_to_bool(value, &flag) && flag) {
        return rk__fail_unbuilt(err, "encryption (cipher.enabled) is");
    }
    return RK_OK;
}

rk_code
rk__check_create(rk__req *req, const pb_milvus_CreateCollectionRequest *in,
                 pb_schema_CollectionSchema **schema)
{
    const rk__limits *limits = &req->access->limits;
    rk_err *err = req->ctx.err;
    pb_schema_CollectionSchema *s = NULL;
    void *decoded = NULL;

    *schema = NULL;
    RK_RET(rk__check_collection_name(limits, in->collection_name, err));
    if (in->shards_num < 0 || in->shards_num > limits->shards) {
        return rk_fail_tail(err, RK_EINVAL, "maximum shards's number should be limited to %" PRId64,
                            limits->shards);
    }
    if (pb_decode(&pb_schema_CollectionSchema_desc, &decoded, in->schema, req->ctx.arena, err) !=
        RK_OK) {
        return rk_err_wrap(err, "the schema of the request cannot be decoded");
    }
    s = (pb_schema_CollectionSchema *)decoded;
    for (size_t i = 0; i < s->fields.n; i++) {
        s->fields.data[i]->name = rk_str_trim(s->fields.data[i]->name);
    }
    RK_RET(check_unbuilt(s, err));
    if (s->description.len > (size_t)limits->description) {
        return rk_fail_tail(err, RK_EINVAL,
                            "the length of a collection description must not exceed %" PRId64
                            " bytes",
                            limits->description);
    }
    RK_RET(check_fields(limits, s, in->collection_name, err));
    RK_RET(check_special_keys(in, s, err));
    for (size_t i = 0; i < in->properties.n; i++) {
        RK_RET(check_property(in->properties.data[i]->key, in->properties.data[i]->value, err));
    }
    if (in->consistency_level < PB_COMMON_ConsistencyLevel_Strong ||
        in->consistency_level > PB_COMMON_ConsistencyLevel_Customized) {
        return rk_fail_tail(err, RK_EINVAL, "consistency level %d is not one of 0..4",
                            in->consistency_level);
    }
    s->name = in->collection_name;
    s->dbName = req->db;
    s->autoID = false; /* deprecated: the field's own flag counts */
    *schema = s;
    return RK_OK;
}

/* ---- repeated creation ---- */

static bool
same_field(rk__req *req, const pb_schema_FieldSchema *a, const pb_schema_FieldSchema *b)
{
    pb_schema_FieldSchema x = *a;
    pb_schema_FieldSchema y = *b;
    rk_str xs, ys;

    if (!rk__kv_same_set(&a->type_params, &b->type_params) ||
        !rk__kv_same_set(&a->index_params, &b->index_params)) {
        return false;
    }
    x.fieldID = y.fieldID = 0;
    x.type_params.n = y.type_params.n = 0;
    x.index_params.n = y.index_params.n = 0;
    return pb_encode_arena(&pb_schema_FieldSchema_desc, &x, &xs, req->ctx.arena) == RK_OK &&
           pb_encode_arena(&pb_schema_FieldSchema_desc, &y, &ys, req->ctx.arena) == RK_OK &&
           rk_str_eq(xs, ys);
}

bool
rk__same_collection(rk__req *req, const pb_rk_CollectionInfo *have,
                    const pb_rk_CreateCollectionRequest *want)
{
    size_t n = 0;

    if (!have->schema || !rk_str_eq(have->schema->description, want->schema->description) ||
        have->shards != want->shards || have->consistency_level != want->consistency_level ||
        have->schema->enable_dynamic_field != want->schema->enable_dynamic_field ||
        !rk__kv_same_set(&have->properties, &want->properties)) {
        return false;
    }
    for (size_t i = 0; i < have->schema->fields.n; i++) {
        const pb_schema_FieldSchema *f = have->schema->fields.data[i];
        if (f->is_dynamic || f->fieldID < RK_FIELD_FIRST) {
            continue; /* added by the server */
        }
        if (n == want->schema->fields.n || !same_field(req, f, want->schema->fields.data[n])) {
            return false;
        }
        n++;
    }
    return n == want->schema->fields.n;
}
