/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: counters, gauges and histograms of one table (metrics_table.h), and their text for
 * Prometheus.
 *
 * A series is a metric with values for its labels; finding it costs a hash and a short lock, adding
 * to it an atomic add. Hot paths find theirs once and keep the pointer: series live as long as the
 * process. A metric has at most 4096 series; past that all go to one whose label values are
 * "other". Any thread.
 */
#ifndef RK_BASE_METRICS_H
#define RK_BASE_METRICS_H

#include "base/metrics_table.h"
#include "base/slice.h"

typedef enum rk_metric_id {
#define RK_METRIC_ENUM(id, name, kind, labels, help) RK_METRIC_##id,
    RK_METRICS_TABLE(RK_METRIC_ENUM)
#undef RK_METRIC_ENUM
        RK_METRIC_COUNT
} rk_metric_id;

#define RK_METRIC_LABELS_MAX 4

typedef struct rk_series rk_series;

/* The series of these label values, in the order of the table; missing ones are NULL or "". Never
 * fails: when memory is out a series comes back that is not printed. */
rk_series *rk_metric_series(rk_metric_id metric, const char *const values[RK_METRIC_LABELS_MAX]);

void rk_series_add(rk_series *series, uint64_t count);   /* COUNTER */
void rk_series_set(rk_series *series, double value);     /* GAUGE */
void rk_series_change(rk_series *series, double delta);  /* GAUGE */
void rk_series_observe(rk_series *series, double value); /* HISTOGRAM */
/* The counter, the gauge, or the number of observations; for tests and the console. */
double rk_series_value(const rk_series *series);

/* rk_metric_add(RK_METRIC_PROXY_USER_RPC, 1, "root"): find and add in one go, up to four label
 * values. */
#define rk_metric_add(metric, count, ...)                                                          \
    rk_series_add(                                                                                 \
        rk_metric_series((metric), (const char *const[RK_METRIC_LABELS_MAX]){__VA_ARGS__}),        \
        (count))
#define rk_metric_set(metric, value, ...)                                                          \
    rk_series_set(                                                                                 \
        rk_metric_series((metric), (const char *const[RK_METRIC_LABELS_MAX]){__VA_ARGS__}),        \
        (value))
#define rk_metric_change(metric, delta, ...)                                                       \
    rk_series_change(                                                                              \
        rk_metric_series((metric), (const char *const[RK_METRIC_LABELS_MAX]){__VA_ARGS__}),        \
        (delta))
#define rk_metric_observe(metric, value, ...)                                                      \
    rk_series_observe(                                                                             \
        rk_metric_series((metric), (const char *const[RK_METRIC_LABELS_MAX]){__VA_ARGS__}),        \
        (value))

/* No longer prints the series whose label |label| is |value| (a dropped collection), until one is
 * found again. */
void rk_metrics_forget(const char *label, const char *value);

/* The text format of Prometheus, version 0.0.4, with the usual process_ metrics at the end. */
void rk_metrics_write(rk_buf *out);

#endif
