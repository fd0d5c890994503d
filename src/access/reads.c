/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Search and Query share: what a read must see, and which columns it returns.
 *
 * Consistency. Strong takes a fresh timestamp: the delegator then waits for writes that began
 * before it and for nothing else, so there is no timer to wait for. Bounded asks for now minus the
 * grace period, Eventually for 1, Session and Customized for what was sent. Old clients send level
 * 0 and a timestamp that decides: 0 strong, 1 anything, 2 bounded, larger exact. Iterators read at
 * the timestamp they were given.
 *
 * Output fields. `*` stands for every field; a name that is no field of a dynamic collection is a
 * key of $meta, and $meta is then cut down to the keys asked for. A query always returns the
 * primary key, a search only when asked.
 */
#include "access/access_private.h"
#include "base/json.h"

#define LOGICAL_BITS       18
#define MAGIC_TIMESTAMPS   4 /* below: codes of old clients, not times */
#define TIMESTAMP_ANYTHING 1
#define TIMESTAMP_BOUNDED  2

static uint64_t
bounded_ts(const rk__req *req)
{
    int64_t ms = rk__wall_ms(req) - req->access->limits.graceful_ms;
    return ms > 0 ? (uint64_t)ms << LOGICAL_BITS : TIMESTAMP_ANYTHING;
}

static rk_code
check_lag(const rk__req *req, uint64_t ts)
{
    int64_t ahead_ms = (int64_t)(ts >> LOGICAL_BITS) - rk__wall_ms(req);

    if (ahead_ms > req->access->limits.lag_max_ms) {
        return rk_fail_tail(req->ctx.err, RK_EINVAL,
                            "guarantee timestamp %" PRIu64 ": timestamp lag too large, lag(%" PRId64
                            "ms) max(%" PRId64 "ms)",
                            ts, ahead_ms, req->access->limits.lag_max_ms);
    }
    return RK_OK;
}

rk_code
rk__read_scope(rk__req *req, const rk__entry *entry, const rk__consistency *want,
               pb_rk_ReadScope *scope)
{
    int32_t level = want->use_default ? entry->info->consistency_level : want->level;
    uint64_t ts = want->guarantee_ts;

    scope->collection_id = entry->info->id;
    scope->schema_version = entry->info->schema_version;
    scope->ignore_growing = want->ignore_growing;
    scope->consistency_level = level;
    if (want->iterator && ts >= MAGIC_TIMESTAMPS) {
        scope->guarantee_ts = ts;
        scope->read_ts = ts;
        return check_lag(req, ts);
    }
    switch (level) {
    case PB_COMMON_ConsistencyLevel_Strong:
        if (want->use_default || ts == 0) {
            if (rk__timestamp(req, &ts) != RK_OK) {
                /* A full disk must not stop reads: the owner of a channel makes a strong read wait
                 * for every append that has begun, whatever time it names. */
                rk_err_clear(req->ctx.err);
                ts = (uint64_t)rk__wall_ms(req) << LOGICAL_BITS;
            }
        } else if (ts == TIMESTAMP_BOUNDED) {
            ts = bounded_ts(req);
        }
        break;
    case PB_COMMON_ConsistencyLevel_Bounded:
        ts = bounded_ts(req);
        break;
    case PB_COMMON_ConsistencyLevel_Eventually:
        ts = TIMESTAMP_ANYTHING;
        break;
    default: /* Session, Customized: as sent */
        break;
    }
    scope->guarantee_ts = ts;
    return check_lag(req, ts);
}

rk_code
rk__read_refused(rk__req *req, const rk__entry *entry, rk_code code, const char *what)
{
    pb_rk_CollectionId id = {.collection_id = entry->info->id};
    pb_rk_LoadState *state = NULL;
    rk_err unused = {0};
    rk_ctx ctx = req->ctx;

    if (code == RK_ECOLLECTION_NOT_LOADED) {
        return rk_err_wrap(req->ctx.err, "%s", what);
    }
    ctx.err = &unused;
    if (code == RK_ECOLLECTION_NOT_FULLY_LOADED &&
        pb_rk_Coordinator_GetLoadState(req->access->coordinator, &id, &state, &ctx) == RK_OK &&
        state->fail_reason.len > 0) {
        return rk_fail(req->ctx.err, code,
                       "collection not fully loaded[collection=%.*s]: loading fails: %.*s",
                       RK_STR_ARG(entry->name), RK_STR_ARG(state->fail_reason));
    }
    return code;
}

/* ---- filters ---- */

