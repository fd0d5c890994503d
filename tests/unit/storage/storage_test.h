/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of this folder share: a scratch folder per test and whole-file helpers. Files are
 * small, and calls that must not fail are asserted here, so that the tests read as their story.
 */
#ifndef RK_TEST_STORAGE_TEST_H
#define RK_TEST_STORAGE_TEST_H

/* clang-format off */
#include <setjmp.h> /* cmocka.h wants these four before it */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/seam.h"

#define assert_ok(expr)                                                                            \
    do {                                                                                           \
        rk_code assert_code_ = (expr);                                                             \
        if (assert_code_ != RK_OK) {                                                               \
            fail_msg("%s: %s: %s", #expr, rk_code_get_info(assert_code_)->name, test_err.text);    \
        }                                                                                          \
    } while (0)
#define assert_code(expr, want)                                                                    \
    do {                                                                                           \
        rk_code assert_code_ = (expr);                                                             \
        if (assert_code_ != (want)) {                                                              \
            fail_msg("%s: got %s (%s), want %s", #expr, rk_code_get_info(assert_code_)->name,      \
                     test_err.text, rk_code_get_info(want)->name);                                 \
        }                                                                                          \
    } while (0)

static rk_err test_err;
static char test_root[64];

static inline int
test_remove_each(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    RK_UNUSED(info);
    RK_UNUSED(type);
    RK_UNUSED(ftw);
    return remove(path);
}

static inline void
test_remove_all(const char *path)
{
    nftw(path, test_remove_each, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int
test_setup(void **state)
{
    RK_UNUSED(state);
    rk_err_clear(&test_err);
    snprintf(test_root, sizeof(test_root), "/tmp/rk_storage_XXXXXX");
    return mkdtemp(test_root) ? 0 : -1;
}

static inline int
test_teardown(void **state)
{
    RK_UNUSED(state);
    test_remove_all(test_root);
    return 0;
}

static inline uint8_t *
test_file_read(const char *path, size_t *len)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &info), 0);
    *len = (size_t)info.st_size;
    uint8_t *data = rk_alloc(*len + 1);
    assert_non_null(data);
    assert_int_equal(read(fd, data, *len), (ssize_t)*len);
    close(fd);
    return data;
}

static inline void
test_file_write(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

#endif
