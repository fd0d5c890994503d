/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of ended tasks, job thread. A built index joins its segment's record. A merged
 * segment waits as `pending` until its own indexes are there; then one transaction puts it in and
 * marks what it replaces as dropped. A task that failed is tried again after a pause; one the data
 * node does not know (the process was lost, or it never got it) is planned again at once.
 */
#include "coordinator/coordinator_private.h"

#define MERGE_RETRY_NS (INT64_C(60) * 1000000000) /* a compaction that failed is tried again */
/* A build that failed is tried again after this, times the tries so far; once it is shown as
 * failed, every minute: what it lacked (memory, disk) may have come back. */
#define BUILD_RETRY_NS (INT64_C(200) * 1000000)
#define BUILD_HEAL_NS  (INT64_C(60) * 1000000000)
/* A segment that a compaction could not read takes part in none for so long. */
#define DAMAGED_NS (INT64_C(3600) * 1000000000)

rk_code
rk__co_segment_replace(rk_coordinator *co, int64_t collection_id, const pb_rk_SegmentInfo *next,
                       rk_ctx *ctx)
{
    rk__co_box box = {0};
    rk__co_collection *c;
    rk__co_segment *s = NULL;
    rk_meta_op op;
    rk_code code = RK_OK;
    bool pending = false;

    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, collection_id);
    s = c && !c->dropped ? rk__co_segment_find(c, next->id) : NULL;
    pending = s && s->pending;
    rk_mutex_unlock(&co->lock);
    if (!s) {
        code = RK_ESEGMENT_NOT_FOUND;
        goto out;
    }
    RK_ERR(rk__co_box_copy(&box, &pb_rk_SegmentInfo_desc, next));
    RK_ERR(rk__co_put(&op, rk__co_key(ctx->arena, "seg", collection_id, next->id),
                      &pb_rk_SegmentInfo_desc, next, ctx->arena));
    if (!pending) {
        RK_ERR(rk__co_commit(co, &op, 1, ctx->err));
    }
    rk_mutex_lock(&co->lock);
    s = rk__co_segment_find(c, next->id); /* ddl is ours: the collection stays */
    if (s) {
        rk__co_box_free(&s->box);
        s->box = box;
        box = (rk__co_box){0};
        s->stale = s->held;
        rk__co_wake(co);
    }
    rk_mutex_unlock(&co->lock);
out:
    rk_mutex_unlock(&co->ddl);
    rk__co_box_free(&box);
    return code;
}

void
rk__co_delete_objects(rk_coordinator *co, const pb_rk_SegmentInfo *info)
{
    for (size_t i = 0; i < info->columns.n; i++) {
        rk__co_drop_object(co, info->columns.data[i]->object);
    }
    for (size_t i = 0; i < info->indexes.n; i++) {
        rk__co_drop_object(co, info->indexes.data[i]->object);
    }
}

/* A finished build: its file joins the segment, if that is still there. */
static void
take_index(rk_coordinator *co, const rk__co_task *task, const pb_rk_TaskInfo *result, rk_ctx *ctx)
{
    rk__co_collection *c;
    rk__co_segment *s;
    pb_rk_SegmentInfo *next = NULL;
    void *copy = NULL;
    bool wanted = false;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, task->collection_id);
    s = c ? rk__co_segment_find(c, task->segment_id) : NULL;
    for (size_t i = 0; s && i < rk__co_info(c)->indexes.n; i++) {
        wanted = wanted || rk__co_info(c)->indexes.data[i]->id == task->index_id;
    }
    if (wanted && !rk__co_index_file(rk__co_seg_info(s), task->index_id) &&
        pb_copy(&pb_rk_SegmentInfo_desc, &copy, rk__co_seg_info(s), ctx->arena) == RK_OK) {
        next = copy;
    }
    rk_mutex_unlock(&co->lock);
    if (next) {
        pb_rk_IndexFile **files =
            RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexFile *, next->indexes.n + 1);
        if (files) {
            if (next->indexes.n) {
                memcpy(files, next->indexes.data, next->indexes.n * sizeof(*files));
            }
            files[next->indexes.n++] = result->index;
            next->indexes.data = files;
            if (rk__co_segment_replace(co, task->collection_id, next, ctx) == RK_OK) {
                RK_LOG_I("coordinator", "event=index_built segment=%lld index=%lld bytes=%llu",
                         (long long)task->segment_id, (long long)task->index_id,
                         (unsigned long long)result->index->size_bytes);
                return;
            }
        }
    }
    rk__co_drop_object(co, result->index->object); /* nobody wants it any more */
}

