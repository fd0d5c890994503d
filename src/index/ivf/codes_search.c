/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching inverted lists of codes.
 *
 * The lists of the nprobe nearest centres are estimated row by row; the best candidates stay: about
 * one and a half times k, refine_k times k when the index was built with refine, reorder_k for
 * SCANN. They are cut down by the codes of refine_type, then scored by the vectors, so every score
 * is exact. Fewer passing rows than k in the probed lists: the search goes on to the next ones;
 * rows that are in no list are always scored. Few passing rows under a filter, a query that is not
 * finite, and a search that still lacks rows scan the vectors of the passing rows: exact.
 *
 * A range search takes rows whose estimate lies within the bounds or three standard errors of them
 * (measured at build) and goes on past nprobe until max_empty_result_buckets lists in a row gave
 * nothing, a page of an iterator until it is full (as in ivf/ivf.c). When more rows than
 * candidates qualified and the answer is not full, the vectors of the probed lists are scored.
 */
#include <stdlib.h>

#include "index/ivf/codes.h"

#define EXACT_ROWS 1024u /* up to this many passing rows are scored without codes */

typedef struct ivfc_search {
    const rk_index *index;
    const rk__ivfc *ivf;
    const rk_search_options *options;
    const rk__query *query;
    rk__ivfc_query prepared;
    rk__range range;
    float lower; /* of estimates; -infinity without a range */
    float upper;
    float slack;
    rk__heap best;   /* candidates by estimate */
    rk__near *lists; /* by nearness of their centre */
    bool dropped;    /* range: a row within the bounds found no place */
} ivfc_search;

/* ---- width of a search ---- */

static uint32_t
base_width(uint32_t k, size_t rows)
{
    return (uint32_t)RK_MIN((uint64_t)k + k / 2 + 6, (uint64_t)rows);
}

static uint32_t
search_width(const ivfc_search *s, uint32_t k)
{
    rk__kind_id kind = s->index->kind;
    rk_params params = s->options->params;
    size_t rows = s->index->space.rows;
    double want = base_width(k, rows);

    if (kind == RK__KIND_SCANN) {
        double reorder = (double)rk__search_int(kind, params, "reorder_k");
        want = s->ivf->refined ? RK_MAX(want, reorder) : want;
    } else if (s->ivf->refined) {
        want = RK_MAX(want, (double)k * rk__search_float(kind, params, "refine_k"));
    }
    if (s->options->range) {
        want = RK_MAX(want, 2.0 * k + 64);
    }
    return (uint32_t)RK_MIN(want, (double)rows);
}

/* A key of exact scores as an estimate: COSINE is L2 of normalised vectors there. */
static float
to_estimate(const rk__space *space, float key)
{
    return space->metric == RK_METRIC_COSINE ? 2 + 2 * key : key;
}

static void
set_bounds(ivfc_search *s)
{
    const rk__space *space = &s->index->space;
    bool larger = s->range.larger;

    s->lower = -INFINITY;
    s->upper = INFINITY;
    s->slack = 3 * s->ivf->error;
    if (s->range.on) {
        s->upper = to_estimate(space, larger ? -s->range.radius : s->range.radius);
        if (s->range.has_lower) {
            s->lower = to_estimate(space, larger ? -s->range.filter : s->range.filter);
        }
    }
}

/* ---- lists ---- */

static int
compare_lists(const void *a, const void *b)
{
    const rk__near *x = a;
    const rk__near *y = b;

    return rk__near_less(*x, *y) ? -1 : rk__near_less(*y, *x);
}

/* All lists by the key of their centre, at least the nearest |first| in order in front. */
static rk_code
order_lists(ivfc_search *s, uint32_t first, rk_err *err)
{
    const rk__ivfc *ivf = s->ivf;
    rk__heap nearest = {.cap = first};
    rk_arena *arena = s->options->arena;
    float keys[64];

    if (!s->lists) {
        s->lists = rk_arena_alloc(arena, (size_t)ivf->nlist * sizeof(*s->lists));
    }
    if (!s->lists) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for %u lists", ivf->nlist);
    }
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        if (l % RK_COUNT(keys) == 0) {
            rk__ivfc_centre_keys(ivf, &s->index->space, s->prepared.vector, l,
                                 RK_MIN(ivf->nlist - l, (uint32_t)RK_COUNT(keys)), keys);
        }
        float key = keys[l % RK_COUNT(keys)];
        s->lists[l] = (rk__near){key == key ? key : INFINITY, l};
    }
    if (first >= ivf->nlist) {
        qsort(s->lists, ivf->nlist, sizeof(*s->lists), compare_lists);
        return RK_OK;
    }
    nearest.items = rk_arena_alloc(arena, (size_t)first * sizeof(*nearest.items));
    if (!nearest.items) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for %u lists", first);
    }
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        if (!rk__heap_rejects(&nearest, s->lists[l].key)) {
            rk__heap_push(&nearest, s->lists[l].key, l);
        }
    }
    rk__heap_sort(&nearest);
    memcpy(s->lists, nearest.items, first * sizeof(*nearest.items)); /* the rest is made again if
                                                                        it is ever needed */
    return RK_OK;
}

