/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of index kinds: name, number, the vectors and metrics taken, and every parameter with
 * its range and default. Also AUTOINDEX: what it becomes for a type and a number of rows.
 *
 * scripts/compatibility reads the names from this table.
 */
#include <strings.h>

#include "index/params.h"

#define T_F32    RK__T_F32
#define T_HALF   RK__T_HALF
#define T_I8     RK__T_I8
#define T_BIN    RK__T_BIN
#define T_SPARSE RK__T_SPARSE
#define T_FLOAT  (RK__T_F32 | RK__T_HALF)
#define T_DENSE  (T_FLOAT | RK__T_I8)

#define M(metric) (1u << RK_METRIC_##metric)
#define M_DENSE   (M(L2) | M(IP) | M(COSINE))
#define M_BITS    (M(HAMMING) | M(JACCARD))
#define M_SETS    (M(SUBSTRUCTURE) | M(SUPERSTRUCTURE))

#define INT_VALUE_MAX 2147483647
#define FLOAT_MAX     3.4028234663852886e38

#define INT(name, min, max, fallback)                                                              \
    {                                                                                              \
        name, RK__PARAM_INT, false, min, max, fallback, NULL                                       \
    }
#define INT_REQUIRED(name, min, max)                                                               \
    {                                                                                              \
        name, RK__PARAM_INT, true, min, max, 0, NULL                                               \
    }
#define FLOAT(name, min, max, fallback)                                                            \
    {                                                                                              \
        name, RK__PARAM_FLOAT, false, min, max, fallback, NULL                                     \
    }
#define RATIO(name)                                                                                \
    {                                                                                              \
        name, RK__PARAM_FLOAT_OPEN, false, 0, 1, 0, NULL                                           \
    }
#define BOOL(name, fallback)                                                                       \
    {                                                                                              \
        name, RK__PARAM_BOOL, false, 0, 1, fallback, NULL                                          \
    }
#define WORD(name, list, fallback)                                                                 \
    {                                                                                              \
        name, RK__PARAM_WORD, false, 0, 0, fallback, list                                          \
    }

/* ---- words ---- */

static const char *const ivf_sq_words[] = {"SQ4", "SQ6", "SQ8", NULL};
static const char *const hnsw_sq_words[] = {"SQ4U", "SQ6", "SQ8", "FP16", "BF16", NULL};
static const char *const ivf_refine_words[] = {"SQ6", "SQ8", "FP16", "BF16", "FP32", "FLAT", NULL};
static const char *const hnsw_refine_words[] = {"SQ4U", "SQ6",  "SQ8",  "FP16",
                                                "BF16", "FP32", "FLAT", NULL};
static const char *const sparse_words[] = {
    "TAAT_NAIVE", "DAAT_WAND", "DAAT_MAXSCORE", "BLOCK_MAX_MAXSCORE", "BLOCK_MAX_WAND",
    "SINDI",      NULL};
static const char *const quant_words[] = {"fp16", "fp32", "u16", "u32", NULL};
static const char *const engine_words[] = {"aio", "uring", NULL};

static const rk__words ivf_sq = {ivf_sq_words, true,
                                 "invalid sq_type : ", ", optional types are [sq4, sq6, sq8]"};
static const rk__words hnsw_sq = {hnsw_sq_words, true, "invalid scalar quantizer type", NULL};
static const rk__words ivf_refine = {ivf_refine_words, true, "invalid refine type : ",
                                     ", optional types are [sq6, sq8, fp16, bf16, fp32, flat]"};
static const rk__words hnsw_refine = {
    hnsw_refine_words, true,
    "invalid refine type : ", ", optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]"};
static const rk__words sparse_algorithms = {
    sparse_words, false, "sparse inverted index algo ",
    " not found or not supported, supported: [TAAT_NAIVE DAAT_WAND DAAT_MAXSCORE "
    "BLOCK_MAX_MAXSCORE BLOCK_MAX_WAND SINDI]"};
static const rk__words quant_types = {
    quant_words, false, "quant_type ",
    " not found or not supported, supported: [fp16 fp32 u16 u32]"};
