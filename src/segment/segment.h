/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: a set of rows of one partition and one shard, in columns. Growing ones live in memory
 * and take appends; sealed ones are immutable files.
 *
 * Visibility. Every row has the timestamp of its write, every delete too. A read has a read_ts: it
 * sees rows with timestamp <= read_ts whose key has no delete with row timestamp < delete timestamp
 * <= read_ts. (An upsert deletes and inserts at one timestamp: the new row stays.)
 *
 * Ownership: reference counted; whoever serves reads holds one reference for the time of the read.
 * Threads: growing: one writer at a time (the channel's apply lock), any number of readers beside
 * it: a row is published by a release store of the row count. Deletes: any thread, guarded inside.
 * Sealed columns: immutable; an index is swapped in by atomic pointer.
 */
#ifndef RK_SEGMENT_SEGMENT_H
#define RK_SEGMENT_SEGMENT_H

#include "base/thread.h"
#include "filter/filter.h"
#include "index/growing/growing.h"
#include "model/column.h"
#include "proto/internal.pb.h"
#include "storage/object/object.h"

typedef struct rk_segment rk_segment;

typedef struct rk_segment_ids {
    int64_t id;
    int64_t collection_id;
    int64_t partition_id;
} rk_segment_ids;

/* ---- growing ---- */
RK_MUST_CHECK rk_code rk_segment_new_growing(rk_segment **out, const rk_segment_ids *ids,
                                             rk_schema *schema, rk_mem *mem, rk_err *err);
/* Appends |rows| rows; |fields| holds every field of the schema, checked before. All or nothing:
 * RK_ENOMEM leaves the segment as it was. Caller holds the channel's apply lock; |ts| is above
 * every earlier one. */
RK_MUST_CHECK rk_code rk_segment_append(rk_segment *seg, pb_schema_FieldData *const *fields,
                                        size_t fields_len, uint32_t rows, uint64_t ts, rk_err *err);

/*
 * Searches may make codes of this segment's vectors (index/growing/growing.h), from the budget
 * |mem|, NULL: none. Before the first reader; |mem| outlives the segment.
 */
void rk_segment_allow_codes(rk_segment *seg, rk_mem *mem);
/* Codes some more of the first |rows| rows of schema position |field|, if that is allowed, they can
 * have codes and nobody else is at it. Any thread that holds a reference; takes about as long as
 * scoring those without codes once. */
void rk_segment_code(const rk_segment *seg, size_t field, rk_metric metric, size_t rows);
/* The codes of |chunk| for |metric| and how many of its rows have them; NULL, 0: none. */
const rk_growing_codes *rk_segment_codes(const rk_segment *seg, size_t chunk, size_t field,
                                         rk_metric metric, size_t *rows);

/* ---- sealed ---- */
typedef struct rk_segment_env {
    rk_object_store *objects;
    rk_mem *mem;
    const rk_parallel *parallel;
} rk_segment_env;

/*
 * Writes the live rows of |inputs| (deletes up to |fold_ts| folded, rows newer than it must not
 * exist in growing inputs) as the files of one new sealed segment, sorted by primary key, objects
 * named "c<collection>/s<id>/...". Fills |info| (memory in |arena|): rows, sizes, columns, min/max
 * ts. rows 0: no file was written. On error or cancel no object is left behind. Serves flush (one
 * growing input) and compaction (sealed inputs).
 */
RK_MUST_CHECK rk_code rk_segment_write(pb_rk_SegmentInfo *info, const rk_segment_ids *out_ids,
                                       rk_segment *const *inputs, size_t inputs_len,
                                       uint64_t fold_ts, const rk_segment_env *env,
                                       const _Atomic(bool) *cancel, rk_arena *arena, rk_err *err);
/* Opens the files of |info| (maps them), with the indexes it lists. A damaged index file is
 * reported in |*index_damaged| and left out. A damaged column of keys or timestamps is an error
 * that names object and offset; any other column opens all the same, and whoever reads it gets that
 * error. */
RK_MUST_CHECK rk_code rk_segment_open(rk_segment **out, const pb_rk_SegmentInfo *info,
                                      rk_schema *schema, const rk_segment_env *env,
                                      bool *index_damaged, rk_err *err);
/* Builds the index of |field_id| from the mapped column and writes it to |object|. */
RK_MUST_CHECK rk_code rk_segment_build_index(const rk_segment *seg, int64_t field_id,
                                             rk_params params, const char *object,
                                             const rk_segment_env *env, const _Atomic(bool) *cancel,
                                             _Atomic(uint64_t) *rows_done, uint64_t *size_bytes,
                                             rk_err *err);
/* The same, out of the indexes of |inputs|, the segments that |seg| was written from, where that is
 * less work than building afresh. They are only read; what of them cannot be used is left aside. */
RK_MUST_CHECK rk_code rk_segment_merge_index(const rk_segment *seg, rk_segment *const *inputs,
                                             size_t inputs_len, int64_t field_id, rk_params params,
                                             const char *object, const rk_segment_env *env,
                                             const _Atomic(bool) *cancel,
                                             _Atomic(uint64_t) *rows_done, uint64_t *size_bytes,
                                             rk_err *err);
/* Opens |file| and publishes it for searches that start later. Where the column is damaged, an
 * index that scores on it is left out, and so is a damaged one, with RK_OK: neither can be built
 * again, and reads of the column say why there is none. */
RK_MUST_CHECK rk_code rk_segment_set_index(rk_segment *seg, const pb_rk_IndexFile *file,
                                           const rk_segment_env *env, rk_err *err);
bool rk_segment_has_index(const rk_segment *seg, int64_t field_id);
void rk_segment_drop_index(rk_segment *seg, int64_t field_id);

/* ---- both ---- */
rk_segment *rk_segment_ref(rk_segment *seg);
void rk_segment_unref(rk_segment *seg);

typedef struct rk_segment_stats {
    rk_segment_ids ids;
    bool growing;
    size_t rows;         /* written, deleted ones included */
    size_t rows_deleted; /* now */
    uint64_t bytes;      /* memory of a growing one, files of a sealed one */
    uint64_t min_ts, max_ts;
    uint64_t fold_ts;
    size_t chunks;
} rk_segment_stats;
void rk_segment_get_stats(const rk_segment *seg, rk_segment_stats *out);
rk_schema *rk_segment_schema(const rk_segment *seg);

/* Marks rows with these keys and timestamp < ts[i] as deleted from ts[i] on. Idempotent. Any
 * thread; sets must come in rising ts order per segment except for repeats. |*hits| counts rows
 * newly deleted. */
RK_MUST_CHECK rk_code rk_segment_delete(rk_segment *seg, const pb_schema_IDs *keys,
                                        const uint64_t *ts, size_t n, size_t *hits, rk_err *err);

/* The rows a read at |read_ts| sees, as a bitset over |rows| (in |arena|); |*all| when every row up
 * to |*rows| is seen (then |out| is not filled). */
RK_MUST_CHECK rk_code rk_segment_visible(const rk_segment *seg, uint64_t read_ts, rk_bitset *out,
                                         size_t *rows, bool *all, rk_arena *arena, rk_err *err);

/* A number for the rows that such a read leaves out: where it is the same before
 * rk_segment_visible() and after, every other read for which it is has the same bits. UINT64_MAX:
 * cannot be told, as of growing segments. */
uint64_t rk_segment_deletes_upto(const rk_segment *seg, uint64_t read_ts);

/* Columns chunk by chunk: chunk c holds rows [first, first + column.rows). A sealed segment has one
 * chunk. Row counts are those of the moment |rows| was taken. */
size_t rk_segment_chunk_of(const rk_segment *seg, size_t row, size_t *first);
/* The column of schema position |field| in chunk |chunk|, cut at row |rows|. A sealed column is
 * checked against its checksum on first use. */
RK_MUST_CHECK rk_code rk_segment_column(const rk_segment *seg, size_t chunk, size_t field,
                                        size_t rows, rk_column *out, rk_err *err);
uint64_t rk_segment_row_ts(const rk_segment *seg, size_t row);
rk_pk rk_segment_pk(const rk_segment *seg, size_t row); /* borrowed from the segment */
/* Rows with |pk| (any visibility) below |rows|; at most |max| are written, returns how many there
 * are. */
size_t rk_segment_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max);

