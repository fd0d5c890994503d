/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics of this layer: one set of series per RPC, found once at start, so that counting a
 * call is two atomic adds.
 *
 * REST calls count under the RPC they stand for. Rows are counted by collection, found per write: a
 * hash and a short lock beside a write to disk.
 */
#include "access/access_private.h"
#include "base/metrics.h"

#define NODE_ID "1"

typedef struct method_meters {
    rk_series *success;
    rk_series *fail;
    rk_series *latency;
} method_meters;

struct rk__meters {
    method_meters methods[PB_MILVUS_MilvusService_METHODS];
    rk_series *search_latency;
    rk_series *query_latency;
    rk_series *refused;
};

static rk_series *
find(rk_metric_id metric, const char *a, const char *b, const char *c, const char *d)
{
    return rk_metric_series(metric, (const char *const[RK_METRIC_LABELS_MAX]){a, b, c, d});
}

rk_code
rk__meters_init(rk_access *access)
{
    struct rk__meters *m = (struct rk__meters *)rk_alloc_zero(1, sizeof(*m));

    if (!m) {
        return RK_ENOMEM;
    }
    for (uint32_t i = 0; i < PB_MILVUS_MilvusService_METHODS; i++) {
        const char *name = pb_milvus_MilvusService_service.methods[i].name;
        if (rk__grpc_has(i)) {
            m->methods[i].success =
                find(RK_METRIC_PROXY_REQ_COUNT, NODE_ID, name, "success", RK__DEFAULT_DB);
            m->methods[i].fail =
                find(RK_METRIC_PROXY_REQ_COUNT, NODE_ID, name, "fail", RK__DEFAULT_DB);
            m->methods[i].latency = find(RK_METRIC_PROXY_REQ_LATENCY, NODE_ID, name, NULL, NULL);
        }
    }
    m->search_latency = find(RK_METRIC_PROXY_SQ_LATENCY, NODE_ID, "search", NULL, NULL);
    m->query_latency = find(RK_METRIC_PROXY_SQ_LATENCY, NODE_ID, "query", NULL, NULL);
    m->refused = find(RK_METRIC_PROXY_RATE_LIMITED, NODE_ID, "all", "refused", NULL);
    access->meters = m;
    return RK_OK;
}

void
rk__meters_free(rk_access *access)
{
    rk_free(access->meters); /* series live as long as the process */
    access->meters = NULL;
}

void
rk__meter_call(const rk_access *access, uint32_t method, rk_code code, int64_t started_ns)
{
    if (!access->meters || method >= PB_MILVUS_MilvusService_METHODS) {
        return;
    }
    const method_meters *m = &access->meters->methods[method];
    double ms =
        (double)(access->env->clock->monotonic_ns(access->env->clock->self) - started_ns) / 1e6;
    if (!m->success) {
        return;
    }
    rk_series_add(code == RK_OK ? m->success : m->fail, 1);
    rk_series_observe(m->latency, ms);
    if (method == PB_MILVUS_MilvusService_Search) {
        rk_series_observe(access->meters->search_latency, ms);
    } else if (method == PB_MILVUS_MilvusService_Query) {
        rk_series_observe(access->meters->query_latency, ms);
    }
}

void
rk__meter_refused(const rk_access *access)
{
    if (access->meters) {
        rk_series_add(access->meters->refused, 1);
    }
}

void
rk__meter_rows(const rk__entry *entry, rk__meter_rows_kind kind, uint64_t rows)
{
    static const rk_metric_id metrics[] = {
        [RK__ROWS_INSERTED] = RK_METRIC_PROXY_INSERT_VECTORS,
        [RK__ROWS_UPSERTED] = RK_METRIC_PROXY_UPSERT_VECTORS,
        [RK__ROWS_DELETED] = RK_METRIC_PROXY_DELETE_VECTORS,
    };

    /* both names were copied with a NUL behind them */
    rk_series_add(find(metrics[kind], NODE_ID, entry->db.data, entry->name.data, NULL), rows);
}
