/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Name rules of collections, fields, partitions and indexes, with the texts clients match; and
 * key-value lists.
 *
 * Every rule is: length, first character, other characters. The texts differ from kind to kind in
 * capitals and full stops, which is why each kind has a function of its own over the two shared
 * tests.
 */
#include <stdarg.h>
#include <stdio.h>

#include "access/access_private.h"

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* True when all but the first character are letters, digits, underscores or in |more|. */
static bool
rest_is_word(rk_str name, const char *more)
{
    for (size_t i = 1; i < name.len; i++) {
        char c = name.data[i];
        if (!is_letter(c) && !is_digit(c) && (c == '\0' || !strchr(more, c))) {
            return false;
        }
    }
    return true;
}

/* Names are printed whole, but a hostile one may be longer than the message. */
static rk_str
shown(rk_str name)
{
    return (rk_str){name.data, RK_MIN(name.len, (size_t)512)};
}

rk_code
rk__check_collection_name(const rk__limits *limits, rk_str name, rk_err *err)
{
    if (name.len == 0) {
        return rk_fail_tail(err, RK_EINVAL, "collection name should not be empty");
    }
    if (name.len > (size_t)limits->name_length) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid collection name: %.*s. the length of a collection name must be less than "
            "%" PRId64 " characters",
            RK_STR_ARG(shown(name)), limits->name_length);
    }
    if (!is_letter(name.data[0])) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid collection name: %.*s. the first character of a collection name must be an "
            "underscore or letter",
            RK_STR_ARG(shown(name)));
    }
    if (!rest_is_word(name, "")) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid collection name: %.*s. collection name can only contain numbers, letters and "
            "underscores",
            RK_STR_ARG(shown(name)));
    }
    return RK_OK;
}

rk_code
rk__check_partition_name(const rk__limits *limits, rk_str name, rk_err *err)
{
    rk_str p = rk_str_trim(name);

    if (p.len == 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "Invalid partition name: . Partition name should not be empty.");
    }
    if (p.len > (size_t)limits->name_length) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid partition name: %.*s. The length of a partition name must be less than "
            "%" PRId64 " characters.",
            RK_STR_ARG(shown(p)), limits->name_length);
    }
    if (!is_letter(p.data[0]) && !is_digit(p.data[0])) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid partition name: %.*s. The first character of a partition name must be an "
            "underscore or letter.",
            RK_STR_ARG(shown(p)));
    }
    if (!rest_is_word(p, "-")) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid partition name: %.*s. Partition name can only contain numbers, letters and "
            "underscores.",
            RK_STR_ARG(shown(p)));
    }
    return RK_OK;
}

rk_code
rk__check_index_name(const rk__limits *limits, rk_str name, rk_err *err)
{
    rk_str n = rk_str_trim(name);

    if (n.len == 0) {
        return RK_OK; /* the field's name is used */
    }
    if (n.len > (size_t)limits->name_length) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "Invalid index name: %.*s. The length of a index name must be less than %" PRId64
            " characters.",
            RK_STR_ARG(shown(n)), limits->name_length);
    }
    if (!is_letter(n.data[0])) {
        return rk_fail_tail(err, RK_EINVAL,
                            "Invalid index name: %.*s. The first character of a index name must be "
                            "an underscore or letter.",
                            RK_STR_ARG(shown(n)));
    }
    if (!rest_is_word(n, "[]")) {
        return rk_fail_tail(err, RK_EINVAL,
                            "Invalid index name: %.*s. Index name can only contain numbers, "
                            "letters, and underscores.",
                            RK_STR_ARG(shown(n)));
    }
    return RK_OK;
}

/* ---- fields ---- */

/* Words of the filter language; matched exactly, so `AND` is a legal name where only `and` is
 * listed. */
static const char *const keywords[] = {
    "$meta",
    "like",
    "exists",
    "EXISTS",
    "and",
    "or",
    "not",
    "in",
    "true",
    "TRUE",
    "True",
    "false",
    "FALSE",
    "False",
    "json_contains",
    "JSON_CONTAINS",
    "json_contains_all",
    "JSON_CONTAINS_ALL",
    "json_contains_any",
    "JSON_CONTAINS_ANY",
    "array_contains",
    "ARRAY_CONTAINS",
    "array_contains_all",
    "ARRAY_CONTAINS_ALL",
    "array_contains_any",
    "ARRAY_CONTAINS_ANY",
    "array_length",
    "ARRAY_LENGTH",
    "text_match",
    "TEXT_MATCH",
    "phrase_match",
    "PHRASE_MATCH",
    "random_sample",
    "RANDOM_SAMPLE",
};

