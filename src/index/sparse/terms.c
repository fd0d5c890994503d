/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terms of a matrix of sparse rows: which indexes occur, how often, with which largest weight.
 * A hash map while rows are counted; then terms are sorted and the map gives a term's number. Also
 * the look-up of a term in a built index.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

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

/* Looks at |at| first, then further and further around it; the number is in [low, high). */
static size_t
find_around(const void *first, size_t stride, size_t low, size_t high, size_t at, uint32_t index)
{
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

/* Indexes are often those of a vocabulary of which nearly all occur: look where the index would
 * stand then, and around there. */
size_t
rk__sparse_find(const void *first, size_t stride, size_t n, uint32_t index)
{
    uint64_t least = n > 0 ? number_at(first, stride, 0) : 0;
    uint64_t most = n > 0 ? number_at(first, stride, n - 1) : 0;

    if (n == 0 || index < least || index > most) {
        return SIZE_MAX;
    }
    return find_around(first, stride, 0, n,
                       (size_t)((index - least) * (uint64_t)(n - 1) / (most - least + 1)), index);
}

/* ---- the directory ---- */

#define PART_TERMS 16u /* of a part of the directory, were indexes spread evenly */

static inline size_t
part_of(const rk__sparse *s, uint32_t index)
{
    return (size_t)((uint64_t)(index - s->terms[0].index) >> s->shift); /* by 32 at most: 0 */
}

rk_code
rk__sparse_directory(rk_index *index, rk__sparse *s, rk_err *err)
{
    size_t n = s->n_terms;
    size_t part = 0;

    if (n == 0 || s->terms[n - 1].index < s->terms[0].index) { /* images are not trusted */
        return RK_OK;
    }
    while (part_of(s, s->terms[n - 1].index) > n / PART_TERMS) {
        s->shift++;
    }
    size_t parts = part_of(s, s->terms[n - 1].index) + 1;
    RK_RET(rk__sparse_take(index, s, 13, (parts + 1) * sizeof(uint32_t), err));
    uint32_t *starts = s->owned[13];
    for (size_t i = 0; i < n; i++) {
        for (; part < parts && part <= part_of(s, s->terms[i].index); part++) {
            starts[part] = (uint32_t)i;
        }
    }
    for (; part <= parts; part++) {
        starts[part] = (uint32_t)n;
    }
    s->starts = starts;
    s->n_starts = parts;
    return RK_OK;
}

/* Where the term of |index| would be and among which terms it is; false when there is none. */
static bool
guess(const rk__sparse *s, uint32_t index, size_t *low, size_t *high, size_t *at)
{
    if (s->n_starts == 0 || index < s->terms[0].index || part_of(s, index) >= s->n_starts) {
        return false;
    }
    size_t part = part_of(s, index);
    uint64_t offset = (index - s->terms[0].index) & ((UINT64_C(1) << s->shift) - 1);
    *low = s->starts[part];
    *high = s->starts[part + 1];
    *at = *low + (size_t)(offset * (*high - *low) >> s->shift);
    return *low < *high;
}

/* ---- a query ---- */

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
        size_t low = 0;
        size_t high = 0;
        size_t at = 0;
        if (guess(s, query->pairs[i].index, &low, &high, &at)) {
            __builtin_prefetch(&s->terms[at]);
        }
    }
    for (size_t i = 0; i < query->n; i++) {
        size_t low = 0;
        size_t high = 0;
        size_t around = 0;
        uint32_t index = query->pairs[i].index;
        size_t t = guess(s, index, &low, &high, &around)
                       ? find_around(&s->terms->index, sizeof(*s->terms), low, high, around, index)
                       : SIZE_MAX;
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
