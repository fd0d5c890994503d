/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves over columns of booleans and numbers: 64 rows into one word.
 *
 * Every comparison and chain is an inclusive range by now (program.c), perhaps negated, and goes to
 * a kernel whole. Arithmetic and pairs of columns widen some hundred values to int64 or double,
 * compute in a loop per operator and end in the same kernels. IN is a range per value for a few
 * values, else a look-up in a bitmap without branches (see rk__set), and the table of hashes for
 * what that lets through.
 */
#include "filter/kernel.h"

#define BATCH_WORDS 8 /* words of values widened at a time: 4 KiB */
#define BATCH       (BATCH_WORDS * 64)
#define SHORT_IN    4 /* values up to which IN is a range each */

static bool
is_real(rk_type t)
{
    return t == RK_FLOAT || t == RK_DOUBLE;
}

static rk__lane
lane_of(rk_type t)
{
    return t == RK_INT16    ? LANE_I16
           : t == RK_INT32  ? LANE_I32
           : t == RK_INT64  ? LANE_I64
           : t == RK_FLOAT  ? LANE_F32
           : t == RK_DOUBLE ? LANE_F64
                            : LANE_I8;
}

static int64_t
lane_min(rk__lane lane)
{
    return lane == LANE_I8    ? INT8_MIN
           : lane == LANE_I16 ? INT16_MIN
           : lane == LANE_I32 ? INT32_MIN
                              : INT64_MIN;
}

static int64_t
lane_max(rk__lane lane)
{
    return lane == LANE_I8    ? INT8_MAX
           : lane == LANE_I16 ? INT16_MAX
           : lane == LANE_I32 ? INT32_MAX
                              : INT64_MAX;
}

/* Cuts a range of integers to what the lane can hold; false when nothing is left. */
static bool
cut_range(rk__range *r, rk__lane lane)
{
    if (lane < LANE_F32) {
        r->i_lo = RK_MAX(r->i_lo, lane_min(lane));
        r->i_hi = RK_MIN(r->i_hi, lane_max(lane));
        r->empty = r->empty || r->i_lo > r->i_hi;
    }
    return !r->empty;
}

static const char *
row_at(const rk_column *col, size_t row)
{
    return (const char *)col->data + row * rk_type_bytes(col->field->type);
}

static void
eval_range(const rk__leaf *leaf)
{
    rk_type type = leaf->col->field->type;
    rk__lane lane = lane_of(type);
    rk__range range = leaf->pred->range;
    uint64_t flip = range.negate ? UINT64_MAX : 0;
    size_t words = rk_bitset_words(leaf->rows);
    size_t whole = leaf->rows / 64;

    if (cut_range(&range, lane)) {
        rk__range_fn fn = rk__filter_kernels_get()->range[lane];
        const char *x = row_at(leaf->col, leaf->first);
        fn(x, whole, &range, leaf->value);
        if (words > whole) { /* the column ends inside the last word */
            char buffer[64 * 8] = {0};
            size_t size = rk_type_bytes(type);
            memcpy(buffer, x + whole * 64 * size, leaf->rows % 64 * size);
            fn(buffer, 1, &range, leaf->value + whole);
        }
    } else {
        memset(leaf->value, 0, words * sizeof(uint64_t));
    }
    for (size_t w = 0; w < words; w++) {
        leaf->value[w] = (leaf->value[w] ^ flip) & leaf->known[w];
    }
}

/* ---- values widened ---- */

#define WIDEN(to, from, truth)                                                                     \
    for (size_t i = 0; i < n; i++) {                                                               \
        from v;                                                                                    \
        memcpy(&v, x + i * sizeof(v), sizeof(v));                                                  \
        out[i] = (to)(truth v);                                                                    \
    }                                                                                              \
    break

