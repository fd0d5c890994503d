/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checking JSON reader: a state machine over a slice with one bit of stack per level, so that
 * it needs neither recursion nor memory. |expect| says what may come next; every event leaves it
 * pointing at the following token. rk_json_check() is the reader run to the end.
 */
#include <stdio.h>

#include "base/json.h"
#include "base/json_private.h"

typedef enum expect {
    EXPECT_VALUE,            /* a value and nothing else */
    EXPECT_ELEMENT_OR_CLOSE, /* just after [ */
    EXPECT_KEY,              /* after a comma in an object */
    EXPECT_KEY_OR_CLOSE,     /* just after { */
    EXPECT_COMMA_OR_CLOSE,   /* after a value; at depth 0 the end */
    EXPECT_NOTHING           /* after RK_JSON_AT_END or an error */
} expect;

static rk_code
wrong(rk_json_reader *r, const char *at, const char *what)
{
    r->expect = EXPECT_NOTHING;
    return rk_fail(r->err, RK_EINVAL, "JSON at byte %zu: %s", (size_t)(at - r->base), what);
}

void
rk_json_reader_init(rk_json_reader *r, rk_str text, rk_err *err)
{
    memset(r, 0, sizeof(*r));
    r->base = text.data ? text.data : "";
    r->p = r->base;
    r->end = r->base + (text.data ? text.len : 0);
    r->err = err;
    r->expect = EXPECT_VALUE;
    r->depth_max = RK_JSON_DEPTH_MAX;
}

static bool
in_object(const rk_json_reader *r)
{
    uint32_t level = r->depth - 1;
    return r->depth > 0 && (r->objects[level / 64] >> (level % 64) & 1u);
}

/* ---- tokens ---- */

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* Eight bytes at a time: a byte below 0x20, a quote or a backslash sets the high bit of its place.
 */
const char *
rk__json_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        uint64_t quote = word ^ (ONES * '"');
        uint64_t slash = word ^ (ONES * '\\');
        uint64_t hit =
            ((word - ONES * 0x20) & ~word) | ((quote - ONES) & ~quote) | ((slash - ONES) & ~slash);
        if (hit & HIGHS) {
            break;
        }
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
}

