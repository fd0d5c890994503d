# SPDX-License-Identifier: Apache-2.0
"""What the first page of every tutorial does."""
import numpy as np

from helpers import check_error, count, hits_of, is_loaded
from runner import case


def colours(n):
    rng = np.random.default_rng(1)
    return [{"id": i, "vector": rng.random(8).astype(np.float32).tolist(), "text": "text %d" % i,
             "subject": "history" if i % 3 else "biology"} for i in range(n)]


@case
def quick_start(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=8)
    assert c.has_collection(name) and name in c.list_collections() and is_loaded(c, name)
    data = colours(30)
    answer = c.insert(name, data)
    assert answer["insert_count"] == 30 and list(answer["ids"]) == list(range(30)), answer

    found = c.search(name, data=[data[4]["vector"]], filter="subject == 'history'", limit=3,
                     output_fields=["text", "subject"])
    assert len(found) == 1 and len(found[0]) == 3
    assert found[0][0]["id"] == 4 and abs(found[0][0]["distance"] - 1) < 1e-5
    assert found[0][0]["entity"] == {"text": "text 4", "subject": "history"}, found[0][0]
    assert all(hit["entity"]["subject"] == "history" for hit in found[0])

    rows = c.query(name, filter="subject == 'biology'", output_fields=["text", "subject"])
    assert [row["id"] for row in rows] == list(range(0, 30, 3)), rows
    assert rows[1] == {"id": 3, "text": "text 3", "subject": "biology"}, rows[1]

    rows = c.get(name, ids=[2, 5])
    assert [row["id"] for row in rows] == [2, 5] and rows[0]["text"] == "text 2"
    assert np.allclose(rows[0]["vector"], data[2]["vector"])

    changed = dict(data[2], text="changed")
    answer = c.upsert(name, [changed, {"id": 100, "vector": data[0]["vector"], "text": "new", "subject": "new"}])
    assert answer["upsert_count"] == 2, answer
    assert c.get(name, ids=[2])[0]["text"] == "changed" and c.get(name, ids=100)[0]["subject"] == "new"
    assert count(c, name) == 31

    assert c.delete(name, ids=[2, 100])["delete_count"] == 2
    assert c.delete(name, filter="subject == 'biology'")["delete_count"] == 10
    assert count(c, name) == 19
    assert c.get(name, ids=[2]) == []

    c.drop_collection(name)
    assert not c.has_collection(name)
    c.drop_collection(name)  # gone is gone


@case
def quick_create_with_names_and_text_keys(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=4, primary_field_name="key", id_type="string", max_length=64,
                        vector_field_name="embedding", metric_type="L2", consistency_level="Strong")
    c.insert(name, [{"key": "k%02d" % i, "embedding": [i, 0, 0, 0], "rank": i} for i in range(20)])
    found = c.search(name, data=[[7.2, 0, 0, 0]], limit=3, output_fields=["rank"])
    assert [hit["key"] for hit in found[0]] == ["k07", "k08", "k06"], found
    assert abs(found[0][0]["distance"] - 0.04) < 1e-5
    assert [row["key"] for row in c.query(name, filter="rank < 3", output_fields=["rank"])] == ["k00", "k01", "k02"]
    assert c.delete(name, ids=["k00", "nothing"])["delete_count"] == 2
    assert count(c, name) == 19
    description = c.describe_collection(name)
    assert [f["name"] for f in description["fields"]] == ["key", "embedding"]
    assert description["enable_dynamic_field"] is True


@case
def generated_keys(t):
    c = t.client
    for id_type, options in (("int", {}), ("string", {"max_length": 40})):
        name = t.name()
        c.create_collection(name, dimension=4, id_type=id_type, auto_id=True, consistency_level="Strong", **options)
        answer = c.insert(name, [{"vector": [i, 1, 2, 3], "n": i} for i in range(10)])
        keys = list(answer["ids"])
        assert len(set(keys)) == 10 and all(isinstance(k, int if id_type == "int" else str) for k in keys), keys
        more = list(c.insert(name, [{"vector": [0, 1, 2, 3], "n": 99}])["ids"])
        assert not set(more) & set(keys)
        assert c.get(name, ids=[keys[3]], output_fields=["n"])[0]["n"] == 3
        # an upsert takes the old row away and makes a new key
        new = list(c.upsert(name, [{"id": keys[3], "vector": [3, 1, 2, 3], "n": 33}])["ids"])
        assert len(new) == 1 and new[0] not in keys, new
        assert c.get(name, ids=[keys[3]]) == []
        assert c.get(name, ids=new, output_fields=["n"])[0]["n"] == 33
        assert count(c, name) == 11


@case
def keys_refused_or_missing(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=4, auto_id=True)
    check_error(lambda: c.insert(name, [{"id": 5, "vector": [1, 2, 3, 4]}]), "auto")
    other = t.name()
    c.create_collection(other, dimension=4)
    check_error(lambda: c.insert(other, [{"vector": [1, 2, 3, 4]}]), "id")
    c.insert(other, [{"id": 1, "vector": [1, 2, 3, 4]}])
    check_error(lambda: c.upsert(other, [{"id": 1, "vector": [1, 2, 3, 4]}, {"id": 1, "vector": [1, 2, 3, 4]}]),
                "duplicate primary keys are not allowed in the same batch")


@case
def a_key_inserted_twice_counts_once(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=2, metric_type="L2", consistency_level="Strong")
    c.insert(name, [{"id": 1, "vector": [0, 0], "v": "old"}])
    c.insert(name, [{"id": 1, "vector": [1, 1], "v": "new"}])
    rows = c.query(name, filter="id == 1", output_fields=["v"])
    assert list(rows) == [{"id": 1, "v": "new"}], rows
    found = hits_of(c.search(name, data=[[0, 0]], limit=10)[0])
    assert [k for k, _ in found] == [1], found


@case
def empty_collection(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=4, consistency_level="Strong")
    found = c.search(name, data=[[1, 2, 3, 4], [1, 2, 3, 5]], limit=5)
    assert len(found) == 2 and all(len(one) == 0 for one in found)
    assert list(c.query(name, filter="id > 0", output_fields=["*"])) == []
    assert count(c, name) == 0
    assert c.get(name, ids=[1]) == []
    assert c.delete(name, filter="id > 3")["delete_count"] == 0
    assert c.get_collection_stats(name)["row_count"] == 0


@case
def partial_update(t):
    c, name = t.client, t.name()
    c.create_collection(name, dimension=4, consistency_level="Strong")
    c.insert(name, [{"id": i, "vector": [i, 1, 2, 3], "a": i, "b": "b%d" % i} for i in range(5)])
    c.upsert(name, [{"id": 2, "a": 22}], partial_update=True)
    row = c.get(name, ids=[2])[0]
    assert row["a"] == 22 and row["b"] == "b2" and list(row["vector"]) == [2, 1, 2, 3], row
    assert count(c, name) == 5
