/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the streaming node, shared by its files.
 *
 * A collection's writes form one sequence, its *turns*. A turn is taken in the order of the log
 * (or, for changes of the view and for sealing, at the end of the line) and is exclusive: who has
 * the turn may change the collection's channels without a lock held, and takes `lock` only to
 * publish. Readers take `lock` for the time of copying references, never longer. So neither the
 * log, nor a query node, nor an allocation ever stands under a lock.
 *
 *   append:  ensure ids, reserve memory
 *            -> log (group commit; in its ordering lock the turn is queued and the timestamp given)
 *            -> wait for the turn -> apply -> publish applied_ts -> end the turn -> answer
 *   read:    wait for the turns a strong read must see
 *            -> lock, take references and applied_ts, unlock -> search -> merge
 *   seal:    turn: active growing segments move to `flushing` with the point of the log they cover
 *            -> background: write files, SaveFlush
 *            -> turn: checkpoint moves, deletes that are in files are forgotten
 *   view:    turn: sealed segments join or leave what reads use; the growing copies they replace
 *            go at the same moment
 */
#ifndef RK_STREAMING_PRIVATE_H
#define RK_STREAMING_PRIVATE_H

#include "base/log.h"
#include "base/util.h"
#include "proto/internal.service.h"
#include "search/search.h"
#include "worker/worker.h"

/* Lock ranks, see docs/locking.md. */
enum {
    RK__SN_RANK_NODE = 50,
    RK__SN_RANK_COLLECTION = 51,
    RK__SN_RANK_TURNS = 75, /* taken under the log's ordering lock */
};

/* ---- deletes that are not in files yet ---- */

/* Primary keys with timestamps, in rising order of timestamp. Owned by the channel; changed in
 * turns, under the collection's lock. */
typedef struct rk__sn_deletes {
    int64_t *numbers;  /* integer keys */
    uint64_t *offsets; /* text keys: n + 1 offsets into text, used when is_text */
    rk_buf text;
    uint64_t *ts;
    size_t n;
    size_t cap;
    bool is_text;
} rk__sn_deletes;

void rk__sn_deletes_deinit(rk__sn_deletes *d);
RK_MUST_CHECK rk_code rk__sn_deletes_add(rk__sn_deletes *d, const pb_schema_IDs *keys, uint64_t ts);
/* Entries with after < timestamp <= upto, copied into |arena|. */
RK_MUST_CHECK rk_code rk__sn_deletes_copy(const rk__sn_deletes *d, uint64_t after, uint64_t upto,
                                          pb_schema_IDs **keys, uint64_t **ts, size_t *n,
                                          rk_arena *arena);
void rk__sn_deletes_forget(rk__sn_deletes *d, uint64_t upto); /* entries with timestamp <= upto */

/* ---- channels ---- */

typedef struct rk__sn_growing {
    rk_segment *segment;
    int64_t partition_id;
    uint64_t reserved_bytes; /* of the node's memory budget */
    uint64_t job;            /* flush job that writes it, 0 while active */
    bool saved;              /* its sealed copy is in the catalogue: goes when that one serves */
} rk__sn_growing;

typedef struct rk__sn_channel {
    char *name;
    rk__sn_growing *slots; /* active and flushing */
    size_t slots_len;
    size_t slots_cap;
    uint64_t active_bytes; /* of the active ones, estimated */
    rk__sn_deletes deletes;
    size_t active_deletes;   /* of those, the ones no job covers */
    uint64_t checkpoint_lsn; /* records up to this are in files */
    uint64_t checkpoint_ts;
    pb_rk_DeltaFile *deltas; /* live delta files; their strings are in delta_arena */
    size_t deltas_len;
    size_t deltas_cap;
    rk_arena *delta_arena;
} rk__sn_channel;

/* ---- turns ---- */

typedef struct rk__sn_turn {
    struct rk__sn_turn *next;
    uint64_t seq;
    uint64_t ts;  /* of an append; 0 otherwise */
    uint64_t lsn; /* of an append; 0 otherwise */
} rk__sn_turn;

typedef struct rk__sn_sealed {
    int64_t id;
    int64_t partition_id;
    uint32_t channel;
} rk__sn_sealed;

/* A point of the log up to which a flush covers the collection. Its channels are saved one after
 * the other. */
typedef struct rk__sn_job {
    struct rk__sn_job *next;
    uint64_t id;
    uint64_t lsn;
    uint64_t ts;
    uint64_t first_lsn;           /* the oldest record that is only in memory */
    rk_arena *arena;              /* of |save| */
    pb_rk_SaveFlushRequest *save; /* written, perhaps saved, of the channel under way; NULL: none */
    bool leftovers;               /* a try at writing failed: objects may be in the way */
} rk__sn_job;

typedef struct rk__sn_collection {
    struct rk_streaming_node *node;
    int64_t id;
    _Atomic(uint32_t) refs; /* the node's table holds one, each call one more */

    rk_mutex lock; /* guards what follows up to `turns`, beside the rule of turns above */
    char *name;
    rk_schema *schema;
    rk__sn_channel *channels;
    size_t channels_len;
    rk__sn_sealed *sealed; /* the view */
    size_t sealed_len;
    size_t sealed_cap;
    bool loaded;
    bool keeps_saved; /* loading or loaded: growing copies stay until the sealed ones are added */
    bool closed;
    bool broken; /* a durable record could not be applied: serves nothing until a restart replays
                    the log */
    uint64_t applied_ts;
    uint64_t applied_lsn;
    uint64_t first_dirty_lsn; /* 0: everything applied is in files or in jobs */
    rk__sn_job *jobs;         /* flushes not finished, oldest first */
    bool flush_running;
    rk_cond flushed;           /* a job ended */
    _Atomic(bool) seal_queued; /* one rk__sn_seal_soon() at a time */

    rk_mutex turns; /* guards the queue of turns */
    rk_cond turn_ended;
    rk__sn_turn *head; /* has the turn */
    rk__sn_turn *tail;
    uint64_t next_seq;
} rk__sn_collection;

