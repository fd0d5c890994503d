# SPDX-License-Identifier: Apache-2.0
"""
Every index kind of the API through the client: created with its parameters, described, searched with its search
parameters on indexed segments, and the messages to wrong ones.
"""
import ml_dtypes
import numpy as np
from pymilvus import DataType
from pymilvus.exceptions import MilvusException

import vectors
from helpers import check_error, create, hits_of, index_of, schema_of, wait_indexed
from redkite_server import wait_until
from runner import case

D = DataType
ROWS, DIM, QUERIES = 3000, 32, 20
KEY = ("id", D.INT64, {"is_primary": True})
TAIL = ": invalid parameter[expected=valid index params][actual=invalid index params]"
GRAPH = {"M": 12, "efConstruction": 100}

# kind, vector type, metric, build parameters, search parameters, floor of recall@10
KINDS = [
    ("FLAT", D.FLOAT_VECTOR, "L2", {}, {}, 1),
    ("FLAT", D.FLOAT16_VECTOR, "COSINE", {}, {}, 1),
    ("BIN_FLAT", D.BINARY_VECTOR, "HAMMING", {}, {}, 1),
    ("BIN_IVF_FLAT", D.BINARY_VECTOR, "JACCARD", {"nlist": 32}, {"nprobe": 16}, 0.7),
    ("IVF_FLAT", D.FLOAT_VECTOR, "L2", {"nlist": 32}, {"nprobe": 16}, 0.9),
    ("IVF_SQ8", D.FLOAT_VECTOR, "COSINE", {"nlist": 32}, {"nprobe": 16}, 0.9),
    ("IVF_SQ8", D.FLOAT_VECTOR, "L2", {"nlist": 32, "sq_type": "SQ4", "refine": True, "refine_type": "FP16"},
     {"nprobe": 16, "refine_k": 4}, 0.9),
    ("IVF_SQ8", D.BFLOAT16_VECTOR, "IP", {"nlist": 32, "sq_type": "SQ6"}, {"nprobe": 24}, 0.8),
    ("IVF_PQ", D.FLOAT_VECTOR, "L2", {"nlist": 32, "m": 16}, {"nprobe": 16}, 0.8),
    ("IVF_PQ", D.FLOAT16_VECTOR, "COSINE", {"nlist": 32, "m": 8, "nbits": 4, "refine": True, "refine_type": "SQ8"},
     {"nprobe": 16, "refine_k": 10}, 0.8),
    ("SCANN", D.FLOAT_VECTOR, "IP", {"nlist": 32, "with_raw_data": True}, {"nprobe": 24, "reorder_k": 100}, 0.8),
    ("SCANN", D.FLOAT_VECTOR, "L2", {"nlist": 32, "sub_dim": 4, "with_raw_data": False}, {"nprobe": 16}, 0.5),
    ("HNSW", D.FLOAT_VECTOR, "L2", GRAPH, {"ef": 100}, 0.95),
    ("HNSW", D.BINARY_VECTOR, "HAMMING", GRAPH, {"ef": 100}, 0.8),
    ("HNSW_SQ", D.FLOAT_VECTOR, "L2", {**GRAPH, "sq_type": "SQ6"}, {"ef": 100}, 0.95),
    ("HNSW_SQ", D.INT8_VECTOR, "COSINE", {**GRAPH, "sq_type": "sq4u", "refine": True, "refine_type": "SQ8"},
     {"ef": 100, "refine_k": 4}, 0.9),
    ("HNSW_PQ", D.FLOAT_VECTOR, "COSINE", {**GRAPH, "m": 16, "nbits": 8}, {"ef": 100}, 0.8),
    ("HNSW_PRQ", D.FLOAT_VECTOR, "L2", {**GRAPH, "m": 4, "nrq": 4, "refine": True, "refine_type": "FP32"},
     {"ef": 100, "refine_k": 3}, 0.9),
]


