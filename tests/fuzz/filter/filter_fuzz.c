/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a filter: compile against a collection with every kind of field, evaluate over a few
 * rows, print, and compile the print. The print of what was compiled from a print is the same text,
 * and passes the same rows.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../unit/filter/filter_help.h"

#define ROWS 67 /* a word and a piece of one */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok, const char *what, rk_str text)
{
    if (!ok) {
        (void)fprintf(stderr, "filter_fuzz: %s: %.*s\n", what, RK_STR_ARG(text));
        abort();
    }
}

static fh_table *
make_table(void)
{
    static const char *const texts[] = {"", "a", "ab", "abc", "50%", "caf\xc3\xa9", "it's"};
    static const char *const jsons[] = {
        "{}",
        "{\"a\":1,\"k\":\"x\",\"t\":[1,2,3]}",
        "{\"a\":2.5,\"k\":true,\"t\":[[1,2],\"x\"]}",
        "{\"a\":null,\"k\":{\"b\":[]},\"t\":\"no\"}",
        "{\"a\":-9223372036854775808,\"k\":[null,{}],\"foo\":7}",
    };
    static const char *const arrays[] = {"[]", "[1]", "[1,2]", "[3,-1,7,8]"};
    static const char *const text_arrays[] = {"[]", "[\"a\"]", "[\"ab\",\"\",\"abc\"]"};
    fh_table *t = fh_table_new(ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < FH_FIELDS; i++) {
            const rk_field *field = &t->schema->fields[i];
            fh_value *cell = fh_cell(t, r, i);
            if (i == FH_V || (field->nullable && (r + i) % 4 == 0)) {
                continue;
            }
            switch ((int)field->type) {
            case RK_BOOL:
                *cell = fh_bool(r % 3 == 0);
                break;
            case RK_FLOAT:
            case RK_DOUBLE:
                *cell = fh_float((double)r / 4 - 3);
                break;
            case RK_VARCHAR:
                *cell = fh_string(texts[r % RK_COUNT(texts)]);
                break;
            case RK_JSON:
                *cell = fh_json(t->arena, jsons[r % RK_COUNT(jsons)]);
                break;
            case RK_ARRAY:
                *cell = fh_json(t->arena, field->element == RK_VARCHAR
                                              ? text_arrays[r % RK_COUNT(text_arrays)]
                                              : arrays[r % RK_COUNT(arrays)]);
                for (size_t k = 0; k < cell->n && field->element == RK_FLOAT; k++) {
                    fh_value v = fh_float((double)cell->items[k].i);
                    memcpy((void *)(uintptr_t)&cell->items[k], &v, sizeof(v));
                }
                break;
            default:
                *cell = fh_int(r == 5 && field->type == RK_INT64 ? INT64_MIN : (int64_t)r - 9);
                break;
            }
        }
    }
    fh_table_build(t);
    return t;
}

static void
evaluate(const rk_filter *filter, const fh_table *t, uint64_t *words, rk_arena *arena, rk_str text)
{
    rk_filter_chunk chunk = {.rows = t->rows, .columns = t->columns};
    rk_code code = rk_filter_eval(filter, &chunk, words, arena, NULL);
    check(code == RK_OK || code == RK_ENOMEM, "evaluation fails", text);
    check(words[1] >> (ROWS - 64) == 0, "bits past the rows", text);
}

static void
round_trip(const fh_table *t, rk_str text, const rk_filter_options *options, rk_arena *arena)
{
    const rk_filter *filter = NULL;
    const rk_filter *again = NULL;
    rk_err err = {0};
    uint64_t first[2] = {0};
    uint64_t second[2] = {0};
    const rk_pk *keys = NULL;
    size_t n = 0;

    rk_code code = rk_filter_compile(&filter, text, t->schema, options, arena, &err);
    if (code != RK_OK) {
        check(err.code == code && err.text[0], "an error without a sentence", text);
        return;
    }
    evaluate(filter, t, first, arena, text);
    (void)rk_filter_primary_keys(filter, &keys, &n);
    rk_str print = rk_filter_print(filter, arena);
    if (!print.data) {
        return; /* no memory */
    }
    code = rk_filter_compile(&again, print, t->schema, NULL, arena, &err);
    if (code == RK_ENOMEM || (code != RK_OK && strstr(err.text, "nesting depth"))) {
        return; /* a sign or an infinity may need one level more */
    }
    check(code == RK_OK, err.text, print);
    evaluate(again, t, second, arena, print);
    check(memcmp(first, second, sizeof(first)) == 0, "the print means something else", print);
    rk_str print2 = rk_filter_print(again, arena);
    check(!print2.data || rk_str_eq(print, print2), "no fixpoint", print);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fh_table *table;
    static int64_t longs[] = {1, 3, -7};
    static rk_str strings[] = {{"ab", 2}, {"", 0}};
    pb_schema_LongArray long_data = {.data = {longs, 3}};
    pb_schema_StringArray string_data = {.data = {strings, 2}};
    pb_schema_TemplateArrayValue arrays[] = {
        {.data_case = PB_SCHEMA_TemplateArrayValue_long_data, .long_data = &long_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_string_data, .string_data = &string_data},
    };
    pb_schema_TemplateValue values[] = {
        {.val_case = PB_SCHEMA_TemplateValue_int64_val, .int64_val = 3},
        {.val_case = PB_SCHEMA_TemplateValue_string_val, .string_val = {"a%\\_b", 5}},
        {.val_case = PB_SCHEMA_TemplateValue_float_val, .float_val = 2.5},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[0]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[1]},
    };
    const rk_template templates[] = {{{"i", 1}, &values[0]},
                                     {{"s", 1}, &values[1]},
                                     {{"d", 1}, &values[2]},
                                     {{"l", 1}, &values[3]},
                                     {{"t", 1}, &values[4]}};
    rk_filter_options options = {.templates = templates, .templates_len = RK_COUNT(templates)};
    rk_str text = {(const char *)data, size};
    const rk_field *field = NULL;
    rk_json_path path;

    if (!table) {
        table = make_table();
    }
    rk_arena *arena = rk_arena_new(64u << 20);
    check(arena != NULL, "no memory", text);
    (void)!rk_filter_parse_path(text, table->schema, &field, &path, arena, NULL);
    round_trip(table, text, &options, arena);
    rk_arena_free(arena);
    return 0;
}
