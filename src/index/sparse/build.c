/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the blocks of a sparse index: orders the rows, then walks them group by group (4,096 rows)
 * twice, first to count what each term will need, then to write it. Of one group the pairs are put
 * into a bucket per term, in row order; a bucket becomes a node, its entries and its records. No
 * array of all postings is ever made: beside the result and the order, a build needs 16 bytes per
 * pair of one group and some per term.
 */
#include <stdlib.h>

#include "index/sparse/sparse.h"

#define GROUP_ROWS     ((size_t)RK__SPARSE_GROUP)
#define PATCH_ROWS     ((size_t)RK__SPARSE_QUARTER * RK__SPARSE_PATCH)
#define RARE_PER_PATCH 2u /* postings; of fewer, a list is smaller and as fast */

typedef struct posting {
    uint16_t place; /* within the group */
    uint8_t weight;
} posting;

typedef struct builder {
    const rk_vectors *vectors;
    const rk__sparse_terms *terms;
    const rk_build_options *options;
    uint32_t *order;
    rk__sparse_term *term_rows; /* of the index */

    /* one group */
    uint32_t *starts;  /* n_terms + 1: the bucket of a term, valid for touched ones */
    uint32_t *touched; /* terms of the group */
    size_t n_touched;
    uint32_t *ids; /* of the group's pairs, in row order */
    size_t ids_cap;
    posting *postings;

    /* per term, counted by the first walk; where to write next in the second */
    uint64_t *nodes;
    uint64_t *entries;
    uint64_t *bytes;
    uint64_t *fine; /* maxima, or postings of a rare term */
    size_t n_patches;
    uint64_t n_nodes;
    uint64_t n_entries;
    uint64_t n_bytes;

    uint64_t *print_bases;
    uint32_t *print_starts; /* counted by the first walk, summed by lay_out_prints() */
    uint8_t *prints;        /* NULL in the first walk */
} builder;

/* A little more than the largest weight / 255, so that 255 of it reach the weight. */
static float
scale_of(float largest)
{
    float scale = nextafterf(largest / 255.0f, INFINITY);

    while (scale * 255.0f < largest) {
        scale = nextafterf(scale, INFINITY);
    }
    return scale;
}

static uint8_t
quantise(float weight, float scale)
{
    float q = ceilf(weight / scale);

    q = q < 1 ? 1 : q > 255 ? 255 : q;
    while (q < 255 && q * scale < weight) {
        q++;
    }
    return (uint8_t)q;
}

static rk_code
room_for_pairs(builder *b, size_t pairs, rk_err *err)
{
    if (pairs <= b->ids_cap) {
        return RK_OK;
    }
    if (pairs > UINT32_MAX) {
        return rk_fail(err, RK_ETOO_LARGE, "sparse index: 4096 rows with %zu values, at most %u",
                       pairs, UINT32_MAX);
    }
    rk_free(b->ids);
    rk_free(b->postings);
    b->ids_cap = pairs + pairs / 4;
    b->ids = rk_alloc(b->ids_cap * sizeof(*b->ids));
    b->postings = rk_alloc(b->ids_cap * sizeof(*b->postings));
    if (!b->ids || !b->postings) {
        b->ids_cap = 0;
        return rk_fail(err, RK_ENOMEM, "sparse index: no memory for %zu values of a group", pairs);
    }
    return RK_OK;
}

static uint8_t *
print_of(const builder *b, size_t place, size_t *n)
{
    size_t group = place / GROUP_ROWS;
    uint64_t from = b->print_bases[group] + b->print_starts[place];
    uint64_t to = (place + 1) % GROUP_ROWS == 0
                      ? b->print_bases[group + 1]
                      : b->print_bases[group] + b->print_starts[place + 1];

    *n = to - from;
    return b->prints + from * RK__SPARSE_PRINT;
}

