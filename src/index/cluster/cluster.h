/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters of one-bit codes, private to this folder: the reduced space, the coded lists and what a
 * search keeps. Kind IVF_RABITQ, and AUTOINDEX where it wins.
 *
 *   vector x --(- mean, /norm for COSINE)--> v --(axes)--> z, |reduced| components by falling
 * energy z's first |head| components --(random rotation)--> |padded| bits per code z - centre -->
 * 8-bit record of |reduced| components
 *
 * Rows are grouped by their nearest centre. A row has a one-bit code (kernel/bits.h), in blocks of
 * 32 of its list, an 8-bit record, and its number. Distances are estimated three times, each time
 * of far fewer rows: bits, record, vector. What z drops of v counts by its energy alone ("tail"),
 * relative to the centre where the centre knows it.
 *
 * Estimates live in one space: L2 the squared distance; COSINE the squared distance of the
 * normalised vectors; IP minus the inner product of the query with x - mean.
 *
 * A built or opened cluster index is immutable; any number of threads search it.
 */
#ifndef RK_INDEX_CLUSTER_H
#define RK_INDEX_CLUSTER_H

#include "index/kernel/bits.h"

#define RK__CLUSTER_LEVELS 8u
#define RK__CLUSTER_ENOUGH                                                                         \
    0.96f /* recall that a search with a number of lists gets under filters */

typedef struct rk__cluster_space {
    uint32_t dim;
    uint32_t n;       /* bytes of an axis: dim rounded up to 32 */
    uint32_t reduced; /* components of z */
    uint32_t head;    /* leading components of z that are coded in bits */
    uint32_t padded;  /* bits of a code, multiple of 64 */
    uint32_t record;  /* bytes of an 8-bit record: reduced + 8, rounded up to 64 */
    bool ip;
    const float *mean;   /* dim */
    const int8_t *axes;  /* reduced rows of n; NULL: z = v */
    const float *scales; /* of the axes */
    uint64_t seed;       /* of the rotation */
} rk__cluster_space;

/* A vector in the reduced space, over the caller's memory. */
typedef struct rk__cluster_point {
    float *v;      /* n, zero-padded */
    int16_t *wide; /* n */
    float *z;      /* record, zero-padded */
    float *bits;   /* padded, rotated head */
    float tail;    /* |v|^2 - |z|^2; 0 for IP */
} rk__cluster_point;

#define RK__CLUSTER_SHARES 3u

/* How far a list lies out, in the two ways of cluster/reach.c. */
typedef struct rk__cluster_out {
    float near;
    float apart;
} rk__cluster_out;

/* How far lists are worth a visit under filters that many or few pass. */
typedef struct rk__cluster_knots {
    rk__cluster_out reach[RK__CLUSTER_SHARES];
} rk__cluster_knots;

/* Of the rows around a query, under a filter in order: */
typedef enum rk__cluster_kind {
    RK__CLUSTER_TYPICAL, /* about as many pass as everywhere */
    RK__CLUSTER_DENSE,   /* far more do */
    RK__CLUSTER_APART,   /* far fewer do */
    RK__CLUSTER_KINDS
} rk__cluster_kind;

/* What a search saw on its way, for the measuring of efforts. */
typedef struct rk__cluster_trace {
    uint32_t n;             /* lists probed */
    float *beta;            /* per list probed, in order: the least beta that gets there */
    float *cost;            /* the same: nanoseconds, about, up to its end */
    float *reached;         /* per list: the beta that gets there; INFINITY: not probed */
    rk__cluster_out *reach; /* under a filter, per list: the reach that gets there; or NULL */
    rk__cluster_kind kind;  /* under a filter in order, and */
    bool few;               /* a share below effort->most_around passes around the query, and */
    float kth;              /* how far the k-th row lies out, */
    float nearest;          /* and the nearest list */
} rk__cluster_trace;

/* How hard a search tries. */
typedef struct rk__cluster_effort {
    float beta;     /* probing ends at the list whose key is beta of the unit above the nearest */
    float epsilon;  /* rows whose estimate is within epsilon of its error of the k-th are refined */
    uint32_t first; /* lists looked up at first */
    uint32_t probes;         /* lists at most, unless too few rows pass */
    uint32_t least;          /* under a filter: lists with a passing row at least */
    rk__cluster_knots reach; /* under a filter, and */
    float recall;            /* wanted */
    float most_around; /* under a filter in order: no search where a greater share passes; 0: always
                        */
    rk__cluster_trace *trace; /* NULL: none */
} rk__cluster_effort;

