/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HNSW (Malkov & Yashunin 2016), private to this folder: the graph, what a walk needs, and the
 * scratch memory of one search.
 *
 * Where we differ from the paper:
 *  - Walks run on 8-bit codes of the vectors (hnsw/code.c) when those keep distances well enough,
 * which is measured at build; the best candidates are scored again on the vectors themselves.
 *  - With codes the ground is made of blocks, in which a node has one-bit codes of its neighbours,
 * and is linked by clusters instead of by insertion.
 *  - Nodes are inserted by falling level, so the nodes of level L are a prefix of one list and
 * their links one plain array.
 *  - Rows with equal bytes are one node: the first is linked, the others hang on a chain. Rows with
 * NaN or infinity are not linked.
 *  - Candidates are one sorted array instead of two heaps (as NSG and its successors do).
 *  - After the build every node is made reachable from the entry (repair in hnsw/build.c).
 *
 * A list of links has a fixed width and ends at the first number that is no node; so a row number
 * from an image is compared with the node count in the same test that finds the end.
 */
#ifndef RK_INDEX_HNSW_H
#define RK_INDEX_HNSW_H

#include <stdatomic.h>

#include "index/index_private.h"
#include "index/kernel/bits.h"

#define RK__HNSW_LEVELS_MAX 16u /* levels above the ground */
#define RK__HNSW_EXPANDED   (UINT32_C(1) << 31)
#define RK__HNSW_SLOTS      32u
#define RK__VOUCHED         512u
#define RK__WAITING_MORE    64u /* places for candidates beyond those that are wanted */
#define RK__ORIGINS         64u
#define RK__KNOWN           4096u
#define RK__RECALL_AUTO     0.97 /* what AUTOINDEX aims at when a search says nothing */

typedef _Atomic(uint32_t) rk__link; /* relaxed: a reader may see a list half old, half new; every
                                       number in it is a node */

/* One level of the graph. On the ground a node is a row; above, nodes count through |node_rows|. */
typedef struct rk__hnsw_level {
    rk__link *links; /* nodes * stride */
    uint32_t stride;
    uint32_t cap; /* links used of |stride| */
    uint32_t nodes;
    const uint32_t *node_rows; /* NULL: a node is a row */
} rk__hnsw_level;

/* The 8-bit codes: code = round(P(x - mean) / scale), P the rotation, x divided by its norm for
 * COSINE. mean is zero for IP. */
typedef struct rk__hnsw_codes {
    const int8_t *data; /* rows * stride, 64-byte aligned; NULL: walk on the vectors */
    size_t stride;      /* multiple of 64 */
    size_t n;           /* components of the rotated vector, a multiple of 64 */
    rk__rotation rotation;
    const float *mean; /* dim */
    float scale;
    bool complete; /* every row has a code: none is NaN or infinite */
} rk__hnsw_codes;

/*
 * The ground as blocks: all that a hop needs of a node lies together, 64-byte aligned:
 *
 *   own 8-bit code | per 32 neighbours: 32 f32 add, 32 f32 mul, 32 u32 rows, one-bit codes
 * (kernel/bits.h)
 *
 * The one-bit codes are relative to the node's own code, in units of the 8-bit code. Codes and
 * ground links then live here: codes.data and levels[0].links point into the first block.
 */
typedef struct rk__hnsw_blocks {
    uint8_t *data;  /* NULL: none */
    size_t stride;  /* bytes from block to block */
    size_t group;   /* bytes of 32 neighbours */
    uint32_t width; /* neighbours, a multiple of 32 */
} rk__hnsw_blocks;

#define RK__ON_CODES_COST 2.0 /* of a walk on codes, in those of one on estimates as wide */

#define RK__BLOCK_MUL   128u /* within a group of 32 neighbours */
#define RK__BLOCK_LINKS 256u
#define RK__BLOCK_BITS  384u

