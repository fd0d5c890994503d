/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terms of a matrix of sparse rows: which indexes occur, how often, with which largest weight.
 * A hash map while rows are counted; then terms are sorted and the map gives a term's number. Also
 * the look-up of a term in a built index.
 */
#include <stdlib.h>

#include "index/sparse.h"

void
rk__sparse_terms_deinit(rk__sparse_terms *terms)
{
    rk_free(terms->keys);
    rk_free(terms->ids);
    rk_free(terms->terms);
    rk_free(terms->counts);
    rk_free(terms->largest);
    rk_free(terms->rarity);
    *terms = (rk__sparse_terms){.cap = 0};
}

static size_t
slot_of(const rk__sparse_terms *terms, uint32_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (terms->cap - 1);

    while (terms->keys[at] != UINT32_MAX && terms->keys[at] != key) {
        at = (at + 1) & (terms->cap - 1);
    }
    return at;
}

/* Room for one more term: half the places stay empty, and the per-term arrays have cap / 2. */
static bool
grow(rk__sparse_terms *terms)
{
    size_t cap = RK_MAX(terms->cap * 2, (size_t)1024);
    uint32_t *old_keys = terms->keys;
    uint32_t *old_ids = terms->ids;
    size_t old_cap = terms->cap;
    uint32_t *keys = rk_alloc(cap * sizeof(*keys));
    uint32_t *ids = rk_alloc(cap * sizeof(*ids));
    uint64_t *counts = keys && ids ? rk_realloc(terms->counts, cap / 2 * sizeof(*counts)) : NULL;
    float *largest = NULL;

    if (counts) {
        terms->counts = counts;
        largest = rk_realloc(terms->largest, cap / 2 * sizeof(*largest));
    }
    if (!largest) {
        rk_free(keys);
        rk_free(ids);
        return false;
    }
    terms->largest = largest;
    memset(keys, 0xff, cap * sizeof(*keys));
    terms->keys = keys;
    terms->ids = ids;
    terms->cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old_keys[i] != UINT32_MAX) {
            size_t at = slot_of(terms, old_keys[i]);
            keys[at] = old_keys[i];
            ids[at] = old_ids[i];
        }
    }
    rk_free(old_keys);
    rk_free(old_ids);
    return true;
}

static bool
count_pair(rk__sparse_terms *terms, rk__pair pair)
{
    if (terms->n * 2 >= terms->cap && !grow(terms)) {
        return false;
    }
    size_t at = slot_of(terms, pair.index);
    if (terms->keys[at] == UINT32_MAX) {
        terms->keys[at] = pair.index;
        terms->ids[at] = (uint32_t)terms->n;
        terms->counts[terms->n] = 0;
        terms->largest[terms->n] = 0;
        terms->n++;
    }
    uint32_t id = terms->ids[at];
    terms->counts[id]++;
    terms->largest[id] = RK_MAX(terms->largest[id], pair.value);
    terms->postings++;
    return true;
}

static int
compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Terms were numbered as they came: number them in ascending order. */
static bool
sort_terms(rk__sparse_terms *terms, size_t rows)
{
    size_t n = terms->n;
    uint64_t *counts = rk_alloc((n + 1) * sizeof(*counts));
    float *largest = rk_alloc((n + 1) * sizeof(*largest));
    size_t found = 0;

    terms->terms = rk_alloc((n + 1) * sizeof(*terms->terms));
    terms->rarity = rk_alloc((n + 1) * sizeof(*terms->rarity));
    if (!counts || !largest || !terms->terms || !terms->rarity) {
        rk_free(counts);
        rk_free(largest);
        return false;
    }
    for (size_t i = 0; i < terms->cap; i++) {
        if (terms->keys[i] != UINT32_MAX) {
            terms->terms[found++] = terms->keys[i];
        }
    }
    qsort(terms->terms, n, sizeof(*terms->terms), compare_u32);
    for (size_t i = 0; i < n; i++) {
        uint32_t *id = &terms->ids[slot_of(terms, terms->terms[i])];
        counts[i] = terms->counts[*id];
        largest[i] = terms->largest[*id];
        terms->rarity[i] = (float)log(1.1 * (double)rows / (double)counts[i]);
        *id = (uint32_t)i;
    }
    rk_free(terms->counts);
    rk_free(terms->largest);
    terms->counts = counts;
    terms->largest = largest;
    return true;
}

