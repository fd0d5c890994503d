/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A coordinator and a streaming node for tests of the access layer: small tables of functions over
 * memory. What a request sent on is kept for inspection, what a read answers is set beforehand, and
 * any call can be made to fail.
 */
#ifndef RK_TESTS_UNIT_ACCESS_FAKE_H
#define RK_TESTS_UNIT_ACCESS_FAKE_H

/* clang-format off */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "access/access_private.h"
#include "access/rest.h"

#define FAKE_COLLECTIONS_MAX 16

typedef struct fake {
    rk_arena *arena; /* holds all the fakes keep */
    rk_config *config;
    rk_service *coordinator;
    rk_service *streaming;
    rk_access *access;
    rk__req req;
    rk_arena *request; /* of |req|, reset by fake_req() */
    rk_err err;

    pb_rk_CollectionInfo *collections[FAKE_COLLECTIONS_MAX];
    size_t collections_len;
    uint64_t revision;
    uint64_t time;
    int32_t load_state;
    uint64_t describes; /* calls of DescribeCollection */

    pb_rk_AppendRequest *append; /* the last one, copied; NULL: none */
    uint64_t appends;
    pb_rk_SearchRequest *search;
    pb_rk_QueryRequest *query;
    pb_rk_SearchResponse search_reply;
    pb_rk_QueryResponse query_reply;
    rk_code read_fails;   /* of the next read */
    rk_code append_fails; /* of the next append */
} fake;

int fake_setup(void **state);
int fake_teardown(void **state);
/* A fresh request; its error and arena are empty. */
rk__req *fake_req(fake *f);
void fake_access_options(const fake *f, rk_access_options *options);

/* Schemas from short texts: "id:Int64:pk vec:FloatVector:dim=4 t:VarChar:max_length=8:null". */
pb_schema_CollectionSchema *fake_schema(fake *f, const char *text, bool dynamic);
rk_code fake_create(fake *f, const char *name, pb_schema_CollectionSchema *schema);
/* Collection `c`: id Int64 key, vec FloatVector of 4, t VarChar(8) nullable, dynamic; with an index
 * on vec, loaded. */
void fake_collection(fake *f);
pb_common_KeyValuePair_list fake_pairs(fake *f, const char *text); /* "a=1 b=2" */

pb_schema_FieldData *fake_i64(fake *f, const char *name, const int64_t *values, size_t n);
pb_schema_FieldData *fake_f32(fake *f, const char *name, uint32_t dim, const float *values,
                              size_t rows);
pb_schema_FieldData *fake_texts(fake *f, const char *name, const char *const *values, size_t n);
pb_schema_FieldData *fake_json(fake *f, const char *const *values, size_t n);
rk_str fake_placeholder(fake *f, int32_t type, const void *bytes, size_t len, size_t n);

#define assert_text(f, expected)                                                                   \
    do {                                                                                           \
        if (!strstr((f)->err.text, (expected))) {                                                  \
            fail_msg("want \"%s\", got \"%s\"", (expected), (f)->err.text);                        \
        }                                                                                          \
    } while (0)
#define must(f, expr)                                                                              \
    do {                                                                                           \
        rk_code must_code_ = (expr);                                                               \
        if (must_code_ != RK_OK) {                                                                 \
            fail_msg("%s: code %d, \"%s\"", #expr, (int)must_code_, (f)->err.text);                \
        }                                                                                          \
    } while (0)

#endif
