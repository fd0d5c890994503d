/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a filter changes in a search of clusters, see cluster/search.c.
 *
 * Nothing is done for all rows at first. The lists are visited as without a filter; the bits of a
 * list's rows are gathered as it is visited, so blocks without a passing row are not scanned, or,
 * where most rows pass and few survive a scan, after it. Blocks wait until those of the next list
 * are known, on their way into the cache. When very few rows pass in all, they are scored by their
 * records one by one; when few pass, near the query too, the filter is put into the order of the
 * places, and a list costs little more than its passing rows.
 *
 * A filter that was put in order before (cluster/ordered.c) is read by place from the first list
 * on. After the first stage, which tells whether what passes lies apart, lists without a passing
 * row are not given; of packed ones the codes of the passing rows alone are scanned, and few blocks
 * of some as they are, for the share that passes near the query. Where the lists in which rows pass
 * are few, all are visited.
 *
 * Lists are chosen by code, so the last of a stage may be farther than some of the next: a search
 * ends within a stage only when at least half of it lies too far out (cluster/reach.c).
 */
#include "index/cluster/search.h"

#define SELECT_WORDS  32u
#define FIRST_TIMES   2u          /* lists are looked up than without a filter */
#define LOOK_LISTS    4u          /* visited before it is asked whether few pass here */
#define MAP_COST      4.0f        /* nanoseconds for a passing row */
#define MAP_RATE      (1.0f / 16) /* where more of those near the query pass, no map is made */
#define MAP_NEAR      1.5f  /* as many lists as without a filter are visited near the query, */
#define MAP_APART     7.0f  /* and so many where what passes lies apart */
#define TEST_COST     12.0f /* for a block */
#define FEW_FIXED     0.5f /* of the cost of a search without a filter: what is the same for all, */
#define FEW_PROBING   1.5f /* and its probing; so much may scoring all that pass cost */
#define FEW_PACKED    0.5f /* the same where codes are packed, of a scan of all of them */
#define WHOLE         0.5f /* of a search without a filter: so much may a scan of all cost */
#define WHOLE_EPSILON 0.85f /* of that for rows that lie apart, as they may: no list is missed */
#define LIST_COST     12.0f /* to give a list */
#define COLD          1.3f  /* times its cost, for a block that is not in the cache */
#define FETCH_BYTES   1024u /* of a block, when it waits */
#define FETCH_LISTS   4u
#define SCAN_RATE     (1.0f / 16)
#define SCAN_ORDERED  0.5f /* the same, where testing costs next to nothing */
#define SAMPLE_ROWS                                                                                \
    32.0f                  /* near the query tell which share passes there; seen again in one list \
                            */
#define SAMPLE_LISTS  16u  /* of so many */
#define SAMPLE_BLOCKS 4u   /* of it, at most */
#define SURVIVORS     6.0f /* of a block: with more, a filter is tested first */

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
    return c->records ? 12 + 0.025f * (float)c->space.reduced : 20 + 0.1f * (float)c->space.dim;
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

/* Scores what passes by record, from a filter in order. */
static void
score_ordered(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;

    rk__cluster_lists_without(&s->lists, s->ordered->empty);
    if (!s->lists.seen || !rk__cluster_lists_next(&s->lists, c->info.nlist, false)) {
        return;
    }
    for (uint32_t i = 0; i < s->lists.n && !s->no_memory; i++) {
        const rk__cluster_item *list = &s->lists.items[i];
        uint32_t end = c->first_row[list->at + 1];
        for (uint32_t from = c->first_row[list->at]; from < end; from += 56) {
            uint64_t bits;
            memcpy(&bits, s->map + from / 8, sizeof(bits));
            bits = bits >> from % 8 & ((UINT64_C(1) << RK_MIN(end - from, 56u)) - 1);
            for (; bits; bits &= bits - 1) {
                rk__cluster_wait(s, -INFINITY, list->key, from + (uint32_t)__builtin_ctzll(bits));
                if (s->n_waiting == 3 * RK__CLUSTER_BATCH) {
                    rk__cluster_flush(s);
                }
            }
        }
    }
    rk__cluster_flush(s);
}

/* What scoring all that pass may cost, in nanoseconds. */
static float
few_cost(const rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    float fixed = FEW_FIXED * (6000 + 15 * (float)c->space.dim);
    float most = fixed + FEW_PROBING * probing_cost(s);

    if (s->ordered && s->ordered->packed) {
        float blocks = (float)s->ordered->n_blocks;
        most = RK_MIN(most, fixed + FEW_PACKED * blocks * block_cost(c));
    }
    return most;
}

