/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: defaults, YAML forms, refusals with file and line, environment, secrets, alteration. */
#include "base/config.h"

#include "base/mem.h"
#include "unit_test.h"

static rk_err err;

static rk_code
load(rk_config *c, const char *yaml)
{
    rk_err_clear(&err);
    return rk_config_load_text(c, rk_str_from(yaml), "test.yaml", &err);
}

static void
defaults(void **state)
{
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    assert_int_equal(rk_config_i64(c, RK_CFG_PROXY_PORT), 19530);
    assert_int_equal(rk_config_i64(c, RK_CFG_METRICS_PORT), 9091);
    assert_int_equal(rk_config_i64(c, RK_CFG_WAL_SEGMENT), 64 << 20);
    assert_int_equal(rk_config_i64(c, RK_CFG_GROWING_MAX), 128 << 20);
    assert_int_equal(rk_config_i64(c, RK_CFG_SEGMENT_MAX_IDLE), 600000);
    assert_true(rk_config_f64(c, RK_CFG_SEGMENT_SEAL) == 0.12);
    assert_true(rk_config_bool(c, RK_CFG_COMPACTION_ENABLED));
    assert_string_equal(rk_config_str(c, RK_CFG_STORAGE_TYPE), "local");
    assert_string_equal(rk_config_source(c, RK_CFG_STORAGE_TYPE), "default");
    rk_config_free(c);
}

static void
yaml_forms(void **state)
{
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    assert_int_equal(load(c, "# comment\n"
                             "proxy:\n"
                             "  port: 19531\n"
                             "  http: {port: , enabled: no}\n"
                             "common:\n"
                             "  security:\n"
                             "    superUsers: [root, \"a b\"]\n"
                             "    tlsMode: 2\n"
                             "etcd:\n"
                             "  endpoints:\n"
                             "    - one:2379\n"
                             "    - two:2379\n"
                             "  someThing: {nested: [x, {y: z}]}\n"
                             "dataCoord.gc.interval: 2h\n"
                             "redkite:\n"
                             "  memory: {limit: 1.5GiB}\n"
                             "localStorage:\n"
                             "  path: ~\n"),
                     RK_OK);
    assert_int_equal(rk_config_i64(c, RK_CFG_PROXY_PORT), 19531);
    assert_string_equal(rk_config_source(c, RK_CFG_PROXY_PORT), "test.yaml:3");
    assert_int_equal(rk_config_i64(c, RK_CFG_PROXY_HTTP_PORT), 0);
    assert_false(rk_config_bool(c, RK_CFG_PROXY_HTTP_ENABLED));
    assert_string_equal(rk_config_str(c, RK_CFG_SUPER_USERS), "root,a b");
    assert_true(rk_config_list_has(c, RK_CFG_SUPER_USERS, RK_STR("a b")));
    assert_false(rk_config_list_has(c, RK_CFG_SUPER_USERS, RK_STR("a")));
    assert_false(rk_config_list_has(c, RK_CFG_SUPER_USERS, RK_STR("")));
    assert_string_equal(rk_config_str(c, RK_CFG_ETCD_ENDPOINTS), "one:2379,two:2379");
    assert_int_equal(rk_config_i64(c, RK_CFG_GC_INTERVAL), 7200000);
    assert_int_equal(rk_config_i64(c, RK_CFG_MEMORY_LIMIT), 1610612736);
    assert_int_equal(rk_config_warning_count(c), 0);
    assert_int_equal(load(c, ""), RK_OK);
    assert_int_equal(load(c, "~\n"), RK_OK);
    rk_config_free(c);
}

static void
unknown_keys_warn(void **state)
{
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    assert_int_equal(load(c, "proxy:\n  prot: 1\nwhatever:\n  x: [1, 2]\nkafka:\n  brokers: 1\n"),
                     RK_OK);
    assert_int_equal(rk_config_warning_count(c), 2);
    assert_string_equal(rk_config_warning(c, 0),
                        "test.yaml:2: unknown setting proxy.prot is ignored, did you mean "
                        "proxy.port?");
    assert_non_null(strstr(rk_config_warning(c, 1), "whatever.x"));
    rk_config_free(c);
}

