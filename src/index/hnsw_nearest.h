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

/* Moves the |keep| smallest to the front, in any order. */
static inline void
rk__select_smallest(uint64_t *items, uint32_t n, uint32_t keep)
{
    uint32_t low = 0;
    uint32_t high = n - 1;

    while (low < high) {
        uint64_t pivot = items[low + (high - low) / 2];
        uint32_t i = low;
        uint32_t j = high;
        for (;;) {
            while (items[i] < pivot) {
                i++;
            }
            while (items[j] > pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            uint64_t swap = items[i];
            items[i++] = items[j];
            items[j--] = swap;
        }
        /* [low, j] <= pivot <= [j + 1, high] */
        if (keep <= j) {
            high = j;
        } else {
            low = j + 1;
        }
        if (low >= keep) {
            break;
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
            uint64_t pivot = items[n / 2];
            uint32_t i = 0;
            uint32_t j = n - 1;
            for (;;) {
                while (items[i] < pivot) {
                    i++;
                }
                while (items[j] > pivot) {
                    j--;
                }
                if (i >= j) {
                    break;
                }
                uint64_t swap = items[i];
                items[i++] = items[j];
                items[j--] = swap;
            }
            uint32_t left = j + 1; /* [0, j] <= pivot <= [j + 1, n) */
            bool left_waits = left > n - left;
            waiting[depth] = left_waits ? items : items + left;
            sizes[depth++] = left_waits ? left : n - left;
            items += left_waits ? left : 0;
            n = left_waits ? n - left : left;
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
