/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints: the rows of a sparse index in small, three bytes a value, in the order of their places.
 * A value is a key of 16 bits, made of its term, and the stored weight q of the term's scale. The
 * sum of q times the query's factor over the values whose key the query has bounds the score of the
 * row from above, and closely; it costs a third of the bytes of the row and few instructions:
 *
 *   print   values in runs of 64 and a last one of fewer: the low bytes of their keys, then the
 *           high bytes, then the weights
 *   tables  of a query, 512 bytes for up to a hundred or so terms: by the low seven bits of the
 *           low byte a high byte and a factor, by the low seven bits of the high byte a low byte
 *           and a factor, 128 places each. A term stands in one of the two. What is in neither
 *           has the factor 0
 *
 * So a register of 64 values is looked up by four instructions. A value may be taken for another
 * term's, by chance: the sum is still a bound.
 */
#include "index/sparse/sparse.h"

#define HALF       128u
#define KICKS      32u
#define PAGE_TERMS 96u /* of a page; a term that finds no place begins another, too */
#define PAGE_SPARE 16u
#define FACTOR_MAX 127u /* kernels multiply with signed bytes */

static uint8_t *
sign_of(uint8_t *page, unsigned side, uint16_t key)
{
    return page + side * 2 * HALF + (side == 0 ? key & 0x7f : key >> 8 & 0x7f);
}

/* False when the terms stand in each other's way; one of them is then in |*key|, |*factor|. */
static bool
put(uint8_t *page, uint16_t keys[2][HALF], uint16_t *key, uint8_t *factor)
{
    for (unsigned i = 0; i < KICKS; i++) {
        unsigned side = i % 2;
        uint8_t *sign = sign_of(page, side, *key);
        size_t at = (size_t)(sign - page) % HALF;
        uint16_t old_key = keys[side][at];
        uint8_t old_factor = sign[HALF];
        keys[side][at] = *key;
        *sign = (uint8_t)(side == 0 ? *key >> 8 : *key);
        sign[HALF] = *factor;
        if (old_factor == 0) {
            return true;
        }
        *key = old_key;
        *factor = old_factor;
    }
    return false;
}

rk_code
rk__sparse_tables_init(rk__sparse_tables *tables, const rk__sparse_found *terms, size_t n,
                       rk_arena *arena, rk_err *err)
{
    size_t room = n / PAGE_TERMS + 1 + n / PAGE_SPARE;
    uint8_t *bytes = rk_arena_zero(arena, room * RK__SPARSE_PAGE + 64, 1);
    uint16_t keys[2][HALF] = {{0}};
    size_t in_page = 0;
    double step = 0;

    *tables = (rk__sparse_tables){.n_terms = n, .n_pages = 1};
    if (!bytes) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for tables of %zu terms", n);
    }
    uint8_t *page = bytes + (64 - (uintptr_t)bytes % 64) % 64;
    tables->pages = page;
    for (size_t i = 0; i < n; i++) {
        step = RK_MAX(step, terms[i].bound);
    }
    tables->unit = step > 0 ? FACTOR_MAX * 255.0 / step : 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t key = rk__sparse_key((uint32_t)terms[i].term);
        double part = terms[i].bound * tables->unit / 255.0;
        uint8_t factor = (uint8_t)(part >= FACTOR_MAX ? FACTOR_MAX : (unsigned)part + 1);
        if (in_page == PAGE_TERMS || !put(page, keys, &key, &factor)) {
            if (tables->n_pages == room) {
                tables->n_pages = 0; /* so unlikely that all rows may be scored */
                return RK_OK;
            }
            page += RK__SPARSE_PAGE;
            tables->n_pages++;
            in_page = 0;
            (void)put(page, keys, &key, &factor); /* it is empty */
        }
        in_page++;
    }
    return RK_OK;
}

void
rk__sparse_print_put(uint8_t *print, size_t n, size_t i, uint32_t term, uint8_t weight)
{
    size_t run = RK_MIN(n - i / 64 * 64, (size_t)64);
    uint8_t *at = print + i / 64 * 192 + i % 64;
    uint16_t key = rk__sparse_key(term);

    at[0] = (uint8_t)key;
    at[run] = (uint8_t)(key >> 8);
    at[2 * run] = weight;
}
