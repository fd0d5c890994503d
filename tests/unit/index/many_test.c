/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several queries of one call get what each gets alone, to the bit: every kind x type x metric,
 * with filters of several densities and in a range, for numbers of queries around the widths of the
 * engine; raw rows in chunks; queries that are not finite among others; refusals, failing
 * allocations, and threads.
 */
#include <pthread.h>

#include "index/params.h"
#include "index_testing.h"

enum { ROWS = 1500, QUERIES = 37, K = 11 };

static const size_t numbers[] = {1, 2, 3, 5, 8, 33, QUERIES};
static const double densities[] = {1.0, 0.6, 0.05, 0.004, 0.0};

typedef struct set {
    rk_vectors v;
    rk_metric metric;
    rk_index *index; /* NULL: the rows themselves */
    rk_str queries[QUERIES];
    void *query_data;
    uint64_t *row_offsets;
    uint64_t *query_offsets;
} set;

static void
set_init(set *s, rk_vector_type type, uint32_t dim, rk_metric metric, uint64_t seed)
{
    bool sparse = type == RK_VEC_SPARSE;

    *s = (set){.metric = metric};
    void *data = sparse ? testing_sparse(ROWS, 400, 30, seed, &s->row_offsets)
                        : testing_dense(type, dim, ROWS, 8, seed);
    s->query_data = sparse ? testing_sparse(QUERIES, 400, 12, seed + 1, &s->query_offsets)
                           : testing_dense(type, dim, QUERIES, 8, seed + 1);
    s->v = (rk_vectors){type, dim, ROWS, data, s->row_offsets};
    for (size_t q = 0; q < QUERIES; q++) {
        size_t bytes =
            sparse ? s->query_offsets[q + 1] - s->query_offsets[q] : rk_vector_bytes(type, dim);
        size_t at = sparse ? s->query_offsets[q] : q * bytes;
        s->queries[q] = (rk_str){(const char *)s->query_data + at, bytes};
    }
}

static void
set_deinit(set *s)
{
    rk_index_free(s->index);
    rk_free((void *)(uintptr_t)s->v.data);
    rk_free(s->query_data);
    rk_free(s->row_offsets);
    rk_free(s->query_offsets);
}

/* Raw rows are searched in chunks of |chunk|, the last one shorter. */
static rk_code
search_one(const set *s, rk_str query, size_t chunk, const rk_search_options *o, rk_hit *hits,
           uint32_t *n, rk_err *err)
{
    size_t bytes = rk_vector_bytes(s->v.type, s->v.dim);

    rk_arena_reset(o->arena);
    *n = 0;
    if (s->index) {
        return rk_index_search(s->index, query.data, query.len, o, hits, n, err);
    }
    for (size_t base = 0; base < ROWS; base += chunk) {
        rk_vectors part = s->v;
        part.rows = RK_MIN(chunk, ROWS - base);
        part.data = s->v.offsets ? s->v.data : (const uint8_t *)s->v.data + base * bytes;
        part.offsets = s->v.offsets ? s->v.offsets + base : NULL;
        RK_RET(rk_flat_search(&part, base, s->metric, query.data, query.len, o, hits, n, err));
    }
    return RK_OK;
}

static rk_code
search_many(const set *s, size_t n, size_t chunk, const rk_search_options *o, rk_hit *hits,
            uint32_t *counts, rk_err *err)
{
    size_t bytes = rk_vector_bytes(s->v.type, s->v.dim);

    if (s->index) {
        return rk_index_search_many(s->index, s->queries, n, o, hits, counts, err);
    }
    memset(counts, 0, n * sizeof(*counts));
    for (size_t base = 0; base < ROWS; base += chunk) {
        rk_vectors part = s->v;
        part.rows = RK_MIN(chunk, ROWS - base);
        part.data = s->v.offsets ? s->v.data : (const uint8_t *)s->v.data + base * bytes;
        part.offsets = s->v.offsets ? s->v.offsets + base : NULL;
        RK_RET(rk_flat_search_many(&part, base, s->metric, s->queries, n, o, hits, counts, err));
    }
    return RK_OK;
}

