/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every setting, once: code, parsing, limits and docs/configuration.md all come from this table.
 *
 * X(id, key, type, default, min, max, flags, help)
 *   type   TEXT, LIST (comma separated), SECRET (never printed), CHOICE (help starts with
 *          "a|b|c: "), BOOL, INT, FLOAT, SIZE (bytes; "512MiB", "8G" are accepted), DURATION (kept
 *          in ms; a bare number counts in the unit the key had before: see the flags)
 *   min, max  of INT, FLOAT, SIZE (bytes) and DURATION (ms); both 0: no bounds
 *   flags  R  may be changed while the server runs
 *          N  accepted because configurations in the field carry it; has no effect here
 *          S  DURATION: a bare number is seconds (otherwise milliseconds)
 *          M  SIZE: a bare number is MiB (otherwise bytes)
 * Keys are those of milvus.yaml; ours start with "redkite.". They compare without case, "_" and
 * ".".
 */
#ifndef RK_BASE_CONFIG_TABLE_H
#define RK_BASE_CONFIG_TABLE_H

#define RK_CONFIG_SERVER(X)                                                                        \
    X(PROXY_IP, "proxy.ip", TEXT, "", 0, 0, 0, "Address to listen on. Empty: loopback only.")      \
    X(PROXY_PORT, "proxy.port", INT, "19530", 0, 65535, 0,                                         \
      "Port of gRPC and REST. 0 picks a free one.")                                                \
    X(PROXY_INTERNAL_PORT, "proxy.internalPort", INT, "19529", 0, 65535, N,                        \
      "Port between roles of a cluster.")                                                          \
    X(METRICS_IP, "metrics.ip", TEXT, "127.0.0.1", 0, 0, 0,                                        \
      "Address of the metrics and management port.")                                               \
    X(METRICS_PORT, "metrics.port", INT, "9091", 0, 65535, 0,                                      \
      "Port of health, metrics and management. 0 switches it off.")                                \
    X(PROXY_HTTP_ENABLED, "proxy.http.enabled", BOOL, "true", 0, 0, 0, "Serve the REST API.")      \
    X(PROXY_HTTP_PORT, "proxy.http.port", INT, "0", 0, 65535, N,                                   \
      "A port of its own for REST. 0 or empty: shares proxy.port.")                                \
    X(PROXY_HTTP_INT64, "proxy.http.acceptTypeAllowInt64", BOOL, "true", 0, 0, R,                  \
      "REST replies carry 64-bit integers as numbers; false: as strings.")                         \
    X(PROXY_HTTP_TIMEOUT, "proxy.http.requestTimeoutMs", INT, "30000", 1, 86400000, R,             \
      "Longest time a REST request may take, in ms.")                                              \
    X(PROXY_HTTP_BUDGET, "proxy.http.overallTimeoutBudget", DURATION, "120s", 1, 86400000, N,      \
      "Longest time a client may ask for.")                                                        \
    X(PROXY_HTTP_HEADER_TIMEOUT, "proxy.http.readHeaderTimeout", DURATION, "5s", 0, 3600000, N,    \
      "Longest time to receive the head of a request.")                                            \
    X(PROXY_HTTP_READ_TIMEOUT, "proxy.http.readTimeout", DURATION, "0s", 0, 86400000, N,           \
      "Longest time to receive a request. 0: no limit of its own.")                                \
    X(PROXY_HTTP_WRITE_TIMEOUT, "proxy.http.writeTimeout", DURATION, "0s", 0, 86400000, N,         \
      "Longest time to send a reply. 0: no limit of its own.")                                     \
    X(PROXY_HTTP_IDLE_TIMEOUT, "proxy.http.idleTimeout", DURATION, "300s", 0, 86400000, N,         \
      "A REST connection without requests is closed after this time.")                             \
    X(PROXY_HTTP_HEADER_MAX, "proxy.http.maxHeaderBytes", SIZE, "16777216", 4096, 67108864, N,     \
      "Longest head of a request.")                                                                \
    X(PROXY_HTTP_V1, "proxy.http.enableV1", BOOL, "true", 0, 0, N, "Serve the old REST API v1.")   \
    X(PROXY_HTTP_WEBUI, "proxy.http.enableWebUI", BOOL, "true", 0, 0, N,                           \
      "Serve the console on the metrics port.")                                                    \
    X(PROXY_HTTP_PPROF, "proxy.http.enablePprof", BOOL, "true", 0, 0, N, "Profiles.")              \
    X(PROXY_HTTP_HSTS, "proxy.http.enableHSTS", BOOL, "false", 0, 0, N,                            \
      "Send Strict-Transport-Security on TLS connections.")                                        \
    X(PROXY_HTTP_HSTS_AGE, "proxy.http.hstsMaxAge", INT, "31536000", 0, 3155760000, N,             \
      "max-age of that header, in seconds.")                                                       \
    X(PROXY_HTTP_HSTS_SUB, "proxy.http.hstsIncludeSubDomains", BOOL, "false", 0, 0, N,             \
      "includeSubDomains of that header.")                                                         \
    X(PROXY_HTTP_DEBUG, "proxy.http.debug_mode", BOOL, "false", 0, 0, N, "Log of REST requests.")  \
    X(PROXY_HTTP_ADMISSION, "proxy.http.dqlAdmissionEnabled", BOOL, "true", 0, 0, N,               \
      "REST searches wait in the same bounded queue as gRPC ones.")                                \
    X(PROXY_HTTP_NATIVE_JSON, "proxy.http.nativeJSONResponse", BOOL, "true", 0, 0, N,              \
      "JSON fields are JSON in REST replies; false: text.")                                        \
    X(PROXY_HTTP_LEGACY_ARRAY, "proxy.http.legacyArrayResponse", BOOL, "false", 0, 0, N,           \
      "Array fields in REST replies in the form of 2.x.")                                          \
    X(PROXY_HTTP_COMPAT, "proxy.http.compatibilityMode", BOOL, "false", 0, 0, N,                   \
      "REST replies in the form of 2.x where they differ.")                                        \
    X(PROXY_HTTP_PARAM_DEPTH, "proxy.http.maxExprParamsDepth", INT, "100", 1, 1024, N,             \
      "Deepest nesting of exprParams.")                                                            \
    X(GRPC_RECV_MAX, "proxy.grpc.serverMaxRecvSize", SIZE, "268435456", 4096, 1073741824, 0,       \
      "Largest request message.")                                                                  \
    X(GRPC_SEND_MAX, "proxy.grpc.serverMaxSendSize", SIZE, "268435456", 4096, 1073741824, N,       \
      "Largest reply message.")                                                                    \
    X(GRPC_CLIENT_RECV_MAX, "proxy.grpc.clientMaxRecvSize", SIZE, "67108864", 0, 1073741824, N,    \
      "Largest reply between roles.")                                                              \
    X(GRPC_CLIENT_SEND_MAX, "proxy.grpc.clientMaxSendSize", SIZE, "268435456", 0, 1073741824, N,   \
      "Largest request between roles.")                                                            \
    X(PROXY_MAX_CONNECTIONS, "proxy.maxConnectionNum", INT, "10000", 1, 1000000, R,                \
      "Open connections in all.")

