/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schemas: from the public CollectionSchema message to fields with parsed parameters.
 *
 * The message is copied into the schema's own arena and everything else points into that copy, so
 * that a schema lives as long as somebody holds a reference and borrows from nobody. What is
 * checked here is what columns rely on: known types, one primary key, sizes in range, distinct
 * names and ids. Rules of the public API beyond that (reserved names, counts) are the proxy's.
 */
#include "model/schema.h"

#include <stdio.h>

#define FIELDS_MAX       1024u
#define DIM_MAX          32768
#define LENGTH_MAX       65535
#define CAPACITY_MAX     4096
#define SCHEMA_ARENA_MAX (UINT64_C(64) << 20)

typedef struct type_row {
    rk_type type;
    const char *name;
    size_t size_bytes;
} type_row;

static const type_row types[] = {
    {RK_BOOL, "Bool", 1},
    {RK_INT8, "Int8", 1},
    {RK_INT16, "Int16", 2},
    {RK_INT32, "Int32", 4},
    {RK_INT64, "Int64", 8},
    {RK_FLOAT, "Float", 4},
    {RK_DOUBLE, "Double", 8},
    {RK_VARCHAR, "VarChar", 0},
    {RK_ARRAY, "Array", 0},
    {RK_JSON, "JSON", 0},
    {RK_BINARY_VECTOR, "BinaryVector", 0},
    {RK_FLOAT_VECTOR, "FloatVector", 0},
    {RK_FLOAT16_VECTOR, "Float16Vector", 0},
    {RK_BFLOAT16_VECTOR, "BFloat16Vector", 0},
    {RK_SPARSE_VECTOR, "SparseFloatVector", 0},
    {RK_INT8_VECTOR, "Int8Vector", 0},
};

static const type_row *
find_type(int32_t type)
{
    for (size_t i = 0; i < RK_COUNT(types); i++) {
        if ((int32_t)types[i].type == type) {
            return &types[i];
        }
    }
    return NULL;
}

bool
rk_type_is_integer(rk_type t)
{
    return t >= RK_INT8 && t <= RK_INT64;
}

const char *
rk_type_name(rk_type t)
{
    const type_row *row = find_type((int32_t)t);
    return row ? row->name : "None";
}

size_t
rk_type_bytes(rk_type t)
{
    const type_row *row = find_type((int32_t)t);
    return row ? row->size_bytes : 0;
}

size_t
rk_field_row_bytes(const rk_field *field)
{
    switch (field->type) {
    case RK_BINARY_VECTOR:
        return field->dim / 8;
    case RK_FLOAT_VECTOR:
        return (size_t)field->dim * 4;
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
        return (size_t)field->dim * 2;
    case RK_INT8_VECTOR:
        return field->dim;
    case RK_NONE:
    case RK_BOOL:
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
    case RK_INT64:
    case RK_FLOAT:
    case RK_DOUBLE:
    case RK_VARCHAR:
    case RK_ARRAY:
    case RK_JSON:
    case RK_SPARSE_VECTOR:
        break;
    }
    return rk_type_bytes(field->type);
}

/* ---- parameters ---- */

static rk_code
parse_param(uint32_t *out, const pb_schema_FieldSchema *pb, const char *key, int64_t max,
            rk_err *err)
{
    for (size_t i = 0; i < pb->type_params.n; i++) {
        int64_t value;

        if (!rk_str_is(pb->type_params.data[i]->key, key)) {
            continue;
        }
        rk_str text = rk_str_trim(pb->type_params.data[i]->value);
        if (!rk_str_to_i64(text, &value) || value < 1 || value > max) {
            return rk_fail(err, RK_EILLEGAL_SCHEMA,
                           "%s of field %.*s is %.*s, should be a number in range 1 ~ %lld", key,
                           RK_STR_ARG(pb->name), RK_STR_ARG(text), (long long)max);
        }
        *out = (uint32_t)value;
        return RK_OK;
    }
    return rk_fail(err, RK_EILLEGAL_SCHEMA, "type param(%s) should be specified for field %.*s",
                   key, RK_STR_ARG(pb->name));
}

static bool
is_element_type(int32_t type)
{
    return type == RK_BOOL || (type >= RK_INT8 && type <= RK_INT64) || type == RK_FLOAT ||
           type == RK_DOUBLE || type == RK_VARCHAR;
}

