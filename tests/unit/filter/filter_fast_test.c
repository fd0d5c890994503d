/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every fast path against a plain one: the kernels of each instruction set against loops written
 * here, sets and divisions against their definition, and filters over many rows against the same
 * filter over one row at a time, where no word of 64 rows is full and nothing behind a text may be
 * read, so that the plain code answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* after those it needs */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/seam.h"
#include "filter/kernel.h"
#include "filter_help.h"

static const char *const names[] = {"scalar", "avx2", "avx512"};

static rk_rng rng;

static uint32_t
below(uint32_t n)
{
    return (uint32_t)(rk_rng_next(&rng) % n);
}

/* ---- kernels ---- */

static const int64_t odd_ints[] = {
    INT64_MIN, INT64_MIN + 1, -129,      -128,          -1,       0, 1, 127, 128,
    INT16_MAX, INT32_MIN,     INT32_MAX, INT64_MAX - 1, INT64_MAX};

static int64_t
some_int(void)
{
    return below(2) ? odd_ints[below(RK_COUNT(odd_ints))] : (int64_t)below(9) - 4;
}

static double
some_float(void)
{
    static const double odd[] = {0.0, -0.0, 1.5, -1.5, 1e308, -1e308, 5e-324, 1e38};
    uint32_t kind = below(12);
    return kind == 0   ? (double)NAN
           : kind == 1 ? HUGE_VAL
           : kind == 2 ? -HUGE_VAL
           : kind < 8  ? odd[below(RK_COUNT(odd))]
                       : (double)below(7) - 3;
}

/* One that a float holds or rounds to infinity. */
static double
some_single(void)
{
    double v = some_float();
    return fabs(v) > 1e300 ? copysign(HUGE_VAL, v) : v;
}

#define WORDS 5

#define CHECK_RANGE(name, lane, type, member, some)                                                \
    static void name(const rk__filter_kernels *k)                                                  \
    {                                                                                              \
        for (int round = 0; round < 300; round++) {                                                \
            type values[64 * WORDS];                                                               \
            char moved[sizeof(values) + 64];                                                       \
            uint64_t got[WORDS];                                                                   \
            size_t words = 1 + below(WORDS);                                                       \
            size_t shift = below(9);                                                               \
            rk__range r = {0};                                                                     \
            for (size_t i = 0; i < 64 * WORDS; i++) {                                              \
                values[i] = (type)some();                                                          \
            }                                                                                      \
            type lo = (type)some();                                                                \
            type hi = (type)some();                                                                \
            r.member##_lo = (__typeof__(r.member##_lo))lo;                                         \
            r.member##_hi = (__typeof__(r.member##_hi))hi;                                         \
            memcpy(moved + shift, values, sizeof(values));                                         \
            k->range[lane](moved + shift, words, &r, got);                                         \
            for (size_t i = 0; i < 64 * words; i++) {                                              \
                bool want = values[i] >= lo && values[i] <= hi;                                    \
                assert_int_equal(got[i / 64] >> (i % 64) & 1, want);                               \
            }                                                                                      \
        }                                                                                          \
    }

CHECK_RANGE(check_i8, LANE_I8, int8_t, i, some_int)
CHECK_RANGE(check_i16, LANE_I16, int16_t, i, some_int)
CHECK_RANGE(check_i32, LANE_I32, int32_t, i, some_int)
CHECK_RANGE(check_i64, LANE_I64, int64_t, i, some_int)
CHECK_RANGE(check_f32, LANE_F32, float, f, some_single)
CHECK_RANGE(check_f64, LANE_F64, double, f, some_float)

static void
check_ranges(const rk__filter_kernels *k)
{
    check_i8(k);
    check_i16(k);
    check_i32(k);
    check_i64(k);
    check_f32(k);
    check_f64(k);
}

static void
check_lengths(const rk__filter_kernels *k)
{
    uint64_t offsets[64 * WORDS + 1] = {below(1000)};
    uint64_t got[WORDS];

    for (int round = 0; round < 200; round++) {
        uint64_t lo = below(6);
        uint64_t hi = below(4) ? lo + below(5) : UINT32_MAX;
        for (size_t i = 0; i < 64 * WORDS; i++) {
            offsets[i + 1] = offsets[i] + (below(20) ? below(9) : UINT64_C(5000000000));
        }
        k->lengths(offsets, WORDS, lo, hi, got);
        for (size_t i = 0; i < 64 * WORDS; i++) {
            uint64_t len = offsets[i + 1] - offsets[i];
            assert_int_equal(got[i / 64] >> (i % 64) & 1, len >= lo && len <= hi);
        }
        offsets[0] = below(1000);
    }
}

