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
 *      ...       sections, each at a multiple of 64, gaps zero
 *
 * Opening checks the header, the table and every section's bounds. Section checksums are checked at
 * once in images up to VERIFY_AT_OPEN_MAX; a larger image opens without reading it through, and
 * rk_index_verify() checks it when the owner has time. Kinds trust no number inside a section: row
 * numbers are compared with the row count where they are used, so that even an image with correct
 * checksums made by an enemy can give wrong results but never read outside.
 */
#include "index/index_private.h"

#define HEADER_BYTES       64u
#define ENTRY_BYTES        32u
#define ALIGN              64u
#define VERSION            1u
#define VERIFY_AT_OPEN_MAX ((size_t)64 << 20)

void
rk__sections_add(rk__sections *sections, uint32_t id, const void *data, uint64_t len)
{
    RK_ASSERT(sections->n < RK__SECTIONS_MAX);
    sections->items[sections->n++] = (rk__section){id, data, len};
}

rk_code
rk__sections_get(const rk__sections *sections, uint32_t id, uint64_t len, const void **out,
                 uint64_t *len_out, rk_err *err)
{
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
        *out = section->data;
        if (len_out) {
            *len_out = section->len;
        }
        return RK_OK;
    }
    return rk_fail(err, RK_ECORRUPT, "index image: section %u is missing", id);
}

static uint64_t
aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

rk_code
rk_index_save(const rk_index *index, rk_write_fn write, void *user, rk_err *err)
{
    static const uint8_t zeros[ALIGN];
    uint8_t head[HEADER_BYTES + RK__SECTIONS_MAX * ENTRY_BYTES] = {0};
    rk__sections sections = {.n = 0};
    uint64_t head_len = 0;
    uint64_t at = 0;

    index->verbs->sections(index, &sections);
    head_len = HEADER_BYTES + sections.n * ENTRY_BYTES;
    at = aligned(head_len);
    for (uint32_t i = 0; i < sections.n; i++) {
        uint8_t *entry = head + HEADER_BYTES + i * ENTRY_BYTES;
        rk_put_u32le(entry, sections.items[i].id);
        rk_put_u32le(entry + 4, rk_crc32c(0, sections.items[i].data, sections.items[i].len));
        rk_put_u64le(entry + 8, at);
        rk_put_u64le(entry + 16, sections.items[i].len);
        at = aligned(at + sections.items[i].len);
    }
    memcpy(head, "RKINDEX1", 8);
    rk_put_u32le(head + 8, VERSION);
    rk_put_u32le(head + 12, (uint32_t)index->kind);
    rk_put_u32le(head + 16, (uint32_t)index->space.metric);
    rk_put_u32le(head + 20, (uint32_t)index->vectors.type);
    rk_put_u32le(head + 24, index->vectors.dim);
    rk_put_u32le(head + 28, sections.n);
    rk_put_u64le(head + 32, index->vectors.rows);
    rk_put_u64le(head + 40, at);
    rk_put_u32le(head + 48, rk_crc32c(0, head, head_len));

    RK_RET(write(user, head, head_len, err));
    RK_RET(write(user, zeros, aligned(head_len) - head_len, err));
    for (uint32_t i = 0; i < sections.n; i++) {
        uint64_t len = sections.items[i].len;
        if (len > 0) {
            RK_RET(write(user, sections.items[i].data, len, err));
        }
        if (aligned(len) > len) {
            RK_RET(write(user, zeros, aligned(len) - len, err));
        }
    }
    return RK_OK;
}

