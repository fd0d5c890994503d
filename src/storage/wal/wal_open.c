/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a log: list the files, take the next epoch, find the end.
 *
 * Only the last file is walked. The others were complete before their successor was made, so their
 * last lsn is known from it; readers check their records one by one. What must hold, else
 * RK_ECORRUPT: file numbers without a gap, first lsns that do not fall, sizes as the headers say,
 * an epoch file when there are records and records' files when there is an epoch file. A folder
 * that cannot be read is an error, never an empty log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "storage/wal/wal_private.h"

void
rk_wal_options_init(rk_wal_options *options)
{
    *options = (rk_wal_options){
        .segment_bytes = UINT64_C(64) << 20,
        .disk_reserve_bytes = UINT64_C(64) << 20,
    };
}

static void
wal_free(rk_wal *wal)
{
    if (!wal) {
        return;
    }
    if (wal->file) {
        wal->env.disk->close(wal->env.disk, wal->file);
    }
    if (wal->epoch_file) {
        wal->env.disk->close(wal->env.disk, wal->epoch_file);
    }
    if (wal->lock_fd >= 0) {
        close(wal->lock_fd);
    }
    for (size_t i = 0; i < wal->files_len; i++) {
        rk_free(wal->files[i]);
    }
    rk_free(wal->files);
    rk_free(wal->stage);
    rk_free(wal->path);
    rk_cond_deinit(&wal->idle);
    rk_mutex_deinit(&wal->lock);
    rk_mutex_deinit(&wal->truncate_lock);
    rk_free(wal);
}

static rk_code
wal_new(rk_wal **out, const char *path, const rk_wal_options *options, const rk_env *env,
        rk_err *err)
{
    rk_wal *wal = rk_alloc_zero(1, sizeof(*wal));
    if (!wal) {
        return rk_fail(err, RK_ENOMEM, "log %s: no memory", path);
    }
    wal->env = *env;
    if (options) {
        wal->options = *options;
    } else {
        rk_wal_options_init(&wal->options);
    }
    wal->options.segment_bytes = RK_MAX(wal->options.segment_bytes, (uint64_t)WAL_SEGMENT_MIN);
    wal->options.segment_bytes =
        RK_MIN(wal->options.segment_bytes, UINT64_C(1) << 40) / WAL_PAGE * WAL_PAGE;
    wal->lock_fd = -1;
    env->random->bytes(env->random->self, &wal->owner, sizeof(wal->owner));
    wal->queue_tail = &wal->queue;
    rk_mutex_init(&wal->truncate_lock, "wal.truncate", RK_RANK_WAL_TRUNCATE);
    rk_mutex_init(&wal->lock, "wal.order", RK_RANK_WAL_ORDER);
    rk_cond_init(&wal->idle);
    wal->path = rk_strdup(rk_str_from(path));
    wal->stage = rk_alloc(WAL_STAGE_LEN);
    if (!wal->path || !wal->stage) {
        wal_free(wal);
        return rk_fail(err, RK_ENOMEM, "log %s: no memory", path);
    }
    *out = wal;
    return RK_OK;
}

/* ---- the files ---- */

static bool
parse_name(const char *name, uint64_t *seq)
{
    uint64_t value = 0;

    if (strlen(name) != 20 || strcmp(name + 16, ".wal") != 0) {
        return false;
    }
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *seq = value;
    return value != 0;
}

static rk_code
header_read(rk_wal *wal, wal_file *file, uint64_t seq, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char path[WAL_PATH_MAX];
    char name[32];
    uint8_t header[WAL_HEADER_LEN];
    uint64_t size = 0;
    rk_file *raw = NULL;
    rk_code code = RK_OK;

    rk__wal_name(name, seq);
    RK_RET(rk__wal_path(path, wal->path, name, err));
    RK_RET(disk->open(disk, &raw, path, RK_OPEN_READ, err));
    RK_ERR(disk->size(disk, raw, &size, err));
    if (size < WAL_PAGE) {
        RK_ERR(rk_fail(err, RK_ECORRUPT, "%s: cut to %llu bytes, shorter than its header", path,
                       (unsigned long long)size));
    }
    RK_ERR(disk->read(disk, raw, 0, header, sizeof(header), err));
    RK_ERR(rk__wal_file_decode(file, header, path, err));
    if (file->seq != seq) {
        RK_ERR(rk_fail(err, RK_ECORRUPT, "%s: holds the header of file %llu", path,
                       (unsigned long long)file->seq));
    }
    if (size != file->bytes) {
        RK_ERR(rk_fail(err, RK_ECORRUPT, "%s: has %llu bytes, its header says %llu", path,
                       (unsigned long long)size, (unsigned long long)file->bytes));
    }
out:
    disk->close(disk, raw);
    return code;
}

typedef struct list_state {
    rk_wal *wal;
    rk_err *err;
    bool spare;
} list_state;

