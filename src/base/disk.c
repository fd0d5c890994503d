/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real disk: system calls with whole reads and writes, and errors that tell "absent" from
 * "unreadable".
 *
 * Files are opened with close-on-exec and mode 0600. A failed sync poisons the open file: the
 * kernel may have dropped the dirty pages and would call the next sync a success, so every later
 * write or sync on the same handle fails with RK_EIO. Reads go on. Positional calls only: one
 * handle may be used by several threads; the poison flag is atomic. All functions block; pool
 * threads only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/base_private.h"
#include "base/mem.h"

#define PATH_LEN_MAX 4096
#define IO_CHUNK_MAX ((size_t)1 << 30)

typedef struct real_file {
    int fd;
    _Atomic bool poisoned; /* relaxed: a late reader meets the error on its own call */
    char path[];           /* for messages */
} real_file;

static real_file *
real_of(rk_file *f)
{
    return (real_file *)(void *)f;
}

static rk_code
fail_errno(rk_err *err, int error, const char *what, const char *path)
{
    rk_code code = RK_EIO;

    if (error == ENOENT || error == ENOTDIR) {
        code = RK_EKEY_NOT_FOUND;
    } else if (error == EEXIST) {
        code = RK_EEXISTS;
    } else if (error == ENOSPC || error == EDQUOT) {
        code = RK_EDISK_FULL;
    }
    return rk_fail(err, code, "cannot %s %s: %s", what, path, strerrordesc_np(error));
}

static rk_code
real_open(rk_disk *d, rk_file **out, const char *path, unsigned flags, rk_err *err)
{
    int mode = (flags & RK_OPEN_WRITE) ? O_RDWR : O_RDONLY;
    struct stat info;
    int fd;

    RK_UNUSED(d);
    *out = NULL;
    mode |= (flags & RK_OPEN_CREATE) ? O_CREAT : 0;
    mode |= (flags & RK_OPEN_EXCLUSIVE) ? O_EXCL : 0;
    mode |= (flags & RK_OPEN_TRUNCATE) ? O_TRUNC : 0;
    do {
        fd = open(path, mode | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fail_errno(err, errno, "open", path);
    }
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return fail_errno(err, EISDIR, "open", path);
    }
    size_t path_size = strlen(path) + 1;
    real_file *file = rk_alloc(sizeof(*file) + path_size);
    if (!file) {
        close(fd);
        return rk_fail(err, RK_ENOMEM, "cannot open %s: out of memory", path);
    }
    file->fd = fd;
    atomic_init(&file->poisoned, false);
    memcpy(file->path, path, path_size);
    *out = (rk_file *)(void *)file;
    return RK_OK;
}

static void
real_close(rk_disk *d, rk_file *f)
{
    RK_UNUSED(d);
    if (f) {
        close(real_of(f)->fd);
        rk_free(f);
    }
}

static rk_code
real_size(rk_disk *d, rk_file *f, uint64_t *out, rk_err *err)
{
    struct stat info;

    RK_UNUSED(d);
    if (fstat(real_of(f)->fd, &info) != 0) {
        return fail_errno(err, errno, "stat", real_of(f)->path);
    }
    *out = (uint64_t)info.st_size;
    return RK_OK;
}