static void
check_trios(const rk__filter_kernels *k)
{
    char text[64 * WORDS + 64];
    char want[64];
    uint64_t got[WORDS];

    for (int round = 0; round < 200; round++) {
        size_t last = below(64);
        for (size_t i = 0; i < sizeof(text); i++) {
            text[i] = (char)("ab\xff"[below(3)]);
        }
        for (size_t i = 0; i < sizeof(want); i++) {
            want[i] = (char)("ab\xff"[below(3)]);
        }
        k->trios(text, WORDS, want, last, got);
        for (size_t i = 0; i < 64 * WORDS; i++) {
            bool is = text[i] == want[0] && text[i + last / 2] == want[last / 2] &&
                      text[i + last] == want[last];
            assert_int_equal(got[i / 64] >> (i % 64) & 1, is);
        }
    }
}

static void
test_kernels(void **state)
{
    (void)state;
    rk_rng_init(&rng, 11);
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        const rk__filter_kernels *k = rk__filter_kernels_find(names[i]);
        if (k) {
            assert_string_equal(k->name, names[i]);
            check_ranges(k);
            check_lengths(k);
            check_trios(k);
        }
    }
    assert_null(rk__filter_kernels_find("abacus"));
    assert_non_null(rk__filter_kernels_find("scalar"));
    assert_non_null(rk__filter_kernels_get());
}

/* ---- JSON ---- */

static const char *const keys[] = {
    "a",   "a",       "b",      "k",    "ab",          "na\xc3\xafve",
    "x y", "\\u0061", "a\\\"b", "\\\\", "na\\u00efve", "{\\\"a\\\":",
    "0",   "",        ":",
};

static const char *const scalars[] = {
    "1",
    "0",
    "-5",
    "-0",
    "17",
    "1.0",
    "1e2",
    "1234567",
    "12345678",
    "-123456789012345678",
    "99999999999999999999",
    "2.5",
    "null",
    "true",
    "false",
    "\"x\"",
    "\"y\"",
    "\"\"",
    "\"a\"",
    "\"x\\\"y\"",
    "\"\\u0078\"",
    "\"{\\\"a\\\":1}\"",
    "\"a\\\\\"",
    "\"long text with a comma, a ] and a } and \\n more of it so that words end inside\"",
};

static void
put_blanks(rk_buf *out)
{
    static const char *const blanks[] = {"", "", "", "", " ", "\n\t", "    "};
    rk_buf_str(out, rk_str_from(blanks[below(RK_COUNT(blanks))]));
}

/* Recursive; |depth| is at most 4. */
static void
put_json(rk_buf *out, unsigned depth)
{
    uint32_t kind = depth > 0 ? below(4) : 3;
    uint32_t n = below(depth > 2 ? 9 : 4);

    put_blanks(out);
    if (kind > 1) {
        rk_buf_str(out, rk_str_from(scalars[below(RK_COUNT(scalars))]));
        put_blanks(out);
        return;
    }
    rk_buf_byte(out, kind == 0 ? '{' : '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0) {
            rk_buf_byte(out, ',');
        }
        put_blanks(out);
        if (kind == 0) {
            rk_buf_printf(out, "\"%s\"", keys[below(RK_COUNT(keys))]);
            put_blanks(out);
            rk_buf_byte(out, ':');
        }
        put_json(out, depth - 1);
    }
    put_blanks(out);
    rk_buf_byte(out, kind == 0 ? '}' : ']');
    put_blanks(out);
}

/* Mostly an object at the top. */
static void
put_row(rk_buf *out)
{
    size_t start = out->len;
    do {
        out->len = start;
        put_json(out, 4);
    } while (below(10) &&
             *rk_str_trim((rk_str){(char *)out->data + start, out->len - start}).data != '{');
    assert_int_equal(rk_json_check((rk_str){(char *)out->data + start, out->len - start}, 0, NULL),
                     RK_OK);
}

