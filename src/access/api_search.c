/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Search: parameters and vectors are checked here, the delegator does the work, the hits are put
 * into the public shape.
 *
 * The shape that clients depend on: topks has one entry per query, zeros included; nothing is
 * padded; the name of the primary key is always set; columns are those asked for, flat over the
 * queries.
 *
 * Search pool thread. The filter is compiled once, by the delegator; its error comes back with the
 * public text.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "access/search.h"

/* ---- what is searched ---- */

static rk_code
find_vector_field(const rk__entry *entry, const rk__search_params *p, bool by_ids,
                  const rk_field **out, rk_err *err)
{
    const rk_field *only = NULL;

    *out = NULL;
    if (p->anns_field.len > 0) {
        *out = rk_schema_find(entry->schema, p->anns_field);
        if (!*out) {
            return rk_fail_tail(err, RK_EINVAL,
                                "failed to create query plan: failed to get field schema by name: "
                                "fieldName(%.*s) not "
                                "found",
                                RK_STR_ARG(p->anns_field));
        }
        if (!rk_type_is_vector((*out)->type)) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "failed to create query plan: field (%.*s) to search is not of vector data type",
                RK_STR_ARG(p->anns_field));
        }
        return RK_OK;
    }
    for (size_t i = 0; i < entry->schema->fields_len; i++) {
        const rk_field *f = &entry->schema->fields[i];
        if (rk_type_is_vector(f->type)) {
            if (only) {
                return rk_fail_tail(
                    err, RK_EINVAL, "%s",
                    by_ids
                        ? "multiple vector fields exist, please specify anns_field in search_params"
                        : "multiple anns_fields exist, please specify a anns_field in "
                          "search_params");
            }
            only = f;
        }
    }
    *out = only;
    return only ? RK_OK : rk_fail_tail(err, RK_EINVAL, "the collection has no vector field");
}

static rk_metric
default_metric(const rk_field *field)
{
    switch ((int)field->type) {
    case RK_BINARY_VECTOR:
        return RK_METRIC_HAMMING;
    case RK_SPARSE_VECTOR:
        return RK_METRIC_IP;
    default:
        return RK_METRIC_COSINE;
    }
}

/* The metric of the field's index; that of the request must be the same. Whoever chose FLAT, or no
 * index, gets every row that is nearest. */
static rk_code
choose_metric(const rk__entry *entry, const rk_field *field, const rk__search_params *p,
              rk_metric *out, bool *approximate, rk_err *err)
{
    rk_str indexed = {NULL, 0};

    *out = default_metric(field);
    *approximate = false;
    for (size_t i = 0; i < entry->info->indexes.n; i++) {
        if (entry->info->indexes.data[i]->field_id == field->id) {
            rk_str type = rk__kv_get(&entry->info->indexes.data[i]->params, "index_type");
            indexed = rk__kv_get(&entry->info->indexes.data[i]->params, "metric_type");
            *approximate = !rk_str_is(type, "FLAT") && !rk_str_is(type, "BIN_FLAT");
        }
    }
    if (indexed.len > 0 && p->metric.len > 0 && !rk_str_eq(indexed, p->metric)) {
        char want[32], got[64];
        snprintf(want, sizeof(want), "%.*s", RK_STR_ARG(indexed));
        snprintf(got, sizeof(got), "%.*s", RK_STR_ARG(p->metric));
        return rk__fail_expected(err, want, got, "metric type not match");
    }
    rk_str name = indexed.len > 0 ? indexed : p->metric;
    if (name.len > 0 && !rk_metric_parse(name, out)) {
        return rk_fail_tail(err, RK_EINVAL, "metric type %.*s not found", RK_STR_ARG(name));
    }
    return RK_OK;
}

/* How MinHash vectors are read is a matter of their index; rows that have none yet are read the
 * same way. */
static rk_code
add_minhash_shape(const rk__entry *entry, const rk_field *field,
                  pb_common_KeyValuePair_list *params, rk_arena *arena, rk_err *err)
{
    static const char *const keys[] = {"mh_element_bit_width", "mh_lsh_band"};

    for (size_t i = 0; i < entry->info->indexes.n; i++) {
        const pb_rk_IndexInfo *index = entry->info->indexes.data[i];
        for (size_t j = 0; index->field_id == field->id && j < RK_COUNT(keys); j++) {
            rk_str value = rk__kv_get(&index->params, keys[j]);
            if (value.len > 0 && rk__kv_add(arena, params, rk_str_from(keys[j]), value) != RK_OK) {
                return rk__fail_memory(err);
            }
        }
    }
    return RK_OK;
}

