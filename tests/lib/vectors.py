# SPDX-License-Identifier: Apache-2.0
"""Vectors of every type, and exact search over them in numpy.

A vector is held here as the float64 values the server has after storing it (halves and bfloat16 rounded), together with
the form the client sends. Scores are those of the public API: squared L2, raw inner product, cosine, differing bits,
Jaccard distance.
"""
import ml_dtypes
import numpy as np
from pymilvus import DataType

FLOAT_METRICS = ("L2", "IP", "COSINE")
BINARY_METRICS = ("HAMMING", "JACCARD")
METRICS = {
    DataType.FLOAT_VECTOR: FLOAT_METRICS,
    DataType.FLOAT16_VECTOR: FLOAT_METRICS,
    DataType.BFLOAT16_VECTOR: FLOAT_METRICS,
    DataType.INT8_VECTOR: FLOAT_METRICS,
    DataType.BINARY_VECTOR: BINARY_METRICS,
    DataType.SPARSE_FLOAT_VECTOR: ("IP",),
}
LARGER_IS_NEARER = {"IP": True, "COSINE": True, "L2": False, "HAMMING": False, "JACCARD": False,
                    "SUBSTRUCTURE": False, "SUPERSTRUCTURE": False}


class Vectors:
    """n vectors of one type: .sent[i] goes to the client, .values[i] is what it means."""

    def __init__(self, kind, sent, values):
        self.kind = kind
        self.sent = sent
        self.values = values

    def __len__(self):
        return len(self.sent)


def make(kind, n, dim, rng):
    if kind == DataType.SPARSE_FLOAT_VECTOR:
        sent, values = [], np.zeros((n, dim))
        for i in range(n):
            picked = rng.choice(dim, size=int(rng.integers(1, 12)), replace=False)
            row = {int(k): float(np.float32(rng.random() + 0.01)) for k in sorted(picked)}
            sent.append(row)
            for k, v in row.items():
                values[i, k] = v
        return Vectors(kind, sent, values)
    if kind == DataType.BINARY_VECTOR:
        packed = rng.integers(0, 256, size=(n, dim // 8), dtype=np.uint8)
        return Vectors(kind, [row.tobytes() for row in packed], np.unpackbits(packed, axis=1).astype(np.float64))
    if kind == DataType.INT8_VECTOR:
        numbers = rng.integers(-128, 128, size=(n, dim), dtype=np.int8)
        return Vectors(kind, list(numbers), numbers.astype(np.float64))
    numbers = rng.standard_normal((n, dim)).astype(np.float32)
    if kind == DataType.FLOAT16_VECTOR:
        numbers = numbers.astype(np.float16)
    elif kind == DataType.BFLOAT16_VECTOR:
        numbers = numbers.astype(ml_dtypes.bfloat16)
    return Vectors(kind, list(numbers), numbers.astype(np.float64))


def plain(kind, value):
    """An output field's value as numbers, to compare with .values."""
    if kind == DataType.SPARSE_FLOAT_VECTOR:
        return dict(value)
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], bytes):
        value = value[0]
    if kind == DataType.BINARY_VECTOR:
        return np.unpackbits(np.frombuffer(bytes(value), dtype=np.uint8)).astype(np.float64)
    if isinstance(value, (bytes, bytearray)):
        dtype = {DataType.FLOAT16_VECTOR: np.float16, DataType.BFLOAT16_VECTOR: ml_dtypes.bfloat16,
                 DataType.INT8_VECTOR: np.int8}[kind]
        return np.frombuffer(value, dtype=dtype).astype(np.float64)
    return np.asarray(value).astype(np.float64)


def scores(metric, query, rows):
    """The score of |query| against every row of |rows|."""
    if metric == "L2":
        return ((rows - query) ** 2).sum(axis=1)
    if metric == "IP":
        return rows @ query
    if metric == "COSINE":
        length = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
        return np.divide(rows @ query, length, out=np.zeros(len(rows)), where=length > 0)
    if metric == "HAMMING":
        return (rows != query).sum(axis=1).astype(np.float64)
    both = np.minimum(rows, query).sum(axis=1)
    if metric == "JACCARD":
        either = np.maximum(rows, query).sum(axis=1)
        return 1 - np.divide(both, either, out=np.ones(len(rows)), where=either > 0)
    raise ValueError(metric)


def tolerance(metric, kind, dim, largest):
    """How far a float32 computation may be from the exact score."""
    if metric in ("HAMMING",):
        return 0.0
    if metric in ("JACCARD", "COSINE"):
        return 2e-5
    return 1e-5 * max(1.0, largest) + 1e-6 * dim


def check_exact(hits, metric, kind, query, keys, rows, limit, offset=0, what="", low=None, high=None):
    """
    Asserts that |hits| [(key, score)] is the exact answer over |keys| (list) and |rows| (values of the same order).
    Equal scores may come in any order of their computed values, but equal computed ones by key. |low| and |high|
    restrict the scores to (low, high] or [low, high) as a range search does.
    """
    larger = LARGER_IS_NEARER[metric]
    all_scores = scores(metric, query, rows) if len(rows) else np.zeros(0)
    eps = tolerance(metric, kind, rows.shape[1] if len(rows) else 1, float(np.abs(all_scores).max(initial=0)))
    keep = np.ones(len(keys), dtype=bool)
    if kind == DataType.SPARSE_FLOAT_VECTOR:
        keep &= all_scores > 0
    if low is not None:
        keep &= all_scores > low if larger else all_scores >= low
    if high is not None:
        keep &= all_scores <= high if larger else all_scores < high
    exact = dict(zip([k for k, y in zip(keys, keep) if y], all_scores[keep].tolist()))
    order = sorted(exact.values(), reverse=larger)
    want = min(limit, max(0, len(exact) - offset))
    got = [key for key, _ in hits]
    assert len(hits) == want, "%s: %d hits instead of %d" % (what, len(hits), want)
    assert len(set(got)) == len(got), "%s: a key came twice: %s" % (what, got)
    for rank, (key, score) in enumerate(hits):
        assert key in exact, "%s: key %r is not among the rows that may be found" % (what, key)
        assert abs(score - exact[key]) <= eps, "%s: score of %r is %r instead of %r" % (what, key, score, exact[key])
        assert abs(order[rank + offset] - exact[key]) <= 2 * eps, \
            "%s: rank %d holds %r with %r, the exact one has %r" % (what, rank, key, exact[key], order[rank + offset])
    for (key_a, a), (key_b, b) in zip(hits, hits[1:]):
        assert a >= b if larger else a <= b, "%s: scores out of order: %r then %r" % (what, a, b)
        if a == b:
            assert key_a < key_b, "%s: equal scores %r, but key %r before %r" % (what, a, key_a, key_b)
    if hits and offset == 0:
        last = order[want - 1]
        for key, score in exact.items():
            nearer = score > last + 2 * eps if larger else score < last - 2 * eps
            assert not nearer or key in got, "%s: key %r with %r is missing" % (what, key, score)


def recall(got, metric, query, keys, rows, limit):
    """Share of |got| (list of keys) that is as near as the exact top |limit|; equal scores are equally good."""
    s = scores(metric, query, rows)
    order = np.sort(-s if LARGER_IS_NEARER[metric] else s)
    last = order[min(limit, len(order)) - 1] + 1e-6
    exact = dict(zip(keys, (-s if LARGER_IS_NEARER[metric] else s).tolist()))
    return sum(exact[k] <= last for k in got) / max(1, min(limit, len(order)))
