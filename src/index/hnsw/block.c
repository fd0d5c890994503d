/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ground as blocks, and the walk over them.
 *
 * A hop of the walk touches one block, in order: the node's own 8-bit code gives its distance to
 * the query, as good as the final score but for a few ranks; with it one pass of table look-ups
 * estimates the distances of 32 neighbours from their one-bit codes, relative to the node. Those
 * under the worst of the pool go in, by estimate. So the candidates of the walk are estimates, and
 * its results are the popped nodes by their own codes. This is the walk of SymphonyQG (Gou et al.,
 * SIGMOD 2025, sections 3 and 4), with an 8-bit code in place of the vector.
 *
 * A node may be in the pool several times, once for each neighbour that vouches for it with a
 * better estimate than the ones before: the best estimate decides when it is popped, which corrects
 * single bad ones. It is popped once. The estimates of nodes in the pool are remembered, in a table
 * that forgets on collision, so that equal estimates of one node do not crowd out others.
 *
 * The blocks of the next candidates are asked for while the present one is scored. Numbers of an
 * edited image are harmless: rows are compared with the row count, and a factor that is no number
 * makes an estimate that is never under the bound.
 */
#include "index/hnsw/hop.h"
#include "index/hnsw/tile.h"

#define CHUNK 1024u

/* ---- layout ---- */

rk__hnsw_blocks
rk__hnsw_blocks_of(uint32_t padded, uint32_t width)
{
    size_t group = RK__BLOCK_BITS + rk__bits_block_bytes(padded);

    return (rk__hnsw_blocks){
        .stride = padded + group * (width / RK__BITS_ROWS), .group = group, .width = width};
}

void
rk__hnsw_use_blocks(rk__hnsw *graph, uint8_t *data, size_t rows)
{
    rk__hnsw_blocks *blocks = &graph->blocks;
    uint8_t *links = data + graph->codes.n + RK__BLOCK_LINKS;

    blocks->data = data;
    graph->codes.data = (const int8_t *)data;
    graph->codes.stride = blocks->stride;
    graph->levels[0] = (rk__hnsw_level){.links = (rk__link *)(void *)links,
                                        .stride = (uint32_t)(blocks->stride / sizeof(uint32_t)),
                                        .cap = RK__BITS_ROWS,
                                        .nodes = (uint32_t)rows};
}

/* ---- making ---- */

typedef struct block_job {
    const rk_index *index;
    const rk__hnsw *graph;
    rk__hnsw_blocks blocks;
    uint8_t *data;
    _Atomic(bool) *failed;
    const rk_build_options *options;
    rk__tile_sums_fn sums; /* NULL: codes are widened */
} block_job;

static void
make_block(const block_job *job, size_t row, float *own, float *other, uint8_t *signs)
{
    const rk__hnsw_codes *codes = &job->graph->codes;
    const rk__hnsw_level *ground = &job->graph->levels[0];
    const rk__link *links = ground->links + row * ground->stride;
    uint8_t *block = job->data + row * job->blocks.stride;
    rk_metric metric = job->index->space.metric == RK_METRIC_IP ? RK_METRIC_IP : RK_METRIC_L2;
    bool ended = false;

    memcpy(block, codes->data + row * codes->stride, codes->n);
    if (!job->sums) {
        rk__tile_widen(codes->data + row * codes->stride, codes->n, own);
    }
    for (uint32_t i = 0; i < job->blocks.width; i++) {
        uint8_t *group = block + codes->n + i / RK__BITS_ROWS * job->blocks.group;
        uint32_t slot = i % RK__BITS_ROWS;
        uint32_t next = i < ground->cap && !ended ? rk__link_get(&links[i]) : RK__NO_ROW;
        float add = INFINITY;
        float mul = 0;

        ended = next >= ground->nodes;
        if (slot == 0) {
            memset(group + RK__BLOCK_BITS, 0, job->blocks.group - RK__BLOCK_BITS);
        }
        if (!ended) {
            const int8_t *code = codes->data + (size_t)next * codes->stride;
            if (job->sums) {
                int32_t sums[4];
                job->sums(code, (const int8_t *)block, codes->n, signs, sums);
                rk__bits_factors(metric,
                                 (const float[4]){(float)sums[0], (float)sums[1], (float)sums[2],
                                                  (float)sums[3]},
                                 &add, &mul);
            } else {
                rk__tile_widen(code, codes->n, other);
                rk__bits_encode(metric, other, own, (uint32_t)codes->n, signs, &add, &mul);
            }
            rk__bits_place(signs, (uint32_t)codes->n, slot, group + RK__BLOCK_BITS);
        }
        ((float *)(void *)group)[slot] = add;
        ((float *)(void *)(group + RK__BLOCK_MUL))[slot] = mul;
        ((uint32_t *)(void *)(group + RK__BLOCK_LINKS))[slot] = ended ? RK__NO_ROW : next;
    }
}

