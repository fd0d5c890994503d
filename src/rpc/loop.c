/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop thread and its mailbox.
 *
 * A turn of the loop: poll (sockets read, mails run, protocols mark connections dirty), then the
 * check handle flushes every dirty connection once, so that all replies of a turn to one peer leave
 * in one writev. The prepare handle flushes again before the next poll, for what timers and closing
 * callbacks produced.
 *
 * Closing a mailbox: the sentinel replaces the head, later posts run on the poster's thread; the
 * loop then waits for the (few instructions long) posts in progress before it gives up the async
 * handle they might signal.
 */
#include <sched.h>

#include "rpc/loop_private.h"

static rk__mail closed_mark; /* its address is the sentinel */
static _Thread_local const rk__mailbox *current_mailbox;

/* ---- mailbox ---- */

static rk__mailbox *
mailbox_new(uv_async_t *async)
{
    rk__mailbox *mailbox = rk_alloc_zero(1, sizeof(*mailbox));

    if (mailbox) {
        atomic_init(&mailbox->head, NULL);
        atomic_init(&mailbox->senders, 0);
        atomic_init(&mailbox->refs, 1);
        mailbox->async = async;
    }
    return mailbox;
}

rk__mailbox *
rk__mailbox_ref(rk__mailbox *mailbox)
{
    atomic_fetch_add_explicit(&mailbox->refs, 1, memory_order_relaxed);
    return mailbox;
}

void
rk__mailbox_unref(rk__mailbox *mailbox)
{
    if (mailbox && atomic_fetch_sub_explicit(&mailbox->refs, 1, memory_order_acq_rel) == 1) {
        rk_free(mailbox);
    }
}

bool
rk__mailbox_is_mine(const rk__mailbox *mailbox)
{
    return current_mailbox == mailbox;
}

void
rk__mailbox_post(rk__mailbox *mailbox, rk__mail *mail)
{
    rk__mail *head;
    bool closed = false;

    /* seq_cst: the loop stores the sentinel, then reads |senders|; we do the reverse */
    atomic_fetch_add(&mailbox->senders, 1);
    head = atomic_load(&mailbox->head);
    do {
        closed = head == &closed_mark;
        mail->next = head;
    } while (!closed && !atomic_compare_exchange_weak(&mailbox->head, &head, mail));
    if (!closed && head == NULL) { /* who fills an empty box rings; the rest ride along */
        uv_async_send(mailbox->async);
    }
    atomic_fetch_sub(&mailbox->senders, 1);
    if (closed) {
        mail->next = NULL;
        mail->run(mail, true);
    }
}

void
rk__mailbox_wake(rk__mailbox *mailbox)
{
    atomic_fetch_add(&mailbox->senders, 1);
    if (atomic_load(&mailbox->head) != &closed_mark) {
        uv_async_send(mailbox->async);
    }
    atomic_fetch_sub(&mailbox->senders, 1);
}

/* Runs a chain taken from the box, oldest first. */
static void
run_mails(rk__mail *mail, bool closed)
{
    rk__mail *oldest = NULL;

    while (mail) {
        rk__mail *next = mail->next;
        mail->next = oldest;
        oldest = mail;
        mail = next;
    }
    while (oldest) {
        rk__mail *next = oldest->next;
        oldest->next = NULL;
        oldest->run(oldest, closed);
        oldest = next;
    }
}

static void
mailbox_close(rk__mailbox *mailbox)
{
    rk__mail *rest = atomic_exchange(&mailbox->head, &closed_mark);

    while (atomic_load(&mailbox->senders) != 0) {
        sched_yield();
    }
    if (rest != &closed_mark) {
        run_mails(rest, true);
    }
}

/* ---- loop ---- */

static void
on_async(uv_async_t *handle)
{
    rk__loop *loop = handle->data;
    rk__mail *mails = atomic_exchange_explicit(&loop->mailbox->head, NULL, memory_order_acq_rel);

    run_mails(mails, false);
    if (loop->on_wake) {
        loop->on_wake(loop);
    }
}

static void
on_prepare(uv_prepare_t *handle)
{
    rk__loop_flush(handle->data);
}

static void
on_check(uv_check_t *handle)
{
    rk__loop_flush(handle->data);
}

