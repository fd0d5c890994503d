/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets behind IN: sorted and distinct per kind, with a hash table when there are many.
 *
 * Floats are looked up by binary search (so that 0.0 and -0.0 are one), integers and texts by open
 * addressing at a load of at most one half; short lists are scanned. Built once per compile, read
 * by any number of threads.
 */
#include <stdlib.h>

#include "base/util.h"
#include "filter/filter_private.h"

#define HASH_FROM 12 /* distinct values from which a table beats a scan */

static int
compare_ints(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int
compare_floats(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static int
compare_strings(const void *a, const void *b)
{
    return rk__text_cmp(*(const rk_str *)a, *(const rk_str *)b);
}

/* Sorts and drops repeats; returns how many are left. */
static size_t
distinct(void *base, size_t n, size_t size, int (*compare)(const void *, const void *))
{
    char *bytes = base;
    size_t kept = n > 0 ? 1 : 0;
    if (n > 1) {
        qsort(base, n, size, compare);
    }
    for (size_t i = 1; i < n; i++) {
        if (compare(bytes + (kept - 1) * size, bytes + i * size) != 0) {
            memmove(bytes + kept * size, bytes + i * size, size);
            kept++;
        }
    }
    return kept;
}

static rk_code
build_table(rk__set *set, rk_arena *arena)
{
    size_t n = set->ints_len ? set->ints_len : set->strings_len;
    size_t cap = 32;
    if (n < HASH_FROM || (set->ints_len && set->strings_len)) {
        return RK_OK;
    }
    while (cap < n * 2) {
        cap *= 2;
    }
    uint32_t *slots = RK_ARENA_ARRAY(arena, uint32_t, cap);
    if (!slots) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = set->ints_len ? rk_hash_u64((uint64_t)set->ints[i])
                                      : rk_hash64(set->strings[i].data, set->strings[i].len);
        size_t at = hash & (cap - 1);
        while (slots[at]) {
            at = (at + 1) & (cap - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    set->slots = slots;
    set->mask = cap - 1;
    return RK_OK;
}

rk_code
rk__set_new(const rk__set **out, const rk__values *list, rk_arena *arena)
{
    rk__set *set = RK_ARENA_NEW(arena, rk__set);
    size_t ints = 0;
    size_t floats = 0;
    size_t strings = 0;

    if (!set) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < list->n; i++) {
        rk__value_kind kind = list->data[i].kind;
        ints += kind == VK_INT || kind == VK_BOOL;
        floats += kind == VK_FLOAT;
        strings += kind == VK_STRING;
    }
    int64_t *i64 = RK_ARENA_ARRAY(arena, int64_t, ints + 1);
    double *f64 = RK_ARENA_ARRAY(arena, double, floats + 1);
    rk_str *str = RK_ARENA_ARRAY(arena, rk_str, strings + 1);
    if (!i64 || !f64 || !str) {
        return RK_ENOMEM;
    }
    ints = floats = strings = 0;
    for (size_t i = 0; i < list->n; i++) {
        rk__value v = list->data[i];
        if (v.kind == VK_INT) {
            i64[ints++] = v.i;
        } else if (v.kind == VK_BOOL) {
            i64[ints++] = v.b;
        } else if (v.kind == VK_FLOAT && v.f == v.f) {
            f64[floats++] = v.f;
        } else if (v.kind == VK_STRING) {
            str[strings++] = v.s;
        }
    }
    set->ints = i64;
    set->ints_len = distinct(i64, ints, sizeof(*i64), compare_ints);
    set->floats = f64;
    set->floats_len = distinct(f64, floats, sizeof(*f64), compare_floats);
    set->strings = str;
    set->strings_len = distinct(str, strings, sizeof(*str), compare_strings);
    RK_RET(build_table(set, arena));
    *out = set;
    return RK_OK;
}

bool
rk__set_has_int(const rk__set *set, int64_t v)
{
    if (!set->slots || set->ints_len == 0) {
        return set->ints_len > 0 &&
               bsearch(&v, set->ints, set->ints_len, sizeof(v), compare_ints) != NULL;
    }
    for (uint64_t at = rk_hash_u64((uint64_t)v) & set->mask; set->slots[at];
         at = (at + 1) & set->mask) {
        if (set->ints[set->slots[at] - 1] == v) {
            return true;
        }
    }
    return false;
}

bool
rk__set_has_float(const rk__set *set, double v)
{
    return v == v && set->floats_len > 0 &&
           bsearch(&v, set->floats, set->floats_len, sizeof(v), compare_floats) != NULL;
}

bool
rk__set_has_string(const rk__set *set, rk_str v)
{
    if (!set->slots || set->strings_len == 0 || set->ints_len > 0) {
        for (size_t i = 0; i < set->strings_len && set->strings_len < HASH_FROM; i++) {
            if (rk_str_eq(set->strings[i], v)) {
                return true;
            }
        }
        return set->strings_len >= HASH_FROM &&
               bsearch(&v, set->strings, set->strings_len, sizeof(v), compare_strings) != NULL;
    }
    for (uint64_t at = rk_hash64(v.data, v.len) & set->mask; set->slots[at];
         at = (at + 1) & set->mask) {
        if (rk_str_eq(set->strings[set->slots[at] - 1], v)) {
            return true;
        }
    }
    return false;
}
