/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the index object, the table of kinds, scoring of rows, and
 * the image envelope.
 *
 * A kind is a table row (name, types, metrics, parameters) and, when this build has it, a set of
 * verbs over its own state. The common part owns checks, the memory reservation, search option
 * handling and the envelope; a kind sees a prepared query.
 */
#ifndef RK_INDEX_PRIVATE_H
#define RK_INDEX_PRIVATE_H

#include <math.h>

#include "base/bitset.h"
#include "base/mem.h"
#include "base/util.h"
#include "index/heap.h"
#include "index/index.h"
#include "index/kernel/kernel.h"

#define RK__NO_ROW RK_NO_ROW

/*
 * Asks for |size_bytes| bytes of memory, line by line. Use this where a function would do nothing
 * else than ask: gcc takes a function of bare __builtin_prefetch() for one without effect and drops
 * its calls; the empty statement keeps them.
 */
static inline void
rk__fetch(const void *at, size_t size_bytes)
{
    const char *line = at;

    __asm__ volatile("" : : "r"(at));
    for (size_t i = 0; i < size_bytes; i += 64) {
        __builtin_prefetch(line + i);
    }
}

/* The same into the second level of the cache: for more than a dozen lines that are read a while
 * later. The first level holds few requests at a time and drops what is too much. */
static inline void
rk__fetch_early(const void *at, size_t size_bytes)
{
    const char *line = at;

    __asm__ volatile("" : : "r"(at));
    for (size_t i = 0; i < size_bytes; i += 64) {
        __builtin_prefetch(line + i, 0, 2);
    }
}

/* ---- scoring of dense rows ---- */

/* A matrix with everything needed to score a query against its rows. Immutable. */
typedef struct rk__space {
    rk_vector_type type;
    rk_metric metric;
    uint32_t dim;
    size_t row_bytes;
    size_t rows;
    const uint8_t *data;
    const float
        *inv_norms;      /* COSINE: 1 / norm per row, 0 for a zero row; NULL: computed on the fly */
    rk__dist_fn dist;    /* L2, or the inner product for IP and COSINE, or the bit distance */
    rk__dist4_fn dist4;  /* NULL for binary */
    rk__dist_fn self_ip; /* COSINE: for norms */
    size_t dist_n;       /* what dist takes as n: components, or bytes for binary */
} rk__space;

typedef struct rk__query {
    const void *data;
    float inv_norm; /* COSINE */
    size_t len;     /* bytes */
} rk__query;

void rk__space_init(rk__space *space, const rk_vectors *vectors, rk_metric metric);
float rk__inv_norm(const rk__space *space, const void *row);

static inline const void *
rk__space_row(const rk__space *space, size_t row)
{
    return space->data + row * space->row_bytes;
}

/* The similarity of a raw inner product under COSINE; NaN passes through. */
static inline float
rk__cosine(float ip, float inv_row, float inv_query)
{
    float s = (ip * inv_row) * inv_query;
    return s > 1.0f ? 1.0f : s < -1.0f ? -1.0f : s;
}

static inline float
rk__key_of(const rk__space *space, const rk__query *query, float dist, size_t row)
{
    if (space->metric == RK_METRIC_IP) {
        return -dist;
    }
    if (space->metric == RK_METRIC_COSINE) {
        float inv = space->inv_norms ? space->inv_norms[row]
                                     : rk__inv_norm(space, rk__space_row(space, row));
        return -rk__cosine(dist, inv, query->inv_norm);
    }
    return dist;
}

static inline float
rk__key(const rk__space *space, const rk__query *query, size_t row)
{
    return rk__key_of(space, query,
                      space->dist(query->data, rk__space_row(space, row), space->dist_n), row);
}

/* Keys of |n| rows given by number, batched by four with the next four prefetched. */
void rk__keys(const rk__space *space, const rk__query *query, const uint32_t *rows, size_t n,
              float *keys);

/* ---- search options, prepared ---- */

/* The bounds of a range search in key space: a row qualifies when !(key >= upper) and !(key <
 * lower), see rk__in_range(). */
typedef struct rk__range {
    bool on;
    bool has_lower;
    bool larger;
    float radius;
    float filter;
} rk__range;

static inline bool
rk__in_range(const rk__range *range, float key)
{
    float score = range->larger ? -key : key;

    if (range->larger) {
        return score > range->radius && (!range->has_lower || score <= range->filter);
    }
    return score < range->radius && (!range->has_lower || score >= range->filter);
}

rk__range rk__range_of(rk_metric metric, const rk_search_options *options);

