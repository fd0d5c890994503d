/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log on a healthy disk: order, group commit, rolling, truncation and reuse, readers beside
 * writers, fencing, damage.
 */
#include "storage/wal/wal.h"

#include "base/log.h"
#include "base/thread.h"
#include "base/util.h"
#include "storage_test.h"

static char path[96];

static int
setup(void **state)
{
    int rc = test_setup(state);
    snprintf(path, sizeof(path), "%s/log", test_root);
    return rc;
}

static rk_wal *
open_log(uint64_t segment_bytes)
{
    rk_wal *wal = NULL;
    rk_wal_options options;
    rk_wal_options_init(&options);
    options.segment_bytes = segment_bytes;
    assert_ok(rk_wal_open_local(&wal, path, &options, rk_env_real(), &test_err));
    return wal;
}

/* A record's content follows from its lsn and length, so that a reader can check it. */
static void
fill(char *buf, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (char)(seed * 131 + i * 7 + (i >> 8));
    }
}

static void
append(rk_wal *wal, size_t len)
{
    uint64_t lsn = 0;
    uint64_t want = rk_wal_next_lsn(wal);
    char *buf = rk_alloc(len + 1);
    assert_non_null(buf);
    fill(buf, len, want);
    rk_str parts[3] = {{buf, len / 3}, {NULL, 0}, {buf + len / 3, len - len / 3}};
    assert_ok(rk_wal_append(wal, parts, 3, NULL, NULL, &lsn, &test_err));
    assert_int_equal(lsn, want);
    rk_free(buf);
}

/* Reads from |lsn| to the end, checks content, and returns the lsn after the last. */
static uint64_t
check_from(rk_wal *wal, uint64_t lsn)
{
    rk_wal_reader *reader = NULL;
    rk_str record;
    uint64_t got = 0;
    rk_code code;

    assert_ok(rk_wal_read_from(&reader, wal, lsn, &test_err));
    while ((code = rk_wal_read(reader, &got, &record, &test_err)) == RK_OK) {
        assert_int_equal(got, lsn);
        char *want = rk_alloc(record.len + 1);
        assert_non_null(want);
        fill(want, record.len, lsn);
        assert_memory_equal(record.data, want, record.len);
        rk_free(want);
        lsn++;
    }
    assert_code(code, RK_EEOF);
    rk_wal_reader_close(reader);
    return lsn;
}

static void
test_append_read_reopen(void **state)
{
    static const size_t lens[] = {0, 1, 7, 8, 9, 4096, 16384, 50000, 200000, 3};
    uint64_t next = 1;
    RK_UNUSED(state);
    for (int round = 0; round < 4; round++) {
        rk_wal *wal = open_log(128 << 10);
        assert_int_equal(rk_wal_epoch(wal), round + 1);
        assert_int_equal(check_from(wal, 1), next);
        for (size_t i = 0; i < RK_COUNT(lens); i++, next++) {
            append(wal, lens[i]);
        }
        assert_int_equal(check_from(wal, 1), next);
        assert_int_equal(check_from(wal, next - 3), next);
        assert_int_equal(check_from(wal, next), next);
        rk_wal_close(wal);
    }
}

