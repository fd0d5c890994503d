/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging graphs: against a fresh build over the same rows the recall is the same but for a point,
 * for every type and metric, two to four parts and up to half of the rows deleted; chains of equal
 * rows, rows that are not finite; what is refused and built afresh; churn; images as parts; cancel,
 * budget, failing allocations, threads.
 */
#include "merge_testing.h"

/* ---- recall ---- */

typedef struct merge_case {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    size_t parts;
    unsigned deleted; /* percent of every part */
    unsigned fresh;   /* percent of the rows that no part has */
} merge_case;

static const merge_case cases[] = {
    {RK_VEC_F32, RK_METRIC_L2, 48, 2, 0, 0},
    {RK_VEC_F32, RK_METRIC_L2, 48, 1, 0, 30},
    {RK_VEC_F32, RK_METRIC_L2, 48, 1, 50, 0},
    {RK_VEC_F32, RK_METRIC_L2, 48, 4, 10, 10},
    {RK_VEC_F32, RK_METRIC_IP, 48, 2, 20, 10},
    {RK_VEC_F32, RK_METRIC_COSINE, 33, 3, 30, 0},
    {RK_VEC_F16, RK_METRIC_L2, 40, 2, 10, 0},
    {RK_VEC_F16, RK_METRIC_COSINE, 32, 2, 40, 5},
    {RK_VEC_BF16, RK_METRIC_IP, 40, 2, 10, 0},
    {RK_VEC_BF16, RK_METRIC_L2, 40, 3, 5, 5},
    {RK_VEC_I8, RK_METRIC_L2, 50, 2, 30, 10},
    {RK_VEC_I8, RK_METRIC_COSINE, 64, 2, 10, 0},
    {RK_VEC_I8, RK_METRIC_IP, 64, 4, 20, 0},
    {RK_VEC_BINARY, RK_METRIC_HAMMING, 256, 2, 20, 0},
    {RK_VEC_BINARY, RK_METRIC_JACCARD, 256, 2, 50, 0},
};

/* The first part has 60 % of what is left, the others share the rest. */
static void
check_case(const merge_case *c, const rk_parallel *parallel)
{
    enum { N = 4000 };
    void *data = testing_dense(c->type, c->dim, UNIVERSE, 10, 11);
    uint8_t *queries = testing_dense(c->type, c->dim, QUERIES, 10, 12);
    rk_vectors universe = {c->type, c->dim, UNIVERSE, data, NULL};
    rk_build_options options = options_of(c->metric, parallel);
    uint32_t *ids = shuffled(UNIVERSE, 5);
    uint32_t *order = shuffled(N, 6);
    rows sets[4];
    rk_merge_part parts[4];
    _Atomic(uint64_t) done = 0;
    rows all = rows_new(&universe, ids, N);
    size_t at = 0;

    for (size_t i = 0; i < N; i++) { /* the order of the result is its own */
        all.ids[i] = ids[order[i]];
    }
    rows_fill(&all, &universe);
    size_t covered = (size_t)N * (100 - c->fresh) / 100;
    size_t gone = N; /* deleted rows are taken from behind */
    for (size_t i = 0; i < c->parts; i++) {
        size_t live = i > 0          ? covered * 4 / 10 / (c->parts - 1)
                      : c->parts > 1 ? covered * 6 / 10
                                     : covered;
        size_t dead = live * c->deleted / (100 - c->deleted);
        uint32_t *own = rk_alloc((live + dead + 1) * sizeof(*own));
        assert_non_null(own);
        assert_true(gone + dead <= UNIVERSE);
        memcpy(own, ids + at, live * sizeof(*own));
        memcpy(own + live, ids + gone, dead * sizeof(*own));
        at += live;
        gone += dead;
        uint32_t *mix = shuffled(live + dead, 7 + i);
        for (size_t j = 0; j < live + dead; j++) {
            mix[j] = own[mix[j]];
        }
        sets[i] = rows_new(&universe, mix, live + dead);
        parts[i] = (rk_merge_part){build(&sets[i].v, c->metric), map_of(&sets[i], &all)};
        rk_free(own);
        rk_free(mix);
    }
    options.rows_done = &done;
    rk_index *merged = merge_with(&all.v, parts, c->parts, &options);
    rk_index *fresh = build(&all.v, c->metric);
    assert_non_null(merged);
    assert_int_equal(done, N);
    for (size_t i = 0; i < 2; i++) {
        const char *ef = i ? "64" : "20";
        double a = recall_of(merged, &all.v, c->metric, queries, ef);
        double b = recall_of(fresh, &all.v, c->metric, queries, ef);
        if (a < b - 0.0125) {
            fail_msg("type %d %s, %zu parts, %u %% deleted, %u %% new, ef %s: recall %.4f, fresh "
                     "%.4f",
                     (int)c->type, rk_metric_name(c->metric), c->parts, c->deleted, c->fresh, ef, a,
                     b);
        }
    }
    rk_index_free(merged);
    rk_index_free(fresh);
    for (size_t i = 0; i < c->parts; i++) {
        rk_index_free((rk_index *)(uintptr_t)parts[i].index);
        rk_free((void *)(uintptr_t)parts[i].rows);
        rows_free(&sets[i]);
    }
    rows_free(&all);
    rk_free(ids);
    rk_free(order);
    rk_free(queries);
    rk_free(data);
}