static rk_code
list_each(void *user, const char *name, bool is_dir)
{
    list_state *ls = user;
    uint64_t seq = 0;

    ls->spare = ls->spare || (!is_dir && strcmp(name, "spare.wal") == 0);
    if (is_dir || !parse_name(name, &seq)) {
        return RK_OK;
    }
    wal_file *file = rk_alloc_zero(1, sizeof(*file));
    if (!file) {
        return rk_fail(ls->err, RK_ENOMEM, "log %s: no memory", ls->wal->path);
    }
    rk_code code = header_read(ls->wal, file, seq, ls->err);
    if (code == RK_OK) {
        code = rk__wal_files_add(ls->wal, file, ls->err);
    }
    if (code != RK_OK) {
        rk_free(file);
    }
    return code;
}

static int
compare_files(const void *a, const void *b)
{
    const wal_file *x = *(wal_file *const *)a;
    const wal_file *y = *(wal_file *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static rk_code
files_check(rk_wal *wal, rk_err *err)
{
    for (size_t i = 1; i < wal->files_len; i++) {
        const wal_file *a = wal->files[i - 1];
        const wal_file *b = wal->files[i];
        if (b->seq != a->seq + 1) {
            return rk_fail(err, RK_ECORRUPT, "log %s: file %016llx.wal is missing", wal->path,
                           (unsigned long long)a->seq + 1);
        }
        if (b->first_lsn < a->first_lsn || b->epoch < a->epoch) {
            return rk_fail(err, RK_ECORRUPT,
                           "log %s: file %016llx.wal begins at record %llu, before its predecessor",
                           wal->path, (unsigned long long)b->seq, (unsigned long long)b->first_lsn);
        }
    }
    return RK_OK;
}

/* A spare of another size is of no use; a half-made file is left from a crash. */
static rk_code
leftovers_check(rk_wal *wal, bool spare, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char path[WAL_PATH_MAX];
    uint64_t size = 0;
    rk_file *raw = NULL;

    RK_RET(rk__wal_path(path, wal->path, "new.wal", err));
    rk_code code = disk->remove(disk, path, err);
    if (code != RK_OK && code != RK_EKEY_NOT_FOUND) {
        return code;
    }
    rk_err_clear(err);
    if (!spare) {
        return RK_OK;
    }
    RK_RET(rk__wal_path(path, wal->path, "spare.wal", err));
    RK_RET(disk->open(disk, &raw, path, RK_OPEN_READ, err));
    code = disk->size(disk, raw, &size, err);
    disk->close(disk, raw);
    RK_RET(code);
    wal->have_spare = size == wal->options.segment_bytes;
    return wal->have_spare ? RK_OK : disk->remove(disk, path, err);
}

static rk_code
files_open(rk_wal *wal, rk_err *err)
{
    list_state ls = {.wal = wal, .err = err};

    RK_RET(wal->env.disk->list(wal->env.disk, wal->path, list_each, &ls, err));
    if (wal->files_len > 1) {
        qsort(wal->files, wal->files_len, sizeof(wal_file *), compare_files);
    }
    RK_RET(files_check(wal, err));
    return leftovers_check(wal, ls.spare, err);
}

/* ---- the end ---- */

static rk_code
find_end(rk_wal *wal, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    const wal_file *last = wal->files[wal->files_len - 1];
    char path[WAL_PATH_MAX];
    char name[32];
    wal_scan scan;
    wal_record record;
    rk_str payload;
    rk_code code = RK_OK;

    rk__wal_name(name, last->seq);
    RK_RET(rk__wal_path(path, wal->path, name, err));
    RK_RET(disk->open(disk, &wal->file, path, RK_OPEN_WRITE, err));
    rk__wal_scan_init(&scan, disk, wal->file, path, last);
    do {
        code = rk__wal_scan_next(&scan, &record, &payload, err);
    } while (code == RK_OK);
    if (code != RK_EEOF) {
        goto out;
    }
    rk_err_clear(err);
    RK_ERR(rk__wal_scan_check_end(&scan, err));
    if (scan.epoch >= wal->epoch) {
        RK_ERR(rk_fail(err, RK_ECORRUPT, "%s: has records of epoch %llu, the epoch file says %llu",
                       path, (unsigned long long)scan.epoch, (unsigned long long)wal->epoch - 1));
    }
    if (scan.torn) {
        RK_LOG_W("wal", "tail cut: file=%s offset=%llu lsn=%llu was torn, never acknowledged", path,
                 (unsigned long long)scan.offset, (unsigned long long)scan.lsn);
    }
    wal->next_lsn = scan.lsn;
    wal->durable_lsn = scan.lsn;
    wal->end_offset = scan.offset;
out:
    rk__wal_scan_deinit(&scan);
    return code;
}

/* Nothing there: the first file, then the epoch file, so that a crash between the two is seen for
 * what it is. */
static rk_code
first_start(rk_wal *wal, rk_err *err)
{
    bool poison = false;

    wal->epoch = 1;
    RK_RET(rk__wal_roll(wal, wal->options.segment_bytes, 1, &poison, err));
    wal->next_lsn = 1;
    wal->durable_lsn = 1;
    return rk__wal_epoch_write(wal, 1, err);
}

static rk_code
take_over(rk_wal *wal, uint64_t epoch, rk_err *err)
{
    uint64_t file_epoch = wal->files[wal->files_len - 1]->epoch;

    if (epoch == 0) { /* a crash during the first start, if there are no records */
        wal->epoch = file_epoch + 1;
        RK_RET(find_end(wal, err));
        if (wal->next_lsn != 1 || wal->files_len != 1) {
            return rk_fail(err, RK_ECORRUPT, "log %s: has records, but the file epoch is missing",
                           wal->path);
        }
        RK_RET(rk__wal_epoch_write(wal, wal->epoch, err));
        return rk__wal_mark(wal, err);
    }
    if (file_epoch > epoch) {
        return rk_fail(err, RK_ECORRUPT,
                       "log %s: a file of epoch %llu, but the file epoch says %llu", wal->path,
                       (unsigned long long)file_epoch, (unsigned long long)epoch);
    }
    wal->epoch = epoch + 1;
    RK_RET(rk__wal_epoch_write(wal, wal->epoch, err));
    RK_RET(find_end(wal, err));
    return rk__wal_mark(wal, err);
}

/* The folder's own entry must survive too. */
static rk_code
folder_make(rk_wal *wal, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char parent[WAL_PATH_MAX];

    RK_RET(disk->mkdirs(disk, wal->path, err));
    snprintf(parent, sizeof(parent), "%s", wal->path);
    size_t len = strlen(parent);
    while (len > 1 && parent[len - 1] == '/') {
        parent[--len] = '\0';
    }
    char *slash = strrchr(parent, '/');
    if (!slash) {
        snprintf(parent, sizeof(parent), ".");
    } else if (slash == parent) {
        parent[1] = '\0';
    } else {
        *slash = '\0';
    }
    return disk->sync_dir(disk, parent, err);
}

rk_code
rk_wal_open_local(rk_wal **out, const char *path, const rk_wal_options *options, const rk_env *env,
                  rk_err *err)
{
    rk_wal *wal = NULL;
    uint64_t epoch = 0;
    uint64_t owner = 0;
    bool locked = false;
    rk_code code = RK_OK;

    *out = NULL;
    if (!path || !*path || strlen(path) > WAL_PATH_MAX - 32) {
        return rk_fail(err, RK_EINVAL, "log folder: the path must have 1 to %u bytes",
                       WAL_PATH_MAX - 32);
    }
    RK_ERR(wal_new(&wal, path, options, env, err));
    RK_ERR(folder_make(wal, err));
    RK_ERR(rk__wal_lock(wal, false, err));
    locked = true;
    RK_ERR(files_open(wal, err));
    RK_ERR(rk__wal_epoch_read(wal, &epoch, &owner, err));
    if (wal->files_len == 0 && epoch != 0) {
        RK_ERR(rk_fail(err, RK_ECORRUPT,
                       "log %s: the file epoch says %llu, but the log files are missing", path,
                       (unsigned long long)epoch));
    }
    RK_ERR(wal->files_len == 0 ? first_start(wal, err) : take_over(wal, epoch, err));
    RK_LOG_I("wal", "opened: path=%s epoch=%llu first_lsn=%llu next_lsn=%llu files=%zu", path,
             (unsigned long long)wal->epoch, (unsigned long long)wal->files[0]->first_lsn,
             (unsigned long long)wal->next_lsn, wal->files_len);
    *out = wal;
out:
    if (locked) {
        rk__wal_unlock(wal);
    }
    if (!*out) {
        wal_free(wal);
    }
    return code;
}

void
rk_wal_close(rk_wal *wal)
{
    uint64_t epoch = 0;
    rk_err err = {0};

    if (!wal) {
        return;
    }
    rk_mutex_lock(&wal->lock);
    while (wal->writing || wal->queue) {
        rk_cond_wait(&wal->idle, &wal->lock);
    }
    bool mark = wal->state == RK_OK;
    rk__wal_set_state_locked(wal, RK_EUNAVAILABLE, "the log is closed");
    wal->writing = true;
    rk_mutex_unlock(&wal->lock);
    /* The mark lets the next open tell damage of the last records from a torn tail. It is a
     * service, not a duty. */
    if (mark && rk__wal_lock(wal, true, &err) == RK_OK) {
        if (rk__wal_epoch_check(wal, &epoch, &err) != RK_OK || rk__wal_mark(wal, &err) != RK_OK) {
            RK_LOG_W("wal", "closed without a mark: path=%s error=%s", wal->path, err.text);
        }
        rk__wal_unlock(wal);
    }
    wal_free(wal);
}
