/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: one table (config_table.h), read from milvus.yaml, the environment and the command
 * line.
 *
 * A later source wins over an earlier one; the caller loads file, then environment, then flags. An
 * unknown key in a file is a warning, since files come from elsewhere, one on the command line an
 * error; a value of the wrong type or out of bounds is an error that names source, key and what
 * would be right. Environment names are keys without case and dots: PROXY_PORT, COMMON_STORAGETYPE,
 * ETCD_ENDPOINTS, REDKITE_MEMORY_LIMIT; others are some other program's.
 *
 * Threads: loading belongs to start-up. After that the readers below may be called from any thread,
 * and rk_config_alter() too. A text that was read stays valid until rk_config_free(), even when
 * altered.
 */
#ifndef RK_BASE_CONFIG_H
#define RK_BASE_CONFIG_H

#include "base/config_table.h"
#include "base/slice.h"

typedef enum rk_config_key {
#define RK_CONFIG_ENUM(id, key, type, fallback, min, max, flags, help) RK_CFG_##id,
    RK_CONFIG_TABLE(RK_CONFIG_ENUM)
#undef RK_CONFIG_ENUM
        RK_CFG_COUNT
} rk_config_key;

typedef struct rk_config rk_config;

/* All defaults; NULL when memory is out. */
rk_config *rk_config_new(void);
void rk_config_free(rk_config *config);

/*
 * Reads a YAML file of at most 1 MiB, nested at most 16 deep, without anchors and aliases.
 * RK_EKEY_NOT_FOUND when there is no such file, RK_EINVAL with "file:line: ..." for what it says.
 */
RK_MUST_CHECK rk_code rk_config_load_file(rk_config *config, const char *path, rk_err *err);
/* The same from memory; |source| names it in messages. */
RK_MUST_CHECK rk_code rk_config_load_text(rk_config *config, rk_str yaml, const char *source,
                                          rk_err *err);
/* |environment| is NULL-terminated "NAME=value" text, as environ. */
RK_MUST_CHECK rk_code rk_config_load_env(rk_config *config, char *const *environment, rk_err *err);
/* One setting, at start-up. RK_EKEY_NOT_FOUND for an unknown key, RK_EINVAL for a bad value. */
RK_MUST_CHECK rk_code rk_config_set(rk_config *config, rk_str key, rk_str value, const char *source,
                                    rk_err *err);
/* One setting, while the server runs: RK_EINVAL when the key is not reloadable. Any thread. */
RK_MUST_CHECK rk_code rk_config_alter(rk_config *config, rk_str key, rk_str value, rk_err *err);

/* Readers. Each asserts that the setting has a fitting type. */
const char *rk_config_str(const rk_config *config,
                          rk_config_key key); /* TEXT, LIST, SECRET, CHOICE */
int64_t rk_config_i64(const rk_config *config,
                      rk_config_key key); /* INT, SIZE in bytes, DURATION in ms */
double rk_config_f64(const rk_config *config, rk_config_key key); /* FLOAT */
bool rk_config_bool(const rk_config *config, rk_config_key key);
/* True when the comma-separated LIST holds |item|. */
bool rk_config_list_has(const rk_config *config, rk_config_key key, rk_str item);

/* RK_CFG_COUNT when there is no such key. */
rk_config_key rk_config_find(rk_str key);
/* The key that |key|, which is none, was probably meant to be: spelt wrongly, or without its area.
 * NULL: there is none like it. */
const char *rk_config_nearest(rk_str key);
const char *rk_config_key_name(rk_config_key key);
/* False: the key is accepted since configurations in the field carry it, and nothing reads it. */
bool rk_config_has_effect(rk_config_key key);
/* "default", "milvus.yaml:12", "environment", ... */
const char *rk_config_source(const rk_config *config, rk_config_key key);
/* The value as text; "******" for secrets that are set. */
void rk_config_print(const rk_config *config, rk_config_key key, rk_buf *out);

/* Warnings of all loads so far (unknown keys), for the caller to log. */
size_t rk_config_warning_count(const rk_config *config);
const char *rk_config_warning(const rk_config *config, size_t i);

/* Every setting as "key: value" with its source; secrets hidden. */
void rk_config_dump(const rk_config *config, rk_buf *out);
/* docs/configuration.md. */
void rk_config_write_docs(rk_buf *out);

#endif
