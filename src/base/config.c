/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of settings: values, parsing and bounds by type, and lookup by key. config_load.c
 * reads the sources, config_docs.c prints the table.
 *
 * A number lives in one atomic word (the bits of a double for FLOAT), a text behind an atomic
 * pointer. Readers take no lock. Writers hold one; a text that was replaced is kept in a list until
 * the end, since a reader may still look at it. Orders: text pointers are published with release
 * and read with acquire, numbers are relaxed, as a late reader only acts on the old setting for a
 * moment longer.
 */
#include "base/config.h"

#include <math.h>
#include <stdio.h>

#include "base/config_private.h"
#include "base/mem.h"
#include "base/nearest.h"

enum {
    R = RK__CONFIG_RELOAD,
    N = RK__CONFIG_NO_EFFECT,
    S = RK__CONFIG_SECONDS,
    M = RK__CONFIG_MIB
};

#define CONFIG_ROW(id, key, type, fallback, min, max, flags, help)                                 \
    {key, fallback, help, (double)(min), (double)(max), RK__CONFIG_##type, flags},
const rk__config_row rk__config_rows[RK_CFG_COUNT] = {RK_CONFIG_TABLE(CONFIG_ROW)};

static char
fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool
is_joint(char c)
{
    return c == '.' || c == '_' || c == '/';
}

/* Compares without case and without ".", "_" and "/". */
static bool
same_key(const char *a, rk_str b)
{
    size_t i = 0;

    for (;;) {
        while (is_joint(*a)) {
            a++;
        }
        while (i < b.len && is_joint(b.data[i])) {
            i++;
        }
        if (*a == '\0' || i == b.len) {
            return *a == '\0' && i == b.len;
        }
        if (fold(*a) != fold(b.data[i])) {
            return false;
        }
        a++;
        i++;
    }
}

rk_config_key
rk_config_find(rk_str key)
{
    static const struct {
        const char *old_key;
        rk_config_key key;
    } aliases[] = {
        {"common.MetricsPort", RK_CFG_METRICS_PORT},
        {"grpc.serverMaxRecvSize", RK_CFG_GRPC_RECV_MAX},
        {"grpc.serverMaxSendSize", RK_CFG_GRPC_SEND_MAX},
        {"proxy.http.accept.allowInt64", RK_CFG_PROXY_HTTP_INT64},
        {"rocksmq.retentionSizeInMb", RK_CFG_ROCKSMQ_SIZE},
    };

    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        if (same_key(rk__config_rows[i].key, key)) {
            return (rk_config_key)i;
        }
    }
    for (size_t i = 0; i < RK_COUNT(aliases); i++) {
        if (same_key(aliases[i].old_key, key)) {
            return aliases[i].key;
        }
    }
    return RK_CFG_COUNT;
}

/* What comes after the last dot of |key|. */
static rk_str
last_part(rk_str key)
{
    size_t at = key.len;

    while (at > 0 && key.data[at - 1] != '.') {
        at--;
    }
    return (rk_str){key.data + at, key.len - at};
}

const char *
rk_config_nearest(rk_str key)
{
    rk_nearest whole = rk_nearest_to(key);
    rk_nearest part = rk_nearest_to(last_part(key));
    rk_config_key of_part = RK_CFG_COUNT;

    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        rk_str name = rk_str_from(rk__config_rows[i].key);
        size_t distance = part.distance;
        rk_nearest_offer(&whole, name);
        rk_nearest_offer(&part, last_part(name));
        of_part = part.distance < distance ? (rk_config_key)i : of_part;
    }
    /* a name without its area, or in the wrong one, must be the same, not only near */
    if (part.distance == 0 && part.asked.len > 3 && whole.distance > 1) {
        return rk__config_rows[of_part].key;
    }
    return whole.best.len > 0 ? whole.best.data : NULL; /* a whole key: it ends with a zero */
}

const char *
rk_config_key_name(rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT);
    return rk__config_rows[key].key;
}

/* ---- values ---- */

/* A number with a unit of |units|, e.g. "1.5GiB"; |bare| is the factor of a number without one. */
typedef struct unit {
    const char *name; /* lower case */
    double factor;
} unit;

