/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST: search. JSON vectors become a placeholder group, searchParams become the pairs and the JSON
 * object an SDK would send.
 *
 * searchParams may hold index parameters at its root and in a nested `params`; both are merged, and
 * the same key with two values is an error. The metric counts only as metric_type.
 */
#include "access/rest.h"

static rk_code
pair(rk__rest *r, pb_common_KeyValuePair_list *list, rk_str key, rk_str value)
{
    return rk__kv_add(r->req.ctx.arena, list, key, value) == RK_OK
               ? RK_OK
               : rk__fail_memory(r->req.ctx.err);
}

static bool
same_value(rk_json_value a, rk_json_value b)
{
    double x = 0, y = 0;

    if (rk_json_get_f64(a, &x) && rk_json_get_f64(b, &y)) {
        return !(x < y) && !(x > y);
    }
    return a.type == b.type && rk_str_eq(a.raw, b.raw);
}

/* The root keys as pairs and, merged with the nested ones, as one object. */
static rk_code
search_params(rk__rest *r, rk_json_value params, pb_common_KeyValuePair_list *out)
{
    rk_json_value inner = rk__rest_find_exact(params, "params");
    rk_json_iter iter;
    rk_json_value key, value, other;
    rk_buf merged = {0};
    rk_json_writer w = {.out = &merged};
    rk_str name, text;
    rk_code code = RK_OK;

    if (inner.type != RK_JSON_NONE && inner.type != RK_JSON_OBJECT) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL, "searchParams.params must be a dict");
    }
    rk_json_object(&w);
    rk_json_iter_init(&iter, params);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        RK_ERR(rk_json_get_str(key, &name, r->req.ctx.arena));
        if (rk_str_is(name, "params")) {
            continue;
        }
        if (rk_str_is(name, "ignoreGrowing")) {
            name = RK_STR("ignore_growing");
        }
        if (inner.type == RK_JSON_OBJECT && rk_json_find_key(inner, name, &other) &&
            !same_value(value, other)) {
            code = rk_fail_tail(
                r->req.ctx.err, RK_EINVAL,
                "ambiguous parameter: %.*s, in search_param: %.*s, in search_param.params: %.*s",
                RK_STR_ARG(name), RK_STR_ARG(value.raw), RK_STR_ARG(other.raw));
            goto out;
        }
        rk_json_key(&w, name);
        rk_json_raw(&w, value.raw);
        RK_ERR(rk__rest_text(r, value, &text));
        RK_ERR(pair(r, out, name, text));
    }
    rk_json_iter_init(&iter, inner);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        RK_ERR(rk_json_get_str(key, &name, r->req.ctx.arena));
        if (rk_json_find_key(params, name, &other)) {
            continue; /* the same value, checked above */
        }
        rk_json_key(&w, name);
        rk_json_raw(&w, value.raw);
    }
    rk_json_object_end(&w);
    text = rk_arena_str(r->req.ctx.arena, rk_buf_view(&merged));
    if (merged.failed || !text.data) {
        code = rk__fail_memory(r->req.ctx.err);
        goto out;
    }
    RK_ERR(pair(r, out, RK_STR("params"), text));
out:
    rk_buf_deinit(&merged);
    return code;
}

static rk_code
refuse_unbuilt(rk__rest *r)
{
    static const char *const keys[][2] = {
        {"groupingField", "grouping search (groupingField) is"},
        {"functionChains", "function chains (functionChains) are"},
        {"orderByFields", "ordering of search results (orderByFields) is"},
        {"searchAggregation", "search aggregation (searchAggregation) is"},
    };
    rk_json_value score, functions;

    for (size_t i = 0; i < RK_COUNT(keys); i++) {
        rk_json_value value = rk__rest_find(r->body, keys[i][0]);
        if (value.type != RK_JSON_NONE &&
            rk_json_len(value) + (value.type == RK_JSON_STRING ? value.raw.len - 2 : 0) > 0) {
            return rk__fail_unbuilt(r->req.ctx.err, keys[i][1]);
        }
    }
    RK_RET(rk__rest_object(r, r->body, "functionScore", &score));
    functions = rk__rest_find(score, "functions");
    if (rk_json_len(functions) > 0) {
        return rk__fail_unbuilt(r->req.ctx.err, "reranking (functionScore) is");
    }
    if (rk__rest_find(r->body, "groupSize").type != RK_JSON_NONE ||
        rk__rest_find(r->body, "strictGroupSize").type != RK_JSON_NONE) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "groupSize and strictGroupSize require groupingField");
    }
    return RK_OK;
}

/* ---- what is searched for ---- */

