/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves over JSON: one look-up of the path per row, types found as they come. Keys are
 * looked for by a kernel (kernel_json.h) where behind the text there are bytes enough to read;
 * integers and texts of the common predicates are then read where they lie. What that leaves open,
 * and steps by index, go through base/json.h.
 *
 * The kind of the constant chooses the kind of value it may meet: number, text, bool or array.
 * Anything else there, a JSON null or no value at all answers unknown, for != and not in as well.
 * Integers compare exactly with integers; where a fraction or a large number is on either side both
 * are doubles. Texts with escapes are decoded into an arena that is reset for each.
 */
#include "base/json.h"
#include "filter/kernel.h"

typedef enum answer { NO, YES, UNKNOWN, ASK } answer; /* ASK: look at the value with care */

static answer
yes_no(bool pass)
{
    return pass ? YES : NO;
}

/* A JSON number as a constant is; VK_NONE for other types. */
static rk__value
number_of(rk_json_value v)
{
    rk__value out = {0};
    if (v.type == RK_JSON_INT && rk_json_get_i64(v, &out.i)) {
        out.kind = VK_INT;
    } else if (rk_json_get_f64(v, &out.f)) {
        out.kind = VK_FLOAT;
    }
    return out;
}

/* rk_json_str_is(); a text without escapes is as long as what it says, others are longer. */
static bool
text_is(rk_json_value v, rk_str want)
{
    size_t len = v.raw.len - 2;
    if (v.type != RK_JSON_STRING || len < want.len) {
        return false;
    }
    if (len > want.len || memchr(want.data ? want.data : "", '\\', want.len)) {
        return rk_json_str_is(v, want);
    }
    return len == 0 || memcmp(v.raw.data + 1, want.data, len) == 0;
}

/* The decoded text; false when it is no text or memory ran out. */
static bool
text_of(const rk__leaf *leaf, rk_json_value v, rk_str *out)
{
    if (v.type != RK_JSON_STRING) {
        return false;
    }
    rk_arena_reset(leaf->texts);
    if (rk_json_get_str(v, out, leaf->texts) != RK_OK) {
        *leaf->failed = true;
        return false;
    }
    return true;
}

/* Sign of v - c when both are of one kind; 3 when they are not. 2: a NaN. */
static int
compare(const rk__leaf *leaf, rk_json_value v, rk__value c)
{
    rk_str text = {0};
    bool truth = false;
    if (c.kind == VK_STRING) {
        return text_of(leaf, v, &text) ? rk__text_cmp(text, c.s) : 3;
    }
    if (c.kind == VK_BOOL) {
        return rk_json_get_bool(v, &truth) ? (int)truth - (int)c.b : 3;
    }
    rk__value number = number_of(v);
    return number.kind == VK_NONE ? 3 : rk__number_cmp(number, c);
}

/* Is the array element |v| the constant |c|? |exact|: an integer constant takes no 1.0. */
static bool
element_is(rk_json_value v, rk__value c, bool exact)
{
    bool truth = false;
    switch (c.kind) {
    case VK_STRING:
        return text_is(v, c.s);
    case VK_BOOL:
        return rk_json_get_bool(v, &truth) && truth == c.b;
    case VK_INT:
    case VK_FLOAT: {
        rk__value number = number_of(v);
        if (exact && c.kind == VK_INT && number.kind != VK_INT) {
            return false;
        }
        return number.kind != VK_NONE && rk__number_cmp(number, c) == 0;
    }
    case VK_NONE:
    case VK_LIST:
    case VK_NODE:
    default:
        return false;
    }
}

static bool
array_is(rk_json_value v, const rk__values *list)
{
    rk_json_iter iter;
    rk_json_value element;
    size_t i = 0;
    rk_json_iter_init(&iter, v);
    while (rk_json_iter_next(&iter, NULL, &element)) {
        if (i >= list->n || !element_is(element, list->data[i], true)) {
            return false;
        }
        i++;
    }
    return i == list->n;
}

