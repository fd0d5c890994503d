/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching code sets, see growing/growing.h. The way of a query:
 *
 *   1. It is rotated, its tables are made; for every chunk the distance to its centre.
 *   2. The blocks are scanned in the order of the rows. Rows whose estimate, less EPSILON times its
 *      error, lies below the k-th best distance so far wait for their records, which are fetched
 *      meanwhile. Under a filter, blocks without a passing row cost nothing.
 *   3. Waiting rows are scored by their records. The k-th best falls, so later blocks give few.
 *   4. What is within RECORD_EPSILON times the error of a record of the k-th best is scored on the
 *      vectors themselves.
 *
 * Where that cannot pay (few rows pass, k is a good part of the rows, the query is out of range)
 * the rows are scored exactly; so they are if fewer than k were found. All memory is the request's
 * arena.
 */
#include <float.h>

#include "index/cluster/cluster.h"
#include "index/growing/growing_private.h"

#define EPSILON        2.2f
#define RECORD_EPSILON 4.2f /* errors of two records meet: that of a row and of the k-th best */
#define WAITING_MAX    512u
#define FETCH          48u /* rows whose records are under way at once */
#define BATCH          16u
#define EXACT_ROWS     128u /* so few passing rows are scored on their vectors at once */
#define ROWS_PER_K     16u  /* with fewer rows codes leave too little out */
#define ALONG          8.0f /* so many times as long as the centre a query is made at most */
#define SMALL          (4 * FLT_MIN)
#define ROUNDING       1e-6f /* of an estimate, as a share of its largest term */

typedef struct growing_search {
    const rk_growing_chunk *chunks;
    size_t n_chunks;
    const rk_growing_codes *first; /* what all have in common */
    const rk_search_options *options;
    rk__space space; /* kind and metric; data by chunk */
    rk__query query;
    rk__range range;
    rk__bits_query bits;
    float *point;   /* padded: rotated, less the origin, times |scale| */
    float scale;    /* 1, unless under IP */
    int8_t *narrow; /* the same in 8 bits, times |unit| */
    float unit;
    float middle;    /* the sum of |narrow|, by 7.5: level 0 is -7.5 steps */
    float *extra;    /* per chunk, see growing/growing_private.h */
    float *reach;    /* per chunk: |point - centre|, with what the tables add to its error */
    float *spread;   /* per chunk: by how much to multiply the error of a record */
    float threshold; /* k-th best so far, or the radius; INFINITY while there are fewer */
    float lower;     /* range: nearer ones do not qualify; -INFINITY */
    rk__heap near;   /* k best by record */
    rk__near *kept;  /* least possible distance, row */
    uint32_t n_kept;
    uint32_t kept_cap;
    rk__cluster_item *waiting;
    uint32_t n_waiting;
    bool no_memory;
} growing_search;

/* ---- rows ---- */

static void
drop_kept(growing_search *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_kept; i++) {
        if (s->kept[i].key <= s->threshold) {
            s->kept[n++] = s->kept[i];
        }
    }
    s->n_kept = n;
}

static bool
keep(growing_search *s, float least, uint32_t row)
{
    if (s->n_kept == s->kept_cap) {
        drop_kept(s);
        if (s->n_kept > s->kept_cap / 2) {
            rk__near *more =
                rk_arena_alloc(s->options->arena, 2 * (size_t)s->kept_cap * sizeof(*more));
            if (!more) {
                s->no_memory = true;
                return false;
            }
            memcpy(more, s->kept, s->n_kept * sizeof(*more));
            s->kept = more;
            s->kept_cap *= 2;
        }
    }
    s->kept[s->n_kept++] = (rk__near){least, row};
    return true;
}

static void
count_near(growing_search *s, float dist, uint32_t row)
{
    rk__heap_push(&s->near, dist, row);
    if (rk__heap_full(&s->near)) {
        s->threshold = RK_MIN(s->threshold, s->near.items[0].key);
    }
}

