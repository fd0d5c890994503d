/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged index files. An index is derived data: one that is found damaged leaves the catalogue,
 * its object goes, and the next plan of tasks has it built again; until then the columns answer,
 * exactly.
 *
 * It is found when a load opens it, when the query node has read a large one through, or when a
 * search reads a bad page. The last two come as reports on any thread and wait for the job thread,
 * which alone changes the indexes of segments.
 */
#include "coordinator/coordinator_private.h"

#define REPORTS_MAX 1024u

static bool
contains(const pb_strs *objects, rk_str object)
{
    for (size_t i = 0; i < objects->n; i++) {
        if (rk_str_eq(objects->data[i], object)) {
            return true;
        }
    }
    return false;
}

/* Those of |info|'s index files that |damaged| names leave the catalogue. */
static rk_code
forget_files(rk_coordinator *co, int64_t collection_id, const pb_rk_SegmentInfo *info,
             const pb_strs *damaged, rk_ctx *ctx)
{
    pb_rk_SegmentInfo next = *info;
    pb_rk_IndexFile **kept = RK_ARENA_ARRAY(ctx->arena, pb_rk_IndexFile *, next.indexes.n + 1);
    size_t n = 0;

    if (!kept) {
        return rk__co_no_memory(ctx->err);
    }
    for (size_t i = 0; i < next.indexes.n; i++) {
        if (!contains(damaged, next.indexes.data[i]->object)) {
            kept[n++] = next.indexes.data[i];
        }
    }
    if (n == next.indexes.n) {
        return RK_OK;
    }
    next.indexes.data = kept;
    next.indexes.n = n;
    RK_RET(rk__co_segment_replace(co, collection_id, &next, ctx));
    RK_LOG_W("coordinator", "event=index_rebuild segment=%lld", (long long)next.id);
    for (size_t i = 0; i < info->indexes.n; i++) {
        if (contains(damaged, info->indexes.data[i]->object)) {
            rk__co_drop_object(co, info->indexes.data[i]->object);
        }
    }
    return RK_OK;
}

void
rk__co_forget_unopened(rk_coordinator *co, int64_t collection_id,
                       const pb_rk_LoadSegmentsRequest *load,
                       const pb_rk_LoadSegmentsResponse *answer, rk_ctx *ctx)
{
    pb_strs damaged = {RK_ARENA_ARRAY(ctx->arena, rk_str, answer->damaged.n + 1), 0};

    for (size_t i = 0; damaged.data && i < answer->damaged.n; i++) {
        damaged.data[damaged.n++] = answer->damaged.data[i]->object;
    }
    for (size_t i = 0; i < load->segments.n && answer->damaged.n > 0; i++) {
        if (!damaged.data ||
            forget_files(co, collection_id, load->segments.data[i], &damaged, ctx) != RK_OK) {
            co->pass_failed = true; /* reported again by the next load; until then columns answer */
            rk_err_clear(ctx->err);
        }
    }
}

rk_code
rk__co_report_damage(void *self, const void *request, void *response, rk_ctx *ctx)
{
    rk_coordinator *co = self;
    rk__co_box box = {0};
    rk__co_box *bigger = NULL;
    rk_code code = RK_OK;

    RK_UNUSED(response);
    RK_RET(rk__co_box_copy(&box, &pb_rk_ReportDamageRequest_desc, request));
    rk_mutex_lock(&co->lock);
    if (co->reports_len < REPORTS_MAX) {
        bigger = rk_realloc(co->reports, (co->reports_len + 1) * sizeof(*bigger));
    }
    if (bigger) {
        co->reports = bigger;
        co->reports[co->reports_len++] = box;
        box = (rk__co_box){0};
        rk__co_wake(co);
    } else {
        code = rk__co_no_memory(ctx->err);
    }
    rk_mutex_unlock(&co->lock);
    rk__co_box_free(&box);
    return code;
}

static rk_code
forget_reported(rk_coordinator *co, const pb_rk_ReportDamageRequest *report, rk_ctx *ctx)
{
    pb_strs damaged = {report->objects.data, report->objects.n};
    rk__co_collection *c;
    const rk__co_segment *s;
    void *info = NULL;
    rk_code code = RK_OK;

    rk_mutex_lock(&co->lock);
    c = rk__co_find(co, report->collection_id);
    s = c && !c->dropped ? rk__co_segment_find(c, report->segment_id) : NULL;
    if (s) {
        code = pb_copy(&pb_rk_SegmentInfo_desc, &info, rk__co_seg_info(s), ctx->arena);
    }
    rk_mutex_unlock(&co->lock);
    if (code != RK_OK) {
        return rk__co_no_memory(ctx->err);
    }
    return info ? forget_files(co, report->collection_id, info, &damaged, ctx)
                : RK_OK; /* dropped or merged meanwhile */
}

void
rk__co_forget_reported(rk_coordinator *co)
{
    rk_err err = {0};
    rk_ctx ctx = {.arena = NULL, .err = &err, .deadline_ns = INT64_MAX};
    rk__co_box *reports;
    size_t n;

    rk_mutex_lock(&co->lock);
    reports = co->reports;
    n = co->reports_len;
    co->reports = NULL;
    co->reports_len = 0;
    rk_mutex_unlock(&co->lock);
    if (n > 0) {
        ctx.arena = rk_arena_new(0);
    }
    for (size_t i = 0; i < n; i++) {
        if (!ctx.arena || forget_reported(co, reports[i].message, &ctx) != RK_OK) {
            RK_LOG_W("coordinator", "event=index_rebuild_failed error=\"%s\"", err.text);
            rk_err_clear(&err); /* the query node has let go of it; a later load finds it again */
        }
        rk__co_box_free(&reports[i]);
    }
    rk_arena_free(ctx.arena);
    rk_free(reports);
}
