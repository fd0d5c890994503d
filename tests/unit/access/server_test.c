/* SPDX-License-Identifier: Apache-2.0 */
/* The listeners: gRPC status and Status messages, REST statuses, health, and the refusal to start
 * with authorization on. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake.h"

/* One HTTP/1.1 exchange; the whole answer as text. */
static void
http(const char *address, const char *request, char *out, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    const char *colon = strrchr(address, ':');
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t len = 0;
    ssize_t n;

    assert_non_null(colon);
    to.sin_port = htons((uint16_t)strtol(colon + 1, NULL, 10));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
    while (len + 1 < size && (n = recv(fd, out + len, size - 1 - len, 0)) > 0) {
        len += (size_t)n;
    }
    out[len] = '\0';
    close(fd);
}

static void
post(const char *address, const char *path, const char *headers, const char *body, char *out,
     size_t size)
{
    char request[2048];
    snprintf(request, sizeof(request),
             "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s",
             path, strlen(body), headers, body);
    http(address, request, out, size);
}

#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        if (!strstr((text), (part))) {                                                             \
            fail_msg("want \"%s\" in \"%s\"", (part), (text));                                     \
        }                                                                                          \
    } while (0)

static void
test_server(void **state)
{
    fake *f = *state;
    rk_access_options options;
    rk_access *access = NULL;
    rk_rpc_client_options client_options;
    rk_rpc_client *client = NULL;
    rk_str reply = {NULL, 0};
    void *decoded = NULL;
    char text[8192];

    fake_collection(f);
    fake_access_options(f, &options);
    must(f, rk_access_start(&access, &options, &f->err));
    rk_rpc_client_options_init(&client_options);
    client_options.address = rk_access_address(access);
    client_options.env = rk_env_real();
    must(f, rk_rpc_client_new(&client, &client_options, &f->err));

    /* gRPC */
    const char *const dbname[] = {"dbname", "default", NULL};
    const char *const other_db[] = {"dbname", "other", NULL};
    must(f, rk_rpc_client_call(client, "/milvus.proto.milvus.MilvusService/Connect",
                               (rk_str){NULL, 0}, dbname, INT64_MAX, &reply, f->arena, &f->err));
    must(f, pb_decode(&pb_milvus_ConnectResponse_desc, &decoded, reply, f->arena, &f->err));
    const pb_milvus_ConnectResponse *connected = decoded;
    assert_non_null(connected->status); /* written even when empty */
    assert_int_equal(connected->status->code, 0);
    assert_true(connected->identifier != 0);
    assert_true(rk_str_is(connected->server_info->build_tags, RK__VERSION));
    must(f, rk_rpc_client_call(client, "/milvus.proto.milvus.MilvusService/Connect",
                               (rk_str){NULL, 0}, other_db, INT64_MAX, &reply, f->arena, &f->err));
    must(f, pb_decode(&pb_milvus_ConnectResponse_desc, &decoded, reply, f->arena, &f->err));
    assert_int_equal(((pb_milvus_ConnectResponse *)decoded)->status->code, 800);
    pb_milvus_DescribeCollectionRequest ask = {.collection_name = RK_STR("nope")};
    rk_str message;
    must(f, pb_encode_arena(&pb_milvus_DescribeCollectionRequest_desc, &ask, &message, f->arena));
    must(f, rk_rpc_client_call(client, "/milvus.proto.milvus.MilvusService/DescribeCollection",
                               message, NULL, INT64_MAX, &reply, f->arena, &f->err));
    must(f,
         pb_decode(&pb_milvus_DescribeCollectionResponse_desc, &decoded, reply, f->arena, &f->err));
    const pb_common_Status *status = ((pb_milvus_DescribeCollectionResponse *)decoded)->status;
    assert_int_equal(status->code, 100);
    assert_int_equal(status->error_code, PB_COMMON_ErrorCode_CollectionNotExists);
    assert_false(status->retriable);
    assert_true(
        rk_str_is(status->reason, "can't find collection[database=default][collection=nope]"));
    assert_true(rk_str_eq(status->reason, status->detail));
    assert_int_equal(status->extra_info.n, 1);
    assert_true(rk_str_is(status->extra_info.data[0]->key, "is_input_error"));
    assert_true(rk_str_is(status->extra_info.data[0]->value, "true"));
    assert_int_equal(rk_rpc_client_call(client,
                                        "/milvus.proto.milvus.MilvusService/CreatePartition",
                                        message, NULL, INT64_MAX, &reply, f->arena, &f->err),
                     RK_EUNIMPLEMENTED);
    assert_text(f, "method CreatePartition is not built in yet");
    assert_int_equal(rk_rpc_client_call(client, "/milvus.proto.milvus.MilvusService/Nonsense",
                                        message, NULL, INT64_MAX, &reply, f->arena, &f->err),
                     RK_EUNIMPLEMENTED);
    assert_text(f, "unknown method Nonsense");
    assert_int_not_equal(
        rk_rpc_client_call(client, "/milvus.proto.milvus.MilvusService/GetComponentStates",
                           (rk_str){NULL, 0}, NULL, INT64_MAX, &reply, f->arena, &f->err),
        RK_EUNIMPLEMENTED);
    must(f, pb_decode(&pb_milvus_ComponentStates_desc, &decoded, reply, f->arena, &f->err));
    assert_non_null(((pb_milvus_ComponentStates *)decoded)->status);
    must(f,
         rk_rpc_client_call(client, "/milvus.proto.milvus.ClientTelemetryService/ClientHeartbeat",
                            (rk_str){NULL, 0}, NULL, INT64_MAX, &reply, f->arena, &f->err));
    must(f, rk_rpc_client_call(client, "/grpc.health.v1.Health/Check", (rk_str){NULL, 0}, NULL,
                               INT64_MAX, &reply, f->arena, &f->err));
    assert_memory_equal(reply.data, "\x08\x01", 2);

    /* REST */
    const char *at = rk_access_address(access);
    post(at, "/v2/vectordb/collections/list", "", "{}", text, sizeof(text));
    assert_has(text, "HTTP/1.1 200");
    assert_has(text, "application/json; charset=utf-8");
    assert_has(text, "{\"code\":0,\"data\":[\"c\"]}");
    post(at, "/v2/vectordb/collections/list", "", "", text, sizeof(text));
    assert_has(text, "HTTP/1.1 200");
    assert_has(text, "\"code\":1801,\"message\":\"can only accept json format request, the request "
                     "body should be nil");
    post(at, "/v2/vectordb/collections/list", "", "[1]", text, sizeof(text));
    assert_has(text, "\"code\":1801,\"message\":\"can only accept json format request, error: ");
    post(at, "/v2/vectordb/collections/list", "DB-Name: zz\r\n", "{}", text, sizeof(text));
    assert_has(text, "{\"code\":800,\"message\":\"database not found[database=zz]\"}");
    post(at, "/v2/vectordb/collections/list", "Request-Timeout: x\r\n", "{}", text, sizeof(text));
    assert_has(text, "Request-Timeout parse failed, err:");
    post(at, "/v2/vectordb/collections/list", "Request-Timeout: 0\r\n", "{}", text, sizeof(text));
    assert_has(text, "HTTP/1.1 408");
    assert_has(text, "{\"code\":10001,\"message\":\"request timeout\"}");
    post(at, "/v2/vectordb/nonsense", "", "{}", text, sizeof(text));
    assert_has(text, "HTTP/1.1 404");
    assert_has(text, "404 page not found");
    post(at, "/v2/vectordb/users/list", "", "{}", text, sizeof(text));
    assert_has(text, "/v2/vectordb/users/list is not built in yet");
    http(at, "GET /v2/vectordb/collections/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
         text, sizeof(text));
    assert_has(text, "HTTP/1.1 404");
    http(at, "OPTIONS /v2/vectordb/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text,
         sizeof(text));
    assert_has(text, "HTTP/1.1 204");

    /* health */
    at = rk_access_metrics_address(access);
    http(at, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof(text));
    assert_has(text, "HTTP/1.1 200");
    assert_has(text, "OK");
    http(at,
         "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: "
         "close\r\n\r\n",
         text, sizeof(text));
    assert_has(text, "{\"state\":\"OK\",\"detail\":[{\"name\":\"proxy\",\"code\":1}]}");
    http(at, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof(text));
    assert_has(text, "Milvus Process Active\n");
    http(at, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof(text));
    assert_has(text, "milvus_proxy_req_count{node_id=\"1\",function_name=\"ShowCollections\","
                     "status=\"success\"");
    http(at, "GET /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof(text));
    assert_has(text, "HTTP/1.1 404");

    rk_rpc_client_free(client);
    rk_access_stop(access, 1000);
    rk_access_free(access);
}

/* tlsMode without its files: the sentence names the setting and the file. */
static void
test_tls_settings(void **state)
{
    static const struct {
        const char *mode, *cert, *key, *ca;
        const char *words;
    } cases[] = {
        {"1", "", "/k", "", "common.security.tlsMode is 1, so tls.serverPemPath must name a file"},
        {"1", "/nowhere/c.pem", "/k", "",
         "tls.serverPemPath names cannot be read: /nowhere/c.pem: No"},
        {"1", "c.pem", "/k", "",
         "tls.serverPemPath names cannot be read: c.pem: No such file or directory (from /"},
        {"1", "/dev/null", "", "", "tls.serverKeyPath must name a file: the private key"},
        {"1", "/dev/null", "/nowhere/k", "",
         "tls.serverKeyPath names cannot be read: /nowhere/k: No"},
        {"1", "/dev/null", "/dev/null", "",
         "common.security.tlsMode is 1 (tls.serverPemPath, tls.serverKeyPath): TLS: the file of "
         "the certificate chain, /dev/null, holds no certificate"},
        {"2", "/dev/null", "/dev/null", "",
         "common.security.tlsMode is 2, so tls.caPemPath must name a file"},
        {"2", "/dev/null", "/dev/null", "/nowhere/ca",
         "tls.caPemPath names cannot be read: /nowhere/ca: No"},
        {"2", "/dev/null", "/dev/null", "/dev/null", "tls.serverKeyPath, tls.caPemPath): TLS: "},
    };
    fake *f = *state;

    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_access_options options;
        rk_access *access = NULL;
        rk_err err = {0};
        fake_access_options(f, &options);
        must(f, rk_config_set(f->config, RK_STR("common.security.tlsMode"),
                              rk_str_from(cases[i].mode), "test", &f->err));
        must(f, rk_config_set(f->config, RK_STR("tls.serverPemPath"), rk_str_from(cases[i].cert),
                              "test", &f->err));
        must(f, rk_config_set(f->config, RK_STR("tls.serverKeyPath"), rk_str_from(cases[i].key),
                              "test", &f->err));
        must(f, rk_config_set(f->config, RK_STR("tls.caPemPath"), rk_str_from(cases[i].ca), "test",
                              &f->err));
        assert_int_equal(rk_access_start(&access, &options, &err), RK_EINVAL);
        assert_null(access);
        assert_has(err.text, cases[i].words);
    }
}

static void
test_authorization(void **state)
{
    fake *f = *state;
    rk_access_options options;
    rk_access *access = NULL;

    must(f, rk_config_set(f->config, RK_STR("common.security.authorizationEnabled"), RK_STR("true"),
                          "test", &f->err));
    fake_access_options(f, &options);
    assert_int_equal(rk_access_start(&access, &options, &f->err), RK_ENOT_SUPPORTED);
    assert_null(access);
    assert_text(f, "common.security.authorizationEnabled is true");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_server, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_tls_settings, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_authorization, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
