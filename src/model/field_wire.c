/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One view of FieldData for all types (see model_private.h), and the conversions between wire form
 * and column form of a value.
 *
 * Clients may send null rows in two ways: a payload with a placeholder for each, or one without.
 * Which it is follows from the counts; when nothing is null the two are the same.
 */
#include "model/model_private.h"

size_t
rk__wire_width(const rk_field *field)
{
    switch (field->type) {
    case RK_BOOL:
        return 1;
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
    case RK_FLOAT:
        return 4;
    case RK_INT64:
    case RK_DOUBLE:
        return 8;
    case RK_VARCHAR:
    case RK_JSON:
    case RK_SPARSE_VECTOR:
        return sizeof(rk_str);
    case RK_ARRAY:
        return sizeof(pb_schema_ScalarField *);
    case RK_BINARY_VECTOR:
    case RK_FLOAT_VECTOR:
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
    case RK_INT8_VECTOR:
        return rk_field_row_bytes(field);
    case RK_NONE:
        break;
    }
    return 1;
}

static bool
put(rk__wire *out, const void *values, size_t count)
{
    out->values = values;
    out->count = count;
    return true;
}

static bool
scalar_payload(rk__wire *out, const pb_schema_ScalarField *s, rk_type type)
{
    switch (type) {
    case RK_BOOL:
        return s->data_case == PB_SCHEMA_ScalarField_bool_data &&
               put(out, s->bool_data->data.data, s->bool_data->data.n);
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        return s->data_case == PB_SCHEMA_ScalarField_int_data &&
               put(out, s->int_data->data.data, s->int_data->data.n);
    case RK_INT64:
        return s->data_case == PB_SCHEMA_ScalarField_long_data &&
               put(out, s->long_data->data.data, s->long_data->data.n);
    case RK_FLOAT:
        return s->data_case == PB_SCHEMA_ScalarField_float_data &&
               put(out, s->float_data->data.bytes, s->float_data->data.n);
    case RK_DOUBLE:
        return s->data_case == PB_SCHEMA_ScalarField_double_data &&
               put(out, s->double_data->data.bytes, s->double_data->data.n);
    case RK_VARCHAR:
        return s->data_case == PB_SCHEMA_ScalarField_string_data &&
               put(out, s->string_data->data.data, s->string_data->data.n);
    case RK_JSON:
        return s->data_case == PB_SCHEMA_ScalarField_json_data &&
               put(out, s->json_data->data.data, s->json_data->data.n);
    case RK_ARRAY:
        return s->data_case == PB_SCHEMA_ScalarField_array_data &&
               put(out, s->array_data->data.data, s->array_data->data.n);
    case RK_NONE:
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

static bool
dense(rk__wire *out, const void *bytes, size_t len)
{
    put(out, bytes, len / out->width);
    if (len % out->width != 0) {
        out->count = len;
        return false;
    }
    return true;
}

static bool
vector_payload(rk__wire *out, const pb_schema_VectorField *v, rk_type type)
{
    switch (type) {
    case RK_FLOAT_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_float_vector &&
               dense(out, v->float_vector->data.bytes, v->float_vector->data.n * 4);
    case RK_BINARY_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_binary_vector &&
               dense(out, v->binary_vector.data, v->binary_vector.len);
    case RK_FLOAT16_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_float16_vector &&
               dense(out, v->float16_vector.data, v->float16_vector.len);
    case RK_BFLOAT16_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_bfloat16_vector &&
               dense(out, v->bfloat16_vector.data, v->bfloat16_vector.len);
    case RK_INT8_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_int8_vector &&
               dense(out, v->int8_vector.data, v->int8_vector.len);
    case RK_SPARSE_VECTOR:
        return v->data_case == PB_SCHEMA_VectorField_sparse_float_vector &&
               put(out, v->sparse_float_vector->contents.data, v->sparse_float_vector->contents.n);
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
        break;
    }
    return false;
}

static size_t
count_true(const bool *valid, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        count += valid[i];
    }
    return count;
}

bool
rk__wire_payload(rk__wire *out, const pb_schema_FieldData *data, const rk_field *field)
{
    *out = (rk__wire){.width = rk__wire_width(field)};
    if (data->valid_data.n > 0 && count_true(data->valid_data.data, data->valid_data.n) == 0) {
        /* only nulls: the member may be left out altogether */
        if (data->field_case == 0 ||
            (data->field_case == PB_SCHEMA_FieldData_scalars && data->scalars->data_case == 0) ||
            (data->field_case == PB_SCHEMA_FieldData_vectors && data->vectors->data_case == 0)) {
            return true;
        }
    }
    if (rk_type_is_vector(field->type)) {
        return data->field_case == PB_SCHEMA_FieldData_vectors &&
               vector_payload(out, data->vectors, field->type);
    }
    return data->field_case == PB_SCHEMA_FieldData_scalars &&
           scalar_payload(out, data->scalars, field->type);
}

bool
rk__wire_of(rk__wire *out, const pb_schema_FieldData *data, const rk_field *field)
{
    if (!rk__wire_payload(out, data, field)) {
        return false;
    }
    out->rows = out->count;
    if (data->valid_data.n == 0) {
        return true;
    }
    size_t valid = count_true(data->valid_data.data, data->valid_data.n);
    out->rows = data->valid_data.n;
    if (valid == out->rows) {
        return out->count == out->rows;
    }
    out->valid = data->valid_data.data;
    out->compact = out->count != out->rows;
    return out->count == out->rows || out->count == valid;
}
