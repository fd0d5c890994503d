/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standalone: every role in one process.
 *
 * Start: seams, settings, data folder and its lock, stores, workers, coordinator (which replays the
 * log and loads what was loaded), access last, so that the first client is served by a whole
 * server. Stop: the same backwards; access drains first.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "index/index.h"
#include "main/main_private.h"
#include "main/version.h"
#include "proto/internal.pb.h"

#define DRAIN_MS_MAX     5000
#define BACKGROUND_QUEUE 4096
#define BACKGROUND_NICE  10
#define FREE_KEPT        ((size_t)64 << 20) /* bytes that requests may take again at once */
#define MEMORY_SHARE     9 / 10

typedef struct standalone {
    const rk_env *env;
    rk_config *config;
    rk_datadir dir;
    rk_meta *meta;
    rk_object_store *objects;
    rk_mem *mem;
    rk_pool *background;
    rk_query_node *query_node;
    rk_data_node *data_node;
    rk_streaming_node *streaming_node;
    rk_coordinator *coordinator;
    rk_access *access;
    rk_wire wires[4];
} standalone;

/* ---- settings ---- */

/* Names the settings that were changed and that nothing in this build reads, in one line. */
static void
warn_no_effect(const rk_config *config)
{
    rk_config *fallback = rk_config_new();
    rk_buf names = {0};
    rk_buf given = {0};
    rk_buf usual = {0};

    for (int i = 0; fallback && i < (int)RK_CFG_COUNT; i++) {
        rk_config_key key = (rk_config_key)i;
        if (rk_config_has_effect(key) || strcmp(rk_config_source(config, key), "default") == 0) {
            continue;
        }
        rk_buf_clear(&given);
        rk_buf_clear(&usual);
        rk_config_print(config, key, &given);
        rk_config_print(fallback, key, &usual);
        if (!rk_str_eq(rk_buf_view(&given), rk_buf_view(&usual))) {
            rk_buf_printf(&names, " %s", rk_config_key_name(key));
        }
    }
    if (names.len > 0 && !names.failed) {
        RK_LOG_W("config", "event=settings_without_effect keys=\"%.*s\"", (int)names.len - 1,
                 (const char *)names.data + 1);
    }
    rk_buf_deinit(&names);
    rk_buf_deinit(&given);
    rk_buf_deinit(&usual);
    rk_config_free(fallback);
}

static rk_code
load_settings(rk_config *config, const rk_run_options *options, rk_err *err)
{
    if (options->config_path) {
        RK_RET(rk_config_load_file(config, options->config_path, err));
    }
    RK_RET(rk_config_load_env(config, environ, err));
    for (size_t i = 0; i < options->sets_len; i++) {
        const char *equals = strchr(options->sets[i], '=');
        rk_str key = {options->sets[i], equals ? (size_t)(equals - options->sets[i]) : 0};
        if (!equals) {
            return rk_fail(err, RK_EINVAL, "--set %s: write it as key=value", options->sets[i]);
        }
        RK_RET(rk_config_set(config, key, rk_str_from(equals + 1), "--set", err));
    }
    for (size_t i = 0; i < rk_config_warning_count(config); i++) {
        RK_LOG_W("config", "%s", rk_config_warning(config, i));
    }
    warn_no_effect(config);
    return RK_OK;
}

static void
set_log_level(const rk_config *config)
{
    rk_str level = rk_str_from(rk_config_str(config, RK_CFG_LOG_LEVEL));

    if (rk_str_is(level, "debug") || rk_str_is(level, "trace")) {
        rk_log_set_level(RK_LOG_DEBUG);
    } else if (rk_str_is(level, "warn")) {
        rk_log_set_level(RK_LOG_WARN);
    } else if (rk_str_is(level, "error") || rk_str_is(level, "panic") ||
               rk_str_is(level, "fatal")) {
        rk_log_set_level(RK_LOG_ERROR);
    }
}

static uint64_t
memory_limit(const rk_config *config)
{
    uint64_t set = (uint64_t)rk_config_i64(config, RK_CFG_MEMORY_LIMIT);

    return set ? set : rk_mem_system_limit() * MEMORY_SHARE;
}

/* "ip:port" of a setting pair; loopback when the ip is empty. */
static void
address_of(const rk_config *config, rk_config_key ip, rk_config_key port, char *out, size_t len)
{
    const char *host = rk_config_str(config, ip);
    long long number = (long long)rk_config_i64(config, port);

    if (host[0] == '\0') {
        host = "127.0.0.1";
    }
    (void)snprintf(out, len, strchr(host, ':') && host[0] != '[' ? "[%s]:%lld" : "%s:%lld", host,
                   number);
}

