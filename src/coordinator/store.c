/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue: what the meta store holds, and the same in memory.
 */
#include "coordinator/coordinator_private.h"

rk_code
rk__co_no_memory(rk_err *err)
{
    return rk_fail(err, RK_ENOMEM, "coordinator: memory is out");
}

/* ---- boxes ---- */

rk_code
rk__co_box_copy(rk__co_box *out, const pb_message_desc *desc, const void *message)
{
    rk_arena *arena = rk_arena_new(0);

    *out = (rk__co_box){0};
    if (!arena || pb_copy(desc, &out->message, message, arena) != RK_OK) {
        rk_arena_free(arena);
        return RK_ENOMEM;
    }
    out->arena = arena;
    return RK_OK;
}

rk_code
rk__co_box_decode(rk__co_box *out, const pb_message_desc *desc, rk_str bytes, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_str own = arena ? rk_arena_str(arena, bytes) : (rk_str){NULL, 0};
    rk_code code;

    *out = (rk__co_box){0};
    if (!own.data) {
        rk_arena_free(arena);
        return rk__co_no_memory(err);
    }
    code = pb_decode(desc, &out->message, own, arena, err);
    if (code != RK_OK) {
        rk_arena_free(arena);
        return code == RK_EINVAL ? RK_ECORRUPT : code;
    }
    out->arena = arena;
    return RK_OK;
}

void
rk__co_box_free(rk__co_box *box)
{
    rk_arena_free(box->arena);
    *box = (rk__co_box){0};
}

/* ---- keys and transactions ---- */

rk_str
rk__co_key(rk_arena *arena, const char *kind, int64_t collection, int64_t id)
{
    if (id == 0) {
        return rk_arena_printf(arena, "%s/%020lld", kind, (long long)collection);
    }
    return rk_arena_printf(arena, "%s/%020lld/%020lld", kind, (long long)collection, (long long)id);
}

rk_str
rk__co_channel_key(rk_arena *arena, int64_t collection, rk_str channel)
{
    return rk_arena_printf(arena, "chan/%020lld/%.*s", (long long)collection, RK_STR_ARG(channel));
}

rk_code
rk__co_put(rk_meta_op *op, rk_str key, const pb_message_desc *desc, const void *message,
           rk_arena *arena)
{
    *op = (rk_meta_op){.kind = RK_META_PUT, .key = key};
    if (!key.data) {
        return RK_ENOMEM;
    }
    return pb_encode_arena(desc, message, &op->value, arena);
}

rk_code
rk__co_commit(rk_coordinator *co, const rk_meta_op *ops, size_t n, rk_err *err)
{
    const rk_meta_txn txn = {.then_ops = ops, .then_len = n};
    rk_meta_result result;

    RK_RET(RK_FAULT("meta.before_commit"));
    RK_RET(rk_meta_do(co->options.meta, &txn, &result, err));
    (void)RK_FAULT("meta.after_commit");
    return RK_OK;
}

/* ---- memory ---- */

void
rk__co_wake(rk_coordinator *co)
{
    co->work = true;
    rk_cond_signal(&co->wake);
}

void
rk__co_bump(rk_coordinator *co)
{
    atomic_fetch_add(&co->revision, 1);
}

bool
rk__co_db_known(rk_str db)
{
    return db.len == 0 || rk_str_is(db, "default");
}

rk_code
rk__co_not_found(const pb_rk_CollectionKey *key, int64_t id, rk_err *err)
{
    if (key && key->name.len > 0) {
        return rk_fail(err, RK_ECOLLECTION_NOT_FOUND,
                       "collection not found[database=%s][collection=%.*s]", "default",
                       RK_STR_ARG(key->name));
    }
    return rk_fail(err, RK_ECOLLECTION_NOT_FOUND,
                   "collection not found[database=%s][collection=%lld]", "default",
                   (long long)(key ? key->id : id));
}

