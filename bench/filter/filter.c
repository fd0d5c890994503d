/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a filter costs: expressions over made rows, each evaluated as a search does it, 64 Ki rows
 * at a time, on one thread.
 *
 *   filter [--rows N] [--only TEXT] [--check]
 *
 * One line per expression: the share of rows that pass, nanoseconds a row (CPU time, the best of
 * several passes), and how many bytes a row the columns it reads take. The first line is what
 * memory gives: a plain sum over the INT64 column. --only: expressions that contain TEXT. --check:
 * one pass each, and a number made of the rows that pass, to be compared between two builds.
 */
#include "filter/filter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/util.h"

#define SLICE  ((size_t)65536)
#define PASSES 9
#define SPENT  0.5 /* seconds on one expression, at most about twice that */

enum { ID, I64, I32, I16, I8, N64, F, D, B, TAG, NAME, TITLE, ARR, SARR, META, FIELDS };

static const struct {
    const char *name;
    rk_type type;
    rk_type element;
} specs[FIELDS] = {
    [ID] = {"id", RK_INT64, RK_NONE},
    [I64] = {"i64", RK_INT64, RK_NONE},
    [I32] = {"i32", RK_INT32, RK_NONE},
    [I16] = {"i16", RK_INT16, RK_NONE},
    [I8] = {"i8", RK_INT8, RK_NONE},
    [N64] = {"n64", RK_INT64, RK_NONE},
    [F] = {"f", RK_FLOAT, RK_NONE},
    [D] = {"d", RK_DOUBLE, RK_NONE},
    [B] = {"b", RK_BOOL, RK_NONE},
    [TAG] = {"tag", RK_VARCHAR, RK_NONE},
    [NAME] = {"name", RK_VARCHAR, RK_NONE},
    [TITLE] = {"title", RK_VARCHAR, RK_NONE},
    [ARR] = {"arr", RK_ARRAY, RK_INT64},
    [SARR] = {"sarr", RK_ARRAY, RK_VARCHAR},
    [META] = {RK_DYNAMIC_NAME, RK_JSON, RK_NONE},
};

/* "%5" stands for a list of five values; what of is told by the text before it. */
static const char *const expressions[] = {
    "i64 < 100",
    "i64 == 7",
    "i64 != 7",
    "100 <= i64 < 200",
    "n64 < 100",
    "i32 < 100",
    "i16 < 100",
    "i8 < 10",
    "f < 0.1",
    "0.25 <= d < 0.5",
    "b == true",
    "i64 < i32",
    "i64 < 500 and i32 < 500",
    "i64 < 100 or i32 < 100 or f < 0.1",
    "not (i64 < 500 and i32 < 500)",
    "n64 is null",
    "i64 % 10 == 3",
    "i64 + 5 > 500",
    "i32 * 2 < 100",
    "f * 2 < 0.1",
    "i64 in %5",
    "i64 in %100",
    "i64 in %10000",
    "id in %100",
    "id in %10000",
    "i32 in %100",
    "i8 in %20",
    "f in %20",
    "tag == \"t3\"",
    "tag != \"t3\"",
    "tag in %5",
    "tag in %1000",
    "tag >= \"t5\"",
    "tag == \"t3\" and i64 < 10",
    "name == \"user_0012345\"",
    "name in %5",
    "name in %1000",
    "name >= \"user_0500000\"",
    "name like \"user_00%\"",
    "name like r\"user\\_00%\"",
    "name like \"%77\"",
    "title == \"amber\"",
    "title like \"amber%\"",
    "title like \"%amber\"",
    "title like \"%amber%\"",
    "title like \"%amber%stone%\"",
    "title =~ \"amb[ei]r\"",
    "array_contains(arr, 7)",
    "array_contains_any(arr, [7, 8, 9])",
    "array_contains(sarr, \"t3\")",
    "array_length(arr) == 3",
    "arr[0] < 100",
    "a == 1",
    "a < 500",
    "s == \"x\"",
    "s in [\"x\", \"y\"]",
    "a in %100",
    "w in %20",
    "w in %1000",
    "a in %x1000",
    "z == 1",
    "exists z",
    "$meta[\"deep\"][\"k\"] == 3",
    "json_contains($meta[\"tags\"], \"t3\")",
};

static rk_column columns[FIELDS];
static rk_schema *schema;
static size_t rows = 1000000;

static void
die(const char *what)
{
    (void)fprintf(stderr, "filter: %s\n", what);
    exit(1);
}

static double
cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t
hash_of(size_t row, unsigned field)
{
    return rk_hash_u64(row * 31 + field + UINT64_C(0x9e3779b97f4a7c15));
}

