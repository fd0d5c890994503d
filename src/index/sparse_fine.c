/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Search under a filter, exact. The fewer rows pass, the lower is the k-th score, and the less a
 * bound of 64 rows rules out: at one row in fifty half of all blocks remain, with two rows each.
 * Bounds of 16 rows are so much closer that few hundred passing rows remain, whatever the filter:
 *
 *   1. Terms are summed one after the other over all quarters of blocks; their masks and maxima
 *      are one stream each. Of a rare term the postings are added one by one.
 *   2. If few rows pass they are marked by quarter, and quarters without any drop out; otherwise
 *      the filter is asked about the rows of a quarter when its turn comes.
 *   3. The rows of the best quarters are scored, from their own pairs: now the k-th score is about
 *      known. What remains is scored by falling bound, in classes, until no bound reaches it.
 *
 * Where far too much remains after some rows (k large, data without structure), the caller goes on
 * with the sums of whole blocks, and starts from the k-th score found here.
 */
#include "index/sparse.h"

#define TERMS_AHEAD 2u
#define AHEAD       8u  /* rows and quarters asked for before they are scored */
#define CLASSES     64u /* of bounds, in place of an order */
#define BATCH_ROWS  48u /* gathered before they are scored */
#define SEED_ROWS   3.0 /* passing rows for each of k */
#define SEEDS_MIN   8u
#define SEEDS_MAX   128u
#define MARK_ROWS   64u     /* asked for together */
#define MARK_SHARE  2u      /* fewer rows than quarters / MARK_SHARE: they are marked */
#define MARK_NEAR   262144u /* rows; of more, half as many: where they lie is far from the CPU */
#define FIRST_ROWS  128u    /* and 8 k: then what remains is weighed */
#define GIVE_UP     32u     /* more rows than one in so many remain: sums cost less */

typedef struct waiting {
    uint32_t row;
    uint16_t bound;
} waiting;

typedef struct fine {
    rk__sparse_search *search;
    rk__sparse_found *terms;
    rk__sparse_scale scale;
    size_t n_quarters; /* n_patches * 64 */
    uint16_t *bounds;
    uint16_t *patch_bounds;
    uint64_t *any;     /* n_patches: quarters that remain */
    uint16_t *passing; /* rows of a quarter that pass; NULL: ask the filter */
    double rows_each;  /* how many rows pass of a quarter that remains */
    double ratio;      /* dim_max_score_ratio below 1: bounds count only so much */
    float known;       /* the k-th score that the limit follows from */
    uint16_t limit;    /* what a bound must reach */
    waiting batch[BATCH_ROWS + RK__SPARSE_QUARTER];
    size_t n_batch;
    size_t n_scored;
} fine;

static rk_code
allocate(fine *f, rk_err *err)
{
    const rk__sparse *s = f->search->s;
    rk_arena *arena = f->search->options->arena;

    f->n_quarters = s->n_patches * RK__SPARSE_PATCH;
    f->bounds = rk_arena_zero(arena, f->n_quarters + 1, sizeof(*f->bounds));
    f->patch_bounds = rk_arena_alloc(arena, (s->n_patches + 1) * sizeof(*f->patch_bounds));
    f->any = rk_arena_zero(arena, s->n_patches + 1, sizeof(*f->any));
    if (!f->bounds || !f->patch_bounds || !f->any) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu bounds", f->n_quarters);
    }
    return RK_OK;
}

/* ---- bounds ---- */

static void
ask_for_term(const rk__sparse *s, size_t term)
{
    const rk__sparse_fine *t = &s->fines[term];
    size_t stream = RK_MIN(t[1].first - t->first, (uint64_t)3072);
    size_t rare = RK_MIN(t[1].first_rare - t->first_rare, (uint64_t)512);

    for (size_t i = 0; i < stream; i += 64) {
        __builtin_prefetch(s->streams + t->first + i);
    }
    for (size_t i = 0; i < rare; i += 64) {
        __builtin_prefetch(s->rare_weights + t->first_rare + i);
    }
    for (size_t i = 0; i < rare; i += 16) {
        __builtin_prefetch(s->rare_places + t->first_rare + i);
    }
}

