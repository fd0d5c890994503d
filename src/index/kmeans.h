/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k-means over a sample: Lloyd's iterations from random rows, for f32 vectors under L2 and for bit
 * vectors (centre = majority of each bit). Empty clusters are restarted from random rows. Stops
 * early when the mean distance gains less than 0.2 %. A function of data, seed and count, whatever
 * the number of threads.
 */
#ifndef RK_INDEX_KMEANS_H
#define RK_INDEX_KMEANS_H

#include "index/index_private.h"

typedef struct rk__kmeans {
    const void *rows;   /* sample, packed */
    size_t n;           /* at least |k| */
    uint32_t dim;       /* components, or bytes of a bit vector */
    bool bits;          /* else f32 */
    rk__dist_fn dist;   /* between a row and a centre */
    rk__dist4_fn dist4; /* f32 only */
    uint32_t k;         /* centres wanted */
    uint32_t iterations_max;
    const rk_build_options *options; /* threads, cancel, seed */
} rk__kmeans;

/* |centres| has room for k rows. RK_ENOMEM or RK_ECANCELLED. */
RK_MUST_CHECK rk_code rk__kmeans_run(const rk__kmeans *job, void *centres, rk_err *err);

/* The nearest centre of one row. NaN everywhere gives 0. */
uint32_t rk__kmeans_nearest(const rk__kmeans *job, const void *centres, const void *row,
                            float *distance);

#endif
