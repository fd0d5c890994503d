/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Meta store: a small, ordered, transactional key-value store shaped like etcd, so that etcd is one
 * of its backends.
 *
 * Every successful write transaction gets the next revision. A transaction compares, then applies
 * one of two lists atomically and durably: when rk_meta_txn() returns RK_OK the change survives a
 * power cut. Keys are bytes without NUL, ordered bytewise; at most 1,024 bytes; values at most 1
 * MiB; at most 4,096 operations in a transaction.
 *
 * Threads: any. Watch callbacks run on the backend's own thread, in revision order, without a lock
 * held. Errors: RK_EIO and RK_EDISK_FULL mean "could not": never the same as an empty answer.
 */
#ifndef RK_STORAGE_META_H
#define RK_STORAGE_META_H

#include "base/mem.h"
#include "base/seam.h"

typedef struct rk_meta rk_meta;

typedef struct rk_meta_kv {
    rk_str key;
    rk_str value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version; /* 1 at creation, +1 per put */
    int64_t lease;   /* 0: none */
} rk_meta_kv;

typedef enum rk_meta_target {
    RK_META_VALUE,
    RK_META_VERSION,
    RK_META_MOD_REVISION,
    RK_META_CREATE_REVISION
} rk_meta_target;
typedef enum rk_meta_cmp {
    RK_META_EQUAL,
    RK_META_NOT_EQUAL,
    RK_META_GREATER,
    RK_META_LESS
} rk_meta_cmp;

/* A key that does not exist has version, create and mod revision 0; comparing its value is false.
 */
typedef struct rk_meta_compare {
    rk_str key;
    rk_meta_target target;
    rk_meta_cmp cmp;
    rk_str value;   /* for RK_META_VALUE */
    int64_t number; /* for the others */
} rk_meta_compare;

typedef enum rk_meta_op_kind { RK_META_PUT, RK_META_DELETE, RK_META_DELETE_PREFIX } rk_meta_op_kind;
typedef struct rk_meta_op {
    rk_meta_op_kind kind;
    rk_str key;
    rk_str value; /* PUT */
    int64_t lease;
} rk_meta_op;

typedef struct rk_meta_txn {
    const rk_meta_compare *compares;
    size_t compares_len;
    const rk_meta_op *then_ops;
    size_t then_len;
    const rk_meta_op *else_ops;
    size_t else_len;
} rk_meta_txn;

typedef struct rk_meta_result {
    bool succeeded;   /* the compares held */
    int64_t revision; /* of the store after the transaction */
} rk_meta_result;

typedef struct rk_meta_range {
    rk_meta_kv *kvs; /* in key order */
    size_t n;
    int64_t revision;
} rk_meta_range;

typedef struct rk_meta_event {
    bool deleted;
    rk_meta_kv kv;
} rk_meta_event;

/* Opens the SQLite backend in the file |path| (WAL journal, synchronous FULL). */
RK_MUST_CHECK rk_code rk_meta_open_sqlite(rk_meta **out, const char *path, const rk_env *env,
                                          rk_err *err);
void rk_meta_close(rk_meta *meta);

RK_MUST_CHECK rk_code rk_meta_do(rk_meta *meta, const rk_meta_txn *txn, rk_meta_result *out,
                                 rk_err *err);
/* The one key; |*found| tells. Memory in |arena|. */
RK_MUST_CHECK rk_code rk_meta_get(rk_meta *meta, rk_str key, rk_meta_kv *out, bool *found,
                                  rk_arena *arena, rk_err *err);
/* Keys that start with |prefix|, at most |limit| (0: all). */
RK_MUST_CHECK rk_code rk_meta_list(rk_meta *meta, rk_str prefix, size_t limit, rk_meta_range *out,
                                   rk_arena *arena, rk_err *err);
/* Shorthands for transactions without compares. */
RK_MUST_CHECK rk_code rk_meta_put(rk_meta *meta, rk_str key, rk_str value, rk_err *err);
RK_MUST_CHECK rk_code rk_meta_delete(rk_meta *meta, rk_str key, rk_err *err);

/* Every change under |prefix| from revision |from| on (0: from now), gap-free. RK_EINVAL when
 * |from| was compacted away. */
typedef struct rk_meta_watch rk_meta_watch;
RK_MUST_CHECK rk_code rk_meta_watch_start(rk_meta_watch **out, rk_meta *meta, rk_str prefix,
                                          int64_t from,
                                          void (*on_event)(void *user, const rk_meta_event *event,
                                                           int64_t revision),
                                          void *user, rk_err *err);
void rk_meta_watch_stop(rk_meta_watch *watch); /* no callback runs after it returns */

/* Leases: keys attached to one vanish when it is not kept alive for |ttl_ms|. */
RK_MUST_CHECK rk_code rk_meta_lease_grant(rk_meta *meta, int64_t ttl_ms, int64_t *lease,
                                          rk_err *err);
RK_MUST_CHECK rk_code rk_meta_lease_keep_alive(rk_meta *meta, int64_t lease,
                                               rk_err *err); /* RK_EKEY_NOT_FOUND once expired */
RK_MUST_CHECK rk_code rk_meta_lease_revoke(rk_meta *meta, int64_t lease, rk_err *err);

/* Backends implement this table; the functions above check limits and forward. See meta_private.h.
 */

#endif
