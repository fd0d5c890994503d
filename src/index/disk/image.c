/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DISKANN and AISAQ on disk. Sections:
 *
 *   80 header, 16 u32: planes, lists, low and high half of the rotation's seed, f32 probe[0] and
 *      probe[1], the rest zero
 *   81 centres, f32, lists * dim
 *   82 starts, u32, lists + 1: position of the first row of each list; the last is the row count
 *   83 records: of each list ceil(its rows / 32), each u32 row * 32 (0xffffffff: none, or a row
 * with NaN), bf16 add * 32, bf16 mul * 32, then the codes of the 32 rows, see kernel/bits.h: dim
 * rounded up to 64, times planes 84 pages, at a multiple of 4096: the vectors by position; as many
 * as fit whole in 4096 bytes, then zeros; a larger vector starts a page 85 CRC32C of each page (or
 * of the pages of a large vector), u32 86 AISAQ: CRC32C of each record, u32
 *
 * Through a page reader sections 80, 81, 82, 85, 86 and for DISKANN 83 are loaded, checked and
 * charged to the budget; pages, and the records of AISAQ, are read by searches.
 */
#include <stdatomic.h>

#include "index/disk/disk.h"

#define VERIFY_BYTES ((size_t)1 << 20)

enum { HEADER = 80, CENTRES, STARTS, RECORDS, PAGES, PAGE_CRCS, RECORD_CRCS };

void
rk__disk_shape(rk__disk *disk, const rk__space *space, uint32_t planes, uint64_t seed)
{
    disk->planes = planes;
    disk->rotation = rk__rotation_of(space->dim, seed);
    disk->code_dims = planes * disk->rotation.padded;
    disk->record_bytes = RK__DISK_FACTORS + rk__bits_block_bytes(disk->code_dims);
    disk->unit_rows = (uint32_t)RK_MAX(RK_PAGE_BYTES / space->row_bytes, (size_t)1);
    disk->unit_bytes = (space->row_bytes + RK_PAGE_BYTES - 1) / RK_PAGE_BYTES * RK_PAGE_BYTES;
    disk->units = (space->rows + disk->unit_rows - 1) / disk->unit_rows;
}

rk_code
rk__disk_derive(rk_index *index, rk__disk *disk, rk_err *err)
{
    bool squares = index->space.metric != RK_METRIC_L2;
    size_t dim = index->space.dim;

    RK_RET(rk__index_reserve(index, ((uint64_t)disk->nlist + 1 + dim) * sizeof(uint32_t) * 2,
                             "disk index lists", err));
    disk->first_records = rk_alloc_zero((size_t)disk->nlist + 1, sizeof(uint32_t));
    disk->centre_squares = squares ? rk_alloc_zero((size_t)disk->nlist + 1, sizeof(float)) : NULL;
    disk->mean = rk_alloc_zero(dim, sizeof(float));
    if (!disk->first_records || !disk->mean || (squares && !disk->centre_squares)) {
        return rk_fail(err, RK_ENOMEM, "disk index: no memory for %u lists", disk->nlist);
    }
    for (uint32_t c = 0; c < disk->nlist; c++) {
        if (disk->starts[c] > disk->starts[c + 1]) {
            return rk_fail(err, RK_ECORRUPT,
                           "disk index image: list %u starts at row %u, ends at %u", c,
                           disk->starts[c], disk->starts[c + 1]);
        }
        disk->first_records[c + 1] = disk->first_records[c] + rk__disk_list_records(disk, c);
        const float *centre = disk->centres + c * dim;
        for (size_t i = 0; i < dim; i++) {
            disk->mean[i] += centre[i] / (float)disk->nlist;
        }
        if (squares) {
            disk->centre_squares[c] = rk__kernels_get()->dense[RK__F32].ip(centre, centre, dim);
        }
    }
    if (disk->starts[0] != 0 || disk->starts[disk->nlist] != index->space.rows) {
        return rk_fail(err, RK_ECORRUPT, "disk index image: its lists hold rows %u to %u of %zu",
                       disk->starts[0], disk->starts[disk->nlist], index->space.rows);
    }
    return RK_OK;
}

void
rk__disk_seal(rk__disk *disk)
{
    uint32_t *head = disk->image_head;

    head[0] = disk->planes;
    head[1] = disk->nlist;
    head[2] = (uint32_t)disk->rotation.seed;
    head[3] = (uint32_t)(disk->rotation.seed >> 32);
    memcpy(&head[4], disk->probe, sizeof(disk->probe));
}

/* ---- save ---- */

void
rk__disk_fill_unit(const rk_index *index, const rk__disk *disk, uint64_t unit, uint8_t *out)
{
    const rk__space *space = &index->space;
    size_t first = unit * disk->unit_rows;
    size_t n = RK_MIN((size_t)disk->unit_rows, space->rows - first);

    memset(out, 0, disk->unit_bytes);
    for (size_t i = 0; i < n; i++) {
        memcpy(out + i * space->row_bytes, rk__space_row(space, disk->order[first + i]),
               space->row_bytes);
    }
}

