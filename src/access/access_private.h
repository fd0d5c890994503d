/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/access share with each other and with their unit tests.
 *
 * One internal API: every public RPC is a function rk__api_NAME(request context, public request,
 * public response). gRPC handlers decode into the public structs and call it; REST handlers build
 * the same structs from JSON and call the same function. No handler holds database logic, no API
 * function knows what carried the request.
 *
 * An API function returns RK_OK with |out| filled (its status left NULL: the transport writes it),
 * or a code with the sentence in req->ctx.err; |out| is then ignored. Everything it returns lives
 * in req->ctx.arena.
 */
#ifndef RK_ACCESS_PRIVATE_H
#define RK_ACCESS_PRIVATE_H

#include <inttypes.h>

#include "access/access.h"
#include "base/thread.h"
#include "filter/filter.h"
#include "model/column.h"
#include "proto/internal.service.h"
#include "proto/milvus.pb.h"

#define RK__VERSION                                                                                \
    "v2.6.6" /* what Connect and GetVersion answer: the API level, which SDKs parse */
#define RK__DEFAULT_DB  "default"
#define RK__PARTITION   "_default"
#define RK__ARENAS_KEPT 64u

/* Limits of the public API, read once from the configuration. */
typedef struct rk__limits {
    int64_t name_length;
    int64_t fields;
    int64_t vector_fields;
    int64_t dimension;
    int64_t shards;
    int64_t varchar_length;
    int64_t array_capacity;
    int64_t description;
    int64_t topk;
    int64_t nq;
    int64_t result_window;
    int64_t output_bytes;
    int64_t index_params_bytes;
    int64_t json_bytes;
    int64_t graceful_ms;
    int64_t receive_bytes;
    int64_t rest_timeout_ms;
    int64_t lag_max_ms;
    bool allow_int64;
} rk__limits;

void rk__limits_read(rk__limits *limits, const rk_config *config);

/* ---- catalogue cache ---- */

/* A collection as of one catalogue revision. Immutable after publish, reference counted. */
typedef struct rk__entry {
    _Atomic(uint32_t) refs;
    uint64_t hash;              /* of db and name */
    _Atomic(uint64_t) revision; /* of the catalogue, read before the entry was fetched; UINT64_MAX:
                                   stale. Relaxed */
    rk_str db;                  /* these three live in |arena| */
    rk_str name;
    pb_rk_CollectionInfo *info;
    rk_schema *schema; /* one reference */
    rk_arena *arena;   /* owned */
} rk__entry;

#define RK__CATALOG_SLOTS 4096u

typedef struct rk__catalog {
    rk_rwlock lock;
    rk__entry **slots; /* RK__CATALOG_SLOTS, open addressing by rk__entry.hash, at most half full */
    size_t used;
} rk__catalog;

RK_MUST_CHECK rk_code rk__catalog_init(rk__catalog *catalog);
void rk__catalog_deinit(rk__catalog *catalog);
void rk__entry_unref(rk__entry *entry);

/* ---- requests ---- */

typedef struct rk__req {
    rk_ctx ctx;
    rk_access *access;
    rk_str db; /* from the header; the database in force once rk__use_db() has run */
} rk__req;

typedef rk_code (*rk__api_fn)(rk__req *req, const void *in, void *out);

struct rk_access {
    const rk_env *env;
    const rk_config *config;
    rk_mem *mem;
    rk_service *coordinator;
    rk_service *streaming;
    rk_pool *search_pool; /* Search and Query */
    rk_pool *write_pool;  /* all else: may wait for disk or another role */
    rk_rpc_server *server;
    rk_rpc_server *health;
    rk__limits limits;
    rk__catalog catalog;
    uint16_t *grpc_table; /* method name hash -> method index + 1; immutable after start */
    _Atomic(bool) draining;

    rk_mutex arenas_lock; /* guards the two below */
    rk_arena *arenas[RK__ARENAS_KEPT];
    size_t arenas_len;

    struct rk__meters *meters; /* owned; see meters.c */
};

/* Everything but pools and listeners: what a unit test needs. On failure |*out| is what was made so
 * far (or NULL). */
RK_MUST_CHECK rk_code rk__access_new(rk_access **out, const rk_access_options *options);

/* Arenas are kept between requests: most fit their first block. Any thread. NULL when memory is
 * out. */
