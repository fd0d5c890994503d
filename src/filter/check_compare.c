/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparisons, chains and arithmetic: who may be compared with whom, and what literals turn into.
 *
 * A comparison is brought into the form column-operator-constant, mirrored when the constant stands
 * left. An arithmetic expression holds one column, one operation and one constant; constants among
 * themselves fold at any depth.
 */
#include "filter/filter_private.h"

static bool
is_number(rk__value_kind kind)
{
    return kind == VK_INT || kind == VK_FLOAT;
}

static bool
is_integer_type(rk_type t)
{
    return t >= RK_INT8 && t <= RK_INT64;
}

static bool
is_number_type(rk_type t)
{
    return is_integer_type(t) || t == RK_FLOAT || t == RK_DOUBLE;
}

static rk__token_kind
mirrored(rk__token_kind op)
{
    switch ((int)op) {
    case TK_LT:
        return TK_GT;
    case TK_LE:
        return TK_GE;
    case TK_GT:
        return TK_LT;
    case TK_GE:
        return TK_LE;
    default:
        return op;
    }
}

static const char *
op_text(rk__token_kind op)
{
    static const char *const texts[] = {
        [TK_LT] = "<",  [TK_LE] = "<=",  [TK_GT] = ">",   [TK_GE] = ">=",  [TK_EQ] = "==",
        [TK_NE] = "!=", [TK_ADD] = "+",  [TK_SUB] = "-",  [TK_MUL] = "*",  [TK_DIV] = "/",
        [TK_MOD] = "%", [TK_POW] = "**", [TK_SHL] = "<<", [TK_SHR] = ">>", [TK_BAND] = "&",
        [TK_BOR] = "|", [TK_BXOR] = "^",
    };
    return texts[op];
}

static const char *
sem_type_name(const rk__sem *s, rk__short_text *scratch)
{
    return s->col ? rk__col_type_name(s->col, scratch) : rk__value_type_name(s->value.kind);
}

static rk_code
not_comparable(rk__checker *k, const rk__sem *left, const rk__sem *right)
{
    rk__short_text a;
    rk__short_text b;
    return rk__fail(k->c, "comparisons between %s and %s are not supported",
                    sem_type_name(left, &a), sem_type_name(right, &b));
}

static rk_code
cannot_cast(rk__checker *k, const char *type, rk__value v)
{
    rk__short_text text = rk__value_text(v);
    return rk__fail(k->c, "cannot cast value to %s, value: %s", type, text.text);
}

/* May a literal of |kind| stand beside |col| at all? */
static bool
pair_fits(const rk__col *col, rk__value_kind kind)
{
    if (is_number_type(col->type)) {
        return is_number(kind);
    }
    return (col->type == RK_BOOL && kind == VK_BOOL) ||
           (col->type == RK_VARCHAR && kind == VK_STRING);
}

/* Array equality looks one level deep. */
static rk_code
refuse_nested(rk__checker *k, rk__value v)
{
    for (size_t i = 0; v.kind == VK_LIST && i < v.list->n; i++) {
        if (v.list->data[i].kind == VK_LIST) {
            return rk__fail(k->c, "nested arrays are not supported in array literals");
        }
    }
    return RK_OK;
}

/* A literal array for a whole ARRAY column. */
static rk_code
convert_list(rk__checker *k, const rk__col *col, rk__value v, rk__value *out)
{
    rk__col element = {.kind = CK_SCALAR, .type = col->field->element};
    rk__short_text scratch;
    rk__values *list = RK_ARENA_NEW(k->c->arena, rk__values);

    if (!list) {
        return RK_ENOMEM;
    }
    if (v.kind != VK_LIST) {
        return cannot_cast(k, rk__col_type_name(col, &scratch), v);
    }
    for (size_t i = 0; i < v.list->n; i++) {
        rk__value converted = {0};
        if (!rk__convert(&element, v.list->data[i], &converted)) {
            return cannot_cast(k, rk__col_type_name(col, &scratch), v.list->data[i]);
        }
        RK_RET(rk__values_push(list, converted, k->c->arena));
    }
    *out = (rk__value){.kind = VK_LIST};
    out->list = list;
    return RK_OK;
}