static void
compare(const set *s, const rk_search_options *o, size_t n, size_t chunk, const char *what)
{
    rk_hit many[QUERIES * K];
    uint32_t counts[QUERIES];
    rk_err err = {0};

    memset(counts, 0xff, sizeof(counts));
    if (search_many(s, n, chunk, o, many, counts, &err) != RK_OK) {
        fail_msg("%s: %s", what, err.text);
    }
    for (size_t q = 0; q < n; q++) {
        rk_hit hits[K];
        uint32_t count = 0;
        if (search_one(s, s->queries[q], chunk, o, hits, &count, &err) != RK_OK) {
            fail_msg("%s: %s", what, err.text);
        }
        if (count != counts[q] || memcmp(hits, many + q * o->k, count * sizeof(*hits)) != 0) {
            fail_msg("%s: query %zu of %zu: %u hits in one call, %u alone, or others", what, q, n,
                     counts[q], count);
        }
    }
}

static void
compare_all(const set *s, rk_params params, size_t chunk, const char *kind, bool all)
{
    rk_arena *arena = rk_arena_new(0);
    rk_hit hits[K];
    uint32_t n = 0;
    char what[128];

    for (size_t d = 0; d < RK_COUNT(densities); d++) {
        rk_bitset filter;
        testing_filter(&filter, ROWS, densities[d], 5 + d);
        rk_search_options o = {.k = K,
                               .params = params,
                               .filter = d == 0 ? NULL : &filter,
                               .filter_count = rk_bitset_count(&filter),
                               .arena = arena};
        snprintf(what, sizeof(what), "%s, type %d, %s, density %g", kind, (int)s->v.type,
                 rk_metric_name(s->metric), densities[d]);
        for (size_t i = all ? 0 : RK_COUNT(numbers) - 1; i < RK_COUNT(numbers); i++) {
            compare(s, &o, numbers[i], chunk, what);
        }
        assert_int_equal(search_one(s, s->queries[0], chunk, &o, hits, &n, NULL), RK_OK);
        if (n == K && s->metric != RK_METRIC_MHJACCARD) {
            o.range = true;
            o.radius = hits[8].score;
            compare(s, &o, 5, chunk, what);
            o.has_range_filter = true;
            o.range_filter = hits[3].score;
            compare(s, &o, QUERIES, chunk, what);
        }
        rk_bitset_deinit(&filter);
    }
    rk_arena_free(arena);
}

static uint32_t
dim_of(rk_vector_type type, rk_metric metric)
{
    return type == RK_VEC_SPARSE           ? 0
           : metric == RK_METRIC_MHJACCARD ? 256
           : type == RK_VEC_BINARY         ? 128
                                           : 40;
}

static void
build(set *s, const char *kind)
{
    rk_param params[4] = {{RK_STR("nlist"), RK_STR("24")},
                          {RK_STR("m"), RK_STR("8")},
                          {RK_STR("M"), RK_STR("12")},
                          {RK_STR("efConstruction"), RK_STR("40")}};
    rk_build_options o = {.metric = s->metric, .params = {params, 4}, .seed = 3};
    rk_err err = {0};

    if (s->metric == RK_METRIC_MHJACCARD) {
        params[0] = (rk_param){RK_STR("mh_element_bit_width"), RK_STR("8")};
        params[1] = (rk_param){RK_STR("mh_lsh_band"), RK_STR("16")};
    }
    if (rk_index_build(&s->index, rk_str_from(kind), &s->v, &o, &err) != RK_OK) {
        fail_msg("%s: %s", kind, err.text);
    }
}

