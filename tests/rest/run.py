# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of rest_cases.py: each wiring times each protocol, one server per wiring."""
import json
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

from redkite_server import Server  # noqa: E402
from transport import Http1, Http2  # noqa: E402
import rest_cases  # noqa: E402

PREFIX = "/v2/vectordb"


class Context:
    """What a case gets: calls, checks and an unused collection name."""

    counter = 0

    def __init__(self, transport, server):
        self.transport = transport
        self.server = server
        self.made = []

    def name(self):
        Context.counter += 1
        self.made.append("rest_%d" % Context.counter)
        return self.made[-1]

    def post(self, path, body="{}", headers=None):
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.transport.request("POST", PREFIX + path, text, headers)

    def call(self, path, _headers=None, **body):
        """A call that must succeed: its whole envelope."""
        reply = self.post(path, body, _headers)
        assert reply.status == 200, "%s: HTTP %d %r" % (path, reply.status, reply.body[:300])
        assert reply.headers.get("content-type") == "application/json; charset=utf-8", reply.headers
        envelope = reply.json
        assert envelope["code"] == 0, "%s %s: %s" % (path, json.dumps(body)[:200], envelope)
        return envelope

    def data(self, path, _headers=None, **body):
        return self.call(path, _headers, **body)["data"]

    def refused(self, path, code, text, _headers=None, **body):
        """A call that must fail with |code| and a message that contains |text|."""
        return self.refused_text(path, code, text, json.dumps(body), _headers)

    def refused_text(self, path, code, text, body, headers=None):
        reply = self.post(path, body, headers)
        assert reply.status == 200, "%s: HTTP %d %r" % (path, reply.status, reply.body[:300])
        envelope = reply.json
        assert envelope["code"] == code, "%s: code %r instead of %d: %s" % (path, envelope["code"], code, envelope)
        assert "data" not in envelope, envelope
        assert text in envelope["message"], "%r lacks %r" % (envelope["message"], text)
        return envelope

    def clean(self):
        for name in self.made:
            try:
                self.post("/collections/drop", {"collectionName": name})
            except Exception:  # a dead server has been told already
                pass


def main():
    only = os.environ.get("RK_TEST_ONLY", "")
    passed, failed, begin = 0, [], time.monotonic()
    kinds = [Http1, Http2] if Http2.works() else [Http1]
    if len(kinds) == 1:
        print("this curl has no HTTP/2: HTTP/1.1 only")
    for wiring in os.environ.get("REDKITE_WIRING", "near,far").split(","):
        server = Server(wiring).start()
        for kind in kinds:
            for case in rest_cases.CASES:
                title = "%s [%s %s]" % (case.__name__, wiring, kind.name)
                if only not in title:
                    continue
                if not server.alive():
                    server.remove()
                    server = Server(wiring).start()
                context = Context(kind(server.grpc), server)
                try:
                    case(context)
                    assert server.alive(), "the server died\n" + server.log_tail(20)
                    passed += 1
                except Exception:
                    failed.append(title)
                    print("FAIL %s\n%s" % (title, traceback.format_exc()))
                finally:
                    context.clean()
        try:
            server.stop()
            passed += 1
        except Exception as error:
            failed.append("shutdown [%s]" % wiring)
            print("FAIL shutdown [%s]\n%s" % (wiring, error))
        server.remove()
    for title in failed:
        print("failed: " + title)
    print("%.0f s" % (time.monotonic() - begin))
    print("SUITE rest: %d passed, %d failed" % (passed, len(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
