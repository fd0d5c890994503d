/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses as text: "host:port", "[v6]:port", ":port" (every interface), "unix:/path". Pure.
 */
#include <stdio.h>

#include "rpc/loop_private.h"

rk_code
rk__addr_parse(rk__addr *out, const char *text, rk_err *err)
{
    rk_str all = rk_str_from(text);
    rk_str host;
    uint64_t port = 0;
    const char *colon;

    memset(out, 0, sizeof(*out));
    if (rk_str_starts(all, "unix:")) {
        size_t len = all.len - 5;
        if (len == 0 || len >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
            return rk_fail(err, RK_EINVAL, "address [%s]: a socket path has 1 to %zu bytes", text,
                           sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
        }
        out->is_unix = true;
        memcpy(out->host, text + 5, len + 1);
        return RK_OK;
    }
    colon = text ? strrchr(text, ':') : NULL;
    if (!colon || !rk_str_to_u64(rk_str_from(colon + 1), &port) || port > 65535) {
        return rk_fail(err, RK_EINVAL, "address [%s]: must be host:port, [v6]:port or unix:/path",
                       text ? text : "");
    }
    host = (rk_str){text, (size_t)(colon - text)};
    if (host.len >= 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host.data++;
        host.len -= 2;
    } else if (memchr(host.data, ':', host.len)) {
        return rk_fail(err, RK_EINVAL, "address [%s]: an IPv6 host stands in brackets", text);
    }
    if (host.len >= sizeof(out->host)) {
        return rk_fail(err, RK_EINVAL, "address [%s]: the host name is too long", text);
    }
    if (host.len == 0) {
        host = RK_STR("0.0.0.0");
    }
    memcpy(out->host, host.data, host.len);
    out->port = (uint16_t)port;
    return RK_OK;
}