static void
test_recall(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check_case(&cases[i], NULL);
    }
}

/* ---- churn ---- */

/* Every row deleted and inserted again, three times, a quarter at a time. */
static void
check_churn(rk_metric metric)
{
    enum { N = 3000, STEPS = 4, ROUNDS = 3, DIM = 40 };
    void *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 12, 21);
    uint8_t *queries = testing_dense(RK_VEC_F32, DIM, QUERIES, 12, 22);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    rk_build_options options = options_of(metric, NULL);
    uint32_t *ids = shuffled(UNIVERSE, 8);
    rows now = rows_new(&universe, ids, N);
    rk_index *index = build(&now.v, metric);

    for (size_t step = 0; step < (size_t)STEPS * ROUNDS; step++) {
        uint32_t *mix = shuffled(N, 100 + step);
        for (size_t i = 0; i < N; i++) {
            mix[i] = now.ids[mix[i]];
        }
        rows next = rows_new(&universe, mix, N);
        uint32_t *map = map_of(&now, &next);
        for (size_t i = 0; i < N; i++) { /* deleted, and inserted again: a row like any other */
            map[i] = now.ids[i] % STEPS == step % STEPS ? RK_NO_ROW : map[i];
        }
        rk_merge_part part = {index, map};
        rk_index *merged = merge_with(&next.v, &part, 1, &options);
        assert_non_null(merged);
        rk_index_free(index);
        rows_free(&now);
        rk_free(map);
        rk_free(mix);
        index = merged;
        now = next;
    }
    rk_index *fresh = build(&now.v, metric);
    double a = recall_of(index, &now.v, metric, queries, "24");
    double b = recall_of(fresh, &now.v, metric, queries, "24");
    if (a < b - 0.0125) {
        fail_msg("%s: recall %.4f after churn, fresh %.4f", rk_metric_name(metric), a, b);
    }
    rk_index_free(fresh);
    rk_index_free(index);
    rows_free(&now);
    rk_free(ids);
    rk_free(queries);
    rk_free(data);
}

static void
test_churn(void **state)
{
    RK_UNUSED(state);
    check_churn(RK_METRIC_L2);
    check_churn(RK_METRIC_COSINE);
    check_churn(RK_METRIC_IP);
}

/* ---- rows that are not nodes ---- */

