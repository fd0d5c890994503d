/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two data sets of real shape without a download, from images of 28 x 28 pixels:
 *
 *   make_images affine OUT ROWS SEED [IMAGES]   784 dimensions: every row is an image after a
 * random affine map (rotation, scale, shear, shift) and a small sine warp make_images sift OUT ROWS
 * SEED [IMAGES]     128 dimensions: every row is the gradient histogram (4 x 4 cells, 8 directions,
 * as SIFT has it) of a random window of an image make_images strokes OUT.idx COUNT SEED      the
 * drawn images themselves, for a look
 *
 * IMAGES is an uncompressed IDX file (the format of MNIST: 16 bytes of header, then 784 bytes an
 * image). Without one, 10,000 images are drawn with a pen: a class is a few strokes given by
 * control points, an image its class with every point moved, then slanted, stretched and drawn with
 * a nib of some width. The last twentieth of the images serves the 1,000 queries alone, so no query
 * has a sibling in the base. Every row has a random state of its own: the file depends on the seed,
 * not on the number of threads.
 */
#include <math.h>

#include "ann_make.h"

#define SIDE      28
#define PIXELS    ((size_t)SIDE * SIDE)
#define DRAWN     10000u
#define CHUNK     256u
#define WINDOW    16 /* samples a side of a SIFT window */
#define CELLS     4
#define TURNS     8
#define SIFT_DIM  (CELLS * CELLS * TURNS)
#define TRIES_MAX 64

static double
between(uint64_t *state, double low, double high)
{
    return low + (high - low) * ann_uniform(state);
}

/* The value at a point between pixels; 0 outside. */
static float
pixel(const uint8_t *image, float x, float y)
{
    int x0 = (int)floorf(x);
    int y0 = (int)floorf(y);
    float fx = x - (float)x0;
    float fy = y - (float)y0;
    float corner[4];

    if (x0 < -1 || y0 < -1 || x0 >= SIDE || y0 >= SIDE) {
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        int cx = x0 + (i & 1);
        int cy = y0 + (i >> 1);
        bool inside = cx >= 0 && cy >= 0 && cx < SIDE && cy < SIDE;
        corner[i] = inside ? (float)image[cy * SIDE + cx] : 0;
    }
    return (corner[0] * (1 - fx) + corner[1] * fx) * (1 - fy) +
           (corner[2] * (1 - fx) + corner[3] * fx) * fy;
}

/* ---- drawn images ---- */

#define POINTS_MAX  7
#define STROKES_MAX 3
#define STEPS       10 /* straight pieces between two control points */
#define LINE_MAX    (POINTS_MAX * STEPS)

/* Control points in a unit square, y downwards; n_points 0 ends the strokes. A stroke whose first
 * and last points are equal is closed. */
typedef struct glyph {
    struct {
        int n_points;
        float points[POINTS_MAX][2];
    } strokes[STROKES_MAX];
} glyph;

