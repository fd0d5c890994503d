/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building, saving and opening a graph walked on codes. See hnsw/codes.h.
 *
 * Sections: 1 norms (COSINE), 110 head (u32 stride, u32 flags: 1 refined, 2 codes of refine_type,
 * 4 chain; zero up to 64 bytes), 111 links (rows * stride u32), 112 entries (u32), 113 rows that
 * are not linked (u32), 114 chain (u32 per row), 115 to 117 codes, 120 to 122 codes of refine_type
 * (both as code/coded.h says).
 */
#include "index/hnsw/codes.h"

#include "index/hnsw/hnsw.h"

/* ---- what is taken from HNSW ---- */

static uint32_t
ground_width(const rk_index *built)
{
    const rk__hnsw *graph = built->impl;

    return graph->blocks.data ? graph->blocks.width : graph->levels[0].cap;
}

static uint32_t
ground_link(const rk__hnsw *graph, uint32_t row, uint32_t i)
{
    const rk__hnsw_level *ground = &graph->levels[0];
    size_t at = (size_t)row * ground->stride + i;

    if (graph->blocks.data) { /* groups of 32 neighbours */
        at += (i / 32) * (graph->blocks.group / sizeof(uint32_t) - 32);
    }
    return rk__link_get(&ground->links[at]);
}

/* The neighbours of a row on the ground; returns how many. */
static uint32_t
ground_links(const rk_index *built, uint32_t row, uint32_t *out)
{
    const rk__hnsw *graph = built->impl;
    uint32_t width = ground_width(built);
    uint32_t n = 0;

    for (uint32_t i = 0; i < width; i++) {
        uint32_t next = ground_link(graph, row, i);
        if (next >= built->space.rows) {
            break;
        }
        out[n++] = next;
    }
    return n;
}

/* The row from which all linked rows are reached; RK__NO_ROW: nothing is linked. */
static uint32_t
ground_entry(const rk_index *built)
{
    const rk__hnsw *graph = built->impl;

    return graph->n_upper > 0 ? graph->levels[1].node_rows[0] : graph->entry;
}

static const uint32_t *
ground_chain(const rk_index *built)
{
    const rk__hnsw *graph = built->impl;

    return graph->chain;
}

/* ---- build ---- */

static rk_code
own(rk_index *index, size_t which, size_t size_bytes, uint32_t **out, rk_err *err)
{
    rk__hnswc *graph = index->impl;

    RK_RET(rk__index_reserve(index, size_bytes, "graph links", err));
    graph->owned[which] = rk__alloc_huge(RK_MAX(size_bytes, (size_t)64));
    if (!graph->owned[which]) {
        return rk_fail(err, RK_ENOMEM, "graph build: no memory for %zu bytes", size_bytes);
    }
    *out = graph->owned[which];
    return RK_OK;
}

/* Copies the ground level. */
static rk_code
take_links(rk_index *index, const rk_index *built, rk_err *err)
{
    rk__hnswc *graph = index->impl;
    size_t rows = index->space.rows;
    const uint32_t *chain = ground_chain(built);
    uint32_t *links = NULL;
    uint32_t *copy = NULL;

    graph->stride = ground_width(built);
    RK_RET(own(index, 0, rows * graph->stride * sizeof(uint32_t), &links, err));
    for (size_t r = 0; r < rows; r++) {
        uint32_t *list = links + r * graph->stride;
        for (uint32_t n = ground_links(built, (uint32_t)r, list); n < graph->stride; n++) {
            list[n] = RK__NO_ROW;
        }
    }
    graph->links = links;
    if (chain) {
        RK_RET(own(index, 3, rows * sizeof(uint32_t), &copy, err));
        memcpy(copy, chain, rows * sizeof(uint32_t));
        graph->chain = copy;
    }
    return RK_OK;
}

