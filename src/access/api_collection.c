/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections and their one partition: create, describe, has, show, drop, statistics.
 *
 * What clients rely on and is easy to get wrong: dropping what is not there succeeds, asking for it
 * is no error; Describe hides the server's own fields and echoes the name it was asked by; row
 * counts are decimal text; repeating a creation with an equal schema succeeds.
 */
#include "access/access_private.h"

#define LOGICAL_BITS 18 /* of a hybrid timestamp, below the milliseconds */

rk_code
rk__api_create_collection(rk__req *req, const pb_milvus_CreateCollectionRequest *in,
                          pb_common_Status *out)
{
    pb_rk_CreateCollectionRequest want = {.shards = in->shards_num > 0 ? in->shards_num : 1,
                                          .consistency_level = in->consistency_level,
                                          .properties = in->properties};
    pb_rk_CollectionInfo *info = NULL;
    rk_schema *schema = NULL;
    rk_code code;

    RK_UNUSED(out);
    RK_RET(rk__use_db(req, in->db_name));
    want.db_name = req->db;
    RK_RET(rk__check_create(req, in, &want.schema));
    /* the engine has the last word: what it cannot hold is refused before it is stored */
    RK_RET(rk_schema_new(&schema, want.schema, 0, req->ctx.err));
    rk_schema_unref(schema);
    code = pb_rk_Coordinator_CreateCollection(req->access->coordinator, &want, &info, &req->ctx);
    if (code == RK_EEXISTS) {
        if (!info || info->id == 0) { /* an error may come without the collection */
            pb_rk_CollectionKey key = {.db_name = req->db, .name = in->collection_name};
            RK_RET(pb_rk_Coordinator_DescribeCollection(req->access->coordinator, &key, &info,
                                                        &req->ctx));
        }
        if (!rk__same_collection(req, info, &want)) {
            return rk_fail_tail(
                req->ctx.err, RK_EINVAL,
                "create duplicate collection with different parameters, collection: %.*s",
                RK_STR_ARG(in->collection_name));
        }
        rk_err_clear(req->ctx.err);
        code = RK_OK;
    }
    return code;
}

rk_code
rk__api_drop_collection(rk__req *req, const pb_milvus_DropCollectionRequest *in,
                        pb_common_Status *out)
{
    pb_rk_CollectionKey key = {.name = in->collection_name};
    pb_rk_Empty *empty = NULL;
    rk_code code;

    RK_UNUSED(out);
    RK_RET(rk__check_collection_name(&req->access->limits, in->collection_name, req->ctx.err));
    code = rk__use_db(req, in->db_name);
    if (code == RK_OK) {
        key.db_name = req->db;
        code = pb_rk_Coordinator_DropCollection(req->access->coordinator, &key, &empty, &req->ctx);
    }
    if (code == RK_ECOLLECTION_NOT_FOUND || code == RK_EDATABASE_NOT_FOUND) {
        rk_err_clear(req->ctx.err); /* gone is gone */
        code = RK_OK;
    }
    return code;
}

/* The schema without what the server added. Shares all else with |info|. */
static pb_schema_CollectionSchema *
public_schema(const pb_rk_CollectionInfo *info, rk_arena *arena)
{
    pb_schema_CollectionSchema *schema = RK_ARENA_NEW(arena, pb_schema_CollectionSchema);
    pb_schema_FieldSchema **fields =
        RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, info->schema->fields.n + 1);
    size_t n = 0;

    if (!schema || !fields) {
        return NULL;
    }
    *schema = *info->schema;
    for (size_t i = 0; i < info->schema->fields.n; i++) {
        pb_schema_FieldSchema *f = info->schema->fields.data[i];
        if (!f->is_dynamic && f->fieldID >= RK_FIELD_FIRST) {
            fields[n++] = f;
        }
    }
    schema->fields.data = fields;
    schema->fields.n = n;
    schema->name = info->name;
    schema->version = (int32_t)info->schema_version;
    return schema;
}

static rk_code
describe(rk__req *req, const pb_rk_CollectionInfo *info, rk_str asked,
         pb_milvus_DescribeCollectionResponse *out)
{
    out->schema = public_schema(info, req->ctx.arena);
    if (!out->schema) {
        return rk__fail_memory(req->ctx.err);
    }
    out->collectionID = info->id;
    out->virtual_channel_names = info->channels;
    out->physical_channel_names = info->channels;
    out->created_timestamp = info->created_ts;
    out->created_utc_timestamp = info->created_ts >> LOGICAL_BITS;
    out->shards_num = info->shards;
    out->consistency_level = info->consistency_level;
    out->collection_name = asked.len > 0 ? asked : info->name;
    out->properties = info->properties;
    out->db_name = info->db_name;
    out->num_partitions = (int64_t)info->partitions.n;
    out->db_id = 1;
    out->update_timestamp = info->updated_ts;
    out->update_timestamp_str = rk_arena_printf(req->ctx.arena, "%" PRIu64, info->updated_ts);
    return out->update_timestamp_str.data ? RK_OK : rk__fail_memory(req->ctx.err);
}

