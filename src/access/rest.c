/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REST v2: routes, the envelope, and what is common to all requests.
 *
 * Business errors are HTTP 200 with their code in the envelope; other statuses are 204 for OPTIONS,
 * 404 as text for an unknown path or method, 408 when the time is over and 429 when a queue is
 * full. A body must be a JSON object, an empty one is an error; the content type is not looked at.
 *
 * int64 values are numbers unless the request header Accept-Type-Allow-Int64 says false. Header
 * Request-Timeout shortens or sets the deadline, in seconds; DB-Name names the database when the
 * body does not.
 *
 * Threads: rk__on_http() on a loop thread, run_rest() on a pool thread.
 */
#include "access/rest.h"

#define PREFIX "/v2/vectordb"
#define JSON   "application/json; charset=utf-8"
#define TEXT   "text/plain; charset=utf-8"

typedef struct route {
    const char *path;
    rk__rest_fn handler;
    uint32_t method;
} route;

static const route routes[] = {
#define ROUTE(path, handler, method) {path, handler, PB_MILVUS_MilvusService_##method},
#include "access/rest_table.def"
#undef ROUTE
};

/* Documented paths of the public API that this build does not answer: told so by name. */
static const char *const unbuilt[] = {
    "/collections/",      "/databases/", "/entities/",        "/partitions/",
    "/indexes/",          "/aliases/",   "/users/",           "/roles/",
    "/privilege_groups/", "/jobs/",      "/resource_groups/", "/segments/",
    "/quotacenter/",      "/common/",    "/file_resources/",  "/snapshots/",
};

static void
answer_text(rk_call *call, int status, const char *text)
{
    rk_buf body = {0};

    rk_buf_str(&body, rk_str_from(text));
    rk_call_http(call, status, TEXT, &body);
    rk_buf_deinit(&body);
}

static void
write_error(rk_buf *out, rk_code code, const rk_err *err)
{
    rk_json_writer w = {.out = out};
    const rk_code_info *info = rk_code_get_info(code);
    int32_t number = info->number > 0 && info->number <= 65535 ? info->number : 65535;

    rk_buf_clear(out);
    rk_json_object(&w);
    rk_json_key(&w, RK_STR("code"));
    rk_json_i64(&w, number);
    rk_json_key(&w, RK_STR("message"));
    rk_json_str(&w, rk_str_from(err->text[0] ? err->text : info->text));
    rk_json_object_end(&w);
}

static void
answer_error(rk_call *call, rk_code code, const rk_err *err)
{
    rk_buf body = {0};
    int status = 200;
    const char *text = NULL;

    if (code == RK_EDEADLINE) {
        status = 408;
        text = "{\"code\":10001,\"message\":\"request timeout\"}";
    } else if (code == RK_ERATE_LIMIT || code == RK_EBUSY) {
        status = 429;
        text = "{\"code\":4,\"message\":\"too many concurrent requests, queue is full\"}";
    }
    if (text) {
        rk_buf_str(&body, rk_str_from(text));
    } else {
        write_error(&body, code, err);
    }
    rk_call_http(call, body.failed ? 500 : status, JSON, &body);
    rk_buf_deinit(&body);
}

/* ---- on the pool ---- */

static rk_code
read_body(rk__rest *r, rk_call *call)
{
    rk_str body = rk_str_trim(rk_call_body(call));
    rk_err *err = r->req.ctx.err;

    if (body.len == 0) {
        return rk_fail(err, RK_EREST_BODY, "%s", rk_code_get_info(RK_EREST_BODY)->text);
    }
    if (rk_json_check(body, RK_JSON_UTF8 | RK_JSON_OBJECT_ONLY, err) != RK_OK) {
        return rk_fail(err, RK_EREST_BODY, "can only accept json format request, error: %s",
                       err->text);
    }
    r->body = rk_json_root(body);
    return RK_OK;
}