/* Asks for the codes of the neighbours of |row|, which lie anywhere. */
static void
fetch_codes(const block_job *job, size_t row)
{
    const rk__hnsw_codes *codes = &job->graph->codes;
    const rk__hnsw_level *ground = &job->graph->levels[0];
    const rk__link *links = ground->links + row * ground->stride;

    for (uint32_t i = 0; i < ground->cap; i++) {
        uint32_t next = rk__link_get(&links[i]);
        if (next >= ground->nodes) {
            break;
        }
        rk__fetch(codes->data + (size_t)next * codes->stride, codes->n);
    }
}

static void
make_chunk(void *arg, size_t chunk)
{
    const block_job *job = arg;
    size_t n = job->graph->codes.n;
    size_t rows = job->index->space.rows;
    float *own = rk_alloc_aligned(64, n * 2 * sizeof(float) + n / 8);

    if (!own) {
        atomic_store(job->failed, true);
        return;
    }
    size_t to = RK_MIN((chunk + 1) * CHUNK, rows);
    for (size_t r = chunk * CHUNK; r < to; r++) {
        if (r + 1 < to) {
            fetch_codes(job, r + 1);
        }
        make_block(job, r, own, own + n, (uint8_t *)(own + 2 * n));
    }
    rk_free(own);
}

rk_code
rk__hnsw_make_blocks(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    size_t rows = index->space.rows;
    _Atomic(bool) failed = false;
    block_job job = {.index = index,
                     .graph = graph,
                     .failed = &failed,
                     .options = options,
                     .sums = rk__tile_sums_get()};
    size_t before = rows * (graph->codes.stride + graph->levels[0].stride * sizeof(uint32_t));

    if (!graph->codes.data || rows == 0) {
        return RK_OK;
    }
    job.blocks = rk__hnsw_blocks_of((uint32_t)graph->codes.n, rk__hnsw_width(graph->M));
    RK_RET(rk__index_reserve(index, (uint64_t)rows * job.blocks.stride, "HNSW blocks", err));
    job.data = rk__alloc_huge(rows * job.blocks.stride);
    graph->owned[6] = job.data;
    if (!job.data) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for %zu blocks of %zu bytes", rows,
                       job.blocks.stride);
    }
    rk__parallel_run(options->parallel, (rows + CHUNK - 1) / CHUNK, make_chunk, &job);
    if (failed) {
        return rk_fail(err, RK_ENOMEM, "HNSW build: no memory for the rows of a block");
    }
    graph->blocks = job.blocks;
    rk__hnsw_use_blocks(graph, job.data, rows);
    rk_free(graph->owned[0]);
    rk_free(graph->owned[3]);
    graph->owned[0] = NULL;
    graph->owned[3] = NULL;
    rk__index_release(index, before);
    return RK_OK;
}

/* ---- walking ---- */

rk__block_query
rk__block_query_of(const rk__hnsw *graph, const rk__space *space, rk__hnsw_scratch *s)
{
    const rk__kernels *kernels = rk__kernels_get();
    const rk__hnsw_codes *codes = &graph->codes;
    bool ip = space->metric == RK_METRIC_IP;
    rk__block_query q = {
        .scan32 = kernels->scan32_low, .bits.lut = s->lut, .unit = ip ? -1.0f : 1.0f};
    float inverse = 1.0f / codes->scale;

    for (size_t i = 0; i < codes->n; i++) {
        s->scaled[i] = s->rotated[i] * inverse;
    }
    rk__bits_query_init(&q.bits, s->scaled, (uint32_t)codes->n);
    if (!ip && s->largest > 127.0f) {
        q.code4 = kernels->code_l2x4;
        q.code = s->query;
        return q;
    }
    if (ip) {
        inverse = s->largest > 0 ? 127.0f / s->largest : 0;
        q.unit = s->largest > 0 ? -s->largest / 127.0f : -1.0f;
    } else {
        inverse = 1;
    }
    for (size_t i = 0; i < codes->n; i++) {
        s->code[i] = (int8_t)lrintf(s->scaled[i] * inverse);
    }
    q.dist = ip ? kernels->dense[RK__I8].ip : kernels->dense[RK__I8].l2;
    q.code = s->code;
    return q;
}

