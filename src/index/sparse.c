/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inverted index over sparse rows: per index (called a term here) the ascending rows that have
 * it with their weights, and the largest weight. Exact.
 *
 * Search walks the rows in windows of WINDOW: the postings of the query's terms that fall into the
 * window are added into an array of sums that stays in the first-level cache, term by term in
 * ascending index order, the order in which rk__sparse_ip() adds; then the sums that can still
 * enter the result are offered. Terms are split as in MaxScore (Turtle & Flood 1995): once the k-th
 * score is known, the weakest terms whose bounds together cannot reach it are no longer walked, and
 * a row found by the others is scored from its own pairs. Where few rows pass the filter, these are
 * scored one by one instead.
 *
 * SPARSE_INVERTED_INDEX and SPARSE_WAND are the same engine; the algorithm names of the API are
 * accepted and all mean this one. The rows themselves are borrowed. Sections: 2 terms, 3 offsets, 4
 * rows, 5 weights, 6 largest absolute weight per term.
 */
#include <stdlib.h>

#include "index/index_private.h"

#define WINDOW 8192u
#define SLACK                                                                                      \
    1e-4f /* covers rounding when sums are taken in another order; far above n * 2^-24 for real    \
             queries */

typedef struct sparse_index {
    const uint32_t *terms;   /* ascending, n_terms */
    const uint64_t *offsets; /* n_terms + 1, into rows and weights */
    const uint32_t *rows;
    const float *weights;
    const float *max_abs; /* per term */
    size_t n_terms;
    uint64_t n_postings;
    void *owned[5]; /* what a build allocated; NULL when mapped */
} sparse_index;

/* ---- build ---- */

typedef struct term_map {
    uint32_t *keys; /* UINT32_MAX is empty: not a legal index */
    uint64_t *counts;
    size_t cap; /* power of two */
    size_t n;
} term_map;

static uint64_t *
map_slot(const term_map *map, uint32_t key)
{
    size_t at = (size_t)rk_hash_u64(key) & (map->cap - 1);

    while (map->keys[at] != UINT32_MAX && map->keys[at] != key) {
        at = (at + 1) & (map->cap - 1);
    }
    return &map->counts[at];
}

static bool
map_resize(term_map *map, size_t cap)
{
    term_map next = {.keys = rk_alloc(cap * sizeof(uint32_t)),
                     .counts = rk_alloc_zero(cap, sizeof(uint64_t)),
                     .cap = cap,
                     .n = map->n};

    if (!next.keys || !next.counts) {
        rk_free(next.keys);
        rk_free(next.counts);
        return false;
    }
    memset(next.keys, 0xff, cap * sizeof(uint32_t));
    for (size_t i = 0; i < map->cap; i++) {
        if (map->keys[i] != UINT32_MAX) {
            uint64_t *slot = map_slot(&next, map->keys[i]);
            *slot = map->counts[i];
            next.keys[slot - next.counts] = map->keys[i];
        }
    }
    rk_free(map->keys);
    rk_free(map->counts);
    *map = next;
    return true;
}

static bool
map_count(term_map *map, uint32_t key)
{
    if (map->n * 2 >= map->cap && !map_resize(map, RK_MAX(map->cap * 2, (size_t)1024))) {
        return false;
    }
    uint64_t *slot = map_slot(map, key);
    if (map->keys[slot - map->counts] == UINT32_MAX) {
        map->keys[slot - map->counts] = key;
        map->n++;
    }
    (*slot)++;
    return true;
}

static int
compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static rk_code
count_terms(const rk_index *index, const rk_build_options *options, term_map *map,
            uint64_t *postings, rk_err *err)
{
    const rk_vectors *v = &index->vectors;

    for (size_t row = 0; row < v->rows; row++) {
        if ((row & 4095) == 0 && rk__cancelled(options)) {
            return rk_fail(err, RK_ECANCELLED,
                           "sparse index: build cancelled after %zu of %zu rows", row, v->rows);
        }
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            uint32_t term = rk_get_u32le((const uint8_t *)v->data + at);
            if (term != UINT32_MAX && !map_count(map, term)) {
                return rk_fail(err, RK_ENOMEM, "sparse index: no memory for %zu distinct indexes",
                               map->n);
            }
            *postings += term != UINT32_MAX;
        }
    }
    return RK_OK;
}

