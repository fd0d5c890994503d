/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places to start from: rows that pass a filter, one from each of the lists nearest to a query.
 *
 * A walk through a graph under a filter that lets nothing through around the query has nowhere to
 * go. The lists know where rows lie; the filter is tested for those of a list until a block with
 * passing rows is found, and the best of these by its code is a place to start from. See
 * hnsw/filter.c.
 *
 * All memory is the request's arena.
 */
#include "index/cluster/seed.h"

#define FIRST_LISTS 64u

bool
rk__cluster_seeds_start(rk__cluster_seeds *seeds, const rk_index *index, const rk__cluster *cluster,
                        const rk__query *query, const rk_search_options *options)
{
    const rk__cluster_space *space = &cluster->space;
    size_t point_bytes = rk__cluster_point_bytes(space);
    uint8_t *memory =
        rk_arena_alloc(options->arena, point_bytes + rk__cluster_query_bytes(space) + 64);
    rk__cluster_point point;
    rk__dist_fn ip = rk__kernels_get()->dense[RK__F32].ip;

    *seeds = (rk__cluster_seeds){.cluster = cluster, .filter = options->filter};
    if (!memory) {
        return false;
    }
    memory += (64 - (uintptr_t)memory % 64) % 64;
    rk__cluster_point_init(space, &point, memory);
    rk__cluster_vector(&index->space, query->data, query->inv_norm, point.v);
    if (!rk__cluster_project(space, true, &point)) {
        return false;
    }
    rk__cluster_rotate_head(space, point.z, point.bits);
    rk__cluster_query_init(space, &point, memory + point_bytes, &seeds->coded);
    seeds->lists = (rk__cluster_lists){
        .cluster = cluster, .query = &seeds->coded, .arena = options->arena, .stage = FIRST_LISTS};
    if (!space->ip) {
        seeds->lists.base = point.tail + ip(point.z, point.z, space->reduced);
    }
    return true;
}

/* The best passing row of a list by its code, or RK__NO_ROW. */
static uint32_t
best_of(const rk__cluster_seeds *seeds, const rk__cluster_item *list)
{
    const rk__cluster *c = seeds->cluster;
    const rk__kernels *kernels = rk__kernels_get();
    size_t groups = rk__bits_groups(c->space.padded);
    size_t codes = rk__cluster_codes_bytes(&c->space);
    uint32_t from = c->first_row[list->at];
    uint32_t end = c->first_row[list->at + 1];
    const uint8_t *block = c->blocks + (size_t)c->first_block[list->at] * c->block_bytes;
    uint32_t best = RK__NO_ROW;
    float least = INFINITY;

    for (; from < end; from += RK__BITS_ROWS, block += c->block_bytes) {
        const float *add = (const float *)(const void *)(block + codes);
        uint32_t n = RK_MIN(end - from, RK__BITS_ROWS);
        uint32_t may = 0;
        float est[RK__BITS_ROWS];
        if (c->rows - from >= RK__BITS_ROWS) {
            may = kernels->test32(seeds->filter->words, (uint32_t)c->rows, c->row_of + from);
            may &= n < RK__BITS_ROWS ? (UINT32_C(1) << n) - 1 : UINT32_MAX;
        } else {
            for (uint32_t i = 0; i < n; i++) {
                uint32_t row = c->row_of[from + i];
                may |= (uint32_t)(row < c->rows && rk_bitset_get(seeds->filter, row)) << i;
            }
        }
        if (!may) {
            continue;
        }
        may &= kernels->scan32_low(seeds->coded.bits.lut, block, groups, add, add + RK__BITS_ROWS,
                                   seeds->coded.bits.unit, seeds->coded.bits.bias, list->key, least,
                                   est);
        for (; may; may &= may - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(may);
            if (est[i] < least) {
                least = est[i];
                best = c->row_of[from + i];
            }
        }
    }
    return best;
}

uint32_t
rk__cluster_seeds_next(rk__cluster_seeds *seeds)
{
    rk__cluster_lists *lists = &seeds->lists;

    for (;;) {
        if (seeds->next == lists->n) {
            if (!rk__cluster_lists_next(lists, lists->stage, true)) {
                return RK__NO_ROW;
            }
            seeds->next = 0;
        }
        uint32_t row = best_of(seeds, &lists->items[seeds->next++]);
        seeds->looked++;
        if (row != RK__NO_ROW) {
            return row;
        }
    }
}
