/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the groups of the codec's tests.
 */
#include "pb_test_private.h"

int
main(void)
{
    int failed = pb_decode_tests();
    failed += pb_encode_tests();
    return failed;
}
