/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a search plan over segments: rows that may be found, nearest ones per segment, one ranking
 * per query.
 *
 * Queries are taken in blocks, so that the hits held at once are bounded; within a block each
 * segment is visited once. A segment with an index of the right metric answers by it, any other by
 * exact search chunk by chunk into one heap per query. The hits of all segments are then sorted by
 * score and key, and of several rows with one key the newest stays. Rows dropped that way are not
 * replaced from beyond the window.
 */
#include "base/log.h"
#include "search/search_private.h"

#define BLOCK_HITS ((size_t)1 << 20) /* hits of one block of queries and one segment, at most */

typedef struct candidate {
    float score;
    uint32_t target;
    uint32_t row;
    bool dropped;
} candidate;

/* Candidates of one query. */
typedef struct ranking {
    candidate *data;
    size_t n, cap;
} ranking;

typedef struct run {
    const rk_search_plan *plan;
    rk__target *targets;
    size_t targets_len;
    rk_arena *arena;   /* results */
    rk_arena *scratch; /* reset after each block */
    rk_arena *inner;   /* scratch of one index search */
    rk_err *err;
} run;

/* ---- one segment ---- */

static rk_search_options
options_for(const run *r, const rk__target *t)
{
    return (rk_search_options){.k = r->plan->topk,
                               .params = r->plan->params,
                               .filter = t->all ? NULL : &t->filter,
                               .filter_count = t->passing,
                               .range = r->plan->range,
                               .radius = r->plan->radius,
                               .has_range_filter = r->plan->has_range_filter,
                               .range_filter = r->plan->range_filter,
                               .arena = r->inner,
                               .stop = r->plan->predicate.stop};
}

static rk_code
search_index(const run *r, const rk_index *index, const rk_search_options *options, size_t first,
             size_t n, rk_hit *hits, uint32_t *counts)
{
    rk_str query = r->plan->queries[first];

    if (n > 1) {
        return rk_index_search_many(index, r->plan->queries + first, n, options, hits, counts,
                                    r->err);
    }
    rk_arena_reset(r->inner);
    return rk_index_search(index, query.data, query.len, options, hits, counts, r->err);
}

static rk_code
search_codes(const run *r, const rk_growing_chunk *chunks, size_t chunks_len,
             const rk_search_options *options, size_t first, size_t n, rk_hit *hits,
             uint32_t *counts)
{
    for (size_t q = 0; q < n; q++) {
        rk_str query = r->plan->queries[first + q];
        RK_RET(rk__still_wanted(&r->plan->predicate, r->err));
        rk_arena_reset(r->inner);
        RK_RET(rk_growing_search(chunks, chunks_len, query.data, query.len, options,
                                 hits + q * options->k, &counts[q], r->err));
    }
    return RK_OK;
}

static rk_code
search_flat(const run *r, const rk__target *t, const rk_search_options *options, size_t first,
            size_t n, rk_hit *hits, uint32_t *counts)
{
    const rk_field *field = r->plan->field;
    size_t row_bytes = rk_vector_bytes((rk_vector_type)field->type, field->dim);
    rk_growing_chunk *coded = NULL; /* the first so many chunks */
    size_t coded_len = 0;
    size_t position, base;

    RK_RET(rk__field_position(t->seg, field, &position, r->err));
    if (r->plan->approximate) {
        size_t chunks = rk_segment_chunk_of(t->seg, t->rows, &base) + 1;
        rk_segment_code(t->seg, position, r->plan->metric, t->rows);
        coded = RK_ARENA_ARRAY(r->scratch, rk_growing_chunk, chunks);
        if (!coded) {
            return rk__no_memory(r->err);
        }
    }
    for (size_t row = 0; row < t->rows;) {
        const rk_growing_codes *codes = NULL;
        rk_column c;
        size_t chunk = rk_segment_chunk_of(t->seg, row, &base);
        size_t skip = 0;
        RK_RET(rk__still_wanted(&r->plan->predicate, r->err));
        RK_RET(rk_segment_column(t->seg, chunk, position, t->rows, &c, r->err));
        row = base + c.rows;
        if (coded && coded_len == chunk) { /* without a gap, though more may be coded meanwhile */
            codes = rk_segment_codes(t->seg, chunk, position, r->plan->metric, &skip);
            skip = RK_MIN(skip, c.rows);
        }
        if (codes) {
            coded[coded_len++] = (rk_growing_chunk){codes, c.data, skip};
        }
        if (skip == c.rows || (!t->all && rk_bitset_next(&t->filter, base + skip) >= row)) {
            continue; /* nothing that passes is left of this chunk */
        }
        rk_vectors vectors = {(rk_vector_type)field->type, field->dim, c.rows - skip,
                              (const uint8_t *)c.data + skip * row_bytes, c.offsets};
        RK_RET(rk_flat_search_many(&vectors, base + skip, r->plan->metric, r->plan->queries + first,
                                   n, options, hits, counts, r->err));
    }
    return coded_len > 0 ? search_codes(r, coded, coded_len, options, first, n, hits, counts)
                         : RK_OK;
}

