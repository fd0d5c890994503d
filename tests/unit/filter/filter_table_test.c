/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The language by example: which rows of a small table pass, or which phrase the error holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>
#include <stdio.h>

#include "filter_help.h"

#define ROWS 8

/* Row by row, so that the expected bits can be checked by eye. */
static const struct {
    int64_t i8;
    int64_t n; /* -1000: null */
    double f, d;
    bool b;
    const char *s;
    const char *j; /* NULL: null */
    const char *arr;
    const char *sarr;
    const char *meta;
} rows[ROWS] = {
    {0, 0, 0.0, 0.0, false, "", "{}", "[]", "[]", "{}"},
    {1, 1, 0.1, 0.1, true, "a", "{\"a\":5,\"t\":[1,2],\"k\":1}", "[1,2]", "[\"a\"]",
     "{\"k\":1,\"foo\":\"x\"}"},
    {2, 2, 1.0, 1.0, false, "ab", "{\"a\":6,\"t\":[[1,2],3],\"k\":\"x\"}", "[2]", "[\"a\",\"b\"]",
     "{\"k\":2,\"foo\":null}"},
    {3, 3, -1.5, 8.5, true, "abc", "{\"a\":\"5\",\"t\":\"no\",\"k\":true}", "[3,1,2]", "[\"ab\"]",
     "{\"k\":\"1\",\"foo\":[]}"},
    {127, 15, 2.5, 8.0, false, "50%", "{\"a\":5.0,\"t\":[],\"k\":2.5}", "[7]", "[\"\"]",
     "{\"k\":1.0,\"foo\":{\"x\":null}}"},
    {-128, 31, 8.0, -0.0, true, "abc\\", "{\"a\":null,\"k\":\"ab\"}", "[5,6,7,8]",
     "[\"x\",\"y\",\"z\"]", "{\"k\":[1,2],\"foo\":{\"x\":0}}"},
    {5, -1000, 100.0, 5.0, false, "it's", NULL, "[1]", "[\"it\"]", "{\"foo\":\"\"}"},
    {6, -5, -2.0, 3.0, true, "h\xc3\xa9llo", "{\"a\":{\"b\":[9,2]},\"t\":[1.0,\"x\"],\"k\":7}",
     "[-5]", "[\"abc\"]", "{\"k\":1,\"1\":{\"z\":true}}"},
};

static fh_table *table;

static fh_table *
make_table(void)
{
    fh_table *t = fh_table_new(ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        *fh_cell(t, r, FH_ID) = fh_int((int64_t)r * 10);
        *fh_cell(t, r, FH_I8) = fh_int(rows[r].i8);
        *fh_cell(t, r, FH_I16) = fh_int(rows[r].i8 * 100);
        *fh_cell(t, r, FH_I32) = fh_int(rows[r].i8 * 1000000);
        *fh_cell(t, r, FH_N) = rows[r].n == -1000 ? (fh_value){0} : fh_int(rows[r].n);
        *fh_cell(t, r, FH_M) = fh_int(r == 0 ? INT64_MIN : r == 1 ? INT64_MAX : (int64_t)r);
        *fh_cell(t, r, FH_F) = fh_float(rows[r].f);
        *fh_cell(t, r, FH_D) = fh_float(rows[r].d);
        *fh_cell(t, r, FH_B) = fh_bool(rows[r].b);
        *fh_cell(t, r, FH_S) = fh_string(rows[r].s);
        *fh_cell(t, r, FH_SN) = r % 2 ? (fh_value){0} : fh_string(rows[r].s);
        *fh_cell(t, r, FH_J) = rows[r].j ? fh_json(t->arena, rows[r].j) : (fh_value){0};
        *fh_cell(t, r, FH_ARR) = r == 6 ? (fh_value){0} : fh_json(t->arena, rows[r].arr);
        *fh_cell(t, r, FH_A8) = fh_list(t->arena, 0, NULL);
        *fh_cell(t, r, FH_AF) = fh_list(t->arena, 1, &(fh_value){.kind = FH_FLOAT, .f = rows[r].f});
        *fh_cell(t, r, FH_AB) = fh_list(t->arena, 1, &(fh_value){.kind = FH_BOOL, .b = rows[r].b});
        *fh_cell(t, r, FH_SARR) = fh_json(t->arena, rows[r].sarr);
        *fh_cell(t, r, FH_META) = fh_json(t->arena, rows[r].meta);
    }
    fh_table_build(t);
    return t;
}

/* The bits of the rows that pass as text, or the error sentence. */
static const char *
answer(const char *expr, const rk_filter_options *options)
{
    static char out[RK_ERR_TEXT_MAX];
    rk_arena *arena = rk_arena_new(0);
    const rk_filter *filter = NULL;
    rk_err err = {0};
    uint64_t word = 0;

    rk_code code =
        rk_filter_compile(&filter, rk_str_from(expr), table->schema, options, arena, &err);
    if (code != RK_OK) {
        assert_int_equal(code, RK_EINVAL);
        assert_int_equal(err.code, RK_EINVAL);
        (void)snprintf(out, sizeof(out), "%s", err.text);
    } else {
        rk_filter_chunk chunk = {.rows = table->rows, .columns = table->columns};
        code = rk_filter_eval(filter, &chunk, &word, arena, &err);
        assert_int_equal(code, RK_OK);
        for (size_t i = 0; i < ROWS; i++) {
            out[i] = (word >> i) & 1 ? '1' : '0';
        }
        out[ROWS] = '\0';
        assert_int_equal(word >> ROWS, 0);
        /* the print is a fixpoint and means the same */
        rk_str text = rk_filter_print(filter, arena);
        const rk_filter *again = NULL;
        code = rk_filter_compile(&again, text, table->schema, NULL, arena, &err);
        if (code != RK_OK) {
            fail_msg("%s: print does not compile: %s: %s", expr, text.data, err.text);
        }
        assert_string_equal(rk_filter_print(again, arena).data, text.data);
        uint64_t word2 = 0;
        assert_int_equal(rk_filter_eval(again, &chunk, &word2, arena, &err), RK_OK);
        if (word2 != word) {
            fail_msg("%s: print means something else: %s", expr, text.data);
        }
    }
    rk_arena_free(arena);
    return out;
}

