/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which lists a search visits, see cluster/cluster.h. The centres are coded like rows. One pass
 * over their bits names the most promising ones; the records of these give their keys, by which
 * they are visited, in buckets: the exact order does not matter.
 *
 * Lists come in stages, since most queries need few and some need many: the first stage is what
 * most queries need, each later one four times larger, without those that were given before. Where
 * a stage would be a good part of all lists, it is all of them and no code is read.
 */
#include "index/cluster/cluster.h"

#define BATCH   16u
#define BUCKETS 256u
#define GROWTH  4u

#define SAMPLE 24u

/* An item near the |share| quantile of |n|: that of a sample, found by counting, which guesses no
 * branch wrong. */
static float
pivot_of(const rk__cluster_item *items, uint32_t n, double share)
{
    float sample[SAMPLE];
    int32_t at = (int32_t)(share * SAMPLE);
    float pivot = 0;

    for (uint32_t i = 0; i < SAMPLE; i++) {
        sample[i] = items[(uint32_t)((uint64_t)i * n / SAMPLE)].est;
    }
    at = RK_MIN(at, (int32_t)SAMPLE - 1);
    for (uint32_t i = 0; i < SAMPLE; i++) {
        int32_t less = 0;
        int32_t more = 0;
        for (uint32_t j = 0; j < SAMPLE; j++) {
            less += sample[j] < sample[i];
            more += sample[j] > sample[i];
        }
        pivot = less <= at && at < (int32_t)SAMPLE - more ? sample[i] : pivot;
    }
    return pivot;
}

uint32_t
rk__cluster_select(rk__cluster_item *items, uint32_t n, uint32_t k)
{
    uint32_t low = 0; /* all before are among the smallest, all from |high| on are not */
    uint32_t high = n;
    uint32_t most = k + k / 4 + 8;

    for (unsigned round = 0; round < 16 && high > most && low < k; round++) {
        double share = ((double)(k - low) + (double)(most - k) / 2) / (double)(high - low);
        float pivot = pivot_of(items + low, high - low, share);
        uint32_t cut = low;
        for (uint32_t i = low; i < high; i++) { /* no branch to guess wrong */
            rk__cluster_item item = items[i];
            items[i] = items[cut];
            items[cut] = item;
            cut += item.est <= pivot;
        }
        if (cut >= k) {
            if (cut == high) {
                break; /* all the same */
            }
            high = cut;
        } else {
            low = cut;
        }
    }
    return high;
}

void
rk__cluster_lists_key(const rk__cluster_lists *lists, rk__cluster_item *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += BATCH) {
        uint32_t at[BATCH] = {0};
        float score[BATCH];
        uint32_t m = RK_MIN(n - i, BATCH);
        for (uint32_t j = 0; j < m; j++) {
            at[j] = items[i + j].at;
        }
        rk__cluster_score(&lists->cluster->space, lists->query, lists->cluster->centre_records, at,
                          m, score);
        for (uint32_t j = 0; j < m; j++) {
            items[i + j].est = lists->base + score[j];
            items[i + j].key = items[i + j].est;
        }
    }
}

static uint32_t
bucket_of(float key, float low, float scale)
{
    float at = (key - low) * scale;

    return at >= 0 && at < (float)BUCKETS ? (uint32_t)at : 0;
}

void
rk__cluster_lists_order(const rk__cluster_item *from, uint32_t n, rk__cluster_item *to)
{
    uint32_t starts[BUCKETS + 1] = {0};
    float low = INFINITY;
    float high = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        low = from[i].key < low ? from[i].key : low;
        high = from[i].key > high ? from[i].key : high;
    }
    float scale = high > low ? ((float)BUCKETS - 0.5f) / (high - low) : 0;
    if (!isfinite(scale)) {
        scale = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        starts[bucket_of(from[i].key, low, scale) + 1]++;
    }
    for (uint32_t i = 0; i < BUCKETS; i++) {
        starts[i + 1] += starts[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        to[starts[bucket_of(from[i].key, low, scale)]++] = from[i];
    }
}

/* ---- estimates of all lists ---- */

#define SAMPLE_LISTS 256u /* tell about where the nearest end */
#define ROUNDS       16u

static inline uint32_t
padded_lists(const rk__cluster *c)
{
    return (c->info.nlist + RK__BITS_ROWS - 1) / RK__BITS_ROWS * RK__BITS_ROWS;
}