static void
check_json(const rk__filter_kernels *k, rk_str text)
{
    static const char *const wanted[] = {"a", "b", "ab", "x y", ":", "na\xc3\xafve", "nowhere"};
    rk_json_value root = rk_json_root(text);
    char quoted[32];

    for (size_t i = 0; i < RK_COUNT(wanted); i++) {
        int len = snprintf(quoted, sizeof(quoted), "\"%s\"", wanted[i]);
        rk__json_key key = {quoted, (size_t)len, wanted[i][0] != 'n' || wanted[i][1] != 'a'};
        rk_json_value want;
        const char *at = NULL;
        bool has = rk_json_find_key(root, rk_str_from(wanted[i]), &want);
        rk__json_found is = k->json_key(text.data, text.len, &key, &at);
        if (is == KEY_ASK) {
            assert_non_null(memmem(text.data, text.len, "\\u", 2));
            continue;
        }
        assert_int_equal(is == KEY_FOUND, has);
        while (has && (*at == ' ' || *at == '\n' || *at == '\t')) {
            at++;
        }
        if (has) {
            assert_ptr_equal(at, want.raw.data);
        }
        if (has && (want.type == RK_JSON_OBJECT || want.type == RK_JSON_ARRAY)) {
            assert_ptr_equal(k->json_end(at, text.data + text.len), at + want.raw.len);
        }
    }
}

static void
test_json_kernels(void **state)
{
    (void)state;
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        const rk__filter_kernels *k = rk__filter_kernels_find(names[i]);
        rk_rng_init(&rng, 12);
        for (int round = 0; k && round < 3000; round++) {
            rk_buf buf = {0};
            put_row(&buf);
            size_t len = buf.len;
            for (int pad = 0; pad < 128; pad++) { /* what stands behind says nothing */
                rk_buf_byte(&buf, (uint8_t)("\"{}a\\:"[below(6)]));
            }
            check_json(k, (rk_str){(char *)buf.data, len});
            rk_buf_deinit(&buf);
        }
    }
}

/* ---- filters: many rows against one at a time ---- */

/* Texts that share beginnings, ends and lengths. */
static rk_str
some_text(rk_arena *arena)
{
    static const char *const heads[] = {"", "r", "a", "ab", "user_", "https://example.org/"};
    static const char *const middles[] = {"",     "",          "amber", "x", "caf\xc3\xa9",
                                          "ambe", "amberamber"};
    static const char *const tails[] = {"", "", "a", "77", "stone", ".html-and-more-of-it"};
    rk_str text = rk_arena_printf(arena, "%s%s%u%s", heads[below(6)], middles[below(7)], below(30),
                                  tails[below(6)]);
    if (below(4) == 0) {
        text.len = below((uint32_t)text.len + 1);
    } else if (below(20) == 0) {
        ((char *)(uintptr_t)text.data)[below((uint32_t)text.len)] = '\0';
    } else if (below(20) == 0) {
        text = rk_arena_printf(arena, "%.*s%0*u", RK_STR_ARG(text), 1 + (int)below(300), 7u);
    }
    return text;
}

static void *blocks[FH_FIELDS * 2];

/* Columns in blocks of their own size: instrumented builds find what is read beyond them. */
static void
tighten(fh_table *t)
{
    for (size_t i = 0; i < FH_FIELDS; i++) {
        rk_column *c = &t->columns[i];
        size_t size = c->offsets ? c->offsets[t->rows] : rk_type_bytes(c->field->type) * t->rows;
        size_t offsets = (t->rows + 1) * sizeof(uint64_t);
        blocks[2 * i] = size ? rk_alloc(size) : NULL;
        if (size) {
            memcpy(blocks[2 * i], c->data, size);
        }
        c->data = blocks[2 * i];
        blocks[2 * i + 1] = c->offsets ? rk_alloc(offsets) : NULL;
        if (c->offsets) {
            memcpy(blocks[2 * i + 1], c->offsets, offsets);
            c->offsets = blocks[2 * i + 1];
        }
    }
}

static void
free_table(fh_table *t)
{
    for (size_t i = 0; i < RK_COUNT(blocks); i++) {
        rk_free(blocks[i]);
        blocks[i] = NULL;
    }
    fh_table_free(t);
}

