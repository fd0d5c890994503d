/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite meta store: transactions by table, limits, watches without gaps, leases on a clock of
 * ours, reopening, damage, and a disk that fails under SQLite.
 */
#include <sqlite3.h>

#include "base/log.h"
#include "base/thread.h"
#include "storage/meta/meta_private.h"
#include "storage_test.h"

static char path[96];
static _Atomic int64_t fake_ns;

static int64_t
fake_monotonic(void *self)
{
    RK_UNUSED(self);
    return fake_ns;
}

static rk_meta *
open_meta(void)
{
    static rk_clock clock;
    static rk_env env;
    rk_meta *meta = NULL;
    clock = *rk_clock_real();
    clock.monotonic_ns = fake_monotonic;
    env = *rk_env_real();
    env.clock = &clock;
    assert_ok(rk_meta_open_sqlite(&meta, path, &env, &test_err));
    return meta;
}

static int
setup(void **state)
{
    int rc = test_setup(state);
    snprintf(path, sizeof(path), "%s/data/meta.db", test_root);
    fake_ns = INT64_C(1000000000);
    return rc;
}

static void
put(rk_meta *meta, const char *key, const char *value)
{
    assert_ok(rk_meta_put(meta, rk_str_from(key), rk_str_from(value), &test_err));
}

/* "k1=v1 k2=v2 ..." of all keys under |prefix|. */
static const char *
dump(rk_meta *meta, const char *prefix)
{
    static char text[4096];
    rk_meta_range range;
    size_t len = 0;
    rk_arena *arena = rk_arena_new(0);

    text[0] = '\0';
    assert_ok(rk_meta_list(meta, rk_str_from(prefix), 0, &range, arena, &test_err));
    for (size_t i = 0; i < range.n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s=%.*s", i ? " " : "",
                                RK_STR_ARG(range.kvs[i].key), RK_STR_ARG(range.kvs[i].value));
    }
    rk_arena_free(arena);
    return text;
}

static int64_t
revision(rk_meta *meta)
{
    rk_meta_txn txn = {0};
    rk_meta_result result;
    assert_ok(rk_meta_do(meta, &txn, &result, &test_err));
    return result.revision;
}

/* ---- transactions ---- */

/* The store holds a=1 (created at 2, put again at 3, version 2) and b=2 (at 4). */
static const struct compare_case {
    const char *key;
    rk_meta_target target;
    rk_meta_cmp cmp;
    const char *value;
    int64_t number;
    bool holds;
} compare_cases[] = {
    {"a", RK_META_VALUE, RK_META_EQUAL, "1", 0, true},
    {"a", RK_META_VALUE, RK_META_EQUAL, "2", 0, false},
    {"a", RK_META_VALUE, RK_META_NOT_EQUAL, "2", 0, true},
    {"a", RK_META_VALUE, RK_META_GREATER, "0", 0, true},
    {"a", RK_META_VALUE, RK_META_LESS, "10", 0, true},
    {"a", RK_META_VALUE, RK_META_LESS, "1", 0, false},
    {"x", RK_META_VALUE, RK_META_EQUAL, "", 0, false},
    {"x", RK_META_VALUE, RK_META_NOT_EQUAL, "1", 0, false},
    {"a", RK_META_VERSION, RK_META_EQUAL, "", 2, true},
    {"a", RK_META_VERSION, RK_META_GREATER, "", 2, false},
    {"b", RK_META_VERSION, RK_META_EQUAL, "", 1, true},
    {"x", RK_META_VERSION, RK_META_EQUAL, "", 0, true},
    {"x", RK_META_VERSION, RK_META_GREATER, "", 0, false},
    {"a", RK_META_CREATE_REVISION, RK_META_EQUAL, "", 2, true},
    {"a", RK_META_MOD_REVISION, RK_META_EQUAL, "", 3, true},
    {"a", RK_META_MOD_REVISION, RK_META_LESS, "", 4, true},
    {"b", RK_META_MOD_REVISION, RK_META_NOT_EQUAL, "", 4, false},
    {"x", RK_META_CREATE_REVISION, RK_META_EQUAL, "", 0, true},
    {"x", RK_META_MOD_REVISION, RK_META_GREATER, "", -1, true},
};

