/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring: near hands a role's service to its callers as it is; far puts it behind a loopback socket
 * and hands out a client's view of it. Standalone runs near; far exists so that the tests of one
 * process prove what the cluster relies on.
 */
#include <stdio.h>

#include "main/main_private.h"

/* Calls of a role wait for other roles (a flush saves at the coordinator, which asks the streaming
 * node ...): enough threads that a circle of waits never fills a pool. They start on demand. */
#define FAR_THREADS   32
#define FAR_QUEUE_MAX 4096

rk_code
rk_wire_connect(rk_wire *wire, const char *role, const pb_service_desc *desc, rk_service *near,
                bool far, const rk_env *env, rk_service **out, rk_err *err)
{
    const rk_pool_options pool = {
        .name = role, .threads = FAR_THREADS, .queue_len_max = FAR_QUEUE_MAX};
    rk_rpc_server_options server;
    rk_rpc_client_options client;

    *wire = (rk_wire){.far = far, .env = env};
    *out = near;
    if (!far) {
        return RK_OK;
    }
    RK_RET(rk_pool_new(&wire->pool, &pool));
    RK_RET(rk_exports_new(&wire->exports, wire->pool));
    RK_RET(rk_exports_add(wire->exports, desc, near));
    rk_rpc_server_options_init(&server);
    server.listen = "127.0.0.1:0";
    server.on_grpc = rk_exports_on_grpc;
    server.user = wire->exports;
    server.env = env;
    server.message_size_max = (size_t)512
                              << 20; /* a client's largest message and what we add to it */
    RK_RET(rk_rpc_server_start(&wire->server, &server, err));
    rk_rpc_client_options_init(&client);
    client.address = rk_rpc_server_address(wire->server);
    client.message_size_max = (size_t)512 << 20;
    client.env = env;
    RK_RET(rk_rpc_client_new(&wire->client, &client, err));
    RK_RET(rk_service_far(&wire->remote, desc, wire->client));
    *out = wire->remote;
    return RK_OK;
}

void
rk_wire_close(rk_wire *wire)
{
    if (!wire->far) {
        return;
    }
    rk_service_free(wire->remote);
    if (wire->client) {
        rk_rpc_client_free(wire->client);
    }
    if (wire->server) {
        rk_rpc_server_stop(wire->server, 0);
    }
    if (wire->pool) {
        rk_pool_stop(wire->pool);
    }
    if (wire->server) {
        rk_rpc_server_free(wire->server);
    }
    rk_exports_free(wire->exports);
    if (wire->pool) {
        rk_pool_free(wire->pool);
    }
    *wire = (rk_wire){0};
}
