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

/* What a merge joins to a larger, indexed segment goes into the graph that is there. */
static void
compaction_takes_graph_over(bool far)
{
    roles *r = roles_new(far);
    pb_rk_CollectionInfo *c = rig_create(r, "grown");
    rk_str tag;

    rig_index_and_load(r, c);
    rig_insert(r, c, 0, 4000, "a", false);
    rig_flush(r, c);
    rig_settle(r, c, 1);
    rig_erase(r, c, 500, 300);
    rig_insert(r, c, 4000, 1500, "b", false);
    rig_flush(r, c);
    rig_settle(r, c, 1);
    assert_int_equal(rig_count(r, c, ""), 5200);
    assert_int_equal(rig_nearest(r, c, 3333.1f, &tag), 3333);
    assert_int_equal(rig_nearest(r, c, 5444.1f, &tag), 5444);
    assert_int_equal(rig_nearest(r, c, 799.0f, &tag), 800);
    rig_restart(r);
    assert_int_equal(rig_count(r, c, ""), 5200);
    assert_int_equal(rig_nearest(r, c, 4444.1f, &tag), 4444);
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
    for (int i = 0; i < RIG_WAITS && n > 0; i++) {
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

/* ---- reads are exact while everything moves ---- */

#define STRESS_KEYS 300
#define STRESS_MS   2500

/* A copy of the rig for a second thread: own arena, own error. */
typedef struct stirrer {
    roles rig;
    const pb_rk_CollectionInfo *c;
    bool releases;
    _Atomic(bool) stop;
} stirrer;

/* Flushes all the time; now and then releases and loads again. Failures are not this thread's to
 * judge. */
static void
stir(void *arg)
{
    stirrer *s = arg;
    roles *r = &s->rig;
    pb_rk_FlushRequest flush = {.collection_id = s->c->id};
    pb_rk_CollectionId id = {.collection_id = s->c->id};
    pb_rk_LoadRequest load = {.collection_id = s->c->id};

    for (unsigned i = 1; !atomic_load(&s->stop); i++) {
        pb_rk_FlushResponse *flushed = NULL;
        pb_rk_Empty *nothing = NULL;
        rk_code code = pb_rk_Coordinator_Flush(r->co, &flush, &flushed, &r->ctx);
        if (code == RK_OK && s->releases && i % 12 == 0) {
            code = pb_rk_Coordinator_Release(r->co, &id, &nothing, &r->ctx);
            usleep(30000);
            RK_KEEP(pb_rk_Coordinator_Load(r->co, &load, &nothing, &r->ctx));
        }
        rk_arena_reset(r->arena);
        rk_err_clear(&r->err);
        usleep(25000);
    }
}

/* The number of rows, or -1 while the collection is not loaded. */
static int64_t
count_if_loaded(roles *r, const pb_rk_CollectionInfo *c, const char *expr)
{
    pb_rk_ReadScope scope = {.collection_id = c->id};
    pb_rk_Predicate predicate = {.expr = rk_str_from(expr)};
    pb_rk_QueryRequest request = {.scope = &scope, .predicate = &predicate, .count_only = true};
    pb_rk_QueryResponse *out = NULL;
    rk_code code;

    scope.consistency_level = PB_COMMON_ConsistencyLevel_Strong;
    code = pb_rk_StreamingNode_Query(r->sn, &request, &out, &r->ctx);
    if (code == RK_ECOLLECTION_NOT_LOADED || code == RK_ECOLLECTION_NOT_FULLY_LOADED) {
        rk_err_clear(&r->err);
        return -1;
    }
    MUST(r, code);
    return out->count;
}

static void
check_model(roles *r, const pb_rk_CollectionInfo *c, const unsigned *versions, size_t key,
            int64_t live)
{
    char expr[96];
    int64_t have = count_if_loaded(r, c, "");

    if (have >= 0) {
        assert_int_equal(have, live);
    }
    (void)snprintf(expr, sizeof(expr), "id == %zu", key);
    have = count_if_loaded(r, c, expr);
    if (have >= 0) {
        assert_int_equal(have, versions[key] > 0);
    }
    (void)snprintf(expr, sizeof(expr), "id == %zu and tag == \"v%u\"", key, versions[key]);
    have = count_if_loaded(r, c, expr);
    if (have >= 0) {
        assert_int_equal(have, versions[key] > 0);
    }
}

/* One writer changes rows and reads after every change, while flushes, merges, index builds and,
 * when asked, releases and loads go on: every read sees every row once, in its newest version. */
static void
exact_while_moving(bool far, bool releases)
{
    roles *r = roles_new(far);
    const rk_clock *clock = rk_env_real()->clock;
    int64_t end = clock->monotonic_ns(clock->self) + STRESS_MS * INT64_C(1000000);
    pb_rk_CollectionInfo *c = rig_create(r, "moving");
    unsigned versions[STRESS_KEYS] = {0}; /* 0: absent */
    stirrer *s = calloc(1, sizeof(*s));
    rk_arena *kept = r->arena;
    uint64_t seed = 88172645463325252u;
    unsigned version = 0;
    int64_t live = 0;
    rk_thread thread;

    assert_non_null(s);
    rig_index_and_load(r, c);
    s->c = c;
    s->releases = releases;
    s->rig.co = r->co;
    s->rig.arena = rk_arena_new(0);
    s->rig.ctx = (rk_ctx){.arena = s->rig.arena, .err = &s->rig.err, .deadline_ns = INT64_MAX};
    assert_int_equal(rk_thread_start(&thread, "stir", stir, s), RK_OK);
    r->arena = r->ctx.arena = rk_arena_new(0);
    while (clock->monotonic_ns(clock->self) < end) {
        size_t key;
        seed = rk_hash_u64(seed + 1);
        key = (size_t)(seed % STRESS_KEYS);
        if (seed % 5 == 0) {
            rig_erase(r, c, (int64_t)key, 1);
            live -= versions[key] > 0;
            versions[key] = 0;
        } else {
            char tag[16];
            (void)snprintf(tag, sizeof(tag), "v%u", ++version);
            rig_insert(r, c, (int64_t)key, 1, tag, true);
            live += versions[key] == 0;
            versions[key] = version;
        }
        check_model(r, c, versions, key, live);
        rk_arena_reset(r->arena);
    }
    atomic_store(&s->stop, true);
    rk_thread_join(thread);
    rk_arena_free(s->rig.arena);
    free(s);
    rk_arena_free(r->arena);
    r->arena = r->ctx.arena = kept;
    rig_restart(r);
    rig_load(r, c);
    for (size_t key = 0; key < STRESS_KEYS; key += 7) {
        check_model(r, c, versions, key, live);
    }
    roles_free(r);
}

static void
exact_while_flushing(bool far)
{
    exact_while_moving(far, false);
}

static void
exact_while_releasing(bool far)
{
    exact_while_moving(far, true);
}

BOTH(write_read_flush_restart)
BOTH(compaction_keeps_rows)
BOTH(compaction_takes_graph_over)
BOTH(drop_frees_everything)
BOTH(release_and_load)
BOTH(exact_while_flushing)
BOTH(exact_while_releasing)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_flush_restart_near),
        cmocka_unit_test(write_read_flush_restart_far),
        cmocka_unit_test(compaction_keeps_rows_near),
        cmocka_unit_test(compaction_keeps_rows_far),
        cmocka_unit_test(compaction_takes_graph_over_near),
        cmocka_unit_test(compaction_takes_graph_over_far),
        cmocka_unit_test(drop_frees_everything_near),
        cmocka_unit_test(drop_frees_everything_far),
        cmocka_unit_test(release_and_load_near),
        cmocka_unit_test(release_and_load_far),
        cmocka_unit_test(exact_while_flushing_near),
        cmocka_unit_test(exact_while_flushing_far),
        cmocka_unit_test(exact_while_releasing_near),
        cmocka_unit_test(exact_while_releasing_far),
    };

    rk_kernels_init();
    rk_log_set_level(getenv("RIG_LOG") ? RK_LOG_DEBUG : RK_LOG_WARN);
    cmocka_set_test_filter(getenv("RIG_ONLY")); /* a pattern; NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
