/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streaming node's table of collections: opening, updating, closing, statistics, and small
 * helpers of the other files.
 */
#include "worker/streaming/streaming_private.h"

rk_code
rk__sn_no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM, "streaming node: memory is out");
}

rk_code
rk__sn_not_found(int64_t collection_id, rk_err *err)
{
    return rk_fail(err, RK_ECOLLECTION_NOT_FOUND, "collection not found[collection=%lld]",
                   (long long)collection_id);
}

rk_code
rk__sn_broken(const rk__sn_collection *c, rk_err *err)
{
    return rk_fail(err, RK_EINTERNAL,
                   "collection %s needs a restart: a durable write could not be applied", c->name);
}

/* Position of |id|, or where it would be inserted. Caller holds lock. */
static size_t
find_position(const rk_streaming_node *node, int64_t id)
{
    size_t low = 0;
    size_t high = node->collections_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (node->collections[mid]->id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

rk__sn_collection *
rk__sn_find(rk_streaming_node *node, int64_t id)
{
    rk__sn_collection *c = NULL;
    size_t at;

    rk_mutex_lock(&node->lock);
    at = find_position(node, id);
    if (at < node->collections_len && node->collections[at]->id == id) {
        c = node->collections[at];
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    }
    rk_mutex_unlock(&node->lock);
    return c;
}

rk__sn_channel *
rk__sn_channel_find(rk__sn_collection *c, rk_str name, uint32_t *position)
{
    for (size_t i = 0; i < c->channels_len; i++) {
        if (rk_str_is(name, c->channels[i].name)) {
            if (position) {
                *position = (uint32_t)i;
            }
            return &c->channels[i];
        }
    }
    return NULL;
}

rk__sn_growing
rk__sn_slot_take(rk__sn_channel *ch, size_t at)
{
    rk__sn_growing slot = ch->slots[at];

    ch->slots[at] = ch->slots[--ch->slots_len];
    return slot;
}

void
rk__sn_growing_release(rk_streaming_node *node, rk__sn_growing *slot)
{
    rk_segment_unref(slot->segment);
    rk_mem_release(node->options.mem, slot->reserved_bytes);
    *slot = (rk__sn_growing){0};
}

static void
channel_deinit(rk_streaming_node *node, rk__sn_channel *ch)
{
    while (ch->slots_len > 0) {
        rk__sn_growing slot = rk__sn_slot_take(ch, ch->slots_len - 1);
        rk__sn_growing_release(node, &slot);
    }
    rk__sn_deletes_deinit(&ch->deletes);
    rk_free(ch->slots);
    rk_free(ch->deltas);
    rk_arena_free(ch->delta_arena);
    rk_free(ch->name);
}

void
rk__sn_unref(rk__sn_collection *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < c->channels_len; i++) {
        channel_deinit(c->node, &c->channels[i]);
    }
    while (c->jobs) {
        rk__sn_job *job = c->jobs;
        c->jobs = job->next;
        rk__sn_job_free(job);
    }
    rk_free(c->channels);
    rk_free(c->sealed);
    rk_free(c->name);
    rk_schema_unref(c->schema);
    rk_cond_deinit(&c->flushed);
    rk_cond_deinit(&c->turn_ended);
    rk_mutex_deinit(&c->turns);
    rk_mutex_deinit(&c->lock);
    rk_free(c);
}

rk_code
rk__sn_delta_remember(rk__sn_channel *ch, const pb_rk_DeltaFile *delta)
{
    void *copy = NULL;

    if (!ch->delta_arena && !(ch->delta_arena = rk_arena_new(0))) {
        return RK_ENOMEM;
    }
    if (ch->deltas_len == ch->deltas_cap) {
        size_t want = ch->deltas_cap ? ch->deltas_cap * 2 : 8;
        pb_rk_DeltaFile *bigger = rk_realloc(ch->deltas, want * sizeof(*bigger));
        if (!bigger) {
            return RK_ENOMEM;
        }
        ch->deltas = bigger;
        ch->deltas_cap = want;
    }
    RK_RET(pb_copy(&pb_rk_DeltaFile_desc, &copy, delta, ch->delta_arena));
    ch->deltas[ch->deltas_len++] = *(pb_rk_DeltaFile *)copy;
    return RK_OK;
}

static rk_code
fill_channels(rk__sn_collection *c, const pb_rk_OpenCollectionRequest *req)
{
    c->channels = rk_alloc_zero(req->channels.n + 1, sizeof(*c->channels));
    if (!c->channels) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < req->channels.n; i++) {
        const pb_rk_ChannelInfo *info = req->channels.data[i];
        rk__sn_channel *ch = &c->channels[i];
        ch->name = rk_strdup(info->name);
        c->channels_len = i + 1;
        if (!ch->name) {
            return RK_ENOMEM;
        }
        ch->checkpoint_lsn = info->checkpoint_lsn;
        ch->checkpoint_ts = info->checkpoint_ts;
        c->applied_ts = RK_MAX(c->applied_ts, info->checkpoint_ts);
        c->applied_lsn = RK_MAX(c->applied_lsn, info->checkpoint_lsn);
    }
    for (size_t i = 0; i < req->deltas.n; i++) {
        rk__sn_channel *ch = rk__sn_channel_find(c, req->deltas.data[i]->channel, NULL);
        if (ch) {
            RK_RET(rk__sn_delta_remember(ch, req->deltas.data[i]));
        }
    }
    return RK_OK;
}

