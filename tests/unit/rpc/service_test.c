/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services: the same methods called near and far give the same results, errors and sentences
 * included.
 */
#include "rpc/service.h"

#include <stdio.h>

#include "proto/internal.service.h"
#include "rpc_testing.h"

typedef struct self {
    _Atomic int64_t deadline_ns;
} self;

static rk_code
list_collections(void *state, const void *in, void *out, rk_ctx *ctx)
{
    const pb_rk_ListCollectionsRequest *request = in;
    pb_rk_ListCollectionsResponse *response = out;

    ((self *)state)->deadline_ns = ctx->deadline_ns;
    if (rk_str_is(request->db_name, "none")) {
        return rk_fail(ctx->err, RK_EDATABASE_NOT_FOUND,
                       "database not found[database=%.*s] \xc3\xa9 100%%\n",
                       RK_STR_ARG(request->db_name));
    }
    if (rk_str_is(request->db_name, "wordless")) {
        return RK_EBUSY;
    }
    response->collections.n = 3;
    response->collections.data = RK_ARENA_ARRAY(ctx->arena, pb_rk_CollectionInfo *, 3);
    for (size_t i = 0; i < 3; i++) {
        pb_rk_CollectionInfo *info = RK_ARENA_NEW(ctx->arena, pb_rk_CollectionInfo);
        info->id = (int64_t)i + 7;
        info->db_name = rk_arena_str(ctx->arena, request->db_name);
        info->name = rk_arena_printf(ctx->arena, "c%zu", i);
        response->collections.data[i] = info;
    }
    return RK_OK;
}

/* Fails and fills the response too. */
static rk_code
create_collection(void *state, const void *in, void *out, rk_ctx *ctx)
{
    const pb_rk_CreateCollectionRequest *request = in;
    pb_rk_CollectionInfo *response = out;

    RK_UNUSED(state);
    response->id = 42;
    response->shards = request->shards;
    rk_fail(ctx->err, RK_EEXISTS, "already there");
    return rk_err_input(ctx->err);
}

static rk_code
alloc_id(void *state, const void *in, void *out, rk_ctx *ctx)
{
    const rk_clock *clock = rk_clock_real();

    RK_UNUSED(state);
    while (ctx->client &&
           !rk_call_cancelled(ctx->client)) { /* far: sleeps until the client gives up */
        clock->sleep_ns(clock->self, 1000000);
    }
    if (ctx->client) { /* an answer at the very deadline may still be in time */
        clock->sleep_ns(clock->self, 1000000000);
    }
    ((pb_rk_AllocResponse *)out)->first = ((const pb_rk_AllocRequest *)in)->count;
    return RK_OK;
}

static const rk_method_fn methods[PB_RK_Coordinator_METHODS] = {
    [PB_RK_Coordinator_ListCollections] = list_collections,
    [PB_RK_Coordinator_CreateCollection] = create_collection,
    [PB_RK_Coordinator_AllocId] = alloc_id,
};

static void
check(rk_service *service, self *state)
{
    const rk_clock *clock = rk_clock_real();
    rk_err err = {0};
    rk_ctx ctx = {rk_arena_new(0), &err, clock->monotonic_ns(clock->self) + INT64_C(60000000000),
                  NULL};
    pb_rk_ListCollectionsRequest list = {.db_name = RK_STR("db")};
    pb_rk_ListCollectionsResponse *listed;
    pb_rk_CreateCollectionRequest create = {.shards = 3};
    pb_rk_CollectionInfo *info;
    pb_rk_CollectionKey key = {0};
    pb_rk_Empty *empty;
    pb_rk_CatalogRevisionResponse *revision;
    int64_t took_ns = clock->monotonic_ns(clock->self);

    assert_int_equal(pb_rk_Coordinator_ListCollections(service, &list, &listed, &ctx), RK_OK);
    took_ns = clock->monotonic_ns(clock->self) - took_ns;
    assert_int_equal(listed->collections.n, 3);
    assert_int_equal(listed->collections.data[2]->id, 9);
    assert_true(rk_str_is(listed->collections.data[2]->name, "c2"));
    assert_true(rk_str_is(listed->collections.data[2]->db_name, "db"));
    assert_true(state->deadline_ns > ctx.deadline_ns - INT64_C(500000000));
    assert_true(state->deadline_ns < ctx.deadline_ns + took_ns + INT64_C(500000000));

    list.db_name = RK_STR("none");
    assert_int_equal(pb_rk_Coordinator_ListCollections(service, &list, &listed, &ctx),
                     RK_EDATABASE_NOT_FOUND);
    assert_int_equal(err.code, RK_EDATABASE_NOT_FOUND);
    assert_string_equal(err.text, "database not found[database=none] \xc3\xa9 100%\n");
    assert_false(err.input);

    list.db_name = RK_STR("wordless");
    assert_int_equal(pb_rk_Coordinator_ListCollections(service, &list, &listed, &ctx), RK_EBUSY);

    rk_err_clear(&err);
    assert_int_equal(pb_rk_Coordinator_CreateCollection(service, &create, &info, &ctx), RK_EEXISTS);
    assert_string_equal(err.text, "already there");
    assert_true(err.input);
    assert_non_null(info);
    assert_int_equal(info->id, 42);
    assert_int_equal(info->shards, 3);

    assert_int_equal(pb_rk_Coordinator_DropCollection(service, &key, &empty, &ctx),
                     RK_EUNIMPLEMENTED);
    ctx.deadline_ns = clock->monotonic_ns(clock->self) - 1;
    assert_int_equal(pb_rk_Coordinator_CatalogRevision(service, &(pb_rk_Empty){0}, &revision, &ctx),
                     RK_EDEADLINE);
    rk_arena_free(ctx.arena);
}

