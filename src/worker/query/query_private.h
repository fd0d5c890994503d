/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query node, private: the node, and the care of damaged indexes (damage.c).
 */
#ifndef RK_WORKER_QUERY_PRIVATE_H
#define RK_WORKER_QUERY_PRIVATE_H

#include <stdatomic.h>

#include "proto/internal.service.h"
#include "search/search.h"
#include "worker/worker.h"

typedef struct rk__held_segment {
    int64_t id;
    int64_t collection_id;
    char *channel;       /* owned */
    rk_segment *segment; /* one reference */
} rk__held_segment;

typedef struct rk__held_schema {
    int64_t collection_id;
    rk_schema *schema; /* one reference: the newest version seen */
} rk__held_schema;

struct rk_query_node {
    rk_worker_options options;
    rk_service *service;
    _Atomic(rk_service *) coordinator;
    _Atomic(bool) stopping;
    rk_filter_cache *filters;   /* NULL: switched off */
    rk_rwlock table;            /* guards the six below */
    rk__held_segment *segments; /* ascending by id */
    size_t segments_len;
    size_t segments_cap;
    rk__held_schema *schemas;
    size_t schemas_len;
    size_t schemas_cap;
};

/* Has |seg| read through on the background pool if it has an index that was too large for that at
 * open. */
void rk__qn_verify_later(rk_query_node *node, rk_segment *seg);
/* Takes an index that a search found damaged out of service, on the background pool. */
void rk__qn_heal_later(rk_query_node *node, rk_segment *seg);

#endif
