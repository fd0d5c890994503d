/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TAAT_NAIVE: per term its rows and their weights in f32; a search adds each term's postings into
 * one array of sums, term by term in ascending order (so that sums are those of rk__sparse_ip(),
 * bit for bit), then offers the sums. Nothing is skipped: the plain baseline of the other
 * algorithms.
 */
#include "index/sparse/sparse.h"

#define OFFER_ROWS 16u

rk_code
rk__sparse_build_plain(rk_index *index, rk__sparse *s, const rk__sparse_terms *terms,
                       const rk_build_options *options, rk_err *err)
{
    const rk_vectors *v = &index->vectors;
    size_t n = terms->n;

    s->n_postings = terms->postings;
    RK_RET(rk__sparse_take(index, s, 0, n * sizeof(uint32_t), err));
    RK_RET(rk__sparse_take(index, s, 1, (n + 1) * sizeof(uint64_t), err));
    RK_RET(rk__sparse_take(index, s, 2, terms->postings * sizeof(uint32_t), err));
    RK_RET(rk__sparse_take(index, s, 3, terms->postings * sizeof(float), err));
    RK_RET(rk__sparse_take(index, s, 4, n * sizeof(float), err));
    uint64_t *next = terms->counts; /* of each term */
    uint64_t *offsets = s->owned[1];
    uint32_t *rows = s->owned[2];
    float *weights = s->owned[3];
    offsets[0] = 0;
    for (size_t i = 0; i < n; i++) {
        offsets[i + 1] = offsets[i] + next[i];
        next[i] = offsets[i];
    }
    memcpy(s->owned[0], terms->terms, n * sizeof(uint32_t));
    memcpy(s->owned[4], terms->largest, n * sizeof(float));
    for (size_t row = 0; row < v->rows; row++) {
        if ((row & 4095) == 0 && rk__cancelled(options)) {
            return rk_fail(err, RK_ECANCELLED,
                           "sparse index: build cancelled after %zu of %zu rows", row, v->rows);
        }
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair = rk__sparse_pair(v, at);
            if (rk__sparse_counts(pair)) {
                uint64_t p = next[rk__sparse_term_id(terms, pair.index)]++;
                rows[p] = (uint32_t)row;
                weights[p] = pair.value;
            }
        }
    }
    s->indexes = s->owned[0];
    s->offsets = offsets;
    s->rows = rows;
    s->weights = weights;
    s->max_abs = s->owned[4];
    return RK_OK;
}

static void
add_term(const rk__sparse *s, size_t term, float weight, size_t n_rows, float *sums)
{
    for (uint64_t p = s->offsets[term]; p < s->offsets[term + 1]; p++) {
        uint32_t row = s->rows[p];
        if (RK_LIKELY(row < n_rows)) { /* images are not trusted */
            float product = weight * s->weights[p];
            sums[row] = sums[row] + product;
        }
    }
}

rk_code
rk__sparse_search_plain(rk__sparse_search *search, rk_err *err)
{
    size_t rows = search->index->vectors.rows;
    size_t padded = (rows + OFFER_ROWS - 1) / OFFER_ROWS * OFFER_ROWS;
    float *sums = rk_arena_zero(search->options->arena, padded, sizeof(*sums));

    if (!sums) {
        return rk_fail(err, RK_ENOMEM, "sparse search: no memory for the sums of %zu rows", rows);
    }
    for (size_t i = 0; i < search->query.n; i++) {
        size_t term = rk__sparse_find(search->s->indexes, sizeof(uint32_t), search->s->n_terms,
                                      search->query.pairs[i].index);
        if (term != SIZE_MAX) {
            add_term(search->s, term, search->query.pairs[i].value, rows, sums);
        }
    }
    for (size_t base = 0; base < rows; base += OFFER_ROWS) {
        float limit = rk__heap_full(search->heap) ? -search->heap->items[0].key : 0.0f;
        int any = 0;
        for (size_t j = 0; j < OFFER_ROWS; j++) { /* the array is padded: no tail */
            any |= (sums[base + j] > 0) & (sums[base + j] >= limit);
        }
        if (!any) {
            continue;
        }
        for (size_t row = base; row < RK_MIN(base + OFFER_ROWS, rows); row++) {
            if (sums[row] > 0 &&
                (!search->options->filter || rk_bitset_get(search->options->filter, row))) {
                rk__sparse_offer(search, sums[row], (uint32_t)row);
            }
        }
    }
    return RK_OK;
}
