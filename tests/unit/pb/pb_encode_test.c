/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding, copying, and what the generated tables say.
 */
#include "pb_test_private.h"
#include "proto/internal.pb.h"
#include "proto/milvus.pb.h"
#include "proto/testing.pb.h"

static void
test_exact_bytes(void **state)
{
    static const char want[] = "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" /* a_int32 = -1 */
                               "\x30\x01"                                     /* a_sint32 = -1 */
                               "\x65\x00\x00\x00\x80"                         /* a_float = -0.0 */
                               "\x8a\x01\x00"                                 /* a_message, empty */
                               "\xfa\x01\x02\x01\x00"                         /* r_bool */
                               "\xfa\x02\x00\xfa\x02\x00"      /* r_message, one of them NULL */
                               "\xa8\x1f\x00"                  /* c_bool = false */
                               "\xea\x2b\x04\x0a\x00\x12\x00"; /* m_text, empty key and value */
    pb_testing_All empty = {0};
    pb_testing_All *messages[] = {&empty, NULL};
    bool bools[] = {true, false};
    pb_testing_All_m_text_entry entry = {0};
    pb_testing_All_m_text_entry *entries[] = {&entry};
    /* clang-format off */
    pb_testing_All all = {.a_int32 = -1, .a_sint32 = -1, .a_float = -0.0f, .a_message = &empty, .r_bool = {bools, 2},
                          .r_message = {messages, 2}, .choice_case = PB_TESTING_All_c_bool, .m_text = {entries, 1}};
    /* clang-format on */
    rk_buf out = {0};

    RK_UNUSED(state);
    rk_buf_str(&out, RK_STR("kept"));
    assert_int_equal(pb_encode(&pb_testing_All_desc, &all, &out), RK_OK);
    assert_int_equal(out.len, 4 + sizeof(want) - 1);
    assert_memory_equal(out.data, "kept", 4);
    assert_memory_equal(out.data + 4, want, sizeof(want) - 1);
    rk_buf_deinit(&out);
}

/* More nested messages than fit the sizes kept on the stack, three deep, each of several lengths of
 * length. */
static void
test_many_sizes(void **state)
{
    enum { N = 3000 };
    static char text[20000];
    rk_arena *arena = rk_arena_new(0);
    rk_str bytes;
    void *back;

    RK_UNUSED(state);
    pb_testing_All all = {0};
    all.r_message.data = RK_ARENA_ARRAY(arena, pb_testing_All *, N);
    all.r_message.n = N;
    for (size_t i = 0; i < N; i++) {
        pb_testing_All *one = RK_ARENA_NEW(arena, pb_testing_All);
        one->a_string = (rk_str){text, i % 50 == 0 ? sizeof(text) : i % 200};
        one->a_message = RK_ARENA_NEW(arena, pb_testing_All);
        one->a_message->a_message = RK_ARENA_NEW(arena, pb_testing_All);
        one->a_message->a_message->a_int64 = (int64_t)i;
        all.r_message.data[i] = one;
    }
    assert_int_equal(pb_encode_arena(&pb_testing_All_desc, &all, &bytes, arena), RK_OK);
    assert_int_equal(bytes.len, pb_encoded_size(&pb_testing_All_desc, &all));
    assert_int_equal(pb_decode(&pb_testing_All_desc, &back, bytes, arena, NULL), RK_OK);
    const pb_testing_All *got = back;
    assert_int_equal(got->r_message.n, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(got->r_message.data[i]->a_string.len, all.r_message.data[i]->a_string.len);
        assert_int_equal(got->r_message.data[i]->a_message->a_message->a_int64, i);
    }
    rk_arena_free(arena);
}

static void
test_cycle_is_refused(void **state)
{
    pb_testing_All all = {0};
    rk_arena *arena = rk_arena_new(0);
    rk_buf out = {0};
    rk_str text;
    void *copy;

    RK_UNUSED(state);
    all.a_message = &all;
    assert_int_equal(pb_encode(&pb_testing_All_desc, &all, &out), RK_EINVAL);
    assert_int_equal(out.len, 0);
    assert_int_equal(pb_encode_arena(&pb_testing_All_desc, &all, &text, arena), RK_EINVAL);
    assert_int_equal(pb_encoded_size(&pb_testing_All_desc, &all), 0);
    assert_int_equal(pb_copy(&pb_testing_All_desc, &copy, &all, arena), RK_EINVAL);
    assert_null(copy);
    rk_arena_free(arena);
}

static void
test_copy_borrows_nothing(void **state)
{
    char text[] = "hello", second[] = "bytes";
    uint8_t floats[8] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0x40};
    int64_t numbers[] = {1, -2};
    rk_str strings[] = {{text, 5}, {NULL, 0}, {second, 5}};
    pb_testing_Other other = {.int_ = 9};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    pb_testing_All all = {.a_string = {text, 5},
                          .r_float = {floats, 2},
                          .r_int64 = {numbers, 2},
                          .r_string = {strings, 3},
                          .choice_case = PB_TESTING_All_c_other,
                          .c_other = &other,
                          .second_case = PB_TESTING_All_s_bytes,
                          .s_bytes = {second, 5}};
    assert_int_equal(pb_copy(&pb_testing_All_desc, &out, &all, arena), RK_OK);
    memset(text, 'x', 5);
    memset(second, 'x', 5);
    memset(floats, 0, sizeof(floats));
    memset(numbers, 0, sizeof(numbers));
    memset(strings, 0, sizeof(strings));
    other.int_ = 0;
    const pb_testing_All *copy = out;
    assert_true(rk_str_is(copy->a_string, "hello"));
    assert_true(pb_f32_at(copy->r_float, 0) == 1.0f && pb_f32_at(copy->r_float, 1) == 2.0f);
    assert_int_equal(copy->r_int64.data[1], -2);
    assert_true(rk_str_is(copy->r_string.data[0], "hello") &&
                rk_str_is(copy->r_string.data[2], "bytes"));
    assert_int_equal(copy->c_other->int_, 9);
    assert_true(rk_str_is(copy->s_bytes, "bytes"));
    rk_arena_free(arena);
}

static void
test_tables(void **state)
{
    RK_UNUSED(state);
    assert_string_equal(pb_name(&pb_milvus_SearchRequest_desc),
                        "milvus.proto.milvus.SearchRequest");
    assert_int_equal(pb_sizeof(&pb_milvus_SearchRequest_desc), sizeof(pb_milvus_SearchRequest));
    assert_int_equal(PB_COMMON_ErrorCode_DDRequestRace, 1000);
    assert_int_equal(pb_milvus_MilvusService_service.methods_len, PB_MILVUS_MilvusService_METHODS);
    const pb_method_desc *search =
        &pb_milvus_MilvusService_service.methods[PB_MILVUS_MilvusService_Search];
    assert_string_equal(search->path, "/milvus.proto.milvus.MilvusService/Search");
    assert_ptr_equal(search->input, &pb_milvus_SearchRequest_desc);
    assert_ptr_equal(search->output, &pb_milvus_SearchResults_desc);
    const pb_method_desc *stream =
        &pb_milvus_MilvusService_service.methods[PB_MILVUS_MilvusService_CreateReplicateStream];
    assert_true(stream->client_streaming && stream->server_streaming);
    assert_false(search->client_streaming || search->server_streaming);
}

int
pb_encode_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_bytes),      cmocka_unit_test(test_many_sizes),
        cmocka_unit_test(test_cycle_is_refused), cmocka_unit_test(test_copy_borrows_nothing),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests_name("pb_encode", tests, NULL, NULL);
}
