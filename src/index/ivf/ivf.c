/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inverted file over raw vectors: rows grouped by their nearest centre (k-means, kmeans.c), a
 * search scores the rows of the nprobe nearest groups. IVF_FLAT for float types, BIN_IVF_FLAT for
 * bits; the vectors themselves are borrowed, a list holds row numbers.
 *
 * Centres are f32: L2 rows are grouped by L2, COSINE rows after normalising, IP rows by L2 and
 * probed by inner product. When fewer than k rows pass in the probed lists the search probes on,
 * nearest list first, until k are found or all lists are read. When no more rows pass the filter
 * than the probes would read, these are scored directly. A range search goes on past nprobe until
 * max_empty_result_buckets lists in a row gave nothing, a page of an iterator until it is
 * full and half of the lists were probed: what a page misses does not come on a later one. Lists
 * whose rows mostly came on pages before do not count as probed there.
 *
 * Sections: 1 norms (COSINE), 20 centres (nlist rows of f32, or of bits), 21 offsets (u64, nlist +
 * 1), 22 rows (u32).
 */
#include <stdlib.h>

#include "index/kmeans.h"

#define NLIST_DEFAULT  128
#define NPROBE_DEFAULT 8
#define CHUNK          1024u
#define SAMPLE_BYTES   ((size_t)256 << 20)
#define ITERATIONS     12u

typedef struct ivf_index {
    uint32_t nlist;
    size_t centre_bytes;
    const uint8_t *centres;
    const uint64_t *offsets; /* nlist + 1 */
    const uint32_t *rows;
    void *owned[3]; /* what a build allocated; NULL when mapped */
} ivf_index;

static bool
is_bits(const rk__space *space)
{
    return space->type == RK_VEC_BINARY;
}

/* The form in which a row or query is compared with centres: its bytes for bits, f32 otherwise,
 * normalised for COSINE. */
static const void *
as_centre(const rk__space *space, const void *row, float inv_norm, float *buffer)
{
    if (is_bits(space)) {
        return row;
    }
    rk__row_to_f32(space->type, space->dim, row, buffer);
    for (size_t i = 0; space->metric == RK_METRIC_COSINE && i < space->dim; i++) {
        buffer[i] *= inv_norm;
    }
    return buffer;
}

static rk__kmeans
kmeans_of(const rk__space *space, uint32_t nlist, const rk_build_options *options)
{
    const rk__kernels *kernels = rk__kernels_get();

    return (rk__kmeans){
        .dim = is_bits(space) ? (uint32_t)space->row_bytes : space->dim,
        .bits = is_bits(space),
        .dist = is_bits(space) ? space->dist : kernels->dense[RK__F32].l2,
        .dist4 = is_bits(space) ? NULL : kernels->dense[RK__F32].l2x4,
        .k = nlist,
        .iterations_max = ITERATIONS,
        .options = options,
    };
}

static float
norm_of(const rk__space *space, size_t row)
{
    return space->inv_norms ? space->inv_norms[row] : 1.0f;
}

/* ---- build ---- */

