/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flushing: growing segments become files. A job covers the collection up to one point of its log;
 * jobs of a collection run one after the other on the background pool, each in three steps:
 *
 *   1. turn: active segments are assigned to the job; writes go on into new ones
 *   2. per channel: the column files and the file of deletes are written, then SaveFlush makes
 *      segments, deletes and the new checkpoint part of the catalogue in one transaction
 *   3. turn: deletes that are in files leave the buffer; segments nobody reads leave memory (a
 *      loaded collection keeps them until the sealed copy serves, see view.c)
 *
 * A failed job is tried again after a pause: nothing is lost meanwhile, the log still has it all.
 * What was written before the failure is kept in the job's answer from the first run, since objects
 * are written once.
 */
#include "worker/streaming/streaming_private.h"

#define RETRY_MS 1000

/* ---- sealing ---- */

/* True when the collection has rows or deletes that no job covers. Caller has the turn. */
static bool
has_dirty(const rk__sn_collection *c)
{
    return c->first_dirty_lsn != 0 && !c->closed && !c->broken;
}

static void flush_task(void *arg);

/* Starts the flush of |c| on the background pool unless it runs; the task holds a reference. Caller
 * holds no lock. */
static void
start_flush(rk__sn_collection *c, int64_t delay_ms)
{
    rk_streaming_node *node = c->node;
    rk_code code;

    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&node->busy, 1);
    code = delay_ms > 0 ? rk_pool_submit_after(node->options.background, delay_ms, flush_task, c)
                        : rk_pool_submit(node->options.background, flush_task, c);
    if (code != RK_OK) { /* queue full or stopping: the next seal tries again */
        rk_mutex_lock(&c->lock);
        c->flush_running = false;
        rk_cond_broadcast(&c->flushed);
        rk_mutex_unlock(&c->lock);
        atomic_fetch_sub(&node->busy, 1);
        rk__sn_unref(c);
    }
}

/* Assigns what is active to a new job. Caller has the turn. */
static rk_code
seal_in_turn(rk__sn_collection *c, pb_i64s *sealed, uint64_t *flush_ts, bool *start)
{
    rk__sn_job *job = rk_alloc_zero(1, sizeof(*job));
    rk__sn_job **tail = &c->jobs;

    if (!job) {
        return RK_ENOMEM;
    }
    rk_mutex_lock(&c->lock);
    job->id = 1 + atomic_fetch_add(&c->node->next_job, 1);
    job->lsn = c->applied_lsn;
    job->ts = c->applied_ts;
    job->first_lsn = c->first_dirty_lsn;
    c->first_dirty_lsn = 0;
    for (size_t i = 0; i < c->channels_len; i++) {
        rk__sn_channel *ch = &c->channels[i];
        ch->active_bytes = 0;
        for (size_t s = 0; s < ch->slots_len; s++) {
            if (ch->slots[s].job == 0) {
                rk_segment_stats stats;
                rk_segment_get_stats(ch->slots[s].segment, &stats);
                ch->slots[s].job = job->id;
                if (sealed) {
                    sealed->data[sealed->n++] = stats.ids.id;
                }
            }
        }
    }
    while (*tail) {
        tail = &(*tail)->next;
    }
    *tail = job;
    *flush_ts = job->ts;
    *start = !c->flush_running;
    c->flush_running = true;
    rk_mutex_unlock(&c->lock);
    return RK_OK;
}

static size_t
count_slots(const rk__sn_collection *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->channels_len; i++) {
        n += c->channels[i].slots_len;
    }
    return n;
}

/* |arena| NULL: the ids are not wanted. */
static rk_code
seal(rk__sn_collection *c, pb_i64s *sealed, uint64_t *flush_ts, rk_arena *arena, rk_err *err)
{
    rk__sn_turn turn = {0};
    bool start = false;
    rk_code code = RK_OK;

    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    if (c->closed) {
        code = rk__sn_not_found(c->id, err);
    } else if (has_dirty(c)) {
        if (arena && !(sealed->data = RK_ARENA_ARRAY(arena, int64_t, count_slots(c) + 1))) {
            code = rk__sn_no_memory(err);
        } else {
            code = seal_in_turn(c, arena ? sealed : NULL, flush_ts, &start);
        }
    } else {
        rk_mutex_lock(&c->lock);
        *flush_ts = c->applied_ts;
        rk_mutex_unlock(&c->lock);
    }
    rk__sn_turn_end(c, &turn);
    if (start) {
        start_flush(c, 0);
    }
    return code;
}

