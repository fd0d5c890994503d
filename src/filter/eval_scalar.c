/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves over columns of booleans and numbers: 64 rows into one word.
 *
 * Every comparison and chain is an inclusive range by now (program.c), perhaps negated, so one loop
 * per type serves all. A loop writes 64 bytes of 0 or 1, which compilers turn into vector code, and
 * pack() folds them into a word with eight multiplies. Values are taken to an aligned buffer first
 * where the column ends inside a word or is not aligned.
 */
#include "filter/filter_private.h"

/* Bit i of the result is byte i (0 or 1). */
static uint64_t
pack(const uint8_t *bytes)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight = rk_get_u64le(bytes + (size_t)i * 8);
        word |= ((eight * UINT64_C(0x0102040810204080)) >> 56) << (i * 8);
    }
    return word;
}

#define RANGE_KERNEL(name, type)                                                                   \
    static uint64_t name(const type *x, type lo, type hi)                                          \
    {                                                                                              \
        uint8_t bytes[64];                                                                         \
        for (unsigned i = 0; i < 64; i++) {                                                        \
            bytes[i] = (uint8_t)((x[i] >= lo) & (x[i] <= hi));                                     \
        }                                                                                          \
        return pack(bytes);                                                                        \
    }

RANGE_KERNEL(range_i8, int8_t)
RANGE_KERNEL(range_i16, int16_t)
RANGE_KERNEL(range_i32, int32_t)
RANGE_KERNEL(range_i64, int64_t)
RANGE_KERNEL(range_f32, float)
RANGE_KERNEL(range_f64, double)

/* 64 values of |size| bytes from row |row| of |col| on; |left| says how many there are. */
static const void *
values_at(const rk_column *col, size_t row, size_t left, size_t size, void *buffer)
{
    const char *at = (const char *)col->data + row * size;
    if (left >= 64 && (uintptr_t)at % size == 0) {
        return at;
    }
    memset(buffer, 0, 64 * size);
    memcpy(buffer, at, RK_MIN(left, (size_t)64) * size);
    return buffer;
}

static int64_t
type_min(rk_type t)
{
    return t == RK_INT8    ? INT8_MIN
           : t == RK_INT16 ? INT16_MIN
           : t == RK_INT32 ? INT32_MIN
                           : INT64_MIN;
}

static int64_t
type_max(rk_type t)
{
    return t == RK_INT8    ? INT8_MAX
           : t == RK_INT16 ? INT16_MAX
           : t == RK_INT32 ? INT32_MAX
                           : INT64_MAX;
}

/* The word of rows whose value lies in |r|, which holds something of the type. */
static uint64_t
range_word(rk_type type, const void *x, const rk__range *r)
{
    switch ((int)type) {
    case RK_BOOL:
    case RK_INT8:
        return range_i8(x, (int8_t)r->i_lo, (int8_t)r->i_hi);
    case RK_INT16:
        return range_i16(x, (int16_t)r->i_lo, (int16_t)r->i_hi);
    case RK_INT32:
        return range_i32(x, (int32_t)r->i_lo, (int32_t)r->i_hi);
    case RK_INT64:
        return range_i64(x, r->i_lo, r->i_hi);
    case RK_FLOAT:
        return range_f32(x, (float)r->f_lo, (float)r->f_hi);
    default:
        return range_f64(x, r->f_lo, r->f_hi);
    }
}

static void
eval_range(const rk__leaf *leaf)
{
    rk_type type = leaf->col->field->type;
    size_t size = rk_type_bytes(type);
    rk__range range = leaf->pred->range;
    uint64_t flip = range.negate ? UINT64_MAX : 0;
    _Alignas(64) char buffer[64 * 8];

    if (type != RK_FLOAT && type != RK_DOUBLE) { /* cut to what the type can hold */
        rk_type bits = type == RK_BOOL ? RK_INT8 : type;
        range.i_lo = RK_MAX(range.i_lo, type_min(bits));
        range.i_hi = RK_MIN(range.i_hi, type_max(bits));
        range.empty = range.empty || range.i_lo > range.i_hi;
    }
    for (size_t i = 0; i < leaf->rows; i += 64) {
        uint64_t word = 0;
        if (!range.empty) {
            const void *x = values_at(leaf->col, leaf->first + i, leaf->rows - i, size, buffer);
            word = range_word(type, x, &range);
        }
        leaf->value[i / 64] = (word ^ flip) & leaf->known[i / 64];
    }
}

/* ---- one value at a time ---- */

static int64_t
read_int(const rk_column *col, rk_type type, size_t row)
{
    const char *data = col->data;
    switch ((int)type) {
    case RK_BOOL:
        return data[row] != 0;
    case RK_INT8:
        return (int8_t)data[row];
    case RK_INT16: {
        int16_t v;
        memcpy(&v, data + row * sizeof(v), sizeof(v));
        return v;
    }
    case RK_INT32: {
        int32_t v;
        memcpy(&v, data + row * sizeof(v), sizeof(v));
        return v;
    }
    default: {
        int64_t v;
        memcpy(&v, data + row * sizeof(v), sizeof(v));
        return v;
    }
    }
}