static fh_table *
some_table(size_t rows)
{
    fh_table *t = fh_table_new(rows);
    rk_buf json = {0};
    uint64_t *offsets = RK_ARENA_ARRAY(t->arena, uint64_t, rows + 1);

    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < FH_FIELDS; i++) {
            const rk_field *field = &t->schema->fields[i];
            fh_value *cell = fh_cell(t, row, i);
            if (i == FH_V || (field->nullable && below(5) == 0)) {
                continue;
            }
            switch ((int)field->type) {
            case RK_BOOL:
                *cell = fh_bool(below(2));
                break;
            case RK_FLOAT:
            case RK_DOUBLE:
                *cell = fh_float(below(3) ? (double)below(40) / 4 - 3 : some_float());
                cell->f = field->type == RK_FLOAT ? (double)(float)cell->f : cell->f;
                break;
            case RK_VARCHAR:
                *cell = (fh_value){.kind = FH_STRING, .s = some_text(t->arena)};
                break;
            case RK_JSON:
                *cell = fh_json(t->arena, "{}");
                break;
            case RK_ARRAY: {
                fh_value items[8];
                size_t n = below(8);
                for (size_t k = 0; k < n; k++) {
                    rk_type e = field->element;
                    items[k] = e == RK_VARCHAR
                                   ? (fh_value){.kind = FH_STRING, .s = some_text(t->arena)}
                               : e == RK_BOOL  ? fh_bool(below(2))
                               : e == RK_FLOAT ? fh_float((double)below(12))
                                               : fh_int((int64_t)below(12) - 3);
                }
                *cell = fh_list(t->arena, n, items);
                break;
            }
            default:
                *cell = fh_int(below(4) ? (int64_t)below(60) - 9 : some_int());
                break;
            }
        }
    }
    fh_table_build(t);
    for (size_t row = 0; row < rows; row++) {
        rk_column *j = &t->columns[FH_J];
        if (!rk_column_is_null(j, row)) {
            put_row(&json);
        }
        offsets[row + 1] = json.len;
    }
    char *data = rk_arena_alloc(t->arena, json.len + 1);
    memcpy(data, json.len ? (char *)json.data : "", json.len);
    t->columns[FH_J].data = data;
    t->columns[FH_J].offsets = offsets;
    rk_buf_deinit(&json);
    tighten(t);
    return t;
}

/* As much of one as the language takes. */
static void
put_text(rk_buf *out, rk_arena *arena)
{
    rk_str text = some_text(arena);
    text.len = strnlen(text.data, text.len);
    text.len = RK_MIN(text.len, rk_utf8_invalid_at(text));
    rk_buf_printf(out, "'%.*s'", RK_STR_ARG(text));
}

static void
put_list(rk_buf *out, rk_arena *arena, bool texts, unsigned n, int64_t scale)
{
    for (unsigned i = 0; i < n; i++) {
        rk_buf_str(out, i ? RK_STR(", ") : RK_STR("["));
        if (texts) {
            put_text(out, arena);
        } else {
            rk_buf_printf(out, "%lld", (long long)(((int64_t)below(n * 6) - 9) * scale));
        }
    }
    rk_buf_byte(out, ']');
}

/* $T a text, $L and $M a short and a long list of texts, $I and $W lists of integers that lie close
 * together and apart, $C a number, $O a comparison. */
