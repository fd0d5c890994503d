/* SPDX-License-Identifier: Apache-2.0 */
/* CreateCollection, names and CreateIndex: each row of the public error sheet with its code and
 * text. */
#include "fake.h"
#include "index/index.h"

typedef struct schema_case {
    const char *schema;
    rk_code code;
    const char *text; /* NULL: accepted */
} schema_case;

#define PK  "id:Int64:pk "
#define VEC "v:FloatVector:dim=4 "

static const schema_case schema_cases[] = {
    {PK VEC, RK_OK, NULL},
    {"id:VarChar:pk:max_length=10 " VEC, RK_OK, NULL},
    {PK "v:SparseFloatVector", RK_OK, NULL},
    {PK "v:BinaryVector:dim=16", RK_OK, NULL},
    {PK VEC "a:Array:of=Int64:max_capacity=4", RK_OK, NULL},
    {PK "1a:Int64 " VEC, RK_EFIELD_NAME,
     "Invalid field name: 1a. The first character of a field name must be an underscore or "
     "letter.: field name "
     "invalid[field=1a]"},
    {PK "a-b:Int64 " VEC, RK_EFIELD_NAME,
     "Field name can only contain numbers, letters, and underscores."},
    {PK "like:Int64 " VEC, RK_EFIELD_NAME, "Invalid field name: like. like is keyword in milvus."},
    {PK "NULL:Int64 " VEC, RK_EFIELD_NAME, "Invalid field name: NULL. NULL is keyword in milvus."},
    {PK "RowID:Int64 " VEC, RK_EFIELD_NAME, "field name \"RowID\" is reserved for internal use"},
    {PK "LIKE:Int64 " VEC, RK_OK, NULL},
    {PK "a:Int64 a:Int64 " VEC, RK_EINVAL, "duplicated field name a found: invalid parameter"},
    {PK, RK_EINVAL, "schema does not contain vector field: invalid parameter"},
    {VEC, RK_EMISSING, "primary key is not specified: missing parameter"},
    {PK "b:Int64:pk " VEC, RK_EINVAL, "there are more than one primary key, field name = id, b"},
    {"id:Float:pk " VEC, RK_EINVAL, "the data type of primary key should be Int64 or VarChar"},
    {"id:Int64:pk:null " VEC, RK_EINVAL, "primary field not support null"},
    {PK "b:Int64:auto " VEC, RK_EINVAL,
     "only primary field can speficy AutoID with true, field name = b"},
    {PK "v:FloatVector", RK_EINVAL,
     "dimension is not defined in field type params of field v, check type param `dim` for vector "
     "field"},
    {PK "v:FloatVector:dim=1", RK_EINVAL, "invalid dimension: 1. should be in range 2 ~ 32768"},
    {PK "v:FloatVector:dim=x", RK_EINVAL, "invalid dimension: x. should be in range 2 ~ 32768"},
    {PK "v:FloatVector:dim=32769", RK_EINVAL,
     "invalid dimension: 32769 of field v. float vector dimension should be in range 2 ~ 32768"},
    {PK "v:BinaryVector:dim=12", RK_EINVAL,
     "invalid dimension: 12 of field v. binary vector dimension should be multiple of 8. : invalid "
     "parameter"},
    {PK "v:BinaryVector:dim=262152", RK_EINVAL,
     "binary vector dimension should be in range 2 ~ 262144"},
    {PK "v:SparseFloatVector:dim=4", RK_EINVAL,
     "dim should not be specified for sparse vector field v(0)"},
    {PK "t:VarChar " VEC, RK_EMISSING,
     "type param(max_length) should be specified for the field(t) of collection x: missing "
     "parameter"},
    {PK "t:VarChar:max_length=65536 " VEC, RK_EINVAL,
     "the maximum length specified for the field(t) should be in (0, 65535], but got 65536 "
     "instead"},
    {PK "t:VarChar:max_length=0 " VEC, RK_EINVAL, "but got 0 instead"},
    {PK "a:Array:of=Int64 " VEC, RK_EMISSING,
     "type param(max_capacity) should be specified for array field a of collection x"},
    {PK "a:Array:of=Int64:max_capacity=4097 " VEC, RK_EINVAL,
     "the maximum capacity specified for a Array should be in (0, 4096]"},
    {PK "a:Array:of=Int64:max_capacity=z " VEC, RK_EINVAL,
     "the value for max_capacity of field a must be an integer"},
    {PK "a:Array:of=JSON:max_capacity=4 " VEC, RK_EINVAL, "element type JSON is not supported"},
    {PK "a:Array:max_capacity=4 " VEC, RK_EINVAL, "element data type None is not valid"},
    {PK "s:String " VEC, RK_EINVAL,
     "string data type not supported yet, please use VarChar type instead"},
    {PK "s:None " VEC, RK_EINVAL, "data type None is not valid"},
    {PK "v:FloatVector:dim=4:null", RK_EINVAL, "vector type not support null"},
    {PK "v:ArrayOfVector:dim=4", RK_EINVAL,
     "array of vector can only be in the struct array field, field name: v"},
    {PK "g:Geometry " VEC, RK_EUNIMPLEMENTED, "data type Geometry of field g is not built in yet"},
    {PK "p:Int64:partition " VEC, RK_EUNIMPLEMENTED, "partition keys are not built in yet"},
    {"id:Int64:pk:partition " VEC, RK_EINVAL, "the partition key field must not be primary field"},
    {PK "p:Int64:partition:null " VEC, RK_EINVAL, "partition key field not support nullable"},
    {PK "p:Float:partition " VEC, RK_EINVAL,
     "the data type of partition key should be Int64 or VarChar"},
};