static void
test_compares(void **state)
{
    rk_meta *meta = open_meta();
    RK_UNUSED(state);
    put(meta, "a", "0");
    put(meta, "a", "1");
    put(meta, "b", "2");
    for (size_t i = 0; i < RK_COUNT(compare_cases); i++) {
        const struct compare_case *c = &compare_cases[i];
        rk_meta_compare compare = {.key = rk_str_from(c->key),
                                   .target = c->target,
                                   .cmp = c->cmp,
                                   .value = rk_str_from(c->value),
                                   .number = c->number};
        rk_meta_txn txn = {.compares = &compare, .compares_len = 1};
        rk_meta_result result;
        assert_ok(rk_meta_do(meta, &txn, &result, &test_err));
        if (result.succeeded != c->holds) {
            fail_msg("compare case %zu: got %d", i, result.succeeded);
        }
        assert_int_equal(result.revision, 4);
    }
    rk_meta_close(meta);
}

static void
test_transactions(void **state)
{
    rk_meta *meta = open_meta();
    rk_meta_result result;
    rk_meta_kv kv;
    bool found = false;
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    assert_int_equal(revision(meta), 1);
    rk_meta_compare absent = {.key = RK_STR("lock"), .target = RK_META_VERSION};
    rk_meta_op take[] = {{.kind = RK_META_PUT, .key = RK_STR("lock"), .value = RK_STR("me")},
                         {.kind = RK_META_PUT, .key = RK_STR("n/1"), .value = RK_STR("x")}};
    rk_meta_op lose[] = {{.kind = RK_META_PUT, .key = RK_STR("lost"), .value = RK_STR("")}};
    rk_meta_txn txn = {&absent, 1, take, 2, lose, 1};
    assert_ok(rk_meta_do(meta, &txn, &result, &test_err));
    assert_true(result.succeeded);
    assert_int_equal(result.revision, 2);
    assert_ok(rk_meta_do(meta, &txn, &result, &test_err));
    assert_false(result.succeeded);
    assert_int_equal(result.revision, 3);
    assert_string_equal(dump(meta, ""), "lock=me lost= n/1=x");

    assert_ok(rk_meta_delete(meta, RK_STR("none"), &test_err)); /* changes nothing: no revision */
    assert_int_equal(revision(meta), 3);
    put(meta, "n/2", "y");
    put(meta, "n/\xff", "z");
    put(meta, "n0", "beyond");
    rk_meta_op drop[] = {{.kind = RK_META_DELETE_PREFIX, .key = RK_STR("n/")},
                         {.kind = RK_META_DELETE, .key = RK_STR("lost")}};
    rk_meta_txn txn2 = {.then_ops = drop, .then_len = 2};
    assert_ok(rk_meta_do(meta, &txn2, &result, &test_err));
    assert_int_equal(result.revision, 7);
    assert_string_equal(dump(meta, ""), "lock=me n0=beyond");

    put(meta, "lock", "you");
    assert_ok(rk_meta_get(meta, RK_STR("lock"), &kv, &found, arena, &test_err));
    assert_true(found);
    assert_int_equal(kv.create_revision, 2);
    assert_int_equal(kv.mod_revision, 8);
    assert_int_equal(kv.version, 2);
    assert_ok(rk_meta_delete(meta, RK_STR("lock"), &test_err));
    put(meta, "lock", "again");
    assert_ok(rk_meta_get(meta, RK_STR("lock"), &kv, &found, arena, &test_err));
    assert_int_equal(kv.create_revision, 10);
    assert_int_equal(kv.version, 1);
    assert_ok(rk_meta_get(meta, RK_STR("gone"), &kv, &found, arena, &test_err));
    assert_false(found);

    put(meta, "\xff\xff", "last");
    assert_string_equal(dump(meta, "\xff"), "\xff\xff=last");
    rk_meta_op all[] = {{.kind = RK_META_DELETE_PREFIX, .key = RK_STR("")}};
    rk_meta_txn txn3 = {.then_ops = all, .then_len = 1};
    assert_ok(rk_meta_do(meta, &txn3, &result, &test_err));
    assert_string_equal(dump(meta, ""), "");
    rk_arena_free(arena);
    rk_meta_close(meta);
}

