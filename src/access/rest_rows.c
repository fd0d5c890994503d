/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: rows in JSON become columns.
 *
 * Row keys are compared exactly; of equal keys in one row the first counts. What is no field goes
 * to the dynamic field, or is an error without one. A column that no row mentions is left out, so
 * that defaults, nulls and generated keys are filled in where all inserts have them filled in.
 * Every other check of values is that of Insert.
 *
 * Errors have code 1804, "fail to deal the insert data".
 */
#include <stdarg.h>
#include <stdio.h>

#include "access/rest.h"

typedef struct column {
    const rk_field *field;
    size_t present; /* rows that have a value */
    size_t named;   /* rows that mention the field, null included */
    bool *valid;
    union {
        void *any;
        bool *bools;
        int32_t *ints;
        int64_t *longs;
        float *floats;
        double *doubles;
        rk_str *texts; /* VarChar, JSON, sparse */
        pb_schema_ScalarField **arrays;
        uint8_t *bytes; /* dense vectors, rows of |width| */
    } v;
    size_t width;
    size_t seen_row; /* row + 1 that mentioned it last */
} column;

static rk_code RK_PRINTF(2, 3) fail_data(rk__rest *r, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0) {
        text[0] = '\0';
    }
    va_end(args);
    return rk_fail(r->req.ctx.err, RK_EREST_INSERT_DATA, "fail to deal the insert data, error: %s",
                   text);
}

static rk_code
fail_value(rk__rest *r, const column *c, size_t row, rk_json_value value)
{
    return fail_data(r, "row %zu: %.*s is no value for field %.*s of type %s", row,
                     (int)RK_MIN(value.raw.len, (size_t)64), value.raw.data,
                     RK_STR_ARG(c->field->name), rk_type_name(c->field->type));
}

static size_t
value_size(const rk_field *field)
{
    switch (field->type) {
    case RK_BOOL:
        return sizeof(bool);
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        return sizeof(int32_t);
    case RK_INT64:
        return sizeof(int64_t);
    case RK_FLOAT:
        return sizeof(float);
    case RK_DOUBLE:
        return sizeof(double);
    case RK_VARCHAR:
    case RK_JSON:
    case RK_SPARSE_VECTOR:
        return sizeof(rk_str);
    case RK_ARRAY:
        return sizeof(pb_schema_ScalarField *);
    case RK_NONE:
        return 0;
    case RK_BINARY_VECTOR:
    case RK_FLOAT_VECTOR:
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
    case RK_INT8_VECTOR:
        break;
    }
    return rk_field_row_bytes(field);
}

static rk_code
columns_new(rk__rest *r, const rk_schema *schema, size_t rows, column **out)
{
    rk_arena *arena = r->req.ctx.arena;
    column *columns = RK_ARENA_ARRAY(arena, column, schema->fields_len);

    *out = columns;
    for (size_t i = 0; columns && i < schema->fields_len; i++) {
        columns[i].field = &schema->fields[i];
        columns[i].width = value_size(&schema->fields[i]);
        columns[i].valid = RK_ARENA_ARRAY(arena, bool, rows + 1);
        columns[i].v.any = rk_arena_zero(arena, rows + 1, RK_MAX(columns[i].width, (size_t)1));
        if (!columns[i].valid || !columns[i].v.any) {
            columns = NULL;
        }
    }
    return columns ? RK_OK : rk__fail_memory(r->req.ctx.err);
}

/* ---- one value ---- */

/* A whole number, bare or quoted. */
static bool
whole(rk__rest *r, rk_json_value value, int64_t *out)
{
    rk_str text;

    if (rk_json_get_i64(value, out)) {
        return true;
    }
    return value.type == RK_JSON_STRING &&
           rk_json_get_str(value, &text, r->req.ctx.arena) == RK_OK && rk_str_to_i64(text, out);
}

/* The same within the range of |type|, which is one of the three small integers. */
static bool
whole_of(rk__rest *r, rk_json_value value, rk_type type, int32_t *out)
{
    int64_t max = type == RK_INT8 ? INT8_MAX : type == RK_INT16 ? INT16_MAX : INT32_MAX;
    int64_t integer = 0;

    if (!whole(r, value, &integer) || integer > max || integer < -max - 1) {
        return false;
    }
    *out = (int32_t)integer;
    return true;
}

