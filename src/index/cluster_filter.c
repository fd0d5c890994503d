/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a filter changes in a search of clusters, see cluster_search.c.
 *
 * Nothing is done for all rows at first. The lists are visited as without a filter; the bits of a
 * list's rows are gathered as it is visited, so blocks without a passing row are not scanned, or,
 * where most rows pass and few survive a scan, after it. When very few rows pass in all, they are
 * scored by their records one by one; when few pass, near the query too, they are put in the order
 * of the lists, and a list costs no more than its passing rows.
 *
 * When the first lists hold far fewer passing rows than their share, the rows that pass lie apart
 * from the query. Then it is worth counting which lists hold them: all passing rows are put down to
 * their lists, or a sample when there are many. Lists with none drop out; those that no row of a
 * sample fell into are given what its singletons say about the unseen (Good-Turing). From here on
 * rows of different lists are about equally near, and the distance of a list says little by itself;
 * so a search ends when the hits that can be expected in what remains are few:
 *
 *   sum over lists of passing rows * P(a row of the list is nearer than the k-th so far)
 *
 * with est - key of the rows seen so far in this search as the distribution. A list that can be
 * expected to give next to nothing is passed over by the same measure.
 */
#include "index/cluster_search.h"

#define SELECT_WORDS  32u
#define COUNT_ROWS    4096u       /* more passing rows are sampled */
#define ORDER_COST    4.0f        /* nanoseconds for a passing row */
#define ORDER_RATE    (1.0f / 16) /* where more of those near the query pass, none are ordered */
#define ORDER_NEAR    10000.0f    /* nanoseconds that an order may cost: near the query, */
#define ORDER_APART   25000.0f    /* and apart from it, where it also spares the counting */
#define EMPTY_LISTS   12.0f       /* visited in vain before they are counted */
#define APART_SHARE   0.5f        /* of the rows that should have passed; more where most do */
#define SCAN_RATE     (1.0f / 16)
#define SURVIVORS     6.0f /* of a block: with more, a filter is tested first */
#define FLUSH_FROM    64u
#define BUDGET        0.3f /* of the hits that may be missed */
#define BUDGET_IP     0.1f /* the nearest rows are the longest of their lists */
#define EPSILON_TIMES 1.0f /* 0.8 for the wanted share of hits; some lie far off their centres */
#define SEEN_ENOUGH   32u  /* passing rows make a distribution */
#define LEARN_ROWS    8u   /* of a list */
#define CHECK_EVERY   4u

static inline uint32_t
count_bits(uint32_t x)
{
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return x * 0x01010101u >> 24;
}

/* Nanoseconds, about: to score a row by its record, to scan a block. */
static float
record_cost(const rk__cluster *c)
{
    return c->records ? 20 + 0.05f * (float)c->space.reduced : 20 + 0.1f * (float)c->space.dim;
}

static float
block_cost(const rk__cluster *c)
{
    return 8 + 0.09f * (float)c->space.padded;
}

/* Of a search without a filter. */
static float
probing_cost(const rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    float lists = (float)RK_MIN(s->effort.first, c->info.nlist);

    return lists * ((float)c->rows / (float)c->info.nlist / RK__BITS_ROWS + 1) * block_cost(c);
}

/* ---- all rows that pass ---- */

/* The passing rows of |*w| and the words behind it, moved on: numbers to |rows|, how many. */
static size_t
next_rows(const rk__cluster_search_state *s, size_t *w, uint32_t rows[SELECT_WORDS * 64 + 16])
{
    size_t left = rk_bitset_words(s->cluster->rows) - *w;
    size_t n = RK_MIN(left, SELECT_WORDS);
    size_t found =
        rk__kernels_get()->select(s->options->filter->words + *w, n, (uint32_t)(*w * 64), rows);

    *w += n;
    return found;
}

/* The list of a row; nlist or more: none, or the image lies. */
static inline uint32_t
list_of(const rk__cluster *c, uint32_t row)
{
    return row < c->rows ? c->list_of[row] : c->info.nlist;
}

