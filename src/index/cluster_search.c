/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searching a cluster index, see cluster.h. The way of a query:
 *
 *   1. It is projected, its tables are made.
 *   2. The centres' codes name the lists worth a closer look, their records give these a key: the
 *      distance of the query to the centre. Lists are visited by rising key (by bucket: exact order
 *      does not matter).
 *   3. A list's blocks are scanned. Rows whose estimate, less epsilon times its error, lies below
 *      the k-th best distance so far wait for their records; these are fetched while the next list
 *      is scanned, and scored. The k-th best falls, so later lists give few rows.
 *   4. Probing ends where the key of the next list is beta of the k-th distance above that of the
 *      nearest list (for IP: beta of a fixed unit): the boundary between the two cells is then too
 *      far away. beta and epsilon come from the wanted recall and what the build measured.
 *   5. What is within the error of a record of the k-th is scored on the vectors themselves.
 *
 * A filter is tested on the rows that survive a scan, or before the scan while there is no k-th
 * distance yet. When fewer rows pass, it is first put into the order of the lists: lists and blocks
 * without a passing row cost nothing, and the few of a block that has few are scored by their
 * records, without a scan. When very few pass, all are scored by their records one by one. Probing
 * goes on until k rows are found; if the lists cannot give k although k pass (rows that are not
 * finite), the vectors are scanned.
 *
 * All memory is the request's arena.
 */
#include "index/cluster.h"
#include "index/params.h"

#define WAITING_MAX 512u
#define BATCH       16u
#define EXACT_ROWS  64u /* so few passing rows are scored on their vectors at once */
#define NEVER       INFINITY
#define MAP_WORDS   32u
#define MAP_COST    1.6       /* nanoseconds per passing row */
#define MAP_EMPTY   0.02      /* nanoseconds per row */
#define MAP_SHARE   (1.0 / 6) /* where more pass, a filter is not mapped */
#define SAMPLE_ROWS 512u
#define SEEN_BITS   4096u

typedef struct cluster_search {
    const rk_index *index;
    const rk__cluster *cluster;
    const rk__query *query;
    const rk_search_options *options;
    rk__cluster_effort effort;
    rk__cluster_point point;
    rk__cluster_query coded;
    float to_est;    /* IP: <mean, query>, added to a key of the metric gives an estimate */
    float unit;      /* IP: what beta, epsilon and slack are shares of */
    float slack;     /* a record's distance may be off by this */
    float threshold; /* k-th best so far, or the radius; NEVER while there are fewer */
    float lower;     /* range: nearer ones do not qualify; -INFINITY */
    rk__range range;
    rk__heap near; /* k best by record */
    rk__near *kept;
    uint32_t n_kept;
    uint32_t kept_cap;
    rk__cluster_lists lists;
    float best;             /* under a filter: the nearest row so far, and */
    float best_key;         /* the key of its list */
    const uint64_t *placed; /* bit per place in row_of: the row there passes; NULL: not mapped */
    float direct;           /* lists with fewer passing rows per block are not scanned */
    uint32_t scored;        /* rows, by record */
    float scan_cost;        /* nanoseconds, about */
    rk__cluster_item *waiting;
    uint32_t n_waiting;
    bool no_memory;
} cluster_search;

/* ---- rows ---- */

static inline bool
passes(const cluster_search *s, uint32_t row)
{
    return row < s->cluster->rows &&
           (!s->options->filter || rk_bitset_get(s->options->filter, row));
}

static void
drop_kept(cluster_search *s)
{
    uint32_t n = 0;
    float most = s->threshold + s->slack;

    for (uint32_t i = 0; i < s->n_kept; i++) {
        if (s->kept[i].key <= most) {
            s->kept[n++] = s->kept[i];
        }
    }
    s->n_kept = n;
}