static void
unknown_set_fails(void **state)
{
    static const struct {
        const char *key;
        const char *message;
    } cases[] = {
        {"proxy.prot", "--set: there is no setting proxy.prot, did you mean proxy.port?"},
        {"proxy.maxTaskNumber", "--set: there is no setting proxy.maxTaskNumber, did you mean "
                                "proxy.maxTaskNum?"},
        {"maxTaskNum", "--set: there is no setting maxTaskNum, did you mean proxy.maxTaskNum?"},
        {"common.security.serverPemPath", "--set: there is no setting "
                                          "common.security.serverPemPath, did you mean "
                                          "tls.serverPemPath?"},
        {"foo", "--set: there is no setting foo"},
        {"", "--set: there is no setting "},
    };
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_err why = {0};
        assert_int_equal(rk_config_set(c, rk_str_from(cases[i].key), RK_STR("1"), "--set", &why),
                         RK_EKEY_NOT_FOUND);
        assert_string_equal(why.text, cases[i].message);
    }
    rk_config_free(c);
}

static void
refusals(void **state)
{
    static const struct {
        const char *yaml;
        const char *message;
    } cases[] = {
        {"proxy:\n  port: abc\n",
         "test.yaml:2: proxy.port cannot be \"abc\": want a whole number from 0 to 65535"},
        {"proxy:\n  port: 70000\n", "from 0 to 65535"},
        {"log:\n  level: loud\n", "log.level cannot be \"loud\": want one of trace|debug"},
        {"common: {security: {authorizationEnabled: perhaps}}", "want true or false"},
        {"redkite: {memory: {limit: 5 parsecs}}", "want a size such as 512MiB"},
        {"a: &x 1\nb: *x\n", "test.yaml:1: anchors are not allowed"},
        {"a: *x\n", "aliases are not allowed"},
        {"- a\n- b\n", "want a mapping"},
        {"just text\n", "want a mapping"},
        {"{a: 1}\n---\n{b: 2}\n", "one document"},
        {"a: [1, 2\n", "not valid YAML"},
        {"[[[[[[", "want a mapping"},
        {"a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: {l: {m: {n: {o: {p: {q: 1}}}}}}}}}}}}}}}}",
         "16 levels"},
        {"? [a]\n: b\n", "text as keys"},
    };

    RK_UNUSED(state);
    for (size_t i = 0; i < RK_COUNT(cases); i++) {
        rk_config *c = rk_config_new();
        assert_int_equal(load(c, cases[i].yaml), RK_EINVAL);
        if (!strstr(err.text, cases[i].message)) {
            fail_msg("case %zu: %s", i, err.text);
        }
        rk_config_free(c);
    }
}

static void
size_and_memory_limits(void **state)
{
    rk_config *c = rk_config_new();
    size_t size = (1u << 20) + 1;
    char *big = rk_alloc(size);

    RK_UNUSED(state);
    memset(big, '#', size);
    assert_int_equal(rk_config_load_text(c, (rk_str){big, size}, "big", &err), RK_EINVAL);
    rk_free(big);
    assert_int_equal(rk_config_load_file(c, "/nonexistent.yaml", &err), RK_EKEY_NOT_FOUND);
    for (int64_t i = 0; i < 6; i++) {
        rk_alloc_fail_after(i);
        rk_code code = load(c, "a: [1, 2]\nproxy: {port: 1}\nlocalStorage: {path: x}\n");
        rk_alloc_fail_after(-1);
        assert_true(code == RK_ENOMEM || code == RK_OK);
    }
    rk_config_free(c);
    for (int64_t i = 0; i < 50; i++) {
        rk_alloc_fail_after(i);
        c = rk_config_new();
        rk_alloc_fail_after(-1);
        rk_config_free(c);
    }
}