rk_code
rk__api_describe_collection(rk__req *req, const pb_milvus_DescribeCollectionRequest *in,
                            pb_milvus_DescribeCollectionResponse *out)
{
    if (in->collection_name.len == 0 && in->collectionID != 0) {
        pb_rk_CollectionKey key = {.id = in->collectionID};
        pb_rk_CollectionInfo *info = NULL;
        rk_code code =
            pb_rk_Coordinator_DescribeCollection(req->access->coordinator, &key, &info, &req->ctx);
        if (code == RK_ECOLLECTION_NOT_FOUND) {
            rk_fail(req->ctx.err, code,
                    "can't find collection[database=%s][collection=%" PRId64 "]", RK__DEFAULT_DB,
                    in->collectionID);
            return rk_err_input(req->ctx.err);
        }
        RK_RET(code);
        return describe(req, info, info->name, out);
    }
    const rk__entry *entry = NULL;
    RK_RET(rk__collection_described(req, in->db_name, in->collection_name, &entry));
    return describe(req, entry->info, in->collection_name, out);
}

rk_code
rk__api_has_collection(rk__req *req, const pb_milvus_HasCollectionRequest *in,
                       pb_milvus_BoolResponse *out)
{
    const rk__entry *entry = NULL;
    rk_code code = rk__collection(req, in->db_name, in->collection_name, &entry);

    out->value = code == RK_OK;
    if (code == RK_ECOLLECTION_NOT_FOUND) {
        rk_err_clear(req->ctx.err);
        code = RK_OK;
    }
    return code;
}

static bool
is_loaded(const pb_rk_CollectionInfo *info)
{
    return info->load && info->load->state >= PB_COMMON_LoadState_LoadStateLoading;
}

rk_code
rk__api_show_collections(rk__req *req, const pb_milvus_ShowCollectionsRequest *in,
                         pb_milvus_ShowCollectionsResponse *out)
{
    rk_arena *arena = req->ctx.arena;
    pb_rk_ListCollectionsRequest request = {0};
    pb_rk_ListCollectionsResponse *list = NULL;
    bool in_memory = in->type == PB_MILVUS_ShowType_InMemory;
    size_t n = 0;

    RK_RET(rk__use_db(req, in->db_name));
    request.db_name = req->db;
    RK_RET(pb_rk_Coordinator_ListCollections(req->access->coordinator, &request, &list, &req->ctx));
    size_t max = list->collections.n + 1;
    out->collection_names.data = RK_ARENA_ARRAY(arena, rk_str, max);
    out->collection_ids.data = RK_ARENA_ARRAY(arena, int64_t, max);
    out->created_timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, max);
    out->created_utc_timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, max);
    out->shards_num.data = RK_ARENA_ARRAY(arena, int32_t, max);
    out->inMemory_percentages.data = RK_ARENA_ARRAY(arena, int64_t, max);
    out->query_service_available.data = RK_ARENA_ARRAY(arena, bool, max);
    if (!out->collection_names.data || !out->collection_ids.data || !out->created_timestamps.data ||
        !out->created_utc_timestamps.data || !out->shards_num.data ||
        !out->inMemory_percentages.data || !out->query_service_available.data) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < list->collections.n; i++) {
        const pb_rk_CollectionInfo *info = list->collections.data[i];
        if (in_memory && !is_loaded(info)) {
            continue;
        }
        out->collection_names.data[n] = info->name;
        out->collection_ids.data[n] = info->id;
        out->created_timestamps.data[n] = info->created_ts;
        out->created_utc_timestamps.data[n] = info->created_ts >> LOGICAL_BITS;
        out->shards_num.data[n] = info->shards;
        out->inMemory_percentages.data[n] = info->load ? info->load->progress : 0;
        out->query_service_available.data[n] =
            info->load && info->load->state == PB_COMMON_LoadState_LoadStateLoaded;
        n++;
    }
    out->collection_names.n = out->collection_ids.n = out->created_timestamps.n = n;
    out->created_utc_timestamps.n = out->shards_num.n = n;
    out->inMemory_percentages.n = out->query_service_available.n = in_memory ? n : 0;
    return RK_OK;
}

/* row_count of the collection, as the one pair of a statistics reply. */
static rk_code
row_count(rk__req *req, const rk__entry *entry, pb_common_KeyValuePair_list *stats)
{
    pb_rk_CollectionId id = {.collection_id = entry->info->id};
    pb_rk_StatisticsResponse *reply = NULL;
    rk_str text;

    RK_RET(pb_rk_Coordinator_GetStatistics(req->access->coordinator, &id, &reply, &req->ctx));
    text = rk_arena_printf(req->ctx.arena, "%" PRId64, reply->row_count);
    if (!text.data || rk__kv_add(req->ctx.arena, stats, RK_STR("row_count"), text) != RK_OK) {
        return rk__fail_memory(req->ctx.err);
    }
    return RK_OK;
}

