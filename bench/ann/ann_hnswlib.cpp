/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector index benchmark, the first peer: hnswlib called in its own process, compiled for this
 * machine. Same files and lines as ann.c; a setting is "ef=N" or the number alone.
 *
 *   ann_hnswlib build DATA IMAGE M EFC THREADS
 *   ann_hnswlib search DATA IMAGE SETTING...
 */
#include <atomic>
#include <cstring>
#include <hnswlib/hnswlib.h>
#include <thread>
#include <vector>

#include "ann_data.h"

static size_t
number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*end != '\0' || value == 0) {
        ann_die("a number above 0 is wanted");
    }
    return value;
}

static void
build(char **argv)
{
    ann_data d = ann_load(argv[0]);
    hnswlib::L2Space space(d.dim);
    size_t width = number(argv[4]);
    double start = ann_now();
    double cpu = ann_cpu();
    hnswlib::HierarchicalNSW<float> graph(&space, d.rows, number(argv[2]), number(argv[3]), 1);
    graph.addPoint(d.base, 0);
    std::atomic<uint32_t> next(1);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < width; t++) {
        threads.emplace_back([&] {
            for (uint32_t i = next++; i < d.rows; i = next++) {
                graph.addPoint(d.base + (size_t)i * d.dim, i);
            }
        });
    }
    for (auto &t : threads) {
        t.join();
    }
    double wall = ann_now() - start;
    cpu = ann_cpu() - cpu;
    graph.saveIndex(argv[1]);
    FILE *file = fopen(argv[1], "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        ann_die("cannot write the index");
    }
    printf("build hnswlib %.2f %.2f %.0f %.1f 0\n", wall, cpu, d.rows / wall,
           (double)ftell(file) / d.rows);
    fclose(file);
}

static void
search_one(hnswlib::HierarchicalNSW<float> &graph, const ann_data *d, uint32_t q, uint32_t *found)
{
    auto result = graph.searchKnn(d->query + (size_t)q * d->dim, d->k);

    for (uint32_t i = 0; i < d->k; i++) {
        found[i] = UINT32_MAX;
        if (!result.empty()) {
            found[i] = (uint32_t)result.top().second;
            result.pop();
        }
    }
}

static void
search(char **argv, int settings)
{
    ann_data d = ann_load(argv[0]);
    hnswlib::L2Space space(d.dim);
    hnswlib::HierarchicalNSW<float> graph(&space, argv[1]);
    std::vector<uint32_t> found(d.k);
    double recall = 0;

    for (int s = 0; s < settings && recall < 0.995 * d.queries; s++) {
        const char *text = argv[2 + s];
        graph.setEf(number(strncmp(text, "ef=", 3) == 0 ? text + 3 : text));
        recall = 0;
        for (uint32_t q = 0; q < d.queries; q++) { /* warms up, too */
            search_one(graph, &d, q, found.data());
            recall += ann_recall(&d, found.data(), q);
        }
        uint32_t rounds = 0;
        double seconds = ann_seconds();
        double start = ann_cpu();
        do {
            for (uint32_t q = 0; q < d.queries; q++) {
                search_one(graph, &d, q, found.data());
            }
            rounds++;
        } while (ann_cpu() - start < seconds);
        printf("hnswlib %s %.4f %.0f\n", text, recall / d.queries,
               rounds * d.queries / (ann_cpu() - start));
        fflush(stdout);
    }
}

int
main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "build") == 0) {
        build(argv + 2);
    } else if (argc > 4 && strcmp(argv[1], "search") == 0) {
        search(argv + 2, argc - 4);
    } else {
        ann_die("see the head of ann_hnswlib.cpp for usage");
    }
    return 0;
}