static void
test_limits(void **state)
{
    rk_meta *meta = open_meta();
    rk_meta_result result;
    static char big[(1 << 20) + 1];
    char key[1100];
    RK_UNUSED(state);
    memset(key, 'k', sizeof(key));
    assert_code(rk_meta_put(meta, (rk_str){key, 1025}, RK_STR(""), &test_err), RK_EINVAL);
    assert_ok(rk_meta_put(meta, (rk_str){key, 1024}, RK_STR(""), &test_err));
    assert_code(rk_meta_put(meta, RK_STR(""), RK_STR(""), &test_err), RK_EINVAL);
    assert_code(rk_meta_put(meta, RK_STR("a\0b"), RK_STR(""), &test_err), RK_EINVAL);
    assert_code(rk_meta_put(meta, RK_STR("v"), (rk_str){big, sizeof(big)}, &test_err),
                RK_ETOO_LARGE);
    assert_ok(rk_meta_put(meta, RK_STR("v"), (rk_str){big, sizeof(big) - 1}, &test_err));
    rk_meta_op twice[] = {{.kind = RK_META_PUT, .key = RK_STR("d")},
                          {.kind = RK_META_PUT, .key = RK_STR("c")},
                          {.kind = RK_META_DELETE, .key = RK_STR("d")}};
    rk_meta_txn txn = {.then_ops = twice, .then_len = 3};
    assert_code(rk_meta_do(meta, &txn, &result, &test_err), RK_EINVAL);
    rk_meta_op under[] = {{.kind = RK_META_PUT, .key = RK_STR("p/q")},
                          {.kind = RK_META_DELETE_PREFIX, .key = RK_STR("p/")}};
    txn = (rk_meta_txn){.else_ops = under, .else_len = 2};
    assert_code(rk_meta_do(meta, &txn, &result, &test_err), RK_EINVAL);
    static rk_meta_op many[4097];
    static char names[4097][8];
    for (size_t i = 0; i < RK_COUNT(many); i++) {
        snprintf(names[i], sizeof(names[i]), "m%05zu", i);
        many[i] = (rk_meta_op){.kind = RK_META_PUT, .key = {names[i], 6}};
    }
    txn = (rk_meta_txn){.then_ops = many, .then_len = 4097};
    assert_code(rk_meta_do(meta, &txn, &result, &test_err), RK_ETOO_LARGE);
    txn.then_len = 4096;
    assert_ok(rk_meta_do(meta, &txn, &result, &test_err));
    assert_int_equal(result.revision, 4);
    rk_arena *arena = rk_arena_new(0);
    rk_meta_range range;
    assert_ok(rk_meta_list(meta, RK_STR("m"), 10, &range, arena, &test_err));
    assert_int_equal(range.n, 10);
    assert_true(rk_str_is(range.kvs[9].key, "m00009"));
    assert_ok(rk_meta_list(meta, RK_STR("m"), 0, &range, arena, &test_err));
    assert_int_equal(range.n, 4096);
    assert_int_equal(range.revision, 4);
    rk_arena_free(arena);
    rk_meta_close(meta);
}

static void
test_reopen(void **state)
{
    RK_UNUSED(state);
    for (int i = 0; i < 3; i++) {
        rk_meta *meta = open_meta();
        assert_int_equal(revision(meta), i + 1);
        put(meta, "k", "v");
        rk_meta_close(meta);
    }
    /* A crash: what is on disk when the process vanishes is file and journal; open them elsewhere.
     */
    rk_meta *meta = open_meta();
    char copy[128];
    char from[128];
    put(meta, "acked", "yes");
    snprintf(copy, sizeof(copy), "%s/copy.db", test_root);
    size_t len = 0;
    uint8_t *data = test_file_read(path, &len);
    test_file_write(copy, data, len);
    rk_free(data);
    snprintf(from, sizeof(from), "%s-wal", path);
    data = test_file_read(from, &len);
    snprintf(copy, sizeof(copy), "%s/copy.db-wal", test_root);
    test_file_write(copy, data, len);
    rk_free(data);
    rk_meta_close(meta);
    snprintf(path, sizeof(path), "%s/copy.db", test_root);
    meta = open_meta();
    assert_string_equal(dump(meta, ""), "acked=yes k=v");
    rk_meta_close(meta);
}

