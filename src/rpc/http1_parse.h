/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 request parser: bytes in, events out, no sockets and no callbacks.
 *
 * The caller feeds bytes and acts on one event at a time; a request split at any byte gives the
 * same events (body slices may be cut differently). Strict where leniency lets requests be
 * smuggled: lines end in CRLF, one Host, one Content-Length of digits only, Transfer-Encoding is
 * exactly `chunked` and never beside Content-Length, no folded lines, no blanks before a colon.
 *
 * One thread at a time. Slices point into the parser and are valid until the next request begins.
 */
#ifndef RK_RPC_HTTP1_PARSE_H
#define RK_RPC_HTTP1_PARSE_H

#include "base/slice.h"

#define RK__H1_HEADERS_MAX 100u

typedef enum rk__h1_event {
    RK__H1_MORE,  /* all bytes taken, nothing complete */
    RK__H1_HEAD,  /* request line and headers are there */
    RK__H1_BODY,  /* |body| is the next slice of the body */
    RK__H1_DONE,  /* the request is complete; the next call begins another */
    RK__H1_ERROR, /* |status| and |reason| say why; nothing more can be parsed */
} rk__h1_event;

typedef struct rk__h1_field {
    uint32_t name_at, name_len;   /* into |head|; names are lower-cased in place */
    uint32_t value_at, value_len; /* blanks at both ends cut */
} rk__h1_field;

typedef struct rk__h1_parser {
    /* limits */
    size_t header_bytes_max;
    uint64_t body_bytes_max;

    /* the request, after RK__H1_HEAD */
    rk_str method;
    rk_str target;  /* origin form, or "*" */
    unsigned minor; /* HTTP/1.x */
    bool keep_alive;
    bool chunked;
    bool expect_continue;
    bool has_body;
    uint64_t content_length; /* 0 when chunked */
    rk__h1_field fields[RK__H1_HEADERS_MAX];
    unsigned fields_len;

    /* after RK__H1_BODY */
    rk_str body;

    /* after RK__H1_ERROR */
    int status;
    const char *reason;

    /* inside */
    int state;
    rk_buf head;
    size_t line_at; /* start of the line being gathered */
    uint64_t left;  /* of the body or chunk */
    uint64_t body_bytes;
    uint32_t digits;  /* of the chunk size */
    uint32_t aside;   /* bytes of chunk extensions or trailers */
    uint32_t skipped; /* empty lines before the request line */
} rk__h1_parser;

void rk__h1_parser_init(rk__h1_parser *parser, size_t header_bytes_max, uint64_t body_bytes_max);
void rk__h1_parser_deinit(rk__h1_parser *parser);
/* Reads from |*at| up to |end|, moves |*at|, returns the next event. */
rk__h1_event rk__h1_parse(rk__h1_parser *parser, const uint8_t **at, const uint8_t *end);
/* True between requests: not one byte of the next one was seen. */
bool rk__h1_parser_idle(const rk__h1_parser *parser);
/* True while the head of a request is incomplete. */
bool rk__h1_parser_in_head(const rk__h1_parser *parser);

static inline rk_str
rk__h1_name(const rk__h1_parser *parser, unsigned i)
{
    return (rk_str){(const char *)parser->head.data + parser->fields[i].name_at,
                    parser->fields[i].name_len};
}

static inline rk_str
rk__h1_value(const rk__h1_parser *parser, unsigned i)
{
    return (rk_str){(const char *)parser->head.data + parser->fields[i].value_at,
                    parser->fields[i].value_len};
}

#endif
