/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roles when something between or inside them fails: calls refused, replies lost, deadlines passed,
 * I/O errors at named points. What was acknowledged is served, once; what failed is tried again by
 * itself; nothing stays stuck or behind.
 */
#include "rig.h"

/* ---- writing ---- */

/* The client's deadline passes between the log and the query node: the delete is durable, so it is
 * applied, and the collection goes on. */
static void
deadline_passes_after_the_log(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "late");
    const rk_clock *clock = rk_env_real()->clock;
    pb_rk_AppendRequest request = {.collection_id = c->id, .schema_version = c->schema_version};
    pb_rk_DeleteBatch gone = {.channel = c->channels.data[0], .keys = rig_key_ids(r, 0, 10)};
    pb_rk_DeleteBatch *deletes[1] = {&gone};
    pb_rk_AppendResponse *out = NULL;
    rk_ctx ctx = r->ctx;

    rig_insert(r, c, 0, 100, "x", false);
    rig_index_and_load(r, c);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 100);
    request.deletes.data = deletes;
    request.deletes.n = 1;
    rig_delay(r, RIG_COORDINATOR, PB_RK_Coordinator_AllocTimestamp, 1200, 1);
    ctx.deadline_ns = clock->monotonic_ns(clock->self) + 1000 * INT64_C(1000000);
    if (pb_rk_StreamingNode_Append(r->sn, &request, &out, &ctx) != RK_OK) {
        assert_true(far); /* the client stops waiting, the write goes on */
        rig_wait_hits(r, RIG_COORDINATOR, 1);
        for (int i = 0; i < RIG_WAITS && rig_count(r, c, "") > 90; i++) {
            usleep(5000);
        }
    }
    assert_int_equal(rig_hits(r, RIG_COORDINATOR), 1);
    rig_insert(r, c, 1000, 1, "y", false);
    assert_int_equal(rig_count(r, c, ""), 91);
    roles_free(r);
}

/* The query node cannot be asked for a moment while a durable delete is on its way to it. */
static void
delete_is_sent_again(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "again");

    rig_insert(r, c, 0, 100, "x", false);
    rig_index_and_load(r, c);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 100);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_ApplyDeletes, RK_EUNAVAILABLE, 2);
    rig_erase(r, c, 0, 10);
    rig_wait_hits(r, RIG_QUERY, 2); /* by the write, or by the view that takes the segment in */
    rig_lose_reply(r, RIG_QUERY, PB_RK_QueryNode_ApplyDeletes, RK_EUNAVAILABLE, 1);
    rig_erase(r, c, 10, 10);
    rig_wait_hits(r, RIG_QUERY, 1);
    assert_int_equal(rig_count(r, c, ""), 80);
    roles_free(r);
}

/* ---- flushing ---- */

/* One flush that meets |fault| and ends all the same, with nothing left behind. */
static void
flush_meets(bool far, const char *fault)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "flushed");

    rig_index_and_load(r, c);
    rig_insert(r, c, 0, 100, "x", false);
    rig_erase(r, c, 0, 10);
    rig_fault(fault);
    rig_flush(r, c);
    rig_fault("");
    rig_wait_objects(r, 4); /* three fields and timestamps; the deletes are folded in */
    assert_int_equal(rig_count(r, c, ""), 90);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 90);
    roles_free(r);
}

static void
flush_meets_faults(bool far)
{
    flush_meets(far, "flush.before_save:1:error");
    if (far) { /* the wiring makes no difference to the rest */
        return;
    }
    flush_meets(far, "object.put.before_rename:3:error");
    flush_meets(far, "object.put.after_rename:5:error");
    flush_meets(far, "segment.write.after_column:4:full");
    flush_meets(far, "meta.before_commit:1:error");
}

/* The flush is part of the catalogue but nobody tells the streaming node: what it wrote must be
 * there whenever the process ends. */
static void
saved_but_not_answered(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "unanswered");
    pb_rk_FlushRequest request = {.collection_id = c->id};
    pb_rk_FlushResponse *out = NULL;

    rig_index_and_load(r, c);
    rig_insert(r, c, 0, 100, "x", false);
    rig_erase(r, c, 0, 10);
    rig_lose_reply(r, RIG_COORDINATOR, PB_RK_Coordinator_SaveFlush, RK_EUNAVAILABLE, 1000);
    MUST(r, pb_rk_Coordinator_Flush(r->co, &request, &out, &r->ctx));
    rig_wait_hits(r, RIG_COORDINATOR, 1);
    assert_int_equal(rig_count(r, c, ""), 90);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 90);
    rig_wait_objects(r, 4); /* three fields and timestamps; the deletes are folded in */
    roles_free(r);
}

