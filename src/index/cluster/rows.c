/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of a cluster search: those that a scan let through wait until their records are there,
 * are scored by them, and what lies within the error of a record of the k-th best is kept, to be
 * scored on the vectors themselves at the end.
 *
 * While there are fewer than k rows, and where many wait at once, those with the best estimates
 * are scored first: the k-th distance they give spares most of the others.
 */
#include "index/cluster/search.h"

#define BATCH      RK__CLUSTER_BATCH
#define FIRST_FROM 64u /* so many that wait are put in order */

static void
drop_kept(rk__cluster_search_state *s)
{
    uint32_t n = 0;
    float most = s->threshold + s->slack;

    for (uint32_t i = 0; i < s->n_kept; i++) {
        if (s->kept[i].key <= most) {
            s->kept[n++] = s->kept[i];
        }
    }
    s->n_kept = n;
}

/* The k best so far, each with the key of its list in place of its number, and the sum of these. */
static inline void
push_near(rk__cluster_search_state *s, float dist, float key)
{
    uint32_t bits;
    float dropped = 0;

    if (rk__heap_full(&s->near)) {
        if (!(dist < s->near.items[0].key)) {
            return;
        }
        memcpy(&dropped, &s->near.items[0].row, sizeof(dropped));
    }
    memcpy(&bits, &key, sizeof(bits));
    rk__heap_push(&s->near, dist, bits);
    s->sum_keys += (double)key - (double)dropped;
}

/* A row with its distance by record. */
static inline void
accept(rk__cluster_search_state *s, float dist, float key, uint32_t at)
{
    if (dist < s->best) {
        s->best = dist;
        s->best_key = key;
    }
    if (!(dist <= s->threshold + s->slack)) {
        return;
    }
    if (dist < s->lower - s->slack) {
        s->before++;
        return;
    }
    if (s->n_kept == s->kept_cap) {
        drop_kept(s);
        if (s->n_kept > s->kept_cap / 2) {
            rk__near *more =
                rk_arena_alloc(s->options->arena, 2 * (size_t)s->kept_cap * sizeof(*more));
            if (!more) {
                s->no_memory = true;
                return;
            }
            memcpy(more, s->kept, s->n_kept * sizeof(*more));
            s->kept = more;
            s->kept_cap *= 2;
        }
    }
    s->kept[s->n_kept++] = (rk__near){dist, at};
    if (dist < s->lower + s->slack) {
        return; /* it may not qualify: it does not count */
    }
    push_near(s, dist, key);
    if (rk__heap_full(&s->near)) {
        s->threshold = RK_MIN(s->threshold, s->near.items[0].key);
    }
}

static void
score_waiting(rk__cluster_search_state *s, const rk__cluster_item *items, uint32_t n)
{
    const rk__cluster *c = s->cluster;
    uint32_t at[BATCH] = {0};
    float score[BATCH];

    s->scored += n;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = items[i].at;
    }
    if (c->records) {
        rk__cluster_score(&c->space, &s->coded, c->records, at, n, score);
        for (uint32_t i = 0; i < n; i++) {
            accept(s, items[i].key + score[i], items[i].key, at[i]);
        }
        return;
    }
    uint32_t rows[BATCH] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = c->row_of[at[i]];
        rows[i] = row < c->rows ? row : 0; /* the image may lie */
    }
    rk__keys(&s->index->space, s->query, rows, n, score);
    for (uint32_t i = 0; i < n; i++) {
        float dist =
            s->index->space.metric == RK_METRIC_COSINE ? 2 + 2 * score[i] : score[i] + s->to_est;
        accept(s, dist, items[i].key, at[i]);
    }
}

/* Those of |items| still worth it, a batch behind their fetching when |fetch|. */
static void
score_items(rk__cluster_search_state *s, const rk__cluster_item *items, uint32_t n, bool fetch)
{
    rk__cluster_item batches[2][BATCH];
    uint32_t waiting = 0; /* in the other batch */
    uint32_t m = 0;
    int side = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (!(items[i].est <= s->threshold)) {
            continue;
        }
        if (fetch) {
            rk__cluster_fetch(s, items[i].at);
        }
        batches[side][m++] = items[i];
        if (m == BATCH && fetch) {
            if (waiting > 0) {
                score_waiting(s, batches[!side], waiting);
            }
            waiting = m;
            side = !side;
            m = 0;
        } else if (m == BATCH) {
            score_waiting(s, batches[side], m);
            m = 0;
        }
    }
    if (waiting > 0) {
        score_waiting(s, batches[!side], waiting);
    }
    if (m > 0) {
        score_waiting(s, batches[side], m);
    }
}

void
rk__cluster_flush(rk__cluster_search_state *s)
{
    uint32_t missing = s->near.cap - s->near.n;
    uint32_t first = missing;
    bool fetch = missing > 0;

    if (missing == 0 && s->n_waiting >= FIRST_FROM) {
        first = RK_MIN(s->near.cap, s->n_waiting / 4);
    }
    if (first > 0) { /* the nearest of them make a threshold for the rest */
        first = rk__cluster_select(s->waiting, s->n_waiting, first);
        score_items(s, s->waiting, first, true);
    }
    score_items(s, s->waiting + first, s->n_waiting - first, fetch);
    s->n_waiting = 0;
}

void
rk__cluster_finish(rk__cluster_search_state *s, rk__heap *heap)
{
    const rk__cluster *c = s->cluster;
    uint32_t rows[4 * BATCH];
    float keys[4 * BATCH];
    uint32_t n = 0;

    drop_kept(s);
    for (uint32_t i = 0; i <= s->n_kept; i++) {
        bool end = i == s->n_kept;
        if (!end) {
            uint32_t row = c->row_of[s->kept[i].row];
            if (rk__cluster_passes(s, row)) { /* again: the image may lie about places */
                rows[n++] = row;
            }
        }
        if (n == RK_COUNT(rows) || (end && n > 0)) {
            rk__keys(&s->index->space, s->query, rows, n, keys);
            for (uint32_t j = 0; j < n; j++) {
                if (!s->range.on || rk__in_range(&s->range, keys[j])) {
                    rk__heap_push(heap, keys[j], rows[j]);
                }
            }
            n = 0;
        }
    }
}
