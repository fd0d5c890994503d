/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ef gives which recall, measured at the end of a build on rows of the index as queries, each
 * as if it were not in the graph: its node is neither scored nor passed. The links that led through
 * it stay lost, so that the graph is a little worse than for a query from outside, and rows have
 * nearer neighbours than new vectors. The first error is the larger one: queries from outside miss
 * 0.2 to 1.0 of what rows miss, 0.6 in the middle, measured on nine sets (docs/index-kinds.md);
 * OUTSIDE of it is counted on.
 *
 * The answers to compare with come from a search of the clusters that leaves nothing out, or where
 * there are none from a scan of the vectors, of as many queries as can be afforded.
 *
 * Counted, not timed: the curve is a function of the data, the parameters and the seed, on several
 * threads also of how these were linked.
 */
#include <stdlib.h>

#include "index/cluster/cluster.h"
#include "index/hnsw/hnsw.h"

#define QUERIES      192u
#define QUERIES_MIN  24u
#define SCAN_BYTES   (UINT64_C(4) << 30) /* that scans for answers may read in all */
#define ROWS_MIN     256u
#define FEW          10u
#define MANY         100u
#define OUTSIDE      0.75f
#define CHAINED_MAX  64u /* a row with more equals is not asked for */
#define EPSILON_MOST 3.0f
#define SAMPLE       512u
#define LENGTHS      1.1f  /* squares that differ by less are taken for equal */
#define EF_COMPARED  100u  /* of a walk on codes, beside one on estimates that costs as much */
#define CLEARLY      0.01f /* more recall */

static const uint32_t efs[RK__HNSW_POINTS] = {10,  12,  15,  18,  21,  26,  31,  38,
                                              46,  56,  67,  81,  100, 119, 144, 174,
                                              211, 255, 309, 374, 453, 548, 663, 802};

typedef struct tune_job {
    const rk_index *index;
    const rk_build_options *options;
    size_t queries;
    float (*found)[RK__HNSW_POINTS][2]; /* per query */
    bool *asked;                        /* per query */
    uint32_t only;                      /* ef; 0: all of them */
    _Atomic(bool) failed;
} tune_job;

/* The node to take the place of query |q|; RK__NO_ROW: none near is a good one. */
static uint32_t
pick_row(const tune_job *job, size_t q)
{
    const rk__hnsw *graph = job->index->impl;
    const rk__hnsw_level *ground = &graph->levels[0];
    size_t rows = job->index->space.rows;
    size_t from = (size_t)((double)q * (double)rows / (double)job->queries);

    for (size_t r = from; r < RK_MIN(from + 64, rows); r++) {
        uint32_t chained = 0;
        bool upper = r == graph->entry;
        for (uint32_t i = 0; i < graph->n_upper && !upper; i++) {
            upper = graph->levels[1].node_rows[i] == r;
        }
        if (upper || rk__link_get(&ground->links[r * ground->stride]) >= ground->nodes) {
            continue;
        }
        for (uint32_t next = rk__chain_next(graph, rows, (uint32_t)r); next != RK__NO_ROW;
             next = rk__chain_next(graph, rows, next)) {
            chained++;
        }
        if (chained <= CHAINED_MAX) {
            return (uint32_t)r;
        }
    }
    return RK__NO_ROW;
}

static bool
is_same_node(const rk__hnsw *graph, size_t rows, uint32_t node, uint32_t row)
{
    for (; node != RK__NO_ROW; node = rk__chain_next(graph, rows, node)) {
        if (node == row) {
            return true;
        }
    }
    return false;
}

