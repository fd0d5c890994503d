/* SPDX-License-Identifier: Apache-2.0 */
/* See fake.h. Everything is kept in one arena for the length of a test. */
#include "fake.h"

#include "index/index.h"

#define SELF(self) ((fake *)(self))

static void *
keep(fake *f, const pb_message_desc *desc, const void *message)
{
    void *copy = NULL;
    assert_int_equal(pb_copy(desc, &copy, message, f->arena), RK_OK);
    return copy;
}

static pb_rk_CollectionInfo *
find(fake *f, rk_str name, int64_t id)
{
    for (size_t i = 0; i < f->collections_len; i++) {
        if (name.len > 0 ? rk_str_eq(f->collections[i]->name, name) : f->collections[i]->id == id) {
            return f->collections[i];
        }
    }
    return NULL;
}

/* A collection that must be there. */
static pb_rk_CollectionInfo *
known(fake *f, int64_t id)
{
    pb_rk_CollectionInfo *have = find(f, (rk_str){NULL, 0}, id);

    if (!have) {
        fail_msg("no collection %lld", (long long)id);
        abort(); /* not reached; tells the compiler */
    }
    return have;
}

/* ---- coordinator ---- */

static rk_code
co_create(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    const pb_rk_CreateCollectionRequest *in = request;
    pb_rk_CollectionInfo *have = find(f, in->schema->name, 0);

    if (have) {
        *(pb_rk_CollectionInfo *)response = *have;
        return rk_fail(ctx->err, RK_EEXISTS, "exists");
    }
    assert_true(f->collections_len < FAKE_COLLECTIONS_MAX);
    pb_rk_CollectionInfo info = {.id = (int64_t)(1000 + f->collections_len),
                                 .db_name = RK_STR("default"),
                                 .name = in->schema->name,
                                 .shards = in->shards,
                                 .consistency_level = in->consistency_level,
                                 .properties = in->properties,
                                 .schema_version = 1,
                                 .updated_ts = 77};
    pb_rk_CollectionInfo *mine = keep(f, &pb_rk_CollectionInfo_desc, &info);
    mine->schema = keep(f, &pb_schema_CollectionSchema_desc, in->schema);
    size_t n = mine->schema->fields.n;
    pb_schema_FieldSchema **fields = RK_ARENA_ARRAY(f->arena, pb_schema_FieldSchema *, n + 1);
    for (size_t i = 0; i < n; i++) {
        fields[i] = mine->schema->fields.data[i];
        fields[i]->fieldID = (int64_t)(100 + i);
    }
    if (mine->schema->enable_dynamic_field) {
        fields[n] = RK_ARENA_NEW(f->arena, pb_schema_FieldSchema);
        fields[n]->fieldID = (int64_t)(100 + n);
        fields[n]->name = RK_STR("$meta");
        fields[n]->data_type = RK_JSON;
        fields[n]->is_dynamic = true;
        n++;
    }
    mine->schema->fields.data = fields;
    mine->schema->fields.n = n;
    mine->channels.n = (size_t)in->shards;
    mine->channels.data = RK_ARENA_ARRAY(f->arena, rk_str, mine->channels.n);
    for (size_t i = 0; i < mine->channels.n; i++) {
        mine->channels.data[i] = rk_arena_printf(f->arena, "ch%zu", i);
    }
    pb_rk_PartitionInfo *partition = RK_ARENA_NEW(f->arena, pb_rk_PartitionInfo);
    partition->id = 5;
    partition->name = RK_STR("_default");
    mine->partitions.data = RK_ARENA_ARRAY(f->arena, pb_rk_PartitionInfo *, 1);
    mine->partitions.data[0] = partition;
    mine->partitions.n = 1;
    f->collections[f->collections_len++] = mine;
    f->revision++;
    *(pb_rk_CollectionInfo *)response = *mine;
    return RK_OK;
}

static rk_code
co_drop(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    const pb_rk_CollectionKey *in = request;
    pb_rk_CollectionInfo *have = find(f, in->name, in->id);

    (void)response;
    if (!have) {
        return rk_fail(ctx->err, RK_ECOLLECTION_NOT_FOUND, "no such collection");
    }
    for (size_t i = 0; i < f->collections_len; i++) {
        if (f->collections[i] == have) {
            f->collections[i] = f->collections[--f->collections_len];
            break;
        }
    }
    f->revision++;
    return RK_OK;
}

