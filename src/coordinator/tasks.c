/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index builds and compactions: what is planned and given to the data node. What becomes of the
 * results: results.c. Job thread.
 *
 * Compaction merges small segments of one partition and channel into one, and folds the deletes
 * that are in files. Its result waits as `pending` until its indexes are built, so that a search
 * never goes from indexed segments to one that is not; then one transaction puts the new segment in
 * and marks the old ones dropped.
 *
 * Segments that are about to be merged are not indexed first. Merging starts when QUIET_NS have
 * passed since the last flush, or when many small segments have come together.
 */
#include "coordinator/coordinator_private.h"

#define QUIET_NS         (INT64_C(2) * 1000000000)
#define MERGE_INPUTS_MAX 64
#define MERGE_AT_ONCE    8  /* so many small segments are merged without waiting for quiet */
#define MERGE_SHARE      4  /* what joins the largest must be at least 1/4 of it */
#define DELTAS_MAX       32 /* so many delta files: segments are rewritten to get rid of them */

static uint64_t
segment_bytes_max(const rk_coordinator *co)
{
    return (uint64_t)rk_config_i64(co->options.config, RK_CFG_SEGMENT_MAX_SIZE) << 20;
}

static bool
is_live(const rk__co_segment *s)
{
    return !s->pending && rk__co_seg_info(s)->state == PB_RK_SegmentState_SEGMENT_FLUSHED;
}

/* ---- planning merges; caller holds lock ---- */

typedef struct merge {
    size_t inputs[MERGE_INPUTS_MAX]; /* positions in c->segments */
    size_t n;
    uint64_t bytes;
} merge;

static bool
same_place(const rk__co_segment *a, const rk__co_segment *b)
{
    return rk__co_seg_info(a)->partition_id == rk__co_seg_info(b)->partition_id &&
           rk_str_eq(rk__co_seg_info(a)->channel, rk__co_seg_info(b)->channel);
}

/* Not one that a compaction found damaged a while ago: others are merged without it, and its files
 * stay as they are. */
static bool
is_readable(const rk_coordinator *co, const rk__co_segment *s)
{
    return s->sound_at_ns == 0 || s->sound_at_ns <= rk__co_now_ns(co);
}

static bool
is_small(const rk_coordinator *co, const rk__co_segment *s)
{
    return is_live(s) && s->compaction == 0 && is_readable(co, s) &&
           rk__co_seg_info(s)->size_bytes < segment_bytes_max(co) / 2;
}

/* The small segments that would be merged with the one at |first|, oldest first. */
static void
find_merge(const rk_coordinator *co, const rk__co_collection *c, size_t first, merge *out)
{
    size_t largest = 0;
    uint64_t largest_bytes = 0;

    *out = (merge){0};
    for (size_t i = 0; i < c->segments_len && out->n < MERGE_INPUTS_MAX; i++) {
        const rk__co_segment *s = &c->segments[i];
        uint64_t bytes = rk__co_seg_info(s)->size_bytes;
        if (!is_small(co, s) || !same_place(s, &c->segments[first]) ||
            out->bytes + bytes > segment_bytes_max(co)) {
            continue;
        }
        if (bytes > largest_bytes) {
            largest_bytes = bytes;
            largest = out->n;
        }
        out->inputs[out->n++] = i;
        out->bytes += bytes;
    }
    if (out->n >= 2 && out->n < MERGE_AT_ONCE &&
        out->bytes - largest_bytes < largest_bytes / MERGE_SHARE) {
        out->inputs[largest] =
            out->inputs[--out->n]; /* rewriting it would cost more than it gains */
        out->bytes -= largest_bytes;
    }
    if (out->n < 2) {
        out->n = 0;
    }
}

static bool
merge_has(const merge *m, size_t position)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->inputs[i] == position) {
            return true;
        }
    }
    return false;
}

static bool
compaction_enabled(const rk_coordinator *co)
{
    return rk_config_bool(co->options.config, RK_CFG_COMPACTION_ENABLED) &&
           rk_config_bool(co->options.config, RK_CFG_COMPACTION_AUTO);
}

/* True when the segment at |position| will soon be part of a merge, so that an index of its own
 * would be built in vain. */
