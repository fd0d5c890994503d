/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of a search on disk: candidates are scored on their vectors. They come by rising
 * estimate; a few reads are always under way, and with every vector that arrives the k-th distance
 * shrinks and more of the remaining candidates can be told from their estimates to be too far.
 * Candidates that share a unit (a page, or the pages of one large vector) are scored from one read.
 *
 * A unit's checksum is compared when it arrives. An index that was just built or is mapped has its
 * vectors at hand: the same loop without reads.
 */
#include "index/disk/disk.h"

#define NONE UINT32_MAX

typedef struct rescore {
    const rk__disk_read *job;
    const rk__disk *disk;
    rk__heap *heap;
    uint32_t *next;  /* per candidate: the next in the same unit */
    uint32_t *first; /* per candidate: the first in its unit */
    bool *done;
    float upper, lower; /* of a range search, as keys */
} rescore;

static uint64_t
unit_of(const rescore *r, uint32_t i)
{
    return r->job->cands[r->job->sorted[i].row].position / r->disk->unit_rows;
}

/* Chains candidates of one unit, in order of their estimates. */
static rk_code
chain_units(rescore *r, rk_arena *arena, rk_err *err)
{
    uint32_t n = r->job->n;
    size_t slots = 64;
    uint32_t *table; /* last candidate of a unit, plus one */

    while (slots < (size_t)n * 2) {
        slots *= 2;
    }
    table = RK_ARENA_ARRAY(arena, uint32_t, slots);
    r->next = rk_arena_alloc(arena, ((size_t)n + 1) * sizeof(*r->next));
    r->first = rk_arena_alloc(arena, ((size_t)n + 1) * sizeof(*r->first));
    r->done = RK_ARENA_ARRAY(arena, bool, (size_t)n + 1);
    if (!table || !r->next || !r->first || !r->done) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory for %u candidates", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        size_t at = rk_hash_u64(unit_of(r, i) + 1) & (slots - 1);
        while (table[at] != 0 && unit_of(r, table[at] - 1) != unit_of(r, i)) {
            at = (at + 1) & (slots - 1);
        }
        r->next[i] = NONE;
        r->first[i] = i;
        if (table[at] != 0) {
            r->next[table[at] - 1] = i;
            r->first[i] = r->first[table[at] - 1];
        }
        table[at] = i + 1;
    }
    return RK_OK;
}

/* Whether the vector of a candidate may still change the answer. */
static bool
worth_reading(const rescore *r, uint32_t i)
{
    rk__near c = r->job->sorted[i];
    float slack = r->job->patience * r->job->cands[c.row].error;

    if (r->job->range.on && (c.key - slack > r->upper || c.key + slack < r->lower)) {
        return false;
    }
    return !rk__heap_full(r->heap) || !(c.key - slack > r->heap->items[0].key);
}

static void
score_row(const rescore *r, uint32_t i, const void *vector)
{
    const rk_index *index = r->job->index;
    const rk__space *space = &index->space;
    float dist = space->dist(r->job->query->data, vector, space->dist_n);
    float key = dist;

    if (space->metric == RK_METRIC_IP) {
        key = -dist;
    } else if (space->metric == RK_METRIC_COSINE) {
        key = -rk__cosine(dist, rk__inv_norm(space, vector), r->job->query->inv_norm);
    }
    if (!rk__heap_rejects(r->heap, key) &&
        (!r->job->range.on || rk__in_range(&r->job->range, key))) {
        rk__heap_push(r->heap, key, r->job->cands[r->job->sorted[i].row].row);
    }
}

/* All candidates of the unit that |i| is in; |unit| is its bytes. */
static void
score_unit(const rescore *r, uint32_t i, const uint8_t *unit)
{
    for (uint32_t at = r->first[i]; at != NONE; at = r->next[at]) {
        uint32_t position = r->job->cands[r->job->sorted[at].row].position;
        score_row(r, at, unit + position % r->disk->unit_rows * r->job->index->space.row_bytes);
        r->done[at] = true;
    }
}

