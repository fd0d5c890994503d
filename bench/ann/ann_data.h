/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data file that every program of bench/ann reads, C, C++ and Python alike.
 *
 *   offset  size               what, little-endian
 *   0       6 x u32            base rows, query rows, dim, k, metric (0 L2, 1 cosine), 0
 *   24      rows * dim * f32   base vectors
 *   ...     queries * dim f32  query vectors
 *   ...     queries * k u32    for every query the row numbers of its k nearest, nearest first
 *
 * Cosine data is stored normalised, so that a library that only has L2 or inner product answers the
 * same question. Files of this kind are made on the machine that reads them: what is not as
 * expected ends the program.
 */
#ifndef RK_BENCH_ANN_DATA_H
#define RK_BENCH_ANN_DATA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct ann_data {
    uint32_t rows;
    uint32_t queries;
    uint32_t dim;
    uint32_t k;
    uint32_t metric;
    uint32_t zero;
    float *base;
    float *query;
    uint32_t *truth;
} ann_data;

static inline double
ann_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Time this process ran: what a single-threaded loop is timed with, so that other work on the
 * machine counts less. */
static inline double
ann_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void
ann_die(const char *what)
{
    fprintf(stderr, "ann: %s\n", what);
    exit(1);
}

static inline void *
ann_read(FILE *file, size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, (size_t)2 << 20, bytes + 64) != 0 || fread(p, 1, bytes, file) != bytes) {
        ann_die("short data file");
    }
    return p;
}

static inline ann_data
ann_load(const char *path)
{
    ann_data d;
    FILE *file = fopen(path, "rb");
    memset(&d, 0, sizeof(d));
    if (!file || fread(&d, 24, 1, file) != 1 || d.rows == 0 || d.dim == 0 || d.k == 0) {
        ann_die("no data file");
    }
    d.base = (float *)ann_read(file, (size_t)d.rows * d.dim * 4);
    d.query = (float *)ann_read(file, (size_t)d.queries * d.dim * 4);
    d.truth = (uint32_t *)ann_read(file, (size_t)d.queries * d.k * 4);
    fclose(file);
    return d;
}

static inline double
ann_recall(const ann_data *d, const uint32_t *found, uint32_t query)
{
    uint32_t hit = 0;
    for (uint32_t i = 0; i < d->k; i++) {
        for (uint32_t j = 0; j < d->k; j++) {
            hit += found[i] == d->truth[(size_t)query * d->k + j];
        }
    }
    return (double)hit / d->k;
}

/* Seconds that every point of a sweep is measured for, from the environment (ANN_SECONDS). */
static inline double
ann_seconds(void)
{
    const char *text = getenv("ANN_SECONDS");
    double seconds = text ? strtod(text, NULL) : 0;
    return seconds > 0 ? seconds : 1.0;
}

#endif
