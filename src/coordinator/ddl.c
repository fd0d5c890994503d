/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections: create, drop, describe, list.
 *
 * A collection exists from the moment its record is in the meta store, and is gone when the record
 * has become a drop record, in one transaction each. What follows a drop (the streaming node
 * forgets it, files go) is the job thread's work and is taken up again after a restart.
 */
#include "coordinator/coordinator_private.h"

#define FIELD_ID_FIRST 100
#define DYNAMIC_FIELD  "$meta"
#define SHARDS_MAX     16

/* ---- create ---- */

/* Gives fields their ids, and a dynamic collection its $meta field. |schema| is our own copy. */
static rk_code
number_fields(pb_schema_CollectionSchema *schema, rk_arena *arena)
{
    bool has_dynamic = false;
    int64_t next = FIELD_ID_FIRST;

    for (size_t i = 0; i < schema->fields.n; i++) {
        schema->fields.data[i]->fieldID = next++;
        has_dynamic = has_dynamic || schema->fields.data[i]->is_dynamic;
    }
    if (schema->enable_dynamic_field && !has_dynamic) {
        pb_schema_FieldSchema *field = RK_ARENA_NEW(arena, pb_schema_FieldSchema);
        pb_schema_FieldSchema **fields =
            RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, schema->fields.n + 1);
        if (!field || !fields) {
            return RK_ENOMEM;
        }
        field->fieldID = next;
        field->name = RK_STR(DYNAMIC_FIELD);
        field->description = RK_STR("dynamic schema");
        field->data_type = PB_SCHEMA_DataType_JSON;
        field->is_dynamic = true;
        if (schema->fields.n) {
            memcpy(fields, schema->fields.data, schema->fields.n * sizeof(*fields));
        }
        fields[schema->fields.n++] = field;
        schema->fields.data = fields;
    }
    return RK_OK;
}

static bool
same_message(const pb_message_desc *desc, const void *a, const void *b, rk_arena *arena)
{
    rk_str x = {NULL, 0};
    rk_str y = {NULL, 0};

    return pb_encode_arena(desc, a, &x, arena) == RK_OK &&
           pb_encode_arena(desc, b, &y, arena) == RK_OK && rk_str_eq(x, y);
}

