/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dense bitsets: the word loops. They are written plainly, so that the compiler turns them into
 * vector code; only counting asks for a processor feature (POPCNT) and keeps the portable loop
 * beside it. The bits past the end stay zero: fill and not mask the last word, the others cannot
 * set them.
 */
#include "base/bitset.h"

static rk_code
words_of(size_t *size, size_t nbits)
{
    if (nbits > SIZE_MAX - 64 || !rk_mul_ok(size, rk_bitset_words(nbits), sizeof(uint64_t))) {
        return RK_ENOMEM;
    }
    return RK_OK;
}

rk_code
rk_bitset_init(rk_bitset *set, size_t nbits)
{
    size_t size;

    *set = (rk_bitset){NULL, 0};
    RK_RET(words_of(&size, nbits));
    uint64_t *words = rk_alloc_aligned(64, size ? size : 64);
    if (!words) {
        return RK_ENOMEM;
    }
    memset(words, 0, size);
    *set = (rk_bitset){words, nbits};
    return RK_OK;
}

void
rk_bitset_deinit(rk_bitset *set)
{
    if (set) {
        rk_free(set->words);
        *set = (rk_bitset){NULL, 0};
    }
}

rk_code
rk_bitset_init_arena(rk_bitset *set, size_t nbits, rk_arena *arena)
{
    size_t size;
    size_t padded;

    *set = (rk_bitset){NULL, 0};
    RK_RET(words_of(&size, nbits));
    if (!rk_add_ok(&padded, size, 64)) {
        return RK_ENOMEM;
    }
    uint8_t *raw = rk_arena_alloc(arena, padded); /* 16-byte aligned: round up to 64 */
    if (!raw) {
        return RK_ENOMEM;
    }
    size_t skip = (64 - ((uintptr_t)raw & 63)) & 63;
    memset(raw + skip, 0, size);
    *set = (rk_bitset){(uint64_t *)(void *)(raw + skip), nbits};
    return RK_OK;
}

static void
mask_tail(rk_bitset *set)
{
    if (set->nbits & 63) {
        set->words[set->nbits >> 6] &= (UINT64_C(1) << (set->nbits & 63)) - 1;
    }
}

void
rk_bitset_fill(rk_bitset *set, bool value)
{
    size_t nwords = rk_bitset_words(set->nbits);

    if (nwords > 0) {
        memset(set->words, value ? 0xFF : 0, nwords * sizeof(uint64_t));
        mask_tail(set);
    }
}

static inline size_t
count_words(const uint64_t *words, size_t nwords)
{
    size_t total = 0;

    for (size_t i = 0; i < nwords; i++) {
        total += (size_t)__builtin_popcountll(words[i]);
    }
    return total;
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static size_t
count_words_popcnt(const uint64_t *words, size_t nwords)
{
    size_t total = 0;

    for (size_t i = 0; i < nwords; i++) {
        total += (size_t)__builtin_popcountll(words[i]);
    }
    return total;
}
#endif

size_t
rk_bitset_count(const rk_bitset *set)
{
    size_t nwords = rk_bitset_words(set->nbits);

#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt")) {
        return count_words_popcnt(set->words, nwords);
    }
#endif
    return count_words(set->words, nwords);
}

void
rk_bitset_and(rk_bitset *a, const rk_bitset *b)
{
    RK_ASSERT(a->nbits == b->nbits);
    for (size_t i = 0; i < rk_bitset_words(a->nbits); i++) {
        a->words[i] &= b->words[i];
    }
}

void
rk_bitset_or(rk_bitset *a, const rk_bitset *b)
{
    RK_ASSERT(a->nbits == b->nbits);
    for (size_t i = 0; i < rk_bitset_words(a->nbits); i++) {
        a->words[i] |= b->words[i];
    }
}

void
rk_bitset_andnot(rk_bitset *a, const rk_bitset *b)
{
    RK_ASSERT(a->nbits == b->nbits);
    for (size_t i = 0; i < rk_bitset_words(a->nbits); i++) {
        a->words[i] &= ~b->words[i];
    }
}

void
rk_bitset_not(rk_bitset *a)
{
    for (size_t i = 0; i < rk_bitset_words(a->nbits); i++) {
        a->words[i] = ~a->words[i];
    }
    mask_tail(a);
}

size_t
rk_bitset_next(const rk_bitset *set, size_t from)
{
    if (from >= set->nbits) {
        return set->nbits;
    }
    size_t at = from >> 6;
    uint64_t word = set->words[at] & (~UINT64_C(0) << (from & 63));
    while (word == 0) {
        if (++at >= rk_bitset_words(set->nbits)) {
            return set->nbits;
        }
        word = set->words[at];
    }
    return (at << 6) + (size_t)__builtin_ctzll(word);
}
