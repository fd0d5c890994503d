/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs to bytes, in two passes over the same members in the same order.
 *
 * A nested message and a packed list of varints are preceded by their length. The first pass adds
 * the lengths up and notes each in |sizes|, in the order it meets them; the second writes and takes
 * the lengths from there. So every size is computed once however deep the nesting, and the output
 * is reserved once and never moved.
 */
#include "pb/pb_private.h"

#define SIZES_ON_STACK 256

typedef struct encoder {
    size_t *sizes; /* lengths in order; |local| or heap */
    size_t sizes_len;
    size_t sizes_cap;
    bool record; /* false: only the total is wanted */
    rk_code code;
    size_t local[SIZES_ON_STACK];
} encoder;

static size_t size_message(encoder *e, const pb_message_desc *desc, const char *message,
                           uint32_t depth);
static uint8_t *write_message(encoder *e, const pb_message_desc *desc, const char *message,
                              uint8_t *p);

static void
encoder_init(encoder *e, bool record)
{
    e->sizes = e->local;
    e->sizes_len = 0;
    e->sizes_cap = SIZES_ON_STACK;
    e->record = record;
    e->code = RK_OK;
}

static void
encoder_deinit(encoder *e)
{
    if (e->sizes != e->local) {
        rk_free(e->sizes);
    }
}

/* Keeps a place for one length; its index. */
static size_t
sizes_push(encoder *e)
{
    if (!e->record || e->code != RK_OK) {
        return 0;
    }
    if (e->sizes_len == e->sizes_cap) {
        size_t size;
        size_t *more = NULL;
        if (rk_mul_ok(&size, e->sizes_cap, 2 * sizeof(*more))) {
            more = e->sizes == e->local ? rk_alloc(size) : rk_realloc(e->sizes, size);
        }
        if (!more) {
            e->code = RK_ENOMEM;
            return 0;
        }
        if (e->sizes == e->local) {
            memcpy(more, e->local, sizeof(e->local));
        }
        e->sizes = more;
        e->sizes_cap *= 2;
    }
    return e->sizes_len++;
}

/* ---- values ---- */

static size_t
varint_size(uint64_t value)
{
    unsigned bits = 63u - (unsigned)__builtin_clzll(value | 1u);
    return (bits * 9 + 73) / 64;
}

