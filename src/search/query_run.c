/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a query: rows that pass, in primary key order, as many as the window needs.
 *
 * A sealed segment is sorted by key, so its passing rows come in order just by walking the bitset;
 * a growing one has its passing rows collected and the first ones selected and sorted. A heap of
 * one cursor per segment yields the next row; of rows with one key the newest is taken. Nothing
 * beyond the window is looked at, so a page of a large segment costs the filter and the page.
 * Counting only counts bits.
 */
#include "search/search_private.h"

#define ROWS_FIRST ((size_t)256)

/* ---- plan ---- */

static void
add_field(rk_query_plan *plan, const rk_field *field)
{
    for (size_t i = 0; i < plan->fields_len; i++) {
        if (plan->fields[i] == field) {
            return;
        }
    }
    plan->fields[plan->fields_len++] = field;
}

static rk_code
plan_fields(rk_query_plan *plan, const pb_i64s *ids, rk_arena *arena, rk_err *err)
{
    plan->fields = RK_ARENA_ARRAY(arena, const rk_field *, ids->n + 1);
    if (!plan->fields) {
        return rk__no_memory(err);
    }
    add_field(plan, rk_schema_primary(plan->schema));
    for (size_t i = 0; i < ids->n; i++) {
        const rk_field *field = rk_schema_by_id(plan->schema, ids->data[i]);
        if (!field) {
            return rk_fail(err, RK_EFIELD_NOT_FOUND, "field not found[fieldID=%lld]",
                           (long long)ids->data[i]);
        }
        add_field(plan, field);
    }
    return RK_OK;
}

static rk_code
plan_keys(rk_query_plan *plan, const pb_schema_IDs *keys, rk_arena *arena, rk_err *err)
{
    rk__predicate *p = &plan->predicate;
    rk_pk *list = RK_ARENA_ARRAY(arena, rk_pk, rk_ids_len(keys) + 1);

    if (!list) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < rk_ids_len(keys); i++) {
        list[i] = rk_ids_at(keys, i);
        if (list[i].is_text != (rk_schema_primary(plan->schema)->type == RK_VARCHAR)) {
            return rk_fail_tail(err, RK_EINVAL, "primary key is %s, but IDs type mismatch",
                                rk_schema_primary(plan->schema)->type == RK_VARCHAR ? "varchar"
                                                                                    : "int64");
        }
    }
    p->bound = p->exact = true;
    p->keys = list;
    p->keys_len = rk_ids_len(keys);
    return RK_OK;
}

rk_code
rk_query_plan_new(rk_query_plan **out, const pb_rk_QueryRequest *request, rk_schema *schema,
                  rk_arena *arena, rk_err *err)
{
    rk_query_plan *plan = RK_ARENA_NEW(arena, rk_query_plan);

    *out = NULL;
    if (!plan) {
        return rk__no_memory(err);
    }
    if (request->limit < 0 || request->offset < 0) {
        return rk_fail_tail(err, RK_EINVAL,
                            "limit [%lld] or offset [%lld] is invalid, should be gte than 0",
                            (long long)request->limit, (long long)request->offset);
    }
    plan->schema = schema;
    plan->count_only = request->count_only;
    plan->limit = (uint64_t)request->limit;
    plan->offset = (uint64_t)request->offset;
    plan->output_bytes_max = request->output_bytes_max;
    RK_RET(plan_fields(plan, &request->output_field_ids, arena, err));
    RK_RET(rk__predicate_init(&plan->predicate, request->keys ? NULL : request->predicate,
                              request->scope, schema, arena, err));
    if (request->keys) {
        RK_RET(plan_keys(plan, request->keys, arena, err));
    }
    *out = plan;
    return RK_OK;
}

void
rk_query_plan_use(rk_query_plan *plan, rk_filter_cache *cache)
{
    plan->predicate.cache = cache;
}

void
rk_query_plan_stop(rk_query_plan *plan, const rk_stop *stop)
{
    plan->predicate.stop = stop;
}

bool
rk_query_plan_is_unbounded(const rk_query_plan *plan)
{
    const rk__predicate *p = &plan->predicate;
    return !plan->count_only && plan->limit == 0 && !p->filter && !p->nothing && !p->bound &&
           !p->exact;
}

/* ---- cursors ---- */

typedef struct ordered_row {
    uint64_t key; /* rk_pk_order_key() */
    uint32_t row;
} ordered_row;

/* The next row of one segment in key order. */
typedef struct cursor {
    const rk__target *target;
    ordered_row *order; /* growing: passing rows in key order; NULL: walk the rows as they are */
    size_t order_len;
    size_t at;    /* next in |order|, or next row */
    bool partial; /* |order| holds only the first ones */
    uint32_t row; /* current */
    rk_pk pk;
    uint64_t ts;
} cursor;

static size_t
next_passing(const rk__target *t, size_t from)
{
    if (t->all) {
        return from;
    }
    return from < t->rows ? rk_bitset_next(&t->filter, from) : t->rows;
}

