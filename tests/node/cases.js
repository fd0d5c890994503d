// SPDX-License-Identifier: Apache-2.0
// What a Node user does, case by case. A case is async (client, name of a collection of its own, server) and fails by any error.
'use strict';
const assert = require('assert');
const {
  DataType, MetricType, IndexType, ConsistencyLevelEnum, ErrorCode, IndexState, LoadState, f32ArrayToF16Bytes, f32ArrayToBf16Bytes,
} = require('@zilliz/milvus2-sdk-node');

const DIM = 8;
const STRONG = ConsistencyLevelEnum.Strong;

function ok(reply, what) {
  const status = reply.status || reply;
  assert.strictEqual(status.error_code, ErrorCode.SUCCESS, `${what || 'call'}: ${status.error_code} ${status.code}: ${status.reason}`);
  return reply;
}

function refused(reply, code, text) {
  const status = reply.status || reply;
  assert.notStrictEqual(status.error_code, ErrorCode.SUCCESS, 'no error');
  assert.strictEqual(Number(status.code), code, `code ${status.code}: ${status.reason}`);
  assert.ok(status.reason.includes(text), status.reason);
}

async function throws(promise, text) {
  try {
    const reply = await promise;
    const status = reply.status || reply;
    if (status.error_code && status.error_code !== ErrorCode.SUCCESS) {
      assert.ok(status.reason.includes(text), status.reason);
      return;
    }
  } catch (error) {
    const said = String(error.reason || error.details || error.message);
    assert.ok(said.includes(text), said);
    return;
  }
  assert.fail(`no error, but one with "${text}" was expected`);
}

// Vectors without chance: row i, component j.
const vector = (i, dim = DIM) => Array.from({ length: dim }, (_, j) => Math.fround(((i * 31 + j * 17) % 97) / 97 + 0.01));
const near = (a, b, eps = 1e-5) => assert.ok(Math.abs(a - b) <= eps * Math.max(1, Math.abs(b)), `${a} instead of ${b}`);
const ids = (hits) => hits.map((hit) => Number(hit.id));
const l2 = (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);

function exactL2(query, rows, limit, pass = () => true) {
  return rows.map((row) => [l2(query, row.vector), row.id]).filter(([, id]) => pass(id)).sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .slice(0, limit).map(([, id]) => id);
}

async function standard(client, name, count = 200) {
  ok(await client.createCollection({
    collection_name: name,
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
      { name: 'colour', data_type: DataType.VarChar, max_length: 32 },
      { name: 'price', data_type: DataType.Double },
      { name: 'tags', data_type: DataType.Array, element_type: DataType.VarChar, max_capacity: 8, max_length: 16 },
      { name: 'info', data_type: DataType.JSON },
    ],
    index_params: [{ field_name: 'vector', index_type: IndexType.HNSW, metric_type: MetricType.L2, params: { M: 16, efConstruction: 100 } }],
    consistency_level: 'Strong',
  }), 'create');
  const rows = Array.from({ length: count }, (_, i) => ({
    id: i, vector: vector(i), colour: ['red', 'green', 'blue'][i % 3], price: i / 4, tags: [`t${i % 5}`, 'all'], info: { n: i, nested: { even: i % 2 === 0 } },
  }));
  ok(await client.insert({ collection_name: name, data: rows }), 'insert');
  return rows;
}

