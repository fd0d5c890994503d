/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers of the rpc tests. See rpc_testing.h.
 */
#include "rpc_testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int64_t
now_ms(void)
{
    const rk_clock *clock = rk_clock_real();

    return clock->monotonic_ns(clock->self) / 1000000;
}

/* ---- server ---- */

#define HOLD_LATE_NS (INT64_C(1000) * 1000000)

typedef struct later {
    echo_server *echo;
    rk_call *call;
} later;

static void
echo_reply(rk_call *call)
{
    rk_buf reply = {0};
    rk_str body = rk_call_body(call);

    if (((uintptr_t)body.data & 15) != 0) {
        rk_call_fail(call, 13, RK_STR("the body is not aligned"));
        return;
    }
    rk_buf_append(&reply, body.data, body.len);
    rk_call_reply(call, &reply);
}

static void
run_later(void *arg)
{
    later *work = arg;
    echo_server *echo = work->echo;
    rk_call *call = work->call;
    const rk_clock *clock = rk_clock_real();

    rk_free(work);
    if (rk_str_is(rk_call_path(call), "/t/Hold")) {
        atomic_fetch_add(&echo->held, 1);
        while (!rk_call_cancelled(call) && !atomic_load(&echo->release)) {
            clock->sleep_ns(clock->self, 1000000);
        }
        if (rk_call_cancelled(call)) {
            atomic_fetch_add(&echo->cancelled, 1);
            /* the client's clock of the same deadline may be a moment behind */
            clock->sleep_ns(clock->self, HOLD_LATE_NS);
        }
        atomic_fetch_sub(&echo->held, 1);
    }
    echo_reply(call);
}

/* Answers when all are there, so that GATHER calls are in flight at once. */
static void
gather(echo_server *echo, rk_call *call)
{
    bool full;

    rk_mutex_lock(&echo->lock);
    echo->gathered[echo->gathered_len++] = call;
    full = echo->gathered_len == GATHER;
    rk_mutex_unlock(&echo->lock);
    for (int i = 0; full && i < GATHER; i++) {
        echo_reply(echo->gathered[i]);
    }
}

static void
on_grpc(void *user, rk_call *call)
{
    echo_server *echo = user;
    rk_str path = rk_call_path(call);

    echo->deadline_ns = rk_call_deadline_ns(call);
    if (rk_str_is(path, "/t/Echo")) {
        echo_reply(call);
    } else if (rk_str_is(path, "/t/Gather")) {
        gather(echo, call);
    } else if (rk_str_is(path, "/t/Later") || rk_str_is(path, "/t/Hold")) {
        later *work = rk_alloc(sizeof(*work));
        assert_non_null(work);
        *work = (later){echo, call};
        if (rk_pool_submit(echo->pool, run_later, work) != RK_OK) {
            rk_free(work);
            rk_call_fail(call, 14, RK_STR("busy"));
        }
    } else if (rk_str_is(path, "/t/Fail")) {
        rk_err err = {0};
        rk_fail(&err, RK_ECOLLECTION_NOT_FOUND, "no 100%% \xc3\xa9\n%.*s",
                RK_STR_ARG(rk_call_body(call)));
        rk_call_fail_err(call, &err);
    } else if (rk_str_is(path, "/t/Meta")) {
        rk_buf reply = {0};
        rk_buf_str(&reply, rk_call_header(call, "x-one"));
        rk_buf_byte(&reply, '|');
        rk_buf_str(&reply, rk_call_header(call, "authorization"));
        rk_call_reply(call, &reply);
    } else {
        rk_call_fail(call, 12, RK_STR("unknown method"));
    }
}

static void
on_http(void *user, rk_call *call)
{
    rk_buf reply = {0};
    rk_str body = rk_call_body(call);

    RK_UNUSED(user);
    if (body.len > 0) {
        rk_buf_append(&reply, body.data, body.len);
    } else {
        rk_buf_printf(&reply, "%.*s?%.*s %.*s", RK_STR_ARG(rk_call_path(call)),
                      RK_STR_ARG(rk_call_query(call)), RK_STR_ARG(rk_call_method(call)));
    }
    rk_call_http_header(call, "x-echo", "yes");
    rk_call_http(call, 200, "text/plain", &reply);
}

void
echo_start(echo_server *echo, rk_rpc_server_options *options)
{
    rk_pool_options pool = {.name = "echo", .threads = 4, .queue_len_max = 10000};
    rk_err err = {0};

    memset(echo, 0, sizeof(*echo));
    assert_int_equal(rk_pool_new(&echo->pool, &pool), RK_OK);
    rk_mutex_init(&echo->lock, "test.echo", 10);
    options->on_grpc = on_grpc;
    options->on_http = on_http;
    options->user = echo;
    if (rk_rpc_server_start(&echo->server, options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
}

void
echo_stop(echo_server *echo)
{
    atomic_store(&echo->release, true);
    rk_rpc_server_stop(echo->server, 2000);
    rk_pool_stop(echo->pool);
    rk_pool_free(echo->pool);
    rk_rpc_server_free(echo->server);
    rk_mutex_deinit(&echo->lock);
}

/* ---- files ---- */

void
make_folder(char *out, size_t cap)
{
    assert_true((size_t)snprintf(out, cap, "/tmp/rk-rpc-XXXXXX") < cap);
    assert_non_null(mkdtemp(out));
}

static void
shell(const char *command)
{
    if (system(command) != 0) {
        fail_msg("failed: %s", command);
    }
}

void
remove_folder(const char *folder)
{
    char command[256];

    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    shell(command);
}

static void
make_one(const char *folder, const char *name, const char *ca, const char *extra)
{
    char command[1024];

    snprintf(command, sizeof(command),
             "cd '%s' && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "
             "/CN=%s "
             "-keyout %s.key -out %s.csr 2>/dev/null && printf '%s' > ext && "
             "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days 2 "
             "-extfile ext "
             "-out %s.pem 2>/dev/null",
             folder, name, name, name, extra, name, ca, ca, name);
    shell(command);
}

void
make_certificates(const char *folder)
{
    static const char *const authorities[] = {"ca", "ca2"};
    char command[1024];

    for (size_t i = 0; i < RK_COUNT(authorities); i++) {
        snprintf(command, sizeof(command),
                 "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
                 "-nodes -days 2 "
                 "-subj /CN=%s -keyout %s.key -out %s.pem 2>/dev/null",
                 folder, authorities[i], authorities[i], authorities[i]);
        shell(command);
    }
    make_one(folder, "server", "ca", "subjectAltName=IP:127.0.0.1,DNS:localhost");
    make_one(folder, "client", "ca", "basicConstraints=CA:FALSE");
    make_one(folder, "wrong", "ca", "subjectAltName=DNS:elsewhere");
    make_one(folder, "other", "ca2", "subjectAltName=IP:127.0.0.1");
}

/* ---- raw sockets ---- */

int
raw_connect(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    to.sin_port = htons((uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

void
raw_send(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the peer closed: what it said before is read by the test */
        }
        at += n;
        len -= (size_t)n;
    }
}

size_t
raw_read(int fd, void *out, size_t len, int timeout_ms, bool *ended)
{
    size_t got = 0;

    *ended = false;
    while (got < len) {
        struct pollfd wait = {fd, POLLIN, 0};
        ssize_t n;
        if (poll(&wait, 1, timeout_ms) <= 0) {
            break;
        }
        n = recv(fd, (char *)out + got, len - got, 0);
        if (n <= 0) {
            *ended = true;
            break;
        }
        got += (size_t)n;
    }
    return got;
}