static const char *const templates[] = {
    "s == $T",
    "s != $T",
    "sn == $T",
    "sn != $T",
    "s in $L",
    "s in $M",
    "sn not in $M",
    "s $O $T",
    "sn $O $T",
    "$T <= s < 'zz'",
    "'' <= sn <= $T",
    "s like 'a%'",
    "s like 'user\\\\_%'",
    "s like '%77'",
    "s like '%stone'",
    "s like '%amber%'",
    "s like '%a%'",
    "sn like '%amber%stone%'",
    "s like 'a%a'",
    "s like 'ab_mber%'",
    "s like '%a_b%'",
    "s like $T",
    "s like 'https://example.org/%'",
    "s like '%.html-and-more-of-it'",
    "s like '%'",
    "s like ''",
    "s like '%example.org/amberamber1%'",
    "sn like '%00000000000000000000000000000000000000000000000000000000000000000000007'",
    "s like '%00000000000000000000000000000000000000000000000000000000000000000000000000007%'",
    "starts_with(s, $T)",
    "empty(sn)",
    "not empty(s)",
    "starts_with(s, sn)",
    "s < sn",
    "s == sn",
    "n in $I",
    "n in $W",
    "m in $I",
    "m not in $W",
    "i8 in $I",
    "i16 in $W",
    "i32 in $I",
    "f in $I",
    "d in $I",
    "d in $W",
    "d in [0.0, 1.5, -1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]",
    "b in [true]",
    "n $O $C",
    "i8 $O $C",
    "i16 $O $C",
    "i32 $O $C",
    "f $O $C",
    "d $O $C",
    "f != 0",
    "d == 0",
    "n % 7 == 3",
    "n % -7 $O $C",
    "n / 3 $O $C",
    "n / -10 $O $C",
    "i32 % 1 == 0",
    "n / -1 $O $C",
    "n % -9223372036854775808 $O $C",
    "n / 9223372036854775807 $O $C",
    "m * 3 $O $C",
    "m + 9223372036854775807 $O $C",
    "m - 5 $O $C",
    "(n & 6) $O $C",
    "(i8 | 5) $O $C",
    "(n ^ 3) $O $C",
    "f * 2 $O $C",
    "d + 1.5 $O $C",
    "d * 2 $O $C",
    "d / 0.5 $O $C",
    "f - 1 $O $C",
    "n $O m",
    "i8 $O i32",
    "f $O d",
    "n $O d",
    "i16 $O f",
    "array_contains(arr, 3)",
    "array_contains_any(arr, $I)",
    "array_contains_any(arr, [1, 2])",
    "array_contains_all(arr, [1, 2])",
    "array_contains_any(a8, $I)",
    "array_contains(a8, 5)",
    "array_contains(af, 5)",
    "array_contains_any(ab, [true])",
    "array_contains(sarr, $T)",
    "array_contains_any(sarr, $L)",
    "array_contains_any(sarr, $M)",
    "array_contains_all(sarr, [$T])",
    "j['a'] == 1",
    "j['a'] == 2",
    "j['a'] != 1",
    "j['a'] $O $C",
    "j['b'] $O 12345678",
    "j['b'] $O -1.5",
    "1 < j['a'] <= 17",
    "0 <= j['k'] < 2.5",
    "j['a'] in $I",
    "j['a'] in [1, 17, -5]",
    "j['a'] in ['x', 'y']",
    "j['b'] in $M",
    "j['a'] in [1, 'x', true]",
    "j['a'] == 'x'",
    "j['a'] != 'x'",
    "j['k'] == ''",
    "j['b'] == 'a\\\\'",
    "j['a'] == 'x\"y'",
    "j['a'] $O 'x'",
    "j['a'] like '%x%'",
    "j['a'] == true",
    "j['a']['k'] == 1",
    "j['a']['b']['k'] $O $C",
    "j['b'][0] == 1",
    "j['a'][1]['b'] $O $C",
    "exists j['a']",
    "exists j['ab']['k']",
    "exists j['x y']",
    "json_contains(j['a'], 1)",
    "json_contains(j['k'], 'x')",
    "json_contains_any(j['b'], [1, 'y'])",
    "j['na\xc3\xafve'] $O $C",
    "j['x y'] == 1",
    "j[':'] == 1",
    "j['0'] == 1",
    "j['a'] % 2 == 1",
    "array_length(j['a']) $O 2",
    "j['a'] == [1, 2]",
    "j['a'] is null",
    "j['nowhere'] == 1",
    "s == $T and n < 20",
    "n < 2 and s in $M",
    "i8 < -3 or s like '%amber%'",
    "i8 == 5 and j['a'] == 1",
    "not (j['a'] == 1 or s in $L)",
    "n in $W and m in $I",
};

