/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page reader over a file, see pages.h.
 *
 * A channel is an io_uring of its own and a page-aligned buffer. Channels do not belong to a file:
 * a few idle ones are kept for the whole process, so that a search costs no system call to set one
 * up and a thousand segments cost no thousand rings. A ring that the kernel refuses (seccomp of
 * container runtimes, the sysctl io_uring_disabled, too many open files) gives a channel without
 * one: its reads are announced to the kernel when submitted, which starts them side by side, and
 * fetched when waited for. Both ways drop what they read from the page cache, or never put it
 * there.
 *
 * A short or interrupted read is repeated with pread(). A read that ends at the end of the file is
 * whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pages.h"

#ifdef RK_HAVE_URING
#include <liburing.h>
#endif

#include "base/mem.h"

#define IDLE_MAX       16u
#define IDLE_BYTES_MAX ((size_t)1 << 20) /* a larger buffer is not kept */

typedef struct file_pages {
    rk_pages base;
    int fd;
    bool cached; /* reads go through the page cache and are dropped from it */
    char path[];
} file_pages;

typedef struct channel {
    rk_page_channel base;
    rk_page_read *queue[RK_PAGE_READS_MAX]; /* without a ring: a FIFO */
    uint32_t first;
    uint32_t n; /* under way */
    bool has_ring;
#ifdef RK_HAVE_URING
    struct io_uring ring;
#endif
} channel;

static _Atomic(channel *) idle[IDLE_MAX];
static _Atomic(bool) refused; /* by the test hook, or by the kernel for good */

static file_pages *
file_of(rk_pages *pages)
{
    return RK_CONTAINER(pages, file_pages, base);
}

static channel *
channel_of(rk_page_channel *c)
{
    return RK_CONTAINER(c, channel, base);
}

/* ---- channels ---- */

static bool
ring_init(channel *c)
{
#ifdef RK_HAVE_URING
    int code;

    if (atomic_load_explicit(&refused, memory_order_relaxed)) {
        return false;
    }
    code = io_uring_queue_init(RK_PAGE_READS_MAX, &c->ring, 0);
    if (code == -ENOSYS || code == -EPERM || code == -EACCES) {
        atomic_store_explicit(&refused, true, memory_order_relaxed);
    }
    return code == 0;
#else
    RK_UNUSED(c);
    return false;
#endif
}

static void
channel_free(channel *c)
{
    if (!c) {
        return;
    }
#ifdef RK_HAVE_URING
    if (c->has_ring) {
        io_uring_queue_exit(&c->ring);
    }
#endif
    rk_free(c->base.buffer);
    rk_free(c);
}

static channel *
channel_idle(void)
{
    for (size_t i = 0; i < IDLE_MAX; i++) {
        if (atomic_load_explicit(&idle[i], memory_order_relaxed)) {
            channel *c = atomic_exchange_explicit(&idle[i], NULL, memory_order_acquire);
            if (c) {
                return c;
            }
        }
    }
    return NULL;
}

static rk_code
file_take(rk_pages *pages, size_t buffer_bytes, rk_page_channel **out, rk_err *err)
{
    channel *c = channel_idle();

    RK_UNUSED(pages);
    *out = NULL;
    if (!c) {
        c = rk_alloc_zero(1, sizeof(*c));
        if (!c) {
            return rk_fail(err, RK_ENOMEM, "page reader: no memory for a channel");
        }
        c->has_ring = ring_init(c);
    }
    if (c->base.buffer_bytes < buffer_bytes) {
        rk_free(c->base.buffer);
        buffer_bytes = (buffer_bytes + RK_PAGE_BYTES - 1) / RK_PAGE_BYTES * RK_PAGE_BYTES;
        c->base.buffer = rk_alloc_aligned(RK_PAGE_BYTES, buffer_bytes);
        c->base.buffer_bytes = c->base.buffer ? buffer_bytes : 0;
        if (!c->base.buffer) {
            channel_free(c);
            return rk_fail(err, RK_ENOMEM, "page reader: no memory for %zu bytes of pages",
                           buffer_bytes);
        }
    }
    *out = &c->base;
    return RK_OK;
}

/* ---- reads ---- */

