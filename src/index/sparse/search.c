/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Search over blocks, exact. The plan, after block-max pruning (Mallia, Suel and Tonellotto, SIGIR
 * 2024) with the two levels of a group and its blocks:
 *
 *   1. For every block an upper bound of the scores in it: the terms' largest weights times the
 *      query's, summed in 16 bits over all groups. The weakest terms, whose bounds add up to a
 *      hundredth or so of all, are left out; once the best blocks are scored this must be a small
 *      share of the k-th score, or they come in after all.
 *   2. The best blocks of all come first, so that the k-th score is high early; all of their
 *      records are asked for before the first is read. Then groups by falling bound, and of a
 *      group the blocks whose bound reaches the k-th best score so far.
 *   3. Of a block the bounds of its 64 rows, from the stored weights: first of the strongest terms,
 *      and only if a row can still matter then, of the others. Rows whose bound reaches the k-th
 *      score and that pass the filter are candidates.
 *   4. Candidates are scored exactly, from their own pairs, by falling bound.
 *
 * Steps 1 to 3 are in integers. With G = 65535 / (sum of the terms' largest products) a term's
 * factor is weight * scale * G, rounded up, and for the sum S of q * factor / 256, each rounded
 * down, over n terms:  S - 256 - n <= score * G / 256 <= S + n.  So the k-th largest S seen bounds
 * the k-th score from below before anything is scored, and step 4 touches few rows more than k.
 * With an upper limit of a range a large S says nothing; then candidates are scored at once. The
 * share 1e-6 per term covers the rounding of float sums.
 *
 * Once the k-th score is known, the weakest terms whose bounds together stay under a small share of
 * it are left out of step 3 and their sum is added to every bound instead (the non-essential terms
 * of MaxScore). Few passing rows are scored one by one instead, and under a filter that no more
 * than about half of the rows pass bounds of 16 rows come first, see sparse/fine.c.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

#define TERMS_MAX   4096u /* of a query with bounds; the factors of more would be too coarse */
#define CANDIDATES  2048u /* kept before they are scored */
#define DIRECT_ROWS 256u  /* so few, and more where bounds are many: scored one by one */
#define DIRECT_PART 20u   /* patches and terms in their place */
#define TERMS_AHEAD 6u
#define NEAR_GROUPS 8u  /* of so few the first cache holds the bounds of some terms */
#define MANY_BLOCKS 16u /* of a group: all are summed term by term */
#define NODES_AHEAD 3u  /* of such a group */
#define DEPTH       4u  /* blocks whose first records are on their way */
#define AHEAD       4u  /* rows asked for before they are scored */
#define EARLY       6u  /* rows asked for while blocks are still read: */
#define EARLY_PART  8u  /* those so much above what a row must reach */
#define SEEDS       2u  /* best blocks, and one for so many of k, come before all: */
#define SEED_ROWS   16u
#define SEEDS_MAX   32u
#define FEW         128u  /* are put in order by insertion */
#define FIRST_TERMS 8u    /* read of a block before the others */
#define FINE_SHARE  0.55  /* of the rows: so few that pass are found by fine bounds */
#define FINE_SMALL  0.4   /* the same of fewer than 65,536 rows, where blocks are near */
#define IDLE_SHARE  0.02  /* of the k-th score: what idle terms may add up to */
#define LEFT_SHARE  0.008 /* of all bounds: what terms left out from the start may add up to, */
#define LEFT_MOST   0.1   /* and of the k-th score that the first blocks give */

typedef struct term {
    const rk__sparse_node *nodes;
    size_t n_nodes;
    const uint8_t *entries;
    uint64_t n_entries;
    uint32_t factor;
    double bound; /* weight * largest */
} term;

typedef struct pending { /* a block whose first records are on their way */
    size_t block;        /* of all; SIZE_MAX: none */
    uint16_t bound;
    uint16_t rest; /* of the bound: what terms beyond the first FIRST_TERMS give */
    const rk__sparse_member *members; /* of its group */
    size_t n_members;
    rk__sparse_run *runs;
    size_t n;
} pending;

typedef struct walk {
    rk__sparse_search *search;
    const rk__sparse_kernels *kernels;
    term *terms; /* by falling bound */
    size_t n_terms;
    size_t n_active;        /* terms not idle */
    size_t n_kept;          /* terms that were not left out from the start */
    rk__sparse_scale scale; /* unit: G / 256 */
    double idle;            /* sum of the bounds of idle terms */
    double left_out;        /* of those that are in no bound of a block */
    double known;           /* a score that the k-th is known to reach */
    uint16_t *bounds;       /* n_groups * 64 */
    uint16_t *sums;         /* of the rows of a group */
    uint64_t *any;          /* n_groups: blocks that have a term and, under a filter, a row */
    uint64_t *passing;      /* n_blocks: rows that pass a selective filter; NULL: ask the filter */
    uint32_t *best;         /* heap of the k largest sums, smallest on top */
    uint32_t n_best;
    uint64_t *candidates; /* CANDIDATES + 64, see candidate_of() */
    size_t n_candidates;
    double ratio;   /* dim_max_score_ratio below 1: bounds count only so much, results may miss */
    bool eager;     /* candidates are scored at once */
    uint16_t limit; /* what a block's bound must reach */
    uint16_t row_limit;                    /* what a row's bound without idle terms must reach */
    rk__sparse_member *members[DEPTH + 1]; /* of the last groups, turns */
    size_t turn;                           /* of the group at hand */
    size_t n_members;
    pending pending[DEPTH]; /* asked for, in turns */
    size_t next;            /* the one to score and ask again */
} walk;

/* Scores of |t| and above, and sums that |least| bounds, stay candidates. */
static void
raise_limits(walk *w, double t)
{
    if (t <= w->known) {
        return;
    }
    w->known = t;
    w->limit = rk__sparse_limit(&w->scale, t / w->ratio - w->left_out * (1 + 1e-5));
    while (w->n_active > 1 && w->idle + w->terms[w->n_active - 1].bound < t * IDLE_SHARE) {
        w->idle += w->terms[--w->n_active].bound;
    }
    w->row_limit = rk__sparse_limit(&w->scale, t - w->idle * (1 + 1e-5));
}

/* Keeps the k largest sums. */
static void
note_sum(walk *w, uint32_t sum)
{
    uint32_t k = w->search->heap->cap;
    uint32_t at = 0;

    if (w->n_best < k) {
        for (at = w->n_best++; at > 0 && w->best[(at - 1) / 2] > sum; at = (at - 1) / 2) {
            w->best[at] = w->best[(at - 1) / 2];
        }
        w->best[at] = sum;
    } else if (sum > w->best[0]) {
        for (;;) {
            uint32_t child = 2 * at + 1;
            if (child >= k) {
                break;
            }
            child += child + 1 < k && w->best[child + 1] < w->best[child];
            if (w->best[child] >= sum) {
                break;
            }
            w->best[at] = w->best[child];
            at = child;
        }
        w->best[at] = sum;
    }
}

/* A sum that |k| of the 64 reach, the largest there is; 0 when fewer are above it. */
static uint16_t
kth_of(const walk *w, const uint16_t sums[64], uint64_t mask, uint32_t k)
{
    uint32_t low = 0;

    if ((uint32_t)__builtin_popcountll(mask) <= k) {
        return 0;
    }
    for (uint32_t step = 32768; step > 0; step /= 2) {
        uint64_t reach = mask & w->kernels->reach(sums, (uint16_t)(low + step));
        low += (uint32_t)__builtin_popcountll(reach) >= k ? step : 0;
    }
    return (uint16_t)low;
}

static void
note_sums(walk *w, const uint16_t sums[64], uint64_t mask)
{
    for (; mask; mask &= mask - 1) {
        note_sum(w, sums[__builtin_ctzll(mask)]);
    }
}

/* Rows of a block that pass: the smallest of the k largest sums bounds the k-th score. */
static void
note_block(walk *w, const uint16_t sums[64], uint64_t mask)
{
    uint32_t k = w->search->heap->cap;

    if (w->n_best < k) { /* first as many as there is room for: no sum enters only to leave */
        uint64_t first = mask & w->kernels->reach(sums, kth_of(w, sums, mask, k - w->n_best));
        note_sums(w, sums, first);
        mask &= ~first;
    }
    if (w->n_best < k) {
        return;
    }
    note_sums(w, sums, mask & w->kernels->reach(sums, (uint16_t)RK_MIN(w->best[0] + 1, 65535u)));
    double least = (double)w->best[0] - 256 - (double)w->n_terms;
    if (least > 0) {
        raise_limits(w, least / w->scale.unit * (1 - 1e-6));
    }
}

/* ---- candidates ---- */

/* A number that falls with the sum, then rises with the row. */
static inline uint64_t
candidate_of(uint32_t sum, uint32_t row)
{
    return (uint64_t)(UINT32_MAX - sum) << 32 | row;
}

static inline uint32_t
sum_of(uint64_t candidate)
{
    return UINT32_MAX - (uint32_t)(candidate >> 32);
}

static int
compare_candidates(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void
rk__sparse_ask_for_row(const rk_vectors *v, uint32_t row)
{
    const char *at = (const char *)v->data + v->offsets[row];
    size_t len = v->offsets[row + 1] - v->offsets[row];

    rk__fetch(at, RK_MIN(len, (size_t)1536));
}

static void
score_candidates(walk *w)
{
    const rk_vectors *v = &w->search->index->vectors;
    uint64_t last = candidate_of(w->row_limit, UINT32_MAX);
    size_t n = 0;

    for (size_t i = 0; i < w->n_candidates; i++) {
        uint64_t next = w->candidates[i];
        if (next <= last) {
            size_t at = n++;
            for (; w->n_candidates <= FEW && at > 0 && w->candidates[at - 1] > next; at--) {
                w->candidates[at] = w->candidates[at - 1];
            }
            w->candidates[at] = next;
        }
    }
    if (w->n_candidates > FEW) {
        qsort(w->candidates, n, sizeof(*w->candidates), compare_candidates);
    }
    for (size_t i = 0; i < RK_MIN(n, (size_t)AHEAD); i++) {
        rk__sparse_ask_for_row(v, (uint32_t)w->candidates[i]);
    }
    for (size_t i = 0; i < n && sum_of(w->candidates[i]) >= w->row_limit; i++) {
        uint32_t row = (uint32_t)w->candidates[i];
        if (i + AHEAD < n && sum_of(w->candidates[i + AHEAD]) >= w->row_limit) {
            rk__sparse_ask_for_row(v, (uint32_t)w->candidates[i + AHEAD]);
        }
        rk__sparse_offer(w->search, rk__sparse_score_row(w->search, row), row);
        raise_limits(w, (double)rk__sparse_threshold(w->search));
    }
    w->n_candidates = 0;
}

/* The rows of |mask| pass the filter. */
static void
add_candidates(walk *w, size_t block, const uint16_t sums[64], uint64_t mask)
{
    const uint32_t *rows = w->search->s->order + block * RK__SPARSE_BLOCK;
    const rk_bitset *filter = w->search->options->filter;
    const rk_vectors *v = &w->search->index->vectors;

    if (!w->eager) {
        note_block(w, sums, mask);
        mask &= w->kernels->reach(sums, w->row_limit);
    }
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        uint32_t row = rows[i];
        if (row >= v->rows || /* images are not trusted */
            (w->passing && !rk_bitset_get(filter, row))) {
            continue;
        }
        RK__SPARSE_ASK(&v->offsets[row]);
        w->candidates[w->n_candidates++] = candidate_of(sums[i], row);
    }
    if (w->eager || w->n_candidates >= CANDIDATES) {
        score_candidates(w);
    }
}

/* ---- preparation ---- */

static rk_code
prepare_terms(walk *w, rk_err *err)
{
    const rk__sparse *s = w->search->s;
    const rk__sparse_query *query = &w->search->query;
    rk_arena *arena = w->search->options->arena;
    rk__sparse_found *found = NULL;

    w->terms = rk_arena_alloc(arena, (query->n + 1) * sizeof(term));
    bool room = true;
    for (size_t i = 0; i <= DEPTH; i++) {
        w->members[i] = rk_arena_alloc(arena, (query->n + 1) * sizeof(rk__sparse_member));
        room = room && w->members[i];
    }
    for (size_t i = 0; i < DEPTH; i++) {
        w->pending[i].block = SIZE_MAX;
        w->pending[i].runs = rk_arena_alloc(arena, (query->n + 1) * sizeof(rk__sparse_run));
        room = room && w->pending[i].runs;
    }
    w->bounds = rk_arena_zero(arena, s->n_groups * 64 + 1, sizeof(*w->bounds));
    w->sums = rk_arena_alloc(arena, RK__SPARSE_BLOCK * RK__SPARSE_BLOCK * sizeof(*w->sums));
    w->any = rk_arena_zero(arena, s->n_groups + 1, sizeof(*w->any));
    w->ratio = rk__param_float(w->search->options->params, "dim_max_score_ratio", 1, 0.5, 1);
    w->eager = w->search->range.on && w->search->range.has_lower;
    w->best = rk_arena_alloc(arena, w->search->heap->cap * sizeof(*w->best));
    w->candidates = rk_arena_alloc(arena, (CANDIDATES + RK__SPARSE_BLOCK) * sizeof(*w->candidates));
    if (!room || !w->best || !w->candidates || !w->terms || !w->bounds || !w->sums || !w->any) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu terms over %zu blocks",
                       query->n, s->n_blocks);
    }
    RK_RET(rk__sparse_find_terms(w->search, &found, &w->scale, err));
    for (size_t i = 0; i < w->scale.n; i++) {
        const rk__sparse_term *row = &s->terms[found[i].term];
        w->terms[i] = (term){.nodes = s->nodes + row->first_node,
                             .n_nodes = row[1].first_node - row->first_node,
                             .entries = s->entries + row->first_entry * 2,
                             .n_entries = row[1].first_entry - row->first_entry,
                             .factor = found[i].factor,
                             .bound = found[i].bound};
    }
    w->n_terms = w->n_active = w->scale.n;
    return RK_OK;
}

