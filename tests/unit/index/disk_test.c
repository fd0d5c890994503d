/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DISKANN and AISAQ: recall floors at the default effort, exactness at the highest, filters of
 * every density, range search, built, mapped and read page by page alike; the bound on memory;
 * flipped bytes; reads that fail; cancel and failing allocations.
 *
 * The page reader here is over memory: reads finish in a shuffled order, a chosen one fails, and
 * the buffers are filled with noise when they are given back.
 */
#include "index/disk/disk.h"

#include <unistd.h>

#include "base/thread.h"
#include "index_testing.h"

enum { ROWS = 4000, K = 10, QUERIES = 20 };

/* ---- a page reader over memory ---- */

typedef struct memory_pages {
    rk_pages base;
    rk_str image;
    testing_rng rng;
    int64_t fail_after; /* reads until one fails; < 0: none does */
    uint64_t reads;
    unsigned taken; /* channels */
} memory_pages;

typedef struct memory_channel {
    rk_page_channel base;
    rk_page_read *queue[RK_PAGE_READS_MAX];
    size_t n;
} memory_channel;

static rk_code
memory_take(rk_pages *pages, size_t buffer_bytes, rk_page_channel **out, rk_err *err)
{
    memory_channel *c = rk_alloc_zero(1, sizeof(*c));

    *out = NULL;
    if (c) {
        c->base.buffer = rk_alloc_aligned(RK_PAGE_BYTES, buffer_bytes);
        c->base.buffer_bytes = buffer_bytes;
    }
    if (!c || !c->base.buffer) {
        rk_free(c);
        return rk_fail(err, RK_ENOMEM, "no memory for a channel");
    }
    RK_CONTAINER(pages, memory_pages, base)->taken++;
    *out = &c->base;
    return RK_OK;
}

static void
memory_give(rk_pages *pages, rk_page_channel *channel)
{
    memset(channel->buffer, 0xa5, channel->buffer_bytes);
    rk_free(channel->buffer);
    rk_free(RK_CONTAINER(channel, memory_channel, base));
    RK_CONTAINER(pages, memory_pages, base)->taken--;
}

static rk_code
memory_submit(rk_pages *pages, rk_page_channel *channel, rk_page_read *reads, size_t n, rk_err *err)
{
    memory_channel *c = RK_CONTAINER(channel, memory_channel, base);

    RK_UNUSED(err);
    for (size_t i = 0; i < n; i++) {
        assert_true(c->n < RK_PAGE_READS_MAX);
        assert_int_equal(reads[i].offset % RK_PAGE_BYTES, 0);
        assert_int_equal(reads[i].len % RK_PAGE_BYTES, 0);
        assert_true(reads[i].offset < pages->size_bytes);
        assert_true(reads[i].into >= channel->buffer &&
                    reads[i].into + reads[i].len <= channel->buffer + channel->buffer_bytes);
        c->queue[c->n++] = &reads[i];
    }
    return RK_OK;
}

static rk_code
memory_wait(rk_pages *pages, rk_page_channel *channel, rk_page_read **done, size_t max, size_t *n,
            rk_err *err)
{
    memory_pages *m = RK_CONTAINER(pages, memory_pages, base);
    memory_channel *c = RK_CONTAINER(channel, memory_channel, base);

    *n = 0;
    while (c->n > 0 && *n < max && (*n == 0 || testing_u64(&m->rng) % 2)) {
        size_t at = testing_u64(&m->rng) % c->n;
        rk_page_read *read = c->queue[at];
        c->queue[at] = c->queue[--c->n];
        m->reads++;
        read->code = RK_OK;
        if (m->fail_after >= 0 && m->fail_after-- == 0) {
            read->code = rk_fail(err, RK_EIO, "the disk is gone");
        }
        memcpy(read->into, m->image.data + read->offset,
               RK_MIN((uint64_t)read->len, m->image.len - read->offset));
        done[(*n)++] = read;
    }
    return RK_OK;
}

static memory_pages
pages_over(rk_str image)
{
    return (memory_pages){.base = {.size_bytes = image.len,
                                   .take = memory_take,
                                   .give = memory_give,
                                   .submit = memory_submit,
                                   .wait = memory_wait},
                          .image = image,
                          .rng = {5},
                          .fail_after = -1};
}