#define RK_CONFIG_SECURITY(X)                                                                      \
    X(TLS_MODE, "common.security.tlsMode", INT, "0", 0, 2, 0,                                      \
      "0: plain text; 1: TLS with a server certificate; 2: clients must show one too. The tls. "   \
      "settings name the files, relative ones from the folder the server is started in; keys "     \
      "have no passphrase.")                                                                       \
    X(TLS_CERT, "tls.serverPemPath", TEXT, "configs/cert/server.pem", 0, 0, 0,                     \
      "Certificate chain of the server (PEM).")                                                    \
    X(TLS_KEY, "tls.serverKeyPath", TEXT, "configs/cert/server.key", 0, 0, 0,                      \
      "Private key of the server (PEM).")                                                          \
    X(TLS_CA, "tls.caPemPath", TEXT, "configs/cert/ca.pem", 0, 0, 0,                               \
      "Certificate authorities that client certificates must come from (tlsMode 2).")              \
    X(INTERNAL_TLS, "common.security.internaltlsEnabled", BOOL, "false", 0, 0, N,                  \
      "TLS between roles.")                                                                        \
    X(AUTH_ENABLED, "common.security.authorizationEnabled", BOOL, "false", 0, 0, 0,                \
      "Ask for a user and password, or an API key, on every request.")                             \
    X(SUPER_USERS, "common.security.superUsers", LIST, "", 0, 0, N,                                \
      "Users who may change passwords without knowing the old one.")                               \
    X(ROOT_PASSWORD, "common.security.defaultRootPassword", SECRET, "Milvus", 0, 0, N,             \
      "Password of root when the server starts for the first time.")                               \
    X(ROOT_BIND_ROLE, "common.security.rootShouldBindRole", BOOL, "false", 0, 0, N,                \
      "root has only the rights of its roles.")                                                    \
    X(PUBLIC_PRIVILEGE, "common.security.enablePublicPrivilege", BOOL, "true", 0, 0, N,            \
      "Every user has the role public.")                                                           \
    X(EXPR_ENABLED, "common.security.exprEnabled", BOOL, "false", 0, 0, N, "Internal inspection.") \
    X(RBAC_OVERRIDE, "common.security.rbac.overrideBuiltInPrivilegeGroups.enabled", BOOL, "false", \
      0, 0, N, "Own content of built-in privilege groups.")

