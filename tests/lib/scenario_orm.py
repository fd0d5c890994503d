# SPDX-License-Identifier: Apache-2.0
"""The older, object-style interface of the client: connections, Collection, utility."""
import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

from helpers import check_error
from runner import case

D = DataType


def connect(t):
    host, port = t.server.grpc.rsplit(":", 1)
    alias = t.name("orm")
    connections.connect(alias, host=host, port=port)
    return alias


@case
def collection_objects(t):
    alias, name = connect(t), t.name()
    schema = CollectionSchema([FieldSchema("pk", D.INT64, is_primary=True, auto_id=False),
                               FieldSchema("random", D.DOUBLE), FieldSchema("word", D.VARCHAR, max_length=30),
                               FieldSchema("embeddings", D.FLOAT_VECTOR, dim=8)], "from the tutorial")
    c = Collection(name, schema, consistency_level="Strong", using=alias)
    assert utility.has_collection(name, using=alias) and name in utility.list_collections(using=alias)
    rng = np.random.default_rng(19)
    data = rng.random((500, 8), dtype=np.float32)
    numbers = rng.random(500)
    result = c.insert([list(range(500)), numbers.tolist(), ["w%d" % i for i in range(500)], data])
    assert result.insert_count == 500 and result.primary_keys[:3] == [0, 1, 2]
    c.flush()
    assert c.num_entities == 500
    c.create_index("embeddings", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 16}})
    assert utility.wait_for_index_building_complete(name, using=alias)
    assert utility.index_building_progress(name, using=alias)["indexed_rows"] == 500
    index = c.index()
    assert index.field_name == "embeddings" and index.params["index_type"] == "IVF_FLAT", index.params
    assert index.params["params"]["nlist"] in (16, "16") and c.has_index()
    c.load()
    utility.wait_for_loading_complete(name, using=alias)
    assert utility.loading_progress(name, using=alias)["loading_progress"] == "100%"
    assert "Loaded" in str(utility.load_state(name, using=alias))
    param = {"metric_type": "L2", "params": {"nprobe": 16}}
    found = c.search(data[:2], "embeddings", param, limit=3, output_fields=["random"])
    assert [hits[0].id for hits in found] == [0, 1] and abs(found[0][0].distance) < 1e-5
    assert abs(found[0][0].entity.get("random") - numbers[0]) < 1e-12
    assert found[0].ids[0] == 0 and len(found[0].distances) == 3
    found = c.search(data[:1], "embeddings", param, limit=5, expr="random > 0.5", output_fields=["random"])
    assert all(hit.entity.get("random") > 0.5 for hit in found[0])
    rows = c.query(expr="pk in [1, 2]", output_fields=["random", "embeddings"])
    assert [r["pk"] for r in rows] == [1, 2] and np.allclose(rows[1]["embeddings"], data[2])
    assert len(c.query(expr="random > 0.5", limit=4)) == 4
    assert c.delete("pk in [0, 1]").delete_count == 2
    assert c.query(expr="pk in [0, 1]") == []
    result = c.upsert([[5, 1000], [0.25, 0.75], ["five", "new"], data[:2]])
    assert result.upsert_count == 2
    assert c.query(expr="pk == 5", output_fields=["word"])[0]["word"] == "five"
    assert c.query(expr="", output_fields=["count(*)"])[0]["count(*)"] == 499
    again = Collection(name, using=alias)
    assert [f.name for f in again.schema.fields] == ["pk", "random", "word", "embeddings"]
    assert again.description == "from the tutorial" and again.primary_field.name == "pk"
    iterator = c.query_iterator(batch_size=200, expr="pk >= 0")
    seen = []
    while True:
        page = iterator.next()
        if not page:
            break
        seen += [r["pk"] for r in page]
    iterator.close()
    assert len(seen) == 499 and seen == sorted(seen)
    c.release()
    check_error(lambda: c.search(data[:1], "embeddings", param, limit=1), "collection not loaded")
    c.drop_index()
    assert not c.has_index()
    c.drop()
    assert not utility.has_collection(name, using=alias)
    connections.disconnect(alias)


@case
def collection_objects_with_generated_keys_and_partition(t):
    alias, name = connect(t), t.name()
    schema = CollectionSchema([FieldSchema("pk", D.VARCHAR, is_primary=True, auto_id=True, max_length=100),
                               FieldSchema("v", D.BINARY_VECTOR, dim=16)], enable_dynamic_field=True)
    c = Collection(name, schema, using=alias, num_shards=2)
    keys = c.insert([{"v": bytes([i, 0]), "n": i} for i in range(20)]).primary_keys
    assert len(set(keys)) == 20
    assert [p.name for p in c.partitions] == ["_default"] and c.has_partition("_default")
    c.create_index("v", {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}, index_name="by_bits")
    assert [i.index_name for i in c.indexes] == ["by_bits"]
    c.load()
    found = c.search([bytes([7, 0])], "v", {"metric_type": "HAMMING"}, limit=1, output_fields=["n"],
                     consistency_level="Strong")
    assert found[0][0].id == keys[7] and found[0][0].entity.get("n") == 7
    check_error(lambda: c.create_index("v", {"index_type": "BIN_FLAT", "metric_type": "JACCARD", "params": {}}),
                "at most one distinct index is allowed per field")
    c.drop()
    connections.disconnect(alias)
