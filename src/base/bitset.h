/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dense bitset over rows: words of 64 bits, bit i of word i/64. Bits at and past |nbits| are
 * always zero. In filters a set bit means "row passes"; in deletes "row is gone": the variable's
 * name says which.
 */
#ifndef RK_BASE_BITSET_H
#define RK_BASE_BITSET_H

#include "base/mem.h"

typedef struct rk_bitset {
    uint64_t *words; /* (nbits + 63) / 64 words, 64-byte aligned when made by rk_bitset_init() */
    size_t nbits;
} rk_bitset;

static inline size_t
rk_bitset_words(size_t nbits)
{
    return (nbits + 63) / 64;
}

RK_MUST_CHECK rk_code rk_bitset_init(rk_bitset *set, size_t nbits); /* all zero; heap */
void rk_bitset_deinit(rk_bitset *set);
RK_MUST_CHECK rk_code rk_bitset_init_arena(rk_bitset *set, size_t nbits,
                                           rk_arena *arena); /* no deinit */

static inline bool
rk_bitset_get(const rk_bitset *set, size_t i)
{
    return (set->words[i >> 6] >> (i & 63)) & 1u;
}

static inline void
rk_bitset_set(rk_bitset *set, size_t i)
{
    set->words[i >> 6] |= UINT64_C(1) << (i & 63);
}

static inline void
rk_bitset_clear(rk_bitset *set, size_t i)
{
    set->words[i >> 6] &= ~(UINT64_C(1) << (i & 63));
}

void rk_bitset_fill(rk_bitset *set, bool value);
size_t rk_bitset_count(const rk_bitset *set);
/* Same length required for the binary ones. */
void rk_bitset_and(rk_bitset *a, const rk_bitset *b);
void rk_bitset_or(rk_bitset *a, const rk_bitset *b);
void rk_bitset_andnot(rk_bitset *a, const rk_bitset *b); /* a &= ~b */
void rk_bitset_not(rk_bitset *a);
/* First set bit at or after |from|; nbits when none. */
size_t rk_bitset_next(const rk_bitset *set, size_t from);

#endif
