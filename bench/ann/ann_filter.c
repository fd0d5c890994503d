/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searches under filters, one setting, four shapes of filter:
 *
 *   random     every row passes with the same chance
 *   clustered  whole neighbourhoods pass: rows are given to the nearest of 256 of them, and cells
 *              pass one after the other until the share is reached
 *   near       the rows nearest to the query pass: filter and query agree
 *   far        the rows farthest from the query pass: everything a walk meets first is forbidden
 *
 * Prints "filter NAME SHAPE PERCENT recall@10 queries/s share-of-unfiltered". Recall is against
 * exact search over the passing rows; a hit counts when it is as near as the k-th of those. The
 * program ends when a search returns a row that does not pass, or fewer than k while k pass.
 *
 * Without percentages a grid from 0.1 to 100 is taken. The slowest and the least exact cell of each
 * shape go to stderr at the end. ANN_SHAPES in the environment names the shapes, ANN_QUERIES the
 * number of queries at most.
 *
 * Filters are in the order of the index (rk_index_filter_new()), as a server has those that came
 * before; with ANN_FIRST=1 in the environment they are as those that are seen for the first time.
 *
 * Filters are made before the clock starts and the searches of one cell run in a block, so that
 * making filters does not empty the caches between them; unfiltered searches take turns with them.
 */
#include <math.h>

#include "ann.h"

#define CELLS      256u
#define SHARES_MAX 24u

typedef struct bed {
    const rk_index *index;
    const ann_data *d;
    uint32_t queries;
    rk_params setting;
    float *distances; /* queries * rows, squared */
    float *edges;     /* queries * shares * 2: the distance up to which, from which a share lies */
    rk_bitset *masks; /* queries; random and clustered use the first alone */
    rk_index_filter *
        *ordered; /* the same in the order of the index, NULL where that gains nothing */
    bool first;   /* filters are seen for the first time */
    const double *shares;
    uint32_t n_shares;
} bed;

