/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST v2 inside: a request in JSON, and the envelope of its answer. Handlers build the public
 * request structs, call the same API functions as gRPC and write what comes back; none holds
 * database logic.
 */
#ifndef RK_ACCESS_REST_H
#define RK_ACCESS_REST_H

#include "access/access_private.h"
#include "base/json.h"

typedef struct rk__rest {
    rk__req req;
    rk_json_value body;  /* an object; the text was checked */
    rk_json_writer w;    /* the answer */
    bool text_int64;     /* int64 values are written as text */
    rk_buf missing;      /* required keys that are absent, one sentence each */
    const char *request; /* name of the request for those sentences: "CollectionNameReq" */
    uint32_t method;     /* gRPC method this stands for, for metrics */
} rk__rest;

typedef rk_code (*rk__rest_fn)(rk__rest *r);

/* ---- reading: rest_json.c ---- */

/* Member |key| of |object|, compared without case, the last one of equals; type NONE when absent or
 * null. */
rk_json_value rk__rest_find(rk_json_value object, const char *key);
/* The same, compared exactly: members that are read as raw text. */
rk_json_value rk__rest_find_exact(rk_json_value object, const char *key);

/* Leave |*out| alone when the key is absent; RK_EREST_BODY when it has another type. */
RK_MUST_CHECK rk_code rk__rest_str(rk__rest *r, rk_json_value object, const char *key, rk_str *out);
RK_MUST_CHECK rk_code rk__rest_bool(rk__rest *r, rk_json_value object, const char *key, bool *out);
RK_MUST_CHECK rk_code rk__rest_i64(rk__rest *r, rk_json_value object, const char *key,
                                   int64_t *out);
RK_MUST_CHECK rk_code rk__rest_strs(rk__rest *r, rk_json_value object, const char *key,
                                    pb_strs *out);
/* An object or array, type NONE when absent. */
RK_MUST_CHECK rk_code rk__rest_object(rk__rest *r, rk_json_value object, const char *key,
                                      rk_json_value *out);
RK_MUST_CHECK rk_code rk__rest_array(rk__rest *r, rk_json_value object, const char *key,
                                     rk_json_value *out);
/* Required ones: an absent or empty value is noted, and rk__rest_complete() tells of all. */
RK_MUST_CHECK rk_code rk__rest_need_str(rk__rest *r, const char *key, rk_str *out);
void rk__rest_need(rk__rest *r, const char *key, bool present);
RK_MUST_CHECK rk_code rk__rest_complete(rk__rest *r);
/* Any scalar as text: strings decoded, others as written; objects and arrays as JSON. */
RK_MUST_CHECK rk_code rk__rest_text(rk__rest *r, rk_json_value value, rk_str *out);
/* dbName and collectionName, both in most bodies. */
RK_MUST_CHECK rk_code rk__rest_collection(rk__rest *r, rk_str *db, rk_str *name);
/* exprParams as template values. */
RK_MUST_CHECK rk_code rk__rest_template(rk__rest *r, rk_str name, rk_json_value value,
                                        pb_schema_TemplateValue **out);
/* consistencyLevel; |*given| is false when absent. */
RK_MUST_CHECK rk_code rk__rest_consistency(rk__rest *r, rk_json_value object, int32_t *level,
                                           bool *given);

/* ---- answers: rest_reply.c ---- */

void rk__rest_data(rk__rest *r);                  /* {"code":0,"data": */
void rk__rest_end(rk__rest *r);                   /* } */
RK_MUST_CHECK rk_code rk__rest_void(rk__rest *r); /* {"code":0,"data":{}} */
void rk__rest_i64_out(rk__rest *r, int64_t value);
void rk__rest_key(rk__rest *r, const char *key);
void rk__rest_text_out(rk__rest *r, const char *key, rk_str text);
/* IDs as an array. */
void rk__rest_ids(rk__rest *r, const pb_schema_IDs *ids, size_t from, size_t n);
/* One row of columns as members of the open object. */
RK_MUST_CHECK rk_code rk__rest_row(rk__rest *r, const pb_schema_FieldData_list *columns,
                                   size_t row);
rk_str rk__rest_type_name(int32_t type);
bool rk__rest_type(rk_str name, int32_t *out);
const char *rk__rest_load_state(int32_t state);

/* ---- rows: rest_rows.c ---- */

/* |data| rows become columns of the schema. */
RK_MUST_CHECK rk_code rk__rest_rows(rk__rest *r, const rk_schema *schema, rk_json_value data,
                                    bool partial, pb_schema_FieldData_list *out, uint32_t *rows);
/* One vector in JSON as the bytes of |field|'s row. */
RK_MUST_CHECK rk_code rk__rest_vector(rk__rest *r, const rk_field *field, rk_json_value value,
                                      rk_str *out);

/* ---- handlers ---- */

#define RK__REST(name) RK_MUST_CHECK rk_code rk__rest_##name(rk__rest *r)
RK__REST(collections_create);
RK__REST(collections_describe);
RK__REST(collections_list);
RK__REST(collections_has);
RK__REST(collections_drop);
RK__REST(collections_load);
RK__REST(collections_release);
RK__REST(collections_load_state);
RK__REST(collections_stats);
RK__REST(collections_flush);
RK__REST(databases_list);
RK__REST(databases_describe);
RK__REST(partitions_list);
RK__REST(partitions_has);
RK__REST(aliases_list);
RK__REST(indexes_create);
RK__REST(indexes_describe);
RK__REST(indexes_list);
RK__REST(indexes_drop);
RK__REST(entities_insert);
RK__REST(entities_upsert);
RK__REST(entities_delete);
RK__REST(entities_get);
RK__REST(entities_query);
RK__REST(entities_search);
/* Creates the indexes of an indexParams list. */
RK_MUST_CHECK rk_code rk__rest_create_indexes(rk__rest *r, rk_str db, rk_str collection,
                                              rk_json_value list);

#endif
