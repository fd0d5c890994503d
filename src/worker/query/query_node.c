/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query node: holds sealed segments and answers searches, queries and fetches over the ones it is
 * asked for.
 *
 * It decides nothing: which segments it holds is the coordinator's business, which of them a read
 * uses the delegator's. The table of segments is a sorted array under a readers-writer lock, held
 * only to look up and take references; all work happens on references, so a release never waits for
 * a read, nor a read for a load.
 *
 * Threads: every function is called on pool threads, any number at once. Lock: `table` (no other
 * lock is taken under it).
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "worker/query/query_private.h"

#define CACHE_SHARE 16u /* of the memory limit at most, for kept filters */

/* Position of |id|, or where it would be inserted. Caller holds table. */
static size_t
find_position(const rk_query_node *node, int64_t id)
{
    size_t low = 0;
    size_t high = node->segments_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (node->segments[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* A reference to segment |id|, or NULL. Caller holds table. */
static rk_segment *
ref_segment_locked(const rk_query_node *node, int64_t id)
{
    size_t at = find_position(node, id);

    if (at < node->segments_len && node->segments[at].id == id) {
        return rk_segment_ref(node->segments[at].segment);
    }
    return NULL;
}

static rk__held_schema *
find_schema_locked(const rk_query_node *node, int64_t collection_id)
{
    for (size_t i = 0; i < node->schemas_len; i++) {
        if (node->schemas[i].collection_id == collection_id) {
            return &node->schemas[i];
        }
    }
    return NULL;
}

static bool
grow(void **array, size_t *cap, size_t len, size_t element_bytes)
{
    size_t want = *cap ? *cap * 2 : 16;
    size_t bytes;

    if (len < *cap) {
        return true;
    }
    if (!rk_mul_ok(&bytes, want, element_bytes)) {
        return false;
    }
    void *bigger = rk_realloc(*array, bytes);
    if (!bigger) {
        return false;
    }
    *array = bigger;
    *cap = want;
    return true;
}

static rk_code
no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM, "query node: memory is out");
}

/* ---- loading and releasing ---- */

/* A reference to the schema of |collection|, made on first sight or when its version rose. */
static rk_code
take_schema(rk_query_node *node, const pb_rk_CollectionInfo *collection, rk_schema **out,
            rk_err *err)
{
    rk_schema *fresh = NULL;
    rk__held_schema *held;

    *out = NULL;
    rk_rwlock_read(&node->table);
    held = find_schema_locked(node, collection->id);
    if (held && held->schema->version >= collection->schema_version) {
        *out = rk_schema_ref(held->schema);
    }
    rk_rwlock_unlock(&node->table);
    if (*out) {
        return RK_OK;
    }
    if (!collection->schema) {
        return rk_fail(err, RK_EINTERNAL, "load of collection %lld came without its schema",
                       (long long)collection->id);
    }
    RK_RET(rk_schema_new(&fresh, collection->schema, collection->schema_version, err));
    rk_rwlock_write(&node->table);
    held = find_schema_locked(node, collection->id);
    if (held && held->schema->version < fresh->version) {
        rk_schema_unref(held->schema);
        held->schema = rk_schema_ref(fresh);
    } else if (!held) {
        if (!grow((void **)&node->schemas, &node->schemas_cap, node->schemas_len,
                  sizeof(*node->schemas))) {
            rk_rwlock_unlock(&node->table);
            rk_schema_unref(fresh);
            return no_memory(err);
        }
        node->schemas[node->schemas_len++] =
            (rk__held_schema){collection->id, rk_schema_ref(fresh)};
    }
    rk_rwlock_unlock(&node->table);
    *out = fresh;
    return RK_OK;
}

static bool
lists_index_of(const pb_rk_SegmentInfo *info, int64_t field_id)
{
    for (size_t i = 0; i < info->indexes.n; i++) {
        if (info->indexes.data[i]->field_id == field_id) {
            return true;
        }
    }
    return false;
}

static rk_code
report_damaged(pb_rk_LoadSegmentsResponse *response, pb_rk_IndexFile *file, rk_ctx *ctx)
{
    pb_rk_IndexFile **files =
        RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexFile *, response->damaged.n + 1);

    if (!files) {
        return no_memory(ctx->err);
    }
    if (response->damaged.n) {
        memcpy(files, response->damaged.data, response->damaged.n * sizeof(*files));
    }
    files[response->damaged.n++] = file;
    response->damaged.data = files;
    return RK_OK;
}