rk_code
rk__sn_seal(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_CollectionId *req = request;
    pb_rk_SealResponse *out = response;
    rk__sn_collection *c = rk__sn_find(self, req->collection_id);
    pb_i64s sealed = {0};
    rk_code code;

    if (!c) {
        return rk__sn_not_found(req->collection_id, ctx->err);
    }
    code = seal(c, &sealed, &out->flush_ts, ctx->arena, ctx->err);
    out->segment_ids.data = sealed.data;
    out->segment_ids.n = sealed.n;
    rk__sn_unref(c);
    return code;
}

static void
seal_task(void *arg)
{
    rk__sn_collection *c = arg;
    uint64_t flush_ts;

    if (seal(c, NULL, &flush_ts, NULL, NULL) != RK_OK) {
        RK_LOG_W("streaming", "event=seal_failed collection=%lld", (long long)c->id);
    }
    atomic_fetch_sub(&c->node->busy, 1);
    rk__sn_unref(c);
}

void
rk__sn_seal_soon(rk__sn_collection *c)
{
    rk_streaming_node *node = c->node;

    if (atomic_load(&node->stopping) || !atomic_load(&node->replayed)) {
        return;
    }
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&node->busy, 1);
    if (rk_pool_submit(node->options.background, seal_task, c) != RK_OK) {
        atomic_fetch_sub(&node->busy, 1);
        rk__sn_unref(c);
    }
}

/* ---- writing a job ---- */

/* One growing segment of a job, with a reference. */
typedef struct flush_slot {
    rk_segment *segment;
    rk_segment_ids ids;
} flush_slot;

static rk_code
take_slots(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job, flush_slot **out,
           size_t *n, rk_arena *arena)
{
    *n = 0;
    rk_mutex_lock(&c->lock);
    *out = RK_ARENA_ARRAY(arena, flush_slot, ch->slots_len + 1);
    for (size_t i = 0; *out && i < ch->slots_len; i++) {
        if (ch->slots[i].job == job->id && !ch->slots[i].saved) {
            rk_segment_stats stats;
            rk_segment_get_stats(ch->slots[i].segment, &stats);
            (*out)[(*n)++] = (flush_slot){rk_segment_ref(ch->slots[i].segment), stats.ids};
        }
    }
    rk_mutex_unlock(&c->lock);
    return *out ? RK_OK : RK_ENOMEM;
}

static rk_code
write_segments(rk__sn_collection *c, const char *channel, const rk__sn_job *job, flush_slot *slots,
               size_t n, pb_rk_SaveFlushRequest *save, rk_ctx *ctx)
{
    rk_streaming_node *node = c->node;
    const rk_segment_env env = {.objects = node->options.objects, .mem = node->options.mem};

    save->segments.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_SegmentInfo *, n + 1);
    if (!save->segments.data) {
        return rk__sn_no_memory(ctx->err);
    }
    for (size_t i = 0; i < n; i++) {
        pb_rk_SegmentInfo *info = RK_ARENA_NEW(ctx->arena, pb_rk_SegmentInfo);
        if (!info) {
            return rk__sn_no_memory(ctx->err);
        }
        RK_RET(rk_segment_write(info, &slots[i].ids, &slots[i].segment, 1, job->ts, &env,
                                &node->stopping, ctx->arena, ctx->err));
        if (info->rows == 0) {
            continue; /* every row was deleted before it came this far */
        }
        info->id = slots[i].ids.id;
        info->collection_id = c->id;
        info->partition_id = slots[i].ids.partition_id;
        info->channel = rk_arena_str(ctx->arena, rk_str_from(channel));
        info->state = PB_RK_SegmentState_SEGMENT_FLUSHED;
        info->fold_ts = job->ts;
        info->schema_version = rk_segment_schema(slots[i].segment)->version;
        save->segments.data[save->segments.n++] = info;
    }
    return RK_OK;
}

