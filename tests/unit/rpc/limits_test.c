/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits and hostile peers, by hand-made bytes over raw sockets: time limits, floods, slow bodies,
 * splits, pipelining, running out of descriptors. Timers are shortened through the options.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_testing.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
#define PREFACE_LEN (sizeof(preface) - 1)

static void
start_fast(echo_server *echo, rk_rpc_server_options *options)
{
    rk_rpc_server_options_init(options);
    options->preface_timeout_ms = 200;
    options->header_timeout_ms = 300;
    options->tls_timeout_ms = 200;
    options->message_size_max = 1 << 20;
    echo_start(echo, options);
}

/* Sends |bytes| and returns what comes back until the end or |quiet_ms| of silence, as text. */
static char *
talk(int fd, const char *bytes, size_t len, int quiet_ms, bool *ended)
{
    static char answer[65536];
    size_t n;

    raw_send(fd, bytes, len);
    n = raw_read(fd, answer, sizeof(answer) - 1, quiet_ms, ended);
    answer[n] = 0;
    return answer;
}

static unsigned
count(const char *text, const char *word)
{
    unsigned n = 0;

    while ((text = strstr(text, word))) {
        n++;
        text += strlen(word);
    }
    return n;
}

/* Whether a frame of |type| is among |bytes|; *|code| is its last 4 payload bytes. */
static bool
find_frame(const uint8_t *bytes, size_t len, uint8_t type, uint32_t *code)
{
    size_t at = 0;

    while (at + 9 <= len) {
        size_t size = (size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2];
        if (at + 9 + size > len) {
            return false;
        }
        if (bytes[at + 3] == type) {
            const uint8_t *p = bytes + at + 9 + (type == 7 ? 4 : 0);
            *code = size >= 4
                        ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
                        : 0;
            return true;
        }
        at += 9 + size;
    }
    return false;
}

static void
test_silence(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    int fds[4];

    RK_UNUSED(state);
    start_fast(&echo, &options);
    for (int i = 0; i < 4; i++) {
        fds[i] = raw_connect(rk_rpc_server_address(echo.server));
    }
    raw_send(fds[1], "PR", 2);                      /* a preface that stops */
    raw_send(fds[2], preface, 30);                  /* one whose SETTINGS never come whole */
    talk(fds[3], preface, PREFACE_LEN, 10, &ended); /* an idle HTTP/2 connection: stays */
    usleep(900000);
    for (int i = 0; i < 3; i++) {
        talk(fds[i], "", 0, 500, &ended);
        assert_true(ended);
    }
    talk(fds[3], "", 0, 50, &ended);
    assert_false(ended);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    echo_stop(&echo);
}

static void
test_slow_http1(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* a head that never ends */
    assert_int_equal(count(talk(fd, "GET / HTTP/1.1\r\nA: b", 20, 1500, &ended), "HTTP/1.1 408"),
                     1);
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* a body that stops */
    static const char post[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc";
    assert_int_equal(count(talk(fd, post, sizeof(post) - 1, 2000, &ended), "HTTP/1.1 408"), 1);
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* an idle kept-alive connection stays */
    static const char get[] = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_int_equal(count(talk(fd, get, sizeof(get) - 1, 100, &ended), "/x? GET"), 1);
    usleep(1000000);
    assert_int_equal(count(talk(fd, get, sizeof(get) - 1, 100, &ended), "/x? GET"), 1);
    close(fd);
    echo_stop(&echo);
}

static void
test_http1_splits(void **state)
{
    static const char both[] =
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        "GET /last?q HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    char *answer;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    for (size_t cut = 1; cut < sizeof(both) - 1; cut += 7) {
        fd = raw_connect(rk_rpc_server_address(echo.server));
        raw_send(fd, both, cut);
        usleep(1000);
        answer = talk(fd, both + cut, sizeof(both) - 1 - cut, 2000, &ended);
        assert_true(ended);
        assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 2);
        assert_int_equal(count(answer, "\r\n\r\nabc"), 1);
        assert_int_equal(count(answer, "/last?q GET"), 1);
        assert_int_equal(count(answer, "Connection: close"), 1);
        close(fd);
    }
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* byte by byte */
    for (size_t i = 0; i < sizeof(both) - 1; i++) {
        raw_send(fd, both + i, 1);
        usleep(300);
    }
    assert_int_equal(count(talk(fd, "", 0, 2000, &ended), "HTTP/1.1 200 OK"), 2);
    close(fd);
    echo_stop(&echo);
}