rk_arena *rk__arena_take(rk_access *access);
void rk__arena_give(rk_access *access, rk_arena *arena);

/* ---- dispatch ---- */

void rk__on_grpc(void *user, rk_call *call);
void rk__on_http(void *user, rk_call *call);
void rk__on_health(void *user, rk_call *call);
RK_MUST_CHECK rk_code rk__grpc_init(rk_access *access);
bool rk__grpc_has(uint32_t method); /* index of a method of MilvusService: answered by this build */

/* Writes field 1..6 of common.Status for |err|; nothing for success. */
void rk__status_write(rk_buf *out, rk_code code, const rk_err *err);
/* Answers a gRPC call whose reply carries a Status in |status_field| (0: the reply is a Status
 * itself). */
void rk__grpc_reply_error(rk_call *call, uint32_t status_field, rk_code code, const rk_err *err);

/* Hands |run| to the pool together with a call. Answers the call itself when that fails. */
typedef struct rk__job {
    rk_access *access;
    rk_call *call;
    rk_arena *arena;
    uint64_t reserved_bytes; /* of access->mem */
    int64_t started_ns;
    uint32_t method; /* gRPC method index, or REST route index */
    void (*run)(struct rk__job *job);
} rk__job;
RK_MUST_CHECK rk_code rk__job_start(rk_access *access, rk_call *call, rk_pool *pool,
                                    uint32_t method, void (*run)(rk__job *job), rk_err *err);
void rk__job_end(rk__job *job);

/* ---- metrics ---- */

RK_MUST_CHECK rk_code rk__meters_init(rk_access *access);
void rk__meters_free(rk_access *access);
/* One call of a gRPC method (or of the REST route that stands for it) has ended. */
void rk__meter_call(const rk_access *access, uint32_t method, rk_code code, int64_t started_ns);
void rk__meter_refused(const rk_access *access);
typedef enum rk__meter_rows_kind {
    RK__ROWS_INSERTED,
    RK__ROWS_UPSERTED,
    RK__ROWS_DELETED
} rk__meter_rows_kind;
void rk__meter_rows(const rk__entry *entry, rk__meter_rows_kind kind, uint64_t rows);

/* ---- helpers of the API functions ---- */

/* "<message>: invalid parameter[expected=E][actual=A]" */
rk_code rk__fail_expected(rk_err *err, const char *expected, const char *actual, const char *fmt,
                          ...) RK_PRINTF(4, 5);
/* Code 10, "<what> is not built in yet: service unimplemented". */
rk_code rk__fail_unbuilt(rk_err *err, const char *what);
rk_code rk__fail_memory(rk_err *err);

/* Chooses the database: the request's, else the header's, else default. 800 when there is no such
 * database. */
RK_MUST_CHECK rk_code rk__use_db(rk__req *req, rk_str db);
/* Database, name rules and the catalogue in one. The entry stays valid until the request's arena is
 * reset. */
RK_MUST_CHECK rk_code rk__collection(rk__req *req, rk_str db, rk_str name, const rk__entry **out);
/* The same with the text of DescribeCollection ("can't find collection"). */
RK_MUST_CHECK rk_code rk__collection_described(rk__req *req, rk_str db, rk_str name,
                                               const rk__entry **out);
/* True when |code| tells that the cached entry may be out of date; forgets the entry and the error.
 */
bool rk__collection_stale(rk__req *req, const rk__entry *entry, rk_code code);

RK_MUST_CHECK rk_code rk__check_collection_name(const rk__limits *limits, rk_str name, rk_err *err);
RK_MUST_CHECK rk_code rk__check_field_name(const rk__limits *limits, rk_str name, rk_err *err);
RK_MUST_CHECK rk_code rk__check_index_name(const rk__limits *limits, rk_str name, rk_err *err);
RK_MUST_CHECK rk_code rk__check_partition_name(const rk__limits *limits, rk_str name, rk_err *err);
/* Checks a whole CreateCollection; |*schema| is the schema to store (name set, nothing added). */
RK_MUST_CHECK rk_code rk__check_create(rk__req *req, const pb_milvus_CreateCollectionRequest *in,
                                       pb_schema_CollectionSchema **schema);
