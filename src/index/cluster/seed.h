/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places to start a walk from, see cluster/seed.c.
 */
#ifndef RK_INDEX_CLUSTER_SEED_H
#define RK_INDEX_CLUSTER_SEED_H

#include "index/cluster/cluster.h"

typedef struct rk__cluster_seeds {
    const rk__cluster *cluster;
    const rk_bitset *filter;
    rk__cluster_query coded;
    rk__cluster_lists lists;
    uint32_t next;   /* list of this stage */
    uint32_t looked; /* lists, in all */
} rk__cluster_seeds;

/* False: no memory, or a query that is not finite. |seeds| must not be moved. */
bool rk__cluster_seeds_start(rk__cluster_seeds *seeds, const rk_index *index,
                             const rk__cluster *cluster, const rk__query *query,
                             const rk_search_options *options);
/* A passing row, from the next list that has one; RK__NO_ROW: there are no more. */
uint32_t rk__cluster_seeds_next(rk__cluster_seeds *seeds);

#endif
