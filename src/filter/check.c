/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The type checker: syntax nodes in, one typed predicate out.
 *
 * Nodes stand after their children, so one pass in order suffices: each gets a meaning (rk__sem)
 * made from its children's. A constant stays a value, a column a column; comparisons turn into
 * predicates. Here are names, literals, prefix operators, and/or, null tests and the final test;
 * check_compare.c and check_member.c hold the rest.
 */
#include <stdarg.h>
#include <stdio.h>

#include "filter/filter_private.h"

rk_code
rk__fail(rk__compile *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->detail, sizeof(c->detail), fmt, args);
    va_end(args);
    return RK_EINVAL;
}

rk__pred *
rk__pred_new(rk__checker *k, rk__pred_kind kind, const rk__col *col)
{
    rk__pred *pred = RK_ARENA_NEW(k->c->arena, rk__pred);
    if (pred) {
        pred->kind = kind;
        pred->col = col;
    }
    return pred;
}

rk_code
rk__sem_pred(rk__sem *out, rk__pred *pred)
{
    *out = (rk__sem){.kind = SK_PRED, .pred = pred};
    return pred ? RK_OK : RK_ENOMEM;
}

rk_code
rk__sem_constant(rk__checker *k, uint32_t node, rk__value *out)
{
    const rk__sem *s = &k->sems[node];
    const rk__node *n = &k->c->nodes[node];
    if (s->kind == SK_TEMPLATE) {
        return rk__template_value(k->c, rk__span(k->c, n->name_start, n->name_end), out);
    }
    if (s->bad) {
        return rk__fail(k->c, "array element type must be generic value, but got: %.*s",
                        RK__SHORT(rk__node_text(k->c, s->bad - 1)));
    }
    *out = s->value;
    return RK_OK;
}

const char *
rk__col_type_name(const rk__col *col, rk__short_text *scratch)
{
    if (col->kind == CK_ARRAY) {
        (void)snprintf(scratch->text, sizeof(scratch->text), "Array[%s]",
                       rk_type_name(col->field->element));
        return scratch->text;
    }
    return rk_type_name(col->type);
}

bool
rk__convert(const rk__col *col, rk__value v, rk__value *out)
{
    *out = v;
    switch ((int)col->type) {
    case RK_BOOL:
        return v.kind == VK_BOOL;
    case RK_INT8:
    case RK_INT16:
    case RK_INT32:
    case RK_INT64:
        return v.kind == VK_INT;
    case RK_FLOAT:
    case RK_DOUBLE:
        if (v.kind != VK_INT && v.kind != VK_FLOAT) {
            return false;
        }
        out->kind = VK_FLOAT;
        out->f = v.kind == VK_INT ? (double)v.i : v.f;
        if (col->type == RK_FLOAT) {
            out->f = (double)(float)out->f;
        }
        return true;
    case RK_VARCHAR:
        return v.kind == VK_STRING;
    case RK_JSON:
        return v.kind != VK_NONE;
    default:
        return false;
    }
}

/* ---- leaves of the syntax ---- */

/* The text of a regular expression: only the backslash before itself and before the quote is taken.
 */
static rk_code
read_regex(rk__checker *k, rk_str quoted, rk__sem *out)
{
    if (quoted.data[0] == 'r' || quoted.data[0] == 'R') {
        return rk__unquote(k->c, quoted, &out->value.s);
    }
    char *data = rk_arena_alloc(k->c->arena, quoted.len);
    size_t len = 0;
    if (!data) {
        return RK_ENOMEM;
    }
    for (size_t i = 1; i + 1 < quoted.len; i++) {
        if (quoted.data[i] == '\\' &&
            (quoted.data[i + 1] == '\\' || quoted.data[i + 1] == quoted.data[0])) {
            i++;
        } else if (quoted.data[i] == '\\') {
            data[len++] = quoted.data[i++];
        }
        data[len++] = quoted.data[i];
    }
    out->value.s = (rk_str){data, len};
    return RK_OK;
}

static rk_code
check_string(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    rk_str quoted = rk__node_text(k->c, node);
    *out = (rk__sem){.kind = SK_CONST};
    out->value.kind = VK_STRING;
    return n->negated ? read_regex(k, quoted, out) : rk__unquote(k->c, quoted, &out->value.s);
}