static void
ask_for_term(const term *t, bool near)
{
    size_t nodes = RK_MIN(t->n_nodes * sizeof(*t->nodes), (size_t)1536);
    size_t entries = RK_MIN(t->n_entries * 2, (uint64_t)3072);

    if (near) {
        rk__fetch(t->nodes, nodes);
        rk__fetch(t->entries, entries);
    } else {
        rk__fetch_early(t->nodes, nodes);
        rk__fetch_early(t->entries, entries);
    }
}

/* Adds the terms from |from| to |to| to the bounds of all blocks. */
static void
bound_blocks(walk *w, size_t from, size_t to, uint16_t *bounds)
{
    bool near = w->search->s->n_groups <= NEAR_GROUPS;

    for (size_t i = from; i < RK_MIN(to, from + TERMS_AHEAD); i++) {
        ask_for_term(&w->terms[i], near);
    }
    for (size_t i = from; i < to; i++) {
        const term *t = &w->terms[i];
        if (i + TERMS_AHEAD < to) {
            ask_for_term(t + TERMS_AHEAD, near);
        }
        w->kernels->bound(t->nodes, t->n_nodes, t->entries, t->n_entries, w->search->s->n_groups,
                          t->factor, bounds, w->any);
    }
    if (w->kernels->settle) {
        w->kernels->settle(bounds, w->search->s->n_groups);
    }
}