static bool
real(rk__rest *r, rk_json_value value, double *out)
{
    rk_str text;

    if (rk_json_get_f64(value, out)) {
        return true;
    }
    return value.type == RK_JSON_STRING &&
           rk_json_get_str(value, &text, r->req.ctx.arena) == RK_OK && rk_str_to_f64(text, out);
}

static bool
boolean(rk__rest *r, rk_json_value value, bool *out)
{
    rk_str text;

    if (rk_json_get_bool(value, out)) {
        return true;
    }
    return value.type == RK_JSON_STRING &&
           rk_json_get_str(value, &text, r->req.ctx.arena) == RK_OK && rk_str_to_bool(text, out);
}

/* The float nearest to |d|; false when it is past the largest. */
static bool
narrow(double d, float *out)
{
    *out = (float)d;
    return d <= 3.4028235677973366e38 && d >= -3.4028235677973366e38;
}

static rk_code
array_value(rk__rest *r, column *c, size_t row, rk_json_value value)
{
    rk_arena *arena = r->req.ctx.arena;
    pb_schema_ScalarField *s = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    rk_str text;
    rk_json_iter iter;
    rk_json_value item;
    size_t i = 0;

    if (value.type == RK_JSON_STRING) { /* a string that holds an array */
        RK_RET(rk_json_get_str(value, &text, arena));
        if (rk_json_check(text, RK_JSON_UTF8, r->req.ctx.err) != RK_OK) {
            return fail_value(r, c, row, value);
        }
        value = rk_json_root(text);
    }
    if (value.type != RK_JSON_ARRAY) {
        return fail_value(r, c, row, value);
    }
    size_t n = rk_json_len(value);
    void *room = rk_arena_zero(arena, n + 1, sizeof(rk_str)); /* enough for any element */
    void *holder = rk_arena_zero(arena, 1, sizeof(pb_strs));  /* each array message is one list */
    if (!s || !room || !holder) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, value);
    for (; rk_json_iter_next(&iter, NULL, &item); i++) {
        double number = 0;
        bool ok = false;
        switch ((int)c->field->element) {
        case RK_BOOL:
            ok = boolean(r, item, &((bool *)room)[i]);
            break;
        case RK_INT64:
            ok = whole(r, item, &((int64_t *)room)[i]);
            break;
        case RK_FLOAT:
            ok = real(r, item, &number) && narrow(number, &((float *)room)[i]);
            break;
        case RK_DOUBLE:
            ok = real(r, item, &((double *)room)[i]);
            break;
        case RK_VARCHAR:
            ok = item.type == RK_JSON_STRING &&
                 rk_json_get_str(item, &((rk_str *)room)[i], arena) == RK_OK;
            break;
        default:
            ok = whole_of(r, item, c->field->element, &((int32_t *)room)[i]);
            break;
        }
        if (!ok) {
            return fail_data(r, "row %zu: element %zu of array field %.*s is no %s: %.*s", row, i,
                             RK_STR_ARG(c->field->name), rk_type_name(c->field->element),
                             (int)RK_MIN(item.raw.len, (size_t)64), item.raw.data);
        }
    }
    switch ((int)c->field->element) {
    case RK_BOOL:
        s->data_case = PB_SCHEMA_ScalarField_bool_data;
        s->bool_data = (pb_schema_BoolArray *)holder;
        s->bool_data->data = (pb_bools){(bool *)room, n};
        break;
    case RK_INT64:
        s->data_case = PB_SCHEMA_ScalarField_long_data;
        s->long_data = (pb_schema_LongArray *)holder;
        s->long_data->data = (pb_i64s){(int64_t *)room, n};
        break;
    case RK_FLOAT:
        s->data_case = PB_SCHEMA_ScalarField_float_data;
        s->float_data = (pb_schema_FloatArray *)holder;
        s->float_data->data = (pb_fixed){(const uint8_t *)room, n};
        break;
    case RK_DOUBLE:
        s->data_case = PB_SCHEMA_ScalarField_double_data;
        s->double_data = (pb_schema_DoubleArray *)holder;
        s->double_data->data = (pb_fixed){(const uint8_t *)room, n};
        break;
    case RK_VARCHAR:
        s->data_case = PB_SCHEMA_ScalarField_string_data;
        s->string_data = (pb_schema_StringArray *)holder;
        s->string_data->data = (pb_strs){(rk_str *)room, n};
        break;
    default:
        s->data_case = PB_SCHEMA_ScalarField_int_data;
        s->int_data = (pb_schema_IntArray *)holder;
        s->int_data->data = (pb_i32s){(int32_t *)room, n};
        break;
    }
    c->v.arrays[row] = s;
    return RK_OK;
}

