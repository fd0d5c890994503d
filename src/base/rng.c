/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeded pseudo-random numbers for tests, sampling and clustering; never for secrets.
 *
 * The generator is xoshiro256++ (Blackman and Vigna), its state filled by splitmix64 from the seed,
 * so that every seed, zero too, gives a good state. Bounded numbers use Lemire's multiplication
 * with rejection. The sequence of a seed is part of the tests; it must not change.
 */
#include <math.h>

#include "base/seam.h"

__extension__ typedef unsigned __int128 u128;

static uint64_t
rotate_left(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

void
rk_rng_init(rk_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        rng->s[i] = z ^ (z >> 31);
    }
}

uint64_t
rk_rng_next(rk_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t
rk_rng_below(rk_rng *rng, uint64_t bound)
{
    u128 wide = (u128)rk_rng_next(rng) * bound;

    RK_DCHECK(bound > 0);
    if ((uint64_t)wide < bound) {
        uint64_t threshold = (0 - bound) % bound;
        while ((uint64_t)wide < threshold) {
            wide = (u128)rk_rng_next(rng) * bound;
        }
    }
    return (uint64_t)(wide >> 64);
}

float
rk_rng_float(rk_rng *rng)
{
    return (float)(rk_rng_next(rng) >> 40) * 0x1p-24f;
}

float
rk_rng_normal(rk_rng *rng)
{
    /* Box and Muller's transform; (0, 1] for the logarithm */
    double u = ((double)(rk_rng_next(rng) >> 11) + 1.0) * 0x1p-53;
    double v = (double)(rk_rng_next(rng) >> 11) * 0x1p-53;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
