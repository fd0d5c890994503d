/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building DISKANN and AISAQ: group rows by k-means over a sample, put near rows of a group into
 * the same pages, code each row against its centre, checksum the pages as they will be written, and
 * measure how many lists the neighbours of a row are spread over.
 *
 * Planes are as many as fit the share of the raw vectors that memory may take:
 * pq_code_budget_gb_ratio when given, else a tenth. AISAQ, whose codes stay on disk, takes two:
 * more would make its reads longer than the candidates they spare.
 *
 * The measurement: up to 128 rows are taken as queries, their 10 and 100 nearest found exactly, and
 * the lists ranked as a search would; from the numbers of lists that hold 98.5 % of either follows
 * nprobe as a power of k. Vectors are borrowed until the image is written, which is done page by
 * page, so a build never holds a second copy of them.
 */
#include "index/disk/disk.h"
#include "index/kmeans.h"

#define CHUNK           1024u
#define LISTS_MAX       65536u
#define LIST_ROWS_MIN   64u
#define SAMPLE_PER_LIST 48u
#define SAMPLE_BYTES    ((uint64_t)256 << 20)
#define ITERATIONS      8u
#define MEMORY_SHARE    0.1
#define AISAQ_PLANES    2u
#define PROBE_QUERIES   128u
#define PROBE_WORK      4e8 /* rows scored for the measurement, all queries together */
#define PROBE_COVERAGE  0.985

typedef struct disk_build {
    rk_index *index;
    rk__disk *disk;
    const rk_build_options *options;
    uint32_t *list; /* of each row, while building */
    rk__kmeans kmeans;
    _Atomic(bool) out_of_memory;
} disk_build;

static void *
own(disk_build *b, size_t slot, uint64_t size_bytes)
{
    b->disk->owned[slot] = rk__alloc_huge(size_bytes + 1);
    return b->disk->owned[slot];
}

/* ---- sizes ---- */

static double
memory_share(const rk_build_options *options)
{
    double ratio = rk__param_float(options->params, "pq_code_budget_gb_ratio", 0, 0, 1);

    return ratio > 0 ? ratio : MEMORY_SHARE;
}

static uint32_t
lists_for(const rk__space *space, double share)
{
    double rows = (double)space->rows;
    double most = share / 10 * rows * (double)space->row_bytes / ((double)space->dim * 4);
    double n = RK_MIN(2 * sqrt(rows), rows / LIST_ROWS_MIN);

    n = RK_MIN(RK_MIN(n, most), (double)LISTS_MAX);
    return space->rows == 0 ? 0 : n < 1 ? 1 : (uint32_t)n;
}

static double
bytes_in_memory(const rk__disk *disk, const rk__space *space)
{
    double records = (double)space->rows / RK__BITS_ROWS + (double)disk->nlist / 2;

    return records * (double)disk->record_bytes + (double)disk->units * 4 +
           (double)disk->nlist * (12 + 4 * (double)space->dim);
}

static void
choose_sizes(disk_build *b)
{
    const rk__space *space = &b->index->space;
    rk__disk *disk = b->disk;
    double share = memory_share(b->options);
    double most = share * (double)space->rows * (double)space->row_bytes;

    disk->nlist = lists_for(space, share);
    if (b->index->kind == RK__KIND_AISAQ) {
        uint32_t padded = rk__rotation_of(space->dim, 0).padded;
        bool two = rk__bits_groups(AISAQ_PLANES * padded) <= RK__DISK_GROUPS_MAX;
        rk__disk_shape(disk, space, two ? AISAQ_PLANES : 1, b->options->seed);
        return;
    }
    for (uint32_t planes = RK__DISK_PLANES_MAX; planes >= 1; planes--) {
        rk__disk_shape(disk, space, planes, b->options->seed);
        if (bytes_in_memory(disk, space) <= most &&
            rk__bits_groups(disk->code_dims) <= RK__DISK_GROUPS_MAX) {
            return;
        }
    }
    while (disk->nlist > 16 && bytes_in_memory(disk, space) > most) { /* fewer, longer lists */
        disk->nlist = disk->nlist / 4 * 3;
    }
}

/* ---- centres ---- */

static bool
is_finite(const float *form, size_t dim)
{
    float zero = 0;

    for (size_t i = 0; i < dim; i++) {
        zero += form[i] * 0.0f; /* NaN when a component is not finite */
    }
    return zero == 0;
}

