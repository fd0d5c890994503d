/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact search: every row that passes the filter is scored. One pass over the rows in blocks of
 * four, results in a bounded heap. With a filter only the set bits are visited, gathered
 * and scored by four as well.
 *
 * FLAT and BIN_FLAT are this scan plus, for COSINE, the inverse norms of the rows; rk_flat_search()
 * is the same scan over rows that have no index, with norms computed on the way (the same kernel
 * gives the same bits). The graph and IVF kinds call the scan when few rows pass. On disk the kind
 * stores its norms only.
 */
#include "index/index_private.h"
#include "index/minhash.h"

#define BLOCK       32 /* rows scored at a time */
#define PASS        64 /* of one pass for several queries: rows that stay in the cache meanwhile, and */
#define PASS_BYTES  ((size_t)32 << 10) /* their bytes */
#define AHEAD_BYTES ((size_t)2048)     /* of a row asked for in advance */
#define WORDS       4                  /* of a filter, looked at together */
#define GATHER      64                 /* rows gathered before they are scored */
#define PIECE_ROWS  4096u /* of a pass, between which it may be stopped, at least; else */
#define PIECE_BYTES ((size_t)1 << 32) /* so many, counted for each query: a tenth of a second */

static inline void
offer(const rk__range *range, rk__heap *heap, float key, uint32_t row)
{
    if (rk__heap_rejects(heap, key)) {
        return;
    }
    if (!range->on || rk__in_range(range, key)) {
        rk__heap_push(heap, key, row);
    }
}

void
rk__scan_rows(const rk__space *space, const rk__query *query, const uint32_t *rows, size_t n,
              const rk__range *range, rk__heap *heap)
{
    float keys[BLOCK];

    for (size_t i = 0; i < n; i += BLOCK) {
        size_t m = RK_MIN(n - i, (size_t)BLOCK);
        rk__keys(space, query, rows + i, m, keys);
        for (size_t j = 0; j < m; j++) {
            offer(range, heap, keys[j], rows[i + j]);
        }
    }
}

/* Rows are numbered without |row_base| inside the space and with it in the heap. */
static void
score_rows(const rk__space *space, const rk__query *query, const uint32_t *rows, size_t n,
           size_t row_base, const rk__range *range, rk__heap *heap)
{
    float keys[BLOCK];

    for (size_t i = 0; i < n; i += BLOCK) {
        size_t m = RK_MIN(n - i, (size_t)BLOCK);
        rk__keys(space, query, rows + i, m, keys);
        for (size_t j = 0; j < m; j++) {
            offer(range, heap, keys[j], (uint32_t)(row_base + rows[i + j]));
        }
    }
}

static void
scan_all(const rk__space *space, const rk__query *query, size_t from, size_t to, size_t row_base,
         const rk__range *range, rk__heap *heap)
{
    size_t row = from;

    if (space->dist4) {
        const size_t ahead =
            8 *
            space->row_bytes; /* the hardware follows the stream; this only crosses pages early */
        for (; row + 4 <= to; row += 4) {
            const uint8_t *at = rk__space_row(space, row);
            const void *const four[4] = {at, at + space->row_bytes, at + 2 * space->row_bytes,
                                         at + 3 * space->row_bytes};
            float dist[4];
            __builtin_prefetch(at + ahead);
            space->dist4(query->data, four, space->dist_n, dist);
            for (size_t j = 0; j < 4; j++) {
                offer(range, heap, rk__key_of(space, query, dist[j], row + j),
                      (uint32_t)(row_base + row + j));
            }
        }
    }
    for (; row < to; row++) {
        offer(range, heap, rk__key(space, query, row), (uint32_t)(row_base + row));
    }
}

void
rk__scan(const rk__space *space, const rk__query *query, size_t from, size_t to, size_t row_base,
         const rk_bitset *filter, const rk__range *range, rk__heap *heap)
{
    rk__select_fn select = rk__kernels_get()->select;
    uint32_t rows[GATHER + WORDS * 64 + 16];
    size_t n = 0;

    if (heap->cap == 0 || from >= to) {
        return;
    }
    if (!filter) {
        scan_all(space, query, from, to, row_base, range, heap);
        return;
    }
    size_t first = row_base + from;
    size_t end = RK_MIN(row_base + to, filter->nbits);
    for (size_t word = first / 64; word * 64 < end; word += WORDS) {
        size_t m = RK_MIN((end + 63) / 64 - word, (size_t)WORDS);
        uint64_t words[WORDS];
        memcpy(words, filter->words + word, m * sizeof(*words));
        if (word * 64 < first) {
            words[0] &= ~UINT64_C(0) << first % 64;
        }
        if ((word + m) * 64 > end) {
            words[m - 1] &= ~UINT64_C(0) >> (64 - end % 64);
        }
        n += select(words, m, (uint32_t)(word * 64 - row_base), rows + n);
        if (n >= GATHER) {
            score_rows(space, query, rows, n, row_base, range, heap);
            n = 0;
        }
    }
    score_rows(space, query, rows, n, row_base, range, heap);
}

