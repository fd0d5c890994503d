/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which name was meant: by example, and the distance against a plain table of all prefixes.
 */
#include "base/nearest.h"

#include "base/seam.h"
#include "base/util.h"
#include "unit_test.h"

static const char *const names[] = {"id", "vector", "title", "publish_year", "tag", "tags", "a"};

static void
examples(void **state)
{
    static const struct {
        const char *asked;
        const char *want; /* NULL: none */
    } cases[] = {
        {"titel", "title"},
        {"Title", "title"},
        {"tga", "tag"},
        {"tagz", "tag"}, /* as near as "tags", which comes later */
        {"tgs", "tags"},
        {"publishyear", "publish_year"},
        {"publish_yaer", "publish_year"},
        {"vektor", "vector"},
        {"vec", NULL},
        {"b", NULL},
        {"xyz", NULL},
        {"", NULL},
        {"title_of_the_work", NULL},
        {"ids", "id"},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_nearest n = rk_nearest_to(rk_str_from(cases[i].asked));
        for (size_t k = 0; k < RK_COUNT(names); k++) {
            rk_nearest_offer(&n, rk_str_from(names[k]));
        }
        rk_str want = cases[i].want ? rk_str_from(cases[i].want) : (rk_str){NULL, 0};
        if (!rk_str_eq(n.best, want)) {
            fail_msg("\"%s\": \"%.*s\" instead of \"%.*s\"", cases[i].asked, RK_STR_ARG(n.best),
                     RK_STR_ARG(want));
        }
    }
}

static void
long_names(void **state)
{
    char a[129];
    char b[129];
    rk_nearest n;

    RK_UNUSED(state);
    memset(a, 'x', sizeof(a));
    memset(b, 'x', sizeof(b));
    b[5] = 'y';
    n = rk_nearest_to((rk_str){a, 128});
    rk_nearest_offer(&n, (rk_str){b, 128});
    assert_int_equal(n.distance, 1);
    n = rk_nearest_to((rk_str){a, 129});
    rk_nearest_offer(&n, (rk_str){b, 128});
    assert_int_equal(n.best.len, 0);
    n = rk_nearest_to((rk_str){a, 128});
    rk_nearest_offer(&n, (rk_str){b, 129});
    assert_int_equal(n.best.len, 0);
}

/* The same sum the plain way: a table of all pairs of prefixes. */
static size_t
plain(rk_str a, rk_str b)
{
    size_t table[16][16];

    for (size_t i = 0; i <= a.len; i++) {
        for (size_t k = 0; k <= b.len; k++) {
            size_t best = i == 0 ? k : i;
            if (i > 0 && k > 0) {
                best = table[i - 1][k - 1] + (a.data[i - 1] != b.data[k - 1]);
                best = RK_MIN(best, table[i - 1][k] + 1);
                best = RK_MIN(best, table[i][k - 1] + 1);
            }
            if (i > 1 && k > 1 && a.data[i - 1] == b.data[k - 2] &&
                a.data[i - 2] == b.data[k - 1]) {
                best = RK_MIN(best, table[i - 2][k - 2] + 1);
            }
            table[i][k] = best;
        }
    }
    return table[a.len][b.len];
}

static void
random_names(void **state)
{
    rk_rng rng;

    RK_UNUSED(state);
    rk_rng_init(&rng, 11);
    for (int round = 0; round < 20000; round++) {
        char letters[2][15];
        rk_str s[2];
        for (int i = 0; i < 2; i++) {
            s[i] = (rk_str){letters[i], 1 + rk_rng_below(&rng, 15)};
            for (size_t k = 0; k < s[i].len; k++) {
                letters[i][k] = (char)('a' + rk_rng_below(&rng, 3));
            }
        }
        size_t want = plain(s[0], s[1]);
        rk_nearest n = rk_nearest_to(s[0]);
        rk_nearest_offer(&n, s[1]);
        if (want > RK_MIN(RK_MAX(s[0].len, s[1].len) / 3, (size_t)4)) {
            assert_int_equal(n.best.len, 0);
        } else {
            assert_int_equal(n.distance, want);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(long_names),
        cmocka_unit_test(random_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