static void
test_every_kind(void **state)
{
    static const rk_vector_type types[] = {RK_VEC_BINARY, RK_VEC_F32,    RK_VEC_F16,
                                           RK_VEC_BF16,   RK_VEC_SPARSE, RK_VEC_I8};
    rk_param few[2] = {{RK_STR("nprobe"), RK_STR("3")}, {RK_STR("ef"), RK_STR("40")}};
    unsigned seen = 0;

    RK_UNUSED(state);
    for (size_t kind = 0; kind < rk__kind_table_len; kind++) {
        const rk__kind_spec *spec = &rk__kind_table[kind];
        for (size_t t = 0; t < RK_COUNT(types); t++) {
            for (int m = RK_METRIC_L2; m <= RK_METRIC_MHJACCARD; m++) {
                set s;
                if (!rk__kind_takes(spec->id, types[t], (rk_metric)m)) {
                    continue;
                }
                set_init(&s, types[t], dim_of(types[t], (rk_metric)m), (rk_metric)m, 40 + t);
                build(&s, spec->name);
                compare_all(&s, (rk_params){few, 2}, ROWS, spec->name, false);
                set_deinit(&s);
                seen++;
            }
        }
    }
    assert_true(seen >= 80);
}

/* What a user has who says nothing: AUTOINDEX, its own parameters, a wanted recall. */
static void
test_defaults(void **state)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    rk_param wanted = {RK_STR("target_recall"), RK_STR("0.99")};

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        set s;
        set_init(&s, RK_VEC_F32, 72, metrics[m], 60);
        build(&s, "AUTOINDEX");
        compare_all(&s, (rk_params){0}, ROWS, "AUTOINDEX", true);
        compare_all(&s, (rk_params){&wanted, 1}, ROWS, "AUTOINDEX at 0.99", false);
        set_deinit(&s);
        set_init(&s, RK_VEC_I8, 72, metrics[m], 62);
        build(&s, "HNSW");
        compare_all(&s, (rk_params){0}, ROWS, "HNSW", true);
        set_deinit(&s);
    }
}

/* Walks over blocks, several in turn, with and without a filter; some find fewer than k at first.
 */
static void
test_walks(void **state)
{
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    static const char *const efs[] = {"11", "24", "60"};
    enum { MANY = 5000 };

    RK_UNUSED(state);
    for (size_t m = 0; m < RK_COUNT(metrics); m++) {
        set s;
        set_init(&s, RK_VEC_F32, 72, metrics[m], 70);
        rk_free((void *)(uintptr_t)s.v.data);
        s.v.data = testing_dense(RK_VEC_F32, 72, MANY, 8, 71);
        s.v.rows = MANY;
        build(&s, "HNSW");
        for (size_t e = 0; e < RK_COUNT(efs); e++) {
            rk_param ef = {RK_STR("ef"), rk_str_from(efs[e])};
            for (size_t d = 0; d < 3; d++) {
                static const double shares[] = {1.0, 0.8, 0.4};
                rk_arena *arena = rk_arena_new(0);
                rk_bitset filter;
                testing_filter(&filter, MANY, shares[d], 7 + d);
                rk_search_options o = {.k = K,
                                       .params = {&ef, 1},
                                       .filter = d == 0 ? NULL : &filter,
                                       .filter_count = rk_bitset_count(&filter),
                                       .arena = arena};
                for (size_t i = 0; i < RK_COUNT(numbers); i++) {
                    compare(&s, &o, numbers[i], MANY, "walks");
                }
                rk_bitset_deinit(&filter);
                rk_arena_free(arena);
            }
        }
        set_deinit(&s);
    }
}

static void
test_rows_without_an_index(void **state)
{
    static const rk_vector_type types[] = {RK_VEC_BINARY, RK_VEC_F32,    RK_VEC_F16,
                                           RK_VEC_BF16,   RK_VEC_SPARSE, RK_VEC_I8};
    static const uint32_t dims[] = {1, 7, 33, 200};
    static const size_t chunks[] = {ROWS, 401, 64};

    RK_UNUSED(state);
    for (size_t t = 0; t < RK_COUNT(types); t++) {
        for (int m = RK_METRIC_L2; m <= RK_METRIC_SUPERSTRUCTURE; m++) {
            if (!rk__metric_of_type(types[t], (rk_metric)m)) {
                continue;
            }
            for (size_t i = 0; i < RK_COUNT(dims); i++) {
                set s;
                uint32_t dim = types[t] == RK_VEC_BINARY   ? dims[i] * 8
                               : types[t] == RK_VEC_SPARSE ? 0
                                                           : dims[i];
                set_init(&s, types[t], dim, (rk_metric)m, 80 + i);
                for (size_t c = 0; c < RK_COUNT(chunks); c++) {
                    compare_all(&s, (rk_params){0}, chunks[c], "rows", i == 2);
                }
                set_deinit(&s);
            }
        }
    }
}