static const rk__words read_engines = {engine_words, false, "pq_read_io_engine ",
                                       " not found or not supported, supported: [aio uring]"};

/* ---- parameters shared by kinds ---- */

#define NLIST         INT("nlist", 1, 65536, 128)
#define NPROBE        INT("nprobe", 1, 65536, 8)
#define EMPTY_MAX     INT("max_empty_result_buckets", 1, 65536, 2)
#define REFINE_K      FLOAT("refine_k", 1, FLOAT_MAX, 1)
#define TARGET_RECALL FLOAT("target_recall", 0, 1, 0.97)
#define REFINE(words) BOOL("refine", false), WORD("refine_type", words, -1)
#define GRAPH         INT("M", 2, 2048, 30), INT("efConstruction", 1, INT_VALUE_MAX, 360)
#define EF            INT("ef", 1, INT_VALUE_MAX, 0)
#define NBITS         INT("nbits", 1, 24, 8)
#define DISK_BUILD                                                                                 \
    INT("max_degree", 1, 2048, 48), INT("search_list_size", 1, INT_VALUE_MAX, 128),                \
        FLOAT("pq_code_budget_gb_ratio", 0, FLOAT_MAX, 0),                                         \
        FLOAT("search_cache_budget_gb_ratio", 0, FLOAT_MAX, 0),                                    \
        INT("disk_pq_dims", 0, INT_VALUE_MAX, 0), BOOL("accelerate_build", false)
#define DISK_SEARCH                                                                                \
    INT("search_list", 1, INT_VALUE_MAX, 0), INT("search_list_size", 1, INT_VALUE_MAX, 0),         \
        INT("beamwidth", 1, 128, 8), INT("min_k", 1, INT_VALUE_MAX, 100),                          \
        INT("max_k", 1, INT_VALUE_MAX, INT_VALUE_MAX), FLOAT("filter_threshold", -1, 1, -1)
#define SPARSE_BUILD                                                                               \
    WORD("inverted_index_algo", &sparse_algorithms, 2), RATIO("drop_ratio_build"),                 \
        FLOAT("bm25_k1", 0, 3, 1.2), FLOAT("bm25_b", 0, 1, 0.75),                                  \
        INT("block_max_block_size", 1, 65535, 128), WORD("quant_type", &quant_types, -1),          \
        INT("sindi_window_size", 1024, 65535, 65535)
#define SPARSE_SEARCH                                                                              \
    RATIO("drop_ratio_search"), INT("refine_factor", 1, INT_VALUE_MAX, 1),                         \
        FLOAT("dim_max_score_ratio", 0.5, 1.3, 1.05)

