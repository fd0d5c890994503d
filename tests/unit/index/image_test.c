/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of every kind: whatever byte is flipped, in the header, the table of sections, a section
 * or the gap behind one, opening finds it; images cut off anywhere or longer than they say do not
 * open. Builds of every kind: cancelled at any step they hold nothing; under a small budget they
 * are refused and hold nothing; the budget is charged while they live.
 */
#include "index/params.h"
#include "index_testing.h"

enum { ROWS = 1500, HEADER = 64, ENTRY = 32 };

typedef struct image_case {
    const char *kind;
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    const char *key, *value; /* one parameter, or NULL */
} image_case;

static const image_case cases[] = {
    {"FLAT", RK_VEC_F32, RK_METRIC_COSINE, 24, NULL, NULL},
    {"BIN_FLAT", RK_VEC_BINARY, RK_METRIC_JACCARD, 64, NULL, NULL},
    {"HNSW", RK_VEC_F32, RK_METRIC_L2, 24, "efConstruction", "60"},
    {"HNSW", RK_VEC_BINARY, RK_METRIC_HAMMING, 64, "efConstruction", "60"},
    {"HNSW_SQ", RK_VEC_I8, RK_METRIC_IP, 24, "efConstruction", "60"},
    {"HNSW_PQ", RK_VEC_F32, RK_METRIC_L2, 24, "m", "8"},
    {"HNSW_PRQ", RK_VEC_F16, RK_METRIC_COSINE, 24, "m", "4"},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_COSINE, 24, "nlist", "16"},
    {"BIN_IVF_FLAT", RK_VEC_BINARY, RK_METRIC_HAMMING, 64, "nlist", "16"},
    {"IVF_SQ8", RK_VEC_F32, RK_METRIC_L2, 24, "nlist", "16"},
    {"IVF_PQ", RK_VEC_BF16, RK_METRIC_IP, 24, "m", "8"},
    {"IVF_RABITQ", RK_VEC_F32, RK_METRIC_COSINE, 24, "nlist", "16"},
    {"SCANN", RK_VEC_F32, RK_METRIC_L2, 24, "nlist", "16"},
    {"DISKANN", RK_VEC_F32, RK_METRIC_L2, 24, NULL, NULL},
    {"AISAQ", RK_VEC_F32, RK_METRIC_COSINE, 24, NULL, NULL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, 0, "inverted_index_algo",
     "BLOCK_MAX_WAND"},
    {"SPARSE_WAND", RK_VEC_SPARSE, RK_METRIC_IP, 0, NULL, NULL},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, 64, "mh_lsh_band", "4"},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_IP, 24, NULL, NULL},
    {"AUTOINDEX", RK_VEC_I8, RK_METRIC_COSINE, 24, NULL, NULL},
};

typedef struct world {
    void *data;
    uint64_t *offsets;
    rk_vectors v;
    rk_param param;
    rk_build_options options;
} world;

static world
world_of(const image_case *c)
{
    world w = {.param = {rk_str_from(c->key), rk_str_from(c->value)}};

    w.data = c->type == RK_VEC_SPARSE ? testing_sparse(ROWS, 300, 20, 5, &w.offsets)
                                      : testing_dense(c->type, c->dim, ROWS, 6, 5);
    w.v = (rk_vectors){c->type, c->dim, ROWS, w.data, w.offsets};
    w.options = (rk_build_options){.metric = c->metric, .seed = 3};
    return w;
}

static rk_code
build(const image_case *c, const world *w, const rk_build_options *options, rk_index **out,
      rk_err *err)
{
    rk_build_options o = *options;

    o.params = (rk_params){&w->param, c->key ? 1 : 0};
    return rk_index_build(out, rk_str_from(c->kind), &w->v, &o, err);
}

static void
world_free(world *w)
{
    rk_free(w->data);
    rk_free(w->offsets);
}

/* ---- images ---- */

typedef struct image {
    char *data; /* aligned, of |len| bytes and 64 more */
    size_t len;
} image;

static image
image_of(const image_case *c, const world *w)
{
    rk_index *index = NULL;
    rk_buf buf = {0};
    rk_err err = {0};
    image out;

    if (build(c, w, &w->options, &index, &err) != RK_OK) {
        fail_msg("%s: %s", c->kind, err.text);
    }
    assert_int_equal(rk_index_save(index, testing_append, &buf, &err), RK_OK);
    rk_index_free(index);
    assert_int_equal(buf.len % 64, 0);
    out = (image){rk_alloc_aligned(64, buf.len + 64), buf.len};
    assert_non_null(out.data);
    memcpy(out.data, buf.data, buf.len);
    memset(out.data + buf.len, 0, 64);
    rk_buf_deinit(&buf);
    return out;
}

static void
expect_damaged(const image_case *c, const world *w, const image *m, size_t len, const char *what,
               size_t at)
{
    rk_mem *mem = rk_mem_new(NULL, "test", 100000000);
    rk_index *index = NULL;
    rk_err err = {0};
    rk_code code = rk_index_open(&index, (rk_str){m->data, len}, &w->v, mem, &err);

    if (code != RK_ECORRUPT || index || rk_mem_used(mem) != 0) {
        fail_msg("%s %s of %zu bytes, %s %zu: code %d, %llu bytes held, %s", c->kind,
                 rk_metric_name(c->metric), m->len, what, at, (int)code,
                 (unsigned long long)rk_mem_used(mem), err.text);
    }
    rk_mem_free(mem);
}

