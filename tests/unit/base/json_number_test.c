/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers: reading against strtod() and strtof(), writing against "reads back the same" and "no
 * shorter text does".
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/seam.h"
#include "json_test_private.h"

#define ROUNDS 200000

static rk_json_value
number(const char *text)
{
    return rk_json_root(rk_str_from(text));
}

static void
test_format_cases(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {100, "100"},
        {0.000001, "0.000001"},
        {0.0000001, "1e-7"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {1.25e-9, "1.25e-9"},
        {123456, "123456"},
        {0.5, "0.5"},
        {1234567, "1234567"},
    };
    static const struct {
        double value;
        const char *text;
    } doubles[] = {
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {5e-324, "5e-324"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {9007199254740993.0, "9007199254740992"},
        {0.30000000000000004, "0.30000000000000004"},
    };
    static const struct {
        float value;
        const char *text;
    } floats[] = {
        {0.1f, "0.1"},
        {1.0f / 3, "0.33333334"},
        {FLT_MAX, "3.4028235e+38"},
        {1e-45f, "1e-45"},
        {FLT_MIN, "1.1754944e-38"},
        {16777216.0f, "16777216"},
        {3.1415927f, "3.1415927"},
        {0.3f, "0.3"},
    };
    char text[RK_JSON_NUMBER_MAX + 1];

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        text[rk_json_format_f64(text, cases[i].value)] = '\0';
        assert_string_equal(text, cases[i].text);
        text[rk_json_format_f32(text, (float)cases[i].value)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
    for (size_t i = 0; i < RK_COUNT(doubles); i++) {
        text[rk_json_format_f64(text, doubles[i].value)] = '\0';
        assert_string_equal(text, doubles[i].text);
    }
    for (size_t i = 0; i < RK_COUNT(floats); i++) {
        text[rk_json_format_f32(text, floats[i].value)] = '\0';
        assert_string_equal(text, floats[i].text);
    }
}

static float
random_float(rk_rng *rng, uint32_t round)
{
    float value;
    uint32_t bits = (uint32_t)rk_rng_next(rng);

    if (round % 4 == 0) {
        return rk_rng_normal(rng);
    }
    if (round % 4 == 1) {
        return (float)(rk_rng_below(rng, 2000000)) / 1000.0f;
    }
    memcpy(&value, &bits, sizeof(value));
    return isfinite(value) ? value : 1.0f;
}

static size_t
count_digits(const char *text)
{
    size_t count = 0, zeros = 0;
    bool started = false;

    for (; *text && *text != 'e'; text++) {
        if (*text >= '0' && *text <= '9') {
            started = started || *text != '0';
            count += started;
            zeros = *text == '0' ? zeros + 1 : 0;
        }
    }
    return count > zeros ? count - zeros : count;
}

static void
test_floats_round_trip(void **state)
{
    rk_rng rng;

    RK_UNUSED(state);
    rk_rng_init(&rng, 1);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        float value = random_float(&rng, i);
        char text[RK_JSON_NUMBER_MAX + 1];
        text[rk_json_format_f32(text, value)] = '\0';
        float libc = strtof(text, NULL);
        float ours = 0;
        bool ok = rk_json_get_f32(number(text), &ours);
        if (!ok || memcmp(&libc, &value, sizeof(value)) != 0 ||
            memcmp(&ours, &value, sizeof(value)) != 0) {
            fail_msg("%.9g written as %s reads as %.9g by us, %.9g by libc", (double)value, text,
                     (double)ours, (double)libc);
        }
        for (int digits = 1; value != 0 && digits < (int)count_digits(text); digits++) {
            char shorter[64];
            (void)snprintf(shorter, sizeof(shorter), "%.*e", RK_MIN(digits, 9) - 1, (double)value);
            if (strtof(shorter, NULL) == value) {
                fail_msg("%s is longer than %s", text, shorter);
            }
        }
    }
}

static void
test_doubles_round_trip(void **state)
{
    rk_rng rng;

    RK_UNUSED(state);
    rk_rng_init(&rng, 2);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t bits = rk_rng_next(&rng);
        double value, back = 0;
        char text[RK_JSON_NUMBER_MAX + 1];
        memcpy(&value, &bits, sizeof(value));
        if (i % 2 || !isfinite(value)) {
            value = (double)rk_rng_below(&rng, 1u << 30) / 1024.0;
        }
        text[rk_json_format_f64(text, value)] = '\0';
        if (!rk_json_get_f64(number(text), &back) || back != value || strtod(text, NULL) != value) {
            fail_msg("%.17g written as %s reads as %.17g", value, text, back);
        }
    }
}

