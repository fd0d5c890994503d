# SPDX-License-Identifier: Apache-2.0
"""Runs test cases against servers of both wirings and counts.

A case is a function of one argument, decorated with @case; it fails by any exception. All cases of one wiring share a
server, so each uses collections of its own (t.name()). A case that stops or kills a server takes one of its own with
t.own_server(). When the shared server dies, the case fails and the next one gets a fresh server.

Environment: REDKITE_WIRING (default "near,far"), RK_TEST_ONLY (run the cases whose name contains it),
RK_TEST_LONG (1: long parts too).
"""
import itertools
import logging
import os
import sys
import time
import traceback
import warnings

from redkite_server import Server

CASES = []
LONG = os.environ.get("RK_TEST_LONG", "0") == "1"
SLOW_S = 3.0


def case(function):
    CASES.append((function.__module__.rsplit(".", 1)[-1] + "." + function.__name__, function))
    return function


class Context:
    """What a case gets: clients, servers and unused names."""

    counter = itertools.count(1)

    def __init__(self, shared, wiring):
        self.server = shared
        self.wiring = wiring
        self._servers = []
        self._clients = []
        self._collections = []

    def connect(self, server=None, **options):
        from pymilvus import MilvusClient
        client = MilvusClient(uri=(server or self.server).uri, **options)
        self._clients.append(client)
        return client

    @property
    def client(self):
        if not self._clients:
            self.connect()
        return self._clients[0]

    def name(self, prefix="c"):
        name = "%s_%d" % (prefix, next(Context.counter))
        self._collections.append(name)
        return name

    def own_server(self, **options):
        server = Server(self.wiring, **options)
        self._servers.append(server)
        return server.start()

    def done(self):
        if self._clients and self.server.alive():
            for name in self._collections:
                try:
                    self._clients[0].drop_collection(name)
                except Exception:  # the case has told already
                    pass
        for client in self._clients:
            try:
                client.close()
            except Exception:
                pass
        for server in self._servers:
            server.remove()

    def logs(self):
        return "".join("-- log of the server\n" + s.log_tail(15) for s in [self.server] + self._servers
                       if not s.alive())


def quicken_client():
    """
    The client sleeps 0.5 s before it asks again whether an index is built, and logs every error that a test provokes;
    tests have no time for the one and no use for the other.
    """
    import pymilvus.client.grpc_handler as handler
    import pymilvus.decorators as decorators

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    class QuickTime:
        def __getattr__(self, name):
            return getattr(time, name)

        @staticmethod
        def sleep(seconds):
            time.sleep(min(seconds, 0.01))

    handler.time = QuickTime()
    decorators.time = QuickTime()


def run(suite):
    quicken_client()
    only = os.environ.get("RK_TEST_ONLY", "")
    wirings = [w for w in os.environ.get("REDKITE_WIRING", "near,far").split(",") if w]
    passed = 0
    failed = []
    begin = time.monotonic()
    for wiring in wirings:
        server = Server(wiring).start()
        for name, function in CASES:
            if only not in name:
                continue
            if not server.alive():
                server.remove()
                server = Server(wiring).start()
            t = Context(server, wiring)
            start = time.monotonic()
            try:
                function(t)
                if not server.alive():
                    raise AssertionError("the server died")
                passed += 1
                took = time.monotonic() - start
                if took > SLOW_S:
                    print("slow %s [%s]: %.1f s" % (name, wiring, took))
            except Exception:
                failed.append("%s [%s]" % (name, wiring))
                print("FAIL %s [%s]\n%s%s" % (name, wiring, traceback.format_exc(), t.logs()))
            finally:
                t.done()
            sys.stdout.flush()
        try:
            server.stop()
            passed += 1
        except Exception as error:
            failed.append("shutdown [%s]" % wiring)
            print("FAIL shutdown [%s]\n%s" % (wiring, error))
        server.remove()
    for name in failed:
        print("failed: " + name)
    print("%.0f s" % (time.monotonic() - begin))
    print("SUITE %s: %d passed, %d failed" % (suite, passed, len(failed)))
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # client threads must not delay the end