static bool
passes(const ivfc_search *s, uint32_t row)
{
    return row < s->index->space.rows &&
           (!s->options->filter || rk_bitset_get(s->options->filter, row));
}

/* Estimates at or above this one are of no use any more. */
static float
bound_of(const ivfc_search *s)
{
    if (s->range.on) {
        return nextafterf(s->upper + s->slack, INFINITY);
    }
    return rk__heap_full(&s->best) ? s->best.items[0].key : INFINITY;
}

/* Offers the slots in |mask|; returns how many passing rows lay within the bounds. */
static size_t
offer(ivfc_search *s, const uint32_t *rows, uint32_t mask, const float *est)
{
    float above = s->lower - s->slack;
    size_t in_range = 0;

    for (; mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        if (!(est[i] >= above) || !passes(s, rows[i])) {
            continue;
        }
        in_range += est[i] <= s->upper && est[i] >= s->lower;
        s->dropped = s->dropped || rk__heap_full(&s->best);
        rk__heap_push(&s->best, est[i], rows[i]);
    }
    return in_range;
}

static bool
any_passes(const ivfc_search *s, const uint32_t *rows, size_t n)
{
    bool any = !s->options->filter;

    for (size_t i = 0; i < n && !any; i++) {
        any = passes(s, rows[i]);
    }
    return any;
}

static size_t
scan_list(ivfc_search *s, rk__near list)
{
    const rk__ivfc *ivf = s->ivf;
    const uint32_t *rows = ivf->rows + ivf->offsets[list.row];
    size_t n = (size_t)(ivf->offsets[list.row + 1] - ivf->offsets[list.row]);
    size_t in_range = 0;

    for (size_t i = 0; i < n; i += 32) {
        float est[32];
        size_t m = RK_MIN(n - i, (size_t)32);
        if (any_passes(s, rows + i, m)) {
            uint32_t mask = rk__ivfc_estimate(ivf, &s->prepared, ivf->slots[list.row] + i, m,
                                              list.key, bound_of(s), est);
            in_range += offer(s, rows + i, mask, est);
        }
    }
    return in_range;
}

/* All lists in order, as far as a range search goes; returns how many were read. */
static uint32_t
probe_range(ivfc_search *s, uint32_t nprobe)
{
    const rk__ivfc *ivf = s->ivf;
    bool page = rk__is_page(s->options);
    uint32_t probes = page ? RK_MAX(nprobe, ivf->nlist / 2) : nprobe;
    uint32_t empty_max =
        (uint32_t)rk__search_int(s->index->kind, s->options->params, "max_empty_result_buckets");
    float share = (float)s->options->filter_count / (float)s->index->space.rows;
    uint64_t wanted = page ? (uint64_t)s->options->k * RK__PAGE_SEEN : 0;
    uint64_t seen = 0;
    uint32_t empty = 0;
    uint32_t counted = 0;

    for (uint32_t i = 0; i < ivf->nlist; i++) {
        uint32_t l = s->lists[i].row;
        float passing = share * (float)(ivf->offsets[l + 1] - ivf->offsets[l]);
        size_t in_range = scan_list(s, s->lists[i]);
        empty = in_range > 0 ? 0 : empty + 1;
        seen += in_range;
        counted += !page || 2 * (float)in_range > passing;
        if (counted >= probes && (page ? seen >= wanted : empty >= empty_max)) {
            return i + 1;
        }
    }
    return ivf->nlist;
}

