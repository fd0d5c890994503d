/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protocol buffers, table-driven.
 *
 * protoc turns the .proto files into a descriptor set; scripts/pbgen turns that into C structs (one
 * header per .proto file) and tables (one .c per file). This header is the codec that walks the
 * tables.
 *
 * How a message looks in C (package milvus.proto.milvus, message Foo -> struct pb_milvus_Foo;
 * package milvus.proto.common -> pb_common_, schema -> pb_schema_, redkite.internal -> pb_rk_;
 * other packages alike):
 *   - scalar:            T name;                  proto3 zero when absent; `optional` adds bool
 * has_name;
 *   - string, bytes:     rk_str name;             borrowed from the decoded buffer, or from whoever
 * set it
 *   - message:           pb_x_Bar *name;          NULL when absent
 *   - enum:              int32_t name;            constants PB_COMMON_ErrorCode_Success
 *   - oneof kind:        uint32_t kind_case;      field number or 0, and an anonymous union of the
 * members
 *   - repeated message:  struct { pb_x_Bar **data; size_t n; } name;
 *   - repeated string:   struct { rk_str *data; size_t n; } name;      (pb_strs)
 *   - repeated varint:   pb_i32s, pb_i64s, pb_u32s, pb_u64s, pb_bools: { T *data; size_t n; },
 * arena copies
 *   - repeated float, double, fixed32, fixed64: pb_fixed { const uint8_t *bytes; size_t n; }: a
 * view of little-endian values in the buffer, not aligned; read through pb_f32_at() and
 * pb_f64_at(). Input that is not packed, or packed in several pieces, is gathered into the arena.
 *   - map:               repeated entry messages with key and value (pb_x_Foo_name_entry); on
 * duplicate keys the last one wins. Names beside the structs:
 *   - pb_x_Foo_desc                          the message's descriptor, first argument of the
 * functions below;
 *   - pb_x_Foo_list                          the struct { pb_x_Foo **data; size_t n; } of a
 * repeated message;
 *   - PB_X_Foo_member                        value of kind_case for a member of a oneof:
 * PB_SCHEMA_FieldData_scalars;
 *   - PB_X_Foo_Enum_Value                    constants of an enum declared inside message Foo;
 *   - pb_x_Service_service, PB_X_Service_Method (index), PB_X_Service_METHODS (count).
 * A field whose name is a C keyword gets a trailing underscore. Unknown fields are skipped. A
 * zeroed struct is the empty message, so callers build one with RK_ARENA_NEW or a designated
 * initialiser.
 *
 * Limits: nesting depth 64; a declared length is checked against what is left before anything is
 * allocated. Neither decode nor encode recurses beyond that depth. Any thread: tables are const.
 */
#ifndef RK_PB_PB_H
#define RK_PB_PB_H

#include "base/mem.h"

typedef struct pb_strs {
    rk_str *data;
    size_t n;
} pb_strs;
typedef struct pb_i32s {
    int32_t *data;
    size_t n;
} pb_i32s;
typedef struct pb_i64s {
    int64_t *data;
    size_t n;
} pb_i64s;
typedef struct pb_u32s {
    uint32_t *data;
    size_t n;
} pb_u32s;
typedef struct pb_u64s {
    uint64_t *data;
    size_t n;
} pb_u64s;
typedef struct pb_bools {
    bool *data;
    size_t n;
} pb_bools;
typedef struct pb_fixed {
    const uint8_t *bytes;
    size_t n;
} pb_fixed; /* n values, not bytes */
typedef struct pb_messages {
    void **data;
    size_t n;
} pb_messages;

static inline float
pb_f32_at(pb_fixed v, size_t i)
{
    float f;
    memcpy(&f, v.bytes + i * sizeof(f), sizeof(f));
    return f;
}

static inline double
pb_f64_at(pb_fixed v, size_t i)
{
    double d;
    memcpy(&d, v.bytes + i * sizeof(d), sizeof(d));
    return d;
}

#define PB_DEPTH_MAX 64

typedef struct pb_message_desc
    pb_message_desc; /* layout in pb_tables.h, for generated code and the codec */

typedef struct pb_method_desc {
    const char *name; /* "Search" */
    const char *path; /* "/milvus.proto.milvus.MilvusService/Search" */
    const pb_message_desc *input;
    const pb_message_desc *output;
    bool client_streaming;
    bool server_streaming;
} pb_method_desc;

typedef struct pb_service_desc {
    const char *name; /* "milvus.proto.milvus.MilvusService" */
    const pb_method_desc *methods;
    uint32_t methods_len;
} pb_service_desc;

/* "milvus.proto.milvus.SearchRequest" and sizeof the C struct. */
const char *pb_name(const pb_message_desc *desc);
size_t pb_sizeof(const pb_message_desc *desc);

/*
 * Decodes |bytes| into |*out|, a struct in |arena|. Strings, bytes and fixed-width arrays point
 * into |bytes|, which must outlive the message. Returns RK_OK, RK_EINVAL (malformed: the sentence
 * names message, field and byte offset) or RK_ENOMEM.
 */
RK_MUST_CHECK rk_code pb_decode(const pb_message_desc *desc, void **out, rk_str bytes,
                                rk_arena *arena, rk_err *err);

/* Size of the encoding. */
size_t pb_encoded_size(const pb_message_desc *desc, const void *message);

/* Appends the encoding to |out|. RK_ENOMEM; RK_EINVAL when nested too deep. Fields in number order,
 * packed. */
RK_MUST_CHECK rk_code pb_encode(const pb_message_desc *desc, const void *message, rk_buf *out);

/* Encodes into the arena. */
RK_MUST_CHECK rk_code pb_encode_arena(const pb_message_desc *desc, const void *message, rk_str *out,
                                      rk_arena *arena);

/* Deep copy into |arena| with nothing borrowed from the source. */
RK_MUST_CHECK rk_code pb_copy(const pb_message_desc *desc, void **out, const void *message,
                              rk_arena *arena);

#endif
