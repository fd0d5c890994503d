/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IN, LIKE, regular expressions and function calls.
 *
 * Functions of other engines' worlds (text analysis, geometry, struct arrays) parse, so that a
 * caller gets the right kind of answer, and are refused by name: nothing this build cannot compute
 * is ever taken for true.
 */
#include <stdio.h>

#include "filter/filter_private.h"

/* ---- IN ---- */

static rk_code
in_list(rk__checker *k, uint32_t node, const rk__values **out)
{
    const rk__sem *s = &k->sems[node];
    const rk__node *n = &k->c->nodes[node];
    rk__value v = {0};

    if (s->kind == SK_TEMPLATE) {
        rk_str name = rk__span(k->c, n->name_start, n->name_end);
        RK_RET(rk__template_value(k->c, name, &v));
        if (v.kind != VK_LIST) {
            return rk__fail(k->c,
                            "the value of term expression template variable {%.*s} is not array",
                            RK__SHORT(name));
        }
    } else if (s->kind != SK_CONST || s->value.kind != VK_LIST) {
        (void)rk__fail(k->c, "the right-hand side of 'in' must be a list, but got: %.*s",
                       RK__SHORT(rk__node_text(k->c, node)));
        return rk__hint(k->c, "; a list stands in square brackets: [1, 2]");
    } else if (s->bad) {
        (void)rk__fail(k->c, "value '%.*s' in list cannot be a non-const expression",
                       RK__SHORT(rk__node_text(k->c, s->bad - 1)));
        const rk__sem *bad = &k->sems[s->bad - 1];
        return bad->kind == SK_COLUMN ? rk__hint_value(k->c, &k->c->nodes[s->bad - 1], bad->col)
                                      : RK_EINVAL;
    } else {
        v = s->value;
    }
    *out = v.list;
    return RK_OK;
}

/* One element of a list as |col| compares it. */
static rk_code
in_element(rk__checker *k, const rk__col *col, rk__value v, rk__value *out)
{
    rk__short_text scratch;
    bool fits = true;

    *out = v;
    if (col->kind == CK_ARRAY || (col->kind == CK_JSON && v.kind == VK_LIST)) {
        rk__col element = {.kind = CK_SCALAR,
                           .type = col->kind == CK_JSON ? RK_JSON : col->field->element};
        rk__values *list = RK_ARENA_NEW(k->c->arena, rk__values);
        if (!list) {
            return RK_ENOMEM;
        }
        fits = v.kind == VK_LIST;
        for (size_t i = 0; fits && i < v.list->n; i++) {
            rk__value converted = {0};
            fits = v.list->data[i].kind != VK_LIST &&
                   rk__convert(&element, v.list->data[i], &converted);
            if (fits) {
                RK_RET(rk__values_push(list, converted, k->c->arena));
            }
        }
        out->kind = VK_LIST;
        out->list = list;
    } else {
        fits = rk__convert(col, v, out);
    }
    if (!fits) {
        rk__short_text text = rk__value_text(v);
        return rk__fail(k->c, "value '%s' in list cannot be casted to %s", text.text,
                        rk__col_type_name(col, &scratch));
    }
    return RK_OK;
}

rk_code
rk__check_in(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *left = &k->sems[n->a];
    const rk__values *list = NULL;
    rk__short_text scratch;

    if (rk__sem_is_constant(left)) {
        return rk__fail(k->c, "'term' can only be used on non-const expression, but got: %.*s",
                        RK__SHORT(rk__node_text(k->c, n->a)));
    }
    if (left->kind != SK_COLUMN) {
        return rk__fail(k->c, "'term' can only be used on single field, but got: %.*s",
                        RK__SHORT(rk__node_text(k->c, n->a)));
    }
    if (left->col->kind == CK_OTHER) {
        return rk__fail(k->c, "term expression is not supported for data type %s",
                        rk__col_type_name(left->col, &scratch));
    }
    RK_RET(in_list(k, n->b, &list));
    rk__pred *pred = rk__pred_new(k, PK_IN, left->col);
    rk__values *converted = RK_ARENA_NEW(k->c->arena, rk__values);
    if (!pred || !converted) {
        return RK_ENOMEM;
    }
    converted->data = RK_ARENA_ARRAY(k->c->arena, rk__value, list->n + 1);
    if (!converted->data) {
        return RK_ENOMEM;
    }
    converted->cap = list->n + 1;
    for (size_t i = 0; i < list->n; i++) {
        RK_RET(in_element(k, left->col, list->data[i], &converted->data[i]));
    }
    converted->n = list->n;
    pred->value.kind = VK_LIST;
    pred->value.list = converted;
    if (!n->negated) {
        return rk__sem_pred(out, pred);
    }
    rk__pred *inverse = rk__pred_new(k, PK_NOT, NULL);
    rk__pred **children = RK_ARENA_ARRAY(k->c->arena, rk__pred *, 1);
    if (!inverse || !children) {
        return RK_ENOMEM;
    }
    children[0] = pred;
    inverse->children = children;
    inverse->children_len = 1;
    return rk__sem_pred(out, inverse);
}