/* The whole read, now, on this thread. */
static rk_code
read_now(const file_pages *file, rk_page_read *read, rk_err *err)
{
    uint64_t end = RK_MIN(read->offset + read->len, file->base.size_bytes);
    uint64_t at = read->offset;

    while (at < end) {
        /* whole pages are asked for, as O_DIRECT wants them; the file may end before */
        uint64_t from = at / RK_PAGE_BYTES * RK_PAGE_BYTES;
        uint64_t skip = from - read->offset;
        ssize_t got = pread(file->fd, read->into + skip, (size_t)(read->len - skip), (off_t)from);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return rk_fail(err, RK_EIO, "cannot read %s at offset %llu: %s", file->path,
                           (unsigned long long)from, strerrordesc_np(errno));
        }
        if (from + (uint64_t)got <= at) {
            return rk_fail(err, RK_EEOF,
                           "cannot read %s: it ends at offset %llu, it had %llu bytes", file->path,
                           (unsigned long long)(from + (uint64_t)got),
                           (unsigned long long)file->base.size_bytes);
        }
        at = from + (uint64_t)got;
    }
    return RK_OK;
}

static void
drop_cached(const file_pages *file, const rk_page_read *read)
{
    if (file->cached) { /* advice only */
        (void)posix_fadvise(file->fd, (off_t)read->offset, (off_t)read->len, POSIX_FADV_DONTNEED);
    }
}

#ifdef RK_HAVE_URING
static rk_code
ring_submit(const file_pages *file, channel *c, rk_page_read *reads, size_t n, rk_err *err)
{
    int code;

    for (size_t i = 0; i < n; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
        RK_ASSERT(sqe); /* the ring has room for RK_PAGE_READS_MAX */
        io_uring_prep_read(sqe, file->fd, reads[i].into, reads[i].len, reads[i].offset);
        io_uring_sqe_set_data(sqe, &reads[i]);
    }
    c->n += (uint32_t)n;
    do {
        code = io_uring_submit(&c->ring);
    } while (code == -EINTR || code == -EAGAIN);
    if (code < 0) {
        return rk_fail(err, RK_EIO, "cannot read %s: io_uring_enter: %s", file->path,
                       strerrordesc_np(-code));
    }
    return RK_OK;
}

static rk_code
ring_wait(const file_pages *file, channel *c, rk_page_read **done, size_t max, size_t *n,
          rk_err *err)
{
    struct io_uring_cqe *cqe = NULL;
    int code;

    do {
        code = io_uring_wait_cqe(&c->ring, &cqe);
    } while (code == -EINTR || code == -EAGAIN);
    if (code < 0) {
        return rk_fail(err, RK_EIO, "cannot read %s: io_uring_enter: %s", file->path,
                       strerrordesc_np(-code));
    }
    while (*n < max && c->n > 0 && io_uring_peek_cqe(&c->ring, &cqe) == 0) {
        rk_page_read *read = io_uring_cqe_get_data(cqe);
        uint64_t want = RK_MIN((uint64_t)read->len, file->base.size_bytes - read->offset);
        bool whole = cqe->res >= 0 && (uint64_t)cqe->res >= want;
        io_uring_cqe_seen(&c->ring, cqe);
        c->n--;
        read->code = whole ? RK_OK : read_now(file, read, err);
        drop_cached(file, read);
        done[(*n)++] = read;
    }
    return RK_OK;
}
#endif

static rk_code
file_submit(rk_pages *pages, rk_page_channel *base, rk_page_read *reads, size_t n, rk_err *err)
{
    const file_pages *file = file_of(pages);
    channel *c = channel_of(base);

    RK_ASSERT(n <= RK_PAGE_READS_MAX - c->n);
    for (size_t i = 0; i < n; i++) {
        if (reads[i].offset >= pages->size_bytes || reads[i].offset % RK_PAGE_BYTES != 0 ||
            reads[i].len % RK_PAGE_BYTES != 0 || reads[i].len > RK_PAGE_READ_BYTES_MAX) {
            return rk_fail(err, RK_EEOF, "cannot read %s: %u bytes at offset %llu of %llu",
                           file->path, reads[i].len, (unsigned long long)reads[i].offset,
                           (unsigned long long)pages->size_bytes);
        }
    }
#ifdef RK_HAVE_URING
    if (c->has_ring) {
        return ring_submit(file, c, reads, n, err);
    }
#endif
    for (size_t i = 0; i < n; i++) {
        if (file->cached) { /* starts the read without waiting for it */
            (void)posix_fadvise(file->fd, (off_t)reads[i].offset, (off_t)reads[i].len,
                                POSIX_FADV_WILLNEED);
        }
        c->queue[(c->first + c->n) % RK_PAGE_READS_MAX] = &reads[i];
        c->n++;
    }
    return RK_OK;
}