#define RK_CONFIG_PROXY(X)                                                                         \
    X(MAX_NAME_LENGTH, "proxy.maxNameLength", INT, "255", 1, 65535, R, "Longest name, in bytes.")  \
    X(MAX_USERNAME_LENGTH, "proxy.maxUsernameLength", INT, "32", 1, 255, N, "Longest user name.")  \
    X(MIN_PASSWORD_LENGTH, "proxy.minPasswordLength", INT, "6", 1, 72, N, "Shortest password.")    \
    X(MAX_PASSWORD_LENGTH, "proxy.maxPasswordLength", INT, "72", 6, 72, N, "Longest password.")    \
    X(MAX_FIELD_NUM, "proxy.maxFieldNum", INT, "256", 1, 4096, R, "Fields of a collection.")       \
    X(MAX_VECTOR_FIELD_NUM, "proxy.maxVectorFieldNum", INT, "10", 1, 64, R,                        \
      "Vector fields of a collection.")                                                            \
    X(MAX_DIMENSION, "proxy.maxDimension", INT, "32768", 1, 262144, R, "Largest vector.")          \
    X(MAX_SHARD_NUM, "proxy.maxShardNum", INT, "16", 1, 256, R, "Shards of a collection.")         \
    X(MAX_VARCHAR_LENGTH, "proxy.maxVarCharLength", INT, "65535", 1, 16777216, R,                  \
      "Largest max_length of a VARCHAR field.")                                                    \
    X(MAX_TEXT_LENGTH, "proxy.maxTextLength", INT, "2097152", 1, 67108864, N,                      \
      "Largest max_length of a TEXT field.")                                                       \
    X(MAX_ARRAY_CAPACITY, "proxy.maxArrayCapacity", INT, "4096", 1, 1048576, R,                    \
      "Largest max_capacity of an array field.")                                                   \
    X(MAX_INDEX_PARAMS_SIZE, "proxy.maxIndexParamsSize", INT, "102400", 1, 16777216, R,            \
      "Bytes of all keys and values of an index request.")                                         \
    X(MAX_RESULT_ENTRIES, "proxy.maxResultEntries", INT, "-1", -1, 9223372036854775807, N,         \
      "nq * topk * fields of a search. -1: no limit.")                                             \
    X(MAX_USER_NUM, "proxy.maxUserNum", INT, "100", 1, 1000000, N, "Users.")                       \
    X(MAX_ROLE_NUM, "proxy.maxRoleNum", INT, "10", 1, 1000000, N, "Roles.")                        \
    X(MAX_COLLECTION_DESCRIPTION, "proxy.maxCollectionDescriptionLength", INT, "1024", 1, 65535,   \
      R, "Longest description of a collection, in bytes.")                                         \
    X(MAX_USER_DESCRIPTION, "proxy.maxUserDescriptionLength", INT, "1024", 1, 65535, N,            \
      "Longest description of a user, in bytes.")                                                  \
    X(MAX_ROLE_DESCRIPTION, "proxy.maxRoleDescriptionLength", INT, "1024", 1, 65535, N,            \
      "Longest description of a role, in bytes.")                                                  \
    X(NAME_CHARS, "proxy.nameValidation.allowedChars", TEXT, "$", 0, 0, N,                         \
      "Characters besides letters, digits and _ in names.")                                        \
    X(ROLE_NAME_CHARS, "proxy.roleNameValidation.allowedChars", TEXT, "$", 0, 0, N,                \
      "The same for role names.")                                                                  \
    X(MAX_TASK_NUM, "proxy.maxTaskNum", INT, "1024", 1, 1048576, 0,                                \
      "Requests of a kind that may wait; the next one is refused with code 4.")                    \
    X(PARTITION_NAME_REGEX, "proxy.partitionNameRegexp", BOOL, "false", 0, 0, N,                   \
      "Partition names of searches are regular expressions.")                                      \
    X(MUST_USE_PARTITION_KEY, "proxy.mustUsePartitionKey", BOOL, "false", 0, 0, N,                 \
      "Refuse collections without a partition key.")                                               \
    X(SKIP_AUTOID_CHECK, "proxy.skipAutoIDCheck", BOOL, "false", 0, 0, N,                          \
      "Ignore given keys of autoID collections instead of refusing them.")                         \
    X(SLOW_QUERY, "proxy.slowQuerySpanInSeconds", DURATION, "5", 0, 86400000, (N | S),             \
      "A search that takes longer is counted and logged.")                                         \
    X(ACCESS_LOG_ENABLED, "proxy.accessLog.enable", BOOL, "false", 0, 0, N,                        \
      "Write one line per request.")                                                               \
    X(ACCESS_LOG_FILE, "proxy.accessLog.filename", TEXT, "", 0, 0, N,                              \
      "File of the access log; empty: standard output.")                                           \
    X(ACCESS_LOG_PATH, "proxy.accessLog.localPath", TEXT, "", 0, 0, N, "Folder of the access log.")

