/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes: create, describe, drop, and the older calls for state and progress.
 *
 * Clients send index parameters in two shapes, flattened pairs or one JSON object under `params`;
 * both become the same map, which is what is compared when an index is created again and what the
 * engine judges. What is shown by DescribeIndex are the pairs as sent; for AUTOINDEX exactly two,
 * its type and the metric in force.
 *
 * Indexes on scalar fields are refused: filters scan the column, and an index that is not there
 * must not be shown.
 */
#include "access/access_private.h"
#include "base/json.h"
#include "index/index.h"

static rk_code
add_param(rk_arena *arena, pb_common_KeyValuePair_list *list, rk_str key, rk_str value, rk_err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (rk_str_eq(list->data[i]->key, key)) {
            return rk_fail_tail(err, RK_EINVAL,
                                "duplicated index param (key=%.*s) (value=%.*s) found",
                                RK_STR_ARG(key), RK_STR_ARG(value));
        }
    }
    return rk__kv_add(arena, list, key, value) == RK_OK ? RK_OK : rk__fail_memory(err);
}

static rk_code
add_json(rk_arena *arena, pb_common_KeyValuePair_list *list, rk_str text, rk_err *err)
{
    rk_json_iter iter;
    rk_json_value key, value;

    if (rk_str_trim(text).len == 0) {
        return RK_OK;
    }
    if (rk_json_check(text, RK_JSON_OBJECT_ONLY, err) != RK_OK) {
        return rk_err_wrap(err, "the index param `params` is no JSON object");
    }
    rk_json_iter_init(&iter, rk_json_root(text));
    while (rk_json_iter_next(&iter, &key, &value)) {
        rk_str name, word = value.raw;
        RK_RET(rk_json_get_str(key, &name, arena));
        if (value.type == RK_JSON_STRING) {
            RK_RET(rk_json_get_str(value, &word, arena));
        }
        if (value.type != RK_JSON_NULL) {
            RK_RET(add_param(arena, list, name, word, err));
        }
    }
    return RK_OK;
}

/* One flat map of what was sent. */
static rk_code
merge_params(rk__req *req, const pb_common_KeyValuePair_list *sent, const rk_field *field,
             pb_common_KeyValuePair_list *out)
{
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;
    size_t bytes = 0;
    int64_t dim = 0;

    for (size_t i = 0; i < sent->n; i++) {
        bytes += sent->data[i]->key.len + sent->data[i]->value.len;
    }
    if (bytes > (size_t)req->access->limits.index_params_bytes) {
        return rk_fail_tail(err, RK_EINVAL, "index params size exceeds limit: %zu > %" PRId64,
                            bytes, req->access->limits.index_params_bytes);
    }
    for (size_t i = 0; i < sent->n; i++) {
        rk_str key = sent->data[i]->key;
        rk_str value = sent->data[i]->value;
        if (rk_str_is(key, "params")) {
            RK_RET(add_json(arena, out, value, err));
        } else {
            RK_RET(add_param(arena, out, key, value, err));
        }
    }
    for (size_t i = 0; i < out->n;) {
        rk_str key = out->data[i]->key;
        if (rk_str_is(key, "dim") && rk_str_to_i64(out->data[i]->value, &dim) && field->dim > 0 &&
            dim != (int64_t)field->dim) {
            return rk_fail_tail(err, RK_EINVAL,
                                "dimension mismatch, dimension in schema: %u, dimension: %" PRId64,
                                field->dim, dim);
        }
        if (rk_str_is(key, "dim") || rk_str_is(key, "max_length")) {
            out->data[i] = out->data[--out->n]; /* the schema has them */
        } else {
            i++;
        }
    }
    return RK_OK;
}

static rk_metric
default_metric(rk_type type)
{
    switch ((int)type) {
    case RK_BINARY_VECTOR:
        return RK_METRIC_HAMMING;
    case RK_SPARSE_VECTOR:
        return RK_METRIC_IP;
    default:
        return RK_METRIC_COSINE;
    }
}

static rk_code
fail_metric(rk_type type, rk_str name, rk_err *err)
{
    const char *tail =
        ": invalid parameter[expected=valid index params][actual=invalid index params]";

    if (rk_str_is(name, "BM25") && type == RK_SPARSE_VECTOR) {
        return rk_fail(err, RK_EINVAL, "only BM25 Function output field support BM25 metric type%s",
                       tail);
    }
    if (type == RK_SPARSE_VECTOR) {
        return rk_fail(err, RK_EINVAL,
                       "only IP&BM25 is the supported metric type for sparse index%s", tail);
    }
    return rk_fail(err, RK_EINVAL, "%s vector index does not support metric type: %.*s%s",
                   type == RK_BINARY_VECTOR ? "binary"
                   : type == RK_INT8_VECTOR ? "int"
                                            : "float",
                   RK_STR_ARG(name), tail);
}