/* ---- parts ---- */

static rk_code
open_stores(standalone *s, const rk_run_options *options, rk_err *err)
{
    const char *set = rk_config_str(s->config, RK_CFG_LOCAL_PATH);
    bool given = strcmp(rk_config_source(s->config, RK_CFG_LOCAL_PATH), "default") != 0;
    const char *path = options->data_path ? options->data_path : given ? set : "./data";

    RK_RET(rk_datadir_open(&s->dir, path, s->env, err));
    RK_RET(rk_meta_open_sqlite(&s->meta, s->dir.meta, s->env, err));
    RK_RET(rk_object_open_dir(&s->objects, s->dir.objects, s->env, err));
    s->mem = rk_mem_new(NULL, "memory", memory_limit(s->config));
    return s->mem ? RK_OK : rk_fail(err, RK_ENOMEM, "memory is out");
}

static rk_code
make_roles(standalone *s, bool far, rk_service **coordinator, rk_service **streaming, rk_err *err)
{
    unsigned threads = (unsigned)rk_config_i64(s->config, RK_CFG_THREADS_BACKGROUND);
    const rk_pool_options background = {.name = "rk-background",
                                        .threads = threads ? threads : rk_cpu_count() + 1,
                                        .queue_len_max = BACKGROUND_QUEUE,
                                        .nice = BACKGROUND_NICE};
    rk_worker_options worker = {.env = s->env,
                                .config = s->config,
                                .mem = s->mem,
                                .objects = s->objects,
                                .wal_path = s->dir.wal};
    rk_coordinator_options brain = {
        .env = s->env, .config = s->config, .meta = s->meta, .objects = s->objects};

    RK_RET(rk_pool_new(&s->background, &background));
    worker.background = s->background;
    RK_RET(rk_query_node_new(&s->query_node, &worker, err));
    RK_RET(rk_wire_connect(&s->wires[0], "querynode", &pb_rk_QueryNode_service,
                           rk_query_node_service(s->query_node), far, s->env, &worker.query_node,
                           err));
    RK_RET(rk_data_node_new(&s->data_node, &worker, err));
    RK_RET(rk_wire_connect(&s->wires[1], "datanode", &pb_rk_DataNode_service,
                           rk_data_node_service(s->data_node), far, s->env, &brain.data_node, err));
    RK_RET(rk_streaming_node_new(&s->streaming_node, &worker, err));
    RK_RET(rk_wire_connect(&s->wires[2], "streamingnode", &pb_rk_StreamingNode_service,
                           rk_streaming_node_service(s->streaming_node), far, s->env, streaming,
                           err));
    brain.query_node = worker.query_node;
    brain.streaming_node = *streaming;
    RK_RET(rk_coordinator_new(&s->coordinator, &brain, err));
    RK_RET(rk_wire_connect(&s->wires[3], "coordinator", &pb_rk_Coordinator_service,
                           rk_coordinator_service(s->coordinator), far, s->env, coordinator, err));
    rk_streaming_node_set_coordinator(s->streaming_node, *coordinator);
    rk_query_node_set_coordinator(s->query_node, *coordinator);
    return rk_coordinator_start(s->coordinator, err);
}

static rk_code
start_access(standalone *s, const rk_run_options *options, rk_service *coordinator,
             rk_service *streaming, rk_err *err)
{
    char listen[256];
    char metrics[256];
    rk_access_options access = {
        .env = s->env,
        .config = s->config,
        .mem = s->mem,
        .coordinator = coordinator,
        .streaming_node = streaming,
        .search_threads = (unsigned)rk_config_i64(s->config, RK_CFG_THREADS_SEARCH),
        .write_threads = (unsigned)rk_config_i64(s->config, RK_CFG_THREADS_WRITE)};
    bool no_metrics = options->metrics ? strcmp(options->metrics, "none") == 0
                                       : rk_config_i64(s->config, RK_CFG_METRICS_PORT) == 0;

    address_of(s->config, RK_CFG_PROXY_IP, RK_CFG_PROXY_PORT, listen, sizeof(listen));
    address_of(s->config, RK_CFG_METRICS_IP, RK_CFG_METRICS_PORT, metrics, sizeof(metrics));
    access.listen = options->listen ? options->listen : listen;
    access.metrics_listen = no_metrics ? NULL : options->metrics ? options->metrics : metrics;
    return rk_access_start(&s->access, &access, err);
}

