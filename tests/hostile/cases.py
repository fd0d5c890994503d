# SPDX-License-Identifier: Apache-2.0
"""One kind of harm each. A case takes the scene of run.py; it fails by any exception, or by the check that follows it."""
import gzip
import http.client
import json
import os
import random
import struct
import threading
import time

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

import wire
from raw import Client, Refused
from wire import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, H2, PING, PREFACE, PRIORITY, RST, SETTINGS, WINDOW, Socket, frame

HONEST = "honest"
CASES = []
FAR_TOO = ("nested_messages", "hostile_filters", "hostile_rows", "hostile_searches", "truncated_messages", "long_names")
SANE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE)
Pair = common_pb2.KeyValuePair


def case(function):
    CASES.append(function)
    return function


def send_bytes(scene, method, payload, timeout=60):
    """Raw bytes as a request. Returns the gRPC status code's name, or the (code, reason) of the answer's Status."""
    channel = grpc.insecure_channel(scene.address, [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1),
                                                    ("grpc.enable_retries", 0)])
    try:
        reply = channel.unary_unary(wire.SERVICE + method)(payload, timeout=timeout)
    except grpc.RpcError as error:
        assert error.code() in SANE, "%s: %s" % (method, error)
        return error.code().name
    finally:
        channel.close()
    try:
        status = common_pb2.Status.FromString(reply)
        if status.code or status.reason:
            return status.code, status.reason
    except Exception:
        pass
    status = milvus_pb2.MutationResult.FromString(reply).status  # field 1 of all other replies
    return status.code, status.reason


def refused(call, *codes):
    """call() must be refused with one of |codes| (any when none is given) and a sentence of bounded length."""
    try:
        call()
    except Refused as error:
        assert not codes or error.code in codes, "code %d: %s" % (error.code, error.reason[:300])
        assert 5 < len(error.reason) < 16384, "a reason of %d bytes" % len(error.reason)
        return error
    except grpc.RpcError as error:
        assert error.code() in SANE, error
        return error
    raise AssertionError("was not refused")


# ---- messages ----

@case
def nested_messages(scene):
    fields = milvus_pb2.InsertRequest.DESCRIPTOR.fields_by_name["fields_data"].number
    structs = schema_pb2.FieldData.DESCRIPTOR.fields_by_name["struct_arrays"].number
    inner = schema_pb2.StructArrayField.DESCRIPTOR.fields_by_name["fields"].number
    name = wire.field(milvus_pb2.InsertRequest.DESCRIPTOR.fields_by_name["collection_name"].number, HONEST.encode())
    for depth in (50, 200, 5000, 200000):
        got = send_bytes(scene, "Insert", name + wire.field(fields, wire.nest((structs, inner), depth)))
        assert got != (0, ""), "depth %d was taken" % depth
    entry = milvus_pb2.SearchRequest.DESCRIPTOR.fields_by_name["expr_template_values"].number
    array = schema_pb2.TemplateValue.DESCRIPTOR.fields_by_name["array_val"].number
    deeper = schema_pb2.TemplateArrayValue.DESCRIPTOR.fields_by_name["array_data"].number
    more = schema_pb2.TemplateArrayValueArray.DESCRIPTOR.fields_by_name["data"].number
    for depth in (90, 5000, 200000):
        value = wire.nest((array,) + (deeper, more) * 1, depth) if depth < 3 else wire.field(array, wire.nest((deeper, more), depth))
        send_bytes(scene, "Search", wire.field(entry, wire.field(1, b"x") + wire.field(2, value)))
    for junk in (b"\x0b" * 1000000, b"\x0b\x0c" * 100000, b"\x13" * 100000 + b"\x14" * 100000):  # groups in groups
        send_bytes(scene, "Insert", junk)


@case
def truncated_messages(scene):
    whole = milvus_pb2.InsertRequest(collection_name=HONEST, fields_data=Client.columns([1, 2, 3], [1, 1, 1]), num_rows=3)
    whole = whole.SerializeToString()
    search = milvus_pb2.SearchRequest(collection_name=HONEST, dsl="id > 3", placeholder_group=b"\x0a\x05\x0a\x02$0\x10",
                                      search_params=[Pair(key="topk", value="3")]).SerializeToString()
    generator = random.Random(1)
    for method, data in (("Insert", whole), ("Search", search), ("CreateCollection", whole), ("Query", search)):
        for cut in sorted(generator.sample(range(len(data)), min(60, len(data)))):
            got = send_bytes(scene, method, data[:cut])
            if method == "Insert":
                assert got[0] != 0, "cut at %d of %d was taken" % (cut, len(data))
        for _ in range(60):
            flipped = bytearray(data)
            for _ in range(generator.randint(1, 4)):
                flipped[generator.randrange(len(flipped))] = generator.randrange(256)
            if method != "Insert":  # a flipped insert may be a good one
                send_bytes(scene, method, bytes(flipped))


