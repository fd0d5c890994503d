/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments for tests: a schema, rows that are a function of (key, version), and a plain list of
 * what was done to compare with.
 *
 * Every value of a row is computed from its key and version, so a row read back says whether it is
 * the right one without being kept.
 */
#ifndef RK_SEGMENT_TESTING_H
#define RK_SEGMENT_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>

#include "segment/segment.h"

#define ST_DIM 6

/* Positions of the fields. */
enum {
    ST_ID,
    ST_NUMBER,
    ST_TEXT,
    ST_JSON,
    ST_TAGS,
    ST_VECTOR,
    ST_SPARSE,
    ST_OPTIONAL_VECTOR,
    ST_FLAG,
    ST_FIELDS
};

/* A field with one type parameter or none. */
typedef struct st_field {
    const char *name;
    rk_type type;
    rk_type element;
    bool nullable;
    const char *key, *value;
} st_field;

/* Field ids are 100 + position; the first is the primary key. */
rk_schema *st_schema_of(const st_field *fields, size_t n);
rk_schema *st_schema(bool text_keys);
typedef struct st_row {
    int64_t key;
    uint32_t version;
} st_row;
/* Rows as an insert brings them. The primary key of key k is k, or "key-<k>" (zero-padded so that
 * the order is the same). */
pb_schema_FieldData **st_rows(const rk_schema *schema, const st_row *rows, size_t n,
                              rk_arena *arena);
rk_pk st_pk(const rk_schema *schema, int64_t key, rk_arena *arena);
pb_schema_IDs *st_ids(const rk_schema *schema, const int64_t *keys, size_t n, rk_arena *arena);
/* Aborts unless row |row| of |seg| holds the values of |expected|. */
void st_assert_row(const rk_segment *seg, size_t row, st_row expected, rk_arena *arena);
bool st_vector_null(st_row row); /* of the optional vector */
void st_vector(st_row row, bool optional, float *out);
bool st_number(st_row row, int32_t *out); /* false: null */
bool st_flag(st_row row);
rk_str st_sparse(st_row row, rk_arena *arena);

/* ---- what was done ---- */

typedef struct st_written {
    st_row row;
    uint64_t ts;
    uint64_t deleted_ts; /* UINT64_MAX: not */
} st_written;

typedef struct st_model {
    st_written *rows;
    size_t n, cap;
} st_model;

void st_model_insert(st_model *m, const st_row *rows, size_t n, uint64_t ts);
void st_model_delete(st_model *m, const int64_t *keys, size_t n, uint64_t ts);
bool st_model_sees(const st_written *row, uint64_t read_ts);

/* A temporary folder with an object store in it. */
typedef struct st_store {
    char path[64];
    rk_object_store *objects;
    rk_mem *mem;
    rk_segment_env env;
} st_store;
void st_store_open(st_store *s);
void st_store_close(st_store *s);   /* removes the folder */
size_t st_store_count(st_store *s); /* objects */

/* Random appends, deletes and upserts into a growing segment and the model. Timestamps are 10, 20,
 * ... */
uint64_t st_random_ops(rk_segment *seg, st_model *m, size_t ops, size_t keys, uint64_t first_ts,
                       rk_rng *rng);

#endif
