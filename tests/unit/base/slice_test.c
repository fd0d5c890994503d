/* SPDX-License-Identifier: Apache-2.0 */
/* Text, numbers, UTF-8, the buffer (with a failing allocator), the cursor. */
#include "base/slice.h"

#include "base/mem.h"
#include "unit_test.h"

static void
numbers(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-1", true, -1},
        {"+7", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
        {"1.0", false, 0},
        {"--1", false, 0},
    };
    static const char *const bad_floats[] = {"",   "nan",   "inf", "0x1p3", " 1",
                                             "1e", "1e999", ".",   "1,5",   "e5"};
    double f;
    int64_t i;
    bool b;

    RK_UNUSED(state);
    for (size_t k = 0; k < RK_COUNT(cases); k++) {
        i = 0;
        assert_int_equal(rk_str_to_i64(rk_str_from(cases[k].text), &i), cases[k].ok);
        assert_int_equal(i, cases[k].value);
    }
    for (size_t k = 0; k < RK_COUNT(bad_floats); k++) {
        assert_false(rk_str_to_f64(rk_str_from(bad_floats[k]), &f));
    }
    assert_true(rk_str_to_f64(RK_STR("-1.5e2"), &f));
    assert_true(f == -150.0);
    assert_true(rk_str_to_bool(RK_STR("True"), &b) && b);
    assert_true(rk_str_to_bool(RK_STR("f"), &b) && !b);
    assert_false(rk_str_to_bool(RK_STR("yes"), &b));
}

static void
utf8(void **state)
{
    static const struct {
        const char *text;
        size_t bad_at;
    } cases[] = {
        {"", SIZE_MAX},
        {"plain ascii text of some length", SIZE_MAX},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", SIZE_MAX},
        {"a\xC0\x80", 1},        /* overlong */
        {"a\xE0\x80\x80", 1},    /* overlong */
        {"\xED\xA0\x80", 0},     /* surrogate */
        {"\xF4\x90\x80\x80", 0}, /* above U+10FFFF */
        {"12345678\xFF", 8},
        {"1234567\xE2\x82", 7}, /* cut */
        {"\x80", 0},
        {"\xF5\x80\x80\x80", 0},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        assert_int_equal(rk_utf8_invalid_at(rk_str_from(cases[i].text)), cases[i].bad_at);
    }
}

static void
text(void **state)
{
    RK_UNUSED(state);
    assert_true(rk_str_is(rk_str_trim(RK_STR(" \t a b\r\n")), "a b"));
    assert_true(rk_str_is(rk_str_trim(RK_STR("  ")), ""));
    assert_true(rk_str_cmp(RK_STR("ab"), RK_STR("abc")) < 0);
    assert_true(rk_str_cmp(RK_STR("b"), RK_STR("abc")) > 0);
    assert_true(rk_str_cmp((rk_str){NULL, 0}, RK_STR("")) == 0);
    assert_true(rk_str_starts(RK_STR("milvus"), "mil"));
    assert_false(rk_str_starts(RK_STR("mi"), "mil"));
    assert_true(rk_str_ends(RK_STR("milvus"), "vus"));
    assert_true(rk_str_ends((rk_str){NULL, 0}, ""));
}

static void
buffer(void **state)
{
    rk_buf buf = {0};
    char long_text[1000];

    RK_UNUSED(state);
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    rk_buf_printf(&buf, "%d-%s", 42, long_text);
    assert_int_equal(buf.len, 3 + 999);
    rk_buf_clear(&buf);
    rk_buf_u32le(&buf, 0x01020304);
    rk_buf_u64le(&buf, 5);
    rk_buf_byte(&buf, 0xFF);
    rk_buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 13);
    assert_int_equal(buf.data[0], 4);
    rk_alloc_fail_after(0);
    assert_false(rk_buf_reserve(&buf, 100000));
    rk_alloc_fail_after(-1);
    assert_true(buf.failed);
    assert_int_equal(buf.len, 13);
    rk_buf_byte(&buf, 1); /* ignored: the content stays a clean prefix */
    assert_int_equal(buf.len, 13);
    assert_false(rk_buf_reserve(&buf, SIZE_MAX));
    rk_buf_clear(&buf);
    assert_false(buf.failed);
    rk_buf_deinit(&buf);
    assert_null(buf.data);
}

static void
cursor(void **state)
{
    const uint8_t bytes[] = {1, 2, 0, 3, 0, 0, 0, 'a', 'b'};
    rk_cursor c = rk_cursor_on(bytes, sizeof(bytes));

    RK_UNUSED(state);
    assert_int_equal(rk_cursor_u8(&c), 1);
    assert_int_equal(rk_cursor_u16(&c), 2);
    assert_int_equal(rk_cursor_u32(&c), 3);
    assert_true(rk_str_is(rk_cursor_bytes(&c, 2), "ab"));
    assert_false(c.bad);
    assert_int_equal(rk_cursor_u8(&c), 0);
    assert_true(c.bad);
    c = rk_cursor_on(bytes, 4);
    assert_int_equal(rk_cursor_u64(&c), 0);
    assert_true(c.bad);
    assert_int_equal(rk_cursor_u8(&c), 0); /* stays bad */
    c = rk_cursor_on(NULL, 0);
    assert_null(rk_cursor_bytes(&c, SIZE_MAX).data);
    assert_true(c.bad);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(utf8),   cmocka_unit_test(text),
        cmocka_unit_test(buffer),  cmocka_unit_test(cursor),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