static void
test_http1_details(void **state)
{
    static const struct {
        const char *request, *words;
    } cases[] = {
        {"HEAD /h HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "Content-Length: 8\r\n"},
        {"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: "
         "100-continue\r\nContent-Length: 2\r\n\r\n",
         "HTTP/1.1 100 Continue\r\n\r\n"},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", "HTTP/1.1 413 "},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 400 "},
        {"GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n"},
        {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "x-echo: yes\r\n"},
    };
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    char *answer;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        int fd = raw_connect(rk_rpc_server_address(echo.server));
        answer = talk(fd, cases[i].request, strlen(cases[i].request), 150, &ended);
        if (count(answer, cases[i].words) != 1) {
            fail_msg("case %zu: wanted \"%s\" in \"%s\"", i, cases[i].words, answer);
        }
        if (i == 0) {
            assert_int_equal(count(answer, "HEAD"), 0); /* no body */
        }
        if (i == 1) {
            assert_int_equal(count(talk(fd, "ok", 2, 500, &ended), "\r\n\r\nok"), 1);
        }
        close(fd);
    }
    echo_stop(&echo);
}

/* Many requests in one go are answered in order. */
static void
test_pipelining(void **state)
{
    enum { REQUESTS = 3000 };
    static char all[REQUESTS * 64];
    static char answers[REQUESTS * 256];
    rk_rpc_server_options options;
    static echo_server echo;
    size_t len = 0, got;
    bool ended;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    for (int i = 0; i < REQUESTS; i++) {
        len +=
            (size_t)snprintf(all + len, sizeof(all) - len, "GET /n%d HTTP/1.1\r\nHost: h\r\n%s\r\n",
                             i, i == REQUESTS - 1 ? "Connection: close\r\n" : "");
    }
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, all, len);
    got = raw_read(fd, answers, sizeof(answers) - 1, 3000, &ended);
    answers[got] = 0;
    assert_true(ended);
    char *at = answers;
    for (int i = 0; i < REQUESTS; i++) {
        char word[32];
        snprintf(word, sizeof(word), "/n%d? GET", i);
        at = strstr(at, word);
        assert_non_null(at);
    }
    close(fd);
    echo_stop(&echo);
}

/* HEADERS of a gRPC call to /t/Hold on |stream|, without END_STREAM; static table and literals
 * only. */
static size_t
put_headers(uint8_t *out, uint32_t stream)
{
    static const uint8_t block[] = "\x83\x86\x04\x07/t/Hold\x41\x01h\x5f\x10"
                                   "application/grpc\x40\x02te\x08trailers";
    size_t n = sizeof(block) - 1;
    const uint8_t head[9] = {0,
                             0,
                             (uint8_t)n,
                             1,
                             4,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};

    memcpy(out, head, 9);
    memcpy(out + 9, block, n);
    return 9 + n;
}

static size_t
put_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
          size_t len)
{
    const uint8_t head[9] = {(uint8_t)(len >> 16),
                             (uint8_t)(len >> 8),
                             (uint8_t)len,
                             type,
                             flags,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};

    memcpy(out, head, 9);
    if (len > 0) {
        memcpy(out + 9, payload, len);
    }
    return 9 + len;
}

/* Sends frames and expects the connection to be ended with ENHANCE_YOUR_CALM. */
static void
check_flood(const uint8_t *frames, size_t len)
{
    static uint8_t answer[1 << 20];
    rk_rpc_server_options options;
    static echo_server echo;
    uint32_t code = 0;
    bool ended = false;
    size_t n;
    int fd;

    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, preface, PREFACE_LEN);
    raw_send(fd, frames, len);
    n = raw_read(fd, answer, sizeof(answer), 3000, &ended);
    assert_true(ended);
    if (find_frame(answer, n, 7, &code)) { /* lost when the kernel resets the connection first */
        assert_int_equal(code, 11);
    }
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* others are served */
    assert_int_equal(count(talk(fd, "GET / HTTP/1.0\r\n\r\n", 18, 1000, &ended), "200 OK"), 1);
    close(fd);
    echo_stop(&echo);
}

