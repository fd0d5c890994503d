/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far searches have to go under one filter: measured when it is put into the order of the
 * lists (cluster/ordered.c), since it depends on the filter as much as on the data.
 *
 * Some rows of the index, evenly taken and left out of their own answers, are searched for under
 * this very filter with all the probing that any recall of the table needs, and of each hit is
 * noted how far out the list lay that led to it (near, see cluster/reach.c). Queries around which
 * rows pass and those that the rest lies apart from are counted for themselves: of the first kind
 * a filter of one region gives few, and they need to go farther.
 *
 * A limit is believed for queries whose nearest list, and whose k-th row, lie no farther out than
 * those of some row which was searched for. Others, unlike the rows of the index or deep inside
 * what is masked, are searched by what the build measured, as are recalls near 1 and kinds of
 * queries that too few of the rows were.
 *
 * The searches are few and bounded: 64 of them cost about what packing the codes does. They depend
 * on the index and the filter alone.
 */
#include <stdlib.h>

#include "index/cluster/search.h"

#define QUERIES    64u
#define K          10u
#define ROWS_MIN   (16 * K) /* passing; fewer tell nothing */
#define KIND_MIN   12u      /* queries of a kind; fewer tell nothing */
#define FULL       40u      /* so many tell as much as is asked */
#define MORE       0.6f     /* of what may be missed: it was measured on so few */
#define MORE_MOST  0.8f     /* the same, on the fewest */
#define SHARE_MAX  0.75     /* of all rows: where more pass, a search hardly differs */
#define FEW_AROUND 0.4f     /* of the rows around a query */
#define EPSILON    2.5f
#define LISTS      1.5f /* those up to the last hit, that many times, are visited */

/* What the search for one row saw. */
typedef struct seen {
    rk__cluster_kind kind;
    float kth;
    float hits[K];
    uint32_t n;
    uint32_t lists; /* up to the last hit */
} seen;

typedef struct limits_job {
    const rk__cluster *cluster;
    const rk_index_filter *filter;
    const rk_bitset *passing;
    rk_arena *arena;
    float farthest;
    uint32_t queries;
    uint32_t few; /* of them: around which few rows pass */
    float like;
    seen seen[QUERIES];
    float hits[QUERIES * K];
} limits_job;

static void
note_hits(limits_job *job, const rk__cluster_trace *trace, const rk__heap *heap, uint32_t self)
{
    seen *to = &job->seen[job->queries];

    if (heap->n < heap->cap || !isfinite(trace->kth)) {
        return;
    }
    *to = (seen){.kind = trace->kind, .kth = trace->kth};
    for (uint32_t i = 0; i < heap->n; i++) {
        uint32_t row = heap->items[i].row;
        uint32_t l = job->cluster->list_of[row];
        if (row == self || l >= job->cluster->info.nlist || trace->reached[l] == 0 || to->n == K) {
            continue; /* the image may lie */
        }
        to->hits[to->n++] = trace->reach[l].near;
        to->lists = RK_MAX(to->lists, (uint32_t)trace->reached[l]);
    }
    job->like = job->queries == 0 ? trace->nearest : RK_MAX(job->like, trace->nearest);
    job->few += trace->few;
    job->queries++;
}

