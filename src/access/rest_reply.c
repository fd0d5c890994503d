/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the JSON of answers: the envelope, names of types and states, and rows.
 *
 * Rows come as columns and go as flat objects: numbers and texts native, JSON fields as documents,
 * arrays as arrays, float vectors as arrays, the packed vector types as base64, sparse ones as an
 * object from index to value. The dynamic field is flattened into the row. int64 values are text
 * when the client asked so.
 */
#include <stdio.h>

#include "access/rest.h"

void
rk__rest_key(rk__rest *r, const char *key)
{
    rk_json_key(&r->w, rk_str_from(key));
}

void
rk__rest_data(rk__rest *r)
{
    rk_json_object(&r->w);
    rk__rest_key(r, "code");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "data");
}

void
rk__rest_end(rk__rest *r)
{
    rk_json_object_end(&r->w);
}

rk_code
rk__rest_void(rk__rest *r)
{
    rk__rest_data(r);
    rk_json_object(&r->w);
    rk_json_object_end(&r->w);
    rk__rest_end(r);
    return RK_OK;
}

void
rk__rest_i64_out(rk__rest *r, int64_t value)
{
    if (r->text_int64) {
        char text[24];
        int len = snprintf(text, sizeof(text), "%" PRId64, value);
        rk_json_str(&r->w, (rk_str){text, (size_t)len});
    } else {
        rk_json_i64(&r->w, value);
    }
}

void
rk__rest_text_out(rk__rest *r, const char *key, rk_str text)
{
    rk__rest_key(r, key);
    rk_json_str(&r->w, text);
}

void
rk__rest_ids(rk__rest *r, const pb_schema_IDs *ids, size_t from, size_t n)
{
    rk_json_array(&r->w);
    for (size_t i = from; ids && i < from + n; i++) {
        rk_pk key = rk_ids_at(ids, i);
        if (key.is_text) {
            rk_json_str(&r->w, key.text);
        } else {
            rk__rest_i64_out(r, key.number);
        }
    }
    rk_json_array_end(&r->w);
}

/* ---- names ---- */

static const struct type_name {
    int32_t type;
    const char *name;
} type_names[] = {
    {PB_SCHEMA_DataType_Bool, "Bool"},
    {PB_SCHEMA_DataType_Int8, "Int8"},
    {PB_SCHEMA_DataType_Int16, "Int16"},
    {PB_SCHEMA_DataType_Int32, "Int32"},
    {PB_SCHEMA_DataType_Int64, "Int64"},
    {PB_SCHEMA_DataType_Float, "Float"},
    {PB_SCHEMA_DataType_Double, "Double"},
    {PB_SCHEMA_DataType_VarChar, "VarChar"},
    {PB_SCHEMA_DataType_Array, "Array"},
    {PB_SCHEMA_DataType_JSON, "JSON"},
    {PB_SCHEMA_DataType_Geometry, "Geometry"},
    {PB_SCHEMA_DataType_Text, "Text"},
    {PB_SCHEMA_DataType_Timestamptz, "Timestamptz"},
    {PB_SCHEMA_DataType_BinaryVector, "BinaryVector"},
    {PB_SCHEMA_DataType_FloatVector, "FloatVector"},
    {PB_SCHEMA_DataType_Float16Vector, "Float16Vector"},
    {PB_SCHEMA_DataType_BFloat16Vector, "BFloat16Vector"},
    {PB_SCHEMA_DataType_SparseFloatVector, "SparseFloatVector"},
    {PB_SCHEMA_DataType_Int8Vector, "Int8Vector"},
    {PB_SCHEMA_DataType_ArrayOfVector, "ArrayOfVector"},
};

rk_str
rk__rest_type_name(int32_t type)
{
    for (size_t i = 0; i < RK_COUNT(type_names); i++) {
        if (type_names[i].type == type) {
            return rk_str_from(type_names[i].name);
        }
    }
    return RK_STR("None");
}

bool
rk__rest_type(rk_str name, int32_t *out)
{
    for (size_t i = 0; i < RK_COUNT(type_names); i++) {
        if (rk_str_is(name, type_names[i].name)) {
            *out = type_names[i].type;
            return true;
        }
    }
    return false;
}

