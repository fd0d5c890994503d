/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gRPC client as its callers see it: blocking calls from any thread.
 *
 * A call is posted to the client loop and waited for. When its deadline passes the caller posts a
 * second mail, the cancellation, and waits for the loop to have seen it: only then may the stack
 * frame that both mails and the stream refer to go away. The loop never blocks, so that wait is
 * short.
 */
#include "rpc/client_private.h"

void
rk_rpc_client_options_init(rk_rpc_client_options *options)
{
    *options = (rk_rpc_client_options){
        .message_size_max = (size_t)256 << 20,
        .keepalive_ms = 10000,
        .connect_timeout_ms = 5000,
        .env = rk_env_real(),
    };
}

/* ---- calls ---- */

void
rk__ccall_finish(rk__ccall *call, rk_code result)
{
    rk_mutex_lock(&call->lock);
    call->result = result;
    call->done = true;
    rk_cond_signal(&call->changed);
    rk_mutex_unlock(&call->lock);
}

void
rk__ccall_queue(rk__ccall *call, bool first)
{
    rk_rpc_client *client = call->client;

    call->queued = true;
    if (first) {
        call->prev = NULL;
        call->next = client->waiting_first;
        *(call->next ? &call->next->prev : &client->waiting_last) = call;
        client->waiting_first = call;
    } else {
        call->next = NULL;
        call->prev = client->waiting_last;
        *(call->prev ? &call->prev->next : &client->waiting_first) = call;
        client->waiting_last = call;
    }
}

void
rk__ccall_unqueue(rk__ccall *call)
{
    rk_rpc_client *client = call->client;

    call->queued = false;
    *(call->prev ? &call->prev->next : &client->waiting_first) = call->next;
    *(call->next ? &call->next->prev : &client->waiting_last) = call->prev;
}

static void
run_start(rk__mail *mail, bool closed)
{
    rk__ccall *call = RK_CONTAINER(mail, rk__ccall, start);
    rk_rpc_client *client = call->client;

    if (closed || client->closing) {
        rk__ccall_finish(call, rk_fail(call->err, RK_EUNAVAILABLE,
                                       "no call to %s: the client was closed", client->address));
        return;
    }
    rk__ccall_queue(call, false);
    rk__client_pump(client);
}

static void
run_cancel(rk__mail *mail, bool closed)
{
    rk__ccall *call = RK_CONTAINER(mail, rk__ccall, cancel);
    bool waiting = call->queued || call->stream;

    RK_UNUSED(closed);
    if (call->queued) {
        rk__ccall_unqueue(call);
    }
    if (call->stream) {
        rk__cstream *stream = call->stream;
        call->stream = NULL;
        rk__cconn_cancel(stream);
    }
    rk_mutex_lock(&call->lock);
    call->cancel_seen = true;
    if (waiting) {
        call->done = true;
        call->result = RK_EDEADLINE;
    }
    rk_cond_signal(&call->changed);
    rk_mutex_unlock(&call->lock);
    /* the caller writes its sentence itself: |call| is gone */
}

/* Blocks until the loop is done with |call|. */
static rk_code
wait_for(rk__ccall *call)
{
    rk__mailbox *mailbox = call->client->loop->mailbox;
    bool cancelled = false;

    rk_mutex_lock(&call->lock);
    while (!call->done || (cancelled && !call->cancel_seen)) {
        if (cancelled || call->deadline_ns == INT64_MAX) {
            rk_cond_wait(&call->changed, &call->lock);
        } else if (!rk_cond_wait_until(&call->changed, &call->lock, call->deadline_ns) &&
                   !call->done) {
            cancelled = true;
            rk_mutex_unlock(&call->lock);
            call->cancel.run = run_cancel;
            rk__mailbox_post(mailbox, &call->cancel);
            rk_mutex_lock(&call->lock);
        }
    }
    rk_mutex_unlock(&call->lock);
    return call->result;
}