static bool
hex4(const char *p, const char *end, uint32_t *out)
{
    uint32_t value = 0;

    if (end - p < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

static size_t
encode_utf8(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

size_t
rk__json_escape(const char **at, const char *end, char out[4])
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *p = *at + 1;
    uint32_t code, low;

    if (p >= end) {
        return 0;
    }
    const char *name = *p ? strchr(names, *p) : NULL;
    if (name) {
        out[0] = values[name - names];
        *at = p + 1;
        return 1;
    }
    if (*p != 'u' || !hex4(p + 1, end, &code)) {
        return 0;
    }
    p += 5;
    if (code >= 0xd800 && code < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' &&
        hex4(p + 2, end, &low) && low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    } else if (code >= 0xd800 && code < 0xe000) {
        code = 0xfffd;
    }
    *at = p;
    return encode_utf8(code, out);
}

/* A string at r->p, which is a quote. */
static rk_code
scan_string(rk_json_reader *r, rk_str *raw)
{
    const char *start = r->p;
    const char *p = start + 1;
    char scratch[4];

    for (;;) {
        p = rk__json_plain(p, r->end);
        if (p == r->end) {
            return wrong(r, start, "the string is not closed by a quote");
        }
        if (*p == '"') {
            break;
        }
        if (*p != '\\') {
            return wrong(r, p, "a control character in a string must be written as an escape");
        }
        const char *escape = p;
        if (rk__json_escape(&p, r->end, scratch) == 0) {
            return wrong(r, escape,
                         "an escape must be one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and "
                         "four hexadecimal digits");
        }
    }
    r->p = p + 1;
    *raw = (rk_str){start, (size_t)(r->p - start)};
    return RK_OK;
}

static const char *
digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    return p;
}

static rk_code
scan_number(rk_json_reader *r, rk_json_value *value)
{
    const char *start = r->p;
    const char *end = r->end;
    const char *whole = start + (*start == '-');
    const char *p = digits(whole, end);
    bool integer = true;
    bool scaled = false;
    double number;

    if (p == whole) {
        return wrong(r, p, "a number needs a digit here");
    }
    if (*whole == '0' && p - whole > 1) {
        return wrong(r, start, "a number must not have leading zeros");
    }
    if (p < end && *p == '.') {
        const char *fraction = p + 1;
        integer = false;
        p = digits(fraction, end);
        if (p == fraction) {
            return wrong(r, p, "a number needs a digit after the point");
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        integer = false;
        scaled = true;
        p++;
        p += p < end && (*p == '+' || *p == '-');
        const char *exponent = p;
        p = digits(exponent, end);
        if (p == exponent) {
            return wrong(r, p, "a number needs a digit in its exponent");
        }
    }
    value->raw = (rk_str){start, (size_t)(p - start)};
    value->type = integer ? rk__json_number_type(value->raw) : RK_JSON_DOUBLE;
    /* without an exponent it takes more than 300 digits to leave the range of a double */
    if ((scaled || p - start > 300) && !rk_json_get_f64(*value, &number)) {
        return wrong(r, start, "the number does not fit a double");
    }
    r->p = p;
    return RK_OK;
}

static rk_code
scan_word(rk_json_reader *r, const char *word, rk_json_type type, rk_json_value *value)
{
    size_t len = strlen(word);

    if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0) {
        return wrong(
            r, r->p,
            "expected a value: an object, an array, a string, a number, true, false or null");
    }
    *value = (rk_json_value){type, {r->p, len}};
    r->p += len;
    return RK_OK;
}

static rk_code
scan_scalar(rk_json_reader *r, rk_json_value *value)
{
    switch (*r->p) {
    case '"':
        value->type = RK_JSON_STRING;
        return scan_string(r, &value->raw);
    case 't':
        return scan_word(r, "true", RK_JSON_BOOL, value);
    case 'f':
        return scan_word(r, "false", RK_JSON_BOOL, value);
    case 'n':
        return scan_word(r, "null", RK_JSON_NULL, value);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(r, value);
    default:
        return wrong(
            r, r->p,
            "expected a value: an object, an array, a string, a number, true, false or null");
    }
}

/* ---- events ---- */

static rk_code
open_container(rk_json_reader *r, bool object, rk_json_event *event, rk_json_value *value)
{
    if (r->depth == r->depth_max) {
        char what[48];
        (void)snprintf(what, sizeof(what), "nested deeper than %u levels", r->depth_max);
        return wrong(r, r->p, what);
    }
    uint64_t bit = UINT64_C(1) << (r->depth % 64);
    uint64_t *word = &r->objects[r->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    r->depth++;
    r->p++;
    r->expect = object ? EXPECT_KEY_OR_CLOSE : EXPECT_ELEMENT_OR_CLOSE;
    *event = object ? RK_JSON_AT_OBJECT : RK_JSON_AT_ARRAY;
    value->type = object ? RK_JSON_OBJECT : RK_JSON_ARRAY;
    return RK_OK;
}

static rk_code
close_container(rk_json_reader *r, rk_json_event *event, rk_json_value *value)
{
    bool object = in_object(r);

    r->p++;
    r->depth--;
    r->expect = EXPECT_COMMA_OR_CLOSE;
    *event = object ? RK_JSON_AT_OBJECT_END : RK_JSON_AT_ARRAY_END;
    value->type = object ? RK_JSON_OBJECT : RK_JSON_ARRAY;
    return RK_OK;
}

static rk_code
read_key(rk_json_reader *r, rk_json_event *event, rk_json_value *value)
{
    if (*r->p != '"') {
        return wrong(r, r->p, "expected a key in quotes");
    }
    RK_RET(scan_string(r, &value->raw));
    r->p = rk__json_blanks(r->p, r->end);
    if (r->p == r->end || *r->p != ':') {
        return wrong(r, r->p, "expected ':' after a key");
    }
    r->p++;
    r->expect = EXPECT_VALUE;
    *event = RK_JSON_AT_KEY;
    value->type = RK_JSON_STRING;
    return RK_OK;
}

static rk_code
read_value(rk_json_reader *r, rk_json_event *event, rk_json_value *value)
{
    if (*r->p == '{' || *r->p == '[') {
        return open_container(r, *r->p == '{', event, value);
    }
    RK_RET(scan_scalar(r, value));
    r->expect = EXPECT_COMMA_OR_CLOSE;
    *event = RK_JSON_AT_SCALAR;
    return RK_OK;
}

rk_code
rk_json_next(rk_json_reader *r, rk_json_event *event, rk_json_value *value)
{
    *value = (rk_json_value){RK_JSON_NONE, {NULL, 0}};
    *event = RK_JSON_AT_END;
    r->p = rk__json_blanks(r->p, r->end);
    if (r->expect == EXPECT_COMMA_OR_CLOSE) {
        if (r->depth == 0) {
            if (r->p < r->end) {
                return wrong(r, r->p, "nothing may follow the value");
            }
            r->expect = EXPECT_NOTHING;
            return RK_OK;
        }
        char close = in_object(r) ? '}' : ']';
        if (r->p < r->end && *r->p == close) {
            return close_container(r, event, value);
        }
        if (r->p == r->end || *r->p != ',') {
            return wrong(r, r->p,
                         close == '}' ? "expected ',' or '}' after a member"
                                      : "expected ',' or ']' after an element");
        }
        r->p = rk__json_blanks(r->p + 1, r->end);
        r->expect = close == '}' ? EXPECT_KEY : EXPECT_VALUE;
    }
    if (r->expect == EXPECT_NOTHING) {
        return RK_OK;
    }
    if (r->p == r->end) {
        return wrong(r, r->p, r->p == r->base ? "the text is empty" : "the text ends too early");
    }
    if (r->expect == EXPECT_KEY_OR_CLOSE && *r->p == '}') {
        return close_container(r, event, value);
    }
    if (r->expect == EXPECT_ELEMENT_OR_CLOSE && *r->p == ']') {
        return close_container(r, event, value);
    }
    if (r->expect == EXPECT_KEY || r->expect == EXPECT_KEY_OR_CLOSE) {
        return read_key(r, event, value);
    }
    return read_value(r, event, value);
}

/* The rest of a container that was just opened at |start|. */
static rk_code
finish_container(rk_json_reader *r, const char *start, rk_json_value *value)
{
    uint32_t outside = r->depth - 1;
    rk_json_type type = value->type;
    rk_json_value inner;
    rk_json_event event;

    while (r->depth > outside) {
        RK_RET(rk_json_next(r, &event, &inner));
    }
    *value = (rk_json_value){type, {start, (size_t)(r->p - start)}};
    return RK_OK;
}

rk_code
rk_json_next_value(rk_json_reader *r, rk_json_value *value)
{
    rk_json_event event;

    RK_RET(rk_json_next(r, &event, value));
    if (event == RK_JSON_AT_OBJECT || event == RK_JSON_AT_ARRAY) {
        return finish_container(r, r->p - 1, value);
    }
    if (event != RK_JSON_AT_SCALAR) {
        *value = (rk_json_value){RK_JSON_NONE, {NULL, 0}};
    }
    return RK_OK;
}

rk_code
rk_json_next_member(rk_json_reader *r, rk_json_value *key, rk_json_value *value)
{
    rk_json_event event;

    *value = (rk_json_value){RK_JSON_NONE, {NULL, 0}};
    RK_RET(rk_json_next(r, &event, key));
    if (event != RK_JSON_AT_KEY) {
        *key = *value;
        return RK_OK;
    }
    return rk_json_next_value(r, value);
}

rk_code
rk_json_check(rk_str text, unsigned flags, rk_err *err)
{
    rk_json_reader r;
    rk_json_event event;
    rk_json_value value;

    rk_json_reader_init(&r, text, err);
    r.depth_max = flags & RK_JSON_VALUE ? RK_JSON_VALUE_DEPTH_MAX : RK_JSON_DEPTH_MAX;
    RK_RET(rk_json_next(&r, &event, &value));
    if ((flags & RK_JSON_OBJECT_ONLY) && event != RK_JSON_AT_OBJECT) {
        return wrong(&r, r.base, "expected an object");
    }
    while (event != RK_JSON_AT_END) {
        RK_RET(rk_json_next(&r, &event, &value));
    }
    if (flags & RK_JSON_UTF8) {
        size_t at = rk_utf8_invalid_at(text);
        if (at != SIZE_MAX) {
            return wrong(&r, r.base + at, "the text is not valid UTF-8");
        }
    }
    return RK_OK;
}
