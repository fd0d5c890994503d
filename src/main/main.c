/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line.
 *
 *   redkite run standalone [--config FILE] [--data DIR] [--listen ADDR:PORT]
 *                          [--metrics ADDR:PORT|none] [--set KEY=VALUE] [--wiring near|far]
 *   redkite version
 *   redkite help
 */
#include <stdio.h>

#include "main/main_private.h"
#include "main/version.h"

static const char USAGE[] =
    "usage:\n"
    "  redkite run standalone [options]   start a server with every role in one process\n"
    "  redkite version                    print the version\n"
    "  redkite help                       print this\n"
    "\n"
    "options of run standalone:\n"
    "  --config FILE        settings in the form of milvus.yaml (docs/configuration.md)\n"
    "  --data DIR           data folder (default: ./data, or localStorage.path)\n"
    "  --listen ADDR:PORT   gRPC and REST (default 127.0.0.1:19530); port 0 picks a free one;\n"
    "                       unix:/PATH listens on a Unix socket\n"
    "  --metrics ADDR:PORT  health and metrics (default 127.0.0.1:9091); none switches them off\n"
    "  --set KEY=VALUE      one setting, over file and environment; may be repeated\n"
    "  --wiring near|far    far puts every role behind a loopback socket of its own (for tests)\n";

/* The value of option |name| at argv[*i], as "--name VALUE" or "--name=VALUE"; NULL when it is
 * another option. */
static const char *
option_value(int argc, char **argv, int *i, const char *name, bool *bad)
{
    size_t len = strlen(name);

    if (strncmp(argv[*i], name, len) != 0) {
        return NULL;
    }
    if (argv[*i][len] == '=') {
        return argv[*i] + len + 1;
    }
    if (argv[*i][len] != '\0') {
        return NULL;
    }
    if (*i + 1 >= argc) {
        fprintf(stderr, "redkite: option %s needs a value\n", name);
        *bad = true;
        return NULL;
    }
    return argv[++*i];
}

static bool
parse_run(int argc, char **argv, rk_run_options *out)
{
    bool bad = false;

    for (int i = 3; i < argc && !bad; i++) {
        const char *value;
        if ((value = option_value(argc, argv, &i, "--config", &bad))) {
            out->config_path = value;
        } else if (!bad && (value = option_value(argc, argv, &i, "--data", &bad))) {
            out->data_path = value;
        } else if (!bad && (value = option_value(argc, argv, &i, "--listen", &bad))) {
            out->listen = value;
        } else if (!bad && (value = option_value(argc, argv, &i, "--metrics", &bad))) {
            out->metrics = value;
        } else if (!bad && (value = option_value(argc, argv, &i, "--set", &bad))) {
            bad = out->sets_len == RK_SETS_MAX;
            if (!bad) {
                out->sets[out->sets_len++] = value;
            }
        } else if (!bad && (value = option_value(argc, argv, &i, "--wiring", &bad))) {
            out->far = strcmp(value, "far") == 0;
            bad = !out->far && strcmp(value, "near") != 0;
            if (bad) {
                fprintf(stderr, "redkite: --wiring is near or far, not %s\n", value);
            }
        } else if (!bad) {
            fprintf(stderr, "redkite: unknown option %s; see redkite help\n", argv[i]);
            bad = true;
        }
    }
    return !bad;
}

int
main(int argc, char **argv)
{
    rk_run_options options = {0};

    if (argc >= 2 && (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)) {
        printf("redkite %s\n", RK_VERSION);
        return 0;
    }
    if (argc >= 2 && (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
                      strcmp(argv[1], "-h") == 0)) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (argc < 3 || strcmp(argv[1], "run") != 0) {
        fputs(USAGE, stderr);
        return 2;
    }
    if (strcmp(argv[2], "standalone") != 0) {
        fprintf(stderr, "redkite: there is no role %s in this build; try: redkite run standalone\n",
                argv[2]);
        return 2;
    }
    return parse_run(argc, argv, &options) ? rk_run_standalone(&options) : 2;
}
