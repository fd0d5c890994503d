/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads at the delegator: one snapshot over growing segments here and sealed ones on the query
 * node.
 *
 * The snapshot is a timestamp and a set of segments, taken together under the collection's lock
 * after the appends that the read must see have been applied. Rows and deletes newer than the
 * timestamp are invisible to the read even while they are being applied. When a sealed segment has
 * left the query node between snapshot and search (its view changed), the whole read starts again.
 */
#include "worker/streaming/streaming_private.h"

/* A view changes when a segment was flushed, compacted or released: meeting that three times in one
 * read is no coincidence. */
#define TRIES_MAX 4

typedef struct snapshot {
    rk_schema *schema;
    rk_segment **growing;
    size_t growing_len;
    pb_rk_ReadScope scope; /* for the query node: sealed segments, read_ts */
} snapshot;

static bool
wants_partition(const pb_rk_ReadScope *scope, int64_t partition_id)
{
    for (size_t i = 0; i < scope->partition_ids.n; i++) {
        if (scope->partition_ids.data[i] == partition_id) {
            return true;
        }
    }
    return scope->partition_ids.n == 0;
}

static void
snapshot_drop(snapshot *s)
{
    for (size_t i = 0; i < s->growing_len; i++) {
        rk_segment_unref(s->growing[i]);
    }
    rk_schema_unref(s->schema);
    *s = (snapshot){0};
}

/* Caller holds lock. */
static rk_code
fill_snapshot(snapshot *s, rk__sn_collection *c, const pb_rk_ReadScope *scope, rk_arena *arena)
{
    size_t slots = 0;

    for (size_t i = 0; i < c->channels_len; i++) {
        slots += c->channels[i].slots_len;
    }
    s->growing = RK_ARENA_ARRAY(arena, rk_segment *, slots + 1);
    s->scope = *scope;
    s->scope.segment_ids.n = 0;
    s->scope.segment_ids.data = RK_ARENA_ARRAY(arena, int64_t, c->sealed_len + 1);
    if (!s->growing || !s->scope.segment_ids.data) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < c->channels_len && !scope->ignore_growing; i++) {
        const rk__sn_channel *ch = &c->channels[i];
        for (size_t k = 0; k < ch->slots_len; k++) {
            if (wants_partition(scope, ch->slots[k].partition_id)) {
                s->growing[s->growing_len++] = rk_segment_ref(ch->slots[k].segment);
            }
        }
    }
    for (size_t i = 0; i < c->sealed_len; i++) {
        if (wants_partition(scope, c->sealed[i].partition_id)) {
            s->scope.segment_ids.data[s->scope.segment_ids.n++] = c->sealed[i].id;
        }
    }
    s->scope.read_ts = RK_MAX(c->applied_ts, (uint64_t)1);
    if (scope->read_ts != 0 && scope->read_ts < s->scope.read_ts) {
        s->scope.read_ts = scope->read_ts;
    }
    s->schema = rk_schema_ref(c->schema);
    return RK_OK;
}

static rk_code
snapshot_take(snapshot *s, rk__sn_collection *c, const pb_rk_ReadScope *scope, rk_ctx *ctx)
{
    /* Strong: every append begun before now; else those up to the timestamp the read was promised
     */
    uint64_t guarantee = scope->consistency_level == PB_COMMON_ConsistencyLevel_Strong
                             ? UINT64_MAX
                             : scope->guarantee_ts;
    rk_code code = RK_OK;

    *s = (snapshot){0};
    if (!rk__sn_turns_pass(c, guarantee, ctx->deadline_ns)) {
        return rk_fail(ctx->err, RK_EDEADLINE,
                       "the deadline passed while waiting for writes the read must see");
    }
    rk_mutex_lock(&c->lock);
    if (c->closed) {
        code = rk__sn_not_found(c->id, ctx->err);
    } else if (c->broken) {
        code = rk__sn_broken(c, ctx->err);
    } else if (!c->loaded && c->keeps_saved) {
        code = rk_fail(ctx->err, RK_ECOLLECTION_NOT_FULLY_LOADED,
                       "collection not fully loaded[collection=%s]", c->name);
    } else if (!c->loaded) {
        code = rk_fail(ctx->err, RK_ECOLLECTION_NOT_LOADED, "collection not loaded[collection=%s]",
                       c->name);
    } else if (scope->schema_version != 0 && scope->schema_version != c->schema->version) {
        code = rk_fail(ctx->err, RK_ESCHEMA_MISMATCH, "collection schema mismatch[collection=%s]",
                       c->name);
    } else if (fill_snapshot(s, c, scope, ctx->arena) != RK_OK) {
        code = rk__sn_no_memory(ctx->err);
    }
    rk_mutex_unlock(&c->lock);
    if (code != RK_OK) {
        snapshot_drop(s);
    }
    return code;
}