/* A row with its distance by record. */
static inline void
accept(cluster_search *s, float dist, float key, uint32_t at)
{
    if (dist < s->best) {
        s->best = dist;
        s->best_key = key;
    }
    if (!(dist <= s->threshold + s->slack) || dist < s->lower - s->slack) {
        return;
    }
    if (s->n_kept == s->kept_cap) {
        drop_kept(s);
        if (s->n_kept > s->kept_cap / 2) {
            rk__near *more =
                rk_arena_alloc(s->options->arena, 2 * (size_t)s->kept_cap * sizeof(*more));
            if (!more) {
                s->no_memory = true;
                return;
            }
            memcpy(more, s->kept, s->n_kept * sizeof(*more));
            s->kept = more;
            s->kept_cap *= 2;
        }
    }
    s->kept[s->n_kept++] = (rk__near){dist, at};
    if (dist < s->lower + s->slack) {
        return; /* it may not qualify: it does not count */
    }
    rk__heap_push(&s->near, dist, at);
    if (rk__heap_full(&s->near)) {
        s->threshold = RK_MIN(s->threshold, s->near.items[0].key);
    }
}

static void
score_waiting(cluster_search *s, const rk__cluster_item *items, uint32_t n)
{
    const rk__cluster *c = s->cluster;
    uint32_t at[BATCH] = {0};
    float score[BATCH];

    s->scored += n;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = items[i].at;
    }
    if (c->records) {
        rk__cluster_score(&c->space, &s->coded, c->records, at, n, score);
        for (uint32_t i = 0; i < n; i++) {
            accept(s, items[i].key + score[i], items[i].key, at[i]);
        }
        return;
    }
    uint32_t rows[BATCH] = {0};
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = c->row_of[at[i]];
    }
    rk__keys(&s->index->space, s->query, rows, n, score);
    for (uint32_t i = 0; i < n; i++) {
        float dist =
            s->index->space.metric == RK_METRIC_COSINE ? 2 + 2 * score[i] : score[i] + s->to_est;
        accept(s, dist, items[i].key, at[i]);
    }
}

static inline void
fetch_record(const rk__cluster *c, uint32_t at)
{
    const uint8_t *record = c->records + (size_t)at * c->space.record;

    for (size_t b = 0; c->records && b < c->space.record && b < 512; b += 64) {
        __builtin_prefetch(record + b);
    }
}

/* Scores the rows that wait and are still worth it. */
static void
flush_waiting(cluster_search *s)
{
    rk__cluster_item batch[BATCH];
    uint32_t n = 0;
    uint32_t missing = s->near.cap - s->near.n;

    if (missing > 0) { /* the nearest of them make a threshold for the rest */
        missing = rk__cluster_select(s->waiting, s->n_waiting, missing);
        for (uint32_t i = 0; i < missing; i++) {
            fetch_record(s->cluster, s->waiting[i].at);
        }
    }
    for (uint32_t i = 0; i < s->n_waiting; i++) {
        if (!(s->waiting[i].est <= s->threshold)) {
            continue;
        }
        batch[n++] = s->waiting[i];
        if (n == BATCH || (missing > 0 && i + 1 == missing)) {
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
wait_row(cluster_search *s, float lower, float key, uint32_t at)
{
    const rk__cluster *c = s->cluster;

    if (s->threshold != NEVER) {
        fetch_record(c, at);
    }
    s->waiting[s->n_waiting++] = (rk__cluster_item){lower, key, at};
    if (s->n_waiting == WAITING_MAX) {
        flush_waiting(s);
    }
}

static uint32_t
filter_bits(const cluster_search *s, const uint32_t *row_of, uint32_t n)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < n; i++) {
        bits |= (uint32_t)passes(s, row_of[i]) << i;
    }
    return bits;
}

/* Bits of the |n| places from |from| on. */
static inline uint32_t
placed_bits(const uint64_t *placed, uint32_t from)
{
    uint64_t bits = placed[from / 64] >> from % 64;

    return (uint32_t)(from % 64 > 32 ? bits | placed[from / 64 + 1] << (64 - from % 64) : bits);
}

static inline uint32_t
count_bits(uint64_t x)
{
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)(x * UINT64_C(0x0101010101010101) >> 56);
}

/* The word of the map that |from| is in, without the places before it and from |end| on. */
static inline uint64_t
placed_word(const uint64_t *placed, uint32_t from, uint32_t end)
{
    uint64_t word = placed[from / 64] & UINT64_MAX << from % 64;

    return end / 64 == from / 64 ? word & ((UINT64_C(1) << end % 64) - 1) : word;
}

