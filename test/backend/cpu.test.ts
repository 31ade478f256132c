/** The native backend: the common suite on each instruction set that this processor has, and what is its own. */
import { createRequire } from 'node:module';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { loadAddon, nativeBytesAllocated } from '../../src/backend/addon.js';
import { openCpu, reportCpu } from '../../src/backend/cpu.js';
import { openReference } from '../../src/backend/reference.js';
import { addonPath } from '../../src/paths.js';
import { backendSuite, failure, longProgram } from './suite.js';
import { encode, F32, fill, SCRATCH, tensor } from './tiny-program.js';

const addon = loadAddon();
const missing = typeof addon === 'string';
const SIZES = { state: 4096, scratch: 1 << 22, io: 4096, store: 0 };

describe.skipIf(missing)('cpu', () => {
  backendSuite(async (options) => openCpu(options), undefined, true);
});

describe.skipIf(missing)('reference in the addon', () => {
  backendSuite((options) => openReference(options), undefined, true);
});

describe.skipIf(missing)('instruction sets', () => {
  it.each(reportCpu().isas)('%s runs a program', async (isa) => {
    const backend = openCpu({ isa, threads: 2 });
    expect(backend.info).toMatchObject({ isa, real: 'f32', name: 'cpu' });
    const s = await backend.createSession(SIZES);
    await s.run(s.load(longProgram(3)));
    expect(new Float32Array(s.read('state', 0, 16).buffer)).toEqual(new Float32Array(4).fill(7));
    await backend.close();
  });
  it('refuses one that there is not, and names those that there are', async () => {
    const error = await failure(() => openCpu({ isa: 'sse9' }));
    expect(error).toMatchObject({ code: 'device' });
    expect(error.message).toContain(reportCpu().isas[0]);
  });
});

describe.skipIf(missing)('what a session holds', () => {
  it('is returned when it closes, and nothing grows while it runs', async () => {
    const before = nativeBytesAllocated();
    const backend = openCpu({ threads: 2 });
    const s = await backend.createSession(SIZES);
    const program = s.load(encode({ calls: [fill(tensor(SCRATCH, F32, 0, 64), 1)] }));
    const held = nativeBytesAllocated();
    expect(held).toBeGreaterThanOrEqual(before + (1 << 22));
    for (let i = 0; i < 200; i++) await s.run(program);
    expect(nativeBytesAllocated()).toBe(held);
    await backend.close();
    expect(nativeBytesAllocated()).toBe(before);
  });
});

/** A worker thread that loads the addon and runs a program again and again; posts `running`, then `done`. */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Session } = require(workerData.addon);
const session = new Session('baseline', [4096, 1 << 22, 4096, 0], 2);
const id = session.load(workerData.program);
(async () => {
  parentPort.postMessage('running');
  for (let i = 0; i < workerData.runs; i++) await session.run(id);
  const bytes = session.read(0, 0, 4);
  if (workerData.close) session.close();
  parentPort.postMessage(new Float32Array(bytes.buffer)[0]);
})();
`;
const startWorker = (workerData: Record<string, unknown>): Worker =>
  new Worker(WORKER, { eval: true, workerData: { addon: addonPath(), program: longProgram(5), ...workerData } });

describe.skipIf(missing)('worker threads', () => {
  it('run sessions at the same time', async () => {
    const workers = Array.from({ length: 4 }, (_, i) => startWorker({ runs: 10, close: i % 2 === 0 }));
    const values = await Promise.all(
      workers.map(
        (w) =>
          new Promise((resolve, reject) => {
            w.on('message', (m) => typeof m === 'number' && resolve(m));
            w.on('error', reject);
            w.on('exit', (code) => code !== 0 && reject(new Error(`exit ${code}`)));
          }),
      ),
    );
    expect(values).toEqual([7, 7, 7, 7]);
    await Promise.all(workers.map((w) => w.terminate()));
  });

  it('may be terminated in the middle of a run', async () => {
    const before = nativeBytesAllocated();
    for (let i = 0; i < 6; i++) {
      const worker = startWorker({ program: longProgram(2000), runs: 1 });
      await once(worker, 'message');
      for (let k = 0; k < i; k++) await new Promise((resolve) => setImmediate(resolve));
      await worker.terminate();
    }
    expect(nativeBytesAllocated()).toBe(before);
  });

  it('keeps the process alive while a run is in progress, and not longer', async () => {
    const worker = startWorker({ runs: 3, close: false });
    const messages: unknown[] = [];
    worker.on('message', (message) => messages.push(message));
    const [code] = (await once(worker, 'exit')) as [number];
    // It came through its last run: one that ended with the event loop's other work would have said less.
    expect([code, messages]).toEqual([0, ['running', 7]]);
  });
});

describe.skipIf(missing)('the addon itself', () => {
  it('refuses arguments of the wrong kind', () => {
    const { Session, opaqueBytes } = createRequire(import.meta.url)(addonPath());
    expect(() => new Session('nothing', [0, 0, 0, 0], 1)).toThrow(/no instruction set nothing/);
    expect(() => new Session('plain', [0, 0, -1, 0], 1)).toThrow(/whole number/);
    expect(() => new Session('plain', [0, 0, 0, 0], 0)).toThrow(/threads/);
    const s = new Session('plain', [64, 64, 64, 64], 1);
    expect(() => s.load('text')).toThrow(/Uint8Array/);
    expect(() => s.load(new Float32Array(4))).toThrow(/Uint8Array/);
    expect(() => s.run(0)).toThrow(/not loaded/);
    expect(() => s.read(4, 0, 1)).toThrow(/segment/);
    expect(() => s.read(0, 60, 5)).toThrow(/outside/);
    expect(() => opaqueBytes('plain', 'fill_fwd', new Uint8Array(79), new Uint8Array(8), 0)).toThrow(
      /fill_fwd: too few tensors/,
    );
    s.close();
    expect(() => s.read(0, 0, 1)).toThrow(/closed/);
  });
});