/* Chains across parts, chains that lose their first row or all, rows that are not finite. */
static void
test_equal_and_not_finite_rows(void **state)
{
    enum { N = 3000, DIM = 16, KINDS = 40 };
    float *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 8, 31);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    rk_build_options options = options_of(RK_METRIC_L2, NULL);
    rk_arena *arena = rk_arena_new(0);

    RK_UNUSED(state);
    for (size_t r = 0; r < UNIVERSE; r++) {
        if (r % 2 == 0) { /* half of the rows are of few kinds */
            memcpy(data + r * DIM, data + (r % KINDS + 1) * DIM, DIM * sizeof(float));
        }
        if (r >= 50 && r % 97 == 5) {
            data[r * DIM + r % DIM] = r % 2 ? NAN : INFINITY;
        }
    }
    uint32_t *ids = shuffled(UNIVERSE, 9);
    rows before = rows_new(&universe, ids, N);
    rows after = rows_new(&universe, ids + N / 4, N); /* a quarter goes, a quarter comes */
    size_t kept = 0;
    for (size_t i = 0; i < N; i++) { /* of half of the kinds all rows go */
        uint32_t id = after.ids[N - 1 - i];
        if (id % 2 || id % KINDS < KINDS / 2) {
            after.ids[N - 1 - kept++] = id;
        }
    }
    memmove(after.ids, after.ids + N - kept, kept * sizeof(uint32_t));
    after.n = kept;
    rows_fill(&after, &universe);
    rk_index *base = build(&before.v, RK_METRIC_L2);
    rk_merge_part part = {base, map_of(&before, &after)};
    rk_index *index = merge_with(&after.v, &part, 1, &options);
    assert_non_null(index);
    for (uint32_t kind = 0; kind < KINDS; kind += 2) {
        rk_param ef = {RK_STR("ef"), RK_STR("200")};
        rk_search_options o = {.k = 300, .params = {&ef, 1}, .arena = arena};
        const float *query = data + ((size_t)kind + 1) * DIM;
        rk_hit hits[300];
        rk_hit flat[300];
        uint32_t n = 0;
        uint32_t n_flat = 0;
        size_t equal = 0;
        size_t found = 0;
        assert_int_equal(rk_index_search(index, query, DIM * 4, &o, hits, &n, NULL), RK_OK);
        assert_int_equal(
            rk_flat_search(&after.v, 0, RK_METRIC_L2, query, DIM * 4, &o, flat, &n_flat, NULL),
            RK_OK);
        while (equal < n_flat && flat[equal].score == 0) {
            equal++;
        }
        for (size_t i = 0; i < equal && i < n; i++) {
            found += hits[i].row == flat[i].row; /* all of the kind, by row */
        }
        assert_int_equal(found, equal);
        rk_arena_reset(arena);
    }
    for (size_t r = 0; r < after.n; r++) { /* every finite row is found by itself */
        rk_search_options o = {.k = 1, .arena = arena};
        const float *query = (const float *)(const void *)after.data + r * DIM;
        rk_hit hit;
        uint32_t n = 0;
        if (after.ids[r] < 50 || after.ids[r] % 97 != 5) {
            assert_int_equal(rk_index_search(index, query, DIM * 4, &o, &hit, &n, NULL), RK_OK);
            assert_int_equal(n, 1);
            assert_true(hit.score == 0);
        }
        rk_arena_reset(arena);
    }
    rk_index_free(index);
    rk_index_free(base);
    rk_free((void *)(uintptr_t)part.rows);
    rows_free(&before);
    rows_free(&after);
    rk_free(ids);
    rk_free(data);
    rk_arena_free(arena);
}

/* ---- refusals ---- */