bool
rk__cluster_few(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t finite = (uint32_t)c->rows - c->info.loose;
    uint32_t rows[SELECT_WORDS * 64 + 16];

    if ((float)s->options->filter_count * record_cost(c) > few_cost(s)) {
        return false;
    }
    if (s->ordered) {
        score_ordered(s);
        return true;
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

/* ---- the filter in the order of the lists ---- */

/* After some lists: few rows pass here, and in all so few that a map costs less than the tests it
 * spares: those of as many lists as are visited without a filter, more where they are apart. */
static bool
wants_map(const rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    float lists = (float)s->effort.first * (s->apart ? MAP_APART : MAP_NEAR);
    float tests = lists * (float)c->info.blocks / (float)c->info.nlist * TEST_COST;

    return (float)s->passing < MAP_RATE * (float)s->tested &&
           (float)s->options->filter_count * MAP_COST <= tests;
}

/* Whether |map| has a bit of the rows of a list. */
static bool
holds_any(const rk__cluster *c, const uint8_t *map, uint32_t list)
{
    uint32_t from = c->first_row[list];
    uint32_t end = c->first_row[list + 1];
    uint64_t any = 0;

    for (; from < end; from += 56) {
        uint64_t bits;
        memcpy(&bits, map + from / 8, sizeof(bits));
        any |= bits >> from % 8 & ((UINT64_C(1) << RK_MIN(end - from, 56u)) - 1);
    }
    return any != 0;
}

/* Bits of the filter by place; lists without one are not given any more. */
static void
make_map(rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t finite = (uint32_t)c->rows - c->info.loose;
    uint32_t rows[SELECT_WORDS * 64 + 16];
    uint64_t *map = RK_ARENA_ARRAY(s->options->arena, uint64_t, n_words + 1);

    if (!map) {
        s->no_memory = true;
        return;
    }
    for (size_t w = 0; w < n_words;) {
        size_t n = next_rows(s, &w, rows);
        for (size_t i = 0; i < n; i++) {
            uint32_t at = rows[i] < c->rows ? c->place[rows[i]] : finite;
            if (at < finite) {
                map[at / 64] |= UINT64_C(1) << at % 64;
            }
        }
    }
    s->map = (const uint8_t *)map;
    uint32_t *none = RK_ARENA_ARRAY(s->options->arena, uint32_t, (c->info.nlist + 31) / 32);
    for (uint32_t l = 0; none && l < c->info.nlist; l++) {
        uint32_t bit = UINT32_C(1) << l % 32;
        if (!(s->lists.seen[l / 32] & bit) && !holds_any(c, s->map, l)) {
            none[l / 32] |= bit;
        }
    }
    if (none) { /* else they are visited in vain */
        rk__cluster_lists_without(&s->lists, none);
    }
}

/* ---- a list ---- */

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

/* Bits of the 32 rows from place |from| on, by the map. */
static inline uint32_t
map_bits(const rk__cluster_search_state *s, uint32_t from)
{
    uint64_t bits;

    memcpy(&bits, s->map + from / 8, sizeof(bits));
    return (uint32_t)(bits >> from % 8);
}

/* Bits of the 32 rows from place |from| on, or of the |n| last, that pass. */
static inline uint32_t
filter_bits(const rk__cluster_search_state *s, rk__test32_fn test, uint32_t from, uint32_t n)
{
    const rk__cluster *c = s->cluster;

    if (s->map) {
        return map_bits(s, from);
    }
    if (c->rows - from < RK__BITS_ROWS) {
        return last_bits(s, from, n);
    }
    return test(s->options->filter->words, (uint32_t)c->rows, c->row_of + from);
}

/* Which share passes of the rows that may be among the nearest: |rows| of them were let through by
 * their estimates. */
static inline void
note_near(rk__cluster_search_state *s, float rows, uint32_t passing)
{
    if (s->threshold == RK__CLUSTER_NEVER) {
        return;
    }
    s->near_rows += rows;
    s->near_passing += (float)passing;
    if (s->near_rows > RK__CLUSTER_SAMPLE) {
        s->near_rows /= 2;
        s->near_passing /= 2;
    }
}

/* Scans the first |n| of the blocks that wait. */
static void
scan_pending(rk__cluster_search_state *s, uint32_t n)
{
    const rk__cluster *c = s->cluster;
    uint32_t by_record = (uint32_t)(COLD * block_cost(c) / record_cost(c));
    uint32_t survived = 0;

    for (uint32_t b = 0; b < n; b++) {
        const rk__cluster_pending *p = &s->pending[b];
        const uint8_t *block = c->blocks + (size_t)p->block * c->block_bytes;
        float est[RK__BITS_ROWS];
        uint32_t may = p->may;
        if (count_bits(may) <= by_record) {
            for (; may; may &= may - 1) {
                rk__cluster_wait(s, -INFINITY, p->key, p->from + (uint32_t)__builtin_ctz(may));
            }
            continue;
        }
        const rk__cluster_scan block_scan = rk__cluster_scan_of(s, p->list, p->key);
        uint32_t mask = rk__cluster_scan_block(&block_scan, block, RK__BITS_ROWS, est);
        if (mask != 0) { /* for the blocks of the list that were not scanned, too */
            note_near(s, p->of_blocks * (float)count_bits(mask & p->rows), count_bits(mask & may));
        }
        mask &= may;
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            survived++;
            rk__cluster_wait(s, rk__cluster_lower(&block_scan, est[i]), p->key, p->from + i);
        }
    }
    if (n > 0) {
        s->survived = (float)survived / (float)n;
    }
    s->n_pending -= n;
    memmove(s->pending, s->pending + n, s->n_pending * sizeof(*s->pending));
}

/* Where more than a few rows survive a scan, or few pass, testing comes first. */
static bool
scan_comes_first(const rk__cluster_search_state *s)
{
    float least = s->ordered ? SCAN_ORDERED : SCAN_RATE;

    return (!s->map || s->ordered) && s->threshold != RK__CLUSTER_NEVER && s->rate > least &&
           s->survived < SURVIVORS * (s->scan_first ? 1 : s->rate);
}

/* Scans a list and tests what survives. */
static void
scan_untested(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    const rk__cluster_scan list_scan = rk__cluster_scan_of(s, list->at, list->key);
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    uint32_t blocks = c->first_block[list->at + 1] - c->first_block[list->at];
    const uint8_t *block = c->blocks + (size_t)c->first_block[list->at] * c->block_bytes;
    uint32_t survived = 0;
    uint32_t passing = 0;

    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        float est[RK__BITS_ROWS];
        uint32_t mask = rk__cluster_scan_block(&list_scan, block, end - from, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            survived++;
            if (rk__cluster_passes(s, c->row_of[from + i])) {
                passing++;
                rk__cluster_wait(s, rk__cluster_lower(&list_scan, est[i]), list->key, from + i);
            }
        }
    }
    note_near(s, (float)survived, passing);
    s->survived = blocks > 0 ? (float)survived / (float)blocks : s->survived;
}

