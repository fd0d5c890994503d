/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading: a wish in the meta store, and the job thread that makes the query node and the
 * delegator's view agree with it.
 *
 * A collection is loaded in this order: the delegator is told to keep growing copies; the sealed
 * segments are listed and opened by the query node; the view takes them in, and reads are served.
 * Later flushes, compactions and indexes go the same way: first the query node holds what is new,
 * then the view changes, then the query node lets go of what is old.
 */
#include "coordinator/coordinator_private.h"

/* How long Release waits for the job thread. */
#define RELEASE_WAIT_NS (INT64_C(30) * 1000000000)
/* How long Load does, so that a client that does not ask for the state can search a small
 * collection at once. */
#define LOAD_WAIT_NS (INT64_C(300) * 1000000)

/* ---- requests ---- */

static bool
field_has_index(const pb_rk_CollectionInfo *info, int64_t field_id)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        if (info->indexes.data[i]->field_id == field_id) {
            return true;
        }
    }
    return false;
}

/* Every vector field needs an index before a load: the public API's rule. */
static rk_code
check_indexes(const pb_rk_CollectionInfo *info, rk_err *err)
{
    char missing[512];
    size_t len = 0;
    bool any_index = false;

    missing[0] = '\0';
    for (size_t i = 0; i < info->schema->fields.n; i++) {
        const pb_schema_FieldSchema *field = info->schema->fields.data[i];
        if (field->data_type < PB_SCHEMA_DataType_BinaryVector) {
            continue;
        }
        if (field_has_index(info, field->fieldID)) {
            any_index = true;
        } else if (len + field->name.len + 2 < sizeof(missing)) {
            len += (size_t)snprintf(missing + len, sizeof(missing) - len, "%s%.*s", len ? " " : "",
                                    RK_STR_ARG(field->name));
        }
    }
    if (!any_index && len > 0) {
        return rk_fail(err, RK_EINDEX_NOT_FOUND, "index not found[collection=%.*s]",
                       RK_STR_ARG(info->name));
    }
    if (len > 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "there is no vector index on field: [%s], please create index firstly",
                            missing);
    }
    return RK_OK;
}

