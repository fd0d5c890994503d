/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads settings from YAML text and from the environment.
 *
 * YAML is read as a stream of events with a stack of our own of 16 levels; nothing recurses. The
 * key of a scalar is the path to it, joined with dots; a sequence of scalars becomes one
 * comma-separated text. Anchors and aliases are refused, so no input can unfold into more than it
 * is. Keys of areas that only concern parts this server does not have are passed over in silence,
 * other unknown keys are noted as warnings.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <yaml.h>

#include "base/config_private.h"
#include "base/mem.h"

#define DEPTH_MAX     16
#define FILE_SIZE_MAX ((size_t)1 << 20)
#define PATH_LEN_MAX  512

/* Known areas of milvus.yaml without meaning here, as prefixes of keys. */
static const char *const quiet_prefixes[] = {"etcd.",
                                             "tikv.",
                                             "minio.",
                                             "woodpecker.",
                                             "rocksmq.",
                                             "kafka.",
                                             "pulsar.",
                                             "natsmq.",
                                             "mq.",
                                             "msgChannel.",
                                             "rootCoord.",
                                             "queryCoord.",
                                             "indexCoord.",
                                             "mixCoord.",
                                             "indexNode.",
                                             "dataNode.",
                                             "streaming.",
                                             "streamingNode.",
                                             "knowhere.",
                                             "function.",
                                             "credential.",
                                             "gpu.",
                                             "grpc.",
                                             "autoIndex.",
                                             "trace.",
                                             "internaltls.",
                                             "hotspot.",
                                             "cdc.",
                                             "localStorage.",
                                             "messageQueue",
                                             "proxy.accessLog.",
                                             "proxy.timeTickInterval",
                                             "proxy.healthCheckTimeout",
                                             "proxy.msgStream.",
                                             "proxy.dclConcurrency",
                                             "proxy.ddlConcurrency",
                                             "proxy.dmlConcurrency",
                                             "proxy.mutateConcurrency",
                                             "proxy.shardLeaderCacheInterval",
                                             "proxy.replicaSelectionPolicy",
                                             "proxy.checkQueryNodeHealthInterval",
                                             "proxy.costMetricsExpireTime",
                                             "proxy.retryTimesOnReplica",
                                             "proxy.retryTimesOnHealthCheck",
                                             "proxy.workloadToleranceFactor",
                                             "proxy.queryNodePooling.",
                                             "proxy.ginLogging",
                                             "proxy.ginLogSkipPaths",
                                             "proxy.grpc.",
                                             "proxy.connection",
                                             "proxy.gracefulStopTimeout",
                                             "proxy.enableCachedServiceProvider",
                                             "proxy.slowLogSpanInSeconds",
                                             "proxy.hybridSearchRequeryPolicy",
                                             "proxy.searchResultSizeRatio",
                                             "queryNode.stats.",
                                             "queryNode.segcore.",
                                             "queryNode.scheduler.",
                                             "queryNode.flowGraph.",
                                             "queryNode.dataSync.",
                                             "queryNode.grouping.",
                                             "queryNode.ip",
                                             "queryNode.port",
                                             "queryNode.grpc.",
                                             "queryNode.lazyload.",
                                             "queryNode.cache.",
                                             "queryNode.mmap.",
                                             "queryNode.indexOffsetCacheEnabled",
                                             "queryNode.memoryIndexLoadPredictMemoryUsageFactor",
                                             "queryNode.enableSegmentPrune",
                                             "queryNode.queryStreamBatchSize",
                                             "queryNode.workerPooling.",
                                             "queryNode.bloomFilterApplyParallelFactor",
                                             "queryNode.useStreamComputing",
                                             "queryNode.knowhere",
                                             "queryNode.chunkRows",
                                             "queryNode.interimIndex",
                                             "queryNode.loadBufferSize",
                                             "queryNode.levelZeroForwardPolicy",
                                             "queryNode.streamingDeltaForwardPolicy",
                                             "dataCoord.ip",
                                             "dataCoord.port",
                                             "dataCoord.grpc.",
                                             "dataCoord.channel.",
                                             "dataCoord.compaction.",
                                             "dataCoord.segment.",
                                             "dataCoord.gc.",
                                             "dataCoord.import.",
                                             "dataCoord.index.",
                                             "dataCoord.enableActiveStandby",
                                             "dataCoord.autoUpgradeSegmentIndex",
                                             "dataCoord.sealPolicy.",
                                             "dataCoord.syncSegmentsInterval",
                                             "dataCoord.slot.",
                                             "dataCoord.statsTask.",
                                             "dataCoord.jsonStatsTriggerCount",
                                             "dataCoord.gracefulStopTimeout",
                                             "dataCoord.brokerTimeout",
                                             "dataCoord.autoBalance",
                                             "dataCoord.checkAutoBalanceConfigInterval",
                                             "dataCoord.levelZero.",
                                             "dataCoord.segmentFlushInterval",
                                             "dataCoord.forceRebuildSegmentIndex",
                                             "dataCoord.targetVecIndexVersion",
                                             "common.index",
                                             "common.DiskIndex.",
                                             "common.storage.",
                                             "common.threadCoreCoefficient.",
                                             "common.buildIndexThreadPoolRatio",
                                             "common.session.",
                                             "common.chanNamePrefix.",
                                             "common.subNamePrefix.",
                                             "common.preCreatedTopic.",
                                             "common.locks.",
                                             "common.ttMsgEnabled",
                                             "common.traceLogMode",
                                             "common.bloomFilter",
                                             "common.maxBloomFalse",
                                             "common.usePartitionKeyAsClusteringKey",
                                             "common.useVectorAsClusteringKey",
                                             "common.enableVectorClusteringKey",
                                             "common.localRPCEnabled",
                                             "common.sync.",
                                             "common.collectionReplicateEnable",
                                             "common.enableConfigParamTypeCheck",
                                             "common.bulkInsert",
                                             "common.simdType",
                                             "common.security.",
                                             "common.node",
                                             "common.metrics.",
                                             "common.lockSlowLog",
                                             "quotaAndLimits.quotaCenterCollectInterval",
                                             "quotaAndLimits.limitWriting.",
                                             "quotaAndLimits.limitReading.",
                                             "quotaAndLimits.dml.",
                                             "quotaAndLimits.dql.",
                                             "quotaAndLimits.ddl.",
                                             "quotaAndLimits.dbRate.",
                                             "quotaAndLimits.flushRate.",
                                             "quotaAndLimits.indexRate.",
                                             "quotaAndLimits.compactionRate.",
                                             "quotaAndLimits.limits.maxInsertRowCount",
                                             "quotaAndLimits.allocRetryTimes",
                                             "quotaAndLimits.allocWaitInterval",
                                             "quotaAndLimits.complexDeleteLimitEnable",
                                             "log.",
                                             "metastore.",
                                             "tls."};

