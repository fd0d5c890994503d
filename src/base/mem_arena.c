/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request arena: a bump allocator freed whole.
 *
 * Blocks form a list, newest first; a new block is twice the size of the last one, from 4 KiB up to
 * 1 MiB, or as large as the allocation that needs it. An allocation that is larger than half a
 * standard block gets a block of its own behind the current one, so that the current one goes on
 * being filled. Under the address sanitizer the unused part of every block is poisoned and
 * allocations are kept 16 bytes apart. One thread at a time.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_GAP          16u
#define POISON(ptr, len)   ASAN_POISON_MEMORY_REGION((ptr), (len))
#define UNPOISON(ptr, len) ASAN_UNPOISON_MEMORY_REGION((ptr), (len))
#else
#define ARENA_GAP          0u
#define POISON(ptr, len)   ((void)(ptr), (void)(len))
#define UNPOISON(ptr, len) ((void)(ptr), (void)(len))
#endif

#define BLOCK_MIN     ((size_t)4096)
#define BLOCK_MAX     ((size_t)1 << 20)
#define KEEP_MAX      ((size_t)256 << 10) /* what a reset may keep */
#define DEFAULT_LIMIT ((uint64_t)1 << 30)

typedef struct block {
    struct block *next; /* older */
    size_t cap;         /* payload bytes */
    uint8_t pad[16];    /* the payload starts 16-byte aligned */
} block;

typedef struct defer {
    struct defer *next;
    void (*fn)(void *);
    void *arg;
} defer;

struct rk_arena {
    uint8_t *at; /* next free byte of the current block */
    uint8_t *end;
    uint64_t used_bytes;
    uint64_t limit_bytes;
    block *blocks; /* newest first; the current one is the head */
    size_t next_cap;
    defer *defers;
};

_Static_assert(sizeof(block) % 16 == 0, "block payloads are 16-byte aligned");
_Static_assert(sizeof(rk_arena) % 8 == 0, "the arena lives before its first block");

static uint8_t *
payload(block *b)
{
    return (uint8_t *)b + sizeof(*b);
}

static block *
block_new(size_t cap)
{
    size_t size;

    if (!rk_add_ok(&size, cap, sizeof(block))) {
        return NULL;
    }
    block *b = rk_alloc(size);
    if (b) {
        b->cap = cap;
        b->next = NULL;
        POISON(payload(b), cap);
    }
    return b;
}

static void
block_free(block *b)
{
    UNPOISON(payload(b), b->cap);
    rk_free(b);
}

static void
make_current(rk_arena *arena, block *b)
{
    arena->at = payload(b);
    arena->end = arena->at + b->cap;
}

rk_arena *
rk_arena_new(uint64_t limit_bytes)
{
    rk_arena *arena = rk_alloc_zero(1, sizeof(*arena));

    if (!arena) {
        return NULL;
    }
    arena->blocks = block_new(BLOCK_MIN);
    if (!arena->blocks) {
        rk_free(arena);
        return NULL;
    }
    make_current(arena, arena->blocks);
    arena->limit_bytes = limit_bytes ? limit_bytes : DEFAULT_LIMIT;
    arena->next_cap = BLOCK_MIN * 2;
    return arena;
}

static void
run_defers(rk_arena *arena)
{
    while (arena->defers) {
        defer *d = arena->defers;
        arena->defers = d->next;
        d->fn(d->arg);
    }
}

void
rk_arena_reset(rk_arena *arena)
{
    run_defers(arena);
    block *kept = arena->blocks; /* the largest but for those of one large allocation each */
    while (kept->cap > KEEP_MAX && kept->next) {
        block *b = kept;
        kept = b->next;
        block_free(b);
    }
    while (kept->next) {
        block *b = kept->next;
        kept->next = b->next;
        block_free(b);
    }
    arena->blocks = kept;
    POISON(payload(kept), kept->cap);
    make_current(arena, kept);
    arena->used_bytes = 0;
    arena->next_cap = kept->cap > BLOCK_MIN ? kept->cap * 2 : BLOCK_MIN * 2;
}

void
rk_arena_free(rk_arena *arena)
{
    if (!arena) {
        return;
    }
    run_defers(arena);
    while (arena->blocks) {
        block *b = arena->blocks;
        arena->blocks = b->next;
        block_free(b);
    }
    rk_free(arena);
}

/* The slow path: |need| bytes, a multiple of 16, do not fit the current block. */
static void *
alloc_in_new_block(rk_arena *arena, size_t need)
{
    if (need > arena->next_cap / 2) {
        block *own = block_new(need);
        if (!own) {
            return NULL;
        }
        own->next = arena->blocks->next; /* behind the current one, which stays current */
        arena->blocks->next = own;
        return payload(own);
    }
    block *b = block_new(arena->next_cap);
    if (!b) {
        return NULL;
    }
    if (arena->next_cap < BLOCK_MAX) {
        arena->next_cap *= 2;
    }
    b->next = arena->blocks;
    arena->blocks = b;
    make_current(arena, b);
    void *out = arena->at;
    arena->at += need;
    return out;
}

void *
rk_arena_alloc(rk_arena *arena, size_t size_bytes)
{
    if (RK_UNLIKELY(size_bytes > SIZE_MAX / 2)) {
        return NULL;
    }
    size_t need = ((size_bytes ? size_bytes : 1) + ARENA_GAP + 15) & ~(size_t)15;
    if (RK_UNLIKELY(need > arena->limit_bytes - arena->used_bytes)) {
        return NULL;
    }
    void *out;
    if (RK_LIKELY(need <= (size_t)(arena->end - arena->at))) {
        out = arena->at;
        arena->at += need;
    } else {
        out = alloc_in_new_block(arena, need);
        if (!out) {
            return NULL;
        }
    }
    arena->used_bytes += need;
    UNPOISON(out, size_bytes);
    return out;
}

void *
rk_arena_zero(rk_arena *arena, size_t count, size_t size_bytes)
{
    size_t total;

    if (!rk_mul_ok(&total, count, size_bytes)) {
        return NULL;
    }
    void *out = rk_arena_alloc(arena, total);
    if (out) {
        memset(out, 0, total);
    }
    return out;
}

rk_str
rk_arena_str(rk_arena *arena, rk_str s)
{
    size_t size;
    char *out = rk_add_ok(&size, s.len, 1) ? rk_arena_alloc(arena, size) : NULL;

    if (!out) {
        return (rk_str){NULL, 0};
    }
    if (s.len > 0) {
        memcpy(out, s.data, s.len);
    }
    out[s.len] = '\0';
    return (rk_str){out, s.len};
}

rk_str
rk_arena_printf(rk_arena *arena, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int wanted = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (wanted < 0) {
        return (rk_str){NULL, 0};
    }
    char *out = rk_arena_alloc(arena, (size_t)wanted + 1);
    if (!out) {
        return (rk_str){NULL, 0};
    }
    va_start(args, fmt);
    vsnprintf(out, (size_t)wanted + 1, fmt, args);
    va_end(args);
    return (rk_str){out, (size_t)wanted};
}

uint64_t
rk_arena_used(const rk_arena *arena)
{
    return arena->used_bytes;
}

bool
rk_arena_defer(rk_arena *arena, void (*fn)(void *), void *arg)
{
    defer *d = rk_arena_alloc(arena, sizeof(*d));

    if (!d) {
        return false;
    }
    d->fn = fn;
    d->arg = arg;
    d->next = arena->defers;
    arena->defers = d;
    return true;
}
