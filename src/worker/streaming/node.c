/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streaming node: making, stopping, freeing, and its service table.
 */
#include "worker/streaming/streaming_private.h"

/* The log may grow to so many times the larger of a growing segment and a file of its own. */
#define LOG_PARTS_MAX 8u

static const rk_method_fn METHODS[PB_RK_StreamingNode_METHODS] = {
    [PB_RK_StreamingNode_OpenCollection] = rk__sn_open_collection,
    [PB_RK_StreamingNode_CloseCollection] = rk__sn_close_collection,
    [PB_RK_StreamingNode_Recover] = rk__sn_recover,
    [PB_RK_StreamingNode_UpdateCollection] = rk__sn_update_collection,
    [PB_RK_StreamingNode_Append] = rk__sn_append,
    [PB_RK_StreamingNode_Seal] = rk__sn_seal,
    [PB_RK_StreamingNode_SyncView] = rk__sn_sync_view,
    [PB_RK_StreamingNode_Search] = rk__sn_search,
    [PB_RK_StreamingNode_Query] = rk__sn_query,
    [PB_RK_StreamingNode_GetStats] = rk__sn_get_stats,
};

rk_code
rk_streaming_node_new(rk_streaming_node **out, const rk_worker_options *options, rk_err *err)
{
    rk_streaming_node *node = rk_alloc_zero(1, sizeof(*node));
    rk_wal_options wal;
    rk_code code = RK_OK;

    *out = NULL;
    if (!node) {
        return rk__sn_no_memory(err);
    }
    node->options = *options;
    atomic_init(&node->coordinator, options->coordinator);
    rk_mutex_init(&node->lock, "streaming.node", RK__SN_RANK_NODE);
    node->growing_bytes_max = (uint64_t)rk_config_i64(options->config, RK_CFG_GROWING_MAX);
    rk_wal_options_init(&wal);
    wal.segment_bytes = (uint64_t)rk_config_i64(options->config, RK_CFG_WAL_SEGMENT);
    node->log_bytes_max = LOG_PARTS_MAX * RK_MAX(node->growing_bytes_max, wal.segment_bytes);
    RK_ERR(rk_wal_open_local(&node->wal, options->wal_path, &wal, options->env, err));
    RK_ERR(rk_service_near(&node->service, &pb_rk_StreamingNode_service, METHODS, node));
    *out = node;
    node = NULL;
out:
    rk_streaming_node_free(node);
    return code;
}

rk_service *
rk_streaming_node_service(rk_streaming_node *node)
{
    return node->service;
}

void
rk_streaming_node_set_coordinator(rk_streaming_node *node, rk_service *coordinator)
{
    atomic_store(&node->coordinator, coordinator);
}

void
rk_streaming_node_stop(rk_streaming_node *node)
{
    const rk_clock *clock = node->options.env->clock;

    atomic_store(&node->stopping, true); /* also cancels segment files being written */
    while (atomic_load(&node->busy) > 0) {
        clock->sleep_ns(clock->self, 1000000);
    }
}

void
rk_streaming_node_free(rk_streaming_node *node)
{
    if (!node) {
        return;
    }
    for (size_t i = 0; i < node->collections_len; i++) {
        rk__sn_unref(node->collections[i]);
    }
    rk_free(node->collections);
    rk_service_free(node->service);
    rk_wal_close(node->wal);
    rk_mutex_deinit(&node->lock);
    rk_free(node);
}