static rk_code
vector_field(rk__rest *r, const rk_schema *schema, rk_str name, const rk_field **out)
{
    *out = NULL;
    if (name.len > 0) {
        *out = rk_schema_find(schema, name);
        if (!*out || !rk_type_is_vector((*out)->type)) {
            return rk_fail(r->req.ctx.err, RK_EREST_BODY,
                           "can only accept json format request, error: cannot find a vector field "
                           "named: %.*s",
                           RK_STR_ARG(name));
        }
        return RK_OK;
    }
    for (size_t i = 0; i < schema->fields_len; i++) {
        if (!rk_type_is_vector(schema->fields[i].type)) {
            continue;
        }
        if (*out) {
            return rk_fail(r->req.ctx.err, RK_EREST_BODY,
                           "can only accept json format request, error: search without annsField, "
                           "but already found "
                           "multiple vector fields: [%.*s, %.*s,,,]",
                           RK_STR_ARG((*out)->name), RK_STR_ARG(schema->fields[i].name));
        }
        *out = &schema->fields[i];
    }
    return *out ? RK_OK
                : rk_fail(r->req.ctx.err, RK_EREST_BODY,
                          "can only accept json format request, error: cannot find a vector field");
}

static rk_code
placeholder_group(rk__rest *r, const rk_field *field, rk_json_value data, rk_str *out)
{
    rk_arena *arena = r->req.ctx.arena;
    pb_common_PlaceholderValue value = {.tag = RK_STR("$0"), .type = (int32_t)field->type};
    pb_common_PlaceholderValue *values[1] = {&value};
    pb_common_PlaceholderGroup group = {.placeholders = {values, 1}};
    rk_json_iter iter;
    rk_json_value item;

    value.values.data = RK_ARENA_ARRAY(arena, rk_str, rk_json_len(data) + 1);
    if (!value.values.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, data);
    while (rk_json_iter_next(&iter, NULL, &item)) {
        if (rk__rest_vector(r, field, item, &value.values.data[value.values.n]) != RK_OK) {
            return rk_fail(r->req.ctx.err, RK_EREST_BODY,
                           "can only accept json format request, error: %s", r->req.ctx.err->text);
        }
        value.values.n++;
    }
    return pb_encode_arena(&pb_common_PlaceholderGroup_desc, &group, out, arena) == RK_OK
               ? RK_OK
               : rk__fail_memory(r->req.ctx.err);
}

static rk_code
search_ids(rk__rest *r, const rk_field *primary, rk_json_value ids, pb_schema_IDs **out)
{
    rk_arena *arena = r->req.ctx.arena;
    size_t n = rk_json_len(ids);
    pb_schema_IDs *list = RK_ARENA_NEW(arena, pb_schema_IDs);
    pb_schema_LongArray *longs = RK_ARENA_NEW(arena, pb_schema_LongArray);
    pb_schema_StringArray *texts = RK_ARENA_NEW(arena, pb_schema_StringArray);
    rk_json_iter iter;
    rk_json_value value;

    if (!list || !longs || !texts || !(longs->data.data = RK_ARENA_ARRAY(arena, int64_t, n + 1)) ||
        !(texts->data.data = RK_ARENA_ARRAY(arena, rk_str, n + 1))) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, ids);
    for (size_t i = 0; rk_json_iter_next(&iter, NULL, &value); i++) {
        RK_RET(rk__rest_text(r, value, &texts->data.data[i]));
        if (primary->type == RK_INT64 &&
            !rk_str_to_i64(texts->data.data[i], &longs->data.data[i])) {
            return rk_fail_tail(r->req.ctx.err, RK_EINVAL, "%.*s is no primary key of type Int64",
                                RK_STR_ARG(texts->data.data[i]));
        }
    }
    longs->data.n = texts->data.n = n;
    list->id_field_case = primary->type == RK_INT64 ? PB_SCHEMA_IDs_int_id : PB_SCHEMA_IDs_str_id;
    if (primary->type == RK_INT64) {
        list->int_id = longs;
    } else {
        list->str_id = texts;
    }
    *out = list;
    return RK_OK;
}

static rk_code
search_input(rk__rest *r, pb_milvus_SearchRequest *request, rk_str anns_field)
{
    rk_json_value data = rk__rest_find_exact(r->body, "data");
    rk_json_value ids = rk__rest_find_exact(r->body, "ids");
    const rk__entry *entry = NULL;
    const rk_field *field = NULL;

    if (data.type == RK_JSON_ARRAY && ids.type == RK_JSON_ARRAY) {
        return rk_fail_tail(r->req.ctx.err, RK_EINVAL,
                            "primary keys (ids) and query vectors (data) are mutually exclusive");
    }
    if (data.type != RK_JSON_ARRAY && ids.type != RK_JSON_ARRAY) {
        return rk_fail(r->req.ctx.err, RK_EREST_MISSING,
                       "missing required parameters, error: either 'ids' (for primary key search) "
                       "or 'data' (for vector "
                       "search) must be provided");
    }
    RK_RET(rk__collection_described(&r->req, request->db_name, request->collection_name, &entry));
    RK_RET(vector_field(r, entry->schema, anns_field, &field));
    RK_RET(pair(r, &request->search_params, RK_STR("anns_field"), field->name));
    if (ids.type == RK_JSON_ARRAY) {
        request->search_input_case = PB_MILVUS_SearchRequest_ids;
        request->nq = (int64_t)rk_json_len(ids);
        return search_ids(r, rk_schema_primary(entry->schema), ids, &request->ids);
    }
    request->search_input_case = PB_MILVUS_SearchRequest_placeholder_group;
    request->nq = (int64_t)rk_json_len(data);
    return placeholder_group(r, field, data, &request->placeholder_group);
}

