/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the typed tree to a program: ranges and sets made, cheap conjuncts first, steps in
 * post-order.
 *
 * A step works on a slot: two bitmaps over the rows of a block. The left operand of and/or goes to
 * slot s, each further one to s + 1, so the number of slots is the nesting of the tree, not its
 * size. Between operands SP_NARROW takes the rows that are decided already out of the active set:
 * expensive leaves skip them, and when none is left the operand is jumped over.
 *
 * The tree is walked with stacks; its depth is bounded by the parser's nesting limit.
 */
#include <math.h>
#include <stdlib.h>

#include "filter/kernel.h"

#define TREE_DEPTH_MAX                                                                             \
    1024 /* each level needs a parenthesis or a prefix, at most three per nesting */

typedef struct visit {
    rk__pred *pred;
    uint32_t next; /* child to visit next */
    uint32_t slot;
    uint32_t mask;
    uint32_t narrow; /* the SP_NARROW step that waits for its jump */
} visit;

/* ---- leaves ---- */

static void
int_range(rk__range *r, rk__token_kind cmp, int64_t c)
{
    switch ((int)cmp) {
    case TK_LT:
        r->empty = r->empty || c == INT64_MIN;
        r->i_hi = RK_MIN(r->i_hi, r->empty ? c : c - 1);
        break;
    case TK_LE:
        r->i_hi = RK_MIN(r->i_hi, c);
        break;
    case TK_GT:
        r->empty = r->empty || c == INT64_MAX;
        r->i_lo = RK_MAX(r->i_lo, r->empty ? c : c + 1);
        break;
    case TK_GE:
        r->i_lo = RK_MAX(r->i_lo, c);
        break;
    case TK_NE:
        r->negate = true;
        r->i_lo = c;
        r->i_hi = c;
        break;
    default:
        r->i_lo = c;
        r->i_hi = c;
        break;
    }
    r->empty = r->empty || r->i_lo > r->i_hi;
}

/* The number next to |c| in the precision of the column. */
static double
next_to(double c, double toward, bool single)
{
    return single ? (double)nextafterf((float)c, (float)toward) : nextafter(c, toward);
}

static void
float_range(rk__range *r, rk__token_kind cmp, double c, bool single)
{
    if (c != c) {
        r->empty = true;
        r->negate = cmp == TK_NE;
        return;
    }
    switch ((int)cmp) {
    case TK_LT:
        r->empty = r->empty || (isinf(c) && c < 0);
        r->f_hi = next_to(c, -HUGE_VAL, single);
        break;
    case TK_LE:
        r->f_hi = c;
        break;
    case TK_GT:
        r->empty = r->empty || (isinf(c) && c > 0);
        r->f_lo = next_to(c, HUGE_VAL, single);
        break;
    case TK_GE:
        r->f_lo = c;
        break;
    case TK_NE:
        r->negate = true;
        r->f_lo = c;
        r->f_hi = c;
        break;
    default:
        r->f_lo = c;
        r->f_hi = c;
        break;
    }
    r->empty = r->empty || r->f_lo > r->f_hi;
}

static void
bound(rk__pred *pred, rk__token_kind cmp, rk__value v)
{
    if (v.kind == VK_FLOAT) {
        float_range(&pred->range, cmp, v.f, pred->col->type == RK_FLOAT);
    } else if (v.kind == VK_INT) {
        int_range(&pred->range, cmp, v.i);
    } else if (v.kind == VK_BOOL) {
        int_range(&pred->range, cmp, v.b);
    }
}

/* Where the result of arithmetic must lie; FLOAT columns compute in double too. */
static void
bound_result(rk__pred *pred)
{
    if (pred->value.kind == VK_FLOAT) {
        float_range(&pred->range, pred->cmp, pred->value.f, false);
    } else {
        int_range(&pred->range, pred->cmp, pred->value.i);
    }
    if (pred->value2.kind == VK_INT && (pred->aop == TK_DIV || pred->aop == TK_MOD)) {
        pred->divide = rk__divisor_of(pred->value2.i);
    }
}

static uint8_t
leaf_cost(const rk__pred *pred)
{
    const rk__col *col = pred->col ? pred->col : pred->col2;
    bool fixed = col && col->kind == CK_SCALAR && col->type != RK_VARCHAR;
    if (pred->kind == PK_CONST || pred->kind == PK_NULL) {
        return 0;
    }
    if (pred->kind == PK_REGEX) {
        return 7;
    }
    if (col && col->kind == CK_JSON) {
        return 6;
    }
    if (pred->kind == PK_LIKE) {
        return 5;
    }
    if (fixed) {
        return pred->kind == PK_IN ? 2 : 1;
    }
    return col && col->kind == CK_SCALAR ? 3 : 4;
}

/* Can the kernels look for a member of that name? See rk__json_key. A number may be the index of
 * an array's element, too. */
static bool
plain_key(rk_str name, bool *ascii)
{
    bool digits = true;
    bool plain = name.len > 0;

    *ascii = true;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char ch = (unsigned char)name.data[i];
        plain = plain && ch >= 0x20 && ch != '"' && ch != '\\' && ch != '/';
        digits = digits && ch >= '0' && ch <= '9';
        *ascii = *ascii && ch < 0x80;
    }
    return plain && !digits;
}