/* Scores the passing rows of a list without a scan where that costs less. */
static bool
score_list(cluster_search *s, const rk__cluster_item *list, uint32_t from, uint32_t end)
{
    uint32_t blocks = (end - from + RK__BITS_ROWS - 1) / RK__BITS_ROWS;
    uint32_t passing = 0;

    for (uint32_t at = from; at < end; at = (at | 63) + 1) {
        passing += count_bits(placed_word(s->placed, at, end));
    }
    if ((float)passing > s->direct * (float)blocks) {
        return false;
    }
    for (uint32_t at = from; at < end; at = (at | 63) + 1) {
        uint64_t word = placed_word(s->placed, at, end);
        for (; word; word &= word - 1) {
            wait_row(s, -INFINITY, list->key, (at & ~63u) + (uint32_t)__builtin_ctzll(word));
        }
    }
    return true;
}

static bool
list_passes(const uint64_t *placed, uint32_t from, uint32_t end)
{
    for (; from < end; from = (from | 63) + 1) {
        if (placed_word(placed, from, end)) {
            return true;
        }
    }
    return false;
}

/* The filter in the order of the lists; lists without a passing row count as given. */
static void
map_filter(cluster_search *s)
{
    const rk__cluster *c = s->cluster;
    rk__select_fn select = rk__kernels_get()->select;
    uint32_t rows[MAP_WORDS * 64 + 16];
    size_t words = rk_bitset_words(c->rows);
    uint32_t finite = (uint32_t)c->rows - c->info.loose;
    uint64_t *placed = RK_ARENA_ARRAY(s->options->arena, uint64_t, words + 1);

    s->lists.seen = RK_ARENA_ARRAY(s->options->arena, uint32_t, (c->info.nlist + 31) / 32);
    if (!placed || !s->lists.seen) {
        s->no_memory = true;
        return;
    }
    for (size_t w = 0; w < words; w += MAP_WORDS) {
        size_t n = select(s->options->filter->words + w, RK_MIN(words - w, MAP_WORDS),
                          (uint32_t)(w * 64), rows);
        for (size_t i = 0; i < n; i++) {
            uint32_t at = rows[i] < c->rows ? c->place[rows[i]] : finite;
            if (at < finite) {
                placed[at / 64] |= UINT64_C(1) << at % 64;
            }
        }
    }
    for (uint32_t l = 0; l < c->info.nlist; l++) {
        if (!list_passes(placed, c->first_row[l], c->first_row[l + 1])) {
            s->lists.seen[l / 32] |= UINT32_C(1) << l % 32;
            s->lists.given++;
        }
    }
    s->placed = placed;
}

static void
scan_list(cluster_search *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    rk__scan32_fn scan = rk__kernels_get()->scan32_low;
    size_t groups = rk__bits_groups(c->space.padded);
    size_t codes = rk__cluster_codes_bytes(&c->space);
    uint32_t l = list->at;
    uint32_t from = c->first_row[l];
    uint32_t end = c->first_row[l + 1];
    const uint8_t *block = c->blocks + (size_t)c->first_block[l] * c->block_bytes;
    float reach = c->space.ip ? s->unit : sqrtf(RK_MAX(list->key, 0.0f));
    float margin = s->effort.epsilon * c->spread[l] * reach;
    bool filtered = s->options->filter != NULL;

    if (s->placed && score_list(s, list, from, end)) {
        return;
    }
    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        const float *add = (const float *)(const void *)(block + codes);
        float est[RK__BITS_ROWS];
        uint32_t n = RK_MIN(end - from, RK__BITS_ROWS);
        uint32_t may = n == 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
        bool before = filtered && s->threshold == NEVER;
        if (s->placed) {
            may &= placed_bits(s->placed, from);
            if (!may) {
                continue;
            }
        } else if (before) {
            may &= filter_bits(s, c->row_of + from, n);
            if (!may) {
                continue;
            }
        }
        uint32_t mask = may & scan(s->coded.bits.lut, block, groups, add, add + RK__BITS_ROWS,
                                   s->coded.bits.unit, s->coded.bits.bias, list->key,
                                   s->threshold + margin, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            if (before || !filtered || s->placed || passes(s, c->row_of[from + i])) {
                wait_row(s, est[i] - margin, list->key, from + i);
            }
        }
    }
}

/* ---- the whole ---- */

/* How far above the nearest list one with |key| lies, as beta counts it. */
static float
distance_above(const cluster_search *s, float key, float nearest)
{
    float unit =
        s->cluster->space.ip ? s->unit * s->cluster->info.radius : RK_MAX(s->threshold, 0.0f);

    return key <= nearest ? 0 : (key - nearest) / unit;
}