static rk_code
produce_pages(const rk_index *index, rk_write_fn write, void *user, rk_err *err)
{
    const rk__disk *disk = index->impl;
    uint8_t *unit = rk_alloc(disk->unit_bytes);
    rk_code code = RK_OK;

    if (!unit) {
        return rk_fail(err, RK_ENOMEM, "disk index: no memory to write a page");
    }
    for (uint64_t u = 0; u < disk->units && code == RK_OK; u++) {
        rk__disk_fill_unit(index, disk, u, unit);
        code = write(user, unit, disk->unit_bytes, err);
    }
    rk_free(unit);
    return code;
}

static rk_code
produce_nothing(const rk_index *index, rk_write_fn write, void *user, rk_err *err)
{
    RK_UNUSED(index);
    RK_UNUSED(write);
    RK_UNUSED(user);
    return rk_fail(err, RK_EINTERNAL, "a disk index opened by pages cannot be saved again");
}

static void
disk_sections(const rk_index *index, rk__sections *out)
{
    const rk__disk *disk = index->impl;
    uint64_t records = disk->first_records[disk->nlist];

    rk__sections_add(out, HEADER, disk->image_head, sizeof(disk->image_head));
    rk__sections_add(out, CENTRES, disk->centres,
                     (uint64_t)disk->nlist * index->space.dim * sizeof(float));
    rk__sections_add(out, STARTS, disk->starts, ((uint64_t)disk->nlist + 1) * sizeof(uint32_t));
    rk__sections_add(out, PAGE_CRCS, disk->page_crcs, disk->units * sizeof(uint32_t));
    if (disk->record_crcs) {
        rk__sections_add(out, RECORD_CRCS, disk->record_crcs, records * sizeof(uint32_t));
    }
    rk__sections_add(out, RECORDS, disk->records, records * disk->record_bytes);
    rk__sections_add(out, PAGES, disk->pages, disk->units * disk->unit_bytes);
    out->items[out->n - 1].align = RK_PAGE_BYTES;
    if (!disk->pages) {
        out->items[out->n - 1].produce = disk->order ? produce_pages : produce_nothing;
        out->items[out->n - 1].crc = disk->pages_crc;
    }
}

/* ---- open ---- */

/* The section in the mapping, or read into memory of our own. */
static rk_code
load(rk_index *index, rk__disk *disk, const rk__sections *sections, uint32_t id, uint64_t len,
     const void **out, rk_err *err)
{
    const rk__section *section = NULL;
    void *data;

    *out = NULL;
    RK_RET(rk__sections_find(sections, id, len, &section, err));
    if (section->data) {
        *out = section->data;
        return RK_OK;
    }
    RK_RET(rk__index_reserve(index, section->len, "disk index in memory", err));
    /* not on huge pages: what their last one holds beyond the section would go uncharged */
    data = rk_alloc_aligned(64, (section->len + 64) / 64 * 64);
    disk->owned[id - CENTRES] = data;
    if (!data) {
        return rk_fail(err, RK_ENOMEM, "disk index: no memory for %llu bytes of section %u",
                       (unsigned long long)section->len, id);
    }
    RK_RET(rk_pages_read(index->pages, section->offset, data, section->len, err));
    if (rk_crc32c(0, data, section->len) != section->crc) {
        return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of section %u at offset %llu",
                       id, (unsigned long long)section->offset);
    }
    *out = data;
    return RK_OK;
}

static rk_code
open_header(rk_index *index, rk__disk *disk, const rk__sections *sections, rk_err *err)
{
    const rk__section *section = NULL;
    uint32_t *head = disk->image_head;

    RK_RET(rk__sections_find(sections, HEADER, sizeof(disk->image_head), &section, err));
    if (section->data) {
        memcpy(head, section->data, sizeof(disk->image_head));
    } else {
        RK_RET(rk_pages_read(index->pages, section->offset, head, sizeof(disk->image_head), err));
        if (rk_crc32c(0, head, sizeof(disk->image_head)) != section->crc) {
            return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of section %d", HEADER);
        }
    }
    memcpy(disk->probe, &head[4], sizeof(disk->probe));
    disk->nlist = head[1];
    if (head[0] < 1 || head[0] > RK__DISK_PLANES_MAX || head[1] > index->space.rows ||
        (head[1] == 0 && index->space.rows > 0) || !isfinite(disk->probe[0]) ||
        !isfinite(disk->probe[1])) {
        return rk_fail(err, RK_ECORRUPT, "disk index image: %u planes, %u lists of %zu rows",
                       head[0], head[1], index->space.rows);
    }
    rk__disk_shape(disk, &index->space, head[0], (uint64_t)head[3] << 32 | head[2]);
    if (disk->code_dims / 4 > RK__DISK_GROUPS_MAX) {
        return rk_fail(err, RK_ECORRUPT, "disk index image: %u planes of %u components", head[0],
                       disk->rotation.padded);
    }
    return RK_OK;
}

