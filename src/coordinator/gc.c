/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage: what nobody refers to any more leaves the meta store first and the object store after,
 * so that a record never points to a missing object. What a crash leaves between the two is an
 * object without a record; one sweep after each start finds those. A dropped collection goes the
 * other way round: nobody follows its records any more, and the drop record leads back to the rest.
 *
 * Nothing waits for a timer: a dropped segment goes as soon as no read can start on it, within
 * seconds of the drop. Readers and tasks that are still at work hold the files mapped; removing the
 * name does not disturb them.
 */
#include "coordinator/coordinator_private.h"

void
rk__co_drop_object(rk_coordinator *co, rk_str name)
{
    char *object = rk_strdup(name);
    rk_err err = {0};

    if (object && rk_object_delete(co->options.objects, object, &err) != RK_OK) {
        RK_LOG_W("coordinator", "event=delete_failed object=%s error=\"%s\"", object, err.text);
    }
    rk_free(object);
}

/* ---- dropped collections ---- */

static bool
has_task(const rk_coordinator *co, int64_t collection_id)
{
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].collection_id == collection_id) {
            return true;
        }
    }
    return false;
}

static void
cancel_tasks(rk_coordinator *co, int64_t collection_id, rk_ctx *ctx)
{
    pb_rk_TaskIds ids = {0};
    pb_rk_Empty *answer = NULL;

    rk_mutex_lock(&co->lock);
    ids.ids.data = RK_ARENA_ARRAY(ctx->arena, int64_t, co->tasks_len + 1);
    for (size_t i = 0; ids.ids.data && i < co->tasks_len; i++) {
        if (co->tasks[i].collection_id == collection_id) {
            ids.ids.data[ids.ids.n++] = co->tasks[i].id;
        }
    }
    rk_mutex_unlock(&co->lock);
    if (ids.ids.n > 0 &&
        pb_rk_DataNode_Cancel(co->options.data_node, &ids, &answer, ctx) != RK_OK) {
        rk_err_clear(ctx->err);
    }
}

static rk_code
remove_collection(rk_coordinator *co, int64_t id, rk_ctx *ctx)
{
    rk_object_info *objects = NULL;
    size_t n = 0;
    rk_str prefix = rk_arena_printf(ctx->arena, "c%lld", (long long)id);
    rk_meta_op ops[4] = {
        {.kind = RK_META_DELETE_PREFIX,
         .key = rk_arena_printf(ctx->arena, "seg/%020lld/", (long long)id)},
        {.kind = RK_META_DELETE_PREFIX,
         .key = rk_arena_printf(ctx->arena, "delta/%020lld/", (long long)id)},
        {.kind = RK_META_DELETE_PREFIX,
         .key = rk_arena_printf(ctx->arena, "chan/%020lld/", (long long)id)},
        {.kind = RK_META_DELETE, .key = rk__co_key(ctx->arena, "drop", id, 0)},
    };

    if (!prefix.data || !ops[0].key.data || !ops[1].key.data || !ops[2].key.data ||
        !ops[3].key.data) {
        return rk__co_no_memory(ctx->err);
    }
    /* objects first: until the drop record is gone a restart finds its way back here */
    RK_RET(rk_object_list(co->options.objects, prefix.data, &objects, &n, ctx->arena, ctx->err));
    for (size_t i = 0; i < n; i++) {
        rk__co_drop_object(co, objects[i].name);
    }
    RK_RET(RK_FAULT("drop.before_commit"));
    RK_RET(rk__co_commit(co, ops, RK_COUNT(ops), ctx->err));
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    rk__co_collection_remove(co, id);
    rk_cond_broadcast(&co->changed);
    rk_mutex_unlock(&co->lock);
    rk_mutex_unlock(&co->ddl);
    RK_LOG_I("coordinator", "event=collection_removed collection=%lld objects=%zu", (long long)id,
             n);
    return RK_OK;
}

/* ---- dropped segments, deltas and indexes ---- */

static bool
read_by_task(const rk_coordinator *co, int64_t segment_id)
{
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].segment_id == segment_id) {
            return true;
        }
        for (size_t k = 0; k < co->tasks[i].inputs_len; k++) {
            if (co->tasks[i].inputs[k] == segment_id) {
                return true;
            }
        }
    }
    return false;
}

