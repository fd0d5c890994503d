/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory: the only place that calls malloc, the accountant, and the request arena.
 *
 * Three lifetimes: process (start-up), object (rk_alloc/rk_free), request (an arena, freed whole
 * when the reply is sent). Large consumers ask the accountant for bytes before they allocate and
 * are refused with the numbers in the message.
 */
#ifndef RK_BASE_MEM_H
#define RK_BASE_MEM_H

#include "base/slice.h"
#include "base/status.h"

/* malloc, calloc, realloc and aligned_alloc with a test hook; NULL when memory is out. Any thread.
 */
void *rk_alloc(size_t size_bytes) RK_MUST_CHECK;
void *rk_alloc_zero(size_t count, size_t size_bytes) RK_MUST_CHECK;
void *rk_realloc(void *ptr, size_t size_bytes) RK_MUST_CHECK;
void *rk_alloc_aligned(size_t align_bytes,
                       size_t size_bytes) RK_MUST_CHECK; /* freed by rk_free() too */
char *rk_strdup(rk_str s) RK_MUST_CHECK;                 /* NUL-terminated copy */
void rk_free(void *ptr);

/* Test hook: after |count| further successful allocations every one fails; < 0 switches it off. */
void rk_alloc_fail_after(int64_t count);

/* ---- accountant ---- */

/* A byte budget. Budgets form a tree: a reservation is charged to every ancestor. Any thread. */
typedef struct rk_mem rk_mem;

/* |parent| may be NULL. |limit_bytes| 0 means no limit of its own. |name| is static text for
 * messages. */
rk_mem *rk_mem_new(rk_mem *parent, const char *name, uint64_t limit_bytes);
void rk_mem_free(rk_mem *mem); /* asserts that nothing is reserved any more */

/* RK_ENOMEM with "what: needs N bytes, used U of limit L" when it does not fit; nothing is charged
 * then. |mem| may be NULL: always fits. */
RK_MUST_CHECK rk_code rk_mem_reserve(rk_mem *mem, uint64_t size_bytes, const char *what,
                                     rk_err *err);
void rk_mem_release(rk_mem *mem, uint64_t size_bytes);
uint64_t rk_mem_used(const rk_mem *mem);
uint64_t rk_mem_limit(const rk_mem *mem); /* the smallest limit on the way to the root; 0 = none */

/* The memory this process may use: the smaller of cgroup v1/v2 limit and physical memory, in bytes.
 */
uint64_t rk_mem_system_limit(void);

/* ---- arena ---- */

/*
 * A bump allocator for one request. Blocks grow from 4 KiB up; freed whole. One thread at a time.
 * Every allocation is 16-byte aligned. Returns NULL past |limit_bytes| or when memory is out.
 */
typedef struct rk_arena rk_arena;

rk_arena *rk_arena_new(uint64_t limit_bytes); /* 0 = 1 GiB */
void rk_arena_free(rk_arena *arena);
void rk_arena_reset(rk_arena *arena); /* keeps one block, of 256 KiB at most */
void *rk_arena_alloc(rk_arena *arena, size_t size_bytes) RK_MUST_CHECK;
void *rk_arena_zero(rk_arena *arena, size_t count, size_t size_bytes) RK_MUST_CHECK;
rk_str rk_arena_str(rk_arena *arena, rk_str s); /* copy, NUL after the end; .data NULL when out */
rk_str rk_arena_printf(rk_arena *arena, const char *fmt, ...) RK_PRINTF(2, 3);
uint64_t rk_arena_used(const rk_arena *arena);
/* Runs |fn|(|arg|) when the arena is reset or freed, last registered first. False when memory is
 * out. */
bool rk_arena_defer(rk_arena *arena, void (*fn)(void *), void *arg) RK_MUST_CHECK;

#define RK_ARENA_NEW(arena, type)      ((type *)rk_arena_zero((arena), 1, sizeof(type)))
#define RK_ARENA_ARRAY(arena, type, n) ((type *)rk_arena_zero((arena), (n), sizeof(type)))

#endif