/* The answer is lost twice, then comes. */
static void
saved_and_answered_late(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "answered");

    rig_index_and_load(r, c);
    rig_insert(r, c, 0, 100, "x", false);
    rig_erase(r, c, 0, 10);
    rig_lose_reply(r, RIG_COORDINATOR, PB_RK_Coordinator_SaveFlush, RK_EUNAVAILABLE, 2);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 90);
    rig_wait_objects(r, 4); /* three fields and timestamps; the deletes are folded in */
    rig_erase(r, c, 10, 10);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 80);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 80);
    roles_free(r);
}

/* The process ends between the two channels of a flush; nothing is written after the restart. */
static void
ends_between_two_channels(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create_shards(r, "halves", 2);
    pb_rk_FlushRequest request = {.collection_id = c->id};
    pb_rk_FlushResponse *out = NULL;

    rig_index_and_load(r, c);
    rig_insert_shard(r, c, 0, 0, 100, "x", false);
    rig_fault("flush.before_save:2:error+");
    MUST(r, pb_rk_Coordinator_Flush(r->co, &request, &out, &r->ctx));
    for (int i = 0; i < RIG_WAITS && rig_objects(r) < 4; i++) {
        usleep(5000);
    }
    rig_stop(r);
    rig_fault("");
    rig_start(r);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 100);
    rig_insert_shard(r, c, 1, 100, 100, "x", false);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 200);
    roles_free(r);
}

/* Writes come to many times the budget: each waits for the flush that makes room, also when the
 * rows that fill the memory are another collection's. */
static void
memory_is_given_back(bool far)
{
    roles *r = roles_new_with(far, UINT64_C(4) << 20, NULL);
    pb_rk_CollectionInfo *a = rig_create(r, "a");
    pb_rk_CollectionInfo *b = rig_create(r, "b");

    for (int i = 0; i < 16; i++) {
        rig_insert(r, i < 8 ? a : b, i * 8000, 8000, "x", false);
    }
    rig_flush(r, a);
    rig_flush(r, b);
    rig_index_and_load(r, a);
    assert_int_equal(rig_count(r, a, ""), 64000);
    roles_free(r);
}

/* A collection with one row in memory does not keep the log for ever. */
static void
log_is_bounded(bool far)
{
    static const char *const sets[] = {"redkite.segment.growingMax", "1MiB",
                                       "redkite.wal.segmentSize", "1MiB", NULL};
    roles *r = roles_new_with(far, UINT64_C(1) << 30, sets);
    pb_rk_CollectionInfo *quiet = rig_create(r, "quiet");
    pb_rk_CollectionInfo *busy = rig_create(r, "busy");
    char command[128];
    long kilobytes = 0;

    rig_insert(r, quiet, 0, 1, "x", false);
    for (int i = 0; i < 24; i++) {
        rig_insert(r, busy, i * 20000, 20000, "a tag of some length, so that it fills", false);
    }
    rig_flush(r, busy);
    (void)snprintf(command, sizeof(command), "du -sk %s/wal 2>/dev/null", r->path);
    for (int i = 0; i < RIG_WAITS / 20; i++) {
        char line[64] = "";
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        assert_non_null(fgets(line, sizeof(line), pipe));
        (void)pclose(pipe); /* not 0 where a file went while it was counted */
        kilobytes = strtol(line, NULL, 10);
        if (kilobytes < 12 * 1024) {
            break;
        }
        usleep(100000);
    }
    assert_in_range(kilobytes, 1, 12 * 1024 - 1);
    rig_index_and_load(r, quiet);
    assert_int_equal(rig_count(r, quiet, ""), 1);
    roles_free(r);
}

/* ---- loading and views ---- */

static uint64_t
growing_bytes(roles *r, const pb_rk_CollectionInfo *c)
{
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_StreamingStatsResponse *stats = NULL;
    uint64_t bytes = 0;

    MUST(r, pb_rk_StreamingNode_GetStats(r->sn, &id, &stats, &r->ctx));
    for (size_t i = 0; i < stats->channels.n; i++) {
        bytes += stats->channels.data[i]->growing_bytes;
    }
    return bytes;
}

/* Segments are merged before any of them could be loaded: their growing copies leave the view when
 * the merged one joins it. */
