/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of rows that came from a client, with the sentences of the public API: first that the
 * message fits the field's type and how many rows it holds, then every value. What passed here is
 * trusted by everything behind: columns, indexes, filters.
 */
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "model/model_private.h"

#define JSON_MAX       65536u
#define SPARSE_PAIR    8u
#define SPARSE_IDX_MAX UINT32_MAX /* not allowed itself */

/* ---- shape ---- */

static rk_code
mismatch(const rk_field *field, rk_err *err)
{
    const char *kind = "";
    const char *need = "int array";

    switch (field->type) {
    case RK_BOOL:
        need = "bool array";
        break;
    case RK_INT64:
        need = "long int array";
        break;
    case RK_FLOAT:
        need = "float32 array";
        break;
    case RK_DOUBLE:
        need = "float64(double) array";
        break;
    case RK_VARCHAR:
        kind = "varchar ";
        need = "string array";
        break;
    case RK_JSON:
        kind = "json ";
        need = "json array";
        break;
    case RK_ARRAY:
        kind = "array ";
        need = "array";
        break;
    case RK_BINARY_VECTOR:
        kind = "binary vector ";
        need = "binary vector";
        break;
    case RK_FLOAT_VECTOR:
        kind = "float vector ";
        need = "float vector";
        break;
    case RK_FLOAT16_VECTOR:
        kind = "float16 vector ";
        need = "float16 vector";
        break;
    case RK_BFLOAT16_VECTOR:
        kind = "bfloat16 vector ";
        need = "bfloat16 vector";
        break;
    case RK_SPARSE_VECTOR:
        kind = "sparse float vector ";
        need = "sparse float vector";
        break;
    case RK_INT8_VECTOR:
        kind = "int8 vector ";
        need = "int8 vector";
        break;
    case RK_NONE:
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        break;
    }
    return rk_fail(err, RK_EINVAL,
                   "%sfield '%.*s' is illegal, array type mismatch: invalid "
                   "parameter[expected=need %s][actual=got nil]",
                   kind, RK_STR_ARG(field->name), need);
}

static uint32_t
vector_member(rk_type type)
{
    switch ((int)type) {
    case RK_BINARY_VECTOR:
        return PB_SCHEMA_VectorField_binary_vector;
    case RK_FLOAT16_VECTOR:
        return PB_SCHEMA_VectorField_float16_vector;
    case RK_BFLOAT16_VECTOR:
        return PB_SCHEMA_VectorField_bfloat16_vector;
    case RK_INT8_VECTOR:
        return PB_SCHEMA_VectorField_int8_vector;
    default:
        return PB_SCHEMA_VectorField_float_vector;
    }
}

/* Length of the payload against the dimension that came with it, and that one against the schema's.
 */
static rk_code
check_dim(const pb_schema_FieldData *data, const rk_field *field, rk_err *err)
{
    if (!rk_type_is_vector(field->type) || field->type == RK_SPARSE_VECTOR ||
        data->field_case != PB_SCHEMA_FieldData_vectors) {
        return RK_OK;
    }
    const pb_schema_VectorField *v = data->vectors;
    size_t bytes = 0;
    size_t dim = v->dim > 0 ? (size_t)v->dim : 0;
    const char *what = "float";

    if (v->data_case != vector_member(field->type)) {
        return RK_OK; /* a mismatch of types is told later */
    }
    switch (v->data_case) {
    case PB_SCHEMA_VectorField_float_vector:
        bytes = v->float_vector->data.n;
        break;
    case PB_SCHEMA_VectorField_float16_vector:
        what = "float16";
        bytes = v->float16_vector.len;
        dim *= 2;
        break;
    case PB_SCHEMA_VectorField_bfloat16_vector:
        what = "bfloat16";
        bytes = v->bfloat16_vector.len;
        dim *= 2;
        break;
    case PB_SCHEMA_VectorField_int8_vector:
        what = "int8";
        bytes = v->int8_vector.len;
        break;
    default:
        bytes = v->binary_vector.len;
        break;
    }
    if (bytes == 0 && data->valid_data.n > 0) {
        return RK_OK; /* only nulls */
    }
    if (v->dim <= 0) {
        return rk_fail_tail(err, RK_EINVAL, "dim(%lld) should be greater than 0",
                            (long long)v->dim);
    }
    if (field->type == RK_BINARY_VECTOR) {
        if (bytes * 8 % dim != 0) {
            return rk_fail_tail(err, RK_EINVAL,
                                "the num(%zu) of all bits should divide the dim(%lld)", bytes * 8,
                                (long long)v->dim);
        }
    } else if (bytes % dim != 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "the length(%zu) of %s data should divide the dim(%lld)", bytes, what,
                            (long long)v->dim);
    }
    if (v->dim != (int64_t)field->dim) {
        return rk_fail(err, RK_EINVAL,
                       "the dim (%lld) of field data(%.*s) is not equal to schema dim (%u): "
                       "invalid parameter[expected=%u][actual=%lld]",
                       (long long)v->dim, RK_STR_ARG(field->name), (unsigned)field->dim,
                       (unsigned)field->dim, (long long)v->dim);
    }
    return RK_OK;
}

