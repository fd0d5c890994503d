/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending: one request becomes one log record, is applied in the order of the log, and only then
 * answered. Recovery reads the same records.
 *
 * Log record, little-endian:
 *   offset  size  meaning
 *   0       4     magic "RKAP"
 *   4       2     version, 1
 *   6       2     zero
 *   8       8     timestamp, filled in under the log's ordering lock; 0 marks a record that was
 *                 never valid
 *   16      8     collection id
 *   24      ..    redkite.internal.AppendRequest
 *
 * Timestamps. The coordinator gives one before the append; the record gets the larger of that and
 * the newest given + 1, so that timestamps rise in the order of the log even when two appends
 * overtake each other on the way to it.
 */
#include "worker/streaming/streaming_private.h"

#define RECORD_MAGIC   0x50414b52u /* "RKAP" */
#define RECORD_VERSION 1u
#define RECORD_HEADER  24u

/* Memory a row costs beside its values: timestamp, key table, bitmaps. */
#define ROW_OVERHEAD_BYTES 48u
/* How long a write waits for flushes to give memory back before it is refused. */
#define MEMORY_WAIT_NS (INT64_C(3) * 1000000000)
#define MEMORY_LOOK_NS (INT64_C(20) * 1000000)
/* Rows that have left their slots are freed a little later: so many looks in a row must find
 * nothing to wait for. */
#define MEMORY_LOOKS_IN_VAIN 4
/* The log's length is looked at so often while it grows to its bound. */
#define LOG_LOOKS 16u

/* What the log's ordering callback needs. */
typedef struct ordering {
    rk__sn_collection *collection;
    rk__sn_turn turn;
    uint64_t ts_hint;
    uint8_t *header;
    bool queued;
} ordering;

static void
on_order(void *user, uint64_t lsn)
{
    ordering *o = user;
    rk_streaming_node *node = o->collection->node;
    /* relaxed: only ever touched under the log's ordering lock, and once before the log is shared
     */
    uint64_t last = atomic_load_explicit(&node->last_ts, memory_order_relaxed);
    uint64_t ts = RK_MAX(o->ts_hint, last + 1);

    atomic_store_explicit(&node->last_ts, ts, memory_order_relaxed);
    rk_put_u64le(o->header + 8, ts);
    o->turn.ts = ts;
    o->turn.lsn = lsn;
    o->queued = true;
    rk__sn_turn_queue(o->collection, &o->turn);
}

static rk_code
check_request(rk__sn_collection *c, const pb_rk_AppendRequest *req, rk_err *err)
{
    for (size_t i = 0; i < req->inserts.n; i++) {
        if (!rk__sn_channel_find(c, req->inserts.data[i]->channel, NULL)) {
            return rk_fail(err, RK_ECHANNEL_NOT_FOUND, "channel not found[channel=%.*s]",
                           RK_STR_ARG(req->inserts.data[i]->channel));
        }
    }
    for (size_t i = 0; i < req->deletes.n; i++) {
        if (!rk__sn_channel_find(c, req->deletes.data[i]->channel, NULL)) {
            return rk_fail(err, RK_ECHANNEL_NOT_FOUND, "channel not found[channel=%.*s]",
                           RK_STR_ARG(req->deletes.data[i]->channel));
        }
    }
    return RK_OK;
}

/* Answers for a collection that cannot take writes or has another schema. */
static rk_code
check_state(rk__sn_collection *c, const pb_rk_AppendRequest *req, rk_err *err)
{
    rk_code code = RK_OK;

    rk_mutex_lock(&c->lock);
    if (c->closed) {
        code = rk__sn_not_found(c->id, err);
    } else if (c->broken) {
        code = rk__sn_broken(c, err);
    } else if (req->schema_version != c->schema->version) {
        code =
            rk_fail(err, RK_ESCHEMA_MISMATCH, "collection schema mismatch[collection=%s]", c->name);
    }
    rk_mutex_unlock(&c->lock);
    return code;
}

/* What |req| may open: a growing segment per batch of rows. */
static size_t
segments_of(const pb_rk_AppendRequest *req)
{
    return req->inserts.n;
}

static uint64_t
rows_of(const pb_rk_AppendRequest *req)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < req->inserts.n; i++) {
        rows += req->inserts.data[i]->rows;
    }
    return rows;
}

