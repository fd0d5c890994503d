# SPDX-License-Identifier: Apache-2.0
"""
MinHash signatures in binary vectors under MHJACCARD: bands and shares against brute force, on growing rows, on indexed
segments, with filters and deletes, and after a restart; what is refused.
"""
import numpy as np
from pymilvus import DataType

from helpers import check_error, count, create, hits_of, wait_indexed
from runner import case

D = DataType
ROWS = 3000
HASHES = 32
BANDS = 8


def signatures(rng, rows):
    """Families of rows that take each of their hashes from the family with probability 0.7."""
    families = rng.integers(0, 1 << 32, (60, HASHES), dtype=np.uint32)
    own = rng.integers(0, 1 << 32, (rows, HASHES), dtype=np.uint32)
    of_family = families[rng.integers(0, 60, rows)]
    return np.where(rng.random((rows, HASHES)) < 0.7, of_family, own).astype("<u4")


def best(numbers, keys, query, jaccard, limit=10):
    """What must be found: rows with a whole band in common, by the share of equal hashes or all alike, then by row."""
    equal = numbers[keys] == query
    meets = equal.reshape(len(keys), BANDS, HASHES // BANDS).all(axis=2).any(axis=1)
    score = equal.mean(axis=1) if jaccard else np.ones(len(keys))
    found = [(float(s), int(k)) for s, k, m in zip(score, keys, meets) if m]
    found.sort(key=lambda hit: (-hit[0], hit[1]))
    return found, found[:limit]


def check(client, name, numbers, queries, what, gone=()):
    kept = np.array([i for i in range(ROWS) if i not in gone])
    for text, keys in (("", kept), ("n < 20", kept[kept % 100 < 20])):
        for jaccard in (False, True):
            found = client.search(name, data=[q.tobytes() for q in queries], filter=text, limit=10,
                                  search_params={"metric_type": "MHJACCARD",
                                                 "params": {"mh_search_with_jaccard": jaccard, "refine_k": 2}})
            for i, query in enumerate(queries):
                every, want = best(numbers, keys, query, jaccard)
                hits = hits_of(found[i])
                scores = dict((k, s) for s, k in every)
                assert len(hits) == len(want), "%s: %d hits of %d" % (what, len(hits), len(want))
                assert np.allclose([s for _, s in hits], [s for s, _ in want], atol=1e-6), (what, hits, want)
                for key, score in hits:
                    assert abs(scores.get(key, -1) - score) < 1e-6, (what, text, jaccard, key, score)


@case
def minhash_lsh(t):
    server = t.own_server()
    client = t.connect(server)
    t._clients.insert(0, client)
    rng = np.random.default_rng(11)
    numbers = signatures(rng, ROWS)
    queries = numbers[rng.integers(0, ROWS, 10)].copy()
    queries[:, ::5] ^= 1  # no longer rows
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.BINARY_VECTOR, {"dim": HASHES * 32}), ("n", D.INT64, {})],
                  [("v", "MINHASH_LSH", "MHJACCARD", {"mh_element_bit_width": 32, "mh_lsh_band": BANDS})])
    described = client.describe_index(name, "v")
    assert described["index_type"] == "MINHASH_LSH" and described["metric_type"] == "MHJACCARD", described
    for start in range(0, ROWS, 1000):
        client.insert(name, [{"id": i, "v": numbers[i].tobytes(), "n": i % 100} for i in range(start, start + 1000)])
    check(client, name, numbers, queries, "growing")
    client.flush(name)
    wait_indexed(client, name, "v", ROWS)
    check(client, name, numbers, queries, "indexed")
    gone = set(range(0, ROWS, 30))
    client.delete(name, ids=sorted(gone))
    check(client, name, numbers, queries, "after deletes", gone)
    server.restart(hard=True)
    client = t.connect(server)
    t._clients.insert(0, client)
    client.load_collection(name)
    assert count(client, name) == ROWS - len(gone)
    check(client, name, numbers, queries, "after kill -9", gone)


@case
def minhash_refused(t):
    query = [bytes(HASHES * 4)]
    fields = [("id", D.INT64, {"is_primary": True}), ("v", D.BINARY_VECTOR, {"dim": HASHES * 32})]
    name = create(t, fields, [("v", "MINHASH_LSH", "MHJACCARD", {"mh_element_bit_width": 32, "mh_lsh_band": BANDS})])
    check_error(lambda: t.client.search(name, data=query, limit=3, search_params={"params": {"radius": 0.1}}),
                "minhash not support range search")
    check_error(lambda: t.client.search_iterator(name, data=query, batch_size=3, limit=3).next(),
                "minhash does not support iterator")
    check_error(lambda: create(t, fields, [("v", "MINHASH_LSH", "MHJACCARD", {"mh_element_bit_width": 32, "mh_lsh_band": 33})]),
                "mh_lsh_band")
    check_error(lambda: create(t, fields, [("v", "MINHASH_LSH", "HAMMING", {})]), "HAMMING not found or not supported")
    check_error(lambda: create(t, fields, [("v", "BIN_FLAT", "MHJACCARD", {})]), "MHJACCARD not found or not supported")


SPARSE_ROWS = 2500
ALGORITHMS = ("TAAT_NAIVE", "DAAT_WAND", "DAAT_MAXSCORE", "BLOCK_MAX_MAXSCORE", "BLOCK_MAX_WAND", "SINDI")


@case
def sparse_algorithms(t):
    """Every algorithm gives the exact best, the same scores, under filters too."""
    rng = np.random.default_rng(12)
    rows = []
    for _ in range(SPARSE_ROWS):
        terms = sorted(set((rng.random(30) ** 3 * 800).astype(int).tolist()))
        rows.append({term: float(np.float32(rng.random() * 2 + 0.01)) for term in terms})
    queries = rows[::250]
    fields = [("id", D.INT64, {"is_primary": True}), ("v", D.SPARSE_FLOAT_VECTOR, {}), ("n", D.INT64, {})]
    for algorithm in ALGORITHMS:
        kind = "SPARSE_WAND" if algorithm == "DAAT_WAND" else "SPARSE_INVERTED_INDEX"
        name = create(t, fields, [("v", kind, "IP", {"inverted_index_algo": algorithm})])
        t.client.insert(name, [{"id": i, "v": rows[i], "n": i % 10} for i in range(SPARSE_ROWS)])
        t.client.flush(name)
        wait_indexed(t.client, name, "v", SPARSE_ROWS)
        for text, step in (("", 1), ("n == 0", 10)):
            found = t.client.search(name, data=queries, filter=text, limit=10,
                                    search_params={"params": {"drop_ratio_search": 0.0, "dim_max_score_ratio": 1.05}})
            for query, hits in zip(queries, found):
                scores = {i: sum(w * rows[i].get(term, 0.0) for term, w in query.items())
                          for i in range(0, SPARSE_ROWS, step)}
                want = sorted((s for s in scores.values() if s > 0), reverse=True)[:10]
                got = hits_of(hits)
                assert np.allclose([s for _, s in got], want, rtol=1e-5), (algorithm, text, got, want)
                assert all(abs(scores[key] - score) < 1e-4 for key, score in got), (algorithm, text, got)
