/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits and hostile peers, by hand-made bytes over raw sockets: time limits, floods, slow bodies,
 * splits, pipelining, running out of descriptors. Timers are shortened through the options where a
 * test is about them. What must come is waited for, as long as it takes on a busy machine.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_testing.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
#define PREFACE_LEN (sizeof(preface) - 1)
#define PATIENCE_MS 60000

static void
start_patient(echo_server *echo, rk_rpc_server_options *options)
{
    rk_rpc_server_options_init(options);
    options->message_size_max = 1 << 20;
    echo_start(echo, options);
}

/* Short enough to be waited for, long enough that a test which was held up is not taken for slow.
 */
static void
start_fast(echo_server *echo, rk_rpc_server_options *options)
{
    rk_rpc_server_options_init(options);
    options->preface_timeout_ms = 1000;
    options->header_timeout_ms = 1200;
    options->tls_timeout_ms = 1000;
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

/* Reads what is there into |out|, |got| bytes of which are taken. False at the end. */
static bool
read_more(int fd, char *out, size_t cap, size_t *got)
{
    struct pollfd wait = {fd, POLLIN, 0};
    ssize_t n = poll(&wait, 1, PATIENCE_MS) > 0 ? recv(fd, out + *got, cap - *got, 0) : 0;

    *got += n > 0 ? (size_t)n : 0;
    return n > 0 && *got < cap;
}

/* Sends |bytes| and returns what comes back until it holds |words|, or the end, as text. */
static char *
ask(int fd, const char *bytes, size_t len, const char *words)
{
    static char answer[65536];
    size_t got = 0;

    raw_send(fd, bytes, len);
    do {
        answer[got] = 0;
    } while (!strstr(answer, words) && read_more(fd, answer, sizeof(answer) - 1, &got));
    answer[got] = 0;
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

/* Reads frames up to the first of |type|; *|code| is its last 4 payload bytes. */
static bool
wait_frame(int fd, uint8_t type, uint32_t *code)
{
    static char answer[1 << 16];
    size_t got = 0;
    bool more = true;

    while (!find_frame((const uint8_t *)answer, got, type, code) && more) {
        more = read_more(fd, answer, sizeof(answer), &got);
    }
    return find_frame((const uint8_t *)answer, got, type, code);
}

static void
wait_inflight(const echo_server *echo, uint64_t bytes)
{
    int64_t until = now_ms() + PATIENCE_MS;
    rk_rpc_stats stats;

    do {
        usleep(1000);
        rk_rpc_server_stats(echo->server, &stats);
    } while (stats.inflight_bytes != bytes && now_ms() < until);
    assert_int_equal(stats.inflight_bytes, bytes);
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
    raw_send(fds[3], preface, PREFACE_LEN); /* an idle HTTP/2 connection: stays */
    raw_send(fds[1], "PR", 2);              /* a preface that stops */
    raw_send(fds[2], preface, 30);          /* one whose SETTINGS never come whole */
    for (int i = 0; i < 3; i++) {
        talk(fds[i], "", 0, PATIENCE_MS, &ended);
        assert_true(ended);
    }
    usleep(500000);
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
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* a head that never ends */
    static const char head[] = "GET / HTTP/1.1\r\nA: b";
    assert_int_equal(count(ask(fd, head, sizeof(head) - 1, "HTTP/1.1 408"), "HTTP/1.1 408"), 1);
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* a body that stops */
    static const char post[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc";
    assert_int_equal(count(ask(fd, post, sizeof(post) - 1, "HTTP/1.1 408"), "HTTP/1.1 408"), 1);
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* an idle kept-alive connection stays */
    static const char get[] = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_int_equal(count(ask(fd, get, sizeof(get) - 1, "/x? GET"), "/x? GET"), 1);
    usleep(2000000); /* longer than any of the timers */
    assert_int_equal(count(ask(fd, get, sizeof(get) - 1, "/x? GET"), "/x? GET"), 1);
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
    start_patient(&echo, &options);
    for (size_t cut = 1; cut < sizeof(both) - 1; cut += 7) {
        fd = raw_connect(rk_rpc_server_address(echo.server));
        raw_send(fd, both, cut);
        usleep(1000);
        answer = talk(fd, both + cut, sizeof(both) - 1 - cut, PATIENCE_MS, &ended);
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
    assert_int_equal(count(talk(fd, "", 0, PATIENCE_MS, &ended), "HTTP/1.1 200 OK"), 2);
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
    bool ended = false;
    char *answer;

    RK_UNUSED(state);
    start_patient(&echo, &options);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        int fd = raw_connect(rk_rpc_server_address(echo.server));
        answer = i == 0 /* no body: seen at the end */
                     ? talk(fd, cases[i].request, strlen(cases[i].request), PATIENCE_MS, &ended)
                     : ask(fd, cases[i].request, strlen(cases[i].request), cases[i].words);
        if (count(answer, cases[i].words) != 1) {
            fail_msg("case %zu: wanted \"%s\" in \"%s\"", i, cases[i].words, answer);
        }
        if (i == 0) {
            assert_true(ended);
            assert_int_equal(count(answer, "HEAD"), 0);
        }
        if (i == 1) {
            assert_int_equal(count(ask(fd, "ok", 2, "\r\n\r\nok"), "\r\n\r\nok"), 1);
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
    start_patient(&echo, &options);
    for (int i = 0; i < REQUESTS; i++) {
        len +=
            (size_t)snprintf(all + len, sizeof(all) - len, "GET /n%d HTTP/1.1\r\nHost: h\r\n%s\r\n",
                             i, i == REQUESTS - 1 ? "Connection: close\r\n" : "");
    }
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, all, len);
    got = raw_read(fd, answers, sizeof(answers) - 1, PATIENCE_MS, &ended);
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

    start_patient(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, preface, PREFACE_LEN);
    raw_send(fd, frames, len);
    n = raw_read(fd, answer, sizeof(answer), PATIENCE_MS, &ended);
    assert_true(ended);
    if (find_frame(answer, n, 7, &code)) { /* lost when the kernel resets the connection first */
        assert_int_equal(code, 11);
    }
    close(fd);
    fd = raw_connect(rk_rpc_server_address(echo.server)); /* others are served */
    assert_int_equal(count(ask(fd, "GET / HTTP/1.0\r\n\r\n", 18, "200 OK"), "200 OK"), 1);
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
    uint8_t frames[9 + 8];
    rk_rpc_server_options options;
    static echo_server echo;
    uint32_t code;
    int fd;

    RK_UNUSED(state);
    start_patient(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, preface, PREFACE_LEN);
    for (uint32_t i = 0; i < 50; i++) {
        const uint8_t bytes[8] = {1, 2, 3, (uint8_t)i, 5, 6, 7, 8};
        raw_send(fd, frames, put_frame(frames, 6, 0, 0, bytes, sizeof(bytes)));
        assert_true(wait_frame(fd, 6, &code)); /* of the eight the first four */
        assert_int_equal(code, 0x01020300u + i);
    }
    close(fd);
    echo_stop(&echo);
}

static void
test_slow_grpc_body(void **state)
{
    static uint8_t bytes[4096];
    rk_rpc_server_options options;
    static echo_server echo;
    size_t len;
    uint32_t code;
    int fd;

    RK_UNUSED(state);
    start_fast(&echo, &options);
    fd = raw_connect(rk_rpc_server_address(echo.server));
    raw_send(fd, preface, PREFACE_LEN);
    len = put_headers(bytes, 1);
    len += put_frame(bytes + len, 0, 0, 1, "\0\0\4\0\0abc",
                     8); /* 256 KiB are promised, three bytes come */
    raw_send(fd, bytes, len);
    wait_inflight(&echo, 256 << 10);
    assert_true(wait_frame(fd, 1, &code)); /* HEADERS: trailers only */
    wait_inflight(&echo, 0);
    raw_send(fd, bytes, put_frame(bytes, 6, 0, 0, "12345678", 8));
    assert_true(wait_frame(fd, 6, &code)); /* the connection lives on */
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
    rk_rpc_server_options_init(&options);
    options.header_timeout_ms = 300; /* six of these without a byte taken are too many */
    options.message_size_max = 1 << 20;
    echo_start(&echo, &options);
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
    until = now_ms() + PATIENCE_MS;
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
    rk_rpc_server_options options;
    static echo_server echo;
    uint32_t code = 0;
    bool ended = false;
    int64_t until = now_ms() + PATIENCE_MS;
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
        assert_true(wait_frame(fds[i], 3, &code)); /* RST_STREAM, ENHANCE_YOUR_CALM */
        assert_int_equal(code, 11);
        talk(fds[i], "", 0, 100, &ended);
        assert_false(ended);
        assert_true(unsent_of(&echo) <= 2 * (64 << 10));
    }
    close(fds[0]); /* whoever reads is served, */
    fds[0] = raw_connect(rk_rpc_server_address(echo.server));
    assert_int_equal(count(ask(fds[0], "GET / HTTP/1.0\r\n\r\n", 18, "200 OK"), "200 OK"), 1);
    for (size_t i = 0; i < RK_COUNT(fds); i++) {
        close(fds[i]);
    }
    while (unsent_of(&echo) > 0 && now_ms() < until + PATIENCE_MS) { /* and nothing stays counted */
        usleep(1000);
    }
    assert_int_equal(unsent_of(&echo), 0);
    echo_stop(&echo);
}

static void
test_connection_limit(void **state)
{
    static const char get[] = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    rk_rpc_server_options options;
    static echo_server echo;
    bool ended;
    int fds[6];

    RK_UNUSED(state);
    rk_rpc_server_options_init(&options);
    options.connections_max = 4;
    echo_start(&echo, &options);
    for (int i = 0; i < 4; i++) {
        fds[i] = raw_connect(rk_rpc_server_address(echo.server));
        assert_int_equal(count(ask(fds[i], get, sizeof(get) - 1, "/x? GET"), "/x? GET"), 1);
    }
    for (int i = 4; i < 6; i++) {
        fds[i] = raw_connect(rk_rpc_server_address(echo.server));
        assert_int_equal(count(talk(fds[i], get, sizeof(get) - 1, PATIENCE_MS, &ended), "GET"), 0);
        assert_true(ended);
    }
    for (int i = 0; i < 4; i++) {
        talk(fds[i], "", 0, 10, &ended);
        assert_false(ended);
    }
    close(fds[0]);
    for (int i = 0;; i++) { /* as soon as the server has noticed */
        fds[0] = raw_connect(rk_rpc_server_address(echo.server));
        if (count(ask(fds[0], get, sizeof(get) - 1, "/x? GET"), "/x? GET") == 1) {
            break;
        }
        assert_true(i < PATIENCE_MS / 10);
        close(fds[0]);
        usleep(10000);
    }
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
    assert_int_equal(
        count(ask(fds[0], "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27, "/? GET"), "/? GET"), 1);
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