/* ---- LIKE and regular expressions ---- */

/* The text right of LIKE, =~ and !~, and the column left of it. */
static rk_code
pattern_sides(rk__checker *k, uint32_t node, const char *what, const rk__col **col, rk_str *pattern)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[n->b];
    const rk__node *right_node = &k->c->nodes[n->b];
    rk__value v = {0};

    if (left->kind != SK_COLUMN) {
        return rk__fail(k->c, "%s operation on complicated expr is unsupported", what);
    }
    if (left->col->type != RK_VARCHAR && left->col->type != RK_JSON) {
        return rk__fail(k->c, "%s operation on non-string or no-json field is unsupported", what);
    }
    if (right->kind == SK_TEMPLATE) {
        rk_str name = rk__span(k->c, right_node->name_start, right_node->name_end);
        RK_RET(rk__template_value(k->c, name, &v));
        if (v.kind != VK_STRING) {
            return rk__fail(k->c,
                            "the value of %s expression template variable {%.*s} is not string",
                            what, RK__SHORT(name));
        }
    } else if (right->kind == SK_CONST && right->value.kind == VK_STRING) {
        v = right->value;
    } else {
        return rk__fail(k->c,
                        "%s pattern should be a string literal or template variable, got: %.*s",
                        what, RK__SHORT(rk__node_text(k->c, n->b)));
    }
    *col = left->col;
    *pattern = v.s;
    return RK_OK;
}

rk_code
rk__check_like(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__col *col = NULL;
    rk_str pattern = {0};

    RK_RET(pattern_sides(k, node, "like", &col, &pattern));
    rk__pred *pred = rk__pred_new(k, PK_LIKE, col);
    if (!pred) {
        return RK_ENOMEM;
    }
    pred->value.kind = VK_STRING;
    pred->value.s = pattern;
    rk_code code = rk__like_new(&pred->like, pattern, k->c->arena);
    if (code == RK_EINVAL) {
        return rk__fail(k->c,
                        "Invalid LIKE pattern: trailing backslash with nothing to escape: %.*s",
                        RK__SHORT(pattern));
    }
    RK_RET(code);
    return rk__sem_pred(out, pred);
}

rk_code
rk__check_regex(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__col *col = NULL;
    rk_str pattern = {0};
    const char *why = NULL;

    RK_RET(pattern_sides(k, node, "regex", &col, &pattern));
    rk__pred *pred = rk__pred_new(k, PK_REGEX, col);
    if (!pred) {
        return RK_ENOMEM;
    }
    pred->value.kind = VK_STRING;
    pred->value.s = pattern;
    rk_code code = rk__regex_new(&pred->regex, pattern, &why, k->c->arena);
    if (code == RK_EINVAL) {
        return rk__fail(k->c, "invalid regex pattern: %.*s: %s", RK__SHORT(pattern), why);
    }
    RK_RET(code);
    if (k->c->nodes[node].op == TK_MATCH) {
        return rk__sem_pred(out, pred);
    }
    rk__pred *inverse = rk__pred_new(k, PK_NOT, NULL);
    rk__pred **children = RK_ARENA_ARRAY(k->c->arena, rk__pred *, 1);
    if (!inverse || !children) {
        return RK_ENOMEM;
    }
    children[0] = pred;
    inverse->children = children;
    inverse->children_len = 1;
    return rk__sem_pred(out, inverse);
}

/* ---- calls ---- */

