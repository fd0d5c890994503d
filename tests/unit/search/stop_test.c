/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searches and queries that nobody waits for any more.
 */
#include "search_world.h"

static bool
stop_now(void *self)
{
    size_t *left = self;

    return *left == 0 || --*left == 0;
}

/* A read ends wherever it is told to. */
static void
test_stop(void **state)
{
    world w;
    float queries[3 * ST_DIM] = {0.3f, -0.2f, 0.1f};
    pb_rk_SearchResponse out;
    pb_rk_QueryResponse rows;
    pb_rk_QueryRequest query = {0};
    rk_search_plan *plan;
    rk_query_plan *query_plan;
    size_t left = SIZE_MAX;
    rk_stop stop = {stop_now, &left};
    rk_err err = {0};

    RK_UNUSED(state);
    world_new(&w, false);
    for (size_t p = 0; p < RK_COUNT(predicates); p++) {
        pb_rk_SearchRequest request =
            request_for(&w, &predicates[p], false, RK_METRIC_L2, 20, queries, 3);
        assert_int_equal(rk_search_plan_new(&plan, &request, w.schema, w.arena, &err), RK_OK);
        rk_search_plan_stop(plan, &stop);
        query.scope = request.scope;
        query.predicate = request.predicate;
        query.limit = 10;
        assert_int_equal(rk_query_plan_new(&query_plan, &query, w.schema, w.arena, &err), RK_OK);
        rk_query_plan_stop(query_plan, &stop);
        for (int kind = 0; kind < 2; kind++) {
            rk_code code = RK_OK;
            size_t asked = 0;
            for (int pass = 0; pass < 2; pass++) { /* the first counts */
                for (size_t at = 1; at <= (pass ? asked : 1); at++) {
                    left = pass ? at : 1000000;
                    rk_err_clear(&err);
                    code = kind ? rk_query_run(query_plan, w.segs, SEGS, w.last_ts, &rows, w.arena,
                                               &err)
                                : rk_search_run(plan, w.segs, SEGS, w.last_ts, &out, w.arena, &err);
                    assert_int_equal(code, pass ? RK_ECANCELLED : RK_OK);
                    assert_int_equal(err.text[0] != '\0', pass);
                    asked = pass ? asked : 1000000 - left;
                }
            }
            assert_true(asked >= 1);
        }
    }
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop),
    };

    rk_kernels_init();
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