static void
test_truncate_and_recycle(void **state)
{
    rk_wal *wal = open_log(64 << 10);
    rk_wal_stats stats;
    rk_wal_reader *reader = NULL;
    rk_wal_reader *late = NULL;
    rk_str record;
    uint64_t lsn = 0;

    RK_UNUSED(state);
    for (int i = 0; i < 100; i++) {
        append(wal, 5000);
    }
    rk_wal_stats_get(wal, &stats);
    assert_int_equal(stats.next_lsn, 101);
    assert_true(stats.bytes_on_disk >= 500000);
    assert_ok(rk_wal_read_from(&reader, wal, 1, &test_err)); /* has the first file open */
    assert_ok(rk_wal_read(reader, &lsn, &record, &test_err));
    assert_ok(rk_wal_read_from(&late, wal, 1, &test_err)); /* has not */
    assert_ok(rk_wal_truncate(wal, 60, &test_err));
    rk_wal_stats_get(wal, &stats);
    assert_true(stats.first_lsn <= 60 && stats.first_lsn > 40);
    assert_code(rk_wal_read(late, &lsn, &record, &test_err), RK_EKEY_NOT_FOUND);
    rk_wal_reader_close(late);
    assert_code(rk_wal_read_from(&late, wal, 1, &test_err), RK_EKEY_NOT_FOUND);
    assert_int_equal(check_from(wal, stats.first_lsn), 101);
    for (int i = 0; i < 30; i++) { /* uses the spare */
        append(wal, 5000);
    }
    assert_ok(rk_wal_truncate(wal, 10, &test_err)); /* monotonic: no effect */
    assert_code(rk_wal_truncate(wal, 1000, &test_err), RK_EINVAL);
    uint64_t first = stats.first_lsn;
    assert_int_equal(check_from(wal, first), 131);
    rk_wal_reader_close(reader);
    rk_wal_close(wal);

    wal = open_log(64 << 10);
    assert_int_equal(check_from(wal, first), 131);
    for (int round = 0; round < 40; round++) { /* each file lives many lives */
        append(wal, 300 * (size_t)(round % 7));
        append(wal, 30000);
        assert_ok(rk_wal_truncate(wal, rk_wal_next_lsn(wal) - 2, &test_err));
        rk_wal_stats_get(wal, &stats);
        assert_true(stats.bytes_on_disk <= 5 * (64 << 10));
        if (round % 5 == 0) {
            rk_wal_close(wal);
            wal = open_log(64 << 10);
            rk_wal_stats_get(wal, &stats);
        }
        assert_int_equal(check_from(wal, stats.first_lsn), rk_wal_next_lsn(wal));
    }
    rk_wal_close(wal);
}

/* ---- a truncation while the next file is made of the spare ---- */

static rk_wal *meddled; /* truncated by the next write of a file's header */
static uint64_t meddled_upto;

static rk_code
write_and_truncate(rk_disk *d, rk_file *f, uint64_t offset, const void *buf, size_t len,
                   rk_err *err)
{
    rk_wal *wal = offset == 0 ? meddled : NULL;

    if (wal) {
        rk_err other = {0};
        meddled = NULL;
        assert_ok(rk_wal_truncate(wal, meddled_upto, &other));
    }
    return rk_disk_real()->write(d, f, offset, buf, len, err);
}

static void
test_truncate_while_rolling(void **state)
{
    rk_disk disk = *rk_disk_real();
    rk_env env = *rk_env_real();
    rk_wal_options options;
    rk_wal *wal = NULL;
    rk_wal_stats stats;

    RK_UNUSED(state);
    disk.write = write_and_truncate;
    env.disk = &disk;
    rk_wal_options_init(&options);
    options.segment_bytes = 64 << 10;
    assert_ok(rk_wal_open_local(&wal, path, &options, &env, &test_err));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3; i++) { /* a file each */
            append(wal, 40000);
        }
        assert_ok(rk_wal_truncate(wal, rk_wal_next_lsn(wal) - 2, &test_err)); /* leaves a spare */
        meddled_upto = rk_wal_next_lsn(wal) - 1;
        meddled = wal;
        append(wal, 40000); /* rolls: takes the spare, and another file becomes one meanwhile */
        assert_null(meddled);
        append(wal, 40000); /* takes that */
        rk_wal_stats_get(wal, &stats);
        assert_int_equal(check_from(wal, stats.first_lsn), rk_wal_next_lsn(wal));
        if (round % 3 == 0) {
            uint64_t next = rk_wal_next_lsn(wal);
            rk_wal_close(wal);
            assert_ok(rk_wal_open_local(&wal, path, &options, &env, &test_err));
            assert_int_equal(rk_wal_next_lsn(wal), next);
            assert_int_equal(check_from(wal, stats.first_lsn), next);
        }
    }
    rk_wal_close(wal);
}

/* A reader whose next file was truncated away says so. */
static void
test_reader_overtaken(void **state)
{
    rk_wal *wal = open_log(64 << 10);
    rk_wal_reader *reader = NULL;
    rk_str record;
    uint64_t lsn = 0;

    RK_UNUSED(state);
    for (int i = 0; i < 40; i++) {
        append(wal, 10000);
    }
    assert_ok(rk_wal_read_from(&reader, wal, 1, &test_err));
    assert_ok(rk_wal_read(reader, &lsn, &record, &test_err));
    assert_ok(rk_wal_truncate(wal, 40, &test_err));
    assert_code(rk_wal_read(reader, &lsn, &record, &test_err), RK_EKEY_NOT_FOUND);
    rk_wal_reader_close(reader);
    rk_wal_close(wal);
}

/* ---- group commit ---- */

#define THREADS    8
#define PER_THREAD 200

