/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending, with group commit.
 *
 * An append computes its checksum, takes the lock, gets its lsn and joins the queue. The first to
 * find nobody writing becomes the leader: it takes as many queued records as fit into the current
 * file, releases the lock, writes them, syncs once, and wakes their owners; the head of what queued
 * up meanwhile leads next. So a sync is shared by all who came during the last one, and a lone
 * appender pays no thread switch.
 *
 * Small pieces are gathered into one write; a large part is written from the caller's memory, so
 * megabytes are never copied.
 *
 * When a group fails:
 *   - before or while writing (a full disk, say): a mark is put where it began, so that no crash
 * brings half of it back, and the log goes on; when even that fails, as below;
 *   - in the sync: the kernel may have dropped the pages and will not say so again. The log is
 * poisoned. Either way every queued append fails too, for their lsns would leave a gap.
 */
#include <stdio.h>

#include "base/util.h"
#include "storage/wal/wal_private.h"

typedef struct wal_group {
    wal_slot *first;
    wal_slot *last;
    uint32_t len;        /* records */
    uint64_t bytes;      /* in the file */
    uint64_t roll_bytes; /* not 0: needs a new file of this size first */
} wal_group;

void
rk__wal_set_state_locked(rk_wal *wal, rk_code state, const char *text)
{
    rk_mutex_assert_held(&wal->lock);
    if (wal->state == RK_OK || (state == RK_EFENCED && wal->state != RK_EFENCED)) {
        wal->state = state;
        snprintf(wal->state_text, sizeof(wal->state_text), "%.500s", text);
    }
}

/* ---- writing: leader, without the lock ---- */

static rk_code
stage_flush(rk_wal *wal, rk_err *err)
{
    if (wal->stage_len == 0) {
        return RK_OK;
    }
    RK_RET(wal->env.disk->write(wal->env.disk, wal->file, wal->write_at, wal->stage, wal->stage_len,
                                err));
    wal->write_at += wal->stage_len;
    wal->stage_len = 0;
    return RK_OK;
}

static rk_code
stage_bytes(rk_wal *wal, const void *data, size_t len, rk_err *err)
{
    const uint8_t *from = data;

    if (len >= WAL_DIRECT_MIN) {
        RK_RET(stage_flush(wal, err));
        RK_RET(wal->env.disk->write(wal->env.disk, wal->file, wal->write_at, data, len, err));
        wal->write_at += len;
        return RK_OK;
    }
    if (wal->stage_len + len > WAL_STAGE_LEN) {
        RK_RET(stage_flush(wal, err));
    }
    if (len > 0) {
        memcpy(wal->stage + wal->stage_len, from, len);
        wal->stage_len += len;
    }
    return RK_OK;
}

static rk_code
write_record(rk_wal *wal, const wal_slot *slot, uint64_t group_lsn, uint32_t seed, rk_err *err)
{
    static const uint8_t zeros[8];
    uint8_t header[WAL_RECORD_LEN];
    wal_record record = {
        .len = slot->len,
        .lsn = slot->lsn,
        .epoch = wal->epoch,
        .group = wal->group,
        .group_off = (uint32_t)(slot->lsn - group_lsn),
        .payload_crc = slot->crc,
    };

    rk__wal_record_encode(header, &record, seed);
    RK_RET(stage_bytes(wal, header, sizeof(header), err));
    for (size_t i = 0; i < slot->parts_len; i++) {
        RK_RET(stage_bytes(wal, slot->parts[i].data, slot->parts[i].len, err));
    }
    uint64_t pad = rk__wal_record_bytes(slot->len) - WAL_RECORD_LEN - slot->len;
    return stage_bytes(wal, zeros, (size_t)pad, err);
}

static rk_code
fault(rk_wal *wal, const char *name, rk_code hit, rk_err *err)
{
    return hit == RK_OK ? RK_OK : rk_fail(err, hit, "log %s: fault point %s", wal->path, name);
}