/* The nearest rows to |node| but itself and its equals. */
static bool
nearest_rows(const tune_job *job, uint32_t node, const rk__query *query, rk_arena *arena,
             float keys[MANY], uint32_t *n)
{
    const rk_index *index = job->index;
    const rk__hnsw *graph = index->impl;
    rk_search_options options = {.filter_count = index->space.rows, .arena = arena};
    rk__range range = rk__range_of(index->space.metric, &options);
    rk__near items[MANY + CHAINED_MAX + 1];
    rk__heap heap = {.items = items, .cap = (uint32_t)RK_MIN(RK_COUNT(items), index->space.rows)};

    options.k = heap.cap;
    if (graph->lists && rk__hnsw_lists_are_good(index)) {
        rk__cluster_effort all = {.beta = INFINITY,
                                  .epsilon = EPSILON_MOST,
                                  .first = graph->lists->info.nlist,
                                  .probes = graph->lists->info.nlist};
        if (rk__cluster_run(index, graph->lists, query, &options, &all, &heap, NULL) != RK_OK) {
            return false;
        }
    } else {
        rk__scan(&index->space, query, 0, index->space.rows, 0, NULL, &range, &heap);
    }
    rk__heap_sort(&heap);
    *n = 0;
    for (uint32_t i = 0; i < heap.n && *n < MANY; i++) {
        if (!is_same_node(graph, index->space.rows, node, items[i].row)) {
            keys[(*n)++] = items[i].key;
        }
    }
    return true;
}

/* The share of the |k| nearest that is among the found. */
static float
share_found(const rk__heap *found, const float *wanted, uint32_t n, uint32_t k)
{
    uint32_t of = RK_MIN(n, k);
    uint32_t good = 0;

    for (uint32_t i = 0; i < found->n && i < of; i++) { /* sorted */
        good += found->items[i].key <= wanted[of - 1];
    }
    return of > 0 ? (float)good / (float)of : 1;
}

static bool
ask(tune_job *job, size_t q, uint32_t node, rk_arena *arena)
{
    const rk_index *index = job->index;
    rk__query query = {.data = rk__space_row(&index->space, node), .len = index->space.row_bytes};
    rk__near items[MANY];
    float wanted[MANY];
    uint32_t n = 0;

    if (index->space.inv_norms) {
        query.inv_norm = index->space.inv_norms[node];
    }
    if (!nearest_rows(job, node, &query, arena, wanted, &n)) {
        return false;
    }
    for (uint32_t i = 0; i < (job->only > 0 ? 1 : RK__HNSW_POINTS); i++) {
        uint32_t ef = job->only > 0 ? job->only : efs[i];
        rk_search_options options = {
            .k = efs[i] < MANY ? FEW : MANY, .filter_count = index->space.rows, .arena = arena};
        rk__heap heap = {.items = items, .cap = options.k};
        float *found = job->found[q][i];
        const float *before = i > 0 ? job->found[q][i - 1] : found;
        if (i > 0 && before[0] >= 1 && before[1] >= 1) { /* it does not get better */
            found[0] = 1;
            found[1] = 1;
            continue;
        }
        if (rk__hnsw_search_apart(index, &query, &options, ef, node, &heap, NULL) != RK_OK) {
            return false;
        }
        rk__heap_sort(&heap);
        found[0] = share_found(&heap, wanted, n, FEW);
        found[1] = efs[i] < MANY ? 0 : share_found(&heap, wanted, n, MANY);
    }
    job->asked[q] = n > 0;
    return true;
}

static void
tune_query(void *arg, size_t q)
{
    tune_job *job = arg;
    uint32_t node = RK__NO_ROW;
    rk_arena *arena = NULL;

    if (rk__cancelled(job->options) || job->failed) {
        return;
    }
    node = pick_row(job, q);
    if (node == RK__NO_ROW) {
        return;
    }
    arena = rk_arena_new(0);
    if (!arena || !ask(job, q, node, arena)) {
        job->failed = true;
    }
    rk_arena_free(arena);
}

