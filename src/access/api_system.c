/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connect, versions, health, time and databases: what a client asks before it touches a collection.
 *
 * Connect hands out an identifier that is never 0 and a version SDKs can parse. There is one
 * database, `default`.
 */
#include "access/access_private.h"

#define DEFAULT_DB_ID 1

int64_t
rk__wall_ms(const rk__req *req)
{
    const rk_clock *clock = req->access->env->clock;
    return clock->wall_ms(clock->self);
}

rk_code
rk__timestamp(rk__req *req, uint64_t *out)
{
    pb_rk_AllocRequest request = {.count = 1};
    pb_rk_AllocResponse *reply = NULL;

    *out = 0;
    RK_RET(pb_rk_Coordinator_AllocTimestamp(req->access->coordinator, &request, &reply, &req->ctx));
    *out = reply->first;
    return RK_OK;
}

rk_code
rk__api_connect(rk__req *req, const pb_milvus_ConnectRequest *in, pb_milvus_ConnectResponse *out)
{
    uint64_t timestamp = 0;

    RK_UNUSED(in);
    RK_RET(rk__use_db(req, (rk_str){NULL, 0}));
    if (rk__timestamp(req, &timestamp) != RK_OK) { /* a full disk must not keep readers away */
        rk_err_clear(req->ctx.err);
        timestamp = (uint64_t)rk__wall_ms(req);
    }
    out->server_info = RK_ARENA_NEW(req->ctx.arena, pb_common_ServerInfo);
    if (!out->server_info) {
        return rk__fail_memory(req->ctx.err);
    }
    out->server_info->build_tags = RK_STR(RK__VERSION);
    out->server_info->build_time = RK_STR("");
    out->server_info->git_commit = RK_STR("redkite");
    out->server_info->go_version = RK_STR("none");
    out->server_info->deploy_mode = RK_STR("STANDALONE");
    out->identifier = (int64_t)(timestamp ? timestamp : 1);
    return RK_OK;
}

rk_code
rk__api_get_version(rk__req *req, const pb_milvus_GetVersionRequest *in,
                    pb_milvus_GetVersionResponse *out)
{
    RK_UNUSED(req);
    RK_UNUSED(in);
    out->version = RK_STR(RK__VERSION);
    return RK_OK;
}

/* Healthy when the coordinator answers and the server is not being stopped. */
rk_code
rk__api_check_health(rk__req *req, const pb_milvus_CheckHealthRequest *in,
                     pb_milvus_CheckHealthResponse *out)
{
    pb_rk_Empty empty = {0};
    pb_rk_CatalogRevisionResponse *revision = NULL;
    rk_code code =
        pb_rk_Coordinator_CatalogRevision(req->access->coordinator, &empty, &revision, &req->ctx);

    RK_UNUSED(in);
    out->isHealthy =
        code == RK_OK && !atomic_load_explicit(&req->access->draining, memory_order_relaxed);
    if (!out->isHealthy) {
        out->reasons.data = RK_ARENA_ARRAY(req->ctx.arena, rk_str, 1);
        if (!out->reasons.data) {
            return rk__fail_memory(req->ctx.err);
        }
        out->reasons.data[0] = code == RK_OK
                                   ? RK_STR("the server is stopping")
                                   : rk_arena_str(req->ctx.arena, rk_str_from(req->ctx.err->text));
        out->reasons.n = 1;
        rk_err_clear(req->ctx.err);
    }
    return RK_OK;
}

rk_code
rk__api_alloc_timestamp(rk__req *req, const pb_milvus_AllocTimestampRequest *in,
                        pb_milvus_AllocTimestampResponse *out)
{
    RK_UNUSED(in);
    return rk__timestamp(req, &out->timestamp);
}

rk_code
rk__api_component_states(rk__req *req, const pb_milvus_GetComponentStatesRequest *in,
                         pb_milvus_ComponentStates *out)
{
    bool draining = atomic_load_explicit(&req->access->draining, memory_order_relaxed);

    RK_UNUSED(in);
    out->state = RK_ARENA_NEW(req->ctx.arena, pb_milvus_ComponentInfo);
    if (!out->state) {
        return rk__fail_memory(req->ctx.err);
    }
    out->state->nodeID = 1;
    out->state->role = RK_STR("proxy");
    out->state->state_code = draining ? PB_COMMON_StateCode_Stopping : PB_COMMON_StateCode_Healthy;
    return RK_OK;
}

/* Telemetry that clients push: taken note of by answering; there are no commands for them. */
rk_code
rk__api_heartbeat(rk__req *req, const pb_milvus_ClientHeartbeatRequest *in,
                  pb_milvus_ClientHeartbeatResponse *out)
{
    RK_UNUSED(in);
    out->server_timestamp = rk__wall_ms(req);
    return RK_OK;
}

rk_code
rk__api_list_databases(rk__req *req, const pb_milvus_ListDatabasesRequest *in,
                       pb_milvus_ListDatabasesResponse *out)
{
    rk_str *names = RK_ARENA_ARRAY(req->ctx.arena, rk_str, 1);
    uint64_t *created = RK_ARENA_ARRAY(req->ctx.arena, uint64_t, 1);
    int64_t *ids = RK_ARENA_ARRAY(req->ctx.arena, int64_t, 1);

    RK_UNUSED(in);
    if (!names || !created || !ids) {
        return rk__fail_memory(req->ctx.err);
    }
    names[0] = RK_STR(RK__DEFAULT_DB);
    ids[0] = DEFAULT_DB_ID;
    out->db_names = (pb_strs){names, 1};
    out->created_timestamp = (pb_u64s){created, 1};
    out->db_ids = (pb_i64s){ids, 1};
    return RK_OK;
}

rk_code
rk__api_describe_database(rk__req *req, const pb_milvus_DescribeDatabaseRequest *in,
                          pb_milvus_DescribeDatabaseResponse *out)
{
    RK_RET(rk__use_db(req, in->db_name));
    out->db_name = req->db;
    out->dbID = DEFAULT_DB_ID;
    return RK_OK;
}
