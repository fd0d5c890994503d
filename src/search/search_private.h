/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: compiled plans, and the target: the rows of one segment that
 * a read may return.
 */
#ifndef RK_SEARCH_PRIVATE_H
#define RK_SEARCH_PRIVATE_H

#include "search/search.h"

#define RK__TOPK_MAX 1000000u /* the largest window a collection can be given */

/* The predicate of a read, ready to be applied to segments. */
typedef struct rk__predicate {
    rk_schema *schema;
    const rk_filter *filter; /* NULL: every row */
    bool nothing;            /* constant false */
    bool exact;              /* |keys| are the whole condition: no evaluation after the look-up */
    bool bound;              /* only rows with one of |keys| can pass */
    const rk_pk *keys;
    size_t keys_len;
    pb_i64s partition_ids; /* empty: all */
} rk__predicate;

struct rk_search_plan {
    rk__predicate predicate;
    rk_schema *schema;
    const rk_field *field;
    rk_metric metric;
    uint32_t topk;
    const rk_str *queries; /* in the field's own row format */
    size_t queries_len;
    rk_params params;
    bool approximate; /* answers may leave rows out, as those of the field's index */
    bool range, has_range_filter;
    float radius, range_filter;
};

struct rk_query_plan {
    rk__predicate predicate;
    rk_schema *schema;
    bool count_only;
    uint64_t limit, offset;  /* limit 0: none */
    const rk_field **fields; /* output, primary key first */
    size_t fields_len;
    uint64_t output_bytes_max; /* 0: none */
};

/* Rows of |seg| that pass: |rows| is what the snapshot covers, |passing| how many of them pass. */
typedef struct rk__target {
    rk_segment *seg;
    size_t rows;
    size_t passing;
    bool all;
    rk_bitset filter; /* when not |all| */
} rk__target;

/* predicate.c */
rk_code rk__predicate_init(rk__predicate *out, const pb_rk_Predicate *predicate,
                           const pb_rk_ReadScope *scope, rk_schema *schema, rk_arena *arena,
                           rk_err *err);
/* With |vector| also drops rows whose value of that field is null. |scratch| is reset in between.
 */
rk_code rk__target_init(rk__target *out, const rk__predicate *predicate, rk_segment *seg,
                        uint64_t read_ts, const rk_field *vector, rk_arena *arena,
                        rk_arena *scratch, rk_err *err);
/* Targets of those segments that are in scope and have passing rows. */
rk_code rk__targets(rk__target **out, size_t *n, const rk__predicate *predicate,
                    rk_segment *const *segs, size_t segs_len, uint64_t read_ts,
                    const rk_field *vector, rk_arena *arena, rk_err *err);
/* Position of |field| in the segment's own schema. */
rk_code rk__field_position(const rk_segment *seg, const rk_field *field, size_t *out, rk_err *err);

/* queries.c */
rk_code rk__queries_init(rk_search_plan *plan, const pb_rk_SearchRequest *request, rk_arena *arena,
                         rk_err *err);

/* fetch.c */
typedef struct rk__row_at {
    rk_segment *seg;
    uint32_t row;
} rk__row_at;
/* |max_bytes| 0: no limit; past it RK_ETOO_LARGE. */
rk_code rk__fetch_fields(pb_schema_FieldData_list *out, const rk_field *const *fields,
                         size_t fields_len, const rk__row_at *rows, size_t n, uint64_t max_bytes,
                         rk_arena *arena, rk_err *err);

/* keys.c */
/* Keys of a reply, filled one by one. */
typedef struct rk__keys_out {
    pb_schema_IDs *ids;
    bool text;
    size_t cap;
} rk__keys_out;
rk_code rk__keys_out_init(rk__keys_out *out, const rk_schema *schema, size_t cap, rk_arena *arena);
rk_code rk__keys_out_add(rk__keys_out *out, rk_pk pk, rk_arena *arena); /* copies text */

/* A set of keys that remembers a number for each. */
typedef struct rk__key_set {
    rk_pk *keys;
    uint32_t *values; /* 0: empty slot */
    size_t mask;
} rk__key_set;
rk_code rk__key_set_init(rk__key_set *set, size_t max, rk_arena *arena);
void rk__key_set_clear(rk__key_set *set);
/* Where the number of |pk| is; 0 when the key is new, and the caller sets it to another. */
uint32_t *rk__key_set_at(rk__key_set *set, rk_pk pk);

static inline rk_code
rk__no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM,
                   "no memory for the read: its limit of 1 GiB of scratch and results is reached, "
                   "or memory is out");
}

#endif
