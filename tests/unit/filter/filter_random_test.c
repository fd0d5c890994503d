/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random expressions over random rows, judged by a naive interpreter that knows nothing of the
 * compiler: it walks its own tree, row by row, with three answers. What differs is printed with the
 * expression and the row.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/seam.h"
#include "filter_help.h"

typedef enum kind {
    CMP,
    CMP_COLS,
    RANGE,
    IN,
    LIKE,
    IS_NULL,
    EXISTS,
    ARITH,
    LENGTH,
    CONTAINS,
    AND,
    OR,
    NOT
} kind;
typedef enum cmp { LT, LE, GT, GE, EQ, NE } cmp;

static const char *const cmp_texts[] = {"<", "<=", ">", ">=", "==", "!="};
static const char aops[] = "+-*/%&|^";

/* A column, an element, or a path below JSON. */
typedef struct source {
    int field;
    int index;           /* of an element; -1 */
    const char *path[3]; /* steps below JSON */
    int steps;
    rk_type type; /* RK_JSON below JSON, RK_ARRAY for whole arrays */
    char text[96];
} source;

typedef struct expr expr;
struct expr {
    kind kind;
    source a, b;
    cmp cmp;
    char aop;
    fh_value v, w; /* literals; w: upper bound, operand */
    bool lo_open, hi_open;
    int mode; /* CONTAINS: 0 one, 1 all, 2 any */
    const char *pattern;
    expr *x, *y;
};

static rk_rng rng;
static rk_arena *arena;

static uint32_t
below(uint32_t n)
{
    return (uint32_t)(rk_rng_next(&rng) % n);
}

/* ---- rows ---- */

static int64_t
random_int(int64_t lo, int64_t hi)
{
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, INT64_MIN + 1, 127, -128, 1 << 20, 300};
    int64_t v = below(8) == 0 ? odd[below(RK_COUNT(odd))] : (int64_t)below(12) - 4;
    return v < lo ? lo : v > hi ? hi : v;
}

static double
random_float(void)
{
    static const double odd[] = {0.1, -0.0, 1e300, -1e300, 0.5, 1e-310, 2.5, 3.0};
    return below(3) == 0 ? odd[below(RK_COUNT(odd))] : (double)below(9) - 3;
}

static const char *const texts[] = {"",     "a",    "b",     "ab",        "ba",  "abc", "aab",
                                    "%",    "_",    "a%b",   "é",         "aéb", "\\",  "x\"y",
                                    "it's", "日本", "tab\t", "aaaaaaaab", "e",   "ee"};

static fh_value
random_string(void)
{
    return fh_string(texts[below(RK_COUNT(texts))]);
}

static fh_value
random_scalar(rk_type type)
{
    switch ((int)type) {
    case RK_BOOL:
        return fh_bool(below(2));
    case RK_INT8:
        return fh_int(random_int(INT8_MIN, INT8_MAX));
    case RK_INT16:
        return fh_int(random_int(INT16_MIN, INT16_MAX));
    case RK_INT32:
        return fh_int(random_int(INT32_MIN, INT32_MAX));
    case RK_INT64:
        return fh_int(random_int(INT64_MIN, INT64_MAX));
    case RK_FLOAT:
        return fh_float((double)(float)random_float());
    case RK_DOUBLE:
        return fh_float(random_float());
    default:
        return random_string();
    }
}

static fh_value
random_json(int depth)
{
    static const rk_str names[] = {{"a", 1}, {"b", 1}, {"c", 1}, {"0", 1}};
    fh_value items[4];
    rk_str keys[4];
    uint32_t pick = below(depth > 0 ? 9 : 6);
    uint32_t n = below(4);

    switch (pick) {
    case 0:
        return (fh_value){0};
    case 1:
        return fh_bool(below(2));
    case 2:
        return fh_float(random_float());
    case 3:
        return random_string();
    case 4:
    case 5:
        return fh_int(random_int(INT64_MIN, INT64_MAX));
    case 6: {
        for (uint32_t i = 0; i < n; i++) {
            items[i] = random_json(depth - 1);
        }
        return fh_list(arena, n, items);
    }
    default: {
        fh_value out;
        uint32_t from = below(2);
        n = below(4);
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = names[(from + i) % 4];
            items[i] = random_json(depth - 1);
        }
        out = fh_list(arena, n, items);
        rk_str *copy = RK_ARENA_ARRAY(arena, rk_str, 5);
        memcpy(copy, keys, n * sizeof(*keys));
        out.kind = FH_OBJECT;
        out.keys = copy;
        return out;
    }
    }
}

