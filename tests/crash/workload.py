# SPDX-License-Identifier: Apache-2.0
"""
Clients that write under a ledger. Each writer owns a range of keys, so it alone knows what they must hold: |rows| is
{key: generation} after everything acknowledged, and at most one request may be open when the server dies: |open| is what
|rows| would be had it been applied. A request that was answered with an error must have changed nothing.
"""
import random
import threading
import time

import grpc

from raw import Client, Refused

MAIN = "main"
KEYS_PER_WRITER = 6000
ROWS_WANTED = 2500


class Mismatch(Exception):
    pass


def differ(want, got):
    missing = sorted(set(want) - set(got))
    extra = sorted(set(got) - set(want))
    stale = sorted(k for k in want if k in got and want[k] != got[k])
    return "%d rows wanted, %d found; missing %d %s, too many %d %s, other generation %d %s" % (
        len(want), len(got), len(missing), missing[:5], len(extra), extra[:5], len(stale),
        [(k, want[k], got[k]) for k in stale[:5]])


class Writer:
    """One client. run() works until the server goes away or |stop| is set."""

    def __init__(self, number, seed):
        self.number = number
        self.low = number * KEYS_PER_WRITER
        self.high = self.low + KEYS_PER_WRITER
        self.random = random.Random(seed)
        self.rows = {}
        self.open = None
        self.generation = 0
        self.acknowledged = 0
        self.refused = []
        self.problem = None
        self.history = []  # [(what, rows before, rows after, fate)]: only what changed

    def note(self, after, fate):
        changed = {k: (self.rows.get(k), after.get(k)) for k in set(self.rows) | set(after) if self.rows.get(k) != after.get(k)}
        self.history.append((self.generation, changed, fate))
        del self.history[:-400]

    def story(self, want, got):
        """What happened to the first keys that differ."""
        odd = [k for k in set(want) | set(got) if want.get(k) != got.get(k)][:3]
        return "".join("\n  key %d: %s" % (key, [(gen, "%s to %s" % changed[key], fate) for gen, changed, fate in self.history
                                                if key in changed][-8:]) for key in odd)

    # ---- one request ----

    def propose(self):
        """(call, what the rows would be)."""
        self.generation += 1
        r, gen = self.random, self.generation
        size = r.choice((1, 3, 20, 100, 200))
        kind = r.random()
        after = dict(self.rows)
        absent = [k for k in r.sample(range(self.low, self.high), size * 3) if k not in self.rows][:size]
        if absent and (len(self.rows) < 50 or (kind < 0.45 and len(self.rows) < ROWS_WANTED)):
            after.update((k, gen) for k in absent)
            return (lambda c: c.insert(MAIN, absent, [gen] * len(absent))), after
        if kind < 0.7:
            keys = r.sample(sorted(self.rows), min(size, len(self.rows)))
            fresh = [k for k in r.sample(range(self.low, self.high), 5) if k not in self.rows]
            after.update((k, gen) for k in keys + fresh)
            return (lambda c: c.upsert(MAIN, keys + fresh, [gen] * len(keys + fresh))), after
        if kind < 0.9:
            keys = r.sample(sorted(self.rows), min(size, len(self.rows) // 2))
            for k in keys:
                del after[k]
            return (lambda c: c.delete(MAIN, "id in %s" % keys)), after
        start = r.randrange(self.low, self.high)
        expr = "id >= %d and id < %d" % (start, min(start + 150, self.high))
        for k in [k for k in after if start <= k < start + 150]:
            del after[k]
        return (lambda c: c.delete(MAIN, expr)), after

    def run(self, address, stop):
        client = Client(address)
        try:
            while not stop.is_set():
                if self.random.random() < 0.05:
                    self.compare(client)
                call, after = self.propose()
                self.open = after
                try:
                    call(client)
                except Refused as error:
                    self.note(after, "refused")
                    self.open = None
                    self.refused.append(str(error))
                    time.sleep(0.02)
                    continue
                self.note(after, "ok")
                self.rows, self.open = after, None
                self.acknowledged += 1
        except grpc.RpcError:
            self.note(self.open or self.rows, "unknown")  # |open| tells what may or may not have happened
            self.history.append((self.generation, {}, "restart"))
        except (Mismatch, AssertionError) as error:
            self.problem = "while the server ran, writer %d: %s" % (self.number, error)
        except Refused as error:
            self.problem = "while the server ran, writer %d could not read: %s" % (self.number, error)
        finally:
            client.close()

    def compare(self, client):
        got = client.rows(MAIN, self.low, self.high)
        if got != self.rows:
            raise Mismatch(differ(self.rows, got) + self.story(self.rows, got))

    # ---- after a restart ----

    def settle(self, client):
        """Every acknowledged row is there, the open request was applied whole or not at all."""
        got = client.rows(MAIN, self.low, self.high)
        if self.open is not None and got == self.open:
            self.rows = self.open
        elif got != self.rows:
            text = "writer %d: %s" % (self.number, differ(self.rows, got))
            if self.open is not None:
                text += "; with the open request: " + differ(self.open, got) + self.story(self.open, got)
            raise Mismatch(text + self.story(self.rows, got))
        self.open = None


class Changer:
    """Makes, fills and drops collections of its own. |state| is {name: set of what may be true}, of "absent" or row counts."""

    KINDS = (("IVF_FLAT", '{"nlist":4}'), ("HNSW", '{"M":8,"efConstruction":40}'), ("FLAT", "{}"))

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.state = {}
        self.loaded = set()
        self.counter = 0
        self.done = 0
        self.refused = []
        self.problem = None

    def step(self, client, name, after, call):
        before = self.state.get(name, {"absent"})
        self.state[name] = before | {after}
        try:
            call()
        except Refused:
            self.state[name] = before
            raise
        self.state[name] = {after}
        self.done += 1

    def run(self, address, stop):
        client = Client(address)
        try:
            while not stop.is_set():
                try:
                    self.one(client)
                except Refused as error:
                    self.refused.append(str(error))
                    time.sleep(0.05)
        except grpc.RpcError:
            pass
        except AssertionError as error:
            self.problem = "while the server ran, collections: %s" % error
        finally:
            client.close()

    def one(self, client):
        old = [n for n, s in self.state.items() if s != {"absent"}]
        if len(old) > 4:
            name = self.random.choice(old)
            self.loaded.discard(name)
            self.step(client, name, "absent", lambda: client.drop(name))
            return
        self.counter += 1
        name = "side_%d" % self.counter
        self.step(client, name, 0, lambda: client.create(name, self.random.choice((1, 2, 4))))
        client.create_index(name, *self.random.choice(self.KINDS))
        n = self.random.choice((10, 300))
        if self.random.random() < 0.5:
            client.load(name)
            self.loaded.add(name)
        self.step(client, name, n, lambda: client.insert(name, list(range(n)), [1] * n))
        if self.random.random() < 0.6:
            client.flush(name)
        if name not in self.loaded:
            client.load(name)
            self.loaded.add(name)

    def settle(self, client, wait_served):
        there = set(client.names())
        for name, may in list(self.state.items()):
            if name not in there:
                if "absent" not in may:
                    raise Mismatch("collection %s, %s rows, is gone" % (name, may))
                del self.state[name]
                self.loaded.discard(name)
                continue
            if may == {"absent"}:
                raise Mismatch("collection %s was dropped and is back" % name)
            may = may - {"absent"}
            if name in self.loaded:
                wait_served(client, name)
                count = client.count(name)
                if count not in may:
                    raise Mismatch("collection %s has %d rows, not one of %s" % (name, count, sorted(may)))
                if count:
                    got = client.rows(name, 0, 100000)
                    if got != {k: 1 for k in range(count)}:
                        raise Mismatch("collection %s holds other rows: %s" % (name, differ({k: 1 for k in range(count)}, got)))
                may = {count}
            self.state[name] = may
        extra = there - set(self.state) - {MAIN}
        if extra:
            raise Mismatch("collections that nobody made: %s" % sorted(extra))


def keep_flushing(address, stop, pause_s):
    """Seals what there is, over and over."""
    client = Client(address)
    try:
        while not stop.is_set():
            try:
                client.flush(MAIN)
            except Refused:
                pass
            stop.wait(pause_s)
    except grpc.RpcError:
        pass
    finally:
        client.close()


class Load:
    """Everybody at once, against one address."""

    def __init__(self, writers, changer, flush_pause_s=0.3):
        self.writers, self.changer, self.flush_pause_s = writers, changer, flush_pause_s

    def start(self, address):
        self.stop_event = threading.Event()
        jobs = [(w.run, (address, self.stop_event)) for w in self.writers]
        if self.changer:
            jobs.append((self.changer.run, (address, self.stop_event)))
        jobs.append((keep_flushing, (address, self.stop_event, self.flush_pause_s)))
        self.threads = [threading.Thread(target=target, args=args, daemon=True) for target, args in jobs]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stop_event.set()
        for thread in self.threads:
            thread.join(120)
            if thread.is_alive():
                raise Mismatch("a client still waits for an answer 120 s after the end")
        for one in self.writers + ([self.changer] if self.changer else []):
            if one.problem:
                raise Mismatch(one.problem)
