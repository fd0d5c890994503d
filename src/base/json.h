/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON (RFC 8259): check, pull, look up without a tree, write.
 *
 * A value is a slice of the text with its type; nothing is copied until a string with escapes is
 * wanted. There are three ways to read:
 *   - rk_json_check() says whether a text is JSON. What is stored has passed it.
 *   - rk_json_reader pulls events and checks as it goes: for bodies of requests.
 *   - rk_json_root(), rk_json_find() and rk_json_iter walk a text that was checked before: for
 * filters, once per row. On a text that was not checked they stay inside the slice but what they
 * find means nothing.
 *
 * Rules: nesting at most RK_JSON_DEPTH_MAX; numbers that do not fit a double are refused, as are
 * NaN and Infinity; of two equal keys in one object the last one counts on lookup. A \u escape that
 * is half of a surrogate pair reads as U+FFFD.
 *
 * Threads: all state is the caller's; any thread. Nothing recurses and nothing allocates but the
 * arena and buffer given.
 */
#ifndef RK_BASE_JSON_H
#define RK_BASE_JSON_H

#include "base/mem.h"

#define RK_JSON_DEPTH_MAX       1088 /* of any text: a value that may be stored, and a body around it */
#define RK_JSON_VALUE_DEPTH_MAX 1024 /* of a value that is stored */

typedef enum rk_json_type {
    RK_JSON_NONE, /* no value */
    RK_JSON_NULL,
    RK_JSON_BOOL,
    RK_JSON_INT,    /* a number without fraction and exponent that fits int64_t */
    RK_JSON_DOUBLE, /* any other number */
    RK_JSON_STRING,
    RK_JSON_ARRAY,
    RK_JSON_OBJECT
} rk_json_type;

typedef struct rk_json_value {
    rk_json_type type;
    rk_str raw; /* as written, blanks around it not included; a string with its quotes */
} rk_json_value;

/* ---- check ---- */

#define RK_JSON_UTF8        1u /* refuse ill-formed UTF-8 */
#define RK_JSON_OBJECT_ONLY 2u /* refuse anything but an object */
#define RK_JSON_VALUE       4u /* refuse what nests deeper than RK_JSON_VALUE_DEPTH_MAX */

/* RK_OK, or RK_EINVAL with "JSON at byte N: what is wrong". */
RK_MUST_CHECK rk_code rk_json_check(rk_str text, unsigned flags, rk_err *err);

/* ---- pull ---- */

typedef enum rk_json_event {
    RK_JSON_AT_SCALAR,     /* null, bool, number, string */
    RK_JSON_AT_KEY,        /* value.raw is the key's string */
    RK_JSON_AT_OBJECT,     /* { */
    RK_JSON_AT_OBJECT_END, /* } */
    RK_JSON_AT_ARRAY,      /* [ */
    RK_JSON_AT_ARRAY_END,  /* ] */
    RK_JSON_AT_END         /* the whole text has been read; stays so */
} rk_json_event;

typedef struct rk_json_reader {
    const char *base, *p, *end;
    uint64_t objects[RK_JSON_DEPTH_MAX / 64]; /* bit per level: object or array */
    uint32_t depth;
    uint32_t depth_max; /* at most RK_JSON_DEPTH_MAX */
    uint8_t expect;
    rk_err *err;
} rk_json_reader;

void rk_json_reader_init(rk_json_reader *r, rk_str text, rk_err *err);
/* Next event; |value| is set for AT_SCALAR and AT_KEY, else its type alone. RK_EINVAL at the first
 * mistake; then stop. */
RK_MUST_CHECK rk_code rk_json_next(rk_json_reader *r, rk_json_event *event, rk_json_value *value);
/* Where a value is due (start of text, after a key, in an array): reads all of it. At the end of an
 * array: type RK_JSON_NONE, and the array is closed. */
RK_MUST_CHECK rk_code rk_json_next_value(rk_json_reader *r, rk_json_value *value);
/* In an object: the next key and its whole value; at its end key->type is RK_JSON_NONE and the
 * object is closed. */
