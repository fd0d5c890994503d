/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 parser: good requests, requests that must be refused (the smuggling table), and
 * every split.
 */
#include "rpc/http1_parse.h"

#include <stdio.h>

#include "base/mem.h"
#include "unit_test.h"

#define HOST "Host: h\r\n"

/* Input and what comes out: "method target body|..." per request, then the status of the error, 0:
 * none. */
static const struct {
    const char *input;
    const char *events;
    int status;
} cases[] = {
    /* good */
    {"GET / HTTP/1.1\r\n" HOST "\r\n", "GET / +k|", 0},
    {"\r\n\r\nGET /a?b=c HTTP/1.1\r\n" HOST "\r\n", "GET /a?b=c +k|", 0},
    {"GET / HTTP/1.0\r\n\r\n", "GET / +c|", 0},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / +k|", 0},
    {"GET / HTTP/1.1\r\n" HOST "Connection: foo, CLOSE\r\n\r\n", "GET / +c|", 0},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * +k|", 0},
    {"GET http://x.y/z?q HTTP/1.1\r\n" HOST "\r\n", "GET /z?q +k|", 0},
    {"GET https://x.y HTTP/1.1\r\n" HOST "\r\n", "GET / +k|", 0},
    {"POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", "POST /p +khello|", 0},
    {"POST /p HTTP/1.1\r\n" HOST "Content-Length:   5  \r\n\r\nhelloGET / HTTP/1.1\r\n" HOST "\r\n",
     "POST /p +khello|GET / +k|", 0},
    {"POST /p HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "POST /p +k|", 0},
    {"POST /p HTTP/1.1\r\n" HOST
     "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
     "POST /p +khello0123456789|", 0},
    {"POST /p HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n000\r\nA: b\r\nC: "
     "d\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n",
     "POST /p +kx|GET / +k|", 0},
    {"POST /p HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
     "POST /p +kx|", 0},
    {"GET / HTTP/1.1\r\n" HOST "X: a\tb \x80\xff\r\nEmpty:\r\n\r\n", "GET / +k|", 0},
    /* where a request ends must not be open to two readings */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST " Content-Length: 5\r\n\r\nhello", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n", "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", "", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n", "", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     "", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
     "chunked\r\n\r\n",
     "", 400},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\n" HOST "\n", "", 400},
    {"GET / HTTP/1.1\r\nHost: h\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST "X Y: x\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", "", 400},
    /* request lines */
    {"GET /\r\n\r\n", "", 400},
    {"GET\r\n\r\n", "", 400},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", "", 400},
    {"GET / http/1.1\r\n" HOST "\r\n", "", 400},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", "", 505},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", "", 505},
    {"G(T / HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET a HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET /\x80 HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET http://x?y HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", "", 501},
    {"\r\n\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "", 400},
    {"GET / HTTP/1.1\r\n" HOST "Expect: 200-maybe\r\n\r\n", "", 417},
    /* chunks */
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\rx\r\n", "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", "POST / +kx", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r0\r\n\r\n", "POST / +kx",
     400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n", "POST / +k",
     400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1234567890123456\r\n",
     "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n", "POST / +k", 413},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n X: y\r\n\r\n", "POST / +k",
     400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\nZ: w\r\n\r\n",
     "POST / +k", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1000001\r\n\r\n", "", 413},
};

