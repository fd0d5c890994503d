/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The health and metrics listener: /healthz, /livez, /metrics. Nothing here reveals data or changes
 * anything, as it asks for no credentials.
 *
 * /healthz is healthy while the server takes requests; it fails first when the server is stopped,
 * so that load balancers turn away before connections are closed. It answers in JSON to a request
 * whose Content-Type is exactly application/json.
 *
 * Loop thread: no call blocks.
 */
#include "access/access_private.h"
#include "base/metrics.h"

#define TEXT "text/plain; charset=utf-8"

static void
answer(rk_call *call, int status, const char *type, const char *text)
{
    rk_buf body = {0};

    rk_buf_str(&body, rk_str_from(text));
    rk_call_http(call, status, type, &body);
    rk_buf_deinit(&body);
}

static void
answer_healthz(rk_access *access, rk_call *call)
{
    bool ok = !atomic_load_explicit(&access->draining, memory_order_relaxed);
    bool json = rk_str_is(rk_call_header(call, "content-type"), "application/json");

    if (json) {
        answer(call, ok ? 200 : 500, "application/json; charset=utf-8",
               ok ? "{\"state\":\"OK\",\"detail\":[{\"name\":\"proxy\",\"code\":1}]}"
                  : "{\"state\":\"Not all components are healthy, "
                    "0/1\",\"detail\":[{\"name\":\"proxy\",\"code\":4}]}");
    } else {
        answer(call, ok ? 200 : 500, TEXT, ok ? "OK" : "Not all components are healthy, 0/1");
    }
}

void
rk__on_health(void *user, rk_call *call)
{
    rk_access *access = (rk_access *)user;
    rk_str path = rk_call_path(call);
    rk_str method = rk_call_method(call);
    bool get = rk_str_is(method, "GET") || rk_str_is(method, "HEAD");

    if (rk_str_is(path, "/healthz")) {
        answer_healthz(access, call);
    } else if (rk_str_is(path, "/livez")) {
        answer(call, 200, TEXT, "Milvus Process Active\n");
    } else if (get && (rk_str_is(path, "/metrics") || rk_str_is(path, "/metrics_default"))) {
        rk_buf body = {0};
        rk_metrics_write(&body);
        rk_call_http(call, body.failed ? 500 : 200, "text/plain; version=0.0.4; charset=utf-8",
                     &body);
        rk_buf_deinit(&body);
    } else {
        answer(call, 404, TEXT, "404 page not found");
    }
}
