/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing segments: appends of one writer beside readers that never wait.
 *
 * Rows live in chunks of up to 1,024 (fewer when a row is large, so that a chunk stays near 4 MiB).
 * An append has three steps: measure   what it needs: new chunks, larger byte arrays, validity
 * bitmaps, a larger key table; asks the budget once prepare   allocates all of it; a failure here
 * leaves rows as they are, only some capacity is larger write     copies the rows in, adds keys,
 * and publishes them by one release store of the row count Readers take the row count first
 * (acquire) and look only at rows below it. An array that grows is copied and its pointer swapped;
 * a bitmap that gets its first null after rows were published is copied too, since bits of
 * published rows share its words. Outgrown memory is freed with the segment: doubling keeps it
 * below the size of what is in use.
 */
#include "segment/segment_private.h"

#define CHUNK_BYTES ((size_t)4 << 20)
#define BYTES_MIN   ((size_t)1024)
#define CHUNKS_MIN  ((size_t)16)

/* The part of an append that falls into one chunk. */
typedef struct piece {
    size_t chunk;
    size_t from; /* row in the chunk */
    size_t n;
} piece;

/* ---- memory ---- */

static size_t
block_bytes(size_t size_bytes)
{
    return (size_bytes + 63) / 64 * 64 + sizeof(rk__block);
}

void *
rk__growing_alloc(rk__growing *g, size_t size_bytes)
{
    size_t whole = block_bytes(size_bytes);
    RK_DCHECK(whole <= g->budget_bytes);
    rk__block *block = rk_alloc_aligned(64, whole);

    if (!block) {
        return NULL;
    }
    block->next = g->blocks;
    block->size_bytes = whole;
    g->blocks = block;
    g->budget_bytes -= whole;
    atomic_fetch_add_explicit(&g->size_bytes, whole, memory_order_relaxed);
    return block + 1;
}

void
rk__growing_free(rk__growing *g, rk_mem *mem)
{
    if (!g) {
        return;
    }
    rk__codes_free(g);
    rk_mem_release(mem, atomic_load(&g->size_bytes));
    for (rk__block *b = g->blocks, *next; b; b = next) {
        next = b->next;
        rk_free(b);
    }
    rk_free(g);
}

/* ---- reading ---- */

rk_column
rk__growing_column(const rk_segment *seg, size_t chunk, size_t field, size_t rows)
{
    const rk__growing *g = seg->growing;
    size_t first = chunk << g->chunk_shift;
    rk_column c = {.field = &seg->schema->fields[field]};
    const rk__chunk_column *from;

    if (rows <= first) {
        return c;
    }
    from = &rk__growing_chunk(g, chunk)->columns[field];
    c.rows = RK_MIN(rows - first, (size_t)1 << g->chunk_shift);
    c.data = atomic_load_explicit(&from->data, memory_order_acquire);
    c.valid = atomic_load_explicit(&from->valid, memory_order_acquire);
    c.offsets = from->offsets;
    return c;
}

rk_pk
rk__growing_pk(const rk_segment *seg, size_t row)
{
    const rk__growing *g = seg->growing;
    const rk__chunk_column *c =
        &rk__growing_chunk(g, row >> g->chunk_shift)->columns[seg->schema->primary];
    const uint8_t *data = atomic_load_explicit(&c->data, memory_order_acquire);
    size_t at = row & (((size_t)1 << g->chunk_shift) - 1);

    if (c->offsets) {
        return (rk_pk){.is_text = true,
                       .text = {(const char *)data + c->offsets[at],
                                (size_t)(c->offsets[at + 1] - c->offsets[at])}};
    }
    return (rk_pk){.number = (int64_t)rk_get_u64le(data + at * 8)};
}

/* ---- making ---- */

static unsigned
chunk_shift_for(const rk_schema *schema)
{
    size_t largest = 1;
    unsigned shift = 10;

    for (size_t i = 0; i < schema->fields_len; i++) {
        largest = RK_MAX(largest, rk_field_row_bytes(&schema->fields[i]));
    }
    while (shift > 6 && (largest << shift) > CHUNK_BYTES) {
        shift--;
    }
    return shift;
}

