/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of CreateIndex and search parameters: accepted values, and the public text and code of
 * every refusal, row by row of the table. Also AUTOINDEX.
 */
#include "index/params.h"

#include "index_testing.h"

/* Up to four pairs written as "key=value;key=value"; values may be empty. */
typedef struct pairs {
    rk_param data[4];
    size_t n;
} pairs;

static pairs
pairs_of(const char *text)
{
    pairs out = {.n = 0};

    while (text && *text) {
        const char *end = strchr(text, ';');
        size_t len = end ? (size_t)(end - text) : strlen(text);
        const char *equals = memchr(text, '=', len);
        assert_non_null(equals);
        assert_true(out.n < RK_COUNT(out.data));
        out.data[out.n++] = (rk_param){{text, (size_t)(equals - text)},
                                       {equals + 1, len - (size_t)(equals - text) - 1}};
        text += len + (end ? 1 : 0);
    }
    return out;
}

/* "OK" of a kind that this build has no engine for is its refusal, after all values were judged. */
static rk_code
expected_of(const char *kind, rk_code code)
{
    const rk__kind_spec *spec = rk__kind_find(rk_str_from(kind));

    return code == RK_OK && spec && !rk__kind_verbs(spec->id) ? RK_EINDEX_NOT_SUPPORTED : code;
}

typedef struct build_case {
    const char *kind; /* NULL: absent */
    rk_vector_type type;
    rk_metric metric;
    const char *params;
    rk_code code;
    const char *text; /* in the sentence */
} build_case;

#define TAIL ": invalid parameter[expected=valid index params][actual=invalid index params]"
#define F32  RK_VEC_F32, RK_METRIC_L2

