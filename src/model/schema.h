/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A collection's schema in the form the engine uses: fields by position, id and name, parameters
 * parsed.
 *
 * Made from the public CollectionSchema message (which is also what is stored), immutable,
 * reference counted. Every collection has one primary key; a dynamic collection has a hidden JSON
 * field named $meta. Field id 1 is the row timestamp, kept beside the fields.
 */
#ifndef RK_MODEL_SCHEMA_H
#define RK_MODEL_SCHEMA_H

#include <stdatomic.h>

#include "base/mem.h"
#include "base/slice.h"
#include "proto/schema.pb.h"

/* Numbers of milvus.proto.schema.DataType. */
typedef enum rk_type {
    RK_NONE = 0,
    RK_BOOL = 1,
    RK_INT8 = 2,
    RK_INT16 = 3,
    RK_INT32 = 4,
    RK_INT64 = 5,
    RK_FLOAT = 10,
    RK_DOUBLE = 11,
    RK_VARCHAR = 21,
    RK_ARRAY = 22,
    RK_JSON = 23,
    RK_BINARY_VECTOR = 100,
    RK_FLOAT_VECTOR = 101,
    RK_FLOAT16_VECTOR = 102,
    RK_BFLOAT16_VECTOR = 103,
    RK_SPARSE_VECTOR = 104,
    RK_INT8_VECTOR = 105,
} rk_type;

#define RK_FIELD_TIMESTAMP 1
#define RK_FIELD_FIRST     100
#define RK_DYNAMIC_NAME    "$meta"

static inline bool
rk_type_is_vector(rk_type t)
{
    return t >= RK_BINARY_VECTOR && t <= RK_INT8_VECTOR;
}
bool rk_type_is_integer(rk_type t); /* Int8..Int64 */
const char *
rk_type_name(rk_type t); /* "Int64", "VarChar", "FloatVector": as the public API prints it */
/* Bytes of one value in a column; 0 for VarChar, JSON, Array, sparse vectors (and dense ones: ask
 * rk_field_row_bytes()). */
size_t rk_type_bytes(rk_type t);

typedef struct rk_field {
    int64_t id;
    rk_str name;
    rk_type type;
    rk_type element; /* of RK_ARRAY */
    bool primary;
    bool auto_id;
    bool nullable;
    bool dynamic; /* the $meta field */
    bool partition_key;
    bool clustering_key;
    uint32_t dim;                              /* dense vectors */
    uint32_t max_length;                       /* VarChar, in bytes; of the elements for arrays */
    uint32_t max_capacity;                     /* arrays */
    const pb_schema_ValueField *default_value; /* NULL: none */
    const pb_schema_FieldSchema *pb;
} rk_field;

typedef struct rk_schema {
    rk_str name;
    rk_field *fields;
    size_t fields_len;
    size_t primary;  /* position */
    int32_t dynamic; /* position of $meta, -1: none */
    int64_t version;
    const pb_schema_CollectionSchema *pb; /* deep copy, owned */
    rk_arena *arena;
    _Atomic(uint32_t) refs;
} rk_schema;

/* Copies |pb|. RK_EILLEGAL_SCHEMA with a sentence when it is no valid schema (types and parameters
 * this build can hold). */
RK_MUST_CHECK rk_code rk_schema_new(rk_schema **out, const pb_schema_CollectionSchema *pb,
                                    int64_t version, rk_err *err);
rk_schema *rk_schema_ref(rk_schema *schema);
void rk_schema_unref(rk_schema *schema);
const rk_field *rk_schema_find(const rk_schema *schema, rk_str name); /* NULL: none */
const rk_field *rk_schema_by_id(const rk_schema *schema, int64_t id);
static inline const rk_field *
rk_schema_primary(const rk_schema *schema)
{
    return &schema->fields[schema->primary];
}
size_t rk_field_row_bytes(
    const rk_field *field); /* dense vectors and fixed scalars; 0 for variable-length */

#endif
