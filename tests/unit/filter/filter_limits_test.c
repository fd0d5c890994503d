/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile sizes, patterns, and memory that runs out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>

#include "filter_help.h"

static fh_table *table;

static const char *
outcome(rk_str expr, size_t *count)
{
    static rk_err err;
    rk_arena *arena = rk_arena_new(0);
    const rk_filter *filter = NULL;

    rk_err_clear(&err);
    *count = SIZE_MAX;
    if (rk_filter_compile(&filter, expr, table->schema, NULL, arena, &err) == RK_OK) {
        uint64_t words[4] = {0};
        rk_filter_chunk chunk = {.rows = table->rows, .columns = table->columns};
        assert_int_equal(rk_filter_eval(filter, &chunk, words, arena, &err), RK_OK);
        rk_bitset rows = {words, table->rows};
        *count = rk_bitset_count(&rows);
    }
    rk_arena_free(arena);
    return err.text;
}

static void
repeat(rk_buf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rk_buf_str(out, rk_str_from(text));
    }
}

/* open^n middle close^n */
static const char *
nested(const char *open, const char *middle, const char *close, size_t n, size_t *count)
{
    rk_buf buf = {0};
    repeat(&buf, open, n);
    rk_buf_str(&buf, rk_str_from(middle));
    repeat(&buf, close, n);
    const char *text = outcome(rk_buf_view(&buf), count);
    rk_buf_deinit(&buf);
    return text;
}

static void
test_nesting(void **state)
{
    static const struct {
        const char *open, *middle, *close;
        size_t good; /* still fine */
    } cases[] = {
        {"(", "n > 1", ")", 256},
        {"not (", "n > 1", ")", 128},
        {"not ", "s like 'a'", "", 256},
        {"!", "true", "", 256},
        {"n == -(", "1", ")", 1},
        {"(n > 1 or b == true and ", "n < 3", ")", 256},
        {"b == true and (n > 1 or ", "n < 3", ")", 256},
        {"n in [1, ", "2", "]", 1},
    };
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const char *text =
            nested(cases[i].open, cases[i].middle, cases[i].close, cases[i].good, &count);
        if (count == SIZE_MAX) {
            fail_msg("case %zu: %s", i, text);
        }
    }
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const char *text = nested(cases[i].open, cases[i].middle, cases[i].close, 1000000, &count);
        assert_int_equal(count, SIZE_MAX);
        if (i != 4 && i != 7) {
            assert_non_null(strstr(text, "nesting depth exceeds"));
        }
    }
    /* only openings, only closings */
    (void)nested("(", "", "", 1000000, &count);
    assert_int_equal(count, SIZE_MAX);
    (void)nested("", "n > 1", ")", 1000000, &count);
    assert_int_equal(count, SIZE_MAX);
    (void)nested("[", "", "", 1000000, &count);
    assert_int_equal(count, SIZE_MAX);
    (void)nested("2 ** -", "1", "", 1000000, &count);
    assert_int_equal(count, SIZE_MAX);
    (void)nested("j", "", "[\"a\"]", 1000000, &count);
    assert_int_equal(count, SIZE_MAX);
}

static void
test_long(void **state)
{
    rk_buf buf = {0};
    size_t count = 0;
    (void)state;

    /* a list of 2 MB and more */
    rk_buf_str(&buf, RK_STR("id in ["));
    for (int i = 0; i < 300000; i++) {
        rk_buf_printf(&buf, "%d,", i * 7);
    }
    rk_buf_str(&buf, RK_STR("]"));
    assert_true(buf.len > 2u << 20);
    (void)outcome(rk_buf_view(&buf), &count);
    assert_int_equal(count, (table->rows + 6) / 7);

    /* long chains of operators are no nesting, until there are too many terms */
    rk_buf_clear(&buf);
    rk_buf_str(&buf, RK_STR("id == 3"));
    repeat(&buf, " or id == 3", 10000);
    (void)outcome(rk_buf_view(&buf), &count);
    assert_int_equal(count, 1);
    repeat(&buf, " or id == 3", 10000);
    const char *text = outcome(rk_buf_view(&buf), &count);
    assert_non_null(strstr(text, "more than 65536 terms"));
    assert_non_null(strstr(text, "...: expression has"));

    /* a deep path finds nothing */
    rk_buf_clear(&buf);
    rk_buf_str(&buf, RK_STR("j"));
    repeat(&buf, "[\"a\"]", 50000);
    rk_buf_str(&buf, RK_STR(" == 1"));
    (void)outcome(rk_buf_view(&buf), &count);
    assert_int_equal(count, 0);

    /* a constant sum of many */
    rk_buf_clear(&buf);
    rk_buf_str(&buf, RK_STR("id == 0"));
    repeat(&buf, "+1", 30000);
    (void)outcome(rk_buf_view(&buf), &count);
    assert_int_equal(count, 0);
    rk_buf_deinit(&buf);
}

