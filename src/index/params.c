/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index kinds and their parameters: which names exist, which vector types and metrics they take,
 * which values are legal, and the public sentences for what is not. Parameters arrive as text;
 * CreateIndex judges build values, a search judges search values where an index is searched. Order
 * of the build checks: name, AUTOINDEX rules or metric, data type, values.
 *
 * A name that the API knows but this build has no engine for is refused with
 * RK_EINDEX_NOT_SUPPORTED, an unknown name with RK_EINVAL as the API does. Keys that no kind knows
 * are ignored, as the API does.
 */
#include <inttypes.h>

#include "index/index_private.h"

#define T_F32    1u
#define T_HALF   2u
#define T_I8     4u
#define T_BIN    8u
#define T_SPARSE 16u
#define T_FLOAT  (T_F32 | T_HALF)
#define T_DENSE  (T_FLOAT | T_I8)

#define INT_VALUE_MAX INT64_C(2147483647)
#define BUILD_TAIL    ": invalid parameter[expected=valid index params][actual=invalid index params]"

typedef struct param_spec {
    const char *name;
    bool is_float; /* bounds are then [min, max) */
    int64_t min;
    int64_t max;
} param_spec;

typedef struct kind_spec {
    const char *name;
    rk__kind_id id; /* 0: known to the API, not in this build */
    unsigned types;
    param_spec build[3];
    param_spec search[2];
} kind_spec;

static const kind_spec kinds[] = {
    {"FLAT", RK__KIND_FLAT, T_DENSE, {{0}}, {{0}}},
    {"BIN_FLAT", RK__KIND_BIN_FLAT, T_BIN, {{0}}, {{0}}},
    {"HNSW",
     RK__KIND_HNSW,
     T_DENSE | T_BIN,
     {{"M", false, 2, 2048}, {"efConstruction", false, 1, INT_VALUE_MAX}},
     {{"ef", false, 1, INT_VALUE_MAX}}},
    {"IVF_FLAT",
     RK__KIND_IVF_FLAT,
     T_FLOAT,
     {{"nlist", false, 1, 65536}},
     {{"nprobe", false, 1, 65536}, {"max_empty_result_buckets", false, 1, 65536}}},
    {"BIN_IVF_FLAT",
     RK__KIND_BIN_IVF_FLAT,
     T_BIN,
     {{"nlist", false, 1, 65536}},
     {{"nprobe", false, 1, 65536}, {"max_empty_result_buckets", false, 1, 65536}}},
    {"SPARSE_INVERTED_INDEX",
     RK__KIND_SPARSE_INVERTED,
     T_SPARSE,
     {{"drop_ratio_build", true, 0, 1}},
     {{"drop_ratio_search", true, 0, 1}}},
    {"SPARSE_WAND",
     RK__KIND_SPARSE_WAND,
     T_SPARSE,
     {{"drop_ratio_build", true, 0, 1}},
     {{"drop_ratio_search", true, 0, 1}}},
    {"IVF_SQ8", RK__KIND_IVF_SQ8, T_DENSE, {{0}}, {{0}}},
    {"IVF_PQ", RK__KIND_IVF_PQ, T_DENSE, {{0}}, {{0}}},
    {"IVF_RABITQ", RK__KIND_IVF_RABITQ, T_FLOAT, {{0}}, {{0}}},
    {"IVF_RABITQ_FASTSCAN", RK__KIND_IVF_RABITQ_FASTSCAN, T_FLOAT, {{0}}, {{0}}},
    {"SCANN", RK__KIND_SCANN, T_DENSE, {{0}}, {{0}}},
    {"HNSW_SQ", RK__KIND_HNSW_SQ, T_DENSE, {{0}}, {{0}}},
    {"HNSW_PQ", RK__KIND_HNSW_PQ, T_DENSE, {{0}}, {{0}}},
    {"HNSW_PRQ", RK__KIND_HNSW_PRQ, T_DENSE, {{0}}, {{0}}},
    {"DISKANN", RK__KIND_DISKANN, T_FLOAT, {{0}}, {{0}}},
    {"AISAQ", RK__KIND_AISAQ, T_FLOAT, {{0}}, {{0}}},
    {"MINHASH_LSH", RK__KIND_MINHASH_LSH, T_BIN, {{0}}, {{0}}},
};