/* clang-format off */
const rk__kind_spec rk__kind_table[] = {
    {"FLAT", RK__KIND_FLAT, T_DENSE, M_DENSE, true, false,
     {{0}},
     {{0}}},
    {"BIN_FLAT", RK__KIND_BIN_FLAT, T_BIN, M_BITS | M_SETS, true, false,
     {{0}},
     {{0}}},
    {"HNSW", RK__KIND_HNSW, T_DENSE | T_BIN, M_DENSE | M_BITS, true, false,
     {GRAPH},
     {EF, TARGET_RECALL}},
    {"IVF_FLAT", RK__KIND_IVF_FLAT, T_FLOAT, M_DENSE, false, false,
     {NLIST},
     {NPROBE, EMPTY_MAX}},
    {"BIN_IVF_FLAT", RK__KIND_BIN_IVF_FLAT, T_BIN, M_BITS, true, false,
     {NLIST},
     {NPROBE, EMPTY_MAX}},
    {"SPARSE_INVERTED_INDEX", RK__KIND_SPARSE_INVERTED, T_SPARSE, M(IP), true, false,
     {SPARSE_BUILD},
     {SPARSE_SEARCH}},
    {"SPARSE_WAND", RK__KIND_SPARSE_WAND, T_SPARSE, M(IP), false, false,
     {SPARSE_BUILD},
     {SPARSE_SEARCH}},
    {"IVF_SQ8", RK__KIND_IVF_SQ8, T_FLOAT, M_DENSE, false, false,
     {NLIST, WORD("sq_type", &ivf_sq, 2), REFINE(&ivf_refine)},
     {NPROBE, EMPTY_MAX, REFINE_K}},
    {"IVF_PQ", RK__KIND_IVF_PQ, T_FLOAT, M_DENSE, false, false,
     {NLIST, INT_REQUIRED("m", 1, 65536), NBITS, REFINE(&ivf_refine)},
     {NPROBE, EMPTY_MAX, REFINE_K}},
    {"IVF_RABITQ", RK__KIND_IVF_RABITQ, T_FLOAT, M_DENSE, true, false,
     {NLIST, REFINE(&ivf_refine)},
     {NPROBE, EMPTY_MAX, INT("rbq_bits_query", 0, 8, 0), REFINE_K, TARGET_RECALL}},
    {"IVF_RABITQ_FASTSCAN", RK__KIND_IVF_RABITQ_FASTSCAN, T_FLOAT, M_DENSE, false, false,
     {NLIST, REFINE(&ivf_refine)},
     {NPROBE, EMPTY_MAX, INT("rbq_bits_query", 0, 8, 0), REFINE_K, TARGET_RECALL}},
    {"SCANN", RK__KIND_SCANN, T_FLOAT, M_DENSE, false, false,
     {NLIST, BOOL("with_raw_data", true), INT("sub_dim", 1, 65536, 2)},
     {NPROBE, EMPTY_MAX, INT("reorder_k", 1, INT_VALUE_MAX, 0)}},
    {"HNSW_SQ", RK__KIND_HNSW_SQ, T_DENSE, M_DENSE, false, false,
     {GRAPH, WORD("sq_type", &hnsw_sq, 2), REFINE(&hnsw_refine)},
     {EF, REFINE_K}},
    {"HNSW_PQ", RK__KIND_HNSW_PQ, T_DENSE, M_DENSE, false, false,
     {GRAPH, INT("m", 1, 65536, 32), NBITS, REFINE(&hnsw_refine)},
     {EF, REFINE_K}},
    {"HNSW_PRQ", RK__KIND_HNSW_PRQ, T_DENSE, M_DENSE, false, false,
     {GRAPH, INT("m", 1, 65536, 2), INT("nrq", 1, 16, 2), NBITS, REFINE(&hnsw_refine)},
     {EF, REFINE_K}},
    {"DISKANN", RK__KIND_DISKANN, T_FLOAT, M_DENSE, false, true,
     {DISK_BUILD},
     {DISK_SEARCH}},
    {"AISAQ", RK__KIND_AISAQ, T_FLOAT, M_DENSE, false, true,
     {DISK_BUILD, INT("inline_pq", -1, 2048, -1), BOOL("rearrange", true),
      INT("num_entry_points", 0, 1000, 100), INT("pq_cache_size", 0, 1073741824, 0),
      INT("pq_read_page_cache_size", 0, 33554432, 5242880),
      WORD("pq_read_io_engine", &read_engines, 0)},
     {DISK_SEARCH, INT("vectors_beamwidth", 1, 4, 1)}},
    {"MINHASH_LSH", RK__KIND_MINHASH_LSH, T_BIN, M(MHJACCARD), false, true,
     {INT("mh_element_bit_width", 8, 256, 8), INT("mh_lsh_band", 1, INT_VALUE_MAX, 1),
      INT("mh_lsh_aligned_block_size", 4096, INT_VALUE_MAX, 4096), BOOL("with_raw_data", false),
      BOOL("mh_lsh_code_in_mem", true), BOOL("mh_lsh_shared_bloom_filter", false),
      FLOAT("mh_lsh_bloom_false_positive_prob", 0, 1, 0.01)},
     {BOOL("mh_search_with_jaccard", false), INT("refine_k", 1, INT_VALUE_MAX, 1),
      BOOL("mh_lsh_batch_search", false)}},
};
/* clang-format on */
const size_t rk__kind_table_len = RK_COUNT(rk__kind_table);

/* ---- names ---- */

const rk__kind_spec *
rk__kind_find(rk_str name)
{
    for (size_t i = 0; i < RK_COUNT(rk__kind_table); i++) {
        if (rk_str_is(name, rk__kind_table[i].name)) {
            return &rk__kind_table[i];
        }
    }
    return NULL;
}