static rk_code
train(rk_index *index, ivf_index *ivf, const rk_build_options *options, rk_err *err)
{
    const rk__space *space = &index->space;
    rk__kmeans job = kmeans_of(space, ivf->nlist, options);
    size_t want = (size_t)ivf->nlist * (ivf->nlist > 256 ? 64 : 256);
    size_t n = RK_MIN(RK_MIN(want, SAMPLE_BYTES / ivf->centre_bytes), space->rows);
    uint8_t *sample = NULL;
    rk_code code = RK_OK;

    n = RK_MAX(n, (size_t)ivf->nlist);
    RK_RET(rk__index_reserve(index, n * ivf->centre_bytes, "IVF training sample", err));
    sample = rk_alloc_aligned(64, (n * ivf->centre_bytes + 63) / 64 * 64);
    if (!sample) {
        code = rk_fail(err, RK_ENOMEM, "IVF build: no memory for a sample of %zu rows", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) { /* evenly spread over the rows */
        if (i % 1024 == 0 && rk__cancelled(options)) {
            code = rk_fail(err, RK_ECANCELLED, "IVF build cancelled while rows were picked");
            goto out;
        }
        size_t row = (size_t)((double)i * (double)space->rows / (double)n);
        float *at = (float *)(void *)(sample + i * ivf->centre_bytes);
        const void *form = as_centre(space, rk__space_row(space, row), norm_of(space, row), at);
        if (form != at) {
            memcpy(at, form, ivf->centre_bytes);
        }
    }
    job.rows = sample;
    job.n = n;
    code = rk__kmeans_run(&job, ivf->owned[0], err);
out:
    rk_free(sample);
    rk__index_release(index, n * ivf->centre_bytes);
    return code;
}

typedef struct assign_job {
    const rk_index *index;
    const ivf_index *ivf;
    rk__kmeans kmeans;
    uint32_t *list; /* per row */
    const rk_build_options *options;
    _Atomic(bool) out_of_memory;
} assign_job;

static void
assign_chunk(void *arg, size_t chunk)
{
    assign_job *job = arg;
    const rk__space *space = &job->index->space;
    size_t from = chunk * CHUNK;
    size_t to = RK_MIN(from + CHUNK, space->rows);
    float *buffer = rk_alloc((size_t)space->dim * sizeof(float));

    if (!buffer) {
        job->out_of_memory = true;
    }
    for (size_t r = from; buffer && r < to && !rk__cancelled(job->options); r++) {
        float distance = 0;
        const void *form = as_centre(space, rk__space_row(space, r), norm_of(space, r), buffer);
        job->list[r] = rk__kmeans_nearest(&job->kmeans, job->ivf->centres, form, &distance);
    }
    rk_free(buffer);
    if (job->options->rows_done) {
        *job->options->rows_done += to - from;
    }
}

static rk_code
assign_rows(rk_index *index, ivf_index *ivf, const rk_build_options *options, rk_err *err)
{
    size_t rows = index->space.rows;
    assign_job job = {.index = index,
                      .ivf = ivf,
                      .kmeans = kmeans_of(&index->space, ivf->nlist, options),
                      .options = options};
    uint64_t *offsets = ivf->owned[1];
    uint32_t *out = ivf->owned[2];
    uint64_t *next = rk_alloc(((size_t)ivf->nlist + 1) * sizeof(*next));
    rk_code code = RK_OK;

    job.list = rk_alloc_zero(RK_MAX(rows, (size_t)1), sizeof(*job.list));
    if (!job.list || !next) {
        code = rk_fail(err, RK_ENOMEM, "IVF build: no memory to group %zu rows", rows);
        goto out;
    }
    rk__parallel_run(options->parallel, (rows + CHUNK - 1) / CHUNK, assign_chunk, &job);
    if (rk__cancelled(options)) {
        code = rk_fail(err, RK_ECANCELLED, "IVF build cancelled while rows were grouped");
        goto out;
    }
    if (job.out_of_memory) {
        code = rk_fail(err, RK_ENOMEM, "IVF build: no memory for a row");
        goto out;
    }
    memset(offsets, 0, ((size_t)ivf->nlist + 1) * sizeof(*offsets));
    for (size_t r = 0; r < rows; r++) {
        offsets[job.list[r] + 1]++;
    }
    for (uint32_t c = 0; c < ivf->nlist; c++) {
        offsets[c + 1] += offsets[c];
    }
    memcpy(next, offsets, ((size_t)ivf->nlist + 1) * sizeof(*next));
    for (size_t r = 0; r < rows; r++) {
        out[next[job.list[r]]++] = (uint32_t)r;
    }
out:
    rk_free(job.list);
    rk_free(next);
    return code;
}

static rk_code
ivf_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    const rk__space *space = &index->space;
    ivf_index *ivf = rk_alloc_zero(1, sizeof(*ivf));
    bool named = rk_params_get(options->params, "nlist").data != NULL;
    int64_t nlist = rk__param_int(options->params, "nlist", NLIST_DEFAULT, 1, 65536);

    if (!ivf) {
        return rk_fail(err, RK_ENOMEM, "IVF build: no memory for its header");
    }
    index->impl = ivf;
    if (!named && index->automatic) {
        nlist = 1024;
    }
    ivf->nlist = rk__list_count((uint64_t)nlist, space->rows);
    ivf->centre_bytes = is_bits(space) ? space->row_bytes : (size_t)space->dim * sizeof(float);
    size_t sizes[3] = {ivf->nlist * ivf->centre_bytes, ((size_t)ivf->nlist + 1) * sizeof(uint64_t),
                       space->rows * sizeof(uint32_t)};
    RK_RET(rk__index_reserve(index, sizes[0] + sizes[1] + sizes[2], "IVF lists", err));
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        ivf->owned[i] = rk__alloc_huge(RK_MAX(sizes[i], (size_t)64));
        if (!ivf->owned[i]) {
            return rk_fail(err, RK_ENOMEM, "IVF build: no memory for %zu bytes", sizes[i]);
        }
        memset(ivf->owned[i], 0, sizes[i]);
    }
    ivf->centres = ivf->owned[0];
    ivf->offsets = ivf->owned[1];
    ivf->rows = ivf->owned[2];
    RK_RET(rk__index_norms(index, err));
    if (space->rows > 0) {
        RK_RET(train(index, ivf, options, err));
        RK_RET(assign_rows(index, ivf, options, err));
    }
    return RK_OK;
}