/* Decimal texts of many lengths, read by us and by libc. */
static void
test_reading(void **state)
{
    rk_rng rng;

    RK_UNUSED(state);
    rk_rng_init(&rng, 3);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        char text[80];
        size_t len = 0;
        size_t whole = rk_rng_below(&rng, 22), fraction = rk_rng_below(&rng, 22);
        if (i % 3 == 0) {
            text[len++] = '-';
        }
        text[len++] = whole > 0 ? (char)('1' + rk_rng_below(&rng, 9)) : '0';
        for (size_t k = 1; k < whole; k++) {
            text[len++] = (char)('0' + rk_rng_below(&rng, 10));
        }
        text[len++] = '.';
        for (size_t k = 0; k <= fraction; k++) {
            text[len++] = (char)('0' + rk_rng_below(&rng, 10));
        }
        text[len] = '\0';
        if (i % 2) {
            (void)snprintf(text + len, sizeof(text) - len, "e%d", (int)rk_rng_below(&rng, 60) - 30);
        }
        double want = strtod(text, NULL), got = 0;
        float want32 = strtof(text, NULL), got32 = 0;
        if (!rk_json_get_f64(number(text), &got) || memcmp(&got, &want, sizeof(got)) != 0) {
            fail_msg("%s: %.17g, libc says %.17g", text, got, want);
        }
        bool ok = rk_json_get_f32(number(text), &got32);
        if (ok != (bool)isfinite(want32) || (ok && memcmp(&got32, &want32, sizeof(got32)) != 0)) {
            fail_msg("%s: float %.9g, libc says %.9g", text, (double)got32, (double)want32);
        }
    }
}

static void
test_getters(void **state)
{
    int64_t i64;
    double f64;
    float f32;
    bool truth;
    char longest[3000];

    RK_UNUSED(state);
    assert_true(rk_json_get_i64(number("-9223372036854775808"), &i64) && i64 == INT64_MIN);
    assert_false(rk_json_get_i64(number("9223372036854775808"), &i64));
    assert_false(rk_json_get_i64(number("1.0"), &i64));
    assert_false(rk_json_get_i64(number("\"1\""), &i64));
    assert_true(rk_json_get_f64(number("9223372036854775808"), &f64) &&
                f64 == 9223372036854775808.0);
    assert_false(rk_json_get_f64(number("null"), &f64));
    assert_false(rk_json_get_f32(number("1e39"), &f32));
    assert_true(rk_json_get_f32(number("1e-60"), &f32) && f32 == 0);
    assert_true(rk_json_get_f64(number("0e999999999"), &f64) && f64 == 0);
    assert_true(rk_json_get_bool(number("true"), &truth) && truth);
    assert_false(rk_json_get_bool(number("1"), &truth));
    memset(longest, '3', sizeof(longest));
    longest[1] = '.';
    rk_json_value value = {RK_JSON_DOUBLE, {longest, sizeof(longest)}};
    assert_true(rk_json_get_f64(value, &f64) && f64 == 10.0 / 3);
    assert_int_equal(rk_json_check(value.raw, 0, NULL), RK_OK);
    longest[1] = '3';
    assert_int_equal(rk_json_check(value.raw, 0, NULL), RK_EINVAL); /* 10^3000 */
}

int
json_number_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_cases),
        cmocka_unit_test(test_floats_round_trip),
        cmocka_unit_test(test_doubles_round_trip),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_getters),
    };
    return cmocka_run_group_tests_name("json_number", tests, NULL, NULL);
}