/* An effort and the recall it gave; |first| is what most queries needed. */
typedef struct rk__cluster_level {
    float recall;
    float beta;
    float epsilon;
    uint32_t first;
} rk__cluster_level;

/* First section of the image; little-endian, as it lies. */
typedef struct rk__cluster_head {
    uint32_t nlist;
    uint32_t blocks;
    uint32_t loose; /* rows that are in no list: not finite */
    uint32_t reduced;
    uint32_t head;
    uint32_t padded;
    uint32_t flags;
    float enough; /* beta that gives RK__CLUSTER_ENOUGH with much epsilon; 0: not known */
    uint64_t seed;
    float radius; /* root of the mean squared distance of a row to its centre */
    float slack;  /* error of a record's distance, as a share of the unit */
    rk__cluster_level levels[RK__CLUSTER_LEVELS];
} rk__cluster_head;
/* Section of its own, as it lies: reaches under filters that few or many pass. */
typedef struct rk__cluster_reaches {
    rk__cluster_knots levels[RK__CLUSTER_LEVELS]; /* at the recalls of the head */
} rk__cluster_reaches;
_Static_assert(sizeof(rk__cluster_reaches) == 8 * RK__CLUSTER_SHARES * RK__CLUSTER_LEVELS,
               "as on disk");
_Static_assert(RK__ORDERED_LEVELS + 1 == RK__CLUSTER_LEVELS, "limits are of levels");
_Static_assert(sizeof(rk__cluster_head) == 48 + 16 * RK__CLUSTER_LEVELS, "as on disk");

#define RK__CLUSTER_AXES    1u
#define RK__CLUSTER_RECORDS 2u
#define RK__CLUSTER_AUTO    4u /* built as AUTOINDEX */

typedef struct rk__cluster rk__cluster;

typedef enum rk__cluster_part {
    RK__CLUSTER_MEAN,
    RK__CLUSTER_AXES_DATA,
    RK__CLUSTER_SCALES,
    RK__CLUSTER_CENTRE_BLOCKS,
    RK__CLUSTER_CENTRE_RECORDS,
    RK__CLUSTER_FIRST_ROW,
    RK__CLUSTER_FIRST_BLOCK,
    RK__CLUSTER_SPREAD,
    RK__CLUSTER_BLOCKS,
    RK__CLUSTER_ROW_RECORDS,
    RK__CLUSTER_ROWS,
    RK__CLUSTER_PLACE,
    RK__CLUSTER_LIST_OF,
    RK__CLUSTER_PARTS
} rk__cluster_part;

struct rk__cluster {
    rk__cluster_head info;
    rk__cluster_reaches reaches;
    rk__cluster_space space;
    size_t block_bytes; /* codes, 32 add, 32 mul */
    size_t rows;        /* of the index */
    const uint8_t *centre_blocks;
    const uint8_t *centre_records;
    const uint32_t *first_row;   /* nlist + 1, into rows and records */
    const uint32_t *first_block; /* nlist + 1 */
    const float *spread;         /* per list: error of an estimate per unit of query residual; L2 */
    const uint8_t *blocks;
    const uint8_t *records; /* NULL: none kept */
    const uint32_t *row_of; /* by list, the loose rows last */
    const uint32_t *place;  /* where in row_of a row is */
    const uint16_t *list_of;
    void *owned[RK__CLUSTER_PARTS]; /* NULL when mapped */
    uint64_t bytes[RK__CLUSTER_PARTS];
    float level_ns[RK__CLUSTER_LEVELS]; /* what a level costs, counted at build; 0: not known */
};

/* ---- cluster/space.c ---- */

/* Bytes of memory a point needs, and its division. */
size_t rk__cluster_point_bytes(const rk__cluster_space *space);
void rk__cluster_point_init(const rk__cluster_space *space, rk__cluster_point *point, void *memory);
/* Row |row| of the index (or a query) as f32, normalised for COSINE. */
void rk__cluster_vector(const rk__space *space, const void *row, float inv_norm, float *out);
/* point->v (dim components set, by rk__cluster_vector) to the rest of the point; false: not finite.
 */
