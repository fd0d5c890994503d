/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON: what is accepted and refused, events, look-ups, strings, the writer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "json_test_private.h"

typedef struct check_case {
    const char *text;
    size_t len;
    const char *error; /* NULL: accepted; else what must stand in the sentence */
} check_case;

#define YES(text)                                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1, NULL                                                               \
    }
#define NO(text, error)                                                                            \
    {                                                                                              \
        text, sizeof(text) - 1, error                                                              \
    }

static const check_case check_cases[] = {
    YES("null"),
    YES(" true\n"),
    YES("false"),
    YES("0"),
    YES("-0"),
    YES("-0.0e-0"),
    YES("123456789012345678901234567890"),
    YES("1e308"),
    YES("1E+2"),
    YES("1.5e-400"),
    YES("\"\""),
    YES("\"\\u0000\\ud834\\udd1e\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    YES("\"\\ud834\""),
    YES("\"\x7f\""),
    YES("[]"),
    YES("{}"),
    YES("[ ]"),
    YES("{ }"),
    YES("[[],{},\"]\",[{\"a\":[1]}]]"),
    YES("{\"a\":1,\"a\":2}"),
    YES("\t{\"\":\"\"}\r\n "),
    NO("", "the text is empty"),
    NO("  ", "ends too early"),
    NO("nul", "expected a value"),
    NO("nulll", "nothing may follow"),
    NO("True", "expected a value"),
    NO("NaN", "expected a value"),
    NO("Infinity", "expected a value"),
    NO("-Infinity", "needs a digit"),
    NO("-", "needs a digit"),
    NO("+1", "expected a value"),
    NO(".5", "expected a value"),
    NO("01", "leading zeros"),
    NO("-01", "leading zeros"),
    NO("1.", "after the point"),
    NO("1.e1", "after the point"),
    NO("1e", "in its exponent"),
    NO("1e+", "in its exponent"),
    NO("0x10", "nothing may follow"),
    NO("1e309", "does not fit a double"),
    NO("-1e999999999999999999999", "does not fit a double"),
    NO("1 2", "byte 2: nothing may follow"),
    NO("\"", "not closed"),
    NO("\"abc", "not closed"),
    NO("\"a\nb\"", "control character"),
    NO("\"\\x\"", "an escape must be"),
    NO("\"\\u12g4\"", "an escape must be"),
    NO("\"\\u12", "an escape must be"),
    NO("\"\\\0\"", "an escape must be"),
    NO("\"\\", "an escape must be"),
    NO("'a'", "expected a value"),
    NO("[", "ends too early"),
    NO("[1", "expected ',' or ']'"),
    NO("[1,", "ends too early"),
    NO("[1,]", "byte 3: expected a value"),
    NO("[,1]", "expected a value"),
    NO("[1 2]", "expected ',' or ']'"),
    NO("[1}", "expected ',' or ']'"),
    NO("]", "expected a value"),
    NO("[]]", "nothing may follow"),
    NO("{", "ends too early"),
    NO("{\"a\"", "expected ':'"),
    NO("{\"a\" 1}", "expected ':'"),
    NO("{\"a\":}", "expected a value"),
    NO("{\"a\":1,}", "byte 7: expected a key"),
    NO("{\"a\":1 \"b\":2}", "expected ',' or '}'"),
    NO("{a:1}", "expected a key"),
    NO("{1:1}", "expected a key"),
    NO("{,}", "expected a key"),
    NO("[1] // no", "nothing may follow"),
    NO("/**/1", "expected a value"),
    NO("\xef\xbb\xbf{}", "expected a value"),
    NO("\xff", "expected a value"),
    NO("null\0", "nothing may follow"),
};

static void
test_check(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(check_cases); i++) {
        const check_case *c = &check_cases[i];
        char *exact = malloc(c->len + 1); /* so that a sanitizer sees a read past the end */
        assert_non_null(exact);
        memcpy(exact + 1, c->text, c->len);
        rk_err err = {0};
        rk_code code = rk_json_check((rk_str){exact + 1, c->len}, RK_JSON_UTF8, &err);
        if (code != (c->error ? RK_EINVAL : RK_OK) || (c->error && !strstr(err.text, c->error))) {
            fail_msg("case %zu '%s': code %d, text '%s'", i, c->text, (int)code, err.text);
        }
        free(exact);
    }
    assert_int_equal(rk_json_check((rk_str){NULL, 0}, 0, NULL), RK_EINVAL);
}