/* Fills the buckets of the group whose first place is |base|. */
static rk_code
gather(builder *b, size_t base, rk_err *err)
{
    const rk_vectors *v = b->vectors;
    size_t end = RK_MIN(base + GROUP_ROWS, v->rows);
    size_t pairs = 0;
    uint32_t sum = 0;

    for (size_t place = base; place < end; place++) {
        size_t row = b->order[place];
        pairs += (v->offsets[row + 1] - v->offsets[row]) / sizeof(rk__pair);
    }
    RK_RET(room_for_pairs(b, pairs, err));
    for (size_t i = 0; i < b->n_touched; i++) {
        b->starts[b->touched[i]] = 0;
    }
    b->n_touched = 0;
    pairs = 0;
    for (size_t place = base; place < end; place++) {
        size_t row = b->order[place];
        if (place + 2 < end) {
            const char *next = (const char *)v->data + v->offsets[b->order[place + 2]];
            for (size_t at = 0; at < 1024; at += 64) {
                RK__SPARSE_ASK(next + at);
            }
        }
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair = rk__sparse_pair(v, at);
            if (rk__sparse_counts(pair)) {
                uint32_t id = rk__sparse_term_id(b->terms, pair.index);
                b->ids[pairs++] = id;
                if (b->starts[id]++ == 0) {
                    b->touched[b->n_touched++] = id;
                }
            }
        }
    }
    for (size_t i = 0; i < b->n_touched; i++) {
        uint32_t *start = &b->starts[b->touched[i]];
        uint32_t count = *start;
        *start = sum;
        sum += count;
    }
    pairs = 0;
    for (size_t place = base; place < end; place++) {
        size_t row = b->order[place];
        size_t nth = 0;
        size_t n_print = 0;
        uint8_t *print = b->prints ? print_of(b, place, &n_print) : NULL;
        for (uint64_t at = v->offsets[row]; at + sizeof(rk__pair) <= v->offsets[row + 1];
             at += sizeof(rk__pair)) {
            rk__pair pair = rk__sparse_pair(v, at);
            if (rk__sparse_counts(pair)) {
                uint32_t id = b->ids[pairs++];
                uint8_t weight = quantise(pair.value, b->term_rows[id].scale);
                b->postings[b->starts[id]++] = (posting){(uint16_t)(place - base), weight};
                if (b->prints) {
                    rk__sparse_print_put(print, n_print, nth, id, weight);
                }
                nth++;
            }
        }
        if (!b->prints) {
            b->print_starts[place] = (uint32_t)nth;
        }
    }
    return RK_OK;
}

/* The bucket of the |i|th touched term; gather() left each start at its bucket's end. */
static const posting *
bucket(const builder *b, size_t i, size_t *n)
{
    uint32_t from = i > 0 ? b->starts[b->touched[i - 1]] : 0;

    *n = b->starts[b->touched[i]] - from;
    return b->postings + from;
}

static bool
is_rare(const builder *b, uint32_t id)
{
    return b->terms->counts[id] < (uint64_t)RARE_PER_PATCH * b->n_patches;
}

static void
count_group(builder *b)
{
    for (size_t i = 0; i < b->n_touched; i++) {
        uint32_t id = b->touched[i];
        size_t n = 0;
        const posting *p = bucket(b, i, &n);
        uint64_t entries = 0;
        uint64_t quarters = 0;
        for (size_t j = 0; j < n; j++) {
            quarters +=
                j == 0 || p[j].place / RK__SPARSE_QUARTER != p[j - 1].place / RK__SPARSE_QUARTER;
            entries += j == 0 || p[j].place / RK__SPARSE_BLOCK != p[j - 1].place / RK__SPARSE_BLOCK;
        }
        b->nodes[id]++;
        b->entries[id] += entries;
        b->fine[id] += is_rare(b, id) ? n : quarters;
        b->bytes[id] += entries * sizeof(uint64_t) + n;
    }
}

