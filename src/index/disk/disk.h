/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DISKANN and AISAQ: vectors on disk, a search that reads as few of their pages as it can. Private
 * to this folder.
 *
 * The kinds keep the API of the graphs they are named after, but no graph: a walk over a graph on
 * disk reads a page for every node it visits, each after those before it, while a virtual disk
 * gives 40,000 to 80,000 pages a second. Instead rows are grouped around centres (k-means), a
 * search scans codes of a few bits per component in the nearest groups, and only the best
 * candidates are read from disk, side by side: 16 to 20 pages for ten neighbours at a recall of
 * 0.96. The scan costs about a nanosecond a row, so it pays up to tens of millions of rows.
 *
 *   centres   nlist * dim f32                                in memory
 *   records   32 rows each: row numbers, factors, codes      DISKANN: in memory; AISAQ: on disk
 *   pages     the vectors, in the order of the records       on disk
 *
 * Codes: the extended RaBitQ of Gao et al. (SIGMOD 2025). A residual r = P(x - c) is rounded to odd
 * integers v in (-2^B, 2^B); <r, u> is about |r|^2 / <v, r> * <v, u>. An odd integer is a sum of B
 * signs weighted by powers of two, so B planes of signs with a query of B scaled copies are a
 * one-bit code of B times as many components: kernel/bits.h and its kernel score them 32 at a time.
 *
 * Bounds: what a kind holds in memory is chosen at build to stay below a share of the raw vectors
 * (memory_share()), all of it is charged to the budget when the image is opened, and pages are read
 * into a channel's own buffer, past the page cache.
 *
 * Numbers from an image are compared with what they index where they are used.
 */
#ifndef RK_INDEX_DISK_H
#define RK_INDEX_DISK_H

#include "index/kernel/bits.h"

#define RK__DISK_PLANES_MAX 4u
#define RK__DISK_GROUPS_MAX 8192u                /* of the kernel */
#define RK__DISK_FACTORS    (RK__BITS_ROWS * 8u) /* bytes of a record before its codes */
#define RK__DISK_FAR        3e37f /* estimate of a row that is not finite: after all others */

typedef struct rk__disk {
    uint32_t planes;     /* B */
    uint32_t nlist;      /* 0: no rows */
    uint32_t code_dims;  /* planes * padded */
    size_t record_bytes; /* factors and codes of 32 rows */
    rk__rotation rotation;
    float probe[2]; /* nprobe for k neighbours is probe[0] * k ^ probe[1], measured at build */

    size_t unit_bytes;  /* what one read fetches: a page, or the pages of one large vector */
    uint32_t unit_rows; /* vectors in it, from its start */
    uint64_t units;

    const float *centres;        /* nlist * dim */
    const uint32_t *starts;      /* nlist + 1: position of the first row of each list */
    const uint32_t *page_crcs;   /* units */
    const uint32_t *record_crcs; /* AISAQ: one per record */
    const uint8_t *records;      /* NULL: read through index->pages */
    const uint8_t *pages;        /* NULL: the same, or not saved yet */
    const uint32_t *order;       /* just built: row at each position; vectors are then borrowed */
    uint64_t records_offset;     /* in the image */
    uint64_t pages_offset;
    uint32_t pages_crc;      /* of the section, just built */
    uint32_t *first_records; /* nlist + 1: record of the first row of each list; owned */
    float *centre_squares;   /* IP, COSINE: |c|^2; owned */
    float *mean;             /* of the centres: codes and queries are relative to it; owned */
    void *owned[6];
    uint32_t image_head[16];
} rk__disk;

/* Sizes that follow from type, dim, rows and planes. */
void rk__disk_shape(rk__disk *disk, const rk__space *space, uint32_t planes, uint64_t seed);
/* Once starts and centres are there: first_records, centre_squares. RK_ECORRUPT when starts do not
 * rise from 0 to |rows|. */
RK_MUST_CHECK rk_code rk__disk_derive(rk_index *index, rk__disk *disk, rk_err *err);

static inline uint32_t
rk__disk_list_records(const rk__disk *disk, uint32_t list)
{
    return (disk->starts[list + 1] - disk->starts[list] + RK__BITS_ROWS - 1) / RK__BITS_ROWS;
}

