/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FieldData made anew: rows picked from one message, merged from several, gathered from columns, or
 * filled with a default.
 *
 * Scalars have a value for every row, zero or empty where the row is null; vectors have one for
 * valid rows only, as clients expect of results. A nullable field always carries valid_data. Values
 * taken from messages keep borrowing their bytes (the messages share the request's arena); values
 * from columns are copied, since a segment may go away before the reply is sent.
 */
#include "model/model_private.h"

/* A message under construction: |values| in wire form, see rk__wire. */
typedef struct field_out {
    const rk_field *field;
    pb_schema_FieldData *data;
    uint8_t *values;
    size_t width;
    bool *valid;         /* NULL: field is not nullable */
    rk_str default_text; /* of a text field: copied, the schema may go before the reply */
    size_t rows;         /* done */
    size_t put;          /* values done */
} field_out;

/* The message and all of its members in one piece. */
typedef struct out_room {
    pb_schema_FieldData data;
    pb_schema_ScalarField scalars;
    pb_schema_VectorField vectors;
    union {
        pb_schema_BoolArray bools;
        pb_schema_IntArray ints;
        pb_schema_LongArray longs;
        pb_schema_FloatArray floats;
        pb_schema_DoubleArray doubles;
        pb_schema_StringArray strings;
        pb_schema_JSONArray jsons;
        pb_schema_ArrayArray arrays;
        pb_schema_SparseFloatArray sparse;
    };
} out_room;

static uint32_t
sparse_dim(const rk_str *rows, size_t n)
{
    uint32_t dim = 0;

    for (size_t i = 0; i < n; i++) {
        if (rows[i].len >= 8) {
            dim = RK_MAX(dim, rk_get_u32le(rows[i].data + rows[i].len - 8) + 1);
        }
    }
    return dim;
}

static void
finish_vectors(out_room *room, field_out *o)
{
    pb_schema_VectorField *v = &room->vectors;
    rk_str bytes = {(const char *)o->values, o->put * o->width};

    room->data.field_case = PB_SCHEMA_FieldData_vectors;
    room->data.vectors = v;
    v->dim = (int64_t)o->field->dim;
    switch ((int)o->field->type) {
    case RK_FLOAT_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_float_vector;
        v->float_vector = &room->floats;
        room->floats.data = (pb_fixed){o->values, o->put * o->field->dim};
        break;
    case RK_BINARY_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_binary_vector;
        v->binary_vector = bytes;
        break;
    case RK_FLOAT16_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_float16_vector;
        v->float16_vector = bytes;
        break;
    case RK_BFLOAT16_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_bfloat16_vector;
        v->bfloat16_vector = bytes;
        break;
    case RK_INT8_VECTOR:
        v->data_case = PB_SCHEMA_VectorField_int8_vector;
        v->int8_vector = bytes;
        break;
    default:
        v->data_case = PB_SCHEMA_VectorField_sparse_float_vector;
        v->sparse_float_vector = &room->sparse;
        room->sparse.contents = (pb_strs){(void *)o->values, o->put};
        room->sparse.dim = (int64_t)sparse_dim((const void *)o->values, o->put);
        v->dim = room->sparse.dim;
        break;
    }
}

static void
finish_scalars(out_room *room, field_out *o)
{
    pb_schema_ScalarField *s = &room->scalars;

    room->data.field_case = PB_SCHEMA_FieldData_scalars;
    room->data.scalars = s;
    switch ((int)o->field->type) {
    case RK_BOOL:
        s->data_case = PB_SCHEMA_ScalarField_bool_data;
        s->bool_data = &room->bools;
        room->bools.data = (pb_bools){(void *)o->values, o->put};
        break;
    case RK_INT64:
        s->data_case = PB_SCHEMA_ScalarField_long_data;
        s->long_data = &room->longs;
        room->longs.data = (pb_i64s){(void *)o->values, o->put};
        break;
    case RK_FLOAT:
        s->data_case = PB_SCHEMA_ScalarField_float_data;
        s->float_data = &room->floats;
        room->floats.data = (pb_fixed){o->values, o->put};
        break;
    case RK_DOUBLE:
        s->data_case = PB_SCHEMA_ScalarField_double_data;
        s->double_data = &room->doubles;
        room->doubles.data = (pb_fixed){o->values, o->put};
        break;
    case RK_VARCHAR:
        s->data_case = PB_SCHEMA_ScalarField_string_data;
        s->string_data = &room->strings;
        room->strings.data = (pb_strs){(void *)o->values, o->put};
        break;
    case RK_JSON:
        s->data_case = PB_SCHEMA_ScalarField_json_data;
        s->json_data = &room->jsons;
        room->jsons.data = (pb_strs){(void *)o->values, o->put};
        break;
    case RK_ARRAY:
        s->data_case = PB_SCHEMA_ScalarField_array_data;
        s->array_data = &room->arrays;
        room->arrays.element_type = (int32_t)o->field->element;
        room->arrays.data = (pb_schema_ScalarField_list){(void *)o->values, o->put};
        break;
    default:
        s->data_case = PB_SCHEMA_ScalarField_int_data;
        s->int_data = &room->ints;
        room->ints.data = (pb_i32s){(void *)o->values, o->put};
        break;
    }
}

static rk_code
out_init(field_out *o, const rk_field *field, size_t rows, size_t values, rk_arena *arena)
{
    out_room *room = RK_ARENA_NEW(arena, out_room);
    size_t width = rk__wire_width(field);
    size_t bytes;

    if (!room || !rk_mul_ok(&bytes, values, width)) {
        return RK_ENOMEM;
    }
    *o = (field_out){.field = field, .data = &room->data, .width = width};
    o->values = rk_arena_alloc(arena, bytes + 1);
    if (field->nullable) {
        o->valid = RK_ARENA_ARRAY(arena, bool, rows + 1);
    }
    if (!o->values || (field->nullable && !o->valid)) {
        return RK_ENOMEM;
    }
    room->data.type = (int32_t)field->type;
    room->data.field_name = rk_arena_str(arena, field->name);
    if (!room->data.field_name.data) {
        return RK_ENOMEM;
    }
    if (field->default_value && field->type == RK_VARCHAR) {
        o->default_text = rk_arena_str(arena, field->default_value->string_data);
        if (!o->default_text.data) {
            return RK_ENOMEM;
        }
    }
    room->data.field_id = field->id;
    room->data.is_dynamic = field->dynamic;
    return RK_OK;
}

static void
out_finish(pb_schema_FieldData **out, field_out *o)
{
    out_room *room = RK_CONTAINER(o->data, out_room, data);

    if (o->valid) {
        room->data.valid_data = (pb_bools){o->valid, o->rows};
    }
    if (rk_type_is_vector(o->field->type)) {
        finish_vectors(room, o);
    } else {
        finish_scalars(room, o);
    }
    *out = o->data;
}

/* Room for the value of the next row, which is not null. */
static void *
out_value(field_out *o)
{
    if (o->valid) {
        o->valid[o->rows] = true;
    }
    o->rows++;
    return o->values + o->put++ * o->width;
}

static rk_code
out_null(field_out *o, rk_arena *arena)
{
    if (o->valid) {
        o->valid[o->rows] = false;
    }
    o->rows++;
    if (rk_type_is_vector(o->field->type)) {
        return RK_OK;
    }
    uint8_t *value = o->values + o->put++ * o->width;
    memset(value, 0, o->width);
    if (o->field->type == RK_ARRAY) {
        pb_schema_ScalarField *empty =
            rk__array_message((rk_str){NULL, 0}, o->field->element, arena);
        if (!empty) {
            return RK_ENOMEM;
        }
        memcpy(value, &empty, sizeof(empty));
    }
    return RK_OK;
}

static void
out_default(field_out *o)
{
    const pb_schema_ValueField *v = o->field->default_value;
    void *to = out_value(o);

    switch ((int)o->field->type) {
    case RK_BOOL:
        memcpy(to, &v->bool_data, 1);
        break;
    case RK_INT64:
        memcpy(to, &v->long_data, 8);
        break;
    case RK_FLOAT:
        memcpy(to, &v->float_data, 4);
        break;
    case RK_DOUBLE:
        memcpy(to, &v->double_data, 8);
        break;
    case RK_VARCHAR:
        memcpy(to, &o->default_text, sizeof(o->default_text));
        break;
    default:
        memcpy(to, &v->int_data, 4);
        break;
    }
}

/* ---- from messages ---- */

typedef struct source {
    rk__wire wire;
    uint32_t *slots; /* of each row, for compact payloads */
} source;

static rk_code
source_init(source *s, const pb_schema_FieldData *data, const rk_field *field, rk_arena *arena)
{
    uint32_t slot = 0;

    s->slots = NULL;
    if (!rk__wire_of(&s->wire, data, field)) {
        return RK_EINVAL;
    }
    if (s->wire.compact) {
        s->slots = rk_arena_alloc(arena, s->wire.rows * sizeof(*s->slots) + 1);
        for (size_t i = 0; s->slots && i < s->wire.rows; i++) {
            s->slots[i] = slot;
            slot += s->wire.valid[i];
        }
        return s->slots ? RK_OK : RK_ENOMEM;
    }
    return RK_OK;
}

static rk_code
copy_row(field_out *o, const source *s, size_t row, rk_arena *arena)
{
    if (row >= s->wire.rows) {
        return RK_EINVAL;
    }
    if (s->wire.valid && !s->wire.valid[row]) {
        if (o->field->default_value) {
            out_default(o);
            return RK_OK;
        }
        return out_null(o, arena);
    }
    size_t slot = s->slots ? s->slots[row] : row;
    memcpy(out_value(o), s->wire.values + slot * o->width, o->width);
    return RK_OK;
}

rk_code
rk_field_data_pick(pb_schema_FieldData **out, const pb_schema_FieldData *data,
                   const rk_field *field, const uint32_t *picks, size_t n, rk_arena *arena)
{
    field_out o;
    source s;

    *out = NULL;
    RK_RET(source_init(&s, data, field, arena));
    RK_RET(out_init(&o, field, n, n, arena));
    if (!picks && !s.wire.valid) {
        if (n > s.wire.rows) {
            return RK_EINVAL;
        }
        if (n > 0) {
            memcpy(o.values, s.wire.values, n * o.width);
        }
        if (o.valid) {
            memset(o.valid, 1, n * sizeof(bool));
        }
        o.rows = o.put = n;
    } else {
        for (size_t i = 0; i < n; i++) {
            RK_RET(copy_row(&o, &s, picks ? picks[i] : i, arena));
        }
    }
    out_finish(out, &o);
    return RK_OK;
}

rk_code
rk_field_data_merge(pb_schema_FieldData **out, const rk_field *field,
                    pb_schema_FieldData *const *parts, const rk_part_row *picks, size_t n,
                    rk_arena *arena)
{
    uint32_t parts_len = 0;
    field_out o;

    *out = NULL;
    for (size_t i = 0; i < n; i++) {
        parts_len = RK_MAX(parts_len, picks[i].part + 1);
    }
    source *sources = RK_ARENA_ARRAY(arena, source, (size_t)parts_len + 1);
    bool *ready = RK_ARENA_ARRAY(arena, bool, (size_t)parts_len + 1);
    if (!sources || !ready) {
        return RK_ENOMEM;
    }
    RK_RET(out_init(&o, field, n, n, arena));
    for (size_t i = 0; i < n; i++) {
        uint32_t part = picks[i].part;
        if (!ready[part]) {
            RK_RET(source_init(&sources[part], parts[part], field, arena));
            ready[part] = true;
        }
        RK_RET(copy_row(&o, &sources[part], picks[i].row, arena));
    }
    out_finish(out, &o);
    return RK_OK;
}

rk_code
rk_field_data_fill(pb_schema_FieldData **out, const rk_field *field, size_t rows, rk_arena *arena)
{
    field_out o;

    *out = NULL;
    if (!field->default_value && !field->nullable) {
        return RK_EINVAL;
    }
    RK_RET(out_init(&o, field, rows, rk_type_is_vector(field->type) ? 0 : rows, arena));
    for (size_t i = 0; i < rows; i++) {
        if (field->default_value) {
            out_default(&o);
        } else {
            RK_RET(out_null(&o, arena));
        }
    }
    out_finish(out, &o);
    return RK_OK;
}

/* ---- from columns ---- */

static rk_code
gather_row(field_out *o, const rk_column *c, size_t row, rk_arena *arena)
{
    int32_t narrow;

    if (rk_column_is_null(c, row)) {
        return out_null(o, arena);
    }
    void *to = out_value(o);
    switch (o->field->type) {
    case RK_INT8:
        narrow = ((const int8_t *)c->data)[row];
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case RK_INT16:
        narrow = ((const int16_t *)c->data)[row];
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case RK_ARRAY: {
        pb_schema_ScalarField *array =
            rk__array_message(rk_column_bytes(c, row), o->field->element, arena);
        if (!array) {
            return RK_ENOMEM;
        }
        memcpy(to, &array, sizeof(array));
        break;
    }
    case RK_VARCHAR:
    case RK_JSON:
    case RK_SPARSE_VECTOR: {
        rk_str s = rk_arena_str(arena, rk_column_bytes(c, row));
        if (!s.data) {
            return RK_ENOMEM;
        }
        memcpy(to, &s, sizeof(s));
        break;
    }
    case RK_NONE:
    case RK_BOOL:
    case RK_INT32:
    case RK_INT64:
    case RK_FLOAT:
    case RK_DOUBLE:
    case RK_BINARY_VECTOR:
    case RK_FLOAT_VECTOR:
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
    case RK_INT8_VECTOR:
        memcpy(to, (const uint8_t *)c->data + row * o->width, o->width);
        break;
    }
    return RK_OK;
}

rk_code
rk_field_data_gather(pb_schema_FieldData **out, const rk_field *field,
                     const rk_column *const *columns, const uint32_t *rows, size_t n,
                     rk_arena *arena)
{
    field_out o;

    *out = NULL;
    RK_RET(out_init(&o, field, n, n, arena));
    for (size_t i = 0; i < n; i++) {
        RK_RET(gather_row(&o, columns[i], rows[i], arena));
    }
    out_finish(out, &o);
    return RK_OK;
}