/* True when |have| is what |want| would have made. */
bool rk__same_collection(rk__req *req, const pb_rk_CollectionInfo *have,
                         const pb_rk_CreateCollectionRequest *want);

rk_str rk__kv_get(const pb_common_KeyValuePair_list *list, const char *key); /* {NULL, 0}: absent */
RK_MUST_CHECK rk_code rk__kv_add(rk_arena *arena, pb_common_KeyValuePair_list *list, rk_str key,
                                 rk_str value);
bool rk__kv_same_set(const pb_common_KeyValuePair_list *a, const pb_common_KeyValuePair_list *b);

/* A partition name in a read: RK_EINVAL "partition name P not found" for any but those of the
 * collection. */
RK_MUST_CHECK rk_code rk__read_partitions(const rk__entry *entry, const pb_strs *names,
                                          pb_i64s *ids, rk_arena *arena, rk_err *err);
/* In a write: empty or `_default`; 200 otherwise. */
RK_MUST_CHECK rk_code rk__write_partition(rk__req *req, const rk__entry *entry, rk_str name,
                                          int64_t *id);

/* What a read must see. |iterator|: read exactly at the given timestamp when it is one. */
typedef struct rk__consistency {
    bool use_default;
    int32_t level;
    uint64_t guarantee_ts;
    bool iterator;
    bool ignore_growing;
} rk__consistency;
RK_MUST_CHECK rk_code rk__read_scope(rk__req *req, const rk__entry *entry,
                                     const rk__consistency *want, pb_rk_ReadScope *scope);
/* What the streaming node's refusal |code| of a read becomes: |what| goes before it, or why loading
 * does not end goes after it. Returns |code|. */
rk_code rk__read_refused(rk__req *req, const rk__entry *entry, rk_code code, const char *what);
RK_MUST_CHECK rk_code rk__timestamp(rk__req *req, uint64_t *out); /* a fresh hybrid timestamp */
int64_t rk__wall_ms(const rk__req *req);

/* Adds one template value to a predicate with room for |max|. */
RK_MUST_CHECK rk_code rk__predicate_add(pb_rk_Predicate *predicate, size_t max, rk_str name,
                                        pb_schema_TemplateValue *value, rk_arena *arena);

/* Output fields as asked, resolved. */
typedef struct rk__outputs {
    const rk_field **fields; /* to fetch and to return, in order */
    size_t fields_len;
    pb_strs names;        /* output_fields of the reply */
    pb_strs dynamic_keys; /* n > 0: $meta is cut down to these keys */
    bool count;           /* count(*) alone */
} rk__outputs;
RK_MUST_CHECK rk_code rk__outputs_resolve(rk__outputs *out, const pb_strs *asked,
                                          const rk_schema *schema, bool query, rk_arena *arena,
                                          rk_err *err);
pb_i64s rk__outputs_ids(const rk__outputs *outputs, rk_arena *arena);
/* Completes columns of a reply: names, ids, types, empty ones for those absent, $meta cut down to
 * the keys asked for. */
RK_MUST_CHECK rk_code rk__outputs_finish(const rk__outputs *outputs,
                                         const pb_schema_FieldData_list *have, size_t rows,
                                         pb_schema_FieldData_list *fields, rk_arena *arena,
                                         rk_err *err);

/* Columns for an append. */
typedef struct rk__columns {
    pb_schema_FieldData **data; /* one per schema field, in schema order */
    size_t rows;
    pb_schema_IDs *ids; /* primary keys in row order */
} rk__columns;
/* Checks and completes the columns of an insert. |keep_keys|: an autoID key that was sent is kept.
 */
RK_MUST_CHECK rk_code rk__columns_make(rk__columns *out, rk__req *req, const rk__entry *entry,
                                       const pb_schema_FieldData_list *sent, uint32_t rows,
                                       bool keep_keys);
RK_MUST_CHECK rk_code rk__generate_keys(rk__req *req, const rk_field *primary, size_t rows,
                                        pb_schema_FieldData **out);
RK_MUST_CHECK rk_code rk__ids_of(const pb_schema_FieldData *data, const rk_field *primary,
                                 pb_schema_IDs **out, rk_arena *arena, rk_err *err);
/* Sends inserts (may be NULL) and deletes (may be NULL) as one append. */
RK_MUST_CHECK rk_code rk__append(rk__req *req, const rk__entry *entry, const rk__columns *inserts,
                                 const pb_schema_IDs *deletes, int64_t partition_id,
                                 uint64_t *timestamp);
