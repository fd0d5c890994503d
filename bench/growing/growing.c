/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching rows that have no index yet: by their codes (src/index/growing/growing.h) against exact
 * search of the same rows, on one thread, in one process.
 *
 *   growing DATA ROWS [f32|f16|bf16] [l2|ip|cosine] [SECONDS]
 *
 * DATA is a file of bench/ann/ann_data.h; its first ROWS rows arrive, its queries are searched.
 * Rows lie in chunks of 1,024 as in a growing segment; those of the last 64 that are not coded are
 * scored exactly, as there. One line per k: time of a query each way, recall against exact search.
 */
#include "index/growing/growing.h"

#include <math.h>

#include "base/util.h"
#include "bench/ann/ann_data.h"

#define CHUNK  1024u
#define K_MOST 1000u

typedef struct segment {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    size_t rows;
    size_t row_bytes;
    uint8_t *data;
    rk_growing_codes **codes;
    rk_growing_chunk *chunks;
    size_t n_chunks;
    rk_arena *arena;
} segment;

static void
convert(rk_vector_type type, const float *from, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++) {
        if (type == RK_VEC_F32) {
            ((float *)to)[i] = from[i];
        } else {
            ((uint16_t *)to)[i] =
                type == RK_VEC_F16 ? rk_f32_to_f16(from[i]) : rk_f32_to_bf16(from[i]);
        }
    }
}

static void
code(segment *s)
{
    uint64_t bytes = 0;
    double start = ann_cpu();

    for (size_t row = 0; row + RK_GROWING_STEP <= s->rows; row += CHUNK) {
        size_t i = row / CHUNK;
        const uint8_t *at = s->data + row * s->row_bytes;
        size_t ready = RK_MIN(s->rows - row, (size_t)CHUNK);
        rk_vectors v = {s->type, s->dim, ready, at, NULL};
        s->codes[i] = rk_growing_codes_new(&v, s->metric, CHUNK, i > 0 ? s->codes[i - 1] : NULL);
        ready -= ready % RK_GROWING_STEP;
        if (!s->codes[i] || rk_growing_codes_add(s->codes[i], at, 0, ready) != RK_OK) {
            ann_die("memory is out");
        }
        s->chunks[i] = (rk_growing_chunk){s->codes[i], at, ready};
        s->n_chunks++;
        bytes += rk_growing_codes_bytes(s->dim, CHUNK);
    }
    double seconds = ann_cpu() - start;
    printf("coded %zu rows: %.2f us a row, codes are %.1f %% of the vectors\n", s->rows,
           seconds * 1e6 / (double)s->rows,
           (double)bytes * 100 / ((double)s->n_chunks * CHUNK * (double)s->row_bytes));
}

static uint32_t
search(segment *s, bool coded, const void *query, uint32_t k, rk_hit *hits)
{
    rk_search_options o = {.k = k, .filter_count = s->rows, .arena = s->arena};
    uint32_t n = 0;
    rk_err err;

    rk_err_clear(&err);
    for (size_t i = 0; i * CHUNK < s->rows; i++) {
        size_t skip = coded && i < s->n_chunks ? s->chunks[i].rows : 0;
        size_t rows = RK_MIN(s->rows - i * CHUNK, (size_t)CHUNK);
        rk_vectors v = {s->type, s->dim, rows - skip, s->data + (i * CHUNK + skip) * s->row_bytes,
                        NULL};
        rk_arena_reset(s->arena);
        if (v.rows > 0 && rk_flat_search(&v, i * CHUNK + skip, s->metric, query, s->row_bytes, &o,
                                         hits, &n, &err) != RK_OK) {
            ann_die(err.text);
        }
    }
    rk_arena_reset(s->arena);
    if (coded && rk_growing_search(s->chunks, s->n_chunks, query, s->row_bytes, &o, hits, &n,
                                   &err) != RK_OK) {
        ann_die(err.text);
    }
    return n;
}

