/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse rows: runs of (u32 index, f32 value) pairs, ascending by index. Checks of a query row with
 * the public sentences, the inner product of two rows, and drop_ratio_search. The product is summed
 * in float in ascending index order, one rounding per multiply and one per add; the inverted index
 * adds in the same order, so both give the same bits.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

static inline rk__pair
pair_at(const uint8_t *p)
{
    rk__pair pair;
    memcpy(&pair, p, sizeof(pair));
    return pair;
}

float
rk__sparse_ip(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    const uint8_t *a_end = a + a_len / sizeof(rk__pair) * sizeof(rk__pair);
    const uint8_t *b_end = b + b_len / sizeof(rk__pair) * sizeof(rk__pair);
    float sum = 0;

    while (a < a_end && b < b_end) {
        uint32_t i = rk_get_u32le(a);
        uint32_t j = rk_get_u32le(b);
        if (i == j) {
            float product = pair_at(a).value * pair_at(b).value;
            sum = sum + product;
        }
        a += i <= j ? sizeof(rk__pair) : 0;
        b += j <= i ? sizeof(rk__pair) : 0;
    }
    return sum;
}

rk_code
rk__sparse_check(const void *row, size_t len, rk_err *err)
{
    const uint8_t *p = row;
    uint32_t last = 0;

    if (len % sizeof(rk__pair) != 0) {
        return rk_fail(err, RK_EINVAL,
                       "Invalid size for sparse row data: %zu bytes is not a multiple of 8", len);
    }
    for (size_t i = 0; i < len; i += sizeof(rk__pair)) {
        rk__pair pair = pair_at(p + i);
        if (pair.index == UINT32_MAX) {
            return rk_fail(err, RK_EINVAL,
                           "Invalid sparse row: id should be smaller than uint32 max");
        }
        if (i > 0 && pair.index <= last) {
            return rk_fail(err, RK_EINVAL, "Invalid sparse row: id should be strict ascending");
        }
        if (!isfinite(pair.value)) {
            return rk_fail(err, RK_EINVAL, "Invalid sparse row: NaN or Inf value");
        }
        if (pair.value < 0) {
            return rk_fail(err, RK_EINVAL, "Invalid sparse row: negative value");
        }
        last = pair.index;
    }
    return RK_OK;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return x < y ? -1 : x > y;
}

rk_code
rk__sparse_drop(const void *query, size_t len, double ratio, rk_arena *arena, const rk__pair **out,
                size_t *n, rk_err *err)
{
    size_t total = len / sizeof(rk__pair);
    rk__pair *pairs = rk_arena_alloc(arena, RK_MAX(len, sizeof(rk__pair)));
    size_t rank = (size_t)(ratio * (double)total);
    size_t kept = 0;

    *out = pairs;
    *n = 0;
    if (!pairs) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for a query of %zu values", total);
    }
    memcpy(pairs, query, len);
    *n = total;
    if (rank == 0 || rank >= total) {
        return RK_OK;
    }
    float *values = rk_arena_alloc(arena, total * sizeof(float));
    if (!values) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for a query of %zu values", total);
    }
    for (size_t i = 0; i < total; i++) {
        values[i] = pairs[i].value;
    }
    qsort(values, total, sizeof(float), compare_floats);
    for (size_t i = 0; i < total; i++) {
        if (pairs[i].value >= values[rank]) {
            pairs[kept++] = pairs[i];
        }
    }
    *n = kept;
    return RK_OK;
}

/* ---- a query made ready ---- */

#define REACH 8u /* places from its own; keys that stand farther were chosen to */

static inline size_t
place_of(const rk__sparse_query *query, uint32_t key)
{
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (query->cap - 1);
}

