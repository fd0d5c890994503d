/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a cluster index, see cluster/cluster.h: axes, centres, then two passes over the rows.
 * The first finds the nearest centre of each, the second codes the rows list by list into their
 * final places. Vectors are projected in both passes: that costs less than keeping the projections.
 *
 * Rows that are not finite, and those whose square is not, are in no list; they stand at the end of
 * the row numbers.
 *
 * Both passes spread over |parallel|; the result does not depend on how many threads there are.
 * Memory: the parts of the index are charged to the budget as they are allocated, what only the
 * build needs is given back.
 */
#include "index/cluster/cluster.h"
#include "index/params.h"

#define CHUNK     512u
#define NLIST_MAX 65536u
#define LIST_ROWS 32u /* a list chosen by us has this many rows or more on average */

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static float
norm_of(const rk__space *space, size_t row)
{
    return space->inv_norms ? space->inv_norms[row] : 1.0f;
}

typedef struct build_job {
    const rk_index *index;
    rk__cluster *cluster;
    const rk__cluster_centres *centres;
    const rk_build_options *options;
    uint32_t *list; /* per row; RK__NO_ROW: none */
    float *square;  /* per list: mean squared distance of its rows */
    _Atomic(bool) out_of_memory;
} build_job;

/* Scratch of one chunk: a point, signs. */
static uint8_t *
scratch_new(build_job *job, rk__cluster_point *point)
{
    const rk__cluster_space *space = &job->cluster->space;
    uint8_t *memory =
        rk_alloc_aligned(64, rk__cluster_point_bytes(space) + up(space->padded / 8, 64));

    if (!memory) {
        job->out_of_memory = true;
        return NULL;
    }
    rk__cluster_point_init(space, point, memory);
    return memory;
}

static void
assign_chunk(void *arg, size_t chunk)
{
    build_job *job = arg;
    const rk__space *rows = &job->index->space;
    const rk__cluster_space *space = &job->cluster->space;
    size_t to = RK_MIN((chunk + 1) * CHUNK, rows->rows);
    rk__cluster_point point;
    uint8_t *memory = NULL;
    float *waiting = NULL;

    if (rk__cancelled(job->options)) {
        return;
    }
    memory = scratch_new(job, &point);
    waiting = rk_alloc_aligned(64, RK__CLUSTER_TILE *
                                       (space->record * sizeof(float) + job->centres->width));
    if (!waiting) {
        job->out_of_memory = true;
    }
    for (size_t r = chunk * CHUNK; memory && waiting && r < to;) {
        const float *z[RK__CLUSTER_TILE];
        size_t which[RK__CLUSTER_TILE];
        uint32_t nearest[RK__CLUSTER_TILE];
        float distance[RK__CLUSTER_TILE];
        uint32_t m = 0;
        for (; r < to && m < RK__CLUSTER_TILE; r++) {
            rk__cluster_vector(rows, rk__space_row(rows, r), norm_of(rows, r), point.v);
            job->list[r] = RK__NO_ROW;
            if (rk__cluster_project(space, false, &point)) {
                float *to_z = waiting + m * space->record;
                memcpy(to_z, point.z, space->record * sizeof(*to_z));
                which[m] = r;
                z[m++] = to_z;
            }
        }
        if (m > 0) {
            rk__cluster_nearest(space, job->centres, z, m,
                                (uint8_t *)(waiting + RK__CLUSTER_TILE * space->record), nearest,
                                distance);
        }
        for (uint32_t q = 0; q < m; q++) {
            job->list[which[q]] = nearest[q];
        }
    }
    rk_free(memory);
    rk_free(waiting);
    if (job->options->rows_done) {
        *job->options->rows_done += (to - chunk * CHUNK) >> job->options->rows_done_shift;
    }
}

