/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets behind IN: sorted and distinct per kind; integers as a bitmap where they lie close together,
 * else, like texts, in a table of hashes of which a quarter is taken (of many values half), with a
 * bitmap of eight bits to a slot before it.
 *
 * A text of up to 16 bytes is two words and a length in its slot, so looking it up touches one line
 * of the table and compares no bytes; a longer one is hashed whole and compared. Floats are
 * looked up by their bits, zero and minus zero being one. Built once per compile, read by any
 * number of threads.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/seam.h"
#include "base/util.h"
#include "filter/filter_private.h"

#define LARGE      4096 /* values from which memory matters more than a second look */
#define NEAR_SMALL (UINT32_C(1) << 17) /* bits of integers that always get a bitmap: 16 KiB */
#define NEAR_MOST  (UINT32_C(1) << 23) /* and of those that may have one: 1 MiB */

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

/* log2 of the slots for |n| values: a quarter of them or fewer will be taken, half of many. */
static unsigned
slots_log2(size_t n)
{
    unsigned log2 = 5;
    while (((size_t)1 << log2) < n * (n > LARGE ? 2 : 4)) {
        log2++;
    }
    return log2;
}

static void
set_bit(uint64_t *bits, uint64_t at)
{
    bits[at / 64] |= UINT64_C(1) << (at % 64);
}

/* Integers in a span that a bitmap serves: one as large as the tables of hashes would be, or what
 * fits the first level cache. */
static rk_code
build_near(rk__set *set, rk_arena *arena)
{
    uint64_t span = (uint64_t)set->ints[set->ints_len - 1] - (uint64_t)set->ints[0];
    uint64_t most =
        RK_MIN(RK_MAX((uint64_t)NEAR_SMALL, 256 * (uint64_t)set->ints_len), (uint64_t)NEAR_MOST);
    uint64_t bits = 64;

    if (span >= most) {
        return RK_OK;
    }
    while (bits <= span) {
        bits *= 2;
    }
    uint64_t *near = RK_ARENA_ARRAY(arena, uint64_t, bits / 64);
    if (!near) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < set->ints_len; i++) {
        set_bit(near, (uint64_t)set->ints[i] - (uint64_t)set->ints[0]);
    }
    set->near = near;
    set->near_lo = set->ints[0];
    set->near_span = bits;
    return RK_OK;
}

/* A value that is not among the |n| ascending ones of |ints|. */
static int64_t
free_value(const int64_t *ints, size_t n)
{
    int64_t v = INT64_MIN;
    for (size_t i = 0; i < n && ints[i] == v; i++) {
        v++;
    }
    return v;
}

static rk_code
build_ints(rk__set *set, rk_arena *arena)
{
    unsigned log2 = slots_log2(set->ints_len);
    size_t slots = (size_t)1 << log2;
    int64_t *table = rk_arena_alloc(arena, slots * sizeof(*table));
    uint64_t *bits = RK_ARENA_ARRAY(arena, uint64_t, (slots << RK__BITS_PER_SLOT_LOG2) / 64);

    if (!table || !bits) {
        return RK_ENOMEM;
    }
    set->int_free = free_value(set->ints, set->ints_len);
    set->int_shift = 64 - log2;
    for (size_t i = 0; i < slots; i++) {
        table[i] = set->int_free;
    }
    for (size_t i = 0; i < set->ints_len; i++) {
        uint64_t hash = rk__int_hash(set->ints[i], set->seed);
        size_t at = hash >> set->int_shift;
        set_bit(bits, hash >> (set->int_shift - RK__BITS_PER_SLOT_LOG2));
        while (table[at] != set->int_free) {
            at = (at + 1) & (slots - 1);
        }
        table[at] = set->ints[i];
    }
    set->int_slots = table;
    set->int_bits = bits;
    return RK_OK;
}

static rk_code
build_texts(rk__set *set, rk_arena *arena)
{
    unsigned log2 = slots_log2(set->strings_len);
    size_t slots = (size_t)1 << log2;
    rk__text_slot *table = RK_ARENA_ARRAY(arena, rk__text_slot, slots);
    uint64_t *bits = RK_ARENA_ARRAY(arena, uint64_t, (slots << RK__BITS_PER_SLOT_LOG2) / 64);

    if (!table || !bits) {
        return RK_ENOMEM;
    }
    set->text_shift = 64 - log2;
    for (size_t i = 0; i < set->strings_len; i++) {
        rk__text_key key = rk__text_key_of(set->strings[i]);
        uint64_t hash = rk__text_hash(key.head, key.tail, key.len, set->seed);
        size_t at = hash >> set->text_shift;
        set_bit(bits, hash >> (set->text_shift - RK__BITS_PER_SLOT_LOG2));
        while (table[at].string) {
            at = (at + 1) & (slots - 1);
        }
        table[at] = (rk__text_slot){key.head, key.tail, key.len, (uint32_t)i + 1};
    }
    set->text_slots = table;
    set->text_bits = bits;
    for (size_t i = 0; i < set->strings_len; i++) {
        set->long_texts = set->long_texts || set->strings[i].len > 16;
    }
    if (set->strings_len <= RK__FEW_TEXTS && !set->long_texts) {
        set->few_texts_len = set->strings_len;
    }
    for (size_t i = 0; i < set->few_texts_len; i++) {
        set->few_texts[i] = rk__text_key_of(set->strings[i]);
    }
    return RK_OK;
}

