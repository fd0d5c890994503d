/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector index benchmark, our side: drives the index library in its own process.
 *
 *   ann make DATA ROWS DIM LATENT SEED
 *       writes a data file: a mixture of 64 gaussians in LATENT dimensions through a random linear
 *       map to DIM, plus noise; 1,000 queries of the same distribution
 *   ann load DATA FILE.i8bin [ROWS]
 *       the same from an i8bin file (u32 rows, u32 dim, int8 rows): rows 0..999 are the queries,
 * the rest (or the first ROWS of it) the base, as normalised f32; cosine
 *   ann cut DATA OUT ROWS
 *       the first ROWS base rows of a data file, with exact answers of their own
 *   ann build NAME DATA IMAGE KIND THREADS [KEY=VALUE]...
 *       builds an index and stores its image; prints "build NAME wall-seconds CPU-seconds rows/s
 * index-bytes-per-row vector-bytes-per-row"
 *   ann search|batch NAME DATA IMAGE SETTING...
 *       one line per setting: NAME SETTING recall@10 queries/s, one thread; one query at a time, or
 * all in one call. A setting is KEY=VALUE[,KEY=VALUE]..., "-" for no parameters
 *   ann filter NAME DATA IMAGE SETTING [PERCENT]...
 *       the same setting under filters of four shapes (ann_filter.c)
 *
 * With ANN_MAPPED in the environment `search` maps the vectors from the data file instead of
 * reading them. A point is measured for ANN_SECONDS (1) of CPU time after one pass over all
 * queries; a sweep ends at recall 0.995.
 */
#include "ann.h"

#include <math.h>
#include <sys/mman.h>

static void
make(char **argv)
{
    ann_data d = {.rows = ann_number(argv[1]),
                  .queries = ANN_QUERIES,
                  .dim = ann_number(argv[2]),
                  .k = ANN_K};
    uint32_t latent = ann_number(argv[3]);
    uint64_t state = ann_number(argv[4]);
    float *map = calloc((size_t)latent * d.dim, 4);
    float *centres = calloc((size_t)64 * latent, 4);
    float *z = calloc(latent, 4);

    d.base = calloc((size_t)d.rows * d.dim, 4);
    d.query = calloc((size_t)d.queries * d.dim, 4);
    if (!map || !centres || !z || !d.base || !d.query) {
        ann_die("no memory");
    }
    for (size_t i = 0; i < (size_t)latent * d.dim; i++) {
        map[i] = ann_gauss(&state) / sqrtf((float)latent);
    }
    for (size_t i = 0; i < (size_t)64 * latent; i++) {
        centres[i] = ann_gauss(&state);
    }
    for (size_t r = 0; r < (size_t)d.rows + d.queries; r++) {
        float *out = r < d.rows ? d.base + r * d.dim : d.query + (r - d.rows) * d.dim;
        size_t c = rk__random(&state) % 64;
        for (uint32_t i = 0; i < latent; i++) {
            z[i] = centres[c * latent + i] + 0.7f * ann_gauss(&state);
        }
        for (uint32_t i = 0; i < d.dim; i++) {
            out[i] = 0.02f * ann_gauss(&state);
        }
        for (uint32_t l = 0; l < latent; l++) {
            for (uint32_t i = 0; i < d.dim; i++) {
                out[i] += z[l] * map[(size_t)l * d.dim + i];
            }
        }
    }
    ann_write(argv[0], &d);
}

static void
load(char **argv, int argc)
{
    FILE *file = fopen(argv[1], "rb");
    uint32_t head[2];

    if (!file || fread(head, 8, 1, file) != 1 || head[0] <= ANN_QUERIES || head[1] == 0) {
        ann_die("no i8bin file of more than 1,000 rows");
    }
    ann_data d = {.rows = head[0] - ANN_QUERIES,
                  .queries = ANN_QUERIES,
                  .dim = head[1],
                  .k = ANN_K,
                  .metric = 1};
    int8_t *bytes = calloc(head[0], head[1]);
    float *all = calloc((size_t)head[0] * head[1], 4);
    if (!bytes || !all || fread(bytes, head[1], head[0], file) != head[0]) {
        ann_die("short i8bin file");
    }
    fclose(file);
    for (size_t r = 0; r < head[0]; r++) {
        double sum = 0;
        for (size_t i = 0; i < d.dim; i++) {
            sum += (double)bytes[r * d.dim + i] * bytes[r * d.dim + i];
        }
        for (size_t i = 0; i < d.dim; i++) {
            all[r * d.dim + i] = sum > 0 ? (float)(bytes[r * d.dim + i] / sqrt(sum)) : 0;
        }
    }
    free(bytes);
    d.query = all;
    d.base = all + (size_t)ANN_QUERIES * d.dim;
    if (argc == 3) {
        d.rows = RK_MIN(d.rows, ann_number(argv[2]));
    }
    ann_write(argv[0], &d);
}

