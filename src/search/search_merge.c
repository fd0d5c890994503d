/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merges answers to the same queries from several places: growing and sealed parts of a shard, or
 * several shards.
 *
 * Each part is in order already. A heap would do for many parts; there are few, so the best head is
 * found by looking at all of them. Of two hits with one key the first, better one stays. Fields
 * follow their hits when every part with hits brought them.
 */
#include "search/search_private.h"

typedef struct head {
    const pb_rk_SearchResponse *part;
    size_t at, end; /* hits of the current query */
    size_t next;    /* first hit of the next one */
} head;

static rk_code
check_part(const pb_rk_SearchResponse *part, size_t queries, rk_err *err)
{
    size_t hits = 0;

    for (size_t q = 0; q < part->counts.n; q++) {
        hits += part->counts.data[q];
    }
    if (part->counts.n != queries || part->scores.n != hits || rk_ids_len(part->ids) != hits) {
        return rk_fail(err, RK_EINTERNAL,
                       "a part of a search answers %zu queries with %zu scores and %zu keys, "
                       "expected %zu queries",
                       part->counts.n, part->scores.n, rk_ids_len(part->ids), queries);
    }
    return RK_OK;
}

static bool
before(const rk_search_plan *plan, const head *a, const head *b)
{
    float sa = pb_f32_at(a->part->scores, a->at);
    float sb = pb_f32_at(b->part->scores, b->at);

    if (sa < sb || sa > sb) {
        return (sa < sb) != rk_metric_larger_is_nearer(plan->metric);
    }
    return rk_pk_cmp(rk_ids_at(a->part->ids, a->at), rk_ids_at(b->part->ids, b->at)) < 0;
}

static head *
best_head(const rk_search_plan *plan, head *heads, size_t n)
{
    head *best = NULL;

    for (size_t i = 0; i < n; i++) {
        if (heads[i].at < heads[i].end && (!best || before(plan, &heads[i], best))) {
            best = &heads[i];
        }
    }
    return best;
}

/* Picks of one query, appended to |picks|; their number. */
static uint32_t
merge_query(const rk_search_plan *plan, head *heads, size_t n, uint32_t offset, rk__key_set *seen,
            rk_part_row *picks)
{
    uint32_t taken = 0;
    uint32_t kept = 0;
    head *best;

    rk__key_set_clear(seen);
    while (taken < plan->topk && (best = best_head(plan, heads, n))) {
        uint32_t *known = rk__key_set_at(seen, rk_ids_at(best->part->ids, best->at));
        if (*known == 0) {
            *known = 1;
            if (taken >= offset) {
                picks[kept++] = (rk_part_row){(uint32_t)(best - heads), (uint32_t)best->at};
            }
            taken++;
        }
        best->at++;
    }
    return kept;
}

static rk_code
copy_hits(const rk_search_plan *plan, const head *heads, size_t heads_len, const rk_part_row *picks,
          size_t n, pb_rk_SearchResponse *out, rk_arena *arena)
{
    float *scores = rk_arena_alloc(arena, n * sizeof(*scores) + 1);
    rk__keys_out keys;
    bool places = true;

    for (size_t i = 0; i < heads_len; i++) {
        places = places && heads[i].part->rows.n == heads[i].part->scores.n &&
                 heads[i].part->segment_ids.n == heads[i].part->scores.n;
    }
    out->segment_ids.data = rk_arena_alloc(arena, n * sizeof(int64_t) + 1);
    out->rows.data = rk_arena_alloc(arena, n * sizeof(uint32_t) + 1);
    if (!scores || !out->segment_ids.data || !out->rows.data ||
        rk__keys_out_init(&keys, plan->schema, n, arena) != RK_OK) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const pb_rk_SearchResponse *part = heads[picks[i].part].part;
        scores[i] = pb_f32_at(part->scores, picks[i].row);
        if (places) {
            out->segment_ids.data[i] = part->segment_ids.data[picks[i].row];
            out->rows.data[i] = part->rows.data[picks[i].row];
        }
        RK_RET(rk__keys_out_add(&keys, rk_ids_at(part->ids, picks[i].row), arena));
    }
    out->scores = (pb_fixed){(const uint8_t *)scores, n};
    out->ids = keys.ids;
    out->segment_ids.n = places ? n : 0;
    out->rows.n = places ? n : 0;
    return RK_OK;
}