static rk_code
build_tables(rk__set *set, rk_arena *arena)
{
    if (set->ints_len > 0) {
        RK_RET(build_near(set, arena));
        if (!set->near) {
            RK_RET(build_ints(set, arena));
        }
    }
    return set->strings_len > 0 ? build_texts(set, arena) : RK_OK;
}

/* Many floats are a set of the integers with the same bits, both zeros as one. */
static rk_code
build_floats(rk__set *set, rk_arena *arena)
{
    rk__set *bits = RK_ARENA_NEW(arena, rk__set);
    int64_t *ints = rk_arena_alloc(arena, set->floats_len * sizeof(*ints));

    if (!bits || !ints) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < set->floats_len; i++) {
        ints[i] = rk__float_bits(set->floats[i]);
    }
    bits->seed = set->seed;
    bits->ints = ints;
    bits->ints_len = distinct(ints, set->floats_len, sizeof(*ints), compare_ints);
    set->float_set = bits;
    return build_tables(bits, arena);
}

static uint64_t
seed_of_process(void)
{
    static _Atomic(uint64_t) kept; /* relaxed: whoever comes first makes it, the others take his */
    uint64_t seed = atomic_load_explicit(&kept, memory_order_relaxed);
    uint64_t none = 0;

    if (seed == 0) {
        const rk_random *random = rk_random_real();
        random->bytes(random->self, &seed, sizeof(seed));
        seed |= 1;
        if (!atomic_compare_exchange_strong(&kept, &none, seed)) {
            seed = none;
        }
    }
    return seed;
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
    set->seed = seed_of_process();
    set->only_ints = list->n > 0;
    for (size_t i = 0; i < list->n; i++) {
        rk__value_kind kind = list->data[i].kind;
        ints += kind == VK_INT || kind == VK_BOOL;
        floats += kind == VK_FLOAT;
        strings += kind == VK_STRING;
        set->only_ints = set->only_ints && kind == VK_INT;
    }
    set->only_strings = list->n > 0 && strings == list->n;
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
    RK_RET(build_tables(set, arena));
    if (set->floats_len > 0) {
        RK_RET(build_floats(set, arena));
    }
    *out = set;
    return RK_OK;
}

rk_code
rk__json_set_new(const rk__json_set **out, const rk__values *list, rk_arena *arena)
{
    rk__json_set *set = RK_ARENA_NEW(arena, rk__json_set);
    rk__values exact = {.data = RK_ARENA_ARRAY(arena, rk__value, list->n + 1)};
    rk__values doubles = {.data = RK_ARENA_ARRAY(arena, rk__value, list->n + 1)};
    size_t truths = 0;

    if (!set || !exact.data || !doubles.data) {
        return RK_ENOMEM;
    }
    exact.cap = doubles.cap = list->n + 1;
    for (size_t i = 0; i < list->n; i++) {
        rk__value v = list->data[i];
        if (v.kind == VK_BOOL) {
            set->truths[v.b] = true;
            truths++;
        } else if (v.kind == VK_LIST) {
            set->arrays = true;
        } else {
            exact.data[exact.n++] = v;
        }
        if (v.kind == VK_INT || v.kind == VK_FLOAT) {
            v.f = v.kind == VK_INT ? (double)v.i : v.f;
            v.kind = VK_FLOAT;
            doubles.data[doubles.n++] = v;
        }
    }
    RK_RET(rk__set_new(&set->exact, &exact, arena));
    RK_RET(rk__set_new(&set->doubles, &doubles, arena));
    set->all_numbers = doubles.n == list->n;
    set->all_texts = set->exact->only_strings && exact.n == list->n;
    set->all_truths = truths == list->n;
    *out = set;
    return RK_OK;
}

bool
rk__set_has_int(const rk__set *set, int64_t v)
{
    if (set->near) {
        uint64_t at = (uint64_t)v - (uint64_t)set->near_lo;
        return at < set->near_span && rk__bit_at(set->near, at);
    }
    if (!set->int_slots || v == set->int_free) {
        return false;
    }
    size_t mask = ((size_t)1 << (64 - set->int_shift)) - 1;
    size_t at = rk__int_hash(v, set->seed) >> set->int_shift;
    while (set->int_slots[at] != v) {
        if (set->int_slots[at] == set->int_free) {
            return false;
        }
        at = (at + 1) & mask;
    }
    return true;
}

bool
rk__set_has_float(const rk__set *set, double v)
{
    return v == v && set->float_set && rk__set_has_int(set->float_set, rk__float_bits(v));
}

bool
rk__set_has_string(const rk__set *set, rk_str v)
{
    rk__text_key key = rk__text_key_of(v);
    return rk__set_has_text(set, key.head, key.tail, key.len, v.data);
}