static rk_code
check_vector_index(const rk_field *field, rk_str type, rk_metric metric,
                   const pb_common_KeyValuePair_list *params, rk_arena *arena, rk_err *err)
{
    rk_param *flat = RK_ARENA_ARRAY(arena, rk_param, params->n + 1);
    size_t n = 0;

    if (!flat) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < params->n; i++) {
        rk_str value = params->data[i]->value;
        value.data = value.data ? value.data : ""; /* present and empty differs from absent */
        flat[n++] = (rk_param){params->data[i]->key, value};
    }
    return rk_index_check(type, (rk_vector_type)field->type, field->dim, metric,
                          (rk_params){flat, n}, err);
}

static rk_code
refuse_scalar(const rk_field *field, rk_str type, rk_err *err)
{
    static const char *const scalar[] = {"INVERTED", "BITMAP",   "STL_SORT",    "Asceneding",
                                         "TRIE",     "Trie",     "marisa-trie", "NGRAM",
                                         "RTREE",    "AUTOINDEX"};
    rk_err ignored;

    for (size_t i = 0; i < RK_COUNT(scalar); i++) {
        if (!type.data || rk_str_is(type, scalar[i])) {
            return rk_fail_tail(
                err, RK_EUNIMPLEMENTED,
                "index %.*s on scalar field %.*s is not built in yet, filters scan the column",
                RK_STR_ARG(type.data ? type : RK_STR("AUTOINDEX")), RK_STR_ARG(field->name));
        }
    }
    rk_err_clear(&ignored);
    if (rk_index_check(type, RK_VEC_F32, 8, RK_METRIC_L2, (rk_params){NULL, 0}, &ignored) ==
            RK_EINVAL &&
        strstr(ignored.text, "invalid index type")) {
        return rk_fail(err, RK_EINVAL, "%s", ignored.text);
    }
    return rk_fail(
        err, RK_EINVAL,
        "index %.*s only supports vector data type: invalid parameter[expected=valid index "
        "params][actual=invalid index params]",
        RK_STR_ARG(type));
}

/* Judges |request->params| and completes them and the user's pairs. */
static rk_code
check_params(rk__req *req, const rk_field *field, const pb_milvus_CreateIndexRequest *in,
             pb_rk_CreateIndexRequest *request, bool *metric_sent)
{
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;
    rk_str type = rk__kv_get(&request->params, "index_type");
    rk_str name = rk__kv_get(&request->params, "metric_type");
    rk_metric metric = RK_METRIC_NONE;

    *metric_sent = name.len > 0;
    request->auto_index = !type.data || rk_str_is(type, "AUTOINDEX");
    if (request->auto_index) {
        for (size_t i = 0; i < request->params.n; i++) {
            rk_str key = request->params.data[i]->key;
            if (!rk_str_is(key, "index_type") && !rk_str_is(key, "metric_type")) {
                return rk_fail_tail(err, RK_EINVAL,
                                    "only metric type can be passed when use AutoIndex");
            }
        }
        name = name.len > 0 ? name : rk_str_from(rk_metric_name(default_metric(field->type)));
        type = RK_STR("AUTOINDEX");
    }
    if (name.len > 0 &&
        (!rk_metric_parse(name, &metric) || !rk_str_is(name, rk_metric_name(metric)))) {
        metric = rk_str_is(type, "MINHASH_LSH") ? RK_METRIC_MHJACCARD : default_metric(field->type);
        RK_RET(check_vector_index(field, type, metric, &request->params, arena, err));
        return fail_metric(field->type, name, err); /* the type is known: it is the metric */
    }
    RK_RET(check_vector_index(field, type, metric, &request->params, arena, err));
    request->user_params = in->extra_params;
    if (request->auto_index) {
        pb_common_KeyValuePair_list two = {NULL, 0};
        if (rk__kv_add(arena, &two, RK_STR("index_type"), type) != RK_OK ||
            rk__kv_add(arena, &two, RK_STR("metric_type"), name) != RK_OK) {
            return rk__fail_memory(err);
        }
        request->params = two;
        request->user_params = two;
    }
    return RK_OK;
}

