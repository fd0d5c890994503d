/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role tests: what all roles do together, driven through their services, once wired near and once
 * far.
 */
#include "rig.h"

/* ---- cases ---- */

static void
write_read_flush_restart(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "things");
    rk_str tag;

    rig_insert(r, c, 0, 2000, "old", false);
    rig_index_and_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 2000);
    assert_int_equal(rig_nearest(r, c, 77.2f, &tag), 77);
    rig_insert(r, c, 70, 20, "new", true); /* growing over growing */
    assert_int_equal(rig_count(r, c, ""), 2000);
    assert_int_equal(rig_nearest(r, c, 77.2f, &tag), 77);
    assert_true(rk_str_is(tag, "new"));
    rig_erase(r, c, 77, 1);
    assert_int_equal(rig_nearest(r, c, 77.2f, &tag), 78);
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 1999);
    rig_insert(r, c, 78, 1, "newer", true); /* growing over sealed */
    assert_int_equal(rig_count(r, c, ""), 1999);
    assert_int_equal(rig_nearest(r, c, 77.2f, &tag), 78);
    assert_true(rk_str_is(tag, "newer"));
    rig_erase(r, c, 0, 10);
    assert_int_equal(rig_count(r, c, "id < 20"), 10);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 1989);
    assert_int_equal(rig_nearest(r, c, 77.2f, &tag), 78);
    assert_true(rk_str_is(tag, "newer"));
    rig_flush(r, c);
    assert_int_equal(rig_count(r, c, ""), 1989);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 1989);
    assert_int_equal(rig_count(r, c, "tag == \"new\""), 18);
    roles_free(r);
}

static void
compaction_keeps_rows(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "merged");
    rk_str tag;

    rig_index_and_load(r, c);
    for (int i = 0; i < 9; i++) {
        rig_insert(r, c, i * 1000, 1000, "a", false);
        rig_flush(r, c);
        assert_int_equal(rig_count(r, c, ""), (i + 1) * 1000);
    }
    rig_erase(r, c, 500, 1000);
    rig_flush(r, c);
    rig_settle(r, c, 2);
    assert_int_equal(rig_count(r, c, ""), 8000);
    assert_int_equal(rig_nearest(r, c, 3333.1f, &tag), 3333);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 8000);
    assert_int_equal(rig_nearest(r, c, 1499.0f, &tag), 1500);
    roles_free(r);
}

static void
drop_frees_everything(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "gone");
    pb_rk_CollectionKey key = {.name = RK_STR("gone")};
    pb_rk_Empty *nothing = NULL;
    rk_object_info *objects = NULL;
    size_t n = 1;

    rig_insert(r, c, 0, 3000, "x", false);
    rig_index_and_load(r, c);
    rig_flush(r, c);
    rig_settle(r, c, 1);
    MUST(r, pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx));
    for (int i = 0; i < 1000 && n > 0; i++) {
        MUST(r, rk_object_list(r->objects, "", &objects, &n, r->arena, &r->err));
        usleep(5000);
    }
    assert_int_equal(n, 0);
    assert_int_equal(pb_rk_Coordinator_DropCollection(r->co, &key, &nothing, &r->ctx),
                     RK_ECOLLECTION_NOT_FOUND);
    c = rig_create(r, "gone");
    rig_insert(r, c, 0, 10, "x", false);
    rig_index_and_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 10);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 10);
    roles_free(r);
}

static void
release_and_load(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "cold");
    pb_rk_CollectionId id = {.collection_id = c->id};
    pb_rk_Empty *nothing = NULL;
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_QueryRequest query = {.scope = &scope, .count_only = true};
    pb_rk_QueryResponse *out = NULL;

    rig_insert(r, c, 0, 100, "x", false);
    assert_int_equal(pb_rk_StreamingNode_Query(r->sn, &query, &out, &r->ctx),
                     RK_ECOLLECTION_NOT_LOADED);
    rig_index_and_load(r, c);
    rig_flush(r, c);
    MUST(r, pb_rk_Coordinator_Release(r->co, &id, &nothing, &r->ctx));
    assert_int_equal(pb_rk_StreamingNode_Query(r->sn, &query, &out, &r->ctx),
                     RK_ECOLLECTION_NOT_LOADED);
    rig_insert(r, c, 100, 100, "y", false);
    rig_erase(r, c, 0, 50);
    rig_flush(r, c); /* deletes go to a delta file while nothing is loaded */
    rig_index_and_load(r, c);
    assert_int_equal(rig_count(r, c, ""), 150);
    roles_free(r);
}

BOTH(write_read_flush_restart)
BOTH(compaction_keeps_rows)
BOTH(drop_frees_everything)
BOTH(release_and_load)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_flush_restart_near),
        cmocka_unit_test(write_read_flush_restart_far),
        cmocka_unit_test(compaction_keeps_rows_near),
        cmocka_unit_test(compaction_keeps_rows_far),
        cmocka_unit_test(drop_frees_everything_near),
        cmocka_unit_test(drop_frees_everything_far),
        cmocka_unit_test(release_and_load_near),
        cmocka_unit_test(release_and_load_far),
    };

    rk_kernels_init();
    rk_log_set_level(RK_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