bool rk__cluster_project(const rk__cluster_space *space, bool query, rk__cluster_point *point);
/* Chooses and computes the reduced space; fills cluster->space and owned parts. */
RK_MUST_CHECK rk_code rk__cluster_space_train(rk_index *index, rk__cluster *cluster,
                                              const rk_build_options *options, rk_err *err);
void rk__cluster_rotate_head(const rk__cluster_space *space, const float *z, float *bits);

/* ---- cluster/code.c ---- */

static inline size_t
rk__cluster_codes_bytes(const rk__cluster_space *space)
{
    return rk__bits_block_bytes(space->padded);
}

/* Puts a point, relative to a centre, into place |slot| of a block and makes its record (NULL:
 * none). Returns the error of its estimate per unit of query residual. |signs| padded / 8 bytes. */
float rk__cluster_encode(const rk__cluster_space *space, const rk__cluster_point *point,
                         const float *centre_z, const float *centre_bits, uint32_t slot,
                         uint8_t *block, int8_t *record, uint8_t *signs);
/* A block without rows. */
void rk__cluster_block_clear(const rk__cluster_space *space, uint8_t *block);

/* A query in the form in which records are scored. */
typedef struct rk__cluster_query {
    rk__bits_query bits;
    int8_t *narrow; /* reduced */
    float unit;     /* of |narrow| */
} rk__cluster_query;

size_t rk__cluster_query_bytes(const rk__cluster_space *space);
void rk__cluster_query_init(const rk__cluster_space *space, const rk__cluster_point *point,
                            void *memory, rk__cluster_query *query);
/* add + mul * <record, query> of |n| records given by number. */
void rk__cluster_score(const rk__cluster_space *space, const rk__cluster_query *query,
                       const uint8_t *records, const uint32_t *at, size_t n, float *out);

/* ---- cluster/train.c ---- */

typedef struct rk__cluster_centres {
    uint32_t n;
    float *z;       /* n rows of space->record */
    float *bits;    /* n rows of space->padded, filled when they are trained */
    size_t width;   /* bytes of an 8-bit centre: reduced rounded up to 64 */
    float inverse;  /* 1 / scale of 8-bit centres; 0: they would not do, distances are those of z */
    int8_t *packs;  /* in tiles of 32, see hnsw/tile.h */
    int32_t *norms; /* of these */
} rk__cluster_centres;

#define RK__CLUSTER_TILE 8u /* points that are compared with centres at a time */

RK_MUST_CHECK rk_code rk__cluster_centres_init(rk__cluster_centres *centres,
                                               const rk__cluster_space *space, uint32_t n,
                                               rk_err *err);
void rk__cluster_centres_deinit(rk__cluster_centres *centres);
/* k-means over a sample of the rows. */
RK_MUST_CHECK rk_code rk__cluster_train(rk_index *index, const rk__cluster_space *space,
                                        const rk_build_options *options,
                                        rk__cluster_centres *centres, rk_err *err);
/* The nearest centres to |m| points, 1 to RK__CLUSTER_TILE, given as z; |scratch| has room for
 * RK__CLUSTER_TILE times centres->width. |distance| are squares. */
void rk__cluster_nearest(const rk__cluster_space *space, const rk__cluster_centres *centres,
                         const float *const z[], uint32_t m, uint8_t *scratch, uint32_t nearest[],
                         float distance[]);

/* ---- cluster/lists.c ---- */

/* A list with its key, or a row that waits with its lower bound and the key of its list. */
typedef struct rk__cluster_item {
    float est;
    float key;
    uint32_t at;
} rk__cluster_item;

/* The lists for a query, stage by stage. */
typedef struct rk__cluster_lists {
    const rk__cluster *cluster;
    const rk__cluster_query *query;
    rk_arena *arena;
    float base;              /* what all keys have in common: the query's |v|^2; 0 for IP */
    rk__cluster_item *items; /* of this stage */
    uint32_t n;
    uint32_t given; /* in all stages */
    uint32_t stage; /* a good size for the next */
    uint32_t *seen; /* bit per list */
    float *est;     /* by code, INFINITY for lists that were given; NULL: not made yet */
    bool no_memory;
} rk__cluster_lists;

