/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role tests: coordinator, streaming, query and data node together over real stores in a temporary
 * folder, driven through their services, once wired near and once far. What the access layer would
 * send is composed here by hand.
 */
/* clang-format off */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "coordinator/coordinator.h"
#include "index/index.h"
#include "model/column.h"
#include "proto/internal.service.h"
#include "worker/worker.h"

#define DIM 4

/* ---- one server without its access layer ---- */

typedef struct far_end {
    rk_pool *pool;
    rk_exports *exports;
    rk_rpc_server *server;
    rk_rpc_client *client;
    rk_service *service;
} far_end;

typedef struct roles {
    char path[64];
    bool far;
    rk_config *config;
    rk_meta *meta;
    rk_object_store *objects;
    rk_mem *mem;
    rk_pool *background;
    rk_query_node *query;
    rk_data_node *data;
    rk_streaming_node *streaming;
    rk_coordinator *coordinator;
    far_end ends[4];
    rk_service *co; /* as callers see them */
    rk_service *sn;
    rk_arena *arena;
    rk_err err;
    rk_ctx ctx;
} roles;

#define MUST(r, expr)                                                                              \
    do {                                                                                           \
        rk_code must_code_ = (expr);                                                               \
        if (must_code_ != RK_OK) {                                                                 \
            fail_msg("%s: code %d: %s", #expr, must_code_, (r)->err.text);                         \
        }                                                                                          \
    } while (0)

static rk_service *
wire(roles *r, size_t at, const pb_service_desc *desc, rk_service *near)
{
    const rk_pool_options pool = {.name = "role", .threads = 16, .queue_len_max = 1000};
    rk_rpc_server_options server;
    rk_rpc_client_options client;
    far_end *end = &r->ends[at];

    if (!r->far) {
        return near;
    }
    MUST(r, rk_pool_new(&end->pool, &pool));
    MUST(r, rk_exports_new(&end->exports, end->pool));
    MUST(r, rk_exports_add(end->exports, desc, near));
    rk_rpc_server_options_init(&server);
    server.listen = "127.0.0.1:0";
    server.on_grpc = rk_exports_on_grpc;
    server.user = end->exports;
    server.env = rk_env_real();
    MUST(r, rk_rpc_server_start(&end->server, &server, &r->err));
    rk_rpc_client_options_init(&client);
    client.address = rk_rpc_server_address(end->server);
    client.env = rk_env_real();
    MUST(r, rk_rpc_client_new(&end->client, &client, &r->err));
    MUST(r, rk_service_far(&end->service, desc, end->client));
    return end->service;
}

static void
unwire(far_end *end)
{
    if (!end->pool) {
        return;
    }
    rk_service_free(end->service);
    rk_rpc_client_free(end->client);
    rk_rpc_server_stop(end->server, 0);
    rk_pool_stop(end->pool);
    rk_rpc_server_free(end->server);
    rk_exports_free(end->exports);
    rk_pool_free(end->pool);
    *end = (far_end){0};
}

static char *
under(const roles *r, const char *name, char *out, size_t len)
{
    (void)snprintf(out, len, "%s/%s", r->path, name);
    return out;
}

static void
start(roles *r)
{
    const rk_pool_options background = {.name = "background", .threads = 2, .queue_len_max = 100};
    rk_worker_options worker;
    rk_coordinator_options brain;
    char path[128];

    r->err = (rk_err){0};
    r->config = rk_config_new();
    assert_non_null(r->config);
    MUST(r, rk_meta_open_sqlite(&r->meta, under(r, "meta.db", path, sizeof(path)), rk_env_real(),
                                &r->err));
    MUST(r, rk_object_open_dir(&r->objects, under(r, "objects", path, sizeof(path)), rk_env_real(),
                               &r->err));
    r->mem = rk_mem_new(NULL, "memory", UINT64_C(1) << 30);
    MUST(r, rk_pool_new(&r->background, &background));
    worker = (rk_worker_options){.env = rk_env_real(),
                                 .config = r->config,
                                 .mem = r->mem,
                                 .objects = r->objects,
                                 .background = r->background,
                                 .wal_path = under(r, "wal", path, sizeof(path))};
    MUST(r, rk_query_node_new(&r->query, &worker, &r->err));
    worker.query_node = wire(r, 0, &pb_rk_QueryNode_service, rk_query_node_service(r->query));
    MUST(r, rk_data_node_new(&r->data, &worker, &r->err));
    MUST(r, rk_streaming_node_new(&r->streaming, &worker, &r->err));
    r->sn = wire(r, 1, &pb_rk_StreamingNode_service, rk_streaming_node_service(r->streaming));
    brain = (rk_coordinator_options){.env = rk_env_real(),
                                     .config = r->config,
                                     .meta = r->meta,
                                     .objects = r->objects,
                                     .streaming_node = r->sn,
                                     .query_node = worker.query_node};
    brain.data_node = wire(r, 2, &pb_rk_DataNode_service, rk_data_node_service(r->data));
    MUST(r, rk_coordinator_new(&r->coordinator, &brain, &r->err));
    r->co = wire(r, 3, &pb_rk_Coordinator_service, rk_coordinator_service(r->coordinator));
    rk_streaming_node_set_coordinator(r->streaming, r->co);
    MUST(r, rk_coordinator_start(r->coordinator, &r->err));
    r->ctx = (rk_ctx){.arena = r->arena, .err = &r->err, .deadline_ns = INT64_MAX};
}

static void
stop(roles *r)
{
    rk_coordinator_stop(r->coordinator);
    rk_data_node_stop(r->data);
    rk_streaming_node_stop(r->streaming);
    rk_pool_stop(r->background);
    for (size_t i = RK_COUNT(r->ends); i > 0; i--) {
        unwire(&r->ends[i - 1]);
    }
    rk_coordinator_free(r->coordinator);
    rk_streaming_node_free(r->streaming);
    rk_data_node_free(r->data);
    rk_query_node_free(r->query);
    rk_pool_free(r->background);
    rk_object_close(r->objects);
    rk_meta_close(r->meta);
    rk_mem_free(r->mem);
    rk_config_free(r->config);
}

static roles *
roles_new(bool far)
{
    roles *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    (void)snprintf(r->path, sizeof(r->path), "/tmp/rk-roles-XXXXXX");
    assert_non_null(mkdtemp(r->path));
    r->far = far;
    r->arena = rk_arena_new(0); /* outlives restarts: requests and what tests keep of replies */
    assert_non_null(r->arena);
    start(r);
    return r;
}

static void
roles_free(roles *r)
{
    char command[128];

    stop(r);
    (void)snprintf(command, sizeof(command), "rm -rf %s", r->path);
    assert_int_equal(system(command), 0);
    rk_arena_free(r->arena);
    free(r);
}

static void
restart(roles *r)
{
    stop(r);
    start(r);
}

/* ---- requests ---- */

static pb_common_KeyValuePair *
pair(roles *r, const char *key, const char *value)
{
    pb_common_KeyValuePair *kv = RK_ARENA_NEW(r->arena, pb_common_KeyValuePair);

    kv->key = rk_str_from(key);
    kv->value = rk_str_from(value);
    return kv;
}

/* id Int64 primary, tag VarChar, v FloatVector(4). */
static pb_rk_CollectionInfo *
create(roles *r, const char *name)
{
    pb_rk_CreateCollectionRequest request = {.shards = 1};
    pb_schema_CollectionSchema *schema = RK_ARENA_NEW(r->arena, pb_schema_CollectionSchema);
    pb_schema_FieldSchema *fields = RK_ARENA_ARRAY(r->arena, pb_schema_FieldSchema, 3);
    pb_rk_CollectionInfo *info = NULL;

    schema->name = rk_str_from(name);
    schema->fields.data = RK_ARENA_ARRAY(r->arena, pb_schema_FieldSchema *, 3);
    schema->fields.n = 3;
    for (size_t i = 0; i < 3; i++) {
        schema->fields.data[i] = &fields[i];
    }
    fields[0] = (pb_schema_FieldSchema){
        .name = RK_STR("id"), .is_primary_key = true, .data_type = RK_INT64};
    fields[1] = (pb_schema_FieldSchema){.name = RK_STR("tag"), .data_type = RK_VARCHAR};
    fields[1].type_params.data = RK_ARENA_ARRAY(r->arena, pb_common_KeyValuePair *, 1);
    fields[1].type_params.data[fields[1].type_params.n++] = pair(r, "max_length", "64");
    fields[2] = (pb_schema_FieldSchema){.name = RK_STR("v"), .data_type = RK_FLOAT_VECTOR};
    fields[2].type_params.data = RK_ARENA_ARRAY(r->arena, pb_common_KeyValuePair *, 1);
    fields[2].type_params.data[fields[2].type_params.n++] = pair(r, "dim", "4");
    request.schema = schema;
    MUST(r, pb_rk_Coordinator_CreateCollection(r->co, &request, &info, &r->ctx));
    return info;
}

static pb_schema_FieldData *
ids_field(roles *r, int64_t from, size_t n)
{
    pb_schema_FieldData *f = RK_ARENA_NEW(r->arena, pb_schema_FieldData);

    f->field_name = RK_STR("id");
    f->field_id = 100;
    f->type = RK_INT64;
    f->field_case = PB_SCHEMA_FieldData_scalars;
    f->scalars = RK_ARENA_NEW(r->arena, pb_schema_ScalarField);
    f->scalars->data_case = PB_SCHEMA_ScalarField_long_data;
    f->scalars->long_data = RK_ARENA_NEW(r->arena, pb_schema_LongArray);
    f->scalars->long_data->data.data = RK_ARENA_ARRAY(r->arena, int64_t, n);
    f->scalars->long_data->data.n = n;
    for (size_t i = 0; i < n; i++) {
        f->scalars->long_data->data.data[i] = from + (int64_t)i;
    }
    return f;
}

static pb_schema_FieldData *
tags_field(roles *r, const char *tag, size_t n)
{
    pb_schema_FieldData *f = RK_ARENA_NEW(r->arena, pb_schema_FieldData);

    f->field_name = RK_STR("tag");
    f->field_id = 101;
    f->type = RK_VARCHAR;
    f->field_case = PB_SCHEMA_FieldData_scalars;
    f->scalars = RK_ARENA_NEW(r->arena, pb_schema_ScalarField);
    f->scalars->data_case = PB_SCHEMA_ScalarField_string_data;
    f->scalars->string_data = RK_ARENA_NEW(r->arena, pb_schema_StringArray);
    f->scalars->string_data->data.data = RK_ARENA_ARRAY(r->arena, rk_str, n);
    f->scalars->string_data->data.n = n;
    for (size_t i = 0; i < n; i++) {
        f->scalars->string_data->data.data[i] = rk_str_from(tag);
    }
    return f;
}

/* Row with key k has the vector (k, 0, 0, 0). */
static pb_schema_FieldData *
vectors_field(roles *r, int64_t from, size_t n)
{
    pb_schema_FieldData *f = RK_ARENA_NEW(r->arena, pb_schema_FieldData);
    float *values = RK_ARENA_ARRAY(r->arena, float, n *DIM);

    for (size_t i = 0; i < n; i++) {
        values[i * DIM] = (float)(from + (int64_t)i);
    }
    f->field_name = RK_STR("v");
    f->field_id = 102;
    f->type = RK_FLOAT_VECTOR;
    f->field_case = PB_SCHEMA_FieldData_vectors;
    f->vectors = RK_ARENA_NEW(r->arena, pb_schema_VectorField);
    f->vectors->dim = DIM;
    f->vectors->data_case = PB_SCHEMA_VectorField_float_vector;
    f->vectors->float_vector = RK_ARENA_NEW(r->arena, pb_schema_FloatArray);
    f->vectors->float_vector->data = (pb_fixed){(const uint8_t *)values, n * DIM};
    return f;
}

static pb_schema_IDs *
key_ids(roles *r, int64_t from, size_t n)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(r->arena, pb_schema_IDs);

    ids->id_field_case = PB_SCHEMA_IDs_int_id;
    ids->int_id = ids_field(r, from, n)->scalars->long_data;
    return ids;
}

