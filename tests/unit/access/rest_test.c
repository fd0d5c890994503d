/* SPDX-License-Identifier: Apache-2.0 */
/* REST handlers over fakes: decoding rules, rows of every type, and the JSON that comes back. */
#include "fake.h"

typedef struct answer {
    rk_code code;
    char text[8192];
} answer;

static answer
call(fake *f, rk__rest_fn handler, const char *body, bool text_int64)
{
    rk_buf out = {0};
    answer a = {0};
    rk__rest r = {.w = {.out = &out}, .text_int64 = text_int64, .request = "Request"};

    r.req = *fake_req(f);
    r.body = rk_json_root(rk_str_from(body));
    assert_int_equal(rk_json_check(rk_str_from(body), RK_JSON_OBJECT_ONLY, &f->err), RK_OK);
    a.code = handler(&r);
    if (a.code == RK_OK) {
        assert_int_equal(rk_json_check(rk_buf_view(&out), 0, &f->err),
                         RK_OK); /* answers are JSON */
        assert_true(out.len < sizeof(a.text));
        memcpy(a.text, out.data, out.len);
    } else {
        snprintf(a.text, sizeof(a.text), "%s", f->err.text);
    }
    rk_buf_deinit(&r.missing);
    rk_buf_deinit(&out);
    return a;
}

static void
check(fake *f, rk__rest_fn handler, const char *body, rk_code code, const char *text)
{
    answer a = call(f, handler, body, false);
    if (a.code != code || !strstr(a.text, text)) {
        fail_msg("%s: code %d, %s; want code %d, %s", body, (int)a.code, a.text, (int)code, text);
    }
}

static void
test_create(void **state)
{
    fake *f = *state;
    static const struct {
        const char *body;
        rk_code code;
        const char *text;
    } cases[] = {
        {"{}", RK_EREST_MISSING,
         "missing required parameters, error: Key: 'CollectionReq.CollectionName' Error:Field "
         "validation for "
         "'CollectionName' failed on the 'required' tag"},
        {"{\"collectionName\":1}", RK_EREST_BODY,
         "can only accept json format request, error: key collectionName"},
        {"{\"collectionName\":\"a\"}", RK_EINVAL,
         "dimension is required for quickly create collection(default metric type: COSINE)"},
        {"{\"collectionName\":\"a\",\"dimension\":4,\"idType\":\"Int32\"}", RK_EINVAL,
         "idType can only be [Int64, VarChar], default: Int64"},
        {"{\"collectionName\":\"a\",\"dimension\":4,\"vectorFieldType\":\"SparseFloatVector\"}",
         RK_EINVAL, "dimension should not be specified for SparseFloatVector quick create"},
        {"{\"collectionName\":\"a\",\"dimension\":4,\"vectorFieldType\":\"x\"}", RK_EINVAL,
         "vectorFieldType can only be"},
        {"{\"collectionName\":\"a\",\"dimension\":4,\"consistencyLevel\":\"x\"}", RK_EINVAL,
         "consistencyLevel can only be [Strong, Session, Bounded, Eventually, Customized], "
         "default: Bounded, err:"},
        {"{\"collectionName\":\"a\",\"schema\":{\"fields\":[{\"fieldName\":\"id\",\"dataType\":"
         "\"int64\"}]}}",
         RK_EINVAL, "data type int64 is invalid(case sensitive)."},
        {"{\"COLLECTIONNAME\":\"a\",\"dimension\":4}", RK_OK, "{\"code\":0,\"data\":{}}"},
        {"{\"collectionName\":\"b\",\"schema\":{\"enableDynamicField\":true,\"fields\":[{"
         "\"fieldName\":\"id\","
         "\"dataType\":\"Int64\",\"isPrimary\":true},{\"fieldName\":\"v\",\"dataType\":"
         "\"FloatVector\","
         "\"elementTypeParams\":{\"dim\":\"4\"}},{\"fieldName\":\"n\",\"dataType\":\"Int32\","
         "\"defaultValue\":\"x\"}]}}",
         RK_EINVAL, "convert defaultValue fail, err:"},
        {"{\"collectionName\":\"b\",\"schema\":{\"fields\":[{\"fieldName\":\"id\",\"dataType\":"
         "\"Int64\","
         "\"isPrimary\":true},{\"fieldName\":\"v\",\"dataType\":\"FloatVector\","
         "\"elementTypeParams\":{\"dim\":4}}]},"
         "\"indexParams\":[{\"fieldName\":\"zz\",\"metricType\":\"L2\"}]}",
         RK_EREST_MISSING, "`zz` hasn't defined in schema"},
    };

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check(f, rk__rest_collections_create, cases[i].body, cases[i].code, cases[i].text);
    }
    assert_int_equal(f->load_state, PB_COMMON_LoadState_LoadStateLoaded); /* the quick form loads */
    check(f, rk__rest_collections_describe, "{\"collectionName\":\"a\"}", RK_OK,
          "\"indexes\":[{\"indexName\":\"vector\",\"fieldName\":\"vector\",\"metricType\":"
          "\"COSINE\"}]");
    check(f, rk__rest_collections_describe, "{\"collectionName\":\"a\"}", RK_OK,
          "\"enableDynamicField\":true");
    check(f, rk__rest_collections_describe, "{\"collectionName\":\"zz\"}", RK_ECOLLECTION_NOT_FOUND,
          "can't find collection[database=default][collection=zz]");
    check(f, rk__rest_collections_has, "{\"collectionName\":\"zz\"}", RK_OK,
          "{\"code\":0,\"data\":{\"has\":false}}");
    check(f, rk__rest_collections_list, "{}", RK_OK, "{\"code\":0,\"data\":[\"a\",\"b\"]}");
    check(f, rk__rest_collections_stats, "{\"collectionName\":\"a\"}", RK_OK, "{\"rowCount\":12}");
    check(f, rk__rest_collections_load_state, "{\"collectionName\":\"a\"}", RK_OK,
          "{\"code\":0,\"data\":{\"loadState\":\"LoadStateLoaded\",\"loadProgress\":100},"
          "\"message\":\"\"}");
    check(f, rk__rest_collections_load_state, "{\"collectionName\":\"zz\"}",
          RK_ECOLLECTION_NOT_FOUND, "not found");
    check(f, rk__rest_indexes_list, "{\"collectionName\":\"b\"}", RK_OK,
          "{\"code\":0,\"data\":[]}");
    check(f, rk__rest_indexes_describe, "{\"collectionName\":\"b\",\"indexName\":\"x\"}",
          RK_EINDEX_NOT_FOUND, "index not found[indexName=x]");
    check(f, rk__rest_indexes_create,
          "{\"collectionName\":\"b\",\"indexParams\":[{\"fieldName\":\"v\",\"indexName\":\"i\","
          "\"metricType\":\"L2\","
          "\"indexType\":\"HNSW\",\"params\":{\"M\":8}}]}",
          RK_OK, "{}");
    check(f, rk__rest_indexes_list, "{\"collectionName\":\"b\"}", RK_OK, "[\"i\"]");
    check(f, rk__rest_collections_flush, "{\"collectionName\":\"b\"}", RK_OK,
          "{\"code\":0,\"data\":{}}");
    check(f, rk__rest_partitions_has, "{\"collectionName\":\"b\",\"partitionName\":\"_default\"}",
          RK_OK, "true");
    check(f, rk__rest_collections_drop, "{\"collectionName\":\"zz\"}", RK_OK,
          "{\"code\":0,\"data\":{}}");
}

