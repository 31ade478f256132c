/**
 * 1, 2 and 3 threads give the same bits: every case of every operation, and losses, gradients, parameters, moments and
 * running statistics of two steps, on every fp32 device present. (The float64 reference has no threads.)
 */
import { describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/types.js';
import { OPS } from '../cases/index.js';
import { lackOf, openDevice, openDevices } from './devices.js';
import { readGolden } from './fixtures.js';
import { randomInputs } from './random.js';
import { randomData } from './random-step.js';
import { runCase } from './run-case.js';
import { stepData, StepRun, type StepConfig, type StepData, type StepMeta } from './steprun.js';

/** Large enough that every kernel has several tasks a thread, and chunks that end anywhere. */
const LARGE: StepConfig = {
  task: 'pretrain',
  model: { dims: 3, inChannels: 2, filters: 12, levels: 2, decoderBlocks: 1 },
  loss: { temperature: 0.1, threshold: 0.4, weights: { global: 1, dense: 0.5, er: 1 } },
  optimizer: { name: 'sgd', lr: 0.01, momentum: 0.9, weightDecay: 1e-5 },
};
const FINE: StepConfig = {
  task: 'finetune',
  model: { dims: 3, inChannels: 1, filters: 12, levels: 2, decoderBlocks: 1, classes: 3 },
  loss: { name: 'ce+dice' },
  optimizer: { name: 'adam', lr: 5e-4 },
};

const CASES: readonly { title: string; data: () => StepData }[] = [
  { title: 'pre-training in 2-D', data: () => stepData(readGolden<StepMeta>('step-pretrain-2d')) },
  { title: 'pre-training in 3-D', data: () => randomData(LARGE, 3, [8, 24, 32]) },
  { title: 'fine-tuning', data: () => randomData(FINE, 2, [12, 20, 36]) },
];
const devices = await openDevices();
for (const d of devices) await d.backend?.close();

type Bits = ReadonlyMap<string, Float64Array>;

async function withThreads<T>(label: string, threads: number, use: (backend: Backend) => Promise<T>): Promise<T> {
  const { backend, reason } = await openDevice(label, threads);
  if (!backend) throw new Error(reason);
  try {
    expect(backend.info.threads).toBe(threads);
    return await use(backend);
  } finally {
    await backend.close();
  }
}

async function bits(backend: Backend, data: StepData): Promise<Bits> {
  const run = await StepRun.create(backend, data);
  try {
    for (let k = 0; k < 2; k++) await run.step();
    const moments = run.state.entries.filter((e) => e.role === 'moment' || e.role === 'counter');
    return new Map([...run.outputs(), ...moments.map((e): [string, Float64Array] => [e.name, run.readEntry(e)])]);
  } finally {
    await run.close();
  }
}

function same(found: Bits, want: Bits, title: string): void {
  expect([...found.keys()], title).toEqual([...want.keys()]);
  for (const [name, values] of want) {
    const other = found.get(name) as Float64Array;
    const differs = values.findIndex((v, i) => !Object.is(v, other[i]));
    expect(differs, `${title} ${name}: first difference`).toBe(-1);
  }
}

describe.each(devices.filter((d) => d.label !== 'reference' && !d.slow))('$label', (device) => {
  for (const list of OPS) {
    const on = device.backend && !lackOf(device, list) ? test : test.skip;
    on(`${list.op}: the same bits with 1, 2 and 3 threads`, async () => {
      const inputs = list.cases.map((c) => randomInputs(3, list, c));
      const all = (threads: number) =>
        withThreads(device.label, threads, async (backend) => {
          const found: Bits[] = [];
          for (const [i, c] of list.cases.entries()) {
            const run = await runCase(backend, list, c, inputs[i]!, { dloss: 1 }, backend.info.fusions);
            found.push(run.values);
          }
          return found;
        });
      const one = await all(1);
      for (const threads of [2, 3]) {
        const more = await all(threads);
        list.cases.forEach((c, i) => same(more[i] as Bits, one[i] as Bits, `${c.name} with ${threads} threads`));
      }
    });
  }
  const run = device.backend ? test : test.skip;
  for (const { title, data } of CASES) {
    run(`${title}: the same bits with 1, 2 and 3 threads`, async () => {
      const one = await withThreads(device.label, 1, (backend) => bits(backend, data()));
      expect(one.size).toBeGreaterThan(10);
      for (const threads of [2, 3]) {
        const more = await withThreads(device.label, threads, (backend) => bits(backend, data()));
        same(more, one, `${threads} threads`);
      }
    });
  }
});
