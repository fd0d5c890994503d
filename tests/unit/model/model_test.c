/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: schemas, and every type of row through builder, gather, pick and merge, with and without
 * nulls, compact and full. Equality is judged on columns, which hold values in one form only.
 */
#include "model_test.h"

#include "base/util.h"

/* ---- making data ---- */

pb_schema_CollectionSchema *
mt_schema_pb(rk_arena *arena, const mt_field_spec *specs, size_t n)
{
    pb_schema_CollectionSchema *schema = RK_ARENA_NEW(arena, pb_schema_CollectionSchema);

    schema->name = RK_STR("things");
    schema->fields.n = n;
    schema->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, n + 1);
    for (size_t i = 0; i < n; i++) {
        pb_schema_FieldSchema *f = RK_ARENA_NEW(arena, pb_schema_FieldSchema);
        pb_common_KeyValuePair *pairs = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair, 2);
        schema->fields.data[i] = f;
        f->fieldID = specs[i].id;
        f->name = rk_str_from(specs[i].name);
        f->data_type = (int32_t)specs[i].type;
        f->element_type = (int32_t)specs[i].element;
        f->nullable = specs[i].nullable;
        f->is_primary_key = i == 0;
        f->is_dynamic = strcmp(specs[i].name, RK_DYNAMIC_NAME) == 0;
        f->type_params.data = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair *, 2);
        pairs[0] = (pb_common_KeyValuePair){rk_str_from(specs[i].key), rk_str_from(specs[i].value)};
        pairs[1] =
            (pb_common_KeyValuePair){rk_str_from(specs[i].key2), rk_str_from(specs[i].value2)};
        f->type_params.data[0] = &pairs[0];
        f->type_params.data[1] = &pairs[1];
        f->type_params.n = specs[i].key2 ? 2 : specs[i].key ? 1 : 0;
    }
    return schema;
}

static const mt_field_spec all_types[] = {
    {100, "id", RK_INT64, RK_NONE, false, NULL, NULL, NULL, NULL},
    {101, "b", RK_BOOL, RK_NONE, false, NULL, NULL, NULL, NULL},
    {102, "i8", RK_INT8, RK_NONE, false, NULL, NULL, NULL, NULL},
    {103, "i16", RK_INT16, RK_NONE, false, NULL, NULL, NULL, NULL},
    {104, "i32", RK_INT32, RK_NONE, false, NULL, NULL, NULL, NULL},
    {105, "i64", RK_INT64, RK_NONE, false, NULL, NULL, NULL, NULL},
    {106, "f", RK_FLOAT, RK_NONE, false, NULL, NULL, NULL, NULL},
    {107, "d", RK_DOUBLE, RK_NONE, false, NULL, NULL, NULL, NULL},
    {108, "s", RK_VARCHAR, RK_NONE, false, "max_length", "40", NULL, NULL},
    {109, "j", RK_JSON, RK_NONE, false, NULL, NULL, NULL, NULL},
    {110, "ab", RK_ARRAY, RK_BOOL, false, "max_capacity", "9", NULL, NULL},
    {111, "a8", RK_ARRAY, RK_INT8, false, "max_capacity", "9", NULL, NULL},
    {112, "a16", RK_ARRAY, RK_INT16, false, "max_capacity", "9", NULL, NULL},
    {113, "a32", RK_ARRAY, RK_INT32, false, "max_capacity", "9", NULL, NULL},
    {114, "a64", RK_ARRAY, RK_INT64, false, "max_capacity", "9", NULL, NULL},
    {115, "af", RK_ARRAY, RK_FLOAT, false, "max_capacity", "9", NULL, NULL},
    {116, "ad", RK_ARRAY, RK_DOUBLE, false, "max_capacity", "9", NULL, NULL},
    {117, "as", RK_ARRAY, RK_VARCHAR, false, "max_capacity", "9", "max_length", "16"},
    {118, "vb", RK_BINARY_VECTOR, RK_NONE, false, "dim", "24", NULL, NULL},
    {119, "vf", RK_FLOAT_VECTOR, RK_NONE, false, "dim", "5", NULL, NULL},
    {120, "vh", RK_FLOAT16_VECTOR, RK_NONE, false, "dim", "5", NULL, NULL},
    {121, "vbf", RK_BFLOAT16_VECTOR, RK_NONE, false, "dim", "5", NULL, NULL},
    {122, "vs", RK_SPARSE_VECTOR, RK_NONE, false, NULL, NULL, NULL, NULL},
    {123, "v8", RK_INT8_VECTOR, RK_NONE, false, "dim", "5", NULL, NULL},
    {124, RK_DYNAMIC_NAME, RK_JSON, RK_NONE, false, NULL, NULL, NULL, NULL},
};

