/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The random rotation of kernel/bits.h, a template: a kernel file includes it once after defining
 *
 *   RK__ROTATE_NAME    the function to define: rk__rotate_fn
 *   RK__ROTATE_TARGET  its target attribute, or nothing
 *   RK__ROTATE_LANES   floats of a register: 4, 8 or 16
 *
 * A size that is a power of two takes three rounds of random signs and a Walsh-Hadamard transform
 * over everything. Any other takes two rounds of: signs, a transform over the largest power of two
 * that fits at the front, signs, the same at the back, and one butterfly between the two halves,
 * which evens out their weights where the two transforms overlap little. Every step is orthogonal.
 *
 * Stages run in the same order for every register width and each is one addition or subtraction,
 * so every instruction set gives the same bits.
 */
#ifndef RK__ROTATE_NAME
#error "define RK__ROTATE_NAME, RK__ROTATE_TARGET and RK__ROTATE_LANES first"
#endif

typedef float rk__rotate_vec __attribute__((vector_size(RK__ROTATE_LANES * 4)));
typedef int32_t rk__rotate_ints __attribute__((vector_size(RK__ROTATE_LANES * 4)));

#if RK__ROTATE_LANES == 16
#define RK__SWAP1(v)                                                                               \
    __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define RK__SWAP2(v)                                                                               \
    __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define RK__SWAP4(v)                                                                               \
    __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define RK__SWAP8(v)                                                                               \
    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#elif RK__ROTATE_LANES == 8
#define RK__SWAP1(v) __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
#define RK__SWAP2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define RK__SWAP4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#else
#define RK__SWAP1(v) __builtin_shufflevector(v, v, 1, 0, 3, 2)
#define RK__SWAP2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1)
#endif

/* Per lane l: -1 where bit |bit| of l is set, else 1. */
#define RK__LANE_SIGN(l, bit) (((l) >> (bit)) & 1 ? -1.0f : 1.0f)
#if RK__ROTATE_LANES == 16
#define RK__LANES(f, b)                                                                            \
    {                                                                                              \
        f(0, b), f(1, b), f(2, b), f(3, b), f(4, b), f(5, b), f(6, b), f(7, b), f(8, b), f(9, b),  \
            f(10, b), f(11, b), f(12, b), f(13, b), f(14, b), f(15, b)                             \
    }
#elif RK__ROTATE_LANES == 8
#define RK__LANES(f, b)                                                                            \
    {                                                                                              \
        f(0, b), f(1, b), f(2, b), f(3, b), f(4, b), f(5, b), f(6, b), f(7, b)                     \
    }
#else
#define RK__LANES(f, b)                                                                            \
    {                                                                                              \
        f(0, b), f(1, b), f(2, b), f(3, b)                                                         \
    }
#endif
#define RK__LANE_BIT(l, bit) (1 << (l))

/* x has |n| floats, a power of two of at least 64, 64-byte aligned; scales by |scale|. */
static RK__ROTATE_TARGET void
rk__hadamard(float *x, size_t n, float scale)
{
    static const rk__rotate_vec s1 = RK__LANES(RK__LANE_SIGN, 0);
    static const rk__rotate_vec s2 = RK__LANES(RK__LANE_SIGN, 1);
#if RK__ROTATE_LANES >= 8
    static const rk__rotate_vec s4 = RK__LANES(RK__LANE_SIGN, 2);
#endif
#if RK__ROTATE_LANES == 16
    static const rk__rotate_vec s8 = RK__LANES(RK__LANE_SIGN, 3);
#endif
    rk__rotate_vec *p = (rk__rotate_vec *)(void *)x;
    size_t vecs = n / RK__ROTATE_LANES;
    size_t h = 1;

    for (size_t i = 0; i < vecs; i++) {
        rk__rotate_vec v = p[i] * scale;
        v = v * s1 + RK__SWAP1(v);
        v = v * s2 + RK__SWAP2(v);
#if RK__ROTATE_LANES >= 8
        v = v * s4 + RK__SWAP4(v);
#endif
#if RK__ROTATE_LANES == 16
        v = v * s8 + RK__SWAP8(v);
#endif
        p[i] = v;
    }
    for (; h * 4 <= vecs; h *= 4) {
        for (size_t i = 0; i < vecs; i += 4 * h) {
            for (size_t j = i; j < i + h; j++) {
                rk__rotate_vec a = p[j] + p[j + h];
                rk__rotate_vec b = p[j] - p[j + h];
                rk__rotate_vec c = p[j + 2 * h] + p[j + 3 * h];
                rk__rotate_vec d = p[j + 2 * h] - p[j + 3 * h];
                p[j] = a + c;
                p[j + h] = b + d;
                p[j + 2 * h] = a - c;
                p[j + 3 * h] = b - d;
            }
        }
    }
    for (size_t j = 0; h < vecs && j < h; j++) {
        rk__rotate_vec a = p[j];
        rk__rotate_vec b = p[j + h];
        p[j] = a + b;
        p[j + h] = a - b;
    }
}

static RK__ROTATE_TARGET void
rk__random_signs(float *x, size_t n, uint64_t seed)
{
    static const rk__rotate_ints lanes = RK__LANES(RK__LANE_BIT, 0);
    rk__rotate_ints *p = (rk__rotate_ints *)(void *)x;

    for (size_t i = 0; i < n; i += 64) {
        uint64_t bits = rk__random(&seed);
        for (size_t j = 0; j < 64; j += RK__ROTATE_LANES) {
            rk__rotate_ints set = ((rk__rotate_ints){0} + (int32_t)(bits & 0xffff)) & lanes;
            *p++ ^= (set != 0) & INT32_MIN;
            bits >>= RK__ROTATE_LANES;
        }
    }
}

static RK__ROTATE_TARGET void
RK__ROTATE_NAME(float *x, size_t n, uint64_t seed)
{
    size_t power = (size_t)1 << (63 - __builtin_clzll((unsigned long long)n));
    float scale = 1.0f / sqrtf((float)power);

    if (power == n) {
        for (uint64_t round = 0; round < 3; round++) {
            rk__random_signs(x, n, rk_hash_u64(seed + round));
            rk__hadamard(x, n, scale);
        }
        return;
    }
    for (uint64_t round = 0; round < 4; round++) {
        rk__rotate_vec *lower = (rk__rotate_vec *)(void *)x;
        rk__rotate_vec *upper = (rk__rotate_vec *)(void *)(x + n / 2);
        bool back = round & 1;
        rk__random_signs(x, n, rk_hash_u64(seed + round));
        rk__hadamard(back ? x + n - power : x, power, scale);
        for (size_t i = 0; back && i < n / 2 / RK__ROTATE_LANES; i++) {
            rk__rotate_vec a = lower[i] + upper[i];
            rk__rotate_vec b = lower[i] - upper[i];
            lower[i] = a * 0.70710678f;
            upper[i] = b * 0.70710678f;
        }
    }
}
