/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to structs.
 *
 * One pass over the input, one C call per nested message, at most PB_DEPTH_MAX deep. Strings, bytes
 * and packed fixed-width numbers stay where they are; the struct points at them. Repeated members
 * are the only thing that grows: when an element turns up, the run of equal tags that follows is
 * counted first (a walk over lengths that touches no payload), so that the usual message, whose
 * elements stand together, gets its array in one allocation, and the structs of repeated messages
 * in one more. Elements in several runs make the array grow by doubling; its capacity stands in the
 * ARRAY_HEADER bytes before it.
 *
 * Differences from lenient decoders, on purpose: a known field with another wire type is refused
 * rather than skipped, and so is a varint of more than 64 bits. Text is not checked to be UTF-8.
 */
#include "pb/pb_private.h"

#define ARRAY_HEADER                                                                               \
    16 /* keeps the elements 16-byte aligned; the first 8 bytes hold the capacity */

typedef struct decoder {
    const uint8_t
        *base; /* the whole input, for offsets in messages and to tell views from copies */
    const uint8_t *end;
    rk_arena *arena;
    rk_err *err;
} decoder;

/* Where we are: |p| moves on through [p, end) of one message. */
typedef struct cursor {
    const uint8_t *p;
    const uint8_t *end;
    const pb_message_desc *desc;
    uint32_t depth; /* 1 for the outermost message */
} cursor;

static rk_code decode_message(decoder *d, const pb_message_desc *desc, char *message,
                              const uint8_t *p, const uint8_t *end, uint32_t depth);

/* ---- errors ---- */

static rk_code
malformed(const decoder *d, const cursor *c, const pb_field_desc *field, const char *what)
{
    return rk_fail(d->err, RK_EINVAL, "malformed protobuf: %s%s%s at byte %zu of %zu: %s",
                   c->desc->name, field ? "." : "", field ? c->desc->names + field->name : "",
                   (size_t)(c->p - d->base), (size_t)(d->end - d->base), what);
}

static rk_code
no_memory(const decoder *d, const pb_message_desc *desc)
{
    return rk_fail(d->err, RK_ENOMEM,
                   "decoding %s of %zu bytes: the request's memory is used up (%llu bytes taken)",
                   desc->name, (size_t)(d->end - d->base),
                   (unsigned long long)rk_arena_used(d->arena));
}

/* ---- primitives ---- */

/* A varint at *|at|; false when it is cut short or holds more than 64 bits. */
static bool
read_varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    const uint8_t *p = *at;
    uint64_t value = 0;

    if (RK_LIKELY(p < end && *p < 0x80)) {
        *out = *p;
        *at = p + 1;
        return true;
    }
    for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
        uint64_t byte = *p++;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (shift == 63 && byte > 1) {
                return false;
            }
            *out = value;
            *at = p;
            return true;
        }
    }
    return false;
}

static rk_code
read_length(decoder *d, cursor *c, const pb_field_desc *field, size_t *len)
{
    uint64_t value;

    if (!read_varint(&c->p, c->end, &value)) {
        return malformed(d, c, field, "the length is not a varint of at most 10 bytes");
    }
    if (value > (size_t)(c->end - c->p)) {
        return malformed(
            d, c, field,
            "the length reaches past the end of the message; it was cut short or is not protobuf");
    }
    *len = (size_t)value;
    return RK_OK;
}

static void
store_varint(void *at, uint8_t kind, uint64_t value)
{
    switch ((pb_kind)kind) {
    case PB_KIND_BOOL:
        *(bool *)at = value != 0;
        return;
    case PB_KIND_SINT32: {
        uint32_t low = (uint32_t)value;
        low = (low >> 1) ^ (0u - (low & 1u));
        memcpy(at, &low, sizeof(low));
        return;
    }
    case PB_KIND_INT32:
    case PB_KIND_UINT32: {
        uint32_t low = (uint32_t)value;
        memcpy(at, &low, sizeof(low));
        return;
    }
    case PB_KIND_SINT64:
        value = (value >> 1) ^ (UINT64_C(0) - (value & 1u));
        memcpy(at, &value, sizeof(value));
        return;
    case PB_KIND_INT64:
    case PB_KIND_UINT64:
        memcpy(at, &value, sizeof(value));
        return;
    case PB_KIND_FIXED32:
    case PB_KIND_FIXED64:
    case PB_KIND_STRING:
    case PB_KIND_MESSAGE:
        break;
    }
    RK_DCHECK(false); /* not a kind of varint */
}