rk_code
rk_field_data_rows(const pb_schema_FieldData *data, const rk_field *field, size_t *rows,
                   rk_err *err)
{
    rk__wire wire;

    *rows = 0;
    RK_RET(check_dim(data, field, err));
    if (!rk__wire_payload(&wire, data, field)) {
        return mismatch(field, err);
    }
    if (!rk__wire_of(&wire, data, field)) {
        return rk_fail(err, RK_EINVAL,
                       "the length of valid_data of field(%.*s) is wrong: invalid "
                       "parameter[expected=%zu][actual=%zu]",
                       RK_STR_ARG(field->name), wire.count, data->valid_data.n);
    }
    for (size_t i = 0; wire.valid && !field->nullable && !field->default_value && i < wire.rows;
         i++) {
        if (!wire.valid[i]) {
            return rk_fail_tail(err, RK_EINVAL, "field '%.*s' is not nullable, but row %zu is null",
                                RK_STR_ARG(field->name), i);
        }
    }
    *rows = wire.rows;
    return RK_OK;
}

/* ---- values ---- */

static rk_code
bad_number(double v, rk_err *err)
{
    return rk_fail_tail(err, RK_EINVAL, "value '%s' is not a number or infinity",
                        isnan(v) ? "NaN"
                        : v > 0  ? "+Inf"
                                 : "-Inf");
}

/* Exponent bits all set is NaN or infinity. A first pass without branches, then the search for the
 * culprit. */
static rk_code
check_f32(const uint8_t *values, size_t n, rk_err *err)
{
    uint32_t any = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t e = rk_get_u32le(values + i * 4) & UINT32_C(0x7f800000);
        any |= e == UINT32_C(0x7f800000);
    }
    for (size_t i = 0; any && i < n; i++) {
        float f = pb_f32_at((pb_fixed){values, n}, i);
        if (!isfinite(f)) {
            return bad_number((double)f, err);
        }
    }
    return RK_OK;
}

static rk_code
check_f64(const uint8_t *values, size_t n, rk_err *err)
{
    for (size_t i = 0; i < n; i++) {
        double d = pb_f64_at((pb_fixed){values, n}, i);
        if (!isfinite(d)) {
            return bad_number(d, err);
        }
    }
    return RK_OK;
}

static rk_code
check_half(const uint8_t *values, size_t n, unsigned mask, unsigned fraction, rk_err *err)
{
    for (size_t i = 0; i < n; i++) {
        unsigned h = rk_get_u16le(values + i * 2);
        if ((h & mask) == mask) {
            return bad_number(h & fraction  ? (double)NAN
                              : h & 0x8000u ? -(double)INFINITY
                                            : (double)INFINITY,
                              err);
        }
    }
    return RK_OK;
}

static rk_code
check_range(const uint8_t *values, size_t n, rk_type type, rk_err *err)
{
    int32_t min = type == RK_INT8 ? INT8_MIN : INT16_MIN;
    int32_t max = type == RK_INT8 ? INT8_MAX : INT16_MAX;

    for (size_t i = 0; i < n; i++) {
        int32_t v = (int32_t)rk_get_u32le(values + i * 4);
        if (v < min || v > max) {
            return rk_fail_tail(err, RK_EINVAL, "the %zuth element (%d) out of range: [%d, %d]", i,
                                (int)v, (int)min, (int)max);
        }
    }
    return RK_OK;
}

