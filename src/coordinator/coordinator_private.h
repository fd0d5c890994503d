/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the coordinator, shared by its files.
 *
 * Truth is in the meta store; the same is held in memory for reading. A change is first made
 * durable by one transaction, then in memory, both under `ddl` (so changes are one at a time and in
 * the same order in both), the memory part also under `lock`. Readers take `lock` only.
 *
 * Keys (numbers are 20 decimal digits, so that key order is number order):
 *   time/bound                     timestamps below this many ms may have been given out
 *   coll/<collection>              CollectionInfo: schema, partitions, indexes
 *   load/<collection>              present: should be loaded
 *   chan/<collection>/<channel>    ChannelInfo: checkpoint
 *   seg/<collection>/<segment>     SegmentInfo
 *   delta/<collection>/<delta>     DeltaFile
 *   drop/<collection>              dropped: its files wait for garbage collection
 *
 * One job thread does everything that takes time: loading, view changes, index and compaction
 * tasks, garbage collection. It sleeps until something changed; while tasks run it looks at them
 * every TASK_POLL_MS. It takes what it needs under `lock`, works without, and re-checks when it
 * comes back: the collection may have been dropped meanwhile.
 *
 * Lock order: ddl (38), lock (40), time (41). The meta store is called under ddl and time: I/O
 * under a lock, on purpose.
 */
#ifndef RK_COORDINATOR_PRIVATE_H
#define RK_COORDINATOR_PRIVATE_H

#include <stdio.h>

#include "base/log.h"
#include "base/util.h"
#include "coordinator/coordinator.h"
#include "proto/internal.service.h"

enum {
    RK__CO_RANK_DDL = 38,
    RK__CO_RANK_LOCK = 40,
    RK__CO_RANK_TIME = 41,
};

/* A segment with fewer rows is searched exactly: an index would cost more than it saves. */
#define RK__CO_INDEX_ROWS_MIN 1024
#define RK__CO_TASK_TRIES_MAX 3
#define RK__CO_TASK_POLL_MS   20
#define RK__CO_RETRY_MS       1000
/* What failed because a file is damaged will mostly fail again: between tries it waits twice as
 * long each time, so many times. */
#define RK__CO_DAMAGE_SHIFT_MAX 6u

/* A message with the arena it lives in; replaced whole, never changed. */
typedef struct rk__co_box {
    rk_arena *arena;
    void *message;
} rk__co_box;

typedef struct rk__co_segment {
    int64_t id;
    rk__co_box box; /* pb_rk_SegmentInfo */
    bool held;      /* on the query node */
    bool in_view;   /* reads use it */
    bool stale;     /* held, but its list of indexes has changed since */
    bool pending; /* result of a compaction that waits for its indexes; not in the meta store yet */
    bool told;    /* dropped, and the delegator keeps no growing copy of it any more */
    int64_t compaction; /* task that reads it, 0: none */
    int64_t
        sound_at_ns; /* monotonic: not compacted before, since it could not be read; 0: it can */
} rk__co_segment;

typedef struct rk__co_task {
    int64_t id;
    int64_t collection_id;
    int64_t segment_id; /* index build: of which; compaction: the output */
    int64_t index_id;   /* 0: compaction */
    int64_t *inputs;    /* compaction */
    size_t inputs_len;
    uint64_t rows_done;
} rk__co_task;

/* What went wrong with building an index over a segment. */
typedef struct rk__co_failure {
    int64_t segment_id;
    int64_t index_id;
    unsigned tries;
    int64_t retry_at_ns; /* monotonic: not before */
    char reason[1024];
} rk__co_failure;

typedef struct rk__co_collection {
    int64_t id;
    rk__co_box box;       /* pb_rk_CollectionInfo */
    rk__co_box *channels; /* pb_rk_ChannelInfo */
    size_t channels_len;
    rk__co_segment *segments;
    size_t segments_len;
    size_t segments_cap;
    size_t segments_promised; /* places kept for a flush that is being made durable */
    rk__co_box *deltas;       /* pb_rk_DeltaFile, rising id */
    size_t deltas_len;
    size_t deltas_cap;
    rk__co_failure *failures;
    size_t failures_len;
    size_t failures_cap;

    bool load_wanted;
    bool load_announced;   /* the delegator keeps growing copies for us */
    bool leaving;          /* letting go began: the view must be announced anew */
    bool loaded;           /* the view serves reads */
    char load_error[1024]; /* empty: none */
    unsigned load_tries;   /* that failed because files are damaged, one after the other */
    int64_t retry_at_ns;   /* monotonic: not before; 0: at once */
    int64_t flushed_at_ns; /* monotonic, of the newest flush: small segments are merged once it is
                              quiet */
    int64_t merge_at_ns;   /* monotonic: no compaction before, since one has failed; 0: at once */
    bool dropped;
    bool deltas_pruned; /* the delegator should hear of it */
} rk__co_collection;