/* A row with its distance by record. */
static inline void
accept(growing_search *s, float dist, float error, uint32_t row)
{
    if (!(dist - error <= s->threshold)) {
        return;
    }
    if (dist == -INFINITY) { /* not known: scored in any case */
        (void)keep(s, dist, row);
        return;
    }
    if (dist + error < s->lower || !keep(s, dist - error, row)) {
        return;
    }
    if (dist - error >= s->lower) { /* else it may not qualify and does not count */
        count_near(s, dist, row);
    }
}

static void
score_waiting(growing_search *s, const uint32_t *rows, uint32_t n)
{
    rk__nibblex4_fn score = rk__kernels_get()->nibble_ipx4;
    unsigned shift = s->first->shift;
    size_t mask = ((size_t)1 << shift) - 1;

    for (uint32_t i = 0; i < n; i += 4) {
        const uint8_t *four[4];
        int32_t dots[4];
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t row = rows[i + j < n ? i + j : n - 1];
            four[j] = rk__growing_record(s->chunks[row >> shift].codes, row & mask);
        }
        score(s->narrow, four, s->first->rotation.padded, dots);
        for (uint32_t j = 0; j < 4 && i + j < n; j++) {
            uint32_t row = rows[i + j];
            size_t chunk = row >> shift;
            const rk__growing_factors *f = &s->chunks[chunk].codes->factors[row & mask];
            float product = s->unit * ((float)dots[j] - s->middle);
            float dist = s->extra[chunk] + (f->add + f->mul * product);
            float error = f->error * s->spread[chunk] + ROUNDING * fabsf(s->extra[chunk]) + SMALL;
            accept(s, dist, error, row);
        }
    }
}

static inline void
fetch_record(const growing_search *s, uint32_t row)
{
    const rk_growing_codes *codes = s->chunks[row >> s->first->shift].codes;
    size_t at = row & (((size_t)1 << s->first->shift) - 1);
    const uint8_t *record = rk__growing_record(codes, at);
    size_t len = RK_MIN(codes->rotation.padded / 2, 1024u);

    __builtin_prefetch(&codes->factors[at]);
    rk__fetch(record, len);
}

/* Scores the rows that wait and are still worth it. */
static void
flush_waiting(growing_search *s)
{
    uint32_t batch[BATCH];
    uint32_t n = 0;
    uint32_t missing = s->near.cap - s->near.n;

    if (missing > 0 && s->n_waiting > 0) { /* the nearest of them make a threshold for the rest */
        missing = rk__cluster_select(s->waiting, s->n_waiting, RK_MIN(missing, s->n_waiting));
        for (uint32_t i = 0; i < missing; i++) {
            fetch_record(s, s->waiting[i].at);
        }
    }
    for (uint32_t i = 0; i < s->n_waiting; i++) {
        if (!(s->waiting[i].est <= s->threshold)) {
            continue;
        }
        batch[n++] = s->waiting[i].at;
        if (n == BATCH || i + 1 == missing) {
            score_waiting(s, batch, n);
            n = 0;
        }
    }
    if (n > 0) {
        score_waiting(s, batch, n);
    }
    s->n_waiting = 0;
}

static inline void
wait_row(growing_search *s, float least, uint32_t row)
{
    if (s->n_waiting == WAITING_MAX) {
        flush_waiting(s);
        if (!(least <= s->threshold)) {
            return;
        }
    }
    if (s->threshold != INFINITY) {
        fetch_record(s, row);
    }
    s->waiting[s->n_waiting++] = (rk__cluster_item){least, 0, row};
}

/* ---- chunks ---- */

/* Bits of 32 rows from |row| on, a multiple of 32. */
static inline uint32_t
passing(const rk_bitset *filter, size_t row)
{
    return row < filter->nbits ? (uint32_t)(filter->words[row / 64] >> row % 64) : 0;
}