rk_schema *
mt_schema(bool nullable)
{
    mt_field_spec specs[RK_COUNT(all_types)];
    rk_arena *arena = rk_arena_new(0);
    rk_schema *schema = NULL;
    rk_err err = {0};

    memcpy(specs, all_types, sizeof(specs));
    for (size_t i = 1; i < RK_COUNT(specs) - 1; i++) {
        specs[i].nullable = nullable;
    }
    rk_code code = rk_schema_new(&schema, mt_schema_pb(arena, specs, RK_COUNT(specs)), 7, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    rk_arena_free(arena); /* the schema borrows nothing */
    return schema;
}

static pb_schema_ScalarField *
array_value(rk_type element, uint64_t x, rk_arena *arena)
{
    pb_schema_ScalarField *s = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    size_t n = x % 4;

    if (n == 0) {
        return s; /* as clients send an empty list */
    }
    if (element == RK_BOOL) {
        s->data_case = PB_SCHEMA_ScalarField_bool_data;
        s->bool_data = RK_ARENA_NEW(arena, pb_schema_BoolArray);
        s->bool_data->data = (pb_bools){RK_ARENA_ARRAY(arena, bool, n), n};
        s->bool_data->data.data[0] = true;
    } else if (element == RK_INT64) {
        s->data_case = PB_SCHEMA_ScalarField_long_data;
        s->long_data = RK_ARENA_NEW(arena, pb_schema_LongArray);
        s->long_data->data = (pb_i64s){RK_ARENA_ARRAY(arena, int64_t, n), n};
        s->long_data->data.data[0] = (int64_t)x;
    } else if (element == RK_FLOAT || element == RK_DOUBLE) {
        uint8_t *bytes = (void *)RK_ARENA_ARRAY(arena, uint64_t, n);
        memcpy(bytes, &x, 3);
        if (element == RK_FLOAT) {
            s->data_case = PB_SCHEMA_ScalarField_float_data;
            s->float_data = RK_ARENA_NEW(arena, pb_schema_FloatArray);
            s->float_data->data = (pb_fixed){bytes, n};
        } else {
            s->data_case = PB_SCHEMA_ScalarField_double_data;
            s->double_data = RK_ARENA_NEW(arena, pb_schema_DoubleArray);
            s->double_data->data = (pb_fixed){bytes, n};
        }
    } else if (element == RK_VARCHAR) {
        s->data_case = PB_SCHEMA_ScalarField_string_data;
        s->string_data = RK_ARENA_NEW(arena, pb_schema_StringArray);
        s->string_data->data = (pb_strs){RK_ARENA_ARRAY(arena, rk_str, n), n};
        s->string_data->data.data[n - 1] =
            rk_arena_printf(arena, "%llu", (unsigned long long)(x % 10007));
    } else {
        s->data_case = PB_SCHEMA_ScalarField_int_data;
        s->int_data = RK_ARENA_NEW(arena, pb_schema_IntArray);
        s->int_data->data = (pb_i32s){RK_ARENA_ARRAY(arena, int32_t, n), n};
        s->int_data->data.data[n - 1] = (int32_t)(x % 120) - 60;
    }
    return s;
}

static rk_str
sparse_value(uint64_t x, rk_arena *arena)
{
    size_t n = x % 5;
    char *bytes = rk_arena_alloc(arena, n * 8 + 1);

    for (size_t i = 0; i < n; i++) {
        float v = (float)(x % 17) + 0.5f;
        rk_put_u32le(bytes + i * 8, (uint32_t)(x % 1000 + i * 3));
        memcpy(bytes + i * 8 + 4, &v, 4);
    }
    return (rk_str){bytes, n * 8};
}

/* Writes one value in wire form; |width| bytes. */
static void
put_value(uint8_t *to, const rk_field *field, uint64_t x, size_t width, rk_arena *arena)
{
    int32_t i32 = (int32_t)(x % 100) - 50;
    float f = (float)i32 / 3.0f;
    double d = (double)i32 / 7.0;
    bool b = x & 1;
    rk_str s;
    pb_schema_ScalarField *array;

    switch (field->type) {
    case RK_BOOL:
        memcpy(to, &b, 1);
        break;
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
        memcpy(to, &i32, 4);
        break;
    case RK_INT64:
        memcpy(to, &x, 8);
        break;
    case RK_FLOAT:
        memcpy(to, &f, 4);
        break;
    case RK_DOUBLE:
        memcpy(to, &d, 8);
        break;
    case RK_VARCHAR:
        s = x % 5 == 0 ? RK_STR("") : rk_arena_printf(arena, "text %llu", (unsigned long long)x);
        memcpy(to, &s, sizeof(s));
        break;
    case RK_JSON:
        s = rk_arena_printf(arena, "{\"a\": [%llu]}", (unsigned long long)x);
        memcpy(to, &s, sizeof(s));
        break;
    case RK_SPARSE_VECTOR:
        s = sparse_value(x, arena);
        memcpy(to, &s, sizeof(s));
        break;
    case RK_ARRAY:
        array = array_value(field->element, x, arena);
        memcpy(to, &array, sizeof(array));
        break;
    case RK_NONE:
    case RK_BINARY_VECTOR:
    case RK_FLOAT_VECTOR:
    case RK_FLOAT16_VECTOR:
    case RK_BFLOAT16_VECTOR:
    case RK_INT8_VECTOR:
        for (size_t i = 0; i < width; i++) {
            to[i] =
                (uint8_t)((x >> (i % 7)) & 0x37); /* no exponent of all ones in any float type */
        }
        break;
    }
}

static void
set_vectors(pb_schema_FieldData *data, const rk_field *field, uint8_t *values, size_t n,
            size_t width, rk_arena *arena)
{
    pb_schema_VectorField *v = RK_ARENA_NEW(arena, pb_schema_VectorField);
    rk_str bytes = {(char *)values, n * width};

    data->field_case = PB_SCHEMA_FieldData_vectors;
    data->vectors = v;
    v->dim = field->dim;
    if (field->type == RK_FLOAT_VECTOR) {
        v->data_case = PB_SCHEMA_VectorField_float_vector;
        v->float_vector = RK_ARENA_NEW(arena, pb_schema_FloatArray);
        v->float_vector->data = (pb_fixed){values, n * field->dim};
    } else if (field->type == RK_SPARSE_VECTOR) {
        v->data_case = PB_SCHEMA_VectorField_sparse_float_vector;
        v->sparse_float_vector = RK_ARENA_NEW(arena, pb_schema_SparseFloatArray);
        v->sparse_float_vector->contents = (pb_strs){(void *)values, n};
    } else {
        v->data_case = field->type == RK_BINARY_VECTOR     ? PB_SCHEMA_VectorField_binary_vector
                       : field->type == RK_FLOAT16_VECTOR  ? PB_SCHEMA_VectorField_float16_vector
                       : field->type == RK_BFLOAT16_VECTOR ? PB_SCHEMA_VectorField_bfloat16_vector
                                                           : PB_SCHEMA_VectorField_int8_vector;
        v->binary_vector = bytes; /* the members share their place */
    }
}

static void
set_scalars(pb_schema_FieldData *data, const rk_field *field, void *values, size_t n,
            rk_arena *arena)
{
    pb_schema_ScalarField *s = RK_ARENA_NEW(arena, pb_schema_ScalarField);

    data->field_case = PB_SCHEMA_FieldData_scalars;
    data->scalars = s;
    switch ((int)field->type) {
    case RK_BOOL:
        s->data_case = PB_SCHEMA_ScalarField_bool_data;
        s->bool_data = RK_ARENA_NEW(arena, pb_schema_BoolArray);
        s->bool_data->data = (pb_bools){values, n};
        break;
    case RK_INT64:
        s->data_case = PB_SCHEMA_ScalarField_long_data;
        s->long_data = RK_ARENA_NEW(arena, pb_schema_LongArray);
        s->long_data->data = (pb_i64s){values, n};
        break;
    case RK_FLOAT:
        s->data_case = PB_SCHEMA_ScalarField_float_data;
        s->float_data = RK_ARENA_NEW(arena, pb_schema_FloatArray);
        s->float_data->data = (pb_fixed){values, n};
        break;
    case RK_DOUBLE:
        s->data_case = PB_SCHEMA_ScalarField_double_data;
        s->double_data = RK_ARENA_NEW(arena, pb_schema_DoubleArray);
        s->double_data->data = (pb_fixed){values, n};
        break;
    case RK_VARCHAR:
        s->data_case = PB_SCHEMA_ScalarField_string_data;
        s->string_data = RK_ARENA_NEW(arena, pb_schema_StringArray);
        s->string_data->data = (pb_strs){values, n};
        break;
    case RK_JSON:
        s->data_case = PB_SCHEMA_ScalarField_json_data;
        s->json_data = RK_ARENA_NEW(arena, pb_schema_JSONArray);
        s->json_data->data = (pb_strs){values, n};
        break;
    case RK_ARRAY:
        s->data_case = PB_SCHEMA_ScalarField_array_data;
        s->array_data = RK_ARENA_NEW(arena, pb_schema_ArrayArray);
        s->array_data->data = (pb_schema_ScalarField_list){values, n};
        break;
    default:
        s->data_case = PB_SCHEMA_ScalarField_int_data;
        s->int_data = RK_ARENA_NEW(arena, pb_schema_IntArray);
        s->int_data->data = (pb_i32s){values, n};
        break;
    }
}

static size_t
wire_width(const rk_field *field)
{
    switch ((int)field->type) {
    case RK_INT8:
    case RK_INT16:
        return 4;
    case RK_VARCHAR:
    case RK_JSON:
    case RK_SPARSE_VECTOR:
        return sizeof(rk_str);
    case RK_ARRAY:
        return sizeof(void *);
    default:
        return rk_field_row_bytes(field);
    }
}

pb_schema_FieldData *
mt_data(const rk_field *field, size_t rows, uint64_t nulls, bool compact, uint32_t seed,
        rk_arena *arena)
{
    pb_schema_FieldData *data = RK_ARENA_NEW(arena, pb_schema_FieldData);
    size_t width = wire_width(field);
    uint8_t *values = rk_arena_zero(arena, rows + 1, width);
    size_t put = 0;

    data->type = (int32_t)field->type;
    data->field_name = field->name;
    if (nulls) {
        data->valid_data = (pb_bools){RK_ARENA_ARRAY(arena, bool, rows + 1), rows};
    }
    for (size_t i = 0; i < rows; i++) {
        bool null = (nulls >> (i % 64)) & 1;
        if (nulls) {
            data->valid_data.data[i] = !null;
        }
        if (!null) {
            put_value(values + put++ * width, field, rk_hash_u64(i + seed * 1000003u) >> 1, width,
                      arena);
        } else if (!compact) {
            if (field->type == RK_ARRAY) {
                pb_schema_ScalarField *empty = RK_ARENA_NEW(arena, pb_schema_ScalarField);
                memcpy(values + put * width, &empty, sizeof(empty));
            }
            put++;
        }
    }
    if (rk_type_is_vector(field->type)) {
        set_vectors(data, field, values, put, width, arena);
    } else {
        set_scalars(data, field, values, put, arena);
    }
    return data;
}

static rk_column_builder *
column_of(const rk_field *field, const pb_schema_FieldData *data)
{
    rk_column_builder *b;
    size_t rows;
    rk_err err = {0};

    assert_int_equal(rk_field_data_rows(data, field, &rows, &err), RK_OK);
    assert_int_equal(rk_field_data_check(data, field, rows, &err), RK_OK);
    assert_int_equal(rk_column_builder_new(&b, field), RK_OK);
    assert_int_equal(rk_column_builder_add(b, data, 0, rows), RK_OK);
    return b;
}

static void
assert_same(const rk_field *field, const rk_column *a, size_t i, const rk_column *b, size_t j)
{
    size_t width = rk_field_row_bytes(field);

    assert_int_equal(rk_column_is_null(a, i), rk_column_is_null(b, j));
    if (width > 0) {
        assert_memory_equal((const char *)a->data + i * width, (const char *)b->data + j * width,
                            width);
    } else {
        rk_str x = rk_column_bytes(a, i);
        rk_str y = rk_column_bytes(b, j);
        assert_true(rk_str_eq(x, y));
        if (field->type == RK_ARRAY && !rk_column_is_null(a, i)) {
            assert_true(rk_array_check(x, field->element));
        }
    }
}

void
mt_assert_row(const rk_field *field, const pb_schema_FieldData *a, size_t a_row,
              const pb_schema_FieldData *b, size_t b_row)
{
    rk_column_builder *x = column_of(field, a);
    rk_column_builder *y = column_of(field, b);
    rk_column cx = rk_column_builder_view(x);
    rk_column cy = rk_column_builder_view(y);

    assert_same(field, &cx, a_row, &cy, b_row);
    rk_column_builder_free(x);
    rk_column_builder_free(y);
}

/* ---- tests ---- */

static const uint64_t null_patterns[] = {0, UINT64_C(0x8421084210842108),
                                         UINT64_C(0x00ffff0000ff00f1), UINT64_MAX};

/* The same rows by every way: whole, piecewise, row by row, gathered, picked, merged. */
static void
round_trip(const rk_field *field, uint64_t nulls, bool compact)
{
    enum { ROWS = 150 };
    rk_arena *arena = rk_arena_new(0);
    pb_schema_FieldData *data = mt_data(field, ROWS, nulls, compact, 1, arena);
    rk_column_builder *whole = column_of(field, data);
    rk_column a = rk_column_builder_view(whole);
    rk_column_builder *pieces, *rows;
    pb_schema_FieldData *back, *picked, *merged;
    const rk_column *columns[ROWS];
    uint32_t numbers[ROWS];
    rk_part_row parts[ROWS];

    assert_int_equal(a.rows, ROWS);
    assert_int_equal(rk_column_builder_new(&pieces, field), RK_OK);
    for (size_t at = 0, n; at < ROWS; at += n) {
        n = RK_MIN((size_t)ROWS - at, at % 3 + 1);
        assert_int_equal(rk_column_builder_add(pieces, data, at, n), RK_OK);
    }
    assert_int_equal(rk_column_builder_new(&rows, field), RK_OK);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(rk_column_builder_add_row(rows, &a, i), RK_OK);
        columns[i] = &a;
        numbers[i] = (uint32_t)((i * 37) % ROWS);
        parts[i] = (rk_part_row){(uint32_t)(i % 2), numbers[i]};
    }
    rk_column b = rk_column_builder_view(pieces);
    rk_column c = rk_column_builder_view(rows);
    for (size_t i = 0; i < ROWS; i++) {
        assert_same(field, &a, i, &b, i);
        assert_same(field, &a, i, &c, i);
    }
    assert_int_equal(rk_field_data_gather(&back, field, columns, numbers, ROWS, arena), RK_OK);
    assert_int_equal(rk_field_data_pick(&picked, data, field, numbers, ROWS, arena), RK_OK);
    pb_schema_FieldData *both[2] = {data, data};
    assert_int_equal(rk_field_data_merge(&merged, field, both, parts, ROWS, arena), RK_OK);
    pb_schema_FieldData *made[3] = {back, picked, merged};
    for (size_t k = 0; k < 3; k++) {
        rk_column_builder *again = column_of(field, made[k]);
        rk_column d = rk_column_builder_view(again);
        assert_int_equal(d.rows, ROWS);
        assert_int_equal(made[k]->type, field->type);
        assert_int_equal(made[k]->field_id, field->id);
        assert_int_equal(made[k]->is_dynamic, field->dynamic);
        assert_int_equal(made[k]->valid_data.n, field->nullable ? ROWS : 0);
        for (size_t i = 0; i < ROWS; i++) {
            assert_same(field, &a, numbers[i], &d, i);
        }
        rk_column_builder_free(again);
    }
    rk_column_builder_free(whole);
    rk_column_builder_free(pieces);
    rk_column_builder_free(rows);
    rk_arena_free(arena);
}

