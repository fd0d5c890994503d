/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index image: one envelope for all kinds, written front to back and used as it lies in a
 * mapping.
 *
 *   offset size
 *        0    8  magic "RKINDEX1"
 *        8    4  version, 1
 *       12    4  kind (rk__kind_id)
 *       16    4  metric (rk_metric)
 *       20    4  vector type (schema number)
 *       24    4  dim, 0 for sparse
 *       28    4  sections
 *       32    8  rows
 *       40    8  length of the image
 *       48    4  CRC32C of header and section table, this field as zero
 *       52   12  zero
 *       64   32  per section: u32 id, u32 CRC32C of its bytes, u64 offset, u64 length, u64 zero
 *      ...       sections, each at a multiple of 64 (pages: 4096), gaps zero
 *
 * Kinds that keep data on disk are also opened without a mapping: through a page reader they load
 * and check the sections that belong in memory and read the others as searches need them.
 *
 * Opening checks the header, the table and every section's bounds. Section checksums are checked at
 * once in images up to VERIFY_AT_OPEN_MAX; a larger image opens without reading it through, and
 * rk_index_verify() checks it when the owner has time. Kinds trust no number inside a section: row
 * numbers are compared with the row count where they are used, so that even an image with correct
 * checksums made by an enemy can give wrong results but never read outside.
 */
#include <stdatomic.h>

#include "index/index_private.h"

#define HEADER_BYTES       64u
#define ENTRY_BYTES        32u
#define ALIGN              64u
#define HEAD_BYTES_MAX     (HEADER_BYTES + RK__SECTIONS_MAX * ENTRY_BYTES)
#define MAGIC              "RKINDEX1"
#define VERSION            1u
#define VERIFY_AT_OPEN_MAX ((size_t)64 << 20)
#define VERIFY_PIECE       ((uint64_t)4 << 20)

void
rk__sections_add(rk__sections *sections, uint32_t id, const void *data, uint64_t len)
{
    RK_ASSERT(sections->n < RK__SECTIONS_MAX);
    sections->items[sections->n++] = (rk__section){.id = id, .data = data, .len = len};
}

rk_code
rk__sections_find(const rk__sections *sections, uint32_t id, uint64_t len, const rk__section **out,
                  rk_err *err)
{
    *out = NULL;
    for (uint32_t i = 0; i < sections->n; i++) {
        const rk__section *section = &sections->items[i];
        if (section->id != id) {
            continue;
        }
        if (len != SIZE_MAX && section->len != len) {
            return rk_fail(err, RK_ECORRUPT,
                           "index image: section %u has %llu bytes, expected %llu", id,
                           (unsigned long long)section->len, (unsigned long long)len);
        }
        *out = section;
        return RK_OK;
    }
    return rk_fail(err, RK_ECORRUPT, "index image: section %u is missing", id);
}

rk_code
rk__sections_get(const rk__sections *sections, uint32_t id, uint64_t len, const void **out,
                 uint64_t *len_out, rk_err *err)
{
    const rk__section *section = NULL;

    rk_code code = rk__sections_find(sections, id, len, &section, err);

    if (code != RK_OK || !section) {
        return code;
    }
    *out = section->data;
    if (len_out) {
        *len_out = section->len;
    }
    return RK_OK;
}

static uint64_t
aligned(uint64_t n, uint64_t align)
{
    return (n + align - 1) / align * align;
}

static uint64_t
align_of(const rk__section *section)
{
    return section->align ? section->align : ALIGN;
}

static rk_code
write_zeros(rk_write_fn write, void *user, uint64_t n, rk_err *err)
{
    static const uint8_t zeros[ALIGN];

    while (n > 0) {
        uint64_t part = RK_MIN(n, (uint64_t)ALIGN);
        RK_RET(write(user, zeros, part, err));
        n -= part;
    }
    return RK_OK;
}