/* Takes in index files that |seg| does not have yet, drops indexes that |info| no longer lists. */
static rk_code
sync_indexes(rk_query_node *node, rk_segment *seg, const pb_rk_SegmentInfo *info,
             pb_rk_LoadSegmentsResponse *response, rk_ctx *ctx)
{
    const rk_segment_env env = {.objects = node->options.objects, .mem = node->options.mem};
    const rk_schema *schema = rk_segment_schema(seg);

    for (size_t i = 0; i < info->indexes.n; i++) {
        pb_rk_IndexFile *file = info->indexes.data[i];
        rk_code code;
        if (rk_segment_has_index(seg, file->field_id)) {
            continue;
        }
        code = rk_segment_set_index(seg, file, &env, ctx->err);
        if (code == RK_ECORRUPT || code == RK_EKEY_NOT_FOUND) {
            RK_LOG_E("query", "event=index_damaged segment=%lld object=%.*s error=\"%s\"",
                     (long long)info->id, RK_STR_ARG(file->object), ctx->err->text);
            rk_metric_add(RK_METRIC_DAMAGED_FILES, 1, "index");
            rk_err_clear(ctx->err);
            RK_RET(report_damaged(response, file, ctx));
            continue;
        }
        RK_RET(code);
    }
    for (size_t i = 0; i < schema->fields_len; i++) {
        int64_t id = schema->fields[i].id;
        if (rk_type_is_vector(schema->fields[i].type) && !lists_index_of(info, id)) {
            rk_segment_drop_index(seg, id);
        }
    }
    return RK_OK;
}

static rk_code
insert_segment(rk_query_node *node, const pb_rk_SegmentInfo *info, rk_segment *seg, rk_err *err)
{
    char *channel = rk_strdup(info->channel);
    rk_code code = RK_OK;
    size_t at;

    if (!channel) {
        return no_memory(err);
    }
    rk_rwlock_write(&node->table);
    at = find_position(node, info->id);
    if (at < node->segments_len && node->segments[at].id == info->id) {
        code = RK_EEXISTS; /* loaded by somebody else meanwhile: theirs stays */
    } else if (!grow((void **)&node->segments, &node->segments_cap, node->segments_len,
                     sizeof(*node->segments))) {
        code = no_memory(err);
    } else {
        memmove(&node->segments[at + 1], &node->segments[at],
                (node->segments_len - at) * sizeof(*node->segments));
        node->segments[at] =
            (rk__held_segment){info->id, info->collection_id, channel, rk_segment_ref(seg)};
        node->segments_len++;
    }
    rk_rwlock_unlock(&node->table);
    if (code != RK_OK) {
        rk_free(channel);
    }
    return code == RK_EEXISTS ? RK_OK : code;
}

static rk_code
load_one(rk_query_node *node, rk_schema *schema, const pb_rk_SegmentInfo *info,
         pb_rk_LoadSegmentsResponse *response, rk_ctx *ctx)
{
    const rk_segment_env env = {.objects = node->options.objects, .mem = node->options.mem};
    pb_rk_SegmentInfo bare = *info;
    rk_segment *seg;
    bool damaged = false;
    rk_code code = RK_OK;

    rk_rwlock_read(&node->table);
    seg = ref_segment_locked(node, info->id);
    rk_rwlock_unlock(&node->table);
    if (!seg) {
        bare.indexes.n = 0; /* indexes one by one below, so that a damaged one can be named */
        RK_ERR(rk_segment_open(&seg, &bare, schema, &env, &damaged, ctx->err));
        RK_ERR(sync_indexes(node, seg, info, response, ctx));
        RK_ERR(insert_segment(node, info, seg, ctx->err));
    } else {
        RK_ERR(sync_indexes(node, seg, info, response, ctx));
    }
    rk__qn_verify_later(node, seg);
out:
    rk_segment_unref(seg);
    return code;
}