static void
test_round_trips(void **state)
{
    RK_UNUSED(state);
    for (int nullable = 0; nullable < 2; nullable++) {
        rk_schema *schema = mt_schema(nullable);
        for (size_t f = 0; f < schema->fields_len; f++) {
            const rk_field *field = &schema->fields[f];
            for (size_t p = 0; p < (field->nullable ? RK_COUNT(null_patterns) : 1); p++) {
                round_trip(field, null_patterns[p], false);
                round_trip(field, null_patterns[p], true);
            }
        }
        rk_schema_unref(schema);
    }
}

static void
test_pick_all_and_fill(void **state)
{
    rk_schema *schema = mt_schema(true);
    rk_arena *arena = rk_arena_new(0);
    pb_schema_FieldData *out;

    RK_UNUSED(state);
    for (size_t f = 1; f + 1 < schema->fields_len; f++) {
        const rk_field *field = &schema->fields[f];
        pb_schema_FieldData *data = mt_data(field, 10, 0, false, 3, arena);
        assert_int_equal(rk_field_data_pick(&out, data, field, NULL, 10, arena), RK_OK);
        mt_assert_row(field, data, 7, out, 7);
        assert_int_equal(rk_field_data_pick(&out, data, field, (uint32_t[]){10}, 1, arena),
                         RK_EINVAL);
        assert_int_equal(rk_field_data_fill(&out, field, 4, arena), RK_OK);
        rk_column_builder *b = column_of(field, out);
        rk_column c = rk_column_builder_view(b);
        assert_int_equal(c.rows, 4);
        assert_true(rk_column_is_null(&c, 3));
        rk_column_builder_free(b);
    }
    assert_int_equal(rk_field_data_fill(&out, rk_schema_primary(schema), 4, arena), RK_EINVAL);
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

/* A null row of a field with a default value becomes that value, on every way in. */
static void
test_defaults(void **state)
{
    static const pb_schema_ValueField values[] = {
        {.data_case = PB_SCHEMA_ValueField_bool_data, .bool_data = true},
        {.data_case = PB_SCHEMA_ValueField_int_data, .int_data = -7},
        {.data_case = PB_SCHEMA_ValueField_int_data, .int_data = -700},
        {.data_case = PB_SCHEMA_ValueField_int_data, .int_data = -70000},
        {.data_case = PB_SCHEMA_ValueField_long_data, .long_data = -7000000000},
        {.data_case = PB_SCHEMA_ValueField_float_data, .float_data = 1.5f},
        {.data_case = PB_SCHEMA_ValueField_double_data, .double_data = 2.5},
        {.data_case = PB_SCHEMA_ValueField_string_data, .string_data = {"seven", 5}},
    };
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t f = 0; f < RK_COUNT(values); f++) {
        pb_schema_CollectionSchema *pb = mt_schema_pb(arena, all_types, RK_COUNT(all_types));
        pb_schema_ValueField value = values[f];
        rk_schema *schema;
        pb_schema_FieldData *filled, *picked;
        rk_err err = {0};

        pb->fields.data[f + 1]->default_value = &value;
        assert_int_equal(rk_schema_new(&schema, pb, 1, &err), RK_OK);
        const rk_field *field = &schema->fields[f + 1];
        assert_int_equal(rk_field_data_fill(&filled, field, 2, arena), RK_OK);
        pb_schema_FieldData *data = mt_data(field, 12, 0x111, true, 3, arena);
        mt_assert_row(field, data, 4, filled, 1);
        assert_int_equal(rk_field_data_pick(&picked, data, field, (uint32_t[]){4, 5}, 2, arena),
                         RK_OK);
        assert_int_equal(picked->valid_data.n, 0);
        mt_assert_row(field, picked, 0, filled, 0);
        mt_assert_row(field, picked, 1, data, 5);
        rk_schema_unref(schema);
        value.data_case = PB_SCHEMA_ValueField_bytes_data;
        assert_int_equal(rk_schema_new(&schema, pb, 1, &err), RK_EILLEGAL_SCHEMA);
    }
    rk_arena_free(arena);
}

