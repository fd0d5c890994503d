# SPDX-License-Identifier: Apache-2.0
"""
Random operations on a server and on a small model of it, compared after every step.

A seed makes one history: collections with random fields and rows, inserts, upserts, deletes by key and by filter, exact
searches, queries, counts, flushes, release and load, restarts by SIGTERM and by kill -9. A failing seed is printed with
its last operations and can be run again alone with RK_PROPERTY_SEED.

Environment: RK_PROPERTY_SEED (one seed), RK_PROPERTY_SECONDS (time of each wiring; default 25, long runs 600),
RK_PROPERTY_STEPS (operations of a seed, default 60), REDKITE_WIRING. Seeds begin with the same number in every short run
and with the time of day in long ones.
"""
import json
import os
import random
import re
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import numpy as np  # noqa: E402
from pymilvus import DataType, MilvusClient  # noqa: E402

import vectors  # noqa: E402
from filters import WORDS, Expressions  # noqa: E402
from helpers import hits_of, index_of, rows_equal, schema_of  # noqa: E402
from redkite_server import Server  # noqa: E402
from runner import LONG, quicken_client  # noqa: E402

D = DataType
SECONDS = float(os.environ.get("RK_PROPERTY_SECONDS", "600" if LONG else "25"))
FIRST_SEED = 1000
STEPS = int(os.environ.get("RK_PROPERTY_STEPS", "200" if LONG else "60"))
KINDS = [(D.FLOAT_VECTOR, 4, "FLAT"), (D.FLOAT16_VECTOR, 5, "FLAT"), (D.BFLOAT16_VECTOR, 3, "FLAT"), (D.INT8_VECTOR, 4, "FLAT"),
         (D.BINARY_VECTOR, 16, "BIN_FLAT"), (D.SPARSE_FLOAT_VECTOR, 30, "SPARSE_INVERTED_INDEX")]