static fh_value
random_object(void)
{
    fh_value v = random_json(3);
    while (v.kind != FH_OBJECT) {
        v = random_json(3);
    }
    return v;
}

static fh_value
random_array(rk_type element)
{
    fh_value items[5];
    uint32_t n = below(5);
    for (uint32_t i = 0; i < n; i++) {
        items[i] = random_scalar(element);
    }
    return fh_list(arena, n, items);
}

static fh_table *
random_table(size_t rows)
{
    fh_table *t = fh_table_new(rows);
    arena = t->arena;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < FH_FIELDS; i++) {
            const rk_field *field = &t->schema->fields[i];
            fh_value *cell = fh_cell(t, r, i);
            if (i == FH_V || (field->nullable && below(6) == 0)) {
                continue;
            }
            if (field->type == RK_ARRAY) {
                *cell = random_array(field->element);
            } else if (field->type == RK_JSON) {
                *cell = random_object();
            } else {
                *cell = random_scalar(field->type);
            }
        }
    }
    fh_table_build(t);
    return t;
}

/* ---- expressions ---- */

static source
random_source(const fh_table *t)
{
    static const int fields[] = {FH_I8,   FH_I16, FH_I32, FH_N,  FH_M,  FH_F,   FH_D,
                                 FH_B,    FH_S,   FH_SN,  FH_J,  FH_J,  FH_J,   FH_META,
                                 FH_META, FH_ARR, FH_A8,  FH_AF, FH_AB, FH_SARR};
    static const char *const steps[] = {"a", "b", "c", "0", "1"};
    source s = {.field = fields[below(RK_COUNT(fields))], .index = -1};
    const rk_field *field = &t->schema->fields[s.field];
    rk_buf buf = {0};

    s.type = field->type;
    rk_buf_str(&buf, field->name);
    if (field->type == RK_ARRAY && below(2)) {
        s.index = (int)below(4);
        s.type = field->element;
        rk_buf_printf(&buf, "[%d]", s.index);
    }
    if (field->type == RK_JSON) {
        s.steps = 1 + (int)below(2);
        for (int i = 0; i < s.steps; i++) {
            s.path[i] = steps[below(i == 0 ? 4 : 5)];
            bool number = s.path[i][0] < 'a';
            if (s.field == FH_META && i == 0 && !number && s.path[i][0] != 'b' && below(2)) {
                rk_buf_clear(&buf);
                rk_buf_str(&buf, rk_str_from(s.path[i]));
            } else if (number && below(2)) {
                rk_buf_printf(&buf, "[%s]", s.path[i]);
            } else {
                rk_buf_printf(&buf, "[%s\"%s\"]", below(4) ? "" : "r", s.path[i]);
            }
        }
    }
    rk_buf_byte(&buf, 0);
    memcpy(s.text, buf.data, buf.len);
    rk_buf_deinit(&buf);
    return s;
}

static bool
is_int_type(rk_type t)
{
    return t >= RK_INT8 && t <= RK_INT64;
}

static bool
is_float_type(rk_type t)
{
    return t == RK_FLOAT || t == RK_DOUBLE;
}