/* A page of an iterator: k rows of all that lies behind a bound, while there are any. */
static inline bool
rk__is_page(const rk_search_options *options)
{
    return options->range && options->has_range_filter && isinf(options->radius);
}
/* Lists for |rows| where |nlist| were asked for: of fewer rows each, a probe of some finds little,
 * blocks of codes stay empty, and k-means costs as the square of the rows. */
static inline uint32_t
rk__list_count(uint64_t nlist, size_t rows)
{
    return (uint32_t)RK_MAX(RK_MIN(nlist, (uint64_t)rows / 32), (uint64_t)1);
}

/* Kinds that probe lists see so many times k rows before a page ends. */
#define RK__PAGE_SEEN 16u

/* Heap keys to hits, best first. */
void rk__heap_to_hits(rk__heap *heap, rk_metric metric, rk_hit *hits, uint32_t *n);

/* Scores rows [from, to) that pass |filter| (tested at |row_base| + row; NULL: all) into |heap|
 * under |range|. */
void rk__scan(const rk__space *space, const rk__query *query, size_t from, size_t to,
              size_t row_base, const rk_bitset *filter, const rk__range *range, rk__heap *heap);
/* The same for |n| queries, at most RK__MANY, and their heaps in one pass over the rows. */
void rk__scan_many(const rk__space *space, const rk__query *queries, size_t n, size_t from,
                   size_t to, size_t row_base, const rk_bitset *filter, const rk__range *range,
                   rk__heap *heaps);
/* The same for all rows under the filter of |options|, piece by piece: RK_ECANCELLED when it was
 * asked to stop. */
RK_MUST_CHECK rk_code rk__scan_pieces(const rk__space *space, const rk__query *queries, size_t n,
                                      size_t row_base, const rk_search_options *options,
                                      const rk__range *range, rk__heap *heaps, rk_err *err);
/* The same for |n| rows given by number. */
void rk__scan_rows(const rk__space *space, const rk__query *query, const uint32_t *rows, size_t n,
                   const rk__range *range, rk__heap *heap);

/* The same for |n| queries and their heaps. */
void rk__scan_rows_many(const rk__space *space, const rk__query *const *queries,
                        rk__heap *const *heaps, size_t n, const uint32_t *rows, size_t n_rows,
                        const rk__range *range);

/* ---- sparse rows ---- */

typedef struct rk__pair {
    uint32_t index;
    float value;
} rk__pair;
_Static_assert(sizeof(rk__pair) == 8, "a sparse pair is eight bytes on the wire and on disk");

/* The inner product of two ascending runs of pairs, summed in float in ascending index order;
 * |*shared| tells whether any index met. */
float rk__sparse_ip(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);
/* Length, order and finiteness of a query row. */
RK_MUST_CHECK rk_code rk__sparse_check(const void *row, size_t len, rk_err *err);
/* The query with its weakest values dropped as drop_ratio_search says; pairs live in the arena. */
RK_MUST_CHECK rk_code rk__sparse_drop(const void *query, size_t len, double ratio, rk_arena *arena,
                                      const rk__pair **out, size_t *n, rk_err *err);

/* ---- image sections ---- */

typedef struct rk__section {
    uint32_t id;      /* unique within an image, given by the kind */
    const void *data; /* NULL: written by |produce|, or read from a page reader */
    uint64_t len;
    uint64_t offset; /* in the image, when read from one */
    uint32_t crc;    /* when read from an image, and with |produce| */
    uint32_t align;  /* power of two up to 4096; 0: 64 */
    rk_code (*produce)(const rk_index *index, rk_write_fn write, void *user, rk_err *err);
} rk__section;

#define RK__SECTIONS_MAX 32

typedef struct rk__sections {
    rk__section items[RK__SECTIONS_MAX];
    uint32_t n;
} rk__sections;

void rk__sections_add(rk__sections *sections, uint32_t id, const void *data, uint64_t len);
/* The section |id|, which must be |len| bytes (SIZE_MAX: any length). RK_ECORRUPT otherwise. */
RK_MUST_CHECK rk_code rk__sections_get(const rk__sections *sections, uint32_t id, uint64_t len,
                                       const void **out, uint64_t *len_out, rk_err *err);
/* The same with everything known of it; |*out| is NULL after a failure. */
RK_MUST_CHECK rk_code rk__sections_find(const rk__sections *sections, uint32_t id, uint64_t len,
                                        const rk__section **out, rk_err *err);

/* ---- kinds ---- */

