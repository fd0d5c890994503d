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
 *   3. Quarters are taken by falling bound, in sweeps over all of them with a limit that comes down
 *      to what the k-th score asks for. Of their passing rows the prints are summed, and what
 *      these sums let through, few rows more than k, is scored from its own pairs.
 *
 * Where far too much remains after some rows (k large, data without structure), the caller goes on
 * with the sums of whole blocks, and starts from the k-th score found here.
 */
#include "index/sparse/sparse.h"

#define SUM_VALUES     (UINT32_MAX / (127 * 255)) /* of all pages: their sum fits 32 bits */
#define TERMS_AHEAD    6u
#define QUARTERS_AHEAD 16u /* on the way of a row: its quarter, */
#define STARTS_AHEAD   8u  /* where its print starts, */
#define ROWS_AHEAD     16u /* its print, */
#define AHEAD          8u  /* itself */
#define CANDIDATES     64u /* gathered before they are scored */
#define SEED_ROWS      3.0 /* passing rows for each of k */
#define SEEDS_MIN      8u
#define SEEDS_MAX      128u
#define SWEEPS         4u      /* in about so many the limit comes down */
#define MARK_ROWS      64u     /* asked for together */
#define MARK_SHARE     2u      /* fewer rows than quarters / MARK_SHARE: they are marked */
#define MARK_NEAR      262144u /* rows; of more, half as many: where they lie is far from the CPU */
#define FIRST_ROWS     128u    /* and 8 k: then what remains is weighed */
#define GIVE_UP        32u     /* more rows than one in so many remain: sums of blocks cost less */

typedef struct waiting {
    uint32_t place;
    uint32_t row;
} waiting;

typedef struct candidate {
    uint32_t sum;
    uint32_t row;
} candidate;

typedef struct fine {
    rk__sparse_search *search;
    rk__sparse_found *terms;
    rk__sparse_scale scale;
    rk__sparse_tables tables;
    size_t n_quarters; /* n_patches * 64 */
    uint16_t *bounds;  /* 64-byte aligned */
    uint16_t *patch_bounds;
    uint64_t *any;                     /* n_patches: quarters that remain */
    uint16_t *passing;                 /* rows of a quarter that pass; NULL: ask the filter */
    double rows_each;                  /* how many rows pass of a quarter that remains */
    double ratio;                      /* dim_max_score_ratio below 1: bounds count only so much */
    float known;                       /* the k-th score that the limits follow from */
    uint16_t limit;                    /* what a bound must reach */
    uint32_t print_limit;              /* what the sum of a print must reach */
    uint32_t quarters[QUARTERS_AHEAD]; /* asked for, in turns */
    size_t n_quarters_asked;
    size_t n_quarters_taken;
    waiting rows[ROWS_AHEAD + STARTS_AHEAD]; /* of them that pass, in turns: found, */
    size_t n_found;
    size_t n_asked;                   /* their prints asked for */
    size_t n_summed;                  /* and summed */
    candidate candidates[CANDIDATES]; /* by falling sum */
    size_t n_candidates;
} fine;

static rk_code
allocate(fine *f, rk_err *err)
{
    const rk__sparse *s = f->search->s;
    rk_arena *arena = f->search->options->arena;

    f->n_quarters = s->n_patches * RK__SPARSE_PATCH;
    uint8_t *bounds = rk_arena_zero(arena, (f->n_quarters + 1) * sizeof(*f->bounds) + 64, 1);
    f->patch_bounds = rk_arena_alloc(arena, (s->n_patches + 1) * sizeof(*f->patch_bounds));
    f->any = rk_arena_zero(arena, s->n_patches + 1, sizeof(*f->any));
    if (!bounds || !f->patch_bounds || !f->any) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu bounds", f->n_quarters);
    }
    f->bounds = (uint16_t *)(void *)(bounds + (64 - (uintptr_t)bounds % 64) % 64);
    return RK_OK;
}

/* ---- bounds ---- */