static bool
will_merge(const rk_coordinator *co, const rk__co_collection *c, size_t position)
{
    merge m;

    if (!compaction_enabled(co)) {
        return false;
    }
    if (c->segments[position].compaction != 0) {
        return true;
    }
    if (c->merge_at_ns > rk__co_now_ns(co)) {
        return false; /* not so soon: one has failed */
    }
    find_merge(co, c, position, &m);
    return merge_has(&m, position);
}

/* ---- giving tasks out ---- */

rk__co_task *
rk__co_task_find(rk_coordinator *co, int64_t segment_id, int64_t index_id)
{
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].segment_id == segment_id && co->tasks[i].index_id == index_id) {
            return &co->tasks[i];
        }
    }
    return NULL;
}

rk__co_failure *
rk__co_failure_find(rk__co_collection *c, int64_t segment_id, int64_t index_id)
{
    for (size_t i = 0; i < c->failures_len; i++) {
        if (c->failures[i].segment_id == segment_id && c->failures[i].index_id == index_id) {
            return &c->failures[i];
        }
    }
    return NULL;
}

bool
rk__co_gave_up(rk__co_collection *c, int64_t segment_id, int64_t index_id)
{
    const rk__co_failure *f = rk__co_failure_find(c, segment_id, index_id);

    return f && f->tries >= RK__CO_TASK_TRIES_MAX;
}

/* How long until the build may be tried again, in ns; 0: now. */
static int64_t
build_due_in(const rk_coordinator *co, rk__co_collection *c, int64_t segment_id, int64_t index_id)
{
    const rk__co_failure *f = rk__co_failure_find(c, segment_id, index_id);

    return f ? RK_MAX(f->retry_at_ns - rk__co_now_ns(co), INT64_C(0)) : 0;
}

/* Caller holds lock. */
static bool
remember_task(rk_coordinator *co, const rk__co_task *task)
{
    if (co->tasks_len == co->tasks_cap) {
        size_t want = co->tasks_cap ? co->tasks_cap * 2 : 16;
        rk__co_task *bigger = rk_realloc(co->tasks, want * sizeof(*bigger));
        if (!bigger) {
            return false;
        }
        co->tasks = bigger;
        co->tasks_cap = want;
    }
    co->tasks[co->tasks_len++] = *task;
    return true;
}

bool
rk__co_is_vector_index(const pb_rk_CollectionInfo *info, const pb_rk_IndexInfo *index)
{
    for (size_t i = 0; i < info->schema->fields.n; i++) {
        if (info->schema->fields.data[i]->fieldID == index->field_id) {
            return info->schema->fields.data[i]->data_type >= PB_SCHEMA_DataType_BinaryVector;
        }
    }
    return false;
}

/* An index the segment should have, does not have, and nobody is building; NULL: none. |*wait_ns|
 * is lowered to when one that failed is due. Caller holds lock. */
static const pb_rk_IndexInfo *
missing_index(rk_coordinator *co, rk__co_collection *c, size_t position, int64_t *wait_ns)
{
    const rk__co_segment *s = &c->segments[position];
    const pb_rk_SegmentInfo *info = rk__co_seg_info(s);

    if ((!s->pending && !is_live(s)) || info->rows < RK__CO_INDEX_ROWS_MIN ||
        (!s->pending && will_merge(co, c, position))) {
        return NULL;
    }
    for (size_t i = 0; i < rk__co_info(c)->indexes.n; i++) {
        const pb_rk_IndexInfo *index = rk__co_info(c)->indexes.data[i];
        int64_t due_in;
        if (!rk__co_is_vector_index(rk__co_info(c), index) || rk__co_index_file(info, index->id) ||
            rk__co_task_find(co, s->id, index->id)) {
            continue;
        }
        due_in = build_due_in(co, c, s->id, index->id);
        if (due_in == 0) {
            return index;
        }
        *wait_ns = RK_MIN(*wait_ns, due_in);
    }
    return NULL;
}

/* A merged segment's index may be made out of those of its inputs, which stay until it is taken in.
 * Caller holds lock. */
static rk_code
add_inputs(const rk__co_collection *c, const rk__co_segment *s, pb_rk_BuildIndexTask *build,
           rk_arena *arena)
{
    const pb_rk_SegmentInfo *info = rk__co_seg_info(s);

    build->inputs.data = RK_ARENA_ARRAY(arena, pb_rk_SegmentInfo *, info->compacted_from.n + 1);
    if (!build->inputs.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; s->pending && i < info->compacted_from.n; i++) {
        for (size_t k = 0; k < c->segments_len; k++) {
            void *copy = NULL;
            if (c->segments[k].id == info->compacted_from.data[i]) {
                RK_RET(pb_copy(&pb_rk_SegmentInfo_desc, &copy, rk__co_seg_info(&c->segments[k]),
                               arena));
                build->inputs.data[build->inputs.n++] = copy;
            }
        }
    }
    return RK_OK;
}