@case
def random_messages(scene):
    generator = random.Random(2)
    names = [m.name for m in milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods]
    for name in names + ["Nothing", "", "Insert/x"]:
        for size in (0, 1, 40, 3000):
            if name.startswith(("Drop", "Flush", "Release")) and size == 0:
                continue
            channel = grpc.insecure_channel(scene.address, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])
            try:
                channel.unary_unary(wire.SERVICE + name)(generator.randbytes(size), timeout=60)
            except grpc.RpcError as error:
                assert error.code() in SANE, "%s: %s" % (name, error)
            finally:
                channel.close()


# ---- requests ----

@case
def hostile_filters(scene):
    c = scene.client
    deep = 100000
    filters = ["(" * deep + "id > 0" + ")" * deep, "(" * deep, "not " * deep + "id > 0", "!" * deep + "(id > 0)", "-" * deep + "1 > id",
               "~" * deep + "1 > id", "id + " * deep + "1 > 0", "id" + " ** id" * deep + " > 1", "[" * deep + "]" * deep,
               "id in " + "[" * deep, "payload == '" + "a" * 5000000 + "'", "payload == '" + "\\" * 100000,
               "payload like '" + "%a" * 30000 + "'", "id / 0 == 1", "id % 0 == 1", "id / (1 - 1) > 0",
               "9223372036854775807 + 1 > id", "-9223372036854775808 / -1 > id", "id ** 400 > 1", "1e999 > id", "id > 0x",
               "id > 99999999999999999999999999", "payload['a']['b'] == 1", "json_contains(" * 10000, "id in []",
               "id == {x}", "{" * deep, "\x00id > 0", "id > 0 \ud83d".encode("utf-8", "ignore").decode(), "é" * 1000, "/*" * deep,
               "id > 0 and" * 10000, "id in [" + "1," * 10, "random_sample(2)", "id is null is null", "\\u" * 1000]
    for text in filters:
        try:
            c.count(HONEST, text)
        except Refused as error:
            assert error.code in (1100, 2000, 2001, 2201), "%d: %s for %.40r" % (error.code, error.reason[:200], text)
            assert 5 < len(error.reason) < 16384, "a reason of %d bytes for %.40r" % (len(error.reason), text)
        except grpc.RpcError as error:
            assert error.code() in SANE, "%s for %.40r" % (error, text)
    # long but harmless ones are fine
    assert c.count(HONEST, " or ".join("id == %d" % i for i in range(1000))) == 1000
    assert c.count(HONEST, "id in [%s]" % ",".join(map(str, range(0, 200000, 2)))) == 1000
    assert c.count(HONEST, "((((((((((id >= 0))))))))))") == 2000


