/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DISKANN and AISAQ, searched from a file without a mapping.
 *
 *   disk build DATA IMAGE KIND THREADS
 *       builds over a data file of bench/ann (ann_data.h) and writes the image
 *   disk search DATA IMAGE THREADS SECONDS LIST [BEAM [PERIOD_US]]
 *       THREADS threads ask one query after the other for SECONDS; one line: list, threads,
 * recall@10, queries per second, median and 99th percentile of a query's time in us, pages read a
 * query, MiB held by the index as it says itself, peak MiB of the process beyond what it had before
 * the index was opened (anonymous and file), and the share of both in the raw vectors LIST 0: the
 * default. PERIOD_US: each thread asks a query every PERIOD_US instead of as fast as it can, times
 * are then counted from when a query was due
 *   disk ceiling IMAGE THREADS SECONDS
 *       what the disk gives: single pages at random places of the file, 8 under way in each thread,
 * through the same reader; one line: pages per second, mean us of a page
 *
 * In the environment: RK_DISK_PREAD=1, as where io_uring is refused; RK_DISK_SHARE=0.01, under a
 * random filter that lets that share of the rows pass (what recall says is then of no use).
 *
 * The base vectors are read for the build only, so that the memory of a search is its own.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "index/index_private.h"

#define K           10u
#define THREADS_MAX 64u
#define SAMPLES_MAX ((size_t)1 << 22)

typedef struct data_file {
    uint32_t rows, queries, dim, k, metric;
    float *base; /* NULL unless asked for */
    float *query;
    uint32_t *truth;
} data_file;

static void
die(const char *what)
{
    (void)fprintf(stderr, "disk: %s\n", what);
    exit(1);
}

static void
must(rk_code code, const rk_err *err)
{
    if (code != RK_OK) {
        die(err->text);
    }
}

static void
read_at(int fd, void *out, size_t len, uint64_t offset)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = pread(fd, at, len < (1u << 30) ? len : 1u << 30, (off_t)offset);
        if (got <= 0) {
            die("short data file");
        }
        at += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
}

static void *
read_part(int fd, size_t len, uint64_t *offset)
{
    void *p = rk_alloc_aligned(64, (len + 127) / 64 * 64);
    if (!p) {
        die("out of memory");
    }
    read_at(fd, p, len, *offset);
    *offset += len;
    return p;
}

static data_file
load(const char *path, bool base)
{
    data_file d;
    uint32_t head[6];
    uint64_t at = sizeof(head);
    int fd = open(path, O_RDONLY);

    if (fd < 0) {
        die("cannot open the data file");
    }
    read_at(fd, head, sizeof(head), 0);
    d = (data_file){head[0], head[1], head[2], head[3], head[4], NULL, NULL, NULL};
    if (base) {
        d.base = read_part(fd, (size_t)d.rows * d.dim * 4, &at);
    } else {
        at += (uint64_t)d.rows * d.dim * 4;
    }
    d.query = read_part(fd, (size_t)d.queries * d.dim * 4, &at);
    d.truth = read_part(fd, (size_t)d.queries * d.k * 4, &at);
    close(fd);
    return d;
}

/* Processor time of all threads of this process. */
static double
cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double
now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* ---- build ---- */

typedef struct team {
    size_t n;
    void (*fn)(void *, size_t);
    void *arg;
    _Atomic(size_t) next;
} team;

static void *
team_main(void *arg)
{
    team *t = arg;
    for (size_t i = atomic_fetch_add(&t->next, 1); i < t->n; i = atomic_fetch_add(&t->next, 1)) {
        t->fn(t->arg, i);
    }
    return NULL;
}

static void
team_run(void *self, size_t n, void (*fn)(void *, size_t), void *arg)
{
    unsigned width = *(unsigned *)self;
    team t = {.n = n, .fn = fn, .arg = arg};
    pthread_t ids[THREADS_MAX];
    for (unsigned i = 1; i < width; i++) {
        if (pthread_create(&ids[i], NULL, team_main, &t) != 0) {
            die("no thread");
        }
    }
    (void)team_main(&t);
    for (unsigned i = 1; i < width; i++) {
        (void)pthread_join(ids[i], NULL);
    }
}

static rk_code
write_file(void *user, const void *data, size_t len, rk_err *err)
{
    RK_UNUSED(err);
    return fwrite(data, 1, len, user) == len ? RK_OK : RK_EIO;
}