/* Inserts keys [from, from + n), deleting them first when |upsert|. */
static uint64_t
insert(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n, const char *tag,
       bool upsert)
{
    pb_rk_AppendRequest request = {.collection_id = c->id, .schema_version = c->schema_version};
    pb_rk_RowBatch rows = {.channel = c->channels.data[0],
                           .partition_id = c->partitions.data[0]->id,
                           .rows = (uint32_t)n};
    pb_rk_RowBatch *batches[1] = {&rows};
    pb_rk_DeleteBatch gone = {.channel = c->channels.data[0]};
    pb_rk_DeleteBatch *deletes[1] = {&gone};
    pb_schema_FieldData *fields[3];
    pb_rk_AppendResponse *out = NULL;

    fields[0] = ids_field(r, from, n);
    fields[1] = tags_field(r, tag, n);
    fields[2] = vectors_field(r, from, n);
    rows.fields.data = fields;
    rows.fields.n = 3;
    request.inserts.data = batches;
    request.inserts.n = 1;
    gone.keys = key_ids(r, from, n);
    request.deletes.data = deletes;
    request.deletes.n = upsert ? 1 : 0;
    MUST(r, pb_rk_StreamingNode_Append(r->sn, &request, &out, &r->ctx));
    return out->timestamp;
}