static rk_code
collection_new(rk__sn_collection **out, rk_streaming_node *node,
               const pb_rk_OpenCollectionRequest *req, rk_err *err)
{
    rk__sn_collection *c = rk_alloc_zero(1, sizeof(*c));
    rk_code code = RK_OK;

    *out = NULL;
    if (!c) {
        return rk__sn_no_memory(err);
    }
    c->node = node;
    c->id = req->collection->id;
    atomic_init(&c->refs, 1);
    rk_mutex_init(&c->lock, "streaming.collection", RK__SN_RANK_COLLECTION);
    rk_mutex_init(&c->turns, "streaming.turns", RK__SN_RANK_TURNS);
    rk_cond_init(&c->turn_ended);
    rk_cond_init(&c->flushed);
    c->name = rk_strdup(req->collection->name);
    if (!c->name || fill_channels(c, req) != RK_OK) {
        code = rk__sn_no_memory(err);
        goto out;
    }
    RK_ERR(
        rk_schema_new(&c->schema, req->collection->schema, req->collection->schema_version, err));
    *out = c;
    c = NULL;
out:
    rk__sn_unref(c);
    return code;
}

rk_code
rk__sn_open_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_streaming_node *node = self;
    const pb_rk_OpenCollectionRequest *req = request;
    rk__sn_collection *c = NULL;
    rk_code code = RK_OK;
    size_t at;

    RK_UNUSED(response);
    if (!req->collection || !req->collection->schema || req->channels.n == 0) {
        return rk_fail(ctx->err, RK_EINTERNAL,
                       "a collection was opened without its schema or channels");
    }
    RK_RET(collection_new(&c, node, req, ctx->err));
    RK_ASSERT(c);
    if (!atomic_load(&node->replayed) && c->applied_ts > atomic_load(&node->last_ts)) {
        atomic_store(&node->last_ts, c->applied_ts); /* its records may have left the log */
    }
    rk_mutex_lock(&node->lock);
    at = find_position(node, c->id);
    if (at < node->collections_len && node->collections[at]->id == c->id) {
        rk_mutex_unlock(&node->lock); /* opened before: the call was repeated */
        rk__sn_unref(c);
        return RK_OK;
    }
    if (node->collections_len == node->collections_cap) {
        size_t want = node->collections_cap ? node->collections_cap * 2 : 16;
        rk__sn_collection **bigger = rk_realloc(node->collections, want * sizeof(*bigger));
        if (bigger) {
            node->collections = bigger;
            node->collections_cap = want;
        } else {
            code = rk__sn_no_memory(ctx->err);
        }
    }
    if (code == RK_OK) {
        memmove(&node->collections[at + 1], &node->collections[at],
                (node->collections_len - at) * sizeof(*node->collections));
        node->collections[at] = c;
        node->collections_len++;
        c = NULL;
    }
    rk_mutex_unlock(&node->lock);
    rk__sn_unref(c);
    return code;
}

/* Forgets delta files the coordinator no longer lists, of those up to the checkpoint it knows.
 * Caller has the turn and holds lock. */
