/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distance kernels: one table of function pointers per instruction set, chosen at start.
 *
 * Every function takes plain pointers (any alignment) and sizes, allocates nothing and never fails.
 * Within one table the one-row and the four-row form of a distance give the same bits for the same
 * pair, and so does swapping the two operands: growing, exact and graph search rely on it to return
 * one score for one pair.
 *
 * Error bound against exact arithmetic for n components: |result - exact| <= (n / 16 + 12) * 2^-24
 * * sum |term|, since each of at least 16 partial sums adds n / 16 rounded terms and the final
 * reduction is a tree of at most 6 levels (avx2: 2 sums of 8). Integer kernels (i8, codes, bits)
 * are exact in 32 bits for up to 32768 components, then rounded once to float.
 */
#ifndef RK_INDEX_KERNEL_H
#define RK_INDEX_KERNEL_H

#include "index/index.h"

typedef float (*rk__dist_fn)(const void *a, const void *b, size_t n);
/* One query against four rows. */
typedef void (*rk__dist4_fn)(const void *query, const void *const rows[4], size_t n, float out[4]);

typedef struct rk__dense_kernels {
    rk__dist_fn l2;
    rk__dist_fn ip;
    rk__dist4_fn l2x4;
    rk__dist4_fn ipx4;
} rk__dense_kernels;

typedef enum rk__dense_slot { RK__F32, RK__F16, RK__BF16, RK__I8, RK__DENSE_SLOTS } rk__dense_slot;

/* A 16-bit query against four rows of 8-bit codes; n is a multiple of 32, rows are padded with
 * zeros. */
typedef void (*rk__code4_fn)(const int16_t *query, const int8_t *const rows[4], size_t n,
                             int32_t out[4]);

/*
 * Inner products of an 8-bit query, each component in -127..127, with rows of 8-bit codes (any n)
 * or of 4-bit codes, 0..15 (nibble_*: n is a multiple of 64, a row has n / 2 bytes). Byte j of the
 * r-th 32 bytes of a 4-bit row holds component 64 r + j in its low and 64 r + 32 + j in its high
 * nibble. Distances follow from stored norms: |q - c|^2 = |q|^2 + |c|^2 - 2 <q, c>. From the second
 * level cache these are about twice as fast as code_l2x4; from memory all are bound by the bytes
 * of a row.
 */
typedef int32_t (*rk__code8_fn)(const int8_t *query, const int8_t *row, size_t n);
typedef void (*rk__code8x4_fn)(const int8_t *query, const int8_t *const rows[4], size_t n,
                               int32_t out[4]);
typedef int32_t (*rk__nibble_fn)(const int8_t *query, const uint8_t *row, size_t n);
typedef void (*rk__nibblex4_fn)(const int8_t *query, const uint8_t *const rows[4], size_t n,
                                int32_t out[4]);

/* 32 one-bit codes against a query's tables, see kernel/bits.h. |groups| is a multiple of 16, at
 * most 8192. scan32 takes any table; scan32_low one whose entries are at most 63, as those of
 * rk__bits_query_init() are, and is about a fifth faster. */
typedef uint32_t (*rk__scan32_fn)(const uint8_t *lut, const uint8_t *block, size_t groups,
                                  const float add[32], const float mul[32], float unit, float bias,
                                  float extra, float below, float est[32]);

/* What rk__bits_encode needs of a row x and a centre c: the signs of x - c, 8 to a byte, and
 * sums = |x - c|^2, sum |x - c|, sum sign * c, sum (x - c) * c. |n| is a multiple of 64. */
typedef void (*rk__bits_sums_fn)(const float *row, const float *centre, size_t n, uint8_t *signs,
                                 float sums[4]);
/* Tables of a query for scan32: 16 entries for each of |groups| (a multiple of 16) runs of four
 * components, entry m being (sum of sign * component) * scale + 31.5 rounded, with the signs in the
 * bits of m. Returns the sum of all entries. */
typedef uint32_t (*rk__bits_tables_fn)(const float *query, size_t groups, float scale,
                                       uint8_t *lut);
/* The largest sum of |component| over a run of four, NaN when one is not finite; |n| is a multiple
 * of 64. */
typedef float (*rk__bits_span_fn)(const float *query, size_t n);
/* The rotation of kernel/rotate.h in place; |n| is a multiple of 64, |x| 64-byte aligned. */
typedef void (*rk__rotate_fn)(float *x, size_t n, uint64_t seed);

/* Numbers of the set bits in |n| words, ascending, |base| added (modulo 2^32). |out| has room for
 * 64 n + 16. Returns how many. */
typedef size_t (*rk__select_fn)(const uint64_t *words, size_t n, uint32_t base, uint32_t *out);

/* Bit i of the answer: at[i] < n and bit at[i] of |words| is set, i below 32. */
typedef uint32_t (*rk__test32_fn)(const uint64_t *words, uint32_t n, const uint32_t at[32]);

typedef struct rk__kernels {
    const char *name;
    rk__dense_kernels dense[RK__DENSE_SLOTS];
    rk__dist_fn hamming; /* n in bytes */
    rk__dist_fn jaccard; /* n in bytes; two empty sets are at distance 1 */
    rk__code4_fn code_l2x4;
    rk__code4_fn code_ipx4;
    rk__code8_fn code8_ip;
    rk__code8x4_fn code8_ipx4;
    rk__nibble_fn nibble_ip;
    rk__nibblex4_fn nibble_ipx4;
    rk__scan32_fn scan32;
    rk__scan32_fn scan32_low;
    rk__bits_sums_fn bits_sums;
    rk__bits_tables_fn bits_tables;
    rk__bits_span_fn bits_span;
    rk__rotate_fn rotate;
    rk__select_fn select;
    rk__test32_fn test32;
} rk__kernels;

extern const rk__kernels rk__kernels_scalar;
#if defined(__x86_64__)
extern const rk__kernels rk__kernels_avx2;
extern const rk__kernels rk__kernels_avx512;
#elif defined(__aarch64__)
extern const rk__kernels rk__kernels_neon;
extern const rk__kernels rk__kernels_neondot;
#endif

/* The table in use; the scalar one until rk_kernels_init(). */
const rk__kernels *rk__kernels_get(void);
/* The table of that name if this CPU can run it, or NULL. For tests. */
const rk__kernels *rk__kernels_find(const char *name);

static inline rk__dense_slot
rk__dense_slot_of(rk_vector_type type)
{
    return type == RK_VEC_F32    ? RK__F32
           : type == RK_VEC_F16  ? RK__F16
           : type == RK_VEC_BF16 ? RK__BF16
                                 : RK__I8;
}

#endif
