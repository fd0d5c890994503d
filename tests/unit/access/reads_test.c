/* SPDX-License-Identifier: Apache-2.0 */
/* Search and query: parameters, vectors, consistency, and the shape of results. */
#include <math.h>

#include "access/search.h"
#include "fake.h"

static const float query_vector[] = {1, 0, 0, 0};

static pb_milvus_SearchRequest
search_of(fake *f, const char *params)
{
    return (pb_milvus_SearchRequest){
        .collection_name = RK_STR("c"),
        .search_params = fake_pairs(f, params),
        .search_input_case = PB_MILVUS_SearchRequest_placeholder_group,
        .placeholder_group = fake_placeholder(f, 101, query_vector, sizeof(query_vector), 1)};
}

typedef struct search_case {
    const char *params;
    rk_code code;
    const char *text;
} search_case;

static const search_case search_cases[] = {
    {"topk=10", RK_OK, NULL},
    {"topk=10 params={\"ef\":50,\"params\":{\"ef\":60}} metric_type=L2", RK_OK, NULL},
    {"", RK_EINVAL, "topk is required"},
    {"topk=0", RK_EINVAL,
     "topk [0] is invalid, it should be in range [1, 16384], but got 0: invalid parameter"},
    {"topk=16385", RK_EINVAL,
     "topk [16385] is invalid, it should be in range [1, 16384], but got 16385"},
    {"topk=16384 offset=1", RK_EINVAL,
     "offset+topk [16385] is invalid, it should be in range [1, 16384], but got 16385"},
    {"topk=1 offset=-1", RK_EINVAL,
     "offset [-1] is invalid, it should be in range [1, 16384], but got -1"},
    {"topk=1 round_decimal=7", RK_EINVAL,
     "round_decimal [7] is invalid, should be -1 or an integer in range [0, 6]"},
    {"topk=1 metric_type=IP", RK_EINVAL,
     "metric type not match: invalid parameter[expected=L2][actual=IP]"},
    {"topk=1 ignore_growing=maybe", RK_EINVAL, "parse ignore growing field failed"},
    {"topk=1 anns_field=zz", RK_EINVAL,
     "failed to create query plan: failed to get field schema by name: fieldName(zz) not found: "
     "invalid parameter"},
    {"topk=1 anns_field=t", RK_EINVAL, "field (t) to search is not of vector data type"},
    {"topk=1 params={", RK_EINVAL, "search params in wrong format"},
    {"topk=1 params={\"range_filter\":1}", RK_EINVAL,
     "range_filter requires radius to be set; range_filter alone is not a valid range search "
     "parameter"},
    {"topk=1 params={\"radius\":1,\"range_filter\":2}", RK_ESEGCORE,
     "metric type (L2), range_filter(2) must be less than radius(1)"},
    {"topk=1 params={\"radius\":\"x\"}", RK_ESEGCORE, "type must be number"},
    {"topk=1 params={\"hints\":\"zz\"}", RK_ESEGCORE, "not supported"},
    {"topk=1 params={\"hints\":\"iterative_filter\"}", RK_OK, NULL},
    {"topk=1 group_by_field=t", RK_EUNIMPLEMENTED,
     "grouping search (group_by_field) is not built in yet"},
    {"topk=1 order_by_fields=t:asc", RK_EUNIMPLEMENTED, "order_by_fields"},
    {"topk=1 collection_id=3", RK_EINVAL, "collection id:3 in the request is not consistent"},
    {"topk=1 search_iter_v2=True", RK_EINVAL,
     "parse iterator v2 info failed: both iterator and search_iter_v2 must be set in the SDK"},
    {"topk=1 iterator=True search_iter_v2=True", RK_EINVAL,
     "parse iterator v2 info failed: batch size is required"},
    {"topk=1 iterator=True search_iter_v2=True search_iter_batch_size=5 search_iter_id=zz",
     RK_EINVAL, "parse iterator v2 info failed: invalid token format"},
};