static rk_code
compose_build(const rk__co_collection *c, const rk__co_segment *s, const pb_rk_IndexInfo *index,
              int64_t task_id, pb_rk_TaskRequest *out, rk_arena *arena)
{
    void *copies[3] = {NULL};

    out->id = task_id;
    out->build = RK_ARENA_NEW(arena, pb_rk_BuildIndexTask);
    if (!out->build) {
        return RK_ENOMEM;
    }
    RK_RET(pb_copy(&pb_rk_SegmentInfo_desc, &copies[0], rk__co_seg_info(s), arena));
    RK_RET(pb_copy(&pb_rk_CollectionInfo_desc, &copies[1], rk__co_info(c), arena));
    RK_RET(pb_copy(&pb_rk_IndexInfo_desc, &copies[2], index, arena));
    out->build->segment = copies[0];
    out->build->collection = copies[1];
    out->build->index = copies[2];
    RK_RET(add_inputs(c, s, out->build, arena));
    out->build->object = rk_arena_printf(arena, "c%lld/s%lld/i%lld", (long long)c->id,
                                         (long long)s->id, (long long)task_id);
    return out->build->object.data ? RK_OK : RK_ENOMEM;
}

/* The checkpoint of the segment's channel: every delete up to it is in a delta file or folded. */
static uint64_t
checkpoint_ts(const rk__co_collection *c, rk_str channel)
{
    for (size_t i = 0; i < c->channels_len; i++) {
        const pb_rk_ChannelInfo *info = c->channels[i].message;
        if (rk_str_eq(info->name, channel)) {
            return info->checkpoint_ts;
        }
    }
    return 0;
}

static rk_code
compose_merge(const rk__co_collection *c, const merge *m, uint64_t ids, pb_rk_TaskRequest *out,
              rk_arena *arena)
{
    pb_rk_CompactTask *work = RK_ARENA_NEW(arena, pb_rk_CompactTask);
    rk_str channel = rk__co_seg_info(&c->segments[m->inputs[0]])->channel;
    uint64_t oldest_fold = UINT64_MAX;
    void *copy = NULL;

    out->id = (int64_t)ids;
    out->compact = work;
    if (!work || !(work->inputs.data = RK_ARENA_ARRAY(arena, pb_rk_SegmentInfo *, m->n)) ||
        !(work->deltas.data = RK_ARENA_ARRAY(arena, pb_rk_DeltaFile *, c->deltas_len + 1))) {
        return RK_ENOMEM;
    }
    RK_RET(pb_copy(&pb_rk_CollectionInfo_desc, &copy, rk__co_info(c), arena));
    work->collection = copy;
    work->output_segment_id = (int64_t)ids + 1;
    work->fold_ts = checkpoint_ts(c, channel);
    for (size_t i = 0; i < m->n; i++) {
        RK_RET(pb_copy(&pb_rk_SegmentInfo_desc, &copy, rk__co_seg_info(&c->segments[m->inputs[i]]),
                       arena));
        work->inputs.data[work->inputs.n++] = copy;
        oldest_fold = RK_MIN(oldest_fold, work->inputs.data[i]->fold_ts);
        work->fold_ts = RK_MAX(work->fold_ts, work->inputs.data[i]->fold_ts);
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        const pb_rk_DeltaFile *delta = c->deltas[i].message;
        if (rk_str_eq(delta->channel, channel) && delta->max_ts > oldest_fold) {
            RK_RET(pb_copy(&pb_rk_DeltaFile_desc, &copy, delta, arena));
            work->deltas.data[work->deltas.n++] = copy;
        }
    }
    return RK_OK;
}

/* Takes the task |id| from the table into |*out|. Caller holds lock. */
bool
rk__co_task_take(rk_coordinator *co, int64_t id, rk__co_task *out)
{
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].id == id) {
            *out = co->tasks[i];
            co->tasks[i] = co->tasks[--co->tasks_len];
            return true;
        }
    }
    return false;
}

