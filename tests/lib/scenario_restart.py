# SPDX-License-Identifier: Apache-2.0
"""Stop, kill and start again: everything acknowledged is there, and nothing else."""
import signal
import threading
import time

import numpy as np
from pymilvus import DataType

from helpers import count, create, hits_of, ids_where, is_loaded
from runner import case
from redkite_server import Server, ServerError, wait_until

D = DataType
FIELDS = [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 8}),
          ("s", D.VARCHAR, {"max_length": 50, "nullable": True}), ("j", D.JSON, {"nullable": True})]


def row(i, mark="first"):
    return {"id": i, "v": np.full(8, i, np.float32), "s": None if i % 5 == 0 else mark, "j": {"i": i} if i % 3 else None}


@case
def everything_survives(t):
    server = t.own_server()
    t._clients.insert(0, t.connect(server))
    name = create(t, FIELDS, [("v", "HNSW", "L2", {"M": 8, "efConstruction": 60})], dynamic=True)
    empty = create(t, FIELDS, [("v", "FLAT", "L2", {})])
    alive = {}
    for round_, hard in enumerate((False, True, True, False)):
        c = t._clients[0]
        base = round_ * 100
        c.insert(name, [row(i) for i in range(base, base + 60)])
        alive.update({i: "first" for i in range(base, base + 60)})
        if round_ % 2 == 0:
            c.flush(name)
        c.delete(name, ids=[base + 1, base + 2])
        alive.pop(base + 1), alive.pop(base + 2)
        c.upsert(name, [row(base + 3, "second"), row(base + 90, "second")])
        alive.update({base + 3: "second", base + 90: "second"})
        server.restart(hard=hard)
        t._clients[0] = c = t.connect(server)
        assert set(c.list_collections()) == {name, empty}
        assert is_loaded(c, name), "the load state was forgotten"
        rows = c.query(name, filter="id >= 0", output_fields=["*"])
        assert {r["id"]: r["s"] for r in rows} == {i: None if i % 5 == 0 else m for i, m in alive.items()}
        for r in rows:
            assert r["v"][0] == r["id"] and r["j"] == ({"i": r["id"]} if r["id"] % 3 else None)
        found = hits_of(c.search(name, data=[np.full(8, 3, np.float32)], limit=5)[0])
        assert found[0] == (3, 0.0), found
        assert count(c, name) == len(alive) and count(c, empty) == 0
        assert c.describe_index(name, "v")["index_type"] == "HNSW"
    c.drop_collection(name)
    server.restart(hard=True)
    t._clients[0] = c = t.connect(server)
    assert c.list_collections() == [empty]


@case
def keys_and_times_are_never_given_twice(t):
    server = t.own_server()
    c = t.connect(server)
    name = t.name()
    c.create_collection(name, dimension=4, auto_id=True, consistency_level="Strong")
    seen, stamps = set(), []
    for hard in (True, True, False):
        keys = c.insert(name, [{"vector": [1, 2, 3, 4]} for _ in range(50)])["ids"]
        assert not seen & set(keys)
        seen |= set(keys)
        stamps.append(int(c.describe_collection(name).get("update_timestamp") or 0))
        server.restart(hard=hard)
        c = t.connect(server)
    assert count(c, name) == 150 and len(set(stamps)) == 1


@case
def kill_under_writes(t):
    server = t.own_server()
    c = t.connect(server)
    t._clients.insert(0, c)
    name = create(t, FIELDS, [("v", "FLAT", "L2", {})])
    for round_ in range(3):
        acknowledged, sent, stop = set(), set(), threading.Event()
        lock = threading.Lock()

        def writer(base, client):
            i = base
            while not stop.is_set():
                keys = list(range(i, i + 5))
                with lock:
                    sent.update(keys)
                try:
                    client.insert(name, [row(k) for k in keys], timeout=20)
                except Exception:
                    return
                with lock:
                    acknowledged.update(keys)
                i += 5
        threads = [threading.Thread(target=writer, args=((round_ * 10 + w) * 100000, t.connect(server))) for w in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.25)
        if round_ == 1:
            c.flush(name)
        time.sleep(0.15)
        wait_until(lambda: acknowledged, what="a first write")
        server.process.send_signal(signal.SIGKILL)
        stop.set()
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        c = t._clients[0] = t.connect(server)
        low = round_ * 1000000
        there = set(ids_where(c, name, "id >= %d" % low))
        assert acknowledged, "nothing was written"
        assert acknowledged <= there, "lost: %s" % sorted(acknowledged - there)[:20]
        assert there <= sent, "never written: %s" % sorted(there - sent)[:20]
        for k in there - acknowledged:  # a batch is there whole or not at all
            assert {k - k % 5 + d for d in range(5)} <= there, "half a batch at %d" % k


@case
def one_server_per_folder(t):
    server = t.own_server()
    second = Server(t.wiring, data=server.data)
    try:
        second.start()
    except ServerError as error:
        assert "in use" in str(error), error
    else:
        second.remove()
        raise AssertionError("two servers on one data folder")
    finally:
        second.remove()
    assert server.alive()


@case
def stopping_under_load(t):
    server = t.own_server()
    c = t.connect(server)
    t._clients.insert(0, c)
    name = create(t, FIELDS, [("v", "FLAT", "L2", {})])
    c.insert(name, [row(i) for i in range(2000)])
    stop = threading.Event()

    def reader(client):
        while not stop.is_set():
            try:
                client.search(name, data=[np.ones(8, np.float32)], limit=10, timeout=2)
            except Exception:
                return
    threads = [threading.Thread(target=reader, args=(t.connect(server),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    server.stop()
    took = time.monotonic() - start
    stop.set()
    for thread in threads:
        thread.join()
    assert took < 30, "%.1f s to stop" % took
    server.start()
    assert count(t.connect(server), name) == 2000
