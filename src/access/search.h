/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of Search: its parameters parsed, its query vectors unpacked. Shared by the search_*.c
 * files alone.
 */
#ifndef RK_ACCESS_SEARCH_H
#define RK_ACCESS_SEARCH_H

#include "access/access_private.h"
#include "index/index.h"

#define RK__TOKEN_LEN 36u /* of a UUID as text */

typedef struct rk__search_params {
    rk_str anns_field;
    rk_str metric; /* empty: the index's */
    int64_t topk;
    int64_t offset;
    int32_t round_decimal; /* -1: none */
    int64_t collection_id; /* 0: not given */
    bool ignore_growing;
    bool iterator;
    bool iterator_v2;
    bool has_last_bound;
    float last_bound;
    rk_str token; /* of iterator v2, given or made */
    bool has_radius, has_range_filter;
    float radius, range_filter;
    pb_common_KeyValuePair_list params; /* ef, nprobe ...: text pairs */
} rk__search_params;

RK_MUST_CHECK rk_code rk__search_params_parse(rk__search_params *out, rk__req *req,
                                              const pb_milvus_SearchRequest *in);
/* Checks and combines radius, range filter and iterator bound under |metric| into |request|. */
RK_MUST_CHECK rk_code rk__search_range(const rk__search_params *p, rk_metric metric,
                                       pb_rk_SearchRequest *request, rk_err *err);

/* The query vectors of a placeholder group in the row format of |field|, aligned. */
RK_MUST_CHECK rk_code rk__search_vectors(rk_str placeholder_group, const rk_field *field,
                                         pb_strs *out, rk_arena *arena, rk_err *err);
/* The stored vectors of the given keys, in their order. */
RK_MUST_CHECK rk_code rk__search_vectors_of(rk__req *req, const rk__entry *entry,
                                            const rk_field *field, const pb_schema_IDs *ids,
                                            pb_strs *out);
/* Row |row| of a vector column without nulls, as bytes. */
rk_str rk__vector_row(const pb_schema_FieldData *data, const rk_field *field, size_t row);

#endif