static bool
is_quiet(const char *key)
{
    for (size_t i = 0; i < RK_COUNT(quiet_prefixes); i++) {
        if (strncasecmp(key, quiet_prefixes[i], strlen(quiet_prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

static rk_code
apply(rk_config *config, const char *key, rk_str value, const char *source, rk_err *err)
{
    rk_code code = rk_config_set(config, rk_str_from(key), value, source, err);

    if (code != RK_EKEY_NOT_FOUND) {
        return code;
    }
    rk_err_clear(err);
    if (!is_quiet(key)) {
        char text[PATH_LEN_MAX + 512];
        const char *near = rk_config_nearest(rk_str_from(key));
        snprintf(text, sizeof(text), "%.200s: unknown setting %s is ignored%s%s%s", source, key,
                 near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
        rk__config_warn(config, text);
    }
    return RK_OK;
}

/* ---- YAML ---- */

typedef struct level {
    bool sequence;
    bool want_value; /* mapping: the key was read */
    size_t path_len; /* length of the path of this collection itself */
} level;

typedef struct reader {
    rk_config *config;
    const char *source;
    rk_err *err;
    level levels[DEPTH_MAX];
    int depth;
    char path[PATH_LEN_MAX];
    size_t path_len;
    rk_buf list; /* the sequence being joined */
    bool started;
    bool done;
} reader;

static rk_code
fail_at(const reader *r, const yaml_mark_t *mark, const char *what)
{
    return rk_fail(r->err, RK_EINVAL, "%s:%zu: %s", r->source, mark->line + 1, what);
}

static rk_code
set_here(reader *r, rk_str value, const yaml_mark_t *mark)
{
    char source[256];

    snprintf(source, sizeof(source), "%.200s:%zu", r->source, mark->line + 1);
    return apply(r->config, r->path, value, source, r->err);
}

/* Extends the path by a key. */
static bool
push_key(reader *r, rk_str key)
{
    size_t dot = r->path_len > 0 ? 1 : 0;

    if (key.len >= sizeof(r->path) - r->path_len - dot) {
        return false;
    }
    if (dot) {
        r->path[r->path_len++] = '.';
    }
    memcpy(r->path + r->path_len, key.data, key.len);
    r->path_len += key.len;
    r->path[r->path_len] = '\0';
    return true;
}

/* A value of the innermost collection is complete: back to its own path. */
static void
value_done(reader *r)
{
    if (r->depth == 0) {
        r->done = true;
        return;
    }
    level *top = &r->levels[r->depth - 1];
    r->path_len = top->path_len;
    r->path[r->path_len] = '\0';
    top->want_value = false;
}

static rk_code
on_scalar(reader *r, const yaml_event_t *event)
{
    rk_str text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

    if (event->data.scalar.anchor) {
        return fail_at(r, &event->start_mark, "anchors are not allowed");
    }
    if (plain && (rk_str_is(text, "~") || rk_str_is(text, "null"))) {
        text = RK_STR("");
    }
    if (r->depth == 0) {
        return text.len == 0 ? RK_OK : fail_at(r, &event->start_mark, "want a mapping of settings");
    }
    level *top = &r->levels[r->depth - 1];
    if (top->sequence) {
        if (r->list.len > 0) {
            rk_buf_byte(&r->list, ',');
        }
        rk_buf_str(&r->list, text);
        return r->list.failed ? RK_ENOMEM : RK_OK;
    }
    if (!top->want_value) {
        if (text.len == 0 || memchr(text.data, '\0', text.len) || !push_key(r, text)) {
            return fail_at(r, &event->start_mark, "a key is empty, not text, or too long");
        }
        top->want_value = true;
        return RK_OK;
    }
    rk_code code = set_here(r, text, &event->start_mark);
    value_done(r);
    return code;
}

static rk_code
on_start(reader *r, const yaml_event_t *event, bool sequence, const void *anchor)
{
    if (anchor) {
        return fail_at(r, &event->start_mark, "anchors are not allowed");
    }
    if (r->depth == DEPTH_MAX) {
        return fail_at(r, &event->start_mark, "nested deeper than 16 levels");
    }
    if (r->depth == 0 ? sequence
                      : !r->levels[r->depth - 1].sequence && !r->levels[r->depth - 1].want_value) {
        return fail_at(r, &event->start_mark, "want a mapping of settings with text as keys");
    }
    if (sequence) {
        rk_buf_clear(&r->list);
    }
    r->levels[r->depth++] = (level){sequence, false, r->path_len};
    return RK_OK;
}

static rk_code
on_end(reader *r, const yaml_event_t *event)
{
    bool sequence = r->levels[r->depth - 1].sequence;
    rk_code code = RK_OK;

    r->depth--;
    if (sequence && r->depth > 0 && !r->levels[r->depth - 1].sequence) {
        code = set_here(r, rk_buf_view(&r->list), &event->start_mark);
    }
    value_done(r);
    return code;
}

static rk_code
on_event(reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(r, event);
    case YAML_MAPPING_START_EVENT:
        return on_start(r, event, false, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(r, event, true, event->data.sequence_start.anchor);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        return on_end(r, event);
    case YAML_ALIAS_EVENT:
        return fail_at(r, &event->start_mark, "aliases are not allowed");
    case YAML_DOCUMENT_START_EVENT:
        if (r->started) {
            return fail_at(r, &event->start_mark, "want one document only");
        }
        r->started = true;
        return RK_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return RK_OK;
}

rk_code
rk_config_load_text(rk_config *config, rk_str yaml, const char *source, rk_err *err)
{
    yaml_parser_t parser;
    reader r = {.config = config, .source = source, .err = err};
    bool end = false;
    rk_code code = RK_OK;

    if (yaml.len > FILE_SIZE_MAX) {
        return rk_fail(err, RK_EINVAL, "%s: %zu bytes of settings, at most %zu are read", source,
                       yaml.len, FILE_SIZE_MAX);
    }
    if (!yaml_parser_initialize(&parser)) {
        return rk_fail(err, RK_ENOMEM, "%s: out of memory", source);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)(yaml.len ? yaml.data : ""),
                                 yaml.len);
    while (code == RK_OK && !end) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            code = rk_fail(err, RK_EINVAL, "%s:%zu: not valid YAML: %s", source,
                           parser.problem_mark.line + 1,
                           parser.problem ? parser.problem : "unreadable");
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        code = on_event(&r, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    rk_buf_deinit(&r.list);
    return code;
}

rk_code
rk_config_load_file(rk_config *config, const char *path, rk_err *err)
{
    rk_buf text = {0};
    rk_code code = RK_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return rk_fail(err, errno == ENOENT ? RK_EKEY_NOT_FOUND : RK_EIO,
                       "cannot open settings file %s: %s", path, strerrordesc_np(errno));
    }
    while (text.len <= FILE_SIZE_MAX) {
        if (!rk_buf_reserve(&text, 65536)) {
            code = rk_fail(err, RK_ENOMEM, "cannot read %s: out of memory", path);
            goto out;
        }
        ssize_t got = read(fd, text.data + text.len, 65536);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            code = rk_fail(err, RK_EIO, "cannot read %s: %s", path, strerrordesc_np(errno));
            goto out;
        }
        if (got == 0) {
            break;
        }
        text.len += (size_t)got;
    }
    RK_ERR(rk_config_load_text(config, rk_buf_view(&text), path, err));
out:
    close(fd);
    rk_buf_deinit(&text);
    return code;
}

/* ---- environment ---- */

rk_code
rk_config_load_env(rk_config *config, char *const *environment, rk_err *err)
{
    for (; environment && *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (!equals || equals == *environment) {
            continue;
        }
        rk_str name = {*environment, (size_t)(equals - *environment)};
        /* a name without a joint is some other program's: every key of ours has one */
        if (!memchr(name.data, '_', name.len) && !memchr(name.data, '.', name.len)) {
            continue;
        }
        if (rk_config_find(name) == RK_CFG_COUNT) {
            continue;
        }
        char source[128];
        snprintf(source, sizeof(source), "environment %.*s", (int)RK_MIN(name.len, 100u),
                 name.data);
        RK_RET(rk_config_set(config, name, rk_str_from(equals + 1), source, err));
    }
    return RK_OK;
}
