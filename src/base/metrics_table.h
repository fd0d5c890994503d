/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every metric, once: X(id, name, kind, labels, help).
 *
 * Kinds: COUNTER, GAUGE, HISTOGRAM (milliseconds unless the name says otherwise). Labels are a
 * comma-separated list of at most four names; a series is one set of values for them. Names are
 * those that the dashboards of the ecosystem draw; ours start with redkite_.
 */
#ifndef RK_BASE_METRICS_TABLE_H
#define RK_BASE_METRICS_TABLE_H

#define RK_METRICS_PROXY(X)                                                                        \
    X(PROXY_RECEIVED_NQ, "milvus_proxy_received_nq", COUNTER,                                      \
      "node_id,query_type,db_name,collection_name", "query vectors received")                      \
    X(PROXY_SEARCH_VECTORS, "milvus_proxy_search_vectors_count", COUNTER,                          \
      "node_id,query_type,db_name,collection_name", "query vectors searched")                      \
    X(PROXY_INSERT_VECTORS, "milvus_proxy_insert_vectors_count", COUNTER,                          \
      "node_id,db_name,collection_name", "rows inserted")                                          \
    X(PROXY_UPSERT_VECTORS, "milvus_proxy_upsert_vectors_count", COUNTER,                          \
      "node_id,db_name,collection_name", "rows upserted")                                          \
    X(PROXY_DELETE_VECTORS, "milvus_proxy_delete_vectors_count", COUNTER,                          \
      "node_id,db_name,collection_name", "rows deleted")                                           \
    X(PROXY_SQ_LATENCY, "milvus_proxy_sq_latency", HISTOGRAM, "node_id,query_type",                \
      "time of a search or query")                                                                 \
    X(PROXY_COLLECTION_SQ_LATENCY, "milvus_proxy_collection_sq_latency", HISTOGRAM,                \
      "node_id,query_type,db_name,collection_name", "time of a search or query, by collection")    \
    X(PROXY_MUTATION_LATENCY, "milvus_proxy_mutation_latency", HISTOGRAM, "node_id,msg_type",      \
      "time of a write")                                                                           \
    X(PROXY_COLLECTION_MUTATION_LATENCY, "milvus_proxy_collection_mutation_latency", HISTOGRAM,    \
      "node_id,msg_type,db_name,collection_name", "time of a write, by collection")                \
    X(PROXY_SQ_WAIT, "milvus_proxy_sq_wait_result_latency", HISTOGRAM, "node_id,query_type",       \
      "time until the results of all shards were there")                                           \
    X(PROXY_SQ_REDUCE, "milvus_proxy_sq_reduce_result_latency", HISTOGRAM, "node_id,query_type",   \
      "time to merge results")                                                                     \
    X(PROXY_SQ_DECODE, "milvus_proxy_sq_decode_result_latency", HISTOGRAM, "node_id,query_type",   \
      "time to decode results")                                                                    \
    X(PROXY_CACHE_HIT, "milvus_proxy_cache_hit_count", COUNTER, "node_id,cache_name,cache_state",  \
      "look-ups in the schema cache")                                                              \
    X(PROXY_REQ_COUNT, "milvus_proxy_req_count", COUNTER, "node_id,function_name,status,db_name",  \
      "requests")                                                                                  \
    X(PROXY_REQ_LATENCY, "milvus_proxy_req_latency", HISTOGRAM, "node_id,function_name",           \
      "time of a request")                                                                         \
    X(PROXY_REQ_QUEUE_LATENCY, "milvus_proxy_req_in_queue_latency", HISTOGRAM,                     \
      "node_id,function_name", "time a request waited for a thread")                               \
    X(PROXY_RECEIVE_BYTES, "milvus_proxy_receive_bytes_count", COUNTER, "node_id,msg_type",        \
      "bytes of requests")                                                                         \
    X(PROXY_SEND_BYTES, "milvus_proxy_send_bytes_count", COUNTER, "node_id", "bytes of replies")   \
    X(PROXY_REST_REQ, "milvus_proxy_restful_api_req_count", COUNTER, "node_id,http_method,path",   \
      "REST requests")                                                                             \
    X(PROXY_LIMITER_RATE, "milvus_proxy_limiter_rate", GAUGE, "node_id,collection_id,msg_type",    \
      "rates in force")                                                                            \
    X(PROXY_RATE_LIMITED, "milvus_proxy_rate_limit_req_count", COUNTER, "node_id,msg_type,status", \
      "requests seen by the limiter")                                                              \
    X(PROXY_SLOW_QUERY, "milvus_proxy_slow_query_count", COUNTER, "node_id,query_type",            \
      "searches and queries slower than proxy.slowQuerySpanInSeconds")                             \
    X(PROXY_TT_LAG, "milvus_proxy_tt_lag_ms", GAUGE, "node_id,channel_name", "lag of a channel")   \
    X(PROXY_USER_RPC, "milvus_proxy_user_rpc_count", COUNTER, "username", "requests of a user")    \
    X(PROXY_EXECUTING_NQ, "milvus_proxy_executing_total_nq", GAUGE, "node_id,query_type",          \
      "query vectors being searched")                                                              \
    X(PROXY_CONNECTIONS, "redkite_connections", GAUGE, "protocol", "open connections")             \
    X(PROXY_SDK, "redkite_clients", GAUGE, "sdk_type,sdk_version", "registered SDK clients")

