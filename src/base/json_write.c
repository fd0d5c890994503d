/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON writer: appends to a buffer and keeps one bit per open level, "something was written
 * here", to know where commas go. Mistakes of the caller (a value without a key in an object) are
 * not caught; the tests check the output instead.
 */
#include <math.h>

#include "base/json.h"
#include "base/json_private.h"

/* The comma before a value or key, if one is due. */
static void
separate(rk_json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0) {
        return;
    }
    uint32_t level = w->depth - 1;
    uint64_t bit = UINT64_C(1) << (level % 64);
    if (w->started[level / 64] & bit) {
        rk_buf_byte(w->out, ',');
    }
    w->started[level / 64] |= bit;
}

static void
open_level(rk_json_writer *w, char bracket)
{
    separate(w);
    rk_buf_byte(w->out, (uint8_t)bracket);
    if (w->depth == RK_JSON_DEPTH_MAX) {
        w->out->failed = true;
        return;
    }
    w->started[w->depth / 64] &= ~(UINT64_C(1) << (w->depth % 64));
    w->depth++;
}

static void
close_level(rk_json_writer *w, char bracket)
{
    rk_buf_byte(w->out, (uint8_t)bracket);
    w->depth -= w->depth > 0;
}

void
rk_json_object(rk_json_writer *w)
{
    open_level(w, '{');
}

void
rk_json_object_end(rk_json_writer *w)
{
    close_level(w, '}');
}

void
rk_json_array(rk_json_writer *w)
{
    open_level(w, '[');
}

void
rk_json_array_end(rk_json_writer *w)
{
    close_level(w, ']');
}

size_t
rk__json_utf8(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    size_t len;

    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        len = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        len = 3;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        len = 4;
    } else {
        return 0;
    }
    if (left < len || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* Bytes from |p| on that stand for themselves in a string. */
static size_t
plain_run(const char *p, const char *end)
{
    const char *start = p;

    while (p < end) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == '"' || c == '\\') {
            break;
        }
        size_t len = rk__json_utf8(p, end);
        if (len == 0) {
            break;
        }
        p += len;
    }
    return (size_t)(p - start);
}

static void
write_escape(rk_buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char names[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *name = c ? strchr(names, c) : NULL;

    if (c >= 0x80) {
        rk_buf_append(out, "\xef\xbf\xbd", 3); /* part of ill-formed UTF-8 */
        return;
    }
    rk_buf_byte(out, '\\');
    if (name) {
        rk_buf_byte(out, (uint8_t)letters[name - names]);
    } else {
        rk_buf_append(out, "u00", 3);
        rk_buf_byte(out, (uint8_t)hex[c >> 4]);
        rk_buf_byte(out, (uint8_t)hex[c & 15]);
    }
}

static void
write_string(rk_buf *out, rk_str text)
{
    const char *p = text.data;
    const char *end = p ? p + text.len : p;

    rk_buf_byte(out, '"');
    while (p < end) {
        size_t run = plain_run(p, end);
        if (run > 0) {
            rk_buf_append(out, p, run);
            p += run;
        }
        if (p < end) {
            write_escape(out, (unsigned char)*p++);
        }
    }
    rk_buf_byte(out, '"');
}

void
rk_json_key(rk_json_writer *w, rk_str key)
{
    separate(w);
    write_string(w->out, key);
    rk_buf_byte(w->out, ':');
    w->after_key = true;
}

void
rk_json_str(rk_json_writer *w, rk_str text)
{
    separate(w);
    write_string(w->out, text);
}

void
rk_json_raw(rk_json_writer *w, rk_str json)
{
    separate(w);
    rk_buf_str(w->out, json);
}

void
rk_json_i64(rk_json_writer *w, int64_t value)
{
    char text[24];
    char *p = text + sizeof(text);
    uint64_t magnitude = value < 0 ? UINT64_C(0) - (uint64_t)value : (uint64_t)value;

    do {
        *--p = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    if (value < 0) {
        *--p = '-';
    }
    rk_json_raw(w, (rk_str){p, (size_t)(text + sizeof(text) - p)});
}

void
rk_json_u64(rk_json_writer *w, uint64_t value)
{
    char text[24];
    char *p = text + sizeof(text);

    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    rk_json_raw(w, (rk_str){p, (size_t)(text + sizeof(text) - p)});
}

void
rk_json_f32(rk_json_writer *w, float value)
{
    char text[RK_JSON_NUMBER_MAX];

    if (!isfinite(value)) {
        rk_json_null(w);
        return;
    }
    rk_json_raw(w, (rk_str){text, rk_json_format_f32(text, value)});
}

void
rk_json_f64(rk_json_writer *w, double value)
{
    char text[RK_JSON_NUMBER_MAX];

    if (!isfinite(value)) {
        rk_json_null(w);
        return;
    }
    rk_json_raw(w, (rk_str){text, rk_json_format_f64(text, value)});
}

void
rk_json_bool(rk_json_writer *w, bool value)
{
    rk_json_raw(w, value ? RK_STR("true") : RK_STR("false"));
}

void
rk_json_null(rk_json_writer *w)
{
    rk_json_raw(w, RK_STR("null"));
}
