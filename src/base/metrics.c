/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: series in a hash table per metric, updated without locks, printed under one.
 *
 * The lock guards the tables of series; it is a leaf and held for a look-up, an insertion, or the
 * printing of one metric. Values are relaxed atomics: each is a number of its own, and a scrape is
 * a moment's estimate anyway. A histogram keeps a count per bucket, not cumulative; the sum up is
 * made when it is printed. Buckets are powers of two from 1 to 131072, those of the dashboards'
 * queries.
 */
#include "base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/util.h"

#define BUCKETS    18 /* upper bounds 2^0 .. 2^17; one more counts the rest */
#define SERIES_MAX 4096u

typedef enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } kind;

typedef struct metric_row {
    const char *name;
    kind kind;
    const char *labels;
    const char *help;
} metric_row;

struct rk_series {
    rk_series *next; /* in the order of creation */
    uint64_t hash;
    bool counter;
    _Atomic bool hidden;
    _Atomic uint64_t
        bits; /* counter: the count; gauge: the bits of a double; histogram: those of the sum */
    _Atomic uint64_t *buckets; /* histogram: BUCKETS + 1 */
    const char *values[RK_METRIC_LABELS_MAX];
    char text[]; /* the label values, each with its end */
};

typedef struct family {
    rk_series *first;
    rk_series **last;  /* where the next one is linked */
    rk_series **slots; /* open addressing, |slot_count| a power of two */
    uint32_t slot_count;
    uint32_t series_count;
} family;

#define METRIC_ROW(id, name, kind, labels, help) {name, KIND_##kind, labels, help},
static const metric_row rows[RK_METRIC_COUNT] = {RK_METRICS_TABLE(METRIC_ROW)};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf; rank 95 in docs/locking.md */
static family families[RK_METRIC_COUNT];

/* What callers get when memory is out. */
static _Atomic uint64_t spare_buckets[BUCKETS + 1];
static rk_series spare = {.buckets = spare_buckets};

static unsigned
label_count(const metric_row *row)
{
    unsigned count = row->labels[0] ? 1 : 0;

    for (const char *c = row->labels; *c; c++) {
        count += *c == ',';
    }
    return count;
}

static bool
same_values(const rk_series *s, const char *const *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(s->values[i], values[i]) != 0) {
            return false;
        }
    }
    return true;
}

static rk_series *
find_locked(const family *f, uint64_t hash, const char *const *values, unsigned count)
{
    if (f->slot_count == 0) {
        return NULL;
    }
    for (uint64_t at = hash;; at++) {
        rk_series *s = f->slots[at & (f->slot_count - 1)];
        if (!s || (s->hash == hash && same_values(s, values, count))) {
            return s;
        }
    }
}

static void
place(rk_series **slots, uint32_t slot_count, rk_series *s)
{
    uint64_t at = s->hash;

    while (slots[at & (slot_count - 1)]) {
        at++;
    }
    slots[at & (slot_count - 1)] = s;
}

static bool
make_room_locked(family *f)
{
    if (f->series_count * 2 < f->slot_count) {
        return true;
    }
    uint32_t slot_count = f->slot_count ? f->slot_count * 2 : 8;
    rk_series **slots = rk_alloc_zero(slot_count, sizeof(rk_series *));
    if (!slots) {
        return false;
    }
    for (rk_series *s = f->first; s; s = s->next) {
        place(slots, slot_count, s);
    }
    rk_free(f->slots);
    f->slots = slots;
    f->slot_count = slot_count;
    return true;
}

static rk_series *
create_locked(family *f, const metric_row *row, uint64_t hash, const char *const *values,
              unsigned count)
{
    size_t text_size = 0;

    for (unsigned i = 0; i < count; i++) {
        text_size += strlen(values[i]) + 1;
    }
    rk_series *s = make_room_locked(f) ? rk_alloc_zero(1, sizeof(*s) + text_size) : NULL;
    if (!s) {
        return NULL;
    }
    if (row->kind == KIND_HISTOGRAM) {
        s->buckets = rk_alloc_zero(BUCKETS + 1, sizeof(*s->buckets));
        if (!s->buckets) {
            rk_free(s);
            return NULL;
        }
    }
    char *at = s->text;
    for (unsigned i = 0; i < count; i++) {
        size_t size = strlen(values[i]) + 1;
        memcpy(at, values[i], size);
        s->values[i] = at;
        at += size;
    }
    s->hash = hash;
    s->counter = row->kind == KIND_COUNTER;
    *(f->last ? f->last : &f->first) = s;
    f->last = &s->next;
    f->series_count++;
    place(f->slots, f->slot_count, s);
    return s;
}

