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
 * Objects are written once. A channel's request for SaveFlush is composed once and kept in the job
 * until it is settled: when the answer is lost the coordinator may have made it part of the
 * catalogue, so the same request is sent again, and its objects are removed only when the
 * coordinator says that the collection is gone. What a failed try at writing left is removed before
 * the next one.
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

/* Starts the flush of |c| on the background pool; the task holds a reference. The caller has set
 * flush_running. */
static void
start_flush(rk__sn_collection *c, int64_t delay_ms)
{
    rk_streaming_node *node = c->node;
    rk_code code;

    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&node->busy, 1);
    code = delay_ms > 0 ? rk_pool_submit_after(node->options.background, delay_ms, flush_task, c)
                        : rk_pool_submit(node->options.background, flush_task, c);
    if (code != RK_OK) { /* queue full or stopping: the next seal or look at the log tries again */
        rk_mutex_lock(&c->lock);
        c->flush_running = false;
        rk_cond_broadcast(&c->flushed);
        rk_mutex_unlock(&c->lock);
        atomic_fetch_sub(&node->busy, 1);
        rk__sn_unref(c);
    }
}

/* True when there are jobs and nobody works on them: the caller starts the flush. Caller holds
 * lock.
 */
static bool
claim_flush(rk__sn_collection *c)
{
    bool claimed = c->jobs && !c->flush_running && !c->closed;

    c->flush_running = c->flush_running || claimed;
    return claimed;
}

/* Assigns what is active to a new job. Caller has the turn. */
static rk_code
seal_in_turn(rk__sn_collection *c, pb_i64s *sealed)
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
        ch->active_deletes = 0;
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

/* What the channels' checkpoints reach when every job has ended. Caller holds lock. */
static uint64_t
covered_ts(const rk__sn_collection *c)
{
    uint64_t ts = UINT64_MAX;

    if (c->jobs) {
        const rk__sn_job *last = c->jobs;
        while (last->next) {
            last = last->next;
        }
        return last->ts;
    }
    for (size_t i = 0; i < c->channels_len;
         i++) { /* they differ after a crash between two of them */
        ts = RK_MIN(ts, c->channels[i].checkpoint_ts);
    }
    return ts;
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
    if (has_dirty(c)) {
        if (arena && !(sealed->data = RK_ARENA_ARRAY(arena, int64_t, count_slots(c) + 1))) {
            code = rk__sn_no_memory(err);
        } else {
            code = seal_in_turn(c, arena ? sealed : NULL);
        }
    }
    rk_mutex_lock(&c->lock);
    if (c->closed) {
        code = rk__sn_not_found(c->id, err);
    } else if (c->broken) {
        code = rk__sn_broken(c, err);
    } else {
        *flush_ts = covered_ts(c);
        start = claim_flush(c);
    }
    rk_mutex_unlock(&c->lock);
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
    atomic_store(&c->seal_queued, false);
    atomic_fetch_sub(&c->node->busy, 1);
    rk__sn_unref(c);
}

void
rk__sn_seal_soon(rk__sn_collection *c)
{
    rk_streaming_node *node = c->node;

    if (atomic_load(&node->stopping) || !atomic_load(&node->replayed) ||
        atomic_exchange(&c->seal_queued, true)) {
        return;
    }
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&node->busy, 1);
    if (rk_pool_submit(node->options.background, seal_task, c) != RK_OK) {
        atomic_store(&c->seal_queued, false);
        atomic_fetch_sub(&node->busy, 1);
        rk__sn_unref(c);
    }
}

