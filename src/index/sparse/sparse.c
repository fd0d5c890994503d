/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPARSE_INVERTED_INDEX and SPARSE_WAND: the verbs. Both are one engine, see sparse/sparse.h; of
 * the algorithm names of the API TAAT_NAIVE is the plain body and all others mean the blocks,
 * unless rows are few, since all promise the same: the exact k best. Sections: docs/formats.md.
 */
#include "index/sparse/sparse.h"

#include <stdlib.h>

#define PLAIN_ROWS  1536u /* of fewer the plain body is as fast, smaller and sooner built; */
#define DIRECT_ROWS 40u   /* so few that pass, and more of more rows, are scored one by one */
#define DIRECT_PART 14u

enum { /* sections; 2 to 6 are those of the first version */
       SECTION_INDEXES = 2,
       SECTION_OFFSETS = 3,
       SECTION_ROWS = 4,
       SECTION_WEIGHTS = 5,
       SECTION_MAX_ABS = 6,
       SECTION_TERMS = 50,
       SECTION_NODES = 51,
       SECTION_ENTRIES = 52,
       SECTION_RECORDS = 53,
       SECTION_ORDER = 54,
       SECTION_PLACES = 55,
       SECTION_FINES = 56,
       SECTION_STREAMS = 57,
       SECTION_RARE_PLACES = 58,
       SECTION_RARE_WEIGHTS = 59,
       SECTION_PRINT_BASES = 63,
       SECTION_PRINT_STARTS = 64,
       SECTION_PRINTS = 65,
};

rk_code
rk__sparse_take(rk_index *index, rk__sparse *s, size_t slot, uint64_t size_bytes, rk_err *err)
{
    RK_RET(rk__index_reserve(index, size_bytes, "sparse index", err));
    s->owned[slot] = rk__alloc_huge(RK_MAX(size_bytes, (uint64_t)64));
    if (!s->owned[slot]) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for %llu bytes",
                       (unsigned long long)size_bytes);
    }
    return RK_OK;
}

/* Of few rows a search reads all postings sooner than bounds of them. Algorithms whose name speaks
 * of blocks have blocks. */
static bool
is_plain(const rk_index *index, rk_str algorithm)
{
    bool blocks = algorithm.len >= 9 && memcmp(algorithm.data, "BLOCK_MAX", 9) == 0;

    return rk_str_is(algorithm, "TAAT_NAIVE") || (index->vectors.rows < PLAIN_ROWS && !blocks);
}

static rk_code
sparse_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__sparse *s = rk_alloc_zero(1, sizeof(*s));
    rk__sparse_terms terms = {.cap = 0};
    rk_code code = RK_OK;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for its header");
    }
    index->impl = s;
    s->plain = is_plain(index, rk_params_get(options->params, "inverted_index_algo"));
    RK_ERR(rk__sparse_terms_count(&terms, &index->vectors, options, err));
    s->n_terms = terms.n;
    RK_ERR(s->plain ? rk__sparse_build_plain(index, s, &terms, options, err)
                    : rk__sparse_build_blocks(index, s, &terms, options, err));
    RK_ERR(s->plain ? RK_OK : rk__sparse_directory(index, s, err));
    if (options->rows_done) {
        *options->rows_done = index->vectors.rows;
    }
out:
    rk__sparse_terms_deinit(&terms);
    return code;
}

static rk_code
sparse_run(const rk_index *index, const rk__query *query, const rk_search_options *options,
           rk__heap *heap, rk_err *err)
{
    rk__sparse_search search = {.index = index,
                                .s = index->impl,
                                .options = options,
                                .heap = heap,
                                .kernels = rk__sparse_kernels_get()};
    double drop = rk__param_float(options->params, "drop_ratio_search", 0, 0, 1);
    const rk__pair *pairs = NULL;
    size_t n = 0;

    search.range = rk__range_of(RK_METRIC_IP, options);
    RK_RET(rk__sparse_drop(query->data, query->len, drop, options->arena, &pairs, &n, err));
    if (!search.s->plain) {
        return rk__sparse_search_blocks(&search, pairs, n, err);
    }
    RK_RET(rk__sparse_query_init(&search.query, pairs, n, options->arena, err));
    if (index->vectors.rows < PLAIN_ROWS &&
        options->filter_count < DIRECT_ROWS + index->vectors.rows / DIRECT_PART) {
        rk__sparse_search_rows(&search);
        return RK_OK;
    }
    return rk__sparse_search_plain(&search, err);
}