static void
test_schema_errors(void **state)
{
    static const struct {
        mt_field_spec field;
        const char *text;
    } cases[] = {
        {{101, "v", RK_FLOAT_VECTOR, RK_NONE, false, NULL, NULL, NULL, NULL},
         "type param(dim) should be specified for field v"},
        {{101, "v", RK_FLOAT_VECTOR, RK_NONE, false, "dim", "x", NULL, NULL},
         "dim of field v is x"},
        {{101, "v", RK_FLOAT_VECTOR, RK_NONE, false, "dim", "32769", NULL, NULL},
         "range 1 ~ 32768"},
        {{101, "v", RK_BINARY_VECTOR, RK_NONE, false, "dim", "12", NULL, NULL},
         "should be multiple of 8"},
        {{101, "s", RK_VARCHAR, RK_NONE, false, NULL, NULL, NULL, NULL}, "max_length"},
        {{101, "s", RK_VARCHAR, RK_NONE, false, "max_length", "65536", NULL, NULL},
         "range 1 ~ 65535"},
        {{101, "a", RK_ARRAY, RK_JSON, false, "max_capacity", "4", NULL, NULL},
         "element type 23 of field a is not supported"},
        {{101, "a", RK_ARRAY, RK_INT8, false, NULL, NULL, NULL, NULL}, "max_capacity"},
        {{101, "a", RK_ARRAY, RK_VARCHAR, false, "max_capacity", "4", NULL, NULL}, "max_length"},
        {{101, "x", (rk_type)24, RK_NONE, false, NULL, NULL, NULL, NULL}, "data type 24"},
        {{1, "x", RK_INT8, RK_NONE, false, NULL, NULL, NULL, NULL}, "row timestamp"},
        {{100, "x", RK_INT8, RK_NONE, false, NULL, NULL, NULL, NULL}, "same id 100"},
        {{101, "id", RK_INT8, RK_NONE, false, NULL, NULL, NULL, NULL}, "duplicated field name: id"},
        {{101, "", RK_INT8, RK_NONE, false, NULL, NULL, NULL, NULL}, "no name"},
    };
    rk_arena *arena = rk_arena_new(0);
    rk_schema *schema;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        mt_field_spec specs[2] = {all_types[0], cases[i].field};
        rk_err err = {0};
        assert_int_equal(rk_schema_new(&schema, mt_schema_pb(arena, specs, 2), 1, &err),
                         RK_EILLEGAL_SCHEMA);
        if (!strstr(err.text, cases[i].text)) {
            fail_msg("case %zu: got \"%s\", expected \"%s\"", i, err.text, cases[i].text);
        }
    }
    mt_field_spec no_key[1] = {all_types[1]};
    rk_err err = {0};
    assert_int_equal(rk_schema_new(&schema, mt_schema_pb(arena, no_key, 1), 1, &err),
                     RK_EILLEGAL_SCHEMA);
    rk_arena_free(arena);
}