/* A literal that may stand beside the type. */
static fh_value
random_literal(rk_type type)
{
    if (is_int_type(type)) {
        return fh_int(random_int(INT64_MIN, INT64_MAX));
    }
    if (is_float_type(type)) {
        return below(2) ? fh_float(random_float()) : fh_int(random_int(-100, 100));
    }
    if (type == RK_JSON) {
        static const rk_type types[] = {RK_INT64, RK_DOUBLE, RK_VARCHAR, RK_BOOL};
        return random_literal(types[below(4)]);
    }
    return random_scalar(type);
}

static fh_value
random_literals(rk_type type, uint32_t max)
{
    fh_value items[24];
    uint32_t n = below(max);
    for (uint32_t i = 0; i < n; i++) {
        items[i] = random_literal(type);
    }
    return fh_list(arena, n, items);
}

static const char *const patterns[] = {"%",   "",      "a%",  "%b",    "%a%",   "a_b",
                                       "_",   "__",    "a%b", "%a%b%", "%\\%%", "\\_",
                                       "%é%", "a%a%b", "_%_", "%__%",  "e%",    "日_"};

static bool
random_leaf(const fh_table *t, expr *e)
{
    e->a = random_source(t);
    rk_type type = e->a.type;
    bool array = type == RK_ARRAY;
    rk_type element = array ? t->schema->fields[e->a.field].element : RK_NONE;
    bool json = type == RK_JSON;
    e->cmp = (cmp)below(6);
    switch (e->kind) {
    case CMP:
        if (array || (json && below(6) == 0)) {
            e->cmp = below(2) ? EQ : NE;
            e->v = random_literals(array ? element : RK_JSON, 4);
        } else {
            e->v = random_literal(type);
        }
        return true;
    case CMP_COLS:
        e->b = random_source(t);
        if (json || array || e->b.type == RK_JSON || e->b.type == RK_ARRAY || e->a.index >= 0 ||
            e->b.index >= 0) {
            return false;
        }
        return (is_int_type(type) || is_float_type(type)) ==
                   (is_int_type(e->b.type) || is_float_type(e->b.type)) &&
               (is_int_type(type) || is_float_type(type) || type == e->b.type);
    case RANGE:
        if (array || type == RK_BOOL) {
            return false;
        }
        e->v = random_literal(type);
        e->w = random_literal(type);
        e->lo_open = below(2);
        e->hi_open = below(2);
        if (e->v.kind == FH_BOOL || e->w.kind == FH_BOOL ||
            (e->v.kind == FH_STRING) != (e->w.kind == FH_STRING)) {
            return false;
        }
        if (e->v.kind == FH_STRING) {
            return rk_str_cmp(e->v.s, e->w.s) < 0;
        }
        return (e->v.kind == FH_INT ? (double)e->v.i : e->v.f) <
               (e->w.kind == FH_INT ? (double)e->w.i : e->w.f);
    case IN:
        if (array) {
            fh_value items[3];
            uint32_t n = below(4);
            for (uint32_t i = 0; i < n && i < 3; i++) {
                items[i] = random_literals(element, 3);
            }
            e->v = fh_list(arena, RK_MIN(n, 3u), items);
        } else if (json && below(3) == 0) { /* of one kind: the set is used */
            e->v = random_literals(below(2) ? RK_INT64 : RK_VARCHAR, 24);
        } else {
            e->v = random_literals(type, below(2) ? 4 : 24);
        }
        return true;
    case LIKE:
        e->pattern = patterns[below(RK_COUNT(patterns))];
        return json || type == RK_VARCHAR;
    case IS_NULL:
        return e->a.index < 0;
    case EXISTS:
        return json;
    case ARITH: {
        e->aop = aops[below(8)];
        bool bits = e->aop == '&' || e->aop == '|' || e->aop == '^' || e->aop == '%';
        if (array || type == RK_BOOL || type == RK_VARCHAR || (bits && is_float_type(type))) {
            return false;
        }
        e->w = is_int_type(type) || bits ? random_literal(RK_INT64) : random_literal(RK_DOUBLE);
        e->v = is_int_type(type) || (json && e->w.kind == FH_INT) ? random_literal(RK_INT64)
                                                                  : random_literal(RK_DOUBLE);
        double operand = e->w.kind == FH_INT ? (double)e->w.i : e->w.f;
        return operand != 0.0;
    }
    case LENGTH:
        e->v = fh_int(random_int(0, 4));
        return json || array;
    case CONTAINS:
        e->mode = (int)below(3);
        if (!json && !array) {
            return false;
        }
        type = json ? RK_JSON : element;
        e->v = e->mode ? random_literals(type, 4) : random_literal(type);
        if (json && e->mode == 0 && below(3) == 0) {
            e->v = random_literals(RK_JSON, 3);
        }
        return true;
    case AND:
    case OR:
    case NOT:
    default:
        return false;
    }
}

