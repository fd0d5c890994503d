# SPDX-License-Identifier: Apache-2.0
"""
kill -9 under load. Each round starts the server on the data the last one left, checks every row, puts the load on, and
kills: at a random moment, at a named fault point of the code (REDKITE_FAULT), or while it starts.
"""
import os
import random
import re
import shutil
import statistics
import subprocess
import time

from raw import Client, Refused, vectors_of
from redkite_server import Server, ServerError
from workload import MAIN, Changer, Load, Mismatch, Writer

WRITERS = 3
SETTINGS = {  # small segments and log files: everything happens all the time
    "REDKITE_SEGMENT_GROWINGMAX": "1MiB",
    "REDKITE_WAL_SEGMENTSIZE": "1MiB",
    "DATACOORD_COMPACTION_GLOBAL_INTERVAL": "1",
    "DATACOORD_GC_INTERVAL": "1",
    "DATACOORD_GC_DROPTOLERANCE": "0",
    "DATACOORD_GC_MISSINGTOLERANCE": "2",
    "QUOTAANDLIMITS_FLUSHRATE_ENABLED": "false",
}
FAULT_WAIT_S = 6
# How often a point is passed: the kill comes at a random pass up to this one. Others: 3.
PASSES = {"wal.append": 150, "append.before_apply": 150, "object.put": 12, "segment.write": 12, "meta": 12, "view": 3,
          "wal.roll": 2, "wal.truncate": 2, "drop": 1, "flush": 3, "index": 2, "compact": 1}
SERVED_WAIT_S = 60


def kill_count():
    count = os.environ.get("RK_CRASH_KILLS")
    if count:
        return int(count)
    return 210 if os.environ.get("RK_TEST_LONG", "0") == "1" else 24


def fault_points():
    """Every name in the code, so that a new one is tested at once."""
    root = os.path.join(os.environ.get("RK_ROOT", os.path.join(os.path.dirname(__file__), "..", "..")), "src")
    names = set()
    for folder, _, files in os.walk(root):
        for file in files:
            if file.endswith(".c"):
                with open(os.path.join(folder, file), errors="replace") as text:
                    names.update(re.findall(r'RK_FAULT\("([^"]+)"\)', text.read()))
    assert len(names) > 10, names
    return sorted(names)


def passes_of(name):
    return next((n for prefix, n in PASSES.items() if name.startswith(prefix)), 3)


def wait_served(client, name):
    """Loaded collections are served again without being asked."""
    end = time.monotonic() + SERVED_WAIT_S
    while True:
        try:
            client.count(name)
            return
        except Refused as error:
            if error.code not in (101, 103) or time.monotonic() > end:
                raise
        time.sleep(0.01)


def prepare(server):
    client = Client(server.grpc)
    client.create(MAIN, shards=2)
    client.create_index(MAIN)
    client.load(MAIN)
    wait_served(client, MAIN)
    client.close()


def check(server, writers, changer, rng):
    """What must hold after any restart."""
    client = Client(server.grpc)
    try:
        wait_served(client, MAIN)
        for writer in writers:
            writer.settle(client)
        total = sum(len(w.rows) for w in writers)
        count = client.count(MAIN)
        if count != total:
            twice = [k for w in writers for k in sorted(w.rows) if client.count(MAIN, "id == %d" % k) != 1]
            raise Mismatch("count(*) is %d, the rows are %d; counted otherwise than once: %d keys %s" % (
                count, total, len(twice), [(k, w.rows[k]) for k in twice[:20] for w in writers if k in w.rows]))
        for writer in writers:
            if writer.rows:
                key = rng.choice(sorted(writer.rows))
                ids, scores = client.nearest(MAIN, vectors_of([key], [writer.rows[key]])[0])
                if not ids or scores[0] > 1e-6:  # another row may hold the same vector, none a nearer one
                    raise Mismatch("search for key %d found %s at %s" % (key, ids, scores))
        if changer:
            changer.settle(client, wait_served)
    finally:
        client.close()