/* |v| cmp |c|. */
static answer
cmp_answer(const rk__leaf *leaf, rk_json_value v, rk__token_kind cmp, rk__value c)
{
    if (c.kind == VK_LIST) {
        if (v.type != RK_JSON_ARRAY || (cmp != TK_EQ && cmp != TK_NE)) {
            return UNKNOWN;
        }
        return yes_no(array_is(v, c.list) == (cmp == TK_EQ));
    }
    if (c.kind == VK_STRING && (cmp == TK_EQ || cmp == TK_NE)) { /* needs no decoded copy */
        return v.type == RK_JSON_STRING ? yes_no(text_is(v, c.s) == (cmp == TK_EQ)) : UNKNOWN;
    }
    int order = compare(leaf, v, c);
    return order == 3 ? UNKNOWN : yes_no(rk__cmp_holds(cmp, order));
}

static answer
range_answer(const rk__leaf *leaf, rk_json_value v)
{
    const rk__pred *pred = leaf->pred;
    int lo = compare(leaf, v, pred->value);
    if (lo == 3) {
        return UNKNOWN;
    }
    int hi = compare(leaf, v, pred->value2);
    return yes_no(rk__cmp_holds(pred->lo_open ? TK_GT : TK_GE, lo) &&
                  rk__cmp_holds(pred->hi_open ? TK_LT : TK_LE, hi));
}

/* The kinds of a list: an equality with one of another kind is unknown. */
static answer
in_answer(const rk__leaf *leaf, rk_json_value v)
{
    const rk__values *list = leaf->pred->value.list;
    bool unknown = false;
    for (size_t i = 0; i < list->n; i++) {
        answer is = cmp_answer(leaf, v, TK_EQ, list->data[i]);
        if (is == YES) {
            return YES;
        }
        unknown = unknown || is == UNKNOWN;
    }
    return unknown ? UNKNOWN : NO;
}

/* The same for long lists: through the set. */
static answer
in_set_answer(const rk__leaf *leaf, rk_json_value v)
{
    const rk__json_set *set = leaf->pred->json_set;
    rk_str text = {0};
    bool truth = false;
    rk__value number;

    if (v.type == RK_JSON_STRING) {
        if (!text_of(leaf, v, &text)) {
            return UNKNOWN;
        }
        return rk__set_has_string(set->exact, text) ? YES : set->all_texts ? NO : UNKNOWN;
    }
    if (rk_json_get_bool(v, &truth)) {
        return set->truths[truth] ? YES : set->all_truths ? NO : UNKNOWN;
    }
    if (v.type == RK_JSON_ARRAY) {
        return set->arrays ? in_answer(leaf, v) : UNKNOWN;
    }
    number = number_of(v);
    if (number.kind == VK_NONE) {
        return UNKNOWN;
    }
    bool has = number.kind == VK_INT ? rk__set_has_int(set->exact, number.i) ||
                                           rk__set_has_float(set->exact, (double)number.i)
                                     : rk__set_has_float(set->doubles, number.f);
    return has ? YES : set->all_numbers ? NO : UNKNOWN;
}

static answer
arith_answer(rk_json_value v, const rk__pred *pred)
{
    rk__value number = number_of(v);
    if (number.kind == VK_NONE) {
        return UNKNOWN;
    }
    if (number.kind == VK_INT && pred->value2.kind == VK_INT) {
        number.i = rk__int_op(pred->aop, number.i, pred->value2.i);
    } else {
        double a = number.kind == VK_INT ? (double)number.i : number.f;
        double b = pred->value2.kind == VK_INT ? (double)pred->value2.i : pred->value2.f;
        number.kind = VK_FLOAT;
        number.f = rk__float_op(pred->aop, a, b);
    }
    return yes_no(rk__cmp_holds(pred->cmp, rk__number_cmp(number, pred->value)));
}

/* ---- contains ---- */

static bool
array_has(rk_json_value array, rk__value c)
{
    rk_json_iter iter;
    rk_json_value element;
    rk_json_iter_init(&iter, array);
    while (rk_json_iter_next(&iter, NULL, &element)) {
        bool is = c.kind == VK_LIST ? element.type == RK_JSON_ARRAY && array_is(element, c.list)
                                    : element_is(element, c, false);
        if (is) {
            return true;
        }
    }
    return false;
}

