/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page reader over a file, with io_uring where the kernel allows it and without: every page
 * comes back whole whatever the order, the end of the file is not an error, what lies past it is.
 */
#include "base/pages.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "unit_test.h"

#define PAGES 40u
#define TAIL  1000u /* bytes of a last, short page */

static char path[64];

static uint8_t
byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 7 + offset / RK_PAGE_BYTES);
}

static int
make_file(void **state)
{
    uint8_t *data = rk_alloc(PAGES * RK_PAGE_BYTES + TAIL);
    int fd;

    RK_UNUSED(state);
    assert_non_null(data);
    (void)snprintf(path, sizeof(path), "/tmp/redkite-pages-%d", (int)getpid());
    for (size_t i = 0; i < PAGES * RK_PAGE_BYTES + TAIL; i++) {
        data[i] = byte_at(i);
    }
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, PAGES * RK_PAGE_BYTES + TAIL), PAGES * RK_PAGE_BYTES + TAIL);
    close(fd);
    rk_free(data);
    return 0;
}

static int
remove_file(void **state)
{
    RK_UNUSED(state);
    rk_pages_refuse_uring(false);
    return unlink(path);
}

static void
check_bytes(const uint8_t *data, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != byte_at(offset + i)) {
            fail_msg("byte %zu of the read at %llu", i, (unsigned long long)offset);
        }
    }
}

static void
scattered(bool refuse)
{
    rk_pages *pages = NULL;
    rk_page_channel *c = NULL;
    rk_page_read reads[PAGES + 1];
    rk_err err = {0};
    size_t finished = 0;

    rk_pages_refuse_uring(refuse);
    assert_true(!refuse || strcmp(rk_pages_engine(), "pread") == 0);
    assert_int_equal(rk_pages_open_file(&pages, path, &err), RK_OK);
    assert_int_equal(pages->size_bytes, PAGES * RK_PAGE_BYTES + TAIL);
    assert_int_equal(pages->take(pages, (PAGES + 1) * RK_PAGE_BYTES, &c, &err), RK_OK);
    for (uint32_t i = 0; i <= PAGES; i++) {
        uint32_t page = (i * 17) % (PAGES + 1);
        reads[i] = (rk_page_read){.offset = (uint64_t)page * RK_PAGE_BYTES,
                                  .into = c->buffer + (size_t)i * RK_PAGE_BYTES,
                                  .len = RK_PAGE_BYTES,
                                  .tag = page,
                                  .code = RK_EINTERNAL};
    }
    assert_int_equal(pages->submit(pages, c, reads, 30, &err), RK_OK);
    assert_int_equal(pages->submit(pages, c, reads + 30, PAGES + 1 - 30, &err), RK_OK);
    for (size_t n = 1; n > 0; finished += n) {
        rk_page_read *done[8];
        assert_int_equal(pages->wait(pages, c, done, 8, &n, &err), RK_OK);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(done[i]->code, RK_OK);
            check_bytes(done[i]->into, done[i]->offset,
                        done[i]->tag == PAGES ? TAIL : RK_PAGE_BYTES);
        }
    }
    assert_int_equal(finished, PAGES + 1);
    assert_int_equal(pages->submit(pages, c, reads, 8, &err), RK_OK); /* given back under way */
    pages->give(pages, c);
    rk_pages_close(pages);
}

static void
test_scattered(void **state)
{
    RK_UNUSED(state);
    scattered(false);
    scattered(true);
}

static void
test_range(void **state)
{
    static const struct {
        uint64_t offset;
        size_t len;
    } cases[] = {{0, 1},
                 {4095, 2},
                 {5000, 100000},
                 {0, PAGES * RK_PAGE_BYTES + TAIL},
                 {PAGES * RK_PAGE_BYTES + 5, TAIL - 5},
                 {77, 0}};
    uint8_t *out = rk_alloc(PAGES * RK_PAGE_BYTES + TAIL);
    rk_pages *pages = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_non_null(out);
    for (int refuse = 0; refuse < 2; refuse++) {
        rk_pages_refuse_uring(refuse == 1);
        assert_int_equal(rk_pages_open_file(&pages, path, &err), RK_OK);
        for (size_t i = 0; i < RK_COUNT(cases); i++) {
            assert_int_equal(rk_pages_read(pages, cases[i].offset, out, cases[i].len, &err), RK_OK);
            check_bytes(out, cases[i].offset, cases[i].len);
        }
        assert_int_equal(rk_pages_read(pages, PAGES * RK_PAGE_BYTES, out, TAIL + 1, &err), RK_EEOF);
        assert_int_equal(rk_pages_read(pages, UINT64_MAX, out, 2, &err), RK_EEOF);
        rk_pages_close(pages);
    }
    rk_free(out);
}

/* A file that shrank under us is an error that names it, not old bytes. */
static void
test_shrunk(void **state)
{
    RK_UNUSED(state);
    for (int refuse = 0; refuse < 2; refuse++) {
        uint8_t out[16];
        rk_pages *pages = NULL;
        rk_err err = {0};
        assert_int_equal(make_file(NULL), 0);
        rk_pages_refuse_uring(refuse == 1);
        assert_int_equal(rk_pages_open_file(&pages, path, &err), RK_OK);
        assert_int_equal(truncate(path, 2 * RK_PAGE_BYTES), 0);
        assert_int_equal(rk_pages_read(pages, 3 * RK_PAGE_BYTES, out, sizeof(out), &err), RK_EEOF);
        assert_non_null(strstr(err.text, path));
        rk_pages_close(pages);
    }
}

static void
test_absent(void **state)
{
    rk_pages *pages = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_pages_open_file(&pages, "/tmp/redkite-no-such-file", &err),
                     RK_EKEY_NOT_FOUND);
    assert_null(pages);
    rk_pages_close(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scattered),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_shrunk),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
