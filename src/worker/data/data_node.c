/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data node: builds indexes and compacts segments in the background, one task per background
 * thread, and answers how far it is.
 *
 * A task reads immutable files and writes new ones; nothing of it is part of the catalogue until
 * the coordinator takes the result in. So a task that is lost with the process is simply given
 * again, and its half-written objects have names nobody refers to.
 *
 * Threads: methods on pool threads; tasks on the background pool. Lock `tasks` guards the table; it
 * is never held while working.
 */
#include "base/log.h"
#include "base/util.h"
#include "proto/internal.service.h"
#include "segment/segment.h"
#include "worker/data/parallel.h"
#include "worker/worker.h"

#define TASKS_MAX 1024

typedef struct task {
    struct task *next;
    rk_data_node *node;
    rk_arena *arena; /* request and answer */
    pb_rk_TaskRequest *request;
    pb_rk_TaskInfo info;       /* guarded by tasks */
    pb_rk_IndexFile *built;    /* the worker's own until it ends, then part of info */
    pb_rk_SegmentInfo *merged; /* the same */
    int64_t damaged;           /* the same: input that cannot be read, 0: none */
    _Atomic(uint64_t) rows_done;
    _Atomic(bool) cancel;
    bool forgotten; /* freed when it ends */
} task;

struct rk_data_node {
    rk_worker_options options;
    rk_service *service;
    rk__dn_parallel *parallel;
    rk_mutex tasks;
    rk_cond ended;
    task *list;
    size_t list_len;
    bool stopping;
};

static rk_code
no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM, "data node: memory is out");
}

static void
task_free(task *t)
{
    if (t) {
        rk_arena_free(t->arena);
        rk_free(t);
    }
}

/* ---- work ---- */

static rk_code
open_schema(const pb_rk_CollectionInfo *collection, rk_schema **out, rk_err *err)
{
    *out = NULL;
    if (!collection || !collection->schema) {
        return rk_fail(err, RK_EINTERNAL, "a task came without its collection");
    }
    return rk_schema_new(out, collection->schema, collection->schema_version, err);
}

/* An object of a task that fails after all: nobody else knows its name. */
static void
discard_object(rk_data_node *node, rk_str name)
{
    char *object = rk_strdup(name);

    if (!object || rk_object_delete(node->options.objects, object, NULL) != RK_OK) {
        RK_LOG_W("data", "event=orphan_object object=%.*s", RK_STR_ARG(name));
    }
    rk_free(object);
}

/* The segments that a merged one was written from, with their files of this index, as far as they
 * can be opened: a part that is missing costs time only. */
static void
open_inputs(task *t, rk_schema *schema, const rk_segment_env *env, rk_segment **out, size_t *n)
{
    const pb_rk_BuildIndexTask *build = t->request->build;

    for (size_t i = 0; i < build->inputs.n; i++) {
        pb_rk_SegmentInfo bare = *build->inputs.data[i];
        pb_rk_IndexFile *file = NULL;
        bool damaged = false;
        rk_err err = {0};
        for (size_t k = 0; k < bare.indexes.n && !file; k++) {
            file = bare.indexes.data[k]->index_id == build->index->id ? bare.indexes.data[k] : NULL;
        }
        bare.indexes.data = &file;
        bare.indexes.n = 1;
        if (!file || bare.rows < build->segment->rows / 4) { /* too little to be worth opening */
            continue;
        }
        if (rk_segment_open(&out[*n], &bare, schema, env, &damaged, &err) == RK_OK) {
            ++*n;
        } else {
            RK_LOG_D("data", "event=input_left_aside segment=%lld error=\"%s\"", (long long)bare.id,
                     err.text);
        }
    }
}

