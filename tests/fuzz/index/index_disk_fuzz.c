/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile images of DISKANN and AISAQ, mapped and read page by page: an image over fixed data is
 * edited, the checksums of sections, pages and records are made right again (so that the edits
 * reach the code behind them), and it is opened and searched. Nothing may be read outside the
 * image, a hit must be a row that passes the filter, and every channel must be given back.
 *
 * Input: byte 0 kind, byte 1 flags (1: cut the image at an edit's offset, 2: leave checksums as
 * they are, 4: read it page by page), then edits of 5 bytes: u32 offset (modulo the length), value.
 */
#include <stdlib.h>

#include "index/index_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS 900u
#define DIM  16u

typedef struct sample {
    const char *kind;
    rk_metric metric;
    rk_buf image;
} sample;

static sample samples[] = {
    {"DISKANN", RK_METRIC_L2, {0}},
    {"AISAQ", RK_METRIC_IP, {0}},
    {"DISKANN", RK_METRIC_COSINE, {0}},
};

static float rows[ROWS * DIM];

static rk_code
append(void *user, const void *bytes, size_t len, rk_err *err)
{
    RK_UNUSED(err);
    rk_buf_append(user, bytes, len);
    return RK_OK;
}

static void
prepare(void)
{
    uint64_t state = 5;

    rk_kernels_init();
    for (size_t i = 0; i < ROWS * DIM; i++) {
        rows[i] = (float)(rk__random(&state) % 1000) / 100;
    }
    for (size_t i = 0; i < RK_COUNT(samples); i++) {
        rk_build_options options = {.metric = samples[i].metric};
        rk_vectors vectors = {RK_VEC_F32, DIM, ROWS, rows, NULL};
        rk_index *index = NULL;
        if (rk_index_build(&index, rk_str_from(samples[i].kind), &vectors, &options, NULL) !=
                RK_OK ||
            rk_index_save(index, append, &samples[i].image, NULL) != RK_OK) {
            abort();
        }
        rk_index_free(index);
    }
}

/* ---- checksums ---- */

static uint8_t *
section(uint8_t *image, size_t len, uint32_t id, uint64_t *bytes)
{
    uint32_t n = rk_get_u32le(image + 28);

    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *entry = image + 64 + i * 32;
        uint64_t at = rk_get_u64le(entry + 8);
        *bytes = rk_get_u64le(entry + 16);
        if (rk_get_u32le(entry) == id && at <= len && *bytes <= len - at) {
            return image + at;
        }
    }
    *bytes = 0;
    return NULL;
}

/* |crcs| of equal parts of |parts|. */
static void
fix_parts(uint8_t *image, size_t len, uint32_t parts, uint32_t crcs)
{
    uint64_t bytes = 0;
    uint64_t crc_bytes = 0;
    uint8_t *at = section(image, len, parts, &bytes);
    uint8_t *to = section(image, len, crcs, &crc_bytes);
    uint64_t n = crc_bytes / 4;

    for (uint64_t i = 0; at && to && i < n && bytes % n == 0; i++) {
        rk_put_u32le(to + i * 4, rk_crc32c(0, at + i * (bytes / n), bytes / n));
    }
}

static void
fix_checksums(uint8_t *image, size_t len)
{
    uint32_t n = len >= 64 ? rk_get_u32le(image + 28) : 0;

    if (len < 64 || n > RK__SECTIONS_MAX || len < 64 + (size_t)n * 32) {
        return;
    }
    fix_parts(image, len, 84, 85);
    fix_parts(image, len, 83, 86);
    rk_put_u64le(image + 40, len);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *entry = image + 64 + i * 32;
        uint64_t at = rk_get_u64le(entry + 8);
        uint64_t bytes = rk_get_u64le(entry + 16);
        if (at <= len && bytes <= len - at) {
            rk_put_u32le(entry + 4, rk_crc32c(0, image + at, bytes));
        }
    }
    rk_put_u32le(image + 48, 0);
    rk_put_u32le(image + 48, rk_crc32c(0, image, 64 + (size_t)n * 32));
}

/* ---- a page reader over memory: reads are done when they are submitted ---- */

typedef struct memory_pages {
    rk_pages base;
    const uint8_t *image;
    int taken;
} memory_pages;

typedef struct memory_channel {
    rk_page_channel base;
    rk_page_read *done[RK_PAGE_READS_MAX];
    size_t n;
} memory_channel;

static rk_code
take(rk_pages *pages, size_t buffer_bytes, rk_page_channel **out, rk_err *err)
{
    memory_channel *c = rk_alloc_zero(1, sizeof(*c));

    RK_UNUSED(err);
    if (!c) {
        abort();
    }
    c->base.buffer = rk_alloc_aligned(RK_PAGE_BYTES, buffer_bytes);
    c->base.buffer_bytes = buffer_bytes;
    RK_CONTAINER(pages, memory_pages, base)->taken++;
    *out = &c->base;
    return RK_OK;
}