static expr *
random_expr(const fh_table *t, int depth)
{
    expr *e = RK_ARENA_NEW(arena, expr);
    uint32_t pick = below(depth > 0 ? 20 : 10);
    if (pick >= 10) {
        e->kind = pick < 14 ? AND : pick < 18 ? OR : NOT;
        e->x = random_expr(t, depth - 1);
        e->y = e->kind == NOT ? NULL : random_expr(t, depth - 1);
        return e;
    }
    e->kind = (kind)pick;
    if (!random_leaf(t, e)) {
        return random_expr(t, depth);
    }
    return e;
}

/* ---- text ---- */

static void
put_literal(rk_buf *out, const fh_value *v)
{
    bool high = below(4) == 0; /* all bytes of a character are escaped, or none */
    switch (v->kind) {
    case FH_BOOL:
        rk_buf_str(out, v->b ? RK_STR("true") : RK_STR("False"));
        break;
    case FH_INT:
        rk_buf_printf(out, "%lld", (long long)v->i);
        break;
    case FH_FLOAT:
        rk_buf_printf(out, "%.17e", v->f);
        break;
    case FH_STRING:
        rk_buf_byte(out, '\'');
        for (size_t i = 0; i < v->s.len; i++) {
            unsigned char ch = (unsigned char)v->s.data[i];
            if (ch == '\'' || ch == '\\') {
                rk_buf_printf(out, "\\%c", ch);
            } else if (ch < 0x20 || (ch < 0x80 ? below(12) == 0 : high)) {
                rk_buf_printf(out, below(2) ? "\\x%02x" : "\\%03o", ch);
            } else {
                rk_buf_byte(out, ch);
            }
        }
        rk_buf_byte(out, '\'');
        break;
    case FH_LIST:
        rk_buf_byte(out, '[');
        for (size_t i = 0; i < v->n; i++) {
            rk_buf_str(out, i ? RK_STR(",") : RK_STR(""));
            put_literal(out, &v->items[i]);
        }
        rk_buf_byte(out, ']');
        break;
    case FH_NULL:
    case FH_OBJECT:
    default:
        break;
    }
}

