/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting records below an lsn: whole files, oldest first, each made durable before the next, so
 * that a crash never leaves a gap. One file is kept as `spare.wal` for the next roll; it must be of
 * the usual size and no reader may have it open.
 */
#include "base/util.h"
#include "storage/wal/wal_private.h"

/* The oldest file if all its records lie below |lsn|; marks it dying. */
static wal_file *
oldest_to_drop(rk_wal *wal, uint64_t lsn, bool *recycle)
{
    wal_file *file = NULL;

    rk_mutex_lock(&wal->lock);
    if (wal->files_len > 1 && wal->files[1]->first_lsn <= lsn) {
        file = wal->files[0];
        file->dying = true;
        *recycle = file->refs == 0 && !wal->have_spare && file->bytes == wal->options.segment_bytes;
    }
    rk_mutex_unlock(&wal->lock);
    return file;
}

static rk_code
drop_file(rk_wal *wal, const wal_file *file, bool *recycle, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char path[WAL_PATH_MAX];
    char spare[WAL_PATH_MAX];
    char name[32];

    rk__wal_name(name, file->seq);
    RK_RET(rk__wal_path(path, wal->path, name, err));
    RK_RET(rk__wal_path(spare, wal->path, "spare.wal", err));
    rk_code code = *recycle ? disk->rename(disk, path, spare, err) : disk->remove(disk, path, err);
    if (code == RK_EKEY_NOT_FOUND) { /* an earlier try got this far */
        rk_err_clear(err);
        *recycle = false;
        code = RK_OK;
    }
    RK_RET(code);
    return disk->sync_dir(disk, wal->path, err);
}

rk_code
rk_wal_truncate(rk_wal *wal, uint64_t lsn, rk_err *err)
{
    wal_file *file = NULL;
    bool recycle = false;
    rk_code code = RK_OK;

    rk_mutex_lock(&wal->truncate_lock);
    rk_mutex_lock(&wal->lock);
    if (lsn > wal->durable_lsn) {
        code =
            rk_fail(err, RK_EINVAL, "log %s: cannot truncate below record %llu, the next is %llu",
                    wal->path, (unsigned long long)lsn, (unsigned long long)wal->durable_lsn);
    } else if (wal->state == RK_EFENCED) {
        code = rk_fail(err, RK_EFENCED, "%s", wal->state_text);
    }
    rk_mutex_unlock(&wal->lock);
    while (code == RK_OK && (file = oldest_to_drop(wal, lsn, &recycle)) != NULL) {
        code = RK_FAULT("wal.truncate");
        if (code != RK_OK) {
            RK_ERR(rk_fail(err, code, "log %s: fault point wal.truncate", wal->path));
        }
        RK_ERR(drop_file(wal, file, &recycle, err));
        rk_mutex_lock(&wal->lock);
        wal->files_len--;
        memmove(wal->files, wal->files + 1, wal->files_len * sizeof(wal_file *));
        wal->have_spare = wal->have_spare || recycle;
        bool unused = file->refs == 0;
        rk_mutex_unlock(&wal->lock);
        if (unused) {
            rk_free(file);
        }
    }
out:
    rk_mutex_unlock(&wal->truncate_lock);
    return code;
}