static void
give(rk_pages *pages, rk_page_channel *channel)
{
    rk_free(channel->buffer);
    rk_free(RK_CONTAINER(channel, memory_channel, base));
    RK_CONTAINER(pages, memory_pages, base)->taken--;
}

static rk_code
submit(rk_pages *pages, rk_page_channel *channel, rk_page_read *reads, size_t n, rk_err *err)
{
    memory_channel *c = RK_CONTAINER(channel, memory_channel, base);
    const uint8_t *image = RK_CONTAINER(pages, memory_pages, base)->image;

    for (size_t i = 0; i < n; i++) {
        if (reads[i].offset >= pages->size_bytes) {
            return rk_fail(err, RK_EEOF, "outside");
        }
        if (reads[i].into < channel->buffer ||
            reads[i].into + reads[i].len > channel->buffer + channel->buffer_bytes) {
            abort();
        }
        memcpy(reads[i].into, image + reads[i].offset,
               RK_MIN((uint64_t)reads[i].len, pages->size_bytes - reads[i].offset));
        reads[i].code = RK_OK;
        c->done[c->n++] = &reads[i];
    }
    return RK_OK;
}

static rk_code
wait_for(rk_pages *pages, rk_page_channel *channel, rk_page_read **done, size_t max, size_t *n,
         rk_err *err)
{
    memory_channel *c = RK_CONTAINER(channel, memory_channel, base);

    RK_UNUSED(pages);
    RK_UNUSED(err);
    for (*n = 0; *n < max && c->n > 0; (*n)++) {
        done[*n] = c->done[--c->n];
    }
    return RK_OK;
}

/* ---- searches ---- */

static void
search(const rk_index *index, rk_metric metric, bool range)
{
    rk_arena *arena = rk_arena_new(0);
    rk_bitset filter = {0};

    if (!arena || rk_bitset_init(&filter, ROWS) != RK_OK) {
        abort();
    }
    for (size_t r = 0; r < ROWS; r++) {
        if (r % 5 != 0) {
            rk_bitset_set(&filter, r);
        }
    }
    for (int filtered = 0; filtered < 2; filtered++) {
        rk_search_options options = {.k = 10,
                                     .arena = arena,
                                     .filter = filtered ? &filter : NULL,
                                     .filter_count = filtered ? ROWS - ROWS / 5 : ROWS,
                                     .range = range,
                                     .radius = rk_metric_larger_is_nearer(metric) ? 0.1f : 300.0f};
        rk_hit hits[10];
        uint32_t n = 0;
        if (rk_index_search(index, rows, DIM * 4, &options, hits, &n, NULL) == RK_OK) {
            for (uint32_t i = 0; i < n; i++) {
                if (hits[i].row >= ROWS || (filtered && hits[i].row % 5 == 0)) {
                    abort();
                }
            }
        }
    }
    rk_bitset_deinit(&filter);
    rk_arena_free(arena);
}

static void
open_and_search(const uint8_t *image, size_t len, rk_metric metric, bool by_pages)
{
    rk_vectors shape = {RK_VEC_F32, DIM, ROWS, NULL, NULL};
    memory_pages pages = {
        .base = {.size_bytes = len, .take = take, .give = give, .submit = submit, .wait = wait_for},
        .image = image};
    rk_mem *mem = rk_mem_new(NULL, "fuzz", 0);
    rk_index *index = NULL;
    rk_code code =
        by_pages ? rk_index_open_pages(&index, &pages.base, &shape, mem, NULL)
                 : rk_index_open(&index, (rk_str){(const char *)image, len}, &shape, mem, NULL);

    if (code == RK_OK) {
        RK_KEEP(rk_index_verify(index, NULL, NULL)); /* any answer will do */
        search(index, metric, false);
        search(index, metric, true);
    }
    rk_index_free(index);
    if (pages.taken != 0 || rk_mem_used(mem) != 0) {
        abort();
    }
    rk_mem_free(mem);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready = false;

    if (!ready) {
        prepare();
        ready = true;
    }
    if (size < 2) {
        return 0;
    }
    const sample *s = &samples[data[0] % RK_COUNT(samples)];
    size_t len = s->image.len;
    uint8_t *image = rk_alloc_aligned(64, (len + 63) / 64 * 64);
    if (!image) {
        return 0;
    }
    memcpy(image, s->image.data, len);
    for (size_t at = 2; at + 5 <= size; at += 5) {
        uint32_t offset = rk_get_u32le(data + at) % (uint32_t)s->image.len;
        if (data[1] & 1) {
            len = offset;
            break;
        }
        image[offset] = data[at + 4];
    }
    if (!(data[1] & 2)) {
        fix_checksums(image, len);
    }
    uint8_t *exact = rk_alloc_aligned(64, (len + 63) / 64 * 64 + 64);
    if (exact) { /* its end guarded by the sanitizer */
        memcpy(exact, image, len);
        open_and_search(exact, len, s->metric, (data[1] & 4) != 0);
    }
    rk_free(exact);
    rk_free(image);
    return 0;
}
