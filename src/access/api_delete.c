/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delete by filter.
 *
 * `pk == x` and `pk in [..]` are written without reading, loaded or not, and count the keys given.
 * Any other filter is a strong query for keys, deleted batch by batch: each batch is one append,
 * and the next query no longer sees what the last one deleted. A failure in between leaves whole
 * batches deleted and says so; deletion is idempotent, so the request may be sent again.
 */
#include "access/access_private.h"

#define BATCH_KEYS  65536
#define BATCHES_MAX 100000

static rk_code
fail_everything(rk_str expr, rk_err *err)
{
    return rk_fail_tail(err, RK_EINVAL, "delete plan can't be empty or always true : %.*s",
                        RK_STR_ARG(expr));
}

static rk_code
compile(rk__req *req, const rk__entry *entry, const pb_milvus_DeleteRequest *in,
        const rk_filter **out)
{
    rk_template *templates =
        RK_ARENA_ARRAY(req->ctx.arena, rk_template, in->expr_template_values.n + 1);
    rk_filter_options options = {.templates = templates,
                                 .templates_len = in->expr_template_values.n,
                                 .what = "delete plan",
                                 .now_ms = rk__wall_ms(req)};
    bool value = false;

    if (!templates) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < in->expr_template_values.n; i++) {
        templates[i].name = in->expr_template_values.data[i]->key;
        templates[i].value = in->expr_template_values.data[i]->value;
    }
    RK_RET(rk_filter_compile(out, in->expr, entry->schema, &options, req->ctx.arena, req->ctx.err));
    if (rk_filter_is_constant(*out, &value) && value) {
        return fail_everything(in->expr, req->ctx.err);
    }
    return RK_OK;
}

static pb_schema_IDs *
ids_of_keys(const rk_pk *keys, size_t n, rk_arena *arena)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(arena, pb_schema_IDs);
    pb_schema_LongArray *longs = RK_ARENA_NEW(arena, pb_schema_LongArray);
    pb_schema_StringArray *texts = RK_ARENA_NEW(arena, pb_schema_StringArray);
    bool text = n > 0 && keys[0].is_text;

    if (!ids || !longs || !texts) {
        return NULL;
    }
    longs->data.data = RK_ARENA_ARRAY(arena, int64_t, text ? 1 : n + 1);
    texts->data.data = RK_ARENA_ARRAY(arena, rk_str, text ? n : 1);
    if (!longs->data.data || !texts->data.data) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (text) {
            texts->data.data[texts->data.n++] = keys[i].text;
        } else {
            longs->data.data[longs->data.n++] = keys[i].number;
        }
    }
    ids->id_field_case = text ? PB_SCHEMA_IDs_str_id : PB_SCHEMA_IDs_int_id;
    if (text) {
        ids->str_id = texts;
    } else {
        ids->int_id = longs;
    }
    return ids;
}

