/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codes of a few bits per component, see disk/disk.h.
 *
 * The step between levels follows from the length of the residual: after the rotation its
 * components are close to normal, so that the step with the least error is a known multiple of
 * their deviation; three multiples around it are tried for each row and the one that leaves the
 * smallest angle is kept. The factors make the estimate unbiased for the angle that is left:
 *
 *   L2:          |x - y|^2 is about |r|^2 + 2 f <v, P(c - m)> - 2 f <v, P(y - m)> + |y - c|^2
 *   IP, COSINE:  -<x, y>   is about f <v, P(c - m)> - <r, Pc> -   f <v, P(y - m)> - <c, y>
 *
 * with f = |r|^2 / <v, r>, so that one query table serves all centres. m is the mean of the
 * centres: without it the tables of data far from the origin would spend their bits on the way
 * there.
 */
#include "index/disk/disk.h"

/* Half a step in deviations, and what is left of the error, for 1 to 4 planes: the uniform
 * quantiser of a normal variable with the least square error. */
static const float half_steps[RK__DISK_PLANES_MAX + 1] = {0, 0.798f, 0.498f, 0.293f, 0.1676f};
static const float errors[RK__DISK_PLANES_MAX + 1] = {0, 0.603f, 0.650f, 0.648f, 0.637f};

float
rk__disk_error(const rk__disk *disk)
{
    return errors[disk->planes];
}

void
rk__disk_form(const rk__space *space, const void *row, float *out)
{
    float scale = space->metric == RK_METRIC_COSINE ? rk__inv_norm(space, row) : 1.0f;

    rk__row_to_f32(space->type, space->dim, row, out);
    for (size_t i = 0; space->metric == RK_METRIC_COSINE && i < space->dim; i++) {
        out[i] *= scale;
    }
}

/* The odd integer of a component's size, at most |top|. */
static inline int32_t
level_of(float size, float scale, int32_t top)
{
    float halves = size * scale;

    return halves < (float)top ? ((int32_t)halves | 1) : top;
}

/* The scale that leaves the smallest angle between the residual and its levels; |*dot| is <v, r>.
 */
static float
best_scale(const float *r, uint32_t n, float square, uint32_t planes, float *dot)
{
    static const float tries[] = {1.0f, 0.87f, 1.15f};
    int32_t top = (int32_t)(1u << planes) - 1;
    float base = 1 / (half_steps[planes] * sqrtf(square / (float)n));
    float best = -1;
    float scale = 0;

    for (size_t t = 0; t < RK_COUNT(tries); t++) {
        float vr = 0;
        float vv = 0;
        for (uint32_t i = 0; i < n; i++) {
            float size = fabsf(r[i]);
            float v = (float)level_of(size, base * tries[t], top);
            vr += v * size;
            vv += v * v;
        }
        if (vr * vr / vv > best) {
            best = vr * vr / vv;
            scale = base * tries[t];
            *dot = vr;
        }
    }
    return scale;
}

static void
encode_planes(const rk__disk *disk, rk_metric metric, float square, rk__disk_coding *c)
{
    const float *r = c->residual;
    uint32_t n = disk->rotation.padded;
    int32_t top = (int32_t)(1u << disk->planes) - 1;
    float dot = 0;
    float scale = best_scale(r, n, square, disk->planes, &dot);
    float f = square / dot;
    float vc = 0;
    float rc = 0;

    memset(c->signs, 0, disk->code_dims / 8);
    for (uint32_t i = 0; i < n; i++) {
        int32_t v = level_of(fabsf(r[i]), scale, top);
        v = r[i] < 0 ? -v : v;
        vc += (float)v * c->centre[i];
        rc += r[i] * c->centre[i];
        unsigned bits = (unsigned)(v + top) / 2;
        for (uint32_t p = 0; p < disk->planes; p++) {
            unsigned bit = bits >> (disk->planes - 1 - p) & 1;
            c->signs[(p * n + i) / 8] = (uint8_t)(c->signs[(p * n + i) / 8] | bit << i % 8);
        }
    }
    if (metric == RK_METRIC_L2) {
        c->add = square + 2 * f * vc;
        c->mul = -2 * f;
    } else {
        c->add = f * vc - rc;
        c->mul = -f;
    }
}

void
rk__disk_encode(const rk__disk *disk, rk_metric metric, rk__disk_coding *c)
{
    uint32_t n = disk->rotation.padded;
    float square = 0;
    float rm = 0; /* <r, mean> */

    for (uint32_t i = 0; i < n; i++) {
        c->residual[i] = c->row[i] - c->centre[i];
        square += c->residual[i] * c->residual[i];
        rm += c->residual[i] * c->mean[i];
    }
    if (disk->planes == 1) {
        rk__bits_encode(metric == RK_METRIC_L2 ? RK_METRIC_L2 : RK_METRIC_IP, c->row, c->centre, n,
                        c->signs, &c->add, &c->mul);
    } else if (square > 0 && isfinite(square) && isfinite(1 / square)) {
        encode_planes(disk, metric, square, c);
    } else { /* the row is the centre, or too far away for f32 */
        memset(c->signs, 0, disk->code_dims / 8);
        c->add = square < 1 ? 0 : RK__DISK_FAR;
        c->mul = 0;
    }
    if (metric != RK_METRIC_L2) {
        c->add -= rm;
    }
    if (!isfinite(c->add) || !isfinite(c->mul)) {
        c->add = RK__DISK_FAR;
        c->mul = 0;
    }
}

void
rk__disk_query_init(const rk__disk *disk, rk__bits_query *out, const float *rotated, float *scaled)
{
    uint32_t n = disk->rotation.padded;

    for (uint32_t p = 0; p < disk->planes; p++) {
        float weight = (float)(1u << (disk->planes - 1 - p));
        for (uint32_t i = 0; i < n; i++) {
            scaled[p * n + i] = rotated[i] * weight;
        }
    }
    rk__bits_query_init(out, scaled, disk->code_dims);
}
