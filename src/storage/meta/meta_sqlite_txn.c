/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write transactions of the SQLite backend: compares, one of two lists, history, revision; all in
 * one SQLite transaction.
 *
 * The history is a table of events that a watch reads from any revision still kept: the last 10,000
 * revisions, less when their values come to more than 64 MiB, never less than a running watch still
 * has to see. It is looked at every 256 revisions or when it grew too large.
 */
#include "storage/meta/meta_sqlite.h"

#define PRUNE_EVERY 256

/* What one transaction under way knows. */
typedef struct meta_write {
    meta_db *db;
    int64_t revision;   /* its own, should it change anything */
    int64_t events;     /* so far */
    int64_t bytes;      /* of those */
    int64_t forgotten;  /* events up to here are deleted by it; 0 for none */
    int64_t kept_bytes; /* of the history, when |forgotten| */
} meta_write;

/* ---- compares ---- */

static bool
holds(int order, rk_meta_cmp cmp)
{
    switch (cmp) {
    case RK_META_EQUAL:
        return order == 0;
    case RK_META_NOT_EQUAL:
        return order != 0;
    case RK_META_GREATER:
        return order > 0;
    case RK_META_LESS:
        return order < 0;
    }
    return false;
}

static bool
compare_row(const rk_meta_compare *c, sqlite3_stmt *row)
{
    int64_t number = 0;

    if (c->target == RK_META_VALUE) {
        if (!row) {
            return false;
        }
        const char *data = sqlite3_column_blob(row, 0);
        int len = sqlite3_column_bytes(row, 0);
        return holds(rk_str_cmp((rk_str){data, data ? (size_t)len : 0}, c->value), c->cmp);
    }
    if (row) {
        number = sqlite3_column_int64(row, c->target == RK_META_CREATE_REVISION ? 1
                                           : c->target == RK_META_MOD_REVISION  ? 2
                                                                                : 3);
    }
    return holds(number < c->number ? -1 : number > c->number, c->cmp);
}

static rk_code
check_compares(meta_db *db, const rk_meta_txn *txn, bool *out, rk_err *err)
{
    sqlite3_stmt *stmt = db->w[META_W_KEY];

    *out = true;
    for (size_t i = 0; i < txn->compares_len && *out; i++) {
        rk__meta_bind(stmt, 1, txn->compares[i].key);
        int rc = sqlite3_step(stmt);
        rk_code code = RK_OK;
        if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
            *out = compare_row(&txn->compares[i], rc == SQLITE_ROW ? stmt : NULL);
        } else {
            code = rk__meta_fail(db, db->writer, "comparing", err);
        }
        sqlite3_reset(stmt);
        RK_RET(code);
    }
    return RK_OK;
}

/* ---- operations ---- */

static rk_code
add_event(meta_write *w, bool deleted, const rk_meta_kv *kv, rk_err *err)
{
    sqlite3_stmt *stmt = w->db->w[META_W_EVENT];

    sqlite3_bind_int64(stmt, 1, w->revision);
    sqlite3_bind_int64(stmt, 2, w->events++);
    sqlite3_bind_int(stmt, 3, deleted);
    rk__meta_bind(stmt, 4, kv->key);
    rk__meta_bind(stmt, 5, kv->value);
    sqlite3_bind_int64(stmt, 6, kv->create_revision);
    sqlite3_bind_int64(stmt, 7, kv->version);
    sqlite3_bind_int64(stmt, 8, kv->lease);
    w->bytes += (int64_t)(kv->key.len + kv->value.len);
    return rk__meta_run(w->db, w->db->writer, stmt, "recording a change", err);
}

