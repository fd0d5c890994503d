# SPDX-License-Identifier: Apache-2.0
"""
Search against brute force in numpy: every vector type and metric, with filters, deletions and upserts, on growing and
sealed rows, after a restart and while segments are merged. Graph and list indexes have a floor of recall.
"""
import time
import zlib

import numpy as np
from pymilvus import DataType
from pymilvus.exceptions import MilvusException

import vectors
from helpers import count, create, hits_of, wait_indexed
from redkite_server import wait_until
from runner import LONG, case

D = DataType
HNSW = {"M": 16, "efConstruction": 200}
DIMS = {D.FLOAT_VECTOR: 17, D.FLOAT16_VECTOR: 24, D.BFLOAT16_VECTOR: 31, D.INT8_VECTOR: 40, D.BINARY_VECTOR: 72,
        D.SPARSE_FLOAT_VECTOR: 60}
EXACT_INDEX = {D.BINARY_VECTOR: "BIN_FLAT", D.SPARSE_FLOAT_VECTOR: "SPARSE_INVERTED_INDEX"}
NAMES = {D.FLOAT_VECTOR: "float", D.FLOAT16_VECTOR: "float16", D.BFLOAT16_VECTOR: "bfloat16", D.INT8_VECTOR: "int8",
         D.BINARY_VECTOR: "binary", D.SPARSE_FLOAT_VECTOR: "sparse"}
FILTERS = [("", lambda n: True), ("n < 3", lambda n: n < 3), ("n in [5, 50]", lambda n: n == 5),
           ("n > 1000", lambda n: False), ("n % 2 == 0 and not (n == 4)", lambda n: n % 2 == 0 and n != 4)]


class Model:
    """What the collection must hold: key -> (vector values, n)."""

    def __init__(self, t, kind, metric, client=None):
        self.client = client or t.client
        self.kind, self.metric, self.dim = kind, metric, DIMS[kind]
        self.rng = np.random.default_rng(zlib.crc32(b"%d %s" % (int(kind), metric.encode())))
        self.rows = {}
        self.name = create(t, [("id", D.INT64, {"is_primary": True}),
                               ("v", kind, {} if kind == D.SPARSE_FLOAT_VECTOR else {"dim": self.dim}),
                               ("n", D.INT64, {})], [("v", EXACT_INDEX.get(kind, "FLAT"), metric, {})])

    def write(self, keys, upsert=False):
        data = vectors.make(self.kind, len(keys), self.dim, self.rng)
        rows = [{"id": k, "v": data.sent[i], "n": k % 10} for i, k in enumerate(keys)]
        (self.client.upsert if upsert else self.client.insert)(self.name, rows)
        for i, k in enumerate(keys):
            self.rows[k] = (data.values[i], k % 10)

    def delete(self, keys):
        self.client.delete(self.name, ids=keys)
        for k in keys:
            self.rows.pop(k, None)

    def check(self, what, queries=3):
        sent = vectors.make(self.kind, queries, self.dim, self.rng)
        for text, accepts in FILTERS:
            keys = [k for k, (_, n) in self.rows.items() if accepts(n)]
            values = np.array([self.rows[k][0] for k in keys]) if keys else np.zeros((0, self.dim))
            for limit in (1, 12, 500):
                found = self.client.search(self.name, data=sent.sent, filter=text, limit=limit)
                for i in range(queries):
                    vectors.check_exact(hits_of(found[i]), self.metric, self.kind, sent.values[i], keys, values, limit,
                                        what="%s %s, filter '%s', limit %d" % (what, self.metric, text, limit))


def exact(kind):
    def run(t):
        for metric in vectors.METRICS[kind]:
            m = Model(t, kind, metric)
            m.write(list(range(120)))
            m.check("growing")
            t.client.flush(m.name)
            m.check("sealed")
            m.write(list(range(120, 200)))
            m.check("growing and sealed")
            m.delete(list(range(0, 200, 7)))
            m.check("after deletes")
            m.write(list(range(60, 150, 4)), upsert=True)
            m.write([3, 14], upsert=True)
            m.check("after upserts")
            t.client.flush(m.name)
            m.check("all sealed")
            t.client.release_collection(m.name)
            t.client.load_collection(m.name)
            m.check("loaded again")
            assert count(t.client, m.name) == len(m.rows)
    run.__name__ = "exact_" + NAMES[kind]
    run.__module__ = __name__
    return case(run)


for kind_ in DIMS:
    exact(kind_)


