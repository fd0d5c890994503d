/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server and client in one process: TCP, Unix socket, TLS, mTLS; sizes, concurrency, deadlines,
 * errors, restarts.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc_testing.h"

static char folder[64];

static const char *
in_folder(char *out, size_t cap, const char *name)
{
    snprintf(out, cap, "%s/%s", folder, name);
    return out;
}

static rk_rpc_client *
client_to(const char *address)
{
    rk_rpc_client_options options;
    rk_rpc_client *client;
    rk_err err = {0};

    rk_rpc_client_options_init(&options);
    options.address = address;
    if (rk_rpc_client_new(&client, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return client;
}

static int64_t
in_ms(int64_t ms)
{
    return (now_ms() + ms) * 1000000;
}

/* Sends |len| patterned bytes to |path| and expects them back. */
static void
check_echo(rk_rpc_client *client, const char *path, size_t len)
{
    rk_arena *arena = rk_arena_new(0);
    uint8_t *bytes = rk_alloc(len + 1);
    rk_str reply;
    rk_err err = {0};

    assert_non_null(arena);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(i * 131 + (i >> 9) + len);
    }
    if (rk_rpc_client_call(client, path, (rk_str){(char *)bytes, len}, NULL, in_ms(600000), &reply,
                           arena, &err) != RK_OK) {
        fail_msg("%s of %zu bytes: %s", path, len, err.text);
    }
    assert_int_equal(reply.len, len);
    assert_int_equal(len ? memcmp(reply.data, bytes, len) : 0, 0);
    rk_free(bytes);
    rk_arena_free(arena);
}

static rk_code
call_once(rk_rpc_client *client, const char *path, const char *message, int64_t deadline_ns,
          rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_str reply;
    rk_code code;

    assert_non_null(arena);
    rk_err_clear(err);
    code = rk_rpc_client_call(client, path, rk_str_from(message), NULL, deadline_ns, &reply, arena,
                              err);
    if (code == RK_OK) {
        assert_true(rk_str_is(reply, message));
    }
    rk_arena_free(arena);
    return code;
}

static const size_t sizes[] = {0,     1,     4090,  4091,    4092,    4096,          16379,   16384,
                               65531, 65536, 70000, 1 << 20, 1048577, (3 << 20) + 7, 20 << 20};

static void
check_all_sizes(rk_rpc_client *client)
{
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        check_echo(client, "/t/Echo", sizes[i]);
        check_echo(client, "/t/Later", sizes[i]);
    }
}

static void
test_tcp(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    rk_rpc_stats stats;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    check_all_sizes(client);
    check_echo(client, "/t/Echo", 64 << 20);
    rk_rpc_client_free(client);
    rk_rpc_server_stats(echo.server, &stats);
    assert_int_equal(stats.calls_total, 2 * RK_COUNT(sizes) + 1);
    assert_int_equal(stats.inflight_bytes, 0);
    echo_stop(&echo);
}

static void
test_unix_and_loops(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo, second;
    rk_rpc_client *clients[8];
    char address[128];
    rk_err err = {0};
    rk_rpc_server *taken;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    snprintf(address, sizeof(address), "unix:%s/socket", folder);
    options.listen = address;
    options.loops = 3;
    echo_start(&echo, &options);
    assert_string_equal(rk_rpc_server_address(echo.server), address);
    assert_int_equal(rk_rpc_server_start(&taken, &options, &err), RK_EIO);
    for (size_t i = 0; i < RK_COUNT(clients); i++) {
        clients[i] = client_to(address);
        check_echo(clients[i], "/t/Later", 70000);
    }
    check_all_sizes(clients[0]);
    for (size_t i = 0; i < RK_COUNT(clients); i++) {
        rk_rpc_client_free(clients[i]);
    }
    echo_stop(&echo);
    assert_int_not_equal(access(address + 5, F_OK), 0);

    rk_rpc_server_options_init(&options); /* several loops on one port */
    options.loops = 3;
    echo_start(&second, &options);
    options.listen = rk_rpc_server_address(second.server);
    options.loops = 1;
    assert_int_equal(rk_rpc_server_start(&taken, &options, &err), RK_EIO);
    for (size_t i = 0; i < RK_COUNT(clients); i++) {
        clients[i] = client_to(rk_rpc_server_address(second.server));
        check_echo(clients[i], "/t/Later", 70000);
        rk_rpc_client_free(clients[i]);
    }
    echo_stop(&second);
}

