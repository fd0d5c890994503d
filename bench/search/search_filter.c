/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filtered searches as an application sends them: an expression over scalar fields, which the
 * server evaluates.
 *
 * `random` and `tag` have nothing to do with the vectors; `place` is the nearest of 64 rows, so a
 * filter by it passes whole neighbourhoods. Recall is against an exact search of the rows that
 * pass, over the first queries; speed is over all of them, without a filter and with one in turn.
 * The first search with an expression is timed alone: what it finds out is kept for those after it.
 */
#include <math.h>

#include "base/util.h"
#include "bench/search/search_load.h"

#define PLACES  64u
#define CHECKED 40u /* queries whose recall is looked at */
#define PARAMS  "{\"target_recall\":0.95}"

typedef struct filter_case {
    const char *expr;
    bool (*passes)(const row_scalars *);
} filter_case;

static uint8_t *places;

static float
distance(const float *a, const float *b)
{
    float sum[8] = {0};
    uint32_t i = 0;

    for (; i + 8 <= data.dim; i += 8) {
        for (uint32_t j = 0; j < 8; j++) {
            float d = a[i + j] - b[i + j];
            sum[j] += d * d;
        }
    }
    for (; i < data.dim; i++) {
        sum[0] += (a[i] - b[i]) * (a[i] - b[i]);
    }
    for (uint32_t j = 1; j < 8; j++) {
        sum[0] += sum[j];
    }
    return sum[0];
}

void
scalars_init(void)
{
    places = malloc(data.rows);
    if (!places) {
        ann_die("memory is out");
    }
    for (uint32_t row = 0; row < data.rows; row++) {
        const float *v = data.base + (size_t)row * data.dim;
        float nearest = INFINITY;
        for (uint32_t p = 0; p < PLACES; p++) {
            uint32_t pivot = (uint32_t)(rk_hash_u64(p) % data.rows);
            float d = distance(v, data.base + (size_t)pivot * data.dim);
            places[row] = d < nearest ? (uint8_t)p : places[row];
            nearest = RK_MIN(nearest, d);
        }
    }
}

row_scalars
row_scalars_of(uint32_t row)
{
    static const char *const tags[] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"};
    uint64_t hash = rk_hash_u64(row + UINT64_C(0x9e3779b9));

    return (row_scalars){(int64_t)(hash % 1000), places[row],
                         rk_str_from(tags[(hash >> 32) % RK_COUNT(tags)])};
}

#define BELOW(n)                                                                                   \
    static bool below_##n(const row_scalars *r)                                                    \
    {                                                                                              \
        return r->random < n;                                                                      \
    }

BELOW(1)
BELOW(10)
BELOW(100)
BELOW(300)
BELOW(500)
BELOW(900)

static bool
every(const row_scalars *r)
{
    (void)r;
    return true;
}

static bool
tag_is_3(const row_scalars *r)
{
    return r->tag.data[1] == '3';
}

static bool
tag_is_odd(const row_scalars *r)
{
    return r->tag.data[1] % 2 == 1;
}

static bool
place_below_7(const row_scalars *r)
{
    return r->place < 7;
}

static bool
both(const row_scalars *r)
{
    return r->random < 500 && r->tag.data[1] == '3';
}

static const filter_case cases[] = {
    {"", every},
    {"random < 1", below_1},
    {"random < 10", below_10},
    {"random < 100", below_100},
    {"random < 300", below_300},
    {"random < 500", below_500},
    {"random < 900", below_900},
    {"tag == \"t3\"", tag_is_3},
    {"tag in [\"t1\", \"t3\", \"t5\", \"t7\", \"t9\"]", tag_is_odd},
    {"place < 7", place_below_7},
    {"random < 500 and tag == \"t3\"", both},
};

/* The k nearest that pass, in data.truth. */
static double
truth_of(const filter_case *c)
{
    float *keys = malloc((size_t)data.k * sizeof(*keys));
    uint32_t passing = 0;

    for (uint32_t q = 0; keys && q < RK_MIN(CHECKED, data.queries); q++) {
        uint32_t *best = data.truth + (size_t)q * data.k;
        uint32_t n = 0;
        passing = 0;
        for (uint32_t row = 0; row < data.rows; row++) {
            row_scalars s = row_scalars_of(row);
            if (!c->passes(&s)) {
                continue;
            }
            passing++;
            float d =
                distance(data.query + (size_t)q * data.dim, data.base + (size_t)row * data.dim);
            if (n == data.k && d >= keys[n - 1]) {
                continue;
            }
            uint32_t at = n < data.k ? n++ : n - 1;
            for (; at > 0 && keys[at - 1] > d; at--) {
                keys[at] = keys[at - 1];
                best[at] = best[at - 1];
            }
            keys[at] = d;
            best[at] = row;
        }
    }
    free(keys);
    return (double)passing / data.rows;
}

void
filters(size_t threads, double seconds)
{
    uint32_t checked = RK_MIN(CHECKED, data.queries);
    rk_arena *arena = rk_arena_new(0);

    printf(
        "| filter | passing | recall@%u | queries/s | of the speed without | first search, ms |\n"
        "| --- | --- | --- | --- | --- | --- |\n",
        data.k);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        double passing = truth_of(&cases[i]);
        double recall = 0;
        encode_requests(PARAMS, RK_STR(""), arena);
        (void)run(threads, seconds / 4);
        double plain = run(threads, seconds);
        rk_arena_reset(arena);
        encode_requests(PARAMS, rk_str_from(cases[i].expr), arena);
        double first = once();
        found = malloc(data.queries * sizeof(*found));
        (void)run(threads, 0);
        for (uint32_t q = 0; q < checked; q++) {
            recall += ann_recall(&data, found[q], q);
        }
        free(found);
        found = NULL;
        double qps = run(threads, seconds);
        rk_arena_reset(arena);
        printf("| %s | %.1f %% | %.3f | %.0f | %.0f %% | %.2f |\n",
               cases[i].expr[0] ? cases[i].expr : "none", 100 * passing, recall / checked, qps,
               100 * qps / plain, first);
        fflush(stdout);
    }
    rk_arena_free(arena);
}
