/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole server connection on hostile bytes, without sockets: protocol detection, HTTP/2, gRPC
 * framing, HTTP/1.1.
 *
 * Input: one byte of choices, then what the peer sends. Choices: bits 0-1 how calls are answered
 * (inline, later, failed, after the connection is gone), bit 2 puts the HTTP/2 preface in front,
 * bits 3-5 in which pieces the bytes arrive, bit 6 a budget so small that messages wait for each
 * other.
 */
#include <stdio.h>

#include "rpc/server_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANSWER_INLINE, ANSWER_LATER, ANSWER_FAIL, ANSWER_ORPHAN };

static struct {
    rk__core *core;
    rk__sloop loop;
    unsigned mode;
    rk_call *held[64];
    unsigned held_len;
} fuzz;

static void
answer(rk_call *call, bool fail)
{
    rk_str body = rk_call_body(call);
    rk_buf reply = {0};
    rk_err err = {0};

    rk_buf_append(&reply, body.data, body.len);
    rk_buf_str(&reply, rk_call_path(call));
    rk_buf_str(&reply, rk_call_header(call, "host"));
    if (fail) {
        rk_buf_deinit(&reply);
        rk_fail(&err, RK_EINVAL, "refused [%.*s]", RK_STR_ARG(rk_call_query(call)));
        rk_call_fail_err(call, &err);
    } else {
        rk_call_reply(call, &reply);
    }
}

static void
on_call(void *user, rk_call *call)
{
    RK_UNUSED(user);
    RK_ASSERT(((uintptr_t)rk_call_body(call).data & 15) == 0);
    if ((fuzz.mode == ANSWER_LATER || fuzz.mode == ANSWER_ORPHAN) &&
        fuzz.held_len < RK_COUNT(fuzz.held)) {
        fuzz.held[fuzz.held_len++] = call;
    } else {
        answer(call, fuzz.mode == ANSWER_FAIL);
    }
}

static void
answer_held(void)
{
    for (unsigned i = 0; i < fuzz.held_len; i++) {
        answer(fuzz.held[i], i % 3 == 2);
    }
    fuzz.held_len = 0;
}

static void
set_up(void)
{
    rk_rpc_server_options options;
    rk_err err = {0};

    rk_rpc_server_options_init(&options);
    options.message_size_max = 100000;
    options.streams_max = 50;
    options.header_bytes_max = 2048;
    options.on_grpc = on_call;
    options.on_http = on_call;
    RK_ASSERT(rk__core_new(&fuzz.core, &options, &err) == RK_OK);
    RK_ASSERT(rk__sloop_init(&fuzz.loop, fuzz.core, &err) == RK_OK);
    rk__loop_adopt(&fuzz.loop.base);
}

static void
turn(void)
{
    uv_run(&fuzz.loop.base.uv, UV_RUN_NOWAIT);
    rk__loop_flush(&fuzz.loop.base);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    static const size_t pieces[] = {1 << 20, 1, 2, 7, 9, 64, 1000, 17};
    rk_buf sink = {0};
    rk__sconn *conn;
    size_t piece;
    bool alive = true;

    if (size < 1) {
        return 0;
    }
    if (!fuzz.core) {
        set_up();
    }
    fuzz.mode = data[0] & 3;
    piece = pieces[data[0] >> 3 & 7];
    fuzz.core->budget.max = data[0] & 64 ? 100 : 1 << 20;
    conn = rk__sconn_new(&fuzz.loop);
    RK_ASSERT(conn);
    conn->base.sink = &sink;
    rk__sconn_begin(conn);
    if (data[0] & 4) {
        rk__conn_feed(&conn->base, preface, sizeof(preface) - 1);
        turn();
        alive = fuzz.loop.base.conns != NULL;
    }
    for (size_t at = 1; at < size && alive; at += piece) {
        size_t take = RK_MIN(piece, size - at);
        uint8_t *copy = rk_alloc(take); /* over-reads are caught */
        RK_ASSERT(copy);
        memcpy(copy, data + at, take);
        rk__conn_feed(&conn->base, copy, take);
        rk_free(copy);
        if (piece > 7 || at % 16 == 0) {
            turn();
            alive = fuzz.loop.base.conns != NULL;
        }
        if (fuzz.mode == ANSWER_LATER && at % 5 == 0) {
            answer_held();
        }
    }
    if (fuzz.mode == ANSWER_LATER) {
        answer_held();
    }
    turn();
    if (fuzz.loop.base.conns) {
        rk__conn_feed(&conn->base, NULL, 0);
        turn();
    }
    if (fuzz.loop.base.conns) {
        rk__conn_doom(&conn->base);
        turn();
    }
    answer_held();
    turn();
    RK_ASSERT(!fuzz.loop.base.conns);
    RK_ASSERT(atomic_load(&fuzz.core->budget.used) == 0);
    RK_ASSERT(atomic_load(&fuzz.core->budget.waiters) == 0);
    RK_ASSERT(atomic_load(&fuzz.core->budget.parked) == 0);
    RK_ASSERT(atomic_load(&fuzz.core->calls) == 0);
    rk_buf_deinit(&sink);
    return 0;
}