/* The weakest terms are left out where few rows are asked for: no row has so little. */
static void
leave_out(walk *w, size_t rows)
{
    double sum = 0;

    for (size_t i = 0; i < w->n_terms; i++) {
        sum += w->terms[i].bound;
    }
    while (!w->eager && w->search->heap->cap <= rows / RK__SPARSE_BLOCK && w->n_active > 1 &&
           w->left_out + w->terms[w->n_active - 1].bound < sum * LEFT_SHARE) {
        w->left_out += w->terms[--w->n_active].bound;
    }
    w->idle = w->left_out;
    w->n_kept = w->n_active;
}

/* A selective filter: its rows per block, and blocks without any are as if without terms. */
static rk_code
mark_passing(walk *w, rk_err *err)
{
    const rk__sparse *s = w->search->s;
    const rk_bitset *filter = w->search->options->filter;
    size_t rows = w->search->index->vectors.rows;
    size_t blocks = s->n_groups * RK__SPARSE_BLOCK;

    w->passing = rk_arena_zero(w->search->options->arena, blocks + 1, sizeof(*w->passing));
    if (!w->passing) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu blocks", blocks);
    }
    for (size_t row = rk_bitset_next(filter, 0); row < rows;
         row = rk_bitset_next(filter, row + 1)) {
        uint32_t place = s->places[row];
        if (RK_LIKELY(place / RK__SPARSE_BLOCK < blocks)) { /* images are not trusted */
            w->passing[place / RK__SPARSE_BLOCK] |= UINT64_C(1) << place % RK__SPARSE_BLOCK;
        }
    }
    return RK_OK;
}