typedef struct example {
    const char *expr;
    const char *want; /* bits, or a phrase of the error */
} example;

static void
run_examples(const example *examples, size_t n)
{
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        const char *got = answer(examples[i].expr, NULL);
        bool bits = examples[i].want[0] == '0' || examples[i].want[0] == '1';
        if (bits ? strcmp(got, examples[i].want) != 0 : strstr(got, examples[i].want) == NULL) {
            print_error("%s: got %s, want %s\n", examples[i].expr, got, examples[i].want);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void
test_sheet(void **state)
{
    static const example examples[] = {
        {"n>1and b==true", "00010100"},
        {"n == 0x1F or n == 0b11 or n == 017", "00011100"},
        {"n == 08", "line 1:6"},
        {"n == 1_000", "line 1:6"},
        {"n == 0o17", "line 1:6"},
        {"n == 1L", "line 1:6"},
        {"d == 08.5", "00010000"},
        {"d == .5", "00000000"},
        {"d == 1.", "00100000"},
        {"d == 0x1p3", "00001000"},
        {"n == 0x1and b == true", "line 1:9"},
        {"m == -9223372036854775808", "10000000"},
        {"m == -(9223372036854775808)", "10000000"},
        {"n == 9223372036854775808", "overflows Int64"},
        {"n == -0x8000000000000000", "overflows Int64"},
        {"n in [9223372036854775808]", "overflows Int64"},
        {"m in [-9223372036854775808]", "10000000"},
        {"d < 1e400", "overflows Double"},
        {"n == 1.0", "cannot cast value to Int64"},
        {"d == 1", "00100000"},
        {"f == 0.1", "01000000"},
        {"d == 0.1", "01000000"},
        {"i8 == 300", "00000000"},
        {"i8 != 300", "11111111"},
        {"i8 < 300", "11111111"},
        {"i8 > -300 and i8 >= 127", "00001000"},
        {"i8 < -127", "00000100"},
        {"n != 300", "11111101"},
        {"5 < n", "00001100"},
        {"1 < n <= 5", "00110000"},
        {"5 >= n > 1", "00110000"},
        {"1 < n < 2 + 3", "00110000"},
        {"1 < n > 5", "incompatible operands"},
        {"n < 5 < 10", "incompatible operands"},
        {"1 < n + 1 < 5", "incompatible operands"},
        {"5 < n < 1", "lowerbound is greater than upperbound"},
        {"3 < n <= 3", "lowerbound is greater than upperbound"},
        {"3 <= n <= 3", "00010000"},
        {"n > 5 and n < 1", "00000000"},
        {"1 < n < d", "upperbound cannot be a non-const expression"},
        {"d < n < 1", "lowerbound cannot be a non-const expression"},
        {"1 < s < 5", "invalid range operations"},
        {"false < b < true", "invalid range operations on boolean expr"},
        {"1 < j[\"k\"] < \"x\"", "bounds are not comparable"},
        {"1 <= j[\"k\"] < 2.75", "01001000"},
        {"\"a\" < s < \"abc\"", "00100000"},
        {"n < d", "00010001"},
        {"i8 < n", "00000100"},
        {"f == d", "10100000"},
        {"s == sn", "10101010"},
        {"n < s", "comparisons between Int64 and VarChar are not supported"},
        {"s == 5", "comparisons between VarChar and Int64 are not supported"},
        {"n == j[\"k\"]", "two column comparison with JSON type is not supported"},
        {"n == foo", "two column comparison with JSON type is not supported"},
        {"arr == arr", "field-to-field comparison involving ARRAY"},
        {"n + 1 == m", "only comparison between two fields is supported"},
        {"b", "predicate is not a boolean expression: b, data type: Bool"},
        {"not b", "not op can only be applied on boolean expression"},
        {"b and n > 1", "'and' can only be used between boolean expressions"},
        {"n > 1 or b", "'or' can only be used between boolean expressions"},
        {"n", "data type: Int64"},
        {"n + 1", "data type: Int64"},
        {"\"x\"", "data type: VarChar"},
        {"b == true", "01010101"},
        {"b != False", "01010101"},
        {"b < true", "10101010"},
        {"b in [true, false]", "11111111"},
        {"b == tRue", "two column comparison with JSON"},
        {"b == 1", "comparisons between Bool and Int64 are not supported"},
        {"not n > 1", "not op can only be applied"},
        {"not n in [1]", "not op can only be applied"},
        {"not (n > 1)", "11000001"},
        {"!(n > 1)", "11000001"},
        {"!!(n > 1)", "00111100"},
        {"not s like \"a%\"", "10001011"},
        {"not s is null", "11111111"},
        {"n IS NULL", "00000010"},
        {"n is not null", "11111101"},
        {"sn is null", "01010101"},
        {"n is  null", "line 1:2"},
        {"n Is Null", "line 1:2"},
        {"n is NULL", "line 1:2"},
        {"(n) is null", "line 1:4"},
        {"$meta is null", "line 1:6"},
        {"n is null is null", "line 1:10"},
        {"v is null", "not supported on vector fields"},
        {"arr[0] is null", "not supported on array elements"},
        {"arr is null", "00000010"},
        {"j is null", "00000010"},
        {"n == null", "NULL literal is not supported"},
        {"true", "11111111"},
        {"false", "00000000"},
        {"1 == 1", "11111111"},
        {"not false", "11111111"},
        {"true or n > 1", "11111111"},
        {"false and n > 1", "00000000"},
        {"true and n > 1", "00111100"},
        {"\"a\" < \"b\" and n > 1", "00111100"},
        {"1 == \"1\"", "incompatible operands"},
        {"[1] == [1]", "incompatible operands"},
        {"n > 1 AND n < 9 Or b == true", "line 1:16"},
        {"n > 1 AND n < 9 OR b == true", "01110101"},
        {"n in [1, 2, 3,]", "01110000"},
        {"n in ([1,2])", "01100000"},
        {"n in (1, 2)", "line 1:7"},
        {"n in [,]", "line 1:6"},
        {"n in[1]", "line 1:2"},
        {"n in[1,2]", "01100000"},
        {"n in[]", "00000000"},
        {"n in []", "00000000"},
        {"n not in []", "11111101"},
        {"j[\"k\"] not in []", "11111111"},
        {"j[\"k\"] in []", "00000000"},
        {"arr[0] not in []", "11111111"},
        {"n in [1, \"a\"]", "value 'a' in list cannot be casted to Int64"},
        {"n in [1.5]", "value '1.5' in list cannot be casted to Int64"},
        {"n in [1+1, -3, 2**3, - 5]", "00100001"},
        {"n in [d]", "value 'd' in list cannot be a non-const expression"},
        {"n in d", "the right-hand side of 'in' must be a list, but got: d"},
        {"1 in [1]", "'term' can only be used on non-const expression"},
        {"n+1 in [2]", "'term' can only be used on single field"},
        {"v in [1]", "term expression is not supported for data type FloatVector"},
        {"n ! in [1]", "10111101"},
        {"n not in [1]", "10111101"},
        {"n NOT IN [1]", "10111101"},
        {"j[\"k\"] in [1, \"x\", true, 2.5]", "01111000"},
        {"j[\"k\"] not in [1]", "00001001"},
        {"i8 in [1, 300, -128, 5]", "01000110"},
        {"f in [0.1, 8, -2]", "01000101"},
        {"s in [\"ab\", 'abc']", "00110000"},
        {"s == 'it''s'", "line 1:9"},
        {"s == \"it's\" or s == 'say \"x\"'", "00000010"},
        {"s == \"\\d\"", "invalid escape"},
        {"s like \"50\\%\"", "invalid escape"},
        {"s like \"50\\\\%\"", "00001000"},
        {"s like r\"50\\%\"", "00001000"},
        {"s like \"%a%b%\"", "00110100"},
        {"s like \"a_\"", "00100000"},
        {"s like \"%\"", "11111111"},
        {"sn like \"%\"", "10101010"},
        {"s like \"\"", "10000000"},
        {"s like \"h_llo\"", "00000001"},
        {"s like \"h__llo\"", "00000000"},
        {"s like \"%_llo\"", "00000001"},
        {"s like r\"abc\\\"", "line 1:7"},
        {"s like r\"abc\\\\\"", "00000100"},
        {"s like r\"abc\\\\\\\\\\\\\"", "00000000"},
        {"s like \"abc\\\\\\\\\"", "00000100"},
        {"s like \"abc\\\\\"", "trailing backslash"},
        {"s like 5", "like pattern should be a string literal"},
        {"s like n", "like pattern should be a string literal"},
        {"n like \"1%\"", "like operation on non-string or no-json field is unsupported"},
        {"s like \"a\" + \"%\"", "can only be used between"},
        {"s =~ \"\\d+\"", "00001000"},
        {"s !~ r\"^ab\"", "11001011"},
        {"s =~ \"\" and s =~ \"l+o$\"", "00000001"},
        {"s =~ \"(\"", "invalid regex pattern"},
        {"s =~ \"a(?=b)\"", "invalid regex pattern"},
        {"s =~ r\"(a)\\1\"", "invalid regex pattern"},
        {"sn !~ \"z\"", "10101010"},
        {"n + 1 == 3", "00100000"},
        {"1 + n == 3", "00100000"},
        {"n % 2 == 0", "10100000"},
        {"n--1 == 2", "01000000"},
        {"1 - n == 3", "module field is not yet supported"},
        {"n + i8 == 3", "not supported to do arithmetic operations between multiple fields"},
        {"(n + 1) * 2 == 4", "complicated arithmetic operations are not supported"},
        {"n / 0 == 1", "division or modulus by zero"},
        {"d / 0.0 == 1", "division or modulus by zero"},
        {"1 / 0 == 1", "cannot divide by zero"},
        {"1 % 0 == 1", "cannot modulo by zero"},
        {"n % 0 == 0", "division or modulus by zero"},
        {"n + 1.5 > 2", "cannot perform arithmetic between Int64 field and Double"},
        {"n + 1 == 2.5", "cannot cast value to Int64"},
        {"-n > 5", "unexpected op: -"},
        {"+n > 5", "00001100"},
        {"n ** 2 == 4", "power can only apply on constants"},
        {"n == 2 ** 3 ** 2", "00000000"},
        {"-2 ** 2 == -4 and n == 1", "01000000"},
        {"2 ** -1 ** 2 == 0.5", "11111111"},
        {"(n & 4) == 4", "00001100"},
        {"n & 4 == 4", "cannot perform arithmetic between Int64 field and Bool"},
        {"(n | 1) == 3", "00110000"},
        {"(n ^ 1) == 3", "00100000"},
        {"(d & 4) == 4", "bitwise operations can only apply on integer types"},
        {"d % 2 == 0", "modulo can only apply on integer types"},
        {"n << 2 == 8", "shift is not supported"},
        {"~n == 1", "unexpected op: ~"},
        {"m / -1 == -9223372036854775808", "10000000"},
        {"m % -1 == 0", "11111111"},
        {"m + 1 == -9223372036854775808", "01000000"},
        {"d * 2 == 17", "00010000"},
        {"f / 2 == 4.0", "00000100"},
        {"j[\"a\"][\"b\"][0] > 1", "00000001"},
        {"$meta[\"k\"] == 1", "01001001"},
        {"k == 1", "01001001"},
        {"k == \"1\"", "00010000"},
        {"k == [1,2]", "00000100"},
        {"k[1] == 2", "00000100"},
        {"j [\"a\"] == 1", "line 1:2"},
        {"j[-1] == 1", "line 1:1"},
        {"j.a == 1", "line 1:1"},
        {"j[\"\"] == 1", "empty key"},
        {"s[\"x\"] == 1", "VarChar data type not supported accessed with []"},
        {"j[\"a\"] != 5", "00100000"},
        {"not (j[\"a\"] == 5)", "00100000"},
        {"j[\"a\"] == 5", "01001000"},
        {"j[\"a\"] == 5.0", "01001000"},
        {"j[\"a\"] > \"4\"", "00010000"},
        {"exists j[\"a\"]", "01111001"},
        {"j[\"a\"] is not null", "01111001"},
        {"j[\"a\"] is null", "10000110"},
        {"exists foo", "01000110"},
        {"not exists foo", "10111001"},
        {"foo is null", "10111001"},
        {"exists j", "exists operations are only supportted on json key"},
        {"exists n", "exists operations are only supportted on json field, got:Int64"},
        {"exists j[\"k\"] > 1", "incompatible operands"},
        {"j[\"a\"] + 1 == 3.5", "cannot cast value to Int64"},
        {"j[\"a\"] + 1 == 6", "01001000"},
        {"j[\"a\"] + 0.5 == 5.5", "01001000"},
        {"json_contains(j[\"t\"], [1,2])", "00100000"},
        {"json_contains(j[\"t\"], 1)", "01000001"},
        {"json_contains(j[\"t\"], 1.0)", "01000001"},
        {"JSON_CONTAINS(j[\"t\"], \"x\")", "00000001"},
        {"json_contains_any(j[\"t\"], 1)", "ContainsAny operation element must be an array"},
        {"json_contains_any(j[\"t\"], [3, \"x\"])", "00100001"},
        {"json_contains_all(j[\"t\"], [1, 2])", "01000000"},
        {"json_contains_all(j[\"t\"], [])", "11111111"},
        {"json_contains_any(j[\"t\"], [])", "00000000"},
        {"not json_contains(j[\"t\"], 1)", "00101000"},
        {"array_contains_all(arr, [])", "11111101"},
        {"array_contains(arr, 2)", "01110000"},
        {"array_contains_any(arr, [2, 8])", "01110100"},
        {"array_contains_all(arr, [1, 2])", "01010000"},
        {"array_contains(sarr, \"ab\")", "00010000"},
        {"array_contains(arr, \"x\")", "cannot be casted"},
        {"array_contains(n, 1)", "contains operation are only supported on json or array fields"},
        {"array_contains(arr[0], 1)", "contains operation are only supported"},
        {"arr == [1,2]", "01000000"},
        {"arr != [1,2]", "10111101"},
        {"arr[0] > 3", "00001100"},
        {"arr[3] == 8", "00000100"},
        {"not (arr[3] == 1)", "00000100"},
        {"arr == []", "10000000"},
        {"arr in [[1,2],[7]]", "01001000"},
        {"sarr[0] like \"a%\"", "01110001"},
        {"af[0] == 0.1", "01000000"},
        {"ab[0] == true", "01010101"},
        {"arr > [1]", "can not comparisons array fields directly"},
        {"arr == 1", "cannot cast value to Array[Int64]"},
        {"arr + 1 == 2", "can not comparisons array fields directly"},
        {"arr[\"0\"] == 1", "can only access array field with integer index"},
        {"arr[0] == 1.5", "cannot cast value to Int64"},
        {"array_length(arr) >= 2", "01010100"},
        {"2 <= array_length(arr)", "01010100"},
        {"array_length(j[\"t\"]) == 2", "01100001"},
        {"array_length(arr) == 1.0", "cannot cast value to Int64"},
        {"1 < array_length(arr) < 3", "incompatible operands"},
        {"array_length(n) == 1", "array_length operation are only supported"},
        {"text_match(s, \"a b\", minimum_should_match=2)", "not supported by this build"},
        {"text_match(s, \"a\", minimum_should_match=-1)", "line 1:"},
        {"text_match(j[\"k\"], \"a\")", "line 1:11"},
        {"Text_Match(s, \"a\")", "function text_match(VarChar, VarChar) not found."},
        {"nosuch(s)", "function nosuch(VarChar) not found."},
        {"starts_with(s, \"a\") and not empty(s)", "01110100"},
        {"STARTS_WITH(s, sn)", "10101010"},
        {"empty(s)", "10000000"},
        {"empty(s) == true", "incompatible operands"},
        {"n > ISO '2025-01-01T00:00:00Z'", "field 'n' is not a timestamptz datatype"},
        {"n + INTERVAL 'P1D' > ISO '2025-01-01T00:00:00Z'", "is not a timestamptz"},
        {"ISO '2025-01-01T00:00:00Z' < n", "field 'n' is not a timestamptz datatype"},
        {"(n) > ISO '2025-01-01T00:00:00Z'", "line 1:"},
        {"st_within(n, \"POINT(0 0)\")", "not supported by this build"},
        {"st_isvalid(n)", "not supported by this build"},
        {"random_sample(0.1) and n > 1", "random sample"},
        {"random_sample(1)", "sample factor"},
        {"random_sample(0.0)", "the sample factor should be between 0 and 1"},
        {"n > 1 or random_sample(0.5)", "random sample"},
        {"not random_sample(0.5)", "random sample"},
        {"match_least(st, n > 1, threshold=2) or n > 1", "struct field not found: st"},
        {"match_least(st, n > 1, threshold=-1)", "line 1:"},
        {"element_filter(st, $[x] > 1)", "$[x] syntax can only be used inside"},
        {"$[x] > 1", "$[x] syntax can only be used inside"},
        {"st[x] == 1", "struct field not found: st"},
        {"n == 1;", "line 1:6"},
        {"n = 1", "line 1:2"},
        {"n <> 1", "line 1:3"},
        {"n == 1 n == 2", "line 1:7"},
        {"and n > 1", "line 1:0"},
        {"n >", "<EOF>"},
        {"()", "line 1:1"},
        {"", "<EOF>"},
        {"n == 1 == true", "incompatible operands"},
        {"nosuch == 1", "00000000"},
        {"n == \xff", "not valid UTF-8"},
        {"{a}", "data type: None"},
        {"{1} == n", "line 1:1"},
        {"{in} == n", "line 1:1"},
        {"n == {a}", "template variable name {a} is not found"},
        {"{a} == {b}", "placeholder was not supported between two constants with operator: =="},
        {"{a} + 1 == n", "placeholder was not supported between two constants with operator: +"},
        {"n in [{a}]", "cannot be a non-const expression"},
        {"n == -{a}", "unexpected op: -"},
        {"n == 1\n and s == 'x' )", "line 2:14"},
        {"a\"x\" == 1", "line 1:1"},
        {"1 + 1 == 2 and n == 3", "00010000"},
        {"n == 7 % 4", "00010000"},
        {"n == 7 / 2", "00010000"},
        {"n == (3)", "00010000"},
        {"\xc3\xa9 == 1", "token recognition error"},
        {"s == \"h\\u00e9llo\"", "00000001"},
        {"s == \"h\\xc3\\251llo\"", "00000001"},
        {"s == \"\\ud800\"", "invalid escape"},
        {"not (n == 1 or n == 2) and (s like \"a%\" or not (j[\"a\"] > 1))", "00010100"},
        {"n is null or (b == true and not (n > 2 and f < 3))", "01000111"},
    };
    (void)state;
    run_examples(examples, RK_COUNT(examples));
}

static void
test_no_dynamic_field(void **state)
{
    rk_schema *schema = fh_schema(false, false);
    rk_arena *arena = rk_arena_new(0);
    const rk_filter *filter = NULL;
    rk_err err = {0};
    (void)state;

    assert_int_equal(rk_filter_compile(&filter, RK_STR("nosuch == 1"), schema, NULL, arena, &err),
                     RK_EINVAL);
    assert_string_equal(err.text,
                        "failed to create query plan: cannot parse expression: nosuch == "
                        "1: field nosuch not exist: query plan failed: invalid parameter");
    assert_true(err.input);
    rk_filter_options options = {.what = "delete plan"};
    assert_int_equal(
        rk_filter_compile(&filter, RK_STR("$meta[\"a\"] == 1"), schema, &options, arena, &err),
        RK_EINVAL);
    assert_non_null(strstr(err.text, "failed to create delete plan: cannot parse expression: "
                                     "$meta[\"a\"] == 1: field $meta not exist"));
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

/* ---- what would have been right ---- */

/* The sentence for |text| must end with |want|, in the public API's frame. */
static void
check_hint(bool dynamic, const char *text, const char *want)
{
    static const char tail[] = ": query plan failed: invalid parameter";
    rk_schema *schema = fh_schema(dynamic, false);
    rk_arena *arena = rk_arena_new(0);
    const rk_filter *filter = NULL;
    rk_err err = {0};
    char frame[400];

    assert_int_equal(rk_filter_compile(&filter, rk_str_from(text), schema, NULL, arena, &err),
                     RK_EINVAL);
    (void)snprintf(frame, sizeof(frame), "cannot parse expression: %s: ", text);
    bool framed = strstr(err.text, frame) || strstr(err.text, "predicate is not a boolean");
    size_t len = strlen(err.text);
    size_t want_len = strlen(want);
    framed = framed && len > strlen(tail) && strcmp(err.text + len - strlen(tail), tail) == 0;
    if (framed) {
        len -= strlen(tail);
        err.text[len] = '\0';
    }
    if (!framed || len < want_len || strcmp(err.text + len - want_len, want) != 0) {
        fail_msg("%s:\n\"%s\"\ndoes not end with\n\"%s\"", text, err.text, want);
    }
    rk_arena_free(arena);
    rk_schema_unref(schema);
}

static void
test_hints(void **state)
{
    static const struct {
        const char *text;
        const char *want; /* the end of the sentence before its tail */
    } cases[] = {
        /* equality */
        {"s = \"t5\"", "line 1:2 mismatched input '='; write == to compare"},
        {"n=1", "line 1:1 mismatched input '='; write == to compare"},
        {"n === 1", "line 1:4 mismatched input '='; write == to compare"},
        {"n = = 1", "line 1:2 mismatched input '='; write == to compare"},
        {"n =< 1", "line 1:2 mismatched input '='; write <="},
        {"n => 1", "line 1:2 mismatched input '='; write >="},
        {"n > = 1", "line 1:4 mismatched input '='; write >= without a blank"},
        {"n ! = 1", "line 1:2 mismatched input '!'; write != without a blank"},
        {"n <> 1", "line 1:3 mismatched input '>'; not equal is written !="},
        {"n < > 1", "line 1:4 mismatched input '>'; a value is missing before it"},
        /* conditions joined */
        {"n > 1 & n < 3", "n > 1 & n < 3; conditions are joined by and (&&)"},
        {"n > 1 | n < 3", "n > 1 | n < 3; conditions are joined by or (||)"},
        {"(n > 1) & (n < 3)", "(n > 1) & (n < 3); conditions are joined by and (&&)"},
        {"n & 4 == 4", "Int64 field and Bool; comparisons bind tighter, put the arithmetic in "
                       "parentheses"},
        {"n > 1, n < 3", "line 1:5 mismatched input ','; conditions are joined by and, or"},
        {"n > 1 And n < 3",
         "input 'And'; keywords are all in lower or all in upper case: write and"},
        {"n > 1 Or n < 3", "input 'Or'; keywords are all in lower or all in upper case: write or"},
        {"n > 1 n < 3", "line 1:6 mismatched input 'n'; an operator is missing before it, such as "
                        "and"},
        {"n > 1 5", "line 1:6 mismatched input '5'; an operator is missing before it"},
        {"n > 1 and", "mismatched input '<EOF>'; a value is missing at the end"},
        {"n > 1 and and n < 3", "line 1:10 mismatched input 'and'; a value is missing before it"},
        {"== 1", "line 1:0 mismatched input '=='; a value is missing before it"},
        /* not */
        {"not n > 1", "it applies to what stands right behind it, write not ( )"},
        {"not n in [1]", "it applies to what stands right behind it, write not ( )"},
        {"not b", "boolean expression; write b == true"},
        {"b and n > 1", "boolean expressions; write b == true"},
        {"n > 1 or b", "boolean expressions; write b == true"},
        {"b", "data type: Bool; write b == true"},
        {"s not like \"a%\"", "line 1:2 mismatched input 'not'; after a value write not in or !=, "
                              "or put not ( ) around the whole"},
        {"n not = 1", "line 1:2 mismatched input 'not'; after a value write not in or !=, or put "
                      "not ( ) around the whole"},
        {"n Not in [1]", "input 'Not'; keywords are all in lower or all in upper case: write not"},
        /* lists */
        {"s IN (\"a\", \"b\")",
         "line 1:9 mismatched input ','; the list of in stands in square brackets: [1, 2]"},
        {"n not in (1, 2)",
         "line 1:11 mismatched input ','; the list of in stands in square brackets: [1, 2]"},
        {"s in (\"a\")",
         "must be a list, but got: \"a\"; a list stands in square brackets: [1, 2]"},
        {"s in \"a\"", "must be a list, but got: \"a\"; a list stands in square brackets: [1, 2]"},
        {"n in[1]", "mismatched input 'in[1]'; write a blank after in"},
        {"n In [1]", "input 'In'; keywords are all in lower or all in upper case: write in"},
        {"s Like \"a%\"", "input 'Like'; keywords are all in lower or all in upper case: write "
                          "like"},
        {"n between 1 and 3", "mismatched input 'between'; write 1 <= field <= 2"},
        {"j [\"a\"] == 1", "line 1:2 mismatched input '['; a path has no blank before its ["},
        /* nulls */
        {"n is  null", "mismatched input 'is'; write is null or is not null, with one blank "
                       "between the words, all in lower or all in upper case"},
        {"n Is Null", "mismatched input 'Is'; write is null or is not null, with one blank between "
                      "the words, all in lower or all in upper case"},
        {"(n) is null", "input 'is null'; is null takes a field or a path, without parentheses"},
        /* quotes and brackets */
        {"s == \"abc", "line 1:5 token recognition error at: '\"'; the quote that opens here is "
                       "not closed on its line"},
        {"s == 'abc and n > 1", "line 1:5 token recognition error at: '\''; the quote that opens "
                                "here is not closed on its line"},
        {"s == abc\"", "line 1:8 token recognition error at: '\"'; the quote that opens here is "
                       "not closed on its line"},
        {"s == \xe2\x80\x9cx\xe2\x80\x9d", "at: '\xe2\x80\x9c'; the quotes of text are \" and '"},
        {"`s` == 'x'", "at: '`'; the quotes of text are \" and ', fields stand without"},
        {"n > 1;", "line 1:5 token recognition error at: ';'; an expression ends without ;"},
        {"j.a == 1",
         "line 1:1 token recognition error at: '.'; a key below a JSON field is written "
         "name[\"key\"]"},
        {"n\xc2\xa0> 1", "at: '\xc2\xa0'; this is a no-break space, write a plain one"},
        {"(n > 1", "line 1:6 mismatched input '<EOF>'; the '(' at line 1:0 is not closed"},
        {"n > 1 and\n (n < 3 or\n n == 5",
         "line 3:7 mismatched input '<EOF>'; the '(' at line 2:1 is not closed"},
        {"n in [1, 2", "mismatched input '<EOF>'; the '[' at line 1:5 is not closed"},
        {"json_contains(j, 1", "mismatched input '<EOF>'; the '(' at line 1:13 is not closed"},
        {"n > 1)", "line 1:5 mismatched input ')'; there is no '(' for it to close"},
        {"n == 1]", "line 1:6 mismatched input ']'; there is no '[' for it to close"},
        {"(n in [1, 2)", "line 1:11 mismatched input ')'; the '[' at line 1:6 must be closed "
                         "first"},
        {"(n == 1]", "line 1:7 mismatched input ']'; the '(' at line 1:0 must be closed first"},
        {"()", "line 1:1 mismatched input ')'; a value is missing before it"},
        /* functions: only what is sure */
        {"array_length == 1", "line 1:13 mismatched input '=='"},
        {"random_sample(", "mismatched input '<EOF>'; the '(' at line 1:13 is not closed"},
        {"text_match(s)", "line 1:12 mismatched input ')'"},
        /* a dynamic field takes every name */
        {"s == t5", "is not supported; t5 is no field, text stands in quotes: \"t5\""},
        {"s in [t5]", "non-const expression; t5 is no field, text stands in quotes: \"t5\""},
        {"s == j", "two column comparison with JSON type is not supported"},
        {"s == j[\"k\"]", "two column comparison with JSON type is not supported"},
    };
    static const struct {
        const char *text;
        const char *want;
    } names[] = {
        {"sarrr == 1", "field sarrr not exist, did you mean sarr?"},
        {"Sarr is null", "field Sarr not exist, did you mean sarr?"},
        {"s == t5", "field t5 not exist; text stands in quotes: \"t5\""},
        {"s in [a7, b7]", "field a7 not exist; text stands in quotes: \"a7\""},
        {"s == srr", "field srr not exist, did you mean arr? text stands in quotes: \"srr\""},
        {"nosuchfield > 1", "field nosuchfield not exist"},
        {"saar[0] == 1", "field saar not exist, did you mean sarr?"},
        {"n > 1 and s == t5 or n < 3", "field t5 not exist; text stands in quotes: \"t5\""},
    };

    (void)state;
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check_hint(true, cases[i].text, cases[i].want);
    }
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        check_hint(false, names[i].text, names[i].want);
    }
}

/* ---- templates ---- */

static void
test_templates(void **state)
{
    int64_t longs[] = {1, 3, 31};
    rk_str strings[] = {RK_STR("ab"), RK_STR("it's")};
    rk_str jsons[] = {RK_STR("1"), RK_STR("\"x\""), RK_STR("true"), RK_STR("2.5")};
    rk_str nulls[] = {RK_STR("null")};
    bool bools[] = {true};
    double doubles[] = {0.1, 8.0};
    pb_schema_LongArray long_data = {.data = {longs, 3}};
    pb_schema_StringArray string_data = {.data = {strings, 2}};
    pb_schema_JSONArray json_data = {.data = {jsons, 4}};
    pb_schema_JSONArray null_data = {.data = {nulls, 1}};
    pb_schema_BoolArray bool_data = {.data = {bools, 1}};
    pb_schema_DoubleArray double_data = {.data = {(const uint8_t *)doubles, 2}};
    pb_schema_TemplateArrayValue arrays[] = {
        {.data_case = PB_SCHEMA_TemplateArrayValue_long_data, .long_data = &long_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_string_data, .string_data = &string_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_json_data, .json_data = &json_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_json_data, .json_data = &null_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_bool_data, .bool_data = &bool_data},
        {.data_case = PB_SCHEMA_TemplateArrayValue_double_data, .double_data = &double_data},
        {.data_case = 0},
    };
    pb_schema_TemplateArrayValue *nested[] = {&arrays[0], &arrays[6]};
    pb_schema_TemplateArrayValueArray nested_data = {.data = {nested, 2}};
    pb_schema_TemplateArrayValue nested_array = {
        .data_case = PB_SCHEMA_TemplateArrayValue_array_data, .array_data = &nested_data};
    pb_schema_TemplateValue values[] = {
        {.val_case = PB_SCHEMA_TemplateValue_int64_val, .int64_val = 3},
        {.val_case = PB_SCHEMA_TemplateValue_string_val, .string_val = RK_STR("a%")},
        {.val_case = PB_SCHEMA_TemplateValue_float_val, .float_val = 8.5},
        {.val_case = PB_SCHEMA_TemplateValue_bool_val, .bool_val = true},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[0]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[1]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[2]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[3]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[4]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[5]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &arrays[6]},
        {.val_case = PB_SCHEMA_TemplateValue_array_val, .array_val = &nested_array},
        {.val_case = PB_SCHEMA_TemplateValue_int64_val, .int64_val = 0},
    };
    const rk_template templates[] = {
        {RK_STR("i"), &values[0]},     {RK_STR("s"), &values[1]},
        {RK_STR("f"), &values[2]},     {RK_STR("b"), &values[3]},
        {RK_STR("ints"), &values[4]},  {RK_STR("strs"), &values[5]},
        {RK_STR("mix"), &values[6]},   {RK_STR("nulls"), &values[7]},
        {RK_STR("bools"), &values[8]}, {RK_STR("floats"), &values[9]},
        {RK_STR("none"), &values[10]}, {RK_STR("deep"), &values[11]},
        {RK_STR("zero"), &values[12]},
    };
    rk_filter_options options = {.templates = templates, .templates_len = RK_COUNT(templates)};
    static const example examples[] = {
        {"n > {i} and s in {strs}", "00000000"},
        {"n == {i}", "00010000"},
        {"{i} == n", "00010000"},
        {"{i} <= n < 20", "00011000"},
        {"s in {strs}", "00100010"},
        {"n in {ints}", "01010100"},
        {"n not in {ints}", "10101001"},
        {"n in {none}", "00000000"},
        {"s like {s}", "01110100"},
        {"s =~ {s}", "00000000"},
        {"d == {f}", "00010000"},
        {"b == {b}", "01010101"},
        {"b in {bools}", "01010101"},
        {"f in {floats}", "01000100"},
        {"j[\"k\"] in {mix}", "01111000"},
        {"arr in {deep}", "10000000"},
        {"n + {i} == 5", "00100000"},
        {"n + 2 == {i}", "01000000"},
        {"array_length(arr) == {i}", "00010000"},
        {"array_contains(arr, {i})", "00010000"},
        {"array_contains_any(arr, {ints})", "01010000"},
        {"n == {s}", "cannot cast value to Int64"},
        {"n in {i}", "the value of term expression template variable {i} is not array"},
        {"s like {i}", "the value of like expression template variable {i} is not string"},
        {"n / {zero} == 1", "division or modulus by zero"},
        {"n in {nulls}", "null or an object"},
        {"n == {nope}", "{nope} is not found"},
    };
    (void)state;
    for (size_t i = 0; i < RK_COUNT(examples); i++) {
        static char got[RK_ERR_TEXT_MAX];
        (void)snprintf(got, sizeof(got), "%s", answer(examples[i].expr, &options));
        if (strstr(got, examples[i].want) == NULL) {
            fail_msg("%s: got %s, want %s", examples[i].expr, got, examples[i].want);
        }
    }
}