static rk_code
check_header(rk_str image, const rk_vectors *vectors, rk_err *err)
{
    const uint8_t *p = (const uint8_t *)image.data;
    uint8_t head[HEADER_BYTES + RK__SECTIONS_MAX * ENTRY_BYTES];
    size_t head_len = 0;

    if (image.len < HEADER_BYTES || memcmp(p, "RKINDEX1", 8) != 0) {
        return rk_fail(err, RK_ECORRUPT,
                       "index image: no magic RKINDEX1 in its first bytes (%zu bytes in all)",
                       image.len);
    }
    if (rk_get_u32le(p + 8) != VERSION) {
        return rk_fail(err, RK_ECORRUPT, "index image: version %u, this build reads %u",
                       rk_get_u32le(p + 8), VERSION);
    }
    uint32_t n = rk_get_u32le(p + 28);
    if (n > RK__SECTIONS_MAX || image.len < HEADER_BYTES + (size_t)n * ENTRY_BYTES) {
        return rk_fail(err, RK_ECORRUPT, "index image: %u sections do not fit in %zu bytes", n,
                       image.len);
    }
    head_len = HEADER_BYTES + n * ENTRY_BYTES;
    memcpy(head, p, head_len);
    rk_put_u32le(head + 48, 0);
    if (rk_crc32c(0, head, head_len) != rk_get_u32le(p + 48)) {
        return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of the header at offset 48");
    }
    if (rk_get_u64le(p + 40) != image.len) {
        return rk_fail(err, RK_ECORRUPT, "index image: %zu bytes, its header says %llu", image.len,
                       (unsigned long long)rk_get_u64le(p + 40));
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

static rk_code
read_sections(rk_str image, rk__sections *out, rk_err *err)
{
    const uint8_t *p = (const uint8_t *)image.data;

    out->n = rk_get_u32le(p + 28);
    for (uint32_t i = 0; i < out->n; i++) {
        const uint8_t *entry = p + HEADER_BYTES + i * ENTRY_BYTES;
        uint64_t offset = rk_get_u64le(entry + 8);
        uint64_t len = rk_get_u64le(entry + 16);
        if (offset % ALIGN != 0 || offset > image.len || len > image.len - offset) {
            return rk_fail(
                err, RK_ECORRUPT,
                "index image: section %u at %llu, %llu bytes, lies outside the image of %zu bytes",
                rk_get_u32le(entry), (unsigned long long)offset, (unsigned long long)len,
                image.len);
        }
        out->items[i] = (rk__section){rk_get_u32le(entry), p + offset, len};
    }
    return RK_OK;
}

static rk_code
verify_sections(rk_str image, const rk__sections *sections, rk_err *err)
{
    for (uint32_t i = 0; i < sections->n; i++) {
        const rk__section *section = &sections->items[i];
        uint32_t want =
            rk_get_u32le((const uint8_t *)image.data + HEADER_BYTES + i * ENTRY_BYTES + 4);
        if (rk_crc32c(0, section->data, section->len) != want) {
            return rk_fail(err, RK_ECORRUPT,
                           "index image: wrong checksum of section %u at offset %zu", section->id,
                           (size_t)((const char *)section->data - image.data));
        }
    }
    return RK_OK;
}

rk_code
rk_index_verify(const rk_index *index, rk_err *err)
{
    rk__sections sections = {.n = 0};

    if (index->image.len == 0) {
        return RK_OK; /* built in memory */
    }
    RK_RET(read_sections(index->image, &sections, err));
    return verify_sections(index->image, &sections, err);
}

rk_code
rk_index_open(rk_index **out, rk_str image, const rk_vectors *vectors, rk_mem *mem, rk_err *err)
{
    rk__sections sections = {.n = 0};
    rk_index *index = NULL;
    rk_code code = RK_OK;
    uint32_t kind = 0;

    *out = NULL;
    if (((uintptr_t)image.data & (ALIGN - 1)) != 0) {
        return rk_fail(err, RK_EINTERNAL,
                       "index image: mapped at an address that is not a multiple of %u", ALIGN);
    }
    RK_ERR(check_header(image, vectors, err));
    RK_ERR(read_sections(image, &sections, err));
    if (image.len <= VERIFY_AT_OPEN_MAX) {
        RK_ERR(verify_sections(image, &sections, err));
    }
    kind = rk_get_u32le(image.data + 12);
    if (kind >= RK__KINDS || !rk__kind_verbs((rk__kind_id)kind)) {
        code = rk_fail(err, RK_ECORRUPT, "index image: kind %u is not part of this build", kind);
        goto out;
    }
    if (!rk__kind_takes((rk__kind_id)kind, vectors->type,
                        (rk_metric)rk_get_u32le(image.data + 16))) {
        code = rk_fail(err, RK_ECORRUPT, "index image: metric %u does not fit kind %u",
                       rk_get_u32le(image.data + 16), kind);
        goto out;
    }
    RK_ERR(rk__index_new(&index, (rk__kind_id)kind, (rk_metric)rk_get_u32le(image.data + 16),
                         vectors, mem, err));
    index->image = image;
    RK_ERR(index->verbs->open(index, &sections, err));
    *out = index;
    index = NULL;
out:
    rk_index_free(index);
    return code;
}