/* Those up to |t|. */
static uint32_t
count_to(const float est[SAMPLE_LISTS], float t)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < SAMPLE_LISTS; i++) {
        count += est[i] <= t;
    }
    return count;
}

/* Up to which estimate about |want| of the lists lie that are left, by every so manieth of them. */
static float
edge_of(const rk__cluster_lists *lists, uint32_t want)
{
    uint32_t n = padded_lists(lists->cluster);
    uint32_t step = (n + SAMPLE_LISTS - 1) / SAMPLE_LISTS;
    float at = (float)want / (float)step;
    uint32_t rank = (uint32_t)(at + 0.7f * sqrtf(at)) + 1; /* rather too many than too few */
    float sample[SAMPLE_LISTS];
    float low = INFINITY;
    float high = -INFINITY;

    for (uint32_t i = 0; i < SAMPLE_LISTS; i++) {
        sample[i] = i * step < n ? lists->est[i * step] : INFINITY;
    }
    for (uint32_t i = 0; i < SAMPLE_LISTS; i++) {
        float est = sample[i] < INFINITY ? sample[i] : low;
        low = sample[i] < low ? sample[i] : low;
        high = est > high && est < INFINITY ? est : high;
    }
    for (unsigned round = 0; round < ROUNDS && low < high; round++) {
        float t = low + (high - low) / 2;
        uint32_t count = count_to(sample, t);
        if (count == rank) {
            return t;
        }
        if (count < rank) {
            low = t;
        } else {
            high = t;
        }
    }
    return high;
}

/* Estimates of all lists that were not given, once; INFINITY of the others. */
static bool
estimate_lists(rk__cluster_lists *lists)
{
    const rk__cluster *c = lists->cluster;
    rk__scan32_fn scan = rk__kernels_get()->scan32_low;
    size_t groups = rk__bits_groups(c->space.padded);
    size_t codes = rk__cluster_codes_bytes(&c->space);

    if (lists->est) {
        return true;
    }
    lists->est = rk_arena_alloc(lists->arena, padded_lists(c) * sizeof(float));
    if (!lists->est) {
        lists->no_memory = true;
        return false;
    }
    for (uint32_t from = 0; from < c->info.nlist; from += RK__BITS_ROWS) {
        const uint8_t *block = c->centre_blocks + (size_t)(from / RK__BITS_ROWS) * c->block_bytes;
        const float *add = (const float *)(const void *)(block + codes);
        uint32_t left = c->info.nlist - from;
        uint32_t gone = lists->seen[from / RK__BITS_ROWS];
        gone |= left >= RK__BITS_ROWS ? 0 : ~((UINT32_C(1) << left) - 1);
        (void)scan(lists->query->bits.lut, block, groups, add, add + RK__BITS_ROWS,
                   lists->query->bits.unit, lists->query->bits.bias, 0, INFINITY,
                   lists->est + from);
        for (; gone; gone &= gone - 1) {
            lists->est[from + (uint32_t)__builtin_ctz(gone)] = INFINITY;
        }
    }
    return true;
}

/* The lists whose estimates are up to |edge|, |room| at most, into |at|. */
static uint32_t
lists_to(const rk__cluster_lists *lists, float edge, uint32_t *at, uint32_t room)
{
    uint32_t end = lists->cluster->info.nlist;
    uint32_t n = 0;

    for (uint32_t l = 0; l < end && n < room; l++) {
        at[n] = l; /* no branch to guess wrong */
        n += lists->est[l] <= edge;
    }
    return n;
}

/* About |want| of the most promising lists by code that were not given, |room| at most and all
 * where there are no more, into |items|; marks them. */
static uint32_t
promising_lists(rk__cluster_lists *lists, rk__cluster_item *items, uint32_t want, uint32_t room)
{
    uint32_t *at = rk_arena_alloc(lists->arena, ((size_t)room + 1) * sizeof(*at));
    uint32_t n = 0;

    if (!at || !estimate_lists(lists)) {
        lists->no_memory = true;
        return 0;
    }
    for (uint32_t ask = want; n < want / 2 && ask <= 8 * want; ask *= 2) {
        n = lists_to(lists, edge_of(lists, ask), at, room);
    }
    for (uint32_t i = 0; i < n; i++) {
        lists->seen[at[i] / 32] |= UINT32_C(1) << at[i] % 32;
        lists->est[at[i]] = INFINITY;
        items[i] = (rk__cluster_item){0, 0, at[i]};
    }
    return n;
}

