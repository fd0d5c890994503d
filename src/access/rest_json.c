/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the JSON of requests.
 *
 * Keys of request objects are compared without case, as the public server does, the last of equal
 * keys counting; null is absent. A value of the wrong type is error 1801 and names the key;
 * required keys that are absent or empty are collected, so that one answer (1802) tells of all.
 */
#include <strings.h>

#include "access/rest.h"

rk_json_value
rk__rest_find(rk_json_value object, const char *key)
{
    rk_json_iter iter;
    rk_json_value name, value;
    rk_json_value found = {RK_JSON_NONE, {NULL, 0}};
    size_t len = strlen(key);

    rk_json_iter_init(&iter, object);
    while (iter.object && rk_json_iter_next(&iter, &name, &value)) {
        /* keys are plain words: one written with escapes is no key of ours */
        if (name.raw.len == len + 2 && strncasecmp(name.raw.data + 1, key, len) == 0) {
            found = value;
        }
    }
    if (found.type == RK_JSON_NULL) {
        found.type = RK_JSON_NONE;
    }
    return found;
}

rk_json_value
rk__rest_find_exact(rk_json_value object, const char *key)
{
    rk_json_value found = {RK_JSON_NONE, {NULL, 0}};

    if (object.type == RK_JSON_OBJECT && rk_json_find_key(object, rk_str_from(key), &found) &&
        found.type == RK_JSON_NULL) {
        found.type = RK_JSON_NONE;
    }
    return found;
}

static rk_code
wrong_type(rk__rest *r, const char *key, const char *want, rk_json_value value)
{
    return rk_fail(r->req.ctx.err, RK_EREST_BODY,
                   "can only accept json format request, error: key %s must be %s, but is %.*s",
                   key, want, (int)RK_MIN(value.raw.len, (size_t)64), value.raw.data);
}

rk_code
rk__rest_str(rk__rest *r, rk_json_value object, const char *key, rk_str *out)
{
    rk_json_value value = rk__rest_find(object, key);

    if (value.type == RK_JSON_NONE) {
        return RK_OK;
    }
    if (value.type != RK_JSON_STRING) {
        return wrong_type(r, key, "a string", value);
    }
    return rk_json_get_str(value, out, r->req.ctx.arena);
}

rk_code
rk__rest_bool(rk__rest *r, rk_json_value object, const char *key, bool *out)
{
    rk_json_value value = rk__rest_find(object, key);

    if (value.type == RK_JSON_NONE) {
        return RK_OK;
    }
    return rk_json_get_bool(value, out) ? RK_OK : wrong_type(r, key, "true or false", value);
}

rk_code
rk__rest_i64(rk__rest *r, rk_json_value object, const char *key, int64_t *out)
{
    rk_json_value value = rk__rest_find(object, key);

    if (value.type == RK_JSON_NONE) {
        return RK_OK;
    }
    return rk_json_get_i64(value, out) ? RK_OK : wrong_type(r, key, "a whole number", value);
}

rk_code
rk__rest_object(rk__rest *r, rk_json_value object, const char *key, rk_json_value *out)
{
    *out = rk__rest_find(object, key);
    return out->type == RK_JSON_NONE || out->type == RK_JSON_OBJECT
               ? RK_OK
               : wrong_type(r, key, "an object", *out);
}

rk_code
rk__rest_array(rk__rest *r, rk_json_value object, const char *key, rk_json_value *out)
{
    *out = rk__rest_find(object, key);
    return out->type == RK_JSON_NONE || out->type == RK_JSON_ARRAY
               ? RK_OK
               : wrong_type(r, key, "an array", *out);
}

rk_code
rk__rest_strs(rk__rest *r, rk_json_value object, const char *key, pb_strs *out)
{
    rk_json_value list, value;
    rk_json_iter iter;

    RK_RET(rk__rest_array(r, object, key, &list));
    if (list.type == RK_JSON_NONE) {
        return RK_OK;
    }
    out->n = 0;
    out->data = RK_ARENA_ARRAY(r->req.ctx.arena, rk_str, rk_json_len(list) + 1);
    if (!out->data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, list);
    while (rk_json_iter_next(&iter, NULL, &value)) {
        if (value.type != RK_JSON_STRING) {
            return wrong_type(r, key, "an array of strings", value);
        }
        RK_RET(rk_json_get_str(value, &out->data[out->n++], r->req.ctx.arena));
    }
    return RK_OK;
}