static size_t
position(const rk_coordinator *co, int64_t id)
{
    size_t low = 0;
    size_t high = co->collections_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (co->collections[mid]->id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

rk__co_collection *
rk__co_find(rk_coordinator *co, int64_t id)
{
    size_t at = position(co, id);

    if (at < co->collections_len && co->collections[at]->id == id) {
        return co->collections[at];
    }
    return NULL;
}

rk_code
rk__co_find_present(rk_coordinator *co, int64_t id, rk__co_collection **out, rk_err *err)
{
    *out = rk__co_find(co, id);
    return *out && !(*out)->dropped ? RK_OK : rk__co_not_found(NULL, id, err);
}

/* Where |name| is among the named, or would be inserted. */
static size_t
name_position(const rk_coordinator *co, rk_str name)
{
    size_t low = 0;
    size_t high = co->named_len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (rk_str_cmp(rk__co_info(co->named[mid])->name, name) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

rk__co_collection *
rk__co_find_named(rk_coordinator *co, rk_str db, rk_str name)
{
    size_t at = name_position(co, name);

    if (rk__co_db_known(db) && at < co->named_len &&
        rk_str_eq(rk__co_info(co->named[at])->name, name)) {
        return co->named[at];
    }
    return NULL;
}

/* Room for one more element. */
static bool
grow(void **array, size_t *cap, size_t len, size_t element_bytes)
{
    size_t want = *cap ? *cap * 2 : 8;
    void *bigger;

    if (len < *cap) {
        return true;
    }
    bigger = rk_realloc(*array, want * element_bytes);
    if (!bigger) {
        return false;
    }
    *array = bigger;
    *cap = want;
    return true;
}

rk_code
rk__co_collection_reserve(rk_coordinator *co)
{
    if (!grow((void **)&co->collections, &co->collections_cap, co->collections_len,
              sizeof(rk__co_collection *)) ||
        !grow((void **)&co->named, &co->named_cap, co->named_len, sizeof(rk__co_collection *))) {
        return RK_ENOMEM;
    }
    return RK_OK;
}

void
rk__co_collection_unname(rk_coordinator *co, const rk__co_collection *c)
{
    size_t at = name_position(co, rk__co_info(c)->name);

    while (at < co->named_len && co->named[at] != c &&
           rk_str_eq(rk__co_info(co->named[at])->name, rk__co_info(c)->name)) {
        at++;
    }
    if (at < co->named_len && co->named[at] == c) {
        memmove(&co->named[at], &co->named[at + 1],
                (co->named_len - at - 1) * sizeof(rk__co_collection *));
        co->named_len--;
    }
}

rk_code
rk__co_collection_add(rk_coordinator *co, rk__co_collection *c)
{
    size_t at = position(co, c->id);
    size_t name_at = name_position(co, rk__co_info(c)->name);

    RK_RET(rk__co_collection_reserve(co));
    if (!c->dropped) {
        memmove(&co->named[name_at + 1], &co->named[name_at],
                (co->named_len - name_at) * sizeof(rk__co_collection *));
        co->named[name_at] = c;
        co->named_len++;
    }
    memmove(&co->collections[at + 1], &co->collections[at],
            (co->collections_len - at) * sizeof(rk__co_collection *));
    co->collections[at] = c;
    co->collections_len++;
    return RK_OK;
}

void
rk__co_collection_free(rk__co_collection *c)
{
    if (!c) {
        return;
    }
    for (size_t i = 0; i < c->segments_len; i++) {
        rk__co_box_free(&c->segments[i].box);
    }
    for (size_t i = 0; i < c->deltas_len; i++) {
        rk__co_box_free(&c->deltas[i]);
    }
    for (size_t i = 0; i < c->channels_len; i++) {
        rk__co_box_free(&c->channels[i]);
    }
    rk__co_box_free(&c->box);
    rk_free(c->segments);
    rk_free(c->deltas);
    rk_free(c->channels);
    rk_free(c->failures);
    rk_free(c);
}

void
rk__co_collection_remove(rk_coordinator *co, int64_t id)
{
    size_t at = position(co, id);

    if (at < co->collections_len && co->collections[at]->id == id) {
        rk__co_collection_unname(co, co->collections[at]);
        rk__co_collection_free(co->collections[at]);
        memmove(&co->collections[at], &co->collections[at + 1],
                (co->collections_len - at - 1) * sizeof(rk__co_collection *));
        co->collections_len--;
    }
}

rk__co_segment *
rk__co_segment_find(rk__co_collection *c, int64_t id)
{
    for (size_t i = 0; i < c->segments_len; i++) {
        if (c->segments[i].id == id) {
            return &c->segments[i];
        }
    }
    return NULL;
}

/* Room for one segment beside those that were promised their place. */
static bool
grow_segments(rk__co_collection *c)
{
    return grow((void **)&c->segments, &c->segments_cap, c->segments_len + c->segments_promised,
                sizeof(*c->segments));
}

rk_code
rk__co_room_make(rk__co_collection *c, size_t segments)
{
    if (!grow((void **)&c->deltas, &c->deltas_cap, c->deltas_len, sizeof(*c->deltas))) {
        return RK_ENOMEM;
    }
    for (c->segments_promised = 0; c->segments_promised < segments; c->segments_promised++) {
        if (!grow_segments(c)) {
            return RK_ENOMEM;
        }
    }
    return RK_OK;
}

rk_code
rk__co_segment_add(rk__co_collection *c, const rk__co_segment *segment)
{
    if (!grow_segments(c)) {
        return RK_ENOMEM;
    }
    c->segments[c->segments_len++] = *segment;
    return RK_OK;
}

void
rk__co_segment_remove(rk__co_collection *c, int64_t id)
{
    for (size_t i = 0; i < c->segments_len; i++) {
        if (c->segments[i].id == id) {
            rk__co_box_free(&c->segments[i].box);
            memmove(&c->segments[i], &c->segments[i + 1],
                    (c->segments_len - i - 1) * sizeof(*c->segments));
            c->segments_len--;
            break;
        }
    }
    for (size_t i = 0; i < c->failures_len;) {
        if (c->failures[i].segment_id == id) {
            c->failures[i] = c->failures[--c->failures_len];
        } else {
            i++;
        }
    }
}

/* ---- reading all of it at start ---- */

/* The number that follows |kind|/ in |key|. */
static bool
key_number(rk_str key, size_t skip, int64_t *out)
{
    if (key.len < skip + 20) {
        return false;
    }
    return rk_str_to_i64((rk_str){key.data + skip, 20}, out);
}

typedef rk_code (*take_fn)(rk_coordinator *co, rk__co_collection *c, rk_str value, rk_err *err);

static rk_code
take_segment(rk_coordinator *co, rk__co_collection *c, rk_str value, rk_err *err)
{
    rk__co_segment segment = {0};

    RK_UNUSED(co);
    RK_RET(rk__co_box_decode(&segment.box, &pb_rk_SegmentInfo_desc, value, err));
    segment.id = rk__co_seg_info(&segment)->id;
    if (rk__co_segment_add(c, &segment) != RK_OK) {
        rk__co_box_free(&segment.box);
        return rk__co_no_memory(err);
    }
    return RK_OK;
}

static rk_code
take_delta(rk_coordinator *co, rk__co_collection *c, rk_str value, rk_err *err)
{
    rk__co_box box;

    RK_UNUSED(co);
    RK_RET(rk__co_box_decode(&box, &pb_rk_DeltaFile_desc, value, err));
    if (!grow((void **)&c->deltas, &c->deltas_cap, c->deltas_len, sizeof(*c->deltas))) {
        rk__co_box_free(&box);
        return rk__co_no_memory(err);
    }
    c->deltas[c->deltas_len++] = box;
    return RK_OK;
}

static rk_code
take_channel(rk_coordinator *co, rk__co_collection *c, rk_str value, rk_err *err)
{
    rk__co_box *bigger = rk_realloc(c->channels, (c->channels_len + 1) * sizeof(*bigger));

    RK_UNUSED(co);
    if (!bigger) {
        return rk__co_no_memory(err);
    }
    c->channels = bigger;
    RK_RET(rk__co_box_decode(&c->channels[c->channels_len], &pb_rk_ChannelInfo_desc, value, err));
    c->channels_len++;
    return RK_OK;
}

static rk_code
take_load(rk_coordinator *co, rk__co_collection *c, rk_str value, rk_err *err)
{
    RK_UNUSED(co);
    RK_UNUSED(value);
    RK_UNUSED(err);
    c->load_wanted = true;
    return RK_OK;
}

static rk_code
read_kind(rk_coordinator *co, const char *prefix, take_fn take, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_meta_range range = {0};
    rk_code code = RK_OK;

    if (!arena) {
        return rk__co_no_memory(err);
    }
    RK_ERR(rk_meta_list(co->options.meta, rk_str_from(prefix), 0, &range, arena, err));
    for (size_t i = 0; i < range.n; i++) {
        int64_t id;
        rk__co_collection *c;
        if (!key_number(range.kvs[i].key, strlen(prefix), &id)) {
            code = rk_fail(err, RK_ECORRUPT, "meta store: key %.*s is not one of ours",
                           RK_STR_ARG(range.kvs[i].key));
            goto out;
        }
        c = rk__co_find(co, id);
        if (!c) { /* left behind by a drop that did not get to the end */
            RK_LOG_W("coordinator", "event=orphan_key key=%.*s", RK_STR_ARG(range.kvs[i].key));
            continue;
        }
        RK_ERR(take(co, c, range.kvs[i].value, err));
    }
out:
    rk_arena_free(arena);
    return code;
}

/* Collections: present ones, then those whose files are still to be removed. */
static rk_code
read_collections(rk_coordinator *co, const char *prefix, bool dropped, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk_meta_range range = {0};
    rk_code code = RK_OK;

    if (!arena) {
        return rk__co_no_memory(err);
    }
    RK_ERR(rk_meta_list(co->options.meta, rk_str_from(prefix), 0, &range, arena, err));
    for (size_t i = 0; i < range.n; i++) {
        rk__co_collection *c = rk_alloc_zero(1, sizeof(*c));
        if (!c) {
            code = rk__co_no_memory(err);
            goto out;
        }
        code = rk__co_box_decode(&c->box, &pb_rk_CollectionInfo_desc, range.kvs[i].value, err);
        if (code != RK_OK) {
            rk__co_collection_free(c);
            goto out;
        }
        c->id = rk__co_info(c)->id;
        c->dropped = dropped;
        if (rk__co_collection_add(co, c) != RK_OK) {
            rk__co_collection_free(c);
            code = rk__co_no_memory(err);
            goto out;
        }
    }
out:
    rk_arena_free(arena);
    return code;
}

rk_code
rk__co_catalog_read(rk_coordinator *co, rk_err *err)
{
    RK_RET(read_collections(co, "coll/", false, err));
    RK_RET(read_collections(co, "drop/", true, err));
    RK_RET(read_kind(co, "chan/", take_channel, err));
    RK_RET(read_kind(co, "seg/", take_segment, err));
    RK_RET(read_kind(co, "delta/", take_delta, err));
    return read_kind(co, "load/", take_load, err);
}