/* A dropped segment that nobody serves, 0: none. While the collection is loaded its record stays
 * until the delegator has been told, so that no growing copy of it is forgotten. Caller holds lock.
 */
static int64_t
find_dead_segment(const rk_coordinator *co, const rk__co_collection *c)
{
    bool viewed = c->load_wanted || c->loaded || c->load_announced;

    for (size_t i = 0; i < c->segments_len; i++) {
        const rk__co_segment *s = &c->segments[i];
        if (!s->pending && rk__co_seg_info(s)->state == PB_RK_SegmentState_SEGMENT_DROPPED &&
            !s->in_view && !s->held && (s->told || !viewed) && !read_by_task(co, s->id)) {
            return s->id;
        }
    }
    return 0;
}

static rk_code
remove_segment(rk_coordinator *co, int64_t collection_id, int64_t segment_id, rk_ctx *ctx)
{
    rk_meta_op op = {.kind = RK_META_DELETE,
                     .key = rk__co_key(ctx->arena, "seg", collection_id, segment_id)};
    rk__co_collection *c;
    rk__co_segment *s;
    void *info = NULL;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, collection_id);
    s = c ? rk__co_segment_find(c, segment_id) : NULL;
    rk_code code = s && op.key.data
                       ? pb_copy(&pb_rk_SegmentInfo_desc, &info, s->box.message, ctx->arena)
                       : RK_ENOMEM;
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    RK_RET(rk__co_commit(co, &op, 1, ctx->err));
    rk__co_delete_objects(co, info);
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, collection_id);
    if (c) {
        rk__co_segment_remove(c, segment_id);
    }
    rk_mutex_unlock(&co->lock);
    return RK_OK;
}

/* Position of a delta that every segment of its channel has folded in, SIZE_MAX: none. Caller holds
 * lock. */
static size_t
find_dead_delta(const rk_coordinator *co, const rk__co_collection *c)
{
    if (has_task(co, c->id)) {
        return SIZE_MAX; /* a compaction may be about to read it */
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        const pb_rk_DeltaFile *delta = c->deltas[i].message;
        bool needed = false;
        for (size_t k = 0; k < c->segments_len && !needed; k++) {
            const pb_rk_SegmentInfo *info = rk__co_seg_info(&c->segments[k]);
            needed = info->state == PB_RK_SegmentState_SEGMENT_FLUSHED &&
                     rk_str_eq(info->channel, delta->channel) && info->fold_ts < delta->max_ts;
        }
        if (!needed) {
            return i;
        }
    }
    return SIZE_MAX;
}

static rk_code
remove_delta(rk_coordinator *co, int64_t collection_id, const pb_rk_DeltaFile *delta, rk_ctx *ctx)
{
    rk_meta_op op = {.kind = RK_META_DELETE,
                     .key = rk__co_key(ctx->arena, "delta", collection_id, delta->id)};
    rk__co_collection *c;

    if (!op.key.data) {
        return rk__co_no_memory(ctx->err);
    }
    RK_RET(rk__co_commit(co, &op, 1, ctx->err));
    rk__co_drop_object(co, delta->object);
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, collection_id);
    for (size_t i = 0; c && i < c->deltas_len; i++) {
        if (((pb_rk_DeltaFile *)c->deltas[i].message)->id == delta->id) {
            rk__co_box_free(&c->deltas[i]);
            memmove(&c->deltas[i], &c->deltas[i + 1], (c->deltas_len - i - 1) * sizeof(*c->deltas));
            c->deltas_len--;
            c->deltas_pruned = true;
            break;
        }
    }
    rk_mutex_unlock(&co->lock);
    return RK_OK;
}