/* A list of which is known how many pass was visited. */
static void
note_list(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const uint32_t *first = s->ordered->first + list->at;

    if (s->held++ == 0) {
        s->held_key = list->key;
    }
    s->passing += first[1] - first[0];
    s->tested += s->cluster->first_row[list->at + 1] - s->cluster->first_row[list->at];
}

/* Scans the passing rows of a list, packed. */
static void
visit_packed(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    const rk__ordered *o = s->ordered;
    uint32_t left = o->first[list->at + 1] - o->first[list->at];
    const uint8_t *block = o->blocks + (size_t)o->first_block[list->at] * c->block_bytes;
    const uint32_t *places = o->places + (size_t)o->first_block[list->at] * RK__BITS_ROWS;
    const rk__cluster_scan list_scan = rk__cluster_scan_of(s, list->at, list->key);

    while (left > 0) {
        float est[RK__BITS_ROWS];
        uint32_t n = RK_MIN(left, RK__BITS_ROWS);
        uint32_t mask = rk__cluster_scan_block(&list_scan, block, n, est);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            rk__cluster_wait(s, rk__cluster_lower(&list_scan, est[i]), list->key, places[i]);
        }
        left -= n;
        block += c->block_bytes;
        places += RK__BITS_ROWS;
    }
    note_list(s, list);
}

/* Scans a list of which so many rows pass that it was not packed. */
static void
visit_unpacked(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    const rk__cluster_scan list_scan = rk__cluster_scan_of(s, list->at, list->key);
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    const uint8_t *block = c->blocks + (size_t)c->first_block[list->at] * c->block_bytes;
    uint32_t survived = 0;
    uint32_t passing = 0;

    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        float est[RK__BITS_ROWS];
        uint32_t mask = rk__cluster_scan_block(&list_scan, block, end - from, est);
        survived += count_bits(mask);
        mask &= map_bits(s, from);
        passing += count_bits(mask);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            rk__cluster_wait(s, rk__cluster_lower(&list_scan, est[i]), list->key, from + i);
        }
    }
    if (survived > 0) {
        note_near(s, (float)survived, passing);
    }
    note_list(s, list);
}

