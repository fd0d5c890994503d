/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search on disk: how many lists, how many candidates, and what to do when that was not enough.
 *
 * search_list (or search_list_size), the API's measure of effort, defaults to max(k, 16); there the
 * search visits as many lists as the build measured to hold 98.5 % of the k nearest of its sample,
 * and keeps and reads candidates in proportion. Twice the value visits twice the lists. A filter
 * that lets a share s pass makes the k nearest passing rows about the k / s nearest of all: lists
 * are visited until as many passing rows were seen as such a search would see, wherever they lie.
 *
 * Fewer than k found although more rows pass: again with four times the effort, in the end over
 * all lists, so k rows come back whenever k rows pass.
 *
 * A range that begins away from the query is a page of an iterator: a row that it misses does not
 * come on a later one. So more of what is in doubt is read, and while candidates that were left out
 * for want of room may be nearer than the last of the page, it is tried again.
 */
#include "index/disk/disk.h"

#define SEARCH_LIST_DEFAULT 16u
#define RANGE_LIST_DEFAULT  100u
#define CANDS_MIN           64u
#define CANDS_PER_LIST      4u /* candidates kept per unit of search_list */
#define BEAM_DEFAULT        8
#define RING_PATIENCE       2.5f /* times the patience, where a range begins away from the query */
#define RING_TRIES          3u

/* How many deviations an estimate may be too far before its row is left unread, by planes: coarse
 * codes put more rows into doubt, of which each is missed with the same chance. */
static const float patience[RK__DISK_PLANES_MAX + 1] = {0, 1.6f, 0.8f, 0.8f, 0.8f};

typedef struct disk_plan {
    double effort; /* 1: as measured */
    uint64_t cands;
    bool all;
} disk_plan;

static double
probes_for(const rk__disk *disk, double k)
{
    double n = (double)disk->probe[0] * pow(k, (double)disk->probe[1]);

    return n >= 1 && n <= (double)disk->nlist ? n : n < 1 ? 1 : (double)disk->nlist;
}

/* The effort that is 1: of a range search nobody knows how many rows are in range. */
static uint32_t
usual_list(const rk_search_options *options, uint32_t k)
{
    return RK_MAX(k, options->range ? RANGE_LIST_DEFAULT : SEARCH_LIST_DEFAULT);
}

static disk_plan
first_plan(const rk_search_options *options, uint32_t k)
{
    int64_t usual = usual_list(options, k);
    int64_t size = rk__param_int(options->params, "search_list_size", usual, 1, INT32_MAX);
    int64_t list = rk__param_int(options->params, "search_list", size, 1, INT32_MAX);

    list = RK_MAX(list, (int64_t)k);
    return (disk_plan){.effort = (double)list / (double)usual,
                       .cands = RK_MAX((uint64_t)list * CANDS_PER_LIST, (uint64_t)CANDS_MIN)};
}

static void
fill_scan(rk__disk_scan *scan, const rk_search_options *options, const disk_plan *plan, uint32_t k)
{
    const rk__disk *disk = scan->disk;
    double rows = (double)scan->index->space.rows;
    double share = (double)options->filter_count / rows;
    double depth = (double)(options->range ? usual_list(options, k) : k);
    double probes = probes_for(disk, depth) * plan->effort;
    double wide = RK_MIN(probes_for(disk, depth / share) * plan->effort, (double)disk->nlist);

    scan->all = plan->all;
    scan->probes_min = probes < (double)disk->nlist ? (uint64_t)ceil(probes) : disk->nlist;
    scan->seen_min = options->filter ? (uint64_t)(wide / (double)disk->nlist * rows * share) : 0;
    scan->seen_min = RK_MIN(RK_MAX(scan->seen_min, plan->cands), (uint64_t)options->filter_count);
    scan->best.cap = (uint32_t)RK_MIN(plan->cands, (uint64_t)options->filter_count);
    scan->best.n = 0;
    scan->seen = 0;
    scan->hits = 0;
}

static rk_code
prepare(rk__disk_scan *scan, const rk__query *query, rk_arena *arena, rk_err *err)
{
    const rk__disk *disk = scan->disk;
    const rk__space *space = &scan->index->space;
    float *form = rk__disk_scratch(arena, (size_t)space->dim * sizeof(float));
    float *rotated = rk__disk_scratch(arena, (size_t)disk->rotation.padded * sizeof(float));
    float *scaled = rk__disk_scratch(arena, (size_t)disk->code_dims * sizeof(float));

    scan->query.lut = rk__disk_scratch(arena, rk__bits_groups(disk->code_dims) * 16);
    if (!form || !rotated || !scaled || !scan->query.lut) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory for a query of %u dimensions",
                       space->dim);
    }
    rk__disk_form(space, query->data, form);
    for (size_t i = 0; i < space->dim; i++) {
        scaled[i] = form[i] - disk->mean[i];
    }
    rk__rotate(&disk->rotation, scaled, rotated);
    rk__disk_query_init(disk, &scan->query, rotated, scaled);
    scan->form = form;
    scan->square = rk__kernels_get()->dense[RK__F32].ip(form, form, space->dim);
    scan->error = rk__disk_error(disk);
    return RK_OK;
}