static void
drop_blocks(walk *w)
{
    for (size_t g = 0; w->passing && g < w->search->s->n_groups; g++) {
        uint64_t some = 0;
        for (size_t b = 0; b < RK__SPARSE_BLOCK; b++) {
            some |= (uint64_t)(w->passing[g * RK__SPARSE_BLOCK + b] != 0) << b;
        }
        w->any[g] &= some;
    }
}

/* The terms left out come in after all: the k-th score is too low. All blocks count again. */
static rk_code
bring_in(walk *w, rk_err *err)
{
    size_t n = w->search->s->n_groups * RK__SPARSE_BLOCK;
    uint16_t *bounds = rk_arena_zero(w->search->options->arena, n + 1, sizeof(*bounds));
    double known = w->known;

    if (!bounds) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu bounds", n);
    }
    bound_blocks(w, w->n_kept, w->n_terms, bounds);
    for (size_t i = 0; i < n; i++) {
        w->bounds[i] = (uint16_t)(w->bounds[i] + bounds[i]);
    }
    drop_blocks(w);
    w->n_active = w->n_terms;
    w->n_candidates = 0;
    w->n_best = 0;
    w->search->heap->n = 0; /* what was scored comes again */
    w->left_out = w->idle = w->known = 0;
    raise_limits(w, known);
    return RK_OK;
}