bool
rk__cluster_few(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t finite = (uint32_t)c->rows - c->info.loose;
    uint32_t rows[SELECT_WORDS * 64 + 16];

    if ((float)s->options->filter_count * record_cost(c) > 8000 + probing_cost(s) / 4) {
        return false;
    }
    if (!rk__cluster_lists_next(&s->lists, c->info.nlist, false)) {
        return true;
    }
    for (size_t w = 0; w < n_words && !s->no_memory;) {
        size_t n = next_rows(s, &w, rows);
        for (size_t i = 0; i < n; i++) {
            uint32_t l = list_of(c, rows[i]);
            uint32_t at = l < c->info.nlist ? c->place[rows[i]] : finite;
            if (at < finite) {
                rk__cluster_wait(s, -INFINITY, s->lists.items[l].key, at);
                if (s->n_waiting == 3 * RK__CLUSTER_BATCH) {
                    rk__cluster_flush(s);
                }
            }
        }
    }
    rk__cluster_flush(s);
    return true;
}

/* Puts passing rows down to their lists, list l to counts[l + 1]: those of about every |stride|th
 * word. Returns the share of them that was. */
static float
count_lists(const rk__cluster_search_state *s, uint32_t *counts, size_t stride)
{
    const rk__cluster *c = s->cluster;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t rows[SELECT_WORDS * 64 + 16];
    uint64_t state = 1;
    size_t sampled = 0;

    for (size_t w = 0; w < n_words;) {
        size_t n = 0;
        if (stride == 1) {
            n = next_rows(s, &w, rows);
        } else { /* any word of the next |stride|, so that no period of a filter can hide */
            size_t any = w + (size_t)(rk__random(&state) % stride);
            n = any >= n_words ? 0
                               : rk__kernels_get()->select(s->options->filter->words + any, 1,
                                                           (uint32_t)(any * 64), rows);
            w += stride;
        }
        sampled += n;
        for (size_t i = 0; i < n; i++) {
            uint32_t l = list_of(c, rows[i]);
            if (l < c->info.nlist) {
                counts[l + 1]++;
            }
        }
    }
    return stride == 1 ? 1 : (float)sampled / (float)s->options->filter_count;
}

/* Whether it costs less than the |tests| that it spares; nanoseconds. */
static bool
order_pays(const rk__cluster_search_state *s, float tests)
{
    return (float)s->options->filter_count * ORDER_COST <= tests + probing_cost(s) / 2;
}

bool
rk__cluster_wants_order(const rk__cluster_search_state *s)
{
    return !s->starts && (float)s->passing < ORDER_RATE * (float)s->tested &&
           order_pays(s, ORDER_NEAR);
}

void
rk__cluster_order(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    uint32_t nlist = c->info.nlist;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t rows[SELECT_WORDS * 64 + 16];
    uint32_t *starts = RK_ARENA_ARRAY(s->options->arena, uint32_t, (size_t)nlist + 1);
    uint32_t *places = NULL;
    uint32_t total = 0;

    if (!starts) {
        s->no_memory = true;
        return;
    }
    (void)count_lists(s, starts, 1);
    for (uint32_t l = 0; l < nlist; l++) { /* where its next row goes; in the end, its end */
        uint32_t count = starts[l + 1];
        starts[l + 1] = total;
        total += count;
    }
    places = rk_arena_alloc(s->options->arena, ((size_t)total + 1) * sizeof(*places));
    if (!places) {
        s->no_memory = true;
        return;
    }
    for (size_t w = 0; w < n_words;) {
        size_t n = next_rows(s, &w, rows);
        for (size_t i = 0; i < n; i++) {
            uint32_t l = list_of(c, rows[i]);
            if (l < nlist) {
                places[starts[l + 1]++] = c->place[rows[i]];
            }
        }
    }
    s->starts = starts;
    s->places = places;
}

/* ---- a list ---- */

/* Rows of a list, tested and counted over its blocks. */
typedef struct list_count {
    uint32_t blocks;
    uint32_t rows;
    uint32_t passing;
    uint32_t survived;
} list_count;

