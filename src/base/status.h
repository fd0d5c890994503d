/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Result codes and the error sentence of a request.
 *
 * A function that can fail returns rk_code: RK_OK is 0, the rest are negative. The value of a code
 * is minus the number the public API shows to clients, so that a code read in a log can be looked
 * up in the API's own table. A client sees the code and a sentence; the sentence is written where
 * the facts are, into the request's rk_err.
 */
#ifndef RK_BASE_STATUS_H
#define RK_BASE_STATUS_H

#include "base/macros.h"

/* Flags of a code. */
#define RK_F_NONE      0u
#define RK_F_RETRIABLE 1u /* the same request may succeed later */
#define RK_F_INPUT     2u /* the caller's mistake by nature */

/*
 * X(name, public code, legacy enum, gRPC status when it must travel as one, HTTP status, flags,
 * base text) The legacy enum is milvus.proto.common.ErrorCode. The base text is what the public API
 * prints for it.
 */
#define RK_CODES(X)                                                                                \
    X(ENOT_READY, 1, 56, 14, 503, RK_F_RETRIABLE, "service not ready")                             \
    X(EUNAVAILABLE, 2, 1, 14, 503, RK_F_RETRIABLE, "service unavailable")                          \
    X(ENOMEM, 3, 52, 8, 507, RK_F_NONE, "memory limit exceeded")                                   \
    X(EBUSY, 4, 1, 14, 503, RK_F_RETRIABLE, "too many concurrent requests, queue is full")         \
    X(EINTERNAL, 5, 1, 13, 500, RK_F_NONE, "service internal error")                               \
    X(EDISK_FULL, 7, 54, 8, 507, RK_F_NONE, "disk limit exceeded")                                 \
    X(ERATE_LIMIT, 8, 49, 14, 429, RK_F_RETRIABLE, "rate limit exceeded")                          \
    X(EQUOTA, 9, 48, 8, 429, RK_F_NONE, "quota exceeded")                                          \
    X(EUNIMPLEMENTED, 10, 1, 12, 501, RK_F_NONE, "service unimplemented")                          \
    X(ECOLLECTION_NOT_FOUND, 100, 4, 5, 404, RK_F_NONE, "collection not found")                    \
    X(ECOLLECTION_NOT_LOADED, 101, 1, 9, 400, RK_F_NONE, "collection not loaded")                  \
    X(ECOLLECTION_LIMIT, 102, 1, 8, 400, RK_F_INPUT, "exceeded the limit number of collections")   \
    X(ECOLLECTION_NOT_FULLY_LOADED, 103, 1, 9, 400, RK_F_RETRIABLE, "collection not fully loaded") \
    X(ECOLLECTION_LOADED, 104, 1, 9, 400, RK_F_INPUT, "collection already loaded")                 \
    X(EILLEGAL_SCHEMA, 105, 1, 3, 400, RK_F_INPUT, "illegal collection schema")                    \
    X(ECLUSTERING_KEY, 107, 1, 3, 400, RK_F_INPUT, "vector clustering key not allowed")            \
    X(ESCHEMA_MISMATCH, 109, 62, 9, 400, RK_F_INPUT, "collection schema mismatch")                 \
    X(EPARTITION_NOT_FOUND, 200, 15, 5, 404, RK_F_NONE, "partition not found")                     \
    X(EPARTITION_NOT_LOADED, 201, 1, 9, 400, RK_F_NONE, "partition not loaded")                    \
    X(ECAPACITY, 250, 1, 8, 400, RK_F_NONE, "general capacity exceeded")                           \
    X(ERESOURCE_GROUP_NOT_FOUND, 300, 1, 5, 404, RK_F_INPUT, "resource group not found")           \
    X(ECHANNEL_NOT_FOUND, 500, 1, 5, 404, RK_F_NONE, "channel not found")                          \
    X(EFENCED, 504, 1, 9, 503, RK_F_NONE, "channel not available")                                 \
    X(ESEGMENT_NOT_FOUND, 600, 47, 5, 404, RK_F_NONE, "segment not found")                         \
    X(ESEGMENT_NOT_LOADED, 601, 1, 9, 503, RK_F_RETRIABLE, "segment not loaded")                   \
    X(ESEGMENT_LOAD_FAILED, 604, 1, 13, 500, RK_F_NONE, "segment load failed")                     \
    X(EINDEX_NOT_FOUND, 700, 25, 5, 404, RK_F_NONE, "index not found")                             \
    X(EINDEX_NOT_SUPPORTED, 701, 1, 3, 400, RK_F_NONE, "index type not supported")                 \
    X(EINDEX_DUPLICATE, 702, 1, 6, 400, RK_F_INPUT, "index duplicates")                            \
    X(EDATABASE_NOT_FOUND, 800, 1, 5, 404, RK_F_NONE, "database not found")                        \
    X(EDATABASE_LIMIT, 801, 1, 8, 400, RK_F_INPUT, "exceeded the limit number of database")        \
    X(EDATABASE_NAME, 802, 1, 3, 400, RK_F_INPUT, "invalid database name")                         \
    X(EKEY_NOT_FOUND, 1000, 1, 5, 404, RK_F_NONE, "key not found")                                 \
    X(EIO, 1001, 1, 13, 500, RK_F_NONE, "IO failed")                                               \
    X(EEOF, 1002, 1, 13, 500, RK_F_RETRIABLE, "unexpected EOF")                                    \
    X(ECORRUPT, 1009, 1, 15, 500, RK_F_NONE, "data integrity check failed")                        \
    X(EINVAL, 1100, 5, 3, 400, RK_F_INPUT, "invalid parameter")                                    \
    X(EMISSING, 1101, 5, 3, 400, RK_F_INPUT, "missing parameter")                                  \
    X(ETOO_LARGE, 1102, 5, 8, 413, RK_F_INPUT, "parameter too large")                              \
    X(EUNAUTHENTICATED, 1400, 1, 16, 401, RK_F_INPUT, "not authenticated")                         \
    X(EPERMISSION, 1401, 1, 7, 403, RK_F_INPUT, "privilege not permitted")                         \
    X(EALIAS_NOT_FOUND, 1600, 1, 5, 404, RK_F_NONE, "alias not found")                             \
    X(EALIAS_CONFLICT, 1601, 1, 6, 400, RK_F_NONE, "alias and collection name conflict")           \
    X(EALIAS_EXISTS, 1602, 1, 6, 400, RK_F_NONE, "alias already exist")                            \
    X(EFIELD_NOT_FOUND, 1700, 1, 5, 404, RK_F_NONE, "field not found")                             \
    X(EFIELD_NAME, 1701, 1, 3, 400, RK_F_INPUT, "field name invalid")                              \
    X(EREST_BODY, 1801, 1, 3, 200, RK_F_INPUT,                                                     \
      "can only accept json format request, the request body should be nil, however {} is valid")  \
    X(EREST_MISSING, 1802, 1, 3, 200, RK_F_INPUT, "missing required parameters")                   \
    X(EREST_MARSHAL, 1803, 1, 13, 200, RK_F_NONE, "fail to marshal collection schema")             \
    X(EREST_INSERT_DATA, 1804, 1, 3, 200, RK_F_INPUT, "fail to deal the insert data")              \
    X(EREST_KEY, 1806, 1, 3, 200, RK_F_NONE,                                                       \
      "please check the primary key and its' type can only in [int, string]")                      \
    X(ESEGCORE, 2000, 1, 13, 500, RK_F_NONE, "segcore error")                                      \
    X(EQUERY_PLAN, 2201, 1, 3, 400, RK_F_INPUT, "query plan failed")                               \
    X(ENOT_SUPPORTED, 3000, 1, 12, 501, RK_F_NONE, "unsupported operation")                        \
    X(ECANCELLED, 10000, 1, 1, 499, RK_F_NONE, "context canceled")                                 \
    X(EDEADLINE, 10001, 1, 4, 504, RK_F_NONE, "context deadline exceeded")                         \
    X(EUNEXPECTED, 65535, 1, 2, 500, RK_F_NONE, "unexpected error")                                \
    X(EEXISTS, 70001, 1, 6, 409, RK_F_NONE, "already exists")                                      \
    X(ECONFLICT, 70002, 1, 10, 409, RK_F_RETRIABLE, "compare failed")

