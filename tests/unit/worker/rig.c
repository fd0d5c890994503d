/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rig of the role tests. See rig.h.
 */
#include "rig.h"

/* ---- tampering with calls ---- */

static rk_code
via(void *self, uint32_t index, const void *request, void *response, rk_ctx *ctx)
{
    tamper *t = self;
    int mode = atomic_load(&t->mode);
    void *answer = NULL;
    rk_code code;

    if (mode == TAMPER_OFF || atomic_load(&t->method) != index ||
        atomic_fetch_sub(&t->calls, 1) <= 0) {
        mode = TAMPER_OFF;
    } else {
        atomic_fetch_add(&t->hits, 1);
    }
    if (mode == TAMPER_REFUSE) {
        return rk_fail(ctx->err, (rk_code)atomic_load(&t->code), "refused by the test");
    }
    code = rk_service_call(t->inner, index, request, &answer, ctx);
    if (mode == TAMPER_LATE) {
        usleep((useconds_t)atomic_load(&t->late_ms) * 1000);
    }
    if (mode == TAMPER_LOSE_REPLY && code == RK_OK) {
        return rk_fail(ctx->err, (rk_code)atomic_load(&t->code), "the reply was lost by the test");
    }
    if (answer) {
        memcpy(response, answer, pb_sizeof(t->desc->methods[index].output));
    }
    return code;
}

#define VIA(n)                                                                                     \
    static rk_code via_##n(void *self, const void *request, void *response, rk_ctx *ctx)           \
    {                                                                                              \
        return via(self, n, request, response, ctx);                                               \
    }
VIA(0)
VIA(1)
VIA(2)
VIA(3)
VIA(4)
VIA(5)
VIA(6)
VIA(7)
VIA(8)
VIA(9)
VIA(10)
VIA(11)
VIA(12)
VIA(13)
VIA(14)
VIA(15)
VIA(16)
VIA(17)
VIA(18)
VIA(19)
VIA(20)
VIA(21)
VIA(22)
VIA(23)

static const rk_method_fn VIAS[] = {via_0,  via_1,  via_2,  via_3,  via_4,  via_5,  via_6,  via_7,
                                    via_8,  via_9,  via_10, via_11, via_12, via_13, via_14, via_15,
                                    via_16, via_17, via_18, via_19, via_20, via_21, via_22, via_23};

static rk_service *
tamper_put(roles *r, size_t role, const pb_service_desc *desc, rk_service *inner)
{
    tamper *t = &r->tampers[role];

    assert_true(desc->methods_len <= RK_COUNT(VIAS));
    t->desc = desc;
    t->inner = inner;
    MUST(r, rk_service_near(&t->service, desc, VIAS, t));
    return t->service;
}

static void
tamper_set(roles *r, int role, uint32_t method, tamper_mode mode, rk_code code, int late_ms,
           int calls)
{
    tamper *t = &r->tampers[role];

    atomic_store(&t->mode, TAMPER_OFF);
    atomic_store(&t->method, method);
    atomic_store(&t->code, (int)code);
    atomic_store(&t->late_ms, late_ms);
    atomic_store(&t->calls, calls);
    atomic_store(&t->hits, 0);
    atomic_store(&t->mode, (int)mode);
}

void
rig_refuse(roles *r, int role, uint32_t method, rk_code code, int calls)
{
    tamper_set(r, role, method, TAMPER_REFUSE, code, 0, calls);
}

void
rig_lose_reply(roles *r, int role, uint32_t method, rk_code code, int calls)
{
    tamper_set(r, role, method, TAMPER_LOSE_REPLY, code, 0, calls);
}

void
rig_delay(roles *r, int role, uint32_t method, int late_ms, int calls)
{
    tamper_set(r, role, method, TAMPER_LATE, RK_OK, late_ms, calls);
}

int
rig_hits(const roles *r, int role)
{
    return atomic_load(&r->tampers[role].hits);
}

void
rig_wait_hits(const roles *r, int role, int least)
{
    for (int i = 0; i < RIG_WAITS && rig_hits(r, role) < least; i++) {
        usleep(5000);
    }
    assert_true(rig_hits(r, role) >= least);
}