/* Of rows that share a quarter the largest counts. */
static void
bound_rare(fine *f, const rk__sparse_fine *t, uint32_t factor)
{
    const rk__sparse *s = f->search->s;
    size_t last = SIZE_MAX;
    uint32_t before = 0;
    uint32_t largest = 0;

    for (uint64_t i = t->first_rare; i < t[1].first_rare; i++) {
        size_t quarter = s->rare_places[i] / RK__SPARSE_QUARTER;
        uint32_t value = s->rare_weights[i] * factor >> 8;
        if (quarter >= f->n_quarters) { /* images are not trusted */
            continue;
        }
        if (quarter != last) {
            last = quarter;
            before = f->bounds[quarter];
            largest = 0;
        }
        largest = RK_MAX(largest, value);
        f->bounds[quarter] = (uint16_t)RK_MIN(before + largest, 65535u);
        f->any[quarter / RK__SPARSE_PATCH] |= UINT64_C(1) << quarter % RK__SPARSE_PATCH;
    }
}

static void
bound_quarters(fine *f)
{
    const rk__sparse *s = f->search->s;
    const rk__sparse_kernels *kernels = f->search->kernels;
    size_t masks = s->n_patches * sizeof(uint64_t);

    for (size_t i = 0; i < f->scale.n; i++) {
        __builtin_prefetch(&s->fines[f->terms[i].term]);
    }
    for (size_t i = 0; i < RK_MIN(f->scale.n, (size_t)TERMS_AHEAD); i++) {
        ask_for_term(s, f->terms[i].term);
    }
    for (size_t i = 0; i < f->scale.n; i++) {
        const rk__sparse_fine *t = &s->fines[f->terms[i].term];
        const uint8_t *stream = s->streams + t->first;
        if (i + TERMS_AHEAD < f->scale.n) {
            ask_for_term(s, f->terms[i + TERMS_AHEAD].term);
        }
        if (t[1].first != t->first) {
            kernels->fine((const uint64_t *)(const void *)stream, s->n_patches, stream + masks,
                          t[1].first - t->first - masks, f->terms[i].factor, f->bounds, f->any);
        }
    }
    if (kernels->settle) {
        kernels->settle(f->bounds, s->n_patches);
    }
    for (size_t i = 0; i < f->scale.n; i++) {
        bound_rare(f, &s->fines[f->terms[i].term], f->terms[i].factor);
    }
}

/* The rows that pass by quarter; quarters without any are as if without terms.
 */
static rk_code
mark_passing(fine *f, rk_err *err)
{
    const rk__sparse *s = f->search->s;
    const rk_bitset *filter = f->search->options->filter;
    size_t rows = f->search->index->vectors.rows;
    size_t some = 0;

    f->passing = rk_arena_zero(f->search->options->arena, f->n_quarters + 1, sizeof(*f->passing));
    if (!f->passing) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu marks", f->n_quarters);
    }
    for (size_t row = rk_bitset_next(filter, 0); row < rows;) {
        uint32_t batch[MARK_ROWS];
        size_t n = 0;
        for (; n < MARK_ROWS && row < rows; row = rk_bitset_next(filter, row + 1)) {
            __builtin_prefetch(&s->places[row]);
            batch[n++] = (uint32_t)row;
        }
        for (size_t i = 0; i < n; i++) {
            uint32_t place = s->places[batch[i]];
            if (RK_LIKELY(place / RK__SPARSE_QUARTER < f->n_quarters)) { /* not trusted */
                f->passing[place / RK__SPARSE_QUARTER] |=
                    (uint16_t)(1u << place % RK__SPARSE_QUARTER);
            }
        }
    }
    for (size_t p = 0; p < s->n_patches; p++) {
        uint64_t mask = 0;
        for (size_t i = 0; i < RK__SPARSE_PATCH; i++) {
            size_t quarter = p * RK__SPARSE_PATCH + i;
            bool has = f->passing[quarter] != 0;
            f->bounds[quarter] = has ? f->bounds[quarter] : 0;
            mask |= (uint64_t)has << i;
        }
        f->any[p] &= mask;
        some += (size_t)__builtin_popcountll(mask);
    }
    f->rows_each = (double)f->search->options->filter_count / (double)RK_MAX(some, (size_t)1);
    return RK_OK;
}

/* ---- rows ---- */

