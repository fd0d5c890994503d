/* SPDX-License-Identifier: Apache-2.0 */
/* The real disk's answers, the faulty disk's faults and power cuts, clock and random numbers. */
#include "base/seam.h"

#include <math.h>

#include "unit_test.h"

static char root[64];

static const char *
at(const char *name)
{
    static char paths[8][256];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static int
start(void **state)
{
    RK_UNUSED(state);
    snprintf(root, sizeof(root), "/tmp/rk-seam-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int
finish(void **state)
{
    char command[128];

    RK_UNUSED(state);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static void
put(rk_disk *d, const char *name, const char *text, bool sync)
{
    rk_file *f;

    assert_int_equal(
        d->open(d, &f, at(name), RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_TRUNCATE, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 0, text, strlen(text), NULL), RK_OK);
    if (sync) {
        assert_int_equal(d->sync(d, f, NULL), RK_OK);
        assert_int_equal(d->sync_dir(d, root, NULL), RK_OK);
    }
    d->close(d, f);
}

static void
expect(rk_disk *d, const char *name, const char *text)
{
    rk_map map;
    rk_code code = d->map(d, &map, at(name), NULL);

    if (!text) {
        assert_int_equal(code, RK_EKEY_NOT_FOUND);
        return;
    }
    assert_int_equal(code, RK_OK);
    assert_int_equal(map.len, strlen(text));
    assert_memory_equal(map.data ? map.data : (const uint8_t *)"", text, map.len);
    d->unmap(d, &map);
}

static rk_code
count_names(void *user, const char *name, bool is_dir)
{
    int *counts = user;

    counts[is_dir]++;
    return strcmp(name, "stop") == 0 ? RK_ECANCELLED : RK_OK;
}

static void
real_disk(void **state)
{
    rk_disk *d = rk_disk_real();
    rk_file *f = NULL;
    rk_err err = {0};
    char buf[8];
    uint64_t n;

    RK_UNUSED(state);
    assert_int_equal(d->open(d, &f, at("none"), RK_OPEN_READ, &err), RK_EKEY_NOT_FOUND);
    assert_non_null(strstr(err.text, "none"));
    assert_int_equal(d->open(d, &f, root, RK_OPEN_READ, &err), RK_EIO);
    put(d, "a", "hello", true);
    assert_int_equal(
        d->open(d, &f, at("a"), RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_EXCLUSIVE, &err),
        RK_EEXISTS);
    assert_int_equal(d->open(d, &f, at("a"), RK_OPEN_WRITE, &err), RK_OK);
    assert_int_equal(d->read(d, f, 1, buf, 4, &err), RK_OK);
    assert_memory_equal(buf, "ello", 4);
    assert_int_equal(d->read(d, f, 2, buf, 4, &err), RK_EEOF);
    assert_int_equal(d->read(d, f, UINT64_MAX, buf, 4, &err), RK_EEOF);
    assert_int_equal(d->allocate(d, f, 4096, &err), RK_OK);
    assert_int_equal(d->size(d, f, &n, &err), RK_OK);
    assert_int_equal(n, 4096);
    assert_int_equal(d->truncate(d, f, 3, &err), RK_OK);
    d->close(d, f);
    expect(d, "a", "hel");
    put(d, "empty", "", false);
    expect(d, "empty", "");
    assert_int_equal(d->rename(d, at("a"), at("b"), &err), RK_OK);
    expect(d, "a", NULL);
    assert_int_equal(d->rename(d, at("a"), at("b"), &err), RK_EKEY_NOT_FOUND);
    assert_int_equal(d->mkdirs(d, at("x/y/z"), &err), RK_OK);
    assert_int_equal(d->mkdirs(d, at("x/y/z"), &err), RK_OK);
    assert_int_equal(d->mkdirs(d, at("b/y"), &err), RK_EIO);
    int counts[2] = {0, 0};
    assert_int_equal(d->list(d, root, count_names, counts, &err), RK_OK);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
    put(d, "x/stop", "", false);
    assert_int_equal(d->list(d, at("x"), count_names, counts, &err), RK_ECANCELLED);
    assert_int_equal(d->list(d, at("nowhere"), count_names, counts, &err), RK_EKEY_NOT_FOUND);
    assert_int_equal(d->remove(d, at("x"), &err), RK_EIO); /* not empty */
    assert_int_equal(d->remove(d, at("x/y/z"), &err), RK_OK);
    assert_int_equal(d->remove(d, at("x/y/z"), &err), RK_EKEY_NOT_FOUND);
    assert_int_equal(d->free_bytes(d, root, &n, &err), RK_OK);
    assert_true(n > 0);
}

static void
faults_on_the_nth_call(void **state)
{
    rk_disk_faulty *faulty = rk_disk_faulty_new(rk_disk_real());
    rk_disk *d = rk_disk_faulty_disk(faulty);
    rk_file *f;

    RK_UNUSED(state);
    assert_int_equal(d->open(d, &f, at("f"), RK_OPEN_WRITE | RK_OPEN_CREATE, NULL), RK_OK);
    rk_disk_faulty_fail(faulty, "write", 2, 2, RK_EDISK_FULL);
    rk_err err = {0};
    assert_int_equal(d->write(d, f, 0, "1", 1, &err), RK_OK);
    assert_int_equal(d->write(d, f, 1, "2", 1, &err), RK_EDISK_FULL);
    assert_non_null(strstr(err.text, "injected"));
    assert_int_equal(d->write(d, f, 1, "2", 1, &err), RK_EDISK_FULL);
    assert_int_equal(d->write(d, f, 1, "2", 1, &err), RK_OK);
    assert_int_equal(rk_disk_faulty_calls(faulty, "write"), 4);
    rk_disk_faulty_fail(faulty, "sync", 1, UINT64_MAX, RK_EIO);
    assert_int_equal(d->sync(d, f, &err), RK_EIO);
    rk_disk_faulty_fail(faulty, "sync", 1, 0, RK_OK);
    assert_int_equal(d->sync(d, f, &err), RK_OK);
    d->close(d, f);
    rk_disk_faulty_free(faulty);
    expect(rk_disk_real(), "f", "12");
}

static void
power_cut_takes_back_what_was_not_synced(void **state)
{
    rk_disk *real = rk_disk_real();
    rk_disk_faulty *faulty = rk_disk_faulty_new(real);
    rk_disk *d = rk_disk_faulty_disk(faulty);
    rk_file *f;

    RK_UNUSED(state);
    put(d, "kept", "old text", true);
    put(d, "hollow", "name durable, content not", false);
    put(d, "target", "before", true);
    put(d, "source", "after", true);
    put(d, "removed", "back again", true);
    put(d, "gone", "never synced", false);
    assert_int_equal(d->rename(d, at("source"), at("target"), NULL), RK_OK);
    assert_int_equal(d->remove(d, at("removed"), NULL), RK_OK);
    assert_int_equal(d->open(d, &f, at("kept"), RK_OPEN_WRITE, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 4, "TEXT and more", 13, NULL), RK_OK);
    assert_int_equal(d->truncate(d, f, 2, NULL), RK_OK);
    assert_int_equal(d->allocate(d, f, 100, NULL), RK_OK);
    assert_int_equal(rk_disk_faulty_crash(faulty, 0), RK_OK);
    expect(real, "kept", "old text");
    expect(real, "hollow", "");
    expect(real, "gone", NULL);
    expect(real, "target", "before");
    expect(real, "source", "after");
    expect(real, "removed", "back again");
    assert_int_equal(d->write(d, f, 0, "x", 1, NULL), RK_EIO); /* opened before */
    d->close(d, f);

    /* the same with syncs: nothing is taken back */
    assert_int_equal(d->rename(d, at("source"), at("target"), NULL), RK_OK);
    assert_int_equal(d->sync_dir(d, root, NULL), RK_OK);
    assert_int_equal(d->open(d, &f, at("kept"), RK_OPEN_WRITE, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 0, "OLD", 3, NULL), RK_OK);
    assert_int_equal(d->sync(d, f, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 3, "!", 1, NULL), RK_OK);
    assert_int_equal(rk_disk_faulty_crash(faulty, 0), RK_OK);
    d->close(d, f);
    expect(real, "kept", "OLD text");
    expect(real, "target", "after");
    expect(real, "source", NULL);
    rk_disk_faulty_free(faulty);
}

static void
torn_write_keeps_some_sectors(void **state)
{
    static char before[4096];
    static char after[4096];
    static char now[4096];
    rk_disk_faulty *faulty = rk_disk_faulty_new(rk_disk_real());
    rk_disk *d = rk_disk_faulty_disk(faulty);
    rk_file *f;
    int kept = 0;

    RK_UNUSED(state);
    memset(before, 'b', sizeof(before));
    memset(after, 'a', sizeof(after));
    assert_int_equal(d->open(d, &f, at("torn"), RK_OPEN_WRITE | RK_OPEN_CREATE, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 0, before, sizeof(before), NULL), RK_OK);
    assert_int_equal(d->sync(d, f, NULL), RK_OK);
    assert_int_equal(d->sync_dir(d, root, NULL), RK_OK);
    assert_int_equal(d->write(d, f, 0, after, sizeof(after), NULL), RK_OK);
    assert_int_equal(rk_disk_faulty_crash(faulty, 42), RK_OK);
    d->close(d, f);
    assert_int_equal(d->open(d, &f, at("torn"), RK_OPEN_READ, NULL), RK_OK);
    assert_int_equal(d->read(d, f, 0, now, sizeof(now), NULL), RK_OK);
    d->close(d, f);
    for (size_t i = 0; i < sizeof(now); i++) {
        assert_int_equal(now[i], now[i / 512 * 512]);
        kept += now[i] == 'a';
    }
    assert_in_range(kept, 512, 4096 - 512); /* for this seed */
    rk_disk_faulty_free(faulty);
}

static void
clock_and_random(void **state)
{
    const rk_env *env = rk_env_real();
    uint64_t a = 0;
    uint64_t b = 0;

    RK_UNUSED(state);
    int64_t before = env->clock->monotonic_ns(env->clock->self);
    env->clock->sleep_ns(env->clock->self, 2000000);
    assert_true(env->clock->monotonic_ns(env->clock->self) - before >= 2000000);
    assert_true(env->clock->wall_ms(env->clock->self) > INT64_C(1700000000000));
    env->random->bytes(env->random->self, &a, sizeof(a));
    env->random->bytes(env->random->self, &b, sizeof(b));
    assert_int_not_equal(a, b);
    assert_ptr_equal(env->disk, rk_disk_real());
}

static void
seeded_numbers(void **state)
{
    rk_rng rng;
    unsigned hits[10] = {0};
    double sum = 0;
    double squares = 0;

    RK_UNUSED(state);
    rk_rng_init(&rng, 0);
    uint64_t first = rk_rng_next(&rng);
    rk_rng_init(&rng, 0);
    assert_int_equal(rk_rng_next(&rng), first);
    for (int i = 0; i < 100000; i++) {
        uint64_t n = rk_rng_below(&rng, 10);
        assert_true(n < 10);
        hits[n]++;
        float u = rk_rng_float(&rng);
        assert_true(u >= 0 && u < 1);
        double g = (double)rk_rng_normal(&rng);
        sum += g;
        squares += g * g;
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(hits[i], 9500, 10500);
    }
    assert_true(fabs(sum / 100000) < 0.02);
    assert_true(fabs(squares / 100000 - 1) < 0.03);
    assert_int_equal(rk_rng_below(&rng, 1), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(real_disk, start, finish),
        cmocka_unit_test_setup_teardown(faults_on_the_nth_call, start, finish),
        cmocka_unit_test_setup_teardown(power_cut_takes_back_what_was_not_synced, start, finish),
        cmocka_unit_test_setup_teardown(torn_write_keeps_some_sectors, start, finish),
        cmocka_unit_test(clock_and_random),
        cmocka_unit_test(seeded_numbers),
    };
    return cmocka_run_group_tests_name("seam", tests, NULL, NULL);
}
