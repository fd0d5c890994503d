/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of the engine: builds, searches and frees an index of any kind. Checks that are the
 * same for all kinds are made here once (shape of the matrix, metric against type, length of the
 * query), memory is charged to the caller's budget here, and a kind gets a prepared query and a
 * heap of k places.
 */
#include <sys/mman.h>

#include "index/index_private.h"
#include "index/params.h"

/* The engines of this build; a kind without one is refused by name. */
/* clang-format off */
static const rk__verbs *const engines[RK__KINDS] = {
    [RK__KIND_FLAT] = &rk__flat_verbs,
    [RK__KIND_BIN_FLAT] = &rk__flat_verbs,
    [RK__KIND_HNSW] = &rk__hnsw_verbs,
    [RK__KIND_IVF_FLAT] = &rk__ivf_verbs,
    [RK__KIND_BIN_IVF_FLAT] = &rk__ivf_verbs,
    [RK__KIND_SPARSE_INVERTED] = &rk__sparse_verbs,
    [RK__KIND_SPARSE_WAND] = &rk__sparse_verbs,
    [RK__KIND_DISKANN] = &rk__disk_verbs,
    [RK__KIND_AISAQ] = &rk__disk_verbs,
    [RK__KIND_MINHASH_LSH] = &rk__minhash_verbs,
    [RK__KIND_IVF_RABITQ] = &rk__cluster_verbs,
    [RK__KIND_IVF_RABITQ_FASTSCAN] = &rk__cluster_verbs,
    [RK__KIND_IVF_SQ8] = &rk__ivf_codes_verbs,
    [RK__KIND_IVF_PQ] = &rk__ivf_codes_verbs,
    [RK__KIND_SCANN] = &rk__ivf_codes_verbs,
    [RK__KIND_HNSW_SQ] = &rk__hnsw_codes_verbs,
    [RK__KIND_HNSW_PQ] = &rk__hnsw_codes_verbs,
    [RK__KIND_HNSW_PRQ] = &rk__hnsw_codes_verbs,
};
/* clang-format on */

const rk__verbs *
rk__kind_verbs(rk__kind_id kind)
{
    return (size_t)kind < RK_COUNT(engines) ? engines[kind] : NULL;
}

void *
rk__alloc_huge(size_t size_bytes)
{
    const size_t huge = (size_t)2 << 20;
    void *p = NULL;

    if (size_bytes < 2 * huge) {
        return rk_alloc_aligned(64, (size_bytes + 63) / 64 * 64);
    }
    size_bytes = (size_bytes + huge - 1) / huge * huge;
    p = rk_alloc_aligned(huge, size_bytes);
    if (p) {
        (void)madvise(p, size_bytes,
                      MADV_HUGEPAGE); /* advice only: small pages work as well, slower */
    }
    return p;
}

void
rk__parallel_run(const rk_parallel *parallel, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
    if (parallel) {
        parallel->run(parallel->self, n, fn, arg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        fn(arg, i);
    }
}

rk_code
rk__index_reserve(rk_index *index, uint64_t size_bytes, const char *what, rk_err *err)
{
    RK_RET(rk_mem_reserve(index->mem, size_bytes, what, err));
    index->reserved_bytes += size_bytes;
    return RK_OK;
}

void
rk__index_release(rk_index *index, uint64_t size_bytes)
{
    RK_ASSERT(index->reserved_bytes >= size_bytes);
    rk_mem_release(index->mem, size_bytes);
    index->reserved_bytes -= size_bytes;
}

rk_code
rk__index_norms(rk_index *index, rk_err *err)
{
    size_t rows = index->space.rows;

    if (index->space.metric != RK_METRIC_COSINE || rows == 0 || index->own_norms) {
        return RK_OK;
    }
    RK_RET(rk__index_reserve(index, rows * sizeof(float), "index norms", err));
    index->own_norms = rk__alloc_huge(rows * sizeof(float));
    if (!index->own_norms) {
        return rk_fail(err, RK_ENOMEM, "index norms: no memory for %zu rows", rows);
    }
    for (size_t i = 0; i < rows; i++) {
        index->own_norms[i] = rk__inv_norm(&index->space, rk__space_row(&index->space, i));
    }
    index->space.inv_norms = index->own_norms;
    return RK_OK;
}

void
rk__norms_section(const rk_index *index, rk__sections *out)
{
    if (index->space.inv_norms) {
        rk__sections_add(out, RK__SECTION_NORMS, index->space.inv_norms,
                         index->space.rows * sizeof(float));
    }
}

rk_code
rk__norms_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    const void *norms = NULL;

    if (index->space.metric != RK_METRIC_COSINE || index->space.rows == 0) {
        return RK_OK;
    }
    RK_RET(rk__sections_get(sections, RK__SECTION_NORMS, index->space.rows * sizeof(float), &norms,
                            NULL, err));
    index->space.inv_norms = norms;
    return RK_OK;
}