static rk_code
check_unit(const rescore *r, uint64_t unit, const uint8_t *data, rk_err *err)
{
    if (rk_crc32c(0, data, r->disk->unit_bytes) != r->disk->page_crcs[unit]) {
        return rk_fail(err, RK_ECORRUPT, "index image: wrong checksum of page %llu at offset %llu",
                       (unsigned long long)unit,
                       (unsigned long long)(r->disk->pages_offset + unit * r->disk->unit_bytes));
    }
    return RK_OK;
}

/* ---- vectors at hand ---- */

static rk_code
score_at_hand(const rescore *r, rk_err *err)
{
    const rk__space *space = &r->job->index->space;

    for (uint32_t i = 0; i < r->job->n; i++) {
        if (r->done[i] || !worth_reading(r, i)) {
            continue;
        }
        if (r->disk->pages) {
            uint64_t unit = unit_of(r, i);
            const uint8_t *data = r->disk->pages + unit * r->disk->unit_bytes;
            RK_RET(check_unit(r, unit, data, err));
            score_unit(r, i, data);
        } else { /* just built */
            score_row(r, i, rk__space_row(space, r->job->cands[r->job->sorted[i].row].row));
            r->done[i] = true;
        }
    }
    return RK_OK;
}

/* ---- vectors on disk ---- */

static rk_code
score_from_disk(const rescore *r, rk_page_channel *channel, rk_arena *arena, rk_err *err)
{
    const rk__disk *disk = r->disk;
    rk_pages *pages = r->job->index->pages;
    uint32_t beam =
        (uint32_t)RK_MIN((size_t)r->job->beam, channel->buffer_bytes / disk->unit_bytes);
    rk_page_read *reads = RK_ARENA_ARRAY(arena, rk_page_read, beam);
    uint32_t asked[RK_PAGE_READS_MAX]; /* per slot: the candidate it was read for */
    uint32_t free_slots[RK_PAGE_READS_MAX];
    uint32_t n_free = beam;
    uint32_t i = 0;

    RK_ASSERT(beam > 0 && beam <= RK_PAGE_READS_MAX);
    if (!reads) {
        return rk_fail(err, RK_ENOMEM, "disk search: no memory for %u reads", beam);
    }
    for (uint32_t s = 0; s < beam; s++) {
        free_slots[s] = s;
    }
    for (;;) {
        for (; n_free > 0 && i < r->job->n; i++) {
            uint32_t s;
            if (r->done[i] || !worth_reading(r, i)) {
                continue;
            }
            s = free_slots[--n_free];
            asked[s] = i;
            for (uint32_t at = r->first[i]; at != NONE; at = r->next[at]) {
                r->done[at] = true; /* on its way */
            }
            reads[s] =
                (rk_page_read){.offset = disk->pages_offset + unit_of(r, i) * disk->unit_bytes,
                               .into = channel->buffer + s * disk->unit_bytes,
                               .len = (uint32_t)disk->unit_bytes,
                               .tag = s};
            RK_RET(pages->submit(pages, channel, &reads[s], 1, err));
        }
        if (n_free == beam) {
            return RK_OK;
        }
        rk_page_read *done[16];
        size_t n = 0;
        RK_RET(pages->wait(pages, channel, done, RK_COUNT(done), &n, err));
        for (size_t d = 0; d < n; d++) {
            uint32_t s = done[d]->tag;
            RK_RET(done[d]->code);
            RK_RET(check_unit(r, unit_of(r, asked[s]), reads[s].into, err));
            score_unit(r, asked[s], reads[s].into);
            free_slots[n_free++] = s;
        }
    }
}

rk_code
rk__disk_rescore(const rk__disk_read *job, rk_page_channel *channel, rk_arena *arena,
                 rk__heap *heap, rk_err *err)
{
    rescore r = {.job = job, .disk = job->index->impl, .heap = heap};

    r.upper = job->range.larger ? -job->range.radius : job->range.radius;
    r.lower = !job->range.has_lower ? -INFINITY
              : job->range.larger   ? -job->range.filter
                                    : job->range.filter;
    RK_RET(chain_units(&r, arena, err));
    return job->index->pages ? score_from_disk(&r, channel, arena, err) : score_at_hand(&r, err);
}