static void
erase(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n)
{
    pb_rk_AppendRequest request = {.collection_id = c->id, .schema_version = c->schema_version};
    pb_rk_DeleteBatch gone = {.channel = c->channels.data[0], .keys = key_ids(r, from, n)};
    pb_rk_DeleteBatch *deletes[1] = {&gone};
    pb_rk_AppendResponse *out = NULL;

    request.deletes.data = deletes;
    request.deletes.n = 1;
    MUST(r, pb_rk_StreamingNode_Append(r->sn, &request, &out, &r->ctx));
}

static void
index_and_load(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_CreateIndexRequest index = {.collection_id = c->id, .field_id = 102, .name = RK_STR("v")};
    pb_common_KeyValuePair *params[2] = {pair(r, "index_type", "HNSW"),
                                         pair(r, "metric_type", "L2")};
    pb_rk_LoadRequest load = {.collection_id = c->id};
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_LoadState *state = NULL;
    pb_rk_Empty *nothing = NULL;

    index.params.data = params;
    index.params.n = 2;
    MUST(r, pb_rk_Coordinator_CreateIndex(r->co, &index, &nothing, &r->ctx));
    MUST(r, pb_rk_Coordinator_Load(r->co, &load, &nothing, &r->ctx));
    for (int i = 0; i < 1000; i++) {
        MUST(r, pb_rk_Coordinator_GetLoadState(r->co, &id, &state, &r->ctx));
        if (state->progress == 100) {
            return;
        }
        usleep(5000);
    }
    fail_msg("the collection was never loaded: %.*s", RK_STR_ARG(state->fail_reason));
}

