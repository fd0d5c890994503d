/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC formats: timeouts, percent-coded text, prefixes over any split, inflating under a limit; and
 * addresses.
 */
#include "rpc/grpc.h"

#include <zlib.h>

#include "base/mem.h"
#include "rpc/loop_private.h"
#include "unit_test.h"

static void
test_timeout(void **state)
{
    static const struct {
        const char *text;
        int64_t ns; /* -1: malformed */
    } cases[] = {
        {"1H", INT64_C(3600000000000)},
        {"2M", INT64_C(120000000000)},
        {"3S", INT64_C(3000000000)},
        {"4m", 4000000},
        {"5u", 5000},
        {"6n", 6},
        {"0n", 0},
        {"99999999n", 99999999},
        {"99999999H", INT64_MAX},
        {"", -1},
        {"n", -1},
        {"1", -1},
        {"1x", -1},
        {"-1n", -1},
        {"1 n", -1},
        {"123456789n", -1},
    };
    char text[16];

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        int64_t ns = -1;
        bool ok = rk__grpc_timeout_parse(rk_str_from(cases[i].text), &ns);
        assert_int_equal(ok, cases[i].ns >= 0);
        if (ok) {
            assert_int_equal(ns, cases[i].ns);
        }
    }
    for (int64_t ns = 1; ns < INT64_MAX / 7;
         ns *= 7) { /* never shorter than asked for, at most 1 % longer */
        int64_t back = 0;
        rk__grpc_timeout_format(text, ns);
        assert_true(rk__grpc_timeout_parse(rk_str_from(text), &back));
        assert_true(back >= ns);
        assert_true(back - ns <= ns / 100 || ns < 100);
    }
    rk__grpc_timeout_format(text, -5);
    assert_string_equal(text, "0n");
}

static void
test_text(void **state)
{
    static const char raw[] = "100% \xc3\xa9\r\n\x7f~\x01";
    char coded[64], back[64];
    size_t n, m;

    RK_UNUSED(state);
    n = rk__grpc_text_encode(coded, RK_STR("100% \xc3\xa9\r\n\x7f~\x01"));
    assert_true(rk_str_is((rk_str){coded, n}, "100%25 %C3%A9%0D%0A%7F~%01"));
    m = rk__grpc_text_decode(back, (rk_str){coded, n});
    assert_int_equal(m, sizeof(raw) - 1);
    assert_memory_equal(back, raw, m);
    m = rk__grpc_text_decode(back, RK_STR("%zz%4%41%"));
    assert_true(rk_str_is((rk_str){back, m}, "%zz%4A%"));
}

static void
test_prefix(void **state)
{
    uint8_t bytes[RK__GRPC_PREFIX];

    RK_UNUSED(state);
    rk__grpc_prefix_put(bytes, 0x01020304);
    for (size_t cut = 0; cut <= RK__GRPC_PREFIX; cut++) {
        rk__grpc_prefix prefix = {0};
        assert_int_equal(rk__grpc_prefix_feed(&prefix, bytes, cut), cut);
        assert_int_equal(rk__grpc_prefix_feed(&prefix, bytes + cut, RK__GRPC_PREFIX - cut),
                         RK__GRPC_PREFIX - cut);
        assert_true(rk__grpc_prefix_done(&prefix));
        assert_int_equal(rk__grpc_prefix_size(&prefix), 0x01020304);
    }
    assert_true(rk__grpc_is_content_type(RK_STR("application/grpc")));
    assert_true(rk__grpc_is_content_type(RK_STR("application/grpc+proto")));
    assert_true(rk__grpc_is_content_type(RK_STR("application/grpc; x")));
    assert_false(rk__grpc_is_content_type(RK_STR("application/grpc-web")));
    assert_false(rk__grpc_is_content_type(RK_STR("application/grp")));
}

/* gzip of |len| zero bytes. */
static size_t
deflate_zeros(uint8_t *out, size_t cap, size_t len)
{
    static const uint8_t zeros[65536];
    z_stream z = {0};

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = out;
    z.avail_out = (uInt)cap;
    while (len > 0) {
        z.next_in = (Bytef *)(uintptr_t)zeros;
        z.avail_in = (uInt)RK_MIN(len, sizeof(zeros));
        len -= z.avail_in;
        assert_int_equal(deflate(&z, Z_NO_FLUSH), Z_OK);
    }
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return cap - z.avail_out;
}

static void
test_inflate(void **state)
{
    static const size_t sizes[] = {0, 1, 1023, 1024, 1025, 4096, 100000, 5 << 20};
    static uint8_t wire[1 << 20];
    uint8_t *out;
    size_t out_len;

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(sizes); i++) {
        size_t n = deflate_zeros(wire, sizeof(wire), sizes[i]);
        assert_int_equal(rk__inflate(&out, &out_len, wire, n, sizes[i]), RK__INFLATE_OK);
        assert_int_equal(out_len, sizes[i]);
        rk_free(out);
        if (sizes[i] > 0) {
            assert_int_equal(rk__inflate(&out, &out_len, wire, n, sizes[i] - 1),
                             RK__INFLATE_TOO_LARGE);
            assert_null(out);
        }
        for (size_t cut = 0; cut < RK_MIN(n, (size_t)64); cut++) { /* truncated anywhere */
            assert_int_equal(rk__inflate(&out, &out_len, wire, cut, 8 << 20),
                             RK__INFLATE_MALFORMED);
        }
        wire[n] = 0;
        assert_int_equal(rk__inflate(&out, &out_len, wire, n + 1, 8 << 20), RK__INFLATE_MALFORMED);
    }
    assert_int_equal(rk__inflate_limit(10, 256 << 20), 4 << 20);
    assert_int_equal(rk__inflate_limit(1 << 20, 256 << 20), 100 << 20);
    assert_int_equal(rk__inflate_limit(10 << 20, 256 << 20), 256 << 20);
    assert_int_equal(rk__inflate_limit(10, 1000), 1000);
    assert_int_equal(rk__inflate_limit(SIZE_MAX, 1000), 1000);
}

static void
test_address(void **state)
{
    static const struct {
        const char *text, *host; /* host NULL: refused */
        unsigned port;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1", 80},
        {"[::1]:0", "::1", 0},
        {":19530", "0.0.0.0", 19530},
        {"name.x:65535", "name.x", 65535},
        {"unix:/a/b", "/a/b", 0},
        {"unix:", NULL, 0},
        {"", NULL, 0},
        {"host", NULL, 0},
        {"host:", NULL, 0},
        {"host:65536", NULL, 0},
        {"host:-1", NULL, 0},
        {"::1:80", NULL, 0},
        {"host:8x", NULL, 0},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk__addr addr;
        rk_err err = {0};
        rk_code code = rk__addr_parse(&addr, cases[i].text, &err);
        assert_int_equal(code, cases[i].host ? RK_OK : RK_EINVAL);
        if (cases[i].host) {
            assert_string_equal(addr.host, cases[i].host);
            assert_int_equal(addr.port, cases[i].port);
        } else {
            assert_true(err.text[0] != 0);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout), cmocka_unit_test(test_text),
        cmocka_unit_test(test_prefix),  cmocka_unit_test(test_inflate),
        cmocka_unit_test(test_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
