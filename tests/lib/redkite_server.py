# SPDX-License-Identifier: Apache-2.0
"""A redkite server process for tests: start, stop, kill, start again on the same data.

The binary comes from REDKITE_BIN. Every server gets a data folder and a log file of its own below RK_WORK (or the
system's temporary folder) and ports the kernel picks; the line "ready grpc=ADDR:PORT metrics=ADDR:PORT" on standard
output tells them. Settings of a test run are given in the environment (see docs/configuration.md).
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

# Long after the slowest of busy machines would be done.
READY_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
WAIT_TIMEOUT_S = 120

# Small enough for several servers on one machine.
SETTINGS = {"REDKITE_MEMORY_LIMIT": "4GiB"}


class ServerError(Exception):
    pass


def forget_connections(address):
    """
    pymilvus 3.0 keeps connections by address as long as the process lives, also when nobody uses them any more: one to an
    earlier server that had this port would be taken for one to the server that has just started.
    """
    module = sys.modules.get("pymilvus.client.connection_manager")
    if not module:
        return
    manager = module.ConnectionManager.get_instance()
    with manager._lock:
        for key in [k for k, managed in manager._registry.items() if managed.config.address == address]:
            managed = manager._registry.pop(key)
            managed.strategy.close(managed)


class Server:
    def __init__(self, wiring="near", settings=None, data=None):
        self.binary = os.environ.get("REDKITE_BIN", "build/release/redkite")
        self.wiring = wiring
        self.settings = dict(SETTINGS, **(settings or {}))
        self.folder = tempfile.mkdtemp(prefix="redkite-", dir=os.environ.get("RK_WORK") or None)
        self.data = data or os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.grpc = None
        self.metrics = None
        self.starts = 0

    # ---- life ----

    def start(self):
        environment = dict(os.environ, **self.settings)
        command = [self.binary, "run", "standalone", "--data", self.data, "--listen", "127.0.0.1:0",
                   "--metrics", "127.0.0.1:0", "--wiring", self.wiring]
        self.starts += 1
        log = open(self.log_path, "ab")
        log.write(b"== start %d\n" % self.starts)
        log.flush()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        log.close()
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_ready(self):
        timer = threading.Timer(READY_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                words = line.decode(errors="replace").split()
                if words and words[0] == "ready":
                    pairs = dict(word.split("=", 1) for word in words[1:])
                    self.grpc, self.metrics = pairs["grpc"], pairs["metrics"]
                    forget_connections(self.grpc)
                    # whatever comes later must not fill the pipe
                    threading.Thread(target=self._drain, args=(self.process.stdout,), daemon=True).start()
                    return
        finally:
            timer.cancel()
        self.process.wait()
        raise ServerError("the server ended with status %d before it was ready:\n%s"
                          % (self.process.returncode, self.log_tail()))

    @staticmethod
    def _drain(stream):
        for _ in stream:
            pass

    def kill(self):
        """kill -9: nothing may be flushed on the way out."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM; anything but status 0 in time is a failure."""
        if self.process.poll() is not None:
            raise ServerError("the server had ended with status %d:\n%s" % (self.process.returncode, self.log_tail()))
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError("the server did not end within %d s of SIGTERM:\n%s"
                              % (STOP_TIMEOUT_S, self.log_tail())) from None
        if status != 0:
            raise ServerError("the server ended with status %d after SIGTERM:\n%s" % (status, self.log_tail()))

    def restart(self, hard=False):
        if hard:
            self.kill()
        else:
            self.stop()
        return self.start()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- what it says ----

    @property
    def uri(self):
        return "http://" + self.grpc

    def logged(self, words, times=1):
        with open(self.log_path, errors="replace") as log:
            return log.read().count(words) >= times

    def log_tail(self, lines=40):
        try:
            with open(self.log_path, errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""

    def http(self, path, timeout=60):
        """Body of a GET on the metrics port."""
        with urllib.request.urlopen("http://%s%s" % (self.metrics, path), timeout=timeout) as reply:
            return reply.read().decode()

    def resident_bytes(self):
        with open("/proc/%d/statm" % self.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_until(condition, timeout_s=WAIT_TIMEOUT_S, what="condition", every_s=0.05):
    """Polls until condition() is true and returns its value; an error after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("%s did not come true within %g s" % (what, timeout_s))
        time.sleep(every_s)