const char *
rk__rest_load_state(int32_t state)
{
    switch (state) {
    case PB_COMMON_LoadState_LoadStateLoaded:
        return "LoadStateLoaded";
    case PB_COMMON_LoadState_LoadStateLoading:
        return "LoadStateLoading";
    case PB_COMMON_LoadState_LoadStateNotLoad:
        return "LoadStateNotLoad";
    default:
        return "LoadStateNotExist";
    }
}

/* ---- values ---- */

static void
write_base64(rk__rest *r, rk_str bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    rk_buf text = {0};
    const uint8_t *p = (const uint8_t *)bytes.data;

    rk_buf_byte(&text, '"');
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (left > 2 ? p[i + 2] : 0u);
        char four[4] = {letters[v >> 18], letters[(v >> 12) & 63],
                        left > 1 ? letters[(v >> 6) & 63] : '=', left > 2 ? letters[v & 63] : '='};
        rk_buf_append(&text, four, sizeof(four));
    }
    rk_buf_byte(&text, '"');
    if (text.failed) {
        r->w.out->failed = true;
    } else {
        rk_json_raw(&r->w, rk_buf_view(&text));
    }
    rk_buf_deinit(&text);
}

static bool
write_array(rk__rest *r, const pb_schema_ScalarField *array)
{
    rk_json_writer *w = &r->w;

    rk_json_array(w);
    switch (array->data_case) {
    case PB_SCHEMA_ScalarField_bool_data:
        for (size_t i = 0; i < array->bool_data->data.n; i++) {
            rk_json_bool(w, array->bool_data->data.data[i]);
        }
        break;
    case PB_SCHEMA_ScalarField_int_data:
        for (size_t i = 0; i < array->int_data->data.n; i++) {
            rk_json_i64(w, array->int_data->data.data[i]);
        }
        break;
    case PB_SCHEMA_ScalarField_long_data:
        for (size_t i = 0; i < array->long_data->data.n; i++) {
            rk__rest_i64_out(r, array->long_data->data.data[i]);
        }
        break;
    case PB_SCHEMA_ScalarField_float_data:
        for (size_t i = 0; i < array->float_data->data.n; i++) {
            rk_json_f32(w, pb_f32_at(array->float_data->data, i));
        }
        break;
    case PB_SCHEMA_ScalarField_double_data:
        for (size_t i = 0; i < array->double_data->data.n; i++) {
            rk_json_f64(w, pb_f64_at(array->double_data->data, i));
        }
        break;
    case PB_SCHEMA_ScalarField_string_data:
        for (size_t i = 0; i < array->string_data->data.n; i++) {
            rk_json_str(w, array->string_data->data.data[i]);
        }
        break;
    default:
        break;
    }
    rk_json_array_end(w);
    return true;
}

/* False when the column is shorter than the row asked for. */
static bool
write_scalar(rk__rest *r, const pb_schema_ScalarField *s, size_t row)
{
    rk_json_writer *w = &r->w;

    switch (s->data_case) {
    case PB_SCHEMA_ScalarField_bool_data:
        return row < s->bool_data->data.n &&
               ((void)rk_json_bool(w, s->bool_data->data.data[row]), true);
    case PB_SCHEMA_ScalarField_int_data:
        return row < s->int_data->data.n &&
               ((void)rk_json_i64(w, s->int_data->data.data[row]), true);
    case PB_SCHEMA_ScalarField_long_data:
        return row < s->long_data->data.n &&
               ((void)rk__rest_i64_out(r, s->long_data->data.data[row]), true);
    case PB_SCHEMA_ScalarField_float_data:
        return row < s->float_data->data.n &&
               ((void)rk_json_f32(w, pb_f32_at(s->float_data->data, row)), true);
    case PB_SCHEMA_ScalarField_double_data:
        return row < s->double_data->data.n &&
               ((void)rk_json_f64(w, pb_f64_at(s->double_data->data, row)), true);
    case PB_SCHEMA_ScalarField_string_data:
        return row < s->string_data->data.n &&
               ((void)rk_json_str(w, s->string_data->data.data[row]), true);
    case PB_SCHEMA_ScalarField_json_data:
        return row < s->json_data->data.n &&
               ((void)rk_json_raw(w, s->json_data->data.data[row]), true);
    case PB_SCHEMA_ScalarField_array_data:
        return row < s->array_data->data.n && write_array(r, s->array_data->data.data[row]);
    default:
        return false;
    }
}

