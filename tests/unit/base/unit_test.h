/* SPDX-License-Identifier: Apache-2.0 */
/* What every test of this folder starts with: cmocka, after the headers that it needs. */
#ifndef RK_TESTS_UNIT_BASE_UNIT_TEST_H
#define RK_TESTS_UNIT_BASE_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmocka.h"

#endif