/* ---- blocks ---- */

/* The term's node of |group|: nodes ascend, most terms of a query are in most groups. */
static const rk__sparse_node *
find_node(const term *t, size_t group, size_t n_groups)
{
    size_t low = 0;
    size_t high = t->n_nodes;
    size_t at = high == n_groups ? group : high * group / n_groups;

    while (low < high) {
        uint32_t found = t->nodes[at].group;
        if (found == group) {
            return &t->nodes[at];
        }
        if (found < group) {
            low = at + 1;
        } else {
            high = at;
        }
        at = low + (high - low) / 2;
    }
    return NULL;
}

static void
enter_group(walk *w, size_t group)
{
    size_t n_groups = w->search->s->n_groups;
    w->turn = (w->turn + 1) % (DEPTH + 1);
    rk__sparse_member *members = w->members[w->turn];
    w->n_members = 0;
    for (size_t i = 0; i < w->n_active; i++) {
        const term *t = &w->terms[i];
        const rk__sparse_node *node = find_node(t, group, n_groups);
        if (node &&
            node->entry <= t->n_entries) { /* images are not trusted; past them is padding */
            members[w->n_members++] = (rk__sparse_member){
                node->mask, node->base, t->entries + (uint64_t)node->entry * 2, t->factor};
        }
    }
}

static unsigned
largest_of(const uint16_t values[64], uint64_t mask)
{
    unsigned best = (unsigned)__builtin_ctzll(mask);

    for (mask &= mask - 1; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        best = values[i] > values[best] ? i : best;
    }
    return best;
}

/* Those of |mask| that pass the filter. */
static uint64_t
passing_rows(const walk *w, size_t block, uint64_t mask)
{
    const rk_bitset *filter = w->search->options->filter;
    const uint32_t *rows = w->search->s->order + block * RK__SPARSE_BLOCK;
    uint64_t pass = 0;

    if (w->passing) {
        return mask & w->passing[block];
    }
    if (!filter) {
        return mask;
    }
    for (; mask; mask &= mask - 1) {
        uint32_t row = rows[__builtin_ctzll(mask)];
        if (row < w->search->index->vectors.rows && rk_bitset_get(filter, row)) {
            pass |= mask & (0 - mask);
        }
    }
    return pass;
}

