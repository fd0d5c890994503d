/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the envelope of column and delta files.
 *
 *   header, 64 bytes   magic "RKCOLUMN", version, kind, type, element type, dim, rows, field id,
 * owner id, checksum sections           data, offsets, validity, timestamps; those present, each
 * 64-byte aligned, zero bytes between footer             four pairs (offset, length) of the
 * sections, then one CRC32C per page of everything before the footer tail, 40 bytes     footer
 * offset, file size, page size, page count, checksum of footer and tail, magic "RKCOLEND"
 *
 * Parsing touches header and footer only, so that opening a segment costs no reads of its data.
 * rk__file_check() reads all of it once.
 */
#include "segment/column_file.h"

#include "base/util.h"

#define PAGE_MIN ((size_t)64 << 10)
#define PAGE_MAX ((size_t)1 << 20)

/* A primary key or timestamp column may hold this many rows at most; row numbers are u32. */
#define ROWS_MAX ((uint64_t)UINT32_MAX - 1)

static rk_code
corrupt(rk_err *err, const char *name, uint64_t at, const char *what)
{
    return rk_fail(err, RK_ECORRUPT,
                   "object %s is damaged at offset %llu: %s: data integrity check failed", name,
                   (unsigned long long)at, what);
}

static rk_code
parse_head(rk__file *f, rk_str bytes, const char *name, rk_err *err)
{
    rk_cursor c = rk_cursor_on(bytes.data, RK__FILE_HEAD_BYTES);

    if (memcmp(rk_cursor_bytes(&c, 8).data, "RKCOLUMN", 8) != 0) {
        return corrupt(err, name, 0, "it does not start with RKCOLUMN");
    }
    if (rk_crc32c(0, bytes.data, RK__FILE_HEAD_BYTES - 4) !=
        rk_get_u32le(bytes.data + RK__FILE_HEAD_BYTES - 4)) {
        return corrupt(err, name, 0, "checksum of the header is wrong");
    }
    if (rk_cursor_u32(&c) != RK__FILE_VERSION) {
        return corrupt(err, name, 8, "unknown version, this build reads version 1");
    }
    f->head.kind = (rk__file_kind)rk_cursor_u32(&c);
    f->head.type = (rk_type)rk_cursor_u32(&c);
    f->head.element = (rk_type)rk_cursor_u32(&c);
    f->head.dim = rk_cursor_u32(&c);
    (void)rk_cursor_u32(&c);
    f->head.rows = rk_cursor_u64(&c);
    f->head.field_id = (int64_t)rk_cursor_u64(&c);
    f->head.owner_id = (int64_t)rk_cursor_u64(&c);
    if (f->head.rows > ROWS_MAX) {
        return corrupt(err, name, 32, "more rows than a segment can hold");
    }
    return RK_OK;
}

static rk_code
parse_tail(rk__file *f, rk_str bytes, const char *name, rk_err *err)
{
    uint64_t tail_at = bytes.len - RK__FILE_TAIL_BYTES;
    rk_cursor c = rk_cursor_on(bytes.data + tail_at, RK__FILE_TAIL_BYTES);
    const uint64_t table_bytes = (uint64_t)RK__SECTIONS * 16;

    if (memcmp(bytes.data + bytes.len - 8, "RKCOLEND", 8) != 0) {
        return corrupt(err, name, bytes.len - 8, "it does not end with RKCOLEND");
    }
    f->footer_at = rk_cursor_u64(&c);
    uint64_t size = rk_cursor_u64(&c);
    f->page_bytes = rk_cursor_u32(&c);
    f->pages = rk_cursor_u32(&c);
    if (size != bytes.len || f->footer_at < RK__FILE_HEAD_BYTES || f->footer_at > tail_at) {
        return corrupt(err, name, tail_at, "file size or footer offset is wrong");
    }
    if (f->page_bytes < PAGE_MIN || f->page_bytes > PAGE_MAX ||
        (f->page_bytes & (f->page_bytes - 1)) != 0 ||
        f->pages != (f->footer_at + f->page_bytes - 1) / f->page_bytes ||
        tail_at - f->footer_at != table_bytes + f->pages * 4) {
        return corrupt(err, name, tail_at + 16, "page size or page count is wrong");
    }
    if (rk_crc32c(0, bytes.data + f->footer_at, bytes.len - 12 - f->footer_at) !=
        rk_get_u32le(bytes.data + bytes.len - 12)) {
        return corrupt(err, name, f->footer_at, "checksum of the footer is wrong");
    }
    f->crcs = (const uint8_t *)bytes.data + f->footer_at + table_bytes;
    return RK_OK;
}

