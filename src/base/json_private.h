/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scanning that the JSON files share.
 */
#ifndef RK_BASE_JSON_PRIVATE_H
#define RK_BASE_JSON_PRIVATE_H

#include "base/json.h"

static inline const char *
rk__json_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) {
        p++;
    }
    return p;
}

/* From the byte after the opening quote: the first byte that is a quote, a backslash or a control
 * character; |end| when none. */
const char *rk__json_plain(const char *p, const char *end);

/* Type of the number |raw|, which is well formed: RK_JSON_INT or RK_JSON_DOUBLE. */
rk_json_type rk__json_number_type(rk_str raw);

/* Decodes the escape at |p| (a backslash) into |out|, 1 to 4 bytes of UTF-8; moves |*p| past it. 0
 * when it is malformed. */
size_t rk__json_escape(const char **p, const char *end, char out[4]);

/* Length of the well-formed UTF-8 sequence at |p|, 0 when it is ill-formed. |p| < |end|. */
size_t rk__json_utf8(const char *p, const char *end);

#endif
