/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the memory and CPU limits of control groups, versions 1 and 2.
 *
 * /proc/self/cgroup has one line per hierarchy: "ID:controllers:path"; version 2 is the line
 * "0::path". The limit that counts is the smallest on the way from that path up to the root, since
 * each parent binds too. Inside a container the path may be the host's and not visible under the
 * mount; then only the mount's root is there, which is the container's own group. Called at
 * start-up only; nothing is kept.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/base_private.h"

#define PATH_LEN_MAX 4096

/* Reads a small file whole; false when it cannot be read. */
static bool
read_small(const char *path, char *out, size_t cap, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t got = 0;

    if (fd < 0) {
        return false;
    }
    while (got < cap) {
        ssize_t n = read(fd, out + got, cap - got);
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    close(fd);
    *len = got;
    return true;
}

/* Takes the first line off |*rest|. */
static bool
next_line(rk_str *rest, rk_str *line)
{
    if (rest->len == 0) {
        return false;
    }
    const char *end = memchr(rest->data, '\n', rest->len);
    size_t len = end ? (size_t)(end - rest->data) : rest->len;
    size_t skip = end ? len + 1 : len;
    *line = (rk_str){rest->data, len};
    rest->data += skip;
    rest->len -= skip;
    return true;
}

static bool
has_word(rk_str list, const char *word)
{
    while (list.len > 0) {
        const char *comma = memchr(list.data, ',', list.len);
        size_t len = comma ? (size_t)(comma - list.data) : list.len;
        if (rk_str_is((rk_str){list.data, len}, word)) {
            return true;
        }
        size_t skip = comma ? len + 1 : len;
        list.data += skip;
        list.len -= skip;
    }
    return false;
}

/* The group path of |controller| ("" for version 2) from /proc/self/cgroup, "/" when it is not
 * told. */
static void
group_path(const char *root, const char *controller, char *out, size_t cap)
{
    char path[PATH_LEN_MAX];
    char text[8192];
    size_t len;
    rk_str line;

    snprintf(out, cap, "/");
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    if (!read_small(path, text, sizeof(text), &len)) {
        return;
    }
    rk_str rest = {text, len};
    while (next_line(&rest, &line)) {
        const char *first = memchr(line.data, ':', line.len);
        if (!first) {
            continue;
        }
        rk_str tail = {first + 1, line.len - (size_t)(first + 1 - line.data)};
        const char *second = memchr(tail.data, ':', tail.len);
        if (!second) {
            continue;
        }
        rk_str names = {tail.data, (size_t)(second - tail.data)};
        rk_str where = {second + 1, tail.len - names.len - 1};
        bool match = *controller ? has_word(names, controller) : names.len == 0;
        if (match && where.len > 0 && where.data[0] == '/' && where.len < cap) {
            memcpy(out, where.data, where.len);
            out[where.len] = '\0';
            return;
        }
    }
}

/* Cuts the last part off |path|; false when it was "/". */
static bool
to_parent(char *path)
{
    size_t len = strlen(path);

    if (len <= 1) {
        return false;
    }
    while (len > 1 && path[len - 1] != '/') {
        len--;
    }
    path[len > 1 ? len - 1 : 1] = '\0';
    return true;
}

static bool
read_at(const char *root, const char *mount, const char *group, const char *name, char *out,
        size_t cap, rk_str *text)
{
    char path[PATH_LEN_MAX];
    size_t len;
    int n = snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s%s/%s", root, mount, group, name);

    if (n < 0 || (size_t)n >= sizeof(path) || !read_small(path, out, cap, &len)) {
        return false;
    }
    *text = rk_str_trim((rk_str){out, len});
    return true;
}

static void
take_smaller(uint64_t *limit, rk_str text)
{
    uint64_t value;

    /* version 1 says "no limit" with a number near 2^63 */
    if (rk_str_to_u64(text, &value) && value > 0 && value < UINT64_C(1) << 62 &&
        (*limit == 0 || value < *limit)) {
        *limit = value;
    }
}

uint64_t
rk__cgroup_memory_limit(const char *root)
{
    char group[1024];
    char text[256];
    rk_str value;
    uint64_t limit = 0;

    group_path(root, "", group, sizeof(group));
    do {
        if (read_at(root, "", group, "memory.max", text, sizeof(text), &value)) {
            take_smaller(&limit, value);
        }
    } while (to_parent(group));
    group_path(root, "memory", group, sizeof(group));
    do {
        if (read_at(root, "/memory", group, "memory.limit_in_bytes", text, sizeof(text), &value)) {
            take_smaller(&limit, value);
        }
    } while (to_parent(group));
    return limit;
}

static void
take_smaller_quota(double *limit, rk_str quota_text, rk_str period_text)
{
    int64_t quota;
    int64_t period;

    if (rk_str_to_i64(quota_text, &quota) && rk_str_to_i64(period_text, &period) && quota > 0 &&
        period > 0) {
        double cpus = (double)quota / (double)period;
        if (*limit <= 0 || cpus < *limit) {
            *limit = cpus;
        }
    }
}

double
rk__cgroup_cpu_limit(const char *root)
{
    char group[1024];
    char text[256];
    char period_buf[256];
    rk_str value;
    rk_str period;
    double limit = 0;

    group_path(root, "", group, sizeof(group));
    do {
        if (read_at(root, "", group, "cpu.max", text, sizeof(text), &value)) {
            const char *blank = memchr(value.data, ' ', value.len);
            if (blank) {
                size_t len = (size_t)(blank - value.data);
                take_smaller_quota(&limit, (rk_str){value.data, len},
                                   (rk_str){blank + 1, value.len - len - 1});
            }
        }
    } while (to_parent(group));
    group_path(root, "cpu", group, sizeof(group));
    do {
        if (read_at(root, "/cpu", group, "cpu.cfs_quota_us", text, sizeof(text), &value) &&
            read_at(root, "/cpu", group, "cpu.cfs_period_us", period_buf, sizeof(period_buf),
                    &period)) {
            take_smaller_quota(&limit, value, period);
        }
    } while (to_parent(group));
    return limit;
}
