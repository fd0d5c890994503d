/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of CreateIndex and search parameters: accepted values, and the public text and code of
 * every refusal. Also AUTOINDEX.
 */
#include "index_testing.h"

typedef struct build_case {
    const char *kind; /* NULL: absent */
    rk_vector_type type;
    rk_metric metric;
    const char *key;
    const char *value;
    rk_code code;
    const char *text; /* in the sentence */
} build_case;

#define TAIL ": invalid parameter[expected=valid index params][actual=invalid index params]"

static const build_case builds[] = {
    {"FLAT", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, RK_OK, NULL},
    {"FLAT", RK_VEC_I8, RK_METRIC_COSINE, "unknown", "x", RK_OK, NULL},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "16", RK_OK, NULL},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "-1", RK_EINVAL,
     "Out of range in json: param 'M' (-1) should be in range [2, 2048]" TAIL},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "True", RK_EINVAL,
     "invalid integer value, key: 'M', value: 'True'" TAIL},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "[128]", RK_EINVAL,
     "invalid integer value, key: 'M', value: '[128]'"},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "", RK_EINVAL, "invalid integer value"},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "M", "16.0", RK_EINVAL,
     "wrong data type in json, key: 'M', value: '16.0'"},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "efConstruction", "99999999999", RK_EINVAL,
     "integer value out of range, key: 'efConstruction'"},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "efConstruction", "0", RK_EINVAL,
     "should be in range [1, 2147483647]"},
    {"HNSW", RK_VEC_F32, RK_METRIC_IP, "refine", "true", RK_EINVAL,
     "refine is not supported for this index" TAIL},
    {"HNSW", RK_VEC_BINARY, RK_METRIC_HAMMING, NULL, NULL, RK_OK, NULL},
    {"IVF_FLAT", RK_VEC_F32, RK_METRIC_L2, "nlist", "65537", RK_EINVAL,
     "should be in range [1, 65536]"},
    {"IVF_FLAT", RK_VEC_I8, RK_METRIC_L2, NULL, NULL, RK_EINVAL,
     "data type Int8Vector can't build with this index IVF_FLAT" TAIL},
    {"FLAT", RK_VEC_F32, RK_METRIC_HAMMING, NULL, NULL, RK_EINVAL,
     "float vector index does not support metric type: HAMMING" TAIL},
    {"BIN_FLAT", RK_VEC_BINARY, RK_METRIC_L2, NULL, NULL, RK_EINVAL,
     "binary vector index does not support metric type: L2" TAIL},
    {"FLAT", RK_VEC_I8, RK_METRIC_JACCARD, NULL, NULL, RK_EINVAL,
     "int vector index does not support metric type: JACCARD" TAIL},
    {"SPARSE_WAND", RK_VEC_SPARSE, RK_METRIC_L2, NULL, NULL, RK_EINVAL,
     "only IP&BM25 is the supported metric type for sparse index" TAIL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "inverted_index_algo", "SINDI", RK_OK,
     NULL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "inverted_index_algo", "", RK_EINVAL,
     "not found or not supported, supported: ["},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "drop_ratio_build", "1.0", RK_EINVAL,
     "drop_ratio_build"},
    {"FLAT", RK_VEC_F32, RK_METRIC_NONE, NULL, NULL, RK_EINVAL,
     "metric type not set for vector index" TAIL},
    {"FOO", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, RK_EINVAL,
     "invalid parameter[expected=valid index][actual=invalid index type: FOO]"},
    {"", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, RK_EINVAL, "invalid index type: "},
    {"hnsw", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, RK_EINVAL, "invalid index type: hnsw"},
    {"DISKANN", RK_VEC_F32, RK_METRIC_L2, NULL, NULL, RK_EINDEX_NOT_SUPPORTED,
     "DISKANN is known but not part of this build"},
    {"DISKANN", RK_VEC_I8, RK_METRIC_L2, NULL, NULL, RK_EINVAL,
     "data type Int8Vector can't build with this index DISKANN"},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_NONE, "metric_type", "", RK_OK, NULL},
    {NULL, RK_VEC_SPARSE, RK_METRIC_IP, "params", "{}", RK_OK, NULL},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_L2, "M", "8", RK_EUNEXPECTED,
     "only metric type can be passed when use AutoIndex"},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_JACCARD, NULL, NULL, RK_EINVAL,
     "float vector index does not support metric type: JACCARD"},
};

static void
test_build_params(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(builds); i++) {
        const build_case *c = &builds[i];
        rk_param param = {rk_str_from(c->key), rk_str_from(c->value)};
        rk_err err = {0};
        rk_code code = rk_index_check(rk_str_from(c->kind), c->type, 128, c->metric,
                                      (rk_params){&param, c->key ? 1 : 0}, &err);
        if (code != c->code || (c->text && !strstr(err.text, c->text))) {
            fail_msg("case %zu: code %d text '%s', expected %d '%s'", i, (int)code, err.text,
                     (int)c->code, c->text ? c->text : "");
        }
    }
}