static void
merged_before_it_was_loaded(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "early");

    rig_index_and_load(r, c);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_LoadSegments, RK_EIO, 1000000);
    for (int i = 0; i < 8; i++) {
        rig_insert(r, c, i * 10, 10, "x", false);
        rig_flush(r, c);
    }
    for (int i = 0; i < RIG_WAITS && rig_live_segments(r, c) > 1; i++) {
        usleep(5000);
    }
    assert_int_equal(rig_live_segments(r, c), 1);
    assert_int_equal(rig_count(r, c, ""), 80);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_LoadSegments, RK_EIO, 0);
    for (int i = 0; i < RIG_WAITS && growing_bytes(r, c) > 0; i++) {
        assert_int_equal(rig_count(r, c, ""), 80);
        usleep(5000);
    }
    assert_int_equal(growing_bytes(r, c), 0);
    assert_int_equal(rig_count(r, c, ""), 80);
    rig_wait_objects(r, 4);
    roles_free(r);
}

/* Calls that are carried out but not answered are repeated. */
static void
view_answers_are_lost(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "views");

    rig_insert(r, c, 0, 100, "x", false);
    rig_create_index(r, c);
    rig_lose_reply(r, RIG_STREAMING, PB_RK_StreamingNode_SyncView, RK_EUNAVAILABLE, 2);
    rig_load(r, c);
    rig_lose_reply(r, RIG_STREAMING, PB_RK_StreamingNode_SyncView, RK_EUNAVAILABLE, 1);
    rig_lose_reply(r, RIG_QUERY, PB_RK_QueryNode_LoadSegments, RK_EUNAVAILABLE, 1);
    rig_flush(r, c);
    for (int i = 0; i < RIG_WAITS && growing_bytes(r, c) > 0; i++) {
        assert_int_equal(rig_count(r, c, ""), 100);
        usleep(5000);
    }
    assert_int_equal(growing_bytes(r, c), 0);
    assert_int_equal(rig_count(r, c, ""), 100);
    rig_erase(r, c, 0, 10);
    assert_int_equal(rig_count(r, c, ""), 90);
    roles_free(r);
}

/* A load that fails says why, and heals; a release that fails is tried again before the caller's
 * patience ends. */
static void
load_and_release_heal(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "healing");
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_LoadRequest load = {.collection_id = c->id};
    pb_rk_LoadState *state = NULL;
    pb_rk_Empty *nothing = NULL;
    const rk_clock *clock = rk_env_real()->clock;
    int64_t began;

    rig_insert(r, c, 0, 100, "x", false);
    rig_flush(r, c);
    rig_create_index(r, c);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_LoadSegments, RK_EIO, 1);
    MUST(r, pb_rk_Coordinator_Load(r->co, &load, &nothing, &r->ctx));
    MUST(r, pb_rk_Coordinator_GetLoadState(r->co, &id, &state, &r->ctx));
    assert_true(state->progress == 100 || rk_str_is(state->fail_reason, "refused by the test"));
    rig_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 100);
    rig_refuse(r, RIG_STREAMING, PB_RK_StreamingNode_SyncView, RK_EUNAVAILABLE, 1);
    began = clock->monotonic_ns(clock->self);
    MUST(r, pb_rk_Coordinator_Release(r->co, &id, &nothing, &r->ctx));
    assert_true(clock->monotonic_ns(clock->self) - began < INT64_C(30) * 1000000000);
    assert_int_equal(rig_hits(r, RIG_STREAMING), 1);
    MUST(r, pb_rk_Coordinator_GetLoadState(r->co, &id, &state, &r->ctx));
    assert_int_equal(state->state, PB_COMMON_LoadState_LoadStateNotLoad);
    roles_free(r);
}

/* A release stops half-way, then the collection is wanted again. */
static void
release_is_taken_back(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "back");
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_DropIndexRequest drop = {.collection_id = c->id, .name = RK_STR("v")};
    pb_rk_Empty *nothing = NULL;
    const rk_clock *clock = rk_env_real()->clock;
    rk_ctx ctx = r->ctx;

    rig_insert(r, c, 0, 100, "x", false);
    rig_index_and_load(r, c);
    rig_flush(r, c);
    rig_insert(r, c, 100, 100, "x", false);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_ReleaseSegments, RK_EUNAVAILABLE, 1000000);
    ctx.deadline_ns = clock->monotonic_ns(clock->self) + INT64_C(1000) * 1000000;
    assert_int_equal(pb_rk_Coordinator_Release(r->co, &id, &nothing, &ctx), RK_EDEADLINE);
    rig_wait_hits(r, RIG_QUERY, 1);
    assert_int_equal(pb_rk_Coordinator_DropIndex(r->co, &drop, &nothing, &r->ctx), RK_EINVAL);
    rig_erase(r, c, 0, 10);
    rig_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 190);
    rig_refuse(r, RIG_QUERY, PB_RK_QueryNode_ReleaseSegments, RK_EUNAVAILABLE, 0);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 190);
    MUST(r, pb_rk_Coordinator_Release(r->co, &id, &nothing, &r->ctx));
    MUST(r, pb_rk_Coordinator_DropIndex(r->co, &drop, &nothing, &r->ctx));
    roles_free(r);
}

