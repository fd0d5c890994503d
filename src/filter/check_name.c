/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a name stands for: a declared field, else a key of the dynamic field, else nothing.
 *
 * A path below a JSON column is a list of steps as rk_json_find() takes them: a number and its
 * decimal text are the same step. rk_filter_parse_path() reads the same syntax for output fields.
 */
#include <strings.h>

#include "filter/filter_private.h"

static rk__column_kind
kind_of(const rk_field *field)
{
    if (field->type == RK_JSON) {
        return CK_JSON;
    }
    if (field->type == RK_ARRAY) {
        return CK_ARRAY;
    }
    return rk_type_is_vector(field->type) ? CK_OTHER : CK_SCALAR;
}

static rk__col *
new_column(rk__compile *c, const rk_field *field)
{
    rk__col *col = RK_ARENA_NEW(c->arena, rk__col);
    if (col) {
        col->field = field;
        col->position = (uint32_t)(field - c->schema->fields);
        col->kind = kind_of(field);
        col->type = field->type;
    }
    return col;
}

static const rk_field *
dynamic_field(const rk__compile *c)
{
    return c->schema->dynamic >= 0 ? &c->schema->fields[c->schema->dynamic] : NULL;
}

/* The declared field |name|, or the dynamic one (then |*dynamic|). */
static rk_code
find_field(rk__compile *c, rk_str name, const rk_field **out, bool *dynamic)
{
    const rk_field *field = rk_schema_find(c->schema, name);
    *dynamic = false;
    if (field && !field->dynamic) {
        *out = field;
        return RK_OK;
    }
    if (name.len == 4 && strncasecmp(name.data, "null", 4) == 0) {
        return rk__fail(c, "NULL literal is not supported in expressions; use '<field> is null' or "
                           "'<field> is not null' instead");
    }
    *out = dynamic_field(c);
    *dynamic = true;
    if (!*out) {
        (void)rk__fail(c, "field %.*s not exist", RK__SHORT(name));
        return rk__hint_name(c, name);
    }
    return RK_OK;
}

rk_code
rk__resolve_name(rk__compile *c, rk_str name, const rk__col **out)
{
    const rk_field *field = NULL;
    bool dynamic = false;
    bool meta = rk_str_is(name, RK_DYNAMIC_NAME);

    if (meta) {
        field = dynamic_field(c);
        if (!field) {
            return rk__fail(c, "field $meta not exist");
        }
    } else {
        RK_RET(find_field(c, name, &field, &dynamic));
    }
    rk__col *col = new_column(c, field);
    rk_str *key = RK_ARENA_NEW(c->arena, rk_str);
    if (!col || !key) {
        return RK_ENOMEM;
    }
    if (dynamic) {
        *key = rk_arena_str(c->arena, name);
        if (!key->data) {
            return RK_ENOMEM;
        }
        col->keys = key;
        col->keys_len = 1;
    }
    *out = col;
    return RK_OK;
}

/* One step of a path: |token| is the key between brackets. */
static rk_code
read_step(rk__compile *c, rk_str text, rk__token token, rk_str *out)
{
    rk_str key = {text.data + token.start, token.end - token.start};
    int64_t number = 0;

    if (token.kind == TK_INT) {
        if (!rk_str_to_i64(key, &number)) {
            return rk__fail(c, "index %.*s overflows Int64", RK__SHORT(key));
        }
        *out = rk_arena_str(c->arena, key);
        return out->data ? RK_OK : RK_ENOMEM;
    }
    RK_RET(rk__unquote_key(c, key, out));
    if (out->len == 0) {
        return rk__fail(c, "invalid identifier: %.*s has an empty key", RK__SHORT(text));
    }
    if (memmem(out->data, out->len, "][", 2)) {
        return rk__fail(c, "invalid identifier: %.*s: a key cannot hold ][", RK__SHORT(text));
    }
    return RK_OK;
}

