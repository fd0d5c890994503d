/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log on a disk that fails and forgets. Invariant in all cases: every acknowledged record is
 * there with its own bytes, in order; nothing else is, except a record whose append was cut off by
 * the crash itself.
 */
#include "base/log.h"
#include "base/util.h"
#include "storage/wal/wal.h"
#include "storage_test.h"

#define SEGMENT (64u << 10)

static rk_disk_faulty *faulty;
static rk_env env;
static char path[96];
static uint64_t acked[4096]; /* acked[i]: tag of record i + 1 */
static uint64_t acked_len;
static uint64_t next_tag;

static int
setup(void **state)
{
    int rc = test_setup(state);
    snprintf(path, sizeof(path), "%s/log", test_root);
    faulty = rk_disk_faulty_new(rk_disk_real());
    env = *rk_env_real();
    env.disk = rk_disk_faulty_disk(faulty);
    acked_len = 0;
    next_tag = 1;
    return rc;
}

static int
teardown(void **state)
{
    rk_disk_faulty_free(faulty);
    return test_teardown(state);
}

static rk_code
open_log(rk_wal **wal)
{
    rk_wal_options options;
    rk_wal_options_init(&options);
    options.segment_bytes = SEGMENT;
    options.disk_reserve_bytes = 1 << 20;
    return rk_wal_open_local(wal, path, &options, &env, &test_err);
}

/* Appends one record that starts with a tag of its own. */
static rk_code
append(rk_wal *wal, size_t len)
{
    static char body[200000];
    uint64_t tag = next_tag++;
    uint64_t lsn = 0;
    rk_str parts[2] = {{(const char *)&tag, sizeof(tag)}, {body, len}};

    memset(body, (int)(tag & 0xff), len);
    rk_code code = rk_wal_append(wal, parts, 2, NULL, NULL, &lsn, &test_err);
    if (code == RK_OK) {
        assert_int_equal(lsn, acked_len + 1);
        acked[acked_len++] = tag;
    }
    return code;
}

/* All acknowledged records are read back; up to |extra_max| more may follow. They count as
 * acknowledged from here on. */
static void
check(rk_wal *wal, uint64_t extra_max)
{
    rk_wal_reader *reader = NULL;
    rk_wal_stats stats;
    rk_str record;
    uint64_t lsn = 0;
    rk_code code;

    rk_wal_stats_get(wal, &stats);
    uint64_t want = stats.first_lsn;
    assert_ok(rk_wal_read_from(&reader, wal, want, &test_err));
    while ((code = rk_wal_read(reader, &lsn, &record, &test_err)) == RK_OK) {
        uint64_t tag = 0;
        assert_int_equal(lsn, want);
        assert_true(record.len >= sizeof(tag));
        memcpy(&tag, record.data, sizeof(tag));
        for (size_t i = sizeof(tag); i < record.len; i++) {
            assert_int_equal((uint8_t)record.data[i], (uint8_t)tag);
        }
        if (lsn <= acked_len) {
            assert_int_equal(tag, acked[lsn - 1]);
        } else {
            acked[acked_len++] = tag;
            assert_true(extra_max-- > 0);
        }
        want++;
    }
    assert_code(code, RK_EEOF);
    assert_int_equal(want, acked_len + 1);
    rk_wal_reader_close(reader);
}

static const size_t lens[] = {10, 3000, 0, 20000, 100, 40000, 70000, 5, 30000, 500, 64000, 17};

/* For each kind of call and N: the Nth fails during a run of appends, then the process crashes. */
static void
sweep(const char *call, rk_code failure, bool crash)
{
    for (uint64_t nth = 1; nth < 60; nth++) {
        rk_wal *wal = NULL;
        bool failed = false;

        test_remove_all(path);
        rk_disk_faulty_free(faulty);
        faulty = rk_disk_faulty_new(rk_disk_real());
        env.disk = rk_disk_faulty_disk(faulty);
        acked_len = 0;
        assert_ok(open_log(&wal));
        rk_disk_faulty_fail(faulty, call, nth, 1, failure);
        for (size_t i = 0; i < RK_COUNT(lens); i++) {
            rk_code code = append(wal, lens[i]);
            if (code == RK_OK) {
                continue;
            }
            failed = true;
            assert_true(code == failure || code == RK_EIO);
            if (rk_wal_health(wal, NULL) == RK_OK) { /* heals by itself */
                assert_ok(append(wal, lens[i]));
                continue;
            }
            assert_code(append(wal, 1), RK_EIO);
            assert_ok(rk_wal_recover(wal, &test_err));
            assert_ok(append(wal, lens[i]));
        }
        rk_disk_faulty_fail(faulty, call, 1, 0, RK_OK);
        check(wal, 0);
        if (crash) {
            assert_ok(rk_disk_faulty_crash(faulty, nth));
        }
        rk_wal_close(wal);
        assert_ok(open_log(&wal));
        check(wal, 0);
        assert_ok(append(wal, 77));
        check(wal, 0);
        rk_wal_close(wal);
        if (!failed && nth > 3) {
            return;
        }
    }
    fail_msg("%s: still failing at the 60th call", call);
}