/* Bits of the |n| last rows, behind which there is nothing to read. */
static uint32_t
last_bits(const rk__cluster_search_state *s, uint32_t from, uint32_t n)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < n; i++) {
        bits |= (uint32_t)rk__cluster_passes(s, s->cluster->row_of[from + i]) << i;
    }
    return bits;
}

/* Bits of the |n| rows from place |from| on that pass. */
static inline uint32_t
filter_bits(const rk__cluster_search_state *s, rk__test32_fn test, uint32_t from, uint32_t n)
{
    const rk__cluster *c = s->cluster;

    if (c->rows - from < RK__BITS_ROWS) {
        return last_bits(s, from, n);
    }
    uint32_t bits = test(s->options->filter->words, (uint32_t)c->rows, c->row_of + from);
    return n < RK__BITS_ROWS ? bits & ((UINT32_C(1) << n) - 1) : bits;
}

/* The bits of the |n| rows from place |from| on, of a list whose passing rows are known. */
static inline uint32_t
known_bits(const rk__cluster_search_state *s, uint32_t *next, uint32_t last, uint32_t from,
           uint32_t n)
{
    uint32_t bits = 0;

    for (; *next < last && s->places[*next] - from < n; (*next)++) {
        bits |= UINT32_C(1) << (s->places[*next] - from);
    }
    return bits;
}

/* Where more than a few rows survive a scan, or few pass, testing comes first. */
static void
choose_order(rk__cluster_search_state *s, const list_count *n)
{
    float blocks = (float)RK_MAX(n->blocks, 1u);
    float rate = n->rows > 0 ? (float)n->passing / (float)n->rows : 0;
    float survived = (float)n->survived / blocks;

    if (!s->scan_first) { /* only passing rows could survive */
        s->scan_first = rate > SCAN_RATE && survived / rate < SURVIVORS;
    } else {
        s->scan_first = survived < SURVIVORS;
    }
}

/* What a list that was visited tells about the filter. */
static void
note_list(rk__cluster_search_state *s, const rk__cluster_item *list, const list_count *count)
{
    bool known = count->rows > 0; /* or only those of its rows that survived a scan */

    if ((count->passing > 0 || !known) && s->held++ == 0) {
        s->held_key = list->key;
    }
    s->empty += known && count->passing == 0;
    s->tested += count->rows;
    s->passing += known ? count->passing : 0;
}

/* Scores the known rows of a list by their records where that costs less than a scan. */
static bool
score_known(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    uint32_t at = s->starts[list->at];
    uint32_t end = s->starts[list->at + 1];
    uint32_t blocks = c->first_block[list->at + 1] - c->first_block[list->at];
    list_count count = {.rows = c->first_row[list->at + 1] - c->first_row[list->at],
                        .passing = end - at};

    if ((float)(end - at) * record_cost(c) > 1.3f * (float)blocks * block_cost(c)) {
        return false;
    }
    for (; at < end; at++) {
        rk__cluster_wait(s, -INFINITY, list->key, s->places[at]);
    }
    note_list(s, list, &count);
    return true;
}

void
rk__cluster_filtered_list(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    const rk__kernels *kernels = rk__kernels_get();
    size_t groups = rk__bits_groups(c->space.padded);
    size_t codes = rk__cluster_codes_bytes(&c->space);
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    const uint8_t *block = c->blocks + (size_t)c->first_block[list->at] * c->block_bytes;
    float margin = rk__cluster_margin(s, list->at, list->key);
    bool all = s->counted && s->exact && list->est >= (float)(end - from);
    bool known = s->starts && !all;
    bool after = !all && !known && s->scan_first && s->threshold != RK__CLUSTER_NEVER;
    uint32_t next = known ? s->starts[list->at] : 0;
    uint32_t last = known ? s->starts[list->at + 1] : 0;
    bool first = s->counted && !after;
    list_count count = {0};

    if (known && score_known(s, list)) {
        return;
    }
    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        const float *add = (const float *)(const void *)(block + codes);
        float est[RK__BITS_ROWS];
        uint32_t n = RK_MIN(end - from, RK__BITS_ROWS);
        uint32_t may = n == 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
        if (known) {
            may = known_bits(s, &next, last, from, n);
        } else if (!after && !all) {
            may = filter_bits(s, kernels->test32, from, n);
        }
        count.blocks++;
        count.rows += after ? 0 : n;
        count.passing += after ? 0 : count_bits(may);
        if (!may) {
            continue;
        }
        uint32_t mask =
            may & kernels->scan32_low(s->coded.bits.lut, block, groups, add, add + RK__BITS_ROWS,
                                      s->coded.bits.unit, s->coded.bits.bias, list->key,
                                      s->threshold + margin, est);
        for (uint32_t i = 0; first && may && i < LEARN_ROWS; may &= may - 1, i++) {
            rk__cluster_learn(s, list->at, est[__builtin_ctz(may)] - list->key, list->key);
        }
        first = false;
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            count.survived++;
            if (!after || rk__cluster_passes(s, c->row_of[from + i])) {
                rk__cluster_wait(s, est[i] - margin, list->key, from + i);
                count.passing += after;
            }
        }
    }
    note_list(s, list, &count);
    if (!s->counted && !known) {
        choose_order(s, &count);
    }
}

