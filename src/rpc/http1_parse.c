/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 request parser. See http1_parse.h.
 *
 * The head is gathered line by line into |head| until an empty line, then parsed whole: nothing is
 * decided on part of a head, so where the network cut it cannot matter. The body is passed on in
 * slices of the input. After RK__H1_DONE the head is still readable; it is cleared when the next
 * request's first byte arrives.
 */
#include "rpc/http1_parse.h"

#include "base/mem.h"

enum {
    ST_START, /* before the first byte of a request */
    ST_HEAD,
    ST_BODY, /* |left| bytes of Content-Length */
    ST_CHUNK_SIZE,
    ST_CHUNK_EXT,
    ST_CHUNK_SIZE_LF,
    ST_CHUNK_DATA,
    ST_CHUNK_CR,
    ST_CHUNK_LF,
    ST_TRAILER_START,
    ST_TRAILER_LINE,
    ST_TRAILER_LF,
    ST_TRAILER_END_LF,
    ST_DONE,
    ST_ERROR,
};

#define CHUNK_DIGITS_MAX    15u
#define CHUNK_ASIDE_MAX     256u
#define EMPTY_LINES_MAX     2u
#define METHOD_LEN_MAX      32u
#define HEAD_KEEP_BYTES_MAX 2048u

void
rk__h1_parser_init(rk__h1_parser *parser, size_t header_bytes_max, uint64_t body_bytes_max)
{
    memset(parser, 0, sizeof(*parser));
    parser->header_bytes_max = header_bytes_max;
    parser->body_bytes_max = body_bytes_max;
    parser->state = ST_START;
}

void
rk__h1_parser_deinit(rk__h1_parser *parser)
{
    rk_buf_deinit(&parser->head);
}

bool
rk__h1_parser_idle(const rk__h1_parser *parser)
{
    return parser->state == ST_START;
}

bool
rk__h1_parser_in_head(const rk__h1_parser *parser)
{
    return parser->state == ST_HEAD;
}

static rk__h1_event
fail(rk__h1_parser *parser, int status, const char *reason)
{
    parser->state = ST_ERROR;
    parser->status = status;
    parser->reason = reason;
    return RK__H1_ERROR;
}

/* ---- characters ---- */

static bool
is_token_char(uint8_t c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        return true;
    }
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool
is_token(rk_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char((uint8_t)s.data[i])) {
            return false;
        }
    }
    return s.len > 0;
}

/* Visible ASCII only: a target is percent-coded. */
static bool
is_target(rk_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < 0x21 || s.data[i] > 0x7e) {
            return false;
        }
    }
    return s.len > 0;
}

static bool
is_field_value(rk_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = (uint8_t)s.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool
equals_nocase(rk_str s, const char *lower)
{
    size_t i = 0;

    for (; i < s.len && lower[i]; i++) {
        char c = s.data[i];
        if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != lower[i]) {
            return false;
        }
    }
    return i == s.len && !lower[i];
}

/* Whether a comma-separated list holds |lower|. */
static bool
list_has(rk_str list, const char *lower)
{
    while (list.len > 0) {
        const char *comma = memchr(list.data, ',', list.len);
        size_t len = comma ? (size_t)(comma - list.data) : list.len;
        if (equals_nocase(rk_str_trim((rk_str){list.data, len}), lower)) {
            return true;
        }
        len += comma ? 1 : 0;
        list.data += len;
        list.len -= len;
    }
    return false;
}

/* ---- the head ---- */

/* What the headers said that decides where the request ends. */
typedef struct framing {
    unsigned hosts, lengths, encodings;
    bool close, keep_alive;
} framing;

static bool
parse_length(rk_str value, uint64_t *out)
{
    if (value.len == 0 || value.len > 19) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
        *out = *out * 10 + (uint64_t)(value.data[i] - '0');
    }
    return true;
}