/* Dimension 128. */
static const build_case builds[] = {
    /* names, types, metrics */
    {"FLAT", F32, NULL, RK_OK, NULL},
    {"FLAT", F32, "unknown=x", RK_OK, NULL},
    {"FLAT", RK_VEC_F32, RK_METRIC_NONE, NULL, RK_EINVAL,
     "metric type not set for vector index" TAIL},
    {"FOO", F32, NULL, RK_EINVAL,
     "invalid parameter[expected=valid index][actual=invalid index type: FOO]"},
    {"", F32, NULL, RK_EINVAL, "invalid index type: "},
    {"hnsw", F32, NULL, RK_EINVAL, "invalid index type: hnsw"},
    {"HNSW_RABITQ", F32, NULL, RK_EINVAL, "invalid index type: HNSW_RABITQ"},
    {"GPU_CAGRA", F32, NULL, RK_EINVAL,
     "[actual=invalid index type: GPU_CAGRA]: this server is built without GPU"},
    {"GPU_BRUTE_FORCE", F32, NULL, RK_EINVAL, "invalid index type: GPU_BRUTE_FORCE"},
    {"FLAT", RK_VEC_F32, RK_METRIC_HAMMING, NULL, RK_EINVAL,
     "float vector index does not support metric type: HAMMING" TAIL},
    {"BIN_FLAT", RK_VEC_BINARY, RK_METRIC_L2, NULL, RK_EINVAL,
     "binary vector index does not support metric type: L2" TAIL},
    {"FLAT", RK_VEC_I8, RK_METRIC_JACCARD, NULL, RK_EINVAL,
     "int vector index does not support metric type: JACCARD" TAIL},
    {"SPARSE_WAND", RK_VEC_SPARSE, RK_METRIC_L2, NULL, RK_EINVAL,
     "only IP&BM25 is the supported metric type for sparse index" TAIL},
    {"BIN_IVF_FLAT", RK_VEC_BINARY, RK_METRIC_SUBSTRUCTURE, NULL, RK_EINVAL,
     "metric type SUBSTRUCTURE not found or not supported, supported: [HAMMING JACCARD]" TAIL},
    {"BIN_FLAT", RK_VEC_BINARY, RK_METRIC_SUPERSTRUCTURE, NULL, RK_OK, NULL},
    {"BIN_FLAT", RK_VEC_BINARY, RK_METRIC_MHJACCARD, NULL, RK_EINVAL,
     "supported: [HAMMING JACCARD SUBSTRUCTURE SUPERSTRUCTURE]" TAIL},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_HAMMING, NULL, RK_EINVAL, "supported: [MHJACCARD]"},
    {"HNSW", RK_VEC_BINARY, RK_METRIC_HAMMING, NULL, RK_OK, NULL},
    {"IVF_FLAT", RK_VEC_I8, RK_METRIC_L2, NULL, RK_EINVAL,
     "data type Int8Vector can't build with this index IVF_FLAT" TAIL},
    {"DISKANN", RK_VEC_I8, RK_METRIC_L2, NULL, RK_EINVAL,
     "data type Int8Vector can't build with this index DISKANN"},
    /* mmap and warmup */
    {"HNSW", F32, "mmap.enabled=True;warmup=sync", RK_OK, NULL},
    {"HNSW", F32, "mmap.enabled=yes", RK_EINVAL,
     "invalid mmap.enabled value: yes, expected: true, false" TAIL},
    {"HNSW", F32, "warmup=on", RK_EINVAL,
     "invalid warmup params: invalid warmup policy: on, must be 'disable', 'sync' or 'async'" TAIL},
    {"DISKANN", F32, "mmap.enabled=true", RK_EINVAL,
     "invalid mmap type params: index type DISKANN does not support mmap" TAIL},
    {"DISKANN", F32, "mmap.enabled=false", RK_OK, NULL},
    {"AISAQ", F32, "mmap.enabled=true", RK_EINVAL, "index type AISAQ does not support mmap"},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, "mmap.enabled=1", RK_EINVAL,
     "index type MINHASH_LSH does not support mmap"},
    /* integers */
    {"HNSW", F32, "M=16", RK_OK, NULL},
    {"HNSW", F32, "M=-1", RK_EINVAL,
     "Out of range in json: param 'M' (-1) should be in range [2, 2048]" TAIL},
    {"HNSW", F32, "M=True", RK_EINVAL, "invalid integer value, key: 'M', value: 'True'" TAIL},
    {"HNSW", F32, "M=[128]", RK_EINVAL, "invalid integer value, key: 'M', value: '[128]'"},
    {"HNSW", F32, "M=", RK_EINVAL, "invalid integer value"},
    {"HNSW", F32, "M=16.0", RK_EINVAL, "wrong data type in json, key: 'M', value: '16.0'"},
    {"HNSW", F32, "efConstruction=99999999999", RK_EINVAL,
     "integer value out of range, key: 'efConstruction', value: '99999999999'"},
    {"HNSW", F32, "efConstruction=0", RK_EINVAL, "should be in range [1, 2147483647]"},
    /* floats */
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "drop_ratio_build=1.0", RK_EINVAL,
     "Out of range in json: param 'drop_ratio_build' (1.0) should be in range [0.000000, "
     "1.000000)" TAIL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "drop_ratio_build=x", RK_EINVAL,
     "invalid float value, key: 'drop_ratio_build', value: 'x'" TAIL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "bm25_k1=3.5", RK_EINVAL,
     "(3.5) should be in range [0.000000, 3.000000]"},
    {"DISKANN", F32, "pq_code_budget_gb_ratio=-0.5", RK_EINVAL,
     "(-0.5) should be in range [0.000000, 340282346638528859811704183484516925440.000000]"},
    /* booleans and words */
    {"HNSW_SQ", F32, "refine=TRUE;refine_type=fp16", RK_OK, NULL},
    {"HNSW_SQ", F32, "refine=1", RK_EINVAL,
     "Type conflict in json: param 'refine' (\"1\") should be a boolean" TAIL},
    {"HNSW_SQ", F32, "sq_type=sq4u", RK_OK, NULL},
    {"HNSW_SQ", F32, "sq_type=SQ4", RK_EINVAL, "invalid scalar quantizer type" TAIL},
    {"HNSW_PQ", F32, "refine_type=fp8", RK_EINVAL,
     "invalid refine type : fp8, optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]" TAIL},
    {"IVF_SQ8", F32, "sq_type=sq6", RK_OK, NULL},
    {"IVF_SQ8", F32, "sq_type=FP16", RK_EINVAL,
     "invalid sq_type : FP16, optional types are [sq4, sq6, sq8]" TAIL},
    {"IVF_SQ8", F32, "refine_type=sq4u", RK_EINVAL,
     "invalid refine type : sq4u, optional types are [sq6, sq8, fp16, bf16, fp32, flat]" TAIL},
    {"HNSW", F32, "refine=true", RK_EINVAL, "refine is not supported for this index" TAIL},
    {"HNSW", F32, "refine_type=SQ8", RK_EINVAL, "refine is not supported for this index" TAIL},
    {"AISAQ", F32, "pq_read_io_engine=sync", RK_EINVAL, "pq_read_io_engine sync not found"},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "inverted_index_algo=SINDI", RK_OK,
     NULL},
    {"SPARSE_INVERTED_INDEX", RK_VEC_SPARSE, RK_METRIC_IP, "inverted_index_algo=", RK_EINVAL,
     "sparse inverted index algo  not found or not supported, supported: ["},
    {"SPARSE_WAND", RK_VEC_SPARSE, RK_METRIC_IP, "inverted_index_algo=sindi", RK_EINVAL,
     "sparse inverted index algo sindi not found or not supported, supported: [TAAT_NAIVE"},
    /* required, and values together */
    {"IVF_PQ", F32, NULL, RK_EINVAL, "param 'm' not exist in json" TAIL},
    {"IVF_PQ", F32, "m=16;nbits=12", RK_OK, NULL},
    {"IVF_PQ", F32, "m=16.0", RK_EINVAL, "wrong data type in json, key: 'm', value: '16.0'"},
    {"IVF_PQ", F32, "m=7", RK_EINVAL,
     "The dimension of a vector (dim) should be a multiple of the number of subquantizers (m). "
     "Dimension: 128, m: 7" TAIL},
    {"IVF_PQ", F32, "m=256", RK_EINVAL, "Dimension: 128, m: 256"},
    {"HNSW_PQ", F32, NULL, RK_OK, NULL},
    {"HNSW_PQ", F32, "m=7", RK_EINVAL,
     "The dimension of the vector (dim) should be a multiple of the number of subquantizers (m). "
     "Dimension: 128, m: 7" TAIL},
    {"HNSW_PRQ", F32, "m=3", RK_EINVAL, "The dimension of a vector (dim)"},
    {"SCANN", F32, NULL, RK_OK, NULL},
    {"SCANN", F32, "sub_dim=3;with_raw_data=false", RK_EINVAL,
     "The dimension of a vector (dim) should be a multiple of sub_dim. Dimension:128, "
     "sub_dim:3" TAIL},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, "mh_element_bit_width=32;mh_lsh_band=4",
     RK_OK, NULL},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, "mh_element_bit_width=32;mh_lsh_band=5",
     RK_EINVAL, "mh_lsh_band (5)"},
    {"MINHASH_LSH", RK_VEC_BINARY, RK_METRIC_MHJACCARD, "mh_element_bit_width=12", RK_EINVAL,
     "mh_element_bit_width (12)"},
    /* AUTOINDEX */
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_NONE, "metric_type=", RK_OK, NULL},
    {NULL, RK_VEC_SPARSE, RK_METRIC_IP, "params={}", RK_OK, NULL},
    {"AUTOINDEX", F32, "M=8", RK_EUNEXPECTED, "only metric type can be passed when use AutoIndex"},
    {"AUTOINDEX", RK_VEC_F32, RK_METRIC_JACCARD, NULL, RK_EINVAL,
     "float vector index does not support metric type: JACCARD"},
};