static bool
parse_with_unit(rk_str text, const unit *units, size_t count, double bare, double *out)
{
    size_t digits = text.len;
    double number;

    while (digits > 0 && !(text.data[digits - 1] >= '0' && text.data[digits - 1] <= '9')) {
        digits--;
    }
    rk_str name = rk_str_trim((rk_str){text.data + digits, text.len - digits});
    if (!rk_str_to_f64((rk_str){text.data, digits}, &number)) {
        return false;
    }
    if (name.len == 0) {
        *out = number * bare;
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (same_key(units[i].name, name)) {
            *out = number * units[i].factor;
            return true;
        }
    }
    return false;
}

static bool
parse_size(rk_str text, double bare, double *out)
{
    static const unit units[] = {{"b", 1},        {"k", 0x1p10}, {"kb", 0x1p10}, {"ki", 0x1p10},
                                 {"kib", 0x1p10}, {"m", 0x1p20}, {"mb", 0x1p20}, {"mi", 0x1p20},
                                 {"mib", 0x1p20}, {"g", 0x1p30}, {"gb", 0x1p30}, {"gi", 0x1p30},
                                 {"gib", 0x1p30}, {"t", 0x1p40}, {"tb", 0x1p40}, {"ti", 0x1p40},
                                 {"tib", 0x1p40}};
    return parse_with_unit(text, units, RK_COUNT(units), bare, out);
}

static bool
parse_duration(rk_str text, double bare, double *out)
{
    static const unit units[] = {{"us", 0.001}, {"ms", 1},      {"s", 1000},
                                 {"m", 60000},  {"h", 3600000}, {"d", 86400000}};
    return parse_with_unit(text, units, RK_COUNT(units), bare, out);
}

/* The choices are the words before ": " in the help text. */
static bool
is_choice(const rk__config_row *row, rk_str text)
{
    const char *at = row->help;
    const char *end = strchr(row->help, ':');

    while (end && at < end) {
        size_t len = strcspn(at, "|:");
        char word[32];
        if (len < sizeof(word)) {
            memcpy(word, at, len);
            word[len] = '\0';
            if (same_key(word, text)) {
                return true;
            }
        }
        at += len + 1;
    }
    return false;
}

static const char *
expected(const rk__config_row *row)
{
    static const char *const words[] = {"text",
                                        "a list",
                                        "text",
                                        "one of",
                                        "true or false",
                                        "a whole number",
                                        "a number",
                                        "a size such as 512MiB",
                                        "a time such as 30s"};
    return words[row->type];
}

static rk_code
fail_value(const rk__config_row *row, rk_str text, const char *source, rk_err *err)
{
    bool secret = row->type == RK__CONFIG_SECRET;
    rk_str shown = secret ? RK_STR("******") : text;
    int shown_len = (int)RK_MIN(shown.len, 200u);

    if (row->type == RK__CONFIG_CHOICE) {
        return rk_fail(err, RK_EINVAL, "%s: %s cannot be \"%.*s\": want one of %.*s", source,
                       row->key, shown_len, shown.data ? shown.data : "",
                       (int)strcspn(row->help, ":"), row->help);
    }
    if (row->min != 0 || row->max != 0) {
        return rk_fail(err, RK_EINVAL, "%s: %s cannot be \"%.*s\": want %s from %.15g to %.15g%s",
                       source, row->key, shown_len, shown.data ? shown.data : "", expected(row),
                       row->min, row->max,
                       row->type == RK__CONFIG_SIZE       ? " bytes"
                       : row->type == RK__CONFIG_DURATION ? " ms"
                                                          : "");
    }
    return rk_fail(err, RK_EINVAL, "%s: %s cannot be \"%.*s\": want %s", source, row->key,
                   shown_len, shown.data ? shown.data : "", expected(row));
}

static bool
in_bounds(const rk__config_row *row, double value)
{
    return (row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max);
}