static rk_code
write_section(const rk_index *index, const rk__section *section, rk_write_fn write, void *user,
              rk_err *err)
{
    if (section->produce) {
        return section->produce(index, write, user, err);
    }
    return section->len > 0 ? write(user, section->data, section->len, err) : RK_OK;
}

rk_code
rk_index_save(const rk_index *index, rk_write_fn write, void *user, rk_err *err)
{
    uint8_t head[HEAD_BYTES_MAX] = {0};
    rk__sections sections = {.n = 0};
    uint64_t head_len = 0;
    uint64_t at = 0;

    index->verbs->sections(index, &sections);
    head_len = HEADER_BYTES + sections.n * ENTRY_BYTES;
    at = head_len;
    for (uint32_t i = 0; i < sections.n; i++) {
        rk__section *section = &sections.items[i];
        uint8_t *entry = head + HEADER_BYTES + i * ENTRY_BYTES;
        section->offset = aligned(at, align_of(section));
        rk_put_u32le(entry, section->id);
        rk_put_u32le(entry + 4,
                     section->produce ? section->crc : rk_crc32c(0, section->data, section->len));
        rk_put_u64le(entry + 8, section->offset);
        rk_put_u64le(entry + 16, section->len);
        at = section->offset + section->len;
    }
    memcpy(head, MAGIC, 8);
    rk_put_u32le(head + 8, VERSION);
    rk_put_u32le(head + 12, (uint32_t)index->kind);
    rk_put_u32le(head + 16, (uint32_t)index->space.metric);
    rk_put_u32le(head + 20, (uint32_t)index->vectors.type);
    rk_put_u32le(head + 24, index->vectors.dim);
    rk_put_u32le(head + 28, sections.n);
    rk_put_u64le(head + 32, index->vectors.rows);
    rk_put_u64le(head + 40, aligned(at, ALIGN));
    rk_put_u32le(head + 48, rk_crc32c(0, head, head_len));

    RK_RET(write(user, head, head_len, err));
    at = head_len;
    for (uint32_t i = 0; i < sections.n; i++) {
        RK_RET(write_zeros(write, user, sections.items[i].offset - at, err));
        RK_RET(write_section(index, &sections.items[i], write, user, err));
        at = sections.items[i].offset + sections.items[i].len;
    }
    return write_zeros(write, user, aligned(at, ALIGN) - at, err);
}

/* |head| is the beginning of the image, enough for the largest table or the whole image. */
static rk_code
check_header(rk_str head, uint64_t image_len, const rk_vectors *vectors, rk_err *err)
{
    const uint8_t *p = (const uint8_t *)head.data;
    uint8_t copy[HEAD_BYTES_MAX];
    size_t head_len = 0;

    if (head.len < HEADER_BYTES || memcmp(p, MAGIC, 8) != 0) {
        return rk_fail(err, RK_ECORRUPT,
                       "index image: no magic RKINDEX1 in its first bytes (%llu bytes in all)",
                       (unsigned long long)image_len);
    }
    if (rk_get_u32le(p + 8) != VERSION) {
        return rk_fail(err, RK_ECORRUPT, "index image: version %u, this build reads %u",
                       rk_get_u32le(p + 8), VERSION);
    }
    uint32_t n = rk_get_u32le(p + 28);
    if (n > RK__SECTIONS_MAX || head.len < HEADER_BYTES + (size_t)n * ENTRY_BYTES) {
        return rk_fail(err, RK_ECORRUPT, "index image: %u sections do not fit in %llu bytes", n,
                       (unsigned long long)image_len);
    }
    head_len = HEADER_BYTES + n * ENTRY_BYTES;
    memcpy(copy, p, head_len);
    rk_put_u32le(copy + 48, 0);
    if (rk_crc32c(0, copy, head_len) != rk_get_u32le(p + 48)) {
        return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of the header at offset 48");
    }
    if (rk_get_u64le(p + 40) != image_len) {
        return rk_fail(err, RK_ECORRUPT, "index image: %llu bytes, its header says %llu",
                       (unsigned long long)image_len, (unsigned long long)rk_get_u64le(p + 40));
    }
    if (rk_get_u64le(p + 32) != vectors->rows || rk_get_u32le(p + 24) != vectors->dim ||
        rk_get_u32le(p + 20) != (uint32_t)vectors->type) {
        return rk_fail(err, RK_ECORRUPT,
                       "index image: built over %llu rows of type %u, dim %u; the segment has %zu "
                       "of type %d, dim %u",
                       (unsigned long long)rk_get_u64le(p + 32), rk_get_u32le(p + 20),
                       rk_get_u32le(p + 24), vectors->rows, (int)vectors->type, vectors->dim);
    }
    return RK_OK;
}

