/* SPDX-License-Identifier: Apache-2.0 */
/* Insert, upsert, delete: what is refused, what is completed, how rows are split, and the retry on
 * a stale cache. */
#include <math.h>

#include "fake.h"

static const float four[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

static pb_milvus_InsertRequest
insert_of(fake *f, size_t rows, size_t columns, ...)
{
    pb_milvus_InsertRequest in = {.collection_name = RK_STR("c"), .num_rows = (uint32_t)rows};
    va_list args;

    in.fields_data.data = RK_ARENA_ARRAY(f->arena, pb_schema_FieldData *, columns + 1);
    va_start(args, columns);
    for (size_t i = 0; i < columns; i++) {
        in.fields_data.data[in.fields_data.n++] = va_arg(args, pb_schema_FieldData *);
    }
    va_end(args);
    return in;
}

static const pb_schema_FieldData *
appended(const fake *f, size_t batch, const char *name)
{
    const pb_rk_RowBatch *b = f->append->inserts.data[batch];
    for (size_t i = 0; i < b->fields.n; i++) {
        if (rk_str_is(b->fields.data[i]->field_name, name)) {
            return b->fields.data[i];
        }
    }
    fail_msg("no column %s in the append", name);
    return NULL;
}

static void
test_completion(void **state)
{
    fake *f = *state;
    int64_t ids[] = {7, 8};
    pb_milvus_MutationResult out = {0};

    fake_collection(f);
    pb_milvus_InsertRequest in =
        insert_of(f, 2, 2, fake_i64(f, "id", ids, 2), fake_f32(f, "vec", 4, four, 2));
    must(f, rk__api_insert(fake_req(f), &in, &out));
    assert_int_equal(out.insert_cnt, 2);
    assert_int_equal(out.timestamp, 555);
    assert_int_equal(out.succ_index.n, 2);
    assert_int_equal(out.IDs->int_id->data.data[1], 8);
    assert_int_equal(f->append->inserts.n, 1);
    assert_int_equal(f->append->inserts.data[0]->partition_id, 5);
    assert_int_equal(f->append->inserts.data[0]->fields.n,
                     4); /* all of the schema: t null, $meta {} */
    assert_int_equal(appended(f, 0, "t")->valid_data.n, 2);
    assert_false(appended(f, 0, "t")->valid_data.data[0]);
    assert_true(rk_str_is(appended(f, 0, "$meta")->scalars->json_data->data.data[1], "{}"));
    assert_true(appended(f, 0, "$meta")->is_dynamic);
    assert_int_equal(appended(f, 0, "vec")->field_id, 101);
}

static void
test_refusals(void **state)
{
    fake *f = *state;
    int64_t ids[] = {7, 8};
    const char *texts[] = {"short", "far too long"};
    const char *meta_bad[] = {"{\"vec\":1}", "{}"};
    const char *meta_self[] = {"{\"$meta\":1}", "{}"};
    float bad[8] = {0};
    bad[5] = NAN;
    pb_milvus_MutationResult out = {0};

    fake_collection(f);
    pb_schema_FieldData *id = fake_i64(f, "id", ids, 2);
    pb_schema_FieldData *vec = fake_f32(f, "vec", 4, four, 2);
    struct {
        pb_milvus_InsertRequest in;
        rk_code code;
        const char *text;
    } cases[] = {
        {insert_of(f, 0, 2, id, vec), RK_EINVAL,
         "num_rows should be greater than 0: invalid parameter[expected=invalid "
         "num_rows][actual=0]"},
        {insert_of(f, 2, 1, vec), RK_EINVAL,
         "fieldSchema(id) has no corresponding fieldData pass in: invalid parameter"},
        {insert_of(f, 2, 1, id), RK_EINVAL,
         "fieldSchema(vec) has no corresponding fieldData pass in"},
        {insert_of(f, 2, 3, id, id, vec), RK_EINVAL, "duplicated field id found"},
        {insert_of(f, 2, 3, id, vec, fake_i64(f, "zz", ids, 2)), RK_EINVAL,
         "more fieldData has pass in"},
        {insert_of(f, 3, 2, id, vec), RK_EINVAL,
         "the num_rows (2) of field (id) is not equal to passed num_rows (3): invalid "
         "parameter[expected=3][actual=2]"},
        {insert_of(f, 2, 3, id, vec, fake_texts(f, "t", texts, 2)), RK_EINVAL,
         "length of varchar field t exceeds max length, row number: 1, length: 12, max length: 8"},
        {insert_of(f, 2, 2, id, fake_f32(f, "vec", 4, bad, 2)), RK_EINVAL,
         "value 'NaN' is not a number or infinity"},
        {insert_of(f, 2, 2, id, fake_f32(f, "vec", 8, four, 2)), RK_EINVAL,
         "the dim (8) of field data(vec) is not equal to schema dim (4)"},
        {insert_of(f, 2, 2, id, fake_i64(f, "vec", ids, 2)), RK_EINVAL,
         "float vector field 'vec' is illegal, array type mismatch: invalid "
         "parameter[expected=need float "
         "vector][actual=got nil]"},
        {insert_of(f, 2, 3, id, vec, fake_json(f, meta_bad, 2)), RK_EINVAL,
         "dynamic field name cannot include the static field name: vec"},
        {insert_of(f, 2, 3, id, vec, fake_json(f, meta_self, 2)), RK_EINVAL,
         "cannot set json key to: $meta"},
    };
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_code code = rk__api_insert(fake_req(f), &cases[i].in, &out);
        if (code != cases[i].code) {
            fail_msg("case %zu: code %d \"%s\"", i, (int)code, f->err.text);
        }
        assert_text(f, cases[i].text);
    }
    pb_milvus_InsertRequest in = insert_of(f, 2, 2, id, vec);
    in.partition_name = RK_STR("p1");
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out), RK_EPARTITION_NOT_FOUND);
    assert_text(f, "partition not found[partition=p1]");
    in.partition_name = RK_STR("");
    in.schema_timestamp = 76;
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out), RK_ESCHEMA_MISMATCH);
    assert_text(f, "collection schema mismatch[collection=c]");
    in.schema_timestamp = 77;
    must(f, rk__api_insert(fake_req(f), &in, &out));
    assert_int_equal(f->appends, 1); /* no refused request had an effect */
}