rk_code
rk_segment_new_growing(rk_segment **out, const rk_segment_ids *ids, rk_schema *schema, rk_mem *mem,
                       rk_err *err)
{
    rk_segment *seg = rk__segment_new(ids, schema, mem);

    *out = NULL;
    if (!seg || !(seg->growing = rk_alloc_zero(1, sizeof(*seg->growing))) ||
        !(seg->growing->codings =
              rk_alloc_zero(schema->fields_len, sizeof(*seg->growing->codings)))) {
        rk_segment_unref(seg);
        return rk_fail(err, RK_ENOMEM, "no memory for growing segment %lld", (long long)ids->id);
    }
    seg->growing->fields_len = schema->fields_len;
    seg->growing->chunk_shift = chunk_shift_for(schema);
    *out = seg;
    return RK_OK;
}

/* ---- append: measure ---- */

static piece
piece_at(const rk__growing *g, size_t row, size_t end)
{
    size_t chunk_rows = (size_t)1 << g->chunk_shift;
    size_t from = row & (chunk_rows - 1);
    return (piece){row >> g->chunk_shift, from, RK_MIN(end - row, chunk_rows - from)};
}

static size_t
bitmap_bytes(const rk__growing *g)
{
    return ((size_t)1 << g->chunk_shift) / 8;
}

/* All of a chunk but its variable-length bytes and bitmaps, which come when rows do. */
static size_t
chunk_bytes(const rk_segment *seg)
{
    size_t rows = (size_t)1 << seg->growing->chunk_shift;
    size_t bytes = block_bytes(sizeof(rk__chunk)) +
                   block_bytes(seg->schema->fields_len * sizeof(rk__chunk_column)) +
                   block_bytes(rows * sizeof(uint64_t)) + block_bytes(rows * sizeof(uint32_t));

    for (size_t i = 0; i < seg->schema->fields_len; i++) {
        size_t width = rk_field_row_bytes(&seg->schema->fields[i]);
        bytes += block_bytes(width > 0 ? rows * width : (rows + 1) * sizeof(uint64_t));
    }
    return bytes;
}

static size_t
grown_cap(size_t cap, size_t need)
{
    size_t want = RK_MAX(cap * 2, BYTES_MIN);
    return RK_MAX(want, need);
}

/* What one field needs in one chunk beside the chunk itself. */
static size_t
piece_bytes(const rk__growing *g, const rk__chunk_column *column, const rk_field *field,
            size_t bytes, size_t nulls)
{
    size_t total = nulls > 0 ? block_bytes(bitmap_bytes(g)) : 0;
    size_t len = column ? column->data_len : 0;
    size_t cap = column ? column->data_cap : 0;

    if (rk_field_row_bytes(field) == 0 && (cap == 0 || len + bytes > cap)) {
        total += block_bytes(grown_cap(cap, len + bytes));
    }
    return total;
}

static size_t
measure(const rk_segment *seg, const rk_field_reader *readers, size_t row, size_t end)
{
    const rk__growing *g = seg->growing;
    size_t last = (end - 1) >> g->chunk_shift;
    size_t total = 0;

    if (last >= g->chunks_len) {
        total += (last + 1 - g->chunks_len) * chunk_bytes(seg);
    }
    if (last >= g->chunks_cap) {
        total += block_bytes(RK_MAX(RK_MAX(g->chunks_cap * 2, CHUNKS_MIN), last + 1) *
                             sizeof(rk__chunk *));
    }
    size_t keys = rk__keys_bytes(g, end);
    total += keys > 0 ? block_bytes(keys) : 0;
    for (size_t f = 0; f < seg->schema->fields_len; f++) {
        rk_field_reader r = readers[f];
        piece p;
        for (size_t at = row; at < end; at += p.n) {
            size_t bytes, nulls;
            p = piece_at(g, at, end);
            rk_field_reader_size(&r, p.n, &bytes, &nulls);
            rk_field_reader_skip(&r, p.n);
            const rk__chunk_column *c =
                p.chunk < g->chunks_len ? &rk__growing_chunk(g, p.chunk)->columns[f] : NULL;
            total += piece_bytes(g, c, &seg->schema->fields[f], bytes, nulls);
        }
    }
    return total;
}

/* ---- append: prepare ---- */

static rk_code
grow_directory(rk__growing *g, size_t chunks)
{
    rk__chunk **old = atomic_load_explicit(&g->chunks, memory_order_relaxed);

    if (chunks <= g->chunks_cap) {
        return RK_OK;
    }
    size_t cap = RK_MAX(RK_MAX(g->chunks_cap * 2, CHUNKS_MIN), chunks);
    rk__chunk **bigger = rk__growing_alloc(g, cap * sizeof(rk__chunk *));
    if (!bigger) {
        return RK_ENOMEM;
    }
    if (g->chunks_len > 0) {
        memcpy(bigger, old, g->chunks_len * sizeof(rk__chunk *));
    }
    atomic_store_explicit(&g->chunks, bigger, memory_order_release);
    g->chunks_cap = cap;
    return RK_OK;
}