static rk_code
delete_found(rk__req *req, const rk__entry *entry, const pb_milvus_DeleteRequest *in,
             int64_t *deleted, uint64_t *timestamp)
{
    pb_rk_Predicate predicate = {.expr = in->expr};

    for (size_t i = 0; i < in->expr_template_values.n; i++) {
        if (rk__predicate_add(&predicate, in->expr_template_values.n,
                              in->expr_template_values.data[i]->key,
                              in->expr_template_values.data[i]->value, req->ctx.arena) != RK_OK) {
            return rk__fail_memory(req->ctx.err);
        }
    }
    for (int batch = 0; batch < BATCHES_MAX; batch++) {
        pb_rk_ReadScope scope = {0};
        pb_rk_QueryRequest request = {
            .scope = &scope,
            .predicate = &predicate,
            .limit = BATCH_KEYS,
            .output_field_ids = {&(int64_t){rk_schema_primary(entry->schema)->id}, 1},
            .output_bytes_max = UINT64_C(1) << 30};
        pb_rk_QueryResponse *reply = NULL;
        RK_RET(rk__read_scope(
            req, entry, &(rk__consistency){.level = PB_COMMON_ConsistencyLevel_Strong}, &scope));
        rk_code code =
            pb_rk_StreamingNode_Query(req->access->streaming, &request, &reply, &req->ctx);
        if (code == RK_ECOLLECTION_NOT_LOADED || code == RK_ECOLLECTION_NOT_FULLY_LOADED) {
            return rk__read_refused(req, entry, code, "failed to query");
        }
        if (code != RK_OK) {
            return *deleted > 0
                       ? rk_err_wrap(req->ctx.err, "after %" PRId64 " rows were deleted", *deleted)
                       : code;
        }
        size_t n = reply->keys ? rk_ids_len(reply->keys) : 0;
        if (n > 0) {
            code = rk__append(req, entry, NULL, reply->keys, 0, timestamp);
            if (code != RK_OK) {
                return *deleted > 0 ? rk_err_wrap(req->ctx.err,
                                                  "after %" PRId64 " rows were deleted", *deleted)
                                    : code;
            }
            *deleted += (int64_t)n;
        }
        if (n < BATCH_KEYS) {
            return RK_OK;
        }
    }
    return rk_fail_tail(req->ctx.err, RK_EINTERNAL,
                        "rows kept arriving while %" PRId64 " were deleted", *deleted);
}

static rk_code
delete_once(rk__req *req, const rk__entry *entry, const pb_milvus_DeleteRequest *in,
            pb_milvus_MutationResult *out)
{
    const rk_filter *filter = NULL;
    const rk_pk *keys = NULL;
    size_t n = 0;
    int64_t partition = 0;
    uint64_t timestamp = 0;
    int64_t deleted = 0;
    bool value = true;

    if (in->partition_name.len > 0) {
        if (rk__write_partition(req, entry, in->partition_name, &partition) != RK_OK) {
            return req->ctx.err->code == RK_EPARTITION_NOT_FOUND
                       ? rk_err_wrap(req->ctx.err, "Failed to get partition id")
                       : req->ctx.err->code;
        }
    }
    if (rk_str_trim(in->expr).len == 0) {
        return fail_everything(in->expr, req->ctx.err);
    }
    RK_RET(compile(req, entry, in, &filter));
    if (rk_filter_is_constant(filter, &value)) {
        deleted = 0; /* always false */
    } else if (rk_filter_primary_keys(filter, &keys, &n)) {
        if (n > 0) {
            pb_schema_IDs *ids = ids_of_keys(keys, n, req->ctx.arena);
            if (!ids) {
                return rk__fail_memory(req->ctx.err);
            }
            RK_RET(rk__append(req, entry, NULL, ids, 0, &timestamp));
        }
        deleted = (int64_t)n;
    } else {
        RK_RET(delete_found(req, entry, in, &deleted, &timestamp));
    }
    if (timestamp == 0) { /* nothing was written: any time up to now is right for a session */
        RK_RET(rk__timestamp(req, &timestamp));
    }
    out->IDs = RK_ARENA_NEW(req->ctx.arena, pb_schema_IDs);
    if (!out->IDs) {
        return rk__fail_memory(req->ctx.err);
    }
    out->acknowledged = true;
    out->delete_cnt = deleted;
    out->timestamp = timestamp;
    rk__meter_rows(entry, RK__ROWS_DELETED, (uint64_t)deleted);
    return RK_OK;
}

rk_code
rk__api_delete(rk__req *req, const pb_milvus_DeleteRequest *in, pb_milvus_MutationResult *out)
{
    if (in->has_namespace && in->namespace.len > 0) {
        return rk__fail_unbuilt(req->ctx.err, "namespaces are");
    }
    for (int attempt = 0;; attempt++) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        rk_code code = delete_once(req, entry, in, out);
        if (attempt > 0 || !rk__collection_stale(req, entry, code)) {
            return code;
        }
    }
}