static void
test_floods(void **state)
{
    static uint8_t frames[1 << 20];
    uint8_t zeros[8] = {0};
    size_t len = 0;

    RK_UNUSED(state);
    for (int i = 0; i < 5000; i++) {
        len += put_frame(frames + len, 6, 0, 0, zeros, 8); /* PING */
    }
    check_flood(frames, len);
    len = 0;
    for (int i = 0; i < 5000; i++) {
        len += put_frame(frames + len, 4, 0, 0, NULL, 0); /* SETTINGS */
    }
    check_flood(frames, len);
    len = put_headers(frames, 1);
    for (int i = 0; i < 5000; i++) {
        len += put_frame(frames + len, 0, 0, 1, NULL, 0); /* empty DATA */
    }
    check_flood(frames, len);
    len = 0;
    for (uint32_t i = 0; i < 4000; i++) { /* rapid reset */
        len += put_headers(frames + len, i * 2 + 1);
        len += put_frame(frames + len, 3, 0, i * 2 + 1, "\0\0\0\10", 4);
    }
    check_flood(frames, len);
    len = 0;
    for (uint32_t i = 0; i < 4000; i++) { /* made to reset: a window past 2^31 is a stream error */
        len += put_headers(frames + len, i * 2 + 1);
        len += put_frame(frames + len, 8, 0, i * 2 + 1, "\x7f\xff\xff\xff", 4);
    }
    check_flood(frames, len);
}

/* Pings now and then, as every SDK sends them, are answered and never punished. */
static void
test_polite_pings(void **state)
{
    uint8_t frames[9 + 8], answer[64];
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    talk(fd, preface, PREFACE_LEN, 50, &ended);
    for (int i = 0; i < 50; i++) {
        raw_send(fd, frames, put_frame(frames, 6, 0, 0, "12345678", 8));
        assert_int_equal(raw_read(fd, answer, 17, 1000, &ended), 17);
        assert_int_equal(answer[3], 6);
        assert_int_equal(answer[4], 1);
    }
    close(fd);
    echo_stop(&echo);
}

static void
test_slow_grpc_body(void **state)
{
    static uint8_t bytes[4096], answer[4096];
    rk_rpc_server_options options;
    rk_rpc_stats stats;
    static echo_server echo;
    size_t len, n;
    uint32_t code;
    bool ended;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, preface, PREFACE_LEN);
    len = put_headers(bytes, 1);
    len += put_frame(bytes + len, 0, 0, 1, "\0\0\4\0\0abc",
                     8); /* 256 KiB are promised, three bytes come */
    raw_send(fd, bytes, len);
    usleep(50000);
    rk_rpc_server_stats(echo.server, &stats);
    assert_int_equal(stats.inflight_bytes, 256 << 10);
    n = raw_read(fd, answer, sizeof(answer), 1500, &ended);
    assert_true(find_frame(answer, n, 1, &code)); /* HEADERS: trailers only */
    rk_rpc_server_stats(echo.server, &stats);
    assert_int_equal(stats.inflight_bytes, 0);
    raw_send(fd, bytes, put_frame(bytes, 6, 0, 0, "12345678", 8));
    n = raw_read(fd, answer, 17, 1000, &ended); /* the connection lives on */
    assert_int_equal(n, 17);
    close(fd);
    echo_stop(&echo);
}

/* A client that asks for much and reads nothing is cut off; its calls hold no memory afterwards. */
static void
test_reader_that_stops(void **state)
{
    rk_rpc_server_options options;
    rk_rpc_stats stats;
    static echo_server echo;
    int small = 4096;
    int64_t until;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    static char request[256];
    static char body[1 << 20];
    int n = snprintf(request, sizeof(request),
                     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", sizeof(body));
    for (int i = 0; i < 32; i++) { /* the echoes do not fit the socket buffers */
        raw_send(fd, request, (size_t)n);
        raw_send(fd, body, sizeof(body));
    }
    until = now_ms() + 8000;
    do {
        usleep(20000);
        rk_rpc_server_stats(echo.server, &stats);
    } while (stats.connections > 0 && now_ms() < until);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.inflight_bytes, 0);
    close(fd);
    echo_stop(&echo);
}

/* A connection whose peer never opens its windows, with |n| echoes of 16 KB asked for. */
static int
ask_and_never_read(const echo_server *echo, unsigned n)
{
    static const uint8_t block[] = "\x83\x86\x04\x07/t/Echo\x41\x01h\x5f\x10"
                                   "application/grpc\x40\x02te\x08trailers";
    static uint8_t frames[1 << 20];
    static uint8_t message[16000] = {0, 0, 0, (16000 - 5) >> 8, (16000 - 5) & 0xff};
    int fd = raw_connect(rk_rpc_server_address(echo->server));
    size_t len = put_frame(frames, 4, 0, 0, "\0\4\0\0\0\0", 6); /* SETTINGS: no first window */

    raw_send(fd, preface, PREFACE_LEN);
    for (uint32_t i = 0; i < n; i++) {
        len += put_frame(frames + len, 1, 4, i * 2 + 1, block, sizeof(block) - 1);
        len += put_frame(frames + len, 0, 1, i * 2 + 1, message, sizeof(message));
    }
    raw_send(fd, frames, len);
    return fd;
}

