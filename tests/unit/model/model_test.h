/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of the model test: a schema with every type, and rows for each of its fields.
 */
#ifndef RK_MODEL_TEST_H
#define RK_MODEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>

#include "model/column.h"

typedef struct mt_field_spec {
    int64_t id;
    const char *name;
    rk_type type;
    rk_type element;
    bool nullable;
    const char *key; /* a type parameter */
    const char *value;
    const char *key2;
    const char *value2;
} mt_field_spec;

pb_schema_CollectionSchema *mt_schema_pb(rk_arena *arena, const mt_field_spec *specs, size_t n);
rk_schema *mt_schema(bool nullable); /* id pk and one field of every type, at positions 1.. */
/* |rows| rows of |field|; row i is null when |nulls| has bit i % 64. Compact leaves null values
 * out. */
pb_schema_FieldData *mt_data(const rk_field *field, size_t rows, uint64_t nulls, bool compact,
                             uint32_t seed, rk_arena *arena);
/* Aborts unless row |a_row| of |a| equals row |b_row| of |b| (both of |field|). */
void mt_assert_row(const rk_field *field, const pb_schema_FieldData *a, size_t a_row,
                   const pb_schema_FieldData *b, size_t b_row);

int mt_check_tests(void);

#endif