static void
scan_chunk(growing_search *s, size_t chunk)
{
    const rk_growing_codes *c = s->chunks[chunk].codes;
    rk__scan32_fn scan = rk__kernels_get()->scan32_low;
    size_t rows = s->chunks[chunk].rows;
    size_t base = chunk << c->shift;
    size_t groups = rk__bits_groups(c->rotation.padded);
    size_t codes = rk__bits_block_bytes(c->rotation.padded);
    float extra = s->extra[chunk];
    float by = EPSILON * s->reach[chunk];
    float floor = ROUNDING * fabsf(extra) + SMALL;

    for (size_t from = 0; from < rows; from += RK__BITS_ROWS) {
        const uint8_t *block = c->blocks + from / RK__BITS_ROWS * c->block_bytes;
        const float *add = (const float *)(const void *)(block + codes);
        const float *error = add + 2 * RK__BITS_ROWS;
        size_t n = RK_MIN(rows - from, (size_t)RK__BITS_ROWS);
        uint32_t may = n == 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
        float est[RK__BITS_ROWS];
        if (s->options->filter) {
            may &= passing(s->options->filter, base + from);
            if (!may) {
                continue;
            }
        }
        float below = s->threshold + (by * c->most[from / RK__BITS_ROWS] + floor);
        uint32_t mask = may & scan(s->bits.lut, block, groups, add, add + RK__BITS_ROWS,
                                   s->bits.unit, s->bits.bias, extra, below, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            float least = est[i] - (by * error[i] + floor);
            if (least <= s->threshold) {
                wait_row(s, least, (uint32_t)(base + from + i));
            }
        }
        if (s->n_waiting >= FETCH && s->threshold != INFINITY) {
            flush_waiting(s);
        }
    }
}

/* Scores rows [0, n) of |rows|, all of one chunk, on their vectors. */
static void
score_rows(growing_search *s, size_t chunk, uint32_t *rows, uint32_t n, rk__heap *heap)
{
    float keys[4 * BATCH];
    uint32_t base = (uint32_t)(chunk << s->first->shift);

    s->space.data = s->chunks[chunk].vectors;
    for (uint32_t i = 0; i < n; i++) {
        rows[i] -= base;
    }
    rk__keys(&s->space, &s->query, rows, n, keys);
    for (uint32_t i = 0; i < n; i++) {
        if (!s->range.on || rk__in_range(&s->range, keys[i])) {
            rk__heap_push(heap, keys[i], base + rows[i]);
        }
    }
}

/* What was kept lies in the order of the rows. */
static void
score_kept(growing_search *s, rk__heap *heap)
{
    uint32_t rows[4 * BATCH];
    uint32_t n = 0;
    size_t chunk = 0;

    drop_kept(s);
    for (uint32_t i = 0; i < s->n_kept; i++) {
        const uint8_t *vector;
        uint32_t row = s->kept[i].row;
        if (n == RK_COUNT(rows) || (n > 0 && row >> s->first->shift != chunk)) {
            score_rows(s, chunk, rows, n, heap);
            n = 0;
        }
        chunk = row >> s->first->shift;
        vector = (const uint8_t *)s->chunks[chunk].vectors +
                 (row & (((size_t)1 << s->first->shift) - 1)) * s->space.row_bytes;
        for (size_t b = 0; b < RK_MIN(s->space.row_bytes, (size_t)256); b += 64) {
            __builtin_prefetch(vector + b);
        }
        rows[n++] = row;
    }
    if (n > 0) {
        score_rows(s, chunk, rows, n, heap);
    }
}

static void
score_all(growing_search *s, rk__heap *heap)
{
    for (size_t i = 0; i < s->n_chunks; i++) {
        s->space.data = s->chunks[i].vectors;
        rk__scan(&s->space, &s->query, 0, s->chunks[i].rows, i << s->first->shift,
                 s->options->filter, &s->range, heap);
    }
}

/* ---- queries ---- */

static float
estimate_of(const growing_search *s, float key)
{
    return s->space.metric == RK_METRIC_COSINE ? 2 + 2 * key : s->scale * key;
}

/* Under IP the length of a query is of no matter to the order, but estimates are off by a share of
 * its distance to the centre: it is made as long as brings it nearest. */
