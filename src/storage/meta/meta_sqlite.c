/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite backend: opening, closing, and what its other files share.
 *
 * A new store is made whole as `PATH.new`, closed, renamed and its folder synced. So a file at PATH
 * is never half made: an empty one, a foreign one, or a journal without its file is RK_ECORRUPT,
 * and a path that cannot be read is an error. None of them looks like a first start.
 *
 * Durability: WAL journal with synchronous=FULL syncs at each commit. Checkpoints are ours to start
 * (wal_hook), so that a failed sync of one is seen: it poisons the store, for a later sync would
 * not report what the first one lost.
 *
 * Memory: page caches of 512 KiB per connection, nothing mapped; threads start with the first watch
 * and the first lease.
 */
#include "storage/meta/meta_sqlite.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

#define APPLICATION_ID   0x524b4d44 /* "RKMD" */
#define FORMAT_VERSION   1
#define CHECKPOINT_PAGES 1000
#define META_PATH_MAX    4096

static const char schema_sql[] =
    "PRAGMA page_size = 4096;"
    "PRAGMA application_id = 1380666692;"
    "PRAGMA user_version = 1;"
    "BEGIN;"
    "CREATE TABLE kv (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,"
    " create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL, version INTEGER NOT NULL,"
    " lease INTEGER NOT NULL);"
    "CREATE INDEX kv_lease ON kv (lease) WHERE lease != 0;"
    "CREATE TABLE event (rev INTEGER NOT NULL, seq INTEGER NOT NULL, deleted INTEGER NOT NULL,"
    " key BLOB NOT NULL, value BLOB NOT NULL, create_rev INTEGER NOT NULL,"
    " version INTEGER NOT NULL, lease INTEGER NOT NULL, PRIMARY KEY (rev, seq)) WITHOUT ROWID;"
    "CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);"
    "CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO state VALUES ('revision', 1), ('compacted', 0);"
    "COMMIT;";
_Static_assert(APPLICATION_ID == 1380666692 && FORMAT_VERSION == 1, "as in schema_sql");

static const char connection_sql[] = "PRAGMA synchronous = FULL;"
                                     "PRAGMA cache_size = -512;"
                                     "PRAGMA mmap_size = 0;"
                                     "PRAGMA temp_store = MEMORY;"
                                     "PRAGMA journal_size_limit = 4194304;"
                                     "PRAGMA wal_autocheckpoint = 0;";

rk_code
rk__meta_fail(meta_db *db, sqlite3 *conn, const char *what, rk_err *err)
{
    int extended = conn ? sqlite3_extended_errcode(conn) : SQLITE_NOMEM;
    rk_code code = RK_EIO;

    switch (extended & 0xff) {
    case SQLITE_FULL:
        code = RK_EDISK_FULL;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = RK_ECORRUPT;
        break;
    case SQLITE_NOMEM:
        code = RK_ENOMEM;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        code = RK_EBUSY;
        break;
    case SQLITE_IOERR:
        if (conn && sqlite3_system_errno(conn) == ENOSPC) {
            code = RK_EDISK_FULL;
        }
        break;
    default:
        break;
    }
    return rk_fail(err, code, "meta store %s: %s: %s (%d)", db->path, what,
                   conn ? sqlite3_errmsg(conn) : "out of memory", extended);
}

void
rk__meta_bind(sqlite3_stmt *stmt, int index, rk_str bytes)
{
    /* A failure to bind shows as a NULL that the NOT NULL columns refuse, or finds nothing; it
     * needs memory only for copies, and these are not copied. */
    int rc =
        sqlite3_bind_blob64(stmt, index, bytes.len ? bytes.data : "", bytes.len, SQLITE_STATIC);
    RK_ASSERT(rc == SQLITE_OK);
}

rk_code
rk__meta_run(meta_db *db, sqlite3 *conn, sqlite3_stmt *stmt, const char *what, rk_err *err)
{
    int rc = sqlite3_step(stmt);
    rk_code code =
        rc == SQLITE_DONE || rc == SQLITE_ROW ? RK_OK : rk__meta_fail(db, conn, what, err);
    sqlite3_reset(stmt);
    return code;
}