/* ---- shared ---- */

typedef struct disk_case {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    double recall_min; /* at the default search_list */
} disk_case;

static const disk_case cases[] = {
    {"DISKANN", RK_VEC_F32, RK_METRIC_L2, 48, 0.95},
    {"DISKANN", RK_VEC_F32, RK_METRIC_IP, 40, 0.9},
    {"DISKANN", RK_VEC_F32, RK_METRIC_COSINE, 100, 0.95},
    {"DISKANN", RK_VEC_F16, RK_METRIC_L2, 64, 0.95},
    {"DISKANN", RK_VEC_BF16, RK_METRIC_COSINE, 70, 0.9},
    {"DISKANN", RK_VEC_F32, RK_METRIC_L2, 1100, 0.95}, /* a vector takes two pages */
    {"AISAQ", RK_VEC_F32, RK_METRIC_L2, 48, 0.95},
    {"AISAQ", RK_VEC_F16, RK_METRIC_COSINE, 200, 0.95},
    {"AISAQ", RK_VEC_F32, RK_METRIC_IP, 1030, 0.9},
};

static rk_index *
build(const char *kind, rk_metric metric, const rk_vectors *v)
{
    rk_build_options options = {.metric = metric, .seed = 9};
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, rk_str_from(kind), v, &options, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    return index;
}

/* An aligned copy of the image; the caller frees it. */
static rk_str
save(const rk_index *index)
{
    rk_buf buf = {0};
    rk_err err = {0};
    char *image;
    size_t len;

    assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
    assert_false(buf.failed);
    len = buf.len;
    image = rk_alloc_aligned(RK_PAGE_BYTES, (len + RK_PAGE_BYTES) / RK_PAGE_BYTES * RK_PAGE_BYTES);
    assert_non_null(image);
    memcpy(image, buf.data, len);
    rk_buf_deinit(&buf);
    return (rk_str){image, len};
}

/* The share of the true k nearest found; |list| "" is the default, that of all rows must be exact.
 */
