/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An echo server over rpc: gRPC calls get their message back, HTTP requests their body (or, without
 * one, a page of fixed size). For bench/rpc.sh and for trying clients by hand:
 *
 *     rk_rpc_echo 127.0.0.1:8080 [--loops N] [--page BYTES] [--cert FILE --key FILE [--ca FILE]]
 * [--max BYTES]
 *
 * Paths: /fail answers an error; /sleep (gRPC) never answers until the client goes away.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/rpc.h"

static size_t page_bytes = 512;

static void
on_grpc(void *user, rk_call *call)
{
    rk_buf reply = {0};
    rk_str body = rk_call_body(call);

    RK_UNUSED(user);
    if (rk_str_ends(rk_call_path(call), "/fail")) {
        rk_call_fail(call, 9, RK_STR("failed as asked: 100% \xc3\xa9"));
        return;
    }
    if (rk_str_ends(rk_call_path(call), "/unknown")) {
        rk_call_fail(call, 12, RK_STR("unknown method"));
        return;
    }
    rk_buf_append(&reply, body.data, body.len);
    rk_call_reply(call, &reply);
}

static void
on_http(void *user, rk_call *call)
{
    rk_buf reply = {0};
    rk_str body = rk_call_body(call);

    RK_UNUSED(user);
    if (rk_str_is(rk_call_path(call), "/fail")) {
        rk_buf_str(&reply, RK_STR("failed as asked\n"));
        rk_call_http(call, 503, "text/plain", &reply);
        return;
    }
    if (body.len > 0) {
        rk_buf_append(&reply, body.data, body.len);
    } else if (rk_buf_reserve(&reply, page_bytes)) {
        memset(reply.data, 'x', page_bytes);
        reply.len = page_bytes;
    }
    rk_call_http(call, 200, "text/plain", &reply);
}

int
main(int argc, char **argv)
{
    rk_rpc_server_options options;
    rk_rpc_server *server;
    rk_err err = {0};
    sigset_t signals;
    int got = 0;

    rk_rpc_server_options_init(&options);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strncmp(argv[i], "--", 2) != 0) {
            options.listen = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--loops") == 0) {
            options.loops = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--page") == 0) {
            page_bytes = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--max") == 0) {
            options.message_size_max = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--cert") == 0) {
            options.tls.cert_pem_path = value;
        } else if (strcmp(argv[i - 1], "--key") == 0) {
            options.tls.key_pem_path = value;
        } else if (strcmp(argv[i - 1], "--ca") == 0) {
            options.tls.ca_pem_path = value;
        }
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    options.on_grpc = on_grpc;
    options.on_http = on_http;
    if (rk_rpc_server_start(&server, &options, &err) != RK_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%s\n", rk_rpc_server_address(server));
    fflush(stdout);
    sigwait(&signals, &got);
    rk_rpc_server_stop(server, 1000);
    rk_rpc_server_free(server);
    return 0;
}