/* ---- rows ---- */

static void
make_schema(rk_arena *arena)
{
    pb_schema_CollectionSchema *pb = RK_ARENA_NEW(arena, pb_schema_CollectionSchema);
    rk_err err = {0};

    pb->name = RK_STR("things");
    pb->enable_dynamic_field = true;
    pb->fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, FIELDS + 1);
    for (size_t i = 0; i <= FIELDS; i++) {
        pb_schema_FieldSchema *f = RK_ARENA_NEW(arena, pb_schema_FieldSchema);
        bool vector = i == META; /* before the dynamic field, which comes last */
        size_t at = i > META ? META : i;
        f->fieldID = RK_FIELD_FIRST + (int64_t)i;
        f->name = vector ? RK_STR("v") : rk_str_from(specs[at].name);
        f->data_type = vector ? RK_FLOAT_VECTOR : (int32_t)specs[at].type;
        f->element_type = vector ? RK_NONE : (int32_t)specs[at].element;
        f->nullable = at == N64;
        f->is_primary_key = at == ID;
        f->is_dynamic = i == FIELDS;
        f->type_params.data = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair *, 2);
        const char *keys[2] = {"max_length", "max_capacity"};
        const char *values[2] = {"200", "64"};
        keys[0] = vector ? "dim" : keys[0];
        values[0] = vector ? "4" : values[0];
        bool has[2] = {vector || f->data_type == RK_VARCHAR || f->element_type == RK_VARCHAR,
                       !vector && f->data_type == RK_ARRAY};
        for (size_t k = 0; k < 2; k++) {
            if (has[k]) {
                pb_common_KeyValuePair *pair = RK_ARENA_NEW(arena, pb_common_KeyValuePair);
                pair->key = rk_str_from(keys[k]);
                pair->value = rk_str_from(values[k]);
                f->type_params.data[f->type_params.n++] = pair;
            }
        }
        pb->fields.data[pb->fields.n++] = f;
    }
    if (rk_schema_new(&schema, pb, 1, &err) != RK_OK) {
        die(err.text);
    }
}

static void
put_title(rk_buf *out, size_t row)
{
    static const char *const words[] = {"amber", "stone",  "river",  "silent", "garden", "north",
                                        "paper", "winter", "summer", "letter", "bridge", "candle",
                                        "glass", "harbor", "meadow", "lantern"};
    size_t n = 3 + hash_of(row, 90) % 10;
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            rk_buf_byte(out, ' ');
        }
        rk_buf_str(out, rk_str_from(words[hash_of(row, 100 + (unsigned)i) % RK_COUNT(words)]));
    }
}

static void
put_array(rk_buf *out, size_t row, bool texts)
{
    uint32_t n = (uint32_t)(hash_of(row, 80) % 8);
    rk_buf_u32le(out, n);
    for (uint32_t i = 0; i < n; i++) {
        int64_t v = (int64_t)(hash_of(row, 200 + i) % 1000);
        if (texts) {
            rk_buf_u32le(out, 2 * (i + 1));
        } else {
            rk_buf_append(out, &v, sizeof(v));
        }
    }
    for (uint32_t i = 0; texts && i < n; i++) {
        rk_buf_printf(out, "t%u", (unsigned)(hash_of(row, 200 + i) % 10));
    }
}

/* A row of an application with a dynamic field: keys in one order, now and then another. */
static void
put_meta(rk_buf *out, size_t row)
{
    static const char *const words[] = {"x", "y", "long text with a \\\" inside", "word"};
    unsigned a = (unsigned)(hash_of(row, 60) % 1000);
    const char *s = words[hash_of(row, 61) % RK_COUNT(words)];
    if (row % 16 == 5) {
        rk_buf_printf(out, "{\"s\":\"%s\",\"a\":%u}", s, a);
        return;
    }
    rk_buf_printf(out, "{\"source\":\"web/%u\",\"a\":%u,\"tags\":[\"t%u\",\"t%u\"],", a, a, a % 10,
                  a % 7);
    rk_buf_printf(out, "\"s\":\"%s\",\"deep\":{\"j\":%u,\"k\":%u},\"w\":%.3f}", s, a, a % 10,
                  (double)a / 1000);
}

