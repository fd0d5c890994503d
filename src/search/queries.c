/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query vectors: their type against the field's, their length, and the conversion of float queries
 * for half-precision fields. Everything behind sees rows in the field's own format.
 */
#include <math.h>

#include "base/util.h"
#include "search/search_private.h"

#define F16_MAX        65504.0f
#define F16_MIN_NORMAL 6.1e-5f

static const char *
type_name(int32_t type)
{
    return type == RK_VARCHAR                                   ? "VarChar"
           : type >= RK_BINARY_VECTOR && type <= RK_INT8_VECTOR ? rk_type_name((rk_type)type)
                                                                : "EmbeddingList";
}

static bool
is_half(rk_type type)
{
    return type == RK_FLOAT16_VECTOR || type == RK_BFLOAT16_VECTOR;
}

static rk_code
check_type(const rk_field *field, int32_t type, rk_err *err)
{
    if (type == 0 || type == (int32_t)field->type ||
        (type == RK_FLOAT_VECTOR && is_half(field->type))) {
        return RK_OK;
    }
    if (is_half(field->type)) {
        return rk_fail_tail(err, RK_EINVAL,
                            "vector type must be the same: field type %s, search type %s",
                            rk_type_name(field->type), type_name(type));
    }
    return rk_fail(err, RK_ESEGCORE,
                   "vector type must be the same, field %.*s - type %s, search ph type %s: segcore "
                   "error[segcoreCode=2000]",
                   RK_STR_ARG(field->name), rk_type_name(field->type), type_name(type));
}

static rk_code
check_size(size_t expected, size_t actual, rk_err *err)
{
    if (expected == actual) {
        return RK_OK;
    }
    return rk_fail(err, RK_ESEGCORE,
                   "vector dimension mismatch, expected vector size(byte) %zu, actual %zu.: "
                   "segcore error[segcoreCode=2032]",
                   expected, actual);
}

static rk_code
check_sparse(rk_str row, rk_err *err)
{
    uint32_t last = 0;

    if (row.len % 8 != 0) {
        return rk_fail_tail(err, RK_EINVAL, "invalid data length in sparse float vector: %zu",
                            row.len);
    }
    for (size_t at = 0; at < row.len; at += 8) {
        uint32_t index = rk_get_u32le(row.data + at);
        float value = pb_f32_at((pb_fixed){(const uint8_t *)row.data + at + 4, 1}, 0);
        if (index == UINT32_MAX) {
            return rk_fail_tail(err, RK_EINVAL,
                                "invalid index in sparse float vector: must be less than 2^32-1");
        }
        if (at > 0 && index <= last) {
            return rk_fail_tail(err, RK_EINVAL, "unsorted or same indices in sparse float vector");
        }
        if (!isfinite(value)) {
            return rk_fail_tail(err, RK_EINVAL, "value '%s' is not a number or infinity",
                                isnan(value) ? "NaN"
                                : value > 0  ? "+Inf"
                                             : "-Inf");
        }
        if (value < 0) {
            return rk_fail_tail(err, RK_EINVAL, "negative value in sparse float vector");
        }
        last = index;
    }
    return RK_OK;
}

static rk_code
to_half(rk_str *out, rk_str query, const rk_field *field, rk_arena *arena, rk_err *err)
{
    uint16_t *to = rk_arena_alloc(arena, (size_t)field->dim * 2);

    if (!to) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < field->dim; i++) {
        float v = pb_f32_at((pb_fixed){(const uint8_t *)query.data, field->dim}, i);
        if (field->type == RK_BFLOAT16_VECTOR) {
            if (!isfinite(v)) {
                return rk_fail_tail(err, RK_EINVAL, "value '%s' is not a number or infinity",
                                    isnan(v) ? "NaN"
                                    : v > 0  ? "+Inf"
                                             : "-Inf");
            }
            to[i] = rk_f32_to_bf16(v);
            continue;
        }
        if (!(fabsf(v) <= F16_MAX)) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "value %g of the query vector exceeds float16 range [-65504, 65504]", (double)v);
        }
        if (v != 0 && fabsf(v) < F16_MIN_NORMAL) {
            return rk_fail_tail(err, RK_EINVAL,
                                "value %g of the query vector underflows float16 precision",
                                (double)v);
        }
        to[i] = rk_f32_to_f16(v);
    }
    *out = (rk_str){(const char *)to, (size_t)field->dim * 2};
    return RK_OK;
}

/* Kernels read vectors at natural alignment; bytes of a message may start anywhere. */
static rk_code
aligned(rk_str *out, rk_str query, rk_arena *arena, rk_err *err)
{
    if (query.len > 0 && (uintptr_t)query.data % 8 != 0) {
        *out = rk_arena_str(arena, query);
        return out->data ? RK_OK : rk__no_memory(err);
    }
    *out = query;
    return RK_OK;
}

rk_code
rk__queries_init(rk_search_plan *plan, const pb_rk_SearchRequest *request, rk_arena *arena,
                 rk_err *err)
{
    const rk_field *field = plan->field;
    bool convert = request->query_type == RK_FLOAT_VECTOR && is_half(field->type);
    size_t expected = convert ? (size_t)field->dim * 4 : rk_field_row_bytes(field);
    rk_str *queries = RK_ARENA_ARRAY(arena, rk_str, request->queries.n + 1);

    if (!queries) {
        return rk__no_memory(err);
    }
    RK_RET(check_type(field, request->query_type, err));
    for (size_t i = 0; i < request->queries.n; i++) {
        rk_str query = request->queries.data[i];
        if (field->type == RK_SPARSE_VECTOR) {
            RK_RET(check_sparse(query, err));
        } else {
            RK_RET(check_size(expected, query.len, err));
        }
        RK_RET(convert ? to_half(&queries[i], query, field, arena, err)
                       : aligned(&queries[i], query, arena, err));
    }
    plan->queries = queries;
    plan->queries_len = request->queries.n;
    return RK_OK;
}