/* ---- image ---- */

static void
sparse_sections(const rk_index *index, rk__sections *out)
{
    const rk__sparse *s = index->impl;
    size_t n = s->n_terms;

    if (s->plain) {
        rk__sections_add(out, SECTION_INDEXES, s->indexes, n * sizeof(uint32_t));
        rk__sections_add(out, SECTION_OFFSETS, s->offsets, (n + 1) * sizeof(uint64_t));
        rk__sections_add(out, SECTION_ROWS, s->rows, s->n_postings * sizeof(uint32_t));
        rk__sections_add(out, SECTION_WEIGHTS, s->weights, s->n_postings * sizeof(float));
        rk__sections_add(out, SECTION_MAX_ABS, s->max_abs, n * sizeof(float));
        return;
    }
    rk__sections_add(out, SECTION_TERMS, s->terms, (n + 1) * sizeof(rk__sparse_term));
    rk__sections_add(out, SECTION_NODES, s->nodes,
                     s->terms[n].first_node * sizeof(rk__sparse_node));
    rk__sections_add(out, SECTION_ENTRIES, s->entries, s->n_entries * 2 + RK__SPARSE_PAD);
    rk__sections_add(out, SECTION_RECORDS, s->records, s->record_bytes + RK__SPARSE_PAD);
    rk__sections_add(out, SECTION_ORDER, s->order,
                     s->n_blocks * RK__SPARSE_BLOCK * sizeof(uint32_t));
    rk__sections_add(out, SECTION_PLACES, s->places, index->vectors.rows * sizeof(uint32_t));
    rk__sections_add(out, SECTION_FINES, s->fines, (n + 1) * sizeof(rk__sparse_fine));
    rk__sections_add(out, SECTION_STREAMS, s->streams, s->stream_bytes + RK__SPARSE_PAD);
    rk__sections_add(out, SECTION_RARE_PLACES, s->rare_places,
                     s->fines[n].first_rare * sizeof(uint32_t));
    rk__sections_add(out, SECTION_RARE_WEIGHTS, s->rare_weights, s->fines[n].first_rare);
    rk__sections_add(out, SECTION_PRINT_BASES, s->print_bases,
                     (s->n_groups + 1) * sizeof(uint64_t));
    rk__sections_add(out, SECTION_PRINT_STARTS, s->print_starts,
                     (s->n_blocks * RK__SPARSE_BLOCK + 1) * sizeof(uint32_t));
    rk__sections_add(out, SECTION_PRINTS, s->prints,
                     s->n_prints * RK__SPARSE_PRINT + RK__SPARSE_PAD);
}

static rk_code
open_plain(rk__sparse *s, const rk__sections *sections, rk_err *err)
{
    const void *at[5] = {NULL};
    uint64_t bytes = 0;

    s->plain = true;
    RK_RET(rk__sections_get(sections, SECTION_INDEXES, SIZE_MAX, &at[0], &bytes, err));
    s->n_terms = bytes / sizeof(uint32_t);
    RK_RET(rk__sections_get(sections, SECTION_OFFSETS, (s->n_terms + 1) * sizeof(uint64_t), &at[1],
                            NULL, err));
    s->indexes = at[0];
    s->offsets = at[1];
    for (size_t i = 0; i < s->n_terms; i++) {
        if (s->offsets[i + 1] < s->offsets[i]) {
            return rk_fail(err, RK_ECORRUPT, "sparse index: offsets fall at term %zu of %zu", i,
                           s->n_terms);
        }
    }
    s->n_postings = s->offsets[s->n_terms];
    if (s->offsets[0] != 0 || s->n_postings > UINT64_MAX / 8) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: offsets are not a partition");
    }
    RK_RET(rk__sections_get(sections, SECTION_ROWS, s->n_postings * sizeof(uint32_t), &at[2], NULL,
                            err));
    RK_RET(rk__sections_get(sections, SECTION_WEIGHTS, s->n_postings * sizeof(float), &at[3], NULL,
                            err));
    RK_RET(
        rk__sections_get(sections, SECTION_MAX_ABS, s->n_terms * sizeof(float), &at[4], NULL, err));
    s->rows = at[2];
    s->weights = at[3];
    s->max_abs = at[4];
    return RK_OK;
}

