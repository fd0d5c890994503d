/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where probing ends under a filter.
 *
 * Without one it is enough to look so far behind the nearest list (beta, cluster/tune.c). A filter
 * moves the k-th distance out, by little or by much, and what is worth a visit with it. How far a
 * list lies out is counted in two ways, with key its squared distance to the query:
 *
 *   near    (key - k-th distance so far) / squared radius of the lists
 *   apart   (key - mean key of the lists that gave the k best so far) / k-th distance
 *
 * For IP the unit of both is |query| times the radius. Near is the cheaper rule where passing rows
 * lie around the query too; that it is additive makes one limit fit queries in dense and in thin
 * regions. The limit, the reach, falls as fewer rows pass, since a row among the best of few lies
 * at a typical place of its list, not at an edge; how many pass is asked of the rows that estimates
 * let through, so that a filter which agrees with the query is searched as if there were none.
 * Apart is for filters under which far fewer rows pass around the query than elsewhere: whatever
 * the shape of the region, the lists that gave hits tell where more are to be expected.
 *
 * Both reaches are measured at build for each recall of the table: random filters that all, 1/8 and
 * 1/64 of the rows pass, rows of the index that do not pass as queries, every list probed, and the
 * reach noted that leads to each hit. Between these shares they are interpolated.
 */
#include <stdlib.h>

#include "index/cluster/search.h"

#define QUERIES   192u
#define K         10u
#define EPSILON   3.0f
#define ROWS_MIN  (16 * K) /* passing; fewer tell nothing */
#define NEAR_MORE 0.2f  /* of what may be missed: measured, so that noise keeps its recall, too */
#define IP_MORE   0.96f /* of what may be missed: the nearest rows are the longest of their lists */
#define BEYOND    0.25f /* past the farthest hit, for recall 1 */
#define FAR       1e30f

#define NEAR_ROWS   8.0f  /* let through tell something */
#define NEAR_TIMES  1.5f  /* their share: some of those let through are farther than the k-th */
#define APART_SHARE 0.5f  /* of the rows that should have passed; more where most do */
#define EMPTY_LISTS 12.0f /* visited in vain */

#define SURVEY_LISTS 16u   /* around the query, about */
#define SURVEY_NEXT  0.33f /* of the way from the nearest of them to the last: next to the query */
#define NEXT_LISTS   3u    /* tell what lies apart */
#define SURVEY_BLOCK 32u
#define SURVEY_TIMES                                                                               \
    2u /* a search that ends among the first half of its lists looks up no more                    \
        */
#define SURVEY_MORE 32u

#define LIMIT_MORE 0.4f
#define OPEN_SHARE                                                                                 \
    0.9f                 /* of the rows around a query, or more, pass: as if there were no filter  \
                          */
#define DENSE_TIMES 2.0f /* the share of all pass around a query */

#define SHARE_STEP 3.0f /* shares of 1, 1/8, 1/64 */

/* ---- in a search ---- */

static float
unit_of(const rk__cluster_search_state *s)
{
    float radius = s->cluster->info.radius;

    return s->cluster->space.ip ? s->unit * radius : radius * radius;
}

float
rk__cluster_kth(const rk__cluster_search_state *s)
{
    return s->threshold / unit_of(s);
}

rk__cluster_out
rk__cluster_lies_out(const rk__cluster_search_state *s, float key)
{
    if (s->threshold == RK__CLUSTER_NEVER) {
        return (rk__cluster_out){-INFINITY, -INFINITY};
    }
    float mean = (float)(s->sum_keys / (double)RK_MAX(s->near.n, 1u));
    float kth = s->cluster->space.ip ? unit_of(s) : RK_MAX(s->threshold, 0.0f);
    return (rk__cluster_out){.near = (key - s->threshold) / unit_of(s),
                             .apart = (key - mean) / (kth + 1e-30f)};
}

/* Rows of lists that were looked at. */
typedef struct met {
    uint32_t lists;
    uint32_t empty; /* lists in which none passes */
    uint32_t tested;
    uint32_t passing;
} met;

/* Far fewer rows pass near the query than elsewhere. */
static bool
is_apart(const met *m, float share)
{
    float expected = (float)m->tested * share;
    float visited = (float)RK_MAX(m->lists, 1u);
    float least = RK_MAX(APART_SHARE, 0.8f * share);

    return (float)m->passing < RK_MIN(least * expected, expected - 3 * sqrtf(expected)) ||
           (float)m->empty >= EMPTY_LISTS + 2 * visited * expf(-expected / visited);
}