rk_code
rk__co_load(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_LoadRequest *req = request;
    rk_meta_op op = {.kind = RK_META_PUT, .value = RK_STR("1")};
    rk__co_collection *c;
    int64_t until = RK_MIN(ctx->deadline_ns, rk__co_now_ns(co) + LOAD_WAIT_NS);
    bool wanted = false;
    bool in_time = true;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    if (code == RK_OK) {
        wanted = c->load_wanted;
        code = check_indexes(rk__co_info(c), ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        goto out;
    }
    if (!wanted) {
        op.key = rk__co_key(ctx->arena, "load", req->collection_id, 0);
        if (!op.key.data) {
            code = rk__co_no_memory(ctx->err);
            goto out;
        }
        RK_ERR(rk__co_commit(co, &op, 1, ctx->err));
    }
    rk_mutex_lock(&co->lock);
    c->load_wanted = true;
    c->retry_at_ns = 0; /* asked for again: try at once, and tell of that try's failure only */
    c->load_error[0] = '\0';
    c->load_tries = 0;
    rk__co_wake(co);
    rk_mutex_unlock(&co->lock);
    rk__co_bump(co);
out:
    rk_mutex_unlock(&co->ddl);
    RK_RET(code);
    rk_mutex_lock(&co->lock);
    while (in_time && !co->stopping && (c = rk__co_find(co, req->collection_id)) &&
           c->load_wanted && !c->loaded && c->load_error[0] == '\0') {
        in_time = rk_cond_wait_until(&co->changed, &co->lock, until);
    }
    rk_mutex_unlock(&co->lock);
    return RK_OK;
}

bool
rk__co_holds_nothing(const rk__co_collection *c)
{
    bool held = c->loaded || c->load_announced;

    for (size_t i = 0; i < c->segments_len && !held; i++) {
        held = c->segments[i].held;
    }
    return !held;
}

rk_code
rk__co_release(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CollectionId *req = request;
    rk_meta_op op = {.kind = RK_META_DELETE};
    int64_t until = RK_MIN(ctx->deadline_ns, rk__co_now_ns(co) + RELEASE_WAIT_NS);
    rk__co_collection *c;
    bool in_time = true;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    rk_mutex_unlock(&co->lock);
    if (code == RK_OK) {
        op.key = rk__co_key(ctx->arena, "load", req->collection_id, 0);
        code = op.key.data ? rk__co_commit(co, &op, 1, ctx->err) : rk__co_no_memory(ctx->err);
    }
    if (code == RK_OK) {
        rk_mutex_lock(&co->lock);
        c->load_wanted = false;
        c->load_error[0] = '\0';
        rk__co_wake(co);
        rk_mutex_unlock(&co->lock);
        rk__co_bump(co);
    }
    rk_mutex_unlock(&co->ddl);
    RK_RET(code);
    rk_mutex_lock(&co->lock);
    while (in_time && !co->stopping && (c = rk__co_find(co, req->collection_id)) &&
           !c->load_wanted && !rk__co_holds_nothing(c)) {
        in_time = rk_cond_wait_until(&co->changed, &co->lock, until);
    }
    rk_mutex_unlock(&co->lock);
    if (!in_time) {
        return rk_fail(ctx->err, RK_EDEADLINE,
                       "the collection is being released but still held; ask again");
    }
    return RK_OK;
}

void
rk__co_fill_load_state(const rk__co_collection *c, pb_rk_LoadState *out)
{
    size_t wanted = 0;
    size_t held = 0;

    if (!c->load_wanted) {
        out->state = PB_COMMON_LoadState_LoadStateNotLoad;
        return;
    }
    if (c->loaded) {
        out->state = PB_COMMON_LoadState_LoadStateLoaded;
        out->progress = 100;
        return;
    }
    for (size_t i = 0; i < c->segments_len; i++) {
        wanted += !c->segments[i].pending;
        held += c->segments[i].held;
    }
    out->state = PB_COMMON_LoadState_LoadStateLoading;
    out->progress = wanted ? (int32_t)(99 * held / wanted) : 0;
    out->fail_reason = rk_str_from(c->load_error);
}

rk_code
rk__co_get_load_state(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CollectionId *req = request;
    pb_rk_LoadState *out = response;
    rk__co_collection *c;
    rk_code code;

    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    if (code == RK_OK) {
        rk__co_fill_load_state(c, out);
        out->fail_reason = rk_arena_str(ctx->arena, out->fail_reason);
    }
    rk_mutex_unlock(&co->lock);
    return code;
}

/* ---- the job thread's part ---- */

static void
note_load_error(rk_coordinator *co, int64_t id, rk_code code, const rk_err *err)
{
    rk__co_collection *c;
    unsigned shift;

    RK_LOG_W("coordinator", "event=load_failed collection=%lld code=%d error=\"%s\"", (long long)id,
             code, err->text);
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        c->load_tries = code == RK_ECORRUPT ? c->load_tries + 1 : 0;
        shift = RK_MIN(c->load_tries, RK__CO_DAMAGE_SHIFT_MAX);
        (void)snprintf(c->load_error, sizeof(c->load_error), "%.*s", (int)sizeof(c->load_error) - 1,
                       err->text);
        c->retry_at_ns = rk__co_now_ns(co) + (RK__CO_RETRY_MS * INT64_C(1000000) << shift);
    }
    rk_mutex_unlock(&co->lock);
}

/* Notes that the view is about to be left: should that end half-way and the collection be wanted
 * again, it is announced and put together from the beginning. */
static void
begin_leaving(rk_coordinator *co, int64_t id)
{
    rk__co_collection *c;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        c->leaving = true;
        c->load_announced = c->load_announced || c->loaded; /* something is held still */
        c->loaded = false;
        for (size_t i = 0; i < c->segments_len; i++) {
            c->segments[i].in_view = false;
        }
    }
    rk_mutex_unlock(&co->lock);
}

/* Takes the collection off the view and the query node; a dropped one off the streaming node too.
 */