/* |image| is the mapping, NULL when the image is read page by page. */
static rk_code
read_sections(const uint8_t *head, const uint8_t *image, uint64_t image_len, rk__sections *out,
              rk_err *err)
{
    out->n = rk_get_u32le(head + 28);
    for (uint32_t i = 0; i < out->n; i++) {
        const uint8_t *entry = head + HEADER_BYTES + i * ENTRY_BYTES;
        uint64_t offset = rk_get_u64le(entry + 8);
        uint64_t len = rk_get_u64le(entry + 16);
        if (offset % ALIGN != 0 || offset > image_len || len > image_len - offset) {
            return rk_fail(
                err, RK_ECORRUPT,
                "index image: section %u at %llu, %llu bytes, lies outside the image of %llu bytes",
                rk_get_u32le(entry), (unsigned long long)offset, (unsigned long long)len,
                (unsigned long long)image_len);
        }
        out->items[i] = (rk__section){.id = rk_get_u32le(entry),
                                      .data = image ? image + offset : NULL,
                                      .len = len,
                                      .offset = offset,
                                      .crc = rk_get_u32le(entry + 4)};
    }
    return RK_OK;
}

static rk_code
verify_section(const rk__section *section, const _Atomic(bool) *cancel, rk_err *err)
{
    const uint8_t *data = section->data;
    uint32_t crc = 0;

    for (uint64_t at = 0; at < section->len; at += VERIFY_PIECE) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            return rk_fail(err, RK_ECANCELLED, "index image: the check was cancelled");
        }
        crc = rk_crc32c(crc, data + at, (size_t)RK_MIN(section->len - at, VERIFY_PIECE));
    }
    if (crc != section->crc) {
        return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of section %u at offset %llu",
                       section->id, (unsigned long long)section->offset);
    }
    return RK_OK;
}

/* Bytes from |from| to |to| lie between sections, or behind the last one. */
static rk_code
verify_gap(const uint8_t *image, uint64_t from, uint64_t to, rk_err *err)
{
    if (from > to) {
        return rk_fail(err, RK_ECORRUPT, "index image: sections overlap at offset %llu",
                       (unsigned long long)to);
    }
    for (uint64_t at = from; at < to; at++) {
        if (image[at] != 0) {
            return rk_fail(err, RK_ECORRUPT, "index image: byte %llu, in a gap, is not zero",
                           (unsigned long long)at);
        }
    }
    return RK_OK;
}

static rk_code
verify_sections(const rk__sections *sections, rk_str image, const _Atomic(bool) *cancel,
                rk_err *err)
{
    const uint8_t *data = (const uint8_t *)image.data;
    uint64_t at = HEADER_BYTES + (uint64_t)sections->n * ENTRY_BYTES;

    for (uint32_t i = 0; i < sections->n; i++) {
        const rk__section *section = &sections->items[i];
        RK_RET(verify_gap(data, at, section->offset, err));
        RK_RET(verify_section(section, cancel, err));
        at = section->offset + section->len;
    }
    return verify_gap(data, at, image.len, err);
}

rk_code
rk_index_verify(const rk_index *index, const _Atomic(bool) *cancel, rk_err *err)
{
    rk__sections sections = {.n = 0};
    const uint8_t *image = (const uint8_t *)index->image.data;

    if (index->pages && index->verbs->verify) {
        return index->verbs->verify(index, cancel, err);
    }
    if (index->image.len == 0) {
        return RK_OK; /* built in memory */
    }
    RK_RET(read_sections(image, image, index->image.len, &sections, err));
    return verify_sections(&sections, index->image, cancel, err);
}