static rk_code
prune_deltas(rk__sn_channel *ch, const pb_rk_OpenCollectionRequest *req)
{
    rk_arena *arena = rk_arena_new(0);
    pb_rk_DeltaFile *fresh = rk_alloc_zero(ch->deltas_len + 1, sizeof(*fresh));
    uint64_t known_ts = 0;
    size_t kept = 0;
    rk_code code = arena && fresh ? RK_OK : RK_ENOMEM;

    for (size_t i = 0; i < req->channels.n; i++) {
        if (rk_str_is(req->channels.data[i]->name, ch->name)) {
            known_ts = req->channels.data[i]->checkpoint_ts;
        }
    }
    for (size_t i = 0; i < ch->deltas_len && code == RK_OK; i++) {
        bool live = ch->deltas[i].max_ts > known_ts;
        void *copy = NULL;
        for (size_t j = 0; j < req->deltas.n && !live; j++) {
            live = req->deltas.data[j]->id == ch->deltas[i].id;
        }
        if (live) {
            code = pb_copy(&pb_rk_DeltaFile_desc, &copy, &ch->deltas[i], arena);
        }
        if (live && code == RK_OK) {
            fresh[kept++] = *(pb_rk_DeltaFile *)copy;
        }
    }
    if (code == RK_OK) {
        rk_arena *old_arena = ch->delta_arena;
        pb_rk_DeltaFile *old = ch->deltas;
        ch->deltas_cap = ch->deltas_len + 1;
        ch->deltas_len = kept;
        ch->deltas = fresh;
        ch->delta_arena = arena;
        fresh = old;
        arena = old_arena;
    }
    rk_free(fresh);
    rk_arena_free(arena);
    return code;
}

rk_code
rk__sn_update_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_OpenCollectionRequest *req = request;
    rk__sn_collection *c = req->collection ? rk__sn_find(self, req->collection->id) : NULL;
    rk__sn_turn turn = {0};
    rk_schema *schema = NULL;
    char *name = NULL;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    if (!c) {
        return rk__sn_not_found(req->collection ? req->collection->id : 0, ctx->err);
    }
    RK_ERR(
        rk_schema_new(&schema, req->collection->schema, req->collection->schema_version, ctx->err));
    name = rk_strdup(req->collection->name);
    if (!name) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    rk_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->channels_len && code == RK_OK; i++) {
        code = prune_deltas(&c->channels[i], req);
    }
    if (code != RK_OK) {
        code = rk__sn_no_memory(ctx->err);
    } else if (schema->version != c->schema->version || strcmp(name, c->name) != 0) {
        rk_schema *old_schema = c->schema;
        char *old_name = c->name;
        c->schema = schema;
        c->name = name;
        schema = old_schema;
        name = old_name;
    }
    rk_mutex_unlock(&c->lock);
    rk__sn_turn_end(c, &turn);
out:
    rk_free(name);
    rk_schema_unref(schema);
    rk__sn_unref(c);
    return code;
}

rk_code
rk__sn_close_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_streaming_node *node = self;
    const pb_rk_CollectionId *req = request;
    rk__sn_collection *c = rk__sn_find(node, req->collection_id);
    rk__sn_turn turn = {0};
    size_t at;

    RK_UNUSED(response);
    RK_UNUSED(ctx);
    if (!c) {
        return RK_OK; /* closed before */
    }
    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    rk_mutex_lock(&c->lock);
    c->closed = true;
    c->loaded = false;
    c->sealed_len = 0;
    c->first_dirty_lsn = 0;
    rk_cond_broadcast(&c->flushed);
    rk_mutex_unlock(&c->lock);
    rk__sn_turn_end(c, &turn);

    rk_mutex_lock(&node->lock);
    at = find_position(node, c->id);
    if (at < node->collections_len && node->collections[at] == c) {
        memmove(&node->collections[at], &node->collections[at + 1],
                (node->collections_len - at - 1) * sizeof(*node->collections));
        node->collections_len--;
        rk_mutex_unlock(&node->lock);
        rk__sn_unref(c); /* the table's */
    } else {
        rk_mutex_unlock(&node->lock);
    }
    rk__sn_unref(c);
    rk__sn_truncate(node);
    return RK_OK;
}

/* ---- statistics ---- */