static rk_code
check_nq(size_t nq, const rk__limits *limits, rk_err *err)
{
    if (nq < 1 || nq > (size_t)limits->nq) {
        return rk_fail_tail(err, RK_EINVAL,
                            "nq [%zu] is invalid, nq (number of search vector per search request) "
                            "should be in range "
                            "[1, %" PRId64 "], but got %zu",
                            nq, limits->nq, nq);
    }
    return RK_OK;
}

/* ---- the reply ---- */

static float
rounded(float score, int32_t digits)
{
    double scale = pow(10.0, digits);
    return (float)(round((double)score * scale) / scale);
}

static rk_code
put_scores(const pb_rk_SearchResponse *reply, int32_t round_decimal,
           pb_schema_SearchResultData *data, rk_arena *arena)
{
    data->scores = reply->scores;
    if (round_decimal < 0 || reply->scores.n == 0) {
        return RK_OK;
    }
    float *scores = RK_ARENA_ARRAY(arena, float, reply->scores.n);
    if (!scores) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < reply->scores.n; i++) {
        scores[i] = rounded(pb_f32_at(reply->scores, i), round_decimal);
    }
    data->scores.bytes = (const uint8_t *)scores;
    return RK_OK;
}

static rk_code
put_iterator(const rk__search_params *p, rk_metric metric, pb_schema_SearchResultData *data,
             rk_arena *arena)
{
    pb_schema_SearchIteratorV2Results *page =
        RK_ARENA_NEW(arena, pb_schema_SearchIteratorV2Results);

    if (!page) {
        return RK_ENOMEM;
    }
    page->token = p->token;
    if (data->scores.n > 0) {
        page->last_bound = pb_f32_at(data->scores, data->scores.n - 1);
    } else if (p->has_last_bound) {
        page->last_bound = p->last_bound;
    } else {
        page->last_bound = rk_metric_larger_is_nearer(metric) ? FLT_MAX : -FLT_MAX;
    }
    data->search_iterator_v2_results = page;
    return RK_OK;
}

static rk_code
put_results(rk__req *req, const rk__entry *entry, const rk__search_params *p, rk_metric metric,
            const rk__outputs *outputs, const pb_rk_SearchResponse *reply,
            pb_milvus_SearchResults *out)
{
    rk_arena *arena = req->ctx.arena;
    pb_schema_SearchResultData *data = RK_ARENA_NEW(arena, pb_schema_SearchResultData);
    int64_t *topks = RK_ARENA_ARRAY(arena, int64_t, reply->counts.n + 1);
    pb_schema_IDs *ids = reply->ids ? reply->ids : RK_ARENA_NEW(arena, pb_schema_IDs);

    if (!data || !topks || !ids) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < reply->counts.n; i++) {
        topks[i] = reply->counts.data[i];
    }
    data->num_queries = (int64_t)reply->counts.n;
    data->top_k = reply->counts.n > 0 ? topks[reply->counts.n - 1] : 0;
    data->topks = (pb_i64s){topks, reply->counts.n};
    data->ids = ids;
    data->output_fields = outputs->names;
    data->all_search_count = (int64_t)reply->rows_scanned;
    data->primary_field_name = rk_schema_primary(entry->schema)->name;
    if (put_scores(reply, p->round_decimal, data, arena) != RK_OK ||
        (p->iterator_v2 && put_iterator(p, metric, data, arena) != RK_OK)) {
        return rk__fail_memory(req->ctx.err);
    }
    RK_RET(rk__outputs_finish(outputs, &reply->fields, reply->scores.n, &data->fields_data, arena,
                              req->ctx.err));
    if (outputs->fields_len > 0 && reply->scores.n > 1024 &&
        pb_encoded_size(&pb_schema_SearchResultData_desc, data) >
            (size_t)req->access->limits.output_bytes) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "search results exceed the maxOutputSize Limit %" PRId64,
                            req->access->limits.output_bytes);
    }
    out->results = data;
    out->collection_name = entry->name;
    return RK_OK;
}

/* ---- the call ---- */

/* A page of an iterator may be longer than the width that its user chose for one search: such a
 * width is dropped. */
static void
drop_small_widths(pb_common_KeyValuePair_list *params, int64_t k)
{
    static const char *const widths[] = {"ef", "reorder_k", "search_list", "search_list_size"};

    for (size_t i = 0; i < params->n;) {
        int64_t width = 0;
        bool drop = false;
        for (size_t j = 0; j < RK_COUNT(widths); j++) {
            drop =
                drop || (rk_str_is(params->data[i]->key, widths[j]) &&
                         rk_str_to_i64(params->data[i]->value, &width) && width > 0 && width < k);
        }
        if (drop) {
            params->data[i] = params->data[--params->n];
        } else {
            i++;
        }
    }
}