/* ---- several queries in one pass ---- */

typedef struct pass {
    const rk__space *space;
    const rk__query *const *queries;
    rk__heap *const *heaps;
    size_t n;
    size_t row_base;
    const rk__range *range;
} pass;

static inline float
key_with(const rk__space *space, const rk__query *query, float dist, float inv_row)
{
    return space->metric == RK_METRIC_IP       ? -dist
           : space->metric == RK_METRIC_COSINE ? -rk__cosine(dist, inv_row, query->inv_norm)
                                               : dist;
}

/* Four queries against |n| rows. The kernels give the same bits with their operands swapped: here
 * the row is the query and the queries are the rows. */
static void
pass_four(const pass *p, const uint32_t *rows, size_t n, const float *inv, size_t first, bool ahead)
{
    const rk__space *space = p->space;
    const rk__query *const *q = p->queries + first;
    rk__heap *const *heaps = p->heaps + first;
    const void *const four[4] = {q[0]->data, q[1]->data, q[2]->data, q[3]->data};
    size_t lines = RK_MIN(space->row_bytes, AHEAD_BYTES);

    for (size_t i = 0; i < n; i++) {
        float dist[4];
        if (ahead && i + 2 < n) {
            const char *at = rk__space_row(space, rows[i + 2]);
            for (size_t b = 0; b < lines; b += 64) {
                __builtin_prefetch(at + b);
            }
        }
        space->dist4(rk__space_row(space, rows[i]), four, space->dist_n, dist);
        for (size_t j = 0; j < 4; j++) {
            offer(p->range, heaps[j], key_with(space, q[j], dist[j], inv[i]),
                  (uint32_t)(p->row_base + rows[i]));
        }
    }
}

static void
pass_one(const pass *p, const uint32_t *rows, size_t n, size_t first)
{
    float keys[PASS];

    rk__keys(p->space, p->queries[first], rows, n, keys);
    for (size_t i = 0; i < n; i++) {
        offer(p->range, p->heaps[first], keys[i], (uint32_t)(p->row_base + rows[i]));
    }
}

/* All queries against up to PASS rows. */
static void
pass_rows(const pass *p, const uint32_t *rows, size_t n)
{
    const rk__space *space = p->space;
    float inv[PASS] = {0};
    size_t q = 0;

    if (space->dist4 && p->n >= 3) {
        for (size_t i = 0; space->metric == RK_METRIC_COSINE && i < n; i++) {
            inv[i] = space->inv_norms ? space->inv_norms[rows[i]]
                                      : rk__inv_norm(space, rk__space_row(space, rows[i]));
        }
        for (; q + 4 <= p->n; q += 4) {
            pass_four(p, rows, n, inv, q, q == 0);
        }
    }
    for (; q < p->n; q++) {
        pass_one(p, rows, n, q);
    }
}

void
rk__scan_rows_many(const rk__space *space, const rk__query *const *queries, rk__heap *const *heaps,
                   size_t n, const uint32_t *rows, size_t n_rows, const rk__range *range)
{
    pass p = {space, queries, heaps, n, 0, range};

    for (size_t i = 0; i < n_rows; i += PASS) {
        pass_rows(&p, rows + i, RK_MIN(n_rows - i, (size_t)PASS));
    }
}

void
rk__scan_many(const rk__space *space, const rk__query *queries, size_t n, size_t from, size_t to,
              size_t row_base, const rk_bitset *filter, const rk__range *range, rk__heap *heaps)
{
    const rk__query *query_of[RK__MANY];
    rk__heap *heap_of[RK__MANY];
    pass p = {space, query_of, heap_of, n, row_base, range};
    rk__select_fn select = rk__kernels_get()->select;
    size_t width =
        RK_MAX(RK_MIN(PASS_BYTES / RK_MAX(space->row_bytes, (size_t)1), (size_t)PASS), (size_t)8);
    uint32_t rows[PASS + WORDS * 64 + 16];
    size_t held = 0;

    if (n == 0 || heaps[0].cap == 0 || from >= to) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        query_of[i] = &queries[i];
        heap_of[i] = &heaps[i];
    }
    if (!filter) {
        for (size_t row = from; row < to; row += held) {
            held = RK_MIN(width, to - row);
            for (size_t i = 0; i < held; i++) {
                rows[i] = (uint32_t)(row + i);
            }
            pass_rows(&p, rows, held);
        }
        return;
    }
    size_t first = row_base + from;
    size_t end = RK_MIN(row_base + to, filter->nbits);
    for (size_t word = first / 64; word * 64 < end; word++) {
        uint64_t bits = filter->words[word];
        if (word * 64 < first) {
            bits &= ~UINT64_C(0) << first % 64;
        }
        if ((word + 1) * 64 > end) {
            bits &= ~UINT64_C(0) >> (64 - end % 64);
        }
        held += select(&bits, 1, (uint32_t)(word * 64 - row_base), rows + held);
        size_t at = 0;
        for (; held - at >= width; at += width) {
            pass_rows(&p, rows + at, width);
        }
        if (at > 0) {
            held -= at;
            memmove(rows, rows + at, held * sizeof(*rows));
        }
    }
    if (held > 0) {
        pass_rows(&p, rows, held);
    }
}

