/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop thread shared by all gRPC clients of the process: started by the first client, joined by
 * the last.
 *
 * This is the one mutable global of rpc. A role talks to many peers; a thread for each would cost
 * more than the little framing they do.
 */
#include "rpc/client_private.h"

#define SWEEP_MS 100

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static rk__loop *shared_loop; /* guarded by shared_lock */
static unsigned shared_users; /* guarded by shared_lock */

static rk_code
start_loop(rk_err *err)
{
    rk__loop *loop = rk_alloc(sizeof(*loop));
    rk_code code;

    if (!loop) {
        return rk_fail(err, RK_ENOMEM, "no memory for the client loop");
    }
    code = rk__loop_init(loop, rk_clock_real(), SWEEP_MS, err);
    if (code != RK_OK) {
        rk_free(loop);
        return code;
    }
    code = rk__loop_start(loop, "rk-rpc-client");
    if (code != RK_OK) {
        rk__loop_deinit(loop);
        rk_free(loop);
        return rk_fail(err, code, "cannot start the client loop thread");
    }
    shared_loop = loop;
    return RK_OK;
}

rk_code
rk__client_loop_get(rk__loop **out, rk_err *err)
{
    rk_code code = RK_OK;

    pthread_mutex_lock(&shared_lock);
    if (shared_users == 0) {
        code = start_loop(err);
    }
    if (code == RK_OK) {
        shared_users++;
    }
    *out = code == RK_OK ? shared_loop : NULL;
    pthread_mutex_unlock(&shared_lock);
    return code;
}

static void
run_stop(rk__mail *mail, bool closed)
{
    RK_UNUSED(mail);
    if (!closed) {
        rk__loop_stop(shared_loop);
    }
}

void
rk__client_loop_put(void)
{
    rk__mail stop = {NULL, run_stop};

    pthread_mutex_lock(&shared_lock);
    if (--shared_users == 0) {
        rk__mailbox_post(shared_loop->mailbox, &stop);
        rk__loop_join(shared_loop);
        rk__loop_deinit(shared_loop);
        rk_free(shared_loop);
        shared_loop = NULL;
    }
    pthread_mutex_unlock(&shared_lock);
}
