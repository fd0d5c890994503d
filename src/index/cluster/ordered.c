/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter in the order of the lists, made once for many searches under it.
 *
 * Bits of the filter lie by row, those that a search needs by place: without more, each search
 * gathers the bits of every list it visits, and visits lists in vain. Here they are put into the
 * order of the places, with the passing rows of each list counted, so that a block's bits are one
 * read and lists in which nothing passes are known before they are scored. Of lists of which a part
 * passes the codes of these rows are copied into blocks of their own, so that a scan reads no
 * others: the fewer pass, the less of a search is scanning.
 *
 * An image that lies about places makes wrong bits, as it makes wrong answers without a filter in
 * order; rows are tested once more before they are returned (cluster/rows.c).
 */
#include "index/cluster/search.h"

#define SELECT_WORDS 32u
#define PACK_SHARE   0.7f /* of the blocks of a list, packed: more would spare too little */
#define DENSE        0.4f /* of the rows of a list pass: a graph may be walked there */
#define LEFT_SHARE   0.6f /* of all blocks, packed or with passing rows: the same */

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
    memory = rk_alloc_aligned(64, up(size_bytes));
    if (!memory) {
        rk_mem_release(filter->mem, size_bytes);
        return rk_fail(err, RK_ENOMEM, "index filter: no memory for %zu bytes", size_bytes);
    }
    filter->reserved_bytes += size_bytes;
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

/* ---- packed ---- */

/* The code of the row at place |at| of list |l| into place |slot| of a clear block. */
static void
copy_code(const rk__cluster *c, uint32_t l, uint32_t at, uint8_t *to, uint32_t slot)
{
    uint32_t from = at - c->first_row[l];
    const uint8_t *block =
        c->blocks + (size_t)(c->first_block[l] + from / RK__BITS_ROWS) * c->block_bytes;
    size_t codes = rk__cluster_codes_bytes(&c->space);
    uint32_t src = from % RK__BITS_ROWS;
    const uint8_t *nibble = block + src % 16;
    uint8_t *out = to + slot % 16;
    unsigned down = src < 16 ? 0 : 4;
    unsigned up_by = slot < 16 ? 0 : 4;

    for (size_t i = 0; i < codes; i += 16) {
        out[i] = (uint8_t)(out[i] | (nibble[i] >> down & 15) << up_by);
    }
    memcpy(to + codes + slot * sizeof(float), block + codes + src * sizeof(float), sizeof(float));
    memcpy(to + codes + (RK__BITS_ROWS + slot) * sizeof(float),
           block + codes + (RK__BITS_ROWS + src) * sizeof(float), sizeof(float));
}

static void
pack_list(const rk__cluster *c, const rk__ordered *o, uint32_t l, uint8_t *block, uint32_t *places)
{
    uint32_t from = c->first_row[l];
    uint32_t end = c->first_row[l + 1];
    uint32_t n = 0;

    for (; from < end; from += 56) {
        uint64_t bits;
        memcpy(&bits, o->map + from / 8, sizeof(bits));
        bits = bits >> from % 8 & ((UINT64_C(1) << RK_MIN(end - from, 56u)) - 1);
        for (; bits; bits &= bits - 1, n++) {
            uint32_t at = from + (uint32_t)__builtin_ctzll(bits);
            if (n > 0 && n % RK__BITS_ROWS == 0) {
                block += c->block_bytes;
            }
            if (n % RK__BITS_ROWS == 0) {
                rk__cluster_block_clear(&c->space, block);
            }
            copy_code(c, l, at, block, n % RK__BITS_ROWS);
            places[n] = at;
        }
    }
}

/* Blocks of a list when it is packed; 0: it stays as it is, or nothing passes. */
static uint32_t
blocks_of(const rk__cluster *c, const rk__ordered *o, uint32_t l)
{
    uint32_t need = (o->first[l + 1] - o->first[l] + RK__BITS_ROWS - 1) / RK__BITS_ROWS;
    uint32_t blocks = c->first_block[l + 1] - c->first_block[l];

    return (float)need <= PACK_SHARE * (float)blocks ? need : 0;
}

/* Packs the lists that it pays for; where that is few of them, none. */
static rk_code
pack(const rk__cluster *c, rk_index_filter *filter, rk_err *err)
{
    uint32_t nlist = c->info.nlist;
    rk__ordered *o = &filter->lists;
    size_t first_bytes = up(((size_t)nlist + 1) * sizeof(uint32_t));
    uint32_t left = 0;
    uint32_t packed = 0;

    for (uint32_t l = 0; l < nlist; l++) {
        uint32_t need = blocks_of(c, o, l);
        bool any = o->first[l + 1] > o->first[l];
        packed += need;
        left += need > 0 ? need : any ? c->first_block[l + 1] - c->first_block[l] : 0;
    }
    o->n_blocks = left;
    if ((float)left > LEFT_SHARE * (float)c->info.blocks) {
        return RK_OK;
    }
    size_t place_bytes = up((size_t)packed * RK__BITS_ROWS * sizeof(uint32_t));
    rk_code code =
        reserve(filter, 1, first_bytes + place_bytes + (size_t)packed * c->block_bytes, err);
    if (code == RK_ENOMEM) { /* the bits alone will do */
        rk_err_clear(err);
        return RK_OK;
    }
    RK_RET(code);
    uint8_t *memory = filter->owned[1];
    uint32_t *first = (uint32_t *)(void *)memory;
    uint32_t *places = (uint32_t *)(void *)(memory + first_bytes);
    uint8_t *at = memory + first_bytes + place_bytes;

    for (uint32_t l = 0; l < nlist; l++) {
        first[l + 1] = first[l] + blocks_of(c, o, l);
        if (first[l + 1] > first[l]) {
            pack_list(c, o, l, at + (size_t)first[l] * c->block_bytes,
                      places + (size_t)first[l] * RK__BITS_ROWS);
        }
    }
    o->first_block = first;
    o->places = places;
    o->blocks = at;
    o->packed = true;
    return RK_OK;
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
        o->n_dense += (float)n >= DENSE * (float)(c->first_row[l + 1] - c->first_row[l]) ? n : 0;
    }
    o->map = memory;
    o->first = first;
    o->empty = empty;
    RK_RET(pack(c, filter, err));
    return rk__cluster_limits(c, filter, passing, err);
}
