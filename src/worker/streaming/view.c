/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The view: which sealed segments reads use beside the growing rows. The coordinator says what to
 * add and remove; the delegator sees to it that an added segment has every delete before the first
 * read meets it.
 *
 * Deletes reach a new sealed segment in two steps. Those in delta files are applied without holding
 * up writes. Then, in a turn, what is left: delta files that appeared meanwhile and the buffer. In
 * the same turn the segment joins the view and the growing copy it replaces leaves it, so no read
 * sees a row twice or not at all; and from then on new deletes are sent to it in order.
 */
#include "worker/streaming/streaming_private.h"

/* Sends the delta files of |ch| with id above |after| that |info| may need. |*newest|: the newest
 * id there is. */
static rk_code
send_deltas(rk__sn_collection *c, rk__sn_channel *ch, const pb_rk_SegmentInfo *info, int64_t after,
            int64_t *newest, rk_ctx *ctx)
{
    pb_rk_ApplyDeletesRequest request = {.collection_id = c->id};
    pb_rk_Empty *answer = NULL;
    int64_t id = info->id;
    rk_code code = RK_OK;

    request.segment_ids.data = &id;
    request.segment_ids.n = 1;
    rk_mutex_lock(&c->lock);
    *newest = after;
    request.deltas.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_DeltaFile *, ch->deltas_len + 1);
    for (size_t i = 0; request.deltas.data && i < ch->deltas_len; i++) {
        const pb_rk_DeltaFile *delta = &ch->deltas[i];
        void *copy = NULL;
        *newest = RK_MAX(*newest, delta->id);
        if (delta->id <= after || delta->max_ts <= info->fold_ts) {
            continue;
        }
        code = pb_copy(&pb_rk_DeltaFile_desc, &copy, delta, ctx->arena);
        if (code != RK_OK) {
            break;
        }
        request.deltas.data[request.deltas.n++] = copy;
    }
    rk_mutex_unlock(&c->lock);
    if (!request.deltas.data || code != RK_OK) {
        return rk__sn_no_memory(ctx->err);
    }
    if (request.deltas.n == 0) {
        return RK_OK;
    }
    return pb_rk_QueryNode_ApplyDeletes(c->node->options.query_node, &request, &answer, ctx);
}

/* Sends the buffered deletes newer than what is folded into |info|. Caller has the turn. */
static rk_code
send_buffer(rk__sn_collection *c, rk__sn_channel *ch, const pb_rk_SegmentInfo *info, rk_ctx *ctx)
{
    pb_rk_ApplyDeletesRequest request = {.collection_id = c->id};
    pb_rk_Empty *answer = NULL;
    int64_t id = info->id;
    size_t n = 0;

    if (rk__sn_deletes_copy(&ch->deletes, info->fold_ts, UINT64_MAX, &request.keys,
                            &request.timestamps.data, &n, ctx->arena) != RK_OK) {
        return rk__sn_no_memory(ctx->err);
    }
    if (n == 0) {
        return RK_OK;
    }
    request.timestamps.n = n;
    request.segment_ids.data = &id;
    request.segment_ids.n = 1;
    return pb_rk_QueryNode_ApplyDeletes(c->node->options.query_node, &request, &answer, ctx);
}

static bool
in_view(const rk__sn_collection *c, int64_t id)
{
    for (size_t i = 0; i < c->sealed_len; i++) {
        if (c->sealed[i].id == id) {
            return true;
        }
    }
    return false;
}