static void
test_schemas(void **state)
{
    fake *f = *state;

    for (size_t i = 0; i < RK_COUNT(schema_cases); i++) {
        const schema_case *c = &schema_cases[i];
        rk_code code = fake_create(f, "x", fake_schema(f, c->schema, false));
        if (code != c->code) {
            fail_msg("%s: want code %d, got %d \"%s\"", c->schema, (int)c->code, (int)code,
                     f->err.text);
        }
        if (c->text) {
            assert_text(f, c->text);
        }
        pb_milvus_DropCollectionRequest drop = {.collection_name = RK_STR("x")};
        pb_common_Status out = {0};
        must(f, rk__api_drop_collection(fake_req(f), &drop,
                                        &out)); /* succeeds when there is none, too */
    }
}

static void
test_counts(void **state)
{
    fake *f = *state;
    rk_buf text = {0};

    rk_buf_str(&text, RK_STR(PK));
    for (int i = 0; i < 11; i++) {
        rk_buf_printf(&text, "v%d:FloatVector:dim=4 ", i);
    }
    rk_buf_byte(&text, 0);
    assert_int_equal(fake_create(f, "x", fake_schema(f, (const char *)text.data, false)),
                     RK_EINVAL);
    assert_text(f, "maximum vector field's number should be limited to 10: invalid parameter");
    rk_buf_clear(&text);
    rk_buf_str(&text, RK_STR(PK VEC));
    for (int i = 0; i < 255; i++) {
        rk_buf_printf(&text, "f%d:Int64 ", i);
    }
    rk_buf_byte(&text, 0);
    assert_int_equal(fake_create(f, "x", fake_schema(f, (const char *)text.data, false)),
                     RK_EINVAL);
    assert_text(f, "maximum field's number should be limited to 256");
    rk_buf_deinit(&text);
}

static void
test_collection_names(void **state)
{
    static const struct {
        const char *name;
        const char *text;
    } cases[] = {
        {"", "collection name should not be empty: invalid parameter"},
        {"1x", "Invalid collection name: 1x. the first character of a collection name must be an "
               "underscore or letter: "
               "invalid parameter"},
        {" x", "the first character of a collection name must be an underscore or letter"},
        {"x-y", "Invalid collection name: x-y. collection name can only contain numbers, letters "
                "and underscores"},
        {"x\xc3\xa4", "can only contain numbers, letters and underscores"},
    };
    fake *f = *state;
    char longest[257];

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        assert_int_equal(fake_create(f, cases[i].name, fake_schema(f, PK VEC, false)), RK_EINVAL);
        assert_text(f, cases[i].text);
    }
    memset(longest, 'a', sizeof(longest));
    longest[256] = '\0';
    assert_int_equal(fake_create(f, longest, fake_schema(f, PK VEC, false)), RK_EINVAL);
    assert_text(f, "the length of a collection name must be less than 255 characters");
    longest[255] = '\0';
    must(f, fake_create(f, longest, fake_schema(f, PK VEC, false)));
}

static rk_code
create_with(fake *f, pb_milvus_CreateCollectionRequest *in, const char *schema)
{
    pb_common_Status out = {0};

    in->collection_name = RK_STR("x");
    assert_int_equal(pb_encode_arena(&pb_schema_CollectionSchema_desc,
                                     fake_schema(f, schema, false), &in->schema, f->arena),
                     RK_OK);
    return rk__api_create_collection(fake_req(f), in, &out);
}