static rk_code
load_segments(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_LoadSegmentsRequest *req = request;
    rk_schema *schema = NULL;
    rk_code code = RK_OK;

    if (!req->collection) {
        return rk_fail(ctx->err, RK_EINTERNAL, "load of segments came without its collection");
    }
    RK_RET(take_schema(node, req->collection, &schema, ctx->err));
    for (size_t i = 0; i < req->segments.n && code == RK_OK; i++) {
        code = load_one(node, schema, req->segments.data[i], response, ctx);
    }
    rk_schema_unref(schema);
    return code;
}

static bool
contains_id(const pb_i64s *ids, int64_t id)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->data[i] == id) {
            return true;
        }
    }
    return false;
}

static rk_code
release_segments(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_ReleaseSegmentsRequest *req = request;
    pb_i64s wanted = {req->segment_ids.data, req->segment_ids.n};
    rk__held_segment *gone = NULL;
    size_t gone_len = 0;
    size_t kept = 0;

    RK_UNUSED(response);
    rk_rwlock_write(&node->table);
    gone = RK_ARENA_ARRAY(ctx->arena, rk__held_segment, node->segments_len + 1);
    if (!gone) {
        rk_rwlock_unlock(&node->table);
        return no_memory(ctx->err);
    }
    for (size_t i = 0; i < node->segments_len; i++) {
        rk__held_segment *held = &node->segments[i];
        if (held->collection_id == req->collection_id &&
            (wanted.n == 0 || contains_id(&wanted, held->id))) {
            gone[gone_len++] = *held;
        } else {
            node->segments[kept++] = *held;
        }
    }
    node->segments_len = kept;
    for (size_t i = 0; wanted.n == 0 && i < node->schemas_len; i++) {
        if (node->schemas[i].collection_id == req->collection_id) {
            rk_schema_unref(node->schemas[i].schema);
            node->schemas[i] = node->schemas[--node->schemas_len];
            break;
        }
    }
    rk_rwlock_unlock(&node->table);
    for (size_t i = 0; i < gone_len; i++) {
        rk_filter_cache_drop(node->filters, gone[i].id);
        rk_segment_unref(gone[i].segment);
        rk_free(gone[i].channel);
    }
    return RK_OK;
}

/* ---- deletes ---- */

/* References to the segments |ids| names (none named: all of the channel). RK_ESEGMENT_NOT_LOADED
 * when one is not here. */
static rk_code
take_segments(rk_query_node *node, int64_t collection_id, const pb_i64s *ids, rk_str channel,
              rk_segment ***out, size_t *n, rk_ctx *ctx)
{
    rk_segment **segs;
    rk_code code = RK_OK;

    *n = 0;
    *out = NULL;
    rk_rwlock_read(&node->table);
    segs = RK_ARENA_ARRAY(ctx->arena, rk_segment *, (ids->n ? ids->n : node->segments_len) + 1);
    if (!segs) {
        code = no_memory(ctx->err);
    } else if (ids->n) {
        for (size_t i = 0; i < ids->n && code == RK_OK; i++) {
            rk_segment *seg = ref_segment_locked(node, ids->data[i]);
            if (seg) {
                segs[(*n)++] = seg;
            } else {
                code = rk_fail(ctx->err, RK_ESEGMENT_NOT_LOADED, "segment not loaded[segment=%lld]",
                               (long long)ids->data[i]);
            }
        }
    } else {
        for (size_t i = 0; i < node->segments_len; i++) {
            const rk__held_segment *held = &node->segments[i];
            if (held->collection_id == collection_id && rk_str_is(channel, held->channel)) {
                segs[(*n)++] = rk_segment_ref(held->segment);
            }
        }
    }
    rk_rwlock_unlock(&node->table);
    if (code != RK_OK) {
        while (*n > 0) {
            rk_segment_unref(segs[--*n]);
        }
        return code;
    }
    *out = segs;
    return RK_OK;
}