/* |*same|: the identical index exists already. An error when another one is in the way. */
static rk_code
check_duplicates(rk__req *req, const rk__entry *entry, const rk_field *field,
                 const pb_rk_CreateIndexRequest *request, bool metric_sent, bool *same)
{
    *same = false;
    for (size_t i = 0; i < entry->info->indexes.n; i++) {
        const pb_rk_IndexInfo *have = entry->info->indexes.data[i];
        bool equal = have->field_id == field->id &&
                     (rk__kv_same_set(&have->params, &request->params) ||
                      (have->auto_index && request->auto_index && !metric_sent));
        if (rk_str_eq(have->name, request->name)) {
            *same = equal;
            return equal
                       ? RK_OK
                       : rk_fail_tail(
                             req->ctx.err, RK_EINVAL,
                             "CreateIndex failed: at most one distinct index is allowed per field");
        }
        if (have->field_id == field->id) {
            return rk_fail_tail(
                req->ctx.err, RK_EINVAL,
                "CreateIndex failed: creating multiple indexes on same field is not supported");
        }
    }
    return RK_OK;
}

/* The name of the field's only index when none is given, else the field's name. */
static rk_str
default_name(const rk__entry *entry, const rk_field *field)
{
    for (size_t i = 0; i < entry->info->indexes.n; i++) {
        if (entry->info->indexes.data[i]->field_id == field->id) {
            return entry->info->indexes.data[i]->name;
        }
    }
    return field->name;
}

rk_code
rk__api_create_index(rk__req *req, const pb_milvus_CreateIndexRequest *in, pb_common_Status *out)
{
    const rk__entry *entry = NULL;
    const rk_field *field;
    pb_rk_CreateIndexRequest request = {.name = rk_str_trim(in->index_name)};
    pb_rk_Empty *empty = NULL;
    bool metric_sent = false;
    bool same = false;

    RK_UNUSED(out);
    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    RK_RET(rk__check_index_name(&req->access->limits, request.name, req->ctx.err));
    field = rk_schema_find(entry->schema, in->field_name);
    if (!field) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL, "cannot create index on non-exist field: %.*s",
                            RK_STR_ARG(in->field_name));
    }
    RK_RET(merge_params(req, &in->extra_params, field, &request.params));
    if (!rk_type_is_vector(field->type)) {
        return refuse_scalar(field, rk__kv_get(&request.params, "index_type"), req->ctx.err);
    }
    RK_RET(check_params(req, field, in, &request, &metric_sent));
    if (request.name.len == 0) {
        request.name = default_name(entry, field);
    }
    RK_RET(check_duplicates(req, entry, field, &request, metric_sent, &same));
    if (same) {
        return RK_OK;
    }
    request.collection_id = entry->info->id;
    request.field_id = field->id;
    return pb_rk_Coordinator_CreateIndex(req->access->coordinator, &request, &empty, &req->ctx);
}

/* ---- describe ---- */

static rk_code
fail_not_found(rk__req *req, const rk__entry *entry, rk_str name)
{
    if (name.len > 0) {
        return rk_fail(req->ctx.err, RK_EINDEX_NOT_FOUND, "index not found[indexName=%.*s]",
                       RK_STR_ARG(name));
    }
    return rk_fail(req->ctx.err, RK_EINDEX_NOT_FOUND, "index not found[collection=%.*s]",
                   RK_STR_ARG(entry->name));
}

static rk_code
get_states(rk__req *req, rk_str db, rk_str collection, rk_str name, uint64_t upto_ts,
           pb_rk_DescribeIndexResponse **out)
{
    const rk__entry *entry = NULL;
    pb_rk_DescribeIndexRequest request = {.name = rk_str_trim(name), .upto_ts = upto_ts};

    RK_RET(rk__collection(req, db, collection, &entry));
    request.collection_id = entry->info->id;
    rk_code code =
        pb_rk_Coordinator_DescribeIndex(req->access->coordinator, &request, out, &req->ctx);
    if (code == RK_EINDEX_NOT_FOUND || (code == RK_OK && (*out)->indexes.n == 0)) {
        return fail_not_found(req, entry, request.name);
    }
    return code;
}

/* Several matches are an error for the calls that answer for one. */
static rk_code
get_one_state(rk__req *req, rk_str db, rk_str collection, rk_str name, const pb_rk_IndexState **out)
{
    pb_rk_DescribeIndexResponse *reply = NULL;

    *out = NULL;
    RK_RET(get_states(req, db, collection, name, 0, &reply));
    if (reply->indexes.n > 1) {
        return rk_fail(req->ctx.err, RK_EINDEX_DUPLICATE, "index duplicates[indexName=%.*s]",
                       RK_STR_ARG(name));
    }
    *out = reply->indexes.data[0];
    return RK_OK;
}