static void
test_search_params(void **state)
{
    fake *f = *state;
    pb_milvus_SearchResults out = {0};

    fake_collection(f);
    for (size_t i = 0; i < RK_COUNT(search_cases); i++) {
        pb_milvus_SearchRequest in = search_of(f, search_cases[i].params);
        rk_code code = rk__api_search(fake_req(f), &in, &out);
        if (code != search_cases[i].code) {
            fail_msg("%s: code %d \"%s\"", search_cases[i].params, (int)code, f->err.text);
        }
        if (search_cases[i].text) {
            assert_text(f, search_cases[i].text);
        }
    }
    pb_milvus_SearchRequest in =
        search_of(f, "topk=7 offset=2 "
                     "params={\"ef\":50,\"params\":{\"ef\":60},\"radius\":9,\"range_filter\":1}");
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_int_equal(f->search->topk, 9);
    assert_int_equal(f->search->offset, 2);
    assert_int_equal(f->search->metric, RK_METRIC_L2);
    assert_int_equal(f->search->field_id, 101);
    assert_true(rk_str_is(rk__kv_get(&f->search->params, "ef"), "60"));
    assert_true(f->search->range && f->search->has_range_filter);
    assert_true(fabsf(f->search->radius - 9) < 1e-6f);
}

static void
test_search_vectors(void **state)
{
    fake *f = *state;
    pb_milvus_SearchResults out = {0};
    float nan_vector[4] = {1, NAN, 0, 0};
    pb_milvus_SearchRequest in;

    fake_collection(f);
    in = search_of(f, "topk=1");
    in.placeholder_group = fake_placeholder(f, 101, query_vector, 12, 1);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_ESEGCORE);
    assert_text(f, "vector dimension mismatch, expected vector size(byte) 16, actual 12.");
    in.placeholder_group = fake_placeholder(f, 102, query_vector, 8, 1);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_ESEGCORE);
    assert_text(
        f,
        "vector type must be the same, field vec - type FloatVector, search ph type Float16Vector");
    in.placeholder_group = fake_placeholder(f, 101, nan_vector, sizeof(nan_vector), 1);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "value 'NaN' is not a number or infinity");
    in.placeholder_group = fake_placeholder(f, 101, query_vector, 16, 0);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "nq [0] is invalid, nq (number of search vector per search request) should be "
                   "in range [1, 16384], "
                   "but got 0");
    in.placeholder_group = RK_STR("\xff");
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    in = search_of(f, "topk=1");
    f->read_fails = RK_ECOLLECTION_NOT_LOADED;
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_ECOLLECTION_NOT_LOADED);
    assert_text(f, "failed to search: collection not loaded[collection=c]");
}

static void
test_half_conversion(void **state)
{
    fake *f = *state;
    pb_milvus_SearchResults out = {0};
    float huge[4] = {1, 70000, 0, 0};

    must(f, fake_create(
                f, "c",
                fake_schema(f, "id:Int64:pk h:Float16Vector:dim=4 s:SparseFloatVector", false)));
    pb_milvus_SearchRequest in = search_of(f, "topk=1");
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "multiple anns_fields exist, please specify a anns_field in search_params");
    in = search_of(f, "topk=1 anns_field=h");
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_int_equal(f->search->queries.data[0].len, 8);
    assert_memory_equal(f->search->queries.data[0].data, "\x00\x3c\0\0\0\0\0\0", 8);
    in.placeholder_group = fake_placeholder(f, 101, huge, sizeof(huge), 1);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "exceeds float16 range [-65504, 65504]");
    in = search_of(f, "topk=1 anns_field=s");
    in.placeholder_group =
        fake_placeholder(f, 104, "\x05\0\0\0\0\0\x80\x3f\x05\0\0\0\0\0\x80\x3f", 16, 1);
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "Invalid sparse row: id should be strict ascending");
}

static void
set_hits(fake *f, size_t n, const int64_t *ids, const float *scores, const uint32_t *counts,
         size_t queries)
{
    pb_schema_FieldData *column = fake_i64(f, "id", ids, n);
    pb_schema_IDs *keys = RK_ARENA_NEW(f->arena, pb_schema_IDs);
    uint32_t *c = RK_ARENA_ARRAY(f->arena, uint32_t, queries + 1);

    memcpy(c, counts, queries * sizeof(*c));
    keys->id_field_case = PB_SCHEMA_IDs_int_id;
    keys->int_id = column->scalars->long_data;
    f->search_reply = (pb_rk_SearchResponse){.counts = {c, queries},
                                             .scores = {(const uint8_t *)scores, n},
                                             .ids = keys,
                                             .read_ts = 4711};
}

