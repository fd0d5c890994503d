/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spreads build work over low-priority threads: the rk_parallel that indexes are built with.
 *
 * Threads: made once per data node; one run at a time uses the helpers, a second one meanwhile runs
 * on its caller alone.
 */
#ifndef RK_WORKER_DATA_PARALLEL_H
#define RK_WORKER_DATA_PARALLEL_H

#include "base/thread.h"
#include "index/index.h"

typedef struct rk__dn_parallel rk__dn_parallel;

/* |width| threads in all, the caller of run() being one of them; helpers start at the first run. */
RK_MUST_CHECK rk_code rk__dn_parallel_new(rk__dn_parallel **out, unsigned width);
const rk_parallel *rk__dn_parallel_get(rk__dn_parallel *p);
void rk__dn_parallel_free(rk__dn_parallel *p);

#endif
