/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the index tests: seeded data of every vector type, brute force written independently of
 * the engine (the scalar reference and a full sort), filters of a given density, a writer of images
 * into memory and a pool of threads.
 */
#ifndef RK_TESTS_INDEX_TESTING_H
#define RK_TESTS_INDEX_TESTING_H

/* cmocka.h wants the others before it */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */
#include <pthread.h>
#include <stdatomic.h>

#include "index/index_private.h"

typedef struct testing_rng {
    uint64_t state;
} testing_rng;

static inline uint64_t
testing_u64(testing_rng *rng)
{
    return rk__random(&rng->state);
}

static inline double
testing_uniform(testing_rng *rng)
{
    return (double)(testing_u64(rng) >> 11) * 0x1p-53;
}

static inline float
testing_gauss(testing_rng *rng)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += testing_uniform(rng);
    }
    return (float)(sum - 6);
}

/* Writes one component. */
static inline void
testing_put(rk_vector_type type, void *row, size_t i, float v)
{
    uint8_t *p = row;
    if (type == RK_VEC_F32) {
        memcpy(p + i * 4, &v, 4);
    } else if (type == RK_VEC_F16) {
        rk_put_u16le(p + i * 2, rk_f32_to_f16(v));
    } else if (type == RK_VEC_BF16) {
        rk_put_u16le(p + i * 2, rk_f32_to_bf16(v));
    } else {
        float scaled = v * 40;
        p[i] = (uint8_t)(int8_t)(scaled > 127 ? 127 : scaled < -128 ? -128 : scaled);
    }
}

/* |clusters| gaussian balls through a random map of |latent| dimensions, with the last of them 0
 * for plain gaussian noise. */
static inline void *
testing_dense(rk_vector_type type, uint32_t dim, size_t rows, uint32_t latent, uint64_t seed)
{
    testing_rng rng = {seed};
    testing_rng shape = {77};
    size_t bytes = rk_vector_bytes(type, dim);
    uint8_t *data = rk_alloc(rows * bytes + 64);
    float *map = rk_alloc(((size_t)latent * dim + 1) * sizeof(float));
    float centres[16][64];

    assert_non_null(data);
    assert_non_null(map);
    assert_true(latent <= 64);
    for (size_t i = 0; i < (size_t)latent * dim; i++) {
        map[i] = testing_gauss(&shape) / sqrtf((float)latent + 1);
    }
    for (size_t i = 0; i < 16 * 64; i++) {
        centres[i / 64][i % 64] = testing_gauss(&shape);
    }
    for (size_t r = 0; r < rows; r++) {
        if (type == RK_VEC_BINARY) {
            uint64_t proto = testing_u64(&rng) % 16;
            for (size_t b = 0; b < bytes; b++) {
                uint64_t base = rk_hash_u64(proto * 1000 + b + 1);
                data[r * bytes + b] =
                    (uint8_t)(base ^ (testing_u64(&rng) & testing_u64(&rng) & testing_u64(&rng)));
            }
            continue;
        }
        float z[64];
        size_t c = testing_u64(&rng) % 16;
        for (uint32_t l = 0; l < latent; l++) {
            z[l] = centres[c][l] + 0.6f * testing_gauss(&rng);
        }
        for (uint32_t i = 0; i < dim; i++) {
            float v = latent ? 0.05f * testing_gauss(&rng) : testing_gauss(&rng);
            for (uint32_t l = 0; l < latent; l++) {
                v += z[l] * map[(size_t)l * dim + i];
            }
            testing_put(type, data + r * bytes, i, v);
        }
    }
    rk_free(map);
    return data;
}

/* Rows of 1..|nnz_max| pairs over |terms| indexes, low ones more frequent; offsets has rows + 1
 * entries. */