/* Asks for the memory the rows will take, waiting a while for flushes to give some back: of any
 * collection, and until the sealed copies serve. */
static rk_code
reserve(rk__sn_collection *c, uint64_t bytes, rk_ctx *ctx)
{
    rk_streaming_node *node = c->node;
    const rk_clock *clock = node->options.env->clock;
    uint64_t limit = rk_mem_limit(node->options.mem);
    int64_t until = RK_MIN(clock->monotonic_ns(clock->self) + MEMORY_WAIT_NS, ctx->deadline_ns);
    int in_vain = 0;
    rk_code code;

    while ((code = rk_mem_reserve(node->options.mem, bytes, "rows to insert", ctx->err)) ==
           RK_ENOMEM) {
        int64_t now = clock->monotonic_ns(clock->self);
        in_vain = rk__sn_make_room(node) ? 0 : in_vain + 1;
        if (now >= until || (limit > 0 && bytes > limit) || atomic_load(&node->stopping) ||
            in_vain == MEMORY_LOOKS_IN_VAIN) {
            return code;
        }
        rk_mutex_lock(&c->lock);
        (void)rk_cond_wait_until(&c->flushed, &c->lock, RK_MIN(until, now + MEMORY_LOOK_NS));
        rk_mutex_unlock(&c->lock);
        rk_err_clear(ctx->err);
    }
    return code;
}

/* Encodes |req| behind a header without its timestamp. */
static rk_code
encode_record(rk_buf *record, const pb_rk_AppendRequest *req, rk_err *err)
{
    size_t body = pb_encoded_size(&pb_rk_AppendRequest_desc, req);
    uint8_t header[RECORD_HEADER] = {0};

    if (body > RK_WAL_RECORD_MAX - RECORD_HEADER) {
        return rk_fail(
            err, RK_ETOO_LARGE,
            "the write needs %zu bytes in the log, more than the %u allowed; send smaller batches",
            body, RK_WAL_RECORD_MAX);
    }
    if (!rk_buf_reserve(record, body + RECORD_HEADER)) {
        return rk__sn_no_memory(err);
    }
    rk_put_u32le(header, RECORD_MAGIC);
    rk_put_u16le(header + 4, RECORD_VERSION);
    rk_put_u64le(header + 16, (uint64_t)req->collection_id);
    rk_buf_append(record, header, sizeof(header));
    return pb_encode(&pb_rk_AppendRequest_desc, req, record);
}

/* Waits for the turn, applies, ends it. The record is durable: the caller's deadline counts no
 * more.
 */
static rk_code
apply_in_turn(rk__sn_collection *c, const pb_rk_AppendRequest *req, ordering *o, uint64_t reserved,
              rk_ctx *ctx)
{
    rk_ctx whole = {.arena = ctx->arena, .err = ctx->err, .deadline_ns = INT64_MAX};
    rk_code code;
    bool seal;

    rk__sn_turn_wait(c, &o->turn);
    code = rk__sn_apply(c, req, o->turn.ts, o->turn.lsn, reserved, &whole);
    seal = rk__sn_wants_seal(c);
    rk__sn_turn_end(c, &o->turn);
    if (seal) {
        rk__sn_seal_soon(c);
    }
    return code;
}

/* Every record up to |lsn| is in the log for good and has had its turn queued. */
static void
note_durable(rk_streaming_node *node, uint64_t lsn)
{
    uint64_t have = atomic_load(&node->durable_lsn);

    while (have < lsn && !atomic_compare_exchange_weak(&node->durable_lsn, &have, lsn)) {
    }
}

/* Now and then sees to it that the log does not grow without bound. */
static void
look_at_log(rk_streaming_node *node, uint64_t bytes)
{
    if (atomic_fetch_add(&node->log_grown, bytes) + bytes >= node->log_bytes_max / LOG_LOOKS) {
        atomic_store(&node->log_grown, 0);
        rk__sn_truncate(node);
    }
}