static rk_code
file_wait(rk_pages *pages, rk_page_channel *base, rk_page_read **done, size_t max, size_t *n,
          rk_err *err)
{
    const file_pages *file = file_of(pages);
    channel *c = channel_of(base);

    *n = 0;
    if (c->n == 0 || max == 0) {
        return RK_OK;
    }
#ifdef RK_HAVE_URING
    if (c->has_ring) {
        return ring_wait(file, c, done, max, n, err);
    }
#endif
    rk_page_read *read = c->queue[c->first];
    c->first = (c->first + 1) % RK_PAGE_READS_MAX;
    c->n--;
    read->code = read_now(file, read, err);
    drop_cached(file, read);
    done[(*n)++] = read;
    return RK_OK;
}

static void
file_give(rk_pages *pages, rk_page_channel *base)
{
    channel *c = channel_of(base);

    while (c->n > 0 && c->has_ring) { /* the kernel still writes into the buffer */
        rk_page_read *done[8];
        size_t n = 0;
        if (file_wait(pages, base, done, RK_COUNT(done), &n, NULL) != RK_OK) {
            break;
        }
    }
    if (c->n > 0 && c->has_ring) { /* closing the ring ends its reads; the memory is given up */
        c->base.buffer = NULL;
        channel_free(c);
        return;
    }
    c->n = 0;
    if (c->base.buffer_bytes <= IDLE_BYTES_MAX &&
        c->has_ring == !atomic_load_explicit(&refused, memory_order_relaxed)) {
        for (size_t i = 0; i < IDLE_MAX; i++) {
            channel *none = NULL;
            if (atomic_compare_exchange_strong_explicit(&idle[i], &none, c, memory_order_release,
                                                        memory_order_relaxed)) {
                return;
            }
        }
    }
    channel_free(c);
}

/* ---- open ---- */

static void
file_close(rk_pages *pages)
{
    file_pages *file = file_of(pages);

    close(file->fd);
    rk_free(file);
}

static int
open_retry(const char *path, int flags)
{
    int fd;

    do {
        fd = open(path, flags);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

rk_code
rk_pages_open_file(rk_pages **out, const char *path, rk_err *err)
{
    size_t path_size = strlen(path) + 1;
    bool direct = strcmp(rk_pages_engine(), "io_uring") == 0;
    file_pages *file;
    struct stat info;
    int fd = direct ? open_retry(path, O_RDONLY | O_CLOEXEC | O_DIRECT) : -1;

    *out = NULL;
    if (fd < 0) {
        direct = false;
        fd = open_retry(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &info) != 0) {
        rk_code code = errno == ENOENT || errno == ENOTDIR ? RK_EKEY_NOT_FOUND : RK_EIO;
        code = rk_fail(err, code, "cannot open %s: %s", path, strerrordesc_np(errno));
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    file = rk_alloc(sizeof(*file) + path_size);
    if (!file) {
        close(fd);
        return rk_fail(err, RK_ENOMEM, "cannot open %s: out of memory", path);
    }
    file->base = (rk_pages){.size_bytes = (uint64_t)info.st_size,
                            .take = file_take,
                            .give = file_give,
                            .submit = file_submit,
                            .wait = file_wait,
                            .close = file_close};
    file->fd = fd;
    file->cached = !direct;
    memcpy(file->path, path, path_size);
    if (!direct) { /* no read-ahead around single pages */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    }
    *out = &file->base;
    return RK_OK;
}

const char *
rk_pages_engine(void)
{
    channel *c = channel_idle();
    bool ring;

    if (!c) {
        c = rk_alloc_zero(1, sizeof(*c));
        if (!c) {
            return "pread";
        }
        c->has_ring = ring_init(c);
    }
    ring = c->has_ring && !atomic_load_explicit(&refused, memory_order_relaxed);
    file_give(NULL, &c->base);
    return ring ? "io_uring" : "pread";
}

void
rk_pages_refuse_uring(bool refuse)
{
    for (channel *c = channel_idle(); c; c = channel_idle()) {
        channel_free(c);
    }
    atomic_store_explicit(&refused, refuse, memory_order_relaxed);
}