static void
write_bucket(builder *b, rk__sparse *s, uint32_t id, const posting *p, size_t n, size_t group)
{
    rk__sparse_node *node = (rk__sparse_node *)s->owned[1] + b->nodes[id]++;
    uint8_t *entries = (uint8_t *)s->owned[2] + b->entries[id] * 2;
    uint8_t *records = s->owned[3];
    size_t count = 0;
    uint64_t base = b->bytes[id];
    uint64_t at = base;

    *node = (rk__sparse_node){.base = base,
                              .entry = (uint32_t)(b->entries[id] - s->terms[id].first_entry),
                              .group = (uint32_t)group};
    for (size_t j = 0; j < n; j++) { /* first which blocks: the counts lie behind the maxima */
        node->mask |= UINT64_C(1) << p[j].place / RK__SPARSE_BLOCK;
    }
    count = (size_t)__builtin_popcountll(node->mask);
    for (size_t j = 0, entry = 0; j < n; entry++) {
        unsigned block = p[j].place / RK__SPARSE_BLOCK;
        size_t first = j;
        uint8_t *record = records + at;
        uint64_t mask = 0;
        uint8_t largest = 0;
        at += sizeof(uint64_t);
        for (; j < n && p[j].place / RK__SPARSE_BLOCK == block; j++) {
            mask |= UINT64_C(1) << p[j].place % RK__SPARSE_BLOCK;
            largest = RK_MAX(largest, p[j].weight);
            records[at++] = p[j].weight;
        }
        rk_put_u64le(record, mask);
        entries[entry] = largest;
        entries[count + entry] = (uint8_t)(j - first);
    }
    b->entries[id] += count;
    b->bytes[id] = at;
}

/* Fine bounds of a bucket. */
static void
write_fine(builder *b, rk__sparse *s, uint32_t id, const posting *p, size_t n, size_t group)
{
    uint64_t *masks = (uint64_t *)(void *)((uint8_t *)s->owned[7] + s->fines[id].first) +
                      group * GROUP_ROWS / PATCH_ROWS;
    uint8_t *maxima = s->owned[7];
    uint32_t *places = s->owned[8];
    uint8_t *weights = s->owned[9];

    if (is_rare(b, id)) {
        for (size_t j = 0; j < n; j++) {
            places[b->fine[id]] = (uint32_t)(group * GROUP_ROWS + p[j].place);
            weights[b->fine[id]++] = p[j].weight;
        }
        return;
    }
    for (size_t j = 0; j < n;) {
        unsigned quarter = p[j].place / RK__SPARSE_QUARTER;
        uint8_t largest = 0;
        for (; j < n && p[j].place / RK__SPARSE_QUARTER == quarter; j++) {
            largest = RK_MAX(largest, p[j].weight);
        }
        masks[quarter / RK__SPARSE_PATCH] |= UINT64_C(1) << quarter % RK__SPARSE_PATCH;
        maxima[b->fine[id]++] = largest;
    }
}

static rk_code
walk_groups(builder *b, rk__sparse *s, bool write, rk_err *err)
{
    for (size_t base = 0; base < b->vectors->rows; base += GROUP_ROWS) {
        if (rk__cancelled(b->options)) {
            return rk_fail(err, RK_ECANCELLED,
                           "sparse index: build cancelled after %zu of %zu rows", base,
                           b->vectors->rows);
        }
        RK_RET(gather(b, base, err));
        if (!write) {
            count_group(b);
            continue;
        }
        for (size_t i = 0; i < b->n_touched; i++) {
            size_t n = 0;
            const posting *p = bucket(b, i, &n);
            write_bucket(b, s, b->touched[i], p, n, base / GROUP_ROWS);
            write_fine(b, s, b->touched[i], p, n, base / GROUP_ROWS);
        }
        if (b->options->rows_done) {
            *b->options->rows_done = RK_MIN(base + GROUP_ROWS, b->vectors->rows);
        }
    }
    return RK_OK;
}