static void
test_every_failing_call(void **state)
{
    static const char *const calls[] = {"write",  "sync",     "allocate", "open",
                                        "rename", "sync_dir", "read"};
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(calls); i++) {
        sweep(calls[i], RK_EIO, false);
        sweep(calls[i], RK_EIO, true);
        sweep(calls[i], RK_EDISK_FULL, true);
    }
}

/* A failed sync, then a crash at once: acknowledged ones are there, the failed one may be. */
static void
test_crash_while_poisoned(void **state)
{
    RK_UNUSED(state);
    for (uint64_t seed = 0; seed < 30; seed++) {
        rk_wal *wal = NULL;
        assert_ok(open_log(&wal));
        check(wal, 1);
        assert_ok(append(wal, 1000));
        assert_ok(append(wal, seed * 997));
        rk_disk_faulty_fail(faulty, "sync", 1, UINT64_MAX, RK_EIO);
        assert_code(append(wal, 5000), RK_EIO);
        assert_code(append(wal, 10), RK_EIO);
        assert_code(rk_wal_health(wal, &test_err), RK_EIO);
        assert_code(rk_wal_recover(wal, &test_err), RK_EIO); /* the disk still fails */
        rk_disk_faulty_fail(faulty, "sync", 1, 0, RK_OK);
        if (seed % 2) { /* the first recovery failed half-way, the second is no stranger to it */
            assert_ok(rk_wal_recover(wal, &test_err));
            assert_ok(append(wal, 300));
            check(wal, 0);
        }
        assert_ok(rk_disk_faulty_crash(faulty, seed));
        rk_wal_close(wal);
    }
    rk_wal *wal = NULL;
    assert_ok(open_log(&wal));
    check(wal, 1);
    rk_wal_close(wal);
}

/* Crashes between appends, over and over, with torn sectors, rolls and truncations. */
static void
test_crash_loop(void **state)
{
    rk_rng rng;
    RK_UNUSED(state);
    rk_rng_init(&rng, 42);
    for (uint64_t round = 0; round < 60; round++) {
        rk_wal *wal = NULL;
        assert_ok(open_log(&wal));
        check(wal, 0);
        for (uint64_t i = rk_rng_below(&rng, 8); i > 0; i--) {
            assert_ok(append(wal, (size_t)rk_rng_below(&rng, 40000)));
        }
        if (rk_rng_below(&rng, 2)) {
            rk_wal_stats stats;
            rk_wal_stats_get(wal, &stats);
            uint64_t span = stats.next_lsn - stats.first_lsn + 1;
            assert_ok(rk_wal_truncate(wal, stats.first_lsn + rk_rng_below(&rng, span), &test_err));
        }
        assert_ok(rk_disk_faulty_crash(faulty, round));
        rk_wal_close(wal);
    }
}

/* The open itself fails at its Nth call: an error, never an empty log. Then it works, with
 * everything there. */
static void
test_open_fails(void **state)
{
    static const char *const calls[] = {"open", "size",     "read", "write",
                                        "sync", "sync_dir", "list", "mkdirs"};
    RK_UNUSED(state);
    rk_wal *wal = NULL;
    assert_ok(open_log(&wal));
    for (size_t i = 0; i < RK_COUNT(lens); i++) {
        assert_ok(append(wal, lens[i]));
    }
    rk_wal_close(wal);
    for (size_t i = 0; i < RK_COUNT(calls); i++) {
        for (uint64_t nth = 1; nth < 50; nth++) {
            rk_disk_faulty_fail(faulty, calls[i], nth, 1, RK_EIO);
            rk_code code = open_log(&wal);
            rk_disk_faulty_fail(faulty, calls[i], 1, 0, RK_OK);
            if (code == RK_OK) {
                check(wal, 0);
                rk_wal_close(wal);
                assert_true(nth > 1);
                break;
            }
            assert_int_equal(code, RK_EIO);
            assert_ok(open_log(&wal));
            check(wal, 0);
            rk_wal_close(wal);
        }
    }
}