static void
put_cell(rk_buf *out, size_t row, size_t field)
{
    uint64_t hash = hash_of(row, (unsigned)field);
    int64_t below = (int64_t)(hash % 1000);
    int64_t id = (int64_t)row;
    float f = (float)(hash >> 40) * 0x1p-24f;
    double d = (double)(hash >> 11) * 0x1p-53;
    int32_t i32 = (int32_t)below;
    int16_t i16 = (int16_t)below;
    int8_t i8 = (int8_t)(hash % 100);

    switch (field) {
    case ID:
        rk_buf_append(out, &id, 8);
        break;
    case I64:
    case N64:
        rk_buf_append(out, &below, 8);
        break;
    case I32:
        rk_buf_append(out, &i32, 4);
        break;
    case I16:
        rk_buf_append(out, &i16, 2);
        break;
    case I8:
        rk_buf_append(out, &i8, 1);
        break;
    case F:
        rk_buf_append(out, &f, 4);
        break;
    case D:
        rk_buf_append(out, &d, 8);
        break;
    case B:
        rk_buf_byte(out, (uint8_t)(hash & 1));
        break;
    case TAG:
        rk_buf_printf(out, "t%u", (unsigned)(hash % 10));
        break;
    case NAME:
        rk_buf_printf(out, "user_%07u", (unsigned)(hash % 1000000));
        break;
    case TITLE:
        put_title(out, row);
        break;
    case ARR:
    case SARR:
        put_array(out, row, field == SARR);
        break;
    default:
        put_meta(out, row);
        break;
    }
}

static void
make_column(size_t field, size_t position)
{
    rk_buf buf = {0};
    bool variable = rk_type_bytes(specs[field].type) == 0;
    uint64_t *offsets = calloc(rows + 1, sizeof(*offsets));
    uint64_t *valid = calloc(rows / 64 + 1, sizeof(*valid));

    for (size_t row = 0; offsets && valid && row < rows; row++) {
        bool null = field == N64 && hash_of(row, 70) % 10 == 0;
        put_cell(&buf, row, field);
        offsets[row + 1] = buf.len;
        valid[row / 64] |= (uint64_t)!null << row % 64;
    }
    if (!offsets || !valid || buf.failed) {
        die("memory is out");
    }
    columns[field] = (rk_column){.field = &schema->fields[position],
                                 .rows = rows,
                                 .valid = field == N64 ? valid : NULL,
                                 .data = buf.data, /* kept to the end of the process */
                                 .offsets = variable ? offsets : NULL};
}

/* ---- expressions ---- */

/* Replaces %N by a list of N values such as the column before it holds, %xN by one of numbers and
 * texts. */
static void
spell(rk_buf *out, const char *expr)
{
    const char *list = strstr(expr, "in %");
    if (!list) {
        rk_buf_str(out, rk_str_from(expr));
        return;
    }
    bool mixed = list[4] == 'x';
    unsigned n = (unsigned)strtoul(list + 4 + mixed, NULL, 10);
    rk_buf_append(out, expr, (size_t)(list - expr) + 3);
    for (unsigned i = 0; i < n; i++) {
        unsigned v = (unsigned)(hash_of(i, 50) % 1000000);
        rk_buf_str(out, i > 0 ? RK_STR(",") : RK_STR("["));
        if (mixed && i % 2) {
            rk_buf_printf(out, "\"t%u\"", v);
        } else if (strncmp(expr, "w ", 2) == 0) {
            rk_buf_printf(out, "%.4f", (double)v / 7000);
        } else if (strncmp(expr, "tag", 3) == 0) {
            rk_buf_printf(out, "\"t%u\"", 2 * i + 1);
        } else if (strncmp(expr, "name", 4) == 0) {
            rk_buf_printf(out, "\"user_%07u\"", v);
        } else if (strncmp(expr, "i64", 3) == 0 || strncmp(expr, "i32", 3) == 0) {
            rk_buf_printf(out, "%u", i < 5 ? v % 1000 : v % (n * 10));
        } else if (strncmp(expr, "i8", 2) == 0) {
            rk_buf_printf(out, "%u", v % 100);
        } else if (strncmp(expr, "f ", 2) == 0) {
            rk_buf_printf(out, "%.9g", (double)((float)(hash_of(i, F) >> 40) * 0x1p-24f));
        } else {
            rk_buf_printf(out, "%u", v);
        }
    }
    rk_buf_byte(out, ']');
}