static void
spell(rk_buf *out, const char *from, rk_arena *arena)
{
    static const char *const comparisons[] = {"<", "<=", ">", ">=", "==", "!="};
    for (; *from; from++) {
        if (*from != '$') {
            rk_buf_byte(out, (uint8_t)*from);
            continue;
        }
        switch (*++from) {
        case 'T':
            put_text(out, arena);
            break;
        case 'L':
        case 'M':
            put_list(out, arena, true, 1 + below(*from == 'L' ? 4 : 200), 1);
            break;
        case 'I':
        case 'W':
            put_list(out, arena, false, 1 + below(below(2) ? 6 : 60),
                     *from == 'I' ? 1 : INT64_C(40000000007));
            break;
        case 'C':
            rk_buf_printf(out, "%d", (int)below(60) - 9);
            break;
        default:
            rk_buf_str(out, rk_str_from(comparisons[below(6)]));
            break;
        }
    }
}

static rk_column
slice(const rk_column *c, size_t row, uint64_t *valid)
{
    rk_column s = *c;
    s.rows = 1;
    if (c->valid) {
        *valid = !rk_column_is_null(c, row);
        s.valid = valid;
    }
    if (c->offsets) {
        s.offsets += row;
    } else if (c->data) {
        s.data = (const char *)c->data + row * rk_type_bytes(c->field->type);
    }
    return s;
}

static void
compare(const fh_table *t, const char *template)
{
    rk_arena *arena = rk_arena_new(0);
    rk_buf text = {0};
    const rk_filter *filter = NULL;
    rk_err err = {0};
    size_t words = rk_bitset_words(t->rows);
    uint64_t *plain = RK_ARENA_ARRAY(arena, uint64_t, words + 1);
    uint64_t *fast = RK_ARENA_ARRAY(arena, uint64_t, words + 1);
    uint64_t valid[FH_FIELDS];
    rk_column columns[FH_FIELDS];

    spell(&text, template, arena);
    if (rk_filter_compile(&filter, rk_buf_view(&text), t->schema, NULL, arena, &err) != RK_OK) {
        fail_msg("%s", err.text);
    }
    rk__filter_kernels_use(rk__filter_kernels_find("scalar"));
    for (size_t row = 0; row < t->rows; row++) {
        rk_filter_chunk one = {1, columns};
        uint64_t word = 0;
        for (size_t i = 0; i < FH_FIELDS; i++) {
            columns[i] = slice(&t->columns[i], row, &valid[i]);
        }
        assert_int_equal(rk_filter_eval(filter, &one, &word, arena, &err), RK_OK);
        plain[row / 64] |= word << (row % 64);
    }
    for (size_t i = 0; i < RK_COUNT(names); i++) {
        rk_filter_chunk all = {t->rows, t->columns};
        const rk__filter_kernels *k = rk__filter_kernels_find(names[i]);
        if (!k) {
            continue;
        }
        rk__filter_kernels_use(k);
        memset(fast, 0xFF, words * 8);
        assert_int_equal(rk_filter_eval(filter, &all, fast, arena, &err), RK_OK);
        for (size_t row = 0; row < t->rows; row++) {
            if ((fast[row / 64] ^ plain[row / 64]) >> (row % 64) & 1) {
                rk_str s = rk_column_bytes(&t->columns[FH_S], row);
                rk_str j = rk_column_bytes(&t->columns[FH_J], row);
                fail_msg("%s, row %zu of %zu: %.*s (s %.*s, j %.*s)", names[i], row, t->rows,
                         RK_STR_ARG(rk_buf_view(&text)), RK_STR_ARG(s), RK_STR_ARG(j));
            }
        }
        assert_memory_equal(fast, plain, words * 8);
    }
    rk__filter_kernels_use(NULL);
    rk_buf_deinit(&text);
    rk_arena_free(arena);
}

static void
test_rows(void **state)
{
    (void)state;
    rk_rng_init(&rng, 13);
    for (size_t rows = 1; rows <= 200; rows += rows < 3 || rows > 190 ? 1 : 1 + below(25)) {
        fh_table *t = some_table(rows);
        for (size_t i = 0; i < RK_COUNT(templates); i++) {
            compare(t, templates[i]);
        }
        free_table(t);
    }
}

/* Several blocks and whole batches. */
static void
test_many_rows(void **state)
{
    (void)state;
    rk_rng_init(&rng, 14);
    fh_table *t = some_table(8192 + 700);
    for (size_t i = 0; i < RK_COUNT(templates); i++) {
        compare(t, templates[i]);
    }
    free_table(t);
}

/* ---- long lists over JSON ---- */