/* Among good queries one with NaN, one with infinity, one of zeros, one far away; rows like them.
 */
static void
test_odd_queries(void **state)
{
    static const char *const kinds[] = {"FLAT", "HNSW", "IVF_FLAT", "IVF_RABITQ", "HNSW_SQ"};
    static const rk_metric metrics[] = {RK_METRIC_L2, RK_METRIC_IP, RK_METRIC_COSINE};
    rk_param few[2] = {{RK_STR("nprobe"), RK_STR("3")}, {RK_STR("ef"), RK_STR("40")}};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(kinds) * RK_COUNT(metrics); i++) {
        set s;
        set_init(&s, RK_VEC_F32, 40, metrics[i % 3], 90);
        float *rows = (float *)(uintptr_t)s.v.data;
        float *queries = s.query_data;
        rows[100 * 40 + 3] = NAN;
        rows[200 * 40 + 4] = INFINITY;
        memset(rows + 300 * 40, 0, 160);
        for (size_t j = 0; j < 20; j++) { /* equal rows */
            memcpy(rows + (400 + j) * 40, rows + 399 * 40, 160);
        }
        queries[1 * 40] = NAN;
        queries[4 * 40 + 7] = INFINITY;
        memset(queries + 6 * 40, 0, 160);
        queries[7 * 40] = 1e20f;
        memcpy(queries + 9 * 40, rows + 399 * 40, 160);
        build(&s, kinds[i / 3]);
        compare_all(&s, (rk_params){few, 2}, ROWS, kinds[i / 3], true);
        set_deinit(&s);
    }
}

static void
test_refusals(void **state)
{
    static const char *const kinds[] = {"FLAT", "HNSW", "IVF_FLAT", "IVF_RABITQ"};
    rk_arena *arena = rk_arena_new(0);
    rk_search_options o = {.k = K, .arena = arena};
    rk_hit hits[QUERIES * K];
    uint32_t counts[QUERIES];
    set s;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        set_init(&s, RK_VEC_F32, 40, RK_METRIC_L2, 100);
        build(&s, kinds[i]);
        s.queries[20].len = 12;
        rk_err err = {0};
        assert_int_equal(rk_index_search_many(s.index, s.queries, QUERIES, &o, hits, counts, &err),
                         RK_EINVAL);
        assert_string_equal(err.text, "query vector has 12 bytes, a row of dimension 40 has 160");
        s.queries[20].len = 160;
        assert_int_equal(rk_index_search_many(s.index, s.queries, 0, &o, hits, counts, &err),
                         RK_OK);
        rk_bitset filter;
        testing_filter(&filter, ROWS - 100, 0.5, 1);
        o.filter = &filter;
        o.filter_count = 10;
        assert_int_equal(rk_index_search_many(s.index, s.queries, QUERIES, &o, hits, counts, &err),
                         RK_EINTERNAL);
        o.filter = NULL;
        rk_bitset_deinit(&filter);
        set_deinit(&s);
    }
    rk_arena_free(arena);
}

/* Every allocation of a search of many fails once: RK_ENOMEM or the right answer, and the next
 * search is as good as ever. */
static void
test_failing_allocations(void **state)
{
    static const char *const kinds[] = {"FLAT", "HNSW", "IVF_FLAT", "IVF_RABITQ"};

    unsigned refused = 0; /* not by each: some need no more than the first block of the arena */

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        set s;
        set_init(&s, RK_VEC_F32, 40, RK_METRIC_COSINE, 110);
        build(&s, kinds[i]);
        for (int64_t at = 0;; at++) {
            rk_arena *arena = rk_arena_new(0);
            rk_search_options o = {.k = K, .arena = arena};
            rk_hit hits[QUERIES * K];
            uint32_t counts[QUERIES];
            rk_err err = {0};
            rk_alloc_fail_after(at);
            rk_code code =
                rk_index_search_many(s.index, s.queries, QUERIES, &o, hits, counts, &err);
            rk_alloc_fail_after(-1);
            rk_arena_free(arena);
            if (code == RK_OK) {
                break;
            }
            assert_int_equal(code, RK_ENOMEM);
            refused++;
        }
        compare_all(&s, (rk_params){0}, ROWS, kinds[i], true);
        set_deinit(&s);
    }
    assert_true(refused > 0);
}