@case
def hostile_rows(scene):
    c = scene.client
    t = schema_pb2.DataType

    def insert(change, rows=2, n=None):
        columns = Client.columns(list(range(rows)), [1] * rows)
        columns = change(columns) or columns
        request = milvus_pb2.InsertRequest(collection_name=HONEST, fields_data=columns, num_rows=rows if n is None else n)
        return lambda: c.call("Insert", request)

    def vectors(values, dim=8):
        def change(columns):
            columns[1].vectors.dim = dim
            columns[1].vectors.float_vector.data[:] = values
        return change

    def kind(index, value):
        def change(columns):
            columns[index].type = value
        return change

    nan, inf = float("nan"), float("inf")
    refused(insert(vectors([1.0] * 14)), 1100)
    refused(insert(vectors([1.0] * 17)), 1100)
    refused(insert(vectors([1.0] * 16, dim=4)), 1100)
    refused(insert(vectors([1.0] * 16, dim=0)), 1100)
    refused(insert(vectors([1.0] * 16, dim=-8)), 1100)
    refused(insert(vectors([1.0] * 16, dim=1 << 62)), 1100)
    refused(insert(vectors([1.0] * 15 + [nan])), 1100)
    refused(insert(vectors([inf] + [1.0] * 15)), 1100)
    refused(insert(vectors([])), 1100)
    refused(insert(lambda columns: None, n=3), 1100)
    refused(insert(lambda columns: None, n=0), 1100)
    refused(insert(lambda columns: None, n=(1 << 32) - 1), 1100)
    refused(insert(lambda columns: columns[:3]), 1100)
    refused(insert(lambda columns: columns + columns[:1]), 1100)
    refused(insert(lambda columns: columns + Client.columns([1, 2], [1, 1])[2:3]), 1100)
    for index in range(4):
        for value in (0, 1, 5, 21, 23, 100, 101, 104, 200, 9999, -1):
            if value != (t.Int64, t.FloatVector, t.Int64, t.VarChar)[index]:
                try:
                    insert(kind(index, value))()
                except (Refused, grpc.RpcError):
                    continue
    for key in (0, 1):  # harmless types may have been taken
        c.upsert(HONEST, [key], [1])

    def text(columns):
        columns[3].scalars.string_data.data[0] = "x" * 2000
    refused(insert(text), 1100)

    def empty(columns):
        columns[0].ClearField("scalars")
    refused(insert(empty), 1100)

    def valid(columns):
        columns[2].valid_data[:] = [True, False]
    refused(insert(valid), 1100)


@case
def bad_utf8(scene):
    request = milvus_pb2.InsertRequest(collection_name=HONEST, fields_data=Client.columns([5], [1]), num_rows=1)
    data = request.SerializeToString().replace(b"5.1.", b"\xff\xfe\xfd\xfc")
    send_bytes(scene, "Upsert", data)
    scene.client.upsert(HONEST, [5], [1])
    send_bytes(scene, "Query", wire.field(3, HONEST.encode()) + wire.field(4, b"payload == '\xff\xfe'") + wire.field(5, b"\xff"))


@case
def hostile_searches(scene):
    c = scene.client

    def search(params, placeholder=None, nq=1, **more):
        holder = placeholder
        if holder is None:
            holder = common_pb2.PlaceholderGroup(placeholders=[common_pb2.PlaceholderValue(
                tag="$0", type=101, values=[np.ones(8, dtype="<f4").tobytes()] * nq)]).SerializeToString()
        base = {"anns_field": "vector", "topk": "3", "metric_type": "L2", "params": "{}"}
        base.update(params)
        return lambda: c.call("Search", milvus_pb2.SearchRequest(
            collection_name=HONEST, placeholder_group=holder, dsl_type=1, nq=nq, consistency_level=0,
            search_params=[Pair(key=k, value=v) for k, v in base.items()], **more))

    def holder(kind, *values):
        return common_pb2.PlaceholderGroup(placeholders=[common_pb2.PlaceholderValue(
            tag="$0", type=kind, values=list(values))]).SerializeToString()

    for topk in ("0", "-1", "16385", "2147483648", "99999999999999999999", "abc", "1e3", "", "3.5"):
        refused(search({"topk": topk}))
    for offset in ("-1", "16384", "9223372036854775807", "x"):
        refused(search({"offset": offset}))
    refused(search({}, nq=16385), 1100)
    for params in ("{", "[]", "{" * 100000, '{"ef":-1}', '{"ef":1e18}', '{"ef":"x"}', '{"radius":"x"}', '{"a":' * 50000):
        try:
            search({"params": params})()
        except Refused as error:
            assert len(error.reason) < 16384, len(error.reason)
    for bad in (b"", b"\xff" * 100, holder(101), holder(101, b""), holder(101, b"abc"), holder(101, b"\0" * 31), holder(101, b"\0" * 33),
                holder(101, b"\0" * 4000000), holder(100, b"\0" * 32), holder(104, b"\0" * 32), holder(0, b"\0" * 32), holder(999, b"\0" * 32),
                holder(101, np.full(8, np.nan, dtype="<f4").tobytes()), holder(21, b"text")):
        refused(search({}, placeholder=bad))
    for more in ({"anns_field": "nothing"}, {"metric_type": "NOPE"}, {"metric_type": "IP"}, {"anns_field": "payload"}):
        refused(search(more))
    refused(search({"group_by_field": "nothing"}))
    refused(search({}, output_fields=["nothing"]), 1100)
    refused(search({}, partition_names=["nothing"]))
    refused(search({}, output_fields=["id"] * 100000 + ["nothing"]))
    search({"topk": "16384"})()
    search({"topk": "1000"}, nq=200)()