@case
def exact_after_restart_and_compaction(t):
    server = t.own_server()
    client = t.connect(server)
    models = [Model(t, kind, vectors.METRICS[kind][0], client=client) for kind in DIMS]
    for round_ in range(4):  # small segments, to be merged
        for m in models:
            m.write(list(range(round_ * 40, round_ * 40 + 40)))
            m.delete(list(range(round_ * 40, round_ * 40 + 40, 5)))
            client.flush(m.name)
    end = time.monotonic() + (6 if LONG else 2.5)
    while time.monotonic() < end:
        for m in models:
            m.check("while merging", queries=1)
    wait_until(lambda: server.logged("event=compacted"), what="a merge of segments")
    for hard in (False, True):
        for m in models:
            m.write(list(range(1000, 1030)), upsert=True)
            m.delete([1000, 1001, 7])
        server.restart(hard=hard)
        client = t.connect(server)
        for m in models:
            m.client = client
            client.load_collection(m.name)
            m.check("after %s" % ("kill -9" if hard else "restart"), queries=1)


@case
def ties_come_in_key_order(t):
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.BINARY_VECTOR, {"dim": 8})],
                  [("v", "BIN_FLAT", "HAMMING", {})])
    keys = list(np.random.default_rng(8).permutation(100))
    t.client.insert(name, [{"id": int(k), "v": bytes([1])} for k in keys[:50]])
    t.client.flush(name)
    t.client.insert(name, [{"id": int(k), "v": bytes([1])} for k in keys[50:]])
    found = hits_of(t.client.search(name, data=[bytes([3])], limit=100)[0])
    assert found == [(k, 1.0) for k in range(100)], found
    text = create(t, [("id", D.VARCHAR, {"is_primary": True, "max_length": 9}), ("v", D.FLOAT_VECTOR, {"dim": 2})],
                  [("v", "FLAT", "L2", {})])
    names = ["b", "a", "aa", "\u00e9", "B", "10", "9", ""]
    t.client.insert(text, [{"id": k, "v": [1, 1]} for k in names[:4]])
    t.client.flush(text)
    t.client.insert(text, [{"id": k, "v": [1, 1]} for k in names[4:]])
    found = [k for k, _ in hits_of(t.client.search(text, data=[[0, 0]], limit=10)[0])]
    assert found == sorted(names, key=lambda k: k.encode()), found


@case
def substructure_and_superstructure(t):
    rng = np.random.default_rng(9)
    rows = [bytes(rng.integers(0, 256, 2, dtype=np.uint8)) for _ in range(200)]
    rows += [bytes([0x81, 0x10]), bytes([0x01, 0]), bytes([0xff, 0xff])]
    bits = np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 2), axis=1)
    query = np.unpackbits(np.frombuffer(bytes([0x81, 0x10]), np.uint8))
    for metric, matches in (("SUBSTRUCTURE", (bits >= query).all(axis=1)), ("SUPERSTRUCTURE", (bits <= query).all(axis=1))):
        try:
            name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.BINARY_VECTOR, {"dim": 16})],
                          [("v", "BIN_FLAT", metric, {})])
        except MilvusException as error:  # a build without these metrics says so
            assert "binary vector index does not support metric type: " + metric in str(error), error
            continue
        t.client.insert(name, [{"id": i, "v": v} for i, v in enumerate(rows[:100])])
        t.client.flush(name)
        t.client.insert(name, [{"id": 100 + i, "v": v} for i, v in enumerate(rows[100:])])
        got = sorted(k for k, _ in hits_of(t.client.search(name, data=[bytes([0x81, 0x10])], limit=210)[0]))
        assert got == np.flatnonzero(matches).tolist(), (metric, got)


@case
def zero_and_extreme_values(t):
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.INT8_VECTOR, {"dim": 4})],
                  [("v", "FLAT", "L2", {})])
    rows = np.array([[127, 127, 127, 127], [-128, -128, -128, -128], [0, 0, 0, 0], [127, -128, 127, -128]], np.int8)
    t.client.insert(name, [{"id": i, "v": rows[i]} for i in range(4)])
    for _ in range(2):
        found = hits_of(t.client.search(name, data=[rows[1]], limit=4)[0])
        assert found == [(1, 0.0), (2, 65536.0), (3, 130050.0), (0, 260100.0)], found
        t.client.flush(name)