static rk_code
check_contains(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    uint32_t second = k->c->nodes[n->a].next;
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[second];
    const char *name = n->fn == FN_CONTAINS_ALL   ? "ContainsAll"
                       : n->fn == FN_CONTAINS_ANY ? "ContainsAny"
                                                  : "Contains";
    rk__value v = {0};
    rk__short_text scratch;

    if (left->kind != SK_COLUMN || (left->col->kind != CK_JSON && left->col->kind != CK_ARRAY)) {
        return rk__fail(
            k->c, "contains operation are only supported on json or array fields now, got: %.*s",
            RK__SHORT(rk__node_text(k->c, n->a)));
    }
    if (!rk__sem_is_constant(right)) {
        return rk__fail(k->c, "%s operation element must be a constant, got: %.*s", name,
                        RK__SHORT(rk__node_text(k->c, second)));
    }
    RK_RET(rk__sem_constant(k, second, &v));
    if (n->fn != FN_CONTAINS && v.kind != VK_LIST) {
        return rk__fail(k->c, "%s operation element must be an array", name);
    }
    rk__values one = {.data = &v, .n = 1};
    const rk__values *given = n->fn == FN_CONTAINS ? &one : v.list;
    rk__values *list = RK_ARENA_NEW(k->c->arena, rk__values);
    if (!list) {
        return RK_ENOMEM;
    }
    rk__col element = {.kind = CK_SCALAR, .type = left->col->field->element};
    for (size_t i = 0; i < given->n; i++) {
        rk__value converted = {0};
        if (left->col->kind == CK_JSON) {
            RK_RET(in_element(k, left->col, given->data[i], &converted));
        } else if (!rk__convert(&element, given->data[i], &converted)) {
            rk__short_text text = rk__value_text(given->data[i]);
            return rk__fail(k->c, "%s operation: value '%s' cannot be casted to an element of %s",
                            name, text.text, rk__col_type_name(left->col, &scratch));
        }
        RK_RET(rk__values_push(list, converted, k->c->arena));
    }
    rk__pred *pred = rk__pred_new(k, PK_CONTAINS, left->col);
    if (pred) {
        pred->fn = n->fn;
        pred->value.kind = VK_LIST;
        pred->value.list = list;
    }
    return rk__sem_pred(out, pred);
}

static rk_code
check_length(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    rk_str text = rk__span(k->c, n->name_start, n->name_end);
    const rk__col *col = NULL;
    rk__short_text scratch;
    const char *bracket = memchr(text.data, '[', text.len);

    if (bracket && text.data[(bracket - text.data) + 1] != '"' &&
        text.data[(bracket - text.data) + 1] != '\'' && rk__lex(text, 0).kind == TK_STRUCT) {
        return rk__fail(k->c, "struct field not found: %.*s", RK__SHORT(text));
    }
    if (bracket) {
        RK_RET(rk__resolve_path(k->c, text, &col));
    } else {
        RK_RET(rk__resolve_name(k->c, text, &col));
    }
    if (col->kind != CK_ARRAY && col->kind != CK_JSON) {
        return rk__fail(k->c,
                        "array_length operation are only supported on json or array fields now, "
                        "got: %s",
                        rk__col_type_name(col, &scratch));
    }
    *out = (rk__sem){.kind = SK_LENGTH, .col = col};
    return RK_OK;
}

static rk_code
check_sample(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__sem *arg = &k->sems[k->c->nodes[node].a];
    rk__short_text text;

    if (arg->kind != SK_CONST || arg->value.kind != VK_FLOAT) {
        return rk__fail(k->c, "random sample factor must be a constant float, got: %.*s",
                        RK__SHORT(rk__node_text(k->c, k->c->nodes[node].a)));
    }
    text = rk__value_text(arg->value);
    if (!(arg->value.f > 1e-10) || !(arg->value.f < 1 - 1e-10)) {
        return rk__fail(k->c,
                        "the sample factor should be between 0 and 1 and not too close to 0 or 1, "
                        "the value: %s",
                        text.text);
    }
    *out = (rk__sem){.kind = SK_SAMPLE, .sample = arg->value.f};
    return RK_OK;
}

