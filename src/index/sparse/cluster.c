/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of the rows of a sparse index: similar rows become neighbours, so that a block of 64
 * has few different terms and its largest weights say much about each of its rows.
 *
 * Each row is reduced to its STRONG strongest terms (weight times the logarithm of how rare the
 * term is), of unit length. One row in SEED_ROWS is a centre. Rows join the centre most similar to
 * them, found through an inverted index of the centres; centres become the strongest terms of their
 * rows' sum, and rows join again, four times in all. Then the centres are put in order by
 * sparse/order.c, and the rows follow, centre by centre. Rows that share no strong term with any
 * centre come last.
 *
 * Deterministic in the data, whatever the threads: each row's choice is its own.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

#define STRONG     16u
#define SEED_ROWS  32u
#define ROUNDS     4u
#define PART_ROWS  8192u
#define LONG_SHARE 16u /* a term that more than 1 / LONG_SHARE of the centres have tells little */

typedef struct impact {
    uint32_t term; /* number; UINT32_MAX: none */
    float weight;
} impact;

typedef struct clusters {
    const rk_vectors *vectors;
    const rk__sparse_terms *terms;
    const rk_build_options *options;
    impact *strong;  /* rows * STRONG, unit length */
    impact *centres; /* n * STRONG */
    size_t n;
    uint64_t *offsets; /* of terms into lists */
    rk__near *lists;   /* centres that have a term: key is the weight */
    uint32_t *of_row;  /* the centre of a row, n: none */
    _Atomic(bool) failed;
} clusters;

uint64_t
rk__sparse_order_bytes(size_t rows, size_t terms)
{
    size_t centres = rows / SEED_ROWS + 1;

    return (uint64_t)rows * (STRONG * sizeof(impact) + sizeof(uint32_t)) +
           (uint64_t)centres * (STRONG * (sizeof(impact) + sizeof(rk__near)) + 160) +
           (uint64_t)terms * 24;
}

/* Puts |next| among the STRONG largest of |top|, largest first. */
static inline void
keep(impact *top, impact next)
{
    size_t at = STRONG - 1;

    if (next.weight <= top[at].weight) {
        return;
    }
    for (; at > 0 && top[at - 1].weight < next.weight; at--) {
        top[at] = top[at - 1];
    }
    top[at] = next;
}

static void
make_unit(impact *top)
{
    float square = 0;

    for (size_t i = 0; i < STRONG; i++) {
        square += top[i].weight * top[i].weight;
    }
    float scale = square > 0 ? 1.0f / sqrtf(square) : 0.0f;
    for (size_t i = 0; i < STRONG; i++) {
        top[i].weight *= scale;
    }
}

static inline void
clear(impact *top)
{
    for (size_t i = 0; i < STRONG; i++) {
        top[i] = (impact){UINT32_MAX, 0};
    }
}

static void
find_strong(void *arg, size_t part)
{
    clusters *c = arg;
    const rk_vectors *v = c->vectors;
    size_t to = RK_MIN((part + 1) * PART_ROWS, v->rows);

    for (size_t row = part * PART_ROWS; row < to; row++) {
        impact *top = c->strong + row * STRONG;
        clear(top);
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair = rk__sparse_pair(v, at);
            if (rk__sparse_counts(pair)) {
                uint32_t id = rk__sparse_term_id(c->terms, pair.index);
                keep(top, (impact){id, pair.value / c->terms->largest[id] * c->terms->rarity[id]});
            }
        }
        make_unit(top);
    }
}

/* The inverted index of the centres. */
static void
list_centres(clusters *c)
{
    size_t n_terms = c->terms->n;

    memset(c->offsets, 0, (n_terms + 2) * sizeof(*c->offsets));
    for (size_t i = 0; i < c->n * STRONG; i++) {
        if (c->centres[i].term != UINT32_MAX) {
            c->offsets[c->centres[i].term + 2]++;
        }
    }
    for (size_t t = 2; t < n_terms + 2; t++) {
        c->offsets[t] += c->offsets[t - 1];
    }
    for (size_t i = 0; i < c->n * STRONG; i++) { /* leaves offsets[t + 1] at the end of term t */
        if (c->centres[i].term != UINT32_MAX) {
            c->lists[c->offsets[c->centres[i].term + 1]++] =
                (rk__near){c->centres[i].weight, (uint32_t)(i / STRONG)};
        }
    }
}

static void
join_rows(void *arg, size_t part)
{
    clusters *c = arg;
    size_t to = RK_MIN((part + 1) * PART_ROWS, c->vectors->rows);
    float *sums = rk_alloc_zero(c->n + 1, sizeof(*sums));

    if (!sums) {
        c->failed = true;
        return;
    }
    for (size_t row = part * PART_ROWS; row < to && !rk__cancelled(c->options); row++) {
        const impact *top = c->strong + row * STRONG;
        float best = 0;
        uint32_t found = (uint32_t)c->n;
        for (size_t pass = 0; pass < 2; pass++) { /* add, then clear */
            for (size_t i = 0; i < STRONG && top[i].term != UINT32_MAX; i++) {
                uint64_t from = c->offsets[top[i].term];
                uint64_t end = c->offsets[top[i].term + 1];
                if (end - from > c->n / LONG_SHARE + 64) {
                    continue;
                }
                for (uint64_t p = from; p < end; p++) {
                    uint32_t centre = c->lists[p].row;
                    if (pass == 1) {
                        sums[centre] = 0;
                        continue;
                    }
                    float sum = sums[centre] + c->lists[p].key * top[i].weight;
                    sums[centre] = sum;
                    if (sum > best) {
                        best = sum;
                        found = centre;
                    }
                }
            }
        }
        c->of_row[row] = found;
    }
    rk_free(sums);
}