/* ---- search ---- */

typedef struct ivf_search {
    const rk_index *index;
    const ivf_index *ivf;
    const rk__query *query;
    const rk_bitset *filter;
    rk__range range;
    rk__heap *heap;
    rk__near *lists; /* by nearness of their centre */
} ivf_search;

/* Scores the passing rows of one list; returns how many were in range, |*passing| of how many. */
static size_t
scan_list(const ivf_search *s, uint32_t list, size_t *passing)
{
    uint32_t block[32];
    size_t n = 0;
    size_t in_range = 0;

    *passing = 0;

    for (uint64_t i = s->ivf->offsets[list]; i <= s->ivf->offsets[list + 1]; i++) {
        bool end = i == s->ivf->offsets[list + 1];
        if (!end) {
            uint32_t row = s->ivf->rows[i];
            if (row < s->index->space.rows && (!s->filter || rk_bitset_get(s->filter, row))) {
                __builtin_prefetch(rk__space_row(&s->index->space, row));
                block[n++] = row;
            }
        }
        if (n == RK_COUNT(block) || (end && n > 0)) {
            float keys[RK_COUNT(block)];
            rk__keys(&s->index->space, s->query, block, n, keys);
            *passing += n;
            for (size_t j = 0; j < n; j++) {
                if (!s->range.on || rk__in_range(&s->range, keys[j])) {
                    in_range++;
                    rk__heap_push(s->heap, keys[j], block[j]);
                }
            }
            n = 0;
        }
    }
    return in_range;
}

static int
compare_lists(const void *a, const void *b)
{
    const rk__near *x = a;
    const rk__near *y = b;

    return rk__near_less(*x, *y) ? -1 : rk__near_less(*y, *x);
}

/* All lists with the keys of their centres; the nearest |first| in front, in order. */
static rk_code
order_lists(ivf_search *s, uint32_t first, rk_arena *arena, rk_err *err)
{
    const rk__space *space = &s->index->space;
    const rk__dense_kernels *f32 = &rk__kernels_get()->dense[RK__F32];
    uint32_t nlist = s->ivf->nlist;
    float *buffer = rk_arena_alloc(arena, (size_t)space->dim * sizeof(float));
    bool ip = space->metric == RK_METRIC_IP;
    rk__heap nearest = {.cap = first};

    s->lists = RK_ARENA_ARRAY(arena, rk__near, nlist);
    nearest.items = RK_ARENA_ARRAY(arena, rk__near, first);
    if (!buffer || !s->lists || !nearest.items) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for %u lists", nlist);
    }
    const void *form = as_centre(space, s->query->data, s->query->inv_norm, buffer);
    for (uint32_t c = 0; c < nlist; c++) {
        const uint8_t *centre = s->ivf->centres + c * s->ivf->centre_bytes;
        float key = is_bits(space) ? space->dist(form, centre, space->dist_n)
                    : ip           ? -f32->ip(form, centre, space->dim)
                                   : f32->l2(form, centre, space->dim);
        s->lists[c] = (rk__near){key == key ? key : INFINITY, c};
    }
    if (first < nlist) {
        for (uint32_t c = 0; c < nlist; c++) {
            rk__heap_push(&nearest, s->lists[c].key, c);
        }
        rk__heap_sort(&nearest);
        memcpy(s->lists, nearest.items,
               first * sizeof(*nearest.items)); /* the rest is rebuilt if it is ever needed */
        return RK_OK;
    }
    qsort(s->lists, nlist, sizeof(*s->lists), compare_lists);
    return RK_OK;
}