/* Reads lists in order; |*probed| tells how many. */
static rk_code
probe(ivfc_search *s, uint32_t nprobe, uint32_t *probed, rk_err *err)
{
    uint32_t nlist = s->ivf->nlist;
    uint32_t i = 0;
    size_t wanted = RK_MIN((size_t)s->best.cap, s->options->filter_count);

    RK_RET(order_lists(s, s->range.on ? nlist : nprobe, err));
    if (s->range.on) {
        *probed = probe_range(s, nprobe);
        return RK_OK;
    }
    for (; i < nprobe; i++) {
        (void)scan_list(s, s->lists[i]);
    }
    if (s->best.n < RK_MIN(wanted, (size_t)s->options->k) && nprobe < nlist) {
        RK_RET(order_lists(s, nlist, err));
        for (; i < nlist && s->best.n < wanted; i++) {
            (void)scan_list(s, s->lists[i]);
        }
    }
    *probed = i;
    return RK_OK;
}

/* ---- exact scores ---- */

static void
score_rows(const ivfc_search *s, const uint32_t *rows, size_t n, rk__heap *heap)
{
    uint32_t block[32];
    size_t m = 0;

    for (size_t i = 0; i <= n; i++) {
        if (i < n && passes(s, rows[i])) {
            block[m++] = rows[i];
        }
        if (m == RK_COUNT(block) || (i == n && m > 0)) {
            rk__scan_rows(&s->index->space, s->query, block, m, &s->range, heap);
            m = 0;
        }
    }
}

static void
score_candidates(const ivfc_search *s, rk__heap *heap)
{
    uint32_t rows[32];

    for (uint32_t i = 0; i < s->best.n; i += 32) {
        uint32_t n = RK_MIN(s->best.n - i, 32u);
        for (uint32_t j = 0; j < n; j++) {
            rows[j] = s->best.items[i + j].row;
        }
        rk__scan_rows(&s->index->space, s->query, rows, n, &s->range, heap);
    }
}

static void
scan_all(const ivfc_search *s, rk__heap *heap)
{
    heap->n = 0;
    rk__scan(&s->index->space, s->query, 0, s->index->space.rows, 0, s->options->filter, &s->range,
             heap);
}

static rk_code
search_codes(ivfc_search *s, uint32_t nprobe, rk__heap *heap, rk_err *err)
{
    const rk__ivfc *ivf = s->ivf;
    const rk__space *space = &s->index->space;
    const uint32_t *outside = ivf->rows + ivf->offsets[ivf->nlist];
    size_t n_outside = space->rows - (size_t)ivf->offsets[ivf->nlist];
    uint32_t probed = 0;

    s->best.cap = search_width(s, heap->cap);
    s->best.items = rk_arena_alloc(s->options->arena, s->best.cap * sizeof(*s->best.items));
    if (!s->best.items) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for %u candidates", s->best.cap);
    }
    set_bounds(s);
    RK_RET(probe(s, nprobe, &probed, err));
    if (!s->range.on) {
        RK_RET(rk__coded_refine(&ivf->refine, space, s->query, s->best.items, &s->best.n,
                                base_width(heap->cap, space->rows), s->options->arena, err));
    }
    score_candidates(s, heap);
    score_rows(s, outside, n_outside, heap);
    if (s->range.on && s->dropped && heap->n < heap->cap) {
        heap->n = 0;
        for (uint32_t i = 0; i < probed; i++) {
            uint32_t l = s->lists[i].row;
            score_rows(s, ivf->rows + ivf->offsets[l],
                       (size_t)(ivf->offsets[l + 1] - ivf->offsets[l]), heap);
        }
        score_rows(s, outside, n_outside, heap);
    } else if (!s->range.on && heap->n < heap->cap) {
        scan_all(s, heap);
    }
    return RK_OK;
}

rk_code
rk__ivfc_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
                rk__heap *heap, rk_err *err)
{
    const rk__ivfc *ivf = index->impl;
    ivfc_search s = {.index = index, .ivf = ivf, .options = options, .query = query};
    uint32_t nprobe = (uint32_t)rk__search_int(index->kind, options->params, "nprobe");
    void *memory = NULL;

    s.range = rk__range_of(index->space.metric, options);
    nprobe = RK_MIN(nprobe, ivf->nlist);
    if (options->filter_count <= EXACT_ROWS) {
        scan_all(&s, heap);
        return RK_OK;
    }
    memory = rk_arena_alloc(options->arena, rk__ivfc_query_bytes(ivf) + 64);
    if (!memory) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for a query");
    }
    memory = (void *)(((uintptr_t)memory + 63) / 64 * 64);
    if (!rk__ivfc_query_init(&s.prepared, ivf, &index->space, query->data, query->inv_norm,
                             memory)) {
        scan_all(&s, heap);
        return RK_OK;
    }
    return search_codes(&s, nprobe, heap, err);
}
