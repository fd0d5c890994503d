/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service, near or far. See service.h.
 *
 * Near costs a bounds check, a zeroed response and an indirect call. Far encodes the request, makes
 * one gRPC call and decodes the reply in place: its bytes are in the caller's arena already and
 * strings point into them.
 *
 * Both give |*response| even when the method fails (a few methods fill it then): near what the
 * handler put there, far what came before the failing status, or an empty one.
 */
#include "rpc/service.h"

struct rk_service {
    const pb_service_desc *desc;
    const rk_method_fn *methods; /* near; borrowed, static */
    void *self;
    rk_rpc_client *client; /* far */
};

static rk_code
service_new(rk_service **out, const pb_service_desc *desc)
{
    rk_service *service = rk_alloc_zero(1, sizeof(*service));

    *out = service;
    if (!service) {
        return RK_ENOMEM;
    }
    service->desc = desc;
    return RK_OK;
}

rk_code
rk_service_near(rk_service **out, const pb_service_desc *desc, const rk_method_fn *methods,
                void *self)
{
    RK_RET(service_new(out, desc));
    (*out)->methods = methods;
    (*out)->self = self;
    return RK_OK;
}

rk_code
rk_service_far(rk_service **out, const pb_service_desc *desc, rk_rpc_client *client)
{
    RK_RET(service_new(out, desc));
    (*out)->client = client;
    return RK_OK;
}

void
rk_service_free(rk_service *service)
{
    rk_free(service);
}

static rk_code
empty_response(const pb_method_desc *method, void **response, rk_ctx *ctx)
{
    *response = rk_arena_zero(ctx->arena, 1, RK_MAX(pb_sizeof(method->output), (size_t)1));
    if (!*response) {
        return rk_fail(ctx->err, RK_ENOMEM, "%s: no memory for the response", method->path);
    }
    return RK_OK;
}

static rk_code
call_near(rk_service *service, uint32_t index, const void *request, void **response, rk_ctx *ctx)
{
    const pb_method_desc *method = &service->desc->methods[index];

    if (!service->methods[index]) {
        return rk_fail(ctx->err, RK_EUNIMPLEMENTED, "%s: %s", method->path,
                       rk_code_get_info(RK_EUNIMPLEMENTED)->text);
    }
    RK_RET(empty_response(method, response, ctx));
    return service->methods[index](service->self, request, *response, ctx);
}

static rk_code
call_far(rk_service *service, uint32_t index, const void *request, void **response, rk_ctx *ctx)
{
    const pb_method_desc *method = &service->desc->methods[index];
    rk_buf message = {0};
    rk_str reply = {NULL, 0};
    rk_code code = pb_encode(method->input, request, &message);

    if (code != RK_OK) {
        rk_buf_deinit(&message);
        return rk_fail(ctx->err, code, "%s: the request could not be encoded", method->path);
    }
    code = rk_rpc_client_call(service->client, method->path, rk_buf_view(&message), NULL,
                              ctx->deadline_ns, &reply, ctx->arena, ctx->err);
    rk_buf_deinit(&message);
    if (code != RK_OK && reply.len == 0) {
        RK_RET(empty_response(method, response, ctx));
        return code;
    }
    if (code != RK_OK) { /* keep the sentence of the failure, whatever the message holds */
        RK_RET(pb_decode(method->output, response, reply, ctx->arena, NULL));
        return code;
    }
    return pb_decode(method->output, response, reply, ctx->arena, ctx->err);
}

static bool
is_late(const rk_ctx *ctx)
{
    const rk_clock *clock = rk_clock_real();

    return ctx->deadline_ns != INT64_MAX && clock->monotonic_ns(clock->self) >= ctx->deadline_ns;
}

static bool
is_unwanted(void *self)
{
    const rk_ctx *ctx = self;

    return is_late(ctx) || (ctx->client && rk_call_cancelled(ctx->client));
}

void
rk_ctx_stop(rk_stop *stop, rk_ctx *ctx)
{
    *stop = (rk_stop){is_unwanted, ctx};
}

rk_code
rk_ctx_stopped(rk_ctx *ctx, rk_code code)
{
    if (code == RK_ECANCELLED && is_late(ctx)) {
        return rk_fail(ctx->err, RK_EDEADLINE, "%s", rk_code_get_info(RK_EDEADLINE)->text);
    }
    return code;
}

rk_code
rk_service_call(rk_service *service, uint32_t index, const void *request, void **response,
                rk_ctx *ctx)
{
    const pb_service_desc *desc = service->desc;

    *response = NULL;
    RK_ASSERT(index < desc->methods_len);
    if (is_late(ctx)) {
        return rk_fail(ctx->err, RK_EDEADLINE, "%s", rk_code_get_info(RK_EDEADLINE)->text);
    }
    return service->client ? call_far(service, index, request, response, ctx)
                           : call_near(service, index, request, response, ctx);
}
