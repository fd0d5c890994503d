/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over stored inputs without libFuzzer: each file of the folder given, in any
 * order. Every CI run replays the corpora this way, so an input that once broke a parser stays a
 * test.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        return 0;
    }
    uint8_t *data = malloc(1u << 20);
    size_t size = data ? fread(data, 1, 1u << 20, file) : 0;
    fclose(file);
    if (!data) {
        return 0;
    }
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

int
main(int argc, char **argv)
{
    int files = 0;
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        char path[4096];
        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name) >= (int)sizeof(path)) {
            continue;
        }
        files += replay_file(path);
    }
    if (dir) {
        closedir(dir);
    }
    printf("replayed %d inputs\n", files);
    return files > 0 ? 0 : 1;
}
