/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From primary key to rows of a growing segment: an open-addressing table whose slots hold half of
 * the key's hash and the newest row with that key; older rows with the same key hang on it through
 * |older| of their chunks.
 *
 * One writer, any number of readers without locks. The writer fills a row's columns first and
 * stores the slot with release, so a reader that loads a slot with acquire may read the row's key
 * even before the row is published; what it reports is cut at the row count it took before. A table
 * that is too full is copied to one of twice the size, published by one store; the old one stays
 * until the segment is freed.
 */
#include "segment/segment_private.h"

#define SLOTS_MIN ((size_t)256)

static size_t
slots_for(size_t rows)
{
    size_t slots = SLOTS_MIN;

    while (slots / 8 * 5 < rows) {
        slots *= 2;
    }
    return slots;
}

static size_t
table_bytes(size_t slots)
{
    return sizeof(rk__key_table) + slots * sizeof(_Atomic(uint64_t));
}

size_t
rk__keys_bytes(const rk__growing *g, size_t rows)
{
    const rk__key_table *t = atomic_load_explicit(&g->keys, memory_order_relaxed);
    size_t slots = slots_for(rows);

    return t && t->mask + 1 >= slots ? 0 : table_bytes(slots);
}

static uint64_t
slot_value(uint64_t hash, size_t row)
{
    return (hash & UINT64_C(0xffffffff00000000)) | (row + 1);
}

static size_t
slot_row(uint64_t slot)
{
    return (size_t)(slot & UINT32_MAX) - 1;
}

rk_code
rk__keys_grow(rk_segment *seg, size_t rows)
{
    rk__growing *g = seg->growing;
    rk__key_table *old = atomic_load_explicit(&g->keys, memory_order_relaxed);

    if (rk__keys_bytes(g, rows) == 0) {
        return RK_OK;
    }
    size_t slots = slots_for(rows);
    rk__key_table *t = rk__growing_alloc(g, table_bytes(slots));
    if (!t) {
        return RK_ENOMEM;
    }
    memset(t, 0, table_bytes(slots));
    t->mask = slots - 1;
    for (size_t i = 0; old && i <= old->mask; i++) {
        uint64_t slot =
            atomic_load_explicit(&old->slots[i], memory_order_relaxed); /* our own stores */
        if (slot == 0) {
            continue;
        }
        size_t at = (size_t)rk_pk_hash(rk__growing_pk(seg, slot_row(slot))) & t->mask;
        while (atomic_load_explicit(&t->slots[at], memory_order_relaxed) != 0) {
            at = (at + 1) & t->mask;
        }
        atomic_store_explicit(&t->slots[at], slot, memory_order_relaxed);
    }
    atomic_store_explicit(&g->keys, t, memory_order_release);
    return RK_OK;
}

/* The slot of |pk|, or the empty one where it belongs. */
static size_t
find_slot(const rk_segment *seg, const rk__key_table *t, rk_pk pk, uint64_t hash, uint64_t *slot)
{
    size_t at = (size_t)hash & t->mask;

    for (;;) {
        *slot = atomic_load_explicit(&t->slots[at], memory_order_acquire);
        if (*slot == 0) {
            return at;
        }
        if ((*slot >> 32) == (hash >> 32) &&
            rk_pk_cmp(rk__growing_pk(seg, slot_row(*slot)), pk) == 0) {
            return at;
        }
        at = (at + 1) & t->mask;
    }
}

void
rk__keys_add(rk_segment *seg, size_t row)
{
    rk__growing *g = seg->growing;
    rk__key_table *t = atomic_load_explicit(&g->keys, memory_order_relaxed);
    rk_pk pk = rk__growing_pk(seg, row);
    uint64_t hash = rk_pk_hash(pk);
    uint64_t slot;
    size_t at = find_slot(seg, t, pk, hash, &slot);
    rk__chunk *chunk = rk__growing_chunk(g, row >> g->chunk_shift);

    chunk->older[row & (((size_t)1 << g->chunk_shift) - 1)] =
        slot ? (uint32_t)slot_row(slot) : RK__ROW_NONE;
    atomic_store_explicit(&t->slots[at], slot_value(hash, row),
                          memory_order_release); /* publishes key and |older| */
}

size_t
rk__keys_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max)
{
    const rk__growing *g = seg->growing;
    const rk__key_table *t = atomic_load_explicit(&g->keys, memory_order_acquire);
    size_t n = 0;
    uint64_t slot;

    if (!t) {
        return 0;
    }
    (void)find_slot(seg, t, pk, rk_pk_hash(pk), &slot);
    for (uint32_t row = slot ? (uint32_t)slot_row(slot) : RK__ROW_NONE; row != RK__ROW_NONE;) {
        if (row < rows) {
            if (n < max) {
                out[n] = row;
            }
            n++;
        }
        row = rk__growing_chunk(g, row >> g->chunk_shift)
                  ->older[row & (((size_t)1 << g->chunk_shift) - 1)];
    }
    return n;
}
