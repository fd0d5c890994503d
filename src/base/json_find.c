/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values and look-ups in JSON that was checked before. No tree: a look-up walks the text once,
 * stepping over values it does not want by counting brackets outside strings. Filters call this
 * once per row, so nothing here allocates except the decoding of a string with escapes.
 */
#include "base/json.h"
#include "base/json_private.h"

static const rk_json_value none = {RK_JSON_NONE, {NULL, 0}};

/* ---- stepping over values ---- */

#define QUOTE 1u
#define OPEN  2u
#define CLOSE 4u
#define BLANK 8u /* blanks, commas, colons: with CLOSE what ends a number or word */

static const uint8_t classes[256] = {
    ['"'] = QUOTE, ['{'] = OPEN,  ['['] = OPEN,   ['}'] = CLOSE,  [']'] = CLOSE,  [','] = BLANK,
    [':'] = BLANK, [' '] = BLANK, ['\n'] = BLANK, ['\t'] = BLANK, ['\r'] = BLANK,
};

#define SHORT                                                                                      \
    24 /* keys and most strings end within so many bytes, too few to pay for words of eight */

/* |p| is a quote: the byte after the closing one, or |end|. |*escaped| is set when there is a
 * backslash inside. */
static const char *
skip_string(const char *p, const char *end, bool *escaped)
{
    const char *near = end - p > SHORT ? p + SHORT : end;

    p++;
    while (p < end) {
        if (p < near) {
            while (p < near && *p != '"' && *p != '\\') {
                p++;
            }
        } else {
            p = rk__json_plain(p, end);
        }
        if (p == end) {
            return end;
        }
        if (*p == '"') {
            return p + 1;
        }
        if (*p == '\\') {
            *escaped = true;
            if (++p == end) {
                return end;
            }
            p++;
        } else if (p >= near && (unsigned char)*p < 0x20) {
            p++; /* only in text that was not checked */
        }
    }
    return end;
}

/* |p| is a bracket: the byte after the one that closes it, or |end|. */
static const char *
skip_container(const char *p, const char *end)
{
    size_t depth = 0;
    bool escaped;

    while (p < end) {
        uint8_t class = classes[(uint8_t)*p];
        if (class & OPEN) {
            depth++;
        } else if (class & CLOSE) {
            depth--;
            if (depth == 0) {
                return p + 1;
            }
        } else if (class & QUOTE) {
            p = skip_string(p, end, &escaped);
            continue;
        }
        p++;
    }
    return end;
}

/* |p| < |end| stands at a value: the byte behind it; |p| itself when there is none. */
static const char *
skip_value(const char *p, const char *end)
{
    uint8_t class = classes[(uint8_t)*p];
    bool escaped;

    if (class & QUOTE) {
        return skip_string(p, end, &escaped);
    }
    if (class & OPEN) {
        return skip_container(p, end);
    }
    while (p < end && !(classes[(uint8_t)*p] & (CLOSE | BLANK))) {
        p++;
    }
    return p;
}

/* A value of checked text that stands from |start| to |after|. */
static rk_json_value
make_value(const char *start, const char *after)
{
    rk_json_value v = {RK_JSON_NONE, {start, (size_t)(after - start)}};

    if (start >= after) {
        return none;
    }
    switch (*start) {
    case '{':
        v.type = RK_JSON_OBJECT;
        break;
    case '[':
        v.type = RK_JSON_ARRAY;
        break;
    case '"':
        v.type = RK_JSON_STRING;
        break;
    case 't':
    case 'f':
        v.type = RK_JSON_BOOL;
        break;
    case 'n':
        v.type = RK_JSON_NULL;
        break;
    default:
        v.type = rk__json_number_type(v.raw);
        break;
    }
    return v;
}

/* The value at |p|; |*after| is the byte behind it. */
static rk_json_value
value_at(const char *p, const char *end, const char **after)
{
    *after = p < end ? skip_value(p, end) : end;
    if (*after == p) {
        *after = end;
        return none;
    }
    return make_value(p, *after);
}

