/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local log's own types: what is on disk, and who owns what in memory. README.md has the
 * pictures.
 *
 * One appender at a time is the *leader*: it sets |writing|, takes queued records, and writes and
 * syncs them without the lock. The fields marked "leader" belong to whoever set |writing|: the
 * leader, rk_wal_recover() or rk_wal_close().
 */
#ifndef RK_STORAGE_WAL_PRIVATE_H
#define RK_STORAGE_WAL_PRIVATE_H

#include "base/thread.h"
#include "storage/wal/wal.h"

/* Ranks: low, for a callback of rk_wal_append() runs under wal.order and may take a worker's lock
 * above it. */
#define RK_RANK_WAL_TRUNCATE (RK_RANK_WORKER + 1)
#define RK_RANK_WAL_ORDER    (RK_RANK_WORKER + 2)

#define WAL_PATH_MAX     4096u
#define WAL_PAGE         4096u /* the file header fills one; records begin behind it */
#define WAL_HEADER_LEN   64u   /* of the file header, its checksum included */
#define WAL_RECORD_LEN   40u   /* of a record's header */
#define WAL_MARK         UINT32_MAX
#define WAL_EPOCH_SLOT   512u
#define WAL_STAGE_LEN    (128u << 10) /* small pieces are gathered here */
#define WAL_DIRECT_MIN   (16u << 10)  /* a part this large is written from where it lies */
#define WAL_GROUP_MAX    (64u << 20)  /* bytes of one group, unless one record is larger */
#define WAL_FILES_MAX    (1u << 20)
#define WAL_LOCK_WAIT_MS 10000
#define WAL_SEGMENT_MIN  (64u << 10)

/* A log file, as its header tells. */
typedef struct wal_file {
    uint64_t seq;       /* number of the file, no gaps; also its name */
    uint64_t first_lsn; /* of its first record, present or to come */
    uint64_t epoch;     /* in which it was made */
    uint64_t bytes;     /* its size on disk */
    uint32_t seed; /* checksum of the file header: where the checksum of each record starts from */
    uint32_t refs; /* readers that have it open; guarded by wal->lock */
    bool dying;    /* being removed; guarded by wal->lock */
} wal_file;

/* A record's header, decoded. */
typedef struct wal_record {
    uint32_t
        len; /* of the payload; WAL_MARK: not a record, but "everything before this was synced" */
    uint64_t lsn;
    uint64_t epoch;
    uint64_t group;     /* number of the write attempt, grows within an epoch */
    uint32_t group_off; /* lsn less the first lsn of the group */
    uint32_t payload_crc;
} wal_record;

/* Walks the records of one file. */
typedef struct wal_scan {
    rk_disk *disk;
    rk_file *file;    /* borrowed */
    const char *path; /* borrowed; for messages */
    wal_file info;
    uint64_t limit;  /* bytes past this are not looked at and not cached */
    uint64_t offset; /* of the next record */
    uint64_t lsn;    /* the next record must have */
    uint64_t epoch;  /* of the record before */
    uint64_t group;  /* of the record before */
    bool marked;     /* after RK_EEOF: ended at a mark */
    bool torn;       /* after RK_EEOF: ended at a good header with a bad payload */
    uint8_t *buf;    /* owned: bytes [buf_at, buf_at + buf_len) of the file */
    uint64_t buf_at;
    size_t buf_len;
    size_t buf_cap;
} wal_scan;

/* One append under way; lives on its caller's stack. */
typedef struct wal_slot {
    struct wal_slot *next;
    const rk_str *parts;
    size_t parts_len;
    uint32_t len; /* sum of the parts */
    uint32_t crc; /* of the parts, set before |ready| */
    uint64_t lsn;
    rk_cond wake; /* with wal->lock */
    bool ready;   /* the checksum is there: may be written */
    bool done;
    rk_code code;
    rk_err *err;
} wal_slot;

struct rk_wal {
    rk_env env;
    rk_wal_options options;
    char *path;          /* owned */
    uint64_t owner;      /* random; in the epoch file while we are the owner */
    int lock_fd;         /* exclusive flock around each group and each change of epoch */
    rk_file *epoch_file; /* owned */