static void
ask_for_term(const rk__sparse *s, size_t term)
{
    const rk__sparse_fine *t = &s->fines[term];
    size_t rare = RK_MIN(t[1].first_rare - t->first_rare, (uint64_t)512);

    rk__fetch_early(s->streams + t->first, RK_MIN(t[1].first - t->first, (uint64_t)3072));
    rk__fetch_early(s->rare_weights + t->first_rare, rare);
    rk__fetch_early(s->rare_places + t->first_rare, rare * sizeof(uint32_t));
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
        bool same = quarter == last;
        before = same ? before : f->bounds[quarter];
        largest = same ? RK_MAX(largest, value) : value;
        last = quarter;
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
    rk__sparse_stream streams[RK__SPARSE_STREAMS];
    size_t n = 0;

    for (size_t i = 0; i < f->scale.n; i++) {
        RK__SPARSE_ASK(&s->fines[f->terms[i].term]);
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
            streams[n++] =
                (rk__sparse_stream){(const uint64_t *)(const void *)stream, stream + masks,
                                    t[1].first - t->first - masks, f->terms[i].factor};
        }
        if (n == RK__SPARSE_STREAMS || (n > 0 && i + 1 == f->scale.n)) {
            kernels->fine(streams, n, s->n_patches, f->bounds, f->any);
            n = 0;
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
            RK__SPARSE_ASK(&s->places[row]);
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
raise_limits(fine *f)
{
    float t = rk__sparse_threshold(f->search);

    if (t > f->known) {
        f->known = t;
        f->limit = RK_MAX(f->limit, rk__sparse_limit(&f->scale, (double)t / f->ratio));
        f->print_limit = rk__sparse_print_limit(&f->tables, (double)t);
    }
}

/* Scores what the sums of prints let through, by falling sum. */
static void
score_candidates(fine *f)
{
    const rk_vectors *v = &f->search->index->vectors;
    size_t n = f->n_candidates;

    f->n_candidates = 0;
    for (size_t i = 0; i < RK_MIN(n, (size_t)AHEAD); i++) {
        rk__sparse_ask_for_row(v, f->candidates[i].row);
    }
    for (size_t i = 0; i < n && f->candidates[i].sum >= f->print_limit; i++) {
        uint32_t row = f->candidates[i].row;
        if (i + AHEAD < n && f->candidates[i + AHEAD].sum >= f->print_limit) {
            rk__sparse_ask_for_row(v, f->candidates[i + AHEAD].row);
        }
        rk__sparse_offer(f->search, rk__sparse_score_row(f->search, row), row);
        raise_limits(f);
    }
}

/* Sums the print of the row asked for longest ago. */
static void
sum_row(fine *f)
{
    waiting next = f->rows[f->n_summed++ % RK_COUNT(f->rows)];
    size_t values = 0;
    const uint8_t *print = rk__sparse_print_at(f->search->s, next.place, &values);
    uint32_t sum = UINT32_MAX;
    if (values <= UINT16_MAX && f->tables.n_pages > 0 && values * f->tables.n_pages <= SUM_VALUES) {
        sum = f->search->kernels->print(f->tables.pages, f->tables.n_pages, print, values);
    }
    if (sum < f->print_limit) {
        return;
    }
    RK__SPARSE_ASK(&f->search->index->vectors.offsets[next.row]);
    size_t at = f->n_candidates++;
    for (; at > 0 && f->candidates[at - 1].sum < sum; at--) {
        f->candidates[at] = f->candidates[at - 1];
    }
    f->candidates[at] = (candidate){sum, next.row};
    if (f->n_candidates == CANDIDATES) {
        score_candidates(f);
    }
}

/* The print of the row found longest ago, whose start is known by now. */
static void
ask_for_print(fine *f)
{
    size_t n = 0;

    if (f->n_asked - f->n_summed == ROWS_AHEAD) {
        sum_row(f);
    }
    size_t place = f->rows[f->n_asked++ % RK_COUNT(f->rows)].place;
    const uint8_t *print = rk__sparse_print_at(f->search->s, place, &n);
    rk__fetch_early(print, RK_MIN(n, (size_t)256) * RK__SPARSE_PRINT);
}

/* Asks for the prints of a quarter's passing rows. */
static void
take_quarter(fine *f)
{
    size_t quarter = f->quarters[f->n_quarters_taken++ % QUARTERS_AHEAD];
    const rk_bitset *filter = f->search->options->filter;
    const uint32_t *rows = f->search->s->order + quarter * RK__SPARSE_QUARTER;

    if (f->bounds[quarter] < f->limit) {
        return;
    }
    uint32_t mask = f->search->kernels->pass(rows, filter->words, f->search->index->vectors.rows);
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        size_t place = quarter * RK__SPARSE_QUARTER + i;
        if (f->n_found - f->n_asked == STARTS_AHEAD) {
            ask_for_print(f);
        }
        RK__SPARSE_ASK(f->search->s->print_starts + place);
        f->rows[f->n_found++ % RK_COUNT(f->rows)] = (waiting){(uint32_t)place, rows[i]};
    }
}

/* ---- the order of quarters ---- */

/* Takes the quarter asked for longest ago and asks for another in its place. */
static void
ask_for_quarter(fine *f, size_t quarter)
{
    const rk__sparse *s = f->search->s;
    size_t place = quarter * RK__SPARSE_QUARTER;
    if (f->n_quarters_asked - f->n_quarters_taken == QUARTERS_AHEAD) {
        take_quarter(f);
    }
    RK__SPARSE_ASK(s->order + place);
    f->quarters[f->n_quarters_asked++ % QUARTERS_AHEAD] = (uint32_t)quarter;
}

/* Scores what remains of bounds of |least| and above. */
static void
sweep(fine *f, uint16_t least)
{
    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        if (!f->any[p] || f->patch_bounds[p] < RK_MAX(least, f->limit)) {
            continue;
        }
        uint64_t mask = f->any[p] & f->search->kernels->reach(f->bounds + p * RK__SPARSE_PATCH,
                                                              RK_MAX(least, f->limit));
        f->any[p] &= ~mask;
        for (; mask; mask &= mask - 1) {
            ask_for_quarter(f, p * RK__SPARSE_PATCH + (unsigned)__builtin_ctzll(mask));
        }
    }
    while (f->n_quarters_taken < f->n_quarters_asked) {
        take_quarter(f);
    }
    while (f->n_asked < f->n_found) {
        ask_for_print(f);
    }
    while (f->n_summed < f->n_asked) {
        sum_row(f);
    }
    score_candidates(f);
}