static const glyph glyphs[] = {
    {{{7, {{.5f, 0}, {.1f, .25f}, {.1f, .75f}, {.5f, 1}, {.9f, .75f}, {.9f, .25f}, {.5f, 0}}}}},
    {{{2, {{.5f, 0}, {.5f, 1}}}}},
    {{{3, {{.3f, .2f}, {.55f, 0}, {.5f, 1}}}, {2, {{.2f, 1}, {.85f, 1}}}}},
    {{{5, {{.1f, .2f}, {.5f, 0}, {.85f, .25f}, {.5f, .65f}, {.1f, 1}}},
      {3, {{.1f, 1}, {.5f, .9f}, {.9f, 1}}}}},
    {{{4, {{.15f, .1f}, {.6f, 0}, {.8f, .25f}, {.4f, .48f}}},
      {4, {{.4f, .48f}, {.9f, .65f}, {.65f, 1}, {.1f, .9f}}}}},
    {{{3, {{.2f, 0}, {.15f, .5f}, {.85f, .5f}}}, {2, {{.75f, 0}, {.7f, 1}}}}},
    {{{2, {{.85f, 0}, {.2f, .02f}}},
      {2, {{.2f, .02f}, {.2f, .45f}}},
      {4, {{.2f, .45f}, {.75f, .45f}, {.8f, .85f}, {.15f, 1}}}}},
    {{{7, {{.7f, 0}, {.3f, .3f}, {.15f, .75f}, {.5f, 1}, {.8f, .8f}, {.6f, .55f}, {.2f, .7f}}}}},
    {{{4, {{.1f, 0}, {.85f, .02f}, {.6f, .45f}, {.35f, 1}}}}},
    {{{4, {{.1f, 0}, {.85f, .02f}, {.6f, .45f}, {.35f, 1}}}, {2, {{.3f, .5f}, {.8f, .5f}}}}},
    {{{6, {{.75f, .1f}, {.25f, .15f}, {.5f, .5f}, {.8f, .8f}, {.5f, 1}, {.25f, .8f}}},
      {4, {{.25f, .8f}, {.5f, .5f}, {.8f, .25f}, {.75f, .1f}}}}},
    {{{6, {{.8f, .2f}, {.45f, 0}, {.2f, .25f}, {.5f, .5f}, {.8f, .35f}, {.8f, .2f}}},
      {3, {{.8f, .2f}, {.75f, .6f}, {.6f, 1}}}}},
};

typedef struct line {
    int n;
    float at[LINE_MAX + 1][2];
} line;

/* A smooth curve through the control points (Catmull and Rom). */
static void
curve(const float (*p)[2], int n, line *out)
{
    bool closed = n > 3 && fabsf(p[0][0] - p[n - 1][0]) + fabsf(p[0][1] - p[n - 1][1]) < 1e-6f;

    out->n = 0;
    for (int i = 0; i + 1 < n; i++) {
        int before = i > 0 ? i - 1 : closed ? n - 2 : 0;
        int after = i + 2 < n ? i + 2 : closed ? 1 : n - 1;
        for (int s = 0; s <= STEPS; s++) {
            float t = (float)s / STEPS;
            if (s == STEPS && i + 2 < n) {
                break; /* the next piece begins there */
            }
            for (int c = 0; c < 2; c++) {
                float a = p[before][c];
                float b = p[i][c];
                float d = p[i + 1][c];
                float e = p[after][c];
                out->at[out->n][c] =
                    0.5f *
                    (2 * b +
                     t * (d - a + t * (2 * a - 5 * b + 4 * d - e + t * (3 * b - a - 3 * d + e))));
            }
            out->n++;
        }
    }
}

/* An unsteady hand: two waves of random length and direction along the stroke. */
static void
shake(line *l, uint64_t *state)
{
    for (int wave = 0; wave < 2; wave++) {
        float step = (float)between(state, 0.15, 0.9);
        float phase = (float)between(state, 0, 6.283);
        float x = 0.25f * ann_gauss(state);
        float y = 0.25f * ann_gauss(state);
        for (int i = 0; i < l->n; i++) {
            float at = sinf(step * (float)i + phase);
            l->at[i][0] += x * at;
            l->at[i][1] += y * at;
        }
    }
}

/* Ink of one stroke: full within the nib, falling to nothing over a pixel. The nib changes from one
 * end to the other, and the ink is not the same everywhere. */
static void
ink(uint8_t *image, const line *l, const float nibs[2], float shade_max)
{
    for (int i = 0; i + 1 < l->n; i++) {
        float nib = nibs[0] + (nibs[1] - nibs[0]) * (float)i / (float)l->n;
        const float *a = l->at[i];
        const float *b = l->at[i + 1];
        float dx = b[0] - a[0];
        float dy = b[1] - a[1];
        float len2 = dx * dx + dy * dy + 1e-9f;
        int x_first = RK_MAX((int)(fminf(a[0], b[0]) - nib) - 1, 0);
        int x_last = RK_MIN((int)(fmaxf(a[0], b[0]) + nib) + 2, SIDE - 1);
        int y_first = RK_MAX((int)(fminf(a[1], b[1]) - nib) - 1, 0);
        int y_last = RK_MIN((int)(fmaxf(a[1], b[1]) + nib) + 2, SIDE - 1);
        for (int y = y_first; y <= y_last; y++) {
            for (int x = x_first; x <= x_last; x++) {
                float px = (float)x - a[0];
                float py = (float)y - a[1];
                float t = fminf(fmaxf((px * dx + py * dy) / len2, 0), 1);
                float far = hypotf(px - t * dx, py - t * dy);
                float shade = fminf(fmaxf(nib + 0.5f - far, 0), 1) * shade_max;
                uint8_t *to = &image[y * SIDE + x];
                *to = (uint8_t)fmaxf(*to, shade);
            }
        }
    }
}