static rk_code
check_vectors(const rk_vectors *vectors, rk_err *err)
{
    if (vectors->rows > (size_t)INT32_MAX) {
        return rk_fail(err, RK_ETOO_LARGE, "an index holds at most 2147483647 rows, got %zu",
                       vectors->rows);
    }
    if (vectors->type != RK_VEC_SPARSE &&
        (vectors->dim == 0 || vectors->dim > 262144 ||
         (vectors->type != RK_VEC_BINARY && vectors->dim > 32768))) {
        return rk_fail(err, RK_EINVAL, "invalid dimension: %u. should be in range 2 ~ 32768",
                       vectors->dim);
    }
    return RK_OK;
}

rk_code
rk__index_new(rk_index **out, rk__kind_id kind, rk_metric metric, const rk_vectors *vectors,
              rk_mem *mem, rk_err *err)
{
    rk_index *index = NULL;

    *out = NULL;
    RK_RET(check_vectors(vectors, err));
    if (!rk__kind_verbs(kind) || !rk__kind_takes(kind, vectors->type, metric)) {
        return rk_fail(err, RK_EINVAL, "index type %s does not take vector type %d with metric %s",
                       rk__kind_name(kind), (int)vectors->type, rk_metric_name(metric));
    }
    index = rk_alloc_zero(1, sizeof(*index));
    if (!index) {
        return rk_fail(err, RK_ENOMEM, "index: no memory for its header");
    }
    index->kind = kind;
    index->kind_name = rk__kind_name(kind);
    index->verbs = rk__kind_verbs(kind);
    index->vectors = *vectors;
    index->mem = mem;
    if (vectors->type != RK_VEC_SPARSE) {
        rk__space_init(&index->space, vectors, metric);
    } else {
        index->space = (rk__space){.type = vectors->type, .metric = metric, .rows = vectors->rows};
    }
    *out = index;
    return RK_OK;
}

rk_code
rk_index_build(rk_index **out, rk_str index_type, const rk_vectors *vectors,
               const rk_build_options *options, rk_err *err)
{
    rk_index *index = NULL;
    rk_code code = RK_OK;
    rk__kind_id kind = rk__kind_resolve(index_type, vectors->type, options->metric, vectors->rows);

    *out = NULL;
    if (!rk__kind_verbs(kind)) {
        return rk_fail(err, RK_EINDEX_NOT_SUPPORTED,
                       "index type %.*s is not part of this build: index type not supported",
                       RK_STR_ARG(index_type));
    }
    RK_ERR(rk__index_new(&index, kind, options->metric, vectors, options->mem, err));
    index->automatic = !index_type.data || rk_str_is(index_type, "AUTOINDEX");
    if (rk__auto_may_have_graph(index)) { /* its rows are counted half by the clusters */
        rk_build_options half = *options;
        half.rows_done_shift = 1;
        RK_ERR(index->verbs->build(index, &half, err));
        RK_ERR(rk__auto_graph(index, options, err));
    } else {
        RK_ERR(index->verbs->build(index, options, err));
    }
    if (options->rows_done) {
        *options->rows_done = vectors->rows;
    }
    *out = index;
    index = NULL;
out:
    rk_index_free(index);
    return code;
}

/* AUTOINDEX may have become a graph whatever the name resolves to. */
static bool
may_be_graph(rk_str index_type, rk_vector_type type)
{
    return rk__kind_is_auto(index_type) &&
           (type == RK_VEC_F32 || type == RK_VEC_F16 || type == RK_VEC_BF16);
}

bool
rk_index_merges(rk_str index_type, rk_vector_type type, rk_metric metric, size_t rows)
{
    const rk__verbs *verbs = rk__kind_verbs(rk__kind_resolve(index_type, type, metric, rows));

    return verbs && (verbs->merge || may_be_graph(index_type, type));
}

bool
rk_index_is_part(const rk_index *index)
{
    return index->verbs->merge != NULL;
}

static size_t
live_rows(const rk_merge_part *part)
{
    size_t n = 0;

    for (size_t i = 0; i < part->index->space.rows; i++) {
        n += part->rows[i] != RK_NO_ROW;
    }
    return n;
}

