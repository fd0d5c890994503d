/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds for every page reader, whatever it reads from: closing, and reading a range of any
 * alignment by copying it out of whole pages. The reader over a file is pages_file.c; tests bring
 * their own over memory.
 */
#include "base/pages.h"

#include <string.h>

#define COPY_BYTES ((size_t)1 << 20)

void
rk_pages_close(rk_pages *pages)
{
    if (pages) {
        pages->close(pages);
    }
}

rk_code
rk_pages_read(rk_pages *pages, uint64_t offset, void *out, size_t len, rk_err *err)
{
    rk_page_channel *c = NULL;
    rk_page_read read = {0}; /* outlives the channel's use of it */
    uint8_t *to = out;
    rk_code code = RK_OK;

    if (offset > pages->size_bytes || len > pages->size_bytes - offset) {
        return rk_fail(err, RK_EEOF, "%zu bytes at offset %llu lie outside a file of %llu", len,
                       (unsigned long long)offset, (unsigned long long)pages->size_bytes);
    }
    RK_RET(pages->take(pages, COPY_BYTES, &c, err));
    while (len > 0) {
        uint64_t from = offset / RK_PAGE_BYTES * RK_PAGE_BYTES;
        size_t skip = (size_t)(offset - from);
        size_t part = RK_MIN(len, COPY_BYTES - skip);
        rk_page_read *done[1];
        size_t n = 0;
        read = (rk_page_read){.offset = from, .into = c->buffer};
        read.len = (uint32_t)((skip + part + RK_PAGE_BYTES - 1) / RK_PAGE_BYTES * RK_PAGE_BYTES);
        RK_ERR(pages->submit(pages, c, &read, 1, err));
        RK_ERR(pages->wait(pages, c, done, 1, &n, err));
        RK_ERR(read.code);
        memcpy(to, c->buffer + skip, part);
        to += part;
        offset += part;
        len -= part;
    }
out:
    pages->give(pages, c);
    return code;
}