static void
draw(uint8_t *image, uint64_t *state)
{
    const glyph *g = &glyphs[rk__random(state) % (sizeof(glyphs) / sizeof(glyphs[0]))];
    double turn = 0.12 * (double)ann_gauss(state);
    double slant = 0.15 + 0.22 * (double)ann_gauss(state);
    double width = between(state, 9, 17);
    double height = between(state, 17, 20);
    float nib = (float)between(state, 0.7, 1.7);
    float shift[2];

    for (int c = 0; c < 2; c++) {
        shift[c] = SIDE / 2.0f + 0.7f * ann_gauss(state);
    }
    for (int s = 0; s < STROKES_MAX && g->strokes[s].n_points; s++) {
        float p[POINTS_MAX][2];
        line l;
        int n = g->strokes[s].n_points;
        bool closed = n > 3 && g->strokes[s].points[0][0] == g->strokes[s].points[n - 1][0] &&
                      g->strokes[s].points[0][1] == g->strokes[s].points[n - 1][1];
        for (int i = 0; i < n; i++) {
            double x = (double)g->strokes[s].points[i][0] - 0.5 + 0.07 * (double)ann_gauss(state);
            double y = (double)g->strokes[s].points[i][1] - 0.5 + 0.05 * (double)ann_gauss(state);
            x = (x - slant * y) * width;
            y *= height;
            p[i][0] = (float)(x * cos(turn) - y * sin(turn)) + shift[0];
            p[i][1] = (float)(x * sin(turn) + y * cos(turn)) + shift[1];
        }
        if (closed) {
            p[n - 1][0] = p[0][0];
            p[n - 1][1] = p[0][1];
        }
        curve((const float(*)[2])p, n, &l);
        shake(&l, state);
        float nibs[2] = {nib * (1 + 0.2f * ann_gauss(state)), nib * (1 + 0.2f * ann_gauss(state))};
        ink(image, &l, nibs, (float)between(state, 190, 255));
    }
}

typedef struct images {
    uint8_t *data;
    uint32_t n;
} images;

static images
draw_images(uint32_t n, uint64_t seed)
{
    images im = {calloc(n, PIXELS), n};

    if (!im.data) {
        ann_die("no memory");
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t state = rk_hash_u64(seed * 0x10001 + i);
        draw(im.data + i * PIXELS, &state);
    }
    return im;
}

static uint32_t
big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static images
read_images(const char *path)
{
    uint8_t head[16];
    FILE *file = fopen(path, "rb");

    if (!file || fread(head, 16, 1, file) != 1 || big_endian(head) != 0x803 ||
        big_endian(head + 8) != SIDE || big_endian(head + 12) != SIDE) {
        ann_die("no IDX file of 28 x 28 images (unpack it first)");
    }
    images im = {NULL, big_endian(head + 4)};
    if (im.n < 100 || im.n > 1000000) {
        ann_die("an IDX file of 100 to 1,000,000 images is wanted");
    }
    im.data = calloc(im.n, PIXELS);
    if (!im.data || fread(im.data, PIXELS, im.n, file) != im.n) {
        ann_die("the IDX file is short");
    }
    fclose(file);
    return im;
}

