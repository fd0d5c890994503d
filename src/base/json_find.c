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

/* |p| is a quote: the byte after the closing one, or |end|. */
static const char *
skip_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        p = rk__json_plain(p, end);
        if (p == end) {
            return end;
        }
        if (*p == '"') {
            return p + 1;
        }
        if (*p == '\\' && end - p > 1) {
            p++;
        }
    }
    return end;
}

/* |p| is a bracket: the byte after the one that closes it, or |end|. */
static const char *
skip_container(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        switch (*p) {
        case '"':
            p = skip_string(p, end);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            if (depth == 0) {
                return p + 1;
            }
            break;
        default:
            break;
        }
        p++;
    }
    return end;
}

static bool
ends_word(char c)
{
    return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\t' || c == '\r' ||
           c == ':';
}

/* The value at |p|; |*after| is the byte behind it. */
static rk_json_value
value_at(const char *p, const char *end, const char **after)
{
    rk_json_type type;
    const char *start = p;

    if (p >= end) {
        *after = end;
        return none;
    }
    switch (*p) {
    case '{':
    case '[':
        type = *p == '{' ? RK_JSON_OBJECT : RK_JSON_ARRAY;
        p = skip_container(p, end);
        break;
    case '"':
        type = RK_JSON_STRING;
        p = skip_string(p, end);
        break;
    default:
        while (p < end && !ends_word(*p)) {
            p++;
        }
        if (p == start) {
            *after = end;
            return none;
        }
        if (*start == 't' || *start == 'f') {
            type = RK_JSON_BOOL;
        } else if (*start == 'n') {
            type = RK_JSON_NULL;
        } else {
            type = rk__json_number_type((rk_str){start, (size_t)(p - start)});
        }
        break;
    }
    *after = p;
    return (rk_json_value){type, {start, (size_t)(p - start)}};
}

/* ---- iteration and look-up ---- */

rk_json_value
rk_json_root(rk_str text)
{
    const char *after;

    if (!text.data) {
        return none;
    }
    const char *end = text.data + text.len;
    return value_at(rk__json_blanks(text.data, end), end, &after);
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

bool
rk_json_find_key(rk_json_value object, rk_str key, rk_json_value *out)
{
    rk_json_iter iter;
    rk_json_value name, value;

    *out = none;
    if (object.type != RK_JSON_OBJECT) {
        return false;
    }
    rk_json_iter_init(&iter, object);
    while (rk_json_iter_next(&iter, &name, &value)) {
        if (rk_json_str_is(name, key)) {
            *out = value; /* the last one counts: go on */
        }
    }
    return out->type != RK_JSON_NONE;
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