static void
scale_query(growing_search *s)
{
    const rk__dense_kernels *dense = &rk__kernels_get()->dense[RK__F32];
    uint32_t padded = s->first->rotation.padded;
    const float *centre = s->first->centre;
    float length = sqrtf(dense->ip(s->point, s->point, padded));
    float to = sqrtf(dense->ip(centre, centre, padded));
    float along = dense->ip(s->point, centre, padded);

    s->scale = 1;
    if (s->space.metric != RK_METRIC_IP) {
        return;
    }
    s->scale = along * ALONG > length * to ? to / along * to : ALONG * (to / length);
    if (!isfinite(s->scale) || !(s->scale > 0) || !isfinite(s->scale * length)) {
        s->scale = 1;
    }
    for (size_t i = 0; i < padded; i++) {
        s->point[i] *= s->scale;
    }
}

static void
set_range(growing_search *s)
{
    const rk_search_options *o = s->options;
    float sign = s->range.larger ? -1.0f : 1.0f;

    s->threshold = o->range ? estimate_of(s, sign * o->radius) : INFINITY;
    s->lower = o->range && o->has_range_filter ? estimate_of(s, sign * o->range_filter) : -INFINITY;
}

static void
narrow_query(growing_search *s)
{
    size_t n = s->first->rotation.padded;
    float most = 0;
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        most = RK_MAX(most, fabsf(s->point[i]));
    }
    float inverse = most > 0 ? 127 / most : 0;
    s->unit = most / 127;
    if (!isfinite(inverse)) {
        inverse = 0;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t v = (int32_t)(s->point[i] * inverse + 128.5f) - 128;
        s->narrow[i] = (int8_t)v;
        sum += v;
    }
    s->middle = 7.5f * (float)sum;
}

/* For every chunk what its estimates need. Errors of the roundings of the query add to the error of
 * its direction: those of the tables, even over a step, meet the signs, of which error is at least
 * sqrt(0.3) of |mul|; those of |narrow| meet |r|, which is at most 12 times the error. */
static void
measure_chunks(growing_search *s)
{
    const rk__dense_kernels *dense = &rk__kernels_get()->dense[RK__F32];
    uint32_t padded = s->first->rotation.padded;
    float table = s->bits.unit * s->bits.unit / 12 * (float)rk__bits_groups(padded) / 0.3f;
    float narrow = s->unit * s->unit / 12 * 144;

    for (size_t i = 0; i < s->n_chunks; i++) {
        const float *centre = s->chunks[i].codes->centre;
        float square = dense->l2(s->point, centre, padded);
        bool ip = s->space.metric == RK_METRIC_IP;
        s->extra[i] = ip ? -dense->ip(s->point, centre, padded) : square;
        s->reach[i] = sqrtf(square + table);
        s->spread[i] = RECORD_EPSILON * sqrtf(square / (float)padded + narrow);
    }
}

static rk_code
prepare(growing_search *s, uint32_t k, bool *finite, rk_err *err)
{
    rk_arena *arena = s->options->arena;
    size_t padded = s->first->rotation.padded;
    size_t groups = rk__bits_groups((uint32_t)padded);
    uint8_t *memory =
        rk_arena_alloc(arena, padded * (2 * sizeof(float) + 1) + groups * 16 + 3 * 64);

    s->near.cap = k;
    s->near.items = rk_arena_alloc(arena, (size_t)k * sizeof(*s->near.items));
    s->kept_cap = 2 * k + 256;
    s->kept = rk_arena_alloc(arena, (size_t)s->kept_cap * sizeof(*s->kept));
    s->waiting = rk_arena_alloc(arena, WAITING_MAX * sizeof(*s->waiting));
    s->extra = rk_arena_alloc(arena, 3 * s->n_chunks * sizeof(*s->extra));
    if (!memory || !s->near.items || !s->kept || !s->waiting || !s->extra) {
        return rk_fail(err, RK_ENOMEM, "growing search: no memory for %u results", k);
    }
    s->reach = s->extra + s->n_chunks;
    s->spread = s->reach + s->n_chunks;
    memory += (64 - (uintptr_t)memory % 64) % 64;
    s->bits.lut = memory;
    s->point = (float *)(void *)(memory + groups * 16);
    float *wide = s->point + padded;
    s->narrow = (int8_t *)(wide + padded);
    *finite =
        rk__growing_point(s->first, &s->space, s->query.data, s->query.inv_norm, wide, s->point);
    if (!*finite) {
        return RK_OK;
    }
    scale_query(s);
    rk__bits_query_init(&s->bits, s->point, (uint32_t)padded);
    narrow_query(s);
    measure_chunks(s);
    for (size_t i = 0; i < s->n_chunks && *finite; i++) {
        *finite = isfinite(s->extra[i]) && isfinite(s->reach[i]);
    }
    *finite = *finite && isfinite(s->bits.bias);
    return RK_OK;
}