#define ALL_TYPES                                                                                  \
    "id:Int64:pk b:Bool i8:Int8 i16:Int16 i32:Int32 f:Float d:Double "                             \
    "t:VarChar:max_length=20:null j:JSON:null "                                                    \
    "a:Array:of=Int64:max_capacity=5:null ax:Array:of=VarChar:max_capacity=5:max_length=5:null "   \
    "v:FloatVector:dim=2 h:Float16Vector:dim=2 bf:BFloat16Vector:dim=2 bin:BinaryVector:dim=16 "   \
    "i:Int8Vector:dim=2 "                                                                          \
    "s:SparseFloatVector"
#define ROW_START                                                                                  \
    "\"b\":true,\"i8\":-5,\"i16\":300,\"i32\":\"70000\",\"f\":1.5,\"d\":\"2.25\",\"v\":[1,2.5],"   \
    "\"h\":[1,2],"                                                                                 \
    "\"bf\":\"gD8AQA==\",\"bin\":[1,255],\"i\":[-1,5],\"s\":{\"7\":0.5,\"3\":1}"

/* What went in as rows comes back as rows when the columns of the append are read. */
static void
test_rows(void **state)
{
    fake *f = *state;

    must(f, fake_create(f, "x", fake_schema(f, ALL_TYPES, true)));
    check(
        f, rk__rest_entities_insert,
        "{\"collectionName\":\"x\",\"data\":[{\"id\":9007199254740993," ROW_START
        ",\"t\":\"\\u00e9\",\"j\":{\"k\":[1]},\"a\":[1,2],\"ax\":[\"p\",\"q\"],\"extra\":"
        "12345678901234567890},"
        "{\"id\":\"010\"," ROW_START ",\"t\":null}]}",
        RK_OK,
        "{\"code\":0,\"cost\":0,\"data\":{\"insertCount\":2,\"insertIds\":[9007199254740993,10]}}");
    pb_rk_RowBatch *batch = f->append->inserts.data[0];
    pb_schema_IDs keys = {.id_field_case = PB_SCHEMA_IDs_int_id,
                          .int_id = batch->fields.data[0]->scalars->long_data};
    f->query_reply = (pb_rk_QueryResponse){.fields = batch->fields, .rows = 2, .keys = &keys};
    check(f, rk__rest_entities_get, "{\"collectionName\":\"x\",\"id\":[1]}", RK_OK,
          "{\"id\":9007199254740993,\"b\":true,\"i8\":-5,\"i16\":300,\"i32\":70000,\"f\":1.5,\"d\":"
          "2.25,\"t\":\"\xc3\xa9\","
          "\"j\":{\"k\":[1]},\"a\":[1,2],\"ax\":[\"p\",\"q\"],\"v\":[1,2.5],\"h\":\"ADwAQA==\","
          "\"bf\":\"gD8AQA==\","
          "\"bin\":\"Af8=\",\"i\":\"/"
          "wU=\",\"s\":{\"3\":1,\"7\":0.5},\"extra\":12345678901234567890}");
    check(f, rk__rest_entities_get, "{\"collectionName\":\"x\",\"id\":[1]}", RK_OK,
          "\"t\":null,\"j\":null,\"a\":null,\"ax\":null");
    answer a = call(f, rk__rest_entities_get,
                    "{\"collectionName\":\"x\",\"id\":1,\"outputFields\":[\"*\"]}", true);
    assert_non_null(strstr(a.text, "{\"id\":\"9007199254740993\""));
    assert_non_null(strstr(a.text, "\"a\":[\"1\",\"2\"]"));
}

