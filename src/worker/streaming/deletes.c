/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delete buffer of a channel: (primary key, timestamp) pairs that are in the log but not yet in
 * a delta file.
 */
#include "worker/streaming/streaming_private.h"

void
rk__sn_deletes_deinit(rk__sn_deletes *d)
{
    rk_free(d->numbers);
    rk_free(d->offsets);
    rk_free(d->ts);
    rk_buf_deinit(&d->text);
    *d = (rk__sn_deletes){0};
}

static bool
resize(void **array, size_t count, size_t element_bytes)
{
    size_t bytes;
    void *bigger;

    if (!rk_mul_ok(&bytes, count, element_bytes) || !(bigger = rk_realloc(*array, bytes))) {
        return false;
    }
    *array = bigger;
    return true;
}

static rk_code
reserve(rk__sn_deletes *d, size_t more)
{
    size_t want = RK_MAX(d->cap * 2, (size_t)64);

    if (d->cap - d->n >= more) {
        return RK_OK;
    }
    want = RK_MAX(want, d->n + more);
    if (!resize((void **)&d->ts, want, sizeof(*d->ts))) {
        return RK_ENOMEM;
    }
    if (d->is_text ? !resize((void **)&d->offsets, want + 1, sizeof(*d->offsets))
                   : !resize((void **)&d->numbers, want, sizeof(*d->numbers))) {
        return RK_ENOMEM;
    }
    d->cap = want;
    return RK_OK;
}

rk_code
rk__sn_deletes_add(rk__sn_deletes *d, const pb_schema_IDs *keys, uint64_t ts)
{
    size_t n = rk_ids_len(keys);
    size_t bytes = 0;

    if (n == 0) {
        return RK_OK;
    }
    if (d->n == 0 && d->cap == 0) {
        d->is_text = rk_ids_at(keys, 0).is_text;
    }
    RK_RET(reserve(d, n));
    if (d->is_text) {
        for (size_t i = 0; i < n; i++) {
            bytes += rk_ids_at(keys, i).text.len;
        }
        if (!rk_buf_reserve(&d->text, bytes)) {
            return RK_ENOMEM;
        }
    }
    for (size_t i = 0; i < n; i++) {
        rk_pk pk = rk_ids_at(keys, i);
        if (d->is_text) {
            d->offsets[d->n] = d->text.len;
            rk_buf_str(&d->text, pk.text);
            d->offsets[d->n + 1] = d->text.len;
        } else {
            d->numbers[d->n] = pk.number;
        }
        d->ts[d->n++] = ts;
    }
    return RK_OK;
}

/* First position with a timestamp above |ts|. */
static size_t
position_after(const rk__sn_deletes *d, uint64_t ts)
{
    size_t low = 0;
    size_t high = d->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (d->ts[mid] <= ts) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static rk_code
copy_texts(const rk__sn_deletes *d, size_t from, size_t n, pb_schema_IDs *ids, rk_arena *arena)
{
    size_t base = n ? (size_t)d->offsets[from] : 0;
    size_t bytes = n ? (size_t)d->offsets[from + n] - base : 0;
    char *text = rk_arena_alloc(arena, bytes + 1);

    ids->str_id = RK_ARENA_NEW(arena, pb_schema_StringArray);
    if (!text || !ids->str_id || !(ids->str_id->data.data = RK_ARENA_ARRAY(arena, rk_str, n + 1))) {
        return RK_ENOMEM;
    }
    if (bytes) {
        memcpy(text, d->text.data + base, bytes);
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)d->offsets[from + i] - base;
        ids->str_id->data.data[i] =
            (rk_str){text + at, (size_t)d->offsets[from + i + 1] - base - at};
    }
    ids->str_id->data.n = n;
    ids->id_field_case = PB_SCHEMA_IDs_str_id;
    return RK_OK;
}

rk_code
rk__sn_deletes_copy(const rk__sn_deletes *d, uint64_t after, uint64_t upto, pb_schema_IDs **keys,
                    uint64_t **ts, size_t *n, rk_arena *arena)
{
    size_t from = position_after(d, after);
    size_t to = position_after(d, upto);
    pb_schema_IDs *ids = RK_ARENA_NEW(arena, pb_schema_IDs);

    *n = to > from ? to - from : 0;
    *ts = RK_ARENA_ARRAY(arena, uint64_t, *n + 1);
    if (!ids || !*ts) {
        return RK_ENOMEM;
    }
    *keys = ids;
    if (*n == 0) {
        return RK_OK;
    }
    memcpy(*ts, d->ts + from, *n * sizeof(**ts));
    if (d->is_text) {
        return copy_texts(d, from, *n, ids, arena);
    }
    ids->int_id = RK_ARENA_NEW(arena, pb_schema_LongArray);
    if (!ids->int_id || !(ids->int_id->data.data = RK_ARENA_ARRAY(arena, int64_t, *n))) {
        return RK_ENOMEM;
    }
    memcpy(ids->int_id->data.data, d->numbers + from, *n * sizeof(int64_t));
    ids->int_id->data.n = *n;
    ids->id_field_case = PB_SCHEMA_IDs_int_id;
    return RK_OK;
}

void
rk__sn_deletes_forget(rk__sn_deletes *d, uint64_t upto)
{
    size_t gone = position_after(d, upto);
    size_t kept = d->n - gone;

    if (gone == 0) {
        return;
    }
    if (kept == 0) {
        rk__sn_deletes_deinit(d);
        return;
    }
    if (d->is_text) {
        size_t base = (size_t)d->offsets[gone];
        memmove(d->text.data, d->text.data + base, d->text.len - base);
        d->text.len -= base;
        for (size_t i = 0; i <= kept; i++) {
            d->offsets[i] = d->offsets[gone + i] - base;
        }
    } else {
        memmove(d->numbers, d->numbers + gone, kept * sizeof(*d->numbers));
    }
    memmove(d->ts, d->ts + gone, kept * sizeof(*d->ts));
    d->n = kept;
}