/* ---- keys, constants, fields, paths ---- */

static const rk_filter *
compiled(const char *expr, const rk_schema *schema, rk_arena *arena)
{
    const rk_filter *filter = NULL;
    rk_err err = {0};
    rk_code code = rk_filter_compile(&filter, rk_str_from(expr), schema, NULL, arena, &err);
    if (code != RK_OK) {
        fail_msg("%s: %s", expr, err.text);
    }
    return filter;
}

static void
test_keys(void **state)
{
    static const struct {
        const char *expr;
        bool whole, bound;
        size_t n;
    } cases[] = {
        {"id == 5", true, true, 1},
        {"5 == id", true, true, 1},
        {"id in [3, 1, 2, 3]", true, true, 3},
        {"id in []", true, true, 0},
        {"id not in [1]", false, false, 0},
        {"id != 1", false, false, 0},
        {"id == 5 and n > 1", false, true, 1},
        {"s like \"%x\" and n > 1 and id in [1, 2]", false, true, 2},
        {"id == 5 or n > 1", false, false, 0},
        {"id in [1, 2] and random_sample(0.5)", false, true, 2},
        {"n == 5", false, false, 0},
        {"true", false, false, 0},
    };
    rk_arena *arena = rk_arena_new(0);
    const rk_pk *keys = NULL;
    size_t n = 0;
    (void)state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const rk_filter *filter = compiled(cases[i].expr, table->schema, arena);
        assert_int_equal(rk_filter_primary_keys(filter, &keys, &n), cases[i].whole);
        assert_int_equal(rk_filter_primary_key_bound(filter, &keys, &n), cases[i].bound);
        assert_int_equal(n, cases[i].n);
        for (size_t k = 1; k < n; k++) {
            assert_true(keys[k - 1].number < keys[k].number);
        }
    }
    rk_schema *text = fh_schema(true, true);
    const rk_filter *filter = compiled("id in ['b', 'a', \"b\"]", text, arena);
    assert_true(rk_filter_primary_keys(filter, &keys, &n));
    assert_int_equal(n, 2);
    assert_true(keys[0].is_text && rk_str_is(keys[0].text, "a") && rk_str_is(keys[1].text, "b"));
    rk_schema_unref(text);
    rk_arena_free(arena);
}

