/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MINHASH_LSH and the metric MHJACCARD. A binary vector is read as a run of hashes of
 * mh_element_bit_width bits; two sets that agree in a share of their hashes have about that Jaccard
 * similarity (Broder 1997). The hashes are cut into mh_lsh_band bands of equal length (what is left
 * over belongs to none). A row is a hit when it shares at least one whole band with the query
 * (Indyk and Motwani 1998); its score is 1, or with mh_search_with_jaccard the share of equal
 * hashes. Rows without a shared band are never hits, in the index and in the scan of rows that have
 * none alike, so that results do not change when an index is ready.
 *
 * The index holds for each band the rows sorted by a 32-bit hash of the band's bytes; a search
 * looks the query's up (hashes are even: interpolation finds them in a few steps) and compares the
 * bytes themselves, so that a collision is no hit. All rows that share a band are scored: refine_k
 * has nothing to add. The vectors are borrowed. 8 bytes a row and band.
 *
 * Sections: 60 width and bands (u32 each), 61 hashes, 62 rows (u32 each, bands * rows). Build: a
 * radix sort per band, bands in parallel.
 */
#include "index/minhash.h"

#include <stdatomic.h>

enum { SECTION_SHAPE = 60, SECTION_HASHES = 61, SECTION_ROWS = 62 };

typedef struct minhash_index {
    rk__minhash shape;
    const uint32_t *hashes; /* bands * rows, ascending per band */
    const uint32_t *rows;   /* the row of a hash, ascending where hashes are equal */
    void *owned[2];         /* what a build allocated; NULL when mapped */
} minhash_index;

static uint32_t
hash_band(const uint8_t *band, size_t size_bytes)
{
    uint64_t hash = size_bytes;

    for (; size_bytes >= 8; size_bytes -= 8, band += 8) {
        hash = rk_hash_u64(hash ^ rk_get_u64le(band));
    }
    for (; size_bytes > 0; size_bytes--, band++) {
        hash = rk_hash_u64(hash << 8 ^ *band);
    }
    return (uint32_t)(hash >> 32);
}

static bool
shape_init(rk__minhash *shape, uint32_t dim, int64_t width, int64_t bands)
{
    if (width < 8 || width > 256 || width % 8 != 0 || dim / width < 1 || bands < 1 ||
        bands > dim / width) {
        return false;
    }
    shape->width_bytes = (uint32_t)width / 8;
    shape->hashes = dim / (uint32_t)width;
    shape->bands = (uint32_t)bands;
    shape->band_bytes = shape->hashes / shape->bands * shape->width_bytes;
    return true;
}

rk_code
rk__minhash_init(rk__minhash *shape, uint32_t dim, rk_params params, rk_err *err)
{
    int64_t width = rk__param_int(params, "mh_element_bit_width", 8, INT32_MIN, INT32_MAX);
    int64_t bands = rk__param_int(params, "mh_lsh_band", 1, INT32_MIN, INT32_MAX);

    if (!shape_init(shape, dim, width, bands)) {
        return rk_fail(
            err, RK_EINVAL,
            "minhash: %lld bands of hashes of %lld bits do not fit a vector of %u bits; "
            "the width is a multiple of 8 up to 256, bands are at most as many as hashes",
            (long long)bands, (long long)width, dim);
    }
    return RK_OK;
}

bool
rk__minhash_meets(const rk__minhash *shape, const uint8_t *a, const uint8_t *b)
{
    for (size_t band = 0; band < shape->bands; band++) {
        size_t at = band * shape->band_bytes;
        if (memcmp(a + at, b + at, shape->band_bytes) == 0) {
            return true;
        }
    }
    return false;
}

/* Equal hashes; the width is a constant where it is inlined. */
static inline uint32_t
count_equal(const uint8_t *a, const uint8_t *b, uint32_t n, size_t width)
{
    uint32_t equal = 0;

    for (uint32_t i = 0; i < n; i++) {
        equal += memcmp(a + i * width, b + i * width, width) == 0;
    }
    return equal;
}

float
rk__minhash_share(const rk__minhash *shape, const uint8_t *a, const uint8_t *b)
{
    uint32_t n = shape->hashes;
    uint32_t equal = 0;

    switch (shape->width_bytes) {
    case 1:
        equal = count_equal(a, b, n, 1);
        break;
    case 2:
        equal = count_equal(a, b, n, 2);
        break;
    case 4:
        equal = count_equal(a, b, n, 4);
        break;
    case 8:
        equal = count_equal(a, b, n, 8);
        break;
    default:
        equal = count_equal(a, b, n, shape->width_bytes);
        break;
    }
    return (float)equal / (float)n;
}

bool
rk__minhash_wants_share(rk_params params)
{
    rk_str text = rk_str_trim(rk_params_get(params, "mh_search_with_jaccard"));

    return text.data && (rk_str_is(text, "true") || rk_str_is(text, "True") ||
                         rk_str_is(text, "TRUE") || rk_str_is(text, "1"));
}

/* ---- rows without an index ---- */