static void
expect_refused(const char *type, const rk_vectors *v, const rk_merge_part *part,
               const rk_build_options *options)
{
    rk_mem *mem = rk_mem_new(NULL, "test", 100000000);
    rk_build_options o = *options;
    rk_index *index = NULL;
    rk_err err = {0};

    o.mem = mem;
    if (rk_index_merge(&index, rk_str_from(type), v, part, part ? 1 : 0, &o, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    assert_null(index);
    assert_true(rk_mem_used(mem) == 0);
    rk_mem_free(mem);
}

static void
test_refusals(void **state)
{
    enum { N = 1000, DIM = 16 };
    float *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 8, 41);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    rk_build_options options = options_of(RK_METRIC_L2, NULL);
    uint32_t *ids = shuffled(UNIVERSE, 10);
    rows before = rows_new(&universe, ids, N);
    rows more = rows_new(&universe, ids, 3 * N);
    rows other = rows_new(&universe, ids, N);
    rk_index *base = build(&before.v, RK_METRIC_L2);
    rk_merge_part part = {base, map_of(&before, &before)};
    rk_param wider[2] = {{RK_STR("M"), RK_STR("16")}, {RK_STR("efConstruction"), RK_STR("100")}};
    rk_build_options changed = options;
    uint32_t *few = map_of(&before, &before);

    RK_UNUSED(state);
    rk_index *same = merge_with(&before.v, &part, 1, &options);
    assert_non_null(same);
    rk_index_free(same);
    expect_refused("HNSW", &before.v, NULL, &options);      /* nothing to begin with */
    expect_refused("IVF_FLAT", &before.v, &part, &options); /* another kind */
    expect_refused("HNSW", &more.v, &part, &options);       /* most rows are new */
    changed.params.data = wider;
    expect_refused("HNSW", &before.v, &part, &changed); /* other parameters */
    changed = options;
    changed.metric = RK_METRIC_COSINE;
    expect_refused("HNSW", &before.v, &part, &changed);
    for (size_t i = 0; i < N; i++) {
        few[i] = i < N / 3 ? few[i] : RK_NO_ROW;
    }
    expect_refused("HNSW", &before.v, &(rk_merge_part){base, few}, &options);
    for (size_t i = 0; i < N / 4; i++) { /* new rows that the codes cannot hold */
        for (size_t d = 0; d < DIM; d++) {
            ((float *)(void *)other.data)[i * DIM + d] *= 3;
        }
        few[i] = RK_NO_ROW;
    }
    for (size_t i = N / 4; i < N; i++) {
        few[i] = (uint32_t)i;
    }
    expect_refused("HNSW", &other.v, &(rk_merge_part){base, few}, &options);
    few[N - 1] = N; /* a row that is not there */
    rk_index *index = NULL;
    assert_int_equal(rk_index_merge(&index, RK_STR("HNSW"), &before.v, &(rk_merge_part){base, few},
                                    1, &options, NULL),
                     RK_EINTERNAL);
    assert_null(index);
    rk_index_free(base);
    rk_free(few);
    rk_free((void *)(uintptr_t)part.rows);
    rows_free(&before);
    rows_free(&more);
    rows_free(&other);
    rk_free(ids);
    rk_free(data);
}

/* What AUTOINDEX became stays: a graph is merged, clusters are built. */
static void
test_autoindex(void **state)
{
    enum { N = 2000, DIM = 24 };
    float *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 8, 45);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    uint32_t *ids = shuffled(UNIVERSE, 13);
    rows before = rows_new(&universe, ids, N);
    rows after = rows_new(&universe, ids + 200, N);
    rk_param defaults[2] = {{RK_STR("M"), RK_STR("18")}, {RK_STR("efConstruction"), RK_STR("240")}};
    rk_build_options options = options_of(RK_METRIC_L2, NULL);
    rk_index *bases[2];
    uint32_t *map = map_of(&before, &after);

    RK_UNUSED(state);
    options.params = (rk_params){defaults, 2};
    assert_int_equal(rk_index_build(&bases[0], RK_STR("HNSW"), &before.v, &options, NULL), RK_OK);
    options.params.n = 0;
    assert_int_equal(rk_index_build(&bases[1], RK_STR("AUTOINDEX"), &before.v, &options, NULL),
                     RK_OK);
    assert_true(rk_index_is_part(bases[0]));
    assert_true(rk_index_merges(RK_STR("AUTOINDEX"), RK_VEC_F32, RK_METRIC_L2, N));
    assert_false(rk_index_merges(RK_STR("IVF_FLAT"), RK_VEC_F32, RK_METRIC_L2, N));
    for (size_t i = 0; i < 2; i++) {
        rk_merge_part part = {bases[i], map};
        rk_index *merged = NULL;
        rk_index_info info;
        assert_int_equal(
            rk_index_merge(&merged, RK_STR("AUTOINDEX"), &after.v, &part, 1, &options, NULL),
            RK_OK);
        assert_true((merged != NULL) == rk_index_is_part(bases[i]));
        if (merged) {
            rk_index_get_info(merged, &info);
            assert_string_equal(info.kind, "HNSW");
            assert_int_equal(info.rows, N);
        }
        rk_index_free(merged);
        rk_index_free(bases[i]);
    }
    rk_free(map);
    rows_free(&before);
    rows_free(&after);
    rk_free(ids);
    rk_free(data);
}

/* ---- images, cancel, budget, memory, threads ---- */

/* A mapped part gives what the same part in memory gives, and a damaged one is not used. */
static void
test_image_as_part(void **state)
{
    enum { N = 2000, DIM = 24 };
    float *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 8, 51);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    rk_build_options options = options_of(RK_METRIC_COSINE, NULL);
    uint32_t *ids = shuffled(UNIVERSE, 11);
    rows before = rows_new(&universe, ids, N);
    rows after = rows_new(&universe, ids + 300, N);
    rk_index *base = build(&before.v, RK_METRIC_COSINE);
    uint32_t *map = map_of(&before, &after);
    rk_index *opened = NULL;
    rk_buf image = {0};
    rk_buf results[2] = {{0}, {0}};

    RK_UNUSED(state);
    assert_int_equal(rk_index_save(base, testing_append, &image, NULL), RK_OK);
    char *mapped = rk_alloc_aligned(64, (image.len + 63) / 64 * 64);
    assert_non_null(mapped);
    memcpy(mapped, image.data, image.len);
    assert_int_equal(rk_index_open(&opened, (rk_str){mapped, image.len}, &before.v, NULL, NULL),
                     RK_OK);
    for (size_t i = 0; i < 2; i++) {
        rk_merge_part part = {i ? opened : base, map};
        rk_index *merged = merge_with(&after.v, &part, 1, &options);
        assert_non_null(merged);
        assert_int_equal(rk_index_save(merged, testing_append, &results[i], NULL), RK_OK);
        rk_index_free(merged);
    }
    assert_int_equal(results[0].len, results[1].len);
    assert_memory_equal(results[0].data, results[1].data, results[0].len);
    mapped[image.len / 2] ^= 1;
    expect_refused("HNSW", &after.v, &(rk_merge_part){opened, map}, &options);
    rk_index_free(opened);
    rk_index_free(base);
    rk_buf_deinit(&image);
    rk_buf_deinit(&results[0]);
    rk_buf_deinit(&results[1]);
    rk_free(mapped);
    rk_free(map);
    rows_free(&before);
    rows_free(&after);
    rk_free(ids);
    rk_free(data);
}

