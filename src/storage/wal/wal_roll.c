/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making the next log file.
 *
 * The file is made whole under the name `new.wal` (from `spare.wal`, a truncated file kept for
 * reuse, whose blocks are already written and therefore sync faster, when there is one), its header
 * is synced, and only then it gets its number as name and the folder is synced. A crash at any
 * point leaves either the old last file, or the new one with a good header.
 *
 * Free space is looked at here and nowhere else: appends into a preallocated file need none.
 */
#include <stdio.h>

#include "base/util.h"
#include "storage/wal/wal_private.h"

rk_code
rk__wal_files_add(rk_wal *wal, wal_file *file, rk_err *err)
{
    if (wal->files_len == wal->files_cap) {
        size_t cap = wal->files_cap ? wal->files_cap * 2 : 16;
        wal_file **files =
            cap <= WAL_FILES_MAX ? rk_realloc(wal->files, cap * sizeof(wal_file *)) : NULL;
        if (!files) {
            return rk_fail(err, RK_ENOMEM, "log %s: no memory for a list of %zu files", wal->path,
                           cap);
        }
        wal->files = files;
        wal->files_cap = cap;
    }
    wal->files[wal->files_len++] = file;
    return RK_OK;
}

static rk_code
check_space(rk_wal *wal, uint64_t bytes, rk_err *err)
{
    uint64_t free_bytes = 0;

    RK_RET(wal->env.disk->free_bytes(wal->env.disk, wal->path, &free_bytes, err));
    if (free_bytes < bytes || free_bytes - bytes < wal->options.disk_reserve_bytes) {
        return rk_fail(err, RK_EDISK_FULL,
                       "log %s: needs a file of %llu bytes and %llu more must stay free, but the "
                       "disk has %llu",
                       wal->path, (unsigned long long)bytes,
                       (unsigned long long)wal->options.disk_reserve_bytes,
                       (unsigned long long)free_bytes);
    }
    return RK_OK;
}

/* Makes the file under the name `new.wal`: from the spare when there is one that fits. Its name is
 * taken from the spare first, so that a truncation can leave the next one meanwhile. |path| is
 * scratch. */
static rk_code
raw_file(rk_wal *wal, rk_file **out, char temp[WAL_PATH_MAX], char path[WAL_PATH_MAX],
         uint64_t bytes, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    bool spare = false;

    if (bytes == wal->options.segment_bytes) {
        rk_mutex_lock(&wal->lock);
        spare = wal->have_spare;
        wal->have_spare = false;
        rk_mutex_unlock(&wal->lock);
    }
    RK_RET(rk__wal_path(temp, wal->path, "new.wal", err));
    if (spare) {
        RK_RET(rk__wal_path(path, wal->path, "spare.wal", err));
        rk_code code = disk->rename(disk, path, temp, err);
        if (code == RK_OK) {
            return disk->open(disk, out, temp, RK_OPEN_WRITE, err);
        }
        if (code != RK_EKEY_NOT_FOUND) {
            return code;
        }
        rk_err_clear(err);
    }
    RK_RET(check_space(wal, bytes, err));
    RK_RET(disk->open(disk, out, temp, RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_TRUNCATE, err));
    return disk->allocate(disk, *out, bytes, err);
}

static rk_code
write_header(rk_wal *wal, rk_file *raw, wal_file *file, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    uint8_t page[WAL_PAGE] = {0};
    uint64_t salt = 0;

    wal->env.random->bytes(wal->env.random->self, &salt, sizeof(salt));
    rk__wal_file_encode(page, file, salt);
    RK_RET(disk->write(disk, raw, 0, page, sizeof(page), err));
    return disk->sync(disk, raw, err);
}

rk_code
rk__wal_roll(rk_wal *wal, uint64_t bytes, uint64_t first_lsn, bool *poison, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char temp[WAL_PATH_MAX] = "";
    char path[WAL_PATH_MAX];
    char name[32];
    rk_file *raw = NULL;
    rk_err ignored = {0};
    rk_code code = RK_OK;

    *poison = false;
    wal_file *file = rk_alloc_zero(1, sizeof(*file));
    if (!file) {
        return rk_fail(err, RK_ENOMEM, "log %s: no memory for a file", wal->path);
    }
    rk_mutex_lock(&wal->lock);
    uint64_t seq = wal->files_len ? wal->files[wal->files_len - 1]->seq + 1 : 1;
    rk_mutex_unlock(&wal->lock);
    *file = (wal_file){
        .seq = seq,
        .first_lsn = first_lsn,
        .epoch = wal->epoch,
        .bytes = bytes,
    };
    rk__wal_name(name, file->seq);
    code = RK_FAULT("wal.roll");
    if (code != RK_OK) {
        RK_ERR(rk_fail(err, code, "log %s: fault point wal.roll", wal->path));
    }
    RK_ERR(raw_file(wal, &raw, temp, path, bytes, err));
    RK_ERR(rk__wal_path(path, wal->path, name, err));
    RK_ERR(write_header(wal, raw, file, err));
    code = disk->rename(disk, temp, path, err);
    if (code == RK_OK) {
        temp[0] = '\0';
        *poison = true;
        code = disk->sync_dir(disk, wal->path, err);
    } else if (code != RK_EDISK_FULL) {
        *poison = true;
    }
    RK_ERR(code);
    rk_mutex_lock(&wal->lock);
    code = rk__wal_files_add(wal, file, err);
    if (code == RK_OK) {
        file = NULL;
        wal->end_offset = WAL_PAGE;
    }
    rk_mutex_unlock(&wal->lock);
    RK_ERR(code);
    *poison = false;
    if (wal->file) {
        disk->close(disk, wal->file);
    }
    wal->file = raw;
    raw = NULL;
out:
    if (raw) {
        disk->close(disk, raw);
    }
    if (temp[0]) {
        RK_KEEP(disk->remove(disk, temp, &ignored));
    }
    rk_free(file);
    return code;
}
