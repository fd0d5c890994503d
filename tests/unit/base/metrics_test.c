/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges, histograms, their text, escaping, forgetting, the bound on series. */
#include "base/metrics.h"

#include "base/mem.h"
#include "base/thread.h"
#include "unit_test.h"

static char *
text(void)
{
    static rk_buf out;

    rk_buf_deinit(&out);
    rk_metrics_write(&out);
    rk_buf_byte(&out, 0);
    assert_false(out.failed);
    return (char *)out.data;
}

static void
kinds(void **state)
{
    RK_UNUSED(state);
    rk_metric_add(RK_METRIC_PROXY_REQ_COUNT, 2, "1", "Search", "success", "default");
    rk_metric_add(RK_METRIC_PROXY_REQ_COUNT, 3, "1", "Search", "success", "default");
    rk_metric_set(RK_METRIC_NODES, 4, "standalone");
    rk_metric_change(RK_METRIC_NODES, -1.5, "standalone");
    rk_metric_observe(RK_METRIC_PROXY_REQ_LATENCY, 0.5, "1", "Search");
    rk_metric_observe(RK_METRIC_PROXY_REQ_LATENCY, 3, "1", "Search");
    rk_metric_observe(RK_METRIC_PROXY_REQ_LATENCY, 1e9, "1", "Search");
    rk_metric_add(RK_METRIC_ROOT_ID_ALLOC, 7);
    const char *out = text();
    assert_non_null(strstr(out, "# TYPE milvus_proxy_req_count counter\n"));
    assert_non_null(strstr(out, "\nmilvus_proxy_req_count{node_id=\"1\",function_name=\"Search\","
                                "status=\"success\",db_name=\"default\"} 5\n"));
    assert_non_null(strstr(out, "\nmilvus_num_node{role_name=\"standalone\"} 2.5\n"));
    assert_non_null(strstr(out, "_bucket{node_id=\"1\",function_name=\"Search\",le=\"1\"} 1\n"));
    assert_non_null(strstr(out, "_bucket{node_id=\"1\",function_name=\"Search\",le=\"2\"} 1\n"));
    assert_non_null(strstr(out, "_bucket{node_id=\"1\",function_name=\"Search\",le=\"4\"} 2\n"));
    assert_non_null(strstr(out, "le=\"131072\"} 2\n"));
    assert_non_null(strstr(out, "le=\"+Inf\"} 3\n"));
    assert_non_null(
        strstr(out, "latency_sum{node_id=\"1\",function_name=\"Search\"} 1000000003.5\n"));
    assert_non_null(strstr(out, "latency_count{node_id=\"1\",function_name=\"Search\"} 3\n"));
    assert_non_null(strstr(out, "\nmilvus_rootcoord_id_alloc_count 7\n"));
    assert_non_null(strstr(out, "\nprocess_resident_memory_bytes "));
}

static void
odd_labels(void **state)
{
    RK_UNUSED(state);
    rk_metric_add(RK_METRIC_PROXY_USER_RPC, 1, "a\"b\\c\nd");
    assert_non_null(strstr(text(), "{username=\"a\\\"b\\\\c\\nd\"} 1\n"));
    rk_metric_add(RK_METRIC_PROXY_USER_RPC, 1, NULL);
    assert_non_null(strstr(text(), "{username=\"\"} 1\n"));
}

static void
forgetting(void **state)
{
    RK_UNUSED(state);
    rk_metric_add(RK_METRIC_PROXY_INSERT_VECTORS, 1, "1", "default", "dropme");
    assert_non_null(strstr(text(), "dropme"));
    rk_metrics_forget("collection_name", "dropme");
    assert_null(strstr(text(), "dropme"));
    rk_metric_add(RK_METRIC_PROXY_INSERT_VECTORS, 1, "1", "default", "dropme");
    assert_non_null(strstr(text(), "collection_name=\"dropme\"} 2\n"));
}

static void
series_are_bounded(void **state)
{
    char name[32];

    RK_UNUSED(state);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "user%d", i);
        rk_metric_add(RK_METRIC_PROXY_USER_RPC, 1, name);
    }
    const char *const other[RK_METRIC_LABELS_MAX] = {"other"};
    double rest = rk_series_value(rk_metric_series(RK_METRIC_PROXY_USER_RPC, other));
    assert_true(rest > 900 && rest < 910);
}

static void
without_memory(void **state)
{
    RK_UNUSED(state);
    rk_alloc_fail_after(0);
    rk_metric_observe(RK_METRIC_QN_LOAD_LATENCY, 1, "1");
    rk_metric_add(RK_METRIC_DN_FLUSHED_ROWS, 1, "1");
    rk_alloc_fail_after(1);
    rk_metric_observe(RK_METRIC_QN_LOAD_LATENCY, 1, "1");
    rk_alloc_fail_after(-1);
    assert_null(strstr(text(), "milvus_querynode_load_segment_latency_count"));
}

static void
hammer(void *arg)
{
    RK_UNUSED(arg);
    for (int i = 0; i < 10000; i++) {
        rk_metric_observe(RK_METRIC_SN_SYNC_LATENCY, 1);
        rk_metric_add(RK_METRIC_LOG_LINES, 1, i % 2 ? "info" : "warn");
    }
}

static void
threads(void **state)
{
    rk_thread started[3];

    RK_UNUSED(state);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rk_thread_start(&started[i], "hammer", hammer, NULL), RK_OK);
    }
    text();
    for (int i = 0; i < 3; i++) {
        rk_thread_join(started[i]);
    }
    const char *out = text();
    assert_non_null(strstr(out, "redkite_wal_sync_ms_sum 30000\n"));
    assert_non_null(strstr(out, "redkite_wal_sync_ms_count 30000\n"));
    assert_non_null(strstr(out, "redkite_log_lines_total{level=\"info\"} 15000\n"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),          cmocka_unit_test(odd_labels),
        cmocka_unit_test(forgetting),     cmocka_unit_test(series_are_bounded),
        cmocka_unit_test(without_memory), cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
