/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: options, listening sockets, loops, and an orderly end.
 *
 * With several loops a TCP port has one socket per loop (SO_REUSEPORT: the kernel spreads
 * connections); the port is first bound alone, so that "address taken" is still noticed. A Unix
 * socket is one file whose descriptor every loop listens on.
 *
 * Stop: every loop closes its listener, says GOAWAY and lets calls in flight finish; when none is
 * left, or the time is over, connections are closed and the threads joined. Calls still held by
 * handlers keep the core alive.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "rpc/server_private.h"

struct rk_rpc_server {
    rk__core *core;
    rk__sloop *loops;
    unsigned loops_len;   /* initialised */
    unsigned started_len; /* with a running thread */
    rk__addr addr;
    char address[300];
    char *text[4]; /* our copies of option strings */
    bool stopped;
};

#define LISTEN_BACKLOG 1024

/* ---- options and core ---- */

void
rk_rpc_server_options_init(rk_rpc_server_options *options)
{
    *options = (rk_rpc_server_options){
        .listen = "127.0.0.1:0",
        .loops = 1,
        .message_size_max = (size_t)256 << 20,
        .inflight_bytes_max = UINT64_C(1) << 30,
        .connections_max = 10000,
        .streams_max = 1000,
        .header_bytes_max = 16384,
        .preface_timeout_ms = 5000,
        .header_timeout_ms = 10000,
        .tls_timeout_ms = 10000,
        .body_rate_min = 1024,
        .output_bytes_max = UINT64_C(512) << 20,
        .output_bytes_total_max = UINT64_C(1) << 30,
        .env = rk_env_real(),
    };
}

rk_code
rk__core_new(rk__core **out, const rk_rpc_server_options *options, rk_err *err)
{
    rk__core *core = rk_alloc_zero(1, sizeof(*core));
    rk_code code = RK_OK;

    *out = NULL;
    if (!core) {
        return rk_fail(err, RK_ENOMEM, "no memory for a server");
    }
    atomic_init(&core->refs, 1);
    core->options = *options;
    if (!core->options.env) {
        core->options.env = rk_env_real();
    }
    core->clock = core->options.env->clock;
    core->budget.max = options->inflight_bytes_max;
    core->preface_ns = options->preface_timeout_ms * 1000000;
    core->header_ns = options->header_timeout_ms * 1000000;
    core->tls_ns = options->tls_timeout_ms * 1000000;
    core->stall_ns = core->header_ns * 6;
    if (options->tls.cert_pem_path) {
        code = rk__tls_server_context(&core->tls, &options->tls, err);
    }
    if (code != RK_OK) {
        rk_free(core);
        return code;
    }
    *out = core;
    return RK_OK;
}

rk__core *
rk__core_ref(rk__core *core)
{
    atomic_fetch_add_explicit(&core->refs, 1, memory_order_relaxed);
    return core;
}

void
rk__core_unref(rk__core *core)
{
    if (core && atomic_fetch_sub_explicit(&core->refs, 1, memory_order_acq_rel) == 1) {
        for (unsigned i = 0; i < core->mailboxes_len; i++) {
            rk__mailbox_unref(core->mailboxes[i]);
        }
        rk__tls_context_free(core->tls);
        rk_free(core);
    }
}

rk_code
rk__sloop_init(rk__sloop *loop, rk__core *core, rk_err *err)
{
    int64_t shortest_ns = RK_MIN(RK_MIN(core->preface_ns, core->header_ns), core->tls_ns);
    int64_t sweep_ms = RK_MIN(RK_MAX(shortest_ns / 4000000, INT64_C(10)), INT64_C(1000));

    memset(loop, 0, sizeof(*loop));
    RK_RET(rk__loop_init(&loop->base, core->clock, (uint64_t)sweep_ms, err));
    loop->core = rk__core_ref(core);
    loop->base.on_wake = rk__sloop_retry;
    core->mailboxes[core->mailboxes_len++] = rk__mailbox_ref(loop->base.mailbox);
    return RK_OK;
}

static void
on_listener_closed(uv_handle_t *handle)
{
    rk_free(handle);
}

static void
close_listener(rk__sloop *loop)
{
    if (loop->listener) {
        uv_close(loop->listener, on_listener_closed);
        loop->listener = NULL;
    }
}

