/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parameters of a search: text pairs, one of which, `params`, holds a JSON object with those of the
 * index.
 *
 * A parameter that asks for something this build does not do is an error that names it; only keys
 * that are hints or without effect here are passed over.
 *
 * Iterator v2 needs no state on the server: a page is the best hits strictly worse than the last
 * score of the page before, so the bound becomes one end of a range search, moved by one float so
 * that the half-open interval excludes it.
 */
#include <float.h>
#include <math.h>

#include "access/search.h"
#include "base/json.h"

#define PARAMS_MAX 1024u /* of the index, in one search; they are looked up one by one */

static rk_code
parse_i64(const pb_common_KeyValuePair_list *list, const char *key, int64_t *out, rk_err *err)
{
    rk_str text = rk__kv_get(list, key);

    if (text.data && !rk_str_to_i64(text, out)) {
        return rk_fail_tail(err, RK_EINVAL, "%s [%.*s] is invalid", key, RK_STR_ARG(text));
    }
    return RK_OK;
}

static bool
said_true(rk_str text)
{
    return rk_str_is(text, "True") || rk_str_is(text, "true");
}

/* ---- what is not built ---- */

static rk_code
refuse_unbuilt(const pb_milvus_SearchRequest *in, rk_err *err)
{
    const pb_common_KeyValuePair_list *p = &in->search_params;

    if (rk__kv_get(p, "group_by_field").len > 0 || rk__kv_get(p, "group_by_fields").len > 0) {
        return rk__fail_unbuilt(err, "grouping search (group_by_field) is");
    }
    if (rk__kv_get(p, "order_by_fields").len > 0) {
        return rk__fail_unbuilt(err, "ordering of search results (order_by_fields) is");
    }
    if (in->function_score && in->function_score->functions.n > 0) {
        return rk__fail_unbuilt(err, "reranking (function_score) is");
    }
    if (in->function_chains.n > 0) {
        return rk__fail_unbuilt(err, "function chains are");
    }
    if (in->highlighter) {
        return rk__fail_unbuilt(err, "highlighting is");
    }
    if (in->search_aggregation) {
        return rk__fail_unbuilt(err, "search aggregation is");
    }
    if (in->sub_reqs.n > 0) {
        return rk__fail_unbuilt(err, "hybrid search is");
    }
    if (in->has_namespace && in->namespace.len > 0) {
        return rk__fail_unbuilt(err, "namespaces are");
    }
    return RK_OK;
}

/* ---- the JSON of `params` ---- */

static rk_code
number_of(const char *key, rk_json_value value, float *out, rk_err *err)
{
    double number = 0;

    if (!rk_json_get_f64(value, &number)) {
        return rk_fail(err, RK_ESEGCORE,
                       "%s: type must be number, but is %.*s: segcore error[segcoreCode=2031]", key,
                       RK_STR_ARG(value.raw));
    }
    *out = (float)number;
    return RK_OK;
}

static rk_code
take_member(rk__search_params *out, rk_str key, rk_json_value value, rk_arena *arena, rk_err *err)
{
    static const char *const optional[] = {"radius", "range_filter", "hints", "metric_type",
                                           "params"};
    rk_str text = value.raw;

    for (size_t i = 0; value.type == RK_JSON_NULL && i < RK_COUNT(optional); i++) {
        if (rk_str_is(key, optional[i])) {
            return RK_OK; /* that of an index is judged with the others */
        }
    }
    if (rk_str_is(key, "radius")) {
        out->has_radius = true;
        return number_of("radius", value, &out->radius, err);
    }
    if (rk_str_is(key, "range_filter")) {
        out->has_range_filter = true;
        return number_of("range_filter", value, &out->range_filter, err);
    }
    if (rk_str_is(key, "hints")) {
        if (rk_json_str_is(value, RK_STR("iterative_filter")) ||
            rk_json_str_is(value, RK_STR("disable")) || rk_json_str_is(value, RK_STR(""))) {
            return RK_OK; /* a hint about speed */
        }
        return rk_fail(err, RK_ESEGCORE,
                       "Create Plan by expr failed:  => hints: %.*s not supported: segcore "
                       "error[segcoreCode=2031]",
                       RK_STR_ARG(value.raw));
    }
    if (rk_str_is(key, "metric_type")) { /* clients copy it in here */
        if (value.type == RK_JSON_STRING && out->metric.len == 0) {
            return rk_json_get_str(value, &out->metric, arena);
        }
        return RK_OK;
    }
    if (value.type == RK_JSON_STRING) {
        RK_RET(rk_json_get_str(value, &text, arena));
    }
    for (size_t i = 0; i < out->params.n; i++) {
        if (rk_str_eq(out->params.data[i]->key, key)) {
            out->params.data[i]->value = text; /* the inner object counts */
            return RK_OK;
        }
    }
    if (out->params.n == PARAMS_MAX) {
        return rk_fail_tail(err, RK_EINVAL, "a search takes at most %u parameters", PARAMS_MAX);
    }
    return rk__kv_add(arena, &out->params, key, text) == RK_OK ? RK_OK : rk__fail_memory(err);
}

