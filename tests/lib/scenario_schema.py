# SPDX-License-Identifier: Apache-2.0
"""Every field type there and back: schema, insert, get, nulls, defaults, dynamic keys, flushed or not."""
import json

import numpy as np
from pymilvus import DataType

import vectors
from helpers import check_error, count, create, ids_where, index_of, rows_equal, schema_of
from runner import case

D = DataType
SCALARS = [
    ("b", D.BOOL, {}), ("i8", D.INT8, {}), ("i16", D.INT16, {}), ("i32", D.INT32, {}), ("i64", D.INT64, {}),
    ("f", D.FLOAT, {}), ("d", D.DOUBLE, {}), ("s", D.VARCHAR, {"max_length": 200}), ("j", D.JSON, {}),
]
ELEMENTS = [
    ("ab", D.BOOL), ("ai8", D.INT8), ("ai16", D.INT16), ("ai32", D.INT32), ("ai64", D.INT64), ("af", D.FLOAT),
    ("ad", D.DOUBLE), ("as_", D.VARCHAR),
]
VECTORS = [
    ("vf", D.FLOAT_VECTOR, 8), ("vh", D.FLOAT16_VECTOR, 8), ("vb", D.BFLOAT16_VECTOR, 8), ("vi", D.INT8_VECTOR, 8),
    ("vx", D.BINARY_VECTOR, 16), ("vs", D.SPARSE_FLOAT_VECTOR, 100),
]
INDEXES = {
    D.FLOAT_VECTOR: ("HNSW", "L2", {"M": 8, "efConstruction": 64}),
    D.FLOAT16_VECTOR: ("IVF_FLAT", "IP", {"nlist": 8}),
    D.BFLOAT16_VECTOR: ("FLAT", "COSINE", {}),
    D.INT8_VECTOR: ("HNSW", "COSINE", {"M": 8, "efConstruction": 64}),
    D.BINARY_VECTOR: ("BIN_FLAT", "HAMMING", {}),
    D.SPARSE_FLOAT_VECTOR: ("SPARSE_INVERTED_INDEX", "IP", {}),
}


def vector_field(name, kind, dim):
    return (name, kind, {} if kind == D.SPARSE_FLOAT_VECTOR else {"dim": dim})


def array_field(name, kind, **options):
    if kind == D.VARCHAR:
        options["max_length"] = 50
    return (name, D.ARRAY, dict(element_type=kind, max_capacity=16, **options))


def scalar_row(i):
    return {
        "b": i % 2 == 0, "i8": i % 256 - 128, "i16": -32768 + i * 7, "i32": -2**31 + i, "i64": 2**63 - 1 - i,
        "f": float(np.float32(i / 3)), "d": i / 7, "s": "text %d \u00e9\u4e16\U0001f600" % i if i % 5 else "",
        "j": [{"a": i, "b": {"c": [1, 2.5, None, "x"]}}, [i, "list"], '"plain"', i, 1.5, True, {"null": None}, {}][i % 8],
    }


def element(kind, i, k):
    return {D.BOOL: (i + k) % 2 == 0, D.INT8: (i * k) % 127 - 60, D.INT16: i - k * 300, D.INT32: i * 100000 + k,
            D.INT64: 2**60 + i - k, D.FLOAT: float(np.float32(i / (k + 1))), D.DOUBLE: i / (k + 3),
            D.VARCHAR: "e%d-%d\u00fc" % (i, k)}[kind]


def array_row(i):
    return {name: [element(kind, i, k) for k in range(i % 5)] for name, kind in ELEMENTS}


def make_vectors(n, seed):
    rng = np.random.default_rng(seed)
    return {name: vectors.make(kind, n, dim, rng) for name, kind, dim in VECTORS}


def split(n, size):
    return [range(a, min(n, a + size)) for a in range(0, n, size)]