static void
test_check_flags(void **state)
{
    RK_UNUSED(state);
    assert_int_equal(rk_json_check(RK_STR("[1]"), RK_JSON_OBJECT_ONLY, NULL), RK_EINVAL);
    assert_int_equal(rk_json_check(RK_STR(" {\"a\":[1]}"), RK_JSON_OBJECT_ONLY, NULL), RK_OK);
    assert_int_equal(rk_json_check(RK_STR("\"\xff\""), 0, NULL), RK_OK);
    assert_int_equal(rk_json_check(RK_STR("\"\xff\""), RK_JSON_UTF8, NULL), RK_EINVAL);
}

static void
test_depth(void **state)
{
    rk_buf text = {0};

    RK_UNUSED(state);
    for (uint32_t depth = RK_JSON_VALUE_DEPTH_MAX; depth <= RK_JSON_DEPTH_MAX + 1; depth++) {
        rk_err err = {0};
        rk_buf_clear(&text);
        for (uint32_t i = 0; i < depth; i++) {
            rk_buf_str(&text, i % 2 ? RK_STR("{\"a\":") : RK_STR("["));
        }
        rk_buf_byte(&text, '1');
        for (uint32_t i = depth; i-- > 0;) {
            rk_buf_byte(&text, i % 2 ? '}' : ']');
        }
        rk_code code = rk_json_check(rk_buf_view(&text), 0, NULL);
        assert_int_equal(code, depth <= RK_JSON_DEPTH_MAX ? RK_OK : RK_EINVAL);
        code = rk_json_check(rk_buf_view(&text), RK_JSON_VALUE, &err);
        assert_int_equal(code, depth <= RK_JSON_VALUE_DEPTH_MAX ? RK_OK : RK_EINVAL);
        if (code != RK_OK) {
            assert_non_null(strstr(err.text, "nested deeper than 1024 levels"));
        } else { /* the innermost value is found through all levels */
            static rk_str keys[RK_JSON_VALUE_DEPTH_MAX];
            rk_json_value found;
            for (uint32_t i = 0; i < depth; i++) {
                keys[i] = i % 2 ? RK_STR("a") : RK_STR("0");
            }
            assert_true(rk_json_find(rk_json_root(rk_buf_view(&text)), keys, depth, &found));
            assert_int_equal(found.type, RK_JSON_INT);
        }
    }
    rk_buf_clear(&text);
    for (uint32_t i = 0; i < 1000000; i++) {
        rk_buf_byte(&text, '[');
    }
    assert_int_equal(rk_json_check(rk_buf_view(&text), 0, NULL), RK_EINVAL);
    assert_int_equal(rk_json_len(rk_json_root(rk_buf_view(&text))),
                     1); /* unchecked text: stays inside the slice */
    rk_buf_deinit(&text);
}

/* ---- reader ---- */

static void
test_events(void **state)
{
    static const rk_json_event want[] = {
        RK_JSON_AT_OBJECT,    RK_JSON_AT_KEY,       RK_JSON_AT_ARRAY,  RK_JSON_AT_SCALAR,
        RK_JSON_AT_ARRAY,     RK_JSON_AT_ARRAY_END, RK_JSON_AT_OBJECT, RK_JSON_AT_OBJECT_END,
        RK_JSON_AT_ARRAY_END, RK_JSON_AT_KEY,       RK_JSON_AT_SCALAR, RK_JSON_AT_OBJECT_END,
        RK_JSON_AT_END,       RK_JSON_AT_END,
    };
    rk_json_reader r;

    RK_UNUSED(state);
    rk_json_reader_init(&r, RK_STR(" { \"a\" : [ 1.5 , [ ] , { } ] , \"b\" : \"x\" } "), NULL);
    for (size_t i = 0; i < RK_COUNT(want); i++) {
        rk_json_event event;
        rk_json_value value;
        assert_int_equal(rk_json_next(&r, &event, &value), RK_OK);
        assert_int_equal(event, want[i]);
        if (i == 3) {
            assert_int_equal(value.type, RK_JSON_DOUBLE);
            assert_true(rk_str_is(value.raw, "1.5"));
        }
        if (i == 10) {
            assert_true(rk_str_is(value.raw, "\"x\""));
        }
    }
}