void
rk__sloop_deinit(rk__sloop *loop)
{
    close_listener(loop);
    rk__loop_deinit(&loop->base);
    while (loop->free_calls) {
        rk_call *call = loop->free_calls;
        loop->free_calls = call->next;
        rk_free(call->body);
        rk_free(call);
    }
    rk__core_unref(loop->core);
}

/* ---- listening ---- */

static rk_code
errno_fail(rk_err *err, const char *what, const char *address)
{
    return rk_fail(err, RK_EIO, "cannot %s %s: %s", what, address, strerror(errno));
}

static int
open_tcp(const struct addrinfo *info, bool reuse_port)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    int off = 0;

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (reuse_port) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    }
    if (info->ai_family == AF_INET6) { /* "[::]" serves IPv4 too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static void
set_port(struct sockaddr *address, uint16_t port)
{
    if (address->sa_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
    }
}

static uint16_t
bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
                     : ((struct sockaddr_in *)(void *)&address)->sin_port);
}

static rk_code
bind_tcp(rk_rpc_server *server, int *fds, unsigned n, rk_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    const char *listen_text = server->core->options.listen;
    char port[8];
    int rc;

    snprintf(port, sizeof(port), "%u", server->addr.port);
    rc = getaddrinfo(server->addr.host, port, &hints, &info);
    if (rc != 0) {
        return rk_fail(err, RK_EINVAL, "cannot listen on %s: %s", listen_text, gai_strerror(rc));
    }
    if (n > 1 && server->addr.port != 0) { /* alone first, to notice another owner */
        int probe = open_tcp(info, false);
        if (probe < 0) {
            freeaddrinfo(info);
            return errno_fail(err, "listen on", listen_text);
        }
        close(probe);
    }
    for (unsigned i = 0; i < n; i++) {
        fds[i] = open_tcp(info, n > 1);
        if (fds[i] < 0) {
            freeaddrinfo(info);
            return errno_fail(err, "listen on", listen_text);
        }
        server->addr.port = bound_port(fds[i]);
        set_port(info->ai_addr, server->addr.port);
    }
    freeaddrinfo(info);
    snprintf(server->address, sizeof(server->address),
             strchr(server->addr.host, ':') ? "[%s]:%u" : "%s:%u", server->addr.host,
             server->addr.port);
    return RK_OK;
}

/* Whether somebody accepts connections on the socket file. */
static bool
unix_is_alive(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return alive;
}

static rk_code
bind_unix(rk_rpc_server *server, int *fds, unsigned n, rk_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = server->addr.host;
    struct stat st;

    memcpy(address.sun_path, path, strlen(path) + 1); /* length was checked by the parser */
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode) || unix_is_alive(&address)) {
            errno = EADDRINUSE;
            return errno_fail(err, "listen on", path);
        }
        unlink(path); /* left behind by a process that is gone */
    }
    fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fds[0] < 0 || bind(fds[0], (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fds[0], LISTEN_BACKLOG) != 0) {
        return errno_fail(err, "listen on", path);
    }
    for (unsigned i = 1; i < n; i++) {
        fds[i] = dup(fds[0]);
        if (fds[i] < 0) {
            return errno_fail(err, "listen on", path);
        }
    }
    snprintf(server->address, sizeof(server->address), "unix:%s", path);
    return RK_OK;
}

static void
on_connection(uv_stream_t *listener, int status)
{
    rk__sloop *loop = listener->data;
    rk__core *core = loop->core;
    bool is_tcp = listener->type == UV_TCP;
    rk__sconn *conn;
    int rc;

    if (status < 0) { /* out of descriptors: libuv drops the connection to keep the queue moving */
        atomic_fetch_add_explicit(&core->refused_total, 1, memory_order_relaxed);
        RK_LOG_W("rpc", "could not accept a connection error=\"%s\"", uv_strerror(status));
        return;
    }
    conn = rk__sconn_new(loop);
    if (!conn) {
        RK_LOG_W("rpc", "could not accept a connection error=\"no memory\"");
        return;
    }
    rc = is_tcp ? uv_tcp_init(&loop->base.uv, &conn->base.io.tcp)
                : uv_pipe_init(&loop->base.uv, &conn->base.io.pipe, 0);
    RK_ASSERT(rc == 0);
    rc = uv_accept(listener, &conn->base.io.stream);
    if (rc == 0 && is_tcp) {
        uv_tcp_nodelay(&conn->base.io.tcp, 1);
    }
    rk__conn_set_peer(&conn->base);
    rk__sconn_begin(conn);
    if (rc != 0) {
        rk__conn_doom(&conn->base);
    } else if (atomic_load_explicit(&core->connections, memory_order_relaxed) >
               core->options.connections_max) {
        atomic_fetch_add_explicit(&core->refused_total, 1, memory_order_relaxed);
        RK_LOG_W("rpc", "refused a connection peer=%s limit=%u", conn->base.peer,
                 core->options.connections_max);
        rk__conn_doom(&conn->base);
    }
}