static void
fill_curve(const tune_job *job, rk__hnsw_curve *curve)
{
    size_t asked = 0;

    for (size_t q = 0; q < job->queries; q++) {
        asked += job->asked[q];
    }
    curve->n = 0;
    for (uint32_t i = 0; i < RK__HNSW_POINTS && asked > 0; i++) {
        rk__hnsw_point *point = &curve->points[i];
        const rk__hnsw_point *before = &curve->points[i > 0 ? i - 1 : 0];
        double sums[2] = {0, 0};
        for (size_t q = 0; q < job->queries; q++) {
            sums[0] += job->asked[q] ? (double)job->found[q][i][0] : 0;
            sums[1] += job->asked[q] ? (double)job->found[q][i][1] : 0;
        }
        *point = (rk__hnsw_point){.ef = efs[i]};
        for (uint32_t j = 0; j < 2; j++) {
            point->recall[j] = RK_MIN((float)(sums[j] / (double)asked), 1.0f);
            point->recall[j] =
                i > 0 ? RK_MAX(point->recall[j], before->recall[j]) : point->recall[j];
        }
        curve->n = i + 1;
        if (point->recall[0] >= 1 && point->recall[1] >= 1) {
            break;
        }
    }
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Whether rows are of different length, which only matters to IP. */
static bool
lengths_differ(const rk__space *space)
{
    float squares[SAMPLE];
    size_t n = 0;

    if (space->metric != RK_METRIC_IP || space->type == RK_VEC_BINARY) {
        return false;
    }
    for (size_t i = 0; i < RK_MIN((size_t)SAMPLE, space->rows); i++) {
        size_t r = (size_t)((double)i * (double)space->rows / SAMPLE);
        const void *row = rk__space_row(space, space->rows > SAMPLE ? r : i);
        float square = space->self_ip(row, row, space->dist_n);
        if (isfinite(square)) {
            squares[n++] = square;
        }
    }
    if (n == 0) {
        return false;
    }
    qsort(squares, n, sizeof(*squares), compare_floats);
    return squares[n - 1] > LENGTHS * squares[n / 50]; /* a few short rows are nothing */
}

/* Recall of the 10 nearest. */
static float
recall_at(tune_job *job, uint32_t ef)
{
    double sum = 0;
    size_t asked = 0;

    job->only = ef;
    rk__parallel_run(job->options->parallel, job->queries, tune_query, job);
    job->only = 0;
    for (size_t q = 0; q < job->queries; q++) {
        asked += job->asked[q];
        sum += job->asked[q] ? (double)job->found[q][0][0] : 0;
    }
    return asked > 0 ? (float)(sum / (double)asked) : 0;
}

/* What a one-bit estimate is off by grows with the length of what it stands for, and with that how
 * often a long row is followed in vain: at the same cost a walk on the codes may find more. */
static void
choose_walk(rk_index *index, tune_job *job)
{
    rk__hnsw *graph = index->impl;

    if (!graph->uneven || !graph->blocks.data || graph->blocks.width != RK__BITS_ROWS) {
        return;
    }
    float estimates = recall_at(job, (uint32_t)(RK__ON_CODES_COST * EF_COMPARED));
    graph->on_codes = true;
    graph->on_codes = recall_at(job, EF_COMPARED) > estimates + CLEARLY;
}

rk_code
rk__hnsw_tune(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__hnsw *graph = index->impl;
    tune_job job = {.index = index, .options = options};
    const rk__space *space = &index->space;
    rk_code code = RK_OK;

    graph->curve = (rk__hnsw_curve){0};
    graph->uneven = lengths_differ(space);
    graph->on_codes = false;
    if (space->rows < ROWS_MIN || graph->entry == RK__NO_ROW) {
        return RK_OK;
    }
    job.queries = RK_MIN((size_t)QUERIES, space->rows / 64);
    if (!graph->lists || !rk__hnsw_lists_are_good(index)) {
        uint64_t affordable = SCAN_BYTES / RK_MAX((uint64_t)space->rows * space->row_bytes, 1u);
        job.queries = RK_MIN(job.queries, (size_t)RK_MIN(affordable, (uint64_t)QUERIES));
    }
    job.queries = RK_MAX(job.queries, (size_t)QUERIES_MIN);
    job.found = rk_alloc_zero(job.queries, sizeof(*job.found));
    job.asked = rk_alloc_zero(job.queries, sizeof(*job.asked));
    if (!job.found || !job.asked) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory to measure recall");
        goto out;
    }
    choose_walk(index, &job);
    rk__parallel_run(options->parallel, job.queries, tune_query, &job);
    if (rk__cancelled(options)) {
        code = rk_fail(err, RK_ECANCELLED, "HNSW build cancelled while recall was measured");
    } else if (job.failed) {
        code = rk_fail(err, RK_ENOMEM, "HNSW build: no memory to measure recall");
    } else {
        fill_curve(&job, &graph->curve);
    }
out:
    rk_free(job.found);
    rk_free(job.asked);
    return code;
}

