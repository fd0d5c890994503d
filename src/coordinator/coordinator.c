/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator: making, starting, stopping, and its service table.
 *
 * Start: the catalogue is read, every collection is opened on the streaming node with its
 * checkpoints and deltas, the log is replayed, and what was loaded is loaded again before the first
 * request is served.
 */
#include "coordinator/coordinator_private.h"

static const rk_method_fn METHODS[PB_RK_Coordinator_METHODS] = {
    [PB_RK_Coordinator_CreateCollection] = rk__co_create_collection,
    [PB_RK_Coordinator_DropCollection] = rk__co_drop_collection,
    [PB_RK_Coordinator_DescribeCollection] = rk__co_describe_collection,
    [PB_RK_Coordinator_ListCollections] = rk__co_list_collections,
    [PB_RK_Coordinator_CatalogRevision] = rk__co_catalog_revision,
    [PB_RK_Coordinator_CreateIndex] = rk__co_create_index,
    [PB_RK_Coordinator_DropIndex] = rk__co_drop_index,
    [PB_RK_Coordinator_DescribeIndex] = rk__co_describe_index,
    [PB_RK_Coordinator_Load] = rk__co_load,
    [PB_RK_Coordinator_Release] = rk__co_release,
    [PB_RK_Coordinator_GetLoadState] = rk__co_get_load_state,
    [PB_RK_Coordinator_Flush] = rk__co_flush,
    [PB_RK_Coordinator_GetFlushState] = rk__co_get_flush_state,
    [PB_RK_Coordinator_GetStatistics] = rk__co_get_statistics,
    [PB_RK_Coordinator_AllocTimestamp] = rk__co_alloc,
    [PB_RK_Coordinator_AllocId] = rk__co_alloc,
    [PB_RK_Coordinator_SaveFlush] = rk__co_save_flush,
    [PB_RK_Coordinator_ListSegments] = rk__co_list_segments,
    [PB_RK_Coordinator_ReportDamage] = rk__co_report_damage,
};

rk_code
rk_coordinator_new(rk_coordinator **out, const rk_coordinator_options *options, rk_err *err)
{
    rk_coordinator *co = rk_alloc_zero(1, sizeof(*co));
    uint64_t first;
    rk_code code = RK_OK;

    *out = NULL;
    if (!co) {
        return rk__co_no_memory(err);
    }
    co->options = *options;
    rk_mutex_init(&co->ddl, "coordinator.ddl", RK__CO_RANK_DDL);
    rk_mutex_init(&co->lock, "coordinator.lock", RK__CO_RANK_LOCK);
    rk_mutex_init(&co->time, "coordinator.time", RK__CO_RANK_TIME);
    rk_cond_init(&co->wake);
    rk_cond_init(&co->changed);
    atomic_init(&co->revision, 1);
    RK_ERR(rk__co_time_init(co, err));
    RK_ERR(rk__co_catalog_read(co, err));
    RK_ERR(rk__co_time_alloc(co, 1, &first, err));
    co->start_id = (int64_t)first;
    RK_ERR(rk_service_near(&co->service, &pb_rk_Coordinator_service, METHODS, co));
    *out = co;
    co = NULL;
out:
    rk_coordinator_free(co);
    return code;
}

rk_service *
rk_coordinator_service(rk_coordinator *co)
{
    return co->service;
}

static rk_code
open_collection(rk_coordinator *co, const rk__co_collection *c, rk_ctx *ctx)
{
    pb_rk_OpenCollectionRequest open = {.collection = rk__co_info(c)};
    pb_rk_Empty *answer = NULL;

    open.channels.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_ChannelInfo *, c->channels_len + 1);
    open.deltas.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_DeltaFile *, c->deltas_len + 1);
    if (!open.channels.data || !open.deltas.data) {
        return rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; i < c->channels_len; i++) {
        open.channels.data[open.channels.n++] = c->channels[i].message;
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        open.deltas.data[open.deltas.n++] = c->deltas[i].message;
    }
    return pb_rk_StreamingNode_OpenCollection(co->options.streaming_node, &open, &answer, ctx);
}

rk_code
rk_coordinator_start(rk_coordinator *co, rk_err *err)
{
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = err, .deadline_ns = INT64_MAX};
    pb_rk_Empty nothing = {0};
    pb_rk_Empty *answer = NULL;
    rk_code code = RK_OK;

    if (!ctx.arena) {
        return rk__co_no_memory(err);
    }
    for (size_t i = 0; i < co->collections_len; i++) { /* nobody else is here yet */
        if (!co->collections[i]->dropped) {
            RK_ERR(open_collection(co, co->collections[i], &ctx));
        }
    }
    RK_ERR(pb_rk_StreamingNode_Recover(co->options.streaming_node, &nothing, &answer, &ctx));
    for (size_t i = 0; i < co->collections_len; i++) {
        if (co->collections[i]->load_wanted) {
            rk__co_sync_load(
                co,
                co->collections[i]->id); /* a failure is logged and tried again by the job thread */
        }
    }
    code = rk__co_jobs_start(co, err);
out:
    rk_arena_free(ctx.arena);
    return code;
}

void
rk_coordinator_stop(rk_coordinator *co)
{
    rk__co_jobs_stop(co);
}

void
rk_coordinator_free(rk_coordinator *co)
{
    if (!co) {
        return;
    }
    for (size_t i = 0; i < co->collections_len; i++) {
        rk__co_collection_free(co->collections[i]);
    }
    for (size_t i = 0; i < co->tasks_len; i++) {
        rk_free(co->tasks[i].inputs);
    }
    for (size_t i = 0; i < co->reports_len; i++) {
        rk__co_box_free(&co->reports[i]);
    }
    rk_free(co->reports);
    rk_free(co->tasks);
    rk_free(co->collections);
    rk_free(co->named);
    rk_service_free(co->service);
    rk_cond_deinit(&co->changed);
    rk_cond_deinit(&co->wake);
    rk_mutex_deinit(&co->time);
    rk_mutex_deinit(&co->lock);
    rk_mutex_deinit(&co->ddl);
    rk_free(co);
}
