/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged indexes on the query node: large ones are read through in the background after a load;
 * what this or a search finds damaged leaves service, so that the column answers, and the
 * coordinator is told, which has it built again.
 *
 * A task holds the segment by a reference; it is queued at most once for each load, and once for
 * each search that met damage, which stops when the index has left.
 */
#include "base/log.h"
#include "worker/query/query_private.h"

typedef struct care {
    rk_query_node *node;
    rk_segment *segment; /* one reference */
} care;

static rk_code
report(rk_query_node *node, rk_segment *seg, rk_ctx *ctx)
{
    pb_rk_ReportDamageRequest request = {0};
    rk_service *coordinator = atomic_load(&node->coordinator);
    pb_rk_Empty *answer = NULL;
    rk_segment_stats stats;
    pb_strs objects;

    if (rk_segment_drop_damaged(seg, &objects, ctx->arena) != RK_OK) {
        return rk_fail(ctx->err, RK_ENOMEM, "no memory to report a damaged index");
    }
    if (objects.n == 0 || !coordinator) {
        return RK_OK;
    }
    rk_segment_get_stats(seg, &stats);
    request.collection_id = stats.ids.collection_id;
    request.segment_id = stats.ids.id;
    request.objects.data = objects.data;
    request.objects.n = objects.n;
    return pb_rk_Coordinator_ReportDamage(coordinator, &request, &answer, ctx);
}

static void
care_for(void *arg)
{
    care *c = arg;
    rk_query_node *node = c->node;
    rk_err err = {0};
    rk_ctx ctx = {.arena = rk_arena_new(0), .err = &err, .deadline_ns = INT64_MAX};

    rk_segment_verify_indexes(c->segment, &node->stopping);
    if (!ctx.arena || report(node, c->segment, &ctx) != RK_OK) {
        RK_LOG_W("query", "event=damage_report_failed error=\"%s\"", err.text);
    }
    rk_arena_free(ctx.arena);
    rk_segment_unref(c->segment);
    rk_free(c);
}

static void
submit(rk_query_node *node, rk_segment *seg)
{
    care *c = rk_alloc(sizeof(*c));

    if (!c) {
        return; /* the next load or search tries again */
    }
    *c = (care){node, rk_segment_ref(seg)};
    if (rk_pool_submit(node->options.background, care_for, c) != RK_OK) {
        rk_segment_unref(seg);
        rk_free(c);
    }
}

void
rk__qn_verify_later(rk_query_node *node, rk_segment *seg)
{
    if (!rk_segment_is_verified(seg)) {
        submit(node, seg);
    }
}

void
rk__qn_heal_later(rk_query_node *node, rk_segment *seg)
{
    if (rk_segment_has_damage(seg)) {
        submit(node, seg);
    }
}