rk_code
rk__resolve_path(rk__compile *c, rk_str text, const rk__col **out)
{
    const char *bracket = memchr(text.data, '[', text.len);
    RK_ASSERT(bracket);
    rk_str name = {text.data, (size_t)(bracket - text.data)};
    const rk_field *field = NULL;
    bool dynamic = false;
    bool meta = rk_str_is(name, RK_DYNAMIC_NAME);
    size_t steps = 0;

    if (meta) {
        field = dynamic_field(c);
        if (!field) {
            return rk__fail(c, "field $meta not exist");
        }
    } else {
        RK_RET(find_field(c, name, &field, &dynamic));
    }
    rk__col *col = new_column(c, field);
    if (!col) {
        return RK_ENOMEM;
    }
    if (field->type != RK_JSON && field->type != RK_ARRAY) {
        return rk__fail(c, "%s data type not supported accessed with []",
                        rk_type_name(field->type));
    }
    for (uint32_t at = (uint32_t)name.len; at < text.len; steps++) {
        at = rk__lex(text, at + 1).end + 1;
    }
    rk_str *keys = RK_ARENA_ARRAY(c->arena, rk_str, steps + 1);
    if (!keys) {
        return RK_ENOMEM;
    }
    size_t n = 0;
    if (dynamic) {
        keys[n] = rk_arena_str(c->arena, name);
        if (!keys[n++].data) {
            return RK_ENOMEM;
        }
    }
    for (uint32_t at = (uint32_t)name.len; at < text.len;) {
        rk__token token = rk__lex(text, at + 1);
        if (field->type == RK_ARRAY) {
            if (token.kind != TK_INT) {
                return rk__fail(c, "can only access array field with integer index");
            }
            RK_RET(read_step(c, text, token, &keys[0]));
            int64_t index = 0;
            (void)rk_str_to_i64(keys[0], &index);
            col->kind = CK_ELEMENT;
            col->type = field->element;
            col->index = index < UINT32_MAX ? (uint32_t)index : UINT32_MAX;
            break; /* elements are no arrays: further indexes say nothing */
        }
        RK_RET(read_step(c, text, token, &keys[n]));
        n++;
        at = token.end + 1;
    }
    if (field->type == RK_JSON) {
        col->keys = keys;
        col->keys_len = n;
    }
    *out = col;
    return RK_OK;
}

rk_code
rk_filter_parse_path(rk_str text, const rk_schema *schema, const rk_field **field,
                     rk_json_path *path, rk_arena *arena, rk_err *err)
{
    rk__compile c = {.text = text, .schema = schema, .arena = arena};
    const rk__col *col = NULL;
    rk_code code = RK_EINVAL;

    *field = NULL;
    *path = (rk_json_path){0};
    if (text.len > 0 && text.len <= RK__TEXT_MAX && rk_utf8_invalid_at(text) == SIZE_MAX) {
        rk__token token = rk__lex(text, 0);
        bool whole = token.start == 0 && token.end == text.len;
        (void)rk__fail(&c, "not a field name or a path");
        /* keywords, too, may name fields here */
        bool name = token.kind == TK_NAME || token.kind == TK_META || token.kind == TK_BOOL ||
                    token.kind >= TK_LIKE || token.kind == TK_NOT || token.kind == TK_AND ||
                    token.kind == TK_OR;
        char first = text.data[0];
        bool word = first == '$' || first == '_' || (first | 32) >= 'a';
        if (whole && name && word) {
            code = rk__resolve_name(&c, text, &col);
        } else if (whole && token.kind == TK_JSON) {
            code = rk__resolve_path(&c, text, &col);
        }
    }
    if (code == RK_ENOMEM) {
        return rk_fail(err, RK_ENOMEM, "no memory for the path of field %.*s", RK__SHORT(text));
    }
    if (code != RK_OK) {
        return rk_fail_tail(err, RK_EINVAL, "cannot parse identifier: %.*s: %s", RK__SHORT(text),
                            c.detail[0] ? c.detail : "not a field name or a path");
    }
    *field = col->field;
    path->keys = RK_ARENA_ARRAY(arena, rk_str, col->keys_len + 1);
    if (!path->keys) {
        return rk_fail(err, RK_ENOMEM, "no memory for the path of field %.*s", RK__SHORT(text));
    }
    for (size_t i = 0; i < col->keys_len; i++) {
        path->keys[i] = col->keys[i];
    }
    path->n = col->keys_len;
    if (col->kind == CK_ELEMENT) {
        rk_str index = rk_arena_printf(arena, "%u", col->index);
        if (!index.data) {
            return rk_fail(err, RK_ENOMEM, "no memory for the path of field %.*s", RK__SHORT(text));
        }
        path->keys[0] = index; /* the array always has room for one */
        path->n = 1;
    }
    return RK_OK;
}
