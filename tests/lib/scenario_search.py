# SPDX-License-Identifier: Apache-2.0
"""What a search can be asked: pages, ranges, several vectors, consistency, rounding, keys instead of vectors, iterators."""
import numpy as np
from pymilvus import DataType

import vectors
from helpers import CLIENT_3, check_error, count, create, hits_of
from redkite_server import wait_until
from runner import case

D = DataType
N, DIM = 300, 8
KEY = ("id", D.INT64, {"is_primary": True})


def filled(t, index="FLAT", metric="L2", flush=True, **params):
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": DIM}), ("n", D.INT32, {})], [("v", index, metric, params)])
    data = vectors.make(D.FLOAT_VECTOR, N, DIM, np.random.default_rng(11))
    rows = [{"id": i, "v": data.sent[i], "n": i % 10} for i in range(N)]
    t.client.insert(name, rows[:N // 2])
    if flush:
        t.client.flush(name)
    t.client.insert(name, rows[N // 2:])
    return name, data


@case
def pages_join_to_the_whole(t):
    for index, params in (("FLAT", {}), ("HNSW", {"M": 16, "efConstruction": 200})):
        name, data = filled(t, index, **params)
        query = [data.sent[5]]
        options = {"search_params": {"params": {"ef": 200}}}
        whole = hits_of(t.client.search(name, data=query, limit=60, **options)[0])
        pages = []
        for offset in range(0, 60, 20):
            pages += hits_of(t.client.search(name, data=query, limit=20,
                                             search_params={"offset": offset, "params": {"ef": 200}})[0])
        assert pages == whole
        assert len(t.client.search(name, data=query, limit=20, search_params={"offset": 290, "params": {"ef": 400}})[0]) == 10
        assert len(t.client.search(name, data=query, limit=20, search_params={"offset": 5000})[0]) == 0


@case
def many_queries_at_once(t):
    name, data = filled(t)
    queries = vectors.make(D.FLOAT_VECTOR, 40, DIM, np.random.default_rng(12))
    found = t.client.search(name, data=queries.sent, limit=7, filter="n in [1, 4, 7]", output_fields=["n"])
    assert len(found) == 40
    keys = [i for i in range(N) if i % 10 in (1, 4, 7)]
    for i, one in enumerate(found):
        vectors.check_exact(hits_of(one), "L2", D.FLOAT_VECTOR, queries.values[i], keys, data.values[keys], 7,
                            what="query %d" % i)
        assert all(hit["entity"]["n"] == hit["id"] % 10 for hit in one)


@case
def ranges(t):
    for metric in vectors.FLOAT_METRICS:
        name, data = filled(t, metric=metric)
        query = data.values[3]
        s = vectors.scores(metric, query, data.values)
        near, far = np.quantile(s, 0.9 if vectors.LARGER_IS_NEARER[metric] else 0.1), np.quantile(s, 0.5)
        for options in ({"radius": far}, {"radius": far, "range_filter": near}):
            found = hits_of(t.client.search(name, data=[data.sent[3]], limit=250,
                                            search_params={"params": {k: float(v) for k, v in options.items()}})[0])
            if vectors.LARGER_IS_NEARER[metric]:
                bounds = {"low": float(np.float32(far)), "high": options.get("range_filter")}
            else:
                bounds = {"high": float(np.float32(far)), "low": options.get("range_filter")}
            vectors.check_exact(found, metric, D.FLOAT_VECTOR, query, list(range(N)), data.values, 250,
                                what="%s %s" % (metric, options), **bounds)
        wrong = (far, near)
        check_error(lambda: t.client.search(name, data=[data.sent[3]], limit=5, search_params={
            "params": {"radius": float(wrong[1]), "range_filter": float(wrong[0])}}),
            "must be %s than radius" % ("greater" if vectors.LARGER_IS_NEARER[metric] else "less"))
        check_error(lambda: t.client.search(name, data=[data.sent[3]], limit=5,
                                            search_params={"params": {"range_filter": 0.5}}),
                    "range_filter requires radius to be set")


@case
def range_half_open_bounds(t):
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": 2})], [("v", "FLAT", "L2", {})])
    t.client.insert(name, [{"id": i, "v": [i, 0]} for i in range(6)])  # squared distances 0 1 4 9 16 25

    def keys(**options):
        return [k for k, _ in hits_of(t.client.search(name, data=[[0, 0]], limit=10,
                                                      search_params={"params": options})[0])]
    for _ in range(2):
        assert keys(radius=9) == [0, 1, 2]
        assert keys(radius=9.5, range_filter=1) == [1, 2, 3]
        assert keys(radius=25, range_filter=0) == [0, 1, 2, 3, 4]
        t.client.flush(name)
    ip = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": 2})], [("v", "HNSW", "IP", {"M": 8, "efConstruction": 40})])
    t.client.insert(ip, [{"id": i, "v": [i, 0]} for i in range(6)])
    for _ in range(2):
        got = t.client.search(ip, data=[[1, 0]], limit=10, search_params={"params": {"radius": 2, "range_filter": 4}})
        assert [k for k, _ in hits_of(got[0])] == [4, 3]
        t.client.flush(ip)


@case
def output_fields_of_a_search(t):
    name, data = filled(t)
    c = t.client
    hit = c.search(name, data=[data.sent[0]], limit=1)[0][0]
    assert dict(hit.get("entity") or {}) == {}, hit  # nothing asked, nothing returned
    hit = c.search(name, data=[data.sent[0]], limit=1, output_fields=["id", "v"])[0][0]
    assert np.array_equal(np.asarray(hit["entity"]["v"], np.float32), data.sent[0])
    hit = c.search(name, data=[data.sent[0]], limit=1, output_fields=["*"])[0][0]
    assert set(hit["entity"]) >= {"v", "n"}, hit
    check_error(lambda: c.search(name, data=[data.sent[0]], limit=1, output_fields=["nosuch"]), "field nosuch not exist")
    check_error(lambda: c.query(name, filter="id > 0", output_fields=["nosuch"]), "field nosuch not exist")


@case
def cosine_returns_the_raw_vector(t):
    name = create(t, [KEY, ("v", D.FLOAT_VECTOR, {"dim": 2})], [("v", "HNSW", "COSINE", {"M": 8, "efConstruction": 40})])
    t.client.insert(name, [{"id": 1, "v": [3, 4]}, {"id": 2, "v": [-30, -40]}, {"id": 3, "v": [0, 0]}])
    for _ in range(2):
        found = t.client.search(name, data=[[6, 8]], limit=3, output_fields=["v"])[0]
        assert [(h["id"], round(h["distance"], 5)) for h in found] == [(1, 1.0), (3, 0.0), (2, -1.0)], found
        assert list(found[0]["entity"]["v"]) == [3, 4]
        t.client.flush(name)


@case
def rounding_and_empty_filters(t):
    name, data = filled(t)
    query = [data.sent[9]]
    exact = hits_of(t.client.search(name, data=query, limit=5)[0])
    rounded = hits_of(t.client.search(name, data=query, limit=5, round_decimal=2)[0])
    assert [k for k, _ in exact] == [k for k, _ in rounded]
    for (_, a), (_, b) in zip(exact, rounded):
        assert abs(a - b) <= 0.0051 and abs(b * 100 - round(b * 100)) < 1e-3, (a, b)
    assert hits_of(t.client.search(name, data=query, limit=5, filter=" ")[0]) == exact
    assert hits_of(t.client.search(name, data=query, limit=5, filter="true")[0]) == exact
    assert len(t.client.search(name, data=query, limit=5, filter="false")[0]) == 0


@case
def consistency_levels(t):
    c = t.client
    for level in ("Strong", "Session", "Bounded", "Eventually"):
        name = t.name()
        c.create_collection(name, dimension=2, metric_type="L2", consistency_level=level)
        for i in range(30):
            c.insert(name, [{"id": i, "vector": [i, 0]}])
            found = c.search(name, data=[[i, 0]], limit=1, consistency_level="Strong")[0]
            assert found[0]["id"] == i, (level, i, found)
            assert count_at(c, name, "Strong") == i + 1
            if level == "Session":  # reads its own writes
                assert c.query(name, filter="id == %d" % i), i
        for asked in ("Strong", "Session", "Bounded", "Eventually"):
            assert len(c.search(name, data=[[0, 0]], limit=100, consistency_level=asked)[0]) >= 1
    other = t.connect()
    name = t.name()
    c.create_collection(name, dimension=2, consistency_level="Bounded")
    for i in range(20):  # written by one client, read by another at once
        c.insert(name, [{"id": i, "vector": [i, 1]}])
        assert count_at(other, name, "Strong") == i + 1
        c.delete(name, ids=[i]) if i % 2 else None
        c.insert(name, [{"id": i, "vector": [i, 1]}]) if i % 2 else None


def count_at(client, name, level):
    return client.query(name, filter="", output_fields=["count(*)"], consistency_level=level)[0]["count(*)"]


@case
def dimension_and_type_of_the_query(t):
    name, data = filled(t)
    c = t.client
    check_error(lambda: c.search(name, data=[[1.0, 2.0]], limit=1), "vector dimension mismatch")
    check_error(lambda: c.search(name, data=[b"\x01"], limit=1), "")
    check_error(lambda: c.search(name, data=[data.sent[0]], anns_field="nosuch", limit=1),
                "failed to create query plan: failed to get field schema by name: fieldName(nosuch) not found")
    check_error(lambda: c.search(name, data=[data.sent[0]], limit=1, search_params={"metric_type": "IP"}),
                "metric type not match: invalid parameter[expected=L2][actual=IP]")


@case
def by_keys_instead_of_vectors(t):
    if not CLIENT_3:
        return  # newer than that client
    name, data = filled(t)
    found = t.client.search(name, ids=[3, 250], limit=4)
    for key, one in zip((3, 250), found):
        vectors.check_exact(hits_of(one), "L2", D.FLOAT_VECTOR, data.values[key], list(range(N)), data.values, 4)
    check_error(lambda: t.client.search(name, ids=[3, 100000], limit=4),
                "some of the provided primary key IDs do not exist: missing IDs = [100000]")
    check_error(lambda: t.client.search(name, ids=[3, 3], limit=4), "duplicate IDs found in search request")


@case
def iterators(t):
    c = t.client
    for index, params in (("FLAT", {}), ("HNSW", {"M": 16, "efConstruction": 200})):
        name, data = filled(t, index, **params)
        got = []
        pages = c.query_iterator(name, batch_size=70, filter="n != 3", output_fields=["n"])
        while True:
            page = pages.next()
            if not page:
                break
            got += [row["id"] for row in page]
            if len(got) == 70:  # what is written later is not part of it
                c.insert(name, [{"id": 1000, "v": data.sent[0], "n": 1}])
        pages.close()
        c.delete(name, ids=[1000])
        assert got == [i for i in range(N) if i % 10 != 3], (index, len(got))
        keys, scores = [], []
        hits = c.search_iterator(name, data=[data.sent[7]], batch_size=50, limit=200, anns_field="v",
                                 search_params={"metric_type": "L2", "params": {"ef": 256}})
        while True:
            page = hits.next()
            if not page:
                break
            keys += [hit["id"] for hit in page]
            scores += [hit["distance"] for hit in page]
        hits.close()
        assert len(keys) == len(set(keys)) == 200, (index, len(keys), len(set(keys)))
        assert scores == sorted(scores)
        if index == "FLAT":
            exact = np.sort(vectors.scores("L2", data.values[7], data.values))[:200]
            assert np.allclose(scores, exact, atol=1e-4)


@case
def templates(t):
    name, data = filled(t)
    c = t.client
    rows = c.query(name, filter="id in {keys} and n < {most}", filter_params={"keys": [1, 2, 3, 14, 15], "most": 4},
                   output_fields=["n"])
    assert [r["id"] for r in rows] == [1, 2, 3], rows
    found = c.search(name, data=[data.sent[0]], filter="n == {n}", filter_params={"n": 5}, limit=100,
                     output_fields=["n"])[0]
    assert len(found) == 30 and all(h["entity"]["n"] == 5 for h in found)
    assert c.delete(name, filter="n == {n}", filter_params={"n": 5})["delete_count"] == 30
    assert count(c, name) == N - 30
    check_error(lambda: c.query(name, filter="n == {m}", filter_params={"n": 5}),
                "the value of expression template variable name {m} is not found")


@case
def growing_rows_can_be_left_out(t):
    name, data = filled(t)

    def search():
        found = t.client.search(name, data=[data.sent[200]], limit=N, search_params={"ignore_growing": True})[0]
        return sorted(k for k, _ in hits_of(found))
    wait_until(lambda: len(search()) >= N // 2, what="a sealed segment that is searched")
    keys = search()
    assert keys == list(range(N // 2)), (len(keys), keys[-1:])