void
rk__rest_need(rk__rest *r, const char *key, bool present)
{
    char field[64];
    size_t len = RK_MIN(strlen(key), sizeof(field) - 1);

    if (present) {
        return;
    }
    memcpy(field, key, len);
    field[len] = '\0';
    if (field[0] >= 'a' && field[0] <= 'z') {
        field[0] = (char)(field[0] - 'a' + 'A');
    }
    rk_buf_printf(&r->missing,
                  "%sKey: '%s.%s' Error:Field validation for '%s' failed on the 'required' tag",
                  r->missing.len > 0 ? "\n" : "", r->request, field, field);
}

rk_code
rk__rest_need_str(rk__rest *r, const char *key, rk_str *out)
{
    RK_RET(rk__rest_str(r, r->body, key, out));
    rk__rest_need(r, key, out->len > 0);
    return RK_OK;
}

rk_code
rk__rest_complete(rk__rest *r)
{
    if (r->missing.len == 0) {
        return RK_OK;
    }
    return rk_fail(r->req.ctx.err, RK_EREST_MISSING, "missing required parameters, error: %.*s",
                   RK_STR_ARG(rk_buf_view(&r->missing)));
}

rk_code
rk__rest_collection(rk__rest *r, rk_str *db, rk_str *name)
{
    RK_RET(rk__rest_str(r, r->body, "dbName", db));
    return rk__rest_need_str(r, "collectionName", name);
}

rk_code
rk__rest_text(rk__rest *r, rk_json_value value, rk_str *out)
{
    if (value.type == RK_JSON_STRING) {
        return rk_json_get_str(value, out, r->req.ctx.arena);
    }
    *out = value.raw;
    return RK_OK;
}

/* ---- consistency ---- */

rk_code
rk__rest_consistency(rk__rest *r, rk_json_value object, int32_t *level, bool *given)
{
    static const char *const names[] = {"Strong", "Session", "Bounded", "Eventually", "Customized"};
    rk_str text = {NULL, 0};

    RK_RET(rk__rest_str(r, object, "consistencyLevel", &text));
    *given = text.len > 0;
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        if (rk_str_is(text, names[i])) {
            *level = (int32_t)i;
            return RK_OK;
        }
    }
    return *given ? rk_fail_tail(
                        r->req.ctx.err, RK_EINVAL,
                        "consistencyLevel can only be [Strong, Session, Bounded, Eventually, "
                        "Customized], "
                        "default: Bounded, err:parameter:'%.*s' is incorrect, please check it",
                        RK_STR_ARG(text))
                  : RK_OK;
}

/* ---- template values ---- */

static rk_code
fail_template(rk__rest *r, rk_str name, const char *why)
{
    return rk_fail_tail(r->req.ctx.err, RK_EINVAL, "expression template parameter %.*s %s",
                        RK_STR_ARG(name), why);
}

/* The element type all elements share: INT, DOUBLE (numbers mixed), STRING, BOOL; NONE when they do
 * not. */
static rk_json_type
common_type(rk_json_value array)
{
    rk_json_type type = RK_JSON_NONE;
    rk_json_iter iter;
    rk_json_value value;
    bool first = true;

    rk_json_iter_init(&iter, array);
    while (rk_json_iter_next(&iter, NULL, &value)) {
        bool numbers = (type == RK_JSON_INT || type == RK_JSON_DOUBLE) &&
                       (value.type == RK_JSON_INT || value.type == RK_JSON_DOUBLE);
        if (first) {
            type = value.type;
        } else if (numbers && type != value.type) {
            type = RK_JSON_DOUBLE;
        } else if (type != value.type) {
            return RK_JSON_NONE;
        }
        first = false;
    }
    return type;
}