static rk_code
compare_column(rk__checker *k, const rk__sem *left, const rk__sem *right, rk__token_kind op,
               rk__value v, rk__sem *out)
{
    const rk__sem *column = left->col ? left : right;
    const rk__col *col = column->col;
    bool template = left->kind == SK_TEMPLATE || right->kind == SK_TEMPLATE;
    rk__value converted = v;
    rk__short_text scratch;

    if (col->kind == CK_OTHER) {
        return not_comparable(k, left, right);
    }
    if (col->kind == CK_ARRAY) {
        if (op != TK_EQ && op != TK_NE) {
            return rk__fail(k->c, "can not comparisons array fields directly");
        }
        RK_RET(convert_list(k, col, v, &converted));
    } else if (col->kind == CK_JSON) {
        RK_RET(refuse_nested(k, v));
    } else {
        if (!template && !pair_fits(col, v.kind)) {
            return not_comparable(k, left, right);
        }
        if (!rk__convert(col, v, &converted)) {
            return cannot_cast(k, rk__col_type_name(col, &scratch), v);
        }
    }
    rk__pred *pred = rk__pred_new(k, PK_CMP, col);
    if (pred) {
        pred->cmp = op;
        pred->value = converted;
    }
    return rk__sem_pred(out, pred);
}

static rk_code
compare_arith(rk__checker *k, const rk__sem *arith, rk__token_kind op, rk__value v, rk__sem *out)
{
    const rk__col *col = arith->col;
    bool ints = is_integer_type(col->type) || (col->type == RK_JSON && arith->value.kind == VK_INT);
    if (ints ? v.kind != VK_INT : !is_number(v.kind)) {
        return cannot_cast(k, ints ? "Int64" : "Double", v);
    }
    rk__pred *pred = rk__pred_new(k, PK_ARITH, col);
    if (pred) {
        pred->cmp = op;
        pred->aop = arith->aop;
        pred->value = v;
        pred->value2 = arith->value;
        if (!ints && v.kind == VK_INT) {
            pred->value.kind = VK_FLOAT;
            pred->value.f = (double)v.i;
        }
    }
    return rk__sem_pred(out, pred);
}

static rk_code
compare_columns(rk__checker *k, const rk__node *n, rk__sem *out)
{
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[n->b];
    const rk__col *a = left->col;
    const rk__col *b = right->col;

    if (left->kind != SK_COLUMN || right->kind != SK_COLUMN) {
        return rk__fail(k->c, "only comparison between two fields is supported");
    }
    if (a->kind == CK_JSON || b->kind == CK_JSON) {
        (void)rk__fail(k->c, "two column comparison with JSON type is not supported");
        return rk__hint_value(k->c, &k->c->nodes[n->b], b);
    }
    if (a->kind != CK_SCALAR || b->kind != CK_SCALAR) {
        if (a->kind == CK_OTHER || b->kind == CK_OTHER) {
            return not_comparable(k, left, right);
        }
        return rk__fail(k->c, "field-to-field comparison involving ARRAY fields is not supported");
    }
    bool numbers = is_number_type(a->type) && is_number_type(b->type);
    if (!numbers && a->type != b->type) {
        return not_comparable(k, left, right);
    }
    rk__pred *pred = rk__pred_new(k, PK_CMP_COLS, a);
    if (pred) {
        pred->col2 = b;
        pred->cmp = n->op;
    }
    return rk__sem_pred(out, pred);
}

static bool
is_operand(const rk__sem *s)
{
    return rk__sem_is_constant(s) || s->kind == SK_COLUMN || s->kind == SK_ARITH ||
           s->kind == SK_LENGTH;
}

