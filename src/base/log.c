/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log writer: one line, one write() call, so that lines of several threads never mix.
 *
 * The lock guards only the table that counts lines per call site (format text and module stand for
 * the site); formatting and writing happen outside it. A site may print 10 lines in a second; the
 * first line of a later second tells how many were held back. Control characters become blanks, so
 * that text from outside cannot forge a line. A log file is swapped under a fixed descriptor, which
 * makes the swap atomic to writers; rotation by an outside tool is rename plus rk_log_set_file().
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_LEN_MAX     4096
#define LINES_PER_SECOND 10u
#define SITES            256u
#define PROBES           8u

typedef struct site {
    const char *fmt; /* NULL: free */
    const char *module;
    int64_t second;
    uint32_t printed;
    uint32_t held_back;
} site;

static _Atomic int log_level =
    RK_LOG_INFO;                           /* relaxed: a late reader prints one line more or less */
static _Atomic int log_fd = STDERR_FILENO; /* set once to the file's descriptor, then kept */
/* A plain mutex: this one is taken under every other lock and takes none. Rank 90 in
 * docs/locking.md. */
static pthread_mutex_t sites_lock = PTHREAD_MUTEX_INITIALIZER;
static site sites[SITES];

void
rk_log_set_level(rk_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

rk_log_level
rk_log_get_level(void)
{
    return (rk_log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

rk_code
rk_log_set_file(const char *path, rk_err *err)
{
    int current = atomic_load(&log_fd);
    int fd = STDERR_FILENO;

    if (path) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0) {
            return rk_fail(err, RK_EIO, "cannot open log file %s: %s", path,
                           strerrordesc_np(errno));
        }
    }
    if (current == STDERR_FILENO) {
        atomic_store(&log_fd, fd); /* the first file: its descriptor is kept from now on */
        return RK_OK;
    }
    if (dup3(fd, current, O_CLOEXEC) < 0) {
        int error = errno;
        if (fd != STDERR_FILENO) {
            close(fd);
        }
        return rk_fail(err, RK_EIO, "cannot switch to log file %s: %s", path ? path : "(stderr)",
                       strerrordesc_np(error));
    }
    if (fd != STDERR_FILENO) {
        close(fd);
    }
    return RK_OK;
}

/* The entry of a call site: its own, a free one, or the one unused for the longest time. */
static site *
find_site(const char *fmt, const char *module)
{
    uintptr_t key = ((uintptr_t)fmt >> 3) * 31u + ((uintptr_t)module >> 3);
    site *oldest = NULL;

    for (unsigned i = 0; i < PROBES; i++) {
        site *s = &sites[(key + i) % SITES];
        if (s->fmt == fmt && s->module == module) {
            return s;
        }
        if (!s->fmt) {
            oldest = s;
            break;
        }
        if (!oldest || s->second < oldest->second) {
            oldest = s;
        }
    }
    *oldest = (site){fmt, module, -1, 0, 0};
    return oldest;
}

/* True when the site may print now; |*held_back| tells how many lines it lost since its last one.
 */
static bool
admit(const char *fmt, const char *module, uint32_t *held_back)
{
    struct timespec now;
    bool ok;

    *held_back = 0;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    pthread_mutex_lock(&sites_lock);
    site *s = find_site(fmt, module);
    if (s->second != now.tv_sec) {
        s->second = now.tv_sec;
        s->printed = 0;
    }
    ok = s->printed < LINES_PER_SECOND;
    if (ok) {
        s->printed++;
        *held_back = s->held_back;
        s->held_back = 0;
    } else {
        s->held_back++;
    }
    pthread_mutex_unlock(&sites_lock);
    return ok;
}

static size_t
write_prefix(char *line, size_t cap, rk_log_level level, const char *module)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    int n = snprintf(line + len, cap - len, ".%03dZ %s %s ", (int)(now.tv_nsec / 1000000),
                     names[(unsigned)level & 3u], module);
    return n > 0 ? len + (size_t)n : len;
}

void
rk_log_write(rk_log_level level, const char *module, const char *fmt, ...)
{
    char line[LINE_LEN_MAX];
    uint32_t held_back;
    va_list args;

    if (level < rk_log_get_level() || !admit(fmt, module, &held_back)) {
        return;
    }
    size_t room = sizeof(line) - 48; /* for the held-back count and the line end */
    size_t len = write_prefix(line, room, level, module);
    va_start(args, fmt);
    int n = vsnprintf(line + len, room - len, fmt, args);
    va_end(args);
    size_t start = len;
    len += n < 0 ? 0 : RK_MIN((size_t)n, room - len - 1);
    for (size_t i = start; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F) {
            line[i] = ' ';
        }
    }
    if (held_back > 0) {
        n = snprintf(line + len, sizeof(line) - len, " held_back=%u", held_back);
        len += n > 0 ? (size_t)n : 0;
    }
    line[len++] = '\n';
    ssize_t put;
    do {
        put = write(atomic_load(&log_fd), line, len);
    } while (put < 0 && errno == EINTR);
    /* a log that cannot be written has nowhere to say so */
}