typedef struct search_case {
    const char *kind;
    const char *key;
    const char *value;
    uint32_t k;
    rk_code code;
    const char *text;
} search_case;

static const search_case searches[] = {
    {"HNSW", "ef", "10", 10, RK_OK, NULL},
    {"HNSW", NULL, NULL, 10000, RK_OK, NULL},
    {"HNSW", "ef", "1", 10, RK_ESEGCORE, "out of range in json: ef(1) should be larger than k(10)"},
    {"AUTOINDEX", "ef", "9", 10, RK_ESEGCORE, "ef(9) should be larger than k(10)"},
    {"AUTOINDEX", "level", "1", 10, RK_OK, NULL},
    {"HNSW", "ef", "32.0", 10, RK_ESEGCORE,
     "Type conflict in json: param 'ef' (32.0) should be integer"},
    {"HNSW", "ef", "true", 10, RK_ESEGCORE, "(true) should be integer"},
    {"HNSW", "ef", "0", 1, RK_ESEGCORE,
     "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"},
    {"IVF_FLAT", "nprobe", "0", 1, RK_ESEGCORE,
     "Out of range in json: param 'nprobe' (0) should be in range [1, 65536]"},
    {"IVF_FLAT", "nprobe", "65536", 1, RK_OK, NULL},
    {"FLAT", "ef", "junk", 1, RK_OK, NULL},
    {"SPARSE_INVERTED_INDEX", "drop_ratio_search", "1.0", 1, RK_ESEGCORE, "drop_ratio_search"},
    {"SPARSE_INVERTED_INDEX", "drop_ratio_search", "0.2", 1, RK_OK, NULL},
    {"FOO", "ef", "1", 1, RK_EINVAL, "invalid index type: FOO"},
};

static void
test_search_params(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(searches); i++) {
        const search_case *c = &searches[i];
        rk_param param = {rk_str_from(c->key), rk_str_from(c->value)};
        rk_err err = {0};
        rk_code code = rk_index_check_search(rk_str_from(c->kind),
                                             (rk_params){&param, c->key ? 1 : 0}, c->k, &err);
        if (code != c->code || (c->text && !strstr(err.text, c->text))) {
            fail_msg("case %zu: code %d text '%s', expected %d '%s'", i, (int)code, err.text,
                     (int)c->code, c->text ? c->text : "");
        }
    }
}

static void
test_autoindex_kinds(void **state)
{
    static const struct {
        rk_vector_type type;
        rk_metric metric;
        size_t rows;
        const char *kind;
    } autos[] = {
        {RK_VEC_F32, RK_METRIC_COSINE, 100, "FLAT"},
        {RK_VEC_F32, RK_METRIC_COSINE, 1500, "HNSW"},
        {RK_VEC_I8, RK_METRIC_L2, 1500, "HNSW"},
        {RK_VEC_BINARY, RK_METRIC_HAMMING, 1500, "BIN_FLAT"},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(autos); i++) {
        void *data = testing_dense(autos[i].type, 32, autos[i].rows, 6, 50);
        rk_vectors v = {autos[i].type, 32, autos[i].rows, data, NULL};
        rk_build_options options = {.metric = autos[i].metric};
        rk_index *index = NULL;
        rk_index_info info;
        rk_err err = {0};
        assert_int_equal(rk_index_build(&index, RK_STR("AUTOINDEX"), &v, &options, &err), RK_OK);
        rk_index_get_info(index, &info);
        assert_string_equal(info.kind, autos[i].kind);
        assert_int_equal(info.rows, autos[i].rows);
        rk_index_free(index);
        rk_free(data);
    }
}

static void
test_metric_names(void **state)
{
    rk_metric metric = RK_METRIC_NONE;

    RK_UNUSED(state);
    assert_true(rk_metric_parse(RK_STR("cosine"), &metric));
    assert_int_equal(metric, RK_METRIC_COSINE);
    assert_false(rk_metric_parse(RK_STR("TANIMOTO"), &metric));
    assert_false(rk_metric_parse((rk_str){NULL, 0}, &metric));
    assert_string_equal(rk_metric_name(RK_METRIC_JACCARD), "JACCARD");
    assert_int_equal(rk_vector_bytes(RK_VEC_BINARY, 128), 16);
    assert_int_equal(rk_vector_bytes(RK_VEC_BF16, 128), 256);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_params),
        cmocka_unit_test(test_search_params),
        cmocka_unit_test(test_autoindex_kinds),
        cmocka_unit_test(test_metric_names),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