/* Microseconds a query; what was found goes into |found|, k rows a query. */
static double
measure(segment *s, bool coded, const uint8_t *queries, uint32_t n, uint32_t k, double seconds,
        rk_hit *found)
{
    rk_hit hits[K_MOST];
    rk_hit none = {NAN, UINT32_MAX};
    size_t done = 0;
    double start = ann_cpu();
    double spent = 0;

    while (done < n || spent < seconds) {
        uint32_t q = (uint32_t)(done % n);
        uint32_t got = search(s, coded, queries + q * s->row_bytes, k, hits);
        for (uint32_t i = 0; i < k; i++) {
            found[(size_t)q * k + i] = i < got ? hits[i] : none;
        }
        done++;
        spent = ann_cpu() - start;
    }
    return spent * 1e6 / (double)done;
}

/* Rows as near as the k-th nearest count, whichever of equal ones they are. */
static double
recall(const segment *s, const rk_hit *found, const rk_hit *truth, uint32_t n, uint32_t k,
       double *worst)
{
    size_t hit = 0;

    *worst = 1;
    for (size_t q = 0; q < n; q++) {
        float last = truth[q * k + k - 1].score;
        size_t here = 0;
        for (uint32_t i = 0; i < k; i++) {
            float score = found[q * k + i].score;
            here += rk_metric_larger_is_nearer(s->metric) ? score >= last : score <= last;
        }
        hit += here;
        *worst = RK_MIN(*worst, (double)here / k);
    }
    return (double)hit / (double)n / k;
}

int
main(int argc, char **argv)
{
    static const uint32_t ks[] = {1, 10, 100};

    if (argc < 3) {
        ann_die("growing DATA ROWS [f32|f16|bf16] [l2|ip|cosine] [SECONDS]");
    }
    ann_data d = ann_load(argv[1]);
    const char *type = argc > 3 ? argv[3] : "f32";
    const char *metric = argc > 4 ? argv[4] : d.metric == 1 ? "cosine" : "l2";
    double seconds = argc > 5 ? strtod(argv[5], NULL) : 2;
    segment s = {.type = !strcmp(type, "f16")    ? RK_VEC_F16
                         : !strcmp(type, "bf16") ? RK_VEC_BF16
                                                 : RK_VEC_F32,
                 .dim = d.dim,
                 .rows = RK_MIN((size_t)strtoull(argv[2], NULL, 10), (size_t)d.rows),
                 .arena = rk_arena_new(0)};
    uint32_t n = RK_MIN(d.queries, 500u);
    size_t chunks = s.rows / CHUNK + 1;

    rk_kernels_init();
    if (!rk_metric_parse(rk_str_from(metric), &s.metric) || s.rows == 0 ||
        !rk_growing_codable(s.type, s.metric, s.dim)) {
        ann_die("rows of that kind have no codes");
    }
    s.row_bytes = rk_vector_bytes(s.type, s.dim);
    s.data = rk_alloc_aligned(64, s.rows * s.row_bytes);
    uint8_t *queries = rk_alloc_aligned(64, n * s.row_bytes);
    s.codes = rk_alloc_zero(chunks, sizeof(*s.codes));
    s.chunks = rk_alloc_zero(chunks, sizeof(*s.chunks));
    rk_hit *found = rk_alloc_zero(n, K_MOST * sizeof(*found));
    rk_hit *truth = rk_alloc_zero(n, K_MOST * sizeof(*truth));
    if (!s.arena || !s.data || !queries || !s.codes || !s.chunks || !found || !truth) {
        ann_die("memory is out");
    }
    convert(s.type, d.base, s.rows * s.dim, s.data);
    convert(s.type, d.query, (size_t)n * s.dim, queries);
    code(&s);
    for (size_t i = 0; i < RK_COUNT(ks); i++) {
        double worst;
        double exact = measure(&s, false, queries, n, ks[i], 0, truth);
        double coded = measure(&s, true, queries, n, ks[i], seconds, found);
        double r = recall(&s, found, truth, n, ks[i], &worst);
        printf("%s %s %zu x %u k %4u: exact %8.0f us, coded %7.1f us (%.0fx), recall %.5f, of one "
               "query at least %.2f\n",
               type, metric, s.rows, s.dim, ks[i], exact, coded, exact / coded, r, worst);
        fflush(stdout);
    }
    return 0;
}