/* All lists in order, as far as a range search goes. */
static void
scan_range(const ivf_search *s, const rk_search_options *options, uint32_t nprobe)
{
    bool page = rk__is_page(options);
    uint32_t probes = page ? RK_MAX(nprobe, s->ivf->nlist / 2) : nprobe;
    uint32_t empty_max =
        (uint32_t)rk__param_int(options->params, "max_empty_result_buckets", 2, 1, 65536);
    uint64_t wanted = page ? (uint64_t)s->heap->cap * RK__PAGE_SEEN : 0;
    uint64_t seen = 0;
    uint32_t empty = 0;
    uint32_t probed = 0;

    for (uint32_t i = 0; i < s->ivf->nlist; i++) {
        size_t passing = 0;
        size_t in_range = scan_list(s, s->lists[i].row, &passing);
        empty = in_range > 0 ? 0 : empty + 1;
        seen += in_range;
        probed += !page || in_range * 2 > passing;
        if (probed >= probes && (page ? seen >= wanted : empty >= empty_max)) {
            return;
        }
    }
}

static rk_code
ivf_run(const rk_index *index, const rk__query *query, const rk_search_options *options,
        rk__heap *heap, rk_err *err)
{
    const ivf_index *ivf = index->impl;
    ivf_search s = {
        .index = index, .ivf = ivf, .query = query, .filter = options->filter, .heap = heap};
    uint32_t nprobe = (uint32_t)rk__param_int(options->params, "nprobe", NPROBE_DEFAULT, 1, 65536);
    size_t passing = 0;

    s.range = rk__range_of(index->space.metric, options);
    nprobe = RK_MIN(nprobe, ivf->nlist);
    if ((uint64_t)options->filter_count * ivf->nlist <= (uint64_t)index->space.rows * nprobe) {
        rk__scan(&index->space, query, 0, index->space.rows, 0, options->filter, &s.range, heap);
        return RK_OK;
    }
    RK_RET(order_lists(&s, options->range ? ivf->nlist : nprobe, options->arena, err));
    if (options->range) {
        scan_range(&s, options, nprobe);
        return RK_OK;
    }
    for (uint32_t i = 0; i < nprobe; i++) {
        (void)scan_list(&s, s.lists[i].row, &passing);
    }
    if (heap->n < heap->cap && nprobe < ivf->nlist) {
        RK_RET(order_lists(&s, ivf->nlist, options->arena, err));
        for (uint32_t i = nprobe; i < ivf->nlist && heap->n < heap->cap; i++) {
            (void)scan_list(&s, s.lists[i].row, &passing);
        }
    }
    return RK_OK;
}

/* ---- several queries at once ---- */

/*
 * Every centre is read once for all queries, and every list once for those that probe it. That a
 * list is scanned at another time than in a search of one query changes nothing: the best k are the
 * best k in any order.
 */
typedef struct ivf_batch {
    const rk_index *index;
    const rk__query *queries;
    rk__heap *heaps;
    size_t n;
    uint32_t nprobe;
    const rk_bitset *filter;
    rk__range range;
    const void **forms; /* of the queries, as centres */
    rk__heap *nearest;  /* lists of each query */
    uint32_t *starts;   /* nlist + 2, into |probing| */
    uint32_t *probing;  /* queries by list */
} ivf_batch;

static rk_code
batch_memory(ivf_batch *b, rk_arena *arena, rk_err *err)
{
    const rk__space *space = &b->index->space;
    const ivf_index *ivf = b->index->impl;
    size_t probes = b->n * b->nprobe;
    float *floats = rk_arena_alloc(arena, b->n * (is_bits(space) ? 1 : space->dim) * sizeof(float));
    rk__near *items = RK_ARENA_ARRAY(arena, rk__near, probes);

    b->forms = rk_arena_alloc(arena, b->n * sizeof(*b->forms));
    b->nearest = RK_ARENA_ARRAY(arena, rk__heap, b->n);
    b->starts = RK_ARENA_ARRAY(arena, uint32_t, (size_t)ivf->nlist + 2);
    b->probing = rk_arena_alloc(arena, probes * sizeof(*b->probing));
    if (!floats || !items || !b->forms || !b->nearest || !b->starts || !b->probing) {
        return rk_fail(err, RK_ENOMEM, "IVF search: no memory for %zu queries", b->n);
    }
    for (size_t q = 0; q < b->n; q++) {
        b->forms[q] = as_centre(space, b->queries[q].data, b->queries[q].inv_norm,
                                is_bits(space) ? NULL : floats + q * space->dim);
        b->nearest[q] = (rk__heap){.items = items + q * b->nprobe, .cap = b->nprobe};
    }
    return RK_OK;
}

