/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The graph on disk: its arrays as they lie in memory, used mapped. Sections, see docs/formats.md:
 *
 *   1   inverse norms (COSINE)
 *   10  header: u32 M, ef_construction, n_levels, entry row, flags, f32 scale, then 16 u32 node
 *       counts of levels 1..16
 *   11  ground links, u32, rows * stride, stride = 2 M rounded up to 16; not with blocks
 *   12  rows of the upper nodes, u32, by falling level
 *   13  upper links, u32: for each level from 1, nodes * M
 *   15  mean of the codes, f32, dim
 *   16  chains, u32, rows
 *   17  blocks, rows * stride, see hnsw/hnsw.h
 *   18  codes of a graph without blocks, i8, rows * (dim rounded up to 64)
 *   19  which ef gives which recall, rk__hnsw_curve
 *   30 and on: clusters of the same rows, see cluster/image.c
 *
 * Sizes follow from the header and are checked; numbers of nodes and rows inside the arrays are
 * checked where they are used. Section 14 held codes of vectors that were not rotated.
 */
#include "index/cluster/cluster.h"
#include "index/hnsw/hnsw.h"

#define FLAG_CODES    1u
#define FLAG_CHAINS   2u
#define FLAG_COMPLETE 4u
#define FLAG_BLOCKS   8u
#define FLAG_CURVE    16u
#define FLAG_LISTS    32u
#define FLAG_AUTO     64u
#define FLAG_UNEVEN   128u
#define FLAG_ON_CODES 256u

void
rk__hnsw_seal(rk__hnsw *graph)
{
    uint32_t *head = graph->image_head;

    head[0] = graph->M;
    head[1] = graph->ef_construction;
    head[2] = graph->n_levels;
    head[3] = graph->entry;
    head[4] = (graph->codes.data ? FLAG_CODES : 0) | (graph->chain ? FLAG_CHAINS : 0) |
              (graph->codes.complete ? FLAG_COMPLETE : 0) | (graph->blocks.data ? FLAG_BLOCKS : 0) |
              (graph->curve.n > 0 ? FLAG_CURVE : 0) | (graph->lists ? FLAG_LISTS : 0) |
              (graph->automatic ? FLAG_AUTO : 0) | (graph->uneven ? FLAG_UNEVEN : 0) |
              (graph->on_codes ? FLAG_ON_CODES : 0);
    memcpy(&head[5], &graph->codes.scale, sizeof(float));
    for (uint32_t l = 1; l <= RK__HNSW_LEVELS_MAX; l++) {
        head[5 + l] = graph->levels[l].nodes;
    }
}

void
rk__hnsw_sections(const rk_index *index, rk__sections *out)
{
    rk__hnsw *graph = index->impl;
    size_t rows = index->space.rows;
    uint64_t upper = 0;

    for (uint32_t l = 1; l <= graph->n_levels; l++) {
        upper += (uint64_t)graph->levels[l].nodes * graph->M;
    }
    rk__norms_section(index, out);
    rk__sections_add(out, 10, graph->image_head, sizeof(graph->image_head));
    if (graph->blocks.data) {
        rk__sections_add(out, 17, graph->blocks.data, (uint64_t)rows * graph->blocks.stride);
    } else {
        rk__sections_add(out, 11, (const void *)(uintptr_t)graph->levels[0].links,
                         (uint64_t)rows * graph->levels[0].stride * sizeof(uint32_t));
    }
    rk__sections_add(out, 12, graph->levels[1].node_rows,
                     (uint64_t)graph->n_upper * sizeof(uint32_t));
    rk__sections_add(out, 13, (const void *)(uintptr_t)graph->levels[1].links,
                     upper * sizeof(uint32_t));
    if (graph->codes.data) {
        if (!graph->blocks.data) {
            rk__sections_add(out, 18, graph->codes.data, (uint64_t)rows * graph->codes.stride);
        }
        rk__sections_add(out, 15, graph->codes.mean, (uint64_t)index->space.dim * sizeof(float));
    }
    if (graph->chain) {
        rk__sections_add(out, 16, graph->chain, (uint64_t)rows * sizeof(uint32_t));
    }
    if (graph->curve.n > 0) {
        rk__sections_add(out, 19, &graph->curve, sizeof(graph->curve));
    }
    if (graph->lists) {
        rk__cluster_add_sections(graph->lists, out);
    }
}

