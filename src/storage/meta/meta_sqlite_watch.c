/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches of the SQLite backend.
 *
 * Each watch is a cursor over the table of events. One thread, started with the first watch, sleeps
 * until a commit moved the revision past some cursor, reads a batch behind it, and calls back
 * without a lock. Nothing is queued in memory, so a slow callback costs disk, not memory, and
 * cannot make a gap: history a cursor still needs is not forgotten.
 *
 * Stopping waits for a batch under way, except from within the watch's own callback, where the
 * thread frees it afterwards.
 */
#include "base/log.h"
#include "storage/meta/meta_sqlite.h"

#define BATCH_MAX       64
#define BATCH_BYTES_MAX (4u << 20)

typedef struct batch {
    rk_meta_event events[BATCH_MAX];
    size_t n;
    int64_t rev; /* the cursor after it */
    int64_t seq;
} batch;

static void
watch_free(meta_watch *watch)
{
    rk_free(watch->prefix);
    rk_free(watch);
}

static rk_code
read_batch(meta_db *db, const meta_watch *watch, int64_t target, batch *out, rk_arena *arena,
           rk_err *err)
{
    sqlite3_stmt *stmt = db->r[META_R_EVENTS];
    rk_code code = RK_OK;
    int rc = SQLITE_ROW;

    rk_mutex_lock(&db->read_lock);
    sqlite3_bind_int64(stmt, 1, watch->rev);
    sqlite3_bind_int64(stmt, 2, watch->seq);
    sqlite3_bind_int64(stmt, 3, target);
    rk__meta_bind(stmt, 4, watch->low);
    rk__meta_bind(stmt, 5, watch->high);
    out->n = 0;
    while (code == RK_OK && out->n < BATCH_MAX && rk_arena_used(arena) < BATCH_BYTES_MAX &&
           (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        rk_meta_event *event = &out->events[out->n];
        code = rk__meta_row(&event->kv, stmt, arena, err);
        event->deleted = sqlite3_column_int(stmt, 6) != 0;
        out->rev = event->kv.mod_revision;
        out->seq = sqlite3_column_int64(stmt, 7);
        out->n += code == RK_OK;
    }
    if (rc == SQLITE_DONE) {
        out->rev = target;
        out->seq = INT64_MAX;
    } else if (rc != SQLITE_ROW) {
        code = rk__meta_fail(db, db->reader, "reading events", err);
    }
    sqlite3_reset(stmt);
    rk_mutex_unlock(&db->read_lock);
    return code;
}

/* Reads and delivers one batch; the cursor moves when all of it was. */
static rk_code
deliver(meta_db *db, meta_watch *watch, int64_t target, batch *b, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    if (!arena) {
        return rk_fail(err, RK_ENOMEM, "meta store: no memory for events");
    }
    rk_code code = read_batch(db, watch, target, b, arena, err);
    for (size_t i = 0; code == RK_OK && i < b->n; i++) {
        if (atomic_load_explicit(&watch->stopped, memory_order_relaxed)) {
            break;
        }
        watch->on_event(watch->user, &b->events[i], b->events[i].kv.mod_revision);
    }
    rk_arena_free(arena);
    return code;
}

static meta_watch *
find_behind_locked(meta_db *db)
{
    for (meta_watch *watch = db->watches; watch; watch = watch->next) {
        if (watch->rev < db->revision || (watch->rev == db->revision && watch->seq != INT64_MAX)) {
            return watch;
        }
    }
    return NULL;
}

static void
unlink_locked(meta_db *db, meta_watch *watch)
{
    meta_watch **at = &db->watches;
    while (*at && *at != watch) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = watch->next;
        watch->next = NULL;
    }
}

/* To the end of the list, so that each watch gets its turn. */
static void
to_back_locked(meta_db *db, meta_watch *watch)
{
    meta_watch **at = &db->watches;

    unlink_locked(db, watch);
    while (*at) {
        at = &(*at)->next;
    }
    *at = watch;
}