static void
test_constants_and_fields(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    bool value = false;
    size_t n = 0;
    (void)state;

    assert_true(rk_filter_is_constant(compiled("n > 1 or true", table->schema, arena), &value));
    assert_true(value);
    assert_true(rk_filter_is_constant(compiled("1 > 2", table->schema, arena), &value));
    assert_false(value);
    assert_false(rk_filter_is_constant(compiled("n > 1", table->schema, arena), &value));
    assert_false(rk_filter_is_constant(
        compiled("true and random_sample(0.5)", table->schema, arena), &value));
    const uint32_t *fields = rk_filter_fields(
        compiled("s like 'a' and n > 1 or foo == 1 or n < m", table->schema, arena), &n);
    assert_int_equal(n, 4);
    assert_int_equal(fields[0], FH_N);
    assert_int_equal(fields[1], FH_M);
    assert_int_equal(fields[2], FH_S);
    assert_int_equal(fields[3], FH_META);
    (void)rk_filter_fields(compiled("true", table->schema, arena), &n);
    assert_int_equal(n, 0);
    rk_arena_free(arena);
}

/* Only a sample makes two calls differ, wherever it stands. */
static void
test_stable(void **state)
{
    static const struct {
        const char *text;
        bool stable;
    } cases[] = {
        {"n > 1", true},
        {"true", true},
        {"1 > 2", true},
        {"id in [1, 2, 3]", true},
        {"s like 'a%' or foo == 1 and n is null", true},
        {"random_sample(0.5)", false},
        {"n > 1 and random_sample(0.01)", false},
        {"id == 7 and random_sample(0.999)", false},
        {"true and random_sample(0.5)", false},
    };
    rk_arena *arena = rk_arena_new(0);
    (void)state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const rk_filter *filter = compiled(cases[i].text, table->schema, arena);
        assert_int_equal(rk_filter_is_stable(filter), cases[i].stable);
    }
    rk_arena_free(arena);
}