static uint64_t
hash_values(const char *const *values, unsigned count)
{
    uint64_t hash = 0;

    for (unsigned i = 0; i < count; i++) {
        hash = rk_hash_u64(hash ^ rk_hash64(values[i], strlen(values[i])));
    }
    return hash;
}

rk_series *
rk_metric_series(rk_metric_id metric, const char *const values[RK_METRIC_LABELS_MAX])
{
    static const char *const others[RK_METRIC_LABELS_MAX] = {"other", "other", "other", "other"};
    const char *clean[RK_METRIC_LABELS_MAX];

    RK_ASSERT((unsigned)metric < RK_METRIC_COUNT);
    const metric_row *row = &rows[metric];
    family *f = &families[metric];
    unsigned count = label_count(row);
    bool ended = false;
    for (unsigned i = 0; i < count; i++) {
        ended = ended || !values[i];
        clean[i] = ended ? "" : values[i];
    }
    uint64_t hash = hash_values(clean, count);
    pthread_mutex_lock(&lock);
    rk_series *s = find_locked(f, hash, clean, count);
    if (!s && f->series_count < SERIES_MAX) {
        s = create_locked(f, row, hash, clean, count);
    } else if (!s) {
        hash = hash_values(others, count);
        s = find_locked(f, hash, others, count);
        if (!s) {
            s = create_locked(f, row, hash, others, count);
        }
    }
    pthread_mutex_unlock(&lock);
    if (!s) {
        return &spare;
    }
    if (atomic_load_explicit(&s->hidden, memory_order_relaxed)) {
        atomic_store_explicit(&s->hidden, false, memory_order_relaxed);
    }
    return s;
}

/* ---- updates ---- */