static void
test_row_errors(void **state)
{
    fake *f = *state;
    static const struct {
        const char *data;
        const char *text;
    } cases[] = {
        {"[]", "fail to deal the insert data, error: missing required parameters"},
        {"[5]", "row 0 is no object"},
        {"[{\"vec\":[1,2,3,4]}]", "field id is required: missing parameter"},
        {"[{\"id\":1,\"vec\":[1,2,3]}]", "dimension: 4, but length of []float: 3: invalid "
                                         "parameter[expected=FloatVector][actual=[1,2,3]]"},
        {"[{\"id\":1,\"vec\":\"AAAA\"}]", "a vector must be an array of numbers"},
        {"[{\"id\":1.5,\"vec\":[1,2,3,4]}]", "row 0: 1.5 is no value for field id of type Int64"},
        {"[{\"id\":null,\"vec\":[1,2,3,4]}]", "field id is not nullable"},
        {"[{\"id\":1,\"vec\":[1,2,3,4],\"t\":[1]}]", "is no value for field t of type VarChar"},
        {"[{\"id\":1,\"vec\":[1,2,3,4]},{\"vec\":[1,2,3,4]}]",
         "field id is required: missing parameter: 1 of 2 rows"},
        {"[{\"id\":1,\"vec\":[1,2,3,4],\"$meta\":{}}]", "use of $meta as a key is not allowed"},
    };
    char body[512];

    fake_collection(f);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        snprintf(body, sizeof(body), "{\"collectionName\":\"c\",\"data\":%s}", cases[i].data);
        check(f, rk__rest_entities_insert, body, RK_EREST_INSERT_DATA, cases[i].text);
    }
    must(f, fake_create(f, "plain", fake_schema(f, "id:Int64:pk vec:FloatVector:dim=4", false)));
    check(f, rk__rest_entities_insert,
          "{\"collectionName\":\"plain\",\"data\":[{\"id\":1,\"vec\":[1,2,3,4],\"more\":1}]}",
          RK_EREST_INSERT_DATA, "has pass more field without dynamic schema, please check it");
    assert_null(f->append);
}