static uint64_t
unsent_of(const echo_server *echo)
{
    rk_rpc_stats stats;

    rk_rpc_server_stats(echo->server, &stats);
    return stats.output_bytes;
}

/* Many who never read cannot make the server hold more than its share of replies. */
static void
test_readers_that_stop_together(void **state)
{
    static uint8_t answer[1 << 16];
    rk_rpc_server_options options;
    static echo_server echo;
    uint32_t code = 0;
    bool ended = false;
    int64_t until = now_ms() + 5000;
    int fds[6];

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.listen = "127.0.0.1:0";
    options.output_bytes_total_max = 64 << 10;
    echo_start(&echo, &options);
    fds[0] = ask_and_never_read(&echo, 3);
    while (unsent_of(&echo) < 3 * 16000 && now_ms() < until) {
        usleep(1000);
    }
    assert_int_equal(unsent_of(&echo), 3 * 16000);
    for (size_t i = 1; i < RK_COUNT(fds); i++) {
        fds[i] = ask_and_never_read(&echo, 20);
        size_t n = raw_read(fds[i], answer, sizeof(answer), 300, &ended);
        assert_false(ended);
        assert_true(find_frame(answer, n, 3, &code)); /* RST_STREAM, ENHANCE_YOUR_CALM */
        assert_int_equal(code, 11);
        assert_true(unsent_of(&echo) <= 2 * (64 << 10));
    }
    close(fds[0]); /* whoever reads is served, */
    fds[0] = raw_connect(rk_rpc_server_address(echo.server));
    assert_int_equal(count(talk(fds[0], "GET / HTTP/1.0\r\n\r\n", 18, 1000, &ended), "200 OK"), 1);
    for (size_t i = 0; i < RK_COUNT(fds); i++) {
        close(fds[i]);
    }
    while (unsent_of(&echo) > 0 && now_ms() < until + 5000) { /* and nothing stays counted */
        usleep(1000);
    }
    assert_int_equal(unsent_of(&echo), 0);
    echo_stop(&echo);
}

static void
test_connection_limit(void **state)
{
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    int fds[6];

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.connections_max = 4;
    echo_start(&echo, &options);
    for (int i = 0; i < 6; i++) {
        fds[i] = raw_connect(rk_rpc_server_address(echo.server));
        talk(fds[i], "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, 100, &ended);
        assert_int_equal(ended, i >= 4);
    }
    close(fds[0]);
    usleep(50000);
    fds[0] = raw_connect(rk_rpc_server_address(echo.server));
    talk(fds[0], "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, 100, &ended);
    assert_false(ended);
    for (int i = 0; i < 6; i++) {
        close(fds[i]);
    }
    echo_stop(&echo);
}

/* Out of descriptors: connections are turned away, and served again when there are some. */
static void
test_no_descriptors(void **state)
{
    rk_rpc_server_options options;
    rk_rpc_stats stats;
    static echo_server echo;
    struct rlimit before, tight;
    int fds[64];
    int n = 0;
    bool ended;
    int probe;

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    echo_start(&echo, &options);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    probe = dup(0);
    tight = before;
    tight.rlim_cur = (rlim_t)probe + 8;
    close(probe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    for (; n < 4; n++) { /* each takes one here and one in the server */
        fds[n] = raw_connect(rk_rpc_server_address(echo.server));
    }
    do {
        usleep(1000);
        rk_rpc_server_stats(echo.server, &stats);
    } while (stats.connections < 4);
    for (ended = false; n < 60 && !ended; n++) {   /* again if a descriptor came free meanwhile */
        while (n < 63 && (fds[n] = dup(0)) >= 0) { /* none is left */
            n++;
        }
        close(fds[--n]); /* one for us, so the server gets none for the other end */
        fds[n] = raw_connect(rk_rpc_server_address(echo.server));
        talk(fds[n], "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, 1000, &ended);
    }
    assert_true(ended);
    while (n > 0) {
        close(fds[--n]);
    }
    do {
        usleep(1000);
        rk_rpc_server_stats(echo.server, &stats);
    } while (stats.connections > 0);
    fds[0] = raw_connect(rk_rpc_server_address(echo.server));
    talk(fds[0], "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, 300, &ended);
    assert_false(ended);
    close(fds[0]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    echo_stop(&echo);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_slow_http1),
        cmocka_unit_test(test_http1_splits),
        cmocka_unit_test(test_http1_details),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_polite_pings),
        cmocka_unit_test(test_slow_grpc_body),
        cmocka_unit_test(test_reader_that_stops),
        cmocka_unit_test(test_connection_limit),
        cmocka_unit_test(test_readers_that_stop_together),
        cmocka_unit_test(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
