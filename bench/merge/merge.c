/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging a graph against building it afresh, in process: time, and what the merged graph is worth.
 *
 *   merge DATA M EFC THREADS PERCENT ROUNDS EF...
 *
 * DATA is a data file of bench/ann. The index holds n rows, of which each round deletes PERCENT and
 * inserts as many others, at random, from rows deleted before (or not inserted yet); n is such that
 * DATA has enough of them. After the last round an index is built afresh over the same rows, and
 * both are searched in turn, five times for each EF. Printed:
 *
 *   merge  CPU seconds of a merge, mean of the rounds; its rows
 *   build  CPU seconds of the build
 *   EF     recall and queries per second of the merged and of the fresh index
 */
#include "../ann/ann_make.h"
#include "index/index_private.h"

#define K       10u
#define REPEATS 5

typedef struct bench {
    ann_data d;
    uint32_t n;
    unsigned width;
    rk_parallel parallel;
    rk_build_options options;
    rk_param params[2];
    uint32_t *ids; /* data row of each row of the index; behind them those outside */
    float *rows;
    uint64_t state;
} bench;

static rk_vectors
vectors(const bench *b, const float *rows)
{
    return (rk_vectors){RK_VEC_F32, b->d.dim, b->n, rows, NULL};
}

static uint32_t
below(bench *b, uint32_t n)
{
    return (uint32_t)(rk__random(&b->state) % n);
}

static void
fill(const bench *b, float *out)
{
    for (uint32_t i = 0; i < b->n; i++) {
        memcpy(out + (size_t)i * b->d.dim, b->d.base + (size_t)b->ids[i] * b->d.dim,
               (size_t)b->d.dim * 4);
    }
}

static void
shuffle(bench *b, uint32_t *items, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = below(b, i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

static rk_index *
build(bench *b, const rk_vectors *v, double *cpu)
{
    rk_index *index = NULL;
    rk_err err = {0};
    double start = ann_cpu();

    if (rk_index_build(&index, RK_STR("HNSW"), v, &b->options, &err) != RK_OK) {
        ann_die(err.text);
    }
    *cpu = ann_cpu() - start;
    return index;
}

/* One round: the index over rows that went and came. */
static rk_index *
churn(bench *b, rk_index *index, uint32_t changes, double *cpu)
{
    uint32_t *before = malloc((size_t)b->d.rows * 4);
    uint32_t *where = malloc((size_t)b->d.rows * 4);
    uint32_t *map = malloc((size_t)b->n * 4);
    float *rows = malloc((size_t)b->n * b->d.dim * 4);
    rk_index *merged = NULL;
    rk_err err = {0};

    if (!before || !where || !map || !rows) {
        ann_die("no memory");
    }
    memcpy(before, b->ids, (size_t)b->d.rows * 4);
    shuffle(b, b->ids, b->n);                    /* the last |changes| go */
    shuffle(b, b->ids + b->n, b->d.rows - b->n); /* the first |changes| come */
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t t = b->ids[b->n - 1 - i];
        b->ids[b->n - 1 - i] = b->ids[b->n + i];
        b->ids[b->n + i] = t;
    }
    shuffle(b, b->ids, b->n);
    memset(where, 0xff, (size_t)b->d.rows * 4);
    for (uint32_t i = 0; i < b->n; i++) {
        where[b->ids[i]] = i;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        map[i] = where[before[i]];
    }
    fill(b, rows);
    rk_vectors v = vectors(b, rows);
    rk_merge_part part = {index, map};
    double start = ann_cpu();
    if (rk_index_merge(&merged, RK_STR("HNSW"), &v, &part, 1, &b->options, &err) != RK_OK) {
        ann_die(err.text);
    }
    *cpu = ann_cpu() - start;
    if (!merged) {
        ann_die("the merge refused");
    }
    rk_index_free(index);
    free(b->rows);
    free(before);
    free(where);
    free(map);
    b->rows = rows;
    return merged;
}

static double
search(const bench *b, const rk_index *index, const char *ef, const uint32_t *truth, double *qps)
{
    rk_arena *arena = rk_arena_new(0);
    rk_param param = {RK_STR("ef"), rk_str_from(ef)};
    rk_search_options o = {.k = K, .params = {&param, 1}, .arena = arena};
    uint64_t found = 0;
    double start = ann_cpu();

    for (uint32_t q = 0; q < b->d.queries; q++) {
        rk_hit hits[K];
        uint32_t n = 0;
        rk_err err = {0};
        if (rk_index_search(index, b->d.query + (size_t)q * b->d.dim, (size_t)b->d.dim * 4, &o,
                            hits, &n, &err) != RK_OK) {
            ann_die(err.text);
        }
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j < K; j++) {
                found += hits[i].row == truth[(size_t)q * K + j];
            }
        }
        rk_arena_reset(arena);
    }
    *qps = b->d.queries / (ann_cpu() - start);
    rk_arena_free(arena);
    return (double)found / b->d.queries / K;
}