static rk_code
sparse_alloc(rk_index *index, sparse_index *s, rk_err *err)
{
    size_t sizes[5] = {s->n_terms * sizeof(uint32_t), (s->n_terms + 1) * sizeof(uint64_t),
                       s->n_postings * sizeof(uint32_t), s->n_postings * sizeof(float),
                       s->n_terms * sizeof(float)};
    uint64_t total = sizeof(*s);

    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        total += sizes[i];
    }
    RK_RET(rk__index_reserve(index, total, "sparse index", err));
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        s->owned[i] = rk__alloc_huge(RK_MAX(sizes[i], (size_t)64));
        if (!s->owned[i]) {
            return rk_fail(err, RK_ENOMEM, "sparse index: no memory for %zu bytes", sizes[i]);
        }
    }
    s->terms = s->owned[0];
    s->offsets = s->owned[1];
    s->rows = s->owned[2];
    s->weights = s->owned[3];
    s->max_abs = s->owned[4];
    return RK_OK;
}

/* |map| has the counts on entry and is used to hold each term's next free posting. */
static void
fill(const rk_index *index, sparse_index *s, term_map *map)
{
    const rk_vectors *v = &index->vectors;
    uint32_t *terms = s->owned[0];
    uint64_t *offsets = s->owned[1];
    uint32_t *rows = s->owned[2];
    float *weights = s->owned[3];
    float *max_abs = s->owned[4];
    size_t n = 0;

    for (size_t i = 0; i < map->cap; i++) {
        if (map->keys[i] != UINT32_MAX) {
            terms[n++] = map->keys[i];
        }
    }
    qsort(terms, n, sizeof(*terms), compare_u32);
    offsets[0] = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t *slot = map_slot(map, terms[i]);
        offsets[i + 1] = offsets[i] + *slot;
        *slot = offsets[i];
    }
    for (size_t row = 0; row < v->rows; row++) {
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair;
            memcpy(&pair, (const uint8_t *)v->data + at, sizeof(pair));
            if (pair.index != UINT32_MAX) {
                uint64_t *slot = map_slot(map, pair.index);
                rows[*slot] = (uint32_t)row;
                weights[*slot] = pair.value;
                (*slot)++;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        max_abs[i] = 0;
        for (uint64_t p = offsets[i]; p < offsets[i + 1]; p++) {
            max_abs[i] = RK_MAX(max_abs[i], fabsf(weights[p]));
        }
    }
}

static rk_code
sparse_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    sparse_index *s = rk_alloc_zero(1, sizeof(*s));
    term_map map = {.cap = 0};
    rk_code code = RK_OK;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for its header");
    }
    index->impl = s;
    if (!map_resize(&map, 1024)) {
        code = rk_fail(err, RK_ENOMEM, "sparse index: no memory to count terms");
        goto out;
    }
    RK_ERR(count_terms(index, options, &map, &s->n_postings, err));
    s->n_terms = map.n;
    RK_ERR(sparse_alloc(index, s, err));
    fill(index, s, &map);
    if (options->rows_done) {
        *options->rows_done = index->vectors.rows;
    }
out:
    rk_free(map.keys);
    rk_free(map.counts);
    return code;
}

/* ---- search ---- */

typedef struct term_cursor {
    float weight;
    float bound; /* |weight| * largest weight of the list */
    uint64_t at;
    uint64_t end;
    bool essential;
} term_cursor;

typedef struct sparse_search {
    const rk_index *index;
    const sparse_index *s;
    const rk__pair *pairs;
    size_t n_pairs;
    const rk_bitset *filter;
    rk__range range;
    rk__heap *heap;
    term_cursor *terms; /* ascending by index */
    uint32_t *by_bound; /* terms, weakest first */
    size_t n_terms;
    float idle_bound; /* sum of the bounds of the terms no longer walked */
    float *sums;      /* WINDOW */
} sparse_search;

static size_t
find_term(const sparse_index *s, uint32_t term)
{
    size_t low = 0;
    size_t high = s->n_terms;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->terms[mid] < term) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < s->n_terms && s->terms[low] == term ? low : SIZE_MAX;
}