static rk_code
let_go(rk_coordinator *co, int64_t id, bool dropped, rk_ctx *ctx)
{
    pb_rk_SyncViewRequest view = {.collection_id = id};
    pb_rk_ReleaseSegmentsRequest release = {.collection_id = id};
    pb_rk_CollectionId close = {.collection_id = id};
    pb_rk_Empty *answer = NULL;
    rk__co_collection *c;
    rk_code code;

    begin_leaving(co, id);
    code = pb_rk_StreamingNode_SyncView(co->options.streaming_node, &view, &answer, ctx);
    if (code != RK_OK && code != RK_ECOLLECTION_NOT_FOUND) {
        return code;
    }
    rk_err_clear(ctx->err);
    RK_RET(pb_rk_QueryNode_ReleaseSegments(co->options.query_node, &release, &answer, ctx));
    if (dropped) {
        RK_RET(
            pb_rk_StreamingNode_CloseCollection(co->options.streaming_node, &close, &answer, ctx));
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        c->loaded = false;
        c->load_announced = false;
        c->leaving = false;
        for (size_t i = 0; i < c->segments_len; i++) {
            c->segments[i].held = c->segments[i].in_view = c->segments[i].stale = false;
        }
    }
    rk_cond_broadcast(&co->changed);
    rk_mutex_unlock(&co->lock);
    rk__co_bump(co);
    return RK_OK;
}

/* What one round of loading does, copied out of the catalogue. */
typedef struct load_round {
    pb_rk_LoadSegmentsRequest load;
    pb_rk_SyncViewRequest view;
    pb_rk_ReleaseSegmentsRequest release;
    bool view_changes;
} load_round;

static rk_code
append_info(pb_rk_SegmentInfo_list *list, const rk__co_segment *segment, rk_arena *arena)
{
    void *copy = NULL;

    RK_RET(pb_copy(&pb_rk_SegmentInfo_desc, &copy, segment->box.message, arena));
    list->data[list->n++] = copy;
    return RK_OK;
}

/* Caller holds lock. */
static rk_code
plan_round(load_round *round, const rk__co_collection *c, rk_arena *arena)
{
    void *info = NULL;

    *round = (load_round){0};
    RK_RET(pb_copy(&pb_rk_CollectionInfo_desc, &info, rk__co_info(c), arena));
    round->load.collection = info;
    round->view.collection_id = round->release.collection_id = c->id;
    round->view.loaded = true;
    round->load.segments.data = RK_ARENA_ARRAY(arena, pb_rk_SegmentInfo *, c->segments_len + 1);
    round->view.add.data = RK_ARENA_ARRAY(arena, pb_rk_SegmentInfo *, c->segments_len + 1);
    round->view.remove.data = RK_ARENA_ARRAY(arena, int64_t, c->segments_len + 1);
    round->release.segment_ids.data = round->view.remove.data;
    if (!round->load.segments.data || !round->view.add.data || !round->view.remove.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < c->segments_len; i++) {
        const rk__co_segment *segment = &c->segments[i];
        bool live = !segment->pending &&
                    rk__co_seg_info(segment)->state == PB_RK_SegmentState_SEGMENT_FLUSHED;
        if (live && (!segment->held || segment->stale)) {
            RK_RET(append_info(&round->load.segments, segment, arena));
        }
        if (live && !segment->in_view) {
            RK_RET(append_info(&round->view.add, segment, arena));
        }
        if (!live && !segment->pending && !segment->told) {
            round->view.remove.data[round->view.remove.n++] = segment->id;
        }
    }
    /* one that was merged before its turn to be loaded came has its growing copy in the view still
     */
    round->view.drop_growing.data = round->view.remove.data;
    round->view.drop_growing.n = round->view.remove.n;
    round->release.segment_ids.n = round->view.remove.n;
    round->view_changes = !c->loaded || round->view.add.n > 0 || round->view.remove.n > 0;
    return RK_OK;
}

static void
mark_loaded(rk_coordinator *co, const load_round *round)
{
    rk__co_collection *c;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, round->view.collection_id);
    for (size_t i = 0; c && i < round->load.segments.n; i++) {
        const pb_rk_SegmentInfo *sent = round->load.segments.data[i];
        rk__co_segment *segment = rk__co_segment_find(c, sent->id);
        if (segment) {
            segment->held = true;
            segment->stale = rk__co_seg_info(segment)->indexes.n !=
                             sent->indexes.n; /* changed while it was loaded */
        }
    }
    rk_mutex_unlock(&co->lock);
}

