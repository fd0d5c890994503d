/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory running out: connections without sockets are fed whole requests while the Nth allocation
 * and all later ones fail, for every N. Nothing may crash or leak, and the same connection code
 * serves again afterwards.
 */
#include "rpc/server_private.h"
#include "unit_test.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
static const char grpc_call[] =
    "\0\0\x2d\1\4\0\0\0\1\x83\x86\x04\x07/t/Echo\x41\x01h\x5f\x10"
    "application/grpc\x40\x02te\x08trailers\0\0\x0a\0\1\0\0\0\1\0\0\0\0\5hello";
static const char http1_calls[] =
    "POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

static unsigned answered;

static void
on_call(void *user, rk_call *call)
{
    rk_buf reply = {0};
    rk_str body = rk_call_body(call);

    RK_UNUSED(user);
    answered++;
    rk_buf_append(&reply, body.data, body.len);
    if (rk_str_is(rk_call_method(call), "POST") && rk_call_header(call, "te").len > 0) {
        rk_call_reply(call, &reply);
    } else {
        rk_call_http_header(call, "a", "b");
        rk_call_http(call, 200, "text/plain", &reply);
    }
}

/* One connection from start to end. Returns whether the peer got |count| answers. */
static bool
serve(rk__core *core, rk__sloop *loop, const char *bytes, size_t len, size_t len2,
      const char *bytes2)
{
    rk_buf sink = {0};
    rk__sconn *conn = rk__sconn_new(loop);
    unsigned before = answered;

    if (!conn) {
        return false;
    }
    conn->base.sink = &sink;
    rk__sconn_begin(conn);
    rk__conn_feed(&conn->base, (const uint8_t *)bytes, len);
    rk__loop_flush(&loop->base);
    if (loop->base.conns) {
        rk__conn_feed(&conn->base, (const uint8_t *)bytes2, len2);
        rk__loop_flush(&loop->base);
    }
    if (loop->base.conns) {
        rk__conn_doom(&conn->base);
        rk__loop_flush(&loop->base);
    }
    assert_null(loop->base.conns);
    assert_int_equal(atomic_load(&core->budget.used), 0);
    assert_int_equal(atomic_load(&core->calls), 0);
    assert_int_equal(atomic_load(&core->connections), 0);
    rk_buf_deinit(&sink);
    return answered > before;
}

static void
test_failing_allocations(void **state)
{
    static rk__sloop loop;
    rk_rpc_server_options options;
    rk__core *core;
    rk_err err = {0};
    unsigned before;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.on_grpc = on_call;
    options.on_http = on_call;
    for (int64_t n = 0; n < 60; n++) {
        assert_int_equal(rk__core_new(&core, &options, &err), RK_OK);
        assert_int_equal(rk__sloop_init(&loop, core, &err), RK_OK);
        rk__loop_adopt(&loop.base);
        rk_alloc_fail_after(n);
        serve(core, &loop, preface, sizeof(preface) - 1, sizeof(grpc_call) - 1, grpc_call);
        rk_alloc_fail_after(-1);
        rk_alloc_fail_after(n);
        serve(core, &loop, http1_calls, 10, sizeof(http1_calls) - 11, http1_calls + 10);
        rk_alloc_fail_after(-1);
        before = answered;
        assert_true(
            serve(core, &loop, preface, sizeof(preface) - 1, sizeof(grpc_call) - 1, grpc_call));
        assert_true(
            serve(core, &loop, http1_calls, 10, sizeof(http1_calls) - 11, http1_calls + 10));
        assert_int_equal(answered - before, 3);
        rk__loop_adopt(NULL);
        rk__sloop_deinit(&loop);
        rk__core_unref(core);
    }
}

static void
test_failing_start(void **state)
{
    rk_rpc_server_options options;
    rk_rpc_client_options client_options;
    rk_rpc_server *server;
    rk_rpc_client *client;
    rk_err err = {0};

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.loops = 2;
    rk_rpc_client_options_init(&client_options);
    client_options.address = "127.0.0.1:1";
    for (int64_t n = 0; n < 30; n++) {
        rk_alloc_fail_after(n);
        if (rk_rpc_server_start(&server, &options, &err) == RK_OK) {
            rk_alloc_fail_after(-1);
            rk_rpc_server_stop(server, 0);
            rk_rpc_server_free(server);
        }
        rk_alloc_fail_after(n);
        if (rk_rpc_client_new(&client, &client_options, &err) == RK_OK) {
            rk_alloc_fail_after(-1);
            rk_rpc_client_free(client);
        }
        rk_alloc_fail_after(-1);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_failing_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
