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
    pb_i64s partition_ids;  /* empty: all */
    rk_filter_cache *cache; /* NULL: none */
    const rk_stop *stop;    /* NULL: none */
    rk_str kept_text;       /* what names the condition there, when |can_keep| */
    bool can_keep;          /* the condition holds for the same rows at any time */
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
    rk_bitset filter; /* when not |all|; not to be written to */
    uint64_t deletes; /* taken out of |filter|; RK__UNSETTLED: another read may see other rows */
    int64_t field_id; /* whose nulls are taken out; 0: of none */
} rk__target;

#define RK__UNSETTLED UINT64_MAX

/* predicate.c */
rk_code rk__predicate_init(rk__predicate *out, const pb_rk_Predicate *predicate,
                           const pb_rk_ReadScope *scope, rk_schema *schema, rk_arena *arena,
                           rk_err *err);
/* With |vector| also drops rows whose value of that field is null. |scratch| is reset in between.
 */
rk_code rk__target_init(rk__target *out, const rk__predicate *predicate, rk_segment *seg,
                        uint64_t read_ts, const rk_field *vector, rk_arena *arena,
                        rk_arena *scratch, rk_err *err);
/* The target's rows in the order of |index|, for |queries| searches more; NULL: not kept. */
const rk_index_filter *rk__target_ordered(const rk__target *t, const rk__predicate *predicate,
                                          const rk_index *index, uint64_t index_uid, size_t queries,
                                          rk_arena *arena);
/* Targets of those segments that are in scope and have passing rows. */
rk_code rk__targets(rk__target **out, size_t *n, const rk__predicate *predicate,
                    rk_segment *const *segs, size_t segs_len, uint64_t read_ts,
                    const rk_field *vector, rk_arena *arena, rk_err *err);
/* Position of |field| in the segment's own schema. */
rk_code rk__field_position(const rk_segment *seg, const rk_field *field, size_t *out, rk_err *err);

/* filter_cache.c */
/* What bits are of. Rows of the segment that pass |text|; with |index_uid| those that a read may
 * return, in the order of that index. */
typedef struct rk__kept_key {
    int64_t segment_id;
    uint64_t index_uid; /* 0: by row, whatever was deleted */
    uint64_t deletes;   /* as in rk__target, and */
    int64_t field_id;
    rk_str text;
    uint64_t hash;
} rk__kept_key;
typedef struct rk__kept rk__kept;
struct rk__kept {
    rk__kept_key key;
    rk_bitset bits; /* one of the two */
    size_t count;
    rk_index_filter *ordered;
    uint64_t bytes;
    rk_mem *mem;
    rk__kept *next;          /* of its bucket */
    rk__kept *newer, *older; /* by last use */
    _Atomic(uint32_t) refs;  /* acquire and release, so that the last one may free */
};
void rk__kept_key_finish(rk__kept_key *key); /* the hash */
/* What is kept, until |arena| is reset; NULL: nothing, and |*keep| tells whether to: it was asked
 * for |worth| times, |times| of them now. */
const rk__kept *rk__filter_cache_find(rk_filter_cache *cache, const rk__kept_key *key,
                                      uint32_t times, uint32_t worth, bool *keep, rk_arena *arena);
/* Reserves |bytes|, of filters not used for long if need be; false: there is no room. */
bool rk__filter_cache_room(rk_filter_cache *cache, uint64_t bytes);
rk_mem *rk__filter_cache_mem(const rk_filter_cache *cache);
/* Takes over |bits| (rk_bitset_init()), |bytes| of them reserved, or |ordered|, also when it fails:
 * NULL, no memory. */
const rk__kept *rk__filter_cache_keep(rk_filter_cache *cache, const rk__kept_key *key,
                                      rk_bitset bits, size_t count, rk_index_filter *ordered,
                                      uint64_t bytes, rk_arena *arena);

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

/* RK_ECANCELLED once nobody wants the answer any more. */
static inline rk_code
rk__still_wanted(const rk__predicate *p, rk_err *err)
{
    return rk_stop_asked(p->stop) ? rk_fail(err, RK_ECANCELLED, "the read was given up") : RK_OK;
}

static inline rk_code
rk__no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM,
                   "no memory for the read: its limit of 1 GiB of scratch and results is reached, "
                   "or memory is out");
}

#endif