static void
drop_segments(rk_segment **segs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rk_segment_unref(segs[i]);
    }
}

static rk_code
delete_in_all(rk_segment **segs, size_t n, const pb_schema_IDs *keys, const uint64_t *ts,
              size_t keys_len, rk_err *err)
{
    for (size_t i = 0; i < n; i++) {
        size_t hits;
        RK_RET(rk_segment_delete(segs[i], keys, ts, keys_len, &hits, err));
    }
    return RK_OK;
}

static rk_code
apply_deletes(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_ApplyDeletesRequest *req = request;
    pb_i64s ids = {req->segment_ids.data, req->segment_ids.n};
    rk_segment **segs = NULL;
    size_t n = 0;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    RK_RET(take_segments(node, req->collection_id, &ids, req->channel, &segs, &n, ctx));
    for (size_t i = 0; i < req->deltas.n && n > 0; i++) {
        const pb_rk_DeltaFile *delta = req->deltas.data[i];
        pb_schema_IDs *keys = NULL;
        uint64_t *ts = NULL;
        size_t keys_len = 0;
        char *object = rk_strdup(delta->object);
        if (!object) {
            code = no_memory(ctx->err);
            goto out;
        }
        code = rk_delta_read(object, &keys, &ts, &keys_len, node->options.objects, ctx->arena,
                             ctx->err);
        rk_free(object);
        RK_ERR(code);
        RK_ERR(delete_in_all(segs, n, keys, ts, keys_len, ctx->err));
    }
    if (req->keys && rk_ids_len(req->keys) > 0) {
        if (req->timestamps.n != rk_ids_len(req->keys)) {
            code = rk_fail(ctx->err, RK_EINTERNAL, "deletes came with %zu keys but %zu timestamps",
                           rk_ids_len(req->keys), req->timestamps.n);
            goto out;
        }
        RK_ERR(
            delete_in_all(segs, n, req->keys, req->timestamps.data, req->timestamps.n, ctx->err));
    }
out:
    drop_segments(segs, n);
    return code;
}

/* ---- reading ---- */

static rk_code
schema_of(rk_query_node *node, int64_t collection_id, rk_schema **out, rk_err *err)
{
    rk__held_schema *held;

    *out = NULL;
    rk_rwlock_read(&node->table);
    held = find_schema_locked(node, collection_id);
    if (held) {
        *out = rk_schema_ref(held->schema);
    }
    rk_rwlock_unlock(&node->table);
    if (!*out) {
        return rk_fail(err, RK_ESEGMENT_NOT_LOADED, "no segment of collection %lld is loaded here",
                       (long long)collection_id);
    }
    return RK_OK;
}

/* What a read holds while it runs. */
typedef struct read_set {
    rk_schema *schema;
    rk_segment **segs;
    size_t n;
} read_set;

static rk_code
read_set_take(read_set *set, rk_query_node *node, const pb_rk_ReadScope *scope, rk_ctx *ctx)
{
    *set = (read_set){0};
    if (!scope || scope->segment_ids.n == 0 || scope->read_ts == 0) {
        return rk_fail(ctx->err, RK_EINTERNAL,
                       "a read reached the query node without segments or snapshot");
    }
    pb_i64s ids = {scope->segment_ids.data, scope->segment_ids.n};
    RK_RET(schema_of(node, scope->collection_id, &set->schema, ctx->err));
    return take_segments(node, scope->collection_id, &ids, (rk_str){NULL, 0}, &set->segs, &set->n,
                         ctx);
}

static void
read_set_drop(read_set *set)
{
    drop_segments(set->segs, set->n);
    rk_schema_unref(set->schema);
}