rk_code
rk__sparse_query_init(rk__sparse_query *query, const rk__pair *pairs, size_t n, rk_arena *arena,
                      rk_err *err)
{
    *query = (rk__sparse_query){.pairs = pairs, .n = n, .cap = 16};
    while (query->cap < n * 8) {
        query->cap *= 2;
    }
    size_t room = query->cap + n + 1; /* no key wraps around */
    query->seen_last = (n <= RK__SPARSE_FEW ? RK__SPARSE_SEEN_FEW : RK__SPARSE_SEEN) - 1;
    query->seen = rk_arena_zero(arena, query->seen_last / 64 + 1, sizeof(uint64_t));
    uint8_t *few = rk_arena_zero(arena, 128 + 64, 1);
    query->table = rk_arena_alloc(arena, room * sizeof(*query->table));
    query->few = (uint16_t *)(void *)(few ? few + (64 - (uintptr_t)few % 64) % 64 : NULL);
    if (!query->seen || !few || !query->table) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for a query of %zu values", n);
    }
    memset(query->table, 0xff, room * sizeof(*query->table)); /* not a legal index */
    for (size_t i = 0; i < n; i++) {
        size_t first = place_of(query, pairs[i].index);
        size_t at = first;
        while (query->table[at].index != UINT32_MAX) {
            at++;
        }
        query->table[at] = pairs[i];
        query->reach = RK_MAX(query->reach, at - first);
        query->seen[(pairs[i].index & query->seen_last) / 64] |= UINT64_C(1) << pairs[i].index % 64;
        query->few[rk__sparse_few(pairs[i].index) / 16] |=
            (uint16_t)(1u << rk__sparse_few(pairs[i].index) % 16);
    }
    return RK_OK;
}

/* The query's value of an index, and 0 when it has none, by its bits. */
static uint32_t
value_bits_crowded(const rk__sparse_query *query, uint32_t index)
{
    const rk__pair *at = query->table + place_of(query, index);
    uint32_t bits = 0;

    while (at->index != index && at->index != UINT32_MAX) {
        at++;
    }
    memcpy(&bits, &at->value, sizeof(bits));
    return at->index == index ? bits : 0;
}

/* The same in as many looks for each: which are met at the first cannot be foreseen. */
static inline uint32_t
value_bits(const rk__sparse_query *query, uint32_t index)
{
    const rk__pair *at = query->table + place_of(query, index);
    uint32_t bits = 0;

    for (size_t i = 0; i <= query->reach; i++) {
        uint32_t next = 0;
        memcpy(&next, &at[i].value, sizeof(next));
        bits |= next & (0u - (uint32_t)(at[i].index == index));
    }
    return bits;
}

/* In two steps per run of pairs: which may be met, without a branch; then their products in order.
 */
float
rk__sparse_query_score(const rk__sparse_kernels *kernels, const rk__sparse_query *query,
                       const uint8_t *row, size_t len)
{
    enum { RUN = 256 };
    uint16_t met[RUN + RK__SPARSE_MET];
    size_t n_pairs = len / sizeof(rk__pair);
    float sum = 0;

    for (size_t from = 0; from < n_pairs; from += RUN) {
        const uint8_t *run = row + from * sizeof(rk__pair);
        size_t n_met = kernels->meet(query, run, RK_MIN(n_pairs - from, (size_t)RUN), met);
        for (size_t i = 0; i < n_met; i++) {
            rk__pair pair = pair_at(run + met[i] * sizeof(rk__pair));
            uint32_t bits = query->reach <= REACH ? value_bits(query, pair.index)
                                                  : value_bits_crowded(query, pair.index);
            float value = 0;
            bits = pair.index != UINT32_MAX ? bits : 0; /* not a legal index */
            memcpy(&value, &bits, sizeof(value));
            float product = value * pair.value;
            sum = sum + product; /* of a pair not met a zero, which changes no sum */
        }
    }
    return sum;
}

/* ---- all rows that pass ---- */

/* The first lines of a row: the CPU goes on by itself. */
static inline void
ask_for_head(const rk_vectors *v, uint32_t row)
{
    size_t len = v->offsets[row + 1] - v->offsets[row];

    rk__fetch((const char *)v->data + v->offsets[row], RK_MIN(len, (size_t)192));
}

void
rk__sparse_search_rows(rk__sparse_search *search)
{
    enum { BATCH = 16, AHEAD = 4 }; /* asked for together: first where they are, then their bytes */
    const rk_vectors *v = &search->index->vectors;
    const rk_bitset *filter = search->options->filter;
    size_t row = filter ? rk_bitset_next(filter, 0) : 0;

    while (row < v->rows) {
        uint32_t batch[BATCH];
        size_t n = 0;
        for (; n < BATCH && row < v->rows; n++) {
            batch[n] = (uint32_t)row;
            __builtin_prefetch(&v->offsets[row]);
            row = filter ? rk_bitset_next(filter, row + 1) : row + 1;
        }
        for (size_t i = 0; i < RK_MIN(n, (size_t)AHEAD); i++) {
            ask_for_head(v, batch[i]);
        }
        for (size_t i = 0; i < n; i++) {
            if (i + AHEAD < n) {
                ask_for_head(v, batch[i + AHEAD]);
            }
            rk__sparse_offer(search, rk__sparse_score_row(search, batch[i]), batch[i]);
        }
    }
}