static rk__h1_event
parse_request_line(rk__h1_parser *parser, rk_str line)
{
    const char *first = memchr(line.data, ' ', line.len);
    rk_str rest;
    const char *second;
    rk_str version;

    if (!first) {
        return fail(parser, 400, "the request line has no target");
    }
    parser->method = (rk_str){line.data, (size_t)(first - line.data)};
    rest = (rk_str){first + 1, line.len - parser->method.len - 1};
    second = memchr(rest.data, ' ', rest.len);
    if (!second) {
        return fail(parser, 400, "the request line has no version");
    }
    parser->target = (rk_str){rest.data, (size_t)(second - rest.data)};
    version = (rk_str){second + 1, rest.len - parser->target.len - 1};
    if (!is_token(parser->method) || parser->method.len > METHOD_LEN_MAX) {
        return fail(parser, 400, "the method is not a token");
    }
    if (version.len != 8 || memcmp(version.data, "HTTP/", 5) != 0 || version.data[6] != '.') {
        return fail(parser, 400, "the version is malformed");
    }
    if (version.data[5] != '1' || version.data[7] < '0' || version.data[7] > '1') {
        return fail(parser, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    parser->minor = (unsigned)(version.data[7] - '0');
    if (!is_target(parser->target)) {
        return fail(parser, 400, "the target holds characters that must be percent-coded");
    }
    return RK__H1_MORE;
}

/* Cuts scheme and authority of an absolute target; only "*" and "/..." remain. */
static rk__h1_event
normalise_target(rk__h1_parser *parser)
{
    rk_str *target = &parser->target;

    if (rk_str_starts(*target, "http://") || rk_str_starts(*target, "https://")) {
        size_t at = target->data[4] == 's' ? 8 : 7;
        while (at < target->len && target->data[at] != '/' && target->data[at] != '?') {
            at++;
        }
        if (at == target->len) {
            *target = RK_STR("/");
        } else if (target->data[at] == '?') {
            return fail(parser, 400, "the target has no path");
        } else {
            target->data += at;
            target->len -= at;
        }
    }
    if (target->data[0] != '/' &&
        !(rk_str_is(*target, "*") && rk_str_is(parser->method, "OPTIONS"))) {
        return fail(parser, 400, "the target must begin with a slash");
    }
    return RK__H1_MORE;
}

static rk__h1_event
parse_field(rk__h1_parser *parser, size_t at, size_t len, framing *seen)
{
    char *base = (char *)parser->head.data;
    const char *colon = memchr(base + at, ':', len);
    rk__h1_field *field;
    rk_str name, value;

    if (base[at] == ' ' || base[at] == '\t') {
        return fail(parser, 400, "folded header lines are not accepted");
    }
    if (!colon || !is_token((rk_str){base + at, (size_t)(colon - base) - at})) {
        return fail(parser, 400, "a header name is malformed");
    }
    if (parser->fields_len == RK__H1_HEADERS_MAX) {
        return fail(parser, 431, "too many headers");
    }
    field = &parser->fields[parser->fields_len++];
    field->name_at = (uint32_t)at;
    field->name_len = (uint32_t)((size_t)(colon - base) - at);
    for (size_t i = at; i < at + field->name_len; i++) {
        base[i] = (char)(base[i] >= 'A' && base[i] <= 'Z' ? base[i] - 'A' + 'a' : base[i]);
    }
    name = (rk_str){base + at, field->name_len};
    value = (rk_str){colon + 1, len - field->name_len - 1};
    while (value.len > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value.data++;
        value.len--;
    }
    while (value.len > 0 &&
           (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t')) {
        value.len--;
    }
    field->value_at = (uint32_t)(value.data - base);
    field->value_len = (uint32_t)value.len;
    if (!is_field_value(value)) {
        return fail(parser, 400, "a header value holds control characters");
    }
    if (rk_str_is(name, "host")) {
        seen->hosts++;
    } else if (rk_str_is(name, "content-length")) {
        seen->lengths++;
        if (!parse_length(value, &parser->content_length)) {
            return fail(parser, 400, "Content-Length must be digits only");
        }
    } else if (rk_str_is(name, "transfer-encoding")) {
        seen->encodings++;
        if (!equals_nocase(value, "chunked")) {
            return fail(parser, 501, "the only Transfer-Encoding is chunked");
        }
    } else if (rk_str_is(name, "connection")) {
        seen->close |= list_has(value, "close");
        seen->keep_alive |= list_has(value, "keep-alive");
    } else if (rk_str_is(name, "expect")) {
        if (!equals_nocase(value, "100-continue")) {
            return fail(parser, 417, "the only Expect is 100-continue");
        }
        parser->expect_continue = true;
    }
    return RK__H1_MORE;
}

static rk__h1_event
decide_framing(rk__h1_parser *parser, const framing *seen)
{
    if (seen->hosts > 1 || (seen->hosts == 0 && parser->minor == 1)) {
        return fail(parser, 400, "exactly one Host header is required");
    }
    if (seen->lengths > 1) {
        return fail(parser, 400, "more than one Content-Length");
    }
    if (seen->encodings > 1) {
        return fail(parser, 400, "more than one Transfer-Encoding");
    }
    if (seen->encodings && seen->lengths) {
        return fail(parser, 400, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (seen->encodings && parser->minor == 0) {
        return fail(parser, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (rk_str_is(parser->method, "CONNECT")) {
        return fail(parser, 501, "this is not a proxy");
    }
    if (parser->content_length > parser->body_bytes_max) {
        return fail(parser, 413, "the body is larger than this server accepts");
    }
    parser->chunked = seen->encodings == 1;
    parser->has_body = parser->chunked || parser->content_length > 0;
    parser->expect_continue &= parser->minor == 1 && parser->has_body;
    parser->keep_alive = !seen->close && (parser->minor == 1 || seen->keep_alive);
    return normalise_target(parser);
}

/* |head| holds complete lines up to and with the empty one. */
static rk__h1_event
parse_head(rk__h1_parser *parser)
{
    const char *base = (const char *)parser->head.data;
    size_t at = 0;
    framing seen = {0};
    rk__h1_event event = RK__H1_MORE;

    while (event != RK__H1_ERROR) {
        const char *end = memchr(base + at, '\n', parser->head.len - at);
        size_t len = (size_t)(end - base) - at - 1; /* lines were checked to end in CRLF */
        if (len == 0) {
            break;
        }
        event = at == 0 ? parse_request_line(parser, (rk_str){base, len})
                        : parse_field(parser, at, len, &seen);
        at += len + 2;
    }
    if (event != RK__H1_ERROR) {
        event = decide_framing(parser, &seen);
    }
    if (event == RK__H1_ERROR) {
        return event;
    }
    parser->left = parser->content_length;
    parser->state = parser->chunked              ? ST_CHUNK_SIZE
                    : parser->content_length > 0 ? ST_BODY
                                                 : ST_DONE;
    parser->digits = 0;
    return RK__H1_HEAD;
}

static void
begin_request(rk__h1_parser *parser)
{
    if (parser->head.cap > HEAD_KEEP_BYTES_MAX) {
        rk_buf_deinit(&parser->head);
        memset(&parser->head, 0, sizeof(parser->head));
    } else {
        rk_buf_clear(&parser->head);
    }
    parser->method = parser->target = parser->body = (rk_str){NULL, 0};
    parser->fields_len = 0;
    parser->line_at = 0;
    parser->content_length = 0;
    parser->chunked = parser->expect_continue = parser->has_body = parser->keep_alive = false;
    parser->left = parser->body_bytes = 0;
    parser->digits = parser->aside = parser->skipped = 0;
    parser->state = ST_HEAD;
}

/* Gathers lines; RK__H1_HEAD when the head is complete. */
static rk__h1_event
gather_head(rk__h1_parser *parser, const uint8_t **at, const uint8_t *end)
{
    while (*at < end) {
        const uint8_t *newline = memchr(*at, '\n', (size_t)(end - *at));
        size_t take = (size_t)((newline ? newline + 1 : end) - *at);
        const uint8_t *line;
        size_t len;

        if (take > parser->header_bytes_max || parser->head.len > parser->header_bytes_max - take) {
            return fail(parser, parser->line_at == 0 ? 414 : 431, "the request head is too large");
        }
        rk_buf_append(&parser->head, *at, take);
        if (parser->head.failed) {
            return fail(parser, 503, "no memory for the request head");
        }
        *at += take;
        if (!newline) {
            break;
        }
        line = parser->head.data + parser->line_at;
        len = parser->head.len - parser->line_at;
        if (len < 2 || line[len - 2] != '\r') {
            return fail(parser, 400, "lines must end in CR LF");
        }
        if (memchr(line, '\r', len - 2)) {
            return fail(parser, 400, "a line holds a bare CR");
        }
        if (len > 2) {
            parser->line_at = parser->head.len;
        } else if (parser->line_at > 0) {
            return parse_head(parser);
        } else if (++parser->skipped > EMPTY_LINES_MAX) {
            return fail(parser, 400, "empty lines where a request line was expected");
        } else {
            rk_buf_clear(&parser->head);
        }
    }
    return RK__H1_MORE;
}

/* ---- the body ---- */

static rk__h1_event
take_body(rk__h1_parser *parser, const uint8_t **at, const uint8_t *end, int next_state)
{
    size_t take = (size_t)RK_MIN(parser->left, (uint64_t)(end - *at));

    parser->body = (rk_str){(const char *)*at, take};
    *at += take;
    parser->left -= take;
    if (parser->left == 0) {
        parser->state = next_state;
    }
    return RK__H1_BODY;
}

static int
hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The CR after a chunk size: the size is final. */
static rk__h1_event
chunk_size_done(rk__h1_parser *parser)
{
    if (parser->digits == 0) {
        return fail(parser, 400, "a chunk has no size");
    }
    if (parser->left > parser->body_bytes_max - parser->body_bytes) {
        return fail(parser, 413, "the body is larger than this server accepts");
    }
    parser->body_bytes += parser->left;
    parser->state = ST_CHUNK_SIZE_LF;
    return RK__H1_MORE;
}

static rk__h1_event
chunk_size_byte(rk__h1_parser *parser, uint8_t c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        if (parser->digits++ == CHUNK_DIGITS_MAX) {
            return fail(parser, 400, "a chunk size has too many digits");
        }
        parser->left = parser->left * 16 + (uint64_t)digit;
        return RK__H1_MORE;
    }
    if (c == '\r') {
        return chunk_size_done(parser);
    }
    if (c == ';' && parser->digits > 0) {
        parser->state = ST_CHUNK_EXT;
        return RK__H1_MORE;
    }
    return fail(parser, 400, "a chunk size is not a hexadecimal number");
}

/* One byte of the chunk framing or trailers. */
static rk__h1_event
framing_byte(rk__h1_parser *parser, uint8_t c)
{
    switch (parser->state) {
    case ST_CHUNK_SIZE:
        return chunk_size_byte(parser, c);
    case ST_CHUNK_EXT:
        if (c == '\r') {
            return chunk_size_done(parser);
        }
        if (++parser->aside > CHUNK_ASIDE_MAX || (c < 0x20 && c != '\t') || c == 0x7f) {
            return fail(parser, 400, "a chunk extension is malformed or too long");
        }
        return RK__H1_MORE;
    case ST_CHUNK_SIZE_LF:
        parser->state = parser->left > 0 ? ST_CHUNK_DATA : ST_TRAILER_START;
        parser->aside = 0;
        return c == '\n' ? RK__H1_MORE : fail(parser, 400, "a chunk size must end in CR LF");
    case ST_CHUNK_CR:
        parser->state = ST_CHUNK_LF;
        return c == '\r' ? RK__H1_MORE : fail(parser, 400, "a chunk must end in CR LF");
    case ST_CHUNK_LF:
        parser->state = ST_CHUNK_SIZE;
        parser->digits = 0;
        parser->left = 0;
        parser->aside = 0;
        return c == '\n' ? RK__H1_MORE : fail(parser, 400, "a chunk must end in CR LF");
    case ST_TRAILER_START:
        if (c == '\r') {
            parser->state = ST_TRAILER_END_LF;
            return RK__H1_MORE;
        }
        parser->state = ST_TRAILER_LINE;
        return is_token_char(c) ? RK__H1_MORE : fail(parser, 400, "a trailer is malformed");
    case ST_TRAILER_LINE:
        if (c == '\r') {
            parser->state = ST_TRAILER_LF;
            return RK__H1_MORE;
        }
        if (++parser->aside > parser->header_bytes_max) {
            return fail(parser, 431, "the trailers are too large");
        }
        return (c >= 0x20 || c == '\t') && c != 0x7f ? RK__H1_MORE
                                                     : fail(parser, 400, "a trailer is malformed");
    case ST_TRAILER_LF:
        parser->state = ST_TRAILER_START;
        return c == '\n' ? RK__H1_MORE : fail(parser, 400, "a trailer must end in CR LF");
    case ST_TRAILER_END_LF:
        parser->state = ST_DONE;
        return c == '\n' ? RK__H1_MORE : fail(parser, 400, "the trailers must end in CR LF");
    default:
        return fail(parser, 500, "the parser lost its place");
    }
}

rk__h1_event
rk__h1_parse(rk__h1_parser *parser, const uint8_t **at, const uint8_t *end)
{
    rk__h1_event event = RK__H1_MORE;

    while (event == RK__H1_MORE) {
        if (parser->state == ST_DONE) {
            parser->state = ST_START;
            return RK__H1_DONE;
        }
        if (parser->state == ST_ERROR) {
            return RK__H1_ERROR;
        }
        if (*at == end) {
            return RK__H1_MORE;
        }
        if (parser->state == ST_START) {
            begin_request(parser);
        }
        switch (parser->state) {
        case ST_HEAD:
            event = gather_head(parser, at, end);
            break;
        case ST_BODY:
            event = take_body(parser, at, end, ST_DONE);
            break;
        case ST_CHUNK_DATA:
            event = take_body(parser, at, end, ST_CHUNK_CR);
            break;
        default:
            event = framing_byte(parser, *(*at)++);
            break;
        }
    }
    return event;
}