static rk_code
loop_listen(rk__sloop *loop, int fd, bool is_unix, rk_err *err)
{
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } *io = rk_alloc_zero(1, sizeof(*io));
    int rc;

    if (!io) {
        close(fd);
        return rk_fail(err, RK_ENOMEM, "no memory for a listening socket");
    }
    rc = is_unix ? uv_pipe_init(&loop->base.uv, &io->pipe, 0)
                 : uv_tcp_init(&loop->base.uv, &io->tcp);
    RK_ASSERT(rc == 0);
    io->handle.data = loop;
    loop->listener = &io->handle;
    rc = is_unix ? uv_pipe_open(&io->pipe, fd) : uv_tcp_open(&io->tcp, fd);
    if (rc != 0) {
        close(fd);
    } else {
        rc = uv_listen(&io->stream, LISTEN_BACKLOG, on_connection);
    }
    return rc == 0 ? RK_OK : rk_fail(err, RK_EIO, "cannot listen: %s", uv_strerror(rc));
}

/* ---- start ---- */

static rk_code
copy_option(rk_rpc_server *server, unsigned slot, const char **text, rk_err *err)
{
    if (*text) {
        server->text[slot] = rk_strdup(rk_str_from(*text));
        if (!server->text[slot]) {
            return rk_fail(err, RK_ENOMEM, "no memory for a server");
        }
        *text = server->text[slot];
    }
    return RK_OK;
}

static rk_code
start_loops(rk_rpc_server *server, rk_err *err)
{
    int fds[RK__LOOPS_MAX];
    unsigned n = server->core->options.loops;
    rk_code code = RK_OK;

    for (unsigned i = 0; i < RK__LOOPS_MAX; i++) {
        fds[i] = -1;
    }
    RK_ERR(server->addr.is_unix ? bind_unix(server, fds, n, err) : bind_tcp(server, fds, n, err));
    server->loops = rk_alloc_zero(n, sizeof(*server->loops));
    if (!server->loops) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory for %u event loops", n));
    }
    for (; server->loops_len < n; server->loops_len++) {
        RK_ERR(rk__sloop_init(&server->loops[server->loops_len], server->core, err));
    }
    for (unsigned i = 0; i < n; i++) {
        int fd = fds[i];
        fds[i] = -1;
        RK_ERR(loop_listen(&server->loops[i], fd, server->addr.is_unix, err));
    }
    for (; server->started_len < n; server->started_len++) {
        code = rk__loop_start(&server->loops[server->started_len].base, "rk-rpc");
        if (code != RK_OK) {
            RK_ERR(rk_fail(err, code, "cannot start an event loop thread"));
        }
    }
out:
    for (unsigned i = 0; i < RK__LOOPS_MAX; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return code;
}

rk_code
rk_rpc_server_start(rk_rpc_server **out, const rk_rpc_server_options *options, rk_err *err)
{
    rk_rpc_server_options copy = *options;
    rk_rpc_server *server = rk_alloc_zero(1, sizeof(*server));
    rk_code code = RK_OK;

    *out = NULL;
    if (!server) {
        return rk_fail(err, RK_ENOMEM, "no memory for a server");
    }
    copy.loops = copy.loops ? copy.loops : 1;
    if (copy.loops > RK__LOOPS_MAX) {
        RK_ERR(rk_fail(err, RK_EINVAL, "a server has 1 to %u event loops, not %u", RK__LOOPS_MAX,
                       copy.loops));
    }
    RK_ERR(copy_option(server, 0, &copy.listen, err));
    RK_ERR(copy_option(server, 1, &copy.tls.cert_pem_path, err));
    RK_ERR(copy_option(server, 2, &copy.tls.key_pem_path, err));
    RK_ERR(copy_option(server, 3, &copy.tls.ca_pem_path, err));
    RK_ERR(rk__addr_parse(&server->addr, copy.listen, err));
    RK_ERR(rk__core_new(&server->core, &copy, err));
    RK_ERR(start_loops(server, err));
    RK_LOG_I("rpc", "listened address=%s tls=%d loops=%u", server->address,
             server->core->tls != NULL, server->loops_len);
    *out = server;
    server = NULL;
out:
    if (server) {
        rk_rpc_server_stop(server, 0);
        rk_rpc_server_free(server);
    }
    return code;
}

