/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the test files of the codec share.
 */
#ifndef RK_TESTS_PB_TEST_PRIVATE_H
#define RK_TESTS_PB_TEST_PRIVATE_H

/* cmocka.h needs the others before it */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "pb/pb.h"

/* Run one group; the number of failed tests. */
int pb_decode_tests(void);
int pb_encode_tests(void);

static inline void
put_varint(rk_buf *buf, uint64_t value)
{
    while (value >= 0x80) {
        rk_buf_byte(buf, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    rk_buf_byte(buf, (uint8_t)value);
}

static inline void
put_tag(rk_buf *buf, uint32_t number, uint32_t wire)
{
    put_varint(buf, (uint64_t)number << 3 | wire);
}

/* A field of wire type 2. */
static inline void
put_bytes(rk_buf *buf, uint32_t number, const void *data, size_t len)
{
    put_tag(buf, number, 2);
    put_varint(buf, len);
    rk_buf_append(buf, data, len);
}

#endif
