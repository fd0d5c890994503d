/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: what the streaming node flushed, flush requests and their state, statistics.
 */
#include "coordinator/coordinator_private.h"

static rk__co_box *
find_channel(rk__co_collection *c, rk_str name)
{
    for (size_t i = 0; i < c->channels_len; i++) {
        if (rk_str_eq(((pb_rk_ChannelInfo *)c->channels[i].message)->name, name)) {
            return &c->channels[i];
        }
    }
    return NULL;
}

/* ---- SaveFlush ---- */

/* Everything of the step, made ready before anything is changed. */
typedef struct flush_step {
    rk_meta_op *ops;
    size_t ops_len;
    rk__co_box channel;
    rk__co_box delta;
    rk__co_segment *segments;
    size_t segments_len;
} flush_step;

static void
step_free(flush_step *step)
{
    rk__co_box_free(&step->channel);
    rk__co_box_free(&step->delta);
    for (size_t i = 0; i < step->segments_len; i++) {
        rk__co_box_free(&step->segments[i].box);
    }
}

static rk_code
step_prepare(flush_step *step, const pb_rk_SaveFlushRequest *req, rk_arena *arena)
{
    const pb_rk_ChannelInfo channel = {.name = req->channel,
                                       .checkpoint_lsn = req->checkpoint_lsn,
                                       .checkpoint_ts = req->checkpoint_ts};

    step->ops = RK_ARENA_ARRAY(arena, rk_meta_op, req->segments.n + 2);
    step->segments = RK_ARENA_ARRAY(arena, rk__co_segment, req->segments.n + 1);
    if (!step->ops || !step->segments) {
        return RK_ENOMEM;
    }
    RK_RET(rk__co_put(&step->ops[step->ops_len++],
                      rk__co_channel_key(arena, req->collection_id, req->channel),
                      &pb_rk_ChannelInfo_desc, &channel, arena));
    RK_RET(rk__co_box_copy(&step->channel, &pb_rk_ChannelInfo_desc, &channel));
    for (size_t i = 0; i < req->segments.n; i++) {
        const pb_rk_SegmentInfo *info = req->segments.data[i];
        RK_RET(rk__co_put(&step->ops[step->ops_len++],
                          rk__co_key(arena, "seg", req->collection_id, info->id),
                          &pb_rk_SegmentInfo_desc, info, arena));
        RK_RET(rk__co_box_copy(&step->segments[i].box, &pb_rk_SegmentInfo_desc, info));
        step->segments[i].id = info->id;
        step->segments_len++;
    }
    if (req->delta) {
        RK_RET(rk__co_put(&step->ops[step->ops_len++],
                          rk__co_key(arena, "delta", req->collection_id, req->delta->id),
                          &pb_rk_DeltaFile_desc, req->delta, arena));
        RK_RET(rk__co_box_copy(&step->delta, &pb_rk_DeltaFile_desc, req->delta));
    }
    return RK_OK;
}

/* Takes the boxes of |step| over; room was made before. Caller holds lock. */
static void
step_publish(rk_coordinator *co, rk__co_collection *c, flush_step *step, rk_str channel)
{
    rk__co_box *have = find_channel(c, channel);

    if (step->delta.message) {
        c->deltas[c->deltas_len++] = step->delta;
        step->delta = (rk__co_box){0};
    }
    for (size_t i = 0; i < step->segments_len; i++) {
        c->segments[c->segments_len++] = step->segments[i];
        step->segments[i].box = (rk__co_box){0};
    }
    rk__co_box_free(have);
    *have = step->channel;
    step->channel = (rk__co_box){0};
    c->flushed_at_ns = rk__co_now_ns(co);
    rk__co_wake(co);
}

rk_code
rk__co_save_flush(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_SaveFlushRequest *req = request;
    flush_step step = {0};
    rk__co_collection *c;
    const rk__co_box *channel = NULL;
    bool repeated = false;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    if (code == RK_OK && !(channel = find_channel(c, req->channel))) {
        code = rk_fail(ctx->err, RK_ECHANNEL_NOT_FOUND, "channel not found[channel=%.*s]",
                       RK_STR_ARG(req->channel));
    }
    if (code == RK_OK) {
        repeated =
            ((const pb_rk_ChannelInfo *)channel->message)->checkpoint_lsn >= req->checkpoint_lsn;
    }
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK || repeated) { /* the answer to the first call was lost */
        goto out;
    }
    rk_mutex_lock(&co->lock);
    code = rk__co_room_make(c, req->segments.n); /* before it is durable: then nothing may fail */
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK || step_prepare(&step, req, ctx->arena) != RK_OK) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    RK_ERR(rk__co_commit(co, step.ops, step.ops_len, ctx->err));
    rk_mutex_lock(&co->lock);
    step_publish(co, c, &step, req->channel);
    rk_mutex_unlock(&co->lock);
out:
    rk_mutex_lock(&co->lock);
    if (c) {
        c->segments_promised = 0;
    }
    rk_mutex_unlock(&co->lock);
    rk_mutex_unlock(&co->ddl);
    step_free(&step);
    return code;
}

/* ---- Flush ---- */