static const char *const sparse_algorithms[] = {
    "TAAT_NAIVE", "DAAT_WAND", "DAAT_MAXSCORE", "BLOCK_MAX_MAXSCORE", "BLOCK_MAX_WAND", "SINDI",
};

rk_str
rk_params_get(rk_params params, const char *key)
{
    for (size_t i = 0; i < params.n; i++) {
        if (rk_str_is(params.data[i].key, key)) {
            return params.data[i].value;
        }
    }
    return (rk_str){NULL, 0};
}

int64_t
rk__param_int(rk_params params, const char *key, int64_t fallback, int64_t min, int64_t max)
{
    rk_str text = rk_params_get(params, key);
    int64_t value = 0;

    if (!text.data || !rk_str_to_i64(rk_str_trim(text), &value)) {
        return fallback;
    }
    return value < min ? min : value > max ? max : value;
}

double
rk__param_float(rk_params params, const char *key, double fallback, double min, double max)
{
    rk_str text = rk_params_get(params, key);
    double value = 0;

    if (!text.data || !rk_str_to_f64(rk_str_trim(text), &value) || !(value >= min)) {
        return fallback;
    }
    return value > max ? max : value;
}

static const kind_spec *
find_kind(rk_str name)
{
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        if (rk_str_is(name, kinds[i].name)) {
            return &kinds[i];
        }
    }
    return NULL;
}

static unsigned
type_bit(rk_vector_type type)
{
    switch (type) {
    case RK_VEC_BINARY:
        return T_BIN;
    case RK_VEC_F32:
        return T_F32;
    case RK_VEC_F16:
    case RK_VEC_BF16:
        return T_HALF;
    case RK_VEC_SPARSE:
        return T_SPARSE;
    case RK_VEC_I8:
        return T_I8;
    }
    return 0;
}

static const char *
type_name(rk_vector_type type)
{
    switch (type) {
    case RK_VEC_BINARY:
        return "BinaryVector";
    case RK_VEC_F32:
        return "FloatVector";
    case RK_VEC_F16:
        return "Float16Vector";
    case RK_VEC_BF16:
        return "BFloat16Vector";
    case RK_VEC_SPARSE:
        return "SparseFloatVector";
    case RK_VEC_I8:
        return "Int8Vector";
    }
    return "Unknown";
}

static bool
is_auto(rk_str name)
{
    return !name.data || rk_str_is(name, "AUTOINDEX");
}

rk__kind_id
rk__kind_resolve(rk_str index_type, rk_vector_type type, size_t rows)
{
    if (!is_auto(index_type)) {
        const kind_spec *spec = find_kind(index_type);
        return spec ? spec->id : RK__KIND_NONE;
    }
    switch (type_bit(type)) {
    case T_BIN:
        return rows < 65536 ? RK__KIND_BIN_FLAT : RK__KIND_BIN_IVF_FLAT;
    case T_SPARSE:
        return RK__KIND_SPARSE_INVERTED;
    default:
        return rows < 1024 ? RK__KIND_FLAT : RK__KIND_HNSW;
    }
}

const char *
rk__kind_name(rk__kind_id kind)
{
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        if (kinds[i].id == kind) {
            return kinds[i].name;
        }
    }
    return "";
}

static bool
metric_of_type(rk_vector_type type, rk_metric metric)
{
    switch (metric) {
    case RK_METRIC_L2:
    case RK_METRIC_COSINE:
        return type_bit(type) & T_DENSE;
    case RK_METRIC_IP:
        return type_bit(type) & (T_DENSE | T_SPARSE);
    case RK_METRIC_HAMMING:
    case RK_METRIC_JACCARD:
    case RK_METRIC_SUBSTRUCTURE:
    case RK_METRIC_SUPERSTRUCTURE:
    case RK_METRIC_MHJACCARD:
        return type == RK_VEC_BINARY;
    case RK_METRIC_NONE:
        break;
    }
    return false;
}

bool
rk__kind_takes(rk__kind_id kind, rk_vector_type type, rk_metric metric)
{
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        if (kinds[i].id == kind) {
            return (kinds[i].types & type_bit(type)) != 0 && metric_of_type(type, metric);
        }
    }
    return false;
}

/* ---- CreateIndex ---- */