typedef struct crowd {
    rk_wal *wal;
    _Atomic uint64_t last_ordered; /* the callbacks come in lsn order */
    _Atomic int stop;
    uint64_t lsns[THREADS][PER_THREAD];
    uint64_t read_lsn;
} crowd;

typedef struct worker {
    crowd *crowd;
    int id;
} worker;

static void
on_order(void *user, uint64_t lsn)
{
    crowd *c = user;
    if (atomic_exchange(&c->last_ordered, lsn) != lsn - 1) {
        fprintf(stderr, "order broken at %llu\n", (unsigned long long)lsn);
        abort();
    }
}

static void
work(void *arg)
{
    worker *w = arg;
    rk_err err = {0};
    for (uint32_t i = 0; i < PER_THREAD; i++) {
        uint32_t words[2] = {(uint32_t)w->id, i};
        char body[3000];
        memset(body, w->id, sizeof(body));
        rk_str parts[2] = {{(const char *)words, sizeof(words)}, {body, i * 10}};
        if (rk_wal_append(w->crowd->wal, parts, 2, on_order, w->crowd, &w->crowd->lsns[w->id][i],
                          &err) != RK_OK) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
    }
}

/* Follows the log while it is written: never a gap, never a wrong byte. */
static void
follow(void *arg)
{
    crowd *c = arg;
    rk_err err = {0};
    rk_wal_reader *reader = NULL;
    rk_str record;
    uint64_t lsn = 0;

    if (rk_wal_read_from(&reader, c->wal, 1, &err) != RK_OK) {
        abort();
    }
    for (;;) {
        int stop = atomic_load(&c->stop);
        rk_code code = rk_wal_read(reader, &lsn, &record, &err);
        if (code == RK_EEOF && stop) {
            break;
        }
        if (code == RK_EEOF) {
            usleep(200);
            continue;
        }
        if (code != RK_OK || lsn != c->read_lsn + 1 || record.len < 8) {
            fprintf(stderr, "reader at %llu: %s\n", (unsigned long long)c->read_lsn, err.text);
            abort();
        }
        c->read_lsn = lsn;
    }
    rk_wal_reader_close(reader);
}

static void
test_group_commit(void **state)
{
    static crowd c;
    worker workers[THREADS];
    rk_thread threads[THREADS];
    rk_thread follower;
    rk_wal_stats stats;
    bool seen[THREADS * PER_THREAD + 1] = {false};

    RK_UNUSED(state);
    memset(&c, 0, sizeof(c));
    c.wal = open_log(256 << 10);
    assert_int_equal(rk_thread_start(&follower, "follow", follow, &c), RK_OK);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){&c, i};
        assert_int_equal(rk_thread_start(&threads[i], "append", work, &workers[i]), RK_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        rk_thread_join(threads[i]);
    }
    atomic_store(&c.stop, 1);
    rk_thread_join(follower);
    assert_int_equal(c.read_lsn, THREADS * PER_THREAD);
    for (int i = 0; i < THREADS * PER_THREAD; i++) {
        uint64_t lsn = c.lsns[i / PER_THREAD][i % PER_THREAD];
        assert_true(lsn >= 1 && lsn <= THREADS * PER_THREAD && !seen[lsn]);
        seen[lsn] = true;
    }
    rk_wal_stats_get(c.wal, &stats);
    assert_int_equal(stats.appends_total, THREADS * PER_THREAD);
    print_message("%llu appends, %llu syncs\n", (unsigned long long)stats.appends_total,
                  (unsigned long long)stats.syncs_total);
    assert_true(stats.syncs_total < stats.appends_total); /* shared */
    rk_wal_close(c.wal);
}

/* ---- fencing ---- */

static void
test_fencing(void **state)
{
    rk_wal *old = open_log(64 << 10);
    append(old, 100);
    rk_wal *new = open_log(64 << 10);
    rk_str part = RK_STR("late");
    uint64_t lsn = 0;

    RK_UNUSED(state);
    assert_true(rk_wal_epoch(new) > rk_wal_epoch(old));
    append(new, 200);
    assert_code(rk_wal_append(old, &part, 1, NULL, NULL, &lsn, &test_err), RK_EFENCED);
    assert_code(rk_wal_append(old, &part, 1, NULL, NULL, &lsn, &test_err), RK_EFENCED);
    assert_code(rk_wal_health(old, &test_err), RK_EFENCED);
    assert_code(rk_wal_recover(old, &test_err), RK_EFENCED);
    assert_code(rk_wal_truncate(old, 2, &test_err), RK_EFENCED);
    rk_wal_close(old); /* and writes no mark */
    append(new, 300);
    assert_int_equal(check_from(new, 1), 4);
    rk_wal_close(new);
    new = open_log(64 << 10);
    assert_int_equal(check_from(new, 1), 4);
    rk_wal_close(new);
}