static void
score_batch(fine *f)
{
    const rk_vectors *v = &f->search->index->vectors;
    size_t n = f->n_batch;

    for (size_t i = 0; i < RK_MIN(n, (size_t)AHEAD); i++) {
        rk__sparse_ask_for_row(v, f->batch[i].row);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t row = f->batch[i].row;
        if (i + AHEAD < n && f->batch[i + AHEAD].bound >= f->limit) {
            rk__sparse_ask_for_row(v, f->batch[i + AHEAD].row);
        }
        if (f->batch[i].bound < f->limit) {
            continue;
        }
        f->n_scored++;
        rk__sparse_offer(f->search, rk__sparse_score_row(f->search, row), row);
        float t = rk__sparse_threshold(f->search);
        if (t > f->known) {
            f->known = t;
            f->limit = RK_MAX(f->limit, rk__sparse_limit(&f->scale, (double)t / f->ratio));
        }
    }
    f->n_batch = 0;
}

/* The passing rows of a quarter are put into the batch. */
static void
take_quarter(fine *f, size_t quarter, uint16_t bound)
{
    const rk_vectors *v = &f->search->index->vectors;
    const rk_bitset *filter = f->search->options->filter;
    const uint32_t *rows = f->search->s->order + quarter * RK__SPARSE_QUARTER;

    for (uint32_t mask = f->passing ? f->passing[quarter] : 0xffff; mask; mask &= mask - 1) {
        uint32_t row = rows[__builtin_ctz(mask)];
        if (row < v->rows && rk_bitset_get(filter, row)) { /* images are not trusted */
            __builtin_prefetch(&v->offsets[row]);
            f->batch[f->n_batch++] = (waiting){row, bound};
        }
    }
    if (f->n_batch >= BATCH_ROWS) {
        score_batch(f);
    }
}

/* ---- the order of quarters ---- */

/* The quarters whose bound is one of the best patches' largest. */
static void
score_seeds(fine *f)
{
    uint16_t best[SEEDS_MAX];
    uint32_t seeds[2 * SEEDS_MAX];
    size_t n_seeds = 0;
    double rows = SEED_ROWS * (double)f->search->heap->cap / f->rows_each;
    size_t room = rows < SEEDS_MIN ? SEEDS_MIN : rows > SEEDS_MAX ? SEEDS_MAX : (size_t)rows;
    size_t n = 0;

    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        uint16_t bound = f->patch_bounds[p];
        if (!f->any[p] || (n == room && bound <= best[n - 1])) {
            continue;
        }
        n += n < room;
        size_t at = n - 1;
        for (; at > 0 && best[at - 1] < bound; at--) {
            best[at] = best[at - 1];
        }
        best[at] = bound;
    }
    for (size_t p = 0; n > 0 && p < f->search->s->n_patches; p++) {
        const uint16_t *bounds = f->bounds + p * RK__SPARSE_PATCH;
        if (f->patch_bounds[p] < best[n - 1]) {
            continue;
        }
        uint64_t mask = f->search->kernels->reach(bounds, best[n - 1]) & f->any[p];
        f->any[p] &= ~mask;
        for (; mask && n_seeds < RK_COUNT(seeds); mask &= mask - 1) {
            size_t quarter = p * RK__SPARSE_PATCH + (unsigned)__builtin_ctzll(mask);
            __builtin_prefetch(f->search->s->order + quarter * RK__SPARSE_QUARTER);
            seeds[n_seeds++] = (uint32_t)quarter;
        }
        f->any[p] |= mask;
    }
    for (size_t i = 0; i < n_seeds; i++) {
        take_quarter(f, seeds[i], f->bounds[seeds[i]]);
    }
    score_batch(f);
}

typedef struct ranked {
    uint32_t quarter;
    uint16_t bound;
    uint16_t class_of;
} ranked;

/* Drops what cannot matter any more; how many quarters remain. */
static size_t
remaining(fine *f)
{
    size_t n = 0;

    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        const uint16_t *bounds = f->bounds + p * RK__SPARSE_PATCH;
        if (f->patch_bounds[p] < f->limit) {
            f->any[p] = 0;
        } else if (f->any[p]) {
            f->any[p] &= f->search->kernels->reach(bounds, f->limit);
            n += (size_t)__builtin_popcountll(f->any[p]);
        }
    }
    return n;
}

