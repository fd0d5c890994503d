/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One read from plan to merged rows, over a set of segments held by the caller.
 *
 * A plan is compiled once per request from the internal message; the same plan runs on the
 * delegator's growing segments and on a query node's sealed ones. Per segment: visible rows, filter
 * to a bitset, then the index or exact search under it. Hits are merged by score, one per primary
 * key (the newest row wins among equal keys; ties by key), and fields are fetched only for what
 * survives.
 *
 * Threads: pool thread; runs on the caller's thread alone. Scratch and results live in the
 * request's arena.
 */
#ifndef RK_SEARCH_SEARCH_H
#define RK_SEARCH_SEARCH_H

#include "segment/segment.h"

/*
 * Which rows of sealed segments pass the filters of recent reads, so that a filter that comes again
 * costs a look-up. One for all reads of a process; |limit_bytes| are charged to |mem| as they are
 * used. Any thread; freed when no arena of a read is left.
 */
typedef struct rk_filter_cache rk_filter_cache;
RK_MUST_CHECK rk_code rk_filter_cache_new(rk_filter_cache **out, uint64_t limit_bytes, rk_mem *mem,
                                          rk_err *err);
void rk_filter_cache_free(rk_filter_cache *cache);
/* Nothing is kept of that segment any more. |cache| may be NULL. */
void rk_filter_cache_drop(rk_filter_cache *cache, int64_t segment_id);
typedef struct rk_filter_cache_stats {
    uint64_t hits, misses; /* look-ups */
    uint64_t evicted;
    uint64_t entries;
    uint64_t bytes;
} rk_filter_cache_stats;
void rk_filter_cache_get_stats(rk_filter_cache *cache, rk_filter_cache_stats *out);

typedef struct rk_search_plan rk_search_plan;
typedef struct rk_query_plan rk_query_plan;

/* Checks field, metric, parameters and query vectors (dimension text of spec row 101) and compiles
 * the predicate. */
RK_MUST_CHECK rk_code rk_search_plan_new(rk_search_plan **out, const pb_rk_SearchRequest *request,
                                         rk_schema *schema, rk_arena *arena, rk_err *err);
/* Its filters are looked up, and kept, in |cache|, which may be NULL. */
void rk_search_plan_use(rk_search_plan *plan, rk_filter_cache *cache);
/* Runs of the plan end with RK_ECANCELLED soon after |stop|, borrowed, asks for it. */
void rk_search_plan_stop(rk_search_plan *plan, const rk_stop *stop);
/* Searches |segs| at scope.read_ts (not 0). Fills counts, scores, ids, segment_ids, rows,
 * rows_scanned of |out|; no fields. */
RK_MUST_CHECK rk_code rk_search_run(const rk_search_plan *plan, rk_segment *const *segs,
                                    size_t segs_len, uint64_t read_ts, pb_rk_SearchResponse *out,
                                    rk_arena *arena, rk_err *err);
/* Merges answers over the same queries into |out|: best |topk| of each query, one per key, then
 * drops |offset| at the front. */
RK_MUST_CHECK rk_code rk_search_merge(const rk_search_plan *plan,
                                      pb_rk_SearchResponse *const *parts, size_t parts_len,
                                      uint32_t offset, pb_rk_SearchResponse *out, rk_arena *arena,
                                      rk_err *err);

RK_MUST_CHECK rk_code rk_query_plan_new(rk_query_plan **out, const pb_rk_QueryRequest *request,
                                        rk_schema *schema, rk_arena *arena, rk_err *err);
/* True when it asks for the fields of every row without a limit, in whatever words: empty, `true`,
 * `1 == 1`. */
bool rk_query_plan_is_unbounded(const rk_query_plan *plan);
void rk_query_plan_use(rk_query_plan *plan, rk_filter_cache *cache);
void rk_query_plan_stop(rk_query_plan *plan, const rk_stop *stop);
/* Rows in primary key order, at most offset + limit of them (or just the count), with output
 * fields, keys and timestamps. */
RK_MUST_CHECK rk_code rk_query_run(const rk_query_plan *plan, rk_segment *const *segs,
                                   size_t segs_len, uint64_t read_ts, pb_rk_QueryResponse *out,
                                   rk_arena *arena, rk_err *err);
/* Merges by key (the newest of equal keys), applies offset and limit; counts are added. */
RK_MUST_CHECK rk_code rk_query_merge(const rk_query_plan *plan, pb_rk_QueryResponse *const *parts,
                                     size_t parts_len, pb_rk_QueryResponse *out, rk_arena *arena,
                                     rk_err *err);

/* Output fields of rows named by (segment, row), in order. RK_ESEGMENT_NOT_LOADED when a segment is
 * not among |segs|. */
RK_MUST_CHECK rk_code rk_fetch_run(const pb_rk_FetchRequest *request, rk_schema *schema,
                                   rk_segment *const *segs, size_t segs_len,
                                   pb_rk_FetchResponse *out, rk_arena *arena, rk_err *err);

#endif