typedef enum rk__kind_id { /* on disk: never renumber */
                           RK__KIND_NONE = 0,
                           RK__KIND_FLAT = 1,
                           RK__KIND_BIN_FLAT = 2,
                           RK__KIND_HNSW = 3,
                           RK__KIND_IVF_FLAT = 4,
                           RK__KIND_BIN_IVF_FLAT = 5,
                           RK__KIND_SPARSE_INVERTED = 6,
                           RK__KIND_SPARSE_WAND = 7,
                           RK__KIND_IVF_SQ8 = 8,
                           RK__KIND_IVF_PQ = 9,
                           RK__KIND_IVF_RABITQ = 10,
                           RK__KIND_IVF_RABITQ_FASTSCAN = 11,
                           RK__KIND_SCANN = 12,
                           RK__KIND_HNSW_SQ = 13,
                           RK__KIND_HNSW_PQ = 14,
                           RK__KIND_HNSW_PRQ = 15,
                           RK__KIND_DISKANN = 16,
                           RK__KIND_AISAQ = 17,
                           RK__KIND_MINHASH_LSH = 18,
                           RK__KINDS
} rk__kind_id;

#define RK__MANY 256u /* queries that search_many is given at once, at most */

/* RK_ECANCELLED once the caller wants no answer any more. */
static inline rk_code
rk__go_on(const rk_search_options *options, rk_err *err)
{
    return rk_stop_asked(options->stop) ? rk_fail(err, RK_ECANCELLED, "the search was given up")
                                        : RK_OK;
}

typedef struct rk__verbs {
    /* Fills index->impl; index->space is ready. */
    rk_code (*build)(rk_index *index, const rk_build_options *options, rk_err *err);
    /* The same, beginning with what |base| is; NULL: the kind is always built afresh. |*merged|
     * false, without an error: so must this one be. */
    rk_code (*merge)(rk_index *index, const rk_merge_part *base, const rk_build_options *options,
                     bool *merged, rk_err *err);
    rk_code (*search)(const rk_index *index, const rk__query *query,
                      const rk_search_options *options, rk__heap *heap, rk_err *err);
    /* |n| queries at once, 2 to RK__MANY, each with the answer that search gives it; NULL: the kind
     * has no better way than one after another. */
    rk_code (*search_many)(const rk_index *index, const rk__query *queries, size_t n,
                           const rk_search_options *options, rk__heap *heaps, rk_err *err);
    void (*sections)(const rk_index *index, rk__sections *out);
    rk_code (*open)(rk_index *index, const rk__sections *sections, rk_err *err);
    /* Only kinds that can be opened through a page reader: checks what open did not read. */
    rk_code (*verify)(const rk_index *index, const _Atomic(bool) *cancel, rk_err *err);
    void (*free)(rk_index *index);
    /* Puts a filter into the order of the index, see rk_index_filter; NULL, or |filter| left as it
     * is: searches gain nothing by it. */
    rk_code (*order)(const rk_index *index, rk_index_filter *filter, const rk_bitset *passing,
                     rk_err *err);
} rk__verbs;

#define RK__ORDERED_LEVELS 7u

/* How far out lists are worth a visit under one filter, see cluster/limits.c. */
typedef struct rk__ordered_limit {
    /* At the recalls of the clusters' levels, without the last, for k-th rows up to kth[0] and
     * kth[1]; of what lies farther nothing is known. */
    float reach[2][RK__ORDERED_LEVELS];
    float kth[2];   /* -INFINITY: too few were met */
    uint32_t lists; /* visited, mostly; 0: nothing is known */
} rk__ordered_limit;

/* A filter in the order of the lists of clusters, see cluster/ordered.c. */
typedef struct rk__ordered {
    const uint8_t *map;    /* bit per place, and room to read eight bytes from any */
    const uint32_t *first; /* nlist + 1: passing rows of the lists before */
    const uint32_t *empty; /* bit per list: none of its rows pass */
    uint32_t n_empty;
    uint32_t n_dense; /* passing rows in lists of which many pass */
    /* Codes of the passing rows alone, of lists that this leaves far fewer blocks of: */
    bool packed; /* there may be any */
    const uint8_t *blocks;
    const uint32_t *first_block; /* nlist + 1; none: the list is as it was */
    const uint32_t *places;      /* of the rows, 32 for each block */
    uint32_t n_blocks;           /* that are left to scan, packed or not */
    rk__ordered_limit limits[3]; /* for kinds of queries, see rk__cluster_kind */
    float like;                  /* rows are: their nearest list lies out so far at most */
    bool few_around;             /* around most rows of the index fewer than two in five pass */
} rk__ordered;

struct rk_index_filter {
    const rk_index *index;
    size_t count;
    rk__ordered lists; /* |map| NULL: not made */
    void *owned[2];    /* the memory that it points into */
    rk_mem *mem;
    uint64_t reserved_bytes;
};

