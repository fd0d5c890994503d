/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the walks over blocks have in common, private to hnsw/block.c and hnsw/filter_walk.c: a
 * node's own code scored, its block asked for, an estimate put into a pool, the next candidate.
 */
#ifndef RK_INDEX_HNSW_HOP_H
#define RK_INDEX_HNSW_HOP_H

#include "index/hnsw/hnsw.h"

#define RK__HOP_EARLY_BYTES 4096u /* of a block, where something else is done before it is read */
#define RK__HOP_NEXT_AHEAD  2u    /* blocks of the next candidates; nearly all are popped */
#define RK__HOP_REST_AHEAD  8u    /* codes asked for in advance when candidates are scored */
#define RK__HOP_PREFETCH_BYTES                                                                     \
    2048u /* of a block asked for in advance; the rest is read in order */

static inline float
rk__hop_key(const rk__block_query *q, const uint8_t *block, size_t n)
{
    if (RK_LIKELY(q->dist)) {
        return q->dist(q->code, block, n) * q->unit;
    }
    const int8_t *four[4] = {(const int8_t *)block, (const int8_t *)block, (const int8_t *)block,
                             (const int8_t *)block};
    int32_t dist[4];
    q->code4(q->code, four, n, dist);
    return (float)dist[0] * q->unit;
}

/* |early|: other blocks are scored before this one is read. */
static inline void
rk__hop_fetch(const rk__hnsw_blocks *blocks, uint32_t node, bool early)
{
    const uint8_t *at = blocks->data + (size_t)(node & ~RK__HNSW_EXPANDED) * blocks->stride;

    if (early) {
        rk__fetch_early(at, RK_MIN(blocks->stride, (size_t)RK__HOP_EARLY_BYTES));
    } else {
        rk__fetch(at, RK_MIN(blocks->stride, (size_t)RK__HOP_PREFETCH_BYTES));
    }
}

static inline bool
rk__hop_visited(const rk__hnsw_scratch *s, uint32_t node)
{
    return (s->visited[node >> 6] >> (node & 63)) & 1u;
}

/* Puts an estimate into a pool, unless the node is there with a better one. */
static inline bool
rk__hop_vouch(rk__pool *pool, rk__cand vouched[RK__VOUCHED], float est, uint32_t node, uint32_t *at)
{
    rk__cand *before = &vouched[node % RK__VOUCHED];

    if (before->node == node && !(est < before->key)) {
        return false;
    }
    if (!rk__pool_insert(pool, est, node, at)) {
        return false;
    }
    *before = (rk__cand){est, node};
    return true;
}

static inline float
rk__hop_worst(const rk__pool *pool)
{
    return pool->n < pool->cap ? INFINITY : pool->items[pool->n - 1].key;
}

/* The nearest candidate from place |*at| up to |end| that was not popped yet, its block asked for;
 * RK__NO_ROW when there is none. A walk that is |alone| asks for those of the next ones, too. */
static inline uint32_t
rk__hop_next(const rk__hnsw_blocks *blocks, rk__hnsw_scratch *s, uint32_t end, bool alone,
             uint32_t *at)
{
    rk__cand *items = s->pool.items;

    for (; *at < s->pool.n && *at < end; (*at)++) {
        uint32_t node = items[*at].node;
        if (!(node & RK__HNSW_EXPANDED)) {
            items[*at].node = node | RK__HNSW_EXPANDED;
            if (rk__visit(s, node)) {
                rk__hop_fetch(blocks, node, !alone);
                uint32_t left = alone ? RK__HOP_NEXT_AHEAD : 0;
                for (uint32_t i = *at + 1; left > 0 && i < s->pool.n && i < end; i++) {
                    if (!(items[i].node & RK__HNSW_EXPANDED)) {
                        rk__hop_fetch(blocks, items[i].node, true);
                        left--;
                    }
                }
                return node;
            }
        }
    }
    return RK__NO_ROW;
}

/* Scores the candidates that were not popped by their own codes, which all can be asked for at
 * once. */
static inline void
rk__hop_score_rest(const rk__hnsw *graph, const rk__block_query *q, const rk__pool *pool,
                   rk__hnsw_scratch *s)
{
    const rk__hnsw_blocks *blocks = &graph->blocks;
    uint32_t ahead = 0;
    uint32_t place = 0;

    for (uint32_t i = 0; i < pool->n; i++) {
        for (; ahead < pool->n && ahead < i + RK__HOP_REST_AHEAD; ahead++) {
            uint32_t node = pool->items[ahead].node;
            if (node & RK__HNSW_EXPANDED) {
                continue;
            }
            const uint8_t *at = blocks->data + (size_t)node * blocks->stride;
            for (size_t line = 0; line < graph->codes.n; line += 64) {
                __builtin_prefetch(at + line);
            }
        }
        uint32_t node = pool->items[i].node;
        if (!(node & RK__HNSW_EXPANDED) && rk__visit(s, node)) {
            float key =
                rk__hop_key(q, blocks->data + (size_t)node * blocks->stride, graph->codes.n);
            if (key < rk__hop_worst(&s->results)) {
                (void)rk__pool_insert(&s->results, key, node, &place);
            }
        }
    }
}

#endif