/* Patterns that make backtracking matchers hang, on a text of 40,000 letters. */
static void
test_patterns(void **state)
{
    static const struct {
        const char *expr;
        bool passes;
    } cases[] = {
        {"s like '%a%a%a%a%a%a%a%a%a%a%a%a%b'", false},
        {"s like '%a_a_a_a_a_a_a_%b%'", false},
        {"s like '%_%_%_%_%_%_%_%_%_%_%_%b'", false},
        {"s like '%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab%'", false},
        {"s =~ '(a*)*b'", false},
        {"s =~ '(a|aa)+$'", true},
        {"s =~ '(x+x+)+y'", false},
        {"s =~ 'a{30}b'", false},
        {"s =~ '^(a?){50}a{50}'", true},
    };
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_buf buf = {0};
        rk_buf_printf(&buf, "id == 7 and %s", cases[i].expr);
        const char *text = outcome(rk_buf_view(&buf), &count);
        rk_buf_deinit(&buf);
        if (count != cases[i].passes) {
            fail_msg("%s: %zu %s", cases[i].expr, count, text);
        }
    }
    (void)outcome(RK_STR("s =~ '((((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9})'"), &count);
    assert_int_equal(count, SIZE_MAX);
    (void)outcome(RK_STR("s =~ '((((((()*{1000}){1000}){1000}){1000}){1000}){1000})'"), &count);
    assert_int_equal(count, SIZE_MAX);
    (void)outcome(RK_STR("s =~ '(((((((){1000}){1000}){1000}){1000}){1000}){1000})'"), &count);
    assert_int_equal(count, SIZE_MAX);
    (void)nested("s =~ '", "a", "'", 1, &count);
    assert_true(count != SIZE_MAX);
}

static void
test_regex(void **state)
{
    static const struct {
        const char *pattern;
        const char *text;
        bool match;
    } cases[] = {
        {"abc", "xabcx", true},
        {"^abc", "xabc", false},
        {"abc$", "xabc", true},
        {"^abc$", "abc", true},
        {"^$", "", true},
        {"^$", "a", false},
        {"a.c", "a\nc", true},
        {"(?-s)a.c", "a\nc", false},
        {"[a-c]+$", "xxcab", true},
        {"[^a-c]", "abc", false},
        {"[^a-c]", "abcd", true},
        {"a|b|cd", "xcd", true},
        {"^(a|b)*$", "abba", true},
        {"^(a|b)*$", "abca", false},
        {"^a{2,3}$", "aaaa", false},
        {"^a{2,3}$", "aaa", true},
        {"^a{2,}$", "aaaaaa", true},
        {"^a{2}$", "a", false},
        {"a{,5}", "a{,5}", true},
        {"\\bab\\b", "x ab y", true},
        {"\\bab\\b", "xaby", false},
        {"\\d+\\.\\d", "v1.5", true},
        {"^\\w+$", "a_1", true},
        {"^\\W+$", "a", false},
        {"(?i)HeLLo", "say hello", true},
        {"(?i)[x-z]", "Y", true},
        {"a(?i)b(?-i)c", "aBc", true},
        {"(?i:a)b", "AB", false},
        {"é", "caf\xc3\xa9", true},
        {"^caf.$", "caf\xc3\xa9", true},
        {"[à-ü]", "\xc3\xa9", true},
        {"\\x{e9}", "\xc3\xa9", true},
        {"\\x41", "A", true},
        {"(?m)^b$", "a\nb\nc", true},
        {"^b$", "a\nb\nc", false},
        {"[[:digit:]]{3}", "a123", true},
        {"[]a]", "]", true},
        {"[a-]", "-", true},
        {"(?P<x>ab)+", "abab", true},
        {"x*", "", true},
        {"a*?b", "aab", true},
        {"()|a", "", true},
        {"\\.", "a", false},
        {"\\.", ".", true},
        {"[\\d.]+$", "1.2", true},
        {"a\\z", "ba", true},
        {"\\Ab", "ab", false},
        {"$^", "", true},
    };
    static const char *const bad[] = {
        "(",       ")",         "a)",   "[",   "[a",          "*a",           "a**",   "a{2}{3}",
        "a{1001}", "a{3,2}",    "\\",   "\\y", "(?<!a)",      "(?=a)",        "(?!a)", "\\pL",
        "[b-a]",   "[[:foo:]]", "(?z)", "\\1", "\\x{110000}", "(?i)\xc3\xa9",
    };
    rk_arena *arena = rk_arena_new(0);
    (void)state;
    for (size_t i = 0; i < RK_COUNT(cases) + RK_COUNT(bad); i++) {
        bool good = i < RK_COUNT(cases);
        rk_str pattern = rk_str_from(good ? cases[i].pattern : bad[i - RK_COUNT(cases)]);
        pb_schema_TemplateValue value = {.val_case = PB_SCHEMA_TemplateValue_string_val,
                                         .string_val = pattern};
        rk_template template = {RK_STR("p"), &value};
        rk_filter_options options = {.templates = &template, .templates_len = 1};
        const rk_filter *filter = NULL;
        rk_err err = {0};
        rk_code code =
            rk_filter_compile(&filter, RK_STR("s =~ {p}"), table->schema, &options, arena, &err);
        if (!good) {
            if (code != RK_EINVAL || !strstr(err.text, "invalid regex pattern")) {
                fail_msg("%s is accepted", pattern.data);
            }
            continue;
        }
        if (code != RK_OK) {
            fail_msg("%s: %s", pattern.data, err.text);
        }
        uint64_t offsets[] = {0, strlen(cases[i].text)};
        rk_column columns[FH_FIELDS] = {0};
        columns[FH_S] = (rk_column){.field = &table->schema->fields[FH_S],
                                    .rows = 1,
                                    .data = cases[i].text,
                                    .offsets = offsets};
        rk_filter_chunk chunk = {.rows = 1, .columns = columns};
        uint64_t word = 0;
        assert_int_equal(rk_filter_eval(filter, &chunk, &word, arena, &err), RK_OK);
        if (word != cases[i].match) {
            fail_msg("%s on %s: %d", pattern.data, cases[i].text, (int)word);
        }
    }
    rk_arena_free(arena);
}