/* Rows of different lists are about equally near, and more of the hits are such that their codes
 * err by much. */
float
rk__cluster_apart_epsilon(const rk__cluster_search_state *s)
{
    float missed = 1 - RK_MIN(s->effort.recall, 0.9999f);
    float epsilon = sqrtf(2 * logf(1 / missed));

    return epsilon * (s->cluster->space.ip ? 2 : 1); /* what no code has is longer for long rows */
}

static void
set_apart(rk__cluster_search_state *s)
{
    s->effort.epsilon = RK_MAX(s->effort.epsilon, rk__cluster_apart_epsilon(s));
    s->apart = true;
}

void
rk__cluster_look(rk__cluster_search_state *s)
{
    met m = {s->held + s->empty, s->empty, s->tested, s->passing};

    if (!s->apart && is_apart(&m, s->share)) {
        set_apart(s);
    }
}

static inline void
meet(met *m, const float *est, float edge, const uint32_t *first, const uint32_t *first_row,
     uint32_t n)
{
    met sum = {0};

    for (uint32_t i = 0; i < n; i++) { /* no branch to guess wrong */
        uint32_t near = est[i] <= edge ? UINT32_MAX : 0;
        uint32_t passing = first[i + 1] - first[i];
        sum.lists += near & 1;
        sum.empty += near & (passing == 0);
        sum.passing += near & passing;
        sum.tested += near & (first_row[i + 1] - first_row[i]);
    }
    m->lists += sum.lists;
    m->empty += sum.empty;
    m->passing += sum.passing;
    m->tested += sum.tested;
}

/* Of the lists whose estimates are up to |edge|. */
static met
met_up_to(const rk__cluster_search_state *s, float edge)
{
    const rk__cluster *c = s->cluster;
    const float *est = s->lists.est;
    const uint32_t *first = s->ordered->first;
    met m = {0};

    for (uint32_t from = 0; from < c->info.nlist; from += SURVEY_BLOCK) {
        uint32_t n = RK_MIN(c->info.nlist - from, SURVEY_BLOCK);
        if (n == SURVEY_BLOCK) { /* of a fixed length: in vectors */
            meet(&m, est + from, edge, first + from, c->first_row + from, SURVEY_BLOCK);
        } else {
            meet(&m, est + from, edge, first + from, c->first_row + from, n);
        }
    }
    return m;
}

/* The least of the estimates of all lists. */
static float
least_estimate(const rk__cluster_search_state *s)
{
    const float *est = s->lists.est;
    float low[SURVEY_BLOCK];
    float least = INFINITY;

    for (uint32_t i = 0; i < SURVEY_BLOCK; i++) {
        low[i] = INFINITY;
    }
    for (uint32_t from = 0; from + SURVEY_BLOCK <= s->cluster->info.nlist; from += SURVEY_BLOCK) {
        for (uint32_t i = 0; i < SURVEY_BLOCK; i++) { /* in vectors */
            low[i] = est[from + i] < low[i] ? est[from + i] : low[i];
        }
    }
    for (uint32_t i = 0; i < SURVEY_BLOCK; i++) {
        least = low[i] < least ? low[i] : least;
    }
    return least;
}

/* Whether fewer than effort.most_around pass of the rows next to the query. */
static bool
few_around(const rk__cluster_search_state *s, const met *m)
{
    return (float)m->passing < s->effort.most_around * (float)m->tested;
}

/* What is measured is which lists are needed, so the codes may cost little: epsilon of a recall
 * that is missed by so much less. */
static float
epsilon_of(const rk__cluster_search_state *s, float recall)
{
    return rk__cluster_effort_of(s->cluster, recall + LIMIT_MORE * (1 - recall)).epsilon;
}

/* What was measured under this filter, for the recall that is wanted. */
static void
take_limit(rk__cluster_search_state *s, rk__cluster_kind kind)
{
    const rk__ordered_limit *limit = &s->ordered->limits[kind];
    const rk__cluster_level *levels = s->cluster->info.levels;
    uint32_t i = 0;

    while (i < RK__ORDERED_LEVELS && !(levels[i].recall >= s->effort.recall)) {
        i++;
    }
    if (limit->lists == 0 || i == RK__ORDERED_LEVELS) {
        return;
    }
    uint32_t from = i > 0 ? i - 1 : 0;
    float step = levels[i].recall - levels[from].recall;
    float part = step > 0 ? (s->effort.recall - levels[from].recall) / step : 1;
    s->limit = limit;
    for (uint32_t b = 0; b < 2; b++) {
        const float *reach = limit->reach[b];
        s->limit_near[b] = reach[from] + part * (reach[i] - reach[from]);
    }
    s->effort.epsilon = RK_MAX(s->effort.epsilon, epsilon_of(s, s->effort.recall));
    s->lists.stage = SURVEY_TIMES * limit->lists + SURVEY_MORE;
}