static void
free_inputs(rk_coordinator *co, const rk__co_task *task)
{
    rk_mutex_lock(&co->lock);
    rk__co_mark_inputs(rk__co_find(co, task->collection_id), task, false);
    rk_mutex_unlock(&co->lock);
}

/* A finished compaction: its segment waits as pending; inputs stay taken until it is committed. */
static void
take_segment(rk_coordinator *co, const rk__co_task *task, const pb_rk_TaskInfo *result, rk_ctx *ctx)
{
    pb_rk_SegmentInfo next = *result->segment;
    rk__co_segment segment = {.id = next.id, .pending = true};
    rk__co_collection *c;
    bool added = false;

    RK_UNUSED(ctx);
    next.compacted_from.data = task->inputs;
    next.compacted_from.n = task->inputs_len;
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, task->collection_id);
    if (c && !c->dropped &&
        rk__co_box_copy(&segment.box, &pb_rk_SegmentInfo_desc, &next) == RK_OK) {
        added = rk__co_segment_add(c, &segment) == RK_OK;
        if (!added) {
            rk__co_box_free(&segment.box);
        }
    }
    rk_mutex_unlock(&co->lock);
    if (!added) {
        rk__co_delete_objects(co, result->segment);
        free_inputs(co, task);
    }
}

/* How long after the failure the next try begins. A column that is damaged is told at once, and
 * looked at again after 1, 2, 4 ... 64 minutes: it may have been restored. */
static int64_t
build_pause_ns(rk__co_failure *f, bool damaged)
{
    if (damaged) {
        f->tries = RK_MAX(f->tries, RK__CO_TASK_TRIES_MAX);
        return BUILD_HEAL_NS << RK_MIN(f->tries - RK__CO_TASK_TRIES_MAX, RK__CO_DAMAGE_SHIFT_MAX);
    }
    return f->tries < RK__CO_TASK_TRIES_MAX ? BUILD_RETRY_NS * (int64_t)f->tries : BUILD_HEAL_NS;
}

/* A compaction that failed. When one of its inputs is damaged the rest goes on without that one. */
static void
note_failed_merge(rk_coordinator *co, const rk__co_task *task, const pb_rk_TaskInfo *result)
{
    rk__co_collection *c;
    rk__co_segment *s;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, task->collection_id);
    s = c && result->damaged_segment_id != 0 ? rk__co_segment_find(c, result->damaged_segment_id)
                                             : NULL;
    if (s) {
        s->sound_at_ns = rk__co_now_ns(co) + DAMAGED_NS;
    } else if (c) {
        c->merge_at_ns = rk__co_now_ns(co) + MERGE_RETRY_NS;
    }
    rk_mutex_unlock(&co->lock);
}

static void
note_failure(rk_coordinator *co, const rk__co_task *task, const pb_rk_TaskInfo *result)
{
    rk__co_collection *c;
    rk__co_failure *f;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, task->collection_id);
    f = c ? rk__co_failure_find(c, task->segment_id, task->index_id) : NULL;
    if (c && !f && rk__co_segment_find(c, task->segment_id)) {
        rk__co_failure *bigger = rk_realloc(c->failures, (c->failures_len + 1) * sizeof(*bigger));
        if (bigger) {
            c->failures = bigger;
            f = &c->failures[c->failures_len++];
            *f = (rk__co_failure){.segment_id = task->segment_id, .index_id = task->index_id};
        }
    }
    if (f) {
        f->tries++;
        f->retry_at_ns = rk__co_now_ns(co) + build_pause_ns(f, result->fail_code == RK_ECORRUPT);
        (void)snprintf(f->reason, sizeof(f->reason), "%.*s", RK_STR_ARG(result->fail_reason));
    }
    rk_mutex_unlock(&co->lock);
}

static void
take_result(rk_coordinator *co, const rk__co_task *task, const pb_rk_TaskInfo *result, rk_ctx *ctx)
{
    bool done = result->state == PB_RK_TaskState_TASK_DONE;

    if (task->index_id != 0) {
        if (done && result->index) {
            take_index(co, task, result, ctx);
        } else if (result->state == PB_RK_TaskState_TASK_FAILED &&
                   result->fail_code != RK_ECANCELLED) {
            note_failure(co, task, result);
        }
    } else if (done && result->segment) {
        take_segment(co, task, result, ctx);
    } else {
        if (result->state == PB_RK_TaskState_TASK_FAILED && result->fail_code != RK_ECANCELLED) {
            note_failed_merge(co, task, result);
        }
        free_inputs(co, task);
    }
}