/* A bound that about as many quarters reach as have enough passing rows to begin with: that of the
 * best patches. */
static uint16_t
first_limit(const fine *f)
{
    uint16_t best[SEEDS_MAX];
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
    return n > 0 ? best[n - 1] : 0;
}

/* How many quarters remain. */
static size_t
remaining(const fine *f)
{
    size_t n = 0;

    for (size_t p = 0; p < f->search->s->n_patches; p++) {
        if (f->any[p] && f->patch_bounds[p] >= f->limit) {
            uint64_t mask = f->search->kernels->reach(f->bounds + p * RK__SPARSE_PATCH, f->limit);
            n += (size_t)__builtin_popcountll(mask & f->any[p]);
        }
    }
    return n;
}

/* True when all is scored, false when the sums of blocks would be cheaper. */
static bool
score_all(fine *f)
{
    size_t first = FIRST_ROWS + 8 * (size_t)f->search->heap->cap;
    uint16_t least = first_limit(f);
    uint16_t step = 0;

    for (;;) {
        sweep(f, least);
        if (least <= f->limit) {
            return true;
        }
        if (f->n_summed >= first) {
            if ((double)remaining(f) * f->rows_each * GIVE_UP >
                (double)f->search->index->vectors.rows) {
                return false;
            }
            first = SIZE_MAX; /* the limit only rises */
        }
        step = step ? step : (uint16_t)((least - f->limit) / SWEEPS + 1);
        least = least - f->limit > step ? (uint16_t)(least - step) : f->limit;
    }
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
    RK_RET(rk__sparse_tables_init(&f.tables, f.terms, f.scale.n, options->arena, err));
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
    f.print_limit = rk__sparse_print_limit(&f.tables, (double)f.known);
    *done = score_all(&f);
    if (!*done) {
        search->floor = rk__heap_full(search->heap) ? -search->heap->items[0].key : 0.0f;
        search->heap->n = 0;
    }
    return RK_OK;
}