rk_code
rk__co_flush(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_FlushRequest *req = request;
    pb_rk_FlushResponse *out = response;
    pb_rk_CollectionId id = {.collection_id = req->collection_id};
    pb_rk_SealResponse *sealed = NULL;
    rk__co_collection *c;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    rk_mutex_unlock(&co->lock);
    RK_RET(code);
    RK_RET(pb_rk_StreamingNode_Seal(co->options.streaming_node, &id, &sealed, ctx));
    out->segment_ids.data = sealed->segment_ids.data;
    out->segment_ids.n = sealed->segment_ids.n;
    out->flush_ts = sealed->flush_ts;
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, req->collection_id);
    if (c) {
        out->flushed_segment_ids.data = RK_ARENA_ARRAY(ctx->arena, int64_t, c->segments_len + 1);
        for (size_t i = 0; out->flushed_segment_ids.data && i < c->segments_len; i++) {
            if (!c->segments[i].pending &&
                rk__co_seg_info(&c->segments[i])->state == PB_RK_SegmentState_SEGMENT_FLUSHED) {
                out->flushed_segment_ids.data[out->flushed_segment_ids.n++] = c->segments[i].id;
            }
        }
    }
    rk_mutex_unlock(&co->lock);
    return RK_OK;
}

/* The collection that one of |ids| belongs to as a growing segment is not known here: ask the
 * streaming node. */
static rk_code
still_growing(rk_coordinator *co, int64_t collection_id, const pb_i64s *ids, bool *growing,
              rk_ctx *ctx)
{
    pb_rk_CollectionId id = {.collection_id = collection_id};
    pb_rk_StreamingStatsResponse *stats = NULL;

    RK_RET(pb_rk_StreamingNode_GetStats(co->options.streaming_node, &id, &stats, ctx));
    for (size_t i = 0; i < stats->growing.n; i++) {
        for (size_t k = 0; k < ids->n; k++) {
            *growing = *growing || stats->growing.data[i]->id == ids->data[k];
        }
    }
    return RK_OK;
}

rk_code
rk__co_get_flush_state(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_FlushStateRequest *req = request;
    pb_rk_FlushStateResponse *out = response;
    pb_i64s ids = {req->segment_ids.data, req->segment_ids.n};
    int64_t *collections = NULL;
    size_t n = 0;
    bool behind = false;
    bool growing = false;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    collections = RK_ARENA_ARRAY(ctx->arena, int64_t, co->collections_len + 1);
    if (!collections) {
        code = rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; i < co->collections_len && collections; i++) {
        const rk__co_collection *c = co->collections[i];
        if (c->dropped || (req->collection_id != 0 && c->id != req->collection_id)) {
            continue;
        }
        collections[n++] = c->id;
        for (size_t k = 0; k < c->channels_len && req->collection_id != 0; k++) {
            behind = behind || ((const pb_rk_ChannelInfo *)c->channels[k].message)->checkpoint_ts <
                                   req->flush_ts;
        }
    }
    rk_mutex_unlock(&co->lock);
    RK_RET(code);
    if (req->collection_id != 0 && n == 0) {
        return rk__co_not_found(NULL, req->collection_id, ctx->err);
    }
    for (size_t i = 0; i < n && ids.n > 0 && !growing && !behind; i++) {
        code = still_growing(co, collections[i], &ids, &growing, ctx);
        if (code == RK_ECOLLECTION_NOT_FOUND) {
            rk_err_clear(ctx->err); /* dropped meanwhile */
            continue;
        }
        RK_RET(code);
    }
    out->flushed = !behind && !growing;
    return RK_OK;
}

/* ---- statistics and lists ---- */

rk_code
rk__co_get_statistics(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CollectionId *req = request;
    pb_rk_StatisticsResponse *out = response;
    pb_rk_StreamingStatsResponse *streaming = NULL;
    pb_rk_QuerySegmentsResponse *held = NULL;
    rk__co_collection *c;
    rk_code code = RK_OK;

    RK_RET(pb_rk_StreamingNode_GetStats(co->options.streaming_node, req, &streaming, ctx));
    RK_RET(pb_rk_QueryNode_GetSegments(co->options.query_node, req, &held, ctx));
    for (size_t i = 0; i < streaming->growing.n; i++) {
        out->row_count += streaming->growing.data[i]->rows;
    }
    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    for (size_t i = 0; code == RK_OK && i < c->segments_len; i++) {
        const pb_rk_SegmentInfo *info = rk__co_seg_info(&c->segments[i]);
        bool counted = !c->segments[i].pending && info->state == PB_RK_SegmentState_SEGMENT_FLUSHED;
        for (size_t k = 0; counted && k < streaming->growing.n; k++) {
            counted = streaming->growing.data[k]->id != info->id; /* flushed while we asked */
        }
        if (!counted) {
            continue;
        }
        out->row_count += info->rows;
        for (size_t k = 0; k < held->segment_ids.n; k++) {
            if (held->segment_ids.data[k] == info->id) {
                out->row_count -= held->rows_deleted.data[k];
            }
        }
    }
    rk_mutex_unlock(&co->lock);
    return code;
}

rk_code
rk__co_list_segments(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_ListSegmentsRequest *req = request;
    pb_rk_ListSegmentsResponse *out = response;
    rk__co_collection *c;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    RK_ERR(rk__co_find_present(co, req->collection_id, &c, ctx->err));
    out->segments.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_SegmentInfo *, c->segments_len + 1);
    out->deltas.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_DeltaFile *, c->deltas_len + 1);
    if (!out->segments.data || !out->deltas.data) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    for (size_t i = 0; i < c->segments_len; i++) {
        void *copy = NULL;
        if (c->segments[i].pending) {
            continue;
        }
        RK_ERR(pb_copy(&pb_rk_SegmentInfo_desc, &copy, c->segments[i].box.message, ctx->arena));
        out->segments.data[out->segments.n++] = copy;
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        void *copy = NULL;
        RK_ERR(pb_copy(&pb_rk_DeltaFile_desc, &copy, c->deltas[i].message, ctx->arena));
        out->deltas.data[out->deltas.n++] = copy;
    }
out:
    rk_mutex_unlock(&co->lock);
    return code;
}
