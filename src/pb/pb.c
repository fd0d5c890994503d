/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and sizes of message types.
 *
 * The work is in pb_decode.c (bytes to structs), pb_encode.c (structs to bytes) and pb_copy.c; the tables they walk are
 * laid out in pb_tables.h.
 */
#include "pb/pb.h"

#include "pb/pb_tables.h"

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