static rk_code
check_lease(meta_write *w, int64_t lease, rk_err *err)
{
    meta_db *db = w->db;
    sqlite3_stmt *stmt = db->w[META_W_LEASE_FIND];
    rk_code code = RK_OK;

    sqlite3_bind_int64(stmt, 1, lease);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_DONE) {
        code = rk_fail(err, RK_EKEY_NOT_FOUND, "meta store: lease %lld does not exist or expired",
                       (long long)lease);
    } else if (rc != SQLITE_ROW) {
        code = rk__meta_fail(db, db->writer, "looking for a lease", err);
    }
    sqlite3_reset(stmt);
    return code;
}

static rk_code
do_put(meta_write *w, const rk_meta_op *op, rk_err *err)
{
    meta_db *db = w->db;
    sqlite3_stmt *find = db->w[META_W_KEY];
    sqlite3_stmt *put = db->w[META_W_PUT];
    rk_code code = RK_OK;
    rk_meta_kv kv = {.key = op->key,
                     .value = op->value,
                     .create_revision = w->revision,
                     .mod_revision = w->revision,
                     .version = 1,
                     .lease = op->lease};

    if (op->lease != 0) {
        RK_RET(check_lease(w, op->lease, err));
    }
    rk__meta_bind(find, 1, op->key);
    int rc = sqlite3_step(find);
    if (rc == SQLITE_ROW) {
        kv.create_revision = sqlite3_column_int64(find, 1);
        kv.version = sqlite3_column_int64(find, 3) + 1;
    } else if (rc != SQLITE_DONE) {
        code = rk__meta_fail(db, db->writer, "reading a key", err);
    }
    sqlite3_reset(find);
    RK_RET(code);
    rk__meta_bind(put, 1, kv.key);
    rk__meta_bind(put, 2, kv.value);
    sqlite3_bind_int64(put, 3, kv.create_revision);
    sqlite3_bind_int64(put, 4, kv.mod_revision);
    sqlite3_bind_int64(put, 5, kv.version);
    sqlite3_bind_int64(put, 6, kv.lease);
    RK_RET(rk__meta_run(db, db->writer, put, "writing a key", err));
    return add_event(w, false, &kv, err);
}

static rk_code
do_delete(meta_write *w, rk_str key, rk_err *err)
{
    meta_db *db = w->db;
    sqlite3_stmt *stmt = db->w[META_W_DELETE];
    rk_meta_kv kv = {.key = key};

    rk__meta_bind(stmt, 1, key);
    RK_RET(rk__meta_run(db, db->writer, stmt, "deleting a key", err));
    return sqlite3_changes(db->writer) > 0 ? add_event(w, true, &kv, err) : RK_OK;
}

/* Deletes what |stmt| finds, one key at a time, until it finds none. */
static rk_code
delete_found(meta_write *w, sqlite3_stmt *stmt, rk_err *err)
{
    meta_db *db = w->db;
    char key[RK_META_KEY_MAX];

    for (;;) {
        int rc = sqlite3_step(stmt);
        int len = rc == SQLITE_ROW ? sqlite3_column_bytes(stmt, 0) : 0;
        rk_code code = RK_OK;
        if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
            code = rk__meta_fail(db, db->writer, "reading keys to delete", err);
        } else if (len > (int)sizeof(key) || (rc == SQLITE_ROW && len <= 0)) {
            code = rk_fail(err, RK_ECORRUPT, "meta store %s: a key of %d bytes", db->path, len);
        } else if (rc == SQLITE_ROW) {
            memcpy(key, sqlite3_column_blob(stmt, 0), (size_t)len);
        }
        sqlite3_reset(stmt);
        RK_RET(code);
        if (rc == SQLITE_DONE) {
            return RK_OK;
        }
        RK_RET(do_delete(w, (rk_str){key, (size_t)len}, err));
    }
}

static rk_code
do_op(meta_write *w, const rk_meta_op *op, rk_err *err)
{
    uint8_t end[RK_META_KEY_MAX + 1];
    sqlite3_stmt *stmt = w->db->w[META_W_FIRST];

    switch (op->kind) {
    case RK_META_PUT:
        return do_put(w, op, err);
    case RK_META_DELETE:
        return do_delete(w, op->key, err);
    case RK_META_DELETE_PREFIX:
        rk__meta_bind(stmt, 1, op->key);
        rk__meta_bind(stmt, 2, rk__meta_prefix_end(op->key, end));
        return delete_found(w, stmt, err);
    }
    return rk_fail(err, RK_EINVAL, "meta transaction: operation %d does not exist", (int)op->kind);
}