/* What cannot be read is an error, never a first start. */
static void
test_never_a_first_start(void **state)
{
    rk_meta *meta = open_meta();
    rk_disk_faulty *faulty = rk_disk_faulty_new(rk_disk_real());
    rk_env env = *rk_env_real();
    char wal[128];
    struct stat info;

    RK_UNUSED(state);
    put(meta, "k", "v");
    rk_meta_close(meta);
    env.disk = rk_disk_faulty_disk(faulty);
    for (uint64_t nth = 1; nth < 3; nth++) {
        rk_disk_faulty_fail(faulty, "open", nth, UINT64_MAX, RK_EIO);
        rk_code code = rk_meta_open_sqlite(&meta, path, &env, &test_err);
        if (code == RK_OK) {
            rk_meta_close(meta);
            break;
        }
        assert_int_equal(code, RK_EIO);
    }
    rk_disk_faulty_free(faulty);
    size_t len = 0;
    uint8_t *data = test_file_read(path, &len);
    test_file_write(path, "", 0);
    assert_code(rk_meta_open_sqlite(&meta, path, rk_env_real(), &test_err), RK_ECORRUPT);
    test_file_write(path, "not a database, but some text", 29);
    assert_code(rk_meta_open_sqlite(&meta, path, rk_env_real(), &test_err), RK_ECORRUPT);
    test_file_write(path, data, len / 2);
    assert_code(rk_meta_open_sqlite(&meta, path, rk_env_real(), &test_err), RK_ECORRUPT);
    unlink(path);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    test_file_write(wal, "x", 1);
    assert_code(rk_meta_open_sqlite(&meta, path, rk_env_real(), &test_err), RK_ECORRUPT);
    assert_int_not_equal(stat(path, &info), 0);
    unlink(wal);
    test_file_write(path, data, len);
    meta = open_meta();
    assert_string_equal(dump(meta, ""), "k=v");
    rk_meta_close(meta);
    rk_free(data);
}

/* ---- watch ---- */

typedef struct seen {
    rk_meta *meta;
    rk_meta_watch *watch;
    _Atomic int64_t events;
    _Atomic int64_t last_revision;
    _Atomic bool bad;
    bool stop_self;
    char text[4096];
    size_t text_len;
} seen;

static void
on_event(void *user, const rk_meta_event *event, int64_t rev)
{
    seen *s = user;
    if (rev < s->last_revision || event->kv.mod_revision != rev) {
        s->bad = true;
    }
    s->last_revision = rev;
    if (s->text_len < sizeof(s->text) - 100) {
        s->text_len +=
            (size_t)snprintf(s->text + s->text_len, sizeof(s->text) - s->text_len,
                             "%lld:%s%.*s=%.*s ", (long long)rev, event->deleted ? "-" : "",
                             RK_STR_ARG(event->kv.key), RK_STR_ARG(event->kv.value));
    }
    if (s->stop_self) {
        rk_meta_watch_stop(s->watch);
    }
    s->events++;
}

static void
wait_events(seen *s, int64_t n)
{
    for (int i = 0; i < 60000 && s->events < n; i++) {
        usleep(1000);
    }
    assert_int_equal(s->events, n);
    assert_false(s->bad);
}

static void
test_watch(void **state)
{
    rk_meta *meta = open_meta();
    static seen now;
    static seen past;
    static seen self;
    rk_meta_watch *watch = NULL;

    RK_UNUSED(state);
    memset(&now, 0, sizeof(now));
    memset(&past, 0, sizeof(past));
    memset(&self, 0, sizeof(self));
    put(meta, "a/1", "x");
    put(meta, "b/1", "no");
    put(meta, "a/2", "y");
    assert_ok(rk_meta_watch_start(&now.watch, meta, RK_STR("a/"), 0, on_event, &now, &test_err));
    assert_ok(rk_meta_watch_start(&past.watch, meta, RK_STR("a/"), 2, on_event, &past, &test_err));
    self.stop_self = true;
    assert_ok(rk_meta_watch_start(&self.watch, meta, RK_STR(""), 1, on_event, &self, &test_err));
    rk_meta_op ops[] = {{.kind = RK_META_PUT, .key = RK_STR("a/3"), .value = RK_STR("z")},
                        {.kind = RK_META_DELETE_PREFIX, .key = RK_STR("a/1")}};
    rk_meta_txn txn = {.then_ops = ops, .then_len = 2};
    assert_ok(rk_meta_do(meta, &txn, NULL, &test_err));
    wait_events(&now, 2);
    wait_events(&past, 4);
    wait_events(&self, 1);
    assert_string_equal(now.text, "5:a/3=z 5:-a/1= ");
    assert_string_equal(past.text, "2:a/1=x 4:a/2=y 5:a/3=z 5:-a/1= ");
    rk_meta_watch_stop(now.watch);
    rk_meta_watch_stop(past.watch);
    put(meta, "a/4", "unseen");
    assert_code(rk_meta_watch_start(&watch, meta, RK_STR(""), -1, on_event, &now, &test_err),
                RK_EINVAL);
    usleep(20000);
    assert_int_equal(now.events, 2);
    rk_meta_close(meta);

    meta = open_meta(); /* history survives */
    memset(&past, 0, sizeof(past));
    assert_ok(rk_meta_watch_start(&past.watch, meta, RK_STR("a/"), 4, on_event, &past, &test_err));
    wait_events(&past, 4);
    assert_string_equal(past.text, "4:a/2=y 5:a/3=z 5:-a/1= 6:a/4=unseen ");
    rk_meta_watch_stop(past.watch);
    rk_meta_close(meta);
}