static rk_code
build_index(task *t, rk_err *err)
{
    const pb_rk_BuildIndexTask *build = t->request->build;
    const rk_segment_env env = {.objects = t->node->options.objects,
                                .mem = t->node->options.mem,
                                .parallel = rk__dn_parallel_get(t->node->parallel)};
    rk_schema *schema = NULL;
    rk_segment *seg = NULL;
    rk_segment **inputs = RK_ARENA_ARRAY(t->arena, rk_segment *, build->inputs.n + 1);
    size_t inputs_len = 0;
    pb_rk_SegmentInfo bare;
    rk_param *params = NULL;
    char *object = NULL;
    uint64_t size_bytes = 0;
    bool damaged = false;
    rk_code code = RK_OK;

    if (!build->segment || !build->index) {
        return rk_fail(err, RK_EINTERNAL, "an index task came without segment or index");
    }
    bare = *build->segment;
    bare.indexes.n = 0;
    RK_ERR(open_schema(build->collection, &schema, err));
    RK_ERR(rk_segment_open(&seg, &bare, schema, &env, &damaged, err));
    params = RK_ARENA_ARRAY(t->arena, rk_param, build->index->params.n + 1);
    object = rk_strdup(build->object);
    if (!params || !object || !inputs) {
        code = no_memory(err);
        goto out;
    }
    open_inputs(t, schema, &env, inputs, &inputs_len);
    for (size_t i = 0; i < build->index->params.n; i++) {
        params[i] =
            (rk_param){build->index->params.data[i]->key, build->index->params.data[i]->value};
    }
    RK_ERR(RK_FAULT("index.before_build"));
    RK_ERR(rk_segment_merge_index(seg, inputs, inputs_len, build->index->field_id,
                                  (rk_params){params, build->index->params.n}, object, &env,
                                  &t->cancel, &t->rows_done, &size_bytes, err));
    code = RK_FAULT("index.after_build");
    t->built = RK_ARENA_NEW(t->arena, pb_rk_IndexFile);
    if (code == RK_OK && !t->built) {
        code = no_memory(err);
    }
    if (code != RK_OK) {
        discard_object(t->node, build->object);
        goto out;
    }
    t->built->index_id = build->index->id;
    t->built->field_id = build->index->field_id;
    t->built->object = build->object;
    t->built->size_bytes = size_bytes;
    t->built->params = build->index->params;
out:
    rk_free(object);
    for (size_t i = 0; i < inputs_len; i++) {
        rk_segment_unref(inputs[i]);
    }
    rk_segment_unref(seg);
    rk_schema_unref(schema);
    return code;
}

static rk_code
apply_delta(task *t, const pb_rk_DeltaFile *delta, rk_segment **segs, size_t n, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    pb_schema_IDs *keys = NULL;
    uint64_t *ts = NULL;
    size_t keys_len = 0;
    char *object = rk_strdup(delta->object);
    rk_code code = RK_OK;

    if (!arena || !object) {
        code = no_memory(err);
        goto out;
    }
    RK_ERR(rk_delta_read(object, &keys, &ts, &keys_len, t->node->options.objects, arena, err));
    for (size_t i = 0; i < n; i++) {
        size_t hits;
        RK_ERR(rk_segment_delete(segs[i], keys, ts, keys_len, &hits, err));
    }
out:
    rk_free(object);
    rk_arena_free(arena);
    return code;
}

static rk_code
compact(task *t, rk_err *err)
{
    const pb_rk_CompactTask *work = t->request->compact;
    const rk_segment_env env = {.objects = t->node->options.objects, .mem = t->node->options.mem};
    rk_segment **segs = RK_ARENA_ARRAY(t->arena, rk_segment *, work->inputs.n + 1);
    pb_rk_SegmentInfo *info = RK_ARENA_NEW(t->arena, pb_rk_SegmentInfo);
    rk_schema *schema = NULL;
    rk_segment_ids ids = {.id = work->output_segment_id};
    size_t n = 0;
    rk_code code = RK_OK;

    if (!segs || !info || work->inputs.n == 0) {
        return no_memory(err);
    }
    ids.collection_id = work->inputs.data[0]->collection_id;
    ids.partition_id = work->inputs.data[0]->partition_id;
    RK_ERR(open_schema(work->collection, &schema, err));
    for (size_t i = 0; i < work->inputs.n; i++) {
        pb_rk_SegmentInfo bare = *work->inputs.data[i];
        bool damaged = false;
        bare.indexes.n = 0;
        code = rk_segment_open(&segs[n], &bare, schema, &env, &damaged, err);
        t->damaged = code == RK_ECORRUPT ? bare.id : 0;
        RK_ERR(code);
        n++;
    }
    for (size_t i = 0; i < work->deltas.n; i++) { /* given in rising order of time */
        RK_ERR(apply_delta(t, work->deltas.data[i], segs, n, err));
    }
    RK_ERR(RK_FAULT("compact.before_write"));
    code = rk_segment_write(info, &ids, segs, n, work->fold_ts, &env, &t->cancel, t->arena, err);
    for (size_t i = 0; code == RK_ECORRUPT && i < n; i++) {
        if (rk_segment_has_damaged_column(segs[i])) {
            t->damaged = work->inputs.data[i]->id;
        }
    }
    RK_ERR(code);
    code = RK_FAULT("compact.after_write");
    if (code != RK_OK) {
        for (size_t i = 0; i < info->columns.n; i++) {
            discard_object(t->node, info->columns.data[i]->object);
        }
        goto out;
    }
    info->id = ids.id;
    info->collection_id = ids.collection_id;
    info->partition_id = ids.partition_id;
    info->channel = work->inputs.data[0]->channel;
    info->state = PB_RK_SegmentState_SEGMENT_FLUSHED;
    info->fold_ts = work->fold_ts;
    info->schema_version = schema->version;
    t->merged = info;
out:
    for (size_t i = 0; i < n; i++) {
        rk_segment_unref(segs[i]);
    }
    rk_schema_unref(schema);
    return code;
}