static double
recall_of(const rk_index *index, const rk_vectors *v, rk_metric metric, const uint8_t *queries,
          const rk_bitset *filter, const char *list)
{
    rk_param param = {RK_STR("search_list"), rk_str_from(list)};
    rk_arena *arena = rk_arena_new(0);
    size_t bytes = rk_vector_bytes(v->type, v->dim);
    size_t passing = filter ? rk_bitset_count(filter) : v->rows;
    uint32_t found = 0;
    uint32_t wanted = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {.k = K,
                                     .params = {&param, *list ? 1 : 0},
                                     .filter = filter,
                                     .filter_count = passing,
                                     .arena = arena};
        const uint8_t *query = queries + q * bytes;
        rk_hit hits[K];
        rk_hit flat[K];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        rk_err err = {0};
        if (rk_index_search(index, query, bytes, &options, hits, &n, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(rk_flat_search(v, 0, metric, query, bytes, &options, flat, &n_flat, NULL),
                         RK_OK);
        assert_int_equal(n, RK_MIN(passing, (size_t)K));
        for (uint32_t i = 0; i < n; i++) {
            assert_true(!filter || rk_bitset_get(filter, hits[i].row));
            found += rk_metric_larger_is_nearer(metric) ? hits[i].score >= flat[n - 1].score
                                                        : hits[i].score <= flat[n - 1].score;
        }
        if (*list) {
            assert_memory_equal(hits, flat, n * sizeof(*hits));
        }
        wanted += n;
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return wanted > 0 ? (double)found / wanted : 1;
}

static void
check_case(const disk_case *c, const rk_index *index, const rk_vectors *v, const uint8_t *queries,
           const char *form)
{
    static const double densities[] = {1.0, 0.5, 0.05, 0.003, 0.0};

    for (size_t d = 0; d < RK_COUNT(densities); d++) {
        rk_bitset filter;
        testing_filter(&filter, v->rows, densities[d], 60 + d);
        double recall = recall_of(index, v, c->metric, queries, &filter, "");
        if (recall < c->recall_min) {
            fail_msg("%s %s type %d %s density %g: recall %.3f under %.3f", c->kind, form,
                     (int)c->type, rk_metric_name(c->metric), densities[d], recall, c->recall_min);
        }
        (void)recall_of(index, v, c->metric, queries, &filter, "4000");
        rk_bitset_deinit(&filter);
    }
}

/* ---- tests ---- */

static void
test_recall_filters_images(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const disk_case *c = &cases[i];
        size_t rows = c->dim > 1000 ? 1000 : ROWS;
        void *data = testing_dense(c->type, c->dim, rows, 8, 31);
        uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, 8, 32);
        rk_vectors v = {c->type, c->dim, rows, data, NULL};
        rk_vectors shape = {c->type, c->dim, rows, NULL, NULL}; /* all that is needed to open */
        rk_index *index = build(c->kind, c->metric, &v);
        rk_str image = save(index);
        memory_pages pages = pages_over(image);
        rk_index *mapped = NULL;
        rk_index *paged = NULL;
        rk_mem *mem = rk_mem_new(NULL, "test", 0);
        rk_err err = {0};

        assert_true(rk_index_is_paged(image));
        if (rk_index_open(&mapped, image, &shape, NULL, &err) != RK_OK ||
            rk_index_open_pages(&paged, &pages.base, &shape, mem, &err) != RK_OK) {
            fail_msg("%s", err.text);
        }
        check_case(c, index, &v, queries, "built");
        check_case(c, mapped, &v, queries, "mapped");
        uint64_t before = pages.reads;
        check_case(c, paged, &v, queries, "paged");
        assert_true(pages.reads > before);
        assert_int_equal(rk_index_verify(mapped, NULL, &err), RK_OK);
        assert_int_equal(rk_index_verify(paged, NULL, &err), RK_OK);
        assert_true(rk_mem_used(mem) > 0);
        rk_index_free(index);
        rk_index_free(mapped);
        rk_index_free(paged);
        assert_int_equal(pages.taken, 0);
        assert_int_equal(rk_mem_used(mem), 0);
        rk_mem_free(mem);
        rk_free((void *)(uintptr_t)image.data);
        rk_free(data);
        rk_free(queries);
    }
}

/* DISKANN holds at most a tenth of the raw vectors in memory, or what the ratio says; AISAQ a
 * fiftieth. */
static void
test_memory_bound(void **state)
{
    static const struct {
        const char *kind;
        const char *ratio;
        rk_vector_type type;
        uint32_t dim;
        double share;
    } bounds[] = {
        {"DISKANN", NULL, RK_VEC_F32, 128, 0.1},    {"DISKANN", "0.2", RK_VEC_F32, 128, 0.2},
        {"DISKANN", NULL, RK_VEC_F32, 384, 0.1},    {"DISKANN", NULL, RK_VEC_F16, 256, 0.1},
        {"DISKANN", "0.07", RK_VEC_F32, 128, 0.07}, {"AISAQ", NULL, RK_VEC_F32, 128, 0.02}};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(bounds); i++) {
        size_t rows = 20000;
        void *data = testing_dense(bounds[i].type, bounds[i].dim, rows, 8, 3);
        rk_vectors v = {bounds[i].type, bounds[i].dim, rows, data, NULL};
        rk_param param = {RK_STR("pq_code_budget_gb_ratio"),
                          rk_str_from(bounds[i].ratio ? bounds[i].ratio : "")};
        rk_build_options options = {.metric = RK_METRIC_L2,
                                    .params = {&param, bounds[i].ratio ? 1 : 0}};
        rk_index *index = NULL;
        rk_index *paged = NULL;
        rk_mem *mem = rk_mem_new(NULL, "test", 0);
        rk_index_info info;
        rk_err err = {0};
        assert_int_equal(rk_index_build(&index, rk_str_from(bounds[i].kind), &v, &options, &err),
                         RK_OK);
        rk_str image = save(index);
        memory_pages pages = pages_over(image);
        rk_index_free(index);
        assert_int_equal(rk_index_open_pages(&paged, &pages.base, &v, mem, &err), RK_OK);
        rk_index_get_info(paged, &info);
        double share =
            (double)info.memory_bytes / ((double)rows * (double)rk_vector_bytes(v.type, v.dim));
        if (share > bounds[i].share || info.memory_bytes < rk_mem_used(mem)) {
            fail_msg("%s %u: %.4f of the raw vectors, bound %.2f", bounds[i].kind, bounds[i].dim,
                     share, bounds[i].share);
        }
        rk_index_free(paged);
        /* a budget below what it needs is refused, and leaves nothing */
        rk_mem *small = rk_mem_new(NULL, "small", info.memory_bytes / 2);
        assert_int_equal(rk_index_open_pages(&paged, &pages.base, &v, small, &err), RK_ENOMEM);
        assert_null(paged);
        assert_int_equal(rk_mem_used(small), 0);
        rk_mem_free(small);
        rk_mem_free(mem);
        rk_free((void *)(uintptr_t)image.data);
        rk_free(data);
    }
}