static rk_code
check_list(rk__checker *k, uint32_t node, rk__sem *out)
{
    rk__values *list = k->c->nodes[node].list;
    *out = (rk__sem){.kind = SK_CONST};
    out->value.kind = VK_LIST;
    out->value.list = list;
    for (size_t i = 0; i < list->n; i++) {
        if (list->data[i].kind != VK_NODE) {
            continue;
        }
        const rk__sem *element = &k->sems[list->data[i].node];
        if (element->kind != SK_CONST || element->bad) {
            out->bad = list->data[i].node + 1;
            return RK_OK; /* whoever uses the list says so in its own words */
        }
        list->data[i] = element->value;
    }
    return RK_OK;
}

static rk_code
check_column(rk__checker *k, uint32_t node, rk__sem *out)
{
    rk_str text = rk__node_text(k->c, node);
    *out = (rk__sem){.kind = SK_COLUMN};
    if (k->c->nodes[node].kind == ND_JSON) {
        return rk__resolve_path(k->c, text, &out->col);
    }
    if (k->c->nodes[node].kind == ND_STRUCT) {
        const char *bracket = memchr(text.data, '[', text.len);
        if (text.data[0] == '$') {
            return rk__fail(k->c, "%.*s syntax can only be used inside ElementFilter or MATCH_*",
                            RK__SHORT(text));
        }
        rk_str name = {text.data, (size_t)(bracket - text.data)};
        return rk__fail(k->c, "struct field not found: %.*s", RK__SHORT(name));
    }
    return rk__resolve_name(k->c, text, &out->col);
}

static rk_code
check_time(rk__checker *k, uint32_t node)
{
    const rk__node *n = &k->c->nodes[node];
    rk_str name = rk__span(k->c, n->name_start, n->name_end);
    return rk__fail(k->c, "field '%.*s' is not a timestamptz datatype", RK__SHORT(name));
}

static rk_code
check_null_test(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__col *col = k->sems[n->a].col;
    bool path = col->kind == CK_JSON && col->keys_len > 0;

    if (col->kind == CK_OTHER) {
        return rk__fail(k->c, "IsNull/IsNotNull operations are not supported on vector fields");
    }
    if (col->kind == CK_ELEMENT) {
        return rk__fail(k->c, "IsNull/IsNotNull operations are not supported on array elements");
    }
    rk__pred *test = rk__pred_new(k, path ? PK_EXISTS : PK_NULL, col);
    if (!test || path == n->negated) {
        return rk__sem_pred(out, test);
    }
    rk__pred *inverse = rk__pred_new(k, PK_NOT, NULL);
    if (!inverse) {
        return RK_ENOMEM;
    }
    inverse->children = RK_ARENA_ARRAY(k->c->arena, rk__pred *, 1);
    if (!inverse->children) {
        return RK_ENOMEM;
    }
    inverse->children[0] = test;
    inverse->children_len = 1;
    return rk__sem_pred(out, inverse);
}

/* ---- logic ---- */

/* A constant or a predicate as a predicate; false for everything else. */
static bool
as_pred(rk__checker *k, const rk__sem *s, rk__pred **out, rk_code *code)
{
    if (s->kind == SK_PRED) {
        *out = s->pred;
        return true;
    }
    if (s->kind == SK_CONST && s->value.kind == VK_BOOL) {
        *out = rk__pred_new(k, PK_CONST, NULL);
        if (!*out) {
            *code = RK_ENOMEM;
            return true;
        }
        (*out)->truth = s->value.b;
        return true;
    }
    return false;
}

static rk_code
pred_sem(rk__sem *out, rk__pred *pred)
{
    if (pred && pred->kind == PK_CONST) {
        *out = (rk__sem){.kind = SK_CONST};
        out->value.kind = VK_BOOL;
        out->value.b = pred->truth;
        return RK_OK;
    }
    return rk__sem_pred(out, pred);
}

static rk_code
add_child(rk__checker *k, rk__pred *parent, rk__pred *child)
{
    if (parent->children_len == parent->children_cap) {
        uint32_t cap = parent->children_cap ? parent->children_cap * 2 : 4;
        rk__pred **grown = RK_ARENA_ARRAY(k->c->arena, rk__pred *, cap);
        if (!grown) {
            return RK_ENOMEM;
        }
        if (parent->children_len) {
            memcpy(grown, parent->children, parent->children_len * sizeof(rk__pred *));
        }
        parent->children = grown;
        parent->children_cap = cap;
    }
    parent->children[parent->children_len++] = child;
    return RK_OK;
}