static rk_code
co_describe(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_CollectionKey *in = request;
    pb_rk_CollectionInfo *have = find(SELF(self), in->name, in->id);

    SELF(self)->describes++;
    if (!have) {
        return rk_fail(ctx->err, RK_ECOLLECTION_NOT_FOUND, "no such collection");
    }
    *(pb_rk_CollectionInfo *)response = *have;
    return RK_OK;
}

static rk_code
co_list(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)request;
    (void)ctx;
    ((pb_rk_ListCollectionsResponse *)response)->collections.data = SELF(self)->collections;
    ((pb_rk_ListCollectionsResponse *)response)->collections.n = SELF(self)->collections_len;
    return RK_OK;
}

static rk_code
co_revision(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)request;
    (void)ctx;
    ((pb_rk_CatalogRevisionResponse *)response)->revision = SELF(self)->revision;
    return RK_OK;
}

static rk_code
co_create_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    const pb_rk_CreateIndexRequest *in = request;
    pb_rk_CollectionInfo *have = known(f, in->collection_id);

    (void)response;
    (void)ctx;
    assert_non_null(have);
    pb_rk_IndexInfo info = {.id = 1,
                            .name = in->name,
                            .field_id = in->field_id,
                            .field_name = have->schema->fields.data[in->field_id - 100]->name,
                            .params = in->params,
                            .user_params = in->user_params,
                            .auto_index = in->auto_index};
    pb_rk_IndexInfo **all = RK_ARENA_ARRAY(f->arena, pb_rk_IndexInfo *, have->indexes.n + 1);
    for (size_t i = 0; i < have->indexes.n; i++) {
        all[i] = have->indexes.data[i];
    }
    all[have->indexes.n] = keep(f, &pb_rk_IndexInfo_desc, &info);
    have->indexes.data = all;
    have->indexes.n++;
    f->revision++;
    return RK_OK;
}

static rk_code
co_drop_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    pb_rk_CollectionInfo *have =
        known(SELF(self), ((const pb_rk_DropIndexRequest *)request)->collection_id);
    (void)response;
    (void)ctx;
    have->indexes.n = 0;
    SELF(self)->revision++;
    return RK_OK;
}

static rk_code
co_describe_index(void *self, const void *request, void *response, rk_ctx *ctx)
{
    const pb_rk_DescribeIndexRequest *in = request;
    pb_rk_CollectionInfo *have = known(SELF(self), in->collection_id);
    pb_rk_DescribeIndexResponse *out = response;

    out->indexes.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexState *, have->indexes.n + 1);
    for (size_t i = 0; i < have->indexes.n; i++) {
        if (in->name.len == 0 || rk_str_eq(in->name, have->indexes.data[i]->name)) {
            pb_rk_IndexState *s = RK_ARENA_NEW(ctx->arena, pb_rk_IndexState);
            s->index = have->indexes.data[i];
            s->state = PB_COMMON_IndexState_Finished;
            out->indexes.data[out->indexes.n++] = s;
        }
    }
    return out->indexes.n > 0 ? RK_OK : rk_fail(ctx->err, RK_EINDEX_NOT_FOUND, "no index");
}

static rk_code
co_load(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)request;
    (void)response;
    (void)ctx;
    SELF(self)->load_state = PB_COMMON_LoadState_LoadStateLoaded;
    return RK_OK;
}

static rk_code
co_release(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)request;
    (void)response;
    (void)ctx;
    SELF(self)->load_state = PB_COMMON_LoadState_LoadStateNotLoad;
    return RK_OK;
}

static rk_code
co_load_state(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)request;
    (void)ctx;
    ((pb_rk_LoadState *)response)->state = SELF(self)->load_state;
    ((pb_rk_LoadState *)response)->progress = 100;
    return RK_OK;
}

static rk_code
co_flush(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)self;
    (void)request;
    (void)ctx;
    ((pb_rk_FlushResponse *)response)->flush_ts = 4242;
    return RK_OK;
}

static rk_code
co_flush_state(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)self;
    (void)request;
    (void)ctx;
    ((pb_rk_FlushStateResponse *)response)->flushed = true;
    return RK_OK;
}

static rk_code
co_statistics(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)self;
    (void)request;
    (void)ctx;
    ((pb_rk_StatisticsResponse *)response)->row_count = 12;
    return RK_OK;
}