static bool
listed(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static bool
added(const pb_rk_SyncViewRequest *req, int64_t id)
{
    for (size_t i = 0; i < req->add.n; i++) {
        if (req->add.data[i]->id == id) {
            return true;
        }
    }
    return false;
}

/* Publishes the new view. Caller has the turn; |room| holds sealed_len + add.n entries and becomes
 * the view. */
static void
publish(rk__sn_collection *c, const pb_rk_SyncViewRequest *req, rk__sn_sealed **room,
        size_t room_cap, rk__sn_growing *gone, size_t *gone_len)
{
    rk__sn_sealed *next = *room;
    size_t n = 0;

    rk_mutex_lock(&c->lock);
    for (size_t i = 0; req->loaded && i < c->sealed_len; i++) {
        if (!listed(req->remove.data, req->remove.n, c->sealed[i].id)) {
            next[n++] = c->sealed[i];
        }
    }
    for (size_t i = 0; req->loaded && i < req->add.n; i++) {
        const pb_rk_SegmentInfo *info = req->add.data[i];
        uint32_t channel = 0;
        if (!in_view(c, info->id) && rk__sn_channel_find(c, info->channel, &channel)) {
            next[n++] = (rk__sn_sealed){info->id, info->partition_id, channel};
        }
    }
    *room = c->sealed;
    c->sealed = next;
    c->sealed_cap = room_cap;
    c->sealed_len = n;
    c->loaded = req->loaded;
    c->keeps_saved = req->loaded || req->loading;
    for (size_t i = 0; i < c->channels_len; i++) {
        rk__sn_channel *ch = &c->channels[i];
        for (size_t s = 0; s < ch->slots_len;) {
            rk_segment_stats stats;
            rk_segment_get_stats(ch->slots[s].segment, &stats);
            if (req->loaded ? added(req, stats.ids.id) ||
                                  listed(req->drop_growing.data, req->drop_growing.n, stats.ids.id)
                            : ch->slots[s].saved && !req->loading) {
                gone[(*gone_len)++] = rk__sn_slot_take(ch, s);
            } else {
                s++;
            }
        }
    }
    rk_mutex_unlock(&c->lock);
}

/* The turn of a view change. |newest[i]| is the newest delta that segment i already has. */
static rk_code
change_in_turn(rk__sn_collection *c, const pb_rk_SyncViewRequest *req, const int64_t *newest,
               rk_ctx *ctx)
{
    rk__sn_growing *gone = NULL;
    rk__sn_sealed *room = NULL;
    size_t gone_len = 0;
    size_t slots = 0;
    size_t room_cap = c->sealed_len + req->add.n + 1;
    rk_code code = RK_OK;

    if (c->closed) {
        return rk__sn_not_found(c->id, ctx->err);
    }
    for (size_t i = 0; i < req->add.n; i++) {
        const pb_rk_SegmentInfo *info = req->add.data[i];
        rk__sn_channel *ch = rk__sn_channel_find(c, info->channel, NULL);
        int64_t newer = 0;
        if (!ch || in_view(c, info->id)) {
            continue;
        }
        RK_RET(send_deltas(c, ch, info, newest[i], &newer, ctx));
        RK_RET(send_buffer(c, ch, info, ctx));
    }
    for (size_t i = 0; i < c->channels_len; i++) {
        slots += c->channels[i].slots_len;
    }
    gone = RK_ARENA_ARRAY(ctx->arena, rk__sn_growing, slots + 1);
    room = rk_alloc_zero(room_cap, sizeof(*room));
    if (!gone || !room) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    publish(c, req, &room, room_cap, gone, &gone_len);
    for (size_t i = 0; i < gone_len; i++) {
        rk__sn_growing_release(c->node, &gone[i]);
    }
out:
    rk_free(room);
    return code;
}

rk_code
rk__sn_sync_view(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_SyncViewRequest *req = request;
    rk__sn_collection *c = rk__sn_find(self, req->collection_id);
    rk__sn_turn turn = {0};
    int64_t *newest = RK_ARENA_ARRAY(ctx->arena, int64_t, req->add.n + 1);
    rk_code code = RK_OK;

    RK_UNUSED(response);
    if (!c) {
        return rk__sn_not_found(req->collection_id, ctx->err);
    }
    if (!newest) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    for (size_t i = 0; i < req->add.n && req->loaded; i++) {
        rk__sn_channel *ch = rk__sn_channel_find(c, req->add.data[i]->channel, NULL);
        if (!ch) {
            code = rk_fail(ctx->err, RK_ECHANNEL_NOT_FOUND, "channel not found[channel=%.*s]",
                           RK_STR_ARG(req->add.data[i]->channel));
            goto out;
        }
        RK_ERR(send_deltas(c, ch, req->add.data[i], 0, &newest[i], ctx));
    }
    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    code = change_in_turn(c, req, newest, ctx);
    rk__sn_turn_end(c, &turn);
out:
    rk__sn_unref(c);
    return code;
}