/* ---- counted lists ---- */

bool
rk__cluster_is_apart(const rk__cluster_search_state *s)
{
    float expected = (float)s->tested * s->share;
    float visited = (float)RK_MAX(s->held + s->empty, 1u);
    float least = RK_MAX(APART_SHARE, 0.8f * s->share);

    return (float)s->passing < RK_MIN(least * expected, expected - 3 * sqrtf(expected)) ||
           (float)s->empty >= EMPTY_LISTS + 2 * visited * expf(-expected / visited);
}

/* e^x, to a few percent; x in -80..80. */
static inline float
exp_about(float x)
{
    int32_t bits = (int32_t)(x * 12102203.0f) + 1064866805;
    float out;

    memcpy(&out, &bits, sizeof(out));
    return out;
}

/* Where the rows of a list lie between it and the query, as seen in this search. */
typedef struct bearing {
    float mean;
    float inverse; /* 1 / deviation */
} bearing;

static bearing
bearing_of(const rk__cluster_search_state *s)
{
    float n = (float)RK_MAX(s->seen, 1u);
    float mean = s->sum / n;
    float variance = s->squares / n - mean * mean;

    return (bearing){mean, 1 / sqrtf(RK_MAX(variance, 1e-6f))};
}

/* P(a row of the list is nearer than the threshold). */
static inline float
chance(const rk__cluster_search_state *s, const bearing *b, const rk__cluster_item *list)
{
    float radius = s->radius_of * s->cluster->spread[list->at];
    float mean = s->cluster->space.ip ? 0 : radius * radius;
    float across = rk__cluster_across(s, radius, list->key);
    float z = ((s->threshold - list->key - mean) / (across + 1e-30f) - b->mean) * b->inverse;

    if (!(z < 4)) {
        return 1;
    }
    if (s->cluster->space.ip) { /* lengths differ: a heavier tail */
        return 1 / (1 + exp_about(RK_MIN(-1.5f * z, 60.0f)));
    }
    return z < -6 ? 0 : 1 / (1 + exp_about(-z * (1.5976f + 0.07056f * z * z)));
}

/* Whether |items|, |est| of each being its passing rows, can be expected to give less than |few|
 * hits. */
static bool
give_less(const rk__cluster_search_state *s, const bearing *b, const rk__cluster_item *items,
          uint32_t n, float few)
{
    float sum = 0;

    for (uint32_t i = 0; i < n && sum < few; i++) {
        sum += items[i].est * chance(s, b, &items[i]);
    }
    return sum < few;
}

/* The radius of a list follows from its spread, but for a factor that is of the whole index. */
static float
radius_of_spread(const rk__cluster *c)
{
    double squares = 0;

    for (uint32_t l = 0; l < c->info.nlist; l++) {
        uint32_t rows = c->first_row[l + 1] - c->first_row[l];
        squares += (double)rows * (double)(c->spread[l] * c->spread[l]);
    }
    squares /= (double)RK_MAX(c->rows - c->info.loose, (size_t)1);
    return squares > 0 && isfinite(squares) ? c->info.radius / (float)sqrt(squares) : 0;
}