struct rk_streaming_node {
    rk_worker_options options;
    rk_service *service;
    rk_wal *wal;
    _Atomic(rk_service *) coordinator;

    rk_mutex lock; /* guards the table and the id pool */
    rk__sn_collection **collections;
    size_t collections_len;
    size_t collections_cap;
    uint64_t ids_next; /* segment ids got ahead of use */
    uint64_t ids_end;
    uint64_t ids_promised; /* so many of them are for writes under way, taken or not */

    _Atomic(uint64_t)
        last_ts; /* newest timestamp given; written under the log's ordering lock only */
    _Atomic(bool) stopping;
    _Atomic(bool)
        replayed; /* the log has been read whole: what is in memory tells what it may lose */
    _Atomic(uint32_t) busy; /* appends and background jobs under way */
    _Atomic(uint64_t) next_job;
    _Atomic(uint64_t) durable_lsn; /* records up to this are in the log for good */
    _Atomic(uint64_t) log_grown;   /* bytes since its length was looked at */
    uint64_t growing_bytes_max;    /* a channel seals past this */
    uint64_t log_bytes_max;        /* past this, who keeps the log's tail is sealed */
};

/* ---- turns.c ---- */
void rk__sn_turn_queue(
    rk__sn_collection *c,
    rk__sn_turn *turn); /* at the end of the line; any thread, also under the log's lock */
void rk__sn_turn_wait(rk__sn_collection *c, const rk__sn_turn *turn);
void rk__sn_turn_end(rk__sn_collection *c, rk__sn_turn *turn); /* the caller has the turn */
/* Waits for the appends begun so far with a timestamp up to |ts|. False when the deadline passed
 * first. */
bool rk__sn_turns_pass(rk__sn_collection *c, uint64_t ts, int64_t deadline_ns);
/* The smallest lsn among appends in line, UINT64_MAX when there are none. */
uint64_t rk__sn_turns_first_lsn(rk__sn_collection *c);

/* ---- collection.c ---- */
rk__sn_collection *rk__sn_find(rk_streaming_node *node, int64_t id); /* a reference, or NULL */
void rk__sn_unref(rk__sn_collection *c);
rk__sn_channel *rk__sn_channel_find(rk__sn_collection *c, rk_str name, uint32_t *position);
rk_code rk__sn_open_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__sn_update_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__sn_close_collection(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__sn_get_stats(void *self, const void *request, void *response, rk_ctx *ctx);
RK_MUST_CHECK rk_code rk__sn_not_found(int64_t collection_id, rk_err *err);
RK_MUST_CHECK rk_code rk__sn_broken(const rk__sn_collection *c,
                                    rk_err *err); /* caller holds lock */
RK_MUST_CHECK rk_code rk__sn_no_memory(rk_err *err);
/* Drops slot |at| of |ch| (swaps the last into it) and returns what it held, to be released outside
 * the lock. */
rk__sn_growing rk__sn_slot_take(rk__sn_channel *ch, size_t at);
void rk__sn_growing_release(rk_streaming_node *node, rk__sn_growing *slot);
RK_MUST_CHECK rk_code rk__sn_delta_remember(rk__sn_channel *ch, const pb_rk_DeltaFile *delta);
/* Keeps |n| segment ids for the caller: until it gives the promise back rk__sn_id_take() cannot
 * fail that often. */
RK_MUST_CHECK rk_code rk__sn_ids_promise(rk_streaming_node *node, size_t n, rk_ctx *ctx);
void rk__sn_ids_return(rk_streaming_node *node,
                       size_t n);                /* the promise, whatever was taken of it */
int64_t rk__sn_id_take(rk_streaming_node *node); /* 0: none left */

/* ---- append.c ---- */
rk_code rk__sn_append(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__sn_recover(void *self, const void *request, void *response, rk_ctx *ctx);

/* ---- apply.c: the caller has the turn ---- */
/* What an append adds to memory, for the budget: |reserved_bytes| is shared among the batches by
 * their rows; all of it is the rows' or released when this returns. |ctx| has no deadline: a
 * durable write is applied, or the collection is broken. */
RK_MUST_CHECK rk_code rk__sn_apply(rk__sn_collection *c, const pb_rk_AppendRequest *request,
                                   uint64_t ts, uint64_t lsn, uint64_t reserved_bytes, rk_ctx *ctx);
/* True when a channel has grown past its bound and should be sealed. */
bool rk__sn_wants_seal(rk__sn_collection *c);

/* ---- flush.c ---- */
rk_code rk__sn_seal(void *self, const void *request, void *response, rk_ctx *ctx);
/* Seals in the background; refused quietly when nothing is there to seal. Under any lock up to the
 * node's. */
void rk__sn_seal_soon(rk__sn_collection *c);
/* Seals what holds the most memory. False when no row is held that a flush could take to files. */
bool rk__sn_make_room(rk_streaming_node *node);
/* Cuts the log behind what every collection has in files; seals the collection that keeps its tail
 * when it has grown long; starts flushes that could not be queued before. */
void rk__sn_truncate(rk_streaming_node *node);
void rk__sn_job_free(rk__sn_job *job);

/* ---- view.c ---- */
rk_code rk__sn_sync_view(void *self, const void *request, void *response, rk_ctx *ctx);

/* ---- read.c ---- */
rk_code rk__sn_search(void *self, const void *request, void *response, rk_ctx *ctx);
rk_code rk__sn_query(void *self, const void *request, void *response, rk_ctx *ctx);

#endif