static double
f64_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint64_t
bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void
add_f64(_Atomic uint64_t *bits, double delta)
{
    uint64_t now = atomic_load_explicit(bits, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(bits, &now, bits_of(f64_of(now) + delta),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

void
rk_series_add(rk_series *series, uint64_t count)
{
    atomic_fetch_add_explicit(&series->bits, count, memory_order_relaxed);
}

void
rk_series_set(rk_series *series, double value)
{
    atomic_store_explicit(&series->bits, bits_of(value), memory_order_relaxed);
}

void
rk_series_change(rk_series *series, double delta)
{
    add_f64(&series->bits, delta);
}

void
rk_series_observe(rk_series *series, double value)
{
    unsigned bucket = 0;

    RK_ASSERT(series->buckets);
    while (bucket < BUCKETS && !(value <= (double)(1u << bucket))) {
        bucket++;
    }
    atomic_fetch_add_explicit(&series->buckets[bucket], 1, memory_order_relaxed);
    add_f64(&series->bits, value);
}

double
rk_series_value(const rk_series *series)
{
    uint64_t bits = atomic_load_explicit(&series->bits, memory_order_relaxed);

    if (series->buckets) {
        uint64_t total = 0;
        for (unsigned i = 0; i <= BUCKETS; i++) {
            total += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
        }
        return (double)total;
    }
    return series->counter ? (double)bits : f64_of(bits);
}

/* The name of the label |index| of a row. */
static rk_str
label_name(const metric_row *row, unsigned index)
{
    const char *at = row->labels;

    for (; index > 0; index--) {
        at = strchr(at, ',') + 1;
    }
    return (rk_str){at, strcspn(at, ",")};
}

void
rk_metrics_forget(const char *label, const char *value)
{
    pthread_mutex_lock(&lock);
    for (int m = 0; m < (int)RK_METRIC_COUNT; m++) {
        unsigned count = label_count(&rows[m]);
        for (unsigned i = 0; i < count; i++) {
            if (!rk_str_is(label_name(&rows[m], i), label)) {
                continue;
            }
            for (rk_series *s = families[m].first; s; s = s->next) {
                if (strcmp(s->values[i], value) == 0) {
                    atomic_store_explicit(&s->hidden, true, memory_order_relaxed);
                }
            }
        }
    }
    pthread_mutex_unlock(&lock);
}

/* ---- text ---- */

static void
write_escaped(rk_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') {
            rk_buf_str(out, RK_STR("\\n"));
            continue;
        }
        if (*text == '"' || *text == '\\') {
            rk_buf_byte(out, '\\');
        }
        rk_buf_byte(out, (uint8_t)*text);
    }
}

/* "{a="x",b="y"}", with |le| as a last label when given; nothing when there are none. */
static void
write_labels(rk_buf *out, const metric_row *row, const rk_series *s, const char *le)
{
    unsigned count = label_count(row);

    if (count == 0 && !le) {
        return;
    }
    rk_buf_byte(out, '{');
    for (unsigned i = 0; i < count; i++) {
        rk_buf_str(out, label_name(row, i));
        rk_buf_str(out, RK_STR("=\""));
        write_escaped(out, s->values[i]);
        rk_buf_str(out, RK_STR("\","));
    }
    if (le) {
        rk_buf_printf(out, "le=\"%s\"", le);
    } else {
        out->len -= out->failed ? 0 : 1; /* the last comma */
    }
    rk_buf_byte(out, '}');
}

static void
write_number(rk_buf *out, double value)
{
    if (isnan(value) || isinf(value)) {
        rk_buf_str(out, isnan(value) ? RK_STR(" NaN\n")
                        : value > 0  ? RK_STR(" +Inf\n")
                                     : RK_STR(" -Inf\n"));
    } else {
        rk_buf_printf(out, " %.15g\n", value);
    }
}

static void
write_histogram(rk_buf *out, const metric_row *row, const rk_series *s)
{
    uint64_t total = 0;
    char le[24];

    for (unsigned i = 0; i <= BUCKETS; i++) {
        total += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        snprintf(le, sizeof(le), "%u", 1u << RK_MIN(i, 31u));
        rk_buf_printf(out, "%s_bucket", row->name);
        write_labels(out, row, s, i < BUCKETS ? le : "+Inf");
        rk_buf_printf(out, " %" PRIu64 "\n", total);
    }
    rk_buf_printf(out, "%s_sum", row->name);
    write_labels(out, row, s, NULL);
    write_number(out, f64_of(atomic_load_explicit(&s->bits, memory_order_relaxed)));
    rk_buf_printf(out, "%s_count", row->name);
    write_labels(out, row, s, NULL);
    rk_buf_printf(out, " %" PRIu64 "\n", total);
}

static void
write_family_locked(rk_buf *out, const metric_row *row, const family *f)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    rk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
                  kinds[row->kind]);
    for (const rk_series *s = f->first; s; s = s->next) {
        uint64_t bits = atomic_load_explicit(&s->bits, memory_order_relaxed);
        if (atomic_load_explicit(&s->hidden, memory_order_relaxed)) {
            continue;
        }
        if (row->kind == KIND_HISTOGRAM) {
            write_histogram(out, row, s);
            continue;
        }
        rk_buf_str(out, rk_str_from(row->name));
        write_labels(out, row, s, NULL);
        if (row->kind == KIND_COUNTER) {
            rk_buf_printf(out, " %" PRIu64 "\n", bits);
        } else {
            write_number(out, f64_of(bits));
        }
    }
}

static void
write_one(rk_buf *out, const char *name, const char *type, const char *help, double value)
{
    rk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s", name, help, name, type, name);
    write_number(out, value);
}

/* Resident and virtual bytes and the start time, from /proc/self. */
static void
write_process(rk_buf *out)
{
    struct rusage usage;
    unsigned long pages_virtual = 0;
    unsigned long pages_resident = 0;
    double open_fds = 0;

    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm) {
        if (fscanf(statm, "%lu %lu", &pages_virtual, &pages_resident) != 2) {
            pages_virtual = pages_resident = 0;
        }
        fclose(statm);
    }
    DIR *fds = opendir("/proc/self/fd");
    while (fds && readdir(fds)) {
        open_fds++;
    }
    if (fds) {
        closedir(fds);
        open_fds -= 3; /* ".", ".." and the folder itself */
    }
    double page = (double)sysconf(_SC_PAGESIZE);
    write_one(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
              (double)pages_resident * page);
    write_one(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
              (double)pages_virtual * page);
    write_one(out, "process_open_fds", "gauge", "Number of open file descriptors.", open_fds);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
        write_one(out, "process_cpu_seconds_total", "counter",
                  "Total user and system CPU time spent in seconds.", seconds);
    }
}

void
rk_metrics_write(rk_buf *out)
{
    for (int m = 0; m < (int)RK_METRIC_COUNT; m++) {
        pthread_mutex_lock(&lock);
        if (families[m].first) {
            write_family_locked(out, &rows[m], &families[m]);
        }
        pthread_mutex_unlock(&lock);
    }
    write_process(out);
}
