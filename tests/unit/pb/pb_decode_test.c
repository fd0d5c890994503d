/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding: what is refused and how, what merges, what is not copied, and behaviour when memory
 * runs out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pb_test_private.h"
#include "proto/milvus.pb.h"
#include "proto/testing.pb.h"

static rk_code
decode(const pb_message_desc *desc, void **out, rk_buf *bytes, rk_arena *arena, rk_err *err)
{
    return pb_decode(desc, out, rk_buf_view(bytes), arena, err);
}

/* ---- malformed input ---- */

typedef struct bad_case {
    const char *what;
    const char *bytes;
    size_t len;
    const char *text; /* must stand in the sentence */
} bad_case;

#define BAD(what, bytes, text)                                                                     \
    {                                                                                              \
        what, bytes, sizeof(bytes) - 1, text                                                       \
    }

/* Against redkite.testing.All. */
static const bad_case bad_cases[] = {
    BAD("tag cut short", "\x80", "expected a tag"),
    BAD("field number 0", "\x00\x00", "expected a tag"),
    BAD("tag of more than 32 bits", "\xf8\xff\xff\xff\xff\x01\x00", "expected a tag"),
    BAD("varint cut short", "\x10\xff", "All.a_int32 at byte 1"),
    BAD("varint of 11 bytes", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "All.a_int64"),
    BAD("varint of 65 bits", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "All.a_int64"),
    BAD("varint field sent as bytes", "\x0a\x00", "All.a_bool at byte 1 of 2: the wire type"),
    BAD("string sent as varint", "\x70\x01", "All.a_string"),
    BAD("message sent as fixed64", "\x89\x01\x01\x01\x01\x01\x01\x01\x01\x01", "All.a_message"),
    BAD("fixed32 cut short", "\x45\x01\x02\x03", "All.a_fixed32"),
    BAD("length past the end", "\x72\x05\x61",
        "All.a_string at byte 2 of 3: the length reaches past"),
    BAD("huge length", "\x72\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "All.a_string"),
    BAD("packed floats of odd length", "\xd2\x02\x03\x01\x02\x03", "All.r_float"),
    BAD("packed varints cut short", "\x8a\x02\x02\x01\x80", "All.r_int64"),
    BAD("packed varints without an end", "\x8a\x02\x02\x80\x80", "All.r_int64"),
    BAD("repeated float sent as varint", "\xd0\x02\x01", "All.r_float"),
    BAD("wire type 6", "\x86\x7d\x00", "wire types 6 and 7"),
    BAD("wire type 7", "\x87\x7d\x00", "wire types 6 and 7"),
    BAD("group without end", "\x83\x7d\x08\x01", "a group is not ended"),
    BAD("end without group", "\x84\x7d", "was not begun"),
    BAD("end of another group", "\x83\x7d\x8c\x7d", "was not begun"),
    BAD("unknown fixed64 cut short", "\x81\x7d\x01\x02", "cut short"),
    BAD("mistake inside a message", "\x8a\x01\x02\x10\xff", "All.a_int32 at byte 4 of 5"),
};

static void
test_malformed(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(bad_cases); i++) {
        const bad_case *c = &bad_cases[i];
        rk_arena *arena = rk_arena_new(0);
        rk_err err = {0};
        void *out = arena;
        rk_code code =
            pb_decode(&pb_testing_All_desc, &out, (rk_str){c->bytes, c->len}, arena, &err);
        if (code != RK_EINVAL || !strstr(err.text, c->text)) {
            fail_msg("%s: code %d, text '%s'", c->what, (int)code, err.text);
        }
        assert_null(out);
        rk_arena_free(arena);
    }
}

static void
test_accepted_oddities(void **state)
{
    /* a padded varint, an unknown group with content, an unknown field of each kind, an empty
     * packed list */
    static const char bytes[] = "\x10\x85\x80\x00"
                                "\x83\x7d\x08\x01\x93\x7d\x94\x7d\x12\x01\x61\x84\x7d"
                                "\x81\x7d\x01\x02\x03\x04\x05\x06\x07\x08"
                                "\x85\x7d\x01\x02\x03\x04"
                                "\x80\x7d\x96\x01"
                                "\x82\x7d\x02\x61\x62"
                                "\xd2\x02\x00\x8a\x02\x00";
    rk_arena *arena = rk_arena_new(0);
    rk_err err = {0};
    void *out;

    RK_UNUSED(state);
    if (pb_decode(&pb_testing_All_desc, &out, (rk_str){bytes, sizeof(bytes) - 1}, arena, &err) !=
        RK_OK) {
        fail_msg("%s", err.text);
    }
    const pb_testing_All *all = out;
    assert_int_equal(all->a_int32, 5);
    assert_int_equal(all->r_float.n, 0);
    assert_int_equal(pb_encoded_size(&pb_testing_All_desc, all), 2);
    rk_arena_free(arena);
}

