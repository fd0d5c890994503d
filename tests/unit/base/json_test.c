/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the groups of the JSON tests.
 */
#include "json_test_private.h"

int
main(void)
{
    int failed = json_read_tests();
    failed += json_number_tests();
    failed += json_oracle_tests();
    return failed;
}
