/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC: from a path to a method, from bytes to structs, and back.
 *
 * grpc_table.def lists the RPCs that are answered. For each line the macros below make a thin
 * function with the common signature and a row of |handlers|, indexed like the methods of the
 * service in the .proto file. A request for any other method of the service is told that it is not
 * built yet, by name; an unknown path that it is unknown: both with gRPC status 12, which SDKs do
 * not retry and some use to switch a feature off.
 *
 * Search and Query run on the search pool, the rest on the write pool, so that a slow disk never
 * holds up a search.
 *
 * Threads: rk__on_grpc() on a loop thread, run_grpc() on a pool thread.
 */
#include <stdio.h>

#include "access/access_private.h"
#include "base/util.h"

#define SERVICE_PATH "/milvus.proto.milvus.MilvusService/"
#define TELEMETRY    "/milvus.proto.milvus.ClientTelemetryService/"
#define HEALTH_CHECK "/grpc.health.v1.Health/Check"
#define TABLE_SIZE   1024u /* slots; a power of two, several times the number of methods */
#define HEARTBEAT    UINT32_MAX

#define GRPC_INTERNAL      13
#define GRPC_UNIMPLEMENTED 12
#define GRPC_CANCELLED     1

#define RPC(name, function)                                                                        \
    static rk_code call_##name(rk__req *req, const void *in, void *out)                            \
    {                                                                                              \
        return function(req, in, out);                                                             \
    }
#include "access/grpc_table.def"
#undef RPC

static const rk__api_fn handlers[PB_MILVUS_MilvusService_METHODS] = {
#define RPC(name, function) [PB_MILVUS_MilvusService_##name] = call_##name,
#include "access/grpc_table.def"
#undef RPC
};

bool
rk__grpc_has(uint32_t method)
{
    return method < PB_MILVUS_MilvusService_METHODS && handlers[method];
}

rk_code
rk__grpc_init(rk_access *access)
{
    _Static_assert(PB_MILVUS_MilvusService_METHODS * 4 < TABLE_SIZE, "the table must stay sparse");
    access->grpc_table = (uint16_t *)rk_alloc_zero(TABLE_SIZE, sizeof(*access->grpc_table));
    if (!access->grpc_table) {
        return RK_ENOMEM;
    }
    for (uint32_t i = 0; i < PB_MILVUS_MilvusService_METHODS; i++) {
        const char *name = pb_milvus_MilvusService_service.methods[i].name;
        uint32_t slot = (uint32_t)rk_hash64(name, strlen(name)) & (TABLE_SIZE - 1);
        while (access->grpc_table[slot] != 0) {
            slot = (slot + 1) & (TABLE_SIZE - 1);
        }
        access->grpc_table[slot] = (uint16_t)(i + 1);
    }
    return RK_OK;
}

/* Index of the method named |name|, or UINT32_MAX. */
static uint32_t
find_method(const rk_access *access, rk_str name)
{
    uint32_t slot = (uint32_t)rk_hash64(name.data, name.len) & (TABLE_SIZE - 1);

    while (access->grpc_table[slot] != 0) {
        uint32_t i = access->grpc_table[slot] - 1u;
        if (rk_str_is(name, pb_milvus_MilvusService_service.methods[i].name)) {
            return i;
        }
        slot = (slot + 1) & (TABLE_SIZE - 1);
    }
    return UINT32_MAX;
}

/* Which field of the reply is the Status; 0: the reply is one. */
static uint32_t
status_field(uint32_t method)
{
    if (method == PB_MILVUS_MilvusService_GetComponentStates) {
        return 3;
    }
    if (method != HEARTBEAT &&
        pb_milvus_MilvusService_service.methods[method].output == &pb_common_Status_desc) {
        return 0;
    }
    return 1;
}

static rk_code
call_heartbeat(rk__req *req, const void *in, void *out)
{
    return rk__api_heartbeat(req, in, out);
}

