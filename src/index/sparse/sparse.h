/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inverted index over sparse rows, as its files share it. One index object has one of two
 * bodies.
 *
 * Blocks (every algorithm but TAAT_NAIVE, unless rows are few). Rows are put in an order in which
 * similar rows lie together, and cut into blocks of 64 rows and groups of 64 blocks. Per term:
 *
 *   node    one per group that has the term: which of its blocks have it (64 bits), where the
 *           entries and records of these blocks begin
 *   entry   one per block that has the term: its largest weight (u8) and how many weights it has
 *           (u8); of a node first all weights, then all counts
 *   record  which rows of the block have the term (u64), then their weights (u8) in row order
 *
 * For searches under a filter there are bounds of 16 rows as well, a quarter of a block; 64
 * quarters are a patch. A term that fewer than three rows of a patch have, on average, is rare: it
 * has a list of places and weights. Of the others a stream that a search reads from end to end:
 *
 *   masks   one per patch: which of its quarters have the term (64 bits)
 *   maxima  the largest weight of each of these quarters (u8); then zeros up to eight bytes
 *
 * What bounds of blocks or quarters let through can be bounded row by row, from a print of each row
 * (sparse/print.c): three bytes a value, in the order of the places.
 *
 * A weight is stored as the smallest q with q * scale >= weight, so that every sum of stored
 * weights is an upper bound of the score. What a bound lets through is scored from the row itself,
 * by the same additions in the same order as rk__sparse_ip(). Weights that are not above zero (not
 * legal in the API) have no posting: the bound holds without them.
 *
 * Plain (TAAT_NAIVE). Per term the ascending rows and their weights in f32: term at a time into one
 * array of sums, the baseline of the others. Also how images of the first version are read.
 *
 * Terms are the indexes that occur, numbered in ascending order. Weights are impacts: nothing here
 * knows where they come from.
 */
#ifndef RK_INDEX_SPARSE_H
#define RK_INDEX_SPARSE_H

#include "index/index_private.h"

#define RK__SPARSE_GROUP   4096u /* rows of a group */
#define RK__SPARSE_BLOCK   64u   /* rows of a block and blocks of a group */
#define RK__SPARSE_PAD     128u  /* bytes after records and entries that a kernel may read */
#define RK__SPARSE_QUARTER 16u   /* rows of a quarter of a block */
#define RK__SPARSE_PATCH   64u   /* quarters of a patch */
#define RK__SPARSE_PRINT   3u    /* bytes of a value in a print */
#define RK__SPARSE_PAGE    512u  /* bytes of a page of tables */
#define RK__SPARSE_ARRAYS  14u

/* Asks for a line of memory. Into the second cache: the first one can wait for fewer lines at a
 * time than a search asks for. */
#define RK__SPARSE_ASK(at) __builtin_prefetch((at), 0, 2)

typedef struct rk__sparse_node { /* on disk as it lies */
    uint64_t mask;               /* bit b: block b of the group has the term */
    uint64_t base;               /* of its records, in bytes */
    uint32_t entry;              /* its first entry, counted from the term's first */
    uint32_t group;              /* ascending within a term */
} rk__sparse_node;
_Static_assert(sizeof(rk__sparse_node) == 24, "a node is 24 bytes on disk");

typedef struct rk__sparse_term { /* on disk as it lies */
    uint64_t first_node;         /* nodes of a term end where those of the next begin */
    uint64_t first_entry;
    uint32_t index; /* ascending */
    float scale;
} rk__sparse_term;
_Static_assert(sizeof(rk__sparse_term) == 24, "a term is 24 bytes on disk");

typedef struct rk__sparse_fine { /* on disk as it lies; ends where that of the
                                    next term begins */
    uint64_t first;              /* byte of its stream, a multiple of eight; no bytes: rare */
    uint64_t first_rare;
} rk__sparse_fine;
_Static_assert(sizeof(rk__sparse_fine) == 16, "fine bounds of a term are 16 bytes on disk");

static inline size_t
rk__sparse_patches(size_t rows)
{
    size_t each = (size_t)RK__SPARSE_QUARTER * RK__SPARSE_PATCH;

    return (rows + each - 1) / each;
}

