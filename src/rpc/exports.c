/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serving end of far services. See service.h.
 *
 * One open-addressed table maps a method's path to its service; it is filled before the server
 * starts and only read after. A call is looked up on the loop thread and run on the pool: decode
 * into an arena of its own, call the near service, encode, answer.
 */
#include <stdio.h>

#include "base/util.h"
#include "rpc/service.h"

typedef struct entry {
    rk_str path; /* .data NULL: free */
    rk_service *service;
    const pb_method_desc *method;
    uint32_t index;
} entry;

struct rk_exports {
    rk_pool *pool; /* borrowed */
    entry *table;
    size_t cap; /* a power of two, at most half full */
    size_t len;
};

typedef struct task {
    rk_call *call; /* ours to answer */
    const entry *target;
} task;

rk_code
rk_exports_new(rk_exports **out, rk_pool *pool)
{
    rk_exports *exports = rk_alloc_zero(1, sizeof(*exports));

    *out = exports;
    if (!exports) {
        return RK_ENOMEM;
    }
    exports->pool = pool;
    return RK_OK;
}

void
rk_exports_free(rk_exports *exports)
{
    if (exports) {
        rk_free(exports->table);
        rk_free(exports);
    }
}

/* The slot of |path|: its entry, or the free one where it belongs. */
static entry *
find_slot(entry *table, size_t cap, rk_str path)
{
    size_t i = (size_t)rk_hash64(path.data, path.len) & (cap - 1);

    while (table[i].path.data && !rk_str_eq(table[i].path, path)) {
        i = (i + 1) & (cap - 1);
    }
    return &table[i];
}

static rk_code
make_room(rk_exports *exports, size_t more)
{
    size_t cap = exports->cap ? exports->cap : 64;
    entry *table;

    while ((exports->len + more) * 2 > cap) {
        cap *= 2;
    }
    if (cap == exports->cap) {
        return RK_OK;
    }
    table = rk_alloc_zero(cap, sizeof(*table));
    if (!table) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < exports->cap; i++) {
        if (exports->table[i].path.data) {
            *find_slot(table, cap, exports->table[i].path) = exports->table[i];
        }
    }
    rk_free(exports->table);
    exports->table = table;
    exports->cap = cap;
    return RK_OK;
}

rk_code
rk_exports_add(rk_exports *exports, const pb_service_desc *desc, rk_service *service)
{
    RK_RET(make_room(exports, desc->methods_len));
    for (uint32_t i = 0; i < desc->methods_len; i++) {
        rk_str path = rk_str_from(desc->methods[i].path);
        entry *slot = find_slot(exports->table, exports->cap, path);
        if (slot->path.data) {
            return RK_EEXISTS;
        }
        *slot = (entry){path, service, &desc->methods[i], i};
        exports->len++;
    }
    return RK_OK;
}

/* Decodes, calls, encodes. |*message| is filled when the method gave a response. */
static rk_code
serve(const task *work, rk_buf *message, rk_arena *arena, rk_err *err)
{
    rk_ctx ctx = {arena, err, rk_call_deadline_ns(work->call), work->call};
    const entry *target = work->target;
    void *request = NULL;
    void *response = NULL;
    rk_code code;

    RK_RET(pb_decode(target->method->input, &request, rk_call_body(work->call), arena, err));
    code = rk_service_call(target->service, target->index, request, &response, &ctx);
    if (response) {
        RK_KEEP(pb_encode(target->method->output, response, message));
    }
    return code;
}

static void
run_task(void *arg)
{
    task *work = arg;
    rk_arena *arena = rk_arena_new(0);
    rk_err err = {0};
    rk_buf message = {0};
    rk_code code;

    if (!arena) {
        code =
            rk_fail(&err, RK_ENOMEM, "%s: no memory for the request", work->target->method->path);
    } else if (rk_call_cancelled(work->call)) { /* nobody waits for it any more */
        code = rk_fail(&err, RK_ECANCELLED, "%s", rk_code_get_info(RK_ECANCELLED)->text);
    } else {
        code = serve(work, &message, arena, &err);
    }
    if (code == RK_OK) {
        rk_call_reply(work->call, &message);
    } else {
        err.code = code; /* a method may fail without a sentence */
        rk_call_reply_err(work->call, &message, &err);
    }
    rk_arena_free(arena);
    rk_free(work);
}

static void
fail_now(rk_call *call, rk_code code, const char *text)
{
    rk_err err = {0};

    rk_fail(&err, code, "%s", text);
    rk_call_fail_err(call, &err);
}

void
rk_exports_on_grpc(void *user, rk_call *call)
{
    rk_exports *exports = user;
    rk_str path = rk_call_path(call);
    const entry *target = exports->cap ? find_slot(exports->table, exports->cap, path) : NULL;
    task *work;
    rk_code code;

    if (!target || !target->path.data) {
        char text[256];
        snprintf(text, sizeof(text), "unknown method %.*s", (int)RK_MIN(path.len, (size_t)200),
                 path.data);
        fail_now(call, RK_EUNIMPLEMENTED, text);
        return;
    }
    work = rk_alloc(sizeof(*work));
    if (!work) {
        fail_now(call, RK_ENOMEM, "no memory for the call");
        return;
    }
    *work = (task){call, target};
    code = rk_pool_submit(exports->pool, run_task, work);
    if (code != RK_OK) {
        rk_free(work);
        fail_now(call, code, rk_code_get_info(code)->text);
    }
}
