/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying a write that is durable: deletes first, then rows, then the new timestamp is published
 * and readers see all of it at once.
 *
 * The caller has the collection's turn, so nobody else changes its channels; `lock` is taken only
 * where readers look.
 */
#include "worker/streaming/streaming_private.h"

/* How often, and after what pause, deletes are sent to a query node that could not be asked. */
#define SEND_TRIES    20
#define SEND_PAUSE_NS (INT64_C(100) * 1000000)

/* A channel with so many deletes that no flush covers is sealed. */
#define ACTIVE_DELETES_MAX ((size_t)1 << 20)

/* The collection cannot follow the log any more: it refuses everything until a restart replays it.
 */
static rk_code
mark_broken(rk__sn_collection *c, rk_code code, rk_err *err)
{
    rk_mutex_lock(&c->lock);
    c->broken = true;
    rk_mutex_unlock(&c->lock);
    RK_LOG_E("streaming", "event=collection_broken collection=%lld code=%d", (long long)c->id,
             code);
    return rk_fail(
        err, RK_EINTERNAL,
        "the write is durable but could not be applied (%s); it will be served after a restart",
        rk_code_get_info(code)->text);
}

/* ---- deletes ---- */

static rk_code
delete_in_growing(rk__sn_channel *ch, const pb_schema_IDs *keys, const uint64_t *ts, size_t n,
                  rk_err *err)
{
    for (size_t i = 0; i < ch->slots_len; i++) {
        size_t hits;
        RK_RET(rk_segment_delete(ch->slots[i].segment, keys, ts, n, &hits, err));
    }
    return RK_OK;
}

/* Sends the deletes to the sealed segments of the view that belong to the channel. */
static rk_code
delete_in_sealed(rk__sn_collection *c, uint32_t channel, const pb_schema_IDs *keys, uint64_t *ts,
                 size_t n, rk_ctx *ctx)
{
    pb_rk_ApplyDeletesRequest request = {.collection_id = c->id};
    pb_rk_Empty *answer = NULL;
    pb_schema_IDs borrowed = *keys;

    request.segment_ids.data = RK_ARENA_ARRAY(ctx->arena, int64_t, c->sealed_len + 1);
    if (!request.segment_ids.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < c->sealed_len; i++) {
        if (c->sealed[i].channel == channel) {
            request.segment_ids.data[request.segment_ids.n++] = c->sealed[i].id;
        }
    }
    if (request.segment_ids.n == 0) {
        return RK_OK;
    }
    request.keys = &borrowed;
    request.timestamps.data = ts;
    request.timestamps.n = n;
    for (int i = 1;; i++) { /* the delete is durable: giving up breaks the collection */
        const rk_clock *clock = c->node->options.env->clock;
        rk_code code =
            pb_rk_QueryNode_ApplyDeletes(c->node->options.query_node, &request, &answer, ctx);
        bool retriable = code == RK_ENOMEM || code == RK_EDEADLINE ||
                         (rk_code_get_info(code)->flags & RK_F_RETRIABLE);
        if (code == RK_OK || !retriable || i == SEND_TRIES || atomic_load(&c->node->stopping)) {
            return code;
        }
        rk_err_clear(ctx->err);
        clock->sleep_ns(clock->self, SEND_PAUSE_NS);
    }
}

static rk_code
apply_delete(rk__sn_collection *c, const pb_rk_DeleteBatch *batch, uint64_t at_ts, rk_ctx *ctx)
{
    uint32_t position = 0;
    rk__sn_channel *ch = rk__sn_channel_find(c, batch->channel, &position);
    size_t n = batch->keys ? rk_ids_len(batch->keys) : 0;
    rk_code code;
    uint64_t *ts;

    if (!ch || n == 0) {
        return RK_OK;
    }
    ts = RK_ARENA_ARRAY(ctx->arena, uint64_t, n);
    if (!ts) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        ts[i] = at_ts;
    }
    RK_RET(delete_in_growing(ch, batch->keys, ts, n, ctx->err));
    rk_mutex_lock(&c->lock); /* a view change copies from the buffer */
    code = rk__sn_deletes_add(&ch->deletes, batch->keys, at_ts);
    rk_mutex_unlock(&c->lock);
    RK_RET(code);
    ch->active_deletes += n;
    return delete_in_sealed(c, position, batch->keys, ts, n, ctx);
}

/* ---- rows ---- */

