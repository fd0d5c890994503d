/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter language: compile an expression against a schema, evaluate it over chunks of rows.
 *
 * Compile: lexer, parser (explicit stack; depth at most 256, terms at most 65,536 beside the
 * literals of lists, text at most 64 MiB), type checker, template values filled in, constants
 * folded. Evaluate: vectorised, one bit per row; three-valued logic inside, a row passes when the
 * expression is true (not null). The texts of errors are those of the public API (spec: filter,
 * errors section 6.6).
 *
 * Threads: a compiled filter is immutable; any number of threads may evaluate it. Scratch comes
 * from the arena.
 */
#ifndef RK_FILTER_FILTER_H
#define RK_FILTER_FILTER_H

#include "model/column.h"

typedef struct rk_filter rk_filter;

typedef struct rk_template {
    rk_str name;
    const pb_schema_TemplateValue *value;
} rk_template;

/* What an error of the caller's expression is wrapped in: "failed to create query plan: cannot
 * parse expression: ..." is the default. */
typedef struct rk_filter_options {
    const rk_template *templates;
    size_t templates_len;
    const char *what; /* "query plan" or "delete plan" */
    int64_t now_ms;   /* wall clock, for time functions */
    uint64_t seed;    /* of random samples */
} rk_filter_options;

/* |expr| must not be blank. Lives in |arena|, borrowing |schema| and nothing of |expr|. */
RK_MUST_CHECK rk_code rk_filter_compile(const rk_filter **out, rk_str expr, const rk_schema *schema,
                                        const rk_filter_options *options, rk_arena *arena,
                                        rk_err *err);

/* Positions (in schema->fields) of the fields it reads. */
const uint32_t *rk_filter_fields(const rk_filter *filter, size_t *n);

/* One chunk of rows: |columns[i]| is the column of schema field position i, needed only for
 * rk_filter_fields(). */
typedef struct rk_filter_chunk {
    size_t rows;
    const rk_column *columns;
} rk_filter_chunk;

/* Writes bit i of |words| (whole words for |rows| bits; bits past rows are zero) = row i passes.
 * Division by zero and overflow of integer arithmetic follow the spec sheet. RK_ENOMEM, or an
 * RK_ESEGCORE-class error with the public text. */
RK_MUST_CHECK rk_code rk_filter_eval(const rk_filter *filter, const rk_filter_chunk *chunk,
                                     uint64_t *words, rk_arena *arena, rk_err *err);

/* When the whole expression is `pk == x` or `pk in [...]`: the keys (in the arena of compile) and
 * true. */
bool rk_filter_primary_keys(const rk_filter *filter, const rk_pk **keys, size_t *n);
/* When rows can only pass with one of these keys (a conjunct of the kind above): the same, for
 * point lookups before evaluation. */
bool rk_filter_primary_key_bound(const rk_filter *filter, const rk_pk **keys, size_t *n);
/* True when the expression is constant true, or constant false. */
bool rk_filter_is_constant(const rk_filter *filter, bool *value);

/* True when it gives the same rows at any time: no time functions, no random sampling. */
bool rk_filter_is_stable(const rk_filter *filter);

/* A canonical print for tests: parse(print(x)) prints the same. */
rk_str rk_filter_print(const rk_filter *filter, rk_arena *arena);

/* Output field expressions such as meta["a"]["b"]: NULL-terminated use by the proxy for dynamic
 * fields. */
typedef struct rk_json_path {
    rk_str *keys; /* decoded; array indexes as decimal text */
    size_t n;
} rk_json_path;
/* Parses `name`, `name["a"][0]`: the field (static, or $meta with the name as first key when
 * dynamic) and the path below it. */
RK_MUST_CHECK rk_code rk_filter_parse_path(rk_str text, const rk_schema *schema,
                                           const rk_field **field, rk_json_path *path,
                                           rk_arena *arena, rk_err *err);

#endif
