/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of the public API, read from the configuration once at start. Those that may change
 * while the server runs take effect with the next start.
 */
#include "access/access_private.h"

void
rk__limits_read(rk__limits *limits, const rk_config *config)
{
    *limits = (rk__limits){
        .name_length = rk_config_i64(config, RK_CFG_MAX_NAME_LENGTH),
        .fields = rk_config_i64(config, RK_CFG_MAX_FIELD_NUM),
        .vector_fields = rk_config_i64(config, RK_CFG_MAX_VECTOR_FIELD_NUM),
        .dimension = rk_config_i64(config, RK_CFG_MAX_DIMENSION),
        .shards = rk_config_i64(config, RK_CFG_MAX_SHARD_NUM),
        .varchar_length = rk_config_i64(config, RK_CFG_MAX_VARCHAR_LENGTH),
        .array_capacity = rk_config_i64(config, RK_CFG_MAX_ARRAY_CAPACITY),
        .description = rk_config_i64(config, RK_CFG_MAX_COLLECTION_DESCRIPTION),
        .topk = rk_config_i64(config, RK_CFG_LIMIT_TOPK),
        .nq = rk_config_i64(config, RK_CFG_LIMIT_NQ),
        .result_window = rk_config_i64(config, RK_CFG_LIMIT_WINDOW),
        .output_bytes = rk_config_i64(config, RK_CFG_LIMIT_OUTPUT_SIZE),
        .index_params_bytes = rk_config_i64(config, RK_CFG_MAX_INDEX_PARAMS_SIZE),
        .json_bytes = rk_config_i64(config, RK_CFG_JSON_MAX),
        .graceful_ms = rk_config_i64(config, RK_CFG_GRACEFUL_TIME),
        .receive_bytes = rk_config_i64(config, RK_CFG_GRPC_RECV_MAX),
        .rest_timeout_ms = rk_config_i64(config, RK_CFG_PROXY_HTTP_TIMEOUT),
        .lag_max_ms = rk_config_i64(config, RK_CFG_MAX_TS_LAG),
        .allow_int64 = rk_config_bool(config, RK_CFG_PROXY_HTTP_INT64),
    };
}
