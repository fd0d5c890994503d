/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the two bodies of a segment, its deletes, and the checks
 * they use.
 *
 * Growing body: a directory of chunks, each with one array per field, row timestamps and the chain
 * of rows with equal keys; a hash table from key to newest row. Everything readers follow is
 * published by release stores and stays allocated until the segment is freed: what is outgrown is
 * left in |blocks|, so readers need no locks and no epochs. Sealed body: one mapped file per field.
 */
#ifndef RK_SEGMENT_PRIVATE_H
#define RK_SEGMENT_PRIVATE_H

#include "index/growing/growing.h"
#include "segment/column_file.h"
#include "segment/segment.h"

#define RK__ROWS_MAX   ((size_t)UINT32_MAX - 1) /* row + 1 fits the key table */
#define RK__ROW_NONE   UINT32_MAX
#define RK__CHUNK_ROWS 1024u

/* ---- deletes ---- */

typedef struct rk__delete {
    uint64_t ts;
    uint32_t row;
} rk__delete;

typedef struct rk__deletes {
    rk_mutex lock; /* guards list, words; leaf: nothing is taken under it but the memory budget's */
    rk__delete *list; /* rising ts; a row is in it once */
    size_t len, cap;
    uint64_t inserted; /* rows that came later than one with a higher ts */
    uint64_t *words;   /* the same rows as bits */
    size_t words_len;
    uint64_t reserved_bytes;  /* of the segment's budget */
    _Atomic(uint64_t) min_ts; /* lowest of the list, UINT64_MAX when empty; relaxed: a hint that a
                                 read may skip the lock */
    _Atomic(size_t) count;    /* len, for statistics */
} rk__deletes;

/* ---- growing ---- */

typedef struct rk__chunk_column {
    _Atomic(uint8_t *) data; /* fixed-size: chunk_rows values; else replaced when it is full */
    uint64_t *offsets;       /* chunk_rows + 1; NULL for fixed-size types */
    _Atomic(uint64_t *)
        valid;            /* NULL: no nulls; never changed once readers may see it, but replaced */
    uint64_t *valid_next; /* writer only: the bitmap of the append under way */
    size_t data_cap, data_len; /* writer only; variable-length bytes */
    rk_growing_codes *codes;   /* written by who has the field's turn to code, see rk__coding */
    uint64_t codes_bytes;      /* reserved for them */
} rk__chunk_column;

/* Codes of one vector field, see growing_codes.c. */
typedef struct rk__coding {
    _Atomic(size_t) rows; /* release: these have codes */
    _Atomic(bool) busy;   /* someone's turn to code */
    rk_metric metric;     /* of all sets; settled before |rows| is more than 0 */
} rk__coding;

typedef struct rk__chunk {
    uint64_t *ts;              /* of each row */
    uint32_t *older;           /* of each row: the row before it with the same key, RK__ROW_NONE */
    rk__chunk_column *columns; /* by schema position */
} rk__chunk;

typedef struct rk__key_table {
    size_t mask;
    _Atomic(uint64_t) slots[]; /* 0 empty; else high half of the hash, row + 1 */
} rk__key_table;

/* Every allocation of a growing segment starts with this and is freed with it. */
typedef struct rk__block {
    struct rk__block *next;
    uint64_t size_bytes;
    uint8_t pad[48]; /* what follows is 64-byte aligned */
} rk__block;
_Static_assert(sizeof(rk__block) == 64, "blocks keep alignment");

typedef struct rk__growing {
    unsigned chunk_shift;         /* rows of a chunk = 1 << chunk_shift, a multiple of 64 */
    _Atomic(size_t) rows;         /* release: everything of these rows is in place */
    _Atomic(rk__chunk **) chunks; /* directory, replaced when full */
    _Atomic(rk__key_table *) keys;
    _Atomic(uint64_t) min_ts, max_ts;
    _Atomic(uint64_t) size_bytes;  /* reserved */
    size_t chunks_len, chunks_cap; /* writer only */
    size_t budget_bytes; /* writer only: reserved for the append under way, not yet used */
    rk__block *blocks;   /* writer only */
    rk__coding *codings; /* by schema position */
    size_t fields_len;
    rk_mem *codes_mem; /* budget of the codes; borrowed */
    bool codes_allowed;
} rk__growing;

/* ---- sealed ---- */

typedef struct rk__sealed_column {
    rk__file file;           /* file.view.data NULL: the field came after this segment */
    rk_column_builder *made; /* then: its default or null rows */
    rk_column column;
    _Atomic(bool) checked; /* release after the checksums were found good */
    _Atomic(char *)
        damaged; /* owned: what is wrong with it, the whole sentence; set once, release */
} rk__sealed_column;

