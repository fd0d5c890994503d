/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graph search benchmark, our side.
 *
 *   ann make DATA ROWS DIM LATENT SEED
 *       writes a data file: a mixture of 64 gaussians in LATENT dimensions through a random linear
 *       map to DIM, plus noise; 1,000 queries of the same distribution
 *   ann load DATA FILE.i8bin
 *       the same from an i8bin file (u32 rows, u32 dim, int8 rows): rows 0..999 are the queries,
 *       cosine
 *   ann build DATA IMAGE M EFC THREADS
 *       builds an HNSW index and stores its image; prints seconds
 *   ann search DATA IMAGE EF...
 *       one line per ef: name, ef, recall@10, queries per second, one thread
 *   ann filter DATA IMAGE EF SHARE...
 *       the same at one ef under random filters that let SHARE pass; recall against exact
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ann_data.h"
#include "base/thread.h"
#include "index/index_private.h"

#define QUERIES 1000u
#define K       10u

static uint64_t state;

/* A number of the command line, 0 for what is none. */
static uint32_t
number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    return *end == '\0' && value <= UINT32_MAX ? (uint32_t)value : 0;
}

static double
uniform(void)
{
    return ((double)(rk__random(&state) >> 11) + 1) * 0x1p-53;
}

static float
gauss(void)
{
    return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
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

static void
run_threads(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    unsigned width = *(unsigned *)self;
    threads t = {.n = n, .fn = fn, .arg = arg};
    pthread_t ids[64];
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

static rk_vectors
vectors_of(const ann_data *d)
{
    return (rk_vectors){RK_VEC_F32, d->dim, d->rows, d->base, NULL};
}

typedef struct truth_job {
    ann_data *d;
} truth_job;

static void
truth_one(void *arg, size_t q)
{
    ann_data *d = arg;
    rk_vectors v = vectors_of(d);
    rk_arena *arena = rk_arena_new(0);
    rk_search_options o = {.k = d->k, .arena = arena};
    rk_hit hits[K];
    uint32_t n = 0;
    if (rk_flat_search(&v, 0, RK_METRIC_L2, d->query + q * d->dim, d->dim * 4, &o, hits, &n,
                       NULL) != RK_OK ||
        n < d->k) {
        ann_die("flat search failed");
    }
    for (uint32_t i = 0; i < d->k; i++) {
        d->truth[q * d->k + i] = hits[i].row;
    }
    rk_arena_free(arena);
}

static void
write_data(const char *path, ann_data *d)
{
    unsigned width = rk_cpu_count();
    FILE *file = fopen(path, "wb");
    d->truth = calloc((size_t)d->queries * d->k, 4);
    if (!file || !d->truth) {
        ann_die("cannot write the data file");
    }
    run_threads(&width, d->queries, truth_one, d);
    if (fwrite(d, 24, 1, file) != 1 ||
        fwrite(d->base, (size_t)d->dim * 4, d->rows, file) != d->rows ||
        fwrite(d->query, (size_t)d->dim * 4, d->queries, file) != d->queries ||
        fwrite(d->truth, (size_t)d->k * 4, d->queries, file) != d->queries || fclose(file) != 0) {
        ann_die("cannot write the data file");
    }
}

static void
make(char **argv)
{
    ann_data d = {.rows = number(argv[1]), .queries = QUERIES, .dim = number(argv[2]), .k = K};
    uint32_t latent = number(argv[3]);
    state = number(argv[4]);
    float *map = calloc((size_t)latent * d.dim, 4);
    float *centres = calloc((size_t)64 * latent, 4);
    float *z = calloc(latent, 4);
    d.base = calloc((size_t)d.rows * d.dim, 4);
    d.query = calloc((size_t)d.queries * d.dim, 4);
    if (!map || !centres || !z || !d.base || !d.query) {
        ann_die("no memory");
    }
    for (size_t i = 0; i < (size_t)latent * d.dim; i++) {
        map[i] = gauss() / sqrtf((float)latent);
    }
    for (size_t i = 0; i < (size_t)64 * latent; i++) {
        centres[i] = gauss();
    }
    for (size_t r = 0; r < (size_t)d.rows + d.queries; r++) {
        float *out = r < d.rows ? d.base + r * d.dim : d.query + (r - d.rows) * d.dim;
        size_t c = rk__random(&state) % 64;
        for (uint32_t i = 0; i < latent; i++) {
            z[i] = centres[c * latent + i] + 0.7f * gauss();
        }
        for (uint32_t i = 0; i < d.dim; i++) {
            out[i] = 0.02f * gauss();
        }
        for (uint32_t l = 0; l < latent; l++) {
            for (uint32_t i = 0; i < d.dim; i++) {
                out[i] += z[l] * map[(size_t)l * d.dim + i];
            }
        }
    }
    write_data(argv[0], &d);
}

static void
load(char **argv)
{
    FILE *file = fopen(argv[1], "rb");
    uint32_t head[2];
    if (!file || fread(head, 8, 1, file) != 1) {
        ann_die("no i8bin file");
    }
    ann_data d = {
        .rows = head[0] - QUERIES, .queries = QUERIES, .dim = head[1], .k = K, .metric = 1};
    int8_t *bytes = calloc(head[0], head[1]);
    float *all = calloc((size_t)head[0] * head[1], 4);
    if (!bytes || !all || fread(bytes, head[1], head[0], file) != head[0]) {
        ann_die("short i8bin file");
    }
    for (size_t r = 0; r < head[0]; r++) {
        double sum = 0;
        for (size_t i = 0; i < d.dim; i++) {
            sum += (double)bytes[r * d.dim + i] * bytes[r * d.dim + i];
        }
        for (size_t i = 0; i < d.dim; i++) {
            all[r * d.dim + i] = (float)(bytes[r * d.dim + i] / sqrt(sum));
        }
    }
    d.query = all;
    d.base = all + (size_t)QUERIES * d.dim;
    write_data(argv[0], &d);
}

static rk_code
write_file(void *user, const void *data, size_t len, rk_err *err)
{
    return len == 0 || fwrite(data, len, 1, user) == 1 ? RK_OK
                                                       : rk_fail(err, RK_EIO, "write failed");
}

static void
build(char **argv)
{
    ann_data d = ann_load(argv[0]);
    rk_vectors v = vectors_of(&d);
    unsigned width = number(argv[4]);
    rk_parallel parallel = {.run = run_threads, .width = width, .self = &width};
    rk_param params[2] = {{RK_STR("M"), rk_str_from(argv[2])},
                          {RK_STR("efConstruction"), rk_str_from(argv[3])}};
    rk_build_options o = {.metric = d.metric ? RK_METRIC_COSINE : RK_METRIC_L2,
                          .params = {params, 2},
                          .parallel = width > 1 ? &parallel : NULL,
                          .seed = 1};
    rk_index *index = NULL;
    rk_err err = {0};
    double start = ann_now();
    if (rk_index_build(&index, RK_STR("HNSW"), &v, &o, &err) != RK_OK) {
        ann_die(err.text);
    }
    rk_index_info info;
    rk_index_get_info(index, &info);
    printf("redkite build %.1f s, %.0f rows/s, %.1f bytes/row beside the vectors\n",
           ann_now() - start, d.rows / (ann_now() - start), (double)info.memory_bytes / d.rows);
    FILE *file = fopen(argv[1], "wb");
    if (!file || rk_index_save(index, write_file, file, &err) != RK_OK || fclose(file) != 0) {
        ann_die("cannot write the image");
    }
    rk_index_free(index);
}

static rk_index *
open_image(const char *path, const rk_vectors *v)
{
    rk_err err = {0};
    rk_index *index = NULL;
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        ann_die("no image");
    }
    size_t len = (size_t)ftell(file);
    rewind(file);
    char *image = rk__alloc_huge(len);
    if (!image || fread(image, 1, len, file) != len) {
        ann_die("short image");
    }
    if (rk_index_open(&index, (rk_str){image, len}, v, NULL, &err) != RK_OK) {
        ann_die(err.text);
    }
    return index;
}

static void
search(char **argv, int efs)
{
    ann_data d = ann_load(argv[0]);
    rk_vectors v = vectors_of(&d);
    rk_index *index = open_image(argv[1], &v);
    rk_arena *arena = rk_arena_new(0);
    for (int e = -1; e < efs; e++) { /* the first pass warms up */
        rk_param param = {RK_STR("ef"), rk_str_from(argv[2 + (e < 0 ? 0 : e)])};
        double recall = 0;
        double start = ann_cpu();
        uint32_t rounds = 0;
        for (; rounds < 1 || ann_cpu() - start < 1.0; rounds++) {
            recall = 0;
            for (uint32_t q = 0; q < d.queries; q++) {
                rk_search_options o = {.k = d.k, .params = {&param, 1}, .arena = arena};
                rk_hit hits[K];
                uint32_t found[K];
                uint32_t n = 0;
                if (rk_index_search(index, d.query + (size_t)q * d.dim, d.dim * 4, &o, hits, &n,
                                    NULL) != RK_OK) {
                    ann_die("search failed");
                }
                for (uint32_t i = 0; i < d.k; i++) {
                    found[i] = i < n ? hits[i].row : UINT32_MAX;
                }
                recall += ann_recall(&d, found, q);
                rk_arena_reset(arena);
            }
        }
        if (e >= 0) {
            printf("redkite %s %.4f %.0f\n", argv[2 + e], recall / d.queries,
                   rounds * d.queries / (ann_cpu() - start));
        }
    }
}

static void
filter(char **argv, int shares)
{
    ann_data d = ann_load(argv[0]);
    rk_vectors v = vectors_of(&d);
    rk_index *index = open_image(argv[1], &v);
    rk_arena *arena = rk_arena_new(0);
    rk_param param = {RK_STR("ef"), rk_str_from(argv[2])};
    for (int s = 0; s < shares; s++) {
        rk_bitset set;
        double share = strtod(argv[3 + s], NULL);
        if (rk_bitset_init(&set, d.rows) != RK_OK) {
            ann_die("no memory");
        }
        for (uint32_t i = 0; i < d.rows; i++) {
            if (uniform() < share) {
                rk_bitset_set(&set, i);
            }
        }
        double recall = 0;
        double spent = 0;
        uint32_t queries = 200;
        for (uint32_t q = 0; q < queries; q++) {
            rk_search_options o = {.k = d.k,
                                   .params = {&param, 1},
                                   .arena = arena,
                                   .filter = &set,
                                   .filter_count = rk_bitset_count(&set)};
            rk_hit hits[K];
            rk_hit exact[K];
            uint32_t n = 0;
            uint32_t n_exact = 0;
            double start = ann_cpu();
            if (rk_index_search(index, d.query + (size_t)q * d.dim, d.dim * 4, &o, hits, &n,
                                NULL) != RK_OK) {
                ann_die("search failed");
            }
            spent += ann_cpu() - start;
            if (rk_flat_search(&v, 0, d.metric ? RK_METRIC_COSINE : RK_METRIC_L2,
                               d.query + (size_t)q * d.dim, d.dim * 4, &o, exact, &n_exact,
                               NULL) != RK_OK) {
                ann_die("search failed");
            }
            for (uint32_t i = 0; i < n; i++) {
                for (uint32_t j = 0; j < n_exact; j++) {
                    recall += hits[i].row == exact[j].row;
                }
            }
            rk_arena_reset(arena);
        }
        printf("redkite share %s recall %.4f qps %.0f\n", argv[3 + s], recall / queries / d.k,
               queries / spent);
        rk_bitset_deinit(&set);
    }
}

int
main(int argc, char **argv)
{
    rk_kernels_init();
    if (argc == 7 && strcmp(argv[1], "make") == 0) {
        make(argv + 2);
    } else if (argc == 4 && strcmp(argv[1], "load") == 0) {
        load(argv + 2);
    } else if (argc == 7 && strcmp(argv[1], "build") == 0) {
        build(argv + 2);
    } else if (argc > 4 && strcmp(argv[1], "search") == 0) {
        search(argv + 2, argc - 4);
    } else if (argc > 5 && strcmp(argv[1], "filter") == 0) {
        filter(argv + 2, argc - 5);
    } else {
        ann_die("see the head of ann.c for usage");
    }
    return 0;
}
