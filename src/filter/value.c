/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants: reading literals, folding arithmetic and comparisons, filling in templates, printing.
 *
 * Integers wrap modulo 2^64 and never trap: dividing the smallest integer by -1 gives itself, and a
 * zero divisor is refused before it gets here. Strings are bytes after decoding: \xHH may make them
 * ill-formed UTF-8, which comparing does not mind.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "filter/filter_private.h"

#define NESTING_MAX 32 /* lists inside lists of a template value */

rk_code
rk__values_push(rk__values *list, rk__value value, rk_arena *arena)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        rk__value *grown = RK_ARENA_ARRAY(arena, rk__value, cap);
        if (!grown) {
            return RK_ENOMEM;
        }
        if (list->n) {
            memcpy(grown, list->data, list->n * sizeof(*grown));
        }
        list->data = grown;
        list->cap = cap;
    }
    list->data[list->n++] = value;
    return RK_OK;
}

/* ---- literals ---- */

static uint32_t
digit_value(char ch)
{
    if (ch >= '0' && ch <= '9') {
        return (uint32_t)(ch - '0');
    }
    if (ch >= 'a' && ch <= 'f') {
        return (uint32_t)(ch - 'a') + 10;
    }
    if (ch >= 'A' && ch <= 'F') {
        return (uint32_t)(ch - 'A') + 10;
    }
    return 99;
}

static rk_code
read_float(rk__compile *c, rk_str text, rk__value *out)
{
    rk_str copy = rk_arena_str(c->arena, text);
    if (!copy.data) {
        return RK_ENOMEM;
    }
    out->kind = VK_FLOAT;
    out->f = strtod(copy.data, NULL);
    if (isinf(out->f)) {
        return rk__fail(c, "float literal %.*s overflows Double", RK__SHORT(text));
    }
    return RK_OK;
}

rk_code
rk__number(rk__compile *c, rk__token token, rk__value *out, bool *big)
{
    rk_str text = rk__span(c, token.start, token.end);
    uint64_t base = 10;
    uint64_t number = 0;
    size_t i = 0;
    bool overflow = false;

    *big = false;
    if (token.kind == TK_FLOAT) {
        return read_float(c, text, out);
    }
    if (text.len > 1 && text.data[0] == '0') {
        char mark = text.data[1];
        bool hex = mark == 'x' || mark == 'X';
        bool binary = mark == 'b' || mark == 'B';
        base = hex ? 16 : binary ? 2 : 8;
        i = hex || binary ? 2 : 1;
    }
    for (; i < text.len && !overflow; i++) {
        overflow = __builtin_mul_overflow(number, base, &number) ||
                   __builtin_add_overflow(number, (uint64_t)digit_value(text.data[i]), &number);
    }
    if (!overflow && base == 10 && number == UINT64_C(1) << 63) {
        *big = true;
    } else if (overflow || number > INT64_MAX) {
        return rk__fail(c, "integer literal %.*s overflows Int64", RK__SHORT(text));
    }
    out->kind = VK_INT;
    out->i = (int64_t)number;
    return RK_OK;
}

/* |digits| hex digits at |at|; false when they are not there. */
static bool
read_hex(rk_str s, size_t at, size_t digits, uint32_t *out)
{
    uint32_t value = 0;
    if (at + digits > s.len) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        uint32_t digit = digit_value(s.data[at + i]);
        if (digit > 15) {
            return false;
        }
        value = value * 16 + digit;
    }
    *out = value;
    return true;
}