/* Key order; of one key the newest first. */
static bool
ordered_before(const cursor *c, const ordered_row *a, const ordered_row *b)
{
    const rk_segment *seg = c->target->seg;

    if (a->key != b->key) {
        return a->key < b->key;
    }
    if (c->pk.is_text) {
        int order = rk_pk_cmp(rk_segment_pk(seg, a->row), rk_segment_pk(seg, b->row));
        if (order != 0) {
            return order < 0;
        }
    }
    return a->row > b->row; /* rows of a growing segment stand in order of time */
}

static void
sift_down(const cursor *c, size_t at, size_t n)
{
    ordered_row *rows = c->order;

    for (size_t child; (child = at * 2 + 1) < n; at = child) {
        if (child + 1 < n && ordered_before(c, &rows[child], &rows[child + 1])) {
            child++;
        }
        if (!ordered_before(c, &rows[at], &rows[child])) {
            return;
        }
        ordered_row t = rows[at];
        rows[at] = rows[child];
        rows[child] = t;
    }
}

/* Puts the |k| first rows in front, in any order: a heap with the last of them on top, which the
 * others try to replace. */
static void
select_first(const cursor *c, size_t n, size_t k)
{
    for (size_t i = k / 2; i-- > 0;) {
        sift_down(c, i, k);
    }
    for (size_t i = k; i < n; i++) {
        if (ordered_before(c, &c->order[i], &c->order[0])) {
            c->order[0] = c->order[i];
            sift_down(c, 0, k);
        }
    }
}

static rk_code
sort_ordered(cursor *c, size_t n, rk_arena *arena)
{
    ordered_row *from = c->order;
    ordered_row *to = rk_arena_alloc(arena, n * sizeof(*to) + 1);

    if (!to) {
        return RK_ENOMEM;
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t a = 0; a < n; a += 2 * width) {
            size_t b = RK_MIN(a + width, n);
            size_t end = RK_MIN(a + 2 * width, n);
            size_t i = a, j = b;
            for (size_t out = a; out < end; out++) {
                bool right = i == b || (j < end && ordered_before(c, &from[j], &from[i]));
                to[out] = right ? from[j++] : from[i++];
            }
        }
        ordered_row *swap = from;
        from = to;
        to = swap;
    }
    c->order = from;
    return RK_OK;
}

/* Orders the first |want| of the passing rows of a growing segment. */
static rk_code
order_rows(cursor *c, size_t want, rk_arena *arena)
{
    const rk__target *t = c->target;
    size_t n = 0;

    c->order = rk_arena_alloc(arena, t->passing * sizeof(*c->order) + 1);
    if (!c->order) {
        return RK_ENOMEM;
    }
    for (size_t row = next_passing(t, 0); row < t->rows && n < t->passing;
         row = next_passing(t, row + 1)) {
        c->pk = rk_segment_pk(t->seg, row);
        c->order[n++] = (ordered_row){rk_pk_order_key(c->pk), (uint32_t)row};
    }
    c->order_len = RK_MIN(n, want);
    c->partial = c->order_len < n;
    if (c->partial) {
        select_first(c, n, c->order_len);
    }
    return sort_ordered(c, c->order_len, arena);
}

/* Steps to the next key; false at the end. */
static bool
cursor_next(cursor *c)
{
    const rk__target *t = c->target;
    const rk_segment *seg = t->seg;
    size_t end = c->order ? c->order_len : t->rows;
    size_t at = c->order ? c->at : next_passing(t, c->at);

    if (at >= end) {
        return false;
    }
    c->row = c->order ? c->order[at].row : (uint32_t)at;
    c->pk = rk_segment_pk(seg, c->row);
    for (at++; (at = c->order ? at : next_passing(t, at)) < end; at++) {
        uint32_t row = c->order ? c->order[at].row : (uint32_t)at;
        if (rk_pk_cmp(rk_segment_pk(seg, row), c->pk) != 0) {
            break;
        }
        c->row =
            c->order ? c->row : row; /* sealed: the newest of a key comes last; ordered: first */
    }
    c->at = at;
    c->ts = rk_segment_row_ts(seg, c->row);
    return true;
}

/* ---- merge over segments ---- */

static bool
cursor_before(const cursor *a, const cursor *b)
{
    int order = rk_pk_cmp(a->pk, b->pk);
    return order != 0 ? order < 0 : a->ts > b->ts;
}

static void
cursors_down(cursor **heap, size_t n, size_t at)
{
    for (size_t child; (child = at * 2 + 1) < n; at = child) {
        if (child + 1 < n && cursor_before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!cursor_before(heap[child], heap[at])) {
            return;
        }
        cursor *t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
    }
}

typedef struct row_list {
    rk__row_at *rows;
    size_t n, cap;
} row_list;