/* The first terms, the strongest, tell whether any row of the block can still matter. */
static void
score_block(walk *w, const pending *p)
{
    const rk__sparse *s = w->search->s;
    uint16_t sums[RK__SPARSE_BLOCK] = {0};
    uint32_t bound = 0;
    uint64_t any = w->kernels->add(p->runs, p->n, sums);
    uint64_t alive =
        w->kernels->reach(sums, p->rest < w->limit ? (uint16_t)(w->limit - p->rest) : 0);

    alive = passing_rows(w, p->block, alive);
    if (!alive) {
        return;
    }
    if (p->n_members > FIRST_TERMS) {
        size_t n = w->kernels->find(p->members + FIRST_TERMS, p->n_members - FIRST_TERMS,
                                    p->block % RK__SPARSE_BLOCK, s->records, s->record_bytes,
                                    p->runs, &bound);
        any |= w->kernels->add(p->runs, n, sums);
    }
    any &= alive & w->kernels->reach(sums, w->row_limit);
    if (any) {
        add_candidates(w, p->block, sums, any);
    }
}

static void
score_pending(walk *w)
{
    pending *p = &w->pending[w->next];

    if (p->block != SIZE_MAX && p->bound >= w->limit) {
        score_block(w, p);
    }
    p->block = SIZE_MAX;
}

/* Scores all that were asked for: until then each keeps the members of its group. */
static void
drain(walk *w)
{
    for (size_t i = 0; i < DEPTH; i++) {
        score_pending(w);
        w->next = (w->next + 1) % DEPTH;
    }
}

/* Scores the block asked for longest ago and asks for the first records of another in its place. */
static void
take_block(walk *w, size_t block, uint16_t bound)
{
    const rk__sparse *s = w->search->s;
    pending *p = &w->pending[w->next];
    uint32_t first = 0;

    score_pending(w);
    p->block = block;
    p->bound = bound;
    if (w->search->options->filter) {
        for (size_t i = 0; i < RK__SPARSE_BLOCK; i += 16) {
            RK__SPARSE_ASK(s->order + block * RK__SPARSE_BLOCK + i);
        }
    }
    p->members = w->members[w->turn];
    p->n_members = w->n_members;
    p->n = w->kernels->find(p->members, RK_MIN(p->n_members, (size_t)FIRST_TERMS),
                            block % RK__SPARSE_BLOCK, s->records, s->record_bytes, p->runs, &first);
    p->rest = (uint16_t)(bound - RK_MIN(first, (uint32_t)bound));
    w->next = (w->next + 1) % DEPTH;
}

/* A record has eleven bytes or so: most of the node's. */
static void
ask_for_records(const rk__sparse *s, const rk__sparse_member *member)
{
    size_t len = (size_t)__builtin_popcountll(member->mask) * 12;

    if (member->base <= s->record_bytes) { /* images are not trusted */
        rk__fetch_early(s->records + member->base, len);
    }
}

/* Where bounds cut little: all blocks of the group, term by term. */
static void
score_whole_group(walk *w, size_t group, uint64_t blocks)
{
    const rk__sparse *s = w->search->s;
    const rk__sparse_member *members = w->members[w->turn];
    uint64_t any[RK__SPARSE_BLOCK] = {0};

    memset(w->sums, 0, RK__SPARSE_BLOCK * RK__SPARSE_BLOCK * sizeof(*w->sums));
    for (size_t i = 0; i < RK_MIN(w->n_members, (size_t)NODES_AHEAD); i++) {
        ask_for_records(s, &members[i]);
    }
    for (size_t i = 0; i < w->n_members; i++) {
        if (i + NODES_AHEAD < w->n_members) {
            ask_for_records(s, &members[i + NODES_AHEAD]);
        }
        w->kernels->add_node(&members[i], s->records, s->record_bytes, w->sums, any);
    }
    w->any[group] &= ~blocks;
    for (; blocks; blocks &= blocks - 1) {
        size_t i = (size_t)__builtin_ctzll(blocks);
        const uint16_t *sums = w->sums + i * RK__SPARSE_BLOCK;
        size_t block = group * RK__SPARSE_BLOCK + i;
        uint64_t alive = any[i] & w->kernels->reach(sums, w->row_limit);
        alive = alive ? passing_rows(w, block, alive) : 0;
        if (alive) {
            add_candidates(w, block, sums, alive);
        }
    }
}