static void
batch_lists(const ivf_batch *b)
{
    const rk__space *space = &b->index->space;
    const ivf_index *ivf = b->index->impl;
    const rk__dense_kernels *f32 = &rk__kernels_get()->dense[RK__F32];
    bool ip = space->metric == RK_METRIC_IP;

    for (uint32_t c = 0; c < ivf->nlist; c++) {
        const uint8_t *centre = ivf->centres + c * ivf->centre_bytes;
        for (size_t q = 0; q < b->n; q += 4) {
            size_t m = RK_MIN(b->n - q, (size_t)4);
            float dist[4] = {0};
            if (m == 4 && !is_bits(space)) {
                const void *const four[4] = {b->forms[q], b->forms[q + 1], b->forms[q + 2],
                                             b->forms[q + 3]};
                (ip ? f32->ipx4 : f32->l2x4)(centre, four, space->dim, dist);
            }
            for (size_t j = 0; (m < 4 || is_bits(space)) && j < m; j++) {
                dist[j] = is_bits(space) ? space->dist(b->forms[q + j], centre, space->dist_n)
                          : ip           ? f32->ip(b->forms[q + j], centre, space->dim)
                                         : f32->l2(b->forms[q + j], centre, space->dim);
            }
            for (size_t j = 0; j < m; j++) {
                float key = ip ? -dist[j] : dist[j];
                rk__heap_push(&b->nearest[q + j], key == key ? key : INFINITY, c);
            }
        }
    }
    for (size_t q = 0; q < b->n; q++) {
        for (uint32_t i = 0; i < b->nearest[q].n; i++) {
            b->starts[b->nearest[q].items[i].row + 2]++;
        }
    }
    for (uint32_t c = 0; c < ivf->nlist; c++) {
        b->starts[c + 2] += b->starts[c + 1];
    }
    for (size_t q = 0; q < b->n; q++) {
        for (uint32_t i = 0; i < b->nearest[q].n; i++) {
            b->probing[b->starts[b->nearest[q].items[i].row + 1]++] = (uint32_t)q;
        }
    }
}

/* One list for the |n| queries that probe it. */
static void
batch_scan(const ivf_batch *b, uint32_t list, const uint32_t *probing, size_t n)
{
    const ivf_index *ivf = b->index->impl;
    const rk__query *queries[RK__MANY];
    rk__heap *heaps[RK__MANY];
    uint32_t rows[64];
    size_t held = 0;

    for (size_t i = 0; i < n; i++) {
        queries[i] = &b->queries[probing[i]];
        heaps[i] = &b->heaps[probing[i]];
    }
    for (uint64_t i = ivf->offsets[list]; i < ivf->offsets[list + 1]; i++) {
        uint32_t row = ivf->rows[i];
        if (row < b->index->space.rows && (!b->filter || rk_bitset_get(b->filter, row))) {
            rows[held++] = row;
        }
        if (held == RK_COUNT(rows)) {
            rk__scan_rows_many(&b->index->space, queries, heaps, n, rows, held, &b->range);
            held = 0;
        }
    }
    if (held > 0) {
        rk__scan_rows_many(&b->index->space, queries, heaps, n, rows, held, &b->range);
    }
}