static void
stop_all(standalone *s)
{
    if (s->access) {
        rk_access_stop(s->access, DRAIN_MS_MAX);
    }
    if (s->coordinator) {
        rk_coordinator_stop(s->coordinator);
    }
    if (s->data_node) {
        rk_data_node_stop(s->data_node);
    }
    if (s->query_node) {
        rk_query_node_stop(s->query_node);
    }
    if (s->streaming_node) {
        rk_streaming_node_stop(s->streaming_node);
    }
    if (s->background) {
        rk_pool_stop(s->background);
    }
    for (size_t i = RK_COUNT(s->wires); i > 0; i--) {
        rk_wire_close(&s->wires[i - 1]);
    }
    rk_access_free(s->access);
    rk_coordinator_free(s->coordinator);
    rk_streaming_node_free(s->streaming_node);
    rk_data_node_free(s->data_node);
    rk_query_node_free(s->query_node);
    if (s->background) {
        rk_pool_free(s->background);
    }
    if (s->objects) {
        rk_object_close(s->objects);
    }
    if (s->meta) {
        rk_meta_close(s->meta);
    }
    if (s->mem) {
        rk_mem_free(s->mem);
    }
    rk_datadir_close(&s->dir);
    rk_config_free(s->config);
}

/* ---- the screen ---- */

static void
greet(const standalone *s)
{
    const char *address = rk_access_address(s->access);
    const char *metrics = rk_access_metrics_address(s->access);
    const char *shown = strncmp(address, "unix:", 5) == 0 ? "" : "http://";

    fprintf(stderr,
            "\n  Redkite %s, standalone, %s kernels\n\n"
            "  gRPC and REST  %s\n"
            "  health         %s%s\n"
            "  data folder    %s\n"
            "  memory limit   %.1f GiB\n\n"
            "  Try it:\n"
            "    pip install pymilvus\n"
            "    python3 -c 'from pymilvus import MilvusClient; "
            "print(MilvusClient(\"%s%s\").list_collections())'\n"
            "    curl -s %s%s/v2/vectordb/collections/list -d '{}'\n\n"
            "  Stop with Ctrl-C.\n\n",
            RK_VERSION, rk_kernels_name(), address, metrics ? "http://" : "off",
            metrics ? metrics : "", s->dir.root,
            (double)rk_mem_limit(s->mem) / (double)(UINT64_C(1) << 30), shown, address, shown,
            address);
    printf("ready grpc=%s metrics=%s\n", address, metrics ? metrics : "none");
    fflush(stdout);
}

/* ---- life ---- */

/* Returns the signal. Meanwhile, what requests freed goes back to the system once a while: glibc
 * keeps it where anything allocated later lies above. */
static int
wait_for_signal(const sigset_t *wanted)
{
    const struct timespec pause = {1, 0};
    size_t before = 0; /* free a while ago: what is freed and taken again all the time stays */
    int got;

    while ((got = sigtimedwait(wanted, NULL, &pause)) < 0) {
        size_t now = mallinfo2().fordblks;
        if (RK_MIN(before, now) > FREE_KEPT) {
            (void)malloc_trim(FREE_KEPT / 2);
            now = 0;
        }
        before = now;
    }
    return got;
}

int
rk_run_standalone(const rk_run_options *options)
{
    standalone s = {.env = rk_env_real(), .dir = {.lock_fd = -1}};
    rk_service *coordinator = NULL;
    rk_service *streaming = NULL;
    rk_err err = {0};
    sigset_t wanted;
    int got;
    rk_code code = RK_OK;

    sigemptyset(&wanted); /* before any thread is started: all inherit it */
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    pthread_sigmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    (void)mallopt(M_ARENA_MAX,
                  4); /* glibc keeps memory per arena: few of them keep an idle server small */
    rk_fault_init();
    rk_kernels_init();
    s.config = rk_config_new();
    if (!s.config) {
        code = rk_fail(&err, RK_ENOMEM, "memory is out");
        goto out;
    }
    RK_ERR(load_settings(s.config, options, &err));
    set_log_level(s.config);
    RK_ERR(open_stores(&s, options, &err));
    RK_ERR(make_roles(&s, options->far, &coordinator, &streaming, &err));
    RK_ERR(start_access(&s, options, coordinator, streaming, &err));
    greet(&s);
    got = wait_for_signal(&wanted);
    RK_LOG_I("main", "event=stopping signal=%d", got);
out:
    if (code != RK_OK) {
        fprintf(stderr, "redkite: %s\n", err.text[0] ? err.text : rk_code_get_info(code)->text);
    }
    stop_all(&s);
    return code == RK_OK ? 0 : 1;
}