rk_code
rk__minhash_scan(const rk_vectors *vectors, size_t row_base, const void *query, size_t query_len,
                 const rk_search_options *options, const rk__range *range, rk__heap *heap,
                 rk_err *err)
{
    size_t row_bytes = rk_vector_bytes(vectors->type, vectors->dim);
    bool share = rk__minhash_wants_share(options->params);
    rk__minhash shape;

    if (query_len != row_bytes) {
        return rk_fail(err, RK_EINVAL, "query vector has %zu bytes, a row of dimension %u has %zu",
                       query_len, vectors->dim, row_bytes);
    }
    RK_RET(rk__minhash_init(&shape, vectors->dim, options->params, err));
    for (size_t row = 0; row < vectors->rows; row++) {
        const uint8_t *at = (const uint8_t *)vectors->data + row * row_bytes;
        if ((options->filter && !rk_bitset_get(options->filter, row_base + row)) ||
            !rk__minhash_meets(&shape, query, at)) {
            continue;
        }
        float key = share ? -rk__minhash_share(&shape, query, at) : -1.0f;
        if (!range->on || rk__in_range(range, key)) {
            rk__heap_push(heap, key, (uint32_t)(row_base + row));
        }
    }
    return RK_OK;
}

/* ---- build ---- */

typedef struct minhash_build {
    const rk_index *index;
    const rk_build_options *options;
    const minhash_index *m;
    _Atomic(bool) failed;
    _Atomic(uint64_t) bands_done;
} minhash_build;

/* Ascending by the upper half, rows in order where it is equal: least significant byte first. */
static uint64_t *
sort_by_hash(uint64_t *items, uint64_t *spare, size_t n)
{
    for (unsigned shift = 32; shift < 64; shift += 8) {
        size_t counts[257] = {0};
        uint64_t *swap = items;
        for (size_t i = 0; i < n; i++) {
            counts[(items[i] >> shift & 0xff) + 1]++;
        }
        for (size_t i = 1; i < 256; i++) {
            counts[i] += counts[i - 1];
        }
        for (size_t i = 0; i < n; i++) {
            spare[counts[items[i] >> shift & 0xff]++] = items[i];
        }
        items = spare;
        spare = swap;
    }
    return items; /* an even number of passes: where they came from */
}

static void
build_band(void *arg, size_t band)
{
    minhash_build *b = arg;
    const rk__space *space = &b->index->space;
    size_t n = space->rows;
    uint32_t *hashes = (uint32_t *)b->m->owned[0] + band * n;
    uint32_t *rows = (uint32_t *)b->m->owned[1] + band * n;
    uint64_t *items = NULL;

    if (b->failed || rk__cancelled(b->options)) {
        return;
    }
    items = rk__alloc_huge((n * 2 + 1) * sizeof(*items));
    if (!items) {
        b->failed = true;
        return;
    }
    for (size_t row = 0; row < n; row++) {
        const uint8_t *at =
            (const uint8_t *)rk__space_row(space, row) + band * b->m->shape.band_bytes;
        items[row] = (uint64_t)hash_band(at, b->m->shape.band_bytes) << 32 | row;
    }
    const uint64_t *sorted = sort_by_hash(items, items + n, n);
    for (size_t i = 0; i < n; i++) {
        hashes[i] = (uint32_t)(sorted[i] >> 32);
        rows[i] = (uint32_t)sorted[i];
    }
    rk_free(items);
    uint64_t done = atomic_fetch_add(&b->bands_done, 1) + 1;
    if (b->options->rows_done) {
        *b->options->rows_done = n * done / b->m->shape.bands;
    }
}

static rk_code
minhash_build_index(rk_index *index, const rk_build_options *options, rk_err *err)
{
    minhash_index *m = rk_alloc_zero(1, sizeof(*m));
    minhash_build b = {.index = index, .options = options, .m = m};
    size_t rows = index->space.rows;
    uint64_t scratch = 0;

    if (!m) {
        return rk_fail(err, RK_ENOMEM, "minhash index: no memory for its header");
    }
    index->impl = m;
    RK_RET(rk__minhash_init(&m->shape, index->vectors.dim, options->params, err));
    uint64_t bytes = (uint64_t)rows * m->shape.bands * sizeof(uint32_t);
    for (size_t i = 0; i < RK_COUNT(m->owned); i++) {
        RK_RET(rk__index_reserve(index, bytes, "minhash index", err));
        m->owned[i] = rk__alloc_huge(RK_MAX(bytes, (uint64_t)64));
        if (!m->owned[i]) {
            return rk_fail(err, RK_ENOMEM, "minhash index: no memory for %llu bytes",
                           (unsigned long long)bytes);
        }
    }
    m->hashes = m->owned[0];
    m->rows = m->owned[1];
    scratch = (uint64_t)rows * 16 * (options->parallel ? options->parallel->width : 1);
    RK_RET(rk__index_reserve(index, scratch, "minhash index build", err));
    rk__parallel_run(options->parallel, m->shape.bands, build_band, &b);
    rk__index_release(index, scratch);
    if (rk__cancelled(options)) {
        return rk_fail(err, RK_ECANCELLED, "minhash index: build cancelled after %llu of %u bands",
                       (unsigned long long)b.bands_done, m->shape.bands);
    }
    if (b.failed) {
        return rk_fail(err, RK_ENOMEM, "minhash index: no memory to sort %zu rows", rows);
    }
    if (options->rows_done) {
        *options->rows_done = rows;
    }
    return RK_OK;
}