/* The lists that hold passing rows, or may, nearest first, each with how many; NULL: no memory. */
static rk__cluster_item *
counted_lists(rk__cluster_search_state *s, uint32_t from, uint32_t *n)
{
    const rk__cluster *c = s->cluster;
    uint32_t nlist = c->info.nlist;
    uint32_t *counts = RK_ARENA_ARRAY(s->options->arena, uint32_t, (size_t)nlist + 1);
    rk__cluster_item *items = rk_arena_alloc(s->options->arena, nlist * sizeof(*items));
    rk__cluster_item *sorted = rk_arena_alloc(s->options->arena, nlist * sizeof(*items));
    size_t stride = RK_MAX(s->options->filter_count / COUNT_ROWS, (size_t)1);
    float taken = 1;
    uint32_t single = 0;
    uint32_t none = 0;

    if (!counts || !items || !sorted) {
        s->no_memory = true;
        return NULL;
    }
    if (!s->starts && order_pays(s, ORDER_APART)) {
        rk__cluster_order(s);
        if (s->no_memory) {
            return NULL;
        }
    }
    for (uint32_t l = 0; s->starts && l < nlist; l++) {
        counts[l + 1] = s->starts[l + 1] - s->starts[l];
    }
    if (!s->starts) {
        taken = count_lists(s, counts, stride);
    }
    s->exact = s->starts || stride == 1;
    for (uint32_t i = 0; i < from; i++) {
        counts[s->lists.items[i].at + 1] = UINT32_MAX;
    }
    for (uint32_t l = 0; l < nlist; l++) {
        single += counts[l + 1] == 1;
        none += counts[l + 1] == 0;
    }
    float unseen = !s->exact && none > 0 ? (float)single / taken / (float)none : 0;
    *n = 0;
    for (uint32_t l = 0; l < nlist; l++) {
        if (counts[l + 1] != UINT32_MAX && (counts[l + 1] > 0 || unseen > 0)) {
            items[(*n)++] = (rk__cluster_item){0, 0, l};
        }
    }
    rk__cluster_lists_key(&s->lists, items, *n);
    rk__cluster_lists_order(items, *n, sorted);
    for (uint32_t i = 0; i < *n; i++) {
        uint32_t count = counts[sorted[i].at + 1];
        sorted[i].est = count > 0 ? (float)count / taken : unseen;
    }
    return sorted;
}

void
rk__cluster_probe_counted(rk__cluster_search_state *s, uint32_t from)
{
    uint32_t n = 0;
    rk__cluster_item *items = counted_lists(s, from, &n);
    float missed = 1 - RK_MIN(s->effort.recall, 0.9999f);
    float epsilon = EPSILON_TIMES * sqrtf(2 * logf(1 / missed));
    uint32_t check = 0;

    if (!items) {
        return;
    }
    s->counted = true;
    s->radius_of = radius_of_spread(s->cluster);
    epsilon *= s->cluster->space.ip ? 2 : 1; /* what is not in the code is longer for long rows */
    s->effort.epsilon = RK_MAX(s->effort.epsilon, epsilon);
    for (uint32_t i = 0; i < n && !s->no_memory; i++) {
        if (s->threshold != RK__CLUSTER_NEVER && s->held >= s->effort.least &&
            s->seen >= SEEN_ENOUGH) {
            bearing b = bearing_of(s);
            float few =
                (s->cluster->space.ip ? BUDGET_IP : BUDGET) * missed * (float)RK_MAX(s->near.n, 1u);
            if (i >= check && give_less(s, &b, items + i, n - i, few)) {
                break;
            }
            check = i >= check ? i + CHECK_EVERY + i / 8 : check;
            if (items[i].est * chance(s, &b, &items[i]) * 4 * (float)(n - i) < few) {
                continue;
            }
        }
        rk__cluster_filtered_list(s, &items[i]);
        if (s->n_waiting >= FLUSH_FROM || s->threshold == RK__CLUSTER_NEVER) {
            rk__cluster_flush(s);
        }
    }
    rk__cluster_flush(s);
}