static rk_code
parse_type(rk_field *field, const pb_schema_FieldSchema *pb, rk_err *err)
{
    if (!find_type(pb->data_type)) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA,
                       "field %.*s has data type %d, which this build does not know",
                       RK_STR_ARG(pb->name), (int)pb->data_type);
    }
    field->type = (rk_type)pb->data_type;
    if (rk_type_is_vector(field->type) && field->type != RK_SPARSE_VECTOR) {
        bool binary = field->type == RK_BINARY_VECTOR;
        RK_RET(parse_param(&field->dim, pb, "dim", binary ? 8 * (int64_t)DIM_MAX : DIM_MAX, err));
        if (binary && field->dim % 8 != 0) {
            return rk_fail(err, RK_EILLEGAL_SCHEMA,
                           "invalid dimension: %u of field %.*s. binary vector dimension should be "
                           "multiple of 8",
                           (unsigned)field->dim, RK_STR_ARG(pb->name));
        }
    }
    if (field->type == RK_ARRAY) {
        if (!is_element_type(pb->element_type)) {
            return rk_fail(err, RK_EILLEGAL_SCHEMA,
                           "element type %d of field %.*s is not supported", (int)pb->element_type,
                           RK_STR_ARG(pb->name));
        }
        field->element = (rk_type)pb->element_type;
        RK_RET(parse_param(&field->max_capacity, pb, "max_capacity", CAPACITY_MAX, err));
    }
    if (field->type == RK_VARCHAR || field->element == RK_VARCHAR) {
        RK_RET(parse_param(&field->max_length, pb, "max_length", LENGTH_MAX, err));
    }
    return RK_OK;
}

static bool
default_fits(const rk_field *field, const pb_schema_ValueField *value)
{
    switch (field->type) {
    case RK_BOOL:
        return value->data_case == PB_SCHEMA_ValueField_bool_data;
    case RK_INT8:
        return value->data_case == PB_SCHEMA_ValueField_int_data && value->int_data >= INT8_MIN &&
               value->int_data <= INT8_MAX;
    case RK_INT16:
        return value->data_case == PB_SCHEMA_ValueField_int_data && value->int_data >= INT16_MIN &&
               value->int_data <= INT16_MAX;
    case RK_INT32:
        return value->data_case == PB_SCHEMA_ValueField_int_data;
    case RK_INT64:
        return value->data_case == PB_SCHEMA_ValueField_long_data;
    case RK_FLOAT:
        return value->data_case == PB_SCHEMA_ValueField_float_data;
    case RK_DOUBLE:
        return value->data_case == PB_SCHEMA_ValueField_double_data;
    case RK_VARCHAR:
        return value->data_case == PB_SCHEMA_ValueField_string_data &&
               value->string_data.len <= field->max_length;
    case RK_NONE:
    case RK_ARRAY:
    case RK_JSON:
    case RK_BINARY_VECTOR:
    case RK_FLOAT_VECTOR:
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
    case RK_SPARSE_VECTOR:
    case RK_INT8_VECTOR:
        break;
    }
    return false;
}

static rk_code
parse_field(rk_field *field, const pb_schema_FieldSchema *pb, rk_err *err)
{
    field->id = pb->fieldID;
    field->name = pb->name;
    field->primary = pb->is_primary_key;
    field->auto_id = pb->autoID;
    field->nullable = pb->nullable;
    field->dynamic = pb->is_dynamic;
    field->partition_key = pb->is_partition_key;
    field->clustering_key = pb->is_clustering_key;
    field->pb = pb;
    if (pb->name.len == 0) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA, "a field of the schema has no name");
    }
    RK_RET(parse_type(field, pb, err));
    if (field->dynamic && field->type != RK_JSON) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA, "dynamic field %.*s is %s, should be JSON",
                       RK_STR_ARG(pb->name), rk_type_name(field->type));
    }
    if (field->primary && (field->nullable || pb->default_value)) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA, "primary field not support %s",
                       field->nullable ? "null" : "default_value");
    }
    if (pb->default_value && pb->default_value->data_case != 0) {
        if (!default_fits(field, pb->default_value)) {
            return rk_fail(err, RK_EILLEGAL_SCHEMA,
                           "default_value of field %.*s does not fit its type %s",
                           RK_STR_ARG(pb->name), rk_type_name(field->type));
        }
        field->default_value = pb->default_value;
    }
    return RK_OK;
}

/* ---- schema ---- */

static rk_code
check_distinct(const rk_schema *schema, size_t at, rk_err *err)
{
    const rk_field *field = &schema->fields[at];

    if (field->id == RK_FIELD_TIMESTAMP) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA,
                       "field %.*s has id %d, which is the row timestamp's",
                       RK_STR_ARG(field->name), RK_FIELD_TIMESTAMP);
    }
    for (size_t i = 0; i < at; i++) {
        if (rk_str_eq(schema->fields[i].name, field->name)) {
            return rk_fail(err, RK_EILLEGAL_SCHEMA, "duplicated field name: %.*s",
                           RK_STR_ARG(field->name));
        }
        if (field->id != 0 && schema->fields[i].id == field->id) { /* 0: ids are not given yet */
            return rk_fail(err, RK_EILLEGAL_SCHEMA, "fields %.*s and %.*s have the same id %lld",
                           RK_STR_ARG(schema->fields[i].name), RK_STR_ARG(field->name),
                           (long long)field->id);
        }
    }
    return RK_OK;
}