struct rk_coordinator {
    rk_coordinator_options options;
    rk_service *service;

    rk_mutex ddl;
    rk_mutex lock;                   /* guards what follows */
    rk_cond wake;                    /* the job thread has something to do */
    rk_cond changed;                 /* the job thread did something */
    rk__co_collection **collections; /* rising id */
    size_t collections_len;
    size_t collections_cap;
    rk__co_collection **named; /* those not dropped, rising name */
    size_t named_len;
    size_t named_cap;
    rk__co_task *tasks;
    size_t tasks_len;
    size_t tasks_cap;
    rk__co_box *reports; /* pb_rk_ReportDamageRequest, for the job thread */
    size_t reports_len;
    bool work;
    bool stopping;
    rk_thread job_thread;
    bool job_started;
    _Atomic(uint64_t) revision; /* of the catalogue, for caches */
    int64_t start_id;           /* ids below were given before this start */
    bool pass_failed;           /* job thread: something is to be tried again after a pause */

    rk_mutex time; /* guards the three below */
    int64_t physical_ms;
    uint64_t logical;
    int64_t bound_ms; /* persisted: timestamps are given below it only */
};

static inline pb_rk_CollectionInfo *
rk__co_info(const rk__co_collection *c)
{
    return c->box.message;
}

static inline pb_rk_SegmentInfo *
rk__co_seg_info(const rk__co_segment *s)
{
    return s->box.message;
}

/* ---- time.c ---- */
RK_MUST_CHECK rk_code rk__co_time_init(rk_coordinator *co, rk_err *err);
/* |count| timestamps in a row, also used as ids. */
RK_MUST_CHECK rk_code rk__co_time_alloc(rk_coordinator *co, uint32_t count, uint64_t *first,
                                        rk_err *err);
rk_code rk__co_alloc(void *self, const void *request, void *response, rk_ctx *ctx);
int64_t rk__co_now_ns(const rk_coordinator *co);

/* ---- store.c: boxes, the meta store, the catalogue in memory ---- */
RK_MUST_CHECK rk_code rk__co_no_memory(rk_err *err);
RK_MUST_CHECK rk_code rk__co_box_copy(rk__co_box *out, const pb_message_desc *desc,
                                      const void *message);
RK_MUST_CHECK rk_code rk__co_box_decode(rk__co_box *out, const pb_message_desc *desc, rk_str bytes,
                                        rk_err *err);
void rk__co_box_free(rk__co_box *box);
rk_str rk__co_key(rk_arena *arena, const char *kind, int64_t collection,
                  int64_t id); /* id 0: none; .data NULL: no memory */
rk_str rk__co_channel_key(rk_arena *arena, int64_t collection, rk_str channel);
/* A put of |message| under |key|. */
RK_MUST_CHECK rk_code rk__co_put(rk_meta_op *op, rk_str key, const pb_message_desc *desc,
                                 const void *message, rk_arena *arena);
RK_MUST_CHECK rk_code rk__co_commit(rk_coordinator *co, const rk_meta_op *ops, size_t n,
                                    rk_err *err);
/* Reads all of it into memory. */
RK_MUST_CHECK rk_code rk__co_catalog_read(rk_coordinator *co, rk_err *err);
rk__co_collection *rk__co_find(rk_coordinator *co, int64_t id); /* caller holds lock */
/* The one that users see: a collection being dropped is not found. Caller holds lock. */
RK_MUST_CHECK rk_code rk__co_find_present(rk_coordinator *co, int64_t id, rk__co_collection **out,
                                          rk_err *err);
rk__co_collection *rk__co_find_named(rk_coordinator *co, rk_str db,
                                     rk_str name); /* caller holds lock */
rk__co_segment *rk__co_segment_find(rk__co_collection *c, int64_t id);
/* Makes room, so that the next rk__co_collection_add() cannot fail. Caller holds lock. */
RK_MUST_CHECK rk_code rk__co_collection_reserve(rk_coordinator *co);
RK_MUST_CHECK rk_code rk__co_collection_add(rk_coordinator *co,
                                            rk__co_collection *c); /* caller holds lock */
/* Its name is free from now on. Caller holds lock. */
void rk__co_collection_unname(rk_coordinator *co, const rk__co_collection *c);
void rk__co_collection_remove(rk_coordinator *co, int64_t id); /* caller holds lock; frees it */
void rk__co_collection_free(rk__co_collection *c);
RK_MUST_CHECK rk_code rk__co_segment_add(rk__co_collection *c, const rk__co_segment *segment);
/* Makes room for one delta and |segments| segments and keeps it: what ddl does next cannot fail for
 * memory. Caller holds ddl and lock, and takes the promise back. */