/* ---- history ---- */

static rk_code
set_state(meta_db *db, const char *name, int64_t value, rk_err *err)
{
    sqlite3_stmt *stmt = db->w[META_W_SET_STATE];

    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, value);
    return rk__meta_run(db, db->writer, stmt, "writing the revision", err);
}

/* The revision up to which events may go: 0 when nothing should. */
static rk_code
find_cut(meta_write *w, int64_t *cut, int64_t *kept_bytes, rk_err *err)
{
    meta_db *db = w->db;
    sqlite3_stmt *stmt = db->w[META_W_EVENTS_DOWN];
    int64_t watched = INT64_MAX;
    rk_code code = RK_OK;
    int rc = SQLITE_DONE;

    rk_mutex_lock(&db->state_lock);
    for (const meta_watch *watch = db->watches; watch; watch = watch->next) {
        watched = RK_MIN(watched, watch->seq == INT64_MAX ? watch->rev : watch->rev - 1);
    }
    rk_mutex_unlock(&db->state_lock);
    int64_t oldest = RK_MIN(w->revision - META_HISTORY_REVISIONS, watched);
    bool too_large = db->history_bytes + w->bytes > META_HISTORY_BYTES_MAX;
    *cut = 0;
    *kept_bytes = 0;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t rev = sqlite3_column_int64(stmt, 0);
        int64_t bytes = sqlite3_column_int64(stmt, 1);
        bool large = too_large && *kept_bytes + bytes > META_HISTORY_BYTES_MAX / 2;
        if (rev <= oldest || (large && rev <= watched && rev < w->revision)) {
            *cut = rev;
            break;
        }
        *kept_bytes += bytes;
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        code = rk__meta_fail(db, db->writer, "reading the history", err);
    }
    sqlite3_reset(stmt);
    return code;
}

static rk_code
prune(meta_write *w, rk_err *err)
{
    meta_db *db = w->db;
    int64_t cut = 0;
    int64_t kept_bytes = 0;

    if (w->revision - db->pruned_at < PRUNE_EVERY &&
        db->history_bytes + w->bytes <= META_HISTORY_BYTES_MAX) {
        return RK_OK;
    }
    RK_RET(find_cut(w, &cut, &kept_bytes, err));
    if (cut == 0) {
        return RK_OK;
    }
    sqlite3_bind_int64(db->w[META_W_FORGET], 1, cut);
    RK_RET(rk__meta_run(db, db->writer, db->w[META_W_FORGET], "shortening the history", err));
    RK_RET(set_state(db, "compacted", cut, err));
    w->forgotten = cut;
    w->kept_bytes = kept_bytes;
    return RK_OK;
}

/* ---- begin and end ---- */

static rk_code
begin_locked(meta_db *db, meta_write *w, rk_err *err)
{
    if (db->poisoned) {
        return rk_fail(err, RK_EIO,
                       "meta store %s: a sync failed earlier; restart the process to write again",
                       db->path);
    }
    *w = (meta_write){.db = db, .revision = db->revision + 1};
    return rk__meta_run(db, db->writer, db->w[META_W_BEGIN], "beginning", err);
}

static void
roll_back_locked(meta_db *db)
{
    if (!sqlite3_get_autocommit(db->writer)) { /* some errors end it by themselves */
        sqlite3_step(db->w[META_W_ROLLBACK]);
        sqlite3_reset(db->w[META_W_ROLLBACK]);
    }
}

