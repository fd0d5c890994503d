# SPDX-License-Identifier: Apache-2.0
"""Messages that public test suites match as substrings, and their codes."""
import numpy as np
from pymilvus import CollectionSchema, DataType, FieldSchema

from helpers import check_error, count, create, index_of, schema_of, wait_indexed
from runner import case

D = DataType
KEY = ("id", D.INT64, {"is_primary": True})
VECTOR = ("v", D.FLOAT_VECTOR, {"dim": 4})
TAIL = ": invalid parameter[expected=valid index params][actual=invalid index params]"


def raw(fields, **options):
    """A schema that the client does not check first."""
    return CollectionSchema([FieldSchema(n, k, **o) for n, k, o in fields], check_fields=False, **options)


@case
def collection_names(t):
    c, long = t.client, "a" * 256
    schema = schema_of([KEY, VECTOR])
    for name, text in (("12-s", "Invalid collection name: 12-s. the first character of a collection name must be an "
                                "underscore or letter: invalid parameter"),
                       ("a-b", "Invalid collection name: a-b. collection name can only contain numbers, letters and "
                               "underscores"),
                       ("(mn)", "Invalid collection name: (mn). the first character"),
                       ("\u4e2d\u6587", "Invalid collection name"), ("a b", "Invalid collection name"),
                       (long, "the length of a collection name must be less than 255 characters: invalid parameter")):
        check_error(lambda: c.create_collection(name, schema=schema), text, code=1100)
        check_error(lambda: c.create_collection(name, dimension=4), text, code=1100)
        try:
            assert not c.has_collection(name)
        except Exception as error:
            assert "Invalid collection name" in str(error) or "collection not found" in str(error), error
    check_error(lambda: c.drop_collection("1x"), "Invalid collection name: 1x")
    good = t.name() + "_" + "a" * 200
    c.create_collection(good, schema=schema)
    assert c.has_collection(good)
    c.drop_collection(good)


@case
def schemas(t):
    c = t.client

    def refused(fields, *texts, code=None, **options):
        check_error(lambda: c.create_collection(t.name(), schema=raw(fields), **options), *texts, code=code)
    refused([KEY], "schema does not contain vector field", code=1100)
    refused([KEY, ("v", D.FLOAT_VECTOR, {"dim": 1})], "invalid dimension: 1. should be in range 2 ~ 32768")
    refused([KEY, ("v", D.FLOAT_VECTOR, {"dim": 32769})],
            "invalid dimension: 32769 of field v. float vector dimension should be in range 2 ~ 32768")
    refused([KEY, ("v", D.BINARY_VECTOR, {"dim": 9})],
            "invalid dimension: 9 of field v. binary vector dimension should be multiple of 8.")
    refused([KEY, ("v", D.BINARY_VECTOR, {"dim": 262152})], "binary vector dimension should be in range 2 ~ 262144")
    refused([KEY, ("v", D.FLOAT_VECTOR, {})], "dimension is not defined in field type params of field v")
    refused([KEY, VECTOR, ("s", D.VARCHAR, {})], "type param(max_length) should be specified for the field(s) of collection")
    for length in (0, -1, 65536):
        refused([KEY, VECTOR, ("s", D.VARCHAR, {"max_length": length})],
                "the maximum length specified for the field(s) should be in (0, 65535], but got %d instead" % length,
                code=1100)
    for capacity in (0, -1, 4097):
        refused([KEY, VECTOR, ("a", D.ARRAY, {"element_type": D.INT64, "max_capacity": capacity})],
                "the maximum capacity specified for a Array should be in (0, 4096]")
    refused([KEY, VECTOR, ("a", D.ARRAY, {"element_type": D.JSON, "max_capacity": 4})], "element type JSON is not supported")
    refused([KEY, VECTOR, ("x", D.INT64, {}), ("x", D.INT8, {})], "duplicated field name x")
    refused([KEY, VECTOR] + [("f%d" % i, D.INT8, {}) for i in range(300)],
            "maximum field's number should be limited to")
    refused([KEY] + [("v%d" % i, D.FLOAT_VECTOR, {"dim": 4}) for i in range(11)],
            "maximum vector field's number should be limited to")
    for bad, text in (("12x", "The first character of a field name must be an underscore or letter."),
                      ("a-b", "Field name can only contain numbers, letters, and underscores."),
                      ("like", "like is keyword in milvus."), ("and", "and is keyword in milvus."),
                      ("a" * 256, "The length of a field name must be less than 255 characters.")):
        refused([KEY, VECTOR, (bad, D.INT64, {})], "Invalid field name: ", text, "field name invalid[field=", code=1701)
    refused([("id", D.INT64, {"is_primary": True, "nullable": True}), VECTOR], "primary field not support null", code=1100)
    refused([KEY, VECTOR, ("s", D.VARCHAR, {"max_length": 3, "default_value": "long"})],
            "the length (4) of string exceeds max length (3)", code=1100)
    refused([KEY, VECTOR, ("j", D.JSON, {"default_value": 5})], "type not support default_value, type:JSON", code=1100)
    refused([KEY, VECTOR, ("n", D.INT64, {"default_value": 1.5})],
            "of field (n) is not equal to the type(DataType_", code=1100)
    refused([KEY, VECTOR], "maximum shards's number should be limited to 16", num_shards=17)
    refused([KEY, VECTOR], "num_partitions should only be specified with partition key field enabled", num_partitions=5)
    try:
        refused([("id", D.FLOAT, {"is_primary": True}), VECTOR], "")
    except AssertionError:
        raise AssertionError("a float primary key was accepted") from None