static void
test_build_params(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(builds); i++) {
        const build_case *c = &builds[i];
        pairs p = pairs_of(c->params);
        rk_err err = {0};
        rk_code want = expected_of(c->kind, c->code);
        rk_code code = rk_index_check(rk_str_from(c->kind), c->type, 128, c->metric,
                                      (rk_params){p.data, p.n}, &err);
        if (code != want || (c->text && !strstr(err.text, c->text))) {
            fail_msg("case %zu: code %d text '%s', expected %d '%s'", i, (int)code, err.text,
                     (int)want, c->text ? c->text : "");
        }
    }
}

typedef struct search_case {
    const char *kind;
    const char *params;
    uint32_t k;
    rk_code code;
    const char *text;
} search_case;

static const search_case searches[] = {
    {"HNSW", "ef=10", 10, RK_OK, NULL},
    {"HNSW", NULL, 10000, RK_OK, NULL},
    {"HNSW", "ef=1", 10, RK_ESEGCORE,
     "failed to search: config={\"ef\":1,\"k\":10} out of range in json: ef(1) should be larger "
     "than k(10)"},
    {"HNSW_SQ", "ef=1", 10, RK_ESEGCORE, "ef(1) should be larger than k(10)"},
    {"HNSW_PQ", "ef=1", 2, RK_ESEGCORE, "ef(1) should be larger than k(2)"},
    {"HNSW_PRQ", "ef=100;refine_k=2.5", 10, RK_OK, NULL},
    {"AUTOINDEX", "ef=9", 10, RK_ESEGCORE, "ef(9) should be larger than k(10)"},
    {"AUTOINDEX", "level=1", 10, RK_OK, NULL},
    {"HNSW", "ef=32.0", 10, RK_ESEGCORE,
     "Type conflict in json: param 'ef' (32.0) should be integer"},
    {"HNSW", "ef=true", 10, RK_ESEGCORE, "(true) should be integer"},
    {"HNSW", "ef=null", 10, RK_ESEGCORE, "(null) should be integer"},
    {"HNSW", "ef=0", 1, RK_ESEGCORE,
     "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"},
    {"HNSW_SQ", "refine_k=0.5", 1, RK_ESEGCORE,
     "Out of range in json: param 'refine_k' (0.5) should be in range [1.000000, "
     "340282346638528859811704183484516925440.000000]"},
    {"IVF_PQ", "refine_k=x", 1, RK_ESEGCORE,
     "Type conflict in json: param 'refine_k' (x) should be a number"},
    {"SCANN", "reorder_k=9", 10, RK_ESEGCORE, "reorder_k(9) should be larger than k(10)"},
    {"SCANN", "reorder_k=10;nprobe=16", 10, RK_OK, NULL},
    {"DISKANN", "search_list=9", 10, RK_ESEGCORE,
     "search_list_size(9) should be larger than k(10)"},
    {"DISKANN", "search_list_size=9", 10, RK_ESEGCORE,
     "search_list_size(9) should be larger than k(10)"},
    {"AISAQ", "search_list=30;vectors_beamwidth=5", 10, RK_ESEGCORE,
     "param 'vectors_beamwidth' (5) should be in range [1, 4]"},
    {"MINHASH_LSH", "mh_search_with_jaccard=True;refine_k=4", 1, RK_OK, NULL},
    {"MINHASH_LSH", "mh_search_with_jaccard=4", 1, RK_ESEGCORE,
     "param 'mh_search_with_jaccard' (4) should be a boolean"},
    {"IVF_FLAT", "nprobe=0", 1, RK_ESEGCORE,
     "Out of range in json: param 'nprobe' (0) should be in range [1, 65536]"},
    {"IVF_FLAT", "nprobe=65536", 1, RK_OK, NULL},
    {"IVF_RABITQ", "rbq_bits_query=9", 1, RK_ESEGCORE, "should be in range [0, 8]"},
    {"IVF_RABITQ", "rbq_query_bits=99", 1, RK_OK, NULL},
    {"FLAT", "ef=junk", 1, RK_OK, NULL},
    {"SPARSE_INVERTED_INDEX", "drop_ratio_search=1.0", 1, RK_ESEGCORE,
     "(1.0) should be in range [0.000000, 1.000000)"},
    {"SPARSE_INVERTED_INDEX", "drop_ratio_search=0.2", 1, RK_OK, NULL},
    {"FOO", "ef=1", 1, RK_EINVAL, "invalid index type: FOO"},
};