rk_code
rk__wal_mark(rk_wal *wal, rk_err *err)
{
    uint8_t header[WAL_RECORD_LEN];

    rk_mutex_lock(&wal->lock);
    const wal_file last = *wal->files[wal->files_len - 1];
    uint64_t at = wal->end_offset;
    uint64_t lsn = wal->durable_lsn;
    rk_mutex_unlock(&wal->lock);
    if (at > last.bytes || last.bytes - at < WAL_RECORD_LEN) {
        return RK_OK; /* a full file needs none: the next file's first lsn says the same */
    }
    wal_record mark = {.len = WAL_MARK, .lsn = lsn, .epoch = wal->epoch, .group = ++wal->group};
    rk__wal_record_encode(header, &mark, last.seed);
    RK_RET(wal->env.disk->write(wal->env.disk, wal->file, at, header, sizeof(header), err));
    return wal->env.disk->sync(wal->env.disk, wal->file, err);
}

/* Sets |*wrote| before the first byte may have changed, |*poison| when the log cannot go on. */
static rk_code
write_group(rk_wal *wal, const wal_group *group, bool *wrote, bool *poison, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    uint64_t epoch = 0;

    RK_RET(rk__wal_epoch_check(wal, &epoch, err));
    if (group->roll_bytes) {
        RK_RET(rk__wal_roll(wal, group->roll_bytes, group->first->lsn, poison, err));
    }
    rk_mutex_lock(&wal->lock);
    uint32_t seed = wal->files[wal->files_len - 1]->seed;
    wal->write_at = wal->end_offset;
    rk_mutex_unlock(&wal->lock);
    wal->stage_len = 0;
    wal->group++;
    RK_RET(fault(wal, "wal.append.before_write", RK_FAULT("wal.append.before_write"), err));
    *wrote = true;
    const wal_slot *slot = group->first;
    for (uint32_t i = 0; i < group->len; i++, slot = slot->next) {
        RK_RET(write_record(wal, slot, group->first->lsn, seed, err));
    }
    RK_RET(stage_flush(wal, err));
    RK_RET(fault(wal, "wal.append.after_write", RK_FAULT("wal.append.after_write"), err));
    *poison = true;
    RK_RET(fault(wal, "wal.append.before_sync", RK_FAULT("wal.append.before_sync"), err));
    RK_RET(disk->sync(disk, wal->file, err));
    RK_RET(fault(wal, "wal.append.after_sync", RK_FAULT("wal.append.after_sync"), err));
    *poison = false;
    return RK_OK;
}

/* Under the folder's lock from the look at the epoch to the sync. */
static rk_code
write_group_fenced(rk_wal *wal, const wal_group *group, bool *poison, rk_err *err)
{
    bool wrote = false;
    rk_err mark_err = {0};

    RK_RET(rk__wal_lock(wal, true, err));
    rk_code code = write_group(wal, group, &wrote, poison, err);
    if (code != RK_OK && wrote && !*poison) {
        *poison = rk__wal_mark(wal, &mark_err) != RK_OK;
    }
    rk__wal_unlock(wal);
    return code;
}

/* ---- the queue: under the lock ---- */

static void
take_group_locked(rk_wal *wal, wal_group *group)
{
    uint64_t room = wal->files[wal->files_len - 1]->bytes - wal->end_offset;

    *group = (wal_group){.first = wal->queue};
    uint64_t first_bytes = rk__wal_record_bytes(wal->queue->len);
    if (first_bytes > room) {
        uint64_t need = (WAL_PAGE + first_bytes + WAL_PAGE - 1) / WAL_PAGE * WAL_PAGE;
        group->roll_bytes = RK_MAX(need, wal->options.segment_bytes);
        room = group->roll_bytes - WAL_PAGE;
    }
    room = RK_MIN(room, RK_MAX(first_bytes, (uint64_t)WAL_GROUP_MAX));
    for (wal_slot *slot = wal->queue; slot; slot = slot->next) {
        uint64_t bytes = rk__wal_record_bytes(slot->len);
        if (!slot->ready || group->bytes + bytes > room) {
            break;
        }
        group->bytes += bytes;
        group->len++;
        group->last = slot;
    }
    wal->queue = group->last->next;
    if (!wal->queue) {
        wal->queue_tail = &wal->queue;
    }
}

static void
slot_finish_locked(wal_slot *slot, rk_code code, const rk_err *cause)
{
    slot->code = code;
    if (code != RK_OK) {
        rk_fail(slot->err, code, "%s", cause->text);
    }
    slot->done = true;
    rk_cond_signal(&slot->wake); /* last: the slot is its owner's from when the lock is dropped */
}