/* Writes a code point as UTF-8; 0 for surrogates and what lies past the last one. */
static size_t
put_utf8(char *out, uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp >= 0xD800 && cp <= 0xDFFF) {
        return 0;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > 0x10FFFF) {
        return 0;
    }
    out[0] = (char)(0xF0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

/* Decodes the escape whose backslash is at |*at|, moves past it; bytes written, 0 when it is none.
 */
static size_t
decode_escape(rk_str s, size_t *at, char *out)
{
    static const char names[] = "abfnrtv\\\"'";
    static const char values[] = "\a\b\f\n\r\t\v\\\"'";
    char ch = s.data[*at + 1];
    const char *found = strchr(names, ch);
    uint32_t code = 0;

    if (ch != '\0' && found) {
        *at += 2;
        out[0] = values[found - names];
        return 1;
    }
    if (ch == 'x') {
        if (!read_hex(s, *at + 2, 2, &code)) {
            return 0;
        }
        *at += 4;
        out[0] = (char)code;
        return 1;
    }
    if (ch == 'u' || ch == 'U') {
        size_t digits = ch == 'u' ? 4 : 8;
        if (!read_hex(s, *at + 2, digits, &code)) {
            return 0;
        }
        *at += 2 + digits;
        return put_utf8(out, code);
    }
    if (*at + 4 > s.len) {
        return 0;
    }
    for (size_t i = 1; i <= 3; i++) {
        uint32_t digit = digit_value(s.data[*at + i]);
        if (digit > 7) {
            return 0;
        }
        code = code * 8 + digit;
    }
    if (code > 0xFF) {
        return 0;
    }
    *at += 4;
    out[0] = (char)code;
    return 1;
}

/* Cuts the quotes; true when the string is raw. */
static bool
cut_quotes(rk_str quoted, rk_str *inner)
{
    bool raw = quoted.data[0] == 'r' || quoted.data[0] == 'R';
    size_t skip = raw ? 2 : 1;
    *inner = (rk_str){quoted.data + skip, quoted.len - skip - 1};
    return raw;
}

rk_code
rk__unquote(rk__compile *c, rk_str quoted, rk_str *out)
{
    rk_str s = {0};
    bool raw = cut_quotes(quoted, &s);
    char *data = rk_arena_alloc(c->arena, s.len + 1);
    size_t len = 0;

    if (!data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < s.len;) {
        if (raw || s.data[i] != '\\') {
            data[len++] = s.data[i++];
            continue;
        }
        size_t n = decode_escape(s, &i, data + len); /* never longer than its escape */
        if (n == 0) {
            return rk__fail(c, "invalid escape in string literal: %.*s", RK__SHORT(quoted));
        }
        len += n;
    }
    data[len] = '\0';
    *out = (rk_str){data, len};
    return RK_OK;
}

rk_code
rk__unquote_key(rk__compile *c, rk_str quoted, rk_str *out)
{
    rk_str s = {0};
    bool raw = cut_quotes(quoted, &s);
    char *data = rk_arena_alloc(c->arena, s.len + 1);
    size_t len = 0;

    if (!data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < s.len;) {
        uint32_t code = 0;
        if (!raw && s.data[i] == '\\' && i + 1 < s.len) {
            if (s.data[i + 1] == 'u' && read_hex(s, i + 2, 4, &code)) {
                size_t n = put_utf8(data + len, code);
                if (n == 0) {
                    return rk__fail(c, "invalid escape in JSON key: %.*s", RK__SHORT(quoted));
                }
                len += n;
                i += 6;
                continue;
            }
            data[len++] = s.data[i++];
        }
        data[len++] = s.data[i++];
    }
    data[len] = '\0';
    *out = (rk_str){data, len};
    return RK_OK;
}

/* ---- arithmetic ---- */

int64_t
rk__int_op(rk__token_kind op, int64_t a, int64_t b)
{
    uint64_t x = (uint64_t)a;
    uint64_t y = (uint64_t)b;
    switch ((int)op) {
    case TK_ADD:
        return (int64_t)(x + y);
    case TK_SUB:
        return (int64_t)(x - y);
    case TK_MUL:
        return (int64_t)(x * y);
    case TK_DIV:
        return b == -1 ? (int64_t)(0 - x) : b == 0 ? 0 : a / b;
    case TK_MOD:
        return b == -1 || b == 0 ? 0 : a % b;
    case TK_BAND:
        return (int64_t)(x & y);
    case TK_BOR:
        return (int64_t)(x | y);
    default:
        return (int64_t)(x ^ y);
    }
}

/*
 * The smallest factor and shift (Granlund and Montgomery) with which
 *   (a * factor >> 64 >> shift) + 1 when that is negative
 * is a / by, cut toward zero, for every a; where the factor does not fit a signed word it wraps and
 * rk__divide() adds or takes a once more. 2^p / anc and 2^p / |by| are kept as quotient and rest
 * while p grows.
 */
rk__divisor
rk__divisor_of(int64_t by)
{
    uint64_t ad = by < 0 ? 0 - (uint64_t)by : (uint64_t)by;
    uint64_t top = UINT64_C(1) << 63;
    unsigned p = 63;
    uint64_t delta = 0;

    if (ad < 2) { /* no such factor; who divides by these asks rk__int_op() */
        return (rk__divisor){.by = by};
    }
    uint64_t most = top + ((uint64_t)by >> 63);
    uint64_t anc = most - 1 - most % ad; /* the largest |a| that matters */
    uint64_t q1 = top / anc;
    uint64_t r1 = top % anc;
    uint64_t q2 = top / ad;
    uint64_t r2 = top % ad;
    do {
        p++;
        q1 = 2 * q1 + (r1 >= anc - r1);
        r1 = r1 >= anc - r1 ? r1 - (anc - r1) : 2 * r1;
        q2 = 2 * q2 + (r2 >= ad - r2);
        r2 = r2 >= ad - r2 ? r2 - (ad - r2) : 2 * r2;
        delta = ad - r2;
    } while (q1 < delta || (q1 == delta && r1 == 0));
    uint64_t factor = by < 0 ? 0 - (q2 + 1) : q2 + 1;
    return (rk__divisor){.by = by, .factor = (int64_t)factor, .shift = p - 64};
}

/* The integer a double stands for in a bitwise operation: cut, and held inside the range. */
static int64_t
to_int(double v)
{
    if (!(v > -9223372036854775808.0)) { /* NaN too */
        return v == v ? INT64_MIN : 0;
    }
    return v >= 9223372036854775808.0 ? INT64_MAX : (int64_t)v;
}

double
rk__float_op(rk__token_kind op, double a, double b)
{
    switch ((int)op) {
    case TK_ADD:
        return a + b;
    case TK_SUB:
        return a - b;
    case TK_MUL:
        return a * b;
    case TK_DIV:
        return a / b;
    case TK_MOD:
        return fmod(a, b);
    default:
        return (double)rk__int_op(op, to_int(a), to_int(b));
    }
}

static double
as_float(rk__value v)
{
    return v.kind == VK_INT ? (double)v.i : v.f;
}

static bool
is_number(rk__value v)
{
    return v.kind == VK_INT || v.kind == VK_FLOAT;
}

int
rk__number_cmp(rk__value a, rk__value b)
{
    if (a.kind == VK_INT && b.kind == VK_INT) {
        return (a.i > b.i) - (a.i < b.i);
    }
    double x = as_float(a);
    double y = as_float(b);
    if (x != x || y != y) {
        return 2;
    }
    return (x > y) - (x < y);
}

bool
rk__cmp_holds(rk__token_kind cmp, int order)
{
    if (order == 2) {
        return cmp == TK_NE;
    }
    switch ((int)cmp) {
    case TK_LT:
        return order < 0;
    case TK_LE:
        return order <= 0;
    case TK_GT:
        return order > 0;
    case TK_GE:
        return order >= 0;
    case TK_EQ:
        return order == 0;
    default:
        return order != 0;
    }
}

static rk_code
fold_compare(rk__compile *c, rk__token_kind op, rk__value a, rk__value b, rk_str text,
             rk__value *out)
{
    int order = 0;
    bool equality = op == TK_EQ || op == TK_NE;
    if (is_number(a) && is_number(b)) {
        order = rk__number_cmp(a, b);
    } else if (a.kind == VK_STRING && b.kind == VK_STRING) {
        order = rk__text_cmp(a.s, b.s);
    } else if (a.kind == VK_BOOL && b.kind == VK_BOOL && equality) {
        order = (int)a.b - (int)b.b;
    } else {
        return rk__fail(
            c, "comparison operations cannot be applied to two incompatible operands: %.*s",
            RK__SHORT(text));
    }
    *out = (rk__value){.kind = VK_BOOL};
    out->b = rk__cmp_holds(op, order);
    return RK_OK;
}

static rk__value
power(rk__value a, rk__value b)
{
    rk__value out = {.kind = VK_FLOAT};
    if (a.kind == VK_INT && b.kind == VK_INT && b.i >= 0) {
        int64_t result = 1;
        int64_t base = a.i;
        uint64_t exponent = (uint64_t)b.i;
        bool overflow = false;
        while (exponent > 0 && !overflow) {
            if (exponent & 1) {
                overflow = __builtin_mul_overflow(result, base, &result);
            }
            exponent >>= 1;
            if (exponent > 0 && !overflow) {
                overflow = __builtin_mul_overflow(base, base, &base);
            }
        }
        if (!overflow) {
            out.kind = VK_INT;
            out.i = result;
            return out;
        }
    }
    out.f = pow(as_float(a), as_float(b));
    return out;
}

static const char *
op_name(rk__token_kind op)
{
    switch ((int)op) {
    case TK_ADD:
        return "add";
    case TK_SUB:
        return "subtract";
    case TK_MUL:
        return "multiply";
    case TK_DIV:
        return "divide";
    case TK_MOD:
        return "modulo";
    case TK_POW:
        return "power";
    default:
        return "bitwise";
    }
}

rk_code
rk__fold(rk__compile *c, rk__token_kind op, rk__value a, rk__value b, rk_str text, rk__value *out)
{
    if (op >= TK_LT && op <= TK_NE) {
        return fold_compare(c, op, a, b, text, out);
    }
    if (!is_number(a) || !is_number(b)) {
        return rk__fail(c, "'%s' can only be used between integer or floating expressions: %.*s",
                        op_name(op), RK__SHORT(text));
    }
    bool ints = a.kind == VK_INT && b.kind == VK_INT;
    bool bits = op == TK_BAND || op == TK_BOR || op == TK_BXOR;
    if (op == TK_POW) {
        *out = power(a, b);
        return RK_OK;
    }
    if (!ints && (op == TK_MOD || bits)) {
        return rk__fail(c, bits ? "bitwise operations can only apply on integer types"
                                : "modulo can only apply on integer types");
    }
    if ((op == TK_DIV || op == TK_MOD) && as_float(b) == 0.0) {
        return rk__fail(c, "cannot %s by zero", op_name(op));
    }
    *out = (rk__value){.kind = ints ? VK_INT : VK_FLOAT};
    if (ints) {
        out->i = rk__int_op(op, a.i, b.i);
    } else {
        out->f = rk__float_op(op, as_float(a), as_float(b));
    }
    return RK_OK;
}

/* ---- templates ---- */

static rk_code
copy_string(rk__compile *c, rk_str s, rk__value *out)
{
    out->kind = VK_STRING;
    out->s = rk_arena_str(c->arena, s);
    return out->s.data ? RK_OK : RK_ENOMEM;
}

static rk_code
json_value(rk__compile *c, rk_json_value json, rk__value *out, uint32_t depth)
{
    *out = (rk__value){0};
    switch (json.type) {
    case RK_JSON_BOOL:
        out->kind = VK_BOOL;
        (void)rk_json_get_bool(json, &out->b);
        return RK_OK;
    case RK_JSON_INT:
        out->kind = VK_INT;
        (void)rk_json_get_i64(json, &out->i);
        return RK_OK;
    case RK_JSON_DOUBLE:
        out->kind = VK_FLOAT;
        (void)rk_json_get_f64(json, &out->f);
        return RK_OK;
    case RK_JSON_STRING: {
        rk_str s = {0};
        RK_RET(rk_json_get_str(json, &s, c->arena));
        return copy_string(c, s, out);
    }
    case RK_JSON_ARRAY: {
        rk__values *list = RK_ARENA_NEW(c->arena, rk__values);
        rk_json_iter iter;
        rk_json_value element;
        if (!list) {
            return RK_ENOMEM;
        }
        if (depth >= NESTING_MAX) {
            return rk__fail(c, "template array is nested too deep");
        }
        rk_json_iter_init(&iter, json);
        while (rk_json_iter_next(&iter, NULL, &element)) {
            rk__value value;
            RK_RET(json_value(c, element, &value, depth + 1)); /* at most NESTING_MAX deep */
            RK_RET(rk__values_push(list, value, c->arena));
        }
        out->kind = VK_LIST;
        out->list = list;
        return RK_OK;
    }
    case RK_JSON_NONE:
    case RK_JSON_NULL:
    case RK_JSON_OBJECT:
    default:
        return rk__fail(c, "template array holds a null or an object: %.*s", RK__SHORT(json.raw));
    }
}

static rk_code
array_value(rk__compile *c, const pb_schema_TemplateArrayValue *array, rk__value *out,
            uint32_t depth)
{
    rk__values *list = RK_ARENA_NEW(c->arena, rk__values);
    uint32_t kind = array ? array->data_case : 0;
    size_t n = 0;

    if (!list) {
        return RK_ENOMEM;
    }
    if (depth >= NESTING_MAX) {
        return rk__fail(c, "template array is nested too deep");
    }
    *out = (rk__value){.kind = VK_LIST};
    out->list = list;
    switch (kind) {
    case PB_SCHEMA_TemplateArrayValue_bool_data:
        n = array->bool_data ? array->bool_data->data.n : 0;
        break;
    case PB_SCHEMA_TemplateArrayValue_long_data:
        n = array->long_data ? array->long_data->data.n : 0;
        break;
    case PB_SCHEMA_TemplateArrayValue_double_data:
        n = array->double_data ? array->double_data->data.n : 0;
        break;
    case PB_SCHEMA_TemplateArrayValue_string_data:
        n = array->string_data ? array->string_data->data.n : 0;
        break;
    case PB_SCHEMA_TemplateArrayValue_array_data:
        n = array->array_data ? array->array_data->data.n : 0;
        break;
    case PB_SCHEMA_TemplateArrayValue_json_data:
        n = array->json_data ? array->json_data->data.n : 0;
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++) {
        rk__value value = {0};
        switch (kind) {
        case PB_SCHEMA_TemplateArrayValue_bool_data:
            value.kind = VK_BOOL;
            value.b = array->bool_data->data.data[i];
            break;
        case PB_SCHEMA_TemplateArrayValue_long_data:
            value.kind = VK_INT;
            value.i = array->long_data->data.data[i];
            break;
        case PB_SCHEMA_TemplateArrayValue_double_data:
            value.kind = VK_FLOAT;
            value.f = pb_f64_at(array->double_data->data, i);
            break;
        case PB_SCHEMA_TemplateArrayValue_string_data:
            RK_RET(copy_string(c, array->string_data->data.data[i], &value));
            break;
        case PB_SCHEMA_TemplateArrayValue_array_data:
            RK_RET(array_value(c, array->array_data->data.data[i], &value, depth + 1));
            break;
        default: {
            rk_str json = array->json_data->data.data[i];
            if (rk_json_check(json, RK_JSON_UTF8, NULL) != RK_OK) {
                return rk__fail(c, "template array holds invalid JSON: %.*s", RK__SHORT(json));
            }
            RK_RET(json_value(c, rk_json_root(json), &value, depth + 1));
            break;
        }
        }
        RK_RET(rk__values_push(list, value, c->arena));
    }
    return RK_OK;
}

rk_code
rk__template_value(rk__compile *c, rk_str name, rk__value *out)
{
    const pb_schema_TemplateValue *found = NULL;
    for (size_t i = 0; c->options && i < c->options->templates_len; i++) {
        if (rk_str_eq(c->options->templates[i].name, name)) {
            found = c->options->templates[i].value;
        }
    }
    *out = (rk__value){0};
    switch (found ? found->val_case : 0) {
    case PB_SCHEMA_TemplateValue_bool_val:
        out->kind = VK_BOOL;
        out->b = found->bool_val;
        return RK_OK;
    case PB_SCHEMA_TemplateValue_int64_val:
        out->kind = VK_INT;
        out->i = found->int64_val;
        return RK_OK;
    case PB_SCHEMA_TemplateValue_float_val:
        out->kind = VK_FLOAT;
        out->f = found->float_val;
        return RK_OK;
    case PB_SCHEMA_TemplateValue_string_val:
        return copy_string(c, found->string_val, out);
    case PB_SCHEMA_TemplateValue_array_val:
        return array_value(c, found->array_val, out, 0);
    default:
        return rk__fail(c, "the value of expression template variable name {%.*s} is not found",
                        RK__SHORT(name));
    }
}

/* ---- printing ---- */

const char *
rk__value_type_name(rk__value_kind kind)
{
    static const char *const names[] = {
        [VK_NONE] = "None",      [VK_BOOL] = "Bool",  [VK_INT] = "Int64", [VK_FLOAT] = "Double",
        [VK_STRING] = "VarChar", [VK_LIST] = "Array", [VK_NODE] = "None",
    };
    return names[kind];
}

static void
print_float(rk_buf *out, double v)
{
    char text[RK_JSON_NUMBER_MAX];
    if (v != v) { /* no word for these: sums that fold to them */
        rk_buf_str(out, RK_STR("(1e308 * 10 - 1e308 * 10)"));
        return;
    }
    if (isinf(v)) {
        rk_buf_str(out, v > 0 ? RK_STR("(1e308 * 10)") : RK_STR("(-1e308 * 10)"));
        return;
    }
    size_t len = rk_json_format_f64(text, v);
    rk_buf_append(out, text, len);
    if (!memchr(text, '.', len) && !memchr(text, 'e', len) && !memchr(text, 'E', len)) {
        rk_buf_str(out, RK_STR(".0"));
    }
}

static void
print_string(rk_buf *out, rk_str s)
{
    bool ill_formed = rk_utf8_invalid_at(s) != SIZE_MAX;
    rk_buf_byte(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.data[i];
        if (ch == '"' || ch == '\\') {
            rk_buf_byte(out, '\\');
            rk_buf_byte(out, ch);
        } else if (ch < 0x20 || ch == 0x7F || (ch >= 0x80 && ill_formed)) {
            rk_buf_printf(out, "\\x%02x", ch);
        } else {
            rk_buf_byte(out, ch);
        }
    }
    rk_buf_byte(out, '"');
}

static void
print_scalar(rk_buf *out, rk__value v)
{
    switch (v.kind) {
    case VK_BOOL:
        rk_buf_str(out, v.b ? RK_STR("true") : RK_STR("false"));
        break;
    case VK_INT:
        rk_buf_printf(out, "%lld", (long long)v.i);
        break;
    case VK_FLOAT:
        print_float(out, v.f);
        break;
    case VK_STRING:
        print_string(out, v.s);
        break;
    case VK_NONE:
    case VK_LIST:
    case VK_NODE:
    default:
        rk_buf_str(out, RK_STR("[]"));
        break;
    }
}

void
rk__value_print(rk_buf *out, rk__value v)
{
    /* lists nest as deep as brackets may: walked with a stack */
    struct {
        const rk__values *list;
        size_t next;
    } stack[RK__DEPTH_MAX + 1];
    uint32_t depth = 0;

    if (v.kind != VK_LIST) {
        print_scalar(out, v);
        return;
    }
    stack[depth].list = v.list;
    stack[depth].next = 0;
    depth++;
    rk_buf_byte(out, '[');
    while (depth > 0) {
        const rk__values *list = stack[depth - 1].list;
        size_t i = stack[depth - 1].next++;
        if (i >= list->n) {
            rk_buf_byte(out, ']');
            depth--;
            continue;
        }
        if (i > 0) {
            rk_buf_str(out, RK_STR(", "));
        }
        if (list->data[i].kind == VK_LIST && depth <= RK__DEPTH_MAX) {
            rk_buf_byte(out, '[');
            stack[depth].list = list->data[i].list;
            stack[depth].next = 0;
            depth++;
        } else {
            print_scalar(out, list->data[i]);
        }
    }
}

rk__short_text
rk__value_text(rk__value v)
{
    rk__short_text out = {0};
    rk_buf buf = {0};
    if (v.kind == VK_LIST) {
        (void)snprintf(out.text, sizeof(out.text), "an array of %zu", v.list->n);
        return out;
    }
    if (v.kind == VK_STRING) {
        (void)snprintf(out.text, sizeof(out.text), "%.*s", (int)RK_MIN(v.s.len, (size_t)80),
                       v.s.data);
        return out;
    }
    print_scalar(&buf, v);
    (void)snprintf(out.text, sizeof(out.text), "%.*s", (int)RK_MIN(buf.len, sizeof(out.text) - 1),
                   buf.data ? (const char *)buf.data : "");
    rk_buf_deinit(&buf);
    return out;
}