/* |sorted| gets the |n| quarters that remain, by falling class of their bounds.
 */
static void
rank(const fine *f, ranked *items, ranked *sorted)
{
    uint32_t counts[CLASSES + 1] = {0};
    uint32_t least = f->limit;
    uint32_t most = least;
    size_t n = 0;

    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        most = f->any[p] ? RK_MAX(most, f->patch_bounds[p]) : most;
    }
    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        for (uint64_t mask = f->any[p]; mask; mask &= mask - 1) {
            size_t quarter = p * RK__SPARSE_PATCH + (unsigned)__builtin_ctzll(mask);
            uint16_t bound = f->bounds[quarter];
            uint32_t class_of = (most - bound) * CLASSES / (most - least + 1);
            items[n++] = (ranked){(uint32_t)quarter, bound, (uint16_t)class_of};
            counts[class_of + 1]++;
        }
    }
    for (size_t c = 1; c < CLASSES; c++) {
        counts[c] += counts[c - 1];
    }
    for (size_t i = 0; i < n; i++) {
        sorted[counts[items[i].class_of]++] = items[i];
    }
}

/* True when all is scored, false when the sums of blocks would be cheaper. */
static rk_code
score_rest(fine *f, bool *done, rk_err *err)
{
    const rk__sparse *s = f->search->s;
    rk_arena *arena = f->search->options->arena;
    size_t n = remaining(f);
    size_t first = f->n_scored + FIRST_ROWS + 8 * (size_t)f->search->heap->cap;
    ranked *items = rk_arena_alloc(arena, (n + 1) * sizeof(*items));
    ranked *sorted = rk_arena_alloc(arena, (n + 1) * sizeof(*sorted));

    if (!items || !sorted) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu bounds", n);
    }
    rank(f, items, sorted);
    *done = true;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            __builtin_prefetch(s->order + (size_t)sorted[i + AHEAD].quarter * RK__SPARSE_QUARTER);
        }
        if (sorted[i].bound < f->limit) {
            continue;
        }
        take_quarter(f, sorted[i].quarter, sorted[i].bound);
        if (f->n_scored >= first) {
            size_t left = 0;
            for (size_t j = i + 1; j < n; j++) {
                left += sorted[j].bound >= f->limit;
            }
            if ((double)left * f->rows_each * GIVE_UP > (double)f->search->index->vectors.rows) {
                *done = false;
                return RK_OK;
            }
            first = SIZE_MAX; /* the limit only rises */
        }
    }
    score_batch(f);
    return RK_OK;
}

rk_code
rk__sparse_search_fine(rk__sparse_search *search, bool *done, rk_err *err)
{
    const rk_search_options *options = search->options;
    const rk__sparse *s = search->s;
    fine f = {.search = search};
    size_t rows = search->index->vectors.rows;
    size_t quarters = (rows + RK__SPARSE_QUARTER - 1) / RK__SPARSE_QUARTER;

    RK_RET(allocate(&f, err));
    RK_RET(rk__sparse_find_terms(search, &f.terms, &f.scale, err));
    f.ratio = rk__param_float(options->params, "dim_max_score_ratio", 1, 0.5, 1);
    f.rows_each =
        RK__SPARSE_QUARTER * (double)options->filter_count / (double)RK_MAX(rows, (size_t)1);
    bound_quarters(&f);
    if (quarters % RK__SPARSE_PATCH != 0) { /* images are not trusted */
        f.any[s->n_patches - 1] &= (UINT64_C(1) << quarters % RK__SPARSE_PATCH) - 1;
    }
    if (options->filter_count < quarters / (rows <= MARK_NEAR ? MARK_SHARE : 2 * MARK_SHARE)) {
        RK_RET(mark_passing(&f, err));
    }
    for (size_t p = 0; p < s->n_patches; p++) {
        f.patch_bounds[p] = search->kernels->largest(f.bounds + p * RK__SPARSE_PATCH);
    }
    f.known = rk__sparse_threshold(search);
    f.limit = rk__sparse_limit(&f.scale, (double)f.known / f.ratio);
    score_seeds(&f);
    RK_RET(score_rest(&f, done, err));
    if (!*done) {
        search->floor = rk__heap_full(search->heap) ? -search->heap->items[0].key : 0.0f;
        search->heap->n = 0;
    }
    return RK_OK;
}