rk_code
rk__api_collection_statistics(rk__req *req, const pb_milvus_GetCollectionStatisticsRequest *in,
                              pb_milvus_GetCollectionStatisticsResponse *out)
{
    const rk__entry *entry = NULL;

    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    return row_count(req, entry, &out->stats);
}

/* ---- partitions: `_default` alone ---- */

rk_code
rk__write_partition(rk__req *req, const rk__entry *entry, rk_str name, int64_t *id)
{
    rk_str wanted = name.len > 0 ? rk_str_trim(name) : RK_STR(RK__PARTITION);

    *id = 0;
    RK_RET(rk__check_partition_name(&req->access->limits, wanted, req->ctx.err));
    for (size_t i = 0; i < entry->info->partitions.n; i++) {
        if (rk_str_eq(entry->info->partitions.data[i]->name, wanted)) {
            *id = entry->info->partitions.data[i]->id;
            return RK_OK;
        }
    }
    rk_fail(req->ctx.err, RK_EPARTITION_NOT_FOUND, "partition not found[partition=%.*s]",
            RK_STR_ARG(wanted));
    return rk_err_input(req->ctx.err);
}

rk_code
rk__read_partitions(const rk__entry *entry, const pb_strs *names, pb_i64s *ids, rk_arena *arena,
                    rk_err *err)
{
    *ids = (pb_i64s){NULL, 0};
    if (names->n == 0) {
        return RK_OK;
    }
    ids->data = RK_ARENA_ARRAY(arena, int64_t, names->n);
    if (!ids->data) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < names->n; i++) {
        bool found = false;
        for (size_t j = 0; j < entry->info->partitions.n && !found; j++) {
            found = rk_str_eq(entry->info->partitions.data[j]->name, names->data[i]);
            if (found) {
                ids->data[ids->n++] = entry->info->partitions.data[j]->id;
            }
        }
        if (!found) {
            return rk_fail_tail(err, RK_EINVAL, "partition name %.*s not found",
                                RK_STR_ARG(names->data[i]));
        }
    }
    return RK_OK;
}

rk_code
rk__api_show_partitions(rk__req *req, const pb_milvus_ShowPartitionsRequest *in,
                        pb_milvus_ShowPartitionsResponse *out)
{
    rk_arena *arena = req->ctx.arena;
    const rk__entry *entry = NULL;

    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    size_t n = entry->info->partitions.n;
    out->partition_names.data = RK_ARENA_ARRAY(arena, rk_str, n + 1);
    out->partitionIDs.data = RK_ARENA_ARRAY(arena, int64_t, n + 1);
    out->created_timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, n + 1);
    out->created_utc_timestamps.data = RK_ARENA_ARRAY(arena, uint64_t, n + 1);
    if (!out->partition_names.data || !out->partitionIDs.data || !out->created_timestamps.data ||
        !out->created_utc_timestamps.data) {
        return rk__fail_memory(req->ctx.err);
    }
    for (size_t i = 0; i < n; i++) {
        const pb_rk_PartitionInfo *p = entry->info->partitions.data[i];
        out->partition_names.data[i] = p->name;
        out->partitionIDs.data[i] = p->id;
        out->created_timestamps.data[i] = p->created_ts;
        out->created_utc_timestamps.data[i] = p->created_ts >> LOGICAL_BITS;
    }
    out->partition_names.n = out->partitionIDs.n = out->created_timestamps.n =
        out->created_utc_timestamps.n = n;
    return RK_OK;
}

rk_code
rk__api_has_partition(rk__req *req, const pb_milvus_HasPartitionRequest *in,
                      pb_milvus_BoolResponse *out)
{
    const rk__entry *entry = NULL;
    rk_str name = rk_str_trim(in->partition_name);

    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    RK_RET(rk__check_partition_name(&req->access->limits, name, req->ctx.err));
    for (size_t i = 0; i < entry->info->partitions.n && !out->value; i++) {
        out->value = rk_str_eq(entry->info->partitions.data[i]->name, name);
    }
    return RK_OK;
}

rk_code
rk__api_partition_statistics(rk__req *req, const pb_milvus_GetPartitionStatisticsRequest *in,
                             pb_milvus_GetPartitionStatisticsResponse *out)
{
    const rk__entry *entry = NULL;
    int64_t id = 0;

    RK_RET(rk__collection(req, in->db_name, in->collection_name, &entry));
    RK_RET(rk__check_partition_name(&req->access->limits, in->partition_name, req->ctx.err));
    RK_RET(rk__write_partition(req, entry, in->partition_name, &id));
    return row_count(req, entry, &out->stats); /* one partition holds all rows */
}