/* |a| and/or |b|: constants drop out, runs of one operator become one node. */
static rk_code
join(rk__checker *k, rk__pred_kind kind, rk__pred *a, rk__pred *b, rk__pred **out)
{
    bool decisive = kind == PK_OR; /* the constant that decides alone */
    if (a->kind == PK_CONST) {
        *out = a->truth == decisive ? a : b;
        return RK_OK;
    }
    if (b->kind == PK_CONST) {
        *out = b->truth == decisive ? b : a;
        return RK_OK;
    }
    rk__pred *parent = a;
    if (a->kind != kind) {
        parent = rk__pred_new(k, kind, NULL);
        if (!parent) {
            return RK_ENOMEM;
        }
        RK_RET(add_child(k, parent, a));
    }
    if (b->kind != kind) {
        RK_RET(add_child(k, parent, b));
    } else {
        for (uint32_t i = 0; i < b->children_len; i++) {
            RK_RET(add_child(k, parent, b->children[i]));
        }
    }
    *out = parent;
    return RK_OK;
}

/* A bare column where a condition must be: of type Bool it wants a comparison. */
static rk_code
hint_bool(rk__checker *k, const rk__sem *s)
{
    return s->kind == SK_COLUMN && s->col->type == RK_BOOL
               ? rk__hint(k->c, "; write %.*s == true", RK__SHORT(s->col->field->name))
               : RK_EINVAL;
}

static rk_code
check_logic(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[n->b];
    rk__pred *a = NULL;
    rk__pred *b = NULL;
    rk__pred *both = NULL;
    rk_code code = RK_OK;
    bool is_and = n->op == TK_AND;
    const char *name = is_and ? "and" : "or";

    if (left->kind == SK_SAMPLE || (right->kind == SK_SAMPLE && !is_and)) {
        return rk__fail(k->c, "random sample expression can only be the last expression in the "
                              "logical and expression");
    }
    bool left_fits = as_pred(k, left, &a, &code);
    if (right->kind == SK_SAMPLE && left_fits) {
        if (code != RK_OK) {
            return code;
        }
        *out = *right;
        if (!right->pred) {
            out->pred = a;
            return RK_OK;
        }
        return join(k, PK_AND, a, right->pred, &out->pred);
    }
    if (!left_fits || !as_pred(k, right, &b, &code)) {
        (void)rk__fail(k->c, "'%s' can only be used between boolean expressions", name);
        return hint_bool(k, left_fits ? right : left);
    }
    if (code != RK_OK) {
        return code;
    }
    RK_RET(join(k, is_and ? PK_AND : PK_OR, a, b, &both));
    return pred_sem(out, both);
}

/* |not|: folds constants and pairs of itself. */
static rk_code
check_not(rk__checker *k, const rk__sem *operand, rk__sem *out)
{
    rk__pred *pred = NULL;
    rk_code code = RK_OK;

    if (operand->kind == SK_SAMPLE) {
        return rk__fail(k->c, "random sample expression cannot be used in unary expression");
    }
    if (!as_pred(k, operand, &pred, &code)) {
        (void)rk__fail(k->c, "not op can only be applied on boolean expression");
        return operand->kind == SK_COLUMN && operand->col->type == RK_BOOL
                   ? hint_bool(k, operand)
                   : rk__hint(k->c, "; it applies to what stands right behind it, write not ( )");
    }
    if (code != RK_OK) {
        return code;
    }
    if (pred->kind == PK_CONST) {
        pred->truth = !pred->truth;
        return pred_sem(out, pred);
    }
    if (pred->kind == PK_NOT) {
        return rk__sem_pred(out, pred->children[0]);
    }
    rk__pred *inverse = rk__pred_new(k, PK_NOT, NULL);
    if (!inverse) {
        return RK_ENOMEM;
    }
    RK_RET(add_child(k, inverse, pred));
    return rk__sem_pred(out, inverse);
}

static rk_code
check_exists(rk__checker *k, const rk__sem *operand, rk__sem *out)
{
    rk__short_text scratch;
    if (operand->kind != SK_COLUMN) {
        return rk__fail(k->c, "exists operations are only supportted on json key");
    }
    if (operand->col->kind != CK_JSON) {
        return rk__fail(k->c, "exists operations are only supportted on json field, got:%s",
                        rk__col_type_name(operand->col, &scratch));
    }
    if (operand->col->keys_len == 0) {
        return rk__fail(k->c, "exists operations are only supportted on json key");
    }
    return rk__sem_pred(out, rk__pred_new(k, PK_EXISTS, operand->col));
}

