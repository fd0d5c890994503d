/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One search of clusters, private to its three files: cluster_search.c (the way of a query),
 * cluster_rows.c (rows that wait for their records, and what they gave), cluster_filter.c (what a
 * filter changes). Nothing here outlives a search; all memory is the request's arena.
 */
#ifndef RK_INDEX_CLUSTER_SEARCH_H
#define RK_INDEX_CLUSTER_SEARCH_H

#include "index/cluster.h"

#define RK__CLUSTER_WAITING 512u
#define RK__CLUSTER_BATCH   16u
#define RK__CLUSTER_NEVER   INFINITY

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
    rk__heap near; /* k best by record */
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
    float share;      /* of all rows that pass */
    float held_key;   /* of the nearest list in which some pass */
    uint64_t before;  /* range: rows met that are nearer */
    uint32_t held;    /* lists visited in which some pass */
    uint32_t empty;   /* and in which none does */
    uint32_t tested;  /* rows tested before a scan, and */
    uint32_t passing; /* those of them that passed */
    bool scan_first;  /* rows are tested after a scan, not before */

    /* once it is known which lists hold rows that pass */
    bool counted;
    bool exact;             /* all were counted, not a sample */
    const uint32_t *starts; /* nlist + 1, into |places|; NULL: too many to put in order */
    const uint32_t *places; /* of passing rows, by list */
    float radius_of;        /* of a list, per unit of its spread */
    uint32_t seen;          /* passing rows with an estimate; of what rk__cluster_learn() makes */
    float sum;
    float squares;
} rk__cluster_search_state;

/* ---- cluster_rows.c ---- */

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
    if (lower == -INFINITY || (s->threshold != RK__CLUSTER_NEVER && !s->counted)) {
        rk__cluster_fetch(s, at);
    }
    s->waiting[s->n_waiting++] = (rk__cluster_item){lower, key, at};
    if (s->n_waiting == RK__CLUSTER_WAITING) {
        rk__cluster_flush(s);
    }
}

/* ---- cluster_filter.c ---- */

/* How far an estimate of a row of list |l| may be too large. */
static inline float
rk__cluster_margin(const rk__cluster_search_state *s, uint32_t l, float key)
{
    float reach = s->cluster->space.ip ? s->unit : sqrtf(RK_MAX(key, 0.0f));

    return s->effort.epsilon * s->cluster->spread[l] * reach;
}

/* Few pass, and all of them were scored by their records. */
bool rk__cluster_few(rk__cluster_search_state *s);
/* Visits a list. */
void rk__cluster_filtered_list(rk__cluster_search_state *s, const rk__cluster_item *list);
/* After some lists: few rows pass here and in all, so they had better be put in order. */
bool rk__cluster_wants_order(const rk__cluster_search_state *s);
void rk__cluster_order(rk__cluster_search_state *s);
/* After some lists: the rows that pass are elsewhere. */
bool rk__cluster_is_apart(const rk__cluster_search_state *s);
/* Finds out which lists hold them, and visits those: the lists of this stage from |from| on were
 * not visited, those before were. */
void rk__cluster_probe_counted(rk__cluster_search_state *s, uint32_t from);
/* What the distances of the rows of a list spread by, seen from the query. */
static inline float
rk__cluster_across(const rk__cluster_search_state *s, float radius, float key)
{
    return radius * (s->cluster->space.ip ? s->unit : sqrtf(RK_MAX(key, 0.0f)));
}

/* A passing row of list |l| whose estimate is |above| the list's key. */
static inline void
rk__cluster_learn(rk__cluster_search_state *s, uint32_t l, float above, float key)
{
    float radius = s->radius_of * s->cluster->spread[l];
    float mean = s->cluster->space.ip ? 0 : radius * radius;
    float x = (above - mean) / rk__cluster_across(s, radius, key);

    if (isfinite(x)) {
        s->seen++;
        s->sum += x;
        s->squares += x * x;
    }
}

#endif