rk_code
rk__sparse_terms_count(rk__sparse_terms *terms, const rk_vectors *v,
                       const rk_build_options *options, rk_err *err)
{
    bool ok = grow(terms);

    for (size_t row = 0; ok && row < v->rows; row++) {
        if ((row & 4095) == 0 && rk__cancelled(options)) {
            return rk_fail(err, RK_ECANCELLED,
                           "sparse index: build cancelled after %zu of %zu rows", row, v->rows);
        }
        for (uint64_t at = v->offsets[row]; ok && at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair = rk__sparse_pair(v, at);
            if (rk__sparse_counts(pair)) {
                ok = count_pair(terms, pair);
            }
        }
    }
    if (!ok || !sort_terms(terms, v->rows)) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for %zu distinct indexes",
                       terms->n);
    }
    return RK_OK;
}

static inline uint32_t
number_at(const void *first, size_t stride, size_t at)
{
    return rk_get_u32le((const uint8_t *)first + at * stride);
}

size_t
rk__sparse_guess(const void *first, size_t stride, size_t n, uint32_t index)
{
    uint64_t least = n > 0 ? number_at(first, stride, 0) : 0;
    uint64_t most = n > 0 ? number_at(first, stride, n - 1) : 0;

    if (index < least || index > most || most < least) { /* images are not trusted */
        return 0;
    }
    return (size_t)((index - least) * (uint64_t)(n - 1) / (most - least + 1));
}

/* Indexes are often those of a vocabulary of which nearly all occur: look where the index would
 * stand then, and around there. */
size_t
rk__sparse_find(const void *first, size_t stride, size_t n, uint32_t index)
{
    size_t low = 0;
    size_t high = n; /* it is in [low, high) */

    if (n == 0) {
        return SIZE_MAX;
    }
    uint64_t least = number_at(first, stride, 0);
    uint64_t most = number_at(first, stride, n - 1);
    if (index < least || index > most) {
        return SIZE_MAX;
    }
    size_t at = rk__sparse_guess(first, stride, n, index);
    for (size_t step = 1; low < high; step *= 2) {
        uint32_t found = number_at(first, stride, at);
        if (found == index) {
            return at;
        }
        if (found < index) {
            low = at + 1;
        } else {
            high = at;
        }
        size_t middle = low + (high - low) / 2;
        at = found < index ? RK_MIN(middle, at + step) : RK_MAX(middle, at > step ? at - step : 0);
    }
    return SIZE_MAX;
}

#define SORT_FEW 128u /* terms that are put in order by insertion */

static int
compare_found(const void *a, const void *b)
{
    const rk__sparse_found *x = a;
    const rk__sparse_found *y = b;

    return x->bound != y->bound ? (x->bound > y->bound ? -1 : 1)
                                : (x->term > y->term) - (x->term < y->term);
}

rk_code
rk__sparse_find_terms(const rk__sparse_search *search, rk__sparse_found **out,
                      rk__sparse_scale *scale, rk_err *err)
{
    const rk__sparse *s = search->s;
    const rk__sparse_query *query = &search->query;
    rk__sparse_found *found =
        rk_arena_alloc(search->options->arena, (query->n + 1) * sizeof(*found));
    size_t n = 0;
    double sum = 0;

    if (!found) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu terms", query->n);
    }
    for (size_t i = 0; i < query->n; i++) {
        __builtin_prefetch(&s->terms[rk__sparse_guess(&s->terms->index, sizeof(*s->terms),
                                                      s->n_terms, query->pairs[i].index)]);
    }
    for (size_t i = 0; i < query->n; i++) {
        size_t t =
            rk__sparse_find(&s->terms->index, sizeof(*s->terms), s->n_terms, query->pairs[i].index);
        if (t == SIZE_MAX || !(query->pairs[i].value > 0)) {
            continue;
        }
        rk__sparse_found next = {
            t, (double)query->pairs[i].value * (double)s->terms[t].scale * 255.0, 0};
        size_t at = n++;
        sum += next.bound;
        for (; query->n <= SORT_FEW && at > 0 && found[at - 1].bound < next.bound; at--) {
            found[at] = found[at - 1];
        }
        found[at] = next;
    }
    if (query->n > SORT_FEW) {
        qsort(found, n, sizeof(*found), compare_found);
    }
    double g = sum > 0 ? (65535.0 - (double)n) / (sum * (1 + 1e-6)) : 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t factor = (uint32_t)(found[i].bound * g) + 1; /* at least what is due */
        found[i].factor = RK_MIN(factor, 65535u);
    }
    *out = found;
    *scale = (rk__sparse_scale){n, g * 255.0 / 256.0};
    return RK_OK;
}