static rk_code
check_prefix(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *operand = &k->sems[n->a];
    bool number = operand->kind == SK_CONST &&
                  (operand->value.kind == VK_INT || operand->value.kind == VK_FLOAT);

    switch ((int)n->op) {
    case TK_NOT:
        return check_not(k, operand, out);
    case TK_EXISTS:
        return check_exists(k, operand, out);
    case TK_ADD:
        if (number || operand->kind == SK_COLUMN || operand->kind == SK_ARITH) {
            *out = *operand;
            return RK_OK;
        }
        return rk__fail(k->c, "unexpected op: +");
    case TK_SUB:
        if (!number) {
            return rk__fail(k->c, "unexpected op: -");
        }
        *out = *operand;
        if (operand->value.kind == VK_INT) {
            out->value.i = rk__int_op(TK_SUB, 0, operand->value.i);
        } else {
            out->value.f = -operand->value.f;
        }
        return RK_OK;
    default:
        return rk__fail(k->c, "unexpected op: ~");
    }
}

static rk_code
check_binary(rk__checker *k, uint32_t node, rk__sem *out)
{
    switch ((int)k->c->nodes[node].op) {
    case TK_AND:
    case TK_OR:
        return check_logic(k, node, out);
    case TK_LT:
    case TK_LE:
    case TK_GT:
    case TK_GE:
    case TK_EQ:
    case TK_NE:
        return rk__check_compare(k, node, out);
    case TK_LIKE:
        return rk__check_like(k, node, out);
    case TK_MATCH:
    case TK_NOT_MATCH:
        return rk__check_regex(k, node, out);
    default:
        return rk__check_arith(k, node, out);
    }
}

static rk_code
check_node(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    switch (n->kind) {
    case ND_VALUE:
        *out = (rk__sem){.kind = SK_CONST, .value = n->value};
        return RK_OK;
    case ND_BIG:
        return rk__fail(k->c, "integer literal 9223372036854775808 overflows Int64");
    case ND_STRING:
        return check_string(k, node, out);
    case ND_NAME:
    case ND_META:
    case ND_JSON:
    case ND_STRUCT:
        return check_column(k, node, out);
    case ND_TEMPLATE:
        *out = (rk__sem){.kind = SK_TEMPLATE};
        return RK_OK;
    case ND_LIST:
        return check_list(k, node, out);
    case ND_PREFIX:
        return check_prefix(k, node, out);
    case ND_BINARY:
        return check_binary(k, node, out);
    case ND_IN:
        return rk__check_in(k, node, out);
    case ND_CHAIN:
        return rk__check_chain(k, node, out);
    case ND_NULL_TEST:
        return check_null_test(k, node, out);
    case ND_CALL:
        return rk__check_call(k, node, out);
    case ND_TIME:
    default:
        return check_time(k, node);
    }
}

static rk_code
not_boolean(rk__checker *k, const rk__sem *s)
{
    rk__short_text scratch;
    const char *type = "None";
    if (s->kind == SK_CONST) {
        type = rk__value_type_name(s->value.kind);
    } else if (s->kind == SK_COLUMN) {
        type = rk__col_type_name(s->col, &scratch);
    } else if (s->kind == SK_ARITH) {
        bool real =
            s->col->type == RK_FLOAT || s->col->type == RK_DOUBLE || s->value.kind == VK_FLOAT;
        type = real ? "Double" : "Int64";
    } else if (s->kind == SK_LENGTH) {
        type = "Int64";
    }
    k->c->not_boolean = true;
    (void)rk__fail(k->c, "%s", type);
    return hint_bool(k, s);
}

rk_code
rk__check(rk__compile *c, rk__pred **out, double *sample)
{
    rk__checker k = {.c = c};
    rk_code code = RK_OK;

    k.sems = RK_ARENA_ARRAY(c->arena, rk__sem, c->nodes_len);
    if (!k.sems) {
        return RK_ENOMEM;
    }
    for (uint32_t i = 0; i < c->nodes_len; i++) {
        RK_RET(check_node(&k, i, &k.sems[i]));
    }
    const rk__sem *root = &k.sems[c->root];
    *sample = 0;
    if (root->kind == SK_SAMPLE) {
        *sample = root->sample;
        *out = root->pred;
        return RK_OK;
    }
    if (!as_pred(&k, root, out, &code)) {
        return not_boolean(&k, root);
    }
    return code;
}
