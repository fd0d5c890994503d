/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A canonical print of a typed tree, for tests: compiled again it prints the same.
 *
 * Parentheses stand only where the grammar needs them, so that printing never nests deeper than
 * what was parsed. Walked with a stack of its own.
 */
#include "filter/filter_private.h"

#define WALK_MAX 1100 /* levels of a tree; see program.c */

static void
print_key(rk_buf *out, rk_str key)
{
    rk_buf_str(out, RK_STR("[\""));
    for (size_t i = 0; i < key.len; i++) {
        unsigned char ch = (unsigned char)key.data[i];
        if (ch < 0x20 || ch == '"' || ch == '\\') {
            rk_buf_printf(out, "\\u%04x", ch);
        } else {
            rk_buf_byte(out, ch);
        }
    }
    rk_buf_str(out, RK_STR("\"]"));
}

static void
print_col(rk_buf *out, const rk__col *col)
{
    rk_buf_str(out, col->field->dynamic ? RK_STR(RK_DYNAMIC_NAME) : col->field->name);
    if (col->kind == CK_ELEMENT) {
        rk_buf_printf(out, "[%u]", col->index);
    }
    for (size_t i = 0; i < col->keys_len; i++) {
        print_key(out, col->keys[i]);
    }
}

static const char *
op_text(rk__token_kind op)
{
    switch ((int)op) {
    case TK_LT:
        return "<";
    case TK_LE:
        return "<=";
    case TK_GT:
        return ">";
    case TK_GE:
        return ">=";
    case TK_EQ:
        return "==";
    case TK_NE:
        return "!=";
    case TK_ADD:
        return "+";
    case TK_SUB:
        return "-";
    case TK_MUL:
        return "*";
    case TK_DIV:
        return "/";
    case TK_MOD:
        return "%";
    case TK_BAND:
        return "&";
    case TK_BOR:
        return "|";
    default:
        return "^";
    }
}

static void
print_argument(rk_buf *out, const rk__col *col, rk__value v)
{
    if (col) {
        print_col(out, col);
    } else {
        rk__value_print(out, v);
    }
}

/* A regex in a plain string: only the backslash and the quote are escaped, control characters as
 * regex escapes. */
static void
print_regex(rk_buf *out, rk_str pattern)
{
    rk_buf_byte(out, '"');
    for (size_t i = 0; i < pattern.len; i++) {
        unsigned char ch = (unsigned char)pattern.data[i];
        if (ch == '"' || ch == '\\') {
            rk_buf_byte(out, '\\');
            rk_buf_byte(out, ch);
        } else if (ch == '\n' || ch == '\r') { /* only a template can hold one */
            rk_buf_printf(out, "\\\\x%02x", ch);
        } else {
            rk_buf_byte(out, ch);
        }
    }
    rk_buf_byte(out, '"');
}

static void
print_contains(rk_buf *out, const rk__pred *pred)
{
    const char *suffix = pred->fn == FN_CONTAINS_ALL   ? "_all"
                         : pred->fn == FN_CONTAINS_ANY ? "_any"
                                                       : "";
    rk_buf_printf(out, "json_contains%s(", suffix);
    print_col(out, pred->col);
    rk_buf_str(out, RK_STR(", "));
    rk__value_print(out, pred->fn == FN_CONTAINS ? pred->value.list->data[0] : pred->value);
    rk_buf_byte(out, ')');
}

static void
print_leaf(rk_buf *out, const rk__pred *pred, bool negated)
{
    switch (pred->kind) {
    case PK_CONST:
        rk_buf_str(out, pred->truth ? RK_STR("true") : RK_STR("false"));
        break;
    case PK_CMP:
        print_col(out, pred->col);
        rk_buf_printf(out, " %s ", op_text(pred->cmp));
        rk__value_print(out, pred->value);
        break;
    case PK_CMP_COLS:
        print_col(out, pred->col);
        rk_buf_printf(out, " %s ", op_text(pred->cmp));
        print_col(out, pred->col2);
        break;
    case PK_RANGE:
        rk__value_print(out, pred->value);
        rk_buf_str(out, pred->lo_open ? RK_STR(" < ") : RK_STR(" <= "));
        print_col(out, pred->col);
        rk_buf_str(out, pred->hi_open ? RK_STR(" < ") : RK_STR(" <= "));
        rk__value_print(out, pred->value2);
        break;
    case PK_IN:
        print_col(out, pred->col);
        rk_buf_str(out, negated ? RK_STR(" not in ") : RK_STR(" in "));
        rk__value_print(out, pred->value);
        break;
    case PK_LIKE:
        print_col(out, pred->col);
        rk_buf_str(out, RK_STR(" like "));
        rk__value_print(out, pred->value);
        break;
    case PK_REGEX:
        print_col(out, pred->col);
        rk_buf_str(out, negated ? RK_STR(" !~ ") : RK_STR(" =~ "));
        print_regex(out, pred->value.s);
        break;
    case PK_NULL:
    case PK_EXISTS:
        print_col(out, pred->col);
        rk_buf_str(out, (pred->kind == PK_NULL) != negated ? RK_STR(" is null")
                                                           : RK_STR(" is not null"));
        break;
    case PK_ARITH:
        print_col(out, pred->col);
        rk_buf_printf(out, " %s ", op_text(pred->aop));
        rk__value_print(out, pred->value2);
        break;
    case PK_LENGTH:
        rk_buf_str(out, RK_STR("array_length("));
        print_col(out, pred->col);
        rk_buf_printf(out, ") %s ", op_text(pred->cmp));
        rk__value_print(out, pred->value);
        break;
    case PK_CONTAINS:
        print_contains(out, pred);
        break;
    case PK_STARTS:
        rk_buf_str(out, RK_STR("starts_with("));
        print_argument(out, pred->col, pred->value);
        rk_buf_str(out, RK_STR(", "));
        print_argument(out, pred->col2, pred->value2);
        rk_buf_byte(out, ')');
        break;
    case PK_EMPTY:
        rk_buf_str(out, RK_STR("empty("));
        print_argument(out, pred->col, pred->value);
        rk_buf_byte(out, ')');
        break;
    case PK_AND:
    case PK_OR:
    case PK_NOT:
    default:
        break;
    }
}