/* Marks the inputs of |task| as taken by it, or as free again. Caller holds lock. */
void
rk__co_mark_inputs(rk__co_collection *c, const rk__co_task *task, bool taken)
{
    for (size_t i = 0; c && i < task->inputs_len; i++) {
        rk__co_segment *s = rk__co_segment_find(c, task->inputs[i]);
        if (s && (taken || s->compaction == task->id)) {
            s->compaction = taken ? task->id : 0;
        }
    }
}

/* Sends |request|. The task is remembered before: when the answer is lost the data node may work on
 * it, and is asked like for any other; one it does not know is planned again. */
static bool
submit(rk_coordinator *co, const pb_rk_TaskRequest *request, rk__co_task *task, rk_ctx *ctx)
{
    pb_rk_Empty *answer = NULL;
    rk__co_task refused;
    rk__co_collection *c;
    bool kept = false;
    rk_code code;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, task->collection_id);
    kept = c && remember_task(co, task);
    if (kept) {
        rk__co_mark_inputs(c, task, true);
    }
    rk_mutex_unlock(&co->lock);
    if (!kept) {
        rk_free(task->inputs);
        co->pass_failed = true;
        return false;
    }
    code = pb_rk_DataNode_Submit(co->options.data_node, request, &answer, ctx);
    if (code == RK_OK) {
        return true;
    }
    RK_LOG_D("coordinator", "event=submit_refused code=%d error=\"%s\"", code, ctx->err->text);
    rk_err_clear(ctx->err);
    co->pass_failed = true;
    if (code != RK_EBUSY) {
        return false; /* perhaps it has it */
    }
    rk_mutex_lock(&co->lock);
    if (rk__co_task_take(co, request->id, &refused)) {
        rk__co_mark_inputs(rk__co_find(co, refused.collection_id), &refused, false);
        rk_free(refused.inputs);
    }
    rk_mutex_unlock(&co->lock);
    return false;
}

