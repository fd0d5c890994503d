/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and sizes of message types, and what more than one direction of the codec needs.
 *
 * The work is in pb_decode.c (bytes to structs), pb_map.c (duplicate map keys), pb_encode.c
 * (structs to bytes) and pb_copy.c; the tables they walk are laid out in pb_tables.h.
 */
#include "pb/pb.h"

#include "pb/pb_private.h"

const char *
pb_name(const pb_message_desc *desc)
{
    return desc->name;
}

size_t
pb_sizeof(const pb_message_desc *desc)
{
    return desc->size_bytes;
}

/* A float of minus zero is not absent: only all-zero bits are. */
static bool
nonzero(const char *at, uint8_t kind)
{
    static const char zeros[16];
    rk_str text;

    if (kind == PB_KIND_STRING) {
        memcpy(&text, at, sizeof(text));
        return text.len > 0;
    }
    return memcmp(at, zeros, pb__scalar_size(kind)) != 0;
}

bool
pb__present(const void *message, const pb_field_desc *field)
{
    const char *base = message;

    switch ((pb_mode)field->mode) {
    case PB_MODE_SINGULAR:
        return nonzero(base + field->offset, field->kind);
    case PB_MODE_OPTIONAL:
        return base[field->presence] != 0;
    case PB_MODE_ONEOF:
        return pb__case_get(message, field) == field->number;
    case PB_MODE_REPEATED:
    case PB_MODE_MAP:
        break;
    }
    return pb__array_get(base + field->offset).n > 0;
}