static rk_code
real_read(rk_disk *d, rk_file *f, uint64_t offset, void *buf, size_t len, rk_err *err)
{
    real_file *file = real_of(f);
    uint8_t *at = buf;

    RK_UNUSED(d);
    if (offset > (uint64_t)INT64_MAX - len) {
        return rk_fail(err, RK_EEOF, "cannot read %s: offset %llu is past any file", file->path,
                       (unsigned long long)offset);
    }
    while (len > 0) {
        ssize_t got = pread(file->fd, at, RK_MIN(len, IO_CHUNK_MAX), (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno(err, errno, "read", file->path);
        }
        if (got == 0) {
            return rk_fail(err, RK_EEOF, "cannot read %s: it ends at offset %llu, %zu bytes short",
                           file->path, (unsigned long long)offset, len);
        }
        at += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
    return RK_OK;
}

static rk_code
check_poison(real_file *file, const char *what, rk_err *err)
{
    if (atomic_load_explicit(&file->poisoned, memory_order_relaxed)) {
        return rk_fail(err, RK_EIO, "cannot %s %s: an earlier sync of it failed", what, file->path);
    }
    return RK_OK;
}

static rk_code
real_write(rk_disk *d, rk_file *f, uint64_t offset, const void *buf, size_t len, rk_err *err)
{
    real_file *file = real_of(f);
    const uint8_t *at = buf;

    RK_UNUSED(d);
    RK_RET(check_poison(file, "write", err));
    if (offset > (uint64_t)INT64_MAX - len) {
        return fail_errno(err, EFBIG, "write", file->path);
    }
    while (len > 0) {
        ssize_t put = pwrite(file->fd, at, RK_MIN(len, IO_CHUNK_MAX), (off_t)offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return fail_errno(err, put < 0 ? errno : ENOSPC, "write", file->path);
        }
        at += put;
        len -= (size_t)put;
        offset += (uint64_t)put;
    }
    return RK_OK;
}

static rk_code
real_allocate(rk_disk *d, rk_file *f, uint64_t len, rk_err *err)
{
    real_file *file = real_of(f);
    int error;

    RK_UNUSED(d);
    RK_RET(check_poison(file, "allocate", err));
    if (len == 0 || len > (uint64_t)INT64_MAX) {
        return len == 0 ? RK_OK : fail_errno(err, EFBIG, "allocate", file->path);
    }
    do {
        error = posix_fallocate(file->fd, 0, (off_t)len);
    } while (error == EINTR);
    return error ? fail_errno(err, error, "allocate", file->path) : RK_OK;
}

static rk_code
real_truncate(rk_disk *d, rk_file *f, uint64_t len, rk_err *err)
{
    real_file *file = real_of(f);

    RK_UNUSED(d);
    RK_RET(check_poison(file, "truncate", err));
    if (len > (uint64_t)INT64_MAX) {
        return fail_errno(err, EFBIG, "truncate", file->path);
    }
    while (ftruncate(file->fd, (off_t)len) != 0) {
        if (errno != EINTR) {
            return fail_errno(err, errno, "truncate", file->path);
        }
    }
    return RK_OK;
}

static rk_code
real_sync(rk_disk *d, rk_file *f, rk_err *err)
{
    real_file *file = real_of(f);

    RK_UNUSED(d);
    RK_RET(check_poison(file, "sync", err));
    while (fdatasync(file->fd) != 0) {
        if (errno == EINTR) {
            continue;
        }
        int error = errno;
        atomic_store_explicit(&file->poisoned, true, memory_order_relaxed);
        return fail_errno(err, error, "sync", file->path);
    }
    return RK_OK;
}

static rk_code
real_sync_dir(rk_disk *d, const char *path, rk_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = 0;

    RK_UNUSED(d);
    if (fd < 0) {
        return fail_errno(err, errno, "open folder", path);
    }
    while (fsync(fd) != 0) {
        if (errno != EINTR) {
            error = errno;
            break;
        }
    }
    close(fd);
    return error ? fail_errno(err, error, "sync folder", path) : RK_OK;
}

static rk_code
real_rename(rk_disk *d, const char *from, const char *to, rk_err *err)
{
    RK_UNUSED(d);
    return rename(from, to) == 0 ? RK_OK : fail_errno(err, errno, "rename", from);
}

static rk_code
real_rename_new(rk_disk *d, const char *from, const char *to, rk_err *err)
{
    RK_UNUSED(d);
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return RK_OK;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return fail_errno(err, errno, "rename", from);
    }
    /* a file system without that call: a second name refuses to replace as well */
    if (link(from, to) != 0) {
        return fail_errno(err, errno, "link", from);
    }
    return unlink(from) == 0 ? RK_OK : fail_errno(err, errno, "remove", from);
}

static rk_code
real_remove(rk_disk *d, const char *path, rk_err *err)
{
    RK_UNUSED(d);
    if (unlink(path) == 0 || (errno == EISDIR && rmdir(path) == 0)) {
        return RK_OK;
    }
    /* a folder that is not empty says EEXIST on some file systems: to the caller that is a plain
     * failure */
    int error = errno == EEXIST ? ENOTEMPTY : errno;
    return fail_errno(err, error, "remove", path);
}

static rk_code
real_mkdirs(rk_disk *d, const char *path, rk_err *err)
{
    char part[PATH_LEN_MAX];
    size_t len = strlen(path);
    struct stat info;

    RK_UNUSED(d);
    if (len == 0 || len >= sizeof(part)) {
        return fail_errno(err, len ? ENAMETOOLONG : EINVAL, "create folder", path);
    }
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        char kept = part[i];
        part[i] = '\0';
        if (mkdir(part, 0700) != 0) {
            int error = errno; /* EEXIST, or EROFS and EACCES on a parent that is there */
            if (stat(part, &info) != 0) {
                return fail_errno(err, error, "create folder", part);
            }
            if (!S_ISDIR(info.st_mode)) {
                return rk_fail(err, RK_EIO, "cannot create folder %s: a file of that name exists",
                               part);
            }
        }
        part[i] = kept;
    }
    return RK_OK;
}