/* Tells the delegator which delta files are left. */
static rk_code
tell_deltas(rk_coordinator *co, int64_t id, rk_ctx *ctx)
{
    pb_rk_OpenCollectionRequest update = {0};
    pb_rk_Empty *answer = NULL;
    rk__co_collection *c;
    void *copy = NULL;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (!c || c->dropped || !c->deltas_pruned) {
        goto out;
    }
    update.channels.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_ChannelInfo *, c->channels_len + 1);
    update.deltas.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_DeltaFile *, c->deltas_len + 1);
    if (!update.channels.data || !update.deltas.data) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    RK_ERR(pb_copy(&pb_rk_CollectionInfo_desc, &copy, rk__co_info(c), ctx->arena));
    update.collection = copy;
    for (size_t i = 0; i < c->channels_len; i++) {
        RK_ERR(pb_copy(&pb_rk_ChannelInfo_desc, &copy, c->channels[i].message, ctx->arena));
        update.channels.data[update.channels.n++] = copy;
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        RK_ERR(pb_copy(&pb_rk_DeltaFile_desc, &copy, c->deltas[i].message, ctx->arena));
        update.deltas.data[update.deltas.n++] = copy;
    }
    c->deltas_pruned = false;
out:
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK || !update.collection) {
        return code;
    }
    code = pb_rk_StreamingNode_UpdateCollection(co->options.streaming_node, &update, &answer, ctx);
    if (code != RK_OK) {
        rk_mutex_lock(&co->lock);
        c = rk__co_find(co, id);
        if (c) {
            c->deltas_pruned = true;
        }
        rk_mutex_unlock(&co->lock);
    }
    return code;
}

/* A copy of a segment that lists files of indexes the collection no longer has, without them; NULL:
 * none. Caller holds lock. */
static rk_code
find_dead_index(const rk__co_collection *c, pb_rk_SegmentInfo **out, rk_str *object,
                rk_arena *arena)
{
    *out = NULL;
    for (size_t i = 0; i < c->segments_len; i++) {
        const pb_rk_SegmentInfo *info = rk__co_seg_info(&c->segments[i]);
        for (size_t k = 0; k < info->indexes.n; k++) {
            bool known = false;
            void *copy = NULL;
            for (size_t x = 0; x < rk__co_info(c)->indexes.n && !known; x++) {
                known = rk__co_info(c)->indexes.data[x]->id == info->indexes.data[k]->index_id;
            }
            if (known) {
                continue;
            }
            RK_RET(pb_copy(&pb_rk_SegmentInfo_desc, &copy, info, arena));
            *out = copy;
            *object = (*out)->indexes.data[k]->object;
            (*out)->indexes.data[k] = (*out)->indexes.data[--(*out)->indexes.n];
            return RK_OK;
        }
    }
    return RK_OK;
}

/* One piece of garbage of a living collection. |*found| false: there is none left. */
static rk_code
collect_one(rk_coordinator *co, int64_t id, bool *found, rk_ctx *ctx)
{
    rk__co_collection *c;
    int64_t segment_id = 0;
    pb_rk_SegmentInfo *without = NULL;
    pb_rk_DeltaFile *delta = NULL;
    rk_str object = {NULL, 0};
    rk_code code = RK_OK;

    *found = false;
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c && !c->dropped) {
        segment_id = find_dead_segment(co, c);
        if (segment_id == 0) {
            code = find_dead_index(c, &without, &object, ctx->arena);
        }
        if (segment_id == 0 && !without && code == RK_OK) {
            size_t at = find_dead_delta(co, c);
            void *copy = NULL;
            if (at != SIZE_MAX) {
                code = pb_copy(&pb_rk_DeltaFile_desc, &copy, c->deltas[at].message, ctx->arena);
                delta = copy;
            }
        }
    }
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    *found = segment_id != 0 || without || delta;
    if (segment_id != 0) {
        return remove_segment(co, id, segment_id, ctx);
    }
    if (without) {
        RK_RET(rk__co_segment_replace(co, id, without, ctx));
        rk__co_drop_object(co, object);
        return RK_OK;
    }
    return delta ? remove_delta(co, id, delta, ctx) : RK_OK;
}

