/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A column being built on the heap: data, offsets and validity grow by doubling.
 *
 * The validity bitmap is kept only from the first null on; until then the view has none. An append
 * either succeeds or leaves the column as it was.
 */
#include "model/model_private.h"

#define ROWS_MIN  64u
#define BYTES_MIN 256u

struct rk_column_builder {
    const rk_field *field;
    size_t row_bytes; /* 0: variable-length */
    size_t rows;
    size_t rows_cap;
    uint8_t *data;
    size_t data_len; /* of variable-length data */
    size_t data_cap;
    uint64_t *offsets; /* rows_cap + 1 */
    uint64_t *valid;   /* NULL: no null so far; bits past |rows| are set */
};

rk_code
rk_column_builder_new(rk_column_builder **out, const rk_field *field)
{
    rk_column_builder *b = rk_alloc_zero(1, sizeof(*b));

    *out = b;
    if (!b) {
        return RK_ENOMEM;
    }
    b->field = field;
    b->row_bytes = rk_field_row_bytes(field);
    return RK_OK;
}

void
rk_column_builder_free(rk_column_builder *b)
{
    if (b) {
        rk_free(b->data);
        rk_free(b->offsets);
        rk_free(b->valid);
        rk_free(b);
    }
}

/* |array| holds |*cap| items: the same memory when |need| fit, else a larger copy; NULL when memory
 * is out, |array| is still good then. */
static void *
grow(void *array, size_t *cap, size_t need, size_t min, size_t width)
{
    size_t want = RK_MAX(*cap, min);
    size_t bytes;

    if (array && need <= *cap) {
        return array;
    }
    while (want < need) {
        if (!rk_mul_ok(&want, want, 2)) {
            return NULL;
        }
    }
    if (!rk_mul_ok(&bytes, want, width)) {
        return NULL;
    }
    void *bigger = rk_realloc(array, bytes);
    if (bigger) {
        *cap = want;
    }
    return bigger;
}

static bool
grow_valid(rk_column_builder *b, size_t old_cap, size_t cap)
{
    size_t had = b->valid ? rk_bitset_words(old_cap) : 0;
    size_t words = rk_bitset_words(cap);
    uint64_t *valid = rk_realloc(b->valid, words * sizeof(*valid));

    if (!valid) {
        return false;
    }
    b->valid = valid;
    memset(valid + had, 0xff, (words - had) * sizeof(*valid));
    return true;
}

/* Data and offsets for |rows| rows and |end| bytes of variable-length data; |*cap| becomes the rows
 * that fit. */
static bool
reserve_data(rk_column_builder *b, size_t rows, size_t end, size_t *cap)
{
    void *grown = b->row_bytes > 0 ? grow(b->data, cap, rows, ROWS_MIN, b->row_bytes)
                                   : grow(b->data, &b->data_cap, end, BYTES_MIN, 1);
    if (!grown) {
        return false;
    }
    b->data = grown;
    if (b->row_bytes == 0) {
        size_t slots = b->offsets ? *cap + 1 : 0;
        uint64_t *offsets = grow(b->offsets, &slots, rows + 1, ROWS_MIN, sizeof(*offsets));
        if (!offsets) {
            return false;
        }
        b->offsets = offsets;
        *cap = slots - 1;
    }
    return true;
}

/* Room for |n| more rows with |bytes| bytes of variable-length data. */
static bool
reserve(rk_column_builder *b, size_t n, size_t bytes, bool nulls)
{
    size_t rows, end;
    size_t cap = b->rows_cap;

    if (!rk_add_ok(&rows, b->rows, n) || !rk_add_ok(&end, b->data_len, bytes)) {
        return false;
    }
    if (!reserve_data(b, rows, end, &cap)) {
        return false;
    }
    /* rows_cap follows only when the bitmap does too: a failure here at worst repeats the growth */
    if (((nulls && !b->valid) || (b->valid && cap > b->rows_cap)) &&
        !grow_valid(b, b->rows_cap, cap)) {
        return false;
    }
    b->rows_cap = cap;
    return true;
}

rk_code
rk_column_builder_add(rk_column_builder *b, const pb_schema_FieldData *data, size_t from, size_t n)
{
    rk_field_reader reader;
    size_t bytes, nulls, end;

    rk_field_reader_init(&reader, data, b->field);
    if (!rk_add_ok(&end, from, n) || end > reader.rows) {
        return RK_EINVAL;
    }
    rk_field_reader_skip(&reader, from);
    rk_field_reader_size(&reader, n, &bytes, &nulls);
    if (!reserve(b, n, bytes, nulls > 0)) {
        return RK_ENOMEM;
    }
    if (b->offsets && b->rows == 0) {
        b->offsets[0] = 0;
    }
    rk_column_room room = {
        .data = b->data, .offsets = b->offsets, .valid = b->valid, .row = b->rows};
    rk_field_reader_take(&reader, n, &room);
    b->rows += n;
    b->data_len += bytes;
    return RK_OK;
}

rk_code
rk_column_builder_add_row(rk_column_builder *b, const rk_column *from, size_t row)
{
    bool null = rk_column_is_null(from, row);
    rk_str value = {NULL, 0};

    if (b->row_bytes == 0) {
        value = rk_column_bytes(from, row);
    }
    if (!reserve(b, 1, value.len, null)) {
        return RK_ENOMEM;
    }
    if (null) {
        b->valid[b->rows >> 6] &= ~(UINT64_C(1) << (b->rows & 63));
    }
    if (b->row_bytes > 0) {
        memcpy(b->data + b->rows * b->row_bytes, (const uint8_t *)from->data + row * b->row_bytes,
               b->row_bytes);
    } else {
        if (b->rows == 0) {
            b->offsets[0] = 0;
        }
        if (value.len > 0) {
            memcpy(b->data + b->data_len, value.data, value.len);
        }
        b->data_len += value.len;
        b->offsets[b->rows + 1] = b->data_len;
    }
    b->rows++;
    return RK_OK;
}

size_t
rk_column_builder_bytes(const rk_column_builder *b)
{
    size_t valid = b->valid ? rk_bitset_words(b->rows) * 8 : 0;
    return valid + (b->row_bytes > 0 ? b->rows * b->row_bytes
                                     : b->data_len + (b->rows + 1) * sizeof(uint64_t));
}

static const uint64_t no_offsets[1];

rk_column
rk_column_builder_view(const rk_column_builder *b)
{
    rk_column c = {.field = b->field, .rows = b->rows, .valid = b->valid, .data = b->data};

    if (b->row_bytes == 0) {
        c.offsets = b->offsets && b->rows > 0 ? b->offsets : no_offsets;
    }
    return c;
}