static void
test_auto_id(void **state)
{
    fake *f = *state;
    int64_t ids[] = {7, 8};
    pb_milvus_MutationResult out = {0};
    pb_milvus_UpsertRequest up = {.collection_name = RK_STR("c"), .num_rows = 2};

    must(f, fake_create(
                f, "c",
                fake_schema(f, "id:VarChar:pk:auto:max_length=40 vec:FloatVector:dim=4", false)));
    pb_milvus_InsertRequest in = insert_of(f, 2, 1, fake_f32(f, "vec", 4, four, 2));
    must(f, rk__api_insert(fake_req(f), &in, &out));
    assert_true(rk_str_is(out.IDs->str_id->data.data[1], "1001"));
    const char *keys[] = {"a", "b"};
    in = insert_of(f, 2, 2, fake_texts(f, "id", keys, 2), fake_f32(f, "vec", 4, four, 2));
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "can not assign primary field data when auto id enabled and "
                   "allow_insert_auto_id is false id");
    up.fields_data = in.fields_data;
    out = (pb_milvus_MutationResult){0};
    must(f, rk__api_upsert(fake_req(f), &up,
                           &out)); /* old rows go by the keys sent, new keys come back */
    assert_true(rk_str_is(f->append->deletes.data[0]->keys->str_id->data.data[0], "a"));
    assert_false(rk_str_is(out.IDs->str_id->data.data[0], "a"));
    assert_int_equal(out.upsert_cnt, 2);
    in = insert_of(f, 2, 2, fake_i64(f, "$meta", ids, 2), fake_f32(f, "vec", 4, four, 2));
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out), RK_EINVAL);
    assert_text(f, "without dynamic schema enabled, the field name cannot be set to $meta");
}

static void
test_shards(void **state)
{
    fake *f = *state;
    int64_t ids[4] = {1, 2, 3, 4};
    pb_milvus_CreateCollectionRequest create = {.collection_name = RK_STR("c"), .shards_num = 3};
    pb_common_Status status = {0};
    pb_milvus_MutationResult out = {0};
    size_t rows = 0;

    must(f, pb_encode_arena(&pb_schema_CollectionSchema_desc,
                            fake_schema(f, "id:Int64:pk vec:FloatVector:dim=4", false),
                            &create.schema, f->arena));
    must(f, rk__api_create_collection(fake_req(f), &create, &status));
    pb_milvus_InsertRequest in =
        insert_of(f, 4, 2, fake_i64(f, "id", ids, 4), fake_f32(f, "vec", 4, four, 4));
    must(f, rk__api_insert(fake_req(f), &in, &out));
    for (size_t b = 0; b < f->append->inserts.n; b++) {
        const pb_rk_RowBatch *batch = f->append->inserts.data[b];
        const pb_i64s *keys = &appended(f, b, "id")->scalars->long_data->data;
        const pb_fixed *values = &appended(f, b, "vec")->vectors->float_vector->data;
        assert_int_equal(keys->n, batch->rows);
        for (size_t i = 0; i < keys->n; i++) {
            uint32_t shard = rk_pk_shard((rk_pk){.number = keys->data[i]}, 3);
            char channel[16];
            snprintf(channel, sizeof(channel), "ch%u", shard);
            assert_true(rk_str_is(batch->channel, channel));
            assert_true(pb_f32_at(*values, i * 4 + (size_t)keys->data[i] - 1) >
                        0.5f); /* values moved along */
        }
        rows += batch->rows;
    }
    assert_int_equal(rows, 4);
}

