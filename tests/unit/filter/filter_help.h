/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the filter's tests and its fuzz target: a collection with a field of every kind a
 * filter reads, rows held as plain values (which an oracle can walk), and columns made from them
 * byte by byte.
 */
#ifndef RK_FILTER_HELP_H
#define RK_FILTER_HELP_H

#include "filter/filter.h"

typedef enum fh_kind { FH_NULL, FH_BOOL, FH_INT, FH_FLOAT, FH_STRING, FH_LIST, FH_OBJECT } fh_kind;

/* A value: of a cell, of a piece of JSON, of a literal. */
typedef struct fh_value fh_value;
struct fh_value {
    fh_kind kind;
    bool b;
    int64_t i;
    double f;
    rk_str s;
    const fh_value *items; /* of lists and objects */
    const rk_str *keys;    /* of objects */
    size_t n;
};

/* Positions in the schema. */
enum {
    FH_ID,
    FH_I8,
    FH_I16,
    FH_I32,
    FH_N, /* INT64, nullable */
    FH_M, /* INT64 */
    FH_F,
    FH_D, /* DOUBLE, nullable */
    FH_B,
    FH_S,
    FH_SN,  /* VARCHAR, nullable */
    FH_J,   /* nullable */
    FH_ARR, /* INT64, nullable */
    FH_A8,
    FH_AF,
    FH_AB,
    FH_SARR,
    FH_V,
    FH_META,
    FH_FIELDS,
};

typedef struct fh_table {
    rk_schema *schema;
    size_t rows;
    fh_value *cells; /* rows * FH_FIELDS, row by row */
    rk_column columns[FH_FIELDS];
    rk_arena *arena;
} fh_table;

rk_schema *fh_schema(bool dynamic, bool text_key); /* aborts on failure */
/* Cells are to be filled before fh_table_build(); FH_V needs none. */
fh_table *fh_table_new(size_t rows);
static inline fh_value *
fh_cell(const fh_table *t, size_t row, size_t field)
{
    return &t->cells[row * FH_FIELDS + field];
}
void fh_table_build(fh_table *t);
void fh_table_free(fh_table *t);

fh_value fh_int(int64_t v);
fh_value fh_float(double v);
fh_value fh_bool(bool v);
fh_value fh_string(const char *v);
fh_value fh_list(rk_arena *arena, size_t n, const fh_value *items);
/* A value from JSON text, by this code's own reader; aborts when malformed. */
fh_value fh_json(rk_arena *arena, const char *text);
void fh_json_print(rk_buf *out, const fh_value *v);

#endif
