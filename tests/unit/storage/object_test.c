/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory object store: names, whole-or-nothing, no replacing, lists, crashes and every
 * failing disk call.
 */
#include "storage/object/object.h"

#include "base/log.h"
#include "base/util.h"
#include "storage_test.h"

static const struct name_case {
    const char *name;
    bool good;
} name_cases[] = {
    {"a", true},      {"a/b/c.bin", true}, {"A-Z_0.9/x", true}, {"...", true},
    {"", false},      {"/a", false},       {"a/", false},       {"a//b", false},
    {"..", false},    {"a/../b", false},   {"a/./b", false},    {".", false},
    {"a b", false},   {"~tmp/x", false},   {"a\\b", false},     {"\xc3\xa9", false},
    {"a/b:c", false},
};

static void
test_names(void **state)
{
    rk_object_store *store = NULL;
    RK_UNUSED(state);
    assert_ok(rk_object_open_dir(&store, test_root, rk_env_real(), &test_err));
    for (size_t i = 0; i < RK_COUNT(name_cases); i++) {
        rk_code code = rk_object_put(store, name_cases[i].name, RK_STR("x"), &test_err);
        assert_int_equal(code, name_cases[i].good ? RK_OK : RK_EINVAL);
        if (code == RK_OK) { /* "a" must not be in the way of "a/b" */
            assert_ok(rk_object_delete(store, name_cases[i].name, &test_err));
        }
    }
    char name[1100];
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    assert_code(rk_object_put(store, name, RK_STR("x"), &test_err), RK_EINVAL);
    name[255] = '\0';
    assert_ok(rk_object_put(store, name, RK_STR("x"), &test_err));
    rk_object_close(store);
}

static void
test_put_read_map_delete(void **state)
{
    rk_object_store *store = NULL;
    rk_object_writer *w = NULL;
    rk_object_view view;
    uint8_t buf[16];
    size_t len = (1u << 20) + 17;
    uint8_t *big = rk_alloc(len);

    RK_UNUSED(state);
    assert_non_null(big);
    for (size_t i = 0; i < len; i++) {
        big[i] = (uint8_t)(i * 31);
    }
    assert_ok(rk_object_open_dir(&store, test_root, rk_env_real(), &test_err));
    assert_ok(rk_object_writer_open(&w, store, "seg/1/f", &test_err));
    assert_ok(rk_object_write(w, big, 100, &test_err));
    assert_ok(rk_object_write(w, big + 100, 600000, &test_err));
    assert_code(rk_object_map(store, "seg/1/f", &view, &test_err), RK_EKEY_NOT_FOUND);
    for (size_t at = 600100; at < len; at += 1000) {
        assert_ok(rk_object_write(w, big + at, RK_MIN((size_t)1000, len - at), &test_err));
    }
    assert_ok(rk_object_commit(w, &test_err));
    assert_ok(rk_object_map(store, "seg/1/f", &view, &test_err));
    assert_int_equal(view.len, len);
    assert_memory_equal(view.data, big, len);
    rk_object_unmap(store, &view);
    assert_ok(rk_object_read(store, "seg/1/f", 600095, buf, 10, &test_err));
    assert_memory_equal(buf, big + 600095, 10);
    assert_code(rk_object_read(store, "seg/1/f", len - 5, buf, 10, &test_err), RK_EEOF);
    assert_code(rk_object_read(store, "seg/1/g", 0, buf, 1, &test_err), RK_EKEY_NOT_FOUND);

    assert_code(rk_object_put(store, "seg/1/f", RK_STR("no"), &test_err), RK_EEXISTS);
    assert_ok(rk_object_put(store, "empty", RK_STR(""), &test_err));
    assert_ok(rk_object_map(store, "empty", &view, &test_err));
    assert_int_equal(view.len, 0);
    rk_object_unmap(store, &view);

    assert_ok(rk_object_delete(store, "seg/1/f", &test_err));
    assert_ok(rk_object_delete(store, "seg/1/f", &test_err));
    char path[128];
    snprintf(path, sizeof(path), "%s/seg", test_root);
    assert_int_not_equal(access(path, F_OK), 0); /* emptied folders go */
    assert_ok(rk_object_put(store, "seg/1/f", RK_STR("again"), &test_err));
    uint64_t free_bytes = 0;
    assert_ok(rk_object_free_bytes(store, &free_bytes, &test_err));
    assert_true(free_bytes > 0);
    rk_object_close(store);
    rk_free(big);
}