static uint64_t
bits_of_f64(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* Turns text into the word that is stored; false when it is not of the row's type or out of bounds.
 */
static bool
parse_number(const rk__config_row *row, rk_str text, uint64_t *out)
{
    bool truth;
    int64_t whole;
    double number;

    switch (row->type) {
    case RK__CONFIG_BOOL:
        if (same_key("yes", text) || same_key("on", text) || same_key("true", text)) {
            truth = true;
        } else if (same_key("no", text) || same_key("off", text) || same_key("false", text)) {
            truth = false;
        } else if (!rk_str_to_bool(text, &truth)) {
            return false;
        }
        *out = truth;
        return true;
    case RK__CONFIG_INT:
        if (!rk_str_to_i64(text, &whole)) {
            return false;
        }
        *out = (uint64_t)whole;
        return in_bounds(row, (double)whole);
    case RK__CONFIG_FLOAT:
        if (!rk_str_to_f64(text, &number)) {
            return false;
        }
        *out = bits_of_f64(number);
        return in_bounds(row, number);
    case RK__CONFIG_SIZE:
    case RK__CONFIG_DURATION:
        if (row->type == RK__CONFIG_SIZE
                ? !parse_size(text, (row->flags & RK__CONFIG_MIB) ? 0x1p20 : 1, &number)
                : !parse_duration(text, (row->flags & RK__CONFIG_SECONDS) ? 1000 : 1, &number)) {
            return false;
        }
        if (number < 0 || number > 0x1p62) {
            return false;
        }
        *out = (uint64_t)llround(number);
        return in_bounds(row, number);
    case RK__CONFIG_TEXT:
    case RK__CONFIG_LIST:
    case RK__CONFIG_SECRET:
    case RK__CONFIG_CHOICE:
        break;
    }
    return false;
}

/* Keeps a copy of |text| alive until the end. */
static char *
keep_text_locked(rk_config *config, rk_str text)
{
    kept_text *kept = rk_alloc(sizeof(*kept) + text.len + 1);

    if (!kept) {
        return NULL;
    }
    if (text.len > 0) {
        memcpy(kept->text, text.data, text.len);
    }
    kept->text[text.len] = '\0';
    kept->next = config->kept;
    config->kept = kept;
    return kept->text;
}

static rk_code
store_text_locked(rk_config *config, rk_config_key key, rk_str text, rk_err *err)
{
    char *copy = keep_text_locked(config, text);

    if (!copy) {
        return rk_fail(err, RK_ENOMEM, "cannot keep setting %s: out of memory",
                       rk__config_rows[key].key);
    }
    if (rk__config_rows[key].type == RK__CONFIG_CHOICE) {
        for (char *c = copy; *c; c++) {
            *c = fold(*c);
        }
    }
    atomic_store_explicit(&config->values[key].text, copy, memory_order_release);
    return RK_OK;
}

static rk_code
store_locked(rk_config *config, rk_config_key key, rk_str text, const char *source, rk_err *err)
{
    const rk__config_row *row = &rk__config_rows[key];
    rk_str value = rk_str_trim(text);
    uint64_t word;

    switch (row->type) {
    case RK__CONFIG_TEXT:
    case RK__CONFIG_LIST:
    case RK__CONFIG_SECRET:
        if (value.len > 0 && memchr(value.data, '\0', value.len)) {
            return fail_value(row, RK_STR("text with a zero byte"), source, err);
        }
        RK_RET(store_text_locked(config, key, value, err));
        break;
    case RK__CONFIG_CHOICE:
        if (value.len == 0) {
            value = rk_str_from(row->fallback);
        }
        if (!is_choice(row, value)) {
            return fail_value(row, value, source, err);
        }
        RK_RET(store_text_locked(config, key, value, err));
        break;
    case RK__CONFIG_BOOL:
    case RK__CONFIG_INT:
    case RK__CONFIG_FLOAT:
    case RK__CONFIG_SIZE:
    case RK__CONFIG_DURATION:
        if (value.len == 0) {
            value = rk_str_from(row->fallback); /* "key:" without a value means the default */
        }
        if (!parse_number(row, value, &word)) {
            return fail_value(row, value, source, err);
        }
        atomic_store_explicit(&config->values[key].word, word, memory_order_relaxed);
        break;
    }
    char *source_copy = keep_text_locked(config, rk_str_from(source));
    atomic_store_explicit(&config->values[key].source, source_copy ? source_copy : "?",
                          memory_order_release);
    return RK_OK;
}

rk_config *
rk_config_new(void)
{
    rk_config *config = rk_alloc_zero(1, sizeof(*config));

    if (!config) {
        return NULL;
    }
    rk_mutex_init(&config->lock, "config", RK_RANK_LOG - 2);
    rk_mutex_lock(&config->lock);
    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        rk_err err = {0};
        rk_str fallback = rk_str_from(rk__config_rows[i].fallback);
        rk_code code = store_locked(config, (rk_config_key)i, fallback, "default", &err);
        RK_ASSERT(code == RK_OK || code == RK_ENOMEM); /* a default must satisfy its own row */
        if (code != RK_OK) {
            rk_mutex_unlock(&config->lock);
            rk_config_free(config);
            return NULL;
        }
    }
    rk_mutex_unlock(&config->lock);
    return config;
}