/* Estimates the neighbours of a popped node and puts the promising ones into the pool; returns the
 * lowest place taken, or UINT32_MAX. */
static uint32_t
scan_block(const rk__hnsw *graph, const rk__block_query *q, const uint8_t *block, float key,
           size_t rows, rk__hnsw_scratch *s)
{
    const uint8_t *group = block + graph->codes.n;
    uint32_t lowest = UINT32_MAX;
    float est[RK__BITS_ROWS];

    for (uint32_t g = 0; g < graph->blocks.width;
         g += RK__BITS_ROWS, group += graph->blocks.group) {
        const float *factors = (const float *)(const void *)group;
        const uint32_t *links = (const uint32_t *)(const void *)(group + RK__BLOCK_LINKS);
        float below = rk__hop_worst(&s->pool);
        uint32_t mask = q->scan32(
            q->bits.lut, group + RK__BLOCK_BITS, rk__bits_groups((uint32_t)graph->codes.n), factors,
            factors + RK__BITS_ROWS, q->bits.unit, q->bits.bias, key, below, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            uint32_t at = 0;
            if (RK_UNLIKELY(links[i] >= rows) || rk__hop_visited(s, links[i])) {
                continue;
            }
            if (rk__hop_vouch(&s->pool, s->vouched, est[i], links[i], &at)) {
                lowest = RK_MIN(lowest, at);
            }
        }
    }
    return lowest;
}

static inline void
walk_start(const rk__hnsw *graph, const rk__space *space, uint32_t entry, bool alone,
           rk__hnsw_scratch *s, rk__block_walk *w)
{
    uint32_t at = 0;

    w->query = rk__block_query_of(graph, space, s);
    s->pool.n = 0;
    s->results.n = 0;
    memset(s->vouched, 0xff, sizeof(s->vouched));
    if (entry < space->rows) {
        (void)rk__pool_insert(&s->pool, 0, entry, &at);
    }
    w->at = 0;
    w->node = rk__hop_next(&graph->blocks, s, w->pops, alone, &w->at);
}

static inline void
walk_step(const rk__hnsw *graph, const rk__space *space, bool alone, rk__hnsw_scratch *s,
          rk__block_walk *w)
{
    const uint8_t *block = graph->blocks.data + (size_t)w->node * graph->blocks.stride;
    float key = rk__hop_key(&w->query, block, graph->codes.n);
    uint32_t place = 0;

    (void)rk__pool_insert(&s->results, key, w->node, &place);
    uint32_t lowest = scan_block(graph, &w->query, block, key, space->rows, s);
    w->at = RK_MIN(w->at, lowest);
    w->node = rk__hop_next(&graph->blocks, s, w->pops, alone, &w->at);
}

static void
walk_end(const rk__hnsw *graph, rk__hnsw_scratch *s, rk__block_walk *w)
{
    rk__hop_score_rest(graph, &w->query, &s->pool, s);
    rk__clear_visited(s);
}

void
rk__hnsw_walk_blocks(const rk__hnsw *graph, const rk__space *space, uint32_t entry, uint32_t pops,
                     rk__hnsw_scratch *s)
{
    rk__block_walk w = {.pops = pops};

    walk_start(graph, space, entry, true, s, &w);
    while (w.node != RK__NO_ROW) {
        walk_step(graph, space, true, s, &w);
    }
    walk_end(graph, s, &w);
}

void
rk__block_walk_start(const rk__hnsw *graph, const rk__space *space, uint32_t entry,
                     rk__hnsw_scratch *s, rk__block_walk *w)
{
    walk_start(graph, space, entry, false, s, w);
}

bool
rk__block_walk_step(const rk__hnsw *graph, const rk__space *space, rk__hnsw_scratch *s,
                    rk__block_walk *w)
{
    if (w->node == RK__NO_ROW) {
        walk_end(graph, s, w);
        return false;
    }
    walk_step(graph, space, false, s, w);
    return true;
}
