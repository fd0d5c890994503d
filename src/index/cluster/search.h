/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One search of clusters, private to its files: cluster/search.c (the way of a query),
 * cluster/rows.c (rows that wait for their records, and what they gave), cluster/filter.c (what a
 * filter changes), cluster/reach.c (where probing ends under one). Nothing here outlives a search;
 * all memory is the request's arena.
 */
#ifndef RK_INDEX_CLUSTER_SEARCH_H
#define RK_INDEX_CLUSTER_SEARCH_H

#include "index/cluster/cluster.h"

#define RK__CLUSTER_WAITING 512u
#define RK__CLUSTER_BATCH   16u
#define RK__CLUSTER_NEVER   INFINITY

#define RK__CLUSTER_PENDING 64u
#define RK__CLUSTER_SAMPLE  256u /* rows tell which share passes near the query */

/* A block of a filtered list, scanned when it has come into the cache. */
typedef struct rk__cluster_pending {
    uint32_t from; /* place of its first row */
    uint32_t block;
    uint32_t may;  /* bits of the rows that pass */
    uint32_t rows; /* bits of those that there are */
    uint32_t list;
    float key;       /* of the list */
    float of_blocks; /* of the list: all, by those in which a row passes */
} rk__cluster_pending;

typedef struct rk__cluster_search_state {
    const rk_index *index;
    const rk__cluster *cluster;
    const rk__query *query;
    const rk_search_options *options;
    rk__cluster_effort effort;
    rk__cluster_point point;
    rk__cluster_query coded;
    float to_est;    /* IP: <mean, query>, added to a key of the metric gives an estimate */
    float unit;      /* IP: what beta, epsilon and slack are shares of */
    float slack;     /* a record's distance may be off by this */
    float threshold; /* k-th best so far, or the radius; NEVER while there are fewer */
    float lower;     /* range: nearer ones do not qualify; -INFINITY */
    rk__range range;
    rk__heap near;   /* k best by record, each with the key of its list for a number */
    double sum_keys; /* of these */
    rk__near *kept;
    uint32_t n_kept;
    uint32_t kept_cap;
    rk__cluster_lists lists;
    float best;      /* the nearest row so far, and */
    float best_key;  /* the key of its list */
    uint32_t scored; /* rows, by record */
    float scan_cost; /* nanoseconds, about */
    rk__cluster_item *waiting;
    uint32_t n_waiting;
    bool no_memory;

    /* under a filter */
    float share;             /* of all rows that pass */
    float held_key;          /* of the nearest list in which some pass */
    uint64_t before;         /* range: rows met that are nearer */
    uint32_t held;           /* lists visited in which some pass */
    uint32_t empty;          /* and in which none does */
    uint32_t tested;         /* rows tested before a scan, and */
    uint32_t passing;        /* those of them that passed */
    float rate;              /* of passing rows in the list tested last */
    float survived;          /* rows of a block, in the last scan */
    bool scan_first;         /* rows are tested after a scan, not before */
    float near_rows;         /* that estimates let through, lately, and */
    float near_passing;      /* those of them that pass */
    bool apart;              /* the rows that pass are elsewhere */
    bool open;               /* as good as all rows around the query pass */
    bool left;               /* more pass around the query than effort.most_around */
    rk__cluster_out reached; /* by the lists so far; traced */

    const rk__ordered *ordered; /* the filter in the order of the lists; NULL: not made before */
    const rk__ordered_limit *limit; /* how far to go, where that was measured under it; or NULL */
    float limit_near[2];            /* for the recall that is wanted */
    bool whole;                     /* all lists with passing rows are visited: they are few */
    const uint8_t *map;             /* bits of the filter by place; NULL: not made */
    rk__cluster_pending *pending;
    uint32_t n_pending;
} rk__cluster_search_state;

/* ---- cluster/search.c ---- */

/* How far above the list of key |nearest| one with |key| lies, as beta counts it. */
float rk__cluster_distance_above(const rk__cluster_search_state *s, float key, float nearest);

/* ---- cluster/rows.c ---- */

static inline bool
rk__cluster_passes(const rk__cluster_search_state *s, uint32_t row)
{
    return row < s->cluster->rows &&
           (!s->options->filter || rk_bitset_get(s->options->filter, row));
}

static inline void
rk__cluster_fetch(const rk__cluster_search_state *s, uint32_t at)
{
    const rk__cluster *c = s->cluster;
    const rk__space *space = &s->index->space;

    if (c->records) {
        rk__fetch(c->records + (size_t)at * c->space.record, RK_MIN(c->space.record, 512u));
    } else if (c->row_of[at] < c->rows) {
        rk__fetch_early(rk__space_row(space, c->row_of[at]),
                        RK_MIN(space->row_bytes, (size_t)2048));
    }
}

/* Scores the rows that wait and are still worth it. */
void rk__cluster_flush(rk__cluster_search_state *s);
/* What was kept, scored on the vectors, into |heap|. */
void rk__cluster_finish(rk__cluster_search_state *s, rk__heap *heap);

/* The row at place |at| waits; |lower|: it is not nearer; |key|: of its list. */
static inline void
rk__cluster_wait(rk__cluster_search_state *s, float lower, float key, uint32_t at)
{
    if (lower == -INFINITY || (s->threshold != RK__CLUSTER_NEVER)) {
        rk__cluster_fetch(s, at);
    }
    s->waiting[s->n_waiting++] = (rk__cluster_item){lower, key, at};
    if (s->n_waiting == RK__CLUSTER_WAITING) {
        rk__cluster_flush(s);
    }
}