static void
score_group(walk *w, size_t group)
{
    uint16_t *bounds = w->bounds + group * RK__SPARSE_BLOCK;
    uint64_t mask = w->kernels->reach(bounds, w->limit) & w->any[group];

    if (!mask) {
        return;
    }
    if (__builtin_popcountll(mask) >= (int)MANY_BLOCKS) {
        drain(w);
        enter_group(w, group);
        score_whole_group(w, group, mask);
        return;
    }
    enter_group(w, group);
    while (mask) {
        unsigned best = w->limit > 0 ? (unsigned)__builtin_ctzll(mask) : largest_of(bounds, mask);
        mask &= ~(UINT64_C(1) << best);
        take_block(w, group * RK__SPARSE_BLOCK + best, bounds[best]);
        mask &= w->kernels->reach(bounds, w->limit);
    }
}

/* ---- groups ---- */

typedef struct ranked {
    uint16_t bound;
    uint32_t group; /* or block */
} ranked;

static int
compare_ranked(const void *a, const void *b)
{
    const ranked *x = a;
    const ranked *y = b;

    return x->bound != y->bound ? (x->bound > y->bound ? -1 : 1)
                                : (x->group < y->group ? -1 : x->group > y->group);
}

/* Puts |next| among the |n| best, which have room for |cap|. */
static size_t
keep_best(ranked *best, size_t n, size_t cap, ranked next)
{
    size_t at = n;

    if (n == cap) {
        if (next.bound <= best[n - 1].bound) {
            return n;
        }
        at = n - 1;
    } else {
        n++;
    }
    for (; at > 0 && best[at - 1].bound < next.bound; at--) {
        best[at] = best[at - 1];
    }
    best[at] = next;
    return n;
}

/* The best blocks of a group among the |n| best of all. */
static size_t
keep_blocks(const walk *w, ranked *best, size_t n, size_t cap, size_t group)
{
    const uint16_t *bounds = w->bounds + group * RK__SPARSE_BLOCK;
    uint64_t mask = w->any[group];

    if (n == cap) {
        mask &= w->kernels->reach(bounds, best[n - 1].bound);
    }
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        n = keep_best(best, n, cap, (ranked){bounds[i], (uint32_t)(group * RK__SPARSE_BLOCK + i)});
        if (n == cap) {
            mask &= w->kernels->reach(bounds, best[n - 1].bound);
        }
    }
    return n;
}

/* Rows that most likely will be scored. */
static void
ask_for_candidates(const walk *w)
{
    uint64_t last = candidate_of((uint32_t)w->row_limit + w->row_limit / EARLY_PART, UINT32_MAX);
    size_t n = 0;

    for (size_t i = 0; i < w->n_candidates && n < EARLY; i++) {
        if (w->candidates[i] <= last) {
            rk__sparse_ask_for_row(&w->search->index->vectors, (uint32_t)w->candidates[i]);
            n++;
        }
    }
}

/* The best blocks, all of their records asked for before the first is read. */
static rk_code
score_seeds(walk *w, const ranked *seeds, size_t n, rk_err *err)
{
    const rk__sparse *s = w->search->s;
    size_t stride = w->n_terms + 1;
    rk__sparse_run *runs = rk_arena_alloc(w->search->options->arena, n * stride * sizeof(*runs));
    size_t n_runs[SEEDS_MAX] = {0};
    uint32_t bound = 0;

    if (!runs) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu blocks", n);
    }
    for (size_t i = 0; i < n && seeds[i].bound >= w->limit; i++) {
        rk__fetch_early(s->order + (size_t)seeds[i].group * RK__SPARSE_BLOCK,
                        RK__SPARSE_BLOCK * sizeof(*s->order));
        if (i == 0 || seeds[i].group / RK__SPARSE_BLOCK != seeds[i - 1].group / RK__SPARSE_BLOCK) {
            enter_group(w, seeds[i].group / RK__SPARSE_BLOCK);
        }
        n_runs[i] =
            w->kernels->find(w->members[w->turn], w->n_members, seeds[i].group % RK__SPARSE_BLOCK,
                             s->records, s->record_bytes, runs + i * stride, &bound);
    }
    for (size_t i = 0; i < n && seeds[i].bound >= w->limit; i++) {
        size_t block = seeds[i].group;
        uint16_t sums[RK__SPARSE_BLOCK] = {0};
        uint64_t any = w->kernels->add(runs + i * stride, n_runs[i], sums);
        if (i == 1) {
            ask_for_candidates(w);
        }
        w->any[block / RK__SPARSE_BLOCK] &= ~(UINT64_C(1) << block % RK__SPARSE_BLOCK);
        any = passing_rows(w, block, any & w->kernels->reach(sums, w->row_limit));
        if (any) {
            add_candidates(w, block, sums, any);
        }
    }
    return RK_OK;
}