rk_code
rk__predicate_add(pb_rk_Predicate *predicate, size_t max, rk_str name,
                  pb_schema_TemplateValue *value, rk_arena *arena)
{
    pb_rk_TemplateEntry *entry = RK_ARENA_NEW(arena, pb_rk_TemplateEntry);

    if (!predicate->templates.data) {
        predicate->templates.data = RK_ARENA_ARRAY(arena, pb_rk_TemplateEntry *, max);
    }
    if (!entry || !predicate->templates.data) {
        return RK_ENOMEM;
    }
    RK_ASSERT(predicate->templates.n < max);
    *entry = (pb_rk_TemplateEntry){.name = name, .value = value};
    predicate->templates.data[predicate->templates.n++] = entry;
    return RK_OK;
}

/* ---- output fields ---- */

static bool
has_name(const rk__outputs *out, rk_str name)
{
    for (size_t i = 0; i < out->names.n; i++) {
        if (rk_str_eq(out->names.data[i], name)) {
            return true;
        }
    }
    return false;
}

static void
add_name(rk__outputs *out, rk_str name)
{
    if (!has_name(out, name)) {
        out->names.data[out->names.n++] = name;
    }
}

static void
add_field(rk__outputs *out, const rk_field *field)
{
    for (size_t i = 0; i < out->fields_len; i++) {
        if (out->fields[i] == field) {
            return;
        }
    }
    out->fields[out->fields_len++] = field;
}

static bool
is_count(rk_str name)
{
    return name.len == 8 && strncasecmp(name.data, "count(*)", 8) == 0;
}

/* `sum(price)` and alike: the name before the bracket when it is an aggregate. */
static rk_str
aggregate_name(rk_str name)
{
    static const char *const names[] = {"count", "sum", "min", "max", "avg"};

    for (size_t i = 0; i < RK_COUNT(names); i++) {
        size_t len = strlen(names[i]);
        if (name.len > len && strncasecmp(name.data, names[i], len) == 0) {
            rk_str rest = rk_str_trim((rk_str){name.data + len, name.len - len});
            if (rest.len >= 2 && rest.data[0] == '(' && rest.data[rest.len - 1] == ')') {
                return (rk_str){name.data, len};
            }
        }
    }
    return (rk_str){NULL, 0};
}

static rk_code
refuse_aggregate(rk_str name, rk_str aggregate, bool query, rk_err *err)
{
    if (!query) {
        return rk_fail_tail(err, RK_EINVAL, "aggregates are not supported in search request");
    }
    if (rk_str_ends(name, "(*)")) {
        return rk_fail_tail(err, RK_EINVAL, "%.*s(*) is not supported, only count(*) is allowed",
                            RK_STR_ARG(aggregate));
    }
    return rk__fail_unbuilt(err, "aggregates other than count(*) are");
}

/* A key of the dynamic field, plain or as $meta["key"]. */
static rk_code
add_dynamic(rk__outputs *out, rk_str name, const rk_schema *schema, rk_arena *arena, rk_err *err)
{
    const rk_field *field = NULL;
    rk_json_path path = {0};

    if (schema->dynamic < 0) {
        return rk_fail_tail(err, RK_EINVAL, "field %.*s not exist", RK_STR_ARG(name));
    }
    rk_code code = rk_filter_parse_path(name, schema, &field, &path, arena, err);
    if (code == RK_ENOMEM) {
        return code;
    }
    if (code != RK_OK || !field || !field->dynamic || path.n != 1) {
        return rk_fail_tail(err, RK_EINVAL, "parse output field name failed: %.*s",
                            RK_STR_ARG(name));
    }
    add_field(out, field);
    out->dynamic_keys.data[out->dynamic_keys.n++] = path.keys[0];
    add_name(out, path.keys[0]);
    return RK_OK;
}

static void
add_all(rk__outputs *out, const rk_schema *schema)
{
    for (size_t i = 0; i < schema->fields_len; i++) {
        add_field(out, &schema->fields[i]);
        add_name(out, schema->fields[i].name);
    }
}

rk_code
rk__outputs_resolve(rk__outputs *out, const pb_strs *asked, const rk_schema *schema, bool query,
                    rk_arena *arena, rk_err *err)
{
    size_t max = asked->n + schema->fields_len + 2;
    const rk_field *primary = rk_schema_primary(schema);
    bool whole_dynamic = false;

    *out = (rk__outputs){.fields = RK_ARENA_ARRAY(arena, const rk_field *, schema->fields_len + 1),
                         .names.data = RK_ARENA_ARRAY(arena, rk_str, max),
                         .dynamic_keys.data = RK_ARENA_ARRAY(arena, rk_str, asked->n + 1)};
    if (!out->fields || !out->names.data || !out->dynamic_keys.data) {
        return rk__fail_memory(err);
    }
    if (query) {
        add_field(out, primary);
    }
    for (size_t i = 0; i < asked->n; i++) {
        rk_str name = rk_str_trim(asked->data[i]);
        const rk_field *field = rk_schema_find(schema, name);
        rk_str aggregate = field ? (rk_str){NULL, 0} : aggregate_name(name);
        if (rk_str_is(name, "*")) {
            add_all(out, schema);
            whole_dynamic = true;
        } else if (field) {
            add_field(out, field);
            add_name(out, field->name);
            whole_dynamic |= field->dynamic;
        } else if (aggregate.len > 0) {
            if (!query || !is_count(name)) {
                return refuse_aggregate(name, aggregate, query, err);
            }
            out->count = true;
        } else {
            RK_RET(add_dynamic(out, name, schema, arena, err));
        }
    }
    if (out->count && asked->n > 1) {
        return rk__fail_unbuilt(err, "count(*) together with other output fields is");
    }
    if (whole_dynamic) {
        out->dynamic_keys.n = 0;
    }
    if (query) {
        add_name(out, primary->name);
    }
    return RK_OK;
}