/* One try. */
static rk_code
search_once(rk__disk_scan *scan, const rk__query *query, const rk_search_options *options,
            const disk_plan *plan, rk_page_channel *channel, rk__heap *heap, rk_err *err)
{
    rk_arena *arena = options->arena;
    rk__disk_read job = {.index = scan->index,
                         .query = query,
                         .patience = patience[scan->disk->planes] * (float)sqrt(plan->effort) *
                                     (options->has_range_filter ? RING_PATIENCE : 1),
                         .beam = scan->beam,
                         .range = rk__range_of(scan->index->space.metric, options)};

    heap->n = 0;
    scan->patience = job.patience;
    fill_scan(scan, options, plan, heap->cap);
    scan->best.items = rk_arena_alloc(arena, (size_t)scan->best.cap * sizeof(rk__near));
    scan->cands = rk_arena_alloc(arena, (size_t)scan->best.cap * sizeof(rk__disk_cand));
    if (!scan->best.items || !scan->cands) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory for %u candidates", scan->best.cap);
    }
    RK_RET(rk__disk_scan_lists(scan, channel, arena, err));
    rk__heap_sort(&scan->best);
    job.sorted = scan->best.items;
    job.cands = scan->cands;
    job.n = scan->best.n;
    return rk__disk_rescore(&job, channel, arena, heap, err);
}

/* Whether rows for which there was no room among the candidates may be nearer than the k-th. */
static bool
is_unsettled(const rk__disk_scan *scan, const rk_search_options *options, const rk__heap *heap)
{
    const rk__near *last = scan->best.n > 0 ? &scan->best.items[scan->best.n - 1] : NULL;

    return options->range && options->has_range_filter && rk__heap_full(&scan->best) &&
           last->key - scan->patience * scan->cands[last->row].error <= heap->items[0].key;
}

/* Whether another try could find more. */
static bool
found_too_few(const rk__disk_scan *scan, const rk_search_options *options, const disk_plan *plan,
              const rk__heap *heap, uint32_t tries)
{
    if (plan->all) {
        return false;
    }
    if (rk__heap_full(heap)) {
        return tries < RING_TRIES && is_unsettled(scan, options, heap);
    }
    /* In a range search an answer may be short because no more rows are in range. */
    return !options->range || rk__heap_full(&scan->best);
}

static rk_code
search_all_tries(rk__disk_scan *scan, const rk__query *query, const rk_search_options *options,
                 rk_page_channel *channel, rk__heap *heap, rk_err *err)
{
    disk_plan p = first_plan(options, heap->cap);

    for (uint32_t tries = 1;; tries++) {
        p.all = p.cands >= options->filter_count;
        RK_RET(search_once(scan, query, options, &p, channel, heap, err));
        if (!found_too_few(scan, options, &p, heap, tries)) {
            return RK_OK;
        }
        p.effort *= 4;
        p.cands *= 4;
    }
}

rk_code
rk__disk_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
                rk__heap *heap, rk_err *err)
{
    const rk__disk *disk = index->impl;
    rk__range range = rk__range_of(index->space.metric, options);
    rk__disk_scan scan = {.index = index,
                          .disk = disk,
                          .filter = options->filter,
                          .range = range.on,
                          .lower = -INFINITY,
                          .upper = INFINITY};
    rk_page_channel *channel = NULL;
    size_t buffer_bytes;
    rk_code code;

    if (disk->nlist == 0) {
        return RK_OK;
    }
    if (range.on) {
        scan.upper = range.larger ? -range.radius : range.radius;
        if (range.has_lower) {
            scan.lower = range.larger ? -range.filter : range.filter;
        }
    }
    scan.beam =
        (uint32_t)rk__param_int(options->params, "beamwidth", BEAM_DEFAULT, 1, RK_PAGE_READS_MAX);
    RK_RET(prepare(&scan, query, options->arena, err));
    if (!index->pages) {
        return search_all_tries(&scan, query, options, NULL, heap, err);
    }
    buffer_bytes = scan.beam * (disk->records ? disk->unit_bytes
                                              : RK_MAX(disk->unit_bytes, rk__disk_scan_slot(disk)));
    RK_RET(index->pages->take(index->pages, buffer_bytes, &channel, err));
    code = search_all_tries(&scan, query, options, channel, heap, err);
    index->pages->give(index->pages, channel);
    return code;
}