/* One index build of the collection, if one is due. */
static bool
plan_build(rk_coordinator *co, int64_t id, int64_t *wait_ns, rk_ctx *ctx)
{
    pb_rk_TaskRequest request = {0};
    rk__co_task task = {.collection_id = id};
    rk__co_collection *c;
    uint64_t task_id;
    bool found = false;

    if (rk__co_time_alloc(co, 1, &task_id, ctx->err) != RK_OK) {
        co->pass_failed = true;
        return false;
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    for (size_t i = 0; c && !c->dropped && i < c->segments_len && !found; i++) {
        const pb_rk_IndexInfo *index = missing_index(co, c, i, wait_ns);
        if (index) {
            task.id = (int64_t)task_id;
            task.segment_id = c->segments[i].id;
            task.index_id = index->id;
            found =
                compose_build(c, &c->segments[i], index, task.id, &request, ctx->arena) == RK_OK;
            break;
        }
    }
    rk_mutex_unlock(&co->lock);
    return found && submit(co, &request, &task, ctx);
}

/* ---- compaction ---- */

/* Rows deleted in held segments, asked of the query node. */
static pb_rk_QuerySegmentsResponse *
ask_deleted(rk_coordinator *co, int64_t id, rk_ctx *ctx)
{
    pb_rk_CollectionId request = {.collection_id = id};
    pb_rk_QuerySegmentsResponse *answer = NULL;

    if (pb_rk_QueryNode_GetSegments(co->options.query_node, &request, &answer, ctx) != RK_OK) {
        rk_err_clear(ctx->err);
        return NULL;
    }
    return answer;
}

static int64_t
deleted_in(const pb_rk_QuerySegmentsResponse *held, int64_t segment_id)
{
    for (size_t i = 0; held && i < held->segment_ids.n; i++) {
        if (held->segment_ids.data[i] == segment_id) {
            return held->rows_deleted.data[i];
        }
    }
    return 0;
}

/* True when rewriting a segment of |channel| that is folded up to |fold_ts| would fold a file in.
 */
static bool
has_delta_after(const rk__co_collection *c, rk_str channel, uint64_t fold_ts)
{
    for (size_t i = 0; i < c->deltas_len; i++) {
        const pb_rk_DeltaFile *delta = c->deltas[i].message;
        if (rk_str_eq(delta->channel, channel) && delta->max_ts > fold_ts) {
            return true;
        }
    }
    return false;
}

/* A segment worth rewriting alone: too many deleted rows, or the one that keeps the most delta
 * files alive. Caller holds lock. */
static void
find_rewrite(const rk_coordinator *co, const rk__co_collection *c,
             const pb_rk_QuerySegmentsResponse *held, merge *out)
{
    double ratio = rk_config_f64(co->options.config, RK_CFG_COMPACTION_DELETE_RATIO);
    uint64_t oldest = UINT64_MAX;
    size_t oldest_at = 0;

    *out = (merge){0};
    for (size_t i = 0; i < c->segments_len; i++) {
        const rk__co_segment *s = &c->segments[i];
        const pb_rk_SegmentInfo *info = rk__co_seg_info(s);
        if (!is_live(s) || s->compaction != 0 || !is_readable(co, s)) {
            continue;
        }
        if ((double)deleted_in(held, s->id) > ratio * (double)info->rows &&
            checkpoint_ts(c, info->channel) > info->fold_ts) {
            out->inputs[out->n++] = i;
            return;
        }
        if (info->fold_ts < oldest && has_delta_after(c, info->channel, info->fold_ts)) {
            oldest = info->fold_ts;
            oldest_at = i;
        }
    }
    if (c->deltas_len > DELTAS_MAX && oldest != UINT64_MAX) {
        out->inputs[out->n++] = oldest_at;
    }
}

static bool
plan_compaction(rk_coordinator *co, int64_t id, int64_t *wait_ns, rk_ctx *ctx)
{
    pb_rk_TaskRequest request = {0};
    pb_rk_QuerySegmentsResponse *held = NULL;
    rk__co_task task = {.collection_id = id};
    rk__co_collection *c;
    merge m = {0};
    int64_t quiet_in = 0;
    uint64_t ids = 0;
    bool found = false;

    if (!compaction_enabled(co)) {
        return false;
    }
    if (rk__co_time_alloc(co, 2, &ids, ctx->err) != RK_OK) {
        co->pass_failed = true;
        return false;
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    found = c && c->loaded && c->deltas_len > 0;
    if (c && c->merge_at_ns > 0) {
        quiet_in = c->merge_at_ns - rk__co_now_ns(co);
    }
    rk_mutex_unlock(&co->lock);
    if (quiet_in > 0) { /* one has failed */
        *wait_ns = RK_MIN(*wait_ns, quiet_in);
        return false;
    }
    if (found) {
        held = ask_deleted(co, id, ctx);
        found = false;
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c && !c->dropped) {
        quiet_in = c->flushed_at_ns + QUIET_NS - rk__co_now_ns(co);
        for (size_t i = 0; i < c->segments_len && m.n == 0; i++) {
            if (is_small(co, &c->segments[i])) {
                find_merge(co, c, i, &m);
            }
        }
        if (m.n > 0 && m.n < MERGE_AT_ONCE && quiet_in > 0) {
            *wait_ns = RK_MIN(*wait_ns, quiet_in);
            m.n = 0;
        } else if (m.n == 0) {
            find_rewrite(co, c, held, &m);
        }
        task.inputs = m.n > 0 ? rk_alloc(m.n * sizeof(*task.inputs)) : NULL;
        if (task.inputs && compose_merge(c, &m, ids, &request, ctx->arena) == RK_OK) {
            task.id = (int64_t)ids;
            task.segment_id = (int64_t)ids + 1;
            for (size_t i = 0; i < m.n; i++) {
                task.inputs[task.inputs_len++] = c->segments[m.inputs[i]].id;
            }
            found = true;
        }
    }
    rk_mutex_unlock(&co->lock);
    if (!found) {
        rk_free(task.inputs);
        return false;
    }
    return submit(co, &request, &task, ctx);
}

void
rk__co_plan_tasks(rk_coordinator *co, int64_t id, int64_t *wait_ns)
{
    rk_err err = {0};
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = &err, .deadline_ns = INT64_MAX};
    bool more = ctx.arena != NULL;

    rk_mutex_lock(&co->lock);
    const rk__co_collection *c = rk__co_find(co, id);
    more = more && c && !c->dropped && c->segments_len > 0;
    rk_mutex_unlock(&co->lock);
    while (more && plan_compaction(co, id, wait_ns, &ctx)) {
        rk_arena_reset(ctx.arena);
    }
    while (more && plan_build(co, id, wait_ns, &ctx)) {
        rk_arena_reset(ctx.arena);
    }
    rk_arena_free(ctx.arena);
}