static rk_code
append_record(rk__sn_collection *c, const pb_rk_AppendRequest *req, pb_rk_AppendResponse *out,
              uint64_t reserved, uint64_t ts_hint, rk_ctx *ctx)
{
    rk_buf record = {0};
    ordering o = {.collection = c, .ts_hint = ts_hint};
    rk_code code = RK_OK;
    rk_str part;

    code = encode_record(&record, req, ctx->err);
    if (code != RK_OK) {
        goto out;
    }
    o.header = record.data;
    part = rk_buf_view(&record);
    code = rk_wal_append(c->node->wal, &part, 1, on_order, &o, &out->lsn, ctx->err);
    if (code != RK_OK) {
        if (o.queued) { /* not in the log: step aside without effect */
            rk__sn_turn_wait(c, &o.turn);
            rk__sn_turn_end(c, &o.turn);
        }
        goto out;
    }
    note_durable(c->node, out->lsn);
    (void)RK_FAULT("append.before_apply");
    out->timestamp = o.turn.ts;
    code = apply_in_turn(c, req, &o, reserved, ctx);
    rk_buf_deinit(&record);
    look_at_log(c->node, part.len);
    return code; /* the reservation went with the rows */
out:
    rk_mem_release(c->node->options.mem, reserved);
    rk_buf_deinit(&record);
    return code;
}

/* A poisoned log is tried again on the next write: space may have come back, or the disk. */
static rk_code
check_log(rk_streaming_node *node, rk_err *err)
{
    if (rk_wal_health(node->wal, err) == RK_OK) {
        return RK_OK;
    }
    rk_err_clear(err);
    return rk_wal_recover(node->wal, err);
}

rk_code
rk__sn_append(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_streaming_node *node = self;
    const pb_rk_AppendRequest *req = request;
    pb_rk_AllocRequest one = {.count = 1};
    pb_rk_AllocResponse *ts = NULL;
    rk__sn_collection *c = NULL;
    uint64_t reserved = 0;
    size_t ids = segments_of(req);
    rk_code code = RK_OK;

    atomic_fetch_add(&node->busy, 1); /* before the look at |stopping|: a stop waits for us or we
                                         see it */
    if (atomic_load(&node->stopping)) {
        code = rk_fail(ctx->err, RK_ENOT_READY, "the server is shutting down");
        goto out;
    }
    if (req->inserts.n == 0 && req->deletes.n == 0) {
        code = rk_fail(ctx->err, RK_EINVAL, "a write came without rows or keys");
        goto out;
    }
    c = rk__sn_find(node, req->collection_id);
    if (!c) {
        code = rk__sn_not_found(req->collection_id, ctx->err);
        goto out;
    }
    RK_ERR(check_state(c, req, ctx->err));
    RK_ERR(check_request(c, req, ctx->err));
    RK_ERR(check_log(node, ctx->err));
    RK_ERR(rk__sn_ids_promise(node, ids, ctx));
    code = pb_rk_Coordinator_AllocTimestamp(atomic_load(&node->coordinator), &one, &ts, ctx);
    if (code == RK_OK) {
        reserved =
            pb_encoded_size(&pb_rk_AppendRequest_desc, req) + rows_of(req) * ROW_OVERHEAD_BYTES;
        code = reserve(c, reserved, ctx);
    }
    if (code == RK_OK) {
        code = append_record(c, req, response, reserved, ts->first, ctx);
    }
    rk__sn_ids_return(node, ids);
out:
    rk__sn_unref(c);
    atomic_fetch_sub(&node->busy, 1);
    return code;
}

/* ---- recovery ---- */

/* Keeps of |req| what its channels do not have in files yet. False when nothing is left. */
static bool
drop_checkpointed(rk__sn_collection *c, pb_rk_AppendRequest *req, uint64_t lsn)
{
    size_t inserts = 0;
    size_t deletes = 0;

    for (size_t i = 0; i < req->inserts.n; i++) {
        const rk__sn_channel *ch = rk__sn_channel_find(c, req->inserts.data[i]->channel, NULL);
        if (ch && ch->checkpoint_lsn < lsn) {
            req->inserts.data[inserts++] = req->inserts.data[i];
        }
    }
    for (size_t i = 0; i < req->deletes.n; i++) {
        const rk__sn_channel *ch = rk__sn_channel_find(c, req->deletes.data[i]->channel, NULL);
        if (ch && ch->checkpoint_lsn < lsn) {
            req->deletes.data[deletes++] = req->deletes.data[i];
        }
    }
    req->inserts.n = inserts;
    req->deletes.n = deletes;
    return inserts + deletes > 0;
}