static void
test_paths(void **state)
{
    static const struct {
        const char *text;
        const char *field; /* NULL: refused */
        size_t n;
        const char *last;
    } cases[] = {
        {"n", "n", 0, NULL},          {"j[\"a\"][0]", "j", 2, "0"},
        {"foo", "$meta", 1, "foo"},   {"foo[\"b\"]", "$meta", 2, "b"},
        {"$meta", "$meta", 0, NULL},  {"$meta['x\\u0041']", "$meta", 1, "xA"},
        {"arr[3]", "arr", 1, "3"},    {"like", "$meta", 1, "like"},
        {"true", "$meta", 1, "true"}, {" n", NULL, 0, NULL},
        {"n ", NULL, 0, NULL},        {"", NULL, 0, NULL},
        {"foo[", NULL, 0, NULL},      {"foo.bar", NULL, 0, NULL},
        {"n[\"a\"]", NULL, 0, NULL},  {"(", NULL, 0, NULL},
        {"==", NULL, 0, NULL},        {"&&", NULL, 0, NULL},
        {"1", NULL, 0, NULL},
    };
    rk_arena *arena = rk_arena_new(0);
    (void)state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const rk_field *field = NULL;
        rk_json_path path;
        rk_err err = {0};
        rk_code code = rk_filter_parse_path(rk_str_from(cases[i].text), table->schema, &field,
                                            &path, arena, &err);
        if (!cases[i].field) {
            assert_int_equal(code, RK_EINVAL);
            assert_non_null(strstr(err.text, "cannot parse identifier: "));
            continue;
        }
        assert_int_equal(code, RK_OK);
        assert_true(rk_str_is(field->name, cases[i].field));
        assert_int_equal(path.n, cases[i].n);
        if (path.n) {
            assert_true(rk_str_is(path.keys[path.n - 1], cases[i].last));
        }
    }
    rk_arena_free(arena);
}