static rk_rpc_client *
tls_client(const char *address, const char *ca, const char *identity)
{
    char ca_path[128], cert[128], key[128];
    rk_rpc_client_options options;
    rk_rpc_client *client;
    rk_err err = {0};

    rk_rpc_client_options_init(&options);
    options.address = address;
    options.tls = true;
    options.ca_pem_path = in_folder(ca_path, sizeof(ca_path), ca);
    if (identity) {
        snprintf(cert, sizeof(cert), "%s/%s.pem", folder, identity);
        snprintf(key, sizeof(key), "%s/%s.key", folder, identity);
        options.cert_pem_path = cert;
        options.key_pem_path = key;
    }
    if (rk_rpc_client_new(&client, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return client;
}

/* A call over a TLS client that must fail with |words| in its sentence. */
static void
check_refused(rk_rpc_client *client, const char *words)
{
    rk_err err = {0};

    assert_int_equal(call_once(client, "/t/Echo", "x", in_ms(60000), &err), RK_EUNAVAILABLE);
    if (words && !strstr(err.text, words)) {
        fail_msg("wanted \"%s\" in: %s", words, err.text);
    }
    rk_rpc_client_free(client);
}

static void
test_tls(void **state)
{
    char cert[128], key[128], ca[128];
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    const char *address;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.tls.cert_pem_path = in_folder(cert, sizeof(cert), "server.pem");
    options.tls.key_pem_path = in_folder(key, sizeof(key), "server.key");
    echo_start(&echo, &options);
    address = rk_rpc_server_address(echo.server);
    client = tls_client(address, "ca.pem", NULL);
    check_all_sizes(client);
    rk_rpc_client_free(client);
    check_refused(tls_client(address, "ca2.pem", NULL), "certificate");
    check_refused(client_to(address), NULL); /* plain, where TLS is required */
    echo_stop(&echo);

    options.tls.ca_pem_path = in_folder(ca, sizeof(ca), "ca.pem"); /* mTLS */
    echo_start(&echo, &options);
    address = rk_rpc_server_address(echo.server);
    client = tls_client(address, "ca.pem", "client");
    check_all_sizes(client);
    check_echo(client, "/t/Echo", 32 << 20);
    rk_rpc_client_free(client);
    check_refused(tls_client(address, "ca.pem", NULL), NULL);
    check_refused(tls_client(address, "ca.pem", "other"), NULL);
    echo_stop(&echo);

    options.tls.ca_pem_path = NULL; /* a certificate for another name */
    options.tls.cert_pem_path = in_folder(cert, sizeof(cert), "wrong.pem");
    options.tls.key_pem_path = in_folder(key, sizeof(key), "wrong.key");
    echo_start(&echo, &options);
    check_refused(tls_client(rk_rpc_server_address(echo.server), "ca.pem", NULL), "certificate");
    echo_stop(&echo);
}

static void
test_tls_files(void **state)
{
    static const struct {
        const char *cert, *key, *ca;
        const char *words; /* of the sentence, and the file that is wrong */
        const char *file;
    } cases[] = {
        {"nothing.pem", "server.key", NULL, "cannot read", "nothing.pem"},
        {"server.key", "server.key", NULL, "holds no certificate in PEM form", "server.key"},
        {"server.pem", "nothing.key", NULL, "no private key in PEM form", "nothing.key"},
        {"server.pem", "server.pem", NULL, "no private key in PEM form", "server.pem"},
        {"client.pem", "server.key", NULL, "does not belong to the first certificate",
         "client.pem"},
        {"server.pem", "locked.key", NULL, "want one without a passphrase", "locked.key"},
        {"server.pem", NULL, NULL, "comes without a private key", "server.pem"},
        {"server.pem", "server.key", "server.key", "the authorities of clients", "server.key"},
        {"server.pem", "server.key", "nothing.pem", "cannot read", "nothing.pem"},
    };
    char cert[128], key[128], ca[128], command[400];
    rk_rpc_server_options options;
    rk_rpc_server *server;

    RK_UNUSED(state);
    (void)snprintf(command, sizeof(command),
                   "openssl pkcs8 -topk8 -in %s/server.key -out %s/locked.key -passout pass:secret",
                   folder, folder);
    FILE *made = popen(command, "r");
    assert_non_null(made);
    assert_int_equal(pclose(made), 0);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_err err = {0};
        rk_rpc_server_options_init(&options);
        options.tls.cert_pem_path = in_folder(cert, sizeof(cert), cases[i].cert);
        options.tls.key_pem_path = cases[i].key ? in_folder(key, sizeof(key), cases[i].key) : NULL;
        options.tls.ca_pem_path = cases[i].ca ? in_folder(ca, sizeof(ca), cases[i].ca) : NULL;
        assert_int_equal(rk_rpc_server_start(&server, &options, &err), RK_EINVAL);
        if (!strstr(err.text, cases[i].words) || !strstr(err.text, cases[i].file)) {
            fail_msg("case %zu: \"%s\" without \"%s\" or \"%s\"", i, err.text, cases[i].words,
                     cases[i].file);
        }
    }
}

static void
test_errors(void **state)
{
    static const char *const headers[] = {"x-one", "1", "authorization", "Bearer abc", NULL};
    static char long_text[1500];
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    rk_arena *arena = rk_arena_new(0);
    rk_str reply;
    rk_err err = {0}, want = {0};

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.message_size_max = 1 << 20;
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    memset(long_text, 0xc3, sizeof(long_text) - 1); /* every byte is percent-coded */
    rk_fail(&want, RK_ECOLLECTION_NOT_FOUND, "no 100%% \xc3\xa9\n%s", long_text);
    assert_int_equal(call_once(client, "/t/Fail", long_text, INT64_MAX, &err),
                     RK_ECOLLECTION_NOT_FOUND);
    assert_string_equal(err.text, want.text);
    assert_int_equal(err.code, RK_ECOLLECTION_NOT_FOUND);
    assert_int_equal(call_once(client, "/t/Nothing", "", INT64_MAX, &err), RK_EUNIMPLEMENTED);
    assert_string_equal(err.text, "unknown method");
    assert_int_equal(
        rk_rpc_client_call(client, "/t/Meta", RK_STR(""), headers, INT64_MAX, &reply, arena, &err),
        RK_OK);
    assert_true(rk_str_is(reply, "1|Bearer abc"));
    { /* one byte too many: refused by the prefix, and the connection goes on */
        uint8_t *big = rk_alloc_zero(1, (1 << 20) + 1);
        assert_int_equal(rk_rpc_client_call(client, "/t/Echo", (rk_str){(char *)big, (1 << 20) + 1},
                                            NULL, INT64_MAX, &reply, arena, &err),
                         RK_ENOMEM);
        assert_non_null(strstr(err.text, "larger than max"));
        rk_free(big);
    }
    check_echo(client, "/t/Echo", 1 << 20);
    rk_rpc_client_free(client);
    rk_arena_free(arena);
    echo_stop(&echo);
}

static void
test_deadline_and_cancel(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    rk_err err = {0};
    int64_t began;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    assert_int_equal(call_once(client, "/t/Echo", "a", INT64_MAX, &err), RK_OK);
    assert_int_equal(echo.deadline_ns, INT64_MAX);
    began = now_ms();
    assert_int_equal(call_once(client, "/t/Echo", "a", in_ms(60000), &err), RK_OK);
    /* not before the caller's, and later by no more than the call was under way */
    assert_in_range((uint64_t)echo.deadline_ns / 1000000, (uint64_t)began + 59900,
                    (uint64_t)now_ms() + 60100);
    for (int i = 0; atomic_load(&echo.cancelled) < 1; i++) { /* until the handler saw it: */
        assert_true(i < 20); /* on a busy machine the time may be over before it is sent */
        began = now_ms();
        assert_int_equal(call_once(client, "/t/Hold", "b", in_ms(200), &err), RK_EDEADLINE);
        assert_in_range((uint64_t)(now_ms() - began), 150, 30000);
        assert_string_equal(err.text, rk_code_get_info(RK_EDEADLINE)->text);
        for (int k = 0; k < 1000 && atomic_load(&echo.cancelled) < 1; k++) {
            usleep(1000);
        }
    }
    assert_int_equal(call_once(client, "/t/Echo", "a", in_ms(-1), &err), RK_EDEADLINE);
    assert_int_equal(call_once(client, "/t/Echo", "c", INT64_MAX, &err),
                     RK_OK); /* same connection */
    rk_rpc_client_free(client);
    echo_stop(&echo);
}

/* ---- many at once ---- */

#define THREADS 50
#define EACH    20

typedef struct caller {
    rk_thread thread;
    rk_rpc_client *client;
    const char *path;
    int failed;
    rk_code code;
} caller;

static void
run_caller(void *arg)
{
    caller *c = arg;
    rk_err err = {0};

    for (int i = 0; i < EACH; i++) {
        char text[32];
        snprintf(text, sizeof(text), "%p-%d", arg, i);
        c->failed += call_once(c->client, c->path, text, in_ms(60000), &err) != RK_OK;
    }
}

static void
run_holder(void *arg)
{
    caller *c = arg;
    rk_err err = {0};

    c->code = call_once(c->client, "/t/Hold", "held", INT64_MAX, &err);
}

static void
test_concurrent(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    caller callers[THREADS];
    rk_rpc_client *client;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.loops = 2;
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (caller){.client = client, .path = i % 2 ? "/t/Echo" : "/t/Later"};
        assert_int_equal(rk_thread_start(&callers[i].thread, "caller", run_caller, &callers[i]),
                         RK_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        rk_thread_join(callers[i].thread);
        assert_int_equal(callers[i].failed, 0);
    }
    rk_rpc_client_free(client);
    echo_stop(&echo);
}

static void
run_one(void *arg)
{
    caller *c = arg;
    rk_err err = {0};

    c->code = call_once(c->client, c->path, "one", in_ms(60000), &err);
}

/* As many calls as one connection may carry, all in flight at once. */
static void
test_thousand(void **state)
{
    static caller callers[GATHER];
    static echo_server echo;
    rk_rpc_server_options options;
    rk_rpc_client *client;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    for (int i = 0; i < GATHER; i++) {
        callers[i] = (caller){.client = client, .path = "/t/Gather", .code = RK_EUNEXPECTED};
        assert_int_equal(rk_thread_start(&callers[i].thread, "one", run_one, &callers[i]), RK_OK);
    }
    for (int i = 0; i < GATHER; i++) {
        rk_thread_join(callers[i].thread);
        assert_int_equal(callers[i].code, RK_OK);
    }
    rk_rpc_client_free(client);
    echo_stop(&echo);
}

/* More calls than the server takes at once: the rest wait in the client, and may time out there. */
static void
test_stream_limit(void **state)
{
    caller holders[3], callers[20];
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    rk_err err = {0};

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.streams_max = 3;
    echo_start(&echo, &options);
    client = client_to(rk_rpc_server_address(echo.server));
    for (size_t i = 0; i < RK_COUNT(holders); i++) {
        holders[i] = (caller){.client = client, .code = RK_EUNEXPECTED};
        assert_int_equal(rk_thread_start(&holders[i].thread, "holder", run_holder, &holders[i]),
                         RK_OK);
    }
    while (atomic_load(&echo.held) < 3) {
        usleep(1000);
    }
    assert_int_equal(call_once(client, "/t/Echo", "no room", in_ms(100), &err), RK_EDEADLINE);
    for (size_t i = 0; i < RK_COUNT(callers); i++) {
        callers[i] = (caller){.client = client, .path = "/t/Echo"};
        assert_int_equal(rk_thread_start(&callers[i].thread, "caller", run_caller, &callers[i]),
                         RK_OK);
    }
    usleep(50000);
    atomic_store(&echo.release, true);
    for (size_t i = 0; i < RK_COUNT(callers); i++) {
        rk_thread_join(callers[i].thread);
        assert_int_equal(callers[i].failed, 0);
    }
    for (size_t i = 0; i < RK_COUNT(holders); i++) {
        rk_thread_join(holders[i].thread);
        assert_int_equal(holders[i].code, RK_OK);
    }
    rk_rpc_client_free(client);
    echo_stop(&echo);
}

/* Large messages under a budget that holds two of them: every call finishes. */
static void
run_large(void *arg)
{
    caller *c = arg;

    for (int i = 0; i < 3; i++) {
        check_echo(c->client, "/t/Later", (3 << 20) + (size_t)i);
        check_echo(c->client, "/t/Echo", 100);
    }
}

static void
test_budget(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    caller callers[12];
    rk_rpc_client *clients[3];
    rk_rpc_stats stats;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.inflight_bytes_max = 7 << 20;
    options.loops = 2;
    echo_start(&echo, &options);
    for (int i = 0; i < 3; i++) {
        clients[i] = client_to(rk_rpc_server_address(echo.server));
    }
    for (size_t i = 0; i < RK_COUNT(callers); i++) {
        callers[i] = (caller){.client = clients[i % 3]};
        assert_int_equal(rk_thread_start(&callers[i].thread, "caller", run_large, &callers[i]),
                         RK_OK);
    }
    for (size_t i = 0; i < RK_COUNT(callers); i++) {
        rk_thread_join(callers[i].thread);
    }
    check_echo(clients[0], "/t/Echo", 20 << 20); /* alone it may be larger than the budget */
    rk_rpc_server_stats(echo.server, &stats);
    assert_int_equal(stats.inflight_bytes, 0);
    for (int i = 0; i < 3; i++) {
        rk_rpc_client_free(clients[i]);
    }
    echo_stop(&echo);
}

/* ---- restarts ---- */

static void
test_reconnect(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    rk_rpc_client *client;
    char address[64];
    rk_err err = {0};
    int64_t until;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    snprintf(address, sizeof(address), "%s", rk_rpc_server_address(echo.server));
    client = client_to(address);
    assert_int_equal(call_once(client, "/t/Echo", "1", in_ms(60000), &err), RK_OK);
    echo_stop(&echo);
    assert_int_equal(call_once(client, "/t/Echo", "2", in_ms(60000), &err), RK_EUNAVAILABLE);
    assert_non_null(strstr(err.text, address));
    options.listen = address;
    echo_start(&echo, &options);
    until = now_ms() + 60000;
    while (call_once(client, "/t/Echo", "3", in_ms(60000), &err) != RK_OK) {
        assert_true(now_ms() < until);
    }
    rk_rpc_client_free(client);
    echo_stop(&echo);
}

/* Stop lets a call in flight finish; closing the client fails one. */
static void
test_drain(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    caller holder;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    holder =
        (caller){.client = client_to(rk_rpc_server_address(echo.server)), .code = RK_EUNEXPECTED};
    assert_int_equal(rk_thread_start(&holder.thread, "holder", run_holder, &holder), RK_OK);
    while (atomic_load(&echo.held) < 1) {
        usleep(1000);
    }
    echo_stop(&echo); /* releases it, after GOAWAY or before: it is answered */
    rk_thread_join(holder.thread);
    assert_int_equal(holder.code, RK_OK);
    rk_rpc_client_free(holder.client);

    echo_start(&echo, &options);
    holder =
        (caller){.client = client_to(rk_rpc_server_address(echo.server)), .code = RK_EUNEXPECTED};
    assert_int_equal(rk_thread_start(&holder.thread, "holder", run_holder, &holder), RK_OK);
    while (atomic_load(&echo.held) < 1) {
        usleep(1000);
    }
    rk_rpc_server_stop(echo.server,
                       50); /* the handler still has the call when the loops are gone */
    rk_thread_join(holder.thread);
    assert_int_equal(holder.code, RK_EUNAVAILABLE);
    rk_rpc_client_free(holder.client);
    echo_stop(&echo);
}

static void
test_no_server(void **state)
{
    rk_rpc_client *client = client_to("127.0.0.1:1");
    rk_rpc_client_options options;
    rk_rpc_client *bad;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(call_once(client, "/t/Echo", "x", in_ms(60000), &err), RK_EUNAVAILABLE);
    assert_non_null(strstr(err.text, "127.0.0.1:1"));
    assert_int_equal(call_once(client, "/t/Echo", "x", in_ms(60000), &err), RK_EUNAVAILABLE);
    rk_rpc_client_free(client);
    /* a label of more than 63 bytes: no name server is asked, there may be none to answer */
    client = client_to("no-such-host-no-such-host-no-such-host-no-such-host-no-such-host-no-such."
                       "invalid:1");
    assert_int_equal(call_once(client, "/t/Echo", "x", in_ms(60000), &err), RK_EUNAVAILABLE);
    rk_rpc_client_free(client);
    rk_rpc_client_options_init(&options);
    options.address = "nonsense";
    assert_int_equal(rk_rpc_client_new(&bad, &options, &err), RK_EINVAL);
}

static int
set_up(void **state)
{
    RK_UNUSED(state);
    make_folder(folder, sizeof(folder));
    make_certificates(folder);
    return 0;
}

static int
tear_down(void **state)
{
    RK_UNUSED(state);
    remove_folder(folder);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),          cmocka_unit_test(test_unix_and_loops),
        cmocka_unit_test(test_tls),          cmocka_unit_test(test_tls_files),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_concurrent),   cmocka_unit_test(test_thousand),
        cmocka_unit_test(test_stream_limit), cmocka_unit_test(test_budget),
        cmocka_unit_test(test_reconnect),    cmocka_unit_test(test_drain),
        cmocka_unit_test(test_no_server),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
