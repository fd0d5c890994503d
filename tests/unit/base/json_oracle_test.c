/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jansson as the oracle: random texts, half of them damaged, must be accepted or refused alike,
 * mean the same, and survive our writer. Known differences are kept out of the texts: half
 * surrogates, integers past int64, nesting.
 */
#include <jansson.h>

#include "base/seam.h"
#include "json_test_private.h"

#define ROUNDS 30000

static void
random_string(rk_rng *rng, rk_buf *out)
{
    static const char *const parts[] = {"a",        "bc", "\\n",  "\\\"",           "\\u00e9",
                                        "\xc3\xa9", "]}", "\\\\", "\\ud83d\\ude00", " "};

    rk_buf_byte(out, '"');
    for (uint64_t n = rk_rng_below(rng, 5); n > 0; n--) {
        rk_buf_str(out, rk_str_from(parts[rk_rng_below(rng, RK_COUNT(parts))]));
    }
    rk_buf_byte(out, '"');
}

static void
random_scalar(rk_rng *rng, rk_buf *out)
{
    static const char *const scalars[] = {
        "true", "false", "null", "0",   "-1",   "12345678901234567",
        "1.5",  "-2e-3", "1E+5", "0.1", "-0.0", "3.141592653589793"};

    if (rk_rng_below(rng, 2)) {
        random_string(rng, out);
    } else {
        rk_buf_str(out, rk_str_from(scalars[rk_rng_below(rng, RK_COUNT(scalars))]));
    }
}

static void
random_text(rk_rng *rng, rk_buf *out, uint32_t depth)
{
    static const char *const blanks[] = {"", "", "", " ", "\n", "\t "};
    bool object = rk_rng_below(rng, 2);

    if (depth == 0 || rk_rng_below(rng, 3) == 0) {
        random_scalar(rng, out);
        return;
    }
    rk_buf_byte(out, object ? '{' : '[');
    for (uint64_t i = 0, n = rk_rng_below(rng, 5); i < n; i++) {
        rk_buf_str(out, rk_str_from(blanks[rk_rng_below(rng, RK_COUNT(blanks))]));
        if (object) {
            random_string(rng, out);
            rk_buf_byte(out, ':');
        }
        random_text(rng, out, depth - 1);
        if (i + 1 < n) {
            rk_buf_byte(out, ',');
        }
        rk_buf_str(out, rk_str_from(blanks[rk_rng_below(rng, RK_COUNT(blanks))]));
    }
    rk_buf_byte(out, object ? '}' : ']');
}

static void
damage(rk_rng *rng, rk_buf *text)
{
    static const char bytes[] = "{}[]\",: 0-.e\\ntx\n\xc3";
    size_t at = rk_rng_below(rng, text->len);

    switch (rk_rng_below(rng, 3)) {
    case 0:
        text->data[at] = (uint8_t)bytes[rk_rng_below(rng, sizeof(bytes) - 1)];
        break;
    case 1:
        text->len = at;
        break;
    default:
        memmove(text->data + at, text->data + at + 1, text->len - at - 1);
        text->len--;
        break;
    }
}

/* Depth is bounded by random_text(). */
static void
compare(json_t *want, rk_json_value got, rk_json_writer *w, rk_arena *arena)
{
    rk_json_iter iter;
    rk_json_value key, value;
    rk_str text;
    double f64;
    int64_t i64;
    bool truth;
    size_t different = 0;

    switch (json_typeof(want)) {
    case JSON_OBJECT:
        assert_int_equal(got.type, RK_JSON_OBJECT);
        rk_json_object(w);
        rk_json_iter_init(&iter, got);
        while (rk_json_iter_next(&iter, &key, &value)) {
            assert_int_equal(rk_json_get_str(key, &text, arena), RK_OK);
            json_t *member = json_object_getn(want, text.data, text.len);
            assert_non_null(member);
            rk_json_value last;
            assert_true(rk_json_find_key(got, text, &last));
            if (last.raw.data == value.raw.data) { /* the one that counts */
                different++;
                rk_json_key(w, text);
                compare(member, value, w, arena);
            }
        }
        assert_int_equal(different, json_object_size(want));
        rk_json_object_end(w);
        break;
    case JSON_ARRAY:
        assert_int_equal(got.type, RK_JSON_ARRAY);
        assert_int_equal(rk_json_len(got), json_array_size(want));
        rk_json_array(w);
        rk_json_iter_init(&iter, got);
        for (size_t i = 0; rk_json_iter_next(&iter, NULL, &value); i++) {
            compare(json_array_get(want, i), value, w, arena);
        }
        rk_json_array_end(w);
        break;
    case JSON_STRING:
        assert_int_equal(rk_json_get_str(got, &text, arena), RK_OK);
        assert_int_equal(text.len, json_string_length(want));
        assert_memory_equal(text.data, json_string_value(want), text.len);
        rk_json_str(w, text);
        break;
    case JSON_INTEGER:
        assert_true(rk_json_get_i64(got, &i64));
        assert_int_equal(i64, json_integer_value(want));
        rk_json_i64(w, i64);
        break;
    case JSON_REAL:
        assert_int_equal(got.type, RK_JSON_DOUBLE);
        assert_true(rk_json_get_f64(got, &f64) && f64 == json_real_value(want));
        rk_json_raw(w, got.raw); /* so that a real stays a real */
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        assert_true(rk_json_get_bool(got, &truth) && truth == json_is_true(want));
        rk_json_bool(w, truth);
        break;
    case JSON_NULL:
        assert_int_equal(got.type, RK_JSON_NULL);
        rk_json_null(w);
        break;
    }
}

static void
test_against_jansson(void **state)
{
    rk_rng rng;
    rk_buf text = {0}, written = {0};
    uint32_t accepted = 0, refused = 0;

    RK_UNUSED(state);
    rk_rng_init(&rng, 7);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        rk_buf_clear(&text);
        random_text(&rng, &text, 5);
        if (i % 2) {
            damage(&rng, &text);
        }
        rk_str view = rk_buf_view(&text);
        rk_err err = {0};
        json_error_t jansson_err;
        bool ok = rk_json_check(view, RK_JSON_UTF8, &err) == RK_OK;
        json_t *want =
            json_loadb(view.data, view.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &jansson_err);
        bool half = !want && strstr(jansson_err.text, "invalid Unicode");
        if (!half && ok != (want != NULL)) {
            fail_msg("'%.*s': we say '%s', jansson '%s'", RK_STR_ARG(view), ok ? "ok" : err.text,
                     want ? "ok" : jansson_err.text);
        }
        if (want) {
            rk_arena *arena = rk_arena_new(0);
            rk_json_writer w = {.out = &written};
            rk_buf_clear(&written);
            compare(want, rk_json_root(view), &w, arena);
            json_t *again = json_loadb((const char *)written.data, written.len,
                                       JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            assert_true(again && json_equal(want, again));
            json_decref(again);
            rk_arena_free(arena);
        }
        accepted += ok;
        refused += !ok;
        json_decref(want);
    }
    assert_true(accepted > ROUNDS / 2 && refused > ROUNDS / 10);
    rk_buf_deinit(&text);
    rk_buf_deinit(&written);
}

int
json_oracle_tests(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_jansson)};
    return cmocka_run_group_tests_name("json_oracle", tests, NULL, NULL);
}