static rk_code
replay_record(rk_streaming_node *node, uint64_t lsn, rk_str record, rk_ctx *ctx)
{
    rk_cursor at = rk_cursor_on(record.data, record.len);
    uint32_t magic = rk_cursor_u32(&at);
    uint16_t version = rk_cursor_u16(&at);
    void *decoded = NULL;
    rk__sn_collection *c;
    rk__sn_turn turn = {0};
    pb_rk_AppendRequest *req;
    uint64_t reserved;
    int64_t collection_id;
    rk_code code = RK_OK;

    (void)rk_cursor_u16(&at);
    turn.ts = rk_cursor_u64(&at);
    turn.lsn = lsn;
    collection_id = (int64_t)rk_cursor_u64(&at);
    if (at.bad || magic != RECORD_MAGIC || version != RECORD_VERSION) {
        return rk_fail(
            ctx->err, RK_ECORRUPT,
            "log record %llu is no write of a version this server knows (magic %08x, version %u)",
            (unsigned long long)lsn, magic, version);
    }
    if (turn.ts > atomic_load_explicit(&node->last_ts, memory_order_relaxed)) {
        atomic_store_explicit(&node->last_ts, turn.ts, memory_order_relaxed);
    }
    c = rk__sn_find(node, collection_id);
    if (!c || turn.ts == 0) {
        rk__sn_unref(c); /* its collection was dropped */
        return RK_OK;
    }
    RK_ERR(pb_decode(&pb_rk_AppendRequest_desc, &decoded,
                     (rk_str){(const char *)at.at, (size_t)(at.end - at.at)}, ctx->arena,
                     ctx->err));
    req = decoded;
    if (drop_checkpointed(c, req, lsn)) {
        reserved = record.len + rows_of(req) * ROW_OVERHEAD_BYTES;
        if (rk_mem_reserve(node->options.mem, reserved, "rows of the log", NULL) != RK_OK) {
            reserved = 0; /* acknowledged rows come back in any case; later writes will wait for the
                             flush */
        }
        rk__sn_turn_queue(c, &turn);
        rk__sn_turn_wait(c, &turn);
        code = rk__sn_apply(c, req, turn.ts, lsn, reserved, ctx);
        rk__sn_turn_end(c, &turn);
    }
out:
    rk__sn_unref(c);
    return code;
}

/*
 * Nothing is sealed while the log is read: a collection's applied position starts at the newest
 * checkpoint of its channels, so a job made before the replay has passed that point would claim
 * records that a channel with an older checkpoint has not seen again yet.
 */
static void
seal_what_is_full(rk_streaming_node *node)
{
    rk_mutex_lock(&node->lock);
    for (size_t i = 0; i < node->collections_len; i++) {
        if (rk__sn_wants_seal(node->collections[i])) {
            rk__sn_seal_soon(node->collections[i]);
        }
    }
    rk_mutex_unlock(&node->lock);
}

rk_code
rk__sn_recover(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_streaming_node *node = self;
    rk_wal_reader *reader = NULL;
    rk_wal_stats stats;
    rk_ctx step = *ctx;
    uint64_t records = 0;
    rk_code code = RK_OK;

    RK_UNUSED(request);
    RK_UNUSED(response);
    rk_wal_stats_get(node->wal, &stats);
    step.arena = rk_arena_new(0);
    if (!step.arena) {
        return rk__sn_no_memory(ctx->err);
    }
    RK_ERR(rk_wal_read_from(&reader, node->wal, stats.first_lsn, ctx->err));
    for (;;) {
        uint64_t lsn;
        rk_str record;
        code = rk_wal_read(reader, &lsn, &record, ctx->err);
        if (code == RK_EEOF) {
            rk_err_clear(ctx->err);
            code = RK_OK;
            break;
        }
        if (code != RK_OK) {
            goto out;
        }
        rk_arena_reset(step.arena);
        RK_ERR(replay_record(node, lsn, record, &step));
        records++;
    }
    RK_LOG_I("streaming", "event=log_replayed records=%llu first_lsn=%llu",
             (unsigned long long)records, (unsigned long long)stats.first_lsn);
    note_durable(node, stats.next_lsn - 1); /* nobody appends yet */
    atomic_store(&node->replayed, true);
    seal_what_is_full(node);
    rk__sn_truncate(node);
out:
    rk_wal_reader_close(reader);
    rk_arena_free(step.arena);
    return code;
}