rk_str
rk__meta_prefix_end(rk_str prefix, uint8_t *buf)
{
    size_t len = prefix.len;

    while (len > 0 && (uint8_t)prefix.data[len - 1] == 0xff) {
        len--;
    }
    if (len == 0) { /* longer than any key, so above all of them */
        memset(buf, 0xff, RK_META_KEY_MAX + 1);
        return (rk_str){(const char *)buf, RK_META_KEY_MAX + 1};
    }
    memcpy(buf, prefix.data, len);
    buf[len - 1]++;
    return (rk_str){(const char *)buf, len};
}

static rk_code
copy_column(rk_str *out, sqlite3_stmt *stmt, int column, rk_arena *arena, rk_err *err)
{
    const char *data = sqlite3_column_blob(stmt, column);
    int len = sqlite3_column_bytes(stmt, column);

    *out = rk_arena_str(arena, (rk_str){data, data && len > 0 ? (size_t)len : 0});
    return out->data
               ? RK_OK
               : rk_fail(err, RK_ENOMEM, "meta store: no memory for a value of %d bytes", len);
}

rk_code
rk__meta_row(rk_meta_kv *out, sqlite3_stmt *stmt, rk_arena *arena, rk_err *err)
{
    RK_RET(copy_column(&out->key, stmt, 0, arena, err));
    RK_RET(copy_column(&out->value, stmt, 1, arena, err));
    out->create_revision = sqlite3_column_int64(stmt, 2);
    out->mod_revision = sqlite3_column_int64(stmt, 3);
    out->version = sqlite3_column_int64(stmt, 4);
    out->lease = sqlite3_column_int64(stmt, 5);
    return RK_OK;
}

/* ---- open ---- */

static rk_code
exec(meta_db *db, sqlite3 *conn, const char *sql, rk_err *err)
{
    return sqlite3_exec(conn, sql, NULL, NULL, NULL) == SQLITE_OK
               ? RK_OK
               : rk__meta_fail(db, conn, "setting up", err);
}

/* One number by |sql|, which must yield a row. */
static rk_code
number(meta_db *db, sqlite3 *conn, const char *sql, int64_t *out, rk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    rk_code code = RK_OK;

    if (sqlite3_prepare_v2(conn, sql, -1, &stmt, NULL) != SQLITE_OK) {
        return rk__meta_fail(db, conn, "opening", err);
    }
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(stmt, 0);
    } else if (rc == SQLITE_DONE) {
        code = rk_fail(err, RK_ECORRUPT, "meta store %s: no answer to %s", db->path, sql);
    } else {
        code = rk__meta_fail(db, conn, "opening", err);
    }
    sqlite3_finalize(stmt);
    return code;
}

static rk_code
parent_of(const meta_db *db, char parent[META_PATH_MAX])
{
    const char *slash = strrchr(db->path, '/');

    if (!slash) {
        memcpy(parent, ".", 2);
    } else if (slash == db->path) {
        memcpy(parent, "/", 2);
    } else {
        size_t len = (size_t)(slash - db->path);
        memcpy(parent, db->path, len);
        parent[len] = '\0';
    }
    return RK_OK;
}

/* RK_OK and the size when there is a file; RK_EKEY_NOT_FOUND when there surely is none. */
static rk_code
probe(meta_db *db, const char *suffix, uint64_t *size, rk_err *err)
{
    rk_disk *disk = db->env.disk;
    char path[META_PATH_MAX];
    rk_file *file = NULL;

    snprintf(path, sizeof(path), "%s%s", db->path, suffix);
    RK_RET(disk->open(disk, &file, path, RK_OPEN_READ, err));
    rk_code code = disk->size(disk, file, size, err);
    disk->close(disk, file);
    return code;
}

static rk_code
remove_file(meta_db *db, const char *suffix, rk_err *err)
{
    char path[META_PATH_MAX];

    snprintf(path, sizeof(path), "%s%s", db->path, suffix);
    rk_code code = db->env.disk->remove(db->env.disk, path, err);
    if (code == RK_EKEY_NOT_FOUND) {
        rk_err_clear(err);
        code = RK_OK;
    }
    return code;
}

