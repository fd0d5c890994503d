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
    rig_delay(r, RIG_COORDINATOR, PB_RK_Coordinator_AllocTimestamp, 300, 1);
    ctx.deadline_ns = clock->monotonic_ns(clock->self) + 200 * INT64_C(1000000);
    if (pb_rk_StreamingNode_Append(r->sn, &request, &out, &ctx) != RK_OK) {
        assert_true(far); /* the client stops waiting, the write goes on */
        usleep(400000);
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
    for (int i = 0; i < 1000 && rig_objects(r) < 4; i++) {
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
    char line[64] = "";
    FILE *pipe;

    rig_insert(r, quiet, 0, 1, "x", false);
    for (int i = 0; i < 24; i++) {
        rig_insert(r, busy, i * 20000, 20000, "a tag of some length, so that it fills", false);
    }
    rig_flush(r, busy);
    (void)snprintf(command, sizeof(command), "du -sk %s/wal", r->path);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof(line), pipe));
    assert_int_equal(pclose(pipe), 0);
    assert_true((int)strtol(line, NULL, 10) < 12 * 1024);
    rig_index_and_load(r, quiet);
    assert_int_equal(rig_count(r, quiet, ""), 1);
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
    };
    int failed;

    rk_kernels_init();
    rk_log_set_level(RK_LOG_ERROR);
    rig_fault("");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rig_fault("");
    return failed;
}