@case
def index_parameters(t):
    c, name = t.client, t.name()
    c.create_collection(name, schema=schema_of([KEY, VECTOR, ("b", D.BINARY_VECTOR, {"dim": 16}),
                                                ("s", D.SPARSE_FLOAT_VECTOR, {}), ("i", D.INT8_VECTOR, {"dim": 4})]))

    def refused(field, kind, metric, params, *texts, code=None):
        check_error(lambda: c.create_index(name, index_of([(field, kind, metric, params)])), *texts, code=code)
    refused("nosuch", "FLAT", "L2", {}, "cannot create index on non-exist field: nosuch")
    refused("v", "FOO", "L2", {}, "invalid parameter[expected=valid index][actual=invalid index type: FOO]", code=1100)
    refused("v", "HNSW", "HAMMING", {"M": 8, "efConstruction": 20},
            "float vector index does not support metric type: HAMMING" + TAIL, code=1100)
    refused("v", "FLAT", "FOO", {}, "float vector index does not support metric type: FOO" + TAIL, code=1100)
    refused("v", "FLAT", "l2", {}, "float vector index does not support metric type: l2")
    refused("b", "BIN_FLAT", "L2", {}, "binary vector index does not support metric type: L2" + TAIL, code=1100)
    refused("i", "HNSW", "JACCARD", {"M": 8, "efConstruction": 20}, "int vector index does not support metric type: JACCARD")
    refused("s", "SPARSE_INVERTED_INDEX", "L2", {}, "only IP&BM25 is the supported metric type for sparse index", code=1100)
    refused("s", "SPARSE_INVERTED_INDEX", "BM25", {}, "only BM25 Function output field support BM25 metric type")
    params = c.prepare_index_params()
    params.add_index("v", index_type="HNSW", params={"M": 8, "efConstruction": 20})
    check_error(lambda: c.create_index(name, params), "metric type not set for vector index", code=1100)
    refused("v", "HNSW", "L2", {"M": 1, "efConstruction": 20}, "Out of range in json: param 'M' (1) should be in range [2, 2048]")
    refused("v", "HNSW", "L2", {"M": 4097, "efConstruction": 20}, "param 'M' (4097) should be in range [2, 2048]", TAIL)
    refused("v", "HNSW", "L2", {"M": 8, "efConstruction": 0}, "param 'efConstruction' (0) should be in range [1, 2147483647]")
    refused("v", "HNSW", "L2", {"M": "x", "efConstruction": 20}, "invalid integer value, key: 'M', value: 'x'")
    refused("v", "HNSW", "L2", {"M": 16.5, "efConstruction": 20}, "wrong data type in json, key: 'M', value: '16.5'")
    refused("v", "IVF_FLAT", "L2", {"nlist": 0}, "Out of range in json: param 'nlist' (0) should be in range [1, 65536]")
    refused("v", "IVF_FLAT", "L2", {"nlist": 65537}, "Out of range in json: param 'nlist' (65537)")
    refused("s", "SPARSE_INVERTED_INDEX", "IP", {"drop_ratio_build": 1.0},
            "param 'drop_ratio_build' (1.0) should be in range [0.000000, 1.000000)")
    refused("s", "SPARSE_INVERTED_INDEX", "IP", {"inverted_index_algo": "NONE"}, "sparse inverted index algo NONE not found or not supported")
    refused("i", "IVF_FLAT", "L2", {"nlist": 8}, "data type Int8Vector can't build with this index IVF_FLAT")
    refused("b", "HNSW", "L2", {"M": 8, "efConstruction": 20}, "binary vector index does not support metric type: L2")
    refused("v", "BIN_FLAT", "L2", {}, "can't build with this index BIN_FLAT")
    refused("b", "BIN_IVF_FLAT", "SUBSTRUCTURE", {"nlist": 8}, "SUBSTRUCTURE")
    for bad, text in (("1x", "Invalid index name: 1x. The first character of a index name must be an underscore or letter."),
                      ("a b", "Invalid index name: a b. Index name can only contain numbers, letters, and underscores.")):
        params = c.prepare_index_params()
        params.add_index("v", index_type="FLAT", metric_type="L2", index_name=bad)
        check_error(lambda: c.create_index(name, params), text)
    assert c.list_indexes(name) == []


