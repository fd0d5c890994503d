/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of the SQLite backend, on a connection of their own: they see the last committed
 * transaction and never wait for a sync. A list and its revision come from one snapshot.
 */
#include "storage/meta/meta_sqlite.h"

rk_code
rk__meta_sqlite_get(rk_meta *meta, rk_str key, rk_meta_kv *out, bool *found, rk_arena *arena,
                    rk_err *err)
{
    meta_db *db = meta_db_of(meta);
    sqlite3_stmt *stmt = db->r[META_R_GET];
    rk_code code = RK_OK;

    rk_mutex_lock(&db->read_lock);
    rk__meta_bind(stmt, 1, key);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        code = rk__meta_row(out, stmt, arena, err);
        *found = code == RK_OK;
    } else if (rc != SQLITE_DONE) {
        code = rk__meta_fail(db, db->reader, "reading a key", err);
    }
    sqlite3_reset(stmt);
    rk_mutex_unlock(&db->read_lock);
    return code;
}

/* The number in the first column of the one row of |stmt|. */
static rk_code
read_number(meta_db *db, sqlite3_stmt *stmt, int64_t *out, rk_err *err)
{
    rk_code code = RK_OK;

    if (sqlite3_step(stmt) == SQLITE_ROW) {
        *out = sqlite3_column_int64(stmt, 0);
    } else {
        code = rk__meta_fail(db, db->reader, "listing", err);
    }
    sqlite3_reset(stmt);
    return code;
}

static rk_code
read_rows(meta_db *db, rk_meta_range *out, size_t rows, rk_arena *arena, rk_err *err)
{
    sqlite3_stmt *stmt = db->r[META_R_LIST];
    rk_code code = RK_OK;
    int rc = SQLITE_DONE;

    sqlite3_bind_int64(stmt, 3, (int64_t)rows);
    while (code == RK_OK && out->n < rows && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        code = rk__meta_row(&out->kvs[out->n], stmt, arena, err);
        out->n += code == RK_OK;
    }
    if (code == RK_OK && rc != SQLITE_ROW && rc != SQLITE_DONE) {
        code = rk__meta_fail(db, db->reader, "listing", err);
    }
    sqlite3_reset(stmt);
    return code;
}

static rk_code
list_locked(meta_db *db, rk_str prefix, size_t limit, rk_meta_range *out, rk_arena *arena,
            rk_err *err)
{
    uint8_t end[RK_META_KEY_MAX + 1];
    rk_str high = rk__meta_prefix_end(prefix, end);
    int64_t count = 0;

    rk__meta_bind(db->r[META_R_COUNT_KEYS], 1, prefix);
    rk__meta_bind(db->r[META_R_COUNT_KEYS], 2, high);
    rk__meta_bind(db->r[META_R_LIST], 1, prefix);
    rk__meta_bind(db->r[META_R_LIST], 2, high);
    RK_RET(read_number(db, db->r[META_R_REVISION], &out->revision, err));
    RK_RET(read_number(db, db->r[META_R_COUNT_KEYS], &count, err));
    size_t rows = limit > 0 ? RK_MIN(limit, (size_t)count) : (size_t)count;
    if (rows == 0) {
        return RK_OK;
    }
    out->kvs = RK_ARENA_ARRAY(arena, rk_meta_kv, rows);
    if (!out->kvs) {
        return rk_fail(err, RK_ENOMEM, "meta store: no memory for %zu keys", rows);
    }
    return read_rows(db, out, rows, arena, err);
}

rk_code
rk__meta_sqlite_list(rk_meta *meta, rk_str prefix, size_t limit, rk_meta_range *out,
                     rk_arena *arena, rk_err *err)
{
    meta_db *db = meta_db_of(meta);

    rk_mutex_lock(&db->read_lock);
    rk_code code = rk__meta_run(db, db->reader, db->r[META_R_BEGIN], "listing", err);
    if (code == RK_OK) {
        code = list_locked(db, prefix, limit, out, arena, err);
        RK_KEEP(rk__meta_run(db, db->reader, db->r[META_R_COMMIT], "listing", NULL));
    }
    rk_mutex_unlock(&db->read_lock);
    if (code != RK_OK) {
        *out = (rk_meta_range){0};
    }
    return code;
}