static void
test_search_results(void **state)
{
    fake *f = *state;
    static const float scores[] = {0.123456f, 0.75f, 1.5f};
    static const int64_t ids[] = {3, 1, 2};
    static const uint32_t counts[] = {2, 0, 1};
    static const uint32_t none[] = {0, 0};
    pb_milvus_SearchResults out = {0};

    fake_collection(f);
    set_hits(f, 3, ids, scores, counts, 3);
    pb_milvus_SearchRequest in = search_of(f, "topk=2 round_decimal=2");
    in.placeholder_group = fake_placeholder(f, 101, query_vector, 16, 3);
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_true(rk_str_is(out.results->primary_field_name, "id"));
    assert_int_equal(out.results->num_queries, 3);
    assert_int_equal(out.results->topks.n, 3);
    assert_int_equal(out.results->topks.data[1], 0);
    assert_true(fabsf(pb_f32_at(out.results->scores, 0) - 0.12f) < 1e-6f);
    assert_int_equal(out.results->fields_data.n, 0); /* keys and scores only */
    assert_int_equal(out.session_ts, 0);
    set_hits(f, 0, ids, scores, none, 2);
    rk_str star = RK_STR("*");
    in.output_fields = (pb_strs){&star, 1};
    out = (pb_milvus_SearchResults){0};
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_int_equal(out.results->topks.n, 2); /* zeros, not an empty list */
    assert_non_null(out.results->ids);
    assert_int_equal(out.results->fields_data.n, 4); /* empty columns are there */
    assert_int_equal(out.results->output_fields.n, 4);
}

static void
test_iterator(void **state)
{
    fake *f = *state;
    static const float scores[] = {0.5f, 0.75f};
    static const int64_t ids[] = {3, 1};
    static const uint32_t counts[] = {2};
    pb_milvus_SearchResults out = {0};

    fake_collection(f);
    set_hits(f, 2, ids, scores, counts, 1);
    pb_milvus_SearchRequest in =
        search_of(f, "topk=1 iterator=True search_iter_v2=True search_iter_batch_size=2");
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_int_equal(out.session_ts, 4711);
    const pb_schema_SearchIteratorV2Results *page = out.results->search_iterator_v2_results;
    assert_int_equal(page->token.len, RK__TOKEN_LEN);
    assert_true(fabsf(page->last_bound - 0.75f) < 1e-6f);
    in = search_of(f, "topk=1 iterator=True search_iter_v2=True search_iter_batch_size=2 "
                      "search_iter_last_bound=0.75 "
                      "search_iter_id=00000000-1111-2222-3333-444444444444");
    in.guarantee_timestamp = 4711;
    out = (pb_milvus_SearchResults){0};
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_true(f->search->range && f->search->has_range_filter);
    assert_true(f->search->range_filter > 0.75f); /* strictly worse than the bound */
    assert_true(isinf(f->search->radius));
    assert_int_equal(f->search->scope->read_ts, 4711);
    assert_true(rk_str_is(out.results->search_iterator_v2_results->token,
                          "00000000-1111-2222-3333-444444444444"));
    assert_int_equal(out.session_ts, 0);
}

static void
test_consistency(void **state)
{
    fake *f = *state;
    static const struct {
        bool use_default;
        int32_t level;
        uint64_t sent;
        uint64_t want; /* 0: a fresh timestamp; 1: anything; 2: near now */
    } cases[] = {
        {false, 0, 0, 0},     {false, 0, 1, 1},     {false, 0, 2, 2},
        {false, 0, 999, 999}, {false, 1, 999, 999}, {false, 2, 0, 2},
        {false, 3, 0, 1},     {true, 0, 1, 0},      {false, 4, 999, 999},
    };
    pb_milvus_SearchResults out = {0};

    fake_collection(f);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        pb_milvus_SearchRequest in = search_of(f, "topk=1");
        in.use_default_consistency = cases[i].use_default;
        in.consistency_level = cases[i].level;
        in.guarantee_timestamp = cases[i].sent;
        must(f, rk__api_search(fake_req(f), &in, &out));
        uint64_t got = f->search->scope->guarantee_ts;
        bool ok = cases[i].want == 0   ? got == f->time - 1
                  : cases[i].want == 2 ? got >> 18 > UINT64_C(1600000000000)
                                       : got == cases[i].want;
        if (!ok) {
            fail_msg("case %zu: guarantee %llu", i, (unsigned long long)got);
        }
    }
    pb_milvus_SearchRequest far = search_of(f, "topk=1");
    far.guarantee_timestamp = UINT64_MAX;
    assert_int_equal(rk__api_search(fake_req(f), &far, &out), RK_EINVAL);
    assert_text(f, "timestamp lag too large");
}

