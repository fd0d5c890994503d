# SPDX-License-Identifier: Apache-2.0
"""
Disks that fail or fill up, SIGTERM under load, and a second server on the same folder. A write that cannot be made
durable is refused with a sentence, reads go on, writing resumes when the disk does, and nothing acknowledged is lost.
"""
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

from pymilvus.grpc_gen import milvus_pb2

from kills import SETTINGS, check, prepare, wait_served
from raw import Client, Refused
from redkite_server import Server
from workload import MAIN, Changer, Load, Mismatch, Writer

# What takes a moment on an idle machine, and may take long on a busy one.
STOP_WITHIN_S = 30
RESUME_WITHIN_S = 60
MET_WITHIN_S = 60


class Skip(Exception):
    pass


class Scene:
    """A server with two writers, and a file of faults that can be armed while it runs."""

    def __init__(self, seed, folder=None, changer=False):
        self.random = random.Random(seed)
        self.work = tempfile.mkdtemp(prefix="crash-", dir=os.environ.get("RK_WORK") or None)
        self.faults = os.path.join(self.work, "faults")
        self.server = Server("near", settings=dict(SETTINGS, REDKITE_FAULT_FILE=self.faults),
                             data=os.path.join(folder, "data") if folder else None)
        self.writers = [Writer(i, seed * 10 + i) for i in range(2)]
        self.changer = Changer(seed) if changer else None
        self.server.start()
        prepare(self.server)

    def arm(self, text):
        with open(self.faults + ".new", "w") as out:
            out.write(text + "\n")
        os.replace(self.faults + ".new", self.faults)

    def run(self, seconds, until=None):
        """Puts the load on for a while, and longer while |until| is not yet so."""
        load = Load(self.writers, self.changer)
        load.start(self.server.grpc)
        time.sleep(seconds)
        end = time.monotonic() + MET_WITHIN_S
        while until and not until() and time.monotonic() < end and self.server.alive():
            time.sleep(0.05)
        load.stop()
        if not self.server.alive():
            raise Mismatch("the server ended with %s" % self.server.process.returncode)
        lost = [w for w in self.writers if w.open is not None]
        if lost:
            raise Mismatch("a write got no answer though the server lives")

    def check(self):
        check(self.server, self.writers, self.changer, self.random)

    def check_after_kill(self):
        self.server.kill()
        self.server.start()
        self.check()

    def has_refused(self):
        return any(w.refused for w in self.writers)

    def refused(self):
        texts = [text for w in self.writers for text in w.refused]
        for w in self.writers:
            w.refused = []
        return texts

    def resumes(self):
        """Writing goes on soon, without anybody's help."""
        client = Client(self.server.grpc)
        end = time.monotonic() + RESUME_WITHIN_S
        key = 10 ** 9
        while True:
            try:
                client.insert(MAIN, [key], [1])
                break
            except Refused as error:
                if time.monotonic() > end:
                    raise Mismatch("writing did not resume within %d s: %s" % (RESUME_WITHIN_S, error)) from error
            time.sleep(0.05)
        client.delete(MAIN, "id in [%d]" % key)
        client.close()
        before = [w.acknowledged for w in self.writers]

        def all_wrote():
            return all(w.acknowledged > b for w, b in zip(self.writers, before))
        self.run(0.5, until=all_wrote)
        if not all_wrote():
            raise Mismatch("a writer could not write after the disk came back: %s" % self.refused()[:1])

    def reads(self):
        client = Client(self.server.grpc)
        count = client.count(MAIN)
        client.close()
        return count

    def new_client_connects(self):
        client = Client(self.server.grpc)
        client.call("Connect", milvus_pb2.ConnectRequest())
        client.close()

    def done(self):
        self.server.remove()
        shutil.rmtree(self.work, ignore_errors=True)


def scene(**options):
    def wrap(function):
        def run(seed):
            s = Scene(seed, **options)
            try:
                return function(s)
            except Exception as error:
                raise Mismatch("%s\n%s" % (error, s.server.log_tail(15))) from error
            finally:
                s.done()
        run.__name__ = function.__name__
        return run
    return wrap


