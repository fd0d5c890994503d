# SPDX-License-Identifier: Apache-2.0
"""Readers, writers and flushes at once: no row is ever missing, twice, or back from deletion."""
import random
import threading
import time

import numpy as np
from pymilvus import DataType

from helpers import count, create, hits_of, index_of, schema_of
from runner import LONG, case

D = DataType
SECONDS = 20 if LONG else 2.5
INDEX_WITHIN_S = 240
FIELDS = [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 8}), ("w", D.INT64, {}), ("n", D.INT64, {})]


class Crowd:
    """Threads that run until time is up; the first error of any fails the case."""

    def __init__(self, t):
        self.t = t
        self.end = time.monotonic() + SECONDS
        self.errors = []
        self.threads = []

    def add(self, work, *args):
        client = self.t.connect()

        def run():
            try:
                while time.monotonic() < self.end and not self.errors:
                    work(client, *args)
            except Exception as error:
                self.errors.append("%s%r: %s: %s" % (work.__name__, args, type(error).__name__, error))
        self.threads.append(threading.Thread(target=run))

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors[0]


def row(i, writer, n=0):
    return {"id": i, "v": np.full(8, i % 1000, np.float32), "w": writer, "n": n}


@case
def readers_writers_and_flushes(t):
    for index, params in (("FLAT", {}), ("HNSW", {"M": 8, "efConstruction": 40})):
        name = create(t, FIELDS, [("v", index, "L2", params)], num_shards=2)
        t.client.insert(name, [row(-i, -1) for i in range(1, 401)])  # never touched again
        crowd = Crowd(t)
        crowd.end = time.monotonic() + SECONDS / 2
        mine = {w: {} for w in range(2)}

        def writer(client, w):
            r, have = random, mine[w]
            base = w * 1000000
            what = r.random()
            if what < 0.5 or not have:
                keys = list(range(base + len(have) * 3, base + len(have) * 3 + 20))
                client.upsert(name, [row(k, w, 1) for k in keys])
                have.update({k: 1 for k in keys})
            elif what < 0.7:
                keys = r.sample(sorted(have), min(10, len(have)))
                version = max(have.values()) + 1
                client.upsert(name, [row(k, w, version) for k in keys])
                have.update({k: version for k in keys})
            elif what < 0.85:
                keys = r.sample(sorted(have), min(5, len(have)))
                client.delete(name, ids=keys)
                for k in keys:
                    del have[k]
            else:
                limit = base + r.randint(0, 100)
                client.delete(name, filter="w == %d and id < %d" % (w, limit))
                for k in [k for k in have if k < limit]:
                    del have[k]
            got = client.query(name, filter="w == %d" % w, output_fields=["n"], consistency_level="Strong")
            have_now = {x["id"]: x["n"] for x in got}
            assert len(got) == len(have_now), "a key came twice"
            assert have_now == have, "lost %s, not wanted %s, other version %s" % (
                sorted(set(have) - set(have_now))[:5], sorted(set(have_now) - set(have))[:5],
                [k for k in have if k in have_now and have[k] != have_now[k]][:5])

        def reader(client):
            got = [x["id"] for x in client.query(name, filter="id < 0", output_fields=["w"])]
            assert got == list(range(-400, 0)), "%d rows that nobody touched" % len(got)
            found = [k for k, _ in hits_of(client.search(name, data=[np.full(8, 700, np.float32)], filter="w == -1",
                                                         limit=400, search_params={"params": {"ef": 400}})[0])]
            assert sorted(found) == list(range(-400, 0)), "%d hits of 400" % len(found)
            found = [k for k, _ in hits_of(client.search(name, data=[np.zeros(8, np.float32)], limit=100)[0])]
            assert len(found) == len(set(found)) == 100

        def flusher(client):
            client.flush(name)
            time.sleep(0.05)
        for w in mine:
            crowd.add(writer, w)
        crowd.add(reader)
        crowd.add(flusher)
        crowd.run()
        want = set(range(-400, 0)).union(*mine.values())
        rows = [x["id"] for x in t.client.query(name, filter="n >= 0", output_fields=["id"])]
        assert len(rows) == len(set(rows)) and set(rows) == want, "%d rows, lost %s, not wanted %s" % (
            len(rows), sorted(want - set(rows))[:5], sorted(set(rows) - want)[:5])
        counted = count(t.client, name)
        assert counted == len(want), "counted %d of %d rows" % (counted, len(want))


@case
def schema_changes_under_traffic(t):
    crowd = Crowd(t)
    name = create(t, FIELDS, [("v", "FLAT", "L2", {})])
    t.client.insert(name, [row(i, 0) for i in range(200)])

    def reader(client):
        assert count(client, name) == 200
        assert len(client.search(name, data=[np.ones(8, np.float32)], limit=10)[0]) == 10

    def maker(client, w):
        other = "%s_%d_%d" % (name, w, random.randint(0, 1 << 40))
        client.create_collection(other, dimension=4, consistency_level="Strong")
        client.insert(other, [{"id": i, "vector": [i, 0, 0, 1]} for i in range(10)])
        assert count(client, other) == 10
        if random.random() < 0.5:
            client.flush(other)
        if random.random() < 0.5:
            client.release_collection(other)
            client.load_collection(other)
            assert count(client, other) == 10
        client.drop_collection(other)
        assert not client.has_collection(other)
    crowd.add(reader)
    crowd.add(maker, 1)
    crowd.add(maker, 2)
    crowd.run()


@case
def drop_under_traffic(t):
    crowd = Crowd(t)
    crowd.end = time.monotonic() + min(SECONDS, 5) / 2
    name = t.name()

    def tolerant(client):
        try:
            r = random.random()
            if r < 0.3:
                client.insert(name, [{"id": random.randint(0, 99), "vector": [1, 2]}])
            elif r < 0.6:
                client.search(name, data=[[1, 2]], limit=5)
            elif r < 0.8:
                client.query(name, filter="id > 5", output_fields=["*"])
            elif r < 0.9:
                client.flush(name)
            else:
                client.delete(name, filter="id > 50")
        except Exception as error:
            text = str(error)
            assert any(part in text for part in ("not found", "find collection", "not loaded", "schema mismatch",
                                                 "not fully loaded")), text

    def maker(client):
        client.create_collection(name, dimension=2)
        time.sleep(0.02)
        client.drop_collection(name)
    crowd.add(maker)
    for _ in range(3):
        crowd.add(tolerant)
    crowd.run()
    assert t.server.alive()


@case
def index_made_under_writes(t):
    """Who waits for an index waits for the rows of the moment, not for writes to end."""
    name = t.name()
    t.client.create_collection(name, schema=schema_of([FIELDS[0], ("v", D.FLOAT_VECTOR, {"dim": 64})]))
    rows = np.random.default_rng(3).standard_normal((2000, 64)).astype(np.float32)
    stop, errors = threading.Event(), []

    def write():
        client, at = t.connect(), 0
        try:
            while not stop.is_set():
                client.insert(name, [{"id": at + i, "v": rows[i]} for i in range(2000)])
                client.flush(name)
                at += 2000
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        begun = time.monotonic()
        t.client.create_index(name, index_of([("v", "HNSW", "L2", {"M": 16, "efConstruction": 100})]), timeout=INDEX_WITHIN_S)
        assert time.monotonic() - begun < INDEX_WITHIN_S
        assert writer.is_alive(), errors
        t.client.drop_index(name, "v")
    stop.set()
    writer.join()
    assert not errors, errors