static void
trace_list(cluster_search *s, uint32_t list, float above)
{
    rk__cluster_trace *t = s->effort.trace;
    const rk__cluster *c = s->cluster;
    float before = t->n > 0 ? t->beta[t->n - 1] : 0;
    float blocks = (float)(c->first_block[list + 1] - c->first_block[list]);
    float record = 30 + 0.1f * (float)(c->records ? c->space.reduced : c->space.dim);

    t->beta[t->n] = RK_MAX(before, above);
    t->reached[list] = t->beta[t->n];
    s->scan_cost += 20 + blocks * (8 + 0.09f * (float)c->space.padded);
    t->cost[t->n] = s->scan_cost + record * (float)s->scored;
    t->n++;
}

static void
probe_lists(cluster_search *s)
{
    const rk__cluster *c = s->cluster;
    rk__cluster_lists *lists = &s->lists;
    float nearest = INFINITY;
    uint32_t probed = 0;
    uint32_t i = 0;

    lists->stage = s->effort.first;
    for (;;) {
        if (i == lists->n) {
            if (!rk__cluster_lists_next(lists, lists->stage, true)) {
                break;
            }
            i = 0;
            nearest = RK_MIN(nearest, lists->items[0].key);
        }
        const rk__cluster_item *list = &lists->items[i++];
        float above = 0;
        if (s->threshold != NEVER) {
            float from = s->options->filter ? RK_MAX(nearest, s->best_key) : nearest;
            above = distance_above(s, list->key, from);
            if (above > s->effort.beta || probed >= s->effort.probes) {
                break;
            }
        }
        if (i < lists->n) {
            const uint8_t *next =
                c->blocks + (size_t)c->first_block[lists->items[i].at] * c->block_bytes;
            for (size_t b = 0; b < 512; b += 64) {
                __builtin_prefetch(next + b);
            }
        }
        probed++;
        scan_list(s, list);
        if (s->n_waiting >= BATCH || s->threshold == NEVER) {
            flush_waiting(s);
        }
        if (s->effort.trace) {
            trace_list(s, list->at, above);
        }
        if (s->no_memory) {
            return;
        }
    }
    flush_waiting(s);
}

/* The passing rows one by one, by their records. */
static void
score_passing(cluster_search *s)
{
    const rk__cluster *c = s->cluster;
    size_t rows = c->rows;
    uint32_t placed = (uint32_t)rows - c->info.loose;

    if (!rk__cluster_lists_next(&s->lists, c->info.nlist, false)) {
        return;
    }
    for (size_t r = rk_bitset_next(s->options->filter, 0); r < rows;
         r = rk_bitset_next(s->options->filter, r + 1)) {
        uint32_t at = c->place[r];
        uint32_t l = c->list_of[r];
        if (at < placed && l < c->info.nlist) {
            wait_row(s, -INFINITY, s->lists.items[l].key, at);
            if (s->n_waiting == 2 * BATCH) {
                flush_waiting(s);
            }
        }
        if (s->no_memory) {
            return;
        }
    }
    flush_waiting(s);
}

/* Scores what was kept on the vectors. */
static void
score_kept(cluster_search *s, rk__heap *heap)
{
    const rk__cluster *c = s->cluster;
    uint32_t rows[4 * BATCH];
    float keys[4 * BATCH];
    uint32_t n = 0;

    drop_kept(s);
    for (uint32_t i = 0; i <= s->n_kept; i++) {
        bool end = i == s->n_kept;
        if (!end) {
            uint32_t row = c->row_of[s->kept[i].row];
            if (passes(s, row)) { /* again: the image may lie about places */
                rows[n++] = row;
            }
        }
        if (n == RK_COUNT(rows) || (end && n > 0)) {
            rk__keys(&s->index->space, s->query, rows, n, keys);
            for (uint32_t j = 0; j < n; j++) {
                if (!s->range.on || rk__in_range(&s->range, keys[j])) {
                    rk__heap_push(heap, keys[j], rows[j]);
                }
            }
            n = 0;
        }
    }
}

static void
scan_vectors(const rk_index *index, const rk__query *query, const rk_search_options *options,
             rk__heap *heap)
{
    rk__range range = rk__range_of(index->space.metric, options);

    heap->n = 0;
    rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &range, heap);
}