typedef struct rk__sparse {
    bool plain;
    size_t n_terms;

    /* plain */
    const uint32_t *indexes; /* n_terms, ascending */
    const uint64_t *offsets; /* n_terms + 1, into rows and weights */
    const uint32_t *rows;
    const float *weights;
    const float *max_abs; /* per term */
    uint64_t n_postings;

    /* blocks */
    const rk__sparse_term *terms; /* n_terms and one that ends the last */
    const rk__sparse_node *nodes;
    const uint8_t *entries; /* 2 bytes each, then RK__SPARSE_PAD */
    const uint8_t *records; /* record_bytes, then RK__SPARSE_PAD */
    const uint32_t *order;  /* n_blocks * 64: the row at a place, RK__NO_ROW past the last */
    const uint32_t *places; /* rows: where a row stands in |order| */
    uint64_t n_entries;
    uint64_t record_bytes;
    size_t n_blocks;
    size_t n_groups;
    const uint32_t *starts; /* directory of the terms by index, see rk__sparse_directory() */
    size_t n_starts;
    unsigned shift;
    const uint32_t *numbers;      /* in its place where indexes are dense: the term of each, */
    size_t n_numbers;             /* from the first term's on; UINT32_MAX: none */
    const rk__sparse_fine *fines; /* n_terms and one that ends the last */
    const uint8_t *streams;       /* stream_bytes, then RK__SPARSE_PAD; 8-byte aligned */
    const uint32_t *rare_places;
    const uint8_t *rare_weights;
    uint64_t stream_bytes;
    size_t n_patches;
    const uint64_t *print_bases;  /* one per group and one that ends the last: its first value */
    const uint32_t *print_starts; /* one per place and one more: counted from the group's first */
    const uint8_t *prints;        /* n_prints values, then RK__SPARSE_PAD */
    uint64_t n_prints;

    void *owned[RK__SPARSE_ARRAYS]; /* what a build allocated; NULL when mapped */
} rk__sparse;

/* ---- terms (sparse/terms.c) ---- */

/* Index -> number of the term, while building. */
typedef struct rk__sparse_terms {
    uint32_t *keys; /* UINT32_MAX is empty: not a legal index */
    uint32_t *ids;
    size_t cap; /* power of two */
    size_t n;
    uint32_t *terms;  /* ascending, once counted */
    uint64_t *counts; /* postings per term, then */
    float *largest;   /* weight per term */
    float *rarity;    /* per term: falls with the share of rows that have it */
    uint64_t postings;
} rk__sparse_terms;

RK_MUST_CHECK rk_code rk__sparse_terms_count(rk__sparse_terms *terms, const rk_vectors *vectors,
                                             const rk_build_options *options, rk_err *err);
void rk__sparse_terms_deinit(rk__sparse_terms *terms);
/* The number of a term that occurs. */
static inline uint32_t
rk__sparse_term_id(const rk__sparse_terms *terms, uint32_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (terms->cap - 1);

    while (terms->keys[at] != key) {
        at = (at + 1) & (terms->cap - 1);
    }
    return terms->ids[at];
}

/* A pair that has a posting. */
static inline bool
rk__sparse_counts(rk__pair pair)
{
    return pair.index != UINT32_MAX && pair.value > 0 && pair.value <= 3.4e38f;
}

static inline rk__pair
rk__sparse_pair(const rk_vectors *v, uint64_t at)
{
    rk__pair pair;
    memcpy(&pair, (const uint8_t *)v->data + at, sizeof(pair));
    return pair;
}

/* The place of |index| among |n| ascending numbers that are |stride| bytes apart; SIZE_MAX when it
 * is not there. */
size_t rk__sparse_find(const void *first, size_t stride, size_t n, uint32_t index);
/* The first term of every some indexes, found by their upper bits; made when an index is built or
 * opened. */
RK_MUST_CHECK rk_code rk__sparse_directory(rk_index *index, rk__sparse *s, rk_err *err);

/* ---- build ---- */

/* Fills |order|, a permutation of the rows in which similar rows are neighbours. */
RK_MUST_CHECK rk_code rk__sparse_order(const rk_vectors *vectors, const rk__sparse_terms *terms,
                                       const rk_build_options *options, uint32_t *order,
                                       rk_err *err);