static void
environment(void **state)
{
    static char e1[] = "PROXY_PORT=4711";
    static char e2[] = "COMMON_STORAGETYPE=remote";
    static char e3[] = "QUOTAANDLIMITS_LIMITS_TOPK=100";
    static char e4[] = "METRICS_PORT=9999";
    static char e5[] = "ETCD_ENDPOINTS=a:1,b:2";
    static char e6[] = "DEPLOY_MODE=STANDALONE";
    static char e7[] = "REDKITE_MEMORY_LIMIT=2G";
    static char e8[] = "PATH=/bin";
    static char e9[] = "=odd";
    char *good[] = {e1, e2, e3, e4, e5, e6, e7, e8, e9, NULL};
    static char b1[] = "PROXY_PORT=many";
    char *bad[] = {b1, NULL};
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    assert_int_equal(rk_config_load_env(c, good, &err), RK_OK);
    assert_int_equal(rk_config_i64(c, RK_CFG_PROXY_PORT), 4711);
    assert_string_equal(rk_config_str(c, RK_CFG_STORAGE_TYPE), "remote");
    assert_int_equal(rk_config_i64(c, RK_CFG_LIMIT_TOPK), 100);
    assert_int_equal(rk_config_i64(c, RK_CFG_METRICS_PORT), 9999);
    assert_string_equal(rk_config_str(c, RK_CFG_ETCD_ENDPOINTS), "a:1,b:2");
    assert_int_equal(rk_config_i64(c, RK_CFG_MEMORY_LIMIT), INT64_C(2) << 30);
    assert_string_equal(rk_config_source(c, RK_CFG_PROXY_PORT), "environment PROXY_PORT");
    assert_int_equal(rk_config_load_env(c, bad, &err), RK_EINVAL);
    assert_non_null(strstr(err.text, "environment PROXY_PORT"));
    rk_config_free(c);
}

static void
secrets_are_not_printed(void **state)
{
    rk_config *c = rk_config_new();
    rk_buf out = {0};

    RK_UNUSED(state);
    assert_int_equal(load(c, "minio: {secretAccessKey: hunter2}\n"), RK_OK);
    assert_string_equal(rk_config_str(c, RK_CFG_MINIO_SECRET_KEY), "hunter2");
    rk_config_dump(c, &out);
    rk_buf_byte(&out, 0);
    assert_null(strstr((char *)out.data, "hunter2"));
    assert_non_null(strstr((char *)out.data, "minio.secretAccessKey: ******"));
    assert_non_null(strstr((char *)out.data, "proxy.port: 19530 # default"));
    rk_buf_clear(&out);
    rk_config_write_docs(&out);
    rk_buf_byte(&out, 0);
    assert_non_null(strstr((char *)out.data, "| `proxy.port` | int | `19530` | 0 .. 65535 |"));
    assert_null(strstr((char *)out.data, "`Milvus`"));
    rk_buf_deinit(&out);
    rk_config_free(c);
}

static void
altering(void **state)
{
    rk_config *c = rk_config_new();

    RK_UNUSED(state);
    const char *before = rk_config_str(c, RK_CFG_LOG_LEVEL);
    assert_int_equal(rk_config_alter(c, RK_STR("log.level"), RK_STR("DEBUG"), &err), RK_OK);
    assert_string_equal(rk_config_str(c, RK_CFG_LOG_LEVEL), "debug");
    assert_string_equal(before, "info"); /* still readable */
    assert_int_equal(rk_config_alter(c, RK_STR("proxy.port"), RK_STR("1"), &err), RK_EINVAL);
    assert_int_equal(rk_config_alter(c, RK_STR("nope"), RK_STR("1"), &err), RK_EKEY_NOT_FOUND);
    assert_int_equal(rk_config_alter(c, RK_STR("common.gracefulTime"), RK_STR("-1"), &err),
                     RK_EINVAL);
    assert_int_equal(rk_config_i64(c, RK_CFG_GRACEFUL_TIME), 5000);
    rk_config_free(c);
}

static void
keys_are_unambiguous(void **state)
{
    RK_UNUSED(state);
    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        const char *name = rk_config_key_name((rk_config_key)i);
        if (rk_config_find(rk_str_from(name)) != (rk_config_key)i) {
            fail_msg("key %s is there twice", name);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),          cmocka_unit_test(yaml_forms),
        cmocka_unit_test(unknown_keys_warn), cmocka_unit_test(unknown_set_fails),
        cmocka_unit_test(refusals),          cmocka_unit_test(size_and_memory_limits),
        cmocka_unit_test(environment),       cmocka_unit_test(secrets_are_not_printed),
        cmocka_unit_test(altering),          cmocka_unit_test(keys_are_unambiguous),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
