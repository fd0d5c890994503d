/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters of recent reads, kept as bits.
 *
 * Applications filter by few expressions again and again: a tenant, a language, what is in stock.
 * Which rows of a sealed segment pass one never changes, so the bits of a filter are kept when it
 * comes the second time; deletes and the snapshot of a read are put on top. A filter that comes
 * more often is kept in the order of an index, too (rk_index_filter), for the deletes it was asked
 * with.
 *
 * One table of entries, found by hash, ordered by their last use; the least recently used make room
 * in the budget. An entry is immutable; a reader holds a reference until its arena is reset, so one
 * that is evicted meanwhile stays for it. What was asked for and is not kept is counted in a table
 * of marks, where filters may push each other out: a filter that is not counted is only evaluated
 * once more.
 *
 * Lock: the table and the marks, for a look-up or an exchange of pointers; nothing is computed
 * under it.
 */
#include <xxhash.h>

#include "base/metrics.h"
#include "search/search_private.h"

#define BUCKETS 1024u
#define MARKS   4096u
#define RETRY   16u /* one in so many asks that could have been kept tries again */

typedef struct mark {
    uint64_t hash;
    uint32_t asked;
} mark;

struct rk_filter_cache {
    rk_mem *mem;
    uint64_t limit_bytes;
    rk_series *hits, *misses;
    rk_mutex lock; /* guards all below */
    rk__kept *buckets[BUCKETS];
    rk__kept *newest, *oldest;
    mark marks[MARKS];
    rk_filter_cache_stats stats;
};

rk_code
rk_filter_cache_new(rk_filter_cache **out, uint64_t limit_bytes, rk_mem *mem, rk_err *err)
{
    rk_filter_cache *cache = rk_alloc_zero(1, sizeof(*cache));
    rk_mem *own = rk_mem_new(mem, "kept filters", limit_bytes);

    *out = NULL;
    if (!cache || !own) {
        rk_free(cache);
        rk_mem_free(own);
        return rk_fail(err, RK_ENOMEM, "no memory for the table of kept filters");
    }
    cache->mem = own;
    cache->limit_bytes = limit_bytes;
    cache->hits = rk_metric_series(RK_METRIC_QN_KEPT_FILTERS,
                                   (const char *const[RK_METRIC_LABELS_MAX]){"hit"});
    cache->misses = rk_metric_series(RK_METRIC_QN_KEPT_FILTERS,
                                     (const char *const[RK_METRIC_LABELS_MAX]){"miss"});
    rk_mutex_init(&cache->lock, "search.filters", RK_RANK_SEGMENT + 3);
    *out = cache;
    return RK_OK;
}

static void
note_bytes(const rk_filter_cache *cache)
{
    rk_metric_set(RK_METRIC_QN_KEPT_FILTER_BYTES, (double)rk_mem_used(cache->mem), "");
}

/* ---- entries ---- */