typedef struct rk__hnsw_scratch rk__hnsw_scratch;
typedef struct rk__cluster rk__cluster;

/*
 * Which ef gives which recall: measured at the end of a build, kept in the image as it lies.
 * Points rise in ef and in both recalls.
 */
#define RK__HNSW_POINTS 24u

typedef struct rk__hnsw_point {
    uint32_t ef;
    float recall[2]; /* of the 10 and of the 100 nearest; the latter 0 where ef is under 100 */
    uint32_t zero;
} rk__hnsw_point;

typedef struct rk__hnsw_curve {
    uint32_t n; /* 0: not measured */
    uint32_t zero[3];
    float lists_ns[8]; /* what the clusters beside the graph cost at the recalls of their levels */
    rk__hnsw_point points[RK__HNSW_POINTS];
} rk__hnsw_curve;
_Static_assert(sizeof(rk__hnsw_curve) == 48 + 16 * RK__HNSW_POINTS, "as on disk");

typedef struct rk__hnsw {
    uint32_t M;
    uint32_t ef_construction;
    uint32_t n_levels; /* above the ground */
    uint32_t n_upper;  /* nodes of level 1 */
    uint32_t entry; /* row to start from when there are no levels above; RK__NO_ROW: empty graph */
    rk__hnsw_level levels[RK__HNSW_LEVELS_MAX + 1]; /* [0] is the ground */
    rk__hnsw_codes codes;
    rk__hnsw_blocks blocks;
    const uint32_t *chain; /* next row with equal bytes, above its own number; NULL: no such rows */
    void *owned[7]; /* ground links, upper links, upper rows, codes, mean, chain, blocks; NULL when
                       mapped */
    uint32_t
        image_head[6 + RK__HNSW_LEVELS_MAX]; /* header section of the image, see hnsw/image.c */
    rk__hnsw_curve curve;
    rk__cluster *lists; /* clusters of the same rows, for filtered searches; NULL: none */
    bool automatic;     /* built as AUTOINDEX: a search that says nothing wants a recall, no ef */
    bool uneven;        /* IP among rows of different length; found out with the curve */
    bool on_codes;      /* the same: walks score neighbours by their codes, not by estimates */
    _Atomic(rk__hnsw_scratch *) slots[RK__HNSW_SLOTS]; /* idle scratch memory */
} rk__hnsw;

/* A candidate of a walk; the top bit of |node| says that its links were followed. */
typedef struct rk__cand {
    float key;
    uint32_t node;
} rk__cand;

/* Candidates sorted by key, at most |cap|. */
typedef struct rk__pool {
    rk__cand *items;
    uint32_t n;
    uint32_t cap;
} rk__pool;

/* A candidate of a walk under a filter, in a list; the top bit of |node| says that its block was
 * asked for. */
typedef struct rk__waiting {
    float key;
    uint32_t node;
    uint32_t next;
    uint32_t origin;
} rk__waiting;

struct rk__hnsw_scratch {
    uint64_t *visited; /* a bit per row, all clear between walks */
    size_t rows;
    uint32_t
        *touched; /* rows whose bit is set, up to touched_cap; past that the whole set is cleared */
    size_t n_touched;
    rk__pool pool;    /* the walk */
    rk__pool results; /* passing nodes of a filtered walk; blocks: all scored by their own codes */
    rk__pool passing; /* blocks: estimates of passing nodes */
    rk__pool popped;  /* walk under a filter: by estimate; the top bit says that one passes */
    rk__waiting *waiting;  /* the same: candidates */
    uint32_t *known;       /* the same: RK__KNOWN nodes, by their number, and */
    uint8_t *known_origin; /* from where they were reached */
    uint32_t items_cap;
    rk__pool spare;  /* build: sorted neighbours while a list is pruned */
    uint32_t *nodes; /* one list of links */
    uint32_t *rows_of;
    float *keys;
    int16_t *query;                /* walk on codes */
    int16_t *other;                /* build: a second row as query */
    float *f32;                    /* one row as f32 */
    float *rotated;                /* the query of a search, rotated */
    float *scaled;                 /* the same in the unit of the codes */
    float largest;                 /* its largest component in units of the code */
    uint8_t *lut;                  /* blocks: tables of the query */
    int8_t *code;                  /* blocks: its 8-bit code */
    rk__cand vouched[RK__VOUCHED]; /* blocks: best estimates of nodes in the pool, by node number */
    rk__cand vouched_passing[RK__VOUCHED];
};

