/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fencing: who may append is said by the file `epoch`, and looked at under an exclusive lock of the
 * folder.
 *
 *   offset 0    slot of even epochs   each slot: 0 8 magic "RKEPOCH1", 8 8 epoch, 16 8 owner,
 *   offset 512  slot of odd epochs    24 4 CRC32C of bytes 0..23; the valid slot with the higher
 * epoch counts
 *
 * The owner is a random number of the open log: it tells a takeover from a recovery of our own that
 * was cut short. A new owner writes the slot that does not hold the current epoch, so a torn write
 * loses nothing. Every group of appends takes the lock, reads the file and writes only when the
 * epoch is still its own: between a new owner's open and an old owner's next append there is no
 * gap. The lock file is opened directly, not through the disk seam: it holds no data.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/util.h"
#include "storage/wal/wal_private.h"

static const char slot_magic[8] = {'R', 'K', 'E', 'P', 'O', 'C', 'H', '1'};
#define SLOT_LEN 28u

rk_code
rk__wal_lock(rk_wal *wal, bool wait_forever, rk_err *err)
{
    int64_t waited_ms = 0;

    if (wal->lock_fd < 0) {
        char path[WAL_PATH_MAX];
        RK_RET(rk__wal_path(path, wal->path, "lock", err));
        wal->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (wal->lock_fd < 0) {
            return rk_fail(err, errno == ENOSPC || errno == EDQUOT ? RK_EDISK_FULL : RK_EIO,
                           "opening %s: %s", path, strerror(errno));
        }
    }
    while (flock(wal->lock_fd, wait_forever ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return rk_fail(err, RK_EIO, "locking log folder %s: %s", wal->path, strerror(errno));
        }
        if (waited_ms >= WAL_LOCK_WAIT_MS) {
            return rk_fail(err, RK_EBUSY, "log folder %s: another owner is writing for %d ms",
                           wal->path, WAL_LOCK_WAIT_MS);
        }
        usleep(10000);
        waited_ms += 10;
    }
    return RK_OK;
}

void
rk__wal_unlock(rk_wal *wal)
{
    if (wal->lock_fd >= 0) {
        flock(wal->lock_fd, LOCK_UN);
    }
}

/* The epoch in |slot|; 0 when it is not valid. */
static uint64_t
slot_decode(const uint8_t *slot, uint64_t *owner)
{
    if (memcmp(slot, slot_magic, sizeof(slot_magic)) != 0 ||
        rk_crc32c(0, slot, 24) != rk_get_u32le(slot + 24)) {
        return 0;
    }
    *owner = rk_get_u64le(slot + 16);
    return rk_get_u64le(slot + 8);
}

static void
slot_encode(uint8_t *slot, uint64_t epoch, uint64_t owner)
{
    memcpy(slot, slot_magic, sizeof(slot_magic));
    rk_put_u64le(slot + 8, epoch);
    rk_put_u64le(slot + 16, owner);
    rk_put_u32le(slot + 24, rk_crc32c(0, slot, 24));
}

rk_code
rk__wal_epoch_read(rk_wal *wal, uint64_t *out, uint64_t *owner, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char path[WAL_PATH_MAX];
    uint8_t slots[2 * WAL_EPOCH_SLOT];

    *out = 0;
    *owner = 0;
    if (!wal->epoch_file) {
        RK_RET(rk__wal_path(path, wal->path, "epoch", err));
        rk_code code = disk->open(disk, &wal->epoch_file, path, RK_OPEN_WRITE, err);
        if (code == RK_EKEY_NOT_FOUND) {
            rk_err_clear(err);
            return RK_OK;
        }
        RK_RET(code);
    }
    rk_code code = disk->read(disk, wal->epoch_file, 0, slots, sizeof(slots), err);
    if (code == RK_EEOF) {
        return rk_fail(err, RK_ECORRUPT, "%s/epoch: shorter than %zu bytes", wal->path,
                       sizeof(slots));
    }
    RK_RET(code);
    uint64_t owners[2] = {0, 0};
    uint64_t even = slot_decode(slots, &owners[0]);
    uint64_t odd = slot_decode(slots + WAL_EPOCH_SLOT, &owners[1]);
    *out = RK_MAX(even, odd);
    *owner = owners[odd > even];
    if (*out == 0 || *out >= UINT64_MAX - 1) {
        return rk_fail(err, RK_ECORRUPT, "%s/epoch: no valid slot at offsets 0 and %u", wal->path,
                       WAL_EPOCH_SLOT);
    }
    return RK_OK;
}

/* The first epoch file: whole under another name, then renamed. */
static rk_code
epoch_create(rk_wal *wal, uint64_t epoch, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    char temp[WAL_PATH_MAX];
    char path[WAL_PATH_MAX];
    uint8_t slots[2 * WAL_EPOCH_SLOT] = {0};
    rk_file *file = NULL;
    rk_code code = RK_OK;

    RK_RET(rk__wal_path(temp, wal->path, "epoch.new", err));
    RK_RET(rk__wal_path(path, wal->path, "epoch", err));
    slot_encode(slots + (epoch & 1) * WAL_EPOCH_SLOT, epoch, wal->owner);
    RK_RET(disk->open(disk, &file, temp, RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_TRUNCATE, err));
    RK_ERR(disk->write(disk, file, 0, slots, sizeof(slots), err));
    RK_ERR(disk->sync(disk, file, err));
    RK_ERR(disk->rename(disk, temp, path, err));
    RK_ERR(disk->sync_dir(disk, wal->path, err));
    wal->epoch_file = file;
    file = NULL;
out:
    if (file) {
        disk->close(disk, file);
    }
    return code;
}

rk_code
rk__wal_epoch_write(rk_wal *wal, uint64_t epoch, rk_err *err)
{
    rk_disk *disk = wal->env.disk;
    uint8_t slot[SLOT_LEN];

    if (!wal->epoch_file) {
        return epoch_create(wal, epoch, err);
    }
    slot_encode(slot, epoch, wal->owner);
    RK_RET(
        disk->write(disk, wal->epoch_file, (epoch & 1) * WAL_EPOCH_SLOT, slot, sizeof(slot), err));
    return disk->sync(disk, wal->epoch_file, err);
}

rk_code
rk__wal_epoch_check(rk_wal *wal, uint64_t *epoch, rk_err *err)
{
    uint64_t owner = 0;

    RK_RET(rk__wal_epoch_read(wal, epoch, &owner, err));
    if (owner != wal->owner) {
        return rk_fail(err, RK_EFENCED, "log %s: epoch %llu was taken over by epoch %llu",
                       wal->path, (unsigned long long)wal->epoch, (unsigned long long)*epoch);
    }
    return RK_OK;
}