void
rk_config_free(rk_config *config)
{
    if (!config) {
        return;
    }
    while (config->kept) {
        kept_text *kept = config->kept;
        config->kept = kept->next;
        rk_free(kept);
    }
    rk_mutex_deinit(&config->lock);
    rk_free(config);
}

rk_code
rk_config_set(rk_config *config, rk_str key, rk_str value, const char *source, rk_err *err)
{
    rk_config_key found = rk_config_find(key);

    if (found == RK_CFG_COUNT) {
        const char *near = rk_config_nearest(key);
        return rk_fail(err, RK_EKEY_NOT_FOUND, "%s: there is no setting %.*s%s%s%s", source,
                       RK_STR_ARG(key), near ? ", did you mean " : "", near ? near : "",
                       near ? "?" : "");
    }
    rk_mutex_lock(&config->lock);
    rk_code code = store_locked(config, found, value, source, err);
    rk_mutex_unlock(&config->lock);
    return code;
}

rk_code
rk_config_alter(rk_config *config, rk_str key, rk_str value, rk_err *err)
{
    rk_config_key found = rk_config_find(key);

    if (found != RK_CFG_COUNT && !(rk__config_rows[found].flags & RK__CONFIG_RELOAD)) {
        return rk_fail(err, RK_EINVAL, "setting %s cannot be changed while the server runs",
                       rk__config_rows[found].key);
    }
    return rk_config_set(config, key, value, "altered", err);
}

void
rk__config_warn(rk_config *config, const char *text)
{
    rk_mutex_lock(&config->lock);
    if (config->warning_count < RK__CONFIG_WARNINGS_MAX) {
        char *copy = keep_text_locked(config, rk_str_from(text));
        if (copy) {
            config->warnings[config->warning_count++] = copy;
        }
    }
    rk_mutex_unlock(&config->lock);
}

size_t
rk_config_warning_count(const rk_config *config)
{
    return config->warning_count;
}

const char *
rk_config_warning(const rk_config *config, size_t i)
{
    RK_ASSERT(i < config->warning_count);
    return config->warnings[i];
}

/* ---- readers ---- */

const char *
rk_config_str(const rk_config *config, rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT && rk__config_rows[key].type <= RK__CONFIG_CHOICE);
    return atomic_load_explicit(&config->values[key].text, memory_order_acquire);
}

static uint64_t
word_of(const rk_config *config, rk_config_key key)
{
    return atomic_load_explicit(&config->values[key].word, memory_order_relaxed);
}

int64_t
rk_config_i64(const rk_config *config, rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT && (rk__config_rows[key].type == RK__CONFIG_INT ||
                                               rk__config_rows[key].type == RK__CONFIG_SIZE ||
                                               rk__config_rows[key].type == RK__CONFIG_DURATION));
    return (int64_t)word_of(config, key);
}

double
rk_config_f64(const rk_config *config, rk_config_key key)
{
    double value;

    RK_ASSERT((unsigned)key < RK_CFG_COUNT && rk__config_rows[key].type == RK__CONFIG_FLOAT);
    uint64_t bits = word_of(config, key);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

bool
rk_config_bool(const rk_config *config, rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT && rk__config_rows[key].type == RK__CONFIG_BOOL);
    return word_of(config, key) != 0;
}

bool
rk_config_list_has(const rk_config *config, rk_config_key key, rk_str item)
{
    rk_str rest = rk_str_from(rk_config_str(config, key));

    while (rest.len > 0) {
        const char *comma = memchr(rest.data, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.data) : rest.len;
        if (item.len > 0 && rk_str_eq(rk_str_trim((rk_str){rest.data, len}), item)) {
            return true;
        }
        size_t skip = comma ? len + 1 : len;
        rest.data += skip;
        rest.len -= skip;
    }
    return false;
}

bool
rk_config_has_effect(rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT);
    return !(rk__config_rows[key].flags & RK__CONFIG_NO_EFFECT);
}

const char *
rk_config_source(const rk_config *config, rk_config_key key)
{
    RK_ASSERT((unsigned)key < RK_CFG_COUNT);
    return atomic_load_explicit(&config->values[key].source, memory_order_acquire);
}
