/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page reader: many small reads of one immutable file under way at a time, past the page cache.
 *
 * A search that keeps its vectors on disk takes a channel, submits reads of whole pages into the
 * channel's memory and waits for them as they finish, in any order. What it read leaves nothing
 * behind in memory, so a bound on memory is honest.
 *
 * Ownership: a channel belongs to one search from take to give; give waits for reads under way.
 * Threads: take from any thread; a channel is used by one thread at a time. All calls may block on
 * I/O: pool threads only.
 */
#ifndef RK_BASE_PAGES_H
#define RK_BASE_PAGES_H

#include "base/slice.h"
#include "base/status.h"

#define RK_PAGE_BYTES          4096u
#define RK_PAGE_READS_MAX      128u /* under way in one channel */
#define RK_PAGE_READ_BYTES_MAX (UINT32_C(1) << 30)

typedef struct rk_page_channel {
    uint8_t *buffer; /* page-aligned memory for reads, its content undefined at take */
    size_t buffer_bytes;
} rk_page_channel;

typedef struct rk_page_read {
    uint64_t offset; /* multiple of the page size */
    uint8_t *into;   /* inside the channel's buffer, page-aligned */
    uint32_t len; /* multiple of the page size; what lies past the end of the file is not touched */
    uint32_t tag; /* the caller's */
    rk_code code; /* of the read, once it is done */
} rk_page_read;

typedef struct rk_pages rk_pages;
struct rk_pages {
    uint64_t size_bytes; /* of the file */
    rk_code (*take)(rk_pages *pages, size_t buffer_bytes, rk_page_channel **out, rk_err *err);
    void (*give)(rk_pages *pages, rk_page_channel *channel);
    /* Starts |n| reads, which stay where they are until they are done; with those under way at most
     * RK_PAGE_READS_MAX. */
    rk_code (*submit)(rk_pages *pages, rk_page_channel *channel, rk_page_read *reads, size_t n,
                      rk_err *err);
    /* Waits until at least one read is done: 1..max of them in |done|. A failed one has its code
     * set, and |err| tells of the last of these. Nothing under way: *n is 0. */
    rk_code (*wait)(rk_pages *pages, rk_page_channel *channel, rk_page_read **done, size_t max,
                    size_t *n, rk_err *err);
    void (*close)(rk_pages *pages); /* no channel is taken */
};

/*
 * Over a file, by io_uring and O_DIRECT. Where the kernel or a sandbox refuses io_uring: reads are
 * announced with posix_fadvise(), done one by one and dropped from the page cache. Where the file
 * system refuses O_DIRECT: buffered and dropped.
 */
RK_MUST_CHECK rk_code rk_pages_open_file(rk_pages **out, const char *path, rk_err *err);
/* "io_uring" or "pread": what a reader over a file uses in this process. */
const char *rk_pages_engine(void);
/* Test hook: as if io_uring were refused. For readers opened and channels taken after the call. */
void rk_pages_refuse_uring(bool refuse);

/* Reads any range through a channel of its own, in large pieces. */
RK_MUST_CHECK rk_code rk_pages_read(rk_pages *pages, uint64_t offset, void *out, size_t len,
                                    rk_err *err);
void rk_pages_close(rk_pages *pages); /* accepts NULL */

#endif