/* ---- cluster/filter.c ---- */

/* Few pass, and all of them were scored by their records. */
bool rk__cluster_few(rk__cluster_search_state *s);
/* Probes lists under a filter. */
void rk__cluster_probe_filtered(rk__cluster_search_state *s);

/* ---- cluster/reach.c ---- */

/* How far a list lies out; -INFINITY while there are fewer than k. */
rk__cluster_out rk__cluster_lies_out(const rk__cluster_search_state *s, float key);
/* How far the k-th row lies out, in the unit of near. */
float rk__cluster_kth(const rk__cluster_search_state *s);
/* After some lists: notes when the rows that pass are elsewhere. */
void rk__cluster_look(rk__cluster_search_state *s);
/* Before the first list, under a filter in order: the same from all lists around the query, and
 * what was measured for such queries. Lists without a passing row are not given any more. */
void rk__cluster_survey(rk__cluster_search_state *s);
/* What epsilon is then, at least. */
float rk__cluster_apart_epsilon(const rk__cluster_search_state *s);
/* Of a range search: whether a list may hold rows within the radius, which says where they end
 * better than the nearest list does where few rows lie around the query. */
bool rk__cluster_may_reach(const rk__cluster_search_state *s, float key);
/* Whether a list that lies |out| so far ends a filtered search. */
bool rk__cluster_is_far(rk__cluster_search_state *s, float key, float nearest, rk__cluster_out out);

/* ---- one block ---- */

/*
 * What a list's blocks are scanned with.
 *
 * An estimate takes the query relative to the centre c of the list, as q - c: its error grows with
 * |q - c| and the row's own length (its factor mul). For L2 that is the distance, and one margin
 * does for a list. By IP a row's rank does not change with the length of the query, but that error
 * does, and where centres are long it drowns all else: there the query is taken |times| as long as
 * it is, so that times * q - c is as short as it gets. Long rows win most searches, so each has a
 * margin of its own: mul is negative, and what is added to the sums of signs lowers an estimate by
 * mul times that.
 */
typedef struct rk__cluster_scan {
    const rk__cluster_search_state *s;
    rk__scan32_fn scan;
    size_t groups;
    size_t codes; /* bytes before a block's factors */
    float unit;   /* of the sums of signs */
    float bias;   /* the same */
    float key;
    float times;  /* the query's length is taken as; 1 for L2 */
    float part;   /* 1 / times */
    float margin; /* of estimates; 0 for IP: within bias */
} rk__cluster_scan;

#define RK__SIGNS_APART 0.6f   /* root of 1 - 2 / pi: signs against a row in any direction */
#define RK__PART_LEAST  0.001f /* of the query's length */

/* The part of centre |list| that is nearest to the query; |key| is less their product. */
static inline float
rk__cluster_centre_share(const rk__cluster_search_state *s, uint32_t list, float key)
{
    const rk__cluster_space *space = &s->cluster->space;
    const uint8_t *record = s->cluster->centre_records + (size_t)list * space->record;
    const int8_t *codes = (const int8_t *)record;
    float factors[2];

    memcpy(factors, record + space->record - sizeof(factors), sizeof(factors));
    float square =
        factors[1] * factors[1] * (float)rk__kernels_get()->code8_ip(codes, codes, space->reduced);
    float least = RK__PART_LEAST * s->unit;
    float part = -key / square;
    return part * part * square > least * least && part > 0 ? part : least / sqrtf(square);
}

static inline rk__cluster_scan
rk__cluster_scan_of(const rk__cluster_search_state *s, uint32_t list, float key)
{
    const rk__cluster_space *space = &s->cluster->space;
    rk__cluster_scan b = {.s = s,
                          .scan = rk__kernels_get()->scan32_low,
                          .groups = rk__bits_groups(space->padded),
                          .codes = rk__cluster_codes_bytes(space),
                          .unit = s->coded.bits.unit,
                          .bias = s->coded.bits.bias,
                          .key = key,
                          .times = 1,
                          .part = 1};

    if (!space->ip) {
        b.margin = s->effort.epsilon * s->cluster->spread[list] * sqrtf(RK_MAX(key, 0.0f));
        return b;
    }
    float part = rk__cluster_centre_share(s, list, key);
    if (isnormal(part) && isnormal(1 / part)) {
        b.part = part;
        b.times = 1 / part;
    }
    b.unit *= b.times;
    b.bias = (b.bias + s->effort.epsilon * RK__SIGNS_APART * s->unit) * b.times;
    b.key *= b.times;
    return b;
}

/* Estimates of the first |n| rows of a block, 32 at most; bits of those that may be near enough. */
static inline uint32_t
rk__cluster_scan_block(const rk__cluster_scan *b, const uint8_t *block, uint32_t n,
                       float est[RK__BITS_ROWS])
{
    const float *add = (const float *)(const void *)(block + b->codes);
    uint32_t may = n >= RK__BITS_ROWS ? UINT32_MAX : (UINT32_C(1) << n) - 1;

    return may & b->scan(b->s->coded.bits.lut, block, b->groups, add, add + RK__BITS_ROWS, b->unit,
                         b->bias, b->key, (b->s->threshold + b->margin) * b->times, est);
}

/* What a row with the estimate |est| is not nearer than. */
static inline float
rk__cluster_lower(const rk__cluster_scan *b, float est)
{
    return est * b->part - b->margin;
}

#endif