/* Output fields of the hits of |out|, while the segments are still held. */
static rk_code
fetch_hits(const pb_rk_SearchRequest *req, read_set *set, pb_rk_SearchResponse *out, rk_ctx *ctx)
{
    pb_rk_FetchRequest fetch = {.collection_id = req->scope->collection_id};
    pb_rk_FetchResponse fetched = {0};

    fetch.segment_ids.data = out->segment_ids.data;
    fetch.segment_ids.n = out->segment_ids.n;
    fetch.rows.data = out->rows.data;
    fetch.rows.n = out->rows.n;
    fetch.output_field_ids.data = req->output_field_ids.data;
    fetch.output_field_ids.n = req->output_field_ids.n;
    RK_RET(rk_fetch_run(&fetch, set->schema, set->segs, set->n, &fetched, ctx->arena, ctx->err));
    out->fields.data = fetched.fields.data;
    out->fields.n = fetched.fields.n;
    return RK_OK;
}

static rk_code
search(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_SearchRequest *req = request;
    pb_rk_SearchResponse *out = response;
    pb_rk_SearchResponse *whole = RK_ARENA_NEW(ctx->arena, pb_rk_SearchResponse);
    rk_search_plan *plan = NULL;
    read_set set = {0};
    rk_stop stop;
    rk_code code = RK_OK;

    if (!whole) {
        return no_memory(ctx->err);
    }
    RK_ERR(read_set_take(&set, self, req->scope, ctx));
    RK_ERR(rk_search_plan_new(&plan, req, set.schema, ctx->arena, ctx->err));
    rk_search_plan_use(plan, node->filters);
    rk_ctx_stop(&stop, ctx);
    rk_search_plan_stop(plan, &stop);
    RK_ERR(rk_search_run(plan, set.segs, set.n, req->scope->read_ts, whole, ctx->arena, ctx->err));
    for (size_t i = 0; i < set.n; i++) {
        rk__qn_heal_later(self, set.segs[i]);
    }
    if (req->offset > 0) {
        RK_ERR(rk_search_merge(plan, &whole, 1, req->offset, out, ctx->arena, ctx->err));
    } else {
        *out = *whole;
    }
    if (req->output_field_ids.n > 0) {
        RK_ERR(fetch_hits(req, &set, out, ctx));
    }
    out->read_ts = req->scope->read_ts;
out:
    read_set_drop(&set);
    return rk_ctx_stopped(ctx, code);
}

static rk_code
query(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_QueryRequest *req = request;
    pb_rk_QueryResponse *out = response;
    rk_query_plan *plan = NULL;
    read_set set = {0};
    rk_stop stop;
    rk_code code = RK_OK;

    RK_ERR(read_set_take(&set, self, req->scope, ctx));
    RK_ERR(rk_query_plan_new(&plan, req, set.schema, ctx->arena, ctx->err));
    rk_query_plan_use(plan, node->filters);
    rk_ctx_stop(&stop, ctx);
    rk_query_plan_stop(plan, &stop);
    RK_ERR(rk_query_run(plan, set.segs, set.n, req->scope->read_ts, out, ctx->arena, ctx->err));
    out->read_ts = req->scope->read_ts;
out:
    read_set_drop(&set);
    return rk_ctx_stopped(ctx, code);
}

static rk_code
fetch(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_FetchRequest *req = request;
    pb_i64s distinct = {0};
    rk_schema *schema = NULL;
    rk_segment **segs = NULL;
    size_t n = 0;
    rk_code code = RK_OK;

    distinct.data = RK_ARENA_ARRAY(ctx->arena, int64_t, req->segment_ids.n + 1);
    if (!distinct.data) {
        return no_memory(ctx->err);
    }
    for (size_t i = 0; i < req->segment_ids.n; i++) {
        if (!contains_id(&distinct, req->segment_ids.data[i])) {
            distinct.data[distinct.n++] = req->segment_ids.data[i];
        }
    }
    if (distinct.n == 0) {
        return RK_OK;
    }
    RK_ERR(schema_of(node, req->collection_id, &schema, ctx->err));
    RK_ERR(take_segments(node, req->collection_id, &distinct, (rk_str){NULL, 0}, &segs, &n, ctx));
    RK_ERR(rk_fetch_run(req, schema, segs, n, response, ctx->arena, ctx->err));
out:
    drop_segments(segs, n);
    rk_schema_unref(schema);
    return code;
}