static void
test_upsert(void **state)
{
    fake *f = *state;
    int64_t twice[] = {7, 7};
    int64_t ids[] = {7, 8};
    pb_milvus_MutationResult out = {0};

    fake_collection(f);
    pb_milvus_InsertRequest in =
        insert_of(f, 2, 2, fake_i64(f, "id", twice, 2), fake_f32(f, "vec", 4, four, 2));
    pb_milvus_UpsertRequest up = {
        .collection_name = RK_STR("c"), .num_rows = 2, .fields_data = in.fields_data};
    assert_int_equal(rk__api_upsert(fake_req(f), &up, &out), RK_EINVAL);
    assert_text(f, "duplicate primary keys are not allowed in the same batch");
    in = insert_of(f, 2, 1, fake_f32(f, "vec", 4, four, 2));
    up.fields_data = in.fields_data;
    assert_int_equal(rk__api_upsert(fake_req(f), &up, &out), RK_EINVAL);
    assert_text(f, "must assign pk when upsert, primary field: id");
    in = insert_of(f, 2, 2, fake_i64(f, "id", ids, 2), fake_f32(f, "vec", 4, four, 2));
    up.fields_data = in.fields_data;
    must(f, rk__api_upsert(fake_req(f), &up, &out));
    assert_int_equal(f->append->deletes.data[0]->keys->int_id->data.n, 2);
    assert_int_equal(f->append->inserts.data[0]->rows, 2);
    assert_int_equal(out.upsert_cnt, 2);
    assert_int_equal(out.insert_cnt, 2);
}

static void
test_partial_update(void **state)
{
    fake *f = *state;
    int64_t ids[] = {7, 8};
    int64_t stored_ids[] = {8};
    const char *texts[] = {"x", "y"};
    const char *fresh_meta[] = {"{\"a\":1}", "{\"a\":2}"};
    const char *stored_meta[] = {"{\"a\":9,\"b\":3}"};
    const char *stored_text[] = {"old"};
    pb_milvus_MutationResult out = {0};

    fake_collection(f);
    pb_schema_FieldData *stored[] = {
        fake_i64(f, "id", stored_ids, 1), fake_f32(f, "vec", 4, four + 4, 1),
        fake_texts(f, "t", stored_text, 1), fake_json(f, stored_meta, 1)};
    for (size_t i = 0; i < 4; i++) {
        stored[i]->field_id = (int64_t)(100 + i);
    }
    bool valid = true;
    stored[2]->valid_data = (pb_bools){&valid, 1};
    pb_schema_IDs keys = {.id_field_case = PB_SCHEMA_IDs_int_id,
                          .int_id = stored[0]->scalars->long_data};
    f->query_reply = (pb_rk_QueryResponse){.fields = {stored, 4}, .rows = 1, .keys = &keys};
    pb_milvus_InsertRequest in =
        insert_of(f, 2, 3, fake_i64(f, "id", ids, 2), fake_texts(f, "t", texts, 2),
                  fake_json(f, fresh_meta, 2));
    pb_milvus_UpsertRequest up = {.collection_name = RK_STR("c"),
                                  .num_rows = 2,
                                  .fields_data = in.fields_data,
                                  .partial_update = true};
    assert_int_equal(rk__api_upsert(fake_req(f), &up, &out),
                     RK_EINVAL); /* 7 is new and has no vector */
    assert_text(f, "fieldSchema(vec) has no corresponding fieldData pass in");
    int64_t only[] = {8};
    in = insert_of(f, 1, 3, fake_i64(f, "id", only, 1), fake_texts(f, "t", texts, 1),
                   fake_json(f, fresh_meta, 1));
    up.fields_data = in.fields_data;
    up.num_rows = 1;
    must(f, rk__api_upsert(fake_req(f), &up, &out));
    assert_true(pb_f32_at(appended(f, 0, "vec")->vectors->float_vector->data, 1) > 0.5f);
    assert_true(rk_str_is(appended(f, 0, "t")->scalars->string_data->data.data[0], "x"));
    assert_true(
        rk_str_is(appended(f, 0, "$meta")->scalars->json_data->data.data[0], "{\"b\":3,\"a\":1}"));
    f->read_fails = RK_ECOLLECTION_NOT_LOADED;
    assert_int_equal(rk__api_upsert(fake_req(f), &up, &out), RK_ECOLLECTION_NOT_LOADED);
    assert_text(f, "failed to query: collection not loaded");
}