static rk_code
parse_fields(rk_schema *schema, rk_err *err)
{
    size_t primaries = 0;

    for (size_t i = 0; i < schema->fields_len; i++) {
        rk_field *field = &schema->fields[i];

        RK_RET(parse_field(field, schema->pb->fields.data[i], err));
        RK_RET(check_distinct(schema, i, err));
        if (field->primary) {
            primaries++;
            schema->primary = i;
            if (field->type != RK_INT64 && field->type != RK_VARCHAR) {
                return rk_fail(
                    err, RK_EILLEGAL_SCHEMA,
                    "the data type of primary key should be Int64 or VarChar, field %.*s is %s",
                    RK_STR_ARG(field->name), rk_type_name(field->type));
            }
        }
        if (field->dynamic) {
            if (schema->dynamic >= 0) {
                return rk_fail(err, RK_EILLEGAL_SCHEMA,
                               "there is more than one dynamic field, field name = %.*s",
                               RK_STR_ARG(field->name));
            }
            schema->dynamic = (int32_t)i;
        }
    }
    if (primaries != 1) {
        return rk_fail(err, RK_EILLEGAL_SCHEMA, "%s in schema %.*s",
                       primaries ? "there are more than one primary key"
                                 : "primary key is not specified",
                       RK_STR_ARG(schema->name));
    }
    return RK_OK;
}

rk_code
rk_schema_new(rk_schema **out, const pb_schema_CollectionSchema *pb, int64_t version, rk_err *err)
{
    rk_schema *schema = rk_alloc_zero(1, sizeof(*schema));
    rk_code code = RK_OK;
    void *copy = NULL;

    *out = NULL;
    if (!schema) {
        return rk_fail(err, RK_ENOMEM, "no memory for a schema");
    }
    atomic_init(&schema->refs, 1);
    schema->dynamic = -1;
    schema->version = version;
    schema->arena = rk_arena_new(SCHEMA_ARENA_MAX);
    if (!schema->arena ||
        pb_copy(&pb_schema_CollectionSchema_desc, &copy, pb, schema->arena) != RK_OK) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory for the schema of %.*s", RK_STR_ARG(pb->name)));
    }
    schema->pb = copy;
    schema->name = schema->pb->name;
    schema->fields_len = schema->pb->fields.n;
    if (schema->fields_len == 0 || schema->fields_len > FIELDS_MAX) {
        RK_ERR(rk_fail(err, RK_EILLEGAL_SCHEMA, "schema %.*s has %zu fields, should be 1 ~ %u",
                       RK_STR_ARG(schema->name), schema->fields_len, FIELDS_MAX));
    }
    if (schema->pb->struct_array_fields.n > 0) {
        RK_ERR(rk_fail(err, RK_EILLEGAL_SCHEMA,
                       "struct array fields are not supported, field name = %.*s",
                       RK_STR_ARG(schema->pb->struct_array_fields.data[0]->name)));
    }
    schema->fields = RK_ARENA_ARRAY(schema->arena, rk_field, schema->fields_len);
    if (!schema->fields) {
        RK_ERR(
            rk_fail(err, RK_ENOMEM, "no memory for the schema of %.*s", RK_STR_ARG(schema->name)));
    }
    RK_ERR(parse_fields(schema, err));
    *out = schema;
    schema = NULL;
out:
    rk_schema_unref(schema);
    return code;
}

rk_schema *
rk_schema_ref(rk_schema *schema)
{
    atomic_fetch_add_explicit(&schema->refs, 1,
                              memory_order_relaxed); /* the caller holds one already */
    return schema;
}

void
rk_schema_unref(rk_schema *schema)
{
    /* release: our reads come before the free; acquire in the last holder: after all of theirs */
    if (schema && atomic_fetch_sub_explicit(&schema->refs, 1, memory_order_acq_rel) == 1) {
        rk_arena_free(schema->arena);
        rk_free(schema);
    }
}

const rk_field *
rk_schema_find(const rk_schema *schema, rk_str name)
{
    for (size_t i = 0; i < schema->fields_len; i++) {
        if (rk_str_eq(schema->fields[i].name, name)) {
            return &schema->fields[i];
        }
    }
    return NULL;
}

const rk_field *
rk_schema_by_id(const rk_schema *schema, int64_t id)
{
    for (size_t i = 0; i < schema->fields_len; i++) {
        if (schema->fields[i].id == id) {
            return &schema->fields[i];
        }
    }
    return NULL;
}
