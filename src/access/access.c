/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and stopping the access layer: limits, pools, the public listener and the one for health
 * and metrics.
 *
 * Stopping goes in the order that loses no request: /healthz fails, the public listener sends
 * GOAWAY and waits for calls in flight, the pools run what is queued, then everything is freed. The
 * services behind are the caller's.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "access/access_private.h"
#include "base/log.h"

#define ARENAS_RANK   RK_RANK_ACCESS
#define WRITE_THREADS 8
#define QUEUE_PER_CPU 1024u
#define INFLIGHT_FACTOR                                                                            \
    4u /* bodies buffered in the process: this many times the largest one, at least */

static rk_code
check_options(const rk_access_options *options, rk_err *err)
{
    if (rk_config_bool(options->config, RK_CFG_AUTH_ENABLED)) {
        return rk_fail(
            err, RK_ENOT_SUPPORTED,
            "common.security.authorizationEnabled is true, but users and roles are not built in "
            "yet: the "
            "server would answer without asking for a password; set it to false to run without "
            "authentication");
    }
    if (!options->coordinator || !options->streaming_node || !options->listen) {
        return rk_fail(err, RK_EINVAL,
                       "the access layer needs a coordinator, a streaming node and an address");
    }
    return RK_OK;
}

static rk_code
start_pools(rk_access *access, const rk_access_options *options)
{
    uint32_t queue = (uint32_t)rk_config_i64(options->config, RK_CFG_MAX_TASK_NUM);
    rk_pool_options search = {.name = "search",
                              .threads = options->search_threads ? options->search_threads
                                                                 : rk_cpu_count(),
                              .queue_len_max = RK_MAX(queue, QUEUE_PER_CPU)};
    rk_pool_options write = {.name = "write",
                             .threads =
                                 options->write_threads ? options->write_threads : WRITE_THREADS,
                             .queue_len_max = RK_MAX(queue, QUEUE_PER_CPU)};

    RK_RET(rk_pool_new(&access->search_pool, &search));
    return rk_pool_new(&access->write_pool, &write);
}

/* TLS of the public listener: 1 proves the server to clients, 2 also demands proof of them. */
static rk_tls_options
tls_options(const rk_config *config)
{
    int64_t mode = rk_config_i64(config, RK_CFG_TLS_MODE);

    if (mode == 0) {
        return (rk_tls_options){0};
    }
    return (rk_tls_options){.cert_pem_path = rk_config_str(config, RK_CFG_TLS_CERT),
                            .key_pem_path = rk_config_str(config, RK_CFG_TLS_KEY),
                            .ca_pem_path = mode == 2 ? rk_config_str(config, RK_CFG_TLS_CA) : NULL};
}

/* A file that the mode needs must be there: said here, where the setting that names it is known. */
static rk_code
check_tls_file(const rk_config *config, rk_config_key key, const char *holds, rk_err *err)
{
    long long mode = (long long)rk_config_i64(config, RK_CFG_TLS_MODE);
    const char *path = rk_config_str(config, key);
    char folder[512];
    int fd;

    if (path[0] == '\0') {
        return rk_fail(err, RK_EINVAL,
                       "common.security.tlsMode is %lld, so %s must name a file: %s, in PEM form",
                       mode, rk_config_key_name(key), holds);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        close(fd);
        return RK_OK;
    }
    bool relative = path[0] != '/' && getcwd(folder, sizeof(folder));
    return rk_fail(err, RK_EINVAL,
                   "common.security.tlsMode is %lld, but the file that %s names cannot be read: "
                   "%s: %s%s%s%s; it should hold %s, in PEM form",
                   mode, rk_config_key_name(key), path, strerrordesc_np(errno),
                   relative ? " (from " : "", relative ? folder : "", relative ? ")" : "", holds);
}

static rk_code
check_tls(const rk_config *config, rk_err *err)
{
    int64_t mode = rk_config_i64(config, RK_CFG_TLS_MODE);

    if (mode == 0) {
        return RK_OK;
    }
    RK_RET(check_tls_file(config, RK_CFG_TLS_CERT, "the certificate chain of the server", err));
    RK_RET(check_tls_file(config, RK_CFG_TLS_KEY, "the private key of the server", err));
    return mode == 2 ? check_tls_file(config, RK_CFG_TLS_CA,
                                      "the authorities that client certificates come from", err)
                     : RK_OK;
}