static void
publish_locked(meta_db *db, const meta_write *w)
{
    if (w->events == 0) {
        return;
    }
    db->history_bytes = w->forgotten ? w->kept_bytes : db->history_bytes + w->bytes;
    rk_mutex_lock(&db->state_lock);
    db->revision = w->revision;
    if (w->forgotten) {
        db->compacted = w->forgotten;
    }
    rk_cond_signal(&db->watch_wake);
    rk_mutex_unlock(&db->state_lock);
    if (w->forgotten || w->revision - db->pruned_at >= PRUNE_EVERY) {
        db->pruned_at = w->revision;
    }
}

/* Commits when |code| is RK_OK, else rolls back. */
static rk_code
end_locked(meta_db *db, meta_write *w, rk_code code, rk_err *err)
{
    if (code == RK_OK && w->events > 0) {
        code = set_state(db, "revision", w->revision, err);
        if (code == RK_OK) {
            code = prune(w, err);
        }
    }
    if (code == RK_OK) {
        code = rk__meta_run(db, db->writer, db->w[META_W_COMMIT], "committing", err);
        int extended = sqlite3_extended_errcode(db->writer);
        if (code != RK_OK &&
            (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC)) {
            db->poisoned = true;
        }
    }
    if (code != RK_OK) {
        roll_back_locked(db);
        return code;
    }
    publish_locked(db, w);
    return RK_OK;
}

rk_code
rk__meta_sqlite_txn(rk_meta *meta, const rk_meta_txn *txn, rk_meta_result *out, rk_err *err)
{
    meta_db *db = meta_db_of(meta);
    meta_write w;
    bool succeeded = false;

    rk_mutex_lock(&db->write_lock);
    rk_code code = begin_locked(db, &w, err);
    if (code == RK_OK) {
        code = check_compares(db, txn, &succeeded, err);
        const rk_meta_op *ops = succeeded ? txn->then_ops : txn->else_ops;
        size_t n = succeeded ? txn->then_len : txn->else_len;
        for (size_t i = 0; i < n && code == RK_OK; i++) {
            code = do_op(&w, &ops[i], err);
        }
        code = end_locked(db, &w, code, err);
    }
    *out = (rk_meta_result){succeeded, db->revision};
    rk_mutex_unlock(&db->write_lock);
    return code;
}

rk_code
rk__meta_lease_insert(meta_db *db, int64_t lease, int64_t ttl_ms, rk_err *err)
{
    sqlite3_stmt *stmt = db->w[META_W_LEASE_ADD];
    meta_write w;

    rk_mutex_lock(&db->write_lock);
    rk_code code = begin_locked(db, &w, err);
    if (code == RK_OK) {
        sqlite3_bind_int64(stmt, 1, lease);
        sqlite3_bind_int64(stmt, 2, ttl_ms);
        code = rk__meta_run(db, db->writer, stmt, "granting a lease", err);
        code = end_locked(db, &w, code, err);
    }
    rk_mutex_unlock(&db->write_lock);
    return code;
}

rk_code
rk__meta_lease_drop(meta_db *db, int64_t lease, rk_err *err)
{
    sqlite3_stmt *stmt = db->w[META_W_LEASE_REMOVE];
    meta_write w;

    rk_mutex_lock(&db->write_lock);
    rk_code code = begin_locked(db, &w, err);
    if (code == RK_OK) {
        sqlite3_bind_int64(stmt, 1, lease);
        code = rk__meta_run(db, db->writer, stmt, "removing a lease", err);
        if (code == RK_OK && sqlite3_changes(db->writer) == 0) {
            code = rk_fail(err, RK_EKEY_NOT_FOUND,
                           "meta store: lease %lld does not exist or expired", (long long)lease);
        }
        if (code == RK_OK) {
            sqlite3_bind_int64(db->w[META_W_OF_LEASE], 1, lease);
            code = delete_found(&w, db->w[META_W_OF_LEASE], err);
        }
        code = end_locked(db, &w, code, err);
    }
    rk_mutex_unlock(&db->write_lock);
    return code;
}