static void
unlink_task(rk_data_node *node, task *t)
{
    task **at = &node->list;

    while (*at && *at != t) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = t->next;
        node->list_len--;
    }
}

static void
run_task(void *arg)
{
    task *t = arg;
    rk_data_node *node = t->node;
    rk_err err = {0};
    rk_code code = RK_ECANCELLED;
    bool dead;

    rk_mutex_lock(&node->tasks);
    t->info.state = PB_RK_TaskState_TASK_RUNNING;
    dead = node->stopping || atomic_load(&t->cancel);
    rk_mutex_unlock(&node->tasks);
    if (!dead) {
        code = t->request->build ? build_index(t, &err) : compact(t, &err);
    }
    rk_mutex_lock(&node->tasks);
    t->info.state = code == RK_OK ? PB_RK_TaskState_TASK_DONE : PB_RK_TaskState_TASK_FAILED;
    t->info.fail_code = code;
    t->info.index = code == RK_OK ? t->built : NULL;
    t->info.segment = code == RK_OK ? t->merged : NULL;
    t->info.damaged_segment_id = t->damaged;
    if (code != RK_OK) {
        t->info.fail_reason = rk_arena_str(
            t->arena, rk_str_from(err.text[0] ? err.text : rk_code_get_info(code)->text));
        if (code != RK_ECANCELLED) {
            RK_LOG_W("data", "event=task_failed task=%lld code=%d error=\"%s\"",
                     (long long)t->info.id, code, err.text);
        }
    }
    dead = t->forgotten;
    if (dead) {
        unlink_task(node, t);
    }
    rk_cond_broadcast(&node->ended);
    rk_mutex_unlock(&node->tasks);
    if (dead) {
        task_free(t);
    }
}

/* ---- service ---- */

static uint64_t
rows_total(const pb_rk_TaskRequest *req)
{
    uint64_t rows = 0;

    if (req->build) {
        return req->build->segment ? (uint64_t)req->build->segment->rows : 0;
    }
    for (size_t i = 0; i < req->compact->inputs.n; i++) {
        rows += (uint64_t)req->compact->inputs.data[i]->rows;
    }
    return rows;
}

