/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gRPC layer's own formats, without sockets: message prefix, timeout, percent-coded text,
 * message compression. Pure functions and a 5-byte state; any thread.
 */
#ifndef RK_RPC_GRPC_H
#define RK_RPC_GRPC_H

#include "base/slice.h"

#define RK__GRPC_PREFIX 5u

/* The prefix of a message, gathered over any split: flag byte, then the length, big-endian. */
typedef struct rk__grpc_prefix {
    uint8_t bytes[RK__GRPC_PREFIX];
    uint8_t len;
} rk__grpc_prefix;

/* Takes prefix bytes from |data|; returns how many. Complete when |prefix->len| is RK__GRPC_PREFIX.
 */
size_t rk__grpc_prefix_feed(rk__grpc_prefix *prefix, const uint8_t *data, size_t len);
static inline bool
rk__grpc_prefix_done(const rk__grpc_prefix *prefix)
{
    return prefix->len == RK__GRPC_PREFIX;
}
uint32_t rk__grpc_prefix_size(const rk__grpc_prefix *prefix);
static inline uint8_t
rk__grpc_prefix_flag(const rk__grpc_prefix *prefix)
{
    return prefix->bytes[0];
}
void rk__grpc_prefix_put(uint8_t out[RK__GRPC_PREFIX], size_t size);

/* "application/grpc", optionally followed by '+' or ';'. */
bool rk__grpc_is_content_type(rk_str value);

/* "100m" to nanoseconds; false when malformed. Values past INT64_MAX become it. */
bool rk__grpc_timeout_parse(rk_str value, int64_t *out_ns);
/* At most 8 digits and a unit, never less than the time left (rounded up). |out| has 16 bytes. */
void rk__grpc_timeout_format(char *out, int64_t timeout_ns);

/* Percent-coding of grpc-message: bytes outside 0x20..0x7E and '%' become %XX. |out| has 3 * s.len
 * bytes. */
size_t rk__grpc_text_encode(char *out, rk_str s);
/* Decodes in the other direction; malformed escapes stay as they are. |out| has s.len bytes. */
size_t rk__grpc_text_decode(char *out, rk_str s);

typedef enum rk__inflate_result {
    RK__INFLATE_OK,
    RK__INFLATE_TOO_LARGE,
    RK__INFLATE_MALFORMED,
    RK__INFLATE_NO_MEMORY,
} rk__inflate_result;

/* The most bytes |wire_bytes| may inflate to: min(|message_max|, max(4 MiB, 100 x wire)). */
size_t rk__inflate_limit(size_t wire_bytes, size_t message_max);
/* Inflates gzip or zlib data into |*out| (rk_alloc, 16-byte aligned; NULL unless OK). Never holds
 * more than |limit|. */
rk__inflate_result rk__inflate(uint8_t **out, size_t *out_len, const uint8_t *data, size_t len,
                               size_t limit);

/* rk_code of a gRPC status without an rk-code trailer, and the status as text of a code. */
rk_code rk__grpc_status_to_code(int32_t status);

#endif