static rk_code
check_metric(rk_vector_type type, rk_metric metric, rk_err *err)
{
    const char *family = type == RK_VEC_BINARY ? "binary" : type == RK_VEC_I8 ? "int" : "float";

    if (metric == RK_METRIC_NONE) {
        return rk_fail(err, RK_EINVAL, "metric type not set for vector index" BUILD_TAIL);
    }
    if (metric_of_type(type, metric)) {
        return RK_OK;
    }
    if (type == RK_VEC_SPARSE) {
        return rk_fail(err, RK_EINVAL,
                       "only IP&BM25 is the supported metric type for sparse index" BUILD_TAIL);
    }
    return rk_fail(err, RK_EINVAL, "%s vector index does not support metric type: %s" BUILD_TAIL,
                   family, rk_metric_name(metric));
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

static rk_code
check_build_int(const param_spec *spec, rk_str text, rk_err *err)
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
            return rk_fail(err, RK_EINVAL,
                           "integer value out of range, key: '%s', value: '%.*s'" BUILD_TAIL,
                           spec->name, RK_STR_ARG(text));
        }
        if (rk_str_to_f64(trimmed, &number)) {
            return rk_fail(err, RK_EINVAL,
                           "wrong data type in json, key: '%s', value: '%.*s'" BUILD_TAIL,
                           spec->name, RK_STR_ARG(text));
        }
        return rk_fail(err, RK_EINVAL, "invalid integer value, key: '%s', value: '%.*s'" BUILD_TAIL,
                       spec->name, RK_STR_ARG(text));
    }
    if (value > INT_VALUE_MAX || value < -INT_VALUE_MAX - 1) {
        return rk_fail(err, RK_EINVAL,
                       "integer value out of range, key: '%s', value: '%.*s'" BUILD_TAIL,
                       spec->name, RK_STR_ARG(text));
    }
    if (value < spec->min || value > spec->max) {
        return rk_fail(err, RK_EINVAL,
                       "Out of range in json: param '%s' (%" PRId64 ") should be in range [%" PRId64
                       ", %" PRId64 "]" BUILD_TAIL,
                       spec->name, value, spec->min, spec->max);
    }
    return RK_OK;
}

static rk_code
check_build_float(const param_spec *spec, rk_str text, rk_err *err)
{
    double value = 0;

    if (!rk_str_to_f64(rk_str_trim(text), &value)) {
        return rk_fail(err, RK_EINVAL, "invalid float value, key: '%s', value: '%.*s'" BUILD_TAIL,
                       spec->name, RK_STR_ARG(text));
    }
    if (!(value >= (double)spec->min && value < (double)spec->max)) {
        return rk_fail(
            err, RK_EINVAL,
            "Out of range in json: param '%s' (%.*s) should be in range [%.6f, %.6f)" BUILD_TAIL,
            spec->name, RK_STR_ARG(text), (double)spec->min, (double)spec->max);
    }
    return RK_OK;
}

static rk_code
check_sparse_algorithm(rk_params params, rk_err *err)
{
    rk_str name = rk_params_get(params, "inverted_index_algo");

    if (!name.data) {
        return RK_OK;
    }
    for (size_t i = 0; i < RK_COUNT(sparse_algorithms); i++) {
        if (rk_str_is(name, sparse_algorithms[i])) {
            return RK_OK;
        }
    }
    return rk_fail(
        err, RK_EINVAL,
        "sparse inverted index algo %.*s not found or not supported, supported: "
        "[TAAT_NAIVE DAAT_WAND DAAT_MAXSCORE BLOCK_MAX_MAXSCORE BLOCK_MAX_WAND SINDI]" BUILD_TAIL,
        RK_STR_ARG(name));
}

