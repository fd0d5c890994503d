/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator: schema and time (root), segments and jobs (data), placement (query). One
 * service; all state in the meta store.
 */
#ifndef RK_COORDINATOR_COORDINATOR_H
#define RK_COORDINATOR_COORDINATOR_H

#include "base/config.h"
#include "rpc/service.h"
#include "storage/meta/meta.h"
#include "storage/object/object.h"

typedef struct rk_coordinator rk_coordinator;

typedef struct rk_coordinator_options {
    const rk_env *env;
    const rk_config *config;
    rk_meta *meta;
    rk_object_store *objects; /* garbage collection */
    rk_service *streaming_node;
    rk_service *query_node;
    rk_service *data_node;
} rk_coordinator_options;

/* Reads the catalogue. RK_EIO when it cannot be read: never mistaken for a first start. */
RK_MUST_CHECK rk_code rk_coordinator_new(rk_coordinator **out,
                                         const rk_coordinator_options *options, rk_err *err);
rk_service *rk_coordinator_service(rk_coordinator *c); /* near; owned */
/* Opens every collection on the streaming node, replays the log, loads what was loaded, starts the
 * job loop. Serves when it returns. */
RK_MUST_CHECK rk_code rk_coordinator_start(rk_coordinator *c, rk_err *err);
void rk_coordinator_stop(rk_coordinator *c); /* stops the job loop */
void rk_coordinator_free(rk_coordinator *c);

#endif