static void
test_near(void **unused)
{
    rk_service *near;
    self state = {0};

    RK_UNUSED(unused);
    assert_int_equal(rk_service_near(&near, &pb_rk_Coordinator_service, methods, &state), RK_OK);
    check(near, &state);
    rk_service_free(near);
}

static void
test_far(void **unused)
{
    rk_pool_options pool_options = {.name = "serve", .threads = 2, .queue_len_max = 100};
    rk_rpc_server_options server_options;
    rk_rpc_client_options client_options;
    rk_rpc_server *server;
    rk_rpc_client *client;
    rk_exports *exports;
    rk_service *near, *far;
    rk_pool *pool;
    self state = {0};
    rk_err err = {0};
    rk_ctx ctx = {rk_arena_new(0), &err, 0, NULL};
    pb_rk_AllocRequest alloc = {.count = 5};
    pb_rk_AllocResponse *allocated;
    const rk_clock *clock = rk_clock_real();
    rk_str reply;

    RK_UNUSED(unused);
    assert_int_equal(rk_pool_new(&pool, &pool_options), RK_OK);
    assert_int_equal(rk_service_near(&near, &pb_rk_Coordinator_service, methods, &state), RK_OK);
    assert_int_equal(rk_exports_new(&exports, pool), RK_OK);
    assert_int_equal(rk_exports_add(exports, &pb_rk_Coordinator_service, near), RK_OK);
    assert_int_equal(rk_exports_add(exports, &pb_rk_Coordinator_service, near), RK_EEXISTS);
    rk_rpc_server_options_init(&server_options);
    server_options.on_grpc = rk_exports_on_grpc;
    server_options.user = exports;
    assert_int_equal(rk_rpc_server_start(&server, &server_options, &err), RK_OK);
    rk_rpc_client_options_init(&client_options);
    client_options.address = rk_rpc_server_address(server);
    assert_int_equal(rk_rpc_client_new(&client, &client_options, &err), RK_OK);
    assert_int_equal(rk_service_far(&far, &pb_rk_Coordinator_service, client), RK_OK);
    check(far, &state);

    ctx.deadline_ns = clock->monotonic_ns(clock->self) + 100000000;
    assert_int_equal(pb_rk_Coordinator_AllocId(far, &alloc, &allocated, &ctx), RK_EDEADLINE);
    assert_int_equal(rk_rpc_client_call(client, "/no.such/Method", RK_STR(""), NULL, INT64_MAX,
                                        &reply, ctx.arena, &err),
                     RK_EUNIMPLEMENTED);
    assert_int_equal(rk_rpc_client_call(client, pb_rk_Coordinator_service.methods[0].path,
                                        RK_STR("\xff\xff"), NULL, INT64_MAX, &reply, ctx.arena,
                                        &err),
                     RK_EINVAL);

    rk_service_free(far);
    rk_rpc_client_free(client);
    rk_rpc_server_stop(server, 60000);
    rk_rpc_server_free(server);
    rk_pool_stop(pool);
    rk_pool_free(pool);
    rk_exports_free(exports);
    rk_service_free(near);
    rk_arena_free(ctx.arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_near), cmocka_unit_test(test_far)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
