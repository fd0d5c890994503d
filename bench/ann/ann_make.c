/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact answers, local intrinsic dimension and the writing of a data file; see ann_make.h.
 *
 * Exact search goes block by block of the base, all queries over one block while it is in the
 * second-level cache: a thousand queries over a million rows cost arithmetic, not memory.
 */
#include "ann_make.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/thread.h"

#define BLOCK_BYTES (512u << 10)
#define GROUP       32u  /* queries that one task carries through the base */
#define LID_K       100u /* neighbours of the estimate */
#define LID_SAMPLE  500u /* base rows of the estimate */
#define THREADS_MAX 64u

uint32_t
ann_number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || value > UINT32_MAX) {
        fprintf(stderr, "ann: '%s' is no number\n", text);
        exit(1);
    }
    return (uint32_t)value;
}

double
ann_uniform(uint64_t *state)
{
    return ((double)(rk__random(state) >> 11) + 1) * 0x1p-53;
}

float
ann_gauss(uint64_t *state)
{
    double radius = sqrt(-2 * log(ann_uniform(state)));

    return (float)(radius * cos(6.283185307179586 * ann_uniform(state)));
}

typedef struct threads {
    size_t n;
    void (*fn)(void *, size_t);
    void *arg;
    _Atomic(size_t) next;
} threads;

static void *
thread_main(void *arg)
{
    threads *t = arg;

    for (size_t i = atomic_fetch_add(&t->next, 1); i < t->n; i = atomic_fetch_add(&t->next, 1)) {
        t->fn(t->arg, i);
    }
    return NULL;
}

void
ann_run_threads(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    unsigned width = RK_MIN(*(unsigned *)self, THREADS_MAX);
    threads t = {.n = n, .fn = fn, .arg = arg};
    pthread_t ids[THREADS_MAX];

    for (unsigned i = 1; i < width; i++) {
        if (pthread_create(&ids[i], NULL, thread_main, &t) != 0) {
            ann_die("no thread");
        }
    }
    thread_main(&t);
    for (unsigned i = 1; i < width; i++) {
        pthread_join(ids[i], NULL);
    }
}

unsigned
ann_threads(void)
{
    const char *text = getenv("ANN_THREADS");

    return text ? RK_MAX(ann_number(text), 1) : rk_cpu_count();
}

rk_vectors
ann_vectors(const ann_data *d)
{
    return (rk_vectors){RK_VEC_F32, d->dim, d->rows, d->base, NULL};
}

/* ---- exact answers ---- */

typedef struct exact {
    const ann_data *d;
    const float *queries;
    uint32_t n_queries;
    uint32_t k;
    rk_hit *hits; /* n_queries * k */
} exact;

static void
exact_group(void *arg, size_t group)
{
    const exact *e = arg;
    size_t dim = e->d->dim;
    size_t block = RK_MAX(BLOCK_BYTES / (dim * 4), (size_t)1);
    uint32_t first = (uint32_t)group * GROUP;
    uint32_t last = RK_MIN(first + GROUP, e->n_queries);
    uint32_t found[GROUP] = {0};
    rk_arena *arena = rk_arena_new(0);

    for (size_t row = 0; row < e->d->rows; row += block) {
        rk_vectors part = {RK_VEC_F32, e->d->dim, RK_MIN(block, e->d->rows - row),
                           e->d->base + row * dim, NULL};
        for (uint32_t q = first; q < last; q++) {
            rk_search_options o = {.k = e->k, .arena = arena};
            if (rk_flat_search(&part, row, RK_METRIC_L2, e->queries + q * dim, dim * 4, &o,
                               e->hits + (size_t)q * e->k, &found[q - first], NULL) != RK_OK) {
                ann_die("exact search failed");
            }
        }
        rk_arena_reset(arena);
    }
    for (uint32_t q = first; q < last; q++) {
        if (found[q - first] < e->k) {
            ann_die("fewer rows than neighbours are asked for");
        }
    }
    rk_arena_free(arena);
}

/* The k nearest of each query, caller frees. */
static rk_hit *
exact_all(const ann_data *d, const float *queries, uint32_t n_queries, uint32_t k)
{
    unsigned width = ann_threads();
    exact e = {d, queries, n_queries, k, calloc((size_t)n_queries * k, sizeof(rk_hit))};

    if (!e.hits) {
        ann_die("no memory");
    }
    ann_run_threads(&width, (n_queries + GROUP - 1) / GROUP, exact_group, &e);
    return e.hits;
}

/* ---- local intrinsic dimension ---- */

/* Maximum likelihood (Levina and Bickel 2004) from |k| ascending squared distances. */
static double
lid_of(const rk_hit *hits, uint32_t k)
{
    double far = (double)hits[k - 1].score;
    double sum = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i + 1 < k; i++) {
        if (hits[i].score > 0) {
            sum += 0.5 * log(far / (double)hits[i].score);
            n++;
        }
    }
    return sum > 0 ? n / sum : 0;
}

static double
lid_mean(const rk_hit *hits, uint32_t n, uint32_t stride, uint32_t skip)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += lid_of(hits + (size_t)i * stride + skip, stride - skip);
    }
    return n ? sum / n : 0;
}

static double
lid_of_base(const ann_data *d)
{
    uint32_t n = RK_MIN(LID_SAMPLE, d->rows);
    float *sample = calloc((size_t)n * d->dim, 4);

    if (!sample) {
        ann_die("no memory");
    }
    for (uint32_t i = 0; i < n; i++) {
        size_t row = (size_t)((uint64_t)i * d->rows / n);
        memcpy(sample + (size_t)i * d->dim, d->base + row * d->dim, (size_t)d->dim * 4);
    }
    rk_hit *hits = exact_all(d, sample, n, LID_K + 1); /* the row itself comes first */
    double lid = lid_mean(hits, n, LID_K + 1, 1);
    free(hits);
    free(sample);
    return lid;
}

/* ---- the file ---- */

void
ann_write(const char *path, ann_data *d)
{
    bool measured = d->rows > 10 * LID_K;
    uint32_t k = measured ? LID_K : d->k;
    double start = ann_now();
    rk_hit *hits = exact_all(d, d->query, d->queries, k);
    FILE *file = fopen(path, "wb");

    d->truth = calloc((size_t)d->queries * d->k, 4);
    if (!file || !d->truth) {
        ann_die("cannot write the data file");
    }
    for (uint32_t q = 0; q < d->queries; q++) {
        for (uint32_t i = 0; i < d->k; i++) {
            d->truth[(size_t)q * d->k + i] = hits[(size_t)q * k + i].row;
        }
    }
    printf("%s: %u rows x %u, exact answers in %.1f s", path, d->rows, d->dim, ann_now() - start);
    if (measured) {
        printf(", local intrinsic dimension %.1f of rows, %.1f of queries", lid_of_base(d),
               lid_mean(hits, d->queries, k, 0));
    }
    printf("\n");
    if (fwrite(d, 24, 1, file) != 1 ||
        fwrite(d->base, (size_t)d->dim * 4, d->rows, file) != d->rows ||
        fwrite(d->query, (size_t)d->dim * 4, d->queries, file) != d->queries ||
        fwrite(d->truth, (size_t)d->k * 4, d->queries, file) != d->queries || fclose(file) != 0) {
        ann_die("cannot write the data file");
    }
    free(hits);
}