/* The part that a merge can begin with, NULL when there is none: it has half of the rows, and half
 * of its own are still there. */
static const rk_merge_part *
part_to_keep(const rk_merge_part *parts, size_t n_parts, const rk_vectors *vectors,
             rk_metric metric)
{
    const rk_merge_part *best = NULL;
    size_t most = 0;

    for (size_t i = 0; i < n_parts; i++) {
        const rk_index *part = parts[i].index;
        if (part->space.metric != metric || part->vectors.type != vectors->type ||
            part->vectors.dim != vectors->dim) {
            continue;
        }
        size_t live = live_rows(&parts[i]);
        if (live > most && live >= part->space.rows / 2 && live >= vectors->rows / 2) {
            most = live;
            best = &parts[i];
        }
    }
    return best;
}

rk_code
rk_index_merge(rk_index **out, rk_str index_type, const rk_vectors *vectors,
               const rk_merge_part *parts, size_t n_parts, const rk_build_options *options,
               rk_err *err)
{
    rk_index *index = NULL;
    rk_code code = RK_OK;
    rk__kind_id kind = rk__kind_resolve(index_type, vectors->type, options->metric, vectors->rows);
    const rk_merge_part *base = part_to_keep(parts, n_parts, vectors, options->metric);
    bool merged = false;

    *out = NULL;
    if (!base || !rk_index_is_part(base->index) ||
        (base->index->kind != kind && !may_be_graph(index_type, vectors->type))) {
        return RK_OK;
    }
    RK_ERR(rk__index_new(&index, base->index->kind, options->metric, vectors, options->mem, err));
    index->automatic = rk__kind_is_auto(index_type);
    code = rk_index_verify(base->index, options->cancel, err);
    if (code == RK_ECORRUPT) { /* whoever serves it will say so */
        rk_err_clear(err);
        code = RK_OK;
        goto out;
    }
    RK_ERR(code);
    RK_ERR(index->verbs->merge(index, base, options, &merged, err));
    if (merged) {
        *out = index;
        index = NULL;
    }
out:
    rk_index_free(index);
    return code;
}

void
rk_index_free(rk_index *index)
{
    if (!index) {
        return;
    }
    index->verbs->free(index);
    rk_free(index->own_norms);
    rk_mem_release(index->mem, index->reserved_bytes);
    rk_free(index);
}

void
rk_index_get_info(const rk_index *index, rk_index_info *out)
{
    *out = (rk_index_info){
        .kind = index->kind_name,
        .metric = index->space.metric,
        .type = index->vectors.type,
        .dim = index->vectors.dim,
        .rows = index->vectors.rows,
        .memory_bytes = sizeof(*index) + index->reserved_bytes + index->image.len,
        .verified = !index->unverified,
    };
}

void
rk_index_filter_free(rk_index_filter *filter)
{
    if (!filter) {
        return;
    }
    for (size_t i = 0; i < RK_COUNT(filter->owned); i++) {
        rk_free(filter->owned[i]);
    }
    rk_mem_release(filter->mem, filter->reserved_bytes);
    rk_free(filter);
}

size_t
rk_index_filter_bytes(const rk_index_filter *filter)
{
    return (size_t)filter->reserved_bytes;
}

rk_code
rk_index_filter_new(rk_index_filter **out, const rk_index *index, const rk_bitset *passing,
                    size_t count, rk_mem *mem, rk_err *err)
{
    rk_index_filter *filter = NULL;
    size_t rows = index->vectors.rows;
    rk_code code = RK_OK;

    *out = NULL;
    if (passing->nbits != rows || count > rows) {
        return rk_fail(err, RK_EINTERNAL, "a filter of %zu bits, %zu set, for an index of %zu rows",
                       passing->nbits, count, rows);
    }
    if (!index->verbs->order || count == 0 || count == rows) {
        return RK_OK;
    }
    filter = rk_alloc_zero(1, sizeof(*filter));
    if (!filter) {
        return rk_fail(err, RK_ENOMEM, "index filter: no memory for its header");
    }
    filter->index = index;
    filter->count = count;
    filter->mem = mem;
    RK_ERR(index->verbs->order(index, filter, passing, err));
    if (filter->lists.map) {
        *out = filter;
        filter = NULL;
    }
out:
    rk_index_filter_free(filter);
    return code;
}