static double
read_float(const rk_column *col, rk_type type, size_t row)
{
    const char *data = col->data;
    if (type == RK_FLOAT) {
        float v;
        memcpy(&v, data + row * sizeof(v), sizeof(v));
        return (double)v;
    }
    if (type == RK_DOUBLE) {
        double v;
        memcpy(&v, data + row * sizeof(v), sizeof(v));
        return v;
    }
    return (double)read_int(col, type, row);
}

bool
rk__test_int(const rk__pred *pred, int64_t v)
{
    if (pred->kind == PK_IN) {
        return rk__set_has_int(pred->set, v);
    }
    if (pred->kind == PK_ARITH) {
        v = rk__int_op(pred->aop, v, pred->value2.i);
        return rk__cmp_holds(pred->cmp, (v > pred->value.i) - (v < pred->value.i));
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
        rk__value result = {.kind = VK_FLOAT};
        double other = operand.kind == VK_INT ? (double)operand.i : operand.f;
        result.f = rk__float_op(pred->aop, v, other);
        return rk__cmp_holds(pred->cmp, rk__number_cmp(result, pred->value));
    }
    const rk__range *r = &pred->range;
    return (!r->empty && v >= r->f_lo && v <= r->f_hi) != r->negate;
}

/* Known and active rows one by one; a word at a time so that masks cost little. */
static void
eval_each(const rk__leaf *leaf)
{
    rk_type type = leaf->col->field->type;
    bool real = type == RK_FLOAT || type == RK_DOUBLE;
    for (size_t i = 0; i < leaf->rows; i += 64) {
        uint64_t todo = leaf->known[i / 64] & leaf->active[i / 64];
        uint64_t word = 0;
        for (; todo; todo &= todo - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(todo);
            size_t row = leaf->first + i + bit;
            bool pass = real ? rk__test_float(leaf->pred, read_float(leaf->col, type, row))
                             : rk__test_int(leaf->pred, read_int(leaf->col, type, row));
            word |= (uint64_t)pass << bit;
        }
        leaf->value[i / 64] = word;
    }
}

/* A few values: one range pass per value. */
static void
eval_short_in(const rk__leaf *leaf)
{
    const rk__set *set = leaf->pred->set;
    rk_type type = leaf->col->field->type;
    bool real = type == RK_FLOAT || type == RK_DOUBLE;
    size_t size = rk_type_bytes(type);
    size_t n = real ? set->floats_len : set->ints_len;
    rk_type bits = type == RK_BOOL ? RK_INT8 : type;
    _Alignas(64) char buffer[64 * 8];

    for (size_t i = 0; i < leaf->rows; i += 64) {
        const void *x = values_at(leaf->col, leaf->first + i, leaf->rows - i, size, buffer);
        uint64_t word = 0;
        for (size_t k = 0; k < n; k++) {
            rk__range r = {0};
            if (real) {
                r.f_lo = r.f_hi = set->floats[k];
            } else {
                r.i_lo = r.i_hi = set->ints[k];
                if (r.i_lo < type_min(bits) || r.i_lo > type_max(bits)) {
                    continue;
                }
            }
            word |= range_word(type, x, &r);
        }
        leaf->value[i / 64] = word & leaf->known[i / 64];
    }
}

static void
eval_pair(const rk__leaf *leaf)
{
    rk_type a = leaf->col->field->type;
    rk_type b = leaf->col2->field->type;
    bool real = a == RK_FLOAT || a == RK_DOUBLE || b == RK_FLOAT || b == RK_DOUBLE;
    size_t words = rk_bitset_words(leaf->rows);

    for (size_t w = 0; w < words && leaf->col2->valid; w++) {
        leaf->known[w] &= leaf->col2->valid[leaf->first / 64 + w];
    }
    for (size_t i = 0; i < leaf->rows; i += 64) {
        uint64_t todo = leaf->known[i / 64] & leaf->active[i / 64];
        uint64_t word = 0;
        for (; todo; todo &= todo - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(todo);
            size_t row = leaf->first + i + bit;
            rk__value x = {.kind = real ? VK_FLOAT : VK_INT};
            rk__value y = x;
            if (real) {
                x.f = read_float(leaf->col, a, row);
                y.f = read_float(leaf->col2, b, row);
            } else {
                x.i = read_int(leaf->col, a, row);
                y.i = read_int(leaf->col2, b, row);
            }
            word |= (uint64_t)rk__cmp_holds(leaf->pred->cmp, rk__number_cmp(x, y)) << bit;
        }
        leaf->value[i / 64] = word;
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
        eval_each(leaf);
    } else if (pred->kind == PK_IN) {
        if (pred->set->ints_len + pred->set->floats_len <= 8) {
            eval_short_in(leaf);
        } else {
            eval_each(leaf);
        }
    } else {
        eval_range(leaf);
    }
}
