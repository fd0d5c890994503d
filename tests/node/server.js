// SPDX-License-Identifier: Apache-2.0
// A redkite server process for the Node suite: ports the kernel picks, a data folder of its own below RK_WORK.
'use strict';
const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const readline = require('readline');

const READY_TIMEOUT_MS = 120000;

class Server {
  constructor(wiring) {
    this.wiring = wiring;
    this.folder = fs.mkdtempSync(path.join(process.env.RK_WORK || os.tmpdir(), 'redkite-node-'));
    this.logPath = path.join(this.folder, 'log');
  }

  start() {
    const binary = process.env.REDKITE_BIN || path.join(__dirname, '../../build/release/redkite');
    const log = fs.openSync(this.logPath, 'a');
    const env = { ...process.env, QUOTAANDLIMITS_FLUSHRATE_ENABLED: 'false' };
    this.process = spawn(
      binary,
      ['run', 'standalone', '--data', path.join(this.folder, 'data'), '--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0',
        '--wiring', this.wiring],
      { env, stdio: ['ignore', 'pipe', log] },
    );
    fs.closeSync(log);
    this.ended = new Promise((resolve) => {
      this.process.on('exit', (code, signal) => {
        this.exit = { code, signal };
        resolve(this.exit);
      });
      this.process.on('error', (error) => {
        this.exit = { code: error.message };
        resolve(this.exit);
      });
    });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the server is not ready after 120 s')), READY_TIMEOUT_MS);
      readline.createInterface({ input: this.process.stdout }).on('line', (line) => {
        const found = /^ready grpc=(\S+)/.exec(line);
        if (found) {
          clearTimeout(timer);
          this.address = found[1];
          resolve(this);
        }
      });
      this.ended.then((exit) => {
        clearTimeout(timer);
        reject(new Error(`the server ended before it was ready: ${JSON.stringify(exit)}\n${this.log()}`));
      });
    });
  }

  alive() {
    return !this.exit;
  }

  async stop() {
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 60000);
    this.process.kill('SIGTERM');
    const exit = await this.ended;
    clearTimeout(timer);
    if (exit.code !== 0) {
      throw new Error(`the server ended with ${JSON.stringify(exit)} after SIGTERM\n${this.log()}`);
    }
  }

  log() {
    try {
      return fs.readFileSync(this.logPath, 'utf8').split('\n').slice(-20).join('\n');
    } catch (error) {
      return '';
    }
  }

  remove() {
    if (this.alive()) {
      this.process.kill('SIGKILL');
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

module.exports = { Server };
