/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 parser on hostile bytes. Input: one byte n, n % 8 cut points (one byte each, a step
 * to the next cut), then the connection's bytes. They are parsed whole and cut; both ways must give
 * the same requests, bodies and error.
 */
#include <stdio.h>

#include "base/mem.h"
#include "rpc/http1_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends what the parser says about |piece|, in a block of its own so that an over-read is caught.
 * False after an error. */
static bool
parse_piece(rk__h1_parser *parser, const uint8_t *piece, size_t len, rk_buf *out)
{
    uint8_t *copy = rk_alloc(len);
    const uint8_t *at = copy;
    bool good = true;
    bool more = true;

    RK_ASSERT(copy);
    if (len > 0) {
        memcpy(copy, piece, len);
    }
    while (more) {
        switch (rk__h1_parse(parser, &at, copy + len)) {
        case RK__H1_HEAD:
            rk_buf_printf(out, "[%.*s|%.*s|%d%d%d|%llu", RK_STR_ARG(parser->method),
                          RK_STR_ARG(parser->target), parser->keep_alive, parser->chunked,
                          parser->expect_continue, (unsigned long long)parser->content_length);
            for (unsigned i = 0; i < parser->fields_len; i++) {
                rk_buf_str(out, rk__h1_name(parser, i));
                rk_buf_byte(out, ':');
                rk_buf_str(out, rk__h1_value(parser, i));
            }
            RK_ASSERT(parser->target.len > 0 &&
                      (parser->target.data[0] == '/' || parser->target.data[0] == '*'));
            break;
        case RK__H1_BODY:
            rk_buf_str(out, parser->body);
            break;
        case RK__H1_DONE:
            rk_buf_byte(out, ']');
            break;
        case RK__H1_ERROR:
            RK_ASSERT(parser->status >= 400 && parser->status < 600 && parser->reason);
            rk_buf_printf(out, "!%d %s", parser->status, parser->reason);
            good = more = false;
            break;
        case RK__H1_MORE:
        default:
            RK_ASSERT(at == copy + len);
            more = false;
            break;
        }
        RK_ASSERT(at >= copy && at <= copy + len);
    }
    rk_free(copy);
    return good;
}

static void
parse_cut(const uint8_t *cuts, size_t cuts_len, const uint8_t *data, size_t size, rk_buf *out)
{
    rk__h1_parser parser;
    bool good = true;

    rk__h1_parser_init(&parser, 512, 4096);
    for (size_t i = 0; good && i < cuts_len; i++) {
        size_t take = RK_MIN((size_t)cuts[i], size);
        good = parse_piece(&parser, data, take, out);
        data += take;
        size -= take;
    }
    if (good) {
        parse_piece(&parser, data, size, out);
    }
    rk__h1_parser_deinit(&parser);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rk_buf whole = {0};
    rk_buf cut = {0};
    size_t cuts_len = size > 0 ? data[0] % 8u : 0;

    if (size < 1 + cuts_len) {
        return 0;
    }
    parse_cut(NULL, 0, data + 1 + cuts_len, size - 1 - cuts_len, &whole);
    parse_cut(data + 1, cuts_len, data + 1 + cuts_len, size - 1 - cuts_len, &cut);
    RK_ASSERT(rk_str_eq(rk_buf_view(&whole), rk_buf_view(&cut)));
    rk_buf_deinit(&whole);
    rk_buf_deinit(&cut);
    return 0;
}
