/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What config.c, config_load.c and config_docs.c share.
 */
#ifndef RK_BASE_CONFIG_PRIVATE_H
#define RK_BASE_CONFIG_PRIVATE_H

#include "base/config.h"
#include "base/thread.h"

#define RK__CONFIG_WARNINGS_MAX 1024

typedef enum rk__config_type {
    RK__CONFIG_TEXT,
    RK__CONFIG_LIST,
    RK__CONFIG_SECRET,
    RK__CONFIG_CHOICE, /* the last kind of text */
    RK__CONFIG_BOOL,
    RK__CONFIG_INT,
    RK__CONFIG_FLOAT,
    RK__CONFIG_SIZE,
    RK__CONFIG_DURATION
} rk__config_type;

#define RK__CONFIG_RELOAD    1u
#define RK__CONFIG_NO_EFFECT 2u
#define RK__CONFIG_SECONDS   4u
#define RK__CONFIG_MIB       8u

typedef struct rk__config_row {
    const char *key;
    const char *fallback;
    const char *help;
    double min;
    double max;
    rk__config_type type;
    unsigned flags;
} rk__config_row;

extern const rk__config_row rk__config_rows[RK_CFG_COUNT];

typedef struct kept_text {
    struct kept_text *next;
    char text[];
} kept_text;

typedef struct rk__config_value {
    _Atomic uint64_t word;        /* BOOL, INT, SIZE, DURATION, the bits of FLOAT */
    _Atomic(char *) text;         /* TEXT, LIST, SECRET, CHOICE; lives in |kept| */
    _Atomic(const char *) source; /* lives in |kept| */
} rk__config_value;

struct rk_config {
    rk_mutex lock; /* guards writers, |kept| and |warnings| */
    rk__config_value values[RK_CFG_COUNT];
    kept_text *kept;
    const char *warnings[RK__CONFIG_WARNINGS_MAX];
    size_t warning_count;
};

void rk__config_warn(rk_config *config, const char *text);

#endif