static rk_code
co_alloc(void *self, const void *request, void *response, rk_ctx *ctx)
{
    (void)ctx;
    ((pb_rk_AllocResponse *)response)->first = SELF(self)->time;
    SELF(self)->time += ((const pb_rk_AllocRequest *)request)->count;
    return RK_OK;
}

static const rk_method_fn coordinator_methods[PB_RK_Coordinator_METHODS] = {
    [PB_RK_Coordinator_CreateCollection] = co_create,
    [PB_RK_Coordinator_DropCollection] = co_drop,
    [PB_RK_Coordinator_DescribeCollection] = co_describe,
    [PB_RK_Coordinator_ListCollections] = co_list,
    [PB_RK_Coordinator_CatalogRevision] = co_revision,
    [PB_RK_Coordinator_CreateIndex] = co_create_index,
    [PB_RK_Coordinator_DropIndex] = co_drop_index,
    [PB_RK_Coordinator_DescribeIndex] = co_describe_index,
    [PB_RK_Coordinator_Load] = co_load,
    [PB_RK_Coordinator_Release] = co_release,
    [PB_RK_Coordinator_GetLoadState] = co_load_state,
    [PB_RK_Coordinator_Flush] = co_flush,
    [PB_RK_Coordinator_GetFlushState] = co_flush_state,
    [PB_RK_Coordinator_GetStatistics] = co_statistics,
    [PB_RK_Coordinator_AllocTimestamp] = co_alloc,
    [PB_RK_Coordinator_AllocId] = co_alloc,
};

/* ---- streaming node ---- */

static rk_code
sn_append(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    rk_code code = f->append_fails;

    f->append_fails = RK_OK;
    f->appends++;
    if (code != RK_OK) {
        return rk_fail(ctx->err, code, "append failed");
    }
    f->append = keep(f, &pb_rk_AppendRequest_desc, request);
    ((pb_rk_AppendResponse *)response)->timestamp = 555;
    return RK_OK;
}

static rk_code
sn_search(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    rk_code code = f->read_fails;

    f->read_fails = RK_OK;
    if (code != RK_OK) {
        return rk_fail(ctx->err, code, "collection not loaded[collection=c]");
    }
    f->search = keep(f, &pb_rk_SearchRequest_desc, request);
    *(pb_rk_SearchResponse *)response = f->search_reply;
    return RK_OK;
}

static rk_code
sn_query(void *self, const void *request, void *response, rk_ctx *ctx)
{
    fake *f = SELF(self);
    rk_code code = f->read_fails;

    f->read_fails = RK_OK;
    if (code != RK_OK) {
        return rk_fail(ctx->err, code, "collection not loaded[collection=c]");
    }
    f->query = keep(f, &pb_rk_QueryRequest_desc, request);
    *(pb_rk_QueryResponse *)response = f->query_reply;
    return RK_OK;
}

static const rk_method_fn streaming_methods[PB_RK_StreamingNode_METHODS] = {
    [PB_RK_StreamingNode_Append] = sn_append,
    [PB_RK_StreamingNode_Search] = sn_search,
    [PB_RK_StreamingNode_Query] = sn_query,
};

/* ---- set-up ---- */

void
fake_access_options(const fake *f, rk_access_options *options)
{
    *options = (rk_access_options){.env = rk_env_real(),
                                   .config = f->config,
                                   .coordinator = f->coordinator,
                                   .streaming_node = f->streaming,
                                   .search_threads = 1,
                                   .write_threads = 1,
                                   .listen = "127.0.0.1:0",
                                   .metrics_listen = "127.0.0.1:0"};
}

int
fake_setup(void **state)
{
    fake *f = calloc(1, sizeof(*f));
    rk_access_options options;

    assert_non_null(f);
    rk_kernels_init();
    f->arena = rk_arena_new(0);
    f->request = rk_arena_new(0);
    f->config = rk_config_new();
    f->time = 1000;
    f->revision = 1;
    f->load_state = PB_COMMON_LoadState_LoadStateNotLoad;
    assert_int_equal(
        rk_service_near(&f->coordinator, &pb_rk_Coordinator_service, coordinator_methods, f),
        RK_OK);
    assert_int_equal(
        rk_service_near(&f->streaming, &pb_rk_StreamingNode_service, streaming_methods, f), RK_OK);
    fake_access_options(f, &options);
    assert_int_equal(rk__access_new(&f->access, &options), RK_OK);
    *state = f;
    return 0;
}