/* ---- the answer ---- */

static rk_code
write_hits(rk__rest *r, const pb_milvus_SearchResults *reply)
{
    const pb_schema_SearchResultData *d = reply->results;
    size_t n = d->scores.n;

    rk_json_object(&r->w);
    rk__rest_key(r, "code");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "cost");
    rk_json_i64(&r->w, 0);
    rk__rest_key(r, "data");
    rk_json_array(&r->w);
    for (size_t i = 0; i < n; i++) {
        pb_schema_FieldData_list columns = d->fields_data;
        bool has_key = false;
        rk_json_object(&r->w);
        rk__rest_key(r, "distance");
        rk_json_f32(&r->w, pb_f32_at(d->scores, i));
        for (size_t c = 0; c < columns.n; c++) {
            has_key |= rk_str_eq(columns.data[c]->field_name, d->primary_field_name);
        }
        if (!has_key) {
            rk_pk key = rk_ids_at(d->ids, i);
            rk_json_key(&r->w, d->primary_field_name);
            if (key.is_text) {
                rk_json_str(&r->w, key.text);
            } else {
                rk__rest_i64_out(r, key.number);
            }
        }
        RK_RET(rk__rest_row(r, &columns, i));
        rk_json_object_end(&r->w);
    }
    rk_json_array_end(&r->w);
    if (n > 0) {
        rk__rest_key(r, "topks");
        rk_json_array(&r->w);
        for (size_t i = 0; i < d->topks.n; i++) {
            rk_json_i64(&r->w, d->topks.data[i]);
        }
        rk_json_array_end(&r->w);
    }
    rk_json_object_end(&r->w);
    return RK_OK;
}

static rk_code
number_pair(rk__rest *r, pb_common_KeyValuePair_list *list, const char *key, int64_t value)
{
    rk_str text = rk_arena_printf(r->req.ctx.arena, "%" PRId64, value);
    return text.data ? pair(r, list, rk_str_from(key), text) : rk__fail_memory(r->req.ctx.err);
}

static rk_code
templates(rk__rest *r, pb_milvus_SearchRequest *request)
{
    rk_json_value params, key, value;
    rk_json_iter iter;

    RK_RET(rk__rest_object(r, r->body, "exprParams", &params));
    request->expr_template_values.data =
        RK_ARENA_ARRAY(r->req.ctx.arena, pb_milvus_SearchRequest_expr_template_values_entry *,
                       rk_json_len(params) + 1);
    if (!request->expr_template_values.data) {
        return rk__fail_memory(r->req.ctx.err);
    }
    rk_json_iter_init(&iter, params);
    while (iter.object && rk_json_iter_next(&iter, &key, &value)) {
        pb_milvus_SearchRequest_expr_template_values_entry *e =
            RK_ARENA_NEW(r->req.ctx.arena, pb_milvus_SearchRequest_expr_template_values_entry);
        if (!e) {
            return rk__fail_memory(r->req.ctx.err);
        }
        RK_RET(rk_json_get_str(key, &e->key, r->req.ctx.arena));
        RK_RET(rk__rest_template(r, e->key, value, &e->value));
        request->expr_template_values.data[request->expr_template_values.n++] = e;
    }
    return RK_OK;
}

rk_code
rk__rest_entities_search(rk__rest *r)
{
    pb_milvus_SearchRequest request = {.dsl_type = PB_COMMON_DslType_BoolExprV1};
    pb_milvus_SearchResults reply = {0};
    rk_json_value params;
    rk_str anns_field = {NULL, 0};
    int64_t limit = 100;
    int64_t offset = 0;
    bool given = false;

    r->request = "SearchReqV2";
    RK_RET(rk__rest_collection(r, &request.db_name, &request.collection_name));
    RK_RET(rk__rest_complete(r));
    RK_RET(refuse_unbuilt(r));
    RK_RET(rk__rest_str(r, r->body, "annsField", &anns_field));
    RK_RET(rk__rest_str(r, r->body, "filter", &request.dsl));
    RK_RET(rk__rest_i64(r, r->body, "limit", &limit));
    RK_RET(rk__rest_i64(r, r->body, "offset", &offset));
    RK_RET(rk__rest_strs(r, r->body, "outputFields", &request.output_fields));
    RK_RET(rk__rest_strs(r, r->body, "partitionNames", &request.partition_names));
    RK_RET(rk__rest_object(r, r->body, "searchParams", &params));
    RK_RET(rk__rest_consistency(r, r->body, &request.consistency_level, &given));
    request.use_default_consistency = !given;
    RK_RET(search_input(r, &request, anns_field));
    RK_RET(number_pair(r, &request.search_params, "topk", limit));
    RK_RET(number_pair(r, &request.search_params, "offset", offset));
    RK_RET(pair(r, &request.search_params, RK_STR("round_decimal"), RK_STR("-1")));
    RK_RET(search_params(r, params, &request.search_params));
    RK_RET(templates(r, &request));
    RK_RET(rk__api_search(&r->req, &request, &reply));
    return write_hits(r, &reply);
}