#define RK_CONFIG_QUOTAS(X)                                                                        \
    X(LIMIT_NQ, "quotaAndLimits.limits.nq", INT, "16384", 1, 1048576, R,                           \
      "Query vectors of one search.")                                                              \
    X(LIMIT_TOPK, "quotaAndLimits.limits.topK", INT, "16384", 1, 1048576, R,                       \
      "Results of one query vector.")                                                              \
    X(LIMIT_WINDOW, "quotaAndLimits.limits.maxQueryResultWindow", INT, "16384", 1, 1048576, R,     \
      "offset + limit of searches and queries.")                                                   \
    X(LIMIT_LARGE_TOPK, "quotaAndLimits.limits.largeTopK", INT, "1000000", 1, 16777216, N,         \
      "topK of collections with query_mode large_topk.")                                           \
    X(LIMIT_LARGE_WINDOW, "quotaAndLimits.limits.largeMaxQueryResultWindow", INT, "1000000", 1,    \
      16777216, N, "offset + limit of those collections.")                                         \
    X(LIMIT_OUTPUT_SIZE, "quotaAndLimits.limits.maxOutputSize", SIZE, "104857600", 1024,           \
      2147483647, R, "Largest reply of a query.")                                                  \
    X(LIMIT_INSERT_SIZE, "quotaAndLimits.limits.maxInsertSize", INT, "-1", -1, 2147483647, N,      \
      "Largest insert request, in bytes. -1: the limit of messages.")                              \
    X(LIMIT_GROUP_SIZE, "quotaAndLimits.limits.maxGroupSize", INT, "10", 1, 16384, N,              \
      "Largest group_size of a search.")                                                           \
    X(LIMIT_COLLECTIONS, "quotaAndLimits.limits.maxCollectionNum", INT, "65536", 1, 1048576, N,    \
      "Collections in all.")                                                                       \
    X(LIMIT_COLLECTIONS_DB, "quotaAndLimits.limits.maxCollectionNumPerDB", INT, "65536", 1,        \
      1048576, N, "Collections of one database.")                                                  \
    X(LIMIT_RESOURCE_GROUPS, "quotaAndLimits.limits.maxResourceGroupNumOfQueryNode", INT, "1024",  \
      1, 1048576, N, "Resource groups.")                                                           \
    X(MAX_DATABASES, "rootCoord.maxDatabaseNum", INT, "64", 1, 65536, N, "Databases.")             \
    X(MAX_PARTITIONS, "rootCoord.maxPartitionNum", INT, "1024", 1, 65536, N,                       \
      "Partitions of a collection.")                                                               \
    X(MAX_CAPACITY, "rootCoord.maxGeneralCapacity", INT, "65536", 512, 16777216, N,                \
      "Sum over all collections of partitions times shards.")                                      \
    X(QUOTAS_ENABLED, "quotaAndLimits.enabled", BOOL, "true", 0, 0, N,                             \
      "The rates and protections below are in force.")                                             \
    X(FLUSH_RATE_ENABLED, "quotaAndLimits.flushRate.enabled", BOOL, "true", 0, 0, N,               \
      "Limit flush requests.")                                                                     \
    X(FLUSH_RATE_MAX, "quotaAndLimits.flushRate.collection.max", FLOAT, "0.1", -1, 1e12, N,        \
      "Flush requests of one collection per second.")                                              \
    X(DDL_RATE_ENABLED, "quotaAndLimits.ddl.enabled", BOOL, "false", 0, 0, N,                      \
      "Limit requests that change collections and partitions.")                                    \
    X(DDL_COLLECTION_RATE, "quotaAndLimits.ddl.collectionRate", FLOAT, "-1", -1, 1e12, N,          \
      "Requests on collections per second. -1: no limit.")                                         \
    X(DDL_PARTITION_RATE, "quotaAndLimits.ddl.partitionRate", FLOAT, "-1", -1, 1e12, N,            \
      "Requests on partitions per second. -1: no limit.")                                          \
    X(INDEX_RATE_ENABLED, "quotaAndLimits.indexRate.enabled", BOOL, "false", 0, 0, N,              \
      "Limit index requests.")                                                                     \
    X(INDEX_RATE_MAX, "quotaAndLimits.indexRate.max", FLOAT, "-1", -1, 1e12, N,                    \
      "Index requests per second.")                                                                \
    X(COMPACTION_RATE_ENABLED, "quotaAndLimits.compactionRate.enabled", BOOL, "false", 0, 0, N,    \
      "Limit manual compactions.")                                                                 \
    X(COMPACTION_RATE_MAX, "quotaAndLimits.compactionRate.max", FLOAT, "-1", -1, 1e12, N,          \
      "Manual compactions per second.")                                                            \
    X(DML_RATE_ENABLED, "quotaAndLimits.dml.enabled", BOOL, "false", 0, 0, N, "Limit writes.")     \
    X(DML_INSERT_MAX, "quotaAndLimits.dml.insertRate.max", FLOAT, "-1", -1, 1e12, N,               \
      "Inserted MB per second in all.")                                                            \
    X(DML_UPSERT_MAX, "quotaAndLimits.dml.upsertRate.max", FLOAT, "-1", -1, 1e12, N,               \
      "Upserted MB per second in all.")                                                            \
    X(DML_DELETE_MAX, "quotaAndLimits.dml.deleteRate.max", FLOAT, "-1", -1, 1e12, N,               \
      "MB of delete requests per second in all.")                                                  \
    X(DML_BULK_MAX, "quotaAndLimits.dml.bulkLoadRate.max", FLOAT, "-1", -1, 1e12, N,               \
      "Imported MB per second in all.")                                                            \
    X(DQL_RATE_ENABLED, "quotaAndLimits.dql.enabled", BOOL, "false", 0, 0, N, "Limit reads.")      \
    X(DQL_SEARCH_MAX, "quotaAndLimits.dql.searchRate.max", FLOAT, "-1", -1, 1e12, N,               \
      "Query vectors per second in all.")                                                          \
    X(DQL_QUERY_MAX, "quotaAndLimits.dql.queryRate.max", FLOAT, "-1", -1, 1e12, N,                 \
      "Queries per second in all.")                                                                \
    X(DENY_WRITING, "quotaAndLimits.limitWriting.forceDeny", BOOL, "false", 0, 0, N,               \
      "Refuse all writes with code 9.")                                                            \
    X(DENY_READING, "quotaAndLimits.limitReading.forceDeny", BOOL, "false", 0, 0, N,               \
      "Refuse all reads with code 9.")                                                             \
    X(DENY_DDL, "quotaAndLimits.forceDenyAllDDL", BOOL, "false", 0, 0, N,                          \
      "Refuse all changes of the schema with code 9.")                                             \
    X(MEM_PROTECTION, "quotaAndLimits.limitWriting.memProtection.enabled", BOOL, "true", 0, 0, N,  \
      "Slow writes down, then refuse them, when memory runs short.")                               \
    X(MEM_LOW_WATER, "quotaAndLimits.limitWriting.memProtection.queryNodeMemoryLowWaterLevel",     \
      FLOAT, "0.85", 0, 1, N, "Share of the memory limit at which writes slow down.")              \
    X(MEM_HIGH_WATER, "quotaAndLimits.limitWriting.memProtection.queryNodeMemoryHighWaterLevel",   \
      FLOAT, "0.95", 0, 1, N, "Share of the memory limit at which writes are refused.")            \
    X(MEM_LOW_WATER_DN, "quotaAndLimits.limitWriting.memProtection.dataNodeMemoryLowWaterLevel",   \
      FLOAT, "0.85", 0, 1, N, "The same, for data nodes.")                                         \
    X(MEM_HIGH_WATER_DN, "quotaAndLimits.limitWriting.memProtection.dataNodeMemoryHighWaterLevel", \
      FLOAT, "0.95", 0, 1, N, "The same, for data nodes.")                                         \
    X(DISK_PROTECTION, "quotaAndLimits.limitWriting.diskProtection.enabled", BOOL, "true", 0, 0,   \
      N, "Refuse writes past the disk quota.")                                                     \
    X(DISK_QUOTA, "quotaAndLimits.limitWriting.diskProtection.diskQuota", FLOAT, "-1", -1, 1e12,   \
      N, "Stored MB in all. -1: no limit.")                                                        \
    X(DISK_QUOTA_COLLECTION, "quotaAndLimits.limitWriting.diskProtection.diskQuotaPerCollection",  \
      FLOAT, "-1", -1, 1e12, N, "Stored MB of one collection. -1: no limit.")                      \
    X(DISK_QUOTA_DB, "quotaAndLimits.limitWriting.diskProtection.diskQuotaPerDB", FLOAT, "-1", -1, \
      1e12, N, "Stored MB of one database. -1: no limit.")