static rk_code
add_slot(rk__sn_collection *c, rk__sn_channel *ch, int64_t partition_id, rk__sn_growing **out,
         rk_ctx *ctx)
{
    rk_streaming_node *node = c->node;
    rk_segment_ids ids = {
        .collection_id = c->id, .partition_id = partition_id, .id = rk__sn_id_take(node)};
    rk_segment *seg = NULL;
    rk__sn_growing *bigger = NULL;

    if (ids.id == 0) { /* only while the log is replayed: a write was promised its ids before */
        RK_RET(rk__sn_ids_promise(node, 1, ctx));
        ids.id = rk__sn_id_take(node);
        rk__sn_ids_return(node, 1);
    }
    /* no budget: its bytes were reserved before the write went to the log */
    RK_RET(rk_segment_new_growing(&seg, &ids, c->schema, NULL, ctx->err));
    rk_segment_allow_codes(seg, node->options.mem);
    rk_mutex_lock(&c->lock);
    if (ch->slots_len == ch->slots_cap) {
        size_t want = ch->slots_cap ? ch->slots_cap * 2 : 4;
        bigger = rk_realloc(ch->slots, want * sizeof(*bigger));
        if (!bigger) {
            rk_mutex_unlock(&c->lock);
            rk_segment_unref(seg);
            return RK_ENOMEM;
        }
        ch->slots = bigger;
        ch->slots_cap = want;
    }
    *out = &ch->slots[ch->slots_len++];
    **out = (rk__sn_growing){.segment = seg, .partition_id = partition_id};
    rk_mutex_unlock(&c->lock);
    return RK_OK;
}

static rk__sn_growing *
find_active(rk__sn_channel *ch, int64_t partition_id)
{
    for (size_t i = 0; i < ch->slots_len; i++) {
        if (ch->slots[i].job == 0 && ch->slots[i].partition_id == partition_id) {
            return &ch->slots[i];
        }
    }
    return NULL;
}

static rk_code
apply_insert(rk__sn_collection *c, const pb_rk_RowBatch *batch, uint64_t ts, uint64_t bytes,
             rk_ctx *ctx)
{
    rk__sn_channel *ch = rk__sn_channel_find(c, batch->channel, NULL);
    rk__sn_growing *slot;

    if (!ch || batch->rows == 0) {
        rk_mem_release(c->node->options.mem, bytes);
        return RK_OK;
    }
    slot = find_active(ch, batch->partition_id);
    if (!slot) {
        rk_code code = add_slot(c, ch, batch->partition_id, &slot, ctx);
        if (code != RK_OK) {
            rk_mem_release(c->node->options.mem, bytes);
            return code;
        }
    }
    slot->reserved_bytes += bytes;
    ch->active_bytes += bytes;
    return rk_segment_append(slot->segment, batch->fields.data, batch->fields.n, batch->rows, ts,
                             ctx->err);
}

rk_code
rk__sn_apply(rk__sn_collection *c, const pb_rk_AppendRequest *req, uint64_t ts, uint64_t lsn,
             uint64_t reserved_bytes, rk_ctx *ctx)
{
    uint64_t rows = 0;
    uint64_t left = reserved_bytes;
    rk_code code = RK_OK;

    if (c->closed) { /* dropped while this write was on its way: nothing to serve it from */
        rk_mem_release(c->node->options.mem, reserved_bytes);
        return rk__sn_not_found(c->id, ctx->err);
    }
    for (size_t i = 0; i < req->deletes.n && code == RK_OK; i++) {
        code = apply_delete(c, req->deletes.data[i], ts, ctx);
    }
    for (size_t i = 0; i < req->inserts.n; i++) {
        rows += req->inserts.data[i]->rows;
    }
    for (size_t i = 0; i < req->inserts.n && code == RK_OK; i++) {
        const pb_rk_RowBatch *batch = req->inserts.data[i];
        uint64_t share =
            i + 1 == req->inserts.n || rows == 0 ? left : reserved_bytes / rows * batch->rows;
        left -= share;
        code = apply_insert(c, batch, ts, share, ctx);
    }
    rk_mem_release(c->node->options.mem, left); /* deletes alone keep none of it */
    if (code != RK_OK) {
        return mark_broken(c, code, ctx->err);
    }
    rk_mutex_lock(&c->lock);
    c->applied_ts = RK_MAX(c->applied_ts, ts);
    c->applied_lsn = RK_MAX(c->applied_lsn, lsn);
    if (c->first_dirty_lsn == 0) {
        c->first_dirty_lsn = lsn;
    }
    rk_mutex_unlock(&c->lock);
    return RK_OK;
}

bool
rk__sn_wants_seal(rk__sn_collection *c)
{
    for (size_t i = 0; i < c->channels_len; i++) {
        const rk__sn_channel *ch = &c->channels[i];
        if (ch->active_bytes >= c->node->growing_bytes_max ||
            ch->active_deletes >= ACTIVE_DELETES_MAX) {
            return true;
        }
    }
    return false;
}