@case
def hostile_collections(scene):
    c = scene.client
    f, t = schema_pb2.FieldSchema, schema_pb2.DataType

    def create(fields, name="hostile_c", shards=1, **more):
        schema = schema_pb2.CollectionSchema(name=name, fields=fields, **more).SerializeToString()
        return lambda: c.call("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name=name, schema=schema, shards_num=shards))

    key = f(name="id", data_type=t.Int64, is_primary_key=True)

    def vector(dim, kind=t.FloatVector, name="v"):
        return f(name=name, data_type=kind, type_params=[Pair(key="dim", value=dim)])
    for dim in ("0", "-1", "abc", "", "32769", "99999999999999999999", "1e2", "8.5", "8" * 100000):
        refused(create([key, vector(dim)]), 1100)
    refused(create([key, vector("7", t.BinaryVector)]), 1100)
    refused(create([key, vector("8"), f(name="s", data_type=t.VarChar, type_params=[Pair(key="max_length", value="-5")])]), 1100)
    refused(create([key, vector("8")], shards=1000000), 1100)
    refused(create([key, vector("8")], shards=-1))
    refused(create([vector("8")]))
    refused(create([key, key, vector("8")]))
    refused(create([key] + [vector("8", name="v%d" % i) for i in range(11)]))
    refused(create([key, vector("8")] + [f(name="f%d" % i, data_type=t.Int64) for i in range(5000)]), 1100)
    refused(create([]))
    refused(lambda: c.call("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name="hostile_c", schema=b"\xff" * 1000)))
    refused(lambda: c.call("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name="hostile_c")))
    for kind, params in (("HNSW", '{"M":1000000000}'), ("HNSW", '{"M":-1}'), ("HNSW", '{"efConstruction":1e30}'), ("IVF_FLAT", '{"nlist":1e18}'),
                         ("IVF_FLAT", "{" * 50000), ("N" * 1000000, "{}"), ("", '{"M":}')):
        create([key, vector("8")])()
        refused(lambda: c.call("CreateIndex", milvus_pb2.CreateIndexRequest(
            collection_name="hostile_c", field_name="v", extra_params=[
                Pair(key="index_type", value=kind), Pair(key="metric_type", value="L2"), Pair(key="params", value=params)])))
        c.drop("hostile_c")
    refused(lambda: c.call("CreateIndex", milvus_pb2.CreateIndexRequest(
        collection_name=HONEST, field_name="vector", extra_params=[Pair(key="k%d" % i, value="v" * 100) for i in range(20000)])))


@case
def many_of_everything(scene):
    """What is looked up one by one is bounded before it is looked at."""
    c = scene.client
    n = 200000
    pairs = [Pair(key="k%d" % i, value="v") for i in range(n)]
    members = "{" + ",".join('"a%d":1' % i for i in range(n)) + "}"
    t = schema_pb2.DataType
    column = schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=[1]))
    columns = [schema_pb2.FieldData(field_name="f%d" % i, type=t.Int64, scalars=column) for i in range(n)]
    values = {"t%d" % i: schema_pb2.TemplateValue(int64_val=i) for i in range(n)}

    def search(params):
        return lambda: c.call("Search", milvus_pb2.SearchRequest(collection_name=HONEST, nq=1, search_params=params))

    def query(**more):
        return lambda: c.call("Query", milvus_pb2.QueryRequest(collection_name=HONEST, expr="id > 3", **more))

    for call in (
            search(pairs), search([Pair(key="params", value=members), Pair(key="topk", value="3"), Pair(key="anns_field", value="vector")]),
            query(output_fields=["f%d" % i for i in range(n)]), query(partition_names=["p%d" % i for i in range(n)]),
            lambda: c.call("Insert", milvus_pb2.InsertRequest(collection_name=HONEST, fields_data=columns, num_rows=1)),
            lambda: c.call("CreateIndex", milvus_pb2.CreateIndexRequest(
                collection_name=HONEST, field_name="vector", extra_params=[
                    Pair(key="index_type", value="HNSW"), Pair(key="metric_type", value="L2"), Pair(key="params", value=members)]))):
        refused(call)
    query(query_params=pairs, output_fields=["id"] * n, expr_template_values=values)()


@case
def long_names(scene):
    c = scene.client
    long = "n" * 1000000
    calls = [
        lambda: c.create(long), lambda: c.drop(long + "\x00"), lambda: c.load(long), lambda: c.flush(long),
        lambda: c.insert(long, [1], [1]), lambda: c.delete(long, "id in [1]"), lambda: c.count(long),
        lambda: c.query(HONEST, "id > 0", [long]), lambda: c.count(HONEST, long + " > 3"),
        lambda: c.call("DescribeCollection", milvus_pb2.DescribeCollectionRequest(db_name=long, collection_name=HONEST)),
        lambda: c.call("DescribeCollection", milvus_pb2.DescribeCollectionRequest(collection_name=long)),
        lambda: c.call("HasPartition", milvus_pb2.HasPartitionRequest(collection_name=HONEST, partition_name=long)),
        lambda: c.call("DropIndex", milvus_pb2.DropIndexRequest(collection_name=HONEST, field_name=long, index_name=long)),
        lambda: c.call("Insert", milvus_pb2.InsertRequest(collection_name=HONEST, partition_name=long, num_rows=1,
                                                          fields_data=Client.columns([1], [1]))),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except Refused as error:
            assert 5 < len(error.reason) < 16384, "call %d: a reason of %d bytes" % (number, len(error.reason))
        except grpc.RpcError as error:
            assert error.code() in SANE, "call %d: %s" % (number, error)


# ---- gRPC framing ----

@case
def wrong_lengths(scene):
    good = milvus_pb2.QueryRequest(collection_name=HONEST, expr="id > 3", output_fields=["count(*)"]).SerializeToString()
    for payload in (wire.message(good, length=len(good) + 5), wire.message(good, length=len(good) - 3), wire.message(good, length=0xffffffff),
                    wire.message(good, length=1 << 30), b"", b"\x00", b"\x00\x00\x00", wire.message(good) * 3, wire.message(good, compressed=7),
                    wire.message(good, compressed=1), wire.message(good)[:-1]):
        h = H2(scene.address)
        h.grpc(1, "Query", payload)
        if not payload:
            h.send(frame(DATA, END_STREAM, 1))
        assert h.answer(), "no answer to %.20r" % payload
        h.close()


@case
def oversize_messages(scene):
    for size in (300 << 20, 0xffffffff):  # refused by its length, before the bytes are there
        h = H2(scene.address)
        h.send(frame(HEADERS, END_HEADERS, 1, wire.grpc_headers("Insert")) + frame(DATA, 0, 1, wire.message(b"z" * 1000, length=size)))
        assert h.answer(), "a message of %d bytes is waited for" % size
        h.close()
    # many that stop half way: what is kept of them is bounded
    held = []
    for _ in range(40):
        h = H2(scene.address)
        h.send(frame(HEADERS, END_HEADERS, 1, wire.grpc_headers("Insert")))
        h.send(frame(DATA, 0, 1, wire.message(b"", length=60 << 20)))
        for _ in range(200):
            if not h.send(frame(DATA, 0, 1, b"z" * 16384)):
                break
        held.append(h)
    scene.check()
    for h in held:
        h.close()


@case
def gzip_bombs(scene):
    bomb = gzip.compress(b"\0" * (600 << 20), 9)
    for payload in (bomb, gzip.compress(bomb), b"\x1f\x8b\x08" + os.urandom(1000), bomb[:1000], b""):
        h = H2(scene.address)
        h.grpc(1, "Insert", wire.message(payload, compressed=1), extra=[("grpc-encoding", "gzip")])
        assert h.answer(60), "no answer"
        h.close()
    for encoding in ("deflate", "zstd", "nonsense"):
        h = H2(scene.address)
        h.grpc(1, "Insert", wire.message(bomb[:100], compressed=1), extra=[("grpc-encoding", encoding)])
        assert h.answer(), "no answer"
        h.close()
    # an honest compressed request is understood
    channel = grpc.insecure_channel(scene.address, compression=grpc.Compression.Gzip)
    reply = channel.unary_unary(wire.SERVICE + "GetVersion")(b"", timeout=60)
    assert reply
    channel.close()


@case
def byte_by_byte(scene):
    body = b'{"collectionName":"honest"}'
    request = b"POST /v2/vectordb/collections/has HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    s = Socket(scene.address)
    for i in range(len(request)):
        s.send(request[i:i + 1])
        if i % 16 == 0:
            time.sleep(0.001)
    got = s.read(30, until=b"}}")
    assert b'"has":true' in got, got
    s.close()
    payload = wire.message(milvus_pb2.GetVersionRequest().SerializeToString())
    request = (PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, wire.grpc_headers("GetVersion"))
               + frame(DATA, END_STREAM, 1, payload))
    h = H2.__new__(H2)
    Socket.__init__(h, scene.address)
    for i in range(len(request)):
        h.send(request[i:i + 1])
        if i % 16 == 0:
            time.sleep(0.001)
    assert h.answer() == "end", "no answer to a request sent byte by byte"
    h.close()


# ---- connections ----

@case
def garbage(scene):
    generator = random.Random(3)
    junk = [b"\0" * 5000, b"\xff" * 5000, generator.randbytes(20000), b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600,
            b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n", b"\r\n" * 10000,
            b"GET / HTTP/1.1\r\n" + b"A" * 40000000, b"G" * 1000000, b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100000 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", b"GET /\0 HTTP/1.1\r\n\r\n", b"GET http://x/ HTTP/1.1\r\nHost: y\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: y\r\n\r\n", PREFACE, PREFACE + b"\0" * 5000, PREFACE + b"\xff" * 5000, PREFACE + generator.randbytes(20000)]
    for address in (scene.address, scene.server.metrics):
        for data in junk:
            s = Socket(address)
            s.send(data)
            s.read(0.05)
            s.close()


@case
def http2_abuse(scene):
    big = struct.pack(">I", 0x7fffffff)
    settings = [frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x80000000)), frame(SETTINGS, 0, 0, b"abc"), frame(SETTINGS, 0, 1, b""),
                frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), frame(WINDOW, 0, 0, big) * 2, frame(WINDOW, 0, 0, b"\0\0\0\0"),
                frame(PING, 0, 0, b"12345678") * 20000, frame(SETTINGS, 0, 0) * 20000, frame(99, 255, 7, b"x" * 100) * 1000,
                frame(PRIORITY, 0, 3, b"\0\0\0\x03\x00"), frame(DATA, 0, 1, b"x"), frame(DATA, 0, 0, b"x"), frame(HEADERS, END_HEADERS, 2, b"\x82"),
                frame(CONTINUATION, END_HEADERS, 1, b"\x82"), frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
                frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\xff\xff\x0f"), frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1, b"\x82" * 16000) * 3000,
                frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 100000,
                b"\xff\xff\xff" + b"\0" * 100, frame(HEADERS, END_HEADERS | 8, 1, b"\xff"), frame(RST, 0, 1, b"\0\0\0\0"), frame(7, 0, 0, b"x" * 8)]
    for data in settings:
        h = H2(scene.address)
        h.send(data)
        h.read(0.1)
        h.close()
    # streams opened and reset at once, as fast as they can be sent
    h = H2(scene.address)
    block = wire.grpc_headers("Query")
    sent = b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block) + frame(RST, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(20000))
    h.send(sent)
    h.read(0.2)
    h.close()
    # more streams than allowed, none finished
    h = H2(scene.address)
    h.send(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block) for i in range(5000)))
    h.read(0.2)
    scene.check()
    h.close()
    # empty frames of data without end
    h = H2(scene.address)
    h.send(frame(HEADERS, END_HEADERS, 1, block))
    h.send(frame(DATA, 0, 1) * 200000)
    h.close()