/* Two writers of one name: both open, the first commit wins, the other gets RK_EEXISTS and changes
 * nothing. */
static void
test_two_writers(void **state)
{
    rk_object_store *store = NULL;
    rk_object_writer *a = NULL;
    rk_object_writer *b = NULL;
    char got[5] = "";

    RK_UNUSED(state);
    assert_ok(rk_object_open_dir(&store, test_root, rk_env_real(), &test_err));
    assert_ok(rk_object_writer_open(&a, store, "x/y", &test_err));
    assert_ok(rk_object_writer_open(&b, store, "x/y", &test_err));
    assert_ok(rk_object_write(a, "aaaa", 4, &test_err));
    assert_ok(rk_object_write(b, "bbbb", 4, &test_err));
    assert_ok(rk_object_commit(b, &test_err));
    assert_code(rk_object_commit(a, &test_err), RK_EEXISTS);
    assert_ok(rk_object_read(store, "x/y", 0, got, 4, &test_err));
    assert_string_equal(got, "bbbb");
    rk_object_close(store);
}

static void
test_list(void **state)
{
    rk_object_store *store = NULL;
    rk_object_info *infos = NULL;
    size_t n = 0;
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    assert_ok(rk_object_open_dir(&store, test_root, rk_env_real(), &test_err));
    assert_ok(rk_object_put(store, "a/1", RK_STR("1"), &test_err));
    assert_ok(rk_object_put(store, "a/b/2", RK_STR("22"), &test_err));
    assert_ok(rk_object_put(store, "ab/3", RK_STR("333"), &test_err));
    rk_object_writer *w = NULL;
    assert_ok(rk_object_writer_open(&w, store, "a/unseen", &test_err));
    assert_ok(rk_object_list(store, "a", &infos, &n, arena, &test_err));
    assert_int_equal(n, 2);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(rk_str_starts(infos[i].name, "a/"));
        sum += infos[i].size_bytes;
    }
    assert_int_equal(sum, 3);
    assert_ok(rk_object_list(store, "", &infos, &n, arena, &test_err));
    assert_int_equal(n, 3);
    assert_ok(rk_object_list(store, "none/", &infos, &n, arena, &test_err));
    assert_int_equal(n, 0);
    assert_code(rk_object_list(store, "../", &infos, &n, arena, &test_err), RK_EINVAL);
    rk_object_abort(w);
    rk_object_close(store);
    rk_arena_free(arena);
}

static void
test_stale_temporary_files(void **state)
{
    rk_object_store *a = NULL;
    rk_object_store *b = NULL;
    rk_object_writer *w = NULL;
    char path[128];

    RK_UNUSED(state);
    assert_ok(rk_object_open_dir(&a, test_root, rk_env_real(), &test_err));
    snprintf(path, sizeof(path), "%s/~tmp/stale", test_root);
    test_file_write(path, "x", 1);
    assert_ok(rk_object_writer_open(&w, a, "live", &test_err));
    assert_ok(rk_object_open_dir(&b, test_root, rk_env_real(), &test_err));
    assert_ok(rk_object_commit(w, &test_err)); /* the second opener left it alone */
    assert_int_equal(access(path, F_OK), 0);
    rk_object_close(a);
    rk_object_close(b);
    assert_ok(rk_object_open_dir(&a, test_root, rk_env_real(), &test_err));
    assert_int_not_equal(access(path, F_OK), 0);
    rk_object_close(a);
}

/* Fails the Nth call of each kind for N = 1, 2, ... until the put succeeds: afterwards the object
 * is there whole or not at all. */