/* The groups that have a term with the largest bound of each; the best blocks of all. */
static size_t
rank_groups(const walk *w, ranked *groups, ranked *seeds, size_t *n_seeds)
{
    size_t most = SEEDS + RK_MIN(w->search->heap->cap / SEED_ROWS, SEEDS_MAX - SEEDS);
    size_t n = 0;

    *n_seeds = 0;
    for (size_t g = 0; g < w->search->s->n_groups; g++) {
        if (w->any[g]) {
            uint16_t bound = w->kernels->largest(w->bounds + g * RK__SPARSE_BLOCK);
            groups[n++] = (ranked){bound, (uint32_t)g};
            if (*n_seeds < most || bound > seeds[*n_seeds - 1].bound) {
                *n_seeds = keep_blocks(w, seeds, *n_seeds, most, g);
            }
        }
    }
    return n;
}

static rk_code
walk_groups(walk *w, rk_err *err)
{
    const rk__sparse *s = w->search->s;
    ranked *groups = rk_arena_alloc(w->search->options->arena, (s->n_groups + 1) * sizeof(*groups));
    ranked seeds[SEEDS_MAX];
    size_t n_seeds = 0;

    if (!groups) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for %zu groups", s->n_groups);
    }
    size_t n = rank_groups(w, groups, seeds, &n_seeds);
    RK_RET(score_seeds(w, seeds, n_seeds, err));
    if (w->left_out > w->known * LEFT_MOST) {
        for (size_t i = 0; i < n_seeds; i++) { /* once more */
            w->any[seeds[i].group / RK__SPARSE_BLOCK] |= UINT64_C(1)
                                                         << seeds[i].group % RK__SPARSE_BLOCK;
        }
        RK_RET(bring_in(w, err));
        n = rank_groups(w, groups, seeds, &n_seeds);
        RK_RET(score_seeds(w, seeds, n_seeds, err));
    }
    size_t left = 0;
    for (size_t i = 0; i < n; i++) { /* few groups are left: their order costs little */
        if (groups[i].bound >= w->limit) {
            left = left < FEW ? keep_best(groups, left, left + 1, groups[i]) : left + 1;
            groups[left - 1] = left > FEW ? groups[i] : groups[left - 1];
        }
    }
    if (left > FEW) {
        qsort(groups, left, sizeof(*groups), compare_ranked);
    }
    for (size_t i = 0; i < left && groups[i].bound >= w->limit; i++) {
        score_group(w, groups[i].group);
    }
    drain(w);
    score_candidates(w);
    return RK_OK;
}

rk_code
rk__sparse_search_blocks(rk__sparse_search *search, const rk__pair *pairs, size_t n, rk_err *err)
{
    walk w = {.search = search, .kernels = search->kernels};
    const rk_search_options *options = search->options;
    size_t rows = search->index->vectors.rows;
    size_t passing = options->filter ? options->filter_count : rows;

    if (n > TERMS_MAX || passing < DIRECT_ROWS + search->s->n_patches * n / DIRECT_PART) {
        RK_RET(rk__sparse_query_init(&search->query, pairs, n, options->arena, err));
        rk__sparse_search_rows(search);
        return RK_OK;
    }
    RK_RET(rk__sparse_ask_for_terms(search, pairs, n, err));
    RK_RET(rk__sparse_query_init(&search->query, pairs, n, options->arena, err)); /* meanwhile */
    double share = rows < 65536 ? FINE_SMALL : FINE_SHARE;
    if (options->filter && (double)options->filter_count < share * (double)rows) {
        bool done = false;
        RK_RET(rk__sparse_search_fine(search, &done, err));
        if (done) {
            return RK_OK;
        }
    }
    RK_RET(prepare_terms(&w, err));
    leave_out(&w, passing);
    bound_blocks(&w, 0, w.n_kept, w.bounds);
    if (options->filter && options->filter_count < rows / 16) {
        RK_RET(mark_passing(&w, err));
        drop_blocks(&w);
    }
    raise_limits(&w, (double)rk__sparse_threshold(search));
    return walk_groups(&w, err);
}