/* The next |want| lists, about, nearest first when |ordered|; false: none are left, or no memory.
 */
bool rk__cluster_lists_next(rk__cluster_lists *lists, uint32_t want, bool ordered);
/* Lists whose bit is set in |these| are not given any more. */
void rk__cluster_lists_without(rk__cluster_lists *lists, const uint32_t *these);
/* The same before the first are given, for lists in which nothing passes; after
 * rk__cluster_lists_edge(). */
void rk__cluster_lists_close(rk__cluster_lists *lists, const rk__ordered *ordered);
/* Estimates of all lists that are left in lists->est, and in |*edge| up to which about |want| of
 * them lie; false: no memory. */
bool rk__cluster_lists_edge(rk__cluster_lists *lists, uint32_t want, float *edge);
/* Keys of the |n| lists in |items| from the records of their centres. */
void rk__cluster_lists_key(const rk__cluster_lists *lists, rk__cluster_item *items, uint32_t n);
/* Rising keys, by bucket, from |from| to |to|. */
void rk__cluster_lists_order(const rk__cluster_item *from, uint32_t n, rk__cluster_item *to);
/* The smallest of |n| by est to the front, in no order: at least |k| of them if there are so many,
 * and not many more unless they are equal. Returns how many. */
uint32_t rk__cluster_select(rk__cluster_item *items, uint32_t n, uint32_t k);

/* ---- cluster/search.c ---- */

/* |cluster| is of the rows of |index|, whose kind may be another. Without a search, see
 * effort->most_around, |heap| stays empty. */
rk_code rk__cluster_run(const rk_index *index, const rk__cluster *cluster, const rk__query *query,
                        const rk_search_options *options, const rk__cluster_effort *effort,
                        rk__heap *heap, rk_err *err);
rk_code rk__cluster_search(const rk_index *index, const rk__cluster *cluster,
                           const rk__query *query, const rk_search_options *options, rk__heap *heap,
                           rk_err *err);

/* ---- cluster/ordered.c ---- */

/* Puts |passing| into the order of the lists. */
RK_MUST_CHECK rk_code rk__cluster_order(const rk__cluster *cluster, rk_index_filter *filter,
                                        const rk_bitset *passing, rk_err *err);

/* ---- cluster/limits.c ---- */

/* Measures how far searches have to go under a filter in order. |passing| are its rows. */
RK_MUST_CHECK rk_code rk__cluster_limits(const rk__cluster *cluster, rk_index_filter *filter,
                                         const rk_bitset *passing, rk_err *err);

/* ---- cluster/build.c, cluster/tune.c, cluster/image.c ---- */

rk_code rk__cluster_build(rk_index *index, const rk_build_options *options, rk_err *err);
/* Clusters of the rows of |index|, whose kind may be another; |automatic|: lists and records as
 * AUTOINDEX has them. |*out| may be set after a failure too: rk__cluster_delete(). */
RK_MUST_CHECK rk_code rk__cluster_make(rk_index *index, rk__cluster **out, bool automatic,
                                       const rk_build_options *options, rk_err *err);
void rk__cluster_delete(rk__cluster *cluster); /* NULL: nothing */
RK_MUST_CHECK rk_code rk__cluster_tune(const rk_index *index, rk__cluster *cluster,
                                       const rk_build_options *options, rk_err *err);
/* Reaches that end no search; those that were measured. */
void rk__cluster_reach_none(rk__cluster *cluster);
RK_MUST_CHECK rk_code rk__cluster_reach_tune(const rk_index *index, rk__cluster *cluster,
                                             const rk_build_options *options, rk_err *err);
rk__cluster_knots rk__cluster_reach_of(const rk__cluster *cluster, float recall);
/* The effort for a wanted recall. */
rk__cluster_effort rk__cluster_effort_of(const rk__cluster *cluster, float recall);
/* Points the fields at the parts and derives sizes. */
void rk__cluster_link(rk_index *index, rk__cluster *cluster, const void *const parts[]);
void rk__cluster_add_sections(const rk__cluster *cluster, rk__sections *out);
/* As rk__cluster_make(), from an image. */
RK_MUST_CHECK rk_code rk__cluster_read(rk_index *index, rk__cluster **out,
                                       const rk__sections *sections, rk_err *err);

#endif