static void
test_search_params(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(searches); i++) {
        const search_case *c = &searches[i];
        pairs p = pairs_of(c->params);
        rk_err err = {0};
        rk_code code =
            rk_index_check_search(rk_str_from(c->kind), (rk_params){p.data, p.n}, c->k, &err);
        if (code != c->code || (c->text && !strstr(err.text, c->text))) {
            fail_msg("case %zu: code %d text '%s', expected %d '%s'", i, (int)code, err.text,
                     (int)c->code, c->text ? c->text : "");
        }
    }
}

/* ---- every row of the table ---- */

static rk_code
judge(const rk__kind_spec *spec, bool build, const char *name, const char *value, rk_err *err)
{
    rk_param params[2] = {{rk_str_from(name), rk_str_from(value)}, {RK_STR("m"), RK_STR("8")}};
    rk_vector_type type = spec->types & RK__T_F32   ? RK_VEC_F32
                          : spec->types & RK__T_BIN ? RK_VEC_BINARY
                                                    : RK_VEC_SPARSE;
    rk_metric metric = RK_METRIC_NONE;
    /* the dimension divides by every legal value that these tests try */
    uint32_t dim = type == RK_VEC_BINARY ? 65536 : type == RK_VEC_F32 ? 65536 : 0;

    for (unsigned m = 1; !metric; m++) {
        metric = spec->metrics >> m & 1u ? (rk_metric)m : RK_METRIC_NONE;
    }
    rk_err_clear(err);
    return build ? rk_index_check(rk_str_from(spec->name), type, dim, metric,
                                  (rk_params){params, strcmp(name, "m") == 0 ? 1 : 2}, err)
                 : rk_index_check_search(rk_str_from(spec->name), (rk_params){params, 1}, 1, err);
}