uint64_t rk__sparse_order_bytes(size_t rows, size_t terms);
/* Fills |order| with the |n| centres, each |per_centre| pairs (UINT32_MAX ends them), so that
 * similar ones are neighbours. */
RK_MUST_CHECK rk_code rk__sparse_order_centres(const rk__pair *pairs, size_t per_centre, size_t n,
                                               const rk_build_options *options, uint32_t *order,
                                               rk_err *err);
RK_MUST_CHECK rk_code rk__sparse_build_blocks(rk_index *index, rk__sparse *s,
                                              const rk__sparse_terms *terms,
                                              const rk_build_options *options, rk_err *err);
RK_MUST_CHECK rk_code rk__sparse_build_plain(rk_index *index, rk__sparse *s,
                                             const rk__sparse_terms *terms,
                                             const rk_build_options *options, rk_err *err);
/* Memory for array |slot|, charged to the index. */
RK_MUST_CHECK rk_code rk__sparse_take(rk_index *index, rk__sparse *s, size_t slot,
                                      uint64_t size_bytes, rk_err *err);

/* ---- search ---- */

#define RK__SPARSE_SEEN     32768u /* bits: which indexes a query may have, by index, modulo; */
#define RK__SPARSE_SEEN_FEW 4096u  /* for up to RK__SPARSE_FEW of them */
#define RK__SPARSE_MET      32u
#define RK__SPARSE_STREAMS  3u
#define RK__SPARSE_FEW                                                                             \
    192u /* values of a query for which |few| tells enough                                         \
          */

typedef struct rk__sparse_kernels rk__sparse_kernels;

/* A query made ready to score rows exactly: rk__sparse_ip() without the merge. */
typedef struct rk__sparse_query {
    const rk__pair *pairs; /* ascending */
    size_t n;
    uint64_t *seen;
    uint32_t seen_last; /* bits of it less one, a power of two less one */
    uint16_t *few;      /* 1024 bits by rk__sparse_few(), 64-byte aligned */
    rk__pair *table;    /* open addressing over cap places and some more */
    size_t reach;       /* how far from its place the farthest stands */
    size_t cap;
} rk__sparse_query;

/* Ten bits of an index. */
static inline uint32_t
rk__sparse_few(uint32_t index)
{
    return index * 0x9e3779b1u >> 22;
}

RK_MUST_CHECK rk_code rk__sparse_query_init(rk__sparse_query *query, const rk__pair *pairs,
                                            size_t n, rk_arena *arena, rk_err *err);
float rk__sparse_query_score(const rk__sparse_kernels *kernels, const rk__sparse_query *query,
                             const uint8_t *row, size_t len);

/* A term of the query that occurs. */
typedef struct rk__sparse_found {
    size_t term;
    double bound;  /* weight * largest */
    float weight;  /* of the query */
    uint32_t rank; /* by bound, a few terms each */
    uint32_t factor;
} rk__sparse_found;

typedef struct rk__sparse_search {
    const rk_index *index;
    const rk__sparse *s;
    const rk_search_options *options;
    rk__sparse_query query;
    rk__range range;
    rk__heap *heap;
    const rk__sparse_kernels *kernels;
    float floor;             /* a score that the k-th is known to reach */
    rk__sparse_found *terms; /* in the order of the query; none of a plain body */
    size_t n_terms;
} rk__sparse_search;

/* A query over blocks in numbers of 16 bits, see sparse/search.c. */
typedef struct rk__sparse_scale {
    size_t n;    /* terms */
    double unit; /* of a sum, for a score of 1 */
} rk__sparse_scale;

/* The least 16-bit sum that a score of |t| can have. */
static inline uint16_t
rk__sparse_limit(const rk__sparse_scale *scale, double t)
{
    double n = (double)scale->n;
    double least = t * (1 - 1e-6 * (n + 2)) * scale->unit - n;

    return (uint16_t)(!(least > 0) ? 0 : least >= 65535 ? 65535 : least);
}

