/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three workers. Each is made with the seams and services it needs and offers one service (near
 * maker; rk_service_far() makes the far one).
 *
 *   streaming node  owns channels: the log, growing segments, the delete buffer; it is the
 * delegator of reads query node      holds sealed segments and searches them data node       builds
 * indexes and compacts in the background
 */
#ifndef RK_WORKER_WORKER_H
#define RK_WORKER_WORKER_H

#include "base/config.h"
#include "rpc/service.h"
#include "storage/object/object.h"
#include "storage/wal/wal.h"

typedef struct rk_streaming_node rk_streaming_node;
typedef struct rk_query_node rk_query_node;
typedef struct rk_data_node rk_data_node;

typedef struct rk_worker_options {
    const rk_env *env;
    const rk_config *config;
    rk_mem *mem;
    rk_object_store *objects;
    rk_pool *background;     /* flush, build, compaction: low priority */
    rk_service *coordinator; /* streaming node: timestamps, ids, SaveFlush */
    rk_service *query_node;  /* streaming node: sealed part of reads, deletes */
    const char *wal_path;    /* streaming node */
} rk_worker_options;

RK_MUST_CHECK rk_code rk_query_node_new(rk_query_node **out, const rk_worker_options *options,
                                        rk_err *err);
rk_service *rk_query_node_service(rk_query_node *node); /* near; owned by the node */
/* The coordinator hears of damaged index files; made after this node and known to it only then. */
void rk_query_node_set_coordinator(rk_query_node *node, rk_service *coordinator);
void rk_query_node_stop(rk_query_node *node); /* ends checks of index files under way */
void rk_query_node_free(rk_query_node *node);

RK_MUST_CHECK rk_code rk_data_node_new(rk_data_node **out, const rk_worker_options *options,
                                       rk_err *err);
rk_service *rk_data_node_service(rk_data_node *node);
void rk_data_node_stop(rk_data_node *node); /* cancels running tasks and waits for them */
void rk_data_node_free(rk_data_node *node);

RK_MUST_CHECK rk_code rk_streaming_node_new(rk_streaming_node **out,
                                            const rk_worker_options *options, rk_err *err);
rk_service *rk_streaming_node_service(rk_streaming_node *node);
/* The coordinator is made after the streaming node and known to it only then. */
void rk_streaming_node_set_coordinator(rk_streaming_node *node, rk_service *coordinator);
void rk_streaming_node_stop(
    rk_streaming_node *node); /* refuses new writes, waits for appends and flushes under way */
void rk_streaming_node_free(rk_streaming_node *node);

#endif