/* ---- depth ---- */

static void
nest(rk_buf *buf, uint32_t number, uint32_t levels)
{
    rk_buf inside = {0};

    for (uint32_t i = 0; i < levels; i++) {
        rk_buf outside = {0};
        put_bytes(&outside, number, inside.data, inside.len);
        rk_buf_deinit(&inside);
        inside = outside;
    }
    *buf = inside;
}

/* FieldData.struct_arrays (8) and StructArrayField.fields (1) in turn. */
static void
test_depth_bomb(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    rk_err err = {0};
    void *out;

    RK_UNUSED(state);
    for (uint32_t i = 0; i < 5000; i++) {
        rk_buf outside = {0};
        put_bytes(&outside, i % 2 ? 8 : 1, bytes.data, bytes.len);
        rk_buf_deinit(&bytes);
        bytes = outside;
    }
    assert_int_equal(decode(&pb_schema_FieldData_desc, &out, &bytes, arena, &err), RK_EINVAL);
    assert_non_null(strstr(err.text, "nested deeper than 64"));
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

static void
test_depth_edge(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    rk_buf bytes;
    void *out;

    RK_UNUSED(state);
    nest(&bytes, 17, PB_DEPTH_MAX - 1); /* with the outermost one 64 messages */
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    assert_int_equal(pb_encoded_size(&pb_testing_All_desc, out), bytes.len);
    void *copy;
    assert_int_equal(pb_copy(&pb_testing_All_desc, &copy, out, arena), RK_OK);
    rk_buf_deinit(&bytes);

    nest(&bytes, 17, PB_DEPTH_MAX);
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_EINVAL);
    rk_buf_deinit(&bytes);

    for (uint32_t groups = PB_DEPTH_MAX - 1; groups <= PB_DEPTH_MAX; groups++) {
        rk_buf open = {0};
        for (uint32_t i = 0; i < groups; i++) {
            put_tag(&open, 2000, 3);
        }
        for (uint32_t i = 0; i < groups; i++) {
            put_tag(&open, 2000, 4);
        }
        rk_code code = decode(&pb_testing_All_desc, &out, &open, arena, NULL);
        assert_int_equal(code, groups < PB_DEPTH_MAX ? RK_OK : RK_EINVAL);
        rk_buf_deinit(&open);
    }
    rk_arena_free(arena);
}

/* ---- merging ---- */