static void
write_images(const char *path, images im)
{
    uint8_t head[16] = {0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    FILE *file = fopen(path, "wb");

    for (int i = 0; i < 4; i++) {
        head[4 + i] = (uint8_t)(im.n >> (24 - 8 * i));
    }
    if (!file || fwrite(head, 16, 1, file) != 1 || fwrite(im.data, PIXELS, im.n, file) != im.n ||
        fclose(file) != 0) {
        ann_die("cannot write the images");
    }
}

/* ---- rows ---- */

/* An image after a random affine map and sine warp; every pixel looks up where it came from. */
static void
affine_row(const uint8_t *image, float *out, uint64_t *state)
{
    double turn = between(state, -0.3, 0.3);
    double sx = 1 / between(state, 0.8, 1.2);
    double sy = 1 / between(state, 0.8, 1.2);
    double shear = between(state, -0.3, 0.3);
    double shift_x = between(state, -2, 2);
    double shift_y = between(state, -2, 2);
    double wave[2] = {between(state, 0, 1), between(state, 0, 1)};
    double phase[2] = {between(state, 0, 6.283), between(state, 0, 6.283)};
    double length[2] = {between(state, 0.25, 0.55), between(state, 0.25, 0.55)};
    double centre = (SIDE - 1) / 2.0;
    double bend_x[SIDE];
    double bend_y[SIDE];

    for (int i = 0; i < SIDE; i++) {
        bend_x[i] = wave[0] * sin(length[0] * i + phase[0]);
        bend_y[i] = wave[1] * sin(length[1] * i + phase[1]);
    }
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            double ux = x - centre - shift_x;
            double uy = y - centre - shift_y;
            double rx = (ux * cos(turn) + uy * sin(turn)) * sx + shear * uy;
            double ry = (uy * cos(turn) - ux * sin(turn)) * sy;
            out[y * SIDE + x] =
                pixel(image, (float)(rx + centre + bend_x[y]), (float)(ry + centre + bend_y[x]));
        }
    }
}

/* Adds one sample to the cells and directions around it, linearly in all three. */
static void
sift_add(float *bins, float x, float y, float direction, float weight)
{
    int x0 = (int)floorf(x);
    int y0 = (int)floorf(y);
    int d0 = (int)floorf(direction);
    float fx = x - (float)x0;
    float fy = y - (float)y0;
    float fd = direction - (float)d0;

    for (int i = 0; i < 8; i++) {
        int cx = x0 + (i & 1);
        int cy = y0 + (i >> 1 & 1);
        int cd = (d0 + (i >> 2)) & (TURNS - 1);
        if (cx >= 0 && cy >= 0 && cx < CELLS && cy < CELLS) {
            bins[(cy * CELLS + cx) * TURNS + cd] += weight * (i & 1 ? fx : 1 - fx) *
                                                    (i >> 1 & 1 ? fy : 1 - fy) *
                                                    (i >> 2 ? fd : 1 - fd);
        }
    }
}

/* Unit length, nothing above 0.2, unit length again, bytes. False: the window is nearly empty. */
static bool
sift_finish(float *bins)
{
    for (int pass = 0; pass < 2; pass++) {
        double sum = 0;
        for (int i = 0; i < SIFT_DIM; i++) {
            sum += (double)bins[i] * (double)bins[i];
        }
        if (pass == 0 && sum < 1e5) {
            return false;
        }
        float scale = (float)(1 / sqrt(sum));
        for (int i = 0; i < SIFT_DIM; i++) {
            bins[i] *= scale;
            bins[i] = pass ? fminf(floorf(bins[i] * 512), 255) : fminf(bins[i], 0.2f);
        }
    }
    return true;
}