static uint8_t *
write_varint(uint8_t *p, uint64_t value)
{
    while (value >= 0x80) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

/* What the varint of a member holds. */
static uint64_t
load_varint(const char *at, uint8_t kind)
{
    uint32_t low;
    int32_t small;
    uint64_t value;

    switch ((pb_kind)kind) {
    case PB_KIND_BOOL:
        return *at != 0;
    case PB_KIND_INT32:
        memcpy(&small, at, sizeof(small));
        return (uint64_t)(int64_t)small;
    case PB_KIND_UINT32:
        memcpy(&low, at, sizeof(low));
        return low;
    case PB_KIND_SINT32:
        memcpy(&low, at, sizeof(low));
        return (low << 1) ^ (0u - (low >> 31));
    case PB_KIND_SINT64:
        memcpy(&value, at, sizeof(value));
        return (value << 1) ^ (UINT64_C(0) - (value >> 63));
    case PB_KIND_INT64:
    case PB_KIND_UINT64:
    case PB_KIND_FIXED32:
    case PB_KIND_FIXED64:
    case PB_KIND_STRING:
    case PB_KIND_MESSAGE:
        break;
    }
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint8_t *
write_bytes(uint8_t *p, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p + len;
}

static rk_str
load_str(const char *at)
{
    rk_str text;
    memcpy(&text, at, sizeof(text));
    return text;
}

/* ---- first pass: sizes ---- */

/* A nested message with its length. NULL stands for an empty one. */
static size_t
size_sub(encoder *e, const pb_message_desc *desc, const char *message, uint32_t depth)
{
    size_t index = sizes_push(e);
    size_t size = 0;

    if (message) {
        if (depth >= PB_DEPTH_MAX) {
            e->code = RK_EINVAL;
            return 0;
        }
        size = size_message(e, desc, message, depth + 1);
    }
    if (e->record && e->code == RK_OK) {
        e->sizes[index] = size;
    }
    return size + varint_size(size);
}

/* One value without its tag. */
static size_t
size_value(encoder *e, const pb_message_desc *desc, const pb_field_desc *field, const char *at,
           uint32_t depth)
{
    switch ((pb_kind)field->kind) {
    case PB_KIND_MESSAGE:
        return size_sub(e, pb__sub(desc, field), pb__ptr_get(at), depth);
    case PB_KIND_STRING: {
        size_t len = load_str(at).len;
        return len + varint_size(len);
    }
    case PB_KIND_FIXED32:
        return 4;
    case PB_KIND_FIXED64:
        return 8;
    case PB_KIND_BOOL:
        return 1;
    case PB_KIND_INT32:
    case PB_KIND_INT64:
    case PB_KIND_UINT32:
    case PB_KIND_UINT64:
    case PB_KIND_SINT32:
    case PB_KIND_SINT64:
        break;
    }
    return varint_size(load_varint(at, field->kind));
}

static size_t
size_repeated(encoder *e, const pb_message_desc *desc, const pb_field_desc *field, const char *slot,
              uint32_t depth)
{
    pb_array array = pb__array_get(slot);
    const char *data = (const char *)array.data;
    size_t element = pb__scalar_size(field->kind);
    size_t tag = varint_size((uint64_t)field->number << 3);
    size_t size = 0;

    if (array.n == 0) {
        return 0;
    }
    if (field->kind == PB_KIND_MESSAGE || field->kind == PB_KIND_STRING) {
        for (size_t i = 0; i < array.n && e->code == RK_OK; i++) {
            size += tag + size_value(e, desc, field, data + i * element, depth);
        }
        return size;
    }
    if (pb__is_fixed(field->kind) || field->kind == PB_KIND_BOOL) {
        size = array.n * element;
    } else {
        for (size_t i = 0; i < array.n; i++) {
            size += varint_size(load_varint(data + i * element, field->kind));
        }
    }
    size_t index = sizes_push(e);
    if (e->record && e->code == RK_OK) {
        e->sizes[index] = size;
    }
    return tag + varint_size(size) + size;
}

/* Both members of a map entry are written even when they are zero, so that no reader has to know
 * defaults. */
static bool
is_written(const pb_message_desc *desc, const char *message, const pb_field_desc *field)
{
    return desc->entry || pb__present(message, field);
}

static size_t
size_message(encoder *e, const pb_message_desc *desc, const char *message, uint32_t depth)
{
    size_t size = 0;

    for (uint32_t i = 0; i < desc->fields_len && e->code == RK_OK; i++) {
        const pb_field_desc *field = &desc->fields[i];
        const char *at = message + field->offset;
        if (field->mode >= PB_MODE_REPEATED) {
            size += size_repeated(e, desc, field, at, depth);
        } else if (is_written(desc, message, field)) {
            size +=
                varint_size((uint64_t)field->number << 3) + size_value(e, desc, field, at, depth);
        }
    }
    return size;
}

/* ---- second pass: bytes ---- */

/* One value without its tag. */
static uint8_t *
write_value(encoder *e, const pb_message_desc *desc, const pb_field_desc *field, const char *at,
            uint8_t *p)
{
    switch ((pb_kind)field->kind) {
    case PB_KIND_MESSAGE: {
        const char *sub = pb__ptr_get(at);
        p = write_varint(p, e->sizes[e->sizes_len++]);
        return sub ? write_message(e, pb__sub(desc, field), sub, p) : p;
    }
    case PB_KIND_STRING: {
        rk_str text = load_str(at);
        p = write_varint(p, text.len);
        return write_bytes(p, text.data, text.len);
    }
    case PB_KIND_FIXED32:
        return write_bytes(p, at, 4);
    case PB_KIND_FIXED64:
        return write_bytes(p, at, 8);
    case PB_KIND_BOOL:
    case PB_KIND_INT32:
    case PB_KIND_INT64:
    case PB_KIND_UINT32:
    case PB_KIND_UINT64:
    case PB_KIND_SINT32:
    case PB_KIND_SINT64:
        break;
    }
    return write_varint(p, load_varint(at, field->kind));
}

static uint8_t *
write_repeated(encoder *e, const pb_message_desc *desc, const pb_field_desc *field,
               const char *slot, uint8_t *p)
{
    pb_array array = pb__array_get(slot);
    const char *data = (const char *)array.data;
    size_t element = pb__scalar_size(field->kind);
    uint64_t tag = (uint64_t)field->number << 3 | PB_WIRE_BYTES;

    if (array.n == 0) {
        return p;
    }
    if (field->kind == PB_KIND_MESSAGE || field->kind == PB_KIND_STRING) {
        for (size_t i = 0; i < array.n; i++) {
            p = write_varint(p, tag);
            p = write_value(e, desc, field, data + i * element, p);
        }
        return p;
    }
    p = write_varint(p, tag);
    p = write_varint(p, e->sizes[e->sizes_len++]);
    if (pb__is_fixed(field->kind)) {
        return write_bytes(p, data, array.n * element);
    }
    for (size_t i = 0; i < array.n; i++) {
        p = write_varint(p, load_varint(data + i * element, field->kind));
    }
    return p;
}

static uint8_t *
write_message(encoder *e, const pb_message_desc *desc, const char *message, uint8_t *p)
{
    for (uint32_t i = 0; i < desc->fields_len; i++) {
        const pb_field_desc *field = &desc->fields[i];
        const char *at = message + field->offset;
        if (field->mode >= PB_MODE_REPEATED) {
            p = write_repeated(e, desc, field, at, p);
        } else if (is_written(desc, message, field)) {
            p = write_varint(p, (uint64_t)field->number << 3 | pb__wire(field->kind));
            p = write_value(e, desc, field, at, p);
        }
    }
    return p;
}

/* ---- entry points ---- */

size_t
pb_encoded_size(const pb_message_desc *desc, const void *message)
{
    encoder e;

    encoder_init(&e, false);
    size_t size = size_message(&e, desc, message, 1);
    encoder_deinit(&e);
    return e.code == RK_OK ? size : 0;
}

/* The second pass takes the lengths from the front again. */
static void
write_all(encoder *e, const pb_message_desc *desc, const void *message, uint8_t *p, size_t size)
{
    size_t recorded = e->sizes_len;

    e->sizes_len = 0;
    uint8_t *end = write_message(e, desc, message, p);
    RK_ASSERT(end == p + size && e->sizes_len == recorded);
}

rk_code
pb_encode(const pb_message_desc *desc, const void *message, rk_buf *out)
{
    encoder e;

    encoder_init(&e, true);
    size_t size = size_message(&e, desc, message, 1);
    if (e.code == RK_OK && size > 0) {
        if (rk_buf_reserve(out, size)) {
            write_all(&e, desc, message, out->data + out->len, size);
            out->len += size;
        } else {
            e.code = RK_ENOMEM;
        }
    }
    encoder_deinit(&e);
    return e.code;
}

rk_code
pb_encode_arena(const pb_message_desc *desc, const void *message, rk_str *out, rk_arena *arena)
{
    encoder e;

    *out = (rk_str){"", 0};
    encoder_init(&e, true);
    size_t size = size_message(&e, desc, message, 1);
    if (e.code == RK_OK && size > 0) {
        uint8_t *data = rk_arena_alloc(arena, size);
        if (data) {
            write_all(&e, desc, message, data, size);
            *out = (rk_str){(const char *)data, size};
        } else {
            e.code = RK_ENOMEM;
        }
    }
    encoder_deinit(&e);
    return e.code;
}