#define RK_METRICS_COORD(X)                                                                        \
    X(ROOT_COLLECTIONS, "milvus_rootcoord_collection_num", GAUGE, "db_name", "collections")        \
    X(ROOT_PARTITIONS, "milvus_rootcoord_partition_num", GAUGE, "", "partitions")                  \
    X(ROOT_ENTITIES, "milvus_rootcoord_entity_num", GAUGE, "collection_name,status",               \
      "rows of a collection")                                                                      \
    X(ROOT_INDEXED, "milvus_rootcoord_indexed_entity_num", GAUGE, "collection_name,index_name",    \
      "indexed rows of a collection")                                                              \
    X(ROOT_CREDENTIALS, "milvus_rootcoord_credential_num", GAUGE, "", "users")                     \
    X(ROOT_ROLES, "milvus_rootcoord_num_of_roles", GAUGE, "", "roles")                             \
    X(ROOT_DDL_COUNT, "milvus_rootcoord_ddl_req_count", COUNTER, "function_name,status",           \
      "schema requests")                                                                           \
    X(ROOT_DDL_LATENCY, "milvus_rootcoord_ddl_req_latency", HISTOGRAM, "function_name",            \
      "time of a schema request")                                                                  \
    X(ROOT_TIMESTAMP, "milvus_rootcoord_timestamp", GAUGE, "", "last timestamp given, in ms")      \
    X(ROOT_ID_ALLOC, "milvus_rootcoord_id_alloc_count", COUNTER, "", "ids given")                  \
    X(DATA_SEGMENTS, "milvus_datacoord_segment_num", GAUGE, "segment_state", "segments")           \
    X(DATA_STORED_SIZE, "milvus_datacoord_stored_binlog_size", GAUGE, "db_name,collection_name",   \
      "bytes of sealed data")                                                                      \
    X(DATA_STORED_ROWS, "milvus_datacoord_stored_rows_num", GAUGE, "db_name,collection_name",      \
      "rows in sealed segments")                                                                   \
    X(DATA_INDEX_SIZE, "milvus_datacoord_stored_index_files_size", GAUGE,                          \
      "db_name,collection_name", "bytes of index files")                                           \
    X(DATA_INDEX_TASKS, "milvus_datacoord_index_task_count", GAUGE, "index_task_status",           \
      "index builds by state")                                                                     \
    X(DATA_COMPACTIONS, "milvus_datacoord_compaction_task_num", GAUGE, "compaction_type,status",   \
      "compactions by state")                                                                      \
    X(DATA_COMPACTION_LATENCY, "milvus_datacoord_compaction_latency", HISTOGRAM,                   \
      "compaction_type", "time of a compaction")                                                   \
    X(DATA_IMPORTS, "milvus_datacoord_import_tasks", GAUGE, "import_state", "imports by state")    \
    X(QUERY_COORD_COLLECTIONS, "milvus_querycoord_collection_num", GAUGE, "",                      \
      "loaded collections")                                                                        \
    X(QUERY_COORD_LOAD_COUNT, "milvus_querycoord_load_req_count", COUNTER, "status",               \
      "load requests")                                                                             \
    X(QUERY_COORD_RELEASE_COUNT, "milvus_querycoord_release_req_count", COUNTER, "status",         \
      "release requests")                                                                          \
    X(QUERY_COORD_LOAD_LATENCY, "milvus_querycoord_load_latency", HISTOGRAM, "", "time of a load")

