/* SPDX-License-Identifier: Apache-2.0 */
/* Model: every check of incoming rows fires with its public sentence. */
#include <math.h>

#include "base/util.h"
#include "model_test.h"

typedef struct fixture {
    rk_schema *schema;
    rk_schema *nullable;
    rk_arena *arena;
} fixture;

static const rk_field *
field_of(fixture *fx, const char *name)
{
    return rk_schema_find(fx->schema, rk_str_from(name));
}

static void
expect(const pb_schema_FieldData *data, const rk_field *field, size_t rows, const char *text)
{
    rk_err err = {0};
    size_t have;
    rk_code code = rk_field_data_rows(data, field, &have, &err);

    if (code == RK_OK) {
        code = rk_field_data_check(data, field, rows, &err);
    }
    if (!text) {
        assert_string_equal(err.text, "");
        assert_int_equal(code, RK_OK);
        return;
    }
    assert_int_equal(code, RK_EINVAL);
    if (!strstr(err.text, text)) {
        fail_msg("got \"%s\", expected \"%s\"", err.text, text);
    }
}

static void
test_mismatch(void **state)
{
    static const struct {
        const char *field;
        const char *text;
    } cases[] = {
        {"b", "field 'b' is illegal, array type mismatch: invalid parameter[expected=need bool "
              "array][actual=got nil]"},
        {"i8", "field 'i8' is illegal, array type mismatch: invalid parameter[expected=need int "
               "array][actual=got nil]"},
        {"i64", "field 'i64' is illegal, array type mismatch: invalid parameter[expected=need long "
                "int array][actual=got nil]"},
        {"f", "[expected=need float32 array]"},
        {"d", "[expected=need float64(double) array]"},
        {"s", "varchar field 's' is illegal, array type mismatch: invalid parameter[expected=need "
              "string array][actual=got nil]"},
        {"j", "json field 'j' is illegal, array type mismatch"},
        {"ab", "array field 'ab' is illegal, array type mismatch"},
        {"vf", "float vector field 'vf' is illegal, array type mismatch: invalid "
               "parameter[expected=need float vector][actual=got nil]"},
        {"vb", "binary vector field 'vb' is illegal, array type mismatch"},
        {"vs", "sparse float vector field 'vs' is illegal, array type mismatch"},
        {"v8", "int8 vector field 'v8' is illegal, array type mismatch"},
    };
    fixture *fx = *state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const rk_field *field = field_of(fx, cases[i].field);
        const rk_field *other = field_of(fx, field->type == RK_VARCHAR ? "i64" : "s");
        expect(mt_data(other, 3, 0, false, 1, fx->arena), field, 3, cases[i].text);
        expect(RK_ARENA_NEW(fx->arena, pb_schema_FieldData), field, 3, cases[i].text);
        expect(mt_data(field_of(fx, "vh"), 3, 0, false, 1, fx->arena), field, 3, cases[i].text);
    }
}

static void
test_dims(void **state)
{
    fixture *fx = *state;
    pb_schema_FieldData *data = mt_data(field_of(fx, "vf"), 3, 0, false, 1, fx->arena);

    data->vectors->dim = 4;
    expect(data, field_of(fx, "vf"), 3,
           "the length(15) of float data should divide the dim(4): invalid parameter");
    data->vectors->dim = 3;
    expect(data, field_of(fx, "vf"), 3,
           "the dim (3) of field data(vf) is not equal to schema dim (5): invalid "
           "parameter[expected=5][actual=3]");
    data->vectors->dim = -1;
    expect(data, field_of(fx, "vf"), 3, "dim(-1) should be greater than 0");
    data = mt_data(field_of(fx, "vb"), 3, 0, false, 1, fx->arena);
    data->vectors->dim = 16;
    expect(data, field_of(fx, "vb"), 3, "the num(72) of all bits should divide the dim(16)");
    data = mt_data(field_of(fx, "vh"), 3, 0, false, 1, fx->arena);
    data->vectors->dim = 4;
    expect(data, field_of(fx, "vh"), 3, "the length(30) of float16 data should divide the dim(4)");
}

