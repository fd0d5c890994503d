/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile column and delete files: the input is an image, its checksums are made right (so that the
 * rest of it is reached), it is parsed, checked, and, when that passes, every value is read the way
 * segments, filters and replies read it. Whatever the bytes, nothing may be read outside the image.
 *
 * Input: byte 0 flags (1: leave checksums as they are), then the image.
 */
#include <stdlib.h>

#include "base/util.h"
#include "segment/column_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sink; /* so that reads are not optimised away */

static void
fix_checksums(uint8_t *image, size_t len)
{
    if (len < RK__FILE_HEAD_BYTES + RK__FILE_TAIL_BYTES) {
        return;
    }
    uint8_t *tail = image + len - RK__FILE_TAIL_BYTES;
    uint64_t footer_at = rk_get_u64le(tail);
    uint64_t page = rk_get_u32le(tail + 16);

    rk_put_u32le(image + RK__FILE_HEAD_BYTES - 4, rk_crc32c(0, image, RK__FILE_HEAD_BYTES - 4));
    if (footer_at < RK__FILE_HEAD_BYTES || footer_at > len - RK__FILE_TAIL_BYTES || page == 0) {
        return;
    }
    uint8_t *crcs = image + footer_at + (size_t)RK__SECTIONS * 16;
    for (uint64_t at = 0; at < footer_at && crcs + 4 <= tail; at += page, crcs += 4) {
        rk_put_u32le(crcs, rk_crc32c(0, image + at, (size_t)RK_MIN(page, footer_at - at)));
    }
    rk_put_u32le(tail + 28, rk_crc32c(0, image + footer_at, len - 12 - (size_t)footer_at));
}

static void
read_array(rk_str blob, rk_type element)
{
    for (uint32_t i = 0; i < rk_array_count(blob); i++) {
        if (element == RK_VARCHAR) {
            rk_str s = rk_array_str(blob, i);
            sink += s.len > 0 ? (uint8_t)s.data[s.len - 1] : 0;
        } else if (element == RK_FLOAT || element == RK_DOUBLE) {
            sink += rk_array_f64(blob, element, i) > 0;
        } else {
            sink += (uint64_t)rk_array_i64(blob, element, i);
        }
    }
}

static void
read_rows(const rk_column *c)
{
    size_t width = rk_field_row_bytes(c->field);

    for (size_t row = 0; row < c->rows; row++) {
        sink += rk_column_is_null(c, row);
        if (width > 0) {
            sink += ((const uint8_t *)c->data)[row * width + width - 1];
            continue;
        }
        rk_str s = rk_column_bytes(c, row);
        sink += s.len > 0 ? (uint8_t)s.data[s.len - 1] : 0;
        if (c->field->type == RK_ARRAY) {
            read_array(s, c->field->element);
        }
    }
}

static void
gather_rows(const rk_column *c)
{
    rk_arena *arena = rk_arena_new((uint64_t)64 << 20);
    pb_schema_FieldData *out;
    const rk_column *columns[16];
    uint32_t rows[16];
    size_t n = RK_MIN(c->rows, RK_COUNT(rows));

    for (size_t i = 0; i < n; i++) {
        columns[i] = c;
        rows[i] = (uint32_t)(c->rows - 1 - i);
    }
    if (arena && rk_field_data_gather(&out, c->field, columns, rows, n, arena) == RK_OK) {
        sink += out->valid_data.n;
    }
    rk_arena_free(arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rk__file f;
    rk_err err;

    if (size < 2) {
        return 0;
    }
    uint8_t *image =
        rk_alloc_aligned(64, size - 1); /* exactly, so that a read past the end is seen */
    if (!image) {
        return 0;
    }
    memcpy(image, data + 1, size - 1);
    if (!(data[0] & 1)) {
        fix_checksums(image, size - 1);
    }
    rk_err_clear(&err);
    if (rk__file_parse(&f, (rk_str){(const char *)image, size - 1}, "image", &err) == RK_OK &&
        rk__file_check(&f, &err) == RK_OK) {
        rk_field field = {.name = RK_STR("field"),
                          .type = f.head.type,
                          .element = f.head.element,
                          .dim = f.head.dim,
                          .nullable = f.sections[RK__VALID].data != NULL};
        rk_column c = rk__file_column(&f, &field);
        read_rows(&c);
        gather_rows(&c);
        for (size_t i = 0; f.sections[RK__TIMES].data && i < c.rows; i++) {
            sink += ((const uint64_t *)(const void *)f.sections[RK__TIMES].data)[i];
        }
    }
    rk_free(image);
    return 0;
}
