# SPDX-License-Identifier: Apache-2.0
"""
Filters that come again and again, which a server keeps: the same answers the first time and the twentieth, whatever is
deleted, written or loaded again in between, with other values in the same template, and from many threads.
"""
import threading

import numpy as np
from pymilvus import DataType

import vectors
from helpers import count, create, hits_of, wait_indexed
from runner import case

D = DataType
ROWS, DIM, TIMES = 6000, 48, 20  # TIMES: more than it takes until a filter is put in order

INDEXES = [("AUTOINDEX", {}, {"target_recall": 0.99}), ("HNSW", {"M": 16, "efConstruction": 100}, {"ef": 200}),
           ("IVF_RABITQ", {"nlist": 64}, {"nprobe": 64}), ("FLAT", {}, {})]

# expression, values of its template, the same in Python over (n, tag)
FILTERS = [
    ("n < 60", None, lambda n, tag: n < 60),
    ("n < 1500", None, lambda n, tag: n < 1500),
    ("n < {most}", {"most": 300}, lambda n, tag: n < 300),
    ("n < {most}", {"most": 900}, lambda n, tag: n < 900),
    ('tag == "t3"', None, lambda n, tag: tag == 3),
    ('tag in ["t1", "t4"] and n >= 3000', None, lambda n, tag: ((tag == 1) | (tag == 4)) & (n >= 3000)),
    ("n >= 0", None, lambda n, tag: n >= 0),
    ("n > 100000", None, lambda n, tag: n > 100000),
    ("id % 2 == 0", None, None),
]


class Table:
    """What is in the collection, and what a search must say."""

    def __init__(self, t, index, build, search):
        self.client, self.search_params = t.client, search
        rng = np.random.default_rng(11)
        self.rows = rng.standard_normal((ROWS + 20, DIM)).astype(np.float32)
        self.rows[:, DIM // 2:] *= 0.3
        self.queries, self.rows = self.rows[ROWS:], self.rows[:ROWS]
        self.numbers = rng.integers(0, ROWS, ROWS)
        self.tags = rng.integers(0, 6, ROWS)
        self.live = np.ones(ROWS, dtype=bool)
        self.name = create(t, [("id", D.INT64, {"is_primary": True}), ("n", D.INT64, {}), ("tag", D.VARCHAR, {"max_length": 8}),
                               ("v", D.FLOAT_VECTOR, {"dim": DIM})], [("v", index, "L2", build)])
        self.write(range(ROWS))
        self.client.flush(self.name)
        wait_indexed(self.client, self.name, "v", ROWS)

    def write(self, keys):
        keys = list(keys)
        for at in range(0, len(keys), 1000):
            self.client.upsert(self.name, [{"id": i, "n": int(self.numbers[i]), "tag": "t%d" % self.tags[i], "v": self.rows[i]}
                                           for i in keys[at:at + 1000]])

    def passing(self, holds):
        keep = np.arange(ROWS) % 2 == 0 if holds is None else holds(self.numbers, self.tags)
        return keep & self.live

    def check(self, what, floor):
        found_of, of = 0, 0
        for expr, values, holds in FILTERS:
            keep = self.passing(holds)
            keys = np.where(keep)[0]
            template = {"filter_params": values} if values else {}
            for time in range(TIMES):
                query = self.queries[time]
                found = hits_of(self.client.search(self.name, data=[query], limit=10, filter=expr,
                                                   search_params={"params": self.search_params}, **template)[0])
                assert len(found) == min(10, len(keys)), (what, expr, time, len(found), len(keys))
                assert all(keep[key] for key, _ in found), (what, expr, time)
                exact = vectors.scores("L2", query.astype(np.float64), self.rows.astype(np.float64))
                nearest = set(keys[np.argsort(exact[keys], kind="stable")[:10]])
                found_of += len(nearest & {key for key, _ in found})
                of += len(nearest)
                assert all(abs(score - exact[key]) <= 1e-4 * exact[key] for key, score in found), (what, expr)
            for _ in range(3):
                if not values:
                    assert count(self.client, self.name, expr) == len(keys), (what, expr)
        assert found_of >= floor * of, "%s: recall %.3f" % (what, found_of / of)


def play(t, index, build, search):
    table = Table(t, index, build, search)
    floor = 1.0 if index == "FLAT" else 0.95
    table.check(index + " at first", floor)
    gone = list(range(0, ROWS, 9))
    t.client.delete(table.name, ids=gone)
    table.live[gone] = False
    table.check(index + " after deletes", floor)
    table.numbers[1:ROWS:7] = 5  # they pass other filters than before
    table.write([i for i in range(1, ROWS, 7) if table.live[i]])
    table.check(index + " after upserts", floor)
    again = gone[::3]
    table.write(again)
    table.live[again] = True
    t.client.flush(table.name)
    table.check(index + " after a flush", floor)
    t.client.release_collection(table.name)
    t.client.load_collection(table.name)
    table.check(index + " loaded again", floor)


@case
def kept_automatic(t):
    play(t, *INDEXES[0])


@case
def kept_hnsw(t):
    play(t, *INDEXES[1])


@case
def kept_lists(t):
    play(t, *INDEXES[2])


@case
def kept_flat(t):
    play(t, *INDEXES[3])


@case
def samples_are_not_kept(t):
    """random_sample picks other rows with every call, though nothing is written in between."""
    table = Table(t, "AUTOINDEX", {}, {})
    seen = {tuple(sorted(row["id"] for row in t.client.query(table.name, filter="n < 3000 and random_sample(0.05)",
                                                             output_fields=["id"], limit=1000))) for _ in range(6)}
    assert len(seen) == 6, len(seen)
    holds = set(np.where(table.numbers < 3000)[0])
    assert all(set(keys) <= holds and abs(len(keys) - 0.05 * len(holds)) <= 2 for keys in seen)


@case
def kept_by_many(t):
    """One filter from many threads while rows are deleted: never a row that was gone when the search began."""
    table = Table(t, "AUTOINDEX", {}, {})
    gone, stop, wrong = set(), threading.Event(), []

    def reader(seed):
        client = t.connect()
        for i in range(120):
            before = set(gone)
            query = table.queries[(seed + i) % len(table.queries)]
            found = client.search(table.name, data=[query], limit=20, filter='tag == "t%d"' % (i % 3))[0]
            bad = [hit["id"] for hit in found if hit["id"] in before or table.tags[hit["id"]] != i % 3]
            if bad or len(found) != 20:
                wrong.append((seed, i, bad, len(found)))

    def writer():
        at = 0
        while not stop.is_set() and at < ROWS // 2:
            keys = list(range(at, at + 20))
            t.client.delete(table.name, ids=keys)
            gone.update(keys)
            at += 20

    readers = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
    deleting = threading.Thread(target=writer)
    for thread in readers + [deleting]:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    deleting.join()
    assert not wrong, wrong[:3]