/* Removes the task |id| from the table into |*out|. */
static bool
take_task(rk_coordinator *co, int64_t id, rk__co_task *out)
{
    bool found = false;

    rk_mutex_lock(&co->lock);
    found = rk__co_task_take(co, id, out);
    if (found) {
        rk__co_wake(co); /* what comes next may depend on it */
    }
    rk_mutex_unlock(&co->lock);
    return found;
}

static void
note_progress(rk_coordinator *co, const pb_rk_TaskInfo *info)
{
    rk_mutex_lock(&co->lock);
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].id == info->id) {
            co->tasks[i].rows_done = info->rows_done;
        }
    }
    rk_mutex_unlock(&co->lock);
}

void
rk__co_collect_tasks(rk_coordinator *co)
{
    rk_err err = {0};
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = &err, .deadline_ns = INT64_MAX};
    pb_rk_TaskIds ids = {0};
    pb_rk_TaskList *list = NULL;
    pb_rk_Empty *answer = NULL;

    if (!ctx.arena) {
        return;
    }
    rk_mutex_lock(&co->lock);
    ids.ids.data = RK_ARENA_ARRAY(ctx.arena, int64_t, co->tasks_len + 1);
    for (size_t i = 0; ids.ids.data && i < co->tasks_len; i++) {
        ids.ids.data[ids.ids.n++] = co->tasks[i].id;
    }
    rk_mutex_unlock(&co->lock);
    if (ids.ids.n == 0 || pb_rk_DataNode_Get(co->options.data_node, &ids, &list, &ctx) != RK_OK) {
        rk_arena_free(ctx.arena);
        return;
    }
    for (size_t i = 0; i < list->tasks.n; i++) {
        pb_rk_TaskInfo *info = list->tasks.data[i];
        rk__co_task task;
        pb_rk_TaskIds one = {.ids = {&info->id, 1}};
        if (info->state == PB_RK_TaskState_TASK_QUEUED ||
            info->state == PB_RK_TaskState_TASK_RUNNING) {
            note_progress(co, info);
            continue;
        }
        if (!take_task(co, info->id, &task)) {
            continue;
        }
        take_result(co, &task, info, &ctx);
        rk_free(task.inputs);
        rk_err_clear(&err);
        if (pb_rk_DataNode_Forget(co->options.data_node, &one, &answer, &ctx) != RK_OK) {
            rk_err_clear(&err);
        }
    }
    rk_arena_free(ctx.arena);
}

/* ---- committing compactions ---- */

/* True when the pending segment has all the indexes it will get. Caller holds lock. */
static bool
is_complete(rk_coordinator *co, rk__co_collection *c, const rk__co_segment *s)
{
    const pb_rk_SegmentInfo *info = rk__co_seg_info(s);

    for (size_t i = 0; i < rk__co_info(c)->indexes.n && info->rows >= RK__CO_INDEX_ROWS_MIN; i++) {
        const pb_rk_IndexInfo *index = rk__co_info(c)->indexes.data[i];
        if (rk__co_is_vector_index(rk__co_info(c), index) && !rk__co_index_file(info, index->id) &&
            !rk__co_gave_up(c, s->id, index->id)) {
            return false;
        }
    }
    return !c->dropped && !rk__co_task_find(co, s->id, 0);
}