static void
flush(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_FlushRequest request = {.collection_id = c->id};
    pb_rk_FlushResponse *out = NULL;
    pb_rk_FlushStateRequest ask = {.collection_id = c->id};
    pb_rk_FlushStateResponse *state = NULL;

    MUST(r, pb_rk_Coordinator_Flush(r->co, &request, &out, &r->ctx));
    ask.segment_ids.data = out->segment_ids.data;
    ask.segment_ids.n = out->segment_ids.n;
    ask.flush_ts = out->flush_ts;
    for (int i = 0; i < 1000; i++) {
        MUST(r, pb_rk_Coordinator_GetFlushState(r->co, &ask, &state, &r->ctx));
        if (state->flushed) {
            return;
        }
        usleep(5000);
    }
    fail_msg("the flush never ended");
}

static int64_t
count(roles *r, const pb_rk_CollectionInfo *c, const char *expr)
{
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_Predicate predicate = {.expr = rk_str_from(expr)};
    pb_rk_QueryRequest request = {.scope = &scope, .predicate = &predicate, .count_only = true};
    pb_rk_QueryResponse *out = NULL;

    MUST(r, pb_rk_StreamingNode_Query(r->sn, &request, &out, &r->ctx));
    return out->count;
}

/* The key nearest to (x, 0, 0, 0), and its tag. */
static int64_t
nearest(roles *r, const pb_rk_CollectionInfo *c, float x, rk_str *tag)
{
    float query[DIM] = {x, 0, 0, 0};
    rk_str queries[1] = {{(const char *)query, sizeof(query)}};
    int64_t fields[1] = {101};
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_SearchRequest request = {
        .scope = &scope, .field_id = 102, .metric = RK_METRIC_L2, .topk = 1};
    pb_rk_SearchResponse *out = NULL;

    request.queries.data = queries;
    request.queries.n = 1;
    request.output_field_ids.data = fields;
    request.output_field_ids.n = 1;
    request.query_type = PB_COMMON_PlaceholderType_FloatVector;
    MUST(r, pb_rk_StreamingNode_Search(r->sn, &request, &out, &r->ctx));
    assert_int_equal(out->counts.n, 1);
    assert_int_equal(out->counts.data[0], 1);
    assert_int_equal(out->fields.n, 1);
    *tag = out->fields.data[0]->scalars->string_data->data.data[0];
    return rk_ids_at(out->ids, 0).number;
}

