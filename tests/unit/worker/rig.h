/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rig of the role tests: coordinator, streaming, query and data node together over real stores
 * in a temporary folder, wired near or far. What the access layer would send is composed by hand.
 *
 * Every call between roles passes a *tamper*, which a test can tell to refuse the next calls of one
 * method, to lose the reply of a call that was carried out, or to answer late. Faults inside the
 * roles are set by name with rig_fault().
 */
#ifndef RK_TESTS_WORKER_RIG_H
#define RK_TESTS_WORKER_RIG_H

/* clang-format off */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "coordinator/coordinator.h"
#include "index/index.h"
#include "model/column.h"
#include "proto/internal.service.h"
#include "worker/worker.h"

#define DIM 4

#define RIG_WAITS 12000 /* of 5 ms: longer than anything takes on the busiest machine */

typedef enum tamper_mode { TAMPER_OFF, TAMPER_REFUSE, TAMPER_LOSE_REPLY, TAMPER_LATE } tamper_mode;

/* Which calls are tampered with: the next |calls| of |method|. */
typedef struct tamper {
    const pb_service_desc *desc;
    rk_service *inner;
    rk_service *service;
    _Atomic(int) mode;
    _Atomic(uint32_t) method;
    _Atomic(int) calls;
    _Atomic(int) code;
    _Atomic(int) late_ms;
    _Atomic(int) hits; /* calls tampered with so far */
} tamper;

enum { RIG_QUERY, RIG_STREAMING, RIG_DATA, RIG_COORDINATOR, RIG_ROLES };

typedef struct far_end {
    rk_pool *pool;
    rk_exports *exports;
    rk_rpc_server *server;
    rk_rpc_client *client;
    rk_service *service;
} far_end;

typedef struct roles {
    char path[64];
    bool far;
    uint64_t memory_bytes;
    const char *const *sets; /* key, value, key, value ..., NULL */
    rk_config *config;
    rk_meta *meta;
    rk_object_store *objects;
    rk_mem *mem;
    rk_pool *background;
    rk_query_node *query;
    rk_data_node *data;
    rk_streaming_node *streaming;
    rk_coordinator *coordinator;
    far_end ends[RIG_ROLES];
    tamper tampers[RIG_ROLES]; /* kept over restarts */
    rk_service *co;            /* as callers see them */
    rk_service *sn;
    rk_arena *arena;
    rk_err err;
    rk_ctx ctx;
} roles;

#define MUST(r, expr)                                                                              \
    do {                                                                                           \
        rk_code must_code_ = (expr);                                                               \
        if (must_code_ != RK_OK) {                                                                 \
            fail_msg("%s: code %d: %s", #expr, must_code_, (r)->err.text);                         \
        }                                                                                          \
    } while (0)

roles *roles_new(bool far);
/* |sets|: NULL or settings, as in roles; kept over restarts. */
roles *roles_new_with(bool far, uint64_t memory_bytes, const char *const *sets);
void roles_free(roles *r);
void rig_start(roles *r);
void rig_stop(roles *r);
void rig_restart(roles *r);

/* The next |calls| calls of |method| of a role fail with |code|: before anything was done, or after
 * all was. */
void rig_refuse(roles *r, int role, uint32_t method, rk_code code, int calls);
void rig_lose_reply(roles *r, int role, uint32_t method, rk_code code, int calls);
/* They are carried out and answered |late_ms| later. */
void rig_delay(roles *r, int role, uint32_t method, int late_ms, int calls);
int rig_hits(const roles *r, int role); /* calls tampered with since the last of the three */
void rig_wait_hits(const roles *r, int role, int least);

/* Fault rules as in REDKITE_FAULT; "" for none. */
void rig_fault(const char *rules);

pb_schema_FieldData *rig_ids_field(roles *r, int64_t from, size_t n);
pb_schema_IDs *rig_key_ids(roles *r, int64_t from, size_t n);
/* id Int64 primary, tag VarChar, v FloatVector(4). */
pb_rk_CollectionInfo *rig_create_shards(roles *r, const char *name, int32_t shards);
pb_rk_CollectionInfo *rig_create(roles *r, const char *name);
/* Inserts keys [from, from + n) into shard 0, deleting them first when |upsert|. */
uint64_t rig_insert(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n,
                    const char *tag, bool upsert);
uint64_t rig_insert_shard(roles *r, const pb_rk_CollectionInfo *c, size_t shard, int64_t from,
                          size_t n, const char *tag, bool upsert);
void rig_erase(roles *r, const pb_rk_CollectionInfo *c, int64_t from, size_t n);
void rig_create_index(roles *r, const pb_rk_CollectionInfo *c);
void rig_load(roles *r, const pb_rk_CollectionInfo *c);
void rig_index_and_load(roles *r, const pb_rk_CollectionInfo *c);
void rig_flush(roles *r, const pb_rk_CollectionInfo *c);
int64_t rig_count(roles *r, const pb_rk_CollectionInfo *c, const char *expr);
/* The key nearest to (x, 0, 0, 0), and its tag. */
int64_t rig_nearest(roles *r, const pb_rk_CollectionInfo *c, float x, rk_str *tag);
/* Waits until no more than |most| sealed segments are left and all rows are indexed. */
void rig_settle(roles *r, const pb_rk_CollectionInfo *c, size_t most);
size_t rig_live_segments(roles *r, const pb_rk_CollectionInfo *c);
size_t rig_objects(roles *r); /* in the store */
/* Waits until no more than |most| objects are left. */
void rig_wait_objects(roles *r, size_t most);

#define BOTH(name)                                                                                 \
    static void name##_near(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        name(false);                                                                               \
    }                                                                                              \
    static void name##_far(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        name(true);                                                                                \
    }

#endif