/* Runs |once| until it meets no view change. */
static rk_code
with_retries(rk__sn_collection *c, const void *request, void *response, size_t response_bytes,
             rk_ctx *ctx, rk_code (*once)(rk__sn_collection *, const void *, void *, rk_ctx *))
{
    rk_code code = RK_OK;

    for (int i = 0; i < TRIES_MAX; i++) {
        memset(response, 0, response_bytes);
        code = once(c, request, response, ctx);
        if (code != RK_ESEGMENT_NOT_LOADED) {
            break;
        }
        if (i + 1 < TRIES_MAX) {
            rk_err_clear(ctx->err);
        }
    }
    return rk_ctx_stopped(ctx, code);
}

/* ---- search ---- */

/* Splits hits into those of growing segments (fetched here) and of sealed ones (fetched there),
 * then puts the answers in order. */
static rk_code
fetch_fields(rk__sn_collection *c, const snapshot *s, const pb_rk_SearchRequest *req,
             pb_rk_SearchResponse *out, rk_ctx *ctx)
{
    size_t n = out->segment_ids.n;
    pb_rk_FetchRequest parts[2] = {{.collection_id = c->id}, {.collection_id = c->id}};
    pb_rk_FetchResponse here = {0};
    pb_rk_FetchResponse *there = NULL;
    rk_part_row *picks = RK_ARENA_ARRAY(ctx->arena, rk_part_row, n + 1);

    if (!picks) {
        return rk__sn_no_memory(ctx->err);
    }
    for (size_t p = 0; p < 2; p++) {
        parts[p].segment_ids.data = RK_ARENA_ARRAY(ctx->arena, int64_t, n + 1);
        parts[p].rows.data = RK_ARENA_ARRAY(ctx->arena, uint32_t, n + 1);
        parts[p].output_field_ids.data = req->output_field_ids.data;
        parts[p].output_field_ids.n = req->output_field_ids.n;
        if (!parts[p].segment_ids.data || !parts[p].rows.data) {
            return rk__sn_no_memory(ctx->err);
        }
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id = out->segment_ids.data[i];
        uint32_t p = 1;
        for (size_t k = 0; k < s->growing_len && p == 1; k++) {
            rk_segment_stats stats;
            rk_segment_get_stats(s->growing[k], &stats);
            p = stats.ids.id == id ? 0 : 1;
        }
        picks[i] = (rk_part_row){p, (uint32_t)parts[p].rows.n};
        parts[p].segment_ids.data[parts[p].segment_ids.n++] = id;
        parts[p].rows.data[parts[p].rows.n++] = out->rows.data[i];
    }
    if (parts[0].rows.n > 0) {
        RK_RET(rk_fetch_run(&parts[0], s->schema, s->growing, s->growing_len, &here, ctx->arena,
                            ctx->err));
    }
    if (parts[1].rows.n > 0) {
        RK_RET(pb_rk_QueryNode_Fetch(c->node->options.query_node, &parts[1], &there, ctx));
    }
    if (parts[1].rows.n == 0 || parts[0].rows.n == 0) {
        const pb_rk_FetchResponse *all = parts[1].rows.n == 0 ? &here : there;
        out->fields.data = all->fields.data;
        out->fields.n = all->fields.n;
        return RK_OK;
    }
    if (here.fields.n != req->output_field_ids.n || there->fields.n != req->output_field_ids.n) {
        return rk_fail(ctx->err, RK_EINTERNAL, "a fetch answered %zu and %zu fields for %zu asked",
                       here.fields.n, there->fields.n, req->output_field_ids.n);
    }
    out->fields.data =
        RK_ARENA_ARRAY(ctx->arena, pb_schema_FieldData *, req->output_field_ids.n + 1);
    if (!out->fields.data) {
        return rk__sn_no_memory(ctx->err);
    }
    for (size_t f = 0; f < req->output_field_ids.n; f++) {
        pb_schema_FieldData *both[2] = {here.fields.data[f], there->fields.data[f]};
        const rk_field *field = rk_schema_by_id(s->schema, req->output_field_ids.data[f]);
        if (!field ||
            rk_field_data_merge(&out->fields.data[f], field, both, picks, n, ctx->arena) != RK_OK) {
            return rk__sn_no_memory(ctx->err);
        }
    }
    out->fields.n = req->output_field_ids.n;
    return RK_OK;
}

