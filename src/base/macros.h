/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler attributes, assertions, checked arithmetic: what every other file starts from.
 *
 * RK_ASSERT stays on in release builds and is for our own mistakes only; RK_DCHECK is compiled into
 * debug and sanitizer builds. What a client, a disk or a network sent is checked with an error
 * code.
 */
#ifndef RK_BASE_MACROS_H
#define RK_BASE_MACROS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RK_MUST_CHECK                   __attribute__((warn_unused_result))
#define RK_PRINTF(fmt, args)            __attribute__((format(printf, fmt, args)))
#define RK_NORETURN                     __attribute__((noreturn))
#define RK_LIKELY(x)                    __builtin_expect(!!(x), 1)
#define RK_UNLIKELY(x)                  __builtin_expect(!!(x), 0)
#define RK_UNUSED(x)                    ((void)(x))
#define RK_COUNT(array)                 (sizeof(array) / sizeof((array)[0]))
#define RK_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define RK_MIN(a, b)                    ((a) < (b) ? (a) : (b))
#define RK_MAX(a, b)                    ((a) > (b) ? (a) : (b))

/* Prints |expr| with file and line to standard error, then aborts. */
RK_NORETURN void rk_assert_fail(const char *expr, const char *file, int line);

#define RK_ASSERT(expr) ((expr) ? (void)0 : rk_assert_fail(#expr, __FILE__, __LINE__))
#ifdef RK_DEBUG
#define RK_DCHECK(expr) RK_ASSERT(expr)
#else
#define RK_DCHECK(expr) ((void)0)
#endif

/* Sizes that come from outside go through these: true when the result fits, false on overflow. */
static inline bool
rk_add_ok(size_t *out, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool
rk_mul_ok(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

#endif