static void
test_schema_lookup(void **state)
{
    rk_schema *schema = mt_schema(false);

    RK_UNUSED(state);
    assert_int_equal(schema->version, 7);
    assert_ptr_equal(rk_schema_find(schema, RK_STR("vf")), rk_schema_by_id(schema, 119));
    assert_null(rk_schema_find(schema, RK_STR("nothing")));
    assert_null(rk_schema_by_id(schema, 1));
    assert_int_equal(schema->dynamic, (int)schema->fields_len - 1);
    assert_int_equal(rk_schema_find(schema, RK_STR("vf"))->dim, 5);
    assert_int_equal(rk_field_row_bytes(rk_schema_find(schema, RK_STR("vb"))), 3);
    assert_int_equal(rk_schema_find(schema, RK_STR("as"))->max_capacity, 9);
    assert_string_equal(rk_type_name(RK_BFLOAT16_VECTOR), "BFloat16Vector");
    rk_schema_ref(schema);
    rk_schema_unref(schema);
    rk_schema_unref(schema);
}

static void
test_keys(void **state)
{
    rk_pk one = {.number = 1}, two = {.number = 2};
    rk_pk a = {.is_text = true, .text = RK_STR("a")}, ab = {.is_text = true, .text = RK_STR("ab")};

    RK_UNUSED(state);
    assert_true(rk_pk_cmp(one, two) < 0 && rk_pk_cmp(two, one) > 0 && rk_pk_cmp(one, one) == 0);
    assert_true(rk_pk_cmp(a, ab) < 0 && rk_pk_cmp(one, a) < 0 && rk_pk_cmp(a, a) == 0);
    assert_true(rk_pk_order_key(a) < rk_pk_order_key(ab));
    assert_true(rk_pk_order_key((rk_pk){.number = -1}) < rk_pk_order_key(one));
    /* on disk: these numbers must never change */
    assert_int_equal(rk_pk_hash(one), UINT64_C(0x5692161d100b05e5));
    assert_int_equal(rk_pk_shard(one, 1), 0);
    assert_int_equal(rk_pk_shard(one, 7), UINT64_C(0x5692161d100b05e5) % 7);
    assert_int_equal(rk_pk_hash(a), rk_hash64("a", 1));
    int64_t numbers[] = {5, 6};
    pb_schema_LongArray longs = {.data = {numbers, 2}};
    pb_schema_IDs ids = {.id_field_case = PB_SCHEMA_IDs_int_id, .int_id = &longs};
    assert_int_equal(rk_ids_len(&ids), 2);
    assert_int_equal(rk_ids_len(NULL), 0);
    assert_int_equal(rk_ids_at(&ids, 1).number, 6);
}