rk_code
rk_index_check(rk_str index_type, rk_vector_type type, uint32_t dim, rk_metric metric,
               rk_params params, rk_err *err)
{
    RK_UNUSED(dim); /* kinds that divide the dimension will look at it */
    if (is_auto(index_type)) {
        return check_auto(type, metric, params, err);
    }
    const kind_spec *spec = find_kind(index_type);
    if (!spec) {
        return rk_fail(err, RK_EINVAL,
                       "invalid parameter[expected=valid index][actual=invalid index type: %.*s]",
                       RK_STR_ARG(index_type));
    }
    RK_RET(check_metric(type, metric, err));
    if (!(spec->types & type_bit(type))) {
        return rk_fail(err, RK_EINVAL, "data type %s can't build with this index %s" BUILD_TAIL,
                       type_name(type), spec->name);
    }
    if (!rk__kind_verbs(spec->id)) {
        return rk_fail(err, RK_EINDEX_NOT_SUPPORTED,
                       "index type %s is known but not part of this build; dense vectors can use "
                       "HNSW, IVF_FLAT, FLAT or AUTOINDEX: "
                       "index type not supported",
                       spec->name);
    }
    for (size_t i = 0; i < RK_COUNT(spec->build) && spec->build[i].name; i++) {
        rk_str text = rk_params_get(params, spec->build[i].name);
        if (text.data) {
            RK_RET(spec->build[i].is_float ? check_build_float(&spec->build[i], text, err)
                                           : check_build_int(&spec->build[i], text, err));
        }
    }
    if (spec->id == RK__KIND_HNSW &&
        (rk_params_get(params, "refine").data || rk_params_get(params, "refine_type").data)) {
        return rk_fail(err, RK_EINVAL, "refine is not supported for this index" BUILD_TAIL);
    }
    if (spec->types == T_SPARSE) {
        return check_sparse_algorithm(params, err);
    }
    return RK_OK;
}

/* ---- search ---- */

static rk_code
check_search_value(const param_spec *spec, rk_str text, rk_err *err)
{
    int64_t value = 0;
    double number = 0;
    rk_str trimmed = rk_str_trim(text);

    if (spec->is_float) {
        if (!rk_str_to_f64(trimmed, &number)) {
            return rk_fail(err, RK_ESEGCORE,
                           "Type conflict in json: param '%s' (%.*s) should be a number",
                           spec->name, RK_STR_ARG(text));
        }
        if (!(number >= (double)spec->min && number < (double)spec->max)) {
            return rk_fail(
                err, RK_ESEGCORE,
                "Out of range in json: param '%s' (%.*s) should be in range [%.6f, %.6f)",
                spec->name, RK_STR_ARG(text), (double)spec->min, (double)spec->max);
        }
        return RK_OK;
    }
    if (!rk_str_to_i64(trimmed, &value)) {
        return rk_fail(err, RK_ESEGCORE,
                       "Type conflict in json: param '%s' (%.*s) should be integer", spec->name,
                       RK_STR_ARG(text));
    }
    if (value < spec->min || value > spec->max) {
        return rk_fail(err, RK_ESEGCORE,
                       "Out of range in json: param '%s' (%" PRId64 ") should be in range [%" PRId64
                       ", %" PRId64 "]",
                       spec->name, value, spec->min, spec->max);
    }
    return RK_OK;
}

/* AUTOINDEX may stand for any of these, so it judges the keys of all. */
static rk_code
check_search_kind(const kind_spec *spec, rk_params params, uint32_t k, rk_err *err)
{
    for (size_t i = 0; i < RK_COUNT(spec->search) && spec->search[i].name; i++) {
        rk_str text = rk_params_get(params, spec->search[i].name);
        if (text.data) {
            RK_RET(check_search_value(&spec->search[i], text, err));
        }
    }
    if (spec->id == RK__KIND_HNSW && rk_params_get(params, "ef").data) {
        int64_t ef = rk__param_int(params, "ef", 0, 0, INT_VALUE_MAX);
        if (ef < (int64_t)k) {
            return rk_fail(err, RK_ESEGCORE,
                           "failed to search: config={\"ef\":%" PRId64
                           ",\"k\":%u} out of range in json: ef(%" PRId64
                           ") should be larger than k(%u)",
                           ef, k, ef, k);
        }
    }
    return RK_OK;
}

rk_code
rk_index_check_search(rk_str index_type, rk_params params, uint32_t k, rk_err *err)
{
    if (is_auto(index_type)) {
        for (size_t i = 0; i < RK_COUNT(kinds); i++) {
            if (rk__kind_verbs(kinds[i].id)) {
                RK_RET(check_search_kind(&kinds[i], params, k, err));
            }
        }
        return RK_OK;
    }
    const kind_spec *spec = find_kind(index_type);
    if (!spec) {
        return rk_fail(err, RK_EINVAL,
                       "invalid parameter[expected=valid index][actual=invalid index type: %.*s]",
                       RK_STR_ARG(index_type));
    }
    return check_search_kind(spec, params, k, err);
}
