/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the rows of a sealed segment went when it was rewritten.
 *
 * Both segments are in the order of key and time, so one pass over both finds them, and nothing has
 * to be kept from the writing. A row is the same when key, time and the bytes of its vector are:
 * whoever uses the map can rely on the bytes, whatever else happened to the files. Of rows that
 * share key and time a few are tried; one that is not found counts as deleted, which costs its user
 * some work and nothing else.
 *
 * Pure over the mapped columns; any thread.
 */
#include "segment/segment_private.h"

#define TRIES_MAX 8u

/* By key, then time. */
static int
compare_rows(const rk_segment *a, size_t i, const rk_segment *b, size_t j)
{
    int order = rk_pk_cmp(rk_segment_pk(a, i), rk_segment_pk(b, j));
    uint64_t x = rk_segment_row_ts(a, i);
    uint64_t y = rk_segment_row_ts(b, j);

    return order != 0 ? order : x < y ? -1 : x > y;
}

rk_code
rk__row_map(const rk_segment *from, size_t position, const rk_segment *to, size_t to_position,
            uint32_t *out, rk_err *err)
{
    size_t width = rk_field_row_bytes(&to->schema->fields[to_position]);
    rk_column a;
    rk_column b;
    size_t at = 0;   /* the first row of |to| that is not before row i of |from| */
    size_t used = 0; /* rows of |to| up to here were found for earlier ones */

    RK_RET(rk__sealed_column_get(from, position, &a, err));
    RK_RET(rk__sealed_column_get(to, to_position, &b, err));
    if (width == 0 || rk_field_row_bytes(&from->schema->fields[position]) != width) {
        return rk_fail(err, RK_EINTERNAL, "segments %lld and %lld differ in field %.*s",
                       (long long)from->ids.id, (long long)to->ids.id,
                       RK_STR_ARG(to->schema->fields[to_position].name));
    }
    for (size_t i = 0; i < a.rows; i++) {
        const uint8_t *row = (const uint8_t *)a.data + i * width;
        out[i] = RK_NO_ROW;
        while (at < b.rows && compare_rows(to, at, from, i) < 0) {
            at++;
        }
        for (size_t j = RK_MAX(at, used), tries = 0;
             tries < TRIES_MAX && j < b.rows && compare_rows(to, j, from, i) == 0; j++, tries++) {
            if (memcmp((const uint8_t *)b.data + j * width, row, width) == 0) {
                out[i] = (uint32_t)j;
                used = j + 1;
                break;
            }
        }
    }
    return RK_OK;
}
