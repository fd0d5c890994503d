/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases of the SQLite backend.
 *
 * The row of a lease and its keys are on disk; its deadline is in memory only, so keeping alive
 * writes nothing. A restart gives every lease its full time again. One thread, started with the
 * first lease, sleeps until the earliest deadline and removes what is overdue; with no lease it
 * sleeps without a deadline. A lease past its deadline cannot be kept alive any more, even before
 * its keys are gone: an owner that learns "yes" can trust it.
 *
 * Deadlines are on the store's clock. The thread waits on the real one, and a test that moves its
 * own calls clock_changed.
 */
#include "base/log.h"
#include "storage/meta/meta_sqlite.h"

#define LEASES_MAX 65536u

static int64_t
now_ns(const meta_db *db)
{
    return db->env.clock->monotonic_ns(db->env.clock->self);
}

static meta_lease *
find_locked(meta_db *db, int64_t id)
{
    for (size_t i = 0; i < db->leases_len; i++) {
        if (db->leases[i].id == id) {
            return &db->leases[i];
        }
    }
    return NULL;
}

static void
remove_locked(meta_db *db, int64_t id)
{
    meta_lease *lease = find_locked(db, id);
    if (lease) {
        *lease = db->leases[--db->leases_len];
    }
}

static meta_lease *
earliest_locked(meta_db *db)
{
    meta_lease *first = NULL;
    for (size_t i = 0; i < db->leases_len; i++) {
        if (!first || db->leases[i].deadline_ns < first->deadline_ns) {
            first = &db->leases[i];
        }
    }
    return first;
}

static void
expire_locked(meta_db *db, meta_lease *lease)
{
    int64_t id = lease->id;
    rk_err err = {0};

    lease->expired = true;
    rk_mutex_unlock(&db->state_lock);
    rk_code code = rk__meta_lease_drop(db, id, &err);
    rk_mutex_lock(&db->state_lock);
    if (code == RK_OK || code == RK_EKEY_NOT_FOUND) {
        remove_locked(db, id);
        return;
    }
    RK_LOG_W("meta", "lease could not be removed, trying again: lease=%lld error=%s", (long long)id,
             err.text);
    lease = find_locked(db, id);
    if (lease) {
        lease->deadline_ns = now_ns(db) + META_RETRY_NS;
    }
}

static void
lease_main(void *arg)
{
    meta_db *db = arg;

    rk_mutex_lock(&db->state_lock);
    while (!db->closing) {
        meta_lease *lease = earliest_locked(db);
        if (!lease) {
            rk_cond_wait(&db->lease_wake, &db->state_lock);
            continue;
        }
        int64_t left_ns = lease->deadline_ns - now_ns(db);
        if (left_ns <= 0) {
            expire_locked(db, lease);
            continue;
        }
        int64_t real_ns = rk_clock_real()->monotonic_ns(rk_clock_real()->self);
        rk_cond_wait_until(&db->lease_wake, &db->state_lock, real_ns + left_ns);
    }
    rk_mutex_unlock(&db->state_lock);
}

static rk_code
add_locked(meta_db *db, int64_t id, int64_t ttl_ms, rk_err *err)
{
    if (db->leases_len >= LEASES_MAX) {
        return rk_fail(err, RK_EBUSY, "meta store: %u leases exist, no more are granted",
                       LEASES_MAX);
    }
    if (db->leases_len == db->leases_cap) {
        size_t cap = db->leases_cap ? db->leases_cap * 2 : 8;
        meta_lease *leases = rk_realloc(db->leases, cap * sizeof(*leases));
        if (!leases) {
            return rk_fail(err, RK_ENOMEM, "meta store: no memory for a lease");
        }
        db->leases = leases;
        db->leases_cap = cap;
    }
    if (!db->lease_started) {
        RK_RET(rk_thread_start(&db->lease_thread, "meta-lease", lease_main, db));
        db->lease_started = true;
    }
    db->leases[db->leases_len++] =
        (meta_lease){.id = id, .ttl_ms = ttl_ms, .deadline_ns = now_ns(db) + ttl_ms * 1000000};
    rk_cond_signal(&db->lease_wake);
    return RK_OK;
}

rk_code
rk__meta_leases_load(meta_db *db, rk_err *err)
{
    sqlite3_stmt *stmt = NULL;
    rk_code code = RK_OK;
    int rc = SQLITE_DONE;

    if (sqlite3_prepare_v2(db->writer, "SELECT id, ttl_ms FROM lease", -1, &stmt, NULL) !=
        SQLITE_OK) {
        return rk__meta_fail(db, db->writer, "reading leases", err);
    }
    while (code == RK_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t ttl_ms =
            RK_MIN(RK_MAX(sqlite3_column_int64(stmt, 1), INT64_C(1)), RK_META_TTL_MS_MAX);
        rk_mutex_lock(&db->state_lock);
        code = add_locked(db, sqlite3_column_int64(stmt, 0), ttl_ms, err);
        rk_mutex_unlock(&db->state_lock);
    }
    if (code == RK_OK && rc != SQLITE_DONE) {
        code = rk__meta_fail(db, db->writer, "reading leases", err);
    }
    sqlite3_finalize(stmt);
    return code;
}

rk_code
rk__meta_sqlite_lease_grant(rk_meta *meta, int64_t ttl_ms, int64_t *lease, rk_err *err)
{
    meta_db *db = meta_db_of(meta);
    uint64_t id = 0;

    while (id == 0) {
        db->env.random->bytes(db->env.random->self, &id, sizeof(id));
        id &= INT64_MAX;
    }
    RK_RET(rk__meta_lease_insert(db, (int64_t)id, ttl_ms, err));
    rk_mutex_lock(&db->state_lock);
    rk_code code = add_locked(db, (int64_t)id, ttl_ms, err);
    rk_mutex_unlock(&db->state_lock);
    if (code != RK_OK) { /* without a deadline it would live until the next start */
        rk_code dropped = rk__meta_lease_drop(db, (int64_t)id, NULL);
        RK_UNUSED(dropped);
        return code;
    }
    *lease = (int64_t)id;
    return RK_OK;
}

rk_code
rk__meta_sqlite_lease_keep_alive(rk_meta *meta, int64_t id, rk_err *err)
{
    meta_db *db = meta_db_of(meta);
    bool alive = false;

    rk_mutex_lock(&db->state_lock);
    meta_lease *lease = find_locked(db, id);
    if (lease && !lease->expired) {
        int64_t now = now_ns(db);
        alive = lease->deadline_ns > now;
        if (alive) { /* the thread wakes at the old deadline and sleeps on */
            lease->deadline_ns = now + lease->ttl_ms * 1000000;
        }
    }
    rk_mutex_unlock(&db->state_lock);
    return alive ? RK_OK
                 : rk_fail(err, RK_EKEY_NOT_FOUND,
                           "meta store: lease %lld does not exist or expired", (long long)id);
}

rk_code
rk__meta_sqlite_lease_revoke(rk_meta *meta, int64_t id, rk_err *err)
{
    meta_db *db = meta_db_of(meta);

    RK_RET(rk__meta_lease_drop(db, id, err));
    rk_mutex_lock(&db->state_lock);
    remove_locked(db, id);
    rk_mutex_unlock(&db->state_lock);
    return RK_OK;
}
