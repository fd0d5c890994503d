/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What AUTOINDEX is for float vectors: clusters of one-bit codes, and for large, easy data a graph
 * beside them.
 *
 * Clusters answer most data faster than a graph: of real embeddings they are several times faster
 * at high recall. But a scan of lists grows with the square root of the rows, a walk with their
 * logarithm, and where neighbours are easy to tell (local dimension of about 10) a walk needs few
 * steps: a million image descriptors are the case. So the clusters are built first, which is cheap
 * and says what they cost at which recall; then a graph over a sample is built and measured, and
 * its steps are extrapolated to all rows. Where a walk would cost clearly less, the graph over all
 * rows is built too. It keeps the clusters for filtered searches.
 *
 * Measured sets: see docs/index-kinds.md. A graph needs memory; where the budget has none for it,
 * the clusters stay alone.
 */
#include "index/cluster/cluster.h"
#include "index/hnsw/hnsw.h"

#define ROWS_MIN    200000u /* clusters were faster on every set up to here */
#define SAMPLE_ROWS 16384u
#define EASY        25.0 /* ef: for data that needs so few over the sample the steps grow little, */
#define HARD        80.0 /* for data that needs so many they grow with GROWTH_HARD of the rows */
#define GROWTH_EASY 0.08
#define GROWTH_HARD 0.3
#define CLEARLY     0.5

/* A matrix of every so many rows of the index. */
static rk_code
sample_rows(const rk_index *index, rk_vectors *out, rk_err *err)
{
    const rk__space *space = &index->space;
    uint8_t *data = rk__alloc_huge((size_t)SAMPLE_ROWS * space->row_bytes);

    if (!data) {
        return rk_fail(err, RK_ENOMEM, "AUTOINDEX: no memory for a sample of %u rows", SAMPLE_ROWS);
    }
    for (size_t i = 0; i < SAMPLE_ROWS; i++) {
        size_t row = (size_t)((double)i * (double)space->rows / SAMPLE_ROWS);
        memcpy(data + i * space->row_bytes, rk__space_row(space, row), space->row_bytes);
    }
    *out = index->vectors;
    out->rows = SAMPLE_ROWS;
    out->data = data;
    return RK_OK;
}

/* The recalls that are compared. */
static const double recalls[] = {RK__RECALL_AUTO, 0.99};

/* What walks by the measured graph over a sample would cost over |rows|; INFINITY where it is not
 * walked on codes. */
static double
walks_cost(const rk_index *small, size_t rows)
{
    const rk__hnsw *graph = small->impl;
    double ns = 0;

    if (!graph->blocks.data || graph->curve.n == 0) {
        return (double)INFINITY;
    }
    double first = rk__hnsw_ef_for(&graph->curve, 10, (float)recalls[0]);
    double hard = log(first / EASY) / log(HARD / EASY);
    hard = RK_MAX(RK_MIN(hard, 1.0), 0.0);
    double growth =
        pow((double)rows / SAMPLE_ROWS, GROWTH_EASY + hard * (GROWTH_HARD - GROWTH_EASY));
    for (size_t i = 0; i < RK_COUNT(recalls); i++) {
        double ef = rk__hnsw_ef_for(&graph->curve, 10, (float)recalls[i]);
        ns += rk__hnsw_walk_cost(small, ef * growth);
    }
    return ns;
}

static rk_code
measure_walks(const rk_index *index, const rk_build_options *options, double *ns, rk_err *err)
{
    uint64_t sample_bytes = (uint64_t)SAMPLE_ROWS * index->space.row_bytes;
    rk_build_options quiet = *options;
    rk_vectors sample = index->vectors;
    rk_index *small = NULL;
    rk_code code = RK_OK;

    quiet.rows_done = NULL;
    sample.data = NULL;
    RK_RET(rk_mem_reserve(index->mem, sample_bytes, "AUTOINDEX sample", err));
    RK_ERR(sample_rows(index, &sample, err));
    RK_ERR(rk__index_new(&small, RK__KIND_HNSW, index->space.metric, &sample, index->mem, err));
    small->automatic = true;
    RK_ERR(rk__hnsw_build(small, &quiet, err));
    RK_ERR(rk__hnsw_tune(small, &quiet, err));
    *ns = walks_cost(small, index->space.rows);
out:
    rk_index_free(small);
    rk_free((void *)(uintptr_t)sample.data);
    rk_mem_release(index->mem, sample_bytes);
    return code;
}

static bool
has_room(const rk_index *index)
{
    uint32_t padded = (index->space.dim + 63) / 64 * 64;
    uint64_t row = rk__hnsw_blocks_of(padded, RK__BITS_ROWS).stride + padded + 512;
    uint64_t bytes = row * index->space.rows;

    if (rk_mem_reserve(index->mem, bytes, "AUTOINDEX graph", NULL) != RK_OK) {
        return false;
    }
    rk_mem_release(index->mem, bytes);
    return true;
}

static void
become(rk_index *index, rk__kind_id kind, void *impl)
{
    index->kind = kind;
    index->kind_name = rk__kind_name(kind);
    index->verbs = rk__kind_verbs(kind);
    index->impl = impl;
}

rk_code
rk__auto_take_graph(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk_build_options half = *options;
    rk__cluster *lists = index->impl;
    uint64_t reserved = index->reserved_bytes;
    rk_code code = RK_OK;

    half.rows_done_shift = 1; /* the clusters have counted the other half */
    become(index, RK__KIND_HNSW, NULL);
    code = rk__hnsw_build(index, &half, err);
    if (index->impl) {
        ((rk__hnsw *)index->impl)->lists = lists;
    }
    if (code == RK_OK) {
        code = rk__hnsw_finish(index, &half, err);
    }
    if (code != RK_OK) { /* what was there is as it was */
        if (index->impl) {
            ((rk__hnsw *)index->impl)->lists = NULL;
            index->verbs->free(index);
        }
        become(index, RK__KIND_IVF_RABITQ, lists);
        rk__index_release(index, index->reserved_bytes - reserved);
    }
    return code;
}

bool
rk__auto_may_have_graph(const rk_index *index)
{
    return index->automatic && index->kind == RK__KIND_IVF_RABITQ && index->space.rows >= ROWS_MIN;
}

rk_code
rk__auto_graph(rk_index *index, const rk_build_options *options, rk_err *err)
{
    const rk__cluster *lists = index->impl;
    double by_lists = 0;
    double by_walk = 0;

    if (index->kind != RK__KIND_IVF_RABITQ || index->space.rows < ROWS_MIN || !has_room(index)) {
        return RK_OK;
    }
    for (size_t i = 0; i < RK_COUNT(recalls); i++) {
        by_lists += rk__hnsw_lists_ns(lists, lists->level_ns, recalls[i]);
    }
    rk_code code = measure_walks(index, options, &by_walk, err);
    if (code == RK_OK && by_walk < CLEARLY * by_lists) {
        code = rk__auto_take_graph(index, options, err);
    }
    if (code == RK_ENOMEM) { /* a graph is not needed for an answer */
        rk_err_clear(err);
        code = RK_OK;
    }
    return code;
}