static inline void *
testing_sparse(size_t rows, uint32_t terms, uint32_t nnz_max, uint64_t seed, uint64_t **offsets)
{
    testing_rng rng = {seed};
    rk_buf buf = {0};

    *offsets = rk_alloc((rows + 1) * sizeof(uint64_t));
    assert_non_null(*offsets);
    (*offsets)[0] = 0;
    for (size_t r = 0; r < rows; r++) {
        uint32_t n = 1 + (uint32_t)(testing_u64(&rng) % nnz_max);
        uint32_t at = 0;
        for (uint32_t i = 0; i < n; i++) {
            double u = testing_uniform(&rng);
            at += 1 + (uint32_t)(u * u * 2 * terms / (n + 1));
            float v = (float)(testing_uniform(&rng) * 3);
            uint32_t bits = 0;
            memcpy(&bits, &v, 4);
            rk_buf_u32le(&buf, at);
            rk_buf_u32le(&buf, bits);
        }
        (*offsets)[r + 1] = buf.len;
    }
    assert_false(buf.failed);
    return buf.data;
}

static inline void
testing_filter(rk_bitset *set, size_t rows, double density, uint64_t seed)
{
    testing_rng rng = {seed};

    assert_int_equal(rk_bitset_init(set, rows), RK_OK);
    for (size_t i = 0; i < rows; i++) {
        if (testing_uniform(&rng) < density) {
            rk_bitset_set(set, i);
        }
    }
}

static inline int
testing_compare(const void *a, const void *b)
{
    const rk__near *x = a;
    const rk__near *y = b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

static inline float
testing_score(const rk_vectors *v, rk_metric metric, const void *query, size_t query_len,
              size_t row)
{
    if (v->type == RK_VEC_SPARSE) {
        const uint8_t *q = query;
        double sum = 0;
        for (size_t i = 0; i < query_len; i += 8) {
            for (uint64_t at = v->offsets[row]; at < v->offsets[row + 1]; at += 8) {
                const uint8_t *p = (const uint8_t *)v->data + at;
                if (rk_get_u32le(p) == rk_get_u32le(q + i)) {
                    float x = 0;
                    float y = 0;
                    memcpy(&x, p + 4, 4);
                    memcpy(&y, q + i + 4, 4);
                    sum += (double)x * (double)y;
                }
            }
        }
        return (float)sum;
    }
    return rk_distance(v->type, metric, v->dim, query,
                       (const uint8_t *)v->data + row * rk_vector_bytes(v->type, v->dim));
}

/* All passing rows, best first, in keys (smaller is nearer); returns how many. |out| has room for
 * all rows. */
static inline size_t
testing_truth(const rk_vectors *v, rk_metric metric, const void *query, size_t query_len,
              const rk_bitset *filter, rk__near *out)
{
    size_t n = 0;

    for (size_t row = 0; row < v->rows; row++) {
        if (filter && !rk_bitset_get(filter, row)) {
            continue;
        }
        float score = testing_score(v, metric, query, query_len, row);
        if (score != score || (v->type == RK_VEC_SPARSE && score <= 0)) {
            continue;
        }
        out[n++] = (rk__near){rk_metric_larger_is_nearer(metric) ? -score : score, (uint32_t)row};
    }
    qsort(out, n, sizeof(*out), testing_compare);
    return n;
}

/* Writes an image to a rk_buf. */
static inline rk_code
testing_append(void *user, const void *data, size_t len, rk_err *err)
{
    RK_UNUSED(err);
    rk_buf_append(user, data, len);
    return RK_OK;
}

typedef struct testing_pool_job {
    size_t n;
    void (*fn)(void *, size_t);
    void *arg;
    _Atomic(size_t) next;
} testing_pool_job;

static inline void *
testing_pool_main(void *arg)
{
    testing_pool_job *job = arg;
    for (size_t i = atomic_fetch_add(&job->next, 1); i < job->n;
         i = atomic_fetch_add(&job->next, 1)) {
        job->fn(job->arg, i);
    }
    return NULL;
}

/* As rk_parallel.run: on four threads. */
static inline void
testing_pool_run(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    testing_pool_job job = {.n = n, .fn = fn, .arg = arg};
    pthread_t threads[3];

    RK_UNUSED(self);
    for (size_t i = 0; i < RK_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, testing_pool_main, &job), 0);
    }
    testing_pool_main(&job);
    for (size_t i = 0; i < RK_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
}

#endif