/* Asks for what is read next of the lists to come. */
static inline void
fetch_packed(const rk__cluster_search_state *s, const rk__cluster_item *lists, uint32_t n)
{
    const rk__cluster *c = s->cluster;
    const rk__ordered *o = s->ordered;
    uint32_t next = lists[0].at;

    rk__fetch(&o->first[lists[n - 1].at], 1);
    rk__fetch(&o->first_block[lists[n - 1].at], 1);
    if (o->first_block[next] < o->first_block[next + 1]) {
        rk__fetch(o->blocks + (size_t)o->first_block[next] * c->block_bytes, FETCH_BYTES);
        rk__fetch(&o->places[(size_t)o->first_block[next] * RK__BITS_ROWS], 64);
    } else if (o->first[next] < o->first[next + 1]) {
        rk__fetch(c->blocks + (size_t)c->first_block[next] * c->block_bytes, FETCH_BYTES);
    }
}

/* Which share passes near the query is not seen in lists of what passes: some are looked at as they
 * are, in a few blocks from all over them. */
static bool
wants_sample(const rk__cluster_search_state *s)
{
    return !s->whole && !s->limit && s->threshold != RK__CLUSTER_NEVER &&
           (s->near_rows < SAMPLE_ROWS || s->held % SAMPLE_LISTS == 0);
}

/* The block of a list that is the |i|-th of |looks| to be looked at. */
static inline uint32_t
sample_block(const rk__cluster *c, uint32_t list, uint32_t i, uint32_t looks)
{
    uint32_t blocks = c->first_block[list + 1] - c->first_block[list];

    return (uint32_t)((uint64_t)i * blocks / looks);
}

static inline uint32_t
sample_looks(const rk__cluster *c, uint32_t list)
{
    return RK_MIN(c->first_block[list + 1] - c->first_block[list], SAMPLE_BLOCKS);
}

static void
fetch_sample(const rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    uint32_t looks = sample_looks(c, list->at);

    for (uint32_t i = 0; i < looks; i++) {
        size_t block = c->first_block[list->at] + sample_block(c, list->at, i, looks);
        rk__fetch_early(c->blocks + block * c->block_bytes,
                        RK_MIN(c->block_bytes, (size_t)FETCH_BYTES));
    }
}

static void
sample_list(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    uint32_t looks = sample_looks(c, list->at);
    uint32_t end = c->first_row[list->at + 1];
    const rk__cluster_scan list_scan = rk__cluster_scan_of(s, list->at, list->key);

    for (uint32_t i = 0; i < looks; i++) {
        uint32_t b = sample_block(c, list->at, i, looks);
        uint32_t from = c->first_row[list->at] + b * RK__BITS_ROWS;
        uint32_t n = RK_MIN(end - from, RK__BITS_ROWS);
        const uint8_t *block = c->blocks + (size_t)(c->first_block[list->at] + b) * c->block_bytes;
        float est[RK__BITS_ROWS];
        uint32_t rows = rk__cluster_scan_block(&list_scan, block, n, est);
        note_near(s, (float)count_bits(rows), count_bits(rows & map_bits(s, from)));
    }
}

static void
visit_list(rk__cluster_search_state *s, const rk__cluster_item *list)
{
    const rk__cluster *c = s->cluster;
    rk__test32_fn test = rk__kernels_get()->test32;
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    uint32_t block = c->first_block[list->at];
    uint32_t rows = end - from;
    uint32_t before = s->n_pending;
    uint32_t passing = 0;
    uint32_t held = 0;

    if (s->ordered ? s->ordered->first[list->at] == s->ordered->first[list->at + 1]
                   : s->map && !holds_any(c, s->map, list->at)) {
        s->tested += rows;
        s->empty++;
        return;
    }
    if (s->ordered && s->ordered->packed) {
        if (s->ordered->first_block[list->at] == s->ordered->first_block[list->at + 1]) {
            visit_unpacked(s, list);
        } else if (wants_sample(s)) {
            fetch_sample(s, list);
            visit_packed(s, list);
            sample_list(s, list);
        } else {
            visit_packed(s, list);
        }
        return;
    }
    s->scan_first = scan_comes_first(s);
    if (s->scan_first) {
        scan_pending(s, s->n_pending);
        scan_untested(s, list);
        s->held++;
        return;
    }
    for (; from < end; from += RK__BITS_ROWS, block++) {
        uint32_t n = RK_MIN(end - from, RK__BITS_ROWS);
        uint32_t may = n == 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
        uint32_t all = may;
        may &= filter_bits(s, test, from, n);
        passing += count_bits(may);
        if (s->n_pending == RK__CLUSTER_PENDING) {
            scan_pending(s, s->n_pending);
            before = 0;
        }
        s->pending[s->n_pending] = (rk__cluster_pending){.from = from,
                                                         .block = block,
                                                         .may = may,
                                                         .rows = all,
                                                         .list = list->at,
                                                         .key = list->key};
        held += may != 0;
        s->n_pending += may != 0; /* no branch to guess wrong */
    }
    uint32_t blocks = block - c->first_block[list->at];
    for (uint32_t i = before; i < s->n_pending; i++) {
        s->pending[i].of_blocks = (float)blocks / (float)held;
        if (i == before || s->pending[i].block != s->pending[i - 1].block + 1) {
            rk__fetch(c->blocks + (size_t)s->pending[i].block * c->block_bytes,
                      RK_MIN(c->block_bytes, (size_t)FETCH_BYTES));
        }
    }
    if (passing > 0 && s->held++ == 0) {
        s->held_key = list->key;
    }
    s->empty += passing == 0;
    s->passing += passing;
    s->tested += rows;
    s->rate = (float)passing / (float)RK_MAX(rows, 1u);
    scan_pending(s, s->threshold == RK__CLUSTER_NEVER ? s->n_pending : before);
}

