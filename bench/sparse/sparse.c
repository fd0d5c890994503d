/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse search benchmark, in process, one thread.
 *
 *   sparse run ROWS [QUERIES [ROUNDS]]
 *       makes ROWS rows (sparse_data.c), builds TAAT_NAIVE and BLOCK_MAX_MAXSCORE over them, runs
 * the same queries through both in turn and prints medians: rows/s of the build, bytes per posting,
 * queries/s, their ratio, and recall@10 against the plain scan of TAAT_NAIVE with scores compared
 * bit for bit
 *
 *   sparse filter ROWS ...
 *       the same under filters: of rows at random, and of rows that share their strongest term
 *
 *   sparse real DOCUMENTS QUERIES
 *       real rows and queries (JSON lines): both answers are compared bit for bit, filtered and not
 *
 *   sparse describe [FILE]
 *       what made-up rows are like beside those of a file of real ones
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sparse_data.h"

#define K          10u
#define ROUNDS_MAX 25u

/* CPU time: the machine may be shared. */
static double
now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A number of the command line, |fallback| for what is none. */
static size_t
number(int argc, char **argv, int at, size_t fallback)
{
    char *end = NULL;
    unsigned long long value = at < argc ? strtoull(argv[at], &end, 10) : 0;

    return end && *end == '\0' && value > 0 ? (size_t)value : fallback;
}

typedef struct side {
    const char *algorithm;
    rk_index *index;
    rk_hit *hits; /* queries * K */
    uint32_t *n;
    double qps[ROUNDS_MAX];
    double unfiltered;
} side;

static void
build(side *s, const rk_vectors *v, size_t queries)
{
    rk_param algorithm = {RK_STR("inverted_index_algo"), rk_str_from(s->algorithm)};
    rk_build_options options = {.metric = RK_METRIC_IP, .params = {&algorithm, 1}};
    rk_err err = {0};
    rk_index_info info;
    double start = now();

    if (rk_index_build(&s->index, RK_STR("SPARSE_INVERTED_INDEX"), v, &options, &err) != RK_OK) {
        fprintf(stderr, "build failed: %s\n", err.text);
        exit(1);
    }
    double seconds = now() - start;
    rk_index_get_info(s->index, &info);
    s->hits = rk_alloc(queries * K * sizeof(*s->hits));
    s->n = rk_alloc(queries * sizeof(*s->n));
    if (!s->hits || !s->n) {
        abort();
    }
    printf("| %s | %.0f rows/s | %.2f bytes per posting |\n", s->algorithm,
           (double)v->rows / seconds,
           (double)info.memory_bytes / ((double)v->offsets[v->rows] / 8));
}

static double
search(side *s, const sparse_data *d, const rk_bitset *filter, size_t count)
{
    rk_arena *arena = rk_arena_new(0);
    double start = now();

    for (size_t q = 0; q < d->queries; q++) {
        uint64_t at = d->offsets[d->rows + q];
        rk_search_options options = {
            .k = K, .arena = arena, .filter = filter, .filter_count = count};
        if (rk_index_search(s->index, d->data + at, d->offsets[d->rows + q + 1] - at, &options,
                            s->hits + q * K, &s->n[q], NULL) != RK_OK) {
            abort();
        }
        rk_arena_reset(arena);
    }
    double seconds = now() - start;
    rk_arena_free(arena);
    return (double)d->queries / seconds;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Share of the first side's hits that the second has, row and score. */
static double
recall(const side *truth, const side *other, size_t queries)
{
    size_t hit = 0;
    size_t all = 0;

    for (size_t q = 0; q < queries; q++) {
        all += truth->n[q];
        for (size_t i = 0; i < truth->n[q] && i < other->n[q]; i++) {
            const rk_hit *a = &truth->hits[q * K + i];
            const rk_hit *b = &other->hits[q * K + i];
            hit += a->row == b->row && memcmp(&a->score, &b->score, 4) == 0;
        }
    }
    return all ? (double)hit / (double)all : 1;
}

static void
compare(side sides[2], const sparse_data *d, size_t rounds, const rk_bitset *filter, size_t count,
        const char *label)
{
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < 2; i++) {
            sides[i].qps[r] = search(&sides[i], d, filter, count);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        qsort(sides[i].qps, rounds, sizeof(double), compare_doubles);
    }
    double own = sides[1].qps[rounds / 2];
    if (!filter) {
        sides[1].unfiltered = own;
    }
    printf("| %s | %.0f | %.0f | %.2f | %.0f %% | %.4f |\n", label, sides[0].qps[rounds / 2], own,
           own / sides[0].qps[rounds / 2], 100 * own / sides[1].unfiltered,
           recall(&sides[0], &sides[1], d->queries));
}