/* What scores nodes in a walk: codes or the rows themselves. */
typedef struct rk__walker {
    const rk__space *space;
    const rk__hnsw_codes *codes; /* NULL: rows */
    rk__code4_fn code4;
    bool negate;
    const int16_t *code_query;
    rk__query row_query;
} rk__walker;

/* ---- hnsw/walk.c ---- */

rk__hnsw_scratch *rk__hnsw_scratch_take(rk__hnsw *graph, const rk__space *space, uint32_t cands);
void rk__hnsw_scratch_give(rk__hnsw *graph, rk__hnsw_scratch *scratch);
void rk__hnsw_scratch_free_all(rk__hnsw *graph);

void rk__walker_init(rk__walker *walker, const rk__hnsw *graph, const rk__space *space);
/* Row |row| is the query; |buffer| holds its code widened. */
void rk__walker_row(rk__walker *walker, uint32_t row, int16_t *buffer);
/* A search query is the query; false when it has a component that is not finite. */
bool rk__walker_query(rk__walker *walker, const rk__query *query, rk__hnsw_scratch *scratch);
void rk__walker_keys(const rk__walker *walker, const uint32_t *rows, size_t n, float *keys);

/* The nearest node to the query at |level|, starting from |node|. */
uint32_t rk__hnsw_descend(const rk__walker *walker, const rk__hnsw_level *level, uint32_t node,
                          rk__hnsw_scratch *scratch);
/* The same from the top to the ground in steps; each ends by asking for the codes that the next
 * one needs. Start and step return false once the ground is reached. */
typedef struct rk__descent {
    uint32_t level;
    uint32_t node;
    uint32_t n; /* neighbours that wait in the scratch */
    float best;
} rk__descent;
bool rk__descent_start(const rk__hnsw *graph, const rk__walker *walker, rk__hnsw_scratch *scratch,
                       rk__descent *d);
bool rk__descent_step(const rk__hnsw *graph, const rk__walker *walker, rk__hnsw_scratch *scratch,
                      rk__descent *d);
/* Fills scratch->pool (its cap is ef) with the nearest nodes, starting from the |n| entries. With
 * |filter| also scratch->results with the nearest nodes that pass themselves or have a chained row
 * that does. */
void rk__hnsw_walk(const rk__hnsw *graph, const rk__walker *walker, const rk__hnsw_level *level,
                   const uint32_t *entries, size_t n, const rk_bitset *filter,
                   rk__hnsw_scratch *scratch);

#define RK__TOUCHED_MAX 32768u

/* True when the bit was clear. */
static inline bool
rk__visit(rk__hnsw_scratch *s, uint32_t node)
{
    uint64_t *word = &s->visited[node >> 6];
    uint64_t bit = UINT64_C(1) << (node & 63);

    if (*word & bit) {
        return false;
    }
    *word |= bit;
    if (s->n_touched < RK__TOUCHED_MAX) {
        s->touched[s->n_touched] = node;
    }
    s->n_touched++;
    return true;
}

static inline void
rk__clear_visited(rk__hnsw_scratch *s)
{
    if (s->n_touched > RK__TOUCHED_MAX) {
        memset(s->visited, 0, (s->rows + 63) / 64 * sizeof(*s->visited));
    } else {
        for (size_t i = 0; i < s->n_touched; i++) {
            s->visited[s->touched[i] >> 6] = 0;
        }
    }
    s->n_touched = 0;
}

