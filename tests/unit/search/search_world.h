/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two growing and two sealed segments under random writes, with a list of what was written beside
 * them, and predicates in both languages: what searches and queries are compared over.
 */
#ifndef RK_SEARCH_WORLD_H
#define RK_SEARCH_WORLD_H

#include "search/search.h"
#include "segment_testing.h"

#define SEGS 4
#define KEYS 900

typedef struct world {
    st_store store;
    rk_schema *schema;
    rk_segment *segs[SEGS]; /* two sealed, two growing */
    st_model model;         /* of all; keys are unique at any time */
    uint64_t last_ts;
    rk_arena *arena;
    rk_filter_cache *cache; /* NULL: reads keep nothing */
    pb_rk_SegmentInfo infos[2];
} world;

typedef struct predicate {
    const char *expr;
    bool (*pass)(st_row row);
    bool numbers_only; /* the expression names integer keys */
} predicate;

#define PREDICATES 8
extern const predicate predicates[PREDICATES];

/* Upserts some keys into |into|, or only deletes them; their rows in the first |segs| segments go.
 */
void upsert(world *w, rk_segment *into, size_t segs, rk_rng *rng);
void world_new(world *w, bool text_keys);
void world_free(world *w);
pb_rk_SearchRequest request_for(world *w, const predicate *p, bool optional, rk_metric metric,
                                uint32_t topk, const float *queries, size_t nq);

#endif