static rk_code
write_deletes(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job,
              pb_rk_SaveFlushRequest *save, rk_ctx *ctx)
{
    pb_rk_AllocRequest one = {.count = 1};
    pb_rk_AllocResponse *id = NULL;
    pb_schema_IDs *keys = NULL;
    uint64_t *ts = NULL;
    size_t n = 0;
    rk_str object;
    rk_code code;

    rk_mutex_lock(&c->lock);
    code = rk__sn_deletes_copy(&ch->deletes, 0, job->ts, &keys, &ts, &n, ctx->arena);
    rk_mutex_unlock(&c->lock);
    if (code != RK_OK) {
        return rk__sn_no_memory(ctx->err);
    }
    if (n == 0) {
        return RK_OK;
    }
    RK_RET(pb_rk_Coordinator_AllocId(atomic_load(&c->node->coordinator), &one, &id, ctx));
    save->delta = RK_ARENA_NEW(ctx->arena, pb_rk_DeltaFile);
    object =
        rk_arena_printf(ctx->arena, "c%lld/d%llu", (long long)c->id, (unsigned long long)id->first);
    if (!save->delta || !object.data) {
        return rk__sn_no_memory(ctx->err);
    }
    RK_RET(rk_delta_write(save->delta, object.data, keys, ts, n, c->node->options.objects,
                          ctx->arena, ctx->err));
    save->delta->id = (int64_t)id->first;
    save->delta->channel = rk_arena_str(ctx->arena, rk_str_from(ch->name));
    return RK_OK;
}

static bool
was_written(const pb_rk_SaveFlushRequest *save, int64_t segment_id)
{
    for (size_t i = 0; i < save->segments.n; i++) {
        if (save->segments.data[i]->id == segment_id) {
            return true;
        }
    }
    return false;
}

/* Step 3: what is in files leaves memory. */
static rk_code
settle(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job,
       const pb_rk_SaveFlushRequest *save)
{
    rk__sn_turn turn = {0};
    rk__sn_growing *gone;
    size_t gone_len = 0;
    rk_code code = RK_OK;

    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    gone = rk_alloc((ch->slots_len + 1) * sizeof(*gone));
    rk_mutex_lock(&c->lock);
    if (save->delta) {
        code = rk__sn_delta_remember(ch, save->delta);
    }
    if (code == RK_OK) {
        rk__sn_deletes_forget(&ch->deletes, job->ts);
        ch->checkpoint_lsn = job->lsn;
    }
    for (size_t i = 0; gone && i < ch->slots_len;) {
        rk_segment_stats stats;
        rk_segment_get_stats(ch->slots[i].segment, &stats);
        if (ch->slots[i].job != job->id) {
            i++;
        } else if (!c->keeps_saved || !was_written(save, stats.ids.id)) {
            gone[gone_len++] = rk__sn_slot_take(ch, i);
        } else {
            ch->slots[i++].saved = true;
        }
    }
    rk_mutex_unlock(&c->lock);
    rk__sn_turn_end(c, &turn);
    for (size_t i = 0; i < gone_len; i++) {
        rk__sn_growing_release(c->node, &gone[i]);
    }
    rk_free(gone);
    return gone ? code : RK_ENOMEM;
}

/* Objects that did not become part of the catalogue: nobody else knows their names. */
static void
discard_objects(rk_streaming_node *node, const pb_rk_SaveFlushRequest *save)
{
    for (size_t i = 0; i < save->segments.n; i++) {
        const pb_rk_SegmentInfo *info = save->segments.data[i];
        for (size_t k = 0; k < info->columns.n; k++) {
            char *object = rk_strdup(info->columns.data[k]->object);
            if (object && rk_object_delete(node->options.objects, object, NULL) != RK_OK) {
                RK_LOG_W("streaming", "event=orphan_object object=%s", object);
            }
            rk_free(object);
        }
    }
}

static rk_code
flush_channel(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job, rk_ctx *ctx)
{
    pb_rk_SaveFlushRequest save = {
        .collection_id = c->id, .checkpoint_lsn = job->lsn, .checkpoint_ts = job->ts};
    pb_rk_Empty *answer = NULL;
    flush_slot *slots = NULL;
    size_t n = 0;
    bool saved = false;
    rk_code code = RK_OK;

    if (ch->checkpoint_lsn >= job->lsn) {
        return RK_OK; /* done by an earlier try */
    }
    save.channel = rk_str_from(ch->name);
    if (take_slots(c, ch, job, &slots, &n, ctx->arena) != RK_OK) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    RK_ERR(write_segments(c, ch->name, job, slots, n, &save, ctx));
    RK_ERR(write_deletes(c, ch, job, &save, ctx));
    RK_ERR(RK_FAULT("flush.before_save"));
    RK_ERR(pb_rk_Coordinator_SaveFlush(atomic_load(&c->node->coordinator), &save, &answer, ctx));
    saved = true;
    (void)RK_FAULT("flush.after_save");
    code = settle(c, ch, job, &save);
out:
    if (!saved) {
        discard_objects(c->node, &save);
    }
    for (size_t i = 0; i < n; i++) {
        rk_segment_unref(slots[i].segment);
    }
    return code;
}