/* ---- the whole ---- */

/* Whether the lists in which rows pass are so few, and what passes of them, that all are visited.
 */
static bool
is_whole(const rk__cluster_search_state *s)
{
    const rk__cluster *c = s->cluster;
    float lists = (float)(c->info.nlist - (s->ordered ? s->ordered->n_empty : 0));

    if (!s->ordered || !s->ordered->packed || s->effort.trace) {
        return false;
    }
    return lists * LIST_COST + (float)s->ordered->n_blocks * block_cost(c) <=
           WHOLE * (6000 + 15 * (float)c->space.dim + probing_cost(s));
}

void
rk__cluster_probe_filtered(rk__cluster_search_state *s)
{
    rk__cluster_lists *lists = &s->lists;
    float nearest = INFINITY;
    uint32_t probed = 0;
    uint32_t i = 0;

    lists->stage = FIRST_TIMES * s->effort.first;
    s->whole = is_whole(s);
    if (s->ordered && !s->range.on && (!s->whole || s->effort.most_around > 0)) {
        rk__cluster_survey(s);
        if (s->left) {
            return;
        }
    }
    if (s->whole) {
        rk__cluster_lists_without(lists, s->ordered->empty);
        lists->stage = s->cluster->info.nlist;
        s->effort.epsilon = RK_MAX(s->effort.epsilon, WHOLE_EPSILON * rk__cluster_apart_epsilon(s));
    }
    while (!s->no_memory) {
        if (i == lists->n) {
            if (lists->given > 0 && s->ordered) {
                rk__cluster_lists_without(lists, s->ordered->empty);
            }
            if (!rk__cluster_lists_next(lists, lists->stage, true)) {
                break;
            }
            i = 0;
            nearest = RK_MIN(nearest, lists->items[0].key);
        }
        const rk__cluster_item *list = &lists->items[i++];
        rk__cluster_out out = rk__cluster_lies_out(s, list->key);
        if (!s->whole && s->threshold != RK__CLUSTER_NEVER && s->held >= s->effort.least &&
            rk__cluster_is_far(s, list->key, nearest, out)) {
            if (i <= lists->n / 2 + 1) {
                break;
            }
            i = lists->n; /* chosen by code: some of the next ones may be nearer */
            continue;
        }
        if (i < lists->n && s->ordered && s->ordered->packed) {
            fetch_packed(s, &lists->items[i], RK_MIN(lists->n - i, FETCH_LISTS));
        }
        visit_list(s, list);
        if (s->n_waiting >= (s->map ? 3 : 1) * RK__CLUSTER_BATCH ||
            s->threshold == RK__CLUSTER_NEVER) {
            rk__cluster_flush(s);
        }
        if (s->effort.trace) {
            s->reached.near = RK_MAX(s->reached.near, out.near);
            s->reached.apart = RK_MAX(s->reached.apart, out.apart);
            s->effort.trace->reach[list->at] = s->reached;
            if (s->effort.trace->reached) {
                s->effort.trace->reached[list->at] = (float)(probed + 1);
            }
        }
        if (++probed < LOOK_LISTS || s->whole || s->limit || s->open) {
            continue;
        }
        rk__cluster_look(s);
        if (!s->map && wants_map(s)) {
            make_map(s);
        }
    }
    scan_pending(s, s->n_pending);
    rk__cluster_flush(s);
    if (s->effort.trace) {
        s->effort.trace->kth = rk__cluster_kth(s);
    }
}