/* Decodes, calls, encodes. |reply| is complete on RK_OK. */
static rk_code
serve(rk__job *job, rk_buf *reply, rk_err *err)
{
    bool heartbeat = job->method == HEARTBEAT;
    const pb_method_desc *desc =
        heartbeat ? &pb_milvus_ClientTelemetryService_service
                         .methods[PB_MILVUS_ClientTelemetryService_ClientHeartbeat]
                  : &pb_milvus_MilvusService_service.methods[job->method];
    rk__api_fn function = heartbeat ? call_heartbeat : handlers[job->method];
    uint32_t field = status_field(job->method);
    rk__req req = {.ctx = {job->arena, err, rk_call_deadline_ns(job->call), job->call},
                   .access = job->access,
                   .db = rk_call_header(job->call, "dbname")};
    void *in = NULL;
    void *out = rk_arena_zero(job->arena, 1, pb_sizeof(desc->output));

    if (!out) {
        return rk__fail_memory(err);
    }
    RK_RET(pb_decode(desc->input, &in, rk_call_body(job->call), job->arena, err));
    RK_RET(function(&req, in, out));
    if (field == 1) { /* an empty Status: some clients read it without asking whether it is there */
        rk_buf_append(reply, "\x0a\x00", 2);
    }
    RK_RET(pb_encode(desc->output, out, reply));
    if (field == 3) {
        rk_buf_append(reply, "\x1a\x00", 2);
    }
    return reply->failed ? rk__fail_memory(err) : RK_OK;
}

static void
run_grpc(rk__job *job)
{
    rk_buf reply = {0};
    rk_err err;
    rk_code code;

    rk_err_clear(&err);
    if (rk_call_cancelled(job->call)) {
        rk_call_fail(job->call, GRPC_CANCELLED,
                     RK_STR("the client went away before the call began"));
    } else {
        code = serve(job, &reply, &err);
        if (code == RK_OK) {
            rk_call_reply(job->call, &reply);
        } else {
            rk__grpc_reply_error(job->call, status_field(job->method), code, &err);
        }
        rk__meter_call(job->access, job->method, code, job->started_ns);
    }
    rk_buf_deinit(&reply);
    rk__job_end(job);
}

static void
refuse_unknown(rk_call *call, bool known)
{
    char text[256];
    rk_str path = rk_call_path(call);
    rk_str name = path;
    int len;

    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] == '/') {
            name = (rk_str){path.data + i + 1, path.len - i - 1};
        }
    }
    name.len = RK_MIN(name.len, (size_t)100);
    if (known) {
        len = snprintf(text, sizeof(text), "method %.*s is not built in yet", RK_STR_ARG(name));
    } else {
        len = snprintf(text, sizeof(text), "unknown method %.*s", RK_STR_ARG(name));
    }
    rk_call_fail(call, GRPC_UNIMPLEMENTED, (rk_str){text, len > 0 ? (size_t)len : 0});
}

static void
answer_health(rk_access *access, rk_call *call)
{
    rk_buf reply = {0};
    bool draining = atomic_load_explicit(&access->draining, memory_order_relaxed);

    rk_buf_append(&reply, draining ? "\x08\x02" : "\x08\x01", 2); /* NOT_SERVING, SERVING */
    if (reply.failed) {
        rk_call_fail(call, GRPC_INTERNAL, RK_STR("out of memory"));
    } else {
        rk_call_reply(call, &reply);
    }
    rk_buf_deinit(&reply);
}

void
rk__on_grpc(void *user, rk_call *call)
{
    rk_access *access = (rk_access *)user;
    rk_str path = rk_call_path(call);
    uint32_t method = UINT32_MAX;
    rk_pool *pool = access->write_pool;
    rk_err err;

    if (rk_str_starts(path, SERVICE_PATH)) {
        size_t skip = sizeof(SERVICE_PATH) - 1;
        method = find_method(access, (rk_str){path.data + skip, path.len - skip});
        if (method == UINT32_MAX || !handlers[method]) {
            refuse_unknown(call, method != UINT32_MAX);
            return;
        }
    } else if (rk_str_is(path, TELEMETRY "ClientHeartbeat")) {
        method = HEARTBEAT;
    } else if (rk_str_is(path, HEALTH_CHECK)) {
        answer_health(access, call);
        return;
    } else {
        refuse_unknown(call, rk_str_starts(path, TELEMETRY));
        return;
    }
    if (method == PB_MILVUS_MilvusService_Search || method == PB_MILVUS_MilvusService_Query) {
        pool = access->search_pool;
    }
    rk_err_clear(&err);
    if (rk__job_start(access, call, pool, method, run_grpc, &err) != RK_OK) {
        rk__grpc_reply_error(call, status_field(method), err.code, &err);
    }
}