typedef struct writer {
    rk_meta *meta;
    int id;
} writer;

static void
write_many(void *arg)
{
    writer *w = arg;
    rk_err err = {0};
    char key[32];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "w/%d/%d", w->id, i % 10);
        if (rk_meta_put(w->meta, rk_str_from(key), RK_STR("v"), &err) != RK_OK) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
    }
}

/* Writers at work, watches that start at any time from revision 1: each sees every revision once.
 */
static void
test_watch_without_gaps(void **state)
{
    rk_meta *meta = open_meta();
    static seen s[3];
    rk_thread threads[2];
    writer writers[2];

    RK_UNUSED(state);
    memset(s, 0, sizeof(s));
    for (int i = 0; i < 2; i++) {
        writers[i] = (writer){meta, i};
        assert_int_equal(rk_thread_start(&threads[i], "w", write_many, &writers[i]), RK_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_ok(
            rk_meta_watch_start(&s[i].watch, meta, RK_STR("w/"), 1, on_event, &s[i], &test_err));
        usleep(20000);
    }
    for (int i = 0; i < 2; i++) {
        rk_thread_join(threads[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        wait_events(&s[i], 600);
        assert_int_equal(s[i].last_revision, 601);
        rk_meta_watch_stop(s[i].watch);
    }
    rk_meta_close(meta);
}

/* The history is bounded by bytes: old revisions go, and a watch from one of them is refused. */
static void
test_history_bound(void **state)
{
    rk_meta *meta = open_meta();
    static char big[1 << 20];
    rk_meta_watch *watch = NULL;
    static seen s;

    RK_UNUSED(state);
    memset(&s, 0, sizeof(s));
    for (int i = 0; i < 70; i++) {
        assert_ok(rk_meta_put(meta, RK_STR("big"), (rk_str){big, sizeof(big)}, &test_err));
    }
    assert_code(rk_meta_watch_start(&watch, meta, RK_STR(""), 2, on_event, &s, &test_err),
                RK_EINVAL);
    assert_non_null(strstr(test_err.text, "compacted"));
    assert_ok(rk_meta_watch_start(&s.watch, meta, RK_STR(""), 61, on_event, &s, &test_err));
    wait_events(&s, 11);
    rk_meta_watch_stop(s.watch);
    rk_meta_close(meta);
}

/* ---- leases ---- */

static void
wait_dump(rk_meta *meta, const char *want)
{
    for (int i = 0; i < 60000 && strcmp(dump(meta, ""), want) != 0; i++) {
        usleep(1000);
    }
    assert_string_equal(dump(meta, ""), want);
}

static void
move_clock(rk_meta *meta, int64_t ms)
{
    fake_ns += ms * 1000000;
    rk__meta_clock_changed(meta);
}

static void
put_leased(rk_meta *meta, const char *key, int64_t lease, rk_code want)
{
    rk_meta_op op = {.kind = RK_META_PUT, .key = rk_str_from(key), .lease = lease};
    rk_meta_txn txn = {.then_ops = &op, .then_len = 1};
    assert_code(rk_meta_do(meta, &txn, NULL, &test_err), want);
}

static void
test_leases(void **state)
{
    rk_meta *meta = open_meta();
    static seen s;
    int64_t a = 0;
    int64_t b = 0;

    RK_UNUSED(state);
    memset(&s, 0, sizeof(s));
    assert_code(rk_meta_lease_grant(meta, 0, &a, &test_err), RK_EINVAL);
    assert_ok(rk_meta_lease_grant(meta, 10000, &a, &test_err));
    assert_ok(rk_meta_lease_grant(meta, 60000, &b, &test_err));
    put_leased(meta, "a/1", a, RK_OK);
    put_leased(meta, "a/2", a, RK_OK);
    put_leased(meta, "b", b, RK_OK);
    put_leased(meta, "c", 12345, RK_EKEY_NOT_FOUND);
    put(meta, "a/2", "kept"); /* put without the lease detaches it */
    assert_ok(rk_meta_watch_start(&s.watch, meta, RK_STR(""), 0, on_event, &s, &test_err));
    move_clock(meta, 9000);
    assert_ok(rk_meta_lease_keep_alive(meta, a, &test_err));
    move_clock(meta, 9000);
    assert_string_equal(dump(meta, ""), "a/1= a/2=kept b=");
    move_clock(meta, 2000);
    assert_code(rk_meta_lease_keep_alive(meta, a, &test_err), RK_EKEY_NOT_FOUND);
    wait_dump(meta, "a/2=kept b=");
    wait_events(&s, 1);
    assert_string_equal(s.text, "6:-a/1= ");
    put_leased(meta, "late", a, RK_EKEY_NOT_FOUND);
    rk_meta_watch_stop(s.watch);
    rk_meta_close(meta);

    meta = open_meta(); /* b starts over with its full time */
    move_clock(meta, 59000);
    assert_ok(rk_meta_lease_keep_alive(meta, b, &test_err));
    assert_ok(rk_meta_lease_revoke(meta, b, &test_err));
    assert_string_equal(dump(meta, ""), "a/2=kept");
    assert_code(rk_meta_lease_revoke(meta, b, &test_err), RK_EKEY_NOT_FOUND);
    assert_code(rk_meta_lease_keep_alive(meta, b, &test_err), RK_EKEY_NOT_FOUND);
    rk_meta_close(meta);
}

/* ---- a disk that fails under SQLite ---- */

static sqlite3_vfs shim;
static sqlite3_vfs *real_vfs;
static const sqlite3_io_methods
    *real_methods; /* of any file: they share the functions we replace */
static const sqlite3_io_methods *seen_methods[4];
static sqlite3_io_methods methods[4];
static int fail_sync;
static int fail_write;

static int
shim_sync(sqlite3_file *file, int flags)
{
    return fail_sync ? SQLITE_IOERR_FSYNC : real_methods->xSync(file, flags);
}

static int
shim_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
    return fail_write ? fail_write : real_methods->xWrite(file, data, len, at);
}

static int
shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    RK_UNUSED(vfs);
    int rc = real_vfs->xOpen(real_vfs, name, file, flags, out);
    for (size_t i = 0; rc == SQLITE_OK && file->pMethods && i < RK_COUNT(methods); i++) {
        if (!seen_methods[i]) {
            seen_methods[i] = real_methods = file->pMethods;
            methods[i] = *file->pMethods;
            methods[i].xSync = shim_sync;
            methods[i].xWrite = shim_write;
        }
        if (file->pMethods == seen_methods[i]) {
            file->pMethods = &methods[i];
            break;
        }
    }
    return rc;
}

static void
test_failing_disk(void **state)
{
    RK_UNUSED(state);
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "shim";
    shim.xOpen = shim_open;
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
    rk_meta *meta = open_meta();
    put(meta, "a", "1");
    fail_write = SQLITE_FULL;
    assert_code(rk_meta_put(meta, RK_STR("b"), RK_STR("2"), &test_err), RK_EDISK_FULL);
    assert_string_equal(dump(meta, ""), "a=1"); /* reads work */
    fail_write = SQLITE_IOERR_WRITE;
    assert_code(rk_meta_put(meta, RK_STR("b"), RK_STR("2"), &test_err), RK_EIO);
    fail_write = 0;
    put(meta, "b", "2"); /* heals */
    assert_int_equal(revision(meta), 3);
    fail_sync = 1;
    assert_code(rk_meta_put(meta, RK_STR("c"), RK_STR("3"), &test_err), RK_EIO);
    fail_sync = 0;
    assert_code(rk_meta_put(meta, RK_STR("c"), RK_STR("3"), &test_err), RK_EIO); /* poisoned */
    assert_non_null(strstr(test_err.text, "restart"));
    assert_string_equal(dump(meta, ""), "a=1 b=2");
    rk_meta_close(meta);
    meta = open_meta();
    assert_string_equal(dump(meta, "a"), "a=1");
    put(meta, "d", "4");
    rk_meta_close(meta);
    sqlite3_vfs_unregister(&shim);
    sqlite3_vfs_register(real_vfs, 1);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, test_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_compares),
        CASE(test_transactions),
        CASE(test_limits),
        CASE(test_reopen),
        CASE(test_watch),
        CASE(test_never_a_first_start),
        CASE(test_watch_without_gaps),
        CASE(test_history_bound),
        CASE(test_leases),
        CASE(test_failing_disk),
    };
    rk_log_set_level(RK_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
