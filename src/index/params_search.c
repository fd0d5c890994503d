/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a search says to wrong search parameters: the public sentences. Judged where an index is
 * searched, so that brute force over rows without one ignores ef, nprobe and the like. |k| is limit
 * plus offset of the request.
 */
#include <inttypes.h>
#include <strings.h>

#include "index/params.h"

#define CONFLICT "Type conflict in json: param '%s' (%.*s) should be "

static rk_code
check_int(const rk__param_spec *spec, rk_str text, rk_err *err)
{
    int64_t value = 0;

    if (!rk_str_to_i64(rk_str_trim(text), &value)) {
        return rk_fail(err, RK_ESEGCORE, CONFLICT "integer", spec->name, RK_STR_ARG(text));
    }
    if (value < (int64_t)spec->min || value > (int64_t)spec->max) {
        return rk_fail(err, RK_ESEGCORE,
                       "Out of range in json: param '%s' (%" PRId64 ") should be in range [%" PRId64
                       ", %" PRId64 "]",
                       spec->name, value, (int64_t)spec->min, (int64_t)spec->max);
    }
    return RK_OK;
}

static rk_code
check_float(const rk__param_spec *spec, rk_str text, rk_err *err)
{
    double value = 0;
    bool open = spec->type == RK__PARAM_FLOAT_OPEN;

    if (!rk_str_to_f64(rk_str_trim(text), &value)) {
        return rk_fail(err, RK_ESEGCORE, CONFLICT "a number", spec->name, RK_STR_ARG(text));
    }
    if (!(value >= spec->min && (open ? value < spec->max : value <= spec->max))) {
        return rk_fail(err, RK_ESEGCORE,
                       "Out of range in json: param '%s' (%.*s) should be in range [%f, %f%c",
                       spec->name, RK_STR_ARG(rk_str_trim(text)), spec->min, spec->max,
                       open ? ')' : ']');
    }
    return RK_OK;
}

static rk_code
check_value(const rk__param_spec *spec, rk_params params, rk_err *err)
{
    rk_str text = rk_params_get(params, spec->name);
    bool value = false;

    if (!text.data) {
        return RK_OK;
    }
    switch (spec->type) {
    case RK__PARAM_INT:
        return check_int(spec, text, err);
    case RK__PARAM_FLOAT:
    case RK__PARAM_FLOAT_OPEN:
        return check_float(spec, text, err);
    case RK__PARAM_BOOL:
        return rk_str_trim(text).len > 1 && rk_str_to_bool(rk_str_trim(text), &value)
                   ? RK_OK
                   : rk_fail(err, RK_ESEGCORE, CONFLICT "a boolean", spec->name, RK_STR_ARG(text));
    case RK__PARAM_WORD:
        return rk__word_find(spec->words, text) >= 0
                   ? RK_OK
                   : rk_fail(err, RK_ESEGCORE, CONFLICT "a string", spec->name, RK_STR_ARG(text));
    case RK__PARAM_NONE:
        break;
    }
    return RK_OK;
}

/* |key| must be k at least; |shown| is the name that the sentence has. */
static rk_code
check_at_least_k(rk_params params, const char *key, const char *shown, uint32_t k, rk_err *err)
{
    int64_t value = rk__param_int(params, key, INT32_MAX, 0, INT32_MAX);

    if (value >= (int64_t)k) {
        return RK_OK;
    }
    return rk_fail(err, RK_ESEGCORE,
                   "failed to search: config={\"%s\":%" PRId64
                   ",\"k\":%u} out of range in json: %s(%" PRId64 ") should be larger than k(%u)",
                   shown, value, k, shown, value, k);
}

static rk_code
check_kind(const rk__kind_spec *spec, rk_params params, uint32_t k, rk_err *err)
{
    for (size_t i = 0; i < RK__SEARCH_PARAMS_MAX && spec->search[i].type != RK__PARAM_NONE; i++) {
        RK_RET(check_value(&spec->search[i], params, err));
    }
    switch ((int)spec->id) {
    case RK__KIND_HNSW:
    case RK__KIND_HNSW_SQ:
    case RK__KIND_HNSW_PQ:
    case RK__KIND_HNSW_PRQ:
        return check_at_least_k(params, "ef", "ef", k, err);
    case RK__KIND_SCANN:
        return check_at_least_k(params, "reorder_k", "reorder_k", k, err);
    case RK__KIND_DISKANN:
    case RK__KIND_AISAQ:
        RK_RET(check_at_least_k(params, "search_list", "search_list_size", k, err));
        return check_at_least_k(params, "search_list_size", "search_list_size", k, err);
    default:
        return RK_OK;
    }
}

rk_code
rk_index_check_search(rk_str index_type, rk_params params, uint32_t k, rk_err *err)
{
    if (rk__kind_is_auto(index_type)) { /* may stand for any of these */
        for (size_t i = 0; i < rk__kind_table_len; i++) {
            if (rk__kind_table[i].automatic) {
                RK_RET(check_kind(&rk__kind_table[i], params, k, err));
            }
        }
        return RK_OK;
    }
    const rk__kind_spec *spec = rk__kind_find(index_type);
    if (!spec) {
        return rk_fail(err, RK_EINVAL,
                       "invalid parameter[expected=valid index][actual=invalid index type: %.*s]",
                       RK_STR_ARG(index_type));
    }
    return check_kind(spec, params, k, err);
}