static rk_code
parse_sections(rk__file *f, rk_str bytes, const char *name, rk_err *err)
{
    for (int i = 0; i < RK__SECTIONS; i++) {
        uint64_t at = rk_get_u64le(bytes.data + f->footer_at + (uint64_t)i * 16);
        uint64_t len = rk_get_u64le(bytes.data + f->footer_at + (uint64_t)i * 16 + 8);

        if (at == 0) {
            continue;
        }
        if (at % RK__FILE_ALIGN != 0 || at < RK__FILE_HEAD_BYTES || at > f->footer_at ||
            len > f->footer_at - at) {
            return corrupt(err, name, f->footer_at + (uint64_t)i * 16,
                           "a section lies outside the file");
        }
        f->sections[i] = (rk_str){bytes.data + at, (size_t)len};
    }
    return RK_OK;
}

/* Bytes of a value of the type in the header; 0: variable-length. */
static size_t
row_bytes(const rk__file_head *head)
{
    rk_field field = {.type = head->type, .dim = head->dim};
    return rk_field_row_bytes(&field);
}

static bool
type_known(const rk__file_head *head)
{
    bool known = head->type == RK_BOOL || rk_type_is_integer(head->type) ||
                 head->type == RK_FLOAT || head->type == RK_DOUBLE || head->type == RK_VARCHAR ||
                 head->type == RK_JSON || head->type == RK_SPARSE_VECTOR;

    if (head->type == RK_ARRAY) {
        return head->element == RK_BOOL || rk_type_is_integer(head->element) ||
               head->element == RK_FLOAT || head->element == RK_DOUBLE ||
               head->element == RK_VARCHAR;
    }
    if (rk_type_is_vector(head->type) && head->type != RK_SPARSE_VECTOR) {
        return head->dim > 0 && head->dim <= 262144 &&
               (head->type != RK_BINARY_VECTOR || head->dim % 8 == 0);
    }
    return known;
}

static rk_code
check_sizes(const rk__file *f, const char *name, rk_err *err)
{
    size_t width = row_bytes(&f->head);
    uint64_t rows = f->head.rows; /* at most 2^32, so nothing below overflows */
    const rk_str *s = f->sections;

    if ((f->head.kind != RK__FILE_COLUMN && f->head.kind != RK__FILE_DELTAS) ||
        !type_known(&f->head)) {
        return corrupt(err, name, 12, "unknown kind or type");
    }
    if (!s[RK__DATA].data || (width > 0 && s[RK__DATA].len != rows * width)) {
        return corrupt(err, name, f->footer_at, "the data section does not fit the number of rows");
    }
    if ((width == 0) != (s[RK__OFFSETS].data != NULL) ||
        (width == 0 && s[RK__OFFSETS].len != (rows + 1) * 8)) {
        return corrupt(err, name, f->footer_at + 16,
                       "the offsets section does not fit the number of rows");
    }
    if (s[RK__VALID].data && s[RK__VALID].len != rk_bitset_words(rows) * 8) {
        return corrupt(err, name, f->footer_at + 32,
                       "the validity section does not fit the number of rows");
    }
    if ((f->head.kind == RK__FILE_DELTAS) != (s[RK__TIMES].data != NULL) ||
        (s[RK__TIMES].data && s[RK__TIMES].len != rows * 8)) {
        return corrupt(err, name, f->footer_at + 48,
                       "the timestamps section does not fit the number of rows");
    }
    return RK_OK;
}

rk_code
rk__file_parse(rk__file *f, rk_str bytes, const char *name, rk_err *err)
{
    *f = (rk__file){.bytes = (const uint8_t *)bytes.data};
    if (bytes.len < RK__FILE_HEAD_BYTES + (uint64_t)RK__SECTIONS * 16 + 4 + RK__FILE_TAIL_BYTES) {
        return corrupt(err, name, bytes.len, "it is shorter than its header and footer");
    }
    RK_RET(parse_head(f, bytes, name, err));
    RK_RET(parse_tail(f, bytes, name, err));
    RK_RET(parse_sections(f, bytes, name, err));
    return check_sizes(f, name, err);
}

