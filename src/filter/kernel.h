/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops over columns for one instruction set: a table of function pointers, chosen at first use.
 *
 * Every function takes plain pointers of any alignment, 64 rows or 64 bytes to a word, allocates
 * nothing and never fails; all tables give the same bits. AVX2 and AVX-512 have theirs in
 * kernel_x86.c; everywhere else (on aarch64 with NEON) the loops of kernel.c serve, written for the
 * vectoriser. The environment variable REDKITE_CPU (scalar, avx2, avx512) lowers the choice.
 */
#ifndef RK_FILTER_KERNEL_H
#define RK_FILTER_KERNEL_H

#include "filter/filter_private.h"

/* Bytes that may be read behind a text of JSON by |json_key|, beside the key's length. */
#define RK__JSON_SLACK 64

/* Bit i of the result is byte i (0 or 1). */
static inline uint64_t
rk__pack(const uint8_t bytes[64])
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight = rk_get_u64le(bytes + (size_t)i * 8);
        word |= ((eight * UINT64_C(0x0102040810204080)) >> 56) << (i * 8);
    }
    return word;
}

typedef enum rk__lane { LANE_I8, LANE_I16, LANE_I32, LANE_I64, LANE_F32, LANE_F64, LANES } rk__lane;

/* Bit i of word w: value 64 w + i lies within the bounds, which the lane can hold; |negate| and
 * |empty| are the caller's. */
typedef void (*rk__range_fn)(const void *x, size_t words, const rk__range *r, uint64_t *out);

/* A key to be looked for in texts of JSON: at least one byte of UTF-8 without quote, backslash,
 * slash and control characters. */
struct rk__json_key {
    const char *quoted; /* with its quotes */
    size_t len;         /* of |quoted|: at least 3 */
    bool ascii;
};

typedef enum rk__json_found { KEY_ABSENT, KEY_FOUND, KEY_ASK } rk__json_found;

typedef struct rk__filter_kernels {
    const char *name;
    rk__range_fn range[LANES];
    /* Bit i of word w: text 64 w + i has lo to hi bytes; offsets has 64 words + 1 entries. */
    void (*lengths)(const uint64_t *offsets, size_t words, uint64_t lo, uint64_t hi, uint64_t *out);
    /* Bit i of word w: the bytes 64 w + i, the one last / 2 and the one |last| behind it are
     * those of |want|. */
    void (*trios)(const char *p, size_t words, const char *want, size_t last, uint64_t *out);
    /*
     * The last member of the object |text| (checked JSON) with that key: |*at| is where its value
     * or blanks before it begin. KEY_ASK: escapes may hide the key, look at them. Reads up to
     * RK__JSON_SLACK + key->len bytes behind the text.
     */
    rk__json_found (*json_key)(const char *text, size_t len, const rk__json_key *key,
                               const char **at);
    /* The byte behind the object or array of checked JSON that begins at |p|; |end| when it does
     * not end. Reads up to RK__JSON_SLACK bytes behind |end|. */
    const char *(*json_end)(const char *p, const char *end);
} rk__filter_kernels;

extern const rk__filter_kernels rk__filter_kernels_scalar;
#if defined(__x86_64__)
extern const rk__filter_kernels rk__filter_kernels_avx2;
extern const rk__filter_kernels rk__filter_kernels_avx512;
#endif

/* The table in use. */
const rk__filter_kernels *rk__filter_kernels_get(void);
/* The table of that name if this CPU can run it, or NULL. */
const rk__filter_kernels *rk__filter_kernels_find(const char *name);
/* For tests: that table from now on; NULL: the choice is made anew. */
void rk__filter_kernels_use(const rk__filter_kernels *kernels);

#endif
