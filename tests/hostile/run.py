# SPDX-License-Identifier: Apache-2.0
"""Runs cases.py against one server. RK_TEST_ONLY: only cases with this in their name."""
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("lib", "crash"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
sys.path.insert(0, HERE)

import cases  # noqa: E402
from raw import Client  # noqa: E402
from redkite_server import Server, wait_until  # noqa: E402

HONEST = "honest"
ROWS = 2000
# A request may hold its own 64 MiB several times over, never much more. Sanitizers keep what is freed for a while.
MEMORY_MAX = (768 << 20) * int(os.environ.get("RK_MEMORY_SCALE", "1"))
MEMORY_AFTER_MAX = MEMORY_MAX // 2
HONEST_WITHIN_S = 20  # a moment; a machine may be busy


class Scene:
    def __init__(self, wiring):
        self.server = Server(wiring, settings={"REDKITE_MEMORY_LIMIT": "2GiB"})
        self.start()

    def start(self):
        self.server.start()
        self.client = Client(self.server.grpc)
        self.client.create(HONEST)
        self.client.create_index(HONEST, "HNSW", '{"M":8,"efConstruction":60}')
        self.client.load(HONEST)
        for at in range(0, ROWS, 500):
            self.client.insert(HONEST, list(range(at, at + 500)), [1] * 500)
        wait_until(lambda: self.client.count(HONEST) == ROWS)
        self.base = self.server.resident_bytes()

    @property
    def address(self):
        return self.server.grpc

    def check(self, held=False):
        """|held|: hostile clients are still connected and may hold memory."""
        if not self.server.alive():
            raise AssertionError("the server died with %s\n%s" % (self.server.process.returncode, self.server.log_tail(30)))
        begin = time.monotonic()
        fresh = Client(self.server.grpc)
        try:
            count = fresh.count(HONEST)
            ids, _ = fresh.nearest(HONEST, [0.5] * 8, 5)
        finally:
            fresh.close()
        assert count == ROWS and len(ids) == 5, (count, ids)
        took = time.monotonic() - begin
        assert took < HONEST_WITHIN_S, "an honest request took %.1f s" % took
        peak = self.peak()
        assert peak < MEMORY_MAX, "the server held %d MiB" % (peak >> 20)
        if held:
            return
        end = time.monotonic() + 30  # it gives memory back every few seconds
        now = self.server.resident_bytes()
        while now >= self.base + MEMORY_AFTER_MAX and time.monotonic() < end:
            time.sleep(0.1)
            now = self.server.resident_bytes()
        assert now < self.base + MEMORY_AFTER_MAX, "the server keeps %d MiB, %d before" % (now >> 20, self.base >> 20)

    def peak(self):
        with open("/proc/%d/status" % self.server.process.pid) as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
        return 0

    def forget_peak(self):
        try:
            with open("/proc/%d/clear_refs" % self.server.process.pid, "w") as out:
                out.write("5")
        except OSError:
            pass


def main():
    only = os.environ.get("RK_TEST_ONLY", "")
    passed, failed, begin = 0, [], time.monotonic()
    for wiring in os.environ.get("REDKITE_WIRING", "near,far").split(","):
        scene = Scene(wiring)
        for case in cases.CASES:
            if only not in case.__name__ or (wiring == "far" and case.__name__ not in cases.FAR_TOO):
                continue
            start = time.monotonic()
            title = "%s [%s]" % (case.__name__, wiring)
            scene.forget_peak()
            try:
                case(scene)
                scene.check()
                passed += 1
                if time.monotonic() - start > 4:
                    print("slow %s: %.1f s" % (title, time.monotonic() - start))
            except Exception:
                failed.append(title)
                print("FAIL %s\n%s" % (title, traceback.format_exc()))
                if not scene.server.alive():
                    scene.server.remove()
                    scene = Scene(wiring)
            sys.stdout.flush()
        try:
            scene.server.stop()
            passed += 1
        except Exception as error:
            failed.append("shutdown [%s]" % wiring)
            print("FAIL shutdown: %s" % error)
        scene.server.remove()
    for title in failed:
        print("failed: " + title)
    print("%.0f s" % (time.monotonic() - begin))
    print("SUITE hostile: %d passed, %d failed" % (passed, len(failed)))
    sys.stdout.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