static void
test_rows(void **state)
{
    fixture *fx = *state;
    const rk_field *field = field_of(fx, "i32");
    const rk_field *nullable = rk_schema_find(fx->nullable, RK_STR("i32"));
    pb_schema_FieldData *data = mt_data(field, 3, 0, false, 1, fx->arena);

    expect(data, field, 10,
           "the num_rows (3) of field (i32) is not equal to passed num_rows (10): invalid "
           "parameter[expected=10][actual=3]");
    expect(mt_data(field, 3, 2, false, 1, fx->arena), field, 3,
           "field 'i32' is not nullable, but row 1 is null");
    expect(mt_data(field, 3, 2, true, 1, fx->arena), nullable, 3, NULL);
    data = mt_data(nullable, 3, 2, true, 1, fx->arena);
    data->valid_data.n = 5;
    data->valid_data.data = (bool[]){true, false, true, true, true};
    expect(
        data, nullable, 5,
        "the length of valid_data of field(i32) is wrong: invalid parameter[expected=2][actual=5]");
    data = RK_ARENA_NEW(fx->arena, pb_schema_FieldData);
    data->valid_data = (pb_bools){(bool[]){false, false}, 2};
    expect(data, nullable, 2, NULL); /* only nulls: no payload needed */
    expect(data, rk_schema_find(fx->nullable, RK_STR("vf")), 2, NULL);
}

static void
test_numbers(void **state)
{
    fixture *fx = *state;
    static const struct {
        float value;
        const char *text;
    } cases[] = {{NAN, "value 'NaN' is not a number or infinity: invalid parameter"},
                 {INFINITY, "value '+Inf' is not a number or infinity"},
                 {-INFINITY, "value '-Inf' is not a number or infinity"}};

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        static const char *const floats[] = {"f", "vf"};
        for (size_t k = 0; k < 2; k++) {
            const rk_field *field = field_of(fx, floats[k]);
            pb_schema_FieldData *data = mt_data(field, 3, 0, false, 1, fx->arena);
            pb_fixed *v = k ? &data->vectors->float_vector->data : &data->scalars->float_data->data;
            uint8_t *bytes = rk_arena_alloc(fx->arena, v->n * 4);
            memcpy(bytes, v->bytes, v->n * 4);
            memcpy(bytes + (v->n - 1) * 4, &cases[i].value, 4);
            v->bytes = bytes;
            expect(data, field, 3, cases[i].text);
        }
        pb_schema_FieldData *data = mt_data(field_of(fx, "d"), 1, 0, false, 1, fx->arena);
        double d = (double)cases[i].value;
        data->scalars->double_data->data.bytes = (const uint8_t *)&d;
        expect(data, field_of(fx, "d"), 1, cases[i].text);
        static const char *const halves[] = {"vh", "vbf"};
        for (size_t k = 0; k < 2; k++) {
            data = mt_data(field_of(fx, halves[k]), 1, 0, false, 1, fx->arena);
            uint16_t h[5] = {0};
            h[3] = k ? rk_f32_to_bf16(cases[i].value) : rk_f32_to_f16(cases[i].value);
            data->vectors->float16_vector = (rk_str){(const char *)h, sizeof(h)};
            expect(data, field_of(fx, halves[k]), 1, cases[i].text);
        }
    }
    pb_schema_FieldData *data = mt_data(field_of(fx, "i8"), 3, 0, false, 1, fx->arena);
    data->scalars->int_data->data.data[1] = 128;
    expect(data, field_of(fx, "i8"), 3,
           "the 1th element (128) out of range: [-128, 127]: invalid parameter");
    expect(data, field_of(fx, "i16"), 3, NULL);
    data->scalars->int_data->data.data[1] = -32769;
    expect(data, field_of(fx, "i16"), 3, "the 1th element (-32769) out of range: [-32768, 32767]");
}

static void
test_texts(void **state)
{
    fixture *fx = *state;
    pb_schema_FieldData *data = mt_data(field_of(fx, "s"), 3, 0, false, 1, fx->arena);
    rk_str *s = data->scalars->string_data->data.data;
    static char big[70000];

    memset(big, ' ', sizeof(big));
    s[2] = (rk_str){big, 41};
    expect(data, field_of(fx, "s"), 3,
           "length of varchar field s exceeds max length, row number: 2, length: 41, max length: "
           "40: invalid parameter");
    s[2] = (rk_str){big, 40};
    expect(data, field_of(fx, "s"), 3, NULL);
    s[0] = RK_STR("\xff");
    expect(data, field_of(fx, "s"), 3, "not valid UTF-8, row number: 0");

    const rk_field *json = field_of(fx, "j");
    const rk_field *dynamic = field_of(fx, RK_DYNAMIC_NAME);
    data = mt_data(json, 2, 0, false, 1, fx->arena);
    data->scalars->json_data->data.data[1] = (rk_str){big, 65537};
    expect(data, json, 2,
           "the length (65537) of json field (j) exceeds max length (65536): invalid "
           "parameter[expected=");
    expect(data, dynamic, 2, "the length (65537) of dynamic field exceeds max length (65536)");
    data->scalars->json_data->data.data[1] = RK_STR("[1, 2]");
    expect(data, json, 2, NULL);
    expect(data, dynamic, 2, "JSON object");
    data->scalars->json_data->data.data[1] = RK_STR("{\"a\": }");
    expect(data, json, 2, "field 'j' holds no valid JSON, row number: 1");
    data->scalars->json_data->data.data[1] = RK_STR("");
    expect(data, json, 2, "field 'j' holds no valid JSON, row number: 1");
}