/* The options a kind sees: a filter only where it leaves rows out, k no more than can be found. */
static rk_code
effective_options(const rk_index *index, const rk_search_options *options, rk_search_options *out,
                  rk_err *err)
{
    size_t rows = index->space.rows;

    *out = *options;
    if (options->filter && options->filter->nbits < rows) {
        return rk_fail(err, RK_EINTERNAL, "filter has %zu bits for %zu rows",
                       options->filter->nbits, rows);
    }
    if (options->ordered && (options->ordered->index != index || !options->filter ||
                             options->ordered->count != options->filter_count)) {
        return rk_fail(err, RK_EINTERNAL,
                       "the filter of %zu rows in the order of an index is of another index or not "
                       "of the %zu rows searched",
                       options->ordered->count, options->filter_count);
    }
    if (!options->filter || options->filter_count >= rows) {
        out->filter = NULL;
        out->ordered = NULL;
        out->filter_count = rows;
    }
    out->k = (uint32_t)RK_MIN((size_t)options->k, out->filter_count);
    return RK_OK;
}

static rk_code
check_query(const rk_index *index, const void *query, size_t query_len, rk_err *err)
{
    if (index->vectors.type == RK_VEC_SPARSE) {
        return rk__sparse_check(query, query_len, err);
    }
    if (query_len != index->space.row_bytes) {
        return rk_fail(err, RK_EINVAL, "query vector has %zu bytes, a row of dimension %u has %zu",
                       query_len, index->space.dim, index->space.row_bytes);
    }
    return RK_OK;
}

static rk_code
prepare_query(const rk_index *index, const rk_search_options *options, const void *data, size_t len,
              rk__query *query, rk__heap *heap, rk_err *err)
{
    *query = (rk__query){.data = data, .len = len};
    if (index->space.metric == RK_METRIC_COSINE) {
        query->inv_norm = rk__inv_norm(&index->space, data);
    }
    *heap = (rk__heap){.cap = options->k};
    heap->items = rk_arena_alloc(options->arena, (size_t)heap->cap * sizeof(*heap->items));
    if (!heap->items) {
        return rk_fail(err, RK_ENOMEM, "search: no memory for %u results", heap->cap);
    }
    return RK_OK;
}

rk_code
rk_index_search(const rk_index *index, const void *query, size_t query_len,
                const rk_search_options *options, rk_hit *hits, uint32_t *n, rk_err *err)
{
    rk_search_options opts;
    rk__query prepared;
    rk__heap heap;

    *n = 0;
    RK_RET(effective_options(index, options, &opts, err));
    RK_RET(check_query(index, query, query_len, err));
    if (opts.k == 0) {
        return RK_OK;
    }
    RK_RET(prepare_query(index, &opts, query, query_len, &prepared, &heap, err));
    RK_RET(index->verbs->search(index, &prepared, &opts, &heap, err));
    rk__heap_to_hits(&heap, index->space.metric, hits, n);
    return RK_OK;
}

/* Up to RK__MANY queries. */
static rk_code
search_group(const rk_index *index, const rk_str *queries, size_t n, const rk_search_options *opts,
             size_t stride, rk_hit *hits, uint32_t *counts, rk_err *err)
{
    rk__query prepared[RK__MANY];
    rk__heap heaps[RK__MANY];

    rk_arena_reset(opts->arena);
    for (size_t i = 0; i < n; i++) {
        RK_RET(check_query(index, queries[i].data, queries[i].len, err));
        RK_RET(prepare_query(index, opts, queries[i].data, queries[i].len, &prepared[i], &heaps[i],
                             err));
    }
    if (n == 1) {
        RK_RET(index->verbs->search(index, prepared, opts, heaps, err));
    } else {
        RK_RET(index->verbs->search_many(index, prepared, n, opts, heaps, err));
    }
    for (size_t i = 0; i < n; i++) {
        rk__heap_to_hits(&heaps[i], index->space.metric, hits + i * stride, &counts[i]);
    }
    return RK_OK;
}

rk_code
rk_index_search_many(const rk_index *index, const rk_str *queries, size_t n,
                     const rk_search_options *options, rk_hit *hits, uint32_t *counts, rk_err *err)
{
    rk_search_options opts;
    size_t most = index->verbs->search_many ? RK__MANY : 1;

    memset(counts, 0, n * sizeof(*counts));
    RK_RET(effective_options(index, options, &opts, err));
    for (size_t i = 0; opts.k == 0 && i < n; i++) {
        RK_RET(check_query(index, queries[i].data, queries[i].len, err));
    }
    for (size_t at = 0; opts.k > 0 && at < n; at += most) {
        RK_RET(rk__go_on(&opts, err));
        RK_RET(search_group(index, queries + at, RK_MIN(n - at, most), &opts, options->k,
                            hits + at * options->k, counts + at, err));
    }
    return RK_OK;
}
