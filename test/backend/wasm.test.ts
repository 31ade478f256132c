/** The WebAssembly backend: the common suite, the reference in WebAssembly, and lost workers. */
import { existsSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import type { Session } from '../../src/backend/types.js';
import { instantiate } from '../../src/backend/wasm-exports.js';
import { openWasm, openWasmReference, reportWasm } from '../../src/backend/wasm.js';
import type { WasmPlatform, WorkerStart } from '../../src/backend/wasm-platform.js';
import { nodePlatform } from '../../src/backend/wasm-platform-node.js';
import { wasmPath } from '../../src/paths.js';
import { backendSuite, failure, longProgram } from './suite.js';
import { encode } from './tiny-program.js';

const missing = !existsSync(wasmPath('simd'));
const SIZES = { state: 4096, scratch: 1 << 22, io: 4096, store: 0 };
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe.skipIf(missing)('wasm, simd128', () => {
  backendSuite((options) => openWasm(nodePlatform, { isa: 'simd128', ...options }));
});

describe.skipIf(missing)('reference in WebAssembly', () => {
  backendSuite((options) => openWasmReference(nodePlatform, options));
});

/** A platform that remembers what it started. */
function watched(): { platform: WasmPlatform; starts: WorkerStart[] } {
  const starts: WorkerStart[] = [];
  const platform: WasmPlatform = {
    ...nodePlatform,
    startWorker(start, events) {
      starts.push(start);
      return nodePlatform.startWorker(start, events);
    },
  };
  return { platform, starts };
}

/** The real worker threads that are made meanwhile: terminating one is no doing of the backend's. */
async function workersMadeBy<T>(make: () => Promise<T>): Promise<{ value: T; workers: Worker[] }> {
  const workers: Worker[] = [];
  const see = (worker: Worker) => void workers.push(worker);
  process.on('worker', see);
  try {
    return { value: await make(), workers };
  } finally {
    process.off('worker', see);
  }
}

async function expectOver(session: Session): Promise<void> {
  const program = { id: 0 };
  for (const call of [() => session.run(program), () => session.read('io', 0, 4), () => session.load(longProgram(1))]) {
    expect(await failure(call)).toMatchObject({
      code: 'state',
      message: expect.stringMatching(/session is over.*lost/),
    });
  }
  await session.close();
  expect(await failure(() => session.read('io', 0, 4))).toMatchObject({ code: 'state' });
}

describe.skipIf(missing)('lost workers', { timeout: 30_000 }, () => {
  it.each([0, 1, 2])(
    'a run is rejected when worker %i of 3 is terminated in its middle, and nothing hangs',
    async (which) => {
      const backend = await openWasm(nodePlatform, { threads: 3 });
      const { value: session, workers } = await workersMadeBy(() => backend.createSession(SIZES));
      expect(workers.length).toBe(3);
      const run = failure(() => session.run(session.load(longProgram(5000))));
      await turn();
      await workers[which]?.terminate();
      expect(await run).toMatchObject({
        code: 'state',
        message: expect.stringMatching(new RegExp(`worker ${which} was lost: it ended with code 1`)),
      });
      await expectOver(session);
      const other = await backend.createSession(SIZES);
      expect(await other.run(other.load(longProgram(2)))).toEqual({ committed: true });
      await backend.close();
    },
  );

  it('a worker that is lost between runs ends the session too', async () => {
    const backend = await openWasm(nodePlatform, { threads: 2 });
    const { value: session, workers } = await workersMadeBy(() => backend.createSession(SIZES));
    await session.run(session.load(longProgram(1)));
    await workers[1]?.terminate();
    await turn();
    await expectOver(session);
    await backend.close();
  });

  it('a run is rejected when a worker traps', async () => {
    const { platform, starts } = watched();
    const backend = await openWasm(platform, { threads: 2 });
    const session = await backend.createSession(SIZES);
    const bytes = longProgram(2000);
    const program = session.load(bytes);
    const run = failure(() => session.run(program));
    await turn();
    // The program lies behind the segments (wasm-session.ts): the kernels of its instructions now point nowhere.
    const { memory, session: address, module } = starts[0] as WorkerStart;
    const align = (bytes: number) => Math.ceil(bytes / 64) * 64;
    const exports = instantiate(module, memory);
    const problem = align(address + exports.macl_session_bytes()) + SIZES.state + SIZES.scratch + SIZES.io;
    const arena = align(align(problem + exports.macl_problem_bytes()) + bytes.length);
    new Uint8Array(memory.buffer, arena + 64, 100_000).fill(255);
    expect(await run).toMatchObject({
      code: 'state',
      message: expect.stringMatching(/worker \d was lost: RuntimeError/),
    });
    await expectOver(session);
    await backend.close();
  });

  it('a session whose worker cannot start is refused', async () => {
    const { platform } = watched();
    const backend = await openWasm(
      { ...platform, startWorker: (start, events) => platform.startWorker({ ...start, session: -64 }, events) },
      { threads: 2 },
    );
    const error = await failure(async () => {
      const session = await backend.createSession(SIZES);
      await session.run(session.load(longProgram(2)));
    });
    expect(error).toMatchObject({ code: 'state', message: expect.stringMatching(/lost/) });
    await backend.close();
  });
});

describe.skipIf(missing)('instruction sets', () => {
  it('plain runs, and one that there is not is refused', async () => {
    const backend = await openWasm(nodePlatform, { isa: 'plain', threads: 1 });
    const session = await backend.createSession(SIZES);
    await session.run(session.load(longProgram(1)));
    expect(session.read('state', 0, 4)).toEqual(new Uint8Array(new Float32Array([7]).buffer));
    await backend.close();
    expect(await failure(() => openWasm(nodePlatform, { isa: 'avx2' }))).toMatchObject({ code: 'device' });
  });
});

describe.skipIf(missing)('memory', () => {
  it('of a session may not pass 4 GiB', async () => {
    const backend = await openWasm(nodePlatform, { threads: 1 });
    const error = await failure(() => backend.createSession({ ...SIZES, store: 2 ** 32 }));
    expect(error.code).toBe('memory');
    expect(error.details.freeBytes).toBeLessThan(2 ** 32);
    await backend.close();
  });

  it('of a session may pass 2 GiB', async (context) => {
    const backend = await openWasm(nodePlatform, { threads: 1 });
    const store = 2.5 * 2 ** 30;
    if (backend.info.maxBytes < store + 2 ** 26) context.skip(`only ${backend.info.maxBytes} bytes are free`);
    const session = await backend.createSession({ ...SIZES, store });
    session.write('store', store - 4, new Uint8Array([1, 2, 3, 4]));
    await session.run(session.load(encode({ calls: [] }))); // programs lie above 2 GiB
    await session.run(session.load(longProgram(1)));
    expect([...session.read('store', store - 5, 5)]).toEqual([0, 1, 2, 3, 4]);
    await backend.close();
  });
});

describe.skipIf(missing)('memory of closed sessions', () => {
  it('is given back', async (context) => {
    const backend = await openWasm(nodePlatform, { threads: 1 });
    const store = 2 ** 29;
    if (backend.info.maxBytes < 2 * store) context.skip(`only ${backend.info.maxBytes} bytes are free`);
    const part = new Uint8Array(1 << 24).fill(1);
    const start = process.memoryUsage.rss();
    const held = (): number => (process.memoryUsage.rss() - start) / store;
    for (let n = 0; n < 3; n++) {
      const session = await backend.createSession({ ...SIZES, store });
      for (let at = 0; at < store; at += part.length) session.write('store', at, part);
      expect(held()).toBeGreaterThan(0.8);
      await session.close();
      // The engine unmaps in its own time; three sessions that it kept would be 1.5 GiB.
      await expect.poll(held, { timeout: 20_000 }).toBeLessThan(0.3);
    }
    await backend.close();
  });

  it('and address space that the engine does not get are known as such', async () => {
    const { Memory } = WebAssembly;
    const refusing = class {
      constructor() {
        throw new RangeError('WebAssembly.Memory(): could not allocate memory');
      }
    };
    WebAssembly.Memory = refusing as unknown as typeof Memory;
    try {
      const error = await failure(() => openWasm(nodePlatform, { threads: 1 }));
      expect(error.code).toBe('memory');
      expect(error.details.neededBytes).toBeGreaterThan(2 ** 32);
      expect(error.message).toMatch(/address space.*needed.*free/);
    } finally {
      WebAssembly.Memory = Memory;
    }
  });
});

it('reports why it is not there when its module is not', async () => {
  const { moduleBytes } = nodePlatform;
  const gone: WasmPlatform = { ...nodePlatform, moduleBytes: async () => moduleBytes('none' as 'simd') };
  expect(await reportWasm(gone)).toMatchObject({
    available: false,
    isas: [],
    reason: expect.stringContaining('macl-none'),
  });
  expect(await failure(() => openWasm(gone))).toMatchObject({ code: 'device' });
});
