/* SPDX-License-Identifier: Apache-2.0 */
/* Lines, levels, control characters, the limit per call site, switching files. */
#include "base/log.h"

#include <time.h>

#include "unit_test.h"

static char path_a[] = "/tmp/rk-log-a-XXXXXX";
static char path_b[] = "/tmp/rk-log-b-XXXXXX";

static char *
read_all(const char *path)
{
    static char text[65536];
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    return text;
}

static int
lines_with(const char *path, const char *word)
{
    int lines = 0;

    for (const char *at = read_all(path); (at = strstr(at, word)); at++) {
        lines++;
    }
    return lines;
}

static void
lines(void **state)
{
    rk_err err = {0};

    RK_UNUSED(state);
    assert_true(mkstemp(path_a) >= 0);
    assert_true(mkstemp(path_b) >= 0);
    assert_int_equal(rk_log_set_file("/nonexistent/x/y", &err), RK_EIO);
    assert_int_equal(rk_log_set_file(path_a, &err), RK_OK);
    RK_LOG_D("test", "hidden");
    RK_LOG_I("test", "opened name=%s", "c1\nforged ERROR line");
    const char *text = read_all(path_a);
    assert_null(strstr(text, "hidden"));
    assert_non_null(strstr(text, "Z INFO test opened name=c1 forged"));
    assert_int_equal(strchr(text, '\n') - text + 1, strlen(text));
    rk_log_set_level(RK_LOG_ERROR);
    RK_LOG_W("test", "too low");
    rk_log_set_level(RK_LOG_DEBUG);
    RK_LOG_D("test", "shown");
    assert_null(strstr(read_all(path_a), "too low"));
    assert_int_equal(lines_with(path_a, "shown"), 1);
    char huge[8000];
    memset(huge, 'h', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    RK_LOG_I("test", "%s", huge);
    text = read_all(path_a);
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_int_equal(rk_log_set_file(path_b, &err), RK_OK);
    RK_LOG_I("test", "in b");
    assert_int_equal(lines_with(path_b, "in b"), 1);
    assert_int_equal(lines_with(path_a, "in b"), 0);
}

static void
limit_per_site(void **state)
{
    struct timespec began, ended;
    int before, written;

    RK_UNUSED(state);
    /* all within one second, by the clock of the limit: again when something held us up */
    do {
        usleep(1100000);
        clock_gettime(CLOCK_MONOTONIC_COARSE, &began);
        before = lines_with(path_b, "busy site");
        for (int i = 0; i < 50; i++) {
            RK_LOG_W("test", "busy site");
        }
        clock_gettime(CLOCK_MONOTONIC_COARSE, &ended);
        written = lines_with(path_b, "busy site") - before;
    } while (ended.tv_sec != began.tv_sec);
    assert_int_equal(written, 10);
    RK_LOG_W("test", "other site");
    assert_int_equal(lines_with(path_b, "other site"), 1);
}

static void
held_back_lines_are_counted(void **state)
{
    RK_UNUSED(state);
    for (int i = 0; i < 25; i++) {
        if (i == 24) {
            usleep(1100000);
        }
        RK_LOG_W("test", "counted");
    }
    /* 24 in at most two seconds: at least four held back, said by the first line after the pause */
    assert_non_null(strstr(read_all(path_b), " held_back="));
    rk_err err = {0};
    assert_int_equal(rk_log_set_file(NULL, &err), RK_OK);
    unlink(path_a);
    unlink(path_b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(limit_per_site),
        cmocka_unit_test(held_back_lines_are_counted),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
