/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rpc tests share: an echo server, certificates made on the spot, raw sockets.
 *
 * Paths of the echo server: /t/Echo answers inline, /t/Later from a pool thread, /t/Fail with an
 * error, /t/Hold when the client has gone away or |release| is set. HTTP: the body comes back, or
 * "path?query method".
 */
#ifndef RK_RPC_TESTING_H
#define RK_RPC_TESTING_H

#include "rpc/rpc.h"
#include "unit_test.h"

#define GATHER 1000

typedef struct echo_server {
    rk_rpc_server *server;
    rk_pool *pool;
    _Atomic int held;      /* /t/Hold calls inside */
    _Atomic int cancelled; /* of those, ended by cancellation */
    _Atomic bool release;
    _Atomic int64_t deadline_ns; /* of the last call */
    rk_mutex lock;
    rk_call
        *gathered[GATHER]; /* /t/Gather calls wait here until there are GATHER; guarded by |lock| */
    int gathered_len;
} echo_server;

/* |options|.listen and so on are set by the caller; handlers are filled in here. */
void echo_start(echo_server *echo, rk_rpc_server_options *options);
void echo_stop(echo_server *echo);

/* Writes ca.pem, server.pem, server.key, client.pem, client.key and other.pem, other.key (another
 * CA) to |folder|. */
void make_certificates(const char *folder);
void make_folder(char *out, size_t cap);
void remove_folder(const char *folder);

int raw_connect(const char *address);
void raw_send(int fd, const void *data, size_t len);
/* Reads until |len| bytes, the end, or |timeout_ms| without any. Returns how many; *|ended| when
 * the peer closed. */
size_t raw_read(int fd, void *out, size_t len, int timeout_ms, bool *ended);

int64_t now_ms(void);

#endif
