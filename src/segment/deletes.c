/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletes of one segment: which rows are gone, and since when.
 *
 * A list of (timestamp, row) in rising order says what a read at any timestamp must not see; a
 * bitset of the same rows makes the common read, at the newest timestamp, one pass over words. A
 * row is deleted once: a later delete of its key finds it gone. Deletes come in rising order but
 * for repeats after a restart, so the list is appended to, and inserted into only then.
 */
#include "segment/segment_private.h"

#define FOUND_MAX 64u
#define LIST_MIN  ((size_t)64)

void
rk__deletes_init(rk__deletes *d)
{
    rk_mutex_init(&d->lock, "segment.deletes", RK_RANK_SEGMENT + 1);
    atomic_init(&d->min_ts, UINT64_MAX);
    atomic_init(&d->count, 0);
}

void
rk__deletes_deinit(rk__deletes *d, rk_mem *mem)
{
    rk_mem_release(mem, d->reserved_bytes);
    rk_free(d->list);
    rk_free(d->words);
    rk_mutex_deinit(&d->lock);
}

/* Room for one more row number |row|. */
static rk_code
make_room_locked(rk_segment *seg, uint32_t row, rk_err *err)
{
    rk__deletes *d = &seg->deletes;
    size_t words = d->words_len;
    size_t cap = d->cap;

    if (row / 64 >= words) {
        words = RK_MAX((size_t)row / 64 + 1, words * 2);
    }
    if (d->len == cap) {
        cap = RK_MAX(cap * 2, LIST_MIN);
    }
    uint64_t more = (words - d->words_len) * sizeof(uint64_t) + (cap - d->cap) * sizeof(rk__delete);
    if (more == 0) {
        return RK_OK;
    }
    /* a delete is acknowledged when it comes here: it is charged, but never refused for the budget
     */
    if (rk_mem_reserve(seg->mem, more, "deletes of a segment", NULL) == RK_OK) {
        d->reserved_bytes += more;
    }
    if (words > d->words_len) {
        uint64_t *bigger = rk_realloc(d->words, words * sizeof(*bigger));
        if (!bigger) {
            return rk_fail(err, RK_ENOMEM, "no memory for deletes of segment %lld",
                           (long long)seg->ids.id);
        }
        memset(bigger + d->words_len, 0, (words - d->words_len) * sizeof(*bigger));
        d->words = bigger;
        d->words_len = words;
    }
    if (cap > d->cap) {
        rk__delete *bigger = rk_realloc(d->list, cap * sizeof(*bigger));
        if (!bigger) {
            return rk_fail(err, RK_ENOMEM, "no memory for deletes of segment %lld",
                           (long long)seg->ids.id);
        }
        d->list = bigger;
        d->cap = cap;
    }
    return RK_OK;
}

static rk_code
delete_row_locked(rk_segment *seg, uint32_t row, uint64_t ts, size_t *hits, rk_err *err)
{
    rk__deletes *d = &seg->deletes;
    size_t at = d->len;

    if (row / 64 < d->words_len && (d->words[row / 64] >> (row % 64)) & 1) {
        return RK_OK;
    }
    RK_RET(make_room_locked(seg, row, err));
    while (at > 0 && d->list[at - 1].ts > ts) {
        at--;
    }
    d->inserted += at < d->len;
    memmove(&d->list[at + 1], &d->list[at], (d->len - at) * sizeof(*d->list));
    d->list[at] = (rk__delete){ts, row};
    d->len++;
    d->words[row / 64] |= UINT64_C(1) << (row % 64);
    if (ts < atomic_load_explicit(&d->min_ts, memory_order_relaxed)) {
        atomic_store_explicit(&d->min_ts, ts, memory_order_relaxed);
    }
    atomic_store_explicit(&d->count, d->len, memory_order_relaxed);
    ++*hits;
    return RK_OK;
}

static rk_code
delete_rows(rk_segment *seg, const uint32_t *rows, size_t n, uint64_t ts, size_t *hits, rk_err *err)
{
    rk_code code = RK_OK;

    rk_mutex_lock(&seg->deletes.lock);
    for (size_t i = 0; i < n && code == RK_OK; i++) {
        if (rk_segment_row_ts(seg, rows[i]) < ts) {
            code = delete_row_locked(seg, rows[i], ts, hits, err);
        }
    }
    rk_mutex_unlock(&seg->deletes.lock);
    return code;
}

rk_code
rk_segment_delete(rk_segment *seg, const pb_schema_IDs *keys, const uint64_t *ts, size_t n,
                  size_t *hits, rk_err *err)
{
    bool text = rk_schema_primary(seg->schema)->type == RK_VARCHAR;
    size_t rows = rk__segment_rows(seg);
    uint32_t found[FOUND_MAX];

    *hits = 0;
    if (n > 0 && (rk_ids_len(keys) < n || rk_ids_at(keys, 0).is_text != text)) {
        return rk_fail_tail(
            err, RK_EINVAL,
            "deletes of segment %lld: keys are missing or not of the primary key's type",
            (long long)seg->ids.id);
    }
    for (size_t i = 0; i < n; i++) {
        rk_pk pk = rk_ids_at(keys, i);
        size_t have = rk_segment_find(seg, pk, rows, found, FOUND_MAX);
        uint32_t *many = NULL;
        rk_code code;

        if (have > FOUND_MAX) { /* a key that was inserted over and over */
            many = rk_alloc(have * sizeof(*many));
            if (!many) {
                return rk_fail(err, RK_ENOMEM, "no memory for deletes of segment %lld",
                               (long long)seg->ids.id);
            }
            have = RK_MIN(have, rk_segment_find(seg, pk, rows, many, have));
        }
        code = delete_rows(seg, many ? many : found, have, ts[i], hits, err);
        rk_free(many);
        RK_RET(code);
    }
    return RK_OK;
}

static size_t
count_upto_locked(const rk__deletes *d, uint64_t ts)
{
    size_t lo = 0, hi = d->len;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (d->list[mid].ts <= ts) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

uint64_t
rk__deletes_upto(const rk__deletes *deletes, uint64_t ts)
{
    rk__deletes *d = (rk__deletes *)(uintptr_t)deletes; /* const to callers, but for the lock */

    if (ts < atomic_load_explicit(&d->min_ts, memory_order_relaxed)) {
        return 0;
    }
    rk_mutex_lock(&d->lock);
    uint64_t n = count_upto_locked(d, ts) | d->inserted << 32; /* row numbers have 32 bits */
    rk_mutex_unlock(&d->lock);
    return n;
}

void
rk__deletes_apply(const rk__deletes *deletes, uint64_t ts, rk_bitset *rows)
{
    rk__deletes *d = (rk__deletes *)(uintptr_t)deletes; /* const to callers, but for the lock */
    size_t words = rk_bitset_words(rows->nbits);

    rk_mutex_lock(&d->lock);
    size_t upto = count_upto_locked(d, ts);
    if (upto <= d->len / 2) {
        for (size_t i = 0; i < upto; i++) {
            if (d->list[i].row < rows->nbits) {
                rk_bitset_clear(rows, d->list[i].row);
            }
        }
    } else {
        for (size_t i = 0; i < RK_MIN(words, d->words_len); i++) {
            rows->words[i] &= ~d->words[i];
        }
        for (size_t i = upto; i < d->len; i++) { /* deleted later: still seen */
            if (d->list[i].row < rows->nbits) {
                rk_bitset_set(rows, d->list[i].row);
            }
        }
    }
    rk_mutex_unlock(&d->lock);
}
