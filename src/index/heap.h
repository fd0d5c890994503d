/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The k nearest seen so far: a bounded binary heap with the farthest on top.
 *
 * Inside the engine nearness is a key, smaller is nearer, whatever the metric: the distance, or the
 * similarity negated. Keys are ordered with ties by row number, so a result does not depend on the
 * order rows were visited in. A NaN key never enters.
 */
#ifndef RK_INDEX_HEAP_H
#define RK_INDEX_HEAP_H

#include "index/index.h"

typedef struct rk__near {
    float key;
    uint32_t row;
} rk__near;

typedef struct rk__heap {
    rk__near *items; /* borrowed, room for |cap| */
    uint32_t n;
    uint32_t cap;
} rk__heap;

static inline bool
rk__near_less(rk__near a, rk__near b)
{
    return a.key < b.key || (a.key == b.key && a.row < b.row);
}

static inline void
rk__heap_sift_down(rk__near *items, uint32_t n, uint32_t at)
{
    rk__near moved = items[at];

    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && rk__near_less(items[child], items[child + 1])) {
            child++;
        }
        if (!rk__near_less(moved, items[child])) {
            break;
        }
        items[at] = items[child];
        at = child;
    }
    items[at] = moved;
}

static inline bool
rk__heap_full(const rk__heap *heap)
{
    return heap->n == heap->cap;
}

/* True when a key at or above this one can no longer enter, whatever its row. */
static inline bool
rk__heap_rejects(const rk__heap *heap, float key)
{
    return heap->n == heap->cap && !(key <= heap->items[0].key);
}

static inline void
rk__heap_push(rk__heap *heap, float key, uint32_t row)
{
    rk__near item = {key, row};

    if (heap->n < heap->cap) {
        uint32_t at = heap->n;
        if (key != key) {
            return;
        }
        heap->n++;
        while (at > 0) {
            uint32_t parent = (at - 1) / 2;
            if (!rk__near_less(heap->items[parent], item)) {
                break;
            }
            heap->items[at] = heap->items[parent];
            at = parent;
        }
        heap->items[at] = item;
    } else if (heap->n > 0 && rk__near_less(item, heap->items[0])) {
        heap->items[0] = item;
        rk__heap_sift_down(heap->items, heap->n, 0);
    }
}

/* Nearest first; the heap order is gone afterwards. */
static inline void
rk__heap_sort(rk__heap *heap)
{
    for (uint32_t n = heap->n; n > 1; n--) {
        rk__near top = heap->items[0];
        heap->items[0] = heap->items[n - 1];
        heap->items[n - 1] = top;
        rk__heap_sift_down(heap->items, n - 1, 0);
    }
}

/* Items in sorted order are made a heap again. */
static inline void
rk__heap_make(rk__heap *heap)
{
    for (uint32_t i = heap->n / 2; i > 0; i--) {
        rk__heap_sift_down(heap->items, heap->n, i - 1);
    }
}

#endif