static rk_code
get_segments(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_query_node *node = self;
    const pb_rk_CollectionId *req = request;
    pb_rk_QuerySegmentsResponse *out = response;
    rk_code code = RK_OK;

    rk_rwlock_read(&node->table);
    size_t cap = node->segments_len + 1;
    out->segment_ids.data = RK_ARENA_ARRAY(ctx->arena, int64_t, cap);
    out->rows_deleted.data = RK_ARENA_ARRAY(ctx->arena, int64_t, cap);
    out->memory_bytes.data = RK_ARENA_ARRAY(ctx->arena, uint64_t, cap);
    if (!out->segment_ids.data || !out->rows_deleted.data || !out->memory_bytes.data) {
        code = no_memory(ctx->err);
    }
    for (size_t i = 0; i < node->segments_len && code == RK_OK; i++) {
        rk_segment_stats stats;
        if (req->collection_id != 0 && node->segments[i].collection_id != req->collection_id) {
            continue;
        }
        rk_segment_get_stats(node->segments[i].segment, &stats);
        out->segment_ids.data[out->segment_ids.n++] = node->segments[i].id;
        out->rows_deleted.data[out->rows_deleted.n++] = (int64_t)stats.rows_deleted;
        out->memory_bytes.data[out->memory_bytes.n++] = stats.bytes;
    }
    rk_rwlock_unlock(&node->table);
    return code;
}

/* ---- life ---- */

static const rk_method_fn METHODS[PB_RK_QueryNode_METHODS] = {
    [PB_RK_QueryNode_LoadSegments] = load_segments,
    [PB_RK_QueryNode_ReleaseSegments] = release_segments,
    [PB_RK_QueryNode_ApplyDeletes] = apply_deletes,
    [PB_RK_QueryNode_Search] = search,
    [PB_RK_QueryNode_Query] = query,
    [PB_RK_QueryNode_Fetch] = fetch,
    [PB_RK_QueryNode_GetSegments] = get_segments,
};

static rk_code
make_cache(rk_query_node *node, rk_err *err)
{
    const rk_config *config = node->options.config;
    uint64_t limit = (uint64_t)rk_config_i64(config, RK_CFG_FILTER_CACHE_BYTES);
    uint64_t most = rk_mem_limit(node->options.mem) / CACHE_SHARE;

    if (!rk_config_bool(config, RK_CFG_FILTER_CACHE)) {
        return RK_OK;
    }
    return rk_filter_cache_new(&node->filters, most > 0 ? RK_MIN(limit, most) : limit,
                               node->options.mem, err);
}

rk_code
rk_query_node_new(rk_query_node **out, const rk_worker_options *options, rk_err *err)
{
    rk_query_node *node = rk_alloc_zero(1, sizeof(*node));
    rk_code code = RK_OK;

    *out = NULL;
    if (!node) {
        return no_memory(err);
    }
    node->options = *options;
    atomic_init(&node->coordinator, NULL);
    atomic_init(&node->stopping, false);
    rk_rwlock_init(&node->table);
    RK_ERR(make_cache(node, err));
    RK_ERR(rk_service_near(&node->service, &pb_rk_QueryNode_service, METHODS, node));
    *out = node;
    node = NULL;
out:
    rk_query_node_free(node);
    return code;
}

rk_service *
rk_query_node_service(rk_query_node *node)
{
    return node->service;
}

void
rk_query_node_set_coordinator(rk_query_node *node, rk_service *coordinator)
{
    atomic_store(&node->coordinator, coordinator);
}

void
rk_query_node_stop(rk_query_node *node)
{
    atomic_store(&node->stopping, true);
}

void
rk_query_node_free(rk_query_node *node)
{
    if (!node) {
        return;
    }
    rk_service_free(node->service);
    for (size_t i = 0; i < node->segments_len; i++) {
        rk_segment_unref(node->segments[i].segment);
        rk_free(node->segments[i].channel);
    }
    for (size_t i = 0; i < node->schemas_len; i++) {
        rk_schema_unref(node->schemas[i].schema);
    }
    rk_filter_cache_free(node->filters);
    rk_free(node->segments);
    rk_free(node->schemas);
    rk_rwlock_deinit(&node->table);
    rk_free(node);
}