static void
test_request_rules(void **state)
{
    static const struct {
        const char *properties;
        rk_code code;
        const char *text;
    } cases[] = {
        {"collection.ttl.seconds=-2", RK_EINVAL,
         "collection TTL is out of range, expect [-1, 3155760000], got -2"},
        {"collection.ttl.seconds=60", RK_EUNIMPLEMENTED, "expiry of rows"},
        {"partitionkey.isolation=true", RK_EILLEGAL_SCHEMA,
         "partition key isolation mode is enabled but no partition key field is set"},
        {"query_mode=huge", RK_EINVAL,
         "invalid query_mode value \"huge\", valid values: [large_topk]"},
    };
    fake *f = *state;
    pb_milvus_CreateCollectionRequest shards = {.shards_num = 17};
    pb_milvus_CreateCollectionRequest partitions = {.num_partitions = 3};
    pb_milvus_CreateCollectionRequest db = {.db_name = RK_STR("other")};

    assert_int_equal(create_with(f, &shards, PK VEC), RK_EINVAL);
    assert_text(f, "maximum shards's number should be limited to 16");
    assert_int_equal(create_with(f, &partitions, PK VEC), RK_EINVAL);
    assert_text(f, "num_partitions should only be specified with partition key field enabled");
    assert_int_equal(create_with(f, &db, PK VEC), RK_EDATABASE_NOT_FOUND);
    assert_text(f, "database not found[database=other]");
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        pb_milvus_CreateCollectionRequest in = {.properties = fake_pairs(f, cases[i].properties)};
        assert_int_equal(create_with(f, &in, PK VEC), cases[i].code);
        assert_text(f, cases[i].text);
    }
    pb_milvus_CreateCollectionRequest fine = {
        .properties = fake_pairs(f, "collection.ttl.seconds=0 anything=x")};
    must(f, create_with(f, &fine, PK VEC));
}

static void
test_repeated_creation(void **state)
{
    fake *f = *state;

    must(f, fake_create(f, "x", fake_schema(f, PK VEC, true)));
    must(f, fake_create(f, "x", fake_schema(f, PK VEC, true)));
    assert_int_equal(fake_create(f, "x", fake_schema(f, PK VEC, false)), RK_EINVAL);
    assert_text(f, "create duplicate collection with different parameters, collection: x");
    assert_int_equal(fake_create(f, "x", fake_schema(f, PK "v:FloatVector:dim=8", true)),
                     RK_EINVAL);
    assert_int_equal(fake_create(f, "x", fake_schema(f, PK VEC "t:Int64", true)), RK_EINVAL);
}

static void
test_default_values(void **state)
{
    fake *f = *state;
    pb_schema_CollectionSchema *schema =
        fake_schema(f, PK VEC "t:VarChar:max_length=3 n:Int32 j:JSON", false);
    pb_schema_ValueField text = {.data_case = PB_SCHEMA_ValueField_string_data,
                                 .string_data = RK_STR("abcd")};
    pb_schema_ValueField number = {.data_case = PB_SCHEMA_ValueField_long_data, .long_data = 1};

    schema->fields.data[2]->default_value = &text;
    assert_int_equal(fake_create(f, "x", schema), RK_EINVAL);
    assert_text(
        f,
        "the length (4) of string exceeds max length (3): invalid parameter[expected=valid length "
        "string][actual=string length exceeds max length]");
    schema->fields.data[2]->default_value = NULL;
    schema->fields.data[3]->default_value = &number;
    assert_int_equal(fake_create(f, "x", schema), RK_EINVAL);
    assert_text(
        f, "type (Int32) of field (n) is not equal to the type(DataType_Int64) of default_value");
    schema->fields.data[3]->default_value = NULL;
    schema->fields.data[4]->default_value = &text;
    assert_int_equal(fake_create(f, "x", schema), RK_EINVAL);
    assert_text(f, "type not support default_value, type:JSON");
}

/* ---- indexes ---- */

typedef struct index_case {
    const char *field;
    const char *name;
    const char *params;
    rk_code code;
    const char *text;
} index_case;

#define TAIL ": invalid parameter[expected=valid index params][actual=invalid index params]"