/* Rows by centre: offsets of n + 2 into |order|. */
static void
group_rows(const clusters *c, const uint32_t *rank, uint64_t *offsets, uint32_t *order)
{
    size_t rows = c->vectors->rows;

    memset(offsets, 0, (c->n + 3) * sizeof(*offsets));
    for (size_t row = 0; row < rows; row++) {
        offsets[rank[c->of_row[row]] + 2]++;
    }
    for (size_t i = 2; i < c->n + 3; i++) {
        offsets[i] += offsets[i - 1];
    }
    for (size_t row = 0; row < rows; row++) {
        order[offsets[rank[c->of_row[row]] + 1]++] = (uint32_t)row;
    }
}

/* Centres become the strongest terms of the sum of their rows. */
static void
move_centres(clusters *c, const uint64_t *offsets, const uint32_t *order, float *sums)
{
    for (size_t centre = 0; centre < c->n; centre++) {
        impact *top = c->centres + centre * STRONG;
        if (offsets[centre] == offsets[centre + 1]) {
            continue;
        }
        clear(top);
        for (size_t pass = 0; pass < 2; pass++) {
            for (uint64_t p = offsets[centre]; p < offsets[centre + 1]; p++) {
                const impact *row = c->strong + (size_t)order[p] * STRONG;
                for (size_t i = 0; i < STRONG && row[i].term != UINT32_MAX; i++) {
                    if (pass == 0) {
                        sums[row[i].term] += row[i].weight;
                    } else if (sums[row[i].term] > 0) {
                        keep(top, (impact){row[i].term, sums[row[i].term]});
                        sums[row[i].term] = 0;
                    }
                }
            }
        }
        make_unit(top);
    }
}

static rk_code
cluster(clusters *c, uint64_t *offsets, uint32_t *rank, uint32_t *order, float *sums, rk_err *err)
{
    size_t rows = c->vectors->rows;
    size_t parts = (rows + PART_ROWS - 1) / PART_ROWS;

    rk__parallel_run(c->options->parallel, parts, find_strong, c);
    for (size_t i = 0; i < c->n; i++) {
        size_t row = (size_t)((uint64_t)i * rows / c->n);
        memcpy(c->centres + i * STRONG, c->strong + row * STRONG, STRONG * sizeof(impact));
        rank[i] = (uint32_t)i;
    }
    rank[c->n] = (uint32_t)c->n;
    for (size_t round = 0; round < ROUNDS; round++) {
        list_centres(c);
        rk__parallel_run(c->options->parallel, parts, join_rows, c);
        if (c->failed) {
            return rk_fail(err, RK_ENOMEM, "sparse index: no memory to cluster %zu rows", rows);
        }
        if (rk__cancelled(c->options)) {
            return rk_fail(err, RK_ECANCELLED,
                           "sparse index: build cancelled while clustering %zu rows", rows);
        }
        group_rows(c, rank, offsets, order);
        move_centres(c, offsets, order, sums);
    }
    return RK_OK;
}

rk_code
rk__sparse_order(const rk_vectors *vectors, const rk__sparse_terms *terms,
                 const rk_build_options *options, uint32_t *order, rk_err *err)
{
    size_t rows = vectors->rows;
    clusters c = {
        .vectors = vectors, .terms = terms, .options = options, .n = rows / SEED_ROWS + 1};
    uint64_t *offsets = rk_alloc((c.n + 3) * sizeof(*offsets));
    uint32_t *rank = rk_alloc((c.n + 1) * sizeof(*rank));
    uint32_t *sorted = rk_alloc((c.n + 1) * sizeof(*sorted));
    float *sums = rk_alloc_zero(terms->n + 1, sizeof(*sums));
    rk_code code = RK_OK;

    c.strong = rk__alloc_huge((rows + 1) * STRONG * sizeof(*c.strong));
    c.centres = rk__alloc_huge(c.n * STRONG * sizeof(*c.centres));
    c.lists = rk__alloc_huge(c.n * STRONG * sizeof(*c.lists));
    c.offsets = rk_alloc((terms->n + 2) * sizeof(*c.offsets));
    c.of_row = rk_alloc((rows + 1) * sizeof(*c.of_row));
    if (!offsets || !rank || !sorted || !sums || !c.strong || !c.centres || !c.lists ||
        !c.offsets || !c.of_row) {
        code = rk_fail(err, RK_ENOMEM, "sparse index: no memory to order %zu rows", rows);
        goto out;
    }
    if (rows == 0) {
        goto out;
    }
    RK_ERR(cluster(&c, offsets, rank, order, sums, err));
    RK_ERR(rk__sparse_order_centres((const rk__pair *)(const void *)c.centres, STRONG, c.n, options,
                                    sorted, err));
    for (size_t i = 0; i < c.n; i++) {
        rank[sorted[i]] = (uint32_t)i;
    }
    group_rows(&c, rank, offsets, order);
out:
    rk_free(offsets);
    rk_free(rank);
    rk_free(sorted);
    rk_free(sums);
    rk_free(c.strong);
    rk_free(c.centres);
    rk_free(c.lists);
    rk_free(c.offsets);
    rk_free(c.of_row);
    return code;
}