/* The fields of the first part that has hits say which there are; without them, or when a part with
 * hits lacks one, there are none. */
static rk_code
merge_fields(const rk_search_plan *plan, const head *heads, size_t heads_len,
             const rk_part_row *picks, size_t n, pb_rk_SearchResponse *out, rk_arena *arena,
             rk_err *err)
{
    const pb_rk_SearchResponse *model = NULL;
    pb_schema_FieldData **parts = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, heads_len + 1);

    for (size_t i = 0; i < heads_len; i++) {
        if (heads[i].part->scores.n > 0 && (!model || heads[i].part->fields.n < model->fields.n)) {
            model = heads[i].part;
        }
    }
    if (!model || model->fields.n == 0) {
        return RK_OK;
    }
    out->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, model->fields.n + 1);
    if (!parts || !out->fields.data) {
        return rk__no_memory(err);
    }
    for (size_t f = 0; f < model->fields.n; f++) {
        int64_t id = model->fields.data[f]->field_id;
        const rk_field *field = rk_schema_by_id(plan->schema, id);
        for (size_t i = 0; i < heads_len; i++) {
            const pb_schema_FieldData_list *have = &heads[i].part->fields;
            parts[i] = NULL;
            for (size_t k = 0; k < have->n; k++) {
                parts[i] = have->data[k]->field_id == id ? have->data[k] : parts[i];
            }
            if (!field || (!parts[i] && heads[i].part->scores.n > 0)) {
                return rk_fail(err, RK_EINTERNAL, "parts of a search disagree on output field %lld",
                               (long long)id);
            }
        }
        rk_code code =
            rk_field_data_merge(&out->fields.data[out->fields.n++], field, parts, picks, n, arena);
        if (code != RK_OK) {
            return code == RK_ENOMEM
                       ? rk__no_memory(err)
                       : rk_fail(err, RK_EINTERNAL,
                                 "output field %.*s of a part of a search is malformed",
                                 RK_STR_ARG(field->name));
        }
    }
    return RK_OK;
}

rk_code
rk_search_merge(const rk_search_plan *plan, pb_rk_SearchResponse *const *parts, size_t parts_len,
                uint32_t offset, pb_rk_SearchResponse *out, rk_arena *arena, rk_err *err)
{
    head *heads = RK_ARENA_ARRAY(arena, head, parts_len + 1);
    size_t hits = 0, longest = 0, n = 0;
    rk_part_row *picks = NULL;
    rk__key_set seen;

    *out = (pb_rk_SearchResponse){.read_ts = 0};
    for (size_t i = 0; i < parts_len; i++) {
        RK_RET(check_part(parts[i], plan->queries_len, err));
        hits += parts[i]->scores.n;
        out->read_ts = RK_MAX(out->read_ts, parts[i]->read_ts);
        out->rows_scanned += parts[i]->rows_scanned;
    }
    for (size_t q = 0; q < plan->queries_len; q++) {
        size_t sum = 0;
        for (size_t i = 0; i < parts_len; i++) {
            sum += parts[i]->counts.data[q];
        }
        longest = RK_MAX(longest, sum);
    }
    picks = rk_arena_alloc(arena, hits * sizeof(*picks) + 1);
    out->counts.data = RK_ARENA_ARRAY(arena, uint32_t, plan->queries_len + 1);
    if (!heads || !picks || !out->counts.data ||
        rk__key_set_init(&seen, RK_MIN(longest, (size_t)plan->topk + 1), arena) != RK_OK) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < parts_len; i++) {
        heads[i].part = parts[i];
    }
    for (size_t q = 0; q < plan->queries_len; q++) {
        for (size_t i = 0; i < parts_len; i++) {
            heads[i].at = heads[i].next;
            heads[i].end = heads[i].next += parts[i]->counts.data[q];
        }
        uint32_t kept = merge_query(plan, heads, parts_len, offset, &seen, picks + n);
        out->counts.data[out->counts.n++] = kept;
        n += kept;
    }
    if (copy_hits(plan, heads, parts_len, picks, n, out, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    return merge_fields(plan, heads, parts_len, picks, n, out, arena, err);
}
