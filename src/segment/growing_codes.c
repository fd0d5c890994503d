/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codes of the vectors of a growing segment (index/growing/growing.h): who makes them, when, and
 * where they lie.
 *
 * Nothing is coded by an append: a segment that nobody searches costs nothing. A search that finds
 * rows without codes takes the turn of that field, one flag, and codes some of them first: as many
 * as would take about as long as scoring those that have none, at least a few hundred, so that no
 * search pays for much more than its own share and a segment that was filled before the first of
 * them is coded after a few. Who finds the turn taken goes on with what is there.
 *
 * Rows are coded from the front, so one count says all: it is published by a release store after
 * the codes, and a reader that took it (acquire) may follow the sets of all chunks below it. A set
 * stays until the segment is freed. All sets of a field are of one metric, that of the first; a
 * search by another one scores exactly, as does one whose segment was refused the memory.
 */
#include "index/growing/growing.h"
#include "segment/segment_private.h"

#define ROWS_MIN        1024u      /* so few are scored sooner than coded */
#define TURN_COMPONENTS (1u << 18) /* a turn codes at least so many, in a millisecond or two */
#define TURN_SHARE                                                                                 \
    16u /* of the rows without codes, in one turn: coding one takes as long as                     \
           scoring so many, about */

void
rk_segment_allow_codes(rk_segment *seg, rk_mem *mem)
{
    seg->growing->codes_mem = mem;
    seg->growing->codes_allowed = true;
}

void
rk__codes_free(rk__growing *g)
{
    uint64_t bytes = 0;

    for (size_t c = 0; g->codings && c < g->chunks_len; c++) {
        for (size_t f = 0; f < g->fields_len; f++) {
            rk__chunk_column *column = &rk__growing_chunk(g, c)->columns[f];
            bytes += column->codes_bytes;
            rk_growing_codes_free(column->codes);
        }
    }
    rk_mem_release(g->codes_mem, bytes);
    rk_free(g->codings);
}

/* Leaves an eighth of the budget to those who cannot do without. */
static bool
reserve(rk_mem *mem, uint64_t size_bytes)
{
    uint64_t limit = rk_mem_limit(mem);

    if (limit > 0 && rk_mem_used(mem) + size_bytes > limit / 8 * 7) {
        return false;
    }
    return rk_mem_reserve(mem, size_bytes, "codes of a growing segment", NULL) == RK_OK;
}

/* The set of chunk |c|, made when it is not there. */
static rk_growing_codes *
set_of(const rk_segment *seg, size_t field, const rk__coding *coding, size_t c, rk_vectors *vectors)
{
    rk__growing *g = seg->growing;
    rk__chunk_column *column = &rk__growing_chunk(g, c)->columns[field];
    size_t rows = (size_t)1 << g->chunk_shift;
    rk_growing_codes *before = c > 0 ? rk__growing_chunk(g, c - 1)->columns[field].codes : NULL;

    if (column->codes) {
        return column->codes;
    }
    uint64_t bytes = rk_growing_codes_bytes(vectors->dim, rows);
    if (!reserve(g->codes_mem, bytes)) {
        return NULL;
    }
    rk_growing_codes *codes = rk_growing_codes_new(vectors, coding->metric, rows, before);
    if (!codes) {
        rk_mem_release(g->codes_mem, bytes);
        return NULL;
    }
    column->codes_bytes = bytes;
    column->codes = codes;
    return codes;
}

/* Codes rows up to |to|, chunk by chunk. Caller has the turn. */
static void
code_rows(const rk_segment *seg, size_t field, rk__coding *coding, size_t rows, size_t to)
{
    const rk_field *schema_field = &seg->schema->fields[field];
    size_t chunk_rows = (size_t)1 << seg->growing->chunk_shift;
    size_t from = atomic_load_explicit(&coding->rows, memory_order_relaxed);

    while (from < to) {
        size_t c = from >> seg->growing->chunk_shift;
        size_t first = c << seg->growing->chunk_shift;
        rk_column column = rk__growing_column(seg, c, field, rows);
        rk_vectors vectors = {(rk_vector_type)schema_field->type, schema_field->dim, column.rows,
                              column.data, NULL};
        size_t end = RK_MIN(to, first + chunk_rows);
        rk_growing_codes *codes = set_of(seg, field, coding, c, &vectors);
        if (!codes ||
            rk_growing_codes_add(codes, column.data, from - first, end - first) != RK_OK) {
            return;
        }
        from = end;
        atomic_store_explicit(&coding->rows, from, memory_order_release);
    }
}

void
rk_segment_code(const rk_segment *seg, size_t field, rk_metric metric, size_t rows)
{
    rk__growing *g = seg->growing;
    const rk_field *schema_field = &seg->schema->fields[field];

    if (!g || !g->codes_allowed || rows < ROWS_MIN ||
        !rk_growing_codable((rk_vector_type)schema_field->type, metric, schema_field->dim)) {
        return;
    }
    rk__coding *coding = &g->codings[field];
    size_t done = atomic_load_explicit(&coding->rows, memory_order_relaxed);
    size_t left = rows - RK_MIN(rows, done);
    size_t turn = TURN_COMPONENTS / schema_field->dim + RK_GROWING_STEP;
    turn = RK_MAX(left / TURN_SHARE, turn);
    size_t to = RK_MIN(rows, done + turn) / RK_GROWING_STEP * RK_GROWING_STEP;
    /* acquire: the sets that were begun in earlier turns */
    if (to <= done || atomic_exchange_explicit(&coding->busy, true, memory_order_acquire)) {
        return;
    }
    if (atomic_load_explicit(&coding->rows, memory_order_relaxed) == 0) {
        coding->metric = metric;
    }
    if (coding->metric == metric) {
        code_rows(seg, field, coding, rows, to);
    }
    atomic_store_explicit(&coding->busy, false, memory_order_release);
}

const rk_growing_codes *
rk_segment_codes(const rk_segment *seg, size_t chunk, size_t field, rk_metric metric, size_t *rows)
{
    const rk__growing *g = seg->growing;
    size_t first;

    *rows = 0;
    if (!g || !g->codes_allowed) {
        return NULL;
    }
    const rk__coding *coding = &g->codings[field];
    size_t coded = atomic_load_explicit(&coding->rows, memory_order_acquire);
    first = chunk << g->chunk_shift;
    if (coded <= first || coding->metric != metric) {
        return NULL;
    }
    *rows = RK_MIN(coded - first, (size_t)1 << g->chunk_shift);
    return rk__growing_chunk(g, chunk)->columns[field].codes;
}