static void
test_every_failing_call(void **state)
{
    static const char *const calls[] = {"open", "write", "sync", "sync_dir", "rename", "mkdirs"};
    static const rk_code codes[] = {RK_EIO, RK_EDISK_FULL};
    rk_disk_faulty *faulty = rk_disk_faulty_new(rk_disk_real());
    rk_env env = *rk_env_real();
    int round = 0;

    RK_UNUSED(state);
    env.disk = rk_disk_faulty_disk(faulty);
    for (size_t i = 0; i < RK_COUNT(calls) * RK_COUNT(codes); i++) {
        rk_code want = codes[i % RK_COUNT(codes)];
        for (uint64_t nth = 1;; nth++) {
            rk_object_store *store = NULL;
            char name[32];
            char got[5] = "";
            snprintf(name, sizeof(name), "d%d/f", round++);
            assert_ok(rk_object_open_dir(&store, test_root, &env, &test_err));
            rk_disk_faulty_fail(faulty, calls[i / RK_COUNT(codes)], nth, 1, want);
            rk_code code = rk_object_put(store, name, RK_STR("data"), &test_err);
            rk_disk_faulty_fail(faulty, calls[i / RK_COUNT(codes)], 1, 0, RK_OK);
            rk_code read = rk_object_read(store, name, 0, got, 4, &test_err);
            if (code == RK_OK) {
                assert_ok(read);
                assert_string_equal(got, "data");
            } else {
                assert_int_equal(code, want);
                assert_int_equal(read, RK_EKEY_NOT_FOUND);
                assert_ok(rk_object_put(store, name, RK_STR("data"), &test_err)); /* heals */
            }
            rk_object_close(store);
            if (code == RK_OK && nth > 2) { /* the early look for the name may fail unseen */
                break;
            }
        }
    }
    rk_disk_faulty_free(faulty);
}

/* What put acknowledged is there after a crash that drops everything not synced; what it did not is
 * absent or whole. */
static void
test_crash(void **state)
{
    RK_UNUSED(state);
    for (uint64_t seed = 0; seed < 20; seed++) {
        rk_disk_faulty *faulty = rk_disk_faulty_new(rk_disk_real());
        rk_env env = *rk_env_real();
        rk_object_store *store = NULL;
        rk_object_writer *w = NULL;
        rk_object_info *infos = NULL;
        size_t n = 0;
        char root[96];
        char got[9] = "";
        rk_arena *arena = rk_arena_new(0);

        env.disk = rk_disk_faulty_disk(faulty);
        snprintf(root, sizeof(root), "%s/%llu", test_root, (unsigned long long)seed);
        assert_ok(rk_object_open_dir(&store, root, &env, &test_err));
        assert_ok(rk_object_put(store, "s/1/a", RK_STR("acked-1."), &test_err));
        assert_ok(rk_object_put(store, "s/1/b", RK_STR("acked-2."), &test_err));
        assert_ok(rk_object_writer_open(&w, store, "s/1/c", &test_err));
        assert_ok(rk_object_write(w, "half", 4, &test_err));
        assert_ok(rk_disk_faulty_crash(faulty, seed));
        rk_object_abort(w);
        rk_object_close(store);
        assert_ok(rk_object_open_dir(&store, root, &env, &test_err));
        assert_ok(rk_object_list(store, "", &infos, &n, arena, &test_err));
        assert_int_equal(n, 2);
        assert_ok(rk_object_read(store, "s/1/b", 0, got, 8, &test_err));
        assert_string_equal(got, "acked-2.");
        rk_object_close(store);
        rk_disk_faulty_free(faulty);
        rk_arena_free(arena);
    }
}

static void
test_fault_points(void **state)
{
    static const char *const points[] = {"object.put.before_rename:1:error",
                                         "object.put.after_rename:1:full"};
    static const rk_code codes[] = {RK_EIO, RK_EDISK_FULL};
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(points); i++) {
        rk_object_store *store = NULL;
        setenv("REDKITE_FAULT", points[i], 1);
        rk_fault_init();
        assert_ok(rk_object_open_dir(&store, test_root, rk_env_real(), &test_err));
        assert_code(rk_object_put(store, "fp", RK_STR("x"), &test_err), codes[i]);
        assert_ok(rk_object_put(store, "fp", RK_STR("x"), &test_err));
        assert_ok(rk_object_delete(store, "fp", &test_err));
        rk_object_close(store);
        unsetenv("REDKITE_FAULT");
        rk_fault_init();
    }
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_names), CASE(test_put_read_map_delete),   CASE(test_two_writers),
        CASE(test_list),  CASE(test_stale_temporary_files), CASE(test_every_failing_call),
        CASE(test_crash), CASE(test_fault_points),
    };
    rk_log_set_level(RK_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