/* A section that a kernel may read RK__SPARSE_PAD bytes past of, wherever it starts. */
static rk_code
open_padded(const rk__sections *sections, uint32_t id, const uint8_t **out, uint64_t *size_bytes,
            rk_err *err)
{
    const void *at = NULL;

    RK_RET(rk__sections_get(sections, id, SIZE_MAX, &at, size_bytes, err));
    if (*size_bytes < RK__SPARSE_PAD) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: section %u has %llu bytes, at least %u", id,
                       (unsigned long long)*size_bytes, RK__SPARSE_PAD);
    }
    *size_bytes -= RK__SPARSE_PAD;
    *out = at;
    return RK_OK;
}

static rk_code
open_fine(rk__sparse *s, const rk__sections *sections, rk_err *err)
{
    const void *at[3] = {NULL};
    const rk__sparse_fine *f = NULL;

    RK_RET(rk__sections_get(sections, SECTION_FINES, (s->n_terms + 1) * sizeof(*f), &at[0], NULL,
                            err));
    RK_RET(open_padded(sections, SECTION_STREAMS, &s->streams, &s->stream_bytes, err));
    f = at[0];
    for (size_t i = 0; i < s->n_terms; i++) {
        uint64_t bytes = f[i + 1].first - f[i].first;
        if (f[i + 1].first < f[i].first || f[i + 1].first_rare < f[i].first_rare ||
            f[i].first % sizeof(uint64_t) != 0 ||
            (bytes != 0 && bytes < s->n_patches * sizeof(uint64_t))) {
            return rk_fail(err, RK_ECORRUPT, "sparse index: fine bounds of term %zu of %zu", i,
                           s->n_terms);
        }
    }
    uint64_t n_rare = f[s->n_terms].first_rare;
    if (f[s->n_terms].first != s->stream_bytes || n_rare > UINT64_MAX / 64) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: fine bounds end at %llu of %llu bytes",
                       (unsigned long long)f[s->n_terms].first,
                       (unsigned long long)s->stream_bytes);
    }
    RK_RET(rk__sections_get(sections, SECTION_RARE_PLACES, n_rare * sizeof(uint32_t), &at[1], NULL,
                            err));
    RK_RET(rk__sections_get(sections, SECTION_RARE_WEIGHTS, n_rare, &at[2], NULL, err));
    s->fines = f;
    s->rare_places = at[1];
    s->rare_weights = at[2];
    return RK_OK;
}

static rk_code
open_prints(rk__sparse *s, const rk__sections *sections, rk_err *err)
{
    const void *at[2] = {NULL};
    uint64_t bytes = 0;

    RK_RET(rk__sections_get(sections, SECTION_PRINT_BASES, (s->n_groups + 1) * sizeof(uint64_t),
                            &at[0], NULL, err));
    RK_RET(rk__sections_get(sections, SECTION_PRINT_STARTS,
                            (s->n_blocks * RK__SPARSE_BLOCK + 1) * sizeof(uint32_t), &at[1], NULL,
                            err));
    RK_RET(open_padded(sections, SECTION_PRINTS, &s->prints, &bytes, err));
    s->print_bases = at[0];
    s->print_starts = at[1];
    s->n_prints = bytes / RK__SPARSE_PRINT;
    return RK_OK;
}