module.exports = {
  async quick_start(client, name) {
    ok(await client.createCollection({ collection_name: name, dimension: DIM, metric_type: MetricType.COSINE }));
    assert.strictEqual((await client.hasCollection({ collection_name: name })).value, true);
    const data = Array.from({ length: 50 }, (_, i) => ({ id: i, vector: vector(i), text: `text ${i}`, even: i % 2 === 0 }));
    const inserted = ok(await client.insert({ collection_name: name, data }));
    assert.strictEqual(Number(inserted.insert_cnt), 50);
    const found = ok(await client.search({
      collection_name: name, data: vector(7), limit: 3, output_fields: ['id', 'text'], consistency_level: STRONG,
    }));
    assert.strictEqual(found.results.length, 3);
    assert.strictEqual(Number(found.results[0].id), 7);
    assert.strictEqual(found.results[0].text, 'text 7');
    near(found.results[0].score, 1);
    const some = ok(await client.query({ collection_name: name, filter: 'even == true and id < 10', output_fields: ['id', 'text'] }));
    assert.deepStrictEqual(some.data.map((row) => Number(row.id)), [0, 2, 4, 6, 8]);
    ok(await client.delete({ collection_name: name, ids: [7] }));
    assert.deepStrictEqual(ok(await client.get({ collection_name: name, ids: [7], consistency_level: STRONG })).data, []);
    ok(await client.dropCollection({ collection_name: name }));
    assert.strictEqual((await client.hasCollection({ collection_name: name })).value, false);
  },

  async version_and_health(client) {
    const version = await client.getVersion();
    assert.ok(version.version.length > 0);
    assert.strictEqual((await client.checkHealth()).isHealthy, true);
  },

  async full_schema(client, name) {
    ok(await client.createCollection({
      collection_name: name,
      description: 'every scalar type',
      enable_dynamic_field: true,
      fields: [
        { name: 'key', data_type: DataType.VarChar, is_primary_key: true, max_length: 40 },
        { name: 'b', data_type: DataType.Bool },
        { name: 'i8', data_type: DataType.Int8 },
        { name: 'i16', data_type: DataType.Int16 },
        { name: 'i32', data_type: DataType.Int32, nullable: true },
        { name: 'i64', data_type: DataType.Int64, default_value: 42 },
        { name: 'f', data_type: DataType.Float },
        { name: 'd', data_type: DataType.Double },
        { name: 's', data_type: DataType.VarChar, max_length: 200, nullable: true },
        { name: 'j', data_type: DataType.JSON },
        { name: 'ai', data_type: DataType.Array, element_type: DataType.Int64, max_capacity: 16 },
        { name: 'as', data_type: DataType.Array, element_type: DataType.VarChar, max_capacity: 16, max_length: 32 },
        { name: 'vector', data_type: DataType.FloatVector, dim: 4 },
      ],
      index_params: [{ field_name: 'vector', index_type: IndexType.FLAT, metric_type: MetricType.L2 }],
      consistency_level: 'Strong',
    }));
    const described = ok(await client.describeCollection({ collection_name: name }));
    const types = Object.fromEntries(described.schema.fields.map((field) => [field.name, field.data_type]));
    assert.strictEqual(types.i8, 'Int8');
    assert.strictEqual(types.ai, 'Array');
    assert.strictEqual(types.vector, 'FloatVector');
    assert.strictEqual(described.schema.enable_dynamic_field, true);
    assert.strictEqual(described.schema.description, 'every scalar type');
    assert.strictEqual(described.consistency_level, 'Strong');
    const rows = [
      { key: 'a', b: true, i8: -128, i16: 32767, i32: 5, i64: 9, f: 1.5, d: 0.1, s: 'München 日本', j: { x: [1, { y: null }] }, ai: [1, 2, 3], as: ['p', 'q'], vector: [1, 2, 3, 4], extra: 'dynamic' },
      { key: 'b', b: false, i8: 127, i16: -32768, i32: null, f: -2.25, d: 1e300, s: null, j: { x: 2 }, ai: [], as: [], vector: [5, 6, 7, 8], extra: 17 },
    ];
    ok(await client.insert({ collection_name: name, data: rows }));
    const got = ok(await client.query({ collection_name: name, filter: 'key in ["a", "b"]', output_fields: ['*'] })).data;
    assert.strictEqual(got.length, 2);
    const [a, b] = got[0].key === 'a' ? got : [got[1], got[0]];
    assert.strictEqual(a.b, true);
    assert.strictEqual(a.i8, -128);
    assert.strictEqual(a.i16, 32767);
    assert.strictEqual(a.i32, 5);
    assert.strictEqual(Number(a.i64), 9);
    near(a.f, 1.5);
    assert.strictEqual(a.d, 0.1);
    assert.strictEqual(a.s, 'München 日本');
    assert.deepStrictEqual(a.j, { x: [1, { y: null }] });
    assert.deepStrictEqual(a.ai.map(Number), [1, 2, 3]);
    assert.deepStrictEqual(a.as, ['p', 'q']);
    assert.deepStrictEqual(a.vector, [1, 2, 3, 4]);
    assert.strictEqual(a.$meta.extra, 'dynamic');
    assert.strictEqual(b.i32, null);
    assert.strictEqual(b.s, null);
    assert.strictEqual(Number(b.i64), 42);
    assert.strictEqual(b.d, 1e300);
    assert.strictEqual(b.$meta.extra, 17);
  },

  async vector_types(client, name) {
    const kinds = [
      ['half', DataType.Float16Vector, 'L2', (i) => f32ArrayToF16Bytes(vector(i)), { dim: DIM }],
      ['brain', DataType.BFloat16Vector, 'L2', (i) => f32ArrayToBf16Bytes(vector(i)), { dim: DIM }],
      ['small', DataType.Int8Vector, 'L2', (i) => vector(i).map((x) => Math.round(x * 100)), { dim: DIM }],
      ['bits', DataType.BinaryVector, 'HAMMING', (i) => [i % 256, (i * 37) % 256], { dim: 16 }],
      ['sparse', DataType.SparseFloatVector, 'IP', (i) => ({ [i]: 1.5, [i + 1000]: 0.5, [i + 70000]: 0.25 }), {}],
      ['full', DataType.FloatVector, 'L2', (i) => vector(i), { dim: DIM }],
    ];
    ok(await client.createCollection({
      collection_name: name,
      fields: [{ name: 'id', data_type: DataType.Int64, is_primary_key: true },
        ...kinds.map(([field, type, , , options]) => ({ name: field, data_type: type, ...options }))],
      index_params: kinds.map(([field, , metric]) => ({ field_name: field, index_type: IndexType.AUTOINDEX, metric_type: metric })),
      consistency_level: 'Strong',
    }));
    const data = Array.from({ length: 60 }, (_, i) => Object.fromEntries([['id', i], ...kinds.map(([field, , , make]) => [field, make(i)])]));
    ok(await client.insert({ collection_name: name, data }));
    for (const [field, , metric, make] of kinds) {
      const found = ok(await client.search({ collection_name: name, anns_field: field, data: [make(11)], limit: 1, output_fields: ['id', field] }), field);
      const hit = Array.isArray(found.results[0]) ? found.results[0][0] : found.results[0];
      assert.strictEqual(Number(hit.id), 11, field);
      near(hit.score, metric === 'IP' ? 2.5625 : 0, 1e-3);
    }
    const row = ok(await client.get({ collection_name: name, ids: [3], output_fields: ['full', 'sparse', 'bits', 'small'] })).data[0];
    assert.deepStrictEqual(row.full, vector(3));
    assert.deepStrictEqual(row.sparse, { 3: 1.5, 1003: 0.5, 70003: 0.25 });
    assert.deepStrictEqual(Array.from(row.bits), [3, 111]);
    assert.deepStrictEqual(Array.from(row.small), vector(3).map((x) => Math.round(x * 100)));
  },

  async search_with_filter_and_output(client, name) {
    const rows = await standard(client, name);
    const found = ok(await client.search({
      collection_name: name, data: vector(50), limit: 5, filter: 'colour == "red" and price < 40', output_fields: ['id', 'colour', 'price', 'tags', 'info'],
    }));
    assert.deepStrictEqual(ids(found.results), exactL2(vector(50), rows, 5, (id) => id % 3 === 0 && id / 4 < 40));
    for (const hit of found.results) {
      assert.strictEqual(hit.colour, 'red');
      assert.strictEqual(hit.price, Number(hit.id) / 4);
      assert.deepStrictEqual(hit.info.n, Number(hit.id));
      assert.strictEqual(hit.tags[1], 'all');
      near(hit.score, l2(vector(50), vector(Number(hit.id))), 1e-4);
    }
  },

  async search_several_queries(client, name) {
    const rows = await standard(client, name);
    const queries = [vector(3), vector(77), vector(150)];
    const found = ok(await client.search({ collection_name: name, data: queries, limit: 4 }));
    assert.strictEqual(found.results.length, 3);
    found.results.forEach((hits, q) => assert.deepStrictEqual(ids(hits), exactL2(queries[q], rows, 4)));
  },

  async search_pages(client, name) {
    const rows = await standard(client, name);
    const all = exactL2(vector(9), rows, 20);
    const page = ok(await client.search({ collection_name: name, data: vector(9), limit: 10, offset: 10, params: { ef: 200 } }));
    assert.deepStrictEqual(ids(page.results), all.slice(10));
  },

  async range_search(client, name) {
    const rows = await standard(client, name);
    const query = vector(20);
    const distances = rows.map((row) => [l2(query, row.vector), row.id]).sort((a, b) => a[0] - b[0]);
    const radius = (distances[30][0] + distances[31][0]) / 2;
    const found = ok(await client.search({ collection_name: name, data: query, limit: 100, params: { radius, range_filter: 0.0001, ef: 200 } }));
    const want = distances.filter(([d]) => d >= 0.0001 && d < radius).map(([, id]) => id).sort((a, b) => a - b);
    assert.deepStrictEqual(ids(found.results).sort((a, b) => a - b), want);
  },

  async search_consistency_levels(client, name) {
    await standard(client, name, 10);
    for (const level of ['Strong', 'Session', 'Bounded', 'Eventually']) {
      const found = ok(await client.search({ collection_name: name, data: vector(1), limit: 1, consistency_level: ConsistencyLevelEnum[level] }), level);
      assert.ok(found.results.length <= 1);
    }
  },

  async query_and_count(client, name) {
    await standard(client, name);
    const page = ok(await client.query({ collection_name: name, filter: 'id >= 100', output_fields: ['id'], limit: 5, offset: 3 }));
    assert.deepStrictEqual(page.data.map((row) => Number(row.id)), [103, 104, 105, 106, 107]);
    assert.strictEqual(Number(ok(await client.count({ collection_name: name })).data), 200);
    const counted = ok(await client.query({ collection_name: name, filter: 'info["nested"]["even"] == true', output_fields: ['count(*)'] }));
    assert.strictEqual(Number(counted.data[0]['count(*)']), 100);
    const tagged = ok(await client.query({ collection_name: name, filter: 'array_contains(tags, "t2") and id < 20', output_fields: ['id'] }));
    assert.deepStrictEqual(tagged.data.map((row) => Number(row.id)), [2, 7, 12, 17]);
    const templated = ok(await client.query({ collection_name: name, filter: 'id in {wanted}', exprValues: { wanted: [4, 5, 6000] }, output_fields: ['id'] }));
    assert.deepStrictEqual(templated.data.map((row) => Number(row.id)), [4, 5]);
  },

  async iterators(client, name) {
    await standard(client, name);
    const seen = [];
    const iterator = await client.queryIterator({ collection_name: name, batchSize: 33, expr: 'id < 120', output_fields: ['id'] });
    for await (const batch of iterator) {
      seen.push(...batch.map((row) => Number(row.id)));
    }
    assert.deepStrictEqual(seen.sort((a, b) => a - b), Array.from({ length: 120 }, (_, i) => i));
  },

  async get_rows(client, name) {
    await standard(client, name, 20);
    const got = ok(await client.get({ collection_name: name, ids: [3, 5, 999], output_fields: ['id', 'vector', 'colour'] }));
    assert.deepStrictEqual(got.data.map((row) => Number(row.id)).sort((a, b) => a - b), [3, 5]);
    assert.deepStrictEqual(got.data.find((row) => Number(row.id) === 3).vector, vector(3));
  },

  async upsert_and_delete(client, name) {
    await standard(client, name, 60);
    const changed = ok(await client.upsert({
      collection_name: name,
      data: [5, 500].map((id) => ({ id, vector: vector(id + 1), colour: 'black', price: 1, tags: [], info: {} })),
    }));
    assert.strictEqual(Number(changed.upsert_cnt), 2);
    const black = ok(await client.query({ collection_name: name, filter: 'colour == "black"', output_fields: ['id', 'vector'] }));
    assert.deepStrictEqual(black.data.map((row) => Number(row.id)), [5, 500]);
    assert.deepStrictEqual(black.data[0].vector, vector(6));
    assert.strictEqual(Number(ok(await client.count({ collection_name: name })).data), 61);
    ok(await client.delete({ collection_name: name, ids: [500] }));
    ok(await client.delete({ collection_name: name, filter: 'colour == "red"' }));
    const left = ok(await client.query({ collection_name: name, filter: 'id >= 0', output_fields: ['id'], limit: 1000 })).data.map((row) => Number(row.id));
    assert.deepStrictEqual(left, Array.from({ length: 60 }, (_, i) => i).filter((i) => i % 3 !== 0));
  },

  async auto_id(client, name) {
    ok(await client.createCollection({ collection_name: name, dimension: DIM, auto_id: true, consistency_level: 'Strong' }));
    const reply = ok(await client.insert({ collection_name: name, data: [{ vector: vector(1) }, { vector: vector(2) }] }));
    const keys = reply.IDs.int_id.data;
    assert.strictEqual(new Set(keys).size, 2);
    assert.strictEqual(ok(await client.get({ collection_name: name, ids: keys, output_fields: ['vector'] })).data.length, 2);
  },

  async partitions_shown(client, name) {
    await standard(client, name, 5);
    const shown = ok(await client.showPartitions({ collection_name: name }));
    assert.deepStrictEqual(shown.data.map((partition) => partition.name), ['_default']);
    assert.strictEqual(ok(await client.hasPartition({ collection_name: name, partition_name: '_default' })).value, true);
  },

  async collections_listed(client, name) {
    await standard(client, name, 5);
    const shown = ok(await client.showCollections());
    assert.ok(shown.data.some((collection) => collection.name === name));
    assert.ok(ok(await client.listDatabases()).db_names.includes('default'));
  },

  async flush_and_index_state(client, name) {
    const rows = await standard(client, name, 300);
    ok(await client.flushSync({ collection_names: [name] }));
    const described = ok(await client.describeIndex({ collection_name: name }));
    assert.strictEqual(described.index_descriptions.length, 1);
    const index = described.index_descriptions[0];
    assert.strictEqual(index.field_name, 'vector');
    const params = Object.fromEntries(index.params.map(({ key, value }) => [key, value]));
    assert.strictEqual(params.index_type, 'HNSW');
    assert.strictEqual(params.metric_type, 'L2');
    for (let i = 0; ; i++) {
      const state = ok(await client.getIndexState({ collection_name: name, field_name: 'vector' })).state;
      if (IndexState[state] === IndexState.Finished || state === 'Finished') {
        break;
      }
      assert.ok(i < 2400, `the index is still ${state}`);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    const progress = ok(await client.getIndexBuildProgress({ collection_name: name, field_name: 'vector' }));
    assert.strictEqual(Number(progress.total_rows), 300);
    assert.strictEqual(Number(progress.indexed_rows), 300);
    const statistics = ok(await client.getCollectionStatistics({ collection_name: name }));
    assert.strictEqual(Number(statistics.data.row_count), 300);
    const found = ok(await client.search({ collection_name: name, data: vector(8), limit: 5, params: { ef: 300 } }));
    assert.deepStrictEqual(ids(found.results), exactL2(vector(8), rows, 5));
  },

  async load_states(client, name) {
    await standard(client, name, 10);
    assert.strictEqual((await client.getLoadState({ collection_name: name })).state, LoadState.LoadStateLoaded);
    ok(await client.releaseCollection({ collection_name: name }));
    assert.strictEqual((await client.getLoadState({ collection_name: name })).state, LoadState.LoadStateNotLoad);
    refused(await client.query({ collection_name: name, filter: 'id > 0', output_fields: ['id'] }), 101, 'collection not loaded');
    ok(await client.loadCollectionSync({ collection_name: name }));
    assert.strictEqual(Number((await client.getLoadingProgress({ collection_name: name })).progress), 100);
    assert.strictEqual(Number(ok(await client.count({ collection_name: name })).data), 10);
    assert.strictEqual((await client.getLoadState({ collection_name: 'node_missing' })).state, LoadState.LoadStateNotExist);
  },

  async index_dropped_and_made_again(client, name) {
    await standard(client, name, 30);
    ok(await client.releaseCollection({ collection_name: name }));
    ok(await client.dropIndex({ collection_name: name, field_name: 'vector' }));
    refused(await client.describeIndex({ collection_name: name }), 700, 'index not found');
    await throws(client.loadCollection({ collection_name: name }), 'index not found');
    ok(await client.createIndex({ collection_name: name, field_name: 'vector', index_type: IndexType.IVF_FLAT, metric_type: 'COSINE', params: { nlist: 16 } }));
    ok(await client.loadCollectionSync({ collection_name: name }));
    const found = ok(await client.search({ collection_name: name, data: vector(12), limit: 1, params: { nprobe: 16 } }));
    assert.strictEqual(Number(found.results[0].id), 12);
  },

  async errors(client, name) {
    await throws(client.describeCollection({ collection_name: 'node_missing' }), "can't find collection");
    await throws(client.createCollection({ collection_name: '1bad', dimension: 4 }), 'first character');
    await throws(client.createCollection({ collection_name: name, dimension: 40000 }), 'dimension');
    await standard(client, name, 10);
    refused(await client.query({ collection_name: name, filter: 'id >', output_fields: ['id'] }), 1100, 'cannot parse expression');
    refused(await client.query({ collection_name: name, filter: 'nothing == 3', output_fields: ['id'] }), 1100, 'nothing');
    await throws(client.search({ collection_name: name, data: vector(1), limit: 16385 }), 'is invalid, it should be in range [1, 16384]');
    await throws(client.search({ collection_name: name, data: [1, 2, 3], limit: 1 }), 'dimension');
    await throws(client.search({ collection_name: name, data: vector(1), limit: 1, metric_type: 'IP' }), 'metric type not match');
    await throws(client.insert({ collection_name: name, data: [{ id: 1, vector: [1, 2], colour: 'x', price: 1, tags: [], info: {} }] }), '');
    refused(await client.createIndex({ collection_name: name, field_name: 'nothing', index_type: 'FLAT', metric_type: 'L2' }), 1100, 'non-exist field');
    assert.strictEqual(Number(ok(await client.count({ collection_name: name })).data), 10);
  },

  async concurrent_requests(client, name) {
    const rows = await standard(client, name, 100);
    await Promise.all(Array.from({ length: 200 }, async (_, i) => {
      const found = ok(await client.search({ collection_name: name, data: vector(i % 100), limit: 3 }));
      assert.deepStrictEqual(ids(found.results), exactL2(vector(i % 100), rows, 3));
    }));
  },

  async drop_is_final(client, name) {
    await standard(client, name, 5);
    ok(await client.dropCollection({ collection_name: name }));
    await throws(client.query({ collection_name: name, filter: 'id > 0', output_fields: ['id'] }), 'collection');
    ok(await client.dropCollection({ collection_name: name }));
    await standard(client, name, 3);
    assert.strictEqual(Number(ok(await client.count({ collection_name: name })).data), 3);
  },
};