/* Codes from 70001 on never reach a client: their caller turns them into something it can use. */

typedef enum rk_code {
    RK_OK = 0,
#define RK_CODE_ENUM(name, number, legacy, grpc, http, flags, text) RK_##name = -(number),
    RK_CODES(RK_CODE_ENUM)
#undef RK_CODE_ENUM
} rk_code;

typedef struct rk_code_info {
    const char *name; /* "ECOLLECTION_NOT_FOUND" */
    const char *text; /* base text */
    int32_t number;   /* public code */
    int32_t legacy;   /* milvus.proto.common.ErrorCode */
    int32_t grpc;     /* gRPC status */
    int32_t http;     /* HTTP status */
    uint32_t flags;   /* RK_F_* */
} rk_code_info;

/* The table row of |code|; RK_OK and unknown codes have rows too ("OK", "unexpected error"). Any
 * thread. */
const rk_code_info *rk_code_get_info(rk_code code);

/* The code whose public number is |number|; RK_EUNEXPECTED when there is none. */
rk_code rk_code_from_number(int32_t number);

#define RK_ERR_TEXT_MAX 2048

/* The error of one request. Owned by one thread at a time. Zero bytes are a valid, empty one. */
typedef struct rk_err {
    rk_code code;
    bool input;                 /* also set for codes that carry RK_F_INPUT */
    char text[RK_ERR_TEXT_MAX]; /* the full sentence; cut at a UTF-8 boundary when too long */
} rk_err;