static void
flip(const image_case *c, const world *w, const image *m, size_t at)
{
    m->data[at] = (char)(m->data[at] ^ 16);
    expect_damaged(c, w, m, m->len, "flipped at", at);
    m->data[at] = (char)(m->data[at] ^ 16);
}

static void
test_flipped_and_cut(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const image_case *c = &cases[i];
        testing_rng rng = {i + 1};
        world w = world_of(c);
        image m = image_of(c, &w);
        uint32_t sections = rk_get_u32le(m.data + 28);
        size_t end = HEADER + (size_t)sections * ENTRY;
        rk_index *index = NULL;

        for (size_t at = 0; at < end; at++) {
            flip(c, &w, &m, at);
        }
        for (uint32_t s = 0; s < sections; s++) {
            const char *entry = m.data + HEADER + (size_t)s * ENTRY;
            size_t from = (size_t)rk_get_u64le(entry + 8);
            size_t len = (size_t)rk_get_u64le(entry + 16);
            for (size_t at = end; at < from; at++) {
                flip(c, &w, &m, at);
            }
            end = from + len;
            if (len == 0) {
                continue;
            }
            flip(c, &w, &m, from);
            flip(c, &w, &m, end - 1);
            for (size_t n = 0; n < 16; n++) {
                flip(c, &w, &m, from + (size_t)(testing_u64(&rng) % len));
            }
            expect_damaged(c, &w, &m, from, "cut at", from);
            expect_damaged(c, &w, &m, end - 1, "cut at", end - 1);
        }
        for (size_t at = end; at < m.len; at++) {
            flip(c, &w, &m, at);
        }
        for (size_t len = 0; len < m.len; len += RK_MAX(m.len / 50, (size_t)1)) {
            expect_damaged(c, &w, &m, len, "cut at", len);
        }
        expect_damaged(c, &w, &m, m.len + 64, "grown to", m.len + 64);
        assert_int_equal(rk_index_open(&index, (rk_str){m.data, m.len}, &w.v, NULL, NULL), RK_OK);
        assert_int_equal(rk_index_verify(index, NULL, NULL), RK_OK);
        rk_index_free(index);
        rk_free(m.data);
        world_free(&w);
    }
}

/* ---- builds ---- */

typedef struct stopper {
    _Atomic(bool) cancel;
    unsigned steps_left;
} stopper;

/* Sets the flag before the |steps_left|th piece of work. */
static void
stopping_run(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    stopper *s = self;

    for (size_t i = 0; i < n; i++) {
        if (s->steps_left-- == 0) {
            atomic_store(&s->cancel, true);
        }
        fn(arg, i);
    }
}

static void
test_cancel(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const image_case *c = &cases[i];
        world w = world_of(c);
        unsigned cancelled = 0;

        for (unsigned steps = 0; steps < 24; steps++) {
            stopper s = {.steps_left = steps * steps / 4};
            rk_parallel parallel = {.run = stopping_run, .width = 1, .self = &s};
            rk_build_options options = w.options;
            rk_mem *mem = rk_mem_new(NULL, "test", 1000000000);
            rk_index *index = NULL;
            rk_err err = {0};
            atomic_store(&s.cancel, steps == 0); /* once before it begins */
            options.parallel = &parallel;
            options.cancel = &s.cancel;
            options.mem = mem;
            rk_code code = build(c, &w, &options, &index, &err);
            if ((code != RK_OK && code != RK_ECANCELLED) || (code == RK_OK) != (index != NULL)) {
                fail_msg("%s, %u steps: code %d, %s", c->kind, steps, (int)code, err.text);
            }
            cancelled += code == RK_ECANCELLED;
            rk_index_free(index);
            assert_int_equal(rk_mem_used(mem), 0);
            rk_mem_free(mem);
        }
        /* one that has nothing to do in pieces may not look */
        if (cancelled == 0 && strstr(c->kind, "FLAT") != c->kind &&
            strstr(c->kind, "BIN_FLAT") != c->kind) {
            fail_msg("%s was never cancelled", c->kind);
        }
        world_free(&w);
    }
}

static void
test_budget(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        const image_case *c = &cases[i];
        world w = world_of(c);
        unsigned refused = 0;

        for (uint64_t limit = 64;; limit = limit * 3 / 2) {
            rk_build_options options = w.options;
            rk_mem *mem = rk_mem_new(NULL, "test", limit);
            rk_index *index = NULL;
            rk_err err = {0};
            options.mem = mem;
            rk_code code = build(c, &w, &options, &index, &err);
            if (code == RK_OK) {
                rk_index_info info;
                rk_index_get_info(index, &info);
                assert_true(rk_mem_used(mem) <= limit);
                assert_true(info.memory_bytes >= rk_mem_used(mem));
            } else if (code != RK_ENOMEM || index || rk_mem_used(mem) != 0) {
                fail_msg("%s under %llu bytes: code %d, %s", c->kind, (unsigned long long)limit,
                         (int)code, err.text);
            }
            refused += code != RK_OK;
            rk_index_free(index);
            assert_int_equal(rk_mem_used(mem), 0);
            rk_mem_free(mem);
            if (code == RK_OK) {
                break;
            }
        }
        /* COSINE needs norms, the others of these keep nothing */
        if (refused < 3 && strstr(c->kind, "BIN_FLAT") != c->kind) {
            fail_msg("%s was refused %u times", c->kind, refused);
        }
        world_free(&w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flipped_and_cut),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_budget),
    };

    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    return 0;
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