static rk_code
create(meta_db *db, rk_err *err)
{
    rk_disk *disk = db->env.disk;
    char temp[META_PATH_MAX];
    char parent[META_PATH_MAX];
    sqlite3 *conn = NULL;
    rk_code code = RK_OK;

    snprintf(temp, sizeof(temp), "%s.new", db->path);
    RK_RET(remove_file(db, ".new-journal", err));
    RK_RET(remove_file(db, ".new", err));
    int rc = sqlite3_open_v2(
        temp, &conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        RK_ERR(rk__meta_fail(db, conn, "creating", err));
    }
    RK_ERR(exec(db, conn, "PRAGMA synchronous = FULL;", err));
    RK_ERR(exec(db, conn, schema_sql, err));
    sqlite3_close(conn);
    conn = NULL;
    RK_ERR(disk->rename_new(disk, temp, db->path, err));
    RK_ERR(parent_of(db, parent));
    RK_ERR(disk->sync_dir(disk, parent, err));
out:
    sqlite3_close(conn);
    return code;
}

static rk_code
create_if_absent(meta_db *db, rk_err *err)
{
    char parent[META_PATH_MAX];
    uint64_t size = 0;

    RK_RET(parent_of(db, parent));
    RK_RET(db->env.disk->mkdirs(db->env.disk, parent, err));
    rk_code code = probe(db, "", &size, err);
    if (code == RK_OK && size == 0) {
        return rk_fail(err, RK_ECORRUPT,
                       "meta store %s: the file is empty; it was cut, for a new one never is",
                       db->path);
    }
    if (code != RK_EKEY_NOT_FOUND) {
        return code;
    }
    code = probe(db, "-wal", &size, err);
    if (code == RK_OK) {
        return rk_fail(err, RK_ECORRUPT, "meta store %s: the file is missing, but %s-wal is there",
                       db->path, db->path);
    }
    if (code != RK_EKEY_NOT_FOUND) {
        return code;
    }
    rk_err_clear(err);
    return create(db, err);
}

/* After each commit, under write_lock. */
static int
on_commit(void *user, sqlite3 *conn, const char *name, int pages)
{
    meta_db *db = user;

    if (pages < CHECKPOINT_PAGES) {
        return SQLITE_OK;
    }
    int rc = sqlite3_wal_checkpoint_v2(conn, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((rc & 0xff) == SQLITE_IOERR) {
        db->poisoned = true;
        RK_LOG_E("meta", "checkpoint failed, writes are refused from here on: path=%s error=%s",
                 db->path, sqlite3_errmsg(conn));
    }
    return SQLITE_OK; /* the commit itself is durable */
}

static rk_code
connect(meta_db *db, sqlite3 **conn, rk_err *err)
{
    int rc = sqlite3_open_v2(db->path, conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        return rk__meta_fail(db, *conn, "opening", err);
    }
    sqlite3_extended_result_codes(*conn, 1);
    sqlite3_busy_timeout(*conn, 5000);
    return exec(db, *conn, connection_sql, err);
}

static rk_code
check_format(meta_db *db, rk_err *err)
{
    int64_t id = 0;
    int64_t version = 0;

    RK_RET(number(db, db->writer, "PRAGMA application_id", &id, err));
    RK_RET(number(db, db->writer, "PRAGMA user_version", &version, err));
    if (id != APPLICATION_ID || version != FORMAT_VERSION) {
        return rk_fail(
            err, RK_ECORRUPT,
            "meta store %s: not a meta store of format %d: application id %lld, format %lld",
            db->path, FORMAT_VERSION, (long long)id, (long long)version);
    }
    return RK_OK;
}

static rk_code
prepare(meta_db *db, sqlite3 *conn, const char *const *sql, sqlite3_stmt **out, size_t n,
        rk_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (sqlite3_prepare_v3(conn, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL) !=
            SQLITE_OK) {
            return rk__meta_fail(db, conn, "preparing", err);
        }
    }
    return RK_OK;
}

static rk_code
open_connections(meta_db *db, rk_err *err)
{
#define META_SQL_TEXT(name, sql) sql,
    static const char *const writer_sql[] = {META_WRITER_SQL(META_SQL_TEXT)};
    static const char *const reader_sql[] = {META_READER_SQL(META_SQL_TEXT)};

    RK_RET(connect(db, &db->writer, err));
    RK_RET(check_format(db, err));
    RK_RET(exec(db, db->writer, "PRAGMA journal_mode = WAL;", err));
    sqlite3_wal_hook(db->writer, on_commit, db);
    RK_RET(connect(db, &db->reader, err));
    RK_RET(exec(db, db->reader, "PRAGMA query_only = 1;", err));
    RK_RET(prepare(db, db->writer, writer_sql, db->w, META_W_COUNT, err));
    RK_RET(prepare(db, db->reader, reader_sql, db->r, META_R_COUNT, err));
    RK_RET(number(db, db->writer, "SELECT value FROM state WHERE name = 'revision'", &db->revision,
                  err));
    RK_RET(number(db, db->writer, "SELECT value FROM state WHERE name = 'compacted'",
                  &db->compacted, err));
    db->pruned_at = db->revision;
    return number(db, db->writer, "SELECT ifnull(sum(length(key) + length(value)), 0) FROM event",
                  &db->history_bytes, err);
}