/* Sixteen sums, so that the compiler can keep them in one register. */
static float
distance(const float *a, const float *b, uint32_t dim)
{
    float sums[16] = {0};
    float sum = 0;
    uint32_t i = 0;

    for (; i + 16 <= dim; i += 16) {
        for (uint32_t j = 0; j < 16; j++) {
            float diff = a[i + j] - b[i + j];
            sums[j] += diff * diff;
        }
    }
    for (; i < dim; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    for (uint32_t j = 0; j < 16; j++) {
        sum += sums[j];
    }
    return sum;
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

static void
edges_of(const bed *b, size_t q, const float *of)
{
    uint32_t rows = b->d->rows;
    float *sorted = calloc(rows, sizeof(float));

    if (!sorted) {
        ann_die("no memory");
    }
    memcpy(sorted, of, rows * sizeof(float));
    qsort(sorted, rows, sizeof(float), by_value);
    for (uint32_t s = 0; s < b->n_shares; s++) {
        uint32_t pass = RK_MAX((uint32_t)(b->shares[s] * rows + 0.5), 1u);
        float *edge = b->edges + (q * b->n_shares + s) * 2;
        edge[0] = sorted[pass - 1];
        edge[1] = sorted[rows - pass];
    }
    free(sorted);
}

static void
distances_of(void *arg, size_t q)
{
    const bed *b = arg;
    const float *query = b->d->query + q * b->d->dim;
    float *out = b->distances + q * b->d->rows;

    for (size_t row = 0; row < b->d->rows; row++) {
        out[row] = distance(query, b->d->base + row * b->d->dim, b->d->dim);
    }
    edges_of(b, q, out);
}

/* The k-th smallest distance of query |q| among the rows of |mask| (NULL: all), and how many there
 * are, up to k. */
static float
kth(const bed *b, uint32_t q, const rk_bitset *mask, uint32_t *n)
{
    const float *of = b->distances + (size_t)q * b->d->rows;
    float best[ANN_K];
    uint32_t have = 0;

    for (uint32_t row = 0; row < b->d->rows; row++) {
        if ((mask && !rk_bitset_get(mask, row)) || (have == ANN_K && of[row] >= best[have - 1])) {
            continue;
        }
        uint32_t at = have < ANN_K ? have++ : have - 1;
        while (at > 0 && best[at - 1] > of[row]) {
            best[at] = best[at - 1];
            at--;
        }
        best[at] = of[row];
    }
    *n = have;
    return have ? best[have - 1] : 0;
}

/* All queries once under |masks| (NULL: none; |shared|: the first for all). Returns CPU seconds. */
static double
pass(const bed *b, const rk_bitset *masks, bool shared, const size_t *counts, rk_hit *hits,
     uint32_t *found, rk_arena *arena)
{
    double start = ann_cpu();

    for (uint32_t q = 0; q < b->queries; q++) {
        rk_search_options o = {.k = ANN_K,
                               .params = b->setting,
                               .arena = arena,
                               .filter = masks ? &masks[shared ? 0 : q] : NULL,
                               .filter_count = counts[q],
                               .ordered = masks ? b->ordered[shared ? 0 : q] : NULL};
        rk_err err = {0};
        if (rk_index_search(b->index, b->d->query + (size_t)q * b->d->dim, (size_t)b->d->dim * 4,
                            &o, hits + (size_t)q * ANN_K, &found[q], &err) != RK_OK) {
            ann_die(err.text);
        }
        rk_arena_reset(arena);
    }
    return ann_cpu() - start;
}

static double
recall_of(const bed *b, const rk_bitset *masks, bool shared, const rk_hit *hits,
          const uint32_t *found)
{
    double recall = 0;

    for (uint32_t q = 0; q < b->queries; q++) {
        const rk_bitset *mask = masks ? &masks[shared ? 0 : q] : NULL;
        uint32_t n;
        float limit = kth(b, q, mask, &n);
        uint32_t right = 0;
        if (found[q] < n) {
            ann_die("a search returned fewer rows than pass the filter");
        }
        for (uint32_t i = 0; i < found[q]; i++) {
            uint32_t row = hits[(size_t)q * ANN_K + i].row;
            if (mask && !rk_bitset_get(mask, row)) {
                ann_die("a search returned a row that does not pass the filter");
            }
            right += b->distances[(size_t)q * b->d->rows + row] <= limit * 1.000001f;
        }
        recall += n ? (double)right / n : 1;
    }
    return recall / b->queries;
}

typedef struct cell {
    double recall;
    double share; /* of the unfiltered speed */
} cell;

/* One cell: recall, queries per second, and the latter as a share of unfiltered searches that are
 * taken in turn with these. */
static cell
measure(const bed *b, const rk_bitset *masks, bool shared, const char *label)
{
    rk_arena *arena = rk_arena_new(0);
    size_t *counts = calloc(b->queries, sizeof(*counts));
    rk_hit *hits = calloc((size_t)b->queries * ANN_K, sizeof(*hits));
    uint32_t *found = calloc(b->queries, sizeof(*found));
    double seconds = ann_seconds() / 4;
    double spent[2] = {0, 0}; /* filtered, unfiltered */
    uint32_t rounds[2] = {0, 0};

    if (!counts || !hits || !found) {
        ann_die("no memory");
    }
    for (uint32_t q = 0; masks && q < b->queries; q++) {
        counts[q] = rk_bitset_count(&masks[shared ? 0 : q]);
    }
    for (uint32_t q = 0; masks && !b->first && q < (shared ? 1 : b->queries); q++) {
        rk_err err = {0};
        if (rk_index_filter_new(&b->ordered[q], b->index, &masks[q], counts[q], NULL, &err) !=
            RK_OK) {
            ann_die(err.text);
        }
    }
    (void)pass(b, NULL, true, counts, hits, found, arena);
    (void)pass(b, masks, shared, counts, hits, found, arena);
    double recall = recall_of(b, masks, shared, hits, found);
    while (spent[0] < seconds || spent[1] < seconds) {
        int side = spent[0] < spent[1] ? 0 : 1;
        spent[side] += pass(b, side == 0 ? masks : NULL, side == 0 ? shared : true, counts, hits,
                            found, arena);
        rounds[side]++;
    }
    double qps = rounds[0] * b->queries / spent[0];
    double of_all = qps / (rounds[1] * b->queries / spent[1]);
    printf("%s %.4f %.0f %.2f\n", label, recall, qps, of_all);
    fflush(stdout);
    for (uint32_t q = 0; q < b->queries; q++) {
        rk_index_filter_free(b->ordered[q]);
        b->ordered[q] = NULL;
    }
    free(counts);
    free(hits);
    free(found);
    rk_arena_free(arena);
    return (cell){recall, of_all};
}

/* ---- filters ---- */

static void
mask_random(const bed *b, double share)
{
    uint64_t state = 7;

    rk_bitset_fill(&b->masks[0], false);
    for (uint32_t row = 0; row < b->d->rows; row++) {
        if (ann_uniform(&state) <= share) {
            rk_bitset_set(&b->masks[0], row);
        }
    }
}

typedef struct cells {
    const ann_data *d;
    uint32_t n;
    uint32_t pivots[CELLS];
    uint16_t *of; /* rows */
} cells;

static void
cells_block(void *arg, size_t block)
{
    const cells *c = arg;
    size_t last = RK_MIN((block + 1) * 1024, (size_t)c->d->rows);

    for (size_t row = block * 1024; row < last; row++) {
        float best = INFINITY;
        for (uint32_t i = 0; i < c->n; i++) {
            float x = distance(c->d->base + row * c->d->dim,
                               c->d->base + (size_t)c->pivots[i] * c->d->dim, c->d->dim);
            if (x < best) {
                best = x;
                c->of[row] = (uint16_t)i;
            }
        }
    }
}

static cells
cells_make(const ann_data *d)
{
    unsigned width = ann_threads();
    cells c = {.d = d, .n = RK_MIN(CELLS, d->rows), .of = calloc(d->rows, sizeof(uint16_t))};
    uint64_t state = 11;

    if (!c.of) {
        ann_die("no memory");
    }
    for (uint32_t i = 0; i < c.n; i++) {
        c.pivots[i] = (uint32_t)(rk__random(&state) % d->rows);
    }
    ann_run_threads(&width, (d->rows + 1023) / 1024, cells_block, &c);
    return c;
}

static void
mask_clustered(const bed *b, const cells *c, double share)
{
    size_t left = (size_t)(share * b->d->rows + 0.5);

    rk_bitset_fill(&b->masks[0], false);
    for (uint32_t cell = 0; cell < c->n && left; cell++) { /* pivots are in random order already */
        for (uint32_t row = 0; row < b->d->rows && left; row++) {
            if (c->of[row] == cell) {
                rk_bitset_set(&b->masks[0], row);
                left--;
            }
        }
    }
}

static void
mask_by_distance(const bed *b, uint32_t share, bool near)
{
    for (uint32_t q = 0; q < b->queries; q++) {
        const float *of = b->distances + (size_t)q * b->d->rows;
        float edge = b->edges[((size_t)q * b->n_shares + share) * 2 + (near ? 0 : 1)];
        rk_bitset_fill(&b->masks[q], false);
        for (uint32_t row = 0; row < b->d->rows; row++) {
            if (near ? of[row] <= edge : of[row] >= edge) {
                rk_bitset_set(&b->masks[q], row);
            }
        }
    }
}

void
ann_filter(char **argv, int argc)
{
    static const char *const shapes[] = {"random", "clustered", "near", "far"};
    static char *grid[] = {"0.1", "0.5", "1",  "2",  "3",  "5",  "10", "20",
                           "30",  "50",  "70", "90", "95", "99", "100"};
    const char *wanted = getenv("ANN_SHAPES");
    const char *most = getenv("ANN_QUERIES");
    const char *first = getenv("ANN_FIRST");
    char **percents = argc > 4 ? argv + 4 : grid;
    int n_percents = argc > 4 ? argc - 4 : (int)RK_COUNT(grid);
    cell slowest[4];
    cell least[4];
    int at[4][2] = {{0}};
    ann_data d = ann_load(argv[1]);
    rk_vectors v = ann_vectors(&d);
    rk_param params[ANN_PARAMS_MAX];
    double shares[SHARES_MAX];
    uint32_t fit = 100000000u / d.rows;
    bed b = {.index = ann_open(argv[2], &v),
             .d = &d,
             .queries = RK_MIN(d.queries, RK_MAX(RK_MIN(fit, most ? ann_number(most) : 400u), 50u)),
             .setting = ann_setting(argv[3], params),
             .first = first && strcmp(first, "0") != 0,
             .shares = shares};
    unsigned width = ann_threads();
    char label[128];

    for (int i = 0; i < n_percents && b.n_shares < SHARES_MAX; i++) {
        shares[b.n_shares] = strtod(percents[i], NULL) / 100;
        if (!(shares[b.n_shares] > 0 && shares[b.n_shares] <= 1)) {
            ann_die("a share is above 0 and at most 100 percent");
        }
        b.n_shares++;
    }
    b.distances = calloc((size_t)b.queries * d.rows, sizeof(float));
    b.edges = calloc((size_t)b.queries * b.n_shares * 2, sizeof(float));
    b.masks = calloc(b.queries, sizeof(*b.masks));
    b.ordered = calloc(b.queries, sizeof(rk_index_filter *));
    if (!b.ordered || !b.distances || !b.edges || !b.masks) {
        ann_die("no memory");
    }
    for (uint32_t q = 0; q < b.queries; q++) {
        if (rk_bitset_init(&b.masks[q], d.rows) != RK_OK) {
            ann_die("no memory");
        }
    }
    ann_run_threads(&width, b.queries, distances_of, &b);
    cells parts = cells_make(&d);
    (void)snprintf(label, sizeof(label), "filter %s none 100", argv[0]);
    (void)measure(&b, NULL, true, label);
    for (int shape = 0; shape < 4; shape++) {
        slowest[shape] = (cell){2, INFINITY};
        least[shape] = (cell){2, 0};
    }
    for (uint32_t s = 0; s < b.n_shares; s++) {
        for (int shape = 0; shape < 4; shape++) {
            if (wanted && !strstr(wanted, shapes[shape])) {
                continue;
            }
            if (shape == 0) {
                mask_random(&b, shares[s]);
            } else if (shape == 1) {
                mask_clustered(&b, &parts, shares[s]);
            } else {
                mask_by_distance(&b, s, shape == 2);
            }
            (void)snprintf(label, sizeof(label), "filter %s %s %s", argv[0], shapes[shape],
                           percents[s]);
            cell c = measure(&b, b.masks, shape < 2, label);
            if (c.share < slowest[shape].share) {
                slowest[shape] = c;
                at[shape][0] = (int)s;
            }
            if (c.recall < least[shape].recall) {
                least[shape] = c;
                at[shape][1] = (int)s;
            }
        }
    }
    for (int shape = 0; shape < 4; shape++) {
        if (slowest[shape].recall <= 1) {
            (void)fprintf(stderr, "%s: slowest %.0f %% at %s %%, least recall %.3f at %s %%\n",
                          shapes[shape], 100 * slowest[shape].share, percents[at[shape][0]],
                          least[shape].recall, percents[at[shape][1]]);
        }
    }
}
