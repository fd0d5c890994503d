/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernels of the sparse index have in common: the loops over records, entries and streams.
 * An instruction set brings two functions of its own, the sum of some bytes and the addition of
 * packed weights to 64 sums; RK__SPARSE_LOOPS makes its kernels of them. The loops are always
 * inlined, the functions handed in with them, so they compile for that instruction set.
 */
#ifndef RK_INDEX_SPARSE_KERNEL_H
#define RK_INDEX_SPARSE_KERNEL_H

#include "index/sparse/sparse.h"

#define RK__SPARSE_INLINE static inline __attribute__((always_inline, unused))

/* The sum of the first |n| < 64 bytes; RK__SPARSE_PAD bytes may be read. */
typedef uint64_t rk__sparse_sum_fn(const uint8_t *bytes, uint64_t n);
/* sums[i] += weight * factor / 256 for the 64 places of |mask|, which have one weight each. */
typedef void rk__sparse_add_fn(uint16_t *sums, const uint8_t *weights, uint64_t mask,
                               uint32_t factor);

/* The reference's; small next to the rest where registers are shorter. */
size_t rk__sparse_meet(const rk__sparse_query *query, const uint8_t *pairs, size_t n,
                       uint16_t *met);
uint32_t rk__sparse_print_sum(const uint8_t *pages, size_t n_pages, const uint8_t *print, size_t n);
uint32_t rk__sparse_pass(const uint32_t *rows, const uint64_t *words, size_t n_rows);

RK__SPARSE_INLINE size_t
rk__sparse_find_runs(const rk__sparse_member *members, size_t n, unsigned block,
                     const uint8_t *records, uint64_t record_bytes, rk__sparse_run *runs,
                     uint32_t *bound, rk__sparse_sum_fn *sum_bytes)
{
    size_t found = 0;
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        const rk__sparse_member *m = &members[i];
        if (!(m->mask >> block & 1)) {
            continue;
        }
        uint64_t nth = (uint64_t)__builtin_popcountll(m->mask & ((UINT64_C(1) << block) - 1));
        uint64_t count = (uint64_t)__builtin_popcountll(m->mask);
        uint64_t at = m->base + 8 * nth + sum_bytes(m->entries + count, nth);
        if (at <= record_bytes) {
            runs[found++] = (rk__sparse_run){records + at, m->factor};
            sum += m->entries[nth] * m->factor >> 8;
            RK__SPARSE_ASK(records + at);
        }
    }
    *bound = sum;
    return found;
}

RK__SPARSE_INLINE uint64_t
rk__sparse_add_runs(const rk__sparse_run *runs, size_t n, uint16_t *sums, rk__sparse_add_fn *add_64)
{
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t mask = rk_get_u64le(runs[i].record);
        add_64(sums, runs[i].record + sizeof(mask), mask, runs[i].factor);
        any |= mask;
    }
    return any;
}

RK__SPARSE_INLINE void
rk__sparse_add_records(const rk__sparse_member *member, const uint8_t *records,
                       uint64_t record_bytes, uint16_t *sums, uint64_t *any,
                       rk__sparse_add_fn *add_64)
{
    uint64_t at = member->base;

    for (uint64_t blocks = member->mask; blocks && at <= record_bytes; blocks &= blocks - 1) {
        unsigned block = (unsigned)__builtin_ctzll(blocks);
        uint64_t mask = rk_get_u64le(records + at);
        add_64(sums + (size_t)block * 64, records + at + sizeof(mask), mask, member->factor);
        any[block] |= mask;
        at += sizeof(mask) + (uint64_t)__builtin_popcountll(mask);
    }
}

RK__SPARSE_INLINE void
rk__sparse_add_entries(const rk__sparse_node *nodes, size_t n, const uint8_t *entries,
                       uint64_t n_entries, size_t n_groups, uint32_t factor, uint16_t *sums,
                       uint64_t *any, rk__sparse_add_fn *add_64)
{
    for (size_t i = 0; i < n; i++) {
        const rk__sparse_node *node = &nodes[i];
        uint64_t count = (uint64_t)__builtin_popcountll(node->mask);
        if (node->entry + count <= n_entries && node->group < n_groups) {
            add_64(sums + (size_t)node->group * 64, entries + 2 * (uint64_t)node->entry, node->mask,
                   factor);
            any[node->group] |= node->mask;
        }
    }
}

RK__SPARSE_INLINE void
rk__sparse_add_streams(const rk__sparse_stream *streams, size_t n, size_t n_patches, uint16_t *sums,
                       uint64_t *any, rk__sparse_add_fn *add_64)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t at = 0;
        for (size_t g = 0; g < n_patches; g++) {
            uint64_t mask = streams[i].masks[g];
            add_64(sums + g * RK__SPARSE_PATCH, streams[i].maxima + at, mask, streams[i].factor);
            any[g] |= mask;
            at = RK_MIN(at + (uint64_t)__builtin_popcountll(mask), streams[i].n_maxima);
        }
    }
}

/* NAME_add_node() by |add_64|; NAME_bound() by |add_unsettled|, which may use another order of the
 * sums that NAME_settle() undoes. */
#define RK__SPARSE_LOOPS(name, target, add_64, add_unsettled)                                      \
    target static void name##_add_node(const rk__sparse_member *member, const uint8_t *records,    \
                                       uint64_t record_bytes, uint16_t *sums, uint64_t *any)       \
    {                                                                                              \
        rk__sparse_add_records(member, records, record_bytes, sums, any, add_64);                  \
    }                                                                                              \
    target static void name##_bound(const rk__sparse_node *nodes, size_t n,                        \
                                    const uint8_t *entries, uint64_t n_entries, size_t n_groups,   \
                                    uint32_t factor, uint16_t *sums, uint64_t *any)                \
    {                                                                                              \
        rk__sparse_add_entries(nodes, n, entries, n_entries, n_groups, factor, sums, any,          \
                               add_unsettled);                                                     \
    }

/* The same and NAME_find(), NAME_add() and NAME_fine(), of the sum of bytes and the addition. */
#define RK__SPARSE_KERNELS(name, target, sum_bytes, add_64)                                        \
    target static size_t name##_find(const rk__sparse_member *members, size_t n, unsigned block,   \
                                     const uint8_t *records, uint64_t record_bytes,                \
                                     rk__sparse_run *runs, uint32_t *bound)                        \
    {                                                                                              \
        return rk__sparse_find_runs(members, n, block, records, record_bytes, runs, bound,         \
                                    sum_bytes);                                                    \
    }                                                                                              \
    target static uint64_t name##_add(const rk__sparse_run *runs, size_t n, uint16_t sums[64])     \
    {                                                                                              \
        return rk__sparse_add_runs(runs, n, sums, add_64);                                         \
    }                                                                                              \
    target static void name##_fine(const rk__sparse_stream *streams, size_t n, size_t n_patches,   \
                                   uint16_t *sums, uint64_t *any)                                  \
    {                                                                                              \
        rk__sparse_add_streams(streams, n, n_patches, sums, any, add_64);                          \
    }                                                                                              \
    RK__SPARSE_LOOPS(name, target, add_64, add_64)

#endif