static void
expect(const rk__kind_spec *spec, bool build, const rk__param_spec *param, const char *value,
       bool good)
{
    rk_err err = {0};
    rk_code code = judge(spec, build, param->name, value, &err);
    rk_code bad = build ? RK_EINVAL : RK_ESEGCORE;
    rk_code ok = build ? expected_of(spec->name, RK_OK) : RK_OK;

    if (code != (good ? ok : bad) || (!good && !strstr(err.text, param->name) && !param->words)) {
        fail_msg("%s %s=%s: code %d '%s'", spec->name, param->name, value, (int)code, err.text);
    }
}

static void
sweep(const rk__kind_spec *spec, bool build, const rk__param_spec *param)
{
    char text[400];

    switch (param->type) {
    case RK__PARAM_INT:
        snprintf(text, sizeof(text), "%.0f", param->min);
        expect(spec, build, param, text, true);
        if (param->max <= 65536 && strcmp(param->name, "mh_element_bit_width") != 0) {
            snprintf(text, sizeof(text), "%.0f", param->max);
            expect(spec, build, param, text, true);
        }
        snprintf(text, sizeof(text), "%.0f", param->min - 1);
        expect(spec, build, param, text, false);
        snprintf(text, sizeof(text), "%.0f", param->max + 1);
        expect(spec, build, param, text, false);
        expect(spec, build, param, "1.5", false);
        expect(spec, build, param, "many", false);
        break;
    case RK__PARAM_FLOAT:
    case RK__PARAM_FLOAT_OPEN:
        snprintf(text, sizeof(text), "%f", param->min);
        expect(spec, build, param, text, true);
        snprintf(text, sizeof(text), "%f", param->max);
        expect(spec, build, param, text, param->type == RK__PARAM_FLOAT);
        snprintf(text, sizeof(text), "%f", param->min - 0.25);
        expect(spec, build, param, text, false);
        expect(spec, build, param, "nan", false);
        expect(spec, build, param, "much", false);
        break;
    case RK__PARAM_BOOL:
        expect(spec, build, param, "true", true);
        expect(spec, build, param, "False", true);
        expect(spec, build, param, "maybe", false);
        break;
    case RK__PARAM_WORD:
        for (size_t i = 0; param->words->words[i]; i++) {
            expect(spec, build, param, param->words->words[i], true);
        }
        expect(spec, build, param, "word", false);
        break;
    case RK__PARAM_NONE:
        break;
    }
}