static bool
sift_row(const uint8_t *image, float *out, uint64_t *state)
{
    static const float centre = (WINDOW - 1) / 2.0f;
    double cx = between(state, 4, SIDE - 5);
    double cy = between(state, 4, SIDE - 5);
    double scale = between(state, 0.6, 1.6);
    double turn = between(state, -0.3, 0.3);
    float c = (float)(scale * cos(turn));
    float s = (float)(scale * sin(turn));
    float patch[WINDOW + 2][WINDOW + 2];

    for (int y = 0; y < WINDOW + 2; y++) {
        for (int x = 0; x < WINDOW + 2; x++) {
            float ux = (float)x - 1 - centre;
            float uy = (float)y - 1 - centre;
            patch[y][x] = pixel(image, (float)cx + ux * c - uy * s, (float)cy + ux * s + uy * c);
        }
    }
    memset(out, 0, SIFT_DIM * sizeof(*out));
    for (int y = 0; y < WINDOW; y++) {
        for (int x = 0; x < WINDOW; x++) {
            float gx = patch[y + 1][x + 2] - patch[y + 1][x];
            float gy = patch[y + 2][x + 1] - patch[y][x + 1];
            float size = sqrtf(gx * gx + gy * gy);
            if (size > 0) {
                float ux = (float)x - centre;
                float uy = (float)y - centre;
                float direction = atan2f(gy, gx) * (TURNS / 6.2831853f) + TURNS;
                float weight = size * expf(-(ux * ux + uy * uy) / (2 * 8.0f * 8.0f));
                sift_add(out, ux / CELLS + 1.5f, uy / CELLS + 1.5f, direction, weight);
            }
        }
    }
    return sift_finish(out);
}

typedef struct work {
    images im;
    bool sift;
    uint64_t seed;
    uint32_t first_image; /* of the part that this work draws from */
    uint32_t n_images;
    uint32_t rows;
    uint32_t dim;
    float *out;
} work;

static void
chunk(void *arg, size_t at)
{
    const work *w = arg;
    uint32_t last = RK_MIN((uint32_t)(at + 1) * CHUNK, w->rows);

    for (uint32_t row = (uint32_t)at * CHUNK; row < last; row++) {
        uint64_t state = rk_hash_u64(w->seed + row);
        float *out = w->out + (size_t)row * w->dim;
        bool done = false;
        for (int i = 0; i < TRIES_MAX && !done; i++) {
            uint32_t pick = w->first_image + (uint32_t)(rk__random(&state) % w->n_images);
            const uint8_t *image = w->im.data + pick * PIXELS;
            if (w->sift) {
                done = sift_row(image, out, &state);
            } else {
                affine_row(image, out, &state);
                done = true;
            }
        }
        if (!done) {
            ann_die("the images are empty");
        }
    }
}

static void
make(bool sift, const char *path, uint32_t rows, uint64_t seed, images im)
{
    unsigned width = ann_threads();
    uint32_t dim = sift ? SIFT_DIM : (uint32_t)PIXELS;
    uint32_t held_back = im.n / 20;
    ann_data d = {.rows = rows, .queries = ANN_QUERIES, .dim = dim, .k = ANN_K};

    d.base = calloc((size_t)rows * dim, 4);
    d.query = calloc((size_t)d.queries * dim, 4);
    if (!d.base || !d.query) {
        ann_die("no memory");
    }
    work base = {im, sift, rk_hash_u64(seed), 0, im.n - held_back, rows, dim, d.base};
    work query = {im,  sift,   rk_hash_u64(~seed), im.n - held_back, held_back, d.queries,
                  dim, d.query};
    ann_run_threads(&width, (rows + CHUNK - 1) / CHUNK, chunk, &base);
    ann_run_threads(&width, (d.queries + CHUNK - 1) / CHUNK, chunk, &query);
    ann_write(path, &d);
}

int
main(int argc, char **argv)
{
    rk_kernels_init();
    if (argc == 5 && strcmp(argv[1], "strokes") == 0) {
        write_images(argv[2], draw_images(ann_number(argv[3]), ann_number(argv[4])));
        return 0;
    }
    bool sift = argc > 1 && strcmp(argv[1], "sift") == 0;
    if (argc < 5 || argc > 6 || (!sift && strcmp(argv[1], "affine") != 0)) {
        ann_die("see the head of make_images.c for usage");
    }
    uint32_t seed = ann_number(argv[4]);
    make(sift, argv[2], ann_number(argv[3]), seed,
         argc == 6 ? read_images(argv[5]) : draw_images(DRAWN, seed));
    return 0;
}