#define RK_CONFIG_STORAGE(X)                                                                       \
    X(STORAGE_TYPE, "common.storageType", CHOICE, "local", 0, 0, N,                                \
      "local|remote|minio|opendal: Where sealed data is kept: a folder, or an object store.")      \
    X(LOCAL_PATH, "localStorage.path", TEXT, "./data", 0, 0, 0,                                    \
      "Folder of everything the server stores on local disk.")                                     \
    X(META_TYPE, "metastore.type", CHOICE, "sqlite", 0, 0, N,                                      \
      "sqlite|etcd|tikv: Store of the metadata. Distributed deployments use etcd.")                \
    X(ETCD_ENDPOINTS, "etcd.endpoints", LIST, "localhost:2379", 0, 0, N, "Addresses of etcd.")     \
    X(ETCD_ROOT, "etcd.rootPath", TEXT, "by-dev", 0, 0, N, "Prefix of all keys in etcd.")          \
    X(ETCD_META, "etcd.metaSubPath", TEXT, "meta", 0, 0, N, "Second part of that prefix.")         \
    X(ETCD_AUTH, "etcd.auth.enabled", BOOL, "false", 0, 0, N, "Log in to etcd.")                   \
    X(ETCD_USER, "etcd.auth.userName", TEXT, "", 0, 0, N, "User at etcd.")                         \
    X(ETCD_PASSWORD, "etcd.auth.password", SECRET, "", 0, 0, N, "Password at etcd.")               \
    X(ETCD_SSL, "etcd.ssl.enabled", BOOL, "false", 0, 0, N, "TLS to etcd.")                        \
    X(ETCD_CERT, "etcd.ssl.tlsCert", TEXT, "", 0, 0, N, "Certificate shown to etcd.")              \
    X(ETCD_KEY, "etcd.ssl.tlsKey", TEXT, "", 0, 0, N, "Private key of that certificate.")          \
    X(ETCD_CA, "etcd.ssl.tlsCACert", TEXT, "", 0, 0, N, "Authority of etcd's certificate.")        \
    X(ETCD_TIMEOUT, "etcd.requestTimeout", INT, "10000", 1, 3600000, N,                            \
      "Longest wait for etcd, in ms.")                                                             \
    X(ETCD_EMBED, "etcd.use.embed", BOOL, "false", 0, 0, N, "An etcd inside the process.")         \
    X(ETCD_DATA, "etcd.data.dir", TEXT, "", 0, 0, N, "Folder of that etcd.")                       \
    X(ETCD_CONFIG, "etcd.config.path", TEXT, "", 0, 0, N, "Configuration of that etcd.")           \
    X(MINIO_ADDRESS, "minio.address", TEXT, "localhost", 0, 0, N, "Host of the object store.")     \
    X(MINIO_PORT, "minio.port", INT, "9000", 1, 65535, N, "Port of the object store.")             \
    X(MINIO_ACCESS_KEY, "minio.accessKeyID", TEXT, "minioadmin", 0, 0, N, "Access key.")           \
    X(MINIO_SECRET_KEY, "minio.secretAccessKey", SECRET, "minioadmin", 0, 0, N, "Secret key.")     \
    X(MINIO_SSL, "minio.useSSL", BOOL, "false", 0, 0, N, "TLS to the object store.")               \
    X(MINIO_CA, "minio.ssl.tlsCACert", TEXT, "", 0, 0, N, "Authority of its certificate.")         \
    X(MINIO_BUCKET, "minio.bucketName", TEXT, "a-bucket", 0, 0, N, "Bucket.")                      \
    X(MINIO_ROOT, "minio.rootPath", TEXT, "files", 0, 0, N, "Prefix of all object names.")         \
    X(MINIO_IAM, "minio.useIAM", BOOL, "false", 0, 0, N, "Credentials from the instance.")         \
    X(MINIO_IAM_ENDPOINT, "minio.iamEndpoint", TEXT, "", 0, 0, N, "Where these come from.")        \
    X(MINIO_PROVIDER, "minio.cloudProvider", CHOICE, "aws", 0, 0, N,                               \
      "aws|gcp|gcpnative|ali|aliyun|azure|tencent|huawei: Kind of the object store.")              \
    X(MINIO_REGION, "minio.region", TEXT, "", 0, 0, N, "Region of the bucket.")                    \
    X(MINIO_VHOST, "minio.useVirtualHost", BOOL, "false", 0, 0, N,                                 \
      "The bucket is part of the host name.")                                                      \
    X(MINIO_TIMEOUT, "minio.requestTimeoutMs", INT, "10000", 1, 3600000, N,                        \
      "Longest wait for the object store, in ms.")                                                 \
    X(MQ_TYPE, "mq.type", CHOICE, "default", 0, 0, N,                                              \
      "default|woodpecker|rocksmq|pulsar|kafka|natsmq: Kind of the write-ahead log.")              \
    X(WOODPECKER_TYPE, "woodpecker.storage.type", CHOICE, "local", 0, 0, N,                        \
      "local|minio|service: Where the write-ahead log lies.")                                      \
    X(WOODPECKER_ROOT, "woodpecker.storage.rootPath", TEXT, "", 0, 0, N,                           \
      "Its folder; empty: below localStorage.path.")                                               \
    X(ROCKSMQ_PATH, "rocksmq.path", TEXT, "", 0, 0, N, "Folder of the RocksDB log.")               \
    X(ROCKSMQ_MINUTES, "rocksmq.retentionTimeInMinutes", INT, "4320", -1, 1000000000, N,           \
      "How long the log is kept.")                                                                 \
    X(ROCKSMQ_SIZE, "rocksmq.retentionSizeInMB", INT, "8192", -1, 1000000000, N,                   \
      "How much of the log is kept.")                                                              \
    X(KAFKA_BROKERS, "kafka.brokerList", LIST, "", 0, 0, N, "Kafka brokers.")                      \
    X(KAFKA_USER, "kafka.saslUsername", TEXT, "", 0, 0, N, "User at Kafka.")                       \
    X(KAFKA_PASSWORD, "kafka.saslPassword", SECRET, "", 0, 0, N, "Password at Kafka.")             \
    X(PULSAR_ADDRESS, "pulsar.address", TEXT, "localhost", 0, 0, N, "Host of Pulsar.")             \
    X(PULSAR_PORT, "pulsar.port", INT, "6650", 1, 65535, N, "Port of Pulsar.")                     \
    X(PULSAR_MESSAGE_MAX, "pulsar.maxMessageSize", SIZE, "2097152", 0, 1073741824, N,              \
      "Largest message of Pulsar.")                                                                \
    X(PULSAR_AUTH, "pulsar.authParams", SECRET, "", 0, 0, N, "Login of Pulsar.")

