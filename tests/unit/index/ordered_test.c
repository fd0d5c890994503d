/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters in the order of an index (rk_index_filter_new()): the same answers as without, at every
 * size, of equal rows and from opened images; what is refused; what is charged; threads that share
 * one. Recall by share and shape is in cluster_test.c.
 */
#include "index_testing.h"

enum { ROWS = 9001, DIM = 40, K = 10, QUERIES = 24, THREADS = 4, ROW_BYTES = DIM * 4 };

static const char *const kinds[] = {"AUTOINDEX", "IVF_RABITQ", "HNSW"};

typedef struct bed {
    rk_vectors v;
    uint8_t *data;
    uint8_t *queries;
    rk__near *truth; /* room for all rows */
} bed;

static void
bed_init(bed *b)
{
    rk_kernels_init();
    b->data = testing_dense(RK_VEC_F32, DIM, ROWS, 12, 31);
    b->queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 12, 32);
    b->v = (rk_vectors){RK_VEC_F32, DIM, ROWS, b->data, NULL};
    b->truth = rk_alloc(ROWS * sizeof(*b->truth));
    assert_non_null(b->truth);
}

static void
bed_deinit(bed *b)
{
    rk_free(b->data);
    rk_free(b->queries);
    rk_free(b->truth);
}

static rk_index *
build(const bed *b, const char *kind)
{
    rk_build_options options = {.metric = RK_METRIC_L2, .seed = 3};
    rk_index *index = NULL;
    rk_err err = {0};

    if (rk_index_build(&index, rk_str_from(kind), &b->v, &options, &err) != RK_OK) {
        fail_msg("%s: %s", kind, err.text);
    }
    return index;
}

/* |count| rows of a filter, at random or the first ones. */
static void
fill(rk_bitset *filter, size_t count, bool first)
{
    testing_rng rng = {count};

    rk_bitset_fill(filter, false);
    for (size_t n = 0; n < count;) {
        size_t row = first ? n : testing_u64(&rng) % filter->nbits;
        n += !rk_bitset_get(filter, row);
        rk_bitset_set(filter, row);
    }
}