/* ---- reading the curve ---- */

bool
rk__hnsw_curve_is_sound(const rk__hnsw_curve *curve)
{
    bool good = curve->n <= RK__HNSW_POINTS;

    for (uint32_t i = 0; i < RK_COUNT(curve->lists_ns); i++) {
        good = good && isfinite(curve->lists_ns[i]);
    }
    for (uint32_t i = 0; good && i < curve->n; i++) {
        const rk__hnsw_point *p = &curve->points[i];
        const rk__hnsw_point *before = &curve->points[i > 0 ? i - 1 : 0];
        good = p->ef >= 1 && p->ef <= (UINT32_C(1) << 20) && (i == 0 || p->ef > before->ef);
        for (uint32_t j = 0; j < 2; j++) {
            good =
                good && p->recall[j] >= before->recall[j] && p->recall[j] >= 0 && p->recall[j] <= 1;
        }
    }
    return good;
}

/* The ef at which the curve of the few or of the many reaches |measured|. */
static double
ef_at(const rk__hnsw_curve *curve, uint32_t which, float measured)
{
    const rk__hnsw_point *p = curve->points;
    uint32_t last = curve->n - 1;
    uint32_t i = 0;

    while (i < last && !(p[i].recall[which] >= measured)) {
        i++;
    }
    if (!(p[i].recall[which] >= measured)) { /* never seen */
        return 2.0 * (double)p[last].ef;
    }
    if (i == 0 || (which == 1 && p[i - 1].ef < MANY)) {
        return (double)p[i].ef;
    }
    double rise = (double)(p[i].recall[which] - p[i - 1].recall[which]);
    double share = rise > 0 ? (double)(measured - p[i - 1].recall[which]) / rise : 1;
    return (double)p[i - 1].ef + share * (double)(p[i].ef - p[i - 1].ef);
}

static double
ef_of(const rk__hnsw_curve *curve, uint32_t k, float measured)
{
    double few = ef_at(curve, 0, measured);

    if (k <= FEW) {
        return few;
    }
    double many = RK_MAX(ef_at(curve, 1, measured), few);
    if (k >= MANY) {
        return many * (double)k / MANY;
    }
    return few * pow(many / few, log((double)k / FEW) / log((double)MANY / FEW));
}

uint32_t
rk__hnsw_ef_for(const rk__hnsw_curve *curve, uint32_t k, float recall)
{
    double ef = ceil(ef_of(curve, k, 1 - (1 - recall) / OUTSIDE));

    return RK_MAX(k, (uint32_t)RK_MIN(ef, (double)INT32_MAX));
}

float
rk__hnsw_recall_of(const rk__hnsw_curve *curve, uint32_t k, uint32_t ef)
{
    float low = 0;
    float high = 1;

    for (unsigned i = 0; i < 12; i++) {
        float middle = (low + high) / 2;
        if (ef_of(curve, k, middle) <= (double)ef) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return 1 - (1 - low) * OUTSIDE;
}