static rk_code
take_object(rk__search_params *out, rk_json_value object, rk_arena *arena, rk_err *err)
{
    rk_json_iter iter;
    rk_json_value key, value, inner_key, inner;
    rk_str name;

    rk_json_iter_init(&iter, object);
    while (rk_json_iter_next(&iter, &key, &value)) {
        RK_RET(rk_json_get_str(key, &name, arena));
        if (rk_str_is(name, "params") && value.type == RK_JSON_OBJECT) {
            rk_json_iter nested;
            rk_json_iter_init(&nested, value);
            while (rk_json_iter_next(&nested, &inner_key, &inner)) {
                rk_str inner_name;
                RK_RET(rk_json_get_str(inner_key, &inner_name, arena));
                RK_RET(take_member(out, inner_name, inner, arena, err));
            }
        } else {
            RK_RET(take_member(out, name, value, arena, err));
        }
    }
    return RK_OK;
}

static rk_code
parse_json(rk__search_params *out, rk_str text, rk_arena *arena, rk_err *err)
{
    if (rk_str_trim(text).len == 0) {
        return RK_OK;
    }
    if (rk_json_check(text, RK_JSON_OBJECT_ONLY, err) != RK_OK) {
        return rk_err_wrap(err, "search params in wrong format");
    }
    return take_object(out, rk_json_root(text), arena, err);
}

/* ---- iterators ---- */

static bool
is_uuid(rk_str s)
{
    if (s.len != RK__TOKEN_LEN) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (dash ? c != '-' : !hex) {
            return false;
        }
    }
    return true;
}

static rk_str
new_uuid(rk__req *req)
{
    uint8_t b[16];
    const rk_random *random = req->access->env->random;

    random->bytes(random->self, b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    return rk_arena_printf(req->ctx.arena,
                           "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
                           b[12], b[13], b[14], b[15]);
}

static rk_code
parse_iterator(rk__search_params *out, rk__req *req, const pb_common_KeyValuePair_list *list)
{
    rk_err *err = req->ctx.err;
    rk_str batch = rk__kv_get(list, "search_iter_batch_size");
    rk_str bound = rk__kv_get(list, "search_iter_last_bound");
    rk_str token = rk__kv_get(list, "search_iter_id");
    int64_t size = 0;
    double number = 0;

    out->iterator = said_true(rk__kv_get(list, "iterator"));
    out->iterator_v2 = said_true(rk__kv_get(list, "search_iter_v2"));
    if (!out->iterator_v2) {
        return RK_OK;
    }
    if (!out->iterator) {
        return rk_fail_tail(err, RK_EINVAL,
                            "parse iterator v2 info failed: both iterator and search_iter_v2 must "
                            "be set in the SDK");
    }
    if (!batch.data) {
        return rk_fail_tail(err, RK_EINVAL,
                            "parse iterator v2 info failed: batch size is required");
    }
    if (!rk_str_to_i64(batch, &size) || size < 1 || size > req->access->limits.topk) {
        return rk_fail_tail(err, RK_EINVAL,
                            "parse iterator v2 info failed: batch size is invalid, it should be in "
                            "range [1, %" PRId64 "], but got %.*s",
                            req->access->limits.topk, RK_STR_ARG(batch));
    }
    out->topk = size;
    if (out->offset > 0) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "parse iterator v2 info failed: Setting an offset is not permitted when using a search "
            "iterator v2");
    }
    if (token.len > 0 && !is_uuid(token)) {
        return rk_fail_tail(err, RK_EINVAL, "parse iterator v2 info failed: invalid token format");
    }
    out->token = token.len > 0 ? token : new_uuid(req);
    if (bound.len > 0) {
        if (!rk_str_to_f64(bound, &number)) {
            return rk_fail_tail(err, RK_EINVAL,
                                "parse iterator v2 info failed: last bound [%.*s] is not a number",
                                RK_STR_ARG(bound));
        }
        out->has_last_bound = true;
        out->last_bound = (float)number;
    }
    return out->token.data ? RK_OK : rk__fail_memory(err);
}

/* ---- limits ---- */