static void
test_oneof_last_wins(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    put_bytes(&bytes, 504, "text", 4);      /* c_string */
    put_bytes(&bytes, 505, "\x10\x07", 2);  /* c_message.a_int32 = 7 */
    put_bytes(&bytes, 505, "\x72\x01z", 3); /* merges: a_string = z */
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    const pb_testing_All *all = out;
    assert_int_equal(all->choice_case, PB_TESTING_All_c_message);
    assert_int_equal(all->c_message->a_int32, 7);
    assert_true(rk_str_is(all->c_message->a_string, "z"));

    put_bytes(&bytes, 506, "\x08\x01", 2); /* c_other */
    put_bytes(&bytes, 505, "\x18\x01", 2); /* c_message again: a new one */
    put_tag(&bytes, 501, 0);
    put_varint(&bytes, 1);
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    all = out;
    assert_int_equal(all->choice_case, PB_TESTING_All_c_bool);
    assert_true(all->c_bool);
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

static void
test_optional(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    put_tag(&bytes, 300, 0);
    put_varint(&bytes, 0);
    put_bytes(&bytes, 301, "", 0);
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    const pb_testing_All *all = out;
    assert_true(all->has_o_int32 && all->has_o_string);
    assert_false(all->has_o_bool || all->has_o_double || all->has_o_enum);
    assert_null(all->o_message);
    rk_buf again = {0};
    assert_int_equal(pb_encode(&pb_testing_All_desc, all, &again), RK_OK);
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.data, bytes.data, bytes.len);
    rk_buf_deinit(&again);
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

/* |n| entries of m_text with |keys| different keys; the last of each key must stay, in order. */
static void
check_map(uint32_t n, uint32_t keys)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    for (uint32_t i = 0; i < n; i++) {
        rk_buf entry = {0};
        char key[16], value[16];
        put_bytes(&entry, 1, key, (size_t)snprintf(key, sizeof(key), "k%u", i % keys));
        put_bytes(&entry, 2, value, (size_t)snprintf(value, sizeof(value), "v%u", i));
        put_bytes(&bytes, 701, entry.data, entry.len);
        rk_buf_deinit(&entry);
    }
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    const pb_testing_All *all = out;
    uint32_t kept = RK_MIN(n, keys);
    assert_int_equal(all->m_text.n, kept);
    for (uint32_t i = 0; i < kept; i++) {
        char key[16], value[16];
        uint32_t index = n - kept + i;
        (void)snprintf(key, sizeof(key), "k%u", index % keys);
        (void)snprintf(value, sizeof(value), "v%u", index);
        assert_true(rk_str_is(all->m_text.data[i]->key, key));
        assert_true(rk_str_is(all->m_text.data[i]->value, value));
    }
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

static void
test_map_duplicates(void **state)
{
    RK_UNUSED(state);
    check_map(1, 1);
    check_map(5, 5);
    check_map(16, 3);
    check_map(17, 17);
    check_map(1000, 10);
    check_map(3000, 3000);
    check_map(40000, 1);
}

static void
test_map_without_value(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    put_bytes(&bytes, 702, "\x08\x05", 2);
    put_bytes(&bytes, 702, "", 0);
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    const pb_testing_All *all = out;
    assert_int_equal(all->m_message.n, 2);
    assert_int_equal(all->m_message.data[0]->key, 5);
    assert_non_null(all->m_message.data[0]->value);
    assert_int_equal(all->m_message.data[1]->key, 0);
    assert_non_null(all->m_message.data[1]->value);
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

/* Elements of one field in many runs, so that its array grows. */
static void
test_interleaved_runs(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    for (uint32_t i = 0; i < 1000; i++) {
        float value = (float)i;
        put_tag(&bytes, 33, 0); /* r_int64 */
        put_varint(&bytes, i);
        put_bytes(&bytes, 42, &value, sizeof(value)); /* r_float, packed in pieces */
        put_bytes(&bytes, 44, &value, i % 5);         /* r_string */
        put_bytes(&bytes, 47, "\x10\x01", i % 2 ? 2 : 0);
    }
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, NULL), RK_OK);
    const pb_testing_All *all = out;
    assert_int_equal(all->r_int64.n, 1000);
    assert_int_equal(all->r_float.n, 1000);
    assert_int_equal(all->r_string.n, 1000);
    assert_int_equal(all->r_message.n, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(all->r_int64.data[i], i);
        assert_true(pb_f32_at(all->r_float, i) == (float)i);
        assert_int_equal(all->r_string.data[i].len, i % 5);
        assert_int_equal(all->r_message.data[i]->a_int32, i % 2);
    }
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

/* ---- copies and cuts ---- */

static void
test_floats_are_views(void **state)
{
    enum { ROWS = 1000, DIM = 768 };
    size_t len = (size_t)ROWS * DIM * sizeof(float);
    uint8_t *floats = calloc(1, len);
    rk_arena *build = rk_arena_new(0);
    rk_arena *arena = rk_arena_new(64 << 10); /* far less than the floats */
    rk_str bytes;
    void *out;

    RK_UNUSED(state);
    assert_non_null(floats);
    pb_schema_FloatArray array = {.data = {floats, (size_t)ROWS * DIM}};
    pb_schema_VectorField vectors = {
        .dim = DIM, .data_case = PB_SCHEMA_VectorField_float_vector, .float_vector = &array};
    pb_schema_FieldData field = {.type = PB_SCHEMA_DataType_FloatVector,
                                 .field_case = PB_SCHEMA_FieldData_vectors,
                                 .vectors = &vectors};
    pb_schema_FieldData *fields[] = {&field};
    pb_milvus_InsertRequest request = {.num_rows = ROWS, .fields_data = {fields, 1}};
    assert_int_equal(pb_encode_arena(&pb_milvus_InsertRequest_desc, &request, &bytes, build),
                     RK_OK);

    assert_int_equal(pb_decode(&pb_milvus_InsertRequest_desc, &out, bytes, arena, NULL), RK_OK);
    const pb_milvus_InsertRequest *got = out;
    pb_fixed view = got->fields_data.data[0]->vectors->float_vector->data;
    assert_int_equal(view.n, (size_t)ROWS * DIM);
    assert_true((const char *)view.bytes > bytes.data &&
                (const char *)view.bytes < bytes.data + bytes.len);
    free(floats);
    rk_arena_free(arena);
    rk_arena_free(build);
}

static void
build_sample(rk_buf *bytes)
{
    rk_buf inside = {0};

    put_bytes(&inside, 44, "abc", 3);
    put_bytes(&inside, 702, "\x08\x05\x12\x02\x10\x01", 6);
    put_bytes(bytes, 47, inside.data, inside.len);
    put_bytes(bytes, 47, "", 0);
    put_bytes(bytes, 33, "\x01\x80\x01\x7f", 4);
    put_bytes(bytes, 42, "\0\0\x80\x3f\0\0\0\x40", 8);
    put_bytes(bytes, 505, inside.data, inside.len);
    put_bytes(bytes, 701, "\x0a\x01k\x12\x01v", 6);
    put_tag(bytes, 9, 1);
    rk_buf_append(bytes, "12345678", 8);
    rk_buf_deinit(&inside);
}

/* Cut at each byte, in memory of exactly that size, and with each byte changed: never a crash, and
 * sizes always agree. */
static void
test_cut_and_changed(void **state)
{
    rk_buf bytes = {0};
    uint32_t accepted = 0;

    RK_UNUSED(state);
    build_sample(&bytes);
    for (size_t i = 0; i <= bytes.len * 9; i++) {
        size_t len = i <= bytes.len ? i : bytes.len;
        char *exact = malloc(len + 1);
        assert_non_null(exact);
        char *start = exact + 1; /* unaligned, and the end is the end of the block */
        memcpy(start, bytes.data, len);
        if (i > bytes.len) {
            size_t bit = i - bytes.len - 1;
            start[bit / 8] = (char)(start[bit / 8] ^ (1 << (bit % 8)));
        }
        rk_arena *arena = rk_arena_new(0);
        rk_err err = {0};
        void *out;
        rk_code code = pb_decode(&pb_testing_All_desc, &out, (rk_str){start, len}, arena, &err);
        assert_true(code == RK_OK || (code == RK_EINVAL && err.text[0] != '\0'));
        if (code == RK_OK) {
            rk_buf again = {0};
            accepted++;
            assert_int_equal(pb_encode(&pb_testing_All_desc, out, &again), RK_OK);
            assert_int_equal(again.len, pb_encoded_size(&pb_testing_All_desc, out));
            rk_buf_deinit(&again);
        }
        rk_arena_free(arena);
        free(exact);
    }
    assert_true(accepted > 8); /* at least the cuts between fields */
    rk_buf_deinit(&bytes);
}

/* ---- memory ---- */

static void
test_out_of_memory(void **state)
{
    rk_buf bytes = {0};
    bool done = false;

    RK_UNUSED(state);
    build_sample(&bytes);
    for (int i = 0; i < 40; i++) {
        put_bytes(&bytes, 701, "\x0a\x01k\x12\x01v", 6);
        put_bytes(&bytes, 47, "\x10\x01", 2);
    }
    for (int64_t allowed = 0; !done; allowed++) {
        assert_true(allowed < 100);
        rk_alloc_fail_after(allowed);
        rk_arena *arena = rk_arena_new(0);
        void *out = NULL;
        rk_err err = {0};
        rk_code code = arena ? decode(&pb_testing_All_desc, &out, &bytes, arena, &err) : RK_ENOMEM;
        void *copy = NULL;
        if (code == RK_OK) {
            code = pb_copy(&pb_testing_All_desc, &copy, out, arena);
        }
        rk_buf again = {0};
        if (code == RK_OK) {
            code = pb_encode(&pb_testing_All_desc, copy, &again);
        }
        rk_alloc_fail_after(-1);
        assert_true(code == RK_OK || code == RK_ENOMEM);
        done = code == RK_OK;
        rk_buf_deinit(&again);
        rk_arena_free(arena);
    }
    rk_buf_deinit(&bytes);
}

/* A few bytes that ask for much memory meet the arena's limit. */
static void
test_amplification(void **state)
{
    rk_buf bytes = {0};
    rk_arena *arena = rk_arena_new(1 << 20);
    rk_err err = {0};
    void *out;

    RK_UNUSED(state);
    for (int i = 0; i < 100000; i++) {
        put_bytes(&bytes, 47, "", 0);
    }
    assert_int_equal(decode(&pb_testing_All_desc, &out, &bytes, arena, &err), RK_ENOMEM);
    assert_non_null(strstr(err.text, "redkite.testing.All"));
    rk_buf_deinit(&bytes);
    rk_arena_free(arena);
}

static void
test_empty(void **state)
{
    rk_arena *arena = rk_arena_new(0);
    void *out;

    RK_UNUSED(state);
    assert_int_equal(pb_decode(&pb_testing_Nothing_desc, &out, (rk_str){NULL, 0}, arena, NULL),
                     RK_OK);
    assert_non_null(out);
    assert_int_equal(pb_decode(&pb_testing_Nothing_desc, &out, RK_STR("\x08\x01"), arena, NULL),
                     RK_OK);
    rk_arena_free(arena);
}

int
pb_decode_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),        cmocka_unit_test(test_accepted_oddities),
        cmocka_unit_test(test_depth_bomb),       cmocka_unit_test(test_depth_edge),
        cmocka_unit_test(test_oneof_last_wins),  cmocka_unit_test(test_optional),
        cmocka_unit_test(test_map_duplicates),   cmocka_unit_test(test_map_without_value),
        cmocka_unit_test(test_interleaved_runs), cmocka_unit_test(test_floats_are_views),
        cmocka_unit_test(test_cut_and_changed),  cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_amplification),    cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests_name("pb_decode", tests, NULL, NULL);
}