rk_code
rk__file_open(rk__file *f, const char *name, rk_object_store *store, rk_err *err)
{
    rk_object_view view = {NULL, 0, NULL};
    rk_code code = rk_object_map(store, name, &view, err);

    *f = (rk__file){.name = NULL};
    if (code != RK_OK) {
        return code;
    }
    code = rk__file_parse(f, (rk_str){(const char *)view.data, view.len}, name, err);
    f->view = view;
    if (code == RK_OK && !(f->name = rk_strdup(rk_str_from(name)))) {
        code = rk_fail(err, RK_ENOMEM, "no memory to open object %s", name);
    }
    if (code != RK_OK) {
        rk__file_close(f, store);
    }
    return code;
}

void
rk__file_close(rk__file *f, rk_object_store *store)
{
    if (f->view.data) {
        rk_object_unmap(store, &f->view);
    }
    rk_free(f->name);
    *f = (rk__file){.name = NULL};
}

/* ---- pages and values ---- */

static uint64_t
offset_of(const rk__file *f, const void *p)
{
    return (uint64_t)((const uint8_t *)p - f->bytes);
}

static rk_code
check_offsets(const rk__file *f, const char *name, rk_err *err)
{
    const uint64_t *offsets = (const void *)f->sections[RK__OFFSETS].data;

    if (offsets[0] != 0 || offsets[f->head.rows] != f->sections[RK__DATA].len) {
        return corrupt(err, name, offset_of(f, offsets), "offsets do not span the data");
    }
    for (uint64_t i = 0; i < f->head.rows; i++) {
        if (offsets[i + 1] < offsets[i]) {
            return corrupt(err, name, offset_of(f, &offsets[i + 1]), "offsets do not rise");
        }
    }
    return RK_OK;
}

static bool
sparse_ok(rk_str row)
{
    uint32_t last = 0;

    for (size_t at = 0; at + 8 <= row.len; at += 8) {
        uint32_t index = rk_get_u32le(row.data + at);
        if (index == UINT32_MAX || (at > 0 && index <= last)) {
            return false;
        }
        last = index;
    }
    return row.len % 8 == 0;
}

static rk_code
check_values(const rk__file *f, const char *name, rk_err *err)
{
    const uint64_t *offsets = (const void *)f->sections[RK__OFFSETS].data;
    const uint64_t *valid = (const void *)f->sections[RK__VALID].data;
    const char *data = f->sections[RK__DATA].data;

    for (uint64_t i = 0; i < f->head.rows; i++) {
        bool null = valid && !((valid[i >> 6] >> (i & 63)) & 1);
        if (f->head.type == RK_BOOL) {
            if ((uint8_t)data[i] > 1) {
                return corrupt(err, name, offset_of(f, data + i), "a Bool is neither 0 nor 1");
            }
            continue;
        }
        rk_str row = {data + offsets[i], (size_t)(offsets[i + 1] - offsets[i])};
        if (f->head.type == RK_ARRAY && !(null && row.len == 0) &&
            !rk_array_check(row, f->head.element)) {
            return corrupt(err, name, offset_of(f, row.data), "an array row is malformed");
        }
        if (f->head.type == RK_SPARSE_VECTOR && !sparse_ok(row)) {
            return corrupt(err, name, offset_of(f, row.data), "a sparse vector is malformed");
        }
    }
    return RK_OK;
}

rk_code
rk__file_check(const rk__file *f, rk_err *err)
{
    const char *name = f->name ? f->name : "file";

    for (size_t i = 0; i < f->pages; i++) {
        uint64_t at = (uint64_t)i * f->page_bytes;
        size_t len = (size_t)RK_MIN((uint64_t)f->page_bytes, f->footer_at - at);
        if (rk_crc32c(0, f->bytes + at, len) != rk_get_u32le(f->crcs + i * 4)) {
            return corrupt(err, name, at, "checksum of the page is wrong");
        }
    }
    if (f->sections[RK__OFFSETS].data) {
        RK_RET(check_offsets(f, name, err));
    }
    if (f->head.type == RK_BOOL || f->head.type == RK_ARRAY || f->head.type == RK_SPARSE_VECTOR) {
        return check_values(f, name, err);
    }
    return RK_OK;
}

rk_column
rk__file_column(const rk__file *f, const rk_field *field)
{
    return (rk_column){.field = field,
                       .rows = (size_t)f->head.rows,
                       .valid = (const void *)f->sections[RK__VALID].data,
                       .data = f->sections[RK__DATA].data,
                       .offsets = (const void *)f->sections[RK__OFFSETS].data};
}
