/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CreateIndex says to wrong index parameters: the public sentences. Order of the checks, as in
 * the API: mmap.enabled, name, warmup, AUTOINDEX rules or metric, data type, values, and what
 * relates values to each other and to the dimension.
 *
 * A name that the API knows but this build has no engine for is refused with
 * RK_EINDEX_NOT_SUPPORTED; an unknown name with RK_EINVAL as the API does, the kinds of graphics
 * processors among them, with the reason behind it.
 */
#include <inttypes.h>
#include <strings.h>

#include "index/params.h"

#define INT_VALUE_MAX INT64_C(2147483647)

static rk_code
check_metric(rk_vector_type type, rk_metric metric, rk_err *err)
{
    const char *family = type == RK_VEC_BINARY ? "binary" : type == RK_VEC_I8 ? "int" : "float";

    if (metric == RK_METRIC_NONE) {
        return rk_fail(err, RK_EINVAL, "metric type not set for vector index" RK__BUILD_TAIL);
    }
    if (rk__metric_of_type(type, metric)) {
        return RK_OK;
    }
    if (type == RK_VEC_SPARSE) {
        return rk_fail(err, RK_EINVAL,
                       "only IP&BM25 is the supported metric type for sparse index" RK__BUILD_TAIL);
    }
    return rk_fail(err, RK_EINVAL,
                   "%s vector index does not support metric type: %s" RK__BUILD_TAIL, family,
                   rk_metric_name(metric));
}

/* A metric that the field may have and the kind does not. */
static rk_code
check_kind_metric(const rk__kind_spec *spec, rk_metric metric, rk_err *err)
{
    rk_buf list = {0};
    rk_code code = RK_OK;

    if (spec->metrics >> metric & 1u) {
        return RK_OK;
    }
    for (unsigned m = 1; m <= RK_METRIC_MHJACCARD; m++) {
        if (spec->metrics >> m & 1u) {
            rk_buf_printf(&list, "%s%s", list.len > 0 ? " " : "", rk_metric_name((rk_metric)m));
        }
    }
    code = rk_fail(err, RK_EINVAL,
                   "metric type %s not found or not supported, supported: [%.*s]" RK__BUILD_TAIL,
                   rk_metric_name(metric), (int)list.len, list.data ? (const char *)list.data : "");
    rk_buf_deinit(&list);
    return code;
}

static rk_code
check_auto(rk_vector_type type, rk_metric metric, rk_params params, rk_err *err)
{
    static const char *const allowed[] = {"index_type", "metric_type", "dim", "max_length"};

    for (size_t i = 0; i < params.n; i++) {
        bool ok = rk_str_is(params.data[i].key, "params") &&
                  rk_str_is(rk_str_trim(params.data[i].value), "{}");
        for (size_t j = 0; j < RK_COUNT(allowed); j++) {
            ok = ok || rk_str_is(params.data[i].key, allowed[j]);
        }
        if (!ok) {
            return rk_fail(err, RK_EUNEXPECTED,
                           "only metric type can be passed when use AutoIndex");
        }
    }
    return metric == RK_METRIC_NONE ? RK_OK : check_metric(type, metric, err);
}

/* ---- one value ---- */

static rk_code
fail_int(const rk__param_spec *spec, rk_str text, const char *what, rk_err *err)
{
    return rk_fail(err, RK_EINVAL, "%s, key: '%s', value: '%.*s'" RK__BUILD_TAIL, what, spec->name,
                   RK_STR_ARG(text));
}

