/**
 * The CUDA backend: the common suite on the host executor and, where there is one, on a card; what is its own; and, on the
 * host executor, every call of the runtime failing in turn.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/backend/addon.js';
import { openBackend } from '../../src/backend/choose.js';
import { loadCuda, openCuda, reportCuda } from '../../src/backend/cuda.js';
import type { Session } from '../../src/backend/types.js';
import { cudaAddonPath } from '../../src/paths.js';
import { backendSuite, failure, longProgram } from './suite.js';
import { encode, F32, fill, IO, SCRATCH, STATE, tensor } from './tiny-program.js';

const KINDS = ['cuda-host', 'cuda'] as const;
const BIG = { 'cuda-host': 1 << 16, cuda: 1 << 26 } as const;
const sizesOf = (scratch: number) => ({ state: 4096, scratch, io: 4096, store: 0 });
const one = (): Uint8Array =>
  encode({ calls: [fill(tensor(SCRATCH, F32, 0, 64), 1), fill(tensor(STATE, F32, 0, 4), 3, true)] });
const addonOf = (kind: (typeof KINDS)[number]) => {
  const addon = loadCuda(kind);
  if (typeof addon === 'string') throw new Error(addon);
  return addon;
};

for (const kind of KINDS) {
  const report = reportCuda(kind);
  if (!report.available) process.stderr.write(`skipped: ${kind}: ${report.reason}\n`);

  describe.skipIf(!report.available)(kind, () => {
    backendSuite(async (options) => openCuda(kind, 0, options), BIG[kind]);

    const host = loadAddon();
    it.skipIf(typeof host === 'string')(
      'has every kernel of the plain host table, with its tensors and attributes',
      () => {
        if (typeof host === 'string') return;
        const contract = (isa: string, tables: ReturnType<typeof host.describe>['tables']) =>
          tables.find((t) => t.isa === isa)?.kernels.map(({ name, tensors, attrs }) => ({ name, tensors, attrs }));
        const plain = contract('plain', host.describe().tables);
        expect(plain?.length).toBeGreaterThan(20);
        for (const { isa } of addonOf(kind).describe().tables)
          expect(contract(isa, addonOf(kind).describe().tables), isa).toEqual(plain);
      },
    );

    it('says which device it is, and refuses one that is not there, naming those that are', async () => {
      const { devices } = addonOf(kind).describe();
      const last = openCuda(kind, devices.length - 1);
      expect(last.info).toMatchObject({ name: kind, real: 'f32', isa: 'fp32' });
      expect(last.info.device).toContain(devices.at(-1)?.name);
      expect(last.info.fusions.size).toBe(4);
      await last.close();
      const error = await failure(() => openBackend(`${kind}:${devices.length}`));
      expect(error).toMatchObject({ code: 'device', details: { found: `${kind}:${devices.length}` } });
      expect(error.message).toContain(devices[0]?.name);
      expect(await failure(() => openCuda(kind, 0, { isa: 'fp8' }))).toMatchObject({ code: 'device' });
    });

    it('gives back what a session held, and holds no more while it runs', async () => {
      const addon = addonOf(kind);
      const before = addon.bytesAllocated();
      const backend = openCuda(kind, 0);
      const s = await backend.createSession(sizesOf(1 << 20));
      const program = s.load(one());
      const held = addon.bytesAllocated();
      expect(held).toBeGreaterThanOrEqual(before + (1 << 20));
      for (let i = 0; i < 100; i++) await s.run(program);
      expect(addon.bytesAllocated()).toBe(held);
      await backend.close();
      expect(addon.bytesAllocated()).toBe(before);
    });

    it('copies more than its staging memory holds, anywhere', async () => {
      const backend = openCuda(kind, 0);
      const s = await backend.createSession({ ...sizesOf(64), store: 9 << 20 });
      const bytes = new Uint8Array((9 << 20) - 3).map((_, i) => (i * 2654435761) >>> 13);
      s.write('store', 1, bytes);
      expect(Buffer.compare(s.read('store', 1, bytes.length), bytes)).toBe(0);
      expect([s.read('store', 0, 1)[0], s.read('store', (9 << 20) - 2, 2)]).toEqual([0, new Uint8Array(2)]);
      await backend.close();
    });

    it('runs in worker threads, which may be terminated in the middle of a run', async () => {
      const addon = addonOf(kind);
      const before = addon.bytesAllocated();
      for (let i = 0; i < 4; i++) {
        const worker = new Worker(WORKER, {
          eval: true,
          workerData: {
            addon: cudaAddonPath(kind === 'cuda-host'),
            program: longProgram(600, BIG[kind]),
            scratch: BIG[kind],
          },
        });
        await once(worker, 'message');
        for (let k = 0; k < i; k++) await new Promise((resolve) => setImmediate(resolve));
        await worker.terminate();
      }
      expect(addon.bytesAllocated()).toBe(before);
    });
  });
}

const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Session } = require(workerData.addon);
const session = new Session('fp32', [4096, workerData.scratch, 4096, 0], 0);
const id = session.load(workerData.program);
parentPort.postMessage('running');
session.run(id);
`;

describe('a device that is not there', () => {
  it('is said why, and auto takes another', async () => {
    const report = reportCuda('cuda');
    expect(report.reason).not.toBe('');
    if (report.available) return;
    expect(await failure(() => openBackend('cuda'))).toMatchObject({
      code: 'device',
      message: `cuda: ${report.reason}`,
    });
    const auto = await openBackend('auto', { threads: 1 });
    expect(auto.info.name).toBe(typeof loadAddon() === 'string' ? 'wasm' : 'cpu');
    expect(auto.info.why).toContain(`cuda: ${report.reason}`);
    await auto.close();
  });
});

/** Numbers of gpu::Result::Kind. */
const MEMORY = 1;
const REFUSED = 3;
const LOST = 4;

