/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching a cluster index, see cluster/cluster.h. The way of a query:
 *
 *   1. It is projected, its tables are made.
 *   2. The centres' codes name the lists worth a closer look, their records give these a key: the
 *      distance of the query to the centre. Lists are visited by rising key (by bucket: exact order
 *      does not matter).
 *   3. A list's blocks are scanned. Rows whose estimate, less epsilon times its error, lies below
 *      the k-th best distance so far wait for their records; these are fetched while the next list
 *      is scanned, and scored. The k-th best falls, so later lists give few rows.
 *   4. Probing ends where the key of the next list is beta of the k-th distance above that of the
 *      nearest list (for IP: beta of a fixed unit): the boundary between the two cells is then too
 *      far away. beta and epsilon come from the wanted recall and what the build measured.
 *   5. What is within the error of a record of the k-th is scored on the vectors themselves.
 *
 * Under a filter probing goes on until k rows are found, and ends by another rule, see
 * cluster/reach.c; what else changes is in cluster/filter.c. If the lists cannot give k rows
 * although k pass (rows that are not finite), the vectors are scanned.
 *
 * All memory is the request's arena.
 */
#include "index/cluster/search.h"

#include "index/params.h"

#define NEVER      RK__CLUSTER_NEVER
#define BATCH      RK__CLUSTER_BATCH
#define THIN       0.035f /* of beta more, per e-fold that rows are farther */
#define THIN_IP    0.25f
#define NEAR_ROWS  16u /* so many beta was measured for, and a few more */
#define EXACT_ROWS 64u /* so few passing rows are scored on their vectors at once */

static void
scan_list(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    const rk__cluster_scan list_scan = rk__cluster_scan_of(s, list->at, list->key);
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    const uint8_t *block = c->blocks + (size_t)c->first_block[list->at] * c->block_bytes;

    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        float est[RK__BITS_ROWS];
        uint32_t mask = rk__cluster_scan_block(&list_scan, block, end - from, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            rk__cluster_wait(s, rk__cluster_lower(&list_scan, est[i]), list->key, from + i);
        }
    }
}

/* ---- the whole ---- */

/* How far above the nearest list one with |key| lies, as beta counts it. */
float
rk__cluster_distance_above(const rk__cluster_search_state *s, float key, float nearest)
{
    float unit =
        s->cluster->space.ip ? s->unit * s->cluster->info.radius : RK_MAX(s->threshold, 0.0f);

    /* Few pass, k is large, or the range lies far out: the k-th is farther than what beta was
     * measured for, as are the lists that hold nearer ones. */
    float far = s->tested > 0 ? (float)(s->tested + 1) / (float)(s->passing + 1) : 1;
    uint64_t deep = s->near.n + s->before;
    if (deep > NEAR_ROWS) {
        far *= (float)deep / NEAR_ROWS;
    }
    if (far > 1) {
        unit *= 1 + (s->cluster->space.ip ? THIN_IP : THIN) * logf(far);
    }
    if (s->range.on && s->cluster->space.ip && s->threshold > s->best) {
        nearest += s->threshold - s->best; /* so much farther are the lists that matter */
    }
    return key <= nearest ? 0 : (key - nearest) / unit;
}

static void
trace_list(rk__cluster_search_state *s, uint32_t list, float above)
{
    rk__cluster_trace *t = s->effort.trace;
    const rk__cluster *c = s->cluster;
    float before = t->n > 0 ? t->beta[t->n - 1] : 0;
    float blocks = (float)(c->first_block[list + 1] - c->first_block[list]);
    float record = 30 + 0.1f * (float)(c->records ? c->space.reduced : c->space.dim);

    t->beta[t->n] = RK_MAX(before, above);
    t->reached[list] = t->beta[t->n];
    s->scan_cost += 20 + blocks * (8 + 0.09f * (float)c->space.padded);
    t->cost[t->n] = s->scan_cost + record * (float)s->scored;
    t->n++;
}