static void
test_sample(void **state)
{
    static const struct {
        const char *expr;
        size_t want;
    } cases[] = {
        {"random_sample(0.5)", 4},
        {"random_sample(0.001)", 1},
        {"n > 1 and random_sample(0.5)", 2},
        {"n > 1 and b == true and random_sample(0.5)", 1},
        {"n == 1000 and random_sample(0.5)", 0},
        {"(n > 1 or b == true) and random_sample(0.99)", 5},
    };
    rk_arena *arena = rk_arena_new(0);
    rk_filter_chunk chunk = {.rows = ROWS, .columns = table->columns};
    (void)state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        uint64_t word = 0;
        const rk_filter *filter = compiled(cases[i].expr, table->schema, arena);
        assert_int_equal(rk_filter_eval(filter, &chunk, &word, arena, NULL), RK_OK);
        assert_int_equal(__builtin_popcountll(word), cases[i].want);
        const rk_filter *again =
            compiled(rk_filter_print(filter, arena).data, table->schema, arena);
        assert_string_equal(rk_filter_print(again, arena).data,
                            rk_filter_print(filter, arena).data);
    }
    rk_arena_free(arena);
}

static int
setup(void **state)
{
    (void)state;
    table = make_table();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    fh_table_free(table);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sheet),  cmocka_unit_test(test_no_dynamic_field),
        cmocka_unit_test(test_hints),  cmocka_unit_test(test_templates),
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_constants_and_fields),
        cmocka_unit_test(test_stable), cmocka_unit_test(test_paths),
        cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests_name("filter_table", tests, setup, teardown);
}
