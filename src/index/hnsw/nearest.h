/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nearest of many: pushes go to a buffer that is cut back to the |keep| smallest when it is
 * full, so that most cost a comparison with the bound. Items are integers, key above number, which
 * makes ties fall to the smaller number and the result independent of the order of pushes but for
 * ties at the bound.
 */
#ifndef RK_INDEX_HNSW_NEAREST_H
#define RK_INDEX_HNSW_NEAREST_H

#include "base/util.h"
#include "index/index_private.h"

#define RK__NEAREST_SPARE 4u /* times what is kept is gathered before it is cut */

/* The |keep| smallest of what was pushed, as key (made unsigned) << 32 | number. */
typedef struct rk__nearest {
    uint64_t *items; /* RK__NEAREST_SPARE * keep */
    uint32_t n;
    uint32_t keep;
    int32_t bound; /* keys at or above it need not be pushed */
} rk__nearest;

static inline uint64_t
rk__item_of(int32_t key, uint32_t number)
{
    return (uint64_t)((uint32_t)key ^ 0x80000000u) << 32 | number;
}

static inline int32_t
rk__item_key(uint64_t item)
{
    return (int32_t)((uint32_t)(item >> 32) ^ 0x80000000u);
}

/*
 * Partitions [low, high), at least two items: returns where the pivot ends up, smaller ones before
 * it, others behind. Without a branch that depends on the items: their order is random, and a
 * branch missed costs more than the stores.
 */
static inline uint32_t
rk__partition_items(uint64_t *items, uint32_t low, uint32_t high)
{
    uint32_t last = high - 1;
    uint32_t middle = low + (high - low) / 2;
    uint64_t a = items[low];
    uint64_t b = items[middle];
    uint64_t c = items[last];
    uint32_t from = a < b ? (b < c   ? middle
                             : a < c ? last
                                     : low)
                          : (a < c   ? low
                             : b < c ? last
                                     : middle);
    uint64_t pivot = items[from];
    uint32_t at = low;

    items[from] = items[last];
    for (uint32_t i = low; i < last; i++) {
        uint64_t item = items[i];
        items[i] = items[at];
        items[at] = item;
        at += item < pivot;
    }
    items[last] = items[at];
    items[at] = pivot;
    return at;
}

/* Moves the |keep| smallest to the front, in any order. */
static inline void
rk__select_smallest(uint64_t *items, uint32_t n, uint32_t keep)
{
    uint32_t low = 0;
    uint32_t high = n;

    while (high - low > 1 && low < keep && keep < high) {
        uint32_t at = rk__partition_items(items, low, high);
        if (at < keep) {
            low = at + 1;
        } else {
            high = at;
        }
    }
}

static inline void
rk__nearest_cut(rk__nearest *best)
{
    if (best->n <= best->keep) {
        return;
    }
    uint64_t largest = 0;
    rk__select_smallest(best->items, best->n, best->keep);
    best->n = best->keep;
    for (uint32_t i = 0; i < best->n; i++) {
        largest = RK_MAX(largest, best->items[i]);
    }
    best->bound = rk__item_key(largest);
}

static inline void
rk__nearest_push(rk__nearest *best, int32_t key, uint32_t number)
{
    if (key >= best->bound) {
        return;
    }
    best->items[best->n++] = rk__item_of(key, number);
    if (best->n == RK__NEAREST_SPARE * best->keep) {
        rk__nearest_cut(best);
    }
}

/* Ascending. The larger part waits, so the stack holds log2(n) of them. */
static inline void
rk__sort_items(uint64_t *items, uint32_t n)
{
    uint64_t *waiting[32];
    uint32_t sizes[32];
    uint32_t depth = 0;

    for (;;) {
        while (n > 16) {
            uint32_t left = rk__partition_items(items, 0, n);
            uint32_t right = n - left - 1; /* the pivot is in place */
            bool left_waits = left > right;
            waiting[depth] = left_waits ? items : items + left + 1;
            sizes[depth++] = left_waits ? left : right;
            items += left_waits ? left + 1 : 0;
            n = left_waits ? right : left;
        }
        for (uint32_t i = 1; i < n; i++) {
            uint64_t item = items[i];
            uint32_t j = i;
            for (; j > 0 && items[j - 1] > item; j--) {
                items[j] = items[j - 1];
            }
            items[j] = item;
        }
        if (depth == 0) {
            return;
        }
        items = waiting[--depth];
        n = sizes[depth];
    }
}

static inline void
rk__nearest_sort(rk__nearest *best)
{
    rk__nearest_cut(best);
    rk__sort_items(best->items, best->n);
}

#endif