static void
build(const data_file *d, const char *image, const char *kind, unsigned threads)
{
    rk_vectors vectors = {RK_VEC_F32, d->dim, d->rows, d->base, NULL};
    rk_parallel parallel = {.run = team_run, .width = threads, .self = &threads};
    rk_build_options options = {.metric = d->metric ? RK_METRIC_COSINE : RK_METRIC_L2,
                                .parallel = &parallel,
                                .mem = rk_mem_new(NULL, "build", 0),
                                .seed = 1};
    rk_index *index = NULL;
    rk_err err = {0};
    FILE *file = fopen(image, "wb");
    double start = now_us();
    double built;

    if (!file) {
        die("cannot write the image");
    }
    must(rk_index_build(&index, rk_str_from(kind), &vectors, &options, &err), &err);
    built = now_us();
    must(rk_index_save(index, write_file, file, &err), &err);
    if (fflush(file) != 0 || fsync(fileno(file)) != 0 || fclose(file) != 0) {
        die("cannot write the image");
    }
    printf("built %s of %u x %u in %.1f s (%.0f rows/s), written in %.1f s\n", kind, d->rows,
           d->dim, (built - start) * 1e-6, (double)d->rows / (built - start) * 1e6,
           (now_us() - built) * 1e-6);
    rk_index_free(index);
}

/* ---- search ---- */

static void
make_filter(rk_bitset *filter, uint32_t rows, double share)
{
    uint64_t state = 77;

    if (rk_bitset_init(filter, rows) != RK_OK) {
        die("out of memory");
    }
    for (uint32_t i = 0; i < rows; i++) {
        if ((double)(rk__random(&state) >> 11) * 0x1p-53 < share) {
            rk_bitset_set(filter, i);
        }
    }
}

/* A page reader that counts. */
typedef struct counting {
    rk_pages base;
    rk_pages *inner;
    _Atomic(uint64_t) reads;
} counting;

static rk_code
count_take(rk_pages *p, size_t n, rk_page_channel **out, rk_err *err)
{
    counting *c = RK_CONTAINER(p, counting, base);
    return c->inner->take(c->inner, n, out, err);
}

static void
count_give(rk_pages *p, rk_page_channel *channel)
{
    counting *c = RK_CONTAINER(p, counting, base);
    c->inner->give(c->inner, channel);
}

static rk_code
count_submit(rk_pages *p, rk_page_channel *channel, rk_page_read *reads, size_t n, rk_err *err)
{
    counting *c = RK_CONTAINER(p, counting, base);
    for (size_t i = 0; i < n; i++) {
        atomic_fetch_add(&c->reads, reads[i].len / RK_PAGE_BYTES);
    }
    return c->inner->submit(c->inner, channel, reads, n, err);
}

static rk_code
count_wait(rk_pages *p, rk_page_channel *channel, rk_page_read **done, size_t max, size_t *n,
           rk_err *err)
{
    counting *c = RK_CONTAINER(p, counting, base);
    return c->inner->wait(c->inner, channel, done, max, n, err);
}

typedef struct run {
    const data_file *d;
    const rk_index *index;
    rk_params params;
    rk_bitset filter; /* of no rows: none */
    size_t passing;
    double end_us;
    double period_us;
    _Atomic(uint64_t) next;
    _Atomic(uint64_t) found;
    _Atomic(size_t) samples;
    float *times;
} run;

static void *
run_main(void *arg)
{
    run *r = arg;
    rk_arena *arena = rk_arena_new(0);
    double due = now_us();

    for (;;) {
        uint64_t q = atomic_fetch_add(&r->next, 1) % r->d->queries;
        rk_search_options options = {.k = K,
                                     .params = r->params,
                                     .filter = r->filter.nbits ? &r->filter : NULL,
                                     .filter_count = r->passing,
                                     .arena = arena};
        rk_hit hits[K];
        rk_err err = {0};
        uint32_t n = 0;
        uint64_t found = 0;
        if (r->period_us > 0) {
            double wait = due - now_us();
            if (wait > 0) {
                (void)usleep((useconds_t)wait);
            }
        } else {
            due = now_us();
        }
        if (due >= r->end_us) {
            break;
        }
        rk_arena_reset(arena);
        must(rk_index_search(r->index, r->d->query + q * r->d->dim, (size_t)r->d->dim * 4, &options,
                             hits, &n, &err),
             &err);
        size_t at = atomic_fetch_add(&r->samples, 1);
        if (at < SAMPLES_MAX) {
            r->times[at] = (float)(now_us() - due);
        }
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j < K; j++) {
                found += r->d->truth[q * r->d->k + j] == hits[i].row;
            }
        }
        atomic_fetch_add(&r->found, found);
        due += r->period_us;
    }
    rk_arena_free(arena);
    return NULL;
}