/* The same for fine bounds. */
static rk_code
lay_out_fine(rk_index *index, builder *b, rk__sparse *s, rk_err *err)
{
    size_t n = s->n_terms;
    rk__sparse_fine sum = {0, 0};
    uint64_t masks = s->n_patches * sizeof(uint64_t);

    RK_RET(rk__sparse_take(index, s, 6, (n + 1) * sizeof(rk__sparse_fine), err));
    rk__sparse_fine *fines = s->owned[6];
    for (size_t i = 0; i < n; i++) {
        uint64_t count = b->fine[i];
        fines[i] = sum;
        if (is_rare(b, (uint32_t)i)) {
            b->fine[i] = sum.first_rare;
            sum.first_rare += count;
        } else {
            b->fine[i] = sum.first + masks;
            sum.first += masks + (count + 7) / 8 * 8;
        }
    }
    fines[n] = sum;
    RK_RET(rk__sparse_take(index, s, 7, sum.first + RK__SPARSE_PAD, err));
    RK_RET(rk__sparse_take(index, s, 8, sum.first_rare * sizeof(uint32_t), err));
    RK_RET(rk__sparse_take(index, s, 9, sum.first_rare, err));
    memset(s->owned[7], 0, sum.first + RK__SPARSE_PAD);
    s->fines = fines;
    s->streams = s->owned[7];
    s->rare_places = s->owned[8];
    s->rare_weights = s->owned[9];
    s->stream_bytes = sum.first;
    return RK_OK;
}

/* The same for prints. */
static rk_code
lay_out_prints(rk_index *index, builder *b, rk__sparse *s, rk_err *err)
{
    size_t places = s->n_blocks * RK__SPARSE_BLOCK;
    uint64_t sum = 0;

    for (size_t place = 0; place <= places; place++) {
        uint32_t count = b->print_starts[place];
        if (place % GROUP_ROWS == 0) {
            b->print_bases[place / GROUP_ROWS] = sum;
        }
        b->print_starts[place] = (uint32_t)(sum - b->print_bases[place / GROUP_ROWS]);
        sum += count;
    }
    b->print_bases[s->n_groups] = sum;
    s->print_bases = b->print_bases;
    s->print_starts = b->print_starts;
    s->n_prints = sum;
    RK_RET(rk__sparse_take(index, s, 11, s->n_prints * RK__SPARSE_PRINT + RK__SPARSE_PAD, err));
    b->prints = s->owned[11];
    s->prints = b->prints;
    memset(b->prints + s->n_prints * RK__SPARSE_PRINT, 0, RK__SPARSE_PAD);
    return RK_OK;
}

/* Counts become positions, of which terms keep the first. */
static rk_code
lay_out(rk_index *index, builder *b, rk__sparse *s, rk_err *err)
{
    size_t n = s->n_terms;

    for (size_t i = 0; i < n; i++) {
        uint64_t nodes = b->nodes[i];
        uint64_t entries = b->entries[i];
        uint64_t bytes = b->bytes[i];
        b->term_rows[i].first_node = b->nodes[i] = b->n_nodes;
        b->term_rows[i].first_entry = b->entries[i] = b->n_entries;
        b->bytes[i] = b->n_bytes;
        b->n_nodes += nodes;
        b->n_entries += entries;
        b->n_bytes += bytes;
    }
    b->term_rows[n] = (rk__sparse_term){b->n_nodes, b->n_entries, UINT32_MAX, 0};
    RK_RET(rk__sparse_take(index, s, 1, b->n_nodes * sizeof(rk__sparse_node), err));
    RK_RET(rk__sparse_take(index, s, 2, b->n_entries * 2 + RK__SPARSE_PAD, err));
    RK_RET(rk__sparse_take(index, s, 3, b->n_bytes + RK__SPARSE_PAD, err));
    memset((uint8_t *)s->owned[2] + b->n_entries * 2, 0, RK__SPARSE_PAD);
    memset((uint8_t *)s->owned[3] + b->n_bytes, 0, RK__SPARSE_PAD);
    s->nodes = s->owned[1];
    s->entries = s->owned[2];
    s->records = s->owned[3];
    s->n_entries = b->n_entries;
    s->record_bytes = b->n_bytes;
    RK_RET(lay_out_fine(index, b, s, err));
    return lay_out_prints(index, b, s, err);
}

