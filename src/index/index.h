/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector indexes: one interface for every kind. Pure: no files, no network, no threads but those
 * handed in.
 *
 * An index is built over |rows| vectors numbered 0..rows-1 and answers with row numbers. It never
 * returns a row whose bit in the filter is clear, and returns k rows whenever k rows pass (graph
 * kinds fall back to exact search when the walk finds too few). Scores: L2 is the squared distance
 * (smaller is nearer); IP and COSINE the similarity (larger is nearer); HAMMING a bit count;
 * JACCARD the distance 1 - |a&b|/|a|b|; SUBSTRUCTURE and SUPERSTRUCTURE match (0) or not. COSINE
 * vectors are stored as given; norms are kept beside them.
 *
 * Threads: a built index is immutable; any number of threads may search it. Build runs on the
 * caller's thread plus those of |parallel|. Memory: build asks |mem| for its bytes first.
 */
#ifndef RK_INDEX_INDEX_H
#define RK_INDEX_INDEX_H

#include "base/bitset.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/seam.h"

typedef enum rk_vector_type {
    RK_VEC_BINARY = 100,
    RK_VEC_F32 = 101,
    RK_VEC_F16 = 102,
    RK_VEC_BF16 = 103,
    RK_VEC_SPARSE = 104,
    RK_VEC_I8 = 105,
} rk_vector_type;

typedef enum rk_metric {
    RK_METRIC_NONE,
    RK_METRIC_L2,
    RK_METRIC_IP,
    RK_METRIC_COSINE,
    RK_METRIC_HAMMING,
    RK_METRIC_JACCARD,
    RK_METRIC_SUBSTRUCTURE,   /* rows that contain the query, at distance 0; others never */
    RK_METRIC_SUPERSTRUCTURE, /* rows that are subsets of the query, the same way */
    RK_METRIC_MHJACCARD       /* MinHash, see minhash.c */
} rk_metric;                  /* in files and messages: only append */

const char *rk_metric_name(rk_metric metric);      /* "L2" */
bool rk_metric_parse(rk_str name, rk_metric *out); /* any case */
static inline bool
rk_metric_larger_is_nearer(rk_metric m)
{
    return m == RK_METRIC_IP || m == RK_METRIC_COSINE || m == RK_METRIC_MHJACCARD;
}

/*
 * A borrowed matrix of vectors. Dense: row-major, |dim| components each (binary: dim bits, dim/8
 * bytes), row stride = the packed row size, 4-byte aligned at least. Sparse: |offsets| has rows + 1
 * byte offsets into |data|; a row is pairs (u32 index, f32 value), ascending.
 */
typedef struct rk_vectors {
    rk_vector_type type;
    uint32_t dim; /* 0 for sparse */
    size_t rows;
    const void *data;
    const uint64_t *offsets; /* sparse only */
} rk_vectors;

size_t rk_vector_bytes(rk_vector_type type, uint32_t dim); /* of one dense row */

/* Parameters as the API has them: text pairs, already merged (index_type, metric_type, M,
 * efConstruction, nlist, ef, nprobe, radius ...). */
typedef struct rk_param {
    rk_str key;
    rk_str value;
} rk_param;
typedef struct rk_params {
    const rk_param *data;
    size_t n;
} rk_params;
/* The value of |key| or {NULL, 0}. */
rk_str rk_params_get(rk_params params, const char *key);

/* Lets build work spread over threads: runs fn(arg, i) for i in [0, n) and returns when all are
 * done; NULL: on the caller alone. */
typedef struct rk_parallel {
    void (*run)(void *self, size_t n, void (*fn)(void *arg, size_t i), void *arg);
    unsigned width; /* how many run at once */
    void *self;
} rk_parallel;

typedef struct rk_build_options {
    rk_metric metric;
    rk_params params;
    const rk_parallel *parallel;  /* NULL: single-threaded */
    rk_mem *mem;                  /* budget; NULL: none */
    const _Atomic(bool) *cancel;  /* polled; NULL: cannot be cancelled. Set: RK_ECANCELLED */
    _Atomic(uint64_t) *rows_done; /* progress; NULL: not told */
    unsigned rows_done_shift;     /* a part of a larger build counts rows >> this; callers: 0 */
    uint64_t seed;
} rk_build_options;

typedef struct rk_index rk_index;

/* "HNSW", "AUTOINDEX" ... known to this build, for |type|: the check of CreateIndex, with the
 * public texts. Fills defaults into nothing: it only judges. */