/* Every allocation fails once, in compile and in evaluation: an error, never a crash or a wrong
 * answer. */
static void
test_no_memory(void **state)
{
    static const char expr[] = "n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] and (s like 'a_%' "
                               "or j[\"a\"] in ['x', \"y\", [1]] or s =~ 'a+b' or not (d > 1.5)) "
                               "and id in [1, 2] and json_contains_any(j, [1, [2]])";
    rk_filter_chunk chunk = {.rows = table->rows, .columns = table->columns};
    (void)state;
    for (uint64_t limit = 256; limit < 4u << 20; limit += limit / 16) {
        rk_arena *arena = rk_arena_new(limit);
        const rk_filter *filter = NULL;
        uint64_t words[4] = {0};
        rk_err err = {0};
        rk_code code =
            rk_filter_compile(&filter, rk_str_from(expr), table->schema, NULL, arena, &err);
        if (code == RK_OK) {
            code = rk_filter_eval(filter, &chunk, words, arena, &err);
        }
        if (code != RK_OK) {
            assert_int_equal(code, RK_ENOMEM);
            assert_non_null(strstr(err.text, "no memory"));
        }
        rk_arena_free(arena);
    }
    for (int64_t i = 0; i < 40; i++) {
        rk_arena *arena = rk_arena_new(0);
        const rk_filter *filter = NULL;
        uint64_t words[4] = {0};
        rk_alloc_fail_after(i);
        rk_code code =
            rk_filter_compile(&filter, rk_str_from(expr), table->schema, NULL, arena, NULL);
        if (code == RK_OK) {
            code = rk_filter_eval(filter, &chunk, words, arena, NULL);
        }
        rk_alloc_fail_after(-1);
        assert_true(code == RK_OK || code == RK_ENOMEM);
        rk_arena_free(arena);
    }
}

static int
setup(void **state)
{
    (void)state;
    table = fh_table_new(200);
    char *letters = rk_arena_alloc(table->arena, 40000);
    memset(letters, 'a', 40000);
    for (size_t r = 0; r < table->rows; r++) {
        for (size_t i = 0; i < FH_FIELDS; i++) {
            rk_type type = table->schema->fields[i].type;
            fh_value *cell = fh_cell(table, r, i);
            if (type == RK_VARCHAR) {
                *cell = fh_string("ab");
            } else if (type == RK_ARRAY) {
                *cell = fh_list(table->arena, 0, NULL);
            } else if (type == RK_JSON) {
                *cell = fh_json(table->arena, "{\"a\":\"eve\",\"b\":[1,{\"c\":2}]}");
            } else {
                *cell = type == RK_DOUBLE || type == RK_FLOAT ? fh_float((double)r)
                                                              : fh_int((int64_t)r % 100);
            }
        }
        *fh_cell(table, r, FH_ID) = fh_int((int64_t)r);
    }
    fh_cell(table, 7, FH_S)->s = (rk_str){letters, 40000};
    fh_table_build(table);
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
        cmocka_unit_test(test_nesting),   cmocka_unit_test(test_long),
        cmocka_unit_test(test_patterns),  cmocka_unit_test(test_regex),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("filter_limits", tests, setup, teardown);
}