class World:
    def __init__(self, server, seed):
        self.server = server
        self.seed = seed
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.expressions = Expressions(self.random)
        self.log = []
        self.client = MilvusClient(uri=server.uri)
        self.rows = {}
        self.values = {}
        self.loaded = True
        self.kind, self.dim, index = self.random.choice(KINDS)
        self.metric = self.random.choice(vectors.METRICS[self.kind])
        self.text_keys = self.random.random() < 0.3
        self.name = "p_%d" % seed
        self.create(index)

    def create(self, index):
        r = self.random
        key = {"is_primary": True, "max_length": 20} if self.text_keys else {"is_primary": True}
        fields = [("id", D.VARCHAR if self.text_keys else D.INT64, key),
                  ("v", self.kind, {} if self.kind == D.SPARSE_FLOAT_VECTOR else {"dim": self.dim}),
                  ("n", D.INT64, {"nullable": True}), ("i8", D.INT8, {}), ("d", D.DOUBLE, {"nullable": True}),
                  ("b", D.BOOL, {"nullable": True}), ("s", D.VARCHAR, {"max_length": 20, "nullable": True}),
                  ("j", D.JSON, {"nullable": True}),
                  ("arr", D.ARRAY, {"element_type": D.INT64, "max_capacity": 8, "nullable": True})]
        shards = r.choice([1, 1, 2, 4])
        self.log.append("create %s %s %s shards=%d text=%s" % (self.kind.name, self.metric, index, shards, self.text_keys))
        self.client.create_collection(self.name, schema=schema_of(fields, dynamic=True), num_shards=shards,
                                      index_params=index_of([("v", index, self.metric, {})]), consistency_level="Strong")

    # ---- rows ----

    def key(self, i):
        return "k%03d" % i if self.text_keys else i

    def some(self, maker):
        return None if self.random.random() < 0.25 else maker()

    def json_value(self, depth=2):
        r = self.random
        what = r.randint(0, 8 if depth else 4)
        if what == 0:
            return r.choice([-1, 0, 1, 2, 3, 5])
        if what == 1:
            return r.choice([0.5, 1.0, 2.5, -1.5])
        if what == 2:
            return r.choice(WORDS)
        if what == 3:
            return r.random() < 0.5
        if what == 4:
            return None
        if what < 7:
            return {k: self.json_value(depth - 1) for k in r.sample(["a", "b", "c", "l"], r.randint(0, 3))}
        return [self.json_value(depth - 1) for _ in range(r.randint(0, 3))]

    def json_object(self):
        r = self.random
        value = {k: self.json_value() for k in r.sample(["a", "b", "l"], r.randint(0, 3))}
        return value if r.random() < 0.9 else self.json_value()

    def row(self, key):
        r = self.random
        row = {"id": key, "n": self.some(lambda: r.choice([-3, -1, 0, 1, 2, 3, 5, 7, 2**62])), "i8": r.randint(-3, 7),
               "d": self.some(lambda: r.choice([-1.5, 0.25, 0.5, 1.0, 2.5, 3.0])), "b": self.some(lambda: r.random() < 0.5),
               "s": self.some(lambda: r.choice(WORDS)), "j": self.some(self.json_object),
               "arr": self.some(lambda: [r.choice([-3, 0, 1, 2, 3, 5]) for _ in range(r.randint(0, 4))])}
        if r.random() < 0.5:
            row["dyn"] = self.json_value()
        if r.random() < 0.5:
            row["tag"] = r.choice(WORDS)
        return row

    def batch(self, keys):
        made = vectors.make(self.kind, len(keys), self.dim, self.numpy)
        rows = [self.row(k) for k in keys]
        # a text given for a JSON field is JSON already
        sent = [dict(row, v=made.sent[i], j=json.dumps(row["j"]) if isinstance(row["j"], str) else row["j"])
                for i, row in enumerate(rows)]
        return rows, made, sent

    def remember(self, rows, made):
        for i, row in enumerate(rows):
            self.rows[row["id"]] = row
            self.values[row["id"]] = made.values[i]

    # ---- operations ----

    def insert(self):
        free = [k for k in map(self.key, range(300)) if k not in self.rows]
        keys = self.random.sample(free, min(len(free), self.random.choice([1, 3, 20])))
        if keys:
            rows, made, sent = self.batch(keys)
            self.log.append("insert %s" % keys)
            self.client.insert(self.name, sent)
            self.remember(rows, made)

    def upsert(self):
        keys = [self.key(i) for i in self.random.sample(range(300), self.random.choice([1, 5, 15]))]
        rows, made, sent = self.batch(keys)
        self.log.append("upsert %s" % keys)
        self.client.upsert(self.name, sent)
        self.remember(rows, made)

    def update_partly(self):
        if not self.loaded or not self.rows:
            return
        keys = self.random.sample(sorted(self.rows), min(len(self.rows), self.random.choice([1, 4])))
        names = self.random.sample(["n", "i8", "d", "b", "s", "j", "arr", "v", "dyn", "tag"], self.random.randint(1, 4))
        rows, made, sent = self.batch(keys)
        self.log.append("update %s of %s" % (names, keys))
        self.client.upsert(self.name, [{k: x for k, x in row.items() if k == "id" or k in names} for row in sent],
                           partial_update=True)
        for i, row in enumerate(rows):
            self.rows[row["id"]] = dict(self.rows[row["id"]], **{k: x for k, x in row.items() if k in names})
            if "v" in names:
                self.values[row["id"]] = made.values[i]

    def forget(self, keys):
        for k in keys:
            self.rows.pop(k, None)
            self.values.pop(k, None)

    def delete(self):
        keys = [self.key(i) for i in self.random.sample(range(300), self.random.choice([1, 5, 30]))]
        self.log.append("delete %s" % keys)
        self.client.delete(self.name, ids=keys)
        self.forget(keys)

    def expression(self):
        while True:
            text, test = self.expressions.make(self.random.randint(0, 3))
            if self.text_keys and re.search(r"\bid\b", text):
                continue  # expressions take the key for a number
            return text, [k for k, row in self.rows.items() if test(row) is True]

    def delete_by_filter(self):
        if self.loaded:
            text, keys = self.expression()
            self.log.append("delete where %s" % text)
            got = self.client.delete(self.name, filter=text).get("delete_count", 0)
            # a filter that lists keys and nothing else counts what it lists
            assert got == len(keys) or (re.search(r"\bid\b", text) and got >= len(keys)), "%d deleted instead of %d" % (got, len(keys))
            self.forget(keys)

    def search(self):
        if not self.loaded:
            return
        text, keys = self.expression() if self.random.random() < 0.7 else ("", list(self.rows))
        limit = self.random.choice([1, 5, 1000])
        offset = self.random.choice([0, 0, 3])
        query = vectors.make(self.kind, 2, self.dim, self.numpy)
        self.log.append("search limit=%d offset=%d where %s" % (limit, offset, text))
        found = self.client.search(self.name, data=query.sent, filter=text, limit=limit,
                                   search_params={"offset": offset}, output_fields=["n", "s"])
        values = np.array([self.values[k] for k in keys]) if keys else np.zeros((0, self.dim))
        for i in range(2):
            vectors.check_exact(hits_of(found[i]), self.metric, self.kind, query.values[i], keys, values, limit, offset=offset)
            for hit in found[i]:
                row = self.rows[hit["id"]]
                assert hit["entity"]["n"] == row["n"] and hit["entity"]["s"] == row["s"], (hit, row)

    def query(self):
        if not self.loaded:
            return
        text, keys = self.expression()
        self.log.append("query where %s" % text)
        fields = self.random.choice([["*"], ["id", "j", "arr"], ["dyn", "tag", "b"]])
        got = self.client.query(self.name, filter=text, output_fields=fields)
        order = sorted(keys, key=lambda k: k.encode() if isinstance(k, str) else k)
        have = [row["id"] for row in got]
        assert have == order, "%s: not wanted %s, missing %s" % (text, sorted(set(have) - set(keys))[:5],
                                                                 [self.rows[k] for k in set(keys) - set(have)][:3])
        for row in got:
            want = self.rows[row["id"]]
            names = [k for k in want if k != "id"] if fields == ["*"] else [f for f in fields if f in want]
            for k in names:
                assert k in row and rows_equal(row[k], want[k]), "%s of %r: %r instead of %r" % (k, row["id"], row.get(k), want[k])
            if fields == ["*"]:
                if self.kind == D.SPARSE_FLOAT_VECTOR:
                    have = np.zeros(self.dim)
                    for k, x in vectors.plain(self.kind, row["v"]).items():
                        have[k] = x
                else:
                    have = vectors.plain(self.kind, row["v"])
                assert np.allclose(have, self.values[row["id"]], atol=1e-6), "vector of %r" % row["id"]

    def count(self):
        if not self.loaded:
            return
        text, keys = self.expression() if self.random.random() < 0.5 else ("", list(self.rows))
        self.log.append("count where %s" % text)
        got = self.client.query(self.name, filter=text, output_fields=["count(*)"])[0]["count(*)"]
        assert got == len(keys), "count %d instead of %d where %s" % (got, len(keys), text)

    def page(self):
        if not self.loaded:
            return
        text, keys = self.expression()
        limit, offset = self.random.randint(1, 20), self.random.randint(0, 10)
        self.log.append("page limit=%d offset=%d where %s" % (limit, offset, text))
        got = [r["id"] for r in self.client.query(self.name, filter=text, limit=limit, offset=offset, output_fields=["id"])]
        order = sorted(keys, key=lambda k: k.encode() if isinstance(k, str) else k)
        assert got == order[offset:offset + limit], "%s instead of %s" % (got, order[offset:offset + limit])

    def flush(self):
        self.log.append("flush")
        self.client.flush(self.name)

    def release_or_load(self):
        self.log.append("release" if self.loaded else "load")
        if self.loaded:
            self.client.release_collection(self.name)
        else:
            self.client.load_collection(self.name)
        self.loaded = not self.loaded

    def restart(self):
        hard = self.random.random() < 0.7
        self.log.append("kill -9" if hard else "restart")
        self.client.close()
        self.server.restart(hard=hard)
        self.client = MilvusClient(uri=self.server.uri)

    def run(self):
        operations = ([self.insert] * 5 + [self.upsert] * 3 + [self.update_partly] * 2 + [self.delete] * 2 +
                      [self.delete_by_filter] * 2 + [self.search] * 7 +
                      [self.query] * 7 + [self.count] * 3 + [self.page] * 2 + [self.flush] * 2 + [self.release_or_load] +
                      [self.restart])
        self.insert()
        for _ in range(STEPS):
            self.random.choice(operations)()
        if not self.loaded:
            self.release_or_load()
        self.log.append("last look")
        got = {row["id"] for row in self.client.query(self.name, filter="i8 >= -128", output_fields=["id"])}
        assert got == set(self.rows), "lost %s, not wanted %s" % (sorted(set(self.rows) - got)[:9], sorted(got - set(self.rows))[:9])
        self.client.drop_collection(self.name)
        self.client.close()


