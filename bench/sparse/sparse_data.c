/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Made-up sparse rows that resemble what term-expansion models (SPLADE, ELSER) make of passages:
 * 30,522 terms, about 108 values a row and 43 a query. What decides how much a search can skip was
 * fitted to 1,000 real passages (run `sparse describe` on such a file to compare):
 *
 *   how common terms are   share of rows with the term of rank r: 0.22 (1), 0.15 (10), 0.08 (100),
 *                          0.027 (1,000), 0.006 (4,000)
 *   weights                a row's sorted values fall from 2.1 over 1.07 (12th) and 0.27 (60th) to
 *                          0; a query's from 2.6 over 0.55 (12th) to 0.06 (40th)
 *   correlation            two rows share 3.7 terms on average, most pairs 2 or fewer, one in a
 *                          hundred 22 or more
 *
 * The model: words belong to fields (256), a field has 600 words drawn by how common they are; a
 * subject (one per 48 rows, sizes skewed) has 90 words, most of its field's; a row takes about half
 * its words from its subject, in the subject's order of weight with noise, a quarter from its field
 * and the rest from the language. Queries are asked about subjects in the same way, with fewer
 * words.
 */
#include "sparse_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TERMS         30522u
#define FIELDS        64u
#define FIELD_WORDS   800u
#define SUBJECT_WORDS 90u
#define SUBJECT_ROWS  48u
#define VALUES_MAX    200u

typedef struct maker {
    uint64_t state;
    double *cumulated;  /* TERMS: how common, by rank */
    uint32_t *term_of;  /* rank -> term */
    uint16_t *fields;   /* FIELDS * FIELD_WORDS ranks */
    uint16_t *subjects; /* n_subjects * SUBJECT_WORDS ranks */
    size_t n_subjects;
    uint32_t *taken; /* by rank: the row that has it, plus one */
    uint32_t row;
} maker;

static double
uniform(maker *m)
{
    return ((double)(rk__random(&m->state) >> 11) + 0.5) * 0x1p-53;
}

static double
gauss(maker *m)
{
    return sqrt(-2 * log(uniform(m))) * cos(6.283185307179586 * uniform(m));
}

/* Share of rows that have the word of a rank. */
static double
common(double rank)
{
    return 11000 / pow(rank + 850, 1.6) * (1 + 1.4 / sqrt(rank + 1));
}

static uint16_t
language_word(maker *m)
{
    double at = uniform(m) * m->cumulated[TERMS - 1];
    size_t low = 0;
    size_t high = TERMS - 1;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (m->cumulated[mid] < at) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return (uint16_t)low;
}

/* A field's words, the first ones more often. */
static uint16_t
field_word(maker *m, size_t subject)
{
    double u = uniform(m);

    return m->fields[subject % FIELDS * FIELD_WORDS + (size_t)(u * u * FIELD_WORDS)];
}

static bool
maker_init(maker *m, size_t rows, uint64_t seed)
{
    double sum = 0;

    *m = (maker){.state = seed, .n_subjects = rows / SUBJECT_ROWS + 1};
    m->cumulated = rk_alloc(TERMS * sizeof(double));
    m->term_of = rk_alloc(TERMS * sizeof(uint32_t));
    m->fields = rk_alloc(FIELDS * FIELD_WORDS * sizeof(uint16_t));
    m->subjects = rk_alloc(m->n_subjects * SUBJECT_WORDS * sizeof(uint16_t));
    m->taken = rk_alloc_zero(TERMS, sizeof(uint32_t));
    if (!m->cumulated || !m->term_of || !m->fields || !m->subjects || !m->taken) {
        return false;
    }
    for (size_t i = 0; i < TERMS; i++) {
        sum += common((double)i);
        m->cumulated[i] = sum;
        size_t j = (size_t)(uniform(m) * (double)(i + 1));
        m->term_of[i] = m->term_of[j];
        m->term_of[j] = (uint32_t)i;
    }
    for (size_t i = 0; i < FIELDS * FIELD_WORDS; i++) {
        m->fields[i] = language_word(m);
    }
    for (size_t s = 0; s < m->n_subjects; s++) {
        for (size_t w = 0; w < SUBJECT_WORDS; w++) {
            m->subjects[s * SUBJECT_WORDS + w] =
                uniform(m) < 0.6 ? field_word(m, s) : language_word(m);
        }
    }
    return true;
}