static void
cut(char **argv)
{
    ann_data d = ann_load(argv[0]);

    d.rows = RK_MIN(d.rows, ann_number(argv[2]));
    ann_write(argv[1], &d);
}

static rk_code
write_file(void *user, const void *data, size_t len, rk_err *err)
{
    return len == 0 || fwrite(data, len, 1, user) == 1 ? RK_OK
                                                       : rk_fail(err, RK_EIO, "write failed");
}

/* KEY=VALUE into |param|, which borrows |text|; ends at a comma or at the end. Returns what
 * follows. */
static char *
pair(char *text, rk_param *param)
{
    size_t len = strcspn(text, ",");
    size_t key = strcspn(text, "=");

    if (key >= len) {
        ann_die("a parameter is KEY=VALUE");
    }
    param->key = (rk_str){text, key};
    param->value = (rk_str){text + key + 1, len - key - 1};
    return text + len + (text[len] == ',');
}

rk_params
ann_setting(char *text, rk_param params[ANN_PARAMS_MAX])
{
    rk_params out = {params, 0};

    if (strcmp(text, "-") == 0) {
        return out;
    }
    while (*text) {
        if (out.n == ANN_PARAMS_MAX) {
            ann_die("too many parameters");
        }
        text = pair(text, &params[out.n++]);
    }
    return out;
}

static void
build(char **argv, int argc)
{
    ann_data d = ann_load(argv[1]);
    rk_vectors v = ann_vectors(&d);
    unsigned width = ann_number(argv[4]);
    rk_parallel parallel = {.run = ann_run_threads, .width = width, .self = &width};
    rk_param params[ANN_PARAMS_MAX];
    rk_build_options o = {.metric = d.metric ? RK_METRIC_COSINE : RK_METRIC_L2,
                          .params = {params, 0},
                          .parallel = width > 1 ? &parallel : NULL,
                          .seed = 1};
    rk_index *index = NULL;
    rk_err err = {0};

    for (int i = 5; i < argc && o.params.n < ANN_PARAMS_MAX; i++) {
        (void)pair(argv[i], &params[o.params.n++]);
    }
    double start = ann_now();
    double cpu = ann_cpu();
    if (rk_index_check(rk_str_from(argv[3]), v.type, v.dim, o.metric, o.params, &err) != RK_OK ||
        rk_index_build(&index, rk_str_from(argv[3]), &v, &o, &err) != RK_OK) {
        ann_die(err.text);
    }
    double wall = ann_now() - start;
    cpu = ann_cpu() - cpu;

    rk_index_info info;
    rk_index_get_info(index, &info);
    FILE *file = fopen(argv[2], "wb");
    if (!file || rk_index_save(index, write_file, file, &err) != RK_OK || fclose(file) != 0) {
        ann_die("cannot write the image");
    }
    printf("build %s %.2f %.2f %.0f %.1f %u\n", argv[0], wall, cpu, d.rows / wall,
           (double)info.memory_bytes / d.rows, d.dim * 4);
    rk_index_free(index);
}

rk_index *
ann_open(const char *path, const rk_vectors *v)
{
    rk_err err = {0};
    rk_index *index = NULL;
    FILE *file = fopen(path, "rb");

    if (!file || fseek(file, 0, SEEK_END) != 0) {
        ann_die("no image");
    }
    size_t len = (size_t)ftell(file);
    rewind(file);
    char *image = rk__alloc_huge(len);
    if (!image || fread(image, 1, len, file) != len) {
        ann_die("short image");
    }
    fclose(file);
    if (rk_index_open(&index, (rk_str){image, len}, v, NULL, &err) != RK_OK) {
        ann_die(err.text);
    }
    return index;
}

static void
search_one(const rk_index *index, const ann_data *d, uint32_t q, rk_params params, rk_arena *arena,
           uint32_t *found)
{
    rk_search_options o = {.k = d->k, .params = params, .arena = arena};
    rk_hit hits[ANN_K];
    uint32_t n = 0;
    rk_err err = {0};

    if (rk_index_search(index, d->query + (size_t)q * d->dim, (size_t)d->dim * 4, &o, hits, &n,
                        &err) != RK_OK) {
        ann_die(err.text);
    }
    for (uint32_t i = 0; i < d->k; i++) {
        found[i] = i < n ? hits[i].row : UINT32_MAX;
    }
    rk_arena_reset(arena);
}

