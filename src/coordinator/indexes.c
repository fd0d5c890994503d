/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes as the catalogue knows them. Building is the job thread's work (tasks.c): an index here
 * says what every sealed segment should have, a segment's list of index files what it has.
 */
#include "coordinator/coordinator_private.h"

const pb_rk_IndexFile *
rk__co_index_file(const pb_rk_SegmentInfo *info, int64_t index_id)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        if (info->indexes.data[i]->index_id == index_id) {
            return info->indexes.data[i];
        }
    }
    return NULL;
}

static bool
same_params(const pb_common_KeyValuePair_list *a, const pb_common_KeyValuePair_list *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        bool found = false;
        for (size_t k = 0; k < b->n && !found; k++) {
            found = rk_str_eq(a->data[i]->key, b->data[k]->key) &&
                    rk_str_eq(a->data[i]->value, b->data[k]->value);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

/* RK_OK: may be created. RK_EEXISTS: the identical index is there. */
static rk_code
check_new(const pb_rk_CollectionInfo *info, const pb_rk_CreateIndexRequest *req, rk_err *err)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        const pb_rk_IndexInfo *have = info->indexes.data[i];
        if (rk_str_eq(have->name, req->name)) {
            if (have->field_id == req->field_id && same_params(&have->params, &req->params)) {
                return RK_EEXISTS;
            }
            return rk_fail_tail(err, RK_EINVAL, "at most one distinct index is allowed per field");
        }
        if (have->field_id == req->field_id) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "CreateIndex failed: creating multiple indexes on same field is not supported");
        }
    }
    return RK_OK;
}

/* Makes |next|, a changed copy of |c|'s record, durable and current. Caller holds ddl and lock;
 * lock is given up meanwhile. */
static rk_code
replace_info(rk_coordinator *co, rk__co_collection *c, const pb_rk_CollectionInfo *next,
             rk_ctx *ctx)
{
    rk__co_box box = {0};
    rk_meta_op op;
    rk_code code;

    if (rk__co_put(&op, rk__co_key(ctx->arena, "coll", c->id, 0), &pb_rk_CollectionInfo_desc, next,
                   ctx->arena) != RK_OK ||
        rk__co_box_copy(&box, &pb_rk_CollectionInfo_desc, next) != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    code = rk__co_commit(co, &op, 1, ctx->err);
    rk_mutex_lock(&co->lock);
    if (code == RK_OK) {
        rk__co_box_free(&c->box);
        c->box = box;
        rk__co_wake(co);
        rk__co_bump(co);
    } else {
        rk__co_box_free(&box);
    }
    return code;
}

static rk_code
add_index(rk_coordinator *co, rk__co_collection *c, const pb_rk_CreateIndexRequest *req,
          uint64_t id, rk_ctx *ctx)
{
    pb_rk_CollectionInfo next = *rk__co_info(c);
    pb_rk_IndexInfo *index = RK_ARENA_NEW(ctx->arena, pb_rk_IndexInfo);
    pb_rk_IndexInfo **list = RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexInfo *, next.indexes.n + 1);

    if (!index || !list) {
        return rk__co_no_memory(ctx->err);
    }
    index->id = (int64_t)id;
    index->created_ts = id;
    index->name = req->name;
    index->field_id = req->field_id;
    index->params = req->params;
    index->user_params = req->user_params;
    index->auto_index = req->auto_index;
    for (size_t i = 0; i < next.schema->fields.n; i++) {
        if (next.schema->fields.data[i]->fieldID == req->field_id) {
            index->field_name = next.schema->fields.data[i]->name;
        }
    }
    if (index->field_name.len == 0) {
        return rk_fail_tail(ctx->err, RK_EINVAL, "cannot create index on non-exist field: %lld",
                            (long long)req->field_id);
    }
    if (next.indexes.n) {
        memcpy(list, next.indexes.data, next.indexes.n * sizeof(*list));
    }
    list[next.indexes.n++] = index;
    next.indexes.data = list;
    return replace_info(co, c, &next, ctx);
}

rk_code
rk__co_create_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CreateIndexRequest *req = request;
    rk__co_collection *c;
    uint64_t id;
    rk_code code;

    RK_UNUSED(response);
    RK_RET(rk__co_time_alloc(co, 1, &id, ctx->err));
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    code = rk__co_find_present(co, req->collection_id, &c, ctx->err);
    if (code == RK_OK) {
        code = check_new(rk__co_info(c), req, ctx->err);
        if (code == RK_OK) {
            code = add_index(co, c, req, id, ctx);
        }
    }
    rk_mutex_unlock(&co->lock);
    rk_mutex_unlock(&co->ddl);
    return code == RK_EEXISTS ? RK_OK : code;
}

static bool
is_vector_field(const pb_rk_CollectionInfo *info, int64_t field_id)
{
    for (size_t i = 0; i < info->schema->fields.n; i++) {
        if (info->schema->fields.data[i]->fieldID == field_id) {
            return info->schema->fields.data[i]->data_type >= PB_SCHEMA_DataType_BinaryVector;
        }
    }
    return false;
}

static bool
index_named(const pb_rk_IndexInfo *index, const pb_rk_DropIndexRequest *req)
{
    if (req->name.len > 0) {
        return rk_str_eq(index->name, req->name);
    }
    return req->field_name.len == 0 || rk_str_eq(index->field_name, req->field_name);
}

