# SPDX-License-Identifier: Apache-2.0
"""
DISKANN and AISAQ through the client: recall, scores and filters against brute force on indexed segments, after a
restart, and with a page of the index file damaged on disk.
"""
import glob
import os
import struct
import time

import numpy as np
from pymilvus import DataType

import vectors
from helpers import check_error, count, create, hits_of, wait_indexed
from runner import LONG, case

D = DataType
ROWS = 20000 if LONG else 4000
DIM = 64


def filled(t, kind, vector_type, metric, client):
    """A collection of sealed, indexed rows, its keys and their values."""
    rng = np.random.default_rng(5)
    plane = rng.standard_normal((12, DIM)).astype(np.float32)  # rows near a plane, as embeddings are
    numbers = rng.standard_normal((ROWS, 12)).astype(np.float32) @ plane
    numbers += 0.1 * rng.standard_normal((ROWS, DIM)).astype(np.float32)
    if vector_type == D.FLOAT16_VECTOR:
        numbers = numbers.astype(np.float16)
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", vector_type, {"dim": DIM}), ("n", D.INT64, {})],
                  [("v", kind, metric, {"max_degree": 56, "search_list_size": 100})])
    for start in range(0, ROWS, 1000):
        client.insert(name, [{"id": i, "v": numbers[i], "n": i % 100} for i in range(start, start + 1000)])
    client.flush(name)
    wait_indexed(client, name, "v", ROWS)
    return name, numbers


def check(client, name, numbers, metric, what, floor=0.95, gone=()):
    queries = numbers[::ROWS // 20].astype(np.float64) + 0.05
    kept = np.array([i for i in range(ROWS) if i not in gone])
    for text, accepts in (("", None), ("n < 5", kept % 100 < 5), ("n == 7", kept % 100 == 7)):
        keys = kept if accepts is None else kept[accepts]
        values = numbers[keys].astype(np.float64)
        found = client.search(name, data=list(queries.astype(numbers.dtype)), filter=text, limit=10,
                              search_params={"params": {"search_list": 30, "beamwidth": 8}})
        right = 0
        for i, query in enumerate(queries):
            scores = vectors.scores(metric, query.astype(numbers.dtype).astype(np.float64), values)
            best = np.argsort(scores if metric == "L2" else -scores, kind="stable")[:10]
            hits = hits_of(found[i])
            assert len(hits) == 10, "%s: %d hits for '%s'" % (what, len(hits), text)
            right += len({k for k, _ in hits} & set(keys[best].tolist()))
            exact = dict(zip(keys.tolist(), scores.tolist()))
            for key, score in hits:  # scores are those of the vectors, not of codes
                assert abs(exact[key] - score) <= 1e-3 * max(1, abs(score)), (what, text, key, score, exact[key])
        assert right >= floor * 10 * len(queries), "%s '%s': recall %.3f" % (what, text, right / 10 / len(queries))


def disk(kind, vector_type, metric):
    def run(t):
        server = t.own_server()
        client = t.connect(server)
        t._clients.insert(0, client)
        name, numbers = filled(t, kind, vector_type, metric, client)
        assert client.describe_index(name, "v")["index_type"] == kind
        check(client, name, numbers, metric, "indexed")
        client.delete(name, ids=list(range(0, ROWS, 40)))
        gone = set(range(0, ROWS, 40))
        check(client, name, numbers, metric, "after deletes", gone=gone)
        check_error(lambda: client.search(name, data=[numbers[0]], limit=20, search_params={"params": {"search_list": 10}}),
                    "should be larger than k")
        server.restart(hard=True)
        client = t.connect(server)
        t._clients.insert(0, client)
        client.load_collection(name)
        assert count(client, name) == ROWS - len(gone)
        check(client, name, numbers, metric, "after kill -9", gone=gone)
    run.__name__ = "disk_%s_%s" % (kind.lower(), metric.lower())
    run.__module__ = __name__
    return case(run)


disk("DISKANN", D.FLOAT_VECTOR, "L2")
disk("DISKANN", D.FLOAT16_VECTOR, "COSINE")
disk("AISAQ", D.FLOAT_VECTOR, "IP")


def index_files(server, kind):
    found = []
    for path in glob.glob(os.path.join(server.data, "**"), recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                head = file.read(16)
            if head[:8] == b"RKINDEX1" and struct.unpack("<I", head[12:16])[0] == kind:
                found.append(path)
    return found


@case
def disk_damaged_page(t):
    """A page of the vectors that rots on disk is noticed when it is read; the answer comes from the column."""
    server = t.own_server()
    client = t.connect(server)
    t._clients.insert(0, client)
    name, numbers = filled(t, "DISKANN", D.FLOAT_VECTOR, "L2", client)
    files = index_files(server, 16)
    assert files, "no index file of kind 16 below %s" % server.data
    for path in files:
        with open(path, "r+b") as file:
            size = file.seek(0, 2)
            for page in range(1, 100):  # the vectors lie at the end
                file.seek(size - page * 4096 + 100)
                file.write(b"\xff")
    check(client, name, numbers, "L2", "with damaged pages")
    assert server.logged("event=index_damaged"), "the damage was not told"
    deadline = time.monotonic() + 240
    while not server.logged("event=index_built", times=len(files) * 2):
        assert time.monotonic() < deadline, "the damaged index was not built again"
        time.sleep(0.05)
    wait_indexed(client, name, "v", ROWS)
    check(client, name, numbers, "L2", "with the index built again")
    assert not set(files) & set(index_files(server, 16)), "the damaged files are still there"


@case
def large_index_damaged(t):
    """An index too large to be read through when it is opened is read later; a byte that rotted is found and it is built again."""
    rows, dim = 32000, 64
    server = t.own_server()
    client = t.connect(server)
    t._clients.insert(0, client)
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": dim})],
                  [("v", "HNSW", "L2", {"M": 128, "efConstruction": 60})])
    numbers = np.random.default_rng(6).standard_normal((rows, dim)).astype(np.float32)
    for start in range(0, rows, 2000):
        client.insert(name, [{"id": i, "v": numbers[i]} for i in range(start, start + 2000)])
    client.flush(name)
    wait_indexed(client, name, "v", rows)
    server.stop()
    large = [p for p in index_files(server, 3) if os.path.getsize(p) > 64 << 20]
    assert large, "no index of more than 64 MiB below %s" % server.data
    for path in large:
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    server.start()
    client = t.connect(server)
    t._clients.insert(0, client)
    deadline = time.monotonic() + 240
    while not server.logged("event=index_rebuild") or not server.logged("event=index_built"):
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.1)
    hits = client.search(name, data=[numbers[7]], limit=1)
    assert hits_of(hits[0])[0][0] == 7
