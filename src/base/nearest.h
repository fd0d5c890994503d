/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of several names was probably meant by one that is none of them: settings, fields.
 *
 * A name is near when few letters must be put in, left out, exchanged or swapped with their
 * neighbour to make it the other, letters of either case being the same: one of three letters, two
 * of six, four at most of longer ones. Names beyond 128 bytes are near to nothing. No allocation,
 * so that sentences of errors can use it; any thread.
 */
#ifndef RK_BASE_NEAREST_H
#define RK_BASE_NEAREST_H

#include "base/slice.h"

typedef struct rk_nearest {
    rk_str asked;    /* borrowed */
    rk_str best;     /* borrowed; len 0: none is near so far */
    size_t distance; /* of |best| */
} rk_nearest;

rk_nearest rk_nearest_to(rk_str asked);
/* |name| is one that exists; of equally near ones the first stays. */
void rk_nearest_offer(rk_nearest *n, rk_str name);

#endif