/* The bounds of a range search as estimates. */
static void
set_range(cluster_search *s)
{
    const rk_search_options *o = s->options;
    rk_metric metric = s->index->space.metric;

    s->range = rk__range_of(metric, o);
    s->threshold = NEVER;
    s->lower = -INFINITY;
    if (!o->range) {
        return;
    }
    s->threshold = metric == RK_METRIC_L2       ? o->radius
                   : metric == RK_METRIC_COSINE ? 2 - 2 * o->radius
                                                : s->to_est - o->radius;
    if (o->has_range_filter) {
        s->lower = metric == RK_METRIC_L2       ? o->range_filter
                   : metric == RK_METRIC_COSINE ? 2 - 2 * o->range_filter
                                                : s->to_est - o->range_filter;
    }
}

static rk_code
prepare(cluster_search *s, uint32_t k, bool *finite, rk_err *err)
{
    const rk__cluster_space *space = &s->cluster->space;
    rk_arena *arena = s->options->arena;
    size_t point = rk__cluster_point_bytes(space);
    uint8_t *memory = rk_arena_alloc(arena, point + rk__cluster_query_bytes(space) + 64);
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;

    s->lists.cluster = s->cluster;
    s->lists.query = &s->coded;
    s->lists.arena = arena;
    s->best = INFINITY;
    s->best_key = -INFINITY;
    s->near.cap = k;
    s->near.items = rk_arena_alloc(arena, (size_t)k * sizeof(*s->near.items));
    s->kept_cap = 2 * k + 256;
    s->kept = rk_arena_alloc(arena, (size_t)s->kept_cap * sizeof(*s->kept));
    s->waiting = rk_arena_alloc(arena, WAITING_MAX * sizeof(*s->waiting));
    if (!memory || !s->near.items || !s->kept || !s->waiting) {
        return rk_fail(err, RK_ENOMEM, "cluster search: no memory for %u results", k);
    }
    memory += (64 - (uintptr_t)memory % 64) % 64;
    rk__cluster_point_init(space, &s->point, memory);
    rk__cluster_vector(&s->index->space, s->query->data, s->query->inv_norm, s->point.v);
    if (space->ip) {
        s->to_est = ip(s->point.v, space->mean, space->dim);
        s->unit = sqrtf(ip(s->point.v, s->point.v, space->dim));
    }
    *finite = rk__cluster_project(space, true, &s->point) && isfinite(s->to_est);
    if (!*finite) {
        return RK_OK;
    }
    rk__cluster_rotate_head(space, s->point.z, s->point.bits);
    rk__cluster_query_init(space, &s->point, memory + point, &s->coded);
    if (!space->ip) {
        s->lists.base = s->point.tail + ip(s->point.z, s->point.z, space->reduced);
    }
    s->slack = s->cluster->info.slack * (space->ip ? s->unit : 1.0f);
    set_range(s);
    return RK_OK;
}

/* Whether the rows that pass lie in few lists, by a sample of them. */
static bool
is_clustered(const cluster_search *s)
{
    const rk__cluster *c = s->cluster;
    const rk_bitset *filter = s->options->filter;
    size_t words = rk_bitset_words(c->rows);
    size_t stride = RK_MAX(s->options->filter_count / SAMPLE_ROWS, (size_t)1);
    uint64_t seen[SEEN_BITS / 64] = {0};
    uint32_t distinct = 0;
    uint32_t n = 0;

    for (size_t w = 0; w < words; w += stride) {
        for (uint64_t word = filter->words[w]; word; word &= word - 1) {
            size_t row = w * 64 + (size_t)__builtin_ctzll(word);
            if (row < c->rows) {
                uint32_t bit = c->list_of[row] % SEEN_BITS;
                distinct += !(seen[bit / 64] >> bit % 64 & 1);
                seen[bit / 64] |= UINT64_C(1) << bit % 64;
                n++;
            }
        }
    }
    double lists = (double)RK_MIN(c->info.nlist, SEEN_BITS);
    return distinct < lists * (1 - exp(-(double)n / lists)) / 2;
}

/* Finds the passing rows in the way that costs less; nanoseconds, about. Rows that pass in few
 * lists make most lists drop out, once the filter is in their order. */