rk_code
rk__co_drop_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_DropIndexRequest *req = request;
    pb_rk_CollectionInfo next;
    pb_rk_IndexInfo **kept;
    rk__co_collection *c;
    size_t n = 0;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    RK_ERR(rk__co_find_present(co, req->collection_id, &c, ctx->err));
    next = *rk__co_info(c);
    kept = RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexInfo *, next.indexes.n + 1);
    if (!kept) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    for (size_t i = 0; i < next.indexes.n; i++) {
        pb_rk_IndexInfo *index = next.indexes.data[i];
        if (!index_named(index, req)) {
            kept[n++] = index;
        } else if ((c->load_wanted || !rk__co_holds_nothing(c)) &&
                   is_vector_field(&next, index->field_id)) {
            code = rk_fail_tail(ctx->err, RK_EINVAL,
                                "vector index cannot be dropped on loaded collection: %lld",
                                (long long)c->id);
            goto out;
        }
    }
    if (n < next.indexes.n) {
        next.indexes.data = kept;
        next.indexes.n = n;
        code = replace_info(co, c, &next, ctx);
    }
out:
    rk_mutex_unlock(&co->lock);
    rk_mutex_unlock(&co->ddl);
    return code;
}

/* ---- describe ---- */

/* Why |index_id| cannot be built over one of the segments that are served; NULL: nothing is known
 * against it. */
static const rk__co_failure *
failure_of(rk__co_collection *c, int64_t index_id)
{
    for (size_t i = 0; i < c->failures_len; i++) {
        const rk__co_failure *f = &c->failures[i];
        const rk__co_segment *s = rk__co_segment_find(c, f->segment_id);
        if (f->index_id == index_id && f->tries >= RK__CO_TASK_TRIES_MAX && s && !s->pending &&
            rk__co_seg_info(s)->state == PB_RK_SegmentState_SEGMENT_FLUSHED &&
            !rk__co_index_file(rk__co_seg_info(s), index_id)) {
            return f;
        }
    }
    return NULL;
}

/* Rows that a running build has got to. */
static int64_t
rows_under_way(const rk_coordinator *co, int64_t segment_id, int64_t index_id)
{
    for (size_t i = 0; i < co->tasks_len; i++) {
        if (co->tasks[i].segment_id == segment_id && co->tasks[i].index_id == index_id) {
            return (int64_t)co->tasks[i].rows_done;
        }
    }
    return 0;
}

/* Whoever waits for an index waits for the rows that were there when the wait began, upto |upto_ts|
 * (0: for all): else no wait would end while rows are written. Caller holds lock. */
static rk_code
describe_one(const rk_coordinator *co, rk__co_collection *c, const pb_rk_IndexInfo *index,
             uint64_t upto_ts, pb_rk_IndexState **out, rk_arena *arena)
{
    pb_rk_IndexState *state = RK_ARENA_NEW(arena, pb_rk_IndexState);
    const rk__co_failure *failure = failure_of(c, index->id);
    void *copy = NULL;
    int64_t pending = 0;
    bool waits = false;

    if (!state || pb_copy(&pb_rk_IndexInfo_desc, &copy, index, arena) != RK_OK) {
        return RK_ENOMEM;
    }
    state->index = copy;
    for (size_t i = 0; i < c->segments_len; i++) {
        const pb_rk_SegmentInfo *info = rk__co_seg_info(&c->segments[i]);
        if (c->segments[i].pending || info->state != PB_RK_SegmentState_SEGMENT_FLUSHED) {
            continue;
        }
        state->total_rows += info->rows;
        if (!is_vector_field(rk__co_info(c), index->field_id) ||
            info->rows < RK__CO_INDEX_ROWS_MIN || rk__co_index_file(info, index->id)) {
            state->indexed_rows += info->rows;
        } else {
            /* never all of them before the file is there: clients wait for that */
            state->indexed_rows += RK_MIN(rows_under_way(co, info->id, index->id), info->rows - 1);
            pending += info->rows;
            waits = waits || upto_ts == 0 || info->min_ts <= upto_ts;
        }
    }
    state->pending_rows = pending;
    state->state = waits ? PB_COMMON_IndexState_InProgress : PB_COMMON_IndexState_Finished;
    if (failure) {
        state->state = PB_COMMON_IndexState_Failed;
        state->fail_reason = rk_arena_str(arena, rk_str_from(failure->reason));
    }
    *out = state;
    return RK_OK;
}

rk_code
rk__co_describe_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_DescribeIndexRequest *req = request;
    pb_rk_DescribeIndexResponse *out = response;
    rk__co_collection *c;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    RK_ERR(rk__co_find_present(co, req->collection_id, &c, ctx->err));
    out->indexes.data =
        RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexState *, rk__co_info(c)->indexes.n + 1);
    if (!out->indexes.data) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    for (size_t i = 0; i < rk__co_info(c)->indexes.n; i++) {
        const pb_rk_IndexInfo *index = rk__co_info(c)->indexes.data[i];
        if (req->name.len > 0 && !rk_str_eq(req->name, index->name)) {
            continue;
        }
        if (describe_one(co, c, index, req->upto_ts, &out->indexes.data[out->indexes.n],
                         ctx->arena) != RK_OK) {
            code = rk__co_no_memory(ctx->err);
            goto out;
        }
        out->indexes.n++;
    }
    if (out->indexes.n == 0 && req->name.len > 0) {
        code = rk_fail(ctx->err, RK_EINDEX_NOT_FOUND, "index not found[indexName=%.*s]",
                       RK_STR_ARG(req->name));
    } else if (out->indexes.n == 0) {
        code = rk_fail(ctx->err, RK_EINDEX_NOT_FOUND, "index not found[collection=%.*s]",
                       RK_STR_ARG(rk__co_info(c)->name));
    }
out:
    rk_mutex_unlock(&co->lock);
    return code;
}
