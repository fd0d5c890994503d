/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collection, and columns made from plain values: see filter_help.h. Nothing here uses the
 * filter.
 */
#include "filter_help.h"

#include <stdio.h>
#include <stdlib.h>

static void
must(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "filter_help: %s\n", what);
        abort();
    }
}

static const struct {
    const char *name;
    rk_type type;
    rk_type element;
    bool nullable;
    const char *keys[2];
    const char *values[2];
} specs[FH_FIELDS] = {
    [FH_ID] = {"id", RK_INT64, RK_NONE, false, {NULL}, {NULL}},
    [FH_I8] = {"i8", RK_INT8, RK_NONE, false, {NULL}, {NULL}},
    [FH_I16] = {"i16", RK_INT16, RK_NONE, false, {NULL}, {NULL}},
    [FH_I32] = {"i32", RK_INT32, RK_NONE, false, {NULL}, {NULL}},
    [FH_N] = {"n", RK_INT64, RK_NONE, true, {NULL}, {NULL}},
    [FH_M] = {"m", RK_INT64, RK_NONE, false, {NULL}, {NULL}},
    [FH_F] = {"f", RK_FLOAT, RK_NONE, false, {NULL}, {NULL}},
    [FH_D] = {"d", RK_DOUBLE, RK_NONE, true, {NULL}, {NULL}},
    [FH_B] = {"b", RK_BOOL, RK_NONE, false, {NULL}, {NULL}},
    [FH_S] = {"s", RK_VARCHAR, RK_NONE, false, {"max_length"}, {"200"}},
    [FH_SN] = {"sn", RK_VARCHAR, RK_NONE, true, {"max_length"}, {"200"}},
    [FH_J] = {"j", RK_JSON, RK_NONE, true, {NULL}, {NULL}},
    [FH_ARR] = {"arr", RK_ARRAY, RK_INT64, true, {"max_capacity"}, {"64"}},
    [FH_A8] = {"a8", RK_ARRAY, RK_INT8, false, {"max_capacity"}, {"64"}},
    [FH_AF] = {"af", RK_ARRAY, RK_FLOAT, false, {"max_capacity"}, {"64"}},
    [FH_AB] = {"ab", RK_ARRAY, RK_BOOL, false, {"max_capacity"}, {"64"}},
    [FH_SARR] = {"sarr", RK_ARRAY, RK_VARCHAR, false, {"max_capacity", "max_length"}, {"64", "64"}},
    [FH_V] = {"v", RK_FLOAT_VECTOR, RK_NONE, false, {"dim"}, {"4"}},
    [FH_META] = {RK_DYNAMIC_NAME, RK_JSON, RK_NONE, false, {NULL}, {NULL}},
};

rk_schema *
fh_schema(bool dynamic, bool text_key)
{
    rk_arena *arena = rk_arena_new(0);
    pb_schema_CollectionSchema *pb = RK_ARENA_NEW(arena, pb_schema_CollectionSchema);
    size_t n = dynamic ? FH_FIELDS : FH_FIELDS - 1;
    rk_schema *schema = NULL;
    rk_err err = {0};

    pb->name = RK_STR("things");
    pb->enable_dynamic_field = dynamic;
    pb->fields.n = n;
    pb->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, n);
    for (size_t i = 0; i < n; i++) {
        pb_schema_FieldSchema *f = RK_ARENA_NEW(arena, pb_schema_FieldSchema);
        bool text = i == FH_ID && text_key;
        pb->fields.data[i] = f;
        f->fieldID = RK_FIELD_FIRST + (int64_t)i;
        f->name = rk_str_from(specs[i].name);
        f->data_type = text ? RK_VARCHAR : (int32_t)specs[i].type;
        f->element_type = (int32_t)specs[i].element;
        f->nullable = specs[i].nullable;
        f->is_primary_key = i == FH_ID;
        f->is_dynamic = i == FH_META;
        f->type_params.data = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair *, 2);
        for (size_t k = 0; k < 2 && (specs[i].keys[k] || (text && k == 0)); k++) {
            pb_common_KeyValuePair *pair = RK_ARENA_NEW(arena, pb_common_KeyValuePair);
            pair->key = rk_str_from(text ? "max_length" : specs[i].keys[k]);
            pair->value = rk_str_from(text ? "100" : specs[i].values[k]);
            f->type_params.data[f->type_params.n++] = pair;
        }
    }
    rk_code code = rk_schema_new(&schema, pb, 1, &err);
    must(code == RK_OK, err.text);
    rk_arena_free(arena);
    return schema;
}

