/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graph search benchmark, the peer: hnswlib called in its own process, compiled for this machine.
 * Same files and lines as ann.c.
 *
 *   ann_hnswlib build DATA IMAGE M EFC THREADS
 *   ann_hnswlib search DATA IMAGE EF...
 */
#include <atomic>
#include <cstring>
#include <hnswlib/hnswlib.h>
#include <thread>
#include <vector>

#include "ann_data.h"

static void
build(char **argv)
{
    ann_data d = ann_load(argv[0]);
    hnswlib::L2Space space(d.dim);
    int width = atoi(argv[4]);
    double start = ann_now();
    hnswlib::HierarchicalNSW<float> graph(&space, d.rows, (size_t)atoi(argv[2]),
                                          (size_t)atoi(argv[3]), 1);
    graph.addPoint(d.base, 0);
    std::atomic<uint32_t> next(1);
    std::vector<std::thread> threads;
    for (int t = 0; t < width; t++) {
        threads.emplace_back([&] {
            for (uint32_t i = next++; i < d.rows; i = next++) {
                graph.addPoint(d.base + (size_t)i * d.dim, i);
            }
        });
    }
    for (auto &t : threads) {
        t.join();
    }
    printf("hnswlib build %.1f s, %.0f rows/s\n", ann_now() - start, d.rows / (ann_now() - start));
    graph.saveIndex(argv[1]);
}

static void
search(char **argv, int efs)
{
    ann_data d = ann_load(argv[0]);
    hnswlib::L2Space space(d.dim);
    hnswlib::HierarchicalNSW<float> graph(&space, argv[1]);
    for (int e = -1; e < efs; e++) {
        graph.setEf((size_t)atoi(argv[2 + (e < 0 ? 0 : e)]));
        double recall = 0;
        uint32_t rounds = 0;
        double start = ann_cpu();
        for (; rounds < 1 || ann_cpu() - start < 1.0; rounds++) {
            recall = 0;
            for (uint32_t q = 0; q < d.queries; q++) {
                uint32_t found[64];
                auto result = graph.searchKnn(d.query + (size_t)q * d.dim, d.k);
                for (uint32_t i = 0; i < d.k; i++) {
                    found[i] = UINT32_MAX;
                    if (!result.empty()) {
                        found[i] = (uint32_t)result.top().second;
                        result.pop();
                    }
                }
                recall += ann_recall(&d, found, q);
            }
        }
        if (e >= 0) {
            printf("hnswlib %s %.4f %.0f\n", argv[2 + e], recall / d.queries,
                   rounds * d.queries / (ann_cpu() - start));
        }
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
