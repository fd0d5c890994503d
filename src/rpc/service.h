/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services: the same call, near or far.
 *
 * A service is one of ours from proto/redkite/internal.proto. Its callers hold an rk_service and
 * use the typed wrappers that pbgen writes for each method (`pb_rk_Coordinator_Load(service,
 * &request, &response, ctx)`); they never know whether the functions of this process are behind it
 * or a socket.
 *
 * Near: the handler is called on the caller's thread; request and response are the structs
 * themselves, nothing is copied or encoded. Far: the request is encoded, sent by the gRPC client,
 * the reply decoded into the caller's arena. Handlers must therefore treat a request as read-only
 * and borrowed for the call, and put all they return into ctx->arena.
 */
#ifndef RK_RPC_SERVICE_H
#define RK_RPC_SERVICE_H

#include "rpc/rpc.h"

/* What travels beside every call. Owned by the caller for the time of the call. */
typedef struct rk_ctx {
    rk_arena *arena;     /* the reply lives here */
    rk_err *err;         /* the sentence, when the call fails */
    int64_t deadline_ns; /* monotonic; INT64_MAX: none */
    rk_call *client;     /* the client's call for cancellation checks, or NULL */
} rk_ctx;

/* |stop| asks for the end of the call's work when its client went away or its deadline passed; both
 * pointers must stay valid while it is asked. */
void rk_ctx_stop(rk_stop *stop, rk_ctx *ctx);
/* The code of a call whose work ended with |code|: RK_ECANCELLED becomes RK_EDEADLINE, with its
 * sentence, when the deadline has passed. */
rk_code rk_ctx_stopped(rk_ctx *ctx, rk_code code);

/* One method: fills |response| (zeroed, in ctx->arena). */
typedef rk_code (*rk_method_fn)(void *self, const void *request, void *response, rk_ctx *ctx);

typedef struct rk_service rk_service;

/* |methods| has desc->methods_len entries in .proto order; a NULL entry answers RK_EUNIMPLEMENTED.
 * |self| is borrowed. */
RK_MUST_CHECK rk_code rk_service_near(rk_service **out, const pb_service_desc *desc,
                                      const rk_method_fn *methods, void *self);
/* |client| is borrowed. */
RK_MUST_CHECK rk_code rk_service_far(rk_service **out, const pb_service_desc *desc,
                                     rk_rpc_client *client);
void rk_service_free(rk_service *service);

/* Calls method |index|. |*response| points into ctx->arena. RK_EDEADLINE at once when the deadline
 * has passed. */
RK_MUST_CHECK rk_code rk_service_call(rk_service *service, uint32_t index, const void *request,
                                      void **response, rk_ctx *ctx);

/*
 * The serving end of far: a table of near services that one rpc server exports. Pass
 * rk_exports_on_grpc as on_grpc and the table as user. Calls run on |pool|; a full queue answers
 * UNAVAILABLE with RK_EBUSY.
 */
typedef struct rk_exports rk_exports;
RK_MUST_CHECK rk_code rk_exports_new(rk_exports **out, rk_pool *pool);
RK_MUST_CHECK rk_code rk_exports_add(rk_exports *exports, const pb_service_desc *desc,
                                     rk_service *service);
void rk_exports_on_grpc(void *exports, rk_call *call);
void rk_exports_free(rk_exports *exports);

#endif