rk_code
rk_rpc_client_call(rk_rpc_client *client, const char *path, rk_str message,
                   const char *const *headers, int64_t deadline_ns, rk_str *reply, rk_arena *arena,
                   rk_err *err)
{
    const rk_clock *clock = rk_clock_real();
    rk__ccall call;
    rk_code code;

    *reply = (rk_str){NULL, 0};
    if (deadline_ns != INT64_MAX && clock->monotonic_ns(clock->self) >= deadline_ns) {
        return rk_fail(err, RK_EDEADLINE, "%s", rk_code_get_info(RK_EDEADLINE)->text);
    }
    if (message.len > UINT32_MAX) {
        return rk_fail(err, RK_ETOO_LARGE, "%s: a message of %zu bytes does not fit gRPC", path,
                       message.len);
    }
    memset(&call, 0, offsetof(rk__ccall, text));
    call.text[0] = '\0';
    call.failure = RK_OK;
    call.done = call.cancel_seen = false;
    call.client = client;
    call.path = path;
    call.message = message;
    call.headers = headers;
    call.deadline_ns = deadline_ns;
    call.arena = arena;
    call.err = err;
    call.status = -1;
    call.start.run = run_start;
    rk_mutex_init(&call.lock, "rpc.client.call", RK__CLIENT_RANK_CALL);
    rk_cond_init(&call.changed);
    rk__mailbox_post(client->loop->mailbox, &call.start);
    code = wait_for(&call);
    rk_cond_deinit(&call.changed);
    rk_mutex_deinit(&call.lock);
    if (rk__grpc_prefix_done(&call.prefix) &&
        call.reply_len == rk__grpc_prefix_size(&call.prefix)) {
        *reply = (rk_str){(const char *)call.reply, call.reply_len};
    }
    if (code == RK_EDEADLINE && call.status < 0) {
        rk_fail(err, RK_EDEADLINE, "%s", rk_code_get_info(RK_EDEADLINE)->text);
    }
    return code;
}

/* ---- life ---- */

typedef struct order {
    rk__mail mail;
    rk_rpc_client *client;
} order;

static void
run_open(rk__mail *mail, bool closed)
{
    rk_rpc_client *client = RK_CONTAINER(mail, order, mail)->client;

    RK_UNUSED(closed);
    uv_timer_init(&client->loop->uv, &client->timer);
    client->timer.data = client;
    client->timer_open = true;
    rk_mutex_lock(&client->lock);
    client->opened = true;
    rk_cond_signal(&client->changed);
    rk_mutex_unlock(&client->lock);
}

static void
run_close(rk__mail *mail, bool closed)
{
    RK_UNUSED(closed);
    rk__client_close(RK_CONTAINER(mail, order, mail)->client);
}

static void
client_delete(rk_rpc_client *client)
{
    rk__tls_context_free(client->tls);
    rk_cond_deinit(&client->changed);
    rk_mutex_deinit(&client->lock);
    rk_free(client->address);
    rk_free(client);
}

rk_code
rk_rpc_client_new(rk_rpc_client **out, const rk_rpc_client_options *options, rk_err *err)
{
    rk_rpc_client *client = rk_alloc_zero(1, sizeof(*client));
    order open = {.mail.run = run_open, .client = client};
    rk_code code = RK_OK;

    *out = NULL;
    if (!client) {
        return rk_fail(err, RK_ENOMEM, "no memory for a client");
    }
    rk_mutex_init(&client->lock, "rpc.client.close", RK__CLIENT_RANK_CLOSE);
    rk_cond_init(&client->changed);
    client->options = *options;
    client->keepalive_ns = options->keepalive_ms * 1000000;
    client->address = rk_strdup(rk_str_from(options->address ? options->address : ""));
    if (!client->address) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "no memory for a client"));
    }
    RK_ERR(rk__addr_parse(&client->addr, client->address, err));
    if (options->tls) {
        RK_ERR(rk__tls_client_context(&client->tls, options->ca_pem_path, options->cert_pem_path,
                                      options->key_pem_path, err));
    }
    RK_ERR(rk__client_loop_get(&client->loop, err));
    rk__mailbox_post(client->loop->mailbox, &open.mail);
    rk_mutex_lock(&client->lock);
    while (!client->opened) {
        rk_cond_wait(&client->changed, &client->lock);
    }
    rk_mutex_unlock(&client->lock);
    *out = client;
    client = NULL;
out:
    if (client) {
        client_delete(client);
    }
    return code;
}

void
rk_rpc_client_free(rk_rpc_client *client)
{
    order close = {.mail.run = run_close, .client = client};

    if (!client) {
        return;
    }
    rk__mailbox_post(client->loop->mailbox, &close.mail);
    rk_mutex_lock(&client->lock);
    while (!client->closed) {
        rk_cond_wait(&client->changed, &client->lock);
    }
    rk_mutex_unlock(&client->lock);
    rk__client_loop_put();
    client_delete(client);
}
