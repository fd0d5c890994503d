/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codecs: vectors as short codes, and products of a query with many codes, private to this folder.
 *
 *   SQ8 SQ6 SQ4   a number of that many bits per component, each component with its own range
 *   SQ4U          the same with one range for all components
 *   FP16 BF16 FP32  the component itself, rounded
 *   PQ            the vector cut into m pieces, each replaced by the number of the nearest of
 *                 2^nbits centres of that piece (Jégou, Douze, Schmid, 2011)
 *   PRQ           PQ with nrq rounds per piece, each coding what the rounds before left over
 *
 * A codec only knows inner products. What a kind makes of them, see rk__codec_factors(): with one
 * number to add and one to multiply by per row they become L2 distances, also for rows coded
 * relative to a centre, as one-bit codes do (kernel/bits.h).
 *
 * Numbers of PQ and PRQ take 4, 8 or 16 bits, the least that holds nbits. There are at most 2^12
 * centres per piece and never more than rows to train on: larger nbits are lowered, what counts is
 * codec.nbits.
 *
 * Threads: a trained or opened codec is immutable; a rk__codec_query is one thread's.
 */
#ifndef RK_INDEX_CODEC_H
#define RK_INDEX_CODEC_H

#include "index/code/codec_math.h"
#include "index/index_private.h"

typedef enum rk__codec_id { /* on disk: never renumber */
                            RK__CODEC_NONE = 0,
                            RK__CODEC_SQ4 = 1,
                            RK__CODEC_SQ4U = 2,
                            RK__CODEC_SQ6 = 3,
                            RK__CODEC_SQ8 = 4,
                            RK__CODEC_FP16 = 5,
                            RK__CODEC_BF16 = 6,
                            RK__CODEC_FP32 = 7,
                            RK__CODEC_PQ = 8,
                            RK__CODEC_PRQ = 9,
                            RK__CODECS
} rk__codec_id;

#define RK__CODEC_NBITS_MAX 12u

typedef struct rk__codec {
    rk__codec_id id;
    uint32_t dim;
    uint32_t m;     /* PQ, PRQ: pieces */
    uint32_t nbits; /* PQ, PRQ */
    uint32_t nrq;   /* rounds; 1 but for PRQ */

    /* follow from the above */
    size_t n;          /* components of a code in memory: SQ padded to 32 or 64, others dim */
    size_t code_bytes; /* of one row; rows lie one after the other */
    uint32_t dsub;     /* components of a piece */
    uint32_t ksub;     /* centres of a round, a power of two */
    uint32_t kpad;     /* places for them in a table: at least 16 */
    uint32_t width;    /* bits that a number takes: 4, 8, 16 */

    /* SQ: dim offsets, dim steps. PQ, PRQ: m * nrq tables of dsub * kpad, see code/codec_math.h;
     * places past ksub are zero. */
    const float *tables;
    size_t tables_n; /* floats */
    float *half;     /* while building, PQ and PRQ: half squared norms, infinite past ksub */
    float *owned;    /* |tables| when trained here rather than mapped */
} rk__codec;

/* Shape of a codec over vectors of |dim|, of which |rows| can be used to train. |m|, |nbits| and
 * |nrq| count for PQ and PRQ only; |m| divides |dim|. */
void rk__codec_init(rk__codec *codec, rk__codec_id id, uint32_t dim, uint32_t m, uint32_t nbits,
                    uint32_t nrq, size_t rows);
void rk__codec_deinit(rk__codec *codec);
/* "SQ8", in any case; RK__CODEC_NONE when there is none. FLAT is FP32. */
rk__codec_id rk__codec_named(const char *name);

/* The shape from the first 16 bytes of an image section: u32 id, m, nbits, nrq. RK_ECORRUPT. */
RK_MUST_CHECK rk_code rk__codec_read(rk__codec *codec, const uint8_t *head, uint32_t dim,
                                     rk_err *err);

/* Rows a training wants at most. */
size_t rk__codec_sample_rows(const rk__codec *codec);
/* Learns the tables from |n| rows of dim floats, all finite. A function of its input, whatever the
 * number of threads. RK_ENOMEM, RK_ECANCELLED. */
RK_MUST_CHECK rk_code rk__codec_train(rk__codec *codec, const float *rows, size_t n,
                                      const rk_build_options *options, rk_err *err);
/* Puts tables that lie in an image (borrowed) under a codec of known shape; RK_ECORRUPT when
 * |bytes| is not their size. */
RK_MUST_CHECK rk_code rk__codec_open(rk__codec *codec, const void *tables, uint64_t bytes,
                                     rk_err *err);

/* Floats of scratch memory that an encoding needs. */
size_t rk__codec_scratch_floats(const rk__codec *codec);
void rk__codec_encode(const rk__codec *codec, const float *row, uint8_t *code, float *scratch);
void rk__codec_decode(const rk__codec *codec, const uint8_t *code, float *out);

/*
 * What turns a product into a key. A row x was coded as r = x - centre (centre NULL: zero), r' is
 * the decoded code. With S = <query, r'>
 *
 *   L2:  |x - query|^2  is about  add + mul * S + |query - centre|^2
 *   IP:  -<x, query>    is about  add + mul * S - <query, centre>
 *
 * mul stretches r' so that what is left of r is orthogonal to r: the estimate is then exact for a
 * query in the direction of the row, which is where nearest neighbours are (the same end as the
 * anisotropic loss of Guo et al. 2020, reached after coding rather than by it).
 */
void rk__codec_factors(rk_metric metric, const float *row, const float *decoded,
                       const float *centre, uint32_t dim, float *add, float *mul);

/* ---- queries ---- */

typedef struct rk__codec_query {
    const rk__codec *codec;
    const rk__codec_math *math;
    float unit; /* SQ: S = bias + unit * (integer product) */
    float bias;
    int16_t *q16;      /* SQ8, SQ6: query times step, n components */
    int8_t *q8;        /* SQ4: the same */
    int8_t *unpacked;  /* SQ6: four rows as bytes */
    const void *plain; /* FP16, BF16, FP32: the query in that form */
    float *lut;        /* PQ, PRQ: m * nrq * kpad */
} rk__codec_query;

size_t rk__codec_query_bytes(const rk__codec *codec);
/* |memory| is 64-byte aligned. False when the query has a component that is not finite. */
bool rk__codec_query_init(rk__codec_query *out, const rk__codec *codec, const float *query,
                          void *memory);
/* Products of the query with |n| codes: those at the numbers |at|, or the first |n| when it is
 * NULL. */
void rk__codec_dots(const rk__codec_query *query, const uint8_t *codes, const uint32_t *at,
                    size_t n, float *out);

/* ---- blocks of 32 ---- */

/*
 * 4-bit PQ codes in blocks of 32 rows for rk__kernels.scan32 (layout in kernel/bits.h, a group is a
 * piece): m rounded up to a multiple of 16 groups. False for other codecs and too many pieces.
 */
bool rk__codec_has_blocks(const rk__codec *codec);
size_t rk__codec_groups(const rk__codec *codec);
static inline size_t
rk__codec_block_bytes(const rk__codec *codec)
{
    return rk__codec_groups(codec) * 16;
}
/* Puts a code into place |slot| (0..31) of a block that was all zero; other places stay. */
void rk__codec_place(const rk__codec *codec, const uint8_t *code, uint32_t slot, uint8_t *block);
/* Tables for scan32 from the query's: groups * 16 bytes at |lut|. */
void rk__codec_block_lut(const rk__codec_query *query, uint8_t *lut, float *unit, float *bias);

#endif