/* Values of a key, and constants of lists that may equal them. */
static const char *const json_values[] = {
    "0",
    "1",
    "5",
    "5.0",
    "-0.0",
    "0.5",
    "2.5",
    "1e300",
    "9007199254740992",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
    "9223372036854775808",
    "true",
    "false",
    "null",
    "\"a\"",
    "\"5\"",
    "\"t\\u0041\"",
    "\"tA\"",
    "\"a text of more than sixteen bytes\"",
    "\"\"",
    "[1]",
    "[1, \"a\"]",
    "[]",
    "{}",
    "{\"a\": 1}",
};
static const char *const json_constants[] = {
    "0",
    "1",
    "5",
    "5.0",
    "0.5",
    "1e300",
    "9007199254740992",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
    "9223372036854775808.0",
    "true",
    "false",
    "'a'",
    "'5'",
    "'tA'",
    "'a text of more than sixteen bytes'",
    "''",
    "[1]",
    "[1, 'a']",
};

static fh_table *
json_table(void)
{
    fh_table *t = fh_table_new(RK_COUNT(json_values) + 2);
    char text[100];

    for (size_t row = 0; row < t->rows; row++) {
        for (size_t i = 0; i < FH_FIELDS; i++) {
            *fh_cell(t, row, i) =
                i == FH_J || t->schema->fields[i].nullable ? (fh_value){0} : fh_int(0);
        }
        *fh_cell(t, row, FH_B) = *fh_cell(t, row, FH_AB) = fh_bool(false);
        *fh_cell(t, row, FH_F) = *fh_cell(t, row, FH_AF) = fh_float(0);
        *fh_cell(t, row, FH_S) = fh_string("");
        *fh_cell(t, row, FH_META) = fh_json(t->arena, "{}");
        for (size_t i = 0; i < FH_FIELDS; i++) {
            if (t->schema->fields[i].type == RK_ARRAY) {
                *fh_cell(t, row, i) = fh_list(t->arena, 0, NULL);
            }
        }
        if (row < RK_COUNT(json_values)) {
            (void)snprintf(text, sizeof(text), "{\"k\": %s}", json_values[row]);
            *fh_cell(t, row, FH_J) = fh_json(t->arena, text);
        } else if (row == RK_COUNT(json_values)) {
            *fh_cell(t, row, FH_J) = fh_json(t->arena, "{}");
        }
    }
    fh_table_build(t);
    return t;
}

static uint64_t
passing(const fh_table *t, rk_str text)
{
    rk_arena *arena = rk_arena_new(0);
    const rk_filter *filter = NULL;
    rk_filter_chunk all = {t->rows, t->columns};
    rk_err err = {0};
    uint64_t bits = 0;

    if (rk_filter_compile(&filter, text, t->schema, NULL, arena, &err) != RK_OK ||
        rk_filter_eval(filter, &all, &bits, arena, &err) != RK_OK) {
        fail_msg("%.*s: %s", RK_STR_ARG(text), err.text);
    }
    rk_arena_free(arena);
    return bits;
}

/* A list is the or of its members: what each says alone, of which lists are searched plainly. */
static void
test_json_lists(void **state)
{
    uint64_t is[RK_COUNT(json_constants)];
    uint64_t is_not[RK_COUNT(json_constants)];
    fh_table *t = json_table();
    rk_buf text = {0};

    (void)state;
    assert_true(t->rows <= 64);
    rk_rng_init(&rng, 16);
    for (size_t i = 0; i < RK_COUNT(json_constants); i++) {
        for (int negated = 0; negated < 2; negated++) {
            rk_buf_clear(&text);
            rk_buf_printf(&text, "j['k'] %sin [%s]", negated ? "not " : "", json_constants[i]);
            *(negated ? &is_not[i] : &is[i]) = passing(t, rk_buf_view(&text));
        }
        assert_int_equal(is[i] & is_not[i], 0);
    }
    for (int round = 0; round < 400; round++) {
        /* of all kinds, or of some next to each other: numbers alone, texts alone ... */
        size_t from = round % 4 ? below(RK_COUNT(json_constants)) : 0;
        size_t kinds = round % 4 ? 1 + below((unsigned)(RK_COUNT(json_constants) - from))
                                 : RK_COUNT(json_constants);
        unsigned n = round % 5 ? 9 + below(20) : 300;
        uint64_t any = 0;
        uint64_t none = UINT64_MAX;
        rk_buf list = {0};
        for (unsigned i = 0; i < n; i++) {
            size_t c = from + below((unsigned)kinds);
            rk_buf_printf(&list, "%s%s", i ? ", " : "", json_constants[c]);
            any |= is[c];
            none &= is_not[c];
        }
        for (int negated = 0; negated < 2; negated++) {
            rk_buf_clear(&text);
            rk_buf_printf(&text, "j['k'] %sin [%.*s]", negated ? "not " : "",
                          RK_STR_ARG(rk_buf_view(&list)));
            uint64_t got = passing(t, rk_buf_view(&text));
            if (got != (negated ? none : any)) {
                fail_msg("%.*s: %llx, should be %llx", RK_STR_ARG(rk_buf_view(&text)),
                         (unsigned long long)got, (unsigned long long)(negated ? none : any));
            }
        }
        rk_buf_deinit(&list);
    }
    rk_buf_deinit(&text);
    fh_table_free(t);
}

