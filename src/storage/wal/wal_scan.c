/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking the records of one file: used to find the end at open, to verify at recovery, and by
 * readers.
 *
 * A record continues the log when its checksums are right (the header's starts from the file's
 * seed), its lsn is the next one, its epoch is not older than the record's before it, and it either
 * starts a later group or is the next of the same group. The last rule keeps out what a failed,
 * never acknowledged group left behind an end that was overwritten by a shorter one.
 *
 * Where the walk ends, two stories are possible: the tail of a group that was never synced (cut
 * it), or damage in the middle of records that were (refuse). A group is written only after the one
 * before it was synced. So a record header behind the end whose group begins above the missing lsn
 * proves that the missing one had been acknowledged: RK_ECORRUPT. A mark proves the same for all
 * before it, which is why open and close write one.
 */
#include "base/util.h"
#include "storage/wal/wal_private.h"

#define SCAN_CHUNK (256u << 10)

void
rk__wal_scan_init(wal_scan *scan, rk_disk *disk, rk_file *file, const char *path,
                  const wal_file *info)
{
    *scan = (wal_scan){
        .disk = disk,
        .file = file,
        .path = path,
        .info = *info,
        .limit = info->bytes,
        .offset = WAL_PAGE,
        .lsn = info->first_lsn,
    };
}

void
rk__wal_scan_deinit(wal_scan *scan)
{
    rk_free(scan->buf);
    scan->buf = NULL;
}

/* Makes bytes [at, at + len) available; the caller checked them against |limit|. */
static rk_code
scan_load(wal_scan *scan, uint64_t at, size_t len, const uint8_t **out, rk_err *err)
{
    if (at < scan->buf_at || at + len > scan->buf_at + scan->buf_len) {
        size_t want = (size_t)RK_MIN((uint64_t)RK_MAX(len, (size_t)SCAN_CHUNK), scan->limit - at);
        if (want > scan->buf_cap) {
            uint8_t *buf = rk_realloc(scan->buf, want);
            if (!buf) {
                return rk_fail(err, RK_ENOMEM, "%s: no memory to read %zu bytes at offset %llu",
                               scan->path, want, (unsigned long long)at);
            }
            scan->buf = buf;
            scan->buf_cap = want;
        }
        scan->buf_len = 0;
        RK_RET(scan->disk->read(scan->disk, scan->file, at, scan->buf, want, err));
        scan->buf_at = at;
        scan->buf_len = want;
    }
    *out = scan->buf + (at - scan->buf_at);
    return RK_OK;
}

/* True when a decoded header may stand at the walk's place. */
static bool
continues(const wal_scan *scan, const wal_record *record)
{
    if (record->lsn != scan->lsn || record->epoch < scan->epoch ||
        record->epoch < scan->info.epoch) {
        return false;
    }
    if (record->group_off == 0) {
        return record->epoch > scan->epoch || record->group > scan->group;
    }
    return record->epoch == scan->epoch && record->group == scan->group;
}

rk_code
rk__wal_scan_next(wal_scan *scan, wal_record *record, rk_str *payload, rk_err *err)
{
    const uint8_t *bytes = NULL;

    scan->marked = false;
    scan->torn = false;
    if (scan->offset > scan->limit || scan->limit - scan->offset < WAL_RECORD_LEN) {
        return RK_EEOF;
    }
    RK_RET(scan_load(scan, scan->offset, WAL_RECORD_LEN, &bytes, err));
    if (!rk__wal_record_decode(record, bytes, scan->info.seed) || !continues(scan, record)) {
        return RK_EEOF;
    }
    if (record->len == WAL_MARK) {
        scan->marked = true;
        return RK_EEOF;
    }
    if (scan->limit - scan->offset - WAL_RECORD_LEN < record->len) {
        return RK_EEOF;
    }
    RK_RET(scan_load(scan, scan->offset, WAL_RECORD_LEN + (size_t)record->len, &bytes, err));
    if (rk_crc32c(0, bytes + WAL_RECORD_LEN, record->len) != record->payload_crc) {
        scan->torn = true;
        return RK_EEOF;
    }
    *payload = (rk_str){(const char *)bytes + WAL_RECORD_LEN, record->len};
    scan->offset += rk__wal_record_bytes(record->len);
    scan->lsn++;
    scan->epoch = record->epoch;
    scan->group = record->group;
    return RK_OK;
}

rk_code
rk__wal_scan_check_end(wal_scan *scan, rk_err *err)
{
    const uint8_t *bytes = NULL;
    wal_record record;
    uint64_t lsn_max = scan->lsn + scan->info.bytes / WAL_RECORD_LEN + 1;

    if (scan->marked) {
        return RK_OK;
    }
    for (uint64_t at = scan->offset; at < scan->limit && scan->limit - at >= WAL_RECORD_LEN;
         at += 8) {
        RK_RET(scan_load(scan, at, WAL_RECORD_LEN, &bytes, err));
        uint64_t lsn = rk_get_u64le(bytes + 8); /* cheap tests first: most of this is zeros */
        if (lsn <= scan->lsn || lsn > lsn_max) {
            continue;
        }
        if (rk__wal_record_decode(&record, bytes, scan->info.seed) && record.epoch >= scan->epoch &&
            record.lsn - record.group_off > scan->lsn) {
            return rk_fail(err, RK_ECORRUPT,
                           "%s: record %llu at offset %llu is damaged; it had been synced, for "
                           "record %llu follows at offset %llu",
                           scan->path, (unsigned long long)scan->lsn,
                           (unsigned long long)scan->offset, (unsigned long long)record.lsn,
                           (unsigned long long)at);
        }
    }
    return RK_OK;
}