int
fake_teardown(void **state)
{
    fake *f = *state;

    rk_arena_free(f->request);
    rk_access_free(f->access);
    rk_service_free(f->coordinator);
    rk_service_free(f->streaming);
    rk_config_free(f->config);
    rk_arena_free(f->arena);
    free(f);
    return 0;
}

rk__req *
fake_req(fake *f)
{
    rk_arena_reset(f->request);
    rk_err_clear(&f->err);
    f->req = (rk__req){.ctx = {f->request, &f->err, INT64_MAX, NULL}, .access = f->access};
    return &f->req;
}

/* ---- schemas ---- */

static rk_str
word(const char **at, char stop)
{
    const char *start = *at;
    while (**at && **at != stop && **at != ' ') {
        (*at)++;
    }
    return (rk_str){start, (size_t)(*at - start)};
}

static pb_schema_FieldSchema *
one_field(fake *f, const char **at)
{
    pb_schema_FieldSchema *field = RK_ARENA_NEW(f->arena, pb_schema_FieldSchema);

    field->name = word(at, ':');
    while (**at == ':') {
        (*at)++;
        rk_str part = word(at, ':');
        const char *equals = memchr(part.data, '=', part.len);
        if (rk_str_is(part, "pk")) {
            field->is_primary_key = true;
        } else if (rk_str_is(part, "auto")) {
            field->autoID = true;
        } else if (rk_str_is(part, "null")) {
            field->nullable = true;
        } else if (rk_str_is(part, "partition")) {
            field->is_partition_key = true;
        } else if (rk_str_starts(part, "of=")) {
            (void)rk__rest_type((rk_str){part.data + 3, part.len - 3}, &field->element_type);
        } else if (equals) {
            rk_str key = {part.data, (size_t)(equals - part.data)};
            rk_str value = {equals + 1, part.len - key.len - 1};
            assert_int_equal(rk__kv_add(f->arena, &field->type_params, key, value), RK_OK);
        } else if (rk_str_is(part, "String")) {
            field->data_type = PB_SCHEMA_DataType_String;
        } else if (!rk_str_is(part, "None")) {
            assert_true(rk__rest_type(part, &field->data_type));
        }
    }
    return field;
}

pb_schema_CollectionSchema *
fake_schema(fake *f, const char *text, bool dynamic)
{
    pb_schema_CollectionSchema *schema = RK_ARENA_NEW(f->arena, pb_schema_CollectionSchema);

    schema->enable_dynamic_field = dynamic;
    schema->fields.data = RK_ARENA_ARRAY(f->arena, pb_schema_FieldSchema *, strlen(text) + 1);
    while (*text) {
        if (*text == ' ') {
            text++;
            continue;
        }
        schema->fields.data[schema->fields.n++] = one_field(f, &text);
    }
    return schema;
}

rk_code
fake_create(fake *f, const char *name, pb_schema_CollectionSchema *schema)
{
    pb_milvus_CreateCollectionRequest in = {.collection_name = rk_str_from(name)};
    pb_common_Status out = {0};

    assert_int_equal(
        pb_encode_arena(&pb_schema_CollectionSchema_desc, schema, &in.schema, f->arena), RK_OK);
    return rk__api_create_collection(fake_req(f), &in, &out);
}

pb_common_KeyValuePair_list
fake_pairs(fake *f, const char *text)
{
    pb_common_KeyValuePair_list list = {NULL, 0};

    while (*text) {
        rk_str key = word(&text, '=');
        text += *text == '=';
        rk_str value = word(&text, ' ');
        text += *text == ' ';
        assert_int_equal(rk__kv_add(f->arena, &list, key, value), RK_OK);
    }
    return list;
}

void
fake_collection(fake *f)
{
    pb_milvus_CreateIndexRequest index = {.collection_name = RK_STR("c"),
                                          .field_name = RK_STR("vec"),
                                          .extra_params =
                                              fake_pairs(f, "index_type=HNSW metric_type=L2 M=8")};
    pb_common_Status out = {0};

    must(f,
         fake_create(f, "c",
                     fake_schema(f, "id:Int64:pk vec:FloatVector:dim=4 t:VarChar:max_length=8:null",
                                 true)));
    must(f, rk__api_create_index(fake_req(f), &index, &out));
    f->load_state = PB_COMMON_LoadState_LoadStateLoaded;
}