rk_code
rk__check_compare(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[n->b];
    rk_str text = rk__node_text(k->c, node);
    rk__token_kind op = n->op;
    rk__value v = {0};

    if (!is_operand(left) || !is_operand(right)) {
        return rk__fail(
            k->c, "comparison operations cannot be applied to two incompatible operands: %.*s",
            RK__SHORT(text));
    }
    if (rk__sem_is_constant(left) && rk__sem_is_constant(right)) {
        if (left->kind == SK_TEMPLATE || right->kind == SK_TEMPLATE) {
            return rk__fail(k->c,
                            "placeholder was not supported between two constants with operator: %s",
                            op_text(op));
        }
        *out = (rk__sem){.kind = SK_CONST};
        return rk__fold(k->c, op, left->value, right->value, text, &out->value);
    }
    if (!rk__sem_is_constant(left) && !rk__sem_is_constant(right)) {
        return compare_columns(k, n, out);
    }
    bool swap = rk__sem_is_constant(left);
    const rk__sem *column = swap ? right : left;
    RK_RET(rk__sem_constant(k, swap ? n->a : n->b, &v));
    op = swap ? mirrored(op) : op;
    if (column->kind == SK_COLUMN) {
        return compare_column(k, left, right, op, v, out);
    }
    if (column->kind == SK_ARITH) {
        return compare_arith(k, column, op, v, out);
    }
    if (v.kind != VK_INT) {
        return cannot_cast(k, "Int64", v);
    }
    rk__pred *pred = rk__pred_new(k, PK_LENGTH, column->col);
    if (pred) {
        pred->cmp = op;
        pred->value = v;
    }
    return rk__sem_pred(out, pred);
}

/* ---- chains ---- */

static rk_code
check_bounds(rk__checker *k, const rk__col *col, rk__value lo, rk__value hi)
{
    bool numbers = is_number(lo.kind) && is_number(hi.kind);
    bool strings = lo.kind == VK_STRING && hi.kind == VK_STRING;

    if (col->type == RK_BOOL || lo.kind == VK_BOOL || hi.kind == VK_BOOL) {
        return rk__fail(k->c, "invalid range operations on boolean expr");
    }
    if (lo.kind == VK_LIST || hi.kind == VK_LIST || col->kind == CK_ARRAY ||
        col->kind == CK_OTHER) {
        return rk__fail(k->c, "invalid range operations");
    }
    if (!numbers && !strings) {
        return rk__fail(k->c, col->kind == CK_JSON ? "invalid range: bounds are not comparable"
                                                   : "invalid range operations");
    }
    return RK_OK;
}

rk_code
rk__check_chain(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__col *col = k->sems[n->b].col;
    bool down = n->op == TK_GT || n->op == TK_GE;
    uint32_t lo_node = down ? n->c : n->a;
    uint32_t hi_node = down ? n->a : n->c;
    bool lo_open = (down ? n->op2 : n->op) == (down ? TK_GT : TK_LT);
    bool hi_open = (down ? n->op : n->op2) == (down ? TK_GT : TK_LT);
    rk__value lo = {0};
    rk__value hi = {0};

    if (!rk__sem_is_constant(&k->sems[lo_node])) {
        return rk__fail(k->c, "lowerbound cannot be a non-const expression: %.*s",
                        RK__SHORT(rk__node_text(k->c, lo_node)));
    }
    if (!rk__sem_is_constant(&k->sems[hi_node])) {
        return rk__fail(k->c, "upperbound cannot be a non-const expression: %.*s",
                        RK__SHORT(rk__node_text(k->c, hi_node)));
    }
    RK_RET(rk__sem_constant(k, lo_node, &lo));
    RK_RET(rk__sem_constant(k, hi_node, &hi));
    RK_RET(check_bounds(k, col, lo, hi));
    rk__pred *pred = rk__pred_new(k, PK_RANGE, col);
    if (!pred) {
        return RK_ENOMEM;
    }
    pred->lo_open = lo_open;
    pred->hi_open = hi_open;
    if (!rk__convert(col, lo, &pred->value) || !rk__convert(col, hi, &pred->value2)) {
        return rk__fail(k->c, "invalid range operations");
    }
    int order = lo.kind == VK_STRING ? rk__text_cmp(lo.s, hi.s) : rk__number_cmp(lo, hi);
    if (order > 0 || (order == 0 && (lo_open || hi_open))) {
        return rk__fail(k->c, "invalid range: lowerbound is greater than upperbound");
    }
    return rk__sem_pred(out, pred);
}

/* ---- arithmetic ---- */