static void
pass(const rk_filter *filter, uint64_t *words, rk_arena *scratch)
{
    size_t n = 0;
    const uint32_t *fields = rk_filter_fields(filter, &n);
    rk_column slices[FIELDS + 1];
    rk_err err = {0};

    for (size_t at = 0; at < rows; at += SLICE) {
        for (size_t i = 0; i < n; i++) {
            const rk_column *c = &columns[RK_MIN(fields[i], (uint32_t)META)];
            rk_column *s = &slices[fields[i]];
            *s = *c;
            s->rows = RK_MIN(SLICE, rows - at);
            s->valid = c->valid ? c->valid + at / 64 : NULL;
            s->offsets = c->offsets ? c->offsets + at : NULL;
            s->data =
                c->offsets ? c->data : (const char *)c->data + at * rk_type_bytes(c->field->type);
        }
        rk_filter_chunk chunk = {RK_MIN(SLICE, rows - at), slices};
        rk_arena_reset(scratch);
        if (rk_filter_eval(filter, &chunk, words + at / 64, scratch, &err) != RK_OK) {
            die(err.text);
        }
    }
}

static double
bytes_a_row(const rk_filter *filter)
{
    size_t n = 0;
    const uint32_t *fields = rk_filter_fields(filter, &n);
    double bytes = 0;

    for (size_t i = 0; i < n; i++) {
        const rk_column *c = &columns[RK_MIN(fields[i], (uint32_t)META)];
        bytes += c->valid ? 0.125 : 0;
        bytes += c->offsets ? 8 + (double)c->offsets[rows] / (double)rows
                            : (double)rk_type_bytes(c->field->type);
    }
    return bytes;
}

static void
measure(const char *expr, bool check, uint64_t *words, rk_arena *scratch)
{
    rk_arena *arena = rk_arena_new(0);
    rk_buf text = {0};
    const rk_filter *filter = NULL;
    rk_err err = {0};
    double best = HUGE_VAL;
    double start = cpu();
    uint64_t print = 0;
    size_t passing = 0;

    spell(&text, expr);
    if (rk_filter_compile(&filter, rk_buf_view(&text), schema, NULL, arena, &err) != RK_OK) {
        die(err.text);
    }
    for (int i = 0; i < (check ? 1 : PASSES) && (i < 2 || cpu() - start < SPENT); i++) {
        double before = cpu();
        pass(filter, words, scratch);
        best = RK_MIN(best, cpu() - before);
    }
    for (size_t w = 0; w < rk_bitset_words(rows); w++) {
        passing += (size_t)__builtin_popcountll(words[w]);
        print = rk_hash_u64(print ^ words[w]);
    }
    printf("| `%s` | %.1f %% | ", expr, 100 * (double)passing / (double)rows);
    if (check) {
        printf("%016llx |\n", (unsigned long long)print);
    } else {
        printf("%.2f | %.0f |\n", best * 1e9 / (double)rows, bytes_a_row(filter));
    }
    (void)fflush(stdout);
    rk_buf_deinit(&text);
    rk_arena_free(arena);
}

static void
measure_sum(void)
{
    double best = HUGE_VAL;
    volatile int64_t sink = 0;

    for (int i = 0; i < PASSES; i++) {
        const int64_t *values = columns[I64].data;
        int64_t sum = 0;
        double before = cpu();
        for (size_t row = 0; row < rows; row++) {
            sum += values[row];
        }
        sink = sum;
        best = RK_MIN(best, cpu() - before);
    }
    (void)sink;
    printf("| (sum of i64, a plain loop) | | %.2f | 8 |\n", best * 1e9 / (double)rows);
}

int
main(int argc, char **argv)
{
    const char *only = "";
    bool check = false;
    rk_arena *arena = rk_arena_new(0);
    rk_arena *scratch = rk_arena_new(0);

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--check") == 0) {
            check = true;
        } else if (strcmp(argv[i], "--rows") == 0 && i + 1 < argc) {
            rows = strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else {
            die("usage: filter [--rows N] [--only TEXT] [--check]");
        }
    }
    uint64_t *words = calloc(rk_bitset_words(rows) + 1, sizeof(*words));
    if (!arena || !scratch || !words || rows == 0 || rows > (size_t)1 << 28) {
        die("memory is out, or the number of rows is not 1 to 2^28");
    }
    make_schema(arena);
    for (size_t i = 0; i < FIELDS; i++) {
        make_column(i, i == META ? FIELDS : i);
    }
    printf(check
               ? "| expression | passing | rows |\n| --- | --- | --- |\n"
               : "| expression | passing | ns a row | bytes a row |\n| --- | --- | --- | --- |\n");
    if (!check && !*only) {
        measure_sum();
    }
    for (size_t i = 0; i < RK_COUNT(expressions); i++) {
        if (strstr(expressions[i], only)) {
            measure(expressions[i], check, words, scratch);
        }
    }
    rk_arena_free(scratch);
    rk_arena_free(arena);
    rk_schema_unref(schema);
    free(words);
    return 0;
}