static rk_code
add_chunk(rk_segment *seg)
{
    rk__growing *g = seg->growing;
    size_t rows = (size_t)1 << g->chunk_shift;
    size_t fields = seg->schema->fields_len;
    rk__chunk *chunk = rk__growing_alloc(g, sizeof(*chunk));
    rk__chunk_column *columns = rk__growing_alloc(g, fields * sizeof(*columns));
    uint64_t *ts = rk__growing_alloc(g, rows * sizeof(*ts));
    uint32_t *older = rk__growing_alloc(g, rows * sizeof(*older));

    if (!chunk || !columns || !ts || !older) {
        return RK_ENOMEM;
    }
    memset(columns, 0, fields * sizeof(*columns));
    *chunk = (rk__chunk){ts, older, columns};
    for (size_t f = 0; f < fields; f++) {
        size_t width = rk_field_row_bytes(&seg->schema->fields[f]);
        void *data = rk__growing_alloc(g, width > 0 ? rows * width : (rows + 1) * sizeof(uint64_t));
        if (!data) {
            return RK_ENOMEM;
        }
        if (width > 0) {
            atomic_init(&columns[f].data, data);
        } else {
            columns[f].offsets = data;
            columns[f].offsets[0] = 0;
        }
    }
    atomic_load_explicit(&g->chunks, memory_order_relaxed)[g->chunks_len++] =
        chunk; /* published with its first row or key */
    return RK_OK;
}

static rk_code
grow_bytes(rk__growing *g, rk__chunk_column *c, size_t bytes)
{
    uint8_t *old = atomic_load_explicit(&c->data, memory_order_relaxed);

    if (c->data_cap > 0 && c->data_len + bytes <= c->data_cap) {
        return RK_OK;
    }
    size_t cap = grown_cap(c->data_cap, c->data_len + bytes);
    uint8_t *bigger = rk__growing_alloc(g, cap);
    if (!bigger) {
        return RK_ENOMEM;
    }
    if (c->data_len > 0) {
        memcpy(bigger, old, c->data_len);
    }
    atomic_store_explicit(&c->data, bigger, memory_order_release);
    c->data_cap = cap;
    return RK_OK;
}

/* A private copy of the bitmap to clear bits in, or a fresh one of all ones. */
static rk_code
copy_bitmap(rk__growing *g, rk__chunk_column *c)
{
    const uint64_t *old = atomic_load_explicit(&c->valid, memory_order_relaxed);

    c->valid_next = rk__growing_alloc(g, bitmap_bytes(g));
    if (!c->valid_next) {
        return RK_ENOMEM;
    }
    if (old) {
        memcpy(c->valid_next, old, bitmap_bytes(g));
    } else {
        memset(c->valid_next, 0xff, bitmap_bytes(g));
    }
    return RK_OK;
}

static rk_code
prepare(rk_segment *seg, const rk_field_reader *readers, size_t row, size_t end)
{
    rk__growing *g = seg->growing;
    size_t chunks = ((end - 1) >> g->chunk_shift) + 1;

    RK_RET(grow_directory(g, chunks));
    while (g->chunks_len < chunks) {
        RK_RET(add_chunk(seg));
    }
    for (size_t f = 0; f < seg->schema->fields_len; f++) {
        rk_field_reader r = readers[f];
        piece p;
        for (size_t at = row; at < end; at += p.n) {
            size_t bytes, nulls;
            p = piece_at(g, at, end);
            rk__chunk_column *c = &rk__growing_chunk(g, p.chunk)->columns[f];
            rk_field_reader_size(&r, p.n, &bytes, &nulls);
            rk_field_reader_skip(&r, p.n);
            c->valid_next = NULL;
            RK_RET(c->offsets ? grow_bytes(g, c, bytes) : RK_OK);
            RK_RET(nulls > 0 ? copy_bitmap(g, c) : RK_OK);
        }
    }
    return rk__keys_grow(seg, end);
}

/* ---- append: write ---- */

