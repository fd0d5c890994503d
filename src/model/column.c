/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Array blobs and primary keys: the small value forms that columns are made of.
 *
 * An array blob is u32 count, then the values packed and unaligned; for VarChar u32 end offsets,
 * then the bytes. Blobs are made here from checked messages, and those read from files are checked
 * when their page is, so the getters trust them.
 */
#include "base/util.h"
#include "model/model_private.h"

#define COUNT_BYTES 4u

uint32_t
rk_array_count(rk_str blob)
{
    return blob.len >= COUNT_BYTES ? rk_get_u32le(blob.data) : 0; /* a null row is empty */
}

int64_t
rk_array_i64(rk_str blob, rk_type element, uint32_t i)
{
    const char *values = blob.data + COUNT_BYTES;

    switch (rk_type_bytes(element)) {
    case 1:
        return element == RK_BOOL ? values[i] != 0 : (int8_t)values[i];
    case 2:
        return (int16_t)rk_get_u16le(values + (size_t)i * 2);
    case 4:
        return (int32_t)rk_get_u32le(values + (size_t)i * 4);
    default:
        return (int64_t)rk_get_u64le(values + (size_t)i * 8);
    }
}

double
rk_array_f64(rk_str blob, rk_type element, uint32_t i)
{
    const char *values = blob.data + COUNT_BYTES;
    double d;
    float f;

    if (element == RK_FLOAT) {
        memcpy(&f, values + (size_t)i * sizeof(f), sizeof(f));
        return (double)f;
    }
    memcpy(&d, values + (size_t)i * sizeof(d), sizeof(d));
    return d;
}

rk_str
rk_array_str(rk_str blob, uint32_t i)
{
    const char *ends = blob.data + COUNT_BYTES;
    const char *bytes = ends + (size_t)rk_array_count(blob) * 4;
    uint32_t from = i > 0 ? rk_get_u32le(ends + ((size_t)i - 1) * 4) : 0;

    return (rk_str){bytes + from, rk_get_u32le(ends + (size_t)i * 4) - from};
}

bool
rk_array_check(rk_str blob, rk_type element)
{
    uint32_t last = 0;

    if (blob.len < COUNT_BYTES) {
        return false;
    }
    size_t count = rk_array_count(blob);
    size_t left = blob.len - COUNT_BYTES;
    if (element != RK_VARCHAR) {
        return left == count * rk_type_bytes(element);
    }
    if (left < count * 4) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t end = rk_get_u32le(blob.data + COUNT_BYTES + i * 4);
        if (end < last) {
            return false;
        }
        last = end;
    }
    return left - count * 4 == last;
}

/* ---- arrays as messages ---- */

size_t
rk__array_width(rk_type element)
{
    switch (rk_type_bytes(element)) {
    case 0:
        return sizeof(rk_str);
    case 1:
        return element == RK_BOOL ? 1 : 4;
    case 2:
        return 4;
    default:
        return rk_type_bytes(element);
    }
}

bool
rk__array_payload(const pb_schema_ScalarField *row, rk_type element, const uint8_t **values,
                  size_t *count)
{
    *values = NULL;
    *count = 0;
    if (!row || row->data_case == 0) {
        return true; /* an empty array names no member */
    }
    if (element == RK_BOOL && row->data_case == PB_SCHEMA_ScalarField_bool_data) {
        *values = (const uint8_t *)row->bool_data->data.data;
        *count = row->bool_data->data.n;
    } else if (element >= RK_INT8 && element <= RK_INT32 &&
               row->data_case == PB_SCHEMA_ScalarField_int_data) {
        *values = (const uint8_t *)row->int_data->data.data;
        *count = row->int_data->data.n;
    } else if (element == RK_INT64 && row->data_case == PB_SCHEMA_ScalarField_long_data) {
        *values = (const uint8_t *)row->long_data->data.data;
        *count = row->long_data->data.n;
    } else if (element == RK_FLOAT && row->data_case == PB_SCHEMA_ScalarField_float_data) {
        *values = row->float_data->data.bytes;
        *count = row->float_data->data.n;
    } else if (element == RK_DOUBLE && row->data_case == PB_SCHEMA_ScalarField_double_data) {
        *values = row->double_data->data.bytes;
        *count = row->double_data->data.n;
    } else if (element == RK_VARCHAR && row->data_case == PB_SCHEMA_ScalarField_string_data) {
        *values = (const uint8_t *)row->string_data->data.data;
        *count = row->string_data->data.n;
    } else {
        return false;
    }
    return true;
}