/* The exact answers of the first queries under the filter, in place of those of the file. */
static void
refresh_truth(run *r, data_file *d)
{
    rk_param all = {RK_STR("search_list"), RK_STR("2000000000")};
    rk_arena *arena = rk_arena_new(0);

    d->queries = RK_MIN(d->queries, 100u);
    for (uint32_t q = 0; q < d->queries; q++) {
        rk_search_options options = {.k = K,
                                     .params = {&all, 1},
                                     .filter = &r->filter,
                                     .filter_count = r->passing,
                                     .arena = arena};
        rk_hit hits[K];
        rk_err err = {0};
        uint32_t n = 0;
        must(rk_index_search(r->index, d->query + (size_t)q * d->dim, (size_t)d->dim * 4, &options,
                             hits, &n, &err),
             &err);
        for (uint32_t i = 0; i < K; i++) {
            d->truth[(size_t)q * d->k + i] = i < n ? hits[i].row : UINT32_MAX;
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
}

static int
by_size(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Resident bytes of the process, or the most so far. */
static double
resident_mib(const char *key)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtod(line + strlen(key), NULL);
        }
    }
    if (file) {
        (void)fclose(file);
    }
    return kib / 1024;
}

static void
search(data_file *d, const char *image, unsigned threads, double seconds, rk_params params,
       double period_us)
{
    rk_vectors vectors = {RK_VEC_F32, d->dim, d->rows, NULL, NULL};
    rk_mem *mem = rk_mem_new(NULL, "disk", 0);
    counting pages = {.base = {0}};
    run r = {.d = d, .params = params, .period_us = period_us};
    pthread_t ids[THREADS_MAX];
    rk_index *index = NULL;
    rk_index_info info;
    rk_err err = {0};
    double before;
    double start;
    double raw = (double)d->rows * d->dim * 4 / 1048576;

    if (getenv("RK_DISK_SHARE")) {
        make_filter(&r.filter, d->rows, strtod(getenv("RK_DISK_SHARE"), NULL));
        r.passing = rk_bitset_count(&r.filter);
    }
    r.times = rk_alloc_zero(SAMPLES_MAX, sizeof(float));
    memset(r.times, 1, SAMPLES_MAX * sizeof(float)); /* resident before the index is */
    before = resident_mib("VmRSS:");
    must(rk_pages_open_file(&pages.inner, image, &err), &err);
    pages.base = (rk_pages){.size_bytes = pages.inner->size_bytes,
                            .take = count_take,
                            .give = count_give,
                            .submit = count_submit,
                            .wait = count_wait};
    must(rk_index_open_pages(&index, &pages.base, &vectors, mem, &err), &err);
    rk_index_get_info(index, &info);
    r.index = index;
    if (r.filter.nbits && r.passing <= 20000) {
        refresh_truth(&r, d);
    }
    atomic_store(&pages.reads, 0);
    double cpu = cpu_us();
    start = now_us();
    r.end_us = start + seconds * 1e6;
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&ids[i], NULL, run_main, &r) != 0) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(ids[i], NULL);
    }
    double spent = now_us() - start;
    cpu = cpu_us() - cpu;
    size_t done = r.samples;
    size_t n = RK_MIN(done, SAMPLES_MAX);
    double held = resident_mib("VmHWM:") - before;
    qsort(r.times, n, sizeof(float), by_size);
    printf("%-5s threads %2u  recall %.4f  qps %7.0f  p50 %6.0f us  p99 %6.0f us  cpu %5.0f us  "
           "pages %5.1f  "
           "index %.1f MiB "
           "(%.1f %%)  process +%.1f MiB (%.1f %%)  engine %s\n",
           params.n > 0 ? params.data[0].value.data : "-", threads,
           (double)r.found / ((double)done * K), (double)done / spent * 1e6, (double)r.times[n / 2],
           (double)r.times[n * 99 / 100], cpu / (double)done,
           (double)atomic_load(&pages.reads) / (double)done, (double)info.memory_bytes / 1048576,
           (double)info.memory_bytes / 1048576 / raw * 100, held, held / raw * 100,
           rk_pages_engine());
    rk_index_free(index);
    rk_mem_free(mem);
    rk_pages_close(pages.inner);
    rk_free(r.times);
}