static void
write_field(rk_segment *seg, size_t field, rk_field_reader *reader, size_t row, size_t end)
{
    rk__growing *g = seg->growing;
    piece p;

    for (size_t at = row; at < end; at += p.n) {
        p = piece_at(g, at, end);
        rk__chunk_column *c = &rk__growing_chunk(g, p.chunk)->columns[field];
        rk_column_room room = {.data = atomic_load_explicit(&c->data, memory_order_relaxed),
                               .offsets = c->offsets,
                               .valid = c->valid_next,
                               .row = p.from};
        rk_field_reader_take(reader, p.n, &room);
        if (c->offsets) {
            c->data_len = (size_t)c->offsets[p.from + p.n];
        }
        if (c->valid_next) {
            atomic_store_explicit(&c->valid, c->valid_next, memory_order_release);
            c->valid_next = NULL;
        }
    }
}

static void
write_rows(rk_segment *seg, rk_field_reader *readers, size_t row, size_t end, uint64_t ts)
{
    rk__growing *g = seg->growing;
    size_t mask = ((size_t)1 << g->chunk_shift) - 1;

    for (size_t f = 0; f < seg->schema->fields_len; f++) {
        write_field(seg, f, &readers[f], row, end);
    }
    for (size_t i = row; i < end; i++) {
        rk__growing_chunk(g, i >> g->chunk_shift)->ts[i & mask] = ts;
        rk__keys_add(seg, i);
    }
    if (row == 0) {
        atomic_store_explicit(&g->min_ts, ts, memory_order_relaxed);
    }
    atomic_store_explicit(&g->max_ts, ts, memory_order_relaxed);
    atomic_store_explicit(&g->rows, end, memory_order_release);
}

static const pb_schema_FieldData *
find_data(const rk_field *field, size_t position, pb_schema_FieldData *const *fields,
          size_t fields_len)
{
    for (size_t i = 0; i < fields_len; i++) {
        const pb_schema_FieldData *data =
            fields[(position + i) % fields_len]; /* most often at the same place */
        if (data->field_id != 0 ? data->field_id == field->id
                                : rk_str_eq(data->field_name, field->name)) {
            return data;
        }
    }
    return NULL;
}

static rk_code
open_readers(const rk_segment *seg, rk_field_reader *readers, pb_schema_FieldData *const *fields,
             size_t fields_len, uint32_t rows, rk_err *err)
{
    for (size_t f = 0; f < seg->schema->fields_len; f++) {
        const rk_field *field = &seg->schema->fields[f];
        const pb_schema_FieldData *data = find_data(field, f, fields, fields_len);
        size_t have;

        if (!data) {
            return rk_fail_tail(err, RK_EINVAL,
                                "fieldSchema(%.*s) has no corresponding fieldData pass in",
                                RK_STR_ARG(field->name));
        }
        RK_RET(rk_field_data_rows(data, field, &have, err));
        if (have != rows) {
            return rk_fail_tail(
                err, RK_EINVAL,
                "the num_rows (%zu) of field (%.*s) is not equal to passed num_rows (%u)", have,
                RK_STR_ARG(field->name), (unsigned)rows);
        }
        rk_field_reader_init(&readers[f], data, field);
    }
    return RK_OK;
}

rk_code
rk_segment_append(rk_segment *seg, pb_schema_FieldData *const *fields, size_t fields_len,
                  uint32_t rows, uint64_t ts, rk_err *err)
{
    rk__growing *g = seg->growing;
    size_t row = atomic_load_explicit(&g->rows, memory_order_relaxed);
    size_t end, need;
    rk_code code = RK_OK;

    if (rows == 0) {
        return RK_OK;
    }
    if (!rk_add_ok(&end, row, rows) || end > RK__ROWS_MAX) {
        return rk_fail(err, RK_ETOO_LARGE, "segment %lld holds %zu rows, %u more do not fit",
                       (long long)seg->ids.id, row, (unsigned)rows);
    }
    rk_field_reader *readers = rk_alloc_zero(seg->schema->fields_len, sizeof(*readers));
    if (!readers) {
        return rk_fail(err, RK_ENOMEM, "no memory to append to segment %lld",
                       (long long)seg->ids.id);
    }
    RK_ERR(open_readers(seg, readers, fields, fields_len, rows, err));
    need = measure(seg, readers, row, end);
    RK_ERR(rk_mem_reserve(seg->mem, need, "growing segment", err));
    g->budget_bytes = need;
    code = prepare(seg, readers, row, end);
    rk_mem_release(seg->mem,
                   g->budget_bytes); /* what was not used: nothing, unless prepare failed */
    g->budget_bytes = 0;
    if (code != RK_OK) {
        RK_ERR(rk_fail(err, code, "no memory to append %u rows to segment %lld", (unsigned)rows,
                       (long long)seg->ids.id));
    }
    write_rows(seg, readers, row, end, ts);
out:
    rk_free(readers);
    return code;
}
