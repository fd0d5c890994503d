# SPDX-License-Identifier: Apache-2.0
"""The API one message at a time: the client library's generated stubs without its retries, caches and waits."""
import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

DIM = 8
PAYLOAD_BYTES = 240
TIMEOUT_S = 60
STRONG = 0
OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1),
           ("grpc.max_send_message_length", -1), ("grpc.initial_reconnect_backoff_ms", 50)]


class Refused(Exception):
    """The server answered, and the answer was no."""

    def __init__(self, call, status):
        super().__init__("%s: code %d: %s" % (call, status.code, status.reason))
        self.code = status.code
        self.reason = status.reason


def vectors_of(ids, gens):
    """Row contents follow from key and generation, so that a reader can tell every wrong byte."""
    base = (np.asarray(ids, dtype=np.int64) * 7919 + np.asarray(gens, dtype=np.int64) * 104729) % 1000003
    j = np.arange(1, DIM + 1, dtype=np.int64)
    return (((base[:, None] * (2 * j + 1) * 31 + j * 977) % 1000003) / 1000003.0).astype(np.float32)


def payload_of(key, gen):
    head = "%d.%d." % (key, gen)
    return head + "abcdefghij"[key % 10] * (PAYLOAD_BYTES - len(head))


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, OPTIONS)
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def call(self, name, request, timeout=TIMEOUT_S):
        reply = getattr(self.stub, name)(request, timeout=timeout)
        status = reply if isinstance(reply, common_pb2.Status) else reply.status
        if status.code != 0 or status.error_code != 0:
            raise Refused(name, status)
        return reply

    # ---- collections ----

    def create(self, name, shards=2):
        f, t = schema_pb2.FieldSchema, schema_pb2.DataType
        pair = common_pb2.KeyValuePair
        schema = schema_pb2.CollectionSchema(name=name, fields=[
            f(name="id", data_type=t.Int64, is_primary_key=True),
            f(name="vector", data_type=t.FloatVector, type_params=[pair(key="dim", value=str(DIM))]),
            f(name="gen", data_type=t.Int64),
            f(name="payload", data_type=t.VarChar, type_params=[pair(key="max_length", value="1024")])])
        self.call("CreateCollection", milvus_pb2.CreateCollectionRequest(
            collection_name=name, schema=schema.SerializeToString(), shards_num=shards, consistency_level=STRONG))

    def create_index(self, name, kind="IVF_FLAT", params='{"nlist":8}'):
        pair = common_pb2.KeyValuePair
        self.call("CreateIndex", milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector", extra_params=[
            pair(key="index_type", value=kind), pair(key="metric_type", value="L2"), pair(key="params", value=params)]))

    def load(self, name):
        self.call("LoadCollection", milvus_pb2.LoadCollectionRequest(collection_name=name, replica_number=1))

    def drop(self, name):
        self.call("DropCollection", milvus_pb2.DropCollectionRequest(collection_name=name))

    def names(self):
        return list(self.call("ShowCollections", milvus_pb2.ShowCollectionsRequest()).collection_names)

    def flush(self, name):
        self.call("Flush", milvus_pb2.FlushRequest(collection_names=[name]))

    # ---- rows ----

    @staticmethod
    def columns(ids, gens):
        t, s = schema_pb2.DataType, schema_pb2
        return [
            s.FieldData(type=t.Int64, field_name="id", scalars=s.ScalarField(long_data=s.LongArray(data=ids))),
            s.FieldData(type=t.FloatVector, field_name="vector", vectors=s.VectorField(
                dim=DIM, float_vector=s.FloatArray(data=vectors_of(ids, gens).ravel()))),
            s.FieldData(type=t.Int64, field_name="gen", scalars=s.ScalarField(long_data=s.LongArray(data=gens))),
            s.FieldData(type=t.VarChar, field_name="payload", scalars=s.ScalarField(string_data=s.StringArray(
                data=[payload_of(k, g) for k, g in zip(ids, gens)])))]

    def insert(self, name, ids, gens, timeout=TIMEOUT_S):
        reply = self.call("Insert", milvus_pb2.InsertRequest(collection_name=name, fields_data=self.columns(ids, gens),
                                                             num_rows=len(ids)), timeout)
        assert reply.insert_cnt == len(ids), reply

    def upsert(self, name, ids, gens):
        reply = self.call("Upsert", milvus_pb2.UpsertRequest(collection_name=name, fields_data=self.columns(ids, gens),
                                                             num_rows=len(ids)))
        assert reply.upsert_cnt == len(ids), reply

    def delete(self, name, expr):
        self.call("Delete", milvus_pb2.DeleteRequest(collection_name=name, expr=expr))

    def query(self, name, expr, fields, limit=16384, timeout=TIMEOUT_S):
        pair = common_pb2.KeyValuePair
        params = [] if fields == ["count(*)"] else [pair(key="limit", value=str(limit))]
        reply = self.call("Query", milvus_pb2.QueryRequest(collection_name=name, expr=expr, output_fields=fields,
                                                           consistency_level=STRONG, guarantee_timestamp=0,
                                                           query_params=params), timeout)
        return {column.field_name: column for column in reply.fields_data}

    def count(self, name, expr="", timeout=TIMEOUT_S):
        column = self.query(name, expr, ["count(*)"], timeout=timeout)["count(*)"]
        return column.scalars.long_data.data[0]

    def rows(self, name, low, high):
        """{key: generation} of the keys in [low, high); raises when any content is wrong or a key comes twice."""
        columns = self.query(name, "id >= %d and id < %d" % (low, high), ["id", "gen", "payload", "vector"])
        ids = list(columns["id"].scalars.long_data.data)
        gens = list(columns["gen"].scalars.long_data.data)
        texts = list(columns["payload"].scalars.string_data.data)
        numbers = np.array(columns["vector"].vectors.float_vector.data, dtype=np.float32).reshape(len(ids), DIM)
        assert len(ids) == len(gens) == len(texts), "columns of unequal length"
        assert len(set(ids)) == len(ids), "keys came twice: %s" % sorted(k for k in set(ids) if ids.count(k) > 1)[:10]
        for key, gen, text in zip(ids, gens, texts):
            assert text == payload_of(key, gen), "payload of key %d, generation %d is %.60r" % (key, gen, text)
        if ids:
            wrong = np.nonzero((numbers != vectors_of(ids, gens)).any(axis=1))[0]
            assert len(wrong) == 0, "vector of key %d is wrong" % ids[wrong[0]]
        return dict(zip(ids, gens))

    def nearest(self, name, vector, limit=1):
        """Keys nearest to |vector|, and their distances."""
        pair = common_pb2.KeyValuePair
        holder = common_pb2.PlaceholderGroup(placeholders=[common_pb2.PlaceholderValue(
            tag="$0", type=common_pb2.PlaceholderType.FloatVector, values=[np.asarray(vector, dtype="<f4").tobytes()])])
        reply = self.call("Search", milvus_pb2.SearchRequest(
            collection_name=name, placeholder_group=holder.SerializeToString(), dsl_type=common_pb2.DslType.BoolExprV1, nq=1,
            consistency_level=STRONG, search_params=[
                pair(key="anns_field", value="vector"), pair(key="topk", value=str(limit)), pair(key="metric_type", value="L2"),
                pair(key="params", value='{"nprobe":8}')]))
        return list(reply.results.ids.int_id.data), list(reply.results.scores)