/* The index of a row's largest value, mixed. */
static uint64_t
strongest(const sparse_data *d, size_t row)
{
    rk__pair best = {0, 0};

    for (uint64_t at = d->offsets[row]; at < d->offsets[row + 1]; at += sizeof(rk__pair)) {
        rk__pair pair;
        memcpy(&pair, d->data + at, sizeof(pair));
        best = pair.value > best.value ? pair : best;
    }
    uint64_t x = (best.index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 32;
}

/* About |share| of the rows: at random, or all rows of some terms. */
static void
make_filter(rk_bitset *filter, const sparse_data *d, double share, bool clustered)
{
    size_t rows = d->rows;
    uint64_t state = 99;

    if (rk_bitset_init(filter, rows) != RK_OK) {
        abort();
    }
    for (size_t i = 0; i < rows; i++) {
        uint64_t draw = clustered ? strongest(d, i) : rk__random(&state);
        if ((double)(draw >> 11) * 0x1p-53 < share) {
            rk_bitset_set(filter, i);
        }
    }
}

static int
run(size_t rows, size_t queries, size_t rounds, bool filters)
{
    static const double shares[] = {0.9, 0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001};
    side sides[2] = {{.algorithm = "TAAT_NAIVE"}, {.algorithm = "BLOCK_MAX_MAXSCORE"}};
    sparse_data d;

    if (!sparse_data_make(&d, rows, queries, 7)) {
        fprintf(stderr, "no memory for %zu rows\n", rows);
        return 1;
    }
    rk_vectors v = {RK_VEC_SPARSE, 0, rows, d.data, d.offsets};
    printf("%zu rows, %.1f values a row, %.1f a query\n\n| algorithm | build, one thread | memory "
           "beside the rows |\n| --- | --- | --- |\n",
           rows, (double)d.offsets[rows] / 8 / (double)rows,
           (double)(d.offsets[rows + queries] - d.offsets[rows]) / 8 / (double)queries);
    build(&sides[0], &v, queries);
    build(&sides[1], &v, queries);
    printf("\n| rows pass | TAAT_NAIVE, queries/s | BLOCK_MAX_MAXSCORE, queries/s | ratio | "
           "of unfiltered | recall@10, same bits |\n| --- | --- | --- | --- | --- | --- |\n");
    compare(sides, &d, rounds, NULL, 0, "all");
    for (size_t i = 0; filters && i < 2 * RK_COUNT(shares); i++) {
        bool clustered = i >= RK_COUNT(shares);
        double share = shares[i % RK_COUNT(shares)];
        rk_bitset filter;
        char label[48];
        make_filter(&filter, &d, share, clustered);
        (void)snprintf(label, sizeof(label), "%g %%, %s", share * 100,
                       clustered ? "by strongest term" : "at random");
        compare(sides, &d, rounds, &filter, rk_bitset_count(&filter), label);
        rk_bitset_deinit(&filter);
    }
    for (size_t i = 0; i < 2; i++) {
        rk_index_free(sides[i].index);
        rk_free(sides[i].hits);
        rk_free(sides[i].n);
    }
    sparse_data_free(&d);
    return 0;
}

/* Rows of |path| follow those of |d|. */
static bool
append_queries(sparse_data *d, const char *path)
{
    sparse_data queries;

    if (!sparse_data_load(&queries, path)) {
        return false;
    }
    uint64_t len = d->offsets[d->rows];
    uint8_t *data = rk_realloc(d->data, len + queries.offsets[queries.rows]);
    uint64_t *offsets = rk_realloc(d->offsets, (d->rows + queries.rows + 1) * sizeof(*d->offsets));
    if (!data || !offsets) {
        abort();
    }
    memcpy(data + len, queries.data, queries.offsets[queries.rows]);
    for (size_t i = 0; i <= queries.rows; i++) {
        offsets[d->rows + i] = len + queries.offsets[i];
    }
    d->data = data;
    d->offsets = offsets;
    d->queries = queries.rows;
    sparse_data_free(&queries);
    return true;
}

static int
real(const char *documents, const char *queries)
{
    side sides[2] = {{.algorithm = "TAAT_NAIVE"}, {.algorithm = "BLOCK_MAX_MAXSCORE"}};
    static const double shares[] = {1, 0.5, 0.3, 0.2};
    sparse_data d;

    if (!sparse_data_load(&d, documents) || !append_queries(&d, queries)) {
        fprintf(stderr, "cannot read rows from %s and %s\n", documents, queries);
        return 1;
    }
    rk_vectors v = {RK_VEC_SPARSE, 0, d.rows, d.data, d.offsets};
    printf("%zu rows, %zu queries\n", d.rows, d.queries);
    build(&sides[0], &v, d.queries);
    build(&sides[1], &v, d.queries);
    for (size_t i = 0; i < 2 * RK_COUNT(shares); i++) {
        rk_bitset filter;
        make_filter(&filter, &d, shares[i / 2], i % 2);
        bool all = shares[i / 2] == 1;
        for (size_t j = 0; j < 2; j++) {
            (void)search(&sides[j], &d, all ? NULL : &filter, rk_bitset_count(&filter));
        }
        size_t hits = 0;
        for (size_t q = 0; q < d.queries; q++) {
            hits += sides[0].n[q];
        }
        printf("%zu rows pass: %zu hits, recall@10 with the same bits %.4f\n",
               rk_bitset_count(&filter), hits, recall(&sides[0], &sides[1], d.queries));
        rk_bitset_deinit(&filter);
    }
    for (size_t i = 0; i < 2; i++) {
        rk_index_free(sides[i].index);
        rk_free(sides[i].hits);
        rk_free(sides[i].n);
    }
    sparse_data_free(&d);
    return 0;
}

static int
describe(const char *path)
{
    sparse_data d;

    if (path) {
        if (!sparse_data_load(&d, path)) {
            fprintf(stderr, "cannot read rows from %s\n", path);
            return 1;
        }
        sparse_data_describe(&d, "real");
        sparse_data_free(&d);
    }
    if (!sparse_data_make(&d, 100000, 1, 7)) {
        return 1;
    }
    sparse_data_describe(&d, "made up");
    d.rows = 1000;
    sparse_data_describe(&d, "made up");
    sparse_data_free(&d);
    return 0;
}

int
main(int argc, char **argv)
{
    rk_kernels_init();
    if (argc > 1 && strcmp(argv[1], "describe") == 0) {
        return describe(argc > 2 ? argv[2] : NULL);
    }
    if (argc > 3 && strcmp(argv[1], "real") == 0) {
        return real(argv[2], argv[3]);
    }
    if (argc > 2 && strcmp(argv[1], "run") == 0) {
        return run(number(argc, argv, 2, 100000), number(argc, argv, 3, 200),
                   RK_MIN(number(argc, argv, 4, 5), (size_t)ROUNDS_MAX), false);
    }
    if (argc > 2 && strcmp(argv[1], "filter") == 0) {
        return run(number(argc, argv, 2, 100000), number(argc, argv, 3, 200),
                   RK_MIN(number(argc, argv, 4, 5), (size_t)ROUNDS_MAX), true);
    }
    fprintf(stderr, "usage: sparse run|filter ROWS [QUERIES [ROUNDS]] | sparse describe [FILE] | "
                    "sparse real DOCUMENTS QUERIES\n");
    return 2;
}