static bool
write_packed(rk__rest *r, rk_str all, size_t width, size_t row)
{
    if (width == 0 || row >= all.len / width) {
        return false;
    }
    write_base64(r, (rk_str){all.data + row * width, width});
    return true;
}

static bool
write_vector(rk__rest *r, const pb_schema_VectorField *v, size_t row)
{
    size_t dim = v->dim > 0 ? (size_t)v->dim : 0;
    rk_json_writer *w = &r->w;

    switch (v->data_case) {
    case PB_SCHEMA_VectorField_float_vector:
        if (dim == 0 || row >= v->float_vector->data.n / dim) {
            return false;
        }
        rk_json_array(w);
        for (size_t i = 0; i < dim; i++) {
            rk_json_f32(w, pb_f32_at(v->float_vector->data, row * dim + i));
        }
        rk_json_array_end(w);
        return true;
    case PB_SCHEMA_VectorField_binary_vector:
        return write_packed(r, v->binary_vector, dim / 8, row);
    case PB_SCHEMA_VectorField_float16_vector:
        return write_packed(r, v->float16_vector, dim * 2, row);
    case PB_SCHEMA_VectorField_bfloat16_vector:
        return write_packed(r, v->bfloat16_vector, dim * 2, row);
    case PB_SCHEMA_VectorField_int8_vector:
        return write_packed(r, v->int8_vector, dim, row);
    case PB_SCHEMA_VectorField_sparse_float_vector:
        if (row >= v->sparse_float_vector->contents.n) {
            return false;
        }
        rk_json_object(w);
        for (size_t i = 0; i + 8 <= v->sparse_float_vector->contents.data[row].len; i += 8) {
            const char *pair = v->sparse_float_vector->contents.data[row].data + i;
            char index[16];
            int len = snprintf(index, sizeof(index), "%u", rk_get_u32le(pair));
            rk_json_key(w, (rk_str){index, (size_t)len});
            rk_json_f32(w, pb_f32_at((pb_fixed){(const uint8_t *)pair + 4, 1}, 0));
        }
        rk_json_object_end(w);
        return true;
    default:
        return false;
    }
}

static rk_code
write_dynamic(rk__rest *r, rk_str document)
{
    rk_json_iter iter;
    rk_json_value key, value;
    rk_str name;

    rk_json_iter_init(&iter, rk_json_root(document));
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        if (value.type != RK_JSON_NULL) {
            RK_RET(rk_json_get_str(key, &name, r->req.ctx.arena));
            rk_json_key(&r->w, name);
            rk_json_raw(&r->w, value.raw);
        }
    }
    return RK_OK;
}

rk_code
rk__rest_row(rk__rest *r, const pb_schema_FieldData_list *columns, size_t row)
{
    for (size_t i = 0; i < columns->n; i++) {
        const pb_schema_FieldData *c = columns->data[i];
        bool null = row < c->valid_data.n && !c->valid_data.data[row];
        bool ok = false;
        if (c->is_dynamic) {
            if (!null && c->field_case == PB_SCHEMA_FieldData_scalars &&
                c->scalars->data_case == PB_SCHEMA_ScalarField_json_data &&
                row < c->scalars->json_data->data.n) {
                RK_RET(write_dynamic(r, c->scalars->json_data->data.data[row]));
            }
            continue;
        }
        rk_json_key(&r->w, c->field_name);
        if (null) {
            rk_json_null(&r->w);
            continue;
        }
        if (c->field_case == PB_SCHEMA_FieldData_scalars && c->scalars) {
            ok = write_scalar(r, c->scalars, row);
        } else if (c->field_case == PB_SCHEMA_FieldData_vectors && c->vectors) {
            ok = write_vector(r, c->vectors, row);
        }
        if (!ok) {
            return rk_fail_tail(r->req.ctx.err, RK_EINTERNAL,
                                "failed to serialize output field %.*s", RK_STR_ARG(c->field_name));
        }
    }
    return RK_OK;
}