    rk_mutex truncate_lock; /* one truncation at a time; held across its I/O */
    rk_mutex lock;          /* guards what follows */
    wal_file **files;       /* owned, oldest first, at least one once open */
    size_t files_len;
    size_t files_cap;
    uint64_t next_lsn;    /* the next append gets */
    uint64_t durable_lsn; /* records below are durable */
    uint64_t end_offset;  /* of the durable records in the last file */
    uint64_t epoch;       /* ours; changed by recover only */
    wal_slot *queue;      /* waiting appends, in lsn order */
    wal_slot **queue_tail;
    bool writing;  /* somebody is the leader */
    rk_cond idle;  /* |writing| became false */
    rk_code state; /* RK_OK, RK_EIO when poisoned, RK_EFENCED, RK_EUNAVAILABLE when closing */
    char state_text[512];
    bool have_spare; /* spare.wal lies in the folder */
    uint64_t appends_total;
    uint64_t syncs_total;

    /* leader */
    rk_file *file; /* owned: the last file, open for writing */
    uint64_t group;
    uint8_t *stage; /* owned */
    size_t stage_len;
    uint64_t write_at; /* file offset of the first staged byte */
};

/* ---- wal_format.c ---- */

void rk__wal_file_encode(uint8_t out[WAL_HEADER_LEN], wal_file *file,
                         uint64_t salt); /* sets seed */
RK_MUST_CHECK rk_code rk__wal_file_decode(wal_file *out, const uint8_t in[WAL_HEADER_LEN],
                                          const char *path, rk_err *err);
void rk__wal_record_encode(uint8_t out[WAL_RECORD_LEN], const wal_record *record, uint32_t seed);
bool rk__wal_record_decode(wal_record *out, const uint8_t in[WAL_RECORD_LEN], uint32_t seed);
/* Bytes a record of |len| payload bytes takes in the file. */
static inline uint64_t
rk__wal_record_bytes(uint32_t len)
{
    return (WAL_RECORD_LEN + (uint64_t)len + 7) & ~UINT64_C(7);
}
RK_MUST_CHECK rk_code rk__wal_path(char out[WAL_PATH_MAX], const char *folder, const char *name,
                                   rk_err *err);
void rk__wal_name(char out[32], uint64_t seq);

/* ---- wal_scan.c ---- */

void rk__wal_scan_init(wal_scan *scan, rk_disk *disk, rk_file *file, const char *path,
                       const wal_file *info);
void rk__wal_scan_deinit(wal_scan *scan);
/* The next record; |*payload| is borrowed until the next call. RK_EEOF: the next bytes are no
 * record that continues the log. */
RK_MUST_CHECK rk_code rk__wal_scan_next(wal_scan *scan, wal_record *record, rk_str *payload,
                                        rk_err *err);
/* After RK_EEOF: RK_ECORRUPT when something behind the end proves that more had been synced. */
RK_MUST_CHECK rk_code rk__wal_scan_check_end(wal_scan *scan, rk_err *err);

/* ---- wal_epoch.c ---- */

RK_MUST_CHECK rk_code rk__wal_lock(rk_wal *wal, bool wait_forever, rk_err *err);
void rk__wal_unlock(rk_wal *wal);
/* The epoch on disk; 0 when there is no epoch file yet. Leaves the file open in |wal|. */
RK_MUST_CHECK rk_code rk__wal_epoch_read(rk_wal *wal, uint64_t *out, uint64_t *owner, rk_err *err);
/* Makes |epoch| the one on disk, durably. Caller holds the folder's lock. */
RK_MUST_CHECK rk_code rk__wal_epoch_write(rk_wal *wal, uint64_t epoch, rk_err *err);
/* The epoch on disk; RK_EFENCED when its owner is not us any more. Caller holds the folder's lock.
 */
RK_MUST_CHECK rk_code rk__wal_epoch_check(rk_wal *wal, uint64_t *epoch, rk_err *err);

/* ---- wal_roll.c ---- */

/*
 * Makes the next file, |bytes| large (whole pages), and makes it the last one; |first_lsn| is its
 * first record's. Leader. On failure the log is as before; |*poison| is set when it is not known
 * whether the new file is there.
 */
RK_MUST_CHECK rk_code rk__wal_roll(rk_wal *wal, uint64_t bytes, uint64_t first_lsn, bool *poison,
                                   rk_err *err);
/* Adds |file| to the list and owns it. Caller holds wal->lock or is alone. */
RK_MUST_CHECK rk_code rk__wal_files_add(rk_wal *wal, wal_file *file, rk_err *err);

/* ---- wal_append.c ---- */

/* Writes a mark at the end of the log and syncs it. Leader. */
RK_MUST_CHECK rk_code rk__wal_mark(rk_wal *wal, rk_err *err);
/* Puts the log into |state|; the first reason is kept, except that RK_EFENCED replaces all. Caller
 * holds wal->lock. */
void rk__wal_set_state_locked(rk_wal *wal, rk_code state, const char *text);

#endif