/* ---- disk/code.c ---- */

/* A row's code against its centre. All are rotated and have padded components; row and centre are
 * relative to the mean. */
typedef struct rk__disk_coding {
    const float *row;
    const float *centre;
    const float *mean;
    float *residual; /* scratch */
    uint8_t *signs;  /* out: code_dims / 8 bytes, the weightiest plane first */
    float add;       /* out */
    float mul;       /* out */
} rk__disk_coding;
void rk__disk_encode(const rk__disk *disk, rk_metric metric, rk__disk_coding *coding);
/* The query's tables; |rotated| has padded components, |scaled| code_dims, both 64-byte aligned. */
void rk__disk_query_init(const rk__disk *disk, rk__bits_query *out, const float *rotated,
                         float *scaled);
/* Standard deviation of an estimate per |mul| and |y - c|. */
float rk__disk_error(const rk__disk *disk);

/* The form in which rows and queries are grouped and coded: f32, of norm 1 for COSINE. */
void rk__disk_form(const rk__space *space, const void *row, float *out);

/* ---- disk/scan.c ---- */

/* A row worth reading. */
typedef struct rk__disk_cand {
    uint32_t position;
    uint32_t row;
    float error; /* of its estimate, one standard deviation */
} rk__disk_cand;

typedef struct rk__disk_scan {
    const rk_index *index;
    const rk__disk *disk;
    const rk_bitset *filter;
    rk__bits_query query;
    const float *form;  /* dim */
    float square;       /* |form|^2 */
    float error;        /* rk__disk_error() */
    float lower, upper; /* of a range search, as keys; else infinite */
    float patience;     /* as in rk__disk_read */
    bool range;
    bool all;            /* every passing row is a candidate, also without a usable estimate */
    uint64_t probes_min; /* lists to scan at least */
    uint64_t seen_min;   /* and passing rows to see */
    uint32_t beam;       /* reads under way at a time */

    rk__heap best;        /* by estimate; row is a place in |cands| */
    rk__disk_cand *cands; /* best.cap */
    uint64_t seen;        /* rows that pass, in the lists scanned */
    uint64_t hits;        /* rows within the radius, so that a range search knows when to stop */
} rk__disk_scan;

RK_MUST_CHECK rk_code rk__disk_scan_lists(rk__disk_scan *scan, rk_page_channel *channel,
                                          rk_arena *arena, rk_err *err);
/* Bytes of a channel's buffer for each read of codes. */
size_t rk__disk_scan_slot(const rk__disk *disk);

/* ---- disk/read.c ---- */

typedef struct rk__disk_read {
    const rk_index *index;
    const rk__query *query;
    const rk__near *sorted; /* candidates, best estimate first */
    const rk__disk_cand *cands;
    uint32_t n;
    float patience; /* a candidate is read unless its estimate is this many deviations too far */
    uint32_t beam;
    rk__range range;
} rk__disk_read;

/* Scores candidates on their vectors into |heap|. */
RK_MUST_CHECK rk_code rk__disk_rescore(const rk__disk_read *job, rk_page_channel *channel,
                                       rk_arena *arena, rk__heap *heap, rk_err *err);

/* ---- disk/order.c ---- */

/* Puts the |n| rows of a list that starts at position |first| into an order in which near rows
 * share a unit. False: no memory. */
RK_MUST_CHECK bool rk__disk_order_rows(const rk_index *index, uint32_t *rows, uint32_t n,
                                       uint32_t first, uint32_t unit_rows);

/* ---- disk/build.c, disk/search.c, disk/image.c ---- */

rk_code rk__disk_build(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__disk_search(const rk_index *index, const rk__query *query,
                        const rk_search_options *options, rk__heap *heap, rk_err *err);
void rk__disk_seal(rk__disk *disk); /* fills image_head */
/* The vectors of unit |unit| as they lie on disk; |out| has unit_bytes. Just built only. */
void rk__disk_fill_unit(const rk_index *index, const rk__disk *disk, uint64_t unit, uint8_t *out);

/* |size_bytes| aligned to 64, from the arena; NULL when out of memory. */
void *rk__disk_scratch(rk_arena *arena, size_t size_bytes) RK_MUST_CHECK;

#endif