static const index_case index_cases[] = {
    {"nope", "", "index_type=HNSW metric_type=L2", RK_EINVAL,
     "cannot create index on non-exist field: nope"},
    {"v", "1i", "index_type=HNSW metric_type=L2", RK_EINVAL,
     "Invalid index name: 1i. The first character of a index name must be an underscore or "
     "letter."},
    {"v", "", "index_type=FOO metric_type=L2", RK_EINVAL,
     "invalid parameter[expected=valid index][actual=invalid index type: FOO]"},
    {"v", "", "index_type=FOO metric_type=BAD", RK_EINVAL, "invalid index type: FOO"},
    {"v", "", "index_type=HNSW metric_type=HAMMING", RK_EINVAL,
     "float vector index does not support metric type: HAMMING" TAIL},
    {"v", "", "index_type=HNSW metric_type=l2", RK_EINVAL,
     "float vector index does not support metric type: l2" TAIL},
    {"v", "", "index_type=HNSW", RK_EINVAL, "metric type not set for vector index" TAIL},
    {"b", "", "index_type=BIN_FLAT metric_type=L2", RK_EINVAL,
     "binary vector index does not support metric type: L2"},
    {"s", "", "index_type=SPARSE_INVERTED_INDEX metric_type=L2", RK_EINVAL,
     "only IP&BM25 is the supported metric type for sparse index"},
    {"s", "", "index_type=SPARSE_INVERTED_INDEX metric_type=BM25", RK_EINVAL,
     "only BM25 Function output field support BM25 metric type"},
    {"v", "", "index_type=HNSW metric_type=L2 M=1", RK_EINVAL,
     "Out of range in json: param 'M' (1) should be in range"},
    {"v", "", "metric_type=L2 M=8", RK_EINVAL, "only metric type can be passed when use AutoIndex"},
    {"v", "", "index_type=HNSW metric_type=L2 dim=5", RK_EINVAL,
     "dimension mismatch, dimension in schema: 4, dimension: 5"},
    {"v", "", "index_type=HNSW index_type=HNSW", RK_EINVAL,
     "duplicated index param (key=index_type) (value=HNSW) found"},
    {"v", "", "index_type=HNSW metric_type=L2 params={\"metric_type\":\"IP\"}", RK_EINVAL,
     "duplicated index param (key=metric_type) (value=IP) found"},
    {"n", "", "index_type=INVERTED", RK_EUNIMPLEMENTED,
     "index INVERTED on scalar field n is not built in yet"},
    {"n", "", "index_type=HNSW metric_type=L2", RK_EINVAL,
     "index HNSW only supports vector data type"},
    {"n", "", "index_type=FOO", RK_EINVAL, "invalid index type: FOO"},
    {"v", "i1", "index_type=HNSW metric_type=L2 M=8 efConstruction=40", RK_OK, NULL},
    {"v", "i1", "index_type=HNSW metric_type=L2 params={\"M\":8,\"efConstruction\":\"40\"}", RK_OK,
     NULL},
    {"v", "i1", "index_type=HNSW metric_type=L2 M=9 efConstruction=40", RK_EINVAL,
     "CreateIndex failed: at most one distinct index is allowed per field"},
    {"v", "i2", "index_type=HNSW metric_type=L2 M=8 efConstruction=40", RK_EINVAL,
     "CreateIndex failed: creating multiple indexes on same field is not supported"},
    {"b", "i1", "index_type=BIN_FLAT metric_type=HAMMING", RK_EINVAL,
     "at most one distinct index is allowed per field"},
    {"b", "", "", RK_OK, NULL},
    {"b", "", "index_type=AUTOINDEX", RK_OK, NULL},
    {"b", "", "index_type=AUTOINDEX metric_type=JACCARD", RK_EINVAL, "at most one distinct index"},
};

static void
test_indexes(void **state)
{
    fake *f = *state;
    pb_milvus_DescribeIndexRequest ask = {.collection_name = RK_STR("x"),
                                          .index_name = RK_STR("b")};
    pb_milvus_DescribeIndexResponse reply = {0};
    pb_common_Status out = {0};

    must(f, fake_create(
                f, "x",
                fake_schema(f, PK VEC "b:BinaryVector:dim=8 s:SparseFloatVector n:Int64", false)));
    for (size_t i = 0; i < RK_COUNT(index_cases); i++) {
        const index_case *c = &index_cases[i];
        pb_milvus_CreateIndexRequest in = {.collection_name = RK_STR("x"),
                                           .field_name = rk_str_from(c->field),
                                           .index_name = rk_str_from(c->name),
                                           .extra_params = fake_pairs(f, c->params)};
        rk_code code = rk__api_create_index(fake_req(f), &in, &out);
        if (code != c->code) {
            fail_msg("%s %s: want code %d, got %d \"%s\"", c->field, c->params, (int)c->code,
                     (int)code, f->err.text);
        }
        if (c->text) {
            assert_text(f, c->text);
        }
    }
    must(f,
         rk__api_describe_index(fake_req(f), &ask, &reply)); /* AUTOINDEX shows exactly two pairs */
    assert_int_equal(reply.index_descriptions.n, 1);
    assert_int_equal(reply.index_descriptions.data[0]->params.n, 2);
    assert_true(
        rk_str_is(rk__kv_get(&reply.index_descriptions.data[0]->params, "metric_type"), "HAMMING"));
    assert_true(rk_str_is(rk__kv_get(&reply.index_descriptions.data[0]->params, "index_type"),
                          "AUTOINDEX"));
}

