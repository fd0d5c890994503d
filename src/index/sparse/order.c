/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the centres of the clusters of a sparse index in an order in which similar ones are
 * neighbours. What recursive graph bisection (Dhulipala et al., KDD 2016) does with terms is done
 * here on sketches: each centre is folded into SKETCH signed sums (a count sketch: Charikar, Chen
 * and Farach-Colton 2002) and rounded to i8. A range of centres is split in two by 2-means on a
 * sample of it, at a share between 1/4 and 3/4, until single ones are left. On one thread: there is
 * one centre per 32 rows.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

#define SKETCH 128u
#define LEAF   2u
#define SAMPLE 384u
#define ROUNDS 4u

typedef struct range {
    size_t from;
    size_t to;
} range;

typedef struct ordering {
    const rk__kernels *kernels;
    int8_t *sketches;
    uint32_t *order;
    uint32_t *spare; /* the far side of a split */
} ordering;

static void
to_i8(const float *in, int8_t *out)
{
    float largest = 0;

    for (size_t i = 0; i < SKETCH; i++) {
        largest = RK_MAX(largest, fabsf(in[i]));
    }
    float scale = largest > 0 ? 127.0f / largest : 0.0f;
    for (size_t i = 0; i < SKETCH; i++) {
        out[i] = (int8_t)lrintf(in[i] * scale);
    }
}

static void
sketch(const rk__pair *pairs, size_t n, int8_t *out)
{
    float sums[SKETCH] = {0};

    for (size_t i = 0; i < n && pairs[i].index != UINT32_MAX; i++) {
        uint64_t h = rk_hash_u64(pairs[i].index);
        sums[h % SKETCH] += h & (1u << 20) ? pairs[i].value : -pairs[i].value;
    }
    to_i8(sums, out);
}

static inline const int8_t *
sketch_at(const ordering *o, size_t place)
{
    return o->sketches + (size_t)o->order[place] * SKETCH;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return x < y ? -1 : x > y;
}

static size_t
least_similar(const ordering *o, const size_t *sample, size_t n, const int8_t *to)
{
    float least = INFINITY;
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        float ip = o->kernels->dense[RK__I8].ip(sketch_at(o, sample[i]), to, SKETCH);
        if (ip < least) {
            least = ip;
            found = i;
        }
    }
    return found;
}

/* Half the way between the normalised means of the two sides, as a direction. */
static void
direction_of(const ordering *o, const size_t *sample, const float *scores, float limit, size_t n,
             int8_t *out)
{
    float means[2][SKETCH] = {{0}};
    float diff[SKETCH];
    float inv[2];

    for (size_t i = 0; i < n; i++) {
        const int8_t *s = sketch_at(o, sample[i]);
        float *mean = means[scores[i] >= limit];
        for (size_t d = 0; d < SKETCH; d++) {
            mean[d] += (float)s[d];
        }
    }
    for (size_t side = 0; side < 2; side++) {
        float square = 0;
        for (size_t d = 0; d < SKETCH; d++) {
            square += means[side][d] * means[side][d];
        }
        inv[side] = square > 0 ? 1.0f / sqrtf(square) : 0.0f;
    }
    for (size_t d = 0; d < SKETCH; d++) {
        diff[d] = means[1][d] * inv[1] - means[0][d] * inv[0];
    }
    to_i8(diff, out);
}

/* Scores of a direction: where to cut. Zero lies between the means; kept inside the middle half. */
static float
cut_of(const float *scores, size_t n)
{
    float sorted[SAMPLE];

    memcpy(sorted, scores, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_floats);
    return RK_MIN(RK_MAX(0.0f, sorted[n / 4]), sorted[n - 1 - n / 4]);
}

/* Splits a range; returns where the second part begins. */
static size_t
split(ordering *o, range r)
{
    size_t n = r.to - r.from;
    size_t n_sample = RK_MIN(n, (size_t)SAMPLE);
    size_t sample[SAMPLE];
    float scores[SAMPLE];
    int8_t direction[SKETCH];
    float diff[SKETCH];
    float cut = 0;

    for (size_t i = 0; i < n_sample; i++) {
        sample[i] = r.from + i * n / n_sample;
    }
    size_t a = least_similar(o, sample, n_sample, sketch_at(o, sample[n_sample / 2]));
    size_t b = least_similar(o, sample, n_sample, sketch_at(o, sample[a]));
    for (size_t d = 0; d < SKETCH; d++) {
        diff[d] = (float)sketch_at(o, sample[a])[d] - (float)sketch_at(o, sample[b])[d];
    }
    to_i8(diff, direction);
    for (size_t round = 0; round <= ROUNDS; round++) {
        if (round > 0) {
            direction_of(o, sample, scores, cut, n_sample, direction);
        }
        for (size_t i = 0; i < n_sample; i++) {
            scores[i] = o->kernels->dense[RK__I8].ip(sketch_at(o, sample[i]), direction, SKETCH);
        }
        cut = cut_of(scores, n_sample);
    }

    size_t left = r.from;
    size_t right = 0;
    for (size_t place = r.from; place < r.to; place++) {
        uint32_t row = o->order[place];
        if (place + 8 < r.to) {
            const char *next = (const char *)sketch_at(o, place + 8);
            RK__SPARSE_ASK(next);
            RK__SPARSE_ASK(next + 64);
        }
        if (o->kernels->dense[RK__I8].ip(sketch_at(o, place), direction, SKETCH) >= cut) {
            o->order[left++] = row;
        } else {
            o->spare[r.from + right++] = row;
        }
    }
    memcpy(o->order + left, o->spare + r.from, right * sizeof(uint32_t));
    if (left == r.from || left == r.to) {
        return r.from + n / 2; /* all alike */
    }
    return left;
}

rk_code
rk__sparse_order_centres(const rk__pair *pairs, size_t per_centre, size_t n,
                         const rk_build_options *options, uint32_t *order, rk_err *err)
{
    ordering o = {.kernels = rk__kernels_get(), .order = order};
    range waiting[64];
    size_t n_waiting = 0;
    range r = {0, n};
    rk_code code = RK_OK;

    o.sketches = rk__alloc_huge((n + 1) * SKETCH);
    o.spare = rk_alloc((n + 1) * sizeof(*o.spare));
    if (!o.sketches || !o.spare) {
        code = rk_fail(err, RK_ENOMEM, "sparse index: no memory to order %zu clusters", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
        sketch(pairs + i * per_centre, per_centre, o.sketches + i * SKETCH);
    }
    for (;;) { /* the larger half waits, so that at most log2(n) do */
        if (r.to - r.from >= LEAF && n_waiting < RK_COUNT(waiting) && !rk__cancelled(options)) {
            size_t at = split(&o, r);
            range halves[2] = {{r.from, at}, {at, r.to}};
            size_t larger = halves[1].to - halves[1].from > halves[0].to - halves[0].from;
            waiting[n_waiting++] = halves[larger];
            r = halves[1 - larger];
        } else if (n_waiting > 0) {
            r = waiting[--n_waiting];
        } else {
            break;
        }
    }
out:
    rk_free(o.sketches);
    rk_free(o.spare);
    return code;
}
