/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the two halves of regular expressions: the tree that regex_parse.c makes and regex.c
 * turns into a program.
 *
 * Nodes are an array; children of one parent are chained through |next|. The tree lives in the
 * arena of the compile.
 */
#ifndef RK_FILTER_REGEX_PRIVATE_H
#define RK_FILTER_REGEX_PRIVATE_H

#include "filter/filter_private.h"

#define RK__REGEX_MAX  20000 /* nodes of a tree, steps of a program */
#define RK__REGEX_NONE UINT32_MAX

typedef struct rk__regex_range {
    uint32_t lo, hi;
} rk__regex_range;

typedef enum rk__regex_kind {
    RN_EMPTY,
    RN_SET, /* one code point out of |ranges| */
    RN_ASSERT,
    RN_CONCAT,
    RN_ALTERNATE,
    RN_REPEAT,
} rk__regex_kind;

typedef enum rk__assertion {
    AS_BEGIN,
    AS_END,
    AS_LINE_BEGIN,
    AS_LINE_END,
    AS_WORD,
    AS_NOT_WORD,
} rk__assertion;

typedef struct rk__regex_node {
    rk__regex_kind kind;
    rk__assertion assertion;
    rk__regex_range *ranges;
    uint32_t ranges_len;
    bool negated;
    uint32_t min, max; /* RN_REPEAT; max NONE: any number */
    uint32_t first;    /* child */
    uint32_t next;     /* sibling */
} rk__regex_node;

typedef struct rk__regex_tree {
    rk__regex_node *nodes;
    uint32_t root;
} rk__regex_tree;

/* RK_EINVAL with |*why| a static sentence; RK_ENOMEM. Borrows |pattern| while it runs. */
RK_MUST_CHECK rk_code rk__regex_parse(rk__regex_tree *out, rk_str pattern, const char **why,
                                      rk_arena *arena);

/* The code point at |*at| of |s|, which moves past it; an ill-formed byte is U+FFFD. */
uint32_t rk__regex_next(rk_str s, size_t *at);

/* What \w holds. */
static inline bool
rk__regex_is_word(uint32_t code)
{
    return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') ||
           (code >= '0' && code <= '9') || code == '_';
}

#endif