void
rk__cluster_survey(rk__cluster_search_state *s)
{
    uint32_t nlist = s->cluster->info.nlist;
    float edge = 0;

    if (!rk__cluster_lists_edge(&s->lists, RK_MIN(SURVEY_LISTS, nlist), &edge)) {
        return;
    }
    met m = met_up_to(s, edge);
    float least = least_estimate(s);
    float nearest = (least + s->lists.base) / unit_of(s);
    met next = met_up_to(s, least < edge ? least + SURVEY_NEXT * (edge - least) : edge);
    bool few = few_around(s, &next);
    if (!few && s->effort.most_around > 0 && !s->effort.trace) {
        s->left = true;
        return;
    }
    rk__cluster_kind kind = RK__CLUSTER_TYPICAL;
    if (is_apart(&m, s->share) || (next.lists >= NEXT_LISTS && is_apart(&next, s->share))) {
        set_apart(s);
        kind = RK__CLUSTER_APART;
    } else if ((float)m.passing >= DENSE_TIMES * s->share * (float)m.tested) {
        kind = RK__CLUSTER_DENSE;
    }
    rk__cluster_lists_close(&s->lists, s->ordered);
    if (s->effort.trace) {
        s->effort.trace->kind = kind;
        s->effort.trace->few = few;
        s->effort.trace->nearest = nearest;
        s->lists.stage = nlist; /* in the order of their keys */
        return;
    }
    s->open = m.tested > 0 && (float)m.passing >= OPEN_SHARE * (float)m.tested;
    if (!s->open && nearest <= s->ordered->like) {
        take_limit(s, kind);
    }
}

/* How far a list may lie out. */
static rk__cluster_out
reach_of(const rk__cluster_search_state *s)
{
    float share =
        s->near_rows < NEAR_ROWS ? 1.0f : RK_MIN(NEAR_TIMES * s->near_passing / s->near_rows, 1.0f);
    share = RK_MAX(share, s->share);
    float at = -log2f(share) / SHARE_STEP; /* in knots */
    uint32_t i = RK_MIN((uint32_t)RK_MAX(at, 0.0f), RK__CLUSTER_SHARES - 2);

    const rk__cluster_out *from = &s->effort.reach.reach[i];
    const rk__cluster_out *to = from + 1;
    float part = RK_MIN(at - (float)i, 1.0f);
    return (rk__cluster_out){from->near + part * (to->near - from->near),
                             from->apart + part * (to->apart - from->apart)};
}

bool
rk__cluster_may_reach(const rk__cluster_search_state *s, float key)
{
    if (!s->range.on || rk__is_page(s->options)) {
        return false;
    }
    float near = s->options->filter ? reach_of(s).near : s->effort.reach.reach[0].near;
    return rk__cluster_lies_out(s, key).near <= near;
}

bool
rk__cluster_is_far(rk__cluster_search_state *s, float key, float nearest, rk__cluster_out out)
{
    if (s->effort.trace && s->ordered) {
        return out.near > s->effort.reach.reach[0].near;
    }
    for (uint32_t b = 0; s->limit && b < 2; b++) {
        if (rk__cluster_kth(s) <= s->limit->kth[b]) {
            return out.near > s->limit_near[b];
        }
    }
    if (s->open) { /* as if there were no filter */
        return rk__cluster_distance_above(s, key, nearest) > s->effort.beta;
    }
    if (!s->range.on) {
        rk__cluster_out reach = reach_of(s);
        return s->apart ? out.apart > reach.apart : out.near > reach.near;
    }
    float from = RK_MAX(nearest, s->cluster->space.ip ? s->best_key : s->held_key);
    return rk__cluster_distance_above(s, key, from) > s->effort.beta &&
           !rk__cluster_may_reach(s, key);
}

/* ---- the table ---- */