void
rk__co_collect_garbage(rk_coordinator *co, int64_t id)
{
    rk_err err = {0};
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = &err, .deadline_ns = INT64_MAX};
    const rk__co_collection *c;
    bool found = true;
    bool dropped = false;
    bool busy = false;
    rk_code code = RK_OK;

    if (!ctx.arena) {
        return;
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    dropped = c && c->dropped;
    busy = has_task(co, id);
    for (size_t i = 0; c && dropped && i < c->segments_len; i++) {
        busy = busy || c->segments[i].held; /* the query node has not let go */
    }
    busy = busy || (c && dropped && (c->loaded || c->load_announced));
    rk_mutex_unlock(&co->lock);
    if (dropped) {
        cancel_tasks(co, id, &ctx);
        code = busy ? RK_OK : remove_collection(co, id, &ctx);
    }
    while (!dropped && found && code == RK_OK) {
        code = collect_one(co, id, &found, &ctx);
        rk_arena_reset(ctx.arena);
    }
    if (!dropped && code == RK_OK) {
        code = tell_deltas(co, id, &ctx);
    }
    if (code != RK_OK) {
        co->pass_failed = true;
        RK_LOG_W("coordinator", "event=gc_failed collection=%lld code=%d error=\"%s\"",
                 (long long)id, code, err.text);
    }
    rk_arena_free(ctx.arena);
}

/* ---- objects without a record ---- */

/* The number after |letter| at the start of |*at|, which is moved behind it and a following '/'. */
static bool
take_number(rk_str *at, char letter, int64_t *out)
{
    size_t len = 0;

    if (at->len < 2 || at->data[0] != letter) {
        return false;
    }
    while (1 + len < at->len && at->data[1 + len] >= '0' && at->data[1 + len] <= '9') {
        len++;
    }
    if (!rk_str_to_i64((rk_str){at->data + 1, len}, out)) {
        return false;
    }
    at->data += 1 + len;
    at->len -= 1 + len;
    if (at->len > 0 && at->data[0] == '/') {
        at->data++;
        at->len--;
    }
    return true;
}

/* True when a record refers to the object, or it may belong to work of this start. Caller holds
 * lock. */
static bool
is_wanted(rk_coordinator *co, rk_str name)
{
    rk_str at = name;
    rk__co_collection *c;
    const rk__co_segment *s;
    int64_t collection;
    int64_t id;

    if (!take_number(&at, 'c', &collection)) {
        return true; /* not a name of ours: not ours to remove */
    }
    c = rk__co_find(co, collection);
    if (!c) {
        return collection >= co->start_id;
    }
    if (take_number(&at, 'd', &id)) {
        for (size_t i = 0; i < c->deltas_len; i++) {
            if (rk_str_eq(((pb_rk_DeltaFile *)c->deltas[i].message)->object, name)) {
                return true;
            }
        }
        return id >= co->start_id;
    }
    if (!take_number(&at, 's', &id) || id >= co->start_id) {
        return true;
    }
    s = rk__co_segment_find(c, id);
    for (size_t i = 0; s && i < rk__co_seg_info(s)->columns.n; i++) {
        if (rk_str_eq(rk__co_seg_info(s)->columns.data[i]->object, name)) {
            return true;
        }
    }
    for (size_t i = 0; s && i < rk__co_seg_info(s)->indexes.n; i++) {
        if (rk_str_eq(rk__co_seg_info(s)->indexes.data[i]->object, name)) {
            return true;
        }
    }
    return s && take_number(&at, 'i', &id) && id >= co->start_id;
}

void
rk__co_sweep_orphans(rk_coordinator *co)
{
    rk_arena *arena = rk_arena_new(0);
    rk_object_info *objects = NULL;
    rk_err err = {0};
    size_t n = 0;
    size_t swept = 0;

    if (!arena) {
        return;
    }
    if (rk_object_list(co->options.objects, "", &objects, &n, arena, &err) != RK_OK) {
        RK_LOG_W("coordinator", "event=sweep_failed error=\"%s\"", err.text);
    }
    for (size_t i = 0; i < n; i++) {
        bool wanted;
        rk_mutex_lock(&co->lock);
        wanted = is_wanted(co, objects[i].name);
        rk_mutex_unlock(&co->lock);
        if (!wanted) {
            rk__co_drop_object(co, objects[i].name);
            swept++;
        }
    }
    if (swept > 0) {
        RK_LOG_I("coordinator", "event=orphans_swept objects=%zu", swept);
    }
    rk_arena_free(arena);
}
