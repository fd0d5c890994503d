#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares our codec with Google's on random messages: pb_oracle.py PB_ECHO DESCRIPTOR_SET...

Each message is made and serialised by Google's library, goes through decode, copy and encode in pb_echo, and must parse back to
an equal message. Messages are also sent as two serialisations end to end (which must merge), and with repeated numbers
not packed. The seed is printed; PB_ORACLE_SEED sets it.
"""
import difflib
import os
import pprint
import random
import struct
import subprocess
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

COUNT = int(os.environ.get("PB_ORACLE_COUNT", "60"))
SEED = int(os.environ.get("PB_ORACLE_SEED", "20240601"))
TYPES = """redkite.testing.All redkite.testing.Other redkite.testing.Nothing
    milvus.proto.common.SearchAggregationSpec milvus.proto.schema.FieldData milvus.proto.schema.SearchResultData
    milvus.proto.schema.CollectionSchema milvus.proto.schema.FunctionChainOp milvus.proto.schema.TemplateValue
    milvus.proto.milvus.InsertRequest milvus.proto.milvus.SearchRequest milvus.proto.milvus.HybridSearchRequest
    milvus.proto.milvus.QueryResults milvus.proto.milvus.FlushResponse
    milvus.proto.milvus.DescribeCollectionResponse""".split()


def integer(rng, bits, signed):
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    return rng.choice([0, 1, low, high, rng.randint(low, high), rng.randint(0, 300), max(low, -1)])


def scalar(rng, field):
    kind = field.type
    if kind in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32):
        return integer(rng, 32, True)
    if kind in (field.TYPE_INT64, field.TYPE_SINT64, field.TYPE_SFIXED64):
        return integer(rng, 64, True)
    if kind in (field.TYPE_UINT32, field.TYPE_FIXED32):
        return integer(rng, 32, False)
    if kind in (field.TYPE_UINT64, field.TYPE_FIXED64):
        return integer(rng, 64, False)
    if kind == field.TYPE_BOOL:
        return rng.random() < 0.5
    if kind == field.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    if kind == field.TYPE_FLOAT:
        return struct.unpack("<f", struct.pack("<f", rng.choice([0.0, -0.0, rng.gauss(0, 1)])))[0]
    if kind == field.TYPE_DOUBLE:
        return rng.choice([0.0, -0.0, rng.gauss(0, 1e9)])
    size = rng.choice([0, 1, 7, 127, 128, 300])
    if kind == field.TYPE_STRING:
        return "".join(rng.choice("abc\u00e9\u4e16 \x00z") for _ in range(size))
    return bytes(rng.getrandbits(8) for _ in range(size))


def fill(rng, message, depth):
    for field in message.DESCRIPTOR.fields:
        if rng.random() < (0.5 if depth < 2 else 0.75):
            continue
        inside = field.message_type
        if field.label == field.LABEL_REPEATED:
            count = rng.choice([1, 2, 3, 20 if depth == 0 else 4])
            target = getattr(message, field.name)
            if inside and inside.GetOptions().map_entry:
                key, value = inside.fields_by_name["key"], inside.fields_by_name["value"]
                for _ in range(count):
                    if value.message_type:
                        if depth < 4:
                            fill(rng, target[scalar(rng, key)], depth + 1)
                    else:
                        target[scalar(rng, key)] = scalar(rng, value)
            elif inside:
                for _ in range(count if depth < 4 else 0):
                    fill(rng, target.add(), depth + 1)
            else:
                target.extend([scalar(rng, field) for _ in range(count)])
        elif inside:
            if depth < 4:
                getattr(message, field.name).SetInParent()
                fill(rng, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, scalar(rng, field))


def plain(message):
    """A message as dicts and lists. Two libraries may keep overwritten map entries; read as a dict only the last is left."""
    out = {}
    for field, value in message.ListFields():
        inside = field.message_type
        if inside and inside.GetOptions().map_entry:
            convert = plain if inside.fields_by_name["value"].message_type else repr
            out[field.name] = {repr(key): convert(value[key]) for key in sorted(value)}
        elif inside and field.label == field.LABEL_REPEATED:
            out[field.name] = [plain(one) for one in value]
        else:
            out[field.name] = plain(value) if inside else repr(value)  # repr() tells 0.0 from -0.0
    return out


def difference(want, got):
    """The first lines in which the texts of two messages differ."""
    texts = [pprint.pformat(one, width=150).splitlines() for one in (want, got)]
    lines = difflib.unified_diff(*texts, "wanted", "got", lineterm="", n=8)
    return "\n".join(line[:160] for line in list(lines)[:60])


def main():
    pool = descriptor_pool.DescriptorPool()
    for path in sys.argv[2:]:
        with open(path, "rb") as file:
            for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
                pool.Add(proto)
    factory = message_factory.MessageFactory(pool)
    classes = {name: factory.GetPrototype(pool.FindMessageTypeByName(name)) for name in TYPES}
    unpacked = factory.GetPrototype(pool.FindMessageTypeByName("redkite.testing.Unpacked"))
    rng = random.Random(SEED)
    print("seed", SEED)

    vectors = []
    for name, cls in classes.items():
        for i in range(COUNT):
            parts = []
            for _ in range(1 + (i % 3 == 2)):
                message = cls()
                fill(rng, message, 0)
                parts.append(message.SerializeToString())
            if name == "redkite.testing.All" and i % 2:
                message = unpacked()
                fill(rng, message, 0)
                parts.append(message.SerializeToString())
            data = b"".join(parts)
            vectors.append((name, data))
    stream = b"".join(struct.pack("<I", len(n)) + n.encode() + struct.pack("<I", len(d)) + d for n, d in vectors)
    out = subprocess.run([sys.argv[1]], input=stream, stdout=subprocess.PIPE, check=True).stdout

    at = 0
    for index, (name, data) in enumerate(vectors):
        (length,) = struct.unpack_from("<I", out, at)
        at += 4
        assert length != 0xFFFFFFFF, "vector %d, %s: refused" % (index, name)
        want = plain(classes[name].FromString(data))
        got = plain(classes[name].FromString(out[at : at + length]))
        at += length
        assert got == want, "vector %d, %s differs:\n%s" % (index, name, difference(want, got))
    assert at == len(out)
    print("compared", len(vectors), "messages,", len(stream), "bytes")


if __name__ == "__main__":
    main()