static void
offer(sparse_search *search, float score, uint32_t row)
{
    if (score > 0 && !rk__heap_rejects(search->heap, -score) &&
        (!search->range.on || rk__in_range(&search->range, -score))) {
        rk__heap_push(search->heap, -score, row);
    }
}

static float
score_row(const sparse_search *search, size_t row)
{
    const rk_vectors *v = &search->index->vectors;
    uint64_t at = v->offsets[row];

    return rk__sparse_ip((const uint8_t *)search->pairs, search->n_pairs * sizeof(*search->pairs),
                         (const uint8_t *)v->data + at, v->offsets[row + 1] - at);
}

/* The score a row must reach to matter now. */
static float
threshold(const sparse_search *search)
{
    float t = rk__heap_full(search->heap) ? -search->heap->items[0].key : 0.0f;

    return search->range.on ? RK_MAX(t, search->range.radius) : t;
}

static void
retire_weak_terms(sparse_search *search)
{
    float t = threshold(search);
    float sum = 0;

    for (size_t i = 0; i < search->n_terms; i++) {
        term_cursor *term = &search->terms[search->by_bound[i]];
        if ((sum + term->bound) * (1 + SLACK) >= t) {
            break;
        }
        sum += term->bound;
        term->essential = false;
        search->idle_bound = sum;
    }
}

static bool
add_window(sparse_search *search, uint32_t base, uint32_t end)
{
    const sparse_index *s = search->s;
    bool any = false;

    for (size_t i = 0; i < search->n_terms; i++) {
        term_cursor *term = &search->terms[i];
        if (!term->essential) {
            continue;
        }
        uint64_t p = term->at;
        for (; p < term->end && s->rows[p] < end; p++) {
            if (RK_LIKELY(s->rows[p] >= base)) {
                float product = term->weight * s->weights[p];
                float *sum = &search->sums[s->rows[p] - base];
                *sum = *sum + product;
                any = true;
            }
        }
        term->at = p;
    }
    return any;
}

static void
collect_window(sparse_search *search, uint32_t base, uint32_t end)
{
    bool complete = search->idle_bound == 0;

    for (uint32_t block = 0; block < end - base; block += 16) {
        const float *sums = search->sums + block;
        float t = threshold(search);
        float limit = complete ? t : t - search->idle_bound - t * SLACK;
        int any = 0;
        for (size_t j = 0; j < 16; j++) { /* the array is padded to the window: no tail */
            any |= (sums[j] != 0) & (sums[j] >= limit);
        }
        if (!any) {
            continue;
        }
        for (uint32_t j = 0; j < 16 && block + j < end - base; j++) {
            uint32_t row = base + block + j;
            if (sums[j] == 0 || sums[j] < limit ||
                (search->filter && !rk_bitset_get(search->filter, row))) {
                continue;
            }
            offer(search, complete ? sums[j] : score_row(search, row), row);
        }
    }
}

static void
walk_windows(sparse_search *search)
{
    size_t rows = search->index->vectors.rows;

    for (size_t base = 0; base < rows; base += WINDOW) {
        uint32_t end = (uint32_t)RK_MIN(base + WINDOW, rows);
        retire_weak_terms(search);
        if (search->n_terms > 0 &&
            !search->terms[search->by_bound[search->n_terms - 1]].essential) {
            return; /* even all terms together cannot reach the k-th score any more */
        }
        if (add_window(search, (uint32_t)base, end)) {
            collect_window(search, (uint32_t)base, end);
            memset(search->sums, 0, WINDOW * sizeof(float));
        }
    }
}

static rk_code
prepare_terms(sparse_search *search, rk_arena *arena, uint64_t *postings, rk_err *err)
{
    const sparse_index *s = search->s;

    search->terms = RK_ARENA_ARRAY(arena, term_cursor, search->n_pairs + 1);
    search->by_bound = RK_ARENA_ARRAY(arena, uint32_t, search->n_pairs + 1);
    search->sums = RK_ARENA_ARRAY(arena, float, WINDOW);
    if (!search->terms || !search->by_bound || !search->sums) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu terms", search->n_pairs);
    }
    for (size_t i = 0; i < search->n_pairs; i++) {
        size_t t = find_term(s, search->pairs[i].index);
        if (t == SIZE_MAX || search->pairs[i].value == 0) {
            continue;
        }
        size_t n = search->n_terms++;
        float weight = search->pairs[i].value;
        search->terms[n] = (term_cursor){weight, fabsf(weight) * s->max_abs[t], s->offsets[t],
                                         s->offsets[t + 1], true};
        *postings += s->offsets[t + 1] - s->offsets[t];
        size_t at = n;
        for (; at > 0 && search->terms[search->by_bound[at - 1]].bound > search->terms[n].bound;
             at--) {
            search->by_bound[at] = search->by_bound[at - 1];
        }
        search->by_bound[at] = (uint32_t)n;
    }
    return RK_OK;
}