/* The graph's own entry first, then rows spread over all that are linked. */
static rk_code
choose_entries(rk_index *index, const rk_index *built, rk_err *err)
{
    rk__hnswc *graph = index->impl;
    size_t rows = index->space.rows;
    uint32_t entry = ground_entry(built);
    uint32_t *entries = NULL;
    uint64_t state = 77;

    RK_RET(own(index, 1, RK__HNSWC_ENTRIES_MAX * sizeof(uint32_t), &entries, err));
    graph->entries = entries;
    if (entry >= rows) {
        return RK_OK;
    }
    entries[graph->n_entries++] = entry;
    for (size_t tries = 0; tries < RK__HNSWC_ENTRIES_MAX * 4 && rows > 256; tries++) {
        uint32_t row = (uint32_t)(rk__random(&state) % rows);
        if (graph->links[(size_t)row * graph->stride] < rows &&
            graph->n_entries < RK__HNSWC_ENTRIES_MAX) {
            entries[graph->n_entries++] = row;
        }
    }
    return RK_OK;
}

/* Rows that the codes could not take. */
static rk_code
find_outside(rk_index *index, rk_err *err)
{
    rk__hnswc *graph = index->impl;
    size_t rows = index->space.rows;
    uint32_t *outside = NULL;
    size_t n = 0;

    for (size_t r = 0; r < rows; r++) {
        n += isinf(graph->coded.factors[r * 2]) ? 1 : 0;
    }
    RK_RET(own(index, 2, n * sizeof(uint32_t), &outside, err));
    for (size_t r = 0; r < rows; r++) {
        if (isinf(graph->coded.factors[r * 2])) {
            outside[graph->n_outside++] = (uint32_t)r;
        }
    }
    graph->outside = outside;
    return RK_OK;
}

static rk_code
choose_shape(const rk_index *index, rk_params params, rk__coded_shape *shape, rk_err *err)
{
    rk__kind_id kind = index->kind;

    *shape = (rk__coded_shape){.m = 1, .nbits = 8, .nrq = 1};
    if (kind == RK__KIND_HNSW_SQ) {
        shape->id = rk__codec_named(rk__build_word(kind, params, "sq_type"));
        return RK_OK;
    }
    shape->id = kind == RK__KIND_HNSW_PQ ? RK__CODEC_PQ : RK__CODEC_PRQ;
    shape->m = (uint32_t)rk__build_int(kind, params, "m");
    shape->nbits = (uint32_t)rk__build_int(kind, params, "nbits");
    if (kind == RK__KIND_HNSW_PRQ) {
        shape->nrq = (uint32_t)rk__build_int(kind, params, "nrq");
    }
    if (index->space.dim % shape->m != 0) {
        return rk_fail(err, RK_EINVAL,
                       "The dimension of %s vector (dim) should be a multiple of the number of "
                       "subquantizers (m). Dimension: %u, m: %u",
                       kind == RK__KIND_HNSW_PQ ? "the" : "a", index->space.dim, shape->m);
    }
    return RK_OK;
}

static rk_code
build_refine(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnswc *graph = index->impl;
    rk__coded_shape shape = {.m = 1, .nrq = 1};

    graph->refined = rk__build_bool(index->kind, options->params, "refine");
    shape.id = rk__codec_named(rk__build_word(index->kind, options->params, "refine_type"));
    if (!graph->refined || shape.id == RK__CODEC_NONE || shape.id == RK__CODEC_FP32) {
        return RK_OK; /* none, or the vectors themselves */
    }
    return rk__coded_build(&graph->refine, index, &shape, options, err);
}

static void
seal(rk__hnswc *graph)
{
    uint32_t flags = (graph->refined ? 1u : 0) |
                     (graph->refine.codec.id != RK__CODEC_NONE ? 2u : 0) | (graph->chain ? 4u : 0);

    rk_put_u32le(graph->head, graph->stride);
    rk_put_u32le(graph->head + 4, flags);
}

rk_code
rk__hnswc_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnswc *graph = rk_alloc_zero(1, sizeof(*graph));
    rk__coded_shape shape;
    rk_index *built = NULL;
    rk_code code = RK_OK;

    if (!graph) {
        return rk_fail(err, RK_ENOMEM, "graph build: no memory for its header");
    }
    index->impl = graph;
    RK_RET(choose_shape(index, options->params, &shape, err));
    RK_ERR(rk_index_build(&built, RK_STR("HNSW"), &index->vectors, options, err));
    RK_ERR(take_links(index, built, err));
    RK_ERR(choose_entries(index, built, err));
    rk_index_free(built);
    built = NULL;
    RK_ERR(rk__index_norms(index, err));
    RK_ERR(rk__coded_build(&graph->coded, index, &shape, options, err));
    RK_ERR(find_outside(index, err));
    RK_ERR(build_refine(index, options, err));
    seal(graph);