static rk_str
string_at(const uint8_t *values, size_t i)
{
    rk_str s;
    memcpy(&s, values + i * sizeof(s), sizeof(s));
    return s;
}

size_t
rk__array_blob_size(const pb_schema_ScalarField *row, rk_type element)
{
    const uint8_t *values;
    size_t count;
    size_t size = COUNT_BYTES;

    if (!rk__array_payload(row, element, &values, &count)) {
        return size;
    }
    if (element != RK_VARCHAR) {
        return size + count * rk_type_bytes(element);
    }
    for (size_t i = 0; i < count; i++) {
        size += 4 + string_at(values, i).len;
    }
    return size;
}

static void
write_strings(uint8_t *out, const uint8_t *values, size_t count)
{
    uint8_t *bytes = out + count * 4;
    uint32_t end = 0;

    for (size_t i = 0; i < count; i++) {
        rk_str s = string_at(values, i);
        if (s.len > 0) {
            memcpy(bytes + end, s.data, s.len);
        }
        end += (uint32_t)s.len;
        rk_put_u32le(out + i * 4, end);
    }
}

void
rk__array_blob_write(uint8_t *out, const pb_schema_ScalarField *row, rk_type element)
{
    const uint8_t *values;
    size_t count;

    if (!rk__array_payload(row, element, &values, &count)) {
        count = 0;
    }
    rk_put_u32le(out, (uint32_t)count);
    out += COUNT_BYTES;
    if (count == 0) {
        return;
    }
    if (element == RK_VARCHAR) {
        write_strings(out, values, count);
    } else if (rk__array_width(element) == rk_type_bytes(element)) {
        memcpy(out, values, count * rk_type_bytes(element));
    } else {
        for (size_t i = 0; i < count; i++) { /* Int8 and Int16 travel as int32 */
            uint32_t v = rk_get_u32le(values + i * 4);
            if (element == RK_INT8) {
                out[i] = (uint8_t)v;
            } else {
                rk_put_u16le(out + i * 2, (uint16_t)v);
            }
        }
    }
}

static void *
copy_fixed(rk_str blob, size_t width, rk_arena *arena)
{
    size_t count = rk_array_count(blob);
    void *out = rk_arena_alloc(arena, count * width + 1);

    if (out && count > 0) {
        memcpy(out, blob.data + COUNT_BYTES, count * width);
    }
    return out;
}

static int32_t *
copy_narrow(rk_str blob, rk_type element, rk_arena *arena)
{
    uint32_t count = rk_array_count(blob);
    int32_t *out = rk_arena_alloc(arena, (size_t)count * 4 + 1);

    for (uint32_t i = 0; out && i < count; i++) {
        out[i] = (int32_t)rk_array_i64(blob, element, i);
    }
    return out;
}

static rk_str *
copy_strings(rk_str blob, rk_arena *arena)
{
    uint32_t count = rk_array_count(blob);
    rk_str *out = rk_arena_alloc(arena, (size_t)count * sizeof(*out) + 1);
    char *bytes = rk_arena_alloc(arena, blob.len + 1);
    size_t at = 0;

    for (uint32_t i = 0; out && bytes && i < count; i++) {
        rk_str s = rk_array_str(blob, i);
        if (s.len > 0) {
            memcpy(bytes + at, s.data, s.len);
        }
        out[i] = (rk_str){bytes + at, s.len};
        at += s.len;
    }
    return bytes ? out : NULL;
}