static rk_code
submit(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_data_node *node = self;
    const pb_rk_TaskRequest *req = request;
    task *t = rk_alloc_zero(1, sizeof(*t));
    void *copy = NULL;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    if (!t || !(t->arena = rk_arena_new(0))) {
        code = no_memory(ctx->err);
        goto out;
    }
    if (!req->build == !req->compact) {
        code =
            rk_fail(ctx->err, RK_EINTERNAL, "a task must be either an index build or a compaction");
        goto out;
    }
    RK_ERR(pb_copy(&pb_rk_TaskRequest_desc, &copy, req, t->arena));
    t->node = node;
    t->request = copy;
    t->info.id = req->id;
    t->info.state = PB_RK_TaskState_TASK_QUEUED;
    t->info.rows_total = rows_total(t->request);
    rk_mutex_lock(&node->tasks);
    for (task *other = node->list; other && code == RK_OK; other = other->next) {
        if (other->info.id == req->id) {
            code = RK_EEXISTS; /* the call was repeated */
        }
    }
    if (code == RK_OK && (node->stopping || node->list_len >= TASKS_MAX)) {
        code =
            rk_fail(ctx->err, RK_EBUSY, "data node: %zu tasks are queued already", node->list_len);
    }
    if (code == RK_OK) {
        t->next = node->list;
        node->list = t;
        node->list_len++;
    }
    rk_mutex_unlock(&node->tasks);
    RK_ERR(code);
    code = rk_pool_submit(node->options.background, run_task, t);
    if (code != RK_OK) {
        rk_mutex_lock(&node->tasks);
        unlink_task(node, t);
        rk_cond_broadcast(&node->ended); /* a stop may wait for it */
        rk_mutex_unlock(&node->tasks);
        (void)rk_fail(ctx->err, code, "data node: the background queue is full");
        goto out;
    }
    t = NULL;
out:
    task_free(t);
    return code == RK_EEXISTS ? RK_OK : code;
}

static bool
wanted(const pb_i64s *ids, int64_t id)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->data[i] == id) {
            return true;
        }
    }
    return ids->n == 0;
}

/* Copies what is asked for into |out|; a task asked for by id but not known gets TASK_NONE. Caller
 * holds tasks. */
static rk_code
list_locked(rk_data_node *node, const pb_i64s *ids, pb_rk_TaskList *out, rk_arena *arena)
{
    out->tasks.n = 0;
    out->tasks.data = RK_ARENA_ARRAY(arena, pb_rk_TaskInfo *, node->list_len + ids->n + 1);
    if (!out->tasks.data) {
        return RK_ENOMEM;
    }
    for (task *t = node->list; t; t = t->next) {
        void *copy = NULL;
        if (!wanted(ids, t->info.id)) {
            continue;
        }
        t->info.rows_done = atomic_load_explicit(&t->rows_done, memory_order_relaxed);
        RK_RET(pb_copy(&pb_rk_TaskInfo_desc, &copy, &t->info, arena));
        out->tasks.data[out->tasks.n++] = copy;
    }
    for (size_t i = 0; i < ids->n; i++) {
        bool known = false;
        for (size_t k = 0; k < out->tasks.n && !known; k++) {
            known = out->tasks.data[k]->id == ids->data[i];
        }
        if (!known) {
            pb_rk_TaskInfo *none = RK_ARENA_NEW(arena, pb_rk_TaskInfo);
            if (!none) {
                return RK_ENOMEM;
            }
            none->id = ids->data[i];
            out->tasks.data[out->tasks.n++] = none;
        }
    }
    return RK_OK;
}

static rk_code
get(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_data_node *node = self;
    const pb_rk_TaskIds *req = request;
    pb_i64s ids = {req->ids.data, req->ids.n};
    rk_code code;

    rk_mutex_lock(&node->tasks);
    code = list_locked(node, &ids, response, ctx->arena);
    rk_mutex_unlock(&node->tasks);
    return code == RK_OK ? RK_OK : no_memory(ctx->err);
}

static bool
any_ended(const pb_rk_TaskList *list)
{
    for (size_t i = 0; i < list->tasks.n; i++) {
        int32_t state = list->tasks.data[i]->state;
        if (state != PB_RK_TaskState_TASK_QUEUED && state != PB_RK_TaskState_TASK_RUNNING) {
            return true;
        }
    }
    return list->tasks.n == 0;
}

static rk_code
wait_tasks(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_data_node *node = self;
    const pb_rk_WaitTasksRequest *req = request;
    pb_rk_TaskList *out = response;
    pb_i64s ids = {req->ids.data, req->ids.n};
    const rk_clock *clock = node->options.env->clock;
    int64_t until = RK_MIN(clock->monotonic_ns(clock->self) + (int64_t)req->timeout_ms * 1000000,
                           ctx->deadline_ns);
    bool waiting = true;
    rk_code code;

    rk_mutex_lock(&node->tasks);
    for (;;) {
        code = list_locked(node, &ids, out, ctx->arena);
        if (code != RK_OK || any_ended(out) || !waiting || node->stopping) {
            break;
        }
        waiting = rk_cond_wait_until(&node->ended, &node->tasks, until);
    }
    rk_mutex_unlock(&node->tasks);
    return code == RK_OK ? RK_OK : no_memory(ctx->err);
}