static rk_code
list_add(row_list *list, rk_segment *seg, uint32_t row, rk_arena *arena)
{
    if (list->n == list->cap) {
        size_t cap = RK_MAX(list->cap * 2, ROWS_FIRST);
        rk__row_at *bigger = rk_arena_alloc(arena, cap * sizeof(*bigger));
        if (!bigger) {
            return RK_ENOMEM;
        }
        if (list->n > 0) {
            memcpy(bigger, list->rows, list->n * sizeof(*bigger));
        }
        list->rows = bigger;
        list->cap = cap;
    }
    list->rows[list->n++] = (rk__row_at){seg, row};
    return RK_OK;
}

/* A cursor that had ordered only its first rows, and is through them while more pass: orders all
 * and goes on behind the last key. */
static rk_code
cursor_refill(cursor *c, rk_arena *arena, bool *more)
{
    rk_pk last = c->pk;

    RK_RET(order_rows(c, c->target->passing, arena));
    c->at = 0;
    do {
        *more = cursor_next(c);
    } while (*more && rk_pk_cmp(c->pk, last) <= 0);
    return RK_OK;
}

static rk_code
merge_cursors(row_list *list, cursor *cursors, size_t n, size_t want, rk_arena *arena)
{
    cursor **heap = RK_ARENA_ARRAY(arena, cursor *, n + 1);
    size_t len = 0;
    rk_pk last = {0};

    if (!heap) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        if (cursor_next(&cursors[i])) {
            heap[len++] = &cursors[i];
        }
    }
    for (size_t i = len / 2; i-- > 0;) {
        cursors_down(heap, len, i);
    }
    while (len > 0 && list->n < want) {
        cursor *c = heap[0];
        bool more;
        if (list->n == 0 || rk_pk_cmp(c->pk, last) != 0) { /* of equal keys the newest came first */
            RK_RET(list_add(list, c->target->seg, c->row, arena));
            last = c->pk;
            if (list->n == want) {
                break; /* before the cursor looks for more than is needed */
            }
        }
        more = cursor_next(c);
        if (!more && c->partial) {
            RK_RET(cursor_refill(c, arena, &more));
        }
        if (!more) {
            heap[0] = heap[--len];
        }
        cursors_down(heap, len, 0);
    }
    return RK_OK;
}

/* ---- run ---- */

static rk_code
collect(const rk_query_plan *plan, const rk__target *targets, size_t n, row_list *list,
        rk_arena *arena)
{
    cursor *cursors = RK_ARENA_ARRAY(arena, cursor, n + 1);
    size_t want = SIZE_MAX;

    if (!cursors) {
        return RK_ENOMEM;
    }
    if (plan->limit > 0 && plan->limit < SIZE_MAX - plan->offset) {
        want = (size_t)(plan->limit + plan->offset);
    }
    for (size_t i = 0; i < n; i++) {
        rk_segment_stats stats;
        rk_segment_get_stats(targets[i].seg, &stats);
        cursors[i].target = &targets[i];
        if (stats.growing) {
            RK_RET(order_rows(&cursors[i], RK_MIN(want, targets[i].passing), arena));
        }
    }
    return merge_cursors(list, cursors, n, want, arena);
}

static rk_code
describe(const rk_query_plan *plan, const row_list *list, pb_rk_QueryResponse *out, rk_arena *arena,
         rk_err *err)
{
    rk__keys_out keys;

    out->timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, list->n + 1);
    if (!out->timestamps.data || rk__keys_out_init(&keys, plan->schema, list->n, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    for (size_t i = 0; i < list->n; i++) {
        out->timestamps.data[i] = rk_segment_row_ts(list->rows[i].seg, list->rows[i].row);
        if (rk__keys_out_add(&keys, rk_segment_pk(list->rows[i].seg, list->rows[i].row), arena) !=
            RK_OK) {
            return rk__no_memory(err);
        }
    }
    out->timestamps.n = list->n;
    out->keys = keys.ids;
    out->rows = (uint32_t)list->n;
    out->count = (int64_t)list->n;
    return rk__fetch_fields(&out->fields, plan->fields, plan->fields_len, list->rows, list->n,
                            plan->output_bytes_max, arena, err);
}

rk_code
rk_query_run(const rk_query_plan *plan, rk_segment *const *segs, size_t segs_len, uint64_t read_ts,
             pb_rk_QueryResponse *out, rk_arena *arena, rk_err *err)
{
    rk__target *targets;
    row_list list = {NULL, 0, 0};
    size_t n;

    *out = (pb_rk_QueryResponse){.read_ts = read_ts};
    RK_RET(rk__targets(&targets, &n, &plan->predicate, segs, segs_len, read_ts, NULL, arena, err));
    if (plan->count_only) {
        for (size_t i = 0; i < n; i++) {
            out->count += (int64_t)targets[i].passing;
        }
        return RK_OK;
    }
    if (collect(plan, targets, n, &list, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    return describe(plan, &list, out, arena, err);
}