@case
def client_that_never_reads(scene):
    request = wire.message(milvus_pb2.QueryRequest(
        collection_name=HONEST, expr="id >= 0", output_fields=["*"], consistency_level=0,
        query_params=[Pair(key="limit", value="2000")]).SerializeToString())
    held = []
    for _ in range(10):
        h = H2(scene.address, settings=struct.pack(">HI", 4, 0x7fffffff))
        h.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7fff0000)))
        for i in range(90):
            if not h.grpc(2 * i + 1, "Query", request):
                break
        held.append(h)
    time.sleep(1)
    scene.check(held=True)
    for h in held:
        h.close()
    time.sleep(0.5)


@case
def client_that_leaves_at_once(scene):
    request = wire.message(milvus_pb2.QueryRequest(collection_name=HONEST, expr="id >= 0", output_fields=["*"], consistency_level=0,
                                                   query_params=[Pair(key="limit", value="2000")]).SerializeToString())
    for _ in range(300):
        h = H2(scene.address)
        h.grpc(1, "Query", request)
        h.close()
    threads = [threading.Thread(target=_cancel, args=(scene.address,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def _cancel(address):
    client = Client(address)
    for i in range(60):
        future = client.stub.Query.future(milvus_pb2.QueryRequest(
            collection_name=HONEST, expr="payload like '%%%d%%'" % i, output_fields=["*"], consistency_level=0), timeout=5)
        time.sleep(0.001 * (i % 4))
        future.cancel()
    client.close()


@case
def many_connections(scene):
    held = []
    for i in range(900):
        try:
            held.append(Socket(scene.address))
        except OSError:  # no descriptor is left here: some for the honest client
            for s in held[-60:]:
                s.close()
            break
    scene.check()
    for s in held:
        s.close()
    for _ in range(2000):
        Socket(scene.address).close()


@case
def silent_and_slow_connections(scene):
    """Nothing sent, and a head sent a byte at a time: both are let go, and nobody else waits for them."""
    silent = [Socket(scene.address) for _ in range(30)]
    slow = [Socket(scene.address) for _ in range(30)]
    half = H2(scene.address)
    half.send(frame(HEADERS, 0, 1, wire.grpc_headers("Query")[:20]))
    body = Socket(scene.address)
    body.send(b"POST /v2/vectordb/collections/list HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
    head = b"POST /v2/vectordb/collections/list HTTP/1.1\r\nX-Header: " + b"a" * 1000
    end = time.monotonic() + 14
    at = 0
    while time.monotonic() < end:
        alive = [s.send(head[at:at + 1]) for s in slow]
        at += 1
        if not any(alive):
            break
        if at % 10 == 0:
            scene.check()
        time.sleep(0.2)
    assert all(s.closed_within(10) for s in silent), "silent connections are kept"
    assert all(s.closed_within(10) for s in slow), "slow heads are waited for"
    assert half.closed_within(10), "a head that never ends is waited for"
    for s in silent + slow + [half, body]:
        s.close()


# ---- REST ----

@case
def rest_bodies(scene):
    def post(path, body, headers=None):
        host, port = scene.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request("POST", "/v2/vectordb" + path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (ConnectionError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    deep = 200000
    bodies = [b"[" * deep, b'{"a":' * deep, b'{"collectionName":' + b"[" * deep + b"]" * deep + b"}", b'{"collectionName":"' + b"a" * 5000000 + b'"}',
              b'{"collectionName":"\\ud800"}', b'{"collectionName":"\xff\xfe"}', b"\xef\xbb\xbf{}", b"\0" * 1000, b'{"collectionName":"honest","limit":1e999}',
              b'{"collectionName":"honest","limit":99999999999999999999}', b'{"collectionName":"honest","limit":-1}', b'{"collectionName":"honest","limit":1.5}',
              b'{"collectionName":"honest","filter":"' + b"(" * deep + b'"}', b'{"collectionName":"honest","data":' + b"[" * deep,
              b'{"collectionName":"honest","data":[[' + b"1," * 500000 + b"1]]}", b'{"collectionName":"honest","data":[{"id":1,"id":2}]}',
              b'{' + b",".join(b'"k%d":1' % i for i in range(200000)) + b"}", gzip.compress(b"\0" * (50 << 20)),
              b'{"collectionName":"honest","data":[{"id":1e400,"vector":[1e400,0,0,0,0,0,0,0],"gen":0,"payload":"x"}]}']
    for path in ("/collections/describe", "/entities/query", "/entities/search", "/entities/insert", "/collections/create"):
        for body in bodies:
            status, said = post(path, body, {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {})
            assert status in (200, 400, 413), "%s: HTTP %d for %.40r" % (path, status, body)
            if status == 200:
                envelope = json.loads(said)
                assert envelope["code"] != 0 or path != "/entities/insert", "%s took %.60r: %.200r" % (path, body, said)
                assert len(envelope.get("message", "")) < 16384, "a message of %d bytes for %.40r" % (len(envelope["message"]), body)
    status, _ = post("/entities/insert", b"x" * (70 << 20))
    assert status in (0, 200, 413), status
