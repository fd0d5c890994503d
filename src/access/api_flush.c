/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flush and its state. The reply holds an entry per collection asked for in each of its maps, empty
 * lists too: clients look every name up and then poll GetFlushState with what they found.
 */
#include "access/access_private.h"

static pb_schema_LongArray *
long_array(const pb_i64s *ids, rk_arena *arena)
{
    pb_schema_LongArray *array = RK_ARENA_NEW(arena, pb_schema_LongArray);
    if (array) {
        array->data = *ids;
    }
    return array;
}

static rk_code
flush_one(rk__req *req, rk_str name, size_t i, pb_milvus_FlushResponse *out)
{
    rk_arena *arena = req->ctx.arena;
    const rk__entry *entry = NULL;
    pb_rk_FlushRequest request = {0};
    pb_rk_FlushResponse *reply = NULL;

    RK_RET(rk__collection(req, req->db, name, &entry));
    request.collection_id = entry->info->id;
    RK_RET(pb_rk_Coordinator_Flush(req->access->coordinator, &request, &reply, &req->ctx));
    pb_milvus_FlushResponse_coll_segIDs_entry *sealed =
        RK_ARENA_NEW(arena, pb_milvus_FlushResponse_coll_segIDs_entry);
    pb_milvus_FlushResponse_flush_coll_segIDs_entry *flushed =
        RK_ARENA_NEW(arena, pb_milvus_FlushResponse_flush_coll_segIDs_entry);
    pb_milvus_FlushResponse_coll_seal_times_entry *time =
        RK_ARENA_NEW(arena, pb_milvus_FlushResponse_coll_seal_times_entry);
    pb_milvus_FlushResponse_coll_flush_ts_entry *ts =
        RK_ARENA_NEW(arena, pb_milvus_FlushResponse_coll_flush_ts_entry);
    if (!sealed || !flushed || !time || !ts) {
        return rk__fail_memory(req->ctx.err);
    }
    sealed->key = flushed->key = time->key = ts->key = name;
    sealed->value = long_array(&reply->segment_ids, arena);
    flushed->value = long_array(&reply->flushed_segment_ids, arena);
    time->value = rk__wall_ms(req) / 1000;
    ts->value = reply->flush_ts;
    if (!sealed->value || !flushed->value) {
        return rk__fail_memory(req->ctx.err);
    }
    out->coll_segIDs.data[i] = sealed;
    out->flush_coll_segIDs.data[i] = flushed;
    out->coll_seal_times.data[i] = time;
    out->coll_flush_ts.data[i] = ts;
    return RK_OK;
}

rk_code
rk__api_flush(rk__req *req, const pb_milvus_FlushRequest *in, pb_milvus_FlushResponse *out)
{
    rk_arena *arena = req->ctx.arena;
    size_t n = in->collection_names.n;

    RK_RET(rk__use_db(req, in->db_name));
    out->db_name = req->db;
    out->coll_segIDs.data =
        RK_ARENA_ARRAY(arena, pb_milvus_FlushResponse_coll_segIDs_entry *, n + 1);
    out->flush_coll_segIDs.data =
        RK_ARENA_ARRAY(arena, pb_milvus_FlushResponse_flush_coll_segIDs_entry *, n + 1);
    out->coll_seal_times.data =
        RK_ARENA_ARRAY(arena, pb_milvus_FlushResponse_coll_seal_times_entry *, n + 1);
    out->coll_flush_ts.data =
        RK_ARENA_ARRAY(arena, pb_milvus_FlushResponse_coll_flush_ts_entry *, n + 1);
    if (!out->coll_segIDs.data || !out->flush_coll_segIDs.data || !out->coll_seal_times.data ||
        !out->coll_flush_ts.data) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < n; i++) {
        RK_RET(flush_one(req, in->collection_names.data[i], i, out));
    }
    out->coll_segIDs.n = out->flush_coll_segIDs.n = out->coll_seal_times.n = out->coll_flush_ts.n =
        n;
    return RK_OK;
}

rk_code
rk__api_flush_state(rk__req *req, const pb_milvus_GetFlushStateRequest *in,
                    pb_milvus_GetFlushStateResponse *out)
{
    pb_rk_FlushStateRequest request = {.segment_ids = in->segmentIDs, .flush_ts = in->flush_ts};
    pb_rk_FlushStateResponse *reply = NULL;

    if (in->collection_name.len > 0) {
        const rk__entry *entry = NULL;
        RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
        request.collection_id = entry->info->id;
    }
    RK_RET(pb_rk_Coordinator_GetFlushState(req->access->coordinator, &request, &reply, &req->ctx));
    out->flushed = reply->flushed;
    return RK_OK;
}
