/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The envelope of column and delta files: header, aligned sections, footer with a checksum per
 * page. docs/formats.md has every byte.
 *
 * A file is written front to back in one pass, without knowing its size before. It is read by
 * mapping it: rk__file_parse() checks header and footer and finds the sections; checksums of pages
 * and the values themselves are checked when first used. Exposed to unit and fuzz tests; otherwise
 * private to this folder.
 */
#ifndef RK_SEGMENT_COLUMN_FILE_H
#define RK_SEGMENT_COLUMN_FILE_H

#include "model/column.h"
#include "storage/object/object.h"

#define RK__FILE_VERSION    1u
#define RK__FILE_HEAD_BYTES 64u
#define RK__FILE_TAIL_BYTES 40u
#define RK__FILE_ALIGN      64u
#define RK__FILE_PAGE_BYTES ((size_t)256 << 10)

typedef enum rk__file_kind { RK__FILE_COLUMN = 1, RK__FILE_DELTAS = 2 } rk__file_kind;

typedef enum rk__section { RK__DATA, RK__OFFSETS, RK__VALID, RK__TIMES, RK__SECTIONS } rk__section;

typedef struct rk__file_head {
    rk__file_kind kind;
    rk_type type;
    rk_type element;
    uint32_t dim;
    uint64_t rows;
    int64_t field_id;
    int64_t owner_id; /* segment */
} rk__file_head;

typedef struct rk__file_writer {
    rk_object_writer *object;
    uint8_t *page; /* RK__FILE_PAGE_BYTES */
    size_t page_len;
    uint64_t size_bytes;
    int section; /* open one, -1: none */
    uint64_t from[RK__SECTIONS], len[RK__SECTIONS];
    uint32_t *crcs;
    size_t pages, pages_cap;
} rk__file_writer;

RK_MUST_CHECK rk_code rk__file_begin(rk__file_writer *w, const rk__file_head *head,
                                     const char *name, rk_object_store *store, rk_err *err);
RK_MUST_CHECK rk_code rk__file_section(rk__file_writer *w, rk__section section, rk_err *err);
RK_MUST_CHECK rk_code rk__file_put(rk__file_writer *w, const void *data, size_t len, rk_err *err);
/* Footer, commit. Frees |w|'s memory in any case. */
RK_MUST_CHECK rk_code rk__file_end(rk__file_writer *w, uint64_t *size_bytes, rk_err *err);
void rk__file_abort(rk__file_writer *w); /* also after a failed begin, or twice */

typedef struct rk__file {
    rk__file_head head;
    rk_str sections[RK__SECTIONS]; /* data NULL: absent */
    const uint8_t *bytes;
    uint64_t footer_at;
    size_t page_bytes, pages;
    const uint8_t *crcs;
    char *name;          /* owned, for messages; by rk__file_open() */
    rk_object_view view; /* owned; by rk__file_open() */
} rk__file;

/* Header, footer and section table of |bytes| (64-byte aligned). RK_ECORRUPT names object and
 * offset. */
RK_MUST_CHECK rk_code rk__file_parse(rk__file *f, rk_str bytes, const char *name, rk_err *err);
/* Maps and parses. On failure nothing is held. */
RK_MUST_CHECK rk_code rk__file_open(rk__file *f, const char *name, rk_object_store *store,
                                    rk_err *err);
void rk__file_close(rk__file *f, rk_object_store *store);
/* Checksums of all pages, then that values are well formed for the type: offsets, arrays, sparse
 * rows, booleans. */
RK_MUST_CHECK rk_code rk__file_check(const rk__file *f, rk_err *err);
/* The file as a column of |field|, whose type was compared before. */
rk_column rk__file_column(const rk__file *f, const rk_field *field);

#endif