/* Values of rows [row, row + n) of a column that is no float. */
static void
ints_at(const rk_column *col, size_t row, size_t n, int64_t *restrict out)
{
    const char *restrict x = row_at(col, row);
    switch ((int)col->field->type) {
    case RK_INT8:
        WIDEN(int64_t, int8_t, );
    case RK_INT16:
        WIDEN(int64_t, int16_t, );
    case RK_INT32:
        WIDEN(int64_t, int32_t, );
    case RK_INT64:
        memcpy(out, x, n * sizeof(*out));
        break;
    default:
        WIDEN(int64_t, uint8_t, 0 !=);
    }
}

static void
doubles_at(const rk_column *col, size_t row, size_t n, double *restrict out)
{
    const char *restrict x = row_at(col, row);
    switch ((int)col->field->type) {
    case RK_INT8:
        WIDEN(double, int8_t, );
    case RK_INT16:
        WIDEN(double, int16_t, );
    case RK_INT32:
        WIDEN(double, int32_t, );
    case RK_INT64:
        WIDEN(double, int64_t, );
    case RK_FLOAT:
        WIDEN(double, float, );
    case RK_DOUBLE:
        memcpy(out, x, n * sizeof(*out));
        break;
    default:
        WIDEN(double, uint8_t, 0 !=);
    }
}

/* ---- arithmetic ---- */

#define EACH(expr)                                                                                 \
    for (size_t i = 0; i < n; i++) {                                                               \
        v[i] = (expr);                                                                             \
    }                                                                                              \
    break

static void
compute_ints(const rk__pred *pred, int64_t *v, size_t n)
{
    int64_t b = pred->value2.i;
    uint64_t c = (uint64_t)b;
    rk__divisor d = pred->divide;

    switch ((int)pred->aop) {
    case TK_ADD:
        EACH((int64_t)((uint64_t)v[i] + c));
    case TK_SUB:
        EACH((int64_t)((uint64_t)v[i] - c));
    case TK_MUL:
        EACH((int64_t)((uint64_t)v[i] * c));
    case TK_BAND:
        EACH(v[i] & b);
    case TK_BOR:
        EACH(v[i] | b);
    case TK_BXOR:
        EACH(v[i] ^ b);
    case TK_DIV:
        if (d.factor == 0) {
            EACH(rk__int_op(TK_DIV, v[i], b));
        }
        EACH(rk__divide(v[i], d));
    default: /* TK_MOD */
        if (d.factor == 0) {
            EACH(rk__int_op(TK_MOD, v[i], b));
        }
        EACH((int64_t)((uint64_t)v[i] - (uint64_t)rk__divide(v[i], d) * c));
    }
}

static void
compute_doubles(const rk__pred *pred, double *v, size_t n)
{
    double c = pred->value2.kind == VK_INT ? (double)pred->value2.i : pred->value2.f;

    switch ((int)pred->aop) {
    case TK_ADD:
        EACH(v[i] + c);
    case TK_SUB:
        EACH(v[i] - c);
    case TK_MUL:
        EACH(v[i] * c);
    case TK_DIV:
        EACH(v[i] / c);
    default:
        EACH(rk__float_op(pred->aop, v[i], c));
    }
}

static void
eval_arith(const rk__leaf *leaf)
{
    const rk__pred *pred = leaf->pred;
    bool real = is_real(leaf->col->field->type);
    uint64_t flip = pred->range.negate ? UINT64_MAX : 0;
    union {
        int64_t i[BATCH];
        double f[BATCH];
    } v;

    for (size_t at = 0; at < leaf->rows; at += BATCH) {
        size_t n = RK_MIN(leaf->rows - at, (size_t)BATCH);
        size_t words = rk_bitset_words(n);
        uint64_t *value = leaf->value + at / 64;
        const rk__filter_kernels *k = rk__filter_kernels_get();
        if (real) {
            doubles_at(leaf->col, leaf->first + at, n, v.f);
            compute_doubles(pred, v.f, n);
        } else {
            ints_at(leaf->col, leaf->first + at, n, v.i);
            compute_ints(pred, v.i, n);
        }
        memset(v.i + n, 0, (words * 64 - n) * sizeof(v.i[0]));
        memset(value, 0, words * sizeof(*value));
        if (!pred->range.empty) {
            k->range[real ? LANE_F64 : LANE_I64](&v, words, &pred->range, value);
        }
        for (size_t w = 0; w < words; w++) {
            value[w] = (value[w] ^ flip) & leaf->known[at / 64 + w];
        }
    }
}

