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
    assert_int_equal(rig_hits(r, RIG_QUERY), 2);
    rig_lose_reply(r, RIG_QUERY, PB_RK_QueryNode_ApplyDeletes, RK_EUNAVAILABLE, 1);
    rig_erase(r, c, 10, 10);
    assert_int_equal(rig_hits(r, RIG_QUERY), 1);
    assert_int_equal(rig_count(r, c, ""), 80);
    roles_free(r);
}

BOTH(deadline_passes_after_the_log)
BOTH(delete_is_sent_again)

#define TWICE(name) cmocka_unit_test(name##_near), cmocka_unit_test(name##_far)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(deadline_passes_after_the_log),
        TWICE(delete_is_sent_again),
    };
    int failed;

    rk_kernels_init();
    rk_log_set_level(RK_LOG_ERROR);
    rig_fault("");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rig_fault("");
    return failed;
}