static rk__cluster_knots
knots_at(const rk__cluster *cluster, float recall)
{
    const rk__cluster_level *levels = cluster->info.levels;
    const rk__cluster_knots *knots = cluster->reaches.levels;
    uint32_t i = 0;

    while (i + 1 < RK__CLUSTER_LEVELS && !(levels[i].recall >= recall)) {
        i++;
    }
    uint32_t from = i > 0 ? i - 1 : 0;
    float step = levels[i].recall - levels[from].recall;
    float share = step > 0 ? RK_MIN((recall - levels[from].recall) / step, 1.0f) : 1;
    rk__cluster_knots out = {0};
    for (uint32_t k = 0; k < RK__CLUSTER_SHARES; k++) {
        const rk__cluster_out *a = &knots[from].reach[k];
        const rk__cluster_out *b = &knots[i].reach[k];
        out.reach[k] = (rk__cluster_out){a->near + share * (b->near - a->near),
                                         a->apart + share * (b->apart - a->apart)};
    }
    return out;
}

rk__cluster_knots
rk__cluster_reach_of(const rk__cluster *cluster, float recall)
{
    float careful = recall + (1 - recall) * (cluster->space.ip ? IP_MORE : 0);
    rk__cluster_knots out = knots_at(cluster, recall + (1 - recall) * NEAR_MORE);
    rk__cluster_knots apart = knots_at(cluster, careful);

    for (uint32_t k = 0; k < RK__CLUSTER_SHARES; k++) {
        out.reach[k].apart = apart.reach[k].apart;
    }
    return out;
}

void
rk__cluster_reach_none(rk__cluster *cluster)
{
    for (uint32_t k = 0; k < RK__CLUSTER_SHARES; k++) {
        for (uint32_t l = 0; l < RK__CLUSTER_LEVELS; l++) {
            cluster->reaches.levels[l].reach[k] = (rk__cluster_out){FAR, FAR};
        }
    }
}

/* ---- measuring ---- */

typedef struct reach_job {
    const rk_index *index;
    const rk__cluster *cluster;
    const rk_build_options *options;
    size_t queries;
    rk_bitset masks[RK__CLUSTER_SHARES];
    size_t passing[RK__CLUSTER_SHARES];
    float *hits[2]; /* near, apart: per share and query K reaches; NAN: no such hit */
    _Atomic(bool) failed;
} reach_job;

static uint32_t
query_row(const reach_job *job, size_t q)
{
    return (uint32_t)((double)q * (double)job->cluster->rows / (double)job->queries);
}

static bool
trace_reach(reach_job *job, size_t q, uint32_t share, rk_arena *arena)
{
    const rk_index *index = job->index;
    const rk__cluster *c = job->cluster;
    uint32_t nlist = c->info.nlist;
    uint32_t row = query_row(job, q);
    size_t at = (share * job->queries + q) * K;
    rk__cluster_out *reach = rk_arena_alloc(arena, nlist * sizeof(*reach));
    rk__cluster_trace trace = {.reach = reach};
    rk__query query = {.data = rk__space_row(&index->space, row), .len = index->space.row_bytes};
    rk_search_options options = {
        .k = K, .filter = &job->masks[share], .filter_count = job->passing[share], .arena = arena};
    rk__cluster_effort effort = {
        .beta = INFINITY, .epsilon = EPSILON, .first = nlist, .probes = nlist, .trace = &trace};
    rk__near items[K];
    rk__heap heap = {.items = items, .cap = K};

    if (!reach) {
        return false;
    }
    if (index->space.inv_norms) {
        query.inv_norm = index->space.inv_norms[row];
    }
    for (uint32_t k = 0; k < RK__CLUSTER_SHARES; k++) {
        effort.reach.reach[k] = (rk__cluster_out){INFINITY, INFINITY};
    }
    for (uint32_t l = 0; l < nlist; l++) {
        reach[l] = (rk__cluster_out){NAN, NAN};
    }
    if (rk__cluster_run(index, c, &query, &options, &effort, &heap, NULL) != RK_OK) {
        return false;
    }
    for (uint32_t i = 0; i < heap.n; i++) {
        uint32_t l = c->list_of[items[i].row];
        job->hits[0][at + i] = l < nlist ? reach[l].near : NAN;
        job->hits[1][at + i] = l < nlist ? reach[l].apart : NAN;
    }
    return true;
}