static rk_code
one_value(rk__rest *r, column *c, size_t row, rk_json_value value)
{
    double number = 0;
    bool ok = false;
    rk_str bytes = {NULL, 0};

    if (rk_type_is_vector(c->field->type)) {
        if (rk__rest_vector(r, c->field, value, &bytes) != RK_OK) {
            char why[1024];
            snprintf(why, sizeof(why), "%.1000s", r->req.ctx.err->text);
            return fail_data(r, "row %zu, field %.*s: %s", row, RK_STR_ARG(c->field->name), why);
        }
        if (c->field->type == RK_SPARSE_VECTOR) {
            c->v.texts[row] = bytes;
        } else {
            memcpy(c->v.bytes + c->present * c->width, bytes.data,
                   c->width); /* compact: valid rows only */
        }
        return RK_OK;
    }
    switch ((int)c->field->type) {
    case RK_BOOL:
        ok = boolean(r, value, &c->v.bools[row]);
        break;
    case RK_INT64:
        ok = whole(r, value, &c->v.longs[row]);
        break;
    case RK_FLOAT:
        ok = real(r, value, &number) && narrow(number, &c->v.floats[row]);
        break;
    case RK_DOUBLE:
        ok = real(r, value, &c->v.doubles[row]);
        break;
    case RK_VARCHAR:
        ok = value.type != RK_JSON_OBJECT && value.type != RK_JSON_ARRAY;
        if (ok) {
            RK_RET(rk__rest_text(r, value, &c->v.texts[row]));
        }
        break;
    case RK_JSON:
        c->v.texts[row] = value.raw;
        ok = true;
        break;
    case RK_ARRAY:
        return array_value(r, c, row, value);
    default:
        ok = whole_of(r, value, c->field->type, &c->v.ints[row]);
        break;
    }
    return ok ? RK_OK : fail_value(r, c, row, value);
}

/* ---- one row ---- */

static rk_code
dynamic_value(rk__rest *r, column *c, size_t row, rk_json_writer *w, rk_str name,
              rk_json_value value)
{
    if (!c) {
        return fail_data(r, "has pass more field without dynamic schema, please check it");
    }
    if (rk_str_is(name, RK_DYNAMIC_NAME)) {
        return fail_data(r, "row %zu: use of %s as a key is not allowed", row, RK_DYNAMIC_NAME);
    }
    rk_json_key(w, name);
    rk_json_raw(w, value.raw);
    return RK_OK;
}

static rk_code
member(rk__rest *r, column *columns, const rk_schema *schema, size_t row, rk_json_writer *w,
       rk_str name, rk_json_value value)
{
    const rk_field *field = rk_schema_find(schema, name);
    column *c = field && !field->dynamic ? &columns[field - schema->fields] : NULL;

    if (!c) {
        return dynamic_value(r, schema->dynamic >= 0 ? &columns[schema->dynamic] : NULL, row, w,
                             name, value);
    }
    if (c->seen_row == row + 1) {
        return RK_OK; /* the first of equal keys counts */
    }
    c->seen_row = row + 1;
    c->named++;
    if (value.type == RK_JSON_NULL) {
        if (!field->nullable && !field->default_value) {
            return fail_data(r, "row %zu: field %.*s is not nullable", row, RK_STR_ARG(name));
        }
        return RK_OK;
    }
    RK_RET(one_value(r, c, row, value));
    c->valid[row] = true;
    c->present++;
    return RK_OK;
}