static rk_code
template_array(rk__rest *r, rk_str name, rk_json_value array, pb_schema_TemplateArrayValue **out)
{
    rk_arena *arena = r->req.ctx.arena;
    size_t n = rk_json_len(array);
    rk_json_type type = common_type(array);
    pb_schema_TemplateArrayValue *list = RK_ARENA_NEW(arena, pb_schema_TemplateArrayValue);
    pb_schema_BoolArray *bools = RK_ARENA_NEW(arena, pb_schema_BoolArray);
    pb_schema_LongArray *longs = RK_ARENA_NEW(arena, pb_schema_LongArray);
    pb_schema_DoubleArray *doubles = RK_ARENA_NEW(arena, pb_schema_DoubleArray);
    pb_schema_StringArray *strings = RK_ARENA_NEW(arena, pb_schema_StringArray);
    pb_schema_JSONArray *json = RK_ARENA_NEW(arena, pb_schema_JSONArray);
    double *numbers = RK_ARENA_ARRAY(arena, double, n + 1);
    size_t i = 0;
    rk_json_iter iter;
    rk_json_value value;

    if (!list || !bools || !longs || !doubles || !strings || !json || !numbers ||
        !(bools->data.data = RK_ARENA_ARRAY(arena, bool, n + 1)) ||
        !(longs->data.data = RK_ARENA_ARRAY(arena, int64_t, n + 1)) ||
        !(strings->data.data = RK_ARENA_ARRAY(arena, rk_str, n + 1)) ||
        !(json->data.data = RK_ARENA_ARRAY(arena, rk_str, n + 1))) {
        return rk__fail_memory(r->req.ctx.err);
    }
    if (n == 0) {
        return fail_template(r, name, "must not be an empty array");
    }
    rk_json_iter_init(&iter, array);
    for (; rk_json_iter_next(&iter, NULL, &value); i++) {
        bool ok = value.type != RK_JSON_NULL && value.type != RK_JSON_OBJECT;
        json->data.data[i] = value.raw;
        if (type == RK_JSON_BOOL) {
            ok = rk_json_get_bool(value, &bools->data.data[i]);
        } else if (type == RK_JSON_INT) {
            ok = rk_json_get_i64(value, &longs->data.data[i]);
        } else if (type == RK_JSON_DOUBLE) {
            ok = rk_json_get_f64(value, &numbers[i]);
        } else if (type == RK_JSON_STRING) {
            RK_RET(rk_json_get_str(value, &strings->data.data[i], arena));
        }
        if (!ok) {
            return fail_template(r, name, "must not hold null or an object");
        }
    }
    bools->data.n = longs->data.n = strings->data.n = json->data.n = n;
    doubles->data = (pb_fixed){(const uint8_t *)numbers, n};
    switch ((int)type) {
    case RK_JSON_BOOL:
        list->data_case = PB_SCHEMA_TemplateArrayValue_bool_data;
        list->bool_data = bools;
        break;
    case RK_JSON_INT:
        list->data_case = PB_SCHEMA_TemplateArrayValue_long_data;
        list->long_data = longs;
        break;
    case RK_JSON_DOUBLE:
        list->data_case = PB_SCHEMA_TemplateArrayValue_double_data;
        list->double_data = doubles;
        break;
    case RK_JSON_STRING:
        list->data_case = PB_SCHEMA_TemplateArrayValue_string_data;
        list->string_data = strings;
        break;
    default:
        list->data_case = PB_SCHEMA_TemplateArrayValue_json_data;
        list->json_data = json;
        break;
    }
    *out = list;
    return RK_OK;
}

rk_code
rk__rest_template(rk__rest *r, rk_str name, rk_json_value value, pb_schema_TemplateValue **out)
{
    pb_schema_TemplateValue *t = RK_ARENA_NEW(r->req.ctx.arena, pb_schema_TemplateValue);

    *out = t;
    if (!t) {
        return rk__fail_memory(r->req.ctx.err);
    }
    switch (value.type) {
    case RK_JSON_BOOL:
        t->val_case = PB_SCHEMA_TemplateValue_bool_val;
        (void)rk_json_get_bool(value, &t->bool_val);
        return RK_OK;
    case RK_JSON_INT:
        t->val_case = PB_SCHEMA_TemplateValue_int64_val;
        (void)rk_json_get_i64(value, &t->int64_val);
        return RK_OK;
    case RK_JSON_DOUBLE:
        t->val_case = PB_SCHEMA_TemplateValue_float_val;
        (void)rk_json_get_f64(value, &t->float_val);
        return RK_OK;
    case RK_JSON_STRING:
        t->val_case = PB_SCHEMA_TemplateValue_string_val;
        return rk_json_get_str(value, &t->string_val, r->req.ctx.arena);
    case RK_JSON_ARRAY:
        t->val_case = PB_SCHEMA_TemplateValue_array_val;
        return template_array(r, name, value, &t->array_val);
    case RK_JSON_NONE:
    case RK_JSON_NULL:
    case RK_JSON_OBJECT:
        break;
    }
    return fail_template(r, name, "must be a boolean, number, string or array");
}
