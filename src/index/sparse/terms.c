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

#define DENSE      2u  /* a table by index where one in so many or more occurs */
#define PART_TERMS 16u /* of a part of the directory, were indexes spread evenly */

static inline size_t
part_of(const rk__sparse *s, uint32_t index)
{
    return (size_t)((uint64_t)(index - s->terms[0].index) >> s->shift); /* by 32 at most: 0 */
}

/* Indexes of a vocabulary: a table by index costs no more than their list would. */
static rk_code
directory_of_all(rk_index *index, rk__sparse *s, size_t range, rk_err *err)
{
    RK_RET(rk__sparse_take(index, s, 13, range * sizeof(uint32_t), err));
    uint32_t *numbers = s->owned[13];
    memset(numbers, 0xff, range * sizeof(uint32_t));
    for (size_t i = 0; i < s->n_terms; i++) {
        if (s->terms[i].index - s->terms[0].index < range) { /* images are not trusted */
            numbers[s->terms[i].index - s->terms[0].index] = (uint32_t)i;
        }
    }
    s->numbers = numbers;
    s->n_numbers = range;
    return RK_OK;
}

rk_code
rk__sparse_directory(rk_index *index, rk__sparse *s, rk_err *err)
{
    size_t n = s->n_terms;
    size_t part = 0;

    if (n == 0 || s->terms[n - 1].index < s->terms[0].index) { /* images are not trusted */
        return RK_OK;
    }
    size_t range = (size_t)(s->terms[n - 1].index - s->terms[0].index) + 1;
    if (range / DENSE <= n && n < UINT32_MAX) {
        return directory_of_all(index, s, range, err);
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

/* The term of |index|, SIZE_MAX when there is none. */
static inline size_t
find_term(const rk__sparse *s, uint32_t index)
{
    size_t low = 0;
    size_t high = 0;
    size_t at = 0;

    if (s->n_numbers > 0) {
        uint32_t place = index - s->terms[0].index;
        uint32_t t = place < s->n_numbers ? s->numbers[place] : UINT32_MAX;
        return t == UINT32_MAX ? SIZE_MAX : t;
    }
    return guess(s, index, &low, &high, &at)
               ? find_around(&s->terms->index, sizeof(*s->terms), low, high, at, index)
               : SIZE_MAX;
}

/* ---- a query ---- */

#define RANKS 64u /* a quarter of a power of two each, the last for all that is weaker */

/* The strongest bound has rank 0. */
static inline uint32_t
rank_of(double bound, double strongest)
{
    float share = (float)(bound / strongest); /* 0 to 1: its bits rise with it */
    uint32_t bits = 0;

    memcpy(&bits, &share, sizeof(bits));
    uint32_t rank = (0x3f800000u - RK_MIN(bits, 0x3f800000u)) >> 21;
    return RK_MIN(rank, RANKS - 1);
}

rk_code
rk__sparse_ask_for_terms(rk__sparse_search *search, const rk__pair *pairs, size_t n, rk_err *err)
{
    const rk__sparse *s = search->s;

    search->terms = rk_arena_alloc(search->options->arena, (n + 1) * sizeof(*search->terms));
    if (!search->terms) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu terms", n);
    }
    for (size_t i = 0; s->n_numbers == 0 && i < n; i++) {
        size_t low = 0;
        size_t high = 0;
        size_t at = 0;
        if (guess(s, pairs[i].index, &low, &high, &at)) {
            RK__SPARSE_ASK(&s->terms[at]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t t = find_term(s, pairs[i].index);
        if (t != SIZE_MAX && pairs[i].value > 0) {
            RK__SPARSE_ASK(&s->terms[t]);
            search->terms[search->n_terms++] =
                (rk__sparse_found){.term = t, .weight = pairs[i].value};
        }
    }
    return RK_OK;
}

/* In order by counting: no branch of it depends on the weights. */
rk_code
rk__sparse_find_terms(const rk__sparse_search *search, rk__sparse_found **out,
                      rk__sparse_scale *scale, rk_err *err)
{
    const rk__sparse_term *terms = search->s->terms;
    rk__sparse_found *found = search->terms;
    size_t n = search->n_terms;
    rk_arena *arena = search->options->arena;
    rk__sparse_found *sorted = rk_arena_alloc(arena, (n + 1) * sizeof(*sorted));
    uint32_t starts[RANKS + 1] = {0};
    double strongest = 0;
    double sum = 0;

    if (!sorted) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu terms", n);
    }
    for (size_t i = 0; i < n; i++) {
        found[i].bound = (double)found[i].weight * (double)terms[found[i].term].scale * 255.0;
        sum += found[i].bound;
        strongest = RK_MAX(strongest, found[i].bound);
    }
    double g = sum > 0 ? (65535.0 - (double)n) / (sum * (1 + 1e-6)) : 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t factor = (uint32_t)(found[i].bound * g) + 1; /* at least what is due */
        found[i].factor = RK_MIN(factor, 65535u);
        found[i].rank = rank_of(found[i].bound, strongest);
        starts[found[i].rank + 1]++;
    }
    for (size_t rank = 1; rank < RANKS; rank++) {
        starts[rank + 1] += starts[rank];
    }
    for (size_t i = 0; i < n; i++) {
        sorted[starts[found[i].rank]++] = found[i];
    }
    *out = sorted;
    *scale = (rk__sparse_scale){n, g * 255.0 / 256.0};
    return RK_OK;
}