static rk_code
check_int(const rk__param_spec *spec, rk_str text, rk_err *err)
{
    int64_t value = 0;
    double number = 0;
    rk_str trimmed = rk_str_trim(text);

    if (!rk_str_to_i64(trimmed, &value)) {
        bool digits = trimmed.len > 0;
        for (size_t i = trimmed.len > 0 && trimmed.data[0] == '-' ? 1 : 0; i < trimmed.len; i++) {
            digits = digits && trimmed.data[i] >= '0' && trimmed.data[i] <= '9';
        }
        if (digits && trimmed.len > 1) {
            return fail_int(spec, text, "integer value out of range", err);
        }
        return fail_int(spec, text,
                        rk_str_to_f64(trimmed, &number) ? "wrong data type in json"
                                                        : "invalid integer value",
                        err);
    }
    if (value > INT_VALUE_MAX || value < -INT_VALUE_MAX - 1) {
        return fail_int(spec, text, "integer value out of range", err);
    }
    if (value < (int64_t)spec->min || value > (int64_t)spec->max) {
        return rk_fail(err, RK_EINVAL,
                       "Out of range in json: param '%s' (%" PRId64 ") should be in range [%" PRId64
                       ", %" PRId64 "]" RK__BUILD_TAIL,
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
        return fail_int(spec, text, "invalid float value", err);
    }
    if (!(value >= spec->min && (open ? value < spec->max : value <= spec->max))) {
        return rk_fail(err, RK_EINVAL,
                       "Out of range in json: param '%s' (%.*s) should be in range [%f, "
                       "%f%c" RK__BUILD_TAIL,
                       spec->name, RK_STR_ARG(rk_str_trim(text)), spec->min, spec->max,
                       open ? ')' : ']');
    }
    return RK_OK;
}

static bool
is_truth_word(rk_str text)
{
    return (text.len == 4 && strncasecmp(text.data, "true", 4) == 0) ||
           (text.len == 5 && strncasecmp(text.data, "false", 5) == 0);
}

static rk_code
check_word(const rk__param_spec *spec, rk_str text, rk_err *err)
{
    if (rk__word_find(spec->words, text) >= 0) {
        return RK_OK;
    }
    if (!spec->words->after) {
        return rk_fail(err, RK_EINVAL, "%s" RK__BUILD_TAIL, spec->words->before);
    }
    return rk_fail(err, RK_EINVAL, "%s%.*s%s" RK__BUILD_TAIL, spec->words->before, RK_STR_ARG(text),
                   spec->words->after);
}

static rk_code
check_value(const rk__param_spec *spec, rk_params params, rk_err *err)
{
    rk_str text = rk_params_get(params, spec->name);

    if (!text.data) {
        return spec->required ? rk_fail(err, RK_EINVAL,
                                        "param '%s' not exist in json" RK__BUILD_TAIL, spec->name)
                              : RK_OK;
    }
    switch (spec->type) {
    case RK__PARAM_INT:
        return check_int(spec, text, err);
    case RK__PARAM_FLOAT:
    case RK__PARAM_FLOAT_OPEN:
        return check_float(spec, text, err);
    case RK__PARAM_BOOL:
        return is_truth_word(rk_str_trim(text))
                   ? RK_OK
                   : rk_fail(err, RK_EINVAL,
                             "Type conflict in json: param '%s' (\"%.*s\") should be a "
                             "boolean" RK__BUILD_TAIL,
                             spec->name, RK_STR_ARG(text));
    case RK__PARAM_WORD:
        return check_word(spec, text, err);
    case RK__PARAM_NONE:
        break;
    }
    return RK_OK;
}

/* ---- values together ---- */

static rk_code
check_subquantizers(const rk__kind_spec *spec, uint32_t dim, rk_params params, rk_err *err)
{
    int64_t m = rk__build_int(spec->id, params, "m");

    if (dim % (uint64_t)m == 0) {
        return RK_OK;
    }
    return rk_fail(err, RK_EINVAL,
                   "The dimension of %s vector (dim) should be a multiple of the number of "
                   "subquantizers (m). Dimension: %u, m: %" PRId64 RK__BUILD_TAIL,
                   spec->id == RK__KIND_HNSW_PQ ? "the" : "a", dim, m);
}

static rk_code
check_minhash(uint32_t dim, rk_params params, rk_err *err)
{
    int64_t width = rk__build_int(RK__KIND_MINHASH_LSH, params, "mh_element_bit_width");
    int64_t bands = rk__build_int(RK__KIND_MINHASH_LSH, params, "mh_lsh_band");

    if (width % 8 != 0 || dim % width != 0) {
        return rk_fail(err, RK_EINVAL,
                       "mh_element_bit_width (%" PRId64
                       ") should be a multiple of 8 that divides the dimension (%u)" RK__BUILD_TAIL,
                       width, dim);
    }
    if (bands > dim / width) {
        return rk_fail(err, RK_EINVAL,
                       "mh_lsh_band (%" PRId64 ") should not be larger than the number of hashes "
                       "of a vector (%" PRId64 ")" RK__BUILD_TAIL,
                       bands, dim / width);
    }
    return RK_OK;
}

static rk_code
check_together(const rk__kind_spec *spec, uint32_t dim, rk_params params, rk_err *err)
{
    int64_t sub_dim = 0;

    if (dim == 0) {
        return RK_OK; /* sparse */
    }
    if (spec->id == RK__KIND_HNSW &&
        (rk_params_get(params, "refine").data || rk_params_get(params, "refine_type").data)) {
        return rk_fail(err, RK_EINVAL, "refine is not supported for this index" RK__BUILD_TAIL);
    }
    if (spec->id == RK__KIND_IVF_PQ || spec->id == RK__KIND_HNSW_PQ ||
        spec->id == RK__KIND_HNSW_PRQ) {
        return check_subquantizers(spec, dim, params, err);
    }
    if (spec->id == RK__KIND_SCANN) {
        sub_dim = rk__build_int(spec->id, params, "sub_dim");
        if (dim % (uint64_t)sub_dim != 0) {
            return rk_fail(err, RK_EINVAL,
                           "The dimension of a vector (dim) should be a multiple of sub_dim. "
                           "Dimension:%u, sub_dim:%" PRId64 RK__BUILD_TAIL,
                           dim, sub_dim);
        }
    }
    return spec->id == RK__KIND_MINHASH_LSH ? check_minhash(dim, params, err) : RK_OK;
}

/* ---- the whole ---- */

static rk_code
check_mmap(rk_str index_type, rk_params params, rk_err *err)
{
    rk_str text = rk_params_get(params, "mmap.enabled");
    const rk__kind_spec *spec = rk__kind_find(index_type);
    bool value = false;

    if (text.data && !rk_str_to_bool(text, &value)) {
        return rk_fail(err, RK_EINVAL,
                       "invalid mmap.enabled value: %.*s, expected: true, false" RK__BUILD_TAIL,
                       RK_STR_ARG(text));
    }
    if (value && spec && spec->no_mmap) {
        return rk_fail(
            err, RK_EINVAL,
            "invalid mmap type params: index type %s does not support mmap" RK__BUILD_TAIL,
            spec->name);
    }
    return RK_OK;
}

static rk_code
check_warmup(rk_params params, rk_err *err)
{
    rk_str text = rk_params_get(params, "warmup");

    if (!text.data || rk_str_is(text, "disable") || rk_str_is(text, "sync") ||
        rk_str_is(text, "async")) {
        return RK_OK;
    }
    return rk_fail(err, RK_EINVAL,
                   "invalid warmup params: invalid warmup policy: %.*s, must be 'disable', 'sync' "
                   "or 'async'" RK__BUILD_TAIL,
                   RK_STR_ARG(text));
}

static rk_code
fail_name(rk_str index_type, rk_err *err)
{
    return rk_fail(err, RK_EINVAL,
                   "invalid parameter[expected=valid index][actual=invalid index type: %.*s]%s",
                   RK_STR_ARG(index_type),
                   rk_str_starts(index_type, "GPU_") ? ": this server is built without GPU" : "");
}

rk_code
rk_index_check(rk_str index_type, rk_vector_type type, uint32_t dim, rk_metric metric,
               rk_params params, rk_err *err)
{
    if (rk__kind_is_auto(index_type)) {
        return check_auto(type, metric, params, err);
    }
    RK_RET(check_mmap(index_type, params, err));
    const rk__kind_spec *spec = rk__kind_find(index_type);
    if (!spec) {
        return fail_name(index_type, err);
    }
    RK_RET(check_warmup(params, err));
    RK_RET(check_metric(type, metric, err));
    if (!(spec->types & rk__type_bit(type))) {
        return rk_fail(err, RK_EINVAL, "data type %s can't build with this index %s" RK__BUILD_TAIL,
                       rk__type_name(type), spec->name);
    }
    RK_RET(check_kind_metric(spec, metric, err));
    for (size_t i = 0; i < RK__BUILD_PARAMS_MAX && spec->build[i].type != RK__PARAM_NONE; i++) {
        RK_RET(check_value(&spec->build[i], params, err));
    }
    RK_RET(check_together(spec, dim, params, err));
    if (!rk__kind_verbs(spec->id)) {
        return rk_fail(
            err, RK_EINDEX_NOT_SUPPORTED,
            "index type %s is known but not part of this build: index type not supported",
            spec->name);
    }
    return RK_OK;
}
