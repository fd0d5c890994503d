/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: one vector in JSON as the bytes of a row.
 *
 * Float vectors are arrays of numbers; half-precision ones arrays or base64 of the raw bytes;
 * binary ones base64 or arrays of bytes; int8 vectors arrays of numbers; sparse ones an object from
 * index to value, or {"indices":[..],"values":[..]}, sorted here.
 *
 * Errors are plain sentences with code 1100; callers give them the code of what they were doing.
 */
#include <stdlib.h>

#include "access/rest.h"
#include "base/util.h"

static rk_code
fail_vector(rk__rest *r, const rk_field *field, rk_json_value value, const char *why)
{
    return rk_fail(r->req.ctx.err, RK_EINVAL, "%s: invalid parameter[expected=%s][actual=%.*s]",
                   why, rk_type_name(field->type), (int)RK_MIN(value.raw.len, (size_t)100),
                   value.raw.data);
}

static rk_code
fail_dim(rk__rest *r, const rk_field *field, rk_json_value value, size_t have, const char *what)
{
    return rk_fail(
        r->req.ctx.err, RK_EINVAL,
        "dimension: %u, but length of []%s: %zu: invalid parameter[expected=%s][actual=%.*s]",
        field->dim, what, have, rk_type_name(field->type), (int)RK_MIN(value.raw.len, (size_t)100),
        value.raw.data);
}

static int
base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* False when |text| is no base64 of exactly |width| bytes. */
static bool
decode_base64(rk_str text, uint8_t *out, size_t width)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;

    while (text.len > 0 && text.data[text.len - 1] == '=') {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.data[i]);
        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (n == width) {
                return false;
            }
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == width;
}

static rk_code
from_base64(rk__rest *r, const rk_field *field, rk_json_value value, uint8_t *out, size_t width)
{
    rk_str text;

    RK_RET(rk_json_get_str(value, &text, r->req.ctx.arena));
    return decode_base64(text, out, width)
               ? RK_OK
               : fail_vector(r, field, value, "the vector is no base64 of the right length");
}

static rk_code
from_numbers(rk__rest *r, const rk_field *field, rk_json_value value, uint8_t *out)
{
    size_t n = rk_json_len(value);
    size_t want = field->type == RK_BINARY_VECTOR ? field->dim / 8 : field->dim;
    const char *what = field->type == RK_BINARY_VECTOR ? "byte"
                       : field->type == RK_INT8_VECTOR ? "int8"
                                                       : "float";
    rk_json_iter iter;
    rk_json_value item;

    if (n != want) {
        return fail_dim(r, field, value, n, what);
    }
    rk_json_iter_init(&iter, value);
    for (size_t i = 0; rk_json_iter_next(&iter, NULL, &item); i++) {
        float f = 0;
        int64_t integer = 0;
        bool ok;
        switch ((int)field->type) {
        case RK_BINARY_VECTOR:
            ok = rk_json_get_i64(item, &integer) && integer >= 0 && integer <= 255;
            out[i] = (uint8_t)integer;
            break;
        case RK_INT8_VECTOR:
            ok = rk_json_get_i64(item, &integer) && integer >= INT8_MIN && integer <= INT8_MAX;
            out[i] = (uint8_t)integer;
            break;
        case RK_FLOAT16_VECTOR:
            ok = rk_json_get_f32(item, &f);
            rk_put_u16le(out + i * 2, rk_f32_to_f16(f));
            break;
        case RK_BFLOAT16_VECTOR:
            ok = rk_json_get_f32(item, &f);
            rk_put_u16le(out + i * 2, rk_f32_to_bf16(f));
            break;
        default:
            ok = rk_json_get_f32(item, &f);
            memcpy(out + i * sizeof(f), &f, sizeof(f));
            break;
        }
        if (!ok) {
            return fail_vector(r, field, value,
                               "the vector holds something that is no number in range");
        }
    }
    return RK_OK;
}

/* ---- sparse ---- */

static int
compare_pairs(const void *a, const void *b)
{
    uint32_t x = rk_get_u32le(a);
    uint32_t y = rk_get_u32le(b);
    return x < y ? -1 : x > y;
}

static bool
put_pair(uint8_t *at, rk_str index, rk_json_value value)
{
    int64_t i = 0;
    float f = 0;

    if (!rk_str_to_i64(index, &i) || i < 0 || i > UINT32_MAX || !rk_json_get_f32(value, &f)) {
        return false;
    }
    rk_put_u32le(at, (uint32_t)i);
    memcpy(at + 4, &f, sizeof(f));
    return true;
}

static rk_code
from_sparse(rk__rest *r, const rk_field *field, rk_json_value value, rk_str *out)
{
    rk_json_value indices = rk__rest_find_exact(value, "indices");
    rk_json_value values = rk__rest_find_exact(value, "values");
    bool two = indices.type == RK_JSON_ARRAY && values.type == RK_JSON_ARRAY;
    size_t n = two ? rk_json_len(indices) : rk_json_len(value);
    uint8_t *pairs = (uint8_t *)rk_arena_alloc(r->req.ctx.arena, n * 8 + 8);
    rk_json_iter a, b;
    rk_json_value key, item;
    bool ok = true;

    if (!pairs) {
        return rk__fail_memory(r->req.ctx.err);
    }
    if (two && rk_json_len(values) != n) {
        return fail_vector(r, field, value, "indices and values differ in length");
    }
    rk_json_iter_init(&a, two ? indices : value);
    rk_json_iter_init(&b, values);
    for (size_t i = 0; i < n && ok; i++) {
        if (two) {
            ok = rk_json_iter_next(&a, NULL, &key) && rk_json_iter_next(&b, NULL, &item) &&
                 put_pair(pairs + i * 8, key.raw, item);
        } else {
            rk_str name = {NULL, 0};
            ok = rk_json_iter_next(&a, &key, &item);
            RK_RET(rk_json_get_str(key, &name, r->req.ctx.arena));
            ok = ok && put_pair(pairs + i * 8, name, item);
        }
    }
    if (!ok) {
        return fail_vector(r, field, value,
                           "a sparse vector needs whole numbers as indexes and numbers as values");
    }
    qsort(pairs, n, 8, compare_pairs);
    *out = (rk_str){(const char *)pairs, n * 8};
    return RK_OK;
}

rk_code
rk__rest_vector(rk__rest *r, const rk_field *field, rk_json_value value, rk_str *out)
{
    size_t width = rk_field_row_bytes(field);
    bool packed = field->type == RK_BINARY_VECTOR || field->type == RK_FLOAT16_VECTOR ||
                  field->type == RK_BFLOAT16_VECTOR;

    if (field->type == RK_SPARSE_VECTOR) {
        return value.type == RK_JSON_OBJECT
                   ? from_sparse(r, field, value, out)
                   : fail_vector(r, field, value, "a sparse vector must be an object");
    }
    uint8_t *bytes = (uint8_t *)rk_arena_alloc(r->req.ctx.arena, width + 16);
    if (!bytes) {
        return rk__fail_memory(r->req.ctx.err);
    }
    *out = (rk_str){(const char *)bytes, width};
    if (packed && value.type == RK_JSON_STRING) {
        return from_base64(r, field, value, bytes, width);
    }
    if (value.type != RK_JSON_ARRAY) {
        return fail_vector(r, field, value, "a vector must be an array of numbers");
    }
    return from_numbers(r, field, value, bytes);
}
