/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints settings: one value, all values with their sources, and the reference in
 * docs/configuration.md. Secrets come out as stars wherever a value is printed.
 */
#include <inttypes.h>

#include "base/config_private.h"

void
rk_config_print(const rk_config *config, rk_config_key key, rk_buf *out)
{
    switch (rk__config_rows[key].type) {
    case RK__CONFIG_SECRET:
        rk_buf_str(out, rk_config_str(config, key)[0] ? RK_STR("******") : RK_STR(""));
        break;
    case RK__CONFIG_TEXT:
    case RK__CONFIG_LIST:
    case RK__CONFIG_CHOICE:
        rk_buf_str(out, rk_str_from(rk_config_str(config, key)));
        break;
    case RK__CONFIG_BOOL:
        rk_buf_str(out, rk_config_bool(config, key) ? RK_STR("true") : RK_STR("false"));
        break;
    case RK__CONFIG_FLOAT:
        rk_buf_printf(out, "%.15g", rk_config_f64(config, key));
        break;
    case RK__CONFIG_DURATION:
        rk_buf_printf(out, "%" PRId64 "ms", rk_config_i64(config, key));
        break;
    case RK__CONFIG_INT:
    case RK__CONFIG_SIZE:
        rk_buf_printf(out, "%" PRId64, rk_config_i64(config, key));
        break;
    }
}

void
rk_config_dump(const rk_config *config, rk_buf *out)
{
    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        rk_buf_printf(out, "%s: ", rk__config_rows[i].key);
        rk_config_print(config, (rk_config_key)i, out);
        rk_buf_printf(out, " # %s\n", rk_config_source(config, (rk_config_key)i));
    }
}

static const char *
type_name(const rk__config_row *row)
{
    static const char *const names[] = {"text", "list",   "secret", "choice", "bool",
                                        "int",  "number", "size",   "time"};
    return names[row->type];
}

/* A bound in the unit a reader of the table would use. */
static void
write_bounds(const rk__config_row *row, rk_buf *out)
{
    if (row->min == 0 && row->max == 0) {
        return;
    }
    double scale = row->type == RK__CONFIG_DURATION && (row->flags & RK__CONFIG_SECONDS) ? 1000
                   : row->flags & RK__CONFIG_MIB                                         ? 0x1p20
                                                                                         : 1;
    rk_buf_printf(out, "%.15g .. %.15g", row->min / scale, row->max / scale);
}

static void
write_row(const rk__config_row *row, rk_buf *out)
{
    const char *unit = row->type != RK__CONFIG_DURATION && row->type != RK__CONFIG_SIZE ? ""
                       : row->flags & RK__CONFIG_SECONDS                                ? " (s)"
                       : row->flags & RK__CONFIG_MIB                                    ? " (MiB)"
                       : row->type == RK__CONFIG_DURATION                               ? " (ms)"
                                                          : " (bytes)";

    rk_buf_printf(out, "| `%s` | %s%s | ", row->key, type_name(row), unit);
    if (row->type == RK__CONFIG_SECRET && row->fallback[0]) {
        rk_buf_printf(out, "(set)");
    } else if (row->fallback[0]) {
        rk_buf_printf(out, "`%s`", row->fallback);
    }
    rk_buf_printf(out, " | ");
    write_bounds(row, out);
    rk_buf_printf(out, " | %s | ", row->flags & RK__CONFIG_RELOAD ? "yes" : "");
    for (const char *c = row->help; *c; c++) {
        if (*c == '|') {
            rk_buf_printf(out, ", ");
        } else {
            rk_buf_byte(out, (uint8_t)*c);
        }
    }
    rk_buf_printf(out, "%s |\n", row->flags & RK__CONFIG_NO_EFFECT ? " **No effect.**" : "");
}

void
rk_config_write_docs(rk_buf *out)
{
    rk_buf_str(
        out,
        RK_STR(
            "# Settings\n\n"
            "Written by `scripts/docs` from `src/base/config_table.h`; change that table.\n\n"
            "Settings are read from `milvus.yaml` (keys nested or with dots), then from the "
            "environment (`PROXY_PORT`, `COMMON_STORAGETYPE=local`, `ETCD_ENDPOINTS`: the key in "
            "upper case, dots as underscores), then from the command line (`--set key=value`). A "
            "later source wins. A key that is not known is a warning in the file (files come from "
            "elsewhere, and many keys of other servers mean nothing here), is passed over in the "
            "environment, and stops the start on the command line, with the nearest key that there "
            "is; a value that does not fit stops the start with a message that names file, line "
            "and "
            "what would be right. Sizes may carry a unit (`512MiB`, `8G`), times too (`500ms`, "
            "`30s`, `2h`); "
            "a bare "
            "number counts in the unit shown behind the type.\n\n"
            "\"No effect\" marks settings that are accepted, since configurations in the field "
            "carry them, and that nothing in this build reads; a start that changes one of them "
            "logs a warning with its name. \"Live\" marks settings that are meant to change while "
            "the server runs; this build has no request that does so, so a change takes a "
            "restart.\n\n"
            "| key | type | default | bounds | live | meaning |\n"
            "| --- | --- | --- | --- | --- | --- |\n"));
    for (int i = 0; i < (int)RK_CFG_COUNT; i++) {
        write_row(&rk__config_rows[i], out);
    }
}