/* ---- one value at a time: elements of arrays ---- */

bool
rk__test_int(const rk__pred *pred, int64_t v)
{
    if (pred->kind == PK_IN) {
        return rk__set_has_int(pred->set, v);
    }
    if (pred->kind == PK_ARITH) {
        v = rk__int_op(pred->aop, v, pred->value2.i);
    }
    const rk__range *r = &pred->range;
    return (!r->empty && v >= r->i_lo && v <= r->i_hi) != r->negate;
}

bool
rk__test_float(const rk__pred *pred, double v)
{
    if (pred->kind == PK_IN) {
        return rk__set_has_float(pred->set, v);
    }
    if (pred->kind == PK_ARITH) {
        rk__value operand = pred->value2;
        double other = operand.kind == VK_INT ? (double)operand.i : operand.f;
        v = rk__float_op(pred->aop, v, other);
    }
    const rk__range *r = &pred->range;
    return (!r->empty && v >= r->f_lo && v <= r->f_hi) != r->negate;
}

/* ---- IN ---- */

/* A few values: one range pass per value. */
static void
eval_short_in(const rk__leaf *leaf)
{
    const rk__set *set = leaf->pred->set;
    rk_type type = leaf->col->field->type;
    rk__lane lane = lane_of(type);
    size_t size = rk_type_bytes(type);
    size_t n = is_real(type) ? set->floats_len : set->ints_len;
    rk__range_fn fn = rk__filter_kernels_get()->range[lane];
    char buffer[64 * 8] = {0};

    for (size_t at = 0, rows = 0; at < leaf->rows; at += rows) {
        size_t left = leaf->rows - at;
        uint64_t *value = leaf->value + at / 64;
        const char *x = row_at(leaf->col, leaf->first + at);
        uint64_t found[BATCH_WORDS];
        rows = left >= 64 ? RK_MIN(left / 64 * 64, (size_t)BATCH) : left;
        if (rows < 64) { /* the column ends inside the word */
            memcpy(buffer, x, rows * size);
            x = buffer;
        }
        size_t words = rk_bitset_words(rows);
        memset(value, 0, words * sizeof(*value));
        for (size_t k = 0; k < n; k++) {
            rk__range r = {0};
            if (is_real(type)) {
                r.f_lo = r.f_hi = set->floats[k];
            } else {
                r.i_lo = r.i_hi = set->ints[k];
            }
            if (!cut_range(&r, lane)) {
                continue;
            }
            fn(x, words, &r, found);
            for (size_t w = 0; w < words; w++) {
                value[w] |= found[w];
            }
        }
        for (size_t w = 0; w < words; w++) {
            value[w] &= leaf->known[at / 64 + w];
        }
    }
}

/* Which of |v| may be in the set: all of them are when it has a bitmap of its integers. */
static uint64_t
set_candidates(const rk__set *set, const int64_t v[64])
{
    uint8_t bytes[64];

    if (set->near) {
        uint64_t mask = set->near_span - 1;
        for (unsigned i = 0; i < 64; i++) {
            uint64_t at = (uint64_t)v[i] - (uint64_t)set->near_lo;
            bytes[i] = (uint8_t)((at <= mask) & rk__bit_at(set->near, at & mask));
        }
        return rk__pack(bytes);
    }
    if (!set->int_bits) {
        return 0;
    }
    for (unsigned i = 0; i < 64; i++) {
        uint64_t at = rk__int_hash(v[i], set->seed) >> (set->int_shift - RK__BITS_PER_SLOT_LOG2);
        bytes[i] = (uint8_t)rk__bit_at(set->int_bits, at);
    }
    return rk__pack(bytes);
}

