/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables that scripts/pbgen writes and the codec walks. Included by generated code and by
 * src/pb alone.
 *
 * A message is a row of pb_message_desc and an array of pb_field_desc in number order. Most
 * messages number their fields 1, 2, 3..., so the row of number k is fields[k - 1] for the first
 * |dense| numbers; the rest are searched. A field row is 12 bytes: names are offsets into one text
 * pool per .proto file and message types are indexes into one array per file, so the rows hold no
 * pointers and need no relocation.
 */
#ifndef RK_PB_PB_TABLES_H
#define RK_PB_PB_TABLES_H

#include "pb/pb.h"

typedef enum pb_kind {
    PB_KIND_BOOL,
    PB_KIND_INT32, /* also enum: ten bytes when negative */
    PB_KIND_INT64,
    PB_KIND_UINT32,
    PB_KIND_UINT64,
    PB_KIND_SINT32,
    PB_KIND_SINT64,
    PB_KIND_FIXED32, /* also sfixed32 and float */
    PB_KIND_FIXED64, /* also sfixed64 and double */
    PB_KIND_STRING,  /* also bytes */
    PB_KIND_MESSAGE
} pb_kind;

typedef enum pb_mode {
    PB_MODE_SINGULAR, /* absent when zero, or NULL for a message */
    PB_MODE_OPTIONAL, /* |presence| is the offset of the bool has_NAME */
    PB_MODE_ONEOF,    /* |presence| is the offset of the uint32_t NAME_case */
    PB_MODE_REPEATED,
    PB_MODE_MAP /* repeated entry messages; field 1 is the key, field 2 the value */
} pb_mode;

typedef struct pb_field_desc {
    uint16_t number;
    uint8_t kind;      /* pb_kind */
    uint8_t mode;      /* pb_mode */
    uint16_t offset;   /* in the C struct */
    uint16_t presence; /* see pb_mode */
    uint16_t sub;      /* PB_KIND_MESSAGE: index into |subs| of the message row */
    uint16_t name;     /* offset into |names| of the message row */
} pb_field_desc;

struct pb_message_desc {
    const char *name; /* "milvus.proto.milvus.SearchRequest" */
    const char *names;
    const pb_field_desc *fields; /* in number order */
    const pb_message_desc *const *subs;
    uint32_t size_bytes; /* of the C struct */
    uint16_t fields_len;
    uint16_t dense; /* fields[i].number == i + 1 for i < dense */
    uint16_t maps;  /* how many fields are maps */
    uint16_t entry; /* 1: an entry of a map */
};

_Static_assert(sizeof(pb_field_desc) == 12, "field rows are 12 bytes");

#endif