@case
def inserts(t):
    c = t.client
    name = create(t, [KEY, VECTOR, ("s", D.VARCHAR, {"max_length": 5}), ("n", D.INT8, {}),
                      ("a", D.ARRAY, {"element_type": D.VARCHAR, "max_length": 3, "max_capacity": 2})],
                  [("v", "FLAT", "L2", {})])
    good = {"id": 1, "v": [1, 2, 3, 4], "s": "abc", "n": 1, "a": ["x"]}

    def refused(change, *texts, code=None):
        check_error(lambda: c.insert(name, [good, dict(good, id=2, **change)]), *texts, code=code)
        check_error(lambda: c.upsert(name, [good, dict(good, id=2, **change)]), *texts, code=code)
        assert count(c, name) == 0, "a refused request wrote rows"
    refused({"s": "abcdef"}, "length of varchar field s exceeds max length", "row number: 1, length: 6, max length: 5", code=1100)
    refused({"s": "\u4e16\u4e16"}, "length: 6, max length: 5")
    refused({"a": ["a", "b", "c"]}, "the length (3) of 1th array exceeds max capacity (2)",
            "[expected=valid length array][actual=array length exceeds max capacity]", code=1100)
    refused({"a": ["long"]}, "length of Array array field \"a\" exceeds max length")
    refused({"n": 128}, "the 1th element (128) out of range: [-128, 127]")
    for value, text in ((np.nan, "NaN"), (np.inf, "+Inf"), (-np.inf, "-Inf")):
        refused({"v": [1.0, 2.0, float(value), 4.0]}, "value '%s' is not a number or infinity" % text)
    for vector in ([1.0, 2.0], [1.0] * 5):
        check_error(lambda: c.insert(name, [dict(good, v=vector)]), "")
    c.insert(name, [good])
    assert count(c, name) == 1
    check_error(lambda: c.insert(name, [{"id": 3, "v": [1, 2, 3, 4], "s": "a", "n": 1}]), "a")
    check_error(lambda: c.insert(name, [dict(good, unknown=5)]), "unknown")
    dynamic = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})], dynamic=True)
    check_error(lambda: c.insert(dynamic, [{"id": 1, "v": [1, 2, 3, 4], "big": "x" * 70000}]), "exceeds max length")


@case
def sparse_rows(t):
    c = t.client
    name = create(t, [KEY, ("v", D.SPARSE_FLOAT_VECTOR, {})], [("v", "SPARSE_INVERTED_INDEX", "IP", {})])
    for row in ({0: float("nan")}, {1: float("inf")}, {1: -1.0}):
        try:
            c.insert(name, [{"id": 1, "v": row}])
        except Exception as error:
            assert str(error)
        else:
            raise AssertionError("accepted: %r" % row)
    c.insert(name, [{"id": 1, "v": {0: 1.0, 4294967294: 2.0}}, {"id": 2, "v": {7: 0.5}}])
    found = c.search(name, data=[{4294967294: 1.0, 3: 9.0}], limit=5, output_fields=["v"])[0]
    assert [(h["id"], h["distance"]) for h in found] == [(1, 2.0)], found
    assert dict(found[0]["entity"]["v"]) == {0: 1.0, 4294967294: 2.0}, found
    assert len(c.search(name, data=[{5: 1.0}], limit=5)[0]) == 0