static inline bool
rk__pool_insert(rk__pool *pool, float key, uint32_t node, uint32_t *at)
{
    uint32_t low = 0;
    uint32_t high = pool->n;

    if (pool->n == pool->cap) {
        if (!(key < pool->items[pool->n - 1].key)) {
            return false;
        }
        pool->n--;
        high--;
    }
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (pool->items[mid].key <= key) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    memmove(pool->items + low + 1, pool->items + low, (pool->n - low) * sizeof(*pool->items));
    pool->items[low] = (rk__cand){key, node};
    pool->n++;
    *at = low;
    return true;
}

static inline uint32_t
rk__link_get(const rk__link *link)
{
    return atomic_load_explicit(link, memory_order_relaxed);
}

static inline void
rk__link_set(rk__link *link, uint32_t node)
{
    atomic_store_explicit(link, node, memory_order_relaxed);
}

static inline uint32_t
rk__chain_next(const rk__hnsw *graph, size_t rows, uint32_t row)
{
    uint32_t next = graph->chain ? graph->chain[row] : RK__NO_ROW;

    return next > row && next < rows ? next : RK__NO_ROW;
}

/* Whether |row| or a row chained to it passes. */
static inline bool
rk__hnsw_passes(const rk__hnsw *graph, size_t rows, const rk_bitset *filter, uint32_t row)
{
    for (; row != RK__NO_ROW; row = rk__chain_next(graph, rows, row)) {
        if (rk_bitset_get(filter, row)) {
            return true;
        }
    }
    return false;
}

/* Whether walks on the ground go by the estimates of blocks. */
static inline bool
rk__hnsw_by_blocks(const rk__hnsw *graph)
{
    return graph->blocks.data && !graph->on_codes;
}

/*
 * Candidates a walk through masked nodes must keep, so that about as good an answer comes out among
 * the share that passes. More among rows of different length by IP: what lies farther out is
 * shorter, and fewer links lead there.
 */
static inline double
rk__hnsw_wider(bool uneven, double share)
{
    return pow(share, uneven ? -0.75 : -0.5);
}

/*
 * Whether the |k| nearest that pass can be believed. Of the |n| nearest nodes that a walk ef wide
 * (without a filter) kept, |passing| pass and |past| lie behind the k. Without a filter 1 - k / ef
 * of them would. Where fewer pass than everywhere, those that do lie where the walk ended, and only
 * one that went well past them has met their neighbours; none has among rows of different length,
 * where links lead to long rows and these are masked.
 */
static inline bool
rk__hnsw_is_believed(bool uneven, uint32_t n, uint32_t passing, uint32_t past, double share,
                     double k, double ef)
{
    double expected = share * n;
    double least = ef > k ? 0.5 * (1 - k / ef) : 0;

    if (passing < expected - 3 * sqrt(expected * (1 - share))) {
        if (uneven) {
            return false;
        }
        least = RK_MAX(least, 0.4);
    }
    return past >= least * n;
}

/* ---- hnsw/code.c ---- */

/* Decides whether codes are good enough and makes them; rows with a set bit in |skip|
 * (not finite) get zeros.
 * Leaves codes.data NULL otherwise. */
RK_MUST_CHECK rk_code rk__hnsw_encode(rk_index *index, rk__hnsw *graph,
                                      const rk_build_options *options, const rk_bitset *skip,
                                      rk_err *err);
/* Codes with the mean and scale of another graph. Leaves codes.data NULL, which is no failure, when
 * those would not do for these rows. */
RK_MUST_CHECK rk_code rk__hnsw_encode_like(rk_index *index, rk__hnsw *graph,
                                           const rk__hnsw_codes *like,
                                           const rk_build_options *options, const rk_bitset *skip,
                                           rk_err *err);
