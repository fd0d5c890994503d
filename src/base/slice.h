/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Borrowed views of text and bytes, little-endian reads and writes, and a growable byte buffer.
 */
#ifndef RK_BASE_SLICE_H
#define RK_BASE_SLICE_H

#include <string.h>

#include "base/status.h"

/* A borrowed run of bytes, text or not; no terminator. {NULL, 0} is the empty one. */
typedef struct rk_str {
    const char *data;
    size_t len;
} rk_str;

#define RK_STR(literal) ((rk_str){"" literal, sizeof(literal) - 1})
/* For printf: "%.*s", RK_STR_ARG(s) */
#define RK_STR_ARG(s) (int)RK_MIN((s).len, (size_t)INT32_MAX), ((s).data ? (s).data : "")

static inline rk_str
rk_str_from(const char *text)
{
    return (rk_str){text, text ? strlen(text) : 0};
}

static inline bool
rk_str_eq(rk_str a, rk_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
rk_str_is(rk_str a, const char *text)
{
    return rk_str_eq(a, rk_str_from(text));
}

int rk_str_cmp(rk_str a, rk_str b); /* bytewise, shorter first on a common prefix */
rk_str rk_str_trim(rk_str s);       /* without ASCII blanks at both ends */
bool rk_str_starts(rk_str s, const char *text);
bool rk_str_ends(rk_str s, const char *text);
/* Whole-string numbers; false on empty, junk, overflow. rk_str_to_bool accepts 1,t,T,TRUE,true,True
 * and the false forms. */
bool rk_str_to_i64(rk_str s, int64_t *out);
bool rk_str_to_u64(rk_str s, uint64_t *out);
bool rk_str_to_f64(rk_str s, double *out);
bool rk_str_to_bool(rk_str s, bool *out);
/* Bytes of the first ill-formed sequence, or SIZE_MAX when |s| is valid UTF-8. */
size_t rk_utf8_invalid_at(rk_str s);

static inline uint16_t
rk_get_u16le(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}
static inline uint32_t
rk_get_u32le(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}
static inline uint64_t
rk_get_u64le(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}
static inline void
rk_put_u16le(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}
static inline void
rk_put_u32le(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}
static inline void
rk_put_u64le(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* Growable bytes. Zero-initialised is empty. On failure the buffer is unchanged and |failed|
 * sticks, so a writer may append many times and check once. One thread at a time. */
typedef struct rk_buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
    bool failed; /* an append ran out of memory */
} rk_buf;

void rk_buf_deinit(rk_buf *buf);
void rk_buf_clear(rk_buf *buf); /* keeps the memory */
bool rk_buf_reserve(rk_buf *buf, size_t more_bytes);
void rk_buf_append(rk_buf *buf, const void *data, size_t len);
void rk_buf_str(rk_buf *buf, rk_str s);
void rk_buf_byte(rk_buf *buf, uint8_t byte);
void rk_buf_printf(rk_buf *buf, const char *fmt, ...) RK_PRINTF(2, 3);
void rk_buf_u32le(rk_buf *buf, uint32_t v);
void rk_buf_u64le(rk_buf *buf, uint64_t v);

static inline rk_str
rk_buf_view(const rk_buf *buf)
{
    return (rk_str){(const char *)buf->data, buf->len};
}

/* A bounded reader over bytes from outside. Reading past the end sets |bad| and yields zeros. */
typedef struct rk_cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
} rk_cursor;

static inline rk_cursor
rk_cursor_on(const void *data, size_t len)
{
    const uint8_t *at = (const uint8_t *)data;
    return (rk_cursor){at, at ? at + len : at, false};
}
uint8_t rk_cursor_u8(rk_cursor *c);
uint16_t rk_cursor_u16(rk_cursor *c);
uint32_t rk_cursor_u32(rk_cursor *c);
uint64_t rk_cursor_u64(rk_cursor *c);
rk_str rk_cursor_bytes(rk_cursor *c, size_t len);

#endif