static rk_code
real_list(rk_disk *d, const char *path, rk_code (*each)(void *user, const char *name, bool is_dir),
          void *user, rk_err *err)
{
    rk_code code = RK_OK;
    DIR *dir = opendir(path);

    RK_UNUSED(d);
    if (!dir) {
        return fail_errno(err, errno, "list", path);
    }
    while (code == RK_OK) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            code = errno ? fail_errno(err, errno, "list", path) : RK_OK;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        bool is_dir = entry->d_type == DT_DIR;
        struct stat info;
        if (entry->d_type == DT_UNKNOWN && fstatat(dirfd(dir), entry->d_name, &info, 0) == 0) {
            is_dir = S_ISDIR(info.st_mode);
        }
        code = each(user, entry->d_name, is_dir);
    }
    closedir(dir);
    return code;
}

static rk_code
real_map(rk_disk *d, rk_map *out, const char *path, rk_err *err)
{
    struct stat info;
    int error = 0;

    RK_UNUSED(d);
    *out = (rk_map){NULL, 0, NULL};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(err, errno, "open", path);
    }
    if (fstat(fd, &info) != 0) {
        error = errno;
    } else if (!S_ISREG(info.st_mode)) {
        error = EISDIR;
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            error = errno;
        } else {
            *out = (rk_map){data, (size_t)info.st_size, data};
        }
    }
    close(fd);
    return error ? fail_errno(err, error, "map", path) : RK_OK;
}

static void
real_unmap(rk_disk *d, rk_map *map)
{
    RK_UNUSED(d);
    if (map && map->priv) {
        munmap(map->priv, map->len);
        *map = (rk_map){NULL, 0, NULL};
    }
}

static rk_code
real_free_bytes(rk_disk *d, const char *path, uint64_t *out, rk_err *err)
{
    struct statvfs info;

    RK_UNUSED(d);
    if (statvfs(path, &info) != 0) {
        return fail_errno(err, errno, "read free space of", path);
    }
    *out = (uint64_t)info.f_bavail * info.f_frsize;
    return RK_OK;
}

rk_disk rk__disk_real = {
    .open = real_open,
    .close = real_close,
    .size = real_size,
    .read = real_read,
    .write = real_write,
    .allocate = real_allocate,
    .truncate = real_truncate,
    .sync = real_sync,
    .sync_dir = real_sync_dir,
    .rename = real_rename,
    .remove = real_remove,
    .mkdirs = real_mkdirs,
    .list = real_list,
    .map = real_map,
    .unmap = real_unmap,
    .free_bytes = real_free_bytes,
    .rename_new = real_rename_new,
};

rk_disk *
rk_disk_real(void)
{
    return &rk__disk_real;
}