static rk_code
check_text(const rk_field *field, rk_str s, size_t row, rk_err *err)
{
    if (s.len > field->max_length) {
        return rk_fail_tail(err, RK_EINVAL,
                            "length of varchar field %.*s exceeds max length, row number: %zu, "
                            "length: %zu, max length: %u",
                            RK_STR_ARG(field->name), row, s.len, (unsigned)field->max_length);
    }
    if (rk_utf8_invalid_at(s) != SIZE_MAX) {
        return rk_fail_tail(err, RK_EINVAL,
                            "varchar field %.*s is not valid UTF-8, row number: %zu",
                            RK_STR_ARG(field->name), row);
    }
    return RK_OK;
}

static rk_code
check_json(const rk_field *field, rk_str s, size_t row, rk_err *err)
{
    if (s.len > JSON_MAX) {
        char name[300] = "dynamic field";
        if (!field->dynamic) {
            snprintf(name, sizeof(name), "json field (%.*s)",
                     (int)RK_MIN(field->name.len, (size_t)255), field->name.data);
        }
        return rk_fail(err, RK_EINVAL,
                       "the length (%zu) of %s exceeds max length (%u): invalid "
                       "parameter[expected=valid length json string]"
                       "[actual=length exceeds max length]",
                       s.len, name, JSON_MAX);
    }
    rk_err local; /* rk_err_wrap() needs one */
    err = err ? err : &local;
    unsigned object = field->dynamic ? RK_JSON_OBJECT_ONLY : 0u;
    if (rk_json_check(s, RK_JSON_UTF8 | RK_JSON_VALUE | object, err) != RK_OK) {
        return rk_err_wrap(err, "field '%.*s' holds no valid JSON%s, row number: %zu",
                           RK_STR_ARG(field->name), field->dynamic ? " object" : "", row);
    }
    return RK_OK;
}

static rk_code
check_sparse(rk_str s, rk_err *err)
{
    uint32_t last = 0;

    if (s.len % SPARSE_PAIR != 0) {
        return rk_fail_tail(err, RK_EINVAL, "invalid data length in sparse float vector: %zu",
                            s.len);
    }
    for (size_t at = 0; at < s.len; at += SPARSE_PAIR) {
        uint32_t index = rk_get_u32le(s.data + at);
        float value = pb_f32_at((pb_fixed){(const uint8_t *)s.data + at + 4, 1}, 0);

        if (index == SPARSE_IDX_MAX) {
            return rk_fail_tail(err, RK_EINVAL,
                                "invalid index in sparse float vector: must be less than 2^32-1");
        }
        if (at > 0 && index <= last) {
            return rk_fail_tail(err, RK_EINVAL, "unsorted or same indices in sparse float vector");
        }
        if (!isfinite(value)) {
            return bad_number((double)value, err);
        }
        if (value < 0) {
            return rk_fail_tail(err, RK_EINVAL, "negative value in sparse float vector");
        }
        last = index;
    }
    return RK_OK;
}

static const char *
member_name(uint32_t data_case)
{
    switch (data_case) {
    case PB_SCHEMA_ScalarField_bool_data:
        return "bool";
    case PB_SCHEMA_ScalarField_int_data:
        return "int";
    case PB_SCHEMA_ScalarField_long_data:
        return "int64";
    case PB_SCHEMA_ScalarField_float_data:
        return "float";
    case PB_SCHEMA_ScalarField_double_data:
        return "double";
    case PB_SCHEMA_ScalarField_string_data:
        return "string";
    default:
        return "other";
    }
}

static const char *
element_name(rk_type element)
{
    return element == RK_BOOL      ? "bool"
           : element == RK_INT64   ? "int64"
           : element == RK_FLOAT   ? "float"
           : element == RK_DOUBLE  ? "double"
           : element == RK_VARCHAR ? "string"
                                   : "int";
}

static rk_code
check_array_texts(const rk_field *field, const uint8_t *values, size_t count, size_t row,
                  rk_err *err)
{
    for (size_t i = 0; i < count; i++) {
        rk_str s;
        memcpy(&s, values + i * sizeof(s), sizeof(s));
        if (s.len > field->max_length) {
            return rk_fail_tail(err, RK_EINVAL,
                                "length of Array array field \"%.*s\" exceeds max length, row "
                                "number: %zu, array index: %zu, "
                                "length: %zu, max length: %u",
                                RK_STR_ARG(field->name), row, i, s.len,
                                (unsigned)field->max_length);
        }
        if (rk_utf8_invalid_at(s) != SIZE_MAX) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "array field %.*s is not valid UTF-8, row number: %zu, array index: %zu",
                RK_STR_ARG(field->name), row, i);
        }
    }
    return RK_OK;
}