/* ---- damage ---- */

static rk_code
try_open(uint64_t *next, rk_code *read_code)
{
    rk_wal *wal = NULL;
    rk_wal_options options;
    rk_wal_reader *reader = NULL;
    rk_str record;
    uint64_t lsn = 0;

    rk_wal_options_init(&options);
    options.segment_bytes = 64 << 10;
    *read_code = RK_EEOF;
    rk_code code = rk_wal_open_local(&wal, path, &options, rk_env_real(), &test_err);
    if (code != RK_OK) {
        return code;
    }
    *next = rk_wal_next_lsn(wal);
    assert_ok(rk_wal_read_from(&reader, wal, 1, &test_err));
    do {
        *read_code = rk_wal_read(reader, &lsn, &record, &test_err);
    } while (*read_code == RK_OK);
    rk_wal_reader_close(reader);
    rk_wal_close(wal);
    return RK_OK;
}

typedef struct image {
    char file_path[128];
    char epoch_path[128];
    uint8_t *file;
    uint8_t *epoch;
    size_t file_len;
    size_t epoch_len;
} image;

static void
image_take(image *im)
{
    snprintf(im->file_path, sizeof(im->file_path), "%s/%016x.wal", path, 1u);
    snprintf(im->epoch_path, sizeof(im->epoch_path), "%s/epoch", path);
    im->file = test_file_read(im->file_path, &im->file_len);
    im->epoch = test_file_read(im->epoch_path, &im->epoch_len);
}

static void
image_put(const image *im)
{
    test_file_write(im->file_path, im->file, im->file_len);
    test_file_write(im->epoch_path, im->epoch, im->epoch_len);
}

/* A closed log of 5 records; any flipped bit in them is reported with file and offset, none is
 * served. */
static void
test_bit_flips(void **state)
{
    static const size_t lens[] = {10, 24, 0, 100, 33};
    image im;
    uint64_t next = 0;
    rk_code read_code;
    rk_wal *wal = open_log(64 << 10);
    size_t end = 4096;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(lens); i++) {
        append(wal, lens[i]);
        end += (40 + lens[i] + 7) & ~(size_t)7;
    }
    rk_wal_close(wal);
    image_take(&im);
    size_t rec = 4096;
    size_t rec_i = 0;
    for (size_t at = 0; at < end; at++) {
        if (at >= rec + ((40 + lens[rec_i] + 7) & ~(size_t)7)) {
            rec += (40 + lens[rec_i] + 7) & ~(size_t)7;
            rec_i++;
        }
        if (at >= 64 && at < 4096) {
            continue; /* unused part of the header page */
        }
        if (at >= 4096 && at - rec >= 40 + lens[rec_i]) {
            continue; /* padding */
        }
        im.file[at] ^= (uint8_t)(1u << (at % 8));
        image_put(&im);
        im.file[at] ^= (uint8_t)(1u << (at % 8));
        rk_code code = try_open(&next, &read_code);
        if (code != RK_ECORRUPT || !strstr(test_err.text, "0001.wal")) {
            fail_msg("flip at %zu: code %d, text %s", at, (int)code, test_err.text);
        }
        if (at >= 4096 && !strstr(test_err.text, "offset")) {
            fail_msg("flip at %zu: no offset in: %s", at, test_err.text);
        }
    }
    image_put(&im);
    assert_ok(try_open(&next, &read_code));
    assert_int_equal(next, 6);
    /* one damaged epoch slot is survived, two are not */
    memset(im.epoch, 0, 512);
    memset(im.epoch + 512, 0, 512);
    image_put(&im);
    assert_code(try_open(&next, &read_code), RK_ECORRUPT);
    rk_free(im.file);
    rk_free(im.epoch);
}

/* A crash may cut the last group anywhere: all records before the cut survive, none after, and
 * appends go on. */
