# SPDX-License-Identifier: Apache-2.0
"""REST v2, endpoint by endpoint: a case takes the context of run.py and fails by any exception."""
import base64
import json
import struct
import time

CASES = []


def case(function):
    CASES.append(function)
    return function


def vec(i, dim=4):
    return [((i * 7 + j * 3) % 23) / 4 for j in range(dim)]


def l2(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


def nearest(query, ids, limit, dim=4):
    return sorted(ids, key=lambda i: (l2(query, vec(i, dim)), i))[:limit]


def quick(t, rows=30, **options):
    name = t.name()
    body = {"collectionName": name, "dimension": 4, "metricType": "L2", "consistencyLevel": "Strong"}
    body.update(options)
    assert t.data("/collections/create", **body) == {}
    if rows:
        data = [{"id": i, "vector": vec(i), "colour": ["red", "green"][i % 2], "n": i} for i in range(rows)]
        got = t.call("/entities/insert", collectionName=name, data=data)
        assert got["cost"] == 0 and got["data"] == {"insertCount": rows, "insertIds": list(range(rows))}, got
    return name


def wait_loaded(t, name):
    for _ in range(6000):
        data = t.data("/collections/get_load_state", collectionName=name)
        if data["loadState"] == "LoadStateLoaded":
            assert data["loadProgress"] == 100
            return
        time.sleep(0.02)
    raise AssertionError("%s is not loaded: %s" % (name, data))


# ---- collections ----

@case
def quick_create_and_describe(t):
    name = t.name()
    assert t.call("/collections/create", collectionName=name, dimension=8) == {"code": 0, "data": {}}
    d = t.call("/collections/describe", collectionName=name)
    assert d["message"] == "", d
    d = d["data"]
    assert d["collectionName"] == name and isinstance(d["collectionID"], int)
    assert d["autoId"] is False and d["enableDynamicField"] is True
    assert d["shardsNum"] == 1 and d["partitionsNum"] == 1 and d["consistencyLevel"] == "Bounded"
    assert d["load"] == "LoadStateLoaded"
    assert d["aliases"] == [] and d["functions"] == []
    assert d["indexes"] == [{"indexName": "vector", "fieldName": "vector", "metricType": "COSINE"}], d["indexes"]
    key, vector = d["fields"]
    assert (key["name"], key["id"], key["type"], key["primaryKey"], key["autoId"]) == ("id", 100, "Int64", True, False)
    assert (vector["name"], vector["id"], vector["type"], vector["primaryKey"]) == ("vector", 101, "FloatVector", False)
    assert vector["params"] == [{"key": "dim", "value": "8"}], vector
    assert isinstance(d["properties"], list)


@case
def quick_create_options(t):
    name = t.name()
    t.call("/collections/create", collectionName=name, dimension=4, metricType="IP", idType="VarChar", autoID=True,
           primaryFieldName="key", vectorFieldName="embedding", description="what it is",
           params={"max_length": 60, "enableDynamicField": False, "shardsNum": 2, "consistencyLevel": "Session"})
    d = t.data("/collections/describe", collectionName=name)
    assert d["autoId"] is True and d["enableDynamicField"] is False and d["shardsNum"] == 2
    assert d["consistencyLevel"] == "Session" and d["description"] == "what it is"
    assert [f["name"] for f in d["fields"]] == ["key", "embedding"]
    assert d["fields"][0]["type"] == "VarChar" and d["fields"][0]["params"] == [{"key": "max_length", "value": "60"}]
    assert d["indexes"] == [{"indexName": "embedding", "fieldName": "embedding", "metricType": "IP"}]
    got = t.data("/entities/insert", collectionName=name, data=[{"embedding": [1, 2, 3, 4]}])
    assert got["insertCount"] == 1 and isinstance(got["insertIds"][0], str)


@case
def custom_create(t):
    name = t.name()
    t.call("/collections/create", collectionName=name, schema={
        "autoID": False, "enableDynamicField": False,
        "fields": [
            {"fieldName": "key", "dataType": "VarChar", "isPrimary": True, "elementTypeParams": {"max_length": 64}},
            {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": "4"}},
            {"fieldName": "n", "dataType": "Int32", "nullable": True},
            {"fieldName": "price", "dataType": "Double", "defaultValue": 1.5},
            {"fieldName": "tags", "dataType": "Array", "elementDataType": "Int64", "elementTypeParams": {"max_capacity": 8}},
        ]})
    d = t.data("/collections/describe", collectionName=name)
    assert d["load"] == "LoadStateNotLoad" and d["indexes"] == [] and d["enableDynamicField"] is False
    fields = {f["name"]: f for f in d["fields"]}
    assert fields["n"]["nullable"] is True
    assert fields["tags"]["type"] == "Array" and fields["tags"]["elementType"] == "Int64"
    assert fields["price"]["defaultValue"] == {"Data": {"DoubleData": 1.5}}, fields["price"]
    t.refused("/entities/query", 101, "collection not loaded", collectionName=name, filter="n > 1")
    t.call("/indexes/create", collectionName=name, indexParams=[
        {"fieldName": "vector", "indexName": "by_distance", "metricType": "L2", "indexType": "HNSW",
         "params": {"M": 8, "efConstruction": 40}}])
    t.call("/collections/load", collectionName=name)
    wait_loaded(t, name)
    t.call("/entities/insert", collectionName=name, data=[
        {"key": "a", "vector": [1, 2, 3, 4], "n": None, "tags": [1, 2]},
        {"key": "b", "vector": [1, 2, 3, 5], "n": 7, "price": 3, "tags": []}])
    rows = t.data("/entities/query", collectionName=name, filter="key in ['a','b']", consistencyLevel="Strong")
    rows = {row["key"]: row for row in rows}
    assert rows["a"] == {"key": "a", "vector": [1, 2, 3, 4], "n": None, "price": 1.5, "tags": [1, 2]}, rows
    assert rows["b"] == {"key": "b", "vector": [1, 2, 3, 5], "n": 7, "price": 3, "tags": []}, rows
    t.refused("/entities/insert", 1804, "has pass more field without dynamic schema", collectionName=name,
              data=[{"key": "c", "vector": [0, 0, 0, 0], "tags": [], "other": 1}])


@case
def custom_create_with_index_loads(t):
    name = t.name()
    t.call("/collections/create", collectionName=name, schema={"fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}}]},
           indexParams=[{"fieldName": "vector", "indexName": "ix", "metricType": "COSINE", "indexType": "FLAT"}])
    wait_loaded(t, name)
    d = t.data("/collections/describe", collectionName=name)
    assert d["indexes"] == [{"indexName": "ix", "fieldName": "vector", "metricType": "COSINE"}]
    assert d["enableDynamicField"] is False


@case
def create_refused(t):
    name = t.name()
    t.refused("/collections/create", 1802, "Error:Field validation for 'CollectionName' failed on the 'required' tag", dimension=4)
    t.refused("/collections/create", 1100, "dimension is required for quickly create collection(default metric type: COSINE)",
              collectionName=name)
    t.refused("/collections/create", 1100, "the first character of a collection name must be an underscore or letter",
              collectionName="1name", dimension=4)
    t.refused("/collections/create", 1100, "idType can only be [Int64, VarChar], default: Int64", collectionName=name,
              dimension=4, idType="Float")
    t.refused("/collections/create", 1100, "data type int64 is invalid(case sensitive)", collectionName=name,
              schema={"fields": [{"fieldName": "id", "dataType": "int64", "isPrimary": True}]})
    assert t.data("/collections/has", collectionName=name) == {"has": False}
    t.refused("/collections/create", 1802, "hasn't defined in schema", collectionName=name, schema={"fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}}]},
              indexParams=[{"fieldName": "w", "indexName": "w", "metricType": "L2"}])


@case
def list_has_drop(t):
    name = quick(t, 0)
    listed = t.data("/collections/list")
    assert isinstance(listed, list) and name in listed
    assert t.data("/collections/has", collectionName=name) == {"has": True}
    assert t.data("/collections/has", collectionName="rest_missing") == {"has": False}
    assert t.data("/collections/drop", collectionName=name) == {}
    assert t.data("/collections/has", collectionName=name) == {"has": False}
    assert name not in t.data("/collections/list")


@case
def load_and_release(t):
    name = quick(t, 5)
    wait_loaded(t, name)
    assert t.data("/collections/release", collectionName=name) == {}
    assert t.data("/collections/get_load_state", collectionName=name) == {"loadState": "LoadStateNotLoad"}
    t.refused("/entities/search", 101, "collection not loaded", collectionName=name, data=[vec(1)])
    assert t.data("/collections/load", collectionName=name) == {}
    wait_loaded(t, name)
    assert t.call("/collections/get_load_state", collectionName=name)["message"] == ""
    assert t.data("/entities/query", collectionName=name, outputFields=["count(*)"]) == [{"count(*)": 5}]
    t.refused("/collections/get_load_state", 100, "", collectionName="rest_missing")


@case
def stats_and_flush(t):
    name = quick(t, 12)
    assert t.data("/collections/flush", collectionName=name) == {}
    assert t.data("/collections/get_stats", collectionName=name) == {"rowCount": 12}
    assert t.data("/entities/query", collectionName=name, outputFields=["count(*)"]) == [{"count(*)": 12}]


@case
def missing_collection(t):
    for path, body in (("/collections/describe", {}), ("/entities/insert", {"data": [{"id": 1}]}),
                       ("/entities/upsert", {"data": [{"id": 1}]}), ("/entities/delete", {"filter": "id > 0"}),
                       ("/entities/search", {"data": [[1, 2, 3, 4]]})):
        t.refused(path, 100, "can't find collection", collectionName="rest_missing", **body)
    t.refused("/collections/get_stats", 100, "", collectionName="rest_missing")
    t.refused("/collections/describe", 800, "database not found", collectionName="rest_missing", dbName="no_such_db")


@case
def databases_and_partitions(t):
    name = quick(t, 0)
    assert "default" in t.data("/databases/list")
    assert t.data("/databases/describe", dbName="default")["dbName"] == "default"
    assert t.data("/partitions/list", collectionName=name) == ["_default"]
    assert t.data("/partitions/has", collectionName=name, partitionName="_default") == {"has": True}
    assert t.data("/partitions/has", collectionName=name, partitionName="other") == {"has": False}
    assert t.data("/aliases/list", collectionName=name) == []


@case
def database_from_header_or_body(t):
    name = quick(t, 0)
    assert name in t.data("/collections/list", {"DB-Name": "default"})
    t.refused("/collections/describe", 800, "database not found", {"DB-Name": "no_such_db"}, collectionName=name)
    assert t.data("/collections/has", {"DB-Name": "no_such_db"}, collectionName=name, dbName="default") == {"has": True}


# ---- indexes ----

@case
def indexes(t):
    name = t.name()
    t.call("/collections/create", collectionName=name, schema={"fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}}]})
    assert t.data("/indexes/list", collectionName=name) == []
    t.refused("/indexes/describe", 700, "index not found", collectionName=name, indexName="ix")
    assert t.data("/indexes/create", collectionName=name, indexParams=[
        {"fieldName": "vector", "indexName": "ix", "metricType": "IP", "indexType": "IVF_FLAT", "params": {"nlist": 8}}]) == {}
    assert t.data("/indexes/list", collectionName=name) == ["ix"]
    [d] = t.data("/indexes/describe", collectionName=name, indexName="ix")
    assert (d["indexName"], d["fieldName"], d["indexType"], d["metricType"]) == ("ix", "vector", "IVF_FLAT", "IP"), d
    assert d["totalRows"] == 0 and d["indexedRows"] == 0 and d["pendingRows"] == 0 and d["failReason"] == ""
    assert d["indexState"] in ("Finished", "IndexStateNone", "Unissued"), d["indexState"]
    assert d["mmap.enabled"] == "" and isinstance(d["minIndexVersion"], int)
    assert {"key": "metric_type", "value": "IP"} in d["indexParams"]
    t.refused("/indexes/create", 1100, "cannot create index on non-exist field", collectionName=name,
              indexParams=[{"fieldName": "nothing", "indexName": "x", "metricType": "L2"}])
    t.refused("/indexes/create", 1100, "invalid index type: NOPE", collectionName=name,
              indexParams=[{"fieldName": "vector", "indexName": "ix2", "metricType": "L2", "indexType": "NOPE"}])
    assert t.data("/indexes/drop", collectionName=name, indexName="ix") == {}
    assert t.data("/indexes/list", collectionName=name) == []


# ---- entities ----

@case
def insert_upsert_delete(t):
    name = quick(t, 10)
    got = t.call("/entities/upsert", collectionName=name, data=[
        {"id": 3, "vector": [9, 9, 9, 9], "colour": "blue"}, {"id": 77, "vector": [1, 1, 1, 1], "colour": "blue"}])
    assert got["data"] == {"upsertCount": 2, "upsertIds": [3, 77]} and got["cost"] == 0
    rows = t.data("/entities/query", collectionName=name, filter='colour == "blue"', outputFields=["id", "vector"])
    assert rows == [{"id": 3, "vector": [9, 9, 9, 9]}, {"id": 77, "vector": [1, 1, 1, 1]}], rows
    got = t.call("/entities/delete", collectionName=name, filter="id in [77, 4]")
    assert "cost" not in got and got["data"]["deleteCount"] == 2, got
    assert t.data("/entities/query", collectionName=name, outputFields=["count(*)"]) == [{"count(*)": 9}]
    t.refused("/entities/delete", 1802, "'required' tag", collectionName=name)
    t.refused("/entities/delete", 1802, "'required' tag", collectionName=name, filter="")
    t.refused("/entities/delete", 1100, "cannot parse expression", collectionName=name, filter="id ==")


@case
def get_rows(t):
    name = quick(t, 10)
    assert t.data("/entities/get", collectionName=name, id=4, outputFields=["n"]) == [{"id": 4, "n": 4}]
    rows = t.data("/entities/get", collectionName=name, id=[1, "2", 99])
    assert [row["id"] for row in rows] == [1, 2]
    assert rows[0] == {"id": 1, "vector": vec(1), "colour": "green", "n": 1}, rows[0]
    assert t.data("/entities/get", collectionName=name, id=[]) == []
    t.refused("/entities/get", 1806, "please check the primary key and its' type can only in [int, string]",
              collectionName=name, id=["x"])


@case
def query_options(t):
    name = quick(t, 150)
    assert len(t.data("/entities/query", collectionName=name, filter="id >= 0")) == 100
    rows = t.data("/entities/query", collectionName=name, filter="id >= 0", limit=3, offset=5, outputFields=["id"])
    assert rows == [{"id": 5}, {"id": 6}, {"id": 7}], rows
    rows = t.data("/entities/query", collectionName=name, filter="n in {wanted} and colour == {c}", outputFields=["n"],
                  exprParams={"wanted": [1, 2, 3], "c": "green"})
    assert [row["n"] for row in rows] == [1, 3], rows
    assert t.data("/entities/query", collectionName=name, filter="n < 7", outputFields=["count(*)"]) == [{"count(*)": 7}]
    assert t.data("/entities/query", collectionName=name, filter="id > 1000") == []
    t.refused("/entities/query", 1100, "cannot parse expression", collectionName=name, filter="id > ")
    t.refused("/entities/query", 1100, "consistencyLevel can only be [Strong, Session, Bounded, Eventually, Customized], default: Bounded",
              collectionName=name, filter="id > 0", consistencyLevel="strong")


@case
def search_options(t):
    name = quick(t, 120)
    got = t.call("/entities/search", collectionName=name, data=[vec(5)])
    assert len(got["data"]) == 100 and got["topks"] == [100] and got["cost"] == 0
    assert set(got["data"][0]) == {"id", "distance"}
    assert got["data"][0]["distance"] == 0
    got = t.call("/entities/search", collectionName=name, data=[vec(3), vec(11)], limit=4, annsField="vector",
                 filter='colour == "red"', outputFields=["colour", "n"])
    assert got["topks"] == [4, 4] and len(got["data"]) == 8
    reds = range(0, 120, 2)
    for q, start in ((3, 0), (11, 4)):
        rows = got["data"][start:start + 4]
        assert [r["distance"] for r in rows] == [l2(vec(q), vec(i)) for i in nearest(vec(q), reds, 4)], rows
        assert all(r["colour"] == "red" and r["n"] == r["id"] for r in rows)
    page = t.data("/entities/search", collectionName=name, data=[vec(3)], limit=5, offset=5)
    whole = t.data("/entities/search", collectionName=name, data=[vec(3)], limit=10)
    assert page == whole[5:], (page, whole)
    ranged = t.data("/entities/search", collectionName=name, data=[vec(3)], limit=120,
                    searchParams={"params": {"radius": 25.0, "range_filter": 0.2}})
    assert ranged and all(0.2 <= r["distance"] < 25.0 for r in ranged)
    assert len(ranged) == sum(0.2 <= l2(vec(3), vec(i)) < 25.0 for i in range(120))
    ranged = t.data("/entities/search", collectionName=name, data=[vec(3)], limit=120, searchParams={"radius": 10.0})
    assert len(ranged) == sum(l2(vec(3), vec(i)) < 10.0 for i in range(120))
    assert t.data("/entities/search", collectionName=name, data=[vec(3)], limit=1,
                  searchParams={"metric_type": "L2", "ef": 50})[0]["distance"] == 0


@case
def search_refused(t):
    name = quick(t, 5)
    t.refused("/entities/search", 1802, "either 'ids' (for primary key search) or 'data' (for vector search) must be provided",
              collectionName=name)
    t.refused("/entities/search", 1801, "", collectionName=name, data=[[1, 2, 3]])
    t.refused("/entities/search", 1801, "", collectionName=name, data=["text"])
    t.refused("/entities/search", 1100, "is invalid, it should be in range [1, 16384]", collectionName=name, data=[vec(1)], limit=16385)
    t.refused("/entities/search", 1100, "metric type not match", collectionName=name, data=[vec(1)], searchParams={"metric_type": "IP"})
    t.refused("/entities/search", 1100, "ambiguous parameter: ef", collectionName=name, data=[vec(1)],
              searchParams={"ef": 10, "params": {"ef": 11}})
    t.refused("/entities/search", 1100, "must be a dict", collectionName=name, data=[vec(1)], searchParams={"params": 5})


@case
def no_hits_no_topks(t):
    name = quick(t, 0)
    got = t.call("/entities/search", collectionName=name, data=[vec(1)])
    assert got["data"] == [] and "topks" not in got, got


@case
def every_scalar_type(t):
    name = t.name()
    kinds = [("b", "Bool", {}), ("i8", "Int8", {}), ("i16", "Int16", {}), ("i32", "Int32", {}), ("i64", "Int64", {}),
             ("f", "Float", {}), ("d", "Double", {}), ("s", "VarChar", {"max_length": 100}), ("j", "JSON", {})]
    t.call("/collections/create", collectionName=name, schema={"enableDynamicField": True, "fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}}]
        + [{"fieldName": n, "dataType": k, "elementTypeParams": p} for n, k, p in kinds]
        + [{"fieldName": "a", "dataType": "Array", "elementDataType": "VarChar",
            "elementTypeParams": {"max_capacity": 4, "max_length": 10}}]},
           indexParams=[{"fieldName": "vector", "indexName": "v", "metricType": "L2", "indexType": "FLAT"}])
    row = {"id": 1, "vector": [0.5, -1], "b": True, "i8": -128, "i16": 32767, "i32": -2147483648, "i64": 9007199254740993,
           "f": 1.5, "d": 0.1, "s": "Zürich \"日本\"\n", "j": {"x": [1, None, {"y": "z"}], "big": 9007199254740993},
           "a": ["p", "q"], "more": {"k": [1, 2]}, "big": 9007199254740993}
    t.call("/entities/insert", collectionName=name, data=[row])
    [got] = t.data("/entities/get", collectionName=name, id=1, consistencyLevel="Strong")
    assert got == row, got
    # text forms
    t.call("/entities/insert", collectionName=name, data=[dict(row, id=2, b="true", i8="7", i64="010", d="2.5", s=15)])
    [got] = t.data("/entities/get", collectionName=name, id=2, consistencyLevel="Strong",
                   outputFields=["b", "i8", "i64", "d", "s"])
    assert got == {"id": 2, "b": True, "i8": 7, "i64": 10, "d": 2.5, "s": "15"}, got
    for bad in ({"i8": 128}, {"i16": 1.5}, {"f": 1e39}, {"b": "perhaps"}, {"s": {"x": 1}}, {"a": [1, None]}, {"vector": "[1,2]"},
                {"vector": [1, 2, 3]}, {"i64": None}):
        t.refused("/entities/insert", 1804, "fail to deal the insert data", collectionName=name, data=[dict(row, id=3, **bad)])
    short = dict(row, id=3)
    del short["i32"]
    t.refused("/entities/insert", 1804, "i32", collectionName=name, data=[short])
    t.refused("/entities/insert", 1804, "", collectionName=name, data=[])
    t.refused("/entities/insert", 1804, "", collectionName=name, data=[5])
    assert t.data("/entities/query", collectionName=name, outputFields=["count(*)"], consistencyLevel="Strong") == [{"count(*)": 2}]


@case
def every_vector_type(t):
    name = t.name()
    half = lambda xs: base64.b64encode(struct.pack("<%de" % len(xs), *xs)).decode()
    brain = lambda xs: base64.b64encode(b"".join(struct.pack("<f", x)[2:] for x in xs)).decode()
    small = lambda xs: base64.b64encode(struct.pack("<%db" % len(xs), *xs)).decode()
    bits = lambda xs: base64.b64encode(bytes(xs)).decode()
    fields = [("h", "Float16Vector", "L2", 4), ("g", "BFloat16Vector", "L2", 4), ("i", "Int8Vector", "L2", 4),
              ("x", "BinaryVector", "HAMMING", 16), ("s", "SparseFloatVector", "IP", None), ("v", "FloatVector", "L2", 4)]
    t.call("/collections/create", collectionName=name, schema={"fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True}] + [
            {"fieldName": n, "dataType": k, "elementTypeParams": {"dim": d} if d else {}} for n, k, _, d in fields]},
           indexParams=[{"fieldName": n, "indexName": n, "metricType": m} for n, _, m, _ in fields])
    wait_loaded(t, name)
    a, b = [1, 2, 3, 4], [0.5, -1, 2, 8]
    t.call("/entities/insert", collectionName=name, data=[
        {"id": 1, "h": a, "g": a, "i": a, "x": [5, 255], "s": {"3": 1.5, "70000": 2}, "v": a},
        {"id": 2, "h": half(b), "g": brain(b), "i": [-128, 127, 0, 1], "x": bits([250, 0]),
         "s": {"indices": [3, 9], "values": [0.5, 4]}, "v": b}])
    rows = t.data("/entities/query", collectionName=name, filter="id > 0", consistencyLevel="Strong")
    assert rows == [
        {"id": 1, "h": half(a), "g": brain(a), "i": small(a), "x": bits([5, 255]), "s": {"3": 1.5, "70000": 2}, "v": a},
        {"id": 2, "h": half(b), "g": brain(b), "i": small([-128, 127, 0, 1]), "x": bits([250, 0]), "s": {"3": 0.5, "9": 4}, "v": b}], rows
    for field, data, distance in (("h", [b], 0), ("h", [half(b)], 0), ("g", [brain(b)], 0), ("i", [[-128, 127, 0, 1]], 0),
                                  ("x", [bits([250, 0])], 0), ("x", [[250, 0]], 0), ("s", [{"9": 2, "5": 1}], 8), ("v", [b], 0)):
        got = t.data("/entities/search", collectionName=name, annsField=field, data=data, limit=1, consistencyLevel="Strong")
        assert got[0]["id"] == 2 and got[0]["distance"] == distance, (field, data, got)
    t.refused("/entities/search", 1801, "search without annsField, but already found multiple vector fields", collectionName=name, data=[b])
    base = {"id": 3, "h": a, "g": a, "i": a, "x": [5, 255], "s": {"3": 1.5}, "v": a}
    for bad in ({"i": small(a)}, {"i": [1, 2, 3, 200]}, {"x": [1]}, {"x": [1, 256]}, {"h": "@@"}, {"s": {"-1": 2}}, {"v": [1, 2, 3]}):
        t.refused("/entities/insert", 1804, "", collectionName=name, data=[dict(base, **bad)])


# ---- the envelope and its traps ----

@case
def routes(t):
    r = t.transport.request
    for method, path in (("GET", "/v2/vectordb/collections/list"), ("POST", "/v2/vectordb/collections/nothing"), ("POST", "/nowhere"),
                         ("GET", "/")):
        reply = r(method, path, "{}" if method == "POST" else None)
        assert reply.status == 404 and reply.body.startswith(b"404 page not found"), (path, reply.status, reply.body)
        assert reply.headers["content-type"].startswith("text/plain"), reply.headers
    reply = r("OPTIONS", "/v2/vectordb/collections/list")
    assert reply.status == 204 and reply.body == b"", reply.body
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert "PATCH" in reply.headers["access-control-allow-methods"]
    assert "Authorization" in reply.headers["access-control-allow-headers"]
    reply = t.post("/collections/list")
    assert reply.headers["access-control-allow-origin"] == "*" and reply.headers["x-content-type-options"] == "nosniff"


@case
def bodies(t):
    t.refused_text("/collections/list", 1801, "can only accept json format request", "")
    for bad in ("{", "nonsense", '{"collectionName": }', '{"collectionName": "x"', "[]"):
        t.refused_text("/collections/describe", 1801, "can only accept json format request, error:", bad)
    t.refused_text("/collections/describe", 1801, "can only accept json format request", '{"collectionName": 5}')
    t.refused_text("/collections/describe", 1802, "missing required parameters, error: Key:", '{"collectionName": ""}')
    t.refused_text("/collections/describe", 1802, "missing required parameters, error: Key:", "{}")
    reply = t.post("/collections/list", "{}", {"Content-Type": "text/plain"})
    assert reply.json["code"] == 0
    reply = t.post("/collections/list", "{}", {"Authorization": "Bearer root:Milvus"})
    assert reply.json["code"] == 0


@case
def keys_in_any_case(t):
    name = quick(t, 2)
    for body in ({"collectionname": name}, {"COLLECTIONNAME": name, "unknown": 5}):
        assert t.post("/collections/has", body).json == {"code": 0, "data": {"has": True}}
    # the last of two equal keys counts
    text = '{"collectionName": "rest_other", "collectionName": "%s"}' % name
    assert t.post("/collections/has", text).json["data"] == {"has": True}
    # keys of rows and these three are exact
    t.refused("/entities/insert", 1804, "", collectionName=name, data=[{"ID": 5, "vector": vec(1)}])


@case
def big_integers(t):
    name = quick(t, 0)
    big = 9223372036854775807
    t.call("/entities/insert", collectionName=name, data=[{"id": big, "vector": vec(1), "k": 9007199254740993}])
    rows = t.data("/entities/query", collectionName=name, filter="id == %d" % big, outputFields=["id", "k"])
    assert rows == [{"id": big, "k": 9007199254740993}], rows
    assert t.data("/entities/query", collectionName=name, filter="id == %d" % (big - 1)) == []
    text = {"Accept-Type-Allow-Int64": "false"}
    rows = t.data("/entities/get", text, collectionName=name, id=str(big), outputFields=["id"])
    assert rows == [{"id": str(big)}], rows
    got = t.data("/entities/insert", text, collectionName=name, data=[{"id": "12", "vector": vec(1)}])
    assert got["insertIds"] == ["12"], got
    rows = t.data("/entities/search", text, collectionName=name, data=[vec(1)], limit=2)
    assert sorted(row["id"] for row in rows) == sorted(["12", str(big)]), rows
    rows = t.data("/entities/get", {"Accept-Type-Allow-Int64": "maybe"}, collectionName=name, id=12, outputFields=["id"])
    assert rows == [{"id": 12}], rows


@case
def timeouts(t):
    name = quick(t, 1)
    assert t.data("/entities/query", {"Request-Timeout": "10"}, collectionName=name, outputFields=["count(*)"]) == [{"count(*)": 1}]
    t.refused("/entities/query", 1100, "Request-Timeout parse failed", {"Request-Timeout": "soon"}, collectionName=name)


@case
def dynamic_fields(t):
    name = quick(t, 0)
    t.call("/entities/insert", collectionName=name, data=[
        {"id": 1, "vector": vec(1), "x": 1, "y": {"z": [1, "2"]}}, {"id": 2, "vector": vec(2), "w": "only here"}])
    rows = t.data("/entities/query", collectionName=name, filter="id > 0", outputFields=["x", "y"])
    assert rows == [{"id": 1, "x": 1, "y": {"z": [1, "2"]}}, {"id": 2}], rows
    rows = t.data("/entities/query", collectionName=name, filter='w == "only here"')
    assert rows == [{"id": 2, "vector": vec(2), "w": "only here"}], rows
    rows = t.data("/entities/query", collectionName=name, filter='y["z"][0] == 1', outputFields=["id"])
    assert rows == [{"id": 1}], rows
    t.refused("/entities/insert", 1804, "", collectionName=name, data=[{"id": 3, "vector": vec(3), "$meta": {"q": 1}}])


@case
def larger_bodies(t):
    name = quick(t, 0)
    data = [{"id": i, "vector": vec(i), "text": "x" * 500} for i in range(4000)]
    got = t.data("/entities/insert", collectionName=name, data=data)
    assert got["insertCount"] == 4000
    rows = t.data("/entities/query", collectionName=name, filter="id < 3000", outputFields=["text"], limit=3000)
    assert len(rows) == 3000 and all(len(row["text"]) == 500 for row in rows)


@case
def health_and_metrics(t):
    import urllib.request
    assert t.server.http("/healthz") == "OK"
    request = urllib.request.Request("http://%s/healthz" % t.server.metrics, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        state = json.loads(reply.read())
    assert state["state"] == "OK" and all(part["code"] == 1 for part in state["detail"]), state
    text = t.server.http("/metrics")
    assert "# TYPE" in text and "# HELP" in text