struct rk_index {
    rk__kind_id kind;
    const char *kind_name;
    const rk__verbs *verbs;
    bool automatic;     /* built as AUTOINDEX: its defaults apply */
    rk_vectors vectors; /* borrowed */
    rk__space space;    /* dense and binary */
    void *impl;         /* the kind's own, freed by its verb */
    float *own_norms;   /* COSINE, when built here rather than mapped */
    rk_mem *mem;
    uint64_t reserved_bytes; /* charged to |mem| */
    rk_str image;            /* mapped, borrowed; empty when built here */
    bool unverified;         /* its sections were not read when it was opened */
    rk_pages *pages;         /* borrowed: the image, when it is read page by page */
};

extern const rk__verbs rk__disk_verbs;
extern const rk__verbs rk__flat_verbs;
extern const rk__verbs rk__hnsw_verbs;
extern const rk__verbs rk__ivf_verbs;
extern const rk__verbs rk__ivf_codes_verbs;  /* IVF_SQ8, IVF_PQ, SCANN */
extern const rk__verbs rk__hnsw_codes_verbs; /* HNSW_SQ, HNSW_PQ, HNSW_PRQ */
extern const rk__verbs rk__sparse_verbs;
extern const rk__verbs rk__minhash_verbs;
extern const rk__verbs rk__cluster_verbs;

/* auto.c: builds a graph beside the clusters that AUTOINDEX has built, where it pays; the kind is
 * then that of the graph. Where it may, the clusters count as half of the progress. */
bool rk__auto_may_have_graph(const rk_index *index);
RK_MUST_CHECK rk_code rk__auto_graph(rk_index *index, const rk_build_options *options, rk_err *err);
/* The same without asking: an index of clusters becomes one of a graph, which takes them over. */
RK_MUST_CHECK rk_code rk__auto_take_graph(rk_index *index, const rk_build_options *options,
                                          rk_err *err);

/* An index without a body yet; rk_index_free() undoes it. */
RK_MUST_CHECK rk_code rk__index_new(rk_index **out, rk__kind_id kind, rk_metric metric,
                                    const rk_vectors *vectors, rk_mem *mem, rk_err *err);
/* Charges |size_bytes| to the index's budget until it is freed. */
RK_MUST_CHECK rk_code rk__index_reserve(rk_index *index, uint64_t size_bytes, const char *what,
                                        rk_err *err);
/* Gives back what a build used only while it ran. */
void rk__index_release(rk_index *index, uint64_t size_bytes);
/* COSINE: fills own_norms and points the space at them. Section id RK__SECTION_NORMS when saved. */
RK_MUST_CHECK rk_code rk__index_norms(rk_index *index, rk_err *err);
#define RK__SECTION_NORMS 1u
void rk__norms_section(const rk_index *index, rk__sections *out);
RK_MUST_CHECK rk_code rk__norms_open(rk_index *index, const rk__sections *sections, rk_err *err);

/* Large arrays that are read at random: on huge pages where the system allows. Freed by rk_free().
 */
void *rk__alloc_huge(size_t size_bytes) RK_MUST_CHECK;

static inline bool
rk__cancelled(const rk_build_options *options)
{
    return options->cancel && *options->cancel;
}

/* Runs fn(arg, i) for i in [0, n) through |parallel|, or here when it is NULL. */
void rk__parallel_run(const rk_parallel *parallel, size_t n, void (*fn)(void *arg, size_t i),
                      void *arg);

/* ---- parameters (params.c, params_kinds.c; the table of kinds is in params.h) ---- */

/* The integer |key|, or |fallback| when absent; values were judged before, unreadable ones count as
 * absent. */
int64_t rk__param_int(rk_params params, const char *key, int64_t fallback, int64_t min,
                      int64_t max);
double rk__param_float(rk_params params, const char *key, double fallback, double min, double max);

/* The kind an index type resolves to (AUTOINDEX by type, metric and size); 0 when there is none of
 * that name. */
rk__kind_id rk__kind_resolve(rk_str index_type, rk_vector_type type, rk_metric metric, size_t rows);
const char *rk__kind_name(rk__kind_id kind);
/* The engine of a kind, from the table in index.c; NULL: the API knows the kind, this build does
 * not have it. */
const rk__verbs *rk__kind_verbs(rk__kind_id kind);
bool rk__kind_takes(rk__kind_id kind, rk_vector_type type, rk_metric metric);

/* xorshift-multiply generator for sampling; deterministic in its seed. */
static inline uint64_t
rk__random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return rk_hash_u64(*state);
}

/* A row of any dense float or i8 type as f32. */
void rk__row_to_f32(rk_vector_type type, uint32_t dim, const void *row, float *out);

#endif