/* |n| rows evenly spread, those that are not finite replaced by the finite one before. */
static void
take_sample(const rk__space *space, float *sample, size_t n)
{
    memset(sample, 0, (size_t)space->dim * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float *at = sample + i * space->dim;
        size_t row = (size_t)((double)i * (double)space->rows / (double)n);
        rk__disk_form(space, rk__space_row(space, row), at);
        if (!is_finite(at, space->dim)) {
            memset(at, 0, (size_t)space->dim * sizeof(float));
            if (i > 0) {
                memcpy(at, at - space->dim, (size_t)space->dim * sizeof(float));
            }
        }
    }
}

static rk_code
make_centres(disk_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;
    const rk__dense_kernels *kernels = &rk__kernels_get()->dense[RK__F32];
    size_t row_bytes = (size_t)space->dim * sizeof(float);
    uint64_t want = (uint64_t)b->disk->nlist * SAMPLE_PER_LIST;
    uint64_t n = RK_MIN(RK_MIN(want, SAMPLE_BYTES / row_bytes), (uint64_t)space->rows);
    float *centres = own(b, 0, b->disk->nlist * row_bytes);
    float *sample;
    rk_code code;

    n = RK_MAX(n, (uint64_t)b->disk->nlist);
    RK_RET(rk__index_reserve(b->index, n * row_bytes, "disk index training sample", err));
    sample = rk_alloc_aligned(64, (n * row_bytes + 63) / 64 * 64);
    if (!sample || !centres) {
        code = rk_fail(err, RK_ENOMEM, "disk index build: no memory for a sample of %llu rows",
                       (unsigned long long)n);
    } else {
        take_sample(space, sample, n);
        b->kmeans = (rk__kmeans){.rows = sample,
                                 .n = n,
                                 .dim = space->dim,
                                 .dist = kernels->l2,
                                 .dist4 = kernels->l2x4,
                                 .k = b->disk->nlist,
                                 .iterations_max = ITERATIONS,
                                 .options = b->options};
        code = rk__kmeans_run(&b->kmeans, centres, err);
    }
    b->disk->centres = centres;
    rk_free(sample);
    rk__index_release(b->index, n * row_bytes);
    return code;
}

/* ---- lists ---- */

static void
assign_chunk(void *arg, size_t chunk)
{
    disk_build *b = arg;
    const rk__space *space = &b->index->space;
    size_t from = chunk * CHUNK;
    size_t to = RK_MIN(from + CHUNK, space->rows);
    float *form = rk_alloc((size_t)space->dim * sizeof(float));

    if (!form) {
        b->out_of_memory = true;
    }
    for (size_t r = from; form && r < to && !rk__cancelled(b->options); r++) {
        float distance = 0;
        rk__disk_form(space, rk__space_row(space, r), form);
        b->list[r] = rk__kmeans_nearest(&b->kmeans, b->disk->centres, form, &distance);
    }
    rk_free(form);
}

static rk_code
check_stopped(const disk_build *b, rk_err *err)
{
    if (rk__cancelled(b->options)) {
        return rk_fail(err, RK_ECANCELLED, "disk index build cancelled");
    }
    if (b->out_of_memory) {
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory for one row");
    }
    return RK_OK;
}

static rk_code
make_lists(disk_build *b, rk_err *err)
{
    size_t rows = b->index->space.rows;
    uint32_t nlist = b->disk->nlist;
    uint32_t *starts = own(b, 1, ((uint64_t)nlist + 2) * sizeof(uint32_t));
    uint32_t *order = own(b, 3, rows * sizeof(uint32_t));

    if (!starts || !order) {
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory to group %zu rows", rows);
    }
    if (nlist > 0) {
        rk__parallel_run(b->options->parallel, (rows + CHUNK - 1) / CHUNK, assign_chunk, b);
    }
    RK_RET(check_stopped(b, err));
    memset(starts, 0, ((size_t)nlist + 2) * sizeof(*starts));
    for (size_t r = 0; r < rows; r++) {
        starts[b->list[r] + 2]++;
    }
    for (uint32_t c = 0; c < nlist; c++) {
        starts[c + 2] += starts[c + 1];
    }
    for (size_t r = 0; r < rows; r++) { /* starts[c + 1] is where list c's next row goes */
        order[starts[b->list[r] + 1]++] = (uint32_t)r;
    }
    b->disk->starts = starts;
    b->disk->order = order;
    return rk__disk_derive(b->index, b->disk, err);
}

