# SPDX-License-Identifier: Apache-2.0
"""Collections, indexes, loading, statistics and versions: the traps of the protocol, one by one."""
import numpy as np
from pymilvus import DataType

from helpers import check_error, count, create, index_of, is_loaded, schema_of, wait_indexed
from runner import case

D = DataType
KEY = ("id", D.INT64, {"is_primary": True})
VECTOR = ("v", D.FLOAT_VECTOR, {"dim": 4})


def rows(a, b):
    return [{"id": i, "v": [i, 1, 2, 3]} for i in range(a, b)]


@case
def versions_and_databases(t):
    c = t.client
    version = c.get_server_version()
    parts = version.lstrip("v").split("-")[0].split(".")
    assert len(parts) == 3 and all(p.isdigit() for p in parts), version
    assert c.list_databases() == ["default"]
    d = c.describe_database("default")
    assert d["name"] == "default", d
    check_error(lambda: c.describe_database("nosuch"), "database not found[database=nosuch]", code=800)
    try:
        other = t.connect(db_name="nosuch")
        other.list_collections()
    except Exception as error:
        assert "database not found[database=nosuch]" in str(error), error
    else:
        raise AssertionError("a database that does not exist was accepted")
    name = t.name()
    default = t.connect(db_name="default")
    default.create_collection(name, dimension=4)
    assert c.has_collection(name)


@case
def listing_and_dropping(t):
    c = t.client
    before = set(c.list_collections())
    names = {t.name() for _ in range(3)}
    for name in names:
        c.create_collection(name, dimension=4)
    assert set(c.list_collections()) == before | names
    gone = names.pop()
    c.drop_collection(gone)
    assert set(c.list_collections()) == before | names
    assert not c.has_collection(gone)
    for call in (lambda: c.describe_collection(gone), lambda: c.insert(gone, [{"id": 1, "vector": [1, 2, 3, 4]}])):
        check_error(call, "can't find collection[database=default][collection=%s]" % gone, code=100)
    for call in (lambda: c.load_collection(gone), lambda: c.query(gone, filter="id > 0"),
                 lambda: c.search(gone, data=[[1, 2, 3, 4]], limit=1), lambda: c.get_collection_stats(gone),
                 lambda: c.list_partitions(gone), lambda: c.has_partition(gone, "_default"),
                 lambda: c.flush(gone), lambda: c.release_collection(gone)):
        check_error(call, "collection not found", code=100)
    assert "NotExist" in str(c.get_load_state(gone)["state"])
    # a name may be used again, with another schema and without the old rows
    c.create_collection(gone, dimension=8, consistency_level="Strong")
    assert count(c, gone) == 0
    c.insert(gone, [{"id": 1, "vector": [1] * 8}])
    assert count(c, gone) == 1
    c.drop_collection(gone)


@case
def a_second_client_learns_of_a_new_schema(t):
    c, other, name = t.client, t.connect(), t.name()
    c.create_collection(name, dimension=4, consistency_level="Strong")
    other.insert(name, [{"id": 1, "vector": [1, 2, 3, 4]}])
    c.drop_collection(name)
    c.create_collection(name, dimension=2, consistency_level="Strong")
    other.insert(name, [{"id": 1, "vector": [1, 2]}])  # its cached schema is stale
    assert count(c, name) == 1


@case
def partitions(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})])
    assert c.list_partitions(name) == ["_default"]
    assert c.has_partition(name, "_default") is True and c.has_partition(name, "other") is False
    c.insert(name, rows(0, 10), partition_name="_default")
    check_error(lambda: c.insert(name, rows(0, 10), partition_name="other"), "partition not found[partition=other]", code=200)
    check_error(lambda: c.search(name, data=[[1, 1, 2, 3]], limit=1, partition_names=["other"]),
                "partition name other not found")
    check_error(lambda: c.query(name, filter="id > 0", partition_names=["other"]), "partition name other not found")
    assert len(c.search(name, data=[[1, 1, 2, 3]], limit=3, partition_names=["_default"])[0]) == 3
    assert len(c.query(name, filter="id >= 0", partition_names=["_default"])) == 10
    assert c.get_partition_stats(name, "_default")["row_count"] == 10
    assert c.delete(name, ids=[1], partition_name="_default")["delete_count"] == 1
    check_error(lambda: c.delete(name, ids=[1], partition_name="other"),
                "Failed to get partition id: partition not found[partition=other]")