/* Fills f32, rotated, largest and query of the scratch; false when it cannot be coded. */
bool rk__hnsw_encode_query(const rk__hnsw_codes *codes, const rk__space *space,
                           const rk__query *query, rk__hnsw_scratch *s);
rk__rotation rk__hnsw_rotation(uint32_t dim);

/* ---- hnsw/block.c ---- */

/* Ground neighbours of a graph in blocks: one group of 32 up to M 32, two up to 64 ... */
static inline uint32_t
rk__hnsw_width(uint32_t m)
{
    return (m + RK__BITS_ROWS - 1) / RK__BITS_ROWS * RK__BITS_ROWS;
}

rk__hnsw_blocks rk__hnsw_blocks_of(uint32_t padded, uint32_t width);
/* Moves codes and ground links into blocks, when there are codes. */
RK_MUST_CHECK rk_code rk__hnsw_make_blocks(rk_index *index, const rk_build_options *options,
                                           rk_err *err);
/* Points codes and ground links into the blocks. */
void rk__hnsw_use_blocks(rk__hnsw *graph, uint8_t *data, size_t rows);
/*
 * rk__hnsw_walk() over blocks from one row, with the query that the scratch holds, without a
 * filter. Candidates are estimates: the nearest |pops| of the pool are popped. Then those that are
 * left are scored by their codes too. Fills scratch->results, whose cap is set.
 */
void rk__hnsw_walk_blocks(const rk__hnsw *graph, const rk__space *space, uint32_t entry,
                          uint32_t pops, rk__hnsw_scratch *s);

/* What scores blocks. */
typedef struct rk__block_query {
    rk__bits_query bits;
    rk__scan32_fn scan32;
    rk__dist_fn dist; /* NULL: through code4, the query is too large for 8 bits */
    rk__code4_fn code4;
    const void *code;
    float unit; /* of a code distance, in units of the estimates; negative for IP */
} rk__block_query;

/* Of the query that the scratch holds. */
rk__block_query rk__block_query_of(const rk__hnsw *graph, const rk__space *space,
                                   rk__hnsw_scratch *s);

/* rk__hnsw_walk_blocks() step by step, so that one thread takes several walks forward in turn: each
 * step ends by asking for the block that the next one needs. |pops| is set by the caller, the rest
 * by start; a step that returns false was the last. */
typedef struct rk__block_walk {
    rk__block_query query;
    uint32_t pops;
    uint32_t at;
    uint32_t node;
} rk__block_walk;

void rk__block_walk_start(const rk__hnsw *graph, const rk__space *space, uint32_t entry,
                          rk__hnsw_scratch *s, rk__block_walk *w);
bool rk__block_walk_step(const rk__hnsw *graph, const rk__space *space, rk__hnsw_scratch *s,
                         rk__block_walk *w);

/* ---- hnsw/lists.c ---- */

/* What follows when a graph is linked, however that came about: clusters beside it unless it has
 * them, recall measured, the header of the image. */
RK_MUST_CHECK rk_code rk__hnsw_finish(rk_index *index, const rk_build_options *options,
                                      rk_err *err);
/* The row of the ground from which a walk starts. */
uint32_t rk__hnsw_ground_entry(const rk__hnsw *graph, const rk__walker *walker,
                               rk__hnsw_scratch *scratch);
/* Nanoseconds, about, that a search takes by the clusters, and the recall to ask them for;
 * INFINITY: they are not there, or nothing is known of them. */
double rk__hnsw_by_lists_ns(const rk_index *index, const rk_search_options *options, uint32_t k,
                            float *recall);
/* Whether the estimates of the clusters can be relied on. */
bool rk__hnsw_lists_are_good(const rk_index *index);
/* Nanoseconds, about, of a search of all lists, whatever a filter masks; INFINITY: its estimates
 * cannot be relied on, or few rows pass. */
double rk__hnsw_whole_ns(const rk_index *index, const rk_search_options *options);
/* Whether a search without a filter goes by the clusters, and then with which recall. */
bool rk__hnsw_by_lists(const rk_index *index, const rk_search_options *options, uint32_t k,
                       float *recall);