static void
order_list(void *arg, size_t list)
{
    disk_build *b = arg;
    uint32_t *order = b->disk->owned[3];
    uint32_t first = b->disk->starts[list];

    if (!rk__cancelled(b->options) &&
        !rk__disk_order_rows(b->index, order + first, b->disk->starts[list + 1] - first, first,
                             b->disk->unit_rows)) {
        b->out_of_memory = true;
    }
}

/* ---- codes ---- */

typedef struct code_scratch {
    float *form;    /* dim */
    float *rotated; /* padded */
    rk__disk_coding coding;
} code_scratch;

static void
encode_row(const disk_build *b, code_scratch *s, uint32_t row, uint32_t slot, uint8_t *record)
{
    const rk__disk *disk = b->disk;
    const rk__space *space = &b->index->space;
    uint32_t *rows = (uint32_t *)(void *)record;
    uint16_t *factors = (uint16_t *)(void *)(rows + RK__BITS_ROWS);
    bool nan = false;

    rk__disk_form(space, rk__space_row(space, row), s->form);
    for (size_t i = 0; i < space->dim; i++) {
        nan = nan || s->form[i] != s->form[i];
        s->form[i] -= disk->mean[i];
    }
    rk__rotate(&disk->rotation, s->form, s->rotated);
    rk__disk_encode(disk, space->metric, &s->coding);
    factors[slot] = rk_f32_to_bf16(s->coding.add);
    factors[RK__BITS_ROWS + slot] = rk_f32_to_bf16(s->coding.mul);
    rk__bits_place(s->coding.signs, disk->code_dims, slot, record + RK__DISK_FACTORS);
    rows[slot] = nan ? RK__NO_ROW : row; /* a row with NaN never comes back */
}

static void
encode_list(void *arg, size_t list)
{
    disk_build *b = arg;
    const rk__disk *disk = b->disk;
    size_t dim = b->index->space.dim;
    size_t padded = disk->rotation.padded; /* at least dim */
    float *memory = rk_alloc_aligned(64, 5 * padded * sizeof(float) + disk->code_dims);
    uint8_t *records = disk->owned[2];
    uint32_t n = disk->starts[list + 1] - disk->starts[list];
    code_scratch s;

    if (!memory) {
        b->out_of_memory = true;
        return;
    }
    s = (code_scratch){.form = memory, .rotated = memory + padded};
    s.coding = (rk__disk_coding){.row = s.rotated,
                                 .centre = memory + 2 * padded,
                                 .mean = memory + 3 * padded,
                                 .residual = memory + 4 * padded,
                                 .signs = (uint8_t *)(memory + 5 * padded)};
    rk__rotate(&disk->rotation, disk->mean, memory + 3 * padded);
    for (size_t i = 0; i < dim; i++) {
        s.form[i] = disk->centres[list * dim + i] - disk->mean[i];
    }
    rk__rotate(&disk->rotation, s.form, memory + 2 * padded);
    for (uint32_t i = 0; i < n && !rk__cancelled(b->options); i++) {
        size_t at = (size_t)disk->first_records[list] + i / RK__BITS_ROWS;
        uint8_t *record = records + at * disk->record_bytes;
        if (i % RK__BITS_ROWS == 0) {
            memset(record, 0, disk->record_bytes);
            memset(record, 0xff, RK__BITS_ROWS * sizeof(uint32_t));
        }
        encode_row(b, &s, disk->order[disk->starts[list] + i], i % RK__BITS_ROWS, record);
    }
    rk_free(memory);
    if (b->options->rows_done) {
        *b->options->rows_done += n;
    }
}