static answer
contains_answer(const rk__pred *pred, rk_json_value v)
{
    const rk__values *list = pred->value.list;
    bool all = pred->fn == FN_CONTAINS_ALL;
    if (v.type != RK_JSON_ARRAY) {
        return UNKNOWN;
    }
    for (size_t i = 0; i < list->n; i++) {
        if (array_has(v, list->data[i]) != all) {
            return yes_no(!all);
        }
    }
    return yes_no(all);
}

/* ---- exists ---- */

/* Does the text of a value hold anything but nulls, {} and []? Strings followed by a colon are keys
 * and count for nothing. */
static bool
is_present(rk_json_value v)
{
    if (v.type == RK_JSON_NONE || v.type == RK_JSON_NULL) {
        return false;
    }
    if (v.type != RK_JSON_ARRAY && v.type != RK_JSON_OBJECT) {
        return true;
    }
    const char *p = v.raw.data;
    const char *end = p + v.raw.len;
    while (p < end) {
        char ch = *p++;
        if (ch == '"') {
            while (p < end && *p != '"') {
                p += *p == '\\' ? 2 : 1;
            }
            p++;
            while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) {
                p++;
            }
            if (p >= end || *p != ':') {
                return true;
            }
        } else if (ch == 't' || ch == 'f' || ch == '-' || (ch >= '0' && ch <= '9')) {
            return true;
        }
    }
    return false;
}

/* ---- dispatch ---- */

static answer
found_answer(const rk__leaf *leaf, rk_json_value v)
{
    const rk__pred *pred = leaf->pred;
    rk_str text = {0};

    switch ((int)pred->kind) {
    case PK_CMP:
        return cmp_answer(leaf, v, pred->cmp, pred->value);
    case PK_RANGE:
        return range_answer(leaf, v);
    case PK_IN:
        return pred->json_set ? in_set_answer(leaf, v) : in_answer(leaf, v);
    case PK_LIKE:
    case PK_REGEX:
        return text_of(leaf, v, &text) ? yes_no(rk__test_string(leaf, text)) : UNKNOWN;
    case PK_ARITH:
        return arith_answer(v, pred);
    case PK_LENGTH: {
        int64_t n = (int64_t)rk_json_len(v);
        int64_t c = pred->value.i;
        if (v.type != RK_JSON_ARRAY) {
            return UNKNOWN;
        }
        return yes_no(rk__cmp_holds(pred->cmp, (n > c) - (n < c)));
    }
    case PK_CONTAINS:
        return contains_answer(pred, v);
    default:
        return UNKNOWN;
    }
}

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* The high bit of bytes of |x| that are quotes or backslashes; the first one is right, bytes behind
 * it may seem to be some. */
static uint64_t
string_marks(uint64_t x)
{
    uint64_t quote = x ^ ONES * '"';
    uint64_t slash = x ^ ONES * '\\';
    return (((quote - ONES) & ~quote) | ((slash - ONES) & ~slash)) & HIGHS;
}

/* The byte behind the string that begins at |p|. */
static const char *
string_end(const char *p, const char *end)
{
    p++;
    while (p < end) {
        if (end - p >= 8) { /* up to the next quote or backslash */
            uint64_t hit = string_marks(rk_get_u64le(p));
            if (!hit) {
                p += 8;
                continue;
            }
            p += __builtin_ctzll(hit) / 8;
        }
        if (*p == '"') {
            return p + 1;
        }
        p += *p == '\\' ? 2 : 1;
    }
    return end;
}

/* The value of checked JSON that begins at |p|, blanks before it: its end is found by its first
 * byte. Behind |end| a kernel may read. */
static rk_json_value
value_from(const rk__filter_kernels *kernels, const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    const char *start = p;
    if (p < end && *p == '"') {
        return (rk_json_value){RK_JSON_STRING, {start, (size_t)(string_end(p, end) - start)}};
    }
    if (p < end && (*p == '{' || *p == '[')) {
        rk_json_type type = *p == '{' ? RK_JSON_OBJECT : RK_JSON_ARRAY;
        return (rk_json_value){type, {start, (size_t)(kernels->json_end(p, end) - start)}};
    }
    while (p < end && *p != ',' && *p != '}' && *p != ']') { /* a number or a word */
        p++;
    }
    return rk_json_root((rk_str){start, (size_t)(p - start)});
}

