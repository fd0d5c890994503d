/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program: command line, and the wiring of roles into one process.
 */
#ifndef RK_MAIN_PRIVATE_H
#define RK_MAIN_PRIVATE_H

#include "access/access.h"
#include "coordinator/coordinator.h"
#include "worker/worker.h"

#define RK_SETS_MAX 64

/* What `redkite run` was asked for. Texts are borrowed from argv. */
typedef struct rk_run_options {
    const char *config_path;       /* NULL: none */
    const char *data_path;         /* NULL: localStorage.path of the configuration, else ./data */
    const char *listen;            /* NULL: from the configuration */
    const char *metrics;           /* NULL: from the configuration; "none": no such listener */
    bool far;                      /* every role behind a socket of its own */
    const char *sets[RK_SETS_MAX]; /* key=value, later ones win */
    size_t sets_len;
} rk_run_options;

/* Runs Standalone until SIGTERM or SIGINT. The exit status of the process. */
int rk_run_standalone(const rk_run_options *options);

/* ---- datadir.c ---- */

/* The data folder: created when absent, locked for this process. */
typedef struct rk_datadir {
    char *root;
    char *meta;    /* the meta store's file */
    char *objects; /* the object store's folder */
    char *wal;     /* the log's folder */
    int lock_fd;
} rk_datadir;

/* RK_EBUSY naming the other server's process id when the folder is in use. */
RK_MUST_CHECK rk_code rk_datadir_open(rk_datadir *out, const char *path, const rk_env *env,
                                      rk_err *err);
void rk_datadir_close(rk_datadir *dir);

/* ---- wiring.c ---- */

/* How a role's service is reached: the service itself, or a client of the socket it was put behind.
 */
typedef struct rk_wire {
    bool far;
    const rk_env *env;
    rk_pool *pool; /* far: runs the role's calls */
    rk_exports *exports;
    rk_rpc_server *server;
    rk_rpc_client *client;
    rk_service *remote;
} rk_wire;

/* |*out| is |near| itself, or a far service that reaches it through a loopback socket. */
RK_MUST_CHECK rk_code rk_wire_connect(rk_wire *wire, const char *role, const pb_service_desc *desc,
                                      rk_service *near, bool far, const rk_env *env,
                                      rk_service **out, rk_err *err);
/* No call of ours is under way any more. */
void rk_wire_close(rk_wire *wire);

#endif
