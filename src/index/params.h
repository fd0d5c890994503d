/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of index kinds and what their parameters may be, private to this folder.
 *
 * A kind names its parameters of CreateIndex and of a search; each has a type, a range or a list of
 * words, and the value that counts when it is absent. The public sentences for wrong values follow
 * from the type (params_build.c, params_search.c); what relates one value to another or to the
 * dimension is written out there by kind.
 */
#ifndef RK_INDEX_PARAMS_H
#define RK_INDEX_PARAMS_H

#include "index/index_private.h"

#define RK__BUILD_TAIL                                                                             \
    ": invalid parameter[expected=valid index params][actual=invalid index params]"

typedef enum rk__param_type {
    RK__PARAM_NONE, /* ends a list */
    RK__PARAM_INT,
    RK__PARAM_FLOAT,
    RK__PARAM_FLOAT_OPEN, /* the upper bound itself is out */
    RK__PARAM_BOOL,
    RK__PARAM_WORD,
} rk__param_type;

/* A closed list of words, and the sentence for any other: before, the value, after; before alone
 * when |after| is NULL. */
typedef struct rk__words {
    const char *const *words; /* ends with NULL */
    bool any_case;
    const char *before;
    const char *after;
} rk__words;

typedef struct rk__param_spec {
    const char *name;
    rk__param_type type;
    bool required;
    double min;
    double max;
    double fallback; /* counts when absent; words: number of the word, -1: none */
    const rk__words *words;
} rk__param_spec;

#define RK__BUILD_PARAMS_MAX  14
#define RK__SEARCH_PARAMS_MAX 8

typedef struct rk__kind_spec {
    const char *name;
    rk__kind_id id;
    unsigned types;   /* RK__T_ bits */
    unsigned metrics; /* a bit per rk_metric that the kind has, of those the type allows */
    bool automatic;   /* AUTOINDEX may choose it */
    bool no_mmap;     /* reads through memory or disk of its own */
    rk__param_spec build[RK__BUILD_PARAMS_MAX];
    rk__param_spec search[RK__SEARCH_PARAMS_MAX];
} rk__kind_spec;

#define RK__T_F32    1u
#define RK__T_HALF   2u
#define RK__T_I8     4u
#define RK__T_BIN    8u
#define RK__T_SPARSE 16u

extern const rk__kind_spec rk__kind_table[];
extern const size_t rk__kind_table_len;

unsigned rk__type_bit(rk_vector_type type);
const char *rk__type_name(rk_vector_type type); /* "FloatVector" */
const rk__kind_spec *rk__kind_find(rk_str name);
const rk__kind_spec *rk__kind_spec_of(rk__kind_id kind); /* NULL: no such number */
/* True for an absent name and AUTOINDEX. */
bool rk__kind_is_auto(rk_str name);
/* Whether a field of |type| may be searched by |metric| at all. */
bool rk__metric_of_type(rk_vector_type type, rk_metric metric);

/* The number of the word |text| names, or -1. */
int rk__word_find(const rk__words *words, rk_str text);

/*
 * Values as a build or search uses them: what the caller sent, cut to the range, or the value of
 * the table. |name| must be a parameter of the kind.
 */
int64_t rk__build_int(rk__kind_id kind, rk_params params, const char *name);
double rk__build_float(rk__kind_id kind, rk_params params, const char *name);
bool rk__build_bool(rk__kind_id kind, rk_params params, const char *name);
/* The word as the table spells it; NULL when absent and without a default. */
const char *rk__build_word(rk__kind_id kind, rk_params params, const char *name);
int64_t rk__search_int(rk__kind_id kind, rk_params params, const char *name);
double rk__search_float(rk__kind_id kind, rk_params params, const char *name);
bool rk__search_bool(rk__kind_id kind, rk_params params, const char *name);

#endif