static void
test_array_check(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        rk_type element;
        bool ok;
    } cases[] = {
        {"\0\0\0\0", 4, RK_INT8, true},
        {"\0\0\0\0", 4, RK_VARCHAR, true},
        {"\0\0\0", 3, RK_INT8, false},
        {"\1\0\0\0", 4, RK_INT8, false},
        {"\1\0\0\0z", 5, RK_INT8, true},
        {"\1\0\0\0zz", 6, RK_INT8, false},
        {"\1\0\0\0zz", 6, RK_INT16, true},
        {"\1\0\0\0\2\0\0\0ab", 10, RK_VARCHAR, true},
        {"\1\0\0\0\3\0\0\0ab", 10, RK_VARCHAR, false},
        {"\2\0\0\0\2\0\0\0\1\0\0\0a", 13, RK_VARCHAR, false},
        {"\377\377\377\377\2\0\0\0\1\0\0\0a", 13, RK_VARCHAR, false},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        assert_int_equal(rk_array_check((rk_str){cases[i].bytes, cases[i].len}, cases[i].element),
                         cases[i].ok);
    }
    rk_str text = {"\2\0\0\0\1\0\0\0\3\0\0\0abc", 15};
    assert_true(rk_str_is(rk_array_str(text, 0), "a") && rk_str_is(rk_array_str(text, 1), "bc"));
    rk_str numbers = {"\2\0\0\0\377\377\1\0", 8};
    assert_int_equal(rk_array_i64(numbers, RK_INT16, 0), -1);
    assert_int_equal(rk_array_i64(numbers, RK_INT16, 1), 1);
}