static rk_code
ivf_run_many(const rk_index *index, const rk__query *queries, size_t n,
             const rk_search_options *options, rk__heap *heaps, rk_err *err)
{
    const ivf_index *ivf = index->impl;
    ivf_batch b = {
        .index = index, .queries = queries, .heaps = heaps, .n = n, .filter = options->filter};
    bool done = false;

    b.range = rk__range_of(index->space.metric, options);
    b.nprobe = (uint32_t)rk__param_int(options->params, "nprobe", NPROBE_DEFAULT, 1, 65536);
    b.nprobe = RK_MIN(b.nprobe, ivf->nlist);
    if ((uint64_t)options->filter_count * ivf->nlist <= (uint64_t)index->space.rows * b.nprobe) {
        return rk__scan_pieces(&index->space, queries, n, 0, options, &b.range, heaps, err);
    }
    if (!options->range) { /* how far that one goes depends on what it finds */
        RK_RET(batch_memory(&b, options->arena, err));
        batch_lists(&b);
        for (uint32_t c = 0; c < ivf->nlist; c++) {
            if (b.starts[c + 1] > b.starts[c]) {
                RK_RET(rk__go_on(options, err));
                batch_scan(&b, c, b.probing + b.starts[c], b.starts[c + 1] - b.starts[c]);
            }
        }
        done = true;
    }
    for (size_t q = 0; q < n; q++) {
        if (!done || (heaps[q].n < heaps[q].cap && b.nprobe < ivf->nlist)) {
            RK_RET(rk__go_on(options, err));
            heaps[q].n = 0;
            RK_RET(ivf_run(index, &queries[q], options, &heaps[q], err));
        }
    }
    return RK_OK;
}

/* ---- image ---- */

static void
ivf_sections(const rk_index *index, rk__sections *out)
{
    const ivf_index *ivf = index->impl;

    rk__norms_section(index, out);
    rk__sections_add(out, 20, ivf->centres, ivf->nlist * ivf->centre_bytes);
    rk__sections_add(out, 21, ivf->offsets, ((uint64_t)ivf->nlist + 1) * sizeof(uint64_t));
    rk__sections_add(out, 22, ivf->rows, (uint64_t)index->space.rows * sizeof(uint32_t));
}

static rk_code
ivf_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    ivf_index *ivf = rk_alloc_zero(1, sizeof(*ivf));
    const rk__space *space = &index->space;
    const void *at = NULL;
    uint64_t bytes = 0;

    if (!ivf) {
        return rk_fail(err, RK_ENOMEM, "IVF image: no memory for its header");
    }
    index->impl = ivf;
    RK_RET(rk__norms_open(index, sections, err));
    RK_RET(rk__sections_get(sections, 21, SIZE_MAX, &at, &bytes, err));
    if (bytes < 2 * sizeof(uint64_t) || bytes % sizeof(uint64_t) != 0 ||
        bytes / sizeof(uint64_t) - 1 > 65536) {
        return rk_fail(err, RK_ECORRUPT, "IVF image: offsets of %llu bytes",
                       (unsigned long long)bytes);
    }
    ivf->nlist = (uint32_t)(bytes / sizeof(uint64_t) - 1);
    ivf->offsets = at;
    ivf->centre_bytes = is_bits(space) ? space->row_bytes : (size_t)space->dim * sizeof(float);
    for (uint32_t c = 0; c < ivf->nlist; c++) {
        if (ivf->offsets[c + 1] < ivf->offsets[c]) {
            return rk_fail(err, RK_ECORRUPT, "IVF image: offsets fall at list %u of %u", c,
                           ivf->nlist);
        }
    }
    if (ivf->offsets[0] != 0 || ivf->offsets[ivf->nlist] != space->rows) {
        return rk_fail(err, RK_ECORRUPT, "IVF image: lists do not hold the %zu rows", space->rows);
    }
    RK_RET(rk__sections_get(sections, 20, ivf->nlist * ivf->centre_bytes, &at, NULL, err));
    ivf->centres = at;
    RK_RET(
        rk__sections_get(sections, 22, (uint64_t)space->rows * sizeof(uint32_t), &at, NULL, err));
    ivf->rows = at;
    return RK_OK;
}

static void
ivf_free(rk_index *index)
{
    ivf_index *ivf = index->impl;

    if (!ivf) {
        return;
    }
    for (size_t i = 0; i < RK_COUNT(ivf->owned); i++) {
        rk_free(ivf->owned[i]);
    }
    rk_free(ivf);
}

const rk__verbs rk__ivf_verbs = {
    .build = ivf_build,
    .search = ivf_run,
    .search_many = ivf_run_many,
    .sections = ivf_sections,
    .open = ivf_open,
    .free = ivf_free,
};