/* ---- faults by name ---- */

static char fault_path[64];

void
rig_fault(const char *rules)
{
    char next[80];
    FILE *file;

    if (fault_path[0] == '\0') {
        (void)snprintf(fault_path, sizeof(fault_path), "/tmp/rk-rig-fault-%ld", (long)getpid());
        assert_int_equal(setenv("REDKITE_FAULT_FILE", fault_path, 1), 0);
        rk_fault_init();
    }
    (void)snprintf(next, sizeof(next), "%s.next", fault_path);
    file = fopen(next, "w");
    assert_non_null(file);
    assert_true(fputs(rules, file) >= 0);
    assert_int_equal(fclose(file), 0);
    if (rules[0] == '\0') {
        (void)unlink(next);
        (void)unlink(fault_path);
    } else {
        assert_int_equal(rename(next, fault_path), 0); /* a new file: noticed at the next point */
    }
}

/* ---- one server without its access layer ---- */

static rk_service *
wire(roles *r, size_t at, const pb_service_desc *desc, rk_service *near)
{
    const rk_pool_options pool = {.name = "role", .threads = 16, .queue_len_max = 1000};
    rk_rpc_server_options server;
    rk_rpc_client_options client;
    far_end *end = &r->ends[at];

    if (!r->far) {
        return tamper_put(r, at, desc, near);
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
    return tamper_put(r, at, desc, end->service);
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

void
rig_start(roles *r)
{
    const rk_pool_options background = {.name = "background", .threads = 2, .queue_len_max = 100};
    rk_worker_options worker;
    rk_coordinator_options brain;
    char path[128];

    r->err = (rk_err){0};
    r->config = rk_config_new();
    assert_non_null(r->config);
    for (size_t i = 0; r->sets && r->sets[i]; i += 2) {
        MUST(r, rk_config_set(r->config, rk_str_from(r->sets[i]), rk_str_from(r->sets[i + 1]),
                              "test", &r->err));
    }
    MUST(r, rk_meta_open_sqlite(&r->meta, under(r, "meta.db", path, sizeof(path)), rk_env_real(),
                                &r->err));
    MUST(r, rk_object_open_dir(&r->objects, under(r, "objects", path, sizeof(path)), rk_env_real(),
                               &r->err));
    r->mem = rk_mem_new(NULL, "memory", r->memory_bytes);
    MUST(r, rk_pool_new(&r->background, &background));
    worker = (rk_worker_options){.env = rk_env_real(),
                                 .config = r->config,
                                 .mem = r->mem,
                                 .objects = r->objects,
                                 .background = r->background,
                                 .wal_path = under(r, "wal", path, sizeof(path))};
    MUST(r, rk_query_node_new(&r->query, &worker, &r->err));
    worker.query_node =
        wire(r, RIG_QUERY, &pb_rk_QueryNode_service, rk_query_node_service(r->query));
    MUST(r, rk_data_node_new(&r->data, &worker, &r->err));
    MUST(r, rk_streaming_node_new(&r->streaming, &worker, &r->err));
    r->sn = wire(r, RIG_STREAMING, &pb_rk_StreamingNode_service,
                 rk_streaming_node_service(r->streaming));
    brain = (rk_coordinator_options){.env = rk_env_real(),
                                     .config = r->config,
                                     .meta = r->meta,
                                     .objects = r->objects,
                                     .streaming_node = r->sn,
                                     .query_node = worker.query_node};
    brain.data_node = wire(r, RIG_DATA, &pb_rk_DataNode_service, rk_data_node_service(r->data));
    MUST(r, rk_coordinator_new(&r->coordinator, &brain, &r->err));
    r->co = wire(r, RIG_COORDINATOR, &pb_rk_Coordinator_service,
                 rk_coordinator_service(r->coordinator));
    rk_streaming_node_set_coordinator(r->streaming, r->co);
    rk_query_node_set_coordinator(r->query, r->co);
    MUST(r, rk_coordinator_start(r->coordinator, &r->err));
    r->ctx = (rk_ctx){.arena = r->arena, .err = &r->err, .deadline_ns = INT64_MAX};
}

void
rig_stop(roles *r)
{
    rk_coordinator_stop(r->coordinator);
    rk_data_node_stop(r->data);
    rk_query_node_stop(r->query);
    rk_streaming_node_stop(r->streaming);
    rk_pool_stop(r->background);
    for (size_t i = RK_COUNT(r->ends); i > 0; i--) {
        unwire(&r->ends[i - 1]);
    }
    for (size_t i = 0; i < RK_COUNT(r->tampers); i++) {
        rk_service_free(r->tampers[i].service);
        r->tampers[i].service = NULL;
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

roles *
roles_new(bool far)
{
    return roles_new_with(far, UINT64_C(1) << 30, NULL);
}

roles *
roles_new_with(bool far, uint64_t memory_bytes, const char *const *sets)
{
    roles *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    (void)snprintf(r->path, sizeof(r->path), "/tmp/rk-roles-XXXXXX");
    assert_non_null(mkdtemp(r->path));
    r->far = far;
    r->memory_bytes = memory_bytes;
    r->sets = sets;
    r->arena = rk_arena_new(0); /* outlives restarts: requests and what tests keep of replies */
    assert_non_null(r->arena);
    rig_start(r);
    return r;
}

void
roles_free(roles *r)
{
    char command[128];

    rig_stop(r);
    (void)snprintf(command, sizeof(command), "rm -rf %s", r->path);
    assert_int_equal(system(command), 0);
    rk_arena_free(r->arena);
    free(r);
}

void
rig_restart(roles *r)
{
    rig_stop(r);
    rig_start(r);
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

pb_rk_CollectionInfo *
rig_create_shards(roles *r, const char *name, int32_t shards)
{
    pb_rk_CreateCollectionRequest request = {.shards = shards};
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

pb_rk_CollectionInfo *
rig_create(roles *r, const char *name)
{
    return rig_create_shards(r, name, 1);
}

pb_schema_FieldData *
rig_ids_field(roles *r, int64_t from, size_t n)
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

pb_schema_IDs *
rig_key_ids(roles *r, int64_t from, size_t n)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(r->arena, pb_schema_IDs);

    ids->id_field_case = PB_SCHEMA_IDs_int_id;
    ids->int_id = rig_ids_field(r, from, n)->scalars->long_data;
    return ids;
}

uint64_t
rig_insert_shard(roles *r, const pb_rk_CollectionInfo *c, size_t shard, int64_t from, size_t n,
                 const char *tag, bool upsert)
{
    pb_rk_AppendRequest request = {.collection_id = c->id, .schema_version = c->schema_version};
    pb_rk_RowBatch rows = {.channel = c->channels.data[shard],
                           .partition_id = c->partitions.data[0]->id,
                           .rows = (uint32_t)n};
    pb_rk_RowBatch *batches[1] = {&rows};
    pb_rk_DeleteBatch gone = {.channel = c->channels.data[shard]};
    pb_rk_DeleteBatch *deletes[1] = {&gone};
    pb_schema_FieldData *fields[3];
    pb_rk_AppendResponse *out = NULL;

    fields[0] = rig_ids_field(r, from, n);
    fields[1] = tags_field(r, tag, n);
    fields[2] = vectors_field(r, from, n);
    rows.fields.data = fields;
    rows.fields.n = 3;
    request.inserts.data = batches;
    request.inserts.n = 1;
    gone.keys = rig_key_ids(r, from, n);
    request.deletes.data = deletes;
    request.deletes.n = upsert ? 1 : 0;
    MUST(r, pb_rk_StreamingNode_Append(r->sn, &request, &out, &r->ctx));
    return out->timestamp;
}

uint64_t
rig_insert(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n, const char *tag,
           bool upsert)
{
    return rig_insert_shard(r, c, 0, from, n, tag, upsert);
}

void
rig_erase(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n)
{
    pb_rk_AppendRequest request = {.collection_id = c->id, .schema_version = c->schema_version};
    pb_rk_DeleteBatch gone = {.channel = c->channels.data[0], .keys = rig_key_ids(r, from, n)};
    pb_rk_DeleteBatch *deletes[1] = {&gone};
    pb_rk_AppendResponse *out = NULL;

    request.deletes.data = deletes;
    request.deletes.n = 1;
    MUST(r, pb_rk_StreamingNode_Append(r->sn, &request, &out, &r->ctx));
}

void
rig_create_index(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_CreateIndexRequest index = {.collection_id = c->id, .field_id = 102, .name = RK_STR("v")};
    pb_common_KeyValuePair *params[2] = {pair(r, "index_type", "HNSW"),
                                         pair(r, "metric_type", "L2")};
    pb_rk_Empty *nothing = NULL;

    index.params.data = params;
    index.params.n = 2;
    MUST(r, pb_rk_Coordinator_CreateIndex(r->co, &index, &nothing, &r->ctx));
}

void
rig_load(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_LoadRequest load = {.collection_id = c->id};
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_LoadState *state = NULL;
    pb_rk_Empty *nothing = NULL;

    MUST(r, pb_rk_Coordinator_Load(r->co, &load, &nothing, &r->ctx));
    for (int i = 0; i < RIG_WAITS; i++) {
        MUST(r, pb_rk_Coordinator_GetLoadState(r->co, &id, &state, &r->ctx));
        if (state->progress == 100) {
            return;
        }
        usleep(5000);
    }
    fail_msg("the collection was never loaded: %.*s", RK_STR_ARG(state->fail_reason));
}

void
rig_index_and_load(roles *r, const pb_rk_CollectionInfo *c)
{
    rig_create_index(r, c);
    rig_load(r, c);
}

void
rig_flush(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_FlushRequest request = {.collection_id = c->id};
    pb_rk_FlushResponse *out = NULL;
    pb_rk_FlushStateRequest ask = {.collection_id = c->id};
    pb_rk_FlushStateResponse *state = NULL;

    MUST(r, pb_rk_Coordinator_Flush(r->co, &request, &out, &r->ctx));
    ask.segment_ids.data = out->segment_ids.data;
    ask.segment_ids.n = out->segment_ids.n;
    ask.flush_ts = out->flush_ts;
    for (int i = 0; i < RIG_WAITS; i++) {
        MUST(r, pb_rk_Coordinator_GetFlushState(r->co, &ask, &state, &r->ctx));
        if (state->flushed) {
            return;
        }
        usleep(5000);
    }
    fail_msg("the flush never ended");
}

int64_t
rig_count(roles *r, const pb_rk_CollectionInfo *c, const char *expr)
{
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_Predicate predicate = {.expr = rk_str_from(expr)};
    pb_rk_QueryRequest request = {.scope = &scope, .predicate = &predicate, .count_only = true};
    pb_rk_QueryResponse *out = NULL;

    MUST(r, pb_rk_StreamingNode_Query(r->sn, &request, &out, &r->ctx));
    return out->count;
}

int64_t
rig_nearest(roles *r, const pb_rk_CollectionInfo *c, float x, rk_str *tag)
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

void
rig_settle(roles *r, const pb_rk_CollectionInfo *c, size_t most)
{
    pb_rk_ListSegmentsRequest list = {.collection_id = c->id};
    pb_rk_DescribeIndexRequest describe = {.collection_id = c->id};

    for (int i = 0; i < RIG_WAITS; i++) {
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

size_t
rig_live_segments(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_ListSegmentsRequest list = {.collection_id = c->id};
    pb_rk_ListSegmentsResponse *segments = NULL;
    size_t n = 0;

    MUST(r, pb_rk_Coordinator_ListSegments(r->co, &list, &segments, &r->ctx));
    for (size_t i = 0; i < segments->segments.n; i++) {
        n += segments->segments.data[i]->state == PB_RK_SegmentState_SEGMENT_FLUSHED;
    }
    return n;
}

size_t
rig_objects(roles *r)
{
    rk_object_info *objects = NULL;
    size_t n = 0;

    MUST(r, rk_object_list(r->objects, "", &objects, &n, r->arena, &r->err));
    return n;
}

void
rig_wait_objects(roles *r, size_t most)
{
    for (int i = 0; i < RIG_WAITS; i++) {
        if (rig_objects(r) <= most) {
            return;
        }
        usleep(5000);
    }
    fail_msg("%zu objects are left, no more than %zu should be", rig_objects(r), most);
}