/* Nanoseconds, about, of a search without a filter: a walk, and by clusters whose levels cost
 * |level_ns|, counted; 0: not known. */
double rk__hnsw_walk_ns(uint32_t dim, double ef);
double rk__hnsw_walk_cost(const rk_index *index, double ef); /* the same, as this graph is walked */
double rk__hnsw_lists_ns(const rk__cluster *lists, const float *level_ns, double recall);
rk_code rk__hnsw_build_all(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__hnsw_merge_all(rk_index *index, const rk_merge_part *base,
                           const rk_build_options *options, bool *merged, rk_err *err);
/* A filter in the order of the clusters, where there are any. */
rk_code rk__hnsw_order_filter(const rk_index *index, rk_index_filter *filter,
                              const rk_bitset *passing, rk_err *err);

/* ---- hnsw/tune.c ---- */

RK_MUST_CHECK rk_code rk__hnsw_tune(rk_index *index, const rk_build_options *options, rk_err *err);
/* The ef of a declared recall of the |k| nearest, and what recall an ef stands for. */
uint32_t rk__hnsw_ef_for(const rk__hnsw_curve *curve, uint32_t k, float recall);
float rk__hnsw_recall_of(const rk__hnsw_curve *curve, uint32_t k, uint32_t ef);
bool rk__hnsw_curve_is_sound(const rk__hnsw_curve *curve);

/* ---- hnsw/build.c, hnsw/merge.c, hnsw/search.c, hnsw/image.c ---- */

rk_code rk__hnsw_build(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__hnsw_merge(rk_index *index, const rk_merge_part *base, const rk_build_options *options,
                       bool *merged, rk_err *err);
rk_code rk__hnsw_search(const rk_index *index, const rk__query *query,
                        const rk_search_options *options, rk__heap *heap, rk_err *err);
/* What a search needs that is a walk over blocks at its first try. */
typedef struct rk__hnsw_plan {
    uint32_t width;   /* candidates, all of which are popped */
    uint32_t results; /* kept of them */
} rk__hnsw_plan;
/* False: it is something else. */
bool rk__hnsw_plan_walk(const rk_index *index, const rk_search_options *options, uint32_t k,
                        rk__hnsw_plan *plan);
/* How many of |n| found nodes are scored exactly for the |k| nearest. */
uint32_t rk__hnsw_to_score(const rk__hnsw *graph, uint32_t k, uint32_t n);
/* Scores found nodes [from, to) exactly, with the rows chained to them; returns how many lie beyond
 * the radius of a range search. */
uint32_t rk__hnsw_score(const rk_index *index, const rk__query *query,
                        const rk_search_options *options, const rk__pool *found, uint32_t from,
                        uint32_t to, rk__hnsw_scratch *s, rk__heap *heap);

/* ---- hnsw/many.c ---- */

rk_code rk__hnsw_search_many(const rk_index *index, const rk__query *queries, size_t n,
                             const rk_search_options *options, rk__heap *heaps, rk_err *err);

/* The ef that the options mean, by name, by recall or by default; at least |k|. */
uint32_t rk__hnsw_ef(const rk__hnsw *graph, const rk_search_options *options, uint32_t k);
/* One walk without a filter as if node |apart| were not there, for measuring. */
rk_code rk__hnsw_search_apart(const rk_index *index, const rk__query *query,
                              const rk_search_options *options, uint32_t ef, uint32_t apart,
                              rk__heap *heap, rk_err *err);
void rk__hnsw_seal(rk__hnsw *graph); /* fills image_head once the graph is done */
void rk__hnsw_sections(const rk_index *index, rk__sections *out);
rk_code rk__hnsw_open(rk_index *index, const rk__sections *sections, rk_err *err);
void rk__hnsw_free(rk_index *index);

#endif