static rk_code
search_row(limits_job *job, uint32_t row, rk_err *err)
{
    const rk_index *index = job->filter->index;
    uint32_t nlist = job->cluster->info.nlist;
    rk__cluster_trace trace = {0};
    rk__query query = {.data = rk__space_row(&index->space, row), .len = index->space.row_bytes};
    rk_search_options options = {.k = K,
                                 .filter = job->passing,
                                 .filter_count = job->filter->count,
                                 .ordered = job->filter,
                                 .arena = job->arena};
    rk__cluster_effort effort = rk__cluster_effort_of(job->cluster, 0.95f);
    rk__near items[K + 1];
    rk__heap heap = {.items = items, .cap = rk_bitset_get(job->passing, row) ? K + 1 : K};

    trace.reach = RK_ARENA_ARRAY(job->arena, rk__cluster_out, nlist);
    trace.reached = RK_ARENA_ARRAY(job->arena, float, nlist);
    if (!trace.reach || !trace.reached) {
        return rk_fail(err, RK_ENOMEM, "index filter: no memory to measure %u lists", nlist);
    }
    if (index->space.inv_norms) {
        query.inv_norm = index->space.inv_norms[row];
    }
    effort.epsilon = EPSILON;
    effort.least = 0;
    effort.most_around = FEW_AROUND;
    effort.trace = &trace;
    effort.reach.reach[0].near = job->farthest;
    RK_RET(rk__cluster_run(index, job->cluster, &query, &options, &effort, &heap, err));
    note_hits(job, &trace, &heap, row);
    return RK_OK;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

static int
by_kth(const void *a, const void *b)
{
    return compare_floats(&((const seen *)a)->kth, &((const seen *)b)->kth);
}

/* Of |n| searches of one kind. */
static void
fill_reach(limits_job *job, const seen *const from[], uint32_t n, float reach[RK__ORDERED_LEVELS])
{
    float few = RK_MIN((float)(n - KIND_MIN) / (float)(FULL - KIND_MIN), 1.0f);
    float more = MORE_MOST + few * (MORE - MORE_MOST);
    uint32_t hits = 0;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(job->hits + hits, from[i]->hits, from[i]->n * sizeof(float));
        hits += from[i]->n;
    }
    qsort(job->hits, hits, sizeof(float), compare_floats);
    for (uint32_t l = 0; l < RK__ORDERED_LEVELS; l++) {
        float recall = job->cluster->info.levels[l].recall;
        recall += (1 - recall) * more;
        uint32_t at = (uint32_t)(recall * (float)hits);
        reach[l] = hits > 0 ? job->hits[RK_MIN(at, hits - 1)] : INFINITY;
    }
}

/* What was seen is in order of the k-th rows. */
static void
fill_limit(limits_job *job, rk__cluster_kind kind, rk__ordered_limit *out)
{
    const seen *of[QUERIES] = {NULL};
    uint32_t n = 0;
    double lists = 0;

    for (uint32_t i = 0; i < job->queries; i++) {
        if (job->seen[i].kind == kind) {
            of[n++] = &job->seen[i];
            lists += job->seen[i].lists;
        }
    }
    if (n < KIND_MIN) {
        return;
    }
    uint32_t half = n >= 2 * KIND_MIN ? n / 2 : 0;
    out->kth[0] = half > 0 ? of[half - 1]->kth : -INFINITY;
    out->kth[1] = of[n - 1]->kth;
    if (half > 0) {
        fill_reach(job, of, half, out->reach[0]);
    }
    fill_reach(job, of + half, n - half, out->reach[1]);
    out->lists = (uint32_t)((double)LISTS * lists / n) + 1;
}

rk_code
rk__cluster_limits(const rk__cluster *c, rk_index_filter *filter, const rk_bitset *passing,
                   rk_err *err)
{
    uint32_t n = (uint32_t)RK_MIN((size_t)QUERIES, c->rows / 16);
    rk_code code = RK_OK;

    if (filter->count < ROWS_MIN || (double)filter->count > SHARE_MAX * (double)c->rows ||
        n < KIND_MIN || c->rows != filter->index->space.rows) {
        return RK_OK;
    }
    rk_arena *arena = rk_arena_new(0);
    limits_job *job = rk_alloc_zero(1, sizeof(*job));
    if (!arena || !job) {
        code = RK_ENOMEM;
        goto out;
    }
    job->cluster = c;
    job->filter = filter;
    job->passing = passing;
    job->arena = arena;
    job->farthest = c->reaches.levels[RK__CLUSTER_LEVELS - 1].reach[0].near;
    for (uint32_t i = 0; i < n && code == RK_OK; i++) {
        uint32_t row = (uint32_t)((double)i * (double)c->rows / n);
        if (c->place[row] < c->rows - c->info.loose) {
            code = search_row(job, row, err);
        }
        rk_arena_reset(arena);
    }
    if (code != RK_OK) {
        goto out;
    }
    qsort(job->seen, job->queries, sizeof(job->seen[0]), by_kth);
    for (uint32_t kind = 0; kind < RK__CLUSTER_KINDS; kind++) {
        fill_limit(job, (rk__cluster_kind)kind, &filter->lists.limits[kind]);
    }
    filter->lists.like = job->like;
    filter->lists.few_around = job->few > n / 2;
out:
    rk_free(job);
    rk_arena_free(arena);
    if (code == RK_ENOMEM) { /* searches go by what the build measured */
        rk_err_clear(err);
        code = RK_OK;
    }
    return code;
}