static void
test_members(void **state)
{
    rk_json_reader r;
    rk_json_value key, value, element;
    rk_json_event event;

    RK_UNUSED(state);
    rk_json_reader_init(&r, RK_STR("{\"rows\": [ {\"a\":[1,2]} , 7, \"x\" ], \"n\": null}"), NULL);
    assert_int_equal(rk_json_next(&r, &event, &value), RK_OK);
    assert_int_equal(event, RK_JSON_AT_OBJECT);
    assert_int_equal(rk_json_next(&r, &event, &key), RK_OK);
    assert_true(rk_json_str_is(key, RK_STR("rows")));
    assert_int_equal(rk_json_next(&r, &event, &value), RK_OK);
    assert_int_equal(event, RK_JSON_AT_ARRAY);
    assert_int_equal(rk_json_next_value(&r, &element), RK_OK);
    assert_int_equal(element.type, RK_JSON_OBJECT);
    assert_true(rk_str_is(element.raw, "{\"a\":[1,2]}"));
    assert_int_equal(rk_json_next_value(&r, &element), RK_OK);
    assert_int_equal(element.type, RK_JSON_INT);
    assert_int_equal(rk_json_next_value(&r, &element), RK_OK);
    assert_int_equal(element.type, RK_JSON_STRING);
    assert_int_equal(rk_json_next_value(&r, &element), RK_OK);
    assert_int_equal(element.type, RK_JSON_NONE);
    assert_int_equal(rk_json_next_member(&r, &key, &value), RK_OK);
    assert_true(rk_json_str_is(key, RK_STR("n")));
    assert_int_equal(value.type, RK_JSON_NULL);
    assert_int_equal(rk_json_next_member(&r, &key, &value), RK_OK);
    assert_int_equal(key.type, RK_JSON_NONE);
    assert_int_equal(rk_json_next(&r, &event, &value), RK_OK);
    assert_int_equal(event, RK_JSON_AT_END);
}

/* ---- look up ---- */

typedef struct find_case {
    const char *text;
    const char *path; /* steps between '/' */
    const char *raw;  /* NULL: not found */
    rk_json_type type;
} find_case;

static const find_case find_cases[] = {
    {"{\"a\":{\"b\":[10,20,{\"c\":\"x\"}]}}", "a/b/2/c", "\"x\"", RK_JSON_STRING},
    {"{\"a\":{\"b\":[10,20]}}", "a/b/1", "20", RK_JSON_INT},
    {"{\"a\":{\"b\":[10,20]}}", "a/b/2", NULL, RK_JSON_NONE},
    {"{\"a\":{\"b\":[10,20]}}", "a/b/01", NULL, RK_JSON_NONE},
    {"{\"a\":{\"b\":[10,20]}}", "a/b/x", NULL, RK_JSON_NONE},
    {"{\"a\":{\"b\":[10,20]}}", "a/b/18446744073709551616", NULL, RK_JSON_NONE},
    {"{\"a\":{\"b\":[10,20]}}", "b", NULL, RK_JSON_NONE},
    {"{\"a\":1}", "a/b", NULL, RK_JSON_NONE},
    {"{\"0\":1}", "0", "1", RK_JSON_INT},
    {"{\"a\":1,\"a\":2}", "a", "2", RK_JSON_INT},
    {"{\"a\":{\"x\":1},\"a\":{\"y\":2}}", "a/x", NULL, RK_JSON_NONE},
    {"{\"a\\\"}\":[\"]\",1] , \"b\" : true }", "b", "true", RK_JSON_BOOL},
    {"{\"a\\\"}\":[\"]\",1]}", "a\"}/1", "1", RK_JSON_INT},
    {"{\"\\u00e9\":1.5}", "\xc3\xa9", "1.5", RK_JSON_DOUBLE},
    {"{\"\":null}", "", "null", RK_JSON_NULL},
    {" [ 1 , [ 2 ] ] ", "1/0", "2", RK_JSON_INT},
    {"[9223372036854775807,9223372036854775808]", "0", "9223372036854775807", RK_JSON_INT},
    {"[9223372036854775807,9223372036854775808]", "1", "9223372036854775808", RK_JSON_DOUBLE},
    {"[-9223372036854775808]", "0", "-9223372036854775808", RK_JSON_INT},
};

static void
test_find(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(find_cases); i++) {
        const find_case *c = &find_cases[i];
        rk_str steps[8];
        size_t n = 0;
        for (const char *p = c->path;;) {
            const char *slash = strchr(p, '/');
            steps[n++] = (rk_str){p, slash ? (size_t)(slash - p) : strlen(p)};
            if (!slash) {
                break;
            }
            p = slash + 1;
        }
        rk_json_value value;
        bool found = rk_json_find(rk_json_root(rk_str_from(c->text)), steps, n, &value);
        if (found != (c->raw != NULL) || value.type != c->type ||
            (found && !rk_str_is(value.raw, c->raw))) {
            fail_msg("case %zu: %s in %s: found %d type %d '%.*s'", i, c->path, c->text, found,
                     (int)value.type, RK_STR_ARG(value.raw));
        }
    }
    rk_json_value root;
    assert_true(rk_json_find(rk_json_root(RK_STR(" 5 ")), NULL, 0, &root));
    assert_true(rk_str_is(root.raw, "5"));
    assert_int_equal(rk_json_root(RK_STR("  ")).type, RK_JSON_NONE);
    assert_int_equal(rk_json_len(rk_json_root(RK_STR("{\"a\":1,\"b\":[1,2]}"))), 2);
    assert_int_equal(rk_json_len(rk_json_root(RK_STR("[ ]"))), 0);
    assert_int_equal(rk_json_len(rk_json_root(RK_STR("\"a\""))), 0);
}