static rk_code
put_predicate(const pb_milvus_SearchRequest *in, pb_rk_Predicate *predicate, rk_arena *arena)
{
    predicate->expr = in->dsl;
    for (size_t i = 0; i < in->expr_template_values.n; i++) {
        RK_RET(rk__predicate_add(predicate, in->expr_template_values.n,
                                 in->expr_template_values.data[i]->key,
                                 in->expr_template_values.data[i]->value, arena));
    }
    return RK_OK;
}

static rk_code
search_once(rk__req *req, const rk__entry *entry, const pb_milvus_SearchRequest *in,
            pb_milvus_SearchResults *out)
{
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;
    bool by_ids = in->search_input_case == PB_MILVUS_SearchRequest_ids;
    pb_rk_ReadScope scope = {0};
    pb_rk_Predicate predicate = {0};
    pb_rk_SearchRequest request = {.scope = &scope, .predicate = &predicate};
    pb_rk_SearchResponse *reply = NULL;
    const rk_field *field = NULL;
    rk_metric metric = RK_METRIC_NONE;
    rk__search_params p;
    rk__outputs outputs;

    RK_RET(rk__search_params_parse(&p, req, in));
    if (p.collection_id > 0 && p.collection_id != entry->info->id) {
        return rk_fail_tail(err, RK_EINVAL,
                            "collection id:%" PRId64
                            " in the request is not consistent to that in the search context, "
                            "alias or database may have changed",
                            p.collection_id);
    }
    RK_RET(find_vector_field(entry, &p, by_ids, &field, err));
    RK_RET(choose_metric(entry, field, &p, &metric, &request.approximate, err));
    RK_RET(rk__outputs_resolve(&outputs, &in->output_fields, entry->schema, false, arena, err));
    RK_RET(rk__read_partitions(entry, &in->partition_names, &scope.partition_ids, arena, err));
    if (by_ids) {
        if (!in->ids) {
            return check_nq(0, &req->access->limits, err);
        }
        RK_RET(rk__search_vectors_of(req, entry, field, in->ids, &request.queries));
    } else {
        RK_RET(rk__search_vectors(in->placeholder_group, field, &request.queries, arena, err));
    }
    RK_RET(check_nq(request.queries.n, &req->access->limits, err));
    if (p.iterator_v2 && request.queries.n != 1) {
        return rk_fail_tail(err, RK_EINVAL,
                            "parse iterator v2 info failed: nq must be 1, but got %zu",
                            request.queries.n);
    }
    RK_RET(rk__search_range(&p, metric, &request, err));
    RK_RET(rk__read_scope(req, entry,
                          &(rk__consistency){.use_default = in->use_default_consistency,
                                             .level = in->consistency_level,
                                             .guarantee_ts = in->guarantee_timestamp,
                                             .iterator = p.iterator,
                                             .ignore_growing = p.ignore_growing},
                          &scope));
    if (put_predicate(in, &predicate, arena) != RK_OK) {
        return rk__fail_memory(err);
    }
    request.field_id = field->id;
    request.metric = (int32_t)metric;
    request.topk = (uint32_t)(p.topk + p.offset);
    request.offset = (uint32_t)p.offset;
    if (p.iterator) {
        drop_small_widths(&p.params, p.topk);
    }
    request.params = p.params;
    if (metric == RK_METRIC_MHJACCARD) {
        if (p.iterator) {
            return rk_fail(err, RK_ESEGCORE, "minhash does not support iterator");
        }
        RK_RET(add_minhash_shape(entry, field, &request.params, arena, err));
    }
    if (p.has_last_bound &&
        (metric == RK_METRIC_SUBSTRUCTURE || metric == RK_METRIC_SUPERSTRUCTURE)) {
        uint32_t count = 0; /* all rows are as near: none lies behind those of the first page */
        pb_rk_SearchResponse none = {.counts = {&count, 1}};
        return put_results(req, entry, &p, metric, &outputs, &none, out);
    }
    request.output_field_ids = rk__outputs_ids(&outputs, arena);
    request.query_type = (int32_t)field->type;
    rk_code code = pb_rk_StreamingNode_Search(req->access->streaming, &request, &reply, &req->ctx);
    if (code != RK_OK) {
        return rk__read_refused(req, entry, code, "failed to search");
    }
    RK_RET(put_results(req, entry, &p, metric, &outputs, reply, out));
    if (p.iterator &&
        in->guarantee_timestamp < 4) { /* a code, not a time: the first page tells what to pin */
        out->session_ts = reply->read_ts;
    }
    return RK_OK;
}

rk_code
rk__api_search(rk__req *req, const pb_milvus_SearchRequest *in, pb_milvus_SearchResults *out)
{
    for (int attempt = 0;; attempt++) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        rk_code code = search_once(req, entry, in, out);
        if (attempt > 0 || !rk__collection_stale(req, entry, code)) {
            return code;
        }
    }
}