static void
test_search(void **state)
{
    fake *f = *state;
    static const int64_t ids[] = {3, 1};
    static const float scores[] = {0.5f, 0.75f};
    uint32_t counts[] = {1, 1};

    fake_collection(f);
    pb_schema_FieldData *keys = fake_i64(f, "id", ids, 2);
    pb_schema_IDs list = {.id_field_case = PB_SCHEMA_IDs_int_id,
                          .int_id = keys->scalars->long_data};
    f->search_reply = (pb_rk_SearchResponse){
        .counts = {counts, 2}, .scores = {(const uint8_t *)scores, 2}, .ids = &list};
    check(f, rk__rest_entities_search,
          "{\"collectionName\":\"c\",\"data\":[[1,0,0,0],[0,1,0,0]],\"limit\":5,\"offset\":1,"
          "\"filter\":\"id in {x}\","
          "\"exprParams\":{\"x\":[1,2]},\"searchParams\":{\"ef\":50,\"params\":{\"ef\":50.0,\"q\":"
          "2}}}",
          RK_OK,
          "{\"code\":0,\"cost\":0,\"data\":[{\"distance\":0.5,\"id\":3},{\"distance\":0.75,\"id\":"
          "1}],\"topks\":[1,1]}");
    assert_int_equal(f->search->topk, 6);
    assert_int_equal(f->search->queries.n, 2);
    assert_true(rk_str_is(rk__kv_get(&f->search->params, "q"), "2"));
    assert_int_equal(f->search->predicate->templates.n, 1);
    static const struct {
        const char *body;
        rk_code code;
        const char *text;
    } cases[] = {
        {"{\"collectionName\":\"c\"}", RK_EREST_MISSING,
         "either 'ids' (for primary key search) or 'data'"},
        {"{\"collectionName\":\"c\",\"data\":[[1,2]]}", RK_EREST_BODY,
         "dimension: 4, but length of []float: 2"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"ids\":[1]}", RK_EINVAL,
         "mutually exclusive"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"annsField\":\"t\"}", RK_EREST_BODY,
         "cannot find a vector field"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"limit\":0}", RK_EINVAL,
         "topk [0] is invalid"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"searchParams\":{\"k\":1,\"params\":{"
         "\"k\":2}}}",
         RK_EINVAL, "ambiguous parameter: k, in search_param: 1, in search_param.params: 2"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"searchParams\":{\"params\":1}}",
         RK_EINVAL, "searchParams.params must be a dict"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"groupingField\":\"t\"}",
         RK_EUNIMPLEMENTED, "groupingField"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"groupSize\":2}", RK_EINVAL,
         "groupSize and strictGroupSize require groupingField"},
        {"{\"collectionName\":\"zz\",\"data\":[[1,0,0,0]]}", RK_ECOLLECTION_NOT_FOUND,
         "can't find collection"},
        {"{\"collectionName\":\"c\",\"dbName\":\"zz\",\"data\":[[1,0,0,0]]}",
         RK_EDATABASE_NOT_FOUND, "database not found[database=zz]"},
        {"{\"collectionName\":\"c\",\"data\":[[1,0,0,0]],\"exprParams\":{\"x\":null}}", RK_EINVAL,
         "expression template parameter x"},
    };
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check(f, rk__rest_entities_search, cases[i].body, cases[i].code, cases[i].text);
    }
    f->search_reply = (pb_rk_SearchResponse){.counts = {(uint32_t[]){0}, 1}};
    check(f, rk__rest_entities_search, "{\"collectionName\":\"c\",\"data\":[[1,0,0,0]]}", RK_OK,
          "{\"code\":0,\"cost\":0,\"data\":[]}"); /* no topks */
}

static void
test_query_and_delete(void **state)
{
    fake *f = *state;

    fake_collection(f);
    f->query_reply.count = 7;
    check(f, rk__rest_entities_query, "{\"collectionName\":\"c\",\"outputFields\":[\"count(*)\"]}",
          RK_OK, "\"data\":[{\"count(*)\":7}]");
    check(f, rk__rest_entities_query,
          "{\"collectionName\":\"c\",\"outputFields\":[\"count(*)\"],\"limit\":5}", RK_EINVAL,
          "count entities with pagination is not allowed");
    check(f, rk__rest_entities_query, "{\"collectionName\":\"c\"}", RK_OK, "\"data\":[]");
    assert_int_equal(f->query->limit, 100);
    assert_int_equal(f->query->output_field_ids.n, 4); /* everything by default */
    check(f, rk__rest_entities_query, "{\"collectionName\":\"c\",\"orderByFields\":[\"t\"]}",
          RK_EUNIMPLEMENTED, "orderByFields");
    check(f, rk__rest_entities_get, "{\"collectionName\":\"c\",\"id\":[]}", RK_OK, "\"data\":[]");
    check(f, rk__rest_entities_get, "{\"collectionName\":\"c\",\"id\":[true]}", (rk_code)-1806,
          "please check the primary key");
    check(f, rk__rest_entities_get, "{\"collectionName\":\"c\"}", RK_EREST_MISSING,
          "CollectionIDReq.Id");
    check(f, rk__rest_entities_delete, "{\"collectionName\":\"c\",\"id\":1}", RK_EREST_MISSING,
          "Filter");
    check(f, rk__rest_entities_delete,
          "{\"collectionName\":\"c\",\"filter\":\"id in {k}\",\"exprParams\":{\"k\":[4,5]}}", RK_OK,
          "{\"code\":0,\"data\":{\"deleteCount\":2}}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_rows, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_row_errors, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_search, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_query_and_delete, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