static rk_code
list_growing(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_growing *slot,
             pb_rk_StreamingStatsResponse *out, pb_rk_ChannelStats *sum, rk_arena *arena)
{
    rk_segment_stats stats;
    pb_rk_SegmentInfo *info = RK_ARENA_NEW(arena, pb_rk_SegmentInfo);

    if (!info) {
        return RK_ENOMEM;
    }
    rk_segment_get_stats(slot->segment, &stats);
    info->id = stats.ids.id;
    info->collection_id = c->id;
    info->partition_id = slot->partition_id;
    info->channel = rk_arena_str(arena, rk_str_from(ch->name));
    info->state = PB_RK_SegmentState_SEGMENT_GROWING;
    info->rows = (int64_t)(stats.rows - stats.rows_deleted);
    info->size_bytes = stats.bytes;
    info->min_ts = stats.min_ts;
    info->max_ts = stats.max_ts;
    sum->growing_bytes += stats.bytes;
    if (!slot->saved) {
        sum->growing_rows += info->rows;
        out->growing.data[out->growing.n++] = info;
    }
    return RK_OK;
}

static rk_code
stats_locked(rk__sn_collection *c, pb_rk_StreamingStatsResponse *out, rk_arena *arena)
{
    size_t slots = 0;

    for (size_t i = 0; i < c->channels_len; i++) {
        slots += c->channels[i].slots_len;
    }
    out->channels.data = RK_ARENA_ARRAY(arena, pb_rk_ChannelStats *, c->channels_len);
    out->growing.data = RK_ARENA_ARRAY(arena, pb_rk_SegmentInfo *, slots + 1);
    if (!out->channels.data || !out->growing.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < c->channels_len; i++) {
        rk__sn_channel *ch = &c->channels[i];
        pb_rk_ChannelStats *sum = RK_ARENA_NEW(arena, pb_rk_ChannelStats);
        if (!sum) {
            return RK_ENOMEM;
        }
        sum->channel = rk_arena_str(arena, rk_str_from(ch->name));
        sum->applied_ts = c->applied_ts;
        for (size_t s = 0; s < ch->slots_len; s++) {
            RK_RET(list_growing(c, ch, &ch->slots[s], out, sum, arena));
        }
        out->channels.data[out->channels.n++] = sum;
    }
    return RK_OK;
}

rk_code
rk__sn_get_stats(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_CollectionId *req = request;
    rk__sn_collection *c = rk__sn_find(self, req->collection_id);
    rk_code code;

    if (!c) {
        return rk__sn_not_found(req->collection_id, ctx->err);
    }
    rk_mutex_lock(&c->lock);
    code = stats_locked(c, response, ctx->arena);
    rk_mutex_unlock(&c->lock);
    rk__sn_unref(c);
    return code == RK_OK ? RK_OK : rk__sn_no_memory(ctx->err);
}

/* ---- segment ids ---- */

rk_code
rk__sn_ids_promise(rk_streaming_node *node, size_t n, rk_ctx *ctx)
{
    for (;;) {
        pb_rk_AllocRequest request = {0};
        pb_rk_AllocResponse *answer = NULL;
        uint64_t wanted;
        bool enough;

        rk_mutex_lock(&node->lock);
        wanted = node->ids_promised + n;
        enough = node->ids_end - node->ids_next >= wanted;
        if (enough) {
            node->ids_promised = wanted;
        }
        rk_mutex_unlock(&node->lock);
        if (enough) {
            return RK_OK;
        }
        request.count = (uint32_t)RK_MIN(RK_MAX(wanted, (uint64_t)256), (uint64_t)UINT32_MAX);
        RK_RET(pb_rk_Coordinator_AllocId(atomic_load(&node->coordinator), &request, &answer, ctx));
        rk_mutex_lock(&node->lock);
        if (node->ids_end - node->ids_next < request.count) {
            node->ids_next = answer->first; /* what was left of the old range is never used */
            node->ids_end = answer->first + request.count;
        }
        rk_mutex_unlock(&node->lock);
    }
}

void
rk__sn_ids_return(rk_streaming_node *node, size_t n)
{
    rk_mutex_lock(&node->lock);
    node->ids_promised -= n;
    rk_mutex_unlock(&node->lock);
}

int64_t
rk__sn_id_take(rk_streaming_node *node)
{
    int64_t id = 0;

    rk_mutex_lock(&node->lock);
    if (node->ids_next < node->ids_end) {
        id = (int64_t)node->ids_next++;
    }
    rk_mutex_unlock(&node->lock);
    return id;
}