/* ---- predicates that most rows answer without a value being made ---- */

typedef enum quick {
    QUICK_NONE,
    QUICK_RANGE, /* integers between two */
    QUICK_INTS,  /* in a list of integers */
    QUICK_TEXT,  /* == and != with a text */
    QUICK_TEXTS, /* in a list of texts */
} quick;

static quick
quick_of(const rk__pred *pred)
{
    bool equality = pred->cmp == TK_EQ || pred->cmp == TK_NE;

    if (pred->kind == PK_CMP && pred->value.kind == VK_INT) {
        return QUICK_RANGE;
    }
    if (pred->kind == PK_RANGE && pred->value.kind == VK_INT && pred->value2.kind == VK_INT) {
        return QUICK_RANGE;
    }
    if (pred->kind == PK_IN && pred->set->only_ints) {
        return QUICK_INTS;
    }
    if (pred->kind == PK_IN && pred->set->only_strings) {
        return QUICK_TEXTS;
    }
    if (pred->kind == PK_CMP && equality && pred->value.kind == VK_STRING) {
        return QUICK_TEXT;
    }
    return QUICK_NONE;
}

/* The integer of one to seven digits that begins at |p|, by pairs, fours and eights of digits. */
static answer
quick_int(const char *p, const char *end, int64_t *out)
{
    bool negative = *p == '-';

    p += negative;
    if (end - p < 8) {
        return ASK;
    }
    uint64_t x = rk_get_u64le(p) ^ ONES * '0';
    uint64_t other = (x | (x + ONES * 0x76)) & HIGHS; /* first bit: the first byte above 9 */
    unsigned n = other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
    if (n == 0) {
        return UNKNOWN; /* no number */
    }
    if (n == 8 || p[n] == '.' || p[n] == 'e' || p[n] == 'E') {
        return ASK;
    }
    x <<= 8 * (8 - n); /* zeros in front */
    x = (x * (10 * 256 + 1) >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x * (100 * 65536 + 1) >> 16) & UINT64_C(0x0000ffff0000ffff);
    x = x * (10000 * (UINT64_C(1) << 32) + 1) >> 32;
    *out = negative ? -(int64_t)x : (int64_t)x;
    return YES;
}

/* The text that begins at |p|; ASK: what stands before its first escape. */
static answer
quick_text(const char *p, const char *end, rk_str *out)
{
    if (*p != '"') {
        return UNKNOWN;
    }
    const char *start = ++p;
    for (;; p += 8) {
        if (end - p < 8) {
            return ASK;
        }
        uint64_t hit = string_marks(rk_get_u64le(p));
        if (hit) {
            p += __builtin_ctzll(hit) / 8;
            *out = (rk_str){start, (size_t)(p - start)};
            return *p == '"' ? YES : ASK;
        }
    }
}

static bool
begins_with(rk_str s, rk_str head)
{
    return head.len <= s.len && rk_str_eq((rk_str){s.data, head.len}, head);
}

static answer
quick_answer(const rk__pred *pred, quick how, const char *p, const char *end)
{
    const rk__range *r = &pred->range;
    int64_t i = 0;
    rk_str text = {0};
    answer is = ASK;

    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    if (how == QUICK_NONE || p == end) {
        return ASK;
    }
    if (how == QUICK_TEXT || how == QUICK_TEXTS) {
        is = quick_text(p, end, &text);
    } else {
        is = quick_int(p, end, &i);
    }
    if (is == ASK && how == QUICK_TEXT && text.len > 0 && !begins_with(pred->value.s, text)) {
        return yes_no(pred->cmp == TK_NE); /* differs before the first escape */
    }
    if (is != YES) {
        return is;
    }
    switch (how) {
    case QUICK_RANGE:
        return yes_no((!r->empty && i >= r->i_lo && i <= r->i_hi) != r->negate);
    case QUICK_INTS:
        return yes_no(rk__set_has_int(pred->set, i));
    case QUICK_TEXT:
        return yes_no(rk_str_eq(text, pred->value.s) == (pred->cmp == TK_EQ));
    case QUICK_TEXTS:
        return yes_no(rk__set_has_string(pred->set, text));
    case QUICK_NONE:
    default:
        return ASK;
    }
}