/* The data file with its base vectors mapped rather than read, as a server has them. */
static ann_data
load_mapped(const char *path)
{
    ann_data d;
    FILE *file = fopen(path, "rb");

    memset(&d, 0, sizeof(d));
    if (!file || fread(&d, 24, 1, file) != 1 || d.rows == 0 || d.dim == 0 || d.k == 0) {
        ann_die("no data file");
    }
    size_t base_bytes = (size_t)d.rows * d.dim * 4;
    char *map = mmap(NULL, 24 + base_bytes, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (map == MAP_FAILED || madvise(map, 24 + base_bytes, MADV_RANDOM) != 0 ||
        fseeko(file, (off_t)(24 + base_bytes), SEEK_SET) != 0) {
        ann_die("the data file cannot be mapped");
    }
    d.base = (float *)(void *)(map + 24);
    d.query = ann_read(file, (size_t)d.queries * d.dim * 4);
    d.truth = ann_read(file, (size_t)d.queries * d.k * 4);
    fclose(file);
    return d;
}

/* All queries in one call. */
static void
search_many(const rk_index *index, const ann_data *d, rk_params params, rk_arena *arena,
            const rk_str *queries, rk_hit *hits, uint32_t *counts)
{
    rk_search_options o = {.k = d->k, .params = params, .arena = arena};
    rk_err err = {0};

    if (rk_index_search_many(index, queries, d->queries, &o, hits, counts, &err) != RK_OK) {
        ann_die(err.text);
    }
}

/* One pass over all queries; adds their recalls to |*recall|, which may be NULL. */
static void
search_all(const rk_index *index, const ann_data *d, bool batch, rk_params params, rk_arena *arena,
           const rk_str *queries, rk_hit *hits, uint32_t *counts, double *recall)
{
    uint32_t found[ANN_K];

    if (batch) {
        search_many(index, d, params, arena, queries, hits, counts);
    }
    for (uint32_t q = 0; (!batch || recall) && q < d->queries; q++) {
        if (!batch) {
            search_one(index, d, q, params, arena, found);
        }
        for (uint32_t i = 0; batch && i < d->k; i++) {
            found[i] = i < counts[q] ? hits[(size_t)q * d->k + i].row : UINT32_MAX;
        }
        if (recall) {
            *recall += ann_recall(d, found, q);
        }
    }
}

static void
search(char **argv, int argc, bool batch)
{
    ann_data d = getenv("ANN_MAPPED") ? load_mapped(argv[1]) : ann_load(argv[1]);
    rk_vectors v = ann_vectors(&d);
    rk_index *index = ann_open(argv[2], &v);
    rk_arena *arena = rk_arena_new(0);
    rk_str *queries = calloc(d.queries, sizeof(*queries));
    rk_hit *hits = calloc((size_t)d.queries * d.k, sizeof(*hits));
    uint32_t *counts = calloc(d.queries, sizeof(*counts));
    double recall = 0;

    if (d.k != ANN_K) {
        ann_die("a data file with ten answers a query is wanted");
    }
    if (!arena || !queries || !hits || !counts) {
        ann_die("no memory");
    }
    for (uint32_t q = 0; q < d.queries; q++) {
        queries[q] = (rk_str){(const char *)(d.query + (size_t)q * d.dim), (size_t)d.dim * 4};
    }
    for (int s = 3; s < argc && recall < 0.995 * d.queries; s++) {
        rk_param params[ANN_PARAMS_MAX];
        rk_params setting = ann_setting(argv[s], params);
        /* the first pass warms up, too */
        recall = 0;
        search_all(index, &d, batch, setting, arena, queries, hits, counts, &recall);
        double seconds = ann_seconds();
        double start = ann_cpu();
        uint32_t rounds = 0;
        do {
            search_all(index, &d, batch, setting, arena, queries, hits, counts, NULL);
            rounds++;
        } while (ann_cpu() - start < seconds);
        printf("%s %s %.4f %.0f\n", argv[0], argv[s], recall / d.queries,
               rounds * d.queries / (ann_cpu() - start));
        fflush(stdout);
    }
    rk_index_free(index);
    rk_arena_free(arena);
    free(queries);
    free(hits);
    free(counts);
}

int
main(int argc, char **argv)
{
    rk_kernels_init();
    if (argc == 7 && strcmp(argv[1], "make") == 0) {
        make(argv + 2);
    } else if ((argc == 4 || argc == 5) && strcmp(argv[1], "load") == 0) {
        load(argv + 2, argc - 2);
    } else if (argc == 5 && strcmp(argv[1], "cut") == 0) {
        cut(argv + 2);
    } else if (argc >= 7 && strcmp(argv[1], "build") == 0) {
        build(argv + 2, argc - 2);
    } else if (argc > 5 && strcmp(argv[1], "search") == 0) {
        search(argv + 2, argc - 2, false);
    } else if (argc > 5 && strcmp(argv[1], "batch") == 0) {
        search(argv + 2, argc - 2, true);
    } else if (argc > 5 && strcmp(argv[1], "filter") == 0) {
        ann_filter(argv + 2, argc - 2);
    } else {
        ann_die("see the head of ann.c for usage");
    }
    return 0;
}
