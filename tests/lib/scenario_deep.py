# SPDX-License-Identifier: Apache-2.0
"""
Searches that go farther than the ten nearest, on real shapes of data, for every kind: large limits, ranges that begin
far out, iterators to the last row; and what the same data say after the index was dropped and made again.
"""
import numpy as np
from pymilvus import DataType

import vectors
from helpers import check_error, create, hits_of, index_of, wait_indexed
from redkite_server import wait_until
from runner import case

D = DataType
ROWS, DIM, QUERIES = 3000, 64, 40  # fewer queries differ more from build to build than floors allow
KEY = ("id", D.INT64, {"is_primary": True})

# kind, metric, build, search; recall of the 100 nearest, of a range far out, share of all rows that an iterator brings
KINDS = [
    ("FLAT", "L2", {}, {}, 1, 1, 1),
    ("HNSW", "COSINE", {"M": 16, "efConstruction": 100}, {"ef": 100}, 0.9, 0.98, 0.99),
    ("HNSW", "IP", {"M": 16, "efConstruction": 100}, {}, 0.93, 0.95, 0.99),
    ("HNSW_PRQ", "L2", {"M": 16, "efConstruction": 100, "m": 2}, {"ef": 200}, 0.3, 0.98, 0.99),
    ("IVF_FLAT", "L2", {"nlist": 64}, {"nprobe": 32}, 0.9, 0.8, 0.9),
    ("IVF_PQ", "COSINE", {"nlist": 64, "m": 16}, {"nprobe": 32}, 0.8, 0.55, 0.9),
    ("IVF_RABITQ", "L2", {"nlist": 64}, {"nprobe": 32}, 0.9, 0.85, 0.9),
    ("IVF_RABITQ", "IP", {"nlist": 64}, {"nprobe": 4}, 0.25, 0.8, 0.85),
    ("DISKANN", "COSINE", {}, {"search_list": 100}, 0.8, 0.9, 0.98),
    ("AUTOINDEX", "L2", {}, {}, 0.93, 0.8, 0.98),
    ("AUTOINDEX", "IP", {}, {}, 0.93, 0.8, 0.98),
]


def data():
    """Rows of about 24 dimensions, in groups, as embeddings are."""
    rng = np.random.default_rng(5)
    groups = rng.standard_normal((40, 24)) * 0.7
    numbers = groups[rng.integers(0, 40, ROWS + QUERIES)] + rng.standard_normal((ROWS + QUERIES, 24))
    sent = (numbers @ rng.standard_normal((24, DIM))).astype(np.float32)
    return sent[:ROWS], sent[ROWS:]


def pages_of(client, name, query, metric, batch, search):
    """All rows that an iterator brings, in its order."""
    iterator = client.search_iterator(name, data=[query], batch_size=batch, anns_field="v",
                                      search_params={"metric_type": metric, "params": search})
    found = []
    while True:
        page = iterator.next()
        if not page:
            break
        assert len(page) <= batch
        found += [(hit["id"], hit["distance"]) for hit in page]
    iterator.close()
    return found


def recall_of(found, exact, keep, limit, larger):
    """Share of the |limit| best of |exact| among those to |keep| that were found; every hit must be one of them."""
    keys = np.where(keep)[0]
    near = np.sort(-exact[keys] if larger else exact[keys])[:limit]
    if len(near) == 0:
        return 1.0
    worst = near[-1] + 1e-5 * max(1, abs(near[-1]))
    return sum((-score if larger else score) <= worst for _, score in found) / len(near)


def check_kind(t, rows, queries, kind, metric, build, search, floors):
    c = t.client
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": DIM})], [("v", kind, metric, build)])
    for start in range(0, ROWS, 1000):
        c.insert(name, [{"id": i, "v": rows[i]} for i in range(start, start + 1000)])
    c.flush(name)
    wait_indexed(c, name, "v", ROWS)
    larger = vectors.LARGER_IS_NEARER[metric]
    recalls = []
    for query in queries:
        exact = vectors.scores(metric, query.astype(np.float64), rows.astype(np.float64))
        found = hits_of(c.search(name, data=[query], limit=100, search_params={"params": search})[0])
        assert len(found) == len({key for key, _ in found}) == 100, (kind, metric, len(found))
        order = np.sort(exact)[::-1] if larger else np.sort(exact)
        near, far = float(np.float32(order[300])), float(np.float32(order[420]))
        bounds = {"radius": far, "range_filter": near}
        ranged = hits_of(c.search(name, data=[query], limit=60, search_params={"params": {**search, **bounds}})[0])
        inside = (exact > far) & (exact <= near) if larger else (exact < far) & (exact >= near)
        for key, score in found + ranged:
            assert abs(score - exact[key]) <= 1e-4 * max(1, abs(score)), (kind, metric, key, score, exact[key])
        slack = 1e-4 * max(1, abs(near))
        for key, _ in ranged:
            assert far - slack <= exact[key] <= near + slack if larger else near - slack <= exact[key] <= far + slack
        recalls.append((recall_of(found, exact, exact == exact, 100, larger), recall_of(ranged, exact, inside, 60, larger)))
    brought = pages_of(c, name, queries[0], metric, 400, search)
    assert len(brought) == len({key for key, _ in brought}), "%s %s: an iterator brought a row twice" % (kind, metric)
    scores = [score for _, score in brought]
    assert scores == sorted(scores, reverse=larger), "%s %s: pages out of order" % (kind, metric)
    got = tuple(np.mean(recalls, axis=0)) + (len(brought) / ROWS,)
    assert all(a >= b for a, b in zip(got, floors)), "%s %s: recall@100 %.3f, of a range %.3f, brought %.3f; floors %s" % (
        (kind, metric) + got + (floors,))


