/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the envelope of column and delta files front to back: bytes gather in one page buffer,
 * which is summed and handed to the object writer when it is full, so a column of any size needs
 * 256 KiB. The layout is told in column_file.c.
 */
#include "base/util.h"
#include "segment/column_file.h"

static rk_code
flush_page(rk__file_writer *w, rk_err *err)
{
    if (w->page_len == 0) {
        return RK_OK;
    }
    if (w->pages == w->pages_cap) {
        size_t cap = w->pages_cap ? w->pages_cap * 2 : 64;
        uint32_t *crcs = rk_realloc(w->crcs, cap * sizeof(*crcs));
        if (!crcs) {
            return rk_fail(err, RK_ENOMEM, "no memory for the page table of a file");
        }
        w->crcs = crcs;
        w->pages_cap = cap;
    }
    w->crcs[w->pages++] = rk_crc32c(0, w->page, w->page_len);
    size_t len = w->page_len;
    w->page_len = 0;
    return rk_object_write(w->object, w->page, len, err);
}

rk_code
rk__file_put(rk__file_writer *w, const void *data, size_t len, rk_err *err)
{
    const uint8_t *from = data;

    w->size_bytes += len;
    while (len > 0) {
        size_t part = RK_MIN(len, RK__FILE_PAGE_BYTES - w->page_len);
        memcpy(w->page + w->page_len, from, part);
        w->page_len += part;
        from += part;
        len -= part;
        if (w->page_len == RK__FILE_PAGE_BYTES) {
            RK_RET(flush_page(w, err));
        }
    }
    return RK_OK;
}

rk_code
rk__file_begin(rk__file_writer *w, const rk__file_head *head, const char *name,
               rk_object_store *store, rk_err *err)
{
    uint8_t bytes[RK__FILE_HEAD_BYTES] = {0};

    *w = (rk__file_writer){.section = -1};
    w->page = rk_alloc(RK__FILE_PAGE_BYTES);
    if (!w->page) {
        return rk_fail(err, RK_ENOMEM, "no memory to write object %s", name);
    }
    RK_RET(rk_object_writer_open(&w->object, store, name, err));
    memcpy(bytes, "RKCOLUMN", 8);
    rk_put_u32le(bytes + 8, RK__FILE_VERSION);
    rk_put_u32le(bytes + 12, (uint32_t)head->kind);
    rk_put_u32le(bytes + 16, (uint32_t)head->type);
    rk_put_u32le(bytes + 20, (uint32_t)head->element);
    rk_put_u32le(bytes + 24, head->dim);
    rk_put_u64le(bytes + 32, head->rows);
    rk_put_u64le(bytes + 40, (uint64_t)head->field_id);
    rk_put_u64le(bytes + 48, (uint64_t)head->owner_id);
    rk_put_u32le(bytes + RK__FILE_HEAD_BYTES - 4, rk_crc32c(0, bytes, RK__FILE_HEAD_BYTES - 4));
    return rk__file_put(w, bytes, sizeof(bytes), err);
}

static void
close_section(rk__file_writer *w)
{
    if (w->section >= 0) {
        w->len[w->section] = w->size_bytes - w->from[w->section];
    }
    w->section = -1;
}

rk_code
rk__file_section(rk__file_writer *w, rk__section section, rk_err *err)
{
    static const uint8_t zeros[RK__FILE_ALIGN];

    close_section(w);
    RK_RET(rk__file_put(w, zeros,
                        (RK__FILE_ALIGN - w->size_bytes % RK__FILE_ALIGN) % RK__FILE_ALIGN, err));
    w->section = (int)section;
    w->from[section] = w->size_bytes;
    return RK_OK;
}

/* Footer and tail, which no page checksum covers. */
static rk_code
write_footer(rk__file_writer *w, rk_err *err)
{
    uint8_t tail[RK__FILE_TAIL_BYTES];
    rk_buf footer = {0};
    uint64_t footer_at = w->size_bytes;
    rk_code code = RK_OK;

    for (int i = 0; i < RK__SECTIONS; i++) {
        rk_buf_u64le(&footer, w->from[i]);
        rk_buf_u64le(&footer, w->len[i]);
    }
    for (size_t i = 0; i < w->pages; i++) {
        rk_buf_u32le(&footer, w->crcs[i]);
    }
    w->size_bytes += footer.len + sizeof(tail);
    rk_put_u64le(tail, footer_at);
    rk_put_u64le(tail + 8, w->size_bytes);
    rk_put_u32le(tail + 16, (uint32_t)RK__FILE_PAGE_BYTES);
    rk_put_u32le(tail + 20, (uint32_t)w->pages);
    rk_put_u32le(tail + 24, 0);
    memcpy(tail + 32, "RKCOLEND", 8);
    rk_put_u32le(tail + 28, rk_crc32c(rk_crc32c(0, footer.data, footer.len), tail, 28));
    rk_buf_append(&footer, tail, sizeof(tail));
    if (footer.failed) {
        code = rk_fail(err, RK_ENOMEM, "no memory for the footer of a file");
    } else {
        code = rk_object_write(w->object, footer.data, footer.len, err);
    }
    rk_buf_deinit(&footer);
    return code;
}

rk_code
rk__file_end(rk__file_writer *w, uint64_t *size_bytes, rk_err *err)
{
    rk_object_writer *object = w->object;
    rk_code code = RK_OK;

    close_section(w);
    RK_ERR(flush_page(w, err));
    RK_ERR(write_footer(w, err));
    w->object = NULL; /* freed by commit, in any case */
    RK_ERR(rk_object_commit(object, err));
    *size_bytes = w->size_bytes;
out:
    rk__file_abort(w);
    return code;
}

void
rk__file_abort(rk__file_writer *w)
{
    rk_object_abort(w->object);
    rk_free(w->page);
    rk_free(w->crcs);
    *w = (rk__file_writer){.section = -1};
}