static uint32_t
search(const rk_index *index, const uint8_t *query, const rk_bitset *filter, size_t count,
       const rk_index_filter *ordered, const char *recall, uint32_t k, rk_hit *hits)
{
    rk_param param = {RK_STR("target_recall"), rk_str_from(recall)};
    rk_arena *arena = rk_arena_new(0);
    rk_search_options options = {.k = k,
                                 .params = {&param, 1},
                                 .filter = filter,
                                 .filter_count = count,
                                 .ordered = ordered,
                                 .arena = arena};
    uint32_t n = 0;
    rk_err err = {0};

    if (rk_index_search(index, query, ROW_BYTES, &options, hits, &n, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    rk_arena_free(arena);
    return n;
}

/* Hits among the |k| best of |filter|; every one passes, and there are k while k pass. */
static uint32_t
check_search(const bed *b, const rk_index *index, size_t q, const rk_bitset *filter, size_t count,
             const rk_index_filter *ordered, const char *recall, uint32_t k, rk_hit *hits)
{
    const uint8_t *query = b->queries + q * ROW_BYTES;
    size_t n_truth = testing_truth(&b->v, RK_METRIC_L2, query, ROW_BYTES, filter, b->truth);
    uint32_t n = search(index, query, filter, count, ordered, recall, k, hits);
    uint32_t right = 0;

    assert_int_equal(n_truth, count);
    assert_int_equal(n, RK_MIN((size_t)k, count));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(rk_bitset_get(filter, hits[i].row));
        right += hits[i].score <= b->truth[n - 1].key * 1.0001f;
    }
    return right;
}

static void
test_sizes(void **state)
{
    static const size_t counts[] = {1,   2,   31,   33,   64,   65,   66,       500,
                                    701, 901, 2250, 4500, 6000, 8100, ROWS - 1, ROWS};
    static rk_hit hits[300];
    static rk_hit plain[300];
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        rk_index *index = build(&b, kinds[i]);
        for (size_t c = 0; c < RK_COUNT(counts) * 2; c++) {
            size_t count = counts[c / 2];
            uint32_t right = 0;
            uint32_t wanted = 0;
            rk_index_filter *ordered = NULL;
            fill(&filter, count, c % 2 == 1);
            assert_int_equal(rk_index_filter_new(&ordered, index, &filter, count, NULL, NULL),
                             RK_OK);
            assert_true((ordered != NULL) == (count < ROWS));
            for (size_t q = 0; q < QUERIES; q++) {
                uint32_t k = q % 8 == 7 ? 300 : K;
                right += check_search(&b, index, q, &filter, count, ordered, "0.97", k, hits);
                wanted += (uint32_t)RK_MIN((size_t)k, count);
                if (count <= 64) { /* scored on the vectors: the same to the bit */
                    uint32_t n = search(index, b.queries + q * ROW_BYTES, &filter, count, NULL,
                                        "0.97", k, plain);
                    assert_memory_equal(plain, hits, n * sizeof(*hits));
                }
            }
            if (right < (count <= 64 ? 1.0 : 0.95) * wanted) {
                fail_msg("%s: %zu rows, %u of %u found", kinds[i], count, right, wanted);
            }
            rk_index_filter_free(ordered);
        }
        rk_index_free(index);
    }
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

/* All that lies within a radius, and pages behind one another. */
static void
test_ranges(void **state)
{
    static rk_hit hits[400];
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    for (size_t i = 0; i < RK_COUNT(kinds) * 3; i++) {
        size_t count = (size_t[]){200, 1200, 7000}[i % 3];
        rk_index *index = build(&b, kinds[i / 3]);
        rk_index_filter *ordered = NULL;
        uint32_t found = 0;
        uint32_t wanted = 0;
        fill(&filter, count, false);
        assert_int_equal(rk_index_filter_new(&ordered, index, &filter, count, NULL, NULL), RK_OK);
        for (size_t q = 0; q < QUERIES; q++) {
            rk_arena *arena = rk_arena_new(0);
            (void)testing_truth(&b.v, RK_METRIC_L2, b.queries + q * ROW_BYTES, ROW_BYTES, &filter,
                                b.truth);
            rk_search_options options = {.k = 400,
                                         .filter = &filter,
                                         .filter_count = count,
                                         .ordered = ordered,
                                         .range = true,
                                         .radius = b.truth[50].key,
                                         .arena = arena};
            uint32_t n = 0;
            assert_int_equal(rk_index_search(index, b.queries + q * ROW_BYTES, ROW_BYTES, &options,
                                             hits, &n, NULL),
                             RK_OK);
            for (uint32_t h = 0; h < n; h++) {
                assert_true(rk_bitset_get(&filter, hits[h].row));
                assert_true(hits[h].score < b.truth[50].key * 1.0001f);
            }
            found += n;
            wanted += 50;
            options.has_range_filter = true;
            options.range_filter = b.truth[10].key;
            options.radius = INFINITY;
            options.k = 40;
            assert_int_equal(rk_index_search(index, b.queries + q * ROW_BYTES, ROW_BYTES, &options,
                                             hits, &n, NULL),
                             RK_OK);
            assert_int_equal(n, 40);
            for (uint32_t h = 0; h < n; h++) {
                assert_true(rk_bitset_get(&filter, hits[h].row));
                assert_true(hits[h].score >= b.truth[10].key * 0.9999f);
            }
            rk_arena_free(arena);
        }
        if (found < 0.95 * wanted) {
            fail_msg("%s: %zu rows, %u of %u in range", kinds[i / 3], count, found, wanted);
        }
        rk_index_filter_free(ordered);
        rk_index_free(index);
    }
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

/* Every row four times; of each only the last passes, which in a graph no node stands for. */
static void
test_equal_rows(void **state)
{
    enum { TIMES = 4, DIFFERENT = ROWS / TIMES };
    rk_hit hits[K];
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    for (size_t row = DIFFERENT; row < (size_t)DIFFERENT * TIMES; row++) {
        memcpy(b.data + row * ROW_BYTES, b.data + row % DIFFERENT * ROW_BYTES, ROW_BYTES);
    }
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    for (size_t row = (size_t)DIFFERENT * (TIMES - 1); row < (size_t)DIFFERENT * TIMES; row++) {
        rk_bitset_set(&filter, row);
    }
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        rk_index *index = build(&b, kinds[i]);
        rk_index_filter *ordered = NULL;
        uint32_t right = 0;
        assert_int_equal(rk_index_filter_new(&ordered, index, &filter, DIFFERENT, NULL, NULL),
                         RK_OK);
        assert_non_null(ordered);
        for (size_t q = 0; q < QUERIES; q++) {
            right += check_search(&b, index, q, &filter, DIFFERENT, ordered, "0.97", K, hits);
        }
        if (right < 0.95 * QUERIES * K) {
            fail_msg("%s: %u of %d found", kinds[i], right, QUERIES * K);
        }
        rk_index_filter_free(ordered);
        rk_index_free(index);
    }
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

static void
test_opened_image(void **state)
{
    rk_hit built[K];
    rk_hit opened[K];
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    fill(&filter, 1000, false);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        rk_index *index = build(&b, kinds[i]);
        rk_index *again = NULL;
        rk_buf buf = {0};
        rk_index_filter *ordered[2] = {NULL, NULL};
        assert_int_equal(rk_index_save(index, testing_append, &buf, NULL), RK_OK);
        char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
        assert_non_null(image);
        memcpy(image, buf.data, buf.len);
        assert_int_equal(rk_index_open(&again, (rk_str){image, buf.len}, &b.v, NULL, NULL), RK_OK);
        assert_int_equal(rk_index_filter_new(&ordered[0], index, &filter, 1000, NULL, NULL), RK_OK);
        assert_int_equal(rk_index_filter_new(&ordered[1], again, &filter, 1000, NULL, NULL), RK_OK);
        for (size_t q = 0; q < QUERIES; q++) {
            const uint8_t *query = b.queries + q * ROW_BYTES;
            assert_int_equal(search(index, query, &filter, 1000, ordered[0], "0.95", K, built), K);
            assert_int_equal(search(again, query, &filter, 1000, ordered[1], "0.95", K, opened), K);
            assert_memory_equal(built, opened, sizeof(built));
        }
        for (size_t j = 0; j < 2; j++) {
            rk_index_filter_free(ordered[j]);
        }
        rk_index_free(again);
        rk_index_free(index);
        rk_free(image);
        rk_buf_deinit(&buf);
    }
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

/* An image whose places, lists and rows lie must not crash a search, nor return what is masked. */
static void
test_lying_places(void **state)
{
    rk_hit hits[K];
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    fill(&filter, 1500, false);
    rk_index *index = build(&b, "IVF_RABITQ");
    rk_buf buf = {0};
    assert_int_equal(rk_index_save(index, testing_append, &buf, NULL), RK_OK);
    char *image = rk_alloc_aligned(64, (buf.len + 63) / 64 * 64);
    assert_non_null(image);
    memcpy(image, buf.data, buf.len);
    rk_index *again = NULL;
    assert_int_equal(rk_index_open(&again, (rk_str){image, buf.len}, &b.v, NULL, NULL), RK_OK);
    testing_rng rng = {1};
    for (size_t i = 0; i < buf.len / 2; i++) { /* the second half: rows, places, lists among it */
        if (testing_u64(&rng) % 8 == 0) {
            image[buf.len - 1 - i] = (char)testing_u64(&rng);
        }
    }
    rk_index_filter *ordered = NULL;
    rk_arena *arena = rk_arena_new(0);
    assert_int_equal(rk_index_filter_new(&ordered, again, &filter, 1500, NULL, NULL), RK_OK);
    for (size_t q = 0; q < QUERIES; q++) {
        rk_search_options options = {
            .k = K, .filter = &filter, .filter_count = 1500, .ordered = ordered, .arena = arena};
        uint32_t n = 0;
        assert_int_equal(
            rk_index_search(again, b.queries + q * ROW_BYTES, ROW_BYTES, &options, hits, &n, NULL),
            RK_OK);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(rk_bitset_get(&filter, hits[i].row));
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    rk_index_filter_free(ordered);
    rk_index_free(again);
    rk_index_free(index);
    rk_free(image);
    rk_buf_deinit(&buf);
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

static void
test_refusals(void **state)
{
    rk_hit hits[K];
    uint32_t n = 0;
    bed b;
    rk_bitset filter;
    rk_bitset wrong;
    rk_index_filter *ordered = NULL;
    rk_err err = {0};

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    assert_int_equal(rk_bitset_init(&wrong, ROWS + 64), RK_OK);
    fill(&filter, 500, false);
    rk_index *flat = build(&b, "FLAT");
    rk_index *index = build(&b, "AUTOINDEX");
    rk_index *other = build(&b, "AUTOINDEX");
    assert_int_equal(rk_index_filter_new(&ordered, flat, &filter, 500, NULL, &err), RK_OK);
    assert_null(ordered);
    assert_int_equal(rk_index_filter_new(&ordered, index, &filter, 0, NULL, &err), RK_OK);
    assert_null(ordered);
    rk_index_filter_free(NULL);
    assert_int_equal(rk_index_filter_new(&ordered, index, &wrong, 1, NULL, &err), RK_EINTERNAL);
    assert_null(ordered);
    rk_err_clear(&err);
    assert_int_equal(rk_index_filter_new(&ordered, index, &filter, ROWS + 1, NULL, &err),
                     RK_EINTERNAL);
    assert_null(ordered);
    rk_err_clear(&err);
    assert_int_equal(rk_index_filter_new(&ordered, index, &filter, 500, NULL, &err), RK_OK);
    assert_non_null(ordered);
    rk_arena *arena = rk_arena_new(0);
    rk_search_options options = {
        .k = K, .filter = &filter, .filter_count = 500, .ordered = ordered, .arena = arena};
    assert_int_equal(rk_index_search(other, b.queries, ROW_BYTES, &options, hits, &n, &err),
                     RK_EINTERNAL);
    rk_err_clear(&err);
    options.filter_count = 499;
    assert_int_equal(rk_index_search(index, b.queries, ROW_BYTES, &options, hits, &n, &err),
                     RK_EINTERNAL);
    rk_err_clear(&err);
    options.filter = NULL;
    assert_int_equal(rk_index_search(index, b.queries, ROW_BYTES, &options, hits, &n, &err),
                     RK_EINTERNAL);
    rk_err_clear(&err);
    rk_arena_free(arena);
    rk_index_filter_free(ordered);
    rk_index_free(other);
    rk_index_free(index);
    rk_index_free(flat);
    rk_bitset_deinit(&wrong);
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

/* What is charged, less than all of it, nothing; memory that is out. */
static void
test_memory(void **state)
{
    rk_hit hits[K];
    bed b;
    rk_bitset filter;
    rk_index_filter *ordered = NULL;
    uint64_t whole = 0;
    bool refused = false;
    bool unpacked = false;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    (void)testing_truth(&b.v, RK_METRIC_L2, b.queries, ROW_BYTES, NULL, b.truth);
    for (size_t i = 0; i < 900; i++) { /* few lists hold all of them */
        rk_bitset_set(&filter, b.truth[i].row);
    }
    rk_index *index = build(&b, "AUTOINDEX");
    for (uint64_t limit = 0; limit < 40; limit++) {
        rk_mem *mem = rk_mem_new(NULL, "test", limit * limit * 256);
        rk_err err = {0};
        rk_code code = rk_index_filter_new(&ordered, index, &filter, 900, mem, &err);
        if (code == RK_OK) {
            assert_non_null(ordered);
            assert_int_equal(rk_mem_used(mem), rk_index_filter_bytes(ordered));
            whole = limit == 0 ? rk_mem_used(mem) : whole;
            unpacked = unpacked || rk_mem_used(mem) < whole;
            (void)check_search(&b, index, 0, &filter, 900, ordered, "0.97", K, hits);
        } else {
            assert_int_equal(code, RK_ENOMEM);
            assert_null(ordered);
            refused = true;
        }
        rk_index_filter_free(ordered);
        ordered = NULL;
        assert_int_equal(rk_mem_used(mem), 0);
        rk_mem_free(mem);
        rk_err_clear(&err);
    }
    assert_true(refused);
    assert_true(unpacked);
    for (int64_t after = 0; after < 6; after++) {
        rk_alloc_fail_after(after);
        rk_code code = rk_index_filter_new(&ordered, index, &filter, 900, NULL, NULL);
        rk_alloc_fail_after(-1);
        assert_true(code == RK_OK || code == RK_ENOMEM);
        assert_true(code != RK_OK || ordered);
        assert_true(after < 5 || code == RK_OK);
        rk_index_filter_free(ordered);
        ordered = NULL;
    }
    rk_index_free(index);
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

typedef struct shared_bed {
    const bed *b;
    const rk_index *index;
    const rk_bitset *filter;
    const rk_index_filter *ordered;
    rk_hit alone[QUERIES][K];
} shared_bed;

static void
search_shared(void *arg, size_t i)
{
    const shared_bed *s = arg;
    rk_hit hits[K];

    for (size_t q = 0; q < QUERIES; q++) {
        size_t at = (q + i) % QUERIES;
        (void)search(s->index, s->b->queries + at * ROW_BYTES, s->filter, 1200, s->ordered, "0.95",
                     K, hits);
        assert_memory_equal(hits, s->alone[at], sizeof(hits));
    }
}

static void
test_threads(void **state)
{
    static shared_bed s;
    bed b;
    rk_bitset filter;

    RK_UNUSED(state);
    bed_init(&b);
    assert_int_equal(rk_bitset_init(&filter, ROWS), RK_OK);
    fill(&filter, 1200, false);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        rk_index *index = build(&b, kinds[i]);
        rk_index_filter *ordered = NULL;
        assert_int_equal(rk_index_filter_new(&ordered, index, &filter, 1200, NULL, NULL), RK_OK);
        s = (shared_bed){.b = &b, .index = index, .filter = &filter, .ordered = ordered};
        for (size_t q = 0; q < QUERIES; q++) {
            assert_int_equal(search(index, b.queries + q * ROW_BYTES, &filter, 1200, ordered,
                                    "0.95", K, s.alone[q]),
                             K);
        }
        testing_pool_run(NULL, THREADS * 2, search_shared, &s);
        rk_index_filter_free(ordered);
        rk_index_free(index);
    }
    rk_bitset_deinit(&filter);
    bed_deinit(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_equal_rows),   cmocka_unit_test(test_opened_image),
        cmocka_unit_test(test_lying_places), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),       cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
