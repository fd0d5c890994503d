/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What growing and sealed segments have in common: references, statistics, visibility, and access
 * to rows, dispatched to one of the two bodies.
 */
#include "segment/segment_private.h"

rk_segment *
rk__segment_new(const rk_segment_ids *ids, rk_schema *schema, rk_mem *mem)
{
    rk_segment *seg = rk_alloc_zero(1, sizeof(*seg));

    if (!seg) {
        return NULL;
    }
    atomic_init(&seg->refs, 1);
    seg->ids = *ids;
    seg->schema = rk_schema_ref(schema);
    seg->mem = mem;
    rk__deletes_init(&seg->deletes);
    return seg;
}

rk_segment *
rk_segment_ref(rk_segment *seg)
{
    atomic_fetch_add_explicit(&seg->refs, 1,
                              memory_order_relaxed); /* the caller holds one already */
    return seg;
}

void
rk_segment_unref(rk_segment *seg)
{
    /* release: our accesses come before the free; acquire in the last holder: after all of theirs
     */
    if (!seg || atomic_fetch_sub_explicit(&seg->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rk__growing_free(seg->growing, seg->mem);
    rk__sealed_free(seg->sealed, seg->schema);
    rk__deletes_deinit(&seg->deletes, seg->mem);
    rk_schema_unref(seg->schema);
    rk_free(seg);
}

size_t
rk__segment_rows(const rk_segment *seg)
{
    return seg->growing ? atomic_load_explicit(&seg->growing->rows, memory_order_acquire)
                        : seg->sealed->rows;
}

rk_schema *
rk_segment_schema(const rk_segment *seg)
{
    return seg->schema;
}

void
rk_segment_get_stats(const rk_segment *seg, rk_segment_stats *out)
{
    *out = (rk_segment_stats){.ids = seg->ids, .growing = seg->growing != NULL};
    out->rows = rk__segment_rows(seg);
    out->rows_deleted = atomic_load_explicit(&seg->deletes.count, memory_order_relaxed);
    if (seg->growing) {
        out->bytes = atomic_load_explicit(&seg->growing->size_bytes, memory_order_relaxed);
        out->min_ts = atomic_load_explicit(&seg->growing->min_ts, memory_order_relaxed);
        out->max_ts = atomic_load_explicit(&seg->growing->max_ts, memory_order_relaxed);
        out->chunks =
            (out->rows + ((size_t)1 << seg->growing->chunk_shift) - 1) >> seg->growing->chunk_shift;
    } else {
        out->bytes = seg->sealed->size_bytes;
        out->min_ts = seg->sealed->min_ts;
        out->max_ts = seg->sealed->max_ts;
        out->fold_ts = seg->sealed->fold_ts;
        out->chunks = out->rows > 0 ? 1 : 0;
    }
}

/* ---- visibility ---- */

/* Rows of a growing segment written up to |ts|: a prefix, since timestamps rise with rows. */
static size_t
prefix_upto(const rk__growing *g, size_t rows, uint64_t ts)
{
    size_t lo = 0, hi = rows;

    if (rows == 0 || rk__growing_ts(g, rows - 1) <= ts) {
        return rows;
    }
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (rk__growing_ts(g, mid) <= ts) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

rk_code
rk_segment_visible(const rk_segment *seg, uint64_t read_ts, rk_bitset *out, size_t *rows, bool *all,
                   rk_arena *arena, rk_err *err)
{
    size_t n = rk__segment_rows(seg);
    bool newer = seg->sealed && read_ts < seg->sealed->max_ts;

    if (seg->growing) {
        n = prefix_upto(seg->growing, n, read_ts);
    }
    *rows = n;
    *all = !newer && read_ts < atomic_load_explicit(&seg->deletes.min_ts, memory_order_relaxed);
    if (*all) {
        return RK_OK;
    }
    if (rk_bitset_init_arena(out, n, arena) != RK_OK) {
        return rk_fail(err, RK_ENOMEM, "no memory for the visible rows of segment %lld",
                       (long long)seg->ids.id);
    }
    rk_bitset_fill(out, true);
    rk__deletes_apply(&seg->deletes, read_ts, out);
    for (size_t i = 0; newer && i < n; i++) {
        if (seg->sealed->times[i] > read_ts) {
            rk_bitset_clear(out, i);
        }
    }
    return RK_OK;
}

uint64_t
rk_segment_deletes_upto(const rk_segment *seg, uint64_t read_ts)
{
    if (!seg->sealed || read_ts < seg->sealed->max_ts) {
        return UINT64_MAX;
    }
    return rk__deletes_upto(&seg->deletes, read_ts);
}

rk_code
rk__segment_live(const rk_segment *seg, uint64_t ts, rk_bitset *out, rk_err *err)
{
    if (rk_bitset_init(out, rk__segment_rows(seg)) != RK_OK) {
        return rk_fail(err, RK_ENOMEM, "no memory for the live rows of segment %lld",
                       (long long)seg->ids.id);
    }
    rk_bitset_fill(out, true);
    rk__deletes_apply(&seg->deletes, ts, out);
    return RK_OK;
}

/* ---- rows ---- */

size_t
rk_segment_chunk_of(const rk_segment *seg, size_t row, size_t *first)
{
    size_t chunk = seg->growing ? row >> seg->growing->chunk_shift : 0;

    *first = seg->growing ? chunk << seg->growing->chunk_shift : 0;
    return chunk;
}

rk_code
rk_segment_column(const rk_segment *seg, size_t chunk, size_t field, size_t rows, rk_column *out,
                  rk_err *err)
{
    if (seg->growing) {
        *out = rk__growing_column(seg, chunk, field, rows);
        return RK_OK;
    }
    RK_RET(rk__sealed_column_get(seg, field, out, err));
    out->rows = RK_MIN(out->rows, rows);
    return RK_OK;
}

uint64_t
rk_segment_row_ts(const rk_segment *seg, size_t row)
{
    return seg->growing ? rk__growing_ts(seg->growing, row) : seg->sealed->times[row];
}

rk_pk
rk__column_pk(const rk_column *column, size_t row)
{
    if (column->offsets) {
        return (rk_pk){.is_text = true, .text = rk_column_bytes(column, row)};
    }
    return (rk_pk){.number = ((const int64_t *)column->data)[row]};
}

rk_pk
rk_segment_pk(const rk_segment *seg, size_t row)
{
    return seg->growing ? rk__growing_pk(seg, row)
                        : rk__column_pk(&seg->sealed->columns[seg->schema->primary].column, row);
}

size_t
rk_segment_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max)
{
    return seg->growing ? rk__keys_find(seg, pk, rows, out, max)
                        : rk__sealed_find(seg, pk, rows, out, max);
}
