/* SPDX-License-Identifier: Apache-2.0 */
/* Codes and their rows, sentences, wrapping, cutting at a character. */
#include "base/status.h"

#include "unit_test.h"

static void
rows_match_codes(void **state)
{
    RK_UNUSED(state);
    assert_string_equal(rk_code_get_info(RK_OK)->name, "OK");
    assert_int_equal(rk_code_get_info(RK_ECOLLECTION_NOT_FOUND)->number, 100);
    assert_int_equal(rk_code_get_info(RK_ECOLLECTION_NOT_FOUND)->legacy, 4);
    assert_string_equal(rk_code_get_info(RK_EINVAL)->text, "invalid parameter");
    assert_int_equal(rk_code_get_info((rk_code)-424242)->number, 65535);
    assert_int_equal(rk_code_from_number(8), RK_ERATE_LIMIT);
    assert_int_equal(rk_code_from_number(0), RK_OK);
    assert_int_equal(rk_code_from_number(31337), RK_EUNEXPECTED);
    assert_int_equal(RK_EINVAL, -1100);
}

static void
sentences(void **state)
{
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_fail(&err, RK_EINVAL, "nq [%d] is invalid", -1), RK_EINVAL);
    assert_string_equal(err.text, "nq [-1] is invalid");
    assert_true(err.input);
    assert_int_equal(rk_err_wrap(&err, "search of %s", "c1"), RK_EINVAL);
    assert_string_equal(err.text, "search of c1: nq [-1] is invalid");
    rk_fail_tail(&err, RK_EINVAL, "%s", err.text); /* may quote itself */
    assert_string_equal(err.text, "search of c1: nq [-1] is invalid: invalid parameter");
    rk_fail(&err, RK_EIO, "disk");
    assert_false(err.input);
    assert_int_equal(rk_err_input(&err), RK_EIO);
    assert_true(err.input);
    rk_err_clear(&err);
    assert_int_equal(err.code, RK_OK);
    assert_string_equal(err.text, "");
    assert_int_equal(rk_fail(NULL, RK_EIO, "nobody listens"), RK_EIO);
    assert_int_not_equal(rk_err_wrap(NULL, "context"), RK_OK);
    assert_int_not_equal(rk_err_wrap(&err, "context"), RK_OK); /* a failure stays one */
}

static void
long_sentence_is_cut_at_a_character(void **state)
{
    char text[RK_ERR_TEXT_MAX + 64];
    rk_err err = {0};

    RK_UNUSED(state);
    /* every alignment of a three-byte character against the end */
    for (size_t lead = 0; lead < 3; lead++) {
        size_t len = lead;
        memset(text, 'a', lead);
        while (len + 3 < sizeof(text)) {
            memcpy(text + len, "\xE2\x82\xAC", 3);
            len += 3;
        }
        text[len] = '\0';
        rk_fail(&err, RK_EINVAL, "%s", text);
        size_t kept = strlen(err.text);
        assert_in_range(kept, RK_ERR_TEXT_MAX - 3, RK_ERR_TEXT_MAX - 1);
        assert_int_equal((kept - lead) % 3, 0);
        rk_err_wrap(&err, "%s", "x");
        assert_int_equal((strlen(err.text) - lead - 3) % 3, 0);
    }
}

static void
ill_formed_bytes_are_mended(void **state)
{
    rk_err err = {0};

    RK_UNUSED(state);
    rk_fail(&err, RK_EINVAL, "name %s.", "a\xC3\xFFz\xE2\x82");
    assert_string_equal(err.text, "name a?"
                                  "?z?"
                                  "?.");
    rk_fail_tail(&err, RK_EINVAL, "%s", "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
    assert_string_equal(err.text, "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80: invalid parameter");
    rk_err_wrap(&err, "%s", "\x80");
    assert_int_equal(err.text[0], '?');
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_match_codes),
        cmocka_unit_test(sentences),
        cmocka_unit_test(long_sentence_is_cut_at_a_character),
        cmocka_unit_test(ill_formed_bytes_are_mended),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