#define RK_METRICS_WORKER(X)                                                                       \
    X(QN_SEGMENTS, "milvus_querynode_segment_num", GAUGE,                                          \
      "node_id,db_name,collection_name,segment_state", "loaded segments")                          \
    X(QN_ENTITIES, "milvus_querynode_entity_num", GAUGE,                                           \
      "node_id,db_name,collection_name,segment_state", "loaded rows")                              \
    X(QN_ENTITY_SIZE, "milvus_querynode_entity_size", GAUGE,                                       \
      "node_id,db_name,collection_name,segment_state", "bytes of loaded rows")                     \
    X(QN_SQ_COUNT, "milvus_querynode_sq_req_count", COUNTER, "node_id,query_type,status",          \
      "searches and queries on segments")                                                          \
    X(QN_SQ_LATENCY, "milvus_querynode_sq_req_latency", HISTOGRAM, "node_id,query_type",           \
      "time of a search or query on all segments")                                                 \
    X(QN_SQ_QUEUE, "milvus_querynode_sq_queue_latency", HISTOGRAM, "node_id,query_type",           \
      "time it waited for a thread")                                                               \
    X(QN_SEGMENT_LATENCY, "milvus_querynode_sq_segment_latency", HISTOGRAM,                        \
      "node_id,query_type,segment_state", "time on one segment")                                   \
    X(QN_SEARCH_NQ, "milvus_querynode_search_nq", HISTOGRAM, "node_id", "query vectors, a count")  \
    X(QN_SEARCH_TOPK, "milvus_querynode_search_topk", HISTOGRAM, "node_id", "topk, a count")       \
    X(QN_LOAD_LATENCY, "milvus_querynode_load_segment_latency", HISTOGRAM, "node_id",              \
      "time to load a segment")                                                                    \
    X(QN_WAIT_READ_TS, "milvus_querynode_sq_wait_tsafe_latency", HISTOGRAM, "node_id,query_type",  \
      "time a read waited for its timestamp")                                                      \
    X(QN_KEPT_FILTERS, "redkite_kept_filter_lookups", COUNTER, "state",                            \
      "filters looked up among the kept ones: hit, miss")                                          \
    X(QN_KEPT_FILTER_BYTES, "redkite_kept_filter_bytes", GAUGE, "", "memory of kept filters")      \
    X(DAMAGED_FILES, "redkite_damaged_files_total", COUNTER, "kind",                               \
      "files found damaged as they were opened or read: column, index")                            \
    X(QN_LOADED_SIZE, "milvus_querynode_loaded_size_bytes", GAUGE, "node_id", "bytes loaded")      \
    X(DN_FLUSH_COUNT, "milvus_datanode_flush_req_count", COUNTER, "node_id,status", "flushes")     \
    X(DN_FLUSHED_SIZE, "milvus_datanode_flushed_data_size", COUNTER, "node_id,msg_type",           \
      "bytes flushed")                                                                             \
    X(DN_FLUSHED_ROWS, "milvus_datanode_flushed_data_rows", COUNTER, "node_id", "rows flushed")    \
    X(DN_COMPACTION_LATENCY, "milvus_datanode_compaction_latency", HISTOGRAM, "node_id",           \
      "time of a compaction")                                                                      \
    X(DN_BUILD_LATENCY, "milvus_datanode_build_index_latency", HISTOGRAM, "node_id,index_type",    \
      "time to build an index")                                                                    \
    X(SN_APPEND_COUNT, "milvus_wal_append_message_total", COUNTER, "status,channel_name",          \
      "records appended to the log")                                                               \
    X(SN_APPEND_BYTES, "milvus_wal_append_message_bytes", COUNTER, "channel_name",                 \
      "bytes appended to the log")                                                                 \
    X(SN_APPEND_LATENCY, "milvus_wal_append_message_duration_ms", HISTOGRAM, "",                   \
      "time of an append")                                                                         \
    X(SN_SYNC_LATENCY, "redkite_wal_sync_ms", HISTOGRAM, "", "time of a sync of the log")          \
    X(SN_LOG_BYTES, "redkite_wal_bytes", GAUGE, "", "bytes of the log on disk")

#define RK_METRICS_PROCESS(X)                                                                      \
    X(NODES, "milvus_num_node", GAUGE, "role_name", "nodes of a role")                             \
    X(BUILD_INFO, "milvus_build_info", GAUGE, "version,built,git_commit", "always 1")              \
    X(RUNTIME_INFO, "milvus_runtime_info", GAUGE, "deploy_mode,mq_type", "always 1")               \
    X(MEMORY_USED, "redkite_memory_bytes", GAUGE, "budget", "bytes charged to a memory budget")    \
    X(MEMORY_LIMIT, "redkite_memory_limit_bytes", GAUGE, "budget", "limit of a memory budget")     \
    X(DISK_FREE, "redkite_disk_free_bytes", GAUGE, "", "free bytes below localStorage.path")       \
    X(POOL_QUEUE, "redkite_pool_queue_len", GAUGE, "pool", "tasks that wait for a thread")         \
    X(LOG_LINES, "redkite_log_lines_total", COUNTER, "level", "lines logged")

#define RK_METRICS_TABLE(X)                                                                        \
    RK_METRICS_PROXY(X)                                                                            \
    RK_METRICS_COORD(X)                                                                            \
    RK_METRICS_WORKER(X)                                                                           \
    RK_METRICS_PROCESS(X)

#endif