static void
test_search_by_ids(void **state)
{
    fake *f = *state;
    static const float vectors[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t stored[] = {1, 2};
    int64_t asked[] = {2, 1};
    int64_t unknown[] = {2, 9};
    int64_t twice[] = {2, 2};
    rk_str texts[] = {RK_STR("a")};
    pb_schema_LongArray longs = {{asked, 2}};
    pb_schema_StringArray strings = {{texts, 1}};
    pb_schema_IDs ids = {.id_field_case = PB_SCHEMA_IDs_int_id, .int_id = &longs};
    pb_schema_IDs wrong = {.id_field_case = PB_SCHEMA_IDs_str_id, .str_id = &strings};
    pb_milvus_SearchResults out = {0};

    fake_collection(f);
    pb_schema_FieldData *columns[] = {fake_i64(f, "id", stored, 2),
                                      fake_f32(f, "vec", 4, vectors, 2)};
    columns[0]->field_id = 100;
    columns[1]->field_id = 101;
    pb_schema_IDs keys = {.id_field_case = PB_SCHEMA_IDs_int_id,
                          .int_id = columns[0]->scalars->long_data};
    f->query_reply = (pb_rk_QueryResponse){.fields = {columns, 2}, .rows = 2, .keys = &keys};
    pb_milvus_SearchRequest in = search_of(f, "topk=1");
    in.search_input_case = PB_MILVUS_SearchRequest_ids;
    in.ids = &ids;
    must(f, rk__api_search(fake_req(f), &in, &out));
    assert_int_equal(f->search->queries.n, 2);
    assert_memory_equal(f->search->queries.data[0].data, vectors + 4, 16); /* in the order asked */
    longs.data.data = unknown;
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "some of the provided primary key IDs do not exist: missing IDs = [9]");
    longs.data.data = twice;
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "duplicate IDs found in search request");
    in.ids = &wrong;
    assert_int_equal(rk__api_search(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "primary key is int64, but IDs type mismatch: invalid parameter[expected=int64 "
                   "IDs][actual=got other "
                   "type]");
}

/* ---- query ---- */

typedef struct query_case {
    const char *expr;
    const char *params;
    const char *output;
    rk_code code;
    const char *text;
} query_case;

static const query_case query_cases[] = {
    {"id > 0", "", "", RK_OK, NULL},
    {"", "limit=5", "*", RK_OK, NULL},
    {"", "", "count(*)", RK_OK, NULL},
    {"", "", " COUNT(*) ", RK_OK, NULL},
    {"", "", "", RK_EINVAL, "empty expression should be used with limit: invalid parameter"},
    {"", "limit=5", "count(*)", RK_EINVAL, "count entities with pagination is not allowed"},
    {"", "limit=0", "", RK_EINVAL,
     "invalid max query result window, limit [0] is invalid, should be greater than 0"},
    {"", "limit=5 offset=-1", "", RK_EINVAL,
     "invalid max query result window, offset [-1] is invalid, should be gte than 0"},
    {"", "limit=16384 offset=1", "", RK_EINVAL,
     "invalid max query result window, (offset+limit) should be in range [1, 16384], but got "
     "16385"},
    {"", "limit=abc", "", RK_EINVAL, "limit [abc] is invalid"},
    {"id > 0", "", "sum(*)", RK_EINVAL, "sum(*) is not supported, only count(*) is allowed"},
    {"id > 0", "", "sum(id)", RK_EUNIMPLEMENTED, "aggregates other than count(*)"},
    {"id > 0", "", "a b", RK_EINVAL, "parse output field name failed: a b"},
    {"id > 0", "order_by_fields=id", "", RK_EUNIMPLEMENTED, "order_by_fields"},
    {"id > 0", "group_by_fields=id", "", RK_EUNIMPLEMENTED, "group_by_fields"},
    {"id > 0", "collection_id=3", "", RK_EINVAL,
     "Input collection id is not consistent to collectionID in the context"},
};