/* ---- sets and division ---- */

static void
test_sets(void **state)
{
    (void)state;
    rk_rng_init(&rng, 15);
    for (int round = 0; round < 60; round++) {
        rk_arena *arena = rk_arena_new(0);
        size_t n = round % 3 == 0 ? 1 + below(5000) : 1 + below(20);
        int64_t scale = below(2) ? 1 : (int64_t)(rk_rng_next(&rng) >> below(50));
        rk__values list = {0};
        const rk__set *set = NULL;
        for (size_t i = 0; i < n; i++) {
            rk__value v = {.kind = VK_INT, .i = (int64_t)((uint64_t)below(9000) * (uint64_t)scale)};
            v.i = below(50) ? v.i : some_int();
            assert_int_equal(rk__values_push(&list, v, arena), RK_OK);
            v = (rk__value){.kind = VK_FLOAT, .f = some_float()};
            assert_int_equal(rk__values_push(&list, v, arena), RK_OK);
            v = (rk__value){.kind = VK_STRING, .s = some_text(arena)};
            assert_int_equal(rk__values_push(&list, v, arena), RK_OK);
        }
        assert_int_equal(rk__set_new(&set, &list, arena), RK_OK);
        for (int probe = 0; probe < 200; probe++) {
            int64_t i = below(2) ? (int64_t)((uint64_t)below(9000) * (uint64_t)scale) : some_int();
            double f = some_float();
            rk_str s = some_text(arena);
            bool has[3] = {false, false, false};
            for (size_t k = 0; k < list.n; k++) {
                rk__value v = list.data[k];
                has[0] = has[0] || (v.kind == VK_INT && v.i == i);
                has[1] = has[1] || (v.kind == VK_FLOAT && v.f == f);
                has[2] = has[2] || (v.kind == VK_STRING && rk_str_eq(v.s, s));
            }
            assert_int_equal(rk__set_has_int(set, i), has[0]);
            assert_int_equal(rk__set_has_float(set, f), has[1]);
            assert_int_equal(rk__set_has_string(set, s), has[2]);
        }
        rk_arena_free(arena);
    }
}

static void
test_division(void **state)
{
    (void)state;
    rk_rng_init(&rng, 16);
    for (int round = 0; round < 20000; round++) {
        int64_t by = below(2) ? some_int() : (int64_t)(rk_rng_next(&rng) >> below(64));
        by = below(2) ? by : (int64_t)(0 - (uint64_t)by);
        if (by >= -1 && by <= 1) {
            continue;
        }
        rk__divisor d = rk__divisor_of(by);
        for (int i = 0; i < 20; i++) {
            int64_t a = below(2) ? some_int() : (int64_t)(rk_rng_next(&rng) >> below(64));
            uint64_t near = (uint64_t)by * (uint64_t)((int64_t)below(9) - 4) + below(3) - 1;
            a = below(3) ? a : (int64_t)near;
            assert_int_equal(rk__divide(a, d), a / by);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),    cmocka_unit_test(test_json_kernels),
        cmocka_unit_test(test_json_lists), cmocka_unit_test(test_sets),
        cmocka_unit_test(test_division),   cmocka_unit_test(test_rows),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests_name("filter_fast", tests, NULL, NULL);
}
