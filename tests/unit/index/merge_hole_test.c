/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging a graph of which whole neighbourhoods were deleted: every neighbour of the rows at the
 * rim of such a hole is gone, so the other side is only found by looking through it. Asked for
 * where the holes are, the merged graph must be as good as one built over the rows that are left.
 */
#include "merge_testing.h"

enum { ROWS = 6000, DIM = 32, CENTRES = 6 };

typedef struct hole_case {
    rk_metric metric;
    uint32_t latent; /* dimensions that the data really have */
    size_t holes;
    size_t rows_of_hole;
} hole_case;

static const hole_case cases[] = {
    {RK_METRIC_L2, 2, 1, 2500}, {RK_METRIC_L2, 2, 6, 400},      {RK_METRIC_L2, 8, 1, 2500},
    {RK_METRIC_L2, 8, 6, 400},  {RK_METRIC_COSINE, 3, 1, 2500}, {RK_METRIC_COSINE, 8, 6, 400},
    {RK_METRIC_IP, 8, 1, 2000},
};

/* Rows without the clusters of testing_dense(): a sheet of |latent| dimensions. */
static float *
sheet(uint32_t latent)
{
    testing_rng rng = {81};
    float *map = rk_alloc((size_t)latent * DIM * sizeof(float));
    float *data = rk_alloc((size_t)ROWS * DIM * sizeof(float) + 64);

    assert_non_null(map);
    assert_non_null(data);
    for (size_t i = 0; i < (size_t)latent * DIM; i++) {
        map[i] = testing_gauss(&rng);
    }
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < DIM; i++) {
            data[r * DIM + i] = 0.01f * testing_gauss(&rng);
        }
        for (size_t l = 0; l < latent; l++) {
            float z = (float)testing_uniform(&rng) - 0.5f;
            for (size_t i = 0; i < DIM; i++) {
                data[r * DIM + i] += z * map[l * DIM + i];
            }
        }
    }
    rk_free(map);
    return data;
}

/* Marks the nearest rows of |centre| as deleted. */
static void
dig(const rk_vectors *v, rk_metric metric, uint32_t centre, size_t n, bool *gone)
{
    rk__near *near = rk_alloc(ROWS * sizeof(*near));

    assert_non_null(near);
    assert_true(testing_truth(v, metric, (const float *)v->data + (size_t)centre * DIM, DIM * 4,
                              NULL, near) >= n);
    for (size_t i = 0; i < n; i++) {
        gone[near[i].row] = true;
    }
    rk_free(near);
}

static void
check_hole(const hole_case *c)
{
    float *data = sheet(c->latent);
    rk_vectors universe = {RK_VEC_F32, DIM, ROWS, data, NULL};
    rk_build_options options = options_of(c->metric, NULL);
    uint32_t *ids = shuffled(ROWS, 91);
    bool gone[ROWS] = {false};
    uint8_t *queries = rk_alloc((size_t)QUERIES * DIM * sizeof(float));
    size_t left = 0;
    size_t asked = 0;

    assert_non_null(queries);
    rows before = rows_new(&universe, ids, ROWS);
    for (size_t i = 0; i < c->holes; i++) {
        dig(&universe, c->metric, ids[i * ROWS / CENTRES], c->rows_of_hole, gone);
    }
    for (size_t i = 0; i < ROWS; i++) {
        if (!gone[ids[i]]) {
            ids[left++] = ids[i];
        } else if (asked < QUERIES) { /* where rows are missing */
            memcpy(queries + asked++ * DIM * sizeof(float), data + (size_t)ids[i] * DIM,
                   DIM * sizeof(float));
        }
    }
    assert_int_equal(asked, QUERIES);
    rows after = rows_new(&universe, ids, left);
    rk_merge_part part = {build(&before.v, c->metric), map_of(&before, &after)};
    rk_index *merged = merge_with(&after.v, &part, 1, &options);
    rk_index *fresh = build(&after.v, c->metric);
    assert_non_null(merged);
    for (size_t i = 0; i < 2; i++) {
        const char *ef = i ? "48" : "16";
        double a = recall_of(merged, &after.v, c->metric, queries, ef);
        double b = recall_of(fresh, &after.v, c->metric, queries, ef);
        if (a < b - 0.025) {
            fail_msg("%s, %u dimensions, %zu holes, ef %s: recall %.4f, fresh %.4f",
                     rk_metric_name(c->metric), c->latent, c->holes, ef, a, b);
        }
    }
    rk_index_free(merged);
    rk_index_free(fresh);
    rk_index_free((rk_index *)(uintptr_t)part.index);
    rk_free((void *)(uintptr_t)part.rows);
    rows_free(&before);
    rows_free(&after);
    rk_free(queries);
    rk_free(ids);
    rk_free(data);
}

static void
test_holes(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check_hole(&cases[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holes),
    };

    rk_kernels_init();
#ifdef __SANITIZE_THREAD__ /* slow, and it sees nothing where there is one thread */
    return 0;
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
