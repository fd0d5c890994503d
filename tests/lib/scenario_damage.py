# SPDX-License-Identifier: Apache-2.0
"""
Bytes that rot on disk: a column that is damaged is refused with a sentence that says whose it is and what helps, all
else of the segment, of the collection and of the server goes on, and no file of data is ever thrown away.
"""
import glob
import os

import numpy as np
from pymilvus import DataType

from helpers import check_error, count, create, hits_of, ids_where, is_loaded, wait_indexed
from redkite_server import wait_until
from runner import case

D = DataType
ROWS = 3000
DIM = 32
HELP = ("restore the file from a backup", "data integrity check failed")


def numbers_of(seed):
    return np.random.default_rng(seed).standard_normal((ROWS, DIM)).astype(np.float32)


def filled(t, client, kind, seed, flushes=1):
    numbers = numbers_of(seed)
    name = create(t, [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": DIM}), ("n", D.INT64, {})],
                  [("v", kind, "L2", {})])
    for part in range(flushes):
        client.insert(name, [{"id": i, "v": numbers[i], "n": i % 10} for i in range(part, ROWS, flushes)])
        client.flush(name)
    return name, numbers


def objects(server, pattern):
    return sorted(glob.glob(os.path.join(server.data, "**", pattern), recursive=True))


def flip(path, at=None):
    with open(path, "r+b") as file:
        at = os.path.getsize(path) // 2 if at is None else at
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def nearest(client, name, numbers, row, **options):
    return [key for key, _ in hits_of(client.search(name, data=[numbers[row]], limit=3, **options)[0])]


def started(t, **options):
    server = t.own_server(**options)
    client = t.connect(server)
    t._clients.insert(0, client)
    return server, client


def damaged(t, server, collection, field, name="v"):
    """Stops the server, flips a byte of every file of the field, starts it again. The second result is the backup."""
    server.stop()
    paths = objects(server, "c%d/s*/f%d" % (collection, field))
    assert paths
    backup = {}
    for path in paths:
        with open(path, "rb") as file:
            backup[path] = file.read()
        flip(path)
    server.start()
    client = t.connect(server)
    t._clients.insert(0, client)
    return client, backup


def restore(backup):
    for path, data in backup.items():
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.replace(path + ".new", path)


def collection_id(client, name):
    return int(client.describe_collection(name)["collection_id"])


@case
def vector_column(t):
    """HNSW scores on the column: searches say what is wrong, the index stays, all else works, a backup heals it."""
    server, client = started(t)
    name, numbers = filled(t, client, "HNSW", 1)
    other, other_numbers = filled(t, client, "HNSW", 2)
    for each in (name, other):
        wait_indexed(client, each, "v", ROWS)
    number = collection_id(client, name)
    client, paths = damaged(t, server, number, 101)
    index_files = objects(server, "c%d/s*/i*" % number)
    assert index_files
    wait_until(lambda: is_loaded(client, name) and is_loaded(client, other), what="loaded collections")
    assert nearest(client, other, other_numbers, 5)[0] == 5
    check_error(lambda: nearest(client, name, numbers, 5), "collection " + name, "field v", "/f101 is damaged at offset",
                "checksum of the page", *HELP, code=1009)
    check_error(lambda: client.query(name, filter="id == 5", output_fields=["v"]), "field v", *HELP, code=1009)
    assert count(client, name) == ROWS
    assert ids_where(client, name, "n == 3 and id < 50") == [3, 13, 23, 33, 43]
    client.delete(name, ids=[3])
    client.delete(name, filter="id in [13, 23]")
    assert ids_where(client, name, "n == 3 and id < 50") == [33, 43]
    client.upsert(name, [{"id": 33, "v": numbers[33], "n": 4}])
    assert ids_where(client, name, "n == 3 and id < 50") == [43]
    assert int(client.describe_index(name, "v")["indexed_rows"]) >= ROWS
    assert server.logged("event=column_damaged", times=1) and not server.logged("event=index_rebuild")
    assert 'redkite_damaged_files_total{kind="column"}' in server.http("/metrics")
    assert objects(server, "c%d/s*/i*" % number) == index_files
    client.flush(name)
    client.release_collection(name)
    restore(paths)
    client.load_collection(name)
    assert nearest(client, name, numbers, 5)[0] == 5
    assert 3 not in nearest(client, name, numbers, 3)


@case
def vector_column_of_disk_index(t):
    """DISKANN holds the vectors: it serves as before, even when a page of its own goes bad later it is not removed."""
    server, client = started(t)
    name, numbers = filled(t, client, "DISKANN", 3)
    wait_indexed(client, name, "v", ROWS)
    number = collection_id(client, name)
    client, _ = damaged(t, server, number, 101)
    wait_until(lambda: is_loaded(client, name), what="a loaded collection")
    for row in range(0, ROWS, 300):
        assert nearest(client, name, numbers, row)[0] == row
        assert nearest(client, name, numbers, row, filter="n == %d" % (row % 10))[0] == row
    check_error(lambda: client.query(name, filter="id == 5", output_fields=["v"]), "field v", *HELP, code=1009)
    index_files = objects(server, "c%d/s*/i*" % number)
    for path in index_files:
        flip(path, os.path.getsize(path) - 3 * 4096 + 100)
    refused = 0
    for row in range(0, ROWS, 50):
        try:
            assert nearest(client, name, numbers, row)[0] == row
        except Exception as error:
            refused += 1
            assert "restore the file" in str(error), error
    assert refused
    assert objects(server, "c%d/s*/i*" % number) == index_files


@case
def scalar_column(t):
    """A filter on it is refused, searches without it and other fields are not."""
    server, client = started(t)
    name, numbers = filled(t, client, "HNSW", 4)
    wait_indexed(client, name, "v", ROWS)
    client, paths = damaged(t, server, collection_id(client, name), 102)
    wait_until(lambda: is_loaded(client, name), what="a loaded collection")
    assert nearest(client, name, numbers, 7)[0] == 7
    assert nearest(client, name, numbers, 7, filter="id > 5")[0] == 7
    check_error(lambda: nearest(client, name, numbers, 7, filter="n == 7"), "field n", *HELP, code=1009)
    check_error(lambda: count(client, name, "n == 7"), "field n", *HELP, code=1009)
    check_error(lambda: client.delete(name, filter="n == 7"), "field n", *HELP, code=1009)
    check_error(lambda: client.query(name, filter="id == 7", output_fields=["n"]), "field n", *HELP, code=1009)
    assert count(client, name) == ROWS
    assert all(os.path.exists(path) for path in paths)


@case
def keys(t):
    """Without its keys a segment cannot serve, and without the segment answers would be wrong: reads say why."""
    server, client = started(t)
    name, numbers = filled(t, client, "HNSW", 5)
    other, other_numbers = filled(t, client, "HNSW", 6)
    wait_indexed(client, other, "v", ROWS)
    client, paths = damaged(t, server, collection_id(client, name), 100)
    wait_until(lambda: server.logged("event=load_failed"), what="the failure of the load")
    assert nearest(client, other, other_numbers, 5)[0] == 5
    check_error(lambda: nearest(client, name, numbers, 5), "loading fails: collection " + name, "field id",
                "/f100 is damaged at offset", *HELP, code=103)
    check_error(lambda: count(client, name), "loading fails: collection " + name, *HELP, code=103)
    restore(paths)
    client.release_collection(name)
    client.load_collection(name)
    assert nearest(client, name, numbers, 5)[0] == 5


@case
def merge(t):
    """A compaction leaves the damaged segment and its files alone and merges the others; nothing is lost."""
    server, client = started(t, settings={"DATACOORD_ENABLECOMPACTION": "false"})
    name, numbers = filled(t, client, "FLAT", 7, flushes=3)
    number = collection_id(client, name)
    server.stop()
    paths = objects(server, "c%d/s*/f102" % number)
    assert len(paths) == 3, paths
    flip(paths[1])
    server.settings["DATACOORD_ENABLECOMPACTION"] = "true"
    server.start()
    client = t.connect(server)
    t._clients.insert(0, client)
    wait_until(lambda: server.logged("event=compacted"), timeout_s=60, what="a compaction of the others")
    wait_until(lambda: not os.path.exists(paths[0]) and not os.path.exists(paths[2]), what="merged segments to go")
    assert server.logged("event=task_failed") and not server.logged("event=task_failed", times=2)
    assert os.path.exists(paths[1]) and len(objects(server, "c%d/s*/f102" % number)) == 2
    assert count(client, name) == ROWS
    for row in range(0, ROWS, 100):
        assert nearest(client, name, numbers, row)[0] == row


@case
def build(t):
    """An index that cannot be built over a damaged column is shown as failed at once, with the reason, and not tried on and on."""
    server, client = started(t)
    name, numbers = filled(t, client, "HNSW", 8)
    other, other_numbers = filled(t, client, "HNSW", 9)
    wait_indexed(client, name, "v", ROWS)
    number = collection_id(client, name)
    server.stop()
    for path in objects(server, "c%d/s*/f101" % number):
        flip(path)
    for path in objects(server, "c%d/s*/i*" % number):
        os.remove(path)
    server.start()
    client = t.connect(server)
    t._clients.insert(0, client)
    wait_until(lambda: is_loaded(client, name), what="a loaded collection")
    client.release_collection(name)
    client.drop_index(name, "v")
    index = client.prepare_index_params()
    index.add_index("v", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 16})
    client.create_index(name, index, sync=False)
    wait_until(lambda: client.describe_index(name, "v")["state"] == "Failed", what="the failure to be shown")
    assert server.logged("event=task_failed")
    client.load_collection(name)
    check_error(lambda: nearest(client, name, numbers, 5), "field v", *HELP, code=1009)
    wait_indexed(client, other, "v", ROWS)
    assert nearest(client, other, other_numbers, 5)[0] == 5
    assert not server.logged("event=task_failed", times=2)