def main():
    quicken_client()
    passed, failed = 0, []
    alone = os.environ.get("RK_PROPERTY_SEED")
    # long runs look for what nobody has seen; short ones tell what a change broke
    first = int(alone) if alone else int(time.time()) % 1000000 * 1000 if LONG else FIRST_SEED
    for wiring in os.environ.get("REDKITE_WIRING", "near,far").split(","):
        server = Server(wiring).start()
        end = time.monotonic() + SECONDS
        seed = first
        while True:
            world = None
            try:
                world = World(server, seed)
                world.run()
                if not server.alive():
                    raise AssertionError("the server died")
                passed += 1
            except Exception:
                failed.append("seed %d [%s]" % (seed, wiring))
                print("FAIL seed %d [%s], run it alone with RK_PROPERTY_SEED=%d REDKITE_WIRING=%s RK_PROPERTY_STEPS=%d"
                      % (seed, wiring, seed, wiring, STEPS))
                print("\n".join("  " + line[:300] for line in (world.log[-12:] if world else [])))
                print(traceback.format_exc())
                dead = not server.alive()
                if dead:
                    print(server.log_tail(15))
                server.remove()
                server = Server(wiring).start()
                if len(failed) >= 5:
                    break
            sys.stdout.flush()
            seed += 1
            if alone or time.monotonic() > end:
                break
        print("%s: seeds %d to %d" % (wiring, first, seed - 1))
        server.remove()
    for name in failed:
        print("failed: " + name)
    print("SUITE property: %d passed, %d failed" % (passed, len(failed)))
    sys.stdout.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