def failing(s, fault, want_refusals):
    s.run(0.5)
    s.arm(fault)
    s.run(0.7, until=s.has_refused if want_refusals else None)
    texts = s.refused()
    if want_refusals and not texts:
        raise Mismatch("no write was refused under %s" % fault)
    if any(len(text) < 30 for text in texts):
        raise Mismatch("a refusal says too little: %r" % texts)
    want = sum(len(w.rows) for w in s.writers)
    got = s.reads()
    if got != want:
        raise Mismatch("%d rows are read under %s, %d were acknowledged" % (got, fault, want))
    s.new_client_connects()
    s.arm("")
    s.resumes()
    s.check()
    s.check_after_kill()
    return texts[0][:110] if texts else "no write refused"


@scene()
def failed_sync(s):
    return failing(s, "wal.append.before_sync:3:error+", True)


@scene()
def failed_sync_once(s):
    return failing(s, "wal.append.before_sync:5:error", True)


@scene()
def failed_write_of_the_log(s):
    return failing(s, "wal.append.before_write:2:error+", True)


@scene()
def full_log(s):
    return failing(s, "wal.append.before_write:2:full+,wal.roll:1:full+", True)


@scene()
def full_object_store(s):
    return failing(s, "segment.write.before_column:1:full+,object.put.before_rename:1:full+", False)


@scene()
def full_meta_store(s):
    return failing(s, "meta.before_commit:1:full+", False)


@scene()
def failing_compaction_and_index(s):
    return failing(s, "compact.before_write:1:error+,index.before_build:1:error+,view.before_sync:1:error", False)


def really_full_disk(seed):
    """A small file system of its own, filled to the last byte by somebody else."""
    folder = tempfile.mkdtemp(prefix="full-", dir=os.environ.get("RK_WORK") or None)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "redkite-test", folder], stderr=subprocess.DEVNULL).returncode:
        os.rmdir(folder)
        raise Skip("no right to mount a file system")
    s = None
    try:
        s = Scene(seed, folder=folder)
        s.run(0.5)
        filler = os.path.join(folder, "filler")
        # Without a buffer: what a buffer could not write, its close would try again, and fail.
        with open(filler, "wb", buffering=0) as out:
            try:
                while True:
                    out.write(b"x" * 65536)
            except OSError:
                pass
        s.run(2, until=s.has_refused)
        texts = s.refused()
        if not texts:
            raise Mismatch("no write was refused on a full disk")
        want = sum(len(w.rows) for w in s.writers)
        if s.reads() != want:
            raise Mismatch("%d rows are read on a full disk, %d were acknowledged" % (s.reads(), want))
        s.new_client_connects()
        os.unlink(filler)
        s.resumes()
        s.check()
        s.check_after_kill()
        s.server.stop()
        return texts[-1][:110]
    except Exception as error:
        raise Mismatch("%s\n%s" % (error, s.server.log_tail(15) if s else "")) from error
    finally:
        if s:
            s.done()
        subprocess.run(["umount", "-l", folder])
        os.rmdir(folder)


@scene(changer=True)
def terminated_under_load(s):
    slowest = 0
    for _ in range(3):
        load = Load(s.writers, s.changer)
        load.start(s.server.grpc)
        time.sleep(0.6)
        begin = time.monotonic()
        s.server.process.send_signal(signal.SIGTERM)
        try:
            status = s.server.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Mismatch("the server still runs %d s after SIGTERM" % STOP_WITHIN_S) from None
        slowest = max(slowest, time.monotonic() - begin)
        load.stop()
        if status != 0:
            raise Mismatch("the server ended with %d after SIGTERM" % status)
        for one in s.writers + [s.changer]:
            one.refused = []
        s.server.start()
        s.check()
    return "slowest stop %.2f s" % slowest


@scene()
def second_server_is_refused(s):
    command = [s.server.binary, "run", "standalone", "--data", s.server.data, "--listen", "127.0.0.1:0", "--metrics", "none"]
    begin = time.monotonic()
    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = second.stderr + second.stdout
    if second.returncode == 0 or "ready" in second.stdout:
        raise Mismatch("a second server started on the same folder")
    if str(s.server.process.pid) not in said:
        raise Mismatch("the refusal does not name process %d: %s" % (s.server.process.pid, said[-300:]))
    s.run(0.3)
    s.check()
    s.check_after_kill()  # the lock goes with the process
    return "refused in %.0f ms" % ((time.monotonic() - begin) * 1000)


CASES = [failed_sync, failed_sync_once, failed_write_of_the_log, full_log, full_object_store, full_meta_store,
         failing_compaction_and_index, really_full_disk, terminated_under_load, second_server_is_refused]