static void
encode_list(void *arg, size_t list)
{
    build_job *job = arg;
    rk__cluster *cluster = job->cluster;
    const rk__space *rows = &job->index->space;
    const rk__cluster_space *space = &cluster->space;
    rk__dist_fn l2 = rk__kernels_get()->dense[RK__F32].l2;
    const float *centre_z = job->centres->z + list * space->record;
    const float *centre_bits = job->centres->bits + list * space->padded;
    uint8_t *blocks = cluster->owned[RK__CLUSTER_BLOCKS];
    int8_t *records = cluster->owned[RK__CLUSTER_ROW_RECORDS];
    uint32_t from = cluster->first_row[list];
    uint32_t n = cluster->first_row[list + 1] - from;
    rk__cluster_point point;
    double spread = 0;
    double square = 0;

    if (n == 0 || rk__cancelled(job->options)) {
        return;
    }
    uint8_t *memory = scratch_new(job, &point);
    if (!memory) {
        return;
    }
    uint8_t *signs = memory + rk__cluster_point_bytes(space);
    blocks += cluster->first_block[list] * cluster->block_bytes;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *block = blocks + (size_t)(i / RK__BITS_ROWS) * cluster->block_bytes;
        int8_t *record = records ? records + (size_t)(from + i) * space->record : NULL;
        size_t r = cluster->row_of[from + i];
        if (i % RK__BITS_ROWS == 0) {
            rk__cluster_block_clear(space, block);
        }
        rk__cluster_vector(rows, rk__space_row(rows, r), norm_of(rows, r), point.v);
        if (!rk__cluster_project(space, false, &point)) {
            continue; /* it was when it was assigned */
        }
        rk__cluster_rotate_head(space, point.z, point.bits);
        float error = rk__cluster_encode(space, &point, centre_z, centre_bits, i % RK__BITS_ROWS,
                                         block, record, signs);
        spread += (double)error * (double)error;
        square += (double)(l2(point.z, centre_z, space->reduced) + point.tail);
    }
    ((float *)cluster->owned[RK__CLUSTER_SPREAD])[list] = (float)sqrt(spread / n);
    job->square[list] = (float)(square / n);
    rk_free(memory);
}

/* ---- lists ---- */

static rk_code
part_new(rk_index *index, rk__cluster *cluster, rk__cluster_part part, uint64_t bytes, rk_err *err)
{
    RK_RET(rk__index_reserve(index, bytes, "cluster lists", err));
    cluster->owned[part] = rk__alloc_huge((size_t)RK_MAX(bytes, (uint64_t)64));
    if (!cluster->owned[part]) {
        return rk_fail(err, RK_ENOMEM, "cluster build: no memory for %llu bytes",
                       (unsigned long long)bytes);
    }
    return RK_OK;
}

static rk_code
group_rows(rk_index *index, rk__cluster *cluster, const uint32_t *list, rk_err *err)
{
    uint32_t nlist = cluster->info.nlist;
    size_t rows = index->space.rows;
    uint32_t *first_row = NULL;
    uint32_t *first_block = NULL;
    uint32_t loose = 0;

    RK_RET(part_new(index, cluster, RK__CLUSTER_FIRST_ROW, ((uint64_t)nlist + 1) * 4, err));
    RK_RET(part_new(index, cluster, RK__CLUSTER_FIRST_BLOCK, ((uint64_t)nlist + 1) * 4, err));
    RK_RET(part_new(index, cluster, RK__CLUSTER_SPREAD, (uint64_t)nlist * 4, err));
    RK_RET(part_new(index, cluster, RK__CLUSTER_ROWS, rows * 4, err));
    RK_RET(part_new(index, cluster, RK__CLUSTER_PLACE, rows * 4, err));
    RK_RET(part_new(index, cluster, RK__CLUSTER_LIST_OF, rows * 2, err));
    memset(cluster->owned[RK__CLUSTER_SPREAD], 0, (size_t)nlist * 4);
    first_row = cluster->owned[RK__CLUSTER_FIRST_ROW];
    first_block = cluster->owned[RK__CLUSTER_FIRST_BLOCK];
    uint32_t *row_of = cluster->owned[RK__CLUSTER_ROWS];
    uint32_t *place = cluster->owned[RK__CLUSTER_PLACE];
    uint16_t *list_of = cluster->owned[RK__CLUSTER_LIST_OF];
    memset(first_row, 0, ((size_t)nlist + 1) * 4);
    for (size_t r = 0; r < rows; r++) {
        loose += list[r] == RK__NO_ROW;
        if (list[r] != RK__NO_ROW) {
            first_row[list[r] + 1]++;
        }
    }
    first_block[0] = 0;
    for (uint32_t l = 0; l < nlist; l++) {
        first_block[l + 1] =
            first_block[l] + (first_row[l + 1] + RK__BITS_ROWS - 1) / RK__BITS_ROWS;
        first_row[l + 1] += first_row[l];
    }
    /* Filled from the back: first_row[l + 1] falls to the start of list l, then all move up. */
    uint32_t end = (uint32_t)rows;
    for (size_t r = rows; r > 0; r--) {
        uint32_t l = list[r - 1];
        uint32_t at = l == RK__NO_ROW ? --end : --first_row[l + 1];
        row_of[at] = (uint32_t)(r - 1);
        place[r - 1] = at;
        list_of[r - 1] = (uint16_t)(l == RK__NO_ROW ? 0 : l);
    }
    memmove(first_row, first_row + 1, (size_t)nlist * 4);
    first_row[nlist] = (uint32_t)rows - loose;
    cluster->info.loose = loose;
    cluster->info.blocks = first_block[nlist];
    return RK_OK;
}