static void
fail_queue_locked(rk_wal *wal, rk_code code, const rk_err *cause)
{
    wal_slot *slot = wal->queue;
    while (slot) {
        wal_slot *next = slot->next;
        slot_finish_locked(slot, code, cause);
        slot = next;
    }
    wal->queue = NULL;
    wal->queue_tail = &wal->queue;
    wal->next_lsn = wal->durable_lsn;
}

static void
finish_group_locked(rk_wal *wal, const wal_group *group, rk_code code, bool poison,
                    const rk_err *cause)
{
    if (code == RK_OK) {
        wal->end_offset += group->bytes;
        wal->durable_lsn += group->len;
        wal->appends_total += group->len;
        wal->syncs_total++;
    } else if (code == RK_EFENCED || poison) {
        rk__wal_set_state_locked(wal, code == RK_EFENCED ? RK_EFENCED : RK_EIO, cause->text);
    }
    rk_code shown = code != RK_OK && poison ? RK_EIO : code;
    wal_slot *slot = group->first;
    for (uint32_t i = 0; i < group->len; i++) {
        wal_slot *next = slot->next;
        slot_finish_locked(slot, shown, cause);
        slot = next;
    }
    if (code != RK_OK) {
        fail_queue_locked(wal, shown, cause);
    }
}

static void
lead_locked(rk_wal *wal)
{
    wal_group group;
    rk_err cause = {0};
    bool poison = false;

    take_group_locked(wal, &group);
    wal->writing = true;
    rk_mutex_unlock(&wal->lock);
    rk_code code = write_group_fenced(wal, &group, &poison, &cause);
    rk_mutex_lock(&wal->lock);
    wal->writing = false;
    finish_group_locked(wal, &group, code, poison, &cause);
    if (wal->queue) {
        rk_cond_signal(&wal->queue->wake); /* leads next */
    }
    rk_cond_broadcast(&wal->idle);
}

static rk_code
check_state_locked(rk_wal *wal, rk_err *err)
{
    return wal->state == RK_OK ? RK_OK : rk_fail(err, wal->state, "%s", wal->state_text);
}

static rk_code
slot_init(wal_slot *slot, const rk_str *parts, size_t parts_len, rk_err *err)
{
    size_t len = 0;

    for (size_t i = 0; i < parts_len; i++) {
        if (!rk_add_ok(&len, len, parts[i].len) || len > RK_WAL_RECORD_MAX) {
            return rk_fail(err, RK_ETOO_LARGE, "log record: larger than %u bytes",
                           RK_WAL_RECORD_MAX);
        }
    }
    *slot = (wal_slot){.parts = parts, .parts_len = parts_len, .len = (uint32_t)len, .err = err};
    return RK_OK;
}

static void
slot_checksum(wal_slot *slot)
{
    for (size_t i = 0; i < slot->parts_len; i++) {
        slot->crc = rk_crc32c(slot->crc, slot->parts[i].data, slot->parts[i].len);
    }
}

rk_code
rk_wal_append(rk_wal *wal, const rk_str *parts, size_t parts_len,
              void (*on_order)(void *user, uint64_t lsn), void *user, uint64_t *lsn, rk_err *err)
{
    wal_slot slot;

    RK_RET(slot_init(&slot, parts, parts_len, err));
    rk_mutex_lock(&wal->lock);
    rk_code code = check_state_locked(wal, err);
    if (code != RK_OK) {
        rk_mutex_unlock(&wal->lock);
        return code;
    }
    rk_cond_init(&slot.wake);
    slot.lsn = wal->next_lsn++;
    *wal->queue_tail = &slot;
    wal->queue_tail = &slot.next;
    if (on_order) {
        on_order(user, slot.lsn);
    }
    rk_mutex_unlock(&wal->lock);
    slot_checksum(&slot); /* after the callback, which may fill in bytes */
    rk_mutex_lock(&wal->lock);
    slot.ready = true;
    while (!slot.done) {
        if (!wal->writing && wal->queue == &slot) {
            lead_locked(wal);
        } else {
            rk_cond_wait(&slot.wake, &wal->lock);
        }
    }
    rk_mutex_unlock(&wal->lock);
    rk_cond_deinit(&slot.wake);
    if (lsn && slot.code == RK_OK) {
        *lsn = slot.lsn;
    }
    return slot.code;
}
