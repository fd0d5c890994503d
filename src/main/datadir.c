/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data folder and its lock. The lock is the kernel's (flock), so it goes with the process
 * however that ends; the file's text, the process id, is only for the message to the second comer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "main/main_private.h"

static char *
join(const char *root, const char *name)
{
    size_t len = strlen(root) + strlen(name) + 2;
    char *path = rk_alloc(len);

    if (path) {
        size_t head = strlen(root);
        memcpy(path, root, head);
        path[head] = '/';
        memcpy(path + head + 1, name, strlen(name) + 1);
    }
    return path;
}

static rk_code
refuse(int fd, const char *root, rk_err *err)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return rk_fail(err, RK_EBUSY,
                   "data folder %s is in use by the server with process id %s; stop it first, or "
                   "choose another folder with --data",
                   root, n > 0 ? text : "(unknown)");
}

static rk_code
take_lock(rk_datadir *dir, rk_err *err)
{
    char *path = join(dir->root, "redkite.lock");
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld", (long)getpid());
    rk_code code = RK_OK;

    if (!path) {
        return rk_fail(err, RK_ENOMEM, "memory is out");
    }
    dir->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dir->lock_fd < 0) {
        code = rk_fail(err, RK_EIO, "cannot open %s: %s", path, strerror(errno));
    } else if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        code = errno == EWOULDBLOCK
                   ? refuse(dir->lock_fd, dir->root, err)
                   : rk_fail(err, RK_EIO, "cannot lock %s: %s", path, strerror(errno));
    } else if (ftruncate(dir->lock_fd, 0) != 0 ||
               pwrite(dir->lock_fd, text, (size_t)len, 0) != len) {
        /* a full disk: the lock holds all the same, only the id cannot be told */
        code = RK_OK;
    }
    rk_free(path);
    return code;
}

/* The folder's own entry survives a power cut too; stores sync what they put into it. */
static rk_code
sync_folder(const char *root, const rk_env *env, rk_err *err)
{
    char *parent = join(root, "..");
    rk_code code = RK_OK;

    if (!parent) {
        return rk_fail(err, RK_ENOMEM, "memory is out");
    }
    RK_ERR(env->disk->sync_dir(env->disk, root, err));
    RK_ERR(env->disk->sync_dir(env->disk, parent, err));
out:
    rk_free(parent);
    return code;
}

rk_code
rk_datadir_open(rk_datadir *out, const char *path, const rk_env *env, rk_err *err)
{
    rk_code code = RK_OK;

    *out = (rk_datadir){.lock_fd = -1};
    RK_ERR(env->disk->mkdirs(env->disk, path, err));
    out->root = rk_strdup(rk_str_from(path));
    out->meta = join(path, "meta.db");
    out->objects = join(path, "objects");
    out->wal = join(path, "wal");
    if (!out->root || !out->meta || !out->objects || !out->wal) {
        code = rk_fail(err, RK_ENOMEM, "memory is out");
        goto out;
    }
    RK_ERR(take_lock(out, err));
    RK_ERR(sync_folder(out->root, env, err));
out:
    if (code != RK_OK) {
        rk_datadir_close(out);
    }
    return code;
}

void
rk_datadir_close(rk_datadir *dir)
{
    rk_free(dir->root);
    rk_free(dir->meta);
    rk_free(dir->objects);
    rk_free(dir->wal);
    if (dir->lock_fd >= 0) {
        (void)close(dir->lock_fd);
    }
    *dir = (rk_datadir){.lock_fd = -1};
}