static rk_code
code_centres(rk_index *index, rk__cluster *cluster, const rk__cluster_centres *centres, rk_err *err)
{
    const rk__cluster_space *space = &cluster->space;
    uint64_t blocks = up(centres->n, RK__BITS_ROWS) / RK__BITS_ROWS;
    size_t zeros_len = RK_MAX(space->record, space->padded);
    float *zeros = rk_alloc_zero(zeros_len + space->padded / 8, sizeof(float));
    rk_code code = RK_OK;

    if (!zeros) {
        return rk_fail(err, RK_ENOMEM, "cluster build: no memory for a centre");
    }
    RK_ERR(part_new(index, cluster, RK__CLUSTER_CENTRE_BLOCKS, blocks * cluster->block_bytes, err));
    RK_ERR(part_new(index, cluster, RK__CLUSTER_CENTRE_RECORDS,
                    (uint64_t)centres->n * space->record, err));
    for (uint32_t c = 0; c < centres->n; c++) {
        uint8_t *block = (uint8_t *)cluster->owned[RK__CLUSTER_CENTRE_BLOCKS] +
                         (size_t)(c / RK__BITS_ROWS) * cluster->block_bytes;
        int8_t *record =
            (int8_t *)cluster->owned[RK__CLUSTER_CENTRE_RECORDS] + (size_t)c * space->record;
        rk__cluster_point point = {.z = centres->z + (size_t)c * space->record,
                                   .bits = centres->bits + (size_t)c * space->padded};
        if (c % RK__BITS_ROWS == 0) {
            rk__cluster_block_clear(space, block);
        }
        (void)rk__cluster_encode(space, &point, zeros, zeros, c % RK__BITS_ROWS, block, record,
                                 (uint8_t *)(void *)(zeros + zeros_len));
    }
out:
    rk_free(zeros);
    return code;
}

static rk_code
build_state(const build_job *job, const char *while_what, rk_err *err)
{
    if (rk__cancelled(job->options)) {
        return rk_fail(err, RK_ECANCELLED, "cluster build cancelled while %s", while_what);
    }
    return job->out_of_memory ? rk_fail(err, RK_ENOMEM, "cluster build: no memory for a row")
                              : RK_OK;
}

static rk_code
fill_lists(rk_index *index, rk__cluster *cluster, const rk__cluster_centres *centres,
           const rk_build_options *options, rk_err *err)
{
    size_t rows = index->space.rows;
    uint32_t nlist = centres->n;
    uint64_t scratch = rows * sizeof(uint32_t) + nlist * sizeof(float);
    build_job job = {.index = index, .cluster = cluster, .centres = centres, .options = options};
    const void *parts[RK__CLUSTER_PARTS];
    rk_code code = RK_OK;
    double square = 0;

    RK_RET(rk__index_reserve(index, scratch, "cluster assignment", err));
    job.list = rk_alloc(RK_MAX(rows, (size_t)1) * sizeof(*job.list));
    job.square = rk_alloc_zero(nlist, sizeof(*job.square));
    if (!job.list || !job.square) {
        code = rk_fail(err, RK_ENOMEM, "cluster build: no memory to group %zu rows", rows);
        goto out;
    }
    rk__parallel_run(options->parallel, (rows + CHUNK - 1) / CHUNK, assign_chunk, &job);
    RK_ERR(build_state(&job, "rows were grouped", err));
    RK_ERR(group_rows(index, cluster, job.list, err));
    RK_ERR(code_centres(index, cluster, centres, err));
    RK_ERR(part_new(index, cluster, RK__CLUSTER_BLOCKS,
                    (uint64_t)cluster->info.blocks * cluster->block_bytes, err));
    if (cluster->info.flags & RK__CLUSTER_RECORDS) {
        RK_ERR(part_new(index, cluster, RK__CLUSTER_ROW_RECORDS,
                        (uint64_t)(rows - cluster->info.loose) * cluster->space.record, err));
    }
    for (size_t i = 0; i < RK__CLUSTER_PARTS; i++) {
        parts[i] = cluster->owned[i];
    }
    rk__cluster_link(index, cluster, parts);
    rk__parallel_run(options->parallel, nlist, encode_list, &job);
    RK_ERR(build_state(&job, "rows were coded", err));
    for (uint32_t l = 0; l < nlist; l++) {
        square +=
            (double)job.square[l] * (double)(cluster->first_row[l + 1] - cluster->first_row[l]);
    }
    cluster->info.radius = rows > 0 ? (float)sqrt(square / (double)rows) : 0;
out:
    rk_free(job.list);
    rk_free(job.square);
    rk__index_release(index, scratch);
    return code;
}