/* The first steps of a path as keys that the kernels look for. */
static rk_code
prepare_path(rk__pred *pred, rk_arena *arena)
{
    const rk__col *col = pred->col;
    rk__json_key *path = RK_ARENA_ARRAY(arena, rk__json_key, col->keys_len);
    bool ascii;

    if (!path) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < col->keys_len && plain_key(col->keys[i], &ascii); i++) {
        char *quoted = rk_arena_alloc(arena, col->keys[i].len + 2);
        if (!quoted) {
            return RK_ENOMEM;
        }
        quoted[0] = '"';
        memcpy(quoted + 1, col->keys[i].data, col->keys[i].len);
        quoted[col->keys[i].len + 1] = '"';
        path[i] = (rk__json_key){quoted, col->keys[i].len + 2, ascii};
        pred->path_len = i + 1;
        pred->path_slack = RK_MAX(pred->path_slack, RK__JSON_SLACK + path[i].len);
    }
    pred->path = path;
    return RK_OK;
}

static rk_code
prepare_leaf(rk_filter *filter, rk__pred *pred, rk_arena *arena)
{
    rk__range all = {.i_lo = INT64_MIN, .i_hi = INT64_MAX, .f_lo = -HUGE_VAL, .f_hi = HUGE_VAL};

    pred->range = all;
    if (pred->kind == PK_CMP) {
        bound(pred, pred->cmp, pred->value);
    } else if (pred->kind == PK_RANGE) {
        bound(pred, pred->lo_open ? TK_GT : TK_GE, pred->value);
        bound(pred, pred->hi_open ? TK_LT : TK_LE, pred->value2);
    } else if (pred->kind == PK_IN || pred->kind == PK_CONTAINS) {
        RK_RET(rk__set_new(&pred->set, pred->value.list, arena));
        if (pred->kind == PK_IN && pred->col->kind == CK_JSON &&
            pred->value.list->n >= RK__SET_FROM) {
            RK_RET(rk__json_set_new(&pred->json_set, pred->value.list, arena));
        }
    } else if (pred->kind == PK_ARITH) {
        bound_result(pred);
    } else if (pred->kind == PK_REGEX) {
        pred->regex_slot = filter->regexes_len++;
    }
    if (pred->col && pred->col->kind == CK_JSON && pred->col->keys_len > 0) {
        RK_RET(prepare_path(pred, arena));
    }
    pred->cost = leaf_cost(pred);
    return RK_OK;
}

/* Cheap children first, otherwise as written. */
static rk_code
order_children(rk__pred *pred, rk_arena *arena)
{
    rk__pred **sorted = RK_ARENA_ARRAY(arena, rk__pred *, pred->children_len);
    uint32_t n = 0;
    if (!sorted) {
        return RK_ENOMEM;
    }
    for (uint8_t cost = 0; cost < 8; cost++) {
        for (uint32_t i = 0; i < pred->children_len; i++) {
            if (pred->children[i]->cost == cost) {
                sorted[n++] = pred->children[i];
                pred->cost = cost;
            }
        }
    }
    pred->children = sorted;
    return RK_OK;
}

/* Costs, sets and ranges, children before parents; counts the steps needed. */
static rk_code
prepare(rk_filter *filter, visit *stack, size_t *steps, rk_arena *arena)
{
    uint32_t depth = 0;
    stack[depth++] = (visit){.pred = filter->root};
    while (depth > 0) {
        visit *v = &stack[depth - 1];
        rk__pred *pred = v->pred;
        if (v->next < pred->children_len) {
            if (depth >= TREE_DEPTH_MAX) {
                return RK_EINVAL;
            }
            stack[depth++] = (visit){.pred = pred->children[v->next++]};
            continue;
        }
        *steps += 1 + 2 * (size_t)pred->children_len;
        if (pred->kind == PK_NOT) {
            pred->cost = pred->children[0]->cost;
        } else if (pred->children_len > 0) {
            RK_RET(order_children(pred, arena));
        } else {
            RK_RET(prepare_leaf(filter, pred, arena));
        }
        depth--;
    }
    return RK_OK;
}

static rk__step *
emit(rk_filter *filter, rk__step_kind kind, const visit *v)
{
    rk__step *step = &filter->steps[filter->steps_len++];
    *step = (rk__step){.kind = kind, .slot = v->slot, .mask = v->mask};
    filter->slots = RK_MAX(filter->slots, v->slot + 1);
    return step;
}