out:
    rk_index_free(built);
    return code;
}

/* ---- image ---- */

static void
hnswc_sections(const rk_index *index, rk__sections *out)
{
    const rk__hnswc *graph = index->impl;
    size_t rows = index->space.rows;

    rk__norms_section(index, out);
    rk__sections_add(out, 110, graph->head, sizeof(graph->head));
    rk__sections_add(out, 111, graph->links, rows * graph->stride * sizeof(uint32_t));
    rk__sections_add(out, 112, graph->entries, graph->n_entries * sizeof(uint32_t));
    rk__sections_add(out, 113, graph->outside, graph->n_outside * sizeof(uint32_t));
    if (graph->chain) {
        rk__sections_add(out, 114, graph->chain, rows * sizeof(uint32_t));
    }
    rk__coded_sections(&graph->coded, rows, 115, out);
    rk__coded_sections(&graph->refine, rows, 120, out);
}

/* An array of u32 of any length up to |most|. */
static rk_code
open_list(const rk__sections *sections, uint32_t id, size_t most, const uint32_t **out, uint32_t *n,
          rk_err *err)
{
    const void *at = NULL;
    uint64_t bytes = 0;

    RK_RET(rk__sections_get(sections, id, SIZE_MAX, &at, &bytes, err));
    if (bytes % sizeof(uint32_t) != 0 || bytes / sizeof(uint32_t) > most) {
        return rk_fail(err, RK_ECORRUPT, "graph image: section %u has %llu bytes", id,
                       (unsigned long long)bytes);
    }
    *out = at;
    *n = (uint32_t)(bytes / sizeof(uint32_t));
    return RK_OK;
}

static rk_code
hnswc_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__hnswc *graph = rk_alloc_zero(1, sizeof(*graph));
    size_t rows = index->space.rows;
    const void *at = NULL;
    uint32_t flags = 0;

    if (!graph) {
        return rk_fail(err, RK_ENOMEM, "graph image: no memory for its header");
    }
    index->impl = graph;
    RK_RET(rk__norms_open(index, sections, err));
    RK_RET(rk__sections_get(sections, 110, RK__HNSWC_HEAD_BYTES, &at, NULL, err));
    memcpy(graph->head, at, sizeof(graph->head));
    graph->stride = rk_get_u32le(graph->head);
    flags = rk_get_u32le(graph->head + 4);
    graph->refined = (flags & 1u) != 0;
    if (graph->stride == 0 || graph->stride > 8192) {
        return rk_fail(err, RK_ECORRUPT, "graph image: %u links a row", graph->stride);
    }
    RK_RET(rk__sections_get(sections, 111, (uint64_t)rows * graph->stride * sizeof(uint32_t), &at,
                            NULL, err));
    graph->links = at;
    RK_RET(
        open_list(sections, 112, RK__HNSWC_ENTRIES_MAX, &graph->entries, &graph->n_entries, err));
    RK_RET(open_list(sections, 113, rows, &graph->outside, &graph->n_outside, err));
    if (flags & 4u) {
        RK_RET(rk__sections_get(sections, 114, (uint64_t)rows * sizeof(uint32_t), &at, NULL, err));
        graph->chain = at;
    }
    RK_RET(rk__coded_open(&graph->coded, &index->space, sections, 115, err));
    return flags & 2u ? rk__coded_open(&graph->refine, &index->space, sections, 120, err) : RK_OK;
}

static void
hnswc_free(rk_index *index)
{
    rk__hnswc *graph = index->impl;

    if (!graph) {
        return;
    }
    rk__coded_free(&graph->coded);
    rk__coded_free(&graph->refine);
    for (size_t i = 0; i < RK_COUNT(graph->owned); i++) {
        rk_free(graph->owned[i]);
    }
    rk_free(graph);
}

const rk__verbs rk__hnsw_codes_verbs = {
    .build = rk__hnswc_build,
    .search = rk__hnswc_search,
    .sections = hnswc_sections,
    .open = hnswc_open,
    .free = hnswc_free,
};