static void
test_range(void **state)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    uint32_t dim = 48;
    float *data = testing_dense(RK_VEC_F32, dim, ROWS, 8, 41);
    float *queries = testing_dense(RK_VEC_F32, dim, QUERIES, 8, 42);
    rk_vectors v = {RK_VEC_F32, dim, ROWS, data, NULL};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        rk_index *index = build("DISKANN", metrics[m], &v);
        uint32_t found = 0;
        uint32_t wanted = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            enum { WIDE = 60 };
            const float *query = queries + q * dim;
            rk_search_options options = {.k = WIDE, .filter_count = ROWS, .arena = arena};
            rk_hit flat[WIDE];
            rk_hit hits[WIDE];
            uint32_t n_flat = 0;
            uint32_t n = 0;
            assert_int_equal(
                rk_flat_search(&v, 0, metrics[m], query, dim * 4, &options, flat, &n_flat, NULL),
                RK_OK);
            options.range = true; /* ranks 5 to 39, half open */
            options.radius = flat[40].score;
            options.has_range_filter = true;
            options.range_filter = flat[5].score;
            assert_int_equal(rk_index_search(index, query, dim * 4, &options, hits, &n, NULL),
                             RK_OK);
            assert_true(n <= 35);
            for (uint32_t i = 0; i < n; i++) {
                bool inside =
                    rk_metric_larger_is_nearer(metrics[m])
                        ? hits[i].score > options.radius && hits[i].score <= flat[5].score
                        : hits[i].score < options.radius && hits[i].score >= flat[5].score;
                assert_true(inside);
            }
            found += n;
            wanted += 35;
            options.has_range_filter = false; /* nothing is as near as that */
            options.radius = metrics[m] == RK_METRIC_L2 ? 0 : 1e9f;
            assert_int_equal(rk_index_search(index, query, dim * 4, &options, hits, &n, NULL),
                             RK_OK);
            assert_int_equal(n, 0);
            rk_arena_reset(arena);
        }
        if ((double)found < 0.95 * (double)wanted) {
            fail_msg("%s: %u of %u in range", rk_metric_name(metrics[m]), found, wanted);
        }
        rk_index_free(index);
    }
    rk_arena_free(arena);
    rk_free(data);
    rk_free(queries);
}

/* Rows with NaN never come back, rows with infinity last, and equal or zero rows are no trouble. */
static void
test_odd_rows(void **state)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_COSINE};
    enum { DIM = 20, N = 300, ALL = 300 };
    float *data = testing_dense(RK_VEC_F32, DIM, N, 4, 8);
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < 50; i++) {
        memcpy(data + (100 + i) * DIM, data, DIM * 4);
    }
    memset(data + 200 * DIM, 0, DIM * 4);
    for (size_t i = 0; i < 5; i++) {
        data[(210 + i) * DIM + i] = NAN;
        data[(220 + i) * DIM + i] = INFINITY;
    }
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        rk_vectors v = {RK_VEC_F32, DIM, N, data, NULL};
        rk_index *index = build("DISKANN", metrics[m], &v);
        rk_search_options options = {.k = ALL, .filter_count = N, .arena = arena};
        rk_hit hits[ALL];
        rk_hit flat[ALL];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        assert_int_equal(rk_index_search(index, data, DIM * 4, &options, hits, &n, NULL), RK_OK);
        assert_int_equal(
            rk_flat_search(&v, 0, metrics[m], data, DIM * 4, &options, flat, &n_flat, NULL), RK_OK);
        assert_int_equal(n, n_flat);
        assert_memory_equal(hits, flat, n * sizeof(*hits));
        rk_index_free(index);
    }
    rk_arena_free(arena);
    rk_free(data);
}