static rk_code
make_codes(disk_build *b, rk_err *err)
{
    rk__disk *disk = b->disk;
    uint64_t n = disk->first_records[disk->nlist];
    uint32_t *crcs = NULL;

    RK_RET(rk__index_reserve(b->index, n * (disk->record_bytes + sizeof(uint32_t)),
                             "disk index codes", err));
    disk->records = own(b, 2, n * disk->record_bytes);
    if (!disk->records) {
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory for %llu bytes of codes",
                       (unsigned long long)(n * disk->record_bytes));
    }
    rk__parallel_run(b->options->parallel, disk->nlist, encode_list, b);
    RK_RET(check_stopped(b, err));
    if (b->index->kind == RK__KIND_AISAQ) {
        crcs = own(b, 5, n * sizeof(uint32_t));
        if (!crcs) {
            return rk_fail(err, RK_ENOMEM, "disk index build: no memory for checksums");
        }
        for (uint64_t i = 0; i < n; i++) {
            crcs[i] = rk_crc32c(0, disk->records + i * disk->record_bytes, disk->record_bytes);
        }
        disk->record_crcs = crcs;
    }
    return RK_OK;
}

static rk_code
checksum_pages(disk_build *b, rk_err *err)
{
    rk__disk *disk = b->disk;
    uint32_t *crcs = own(b, 4, disk->units * sizeof(uint32_t));
    uint8_t *unit = rk_alloc(disk->unit_bytes);

    if (!crcs || !unit) {
        rk_free(unit);
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory for checksums");
    }
    for (uint64_t u = 0; u < disk->units && !rk__cancelled(b->options); u++) {
        rk__disk_fill_unit(b->index, disk, u, unit);
        crcs[u] = rk_crc32c(0, unit, disk->unit_bytes);
        disk->pages_crc = rk_crc32c(disk->pages_crc, unit, disk->unit_bytes);
    }
    disk->page_crcs = crcs;
    rk_free(unit);
    return check_stopped(b, err);
}

/* ---- how many lists ---- */

enum { NEAR, WIDE, DEPTHS };

typedef struct probe_job {
    disk_build *b;
    uint32_t queries;
    uint32_t depth[DEPTHS]; /* neighbours looked at */
    uint32_t *ranks;        /* queries * depth[WIDE], nearest first; NO_ROW: none */
} probe_job;

/* How many lists a search would visit before |list|. */
static uint32_t
rank_of(const float *keys, uint32_t nlist, uint32_t list)
{
    uint32_t rank = 0;

    for (uint32_t c = 0; c < nlist; c++) {
        rank += keys[c] < keys[list];
    }
    return rank;
}

static void
rank_neighbours(const probe_job *job, const float *form, const rk__heap *near, size_t self,
                uint32_t *out, float *keys)
{
    const rk__space *space = &job->b->index->space;
    const rk__disk *disk = job->b->disk;
    const rk__dense_kernels *kernels = &rk__kernels_get()->dense[RK__F32];
    bool ip = space->metric == RK_METRIC_IP;
    uint32_t n = 0;

    for (uint32_t c = 0; c < disk->nlist; c++) {
        const float *centre = disk->centres + (size_t)c * space->dim;
        keys[c] =
            ip ? -kernels->ip(form, centre, space->dim) : kernels->l2(form, centre, space->dim);
    }
    for (uint32_t i = 0; i < near->n && n < job->depth[WIDE]; i++) {
        if (near->items[i].row != self) {
            out[n++] = rank_of(keys, disk->nlist, job->b->list[near->items[i].row]);
        }
    }
    for (; n < job->depth[WIDE]; n++) {
        out[n] = RK__NO_ROW;
    }
}

static void
probe_query(void *arg, size_t q)
{
    probe_job *job = arg;
    const rk__space *space = &job->b->index->space;
    size_t row = q * space->rows / job->queries;
    rk__query query = {.data = rk__space_row(space, row), .len = space->row_bytes};
    rk__heap near = {.cap = job->depth[WIDE] + 1};
    rk__range none = {.on = false};
    float *form = rk_alloc((size_t)space->dim * sizeof(float));
    float *keys = rk_alloc((size_t)job->b->disk->nlist * sizeof(float));

    near.items = rk_alloc((size_t)near.cap * sizeof(*near.items));
    if (!form || !keys || !near.items) {
        job->b->out_of_memory = true;
    } else if (!rk__cancelled(job->b->options)) {
        query.inv_norm = rk__inv_norm(space, query.data);
        rk__scan(space, &query, 0, space->rows, 0, NULL, &none, &near);
        rk__heap_sort(&near);
        rk__disk_form(space, query.data, form);
        rank_neighbours(job, form, &near, row, job->ranks + q * job->depth[WIDE], keys);
    }
    rk_free(form);
    rk_free(keys);
    rk_free(near.items);
}