/* Room for the message and any of its members, in one piece. */
typedef struct array_room {
    pb_schema_ScalarField field;
    union {
        pb_schema_BoolArray bools;
        pb_schema_IntArray ints;
        pb_schema_LongArray longs;
        pb_schema_FloatArray floats;
        pb_schema_DoubleArray doubles;
        pb_schema_StringArray strings;
    };
} array_room;

pb_schema_ScalarField *
rk__array_message(rk_str blob, rk_type element, rk_arena *arena)
{
    array_room *room = RK_ARENA_NEW(arena, array_room);
    size_t count = rk_array_count(blob);
    void *values = NULL;

    if (!room) {
        return NULL;
    }
    pb_schema_ScalarField *f = &room->field;
    if (element == RK_BOOL) {
        values = copy_fixed(blob, 1, arena);
        f->data_case = PB_SCHEMA_ScalarField_bool_data;
        f->bool_data = &room->bools;
        room->bools.data = (pb_bools){values, count};
    } else if (element == RK_INT8 || element == RK_INT16 || element == RK_INT32) {
        values = copy_narrow(blob, element, arena);
        f->data_case = PB_SCHEMA_ScalarField_int_data;
        f->int_data = &room->ints;
        room->ints.data = (pb_i32s){values, count};
    } else if (element == RK_INT64) {
        values = copy_fixed(blob, 8, arena);
        f->data_case = PB_SCHEMA_ScalarField_long_data;
        f->long_data = &room->longs;
        room->longs.data = (pb_i64s){values, count};
    } else if (element == RK_FLOAT) {
        values = copy_fixed(blob, 4, arena);
        f->data_case = PB_SCHEMA_ScalarField_float_data;
        f->float_data = &room->floats;
        room->floats.data = (pb_fixed){values, count};
    } else if (element == RK_DOUBLE) {
        values = copy_fixed(blob, 8, arena);
        f->data_case = PB_SCHEMA_ScalarField_double_data;
        f->double_data = &room->doubles;
        room->doubles.data = (pb_fixed){values, count};
    } else {
        values = copy_strings(blob, arena);
        f->data_case = PB_SCHEMA_ScalarField_string_data;
        f->string_data = &room->strings;
        room->strings.data = (pb_strs){values, count};
    }
    return values ? f : NULL;
}

/* ---- primary keys ---- */

int
rk_pk_cmp(rk_pk a, rk_pk b)
{
    if (a.is_text != b.is_text) {
        return a.is_text ? 1 : -1;
    }
    if (a.is_text) {
        return rk_str_cmp(a.text, b.text);
    }
    return (a.number > b.number) - (a.number < b.number);
}

uint64_t
rk_pk_order_key(rk_pk pk)
{
    uint64_t key = 0;

    if (!pk.is_text) {
        return (uint64_t)pk.number ^ (UINT64_C(1) << 63);
    }
    for (size_t i = 0; i < 8; i++) {
        key = key << 8 | (i < pk.text.len ? (uint8_t)pk.text.data[i] : 0);
    }
    return key;
}

uint64_t
rk_pk_hash(rk_pk pk)
{
    return pk.is_text ? rk_hash64(pk.text.data, pk.text.len) : rk_hash_u64((uint64_t)pk.number);
}

uint32_t
rk_pk_shard(rk_pk pk, uint32_t shards)
{
    return shards > 1 ? (uint32_t)(rk_pk_hash(pk) % shards) : 0;
}

size_t
rk_ids_len(const pb_schema_IDs *ids)
{
    if (ids && ids->id_field_case == PB_SCHEMA_IDs_int_id) {
        return ids->int_id->data.n;
    }
    if (ids && ids->id_field_case == PB_SCHEMA_IDs_str_id) {
        return ids->str_id->data.n;
    }
    return 0;
}

rk_pk
rk_ids_at(const pb_schema_IDs *ids, size_t i)
{
    if (ids->id_field_case == PB_SCHEMA_IDs_int_id) {
        return (rk_pk){.is_text = false, .number = ids->int_id->data.data[i]};
    }
    return (rk_pk){.is_text = true, .text = ids->str_id->data.data[i]};
}