static void
test_few_rows(void **state)
{
    static const size_t counts[] = {0, 1, 2, 31, 33, 65, 150};
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(counts); i++) {
        float *data = testing_dense(RK_VEC_F32, 3, counts[i] + 1, 2, 7);
        rk_vectors v = {RK_VEC_F32, 3, counts[i], data, NULL};
        rk_index *index = build(i % 2 ? "AISAQ" : "DISKANN", RK_METRIC_L2, &v);
        rk_str image = save(index);
        memory_pages pages = pages_over(image);
        rk_index *paged = NULL;
        rk_search_options options = {.k = 200, .filter_count = counts[i], .arena = arena};
        rk_hit hits[200];
        uint32_t n = 99;
        rk_err err = {0};
        if (rk_index_open_pages(&paged, &pages.base, &v, NULL, &err) != RK_OK) {
            fail_msg("%zu rows: %s", counts[i], err.text);
        }
        assert_int_equal(rk_index_search(paged, data, 12, &options, hits, &n, &err), RK_OK);
        assert_int_equal(n, counts[i]);
        assert_int_equal(rk_index_verify(paged, NULL, &err), RK_OK);
        rk_index_free(paged);
        rk_index_free(index);
        rk_free((void *)(uintptr_t)image.data);
        rk_free(data);
    }
    rk_arena_free(arena);
}

/* Searches all queries; RK_OK or the first error. */
static rk_code
search_some(const rk_index *index, const float *queries, uint32_t dim, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_code code = arena ? RK_OK : RK_ENOMEM;

    for (size_t q = 0; q < QUERIES && code == RK_OK; q++) {
        rk_search_options options = {.k = K, .filter_count = ROWS, .arena = arena};
        rk_hit hits[K];
        uint32_t n = 0;
        code = rk_index_search(index, queries + q * dim, dim * 4, &options, hits, &n, err);
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return code;
}

/* Whatever byte is flipped, it is found: at open, or by the search that reads it, or by verify. */
static void
test_flipped_bytes(void **state)
{
    static const char *const kinds[] = {"DISKANN", "AISAQ"};
    enum { DIM = 32 };
    float *data = testing_dense(RK_VEC_F32, DIM, ROWS, 8, 51);
    float *queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 8, 52);
    rk_vectors v = {RK_VEC_F32, DIM, ROWS, data, NULL};
    testing_rng rng = {4};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        rk_index *index = build(kinds[i], RK_METRIC_L2, &v);
        rk_str image = save(index);
        char *bytes = (char *)(uintptr_t)image.data;
        memory_pages pages = pages_over(image);
        unsigned by_search = 0;
        for (size_t t = 0; t < 60; t++) {
            size_t at = testing_u64(&rng) % image.len;
            rk_index *paged = NULL;
            rk_err err = {0};
            bytes[at] = (char)(bytes[at] ^ 16);
            if (rk_index_open_pages(&paged, &pages.base, &v, NULL, &err) == RK_OK) {
                rk_code code = search_some(paged, queries, DIM, &err);
                assert_true(code == RK_OK || code == RK_ECORRUPT);
                by_search += code == RK_ECORRUPT;
                /* what is not found lies in the gap before the pages */
                if (rk_index_verify(paged, NULL, &err) == RK_OK) {
                    assert_true(at + RK_PAGE_BYTES < image.len && bytes[at] == 16);
                    assert_int_equal(code, RK_OK);
                }
            }
            rk_index_free(paged);
            bytes[at] = (char)(bytes[at] ^ 16);
        }
        assert_true(by_search > 0);
        assert_int_equal(pages.taken, 0);
        rk_index_free(index);
        rk_free(bytes);
    }
    rk_free(data);
    rk_free(queries);
}

