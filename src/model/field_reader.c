/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From FieldData to columns: the way in for every inserted row.
 *
 * Rows are taken in runs: values up to the next null go at once, by memcpy where wire form and
 * column form agree (all but Int8, Int16, arrays and variable-length values). A null row becomes
 * the field's default value, or zero bytes with its bit cleared.
 */
#include "model/model_private.h"

void
rk_field_reader_init(rk_field_reader *reader, const pb_schema_FieldData *data,
                     const rk_field *field)
{
    rk__wire wire;
    bool fits = rk__wire_of(&wire, data, field);

    RK_DCHECK(fits);
    *reader = (rk_field_reader){.field = field,
                                .data = data,
                                .values = wire.values,
                                .width = wire.width,
                                .valid = wire.valid,
                                .compact = wire.compact,
                                .rows = fits ? wire.rows : 0};
}

void
rk_field_reader_skip(rk_field_reader *reader, size_t n)
{
    for (size_t i = reader->row; reader->valid && reader->compact && i < reader->row + n; i++) {
        reader->slot += reader->valid[i];
    }
    if (!reader->compact) {
        reader->slot += n;
    }
    reader->row += n;
}

/* Rows from |row| on that are alike, at most |max|: all values, or all nulls. */
static size_t
run_length(const rk_field_reader *r, size_t row, size_t max, bool *null)
{
    size_t n = 1;

    *null = false;
    if (!r->valid) {
        return max;
    }
    *null = !r->valid[row];
    while (n < max && r->valid[row + n] != *null) {
        n++;
    }
    return n;
}

static rk_str
string_slot(const rk_field_reader *r, size_t slot)
{
    rk_str s;
    memcpy(&s, r->values + slot * sizeof(s), sizeof(s));
    return s;
}

static const pb_schema_ScalarField *
array_slot(const rk_field_reader *r, size_t slot)
{
    const pb_schema_ScalarField *row;
    memcpy(&row, r->values + slot * sizeof(row), sizeof(row));
    return row;
}

static bool
is_variable(rk_type type)
{
    return type == RK_VARCHAR || type == RK_JSON || type == RK_SPARSE_VECTOR || type == RK_ARRAY;
}

static size_t
slot_size(const rk_field_reader *r, size_t slot)
{
    return r->field->type == RK_ARRAY ? rk__array_blob_size(array_slot(r, slot), r->field->element)
                                      : string_slot(r, slot).len;
}

void
rk_field_reader_size(const rk_field_reader *reader, size_t n, size_t *bytes, size_t *nulls)
{
    const pb_schema_ValueField *fallback = reader->field->default_value;
    bool variable = is_variable(reader->field->type);
    size_t slot = reader->slot;

    *bytes = 0;
    *nulls = 0;
    for (size_t done = 0, run; done < n; done += run) {
        bool null;
        run = run_length(reader, reader->row + done, n - done, &null);
        if (null) {
            *nulls += fallback ? 0 : run;
            *bytes += fallback && variable ? run * fallback->string_data.len : 0;
            slot += reader->compact ? 0 : run;
            continue;
        }
        for (size_t i = 0; variable && i < run; i++) {
            *bytes += slot_size(reader, slot + i);
        }
        slot += run;
    }
}

/* ---- taking rows ---- */

static void
append_bytes(rk_column_room *room, const void *bytes, size_t len)
{
    uint64_t at = room->offsets[room->row];

    if (len > 0) {
        memcpy((uint8_t *)room->data + at, bytes, len);
    }
    room->offsets[++room->row] = at + len;
}

static void
take_values(rk_field_reader *r, size_t n, rk_column_room *room)
{
    rk_type type = r->field->type;
    const uint8_t *from = r->values + r->slot * r->width;

    if (type == RK_ARRAY) {
        for (size_t i = 0; i < n; i++) {
            const pb_schema_ScalarField *row = array_slot(r, r->slot + i);
            uint64_t at = room->offsets[room->row];
            rk__array_blob_write((uint8_t *)room->data + at, row, r->field->element);
            room->offsets[++room->row] = at + rk__array_blob_size(row, r->field->element);
        }
    } else if (is_variable(type)) {
        for (size_t i = 0; i < n; i++) {
            rk_str s = string_slot(r, r->slot + i);
            append_bytes(room, s.data, s.len);
        }
    } else if (type == RK_INT8) {
        for (size_t i = 0; i < n; i++) {
            ((int8_t *)room->data)[room->row++] = (int8_t)rk_get_u32le(from + i * 4);
        }
    } else if (type == RK_INT16) {
        for (size_t i = 0; i < n; i++) {
            ((int16_t *)room->data)[room->row++] = (int16_t)rk_get_u32le(from + i * 4);
        }
    } else {
        memcpy((uint8_t *)room->data + room->row * r->width, from, n * r->width);
        room->row += n;
    }
    r->slot += n;
}

/* The default value in column form; |*room8| holds fixed-size ones. */
static rk_str
default_bytes(const rk_field *field, uint64_t *room8)
{
    const pb_schema_ValueField *v = field->default_value;
    size_t width = rk_type_bytes(field->type);

    *room8 = 0;
    if (v->data_case == PB_SCHEMA_ValueField_string_data) {
        return v->string_data;
    }
    if (v->data_case == PB_SCHEMA_ValueField_bool_data) {
        memcpy(room8, &v->bool_data, 1);
    } else if (v->data_case == PB_SCHEMA_ValueField_int_data) {
        memcpy(room8, &v->int_data, width); /* little-endian: the low bytes come first */
    } else if (v->data_case == PB_SCHEMA_ValueField_long_data) {
        memcpy(room8, &v->long_data, 8);
    } else if (v->data_case == PB_SCHEMA_ValueField_float_data) {
        memcpy(room8, &v->float_data, 4);
    } else if (v->data_case == PB_SCHEMA_ValueField_double_data) {
        memcpy(room8, &v->double_data, 8);
    }
    return (rk_str){(const char *)room8, width};
}

static void
take_nulls(rk_field_reader *r, size_t n, rk_column_room *room)
{
    bool fallback = r->field->default_value != NULL;
    bool variable = is_variable(r->field->type);
    size_t width = rk_field_row_bytes(r->field);
    uint64_t room8;
    rk_str value = {NULL, 0};

    if (fallback) {
        value = default_bytes(r->field, &room8);
    }
    for (size_t i = 0; i < n; i++) {
        if (!fallback) {
            room->valid[room->row >> 6] &= ~(UINT64_C(1) << (room->row & 63));
        }
        if (variable) {
            append_bytes(room, value.data, value.len);
        } else if (fallback) {
            memcpy((uint8_t *)room->data + room->row++ * width, value.data, width);
        } else {
            memset((uint8_t *)room->data + room->row++ * width, 0, width);
        }
    }
    r->slot += r->compact ? 0 : n;
}

void
rk_field_reader_take(rk_field_reader *reader, size_t n, rk_column_room *room)
{
    for (size_t done = 0, run; done < n; done += run) {
        bool null;
        run = run_length(reader, reader->row, n - done, &null);
        if (null) {
            take_nulls(reader, run, room);
        } else {
            take_values(reader, run, room);
        }
        reader->row += run;
    }
}