/* The index of a vector field, referenced until rk_segment_index_unref(); NULL when there is none.
 */
typedef struct rk_segment_index rk_segment_index;
rk_segment_index *rk_segment_index_ref(const rk_segment *seg, int64_t field_id,
                                       const rk_index **out);
void rk_segment_index_unref(rk_segment_index *held);
/* Never that of another index opened by this process, and not 0. */
uint64_t rk_segment_index_uid(const rk_segment_index *held);

/*
 * Index files found damaged after they were opened: by a search that read a bad page, which marks
 * the index it holds, or by rk_segment_verify_indexes(), which reads through what was too large to
 * be checked at open and polls |cancel|. A marked index serves until rk_segment_drop_damaged()
 * takes it out and names its object (in |arena|); not where the column is damaged too, since then
 * it could not be built again. Any thread.
 */
void rk_segment_mark_damaged(rk_segment *seg, rk_segment_index *held);
bool rk_segment_has_damage(const rk_segment *seg);
bool rk_segment_is_verified(const rk_segment *seg);
void rk_segment_verify_indexes(rk_segment *seg, const _Atomic(bool) *cancel);
RK_MUST_CHECK rk_code rk_segment_drop_damaged(rk_segment *seg, pb_strs *objects, rk_arena *arena);

/* Whether a column was found damaged so far: what reads it is refused, the rest serves. */
bool rk_segment_has_damaged_column(const rk_segment *seg);

/* ---- delete files (deltas) ---- */
RK_MUST_CHECK rk_code rk_delta_write(pb_rk_DeltaFile *out, const char *object,
                                     const pb_schema_IDs *keys, const uint64_t *ts, size_t n,
                                     rk_object_store *objects, rk_arena *arena, rk_err *err);
RK_MUST_CHECK rk_code rk_delta_read(const char *object, pb_schema_IDs **keys, uint64_t **ts,
                                    size_t *n, rk_object_store *objects, rk_arena *arena,
                                    rk_err *err);

#endif