static void
test_whole_table(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < rk__kind_table_len; i++) {
        const rk__kind_spec *spec = &rk__kind_table[i];
        assert_ptr_equal(rk__kind_spec_of(spec->id), spec);
        assert_string_equal(rk__kind_name(spec->id), spec->name);
        for (size_t j = 0; spec->build[j].type != RK__PARAM_NONE; j++) {
            assert_true(j + 1 < RK__BUILD_PARAMS_MAX);
            sweep(spec, true, &spec->build[j]);
        }
        for (size_t j = 0; spec->search[j].type != RK__PARAM_NONE; j++) {
            assert_true(j + 1 < RK__SEARCH_PARAMS_MAX);
            sweep(spec, false, &spec->search[j]);
        }
    }
}

/* The matrix of kinds and vector types, as the API documents it. */
static void
test_types(void **state)
{
    static const struct {
        const char *kind;
        const char *types; /* f32, half, i8, bin, sparse */
    } matrix[] = {
        {"FLAT", "xx---"},
        {"IVF_FLAT", "xx---"},
        {"IVF_SQ8", "xx---"},
        {"IVF_PQ", "xx---"},
        {"SCANN", "xx---"},
        {"IVF_RABITQ", "xx---"},
        {"HNSW", "xxxx-"},
        {"HNSW_SQ", "xxx--"},
        {"HNSW_PQ", "xxx--"},
        {"HNSW_PRQ", "xxx--"},
        {"DISKANN", "xx---"},
        {"AISAQ", "xx---"},
        {"BIN_FLAT", "---x-"},
        {"BIN_IVF_FLAT", "---x-"},
        {"MINHASH_LSH", "---x-"},
        {"SPARSE_WAND", "----x"},
        {"SPARSE_INVERTED_INDEX", "----x"},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(matrix); i++) {
        const rk__kind_spec *spec = rk__kind_find(rk_str_from(matrix[i].kind));
        assert_non_null(spec);
        for (size_t t = 0; t < 5; t++) {
            /* FLAT takes int8 too: AUTOINDEX needs it for small segments */
            bool more = spec->id == RK__KIND_FLAT && t == 2;
            assert_int_equal((spec->types >> t & 1u) != 0, matrix[i].types[t] == 'x' || more);
        }
    }
}

static void
test_values(void **state)
{
    pairs p = pairs_of("nlist=64;refine=True;refine_type=fp16;nprobe=70000");
    rk_params params = {p.data, p.n};
    rk_params none = {NULL, 0};

    RK_UNUSED(state);
    assert_int_equal(rk__build_int(RK__KIND_IVF_SQ8, params, "nlist"), 64);
    assert_int_equal(rk__build_int(RK__KIND_IVF_SQ8, none, "nlist"), 128);
    assert_true(rk__build_bool(RK__KIND_IVF_SQ8, params, "refine"));
    assert_false(rk__build_bool(RK__KIND_IVF_SQ8, none, "refine"));
    assert_true(rk__build_bool(RK__KIND_SCANN, none, "with_raw_data"));
    assert_string_equal(rk__build_word(RK__KIND_IVF_SQ8, params, "refine_type"), "FP16");
    assert_null(rk__build_word(RK__KIND_IVF_SQ8, none, "refine_type"));
    assert_string_equal(rk__build_word(RK__KIND_IVF_SQ8, none, "sq_type"), "SQ8");
    assert_int_equal(rk__search_int(RK__KIND_IVF_SQ8, params, "nprobe"), 65536);
    assert_int_equal(rk__search_int(RK__KIND_IVF_SQ8, none, "nprobe"), 8);
    assert_true(rk__search_float(RK__KIND_IVF_SQ8, none, "refine_k") == 1);
    assert_false(rk__search_bool(RK__KIND_MINHASH_LSH, none, "mh_search_with_jaccard"));
    assert_true(rk__build_float(RK__KIND_DISKANN, none, "pq_code_budget_gb_ratio") == 0);
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
        {RK_VEC_F32, RK_METRIC_COSINE, 1500, "IVF_RABITQ"},
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
        cmocka_unit_test(test_build_params), cmocka_unit_test(test_search_params),
        cmocka_unit_test(test_whole_table),  cmocka_unit_test(test_types),
        cmocka_unit_test(test_values),       cmocka_unit_test(test_autoindex_kinds),
        cmocka_unit_test(test_metric_names),
    };

    rk_kernels_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
