// SPDX-License-Identifier: Apache-2.0
// Runs the cases of cases.js against one server per wiring and counts. RK_TEST_ONLY: only cases with this in their name.
'use strict';
const { MilvusClient } = require('@zilliz/milvus2-sdk-node');
const { Server } = require('./server');
const cases = require('./cases');

const CASE_TIMEOUT_MS = 240000;

function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('took longer than 240 s')), CASE_TIMEOUT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function main() {
  const only = process.env.RK_TEST_ONLY || '';
  const failed = [];
  let passed = 0;
  for (const wiring of (process.env.REDKITE_WIRING || 'near,far').split(',')) {
    let server = await new Server(wiring).start();
    let counter = 0;
    for (const [name, run] of Object.entries(cases)) {
      if (!name.includes(only)) {
        continue;
      }
      if (!server.alive()) {
        server.remove();
        server = await new Server(wiring).start();
      }
      const client = new MilvusClient({ address: server.address, logLevel: 'error', telemetry: { enabled: false } });
      const collection = `node_${++counter}`;
      try {
        await limited(run(client, collection, server));
        if (!server.alive()) {
          throw new Error(`the server died\n${server.log()}`);
        }
        passed++;
      } catch (error) {
        failed.push(`${name} [${wiring}]`);
        console.log(`FAIL ${name} [${wiring}]`, error && error.stack ? error.stack : error);
      }
      try {
        await client.dropCollection({ collection_name: collection });
        await client.closeConnection();
      } catch (error) {
        // a dead server has been told above
      }
    }
    try {
      await server.stop();
      passed++;
    } catch (error) {
      failed.push(`shutdown [${wiring}]`);
      console.log(`FAIL shutdown [${wiring}]`, error.message);
    }
    server.remove();
  }
  failed.forEach((name) => console.log('failed:', name));
  console.log(`SUITE node: ${passed} passed, ${failed.length} failed`);
  process.exit(failed.length ? 1 : 0);
}

main().catch((error) => {
  console.log(error);
  console.log('SUITE node: 0 passed, 1 failed');
  process.exit(1);
});