@case
def searches(t):
    c = t.client
    name = create(t, [KEY, VECTOR, ("b", D.BINARY_VECTOR, {"dim": 8})], [("v", "HNSW", "L2", {"M": 8, "efConstruction": 40}),
                                                                      ("b", "BIN_FLAT", "HAMMING", {})])
    c.insert(name, [{"id": i, "v": [i, 1, 2, 3], "b": bytes([i % 256])} for i in range(2000)])
    c.flush(name)
    wait_indexed(c, name, "v", 2000)
    query = [[1, 1, 2, 3]]

    def refused(*texts, code=None, data=query, anns_field="v", limit=3, **options):
        check_error(lambda: c.search(name, data=data, anns_field=anns_field, limit=limit, **options), *texts, code=code)
    refused("topk [16385] is invalid, it should be in range [1, 16384], but got 16385", limit=16385)
    refused("nq [16385] is invalid, nq (number of search vector per search request) should be in range [1, 16384], "
            "but got 16385", data=query * 16385)
    refused("offset+topk [16390] is invalid, it should be in range [1, 16384], but got 16390", limit=6,
            search_params={"offset": 16384})
    refused("is invalid, it should be in range [1, 16384]", search_params={"offset": 16385})
    refused("cannot parse expression: nosuch >", filter="nosuch >")
    refused("metric type not match: invalid parameter[expected=HAMMING][actual=JACCARD]", data=[b"\x01"], anns_field="b",
            search_params={"metric_type": "JACCARD"}, code=1100)
    refused("Out of range in json: param 'ef' (0) should be in range [1, 2147483647]", search_params={"params": {"ef": 0}})
    refused("Type conflict in json: param 'ef' (32.5) should be integer", search_params={"params": {"ef": 32.5}})
    refused("ef(5) should be larger than k(10)", limit=10, search_params={"params": {"ef": 5}})
    refused("field nosuch not exist", output_fields=["nosuch"])
    refused("type must be number", search_params={"params": {"radius": "x"}})
    refused("hints", search_params={"hints": "nosuch"})
    refused("", search_params={"params": {"radius": [1]}})
    c.search(name, data=query, anns_field="v", limit=3, search_params={"hints": "iterative_filter", "params": {"unknown": 5}})
    assert len(c.search(name, data=query, anns_field="v", limit=2000, search_params={"params": {"ef": 2000}})[0]) == 2000
    assert len(c.search(name, data=query * 100, anns_field="v", limit=3)) == 100
    # the window is what ef is held against, and only where a graph is searched
    refused("ef(12) should be larger than k(13)", limit=10, search_params={"offset": 3, "params": {"ef": 12}})
    assert len(c.search(name, data=query, anns_field="v", limit=10, search_params={"offset": 3, "params": {"ef": 13}})[0]) == 10
    pages = c.search_iterator(name, data=query, anns_field="v", batch_size=100, limit=300,
                              search_params={"metric_type": "L2", "params": {"ef": 20}})
    seen = [len(pages.next()) for _ in range(3)]
    pages.close()
    assert seen == [100, 100, 100], seen


@case
def queries(t):
    c = t.client
    name = create(t, [KEY, VECTOR], [("v", "FLAT", "L2", {})])
    c.insert(name, [{"id": i, "v": [i, 1, 2, 3]} for i in range(20)])
    check_error(lambda: c.query(name, filter=""), "empty expression should be used with limit: invalid parameter", code=1100)
    check_error(lambda: c.query(name, filter="id > 0", limit=0), "limit")
    check_error(lambda: c.query(name, filter="id > 0", limit=-1), "limit")
    check_error(lambda: c.query(name, filter="id > 0", limit=16385),
                "invalid max query result window, (offset+limit) should be in range [1, 16384], but got 16385")
    check_error(lambda: c.query(name, filter="id > 0", limit=5, offset=16384), "(offset+limit) should be in range [1, 16384]")
    check_error(lambda: c.query(name, filter="id > 0", limit=5, offset=-1), "offset")
    check_error(lambda: c.query(name, filter="", output_fields=["count(*)"], limit=5),
                "count entities with pagination is not allowed", code=1100)
    assert c.query(name, filter="id > 4", output_fields=["count(*)"])[0]["count(*)"] == 15
    assert [r["id"] for r in c.query(name, filter="id >= 0", limit=4, offset=18)] == [18, 19]
    assert [r["id"] for r in c.query(name, filter="id in [9, 3, 5]")] == [3, 5, 9]
    assert [r["id"] for r in c.query(name, ids=[9, 3])] == [3, 9]
    check_error(lambda: c.delete(name, filter=""), "")
    check_error(lambda: c.delete(name, filter="id"), "predicate is not a boolean expression")
    check_error(lambda: c.delete(name, filter="id > 'x'"), "comparisons between Int64 and VarChar are not supported")
    check_error(lambda: c.query(name, filter="id like 'x'"), "like operation on non-string or no-json field is unsupported")
    check_error(lambda: c.query(name, filter="id in 5"), "the right-hand side of 'in' must be a list")
    check_error(lambda: c.query(name, filter="id in ['a']"), "value '", "in list cannot be casted to Int64")
    check_error(lambda: c.query(name, filter="id / 0 == 1"), "by zero")