/* What the k-th best score is at least. */
static inline float
rk__sparse_threshold(const rk__sparse_search *search)
{
    float t = rk__heap_full(search->heap) ? -search->heap->items[0].key : 0.0f;

    t = RK_MAX(t, search->floor);
    return search->range.on ? RK_MAX(t, search->range.radius) : t;
}

/* What the values of a print are looked up in, see sparse/print.c. */
typedef struct rk__sparse_tables {
    const uint8_t *pages; /* RK__SPARSE_PAGE bytes each, 64-byte aligned */
    size_t n_pages;       /* 0: prints say nothing */
    size_t n_terms;
    double unit; /* of a sum, for a score of 1 */
} rk__sparse_tables;

/* Looks up the terms of a query and asks for what is known of them: |search->terms|. */
RK_MUST_CHECK rk_code rk__sparse_ask_for_terms(rk__sparse_search *search, const rk__pair *pairs,
                                               size_t n, rk_err *err);
/* The terms of the query, by falling bound (to a quarter of a power of two). */
RK_MUST_CHECK rk_code rk__sparse_find_terms(const rk__sparse_search *search, rk__sparse_found **out,
                                            rk__sparse_scale *scale, rk_err *err);
RK_MUST_CHECK rk_code rk__sparse_tables_init(rk__sparse_tables *tables,
                                             const rk__sparse_found *terms, size_t n,
                                             rk_arena *arena, rk_err *err);
/* Value |i| of the |n| of a print. */
void rk__sparse_print_put(uint8_t *print, size_t n, size_t i, uint32_t term, uint8_t weight);
/* Of a term's number. Terms have keys of their own up to 65,536 of them. */
static inline uint16_t
rk__sparse_key(uint32_t term)
{
    return (uint16_t)(term * 0x9e35u ^ (term >> 16) * 0x85ebu);
}

/* The least sum of a print that a score of |t| can have. */
static inline uint32_t
rk__sparse_print_limit(const rk__sparse_tables *tables, double t)
{
    double least = t * (1 - 1e-6 * ((double)tables->n_terms + 2)) * tables->unit;

    return (uint32_t)(!(least > 0) ? 0 : least >= 4e9 ? 4e9 : least);
}

/* The print of the row at a place, and its values; none where an image is wrong. */
static inline const uint8_t *
rk__sparse_print_at(const rk__sparse *s, size_t place, size_t *n)
{
    const uint64_t *base = s->print_bases + place / RK__SPARSE_GROUP;
    uint64_t from = base[0] + s->print_starts[place];
    uint64_t to =
        (place + 1) % RK__SPARSE_GROUP == 0 ? base[1] : base[0] + s->print_starts[place + 1];
    bool sound = from <= to && to <= s->n_prints;

    *n = sound ? to - from : 0;
    return s->prints + (sound ? from * RK__SPARSE_PRINT : 0);
}

void rk__sparse_ask_for_row(const rk_vectors *vectors, uint32_t row);
/* Under a filter that few rows pass, by fine bounds (sparse/fine.c). |*done| is
 * false when too many rows would have to be scored: then the heap is empty and |search->floor|
 * set. */
RK_MUST_CHECK rk_code rk__sparse_search_fine(rk__sparse_search *search, bool *done, rk_err *err);

RK_MUST_CHECK rk_code rk__sparse_search_blocks(rk__sparse_search *search, const rk__pair *pairs,
                                               size_t n, rk_err *err);
RK_MUST_CHECK rk_code rk__sparse_search_plain(rk__sparse_search *search, rk_err *err);
/* Scores the passing rows one by one. */
void rk__sparse_search_rows(rk__sparse_search *search);

static inline void
rk__sparse_offer(rk__sparse_search *search, float score, uint32_t row)
{
    if (score > 0 && !rk__heap_rejects(search->heap, -score) &&
        (!search->range.on || rk__in_range(&search->range, -score))) {
        rk__heap_push(search->heap, -score, row);
    }
}

static inline float
rk__sparse_score_row(const rk__sparse_search *search, size_t row)
{
    const rk_vectors *v = &search->index->vectors;
    uint64_t at = v->offsets[row];

    return rk__sparse_query_score(search->kernels, &search->query, (const uint8_t *)v->data + at,
                                  v->offsets[row + 1] - at);
}