static rk_code
open_header(rk_index *index, rk__hnsw *graph, const uint32_t *head, uint64_t *upper, rk_err *err)
{
    size_t rows = index->space.rows;

    graph->M = head[0];
    graph->ef_construction = head[1];
    graph->n_levels = head[2];
    graph->entry = head[3];
    if (graph->M < 2 || graph->M > 2048 || graph->n_levels > RK__HNSW_LEVELS_MAX ||
        (graph->entry >= rows && graph->entry != RK__NO_ROW)) {
        return rk_fail(err, RK_ECORRUPT, "HNSW image: M %u, %u levels, entry %u of %zu rows",
                       graph->M, graph->n_levels, graph->entry, rows);
    }
    for (uint32_t l = 1; l <= RK__HNSW_LEVELS_MAX; l++) {
        uint32_t nodes = head[5 + l];
        uint32_t below = l == 1 ? (uint32_t)rows : head[4 + l];
        if (nodes > below || (nodes > 0) != (l <= graph->n_levels)) {
            return rk_fail(err, RK_ECORRUPT, "HNSW image: %u nodes on level %u, %u below", nodes, l,
                           below);
        }
        graph->levels[l].nodes = nodes;
        *upper += (uint64_t)nodes * graph->M;
    }
    graph->n_upper = graph->levels[1].nodes;
    return RK_OK;
}

static rk_code
open_codes(rk_index *index, rk__hnsw *graph, const rk__sections *sections, const uint32_t *head,
           rk_err *err)
{
    size_t rows = index->space.rows;
    rk__rotation rotation = rk__hnsw_rotation(index->space.dim);
    size_t stride = rotation.padded;
    const void *data = NULL;
    const void *mean = NULL;
    float scale = 0;

    memcpy(&scale, &head[5], sizeof(scale));
    if (!(head[4] & FLAG_BLOCKS)) {
        RK_RET(rk__sections_get(sections, 18, (uint64_t)rows * stride, &data, NULL, err));
    }
    RK_RET(rk__sections_get(sections, 15, (uint64_t)index->space.dim * sizeof(float), &mean, NULL,
                            err));
    if (!(scale > 0 && isfinite(scale) && isfinite(1 / scale)) ||
        index->space.type == RK_VEC_BINARY) {
        return rk_fail(err, RK_ECORRUPT, "HNSW image: codes with scale %g", (double)scale);
    }
    graph->codes = (rk__hnsw_codes){.data = data,
                                    .stride = stride,
                                    .n = stride,
                                    .rotation = rotation,
                                    .mean = mean,
                                    .scale = scale,
                                    .complete = (head[4] & FLAG_COMPLETE) != 0};
    return RK_OK;
}

static rk_code
open_blocks(rk_index *index, rk__hnsw *graph, const rk__sections *sections, rk_err *err)
{
    size_t rows = index->space.rows;
    const void *data = NULL;

    if (!graph->codes.mean) {
        return rk_fail(err, RK_ECORRUPT, "HNSW image: blocks without codes");
    }
    graph->blocks = rk__hnsw_blocks_of((uint32_t)graph->codes.n, rk__hnsw_width(graph->M));
    RK_RET(rk__sections_get(sections, 17, (uint64_t)rows * graph->blocks.stride, &data, NULL, err));
    /* Blocks of a mapped graph are only read. */
    rk__hnsw_use_blocks(graph, (uint8_t *)(uintptr_t)data, rows);
    return RK_OK;
}