/* A read that fails fails the open or the search, with its own error, and leaves nothing taken. */
static void
test_failed_reads(void **state)
{
    enum { DIM = 32 };
    float *data = testing_dense(RK_VEC_F32, DIM, ROWS, 8, 51);
    float *queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 8, 52);
    rk_vectors v = {RK_VEC_F32, DIM, ROWS, data, NULL};
    rk_index *index = build("AISAQ", RK_METRIC_L2, &v);
    rk_str image = save(index);
    memory_pages pages = pages_over(image);
    unsigned failed = 0;

    RK_UNUSED(state);
    for (int64_t nth = 0;; nth++) {
        rk_index *paged = NULL;
        rk_mem *mem = rk_mem_new(NULL, "test", 0);
        rk_err err = {0};
        pages.fail_after = nth;
        rk_code code = rk_index_open_pages(&paged, &pages.base, &v, mem, &err);
        if (code == RK_OK) {
            code = search_some(paged, queries, DIM, &err);
        }
        rk_index_free(paged);
        assert_int_equal(rk_mem_used(mem), 0);
        rk_mem_free(mem);
        assert_int_equal(pages.taken, 0);
        if (code == RK_OK) {
            break;
        }
        assert_int_equal(code, RK_EIO);
        assert_string_equal(err.text, "the disk is gone");
        failed++;
    }
    assert_true(failed > 20);
    rk_index_free(index);
    rk_free((void *)(uintptr_t)image.data);
    rk_free(data);
    rk_free(queries);
}