RK_MUST_CHECK rk_code rk_json_next_member(rk_json_reader *r, rk_json_value *key,
                                          rk_json_value *value);

/* ---- values ---- */

/* False when the value is of another type (or out of range). _f64 and _f32 take both kinds of
 * number. */
bool rk_json_get_bool(rk_json_value v, bool *out);
bool rk_json_get_i64(rk_json_value v, int64_t *out);
bool rk_json_get_f64(rk_json_value v, double *out);
bool rk_json_get_f32(rk_json_value v, float *out); /* nearest; false when past the largest float */
/* The decoded string: a view of the text when it has no escapes, else in |arena|. RK_EINVAL when
 * not a string, RK_ENOMEM. */
RK_MUST_CHECK rk_code rk_json_get_str(rk_json_value v, rk_str *out, rk_arena *arena);
/* True when the value is a string that decodes to |text|; allocates nothing. */
bool rk_json_str_is(rk_json_value v, rk_str text);

/* ---- look up in checked text ---- */

/* The value that |text| holds; type RK_JSON_NONE when it is blank. */
rk_json_value rk_json_root(rk_str text);
/*
 * The value at |path| below |v|: a step names a key of an object, or is the decimal index of an
 * array element ("0", "17", no leading zeros). False, and type RK_JSON_NONE, when there is none.
 * Zero steps: |v| itself.
 */
bool rk_json_find(rk_json_value v, const rk_str *path, size_t path_len, rk_json_value *out);
bool rk_json_find_key(rk_json_value object, rk_str key, rk_json_value *out);
bool rk_json_find_index(rk_json_value array, size_t index, rk_json_value *out);
size_t rk_json_len(rk_json_value v); /* elements of an array, members of an object; else 0 */

typedef struct rk_json_iter {
    const char *p, *end;
    bool object;
} rk_json_iter;

/* Over the elements of an array or the members of an object; over nothing for other types. */
void rk_json_iter_init(rk_json_iter *iter, rk_json_value v);
/* |key| may be NULL; for arrays its type is RK_JSON_NONE. False at the end. */
bool rk_json_iter_next(rk_json_iter *iter, rk_json_value *key, rk_json_value *value);

/* ---- write ---- */

/*
 * Appends to |out|, putting commas and colons. Errors stick in out->failed (memory, nesting past
 * RK_JSON_DEPTH_MAX). Zero-initialise with the buffer: rk_json_writer w = {.out = &buf};
 */
typedef struct rk_json_writer {
    rk_buf *out;
    uint32_t depth;
    bool after_key;
    uint64_t started[RK_JSON_DEPTH_MAX / 64]; /* bit per level: something was written there */
} rk_json_writer;

void rk_json_object(rk_json_writer *w);
void rk_json_object_end(rk_json_writer *w);
void rk_json_array(rk_json_writer *w);
void rk_json_array_end(rk_json_writer *w);
void rk_json_key(rk_json_writer *w, rk_str key);
void rk_json_str(rk_json_writer *w, rk_str text); /* ill-formed UTF-8 becomes U+FFFD */
void rk_json_i64(rk_json_writer *w, int64_t value);
void rk_json_u64(rk_json_writer *w, uint64_t value);
void rk_json_f32(rk_json_writer *w,
                 float value); /* shortest text that reads back as the same float; NaN, Inf: null */
void rk_json_f64(rk_json_writer *w, double value); /* the same for double */
void rk_json_bool(rk_json_writer *w, bool value);
void rk_json_null(rk_json_writer *w);
void rk_json_raw(rk_json_writer *w, rk_str json); /* one value as it stands */

#define RK_JSON_NUMBER_MAX 32                      /* bytes rk_json_format_* writes at most */
size_t rk_json_format_f32(char *out, float value); /* finite; no terminator; the length */
size_t rk_json_format_f64(char *out, double value);

#endif
