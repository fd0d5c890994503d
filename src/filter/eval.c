/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a program over a chunk, block by block.
 *
 * Three-valued logic in two bitmaps per slot: |value| (true) and |known| (not null), value being a
 * subset of known. With the bits a, A (value, known) of the left and b, B of the right operand:
 *   and:  value a & b       known (A & B) | (A & ~a) | (B & ~b)
 *   or:   value a | b       known (A & B) | a | b
 *   not:  value A & ~a      known A
 * Scratch is a fixed number of blocks, whatever the chunk's size. A row that is not active may hold
 * any bits (value within known): the operator that made it inactive has decided it, whatever the
 * other side says.
 */
#include "base/seam.h"
#include "base/util.h"
#include "filter/filter_private.h"

typedef struct run {
    const rk_filter *filter;
    const rk_filter_chunk *chunk;
    uint64_t *slots; /* per slot: RK__WORDS of value, RK__WORDS of known */
    uint64_t *masks;
    rk__regex_scratch **regexes;
    rk_arena *texts;
    bool failed;
} run;

static uint64_t *
slot_value(const run *r, uint32_t slot)
{
    return r->slots + (size_t)slot * 2 * RK__WORDS;
}

static uint64_t *
slot_known(const run *r, uint32_t slot)
{
    return slot_value(r, slot) + RK__WORDS;
}

static uint64_t *
mask_words(const run *r, uint32_t mask)
{
    return r->masks + (size_t)mask * RK__WORDS;
}

static void
eval_const(const rk__leaf *leaf, bool truth)
{
    size_t words = rk_bitset_words(leaf->rows);
    memset(leaf->value, truth ? 0xFF : 0, words * sizeof(uint64_t));
    memset(leaf->known, 0xFF, words * sizeof(uint64_t));
}

void
rk__known_from_valid(const rk__leaf *leaf, const rk_column *col)
{
    size_t words = rk_bitset_words(leaf->rows);
    if (col && col->valid) {
        memcpy(leaf->known, col->valid + leaf->first / 64, words * sizeof(uint64_t));
    } else {
        memset(leaf->known, 0xFF, words * sizeof(uint64_t));
    }
}

static void
eval_null(const rk__leaf *leaf)
{
    size_t words = rk_bitset_words(leaf->rows);
    rk__known_from_valid(leaf, leaf->col);
    for (size_t w = 0; w < words; w++) {
        leaf->value[w] = ~leaf->known[w];
        leaf->known[w] = UINT64_MAX;
    }
}

static void
run_leaf(run *r, const rk__step *step, size_t first, size_t rows)
{
    const rk__pred *pred = step->pred;
    const rk_column *columns = r->chunk->columns;
    rk__leaf leaf = {
        .pred = pred,
        .col = pred->col ? &columns[pred->col->position] : NULL,
        .col2 = pred->col2 ? &columns[pred->col2->position] : NULL,
        .first = first,
        .rows = rows,
        .active = mask_words(r, step->mask),
        .value = slot_value(r, step->slot),
        .known = slot_known(r, step->slot),
        .regexes = r->regexes,
        .texts = r->texts,
        .failed = &r->failed,
    };
    const rk__col *col = pred->col ? pred->col : pred->col2;

    if (pred->kind == PK_CONST) {
        eval_const(&leaf, pred->truth);
    } else if (pred->kind == PK_NULL) {
        eval_null(&leaf);
    } else if (col->kind == CK_JSON) {
        rk__eval_json(&leaf);
    } else if (col->kind == CK_SCALAR && col->type != RK_VARCHAR) {
        rk__eval_scalar(&leaf);
    } else {
        rk__eval_rows(&leaf);
    }
}

static void
run_not(const run *r, uint32_t slot, size_t words)
{
    uint64_t *value = slot_value(r, slot);
    const uint64_t *known = slot_known(r, slot);
    for (size_t w = 0; w < words; w++) {
        value[w] = known[w] & ~value[w];
    }
}

static void
run_join(const run *r, uint32_t slot, bool is_and, size_t words)
{
    uint64_t *a = slot_value(r, slot);
    uint64_t *known_a = slot_known(r, slot);
    const uint64_t *b = slot_value(r, slot + 1);
    const uint64_t *known_b = slot_known(r, slot + 1);
    for (size_t w = 0; w < words; w++) {
        uint64_t x = a[w];
        uint64_t y = b[w];
        uint64_t both = known_a[w] & known_b[w];
        a[w] = is_and ? x & y : x | y;
        known_a[w] = is_and ? both | (known_a[w] & ~x) | (known_b[w] & ~y) : both | x | y;
    }
}

