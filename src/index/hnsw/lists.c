/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters beside a graph, for searches under a filter.
 *
 * A walk passes through rows that a filter masks: the fewer pass, the wider it must be for the same
 * recall. A scan of clusters touches masked rows too, but at half a nanosecond each, and knows how
 * to skip them. So a graph over float vectors keeps clusters of the same rows (cluster/cluster.h),
 * and a filtered search takes the way that costs less. An ef stands for the recall that it has
 * without a filter (hnsw/tune.c), which is what the clusters are asked for.
 *
 * Clusters are left out where the budget does not hold them, and of few rows.
 */
#include "index/cluster/cluster.h"
#include "index/hnsw/hnsw.h"

#define ROWS_MIN    4096u
#define EXACT_BYTES ((size_t)96 << 10) /* so few are scored on their vectors faster than else */
#define FILTERED    1.25 /* of the cost of clusters under a filter that most rows pass, */
#define DEARER      0.2  /* and 1 / share to this power of it where fewer do */
#define WHOLE       2.0  /* of the scan of all blocks: and the rows that it lets through */
#define VISIT_NS    80.0 /* to visit a list of which little is left */

/* What clusters take at most, about, while they are built too. */
static uint64_t
lists_bytes(const rk__space *space)
{
    uint64_t padded = ((uint64_t)space->dim + 63) / 64 * 64;

    return (uint64_t)space->rows * (padded / 8 + RK_MIN(padded + 64, 512u) + 24) +
           ((uint64_t)32 << 20);
}

static bool
fits(const rk_index *index, uint64_t bytes)
{
    if (rk_mem_reserve(index->mem, bytes, "HNSW clusters", NULL) != RK_OK) {
        return false;
    }
    rk_mem_release(index->mem, bytes);
    return true;
}

rk_code
rk__hnsw_finish(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    const rk__space *space = &index->space;
    rk_build_options quiet = *options;
    bool dense =
        space->type == RK_VEC_F32 || space->type == RK_VEC_F16 || space->type == RK_VEC_BF16;

    quiet.rows_done = NULL; /* they were counted */
    graph->automatic = index->automatic;
    if (!graph->lists && dense && space->rows >= ROWS_MIN && fits(index, lists_bytes(space))) {
        RK_RET(rk__cluster_make(index, &graph->lists, true, &quiet, err));
    }
    RK_RET(rk__hnsw_tune(index, options, err));
    if (graph->lists) {
        memcpy(graph->curve.lists_ns, graph->lists->level_ns, sizeof(graph->curve.lists_ns));
    }
    rk__hnsw_seal(graph);
    return RK_OK;
}

rk_code
rk__hnsw_build_all(rk_index *index, const rk_build_options *options, rk_err *err)
{
    RK_RET(rk__hnsw_build(index, options, err));
    return rk__hnsw_finish(index, options, err);
}

rk_code
rk__hnsw_merge_all(rk_index *index, const rk_merge_part *base, const rk_build_options *options,
                   bool *merged, rk_err *err)
{
    RK_RET(rk__hnsw_merge(index, base, options, merged, err));
    return *merged ? rk__hnsw_finish(index, options, err) : RK_OK;
}

rk_code
rk__hnsw_order_filter(const rk_index *index, rk_index_filter *filter, const rk_bitset *passing,
                      rk_err *err)
{
    const rk__hnsw *graph = index->impl;

    return graph->lists ? rk__cluster_order(graph->lists, filter, passing, err) : RK_OK;
}

/* ---- what a search costs ---- */

/* Fitted to one thread of a server with eight channels of memory, on data of 96 to 784 dimensions
 * and 1,700 to 1,000,000 rows: mostly within a third, walks up to 1.7 times off. */
double
rk__hnsw_walk_ns(uint32_t dim, double ef)
{
    uint32_t padded = (dim + 63) / 64 * 64;
    rk__hnsw_blocks blocks = rk__hnsw_blocks_of(padded, RK__BITS_ROWS);

    return 3000 + 22.0 * dim + 1.25 * ef * (120 + 0.18 * (double)blocks.stride);
}

double
rk__hnsw_walk_cost(const rk_index *index, double ef)
{
    const rk__hnsw *graph = index->impl;

    return rk__hnsw_walk_ns(index->space.dim, ef) * (graph->on_codes ? RK__ON_CODES_COST : 1);
}