/* ---- search ---- */

/* The first place in |hashes| that is not below |hash|; hashes are spread evenly. */
static size_t
first_at(const uint32_t *hashes, size_t n, uint32_t hash)
{
    size_t low = 0;
    size_t high = n;

    for (unsigned step = 0; low < high; step++) {
        size_t at = low + (high - low) / 2;
        if (step < 4) { /* then halves: an image may hold anything */
            at = low + (size_t)((uint64_t)(high - low) * hash >> 32);
            if (step > 0) {
                uint64_t least = hashes[low];
                uint64_t most = hashes[high - 1];
                at = hash <= least  ? low
                     : hash >= most ? high - 1
                     : most == least
                         ? low
                         : low + (size_t)((high - 1 - low) * (hash - least) / (most - least));
            }
        }
        if (hashes[at] < hash) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return low;
}

static rk_code
minhash_search(const rk_index *index, const rk__query *query, const rk_search_options *options,
               rk__heap *heap, rk_err *err)
{
    const minhash_index *m = index->impl;
    const rk__minhash *shape = &m->shape;
    const uint8_t *q = query->data;
    rk__range range = rk__range_of(RK_METRIC_MHJACCARD, options);
    bool share = rk__minhash_wants_share(options->params);
    size_t n = index->space.rows;
    uint64_t *seen = rk_arena_zero(options->arena, rk_bitset_words(n) + 1, sizeof(*seen));

    if (!seen) {
        return rk_fail(err, RK_ENOMEM, "minhash search: no memory for %zu rows", n);
    }
    for (size_t band = 0; band < shape->bands; band++) {
        const uint32_t *hashes = m->hashes + band * n;
        const uint32_t *rows = m->rows + band * n;
        size_t offset = band * shape->band_bytes;
        uint32_t hash = hash_band(q + offset, shape->band_bytes);
        for (size_t i = first_at(hashes, n, hash); i < n && hashes[i] == hash; i++) {
            uint32_t row = rows[i];
            if (row >= n || (seen[row / 64] >> row % 64 & 1) || /* images are not trusted */
                (options->filter && !rk_bitset_get(options->filter, row))) {
                continue;
            }
            const uint8_t *at = rk__space_row(&index->space, row);
            if (memcmp(at + offset, q + offset, shape->band_bytes) != 0) {
                continue;
            }
            seen[row / 64] |= UINT64_C(1) << row % 64;
            float key = share ? -rk__minhash_share(shape, q, at) : -1.0f;
            if (!range.on || rk__in_range(&range, key)) {
                rk__heap_push(heap, key, row);
            }
        }
    }
    return RK_OK;
}

/* ---- image ---- */

static void
minhash_sections(const rk_index *index, rk__sections *out)
{
    const minhash_index *m = index->impl;
    uint64_t bytes = (uint64_t)index->space.rows * m->shape.bands * sizeof(uint32_t);

    rk__sections_add(out, SECTION_SHAPE, &m->shape.width_bytes, 2 * sizeof(uint32_t));
    rk__sections_add(out, SECTION_HASHES, m->hashes, bytes);
    rk__sections_add(out, SECTION_ROWS, m->rows, bytes);
}

static rk_code
minhash_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    minhash_index *m = rk_alloc_zero(1, sizeof(*m));
    const void *shape = NULL;
    const void *hashes = NULL;
    const void *rows = NULL;

    if (!m) {
        return rk_fail(err, RK_ENOMEM, "minhash index: no memory for its header");
    }
    index->impl = m;
    RK_RET(rk__sections_get(sections, SECTION_SHAPE, 2 * sizeof(uint32_t), &shape, NULL, err));
    uint32_t width_bytes = rk_get_u32le(shape);
    uint32_t bands = rk_get_u32le((const uint8_t *)shape + 4);
    if (!shape_init(&m->shape, index->vectors.dim, (int64_t)width_bytes * 8, bands)) {
        return rk_fail(err, RK_ECORRUPT,
                       "minhash index: %u bands of hashes of %u bytes do not fit %u bits", bands,
                       width_bytes, index->vectors.dim);
    }
    uint64_t bytes = (uint64_t)index->space.rows * bands * sizeof(uint32_t);
    RK_RET(rk__sections_get(sections, SECTION_HASHES, bytes, &hashes, NULL, err));
    RK_RET(rk__sections_get(sections, SECTION_ROWS, bytes, &rows, NULL, err));
    m->hashes = hashes;
    m->rows = rows;
    return RK_OK;
}

static void
minhash_free(rk_index *index)
{
    minhash_index *m = index->impl;

    if (m) {
        rk_free(m->owned[0]);
        rk_free(m->owned[1]);
        rk_free(m);
    }
}

const rk__verbs rk__minhash_verbs = {
    .build = minhash_build_index,
    .search = minhash_search,
    .sections = minhash_sections,
    .open = minhash_open,
    .free = minhash_free,
};