typedef struct stopper {
    _Atomic(bool) cancel;
    unsigned runs_left;
} stopper;

/* Sets the flag before the |runs_left|th run. */
static void
stopping_run(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    stopper *s = self;

    if (s->runs_left-- == 0) {
        atomic_store(&s->cancel, true);
    }
    for (size_t i = 0; i < n; i++) {
        fn(arg, i);
    }
}

static void
test_cancel_budget_and_memory(void **state)
{
    enum { N = 600, DIM = 8 };
    float *data = testing_dense(RK_VEC_F32, DIM, UNIVERSE, 4, 61);
    rk_vectors universe = {RK_VEC_F32, DIM, UNIVERSE, data, NULL};
    uint32_t *ids = shuffled(UNIVERSE, 12);
    rows before = rows_new(&universe, ids, N);
    rows after = rows_new(&universe, ids + 100, N);
    rk_build_options options = options_of(RK_METRIC_COSINE, NULL);
    rk_index *base = build(&before.v, RK_METRIC_COSINE);
    uint32_t *map = map_of(&before, &after);
    rk_merge_part part = {base, map};
    rk_index *index = NULL;
    rk_err err = {0};
    unsigned cancelled = 0;

    RK_UNUSED(state);
    for (unsigned runs = 0; runs < 40; runs++) { /* stopped at any step, or done before */
        stopper s = {.runs_left = runs};
        rk_parallel parallel = {.run = stopping_run, .width = 1, .self = &s};
        options.parallel = &parallel;
        options.cancel = &s.cancel;
        rk_code code = rk_index_merge(&index, RK_STR("HNSW"), &after.v, &part, 1, &options, &err);
        assert_true(code == RK_OK || code == RK_ECANCELLED);
        assert_true((code == RK_OK) == (index != NULL));
        cancelled += code == RK_ECANCELLED;
        rk_index_free(index);
        index = NULL;
        rk_err_clear(&err);
    }
    assert_true(cancelled >= 5);
    options = options_of(RK_METRIC_COSINE, NULL);

    unsigned refused = 0;
    for (uint64_t limit = 1000;; limit = limit * 5 / 4) {
        rk_mem *mem = rk_mem_new(NULL, "test", limit);
        options.mem = mem;
        rk_code code = rk_index_merge(&index, RK_STR("HNSW"), &after.v, &part, 1, &options, &err);
        if (code == RK_OK) {
            assert_non_null(index);
            assert_true(rk_mem_used(mem) > 0);
        } else {
            assert_int_equal(code, RK_ENOMEM);
            assert_null(index);
            assert_true(rk_mem_used(mem) == 0);
            refused++;
        }
        rk_index_free(index);
        index = NULL;
        assert_true(rk_mem_used(mem) == 0);
        rk_mem_free(mem);
        rk_err_clear(&err);
        if (code == RK_OK) {
            break;
        }
    }
    assert_true(refused > 3);
    options.mem = NULL;

    for (int64_t at = 0;; at++) {
        rk_alloc_fail_after(at);
        rk_code code = rk_index_merge(&index, RK_STR("HNSW"), &after.v, &part, 1, &options, &err);
        rk_alloc_fail_after(-1);
        if (code == RK_OK) {
            assert_non_null(index);
            rk_index_free(index);
            assert_true(at > 20);
            break;
        }
        assert_int_equal(code, RK_ENOMEM);
        assert_null(index);
        assert_true(at < 2000);
        rk_err_clear(&err);
    }
    rk_index_free(base);
    rk_free(map);
    rows_free(&before);
    rows_free(&after);
    rk_free(ids);
    rk_free(data);
}

static void
test_parallel(void **state)
{
    rk_parallel parallel = {.run = testing_pool_run, .width = 4};

    RK_UNUSED(state);
    check_case(&cases[3], &parallel);
    check_case(&cases[4], &parallel);
    check_case(&cases[10], &parallel);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_equal_and_not_finite_rows),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_autoindex),
        cmocka_unit_test(test_image_as_part),
        cmocka_unit_test(test_cancel_budget_and_memory),
        cmocka_unit_test(test_parallel),
    };

    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    cmocka_set_test_filter("*parallel*");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
