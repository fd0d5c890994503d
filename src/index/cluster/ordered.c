/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter in the order of the lists, made once for many searches under it.
 *
 * Bits of the filter lie by row, those that a search needs by place: without more, each search
 * gathers the bits of every list it visits, and visits lists in vain. Here they are put into the
 * order of the places, with the passing rows of each list counted, so that a block's bits are one
 * read and lists in which nothing passes are known before they are scored.
 *
 * An image that lies about places makes wrong bits, as it makes wrong answers without a filter in
 * order; rows are tested once more before they are returned (cluster/rows.c).
 */
#include "index/cluster/search.h"

#define SELECT_WORDS 32u

static size_t
up(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* |size_bytes| of memory for |filter|, zero. */
static rk_code
reserve(rk_index_filter *filter, uint32_t which, size_t size_bytes, rk_err *err)
{
    void *memory = NULL;

    RK_RET(rk_mem_reserve(filter->mem, size_bytes, "index filter", err));
    filter->reserved_bytes += size_bytes;
    memory = rk_alloc_aligned(64, up(size_bytes));
    if (!memory) {
        return rk_fail(err, RK_ENOMEM, "index filter: no memory for %zu bytes", size_bytes);
    }
    memset(memory, 0, size_bytes);
    filter->owned[which] = memory;
    return RK_OK;
}

static void
fill_map(const rk__cluster *c, const rk_bitset *passing, uint64_t *map)
{
    rk__select_fn select = rk__kernels_get()->select;
    size_t n_words = rk_bitset_words(c->rows);
    uint32_t finite = (uint32_t)c->rows - c->info.loose;
    uint32_t rows[SELECT_WORDS * 64 + 16];

    for (size_t w = 0; w < n_words; w += SELECT_WORDS) {
        size_t n = select(passing->words + w, RK_MIN(n_words - w, (size_t)SELECT_WORDS),
                          (uint32_t)(w * 64), rows);
        for (size_t i = 0; i < n; i++) {
            uint32_t at = rows[i] < c->rows ? c->place[rows[i]] : finite;
            if (at < finite) {
                map[at / 64] |= UINT64_C(1) << at % 64;
            }
        }
    }
}

/* Bits of places [from, end) that are set. */
static uint32_t
count_range(const uint8_t *map, uint32_t from, uint32_t end)
{
    uint32_t n = 0;

    for (; from < end; from += 56) {
        uint64_t bits;
        memcpy(&bits, map + from / 8, sizeof(bits));
        n += (uint32_t)__builtin_popcountll(bits >> from % 8 &
                                            ((UINT64_C(1) << RK_MIN(end - from, 56u)) - 1));
    }
    return n;
}

rk_code
rk__cluster_order(const rk__cluster *c, rk_index_filter *filter, const rk_bitset *passing,
                  rk_err *err)
{
    uint32_t nlist = c->info.nlist;
    size_t map_bytes = up((rk_bitset_words(c->rows) + 1) * sizeof(uint64_t));
    size_t first_bytes = up(((size_t)nlist + 1) * sizeof(uint32_t));
    size_t empty_bytes = up(((size_t)nlist + 31) / 32 * sizeof(uint32_t));
    rk__ordered *o = &filter->lists;

    RK_RET(reserve(filter, 0, map_bytes + first_bytes + empty_bytes, err));
    uint8_t *memory = filter->owned[0];
    uint32_t *first = (uint32_t *)(void *)(memory + map_bytes);
    uint32_t *empty = (uint32_t *)(void *)(memory + map_bytes + first_bytes);

    fill_map(c, passing, (uint64_t *)(void *)memory);
    for (uint32_t l = 0; l < nlist; l++) {
        uint32_t n = count_range(memory, c->first_row[l], c->first_row[l + 1]);
        first[l + 1] = first[l] + n;
        empty[l / 32] |= (uint32_t)(n == 0) << l % 32;
        o->n_empty += n == 0;
    }
    o->map = memory;
    o->first = first;
    o->empty = empty;
    return RK_OK;
}