static rk_code
open_disk(rk_index *index, rk__disk *disk, const rk__sections *sections, rk_err *err)
{
    const rk__section *pages = NULL;
    const rk__section *records = NULL;
    const void *at = NULL;
    uint64_t n_records;

    RK_RET(open_header(index, disk, sections, err));
    RK_RET(load(index, disk, sections, CENTRES,
                (uint64_t)disk->nlist * index->space.dim * sizeof(float), &at, err));
    disk->centres = at;
    RK_RET(load(index, disk, sections, STARTS, ((uint64_t)disk->nlist + 1) * sizeof(uint32_t), &at,
                err));
    disk->starts = at;
    RK_RET(rk__disk_derive(index, disk, err));
    n_records = disk->first_records[disk->nlist];
    RK_RET(load(index, disk, sections, PAGE_CRCS, disk->units * sizeof(uint32_t), &at, err));
    disk->page_crcs = at;
    RK_RET(rk__sections_find(sections, RECORDS, n_records * disk->record_bytes, &records, err));
    disk->records_offset = records->offset;
    if (index->kind == RK__KIND_AISAQ) {
        RK_RET(load(index, disk, sections, RECORD_CRCS, n_records * sizeof(uint32_t), &at, err));
        disk->record_crcs = at;
        disk->records = records->data;
    } else {
        RK_RET(load(index, disk, sections, RECORDS, records->len, &at, err));
        disk->records = at;
    }
    RK_RET(rk__sections_find(sections, PAGES, disk->units * disk->unit_bytes, &pages, err));
    disk->pages = pages->data;
    disk->pages_offset = pages->offset;
    if (pages->offset % RK_PAGE_BYTES != 0) {
        return rk_fail(err, RK_ECORRUPT, "index image: pages at offset %llu, no multiple of %u",
                       (unsigned long long)pages->offset, RK_PAGE_BYTES);
    }
    return RK_OK;
}

static rk_code
disk_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__disk *disk = rk_alloc_zero(1, sizeof(*disk));

    if (!disk) {
        return rk_fail(err, RK_ENOMEM, "disk index: no memory for its header");
    }
    index->impl = disk;
    return open_disk(index, disk, sections, err);
}

/* ---- verify ---- */

/* Reads |n| checksummed things of |bytes| each from |offset|. */
static rk_code
verify_run(const rk_index *index, uint64_t offset, uint64_t n, size_t bytes, const uint32_t *crcs,
           const char *what, const _Atomic(bool) *cancel, rk_err *err)
{
    uint64_t per_read = RK_MAX(VERIFY_BYTES / bytes, (size_t)1);
    uint8_t *buffer = rk_alloc(per_read * bytes);
    rk_code code = RK_OK;

    if (!buffer) {
        return rk_fail(err, RK_ENOMEM, "disk index: no memory to verify it");
    }
    for (uint64_t i = 0; i < n && code == RK_OK; i++) {
        const uint8_t *at = buffer + i % per_read * bytes;
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            code = rk_fail(err, RK_ECANCELLED, "index image: the check was cancelled");
        } else if (at == buffer) {
            code = rk_pages_read(index->pages, offset + i * bytes, buffer,
                                 RK_MIN(per_read, n - i) * bytes, err);
        }
        if (code == RK_OK && rk_crc32c(0, at, bytes) != crcs[i]) {
            code = rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of the %s at offset %llu",
                           what, (unsigned long long)(offset + i * bytes));
        }
    }
    rk_free(buffer);
    return code;
}

static rk_code
disk_verify(const rk_index *index, const _Atomic(bool) *cancel, rk_err *err)
{
    const rk__disk *disk = index->impl;

    if (!disk->records) {
        RK_RET(verify_run(index, disk->records_offset, disk->first_records[disk->nlist],
                          disk->record_bytes, disk->record_crcs, "codes", cancel, err));
    }
    return verify_run(index, disk->pages_offset, disk->units, disk->unit_bytes, disk->page_crcs,
                      "page", cancel, err);
}

static void
disk_free(rk_index *index)
{
    rk__disk *disk = index->impl;

    if (!disk) {
        return;
    }
    for (size_t i = 0; i < RK_COUNT(disk->owned); i++) {
        rk_free(disk->owned[i]);
    }
    rk_free(disk->first_records);
    rk_free(disk->centre_squares);
    rk_free(disk->mean);
    rk_free(disk);
}

const rk__verbs rk__disk_verbs = {
    .build = rk__disk_build,
    .search = rk__disk_search,
    .sections = disk_sections,
    .open = disk_open,
    .verify = disk_verify,
    .free = disk_free,
};