/* The same request again is no error; another one under the same name is. */
static rk_code
answer_existing(const pb_rk_CollectionInfo *have, const pb_rk_CollectionInfo *want,
                pb_rk_CollectionInfo *out, rk_ctx *ctx)
{
    void *copy = NULL;
    bool same =
        same_message(&pb_schema_CollectionSchema_desc, have->schema, want->schema, ctx->arena) &&
        have->shards == want->shards && have->consistency_level == want->consistency_level &&
        have->properties.n == want->properties.n;

    for (size_t i = 0; same && i < have->properties.n; i++) {
        same = rk_str_eq(have->properties.data[i]->key, want->properties.data[i]->key) &&
               rk_str_eq(have->properties.data[i]->value, want->properties.data[i]->value);
    }
    if (!same) {
        return rk_fail_tail(
            ctx->err, RK_EINVAL,
            "create duplicate collection with different parameters, collection: %.*s",
            RK_STR_ARG(want->name));
    }
    if (pb_copy(&pb_rk_CollectionInfo_desc, &copy, have, ctx->arena) != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    *out = *(pb_rk_CollectionInfo *)copy;
    return RK_OK;
}

static rk_code
fill_channels(pb_rk_CollectionInfo *info, rk_arena *arena)
{
    info->channels.data = RK_ARENA_ARRAY(arena, rk_str, (size_t)info->shards);
    if (!info->channels.data) {
        return RK_ENOMEM;
    }
    for (int32_t i = 0; i < info->shards; i++) {
        rk_str name =
            rk_arena_printf(arena, "by-dev-rootcoord-dml_%d_%lldv%d", i, (long long)info->id, i);
        if (!name.data) {
            return RK_ENOMEM;
        }
        info->channels.data[info->channels.n++] = name;
    }
    return RK_OK;
}

static rk_code
fill_partition(pb_rk_CollectionInfo *info, int64_t id, rk_arena *arena)
{
    pb_rk_PartitionInfo *partition = RK_ARENA_NEW(arena, pb_rk_PartitionInfo);

    info->partitions.data = RK_ARENA_ARRAY(arena, pb_rk_PartitionInfo *, 1);
    if (!partition || !info->partitions.data) {
        return RK_ENOMEM;
    }
    partition->id = id;
    partition->name = RK_STR("_default");
    partition->created_ts = info->created_ts;
    info->partitions.data[info->partitions.n++] = partition;
    return RK_OK;
}

/* The record of the new collection, in ctx->arena. */
static rk_code
compose(rk_coordinator *co, const pb_rk_CreateCollectionRequest *req, pb_rk_CollectionInfo *info,
        rk_ctx *ctx)
{
    void *schema = NULL;
    uint64_t ids;

    if (!req->schema || req->schema->fields.n == 0) {
        return rk_fail_tail(ctx->err, RK_EINVAL, "a collection needs a schema with fields");
    }
    RK_RET(rk__co_time_alloc(co, 2, &ids, ctx->err));
    if (pb_copy(&pb_schema_CollectionSchema_desc, &schema, req->schema, ctx->arena) != RK_OK ||
        number_fields(schema, ctx->arena) != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    info->id = (int64_t)ids;
    info->schema = schema;
    info->name = info->schema->name;
    info->db_name = req->db_name.len ? req->db_name : RK_STR("default");
    info->schema->dbName = info->db_name;
    info->shards = RK_MIN(RK_MAX(req->shards, 1), SHARDS_MAX);
    info->consistency_level = req->consistency_level;
    info->properties = req->properties;
    info->created_ts = ids;
    info->updated_ts = ids;
    if (fill_channels(info, ctx->arena) != RK_OK ||
        fill_partition(info, (int64_t)ids + 1, ctx->arena) != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    return RK_OK;
}

/* The record and its channels in one transaction. */
static rk_code
persist_new(rk_coordinator *co, const pb_rk_CollectionInfo *info, rk_ctx *ctx)
{
    rk_meta_op *ops = RK_ARENA_ARRAY(ctx->arena, rk_meta_op, info->channels.n + 1);
    size_t n = 0;

    if (!ops || rk__co_put(&ops[n++], rk__co_key(ctx->arena, "coll", info->id, 0),
                           &pb_rk_CollectionInfo_desc, info, ctx->arena) != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; i < info->channels.n; i++) {
        const pb_rk_ChannelInfo channel = {.name = info->channels.data[i]};
        rk_str key = rk__co_channel_key(ctx->arena, info->id, channel.name);
        if (rk__co_put(&ops[n++], key, &pb_rk_ChannelInfo_desc, &channel, ctx->arena) != RK_OK) {
            return rk__co_no_memory(ctx->err);
        }
    }
    return rk__co_commit(co, ops, n, ctx->err);
}

static rk_code
collection_new(rk__co_collection **out, const pb_rk_CollectionInfo *info)
{
    rk__co_collection *c = rk_alloc_zero(1, sizeof(*c));

    *out = NULL;
    if (!c || !(c->channels = rk_alloc_zero(info->channels.n + 1, sizeof(*c->channels)))) {
        rk_free(c);
        return RK_ENOMEM;
    }
    c->id = info->id;
    for (size_t i = 0; i < info->channels.n; i++) {
        const pb_rk_ChannelInfo channel = {.name = info->channels.data[i]};
        if (rk__co_box_copy(&c->channels[i], &pb_rk_ChannelInfo_desc, &channel) != RK_OK) {
            rk__co_collection_free(c);
            return RK_ENOMEM;
        }
        c->channels_len++;
    }
    if (rk__co_box_copy(&c->box, &pb_rk_CollectionInfo_desc, info) != RK_OK) {
        rk__co_collection_free(c);
        return RK_ENOMEM;
    }
    *out = c;
    return RK_OK;
}

/* The streaming node must know the collection before anybody can write to it. */
static rk_code
open_on_streaming_node(rk_coordinator *co, pb_rk_CollectionInfo *info, rk_ctx *ctx)
{
    pb_rk_OpenCollectionRequest open = {.collection = info};
    pb_rk_Empty *answer = NULL;

    open.channels.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_ChannelInfo *, info->channels.n + 1);
    if (!open.channels.data) {
        return rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; i < info->channels.n; i++) {
        pb_rk_ChannelInfo *channel = RK_ARENA_NEW(ctx->arena, pb_rk_ChannelInfo);
        if (!channel) {
            return rk__co_no_memory(ctx->err);
        }
        channel->name = info->channels.data[i];
        open.channels.data[open.channels.n++] = channel;
    }
    return pb_rk_StreamingNode_OpenCollection(co->options.streaming_node, &open, &answer, ctx);
}

static void
close_on_streaming_node(rk_coordinator *co, int64_t id, rk_ctx *ctx)
{
    pb_rk_CollectionId request = {.collection_id = id};
    pb_rk_Empty *answer = NULL;
    rk_ctx quiet = *ctx;

    quiet.err = NULL; /* the caller has its error already */
    quiet.deadline_ns = INT64_MAX;
    if (pb_rk_StreamingNode_CloseCollection(co->options.streaming_node, &request, &answer,
                                            &quiet) != RK_OK) {
        RK_LOG_W("coordinator", "event=close_failed collection=%lld", (long long)id);
    }
}

rk_code
rk__co_create_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CreateCollectionRequest *req = request;
    pb_rk_CollectionInfo *info = response;
    rk__co_collection *fresh = NULL;
    const rk__co_collection *have;
    rk_code code = RK_OK;

    if (!rk__co_db_known(req->db_name)) {
        return rk_fail(ctx->err, RK_EDATABASE_NOT_FOUND, "database not found[database=%.*s]",
                       RK_STR_ARG(req->db_name));
    }
    RK_RET(compose(co, req, info, ctx));
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    have = rk__co_find_named(co, req->db_name, info->name);
    if (have) {
        const pb_rk_CollectionInfo wanted = *info;
        code = answer_existing(rk__co_info(have), &wanted, info, ctx);
    }
    rk_mutex_unlock(&co->lock);
    if (have) {
        goto out;
    }
    if (collection_new(&fresh, info) != RK_OK) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    rk_mutex_lock(&co->lock);
    code = rk__co_collection_reserve(co); /* before it is durable: then nothing may fail */
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    code = open_on_streaming_node(co, info, ctx);
    if (code == RK_OK) {
        code = persist_new(co, info, ctx);
    }
    if (code == RK_OK) {
        rk_mutex_lock(&co->lock);
        code = rk__co_collection_add(co, fresh);
        RK_ASSERT(code == RK_OK); /* reserved above; only ddl adds, and it is ours */
        fresh = NULL;
        rk_mutex_unlock(&co->lock);
        rk__co_bump(co);
    } else {
        close_on_streaming_node(co, info->id, ctx); /* it may be open, whatever the answer was */
    }
out:
    rk_mutex_unlock(&co->ddl);
    rk__co_collection_free(fresh);
    return code;
}

/* ---- drop ---- */

rk_code
rk__co_drop_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CollectionKey *req = request;
    rk__co_collection *c;
    rk_meta_op ops[3] = {0};
    rk_code code = RK_OK;

    RK_UNUSED(response);
    rk_mutex_lock(&co->ddl);
    rk_mutex_lock(&co->lock);
    c = req->name.len ? rk__co_find_named(co, req->db_name, req->name) : rk__co_find(co, req->id);
    if (!c || c->dropped) {
        code = rk__co_not_found(req, 0, ctx->err);
    } else if (rk__co_put(&ops[0], rk__co_key(ctx->arena, "drop", c->id, 0),
                          &pb_rk_CollectionInfo_desc, rk__co_info(c), ctx->arena) != RK_OK) {
        code = rk__co_no_memory(ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        goto out;
    }
    /* only ddl removes collections, and it is ours */
    ops[1] = (rk_meta_op){.kind = RK_META_DELETE, .key = rk__co_key(ctx->arena, "coll", c->id, 0)};
    ops[2] = (rk_meta_op){.kind = RK_META_DELETE, .key = rk__co_key(ctx->arena, "load", c->id, 0)};
    if (!ops[1].key.data || !ops[2].key.data) {
        code = rk__co_no_memory(ctx->err);
        goto out;
    }
    RK_ERR(rk__co_commit(co, ops, RK_COUNT(ops), ctx->err));
    rk_mutex_lock(&co->lock);
    rk__co_collection_unname(co, c);
    c->dropped = true;
    c->load_wanted = false;
    rk__co_wake(co);
    rk_mutex_unlock(&co->lock);
    rk__co_bump(co);
out:
    rk_mutex_unlock(&co->ddl);
    return code;
}

/* ---- reading ---- */

/* A copy of what the collection is now, its load state included. Caller holds lock. */
static rk_code
copy_info(const rk__co_collection *c, pb_rk_CollectionInfo *out, rk_arena *arena)
{
    void *copy = NULL;

    RK_RET(pb_copy(&pb_rk_CollectionInfo_desc, &copy, rk__co_info(c), arena));
    *out = *(pb_rk_CollectionInfo *)copy;
    out->load = RK_ARENA_NEW(arena, pb_rk_LoadState);
    if (!out->load) {
        return RK_ENOMEM;
    }
    rk__co_fill_load_state(c, out->load);
    out->load->fail_reason = rk_arena_str(arena, out->load->fail_reason);
    return RK_OK;
}

rk_code
rk__co_describe_collection(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_CollectionKey *req = request;
    const rk__co_collection *c;
    rk_code code = RK_OK;

    if (!rk__co_db_known(req->db_name)) {
        return rk_fail(ctx->err, RK_EDATABASE_NOT_FOUND, "database not found[database=%.*s]",
                       RK_STR_ARG(req->db_name));
    }
    rk_mutex_lock(&co->lock);
    c = req->name.len ? rk__co_find_named(co, req->db_name, req->name) : rk__co_find(co, req->id);
    if (!c || c->dropped) {
        code = rk__co_not_found(req, 0, ctx->err);
    } else if (copy_info(c, response, ctx->arena) != RK_OK) {
        code = rk__co_no_memory(ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    return code;
}

rk_code
rk__co_list_collections(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    const pb_rk_ListCollectionsRequest *req = request;
    pb_rk_ListCollectionsResponse *out = response;
    rk_code code = RK_OK;

    if (!rk__co_db_known(req->db_name)) {
        return rk_fail(ctx->err, RK_EDATABASE_NOT_FOUND, "database not found[database=%.*s]",
                       RK_STR_ARG(req->db_name));
    }
    rk_mutex_lock(&co->lock);
    out->collections.data =
        RK_ARENA_ARRAY(ctx->arena, pb_rk_CollectionInfo *, co->collections_len + 1);
    code = out->collections.data ? RK_OK : RK_ENOMEM;
    for (size_t i = 0; i < co->collections_len && code == RK_OK; i++) {
        pb_rk_CollectionInfo *info = NULL;
        if (co->collections[i]->dropped) {
            continue;
        }
        info = RK_ARENA_NEW(ctx->arena, pb_rk_CollectionInfo);
        code = info ? copy_info(co->collections[i], info, ctx->arena) : RK_ENOMEM;
        if (code == RK_OK) {
            out->collections.data[out->collections.n++] = info;
        }
    }
    rk_mutex_unlock(&co->lock);
    return code == RK_OK ? RK_OK : rk__co_no_memory(ctx->err);
}

rk_code
rk__co_catalog_revision(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    pb_rk_CatalogRevisionResponse *out = response;

    RK_UNUSED(request);
    RK_UNUSED(ctx);
    out->revision = atomic_load(&co->revision);
    return RK_OK;
}
