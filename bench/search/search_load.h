/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two files of the load generator share. One process, one data file, one collection.
 */
#ifndef RK_BENCH_SEARCH_LOAD_H
#define RK_BENCH_SEARCH_LOAD_H

#include "base/mem.h"
#include "bench/ann/ann_data.h"

#define ANSWERS 64u /* of one query, at most */

extern ann_data data;
/* Row numbers, ANSWERS of each query, of the last run() while set; UINT32_MAX where there was no
 * answer. */
extern uint32_t (*found)[ANSWERS];

/* Prepares one request for each query, in |arena|; |params| is JSON, |expr| empty for no filter. */
void encode_requests(const char *params, rk_str expr, rk_arena *arena);
/* Sends them by |threads| in turn, for so many seconds (0: each once); queries per second. */
double run(size_t threads, double seconds);
/* Sends the first one; milliseconds. */
double once(void);

/* ---- search_filter.c ---- */

typedef struct row_scalars {
    int64_t random; /* 0..999, whatever the vector */
    int64_t place;  /* 0..63, of its neighbourhood */
    rk_str tag;     /* "t0".."t9", whatever the vector */
} row_scalars;

void scalars_init(void); /* once, before the others */
row_scalars row_scalars_of(uint32_t row);
/* Searches under filters, their recall and their share of the speed without one, as a table. */
void filters(size_t threads, double seconds);

#endif