static void
test_index_life(void **state)
{
    fake *f = *state;
    pb_milvus_DescribeIndexRequest ask = {.collection_name = RK_STR("c"),
                                          .index_name = RK_STR("zz")};
    pb_milvus_DescribeIndexResponse reply = {0};
    pb_milvus_DropIndexRequest drop = {.collection_name = RK_STR("c"), .index_name = RK_STR("vec")};
    pb_milvus_DropIndexRequest none = {.collection_name = RK_STR("c"), .index_name = RK_STR("zz")};
    pb_milvus_LoadCollectionRequest load = {.collection_name = RK_STR("c")};
    pb_milvus_ReleaseCollectionRequest release = {.collection_name = RK_STR("c")};
    pb_common_Status out = {0};

    fake_collection(f);
    assert_int_equal(rk__api_describe_index(fake_req(f), &ask, &reply), RK_EINDEX_NOT_FOUND);
    assert_text(f, "index not found[indexName=zz]");
    must(f, rk__api_drop_index(fake_req(f), &none, &out));
    assert_int_equal(rk__api_drop_index(fake_req(f), &drop, &out), RK_EINVAL);
    assert_text(f, "vector index cannot be dropped on loaded collection: 1000");
    must(f, rk__api_release_collection(fake_req(f), &release, &out));
    must(f, rk__api_drop_index(fake_req(f), &drop, &out));
    ask.index_name = RK_STR("");
    assert_int_equal(rk__api_describe_index(fake_req(f), &ask, &reply), RK_EINDEX_NOT_FOUND);
    assert_text(f, "index not found[collection=c]");
    assert_int_equal(rk__api_load_collection(fake_req(f), &load, &out), RK_EINDEX_NOT_FOUND);
    assert_text(f, "index not found[collection=c]");
}

static void
test_load(void **state)
{
    fake *f = *state;
    pb_milvus_LoadCollectionRequest load = {.collection_name = RK_STR("x")};
    pb_milvus_GetLoadingProgressRequest ask = {.collection_name = RK_STR("x")};
    pb_milvus_GetLoadingProgressResponse progress = {0};
    pb_milvus_GetLoadStateRequest state_of = {.collection_name = RK_STR("nope")};
    pb_milvus_GetLoadStateResponse answer = {.state = 9};
    pb_milvus_CreateIndexRequest index = {.collection_name = RK_STR("x"),
                                          .field_name = RK_STR("v")};
    pb_common_Status out = {0};

    must(f, fake_create(f, "x",
                        fake_schema(f, PK VEC "w:FloatVector:dim=4 u:FloatVector:dim=4", false)));
    must(f, rk__api_create_index(fake_req(f), &index, &out));
    assert_int_equal(rk__api_load_collection(fake_req(f), &load, &out), RK_EINVAL);
    assert_text(
        f,
        "there is no vector index on field: [w u], please create index firstly: invalid parameter");
    assert_int_equal(rk__api_loading_progress(fake_req(f), &ask, &progress),
                     RK_ECOLLECTION_NOT_LOADED);
    assert_text(f, "collection not loaded[collection=x]");
    must(f, rk__api_load_state(fake_req(f), &state_of, &answer));
    assert_int_equal(answer.state, PB_COMMON_LoadState_LoadStateNotExist);
    index.field_name = RK_STR("w");
    must(f, rk__api_create_index(fake_req(f), &index, &out));
    index.field_name = RK_STR("u");
    must(f, rk__api_create_index(fake_req(f), &index, &out));
    must(f, rk__api_load_collection(fake_req(f), &load, &out));
    must(f, rk__api_loading_progress(fake_req(f), &ask, &progress));
    assert_int_equal(progress.progress, 100);
    load.replica_number = 2;
    assert_int_equal(rk__api_load_collection(fake_req(f), &load, &out), RK_ENOT_SUPPORTED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_schemas, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_counts, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_collection_names, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_request_rules, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_repeated_creation, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_default_values, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_indexes, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_index_life, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_load, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