static void
generate(rk_filter *filter, visit *stack, bool *used)
{
    uint32_t depth = 0;
    stack[depth++] = (visit){.pred = filter->root};
    while (depth > 0) {
        visit *v = &stack[depth - 1];
        rk__pred *pred = v->pred;
        bool joins = pred->kind == PK_AND || pred->kind == PK_OR;
        if (pred->children_len == 0) {
            emit(filter, SP_LEAF, v)->pred = pred;
            if (pred->col) {
                used[pred->col->position] = true;
            }
            if (pred->col2) {
                used[pred->col2->position] = true;
            }
            depth--;
            continue;
        }
        if (joins && v->next > 1) { /* the operand in slot + 1 is done */
            emit(filter, pred->kind == PK_AND ? SP_AND : SP_OR, v);
            filter->steps[v->narrow].jump = filter->steps_len;
        }
        if (v->next == pred->children_len) {
            if (pred->kind == PK_NOT) {
                emit(filter, SP_NOT, v);
            }
            depth--;
            continue;
        }
        visit child = {.pred = pred->children[v->next], .slot = v->slot, .mask = v->mask};
        if (v->next > 0) {
            v->narrow = filter->steps_len;
            rk__step *narrow = emit(filter, SP_NARROW, v);
            narrow->mask = v->mask + 1;
            narrow->is_and = pred->kind == PK_AND;
            filter->masks = RK_MAX(filter->masks, v->mask + 2);
            child.slot++;
            child.mask++;
        }
        v->next++;
        stack[depth++] = child;
    }
}

static rk_code
list_regexes(rk_filter *filter, rk_arena *arena)
{
    filter->regexes = RK_ARENA_ARRAY(arena, const rk__regex *, filter->regexes_len + 1);
    if (!filter->regexes) {
        return RK_ENOMEM;
    }
    for (uint32_t i = 0; i < filter->steps_len; i++) {
        const rk__pred *pred = filter->steps[i].pred;
        if (pred && pred->kind == PK_REGEX) {
            filter->regexes[pred->regex_slot] = pred->regex;
        }
    }
    return RK_OK;
}

rk_code
rk__program_new(rk_filter *filter, rk_arena *arena)
{
    size_t fields = filter->schema->fields_len;
    size_t steps = 0;
    bool *used = RK_ARENA_ARRAY(arena, bool, fields + 1);
    visit *stack = RK_ARENA_ARRAY(arena, visit, TREE_DEPTH_MAX + 1);

    filter->fields = RK_ARENA_ARRAY(arena, uint32_t, fields + 1);
    if (!used || !stack || !filter->fields) {
        return RK_ENOMEM;
    }
    filter->masks = 1;
    if (!filter->root) {
        return RK_OK;
    }
    RK_RET(prepare(filter, stack, &steps, arena));
    filter->steps = RK_ARENA_ARRAY(arena, rk__step, steps);
    if (!filter->steps) {
        return RK_ENOMEM;
    }
    generate(filter, stack, used);
    RK_ASSERT(filter->steps_len <= steps);
    for (size_t i = 0; i < fields; i++) {
        if (used[i]) {
            filter->fields[filter->fields_len++] = (uint32_t)i;
        }
    }
    return list_regexes(filter, arena);
}

/* ---- primary keys ---- */

static bool
names_keys(const rk_filter *filter, const rk__pred *pred)
{
    bool equality = (pred->kind == PK_CMP && pred->cmp == TK_EQ) || pred->kind == PK_IN;
    return equality && pred->col->kind == CK_SCALAR &&
           pred->col->position == filter->schema->primary;
}

static int
compare_keys(const void *a, const void *b)
{
    const rk_pk *x = a;
    const rk_pk *y = b;
    if (x->is_text) {
        return rk__text_cmp(x->text, y->text);
    }
    return (x->number > y->number) - (x->number < y->number);
}

rk_code
rk__find_keys(rk_filter *filter, rk_arena *arena)
{
    const rk__pred *root = filter->root;
    const rk__pred *best = NULL;

    if (!root) {
        return RK_OK;
    }
    if (names_keys(filter, root)) {
        best = root;
        filter->keys_whole = filter->sample == 0;
    }
    for (uint32_t i = 0; root->kind == PK_AND && i < root->children_len; i++) {
        const rk__pred *child = root->children[i];
        if (names_keys(filter, child) && (!best || (child->kind == PK_CMP && best->kind == PK_IN) ||
                                          (child->kind == PK_IN && best->kind == PK_IN &&
                                           child->value.list->n < best->value.list->n))) {
            best = child;
        }
    }
    if (!best) {
        return RK_OK;
    }
    rk__value single = best->value;
    rk__values one = {.data = &single, .n = 1};
    const rk__values *list = best->kind == PK_IN ? best->value.list : &one;
    rk_pk *keys = RK_ARENA_ARRAY(arena, rk_pk, list->n + 1);
    if (!keys) {
        return RK_ENOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        rk__value v = list->data[i];
        keys[i] = (rk_pk){.is_text = v.kind == VK_STRING};
        if (v.kind == VK_STRING) {
            keys[i].text = v.s;
        } else {
            keys[i].number = v.i;
        }
    }
    if (list->n > 1) {
        qsort(keys, list->n, sizeof(*keys), compare_keys);
    }
    for (size_t i = 0; i < list->n; i++) {
        if (n == 0 || compare_keys(&keys[n - 1], &keys[i]) != 0) {
            keys[n++] = keys[i];
        }
    }
    filter->keys = keys;
    filter->keys_len = n;
    filter->keys_bound = true;
    return RK_OK;
}