static void
put_expr(rk_buf *out, const expr *e)
{
    static const char *const contains[] = {"", "_all", "_any"};
    static const cmp mirror[] = {GT, GE, LT, LE, EQ, NE};
    bool swap = below(3) == 0;
    switch (e->kind) {
    case CMP:
    case LENGTH: {
        const char *open = e->kind == LENGTH ? "array_length(" : "";
        const char *close = e->kind == LENGTH ? ")" : "";
        if (swap) {
            put_literal(out, &e->v);
            rk_buf_printf(out, " %s %s%s%s", cmp_texts[mirror[e->cmp]], open, e->a.text, close);
        } else {
            rk_buf_printf(out, "%s%s%s %s ", open, e->a.text, close, cmp_texts[e->cmp]);
            put_literal(out, &e->v);
        }
        break;
    }
    case CMP_COLS:
        rk_buf_printf(out, "%s %s %s", e->a.text, cmp_texts[e->cmp], e->b.text);
        break;
    case RANGE:
        put_literal(out, swap ? &e->w : &e->v);
        if (swap) {
            rk_buf_printf(out, " %s %s %s ", e->hi_open ? ">" : ">=", e->a.text,
                          e->lo_open ? ">" : ">=");
        } else {
            rk_buf_printf(out, " %s %s %s ", e->lo_open ? "<" : "<=", e->a.text,
                          e->hi_open ? "<" : "<=");
        }
        put_literal(out, swap ? &e->v : &e->w);
        break;
    case IN:
        rk_buf_printf(out, "%s in ", e->a.text);
        put_literal(out, &e->v);
        break;
    case LIKE: {
        fh_value pattern = fh_string(e->pattern);
        rk_buf_printf(out, "%s like ", e->a.text);
        put_literal(out, &pattern);
        break;
    }
    case IS_NULL:
        rk_buf_printf(out, "%s is null", e->a.text);
        break;
    case EXISTS:
        rk_buf_printf(out, swap ? "%s is not null" : "exists %s", e->a.text);
        break;
    case ARITH:
        rk_buf_printf(out, "(%s %c ", e->a.text, e->aop);
        put_literal(out, &e->w);
        rk_buf_printf(out, ") %s ", cmp_texts[e->cmp]);
        put_literal(out, &e->v);
        break;
    case CONTAINS:
        rk_buf_printf(out, "%s_contains%s(%s, ", swap ? "array" : "json", contains[e->mode],
                      e->a.text);
        put_literal(out, &e->v);
        rk_buf_byte(out, ')');
        break;
    case NOT:
        rk_buf_str(out, swap ? RK_STR("!(") : RK_STR("not ("));
        put_expr(out, e->x);
        rk_buf_byte(out, ')');
        break;
    case AND:
    case OR:
    default:
        rk_buf_byte(out, '(');
        put_expr(out, e->x);
        rk_buf_str(out, e->kind == AND ? (swap ? RK_STR(") and (") : RK_STR(")&&("))
                                       : (swap ? RK_STR(")OR(") : RK_STR(") || (")));
        put_expr(out, e->y);
        rk_buf_byte(out, ')');
        break;
    }
}

/* ---- the oracle: 0 false, 1 true, 2 unknown ---- */

enum { UNKNOWN = 2 };

static bool
is_number(const fh_value *v)
{
    return v->kind == FH_INT || v->kind == FH_FLOAT;
}

static int
order_of(const fh_value *a, const fh_value *b)
{
    if (a->kind == FH_INT && b->kind == FH_INT) {
        return (a->i > b->i) - (a->i < b->i);
    }
    if (a->kind == FH_STRING) {
        return rk_str_cmp(a->s, b->s);
    }
    if (a->kind == FH_BOOL) {
        return (int)a->b - (int)b->b;
    }
    double x = a->kind == FH_INT ? (double)a->i : a->f;
    double y = b->kind == FH_INT ? (double)b->i : b->f;
    return (x > y) - (x < y);
}

static bool
holds(cmp op, int order)
{
    return op == LT   ? order < 0
           : op == LE ? order <= 0
           : op == GT ? order > 0
           : op == GE ? order >= 0
           : op == EQ ? order == 0
                      : order != 0;
}

static bool
one_kind(const fh_value *a, const fh_value *b)
{
    return (is_number(a) && is_number(b)) || (!is_number(a) && a->kind == b->kind);
}

/* The value of a source; kind FH_NULL when there is none. */
static fh_value
value_of(const fh_table *t, size_t row, const source *s)
{
    fh_value v = *fh_cell(t, row, (size_t)s->field);
    if (s->index >= 0 && v.kind == FH_LIST) {
        return (size_t)s->index < v.n ? v.items[s->index] : (fh_value){0};
    }
    for (int i = 0; i < s->steps; i++) {
        fh_value next = {0};
        if (v.kind == FH_OBJECT) {
            for (size_t k = 0; k < v.n; k++) {
                if (rk_str_is(v.keys[k], s->path[i])) {
                    next = v.items[k];
                }
            }
        } else if (v.kind == FH_LIST && s->path[i][0] < 'a') {
            size_t index = (size_t)(s->path[i][0] - '0');
            next = index < v.n ? v.items[index] : next;
        }
        v = next;
    }
    return v;
}

