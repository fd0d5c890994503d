# SPDX-License-Identifier: Apache-2.0
"""insert.py ADDRESS FOLDER BATCHES ROWS DIM: see run.sh. Requests are encoded before the clock starts."""
import os
import statistics
import sys
import threading
import time

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

NAME = "bench_insert"
SERVICE = "/milvus.proto.milvus.MilvusService/"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
VISIBLE_TRIES = 60


def caller(address, method):
    return grpc.insecure_channel(address, OPTIONS).unary_unary(SERVICE + method)


def checked(reply, kind):
    status = kind.FromString(reply)
    status = status if kind is common_pb2.Status else status.status
    if status.code or status.error_code:
        raise SystemExit("code %d: %s" % (status.code, status.reason))


def create(address, dim):
    f, t, pair = schema_pb2.FieldSchema, schema_pb2.DataType, common_pb2.KeyValuePair
    schema = schema_pb2.CollectionSchema(name=NAME, fields=[
        f(name="id", data_type=t.Int64, is_primary_key=True),
        f(name="vector", data_type=t.FloatVector, type_params=[pair(key="dim", value=str(dim))])])
    caller(address, "DropCollection")(milvus_pb2.DropCollectionRequest(collection_name=NAME).SerializeToString())
    checked(caller(address, "CreateCollection")(milvus_pb2.CreateCollectionRequest(
        collection_name=NAME, schema=schema.SerializeToString(), shards_num=1).SerializeToString()), common_pb2.Status)
    checked(caller(address, "CreateIndex")(milvus_pb2.CreateIndexRequest(
        collection_name=NAME, field_name="vector", extra_params=[
            pair(key="index_type", value="FLAT"), pair(key="metric_type", value="L2")]).SerializeToString()), common_pb2.Status)
    checked(caller(address, "LoadCollection")(milvus_pb2.LoadCollectionRequest(collection_name=NAME).SerializeToString()),
            common_pb2.Status)


def request(first, rows, dim, rng):
    t, s = schema_pb2.DataType, schema_pb2
    return milvus_pb2.InsertRequest(collection_name=NAME, num_rows=rows, fields_data=[
        s.FieldData(type=t.Int64, field_name="id", scalars=s.ScalarField(long_data=s.LongArray(data=range(first, first + rows)))),
        s.FieldData(type=t.FloatVector, field_name="vector", vectors=s.VectorField(
            dim=dim, float_vector=s.FloatArray(data=rng.random(rows * dim, dtype=np.float32))))]).SerializeToString()


def insert_all(address, requests, clients):
    """Seconds until every request is acknowledged, and the time of each."""
    todo = list(reversed(requests))
    times = []

    def client():
        call = caller(address, "Insert")
        while True:
            try:
                data = todo.pop()
            except IndexError:
                return
            begin = time.perf_counter()
            checked(call(data), milvus_pb2.MutationResult)
            times.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, times


def disk(folder, requests):
    """The same bytes appended to a preallocated file, one fdatasync per request."""
    path = os.path.join(folder, "raw")
    total = sum(len(r) for r in requests)
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.posix_fallocate(handle, 0, total)
    os.fsync(handle)
    times = []
    begin = time.perf_counter()
    for data in requests:
        start = time.perf_counter()
        os.write(handle, data)
        os.fdatasync(handle)
        times.append(time.perf_counter() - start)
    took = time.perf_counter() - begin
    os.close(handle)
    os.unlink(path)
    return took, times


def visible(address, level, dim, first, rng):
    """Median and longest milliseconds from the acknowledge of one row until a query at |level| returns it."""
    insert, query = caller(address, "Insert"), caller(address, "Query")
    found = []
    for i in range(VISIBLE_TRIES):
        checked(insert(request(first + i, 1, dim, rng)), milvus_pb2.MutationResult)
        ask = milvus_pb2.QueryRequest(collection_name=NAME, expr="id in [%d]" % (first + i), output_fields=["id"],
                                      consistency_level=level).SerializeToString()
        begin = time.perf_counter()
        while True:
            reply = milvus_pb2.QueryResults.FromString(query(ask))
            if reply.fields_data and reply.fields_data[0].scalars.long_data.data:
                break
        found.append((time.perf_counter() - begin) * 1000)
    return statistics.median(found), max(found)


def main():
    address, folder, batches, rows, dim = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    rng = np.random.default_rng(1)
    create(address, dim)
    requests = [request(i * rows, rows, dim, rng) for i in range(batches)]
    size = sum(len(r) for r in requests)
    insert_all(address, requests[:5], 1)
    disk(folder, requests[:5])
    print("| | rows/s | MB/s | median ms a batch | longest |")
    print("| --- | --- | --- | --- | --- |")

    def line(name, took, times):
        print("| %s | %.0f | %.0f | %.1f | %.1f |" % (name, batches * rows / took, size / took / 1e6,
                                                      statistics.median(times) * 1000, max(times) * 1000), flush=True)

    disk_rates = []
    rates = {}
    for clients in (1, 2, 4):
        took, times = disk(folder, requests)
        disk_rates.append(size / took)
        line("write + fdatasync", took, times)
        took, times = insert_all(address, requests, clients)
        rates[clients] = size / took
        line("insert, %d client%s" % (clients, "s" if clients > 1 else ""), took, times)
    print()
    median = statistics.median(disk_rates)
    print("Share of the disk's bandwidth: " + ", ".join("%.0f %% with %d client%s" % (
        100 * rate / median, n, "s" if n > 1 else "") for n, rate in rates.items()) + ".")
    for name, level in (("Strong", 0), ("Bounded", 2)):
        print("Acknowledged to visible, %s: median %.1f ms, longest %.1f ms of %d." % (
            (name,) + visible(address, level, dim, 10 ** 9 + level * 1000, rng) + (VISIBLE_TRIES,)))


main()