RK_MUST_CHECK rk_code rk_index_check(rk_str index_type, rk_vector_type type, uint32_t dim,
                                     rk_metric metric, rk_params params, rk_err *err);
/* Judges search parameters for the kind; |k| is limit + offset. */
RK_MUST_CHECK rk_code rk_index_check_search(rk_str index_type, rk_params params, uint32_t k,
                                            rk_err *err);

/* Builds. FLAT-like kinds borrow |vectors| (which then must outlive the index) rather than copy. */
RK_MUST_CHECK rk_code rk_index_build(rk_index **out, rk_str index_type, const rk_vectors *vectors,
                                     const rk_build_options *options, rk_err *err);

/* Whether rk_index_merge() may do anything for such an index; false: it always says to build. */
bool rk_index_merges(rk_str index_type, rk_vector_type type, rk_metric metric, size_t rows);
/* Whether it may begin with this one. */
bool rk_index_is_part(const rk_index *index);

/* An index over some of the rows of a new one, and where its rows are there. */
#define RK_NO_ROW UINT32_MAX
typedef struct rk_merge_part {
    const rk_index *index;
    const uint32_t *rows; /* per row of the part: the row with the same bytes, RK_NO_ROW: deleted */
} rk_merge_part;

/*
 * Builds an index as rk_index_build() does, out of others: the largest part is taken over, its
 * deleted rows are taken out, rows it does not have are put in. |*out| NULL with RK_OK: that would
 * not do or not pay (the kind cannot, no part has half of the rows, parameters differ, data became
 * other data), build afresh. A part's index and its vectors are only read.
 */
RK_MUST_CHECK rk_code rk_index_merge(rk_index **out, rk_str index_type, const rk_vectors *vectors,
                                     const rk_merge_part *parts, size_t n_parts,
                                     const rk_build_options *options, rk_err *err);

/*
 * Writes the index as bytes through |write|; opens it from a mapped image, checking header and
 * checksums. The image does not hold what FLAT borrows: |vectors| must be the same matrix as at
 * build time. |image| must stay mapped and be 64-byte aligned.
 */
typedef rk_code (*rk_write_fn)(void *user, const void *data, size_t len, rk_err *err);
RK_MUST_CHECK rk_code rk_index_save(const rk_index *index, rk_write_fn write, void *user,
                                    rk_err *err);
RK_MUST_CHECK rk_code rk_index_open(rk_index **out, rk_str image, const rk_vectors *vectors,
                                    rk_mem *mem, rk_err *err);
/* Checks the section checksums of an opened image, reading it through; images up to 64 MiB were
 * checked at open already, see rk_index_info.verified. RK_ECORRUPT names the section. An unverified
 * image cannot crash a search, only answer wrongly. |cancel|, NULL for none, is polled:
 * RK_ECANCELLED. */
RK_MUST_CHECK rk_code rk_index_verify(const rk_index *index, const _Atomic(bool) *cancel,
                                      rk_err *err);
void rk_index_free(rk_index *index);

/* Whether the image that begins with |head|, 64 bytes of it, is of a kind that need not be mapped:
 * DISKANN, AISAQ. Any 64 bytes may be asked about. */
bool rk_index_is_paged(rk_str head);
/*
 * Opens such an image through a page reader, which must outlive the index. What the kind keeps in
 * memory is read, checked and charged to |mem| here; the rest is read by searches, which check each
 * page they use. vectors->data may be NULL.
 */
RK_MUST_CHECK rk_code rk_index_open_pages(rk_index **out, rk_pages *pages,
                                          const rk_vectors *vectors, rk_mem *mem, rk_err *err);

typedef struct rk_index_info {
    const char *kind; /* "HNSW" */
    rk_metric metric;
    rk_vector_type type;
    uint32_t dim;
    size_t rows;
    uint64_t memory_bytes; /* held by the index itself, mapped image included */
    bool verified;         /* built here, checked at open, or checked page by page as it is read */
} rk_index_info;
void rk_index_get_info(const rk_index *index, rk_index_info *out);

typedef struct rk_hit {
    float score; /* as the metric defines, see top */
    uint32_t row;
} rk_hit;

/*
 * A filter put into the order of an index once, for many searches under it: they read of it only
 * what belongs to the lists they visit, and nothing of lists in which no row passes. Immutable; any
 * number of threads search with it. It must not outlive the index.
 */
typedef struct rk_index_filter rk_index_filter;