/* Takes rows decided by |step->slot| out of the active ones; false when none is left. */
static bool
run_narrow(const run *r, const rk__step *step, size_t words)
{
    const uint64_t *outer = mask_words(r, step->mask - 1);
    uint64_t *inner = mask_words(r, step->mask);
    const uint64_t *value = slot_value(r, step->slot);
    const uint64_t *known = slot_known(r, step->slot);
    uint64_t any = 0;
    for (size_t w = 0; w < words; w++) {
        uint64_t decided = step->is_and ? known[w] & ~value[w] : value[w];
        inner[w] = outer[w] & ~decided;
        any |= inner[w];
    }
    return any != 0;
}

static void
run_block(run *r, size_t first, size_t rows, uint64_t *out)
{
    size_t words = rk_bitset_words(rows);
    const rk_filter *filter = r->filter;
    uint64_t *all = mask_words(r, 0);

    memset(all, 0xFF, words * sizeof(uint64_t));
    if (rows % 64) {
        all[words - 1] = (UINT64_C(1) << (rows % 64)) - 1;
    }
    for (uint32_t i = 0; i < filter->steps_len;) {
        const rk__step *step = &filter->steps[i++];
        switch (step->kind) {
        case SP_LEAF:
            run_leaf(r, step, first, rows);
            break;
        case SP_NOT:
            run_not(r, step->slot, words);
            break;
        case SP_NARROW:
            if (!run_narrow(r, step, words)) {
                i = step->jump;
            }
            break;
        case SP_AND:
        case SP_OR:
        default:
            run_join(r, step->slot, step->kind == SP_AND, words);
            break;
        }
    }
    const uint64_t *value = slot_value(r, 0);
    for (size_t w = 0; w < words; w++) {
        out[w] = value[w] & all[w];
    }
}

/* Keeps max(1, floor(p * n)) of the n rows set, each choice as likely as any other. */
static void
take_sample(const rk_filter *filter, const rk_filter_chunk *chunk, uint64_t *words)
{
    rk_bitset rows = {words, chunk->rows};
    uint64_t left = rk_bitset_count(&rows);
    uint64_t want = (uint64_t)((double)left * filter->sample);
    rk_rng rng;

    want = want > 0 ? want : 1;
    rk_rng_init(&rng, rk_hash_u64(filter->seed ^ (uint64_t)(uintptr_t)chunk->columns));
    for (size_t i = rk_bitset_next(&rows, 0); i < rows.nbits; i = rk_bitset_next(&rows, i + 1)) {
        if (rk_rng_next(&rng) % left < want) { /* bias below 2^-32: chunks are that much smaller */
            want--;
        } else {
            rk_bitset_clear(&rows, i);
        }
        left--;
    }
}

static rk_code
run_setup(run *r, rk_arena *arena)
{
    const rk_filter *filter = r->filter;
    size_t block = RK__WORDS * sizeof(uint64_t);

    r->slots = rk_arena_alloc(arena, (size_t)(filter->slots + 1) * 2 * block);
    r->masks = rk_arena_alloc(arena, (size_t)filter->masks * block);
    r->regexes = RK_ARENA_ARRAY(arena, rk__regex_scratch *, filter->regexes_len + 1);
    if (!r->slots || !r->masks || !r->regexes) {
        return RK_ENOMEM;
    }
    for (uint32_t i = 0; i < filter->regexes_len; i++) {
        r->regexes[i] = rk__regex_scratch_new(filter->regexes[i], arena);
        if (!r->regexes[i]) {
            return RK_ENOMEM;
        }
    }
    for (size_t i = 0; i < filter->fields_len && !r->texts; i++) {
        if (filter->schema->fields[filter->fields[i]].type == RK_JSON) {
            r->texts = rk_arena_new(0);
            if (!r->texts) {
                return RK_ENOMEM;
            }
        }
    }
    return RK_OK;
}

rk_code
rk_filter_eval(const rk_filter *filter, const rk_filter_chunk *chunk, uint64_t *words,
               rk_arena *arena, rk_err *err)
{
    run r = {.filter = filter, .chunk = chunk};
    rk_code code = RK_OK;

    if (!filter->root) { /* a sample of all rows */
        rk_bitset all = {words, chunk->rows};
        rk_bitset_fill(&all, true);
    } else {
        RK_ERR(run_setup(&r, arena));
        for (size_t first = 0; first < chunk->rows && !r.failed; first += RK__BLOCK) {
            size_t rows = RK_MIN(chunk->rows - first, (size_t)RK__BLOCK);
            run_block(&r, first, rows, words + first / 64);
        }
        code = r.failed ? RK_ENOMEM : RK_OK;
    }
    if (code == RK_OK && filter->sample > 0) {
        take_sample(filter, chunk, words);
    }
out:
    rk_arena_free(r.texts);
    if (code != RK_OK) {
        return rk_fail(err, code, "no memory to evaluate a filter over %zu rows", chunk->rows);
    }
    return RK_OK;
}