static void *
thread_main(void *arg)
{
    compare_all(arg, (rk_params){0}, ROWS, "in a thread", false);
    return NULL;
}

static void
test_threads(void **state)
{
    static const char *const kinds[] = {"FLAT", "HNSW", "IVF_FLAT", "IVF_RABITQ"};

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(kinds); i++) {
        pthread_t threads[3];
        set s;
        set_init(&s, RK_VEC_F32, 40, RK_METRIC_L2, 120);
        build(&s, kinds[i]);
        for (size_t t = 0; t < RK_COUNT(threads); t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, thread_main, &s), 0);
        }
        for (size_t t = 0; t < RK_COUNT(threads); t++) {
            pthread_join(threads[t], NULL);
        }
        set_deinit(&s);
    }
}

/* ---- being stopped ---- */

typedef struct countdown {
    size_t calls;
    size_t stop_at; /* call from which the answer is yes; 0: never */
} countdown;

static bool
count_down(void *self)
{
    countdown *c = self;

    c->calls++;
    return c->stop_at != 0 && c->calls >= c->stop_at;
}

/* A search of several queries asks as it goes on, ends when it is told to, and is the same when it
 * is not. */
static void
test_stop(void **state)
{
    static const struct {
        const char *kind; /* NULL: rows without an index */
        rk_vector_type type;
        size_t calls; /* at least */
    } cases[] = {
        {"FLAT", RK_VEC_F32, 2},
        {"IVF_FLAT", RK_VEC_F32, 5},
        {"HNSW", RK_VEC_F32, QUERIES},
        {"IVF_SQ8", RK_VEC_F32, QUERIES},
        {"DISKANN", RK_VEC_F32, QUERIES},
        {"IVF_RABITQ", RK_VEC_F32, QUERIES},
        {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, QUERIES},
        {NULL, RK_VEC_F32, 1},
        {NULL, RK_VEC_SPARSE, QUERIES},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        bool sparse = cases[i].type == RK_VEC_SPARSE;
        countdown counting = {0, 0};
        rk_stop stop = {count_down, &counting};
        rk_search_options o = {.k = K, .arena = rk_arena_new(0), .stop = &stop};
        rk_hit hits[QUERIES * K];
        uint32_t counts[QUERIES];
        set s;
        set_init(&s, cases[i].type, sparse ? 0 : 40, sparse ? RK_METRIC_IP : RK_METRIC_L2, 77);
        if (cases[i].kind) {
            build(&s, cases[i].kind);
        }
        compare(&s, &o, QUERIES, ROWS, "not stopped");
        counting.calls = 0;
        assert_int_equal(search_many(&s, QUERIES, ROWS, &o, hits, counts, NULL), RK_OK);
        size_t calls = counting.calls;
        if (calls < cases[i].calls) {
            fail_msg("%s asked %zu times", cases[i].kind ? cases[i].kind : "rows", calls);
        }
        for (size_t at = 1; at <= calls; at += at < 4 ? 1 : calls / 5 + 1) {
            rk_err err = {0};
            counting = (countdown){0, at};
            assert_int_equal(search_many(&s, QUERIES, ROWS, &o, hits, counts, &err), RK_ECANCELLED);
            assert_string_equal(err.text, "the search was given up");
            assert_true(counting.calls <= at + 9); /* each of the lanes of a graph, and the end */
        }
        rk_arena_free(o.arena);
        set_deinit(&s);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_rows_without_an_index),
        cmocka_unit_test(test_odd_queries),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_threads),
    };
    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    cmocka_set_test_filter("*threads*");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