/* ---- the disk itself ---- */

typedef struct ceiling {
    rk_pages *pages;
    double end_us;
    _Atomic(uint64_t) reads;
    _Atomic(uint64_t) seed;
} ceiling;

static void *
ceiling_main(void *arg)
{
    enum { DEPTH = 8 };
    ceiling *c = arg;
    uint64_t state = atomic_fetch_add(&c->seed, 1) << 32;
    uint64_t n_pages = c->pages->size_bytes / RK_PAGE_BYTES;
    rk_page_channel *channel = NULL;
    rk_page_read reads[DEPTH];
    rk_page_read *free_reads[DEPTH];
    size_t n = DEPTH;
    rk_err err = {0};

    must(c->pages->take(c->pages, DEPTH * RK_PAGE_BYTES, &channel, &err), &err);
    for (size_t i = 0; i < DEPTH; i++) {
        reads[i].into = channel->buffer + i * RK_PAGE_BYTES;
        free_reads[i] = &reads[i];
    }
    while (now_us() < c->end_us) {
        for (size_t i = 0; i < n; i++) {
            free_reads[i]->offset = rk__random(&state) % n_pages * RK_PAGE_BYTES;
            free_reads[i]->len = RK_PAGE_BYTES;
            must(c->pages->submit(c->pages, channel, free_reads[i], 1, &err), &err);
        }
        must(c->pages->wait(c->pages, channel, free_reads, DEPTH, &n, &err), &err);
        atomic_fetch_add(&c->reads, n);
    }
    c->pages->give(c->pages, channel);
    return NULL;
}

static void
measure_ceiling(const char *image, unsigned threads, double seconds)
{
    ceiling c = {.end_us = now_us() + seconds * 1e6};
    pthread_t ids[THREADS_MAX];
    rk_err err = {0};

    must(rk_pages_open_file(&c.pages, image, &err), &err);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&ids[i], NULL, ceiling_main, &c) != 0) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(ids[i], NULL);
    }
    printf("disk  threads %2u  %.0f pages/s, %.0f us each, engine %s\n", threads,
           (double)c.reads / seconds, seconds * 1e6 * 8 * threads / (double)c.reads,
           rk_pages_engine());
    rk_pages_close(c.pages);
}

int
main(int argc, char **argv)
{
    rk_param params[2];
    rk_params given = {params, 0};

    rk_kernels_init();
    rk_pages_refuse_uring(getenv("RK_DISK_PREAD") != NULL);
    if (argc == 6 && strcmp(argv[1], "build") == 0) {
        data_file d = load(argv[2], true);
        build(&d, argv[3], argv[4], (unsigned)strtoul(argv[5], NULL, 10));
        return 0;
    }
    if (argc == 5 && strcmp(argv[1], "ceiling") == 0) {
        unsigned threads = (unsigned)strtoul(argv[3], NULL, 10);
        measure_ceiling(argv[2], RK_MIN(RK_MAX(threads, 1u), THREADS_MAX), strtod(argv[4], NULL));
        return 0;
    }
    if (argc < 7 || argc > 9 || strcmp(argv[1], "search") != 0) {
        die("build DATA IMAGE KIND THREADS | search DATA IMAGE THREADS SECONDS LIST [BEAM "
            "[PERIOD_US]]");
    }
    data_file d = load(argv[2], false);
    unsigned threads = (unsigned)strtoul(argv[4], NULL, 10);
    if (strcmp(argv[6], "0") != 0) {
        params[given.n++] = (rk_param){rk_str_from("search_list"), rk_str_from(argv[6])};
    }
    if (argc > 7) {
        params[given.n++] = (rk_param){rk_str_from("beamwidth"), rk_str_from(argv[7])};
    }
    search(&d, argv[3], RK_MIN(RK_MAX(threads, 1u), THREADS_MAX), strtod(argv[5], NULL), given,
           argc > 8 ? strtod(argv[8], NULL) : 0);
    return 0;
}
