/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves over texts, array elements and whole arrays: row by row, known and active rows only.
 */
#include "filter/filter_private.h"

typedef enum answer { NO, YES, UNKNOWN } answer;

static answer
yes_no(bool pass)
{
    return pass ? YES : NO;
}

bool
rk__test_string(const rk__leaf *leaf, rk_str v)
{
    const rk__pred *pred = leaf->pred;
    switch ((int)pred->kind) {
    case PK_CMP:
        if (pred->cmp == TK_EQ || pred->cmp == TK_NE) { /* lengths tell most apart */
            return rk_str_eq(v, pred->value.s) == (pred->cmp == TK_EQ);
        }
        return rk__cmp_holds(pred->cmp, rk__text_cmp(v, pred->value.s));
    case PK_RANGE: {
        int lo = rk__text_cmp(pred->value.s, v);
        int hi = rk__text_cmp(v, pred->value2.s);
        return (pred->lo_open ? lo < 0 : lo <= 0) && (pred->hi_open ? hi < 0 : hi <= 0);
    }
    case PK_IN:
        return rk__set_has_string(pred->set, v);
    case PK_LIKE:
        return rk__like_test(pred->like, v);
    case PK_REGEX:
        return rk__regex_test(pred->regex, leaf->regexes[pred->regex_slot], v);
    case PK_EMPTY:
        return v.len == 0;
    case PK_STARTS: {
        rk_str head = pred->value2.s;
        return head.len <= v.len && rk_str_eq((rk_str){v.data, head.len}, head);
    }
    default:
        return false;
    }
}

/* ---- arrays ---- */

static bool
is_real(rk_type t)
{
    return t == RK_FLOAT || t == RK_DOUBLE;
}

/* Is element |i| the constant |v| (converted to the element type)? */
static bool
element_is(rk_str blob, rk_type element, uint32_t i, rk__value v)
{
    if (element == RK_VARCHAR) {
        return rk_str_eq(rk_array_str(blob, i), v.s);
    }
    if (is_real(element)) {
        return rk_array_f64(blob, element, i) == v.f;
    }
    return rk_array_i64(blob, element, i) == (v.kind == VK_BOOL ? (int64_t)v.b : v.i);
}

static bool
array_is(rk_str blob, rk_type element, const rk__values *list)
{
    if (rk_array_count(blob) != list->n) {
        return false;
    }
    for (uint32_t i = 0; i < list->n; i++) {
        if (!element_is(blob, element, i, list->data[i])) {
            return false;
        }
    }
    return true;
}

static bool
array_has(rk_str blob, rk_type element, rk__value v)
{
    uint32_t n = rk_array_count(blob);
    for (uint32_t i = 0; i < n; i++) {
        if (element_is(blob, element, i, v)) {
            return true;
        }
    }
    return false;
}

#define FEW 4 /* constants up to which every element is compared with each, without branches */

#define ANY_OF(type)                                                                               \
    for (size_t k = 0; set->ints_len <= FEW && k < set->ints_len; k++) {                           \
        int64_t want = set->ints[k];                                                               \
        for (uint32_t i = 0; i < n; i++) {                                                         \
            type v;                                                                                \
            memcpy(&v, p + i * sizeof(v), sizeof(v));                                              \
            found |= v == want;                                                                    \
        }                                                                                          \
    }                                                                                              \
    for (uint32_t i = 0; set->ints_len > FEW && i < n && !found; i++) {                            \
        type v;                                                                                    \
        memcpy(&v, p + i * sizeof(v), sizeof(v));                                                  \
        found = rk__set_has_int(set, v);                                                           \
    }                                                                                              \
    break

static bool
ints_any_in(const char *p, uint32_t n, rk_type element, const rk__set *set)
{
    bool found = false;

    switch ((int)element) {
    case RK_INT16:
        ANY_OF(int16_t);
    case RK_INT32:
        ANY_OF(int32_t);
    case RK_INT64:
        ANY_OF(int64_t);
    default: /* INT8, BOOL: a byte that is 0 or 1 */
        ANY_OF(int8_t);
    }
    return found;
}

/* |p|: the ends of |n| texts, then the texts. */
static bool
texts_any_in(const char *p, uint32_t n, const rk__set *set)
{
    const char *bytes = p + (size_t)n * 4;
    uint32_t from = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t to = rk_get_u32le(p + (size_t)i * 4);
        rk_str v = {bytes + from, to - from};
        bool has =
            set->strings_len == 1 ? rk_str_eq(v, set->strings[0]) : rk__set_has_string(set, v);
        if (has) {
            return true;
        }
        from = to;
    }
    return false;
}