static void
eval_long_in(const rk__leaf *leaf)
{
    bool real = is_real(leaf->col->field->type);
    const rk__set *set = real ? leaf->pred->set->float_set : leaf->pred->set;
    int64_t v[64] = {0};
    double f[64];

    for (size_t at = 0; at < leaf->rows; at += 64) {
        size_t n = RK_MIN(leaf->rows - at, (size_t)64);
        uint64_t todo = leaf->known[at / 64] & leaf->active[at / 64];
        leaf->value[at / 64] = 0;
        if (!todo) {
            continue;
        }
        if (real) {
            doubles_at(leaf->col, leaf->first + at, n, f);
            for (size_t i = 0; i < n; i++) { /* the bits of a NaN are not in the set */
                v[i] = rk__float_bits(f[i]);
            }
        } else {
            ints_at(leaf->col, leaf->first + at, n, v);
        }
        uint64_t word = set_candidates(set, v) & todo;
        for (todo = set->near ? 0 : word; todo; todo &= todo - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(todo);
            word &= ~((uint64_t)!rk__set_has_int(set, v[bit]) << bit);
        }
        leaf->value[at / 64] = word;
    }
}

/* ---- two columns ---- */

#define COMPARE(op)                                                                                \
    for (size_t i = 0; i < 64; i++) {                                                              \
        bytes[i] = (uint8_t)(a[i] op b[i]);                                                        \
    }                                                                                              \
    break

/* NaN differs from everything and is in no order, as C has it. */
#define COMPARE_WORD(name, type)                                                                   \
    static uint64_t name(rk__token_kind cmp, const type a[64], const type b[64])                   \
    {                                                                                              \
        uint8_t bytes[64];                                                                         \
        switch ((int)cmp) {                                                                        \
        case TK_LT:                                                                                \
            COMPARE(<);                                                                            \
        case TK_LE:                                                                                \
            COMPARE(<=);                                                                           \
        case TK_GT:                                                                                \
            COMPARE(>);                                                                            \
        case TK_GE:                                                                                \
            COMPARE(>=);                                                                           \
        case TK_EQ:                                                                                \
            COMPARE(==);                                                                           \
        default:                                                                                   \
            COMPARE(!=);                                                                           \
        }                                                                                          \
        return rk__pack(bytes);                                                                    \
    }

COMPARE_WORD(compare_ints, int64_t)
COMPARE_WORD(compare_doubles, double)

static void
eval_pair(const rk__leaf *leaf)
{
    bool real = is_real(leaf->col->field->type) || is_real(leaf->col2->field->type);
    int64_t a[64] = {0};
    int64_t b[64] = {0};
    double x[64] = {0};
    double y[64] = {0};

    for (size_t at = 0; at < leaf->rows; at += 64) {
        size_t n = RK_MIN(leaf->rows - at, (size_t)64);
        size_t row = leaf->first + at;
        uint64_t word;
        if (leaf->col2->valid) {
            leaf->known[at / 64] &= leaf->col2->valid[row / 64];
        }
        if (real) {
            doubles_at(leaf->col, row, n, x);
            doubles_at(leaf->col2, row, n, y);
            word = compare_doubles(leaf->pred->cmp, x, y);
        } else {
            ints_at(leaf->col, row, n, a);
            ints_at(leaf->col2, row, n, b);
            word = compare_ints(leaf->pred->cmp, a, b);
        }
        leaf->value[at / 64] = word & leaf->known[at / 64];
    }
}

void
rk__eval_scalar(const rk__leaf *leaf)
{
    const rk__pred *pred = leaf->pred;

    rk__known_from_valid(leaf, leaf->col);
    if (leaf->rows % 64) { /* rows past the end hold nothing to read */
        leaf->known[leaf->rows / 64] &= (UINT64_C(1) << (leaf->rows % 64)) - 1;
    }
    if (pred->kind == PK_CMP_COLS) {
        eval_pair(leaf);
    } else if (pred->kind == PK_ARITH) {
        eval_arith(leaf);
    } else if (pred->kind == PK_IN) {
        if (pred->set->ints_len + pred->set->floats_len <= SHORT_IN) {
            eval_short_in(leaf);
        } else {
            eval_long_in(leaf);
        }
    } else {
        eval_range(leaf);
    }
}
