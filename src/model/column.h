/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Columns: values of one field for a run of rows, as the filter and the indexes read them.
 *
 * Layout by type:
 *   Bool                    one byte each, 0 or 1
 *   Int8..Int64, Float, Double   packed, native little-endian
 *   dense vectors           rows of rk_field_row_bytes(), packed
 *   VarChar, JSON           bytes at data[offsets[i]] .. data[offsets[i + 1]]
 *   sparse vectors          the same, a row being pairs (u32 index, f32 value), ascending by index
 *   Array                   the same, a row being an array blob (below)
 * A null row has its valid bit clear; its value is zero bytes, or empty when variable-length.
 *
 * Array blob: u32 count, then for fixed-size elements count values, unaligned; for VarChar count
 * u32 end offsets, relative to the first string byte, then the string bytes.
 */
#ifndef RK_MODEL_COLUMN_H
#define RK_MODEL_COLUMN_H

#include "base/bitset.h"
#include "model/schema.h"

/* Borrowed and immutable. */
typedef struct rk_column {
    const rk_field *field;
    size_t rows;
    const uint64_t
        *valid; /* bit per row, set = not null, whatever bits past the last row; NULL: no nulls */
    const void *data;
    const uint64_t *offsets; /* rows + 1 entries into |data|; NULL for fixed-size types */
} rk_column;

static inline bool
rk_column_is_null(const rk_column *c, size_t row)
{
    return c->valid && !((c->valid[row >> 6] >> (row & 63)) & 1u);
}

/* Bytes of one variable-length value. */
static inline rk_str
rk_column_bytes(const rk_column *c, size_t row)
{
    return (rk_str){(const char *)c->data + c->offsets[row],
                    (size_t)(c->offsets[row + 1] - c->offsets[row])};
}

/* ---- array blobs; checked once when written, so reads trust them ---- */
uint32_t rk_array_count(rk_str blob);
int64_t rk_array_i64(rk_str blob, rk_type element, uint32_t i); /* Bool, Int8..Int64 */
double rk_array_f64(rk_str blob, rk_type element, uint32_t i);  /* Float, Double */
rk_str rk_array_str(rk_str blob, uint32_t i);                   /* VarChar */
/* True when |blob| is well formed for |element|. */
bool rk_array_check(rk_str blob, rk_type element);

/* ---- primary keys ---- */
typedef struct rk_pk {
    bool is_text;
    int64_t number;
    rk_str text;
} rk_pk;
int rk_pk_cmp(rk_pk a, rk_pk b);
/* What orders keys cheaply: the number, or the first eight bytes of a text. Where two keys of one
 * kind differ in it they are in its order; where not, rk_pk_cmp() decides. */
uint64_t rk_pk_order_key(rk_pk pk);
uint64_t rk_pk_hash(rk_pk pk); /* decides the shard; on disk, never changes */
uint32_t rk_pk_shard(rk_pk pk, uint32_t shards);
size_t rk_ids_len(const pb_schema_IDs *ids);
rk_pk rk_ids_at(const pb_schema_IDs *ids, size_t i);

/* ---- FieldData: rows as they travel ---- */

/* Rows that |data| holds for |field|, counting null rows; checks that the union member fits the
 * field's type. Texts of spec errors 71-86. */
RK_MUST_CHECK rk_code rk_field_data_rows(const pb_schema_FieldData *data, const rk_field *field,
                                         size_t *rows, rk_err *err);
/* Full check of |rows| values against the field: lengths, capacity, ranges, NaN, sparse order, JSON
 * well-formed, dims. */
RK_MUST_CHECK rk_code rk_field_data_check(const pb_schema_FieldData *data, const rk_field *field,
                                          size_t rows, rk_err *err);
/* The rows picked by |picks| (NULL: 0..n-1) as a new FieldData in |arena| (for splitting by shard).
 */
RK_MUST_CHECK rk_code rk_field_data_pick(pb_schema_FieldData **out, const pb_schema_FieldData *data,
                                         const rk_field *field, const uint32_t *picks, size_t n,
                                         rk_arena *arena);
/* |rows| times the default value, or null. */
RK_MUST_CHECK rk_code rk_field_data_fill(pb_schema_FieldData **out, const rk_field *field,
                                         size_t rows, rk_arena *arena);

/*
 * Reads checked FieldData row by row into the layout of columns, for those who own the memory
 * (growing segments). A null row of a field with a default value takes the default. Runs of rows
 * without nulls go by memcpy.
 */
typedef struct rk_field_reader {
    const rk_field *field;
    const pb_schema_FieldData *data;
    const uint8_t *values; /* payload, in the form of the message */
    size_t width;
    const bool *valid; /* one per row; NULL: no nulls */
    bool compact;      /* the payload skips null rows */
    size_t rows;
    size_t row;  /* next */
    size_t slot; /* next value of the payload */
} rk_field_reader;

/* Where rows go: fixed-size values to data[row * row bytes]; others to data[offsets[row]],
 * offsets[row + 1] is written. */
typedef struct rk_column_room {
    void *data;
    uint64_t *offsets;
    uint64_t *valid; /* bits must be set; those of null rows are cleared. NULL when
                        rk_field_reader_size() counted no nulls */
    size_t row;
} rk_column_room;

void rk_field_reader_init(rk_field_reader *reader, const pb_schema_FieldData *data,
                          const rk_field *field);
void rk_field_reader_skip(rk_field_reader *reader, size_t n);
/* Bytes (of variable-length types) and nulls among the next |n| rows. */
void rk_field_reader_size(const rk_field_reader *reader, size_t n, size_t *bytes, size_t *nulls);
void rk_field_reader_take(rk_field_reader *reader, size_t n, rk_column_room *room);

/* A column being built: from FieldData pieces, or row by row from another column. Heap; not
 * thread-safe. */
typedef struct rk_column_builder rk_column_builder;
RK_MUST_CHECK rk_code rk_column_builder_new(rk_column_builder **out, const rk_field *field);
void rk_column_builder_free(rk_column_builder *b);
/* Appends values [from, from + n) of checked FieldData. */
RK_MUST_CHECK rk_code rk_column_builder_add(rk_column_builder *b, const pb_schema_FieldData *data,
                                            size_t from, size_t n);
RK_MUST_CHECK rk_code rk_column_builder_add_row(rk_column_builder *b, const rk_column *from,
                                                size_t row);
size_t rk_column_builder_bytes(const rk_column_builder *b);
rk_column rk_column_builder_view(const rk_column_builder *b); /* valid until the next add */

/* Gathers rows of columns into FieldData for a reply: row i is columns[which[i]] at rows[i]. All
 * columns have the same field. */
RK_MUST_CHECK rk_code rk_field_data_gather(pb_schema_FieldData **out, const rk_field *field,
                                           const rk_column *const *columns, const uint32_t *rows,
                                           size_t n, rk_arena *arena);
/* Concatenates the same field of several replies, taking row picks[i] = {part, row}. */
typedef struct rk_part_row {
    uint32_t part;
    uint32_t row;
} rk_part_row;
RK_MUST_CHECK rk_code rk_field_data_merge(pb_schema_FieldData **out, const rk_field *field,
                                          pb_schema_FieldData *const *parts,
                                          const rk_part_row *picks, size_t n, rk_arena *arena);

#endif