/* ---- look-up ---- */

/* Goes down the path with the kernels: UNKNOWN when there is no value, ASK when |*found| is what
 * there is, or the answer. |*whole|: false when they cannot tell. */
static answer
walk(const rk__leaf *leaf, const rk__filter_kernels *kernels, quick how, rk_str text,
     rk_json_value *found, bool *whole)
{
    const rk__pred *pred = leaf->pred;
    const rk__col *col = pred->col;

    *whole = true;
    for (size_t i = 0; i < pred->path_len; i++) {
        const char *end = text.data + text.len;
        const char *at = NULL;
        rk__json_found is = kernels->json_key(text.data, text.len, &pred->path[i], &at);
        if (is == KEY_ABSENT) {
            return UNKNOWN;
        }
        if (is == KEY_ASK) {
            *whole = false;
            return ASK;
        }
        if (i + 1 == col->keys_len) {
            answer quickly = quick_answer(pred, how, at, end);
            if (quickly != ASK) {
                return quickly;
            }
        }
        *found = value_from(kernels, at, end);
        text = found->raw;
        if (i + 1 < pred->path_len && found->type != RK_JSON_OBJECT) {
            return UNKNOWN;
        }
    }
    if (pred->path_len < col->keys_len) {
        rk_json_value v = *found;
        (void)rk_json_find(v, col->keys + pred->path_len, col->keys_len - pred->path_len, found);
    }
    return ASK;
}

static answer
json_answer(const rk__leaf *leaf, const rk__filter_kernels *kernels, quick how, size_t row,
            const char *end)
{
    const rk__col *col = leaf->pred->col;
    rk_str text = rk_column_bytes(leaf->col, row);
    size_t behind = (size_t)(end - text.data) - text.len; /* bytes that may be read */
    bool exists = leaf->pred->kind == PK_EXISTS;
    rk_json_value found = {0};
    bool whole = false;

    if (leaf->pred->path_len > 0 && behind >= leaf->pred->path_slack) {
        answer is = walk(leaf, kernels, how, text, &found, &whole);
        if (is != ASK) {
            return is == UNKNOWN && exists ? NO : is;
        }
    }
    if (!whole) {
        (void)rk_json_find(rk_json_root(text), col->keys, col->keys_len, &found);
    }
    if (exists) {
        return yes_no(is_present(found));
    }
    if (found.type == RK_JSON_NONE || found.type == RK_JSON_NULL) {
        return UNKNOWN;
    }
    return found_answer(leaf, found);
}

/* Answers that hold for all rows, null or not: tests with an empty list. */
static bool
constant_answer(const rk__pred *pred, bool *truth)
{
    bool lists = pred->kind == PK_IN || pred->kind == PK_CONTAINS;
    *truth = pred->kind == PK_CONTAINS && pred->fn == FN_CONTAINS_ALL;
    return lists && pred->value.list->n == 0;
}

void
rk__eval_json(const rk__leaf *leaf)
{
    size_t words = rk_bitset_words(leaf->rows);
    bool truth = false;
    const rk__filter_kernels *kernels = rk__filter_kernels_get();
    const char *end = (const char *)leaf->col->data + leaf->col->offsets[leaf->first + leaf->rows];
    quick how = quick_of(leaf->pred);

    if (constant_answer(leaf->pred, &truth)) {
        memset(leaf->value, truth ? 0xFF : 0, words * sizeof(uint64_t));
        memset(leaf->known, 0xFF, words * sizeof(uint64_t));
        return;
    }
    rk__known_from_valid(leaf, leaf->col);
    for (size_t w = 0; w < words; w++) {
        uint64_t value = 0;
        uint64_t known = leaf->known[w];
        for (uint64_t todo = known & leaf->active[w]; todo; todo &= todo - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(todo);
            size_t row = leaf->first + w * 64 + bit;
            answer is = json_answer(leaf, kernels, how, row, end);
            value |= (uint64_t)(is == YES) << bit;
            known &= ~((uint64_t)(is == UNKNOWN) << bit);
        }
        leaf->value[w] = value;
        /* a null column exists nowhere, and that is known */
        leaf->known[w] = leaf->pred->kind == PK_EXISTS ? UINT64_MAX : known;
    }
}