static rk_code
check_kind(const uint8_t *head, const rk_vectors *vectors, rk_err *err)
{
    uint32_t kind = rk_get_u32le(head + 12);
    rk_metric metric = (rk_metric)rk_get_u32le(head + 16);

    if (kind >= RK__KINDS || !rk__kind_verbs((rk__kind_id)kind)) {
        return rk_fail(err, RK_ECORRUPT, "index image: kind %u is not part of this build", kind);
    }
    if (!rk__kind_takes((rk__kind_id)kind, vectors->type, metric)) {
        return rk_fail(err, RK_ECORRUPT, "index image: metric %u does not fit kind %u",
                       (unsigned)metric, kind);
    }
    return RK_OK;
}

rk_code
rk_index_open(rk_index **out, rk_str image, const rk_vectors *vectors, rk_mem *mem, rk_err *err)
{
    const uint8_t *head = (const uint8_t *)image.data;
    rk__sections sections = {.n = 0};
    rk_index *index = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    if (((uintptr_t)image.data & (ALIGN - 1)) != 0) {
        return rk_fail(err, RK_EINTERNAL,
                       "index image: mapped at an address that is not a multiple of %u", ALIGN);
    }
    RK_ERR(check_header(image, image.len, vectors, err));
    RK_ERR(read_sections(head, head, image.len, &sections, err));
    if (image.len <= VERIFY_AT_OPEN_MAX) {
        RK_ERR(verify_sections(&sections, image, NULL, err));
    }
    RK_ERR(check_kind(head, vectors, err));
    RK_ERR(rk__index_new(&index, (rk__kind_id)rk_get_u32le(head + 12),
                         (rk_metric)rk_get_u32le(head + 16), vectors, mem, err));
    index->image = image;
    index->unverified = image.len > VERIFY_AT_OPEN_MAX;
    RK_ERR(index->verbs->open(index, &sections, err));
    *out = index;
    index = NULL;
out:
    rk_index_free(index);
    return code;
}

bool
rk_index_is_paged(rk_str head)
{
    uint32_t kind = 0;

    if (head.len < HEADER_BYTES || memcmp(head.data, MAGIC, 8) != 0) {
        return false;
    }
    kind = rk_get_u32le(head.data + 12);
    return kind == RK__KIND_DISKANN || kind == RK__KIND_AISAQ;
}

rk_code
rk_index_open_pages(rk_index **out, rk_pages *pages, const rk_vectors *vectors, rk_mem *mem,
                    rk_err *err)
{
    uint8_t head[HEAD_BYTES_MAX];
    size_t head_len = (size_t)RK_MIN((uint64_t)sizeof(head), pages->size_bytes);
    rk_str head_str = {(const char *)head, head_len};
    rk__sections sections = {.n = 0};
    rk_index *index = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    RK_ERR(rk_pages_read(pages, 0, head, head_len, err));
    RK_ERR(check_header(head_str, pages->size_bytes, vectors, err));
    RK_ERR(read_sections(head, NULL, pages->size_bytes, &sections, err));
    RK_ERR(check_kind(head, vectors, err));
    if (!rk_index_is_paged(head_str)) {
        RK_ERR(rk_fail(err, RK_EINVAL, "an index of kind %s is opened from a mapping",
                       rk__kind_name((rk__kind_id)rk_get_u32le(head + 12))));
    }
    RK_ERR(rk__index_new(&index, (rk__kind_id)rk_get_u32le(head + 12),
                         (rk_metric)rk_get_u32le(head + 16), vectors, mem, err));
    index->pages = pages;
    RK_ERR(index->verbs->open(index, &sections, err));
    *out = index;
    index = NULL;
out:
    rk_index_free(index);
    return code;
}