static void
test_every_torn_tail(void **state)
{
    static const size_t lens[] = {10, 24, 0, 100, 33};
    image im;
    size_t ends[RK_COUNT(lens) + 1] = {4096};
    uint64_t next = 0;
    rk_code read_code;
    rk_wal *wal = open_log(64 << 10);
    char *keep = NULL;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(lens); i++) {
        append(wal, lens[i]);
        ends[i + 1] = ends[i] + ((40 + lens[i] + 7) & ~(size_t)7);
    }
    image_take(&im); /* not closed: no mark behind the last record */
    rk_wal_close(wal);
    keep = rk_alloc(im.file_len);
    assert_non_null(keep);
    memcpy(keep, im.file, im.file_len);
    for (size_t cut = 4096; cut <= ends[RK_COUNT(lens)]; cut++) {
        size_t whole = 0;
        while (whole < RK_COUNT(lens) && cut >= ends[whole] + 40 + lens[whole]) {
            whole++;
        }
        memcpy(im.file, keep, im.file_len);
        memset(im.file + cut, 0, im.file_len - cut);
        image_put(&im);
        assert_ok(try_open(&next, &read_code));
        /* cut bytes may have been zero anyway */
        if (next != whole + 1 && memcmp(im.file + 4096, keep + 4096, ends[next - 1] - 4096) != 0) {
            fail_msg("cut at %zu: next is %llu, want %zu", cut, (unsigned long long)next,
                     whole + 1);
        }
        assert_int_equal(read_code, RK_EEOF);
        wal = open_log(64 << 10);
        append(wal, 50);
        assert_int_equal(check_from(wal, 1), next + 1);
        rk_wal_close(wal);
    }
    memcpy(im.file, keep, im.file_len);
    for (size_t len = 0; len < im.file_len; len += 1 + len / 3) { /* a shorter file is no crash */
        image_put(&im);
        assert_int_equal(truncate(im.file_path, (off_t)len), 0);
        assert_code(try_open(&next, &read_code), RK_ECORRUPT);
        assert_non_null(strstr(test_err.text, "0001.wal"));
    }
    rk_free(im.file);
    rk_free(im.epoch);
    rk_free(keep);
}

static void
test_missing_files(void **state)
{
    char file[128];
    uint64_t next = 0;
    rk_code read_code;
    rk_wal *wal = open_log(64 << 10);

    RK_UNUSED(state);
    for (int i = 0; i < 30; i++) {
        append(wal, 10000);
    }
    rk_wal_close(wal);
    snprintf(file, sizeof(file), "%s/%016x.wal", path, 3u);
    char aside[128];
    snprintf(aside, sizeof(aside), "%s/aside", path);
    assert_int_equal(rename(file, aside), 0);
    assert_code(try_open(&next, &read_code), RK_ECORRUPT);
    assert_non_null(strstr(test_err.text, "0003.wal is missing"));
    assert_int_equal(rename(aside, file), 0);
    assert_ok(try_open(&next, &read_code));
    assert_int_equal(next, 31);
    snprintf(file, sizeof(file), "%s/epoch", path);
    assert_int_equal(rename(file, aside), 0);
    assert_code(try_open(&next, &read_code), RK_ECORRUPT);
    assert_int_equal(rename(aside, file), 0);
    for (unsigned i = 1; i < 20; i++) {
        snprintf(file, sizeof(file), "%s/%016x.wal", path, i);
        unlink(file);
    }
    assert_code(try_open(&next, &read_code), RK_ECORRUPT); /* never a first start */
}

static void
test_limits(void **state)
{
    rk_wal *wal = open_log(64 << 10);
    static char byte[1];
    rk_str part = {byte, (size_t)RK_WAL_RECORD_MAX + 1};
    RK_UNUSED(state);
    assert_code(rk_wal_append(wal, &part, 1, NULL, NULL, NULL, &test_err), RK_ETOO_LARGE);
    assert_int_equal(rk_wal_next_lsn(wal), 1);
    rk_wal_reader *reader = NULL;
    assert_code(rk_wal_read_from(&reader, wal, 2, &test_err), RK_EINVAL);
    assert_ok(rk_wal_recover(wal, &test_err)); /* healthy: nothing to do */
    rk_wal_close(wal);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, test_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_append_read_reopen),
        CASE(test_truncate_and_recycle),
        CASE(test_truncate_while_rolling),
        CASE(test_reader_overtaken),
        CASE(test_group_commit),
        CASE(test_fencing),
        CASE(test_bit_flips),
        CASE(test_every_torn_tail),
        CASE(test_missing_files),
        CASE(test_limits),
    };
    rk_log_set_level(RK_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