/* Runs |input| cut in pieces of |first| and then |step| bytes; events as text into |out|. */
static int
run(const char *input, size_t len, size_t first, size_t step, rk_buf *out)
{
    rk__h1_parser parser;
    const uint8_t *data = (const uint8_t *)input;
    size_t from = 0;
    int status = 0;

    rk__h1_parser_init(&parser, 1024, 1000000);
    while (from < len && status == 0) {
        size_t take = RK_MIN(from == 0 && first ? first : step, len - from);
        uint8_t *piece =
            rk_alloc(take); /* its own block: reading past it is an error for the sanitizer */
        const uint8_t *at = piece;
        bool more = true;
        assert_non_null(piece);
        memcpy(piece, data + from, take);
        from += take;
        while (more) {
            switch (rk__h1_parse(&parser, &at, piece + take)) {
            case RK__H1_HEAD:
                rk_buf_str(out, parser.method);
                rk_buf_byte(out, ' ');
                rk_buf_str(out, parser.target);
                rk_buf_str(out, parser.keep_alive ? RK_STR(" +k") : RK_STR(" +c"));
                break;
            case RK__H1_BODY:
                rk_buf_str(out, parser.body);
                break;
            case RK__H1_DONE:
                rk_buf_byte(out, '|');
                break;
            case RK__H1_ERROR:
                status = parser.status;
                assert_non_null(parser.reason);
                more = false;
                break;
            case RK__H1_MORE:
            default:
                assert_ptr_equal(at, piece + take);
                more = false;
                break;
            }
        }
        rk_free(piece);
    }
    rk__h1_parser_deinit(&parser);
    return status;
}

static void
check(size_t i, size_t first, size_t step)
{
    rk_buf out = {0};
    size_t len = strlen(cases[i].input);
    int status = run(cases[i].input, len, first, step, &out);

    rk_buf_byte(&out, 0);
    if (status != cases[i].status || strcmp((char *)out.data, cases[i].events) != 0) {
        fail_msg("case %zu, split %zu/%zu: got \"%s\" %d, wanted \"%s\" %d\n%s", i, first, step,
                 out.data, status, cases[i].events, cases[i].status, cases[i].input);
    }
    rk_buf_deinit(&out);
}

static void
test_whole(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check(i, 0, 1 << 20);
    }
}

static void
test_every_split(void **state)
{
    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        check(i, 0, 1);
        check(i, 0, 3);
        for (size_t cut = 1; cut < strlen(cases[i].input); cut++) {
            check(i, cut, 1 << 20);
        }
    }
}

static void
test_head_limits(void **state)
{
    static char input[8192];
    rk_buf out = {0};
    size_t len;

    RK_UNUSED(state);
    memset(input, 'a', sizeof(input));
    assert_int_equal(run(input, 1024, 0, 4096, &out), 0);
    assert_int_equal(run(input, 1025, 0, 4096, &out), 414);
    len = (size_t)snprintf(input, sizeof(input), "GET / HTTP/1.1\r\n" HOST);
    memset(input + len, 'b', 2000);
    assert_int_equal(run(input, 1500, 0, 100, &out), 431);
    len = (size_t)snprintf(input, sizeof(input), "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 101; i++) {
        len += (size_t)snprintf(input + len, sizeof(input) - len, "a:b\r\n");
    }
    len += (size_t)snprintf(input + len, sizeof(input) - len, "\r\n");
    assert_int_equal(run(input, len, 0, 4096, &out), 431);
    len = (size_t)snprintf(input, sizeof(input),
                           "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    memset(input + len, 'e', 300);
    assert_int_equal(run(input, len + 300, 0, 4096, &out), 400);
    rk_buf_deinit(&out);
}

static void
test_fields(void **state)
{
    static const char input[] = "GET / HTTP/1.1\r\nHoSt:  a.b \r\nX-Y: \t v w \t\r\n\r\n";
    rk__h1_parser parser;
    const uint8_t *at = (const uint8_t *)input;

    RK_UNUSED(state);
    rk__h1_parser_init(&parser, 1024, 10);
    assert_int_equal(rk__h1_parse(&parser, &at, at + sizeof(input) - 1), RK__H1_HEAD);
    assert_int_equal(parser.fields_len, 2);
    assert_true(rk_str_is(rk__h1_name(&parser, 0), "host"));
    assert_true(rk_str_is(rk__h1_value(&parser, 0), "a.b"));
    assert_true(rk_str_is(rk__h1_name(&parser, 1), "x-y"));
    assert_true(rk_str_is(rk__h1_value(&parser, 1), "v w"));
    rk__h1_parser_deinit(&parser);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