static rk_code
sparse_run(const rk_index *index, const rk__query *query, const rk_search_options *options,
           rk__heap *heap, rk_err *err)
{
    sparse_search search = {
        .index = index, .s = index->impl, .filter = options->filter, .heap = heap};
    double drop = rk__param_float(options->params, "drop_ratio_search", 0, 0, 1);
    uint64_t postings = 0;

    search.range = rk__range_of(RK_METRIC_IP, options);
    RK_RET(rk__sparse_drop(query->data, query->len, drop, options->arena, &search.pairs,
                           &search.n_pairs, err));
    RK_RET(prepare_terms(&search, options->arena, &postings, err));
    if (options->filter &&
        options->filter_count < postings / 128) { /* a row costs about as much as 128 postings */
        size_t row = rk_bitset_next(options->filter, 0);
        for (; row < index->vectors.rows; row = rk_bitset_next(options->filter, row + 1)) {
            offer(&search, score_row(&search, row), (uint32_t)row);
        }
        return RK_OK;
    }
    walk_windows(&search);
    return RK_OK;
}

/* ---- image ---- */

static void
sparse_sections(const rk_index *index, rk__sections *out)
{
    const sparse_index *s = index->impl;

    rk__sections_add(out, 2, s->terms, s->n_terms * sizeof(uint32_t));
    rk__sections_add(out, 3, s->offsets, (s->n_terms + 1) * sizeof(uint64_t));
    rk__sections_add(out, 4, s->rows, s->n_postings * sizeof(uint32_t));
    rk__sections_add(out, 5, s->weights, s->n_postings * sizeof(float));
    rk__sections_add(out, 6, s->max_abs, s->n_terms * sizeof(float));
}

static rk_code
sparse_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    sparse_index *s = rk_alloc_zero(1, sizeof(*s));
    const void *at[5] = {NULL};
    uint64_t bytes = 0;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for its header");
    }
    index->impl = s;
    RK_RET(rk__sections_get(sections, 2, SIZE_MAX, &at[0], &bytes, err));
    s->n_terms = bytes / sizeof(uint32_t);
    RK_RET(rk__sections_get(sections, 3, (s->n_terms + 1) * sizeof(uint64_t), &at[1], NULL, err));
    s->offsets = at[1];
    for (size_t i = 0; i < s->n_terms; i++) {
        if (s->offsets[i + 1] < s->offsets[i]) {
            return rk_fail(err, RK_ECORRUPT, "sparse index: offsets fall at term %zu of %zu", i,
                           s->n_terms);
        }
    }
    s->n_postings = s->offsets[s->n_terms];
    if (s->offsets[0] != 0 || s->n_postings > UINT64_MAX / 8) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: offsets are not a partition");
    }
    RK_RET(rk__sections_get(sections, 4, s->n_postings * sizeof(uint32_t), &at[2], NULL, err));
    RK_RET(rk__sections_get(sections, 5, s->n_postings * sizeof(float), &at[3], NULL, err));
    RK_RET(rk__sections_get(sections, 6, s->n_terms * sizeof(float), &at[4], NULL, err));
    s->terms = at[0];
    s->rows = at[2];
    s->weights = at[3];
    s->max_abs = at[4];
    return RK_OK;
}

static void
sparse_free(rk_index *index)
{
    sparse_index *s = index->impl;

    if (!s) {
        return;
    }
    for (size_t i = 0; i < RK_COUNT(s->owned); i++) {
        rk_free(s->owned[i]);
    }
    rk_free(s);
}

const rk__verbs rk__sparse_verbs = {
    .build = sparse_build,
    .search = sparse_run,
    .sections = sparse_sections,
    .open = sparse_open,
    .free = sparse_free,
};