static bool
worth_it(const growing_search *s, uint32_t k)
{
    size_t rows = 0;
    double recall = rk__param_float(s->options->params, "target_recall", 0, 0, 1);

    for (size_t i = 0; i < s->n_chunks; i++) {
        rows += s->chunks[i].rows;
    }
    if (s->options->filter && s->options->filter_count < rows) {
        rows = s->options->filter_count;
    }
    return rows > EXACT_ROWS && rows / ROWS_PER_K >= k && recall <= 0.99;
}

static rk_code
search(growing_search *s, rk__heap *heap, rk_err *err)
{
    bool finite = false;

    if (!worth_it(s, heap->cap)) {
        score_all(s, heap);
        return RK_OK;
    }
    RK_RET(prepare(s, heap->cap, &finite, err));
    if (!finite) {
        score_all(s, heap);
        return RK_OK;
    }
    set_range(s);
    for (uint32_t i = 0; i < heap->n; i++) {
        count_near(s, estimate_of(s, heap->items[i].key), heap->items[i].row);
    }
    for (size_t i = 0; i < s->n_chunks && !s->no_memory; i++) {
        scan_chunk(s, i);
        if (s->threshold == INFINITY) {
            flush_waiting(s);
        }
    }
    flush_waiting(s);
    if (s->no_memory) {
        return rk_fail(err, RK_ENOMEM, "growing search: no memory for %u rows", s->n_kept);
    }
    score_kept(s, heap);
    return RK_OK;
}

static void
take_hits(const rk__range *range, const rk_hit *hits, uint32_t n, rk__heap *heap)
{
    heap->n = n;
    for (uint32_t i = 0; i < n; i++) {
        heap->items[i] = (rk__near){range->larger ? -hits[i].score : hits[i].score, hits[i].row};
    }
    rk__heap_make(heap);
}

rk_code
rk_growing_search(const rk_growing_chunk *chunks, size_t n_chunks, const void *query,
                  size_t query_len, const rk_search_options *options, rk_hit *hits, uint32_t *n,
                  rk_err *err)
{
    growing_search s = {.chunks = chunks, .n_chunks = n_chunks, .options = options};
    rk__heap heap = {.cap = options->k};

    if (n_chunks == 0 || options->k == 0) {
        return RK_OK;
    }
    RK_ASSERT(*n <= options->k);
    s.first = chunks[0].codes;
    rk_vectors kind = {s.first->type, s.first->dim, 0, NULL, NULL};
    rk__space_init(&s.space, &kind, s.first->metric);
    s.query = (rk__query){.data = query, .len = query_len};
    s.range = rk__range_of(s.space.metric, options);
    if (query_len != s.space.row_bytes) {
        return rk_fail(err, RK_EINVAL, "query vector has %zu bytes, a row of dimension %u has %zu",
                       query_len, s.first->dim, s.space.row_bytes);
    }
    if (s.space.metric == RK_METRIC_COSINE) {
        s.query.inv_norm = rk__inv_norm(&s.space, query);
    }
    heap.items = rk_arena_alloc(options->arena, (size_t)options->k * sizeof(*heap.items));
    if (!heap.items) {
        return rk_fail(err, RK_ENOMEM, "growing search: no memory for %u results", options->k);
    }
    take_hits(&s.range, hits, *n, &heap);
    RK_RET(search(&s, &heap, err));
    if (!options->range && heap.n < heap.cap) { /* estimates may have been no numbers */
        take_hits(&s.range, hits, *n, &heap);
        score_all(&s, &heap);
    }
    rk__heap_to_hits(&heap, s.space.metric, hits, n);
    return RK_OK;
}