#define RK_CONFIG_DATA(X)                                                                          \
    X(SEGMENT_MAX_SIZE, "dataCoord.segment.maxSize", INT, "1024", 1, 16384, R,                     \
      "Largest sealed segment, in MiB.")                                                           \
    X(SEGMENT_DISK_MAX_SIZE, "dataCoord.segment.diskSegmentMaxSize", INT, "2048", 1, 65536, N,     \
      "Largest sealed segment of a collection with a disk index, in MiB.")                         \
    X(SEGMENT_SEAL, "dataCoord.segment.sealProportion", FLOAT, "0.12", 0.001, 1, N,                \
      "Share of maxSize at which a growing segment is sealed.")                                    \
    X(SEGMENT_MAX_LIFE, "dataCoord.segment.maxLife", DURATION, "86400", 1000, 315360000000,        \
      (N | S), "A growing segment is sealed at this age.")                                         \
    X(SEGMENT_MAX_IDLE, "dataCoord.segment.maxIdleTime", DURATION, "600", 1000, 315360000000,      \
      (N | S), "A growing segment is sealed when nothing was written to it for this time.")        \
    X(SEGMENT_MIN_IDLE_SIZE, "dataCoord.segment.minSizeFromIdleToSealed", INT, "16", 0, 16384, N,  \
      "Smallest idle segment that is sealed, in MiB.")                                             \
    X(SEGMENT_SMALL, "dataCoord.segment.smallProportion", FLOAT, "0.5", 0, 1, N,                   \
      "A segment below this share of maxSize is merged with others.")                              \
    X(COMPACTION_ENABLED, "dataCoord.enableCompaction", BOOL, "true", 0, 0, R,                     \
      "Merge small segments and fold deletes in.")                                                 \
    X(COMPACTION_AUTO, "dataCoord.compaction.enableAutoCompaction", BOOL, "true", 0, 0, R,         \
      "Do so without being asked.")                                                                \
    X(COMPACTION_INTERVAL, "dataCoord.compaction.global.interval", DURATION, "60", 1000, 86400000, \
      (N | S), "How often candidates are looked for.")                                             \
    X(COMPACTION_DELETE_RATIO, "dataCoord.compaction.single.ratio.threshold", FLOAT, "0.2", 0, 1,  \
      R, "A segment with this share of deleted rows is rewritten.")                                \
    X(COMPACTION_CLUSTERING, "dataCoord.compaction.clustering.enable", BOOL, "true", 0, 0, N,      \
      "Allow clustering compaction.")                                                              \
    X(GC_INTERVAL, "dataCoord.gc.interval", DURATION, "3600", 1000, 315360000000, (N | S),         \
      "How often unused objects are removed.")                                                     \
    X(GC_MISSING, "dataCoord.gc.missingTolerance", DURATION, "86400", 0, 315360000000, (N | S),    \
      "An object that nothing refers to is kept for this time.")                                   \
    X(GC_DROP, "dataCoord.gc.dropTolerance", DURATION, "10800", 0, 315360000000, (N | S),          \
      "A dropped segment is kept for this time.")                                                  \
    X(MMAP_VECTOR_FIELD, "queryNode.mmap.vectorField", BOOL, "false", 0, 0, N,                     \
      "Map raw vectors from disk instead of holding them.")                                        \
    X(MMAP_VECTOR_INDEX, "queryNode.mmap.vectorIndex", BOOL, "false", 0, 0, N,                     \
      "Map vector indexes from disk.")                                                             \
    X(MMAP_SCALAR_FIELD, "queryNode.mmap.scalarField", BOOL, "false", 0, 0, N,                     \
      "Map scalar columns from disk.")                                                             \
    X(MMAP_SCALAR_INDEX, "queryNode.mmap.scalarIndex", BOOL, "false", 0, 0, N,                     \
      "Map scalar indexes from disk.")                                                             \
    X(MMAP_GROWING, "queryNode.mmap.growingMmapEnabled", BOOL, "false", 0, 0, N,                   \
      "Map growing segments.")                                                                     \
    X(MMAP_PATH, "queryNode.mmap.mmapDirPath", TEXT, "", 0, 0, N, "Folder of mapped files.")       \
    X(MMAP_ENABLED, "queryNode.mmap.mmapEnabled", BOOL, "false", 0, 0, N,                          \
      "Map everything that can be mapped (older form of the four keys above).")                    \
    X(DISK_INDEX_ENABLED, "queryNode.enableDisk", BOOL, "true", 0, 0, N, "Allow disk indexes.")    \
    X(LOAD_FACTOR, "queryNode.loadMemoryUsageFactor", FLOAT, "1", 0.1, 16, N,                      \
      "Memory assumed for a load, relative to the size of the data.")                              \
    X(LOAD_OVERLOAD, "queryNode.overloadedMemoryThresholdPercentage", INT, "90", 1, 100, N,        \
      "Loads are refused past this share of the memory limit, in percent.")                        \
    X(CACHE_WARMUP, "queryNode.cache.warmup", CHOICE, "disable", 0, 0, N,                          \
      "disable|sync|async: Read mapped data ahead after a load.")                                  \
    X(FILTER_CACHE, "queryNode.exprCache.enabled", BOOL, "true", 0, 0, 0,                          \
      "Keep which rows pass the filters that come again.")                                         \
    X(FILTER_CACHE_BYTES, "queryNode.exprCache.capacityBytes", SIZE, "268435456", 65536,           \
      1099511627776, 0, "Memory for that; never more than a sixteenth of the memory limit.")       \
    X(MAX_TS_LAG, "queryNode.scheduler.maxTimestampLag", DURATION, "86400", 0, 315360000000,       \
      (R | S), "A read that must wait longer than this for its timestamp is refused.")