/* An arithmetic leaf: parenthesised where its operator is looser than the comparison. */
static void
print_arith(rk_buf *out, const rk__pred *pred)
{
    bool loose = pred->aop == TK_BAND || pred->aop == TK_BOR || pred->aop == TK_BXOR;
    if (loose) {
        rk_buf_byte(out, '(');
    }
    print_leaf(out, pred, false);
    if (loose) {
        rk_buf_byte(out, ')');
    }
    rk_buf_printf(out, " %s ", op_text(pred->cmp));
    rk__value_print(out, pred->value);
}

/* Leaves that "not" takes without parentheses, or that have a negated spelling. */
static bool
has_negation(const rk__pred *pred)
{
    return pred->kind == PK_IN || pred->kind == PK_REGEX || pred->kind == PK_NULL ||
           pred->kind == PK_EXISTS;
}

static bool
binds_tightly(const rk__pred *pred)
{
    return pred->kind == PK_LIKE || pred->kind == PK_CONTAINS || pred->kind == PK_STARTS ||
           pred->kind == PK_EMPTY;
}

typedef struct walk {
    const rk__pred *pred;
    uint32_t next;
    bool parens;
} walk;

static void
print_single(rk_buf *out, const rk__pred *pred)
{
    if (pred->kind == PK_ARITH) {
        print_arith(out, pred);
    } else {
        print_leaf(out, pred, false);
    }
}

/* Does |child| need parentheses below |parent|? */
static bool
needs_parens(const rk__pred *parent, const rk__pred *child)
{
    if (parent->kind == PK_NOT) {
        return !binds_tightly(child);
    }
    return parent->kind == PK_AND && child->kind == PK_OR;
}

static void
print_tree(rk_buf *out, const rk__pred *root, walk *stack)
{
    uint32_t depth = 0;
    stack[depth++] = (walk){.pred = root};
    while (depth > 0) {
        walk *w = &stack[depth - 1];
        const rk__pred *pred = w->pred;
        bool spelled = pred->kind == PK_NOT && has_negation(pred->children[0]);
        bool done = w->next == pred->children_len || spelled;
        if (w->next == 0 && w->parens) {
            rk_buf_byte(out, '(');
        }
        if (spelled) {
            print_leaf(out, pred->children[0], true);
        } else if (pred->children_len == 0) {
            print_single(out, pred);
        } else if (pred->kind == PK_NOT && w->next == 0) {
            rk_buf_str(out, RK_STR("not "));
        } else if (w->next > 0 && !done) {
            rk_buf_str(out, pred->kind == PK_AND ? RK_STR(" and ") : RK_STR(" or "));
        }
        if (done) {
            rk_buf_str(out, w->parens ? RK_STR(")") : RK_STR(""));
            depth--;
            continue;
        }
        const rk__pred *child = pred->children[w->next++];
        RK_ASSERT(depth < WALK_MAX);
        stack[depth++] = (walk){.pred = child, .parens = needs_parens(pred, child)};
    }
}

rk_str
rk_filter_print(const rk_filter *filter, rk_arena *arena)
{
    rk_buf buf = {0};
    rk_str out = {0};
    walk *stack = RK_ARENA_ARRAY(arena, walk, WALK_MAX);

    if (!stack) {
        return out;
    }
    if (filter->root) {
        bool parens = filter->sample > 0 && filter->root->kind == PK_OR;
        rk_buf_str(&buf, parens ? RK_STR("(") : RK_STR(""));
        print_tree(&buf, filter->root, stack);
        rk_buf_str(&buf, parens ? RK_STR(")") : RK_STR(""));
    }
    if (filter->sample > 0) {
        rk__value p = {.kind = VK_FLOAT};
        p.f = filter->sample;
        rk_buf_str(&buf, filter->root ? RK_STR(" and random_sample(") : RK_STR("random_sample("));
        rk__value_print(&buf, p);
        rk_buf_byte(&buf, ')');
    }
    if (!buf.failed) {
        out = rk_arena_str(arena, rk_buf_view(&buf));
    }
    rk_buf_deinit(&buf);
    return out;
}