/*
 * |passing|: set bits may be returned, nbits = rows of the index; |count| of them are set. Neither
 * is borrowed. |*out| NULL with RK_OK: searches gain nothing by it, do without. Takes a few
 * nanoseconds for a passing row, some tens where few pass. |mem| is charged until it is freed,
 * NULL: nothing is.
 *
 * Returns RK_OK, or
 *   RK_ENOMEM    the budget behind |mem| is used up, or there is no memory
 *   RK_EINTERNAL |passing| has not as many bits as the index has rows, or |count| is more
 */
RK_MUST_CHECK rk_code rk_index_filter_new(rk_index_filter **out, const rk_index *index,
                                          const rk_bitset *passing, size_t count, rk_mem *mem,
                                          rk_err *err);
void rk_index_filter_free(rk_index_filter *filter);          /* NULL: nothing */
size_t rk_index_filter_bytes(const rk_index_filter *filter); /* as charged */

typedef struct rk_search_options {
    uint32_t k;
    rk_params params;               /* ef, nprobe ... */
    const rk_bitset *filter;        /* set bit: may be returned; NULL: all rows. nbits = rows */
    size_t filter_count;            /* set bits of |filter|, so that the kind can choose its way */
    const rk_index_filter *ordered; /* the same bits in the order of this index; NULL: not made */
    bool range;                     /* with radius below */
    float radius;                   /* L2-like: score < radius; IP-like: score > radius */
    bool has_range_filter;
    float range_filter;  /* L2-like: score >= range_filter; IP-like: score <= range_filter */
    rk_arena *arena;     /* scratch */
    const rk_stop *stop; /* asked between queries and pieces of long scans; NULL: never */
} rk_search_options;

/*
 * The k nearest of one query, best first, ties by row number. |query| is a row of the index's type
 * (sparse: |query_len| bytes of pairs; dense: query_len = row bytes). |hits| has room for k; |*n|
 * tells how many. NaN scores never win a place.
 */
RK_MUST_CHECK rk_code rk_index_search(const rk_index *index, const void *query, size_t query_len,
                                      const rk_search_options *options, rk_hit *hits, uint32_t *n,
                                      rk_err *err);

/*
 * The same for |n| queries of one call. RK_ECANCELLED when options->stop asked for it; then hits
 * and counts mean nothing. Else: hits of query i are hits[i * options->k] and on, counts[i] tells
 * how many. Every query gets the hits, to the bit, that rk_index_search() gives it alone; together
 * they cost less, as memory is read once for several of them, or for one while another is computed.
 * options->arena is reset between some of them: nothing else may live there.
 */
RK_MUST_CHECK rk_code rk_index_search_many(const rk_index *index, const rk_str *queries, size_t n,
                                           const rk_search_options *options, rk_hit *hits,
                                           uint32_t *counts, rk_err *err);

/*
 * Exact search over raw vectors without an index: growing segments, and segments whose index is not
 * built yet. Same results as FLAT. Rows are those of |vectors|, numbered from |row_base| (so that
 * chunked data is searched chunk by chunk into one heap): merges into |hits|/|n| which may already
 * hold up to k hits, best first. |options->filter| is indexed by row_base + row.
 */
RK_MUST_CHECK rk_code rk_flat_search(const rk_vectors *vectors, size_t row_base, rk_metric metric,
                                     const void *query, size_t query_len,
                                     const rk_search_options *options, rk_hit *hits, uint32_t *n,
                                     rk_err *err);

/* rk_flat_search() for |n| queries, laid out as by rk_index_search_many(): hits[i * options->k] may
 * hold counts[i] hits already. The same hits; options->arena is reset. */
RK_MUST_CHECK rk_code rk_flat_search_many(const rk_vectors *vectors, size_t row_base,
                                          rk_metric metric, const rk_str *queries, size_t n,
                                          const rk_search_options *options, rk_hit *hits,
                                          uint32_t *counts, rk_err *err);

/* Distance of two rows of a dense type under |metric|: the scalar reference, for tests and
 * re-scoring. */
float rk_distance(rk_vector_type type, rk_metric metric, uint32_t dim, const void *a,
                  const void *b);

/* "avx512", "avx2", "neon", "scalar": what the kernel table was filled with; chosen once, masked by
 * env REDKITE_CPU for tests. */
const char *rk_kernels_name(void);
void rk_kernels_init(void); /* idempotent; called by main and tests before anything else */

#endif