const rk__kind_spec *
rk__kind_spec_of(rk__kind_id kind)
{
    for (size_t i = 0; i < RK_COUNT(rk__kind_table); i++) {
        if (rk__kind_table[i].id == kind) {
            return &rk__kind_table[i];
        }
    }
    return NULL;
}

const char *
rk__kind_name(rk__kind_id kind)
{
    const rk__kind_spec *spec = rk__kind_spec_of(kind);

    return spec ? spec->name : "";
}

bool
rk__kind_is_auto(rk_str name)
{
    return !name.data || rk_str_is(name, "AUTOINDEX");
}

unsigned
rk__type_bit(rk_vector_type type)
{
    switch (type) {
    case RK_VEC_BINARY:
        return T_BIN;
    case RK_VEC_F32:
        return T_F32;
    case RK_VEC_F16:
    case RK_VEC_BF16:
        return T_HALF;
    case RK_VEC_SPARSE:
        return T_SPARSE;
    case RK_VEC_I8:
        return T_I8;
    }
    return 0;
}

const char *
rk__type_name(rk_vector_type type)
{
    switch (type) {
    case RK_VEC_BINARY:
        return "BinaryVector";
    case RK_VEC_F32:
        return "FloatVector";
    case RK_VEC_F16:
        return "Float16Vector";
    case RK_VEC_BF16:
        return "BFloat16Vector";
    case RK_VEC_SPARSE:
        return "SparseFloatVector";
    case RK_VEC_I8:
        return "Int8Vector";
    }
    return "Unknown";
}

int
rk__word_find(const rk__words *words, rk_str text)
{
    for (int i = 0; words->words[i]; i++) {
        size_t len = strlen(words->words[i]);
        if (text.len == len && (words->any_case ? strncasecmp(text.data, words->words[i], len)
                                                : memcmp(text.data, words->words[i], len)) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- what a kind takes ---- */

bool
rk__metric_of_type(rk_vector_type type, rk_metric metric)
{
    unsigned bit = rk__type_bit(type);

    switch (metric) {
    case RK_METRIC_L2:
    case RK_METRIC_COSINE:
        return (bit & T_DENSE) != 0;
    case RK_METRIC_IP:
        return (bit & (T_DENSE | T_SPARSE)) != 0;
    case RK_METRIC_HAMMING:
    case RK_METRIC_JACCARD:
    case RK_METRIC_SUBSTRUCTURE:
    case RK_METRIC_SUPERSTRUCTURE:
    case RK_METRIC_MHJACCARD:
        return bit == T_BIN;
    case RK_METRIC_NONE:
        break;
    }
    return false;
}

bool
rk__kind_takes(rk__kind_id kind, rk_vector_type type, rk_metric metric)
{
    const rk__kind_spec *spec = rk__kind_spec_of(kind);

    return spec && (spec->types & rk__type_bit(type)) != 0 && rk__metric_of_type(type, metric) &&
           (spec->metrics >> metric & 1u) != 0;
}

static rk__kind_id
auto_binary(rk_metric metric, size_t rows)
{
    if (metric == RK_METRIC_MHJACCARD) {
        return RK__KIND_MINHASH_LSH;
    }
    return rows >= 65536 && (M_BITS >> metric & 1u) ? RK__KIND_BIN_IVF_FLAT : RK__KIND_BIN_FLAT;
}

rk__kind_id
rk__kind_resolve(rk_str index_type, rk_vector_type type, rk_metric metric, size_t rows)
{
    if (!rk__kind_is_auto(index_type)) {
        const rk__kind_spec *spec = rk__kind_find(index_type);
        return spec ? spec->id : RK__KIND_NONE;
    }
    switch (rk__type_bit(type)) {
    case T_BIN:
        return auto_binary(metric, rows);
    case T_SPARSE:
        return RK__KIND_SPARSE_INVERTED;
    case RK__T_I8:
        return rows < 1024 ? RK__KIND_FLAT : RK__KIND_HNSW;
    default:
        return rows < 1024 ? RK__KIND_FLAT : RK__KIND_IVF_RABITQ;
    }
}