static void
sqlite_close(rk_meta *meta)
{
    meta_db *db = meta_db_of(meta);

    rk_mutex_lock(&db->state_lock);
    db->closing = true;
    rk_cond_broadcast(&db->watch_wake);
    rk_cond_broadcast(&db->lease_wake);
    rk_mutex_unlock(&db->state_lock);
    if (db->watch_started) {
        rk_thread_join(db->watch_thread);
    }
    if (db->lease_started) {
        rk_thread_join(db->lease_thread);
    }
    RK_ASSERT(!db->watches); /* stop watches before closing */
    for (size_t i = 0; i < META_W_COUNT; i++) {
        sqlite3_finalize(db->w[i]);
    }
    for (size_t i = 0; i < META_R_COUNT; i++) {
        sqlite3_finalize(db->r[i]);
    }
    sqlite3_close(db->reader);
    sqlite3_close(db->writer);
    rk_free(db->leases);
    rk_free(db->path);
    rk_cond_deinit(&db->watch_wake);
    rk_cond_deinit(&db->watch_idle);
    rk_cond_deinit(&db->lease_wake);
    rk_mutex_deinit(&db->state_lock);
    rk_mutex_deinit(&db->read_lock);
    rk_mutex_deinit(&db->write_lock);
    rk_free(db);
}

static void
sqlite_clock_changed(rk_meta *meta)
{
    meta_db *db = meta_db_of(meta);

    rk_mutex_lock(&db->state_lock);
    rk_cond_broadcast(&db->lease_wake);
    rk_mutex_unlock(&db->state_lock);
}

static const rk_meta_backend sqlite_backend = {
    .close = sqlite_close,
    .txn = rk__meta_sqlite_txn,
    .get = rk__meta_sqlite_get,
    .list = rk__meta_sqlite_list,
    .watch_start = rk__meta_sqlite_watch_start,
    .watch_stop = rk__meta_sqlite_watch_stop,
    .lease_grant = rk__meta_sqlite_lease_grant,
    .lease_keep_alive = rk__meta_sqlite_lease_keep_alive,
    .lease_revoke = rk__meta_sqlite_lease_revoke,
    .clock_changed = sqlite_clock_changed,
};

rk_code
rk_meta_open_sqlite(rk_meta **out, const char *path, const rk_env *env, rk_err *err)
{
    rk_code code = RK_OK;

    *out = NULL;
    if (!path || !*path || strlen(path) > META_PATH_MAX - 32) {
        return rk_fail(err, RK_EINVAL, "meta store: the path must have 1 to %d bytes",
                       META_PATH_MAX - 32);
    }
    meta_db *db = rk_alloc_zero(1, sizeof(*db));
    if (!db) {
        return rk_fail(err, RK_ENOMEM, "meta store %s: no memory", path);
    }
    db->base.backend = &sqlite_backend;
    db->env = *env;
    rk_mutex_init(&db->write_lock, "meta.write", RK_RANK_META_WRITE);
    rk_mutex_init(&db->read_lock, "meta.read", RK_RANK_META_READ);
    rk_mutex_init(&db->state_lock, "meta.state", RK_RANK_META_STATE);
    rk_cond_init(&db->watch_wake);
    rk_cond_init(&db->watch_idle);
    rk_cond_init(&db->lease_wake);
    db->path = rk_strdup(rk_str_from(path));
    if (!db->path) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "meta store %s: no memory", path));
    }
    RK_ERR(create_if_absent(db, err));
    RK_ERR(open_connections(db, err));
    RK_ERR(rk__meta_leases_load(db, err));
    *out = &db->base;
    db = NULL;
out:
    if (db) {
        sqlite_close(&db->base);
    }
    return code;
}