static uint32_t *
exact(const bench *b)
{
    uint32_t *truth = malloc((size_t)b->d.queries * K * 4);
    rk_arena *arena = rk_arena_new(0);
    rk_vectors v = vectors(b, b->rows);

    for (uint32_t q = 0; truth && q < b->d.queries; q++) {
        rk_search_options o = {.k = K, .arena = arena};
        rk_hit hits[K];
        uint32_t n = 0;
        rk_err err = {0};
        if (rk_flat_search(&v, 0, b->options.metric, b->d.query + (size_t)q * b->d.dim,
                           (size_t)b->d.dim * 4, &o, hits, &n, &err) != RK_OK) {
            ann_die(err.text);
        }
        for (uint32_t i = 0; i < K; i++) {
            truth[(size_t)q * K + i] = i < n ? hits[i].row : UINT32_MAX;
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return truth;
}

static double
median(double *x)
{
    for (int i = 1; i < REPEATS; i++) {
        for (int j = i; j > 0 && x[j] < x[j - 1]; j--) {
            double t = x[j];
            x[j] = x[j - 1];
            x[j - 1] = t;
        }
    }
    return x[REPEATS / 2];
}

int
main(int argc, char **argv)
{
    bench b = {.state = 7};
    double cpu = 0;
    double all = 0;

    if (argc < 8) {
        ann_die("usage: merge DATA M EFC THREADS PERCENT ROUNDS EF...");
    }
    rk_kernels_init();
    b.d = ann_load(argv[1]);
    b.d.queries = RK_MIN(b.d.queries, 1000u);
    b.params[0] = (rk_param){RK_STR("M"), rk_str_from(argv[2])};
    b.params[1] = (rk_param){RK_STR("efConstruction"), rk_str_from(argv[3])};
    b.width = ann_number(argv[4]);
    b.parallel = (rk_parallel){.run = ann_run_threads, .width = b.width, .self = &b.width};
    b.options = (rk_build_options){.metric = b.d.metric ? RK_METRIC_COSINE : RK_METRIC_L2,
                                   .params = {b.params, 2},
                                   .parallel = b.width > 1 ? &b.parallel : NULL,
                                   .seed = 1};
    unsigned percent = ann_number(argv[5]);
    unsigned rounds = ann_number(argv[6]);
    b.n = (uint32_t)((uint64_t)b.d.rows * 100 / (100 + percent));
    uint32_t changes = RK_MIN((uint32_t)((uint64_t)b.n * percent / 100), b.d.rows - b.n);
    b.ids = malloc((size_t)b.d.rows * 4);
    b.rows = malloc((size_t)b.n * b.d.dim * 4);
    if (!b.ids || !b.rows) {
        ann_die("no memory");
    }
    for (uint32_t i = 0; i < b.d.rows; i++) {
        b.ids[i] = i;
    }
    shuffle(&b, b.ids, b.d.rows);
    fill(&b, b.rows);
    rk_vectors v = vectors(&b, b.rows);
    rk_index *index = build(&b, &v, &cpu);
    for (unsigned i = 0; i < rounds; i++) {
        index = churn(&b, index, changes, &cpu);
        all += cpu;
    }
    printf("merge %.2f %u of %u rows, %u rounds\n", all / rounds, changes, b.n, rounds);
    v = vectors(&b, b.rows);
    rk_index *fresh = build(&b, &v, &cpu);
    printf("build %.2f\n", cpu);
    uint32_t *truth = exact(&b);
    for (int i = 7; i < argc; i++) {
        double qps[2][REPEATS];
        double recall[2] = {0};
        for (int r = 0; r < REPEATS; r++) {
            recall[0] = search(&b, index, argv[i], truth, &qps[0][r]);
            recall[1] = search(&b, fresh, argv[i], truth, &qps[1][r]);
        }
        printf("%s %.4f %.0f %.4f %.0f %.2f\n", argv[i], recall[0], median(qps[0]), recall[1],
               median(qps[1]), median(qps[0]) / median(qps[1]));
    }
    return 0;
}