static void
maker_deinit(maker *m)
{
    rk_free(m->cumulated);
    rk_free(m->term_of);
    rk_free(m->fields);
    rk_free(m->subjects);
    rk_free(m->taken);
}

typedef struct value {
    uint32_t term;
    float weight;
} value;

static size_t
take(maker *m, uint16_t rank, double weight, value *out, size_t n)
{
    if (m->taken[rank] == m->row || !(weight > 0.001)) {
        return n;
    }
    m->taken[rank] = m->row;
    out[n] = (value){m->term_of[rank], (float)weight};
    return n + 1;
}

static int
compare_values(const void *a, const void *b)
{
    const value *x = a;
    const value *y = b;

    return x->term < y->term ? -1 : x->term > y->term;
}

typedef struct shape {
    double often;  /* chance of a subject's first 30 words, */
    double rarely; /* and of the others */
    double top;    /* weight of the first word */
    double fall;   /* words over which weights fall by e */
    double noise;  /* of weights, in powers of e */
} shape;

static size_t
make_row(maker *m, size_t n_values, const shape *shape, value *out)
{
    double u = uniform(m);
    size_t subject = (size_t)(u * sqrt(u) * (double)m->n_subjects);
    const uint16_t *words = m->subjects + subject * SUBJECT_WORDS;
    double faith = 0.55 + 0.45 * uniform(m); /* how closely it keeps to its subject */
    size_t n = 0;

    m->row++;
    for (size_t i = 0; i < SUBJECT_WORDS && n < n_values; i++) {
        if (uniform(m) < faith * (i < 30 ? shape->often : shape->rarely)) {
            double weight =
                shape->top * exp(-(double)i / shape->fall) * exp(shape->noise * gauss(m));
            n = take(m, words[i], RK_MIN(weight, shape->top * 1.3), out, n);
        }
    }
    size_t of_field = n + (n_values > n ? (n_values - n) / 2 : 0);
    for (size_t tries = 0; n < n_values && tries < 1000; tries++) {
        uint16_t rank = n < of_field ? field_word(m, subject) : language_word(m);
        double weight = shape->top * 0.1 * exp(1.1 * gauss(m)); /* long tail: some matter */
        n = take(m, rank, RK_MIN(weight, shape->top), out, n);
    }
    qsort(out, n, sizeof(*out), compare_values);
    return n;
}

bool
sparse_data_make(sparse_data *out, size_t rows, size_t queries, uint64_t seed)
{
    static const shape row_shape = {0.95, 0.55, 1.9, 30, 0.3};
    static const shape query_shape = {0.9, 0.25, 2.5, 9, 0.4};
    maker m;
    rk_buf buf = {0};
    bool ok = maker_init(&m, rows, seed);

    *out = (sparse_data){.rows = rows, .queries = queries};
    out->offsets = rk_alloc((rows + queries + 1) * sizeof(uint64_t));
    ok = ok && out->offsets;
    for (size_t i = 0; ok && i < rows + queries; i++) {
        value values[VALUES_MAX];
        bool query = i >= rows;
        double size = query ? 43 + 14 * gauss(&m) : 108 + 27 * gauss(&m);
        double low = query ? 9 : 32;
        double high = query ? 117 : 184;
        size = size < low ? low : size > high ? high : size;
        size_t n = make_row(&m, (size_t)size, query ? &query_shape : &row_shape, values);
        out->offsets[i] = buf.len;
        rk_buf_append(&buf, values, n * sizeof(value));
        ok = !buf.failed;
    }
    out->data = (uint8_t *)buf.data;
    if (out->offsets) {
        out->offsets[rows + queries] = buf.len;
    }
    maker_deinit(&m);
    return ok;
}

void
sparse_data_free(sparse_data *data)
{
    rk_free(data->data);
    rk_free(data->offsets);
}