static rk_code
flush_job(rk__sn_collection *c, const rk__sn_job *job, rk_err *err)
{
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = err, .deadline_ns = INT64_MAX};
    rk_code code = ctx.arena ? RK_OK : rk__sn_no_memory(err);

    for (size_t i = 0; i < c->channels_len && code == RK_OK; i++) {
        code = flush_channel(c, &c->channels[i], job, &ctx);
    }
    rk_arena_free(ctx.arena);
    return code;
}

/* Runs the jobs of one collection until none is left or one fails. Background pool. */
static void
flush_task(void *arg)
{
    rk__sn_collection *c = arg;
    rk_streaming_node *node = c->node;
    rk_err err = {0};
    bool again = false;

    for (;;) {
        rk__sn_job *job;
        rk_code code;
        rk_mutex_lock(&c->lock);
        job = c->closed || atomic_load(&node->stopping) ? NULL : c->jobs;
        if (!job) {
            c->flush_running = false;
            rk_cond_broadcast(&c->flushed);
        }
        rk_mutex_unlock(&c->lock);
        if (!job) {
            break;
        }
        rk_err_clear(&err);
        code = flush_job(c, job, &err);
        if (code != RK_OK) {
            RK_LOG_W("streaming", "event=flush_failed collection=%lld code=%d error=\"%s\"",
                     (long long)c->id, code, err.text);
            again = code != RK_ECOLLECTION_NOT_FOUND && !atomic_load(&node->stopping);
            if (!again) {
                rk_mutex_lock(&c->lock);
                c->flush_running = false;
                rk_cond_broadcast(&c->flushed);
                rk_mutex_unlock(&c->lock);
            }
            break;
        }
        rk_mutex_lock(&c->lock);
        c->jobs = job->next;
        rk_cond_broadcast(&c->flushed);
        rk_mutex_unlock(&c->lock);
        rk_free(job);
        rk__sn_truncate(node);
    }
    if (again) {
        start_flush(c, RETRY_MS);
    }
    atomic_fetch_sub(&node->busy, 1);
    rk__sn_unref(c);
}

/* ---- the log's tail ---- */

/* The oldest record of |c| that is not in files yet, UINT64_MAX when all are. */
static uint64_t
first_needed(rk__sn_collection *c)
{
    uint64_t first =
        rk__sn_turns_first_lsn(c); /* before the rest: a turn that ends meanwhile shows up below */

    rk_mutex_lock(&c->lock);
    if (!c->closed) {
        if (c->first_dirty_lsn != 0) {
            first = RK_MIN(first, c->first_dirty_lsn);
        }
        for (const rk__sn_job *job = c->jobs; job; job = job->next) {
            first = RK_MIN(first, job->first_lsn);
        }
        if (c->broken) {
            first = 0; /* only the log knows */
        }
    }
    rk_mutex_unlock(&c->lock);
    return first;
}

void
rk__sn_truncate(rk_streaming_node *node)
{
    uint64_t upto =
        rk_wal_next_lsn(node->wal); /* before the turns: a later append only gets a higher one */
    rk_wal_stats stats;
    rk_err err = {0};

    if (!atomic_load(&node->replayed)) {
        return; /* records that recovery has not come to are in no collection's account yet */
    }
    rk_mutex_lock(&node->lock);
    for (size_t i = 0; i < node->collections_len; i++) {
        rk__sn_collection *c = node->collections[i];
        upto = RK_MIN(upto, first_needed(c));
    }
    rk_mutex_unlock(&node->lock);
    rk_wal_stats_get(node->wal, &stats);
    if (upto <= stats.first_lsn) {
        return;
    }
    if (rk_wal_truncate(node->wal, upto, &err) != RK_OK) {
        RK_LOG_W("streaming", "event=truncate_failed lsn=%llu error=\"%s\"",
                 (unsigned long long)upto, err.text);
    }
}