static void
unref(void *arg)
{
    rk__kept *kept = arg;

    if (atomic_fetch_sub_explicit(&kept->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rk_index_filter_free(kept->ordered);
    rk_bitset_deinit(&kept->bits);
    rk_mem_release(kept->mem, kept->bytes);
    rk_free(kept);
}

/* A reference that ends with |arena|; NULL: no memory, and |kept| is not referenced. */
static const rk__kept *
lend(rk__kept *kept, rk_arena *arena)
{
    if (rk_arena_defer(arena, unref, kept)) {
        return kept;
    }
    unref(kept);
    return NULL;
}

static void
use_lists_drop(rk_filter_cache *cache, rk__kept *kept)
{
    *(kept->newer ? &kept->newer->older : &cache->newest) = kept->older;
    *(kept->older ? &kept->older->newer : &cache->oldest) = kept->newer;
}

static void
use_lists_add(rk_filter_cache *cache, rk__kept *kept)
{
    kept->newer = NULL;
    kept->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = kept;
    cache->newest = kept;
}

/* Out of the table; its reference is the caller's. */
static rk__kept *
take_out(rk_filter_cache *cache, rk__kept *kept)
{
    rk__kept **at = &cache->buckets[kept->key.hash % BUCKETS];

    while (*at != kept) {
        at = &(*at)->next;
    }
    *at = kept->next;
    use_lists_drop(cache, kept);
    cache->stats.entries--;
    return kept;
}

static bool
same_key(const rk__kept_key *a, const rk__kept_key *b)
{
    return a->hash == b->hash && a->segment_id == b->segment_id && a->index_uid == b->index_uid &&
           a->deletes == b->deletes && a->field_id == b->field_id && rk_str_eq(a->text, b->text);
}

static rk__kept *
find_locked(const rk_filter_cache *cache, const rk__kept_key *key)
{
    rk__kept *kept = cache->buckets[key->hash % BUCKETS];

    while (kept && !same_key(&kept->key, key)) {
        kept = kept->next;
    }
    return kept;
}

/* How often |key| was asked for, |times| more now. */
static uint32_t
count_locked(rk_filter_cache *cache, const rk__kept_key *key, uint32_t times)
{
    mark *m = &cache->marks[key->hash % MARKS];

    if (m->hash != key->hash) {
        *m = (mark){key->hash, 0};
    }
    m->asked += RK_MIN(times, UINT32_MAX - m->asked);
    return m->asked;
}

/* ---- what reads do ---- */

void
rk__kept_key_finish(rk__kept_key *key)
{
    uint64_t ids[] = {(uint64_t)key->segment_id, key->index_uid, key->deletes,
                      (uint64_t)key->field_id};

    key->hash = XXH3_64bits_withSeed(key->text.data, key->text.len, XXH3_64bits(ids, sizeof(ids)));
}

const rk__kept *
rk__filter_cache_find(rk_filter_cache *cache, const rk__kept_key *key, uint32_t times,
                      uint32_t worth, bool *keep, rk_arena *arena)
{
    rk__kept *kept;

    rk_mutex_lock(&cache->lock);
    kept = find_locked(cache, key);
    if (kept) {
        atomic_fetch_add_explicit(&kept->refs, 1, memory_order_relaxed);
        use_lists_drop(cache, kept);
        use_lists_add(cache, kept);
        cache->stats.hits++;
        *keep = false;
    } else {
        uint32_t asked = count_locked(cache, key, times);
        uint32_t past = asked - RK_MIN(asked, worth);
        /* several may ask while the first still makes it */
        *keep = asked >= worth && (past < times || past % RETRY < times);
        cache->stats.misses++;
    }
    rk_mutex_unlock(&cache->lock);
    rk_series_add(kept ? cache->hits : cache->misses, 1);
    return kept ? lend(kept, arena) : NULL;
}

bool
rk__filter_cache_room(rk_filter_cache *cache, uint64_t bytes)
{
    while (bytes <= cache->limit_bytes) {
        rk__kept *gone = NULL;
        if (rk_mem_reserve(cache->mem, bytes, "a kept filter", NULL) == RK_OK) {
            return true;
        }
        rk_mutex_lock(&cache->lock);
        if (cache->oldest) {
            gone = take_out(cache, cache->oldest);
            cache->stats.evicted++;
        }
        rk_mutex_unlock(&cache->lock);
        if (!gone) {
            return false;
        }
        unref(gone);
        note_bytes(cache);
    }
    return false;
}

rk_mem *
rk__filter_cache_mem(const rk_filter_cache *cache)
{
    return cache->mem;
}

const rk__kept *
rk__filter_cache_keep(rk_filter_cache *cache, const rk__kept_key *key, rk_bitset bits, size_t count,
                      rk_index_filter *ordered, uint64_t bytes, rk_arena *arena)
{
    uint64_t own = sizeof(rk__kept) + key->text.len;
    bool room = rk__filter_cache_room(cache, own);
    rk__kept *kept = room ? rk_alloc(own) : NULL;
    rk__kept *before;

    if (!kept) {
        rk_mem_release(cache->mem, bytes + (room ? own : 0));
        rk_bitset_deinit(&bits);
        rk_index_filter_free(ordered);
        return NULL;
    }
    *kept = (rk__kept){.key = *key,
                       .bits = bits,
                       .count = count,
                       .ordered = ordered,
                       .bytes = bytes + own,
                       .mem = cache->mem};
    atomic_init(&kept->refs, 2); /* the table's, the reader's */
    kept->key.text.data = (const char *)(kept + 1);
    if (key->text.len > 0) {
        memcpy(kept + 1, key->text.data, key->text.len);
    }
    rk_mutex_lock(&cache->lock);
    before = find_locked(cache, key); /* by somebody else meanwhile */
    if (before) {
        (void)take_out(cache, before);
    }
    kept->next = cache->buckets[key->hash % BUCKETS];
    cache->buckets[key->hash % BUCKETS] = kept;
    use_lists_add(cache, kept);
    cache->stats.entries++;
    rk_mutex_unlock(&cache->lock);
    if (before) {
        unref(before);
    }
    note_bytes(cache);
    return lend(kept, arena);
}

/* ---- the owner's side ---- */

static void
drop_all(rk_filter_cache *cache, bool every, int64_t segment_id)
{
    rk__kept *gone = NULL;

    rk_mutex_lock(&cache->lock);
    for (rk__kept *kept = cache->newest; kept;) {
        rk__kept *older = kept->older;
        if (every || kept->key.segment_id == segment_id) {
            (void)take_out(cache, kept);
            kept->next = gone;
            gone = kept;
        }
        kept = older;
    }
    rk_mutex_unlock(&cache->lock);
    while (gone) {
        rk__kept *next = gone->next;
        unref(gone);
        gone = next;
    }
    note_bytes(cache);
}

void
rk_filter_cache_drop(rk_filter_cache *cache, int64_t segment_id)
{
    if (cache) {
        drop_all(cache, false, segment_id);
    }
}

void
rk_filter_cache_get_stats(rk_filter_cache *cache, rk_filter_cache_stats *out)
{
    rk_mutex_lock(&cache->lock);
    *out = cache->stats;
    rk_mutex_unlock(&cache->lock);
    out->bytes = rk_mem_used(cache->mem);
}

void
rk_filter_cache_free(rk_filter_cache *cache)
{
    if (!cache) {
        return;
    }
    drop_all(cache, true, 0);
    rk_mutex_deinit(&cache->lock);
    rk_mem_free(cache->mem);
    rk_free(cache);
}