/* A literal as a column of |type| compares with it. */
static fh_value
as_column(rk_type type, const fh_value *v)
{
    fh_value out = *v;
    if (is_float_type(type)) {
        out = fh_float(v->kind == FH_INT ? (double)v->i : v->f);
    }
    if (type == RK_FLOAT) {
        out.f = (double)(float)out.f;
    }
    return out;
}

static bool
list_is(const fh_value *list, const fh_value *want, rk_type element)
{
    if (list->n != want->n) {
        return false;
    }
    for (size_t i = 0; i < list->n; i++) {
        fh_value w = as_column(element, &want->items[i]);
        if (!one_kind(&list->items[i], &w) || order_of(&list->items[i], &w) != 0 ||
            (element == RK_JSON && w.kind == FH_INT && list->items[i].kind == FH_FLOAT)) {
            return false;
        }
    }
    return true;
}

static int
compare(const source *s, rk_type element, const fh_value *v, cmp op, const fh_value *literal)
{
    fh_value w = as_column(s->type, literal);
    if (v->kind == FH_NULL) {
        return UNKNOWN;
    }
    if (w.kind == FH_LIST) {
        return v->kind != FH_LIST ? UNKNOWN : list_is(v, &w, element) == (op == EQ);
    }
    return one_kind(v, &w) ? holds(op, order_of(v, &w)) : UNKNOWN;
}

/* Recursive and exponential; the texts are short. */
static bool
like(const char *p, const char *s, const char *end)
{
    if (*p == '\0') {
        return s == end;
    }
    if (*p == '%') {
        for (const char *at = s; at <= end; at++) {
            if (like(p + 1, at, end)) {
                return true;
            }
        }
        return false;
    }
    if (s == end) {
        return false;
    }
    if (*p == '_') {
        unsigned char ch = (unsigned char)*s;
        if ((ch & 0xC0) == 0x80) {
            return false;
        }
        return like(p + 1, s + (ch < 0x80 ? 1 : ch < 0xE0 ? 2 : ch < 0xF0 ? 3 : 4), end);
    }
    if (*p == '\\') {
        p++;
    }
    return *p == *s && like(p + 1, s + 1, end);
}

static bool
present(const fh_value *v)
{
    if (v->kind != FH_LIST && v->kind != FH_OBJECT) {
        return v->kind != FH_NULL;
    }
    for (size_t i = 0; i < v->n; i++) {
        if (present(&v->items[i])) {
            return true;
        }
    }
    return false;
}

static int64_t
int_op(char op, int64_t a, int64_t b)
{
    __int128 x = a;
    __int128 y = b;
    switch (op) {
    case '+':
        return (int64_t)(uint64_t)(x + y);
    case '-':
        return (int64_t)(uint64_t)(x - y);
    case '*':
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case '/':
        return (int64_t)(uint64_t)(x / y);
    case '%':
        return (int64_t)(x % y);
    case '&':
        return a & b;
    case '|':
        return a | b;
    default:
        return a ^ b;
    }
}

static int64_t
cut(double v)
{
    return v <= -9223372036854775808.0  ? INT64_MIN
           : v >= 9223372036854775808.0 ? INT64_MAX
                                        : (int64_t)v;
}

static int
arith(const expr *e, const fh_value *v)
{
    fh_value result = {0};
    if (!is_number(v)) {
        return UNKNOWN;
    }
    if (v->kind == FH_INT && e->w.kind == FH_INT && !is_float_type(e->a.type)) {
        result = fh_int(int_op(e->aop, v->i, e->w.i));
    } else {
        double x = v->kind == FH_INT ? (double)v->i : v->f;
        double y = e->w.kind == FH_INT ? (double)e->w.i : e->w.f;
        double z = e->aop == '+'   ? x + y
                   : e->aop == '-' ? x - y
                   : e->aop == '*' ? x * y
                   : e->aop == '/' ? x / y
                   : e->aop == '%' ? fmod(x, y)
                                   : (double)int_op(e->aop, cut(x), cut(y));
        result = fh_float(z);
    }
    return holds(e->cmp, order_of(&result, &e->v));
}

