/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a meta store backend provides (SQLite here; etcd by the same table). The public functions
 * check limits and forward, so a backend sees only transactions that passed the checks: sizes, no
 * NUL in keys, and no key touched twice in one list.
 */
#ifndef RK_STORAGE_META_PRIVATE_H
#define RK_STORAGE_META_PRIVATE_H

#include "storage/meta/meta.h"

#define RK_META_KEY_MAX    1024u
#define RK_META_VALUE_MAX  (1u << 20)
#define RK_META_OPS_MAX    4096u
#define RK_META_TTL_MS_MAX (INT64_C(10) * 366 * 86400 * 1000)

typedef struct rk_meta_backend {
    void (*close)(rk_meta *meta);
    rk_code (*txn)(rk_meta *meta, const rk_meta_txn *txn, rk_meta_result *out, rk_err *err);
    rk_code (*get)(rk_meta *meta, rk_str key, rk_meta_kv *out, bool *found, rk_arena *arena,
                   rk_err *err);
    rk_code (*list)(rk_meta *meta, rk_str prefix, size_t limit, rk_meta_range *out, rk_arena *arena,
                    rk_err *err);
    rk_code (*watch_start)(rk_meta_watch **out, rk_meta *meta, rk_str prefix, int64_t from,
                           void (*on_event)(void *user, const rk_meta_event *event,
                                            int64_t revision),
                           void *user, rk_err *err);
    void (*watch_stop)(rk_meta_watch *watch); /* never NULL */
    rk_code (*lease_grant)(rk_meta *meta, int64_t ttl_ms, int64_t *lease, rk_err *err);
    rk_code (*lease_keep_alive)(rk_meta *meta, int64_t lease, rk_err *err);
    rk_code (*lease_revoke)(rk_meta *meta, int64_t lease, rk_err *err);
    void (*clock_changed)(rk_meta *meta); /* test hook: look at the clock again */
} rk_meta_backend;

/* A backend's own structs begin with these. */
struct rk_meta {
    const rk_meta_backend *backend;
};
struct rk_meta_watch {
    rk_meta *meta;
};

/* Tests that run on a clock of their own call this after moving it. */
void rk__meta_clock_changed(rk_meta *meta);

#endif