static rk_code
cancel(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_data_node *node = self;
    const pb_rk_TaskIds *req = request;
    pb_i64s ids = {req->ids.data, req->ids.n};

    RK_UNUSED(response);
    RK_UNUSED(ctx);
    rk_mutex_lock(&node->tasks);
    for (task *t = node->list; t; t = t->next) {
        if (wanted(&ids, t->info.id)) {
            atomic_store(&t->cancel, true);
        }
    }
    rk_mutex_unlock(&node->tasks);
    return RK_OK;
}

static rk_code
forget(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_data_node *node = self;
    const pb_rk_TaskIds *req = request;
    pb_i64s ids = {req->ids.data, req->ids.n};
    task *dead = NULL;
    task **at;

    RK_UNUSED(response);
    RK_UNUSED(ctx);
    rk_mutex_lock(&node->tasks);
    at = &node->list;
    while (*at) {
        task *t = *at;
        bool ended = t->info.state == PB_RK_TaskState_TASK_DONE ||
                     t->info.state == PB_RK_TaskState_TASK_FAILED;
        if (!wanted(&ids, t->info.id)) {
            at = &t->next;
        } else if (!ended) {
            t->forgotten = true;
            at = &t->next;
        } else {
            *at = t->next;
            node->list_len--;
            t->next = dead;
            dead = t;
        }
    }
    rk_mutex_unlock(&node->tasks);
    while (dead) {
        task *t = dead;
        dead = t->next;
        task_free(t);
    }
    return RK_OK;
}

/* ---- life ---- */

static const rk_method_fn METHODS[PB_RK_DataNode_METHODS] = {
    [PB_RK_DataNode_Submit] = submit,   [PB_RK_DataNode_Get] = get,
    [PB_RK_DataNode_Wait] = wait_tasks, [PB_RK_DataNode_Cancel] = cancel,
    [PB_RK_DataNode_Forget] = forget,
};

rk_code
rk_data_node_new(rk_data_node **out, const rk_worker_options *options, rk_err *err)
{
    rk_data_node *node = rk_alloc_zero(1, sizeof(*node));
    rk_code code = RK_OK;

    *out = NULL;
    if (!node) {
        return no_memory(err);
    }
    node->options = *options;
    rk_mutex_init(&node->tasks, "data.tasks", 55);
    rk_cond_init(&node->ended);
    RK_ERR(rk__dn_parallel_new(&node->parallel, rk_cpu_count()));
    RK_ERR(rk_service_near(&node->service, &pb_rk_DataNode_service, METHODS, node));
    *out = node;
    node = NULL;
out:
    rk_data_node_free(node);
    return code;
}

rk_service *
rk_data_node_service(rk_data_node *node)
{
    return node->service;
}

static bool
has_unfinished(const rk_data_node *node)
{
    for (const task *t = node->list; t; t = t->next) {
        if (t->info.state == PB_RK_TaskState_TASK_QUEUED ||
            t->info.state == PB_RK_TaskState_TASK_RUNNING) {
            return true;
        }
    }
    return false;
}

void
rk_data_node_stop(rk_data_node *node)
{
    rk_mutex_lock(&node->tasks);
    node->stopping = true;
    for (task *t = node->list; t; t = t->next) {
        atomic_store(&t->cancel, true);
    }
    rk_cond_broadcast(&node->ended);
    while (has_unfinished(node)) {
        rk_cond_wait(&node->ended, &node->tasks);
    }
    rk_mutex_unlock(&node->tasks);
}

void
rk_data_node_free(rk_data_node *node)
{
    if (!node) {
        return;
    }
    while (node->list) {
        task *t = node->list;
        node->list = t->next;
        task_free(t);
    }
    rk_service_free(node->service);
    rk__dn_parallel_free(node->parallel);
    rk_cond_deinit(&node->ended);
    rk_mutex_deinit(&node->tasks);
    rk_free(node);
}