/* The transaction of one pending segment: it comes in, its inputs are marked dropped. */
static rk_code
commit_one(rk_coordinator *co, rk__co_collection *c, int64_t segment_id, rk_ctx *ctx)
{
    const rk_clock *clock = co->options.env->clock;
    rk__co_segment *s;
    rk__co_box *boxes = NULL;
    rk_meta_op *ops = NULL;
    const pb_rk_SegmentInfo *info;
    size_t n = 0;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    s = rk__co_segment_find(c, segment_id);
    if (!s) {
        rk_mutex_unlock(&co->lock);
        return RK_OK;
    }
    info = rk__co_seg_info(s);
    ops = RK_ARENA_ARRAY(ctx->arena, rk_meta_op, info->compacted_from.n + 1);
    boxes = RK_ARENA_ARRAY(ctx->arena, rk__co_box, info->compacted_from.n + 1);
    if (!ops || !boxes) {
        code = rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; code == RK_OK && i < info->compacted_from.n; i++) {
        const rk__co_segment *input = rk__co_segment_find(c, info->compacted_from.data[i]);
        pb_rk_SegmentInfo dropped;
        if (!input) {
            continue;
        }
        dropped = *rk__co_seg_info(input);
        dropped.state = PB_RK_SegmentState_SEGMENT_DROPPED;
        dropped.dropped_ms = (uint64_t)clock->wall_ms(clock->self);
        code = rk__co_put(&ops[n], rk__co_key(ctx->arena, "seg", c->id, dropped.id),
                          &pb_rk_SegmentInfo_desc, &dropped, ctx->arena);
        if (code == RK_OK) {
            code = rk__co_box_copy(&boxes[n++], &pb_rk_SegmentInfo_desc, &dropped);
        }
    }
    if (code == RK_OK && info->rows > 0) {
        code = rk__co_put(&ops[n], rk__co_key(ctx->arena, "seg", c->id, info->id),
                          &pb_rk_SegmentInfo_desc, info, ctx->arena);
    }
    size_t ops_len = n + (info->rows > 0 ? 1 : 0);
    rk_mutex_unlock(&co->lock);
    if (code == RK_OK) {
        code = rk__co_commit(co, ops, ops_len, ctx->err);
    }
    rk_mutex_lock(&co->lock);
    s = rk__co_segment_find(c, segment_id);
    if (code == RK_OK && s) {
        if (rk__co_seg_info(s)->rows > 0) {
            s->pending = false;
        } else {
            rk__co_segment_remove(c, segment_id); /* every row was deleted: nothing was written */
        }
        for (size_t i = 0; i < n; i++) {
            rk__co_segment *input =
                rk__co_segment_find(c, ((pb_rk_SegmentInfo *)boxes[i].message)->id);
            rk__co_box_free(&input->box);
            input->box = boxes[i];
            boxes[i] = (rk__co_box){0};
            input->compaction = 0;
        }
        rk__co_wake(co);
    }
    rk_mutex_unlock(&co->lock);
    for (size_t i = 0; boxes && i < n; i++) {
        rk__co_box_free(&boxes[i]);
    }
    return code;
}

static bool
has_pending(rk_coordinator *co, int64_t id)
{
    const rk__co_collection *c;
    bool pending = false;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    for (size_t i = 0; c && i < c->segments_len && !pending; i++) {
        pending = c->segments[i].pending;
    }
    rk_mutex_unlock(&co->lock);
    return pending;
}

void
rk__co_commit_pending(rk_coordinator *co, int64_t id)
{
    rk_err err = {0};
    rk_ctx ctx = {.err = &err, .deadline_ns = INT64_MAX};
    rk__co_collection *c;
    int64_t ready = 0;

    if (!has_pending(co, id)) {
        return; /* most passes, most collections: without waiting for ddl */
    }
    ctx.arena = rk_arena_new(0);
    if (!ctx.arena) {
        co->pass_failed = true;
        return;
    }
    rk_mutex_lock(&co->ddl); /* the collection stays while we work on it */
    do {
        ready = 0;
        rk_mutex_lock(&co->lock);
        c = rk__co_find(co, id);
        for (size_t i = 0; c && !c->dropped && i < c->segments_len && ready == 0; i++) {
            if (c->segments[i].pending && is_complete(co, c, &c->segments[i])) {
                ready = c->segments[i].id;
            }
        }
        rk_mutex_unlock(&co->lock);
        if (ready != 0) {
            rk_code code = commit_one(co, c, ready, &ctx);
            if (code != RK_OK) {
                RK_LOG_W("coordinator",
                         "event=compaction_commit_failed segment=%lld code=%d error=\"%s\"",
                         (long long)ready, code, err.text);
                ready = 0; /* the next pass tries again */
                co->pass_failed = true;
                rk_err_clear(&err);
            } else {
                RK_LOG_I("coordinator", "event=compacted collection=%lld segment=%lld",
                         (long long)id, (long long)ready);
            }
        }
    } while (ready != 0);
    rk_mutex_unlock(&co->ddl);
    rk_arena_free(ctx.arena);
}
