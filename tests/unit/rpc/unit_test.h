/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmocka with the headers it needs before it, in the order it needs them.
 */
#ifndef RK_RPC_UNIT_TEST_H
#define RK_RPC_UNIT_TEST_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
