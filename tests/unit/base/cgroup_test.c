/* SPDX-License-Identifier: Apache-2.0 */
/* Control group limits from made-up file trees: version 2 with a parent, version 1, a container,
 * none. */
#include "base/base_private.h"
#include "base/seam.h"
#include "unit_test.h"

static char root[64];

static void
put(const char *path, const char *text)
{
    char full[512];
    rk_disk *disk = rk_disk_real();
    rk_file *file;

    snprintf(full, sizeof(full), "%s%s", root, path);
    *strrchr(full, '/') = '\0';
    assert_int_equal(disk->mkdirs(disk, full, NULL), RK_OK);
    snprintf(full, sizeof(full), "%s%s", root, path);
    assert_int_equal(
        disk->open(disk, &file, full, RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_TRUNCATE, NULL),
        RK_OK);
    assert_int_equal(disk->write(disk, file, 0, text, strlen(text), NULL), RK_OK);
    disk->close(disk, file);
}

static int
start(void **state)
{
    RK_UNUSED(state);
    snprintf(root, sizeof(root), "/tmp/rk-cgroup-XXXXXX");
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
version_2(void **state)
{
    RK_UNUSED(state);
    put("/proc/self/cgroup", "0::/a.slice/b.service\n");
    put("/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
    put("/sys/fs/cgroup/a.slice/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/a.slice/b.service/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/a.slice/cpu.max", "max 100000\n");
    assert_int_equal(rk__cgroup_memory_limit(root), 1073741824);
    assert_true(rk__cgroup_cpu_limit(root) == 1.5);
}

static void
version_1(void **state)
{
    RK_UNUSED(state);
    put("/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"); /* the container's own */
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(rk__cgroup_memory_limit(root), 536870912);
    assert_true(rk__cgroup_cpu_limit(root) == 0.5);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(rk__cgroup_memory_limit(root), 0);
    assert_true(rk__cgroup_cpu_limit(root) == 0);
}

static void
none(void **state)
{
    RK_UNUSED(state);
    assert_int_equal(rk__cgroup_memory_limit(root), 0);
    put("/proc/self/cgroup", "junk\n:\n0::relative\n");
    assert_true(rk__cgroup_cpu_limit(root) == 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(version_2, start, finish),
        cmocka_unit_test_setup_teardown(version_1, start, finish),
        cmocka_unit_test_setup_teardown(none, start, finish),
    };
    return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