static bool
init_seen(rk__cluster_lists *lists)
{
    if (!lists->seen) {
        lists->seen =
            RK_ARENA_ARRAY(lists->arena, uint32_t, (lists->cluster->info.nlist + 31) / 32);
        lists->no_memory = !lists->seen;
    }
    return lists->seen != NULL;
}

void
rk__cluster_lists_without(rk__cluster_lists *lists, const uint32_t *these)
{
    if (!init_seen(lists) || lists->given == lists->cluster->info.nlist) {
        return;
    }
    for (uint32_t w = 0; w < (lists->cluster->info.nlist + 31) / 32; w++) {
        uint32_t gone = these[w] & ~lists->seen[w];
        lists->given += (uint32_t)__builtin_popcount(gone);
        lists->seen[w] |= gone;
        for (; lists->est && gone; gone &= gone - 1) {
            lists->est[w * 32 + (uint32_t)__builtin_ctz(gone)] = INFINITY;
        }
    }
}

/* Estimates of |n| lists to INFINITY where nothing passes; |first| as in a filter in order. */
static inline void
close_lists(float *est, const uint32_t *first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) { /* no branch to guess wrong */
        est[i] = first[i] == first[i + 1] ? INFINITY : est[i];
    }
}

void
rk__cluster_lists_close(rk__cluster_lists *lists, const rk__ordered *ordered)
{
    uint32_t nlist = lists->cluster->info.nlist;

    for (uint32_t from = 0; from < nlist; from += RK__BITS_ROWS) {
        lists->seen[from / RK__BITS_ROWS] = ordered->empty[from / RK__BITS_ROWS];
        if (nlist - from >= RK__BITS_ROWS) { /* of a fixed length: in vectors */
            close_lists(lists->est + from, ordered->first + from, RK__BITS_ROWS);
        } else {
            close_lists(lists->est + from, ordered->first + from, nlist - from);
        }
    }
    lists->given = ordered->n_empty;
}

bool
rk__cluster_lists_edge(rk__cluster_lists *lists, uint32_t want, float *edge)
{
    if (!init_seen(lists) || !estimate_lists(lists)) {
        return false;
    }
    *edge = edge_of(lists, want);
    return true;
}

bool
rk__cluster_lists_next(rk__cluster_lists *lists, uint32_t want, bool ordered)
{
    uint32_t nlist = lists->cluster->info.nlist;
    uint32_t left = nlist - lists->given;
    rk__cluster_item *items = NULL;
    rk__cluster_item *sorted = NULL;

    if (left == 0) {
        return false;
    }
    want = RK_MAX(want, 16u);
    bool all = want >= left / 3;
    size_t room = all ? left : 2 * (size_t)want + 2 * RK__BITS_ROWS;
    items = rk_arena_alloc(lists->arena, room * sizeof(*items));
    sorted = ordered ? rk_arena_alloc(lists->arena, room * sizeof(*items)) : items;
    if (!items || !sorted || !init_seen(lists)) {
        lists->no_memory = true;
        return false;
    }
    lists->n = 0;
    for (uint32_t w = 0; all && w < (nlist + 31) / 32; w++) {
        uint32_t in_word = RK_MIN(nlist - w * 32, 32u);
        uint32_t bits =
            ~lists->seen[w] & (in_word == 32 ? UINT32_MAX : (UINT32_C(1) << in_word) - 1);
        for (; bits; bits &= bits - 1) {
            uint32_t l = w * 32 + (uint32_t)__builtin_ctz(bits);
            items[lists->n++] = (rk__cluster_item){0, 0, l};
        }
    }
    if (!all) {
        lists->n = promising_lists(lists, items, want, (uint32_t)room - 1);
        if (lists->no_memory) {
            return false;
        }
        if (lists->n == 0) { /* estimates that are not finite */
            return rk__cluster_lists_next(lists, nlist, ordered);
        }
    }
    lists->items = items;
    rk__cluster_lists_key(lists, items, lists->n);
    if (ordered) {
        rk__cluster_lists_order(items, lists->n, sorted);
        lists->items = sorted;
    }
    lists->given += lists->n;
    lists->stage = want <= nlist / GROWTH ? want * GROWTH : nlist;
    return lists->n > 0;
}