rk_code
rk__scan_pieces(const rk__space *space, const rk__query *queries, size_t n, size_t row_base,
                const rk_search_options *options, const rk__range *range, rk__heap *heaps,
                rk_err *err)
{
    size_t cost = RK_MAX(n * space->row_bytes, (size_t)1);
    size_t piece = RK_MAX(PIECE_BYTES / cost, (size_t)PIECE_ROWS);

    for (size_t row = 0; row < space->rows; row += piece) {
        RK_RET(rk__go_on(options, err));
        rk__scan_many(space, queries, n, row, RK_MIN(row + piece, space->rows), row_base,
                      options->filter, range, heaps);
    }
    return RK_OK;
}

/* ---- the kinds FLAT and BIN_FLAT ---- */

static rk_code
flat_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    if (options->rows_done) {
        *options->rows_done = index->vectors.rows;
    }
    return rk__index_norms(index, err);
}

static rk_code
flat_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
            rk__heap *heap, rk_err *err)
{
    rk__range range = rk__range_of(index->space.metric, options);

    RK_UNUSED(err);
    rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &range, heap);
    return RK_OK;
}

static rk_code
flat_search_many(const rk_index *index, const rk__query *queries, size_t n,
                 const rk_search_options *options, rk__heap *heaps, rk_err *err)
{
    rk__range range = rk__range_of(index->space.metric, options);

    return rk__scan_pieces(&index->space, queries, n, 0, options, &range, heaps, err);
}

static void
flat_sections(const rk_index *index, rk__sections *out)
{
    rk__norms_section(index, out);
}

static rk_code
flat_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    return rk__norms_open(index, sections, err);
}

static void
flat_free(rk_index *index)
{
    RK_UNUSED(index); /* nothing of its own */
}

const rk__verbs rk__flat_verbs = {
    .build = flat_build,
    .search = flat_search,
    .search_many = flat_search_many,
    .sections = flat_sections,
    .open = flat_open,
    .free = flat_free,
};

/* ---- raw rows without an index ---- */

/* Sparse rows are scored one by one: only a score above zero is a hit. */
static void
scan_sparse(const rk_vectors *vectors, size_t row_base, const rk__pair *pairs, size_t n_pairs,
            const rk_bitset *filter, const rk__range *range, rk__heap *heap)
{
    const uint8_t *data = vectors->data;

    for (size_t row = 0; row < vectors->rows; row++) {
        if (filter && (row_base + row >= filter->nbits || !rk_bitset_get(filter, row_base + row))) {
            continue;
        }
        uint64_t at = vectors->offsets[row];
        float score = rk__sparse_ip((const uint8_t *)pairs, n_pairs * sizeof(*pairs), data + at,
                                    vectors->offsets[row + 1] - at);
        if (score > 0) {
            offer(range, heap, -score, (uint32_t)(row_base + row));
        }
    }
}

static bool
metric_fits(rk_vector_type type, rk_metric metric)
{
    switch (type) {
    case RK_VEC_BINARY:
        return metric >= RK_METRIC_HAMMING && metric <= RK_METRIC_MHJACCARD;
    case RK_VEC_SPARSE:
        return metric == RK_METRIC_IP;
    case RK_VEC_F32:
    case RK_VEC_F16:
    case RK_VEC_BF16:
    case RK_VEC_I8:
        return metric == RK_METRIC_L2 || metric == RK_METRIC_IP || metric == RK_METRIC_COSINE;
    }
    return false;
}

/* Hits of before as a heap of |k| places. */
static rk_code
heap_of_hits(rk__heap *heap, const rk__range *range, const rk_search_options *options,
             const rk_hit *hits, uint32_t n, rk_err *err)
{
    RK_ASSERT(n <= options->k);
    *heap = (rk__heap){.cap = options->k, .n = n};
    heap->items = rk_arena_alloc(options->arena, (size_t)options->k * sizeof(*heap->items));
    if (!heap->items) {
        return rk_fail(err, RK_ENOMEM, "flat search: no memory for %u results", options->k);
    }
    for (uint32_t i = 0; i < n; i++) {
        heap->items[i] = (rk__near){range->larger ? -hits[i].score : hits[i].score, hits[i].row};
    }
    rk__heap_make(heap);
    return RK_OK;
}

