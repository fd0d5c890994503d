/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse search benchmark, in process, one thread.
 *
 *   sparse run ROWS [QUERIES [ROUNDS]]
 *       makes ROWS rows (sparse_data.c), builds TAAT_NAIVE and BLOCK_MAX_MAXSCORE over them, runs
 * the same queries through both in turn and prints medians: rows/s of the build, bytes per posting,
 * queries/s, their ratio, and recall@10 against the plain scan of TAAT_NAIVE with scores compared
 * bit for bit sparse filter ROWS the same under random filters sparse describe FILE what made-up
 * rows are like beside those of a file of real ones (JSON lines)
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
    printf("| %s | %.0f | %.0f | %.2f | %.4f |\n", label, sides[0].qps[rounds / 2],
           sides[1].qps[rounds / 2], sides[1].qps[rounds / 2] / sides[0].qps[rounds / 2],
           recall(&sides[0], &sides[1], d->queries));
}

static void
random_filter(rk_bitset *filter, size_t rows, double share)
{
    uint64_t state = 99;

    if (rk_bitset_init(filter, rows) != RK_OK) {
        abort();
    }
    for (size_t i = 0; i < rows; i++) {
        if ((double)(rk__random(&state) >> 11) * 0x1p-53 < share) {
            rk_bitset_set(filter, i);
        }
    }
}

static int
run(size_t rows, size_t queries, size_t rounds, bool filters)
{
    static const double shares[] = {0.9, 0.5, 0.1, 0.05, 0.01, 0.001};
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
           "recall@10, same bits |\n| --- | --- | --- | --- | --- |\n");
    compare(sides, &d, rounds, NULL, 0, "all");
    for (size_t i = 0; filters && i < RK_COUNT(shares); i++) {
        rk_bitset filter;
        char label[32];
        random_filter(&filter, rows, shares[i]);
        (void)snprintf(label, sizeof(label), "%g %%", shares[i] * 100);
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
    if (argc > 2 && strcmp(argv[1], "run") == 0) {
        return run(number(argc, argv, 2, 100000), number(argc, argv, 3, 200),
                   RK_MIN(number(argc, argv, 4, 5), (size_t)ROUNDS_MAX), false);
    }
    if (argc > 2 && strcmp(argv[1], "filter") == 0) {
        return run(number(argc, argv, 2, 100000), number(argc, argv, 3, 200),
                   RK_MIN(number(argc, argv, 4, 5), (size_t)ROUNDS_MAX), true);
    }
    fprintf(stderr, "usage: sparse run|filter ROWS [QUERIES [ROUNDS]] | sparse describe [FILE]\n");
    return 2;
}