static rk_code
order_rows(rk_index *index, builder *b, rk__sparse *s, rk_err *err)
{
    size_t rows = index->vectors.rows;
    uint64_t scratch = rk__sparse_order_bytes(rows, b->terms->n);
    size_t places = s->n_blocks * RK__SPARSE_BLOCK;

    RK_RET(rk__sparse_take(index, s, 4, places * sizeof(uint32_t), err));
    RK_RET(rk__sparse_take(index, s, 5, rows * sizeof(uint32_t), err));
    RK_RET(rk__index_reserve(index, scratch, "sparse index order", err));
    uint32_t *order = s->owned[4];
    uint32_t *place_of = s->owned[5];
    rk_code code = rk__sparse_order(&index->vectors, b->terms, b->options, order, err);
    rk__index_release(index, scratch);
    RK_RET(code);
    for (size_t place = 0; place < places; place++) {
        if (place < rows) {
            place_of[order[place]] = (uint32_t)place;
        } else {
            order[place] = RK__NO_ROW;
        }
    }
    b->order = order;
    s->order = order;
    s->places = place_of;
    return RK_OK;
}

rk_code
rk__sparse_build_blocks(rk_index *index, rk__sparse *s, const rk__sparse_terms *terms,
                        const rk_build_options *options, rk_err *err)
{
    size_t n = terms->n;
    builder b = {.vectors = &index->vectors, .terms = terms, .options = options};
    rk_code code = RK_OK;

    s->n_blocks = (index->vectors.rows + RK__SPARSE_BLOCK - 1) / RK__SPARSE_BLOCK;
    size_t places = s->n_blocks * RK__SPARSE_BLOCK;
    s->n_groups = (s->n_blocks + RK__SPARSE_BLOCK - 1) / RK__SPARSE_BLOCK;
    s->n_patches = rk__sparse_patches(index->vectors.rows);
    b.n_patches = s->n_patches;
    RK_ERR(order_rows(index, &b, s, err));
    RK_ERR(rk__sparse_take(index, s, 0, (n + 1) * sizeof(rk__sparse_term), err));
    b.term_rows = s->owned[0];
    s->terms = b.term_rows;
    RK_ERR(rk__sparse_take(index, s, 10, (places + 1) * sizeof(uint32_t), err));
    RK_ERR(rk__sparse_take(index, s, 12, (s->n_groups + 2) * sizeof(uint64_t), err));
    b.print_starts = s->owned[10];
    b.print_bases = s->owned[12];
    memset(b.print_starts, 0, (places + 1) * sizeof(uint32_t));
    for (size_t i = 0; i < n; i++) {
        b.term_rows[i] =
            (rk__sparse_term){.index = terms->terms[i], .scale = scale_of(terms->largest[i])};
    }
    b.starts = rk_alloc_zero(n + 1, sizeof(*b.starts));
    b.touched = rk_alloc((n + 1) * sizeof(*b.touched));
    b.nodes = rk_alloc_zero(n + 1, sizeof(*b.nodes));
    b.entries = rk_alloc_zero(n + 1, sizeof(*b.entries));
    b.bytes = rk_alloc_zero(n + 1, sizeof(*b.bytes));
    b.fine = rk_alloc_zero(n + 1, sizeof(*b.fine));
    if (!b.starts || !b.touched || !b.nodes || !b.entries || !b.bytes || !b.fine) {
        code = rk_fail(err, RK_ENOMEM, "sparse index: no memory for %zu terms", n);
        goto out;
    }
    RK_ERR(walk_groups(&b, s, false, err));
    RK_ERR(lay_out(index, &b, s, err));
    RK_ERR(walk_groups(&b, s, true, err));
out:
    rk_free(b.starts);
    rk_free(b.touched);
    rk_free(b.ids);
    rk_free(b.postings);
    rk_free(b.nodes);
    rk_free(b.entries);
    rk_free(b.bytes);
    rk_free(b.fine);
    return code;
}
