# SPDX-License-Identifier: Apache-2.0
"""footprint.py BINARY FOLDER: see run.sh."""
import os
import shutil
import statistics
import subprocess
import sys
import time

STARTS = 10
IDLE_S = 10
SETTLE_S = 2


def start(binary, folder):
    """(process, milliseconds from exec to the line that says ready)."""
    begin = time.perf_counter()
    process = subprocess.Popen([binary, "run", "standalone", "--data", folder, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if line.startswith("ready "):
            return process, (time.perf_counter() - begin) * 1000
    raise SystemExit("the server ended before it was ready")


def stop(process):
    process.terminate()
    process.wait()


def ticks(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def resident_mib(pid):
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def main():
    binary, work = sys.argv[1:3]
    ready = []
    for i in range(STARTS):
        folder = os.path.join(work, "empty-%d" % i)
        process, took = start(binary, folder)
        ready.append(took)
        stop(process)
        shutil.rmtree(folder)
    process, _ = start(binary, os.path.join(work, "idle"))
    time.sleep(SETTLE_S)
    before = ticks(process.pid)
    time.sleep(IDLE_S)
    cpu = (ticks(process.pid) - before) / os.sysconf("SC_CLK_TCK") / IDLE_S * 100
    resident = resident_mib(process.pid)
    stop(process)
    size = os.path.getsize(binary) / 1048576
    rows = [("ready after exec, empty folder (median of %d, longest %.0f)" % (STARTS, max(ready)), statistics.median(ready), 100, "ms", "%.0f"),
            ("resident memory when idle", resident, 32, "MiB", "%.1f"),
            ("CPU when idle, over %d s" % IDLE_S, cpu, 0.04, "%", "%.1f"),
            ("stripped binary", size, 8, "MiB", "%.1f")]
    print("| what | measured | floor | |")
    print("| --- | --- | --- | --- |")
    missed = 0
    for what, value, limit, unit, form in rows:
        good = value <= limit
        missed += not good
        print("| %s | %s %s | %s %s | %s |" % (what, form % value, unit, form % (limit if limit >= 1 else 0), unit, "met" if good else "**missed**"))
    return 1 if missed else 0


sys.exit(main())
