# SPDX-License-Identifier: Apache-2.0
"""Requests over HTTP/1.1 or HTTP/2 (prior knowledge), one function for both: request() -> Reply."""
import http.client
import json
import subprocess

TIMEOUT_S = 120


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Http1:
    """One kept-alive connection, opened again when the server closed it."""

    name = "h1"

    def __init__(self, address):
        self.address = address
        self.connection = None

    def request(self, method, path, body=None, headers=None):
        for attempt in (0, 1):
            if self.connection is None:
                host, port = self.address.rsplit(":", 1)
                self.connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
            try:
                self.connection.request(method, path, body, headers or {})
                got = self.connection.getresponse()
                return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
            except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError):
                self.connection.close()
                self.connection = None
                if attempt:
                    raise


class Http2:
    """curl, once per request."""

    name = "h2c"

    def __init__(self, address):
        self.address = address

    @staticmethod
    def works():
        text = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
        return "HTTP2" in text

    def request(self, method, path, body=None, headers=None):
        command = ["curl", "-sS", "--http2-prior-knowledge", "-m", str(TIMEOUT_S), "-X", method, "-D", "-", "-o", "-"]
        for name, value in (headers or {}).items():
            command += ["-H", "%s: %s" % (name, value)]
        if body is not None:
            command += ["--data-binary", "@-"]
            body = body.encode() if isinstance(body, str) else body
        command.append("http://%s%s" % (self.address, path))
        done = subprocess.run(command, input=body, capture_output=True)
        if done.returncode != 0:
            raise ConnectionError("curl ended with %d: %s" % (done.returncode, done.stderr.decode()))
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0].startswith("HTTP/2 "), lines[0]
        found = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            found[name.strip().lower()] = value.strip()
        return Reply(int(lines[0].split()[1]), found, rest)
