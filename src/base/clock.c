/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real clock and the real source of randomness, and the set of real seams.
 *
 * Randomness comes from the kernel; it blocks only before the pool is first filled at boot. Any
 * thread.
 */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/base_private.h"
#include "base/seam.h"

static int64_t
real_wall_ms(void *self)
{
    struct timespec now;

    RK_UNUSED(self);
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t
real_monotonic_ns(void *self)
{
    struct timespec now;

    RK_UNUSED(self);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
real_sleep_ns(void *self, int64_t duration_ns)
{
    struct timespec left;

    RK_UNUSED(self);
    if (duration_ns <= 0) {
        return;
    }
    left.tv_sec = (time_t)(duration_ns / 1000000000);
    left.tv_nsec = (long)(duration_ns % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

static void
real_bytes(void *self, void *out, size_t len)
{
    uint8_t *at = out;

    RK_UNUSED(self);
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0) {
            RK_ASSERT(errno == EINTR); /* nothing else is possible for a valid buffer */
            continue;
        }
        at += got;
        len -= (size_t)got;
    }
}

static const rk_clock real_clock = {real_wall_ms, real_monotonic_ns, real_sleep_ns, NULL};
static const rk_random real_random = {real_bytes, NULL};

const rk_clock *
rk_clock_real(void)
{
    return &real_clock;
}

const rk_random *
rk_random_real(void)
{
    return &real_random;
}

const rk_env *
rk_env_real(void)
{
    static const rk_env env = {&real_clock, &real_random, &rk__disk_real};
    return &env;
}
