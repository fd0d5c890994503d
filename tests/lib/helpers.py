# SPDX-License-Identifier: Apache-2.0
"""Short forms of what every scenario does through MilvusClient."""
import numpy as np
import pymilvus
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from redkite_server import wait_until

CLIENT_3 = int(pymilvus.__version__.split(".")[0]) >= 3


def schema_of(fields, dynamic=False, auto_id=False, description=""):
    """fields: list of (name, type, {options})."""
    schema = MilvusClient.create_schema(auto_id=auto_id, enable_dynamic_field=dynamic, description=description)
    for name, kind, options in fields:
        schema.add_field(name, kind, **options)
    return schema


def index_of(fields):
    """fields: list of (field, index type, metric, {params})."""
    params = MilvusClient.prepare_index_params()
    for name, kind, metric, options in fields:
        params.add_index(field_name=name, index_type=kind, metric_type=metric, params=options)
    return params


def create(t, fields, indexes, dynamic=False, **options):
    name = t.name()
    t.client.create_collection(name, schema=schema_of(fields, dynamic), index_params=index_of(indexes),
                               consistency_level=options.pop("consistency_level", "Strong"), **options)
    return name


def hits_of(result, key="id"):
    return [(hit[key] if key in hit else hit["id"], hit["distance"]) for hit in result]


def rows_equal(got, want, tolerance=0.0):
    """Values as the client returns them against those it was given."""
    if isinstance(want, float) and isinstance(got, (float, int)):
        return abs(got - want) <= tolerance * max(1.0, abs(want))
    if isinstance(want, np.ndarray) or isinstance(got, np.ndarray):
        return np.allclose(np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64), atol=tolerance)
    if isinstance(want, (list, tuple)) and not isinstance(got, (str, bytes)) and got is not None:
        got = list(got)
        return len(got) == len(want) and all(rows_equal(g, w, tolerance) for g, w in zip(got, want))
    return got == want


def check_error(call, *patterns, code=None):
    """call() must raise the client's exception with every pattern in its message."""
    try:
        call()
    except MilvusException as error:
        text = str(error)
        missing = [p for p in patterns if p not in text]
        assert not missing, "the message lacks %r:\n%s" % (missing[0], text)
        if code is not None:
            codes = code if isinstance(code, tuple) else (code,)
            assert error.code in codes, "code %r instead of %r: %s" % (error.code, code, text)
        return error
    raise AssertionError("no error, but one with %r was expected" % (patterns,))


def is_loaded(client, name):
    return "Loaded" in str(client.get_load_state(name)["state"])


def wait_indexed(client, name, index, rows):
    """Until |rows| rows of the index are built."""
    wait_until(lambda: int(client.describe_index(name, index)["indexed_rows"]) == rows, what="index of %d rows" % rows)


def ids_where(client, name, expr, key="id", **options):
    return sorted(row[key] for row in client.query(name, filter=expr, output_fields=[key], **options))


def count(client, name, expr=""):
    return client.query(name, filter=expr, output_fields=["count(*)"])[0]["count(*)"]


__all__ = [n for n in dir() if not n.startswith("_")] + ["DataType"]
