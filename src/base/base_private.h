/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share with each other and with their unit tests, and nobody else.
 */
#ifndef RK_BASE_PRIVATE_H
#define RK_BASE_PRIVATE_H

#include "base/seam.h"
#include "base/slice.h"

/*
 * The limits of the control group this process lives in, the smallest one on the way to the root of
 * the hierarchy, version 1 or 2. |root| is put before every path ("" in production; tests use a
 * folder). 0 means no limit or no control groups.
 */
uint64_t rk__cgroup_memory_limit(const char *root);
double rk__cgroup_cpu_limit(const char *root); /* in CPUs */

/* Every implementation of CRC32C, for tests that compare them. NULL when this CPU lacks it. */
typedef uint32_t (*rk__crc32c_fn)(uint32_t crc, const void *data, size_t len);
rk__crc32c_fn rk__crc32c_table(void);
rk__crc32c_fn rk__crc32c_hardware(void);

extern rk_disk rk__disk_real; /* what rk_disk_real() returns */

#endif
