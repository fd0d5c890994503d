/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles a search: field, metric, window, bounds, query vectors, predicate. Once per request;
 * runs on any number of segments.
 */
#include "search/search_private.h"

static bool
metric_fits(rk_type type, rk_metric metric)
{
    if (type == RK_BINARY_VECTOR) {
        return metric >= RK_METRIC_HAMMING && metric <= RK_METRIC_MHJACCARD;
    }
    if (type == RK_SPARSE_VECTOR) {
        return metric == RK_METRIC_IP;
    }
    return metric == RK_METRIC_L2 || metric == RK_METRIC_IP || metric == RK_METRIC_COSINE;
}

static rk_code
check_field(rk_search_plan *plan, const pb_rk_SearchRequest *request, rk_err *err)
{
    plan->field = rk_schema_by_id(plan->schema, request->field_id);
    if (!plan->field) {
        return rk_fail(err, RK_EFIELD_NOT_FOUND, "field not found[fieldID=%lld]",
                       (long long)request->field_id);
    }
    if (!rk_type_is_vector(plan->field->type)) {
        return rk_fail_tail(err, RK_EINVAL, "field (%.*s) to search is not of vector data type",
                            RK_STR_ARG(plan->field->name));
    }
    if (!metric_fits(plan->field->type, plan->metric)) {
        return rk_fail_tail(
            err, RK_EINVAL, "metric type %s is not supported by field %.*s of type %s",
            plan->metric == RK_METRIC_NONE ? "(none)" : rk_metric_name(plan->metric),
            RK_STR_ARG(plan->field->name), rk_type_name(plan->field->type));
    }
    return RK_OK;
}

static rk_code
check_range(const rk_search_plan *plan, rk_err *err)
{
    bool larger = rk_metric_larger_is_nearer(plan->metric);

    if (plan->range && plan->metric == RK_METRIC_MHJACCARD) {
        return rk_fail(err, RK_ESEGCORE, "minhash not support range search");
    }
    if (plan->range && plan->metric > RK_METRIC_JACCARD) {
        return rk_fail(err, RK_ESEGCORE, "range search is not supported with metric type %s",
                       rk_metric_name(plan->metric));
    }
    if (plan->has_range_filter && !plan->range) {
        return rk_fail_tail(err, RK_EINVAL,
                            "range_filter requires radius to be set; range_filter alone is not a "
                            "valid range search parameter");
    }
    if (plan->has_range_filter &&
        !(larger ? plan->range_filter > plan->radius : plan->range_filter < plan->radius)) {
        return rk_fail(err, RK_ESEGCORE,
                       "metric type (%s), range_filter(%g) must be %s than radius(%g): segcore "
                       "error[segcoreCode=2000]",
                       rk_metric_name(plan->metric), (double)plan->range_filter,
                       larger ? "greater" : "less", (double)plan->radius);
    }
    return RK_OK;
}

static rk_code
copy_params(rk_search_plan *plan, const pb_common_KeyValuePair_list *pairs, rk_arena *arena,
            rk_err *err)
{
    rk_param *params = RK_ARENA_ARRAY(arena, rk_param, pairs->n + 1);

    if (!params) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < pairs->n; i++) {
        params[i] = (rk_param){pairs->data[i]->key, pairs->data[i]->value};
    }
    plan->params = (rk_params){params, pairs->n};
    return RK_OK;
}

rk_code
rk_search_plan_new(rk_search_plan **out, const pb_rk_SearchRequest *request, rk_schema *schema,
                   rk_arena *arena, rk_err *err)
{
    rk_search_plan *plan = RK_ARENA_NEW(arena, rk_search_plan);

    *out = NULL;
    if (!plan) {
        return rk__no_memory(err);
    }
    plan->schema = schema;
    plan->metric = request->metric > RK_METRIC_NONE && request->metric <= RK_METRIC_MHJACCARD
                       ? (rk_metric)request->metric
                       : RK_METRIC_NONE;
    plan->topk = request->topk;
    plan->approximate = request->approximate;
    plan->range = request->range;
    plan->radius = request->radius;
    plan->has_range_filter = request->has_range_filter;
    plan->range_filter = request->range_filter;
    RK_RET(check_field(plan, request, err));
    if (plan->topk == 0 || plan->topk > RK__TOPK_MAX) {
        return rk_fail_tail(err, RK_EINVAL,
                            "topk [%u] is invalid, it should be in range [1, %u], but got %u",
                            (unsigned)plan->topk, RK__TOPK_MAX, (unsigned)plan->topk);
    }
    RK_RET(check_range(plan, err));
    RK_RET(copy_params(plan, &request->params, arena, err));
    RK_RET(rk__queries_init(plan, request, arena, err));
    RK_RET(rk__predicate_init(&plan->predicate, request->predicate, request->scope, schema, arena,
                              err));
    *out = plan;
    return RK_OK;
}

void
rk_search_plan_use(rk_search_plan *plan, rk_filter_cache *cache)
{
    plan->predicate.cache = cache;
}

void
rk_search_plan_stop(rk_search_plan *plan, const rk_stop *stop)
{
    plan->predicate.stop = stop;
}
