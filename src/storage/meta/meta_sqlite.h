/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite backend's own types, shared by its files.
 *
 * Two connections, each under a lock of its own that is held across SQLite's I/O: transactions use
 * |writer|, reads and watches use |reader|. What threads share in memory is guarded by
 * |state_lock|, which is never held across I/O or a callback. Lock order: write_lock, read_lock,
 * state_lock.
 */
#ifndef RK_STORAGE_META_SQLITE_H
#define RK_STORAGE_META_SQLITE_H

#include <sqlite3.h>

#include "base/thread.h"
#include "storage/meta/meta_private.h"

#define RK_RANK_META_WRITE (RK_RANK_STORAGE + 1)
#define RK_RANK_META_READ  (RK_RANK_STORAGE + 2)
#define RK_RANK_META_STATE (RK_RANK_STORAGE + 3)

#define META_HISTORY_REVISIONS 10000
#define META_HISTORY_BYTES_MAX (64 << 20)
#define META_RETRY_NS          INT64_C(1000000000)

/* X(name, SQL) of the two connections. */
#define META_WRITER_SQL(X)                                                                         \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                    \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(KEY, "SELECT value, create_rev, mod_rev, version FROM kv WHERE key = ?1")                    \
    X(PUT, "INSERT INTO kv (key, value, create_rev, mod_rev, version, lease) "                     \
           "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO UPDATE SET value = ?2, "          \
           "create_rev = ?3, mod_rev = ?4, version = ?5, lease = ?6")                              \
    X(DELETE, "DELETE FROM kv WHERE key = ?1")                                                     \
    X(FIRST, "SELECT key FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1")               \
    X(OF_LEASE, "SELECT key FROM kv WHERE lease = ?1 AND lease != 0 LIMIT 1")                      \
    X(EVENT, "INSERT INTO event (rev, seq, deleted, key, value, create_rev, version, lease) "      \
             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                            \
    X(SET_STATE, "UPDATE state SET value = ?2 WHERE name = ?1")                                    \
    X(EVENTS_DOWN,                                                                                 \
      "SELECT rev, length(key) + length(value) FROM event ORDER BY rev DESC, seq DESC")            \
    X(FORGET, "DELETE FROM event WHERE rev <= ?1")                                                 \
    X(LEASE_FIND, "SELECT 1 FROM lease WHERE id = ?1")                                             \
    X(LEASE_ADD, "INSERT INTO lease (id, ttl_ms) VALUES (?1, ?2)")                                 \
    X(LEASE_REMOVE, "DELETE FROM lease WHERE id = ?1")
#define META_READER_SQL(X)                                                                         \
    X(BEGIN, "BEGIN")                                                                              \
    X(COMMIT, "COMMIT")                                                                            \
    X(REVISION, "SELECT value FROM state WHERE name = 'revision'")                                 \
    X(GET, "SELECT key, value, create_rev, mod_rev, version, lease FROM kv WHERE key = ?1")        \
    X(COUNT_KEYS, "SELECT count(*) FROM kv WHERE key >= ?1 AND key < ?2")                          \
    X(LIST, "SELECT key, value, create_rev, mod_rev, version, lease FROM kv "                      \
            "WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3")                                  \
    X(EVENTS, "SELECT key, value, create_rev, rev, version, lease, deleted, seq FROM event "       \
              "WHERE (rev, seq) > (?1, ?2) AND rev <= ?3 AND key >= ?4 AND key < ?5 "              \
              "ORDER BY rev, seq LIMIT 64")

#define META_W_ENUM(name, sql) META_W_##name,
#define META_R_ENUM(name, sql) META_R_##name,
typedef enum meta_w { META_WRITER_SQL(META_W_ENUM) META_W_COUNT } meta_w;
typedef enum meta_r { META_READER_SQL(META_R_ENUM) META_R_COUNT } meta_r;

typedef struct meta_lease {
    int64_t id;
    int64_t ttl_ms;
    int64_t deadline_ns; /* on env.clock */
    bool expired;        /* its keys are being removed; it cannot be kept alive any more */
} meta_lease;

typedef struct meta_db meta_db;

typedef struct meta_watch {
    rk_meta_watch base;
    struct meta_watch *next;
    char *prefix; /* owned */
    rk_str low;   /* keys in [low, high) */
    rk_str high;
    int64_t rev; /* delivered: all up to (rev, seq) */
    int64_t seq;
    void (*on_event)(void *user, const rk_meta_event *event, int64_t revision);
    void *user;
    _Atomic bool stopped; /* relaxed: under the lock for waiting, a hint between callbacks */
    bool running;         /* a batch is being delivered */
    bool free_after;      /* stopped by its own callback */
} meta_watch;

struct meta_db {
    rk_meta base;
    rk_env env;
    char *path; /* owned */

    rk_mutex write_lock;
    sqlite3 *writer;
    sqlite3_stmt *w[META_W_COUNT];
    int64_t history_bytes;
    int64_t pruned_at; /* revision of the last look at the history */
    bool poisoned;     /* a sync failed: no more writes until the store is opened again */

    rk_mutex read_lock;
    sqlite3 *reader;
    sqlite3_stmt *r[META_R_COUNT];

    rk_mutex state_lock;
    int64_t revision;  /* committed; changed under write_lock and state_lock */
    int64_t compacted; /* events up to this revision are forgotten */
    bool closing;
    meta_watch *watches;
    rk_cond watch_wake;
    rk_cond watch_idle; /* a batch was delivered */
    rk_thread watch_thread;
    bool watch_started;
    meta_lease *leases; /* owned */
    size_t leases_len;
    size_t leases_cap;
    rk_cond lease_wake;
    rk_thread lease_thread;
    bool lease_started;
};

static inline meta_db *
meta_db_of(rk_meta *meta)
{
    return RK_CONTAINER(meta, meta_db, base);
}

/* ---- meta_sqlite.c ---- */

/* The error of the last call on |conn| as a code and a sentence. */
rk_code rk__meta_fail(meta_db *db, sqlite3 *conn, const char *what, rk_err *err);
void rk__meta_bind(sqlite3_stmt *stmt, int index, rk_str bytes);
/* Runs a statement that yields no row, and resets it. */
RK_MUST_CHECK rk_code rk__meta_run(meta_db *db, sqlite3 *conn, sqlite3_stmt *stmt, const char *what,
                                   rk_err *err);
/* The smallest key above all that start with |prefix|; |buf| has RK_META_KEY_MAX + 1 bytes. */
rk_str rk__meta_prefix_end(rk_str prefix, uint8_t *buf);
/* A row of GET, LIST or EVENTS, copied into |arena|. */
RK_MUST_CHECK rk_code rk__meta_row(rk_meta_kv *out, sqlite3_stmt *stmt, rk_arena *arena,
                                   rk_err *err);

/* ---- meta_sqlite_txn.c ---- */

RK_MUST_CHECK rk_code rk__meta_sqlite_txn(rk_meta *meta, const rk_meta_txn *txn,
                                          rk_meta_result *out, rk_err *err);
/* Removes the lease's row and its keys in one transaction. RK_EKEY_NOT_FOUND when there is no such
 * lease. */
RK_MUST_CHECK rk_code rk__meta_lease_drop(meta_db *db, int64_t lease, rk_err *err);
RK_MUST_CHECK rk_code rk__meta_lease_insert(meta_db *db, int64_t lease, int64_t ttl_ms,
                                            rk_err *err);

/* ---- meta_sqlite_read.c ---- */

RK_MUST_CHECK rk_code rk__meta_sqlite_get(rk_meta *meta, rk_str key, rk_meta_kv *out, bool *found,
                                          rk_arena *arena, rk_err *err);
RK_MUST_CHECK rk_code rk__meta_sqlite_list(rk_meta *meta, rk_str prefix, size_t limit,
                                           rk_meta_range *out, rk_arena *arena, rk_err *err);

/* ---- meta_sqlite_watch.c ---- */

RK_MUST_CHECK rk_code rk__meta_sqlite_watch_start(
    rk_meta_watch **out, rk_meta *meta, rk_str prefix, int64_t from,
    void (*on_event)(void *user, const rk_meta_event *event, int64_t revision), void *user,
    rk_err *err);
void rk__meta_sqlite_watch_stop(rk_meta_watch *watch);

/* ---- meta_sqlite_lease.c ---- */

RK_MUST_CHECK rk_code rk__meta_sqlite_lease_grant(rk_meta *meta, int64_t ttl_ms, int64_t *lease,
                                                  rk_err *err);
RK_MUST_CHECK rk_code rk__meta_sqlite_lease_keep_alive(rk_meta *meta, int64_t lease, rk_err *err);
RK_MUST_CHECK rk_code rk__meta_sqlite_lease_revoke(rk_meta *meta, int64_t lease, rk_err *err);
/* Reads the leases on disk; each gets its full time again. */
RK_MUST_CHECK rk_code rk__meta_leases_load(meta_db *db, rk_err *err);

#endif