/* Waits until no more than |most| sealed segments are left and all rows are indexed. */
static void
settle(roles *r, const pb_rk_CollectionInfo *c, size_t most)
{
    pb_rk_ListSegmentsRequest list = {.collection_id = c->id};
    pb_rk_DescribeIndexRequest describe = {.collection_id = c->id};

    for (int i = 0; i < 2000; i++) {
        pb_rk_ListSegmentsResponse *segments = NULL;
        pb_rk_DescribeIndexResponse *indexes = NULL;
        MUST(r, pb_rk_Coordinator_ListSegments(r->co, &list, &segments, &r->ctx));
        MUST(r, pb_rk_Coordinator_DescribeIndex(r->co, &describe, &indexes, &r->ctx));
        if (segments->segments.n <= most && indexes->indexes.data[0]->pending_rows == 0) {
            return;
        }
        usleep(5000);
    }
    fail_msg("compaction and indexing never came to rest");
}

/* ---- cases ---- */

static void
write_read_flush_restart(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = create(r, "things");
    rk_str tag;

    insert(r, c, 0, 2000, "old", false);
    index_and_load(r, c);
    assert_int_equal(count(r, c, ""), 2000);
    assert_int_equal(nearest(r, c, 77.2f, &tag), 77);
    insert(r, c, 70, 20, "new", true); /* growing over growing */
    assert_int_equal(count(r, c, ""), 2000);
    assert_int_equal(nearest(r, c, 77.2f, &tag), 77);
    assert_true(rk_str_is(tag, "new"));
    erase(r, c, 77, 1);
    assert_int_equal(nearest(r, c, 77.2f, &tag), 78);
    flush(r, c);
    assert_int_equal(count(r, c, ""), 1999);
    insert(r, c, 78, 1, "newer", true); /* growing over sealed */
    assert_int_equal(count(r, c, ""), 1999);
    assert_int_equal(nearest(r, c, 77.2f, &tag), 78);
    assert_true(rk_str_is(tag, "newer"));
    erase(r, c, 0, 10);
    assert_int_equal(count(r, c, "id < 20"), 10);
    restart(r);
    assert_int_equal(count(r, c, ""), 1989);
    assert_int_equal(nearest(r, c, 77.2f, &tag), 78);
    assert_true(rk_str_is(tag, "newer"));
    flush(r, c);
    assert_int_equal(count(r, c, ""), 1989);
    restart(r);
    assert_int_equal(count(r, c, ""), 1989);
    assert_int_equal(count(r, c, "tag == \"new\""), 18);
    roles_free(r);
}

