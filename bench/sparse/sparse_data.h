/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse rows as a learned term-expansion model gives them, made up: see sparse_data.c.
 */
#ifndef RK_BENCH_SPARSE_DATA_H
#define RK_BENCH_SPARSE_DATA_H

#include "index/index_private.h"

typedef struct sparse_data {
    size_t rows;
    size_t queries;
    uint8_t *data;
    uint64_t *offsets; /* rows + queries + 1; queries follow the rows */
} sparse_data;

/* Deterministic in |seed|; false when memory ran out. */
bool sparse_data_make(sparse_data *out, size_t rows, size_t queries, uint64_t seed);
/* Documents of a JSON-lines file that have "tokens": {"word": weight, ...}; no queries. */
bool sparse_data_load(sparse_data *out, const char *path);
void sparse_data_free(sparse_data *data);
/* What makes one set of sparse rows like another, one line. */
void sparse_data_describe(const sparse_data *data, const char *name);

#endif
