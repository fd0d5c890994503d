/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: records from an lsn on, up to what is durable at the time of each call, while appends go
 * on.
 *
 * A reader has one file open and remembers its entry in the list; the count |refs| there keeps a
 * truncation from recycling the file under it (it is unlinked instead, which an open file
 * survives). In the last file nothing past the durable end is looked at, so bytes a leader is
 * writing are never cached.
 */
#include "storage/wal/wal_private.h"

struct rk_wal_reader {
    rk_wal *wal;
    uint64_t lsn;      /* of the next record to hand out */
    wal_file *current; /* counted in refs; NULL before the first read */
    rk_file *file;     /* owned */
    wal_scan scan;
    char path[WAL_PATH_MAX];
};

/* The last file that begins at or below |lsn|. Empty files of the same first lsn: the last of them
 * has the record. */
static wal_file *
file_of_locked(rk_wal *wal, uint64_t lsn)
{
    size_t low = 0;
    size_t high = wal->files_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (wal->files[mid]->first_lsn <= lsn) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low == 0 || wal->files[low - 1]->dying ? NULL : wal->files[low - 1];
}

static uint64_t
first_lsn_locked(const rk_wal *wal)
{
    for (size_t i = 0; i < wal->files_len; i++) {
        if (!wal->files[i]->dying) {
            return wal->files[i]->first_lsn;
        }
    }
    return wal->durable_lsn;
}

static rk_code
gone(const rk_wal *wal, uint64_t lsn, uint64_t first_lsn, rk_err *err)
{
    return rk_fail(err, RK_EKEY_NOT_FOUND, "log %s: record %llu was truncated, the first is %llu",
                   wal->path, (unsigned long long)lsn, (unsigned long long)first_lsn);
}

rk_code
rk_wal_read_from(rk_wal_reader **out, rk_wal *wal, uint64_t lsn, rk_err *err)
{
    *out = NULL;
    rk_mutex_lock(&wal->lock);
    uint64_t first_lsn = first_lsn_locked(wal);
    uint64_t next_lsn = wal->next_lsn;
    rk_mutex_unlock(&wal->lock);
    if (lsn < first_lsn) {
        return gone(wal, lsn, first_lsn, err);
    }
    if (lsn > next_lsn) {
        return rk_fail(err, RK_EINVAL, "log %s: cannot read from record %llu, the next one is %llu",
                       wal->path, (unsigned long long)lsn, (unsigned long long)next_lsn);
    }
    rk_wal_reader *reader = rk_alloc_zero(1, sizeof(*reader));
    if (!reader) {
        return rk_fail(err, RK_ENOMEM, "log %s: no memory for a reader", wal->path);
    }
    reader->wal = wal;
    reader->lsn = lsn;
    *out = reader;
    return RK_OK;
}

static void
leave_file(rk_wal_reader *reader)
{
    rk_wal *wal = reader->wal;

    rk__wal_scan_deinit(&reader->scan);
    if (reader->file) {
        wal->env.disk->close(wal->env.disk, reader->file);
        reader->file = NULL;
    }
    if (reader->current) {
        rk_mutex_lock(&wal->lock);
        bool last_ref = --reader->current->refs == 0 && reader->current->dying;
        rk_mutex_unlock(&wal->lock);
        if (last_ref) {
            rk_free(reader->current); /* truncated away meanwhile: the entry was left to us */
        }
        reader->current = NULL;
    }
}

void
rk_wal_reader_close(rk_wal_reader *reader)
{
    if (reader) {
        leave_file(reader);
        rk_free(reader);
    }
}

/* Opens |reader->current|, which is counted already. */
static rk_code
enter_file(rk_wal_reader *reader, rk_err *err)
{
    rk_disk *disk = reader->wal->env.disk;
    char name[32];

    rk__wal_name(name, reader->current->seq);
    RK_RET(rk__wal_path(reader->path, reader->wal->path, name, err));
    RK_RET(disk->open(disk, &reader->file, reader->path, RK_OPEN_READ, err));
    rk__wal_scan_init(&reader->scan, disk, reader->file, reader->path, reader->current);
    return RK_OK;
}

/* Makes the file of the next record the current one, and says how far it may be read. */
static rk_code
find_file(rk_wal_reader *reader, uint64_t *limit, rk_err *err)
{
    rk_wal *wal = reader->wal;
    rk_code code = RK_OK;

    rk_mutex_lock(&wal->lock);
    wal_file *file = file_of_locked(wal, reader->lsn);
    if (reader->lsn >= wal->durable_lsn) {
        code = RK_EEOF;
    } else if (!file) {
        code = gone(wal, reader->lsn, first_lsn_locked(wal), err);
    } else {
        *limit = file == wal->files[wal->files_len - 1] ? wal->end_offset : file->bytes;
    }
    bool other = code == RK_OK && file != reader->current;
    if (other) {
        file->refs++;
    }
    rk_mutex_unlock(&wal->lock);
    RK_RET(code);
    if (other) {
        leave_file(reader);
        reader->current = file;
        code = enter_file(reader, err);
        if (code != RK_OK) {
            leave_file(reader);
        }
    }
    return code;
}

rk_code
rk_wal_read(rk_wal_reader *reader, uint64_t *lsn, rk_str *record, rk_err *err)
{
    uint64_t limit = 0;
    wal_record header;
    rk_code code = RK_OK;

    RK_RET(find_file(reader, &limit, err));
    reader->scan.limit = limit;
    do { /* more than once only after a jump into the middle of a file */
        code = rk__wal_scan_next(&reader->scan, &header, record, err);
    } while (code == RK_OK && header.lsn < reader->lsn);
    if (code == RK_EEOF) {
        return rk_fail(err, RK_ECORRUPT, "%s: record %llu at offset %llu is damaged", reader->path,
                       (unsigned long long)reader->scan.lsn,
                       (unsigned long long)reader->scan.offset);
    }
    RK_RET(code);
    *lsn = header.lsn;
    reader->lsn = header.lsn + 1;
    return RK_OK;
}