static rk_code
one_row(rk__rest *r, column *columns, const rk_schema *schema, size_t row, rk_json_value object,
        rk_buf *scratch)
{
    rk_json_writer w = {.out = scratch};
    rk_json_iter iter;
    rk_json_value key, value;
    rk_str name;

    if (object.type != RK_JSON_OBJECT) {
        return fail_data(r, "row %zu is no object", row);
    }
    rk_buf_clear(scratch);
    rk_json_object(&w);
    rk_json_iter_init(&iter, object);
    while (rk_json_iter_next(&iter, &key, &value)) {
        RK_RET(rk_json_get_str(key, &name, r->req.ctx.arena));
        RK_RET(member(r, columns, schema, row, &w, name, value));
    }
    rk_json_object_end(&w);
    if (schema->dynamic >= 0) {
        column *c = &columns[schema->dynamic];
        c->v.texts[row] = rk_arena_str(r->req.ctx.arena, rk_buf_view(scratch));
        if (scratch->failed || !c->v.texts[row].data) {
            return rk__fail_memory(r->req.ctx.err);
        }
        c->valid[row] = true;
        c->present++;
        c->named++;
    }
    return RK_OK;
}

/* ---- columns ---- */

static pb_schema_FieldData *
finish(rk_arena *arena, const column *c, size_t rows)
{
    pb_schema_FieldData *d = RK_ARENA_NEW(arena, pb_schema_FieldData);
    pb_schema_ScalarField *s = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    pb_schema_VectorField *v = RK_ARENA_NEW(arena, pb_schema_VectorField);
    void *list =
        rk_arena_zero(arena, 1, sizeof(pb_schema_ArrayArray) + sizeof(pb_schema_SparseFloatArray));
    bool vector = rk_type_is_vector(c->field->type);

    if (!d || !s || !v || !list) {
        return NULL;
    }
    d->type = (int32_t)c->field->type;
    d->field_name = c->field->name;
    d->is_dynamic = c->field->dynamic;
    d->field_case = vector ? PB_SCHEMA_FieldData_vectors : PB_SCHEMA_FieldData_scalars;
    if (vector) {
        d->vectors = v;
    } else {
        d->scalars = s;
    }
    if (c->present < rows || (c->field->nullable && !c->field->dynamic)) {
        d->valid_data = (pb_bools){c->valid, rows};
    }
    v->dim = c->field->dim;
    rk_str packed = {(const char *)c->v.bytes, c->present * c->width};
    switch (c->field->type) {
    case RK_BOOL:
        s->data_case = PB_SCHEMA_ScalarField_bool_data;
        s->bool_data = (pb_schema_BoolArray *)list;
        s->bool_data->data = (pb_bools){c->v.bools, rows};
        break;
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        s->data_case = PB_SCHEMA_ScalarField_int_data;
        s->int_data = (pb_schema_IntArray *)list;
        s->int_data->data = (pb_i32s){c->v.ints, rows};
        break;
    case RK_INT64:
        s->data_case = PB_SCHEMA_ScalarField_long_data;
        s->long_data = (pb_schema_LongArray *)list;
        s->long_data->data = (pb_i64s){c->v.longs, rows};
        break;
    case RK_FLOAT:
        s->data_case = PB_SCHEMA_ScalarField_float_data;
        s->float_data = (pb_schema_FloatArray *)list;
        s->float_data->data = (pb_fixed){c->v.bytes, rows};
        break;
    case RK_DOUBLE:
        s->data_case = PB_SCHEMA_ScalarField_double_data;
        s->double_data = (pb_schema_DoubleArray *)list;
        s->double_data->data = (pb_fixed){c->v.bytes, rows};
        break;
    case RK_VARCHAR:
        s->data_case = PB_SCHEMA_ScalarField_string_data;
        s->string_data = (pb_schema_StringArray *)list;
        s->string_data->data = (pb_strs){c->v.texts, rows};
        break;
    case RK_JSON:
        s->data_case = PB_SCHEMA_ScalarField_json_data;
        s->json_data = (pb_schema_JSONArray *)list;
        s->json_data->data = (pb_strs){c->v.texts, rows};
        break;
    case RK_ARRAY:
        s->data_case = PB_SCHEMA_ScalarField_array_data;
        s->array_data = (pb_schema_ArrayArray *)list;
        s->array_data->element_type = (int32_t)c->field->element;
        for (size_t i = 0; i < rows; i++) { /* a null row is an empty array */
            if (!c->v.arrays[i] && !(c->v.arrays[i] = RK_ARENA_NEW(arena, pb_schema_ScalarField))) {
                return NULL;
            }
        }
        s->array_data->data = (pb_schema_ScalarField_list){c->v.arrays, rows};
        break;
    case RK_FLOAT_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_float_vector;
        v->float_vector = (pb_schema_FloatArray *)list;
        v->float_vector->data = (pb_fixed){c->v.bytes, c->present * c->field->dim};
        break;
    case RK_BINARY_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_binary_vector;
        v->binary_vector = packed;
        break;
    case RK_FLOAT16_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_float16_vector;
        v->float16_vector = packed;
        break;
    case RK_BFLOAT16_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_bfloat16_vector;
        v->bfloat16_vector = packed;
        break;
    case RK_INT8_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_int8_vector;
        v->int8_vector = packed;
        break;
    case RK_SPARSE_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_sparse_float_vector;
        v->sparse_float_vector = (pb_schema_SparseFloatArray *)list;
        v->sparse_float_vector->contents = (pb_strs){c->v.texts, rows};
        break;
    case RK_NONE:
        return NULL;
    }
    return d;
}

