/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metric MHJACCARD over rows of a binary matrix: see minhash.c.
 */
#ifndef RK_INDEX_MINHASH_H
#define RK_INDEX_MINHASH_H

#include "index/index_private.h"

typedef struct rk__minhash {
    uint32_t width_bytes; /* of a hash, 1..32; first of the image's section, with |bands| */
    uint32_t bands;       /* 1..hashes */
    uint32_t hashes;      /* of a vector */
    uint32_t band_bytes;
} rk__minhash;

/* From mh_element_bit_width and mh_lsh_band; RK_EINVAL when they do not fit |dim|. */
RK_MUST_CHECK rk_code rk__minhash_init(rk__minhash *shape, uint32_t dim, rk_params params,
                                       rk_err *err);
/* Whether two vectors share a band. */
bool rk__minhash_meets(const rk__minhash *shape, const uint8_t *a, const uint8_t *b);
/* The share of equal hashes. */
float rk__minhash_share(const rk__minhash *shape, const uint8_t *a, const uint8_t *b);
/* mh_search_with_jaccard */
bool rk__minhash_wants_share(rk_params params);

/* Scores rows without an index into |heap|: rk_flat_search() for this metric. */
RK_MUST_CHECK rk_code rk__minhash_scan(const rk_vectors *vectors, size_t row_base,
                                       const void *query, size_t query_len,
                                       const rk_search_options *options, const rk__range *range,
                                       rk__heap *heap, rk_err *err);

#endif
