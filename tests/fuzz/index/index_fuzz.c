/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile index images: the input picks a kind and a list of edits; an image of that kind over
 * fixed data is edited, its checksums are made right again (so that the edits reach the kinds), and
 * it is opened and searched. Whatever the edits, nothing may be read outside the image and a hit
 * must be a row that passes the filter.
 *
 * Input: byte 0 kind, byte 1 flags (1: cut the image at an edit's offset, 2: leave checksums as
 * they are), then edits of 5 bytes: u32 offset (modulo the length), value.
 */
#include <stdlib.h>

#include "index/index_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS 1400u
#define DIM  16u

typedef struct sample {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    rk_buf image;
    rk_vectors vectors;
} sample;

static sample samples[] = {
    {"FLAT", RK_VEC_F32, RK_METRIC_COSINE, {0}, {0}},
    {"HNSW", RK_VEC_F32, RK_METRIC_COSINE, {0}, {0}},
    {"HNSW", RK_VEC_I8, RK_METRIC_L2, {0}, {0}},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_IP, {0}, {0}},
    {"BIN_IVF_FLAT", RK_VEC_BINARY, RK_METRIC_JACCARD, {0}, {0}},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, {0}, {0}},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, {0}, {0}},
    {"SPARSE_WAND", RK_VEC_SPARSE, RK_METRIC_IP, {0}, {0}}, /* TAAT_NAIVE */
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, {0}, {0}},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_COSINE, {0}, {0}},
    {"IVF_PQ", RK_VEC_F32, RK_METRIC_L2, {0}, {0}},
    {"SCANN", RK_VEC_F32, RK_METRIC_IP, {0}, {0}},
    {"HNSW_SQ", RK_VEC_F32, RK_METRIC_COSINE, {0}, {0}},
    {"HNSW_PRQ", RK_VEC_I8, RK_METRIC_L2, {0}, {0}},
    {"IVF_RABITQ", RK_VEC_F32, RK_METRIC_L2, {0}, {0}},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_COSINE, {0}, {0}}, /* made a graph with clusters */
};

static uint8_t dense[ROWS * DIM * 4];
static uint64_t offsets[ROWS + 1];

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
    static uint8_t sparse[ROWS * 32];
    uint64_t state = 5;

    rk_kernels_init();
    for (size_t i = 0; i < ROWS * DIM; i++) {
        float v = (float)(rk__random(&state) % 1000) / 100;
        memcpy(dense + i * 4, &v, 4);
    }
    memcpy(dense + 900 * DIM * 4, dense, (size_t)100 * DIM * 4); /* equal rows: chains */
    for (size_t r = 0; r < ROWS; r++) {
        for (uint32_t i = 0; i < 4; i++) {
            float v = (float)(rk__random(&state) % 100);
            rk_put_u32le(sparse + r * 32 + i * 8, i * 50 + (uint32_t)(rk__random(&state) % 50));
            memcpy(sparse + r * 32 + i * 8 + 4, &v, 4);
        }
        offsets[r + 1] = (r + 1) * 32;
    }
    for (size_t i = 0; i < RK_COUNT(samples); i++) {
        sample *s = &samples[i];
        rk_param params[5] = {
            {RK_STR("inverted_index_algo"),
             rk_str_from(strcmp(s->kind, "SPARSE_WAND") == 0 ? "TAAT_NAIVE" : "BLOCK_MAX_WAND")},
            {RK_STR("mh_lsh_band"), RK_STR("5")},
            {RK_STR("m"), RK_STR("4")},
            {RK_STR("refine"), RK_STR("true")},
            {RK_STR("refine_type"), RK_STR("SQ6")}};
        rk_build_options options = {.metric = s->metric, .params = {params, RK_COUNT(params)}};
        rk_index *index = NULL;
        uint32_t dim = s->type == RK_VEC_SPARSE ? 0 : s->type == RK_VEC_BINARY ? DIM * 8 : DIM;
        s->vectors =
            (rk_vectors){s->type, dim, ROWS, s->type == RK_VEC_SPARSE ? sparse : dense, offsets};
        bool automatic = strcmp(s->kind, "AUTOINDEX") == 0;
        options.params.n = automatic ? 0 : RK_COUNT(params);
        if (rk_index_build(&index, rk_str_from(s->kind), &s->vectors, &options, NULL) != RK_OK ||
            (automatic && rk__auto_take_graph(index, &options, NULL) != RK_OK) ||
            rk_index_save(index, append, &s->image, NULL) != RK_OK) {
            abort();
        }
        rk_index_free(index);
    }
}

static void
fix_checksums(uint8_t *image, size_t len)
{
    uint32_t n = len >= 64 ? rk_get_u32le(image + 28) : 0;

    if (len < 64 || n > RK__SECTIONS_MAX || len < 64 + (size_t)n * 32) {
        return;
    }
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

static bool
passes(unsigned filtered, size_t row)
{
    return filtered == 0 || (row % 5 == 0) == (filtered == 2);
}

static void
search(const rk_index *index, const sample *s, bool range)
{
    rk_arena *arena = rk_arena_new(0);
    rk_bitset filter = {0};
    uint8_t query[64];
    size_t len = s->type == RK_VEC_SPARSE ? 32 : rk_vector_bytes(s->type, s->vectors.dim);
    rk_param ef = {RK_STR("ef"), RK_STR("12")};

    if (!arena || rk_bitset_init(&filter, ROWS) != RK_OK) {
        abort();
    }
    memcpy(query, s->vectors.data, len);
    for (unsigned filtered = 0; filtered < 3; filtered++) { /* none, 80 % pass, 20 % pass */
        for (size_t r = 0; r < ROWS; r++) {
            (passes(filtered, r) ? rk_bitset_set : rk_bitset_clear)(&filter, r);
        }
        rk_search_options options = {.k = 10,
                                     .params = {&ef, filtered ? 0u : 1u},
                                     .arena = arena,
                                     .filter = filtered ? &filter : NULL,
                                     .filter_count = filtered == 2 ? ROWS / 5 : ROWS - ROWS / 5,
                                     .range = range,
                                     .radius =
                                         rk_metric_larger_is_nearer(s->metric) ? 0.1f : 100.0f};
        rk_hit hits[10];
        uint32_t n = 0;
        if (rk_index_search(index, query, len, &options, hits, &n, NULL) == RK_OK) {
            for (uint32_t i = 0; i < n; i++) {
                if (hits[i].row >= ROWS || !passes(filtered, hits[i].row)) {
                    abort();
                }
            }
        }
    }
    rk_bitset_deinit(&filter);
    rk_arena_free(arena);
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
    rk_index *index = NULL;
    uint8_t *exact =
        rk_alloc_aligned(64, (len + 63) / 64 * 64 + 64); /* its end guarded by the sanitizer */
    if (exact) {
        memcpy(exact, image, len);
        if (rk_index_open(&index, (rk_str){(const char *)exact, len}, &s->vectors, NULL, NULL) ==
            RK_OK) {
            bool sound = rk_index_verify(index, NULL, NULL) == RK_OK;
            if (!sound && s->image.len <= (64u << 20)) {
                abort(); /* small images are verified when they are opened */
            }
            search(index, s, false);
            search(index, s, true);
        }
        rk_index_free(index);
    }
    rk_free(exact);
    rk_free(image);
    return 0;
}