/* ---- strings ---- */

static void
test_strings(void **state)
{
    static const struct {
        const char *raw;
        const char *text;
        size_t len;
    } cases[] = {
        {"\"plain\"", "plain", 5},
        {"\"\"", "", 0},
        {"\"a\\nb\\u0041\\u00e9\\u4e16\"", "a\nbA\xc3\xa9\xe4\xb8\x96", 9},
        {"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!", 5},
        {"\"\\ud83d\"", "\xef\xbf\xbd", 3},
        {"\"\\ude00x\"", "\xef\xbf\xbdx", 4},
        {"\"\\ud83d\\u0041\"",
         "\xef\xbf\xbd"
         "A",
         4},
        {"\"\\u0000\"", "\0", 1},
    };
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_json_value value = rk_json_root(rk_str_from(cases[i].raw));
        rk_str want = {cases[i].text, cases[i].len};
        rk_str got;
        assert_int_equal(rk_json_get_str(value, &got, arena), RK_OK);
        if (!rk_str_eq(got, want) || !rk_json_str_is(value, want)) {
            fail_msg("case %zu: %s", i, cases[i].raw);
        }
        assert_false(rk_json_str_is(value, RK_STR("something else")));
        assert_false(rk_json_str_is(value, RK_STR("a\nbA\xc3\xa9\xe4\xb8\x97")));
    }
    rk_str got;
    assert_int_equal(rk_json_get_str(rk_json_root(RK_STR("1")), &got, arena), RK_EINVAL);
    assert_false(rk_json_str_is(rk_json_root(RK_STR("1")), RK_STR("1")));
    rk_arena_free(arena);
}

/* ---- writer ---- */

static void
test_writer(void **state)
{
    rk_buf out = {0};
    rk_json_writer w = {.out = &out};

    RK_UNUSED(state);
    rk_json_object(&w);
    rk_json_key(&w, RK_STR("a\"b"));
    rk_json_array(&w);
    rk_json_i64(&w, INT64_MIN);
    rk_json_u64(&w, UINT64_MAX);
    rk_json_f32(&w, 0.1f);
    rk_json_f64(&w, 0.1);
    rk_json_f64(&w, 1.0 / 0.0);
    rk_json_bool(&w, true);
    rk_json_null(&w);
    rk_json_array(&w);
    rk_json_array_end(&w);
    rk_json_object(&w);
    rk_json_object_end(&w);
    rk_json_array_end(&w);
    rk_json_key(&w, RK_STR("s"));
    rk_json_str(&w, RK_STR("\x01\n\\\"\xc3\xa9\xff\xc3/\x7f"));
    rk_json_key(&w, RK_STR("r"));
    rk_json_raw(&w, RK_STR("{\"x\":1}"));
    rk_json_object_end(&w);
    static const char want[] =
        "{\"a\\\"b\":[-9223372036854775808,18446744073709551615,0.1,0.1,null,true,null,[],{}],"
        "\"s\":\"\\u0001\\n\\\\\\\"\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd/\x7f\",\"r\":{\"x\":1}}";
    if (!rk_str_is(rk_buf_view(&out), want)) {
        fail_msg("wrote %.*s", RK_STR_ARG(rk_buf_view(&out)));
    }
    assert_false(out.failed);
    assert_int_equal(rk_json_check(rk_buf_view(&out), RK_JSON_UTF8, NULL), RK_OK);
    rk_buf_deinit(&out);
}

static void
test_writer_depth(void **state)
{
    rk_buf out = {0};
    rk_json_writer w = {.out = &out};

    RK_UNUSED(state);
    for (int i = 0; i < RK_JSON_DEPTH_MAX; i++) {
        rk_json_array(&w);
    }
    assert_false(out.failed);
    rk_json_array(&w);
    assert_true(out.failed);
    rk_buf_deinit(&out);
}

int
json_read_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),        cmocka_unit_test(test_check_flags),
        cmocka_unit_test(test_depth),        cmocka_unit_test(test_events),
        cmocka_unit_test(test_members),      cmocka_unit_test(test_find),
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_depth),
    };
    return cmocka_run_group_tests_name("json_read", tests, NULL, NULL);
}