@case
def statistics_and_flush(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})])
    assert c.get_collection_stats(name)["row_count"] == 0
    c.flush(name)  # nothing to flush
    c.insert(name, rows(0, 100))
    assert c.get_collection_stats(name)["row_count"] == 100
    c.flush(name)
    assert c.get_collection_stats(name)["row_count"] == 100
    c.insert(name, rows(100, 130))
    c.flush(name)
    c.flush(name)
    assert c.get_collection_stats(name)["row_count"] == 130
    assert count(c, name) == 130
    d = c.describe_index(name, "v")
    assert int(d["total_rows"]) == 130 and int(d["pending_index_rows"]) == 0 and int(d["indexed_rows"]) == 130, d


@case
def load_states(t):
    c, name = t.client, t.name()
    c.create_collection(name, schema=schema_of([KEY, VECTOR]), consistency_level="Strong")
    assert "NotLoad" in str(c.get_load_state(name)["state"])
    check_error(lambda: c.load_collection(name), "index not found[collection=%s]" % name, code=700)
    check_error(lambda: c.search(name, data=[[1, 2, 3, 4]], limit=1), "collection not loaded", code=101)
    check_error(lambda: c.query(name, filter="id > 0"), "collection not loaded", code=101)
    c.create_index(name, index_of([("v", "FLAT", "L2", {})]))
    c.insert(name, rows(0, 50))  # writes need no loading
    assert c.delete(name, ids=[0])["delete_count"] == 1
    check_error(lambda: c.delete(name, filter="id % 2 == 0"), "collection not loaded", code=101)
    c.load_collection(name)
    assert is_loaded(c, name)
    c.load_collection(name)  # twice is fine
    assert count(c, name) == 49
    c.release_collection(name)
    c.release_collection(name)
    assert "NotLoad" in str(c.get_load_state(name)["state"])
    check_error(lambda: c.search(name, data=[[1, 2, 3, 4]], limit=1), "collection not loaded", code=101)
    c.upsert(name, rows(60, 70))
    c.flush(name)
    c.load_collection(name)
    assert count(c, name) == 59
    c.refresh_load(name)
    assert is_loaded(c, name)


@case
def index_life(t):
    c, name = t.client, t.name()
    c.create_collection(name, schema=schema_of([KEY, VECTOR, ("w", D.BINARY_VECTOR, {"dim": 16})]))
    assert c.list_indexes(name) == []
    assert not c.describe_index(name, "v")
    c.drop_index(name, "v")  # gone is gone
    params = index_of([("v", "HNSW", "COSINE", {"M": 12, "efConstruction": 100})])
    c.create_index(name, params)
    c.create_index(name, params)  # the same again
    assert c.list_indexes(name) == ["v"]
    d = c.describe_index(name, "v")
    assert d["index_type"] == "HNSW" and d["metric_type"] == "COSINE" and d["field_name"] == "v", d
    assert int(d["M"]) == 12 and int(d["efConstruction"]) == 100 and d["index_name"] == "v", d
    assert int(d["total_rows"]) == 0 and d["state"] == "Finished", d
    check_error(lambda: c.create_index(name, index_of([("v", "HNSW", "L2", {"M": 12, "efConstruction": 100})])),
                "at most one distinct index is allowed per field")
    other = c.prepare_index_params()
    other.add_index("v", index_type="FLAT", metric_type="L2", index_name="other")
    check_error(lambda: c.create_index(name, other), "CreateIndex failed: creating multiple indexes on same field is not supported")
    check_error(lambda: c.load_collection(name), "there is no vector index on field: [w], please create index firstly")
    named = c.prepare_index_params()
    named.add_index("w", index_type="BIN_FLAT", metric_type="JACCARD", index_name="my_index")
    c.create_index(name, named)
    assert sorted(c.list_indexes(name)) == ["my_index", "v"]
    assert c.list_indexes(name, field_name="w") == ["my_index"]
    assert c.describe_index(name, "my_index")["metric_type"] == "JACCARD"
    c.load_collection(name)
    check_error(lambda: c.drop_index(name, "v"), "vector index cannot be dropped on loaded collection")
    c.release_collection(name)
    c.drop_index(name, "v")
    assert c.list_indexes(name) == ["my_index"]
    c.create_index(name, index_of([("v", "IVF_FLAT", "L2", {"nlist": 16})]))
    assert c.describe_index(name, "v")["index_type"] == "IVF_FLAT"