def check_row(got, want, where):
    for key, value in want.items():
        kind = next((k for n, k, _ in VECTORS if n == key), None)
        if kind is None:
            value = json.loads(value) if key == "j" and isinstance(value, str) else value
            assert key in got and rows_equal(got[key], value), "%s.%s: %r instead of %r" % (where, key, got.get(key), value)
        elif kind == D.SPARSE_FLOAT_VECTOR:
            have = vectors.plain(kind, got[key])
            assert have.keys() == value.keys() and all(abs(have[k] - value[k]) < 1e-6 for k in have), \
                "%s.%s: %r instead of %r" % (where, key, have, value)
        else:
            have = vectors.plain(kind, got[key])
            sent = vectors.plain(kind, value)
            assert np.array_equal(have, sent), "%s.%s: %r instead of %r" % (where, key, have, sent)


@case
def scalars_and_arrays_there_and_back(t):
    fields = ([("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 4})] + SCALARS +
              [array_field(*e) for e in ELEMENTS])
    name = create(t, fields, [("v", "FLAT", "L2", {})], dynamic=True)
    c = t.client
    want = [dict(scalar_row(i), **array_row(i), id=i, v=[float(i), 0.5, 0.25, 1.0], extra=[i, {"deep": i}], word="w%d" % i)
            for i in range(80)]
    c.insert(name, want[:50])
    c.flush(name)
    c.insert(name, want[50:])
    rows = c.query(name, filter="id >= 0", output_fields=["*"])
    assert len(rows) == 80
    for row in rows:
        check_row(row, want[row["id"]], "row %d" % row["id"])
    found = c.search(name, data=[[3.0, 0.5, 0.25, 1.0], [60.0, 0.5, 0.25, 1.0]], anns_field="v", limit=1,
                     output_fields=["*"])
    for one, key in zip(found, (3, 60)):
        assert one[0]["id"] == key
        check_row(one[0]["entity"], {k: v for k, v in want[key].items() if k != "id"}, "hit %d" % key)
    # only the dynamic keys asked for
    row = c.query(name, filter="id == 7", output_fields=["word"])[0]
    assert row == {"id": 7, "word": "w7"}, row
    row = c.get(name, ids=[55], output_fields=["i8", "extra"])[0]
    assert row == {"id": 55, "i8": want[55]["i8"], "extra": want[55]["extra"]}, row


@case
def every_vector_type_with_every_index(t):
    c, n = t.client, 60
    # a collection holds at most ten vector fields here, four in the 2.6 line
    for group in (VECTORS[:3], VECTORS[3:]):
        name = create(t, [("id", D.INT64, {"is_primary": True})] + [vector_field(*v) for v in group],
                      [(f, *INDEXES[k]) for f, k, _ in group])
        data = make_vectors(n, 5)
        rows = [dict({f: data[f].sent[i] for f, _, _ in group}, id=i) for i in range(n)]
        c.insert(name, rows[:30])
        c.flush(name)
        c.insert(name, rows[30:])
        for row in c.query(name, filter="id in [0, 17, 29, 30, 59]", output_fields=["*"]):
            check_row(row, rows[row["id"]], "row %d" % row["id"])
        for field, kind, dim in group:
            description = c.describe_index(name, field)
            assert description["index_type"] == INDEXES[kind][0], description
            assert description["metric_type"] == INDEXES[kind][1], description
            for i in (3, 44):
                found = c.search(name, data=[data[field].sent[i]], anns_field=field, limit=1, output_fields=[field],
                                 search_params={"params": {"nprobe": 8, "ef": 64}})[0]
                if INDEXES[kind][1] != "IP":
                    assert found[0]["id"] == i, (field, i, found)
                check_row(found[0]["entity"], {field: data[field].sent[found[0]["id"]]}, field)
        with_many = check_error(lambda: c.search(name, data=[data[group[0][0]].sent[0]], limit=1),
                                "multiple anns_fields exist, please specify a anns_field in search_params")
        assert with_many


@case
def nulls_and_defaults(t):
    c = t.client
    kinds = SCALARS[:8]
    # the client tells the width of a default by numpy's types
    defaults = {"b": True, "i8": np.int8(-5), "i16": np.int16(300), "i32": np.int32(70000), "i64": 2**40, "f": 1.5, "d": 2.25,
                "s": "given"}
    fields = ([("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 2})] +
              [("n_" + n, k, dict(o, nullable=True)) for n, k, o in SCALARS] +
              [("d_" + n, k, dict(o, default_value=defaults[n])) for n, k, o in kinds] +
              [("e_" + n, k, dict(o, nullable=True, default_value=defaults[n])) for n, k, o in kinds] +
              [array_field("n_" + n, k, nullable=True) for n, k in ELEMENTS])
    name = create(t, fields, [("v", "FLAT", "L2", {})])
    full = {}
    for i in range(20):
        row = {"id": i, "v": [i, 0]}
        if i % 2:  # odd: everything given; even: nothing
            row.update({"n_" + k: v for k, v in scalar_row(i).items()})
            row.update({"d_" + k: v for k, v in scalar_row(i).items() if k != "j"})
            row.update({"e_" + k: v for k, v in scalar_row(i).items() if k != "j"})
            row.update({"n_" + k: v for k, v in array_row(i).items()})
        elif i % 4 == 0:  # null given in words
            row.update({"n_" + k: None for k, _, _ in SCALARS})
            row.update({"e_" + k: None for k, _, _ in kinds})
            row.update({"n_" + k: None for k, _ in ELEMENTS})
        full[i] = row
        c.insert(name, [row])
        if i == 9:
            c.flush(name)
    for row in c.query(name, filter="id >= 0", output_fields=["*"]):
        i = row["id"]
        for n, _, _ in SCALARS:
            if i % 2:
                if full[i]["n_" + n] is not None and n != "j":
                    assert rows_equal(row["n_" + n], full[i]["n_" + n]), (i, n, row["n_" + n])
            else:
                assert row["n_" + n] is None, (i, n, row["n_" + n])
        for n, _, _ in kinds:
            want = full[i]["d_" + n] if i % 2 else defaults[n]
            assert rows_equal(row["d_" + n], want), (i, n, row["d_" + n], want)
            assert rows_equal(row["e_" + n], want), (i, n, row["e_" + n], want)
        for n, _ in ELEMENTS:
            want = full[i].get("n_" + n)
            assert (row["n_" + n] is None) == (want is None), (i, n, row["n_" + n])
            assert want is None or rows_equal(row["n_" + n], want), (i, n, row["n_" + n])
    evens, odds = [i for i in range(20) if i % 2 == 0], [i for i in range(20) if i % 2]
    for n, _, _ in SCALARS:
        if n != "j":
            assert ids_where(c, name, "n_%s is null" % n) == evens, n
            assert ids_where(c, name, "n_%s is not null" % n) == odds, n
    for n, _ in ELEMENTS:
        assert ids_where(c, name, "n_%s is null" % n) == evens, n
    assert ids_where(c, name, "d_i64 is null") == []


@case
def describe_tells_the_schema(t):
    c = t.client
    name = t.name()
    schema = schema_of([("key", D.VARCHAR, {"is_primary": True, "max_length": 77, "description": "the key"}),
                        ("v", D.FLOAT_VECTOR, {"dim": 6}), ("x", D.BINARY_VECTOR, {"dim": 32}),
                        ("sp", D.SPARSE_FLOAT_VECTOR, {}), ("n", D.INT32, {"nullable": True, "default_value": np.int32(7)}),
                        array_field("a", D.VARCHAR)], dynamic=True, description="what it is for")
    c.create_collection(name, schema=schema, consistency_level="Eventually")
    d = c.describe_collection(name)
    assert d["collection_name"] == name and d["description"] == "what it is for"
    assert d["enable_dynamic_field"] is True and d["auto_id"] is False
    assert d["consistency_level"] == 3 and d["num_shards"] == 1 and d["num_partitions"] == 1, d
    assert d["aliases"] == [] and d["collection_id"] > 0
    fields = {f["name"]: f for f in d["fields"]}
    assert [f["name"] for f in d["fields"]] == ["key", "v", "x", "sp", "n", "a"]
    assert [f["field_id"] for f in d["fields"]] == list(range(100, 106))
    assert fields["key"]["type"] == D.VARCHAR and int(fields["key"]["params"]["max_length"]) == 77
    assert fields["key"]["is_primary"] and fields["key"]["description"] == "the key"
    assert int(fields["v"]["params"]["dim"]) == 6 and int(fields["x"]["params"]["dim"]) == 32
    assert "dim" not in fields["sp"]["params"] and fields["n"]["nullable"] is True
    assert fields["a"]["element_type"] == D.VARCHAR and int(fields["a"]["params"]["max_capacity"]) == 16
    # the same again is no error, another schema is
    c.create_collection(name, schema=schema, consistency_level="Eventually")
    other = schema_of([("key", D.VARCHAR, {"is_primary": True, "max_length": 78}), ("v", D.FLOAT_VECTOR, {"dim": 6})])
    check_error(lambda: c.create_collection(name, schema=other),
                "create duplicate collection with different parameters, collection: " + name)
    stamp = int(d.get("update_timestamp", d.get("created_timestamp", 1)))
    assert stamp > 0


@case
def shards_keep_every_row(t):
    c = t.client
    name = t.name()
    c.create_collection(name, schema=schema_of([("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 2}),
                                                ("n", D.INT32, {"nullable": True})]),
                        index_params=index_of([("v", "FLAT", "L2", {})]), num_shards=3, consistency_level="Strong")
    assert c.describe_collection(name)["num_shards"] == 3
    answer = c.insert(name, [{"id": i, "v": [i, 0], "n": None if i % 3 == 0 else i} for i in range(200)])
    assert list(answer["ids"]) == list(range(200))
    c.flush(name)
    c.upsert(name, [{"id": i, "v": [i, 1], "n": -i} for i in range(50, 70)])
    c.delete(name, ids=list(range(10)))
    assert ids_where(c, name, "id >= 0") == list(range(10, 200))
    assert count(c, name) == 190
    found = c.search(name, data=[[100, 0]], limit=5)[0]
    assert [hit["id"] for hit in found] == [100, 99, 101, 98, 102], found
    rows = c.query(name, filter="", limit=7, offset=30)
    assert [row["id"] for row in rows] == list(range(40, 47)), rows
    assert ids_where(c, name, "n is null") == [i for i in range(12, 200, 3) if not 50 <= i < 70]


@case
def sizes_at_the_limit(t):
    c = t.client
    name = create(t, [("id", D.VARCHAR, {"is_primary": True, "max_length": 65535}),
                      ("v", D.FLOAT_VECTOR, {"dim": 32768}), ("s", D.VARCHAR, {"max_length": 4}), ("j", D.JSON, {})],
                  [("v", "FLAT", "L2", {})])
    key = "k" * 65535
    rng = np.random.default_rng(3)
    v = rng.random(32768).astype(np.float32)
    c.insert(name, [{"id": key, "v": v, "s": "\u00e9\u00e9", "j": {"x": "y" * 60000}}])
    row = c.get(name, ids=[key])[0]
    assert row["id"] == key and np.array_equal(np.asarray(row["v"], np.float32), v) and len(row["j"]["x"]) == 60000
    small = {"id": "a", "v": v, "s": "", "j": 1}
    check_error(lambda: c.insert(name, [dict(small, s="abc\u00e9")]), "exceeds max length")
    check_error(lambda: c.insert(name, [dict(small, id=key + "k")]), "exceeds max length")
    check_error(lambda: c.insert(name, [dict(small, j={"x": "y" * 70000})]), "exceeds max length")
    assert count(c, name) == 1


@case
def large_batches(t):
    c = t.client
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 64}),
                      ("s", D.VARCHAR, {"max_length": 100})], [("v", "FLAT", "L2", {})])
    rng = np.random.default_rng(4)
    data = rng.random((12000, 64), dtype=np.float32)
    for part in split(12000, 6000):
        c.insert(name, [{"id": i, "v": data[i], "s": "s%d" % i} for i in part])
    assert count(c, name) == 12000
    rows = c.query(name, filter="id >= 0", output_fields=["v"], limit=12000)
    assert len(rows) == 12000 and [r["id"] for r in rows] == list(range(12000))
    assert np.array_equal(np.asarray(rows[11999]["v"], np.float32), data[11999])
    assert c.delete(name, filter="id % 2 == 1")["delete_count"] == 6000
    assert count(c, name) == 6000