static void
test_query_rules(void **state)
{
    fake *f = *state;

    fake_collection(f);
    for (size_t i = 0; i < RK_COUNT(query_cases); i++) {
        const query_case *c = &query_cases[i];
        rk_str output = rk_str_from(c->output);
        pb_milvus_QueryRequest in = {.collection_name = RK_STR("c"),
                                     .expr = rk_str_from(c->expr),
                                     .query_params = fake_pairs(f, c->params),
                                     .output_fields = {&output, output.len > 0 ? 1 : 0}};
        pb_milvus_QueryResults out = {0};
        rk_code code = rk__api_query(fake_req(f), &in, &out);
        if (code != c->code) {
            fail_msg("%s %s %s: code %d \"%s\"", c->expr, c->params, c->output, (int)code,
                     f->err.text);
        }
        if (c->text) {
            assert_text(f, c->text);
        } else {
            assert_true(out.fields_data.n > 0); /* columns even without rows */
            assert_true(rk_str_is(out.primary_field_name, "id"));
        }
    }
    rk_str partition = RK_STR("p1");
    pb_milvus_QueryRequest in = {.collection_name = RK_STR("c"),
                                 .expr = RK_STR("id > 0"),
                                 .partition_names = {&partition, 1}};
    pb_milvus_QueryResults out = {0};
    assert_int_equal(rk__api_query(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "partition name p1 not found");
    partition = RK_STR("_default");
    must(f, rk__api_query(fake_req(f), &in, &out));
    assert_int_equal(f->query->scope->partition_ids.data[0], 5);
}

static void
test_static_output(void **state)
{
    fake *f = *state;
    rk_str output = RK_STR("nope");
    pb_milvus_QueryRequest in = {
        .collection_name = RK_STR("x"), .expr = RK_STR("id > 0"), .output_fields = {&output, 1}};
    pb_milvus_QueryResults out = {0};

    must(f, fake_create(f, "x", fake_schema(f, "id:Int64:pk vec:FloatVector:dim=4", false)));
    assert_int_equal(rk__api_query(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "field nope not exist: invalid parameter");
}

static void
test_dynamic_output(void **state)
{
    fake *f = *state;
    static const int64_t ids[] = {1, 2};
    const char *meta[] = {"{\"a\":1,\"b\":[2]}", "{\"b\":\"x\"}"};
    rk_str outputs[] = {RK_STR("a"), RK_STR("t")};
    const char *texts[] = {"x", "y"};
    bool valid[] = {true, true};
    pb_milvus_QueryResults out = {0};

    fake_collection(f);
    pb_schema_FieldData *columns[] = {fake_i64(f, "id", ids, 2), fake_texts(f, "t", texts, 2),
                                      fake_json(f, meta, 2)};
    columns[0]->field_id = 100;
    columns[1]->field_id = 102;
    columns[1]->valid_data = (pb_bools){valid, 2};
    columns[2]->field_id = 103;
    f->query_reply = (pb_rk_QueryResponse){.fields = {columns, 3}, .rows = 2};
    pb_milvus_QueryRequest in = {
        .collection_name = RK_STR("c"), .expr = RK_STR("id > 0"), .output_fields = {outputs, 2}};
    must(f, rk__api_query(fake_req(f), &in, &out));
    assert_int_equal(out.fields_data.n, 3);
    const pb_schema_FieldData *dynamic = out.fields_data.data[1];
    assert_true(dynamic->is_dynamic);
    assert_true(rk_str_is(dynamic->field_name, "$meta"));
    assert_true(rk_str_is(dynamic->scalars->json_data->data.data[0], "{\"a\":1}"));
    assert_true(rk_str_is(dynamic->scalars->json_data->data.data[1], "{}"));
    assert_int_equal(out.output_fields.n, 3); /* a, t, and the key; not $meta */
    assert_true(rk_str_is(out.output_fields.data[0], "a"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_search_params, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_search_vectors, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_half_conversion, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_search_results, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_iterator, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_consistency, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_search_by_ids, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_query_rules, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_static_output, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_dynamic_output, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