RK_MUST_CHECK rk_code rk__co_room_make(rk__co_collection *c, size_t segments);
void rk__co_segment_remove(rk__co_collection *c, int64_t id);
RK_MUST_CHECK rk_code rk__co_not_found(const pb_rk_CollectionKey *key, int64_t id, rk_err *err);
bool rk__co_db_known(rk_str db);
void rk__co_wake(rk_coordinator *co); /* caller holds lock */
void rk__co_bump(rk_coordinator *co);

/* ---- ddl.c ---- */
rk_code rk__co_create_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_drop_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_describe_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_list_collections(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_catalog_revision(void *self, const void *request, void *response, rk_ctx *ctx);

/* ---- indexes.c ---- */
rk_code rk__co_create_index(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_drop_index(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_describe_index(void *self, const void *request, void *response, rk_ctx *ctx);
/* The index file of |index_id| among those of |info|, NULL when it is not built. */
const pb_rk_IndexFile *rk__co_index_file(const pb_rk_SegmentInfo *info, int64_t index_id);

/* ---- segments.c ---- */
rk_code rk__co_save_flush(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_flush(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_get_flush_state(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_get_statistics(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_list_segments(void *self, const void *request, void *response, rk_ctx *ctx);

/* ---- damage.c ---- */
rk_code rk__co_report_damage(void *self, const void *request, void *response, rk_ctx *ctx);
/* Job thread: index files that were reported, or that a load could not open, leave the catalogue,
 * so that they are built again. */
void rk__co_forget_reported(rk_coordinator *co);
void rk__co_forget_unopened(rk_coordinator *co, int64_t collection_id,
                            const pb_rk_LoadSegmentsRequest *load,
                            const pb_rk_LoadSegmentsResponse *answer, rk_ctx *ctx);

/* ---- load.c ---- */
rk_code rk__co_load(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_release(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__co_get_load_state(void *self, const void *request, void *response, rk_ctx *ctx);
void rk__co_fill_load_state(const rk__co_collection *c,
                            pb_rk_LoadState *out); /* caller holds lock */
/* Neither the view nor the query node has anything of it. Caller holds lock. */
bool rk__co_holds_nothing(const rk__co_collection *c);
/* Job thread: brings query node and view to what the catalogue says. */
void rk__co_sync_load(rk_coordinator *co, int64_t collection_id);

/* ---- tasks.c, job thread; the helpers: caller holds lock ---- */
void rk__co_plan_tasks(rk_coordinator *co, int64_t collection_id, int64_t *wait_ns);
rk__co_task *rk__co_task_find(rk_coordinator *co, int64_t segment_id, int64_t index_id);
/* Takes the task |id| from the table into |*out|; its inputs are the caller's. */
bool rk__co_task_take(rk_coordinator *co, int64_t id, rk__co_task *out);
/* Marks the inputs of |task| as taken by it, or as free again. */
void rk__co_mark_inputs(rk__co_collection *c, const rk__co_task *task, bool taken);
rk__co_failure *rk__co_failure_find(rk__co_collection *c, int64_t segment_id, int64_t index_id);
/* True when the build has failed so often that nothing waits for it any more. */
bool rk__co_gave_up(rk__co_collection *c, int64_t segment_id, int64_t index_id);
bool rk__co_is_vector_index(const pb_rk_CollectionInfo *info, const pb_rk_IndexInfo *index);

/* ---- results.c, job thread ---- */
void rk__co_collect_tasks(rk_coordinator *co); /* takes results of ended tasks in */
/* Puts compactions whose indexes are built into the catalogue, and marks what they replace. */
void rk__co_commit_pending(rk_coordinator *co, int64_t collection_id);
/* Replaces a segment's record, durable unless it is pending. RK_ESEGMENT_NOT_FOUND when it is gone.
 */
RK_MUST_CHECK rk_code rk__co_segment_replace(rk_coordinator *co, int64_t collection_id,
                                             const pb_rk_SegmentInfo *next, rk_ctx *ctx);
void rk__co_delete_objects(rk_coordinator *co, const pb_rk_SegmentInfo *info);

/* ---- gc.c, job thread ---- */
void rk__co_collect_garbage(rk_coordinator *co, int64_t collection_id);
void rk__co_sweep_orphans(rk_coordinator *co);
void rk__co_drop_object(rk_coordinator *co, rk_str name); /* a failure is logged */

/* ---- jobs.c ---- */
RK_MUST_CHECK rk_code rk__co_jobs_start(rk_coordinator *co, rk_err *err);
void rk__co_jobs_stop(rk_coordinator *co);
/* One pass over all collections. Returns how long the thread may sleep, in ns; INT64_MAX: until
 * woken. */
int64_t rk__co_pass(rk_coordinator *co);

#endif