@case
def automatic_index(t):
    c = t.client
    for kind, options, default in ((D.FLOAT_VECTOR, {"dim": 8}, "COSINE"), (D.INT8_VECTOR, {"dim": 8}, "COSINE"),
                                   (D.BINARY_VECTOR, {"dim": 16}, "HAMMING"), (D.SPARSE_FLOAT_VECTOR, {}, "IP")):
        name = t.name()
        c.create_collection(name, schema=schema_of([KEY, ("v", kind, options)]))
        params = c.prepare_index_params()
        params.add_index("v", index_type="AUTOINDEX")
        c.create_index(name, params)
        d = c.describe_index(name, "v")
        assert d["index_type"] == "AUTOINDEX" and d["metric_type"] == default, d
        assert set(d) <= {"index_type", "metric_type", "field_name", "index_name", "total_rows", "indexed_rows",
                          "pending_index_rows", "state"}, d
        c.create_index(name, params)
        c.load_collection(name)
        c.release_collection(name)
        c.drop_collection(name)
    name = t.name()
    c.create_collection(name, schema=schema_of([KEY, VECTOR]))
    check_error(lambda: c.create_index(name, index_of([("v", "AUTOINDEX", "L2", {"M": 8})])),
                "only metric type can be passed when use AutoIndex")


@case
def index_is_built_over_flushed_rows(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "HNSW", "L2", {"M": 8, "efConstruction": 50})])
    rng = np.random.default_rng(1)
    for part in range(3):
        c.insert(name, [{"id": part * 500 + i, "v": rng.random(4)} for i in range(500)])
        c.flush(name)
    wait_indexed(c, name, "v", 1500)
    d = c.describe_index(name, "v")
    assert d["state"] == "Finished" and int(d["total_rows"]) == 1500 and int(d["pending_index_rows"]) == 0, d
    assert len(c.search(name, data=[[0.5] * 4], limit=100)[0]) == 100


@case
def scalar_indexes_are_refused_or_work(t):
    c, name = t.client, t.name()
    c.create_collection(name, schema=schema_of([KEY, VECTOR, ("n", D.INT64, {}), ("s", D.VARCHAR, {"max_length": 9})]),
                        index_params=index_of([("v", "FLAT", "L2", {})]), consistency_level="Strong")
    c.insert(name, [dict(r, n=r["id"], s="s%d" % r["id"]) for r in rows(0, 20)])
    for field, kind in (("n", "STL_SORT"), ("n", "INVERTED"), ("n", "BITMAP"), ("s", "TRIE"), ("s", "INVERTED"), ("n", "AUTOINDEX")):
        params = c.prepare_index_params()
        params.add_index(field, index_type=kind)
        try:
            c.create_index(name, params)
        except Exception as error:
            assert field in str(error) and kind in str(error), error
        else:
            assert c.list_indexes(name, field_name=field) == [field]
            c.drop_index(name, field)
        assert len(c.query(name, filter="n > 10 and s != 's15'")) == 8
    params = c.prepare_index_params()
    params.add_index("n", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 50})
    check_error(lambda: c.create_index(name, params), "only supports vector data type")


@case
def what_is_not_built_in_says_so(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})], dynamic=True)
    c.insert(name, rows(0, 10))
    refused = [lambda: c.search(name, data=[[1, 2, 3, 4]], limit=3, group_by_field="id"),
               lambda: c.create_partition(name, "p"), lambda: c.create_alias(name, "a_" + name),
               lambda: c.create_database("other"), lambda: c.create_user("someone", "Password1"),
               lambda: c.rename_collection(name, name + "x")]
    for call in refused:
        try:
            call()
        except Exception as error:
            assert str(error), "an error without words"
        else:
            raise AssertionError("accepted, but not built in")
    assert count(c, name) == 10


@case
def metrics_and_health(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})])
    c.insert(name, rows(0, 10))
    c.search(name, data=[[1, 2, 3, 4]], limit=3)
    assert t.server.http("/healthz").strip() == "OK"
    text = t.server.http("/metrics")
    assert "# TYPE" in text and "redkite" in text or "milvus" in text, text[:300]
