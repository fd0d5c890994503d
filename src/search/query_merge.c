/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merges answers of a query, each in key order: the newest of equal keys, then offset and limit.
 * Counts are added.
 */
#include "search/search_private.h"

static rk_code
check_part(const rk_query_plan *plan, const pb_rk_QueryResponse *part, rk_err *err)
{
    if (plan->count_only || part->rows == 0) {
        return RK_OK;
    }
    if (rk_ids_len(part->keys) != part->rows || part->timestamps.n != part->rows ||
        part->fields.n != plan->fields_len) {
        return rk_fail(err, RK_EINTERNAL,
                       "a part of a query answers %u rows with %zu keys, %zu timestamps and %zu "
                       "fields, expected %zu fields",
                       (unsigned)part->rows, rk_ids_len(part->keys), part->timestamps.n,
                       part->fields.n, plan->fields_len);
    }
    return RK_OK;
}

/* The part whose next row comes first; of equal keys the newest. SIZE_MAX at the end. */
static size_t
first_part(pb_rk_QueryResponse *const *parts, const size_t *at, size_t n)
{
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        if (at[i] >= parts[i]->rows) {
            continue;
        }
        if (best != SIZE_MAX) {
            int order =
                rk_pk_cmp(rk_ids_at(parts[i]->keys, at[i]), rk_ids_at(parts[best]->keys, at[best]));
            if (order > 0 || (order == 0 && parts[i]->timestamps.data[at[i]] <=
                                                parts[best]->timestamps.data[at[best]])) {
                continue;
            }
        }
        best = i;
    }
    return best;
}

static size_t
pick_rows(const rk_query_plan *plan, pb_rk_QueryResponse *const *parts, size_t parts_len,
          size_t *at, rk_part_row *picks)
{
    uint64_t taken = 0;
    size_t kept = 0;
    size_t best;
    rk_pk last = {0};

    while ((plan->limit == 0 || kept < plan->limit) &&
           (best = first_part(parts, at, parts_len)) != SIZE_MAX) {
        rk_pk pk = rk_ids_at(parts[best]->keys, at[best]);
        if (taken == 0 || rk_pk_cmp(pk, last) != 0) {
            if (taken >= plan->offset) {
                picks[kept++] = (rk_part_row){(uint32_t)best, (uint32_t)at[best]};
            }
            taken++;
            last = pk;
        }
        at[best]++;
    }
    return kept;
}

static rk_code
merge_fields(const rk_query_plan *plan, pb_rk_QueryResponse *const *parts, size_t parts_len,
             const rk_part_row *picks, size_t n, pb_rk_QueryResponse *out, rk_arena *arena,
             rk_err *err)
{
    pb_schema_FieldData **column = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, parts_len + 1);

    out->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, plan->fields_len + 1);
    if (!column || !out->fields.data) {
        return rk__no_memory(err);
    }
    for (size_t f = 0; f < plan->fields_len; f++) {
        for (size_t i = 0; i < parts_len; i++) {
            column[i] = parts[i]->rows > 0 ? parts[i]->fields.data[f] : NULL;
        }
        rk_code code =
            rk_field_data_merge(&out->fields.data[f], plan->fields[f], column, picks, n, arena);
        if (code != RK_OK) {
            return code == RK_ENOMEM
                       ? rk__no_memory(err)
                       : rk_fail(err, RK_EINTERNAL,
                                 "output field %.*s of a part of a query is malformed",
                                 RK_STR_ARG(plan->fields[f]->name));
        }
        out->fields.n++;
    }
    return RK_OK;
}

rk_code
rk_query_merge(const rk_query_plan *plan, pb_rk_QueryResponse *const *parts, size_t parts_len,
               pb_rk_QueryResponse *out, rk_arena *arena, rk_err *err)
{
    size_t *at = RK_ARENA_ARRAY(arena, size_t, parts_len + 1);
    rk_part_row *picks;
    rk__keys_out keys;
    size_t rows = 0;

    *out = (pb_rk_QueryResponse){.count = 0};
    for (size_t i = 0; i < parts_len; i++) {
        RK_RET(check_part(plan, parts[i], err));
        rows += parts[i]->rows;
        out->count += parts[i]->count;
        out->read_ts = RK_MAX(out->read_ts, parts[i]->read_ts);
    }
    if (plan->count_only) {
        return RK_OK;
    }
    picks = rk_arena_alloc(arena, rows * sizeof(*picks) + 1);
    out->timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, rows + 1);
    if (!at || !picks || !out->timestamps.data ||
        rk__keys_out_init(&keys, plan->schema, rows, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    size_t n = pick_rows(plan, parts, parts_len, at, picks);
    for (size_t i = 0; i < n; i++) {
        out->timestamps.data[i] = parts[picks[i].part]->timestamps.data[picks[i].row];
        if (rk__keys_out_add(&keys, rk_ids_at(parts[picks[i].part]->keys, picks[i].row), arena) !=
            RK_OK) {
            return rk__no_memory(err);
        }
    }
    out->timestamps.n = n;
    out->keys = keys.ids;
    out->rows = (uint32_t)n;
    out->count = (int64_t)n;
    return merge_fields(plan, parts, parts_len, picks, n, out, arena, err);
}
