/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: one view of FieldData for every type.
 *
 * On the wire a field is one of a dozen array messages; here it is |count| values of |width| bytes
 * each, in the form the message holds them: bool, int32_t (Int8..Int32), int64_t, float, double,
 * rk_str (VarChar, JSON, sparse rows), pointer to ScalarField (arrays), or the bytes of a dense
 * vector. Null rows may or may not have a value in the payload: |compact| says that they have none.
 */
#ifndef RK_MODEL_PRIVATE_H
#define RK_MODEL_PRIVATE_H

#include "model/column.h"

typedef struct rk__wire {
    const uint8_t *values; /* NULL when count is 0; float and vector values are not aligned */
    size_t width;          /* bytes of one value */
    size_t count;          /* values in the payload */
    const bool *valid;     /* one per row; NULL: no row is null */
    size_t rows;
    bool compact; /* the payload skips null rows */
} rk__wire;

/* False when the union member does not fit the field, or the numbers of values and validity flags
 * do not fit each other. */
bool rk__wire_of(rk__wire *out, const pb_schema_FieldData *data, const rk_field *field);
/* The payload alone; |*count| may be fractional for vectors (then false and |*count| is the number
 * of bytes). */
bool rk__wire_payload(rk__wire *out, const pb_schema_FieldData *data, const rk_field *field);
size_t rk__wire_width(const rk_field *field);

/* The values of one array row: |count| elements in wire form. False when the member does not fit
 * the element type. */
bool rk__array_payload(const pb_schema_ScalarField *row, rk_type element, const uint8_t **values,
                       size_t *count);
size_t rk__array_width(rk_type element); /* of one element in wire form */
/* Bytes of the blob of |row|, and the blob itself (see column.h). The row fits its element type. */
size_t rk__array_blob_size(const pb_schema_ScalarField *row, rk_type element);
void rk__array_blob_write(uint8_t *out, const pb_schema_ScalarField *row, rk_type element);
/* A blob as a message. NULL: out of memory. Strings are copied when |copy|. */
pb_schema_ScalarField *rk__array_message(rk_str blob, rk_type element, rk_arena *arena);

#endif