describe.skipIf(!reportCuda('cuda-host').available)('a runtime whose calls fail', () => {
  afterEach(() => void addonOf('cuda-host').failAt('', 0, 0));

  /** Opens a session with the plan in force; nothing may stay behind, and the next session works. */
  async function openFails(call: string, nth: number, kind: number) {
    const addon = addonOf('cuda-host');
    const backend = openCuda('cuda-host', 0);
    const before = addon.bytesAllocated();
    addon.failAt(call, nth, kind);
    const error = await failure(() => backend.createSession({ state: 64, scratch: 128, io: 64, store: 64 }));
    expect(addon.bytesAllocated()).toBe(before);
    addon.failAt('', 0, 0);
    const s = await backend.createSession(sizesOf(4096));
    expect(await s.run(s.load(one()))).toEqual({ committed: true });
    await backend.close();
    return error;
  }

  it.each([1, 2, 3, 4, 5])('memory refused at allocation %i', async (nth) => {
    const error = await openFails('take', nth, MEMORY);
    expect(error).toMatchObject({ code: 'memory', details: { neededBytes: 320 } });
    expect(error.message).toMatch(/take: a planned failure.*320 bytes.*needed.*free/);
    expect(error.details.freeBytes).toBeGreaterThan(0);
  });

  it.each([
    ['take_pinned', 1, MEMORY, 'memory'],
    ['take_pinned', 2, MEMORY, 'memory'],
    ['cards', 1, REFUSED, 'device'],
    ['use_device', 1, REFUSED, 'device'],
    ['take', 3, LOST, 'device'],
    ['make_queue', 1, REFUSED, 'device'],
  ] as const)('a session that %s (call %i) does not let begin', async (call, nth, kind, code) => {
    expect(await openFails(call, nth, kind)).toMatchObject({ code, message: expect.stringContaining(call) });
  });

  async function withSession(use: (s: Session) => Promise<void>) {
    const backend = openCuda('cuda-host', 0);
    const before = addonOf('cuda-host').bytesAllocated();
    await use(await backend.createSession(sizesOf(4096)));
    await backend.close();
    expect(addonOf('cuda-host').bytesAllocated()).toBe(before);
  }

  it.each([
    ['copy_in', (s: Session) => s.write('io', 0, new Uint8Array(4))],
    ['copy_out', (s: Session) => s.read('io', 0, 4)],
    ['record', (s: Session) => s.load(one())],
    ['use_device', (s: Session) => s.load(one())],
  ] as const)('%s refused once: typed, and the session goes on', async (call, work) => {
    await withSession(async (s) => {
      addonOf('cuda-host').failAt(call, 1, REFUSED);
      const error = await failure(() => work(s));
      expect(error).toMatchObject({ code: 'device', message: expect.stringContaining(call) });
      work(s);
      expect(await s.run(s.load(one()))).toEqual({ committed: true });
    });
  });

  it('memory refused while a program is recorded', async () => {
    await withSession(async (s) => {
      addonOf('cuda-host').failAt('record', 1, MEMORY);
      expect(await failure(() => s.load(one()))).toMatchObject({ code: 'memory' });
      expect(await s.run(s.load(one()))).toEqual({ committed: true });
    });
  });

  it.each([
    ['run', 1],
    ['wait', 1],
    ['use_device', 1],
    ['last_error', 1],
  ] as const)('the device lost in a run, at %s: the session is over, the process goes on', async (call, nth) => {
    await withSession(async (s) => {
      const program = s.load(one());
      await s.run(program);
      addonOf('cuda-host').failAt(call, nth, LOST);
      const error = await failure(() => s.run(program));
      expect(error).toMatchObject({ code: 'device', message: expect.stringContaining(`${call}: a planned failure`) });
      for (const work of [
        () => s.run(program),
        () => s.load(one()),
        () => s.write('io', 0, new Uint8Array(4)),
        () => s.read('io', 0, 4),
      ]) {
        expect(await failure(work)).toMatchObject({ code: 'device' });
      }
      const cpu = await openBackend('auto', { threads: 1 });
      await cpu.close();
    });
    // A lost device stays lost; the host executor's comes back, which a card's does only with another process.
    expect(await failure(() => openCuda('cuda-host', 0))).toMatchObject({ code: 'device' });
    addonOf('cuda-host').failAt('', 0, 0);
    await withSession(async (s) => {
      expect(await s.run(s.load(one()))).toEqual({ committed: true });
      expect(s.read('io', 0, 4)).toEqual(new Uint8Array(4));
    });
  });

  it('a launch that fails is named by instruction and kernel', async () => {
    await withSession(async (s) => {
      const program = s.load(encode({ calls: [fill(tensor(IO, F32, 0, 4), 1), fill(tensor(IO, F32, 0, 4), 2)] }));
      addonOf('cuda-host').failAt('last_error', 2, REFUSED);
      expect(await failure(() => s.run(program))).toMatchObject({
        message: expect.stringMatching(/instruction 1 \(fill_fwd\)/),
      });
    });
  });
});
