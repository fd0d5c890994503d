/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums against known values and each other, half precision exhaustively, hashes, fault points.
 */
#include "base/util.h"

#include <math.h>
#include <sys/wait.h>

#include "base/base_private.h"
#include "unit_test.h"

static void
crc32c(void **state)
{
    uint8_t data[300];
    rk__crc32c_fn table = rk__crc32c_table();
    rk__crc32c_fn hardware = rk__crc32c_hardware();

    RK_UNUSED(state);
    assert_int_equal(rk_crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(rk_crc32c(0, "", 0), 0);
    memset(data, 0, sizeof(data));
    assert_int_equal(rk_crc32c(0, data, 32), 0x8A9136AAu);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 37);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t len = 0; start + len <= sizeof(data); len++) {
            uint32_t want = table(5, data + start, len);
            if (hardware) {
                assert_int_equal(hardware(5, data + start, len), want);
            }
            uint32_t half = rk_crc32c(5, data + start, len / 2);
            assert_int_equal(rk_crc32c(half, data + start + len / 2, len - len / 2), want);
        }
    }
}

static void
half_precision(void **state)
{
    RK_UNUSED(state);
    for (uint32_t h = 0; h <= 0xFFFF; h++) {
        float f = rk_f16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(rk_f16_to_f32(rk_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(rk_f32_to_f16(f), h);
        /* a hair to either side of the middle between two neighbours rounds to the near one; the
         * middle to even */
        if ((h & 0x7FFF) < 0x7BFF) {
            float next = rk_f16_to_f32((uint16_t)(h + 1));
            float middle = f + (next - f) / 2;
            assert_int_equal(rk_f32_to_f16(middle), h & 1 ? h + 1 : h);
            assert_int_equal(rk_f32_to_f16(nextafterf(middle, f)), h);
            assert_int_equal(rk_f32_to_f16(nextafterf(middle, next)), h + 1);
        }
    }
    assert_int_equal(rk_f32_to_f16(65504.0f), 0x7BFF);
    assert_int_equal(rk_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(rk_f32_to_f16(-INFINITY), 0xFC00);
    assert_true(rk_f16_to_f32(0x3C00) == 1.0f);
    assert_true(rk_f16_to_f32(0x0001) == 0x1p-24f);
}

static void
bfloat(void **state)
{
    RK_UNUSED(state);
    for (uint32_t h = 0; h <= 0xFFFF; h++) {
        float f = rk_bf16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(rk_bf16_to_f32(rk_f32_to_bf16(f))));
        } else {
            assert_int_equal(rk_f32_to_bf16(f), h);
        }
    }
    assert_int_equal(rk_f32_to_bf16(1.00390625f), 0x3F80); /* a tie goes to even */
    assert_int_equal(rk_f32_to_bf16(1.01171875f), 0x3F82);
}

static void
hashes(void **state)
{
    RK_UNUSED(state);
    /* on disk: must never change */
    assert_int_equal(rk_hash64("", 0), UINT64_C(0x2d06800538d394c2));
    assert_int_equal(rk_hash64(NULL, 0), UINT64_C(0x2d06800538d394c2));
    assert_int_equal(rk_hash_u64(0), 0);
    assert_int_equal(rk_hash_u64(1), UINT64_C(0x5692161d100b05e5));
}

static void
fault_points(void **state)
{
    char path[] = "/tmp/rk-fault-XXXXXX";

    RK_UNUSED(state);
    assert_int_equal(RK_FAULT("a"), RK_OK);
    setenv("REDKITE_FAULT", "a:2:error, b:1:full+,bad,c:0:error,d:1:explode", 1);
    rk_fault_init();
    assert_true(rk_fault_armed);
    assert_int_equal(RK_FAULT("a"), RK_OK);
    assert_int_equal(RK_FAULT("a"), RK_EIO);
    assert_int_equal(RK_FAULT("a"), RK_OK);
    assert_int_equal(RK_FAULT("b"), RK_EDISK_FULL);
    assert_int_equal(RK_FAULT("b"), RK_EDISK_FULL);
    assert_int_equal(RK_FAULT("c"), RK_OK);
    unsetenv("REDKITE_FAULT");

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    setenv("REDKITE_FAULT_FILE", path, 1);
    rk_fault_init();
    assert_int_equal(RK_FAULT("x"), RK_OK);
    assert_int_equal(write(fd, "x:1:error\n", 10), 10);
    assert_int_equal(RK_FAULT("x"), RK_EIO);
    assert_int_equal(write(fd, "k:1:kill\n", 9), 9);
    pid_t child = fork();
    if (child == 0) {
        rk_code code = RK_FAULT("k");
        _exit(code == RK_OK ? 1 : 2);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == 9);
    unsetenv("REDKITE_FAULT_FILE");
    rk_fault_init();
    assert_false(rk_fault_armed);
    close(fd);
    unlink(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c), cmocka_unit_test(half_precision), cmocka_unit_test(bfloat),
        cmocka_unit_test(hashes), cmocka_unit_test(fault_points),
    };
    return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