static void
probe_lists(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    rk__cluster_lists *lists = &s->lists;
    float nearest = INFINITY;
    uint32_t probed = 0;
    uint32_t i = 0;

    lists->stage = s->effort.first;
    for (;;) {
        if (i == lists->n) {
            if (!rk__cluster_lists_next(lists, lists->stage, true)) {
                break;
            }
            i = 0;
            nearest = RK_MIN(nearest, lists->items[0].key);
        }
        const rk__cluster_item *list = &lists->items[i++];
        float above = 0;
        if (s->threshold != NEVER) {
            above = rk__cluster_distance_above(s, list->key, nearest);
            if (probed >= s->effort.probes ||
                (above > s->effort.beta && !rk__cluster_may_reach(s, list->key))) {
                break;
            }
        }
        if (i < lists->n) {
            const uint8_t *next =
                c->blocks + (size_t)c->first_block[lists->items[i].at] * c->block_bytes;
            for (size_t b = 0; b < 512; b += 64) {
                __builtin_prefetch(next + b);
            }
        }
        probed++;
        scan_list(s, list);
        if (s->n_waiting >= BATCH || s->threshold == NEVER) {
            rk__cluster_flush(s);
        }
        if (s->effort.trace) {
            trace_list(s, list->at, above);
        }
        if (s->no_memory) {
            return;
        }
    }
    rk__cluster_flush(s);
}

static void
scan_vectors(const rk_index *index, const rk__query *query, const rk_search_options *options,
             rk__heap *heap)
{
    rk__range range = rk__range_of(index->space.metric, options);

    heap->n = 0;
    rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &range, heap);
}

/* The bounds of a range search as estimates. */
static void
set_range(rk__cluster_search_state *s)
{
    const rk_search_options *o = s->options;
    rk_metric metric = s->index->space.metric;

    s->range = rk__range_of(metric, o);
    s->threshold = NEVER;
    s->lower = -INFINITY;
    if (!o->range) {
        return;
    }
    s->threshold = metric == RK_METRIC_L2       ? o->radius
                   : metric == RK_METRIC_COSINE ? 2 - 2 * o->radius
                                                : s->to_est - o->radius;
    if (o->has_range_filter) {
        s->lower = metric == RK_METRIC_L2       ? o->range_filter
                   : metric == RK_METRIC_COSINE ? 2 - 2 * o->range_filter
                                                : s->to_est - o->range_filter;
    }
}

static rk_code
prepare(rk__cluster_search_state *s, uint32_t k, bool *finite, rk_err *err)
{
    const rk__cluster_space *space = &s->cluster->space;
    rk_arena *arena = s->options->arena;
    size_t point = rk__cluster_point_bytes(space);
    uint8_t *memory = rk_arena_alloc(arena, point + rk__cluster_query_bytes(space) + 64);
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;

    s->lists.cluster = s->cluster;
    s->lists.query = &s->coded;
    s->lists.arena = arena;
    if (s->options->ordered && s->options->ordered->lists.map) {
        s->ordered = &s->options->ordered->lists;
        s->map = s->ordered->map;
    }
    s->share = (float)s->options->filter_count / (float)s->cluster->rows;
    s->held_key = -INFINITY;
    s->reached = (rk__cluster_out){-INFINITY, -INFINITY};
    s->best = INFINITY;
    s->best_key = -INFINITY;
    s->near.cap = k;
    s->near.items = rk_arena_alloc(arena, (size_t)k * sizeof(*s->near.items));
    s->kept_cap = 2 * k + 256;
    s->kept = rk_arena_alloc(arena, (size_t)s->kept_cap * sizeof(*s->kept));
    s->waiting = rk_arena_alloc(arena, RK__CLUSTER_WAITING * sizeof(*s->waiting));
    s->pending = s->options->filter
                     ? rk_arena_alloc(arena, RK__CLUSTER_PENDING * sizeof(*s->pending))
                     : NULL;
    if (!memory || !s->near.items || !s->kept || !s->waiting ||
        (s->options->filter && !s->pending)) {
        return rk_fail(err, RK_ENOMEM, "cluster search: no memory for %u results", k);
    }
    memory += (64 - (uintptr_t)memory % 64) % 64;
    rk__cluster_point_init(space, &s->point, memory);
    rk__cluster_vector(&s->index->space, s->query->data, s->query->inv_norm, s->point.v);
    if (space->ip) {
        s->to_est = ip(s->point.v, space->mean, space->dim);
        s->unit = sqrtf(ip(s->point.v, s->point.v, space->dim));
    }
    *finite = rk__cluster_project(space, true, &s->point) && isfinite(s->to_est);
    if (!*finite) {
        return RK_OK;
    }
    rk__cluster_rotate_head(space, s->point.z, s->point.bits);
    rk__cluster_query_init(space, &s->point, memory + point, &s->coded);
    if (!space->ip) {
        s->lists.base = s->point.tail + ip(s->point.z, s->point.z, space->reduced);
    }
    s->slack = s->cluster->info.slack * (space->ip ? s->unit : 1.0f);
    set_range(s);
    return RK_OK;
}