static void
test_failing_allocations(void **state)
{
    enum { DIM = 16, N = 400 };
    float *data = testing_dense(RK_VEC_F32, DIM, N, 4, 61);
    rk_vectors v = {RK_VEC_F32, DIM, N, data, NULL};
    rk_mem *mem = rk_mem_new(NULL, "test", 0);

    RK_UNUSED(state);
    for (int64_t n = 0;; n++) {
        rk_build_options options = {.metric = RK_METRIC_IP, .mem = mem};
        rk_index *index = NULL;
        rk_err err = {0};
        rk_alloc_fail_after(n);
        rk_code code = rk_index_build(&index, RK_STR("AISAQ"), &v, &options, &err);
        rk_alloc_fail_after(-1);
        rk_index_free(index);
        assert_int_equal(rk_mem_used(mem), 0);
        if (code == RK_OK) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
    }
    rk_index *index = build("AISAQ", RK_METRIC_IP, &v);
    rk_str image = save(index);
    memory_pages pages = pages_over(image);
    for (int64_t n = 0;; n++) {
        rk_index *paged = NULL;
        rk_err err = {0};
        rk_alloc_fail_after(n);
        rk_code code = rk_index_open_pages(&paged, &pages.base, &v, mem, &err);
        if (code == RK_OK) {
            code = search_some(paged, data, DIM, &err);
        }
        rk_alloc_fail_after(-1);
        rk_index_free(paged);
        assert_int_equal(rk_mem_used(mem), 0);
        assert_int_equal(pages.taken, 0);
        if (code == RK_OK) {
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
    }
    rk_index_free(index);
    rk_free((void *)(uintptr_t)image.data);
    rk_mem_free(mem);
    rk_free(data);
}

static void
test_cancel_and_budget(void **state)
{
    float *data = testing_dense(RK_VEC_F32, 32, ROWS, 4, 61);
    rk_vectors v = {RK_VEC_F32, 32, ROWS, data, NULL};
    _Atomic(bool) cancel = true;
    rk_build_options options = {.metric = RK_METRIC_L2, .cancel = &cancel};
    rk_index *index = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    assert_int_equal(rk_index_build(&index, RK_STR("DISKANN"), &v, &options, &err), RK_ECANCELLED);
    assert_null(index);
    options.cancel = NULL;
    options.mem = rk_mem_new(NULL, "small", 50000);
    assert_int_equal(rk_index_build(&index, RK_STR("DISKANN"), &v, &options, &err), RK_ENOMEM);
    assert_int_equal(rk_mem_used(options.mem), 0);
    rk_mem_free(options.mem);
    rk_free(data);
}

/* Rows that lie together get pages of their own; whatever the start, no row is lost. */
static void
test_order(void **state)
{
    enum { DIM = 6, PAGES = 16, PER_PAGE = 8, N = PAGES * PER_PAGE };
    float data[N * DIM];
    testing_rng rng = {3};
    rk_vectors v = {RK_VEC_F32, DIM, N, data, NULL};
    rk_index index = {.vectors = v};

    RK_UNUSED(state);
    for (size_t i = 0; i < N; i++) {
        testing_rng centre = {100 + i % PAGES};
        for (size_t d = 0; d < DIM; d++) {
            data[i * DIM + d] = 10 * testing_gauss(&centre) + 0.01f * testing_gauss(&rng);
        }
    }
    rk__space_init(&index.space, &v, RK_METRIC_L2);
    for (uint32_t first = 0; first < 20; first++) {
        uint32_t rows[N];
        bool seen[N] = {false};
        for (uint32_t i = 0; i < N; i++) {
            rows[i] = i;
        }
        assert_true(rk__disk_order_rows(&index, rows, N, first, PER_PAGE));
        for (uint32_t i = 0; i < N; i++) {
            assert_true(rows[i] < N && !seen[rows[i]]);
            seen[rows[i]] = true;
            if (first % PER_PAGE == 0) {
                assert_int_equal(rows[i] % PAGES, rows[i / PER_PAGE * PER_PAGE] % PAGES);
            }
        }
    }
}

/* Several threads on one index in a file, through io_uring where there is one, and without. */
typedef struct racer {
    const rk_index *index;
    const float *queries;
    rk_hit hits[QUERIES][K];
    rk_code code;
} racer;

static void
race(void *arg)
{
    racer *r = arg;
    rk_arena *arena = rk_arena_new(0);
    rk_param list = {RK_STR("search_list"), RK_STR("4000")}; /* exact: the same for all */

    for (size_t q = 0; q < QUERIES && r->code == RK_OK; q++) {
        rk_search_options options = {
            .k = K, .params = {&list, 1}, .filter_count = ROWS, .arena = arena};
        uint32_t n = 0;
        r->code =
            rk_index_search(r->index, r->queries + q * 32, 32 * 4, &options, r->hits[q], &n, NULL);
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

static void
test_threads_on_a_file(void **state)
{
    enum { DIM = 32, THREADS = 4 };
    static racer racers[THREADS];
    float *data = testing_dense(RK_VEC_F32, DIM, ROWS, 8, 51);
    float *queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 8, 52);
    rk_vectors v = {RK_VEC_F32, DIM, ROWS, data, NULL};
    rk_index *index = build("AISAQ", RK_METRIC_L2, &v);
    rk_str image = save(index);
    char path[64];

    RK_UNUSED(state);
    (void)snprintf(path, sizeof(path), "/tmp/redkite-disk-%d", (int)getpid());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(image.data, 1, image.len, file), image.len);
    assert_int_equal(fclose(file), 0);
    for (int refuse = 0; refuse < 2; refuse++) {
        rk_pages *pages = NULL;
        rk_index *paged = NULL;
        rk_thread threads[THREADS];
        rk_err err = {0};
        rk_pages_refuse_uring(refuse == 1);
        assert_int_equal(rk_pages_open_file(&pages, path, &err), RK_OK);
        assert_int_equal(rk_index_open_pages(&paged, pages, &v, NULL, &err), RK_OK);
        for (size_t t = 0; t < THREADS; t++) {
            racers[t] = (racer){.index = paged, .queries = queries};
            assert_int_equal(rk_thread_start(&threads[t], "race", race, &racers[t]), RK_OK);
        }
        for (size_t t = 0; t < THREADS; t++) {
            rk_thread_join(threads[t]);
            assert_int_equal(racers[t].code, RK_OK);
            assert_memory_equal(racers[t].hits, racers[0].hits, sizeof(racers[t].hits));
        }
        rk_index_free(paged);
        rk_pages_close(pages);
    }
    rk_pages_refuse_uring(false);
    (void)unlink(path);
    rk_index_free(index);
    rk_free((void *)(uintptr_t)image.data);
    rk_free(data);
    rk_free(queries);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_filters_images),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_odd_rows),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_failed_reads),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_cancel_and_budget),
        cmocka_unit_test(test_threads_on_a_file),
        cmocka_unit_test(test_order),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
