/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The access layer: gRPC and REST on one port, stateless. Validates requests, fills defaults,
 * splits rows by shard, calls the coordinator and the streaming node, and writes replies. Health
 * and metrics answer on a port of their own.
 */
#ifndef RK_ACCESS_ACCESS_H
#define RK_ACCESS_ACCESS_H

#include "base/config.h"
#include "rpc/service.h"

typedef struct rk_access rk_access;

typedef struct rk_access_options {
    const rk_env *env;
    const rk_config *config;
    rk_mem *mem; /* budget of requests in flight */
    rk_service *coordinator;
    rk_service *streaming_node;
    unsigned search_threads;    /* 0: one per CPU */
    unsigned write_threads;     /* 0: 8 */
    const char *listen;         /* "127.0.0.1:19530", "unix:/path" */
    const char *metrics_listen; /* "127.0.0.1:9091"; NULL: none */
} rk_access_options;

RK_MUST_CHECK rk_code rk_access_start(rk_access **out, const rk_access_options *options,
                                      rk_err *err);
const char *rk_access_address(const rk_access *access);
const char *rk_access_metrics_address(const rk_access *access);
void
rk_access_stop(rk_access *access,
               int64_t drain_ms); /* /healthz fails first, then GOAWAY, then calls in flight end */
void rk_access_free(rk_access *access);

#endif