bool
sparse_data_load(sparse_data *out, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    rk_buf buf = {0};
    rk_buf offsets = {0};

    *out = (sparse_data){.rows = 0};
    if (!file) {
        return false;
    }
    while (getline(&line, &cap, file) > 0) {
        value values[1024];
        size_t n = 0;
        const char *at = strstr(line, "\"tokens\"");
        at = at ? strchr(at, '{') : NULL;
        while (at && *at != '}' && n < RK_COUNT(values)) {
            const char *word = strchr(at, '"');
            const char *end = word ? strchr(word + 1, '"') : NULL;
            if (!end) {
                break;
            }
            char *rest = NULL;
            uint64_t hash = 0;
            for (const char *c = word + 1; c < end; c++) {
                hash = rk_hash_u64(hash * 31 + (uint8_t)*c);
            }
            values[n++] = (value){(uint32_t)hash >> 1, strtof(end + strspn(end, "\": "), &rest)};
            at = rest;
        }
        qsort(values, n, sizeof(*values), compare_values);
        uint64_t offset = buf.len;
        rk_buf_append(&offsets, &offset, sizeof(offset));
        rk_buf_append(&buf, values, n * sizeof(value));
        out->rows++;
    }
    uint64_t offset = buf.len;
    rk_buf_append(&offsets, &offset, sizeof(offset));
    free(line); /* getline's own */
    (void)fclose(file);
    out->data = (uint8_t *)buf.data;
    out->offsets = (uint64_t *)(void *)offsets.data;
    return !buf.failed && !offsets.failed && out->rows > 0;
}

/* ---- what a set is like ---- */

static int
compare_counts(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x > y ? -1 : x < y;
}

static size_t
overlap(const sparse_data *d, size_t a, size_t b)
{
    const value *x = (const value *)(const void *)(d->data + d->offsets[a]);
    const value *y = (const value *)(const void *)(d->data + d->offsets[b]);
    size_t n = (d->offsets[a + 1] - d->offsets[a]) / 8;
    size_t m = (d->offsets[b + 1] - d->offsets[b]) / 8;
    size_t shared = 0;

    for (size_t i = 0, j = 0; i < n && j < m;) {
        uint32_t s = x[i].term;
        uint32_t t = y[j].term;
        shared += s == t;
        i += s <= t;
        j += t <= s;
    }
    return shared;
}

void
sparse_data_describe(const sparse_data *d, const char *name)
{
    enum { PAIRS = 4000 };
    size_t total = d->offsets[d->rows] / 8;
    uint32_t *terms = rk_alloc(total * sizeof(*terms));
    float *weights = rk_alloc(total * sizeof(*weights));
    uint32_t shared[PAIRS];
    uint64_t state = 1;
    size_t n = 0;

    if (!terms || !weights) {
        abort();
    }
    for (size_t i = 0; i < total; i++) {
        value v;
        memcpy(&v, d->data + i * 8, 8);
        terms[i] = v.term;
        weights[i] = v.weight;
    }
    qsort(terms, total, sizeof(*terms), compare_counts);
    for (size_t i = 0, from = 0; i < total; i++) {
        if (i + 1 == total || terms[i + 1] != terms[i]) {
            terms[n++] = (uint32_t)(i + 1 - from);
            from = i + 1;
        }
    }
    qsort(terms, n, sizeof(*terms), compare_counts);
    printf("%s: %zu rows, %.1f values, %zu terms; share of rows with the term of rank 1, 10, 100, "
           "1000, 4000:",
           name, d->rows, (double)total / (double)d->rows, n);
    for (size_t rank = 1; rank <= 1000; rank *= 10) {
        printf(" %.4f", rank <= n ? (double)terms[rank - 1] / (double)d->rows : 0);
    }
    printf(" %.4f", 4000 <= n ? (double)terms[3999] / (double)d->rows : 0);
    uint32_t *order = terms;
    memcpy(order, weights, total * sizeof(float)); /* floats above zero sort like their bits */
    qsort(order, total, sizeof(*order), compare_counts);
    printf("; weights at 99, 90, 75, 50, 25 %%:");
    const double at[] = {0.01, 0.1, 0.25, 0.5, 0.75};
    for (size_t i = 0; i < RK_COUNT(at); i++) {
        float w;
        memcpy(&w, &order[(size_t)(at[i] * (double)total)], 4);
        printf(" %.3f", (double)w);
    }
    double sum = 0;
    for (size_t i = 0; i < PAIRS; i++) {
        size_t a = rk__random(&state) % d->rows;
        size_t b = rk__random(&state) % d->rows;
        shared[i] = a == b ? 0 : (uint32_t)overlap(d, a, b);
        sum += shared[i];
    }
    qsort(shared, PAIRS, sizeof(*shared), compare_counts);
    printf("; terms two rows share: mean %.1f, median %u, 95 %% %u, 99 %% %u\n", sum / PAIRS,
           shared[PAIRS / 2], shared[PAIRS / 20], shared[PAIRS / 100]);
    rk_free(terms);
    rk_free(weights);
}