static void
mark_viewed(rk_coordinator *co, const load_round *round)
{
    rk__co_collection *c;
    bool first = false;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, round->view.collection_id);
    if (c) {
        first = !c->loaded;
        c->loaded = true;
        for (size_t i = 0; i < round->view.add.n; i++) {
            rk__co_segment *segment = rk__co_segment_find(c, round->view.add.data[i]->id);
            if (segment) {
                segment->in_view = true;
            }
        }
        for (size_t i = 0; i < round->view.remove.n; i++) {
            rk__co_segment *segment = rk__co_segment_find(c, round->view.remove.data[i]);
            if (segment) {
                segment->in_view = segment->held = false;
                segment->told = true;
                rk__co_wake(co); /* its files may go */
            }
        }
    }
    rk_cond_broadcast(&co->changed);
    rk_mutex_unlock(&co->lock);
    if (first) {
        rk__co_bump(co);
    }
}

static rk_code
announce(rk_coordinator *co, int64_t id, rk_ctx *ctx)
{
    pb_rk_SyncViewRequest view = {.collection_id = id, .loading = true};
    pb_rk_Empty *answer = NULL;
    rk__co_collection *c;

    RK_RET(pb_rk_StreamingNode_SyncView(co->options.streaming_node, &view, &answer, ctx));
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        c->load_announced = true;
        c->leaving = false;
    }
    rk_mutex_unlock(&co->lock);
    return RK_OK;
}

static rk_code
load_round_run(rk_coordinator *co, int64_t id, bool announced, rk_ctx *ctx)
{
    load_round round = {0};
    pb_rk_LoadSegmentsResponse *loaded = NULL;
    pb_rk_Empty *answer = NULL;
    const rk__co_collection *c;
    rk_code code = RK_OK;

    if (!announced) {
        RK_RET(announce(co, id, ctx));
    }
    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c && plan_round(&round, c, ctx->arena) != RK_OK) {
        code = rk__co_no_memory(ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    if (!c || code != RK_OK) {
        return code;
    }
    if (round.load.segments.n > 0) {
        RK_RET(pb_rk_QueryNode_LoadSegments(co->options.query_node, &round.load, &loaded, ctx));
        rk__co_forget_unopened(co, id, &round.load, loaded, ctx);
        mark_loaded(co, &round);
    }
    if (round.view_changes) {
        RK_RET(RK_FAULT("view.before_sync"));
        RK_RET(pb_rk_StreamingNode_SyncView(co->options.streaming_node, &round.view, &answer, ctx));
        if (round.release.segment_ids.n > 0) {
            RK_RET(pb_rk_QueryNode_ReleaseSegments(co->options.query_node, &round.release, &answer,
                                                   ctx));
        }
        mark_viewed(co, &round);
    }
    return RK_OK;
}

/* True when the query node or the view differs from the catalogue. Caller holds lock. */
static bool
is_behind(const rk__co_collection *c)
{
    bool behind = !c->loaded || c->load_error[0] != '\0';

    for (size_t i = 0; i < c->segments_len && !behind; i++) {
        const rk__co_segment *s = &c->segments[i];
        bool live = rk__co_seg_info(s)->state == PB_RK_SegmentState_SEGMENT_FLUSHED;
        behind = !s->pending && (live ? !s->held || s->stale || !s->in_view : !s->told);
    }
    return behind;
}

static void
clear_load_error(rk_coordinator *co, int64_t id)
{
    rk__co_collection *c;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        c->load_error[0] = '\0';
        c->load_tries = 0;
    }
    rk_mutex_unlock(&co->lock);
}

void
rk__co_sync_load(rk_coordinator *co, int64_t id)
{
    rk_err err = {0};
    rk_ctx ctx = {.err = &err, .deadline_ns = INT64_MAX};
    const rk__co_collection *c;
    bool release = false;
    bool load = false;
    bool dropped = false;
    bool announced = false;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, id);
    if (c) {
        dropped = c->dropped;
        release = dropped || (!c->load_wanted && !rk__co_holds_nothing(c));
        load = !release && c->load_wanted && c->retry_at_ns <= rk__co_now_ns(co) && is_behind(c);
        announced = (c->load_announced || c->loaded) && !c->leaving;
    }
    rk_mutex_unlock(&co->lock);
    if (!release && !load) {
        return;
    }
    ctx.arena = rk_arena_new(0);
    if (!ctx.arena) {
        code = rk__co_no_memory(&err);
    } else if (release) {
        code = let_go(co, id, dropped, &ctx);
    } else {
        code = load_round_run(co, id, announced, &ctx);
    }
    if (code != RK_OK) {
        note_load_error(co, id, code, &err);
    } else {
        clear_load_error(co, id);
    }
    rk_arena_free(ctx.arena);
}
