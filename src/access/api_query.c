/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query: rows by filter or key, and count(*).
 *
 * The delegator evaluates the filter and returns rows in key order; here are the window rules, the
 * output columns and the snapshot of iterators. A result without rows still has its columns:
 * clients read their types from them.
 */
#include "access/access_private.h"

typedef struct query_params {
    int64_t limit; /* 0: none */
    int64_t offset;
    bool has_limit;
    bool iterator;
    bool ignore_growing;
} query_params;

static rk_code
parse_number(const pb_common_KeyValuePair_list *list, const char *key, int64_t *out, bool *present,
             rk_err *err)
{
    rk_str text = rk__kv_get(list, key);

    *present = text.data != NULL;
    if (text.data && !rk_str_to_i64(text, out)) {
        return rk_fail_tail(err, RK_EINVAL, "%s [%.*s] is invalid", key, RK_STR_ARG(text));
    }
    return RK_OK;
}

static rk_code
check_window(const query_params *p, const rk__limits *limits, rk_err *err)
{
    int64_t max = limits->result_window;

    if (p->limit <= 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid max query result window, limit [%" PRId64
                            "] is invalid, should be greater than 0",
                            p->limit);
    }
    if (p->offset < 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "invalid max query result window, offset [%" PRId64
                            "] is invalid, should be gte than 0",
                            p->offset);
    }
    if (p->limit > max || p->offset > max || p->limit + p->offset > max) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "invalid max query result window, (offset+limit) should be in range [1, %" PRId64
            "], but got %" PRId64,
            max, p->limit > INT64_MAX - p->offset ? INT64_MAX : p->limit + p->offset);
    }
    return RK_OK;
}

static rk_code
parse_params(query_params *p, rk__req *req, const rk__entry *entry,
             const pb_milvus_QueryRequest *in)
{
    const pb_common_KeyValuePair_list *list = &in->query_params;
    rk_err *err = req->ctx.err;
    rk_str iterator = rk__kv_get(list, "iterator");
    rk_str growing = rk__kv_get(list, "ignore_growing");
    int64_t id = 0;
    bool has_offset = false;
    bool has_id = false;

    *p = (query_params){0};
    if (rk__kv_get(list, "group_by_fields").len > 0) {
        return rk__fail_unbuilt(err, "grouping (group_by_fields) is");
    }
    if (rk__kv_get(list, "order_by_fields").len > 0) {
        return rk__fail_unbuilt(err, "ordering of query results (order_by_fields) is");
    }
    if (in->has_namespace && in->namespace.len > 0) {
        return rk__fail_unbuilt(err, "namespaces are");
    }
    RK_RET(parse_number(list, "collection_id", &id, &has_id, err));
    if (has_id && id > 0 && id != entry->info->id) {
        return rk_fail_tail(err, RK_EINVAL,
                            "Input collection id is not consistent to collectionID in the "
                            "context,alias or database "
                            "may have changed");
    }
    if (growing.data && !rk_str_to_bool(growing, &p->ignore_growing)) {
        return rk_fail_tail(err, RK_EINVAL, "parse ignore growing field failed");
    }
    if (iterator.data && !rk_str_to_bool(iterator, &p->iterator)) {
        return rk_fail_tail(err, RK_EINVAL, "iterator [%.*s] is invalid", RK_STR_ARG(iterator));
    }
    RK_RET(parse_number(list, "limit", &p->limit, &p->has_limit, err));
    RK_RET(parse_number(list, "offset", &p->offset, &has_offset, err));
    if (!p->has_limit) {
        p->offset = 0; /* pages only with a limit */
        return RK_OK;
    }
    if (p->iterator && p->limit > req->access->limits.result_window) {
        p->limit = req->access->limits.result_window;
    }
    return check_window(p, &req->access->limits, err);
}

static rk_code
put_templates(const pb_milvus_QueryRequest *in, pb_rk_Predicate *predicate, rk_arena *arena)
{
    predicate->expr = in->expr;
    for (size_t i = 0; i < in->expr_template_values.n; i++) {
        RK_RET(rk__predicate_add(predicate, in->expr_template_values.n,
                                 in->expr_template_values.data[i]->key,
                                 in->expr_template_values.data[i]->value, arena));
    }
    return RK_OK;
}