/*
 * Writes code and sentence into |err| (which may be NULL) and returns |code|:
 *     return rk_fail(err, RK_EINVAL, "nq [%d] is invalid", nq);
 * The text is stored as given: composing it with the base text of the code (": invalid parameter",
 * "[field=value]") is rk_fail_tail()'s work.
 */
rk_code rk_fail(rk_err *err, rk_code code, const char *fmt, ...) RK_PRINTF(3, 4);

/* As rk_fail(), with ": <base text>" appended: "<message>: invalid parameter". */
rk_code rk_fail_tail(rk_err *err, rk_code code, const char *fmt, ...) RK_PRINTF(3, 4);

/* Puts "<context>: " before the sentence already in |err|, keeps the code, and returns it. */
rk_code rk_err_wrap(rk_err *err, const char *fmt, ...) RK_PRINTF(2, 3);

/* Marks the error as caused by the caller's own input (extra_info is_input_error). Returns its
 * code. */
rk_code rk_err_input(rk_err *err);

void rk_err_clear(rk_err *err);

/* The three error macros: return, go to |out|, keep the first error during cleanup. */
#define RK_RET(expr)                                                                               \
    do {                                                                                           \
        rk_code rk_ret_code_ = (expr);                                                             \
        if (RK_UNLIKELY(rk_ret_code_ != RK_OK)) {                                                  \
            return rk_ret_code_;                                                                   \
        }                                                                                          \
    } while (0)
#define RK_ERR(expr)                                                                               \
    do {                                                                                           \
        code = (expr);                                                                             \
        if (RK_UNLIKELY(code != RK_OK)) {                                                          \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)
#define RK_KEEP(expr)                                                                              \
    do {                                                                                           \
        rk_code rk_keep_code_ = (expr);                                                            \
        if (code == RK_OK) {                                                                       \
            code = rk_keep_code_;                                                                  \
        }                                                                                          \
    } while (0)

#endif
