/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first half of a search on disk: which rows are worth reading. Lists are visited by rising
 * distance of their centres; the codes of a list are scored 32 at a time and the best estimates
 * kept in a bounded heap.
 *
 * How far it goes: to |probes_min| lists, on until |seen_min| rows that pass the filter were seen
 * and the heap had a chance to fill, and in a range search on until a run of lists gave no row
 * within the radius. With the codes in memory lists are scanned in place; without, |beam| pieces of
 * lists are read at a time into the channel and scanned as they arrive, each record under its
 * checksum.
 */
#include "index/disk/disk.h"

#define SLOT_BYTES    ((size_t)64 << 10)
#define RANGE_RUN_MIN 8u /* lists without a hit after which a range search stops */
#define RANGE_SIGMAS  4.0f

void *
rk__disk_scratch(rk_arena *arena, size_t size_bytes)
{
    uint8_t *p = size_bytes < SIZE_MAX - 64 ? rk_arena_alloc(arena, size_bytes + 63) : NULL;

    return p ? p + (64 - (uintptr_t)p % 64) % 64 : NULL;
}

size_t
rk__disk_scan_slot(const rk__disk *disk)
{
    size_t least = disk->record_bytes + (size_t)2 * RK_PAGE_BYTES; /* wherever the record starts */

    return RK_MAX(SLOT_BYTES, (least + RK_PAGE_BYTES - 1) / RK_PAGE_BYTES * RK_PAGE_BYTES);
}

/* ---- order of the lists ---- */

typedef struct list_order {
    rk__near *items; /* a heap, nearest on top: keys are distances negated */
    uint32_t n;
} list_order;

static rk_code
order_lists(const rk__disk_scan *scan, list_order *out, rk_arena *arena, rk_err *err)
{
    const rk__disk *disk = scan->disk;
    const rk__dense_kernels *kernels = &rk__kernels_get()->dense[RK__F32];
    bool ip = scan->index->space.metric == RK_METRIC_IP;
    size_t dim = scan->index->space.dim;
    rk__heap heap;
    uint32_t c = 0;

    out->n = disk->nlist;
    out->items = rk_arena_alloc(arena, (size_t)disk->nlist * sizeof(*out->items) + 1);
    if (!out->items) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory to order %u lists", disk->nlist);
    }
    for (; c + 4 <= disk->nlist; c += 4) {
        const float *at = disk->centres + c * dim;
        const void *const four[4] = {at, at + dim, at + 2 * dim, at + 3 * dim};
        float d[4];
        (ip ? kernels->ipx4 : kernels->l2x4)(scan->form, four, dim, d);
        for (uint32_t j = 0; j < 4; j++) {
            out->items[c + j] = (rk__near){ip ? d[j] : -d[j], c + j};
        }
    }
    for (; c < disk->nlist; c++) {
        float d = (ip ? kernels->ip : kernels->l2)(scan->form, disk->centres + c * dim, dim);
        out->items[c] = (rk__near){ip ? d : -d, c};
    }
    heap = (rk__heap){.items = out->items, .n = disk->nlist, .cap = disk->nlist};
    rk__heap_make(&heap);
    return RK_OK;
}

static rk__near
next_list(list_order *order)
{
    rk__near top = order->items[0];

    order->items[0] = order->items[--order->n];
    rk__heap_sift_down(order->items, order->n, 0);
    return top;
}

/* What the estimates of a list need of its centre. */
typedef struct list_terms {
    float extra;  /* added to every estimate */
    float spread; /* |y - c| times the error of a code */
} list_terms;

static list_terms
terms_of(const rk__disk_scan *scan, rk__near list)
{
    rk_metric metric = scan->index->space.metric;
    float square;
    float ip;

    if (metric == RK_METRIC_L2) {
        return (list_terms){-list.key, scan->error * sqrtf(-list.key)};
    }
    if (metric == RK_METRIC_IP) {
        ip = list.key;
        square = scan->square + scan->disk->centre_squares[list.row] - 2 * ip;
    } else {
        square = -list.key;
        ip = (scan->square + scan->disk->centre_squares[list.row] - square) / 2;
    }
    return (list_terms){-ip, scan->error * sqrtf(RK_MAX(square, 0.0f))};
}

/* ---- one record ---- */

static void
offer(rk__disk_scan *scan, float estimate, float error, uint32_t position, uint32_t row)
{
    rk__heap *best = &scan->best;
    uint32_t slot = best->n;

    if (scan->range && estimate - RANGE_SIGMAS * error > scan->upper) {
        return;
    }
    scan->hits++; /* nearer than the range, too: lists that hold it come later */
    if (scan->range && estimate + scan->patience * error < scan->lower) {
        return; /* it would not be read */
    }
    if (rk__heap_full(best)) {
        if (!(estimate < best->items[0].key)) {
            return;
        }
        slot = best->items[0].row;
    }
    scan->cands[slot] = (rk__disk_cand){position, row, error};
    rk__heap_push(best, estimate, slot);
}