/* The first start is cut at each call; the next start works. */
static void
test_first_start_fails(void **state)
{
    static const char *const calls[] = {"open", "write", "sync", "sync_dir", "rename", "allocate"};
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(calls); i++) {
        for (uint64_t nth = 1; nth < 20; nth++) {
            rk_wal *wal = NULL;
            test_remove_all(path);
            rk_disk_faulty_fail(faulty, calls[i], nth, UINT64_MAX, RK_EIO);
            rk_code code = open_log(&wal);
            rk_disk_faulty_fail(faulty, calls[i], 1, 0, RK_OK);
            if (code == RK_OK) {
                rk_wal_close(wal);
                break;
            }
            assert_ok(rk_disk_faulty_crash(faulty, nth));
            assert_ok(open_log(&wal));
            acked_len = 0;
            assert_ok(append(wal, 10));
            check(wal, 0);
            rk_wal_close(wal);
        }
    }
}

/* No room for the next file: appends are refused, reads work, and it heals when space returns. */
static void
test_disk_full(void **state)
{
    rk_wal *wal = NULL;
    RK_UNUSED(state);
    assert_ok(open_log(&wal));
    assert_ok(append(wal, 40000));
    rk_disk_faulty_fail(faulty, "allocate", 1, UINT64_MAX, RK_EDISK_FULL);
    for (int i = 0; i < 3; i++) {
        assert_code(append(wal, 40000), RK_EDISK_FULL);
    }
    assert_ok(append(wal, 10)); /* still fits into the file at hand */
    check(wal, 0);
    rk_disk_faulty_fail(faulty, "allocate", 1, 0, RK_OK);
    assert_ok(append(wal, 40000));
    check(wal, 0);
    rk_wal_close(wal);

    rk_wal_options options;
    rk_wal_options_init(&options);
    options.segment_bytes = SEGMENT;
    options.disk_reserve_bytes = UINT64_MAX / 2; /* more than any disk has */
    assert_ok(rk_wal_open_local(&wal, path, &options, &env, &test_err));
    rk_code code = RK_OK;
    for (int i = 0; i < 3 && code == RK_OK; i++) {
        code = append(wal, 40000);
    }
    assert_int_equal(code, RK_EDISK_FULL);
    assert_non_null(strstr(test_err.text, "must stay free"));
    rk_wal_close(wal);
}

static void
test_fault_points(void **state)
{
    static const char *const points[] = {"wal.append.before_write:2:error",
                                         "wal.append.after_write:2:full",
                                         "wal.append.before_sync:2:error",
                                         "wal.append.after_sync:2:error",
                                         "wal.roll:2:full",
                                         "wal.truncate:1:error"};
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(points); i++) {
        rk_wal *wal = NULL;
        int failures = 0;
        setenv("REDKITE_FAULT", points[i], 1);
        rk_fault_init();
        test_remove_all(path);
        acked_len = 0;
        assert_ok(open_log(&wal));
        for (int k = 0; k < 6; k++) {
            if (append(wal, 30000) != RK_OK) {
                failures++;
                assert_ok(rk_wal_recover(wal, &test_err));
            }
        }
        if (rk_wal_truncate(wal, rk_wal_next_lsn(wal), &test_err) != RK_OK) {
            failures++;
            assert_ok(rk_wal_truncate(wal, rk_wal_next_lsn(wal), &test_err));
        }
        assert_int_equal(failures, 1);
        check(wal, 0);
        rk_wal_close(wal);
        unsetenv("REDKITE_FAULT");
        rk_fault_init();
        assert_ok(open_log(&wal));
        check(wal, 0);
        rk_wal_close(wal);
    }
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_every_failing_call), CASE(test_crash_while_poisoned), CASE(test_crash_loop),
        CASE(test_open_fails),         CASE(test_first_start_fails),    CASE(test_disk_full),
        CASE(test_fault_points),
    };
    rk_log_set_level(RK_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