/* ---- iteration and look-up ---- */

rk_json_value
rk_json_root(rk_str text)
{
    if (!text.data) {
        return none;
    }
    const char *end = text.data + text.len;
    const char *start = rk__json_blanks(text.data, end);
    /* a checked text holds one value and blanks, so its end needs no search */
    while (end > start && (classes[(uint8_t)end[-1]] & BLANK)) {
        end--;
    }
    return make_value(start, end);
}

void
rk_json_iter_init(rk_json_iter *iter, rk_json_value v)
{
    *iter = (rk_json_iter){NULL, NULL, v.type == RK_JSON_OBJECT};
    if ((v.type == RK_JSON_OBJECT || v.type == RK_JSON_ARRAY) && v.raw.len >= 2) {
        iter->p = v.raw.data + 1;
        iter->end = v.raw.data + v.raw.len - 1;
    }
}

bool
rk_json_iter_next(rk_json_iter *iter, rk_json_value *key, rk_json_value *value)
{
    const char *p = iter->p;
    const char *end = iter->end;
    rk_json_value name = none;

    if (key) {
        *key = none;
    }
    *value = none;
    if (!p) {
        return false;
    }
    p = rk__json_blanks(p, end);
    if (iter->object && p < end) {
        name = value_at(p, end, &p);
        p = rk__json_blanks(p, end);
        if (name.type != RK_JSON_STRING || p >= end || *p != ':') {
            p = end;
        } else {
            p = rk__json_blanks(p + 1, end);
        }
    }
    if (p >= end) {
        iter->p = NULL;
        return false;
    }
    *value = value_at(p, end, &p);
    if (value->type == RK_JSON_NONE) {
        iter->p = NULL;
        return false;
    }
    if (key) {
        *key = name;
    }
    p = rk__json_blanks(p, end);
    iter->p = p < end && *p == ',' ? p + 1 : NULL;
    return true;
}

/* The last member of the object between |p| and |end|, brackets not included, whose key is |key|.
 */
static bool
find_member(const char *p, const char *end, rk_str key, rk_json_value *out)
{
    const char *found = NULL;
    const char *found_end = NULL;

    for (;;) {
        bool escaped = false;
        const char *name = p = rk__json_blanks(p, end);
        if (p >= end || *p != '"') {
            break;
        }
        const char *name_end = skip_string(p, end, &escaped);
        p = rk__json_blanks(name_end, end);
        if (p >= end || *p != ':') {
            break;
        }
        p = rk__json_blanks(p + 1, end);
        const char *value = p;
        if (p >= end || (p = skip_value(p, end)) == value) {
            break;
        }
        size_t len = (size_t)(name_end - name) - 2;
        bool same = !escaped
                        ? len == key.len && (len == 0 || memcmp(name + 1, key.data, len) == 0)
                        : rk_json_str_is((rk_json_value){RK_JSON_STRING, {name, len + 2}}, key);
        if (same) { /* the last one counts: go on */
            found = value;
            found_end = p;
        }
        p = rk__json_blanks(p, end);
        if (p >= end || *p != ',') {
            break;
        }
        p++;
    }
    *out = found ? make_value(found, found_end) : none;
    return out->type != RK_JSON_NONE;
}

bool
rk_json_find_key(rk_json_value object, rk_str key, rk_json_value *out)
{
    *out = none;
    if (object.type != RK_JSON_OBJECT || object.raw.len < 2) {
        return false;
    }
    return find_member(object.raw.data + 1, object.raw.data + object.raw.len - 1, key, out);
}

bool
rk_json_find_index(rk_json_value array, size_t index, rk_json_value *out)
{
    rk_json_iter iter;

    *out = none;
    if (array.type != RK_JSON_ARRAY) {
        return false;
    }
    rk_json_iter_init(&iter, array);
    for (size_t i = 0; rk_json_iter_next(&iter, NULL, out); i++) {
        if (i == index) {
            return true;
        }
    }
    return false;
}