/* ---- background work ---- */

/* Three small segments become one although |fault| comes in between; no object is left behind. */
static void
merge_meets(bool far, const char *fault, bool lose_submit)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "merging");

    rig_index_and_load(r, c);
    for (int i = 0; i < 3; i++) {
        rig_insert(r, c, i * 600, 600, "x", false);
        rig_flush(r, c);
    }
    rig_fault(fault);
    if (lose_submit) {
        rig_lose_reply(r, RIG_DATA, PB_RK_DataNode_Submit, RK_EUNAVAILABLE, 2);
    }
    rig_settle(r, c, 1);
    rig_fault("");
    assert_int_equal(rig_count(r, c, ""), 1800);
    rig_wait_objects(r, 5); /* three fields, timestamps, index */
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 1800);
    assert_int_equal(rig_objects(r), 5);
    roles_free(r);
}

static void
merge_meets_faults(bool far)
{
    merge_meets(far, "meta.before_commit:1:error", false);
    if (!far) { /* the wiring makes no difference to these */
        merge_meets(far, "meta.before_commit:2:error,meta.before_commit:3:error", false);
        merge_meets(far, "index.after_build:1:error", false);
    }
    merge_meets(far, "", true);
}

/* A merge that always fails is not tried over and over, nor does it keep indexes from being built.
 */
static void
failing_merge_is_patient(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "patient");

    rig_index_and_load(r, c);
    rig_fault("compact.after_write:1:error+");
    rig_delay(r, RIG_DATA, PB_RK_DataNode_Submit, 0, 1000000);
    for (int i = 0; i < 9; i++) {
        rig_insert(r, c, i * 1100, 1100, "x", false);
        rig_flush(r, c);
    }
    rig_settle(r, c, 9);
    usleep(300000);
    assert_in_range(rig_hits(r, RIG_DATA), 9, 12);
    assert_int_equal(rig_count(r, c, ""), 9900);
    rig_wait_objects(r, 45);
    rig_fault("");
    roles_free(r);
}

/* A build is tried three times, then shown as failed with the reason; searches go on. */
static void
build_fails(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "unbuilt");
    pb_rk_DescribeIndexRequest describe = {.collection_id = c->id};
    pb_rk_DescribeIndexResponse *indexes = NULL;
    rk_str tag;

    rig_index_and_load(r, c);
    rig_insert(r, c, 0, 2000, "x", false);
    rig_fault("index.before_build:1:error+");
    rig_flush(r, c);
    for (int i = 0; i < RIG_WAITS; i++) {
        MUST(r, pb_rk_Coordinator_DescribeIndex(r->co, &describe, &indexes, &r->ctx));
        if (indexes->indexes.data[0]->state == PB_COMMON_IndexState_Failed) {
            break;
        }
        usleep(5000);
    }
    rig_fault("");
    assert_int_equal(indexes->indexes.data[0]->state, PB_COMMON_IndexState_Failed);
    assert_true(indexes->indexes.data[0]->fail_reason.len > 0);
    assert_int_equal(rig_nearest(r, c, 7.1f, &tag), 7);
    rig_restart(r);
    rig_settle(r, c, 1);
    assert_int_equal(rig_nearest(r, c, 7.1f, &tag), 7);
    roles_free(r);
}

/* ---- the catalogue ---- */

