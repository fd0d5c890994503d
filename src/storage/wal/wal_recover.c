/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving the poisoned state, and the log's own view of its health.
 *
 * After a failed sync nothing is known about the pages written since the last good one, and the
 * file that failed is never synced again. Recovery takes a new epoch, re-opens the last file and
 * walks it: every acknowledged record must be there. Then it makes a new file that begins at the
 * first lsn never acknowledged. What the failed group left in the old file lies above that lsn, and
 * a successor's first lsn ends a file, so it is cut without writing a byte to the bad file.
 */
#include <stdio.h>

#include "base/log.h"
#include "storage/wal/wal_private.h"

static rk_wal *
unconst(const rk_wal *wal)
{
    return (rk_wal *)(uintptr_t)wal; /* the lock is not part of what a caller sees as constant */
}

rk_code
rk_wal_health(const rk_wal *wal, rk_err *err)
{
    rk_wal *w = unconst(wal);

    rk_mutex_lock(&w->lock);
    rk_code code = w->state == RK_OK ? RK_OK : rk_fail(err, w->state, "%s", w->state_text);
    rk_mutex_unlock(&w->lock);
    return code;
}

uint64_t
rk_wal_next_lsn(const rk_wal *wal)
{
    rk_wal *w = unconst(wal);

    rk_mutex_lock(&w->lock);
    uint64_t lsn = w->next_lsn;
    rk_mutex_unlock(&w->lock);
    return lsn;
}

uint64_t
rk_wal_epoch(const rk_wal *wal)
{
    rk_wal *w = unconst(wal);

    rk_mutex_lock(&w->lock);
    uint64_t epoch = w->epoch;
    rk_mutex_unlock(&w->lock);
    return epoch;
}

void
rk_wal_stats_get(const rk_wal *wal, rk_wal_stats *out)
{
    rk_wal *w = unconst(wal);

    rk_mutex_lock(&w->lock);
    *out = (rk_wal_stats){
        .first_lsn = w->files[0]->first_lsn,
        .next_lsn = w->next_lsn,
        .bytes_on_disk = w->have_spare ? w->options.segment_bytes : 0,
        .appends_total = w->appends_total,
        .syncs_total = w->syncs_total,
    };
    for (size_t i = 0; i < w->files_len; i++) {
        out->bytes_on_disk += w->files[i]->bytes;
    }
    rk_mutex_unlock(&w->lock);
}

/* Every acknowledged record of the last file must be readable. */
static rk_code
verify_last(rk_wal *wal, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char path[WAL_PATH_MAX];
    char name[32];
    rk_file *raw = NULL;
    wal_scan scan;
    wal_record record;
    rk_str payload;

    rk_mutex_lock(&wal->lock);
    const wal_file last = *wal->files[wal->files_len - 1];
    uint64_t end = wal->end_offset;
    uint64_t lsn = wal->durable_lsn;
    rk_mutex_unlock(&wal->lock);
    rk__wal_name(name, last.seq);
    RK_RET(rk__wal_path(path, wal->path, name, err));
    RK_RET(disk->open(disk, &raw, path, RK_OPEN_READ, err));
    rk__wal_scan_init(&scan, disk, raw, path, &last);
    scan.limit = end;
    rk_code code = RK_OK;
    while (code == RK_OK && scan.lsn < lsn) {
        code = rk__wal_scan_next(&scan, &record, &payload, err);
    }
    if (code == RK_EEOF) {
        code = rk_fail(err, RK_ECORRUPT, "%s: acknowledged record %llu at offset %llu is damaged",
                       path, (unsigned long long)scan.lsn, (unsigned long long)scan.offset);
    }
    rk__wal_scan_deinit(&scan);
    disk->close(disk, raw);
    return code;
}

static rk_code
recover(rk_wal *wal, rk_err *err)
{
    bool poison = false;
    uint64_t epoch = 0;

    RK_RET(rk__wal_epoch_check(wal, &epoch, err));
    RK_RET(verify_last(wal, err));
    /* A file that fails to sync the new epoch must not be believed to hold the old one: re-open it.
     */
    epoch = RK_MAX(epoch, wal->epoch) + 1;
    rk_code code = rk__wal_epoch_write(wal, epoch, err);
    if (code != RK_OK) {
        wal->env.disk->close(wal->env.disk, wal->epoch_file);
        wal->epoch_file = NULL;
        return code;
    }
    rk_mutex_lock(&wal->lock);
    wal->epoch = epoch;
    uint64_t lsn = wal->durable_lsn;
    rk_mutex_unlock(&wal->lock);
    return rk__wal_roll(wal, wal->options.segment_bytes, lsn, &poison, err);
}

rk_code
rk_wal_recover(rk_wal *wal, rk_err *err)
{
    rk_mutex_lock(&wal->lock);
    while (wal->writing) {
        rk_cond_wait(&wal->idle, &wal->lock);
    }
    if (wal->state != RK_EIO) {
        rk_code state =
            wal->state == RK_OK ? RK_OK : rk_fail(err, wal->state, "%s", wal->state_text);
        rk_mutex_unlock(&wal->lock);
        return state;
    }
    wal->writing = true;
    rk_mutex_unlock(&wal->lock);

    rk_code code = rk__wal_lock(wal, true, err);
    if (code == RK_OK) {
        code = recover(wal, err);
        rk__wal_unlock(wal);
    }

    rk_mutex_lock(&wal->lock);
    wal->writing = false;
    if (code == RK_OK) {
        wal->state = RK_OK;
        wal->state_text[0] = '\0';
    } else if (code == RK_EFENCED) {
        rk__wal_set_state_locked(wal, RK_EFENCED, err ? err->text : "the log was taken over");
    }
    rk_cond_broadcast(&wal->idle);
    rk_mutex_unlock(&wal->lock);
    if (code == RK_OK) {
        RK_LOG_I("wal", "recovered: path=%s epoch=%llu next_lsn=%llu", wal->path,
                 (unsigned long long)wal->epoch, (unsigned long long)wal->durable_lsn);
    }
    return code;
}