static rk_code
unknown_function(rk__checker *k, uint32_t node)
{
    const rk__node *n = &k->c->nodes[node];
    rk_str name = rk__span(k->c, n->name_start, n->name_end);
    char lower[64];
    char types[256];
    size_t at = 0;
    size_t len = RK_MIN(name.len, sizeof(lower) - 1);
    rk__short_text scratch;

    for (size_t i = 0; i < len; i++) {
        char ch = name.data[i];
        lower[i] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
    }
    lower[len] = '\0';
    types[0] = '\0';
    uint32_t arg = n->a;
    for (uint32_t i = 0; i < n->b && at + 64 < sizeof(types); i++) {
        const rk__sem *s = &k->sems[arg];
        const char *type = s->kind == SK_COLUMN  ? rk__col_type_name(s->col, &scratch)
                           : s->kind == SK_CONST ? rk__value_type_name(s->value.kind)
                                                 : "None";
        int wrote = snprintf(types + at, sizeof(types) - at, "%s%s", i ? ", " : "", type);
        at += wrote > 0 ? (size_t)wrote : 0;
        arg = k->c->nodes[arg].next;
    }
    return rk__fail(k->c, "function %s(%s) not found.", lower, types);
}

static bool
is_name(rk_str name, const char *want)
{
    if (name.len != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.data[i];
        if ((ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch) != want[i]) {
            return false;
        }
    }
    return true;
}

/* An argument that is a text: a VarChar column or a string. */
static bool
text_argument(const rk__sem *s)
{
    return (s->kind == SK_COLUMN && s->col->kind == CK_SCALAR && s->col->type == RK_VARCHAR) ||
           (s->kind == SK_CONST && s->value.kind == VK_STRING);
}

static rk_code
check_generic(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    rk_str name = rk__span(k->c, n->name_start, n->name_end);
    bool empty = n->b == 1 && is_name(name, "empty");
    bool starts = n->b == 2 && is_name(name, "starts_with");

    if (!empty && !starts) {
        return unknown_function(k, node);
    }
    const rk__sem *first = &k->sems[n->a];
    const rk__sem *second = empty ? first : &k->sems[k->c->nodes[n->a].next];
    if (!text_argument(first) || !text_argument(second)) {
        return unknown_function(k, node);
    }
    if (first->kind == SK_CONST && second->kind == SK_CONST) {
        rk_str text = first->value.s;
        rk_str head = empty ? (rk_str){0} : second->value.s;
        *out = (rk__sem){.kind = SK_CONST};
        out->value.kind = VK_BOOL;
        out->value.b = empty
                           ? text.len == 0
                           : head.len <= text.len && rk_str_eq((rk_str){text.data, head.len}, head);
        return RK_OK;
    }
    rk__pred *pred = rk__pred_new(k, empty ? PK_EMPTY : PK_STARTS, NULL);
    if (pred) {
        pred->col = first->kind == SK_COLUMN ? first->col : NULL;
        pred->value = first->value;
        if (starts) {
            pred->col2 = second->kind == SK_COLUMN ? second->col : NULL;
            pred->value2 = second->value;
        }
    }
    return rk__sem_pred(out, pred);
}

rk_code
rk__check_call(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    switch (n->fn) {
    case FN_GENERIC:
        return check_generic(k, node, out);
    case FN_CONTAINS:
    case FN_CONTAINS_ALL:
    case FN_CONTAINS_ANY:
        return check_contains(k, node, out);
    case FN_ARRAY_LENGTH:
        return check_length(k, node, out);
    case FN_RANDOM_SAMPLE:
        return check_sample(k, node, out);
    case FN_ELEMENT_FILTER:
    case FN_MATCH_ALL:
    case FN_MATCH_ANY:
    case FN_MATCH_LEAST:
    case FN_MATCH_MOST:
    case FN_MATCH_EXACT:
        return rk__fail(k->c, "struct field not found: %.*s",
                        RK__SHORT(rk__span(k->c, n->name_start, n->name_end)));
    case FN_NONE:
    case FN_TEXT_MATCH:
    case FN_TEXT_MATCH_FUZZY:
    case FN_PHRASE_MATCH:
    case FN_ST_BINARY:
    case FN_ST_DWITHIN:
    case FN_ST_ISVALID:
    default: {
        rk_str text = rk__node_text(k->c, node);
        const char *paren = memchr(text.data, '(', text.len);
        rk_str name = rk_str_trim((rk_str){text.data, (size_t)(paren - text.data)});
        return rk__fail(k->c, "function %.*s is not supported by this build", RK__SHORT(name));
    }
    }
}