#define RK_CONFIG_COMMON(X)                                                                        \
    X(GRACEFUL_TIME, "common.gracefulTime", INT, "5000", 0, 3600000, R,                            \
      "Staleness of consistency level Bounded, in ms.")                                            \
    X(GRACEFUL_STOP, "common.gracefulStopTimeout", DURATION, "1800", 0, 86400000, (N | S),         \
      "Longest wait for running requests at shutdown.")                                            \
    X(RETENTION, "common.retentionDuration", DURATION, "0", 0, 315360000000, (N | S),              \
      "How far back reads at a timestamp reach.")                                                  \
    X(ENTITY_EXPIRATION, "common.entityExpiration", INT, "-1", -1, 3155760000, N,                  \
      "Rows older than this many seconds are dropped. -1: never.")                                 \
    X(JSON_MAX, "common.JSONMaxLength", INT, "65536", 1, 67108864, R,                              \
      "Largest JSON value of a row, in bytes.")                                                    \
    X(CLUSTER_PREFIX, "msgChannel.chanNamePrefix.cluster", TEXT, "by-dev", 0, 0, N,                \
      "Prefix of channel names.")                                                                  \
    X(DEFAULT_PARTITION, "common.defaultPartitionName", TEXT, "_default", 0, 0, N,                 \
      "Name of the partition every collection starts with.")                                       \
    X(DEFAULT_INDEX, "common.defaultIndexName", TEXT, "_default_idx", 0, 0, N,                     \
      "Name of an index that was not named.")                                                      \
    X(SIMD_TYPE, "common.simdType", CHOICE, "auto", 0, 0, N,                                       \
      "auto|avx512|avx2|avx|sse4_2|neon|scalar: Best instruction set to use.")                     \
    X(LOG_LEVEL, "log.level", CHOICE, "info", 0, 0, R,                                             \
      "trace|debug|info|warn|error|panic|fatal: Lowest level that is logged.")                     \
    X(LOG_FILE_ROOT, "log.file.rootPath", TEXT, "", 0, 0, N,                                       \
      "Folder of redkite.log; empty: standard error.")                                             \
    X(LOG_FILE_SIZE, "log.file.maxSize", INT, "300", 1, 1048576, N, "MB of one log file.")         \
    X(LOG_FILE_AGE, "log.file.maxAge", INT, "10", 0, 36500, N, "Days a log file is kept.")         \
    X(LOG_FILE_BACKUPS, "log.file.maxBackups", INT, "20", 0, 65536, N, "Log files kept.")          \
    X(LOG_FORMAT, "log.format", CHOICE, "text", 0, 0, N, "text|json: Form of the lines.")          \
    X(LOG_STDOUT, "log.stdout", BOOL, "true", 0, 0, N, "Also print lines.")                        \
    X(TRACE_EXPORTER, "trace.exporter", CHOICE, "noop", 0, 0, N,                                   \
      "noop|stdout|jaeger|otlp: Where traces go.")                                                 \
    X(TRACE_SAMPLE, "trace.sampleFraction", FLOAT, "0", 0, 1, N, "Share of requests traced.")      \
    X(TRACE_ENDPOINT, "trace.otlp.endpoint", TEXT, "", 0, 0, N, "Address of the collector.")       \
    X(TRACE_METHOD, "trace.otlp.method", TEXT, "", 0, 0, N, "grpc or http.")                       \
    X(TRACE_SECURE, "trace.otlp.secure", BOOL, "true", 0, 0, N, "TLS to the collector.")

