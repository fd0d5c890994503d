/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the JSON test files share.
 */
#ifndef RK_TESTS_JSON_TEST_PRIVATE_H
#define RK_TESTS_JSON_TEST_PRIVATE_H

/* cmocka.h needs the others before it */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/json.h"

/* Run one group; the number of failed tests. */
int json_read_tests(void);
int json_number_tests(void);
int json_oracle_tests(void);

#endif