static void
compaction_keeps_rows(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = create(r, "merged");
    rk_str tag;

    index_and_load(r, c);
    for (int i = 0; i < 9; i++) {
        insert(r, c, i * 1000, 1000, "a", false);
        flush(r, c);
        assert_int_equal(count(r, c, ""), (i + 1) * 1000);
    }
    erase(r, c, 500, 1000);
    flush(r, c);
    settle(r, c, 2);
    assert_int_equal(count(r, c, ""), 8000);
    assert_int_equal(nearest(r, c, 3333.1f, &tag), 3333);
    restart(r);
    assert_int_equal(count(r, c, ""), 8000);
    assert_int_equal(nearest(r, c, 1499.0f, &tag), 1500);
    roles_free(r);
}

static void
drop_frees_everything(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = create(r, "gone");
    pb_rk_CollectionKey key = {.name = RK_STR("gone")};
    pb_rk_Empty *nothing = NULL;
    rk_object_info *objects = NULL;
    size_t n = 1;

    insert(r, c, 0, 3000, "x", false);
    index_and_load(r, c);
    flush(r, c);
    settle(r, c, 1);
    MUST(r, pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx));
    for (int i = 0; i < 1000 && n > 0; i++) {
        MUST(r, rk_object_list(r->objects, "", &objects, &n, r->arena, &r->err));
        usleep(5000);
    }
    assert_int_equal(n, 0);
    assert_int_equal(pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx),
                     RK_ECOLLECTION_NOT_FOUND);
    c = create(r, "gone");
    insert(r, c, 0, 10, "x", false);
    index_and_load(r, c);
    assert_int_equal(count(r, c, ""), 10);
    restart(r);
    assert_int_equal(count(r, c, ""), 10);
    roles_free(r);
}

static void
release_and_load(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = create(r, "cold");
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_Empty *nothing = NULL;
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_QueryRequest query = {.scope = &scope, .count_only = true};
    pb_rk_QueryResponse *out = NULL;

    insert(r, c, 0, 100, "x", false);
    assert_int_equal(pb_rk_StreamingNode_Query(r->sn, &query, &out, &r->ctx),
                     RK_ECOLLECTION_NOT_LOADED);
    index_and_load(r, c);
    flush(r, c);
    MUST(r, pb_rk_Coordinator_Release(r->co, &id, &nothing, &r->ctx));
    assert_int_equal(pb_rk_StreamingNode_Query(r->sn, &query, &out, &r->ctx),
                     RK_ECOLLECTION_NOT_LOADED);
    insert(r, c, 100, 100, "y", false);
    erase(r, c, 0, 50);
    flush(r, c); /* deletes go to a delta file while nothing is loaded */
    index_and_load(r, c);
    assert_int_equal(count(r, c, ""), 150);
    roles_free(r);
}

#define BOTH(name)                                                                                 \
    static void name##_near(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        name(false);                                                                               \
    }                                                                                              \
    static void name##_far(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        name(true);                                                                                \
    }

BOTH(write_read_flush_restart)
BOTH(compaction_keeps_rows)
BOTH(drop_frees_everything)
BOTH(release_and_load)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_flush_restart_near),
        cmocka_unit_test(write_read_flush_restart_far),
        cmocka_unit_test(compaction_keeps_rows_near),
        cmocka_unit_test(compaction_keeps_rows_far),
        cmocka_unit_test(drop_frees_everything_near),
        cmocka_unit_test(drop_frees_everything_far),
        cmocka_unit_test(release_and_load_near),
        cmocka_unit_test(release_and_load_far),
    };

    rk_kernels_init();
    rk_log_set_level(RK_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