/* An error of TLS names files; the settings that named them come before it. */
static rk_code
start_public(rk_access *access, const rk_rpc_server_options *server, const rk_config *config,
             rk_err *err)
{
    rk_code code = rk_rpc_server_start(&access->server, server, err);

    if (code != RK_OK && err && strncmp(err->text, "TLS: ", 5) == 0) {
        return rk_err_wrap(err, "common.security.tlsMode is %lld (%s, %s%s%s)",
                           (long long)rk_config_i64(config, RK_CFG_TLS_MODE),
                           rk_config_key_name(RK_CFG_TLS_CERT), rk_config_key_name(RK_CFG_TLS_KEY),
                           server->tls.ca_pem_path ? ", " : "",
                           server->tls.ca_pem_path ? rk_config_key_name(RK_CFG_TLS_CA) : "");
    }
    return code;
}

static rk_code
start_servers(rk_access *access, const rk_access_options *options, rk_err *err)
{
    rk_rpc_server_options server;

    RK_RET(check_tls(options->config, err));
    rk_rpc_server_options_init(&server);
    server.listen = options->listen;
    server.loops = (unsigned)rk_config_i64(options->config, RK_CFG_THREADS_LOOP);
    server.tls = tls_options(options->config);
    server.env = options->env;
    server.message_size_max = (size_t)access->limits.receive_bytes;
    server.inflight_bytes_max =
        RK_MAX(server.inflight_bytes_max, (uint64_t)access->limits.receive_bytes * INFLIGHT_FACTOR);
    server.connections_max = (uint32_t)rk_config_i64(options->config, RK_CFG_PROXY_MAX_CONNECTIONS);
    server.on_grpc = rk__on_grpc;
    server.on_http =
        rk_config_bool(options->config, RK_CFG_PROXY_HTTP_ENABLED) ? rk__on_http : NULL;
    server.user = access;
    RK_RET(start_public(access, &server, options->config, err));
    if (options->metrics_listen) {
        rk_rpc_server_options_init(&server);
        server.listen = options->metrics_listen;
        server.env = options->env;
        server.message_size_max = 65536;
        server.connections_max = 256;
        server.on_http = rk__on_health;
        server.user = access;
        RK_RET(rk_rpc_server_start(&access->health, &server, err));
    }
    return RK_OK;
}

rk_code
rk_access_start(rk_access **out, const rk_access_options *options, rk_err *err)
{
    rk_access *access = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    RK_RET(check_options(options, err));
    RK_ERR(rk__access_new(&access, options));
    RK_ERR(start_pools(access, options));
    RK_ERR(start_servers(access, options, err));
    *out = access;
    access = NULL;
out:
    if (access) {
        if (code == RK_ENOMEM && err && err->text[0] == '\0') {
            rk_fail_tail(err, code, "no memory to start the access layer");
        }
        rk_access_stop(access, 0);
        rk_access_free(access);
    }
    return code;
}

rk_code
rk__access_new(rk_access **out, const rk_access_options *options)
{
    rk_access *access = (rk_access *)rk_alloc_zero(1, sizeof(*access));
    rk_code code = RK_OK;

    *out = access;
    if (!access) {
        return RK_ENOMEM;
    }
    access->env = options->env;
    access->config = options->config;
    access->mem = options->mem;
    access->coordinator = options->coordinator;
    access->streaming = options->streaming_node;
    rk_mutex_init(&access->arenas_lock, "access.arenas", ARENAS_RANK);
    rk__limits_read(&access->limits, options->config);
    RK_KEEP(rk__catalog_init(&access->catalog));
    RK_KEEP(rk__grpc_init(access));
    RK_KEEP(rk__meters_init(access));
    return code;
}

const char *
rk_access_address(const rk_access *access)
{
    return rk_rpc_server_address(access->server);
}

const char *
rk_access_metrics_address(const rk_access *access)
{
    return access->health ? rk_rpc_server_address(access->health) : NULL;
}

void
rk_access_stop(rk_access *access, int64_t drain_ms)
{
    if (!access) {
        return;
    }
    atomic_store_explicit(&access->draining, true, memory_order_relaxed);
    if (access->server) {
        rk_rpc_server_stop(access->server, drain_ms);
    }
    if (access->search_pool) {
        rk_pool_stop(access->search_pool);
    }
    if (access->write_pool) {
        rk_pool_stop(access->write_pool);
    }
    if (access->health) {
        rk_rpc_server_stop(access->health, 0);
    }
}

void
rk_access_free(rk_access *access)
{
    if (!access) {
        return;
    }
    if (access->server) {
        rk_rpc_server_free(access->server);
    }
    if (access->health) {
        rk_rpc_server_free(access->health);
    }
    if (access->search_pool) {
        rk_pool_free(access->search_pool);
    }
    if (access->write_pool) {
        rk_pool_free(access->write_pool);
    }
    for (size_t i = 0; i < access->arenas_len; i++) {
        rk_arena_free(access->arenas[i]);
    }
    rk__catalog_deinit(&access->catalog);
    rk__meters_free(access);
    rk_free(access->grpc_table);
    rk_mutex_deinit(&access->arenas_lock);
    rk_free(access);
}
