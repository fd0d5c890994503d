/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load, release, and their progress; flush and its state.
 *
 * Load only starts: clients poll GetLoadingProgress until it says 100. It is refused while a vector
 * field has no index, since a search on that field could not say by which metric. Flush answers
 * with an entry for every collection asked for, empty ones too, because clients look each one up.
 */
#include "access/access_private.h"

static bool
has_index(const pb_rk_CollectionInfo *info, int64_t field_id)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        if (info->indexes.data[i]->field_id == field_id) {
            return true;
        }
    }
    return false;
}

/* 700 without any index, 1100 naming the vector fields that lack one. */
static rk_code
check_indexes(rk__req *req, const rk__entry *entry)
{
    rk_buf names = {0};
    rk_code code = RK_OK;

    if (entry->info->indexes.n == 0) {
        return rk_fail(req->ctx.err, RK_EINDEX_NOT_FOUND, "index not found[collection=%.*s]",
                       RK_STR_ARG(entry->name));
    }
    for (size_t i = 0; i < entry->schema->fields_len; i++) {
        const rk_field *f = &entry->schema->fields[i];
        if (rk_type_is_vector(f->type) && !has_index(entry->info, f->id)) {
            if (names.len > 0) {
                rk_buf_byte(&names, ' ');
            }
            rk_buf_str(&names, f->name);
        }
    }
    if (names.len > 0) {
        code =
            rk_fail_tail(req->ctx.err, RK_EINVAL,
                         "there is no vector index on field: [%.*s], please create index firstly",
                         RK_STR_ARG(rk_buf_view(&names)));
    }
    rk_buf_deinit(&names);
    return code;
}

/* A list of fields to load must at least make the collection searchable; the rest is loaded with
 * them. */
static rk_code
check_load_fields(rk__req *req, const rk__entry *entry, const pb_strs *fields)
{
    const rk_field *primary = rk_schema_primary(entry->schema);
    bool has_primary = false;
    bool has_vector = false;

    for (size_t i = 0; i < fields->n; i++) {
        const rk_field *f = rk_schema_find(entry->schema, fields->data[i]);
        if (!f) {
            return rk_fail_tail(req->ctx.err, RK_EINVAL,
                                "failed to get field schema by name: fieldName(%.*s) not found",
                                RK_STR_ARG(fields->data[i]));
        }
        has_primary |= f->primary;
        has_vector |= rk_type_is_vector(f->type);
    }
    if (fields->n > 0 && !has_primary) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "load field list does not contain primary key field %.*s",
                            RK_STR_ARG(primary->name));
    }
    if (fields->n > 0 && !has_vector) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "load field list does not contain vector field");
    }
    return RK_OK;
}

rk_code
rk__api_load_collection(rk__req *req, const pb_milvus_LoadCollectionRequest *in,
                        pb_common_Status *out)
{
    const rk__entry *entry = NULL;
    pb_rk_LoadRequest request = {.replicas = in->replica_number > 0 ? in->replica_number : 1,
                                 .refresh = in->refresh};
    pb_rk_Empty *empty = NULL;

    RK_UNUSED(out);
    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    if (in->replica_number > 1) {
        return rk_fail(req->ctx.err, RK_ENOT_SUPPORTED,
                       "when load %d replica count: service resource insufficient: one replica is "
                       "what this server "
                       "can hold",
                       in->replica_number);
    }
    RK_RET(check_load_fields(req, entry, &in->load_fields));
    RK_RET(check_indexes(req, entry));
    request.collection_id = entry->info->id;
    return pb_rk_Coordinator_Load(req->access->coordinator, &request, &empty, &req->ctx);
}

rk_code
rk__api_release_collection(rk__req *req, const pb_milvus_ReleaseCollectionRequest *in,
                           pb_common_Status *out)
{
    const rk__entry *entry = NULL;
    pb_rk_CollectionId id = {0};
    pb_rk_Empty *empty = NULL;

    RK_UNUSED(out);
    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    id.collection_id = entry->info->id;
    return pb_rk_Coordinator_Release(req->access->coordinator, &id, &empty, &req->ctx);
}

static rk_code
get_state(rk__req *req, const rk__entry *entry, pb_rk_LoadState **state)
{
    pb_rk_CollectionId id = {.collection_id = entry->info->id};
    return pb_rk_Coordinator_GetLoadState(req->access->coordinator, &id, state, &req->ctx);
}

rk_code
rk__api_loading_progress(rk__req *req, const pb_milvus_GetLoadingProgressRequest *in,
                         pb_milvus_GetLoadingProgressResponse *out)
{
    const rk__entry *entry = NULL;
    pb_rk_LoadState *state = NULL;
    pb_i64s ids;

    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    RK_RET(rk__read_partitions(entry, &in->partition_names, &ids, req->ctx.arena, req->ctx.err));
    RK_RET(get_state(req, entry, &state));
    if (state->fail_reason.len > 0 && state->state != PB_COMMON_LoadState_LoadStateLoaded) {
        return rk_fail_tail(req->ctx.err, RK_ESEGMENT_LOAD_FAILED, "%.*s",
                            RK_STR_ARG(state->fail_reason));
    }
    if (state->state < PB_COMMON_LoadState_LoadStateLoading) {
        return rk_fail(req->ctx.err, RK_ECOLLECTION_NOT_LOADED,
                       "collection not loaded[collection=%.*s]", RK_STR_ARG(entry->name));
    }
    out->progress =
        state->state == PB_COMMON_LoadState_LoadStateLoaded ? 100 : RK_MIN(state->progress, 99);
    out->refresh_progress = out->progress;
    return RK_OK;
}

rk_code
rk__api_load_state(rk__req *req, const pb_milvus_GetLoadStateRequest *in,
                   pb_milvus_GetLoadStateResponse *out)
{
    const rk__entry *entry = NULL;
    pb_rk_LoadState *state = NULL;
    pb_i64s ids;
    rk_code code = rk__collection(req, in->db_name, in->collection_name, &entry);

    if (code == RK_ECOLLECTION_NOT_FOUND) {
        rk_err_clear(req->ctx.err);
        out->state = PB_COMMON_LoadState_LoadStateNotExist;
        return RK_OK;
    }
    RK_RET(code);
    RK_RET(rk__read_partitions(entry, &in->partition_names, &ids, req->ctx.arena, req->ctx.err));
    RK_RET(get_state(req, entry, &state));
    out->state = RK_MAX(state->state, PB_COMMON_LoadState_LoadStateNotLoad);
    return RK_OK;
}