fh_table *
fh_table_new(size_t rows)
{
    rk_arena *arena = rk_arena_new(UINT64_C(4) << 30);
    must(arena != NULL, "no memory");
    fh_table *t = RK_ARENA_NEW(arena, fh_table);
    t->arena = arena;
    t->rows = rows;
    t->schema = fh_schema(true, false);
    t->cells = RK_ARENA_ARRAY(arena, fh_value, rows * FH_FIELDS + 1);
    must(t->cells != NULL, "no memory");
    return t;
}

void
fh_table_free(fh_table *t)
{
    if (t) {
        rk_schema_unref(t->schema);
        rk_arena_free(t->arena);
    }
}

/* ---- columns ---- */

static void
put_number(rk_buf *out, rk_type type, const fh_value *v)
{
    int64_t i = v->kind == FH_BOOL ? v->b : v->i;
    float single = (float)v->f;
    switch ((int)type) {
    case RK_BOOL:
    case RK_INT8:
        rk_buf_append(out, &(int8_t){(int8_t)i}, 1);
        break;
    case RK_INT16:
        rk_buf_append(out, &(int16_t){(int16_t)i}, 2);
        break;
    case RK_INT32:
        rk_buf_append(out, &(int32_t){(int32_t)i}, 4);
        break;
    case RK_INT64:
        rk_buf_append(out, &i, 8);
        break;
    case RK_FLOAT:
        rk_buf_append(out, &single, 4);
        break;
    default:
        rk_buf_append(out, &v->f, 8);
        break;
    }
}

static void
put_array(rk_buf *out, rk_type element, const fh_value *v)
{
    uint32_t end = 0;
    rk_buf_u32le(out, (uint32_t)v->n);
    for (size_t i = 0; i < v->n; i++) {
        if (element == RK_VARCHAR) {
            end += (uint32_t)v->items[i].s.len;
            rk_buf_u32le(out, end);
        } else {
            put_number(out, element, &v->items[i]);
        }
    }
    for (size_t i = 0; element == RK_VARCHAR && i < v->n; i++) {
        rk_buf_str(out, v->items[i].s);
    }
}

static void
put_cell(rk_buf *out, const rk_field *field, const fh_value *v)
{
    bool null = v->kind == FH_NULL;
    if (field->type == RK_VARCHAR) {
        rk_buf_str(out, null ? (rk_str){0} : v->s);
    } else if (field->type == RK_JSON) {
        if (!null) {
            fh_json_print(out, v);
        }
    } else if (field->type == RK_ARRAY) {
        if (!null) {
            put_array(out, field->element, v);
        }
    } else {
        put_number(out, field->type, v);
    }
}

void
fh_table_build(fh_table *t)
{
    for (size_t i = 0; i < FH_FIELDS; i++) {
        const rk_field *field = &t->schema->fields[i];
        rk_column *col = &t->columns[i];
        rk_buf buf = {0};
        bool variable = rk_type_bytes(field->type) == 0;
        uint64_t *offsets = RK_ARENA_ARRAY(t->arena, uint64_t, t->rows + 1);
        uint64_t *valid = RK_ARENA_ARRAY(t->arena, uint64_t, t->rows / 64 + 1);

        must(offsets && valid, "no memory");
        for (size_t row = 0; row < t->rows && i != FH_V; row++) {
            const fh_value *v = fh_cell(t, row, i);
            put_cell(&buf, field, v);
            offsets[row + 1] = buf.len;
            if (v->kind != FH_NULL) {
                valid[row / 64] |= UINT64_C(1) << (row % 64);
            } else {
                must(field->nullable, "null in a field that has none");
            }
        }
        must(!buf.failed, "no memory");
        char *data = rk_arena_alloc(t->arena, buf.len + 1);
        must(data != NULL, "no memory");
        if (buf.len) {
            memcpy(data, buf.data, buf.len);
        }
        *col = (rk_column){.field = field, .rows = t->rows, .data = data};
        col->offsets = variable ? offsets : NULL;
        col->valid = field->nullable ? valid : NULL;
        rk_buf_deinit(&buf);
    }
}

/* ---- values ---- */

fh_value
fh_int(int64_t v)
{
    return (fh_value){.kind = FH_INT, .i = v};
}

fh_value
fh_float(double v)
{
    return (fh_value){.kind = FH_FLOAT, .f = v};
}