/* Whether the column is sent; an error when rows disagree about a field that has to be in all of
 * them. */
static rk_code
wanted(rk__rest *r, const column *c, size_t rows, bool partial, bool *out)
{
    bool optional = c->field->nullable || c->field->default_value || c->field->dynamic;
    bool may_lack = optional || partial || (c->field->primary && c->field->auto_id);

    *out = c->present > 0 || (partial && c->named > 0); /* a partial update may set null */
    if (c->named == 0 && !may_lack) {
        return fail_data(r, "field %.*s is required: missing parameter",
                         RK_STR_ARG(c->field->name));
    }
    if (c->named > 0 && c->named < rows && (!optional || partial) && !c->field->dynamic) {
        return fail_data(r, "field %.*s is required: missing parameter: %zu of %zu rows have it",
                         RK_STR_ARG(c->field->name), c->named, rows);
    }
    return RK_OK;
}

rk_code
rk__rest_rows(rk__rest *r, const rk_schema *schema, rk_json_value data, bool partial,
              pb_schema_FieldData_list *out, uint32_t *rows)
{
    size_t n = rk_json_len(data);
    rk_buf scratch = {0};
    rk_json_iter iter;
    rk_json_value object;
    column *columns = NULL;
    rk_code code = RK_OK;

    if (data.type != RK_JSON_ARRAY || n == 0 || n > UINT32_MAX) {
        return fail_data(r, "missing required parameters");
    }
    *rows = (uint32_t)n;
    RK_RET(columns_new(r, schema, n, &columns));
    rk_json_iter_init(&iter, data);
    for (size_t row = 0; rk_json_iter_next(&iter, NULL, &object); row++) {
        RK_ERR(one_row(r, columns, schema, row, object, &scratch));
    }
    out->n = 0;
    out->data = RK_ARENA_ARRAY(r->req.ctx.arena, pb_schema_FieldData *, schema->fields_len);
    if (!out->data) {
        code = rk__fail_memory(r->req.ctx.err);
        goto out;
    }
    for (size_t i = 0; i < schema->fields_len; i++) {
        bool send = false;
        RK_ERR(wanted(r, &columns[i], n, partial, &send));
        if (send) {
            out->data[out->n] = finish(r->req.ctx.arena, &columns[i], n);
            if (!out->data[out->n++]) {
                code = rk__fail_memory(r->req.ctx.err);
                goto out;
            }
        }
    }
out:
    rk_buf_deinit(&scratch);
    return code;
}