/* ---- kernels (sparse/kernel.c, sparse/kernel_simd.c) ---- */

/* A term in the group at hand. */
typedef struct rk__sparse_member {
    uint64_t mask; /* of its node */
    uint64_t base;
    const uint8_t *entries; /* of the node */
    uint32_t factor;        /* at most 65535 */
} rk__sparse_member;

/* A term's record in a block. */
typedef struct rk__sparse_run {
    const uint8_t *record; /* RK__SPARSE_PAD bytes may be read */
    uint32_t factor;
} rk__sparse_run;

/* The fine bounds of a term that is not rare. */
typedef struct rk__sparse_stream {
    const uint64_t *masks;
    const uint8_t *maxima; /* RK__SPARSE_PAD bytes past the last may be read */
    uint64_t n_maxima;
    uint32_t factor;
} rk__sparse_stream;

struct rk__sparse_kernels {
    const char *name;
    /* The records of |block|, one per member that has it, and asks for their bytes; |*bound| gets
     * the sum of the members' largest weights there, each times factor / 256, rounded down. Members
     * that point past |record_bytes| are left out. |runs| has room for n + 1. */
    size_t (*find)(const rk__sparse_member *members, size_t n, unsigned block,
                   const uint8_t *records, uint64_t record_bytes, rk__sparse_run *runs,
                   uint32_t *bound);
    /* sums[i] += sum of weight_i * factor / 256, rounded down, over the runs; saturates. Returns
     * the places that have any. */
    uint64_t (*add)(const rk__sparse_run *runs, size_t n, uint16_t sums[64]);
    /* The same for all records of a member, one after the other, into sums[64 blocks][64] and
     * any[64 blocks]. */
    void (*add_node)(const rk__sparse_member *member, const uint8_t *records, uint64_t record_bytes,
                     uint16_t *sums, uint64_t *any);
    /* The places with sums[i] >= limit. */
    uint64_t (*reach)(const uint16_t sums[64], uint16_t limit);
    uint16_t (*largest)(const uint16_t sums[64]);
    /* One term over all its groups: adds its entries' maxima into sums + group * 64 and its masks
     * into any[group]. Nodes that point outside the term's |n_entries| entries or past |n_groups|
     * are left out. */
    void (*bound)(const rk__sparse_node *nodes, size_t n, const uint8_t *entries,
                  uint64_t n_entries, size_t n_groups, uint32_t factor, uint16_t *sums,
                  uint64_t *any);
    /* The same for up to RK__SPARSE_STREAMS streams of fine bounds, one per term: |sums| has
     * n_patches * 64 places. Past its maxima a stream goes on with the bytes behind them. */
    void (*fine)(const rk__sparse_stream *streams, size_t n, size_t n_patches, uint16_t *sums,
                 uint64_t *any);
    /* Puts the sums of |n| times 64 places into their order after the last bound() or fine(), which
     * may add in another; NULL: nothing to do. */
    void (*settle)(uint16_t *sums, size_t n);
    /* Those of |n| pairs that the query may have, by number, ascending; n <= 256.
     * |met| has room for n + RK__SPARSE_MET. */
    size_t (*meet)(const rk__sparse_query *query, const uint8_t *pairs, size_t n, uint16_t *met);
    /* The sum of a print of |n| < 65,536 values over |n_pages| pages of tables. */
    uint32_t (*print)(const uint8_t *pages, size_t n_pages, const uint8_t *print, size_t n);
    /* Those of 16 rows, of |n_rows|, whose bit is set. */
    uint32_t (*pass)(const uint32_t *rows, const uint64_t *words, size_t n_rows);
};

const rk__sparse_kernels *rk__sparse_kernels_get(void);
/* The table of that name if this CPU can run it, or NULL. For tests. */
const rk__sparse_kernels *rk__sparse_kernels_find(const char *name);
extern const rk__sparse_kernels rk__sparse_kernels_scalar; /* the reference */
#if defined(__x86_64__)
extern const rk__sparse_kernels rk__sparse_kernels_avx2;
extern const rk__sparse_kernels rk__sparse_kernels_avx512;
#elif defined(__aarch64__)
extern const rk__sparse_kernels rk__sparse_kernels_neon;
#endif

#endif