static void
create_and_drop_fail(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "m");
    pb_rk_CreateCollectionRequest again = {.schema = c->schema, .shards = 1};
    pb_rk_CollectionKey key = {.name = RK_STR("m")};
    pb_rk_CollectionInfo *info = NULL;
    pb_rk_Empty *nothing = NULL;
    rk_meta_range left = {.n = 1};

    rig_create(r, "z");
    rig_create(r, "a");
    rig_insert(r, c, 0, 10, "x", false);
    rig_flush(r, c);
    rig_fault("meta.before_commit:1:error");
    assert_int_equal(pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx), RK_EIO);
    rig_fault("drop.before_commit:1:error");
    MUST(r, pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx));
    assert_int_equal(pb_rk_Coordinator_DescribeCollection(r->co, &key, &info, &r->ctx),
                     RK_ECOLLECTION_NOT_FOUND);
    for (int i = 0; i < RIG_WAITS && left.n > 0; i++) {
        MUST(r, rk_meta_list(r->meta, RK_STR("drop/"), 0, &left, r->arena, &r->err));
        usleep(5000);
    }
    assert_int_equal(left.n, 0);
    key.name = RK_STR("z"); /* nothing was ever written to it */
    MUST(r, pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx));
    left.n = 1;
    for (int i = 0; i < RIG_WAITS && left.n > 0; i++) {
        MUST(r, rk_meta_list(r->meta, RK_STR("drop/"), 0, &left, r->arena, &r->err));
        usleep(5000);
    }
    assert_int_equal(left.n, 0);
    rig_create(r, "z");
    key.name = RK_STR("m");
    again.schema->name = RK_STR("m");
    rig_fault("meta.before_commit:1:full");
    assert_int_equal(pb_rk_Coordinator_CreateCollection(r->co, &again, &info, &r->ctx),
                     RK_EDISK_FULL);
    rig_fault("");
    assert_int_equal(pb_rk_Coordinator_DescribeCollection(r->co, &key, &info, &r->ctx),
                     RK_ECOLLECTION_NOT_FOUND);
    c = rig_create(r, "m");
    rig_insert(r, c, 0, 10, "x", false);
    rig_restart(r);
    for (size_t i = 0; i < 3; i++) {
        key.name = rk_str_from((const char *[]){"a", "m", "z"}[i]);
        MUST(r, pb_rk_Coordinator_DescribeCollection(r->co, &key, &info, &r->ctx));
        assert_true(rk_str_eq(info->name, key.name));
    }
    key.name = RK_STR("b");
    assert_int_equal(pb_rk_Coordinator_DescribeCollection(r->co, &key, &info, &r->ctx),
                     RK_ECOLLECTION_NOT_FOUND);
    rig_index_and_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 10);
    roles_free(r);
}

/* The delegator hears which delete files are gone. */
static void
folded_deletes_are_forgotten(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "folded");

    rig_index_and_load(r, c);
    rig_delay(r, RIG_STREAMING, PB_RK_StreamingNode_UpdateCollection, 0, 1000000);
    rig_insert(r, c, 0, 100, "x", false);
    rig_flush(r, c);
    rig_erase(r, c, 0, 60); /* more than the share at which a segment is rewritten */
    rig_flush(r, c);
    rig_wait_hits(r, RIG_STREAMING, 1);
    rig_wait_objects(r, 4);
    rig_erase(r, c, 60, 1);
    assert_int_equal(rig_count(r, c, ""), 39);
    rig_flush(r, c);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 39);
    roles_free(r);
}

BOTH(deadline_passes_after_the_log)
BOTH(delete_is_sent_again)
BOTH(flush_meets_faults)
BOTH(saved_but_not_answered)
BOTH(saved_and_answered_late)
BOTH(ends_between_two_channels)
BOTH(memory_is_given_back)
BOTH(log_is_bounded)
BOTH(merged_before_it_was_loaded)
BOTH(view_answers_are_lost)
BOTH(load_and_release_heal)
BOTH(release_is_taken_back)
BOTH(merge_meets_faults)
BOTH(failing_merge_is_patient)
BOTH(build_fails)
BOTH(create_and_drop_fail)
BOTH(folded_deletes_are_forgotten)

#define TWICE(name) cmocka_unit_test(name##_near), cmocka_unit_test(name##_far)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(deadline_passes_after_the_log),
        TWICE(delete_is_sent_again),
        TWICE(flush_meets_faults),
        TWICE(saved_but_not_answered),
        TWICE(saved_and_answered_late),
        TWICE(ends_between_two_channels),
        TWICE(memory_is_given_back),
        TWICE(log_is_bounded),
        TWICE(merged_before_it_was_loaded),
        TWICE(view_answers_are_lost),
        TWICE(load_and_release_heal),
        TWICE(release_is_taken_back),
        TWICE(merge_meets_faults),
        TWICE(failing_merge_is_patient),
        TWICE(build_fails),
        TWICE(create_and_drop_fail),
        TWICE(folded_deletes_are_forgotten),
    };
    int failed;

    rk_kernels_init();
    rk_log_set_level(getenv("RIG_LOG") ? RK_LOG_DEBUG : RK_LOG_ERROR);
    cmocka_set_test_filter(getenv("RIG_ONLY")); /* a pattern; NULL: all */
    rig_fault("");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rig_fault("");
    return failed;
}