static uint32_t
passing_lanes(const rk__disk_scan *scan, const uint32_t *rows, uint32_t lanes)
{
    size_t limit = scan->index->space.rows;
    uint32_t mask = 0;

    for (uint32_t j = 0; j < RK__BITS_ROWS; j++) { /* without branches: most rows fail */
        uint32_t row = rows[j] < limit ? rows[j] : 0;
        uint32_t passes = (uint32_t)rk_bitset_get(scan->filter, row) & (rows[j] < limit);
        mask |= (passes & lanes >> j) << j;
    }
    return mask;
}

/* |lanes| rows of the record are there, the first at |position|. */
static void
scan_record(rk__disk_scan *scan, const uint8_t *record, uint32_t n, uint32_t position,
            list_terms terms)
{
    const uint32_t *rows = (const uint32_t *)(const void *)record;
    const uint16_t *factors = (const uint16_t *)(const void *)(rows + RK__BITS_ROWS);
    float add[RK__BITS_ROWS];
    float mul[RK__BITS_ROWS];
    uint32_t lanes = n < RK__BITS_ROWS ? (UINT32_C(1) << n) - 1 : UINT32_MAX;
    float below = rk__heap_full(&scan->best) ? scan->best.items[0].key : INFINITY;
    float est[RK__BITS_ROWS];
    uint32_t mask;

    if (scan->filter) {
        lanes = passing_lanes(scan, rows, lanes);
        if (!lanes) {
            return;
        }
    }
    scan->seen += (uint32_t)__builtin_popcount(lanes);
    for (uint32_t j = 0; j < RK__BITS_ROWS; j++) {
        add[j] = rk_bf16_to_f32(factors[j]);
        mul[j] = rk_bf16_to_f32(factors[RK__BITS_ROWS + j]);
    }
    mask = rk__kernels_get()->scan32_low(
        scan->query.lut, record + RK__DISK_FACTORS, rk__bits_groups(scan->disk->code_dims), add,
        mul, scan->query.unit, scan->query.bias, terms.extra, below, est);
    mask = (scan->all ? UINT32_MAX : mask) & lanes;
    for (; mask; mask &= mask - 1) {
        uint32_t j = (uint32_t)__builtin_ctz(mask);
        float estimate = est[j] < RK__DISK_FAR ? est[j] : RK__DISK_FAR;
        if (rows[j] < scan->index->space.rows) { /* a row with NaN has no number here */
            offer(scan, estimate, fabsf(mul[j]) * terms.spread, position + j, rows[j]);
        }
    }
}

/* ---- when to stop ---- */

typedef struct progress {
    uint64_t lists;
    uint64_t hits;
    uint64_t since_hit;
} progress;

static bool
goes_on(rk__disk_scan *scan, progress *p)
{
    if (p->lists > 0) {
        p->since_hit = scan->hits > p->hits ? 0 : p->since_hit + 1;
        p->hits = scan->hits;
    }
    p->lists++;
    return scan->all || p->lists <= scan->probes_min || scan->seen < scan->seen_min ||
           (scan->range && p->since_hit < RK_MAX(scan->probes_min / 2, (uint64_t)RANGE_RUN_MIN));
}

/* ---- lists in memory ---- */

static void
scan_in_memory(rk__disk_scan *scan, list_order *order)
{
    const rk__disk *disk = scan->disk;
    progress p = {0};

    while (order->n > 0 && goes_on(scan, &p)) {
        rk__near list = next_list(order);
        list_terms terms = terms_of(scan, list);
        uint32_t position = disk->starts[list.row];
        uint32_t end = disk->starts[list.row + 1];
        const uint8_t *record =
            disk->records + (size_t)disk->first_records[list.row] * disk->record_bytes;
        for (; position < end; position += RK__BITS_ROWS, record += disk->record_bytes) {
            __builtin_prefetch(record + disk->record_bytes);
            scan_record(scan, record, end - position, position, terms);
        }
    }
}

/* ---- lists on disk ---- */

/* A piece of a list: whole records that fit a slot. */
typedef struct piece {
    rk_page_read read;
    list_terms terms;
    uint32_t record; /* the first */
    uint32_t records;
    uint32_t position;
    uint32_t rows;
} piece;

typedef struct cursor {
    rk__near list;
    list_terms terms;
    uint32_t done; /* records of the list already asked for */
    bool open;
} cursor;