static void
on_sweep(uv_timer_t *handle)
{
    rk__loop *loop = handle->data;
    int64_t now = rk__loop_now(loop);
    rk__conn *next;

    for (rk__conn *conn = loop->conns; conn; conn = next) {
        next = conn->next;
        if (!conn->doomed && conn->ops->sweep) {
            conn->ops->sweep(conn, now);
        }
    }
    if (loop->conns_len == 0) { /* an idle process does not wake up */
        uv_timer_stop(&loop->sweep);
        loop->sweeping = false;
    }
}

rk_code
rk__loop_init(rk__loop *loop, const rk_clock *clock, uint64_t sweep_ms, rk_err *err)
{
    int rc;

    memset(loop, 0, sizeof(*loop));
    loop->clock = clock;
    loop->sweep_ms = sweep_ms ? sweep_ms : 1;
    loop->out.scratch = rk_alloc(RK__OUT_SCRATCH);
    loop->read_buffer = rk_alloc(RK__READ_BUFFER);
    loop->mailbox = mailbox_new(&loop->async);
    if (!loop->out.scratch || !loop->read_buffer || !loop->mailbox) {
        rk_free(loop->out.scratch);
        rk_free(loop->read_buffer);
        rk__mailbox_unref(loop->mailbox);
        return rk_fail(err, RK_ENOMEM, "no memory for an event loop");
    }
    rc = uv_loop_init(&loop->uv);
    if (rc != 0) {
        rk_free(loop->out.scratch);
        rk_free(loop->read_buffer);
        rk__mailbox_unref(loop->mailbox);
        return rk_fail(err, RK_EIO, "cannot create an event loop: %s", uv_strerror(rc));
    }
    loop->uv.data = loop;
    rc = uv_async_init(&loop->uv, &loop->async, on_async);
    if (rc != 0) {
        uv_loop_close(&loop->uv);
        rk_free(loop->out.scratch);
        rk_free(loop->read_buffer);
        rk__mailbox_unref(loop->mailbox);
        return rk_fail(err, RK_EIO, "cannot create the wake-up of an event loop: %s",
                       uv_strerror(rc));
    }
    loop->async.data = loop;
    /* These three only link themselves into the loop and cannot fail. */
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_timer_init(&loop->uv, &loop->sweep);
    loop->prepare.data = loop->check.data = loop->sweep.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_start(&loop->check, on_check);
    return RK_OK;
}

static void
close_own_handles(rk__loop *loop)
{
    if (!uv_is_closing((uv_handle_t *)&loop->async)) {
        uv_close((uv_handle_t *)&loop->async, NULL);
        uv_close((uv_handle_t *)&loop->prepare, NULL);
        uv_close((uv_handle_t *)&loop->check, NULL);
        uv_close((uv_handle_t *)&loop->sweep, NULL);
    }
}

void
rk__loop_stop(rk__loop *loop)
{
    loop->stop = true;
    uv_stop(&loop->uv);
}

/* The end of the loop: no connection, no mail, no handle is left behind. */
static void
wind_up(rk__loop *loop)
{
    const rk__mailbox *before = current_mailbox;

    current_mailbox = loop->mailbox;
    loop->stop = true;
    for (rk__conn *conn = loop->conns; conn; conn = conn->next) {
        rk__conn_doom(conn);
    }
    rk__loop_flush(loop);
    mailbox_close(loop->mailbox);
    rk__loop_flush(loop);
    close_own_handles(loop);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    current_mailbox = before;
}

static void
loop_main(void *arg)
{
    rk__loop *loop = arg;

    current_mailbox = loop->mailbox;
    while (!loop->stop) {
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    }
    wind_up(loop);
    current_mailbox = NULL;
}

rk_code
rk__loop_start(rk__loop *loop, const char *name)
{
    return rk_thread_start(&loop->thread, name, loop_main, loop);
}

void
rk__loop_join(rk__loop *loop)
{
    rk_thread_join(loop->thread);
}

void
rk__loop_adopt(rk__loop *loop)
{
    current_mailbox = loop ? loop->mailbox : NULL;
}

void
rk__loop_deinit(rk__loop *loop)
{
    if (!loop->stop) { /* never started: tests, or a start that failed */
        wind_up(loop);
    }
    RK_ASSERT(uv_loop_close(&loop->uv) == 0);
    rk__mailbox_unref(loop->mailbox);
    rk_free(loop->out.scratch);
    rk_free(loop->read_buffer);
    rk_free(loop->plain_buffer);
}

void
rk__loop_arm_sweep(rk__loop *loop)
{
    if (!loop->sweeping) {
        loop->sweeping = true;
        uv_timer_start(&loop->sweep, on_sweep, loop->sweep_ms, loop->sweep_ms);
    }
}
