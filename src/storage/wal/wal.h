/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write-ahead log: one ordered sequence of records, durable when append returns.
 *
 * A position (lsn) is the record's number: 1 for the first, no gaps. Concurrent appends share one
 * sync (group commit). Opening for writing takes the next epoch; an owner with an older epoch can
 * never append again (RK_EFENCED). After a failed sync the log is poisoned: the appends of that
 * group fail, and later ones are refused with RK_EIO until rk_wal_recover() has re-opened the tail
 * and found what is really on disk. A full disk fails appends with RK_EDISK_FULL and heals by
 * itself when space returns.
 *
 * The backend here is `woodpecker`, local: preallocated segment files, CRC32C per record, see
 * wal/README.md for the bytes. A torn tail after a crash is cut; damage before the tail is
 * RK_ECORRUPT naming file and offset.
 *
 * Threads: append, truncate and stats from any thread; each reader by one thread at a time.
 */
#ifndef RK_STORAGE_WAL_H
#define RK_STORAGE_WAL_H

#include "base/mem.h"
#include "base/seam.h"

#define RK_WAL_RECORD_MAX (512u << 20)

typedef struct rk_wal rk_wal;
typedef struct rk_wal_reader rk_wal_reader;

typedef struct rk_wal_options {
    uint64_t segment_bytes; /* preallocated file size, default 64 MiB; a larger record gets a file
                               of its own */
    uint64_t disk_reserve_bytes; /* appends are refused when less than this would stay free, default
                                    64 MiB */
} rk_wal_options;

void rk_wal_options_init(rk_wal_options *options);
/* Opens (creates) the log in folder |path| for appending: takes a new epoch and finds the end. */
RK_MUST_CHECK rk_code rk_wal_open_local(rk_wal **out, const char *path,
                                        const rk_wal_options *options, const rk_env *env,
                                        rk_err *err);
void rk_wal_close(rk_wal *wal);

/*
 * Appends one record of |parts| concatenated; returns when it is durable. |on_order|, when given,
 * is called with the record's lsn under the log's ordering lock, so calls happen in lsn order,
 * before the record is written: it may take a ticket and fill in bytes of |parts| (a timestamp that
 * must follow the order of the log; lengths stay as they are), nothing more. That lock ranks
 * RK_RANK_WORKER + 2: the callback may take locks that rank above it, and the caller holds none
 * that does. When the append fails, its lsn is given to another record later: take the ticket back.
 * RK_EFENCED, RK_EIO, RK_EDISK_FULL: the record is not in the log and never will be (a poisoned
 * tail is overwritten by recovery).
 */
RK_MUST_CHECK rk_code rk_wal_append(rk_wal *wal, const rk_str *parts, size_t parts_len,
                                    void (*on_order)(void *user, uint64_t lsn), void *user,
                                    uint64_t *lsn, rk_err *err);
uint64_t rk_wal_next_lsn(const rk_wal *wal);
uint64_t rk_wal_epoch(const rk_wal *wal);
/* RK_OK while appends are accepted, else why not. */
rk_code rk_wal_health(const rk_wal *wal, rk_err *err);
/* Tries to leave the poisoned state: re-reads the tail, cuts what was never acknowledged, syncs. */
RK_MUST_CHECK rk_code rk_wal_recover(rk_wal *wal, rk_err *err);

/* Records from |lsn| on, in order. RK_EKEY_NOT_FOUND when |lsn| was truncated away. */
RK_MUST_CHECK rk_code rk_wal_read_from(rk_wal_reader **out, rk_wal *wal, uint64_t lsn, rk_err *err);
/* The next record, borrowed until the next call; RK_EEOF at the end of what is durable. */
RK_MUST_CHECK rk_code rk_wal_read(rk_wal_reader *reader, uint64_t *lsn, rk_str *record,
                                  rk_err *err);
void rk_wal_reader_close(rk_wal_reader *reader);

/* Forgets records below |lsn|; whole segment files are removed or reused. Monotonic. */
RK_MUST_CHECK rk_code rk_wal_truncate(rk_wal *wal, uint64_t lsn, rk_err *err);

typedef struct rk_wal_stats {
    uint64_t first_lsn, next_lsn, bytes_on_disk, appends_total, syncs_total;
} rk_wal_stats;
void rk_wal_stats_get(const rk_wal *wal, rk_wal_stats *out);

#endif