static rk_code
read_headers(rk__rest *r, rk_call *call, int64_t started_ns)
{
    const rk__limits *limits = &r->req.access->limits;
    rk_str timeout = rk_call_header(call, "request-timeout");
    rk_str allow = rk_call_header(call, "accept-type-allow-int64");
    int64_t seconds = 0;
    int64_t budget_ns = limits->rest_timeout_ms * INT64_C(1000000);
    bool allowed = limits->allow_int64;

    if (allow.data && !rk_str_to_bool(allow, &allowed)) {
        allowed = limits->allow_int64;
    }
    r->text_int64 = !allowed;
    if (timeout.len > 0) {
        if (!rk_str_to_i64(rk_str_trim(timeout), &seconds) || seconds < 0 || seconds > 86400) {
            return rk_fail(r->req.ctx.err, RK_EINVAL,
                           "Request-Timeout parse failed, err: %.*s is no number of seconds",
                           RK_STR_ARG(timeout));
        }
        budget_ns = seconds * INT64_C(1000000000);
    }
    r->req.ctx.deadline_ns = RK_MIN(r->req.ctx.deadline_ns, started_ns + budget_ns);
    return RK_OK;
}

static rk_code
serve(rk__rest *r, rk_call *call, const rk__job *job)
{
    RK_RET(read_headers(r, call, job->started_ns));
    RK_RET(read_body(r, call));
    RK_RET(routes[job->method].handler(r));
    return r->w.out->failed ? rk__fail_memory(r->req.ctx.err) : RK_OK;
}

static void
run_rest(rk__job *job)
{
    rk_buf out = {0};
    rk_err err;
    rk_code code;
    rk__rest r = {.req = {.ctx = {job->arena, &err, rk_call_deadline_ns(job->call), job->call},
                          .access = job->access,
                          .db = rk_call_header(job->call, "db-name")},
                  .w = {.out = &out},
                  .request = "Request",
                  .method = routes[job->method].method};

    rk_err_clear(&err);
    code = serve(&r, job->call, job);
    if (code == RK_OK) {
        rk_call_http(job->call, 200, JSON, &out);
    } else {
        answer_error(job->call, code, &err);
    }
    rk__meter_call(job->access, r.method, code, job->started_ns);
    rk_buf_deinit(&r.missing);
    rk_buf_deinit(&out);
    rk__job_end(job);
}

/* ---- on the loop ---- */

static uint32_t
find_route(rk_str path)
{
    for (uint32_t i = 0; i < RK_COUNT(routes); i++) {
        if (rk_str_is(path, routes[i].path)) {
            return i;
        }
    }
    return UINT32_MAX;
}

static void
answer_unknown(rk_call *call, rk_str path)
{
    for (size_t i = 0; i < RK_COUNT(unbuilt); i++) {
        if (rk_str_starts(path, unbuilt[i])) {
            rk_buf body = {0};
            rk_buf_printf(&body, "404 page not found: %s%.*s is not built in yet", PREFIX,
                          (int)RK_MIN(path.len, (size_t)100), path.data);
            rk_call_http(call, 404, TEXT, &body);
            rk_buf_deinit(&body);
            return;
        }
    }
    answer_text(call, 404, "404 page not found");
}

/* What every answer carries, errors included: a page of another origin may read it. */
static void
common_headers(rk_call *call)
{
    rk_call_http_header(call, "access-control-allow-origin", "*");
    rk_call_http_header(call, "access-control-allow-credentials", "true");
    rk_call_http_header(call, "access-control-allow-methods",
                        "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    rk_call_http_header(call, "access-control-allow-headers",
                        "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, "
                        "Authorization, accept, origin, Cache-Control, X-Requested-With, "
                        "Idempotency-Key");
    rk_call_http_header(call, "x-content-type-options", "nosniff");
}

void
rk__on_http(void *user, rk_call *call)
{
    rk_access *access = (rk_access *)user;
    rk_str method = rk_call_method(call);
    rk_str path = rk_call_path(call);
    size_t skip = sizeof(PREFIX) - 1;
    uint32_t i;
    rk_pool *pool = access->write_pool;
    rk_err err;

    common_headers(call);
    if (rk_str_is(method, "OPTIONS")) {
        rk_buf empty = {0};
        rk_call_http(call, 204, TEXT, &empty);
        return;
    }
    if (!rk_str_is(method, "POST") || !rk_str_starts(path, PREFIX "/")) {
        answer_text(call, 404, "404 page not found");
        return;
    }
    path = (rk_str){path.data + skip, path.len - skip};
    i = find_route(path);
    if (i == UINT32_MAX) {
        answer_unknown(call, path);
        return;
    }
    if (routes[i].method == PB_MILVUS_MilvusService_Search ||
        routes[i].method == PB_MILVUS_MilvusService_Query) {
        pool = access->search_pool;
    }
    rk_err_clear(&err);
    if (rk__job_start(access, call, pool, i, run_rest, &err) != RK_OK) {
        answer_error(call, err.code, &err);
    }
}
