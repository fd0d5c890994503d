/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edit distance with swaps of neighbours, row by row, given up as soon as a row holds nothing near
 * enough. Three rows of a fixed size on the stack.
 */
#include "base/nearest.h"

#include "base/util.h"

#define NAME_MAX_BYTES 128u
#define EDITS_MAX      ((size_t)4)

rk_nearest
rk_nearest_to(rk_str asked)
{
    return (rk_nearest){.asked = asked, .distance = SIZE_MAX};
}

static char
fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static uint8_t
least(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* The distance of |a| and |b|, at most NAME_MAX_BYTES each; |most| + 1 when it is more than |most|.
 */
static size_t
edit_distance(rk_str a, rk_str b, size_t most)
{
    uint8_t rows[3][NAME_MAX_BYTES + 1];
    uint8_t *before = rows[0], *last = rows[1], *row = rows[2];

    for (size_t k = 0; k <= b.len; k++) {
        last[k] = (uint8_t)k;
    }
    for (size_t i = 1; i <= a.len; i++) {
        uint8_t lowest;
        row[0] = lowest = (uint8_t)i;
        for (size_t k = 1; k <= b.len; k++) {
            uint8_t same = fold(a.data[i - 1]) == fold(b.data[k - 1]) ? 0 : 1;
            row[k] =
                least((uint8_t)(last[k - 1] + same), (uint8_t)(least(last[k], row[k - 1]) + 1));
            if (i > 1 && k > 1 && fold(a.data[i - 1]) == fold(b.data[k - 2]) &&
                fold(a.data[i - 2]) == fold(b.data[k - 1])) {
                row[k] = least(row[k], (uint8_t)(before[k - 2] + 1));
            }
            lowest = least(lowest, row[k]);
        }
        if (lowest > most) {
            return most + 1;
        }
        uint8_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b.len];
}

void
rk_nearest_offer(rk_nearest *n, rk_str name)
{
    size_t longer = RK_MAX(n->asked.len, name.len);
    size_t most = RK_MIN(longer / 3, EDITS_MAX);
    size_t distance;

    if (longer > NAME_MAX_BYTES || n->asked.len == 0 || name.len == 0) {
        return;
    }
    if (n->distance != SIZE_MAX) {
        if (n->distance == 0) {
            return;
        }
        most = RK_MIN(most, n->distance - 1);
    }
    distance = edit_distance(n->asked, name, most);
    if (distance <= most) {
        n->best = name;
        n->distance = distance;
    }
}