static const pb_field_desc *
find_field(const pb_message_desc *desc, uint32_t number)
{
    if (RK_LIKELY(number - 1 < desc->dense)) {
        return &desc->fields[number - 1];
    }
    uint32_t low = desc->dense;
    uint32_t high = desc->fields_len;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (desc->fields[middle].number == number) {
            return &desc->fields[middle];
        }
        if (desc->fields[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* ---- unknown fields ---- */

/* Skips the value after a tag; for a group start everything up to its end. */
static rk_code
skip_value(decoder *d, cursor *c, uint32_t number, uint32_t wire)
{
    uint32_t open[PB_DEPTH_MAX];
    uint32_t open_len = 0;

    for (;;) {
        uint64_t value;
        size_t len = 0;
        switch (wire) {
        case PB_WIRE_VARINT:
            if (!read_varint(&c->p, c->end, &value)) {
                return malformed(d, c, NULL,
                                 "an unknown field's varint is cut short or longer than 10 bytes");
            }
            break;
        case PB_WIRE_FIXED64:
        case PB_WIRE_FIXED32:
            len = wire == PB_WIRE_FIXED64 ? 8 : 4;
            if ((size_t)(c->end - c->p) < len) {
                return malformed(d, c, NULL, "an unknown field of fixed width is cut short");
            }
            c->p += len;
            break;
        case PB_WIRE_BYTES:
            RK_RET(read_length(d, c, NULL, &len));
            c->p += len;
            break;
        case PB_WIRE_GROUP:
            if (c->depth + open_len >= PB_DEPTH_MAX) {
                return malformed(d, c, NULL, "groups are nested deeper than 64 levels");
            }
            open[open_len++] = number;
            break;
        case PB_WIRE_GROUP_END:
            if (open_len == 0 || open[open_len - 1] != number) {
                return malformed(d, c, NULL, "the end of a group that was not begun");
            }
            open_len--;
            break;
        default:
            return malformed(d, c, NULL, "wire types 6 and 7 do not exist");
        }
        if (open_len == 0) {
            return RK_OK;
        }
        if (!read_varint(&c->p, c->end, &value) || value > UINT32_MAX || value < 8) {
            return malformed(d, c, NULL, "a group is not ended, or a tag in it is malformed");
        }
        number = (uint32_t)value >> 3;
        wire = (uint32_t)value & 7;
    }
}

/* ---- singular members ---- */

static rk_code
decode_sub(decoder *d, const cursor *c, const pb_field_desc *field, char *sub, const uint8_t *p,
           size_t len)
{
    if (c->depth >= PB_DEPTH_MAX) {
        return malformed(d, c, field, "messages are nested deeper than 64 levels");
    }
    return decode_message(d, pb__sub(c->desc, field), sub, p, p + len, c->depth + 1);
}

static rk_code
decode_single_message(decoder *d, cursor *c, const pb_field_desc *field, char *slot, bool fresh)
{
    size_t len;

    RK_RET(read_length(d, c, field, &len));
    char *sub = fresh ? NULL : pb__ptr_get(slot);
    if (!sub) {
        sub = rk_arena_zero(d->arena, 1, pb__sub(c->desc, field)->size_bytes);
        if (!sub) {
            return no_memory(d, c->desc);
        }
        pb__ptr_set(slot, sub);
    }
    const uint8_t *at = c->p;
    c->p += len;
    return decode_sub(d, c, field, sub, at, len);
}

/* A value that occurs twice: the later one counts, messages are merged. */
static rk_code
decode_single(decoder *d, cursor *c, const pb_field_desc *field, char *message)
{
    char *slot = message + field->offset;
    bool fresh = false;
    uint64_t value;
    size_t len;

    if (field->mode == PB_MODE_ONEOF) {
        uint32_t number = field->number;
        fresh = pb__case_get(message, field) != number;
        memcpy(message + field->presence, &number, sizeof(number));
    } else if (field->mode == PB_MODE_OPTIONAL) {
        *(bool *)(message + field->presence) = true;
    }
    switch ((pb_kind)field->kind) {
    case PB_KIND_MESSAGE:
        return decode_single_message(d, c, field, slot, fresh);
    case PB_KIND_STRING: {
        RK_RET(read_length(d, c, field, &len));
        rk_str text = {(const char *)c->p, len};
        memcpy(slot, &text, sizeof(text));
        c->p += len;
        return RK_OK;
    }
    case PB_KIND_FIXED32:
    case PB_KIND_FIXED64:
        len = pb__scalar_size(field->kind);
        if ((size_t)(c->end - c->p) < len) {
            return malformed(d, c, field, "a number of fixed width is cut short");
        }
        memcpy(slot, c->p, len);
        c->p += len;
        return RK_OK;
    case PB_KIND_BOOL:
    case PB_KIND_INT32:
    case PB_KIND_INT64:
    case PB_KIND_UINT32:
    case PB_KIND_UINT64:
    case PB_KIND_SINT32:
    case PB_KIND_SINT64:
        break;
    }
    if (!read_varint(&c->p, c->end, &value)) {
        return malformed(d, c, field, "the number is not a varint of at most 10 bytes");
    }
    store_varint(slot, field->kind, value);
    return RK_OK;
}

/* ---- repeated members ---- */

/* Room for |more| elements after those in |slot|; NULL when memory is out. The count in |slot| is
 * not changed. */
static char *
grow(decoder *d, char *slot, size_t element, size_t more)
{
    pb_array array = pb__array_get(slot);
    char *old = (char *)array.data;
    uintptr_t at = (uintptr_t)old;
    size_t capacity = 0, need, size;

    bool view = at >= (uintptr_t)d->base && at < (uintptr_t)d->end;
    if (old && !view) {
        memcpy(&capacity, old - ARRAY_HEADER, sizeof(capacity));
    }
    if (!rk_add_ok(&need, array.n, more)) {
        return NULL;
    }
    if (need > capacity) {
        capacity = RK_MAX(need, capacity * 2);
        if (!rk_mul_ok(&size, capacity, element) || !rk_add_ok(&size, size, ARRAY_HEADER)) {
            return NULL;
        }
        char *block = rk_arena_alloc(d->arena, size);
        if (!block) {
            return NULL;
        }
        memcpy(block, &capacity, sizeof(capacity));
        if (array.n > 0) {
            memcpy(block + ARRAY_HEADER, old, array.n * element);
        }
        old = block + ARRAY_HEADER;
        pb__array_set(slot, old, array.n);
    }
    return old + array.n * element;
}

/*
 * How many records of the same tag stand together from the value at c->p on, at least 1. |tag| is
 * the encoded tag. Stops at what it cannot read: the pass that decodes reports it.
 */
static size_t
count_run(const cursor *c, const uint8_t *tag, size_t tag_len, uint32_t wire)
{
    const uint8_t *p = c->p;
    size_t run = 0;
    uint64_t value;

    do {
        run++;
        if (wire == PB_WIRE_FIXED32 || wire == PB_WIRE_FIXED64) {
            value = wire == PB_WIRE_FIXED32 ? 4 : 8;
        } else if (!read_varint(&p, c->end, &value)) {
            return run;
        } else if (wire == PB_WIRE_VARINT) {
            value = 0;
        }
        if (value > (size_t)(c->end - p)) {
            return run;
        }
        p += value;
        if ((size_t)(c->end - p) <= tag_len || memcmp(p, tag, tag_len) != 0) {
            return run;
        }
        p += tag_len;
    } while (true);
}

static rk_code
decode_strings(decoder *d, cursor *c, const pb_field_desc *field, char *slot, size_t tag_len,
               size_t run)
{
    char *out = grow(d, slot, sizeof(rk_str), run);
    size_t n = pb__array_get(slot).n;

    if (!out) {
        return no_memory(d, c->desc);
    }
    for (size_t i = 0; i < run; i++) {
        size_t len;
        c->p += i > 0 ? tag_len : 0;
        RK_RET(read_length(d, c, field, &len));
        rk_str text = {(const char *)c->p, len};
        memcpy(out + i * sizeof(text), &text, sizeof(text));
        c->p += len;
    }
    pb__array_set(slot, out - n * sizeof(rk_str), n + run);
    return RK_OK;
}

static rk_code
decode_messages(decoder *d, cursor *c, const pb_field_desc *field, char *slot, size_t tag_len,
                size_t run)
{
    size_t size = pb__sub(c->desc, field)->size_bytes;
    char *out = grow(d, slot, sizeof(void *), run);
    char *subs = out ? rk_arena_zero(d->arena, run, size) : NULL;
    size_t n = pb__array_get(slot).n;

    if (!subs) {
        return no_memory(d, c->desc);
    }
    for (size_t i = 0; i < run; i++) {
        size_t len;
        c->p += i > 0 ? tag_len : 0;
        RK_RET(read_length(d, c, field, &len));
        RK_RET(decode_sub(d, c, field, subs + i * size, c->p, len));
        pb__ptr_set(out + i * sizeof(void *), subs + i * size);
        c->p += len;
    }
    pb__array_set(slot, out - n * sizeof(void *), n + run);
    return RK_OK;
}

/* Numbers one record each. */
static rk_code
decode_unpacked(decoder *d, cursor *c, const pb_field_desc *field, char *slot, size_t tag_len,
                size_t run)
{
    size_t size = pb__scalar_size(field->kind);
    char *out = grow(d, slot, size, run);
    size_t n = pb__array_get(slot).n;

    if (!out) {
        return no_memory(d, c->desc);
    }
    for (size_t i = 0; i < run; i++) {
        uint64_t value;
        c->p += i > 0 ? tag_len : 0;
        if (pb__is_fixed(field->kind)) {
            if ((size_t)(c->end - c->p) < size) {
                return malformed(d, c, field, "a number of fixed width is cut short");
            }
            memcpy(out + i * size, c->p, size);
            c->p += size;
        } else if (read_varint(&c->p, c->end, &value)) {
            store_varint(out + i * size, field->kind, value);
        } else {
            return malformed(d, c, field, "the number is not a varint of at most 10 bytes");
        }
    }
    pb__array_set(slot, out - n * size, n + run);
    return RK_OK;
}

/* Packed floats and the like: the first piece is a view, further ones make a copy. */
static rk_code
decode_packed_fixed(decoder *d, cursor *c, const pb_field_desc *field, char *slot, size_t len)
{
    size_t size = pb__scalar_size(field->kind);
    size_t n = pb__array_get(slot).n;

    if (len % size != 0) {
        return malformed(d, c, field,
                         "the length of the packed numbers is not a multiple of their width");
    }
    if (n == 0) {
        pb_fixed view = {c->p, len / size};
        memcpy(slot, &view, sizeof(view));
    } else {
        char *out = grow(d, slot, size, len / size);
        if (!out) {
            return no_memory(d, c->desc);
        }
        memcpy(out, c->p, len);
        pb__array_set(slot, out - n * size, n + len / size);
    }
    c->p += len;
    return RK_OK;
}

static size_t
count_varints(const uint8_t *p, size_t len)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        count += p[i] < 0x80;
    }
    return count;
}

static rk_code
decode_packed(decoder *d, cursor *c, const pb_field_desc *field, char *slot)
{
    size_t len;

    RK_RET(read_length(d, c, field, &len));
    if (len == 0) {
        return RK_OK;
    }
    if (pb__is_fixed(field->kind)) {
        return decode_packed_fixed(d, c, field, slot, len);
    }
    const uint8_t *end = c->p + len;
    size_t size = pb__scalar_size(field->kind);
    size_t count = count_varints(c->p, len);
    char *out = count > 0 ? grow(d, slot, size, count) : NULL;
    size_t n = pb__array_get(slot).n;
    if (count == 0) {
        return malformed(d, c, field, "the last packed number is cut short");
    }
    if (!out) {
        return no_memory(d, c->desc);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        if (!read_varint(&c->p, end, &value)) {
            return malformed(d, c, field, "a packed number is not a varint of at most 10 bytes");
        }
        store_varint(out + i * size, field->kind, value);
    }
    if (c->p != end) {
        return malformed(d, c, field, "the last packed number is cut short");
    }
    pb__array_set(slot, out - n * size, n + count);
    return RK_OK;
}

static rk_code
decode_repeated(decoder *d, cursor *c, const pb_field_desc *field, char *slot, const uint8_t *tag,
                uint32_t wire)
{
    size_t tag_len = (size_t)(c->p - tag);

    if (wire != pb__wire(field->kind)) {
        return decode_packed(d, c, field, slot); /* the caller has checked that it may be packed */
    }
    size_t run = count_run(c, tag, tag_len, wire);
    if (field->kind == PB_KIND_STRING) {
        return decode_strings(d, c, field, slot, tag_len, run);
    }
    if (field->kind == PB_KIND_MESSAGE) {
        return decode_messages(d, c, field, slot, tag_len, run);
    }
    return decode_unpacked(d, c, field, slot, tag_len, run);
}

/* ---- messages ---- */

static rk_code
decode_message(decoder *d, const pb_message_desc *desc, char *message, const uint8_t *p,
               const uint8_t *end, uint32_t depth)
{
    cursor c = {p, end, desc, depth};

    while (c.p < end) {
        const uint8_t *tag = c.p;
        uint64_t value;
        if (!read_varint(&c.p, end, &value) || value > UINT32_MAX || value < 8) {
            return malformed(
                d, &c, NULL,
                "expected a tag: a varint of at most 32 bits with a field number from 1 on");
        }
        uint32_t wire = (uint32_t)value & 7;
        const pb_field_desc *field = find_field(desc, (uint32_t)value >> 3);
        if (!field) {
            RK_RET(skip_value(d, &c, (uint32_t)value >> 3, wire));
            continue;
        }
        bool repeated = field->mode >= PB_MODE_REPEATED;
        if (wire != pb__wire(field->kind) && !(repeated && wire == PB_WIRE_BYTES)) {
            return malformed(d, &c, field, "the wire type is not that of the field");
        }
        if (repeated) {
            RK_RET(decode_repeated(d, &c, field, message + field->offset, tag, wire));
        } else {
            RK_RET(decode_single(d, &c, field, message));
        }
    }
    if (desc->maps > 0 && pb__maps_finish(desc, message, d->arena) != RK_OK) {
        return no_memory(d, desc);
    }
    return RK_OK;
}

rk_code
pb_decode(const pb_message_desc *desc, void **out, rk_str bytes, rk_arena *arena, rk_err *err)
{
    static const uint8_t nothing[1];
    const uint8_t *base = bytes.data ? (const uint8_t *)bytes.data : nothing;
    decoder d = {base, base + (bytes.data ? bytes.len : 0), arena, err};
    char *message = rk_arena_zero(arena, 1, desc->size_bytes);

    *out = NULL;
    if (!message) {
        return no_memory(&d, desc);
    }
    RK_RET(decode_message(&d, desc, message, d.base, d.end, 1));
    *out = message;
    return RK_OK;
}
