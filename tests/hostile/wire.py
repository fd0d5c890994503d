# SPDX-License-Identifier: Apache-2.0
"""Bytes by hand: protobuf, HTTP/2 frames and gRPC messages that no library would send."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
SERVICE = "/milvus.proto.milvus.MilvusService/"


# ---- protobuf ----

def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def nest(numbers, depth, inner=b""):
    """|inner| inside |depth| messages; |numbers| are the field numbers on the way, from the outside, repeated."""
    heads = []
    size = len(inner)
    for level in range(depth - 1, -1, -1):
        head = varint(numbers[level % len(numbers)] << 3 | 2) + varint(size)
        heads.append(head)
        size += len(head)
    return b"".join(reversed(heads)) + inner


# ---- HTTP/2 ----

def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    n = len(data)
    if n < 127:
        return bytes([n]) + data
    return b"\x7f" + varint(n - 127) + data


def header_block(pairs):
    return b"".join(b"\x00" + text(k) + text(v) for k, v in pairs)


def grpc_headers(method, extra=()):
    return header_block([(":method", "POST"), (":scheme", "http"), (":path", SERVICE + method), (":authority", "x"),
                         ("te", "trailers"), ("content-type", "application/grpc")] + list(extra))


def message(payload, compressed=0, length=None):
    return bytes([compressed]) + struct.pack(">I", len(payload) if length is None else length) + payload


class Socket:
    """A plain connection with time limits."""

    def __init__(self, address, timeout=5):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        """False when the other side has gone or does not read any more."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def read(self, seconds=5, until=None):
        """What comes until the end, |until| or the time limit."""
        got = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (until is None or until not in got):
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.socket.recv(65536)
            except OSError:
                break
            if not part:
                break
            got += part
        return got

    def closed_within(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                if not self.socket.recv(65536):
                    return True
            except socket.timeout:
                return False
            except OSError:
                return True
        return False

    def close(self):
        self.socket.close()


class H2(Socket):
    """An HTTP/2 connection that has sent its preface."""

    def __init__(self, address, settings=b"", timeout=5):
        super().__init__(address, timeout)
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, 1, 0))

    def grpc(self, stream, method, payload, extra=(), end=True):
        """One request as it should be; |payload| is framed already."""
        self.send(frame(HEADERS, END_HEADERS, stream, grpc_headers(method, extra)))
        for at in range(0, len(payload), 16384):
            part = payload[at:at + 16384]
            last = end and at + 16384 >= len(payload)
            if not self.send(frame(DATA, END_STREAM if last else 0, stream, part)):
                return False
        return True

    def answer(self, seconds=30, stream=1):
        """How a stream ended: "end", "reset", "goaway", "closed", or "" when nothing came in time."""
        buffer = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while len(buffer) >= 9:
                size = int.from_bytes(buffer[:3], "big")
                if len(buffer) < 9 + size:
                    break
                kind, flags, number = buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big") & 0x7fffffff
                if kind == GOAWAY:
                    return "goaway"
                if number == stream and kind == RST:
                    return "reset"
                if number == stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                    return "end"
                buffer = buffer[9 + size:]
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.socket.recv(65536)
            except socket.timeout:
                break
            except OSError:
                return "closed"
            if not part:
                return "closed"
            buffer += part
        return ""