double
rk__hnsw_lists_ns(const rk__cluster *lists, const float *level_ns, double recall)
{
    const rk__cluster_level *levels = lists->info.levels;
    uint32_t i = 0;

    while (i + 2 < RK__CLUSTER_LEVELS && !((double)levels[i].recall >= recall)) {
        i++;
    }
    if (!(level_ns[i] > 0)) {
        return (double)INFINITY; /* a recall that was not reached */
    }
    double above = recall - (double)levels[i].recall; /* past the last but one: all of the lists */
    double all = (double)lists->info.blocks * (8 + 0.09 * (double)lists->space.padded);
    double counted =
        (double)level_ns[i] + (above > 0 ? above / (1 - (double)levels[i].recall) * all : 0);
    double far = RK_MAX(log10((double)lists->rows / 100000), 0.0); /* from the caches */
    return 6000 + 15.0 * lists->space.dim + 10000 * far + 1.3 * counted;
}

/* Under a filter that is packed, where a search without one takes |lists_ns|: only a part of the
 * blocks is there to scan, but more lists are visited the fewer rows pass. */
static double
packed_ns(const rk__cluster *lists, const rk__ordered *ordered, double lists_ns, double share,
          double recall)
{
    uint32_t nlist = lists->info.nlist;
    double part = (double)ordered->n_blocks / (double)RK_MAX(lists->info.blocks, 1u);
    double fixed = 6000 + 15.0 * lists->space.dim;
    double wider = FILTERED * pow(share, -DEARER);
    double first = rk__cluster_effort_of(lists, (float)recall).first;
    double visited = RK_MIN(first * wider, (double)(nlist - ordered->n_empty));

    return fixed + (lists_ns - fixed) * RK_MIN(wider * part, 1.0) + visited * VISIT_NS;
}

/* By IP no clusters are asked for rows so different in length that one scale of 8-bit codes does
 * not do for all: that walks and scans of such a graph agree with its clusters was not measured. */
bool
rk__hnsw_lists_are_good(const rk_index *index)
{
    const rk__hnsw *graph = index->impl;

    return graph->codes.data || index->space.metric != RK_METRIC_IP;
}

double
rk__hnsw_whole_ns(const rk_index *index, const rk_search_options *options)
{
    const rk__cluster *lists = ((const rk__hnsw *)index->impl)->lists;

    if (!lists || !rk__hnsw_lists_are_good(index) ||
        options->filter_count * (index->space.row_bytes + 64) <= EXACT_BYTES) {
        return (double)INFINITY;
    }
    uint32_t blocks = options->ordered && options->ordered->lists.packed
                          ? options->ordered->lists.n_blocks
                          : lists->info.blocks;
    return 6000 + 15.0 * lists->space.dim +
           WHOLE * (double)blocks * (8 + 0.09 * (double)lists->space.padded);
}

double
rk__hnsw_by_lists_ns(const rk_index *index, const rk_search_options *options, uint32_t k,
                     float *recall)
{
    const rk__hnsw *graph = index->impl;
    double share = (double)options->filter_count / (double)index->space.rows;
    bool named = rk__param_int(options->params, "ef", 0, 0, INT32_MAX) > 0;

    if (!graph->lists || graph->curve.n == 0 || !rk__hnsw_lists_are_good(index) ||
        options->filter_count * (index->space.row_bytes + 64) <= EXACT_BYTES ||
        (!options->filter && (named || options->range))) {
        return (double)INFINITY;
    }
    *recall = named ? -1
                    : (float)rk__param_float(options->params, "target_recall",
                                             graph->automatic ? RK__RECALL_AUTO : -1, 0, 1);
    if (*recall < 0) { /* nothing was said: what ef, or its default, gives */
        if (!options->filter) {
            return (double)INFINITY;
        }
        *recall = rk__hnsw_recall_of(&graph->curve, k, rk__hnsw_ef(graph, options, k));
    }
    double lists = rk__hnsw_lists_ns(graph->lists, graph->curve.lists_ns, (double)*recall);
    if (options->ordered && options->ordered->lists.packed && isfinite(lists)) {
        return packed_ns(graph->lists, &options->ordered->lists, lists, share, (double)*recall);
    }
    return (options->filter ? FILTERED * pow(share, -DEARER) : 1) * lists;
}

bool
rk__hnsw_by_lists(const rk_index *index, const rk_search_options *options, uint32_t k,
                  float *recall)
{
    const rk__hnsw *graph = index->impl;
    double share = (double)options->filter_count / (double)index->space.rows;
    double ef = rk__hnsw_ef(graph, options, k);

    return rk__hnsw_by_lists_ns(index, options, k, recall) <
           rk__hnsw_walk_cost(index, ef) * rk__hnsw_wider(graph->uneven, share);
}