static rk_code
search_target(const run *r, const rk__target *t, size_t first, size_t n, rk_hit *hits,
              uint32_t *counts)
{
    rk_search_options options = options_for(r, t);
    const rk_index *index;
    rk_index_info info;
    rk_segment_index *held = rk_segment_index_ref(t->seg, r->plan->field->id, &index);
    rk_code code;

    options.k = (uint32_t)RK_MIN((size_t)options.k, t->passing);
    memset(counts, 0, n * sizeof(*counts));
    if (held) {
        rk_index_get_info(index, &info);
    }
    if (held && info.metric == r->plan->metric) {
        /* against the window asked for, not what is left of it in this segment */
        code = rk_index_check_search(rk_str_from(info.kind), options.params, r->plan->topk, r->err);
        if (code == RK_OK) {
            options.ordered = rk__target_ordered(t, &r->plan->predicate, index,
                                                 rk_segment_index_uid(held), n, r->arena);
            code = search_index(r, index, &options, first, n, hits, counts);
        }
        if (code == RK_ECORRUPT) { /* a page found damaged as it was read: the column is there */
            RK_LOG_W("search", "event=index_damaged kind=%s error=\"%s\"", info.kind,
                     r->err ? r->err->text : "");
            rk_segment_mark_damaged(t->seg, held);
            rk_err_clear(r->err);
            memset(counts, 0, n * sizeof(*counts));
            code = search_flat(r, t, &options, first, n, hits, counts);
        }
    } else {
        code = search_flat(r, t, &options, first, n, hits, counts);
    }
    rk_segment_index_unref(held);
    return code;
}

/* ---- rankings ---- */

static rk_code
ranking_add(ranking *k, const rk_hit *hits, size_t n, uint32_t target, rk_arena *arena)
{
    if (k->n + n > k->cap) {
        size_t cap = RK_MAX(k->cap * 2, k->n + n);
        candidate *bigger = rk_arena_alloc(arena, cap * sizeof(*bigger));
        if (!bigger) {
            return RK_ENOMEM;
        }
        if (k->n > 0) {
            memcpy(bigger, k->data, k->n * sizeof(*bigger));
        }
        k->data = bigger;
        k->cap = cap;
    }
    for (size_t i = 0; i < n; i++) {
        k->data[k->n++] = (candidate){hits[i].score, target, hits[i].row, false};
    }
    return RK_OK;
}

static rk_pk
candidate_pk(const run *r, const candidate *c)
{
    return rk_segment_pk(r->targets[c->target].seg, c->row);
}

static bool
before(const run *r, const candidate *a, const candidate *b)
{
    if (a->score < b->score || a->score > b->score) {
        return (a->score < b->score) != rk_metric_larger_is_nearer(r->plan->metric);
    }
    return rk_pk_cmp(candidate_pk(r, a), candidate_pk(r, b)) < 0;
}

/* Bottom-up merge sort; hits of each segment are nearly in order, and the list is short. */
static rk_code
sort_candidates(const run *r, ranking *k)
{
    candidate *from = k->data;
    candidate *to = rk_arena_alloc(r->scratch, k->n * sizeof(*to) + 1);

    if (!to) {
        return RK_ENOMEM;
    }
    for (size_t width = 1; width < k->n; width *= 2) {
        for (size_t a = 0; a < k->n; a += 2 * width) {
            size_t b = RK_MIN(a + width, k->n);
            size_t end = RK_MIN(a + 2 * width, k->n);
            size_t i = a, j = b;
            for (size_t out = a; out < end; out++) {
                bool right = i == b || (j < end && before(r, &from[j], &from[i]));
                to[out] = right ? from[j++] : from[i++];
            }
        }
        candidate *swap = from;
        from = to;
        to = swap;
    }
    k->data = from;
    return RK_OK;
}

/* Of several rows with one key the newest stays, at its own place. */
static rk_code
drop_older(const run *r, ranking *k)
{
    rk__key_set set;

    if (k->n < 2) {
        return RK_OK;
    }
    if (rk__key_set_init(&set, k->n, r->scratch) != RK_OK) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < k->n; i++) {
        candidate *c = &k->data[i];
        uint32_t *newest = rk__key_set_at(&set, candidate_pk(r, c)); /* its place + 1 */
        if (*newest != 0) {
            candidate *other = &k->data[*newest - 1];
            uint64_t ts = rk_segment_row_ts(r->targets[c->target].seg, c->row);
            if (ts <= rk_segment_row_ts(r->targets[other->target].seg, other->row)) {
                c->dropped = true;
                continue;
            }
            other->dropped = true;
        }
        *newest = (uint32_t)i + 1;
    }
    return RK_OK;
}

/* ---- output ---- */

typedef struct output {
    pb_rk_SearchResponse *response;
    float *scores;
    rk__keys_out keys;
    size_t n, cap;
} output;

