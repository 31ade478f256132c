/**
 * 1, 2 and 3 threads give the same bits: losses, gradients, parameters, moments and running statistics of two steps,
 * on every fp32 device present. (The float64 reference has no threads.)
 */
import { describe, expect, test } from 'vitest';
import { openDevice, openDevices } from './devices.js';
import { readGolden } from './fixtures.js';
import { randomData } from './random-step.js';
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

async function bits(label: string, threads: number, data: StepData): Promise<Map<string, Float64Array>> {
  const { backend, reason } = await openDevice(label, threads);
  if (!backend) throw new Error(reason);
  try {
    const run = await StepRun.create(backend, data);
    try {
      for (let k = 0; k < 2; k++) await run.step();
      const moments = run.state.entries.filter((e) => e.role === 'moment' || e.role === 'counter');
      return new Map([...run.outputs(), ...moments.map((e): [string, Float64Array] => [e.name, run.readEntry(e)])]);
    } finally {
      await run.close();
    }
  } finally {
    await backend.close();
  }
}

describe.each(devices.filter((d) => d.label !== 'reference' && !d.slow))('$label', (device) => {
  const run = device.backend ? test : test.skip;
  for (const { title, data } of CASES) {
    run(`${title}: the same bits with 1, 2 and 3 threads`, async () => {
      const one = await bits(device.label, 1, data());
      expect(one.size).toBeGreaterThan(10);
      for (const threads of [2, 3]) {
        const more = await bits(device.label, threads, data());
        for (const [name, want] of one) {
          const found = more.get(name) as Float64Array;
          const differs = want.findIndex((v, i) => !Object.is(v, found[i]));
          expect(differs, `${name}: first difference with ${threads} threads`).toBe(-1);
        }
      }
    });
  }
});
