/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a client: decode, copy, encode, decode again. The first byte picks the type. What was
 * accepted once must be accepted again and encode to the same bytes from then on.
 */
#include <stdlib.h>

#include "pb/pb.h"
#include "proto/internal.pb.h"
#include "proto/milvus.pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const pb_message_desc *const types[] = {
    &pb_milvus_InsertRequest_desc,
    &pb_milvus_SearchRequest_desc,
    &pb_milvus_HybridSearchRequest_desc,
    &pb_milvus_QueryRequest_desc,
    &pb_schema_FieldData_desc,
    &pb_schema_CollectionSchema_desc,
    &pb_schema_SearchResultData_desc,
    &pb_milvus_FlushResponse_desc,
    &pb_schema_FunctionChainOp_desc,
    &pb_common_SearchAggregationSpec_desc,
    &pb_milvus_CreateCollectionRequest_desc,
    &pb_common_PlaceholderGroup_desc,
    &pb_rk_CollectionInfo_desc,
};

static void
check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void
round_trip(const pb_message_desc *desc, rk_str bytes, rk_arena *arena)
{
    rk_str first, second;
    void *message, *copy, *again;
    rk_err err = {0};

    if (pb_decode(desc, &message, bytes, arena, &err) != RK_OK) {
        check(err.text[0] != '\0');
        return;
    }
    check(pb_copy(desc, &copy, message, arena) == RK_OK);
    check(pb_encode_arena(desc, copy, &first, arena) == RK_OK);
    check(first.len == pb_encoded_size(desc, message));
    check(pb_decode(desc, &again, first, arena, NULL) == RK_OK);
    check(pb_encode_arena(desc, again, &second, arena) == RK_OK);
    check(rk_str_eq(first, second));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    rk_arena *arena = rk_arena_new(0);
    if (arena) {
        round_trip(types[data[0] % RK_COUNT(types)], (rk_str){(const char *)data + 1, size - 1},
                   arena);
    }
    rk_arena_free(arena);
    return 0;
}