static bool
array_any_in(rk_str blob, rk_type element, const rk__set *set)
{
    uint32_t n = rk_array_count(blob);
    const char *values = blob.data + sizeof(uint32_t);

    if (n == 0) {
        return false;
    }
    if (element == RK_VARCHAR) {
        return texts_any_in(values, n, set);
    }
    if (!is_real(element)) {
        return ints_any_in(values, n, element, set);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (rk__set_has_float(set, rk_array_f64(blob, element, i))) {
            return true;
        }
    }
    return false;
}

static bool
array_contains(const rk__pred *pred, rk_str blob, rk_type element)
{
    const rk__values *list = pred->value.list;
    if (pred->fn != FN_CONTAINS_ALL || list->n == 1) {
        return array_any_in(blob, element, pred->set);
    }
    for (size_t i = 0; i < list->n; i++) {
        if (!array_has(blob, element, list->data[i])) {
            return false;
        }
    }
    return true;
}

static answer
array_answer(const rk__leaf *leaf, size_t row)
{
    const rk__pred *pred = leaf->pred;
    rk_str blob = rk_column_bytes(leaf->col, row);
    rk_type element = leaf->col->field->element;

    switch ((int)pred->kind) {
    case PK_CMP:
        return yes_no(array_is(blob, element, pred->value.list) == (pred->cmp == TK_EQ));
    case PK_IN:
        for (size_t i = 0; i < pred->value.list->n; i++) {
            if (array_is(blob, element, pred->value.list->data[i].list)) {
                return YES;
            }
        }
        return NO;
    case PK_LENGTH: {
        int64_t n = rk_array_count(blob);
        int64_t c = pred->value.i;
        return yes_no(rk__cmp_holds(pred->cmp, (n > c) - (n < c)));
    }
    case PK_CONTAINS:
        return yes_no(array_contains(pred, blob, element));
    default:
        return UNKNOWN;
    }
}

static answer
element_answer(const rk__leaf *leaf, size_t row)
{
    rk_str blob = rk_column_bytes(leaf->col, row);
    rk_type element = leaf->col->field->element;
    uint32_t index = leaf->pred->col->index;

    if (index >= rk_array_count(blob)) {
        return UNKNOWN;
    }
    if (element == RK_VARCHAR) {
        return yes_no(rk__test_string(leaf, rk_array_str(blob, index)));
    }
    if (is_real(element)) {
        return yes_no(rk__test_float(leaf->pred, rk_array_f64(blob, element, index)));
    }
    return yes_no(rk__test_int(leaf->pred, rk_array_i64(blob, element, index)));
}

/* ---- texts ---- */

static answer
text_answer(const rk__leaf *leaf, size_t row)
{
    const rk__pred *pred = leaf->pred;
    rk_str a = leaf->col ? rk_column_bytes(leaf->col, row) : pred->value.s;

    switch ((int)pred->kind) {
    case PK_CMP_COLS:
        return yes_no(rk__cmp_holds(pred->cmp, rk__text_cmp(a, rk_column_bytes(leaf->col2, row))));
    case PK_EMPTY:
        return yes_no(a.len == 0);
    case PK_STARTS: {
        rk_str head = leaf->col2 ? rk_column_bytes(leaf->col2, row) : pred->value2.s;
        return yes_no(head.len <= a.len && rk_str_eq((rk_str){a.data, head.len}, head));
    }
    default:
        return yes_no(rk__test_string(leaf, a));
    }
}

void
rk__eval_rows(const rk__leaf *leaf)
{
    const rk__pred *pred = leaf->pred;
    rk__column_kind kind = pred->col ? pred->col->kind : pred->col2->kind;
    size_t words = rk_bitset_words(leaf->rows);

    if (kind == CK_ELEMENT && pred->kind == PK_IN && pred->value.list->n == 0) {
        memset(leaf->value, 0, words * sizeof(uint64_t)); /* false even where there is no element */
        memset(leaf->known, 0xFF, words * sizeof(uint64_t));
        return;
    }
    rk__known_from_valid(leaf, leaf->col);
    if (kind == CK_SCALAR && rk__eval_texts(leaf)) {
        return;
    }
    for (size_t w = 0; w < words; w++) {
        if (leaf->col2 && leaf->col2->valid) {
            leaf->known[w] &= leaf->col2->valid[leaf->first / 64 + w];
        }
        uint64_t value = 0;
        uint64_t known = leaf->known[w];
        for (uint64_t todo = known & leaf->active[w]; todo; todo &= todo - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(todo);
            size_t row = leaf->first + w * 64 + bit;
            answer is = kind == CK_ELEMENT ? element_answer(leaf, row)
                        : kind == CK_ARRAY ? array_answer(leaf, row)
                                           : text_answer(leaf, row);
            value |= (uint64_t)(is == YES) << bit;
            known &= ~((uint64_t)(is == UNKNOWN) << bit);
        }
        leaf->value[w] = value;
        leaf->known[w] = known;
    }
}