struct rk_segment_index {
    _Atomic(uint32_t) refs;
    rk_index *index;
    rk_object_view image; /* one of the two, by kind */
    rk_pages *pages;
    rk_object_store *objects;
    char *object;
    uint64_t uid;           /* in the order of opening */
    _Atomic(bool) verified; /* nothing of it is unchecked */
    _Atomic(bool) damaged;
};

typedef struct rk__sealed {
    size_t rows;
    uint64_t size_bytes;
    uint64_t min_ts, max_ts, fold_ts;
    rk__sealed_column *columns; /* by schema position */
    rk__file times_file;
    const uint64_t *times;
    rk_object_store *objects;
    rk_mutex index_lock;        /* guards |indexes|: held to load and reference, or to swap */
    rk_segment_index **indexes; /* by schema position */
    _Atomic(bool) damaged;      /* one of them is, and still serves */
} rk__sealed;

struct rk_segment {
    _Atomic(uint32_t) refs;
    rk_segment_ids ids;
    rk_schema *schema;
    rk_mem *mem;
    rk__growing *growing; /* one of the two */
    rk__sealed *sealed;
    rk__deletes deletes;
};

/* segment.c */
rk_segment *rk__segment_new(const rk_segment_ids *ids, rk_schema *schema, rk_mem *mem);
size_t rk__segment_rows(const rk_segment *seg);
/* Rows not deleted up to |ts|, whatever their own timestamps, as bits over all rows. */
rk_code rk__segment_live(const rk_segment *seg, uint64_t ts, rk_bitset *out, rk_err *err);

/* deletes.c */
void rk__deletes_init(rk__deletes *d);
void rk__deletes_deinit(rk__deletes *d, rk_mem *mem);
/* A number for the rows deleted up to |ts|: how many, and of which list. */
uint64_t rk__deletes_upto(const rk__deletes *d, uint64_t ts);
/* Clears the bits of rows deleted up to |ts|. */
void rk__deletes_apply(const rk__deletes *d, uint64_t ts, rk_bitset *rows);

/* growing.c */
void rk__growing_free(rk__growing *g, rk_mem *mem);
void *rk__growing_alloc(rk__growing *g, size_t size_bytes); /* from |budget_bytes| */
rk_column rk__growing_column(const rk_segment *seg, size_t chunk, size_t field, size_t rows);
rk_pk rk__growing_pk(const rk_segment *seg, size_t row);
static inline rk__chunk *
rk__growing_chunk(const rk__growing *g, size_t chunk)
{
    return atomic_load_explicit(&g->chunks, memory_order_acquire)[chunk];
}
static inline uint64_t
rk__growing_ts(const rk__growing *g, size_t row)
{
    return rk__growing_chunk(g, row >> g->chunk_shift)
        ->ts[row & (((size_t)1 << g->chunk_shift) - 1)];
}

/* growing_codes.c */
void rk__codes_free(rk__growing *g);

/* growing_keys.c */
size_t rk__keys_bytes(const rk__growing *g,
                      size_t rows); /* of a table that must be made for |rows| rows; 0: it fits */
rk_code rk__keys_grow(rk_segment *seg, size_t rows); /* writer */
void rk__keys_add(rk_segment *seg, size_t row);      /* writer */
size_t rk__keys_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max);

/* sealed.c */
void rk__sealed_free(rk__sealed *s, rk_schema *schema);
rk_code rk__sealed_column_get(const rk_segment *seg, size_t field, rk_column *out, rk_err *err);
rk_pk rk__column_pk(const rk_column *column, size_t row);
size_t rk__sealed_find(const rk_segment *seg, rk_pk pk, size_t rows, uint32_t *out, size_t max);

/* damage.c */
/* Completes |err|, RK_ECORRUPT or RK_EKEY_NOT_FOUND for |what| of |seg|: whose file it is and what
 * helps. RK_ECORRUPT. */
rk_code rk__damage_say(const rk_segment *seg, const char *what, rk_err *err);
/* The same for the column at |field|, remembered: every later read of it is refused with the same
 * sentence. Logged and counted the first time. */
rk_code rk__damage_note(const rk_segment *seg, size_t field, const rk_err *found, rk_err *err);

/* row_map.c */
/* Where the rows of |from| are in |to|, which was written from it: rows of one key, one time and
 * the same bytes in the field at |position| (of |from|; |to_position| of |to|); RK_NO_ROW: not
 * there. |out| has room for them. */
rk_code rk__row_map(const rk_segment *from, size_t position, const rk_segment *to,
                    size_t to_position, uint32_t *out, rk_err *err);

/* sealed_index.c */
rk_code rk__sealed_index_open(rk_segment *seg, const pb_rk_IndexFile *file,
                              const rk_segment_env *env, rk_segment_index **out, rk_err *err);

#endif