class Crasher:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.server = Server("near", settings=SETTINGS)
        self.writers = [Writer(i, seed * 100 + i) for i in range(WRITERS)]
        self.changer = Changer(seed)
        self.ready_ms = []
        self.fired = {}

    def start(self, fault=None, wiring="near"):
        self.server.wiring = wiring
        self.server.settings = dict(SETTINGS, REDKITE_FAULT=fault or "")
        begin = time.monotonic()
        self.server.start()
        return (time.monotonic() - begin) * 1000

    def round(self, number, point, wiring):
        how = "?"
        ready_ms = self.start(wiring=wiring)
        if number == 0:
            prepare(self.server)
        else:
            self.ready_ms.append(ready_ms)
            check(self.server, self.writers, self.changer, self.rng)
        if point == "start":
            return self.kill_while_starting()
        if point:
            # armed from the start of a fresh process, so that recovery passes the points as well
            self.server.kill()
            how = "%s:%d" % (point, self.rng.randint(1, passes_of(point)))
            try:
                self.start(fault=how + ":kill", wiring=wiring)
            except ServerError:
                if self.server.process.returncode != -9:
                    raise
                self.fired[point] = self.fired.get(point, 0) + 1
                return how + " in recovery"
        load = Load(self.writers, self.changer)
        load.start(self.server.grpc)
        if point:
            try:
                self.server.process.wait(FAULT_WAIT_S)
                if self.server.process.returncode != -9:
                    raise Mismatch("the server ended with %d" % self.server.process.returncode)
                self.fired[point] = self.fired.get(point, 0) + 1
            except subprocess.TimeoutExpired:
                how += " not reached"
        else:
            time.sleep(self.rng.choice((0.05, 0.2, 0.5, 1.0, 2.0)) * self.rng.random() * 1.5)
            how = "any time"
            if not self.server.alive():
                raise Mismatch("the server died by itself with %d" % self.server.process.returncode)
        self.server.kill()
        load.stop()
        return how

    def kill_while_starting(self):
        self.server.kill()
        for _ in range(3):
            environment = dict(os.environ, **self.server.settings)
            process = subprocess.Popen([self.server.binary, "run", "standalone", "--data", self.server.data, "--listen",
                                        "127.0.0.1:0", "--metrics", "127.0.0.1:0"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env=environment)
            time.sleep(self.rng.random() * 0.06)
            process.kill()
            process.wait()
        return "three times while it started"


def killed_under_load(seed):
    crasher = Crasher(seed)
    points = fault_points()
    kills = kill_count()
    plan = (points + ["start"] + [None] * 3) * (kills // len(points) + 1)
    plan = plan[:kills] if kills >= len(points) else crasher.rng.sample(points, kills // 2) + [None] * (kills - kills // 2)
    crasher.rng.shuffle(plan)
    verbose = os.environ.get("RK_CRASH_VERBOSE")
    try:
        for number, point in enumerate(plan):
            wiring = "far" if number % 4 == 3 else "near"
            how = "round %d (%s)" % (number, point)
            try:
                how = crasher.round(number, point, wiring)
            except Exception as error:
                raise Mismatch("round %d of %d, point %s, wiring %s: %s\n%s" % (
                    number, len(plan), point, wiring, error, crasher.server.log_tail(30))) from error
            if verbose:
                print("%3d %-40s rows %s acks %s ready %.0f ms" % (
                    number, how, [len(w.rows) for w in crasher.writers], [w.acknowledged for w in crasher.writers],
                    crasher.ready_ms[-1] if crasher.ready_ms else 0), flush=True)
        crasher.ready_ms.append(crasher.start())
        check(crasher.server, crasher.writers, crasher.changer, crasher.rng)
        crasher.server.stop()
        # a clean stop changes nothing
        crasher.start()
        check(crasher.server, crasher.writers, crasher.changer, crasher.rng)
        refused = [text for w in crasher.writers for text in w.refused]
        if refused:
            raise Mismatch("%d writes were refused, the first: %s" % (len(refused), refused[0]))
        if crasher.changer.refused:
            raise Mismatch("%d changes were refused, the first: %s" % (len(crasher.changer.refused), crasher.changer.refused[0]))
        never = sorted(set(p for p in plan if p and p != "start") - set(crasher.fired))
        if never and kills >= len(points):
            print("points that did not fire: " + ", ".join(never))
        return "%d kills, %d at fault points; %d writes and %d collection changes acknowledged; restart median %.0f ms, longest %.0f ms" % (
            len(plan), sum(crasher.fired.values()), sum(w.acknowledged for w in crasher.writers), crasher.changer.done,
            statistics.median(crasher.ready_ms), max(crasher.ready_ms))
    except Mismatch:
        keep = os.environ.get("RK_CRASH_KEEP")
        if keep:
            shutil.copytree(crasher.server.folder, keep, dirs_exist_ok=True)
        raise
    finally:
        crasher.server.remove()


killed_under_load.weight = kill_count
CASES = [killed_under_load]