static rk_code
output_init(output *o, const run *r, size_t cap, pb_rk_SearchResponse *response)
{
    *o = (output){.response = response, .cap = cap};
    o->scores = rk_arena_alloc(r->arena, cap * sizeof(float) + 1);
    response->segment_ids.data = rk_arena_alloc(r->arena, cap * sizeof(int64_t) + 1);
    response->rows.data = rk_arena_alloc(r->arena, cap * sizeof(uint32_t) + 1);
    if (!o->scores || !response->segment_ids.data || !response->rows.data) {
        return RK_ENOMEM;
    }
    return rk__keys_out_init(&o->keys, r->plan->schema, cap, r->arena);
}

static rk_code
output_query(output *o, const run *r, const ranking *k)
{
    uint32_t count = 0;

    for (size_t i = 0; i < k->n && count < r->plan->topk; i++) {
        const candidate *c = &k->data[i];
        rk_segment_stats stats;
        if (c->dropped) {
            continue;
        }
        rk_segment_get_stats(r->targets[c->target].seg, &stats);
        RK_RET(rk__keys_out_add(&o->keys, candidate_pk(r, c), r->arena));
        o->scores[o->n] = c->score;
        o->response->segment_ids.data[o->n] = stats.ids.id;
        o->response->rows.data[o->n] = c->row;
        o->n++;
        count++;
    }
    o->response->counts.data[o->response->counts.n++] = count;
    return RK_OK;
}

static void
output_finish(output *o)
{
    o->response->scores = (pb_fixed){(const uint8_t *)o->scores, o->n};
    o->response->ids = o->keys.ids;
    o->response->segment_ids.n = o->n;
    o->response->rows.n = o->n;
}

/* ---- all ---- */

static rk_code
search_block(const run *r, size_t first, size_t n, ranking *rankings)
{
    size_t bytes;
    rk_hit *hits;
    uint32_t *counts;

    rk_arena_reset(r->scratch);
    memset(rankings, 0, n * sizeof(*rankings));
    if (!rk_mul_ok(&bytes, n * sizeof(rk_hit), r->plan->topk)) {
        return rk__no_memory(r->err);
    }
    hits = rk_arena_alloc(r->scratch, bytes);
    counts = rk_arena_alloc(r->scratch, n * sizeof(*counts));
    if (!hits || !counts) {
        return rk__no_memory(r->err);
    }
    for (size_t t = 0; t < r->targets_len; t++) {
        size_t k = RK_MIN((size_t)r->plan->topk, r->targets[t].passing);
        RK_RET(rk__still_wanted(&r->plan->predicate, r->err));
        RK_RET(search_target(r, &r->targets[t], first, n, hits, counts));
        for (size_t q = 0; q < n; q++) {
            if (ranking_add(&rankings[q], hits + q * k, counts[q], (uint32_t)t, r->scratch) !=
                RK_OK) {
                return rk__no_memory(r->err);
            }
        }
    }
    for (size_t q = 0; q < n; q++) {
        RK_RET(rk__still_wanted(&r->plan->predicate, r->err));
        if (sort_candidates(r, &rankings[q]) != RK_OK || drop_older(r, &rankings[q]) != RK_OK) {
            return rk__no_memory(r->err);
        }
    }
    return RK_OK;
}

static rk_code
run_blocks(const run *r, pb_rk_SearchResponse *out)
{
    size_t queries = r->plan->queries_len;
    size_t block = RK_MIN(queries, RK_MAX(BLOCK_HITS / r->plan->topk, (size_t)1));
    size_t passing = 0, most;
    ranking *rankings = RK_ARENA_ARRAY(r->arena, ranking, block + 1);
    output o;

    for (size_t t = 0; t < r->targets_len; t++) {
        passing += r->targets[t].passing;
    }
    out->rows_scanned = passing * queries;
    out->counts.data = RK_ARENA_ARRAY(r->arena, uint32_t, queries + 1);
    if (!rankings || !out->counts.data ||
        !rk_mul_ok(&most, queries, RK_MIN(passing, (size_t)r->plan->topk)) ||
        output_init(&o, r, most, out) != RK_OK) {
        return rk__no_memory(r->err);
    }
    for (size_t first = 0; first < queries; first += block) {
        size_t n = RK_MIN(block, queries - first);
        RK_RET(search_block(r, first, n, rankings));
        for (size_t q = 0; q < n; q++) {
            if (output_query(&o, r, &rankings[q]) != RK_OK) {
                return rk__no_memory(r->err);
            }
        }
    }
    output_finish(&o);
    return RK_OK;
}

rk_code
rk_search_run(const rk_search_plan *plan, rk_segment *const *segs, size_t segs_len,
              uint64_t read_ts, pb_rk_SearchResponse *out, rk_arena *arena, rk_err *err)
{
    run r = {.plan = plan, .arena = arena, .err = err};
    rk_code code = RK_OK;

    *out = (pb_rk_SearchResponse){.read_ts = read_ts};
    r.scratch = rk_arena_new(0);
    r.inner = rk_arena_new(0);
    if (!r.scratch || !r.inner) {
        RK_ERR(rk__no_memory(err));
    }
    RK_ERR(rk__targets(&r.targets, &r.targets_len, &plan->predicate, segs, segs_len, read_ts,
                       plan->field, arena, err));
    RK_ERR(run_blocks(&r, out));
out:
    rk_arena_free(r.scratch);
    rk_arena_free(r.inner);
    return code;
}
