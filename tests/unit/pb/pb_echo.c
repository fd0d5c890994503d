/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Half of a test whose other half is pb_oracle.py: reads messages from standard input, decodes
 * each, copies it, encodes the copy and writes the bytes back. A record in is: u32 length and name
 * of the type, u32 length and bytes; a record out is: u32 length and bytes, or length 0xffffffff
 * when the message was refused. Little-endian.
 */
#include <stdio.h>

#include "pb/pb.h"
#include "proto/internal.pb.h"
#include "proto/milvus.pb.h"
#include "proto/testing.pb.h"

static const pb_message_desc *const types[] = {
    &pb_testing_All_desc,
    &pb_testing_Other_desc,
    &pb_testing_Nothing_desc,
    &pb_common_SearchAggregationSpec_desc,
    &pb_schema_FieldData_desc,
    &pb_schema_SearchResultData_desc,
    &pb_schema_CollectionSchema_desc,
    &pb_schema_FunctionChainOp_desc,
    &pb_schema_TemplateValue_desc,
    &pb_milvus_InsertRequest_desc,
    &pb_milvus_SearchRequest_desc,
    &pb_milvus_HybridSearchRequest_desc,
    &pb_milvus_QueryResults_desc,
    &pb_milvus_FlushResponse_desc,
    &pb_milvus_DescribeCollectionResponse_desc,
};

static bool
read_block(rk_buf *out)
{
    uint32_t len;

    rk_buf_clear(out);
    if (fread(&len, sizeof(len), 1, stdin) != 1 || !rk_buf_reserve(out, len)) {
        return false;
    }
    out->len = len;
    return len == 0 || fread(out->data, len, 1, stdin) == 1;
}

static void
write_block(uint32_t len, const uint8_t *data)
{
    (void)fwrite(&len, sizeof(len), 1, stdout);
    if (data && len > 0) {
        (void)fwrite(data, len, 1, stdout);
    }
}

static bool
echo(const pb_message_desc *desc, rk_str bytes, rk_buf *out)
{
    rk_arena *arena = rk_arena_new(0);
    rk_arena *other = rk_arena_new(0);
    rk_err err = {0};
    void *message = NULL;
    void *copy = NULL;

    bool ok = arena && other && pb_decode(desc, &message, bytes, arena, &err) == RK_OK &&
              pb_copy(desc, &copy, message, other) == RK_OK;
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    rk_arena_free(arena);
    ok = ok && pb_encode(desc, copy, out) == RK_OK && out->len == pb_encoded_size(desc, copy);
    rk_arena_free(other);
    return ok;
}

int
main(void)
{
    rk_buf name = {0};
    rk_buf bytes = {0};
    rk_buf out = {0};

    while (read_block(&name) && read_block(&bytes)) {
        const pb_message_desc *desc = NULL;
        for (size_t i = 0; i < RK_COUNT(types); i++) {
            if (rk_str_is(rk_buf_view(&name), pb_name(types[i]))) {
                desc = types[i];
            }
        }
        if (!desc) {
            (void)fprintf(stderr, "pb_echo: unknown type\n");
            return 1;
        }
        rk_buf_clear(&out);
        if (echo(desc, rk_buf_view(&bytes), &out)) {
            write_block((uint32_t)out.len, out.data);
        } else {
            write_block(UINT32_MAX, NULL);
        }
    }
    rk_buf_deinit(&name);
    rk_buf_deinit(&bytes);
    rk_buf_deinit(&out);
    return 0;
}