static void
test_arrays(void **state)
{
    fixture *fx = *state;
    pb_schema_FieldData *data = mt_data(field_of(fx, "a64"), 2, 0, false, 1, fx->arena);
    pb_schema_ScalarField *row = RK_ARENA_NEW(fx->arena, pb_schema_ScalarField);
    int32_t ints[10] = {0};
    pb_schema_IntArray int_array = {.data = {ints, 10}};

    row->data_case = PB_SCHEMA_ScalarField_int_data;
    row->int_data = &int_array;
    data->scalars->array_data->data.data[1] = row;
    expect(data, field_of(fx, "a64"), 2,
           "insert data does not match: invalid parameter[expected=int64 array][actual=int array]");
    data = mt_data(field_of(fx, "a8"), 2, 0, false, 1, fx->arena);
    data->scalars->array_data->data.data[1] = row;
    expect(data, field_of(fx, "a8"), 2,
           "the length (10) of 1th array exceeds max capacity (9): invalid "
           "parameter[expected=valid length array]"
           "[actual=array length exceeds max capacity]");
    int_array.data.n = 9;
    expect(data, field_of(fx, "a8"), 2, NULL);
    ints[8] = 200;
    expect(data, field_of(fx, "a8"), 2, "the 8th element (200) out of range: [-128, 127]");
    data = mt_data(field_of(fx, "as"), 1, 0, false, 1, fx->arena);
    rk_str strings[2] = {RK_STR("x"), RK_STR("12345678901234567")};
    pb_schema_StringArray string_array = {.data = {strings, 2}};
    row->data_case = PB_SCHEMA_ScalarField_string_data;
    row->string_data = &string_array;
    data->scalars->array_data->data.data[0] = row;
    expect(data, field_of(fx, "as"), 1,
           "length of Array array field \"as\" exceeds max length, row number: 0, array index: 1, "
           "length: 17, max length: 16");
}

static void
test_sparse(void **state)
{
    static const struct {
        rk_str bytes;
        const char *text;
    } cases[] = {
        {{"", 0}, NULL},
        {{"\1\0\0\0\0\0\200\77", 8}, NULL},
        {{"\1\0\0\0\0\0\200\77\2\0\0\0\0\0\200\77", 16}, NULL},
        {{"\1\0\0\0\0\0\200", 7},
         "invalid data length in sparse float vector: 7: invalid parameter"},
        {{"\377\377\377\377\0\0\200\77", 8},
         "invalid index in sparse float vector: must be less than 2^32-1"},
        {{"\1\0\0\0\0\0\200\77\1\0\0\0\0\0\200\77", 16},
         "unsorted or same indices in sparse float vector"},
        {{"\1\0\0\0\0\0\200\277", 8}, "negative value in sparse float vector"},
        {{"\1\0\0\0\0\0\300\177", 8}, "value 'NaN' is not a number or infinity"},
    };
    fixture *fx = *state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        pb_schema_FieldData *data = mt_data(field_of(fx, "vs"), 2, 0, false, 1, fx->arena);
        data->vectors->sparse_float_vector->contents.data[1] = cases[i].bytes;
        expect(data, field_of(fx, "vs"), 2, cases[i].text);
    }
}

static int
set_up(void **state)
{
    static fixture fx;

    fx = (fixture){
        .schema = mt_schema(false), .nullable = mt_schema(true), .arena = rk_arena_new(0)};
    *state = &fx;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *fx = *state;

    rk_schema_unref(fx->schema);
    rk_schema_unref(fx->nullable);
    rk_arena_free(fx->arena);
    return 0;
}

int
mt_check_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mismatch), cmocka_unit_test(test_dims),
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_sparse),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