def register(kind, metric, build, search, *floors):
    def run(t):
        check_kind(t, *data(), kind, metric, build, search, floors)
    run.__name__ = "far_out_%s_%s_%s" % (kind, metric, "_".join(map(str, search.values())))
    run.__module__ = __name__
    case(run)


for row in KINDS:
    register(*row)


@case
def made_again(t):
    """An index dropped and made again as another kind answers as that kind; wrong parameters leave the old one in place."""
    c = t.client
    rows, queries = data()
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": DIM})], [("v", "FLAT", "L2", {})])
    c.insert(name, [{"id": i, "v": rows[i]} for i in range(1500)])
    c.flush(name)
    wait_indexed(c, name, "v", 1500)
    want = hits_of(c.search(name, data=[queries[0]], limit=5)[0])
    check_error(lambda: c.drop_index(name, "v"), "vector index cannot be dropped on loaded collection", code=1100)
    c.release_collection(name)
    for kind, build in (("HNSW", {"M": 8, "efConstruction": 60}), ("IVF_SQ8", {"nlist": 1}), ("DISKANN", {}), ("AUTOINDEX", {})):
        c.drop_index(name, "v")
        check_error(lambda: c.create_index(name, index_of([("v", "HNSW", "L2", {"M": 1})])), "should be in range [2, 2048]", code=1100)
        assert c.list_indexes(name) == []
        c.create_index(name, index_of([("v", kind, "L2", build)]))
        wait_indexed(c, name, "v", 1500)
        assert c.describe_index(name, "v")["index_type"] == kind
        c.load_collection(name)
        got = hits_of(c.search(name, data=[queries[0]], limit=5)[0])
        assert got[0] == want[0] and len(set(k for k, _ in got) & set(k for k, _ in want)) >= 4, (kind, got, want)
        c.release_collection(name)


@case
def words_that_are_none(t):
    """Null, empty and unknown: judged by the index, or of no effect."""
    c = t.client
    rows, queries = data()
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": DIM})], [("v", "HNSW", "L2", {"M": 8, "efConstruction": 60})])
    c.insert(name, [{"id": i, "v": rows[i]} for i in range(1500)])
    c.flush(name)
    wait_indexed(c, name, "v", 1500)

    def search(**params):
        return c.search(name, data=[queries[0]], limit=5, search_params={"params": params})

    def is_refused():
        try:
            search(ef=4)
            return False
        except Exception:  # as it must be, once the index is searched
            return True
    wait_until(is_refused, what="a search by the index")
    check_error(lambda: search(ef=None), "Type conflict in json: param 'ef' (null) should be integer")
    for harmless in ({"radius": None, "range_filter": None}, {"nosuchkey": None}, {"ef": "16"}, {"level": 1}):
        assert len(search(**harmless)[0]) == 5, harmless
    other = t.name()
    schema = c.create_schema()
    schema.add_field("id", D.INT64, is_primary=True)
    schema.add_field("s", D.SPARSE_FLOAT_VECTOR)
    schema.add_field("b", D.BINARY_VECTOR, dim=64)
    c.create_collection(other, schema=schema)
    check_error(lambda: c.create_index(other, index_of([("s", "SPARSE_INVERTED_INDEX", "IP", {"inverted_index_algo": ""})])),
                "sparse inverted index algo  not found or not supported", code=1100)
    check_error(lambda: c.create_index(other, index_of([("b", "MINHASH_LSH", "FOO", {})])),
                "binary vector index does not support metric type: FOO", code=1100)


@case
def iterator_of_structures(t):
    """All matching rows are as near: the first page is the last."""
    c = t.client
    name = create(t, [KEY, ("v", D.BINARY_VECTOR, {"dim": 16})], [("v", "BIN_FLAT", "SUPERSTRUCTURE", {})])
    c.insert(name, [{"id": i, "v": bytes([i % 4, 0])} for i in range(40)])
    found = pages_of(c, name, b"\x01\x00", "SUPERSTRUCTURE", 12, {})
    assert len(found) == 12 and all(key % 4 in (0, 1) and score == 0 for key, score in found), found
