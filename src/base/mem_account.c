/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accountant: byte budgets in a tree.
 *
 * A reservation walks from its budget to the root and adds to each one by compare-and-swap, so that
 * a budget is never seen above its limit. When one on the way refuses, the ones below it are given
 * back. There is no lock: two large reservations that race may both be refused where either alone
 * would have fit at the root, never both granted. Orders are relaxed throughout: the numbers guard
 * no other memory.
 */
#include <stdatomic.h>
#include <unistd.h>

#include "base/base_private.h"
#include "base/mem.h"

struct rk_mem {
    rk_mem *parent; /* borrowed; outlives this one */
    const char *name;
    uint64_t limit_bytes; /* 0 = none */
    _Atomic uint64_t used_bytes;
};

rk_mem *
rk_mem_new(rk_mem *parent, const char *name, uint64_t limit_bytes)
{
    rk_mem *mem = rk_alloc_zero(1, sizeof(*mem));

    if (mem) {
        mem->parent = parent;
        mem->name = name;
        mem->limit_bytes = limit_bytes;
    }
    return mem;
}

void
rk_mem_free(rk_mem *mem)
{
    if (mem) {
        RK_ASSERT(rk_mem_used(mem) == 0);
        rk_free(mem);
    }
}

/* Adds |size_bytes| unless that passes the limit; |*used| is what was in use before. */
static bool
charge(rk_mem *mem, uint64_t size_bytes, uint64_t *used)
{
    uint64_t now = atomic_load_explicit(&mem->used_bytes, memory_order_relaxed);

    for (;;) {
        uint64_t next;
        *used = now;
        if (__builtin_add_overflow(now, size_bytes, &next) ||
            (mem->limit_bytes != 0 && next > mem->limit_bytes)) {
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&mem->used_bytes, &now, next,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return true;
        }
    }
}

static void
uncharge(rk_mem *mem, uint64_t size_bytes)
{
    uint64_t before = atomic_fetch_sub_explicit(&mem->used_bytes, size_bytes, memory_order_relaxed);
    RK_ASSERT(before >= size_bytes);
}

rk_code
rk_mem_reserve(rk_mem *mem, uint64_t size_bytes, const char *what, rk_err *err)
{
    for (rk_mem *at = mem; at; at = at->parent) {
        uint64_t used;
        if (charge(at, size_bytes, &used)) {
            continue;
        }
        for (rk_mem *undo = mem; undo != at; undo = undo->parent) {
            uncharge(undo, size_bytes);
        }
        return rk_fail(err, RK_ENOMEM,
                       "%s: needs %llu bytes, used %llu of limit %llu of the %s memory budget",
                       what, (unsigned long long)size_bytes, (unsigned long long)used,
                       (unsigned long long)at->limit_bytes, at->name);
    }
    return RK_OK;
}

void
rk_mem_release(rk_mem *mem, uint64_t size_bytes)
{
    for (; mem; mem = mem->parent) {
        uncharge(mem, size_bytes);
    }
}

uint64_t
rk_mem_used(const rk_mem *mem)
{
    return mem ? atomic_load_explicit(&mem->used_bytes, memory_order_relaxed) : 0;
}

uint64_t
rk_mem_limit(const rk_mem *mem)
{
    uint64_t limit = 0;

    for (; mem; mem = mem->parent) {
        if (mem->limit_bytes != 0 && (limit == 0 || mem->limit_bytes < limit)) {
            limit = mem->limit_bytes;
        }
    }
    return limit;
}

uint64_t
rk_mem_system_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_size = sysconf(_SC_PAGESIZE);
    uint64_t physical = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : 0;
    uint64_t limit = rk__cgroup_memory_limit("");

    return limit != 0 && (physical == 0 || limit < physical) ? limit : physical;
}