static rk_code
check_array(const rk_field *field, const pb_schema_ScalarField *array, size_t row, rk_err *err)
{
    const uint8_t *values;
    size_t count;

    if (!rk__array_payload(array, field->element, &values, &count)) {
        return rk_fail(
            err, RK_EINVAL,
            "insert data does not match: invalid parameter[expected=%s array][actual=%s array]",
            element_name(field->element), member_name(array->data_case));
    }
    if (count > field->max_capacity) {
        return rk_fail(err, RK_EINVAL,
                       "the length (%zu) of %zuth array exceeds max capacity (%u): invalid "
                       "parameter[expected=valid length array]"
                       "[actual=array length exceeds max capacity]",
                       count, row, (unsigned)field->max_capacity);
    }
    if (field->element == RK_VARCHAR) {
        return check_array_texts(field, values, count, row, err);
    }
    if (field->element == RK_INT8 || field->element == RK_INT16) {
        return check_range(values, count, field->element, err);
    }
    return RK_OK;
}

/* One value of a kind that is judged row by row. */
static rk_code
check_value(const rk_field *field, const uint8_t *value, size_t row, rk_err *err)
{
    rk_str s = {NULL, 0};
    const pb_schema_ScalarField *array;

    if (field->type == RK_ARRAY) {
        memcpy(&array, value, sizeof(array));
        return check_array(field, array, row, err);
    }
    memcpy(&s, value, sizeof(s));
    switch ((int)field->type) {
    case RK_VARCHAR:
        return check_text(field, s, row, err);
    case RK_JSON:
        return check_json(field, s, row, err);
    default:
        return check_sparse(s, err);
    }
}

static rk_code
check_rows(const rk__wire *wire, const rk_field *field, rk_err *err)
{
    size_t slot = 0;

    for (size_t row = 0; row < wire->rows; row++) {
        bool null = wire->valid && !wire->valid[row];
        if (!null) {
            RK_RET(check_value(field, wire->values + slot * wire->width, row, err));
        }
        slot += !(null && wire->compact);
    }
    return RK_OK;
}

rk_code
rk_field_data_check(const pb_schema_FieldData *data, const rk_field *field, size_t rows,
                    rk_err *err)
{
    rk__wire wire;
    size_t have;

    RK_RET(rk_field_data_rows(data, field, &have, err));
    if (have != rows) {
        return rk_fail(err, RK_EINVAL,
                       "the num_rows (%zu) of field (%.*s) is not equal to passed num_rows (%zu): "
                       "invalid parameter[expected=%zu][actual=%zu]",
                       have, RK_STR_ARG(field->name), rows, rows, have);
    }
    if (!rk__wire_of(&wire, data, field)) {
        return mismatch(field, err);
    }
    size_t dim = field->dim;
    switch (field->type) {
    case RK_INT8:
    case RK_INT16:
        return check_range(wire.values, wire.count, field->type, err);
    case RK_FLOAT:
        return check_f32(wire.values, wire.count, err);
    case RK_DOUBLE:
        return check_f64(wire.values, wire.count, err);
    case RK_FLOAT_VECTOR:
        return check_f32(wire.values, wire.count * dim, err);
    case RK_FLOAT16_VECTOR:
        return check_half(wire.values, wire.count * dim, 0x7c00, 0x03ff, err);
    case RK_BFLOAT16_VECTOR:
        return check_half(wire.values, wire.count * dim, 0x7f80, 0x007f, err);
    case RK_VARCHAR:
    case RK_JSON:
    case RK_ARRAY:
    case RK_SPARSE_VECTOR:
        return check_rows(&wire, field, err);
    case RK_NONE:
    case RK_BOOL:
    case RK_INT32:
    case RK_INT64:
    case RK_BINARY_VECTOR:
    case RK_INT8_VECTOR:
        break;
    }
    return RK_OK;
}