/* ---- columns ---- */

static pb_schema_FieldData *
scalars(fake *f, const char *name, int32_t type, pb_schema_ScalarField **out)
{
    pb_schema_FieldData *d = RK_ARENA_NEW(f->arena, pb_schema_FieldData);
    d->type = type;
    d->field_name = rk_str_from(name);
    d->field_case = PB_SCHEMA_FieldData_scalars;
    d->scalars = *out = RK_ARENA_NEW(f->arena, pb_schema_ScalarField);
    return d;
}

pb_schema_FieldData *
fake_i64(fake *f, const char *name, const int64_t *values, size_t n)
{
    pb_schema_ScalarField *s;
    pb_schema_FieldData *d = scalars(f, name, RK_INT64, &s);
    s->data_case = PB_SCHEMA_ScalarField_long_data;
    s->long_data = RK_ARENA_NEW(f->arena, pb_schema_LongArray);
    s->long_data->data.data = RK_ARENA_ARRAY(f->arena, int64_t, n + 1);
    memcpy(s->long_data->data.data, values, n * sizeof(*values));
    s->long_data->data.n = n;
    return d;
}

pb_schema_FieldData *
fake_texts(fake *f, const char *name, const char *const *values, size_t n)
{
    pb_schema_ScalarField *s;
    pb_schema_FieldData *d = scalars(f, name, RK_VARCHAR, &s);
    s->data_case = PB_SCHEMA_ScalarField_string_data;
    s->string_data = RK_ARENA_NEW(f->arena, pb_schema_StringArray);
    s->string_data->data.data = RK_ARENA_ARRAY(f->arena, rk_str, n + 1);
    for (size_t i = 0; i < n; i++) {
        s->string_data->data.data[i] = rk_str_from(values[i]);
    }
    s->string_data->data.n = n;
    return d;
}

pb_schema_FieldData *
fake_json(fake *f, const char *const *values, size_t n)
{
    pb_schema_ScalarField *s;
    pb_schema_FieldData *d = scalars(f, "$meta", RK_JSON, &s);
    d->is_dynamic = true;
    s->data_case = PB_SCHEMA_ScalarField_json_data;
    s->json_data = RK_ARENA_NEW(f->arena, pb_schema_JSONArray);
    s->json_data->data.data = RK_ARENA_ARRAY(f->arena, rk_str, n + 1);
    for (size_t i = 0; i < n; i++) {
        s->json_data->data.data[i] = rk_str_from(values[i]);
    }
    s->json_data->data.n = n;
    return d;
}

pb_schema_FieldData *
fake_f32(fake *f, const char *name, uint32_t dim, const float *values, size_t rows)
{
    pb_schema_FieldData *d = RK_ARENA_NEW(f->arena, pb_schema_FieldData);
    uint8_t *copy = rk_arena_alloc(f->arena, dim * rows * sizeof(float) + 16);
    memcpy(copy, values, dim * rows * sizeof(float));
    d->type = RK_FLOAT_VECTOR;
    d->field_name = rk_str_from(name);
    d->field_case = PB_SCHEMA_FieldData_vectors;
    d->vectors = RK_ARENA_NEW(f->arena, pb_schema_VectorField);
    d->vectors->dim = dim;
    d->vectors->data_case = PB_SCHEMA_VectorField_float_vector;
    d->vectors->float_vector = RK_ARENA_NEW(f->arena, pb_schema_FloatArray);
    d->vectors->float_vector->data = (pb_fixed){copy, dim * rows};
    return d;
}

rk_str
fake_placeholder(fake *f, int32_t type, const void *bytes, size_t len, size_t n)
{
    pb_common_PlaceholderValue value = {.tag = RK_STR("$0"), .type = type};
    pb_common_PlaceholderValue *values[1] = {&value};
    pb_common_PlaceholderGroup group = {.placeholders = {values, 1}};
    rk_str out = {NULL, 0};

    value.values.data = RK_ARENA_ARRAY(f->arena, rk_str, n + 1);
    value.values.n = n;
    for (size_t i = 0; i < n; i++) {
        value.values.data[i] = (rk_str){bytes, len};
    }
    assert_int_equal(pb_encode_arena(&pb_common_PlaceholderGroup_desc, &group, &out, f->arena),
                     RK_OK);
    return out;
}