size_t
rk_json_len(rk_json_value v)
{
    rk_json_iter iter;
    rk_json_value value;
    size_t count = 0;

    rk_json_iter_init(&iter, v);
    while (rk_json_iter_next(&iter, NULL, &value)) {
        count++;
    }
    return count;
}

static bool
step_index(rk_str step, size_t *out)
{
    uint64_t index;

    if (!rk_str_to_u64(step, &index) || (step.len > 1 && step.data[0] == '0') || index > SIZE_MAX) {
        return false;
    }
    *out = (size_t)index;
    return true;
}

bool
rk_json_find(rk_json_value v, const rk_str *path, size_t path_len, rk_json_value *out)
{
    for (size_t i = 0; i < path_len; i++) {
        rk_json_value next = none;
        size_t index;
        if (v.type == RK_JSON_OBJECT) {
            (void)rk_json_find_key(v, path[i], &next);
        } else if (v.type == RK_JSON_ARRAY && step_index(path[i], &index)) {
            (void)rk_json_find_index(v, index, &next);
        }
        v = next;
        if (v.type == RK_JSON_NONE) {
            break;
        }
    }
    *out = v;
    return v.type != RK_JSON_NONE;
}

/* ---- strings ---- */

/* What stands between the quotes. */
static bool
inner(rk_json_value v, rk_str *out)
{
    if (v.type != RK_JSON_STRING || v.raw.len < 2) {
        return false;
    }
    *out = (rk_str){v.raw.data + 1, v.raw.len - 2};
    return true;
}

bool
rk_json_str_is(rk_json_value v, rk_str text)
{
    rk_str raw;
    size_t at = 0;

    if (!inner(v, &raw) || raw.len < text.len) {
        return false;
    }
    const char *p = raw.data;
    const char *end = p + raw.len;
    if (!memchr(p, '\\', raw.len)) {
        return rk_str_eq(raw, text);
    }
    while (p < end) {
        char bytes[4];
        size_t len = 1;
        bytes[0] = *p;
        if (*p == '\\') {
            len = rk__json_escape(&p, end, bytes);
        } else {
            p++;
        }
        if (len == 0 || text.len - at < len || memcmp(text.data + at, bytes, len) != 0) {
            return false;
        }
        at += len;
    }
    return at == text.len;
}

rk_code
rk_json_get_str(rk_json_value v, rk_str *out, rk_arena *arena)
{
    rk_str raw;

    *out = (rk_str){NULL, 0};
    if (!inner(v, &raw)) {
        return RK_EINVAL;
    }
    if (raw.len == 0 || !memchr(raw.data, '\\', raw.len)) {
        *out = raw;
        return RK_OK;
    }
    char *text =
        rk_arena_alloc(arena, raw.len); /* an escape is never shorter than what it stands for */
    if (!text) {
        return RK_ENOMEM;
    }
    const char *p = raw.data;
    const char *end = p + raw.len;
    size_t len = 0;
    while (p < end) {
        if (*p == '\\') {
            char bytes[4];
            size_t more = rk__json_escape(&p, end, bytes);
            if (more == 0) {
                return RK_EINVAL;
            }
            memcpy(text + len, bytes, more);
            len += more;
            continue;
        }
        const char *next = memchr(p, '\\', (size_t)(end - p));
        size_t run = (size_t)((next ? next : end) - p);
        memcpy(text + len, p, run);
        len += run;
        p += run;
    }
    *out = (rk_str){text, len};
    return RK_OK;
}

bool
rk_json_get_bool(rk_json_value v, bool *out)
{
    if (v.type != RK_JSON_BOOL || v.raw.len == 0) {
        return false;
    }
    *out = v.raw.data[0] == 't';
    return true;
}
