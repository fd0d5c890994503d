/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inverted lists of codes: IVF_SQ8, IVF_PQ and SCANN, private to this folder.
 *
 * Rows are grouped by their nearest centre as in ivf/ivf.c and coded by a codec relative to it; the
 * codes of a list lie together. A search scores the lists of the nprobe nearest centres by one set
 * of tables for all lists (code/codec.h), keeps the best candidates, scores these by the codes of
 * refine_type when there are any, and the last ones by the vectors.
 *
 * Rows of codes lie in order of their list. 4-bit numbers lie in blocks of 32 slots instead, each
 * list beginning with a new block; a slot without a row adds infinity. Rows with NaN or infinity
 * are in no list: they stand behind the last one and every search scores their vectors.
 *
 * COSINE is L2 on normalised vectors up to the last scoring. Estimates are squared distances or
 * negated products, as in code/coded.h.
 */
#ifndef RK_INDEX_IVF_CODES_H
#define RK_INDEX_IVF_CODES_H

#include "index/code/coded.h"
#include "index/params.h"

#define RK__IVFC_HEAD_BYTES 64u

typedef struct rk__ivfc {
    uint32_t nlist;
    rk__codec codec;
    bool blocks;  /* codes in blocks of 32 slots */
    float error;  /* root mean square of estimate minus distance, over sampled pairs of one list */
    bool refined; /* built with refine: refine_k counts, |refine| may be the vectors themselves */

    const float *centres;    /* nlist * dim */
    const uint64_t *offsets; /* nlist + 1: places in |rows|; behind the last one: in no list */
    const uint64_t *slots;   /* nlist + 1: first slot of each list; |offsets| without blocks */
    const uint32_t *rows;
    const uint8_t *codes;
    const float *add; /* per slot, then |mul| */
    const float *mul;
    rk__coded refine;

    uint8_t head[RK__IVFC_HEAD_BYTES];
    void *owned[6];
} rk__ivfc;

enum { /* places in |owned| */
       RK__IVFC_CENTRES,
       RK__IVFC_OFFSETS,
       RK__IVFC_ROWS,
       RK__IVFC_CODES,
       RK__IVFC_FACTORS,
       RK__IVFC_SLOTS
};

static inline uint64_t
rk__ivfc_n_slots(const rk__ivfc *ivf)
{
    return ivf->slots[ivf->nlist];
}

static inline size_t
rk__ivfc_code_bytes(const rk__ivfc *ivf)
{
    size_t slots = (size_t)rk__ivfc_n_slots(ivf);

    return ivf->blocks ? slots / 32 * rk__codec_block_bytes(&ivf->codec)
                       : slots * ivf->codec.code_bytes;
}

/* What the estimates of a search and of a build measure: a distance, or a product of IP. */
static inline rk_metric
rk__ivfc_metric(const rk__space *space)
{
    return space->metric == RK_METRIC_IP ? RK_METRIC_IP : RK_METRIC_L2;
}

/* First slots of the lists from their lengths; |slots| has nlist + 1 places. */
void rk__ivfc_fill_slots(const uint64_t *offsets, uint32_t nlist, uint64_t *slots);

/* Tables of a query for the lists; the caller's memory. */
typedef struct rk__ivfc_query {
    rk__codec_query query;
    const float *vector; /* as the centres are: f32, normalised for COSINE */
    uint8_t *lut;        /* blocks */
    float unit;
    float bias;
} rk__ivfc_query;

size_t rk__ivfc_query_bytes(const rk__ivfc *ivf);
/* |memory| is 64-byte aligned; false when the query is not finite. */
bool rk__ivfc_query_init(rk__ivfc_query *out, const rk__ivfc *ivf, const rk__space *space,
                         const void *row, float inv_norm, void *memory);
/* Estimates of up to 32 slots from |slot| on, a multiple of 32 within its list; |extra| is the
 * estimate of the centre itself. Returns the mask of those of the |n| that are under |below|;
 * places past |n| hold anything. */
uint32_t rk__ivfc_estimate(const rk__ivfc *ivf, const rk__ivfc_query *query, uint64_t slot,
                           size_t n, float extra, float below, float out[32]);
/* The estimates of a query and |n| centres from |list| on. */
void rk__ivfc_centre_keys(const rk__ivfc *ivf, const rk__space *space, const float *vector,
                          uint32_t list, uint32_t n, float *keys);

rk_code rk__ivfc_build(rk_index *index, const rk_build_options *options, rk_err *err);
rk_code rk__ivfc_search(const rk_index *index, const rk__query *query,
                        const rk_search_options *options, rk__heap *heap, rk_err *err);

#endif
