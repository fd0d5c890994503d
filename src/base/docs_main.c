/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program rk_docs: writes docs/configuration.md from the table of settings, or with --check
 * compares it with the file and tells whether that is current. Used by scripts/docs and by a test.
 */
#include <stdio.h>

#include "base/config.h"

static int
write_file(const char *path, const rk_buf *text)
{
    FILE *file = fopen(path, "w");

    if (!file) {
        perror(path);
        return 1;
    }
    bool ok = fwrite(text->data, 1, text->len, file) == text->len;
    ok = fclose(file) == 0 && ok;
    if (!ok) {
        fprintf(stderr, "%s: could not be written\n", path);
    }
    return ok ? 0 : 1;
}

static int
check_file(const char *path, const rk_buf *text)
{
    FILE *file = fopen(path, "r");
    size_t at = 0;
    int c;

    if (!file) {
        perror(path);
        return 1;
    }
    while ((c = fgetc(file)) != EOF && at < text->len && text->data[at] == (uint8_t)c) {
        at++;
    }
    fclose(file);
    if (c != EOF || at != text->len) {
        fprintf(stderr, "%s is not what the table of settings says: run scripts/docs\n", path);
        return 1;
    }
    return 0;
}

int
main(int argc, char **argv)
{
    bool check = argc == 3 && strcmp(argv[1], "--check") == 0;
    rk_buf text = {0};

    if (argc != 2 && !check) {
        fprintf(stderr, "usage: rk_docs [--check] FILE\n");
        return 2;
    }
    rk_config_write_docs(&text);
    int status = text.failed ? 1 : check ? check_file(argv[2], &text) : write_file(argv[1], &text);
    rk_buf_deinit(&text);
    return status;
}