static rk_code
check_window(rk__search_params *p, const rk__limits *limits, rk_err *err)
{
    int64_t max = limits->topk;

    if (p->topk > max && p->iterator) {
        p->topk = max;
    }
    if (p->topk < 1 || p->topk > max) {
        return rk_fail_tail(err, RK_EINVAL,
                            "topk [%" PRId64 "] is invalid, it should be in range [1, %" PRId64
                            "], but got %" PRId64,
                            p->topk, max, p->topk);
    }
    if (p->offset < 0 || p->offset > max) {
        return rk_fail_tail(err, RK_EINVAL,
                            "offset [%" PRId64 "] is invalid, it should be in range [1, %" PRId64
                            "], but got %" PRId64,
                            p->offset, max, p->offset);
    }
    if (p->offset + p->topk > max) {
        return rk_fail_tail(err, RK_EINVAL,
                            "offset+topk [%" PRId64
                            "] is invalid, it should be in range [1, %" PRId64
                            "], but got %" PRId64,
                            p->offset + p->topk, max, p->offset + p->topk);
    }
    return RK_OK;
}

rk_code
rk__search_params_parse(rk__search_params *out, rk__req *req, const pb_milvus_SearchRequest *in)
{
    const pb_common_KeyValuePair_list *list = &in->search_params;
    rk_err *err = req->ctx.err;
    rk_str topk = rk__kv_get(list, "topk");
    rk_str text = rk__kv_get(list, "ignore_growing");
    int64_t round_decimal = -1;

    *out = (rk__search_params){.anns_field = rk_str_trim(rk__kv_get(list, "anns_field")),
                               .metric = rk_str_trim(rk__kv_get(list, "metric_type")),
                               .round_decimal = -1};
    RK_RET(refuse_unbuilt(in, err));
    if (!topk.data) {
        topk = rk__kv_get(list, "limit");
    }
    if (!topk.data) {
        return rk_fail_tail(err, RK_EINVAL, "topk is required");
    }
    if (!rk_str_to_i64(topk, &out->topk)) {
        return rk_fail_tail(err, RK_EINVAL, "topk [%.*s] is invalid", RK_STR_ARG(topk));
    }
    RK_RET(parse_i64(list, "offset", &out->offset, err));
    RK_RET(parse_i64(list, "collection_id", &out->collection_id, err));
    if (rk__kv_get(list, "round_decimal").data) {
        rk_str digits = rk__kv_get(list, "round_decimal");
        if (!rk_str_to_i64(digits, &round_decimal) || round_decimal < -1 || round_decimal > 6) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "round_decimal [%.*s] is invalid, should be -1 or an integer in range [0, 6]",
                RK_STR_ARG(digits));
        }
        out->round_decimal = (int32_t)round_decimal;
    }
    if (text.data && !rk_str_to_bool(text, &out->ignore_growing)) {
        return rk_fail_tail(err, RK_EINVAL, "parse ignore growing field failed");
    }
    RK_RET(parse_iterator(out, req, list));
    RK_RET(check_window(out, &req->access->limits, err));
    return parse_json(out, rk__kv_get(list, "params"), req->ctx.arena, err);
}

/* ---- range ---- */

rk_code
rk__search_range(const rk__search_params *p, rk_metric metric, pb_rk_SearchRequest *request,
                 rk_err *err)
{
    bool larger = rk_metric_larger_is_nearer(metric);
    float near = p->range_filter; /* included end, towards the query */
    bool has_near = p->has_range_filter;

    if (p->has_range_filter && !p->has_radius) {
        return rk_fail_tail(err, RK_EINVAL,
                            "range_filter requires radius to be set; range_filter alone is not a "
                            "valid range search "
                            "parameter");
    }
    if (p->has_range_filter &&
        (larger ? !(p->range_filter > p->radius) : !(p->range_filter < p->radius))) {
        return rk_fail(err, RK_ESEGCORE,
                       "metric type (%s), range_filter(%g) must be %s than radius(%g): segcore "
                       "error[segcoreCode=2031]",
                       rk_metric_name(metric), (double)p->range_filter, larger ? "greater" : "less",
                       (double)p->radius);
    }
    if (p->has_last_bound) {
        float past = nextafterf(p->last_bound, larger ? -INFINITY : INFINITY);
        near = !has_near ? past : larger ? fminf(near, past) : fmaxf(near, past);
        has_near = true;
    } else if (p->iterator_v2 && !has_near && metric <= RK_METRIC_JACCARD) { /* its first page */
        near = larger ? INFINITY : -INFINITY;
        has_near = true;
    }
    if (!p->has_radius && !has_near) {
        return RK_OK;
    }
    request->range = true;
    request->radius = p->has_radius ? p->radius : larger ? -INFINITY : INFINITY;
    request->has_range_filter = has_near;
    request->range_filter = near;
    return RK_OK;
}