const char *
rk_rpc_server_address(const rk_rpc_server *server)
{
    return server->address;
}

/* ---- stop ---- */

typedef struct order {
    rk__mail mail;
    rk__sloop *loop;
} order;

static void
run_leave(rk__mail *mail, bool closed)
{
    rk__sloop *loop = RK_CONTAINER(mail, order, mail)->loop;

    if (closed) {
        return;
    }
    close_listener(loop);
    loop->draining = true;
    for (rk__conn *conn = loop->base.conns; conn; conn = conn->next) {
        rk__sconn_leave(RK_CONTAINER(conn, rk__sconn, base));
    }
}

static void
run_stop(rk__mail *mail, bool closed)
{
    rk__sloop *loop = RK_CONTAINER(mail, order, mail)->loop;

    if (!closed) {
        close_listener(loop);
        rk__loop_stop(&loop->base);
    }
}

static void
order_all(rk_rpc_server *server, order *orders, void (*run)(rk__mail *, bool))
{
    for (unsigned i = 0; i < server->started_len; i++) {
        orders[i].mail.run = run;
        orders[i].loop = &server->loops[i];
        rk__mailbox_post(server->loops[i].base.mailbox, &orders[i].mail);
    }
}

void
rk_rpc_server_stop(rk_rpc_server *server, int64_t drain_ms)
{
    order leave[RK__LOOPS_MAX];
    order stop[RK__LOOPS_MAX];

    if (!server || server->stopped) {
        return;
    }
    server->stopped = true;
    if (server->started_len > 0) {
        const rk_clock *clock = server->core->clock;
        int64_t deadline = clock->monotonic_ns(clock->self) + drain_ms * 1000000;
        order_all(server, leave, run_leave);
        while (atomic_load_explicit(&server->core->calls, memory_order_relaxed) > 0 &&
               clock->monotonic_ns(clock->self) < deadline) {
            clock->sleep_ns(clock->self, 2000000);
        }
        order_all(server, stop, run_stop);
        for (unsigned i = 0; i < server->started_len; i++) {
            rk__loop_join(&server->loops[i].base);
        }
    }
    for (unsigned i = 0; i < server->loops_len; i++) {
        rk__sloop_deinit(&server->loops[i]);
    }
    server->loops_len = server->started_len = 0;
    if (server->addr.is_unix && server->address[0]) {
        unlink(server->addr.host);
    }
}

void
rk_rpc_server_free(rk_rpc_server *server)
{
    if (!server) {
        return;
    }
    RK_ASSERT(server->stopped);
    rk_free(server->loops);
    rk__core_unref(server->core);
    for (unsigned i = 0; i < RK_COUNT(server->text); i++) {
        rk_free(server->text[i]);
    }
    rk_free(server);
}

void
rk_rpc_server_stats(const rk_rpc_server *server, rk_rpc_stats *out)
{
    rk__core *core = server->core;

    *out = (rk_rpc_stats){
        .connections = atomic_load_explicit(&core->connections, memory_order_relaxed),
        .connections_total = atomic_load_explicit(&core->connections_total, memory_order_relaxed),
        .calls = atomic_load_explicit(&core->calls, memory_order_relaxed),
        .calls_total = atomic_load_explicit(&core->calls_total, memory_order_relaxed),
        .inflight_bytes = atomic_load_explicit(&core->budget.used, memory_order_relaxed),
        .refused_total = atomic_load_explicit(&core->refused_total, memory_order_relaxed),
        .output_bytes = atomic_load_explicit(&core->output_bytes, memory_order_relaxed),
    };
}