static rk_code
put_descriptions(rk__req *req, const pb_rk_DescribeIndexResponse *reply,
                 pb_milvus_IndexDescription_list *out)
{
    out->data = RK_ARENA_ARRAY(req->ctx.arena, pb_milvus_IndexDescription *, reply->indexes.n);
    if (!out->data) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < reply->indexes.n; i++) {
        const pb_rk_IndexState *s = reply->indexes.data[i];
        pb_milvus_IndexDescription *d = RK_ARENA_NEW(req->ctx.arena, pb_milvus_IndexDescription);
        if (!d || !s->index) {
            return rk__fail_memory(req->ctx.err);
        }
        d->index_name = s->index->name;
        d->indexID = s->index->id;
        d->params = s->index->user_params;
        d->field_name = s->index->field_name;
        d->indexed_rows = s->indexed_rows;
        d->total_rows = s->total_rows;
        d->state = s->state;
        d->index_state_fail_reason = s->fail_reason;
        d->pending_index_rows = s->pending_rows;
        out->data[out->n++] = d;
    }
    return RK_OK;
}

rk_code
rk__api_describe_index(rk__req *req, const pb_milvus_DescribeIndexRequest *in,
                       pb_milvus_DescribeIndexResponse *out)
{
    pb_rk_DescribeIndexResponse *reply = NULL;

    RK_RET(
        get_states(req, in->db_name, in->collection_name, in->index_name, in->timestamp, &reply));
    return put_descriptions(req, reply, &out->index_descriptions);
}

rk_code
rk__api_index_statistics(rk__req *req, const pb_milvus_GetIndexStatisticsRequest *in,
                         pb_milvus_GetIndexStatisticsResponse *out)
{
    pb_rk_DescribeIndexResponse *reply = NULL;

    RK_RET(get_states(req, in->db_name, in->collection_name, in->index_name, 0, &reply));
    return put_descriptions(req, reply, &out->index_descriptions);
}

rk_code
rk__api_index_state(rk__req *req, const pb_milvus_GetIndexStateRequest *in,
                    pb_milvus_GetIndexStateResponse *out)
{
    const pb_rk_IndexState *state = NULL;

    RK_RET(get_one_state(req, in->db_name, in->collection_name, in->index_name, &state));
    RK_ASSERT(state);
    out->state = state->state;
    out->fail_reason = state->fail_reason;
    return RK_OK;
}

rk_code
rk__api_index_progress(rk__req *req, const pb_milvus_GetIndexBuildProgressRequest *in,
                       pb_milvus_GetIndexBuildProgressResponse *out)
{
    const pb_rk_IndexState *state = NULL;

    RK_RET(get_one_state(req, in->db_name, in->collection_name, in->index_name, &state));
    RK_ASSERT(state);
    out->indexed_rows = state->indexed_rows;
    out->total_rows = state->total_rows;
    return RK_OK;
}

/* ---- drop ---- */

rk_code
rk__api_drop_index(rk__req *req, const pb_milvus_DropIndexRequest *in, pb_common_Status *out)
{
    const rk__entry *entry = NULL;
    pb_rk_DropIndexRequest request = {.name = rk_str_trim(in->index_name)};
    pb_rk_CollectionId id = {0};
    pb_rk_LoadState *load = NULL;
    pb_rk_Empty *empty = NULL;
    const pb_rk_IndexInfo *found = NULL;

    RK_UNUSED(out);
    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    for (size_t i = 0; i < entry->info->indexes.n; i++) {
        if (request.name.len == 0 || rk_str_eq(entry->info->indexes.data[i]->name, request.name)) {
            found = entry->info->indexes.data[i];
        }
    }
    if (!found) {
        return RK_OK; /* gone is gone */
    }
    id.collection_id = request.collection_id = entry->info->id;
    RK_RET(pb_rk_Coordinator_GetLoadState(req->access->coordinator, &id, &load, &req->ctx));
    if (load->state >=
        PB_COMMON_LoadState_LoadStateLoading) { /* every index is on a vector field */
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "vector index cannot be dropped on loaded collection: %" PRId64,
                            entry->info->id);
    }
    if (request.name.len == 0 && entry->info->indexes.n > 1) {
        return rk_fail(req->ctx.err, RK_EINDEX_DUPLICATE, "index duplicates[indexName=]");
    }
    request.name = found->name;
    request.field_name = found->field_name;
    rk_code code =
        pb_rk_Coordinator_DropIndex(req->access->coordinator, &request, &empty, &req->ctx);
    if (code == RK_EINDEX_NOT_FOUND) {
        rk_err_clear(req->ctx.err);
        code = RK_OK;
    }
    return code;
}