static bool
has(const fh_value *list, const fh_value *literal, rk_type element)
{
    fh_value w = as_column(element, literal);
    for (size_t i = 0; i < list->n; i++) {
        const fh_value *item = &list->items[i];
        if (w.kind == FH_LIST) {
            if (item->kind == FH_LIST && list_is(item, &w, RK_JSON)) {
                return true;
            }
        } else if (one_kind(item, &w) && order_of(item, &w) == 0) {
            return true;
        }
    }
    return false;
}

static int
contains(const expr *e, const fh_value *v, rk_type element)
{
    bool json = e->a.type == RK_JSON;
    if (e->mode && e->v.n == 0 && json) {
        return e->mode == 1;
    }
    if (v->kind != FH_LIST) {
        return UNKNOWN;
    }
    if (e->mode == 0) {
        return has(v, &e->v, element);
    }
    for (size_t i = 0; i < e->v.n; i++) {
        if (has(v, &e->v.items[i], element) != (e->mode == 1)) {
            return e->mode == 2;
        }
    }
    return e->mode == 1;
}

static int
oracle(const fh_table *t, size_t row, const expr *e)
{
    if (e->kind == NOT) {
        int x = oracle(t, row, e->x);
        return x == UNKNOWN ? UNKNOWN : !x;
    }
    if (e->kind == AND || e->kind == OR) {
        int decides = e->kind == OR;
        int x = oracle(t, row, e->x);
        int y = oracle(t, row, e->y);
        return x == decides || y == decides ? decides : x == UNKNOWN || y == UNKNOWN ? UNKNOWN : x;
    }
    fh_value v = value_of(t, row, &e->a);
    rk_type element = e->a.type == RK_JSON ? RK_JSON : t->schema->fields[e->a.field].element;
    int answer = 0;
    switch (e->kind) {
    case CMP:
        return compare(&e->a, element, &v, e->cmp, &e->v);
    case CMP_COLS: {
        fh_value w = value_of(t, row, &e->b);
        bool null = v.kind == FH_NULL || w.kind == FH_NULL;
        return null ? UNKNOWN : holds(e->cmp, order_of(&v, &w));
    }
    case RANGE: {
        int lo = compare(&e->a, element, &v, e->lo_open ? GT : GE, &e->v);
        int hi = compare(&e->a, element, &v, e->hi_open ? LT : LE, &e->w);
        return lo == UNKNOWN ? UNKNOWN : lo && hi;
    }
    case IN:
        if (e->v.n == 0) {
            bool both = e->a.type == RK_JSON || e->a.index >= 0;
            return both || v.kind != FH_NULL ? 0 : UNKNOWN;
        }
        for (size_t i = 0; i < e->v.n && answer != 1; i++) {
            int one = compare(&e->a, element, &v, EQ, &e->v.items[i]);
            answer = one == 1 ? 1 : one == UNKNOWN ? UNKNOWN : answer;
        }
        return answer;
    case LIKE:
        return v.kind != FH_STRING ? UNKNOWN : (int)like(e->pattern, v.s.data, v.s.data + v.s.len);
    case IS_NULL:
        return e->a.type == RK_JSON ? !present(&v) : v.kind == FH_NULL;
    case EXISTS:
        return present(&v);
    case ARITH:
        return arith(e, &v);
    case LENGTH: {
        fh_value n = fh_int((int64_t)v.n);
        return v.kind != FH_LIST ? UNKNOWN : (int)holds(e->cmp, order_of(&n, &e->v));
    }
    case CONTAINS:
        return contains(e, &v, element);
    case AND:
    case OR:
    case NOT:
    default:
        return 0;
    }
}

/* ---- the comparison ---- */