def make(kind, rng):
    """Rows near a plane, as embeddings are, in the form that the client sends and as numbers."""
    if kind == D.BINARY_VECTOR:
        data = vectors.make(kind, ROWS, DIM, rng)
        return data.sent, data.values
    plane = rng.standard_normal((8, DIM))
    numbers = rng.standard_normal((ROWS, 8)) @ plane + 0.1 * rng.standard_normal((ROWS, DIM))
    if kind == D.INT8_VECTOR:
        sent = np.clip(numbers * 12, -128, 127).astype(np.int8)
        return list(sent), sent.astype(np.float64)
    if kind == D.BFLOAT16_VECTOR:
        sent = numbers.astype(ml_dtypes.bfloat16)
        return list(sent), sent.astype(np.float64)
    sent = numbers.astype(np.float16 if kind == D.FLOAT16_VECTOR else np.float32)
    return list(sent), sent.astype(np.float64)


def check_kind(t, kind, vector_type, metric, build, search, floor):
    c = t.client
    what = "%s %s %s %s" % (kind, vector_type.name, metric, build)
    sent, values = make(vector_type, np.random.default_rng(21))
    name = create(t, [KEY, ("v", vector_type, {"dim": DIM}), ("n", D.INT32, {})],
                  [("v", kind, metric, {**build, "mmap.enabled": True})])
    for start in range(0, ROWS, 1000):
        c.insert(name, [{"id": i, "v": sent[i], "n": i % 10} for i in range(start, start + 1000)])
    c.flush(name)
    wait_indexed(c, name, "v", ROWS)
    described = c.describe_index(name, "v")
    assert described["index_type"] == kind and described["metric_type"] == metric, described
    for key, value in build.items():
        assert str(described[key]) == str(value), (what, key, described)
    picks = list(range(0, ROWS, ROWS // QUERIES))
    keys = np.arange(ROWS)
    larger = vectors.LARGER_IS_NEARER[metric]
    for text, accepts in (("", keys >= 0), ("n < 6", keys % 10 < 6), ("n == 3", keys % 10 == 3)):
        found = c.search(name, data=[sent[i] for i in picks], filter=text, limit=10,
                         search_params={"params": search})
        right = 0
        for hits, pick in zip(found, picks):
            exact = vectors.scores(metric, values[pick], values)
            hits = hits_of(hits)
            assert len(hits) == 10, "%s '%s': %d hits" % (what, text, len(hits))
            worst = np.sort(-exact[accepts] if larger else exact[accepts])[9]
            for key, score in hits:
                assert accepts[key], (what, text, key)
                assert abs(exact[key] - score) <= 2e-3 * max(1, abs(score)), (what, text, key, score, exact[key])
                right += (-exact[key] if larger else exact[key]) <= worst + 1e-3 * abs(worst)
        assert right >= floor * 10 * len(picks), "%s '%s': recall %.3f" % (what, text, right / 10 / len(picks))


def register():
    for row in KINDS:
        def run(t, row=row):
            check_kind(t, *row)
        run.__name__ = "%s_%s_%s_%d" % (row[0], row[1].name, row[2], KINDS.index(row))
        run.__module__ = __name__
        case(run)


register()


@case
def build_parameters(t):
    c, name = t.client, t.name()
    c.create_collection(name, schema=schema_of([KEY, ("v", D.FLOAT_VECTOR, {"dim": 32}), ("b", D.BINARY_VECTOR, {"dim": 64}),
                                                ("i", D.INT8_VECTOR, {"dim": 32}), ("s", D.SPARSE_FLOAT_VECTOR, {})]))

    def refused(field, kind, metric, params, *texts, code=1100):
        check_error(lambda: c.create_index(name, index_of([(field, kind, metric, params)])), *texts, code=code)
    for kind in ("GPU_CAGRA", "GPU_IVF_PQ", "GPU_BRUTE_FORCE", "HNSW_RABITQ"):
        refused("v", kind, "L2", {}, "invalid index type: " + kind)
    refused("v", "GPU_CAGRA", "L2", {}, "built without GPU")
    refused("v", "IVF_PQ", "L2", {"nlist": 16}, "param 'm' not exist in json" + TAIL)
    refused("v", "IVF_PQ", "L2", {"m": 7}, "should be a multiple of the number of subquantizers (m). Dimension: 32, m: 7" + TAIL)
    refused("v", "IVF_PQ", "L2", {"m": 16, "nbits": 25}, "Out of range in json: param 'nbits' (25) should be in range [1, 24]")
    refused("v", "IVF_PQ", "L2", {"m": "16.0"}, "wrong data type in json, key: 'm', value: '16.0'")
    refused("v", "IVF_SQ8", "L2", {"sq_type": "SQ9"}, "invalid sq_type : SQ9, optional types are [sq4, sq6, sq8]")
    refused("v", "IVF_SQ8", "L2", {"refine": "1"}, "Type conflict in json: param 'refine' (\"1\") should be a boolean")
    refused("v", "SCANN", "L2", {"sub_dim": 5}, "should be a multiple of sub_dim. Dimension:32, sub_dim:5")
    refused("v", "SCANN", "L2", {"with_raw_data": "maybe"}, "param 'with_raw_data' (\"maybe\") should be a boolean")
    refused("v", "HNSW", "L2", {**GRAPH, "refine": True}, "refine is not supported for this index")
    refused("v", "HNSW_SQ", "L2", {**GRAPH, "sq_type": "fp32"}, "invalid scalar quantizer type" + TAIL)
    refused("v", "HNSW_SQ", "L2", {**GRAPH, "refine_type": "pq"},
            "invalid refine type : pq, optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]")
    refused("v", "HNSW_PQ", "L2", {**GRAPH, "m": 5}, "The dimension of the vector (dim) should be a multiple")
    refused("v", "HNSW_PRQ", "L2", {**GRAPH, "nrq": 17}, "param 'nrq' (17) should be in range [1, 16]")
    refused("v", "HNSW_PRQ", "L2", {**GRAPH, "M": True}, "invalid integer value, key: 'M', value: 'True'")
    refused("i", "IVF_PQ", "L2", {"m": 16}, "data type Int8Vector can't build with this index IVF_PQ")
    refused("i", "SCANN", "L2", {}, "data type Int8Vector can't build with this index SCANN")
    refused("b", "HNSW_SQ", "HAMMING", GRAPH, "data type BinaryVector can't build with this index HNSW_SQ")
    refused("b", "BIN_IVF_FLAT", "SUBSTRUCTURE", {"nlist": 8},
            "metric type SUBSTRUCTURE not found or not supported, supported: [HAMMING JACCARD]")
    refused("s", "SPARSE_WAND", "IP", {"inverted_index_algo": "DSP"}, "sparse inverted index algo DSP not found or not supported")
    refused("v", "HNSW", "L2", {**GRAPH, "mmap.enabled": "on"}, "invalid mmap.enabled value: on, expected: true, false")
    refused("v", "DISKANN", "L2", {"mmap.enabled": True}, "index type DISKANN does not support mmap")
    refused("v", "HNSW", "L2", {**GRAPH, "warmup": "now"}, "invalid warmup policy: now, must be 'disable', 'sync' or 'async'")
    assert c.list_indexes(name) == []


def is_refused(client, name, row, search):
    """Parameters are judged where an index is searched, which is a moment after it was built."""
    try:
        client.search(name, data=[row], limit=10, search_params={"params": search})
        return False
    except MilvusException:
        return True


@case
def search_parameters(t):
    wrong = [
        ("HNSW", GRAPH, {"ef": 9}, "ef(9) should be larger than k(10)"),
        ("HNSW_SQ", GRAPH, {"ef": 9}, "ef(9) should be larger than k(10)"),
        ("HNSW_SQ", GRAPH, {"ef": 10, "refine_k": 0.5}, "param 'refine_k' (0.5) should be in range [1.000000, 3402823"),
        ("HNSW_PQ", {**GRAPH, "m": 8}, {"ef": 32.0}, "Type conflict in json: param 'ef' (32.0) should be integer"),
        ("HNSW_PRQ", {**GRAPH, "m": 8}, {"ef": True}, "(true) should be integer"),
        ("SCANN", {"nlist": 8}, {"reorder_k": 9}, "reorder_k(9) should be larger than k(10)"),
        ("IVF_PQ", {"nlist": 8, "m": 8}, {"nprobe": 0}, "Out of range in json: param 'nprobe' (0) should be in range [1, 65536]"),
        ("IVF_SQ8", {"nlist": 8}, {"refine_k": "x"}, "param 'refine_k' (x) should be a number"),
    ]
    c = t.client
    rng = np.random.default_rng(4)
    for kind, build, search, text in wrong:
        name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": 16})], [("v", kind, "L2", build)])
        rows = rng.standard_normal((1100, 16)).astype(np.float32)
        c.insert(name, [{"id": i, "v": rows[i]} for i in range(len(rows))])
        assert len(c.search(name, data=[rows[0]], limit=10, search_params={"params": search})[0]) == 10  # not indexed yet
        c.flush(name)
        wait_indexed(c, name, "v", len(rows))
        wait_until(lambda: is_refused(c, name, rows[0], search), what="a search by the index %s" % kind)
        check_error(lambda: c.search(name, data=[rows[0]], limit=10, search_params={"params": search}), text)
        assert hits_of(c.search(name, data=[rows[7]], limit=1)[0])[0][0] == 7


@case
def structures(t):
    """SUBSTRUCTURE and SUPERSTRUCTURE: matching rows alone, first ones first."""
    c = t.client
    for metric in ("SUBSTRUCTURE", "SUPERSTRUCTURE"):
        name = create(t, [KEY, ("v", D.BINARY_VECTOR, {"dim": 16})], [("v", "BIN_FLAT", metric, {})])
        rows = [b"\x00\x00", b"\x0f\x00", b"\x03\x00", b"\xff\xff", b"\x10\x00"]
        c.insert(name, [{"id": i, "v": row} for i, row in enumerate(rows)])
        want = [1, 3] if metric == "SUBSTRUCTURE" else [0, 1, 2]  # those that contain the query, or lie in it
        for _ in range(2):
            found = hits_of(c.search(name, data=[b"\x0f\x00"], limit=5)[0])
            assert found == [(k, 0.0) for k in want], (metric, found)
            c.flush(name)
        check_error(lambda: c.search(name, data=[b"\x0f\x00"], limit=5, search_params={"params": {"radius": 1}}),
                    "range search is not supported with metric type " + metric)


@case
def ranges_and_iterators_on_codes(t):
    c = t.client
    rng = np.random.default_rng(6)
    numbers = (rng.standard_normal((ROWS, 6)) @ rng.standard_normal((6, DIM))).astype(np.float32)
    for kind, build in (("IVF_SQ8", {"nlist": 16}), ("IVF_PQ", {"nlist": 16, "m": 16}), ("SCANN", {"nlist": 16}),
                        ("HNSW_SQ", GRAPH), ("HNSW_PQ", {**GRAPH, "m": 16})):
        name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": DIM})], [("v", kind, "L2", build)])
        for start in range(0, ROWS, 1000):
            c.insert(name, [{"id": i, "v": numbers[i]} for i in range(start, start + 1000)])
        c.flush(name)
        wait_indexed(c, name, "v", ROWS)
        exact = vectors.scores("L2", numbers[5].astype(np.float64), numbers.astype(np.float64))
        near, far = (float(x) for x in np.sort(exact)[[20, 90]])
        found = hits_of(c.search(name, data=[numbers[5]], limit=200, search_params={
            "params": {"radius": far, "range_filter": near, "nprobe": 8}})[0])
        assert all(near * 0.9999 <= s <= far * 1.0001 for _, s in found), (kind, near, far, found)
        assert 50 <= len(found) <= 72, (kind, len(found))
        pages = c.search_iterator(name, data=[numbers[5]], batch_size=40, limit=200,
                                  search_params={"params": {"nprobe": 16, "ef": 30, "reorder_k": 30}})
        got = []
        while True:
            page = pages.next()
            if not page:
                break
            got += [(hit["id"], hit["distance"]) for hit in page]
        pages.close()
        assert len(got) == 200 and len(set(k for k, _ in got)) == 200, (kind, len(got))
        best = set(np.argsort(exact)[:200].tolist())
        assert len(best & set(k for k, _ in got)) >= 150, kind