/* Growing and sealed parts, merged, then fetched. */
static rk_code
search_both(rk__sn_collection *c, const snapshot *s, const pb_rk_SearchRequest *req,
            pb_rk_SearchResponse *out, rk_ctx *ctx)
{
    pb_rk_SearchRequest sealed_request = *req;
    pb_rk_SearchResponse *parts[2] = {NULL, NULL};
    rk_search_plan *plan = NULL;
    size_t parts_len = 0;
    rk_stop stop;

    RK_RET(rk_search_plan_new(&plan, req, s->schema, ctx->arena, ctx->err));
    rk_ctx_stop(&stop, ctx);
    rk_search_plan_stop(plan, &stop);
    parts[0] = RK_ARENA_NEW(ctx->arena, pb_rk_SearchResponse);
    if (!parts[0]) {
        return rk__sn_no_memory(ctx->err);
    }
    RK_RET(rk_search_run(plan, s->growing, s->growing_len, s->scope.read_ts, parts[parts_len++],
                         ctx->arena, ctx->err));
    if (s->scope.segment_ids.n > 0) {
        pb_rk_ReadScope scope = s->scope;
        sealed_request.scope = &scope;
        sealed_request.output_field_ids.n = 0;
        sealed_request.offset = 0;
        RK_RET(pb_rk_QueryNode_Search(c->node->options.query_node, &sealed_request,
                                      &parts[parts_len++], ctx));
    }
    RK_RET(rk_search_merge(plan, parts, parts_len, req->offset, out, ctx->arena, ctx->err));
    out->rows_scanned = parts[0]->rows_scanned + (parts[1] ? parts[1]->rows_scanned : 0);
    return req->output_field_ids.n > 0 && out->rows.n > 0 ? fetch_fields(c, s, req, out, ctx)
                                                          : RK_OK;
}

static rk_code
search_once(rk__sn_collection *c, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_SearchRequest *req = request;
    pb_rk_SearchResponse *out = response;
    snapshot s;
    rk_code code;

    RK_RET(snapshot_take(&s, c, req->scope, ctx));
    if (s.growing_len == 0 && s.scope.segment_ids.n > 0) { /* one part: it may do all of it */
        pb_rk_SearchRequest whole = *req;
        pb_rk_SearchResponse *answer = NULL;
        whole.scope = &s.scope;
        code = pb_rk_QueryNode_Search(c->node->options.query_node, &whole, &answer, ctx);
        if (code == RK_OK) {
            *out = *answer;
        }
    } else {
        code = search_both(c, &s, req, out, ctx);
    }
    out->read_ts = s.scope.read_ts;
    snapshot_drop(&s);
    return code;
}

rk_code
rk__sn_search(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_SearchRequest *req = request;
    rk__sn_collection *c;
    rk_code code;

    if (!req->scope) {
        return rk_fail(ctx->err, RK_EINTERNAL, "a search came without its scope");
    }
    c = rk__sn_find(self, req->scope->collection_id);
    if (!c) {
        return rk__sn_not_found(req->scope->collection_id, ctx->err);
    }
    code = with_retries(c, request, response, sizeof(pb_rk_SearchResponse), ctx, search_once);
    rk__sn_unref(c);
    return code;
}

/* ---- query ---- */

static rk_code
query_once(rk__sn_collection *c, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_QueryRequest *req = request;
    pb_rk_QueryResponse *out = response;
    pb_rk_QueryResponse *parts[2] = {NULL, NULL};
    rk_query_plan *plan = NULL;
    size_t parts_len = 0;
    snapshot s;
    rk_stop stop;
    rk_code code = RK_OK;

    RK_RET(snapshot_take(&s, c, req->scope, ctx));
    RK_ERR(rk_query_plan_new(&plan, req, s.schema, ctx->arena, ctx->err));
    rk_ctx_stop(&stop, ctx);
    rk_query_plan_stop(plan, &stop);
    if (rk_query_plan_is_unbounded(plan)) {
        code = rk_fail_tail(ctx->err, RK_EINVAL, "empty expression should be used with limit");
        goto out;
    }
    parts[0] = RK_ARENA_NEW(ctx->arena, pb_rk_QueryResponse);
    if (!parts[0]) {
        code = rk__sn_no_memory(ctx->err);
        goto out;
    }
    RK_ERR(rk_query_run(plan, s.growing, s.growing_len, s.scope.read_ts, parts[parts_len++],
                        ctx->arena, ctx->err));
    if (s.scope.segment_ids.n > 0) {
        pb_rk_QueryRequest sealed_request = *req;
        sealed_request.scope = &s.scope;
        RK_ERR(pb_rk_QueryNode_Query(c->node->options.query_node, &sealed_request,
                                     &parts[parts_len++], ctx));
    }
    RK_ERR(rk_query_merge(plan, parts, parts_len, out, ctx->arena, ctx->err));
    out->read_ts = s.scope.read_ts;
out:
    snapshot_drop(&s);
    return code;
}

rk_code
rk__sn_query(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_QueryRequest *req = request;
    rk__sn_collection *c;
    rk_code code;

    if (!req->scope) {
        return rk_fail(ctx->err, RK_EINTERNAL, "a query came without its scope");
    }
    c = rk__sn_find(self, req->scope->collection_id);
    if (!c) {
        return rk__sn_not_found(req->scope->collection_id, ctx->err);
    }
    code = with_retries(c, request, response, sizeof(pb_rk_QueryResponse), ctx, query_once);
    rk__sn_unref(c);
    return code;
}