/* The next piece in order, or false when the scan has gone far enough. */
static bool
next_piece(rk__disk_scan *scan, list_order *order, cursor *at, progress *p, piece *out)
{
    const rk__disk *disk = scan->disk;
    size_t slot = rk__disk_scan_slot(disk);
    uint32_t per_slot = (uint32_t)((slot - RK_PAGE_BYTES) / disk->record_bytes);
    uint32_t total;

    while (!at->open || at->done >= rk__disk_list_records(disk, at->list.row)) {
        if (order->n == 0 || !goes_on(scan, p)) {
            return false;
        }
        at->list = next_list(order);
        at->terms = terms_of(scan, at->list);
        at->done = 0;
        at->open = true;
    }
    total = rk__disk_list_records(disk, at->list.row);
    out->records = RK_MIN(total - at->done, per_slot);
    out->record = disk->first_records[at->list.row] + at->done;
    out->position = disk->starts[at->list.row] + at->done * RK__BITS_ROWS;
    out->rows =
        RK_MIN(disk->starts[at->list.row + 1] - out->position, out->records * RK__BITS_ROWS);
    out->terms = at->terms;
    at->done += out->records;
    return true;
}

static void
place_piece(const rk__disk *disk, piece *pc, uint8_t *into, uint32_t slot)
{
    uint64_t from = disk->records_offset + (uint64_t)pc->record * disk->record_bytes;
    uint64_t to = from + (uint64_t)pc->records * disk->record_bytes;
    uint64_t first = from / RK_PAGE_BYTES * RK_PAGE_BYTES;

    pc->read = (rk_page_read){.offset = first, .into = into, .tag = slot};
    pc->read.len = (uint32_t)((to - first + RK_PAGE_BYTES - 1) / RK_PAGE_BYTES * RK_PAGE_BYTES);
}

static rk_code
scan_piece(rk__disk_scan *scan, const piece *pc, rk_err *err)
{
    const rk__disk *disk = scan->disk;
    uint64_t from = disk->records_offset + (uint64_t)pc->record * disk->record_bytes;
    const uint8_t *record = pc->read.into + (from - pc->read.offset);

    for (uint32_t i = 0; i < pc->records; i++, record += disk->record_bytes) {
        if (rk_crc32c(0, record, disk->record_bytes) != disk->record_crcs[pc->record + i]) {
            return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of the codes at %llu",
                           (unsigned long long)(from + (uint64_t)i * disk->record_bytes));
        }
        scan_record(scan, record, pc->rows - i * RK__BITS_ROWS, pc->position + i * RK__BITS_ROWS,
                    pc->terms);
    }
    return RK_OK;
}

static rk_code
scan_on_disk(rk__disk_scan *scan, list_order *order, rk_page_channel *channel, rk_arena *arena,
             rk_err *err)
{
    rk_pages *pages = scan->index->pages;
    size_t slot = rk__disk_scan_slot(scan->disk);
    uint32_t beam = (uint32_t)RK_MIN((size_t)scan->beam, channel->buffer_bytes / slot);
    piece *pieces = RK_ARENA_ARRAY(arena, piece, beam);
    uint32_t free_slots[RK_PAGE_READS_MAX];
    uint32_t n_free = beam;
    cursor at = {.open = false};
    progress p = {0};

    RK_ASSERT(beam > 0 && beam <= RK_PAGE_READS_MAX);
    if (!pieces) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory for %u reads", beam);
    }
    for (uint32_t i = 0; i < beam; i++) {
        free_slots[i] = i;
    }
    for (;;) {
        while (n_free > 0 && next_piece(scan, order, &at, &p, &pieces[free_slots[n_free - 1]])) {
            uint32_t s = free_slots[--n_free];
            place_piece(scan->disk, &pieces[s], channel->buffer + s * slot, s);
            RK_RET(pages->submit(pages, channel, &pieces[s].read, 1, err));
        }
        if (n_free == beam) {
            return RK_OK;
        }
        rk_page_read *done[16];
        size_t n = 0;
        RK_RET(pages->wait(pages, channel, done, RK_COUNT(done), &n, err));
        for (size_t i = 0; i < n; i++) {
            RK_RET(done[i]->code);
            RK_RET(scan_piece(scan, &pieces[done[i]->tag], err));
            free_slots[n_free++] = done[i]->tag;
        }
    }
}

rk_code
rk__disk_scan_lists(rk__disk_scan *scan, rk_page_channel *channel, rk_arena *arena, rk_err *err)
{
    list_order order = {NULL, 0};

    RK_RET(order_lists(scan, &order, arena, err));
    if (!scan->disk->records) {
        return scan_on_disk(scan, &order, channel, arena, err);
    }
    scan_in_memory(scan, &order);
    return RK_OK;
}
