/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text views, number parsing, UTF-8 checking, the growable buffer and the bounded cursor.
 *
 * Number parsing is strict: the whole string, no blanks, no hexadecimal, no "inf" or "nan". The
 * process never calls setlocale(), so the decimal point is always a point. A buffer that once ran
 * out of memory ignores further appends, so that its content is a clean prefix; rk_buf_clear()
 * makes it usable again.
 */
#include "base/slice.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define NUMBER_LEN_MAX 512

int
rk_str_cmp(rk_str a, rk_str b)
{
    size_t common = RK_MIN(a.len, b.len);
    int order = common ? memcmp(a.data, b.data, common) : 0;

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static bool
is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

rk_str
rk_str_trim(rk_str s)
{
    while (s.len > 0 && is_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool
rk_str_starts(rk_str s, const char *text)
{
    size_t len = strlen(text);
    return s.len >= len && (len == 0 || memcmp(s.data, text, len) == 0);
}

bool
rk_str_ends(rk_str s, const char *text)
{
    size_t len = strlen(text);
    return s.len >= len && (len == 0 || memcmp(s.data + s.len - len, text, len) == 0);
}

bool
rk_str_to_u64(rk_str s, uint64_t *out)
{
    uint64_t value = 0;

    if (s.len == 0) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return false;
        }
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.data[i] - '0'), &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

bool
rk_str_to_i64(rk_str s, int64_t *out)
{
    uint64_t magnitude;
    bool negative = s.len > 0 && s.data[0] == '-';

    if (s.len > 0 && (s.data[0] == '-' || s.data[0] == '+')) {
        s.data++;
        s.len--;
    }
    if (!rk_str_to_u64(s, &magnitude) || magnitude > (uint64_t)INT64_MAX + (negative ? 1u : 0u)) {
        return false;
    }
    if (negative) {
        *out = magnitude == (uint64_t)INT64_MAX + 1u ? INT64_MIN : -(int64_t)magnitude;
    } else {
        *out = (int64_t)magnitude;
    }
    return true;
}

bool
rk_str_to_f64(rk_str s, double *out)
{
    char text[NUMBER_LEN_MAX];

    if (s.len == 0 || s.len >= sizeof(text)) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        if (!((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E')) {
            return false;
        }
    }
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    char *end = NULL;
    double value = strtod(text, &end);
    if (end != text + s.len || !isfinite(value)) {
        return false;
    }
    *out = value;
    return true;
}

bool
rk_str_to_bool(rk_str s, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < RK_COUNT(yes); i++) {
        if (rk_str_is(s, yes[i])) {
            *out = true;
            return true;
        }
        if (rk_str_is(s, no[i])) {
            *out = false;
            return true;
        }
    }
    return false;
}

/* Length of the well-formed sequence at |p| with |left| bytes, 0 when it is ill-formed. */
static size_t
utf8_sequence_len(const unsigned char *p, size_t left)
{
    unsigned char lead = p[0];
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t len;

    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        len = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        len = 3;
        low = lead == 0xE0 ? 0xA0 : 0x80;  /* no overlong forms */
        high = lead == 0xED ? 0x9F : 0xBF; /* no surrogates */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        len = 4;
        low = lead == 0xF0 ? 0x90 : 0x80;
        high = lead == 0xF4 ? 0x8F : 0xBF; /* nothing above U+10FFFF */
    } else {
        return 0;
    }
    if (left < len || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

size_t
rk_utf8_invalid_at(rk_str s)
{
    const unsigned char *p = (const unsigned char *)s.data;
    size_t at = 0;

    while (at < s.len) {
        while (s.len - at >= 8 && (rk_get_u64le(p + at) & UINT64_C(0x8080808080808080)) == 0) {
            at += 8;
        }
        if (at == s.len) {
            break;
        }
        size_t len = utf8_sequence_len(p + at, s.len - at);
        if (len == 0) {
            return at;
        }
        at += len;
    }
    return SIZE_MAX;
}

/* ---- growable buffer ---- */

void
rk_buf_deinit(rk_buf *buf)
{
    if (buf) {
        rk_free(buf->data);
        *buf = (rk_buf){0};
    }
}

void
rk_buf_clear(rk_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

bool
rk_buf_reserve(rk_buf *buf, size_t more_bytes)
{
    size_t need;

    if (buf->failed || !rk_add_ok(&need, buf->len, more_bytes)) {
        buf->failed = true;
        return false;
    }
    if (need <= buf->cap) {
        return true;
    }
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < need) {
        if (cap > SIZE_MAX / 2) {
            cap = need;
        } else {
            cap *= 2;
        }
    }
    uint8_t *data = rk_realloc(buf->data, cap);
    if (!data) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void
rk_buf_append(rk_buf *buf, const void *data, size_t len)
{
    if (len == 0 || !rk_buf_reserve(buf, len)) {
        return;
    }
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void
rk_buf_str(rk_buf *buf, rk_str s)
{
    rk_buf_append(buf, s.data, s.len);
}

void
rk_buf_byte(rk_buf *buf, uint8_t byte)
{
    if (rk_buf_reserve(buf, 1)) {
        buf->data[buf->len++] = byte;
    }
}

void
rk_buf_printf(rk_buf *buf, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    int wanted = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (wanted < 0) {
        buf->failed = true;
        return;
    }
    if ((size_t)wanted < sizeof(text)) {
        rk_buf_append(buf, text, (size_t)wanted);
        return;
    }
    if (!rk_buf_reserve(buf, (size_t)wanted + 1)) {
        return;
    }
    va_start(args, fmt);
    vsnprintf((char *)buf->data + buf->len, (size_t)wanted + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)wanted;
}

void
rk_buf_u32le(rk_buf *buf, uint32_t v)
{
    rk_buf_append(buf, &v, sizeof(v));
}

void
rk_buf_u64le(rk_buf *buf, uint64_t v)
{
    rk_buf_append(buf, &v, sizeof(v));
}

/* ---- cursor ---- */

static const uint8_t *
cursor_take(rk_cursor *c, size_t len)
{
    if (c->bad || (size_t)(c->end - c->at) < len) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *at = c->at;
    c->at += len;
    return at;
}

uint8_t
rk_cursor_u8(rk_cursor *c)
{
    const uint8_t *p = cursor_take(c, 1);
    return p ? *p : 0;
}

uint16_t
rk_cursor_u16(rk_cursor *c)
{
    const uint8_t *p = cursor_take(c, 2);
    return p ? rk_get_u16le(p) : 0;
}

uint32_t
rk_cursor_u32(rk_cursor *c)
{
    const uint8_t *p = cursor_take(c, 4);
    return p ? rk_get_u32le(p) : 0;
}

uint64_t
rk_cursor_u64(rk_cursor *c)
{
    const uint8_t *p = cursor_take(c, 8);
    return p ? rk_get_u64le(p) : 0;
}

rk_str
rk_cursor_bytes(rk_cursor *c, size_t len)
{
    const uint8_t *p = len == 0 ? NULL : cursor_take(c, len);
    return p ? (rk_str){(const char *)p, len} : (rk_str){NULL, 0};
}