bool
rk__sn_make_room(rk_streaming_node *node)
{
    rk__sn_collection *largest = NULL;
    uint64_t largest_bytes = 0;
    bool held = false;

    rk_mutex_lock(&node->lock);
    for (size_t i = 0; i < node->collections_len; i++) {
        rk__sn_collection *c = node->collections[i];
        uint64_t bytes = 0;
        rk_mutex_lock(&c->lock);
        held = held || c->jobs != NULL;
        for (size_t k = 0; k < c->channels_len && !c->broken; k++) {
            const rk__sn_channel *ch = &c->channels[k];
            for (size_t s = 0; s < ch->slots_len; s++) {
                bytes += ch->slots[s].job == 0 ? ch->slots[s].reserved_bytes : 0;
                held = held || ch->slots[s].reserved_bytes > 0;
            }
        }
        rk_mutex_unlock(&c->lock);
        if (bytes > largest_bytes) {
            largest_bytes = bytes;
            largest = c;
        }
    }
    if (largest) {
        rk__sn_seal_soon(largest);
    }
    rk_mutex_unlock(&node->lock);
    return held;
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

/* Removes what an earlier try at writing |id| may have left: names are used once. */
static rk_code
remove_leftovers(rk__sn_collection *c, int64_t id, rk_ctx *ctx)
{
    rk_object_store *objects = c->node->options.objects;
    rk_str folder = rk_arena_printf(ctx->arena, "c%lld/s%lld", (long long)c->id, (long long)id);
    rk_object_info *found = NULL;
    size_t n = 0;

    if (!folder.data) {
        return rk__sn_no_memory(ctx->err);
    }
    RK_RET(rk_object_list(objects, folder.data, &found, &n, ctx->arena, ctx->err));
    for (size_t i = 0; i < n; i++) {
        rk_str name = rk_arena_str(ctx->arena, found[i].name);
        if (!name.data) {
            return rk__sn_no_memory(ctx->err);
        }
        RK_RET(rk_object_delete(objects, name.data, ctx->err));
    }
    return RK_OK;
}

static rk_code
write_segments(rk__sn_collection *c, const char *channel, const rk__sn_job *job, flush_slot *slots,
               size_t n, pb_rk_SaveFlushRequest *save, rk_ctx *ctx)
{
    rk_streaming_node *node = c->node;
    /* no budget: this is what gives memory back, so it must not wait for some */
    const rk_segment_env env = {.objects = node->options.objects, .mem = NULL};

    save->segments.data = RK_ARENA_ARRAY(job->arena, pb_rk_SegmentInfo *, n + 1);
    if (!save->segments.data) {
        return rk__sn_no_memory(ctx->err);
    }
    for (size_t i = 0; i < n; i++) {
        pb_rk_SegmentInfo *info = RK_ARENA_NEW(job->arena, pb_rk_SegmentInfo);
        if (!info) {
            return rk__sn_no_memory(ctx->err);
        }
        if (job->leftovers) {
            RK_RET(remove_leftovers(c, slots[i].ids.id, ctx));
        }
        RK_RET(rk_segment_write(info, &slots[i].ids, &slots[i].segment, 1, job->ts, &env,
                                &node->stopping, job->arena, ctx->err));
        if (info->rows == 0) {
            continue; /* every row was deleted before it came this far */
        }
        save->segments.data[save->segments.n++] = info; /* from here on discard_objects() sees it */
        info->id = slots[i].ids.id;
        info->collection_id = c->id;
        info->partition_id = slots[i].ids.partition_id;
        info->channel = rk_arena_str(job->arena, rk_str_from(channel));
        info->state = PB_RK_SegmentState_SEGMENT_FLUSHED;
        info->fold_ts = job->ts;
        info->schema_version = rk_segment_schema(slots[i].segment)->version;
        if (!info->channel.data) {
            return rk__sn_no_memory(ctx->err);
        }
    }
    return RK_OK;
}

static rk_code
write_deletes(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job,
              pb_rk_SaveFlushRequest *save, rk_ctx *ctx)
{
    pb_rk_AllocRequest one = {.count = 1};
    pb_rk_AllocResponse *id = NULL;
    pb_rk_DeltaFile *delta = RK_ARENA_NEW(job->arena, pb_rk_DeltaFile);
    pb_schema_IDs *keys = NULL;
    uint64_t *ts = NULL;
    size_t n = 0;
    rk_str channel = rk_arena_str(job->arena, rk_str_from(ch->name));
    rk_str object;
    rk_code code;

    rk_mutex_lock(&c->lock);
    code = rk__sn_deletes_copy(&ch->deletes, 0, job->ts, &keys, &ts, &n, ctx->arena);
    rk_mutex_unlock(&c->lock);
    if (code != RK_OK || !delta || !channel.data) {
        return rk__sn_no_memory(ctx->err);
    }
    if (n == 0) {
        return RK_OK;
    }
    RK_RET(pb_rk_Coordinator_AllocId(atomic_load(&c->node->coordinator), &one, &id, ctx));
    object =
        rk_arena_printf(ctx->arena, "c%lld/d%llu", (long long)c->id, (unsigned long long)id->first);
    if (!object.data) {
        return rk__sn_no_memory(ctx->err);
    }
    RK_RET(rk_delta_write(delta, object.data, keys, ts, n, c->node->options.objects, job->arena,
                          ctx->err));
    delta->id = (int64_t)id->first;
    delta->channel = channel;
    save->delta = delta;
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

/* Step 3: what is in files leaves memory. All of it or, on an error, nothing. */
static rk_code
settle(rk__sn_collection *c, rk__sn_channel *ch, const rk__sn_job *job, rk_ctx *ctx)
{
    const pb_rk_SaveFlushRequest *save = job->save;
    rk__sn_turn turn = {0};
    rk__sn_growing *gone;
    size_t gone_len = 0;
    rk_code code = RK_OK;

    rk__sn_turn_queue(c, &turn);
    rk__sn_turn_wait(c, &turn);
    gone = RK_ARENA_ARRAY(ctx->arena, rk__sn_growing, ch->slots_len + 1);
    rk_mutex_lock(&c->lock);
    if (!gone || (save->delta && rk__sn_delta_remember(ch, save->delta) != RK_OK)) {
        code = RK_ENOMEM;
    } else {
        rk__sn_deletes_forget(&ch->deletes, job->ts);
        ch->checkpoint_lsn = job->lsn;
        ch->checkpoint_ts = job->ts;
    }
    for (size_t i = 0; code == RK_OK && i < ch->slots_len;) {
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
    return code == RK_OK ? RK_OK : rk__sn_no_memory(ctx->err);
}

static void
discard_object(rk_streaming_node *node, rk_str name)
{
    char *object = rk_strdup(name);

    if (!object || rk_object_delete(node->options.objects, object, NULL) != RK_OK) {
        RK_LOG_W("streaming", "event=orphan_object object=%.*s", RK_STR_ARG(name));
    }
    rk_free(object);
}

/* Objects that are not part of the catalogue and never will be: nobody else knows their names. */
static void
discard_objects(rk_streaming_node *node, const pb_rk_SaveFlushRequest *save)
{
    for (size_t i = 0; i < save->segments.n; i++) {
        const pb_rk_SegmentInfo *info = save->segments.data[i];
        for (size_t k = 0; k < info->columns.n; k++) {
            discard_object(node, info->columns.data[k]->object);
        }
    }
    if (save->delta) {
        discard_object(node, save->delta->object);
    }
}

/* Writes the channel's files and sets job->save; on an error nothing of them stays. */
static rk_code
compose_save(rk__sn_collection *c, rk__sn_channel *ch, rk__sn_job *job, rk_ctx *ctx)
{
    pb_rk_SaveFlushRequest *save = NULL;
    flush_slot *slots = NULL;
    size_t n = 0;
    rk_code code = RK_OK;

    if (!job->arena) {
        job->arena = rk_arena_new(0);
    }
    save = job->arena ? RK_ARENA_NEW(job->arena, pb_rk_SaveFlushRequest) : NULL;
    if (!save || take_slots(c, ch, job, &slots, &n, ctx->arena) != RK_OK) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    save->collection_id = c->id;
    save->checkpoint_lsn = job->lsn;
    save->checkpoint_ts = job->ts;
    save->channel = rk_str_from(ch->name);
    RK_ERR(write_segments(c, ch->name, job, slots, n, save, ctx));
    RK_ERR(write_deletes(c, ch, job, save, ctx));
    job->save = save;
out:
    if (code != RK_OK && save) {
        discard_objects(c->node, save);
        job->leftovers = true;
        rk_arena_reset(job->arena);
    }
    for (size_t i = 0; i < n; i++) {
        rk_segment_unref(slots[i].segment);
    }
    return code;
}

static rk_code
flush_channel(rk__sn_collection *c, rk__sn_channel *ch, rk__sn_job *job, rk_ctx *ctx)
{
    pb_rk_Empty *answer = NULL;
    rk_code code;

    if (ch->checkpoint_lsn >= job->lsn) {
        return RK_OK; /* done by an earlier try */
    }
    if (!job->save) {
        RK_RET(compose_save(c, ch, job, ctx));
    }
    RK_RET(RK_FAULT("flush.before_save"));
    code = pb_rk_Coordinator_SaveFlush(atomic_load(&c->node->coordinator), job->save, &answer, ctx);
    if (code == RK_ECOLLECTION_NOT_FOUND) { /* dropped */
        discard_objects(c->node, job->save);
    }
    RK_RET(code);
    (void)RK_FAULT("flush.after_save");
    RK_RET(settle(c, ch, job, ctx));
    job->save = NULL;
    job->leftovers = false;
    rk_arena_reset(job->arena);
    return RK_OK;
}

void
rk__sn_job_free(rk__sn_job *job)
{
    rk_arena_free(job->arena);
    rk_free(job);
}

static rk_code
flush_job(rk__sn_collection *c, rk__sn_job *job, rk_err *err)
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
        rk__sn_job_free(job);
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

/* Starts a flush that could not be queued when it was due. True when one is under way. */
static bool
resume_flush(rk__sn_collection *c)
{
    bool start;
    bool flushing;

    rk_mutex_lock(&c->lock);
    start = !atomic_load(&c->node->stopping) && claim_flush(c);
    flushing = c->jobs != NULL;
    rk_mutex_unlock(&c->lock);
    if (start) {
        start_flush(c, 0);
    }
    return flushing;
}

void
rk__sn_truncate(rk_streaming_node *node)
{
    /* All records up to this one are in the log for good, and had their turn queued before:
     * whatever of them is not in files shows up below. A number not durable yet may be given again.
     */
    uint64_t upto = atomic_load(&node->durable_lsn) + 1;
    rk__sn_collection *keeper = NULL;
    rk_wal_stats stats;
    rk_err err = {0};

    if (!atomic_load(&node->replayed)) {
        return;
    }
    rk_wal_stats_get(node->wal, &stats);
    rk_mutex_lock(&node->lock);
    for (size_t i = 0; i < node->collections_len; i++) {
        rk__sn_collection *c = node->collections[i];
        uint64_t first = first_needed(c);
        bool flushing = resume_flush(c);
        if (first < upto) {
            upto = first;
            keeper = flushing ? NULL : c; /* one that is at it already needs no push */
        }
    }
    if (keeper && stats.bytes_on_disk > node->log_bytes_max) {
        rk__sn_seal_soon(keeper);
    }
    rk_mutex_unlock(&node->lock);
    if (upto <= stats.first_lsn) {
        return;
    }
    if (rk_wal_truncate(node->wal, upto, &err) != RK_OK) {
        RK_LOG_W("streaming", "event=truncate_failed lsn=%llu error=\"%s\"",
                 (unsigned long long)upto, err.text);
    }
}