def recall_case(index, kind, metric, build, search, floor):
    def run(t):
        n, dim = (20000, 48) if LONG else (4000, 32)
        if kind == D.BINARY_VECTOR:
            dim = 256
        name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", kind, {"dim": dim}), ("n", D.INT64, {})],
                      [("v", index, metric, build)])
        rng = np.random.default_rng(21)
        data = vectors.make(kind, n, dim, rng)
        for a in range(0, n, 2000):
            t.client.insert(name, [{"id": i, "v": data.sent[i], "n": i % 10} for i in range(a, a + 2000)])
        t.client.flush(name)
        wait_indexed(t.client, name, "v", n)
        queries = vectors.make(kind, 120, dim, rng)
        for text, keep in (("", lambda i: True), ("n < 5", lambda i: i % 10 < 5), ("n == 3", lambda i: i % 10 == 3)):
            keys = [i for i in range(n) if keep(i)]
            found = t.client.search(name, data=queries.sent, filter=text, limit=10, search_params={"params": search})
            total = 0.0
            for i, one in enumerate(found):
                assert len(one) == 10, "%s: %d hits" % (text, len(one))
                got = [k for k, _ in hits_of(one)]
                assert set(got) <= set(keys), "a row that the filter leaves out was found"
                total += vectors.recall(got, metric, queries.values[i], keys, data.values[keys], 10)
                for key, score in hits_of(one):
                    want = vectors.scores(metric, queries.values[i], data.values[key:key + 1])[0]
                    assert abs(score - want) <= 1e-3 * max(1, abs(want)), (key, score, want)
            assert total / len(found) >= floor, "%s %s %s filter '%s': recall %.3f" % (index, NAMES[kind], metric, text, total / len(found))
    run.__name__ = "recall_%s_%s_%s" % (index.lower(), NAMES[kind], metric.lower())
    run.__module__ = __name__
    return case(run)


@case
def growing_rows_are_found_at_once(t):
    """More rows than a chunk of a growing segment holds, no flush: searched right after each insert, by codes after a few."""
    dim, step = 64, 1500
    rng = np.random.default_rng(31)
    data = vectors.make(D.FLOAT_VECTOR, 3 * step, dim, rng)
    queries = vectors.make(D.FLOAT_VECTOR, 20, dim, rng)
    for index, metric in (("HNSW", "L2"), ("AUTOINDEX", "COSINE"), ("HNSW", "IP"), ("FLAT", "L2")):
        name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": dim}), ("n", D.INT64, {})],
                      [("v", index, metric, HNSW if index == "HNSW" else {})])
        floor = 1.0 if index == "FLAT" else 0.99
        gone = set()
        for round_ in range(3):
            new = range(round_ * step, (round_ + 1) * step)
            t.client.insert(name, [{"id": i, "v": data.sent[i], "n": i % 10} for i in new])
            t.client.delete(name, ids=list(new)[::9])
            gone.update(list(new)[::9])
            for text, keep in (("", lambda i: True), ("n < 5", lambda i: i % 10 < 5), ("n == 3 and id > 900",
                                                                                     lambda i: i % 10 == 3 and i > 900)):
                keys = [i for i in range(new.stop) if i not in gone and keep(i)]
                for limit in (1, 10, 300):
                    found = t.client.search(name, data=queries.sent, filter=text, limit=limit,
                                            search_params={"params": {"ef": 700}})
                    total = 0.0
                    for i, one in enumerate(found):
                        hits = hits_of(one)
                        assert len(hits) == min(limit, len(keys)), (index, metric, text, limit, len(hits))
                        assert {k for k, _ in hits} <= set(keys), "a row that may not be found was"
                        total += vectors.recall([k for k, _ in hits], metric, queries.values[i], keys, data.values[keys], limit)
                        for key, score in hits[:20]:
                            want = vectors.scores(metric, queries.values[i], data.values[key:key + 1])[0]
                            assert abs(score - want) <= 1e-4 * max(1, abs(want)), (key, score, want)
                    # one of 20 may miss its nearest
                    least = floor - 0.04 * (limit == 1 and index != "FLAT")
                    assert total / 20 >= least, "%s %s round %d, filter '%s', limit %d: recall %.4f" % (
                        index, metric, round_, text, limit, total / 20)


recall_case("HNSW", D.FLOAT_VECTOR, "L2", HNSW, {"ef": 200}, 0.95)
recall_case("HNSW", D.FLOAT_VECTOR, "COSINE", HNSW, {"ef": 200}, 0.95)
recall_case("HNSW", D.INT8_VECTOR, "IP", HNSW, {"ef": 200}, 0.95)
recall_case("HNSW", D.FLOAT16_VECTOR, "L2", HNSW, {"ef": 200}, 0.95)
recall_case("AUTOINDEX", D.BFLOAT16_VECTOR, "COSINE", {}, {"ef": 200}, 0.95)
recall_case("IVF_FLAT", D.FLOAT_VECTOR, "L2", {"nlist": 64}, {"nprobe": 64}, 0.999)
recall_case("IVF_FLAT", D.FLOAT_VECTOR, "IP", {"nlist": 64}, {"nprobe": 32}, 0.9)
recall_case("BIN_IVF_FLAT", D.BINARY_VECTOR, "HAMMING", {"nlist": 32}, {"nprobe": 32}, 0.999)