rk_code
rk__cluster_run(const rk_index *index, const rk__cluster *cluster, const rk__query *query,
                const rk_search_options *options, const rk__cluster_effort *effort, rk__heap *heap,
                rk_err *err)
{
    rk__cluster_search_state s = {
        .index = index, .cluster = cluster, .query = query, .options = options, .effort = *effort};
    bool finite = false;

    if ((options->filter_count <= EXACT_ROWS || options->filter_count <= heap->cap) &&
        !effort->trace) {
        scan_vectors(index, query, options, heap);
        return RK_OK;
    }
    RK_RET(prepare(&s, heap->cap, &finite, err));
    if (!finite) {
        scan_vectors(index, query, options, heap);
        return RK_OK;
    }
    if (!options->filter) {
        probe_lists(&s);
    } else if (effort->trace || !rk__cluster_few(&s)) {
        rk__cluster_probe_filtered(&s);
    }
    if (s.no_memory || s.lists.no_memory) {
        return rk_fail(err, RK_ENOMEM, "cluster search: no memory for %u lists",
                       s.cluster->info.nlist);
    }
    if (s.left) {
        return RK_OK;
    }
    rk__cluster_finish(&s, heap);
    if (s.cluster->info.loose > 0 && s.cluster->space.ip) {
        uint32_t from = (uint32_t)s.cluster->rows - s.cluster->info.loose;
        for (size_t i = from; i < s.cluster->rows; i++) {
            uint32_t row = s.cluster->row_of[i];
            if (rk__cluster_passes(&s, row)) {
                rk__scan_rows(&index->space, query, &row, 1, &s.range, heap);
            }
        }
    }
    if ((!options->range || rk__is_page(options)) && heap->n < heap->cap) {
        scan_vectors(index, query, options, heap);
    }
    return RK_OK;
}

#define RECALL_DEFAULT  0.97
#define RECALL_FILTERED 0.98  /* what the build measured holds less exactly */
#define RECALL_PAGE     0.999 /* what a page of an iterator misses does not come on a later one */
#define NPROBE_DEFAULT  8
#define EPSILON_NAMED   2.0f
#define EPSILON_PAGE    3.0f

/* nprobe, where it is named or the kind is; else what the wanted recall needs. */
static rk__cluster_effort
wanted_effort(const rk__cluster *cluster, const rk_search_options *options)
{
    rk_params params = options->params;
    bool named = rk_params_get(params, "nprobe").data != NULL;
    bool declared = rk_params_get(params, "target_recall").data != NULL;
    bool on = options->filter || options->range; /* past nprobe, as far as rows can be */
    bool page = rk__is_page(options);
    double usual = page ? RECALL_PAGE : options->filter ? RECALL_FILTERED : RECALL_DEFAULT;
    double recall = rk__param_float(params, "target_recall", usual, 0, 1);
    double more = rk__param_float(params, "refine_k", 1, 1, 1e6);
    uint32_t nprobe = (uint32_t)rk__param_int(params, "nprobe", NPROBE_DEFAULT, 1, 65536);

    if (!named && (declared || cluster->info.flags & RK__CLUSTER_AUTO)) {
        return rk__cluster_effort_of(cluster, (float)recall);
    }
    nprobe = RK_MIN(nprobe, cluster->info.nlist);
    return (rk__cluster_effort){.beta = on ? cluster->info.enough : INFINITY,
                                .epsilon = (page ? EPSILON_PAGE : EPSILON_NAMED) +
                                           (float)RK_MIN(log2(more), 8.0) / 4,
                                .first = nprobe,
                                .probes = on ? cluster->info.nlist : nprobe,
                                .least = nprobe,
                                .reach = rk__cluster_reach_of(cluster, RK__CLUSTER_ENOUGH),
                                .recall = RK__CLUSTER_ENOUGH};
}

rk_code
rk__cluster_search(const rk_index *index, const rk__cluster *cluster, const rk__query *query,
                   const rk_search_options *options, rk__heap *heap, rk_err *err)
{
    rk__cluster_effort effort = wanted_effort(cluster, options);

    return rk__cluster_run(index, cluster, query, options, &effort, heap, err);
}