pb_schema_IDs *rk__ids_pick(const pb_schema_IDs *ids, const uint32_t *picks, size_t n,
                            rk_arena *arena);

/* ---- the API ---- */

#define RK__API(name, in_type, out_type)                                                           \
    RK_MUST_CHECK rk_code rk__api_##name(rk__req *req, const in_type *in, out_type *out)

RK__API(connect, pb_milvus_ConnectRequest, pb_milvus_ConnectResponse);
RK__API(get_version, pb_milvus_GetVersionRequest, pb_milvus_GetVersionResponse);
RK__API(check_health, pb_milvus_CheckHealthRequest, pb_milvus_CheckHealthResponse);
RK__API(alloc_timestamp, pb_milvus_AllocTimestampRequest, pb_milvus_AllocTimestampResponse);
RK__API(component_states, pb_milvus_GetComponentStatesRequest, pb_milvus_ComponentStates);
RK__API(heartbeat, pb_milvus_ClientHeartbeatRequest, pb_milvus_ClientHeartbeatResponse);
RK__API(list_databases, pb_milvus_ListDatabasesRequest, pb_milvus_ListDatabasesResponse);
RK__API(describe_database, pb_milvus_DescribeDatabaseRequest, pb_milvus_DescribeDatabaseResponse);

RK__API(create_collection, pb_milvus_CreateCollectionRequest, pb_common_Status);
RK__API(drop_collection, pb_milvus_DropCollectionRequest, pb_common_Status);
RK__API(describe_collection, pb_milvus_DescribeCollectionRequest,
        pb_milvus_DescribeCollectionResponse);
RK__API(has_collection, pb_milvus_HasCollectionRequest, pb_milvus_BoolResponse);
RK__API(show_collections, pb_milvus_ShowCollectionsRequest, pb_milvus_ShowCollectionsResponse);
RK__API(collection_statistics, pb_milvus_GetCollectionStatisticsRequest,
        pb_milvus_GetCollectionStatisticsResponse);
RK__API(show_partitions, pb_milvus_ShowPartitionsRequest, pb_milvus_ShowPartitionsResponse);
RK__API(has_partition, pb_milvus_HasPartitionRequest, pb_milvus_BoolResponse);
RK__API(partition_statistics, pb_milvus_GetPartitionStatisticsRequest,
        pb_milvus_GetPartitionStatisticsResponse);

RK__API(create_index, pb_milvus_CreateIndexRequest, pb_common_Status);
RK__API(drop_index, pb_milvus_DropIndexRequest, pb_common_Status);
RK__API(describe_index, pb_milvus_DescribeIndexRequest, pb_milvus_DescribeIndexResponse);
RK__API(index_statistics, pb_milvus_GetIndexStatisticsRequest,
        pb_milvus_GetIndexStatisticsResponse);
RK__API(index_state, pb_milvus_GetIndexStateRequest, pb_milvus_GetIndexStateResponse);
RK__API(index_progress, pb_milvus_GetIndexBuildProgressRequest,
        pb_milvus_GetIndexBuildProgressResponse);

RK__API(load_collection, pb_milvus_LoadCollectionRequest, pb_common_Status);
RK__API(release_collection, pb_milvus_ReleaseCollectionRequest, pb_common_Status);
RK__API(loading_progress, pb_milvus_GetLoadingProgressRequest,
        pb_milvus_GetLoadingProgressResponse);
RK__API(load_state, pb_milvus_GetLoadStateRequest, pb_milvus_GetLoadStateResponse);

RK__API(insert, pb_milvus_InsertRequest, pb_milvus_MutationResult);
RK__API(upsert, pb_milvus_UpsertRequest, pb_milvus_MutationResult);
RK__API(delete, pb_milvus_DeleteRequest, pb_milvus_MutationResult);
RK__API(search, pb_milvus_SearchRequest, pb_milvus_SearchResults);
RK__API(query, pb_milvus_QueryRequest, pb_milvus_QueryResults);
RK__API(flush, pb_milvus_FlushRequest, pb_milvus_FlushResponse);
RK__API(flush_state, pb_milvus_GetFlushStateRequest, pb_milvus_GetFlushStateResponse);

#endif