static rk_code
dense_query(const rk__space *space, const void *data, size_t len, rk__query *query, rk_err *err)
{
    *query = (rk__query){.data = data, .len = len};
    if (len != space->row_bytes) {
        return rk_fail(err, RK_EINVAL, "query vector has %zu bytes, a row of dimension %u has %zu",
                       len, space->dim, space->row_bytes);
    }
    if (space->metric == RK_METRIC_COSINE) {
        query->inv_norm = rk__inv_norm(space, data);
    }
    return RK_OK;
}

static rk_code
check_metric(const rk_vectors *vectors, rk_metric metric, rk_err *err)
{
    if (!metric_fits(vectors->type, metric)) {
        return rk_fail(err, RK_EINVAL, "metric type %s does not fit vector type %d",
                       rk_metric_name(metric), (int)vectors->type);
    }
    return RK_OK;
}

rk_code
rk_flat_search(const rk_vectors *vectors, size_t row_base, rk_metric metric, const void *query,
               size_t query_len, const rk_search_options *options, rk_hit *hits, uint32_t *n,
               rk_err *err)
{
    rk__range range = rk__range_of(metric, options);
    rk__heap heap;

    RK_RET(check_metric(vectors, metric, err));
    if (options->k == 0 || vectors->rows == 0) {
        return RK_OK;
    }
    RK_RET(heap_of_hits(&heap, &range, options, hits, *n, err));
    if (vectors->type == RK_VEC_SPARSE) {
        const rk__pair *pairs = NULL;
        size_t n_pairs = 0;
        RK_RET(rk__sparse_check(query, query_len, err));
        RK_RET(rk__sparse_drop(query, query_len,
                               rk__param_float(options->params, "drop_ratio_search", 0, 0, 1),
                               options->arena, &pairs, &n_pairs, err));
        scan_sparse(vectors, row_base, pairs, n_pairs, options->filter, &range, &heap);
    } else if (metric == RK_METRIC_MHJACCARD) {
        RK_RET(rk__minhash_scan(vectors, row_base, query, query_len, options, &range, &heap, err));
    } else {
        rk__space space;
        rk__query prepared;
        rk__space_init(&space, vectors, metric);
        RK_RET(dense_query(&space, query, query_len, &prepared, err));
        rk__scan(&space, &prepared, 0, vectors->rows, row_base, options->filter, &range, &heap);
    }
    rk__heap_to_hits(&heap, metric, hits, n);
    return RK_OK;
}

/* Up to RK__MANY dense queries. */
static rk_code
flat_group(const rk__space *space, size_t row_base, const rk_str *queries, size_t n,
           const rk_search_options *options, rk_hit *hits, uint32_t *counts, rk_err *err)
{
    rk__range range = rk__range_of(space->metric, options);
    rk__query prepared[RK__MANY];
    rk__heap heaps[RK__MANY];

    rk_arena_reset(options->arena);
    for (size_t i = 0; i < n; i++) {
        RK_RET(dense_query(space, queries[i].data, queries[i].len, &prepared[i], err));
        RK_RET(heap_of_hits(&heaps[i], &range, options, hits + i * options->k, counts[i], err));
    }
    RK_RET(rk__scan_pieces(space, prepared, n, row_base, options, &range, heaps, err));
    for (size_t i = 0; i < n; i++) {
        rk__heap_to_hits(&heaps[i], space->metric, hits + i * options->k, &counts[i]);
    }
    return RK_OK;
}

rk_code
rk_flat_search_many(const rk_vectors *vectors, size_t row_base, rk_metric metric,
                    const rk_str *queries, size_t n, const rk_search_options *options, rk_hit *hits,
                    uint32_t *counts, rk_err *err)
{
    rk__space space;
    size_t k = options->k;

    RK_RET(check_metric(vectors, metric, err));
    if (k == 0 || vectors->rows == 0) {
        return RK_OK;
    }
    if (vectors->type == RK_VEC_SPARSE || metric == RK_METRIC_MHJACCARD || n == 1) {
        for (size_t i = 0; i < n; i++) {
            RK_RET(rk__go_on(options, err));
            rk_arena_reset(options->arena);
            RK_RET(rk_flat_search(vectors, row_base, metric, queries[i].data, queries[i].len,
                                  options, hits + i * k, &counts[i], err));
        }
        return RK_OK;
    }
    rk__space_init(&space, vectors, metric);
    for (size_t at = 0; at < n; at += RK__MANY) {
        RK_RET(flat_group(&space, row_base, queries + at, RK_MIN(n - at, (size_t)RK__MANY), options,
                          hits + at * k, counts + at, err));
    }
    return RK_OK;
}