/* Compiles |e|, and its print; false, with a message, when a row differs from the oracle's answer.
 * The smallest part that differs is looked for first. */
static bool
agrees(const fh_table *t, const expr *e)
{
    rk_arena *own = rk_arena_new(0);
    rk_buf text = {0};
    const rk_filter *filter = NULL;
    rk_err err = {0};
    size_t words = rk_bitset_words(t->rows);
    uint64_t *got = RK_ARENA_ARRAY(own, uint64_t, words + 1);
    uint64_t *again = RK_ARENA_ARRAY(own, uint64_t, words + 1);
    rk_filter_chunk chunk = {.rows = t->rows, .columns = t->columns};
    bool same = true;

    put_expr(&text, e);
    rk_code code = rk_filter_compile(&filter, rk_buf_view(&text), t->schema, NULL, own, &err);
    if (code != RK_OK) {
        fail_msg("%s", err.text);
    }
    memset(got, 0xFF, words * 8);
    assert_int_equal(rk_filter_eval(filter, &chunk, got, own, &err), RK_OK);
    for (size_t row = 0; row < t->rows && same; row++) {
        bool want = oracle(t, row, e) == 1;
        same = ((got[row / 64] >> (row % 64)) & 1) == want;
        if (!same && (!e->x || agrees(t, e->x)) && (!e->y || agrees(t, e->y))) {
            rk_buf cells = {0};
            for (size_t i = 0; i < FH_FIELDS; i++) {
                rk_buf_printf(&cells, " %.*s=", RK_STR_ARG(t->schema->fields[i].name));
                fh_json_print(&cells, fh_cell(t, row, i));
            }
            print_error("row %zu: want %d: %.*s (cells%.*s)\n", row, want,
                        RK_STR_ARG(rk_buf_view(&text)), RK_STR_ARG(rk_buf_view(&cells)));
            rk_buf_deinit(&cells);
        }
    }
    rk_str print = rk_filter_print(filter, own);
    code = rk_filter_compile(&filter, print, t->schema, NULL, own, &err);
    if (code != RK_OK) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(rk_filter_print(filter, own).data, print.data);
    assert_int_equal(rk_filter_eval(filter, &chunk, again, own, &err), RK_OK);
    assert_memory_equal(got, again, words * 8);
    rk_buf_deinit(&text);
    rk_arena_free(own);
    return same;
}

static void
compare_one(const fh_table *t, int depth)
{
    assert_true(agrees(t, random_expr(t, depth)));
}

static void
test_against_oracle(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        rk_rng_init(&rng, seed);
        fh_table *t = random_table(1 + below(400));
        for (int i = 0; i < 250; i++) {
            compare_one(t, i % 5);
        }
        fh_table_free(t);
    }
}

/* Several blocks, the last one short; leaves alone and joined. */
static void
test_large_chunk(void **state)
{
    (void)state;
    rk_rng_init(&rng, 99);
    fh_table *t = random_table(8192 * 2 + 777);
    for (int i = 0; i < 60; i++) {
        compare_one(t, i % 4);
    }
    fh_table_free(t);
}

/* Columns that start at odd addresses read the same. */
static void
test_unaligned(void **state)
{
    (void)state;
    rk_rng_init(&rng, 5);
    fh_table *t = random_table(200);
    for (size_t i = 0; i < FH_FIELDS; i++) {
        size_t size = rk_type_bytes(t->columns[i].field->type) * t->rows;
        if (size > 0) {
            char *moved = rk_arena_alloc(t->arena, size + 1);
            memcpy(moved + 1, t->columns[i].data, size);
            t->columns[i].data = moved + 1;
        }
    }
    for (int i = 0; i < 200; i++) {
        compare_one(t, 1);
    }
    fh_table_free(t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_oracle),
        cmocka_unit_test(test_large_chunk),
        cmocka_unit_test(test_unaligned),
    };
    return cmocka_run_group_tests_name("filter_random", tests, NULL, NULL);
}
