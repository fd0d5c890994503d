/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs that make data files share: random numbers, threads, exact answers, and an
 * estimate of how hard a set is. Needs the index library; programs that only read a data file need
 * ann_data.h alone.
 */
#ifndef RK_BENCH_ANN_MAKE_H
#define RK_BENCH_ANN_MAKE_H

#include "ann_data.h"
#include "index/index_private.h"

#define ANN_QUERIES 1000u
#define ANN_K       10u

/* A number of the command line; ends the program when |text| is none. */
uint32_t ann_number(const char *text);

double ann_uniform(uint64_t *state); /* in (0, 1] */
float ann_gauss(uint64_t *state);

/* An rk_parallel.run over plain threads; |self| points to an unsigned, how many. */
void ann_run_threads(void *self, size_t n, void (*fn)(void *, size_t), void *arg);
unsigned ann_threads(void); /* ANN_THREADS of the environment, or one per core */

rk_vectors ann_vectors(const ann_data *d);

/*
 * Computes the exact answers of |d| with the flat kernels and writes the file. Prints the local
 * intrinsic dimension (maximum likelihood, k = 100, mean over a sample) of base rows among the base
 * and of queries against it: what decides how hard a set is for a graph.
 */
void ann_write(const char *path, ann_data *d);

#endif
