/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the decoder, the encoder and the copier share: reading and writing members of a C struct by
 * offset.
 *
 * A member is reached as |message| + offset. Pointers and arrays are moved with memcpy() rather
 * than through a cast, since the struct declares them with their own types (pb_x_Foo *, pb_strs)
 * and the codec knows them only as void * and pb_messages.
 */
#ifndef RK_PB_PB_PRIVATE_H
#define RK_PB_PB_PRIVATE_H

#include "pb/pb_tables.h"

/* Wire types of the format. */
enum {
    PB_WIRE_VARINT = 0,
    PB_WIRE_FIXED64 = 1,
    PB_WIRE_BYTES = 2,
    PB_WIRE_GROUP = 3,
    PB_WIRE_GROUP_END = 4,
    PB_WIRE_FIXED32 = 5
};

/* The common shape of every repeated member: {pointer, count}. pb_fixed has it too. */
typedef pb_messages pb_array;

_Static_assert(sizeof(pb_strs) == sizeof(pb_array) && sizeof(pb_fixed) == sizeof(pb_array) &&
                   offsetof(pb_fixed, n) == offsetof(pb_array, n),
               "repeated members share one shape");

static inline pb_array
pb__array_get(const void *slot)
{
    pb_array array;
    memcpy(&array, slot, sizeof(array));
    return array;
}

static inline void
pb__array_set(void *slot, void *data, size_t n)
{
    pb_array array = {data, n};
    memcpy(slot, &array, sizeof(array));
}

static inline void *
pb__ptr_get(const void *slot)
{
    void *ptr;
    memcpy(&ptr, slot, sizeof(ptr));
    return ptr;
}

static inline void
pb__ptr_set(void *slot, const void *ptr)
{
    memcpy(slot, &ptr, sizeof(ptr));
}

static inline uint32_t
pb__case_get(const void *message, const pb_field_desc *field)
{
    uint32_t value;
    memcpy(&value, (const char *)message + field->presence, sizeof(value));
    return value;
}

static inline const pb_message_desc *
pb__sub(const pb_message_desc *desc, const pb_field_desc *field)
{
    return desc->subs[field->sub];
}

/* Size of one element of a repeated scalar in C. */
static inline size_t
pb__scalar_size(uint8_t kind)
{
    static const uint8_t sizes[] = {
        [PB_KIND_BOOL] = sizeof(bool),
        [PB_KIND_INT32] = 4,
        [PB_KIND_INT64] = 8,
        [PB_KIND_UINT32] = 4,
        [PB_KIND_UINT64] = 8,
        [PB_KIND_SINT32] = 4,
        [PB_KIND_SINT64] = 8,
        [PB_KIND_FIXED32] = 4,
        [PB_KIND_FIXED64] = 8,
        [PB_KIND_STRING] = sizeof(rk_str),
        [PB_KIND_MESSAGE] = sizeof(void *),
    };
    return sizes[kind];
}

/* Wire type of one element that is not packed. */
static inline uint32_t
pb__wire(uint8_t kind)
{
    static const uint8_t wires[] = {
        [PB_KIND_BOOL] = PB_WIRE_VARINT,     [PB_KIND_INT32] = PB_WIRE_VARINT,
        [PB_KIND_INT64] = PB_WIRE_VARINT,    [PB_KIND_UINT32] = PB_WIRE_VARINT,
        [PB_KIND_UINT64] = PB_WIRE_VARINT,   [PB_KIND_SINT32] = PB_WIRE_VARINT,
        [PB_KIND_SINT64] = PB_WIRE_VARINT,   [PB_KIND_FIXED32] = PB_WIRE_FIXED32,
        [PB_KIND_FIXED64] = PB_WIRE_FIXED64, [PB_KIND_STRING] = PB_WIRE_BYTES,
        [PB_KIND_MESSAGE] = PB_WIRE_BYTES,
    };
    return wires[kind];
}

static inline bool
pb__is_fixed(uint8_t kind)
{
    return kind == PB_KIND_FIXED32 || kind == PB_KIND_FIXED64;
}

/* True when the member holds something to encode or copy; not for repeated members. */
bool pb__present(const void *message, const pb_field_desc *field);

/* Drops earlier entries of equal key from every map of |message| and gives entries without a value
 * an empty one. */
RK_MUST_CHECK rk_code pb__maps_finish(const pb_message_desc *desc, void *message, rk_arena *arena);

#endif