fh_value
fh_bool(bool v)
{
    return (fh_value){.kind = FH_BOOL, .b = v};
}

fh_value
fh_string(const char *v)
{
    return (fh_value){.kind = FH_STRING, .s = rk_str_from(v)};
}

fh_value
fh_list(rk_arena *arena, size_t n, const fh_value *items)
{
    fh_value *copy = RK_ARENA_ARRAY(arena, fh_value, n + 1);
    if (n) {
        memcpy(copy, items, n * sizeof(*items));
    }
    return (fh_value){.kind = FH_LIST, .items = copy, .n = n};
}

/* Recursive: the test's own texts are shallow. */
static fh_value
read_json(rk_arena *arena, const char **p)
{
    fh_value out = {0};
    fh_value items[32];
    rk_str keys[32];
    while (**p == ' ') {
        ++*p;
    }
    if (**p == '"') {
        const char *start = ++*p;
        while (**p != '"') {
            ++*p;
        }
        out = (fh_value){.kind = FH_STRING};
        out.s = rk_arena_str(arena, (rk_str){start, (size_t)(*p - start)});
        ++*p;
        return out;
    }
    if (**p == '[' || **p == '{') {
        bool object = **p == '{';
        char close = object ? '}' : ']';
        size_t n = 0;
        ++*p;
        while (**p == ' ') {
            ++*p;
        }
        while (**p != close) {
            must(n < 32 && **p != '\0', "bad JSON in a test");
            if (object) {
                keys[n] = read_json(arena, p).s;
                must(**p == ':', "bad JSON in a test");
                ++*p;
            }
            items[n++] = read_json(arena, p);
            if (**p == ',') {
                ++*p;
                while (**p == ' ') {
                    ++*p;
                }
            }
        }
        ++*p;
        out = fh_list(arena, n, items);
        if (object) {
            rk_str *copy = RK_ARENA_ARRAY(arena, rk_str, n + 1);
            memcpy(copy, keys, n * sizeof(*keys));
            out.kind = FH_OBJECT;
            out.keys = copy;
        }
        return out;
    }
    if (strncmp(*p, "null", 4) == 0) {
        *p += 4;
        return out;
    }
    if (strncmp(*p, "true", 4) == 0 || strncmp(*p, "false", 5) == 0) {
        out = fh_bool(**p == 't');
        *p += out.b ? 4 : 5;
        return out;
    }
    char *end = NULL;
    size_t len = strspn(*p, "-+0123456789.eE");
    must(len > 0, "bad JSON in a test");
    if (memchr(*p, '.', len) || memchr(*p, 'e', len)) {
        out = fh_float(strtod(*p, &end));
    } else {
        out = fh_int(strtoll(*p, &end, 10));
    }
    *p = end;
    return out;
}

fh_value
fh_json(rk_arena *arena, const char *text)
{
    return read_json(arena, &text);
}

void
fh_json_print(rk_buf *out, const fh_value *v)
{
    switch (v->kind) {
    case FH_NULL:
        rk_buf_str(out, RK_STR("null"));
        break;
    case FH_BOOL:
        rk_buf_str(out, v->b ? RK_STR("true") : RK_STR("false"));
        break;
    case FH_INT:
        rk_buf_printf(out, "%lld", (long long)v->i);
        break;
    case FH_FLOAT:
        rk_buf_printf(out, "%.17e", v->f);
        break;
    case FH_STRING:
        rk_buf_byte(out, '"');
        for (size_t i = 0; i < v->s.len; i++) {
            unsigned char ch = (unsigned char)v->s.data[i];
            if (ch < 0x20 || ch == '"' || ch == '\\' || ch == 'e') { /* e: escapes on purpose */
                rk_buf_printf(out, "\\u%04x", ch);
            } else {
                rk_buf_byte(out, ch);
            }
        }
        rk_buf_byte(out, '"');
        break;
    case FH_LIST:
    case FH_OBJECT:
    default:
        rk_buf_byte(out, v->kind == FH_LIST ? '[' : '{');
        for (size_t i = 0; i < v->n; i++) {
            if (i > 0) {
                rk_buf_str(out, RK_STR(" , "));
            }
            if (v->kind == FH_OBJECT) {
                fh_value key = {.kind = FH_STRING, .s = v->keys[i]};
                fh_json_print(out, &key);
                rk_buf_str(out, RK_STR(" :"));
            }
            fh_json_print(out, &v->items[i]);
        }
        rk_buf_byte(out, v->kind == FH_LIST ? ']' : '}');
        break;
    }
}