static void
serve_locked(meta_db *db, meta_watch *watch, batch *b)
{
    rk_err err = {0};
    int64_t target = db->revision;

    watch->running = true;
    rk_mutex_unlock(&db->state_lock);
    rk_code code = deliver(db, watch, target, b, &err);
    rk_mutex_lock(&db->state_lock);
    watch->running = false;
    if (watch->free_after) {
        watch_free(watch);
        return;
    }
    if (!atomic_load_explicit(&watch->stopped, memory_order_relaxed)) {
        to_back_locked(db, watch);
        if (code == RK_OK) {
            watch->rev = b->rev;
            watch->seq = b->seq;
        }
    }
    rk_cond_broadcast(&db->watch_idle);
    if (code != RK_OK) { /* nothing is skipped: the same events are read again */
        RK_LOG_W("meta", "watch could not read, trying again: error=%s", err.text);
        int64_t now = rk_clock_real()->monotonic_ns(rk_clock_real()->self);
        rk_cond_wait_until(&db->watch_wake, &db->state_lock, now + META_RETRY_NS);
    }
}

static void
watch_main(void *arg)
{
    meta_db *db = arg;
    batch b;

    rk_mutex_lock(&db->state_lock);
    while (!db->closing) {
        meta_watch *watch = find_behind_locked(db);
        if (watch) {
            serve_locked(db, watch, &b);
        } else {
            rk_cond_wait(&db->watch_wake, &db->state_lock);
        }
    }
    rk_mutex_unlock(&db->state_lock);
}

static rk_code
watch_add_locked(meta_db *db, meta_watch *watch, int64_t from, rk_err *err)
{
    if (from != 0 && from <= db->compacted) {
        return rk_fail(err, RK_EINVAL,
                       "meta watch: revision %lld was compacted away, the oldest is %lld",
                       (long long)from, (long long)db->compacted + 1);
    }
    watch->rev = from == 0 ? db->revision : from - 1;
    watch->seq = INT64_MAX;
    if (!db->watch_started) {
        RK_RET(rk_thread_start(&db->watch_thread, "meta-watch", watch_main, db));
        db->watch_started = true;
    }
    watch->next = db->watches;
    db->watches = watch;
    rk_cond_signal(&db->watch_wake);
    return RK_OK;
}

rk_code
rk__meta_sqlite_watch_start(rk_meta_watch **out, rk_meta *meta, rk_str prefix, int64_t from,
                            void (*on_event)(void *user, const rk_meta_event *event,
                                             int64_t revision),
                            void *user, rk_err *err)
{
    meta_db *db = meta_db_of(meta);

    meta_watch *watch = rk_alloc_zero(1, sizeof(*watch));
    char *bounds = rk_alloc(prefix.len + RK_META_KEY_MAX + 1);
    if (!watch || !bounds) {
        rk_free(watch);
        rk_free(bounds);
        return rk_fail(err, RK_ENOMEM, "meta watch: no memory");
    }
    if (prefix.len > 0) {
        memcpy(bounds, prefix.data, prefix.len);
    }
    watch->base.meta = meta;
    watch->prefix = bounds;
    watch->low = (rk_str){bounds, prefix.len};
    watch->high = rk__meta_prefix_end(watch->low, (uint8_t *)bounds + prefix.len);
    watch->on_event = on_event;
    watch->user = user;
    *out = &watch->base; /* before the first callback can run */
    rk_mutex_lock(&db->state_lock);
    rk_code code = watch_add_locked(db, watch, from, err);
    rk_mutex_unlock(&db->state_lock);
    if (code != RK_OK) {
        *out = NULL;
        watch_free(watch);
    }
    return code;
}

void
rk__meta_sqlite_watch_stop(rk_meta_watch *base)
{
    meta_watch *watch = RK_CONTAINER(base, meta_watch, base);
    meta_db *db = meta_db_of(base->meta);

    rk_mutex_lock(&db->state_lock);
    atomic_store_explicit(&watch->stopped, true, memory_order_relaxed);
    unlink_locked(db, watch);
    bool own = watch->running && pthread_equal(pthread_self(), db->watch_thread);
    watch->free_after = own;
    while (!own && watch->running) {
        rk_cond_wait(&db->watch_idle, &db->state_lock);
    }
    rk_mutex_unlock(&db->state_lock);
    if (!own) {
        watch_free(watch);
    }
}