static void
test_delete(void **state)
{
    fake *f = *state;
    int64_t found[] = {1, 2, 3};
    pb_milvus_MutationResult out = {0};
    static const struct {
        const char *expr;
        const char *text;
    } bad[] = {
        {"", "delete plan can't be empty or always true : "},
        {"  ", "delete plan can't be empty or always true : "},
        {"1 == 1", "delete plan can't be empty or always true : 1 == 1"},
        {"id ==", "failed to create delete plan: cannot parse expression: id =="},
    };

    fake_collection(f);
    for (size_t i = 0; i < RK_COUNT(bad); i++) {
        pb_milvus_DeleteRequest in = {.collection_name = RK_STR("c"),
                                      .expr = rk_str_from(bad[i].expr)};
        assert_int_equal(rk__api_delete(fake_req(f), &in, &out), RK_EINVAL);
        assert_text(f, bad[i].text);
    }
    pb_milvus_DeleteRequest by_key = {.collection_name = RK_STR("c"),
                                      .expr = RK_STR("id in [5, 6]")};
    must(f, rk__api_delete(fake_req(f), &by_key, &out));
    assert_int_equal(out.delete_cnt, 2);
    assert_null(f->query); /* written without reading */
    pb_schema_FieldData *ids = fake_i64(f, "id", found, 3);
    pb_schema_IDs keys = {.id_field_case = PB_SCHEMA_IDs_int_id, .int_id = ids->scalars->long_data};
    f->query_reply = (pb_rk_QueryResponse){.rows = 3, .keys = &keys};
    pb_milvus_DeleteRequest by_filter = {.collection_name = RK_STR("c"),
                                         .expr = RK_STR("t == \"x\"")};
    must(f, rk__api_delete(fake_req(f), &by_filter, &out));
    assert_int_equal(out.delete_cnt, 3);
    assert_int_equal(f->append->deletes.data[0]->keys->int_id->data.n, 3);
    assert_true(f->query->scope->guarantee_ts >= 1000); /* strong: a fresh timestamp */
    by_filter.partition_name = RK_STR("p");
    assert_int_equal(rk__api_delete(fake_req(f), &by_filter, &out), RK_EPARTITION_NOT_FOUND);
    assert_text(f, "Failed to get partition id: partition not found[partition=p]");
}

static void
test_stale_cache(void **state)
{
    fake *f = *state;
    int64_t ids[] = {7};
    pb_milvus_MutationResult out = {0};

    fake_collection(f);
    pb_milvus_InsertRequest in =
        insert_of(f, 1, 2, fake_i64(f, "id", ids, 1), fake_f32(f, "vec", 4, four, 1));
    must(f, rk__api_insert(fake_req(f), &in, &out));
    uint64_t described = f->describes;
    must(f, rk__api_insert(fake_req(f), &in, &out));
    assert_int_equal(f->describes, described); /* from the cache */
    f->append_fails = RK_ESCHEMA_MISMATCH;
    must(f, rk__api_insert(fake_req(f), &in, &out)); /* asked again, once */
    assert_int_equal(f->describes, described + 1);
    assert_int_equal(f->appends, 4);
    f->revision++;
    must(f, rk__api_insert(fake_req(f), &in, &out));
    assert_int_equal(f->describes, described + 2);
    f->append_fails = RK_EIO;
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out),
                     RK_EIO); /* other failures are not repeated */
    assert_int_equal(f->appends, 6);
    f->collections_len = 0;
    f->revision++;
    assert_int_equal(rk__api_insert(fake_req(f), &in, &out), RK_ECOLLECTION_NOT_FOUND);
    assert_text(f, "collection not found[database=default][collection=c]");
    assert_true(f->err.input);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_completion, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_auto_id, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_shards, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_upsert, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_partial_update, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_delete, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_stale_cache, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