/* The number of lists that hold enough of the |depth| nearest. |counts| has nlist zeros. */
static double
lists_that_hold(const probe_job *job, uint32_t depth, uint32_t *counts)
{
    uint64_t total = 0;
    uint64_t held = 0;
    uint32_t list = 0;

    for (size_t q = 0; q < job->queries; q++) {
        for (uint32_t i = 0; i < depth; i++) {
            uint32_t rank = job->ranks[q * job->depth[WIDE] + i];
            if (rank < job->b->disk->nlist) {
                counts[rank]++;
                total++;
            }
        }
    }
    while (list < job->b->disk->nlist &&
           (double)(held + counts[list]) < PROBE_COVERAGE * (double)total) {
        held += counts[list++];
    }
    return (double)list + 1;
}

static rk_code
measure_probes(disk_build *b, rk_err *err)
{
    rk__disk *disk = b->disk;
    size_t rows = b->index->space.rows;
    probe_job job = {.b = b, .depth = {10, (uint32_t)RK_MIN(rows, (size_t)100)}};
    uint32_t *counts;
    rk_code code;

    disk->probe[0] = (float)disk->nlist; /* all of them */
    if (rows < 200 || disk->nlist < 2) {
        return RK_OK;
    }
    job.queries = (uint32_t)RK_MIN(RK_MAX(PROBE_WORK / (double)rows, 32.0), (double)PROBE_QUERIES);
    job.ranks = rk_alloc((size_t)job.queries * job.depth[WIDE] * sizeof(uint32_t));
    counts = rk_alloc_zero((size_t)disk->nlist * 2, sizeof(*counts));
    if (!job.ranks || !counts) {
        code = rk_fail(err, RK_ENOMEM, "disk index build: no memory to measure its lists");
    } else {
        memset(job.ranks, 0xff, (size_t)job.queries * job.depth[WIDE] * sizeof(uint32_t));
        rk__parallel_run(b->options->parallel, job.queries, probe_query, &job);
        code = check_stopped(b, err);
        double near = lists_that_hold(&job, job.depth[NEAR], counts);
        double wide = lists_that_hold(&job, job.depth[WIDE], counts + disk->nlist);
        double power =
            log(RK_MAX(wide, near) / near) / log((double)job.depth[WIDE] / job.depth[NEAR]);
        power = RK_MIN(power, 1.0);
        disk->probe[0] = (float)(near / pow(job.depth[NEAR], power));
        disk->probe[1] = (float)power;
    }
    rk_free(job.ranks);
    rk_free(counts);
    return code;
}

/* ---- all ---- */

static rk_code
build_disk(disk_build *b, rk_err *err)
{
    const rk__space *space = &b->index->space;

    choose_sizes(b);
    RK_RET(rk__index_reserve(b->index,
                             (uint64_t)b->disk->nlist * space->dim * sizeof(float) +
                                 (uint64_t)space->rows * sizeof(uint32_t) +
                                 b->disk->units * sizeof(uint32_t),
                             "disk index", err));
    b->list = rk_alloc_zero(space->rows + 1, sizeof(*b->list));
    if (!b->list) {
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory to group %zu rows",
                       space->rows);
    }
    if (b->disk->nlist > 0) {
        RK_RET(make_centres(b, err));
    }
    RK_RET(make_lists(b, err));
    rk__parallel_run(b->options->parallel, b->disk->nlist, order_list, b);
    RK_RET(check_stopped(b, err));
    RK_RET(make_codes(b, err));
    RK_RET(checksum_pages(b, err));
    RK_RET(measure_probes(b, err));
    rk__disk_seal(b->disk);
    return RK_OK;
}

rk_code
rk__disk_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__disk *disk = rk_alloc_zero(1, sizeof(*disk));
    disk_build b = {.index = index, .disk = disk, .options = options};
    uint64_t temporary = (uint64_t)index->space.rows * sizeof(uint32_t);
    rk_code code;

    if (!disk) {
        return rk_fail(err, RK_ENOMEM, "disk index build: no memory for its header");
    }
    index->impl = disk;
    RK_RET(rk__index_reserve(index, temporary, "disk index build", err));
    code = build_disk(&b, err);
    rk_free(b.list);
    rk__index_release(index, temporary);
    return code;
}
