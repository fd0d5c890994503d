/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator: the only callers of malloc and its kin in the project.
 *
 * Everything comes from the C library, so that rk_free() takes aligned blocks too. The test hook
 * counts successful allocations down and then fails every one; a test runs its case once to count,
 * then again for each number. A size of zero yields a block of one byte, never NULL, so NULL always
 * means "out of memory". Any thread.
 */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Allocations left before failure; negative: no limit. Relaxed: only single-threaded tests count.
 */
static _Atomic int64_t fail_after = -1;

void
rk_alloc_fail_after(int64_t count)
{
    atomic_store_explicit(&fail_after, count < 0 ? -1 : count, memory_order_relaxed);
}

static bool
must_fail(void)
{
    int64_t left = atomic_load_explicit(&fail_after, memory_order_relaxed);

    if (RK_LIKELY(left < 0)) {
        return false;
    }
    if (left == 0) {
        return true;
    }
    atomic_fetch_sub_explicit(&fail_after, 1, memory_order_relaxed);
    return false;
}

void *
rk_alloc(size_t size_bytes)
{
    return must_fail() ? NULL : malloc(size_bytes ? size_bytes : 1);
}

void *
rk_alloc_zero(size_t count, size_t size_bytes)
{
    if (count == 0 || size_bytes == 0) {
        count = size_bytes = 1;
    }
    size_t total; /* calloc checks too, but the sanitizer's stops the program */
    if (!rk_mul_ok(&total, count, size_bytes) || must_fail()) {
        return NULL;
    }
    return calloc(count, size_bytes);
}

void *
rk_realloc(void *ptr, size_t size_bytes)
{
    return must_fail() ? NULL : realloc(ptr, size_bytes ? size_bytes : 1);
}

void *
rk_alloc_aligned(size_t align_bytes, size_t size_bytes)
{
    void *out = NULL;

    RK_ASSERT(align_bytes >= sizeof(void *) && (align_bytes & (align_bytes - 1)) == 0);
    if (must_fail() || posix_memalign(&out, align_bytes, size_bytes ? size_bytes : 1) != 0) {
        return NULL;
    }
    return out;
}

char *
rk_strdup(rk_str s)
{
    size_t size;

    if (!rk_add_ok(&size, s.len, 1)) {
        return NULL;
    }
    char *out = rk_alloc(size);
    if (!out) {
        return NULL;
    }
    if (s.len > 0) {
        memcpy(out, s.data, s.len);
    }
    out[s.len] = '\0';
    return out;
}

void
rk_free(void *ptr)
{
    free(ptr);
}