static void
tune_query(void *arg, size_t q)
{
    reach_job *job = arg;
    rk_arena *arena = NULL;
    bool good = true;

    for (size_t i = 0; i < RK__CLUSTER_SHARES; i++) {
        size_t at = i * job->queries + q;
        for (size_t h = 0; h < K; h++) {
            job->hits[0][at * K + h] = NAN;
            job->hits[1][at * K + h] = NAN;
        }
    }
    if (job->cluster->place[query_row(job, q)] >= job->cluster->rows - job->cluster->info.loose ||
        rk__cancelled(job->options)) {
        return;
    }
    arena = rk_arena_new(0);
    for (uint32_t i = 0; arena && i < RK__CLUSTER_SHARES && good; i++) {
        good = job->passing[i] < ROWS_MIN || trace_reach(job, q, i, arena);
        rk_arena_reset(arena);
    }
    if (!arena || !good) {
        job->failed = true;
    }
    rk_arena_free(arena);
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Those of |n| values that are finite, to the front, in order; how many. */
static size_t
sorted(float *values, size_t n)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (isfinite(values[i])) {
            values[m++] = values[i];
        }
    }
    qsort(values, m, sizeof(*values), compare_floats);
    return m;
}

/* Of |n| reaches in order the one that leads to a share |recall| of them. */
static float
quantile(const float *reaches, size_t n, float recall)
{
    size_t at = (size_t)(recall * (float)n);

    return at < n ? reaches[at] : reaches[n - 1] + BEYOND;
}

/* Knots of one share; one that too few rows passed is as the one before. */
static void
fill_share(rk__cluster *cluster, const reach_job *job, uint32_t share)
{
    float *near = job->hits[0] + share * job->queries * K;
    float *apart = job->hits[1] + share * job->queries * K;
    size_t n_near = sorted(near, job->queries * K);
    size_t n_apart = sorted(apart, job->queries * K);

    for (uint32_t l = 0; l < RK__CLUSTER_LEVELS; l++) {
        rk__cluster_out *reach = cluster->reaches.levels[l].reach;
        float recall = cluster->info.levels[l].recall;
        if (n_near > 0 && n_apart > 0) {
            reach[share] =
                (rk__cluster_out){quantile(near, n_near, recall), quantile(apart, n_apart, recall)};
        } else if (share > 0) {
            reach[share] = reach[share - 1];
        }
    }
}

/* Random filters that no query passes. */
static rk_code
make_masks(reach_job *job, rk_err *err)
{
    size_t rows = job->cluster->rows;

    for (uint32_t i = 0; i < RK__CLUSTER_SHARES; i++) {
        uint64_t state = 1;
        uint64_t below = UINT64_C(1) << (32 - (uint32_t)SHARE_STEP * i);
        if (rk_bitset_init(&job->masks[i], rows) != RK_OK) {
            return rk_fail(err, RK_ENOMEM, "cluster build: no memory for filters of %zu rows",
                           rows);
        }
        for (size_t row = 0; row < rows; row++) {
            if (rk__random(&state) >> 32 < below) {
                rk_bitset_set(&job->masks[i], row);
            }
        }
        for (size_t q = 0; q < job->queries; q++) {
            rk_bitset_clear(&job->masks[i], query_row(job, q));
        }
        job->passing[i] = rk_bitset_count(&job->masks[i]);
    }
    return RK_OK;
}

rk_code
rk__cluster_reach_tune(const rk_index *index, rk__cluster *cluster, const rk_build_options *options,
                       rk_err *err)
{
    reach_job job = {.index = index,
                     .cluster = cluster,
                     .options = options,
                     .queries = RK_MIN((size_t)QUERIES, cluster->rows / 16)};
    rk_code code = RK_OK;

    RK_ERR(make_masks(&job, err));
    for (uint32_t i = 0; i < 2; i++) {
        job.hits[i] = rk_alloc_zero(RK__CLUSTER_SHARES * job.queries * K, sizeof(float));
    }
    if (!job.hits[0] || !job.hits[1]) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory to measure recall under filters");
        goto out;
    }
    rk__parallel_run(options->parallel, job.queries, tune_query, &job);
    if (rk__cancelled(options)) {
        code = rk_fail(err, RK_ECANCELLED, "cluster build cancelled while recall was measured");
        goto out;
    }
    if (job.failed) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory to measure recall under filters");
        goto out;
    }
    for (uint32_t i = 0; i < RK__CLUSTER_SHARES; i++) {
        fill_share(cluster, &job, i);
    }
out:
    for (uint32_t i = 0; i < RK__CLUSTER_SHARES; i++) {
        rk_bitset_deinit(&job.masks[i]);
    }
    rk_free(job.hits[0]);
    rk_free(job.hits[1]);
    return code;
}