static rk_code
arith_types(rk__checker *k, rk__token_kind op, const rk__col *col, rk__value v)
{
    static const char *const names[] = {
        [TK_ADD] = "add",    [TK_SUB] = "subtract", [TK_MUL] = "multiply", [TK_DIV] = "divide",
        [TK_MOD] = "modulo", [TK_BAND] = "bitand",  [TK_BOR] = "bitor",    [TK_BXOR] = "bitxor",
    };
    bool bits = op == TK_BAND || op == TK_BOR || op == TK_BXOR;
    bool ints = is_integer_type(col->type);
    rk__short_text scratch;

    if (col->kind == CK_ARRAY) {
        return rk__fail(k->c, "can not comparisons array fields directly");
    }
    bool wants_ints = op == TK_MOD || bits;
    bool column_fits = wants_ints ? ints || col->type == RK_JSON
                                  : is_number_type(col->type) || col->type == RK_JSON;
    if (wants_ints && is_number(v.kind) && (is_number_type(col->type) || col->type == RK_JSON) &&
        (!column_fits || v.kind != VK_INT)) {
        return rk__fail(k->c, bits ? "bitwise operations can only apply on integer types"
                                   : "modulo can only apply on integer types");
    }
    if (!column_fits || !is_number(v.kind) || (ints && v.kind != VK_INT)) {
        (void)rk__fail(k->c, "'%s' cannot perform arithmetic between %s field and %s", names[op],
                       rk__col_type_name(col, &scratch), rk__value_type_name(v.kind));
        return bits && v.kind == VK_BOOL
                   ? rk__hint(k->c, "; comparisons bind tighter, put the arithmetic in parentheses")
                   : RK_EINVAL;
    }
    if ((op == TK_DIV || op == TK_MOD) && (v.kind == VK_INT ? v.i == 0 : v.f == 0.0)) {
        return rk__fail(k->c, "division or modulus by zero");
    }
    return RK_OK;
}

rk_code
rk__check_arith(rk__checker *k, uint32_t node, rk__sem *out)
{
    const rk__node *n = &k->c->nodes[node];
    const rk__sem *left = &k->sems[n->a];
    const rk__sem *right = &k->sems[n->b];
    rk_str text = rk__node_text(k->c, node);
    bool left_constant = rk__sem_is_constant(left);
    bool right_constant = rk__sem_is_constant(right);
    rk__value v = {0};

    if (n->op == TK_SHL || n->op == TK_SHR) {
        return rk__fail(k->c, "shift is not supported: %.*s", RK__SHORT(text));
    }
    if (left_constant && right_constant) {
        if (left->kind == SK_TEMPLATE || right->kind == SK_TEMPLATE) {
            return rk__fail(k->c,
                            "placeholder was not supported between two constants with operator: %s",
                            op_text(n->op));
        }
        *out = (rk__sem){.kind = SK_CONST};
        return rk__fold(k->c, n->op, left->value, right->value, text, &out->value);
    }
    if (n->op == TK_POW) {
        return rk__fail(k->c, "power can only apply on constants: %.*s", RK__SHORT(text));
    }
    if (!is_operand(left) || !is_operand(right)) {
        bool conditions = left->kind == SK_PRED || right->kind == SK_PRED;
        (void)rk__fail(k->c, "'%s' can only be used between integer or floating expressions: %.*s",
                       op_text(n->op), RK__SHORT(text));
        if (conditions && (n->op == TK_BAND || n->op == TK_BOR)) {
            return rk__hint(k->c, "; conditions are joined by %s (%s)",
                            n->op == TK_BAND ? "and" : "or", n->op == TK_BAND ? "&&" : "||");
        }
        return RK_EINVAL;
    }
    if (!left_constant && !right_constant) {
        return rk__fail(k->c, "not supported to do arithmetic operations between multiple fields");
    }
    const rk__sem *column = left_constant ? right : left;
    if (column->kind != SK_COLUMN) {
        return rk__fail(k->c, "complicated arithmetic operations are not supported");
    }
    if (left_constant && n->op != TK_ADD && n->op != TK_MUL) {
        return rk__fail(k->c, "module field is not yet supported");
    }
    RK_RET(rk__sem_constant(k, left_constant ? n->a : n->b, &v));
    RK_RET(arith_types(k, n->op, column->col, v));
    *out = (rk__sem){.kind = SK_ARITH, .aop = n->op, .value = v, .col = column->col};
    return RK_OK;
}
