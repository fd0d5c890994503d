/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC formats: prefix, timeout, percent-coded text, compression. See grpc.h.
 *
 * Inflating checks the limit while it goes: the output buffer grows by doubling up to the limit
 * plus one byte, and the extra byte being filled is what tells that the message is too large.
 */
#include "rpc/grpc.h"

#include <stdio.h>
#include <zlib.h>

#include "base/mem.h"

size_t
rk__grpc_prefix_feed(rk__grpc_prefix *prefix, const uint8_t *data, size_t len)
{
    size_t take = RK_MIN(len, (size_t)(RK__GRPC_PREFIX - prefix->len));

    for (size_t i = 0; i < take; i++) {
        prefix->bytes[prefix->len++] = data[i];
    }
    return take;
}

uint32_t
rk__grpc_prefix_size(const rk__grpc_prefix *prefix)
{
    const uint8_t *b = prefix->bytes;

    return (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
}

void
rk__grpc_prefix_put(uint8_t out[RK__GRPC_PREFIX], size_t size)
{
    out[0] = 0;
    out[1] = (uint8_t)(size >> 24);
    out[2] = (uint8_t)(size >> 16);
    out[3] = (uint8_t)(size >> 8);
    out[4] = (uint8_t)size;
}

bool
rk__grpc_is_content_type(rk_str value)
{
    static const char name[] = "application/grpc";
    size_t len = sizeof(name) - 1;

    return rk_str_starts(value, name) &&
           (value.len == len || value.data[len] == '+' || value.data[len] == ';');
}

/* Nanoseconds of a timeout unit, 0 for an unknown one. */
static int64_t
unit_ns(char unit)
{
    switch (unit) {
    case 'H':
        return INT64_C(3600000000000);
    case 'M':
        return INT64_C(60000000000);
    case 'S':
        return INT64_C(1000000000);
    case 'm':
        return 1000000;
    case 'u':
        return 1000;
    case 'n':
        return 1;
    default:
        return 0;
    }
}

bool
rk__grpc_timeout_parse(rk_str value, int64_t *out_ns)
{
    int64_t n = 0;
    int64_t unit;

    if (value.len < 2 || value.len > 9) { /* at most 8 digits */
        return false;
    }
    for (size_t i = 0; i + 1 < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
        n = n * 10 + (value.data[i] - '0');
    }
    unit = unit_ns(value.data[value.len - 1]);
    if (unit == 0) {
        return false;
    }
    if (__builtin_mul_overflow(n, unit, out_ns)) {
        *out_ns = INT64_MAX;
    }
    return true;
}

void
rk__grpc_timeout_format(char *out, int64_t timeout_ns)
{
    static const char units[] = "numSMH";

    for (size_t i = 0; units[i]; i++) {
        int64_t unit = unit_ns(units[i]);
        int64_t n = timeout_ns <= 0 ? 0 : timeout_ns / unit + (timeout_ns % unit ? 1 : 0);
        if (n <= 99999999) {
            snprintf(out, 16, "%d%c", (int)n, units[i]);
            return;
        }
    }
    snprintf(out, 16, "99999999H");
}

static const char hex_digits[] = "0123456789ABCDEF";

size_t
rk__grpc_text_encode(char *out, rk_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        uint8_t byte = (uint8_t)s.data[i];
        if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
            out[n++] = (char)byte;
        } else {
            out[n++] = '%';
            out[n++] = hex_digits[byte >> 4];
            out[n++] = hex_digits[byte & 15];
        }
    }
    return n;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t
rk__grpc_text_decode(char *out, rk_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '%' && s.len - i > 2 && hex_value(s.data[i + 1]) >= 0 &&
            hex_value(s.data[i + 2]) >= 0) {
            out[n++] = (char)(hex_value(s.data[i + 1]) * 16 + hex_value(s.data[i + 2]));
            i += 2;
        } else {
            out[n++] = s.data[i];
        }
    }
    return n;
}

size_t
rk__inflate_limit(size_t wire_bytes, size_t message_max)
{
    size_t ratio;

    if (!rk_mul_ok(&ratio, wire_bytes, 100)) {
        ratio = SIZE_MAX;
    }
    return RK_MIN(message_max, RK_MAX((size_t)4 << 20, ratio));
}

/* Doubles |*out| up to |limit| + 1 bytes. */
static bool
grow(uint8_t **out, size_t *cap, size_t limit)
{
    size_t more = *cap > limit / 2 ? limit + 1 : *cap * 2;
    uint8_t *bigger = rk_realloc(*out, more);

    if (bigger) {
        *out = bigger;
        *cap = more;
    }
    return bigger != NULL;
}

static rk__inflate_result
inflate_all(z_stream *z, uint8_t **out, size_t *cap, size_t limit)
{
    for (;;) {
        size_t done = z->total_out;
        int rc;

        if (done == *cap) {
            if (done > limit) {
                return RK__INFLATE_TOO_LARGE;
            }
            if (!grow(out, cap, limit)) {
                return RK__INFLATE_NO_MEMORY;
            }
        }
        z->next_out = *out + done;
        z->avail_out = (uInt)RK_MIN(*cap - done, (size_t)1 << 30);
        rc = inflate(z, Z_NO_FLUSH);
        if (rc == Z_STREAM_END) {
            return z->total_out > limit ? RK__INFLATE_TOO_LARGE
                   : z->avail_in > 0    ? RK__INFLATE_MALFORMED
                                        : RK__INFLATE_OK;
        }
        if (rc == Z_MEM_ERROR) {
            return RK__INFLATE_NO_MEMORY;
        }
        if (rc != Z_OK || (z->avail_in == 0 && z->avail_out > 0)) {
            return RK__INFLATE_MALFORMED;
        }
    }
}

rk__inflate_result
rk__inflate(uint8_t **out, size_t *out_len, const uint8_t *data, size_t len, size_t limit)
{
    z_stream z = {0};
    size_t cap = RK_MIN(RK_MAX(len > limit / 4 ? limit : len * 4, (size_t)1024), limit + 1);
    rk__inflate_result result;

    *out = NULL;
    *out_len = 0;
    if (len > UINT32_MAX) {
        return RK__INFLATE_TOO_LARGE;
    }
    if (inflateInit2(&z, 15 + 32) != Z_OK) { /* gzip or zlib, told apart by their headers */
        return RK__INFLATE_NO_MEMORY;
    }
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)len;
    *out = rk_alloc(cap);
    result = *out ? inflate_all(&z, out, &cap, limit) : RK__INFLATE_NO_MEMORY;
    inflateEnd(&z);
    if (result == RK__INFLATE_OK) {
        *out_len = z.total_out;
    } else {
        rk_free(*out);
        *out = NULL;
    }
    return result;
}

rk_code
rk__grpc_status_to_code(int32_t status)
{
    static const rk_code codes[] = {
        RK_OK,
        RK_ECANCELLED,
        RK_EUNEXPECTED,
        RK_EINVAL,
        RK_EDEADLINE,
        RK_EKEY_NOT_FOUND,
        RK_EEXISTS,
        RK_EPERMISSION,
        RK_ENOMEM,
        RK_ENOT_READY,
        RK_ECONFLICT,
        RK_EINVAL,
        RK_EUNIMPLEMENTED,
        RK_EINTERNAL,
        RK_EUNAVAILABLE,
        RK_ECORRUPT,
        RK_EUNAUTHENTICATED,
    };

    return status >= 0 && (size_t)status < RK_COUNT(codes) ? codes[status] : RK_EUNEXPECTED;
}