static uint32_t
choose_nlist(const rk_index *index, bool automatic, const rk_build_options *options)
{
    size_t rows = index->space.rows;
    size_t nlist = 0;

    if (automatic) {
        nlist = up((size_t)(2 * sqrt((double)rows)), RK__BITS_ROWS);
        nlist = RK_MIN(nlist, rows / LIST_ROWS);
    } else {
        nlist = (size_t)rk__build_int(index->kind, options->params, "nlist");
    }
    return RK_MIN(rk__list_count(nlist, rows), NLIST_MAX);
}

/* Records are kept by AUTOINDEX, and when the user asks to refine with less than the vectors. */
static bool
wants_records(const rk_index *index, bool automatic, const rk_build_options *options)
{
    const char *word = NULL;

    if (automatic) {
        return true;
    }
    if (!rk__build_bool(index->kind, options->params, "refine")) {
        return false;
    }
    word = rk__build_word(index->kind, options->params, "refine_type");
    return !word || strncasecmp(word, "sq", 2) == 0;
}

rk_code
rk__cluster_make(rk_index *index, rk__cluster **out, bool automatic,
                 const rk_build_options *options, rk_err *err)
{
    rk__cluster *cluster = rk_alloc_zero(1, sizeof(*cluster));
    rk__cluster_centres centres = {0};
    rk_code code = RK_OK;

    if (!cluster) {
        return rk_fail(err, RK_ENOMEM, "cluster build: no memory for its header");
    }
    *out = cluster;
    cluster->rows = index->space.rows;
    RK_RET(rk__index_norms(index, err));
    RK_RET(rk__cluster_space_train(index, cluster, options, err));
    cluster->info.nlist = choose_nlist(index, automatic, options);
    cluster->info.reduced = cluster->space.reduced;
    cluster->info.head = cluster->space.head;
    cluster->info.padded = cluster->space.padded;
    cluster->info.seed = cluster->space.seed;
    cluster->info.flags = (cluster->space.axes ? RK__CLUSTER_AXES : 0) |
                          (wants_records(index, automatic, options) ? RK__CLUSTER_RECORDS : 0) |
                          (automatic ? RK__CLUSTER_AUTO : 0);
    cluster->block_bytes = rk__cluster_codes_bytes(&cluster->space) + 64 * sizeof(float);
    RK_RET(rk__index_reserve(
        index,
        (uint64_t)cluster->space.dim * 4 +
            (cluster->space.axes ? (uint64_t)cluster->space.reduced * (cluster->space.n + 4) : 0),
        "cluster axes", err));
    RK_RET(rk__cluster_centres_init(&centres, &cluster->space, cluster->info.nlist, err));
    if (index->space.rows > 0) {
        RK_ERR(rk__cluster_train(index, &cluster->space, options, &centres, err));
    } else {
        rk__cluster_rotate_head(&cluster->space, centres.z, centres.bits);
    }
    RK_ERR(fill_lists(index, cluster, &centres, options, err));
    RK_ERR(rk__cluster_tune(index, cluster, options, err));
out:
    rk__cluster_centres_deinit(&centres);
    return code;
}

rk_code
rk__cluster_build(rk_index *index, const rk_build_options *options, rk_err *err)
{
    rk__cluster *cluster = NULL;
    rk_code code = rk__cluster_make(index, &cluster, index->automatic, options, err);

    index->impl = cluster;
    return code;
}