static bool
is_keyword(rk_str name)
{
    for (size_t i = 0; i < RK_COUNT(keywords); i++) {
        if (rk_str_is(name, keywords[i])) {
            return true;
        }
    }
    return name.len == 4 && strncasecmp(name.data, "null", 4) == 0;
}

static rk_code RK_PRINTF(3, 4) fail_field(rk_err *err, rk_str name, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0) {
        text[0] = '\0';
    }
    va_end(args);
    return rk_fail(err, RK_EFIELD_NAME, "%s: field name invalid[field=%.*s]", text,
                   RK_STR_ARG(shown(name)));
}

rk_code
rk__check_field_name(const rk__limits *limits, rk_str name, rk_err *err)
{
    rk_str f = rk_str_trim(name);

    if (f.len == 0) {
        return fail_field(err, f, "field name should not be empty");
    }
    if (f.len > (size_t)limits->name_length) {
        return fail_field(
            err, f,
            "Invalid field name: %.*s. The length of a field name must be less than %" PRId64
            " characters.",
            RK_STR_ARG(shown(f)), limits->name_length);
    }
    if (is_keyword(f)) {
        return fail_field(err, f, "Invalid field name: %.*s. %.*s is keyword in milvus.",
                          RK_STR_ARG(f), RK_STR_ARG(f));
    }
    if (!is_letter(f.data[0])) {
        return fail_field(
            err, f,
            "Invalid field name: %.*s. The first character of a field name must be an underscore "
            "or letter.",
            RK_STR_ARG(shown(f)));
    }
    if (!rest_is_word(f, "")) {
        return fail_field(
            err, f,
            "Invalid field name: %.*s. Field name can only contain numbers, letters, and "
            "underscores.",
            RK_STR_ARG(shown(f)));
    }
    if (rk_str_is(f, "RowID") || rk_str_is(f, "Timestamp") || rk_str_is(f, "__virtual_pk__")) {
        return fail_field(
            err, f,
            "field name \"%.*s\" is reserved for internal use and cannot be used in user schemas",
            RK_STR_ARG(f));
    }
    return RK_OK;
}

rk_code
rk__fail_expected(rk_err *err, const char *expected, const char *actual, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0) {
        text[0] = '\0';
    }
    va_end(args);
    return rk_fail(err, RK_EINVAL, "%s: invalid parameter[expected=%s][actual=%s]", text, expected,
                   actual);
}

/* ---- key-value lists ---- */

rk_str
rk__kv_get(const pb_common_KeyValuePair_list *list, const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < list->n; i++) {
        rk_str have = list->data[i]->key;
        if (have.len == len && memcmp(have.data, key, len) == 0) {
            rk_str v = list->data[i]->value;
            return (rk_str){v.data ? v.data : "",
                            v.len}; /* present and empty differs from absent */
        }
    }
    return (rk_str){NULL, 0};
}

rk_code
rk__kv_add(rk_arena *arena, pb_common_KeyValuePair_list *list, rk_str key, rk_str value)
{
    size_t n = list->n;
    pb_common_KeyValuePair *pair = RK_ARENA_NEW(arena, pb_common_KeyValuePair);

    if ((n & (n - 1)) == 0) { /* full at powers of two: double */
        size_t cap = n ? n * 2 : 1;
        pb_common_KeyValuePair **grown = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair *, cap);
        if (!grown) {
            return RK_ENOMEM;
        }
        if (n > 0) {
            memcpy(grown, list->data, n * sizeof(*grown));
        }
        list->data = grown;
    }
    if (!pair) {
        return RK_ENOMEM;
    }
    pair->key = key;
    pair->value = value;
    list->data[list->n++] = pair;
    return RK_OK;
}

bool
rk__kv_same_set(const pb_common_KeyValuePair_list *a, const pb_common_KeyValuePair_list *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        bool found = false;
        for (size_t j = 0; j < b->n && !found; j++) {
            found = rk_str_eq(a->data[i]->key, b->data[j]->key) &&
                    rk_str_eq(a->data[i]->value, b->data[j]->value);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}