static void
search_lists(cluster_search *s)
{
    const rk__cluster *c = s->cluster;
    double lists = RK_MIN(s->effort.first, s->effort.probes);
    double block = 8 + 0.09 * (double)c->space.padded;
    double probing = lists * ((double)c->rows / (double)c->info.nlist / RK__BITS_ROWS + 1) * block;
    double each = 20 + (c->records ? 0.05 * (double)c->space.reduced : 0.1 * (double)c->space.dim);
    double n = (double)s->options->filter_count;

    if (s->options->filter && n * each <= 15000 + probing / 2) {
        score_passing(s);
        return;
    }
    if (s->options->filter && n <= (double)c->rows * MAP_SHARE) {
        bool clustered = is_clustered(s);
        if (!clustered && n * each <= 50000 + probing) {
            score_passing(s);
            return;
        }
        double map = n * MAP_COST + (double)c->rows * MAP_EMPTY;
        if (map <= (clustered ? 3 * probing : 7000 + probing / 5)) {
            s->direct = (float)(2 * block / each);
            map_filter(s);
        }
    }
    if (!s->no_memory) {
        probe_lists(s);
    }
}

rk_code
rk__cluster_run(const rk_index *index, const rk__cluster *cluster, const rk__query *query,
                const rk_search_options *options, const rk__cluster_effort *effort, rk__heap *heap,
                rk_err *err)
{
    cluster_search s = {.index = index,
                        .cluster = cluster,
                        .query = query,
                        .options = options,
                        .effort = *effort};
    bool finite = false;

    if (options->filter_count <= EXACT_ROWS || options->filter_count <= heap->cap) {
        scan_vectors(index, query, options, heap);
        return RK_OK;
    }
    RK_RET(prepare(&s, heap->cap, &finite, err));
    if (!finite) {
        scan_vectors(index, query, options, heap);
        return RK_OK;
    }
    search_lists(&s);
    if (s.no_memory || s.lists.no_memory) {
        return rk_fail(err, RK_ENOMEM, "cluster search: no memory for %u lists",
                       s.cluster->info.nlist);
    }
    score_kept(&s, heap);
    if (s.cluster->info.loose > 0 && s.cluster->space.ip) {
        uint32_t from = (uint32_t)s.cluster->rows - s.cluster->info.loose;
        for (size_t i = from; i < s.cluster->rows; i++) {
            uint32_t row = s.cluster->row_of[i];
            if (passes(&s, row)) {
                rk__scan_rows(&index->space, query, &row, 1, &s.range, heap);
            }
        }
    }
    if (!options->range && heap->n < heap->cap) {
        scan_vectors(index, query, options, heap);
    }
    return RK_OK;
}

#define RECALL_DEFAULT 0.97
#define NPROBE_DEFAULT 8
#define EPSILON_NAMED  2.0f
#define FILTER_MORE    0.15

/* nprobe, where it is named or the kind is; else what the wanted recall needs. */
static rk__cluster_effort
wanted_effort(const rk__cluster *cluster, const rk_search_options *options)
{
    rk_params params = options->params;
    bool named = rk_params_get(params, "nprobe").data != NULL;
    bool declared = rk_params_get(params, "target_recall").data != NULL;
    double recall = rk__param_float(params, "target_recall", RECALL_DEFAULT, 0, 1);
    double more = rk__param_float(params, "refine_k", 1, 1, 1e6);
    uint32_t nprobe = (uint32_t)rk__param_int(params, "nprobe", NPROBE_DEFAULT, 1, 65536);

    if (!named && (declared || cluster->info.flags & RK__CLUSTER_AUTO)) {
        if (options->filter) { /* the k nearest that pass lie farther out, where bits tell less */
            recall += (1 - recall) * FILTER_MORE;
        }
        return rk__cluster_effort_of(cluster, (float)recall);
    }
    nprobe = RK_MIN(nprobe, cluster->info.nlist);
    return (rk__cluster_effort){.beta = INFINITY,
                                .epsilon = EPSILON_NAMED + (float)RK_MIN(log2(more), 8.0) / 4,
                                .first = nprobe,
                                .probes = nprobe};
}

rk_code
rk__cluster_search(const rk_index *index, const rk__cluster *cluster, const rk__query *query,
                   const rk_search_options *options, rk__heap *heap, rk_err *err)
{
    rk__cluster_effort effort = wanted_effort(cluster, options);

    return rk__cluster_run(index, cluster, query, options, &effort, heap, err);
}