pb_i64s
rk__outputs_ids(const rk__outputs *outputs, rk_arena *arena)
{
    pb_i64s ids = {RK_ARENA_ARRAY(arena, int64_t, outputs->fields_len + 1), 0};

    for (size_t i = 0; ids.data && i < outputs->fields_len; i++) {
        ids.data[ids.n++] = outputs->fields[i]->id;
    }
    return ids;
}

/* Rows of |from| cut down to the keys asked for. */
static rk_code
cut_dynamic(const rk__outputs *outputs, const pb_schema_FieldData *from, pb_schema_FieldData *to,
            rk_arena *arena, rk_err *err)
{
    pb_schema_ScalarField *scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    pb_schema_JSONArray *json = RK_ARENA_NEW(arena, pb_schema_JSONArray);
    rk_buf buf = {0};
    rk_code code = RK_OK;

    if (from->field_case != PB_SCHEMA_FieldData_scalars || !from->scalars ||
        from->scalars->data_case != PB_SCHEMA_ScalarField_json_data || !from->scalars->json_data) {
        return RK_OK; /* no rows */
    }
    size_t rows = from->scalars->json_data->data.n;
    if (!scalars || !json || !(json->data.data = RK_ARENA_ARRAY(arena, rk_str, rows + 1))) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < rows; i++) {
        rk_json_value row = rk_json_root(from->scalars->json_data->data.data[i]);
        rk_json_writer w = {.out = &buf};
        rk_buf_clear(&buf);
        rk_json_object(&w);
        for (size_t k = 0; k < outputs->dynamic_keys.n; k++) {
            rk_json_value value;
            if (rk_json_find_key(row, outputs->dynamic_keys.data[k], &value)) {
                rk_json_key(&w, outputs->dynamic_keys.data[k]);
                rk_json_raw(&w, value.raw);
            }
        }
        rk_json_object_end(&w);
        json->data.data[i] =
            buf.failed ? (rk_str){NULL, 0} : rk_arena_str(arena, rk_buf_view(&buf));
        if (!json->data.data[i].data) {
            code = rk__fail_memory(err);
            goto out;
        }
    }
    json->data.n = rows;
    scalars->data_case = PB_SCHEMA_ScalarField_json_data;
    scalars->json_data = json;
    to->scalars = scalars;
out:
    rk_buf_deinit(&buf);
    return code;
}

static const pb_schema_FieldData *
find_column(const pb_schema_FieldData_list *have, int64_t id)
{
    for (size_t i = 0; i < have->n; i++) {
        if (have->data[i]->field_id == id) {
            return have->data[i];
        }
    }
    return NULL;
}

rk_code
rk__outputs_finish(const rk__outputs *outputs, const pb_schema_FieldData_list *have, size_t rows,
                   pb_schema_FieldData_list *fields, rk_arena *arena, rk_err *err)
{
    fields->n = 0;
    fields->data = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, outputs->fields_len + 1);
    if (!fields->data) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < outputs->fields_len; i++) {
        const rk_field *field = outputs->fields[i];
        const pb_schema_FieldData *column = find_column(have, field->id);
        pb_schema_FieldData *empty = NULL;
        pb_schema_FieldData *mine = RK_ARENA_NEW(arena, pb_schema_FieldData);
        if (!mine) {
            return rk__fail_memory(err);
        }
        if (!column) {
            if (rows > 0) {
                return rk_fail_tail(err, RK_EINTERNAL,
                                    "the read returned %zu rows without field %.*s", rows,
                                    RK_STR_ARG(field->name));
            }
            RK_RET(rk_field_data_gather(&empty, field, NULL, NULL, 0, arena));
            column = empty;
        }
        *mine = *column;
        mine->type = (int32_t)field->type;
        mine->field_id = field->id;
        mine->field_name = field->name;
        mine->is_dynamic = field->dynamic;
        if (field->dynamic && outputs->dynamic_keys.n > 0) {
            RK_RET(cut_dynamic(outputs, column, mine, arena, err));
        }
        fields->data[fields->n++] = mine;
    }
    return RK_OK;
}