#define RK_CONFIG_OWN(X)                                                                           \
    X(MEMORY_LIMIT, "redkite.memory.limit", SIZE, "0", 0, 0, 0,                                    \
      "Memory the server may use. 0: 90 percent of the cgroup's limit or of physical memory.")     \
    X(WAL_SEGMENT, "redkite.wal.segmentSize", SIZE, "64MiB", 1048576, 4294967296, 0,               \
      "Size of one file of the write-ahead log.")                                                  \
    X(GROWING_MAX, "redkite.segment.growingMax", SIZE, "128", 1048576, 17179869184, (R | M),       \
      "A growing segment is sealed at this size.")                                                 \
    X(THREADS_LOOP, "redkite.threads.loop", INT, "1", 1, 64, 0, "Event loops.")                    \
    X(THREADS_SEARCH, "redkite.threads.search", INT, "0", 0, 1024, 0,                              \
      "Threads that run searches. 0: one per CPU.")                                                \
    X(THREADS_WRITE, "redkite.threads.write", INT, "8", 1, 1024, 0,                                \
      "Threads for writes and waits.")                                                             \
    X(THREADS_BACKGROUND, "redkite.threads.background", INT, "0", 0, 1024, 0,                      \
      "Threads that build indexes, compact and import. 0: one per CPU, at low priority.")

#define RK_CONFIG_TABLE(X)                                                                         \
    RK_CONFIG_SERVER(X)                                                                            \
    RK_CONFIG_SECURITY(X)                                                                          \
    RK_CONFIG_PROXY(X)                                                                             \
    RK_CONFIG_QUOTAS(X)                                                                            \
    RK_CONFIG_STORAGE(X)                                                                           \
    RK_CONFIG_DATA(X)                                                                              \
    RK_CONFIG_COMMON(X)                                                                            \
    RK_CONFIG_OWN(X)

#endif