static rk_code
open_blocks(rk_index *index, rk__sparse *s, const rk__sections *sections, rk_err *err)
{
    size_t rows = index->vectors.rows;
    const void *at[4] = {NULL};
    uint64_t bytes = 0;

    s->n_blocks = (rows + RK__SPARSE_BLOCK - 1) / RK__SPARSE_BLOCK;
    s->n_groups = (s->n_blocks + RK__SPARSE_BLOCK - 1) / RK__SPARSE_BLOCK;
    s->n_patches = rk__sparse_patches(rows);
    RK_RET(rk__sections_get(sections, SECTION_TERMS, SIZE_MAX, &at[0], &bytes, err));
    s->terms = at[0];
    if (bytes < sizeof(*s->terms)) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: %llu bytes of terms, at least %zu",
                       (unsigned long long)bytes, sizeof(*s->terms));
    }
    s->n_terms = bytes / sizeof(*s->terms) - 1;
    for (size_t i = 0; i < s->n_terms; i++) {
        if (s->terms[i + 1].first_node < s->terms[i].first_node ||
            s->terms[i + 1].first_entry < s->terms[i].first_entry) {
            return rk_fail(err, RK_ECORRUPT,
                           "sparse index: nodes or entries fall at term %zu of %zu", i, s->n_terms);
        }
        if (!(s->terms[i].scale >= 0) || !isfinite(s->terms[i].scale)) {
            return rk_fail(err, RK_ECORRUPT, "sparse index: term %zu of %zu has the scale %g", i,
                           s->n_terms, (double)s->terms[i].scale);
        }
    }
    s->n_entries = s->terms[s->n_terms].first_entry;
    RK_RET(open_padded(sections, SECTION_ENTRIES, &s->entries, &bytes, err));
    if (s->n_entries > UINT64_MAX / 64 || bytes != s->n_entries * 2 ||
        s->terms[s->n_terms].first_node > UINT64_MAX / 64) {
        return rk_fail(err, RK_ECORRUPT, "sparse index: %llu bytes of entries for %llu",
                       (unsigned long long)bytes, (unsigned long long)s->n_entries);
    }
    RK_RET(open_padded(sections, SECTION_RECORDS, &s->records, &s->record_bytes, err));
    RK_RET(rk__sections_get(sections, SECTION_NODES,
                            s->terms[s->n_terms].first_node * sizeof(rk__sparse_node), &at[1], NULL,
                            err));
    RK_RET(rk__sections_get(sections, SECTION_ORDER,
                            s->n_blocks * RK__SPARSE_BLOCK * sizeof(uint32_t), &at[2], NULL, err));
    RK_RET(rk__sections_get(sections, SECTION_PLACES, rows * sizeof(uint32_t), &at[3], NULL, err));
    s->nodes = at[1];
    s->order = at[2];
    s->places = at[3];
    RK_RET(open_fine(s, sections, err));
    RK_RET(rk__sparse_directory(index, s, err));
    return open_prints(s, sections, err);
}

static rk_code
sparse_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__sparse *s = rk_alloc_zero(1, sizeof(*s));
    bool plain = true;

    if (!s) {
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for its header");
    }
    index->impl = s;
    for (uint32_t i = 0; i < sections->n; i++) {
        plain = plain && sections->items[i].id != SECTION_TERMS;
    }
    return plain ? open_plain(s, sections, err) : open_blocks(index, s, sections, err);
}

static void
sparse_free(rk_index *index)
{
    rk__sparse *s = index->impl;

    if (!s) {
        return;
    }
    for (size_t i = 0; i < RK_COUNT(s->owned); i++) {
        rk_free(s->owned[i]);
    }
    rk_free(s);
}

const rk__verbs rk__sparse_verbs = {
    .build = sparse_build,
    .search = sparse_run,
    .sections = sparse_sections,
    .open = sparse_open,
    .free = sparse_free,
};