/* One Int64 column of one row, named as the client asked. */
static rk_code
put_count(rk__req *req, rk_str name, int64_t count, pb_milvus_QueryResults *out)
{
    rk_arena *arena = req->ctx.arena;
    pb_schema_FieldData *column = RK_ARENA_NEW(arena, pb_schema_FieldData);
    pb_schema_ScalarField *scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    pb_schema_LongArray *array = RK_ARENA_NEW(arena, pb_schema_LongArray);
    int64_t *value = RK_ARENA_NEW(arena, int64_t);
    pb_schema_FieldData **columns = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, 1);
    rk_str *names = RK_ARENA_ARRAY(arena, rk_str, 1);

    if (!column || !scalars || !array || !value || !columns || !names) {
        return rk__fail_memory(req->ctx.err);
    }
    *value = count;
    array->data = (pb_i64s){value, 1};
    scalars->data_case = PB_SCHEMA_ScalarField_long_data;
    scalars->long_data = array;
    column->type = RK_INT64;
    column->field_name = name;
    column->field_case = PB_SCHEMA_FieldData_scalars;
    column->scalars = scalars;
    columns[0] = column;
    names[0] = name;
    out->fields_data = (pb_schema_FieldData_list){columns, 1};
    out->output_fields = (pb_strs){names, 1};
    return RK_OK;
}

static rk_code
query_once(rk__req *req, const rk__entry *entry, const pb_milvus_QueryRequest *in,
           pb_milvus_QueryResults *out)
{
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;
    pb_rk_ReadScope scope = {0};
    pb_rk_Predicate predicate = {0};
    pb_rk_QueryRequest request = {.scope = &scope, .predicate = &predicate};
    pb_rk_QueryResponse *reply = NULL;
    rk__outputs outputs;
    query_params p;

    RK_RET(parse_params(&p, req, entry, in));
    RK_RET(rk__outputs_resolve(&outputs, &in->output_fields, entry->schema, true, arena, err));
    RK_RET(rk__read_partitions(entry, &in->partition_names, &scope.partition_ids, arena, err));
    if (outputs.count && p.has_limit) {
        return rk_fail_tail(err, RK_EINVAL, "count entities with pagination is not allowed");
    }
    if (!outputs.count && !p.has_limit && rk_str_trim(in->expr).len == 0) {
        return rk_fail_tail(err, RK_EINVAL, "empty expression should be used with limit");
    }
    RK_RET(rk__read_scope(req, entry,
                          &(rk__consistency){.use_default = in->use_default_consistency,
                                             .level = in->consistency_level,
                                             .guarantee_ts = in->guarantee_timestamp,
                                             .iterator = p.iterator,
                                             .ignore_growing = p.ignore_growing},
                          &scope));
    if (put_templates(in, &predicate, arena) != RK_OK) {
        return rk__fail_memory(err);
    }
    request.limit = p.limit;
    request.offset = p.offset;
    request.count_only = outputs.count;
    request.output_bytes_max = (uint64_t)req->access->limits.output_bytes;
    if (!outputs.count) {
        request.output_field_ids = rk__outputs_ids(&outputs, arena);
    }
    rk_code code = pb_rk_StreamingNode_Query(req->access->streaming, &request, &reply, &req->ctx);
    if (code != RK_OK) {
        return rk__read_refused(req, entry, code, "failed to query");
    }
    out->collection_name = entry->name;
    out->primary_field_name = rk_schema_primary(entry->schema)->name;
    if (p.iterator &&
        in->guarantee_timestamp < 4) { /* a code, not a time: the first page tells what to pin */
        out->session_ts = reply->read_ts;
    }
    if (outputs.count) {
        return put_count(req, RK_STR("count(*)"), reply->count, out);
    }
    out->output_fields = outputs.names;
    return rk__outputs_finish(&outputs, &reply->fields, reply->rows, &out->fields_data, arena, err);
}

rk_code
rk__api_query(rk__req *req, const pb_milvus_QueryRequest *in, pb_milvus_QueryResults *out)
{
    for (int attempt = 0;; attempt++) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        rk_code code = query_once(req, entry, in, out);
        if (attempt > 0 || !rk__collection_stale(req, entry, code)) {
            return code;
        }
    }
}