/* Out of memory at every step leaves the column as it was. */
static void
test_builder_out_of_memory(void **state)
{
    rk_schema *schema = mt_schema(true);
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t f = 0; f < schema->fields_len; f++) {
        const rk_field *field = &schema->fields[f];
        pb_schema_FieldData *data = mt_data(field, 300, field->nullable ? 0x10 : 0, true, 5, arena);
        for (int64_t fail = 0;; fail++) {
            rk_column_builder *b;
            assert_int_equal(rk_column_builder_new(&b, field), RK_OK);
            assert_int_equal(rk_column_builder_add(b, data, 0, 3), RK_OK);
            rk_alloc_fail_after(fail);
            rk_code code = rk_column_builder_add(b, data, 3, 297);
            rk_alloc_fail_after(-1);
            assert_int_equal(rk_column_builder_view(b).rows, code == RK_OK ? 300u : 3u);
            if (code != RK_OK) {
                assert_int_equal(code, RK_ENOMEM);
                assert_int_equal(rk_column_builder_add(b, data, 3, 297), RK_OK);
            }
            rk_column c = rk_column_builder_view(b);
            assert_int_equal(rk_column_is_null(&c, 4), field->nullable);
            rk_column_builder_free(b);
            if (code == RK_OK) {
                break;
            }
        }
    }
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),   cmocka_unit_test(test_pick_all_and_fill),
        cmocka_unit_test(test_defaults),      cmocka_unit_test(test_schema_errors),
        cmocka_unit_test(test_schema_lookup), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_array_check),   cmocka_unit_test(test_builder_out_of_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return mt_check_tests() || failed;
}