/* What lies beside the graph. Images of earlier builds have nothing. */
static rk_code
open_beside(rk_index *index, rk__hnsw *graph, const rk__sections *sections, uint32_t flags,
            rk_err *err)
{
    const void *at = NULL;

    graph->automatic = (flags & FLAG_AUTO) != 0;
    graph->uneven = (flags & FLAG_UNEVEN) != 0;
    graph->on_codes =
        (flags & FLAG_ON_CODES) != 0 && graph->blocks.data && graph->blocks.width == RK__BITS_ROWS;
    if (flags & FLAG_CURVE) {
        RK_RET(rk__sections_get(sections, 19, sizeof(graph->curve), &at, NULL, err));
        memcpy(&graph->curve, at, sizeof(graph->curve));
        if (!rk__hnsw_curve_is_sound(&graph->curve)) {
            return rk_fail(err, RK_ECORRUPT,
                           "HNSW image: the recall of its %u points does not rise with ef",
                           graph->curve.n);
        }
    }
    if ((flags & FLAG_LISTS) && index->space.type != RK_VEC_BINARY &&
        index->space.type != RK_VEC_I8) {
        return rk__cluster_read(index, &graph->lists, sections, err);
    }
    return RK_OK;
}

rk_code
rk__hnsw_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__hnsw *graph = rk_alloc_zero(1, sizeof(*graph));
    size_t rows = index->space.rows;
    const void *at = NULL;
    const uint32_t *head = NULL;
    uint64_t upper = 0;

    if (!graph) {
        return rk_fail(err, RK_ENOMEM, "HNSW image: no memory for its header");
    }
    index->impl = graph;
    RK_RET(rk__norms_open(index, sections, err));
    RK_RET(rk__sections_get(sections, 10, sizeof(graph->image_head), &at, NULL, err));
    head = at;
    memcpy(graph->image_head, head, sizeof(graph->image_head));
    RK_RET(open_header(index, graph, head, &upper, err));

    uint32_t cap0 = graph->M * 2;
    uint32_t stride0 = (cap0 + 15) / 16 * 16;
    if (!(head[4] & FLAG_BLOCKS)) {
        RK_RET(rk__sections_get(sections, 11, (uint64_t)rows * stride0 * sizeof(uint32_t), &at,
                                NULL, err));
    }
    /* Links of a mapped graph are only read; the type is that of the build. */
    graph->levels[0] = (rk__hnsw_level){.links = (rk__link *)(uintptr_t)at,
                                        .stride = stride0,
                                        .cap = cap0,
                                        .nodes = (uint32_t)rows};
    const void *upper_rows = NULL;
    RK_RET(rk__sections_get(sections, 12, (uint64_t)graph->n_upper * sizeof(uint32_t), &upper_rows,
                            NULL, err));
    RK_RET(rk__sections_get(sections, 13, upper * sizeof(uint32_t), &at, NULL, err));
    rk__link *links = (rk__link *)(uintptr_t)at;
    for (uint32_t l = 1; l <= graph->n_levels; l++) {
        graph->levels[l].links = links;
        graph->levels[l].stride = graph->M;
        graph->levels[l].cap = graph->M;
        graph->levels[l].node_rows = upper_rows;
        links += (size_t)graph->levels[l].nodes * graph->M;
    }
    if (head[4] & FLAG_CODES) {
        RK_RET(open_codes(index, graph, sections, head, err));
    }
    if (head[4] & FLAG_BLOCKS) {
        RK_RET(open_blocks(index, graph, sections, err));
    }
    if (head[4] & FLAG_CHAINS) {
        RK_RET(rk__sections_get(sections, 16, (uint64_t)rows * sizeof(uint32_t), &at, NULL, err));
        graph->chain = at;
    }
    return open_beside(index, graph, sections, head[4], err);
}

void
rk__hnsw_free(rk_index *index)
{
    rk__hnsw *graph = index->impl;

    if (!graph) {
        return;
    }
    rk__hnsw_scratch_free_all(graph);
    rk__cluster_delete(graph->lists);
    for (size_t i = 0; i < RK_COUNT(graph->owned); i++) {
        rk_free(graph->owned[i]);
    }
    rk_free(graph);
}

const rk__verbs rk__hnsw_verbs = {
    .build = rk__hnsw_build_all,
    .merge = rk__hnsw_merge_all,
    .search = rk__hnsw_search,
    .search_many = rk__hnsw_search_many,
    .sections = rk__hnsw_sections,
    .open = rk__hnsw_open,
    .free = rk__hnsw_free,
    .order = rk__hnsw_order_filter,
};
